/* SPDX-License-Identifier: Apache-2.0 */
/* What a check finds while the store is open, what it costs meanwhile, and what becomes of it. */
#include "tests/unit/store_fixture.h"

#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/sweep.h"

#include <fcntl.h>

#define PART_BYTES (4 * MIB)
#define VOLUME_BYTES (24 * MIB) /* two leaves of its map */

/* ---- an env that counts the files which are opened ---- */

static struct env_ops counting;
static const struct env_ops *real;
static struct env_file *segment_files[64];
static unsigned segment_files_open, segment_files_most, segment_files_left, buffered_files;
static bool looking; /* at what no read needs: before the index is compared */

static int counted_open(struct env_dir *dir, const char *name, unsigned flags,
			struct env_file **ret_file)
{
	int res = real->file_open(dir, name, flags, ret_file);
	buffered_files += res == 0 && !(flags & ENV_DIRECT);
	if (looking && strncmp(name, "index.", 6) == 0) {
		looking = false;
		segment_files_left = segment_files_open;
	}
	if (res < 0 || flags & ENV_CREATE || strlen(name) != 16)
		return res;
	for (unsigned i = 0; i < 64; i++)
		if (!segment_files[i]) {
			segment_files[i] = *ret_file;
			break;
		}
	segment_files_open++;
	if (looking)
		segment_files_most = (unsigned)max_u64(segment_files_most, segment_files_open);
	return res;
}

static void counted_close(struct env_file *file)
{
	for (unsigned i = 0; i < 64; i++)
		if (segment_files[i] == file) {
			segment_files[i] = NULL;
			segment_files_open--;
		}
	real->file_close(file);
}

/* ---- and one that counts reads, large ones of which several may be under way ---- */

static struct counted_read {
	struct io_op *op;
	void (*done)(struct io_op *op);
} large[64];
static unsigned record_reads, large_reads, large_under_way, large_most;

static void large_done(struct io_op *op)
{
	for (unsigned i = 0; i < 64; i++)
		if (large[i].op == op) {
			large[i].op = NULL;
			large_under_way--;
			op->done = large[i].done;
			op->done(op);
			return;
		}
	fail_msg("a read that nobody began");
}

static void counted_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
			 uint64_t offset)
{
	record_reads += bytes > CHUNK_BYTES && bytes <= 2 * CHUNK_BYTES;
	if (bytes > 2 * CHUNK_BYTES) {
		unsigned i = 0;
		while (large[i].op)
			i++;
		large[i] = (struct counted_read){op, op->done};
		op->done = large_done;
		large_reads++;
		large_most = (unsigned)max_u64(large_most, ++large_under_way);
	}
	real->file_read(file, op, buf, bytes, offset);
}

static void count_reads(struct fixture *f)
{
	real = f->env->ops;
	counting = *real;
	counting.file_read = counted_read;
	record_reads = large_reads = large_most = 0;
	f->env->ops = &counting;
}

static void count_files(struct fixture *f)
{
	real = f->env->ops;
	counting = *real;
	counting.file_open = counted_open;
	counting.file_close = counted_close;
	memset(segment_files, 0, sizeof segment_files);
	segment_files_open = segment_files_most = buffered_files = 0;
	looking = true;
	f->env->ops = &counting;
}

/* ---- a volume, and where it lies ---- */

static int setup(void **state)
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

static void fill(uint8_t *data, uint64_t at, uint64_t bytes)
{
	uint64_t seed = at + 1;
	test_random_fill(&seed, data, bytes);
}

/* A part of "a" goes to segments of its own, the last of which is open. */
static void write_open(struct fixture *f, uint64_t at, uint64_t bytes)
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
static void write_part(struct fixture *f, uint64_t at, uint64_t bytes)
{
	write_open(f, at, bytes);
	fixture_close(f);
	fixture_open(f);
}

