/* SPDX-License-Identifier: Apache-2.0 */
/* When collections begin by themselves, and what stops none of them. */
#include "tests/unit/mixed_store.h"

#include "storage/store/behind.h"
#include "storage/store/pace.h"
#include "storage/store/segments_int.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#define CAPACITY_BYTES (2048 * MIB) /* whatever the disk has: space is not low */

/* ---- by growth ---- */

static const struct env_ops *real;

static uint64_t much_later(struct env *env)
{
	return real->now_ns(env) + 3600 * NSEC_PER_SEC;
}

/* The store has grown by much since the last collection, and that is an hour ago. */
static bool begins_when_grown(struct fixture *f, uint64_t interval_ns)
{
	fixture_close(f);
	f->options.gc_interval_ns = interval_ns;
	f->options.scrub_period_ns = SCRUB_NEVER;
	f->options.capacity_bytes = CAPACITY_BYTES;
	fixture_open(f);
	assert_true(work_idle(f->store));
	real = f->env->ops;
	struct env_ops ops = *real;
	ops.now_ns = much_later;
	f->store->segment_bytes += 9 * SEGMENT_BYTES;
	f->env->ops = &ops;
	gc_tick(f->store);
	f->env->ops = real;
	f->store->segment_bytes -= 9 * SEGMENT_BYTES;
	return !work_idle(f->store);
}

static void growth_begins_one_unless_it_is_never_to_be(void **state)
{
	struct fixture *f = *state;
	assert_true(begins_when_grown(f, 365 * 24 * 3600 * NSEC_PER_SEC));
	assert_false(begins_when_grown(f, GC_NEVER));
}

static void zero_all(struct fixture *f, const char *name)
{
	struct view *view = open_view(f, name);
	assert_int_equal(do_request(f, view, REQUEST_ZERO, 0, SHARE_BYTES, NULL, 0), 0);
	store_view_close(view);
}

/* ---- what is worth it ---- */

/* One segment is all dead, a sixth of another one: that much is worth it while there is hardly any
 * room. When the first one has gone there is some again. */
static void what_is_poor_is_let_be_when_there_is_room_again(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	assert_int_equal(make_volume(f, "a", 128 * MIB), 0);
	struct view *view = open_view(f, "a");
	for (uint64_t at = 0; at < 124 * MIB; at += MIB) {
		test_random_fill(&f->seed, data, MIB);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, MIB, data, 0), 0);
	}
	free(data);
	assert_int_equal(do_request(f, view, REQUEST_TRIM, 0, 72 * MIB, NULL, 0), 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f); /* what is open is sealed */
	fixture_open(f);
	struct store_counters *counters = &f->store->counters;
	while (f->store->gc || !segments_idle(f->store) || !f->store->segment_set->spare)
		(void)env_step(f->env, true);
	uint64_t *capacity = &f->store->options.capacity_bytes, others = 12 * SEGMENT_BYTES;
	f->store->segment_bytes += others; /* a large store, but for this */
	*capacity = f->store->segment_bytes;
	store_poll_space(f->store);
	gc_want(f->store);
	while (counters->collections == 0 || f->store->gc)
		(void)env_step(f->env, true);
	assert_true(counters->segments_dropped > 0);
	assert_int_equal(counters->moved_bytes, 0);
	assert_int_equal(WORK(f, &work, store_gc), 0); /* a person has asked, and it is still low */
	assert_true(counters->moved_bytes > 40 * MIB);
	f->store->segment_bytes -= others;
}

/* ---- and the scrub ---- */

static void overwrite(struct fixture *f, struct view *view)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	for (uint64_t at = 0; at < 68 * MIB; at += MIB) {
		test_random_fill(&f->seed, data, MIB);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, MIB, data, 0), 0);
	}
	free(data);
}

static void scrub_ticks(struct fixture *f)
{
	for (unsigned i = 0; i < 3; i++) {
		scrub_tick(f->store);
		while (!work_idle(f->store))
			(void)env_step(f->env, true);
		(void)env_step(f->env, false); /* and the end of it is told */
	}
}

/* What it has verified is collected: it does not begin with what came instead. */
static void the_scrub_is_no_faster_where_much_is_collected(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	const struct store_counters *counters = &f->store->counters;
	assert_int_equal(make_volume(f, "a", 68 * MIB), 0);
	struct view *view = open_view(f, "a");
	overwrite(f, view);
	while (counters->scrubbed_records == 0)
		(void)env_step(f->env, true);
	uint64_t scrubbed = counters->scrubbed_records;
	overwrite(f, view);
	while (counters->segments_sealed < 2)
		(void)env_step(f->env, true);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_true(counters->segments_dropped > 0);
	scrub_ticks(f);
	assert_int_equal(counters->scrubbed_records, scrubbed);
	store_view_close(view);
}

/* ---- beside guests ---- */

static struct env_timer *rest;
static const struct store *rests; /* whose */
static uint64_t stopped_ns;

static uint64_t clock_stopped(struct env *env)
{
	(void)env;
	return stopped_ns;
}

