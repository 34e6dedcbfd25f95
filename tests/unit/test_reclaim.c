/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaiming on real files: what lives is moved, what is bad is kept and told, rot is found. */
#include "tests/unit/mixed_store.h"

#include "storage/store/behind.h"
#include "storage/store/segments.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void what_lives_in_half_dead_segments_is_moved_and_the_rest_given_back(void **state)
{
	struct fixture *f = *state;
	struct store_info full, after;
	struct store_counters counters;
	struct store_work work;
	uint8_t *data = make_mixed(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	store_info(f->store, &full);
	check_sum(&full);
	purge(f, "gone");
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_info(f->store, &after);
	store_counters(f->store, &counters);
	check_sum(&after);
	assert_true(counters.moved_bytes > 10 * MIB);
	assert_true(counters.segments_dropped > 0);
	assert_true(after.live_bytes + 20 * MIB < full.live_bytes);
	assert_int_equal(after.unique_bytes, SHARE_BYTES);
	read_back(f, data);
	fixture_close(f);
	fixture_open(f);
	read_back(f, data);
	nothing_is_damaged(f);
	free(data);
}

/* What no map names yet is no garbage: nothing is, in either of these two volumes. */
static void what_is_only_in_the_log_counts_as_live(void **state)
{
	struct fixture *f = *state;
	struct store_info info;
	struct store_work work;
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	free(make_mixed(f));
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_info(f->store, &info);
	check_sum(&info);
	assert_true(info.live_bytes > 2 * SHARE_BYTES);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	store_info(f->store, &info);
	check_sum(&info);
	assert_true(info.live_bytes > 2 * SHARE_BYTES);
}

/* Flips a bit where `needle` is stored raw in one of the segment files. */
static void rot(struct fixture *f, const uint8_t *needle)
{
	char path[400];
	uint8_t *buf = malloc(64 * MIB);
	snprintf(path, sizeof path, "%s/seg", f->path);
	DIR *dir = opendir(path);
	bool found = false;
	for (struct dirent *entry; !found && (entry = readdir(dir));) {
		snprintf(path, sizeof path, "%s/seg/%s", f->path, entry->d_name);
		int fd = open(path, O_RDWR);
		ssize_t got = entry->d_name[0] == '.' ? 0 : read(fd, buf, 64 * MIB);
		uint8_t *at = got > 0 ? memmem(buf, (size_t)got, needle, 64) : NULL;
		if (at) {
			uint8_t flipped = at[7] ^ 1;
			assert_int_equal(pwrite(fd, &flipped, 1, at + 7 - buf), 1);
			assert_int_equal(fsync(fd), 0);
			found = true;
		}
		close(fd);
	}
	closedir(dir);
	free(buf);
	assert_true(found);
}

static unsigned lines_of_keep;

static void count_lines(struct store_work *work, const char *line)
{
	(void)work;
	lines_of_keep += strstr(line, "kept as it is") != NULL;
}

static void a_segment_with_a_bad_record_is_kept_and_told(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct store_info before, after;
	uint8_t *data = make_mixed(f), *got = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	rot(f, data + 5 * CHUNK_BYTES + 20000);
	fixture_open(f);
	store_info(f->store, &before);
	purge(f, "gone"); /* begins a collection of its own: the one below waits for it */
	work = (struct store_work){.report = count_lines};
	lines_of_keep = 0;
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	assert_int_equal((int)env_wait(f->env, &work.op), 0);
	store_info(f->store, &after);
	assert_true(after.segment_count > 0);
	struct store_counters counters;
	store_counters(f->store, &counters);
	assert_true(counters.checksum_errors > 0);
	/* All but that chunk is there, and that one fails: it is not served. */
	struct view *view = open_view(f, "keep");
	assert_int_equal(do_request(f, view, REQUEST_READ, 5 * CHUNK_BYTES, CHUNK_BYTES, got, 0),
			 -VS_ECHECKSUM);
	for (uint64_t at = 0; at < SHARE_BYTES; at += CHUNK_BYTES) {
		if (at == 5 * CHUNK_BYTES)
			continue;
		assert_int_equal(do_request(f, view, REQUEST_READ, at, CHUNK_BYTES, got, 0), 0);
		assert_memory_equal(got, data + at, CHUNK_BYTES);
	}
	store_view_close(view);
	free(got);
	free(data);
}

static void the_scrub_finds_rot_by_itself_and_a_good_copy_mends_it(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct store_counters counters;
	uint8_t *data = make_mixed(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	rot(f, data + 9 * CHUNK_BYTES + 40000);
	f->options.scrub_period_ns = 1; /* all is due at once */
	fixture_open(f);
	do {
		(void)env_step(f->env, true);
		store_counters(f->store, &counters);
	} while (counters.scrub_damaged == 0);
	struct view *view = open_view(f, "keep");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 9 * CHUNK_BYTES, CHUNK_BYTES,
				    data + 9 * CHUNK_BYTES, 0),
			 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	read_back(f, data);
	free(data);
}

static void a_scrub_by_hand_goes_over_everything(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct store_info info;
	uint8_t *data = make_mixed(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	for (unsigned deep = 0; deep < 2; deep++) {
		assert_int_equal(WORK(f, &work, store_scrub, deep), 0);
		assert_true(work.chunks >= 2 * SHARE_BYTES / CHUNK_BYTES);
		assert_int_equal(work.damaged, 0);
		store_info(f->store, &info);
		assert_true(info.scrub_oldest_ns < 3600 * NSEC_PER_SEC);
	}
	free(data);
}

/* Four times its size, in a store that has room for little more than the volume. */
static void overwriting_goes_on_in_a_store_of_fixed_size(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB), *got = aligned_alloc(BLOCK_BYTES, MIB);
	uint64_t seeds[256] = {0}, random = 7;
	fixture_close(f);
	f->options.capacity_bytes = 10 * 64 * MIB;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", 256 * MIB), 0);
	struct view *view = open_view(f, "a");
	for (unsigned i = 0; i < 1024; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		unsigned at = i < 256 ? i : (random >> 33) % 256;
		uint64_t seed = seeds[at] = i + 1;
		test_random_fill(&seed, data, MIB);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at * MIB, MIB, data, 0), 0);
	}
	for (unsigned at = 0; at < 256; at++) {
		uint64_t seed = seeds[at];
		test_random_fill(&seed, data, MIB);
		assert_int_equal(do_request(f, view, REQUEST_READ, at * MIB, MIB, got, 0), 0);
		assert_memory_equal(data, got, MIB);
	}
	store_view_close(view);
	free(got);
	free(data);
}

