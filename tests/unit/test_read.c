/* SPDX-License-Identifier: Apache-2.0 */
/* The store's read path on real files: damage in the log's ring, caching, reading ahead. */
#include "tests/unit/store_fixture.h"

#include <fcntl.h>

#define VOLUME_BYTES (32 * MIB)

/* ---- the log's ring, changed behind the store's back ---- */

static int ring_open(const struct fixture *f)
{
	char path[96];
	snprintf(path, sizeof path, "%s/log", f->path);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	return fd;
}

/* Where a block that starts with these bytes lies in the ring. */
static off_t ring_find(const struct fixture *f, const void *start)
{
	uint8_t block[BLOCK_BYTES];
	int fd = ring_open(f);
	off_t at = 0;
	while (pread(fd, block, sizeof block, at) == sizeof block && memcmp(block, start, 16) != 0)
		at += BLOCK_BYTES;
	close(fd);
	assert_true(at < (off_t)(8 * MIB));
	return at;
}

static void ring_change(const struct fixture *f, off_t at, off_t from, size_t flip)
{
	uint8_t block[BLOCK_BYTES];
	int fd = ring_open(f);
	assert_int_equal(pread(fd, block, sizeof block, from), sizeof block);
	block[flip % BLOCK_BYTES] ^= flip < BLOCK_BYTES ? 1 : 0;
	assert_int_equal(pwrite(fd, block, sizeof block, at), sizeof block);
	close(fd);
}
#define NO_FLIP BLOCK_BYTES

static uint64_t checksum_errors(const struct fixture *f)
{
	struct store_counters counters;
	store_counters(f->store, &counters);
	return counters.checksum_errors;
}

static void block_fill(uint8_t *block, uint64_t number)
{
	for (unsigned i = 0; i < BLOCK_BYTES; i += 8) {
		uint64_t word = test_random(&number);
		memcpy(block + i, &word, 8);
	}
}

/* Three blocks in the log: one is whole, one rots, one is taken for another that is as valid. */
static void ring_damage_is_found(struct fixture *f, struct view *view, const uint8_t *blocks)
{
	uint8_t *got = aligned_alloc(BLOCK_BYTES, 4 * BLOCK_BYTES);
	uint64_t before = checksum_errors(f);
	memset(got, 0, BLOCK_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, BLOCK_BYTES, got, 0), 0);
	assert_memory_equal(got, blocks, BLOCK_BYTES);
	assert_int_equal(checksum_errors(f), before);
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(do_request(f, view, REQUEST_READ, i * 2ull * BLOCK_BYTES,
					    BLOCK_BYTES, got, 0),
				 -VS_ECHECKSUM);
	assert_int_equal(checksum_errors(f), before + 2);
	/* as part of a longer read as well, and of one that reads, changes and writes */
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, 4 * BLOCK_BYTES, got, 0),
			 -VS_ECHECKSUM);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 2 * BLOCK_BYTES + 5, 7, got, 0),
			 -VS_ECHECKSUM);
	free(got);
}

static void a_block_of_the_log_is_checked_at_every_read(void **state)
{
	struct fixture *f = *state;
	uint8_t *blocks = aligned_alloc(BLOCK_BYTES, 3 * BLOCK_BYTES);
	off_t at[3];
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	struct view *view = open_view(f, "a");
	for (unsigned i = 0; i < 3; i++) {
		block_fill(blocks + (size_t)i * BLOCK_BYTES, 100 + i);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, i * 2ull * BLOCK_BYTES,
					    BLOCK_BYTES, blocks + (size_t)i * BLOCK_BYTES,
					    REQUEST_FUA),
				 0);
		at[i] = ring_find(f, blocks + (size_t)i * BLOCK_BYTES);
	}
	ring_change(f, at[1], at[1], 1234);
	ring_change(f, at[2], at[0], NO_FLIP);
	ring_damage_is_found(f, view, blocks);
	/* what is written anew is whole again */
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, i * 2ull * BLOCK_BYTES,
					    BLOCK_BYTES, blocks, 0),
				 0);
	assert_int_equal(do_request(f, view, REQUEST_READ, 2 * BLOCK_BYTES, BLOCK_BYTES, blocks, 0),
			 0);
	store_view_close(view);
	free(blocks);
}