/* The first short timer after the first copies is a rest, and ends when the test says so. */
static void timer_or_rest(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	if (!rest && rests->counters.moved_bytes && delay_ns <= PACE_WAIT_NS)
		rest = timer;
	else
		real->timer_start(env, timer, delay_ns);
}

static void copies_rest_while_guests_are_served(void **state)
{
	struct fixture *f = *state;
	struct store_work work = {0};
	uint8_t *data = make_mixed(f), block[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));
	zero_all(f, "gone");
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f); /* what is open is sealed */
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	real = f->env->ops;
	struct env_ops ops = *real;
	ops.timer_start = timer_or_rest;
	ops.now_ns = clock_stopped;
	stopped_ns = env_now_ns(f->env);
	rest = NULL;
	rests = f->store;
	struct view *view = open_view(f, "keep");
	f->env->ops = &ops;
	work = (struct store_work){0};
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	for (unsigned after = 0; after < 100; after += rest != NULL)
		assert_int_equal(do_request(f, view, REQUEST_READ, 0, BLOCK_BYTES, block, 0), 0);
	uint64_t moved_bytes = f->store->counters.moved_bytes;
	f->env->ops = real;
	rest->fire(rest);
	assert_int_equal((int)env_wait(f->env, &work.op), 0);
	assert_true(moved_bytes <= 8 * (CHUNK_BYTES + 4096));
	assert_true(f->store->counters.moved_bytes > SHARE_BYTES / 2);
	store_view_close(view);
	read_back(f, data);
	free(data);
}

/* ---- what it cannot read ---- */

/* The name of the largest segment's file, in the store's folder. */
static void largest_segment(struct fixture *f, char name[64])
{
	char path[400];
	off_t most = 0;
	snprintf(path, sizeof path, "%s/seg", f->path);
	DIR *dir = opendir(path);
	for (struct dirent *entry; (entry = readdir(dir));) {
		struct stat st;
		snprintf(path, sizeof path, "%s/seg/%s", f->path, entry->d_name);
		if (entry->d_name[0] == '.' || stat(path, &st) < 0 || st.st_size <= most)
			continue;
		most = st.st_size;
		snprintf(name, 64, "seg/%.40s", entry->d_name);
	}
	closedir(dir);
	assert_true(most > (off_t)SHARE_BYTES);
}

static unsigned told;

static void count_told(struct store_work *work, const char *line)
{
	(void)work;
	told += strstr(line, "cannot be read") && strstr(line, "kept as it is");
}

static void a_segment_whose_directory_is_rotten_is_kept_and_stops_nothing(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct store_counters counters;
	struct store_info info;
	char name[64], path[400];
	struct stat st;
	uint8_t *data = make_mixed(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	largest_segment(f, name);
	flip(f, name, -100);
	f->options.scrub_period_ns = SCRUB_NEVER;
	fixture_open(f);
	zero_all(f, "gone");
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	work = (struct store_work){.report = count_told};
	told = 0;
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	assert_int_equal(env_wait(f->env, &work.op), 0);
	store_counters(f->store, &counters);
	store_info(f->store, &info);
	assert_int_equal(told, 1);
	assert_int_equal(work.damaged, 1);
	assert_int_equal(counters.collections_failed, 0);
	assert_string_equal(info.gc_failed, "");
	assert_true(counters.segments_dropped > 0); /* the other ones */
	snprintf(path, sizeof path, "%s/%s", f->path, name);
	assert_int_equal(stat(path, &st), 0);
	/* Its records are whole: the next opening finds them one by one. */
	fixture_close(f);
	fixture_open(f);
	read_back(f, data);
	nothing_is_damaged(f);
	free(data);
}

/* ---- what is held ---- */

static void one_held_snapshot_stops_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *old = make_mixed(f), *got = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	uint8_t *new = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	test_random_fill(&f->seed, new, SHARE_BYTES);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	assert_int_equal(snap(f, "keep@s"), 0);
	assert_int_equal(DO(f, store_snap_hold, "keep@s", "held"), 0);
	struct view *view = open_view(f, "keep");
	for (uint64_t at = 0; at < SHARE_BYTES; at += MIB)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, MIB, new + at, 0), 0);
	store_view_close(view);
	zero_all(f, "gone"); /* half of the segments that the snapshot is in */
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f); /* what is open is sealed */
	fixture_open(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_true(work.freed_bytes > SHARE_BYTES / 2);
	read_back(f, new);
	view = open_view(f, "keep@s");
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, SHARE_BYTES, got, 0), 0);
	assert_memory_equal(got, old, SHARE_BYTES);
	store_view_close(view);
	free(old);
	free(new);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(growth_begins_one_unless_it_is_never_to_be,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(what_is_poor_is_let_be_when_there_is_room_again,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(the_scrub_is_no_faster_where_much_is_collected,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(copies_rest_while_guests_are_served, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(
			a_segment_whose_directory_is_rotten_is_kept_and_stops_nothing,
			fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(one_held_snapshot_stops_nothing_else, fixture_setup,
						fixture_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
