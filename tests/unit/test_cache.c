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

static void a_scan_does_not_empty_it(void **state)
{
	(void)state;
	uint8_t *area = aligned_alloc(4096, SLOTS * BLOCK_BYTES), data[BLOCK_BYTES] = {0};
	struct cache *cache = cache_new(area, SLOTS);
	unsigned kept = 0;
	for (unsigned i = 0; i < SLOTS / 2; i++) {
		struct id id = id_number(i);
		cache_put(cache, &id, 0, data);
	}
	for (unsigned round = 0; round < 20; round++) { /* the hot half is used between scans */
		for (unsigned i = 0; i < SLOTS / 2; i++) {
			struct id id = id_number(i);
			kept += cache_get(cache, &id, 0) != NULL;
		}
		for (unsigned i = 0; i < SLOTS / 4; i++) {
			struct id id = id_number(1000 + round * SLOTS + i);
			cache_put(cache, &id, 0, data);
		}
	}
	assert_int_equal(kept, 20 * SLOTS / 2);
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
		cmocka_unit_test(a_scan_does_not_empty_it),
		cmocka_unit_test(without_slots_it_holds_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