/* The checks are in the checkpoint as well: closing writes one, opening reads no block of it. */
static void checks_of_log_blocks_survive_a_checkpoint(void **state)
{
	struct fixture *f = *state;
	uint8_t *blocks = aligned_alloc(BLOCK_BYTES, 3 * BLOCK_BYTES);
	off_t at[3];
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	struct view *view = open_view(f, "a");
	for (unsigned i = 0; i < 3; i++) {
		block_fill(blocks + (size_t)i * BLOCK_BYTES, 200 + i);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, i * 2ull * BLOCK_BYTES,
					    BLOCK_BYTES, blocks + (size_t)i * BLOCK_BYTES, 0),
				 0);
	}
	store_view_close(view);
	fixture_close(f);
	for (unsigned i = 0; i < 3; i++)
		at[i] = ring_find(f, blocks + (size_t)i * BLOCK_BYTES);
	ring_change(f, at[1], at[1], 4095);
	ring_change(f, at[2], at[0], NO_FLIP);
	fixture_open(f);
	view = open_view(f, "a");
	ring_damage_is_found(f, view, blocks);
	store_view_close(view);
	free(blocks);
}

/* ---- the cache, and reading ahead ---- */

/* A volume of blocks that tell their number, all in segments, and nothing of it in memory. */
static struct view *cold_volume(struct fixture *f, uint64_t bytes)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct store_work work;
	assert_int_equal(make_volume(f, "a", bytes), 0);
	struct view *view = open_view(f, "a");
	for (uint64_t at = 0; at < bytes; at += MIB) {
		for (uint64_t b = 0; b < MIB; b += BLOCK_BYTES)
			block_fill(data + b, (at + b) / BLOCK_BYTES);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, MIB, data, 0), 0);
	}
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	fixture_open(f);
	free(data);
	return open_view(f, "a");
}

static void read_block(struct fixture *f, struct view *view, uint64_t block, uint64_t number)
{
	static _Alignas(BLOCK_BYTES) uint8_t got[BLOCK_BYTES], want[BLOCK_BYTES];
	assert_int_equal(
		do_request(f, view, REQUEST_READ, block * BLOCK_BYTES, BLOCK_BYTES, got, 0), 0);
	block_fill(want, number);
	assert_memory_equal(got, want, BLOCK_BYTES);
}

static struct store_counters counters_of(const struct fixture *f)
{
	struct store_counters counters;
	store_counters(f->store, &counters);
	return counters;
}

#define AHEAD 16u /* chunks, at most */
#define READ_BLOCKS (4 * MIB / BLOCK_BYTES)

static void reading_in_order_is_read_ahead_but_not_far(void **state)
{
	struct fixture *f = *state;
	f->options.cache_bytes = 16 * MIB;
	struct view *view = cold_volume(f, VOLUME_BYTES);
	for (uint64_t block = 0; block < READ_BLOCKS; block++)
		read_block(f, view, block, block);
	struct store_counters c = counters_of(f);
	uint64_t chunks = READ_BLOCKS / CHUNK_BLOCKS;
	assert_in_range(c.prefetched_chunks, chunks - 4, chunks + AHEAD);
	assert_true(c.cache_misses < READ_BLOCKS / 8);
	store_view_close(view);
}

static void reading_here_and_there_is_not_read_ahead(void **state)
{
	struct fixture *f = *state;
	f->options.cache_bytes = 16 * MIB;
	struct view *view = cold_volume(f, VOLUME_BYTES);
	for (unsigned i = 0; i < 1000; i++) {
		uint64_t block = test_random(&f->seed) % (VOLUME_BYTES / BLOCK_BYTES);
		read_block(f, view, block, block);
	}
	for (unsigned i = 0; i < 100; i++) /* nor is a place that is read again and again */
		read_block(f, view, 4000, 4000);
	assert_int_equal(counters_of(f).prefetched_chunks, 0);
	store_view_close(view);
}

