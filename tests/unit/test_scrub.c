/* SPDX-License-Identifier: Apache-2.0 */
/* A scrub by hand: large reads, room for guests, and every record that rots found and judged. */
#include "tests/unit/check_fixture.h"

#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/sweep.h"

/* ---- reads, large ones of which several may be under way ---- */

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
	env_look(f)->file_read = counted_read;
	record_reads = large_reads = large_most = 0;
}

/* ---- the cases ---- */

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
	env_look(f)->file_open = closed_open;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_scrub_by_hand_reads_in_large_parts_and_decodes_nothing),
		CASE(a_scrub_by_hand_makes_room_for_guests),
		CASE(a_scrub_by_hand_finds_every_record_that_rots),
		CASE(a_scrub_goes_on_where_a_file_cannot_be_opened),
		CASE(content_of_a_file_that_cannot_be_opened_is_stored_anew),
		CASE(a_scrub_by_hand_does_not_set_the_other_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