/* `gone` of each ten MiB go to the volume that is purged. */
static void fill_tenths(struct fixture *f, unsigned mib, unsigned gone, uint64_t at[2])
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct view *views[2] = {open_view(f, "keep"), open_view(f, "gone")};
	for (unsigned i = 0; i < mib; i++) {
		unsigned which = i % 10 < gone;
		test_random_fill(&f->seed, data, MIB);
		assert_int_equal(
			do_request(f, views[which], REQUEST_WRITE, at[which], MIB, data, 0), 0);
		at[which] += MIB;
	}
	store_view_close(views[0]);
	store_view_close(views[1]);
	free(data);
}

/*
 * A short segment and two long ones, and room for a reserve but not for one more. The short one is
 * emptied first, into the reserve, and gives less than a segment back: what the long ones hold does
 * not fit beside it. It is let be, the next collection has a reserve, and goes on.
 */
static void the_reserve_outlives_a_short_segment(void **state)
{
	struct fixture *f = *state;
	struct store_info info;
	struct store_work work;
	uint64_t at[2] = {0};
	assert_int_equal(make_volume(f, "keep", 256 * MIB), 0);
	assert_int_equal(make_volume(f, "gone", 256 * MIB), 0);
	fill_tenths(f, 20, 5, at);
	fixture_close(f);
	f->options.capacity_bytes = 5 * 64 * MIB - MIB;
	fixture_open(f);
	fill_tenths(f, 140, 1, at);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	purge(f, "gone");
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(WORK(f, &work, store_gc), 0);
	store_info(f->store, &info);
	check_sum(&info);
	assert_true(info.garbage_bytes < 8 * MIB);
	/* What was touched since the last count counts as well. */
	assert_in_range(info.unique_bytes, at[0], at[0] + MIB);
	for (; info.reserve_bytes == 0; store_info(f->store, &info)) /* it comes back */
		(void)env_step(f->env, true);
}

