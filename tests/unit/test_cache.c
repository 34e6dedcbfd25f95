/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "storage/store/cache.h"

#define SLOTS 256u

static struct id id_number(uint64_t number)
{
	struct id id;
	uint64_t seed = number;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t word = test_random(&seed);
		memcpy(id.bytes + 8 * i, &word, 8);
	}
	return id;
}

static void block_of(uint64_t number, unsigned block, uint8_t out[BLOCK_BYTES])
{
	memset(out, (int)(number * 31 + block), BLOCK_BYTES);
	memcpy(out, &number, 8);
}

static void a_hit_is_always_the_block_that_was_put(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES), want[BLOCK_BYTES];
	struct cache *cache = cache_new(area, SLOTS);
	uint64_t seed = 1, hits = 0;
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t number = test_random(&seed) % 40;
		unsigned block = (unsigned)(test_random(&seed) % CHUNK_BLOCKS);
		struct id id = id_number(number);
		block_of(number, block, want);
		const void *got = cache_get(cache, &id, block);
		if (got)
			assert_memory_equal(got, want, BLOCK_BYTES);
		else
			cache_put(cache, &id, block, want);
		hits += got != NULL;
		if (i % 1000 == 0) {
			cache_drop(cache, &id);
			assert_null(cache_get(cache, &id, block));
		}
	}
	assert_true(hits > 50000); /* 256 slots of 640 blocks asked for evenly: about 40 % */
	cache_free(cache);
	free(area);
}

static void put_number(struct cache *cache, uint64_t number)
{
	uint8_t data[BLOCK_BYTES] = {0};
	struct id id = id_number(number);
	cache_put(cache, &id, 0, data);
}

/* Asks for a run of numbers, and puts those that are not there; returns how many were. */
static unsigned use_numbers(struct cache *cache, uint64_t first, unsigned count)
{
	unsigned hits = 0;
	for (unsigned i = 0; i < count; i++) {
		struct id id = id_number(first + i);
		if (cache_get(cache, &id, 0))
			hits++;
		else
			put_number(cache, first + i);
	}
	return hits;
}

#define HOT (SLOTS * 8 / 10)

/* The scan is 50 times the cache, and nothing of the hot set is asked for meanwhile. */
static void a_scan_of_many_times_its_size_leaves_the_hot_set(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES);
	struct cache *cache = cache_new(area, SLOTS);
	for (unsigned round = 0; round < 3; round++)
		use_numbers(cache, 0, HOT);
	for (unsigned i = 0; i < 50 * SLOTS; i++) {
		put_number(cache, 1000 + i);
		/* a reader of small pieces meets each block that a frame brought along once */
		assert_int_equal(use_numbers(cache, 1000 + i, 1), 1);
	}
	assert_int_equal(use_numbers(cache, 0, HOT), HOT);
	cache_free(cache);
	free(area);
}

static void a_new_hot_set_takes_the_place_of_the_old_one(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES);
	struct cache *cache = cache_new(area, SLOTS);
	for (unsigned round = 0; round < 10; round++)
		use_numbers(cache, 0, HOT);
	for (unsigned round = 0; round < 10; round++)
		use_numbers(cache, 5000, HOT);
	assert_int_equal(use_numbers(cache, 5000, HOT), HOT);
	cache_free(cache);
	free(area);
}

/* Looking is no use: what was only looked at leaves with the scan. */
static void looking_does_not_keep_a_block(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES);
	struct cache *cache = cache_new(area, SLOTS);
	struct id id = id_number(1);
	put_number(cache, 1);
	for (unsigned i = 0; i < 10; i++)
		assert_true(cache_has(cache, &id, 0));
	use_numbers(cache, 1000, 2 * SLOTS);
	assert_false(cache_has(cache, &id, 0));
	cache_free(cache);
	free(area);
}

/* Dropped blocks leave their slots in the queues: all of it is used again. */
static void dropped_slots_are_used_again(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES);
	struct cache *cache = cache_new(area, SLOTS);
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned uses = 0; uses < 3; uses++)
			use_numbers(cache, round * SLOTS, SLOTS);
		for (unsigned i = 0; i < SLOTS; i++) {
			struct id id = id_number(round * SLOTS + i);
			cache_drop(cache, &id);
			assert_null(cache_get(cache, &id, 0));
		}
	}
	use_numbers(cache, 9000, SLOTS);
	assert_int_equal(use_numbers(cache, 9000, SLOTS), SLOTS);
	cache_free(cache);
	free(area);
}

static void without_slots_it_holds_nothing(void **state)
{
	(void)state;
	uint8_t data[BLOCK_BYTES] = {0};
	struct cache *cache = cache_new(NULL, 0);
	struct id id = id_number(1);
	cache_put(cache, &id, 0, data);
	assert_null(cache_get(cache, &id, 0));
	cache_free(cache);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hit_is_always_the_block_that_was_put),
		cmocka_unit_test(a_scan_of_many_times_its_size_leaves_the_hot_set),
		cmocka_unit_test(a_new_hot_set_takes_the_place_of_the_old_one),
		cmocka_unit_test(looking_does_not_keep_a_block),
		cmocka_unit_test(dropped_slots_are_used_again),
		cmocka_unit_test(without_slots_it_holds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