/* Goes on with what a kill would have left of an idle store. */
static void reopen_as_crashed(struct fixture *f)
{
	char command[300];
	snprintf(command, sizeof command, "cp -a %s %s.now", f->path, f->path);
	assert_int_equal(system(command), 0);
	fixture_close(f);
	snprintf(command, sizeof command, "rm -r %s && mv %s.now %s", f->path, f->path, f->path);
	assert_int_equal(system(command), 0);
	fixture_open(f);
}

static int read_part(struct fixture *f, uint64_t at, uint64_t bytes)
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
static struct segment *large_segment(struct fixture *f, unsigned nth)
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

static const struct directory *records_of(struct fixture *f, struct segment *segment)
{
	while (segments_directory(segment, NULL) == WAITING)
		(void)env_step(f->env, true);
	assert_non_null(segment_records(segment));
	return segment_records(segment);
}

static void flip_in_segment(struct fixture *f, uint64_t segment_id, int64_t at)
{
	char path[40], name[32];
	segment_file_name(segment_id, name);
	snprintf(path, sizeof path, "seg/%s", name);
	flip(f, path, at);
}

static char last_line[SENTENCE_BYTES];

static void keep_line(struct store_work *work, const char *line)
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

/* ---- the cases ---- */

/* Both of the index's files are written anew: neither lists what is damaged. */
static void index_is_mended(struct fixture *f, uint64_t generation)
{
	while (!index_write_idle(f->store))
		(void)env_step(f->env, true);
	assert_int_equal(f->store->index_generation, generation + 2);
}

static const int64_t footer_places[2] = {20, -4000}; /* of the trailer, and before it */

static void a_directory_that_rots_stays_in_memory_and_is_made_anew_at_the_next_opening(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, PART_BYTES);
	write_part(f, PART_BYTES, PART_BYTES);
	for (unsigned i = 0; i < 2; i++) {
		struct segment *segment = large_segment(f, i);
		(void)records_of(f, segment);
		uint64_t generation = f->store->index_generation;
		flip_in_segment(f, segment->id,
				(int64_t)segment->bytes - BLOCK_BYTES + footer_places[i]);
		assert_int_equal(CHECK(f, store_check).damaged, 1);
		assert_non_null(strstr(last_line, i ? "its directory is damaged; its records are "
						      "found without it"
						    : "its trailer is damaged; its records are "
						      "found without it"));
		index_is_mended(f, generation);
		(void)records_of(f, large_segment(f, !i)); /* room for that one alone */
		assert_int_equal(read_part(f, i * PART_BYTES, PART_BYTES), 0);
		fixture_close(f);
		fixture_open(f);
		assert_int_equal(read_part(f, i * PART_BYTES, PART_BYTES), 0);
		assert_int_equal(CHECK(f, store_check).damaged, 0);
	}
}

static void a_directory_that_cannot_be_read_is_made_anew_at_the_next_opening(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, PART_BYTES);
	struct segment *segment = large_segment(f, 0);
	uint64_t id = segment->id;
	int64_t bytes = (int64_t)segment->bytes;
	fixture_close(f);
	flip_in_segment(f, id, bytes - BLOCK_BYTES + 20);
	fixture_open(f);
	while (!index_loaded(f->store))
		(void)env_step(f->env, true);
	uint64_t generation = f->store->index_generation;
	assert_true(read_part(f, 0, PART_BYTES) < 0);
	index_is_mended(f, generation);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(read_part(f, 0, PART_BYTES), 0);
	assert_int_equal(CHECK(f, store_check).damaged, 0);
}

static void a_segment_whose_header_rots_is_found_by_the_index(void **state)
{
	struct fixture *f = *state;
	f->options.index_lag_segments = 100;
	write_open(f, 0, PART_BYTES);
	reopen_as_crashed(f); /* sealed, and listed by no file of the index */
	struct segment *segment = large_segment(f, 0);
	uint64_t generation = f->store->index_generation;
	assert_false(segment->indexed);
	flip_in_segment(f, segment->id, 20);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(CHECK(f, store_check).damaged, 1);
		assert_non_null(strstr(last_line, "its header is damaged; its records are found "
						  "while the index lists it"));
		if (i == 0) { /* not when the store is closed: who knows whether it will be */
			index_is_mended(f, generation);
			assert_true(segment->indexed);
		}
		assert_int_equal(read_part(f, 0, PART_BYTES), 0);
		fixture_close(f);
		fixture_open(f);
	}
}

