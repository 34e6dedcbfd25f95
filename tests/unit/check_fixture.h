/* SPDX-License-Identifier: Apache-2.0 */
/* A volume and where it lies, for tests of what a check and a scrub find there. */
#ifndef TESTS_UNIT_CHECK_FIXTURE_H
#define TESTS_UNIT_CHECK_FIXTURE_H

#include "tests/unit/store_fixture.h"

#include "storage/store/segments.h"

#define PART_BYTES (4 * MIB)
#define VOLUME_BYTES (24 * MIB) /* two leaves of its map */

static inline int check_setup(void **state)
{
	int res = fixture_setup(state);
	struct fixture *f = *state;
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	f->options.scrub_period_ns = SCRUB_NEVER;
	f->options.directory_cache_bytes = 1; /* the last one that was read */
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	return res;
}

static inline void fill(uint8_t *data, uint64_t at, uint64_t bytes)
{
	uint64_t seed = at + 1;
	test_random_fill(&seed, data, bytes);
}

/* A part of "a" goes to segments of its own, the last of which is open. */
static inline void write_open(struct fixture *f, uint64_t at, uint64_t bytes)
{
	struct store_work fold;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes);
	struct view *view = open_view(f, "a");
	fill(data, at, bytes);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, at, bytes, data, 0), 0);
	store_view_close(view);
	free(data);
	assert_int_equal(WORK(f, &fold, store_fold, NULL), 0);
}

/* And all of them are sealed and in the index's file. */
static inline void write_part(struct fixture *f, uint64_t at, uint64_t bytes)
{
	write_open(f, at, bytes);
	fixture_close(f);
	fixture_open(f);
}

static inline int read_part(struct fixture *f, uint64_t at, uint64_t bytes)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes), *got = aligned_alloc(BLOCK_BYTES, bytes);
	struct view *view = open_view(f, "a");
	fill(data, at, bytes);
	int res = do_request(f, view, REQUEST_READ, at, bytes, got, 0);
	if (res == 0)
		assert_memory_equal(data, got, bytes);
	store_view_close(view);
	free(data);
	free(got);
	return res;
}

/* Of the sealed ones with a part, the nth. */
static inline struct segment *large_segment(struct fixture *f, unsigned nth)
{
	for (uint32_t slot = 1; slot < segments_slot_count(f->store); slot++) {
		struct segment *segment = segment_of(f->store, slot);
		if (segment && segment->state == SEGMENT_SEALED && segment->bytes >= PART_BYTES &&
		    nth-- == 0)
			return segment;
	}
	fail_msg("no such segment");
	return NULL;
}

static inline const struct directory *records_of(struct fixture *f, struct segment *segment)
{
	while (segments_directory(segment, NULL) == WAITING)
		(void)env_step(f->env, true);
	assert_non_null(segment_records(segment));
	return segment_records(segment);
}

static inline void flip_in_segment(struct fixture *f, uint64_t segment_id, int64_t at)
{
	char path[40], name[32];
	segment_file_name(segment_id, name);
	snprintf(path, sizeof path, "seg/%s", name);
	flip(f, path, at);
}

static char last_line[SENTENCE_BYTES];

static inline void keep_line(struct store_work *work, const char *line)
{
	(void)work;
	snprintf(last_line, sizeof last_line, "%s", line);
}

#define CHECK(f, call, ...)                                                                        \
	({                                                                                         \
		struct store_work check = {.report = keep_line};                                   \
		last_line[0] = 0;                                                                  \
		env_wait_prepare(&check.op);                                                       \
		call((f)->store, &check, ##__VA_ARGS__);                                           \
		assert_int_equal((int)env_wait((f)->env, &check.op), 0);                           \
		check;                                                                             \
	})

/* ---- an env, some calls of which are looked at: a copy of the real one's ---- */

static struct env_ops counting;
static const struct env_ops *real;

static inline struct env_ops *env_look(struct fixture *f)
{
	real = f->env->ops;
	counting = *real;
	f->env->ops = &counting;
	return &counting;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, check_setup, fixture_teardown)

#endif