/* Blocks and chunks ahead of the reader change, and folds move them into segments meanwhile. */
static void what_is_read_ahead_hides_no_write(void **state)
{
	struct fixture *f = *state;
	struct view *view = cold_volume(f, VOLUME_BYTES);
	uint64_t blocks = 16 * MIB / BLOCK_BYTES, count = 0;
	uint64_t *numbers = malloc(blocks * sizeof(*numbers));
	uint8_t *data = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	struct store_work work;
	for (uint64_t block = 0; block < blocks; block++)
		numbers[block] = block;
	for (uint64_t block = 0; block < blocks; block++) {
		if (block % 5 == 0) { /* one block, or a whole chunk, at most 20 chunks ahead */
			bool chunk = block % 3 == 0;
			uint64_t at = block + test_random(&f->seed) % (20 * CHUNK_BLOCKS);
			at = chunk ? at / CHUNK_BLOCKS * CHUNK_BLOCKS : at;
			unsigned n = chunk ? CHUNK_BLOCKS : 1;
			for (unsigned i = 0; i < n && at + n <= blocks; i++) {
				numbers[at + i] = 1000000 + count++;
				block_fill(data + (size_t)i * BLOCK_BYTES, numbers[at + i]);
			}
			if (at + n <= blocks)
				assert_int_equal(do_request(f, view, REQUEST_WRITE,
							    at * BLOCK_BYTES,
							    n * (uint64_t)BLOCK_BYTES, data, 0),
						 0);
		}
		if (block % 500 == 499)
			assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
		read_block(f, view, block, numbers[block]);
	}
	assert_true(counters_of(f).prefetched_chunks > 0);
	store_view_close(view);
	free(numbers);
	free(data);
}

static void a_scan_leaves_what_is_hot_in_memory(void **state)
{
	struct fixture *f = *state; /* 4 MiB of cache */
	struct view *view = cold_volume(f, VOLUME_BYTES);
	uint64_t hot = 2 * MIB / BLOCK_BYTES;
	for (unsigned round = 0; round < 4; round++)
		for (uint64_t block = 0; block < hot; block++)
			read_block(f, view, block * 7 % hot, block * 7 % hot);
	for (uint64_t block = hot; block < VOLUME_BYTES / BLOCK_BYTES; block++)
		read_block(f, view, block, block);
	uint64_t misses = counters_of(f).cache_misses;
	for (uint64_t block = 0; block < hot; block++)
		read_block(f, view, block * 7 % hot, block * 7 % hot);
	assert_true(counters_of(f).cache_misses - misses < hot / 20);
	store_view_close(view);
}

/* ---- memory ---- */

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0, resident = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &pages, &resident), 2);
	fclose(file);
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

#define LOAD_REQUESTS 64u

/* Reads and writes of all sizes side by side, past the log's and every cache's size: what the
 * process holds stays below what the store says of itself. */
static void memory_stays_below_the_stated_bound_under_load(void **state)
{
	struct fixture *f = *state;
	struct store_request requests[LOAD_REQUESTS];
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	const bool exact = false; /* a sanitizer holds what was freed */
#else
	const bool exact = true;
#endif
	uint8_t *data = aligned_alloc(BLOCK_BYTES, LOAD_REQUESTS * (size_t)MIB);
	struct store_info info;
	memset(data, 1, LOAD_REQUESTS * (size_t)MIB);
	fixture_close(f);
	uint64_t before = resident_bytes(), most = 0;
	f->options.node_cache_bytes = f->options.directory_cache_bytes = 4 * MIB;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", 256 * MIB), 0);
	struct view *view = open_view(f, "a");
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned i = 0; i < LOAD_REQUESTS; i++) {
			uint64_t bytes = test_random(&f->seed) % 4
						 ? 1 + test_random(&f->seed) % 9000
						 : 1 + test_random(&f->seed) % MIB;
			requests[i] = (struct store_request){
				.view = view,
				.kind = test_random(&f->seed) % 3 ? REQUEST_WRITE : REQUEST_READ,
				.offset_bytes = test_random(&f->seed) % (255 * MIB),
				.length_bytes = bytes,
				.data = data + i * (size_t)MIB};
			block_fill(requests[i].data, test_random(&f->seed));
			env_wait_prepare(&requests[i].op);
			store_submit(&requests[i]);
		}
		for (unsigned i = 0; i < LOAD_REQUESTS; i++)
			assert_int_equal(env_wait(f->env, &requests[i].op), 0);
		most = max_u64(most, resident_bytes());
	}
	store_info(f->store, &info);
	print_message("resident %llu KiB of at most %llu KiB\n",
		      (unsigned long long)(most - before) / KIB,
		      (unsigned long long)info.memory_bound_bytes / KIB);
	assert_true(!exact || most - before < info.memory_bound_bytes);
	store_view_close(view);
	free(data);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_block_of_the_log_is_checked_at_every_read),
		CASE(checks_of_log_blocks_survive_a_checkpoint),
		CASE(reading_in_order_is_read_ahead_but_not_far),
		CASE(reading_here_and_there_is_not_read_ahead),
		CASE(what_is_read_ahead_hides_no_write),
		CASE(a_scan_leaves_what_is_hot_in_memory),
		CASE(memory_stays_below_the_stated_bound_under_load),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