/* No page cache between it and the disk, and one segment's file at a time. */
static void a_check_reads_the_disk_and_leaves_no_file_open(void **state)
{
	struct fixture *f = *state;
	for (uint64_t i = 0; i < 4; i++)
		write_part(f, i * MIB, MIB);
	count_files(f);
	assert_int_equal(CHECK(f, store_check).damaged, 0);
	assert_int_equal(buffered_files, 0);
	assert_false(looking);
	assert_int_equal(segment_files_most, 1);
	assert_int_equal(segment_files_left, 0);
}

/* Of what the scrub finds in one segment, records alone are looked for in the maps. */
static void a_header_that_rots_is_no_reason_to_walk_all_maps(void **state)
{
	struct fixture *f = *state;
	struct store_counters counters;
	write_part(f, 0, PART_BYTES);
	write_part(f, PART_BYTES, PART_BYTES);
	struct segment *other = large_segment(f, 1);
	struct dir_entry entry = records_of(f, other)->entries[3];
	while (!index_loaded(f->store))
		(void)env_step(f->env, true);
	uint64_t location = location_of(other->slot, entry.offset64);
	index_remove(f->store->index, &entry.id, location);
	struct segment *segment = large_segment(f, 0);
	flip_in_segment(f, segment->id, 20);
	struct store_work check = CHECK(f, check_segment, segment->slot);
	assert_true(check.chunks > 0);
	assert_int_equal(check.damaged, 1);
	assert_int_equal(check.damaged_files, 1);
	assert_int_equal(index_insert(f->store->index, &entry.id, location), 0);
	/* Nor is it a bad record. */
	fixture_close(f);
	f->options.scrub_period_ns = 1;
	fixture_open(f);
	do {
		(void)env_step(f->env, true);
		store_counters(f->store, &counters);
	} while (!strstr(scrub_found(f->store), "header") || counters.scrubbed_records == 0);
	assert_int_equal(counters.scrub_damaged, 0);
	/* A record that is bad is told with what it affects. */
	entry = records_of(f, large_segment(f, 1))->entries[3];
	flip_in_segment(f, large_segment(f, 1)->id, entry.offset64 * (int64_t)RECORD_ALIGN + 5000);
	check = CHECK(f, check_segment, large_segment(f, 1)->slot);
	assert_int_equal(check.damaged, 1);
	assert_int_equal(check.damaged_files, 0);
	assert_non_null(strstr(last_line, "a, bytes "));
}

/* The second leaf cannot be read, and chunks of the first are being read when that is met. */
static void a_map_node_that_cannot_be_read_is_told_once(void **state)
{
	struct fixture *f = *state;
	uint64_t id = 0;
	int64_t at = 0;
	write_part(f, 0, VOLUME_BYTES);
	struct segment *segment = large_segment(f, 0);
	const struct directory *records = records_of(f, segment);
	for (uint32_t i = 0, leaves = 0; i < records->entry_count && leaves < 2; i++)
		if (records->entries[i].type == RECORD_NODE) {
			id = segment->id;
			at = records->entries[i].offset64 * (int64_t)RECORD_ALIGN + 100;
			leaves++;
		}
	fixture_close(f);
	flip_in_segment(f, id, at);
	fixture_open(f);
	struct store_work verify = CHECK(f, store_verify, "a");
	assert_in_range(verify.chunks, 1, VOLUME_BYTES / CHUNK_BYTES - 1);
	assert_int_equal(verify.damaged, 1);
	assert_non_null(strstr(last_line, "a: a map node cannot be read"));
}

