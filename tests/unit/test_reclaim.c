/* SPDX-License-Identifier: Apache-2.0 */
/* Reclaiming on real files: what lives is moved, what is bad is kept and told, rot is found. */
#include "tests/unit/mixed_store.h"

#include "storage/store/behind.h"
#include "storage/store/fold.h"
#include "storage/store/segments.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void check_sum(const struct store_info *info)
{
	assert_int_equal(info->live_bytes + info->garbage_bytes + info->prepared_bytes +
				 info->reserve_bytes,
			 info->segment_bytes);
}

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
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
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

/* Calls `each` for every segment file; returns the sum of what it says. */
static uint64_t each_segment(struct fixture *f, uint64_t (*each)(const char *path))
{
	char path[400];
	uint64_t sum = 0;
	snprintf(path, sizeof path, "%s/seg", f->path);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir));) {
		snprintf(path, sizeof path, "%s/seg/%s", f->path, entry->d_name);
		sum += entry->d_name[0] == '.' ? 0 : each(path);
	}
	closedir(dir);
	return sum;
}

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

/* ---- when does nothing more come back? ---- */

static void one_that_began_with_space_to_spare_was_no_attempt(void **state)
{
	struct fixture *f = *state;
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	while (!f->store->gc)
		(void)env_step(f->env, true);
	f->store->options.capacity_bytes = 1; /* now it is low */
	assert_int_equal((int)env_wait(f->env, &work.op), 0);
	assert_true(gc_may_help(f->store));
	while (f->store->gc || gc_may_help(f->store)) /* ... but not for ever */
		(void)env_step(f->env, true);
	f->store->options.capacity_bytes = 0;
}

static void what_is_overdue_in_the_trash_may_come_back(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	f->store->options.capacity_bytes = 1;
	assert_int_equal(make_volume(f, "gone", MIB), 0);
	assert_int_equal(DO(f, store_volume_delete, "gone"), 0);
	assert_int_equal(volume_named(f, "gone", true).in_trash, true);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	while (f->store->gc || gc_may_help(f->store))
		(void)env_step(f->env, true);
	f->store->options.trash_delay_ns =
		1; /* of 7 days; and no tick comes before the next line */
	assert_true(gc_may_help(f->store));
	while (f->store->volume_count)
		(void)env_step(f->env, true);
	f->store->options.capacity_bytes = 0;
}

/* Not by a purge: it goes at once, as cuts do. */
static void what_a_cut_held_may_come_back(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	f->store->options.capacity_bytes = 1;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(snap(f, "a@cut"), 0);
	f->store->snapshots[0]->policy = POLICY_CUT;
	assert_int_equal(WORK(f, &work, store_gc), 0);
	while (f->store->gc || gc_may_help(f->store))
		(void)env_step(f->env, true);
	assert_int_equal(DO(f, store_cut_drop, "a@cut"), 0);
	assert_int_equal(f->store->snapshot_count, 0);
	assert_true(gc_may_help(f->store));
	f->store->options.capacity_bytes = 0;
}

static bool disk_full;
static struct env *full_env;
static struct io_op *held; /* an allocation whose end waits for the test */

static void allocate_or_not(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	if (disk_full)
		env_complete(full_env, op, -ENOSPC);
	else
		real->file_allocate(file, op, bytes);
}

static void allocate_never(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	held = op;
}

static void fixture_poor(struct fixture *f,
			 void (*allocate)(struct env_file *file, struct io_op *op, uint64_t bytes))
{
	real = f->env->ops;
	poor = *real;
	poor.file_allocate = allocate;
	f->env->ops = &poor;
}

/* There is no space for a segment until disk_full is false; f->env->ops = real at the end. */
static void fixture_open_full(struct fixture *f)
{
	fixture_poor(f, allocate_or_not);
	full_env = f->env;
	disk_full = true;
	fixture_open(f);
}

