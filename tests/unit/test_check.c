/* SPDX-License-Identifier: Apache-2.0 */
/* What a check finds while the store is open, what it costs meanwhile, and what becomes of it. */
#include "tests/unit/check_fixture.h"

#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/verify.h"

/* ---- the files which are opened ---- */

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

static void count_files(struct fixture *f)
{
	struct env_ops *ops = env_look(f);
	ops->file_open = counted_open;
	ops->file_close = counted_close;
	memset(segment_files, 0, sizeof segment_files);
	segment_files_open = segment_files_most = buffered_files = 0;
	looking = true;
}

/* ---- reads of one segment's records that are held ---- */

static struct segment *held_segment; /* NULL: none are */
static struct held_read {
	struct env_file *file;
	struct io_op *op;
	void *buf;
	uint32_t bytes;
	uint64_t offset;
} held[64];
static unsigned held_count;

static void held_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
		      uint64_t offset)
{
	if (held_segment && file == held_segment->file && bytes > CHUNK_BYTES && held_count < 64)
		held[held_count++] = (struct held_read){file, op, buf, bytes, offset};
	else
		real->file_read(file, op, buf, bytes, offset);
}

static void held_go_on(void)
{
	held_segment = NULL;
	for (unsigned i = 0; i < held_count; i++)
		real->file_read(held[i].file, held[i].op, held[i].buf, held[i].bytes,
				held[i].offset);
	held_count = 0;
}

/* ---- the cases ---- */

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

/* A collection drops the segment that is being read: of the next one no record is left out. */
static void a_segment_that_goes_in_the_middle_hides_nothing_of_the_next(void **state)
{
	struct fixture *f = *state;
	struct store_work check = {.report = keep_line}, gc;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, PART_BYTES);
	assert_int_equal(make_volume(f, "passing", PART_BYTES), 0);
	struct view *view = open_view(f, "passing");
	fill(data, VOLUME_BYTES, PART_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, PART_BYTES, data, 0), 0);
	store_view_close(view);
	free(data);
	fixture_close(f);
	fixture_open(f);
	struct segment *passing = large_segment(f, 0);
	uint64_t id = passing->id;
	uint32_t slot = passing->slot;
	write_part(f, 0, PART_BYTES);
	assert_int_equal(WORK(f, &gc, store_gc), 0); /* empty ones lie between */
	passing = large_segment(f, 0);
	struct segment *next = large_segment(f, 1);
	assert_true(passing->id == id && next->slot > slot);
	for (uint32_t between = slot + 1; between < next->slot; between++)
		assert_null(segment_of(f->store, between));
	flip_in_segment(f, next->id,
			records_of(f, next)->entries[0].offset64 * (int64_t)RECORD_ALIGN + 5000);
	while (!index_loaded(f->store))
		(void)env_step(f->env, true);
	env_look(f)->file_read = held_read;
	held_segment = passing;
	env_wait_prepare(&check.op);
	store_check(f->store, &check);
	while (held_count < VERIFY_COUNT)
		(void)env_step(f->env, true);
	assert_int_equal(DO(f, store_volume_delete, "passing"), 0);
	assert_int_equal(DO(f, store_trash_purge, volume_named(f, "passing", true).number), 0);
	assert_int_equal(WORK(f, &gc, store_gc), 0);
	while (segment_of(f->store, slot) == passing)
		(void)env_step(f->env, true);
	held_go_on();
	assert_int_equal((int)env_wait(f->env, &check.op), 0);
	f->env->ops = real;
	assert_int_equal(check.damaged, 1);
	assert_non_null(strstr(last_line, "a, bytes "));
}

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
		CASE(a_segment_that_goes_in_the_middle_hides_nothing_of_the_next),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