static void what_cannot_be_hashed_is_told_as_that(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, PART_BYTES);
	uint32_t domains = f->store->domain_count;
	f->store->domain_count = 0; /* there is no key */
	struct store_work verify = CHECK(f, store_verify, "a");
	assert_int_equal(verify.damaged, PART_BYTES / CHUNK_BYTES);
	assert_non_null(strstr(last_line, vs_strerror(-VS_EFORMAT)));
	f->store->domain_count = domains;
	assert_int_equal(CHECK(f, store_verify, "a").damaged, 0);
}

/* Chunks that do not shrink: a segment of PART_BYTES has about as many bytes of records. */
static void a_scrub_by_hand_reads_in_large_parts_and_decodes_nothing(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, PART_BYTES);
	const uint32_t chunks = 2 * PART_BYTES / CHUNK_BYTES;
	while (!index_loaded(f->store))
		(void)env_step(f->env, true);
	write_open(f, PART_BYTES, PART_BYTES);
	count_reads(f);
	assert_true(CHECK(f, store_scrub, false).chunks >= chunks);
	f->env->ops = real;
	assert_in_range(record_reads, 0, 4); /* the last part of a segment may be as small */
	assert_in_range(large_reads, 2 * PART_BYTES / SWEEP_PART_BYTES, chunks / 4);
	assert_in_range(large_most, 2, SWEEP_PARTS);
	count_reads(f);
	assert_true(CHECK(f, store_scrub, true).chunks >= chunks);
	f->env->ops = real;
	assert_true(record_reads >= chunks);
}

static void a_scrub_by_hand_makes_room_for_guests(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, 2 * PART_BYTES);
	f->store->requests++; /* one is under way all the time */
	count_reads(f);
	assert_int_equal(CHECK(f, store_scrub, false).damaged, 0);
	f->env->ops = real;
	f->store->requests--;
	assert_in_range(large_reads, 2 * PART_BYTES / SWEEP_PART_BYTES, UINT32_MAX);
	assert_int_equal(large_most, 1);
}

/* More than are judged side by side, many in one part; each is told with what it affects. */
static void a_scrub_by_hand_finds_every_record_that_rots(void **state)
{
	struct fixture *f = *state;
	write_part(f, 0, 2 * PART_BYTES);
	struct segment *segment = large_segment(f, 0);
	uint64_t id = segment->id;
	int64_t at[40];
	unsigned count = 0;
	const struct directory *records = records_of(f, segment);
	for (uint32_t i = 0; i < records->entry_count && count < 40; i++)
		if (records->entries[i].type == RECORD_CHUNK) /* header, hashes, frames in turn */
			at[count++] = records->entries[i].offset64 * (int64_t)RECORD_ALIGN +
				      (int64_t[]){9, 100, 20000}[i % 3];
	fixture_close(f);
	for (unsigned i = 0; i < count; i++)
		flip_in_segment(f, id, at[i]);
	fixture_open(f);
	assert_int_equal(count, 40);
	assert_int_equal(CHECK(f, store_scrub, false).damaged, count);
	assert_non_null(strstr(last_line, "a, bytes "));
	assert_int_equal(CHECK(f, store_scrub, true).damaged, count);
}

static char closed_name[32];
static int closed_error;

static int closed_open(struct env_dir *dir, const char *name, unsigned flags,
		       struct env_file **ret_file)
{
	return strcmp(name, closed_name) == 0 ? closed_error
					      : real->file_open(dir, name, flags, ret_file);
}

/* From now on its file cannot be opened; its directory is in memory. */
static void close_segment(struct fixture *f, struct segment *segment, int error)
{
	(void)records_of(f, segment);
	segment_file_name(segment->id, closed_name);
	closed_error = error;
	env_file_close(segment->file);
	segment->file = NULL;
	real = f->env->ops;
	counting = *real;
	counting.file_open = closed_open;
	f->env->ops = &counting;
}

/* The file and each of its records count, what they affect is named, and the other segment is
 * looked at as ever. */
