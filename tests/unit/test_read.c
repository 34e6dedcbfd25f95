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

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_block_of_the_log_is_checked_at_every_read),
		CASE(checks_of_log_blocks_survive_a_checkpoint),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
