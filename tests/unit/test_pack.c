/* SPDX-License-Identifier: Apache-2.0 */
/* Old records are compressed anew, once, and only what was proved. */
#include "tests/unit/mixed_store.h"

#include "storage/store/index_file.h"
#include "storage/store/store_int.h"

#include <fcntl.h>
#include <sys/stat.h>

/* ---- recompression ---- */

/* Words of a small language: a higher level finds more in it. */
static void words_fill(uint64_t *seed, uint8_t *out, size_t bytes)
{
	static const char words[] = "chunkstoreblockwriteframeindexcensusfoldlayersegmentrecord";
	for (size_t at = 0; at < bytes;) {
		*seed = *seed * 6364136223846793005u + 1442695040888963407u;
		unsigned from = (unsigned)(*seed >> 33) % 45, length = 3 + (*seed >> 50) % 9;
		for (unsigned i = 0; i < length && at < bytes; i++)
			out[at++] = (uint8_t)words[from + i];
	}
}

/* Volume "keep" is full of words, which lie in sealed segments that are old enough. */
static uint8_t *make_cold(struct fixture *f)
{
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	fixture_close(f);
	f->options.recompress_level = 6;
	f->options.recompress_after_ns = 1;
	fixture_open(f);
	words_fill(&f->seed, data, SHARE_BYTES);
	assert_int_equal(make_volume(f, "keep", SHARE_BYTES), 0);
	struct view *view = open_view(f, "keep");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, SHARE_BYTES, data, 0), 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	return data;
}

static void all_is_old(struct fixture *f)
{
	f->store->history = (struct history){
		.count = 1, .points = {{.next_segment_id = f->store->next_segment_id}}};
}