static void a_scrub_goes_on_where_a_file_cannot_be_opened(void **state)
{
	static const int errors[] = {-EIO, -ENOENT};
	struct fixture *f = *state;
	f->options.directory_cache_bytes = MIB; /* all of them */
	write_part(f, 0, PART_BYTES);
	write_part(f, PART_BYTES, PART_BYTES);
	struct segment *segment = large_segment(f, 0);
	for (unsigned i = 0; i < 4; i++) {
		uint64_t all = CHECK(f, store_scrub, i / 2).chunks;
		close_segment(f, segment, errors[i % 2]);
		uint32_t records = segment_records(segment)->entry_count;
		struct store_work scrub = CHECK(f, store_scrub, i / 2);
		assert_true(records >= PART_BYTES / CHUNK_BYTES);
		assert_int_equal(scrub.damaged, records + 1);
		assert_int_equal(scrub.damaged_files, 1);
		assert_true(scrub.chunks >= all);
		assert_non_null(strstr(last_line, "a, bytes "));
		f->env->ops = real;
	}
	close_segment(f, segment, -EMFILE); /* that is not its fault */
	struct store_work scrub = {0};
	assert_int_equal(WORK(f, &scrub, store_scrub, false), -EMFILE);
	assert_int_equal(scrub.damaged, 0);
	f->env->ops = real;
}

/* What cannot be read is no target of deduplication: the same content is stored anew. */
static void content_of_a_file_that_cannot_be_opened_is_stored_anew(void **state)
{
	struct fixture *f = *state;
	f->options.directory_cache_bytes = MIB;
	write_part(f, 0, PART_BYTES);
	struct segment *segment = large_segment(f, 0);
	close_segment(f, segment, -ENOENT);
	assert_true(read_part(f, 0, PART_BYTES) < 0);
	assert_true(CHECK(f, store_scrub, false).damaged > 0);
	write_open(f, 0, PART_BYTES);
	assert_int_equal(read_part(f, 0, PART_BYTES), 0);
	f->env->ops = real;
}

/* A checksum may be right, and the content wrong all the same: that is for the scrub in the
 * background, which a pass by hand leaves where it is. */
static void a_scrub_by_hand_does_not_set_the_other_back(void **state)
{
	struct fixture *f = *state;
	struct store_life life, after;
	write_part(f, 0, PART_BYTES);
	scrub_life(f->store, &life);
	life.scrub_segment_id = 1;
	life.scrub_begun_ns = 1;
	life.scrub_before_ns = 0;
	scrub_life_set(f->store, &life);
	assert_int_equal(CHECK(f, store_scrub, false).damaged, 0);
	scrub_life(f->store, &after);
	assert_int_equal(after.scrub_segment_id, 1);
	assert_int_equal(after.scrub_begun_ns, 1);
	assert_true(after.scrub_before_ns > 0);
	life.scrub_before_ns = UINT64_MAX; /* nor is what is known made older */
	scrub_life_set(f->store, &life);
	scrub_pass_ended(f->store, 1, false);
	scrub_life(f->store, &after);
	assert_true(after.scrub_before_ns == UINT64_MAX);
	assert_int_equal(CHECK(f, store_scrub, true).damaged, 0);
	scrub_life(f->store, &after);
	assert_int_equal(after.scrub_segment_id, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_directory_that_rots_stays_in_memory_and_is_made_anew_at_the_next_opening),
		CASE(a_directory_that_cannot_be_read_is_made_anew_at_the_next_opening),
		CASE(a_segment_whose_header_rots_is_found_by_the_index),
		CASE(a_check_reads_the_disk_and_leaves_no_file_open),
		CASE(a_header_that_rots_is_no_reason_to_walk_all_maps),
		CASE(a_map_node_that_cannot_be_read_is_told_once),
		CASE(what_cannot_be_hashed_is_told_as_that),
		CASE(a_scrub_by_hand_reads_in_large_parts_and_decodes_nothing),
		CASE(a_scrub_by_hand_makes_room_for_guests),
		CASE(a_scrub_by_hand_finds_every_record_that_rots),
		CASE(a_scrub_goes_on_where_a_file_cannot_be_opened),
		CASE(content_of_a_file_that_cannot_be_opened_is_stored_anew),
		CASE(a_scrub_by_hand_does_not_set_the_other_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