/* ---- segment files ---- */

static uint64_t file_takes(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return max_u64((uint64_t)st.st_blocks * 512, (uint64_t)st.st_size);
}

static uint64_t file_remove(const char *path)
{
	return (uint64_t)(unlink(path) == 0);
}

/*
 * Not even with the directories behind the records; and no less than all of it but the reserve and
 * a part of a segment, though what is left when segments of the full length are in it is less than
 * one more.
 */
static void a_full_store_takes_no_more_than_its_capacity(void **state)
{
	struct fixture *f = *state;
	struct store_info info;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	int res = 0;
	fixture_close(f);
	f->options.capacity_bytes = 4 * 64 * MIB;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", GIB), 0);
	struct view *view = open_view(f, "a");
	for (unsigned i = 0; i < 512 && res == 0; i++) {
		test_random_fill(&f->seed, data, MIB);
		res = do_request(f, view, REQUEST_WRITE, i * MIB, MIB, data, 0);
		assert_in_range(each_segment(f, file_takes), 0, f->options.capacity_bytes);
	}
	assert_int_equal(res, -ENOSPC);
	store_view_close(view);
	store_info(f->store, &info);
	check_sum(&info);
	assert_int_equal(info.reserve_bytes, SEGMENT_FILE_BYTES);
	assert_in_range(info.live_bytes + info.garbage_bytes,
			f->options.capacity_bytes - SEGMENT_FILE_BYTES - SEGMENT_PART_BYTES -
				4 * MIB,
			f->options.capacity_bytes - SEGMENT_FILE_BYTES);
	fixture_close(f);
	assert_in_range(each_segment(f, file_takes), 100 * MIB, f->options.capacity_bytes);
	fixture_open(f);
	free(data);
}

static void a_collection_that_fails_says_why(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct store_info info;
	struct store_counters counters;
	assert_int_equal(make_volume(f, "a", SHARE_BYTES), 0);
	struct view *view = open_view(f, "a");
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	test_random_fill(&f->seed, data, MIB);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	store_view_close(view);
	free(data);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	store_info(f->store, &info);
	assert_string_equal(info.gc_failed, "");
	fixture_close(f);
	assert_true(each_segment(f, file_remove) > 0);
	fixture_open(f);
	assert_true(WORK(f, &work, store_gc) < 0);
	store_info(f->store, &info);
	store_counters(f->store, &counters);
	assert_non_null(strstr(info.gc_failed, "'a' cannot be read in full"));
	assert_int_equal(counters.collections_failed, 1);
	assert_int_equal(counters.collections, 0);
	/* What cannot be read goes; then one ends well, and nothing is told any more. */
	purge(f, "a");
	while (counters.collections == 0) {
		(void)env_step(f->env, true);
		store_counters(f->store, &counters);
	}
	store_info(f->store, &info);
	assert_string_equal(info.gc_failed, "");
}

static struct env_ops poor;
static const struct env_ops *real;

static void *no_memory(struct env *env, size_t bytes)
{
	return NULL;
}

/* Else whoever waits for space asks it again, and waits for ever. */
static void a_collection_that_has_no_memory_was_an_attempt(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	while (f->store->index_load)
		(void)env_step(f->env, true);
	real = f->env->ops;
	poor = *real;
	poor.memory = no_memory;
	f->env->ops = &poor;
	assert_int_equal(WORK(f, &work, store_gc), -ENOMEM);
	assert_false(gc_may_help(f->store));
	f->env->ops = real;
	assert_int_equal(WORK(f, &work, store_gc), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_lives_in_half_dead_segments_is_moved_and_the_rest_given_back),
		CASE(what_is_only_in_the_log_counts_as_live),
		CASE(a_segment_with_a_bad_record_is_kept_and_told),
		CASE(the_scrub_finds_rot_by_itself_and_a_good_copy_mends_it),
		CASE(a_scrub_by_hand_goes_over_everything),
		CASE(the_reserve_outlives_a_short_segment),
		CASE(overwriting_goes_on_in_a_store_of_fixed_size),
		CASE(a_full_store_takes_no_more_than_its_capacity),
		CASE(a_collection_that_fails_says_why),
		CASE(a_collection_that_has_no_memory_was_an_attempt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