static void old_records_are_compressed_anew_once(void **state)
{
	struct fixture *f = *state;
	struct store_info before, after;
	struct store_counters first, second;
	struct store_work work;
	uint8_t *data = make_cold(f);
	fixture_open(f);
	store_info(f->store, &before);
	f->store->options.recompress_after_ns = 3600 * NSEC_PER_SEC;
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_counters(f->store, &first);
	assert_int_equal(first.repacked_in_bytes, 0); /* nothing is old enough */
	f->store->options.recompress_after_ns = 1;
	all_is_old(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_counters(f->store, &first);
	store_info(f->store, &after);
	check_sum(&after);
	assert_true(first.repacked_in_bytes > MIB);
	assert_true(first.repacked_out_bytes < first.repacked_in_bytes * 19 / 20);
	assert_true(after.live_bytes + (first.repacked_in_bytes - first.repacked_out_bytes) / 2 <
		    before.live_bytes);
	read_back(f, data);
	/* What was tried is not tried again, nor after a restart. */
	for (unsigned i = 0; i < 2; i++) {
		all_is_old(f);
		assert_int_equal(WORK(f, &work, store_gc), 0);
		store_counters(f->store, &second);
		assert_int_equal(second.repacked_in_bytes, i ? 0 : first.repacked_in_bytes);
		fixture_close(f);
		fixture_open(f);
		read_back(f, data);
	}
	nothing_is_damaged(f);
	free(data);
}

/* A segment for each opening, full of words that are in no other. Returns how many. */
static unsigned make_many_cold(struct fixture *f, uint8_t *data)
{
	struct store_work work;
	unsigned count = 0;
	fixture_close(f);
	f->options.gc_interval_ns = GC_NEVER;
	fixture_open(f);
	words_fill(&f->seed, data, SHARE_BYTES);
	assert_int_equal(make_volume(f, "keep", SHARE_BYTES), 0);
	for (uint64_t at = 0; at < SHARE_BYTES; at += SHARE_BYTES / 10, count++) {
		struct view *view = open_view(f, "keep");
		assert_int_equal(
			do_request(f, view, REQUEST_WRITE, at, SHARE_BYTES / 10, data + at, 0), 0);
		store_view_close(view);
		assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
		fixture_close(f);
		fixture_open(f);
	}
	return count;
}

static uint64_t compressed_anew(struct fixture *f)
{
	struct store_counters counters;
	store_counters(f->store, &counters);
	return counters.repacked_in_bytes;
}

static void whoever_asks_has_all_records_compressed_anew_however_young(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	unsigned count = make_many_cold(f, data);
	assert_in_range(count, 10, 10); /* more than one collection takes by itself */
	assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_int_equal(compressed_anew(f), 0); /* that is off */
	memset(&work, 0, sizeof work);
	work.recompress = true;
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	assert_int_equal(env_wait(f->env, &work.op), 0);
	uint64_t once = compressed_anew(f);
	assert_true(once > 4 * MIB);
	assert_true(work.freed_bytes > 0 && work.freed_bytes < once / 2);
	read_back(f, data);
	fixture_close(f);
	fixture_open(f);
	read_back(f, data);
	work.recompress = true;
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	assert_int_equal(env_wait(f->env, &work.op), 0);
	assert_int_equal(compressed_anew(f), 0); /* they were, before the restart */
	nothing_is_damaged(f);
	free(data);
}

/* Nothing changes in an archive, and what is in it gets old. */
static void an_archive_is_compressed_anew_by_itself_part_by_part(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	(void)make_many_cold(f, data);
	assert_int_equal(WORK(f, &work, store_gc), 0); /* and nothing changes after it */
	f->store->options.recompress_level = 6;
	f->store->options.recompress_after_ns = 1;
	all_is_old(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	uint64_t part = compressed_anew(f);
	assert_true(part > 0);
	f->store->options.gc_interval_ns = NSEC_PER_SEC / 100;
	while (compressed_anew(f) < part + part / 8) /* 8 of 10 first */
		(void)env_step(f->env, true);
	read_back(f, data);
	free(data);
}

static void who_waits_for_a_collection_waits_for_one_old_segment_at_most(void **state)
{
	struct fixture *f = *state;
	struct store_work first = {0}, second = {0};
	uint8_t *data = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	unsigned count = make_many_cold(f, data);
	f->store->options.recompress_level = 6;
	f->store->options.recompress_after_ns = 1;
	all_is_old(f);
	env_wait_prepare(&first.op);
	env_wait_prepare(&second.op);
	store_gc(f->store, &first);
	store_gc(f->store, &second);
	assert_int_equal(env_wait(f->env, &first.op), 0);
	uint64_t part = compressed_anew(f);
	assert_int_equal(env_wait(f->env, &second.op), 0);
	assert_true(part * (count / 2) < compressed_anew(f));
	read_back(f, data);
	free(data);
}

static void a_store_of_an_older_format_empties_no_segment_for_it(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = make_cold(f);
	fixture_open(f);
	f->store->sb.feature_incompatible &= ~(uint64_t)FEATURE_PACKED;
	all_is_old(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_in_range(work.total, 0, MIB); /* what is empty goes */
	read_back(f, data);
	free(data);
}

/* In the middle of what is written; more than a header is long, so that the data of a record is
 * hit. */
static uint64_t file_rot(const char *path)
{
	struct stat st;
	uint8_t bytes[256];
	int fd = open(path, O_RDWR);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(pread(fd, bytes, sizeof bytes, st.st_size / 2), sizeof bytes);
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] ^= 1;
	assert_int_equal(pwrite(fd, bytes, sizeof bytes, st.st_size / 2), sizeof bytes);
	assert_int_equal(fsync(fd), 0);
	close(fd);
	return 1;
}

static void rot_gets_no_new_checksum(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = make_cold(f), *got = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	unsigned bad = 0;
	assert_true(each_segment(f, file_rot) > 0);
	fixture_open(f);
	all_is_old(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	struct view *view = open_view(f, "keep");
	for (uint64_t at = 0; at < SHARE_BYTES; at += CHUNK_BYTES) {
		int res = do_request(f, view, REQUEST_READ, at, CHUNK_BYTES, got, 0);
		bad += res == -VS_ECHECKSUM;
		assert_true(res == -VS_ECHECKSUM || memcmp(got, data + at, CHUNK_BYTES) == 0);
	}
	assert_in_range(bad, 1, 2); /* the end of one may be hit, and the next */
	store_view_close(view);
	free(got);
	free(data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(old_records_are_compressed_anew_once),
		CASE(whoever_asks_has_all_records_compressed_anew_however_young),
		CASE(an_archive_is_compressed_anew_by_itself_part_by_part),
		CASE(who_waits_for_a_collection_waits_for_one_old_segment_at_most),
		CASE(a_store_of_an_older_format_empties_no_segment_for_it),
		CASE(rot_gets_no_new_checksum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