/* It takes no space to give it back. */
static void what_is_all_dead_goes_when_not_even_a_reserve_can_be_made(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	test_random_fill(&f->seed, data, MIB);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	store_view_close(view);
	fixture_close(f);
	fixture_open_full(f);
	purge(f, "a");
	while (f->store->counters.collections == 0)
		(void)env_step(f->env, true);
	assert_null(f->store->segment_set->reserve);
	assert_true(f->store->counters.segments_dropped > 0);
	f->env->ops = real;
	free(data);
}

/* Nothing more comes back by collections, but what is being made may be all that is needed. */
static void a_write_waits_for_a_segment_that_is_being_made(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct segment_set *set = f->store->segment_set;
	uint8_t data[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES))) = {1};
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	/* Its epoch is raised by something that stores nothing, and leaves nothing to fold. */
	assert_int_equal(do_request(f, view, REQUEST_ZERO, 0, MIB, NULL, 0), 0);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	while (!segments_idle(f->store) || !set->spare)
		(void)env_step(f->env, true);
	fixture_poor(f, allocate_never);
	segments_seal_open(f->store); /* neither open nor spare nor reserve: one is made */
	segments_make_ahead(set);
	f->store->options.capacity_bytes = 1;
	while (set->sealing || f->store->gc || gc_may_help(f->store))
		(void)env_step(f->env, true);
	struct store_request request = {
		.view = view, .kind = REQUEST_WRITE, .length_bytes = 4096, .data = data};
	env_wait_prepare(&request.op);
	store_submit(&request);
	bool waits = !write_idle(f->store);
	f->store->options.capacity_bytes = 0;
	f->env->ops = real;
	env_complete(f->env, held, 0);
	assert_int_equal((int)env_wait(f->env, &request.op), 0);
	assert_true(waits);
	store_view_close(view);
}

/* Guests wait for it, or are told that the store is full: it does not wait for its usual while. */
static void a_fold_that_had_no_space_is_tried_again_when_some_came(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	test_random_fill(&f->seed, data, MIB);
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 4096, 4096, data, 0), 0);
	store_view_close(view);
	fixture_close(f);
	fixture_open_full(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), -ENOSPC);
	assert_true(fold_full(f->store));
	disk_full = false;
	segments_retry_space(f->store); /* a collection's end does it */
	while (!f->store->segment_set->spare && !f->store->segment_set->open)
		(void)env_step(f->env, true);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	assert_int_equal(f->store->fold->space_tries, 0); /* the next one has as many again */
	f->env->ops = real;
	free(data);
}

/* What is freed of a fold that failed may be no more than what the next one takes of it: whoever
 * waits for it is told after so many tries. */
static void a_fold_that_never_fits_is_not_tried_for_ever(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	uint8_t data[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES))) = {1};
	unsigned tries = 0;
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 4096, 4096, data, 0), 0);
	store_view_close(view);
	fixture_close(f);
	fixture_open_full(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), -ENOSPC);
	f->store->fold_all = true;
	for (; f->store->fold->space_tries == tries && tries < 100; tries++) {
		fold_space_came(f->store); /* and somebody else takes it */
		while (fold_running(f->store))
			(void)env_step(f->env, true);
		assert_true(fold_full(f->store));
	}
	assert_in_range(tries, 2, 99);
	f->env->ops = real;
}

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
	f->options.recompress_level = 12;
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
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
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
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
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
		CASE(one_that_began_with_space_to_spare_was_no_attempt),
		CASE(what_is_overdue_in_the_trash_may_come_back),
		CASE(what_a_cut_held_may_come_back),
		CASE(what_is_all_dead_goes_when_not_even_a_reserve_can_be_made),
		CASE(a_write_waits_for_a_segment_that_is_being_made),
		CASE(a_fold_that_had_no_space_is_tried_again_when_some_came),
		CASE(a_fold_that_never_fits_is_not_tried_for_ever),
		CASE(old_records_are_compressed_anew_once),
		CASE(whoever_asks_has_all_records_compressed_anew_however_young),
		CASE(an_archive_is_compressed_anew_by_itself_part_by_part),
		CASE(who_waits_for_a_collection_waits_for_one_old_segment_at_most),
		CASE(a_store_of_an_older_format_empties_no_segment_for_it),
		CASE(rot_gets_no_new_checksum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
