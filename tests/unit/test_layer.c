/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/layer.h"

#include <errno.h>

#define CHUNKS 300u
#define BLOCKS (CHUNKS * CHUNK_BLOCKS)
#define RING_BLOCKS 1000000u
#define CRC_OF(log_block) ((log_block)*2654435761u)
/* What a block is, in the naive model: nothing, zero, of chunk id n, or a log block. */
#define NOTHING 0
#define ZERO 1
#define OF_ID(n) (1000 + (uint64_t)(n))
#define OF_LOG(n) (1000000 + (uint64_t)(n))

static struct id id_number(uint64_t number)
{
	struct id id = {{0}};
	memcpy(id.bytes, &number, 8);
	return id;
}

/* layer_write with a check for each block that its log block tells. */
static int blocks_write(struct layer *layer, uint64_t block_no, uint32_t count, uint32_t log_block)
{
	uint32_t *crc = malloc((count + 1) * sizeof(*crc));
	for (uint32_t i = 0; i < count; i++)
		crc[i] = CRC_OF(log_block + i);
	int res = layer_write(layer, block_no, count, log_block, crc);
	free(crc);
	return res;
}

static uint64_t layer_says(const struct layer *layer, uint64_t block_no)
{
	struct dirty_chunk room;
	const struct dirty_chunk *entry = layer_find(layer, block_no / CHUNK_BLOCKS, &room);
	unsigned block = block_no % CHUNK_BLOCKS;
	if (!entry)
		return NOTHING;
	if (entry->mask & (1u << block) && entry->log_block[block] != LOG_BLOCK_ZERO)
		assert_int_equal(entry->log_crc[block], CRC_OF(entry->log_block[block]));
	if (entry->mask & (1u << block))
		return entry->log_block[block] == LOG_BLOCK_ZERO ? ZERO
								 : OF_LOG(entry->log_block[block]);
	if (entry->base == BASE_ID)
		return OF_ID(id_word(&entry->id, 0));
	return entry->base == BASE_ZERO ? ZERO : NOTHING;
}

static void compare(const struct layer *layer, const uint64_t *model)
{
	uint32_t log_blocks = 0;
	for (uint64_t block = 0; block < BLOCKS; block++) {
		assert_true(layer_says(layer, block) == model[block]);
		log_blocks += model[block] >= OF_LOG(0);
	}
	assert_int_equal(layer->log_blocks, log_blocks);
}

static void random_step(struct layer *layer, uint64_t *model, uint64_t *seed, uint32_t *log_block)
{
	uint64_t block = test_random(seed) % BLOCKS;
	uint64_t kind = test_random(seed) % 10;
	uint64_t count = 1 + test_random(seed) % (kind == 9 ? 150 * CHUNK_BLOCKS : 50);
	count = count < BLOCKS - block ? count : BLOCKS - block;
	if (kind < 5) {
		assert_int_equal(blocks_write(layer, block, (uint32_t)count, *log_block), 0);
		for (uint64_t i = 0; i < count; i++)
			model[block + i] = OF_LOG(*log_block + i);
		*log_block += (uint32_t)count;
	} else if (kind < 8) {
		struct id id = id_number(1 + block);
		uint64_t chunk = block / CHUNK_BLOCKS;
		assert_int_equal(layer_set_id(layer, chunk, &id), 0);
		for (unsigned i = 0; i < CHUNK_BLOCKS; i++)
			model[chunk * CHUNK_BLOCKS + i] = OF_ID(1 + block);
	} else {
		assert_int_equal(layer_zero(layer, block, count), 0);
		for (uint64_t i = 0; i < count; i++)
			model[block + i] = ZERO;
	}
}

static void random_changes_match_a_naive_model(void **state)
{
	(void)state;
	static uint64_t model[BLOCKS];
	for (uint64_t run = 1; run <= 10; run++) {
		struct layer_pool *pool = layer_pool_new(2 * CHUNKS + 200);
		struct layer *layer = layer_new(pool, run, 0), *copy;
		uint32_t log_block = 0;
		uint64_t seed = run;
		memset(model, 0, sizeof model);
		for (unsigned i = 0; i < 1500; i++) {
			random_step(layer, model, &seed, &log_block);
			if (i % 100 == 0)
				compare(layer, model);
		}
		compare(layer, model);
		/* and through a checkpoint */
		size_t bytes = layer_encoded_bytes(layer);
		uint8_t *encoded = malloc(bytes);
		struct cursor c = cursor_over(encoded, bytes);
		layer_encode(layer, &c);
		assert_int_equal(cursor_left(&c), 0);
		layer_free(layer);
		assert_int_equal(pool->free_count, 2 * CHUNKS + 200);
		c = cursor_reading(encoded, bytes);
		assert_int_equal(layer_decode(pool, &c, RING_BLOCKS, &copy), 0);
		compare(copy, model);
		layer_free(copy);
		free(encoded);
		layer_pool_free(pool);
	}
}

static void sorted_entries_come_in_order(void **state)
{
	(void)state;
	struct layer_pool *pool = layer_pool_new(1000);
	struct layer *layer = layer_new(pool, 1, 0);
	const struct dirty_chunk *sorted[500];
	for (uint32_t i = 0; i < 500; i++)
		assert_int_equal(
			blocks_write(layer, (uint64_t)((i * 7919) % 500) * CHUNK_BLOCKS, 1, i), 0);
	layer_sorted(layer, sorted);
	for (uint32_t i = 0; i < 500; i++)
		assert_true(sorted[i]->chunk_no == i);
	layer_free(layer);
	layer_pool_free(pool);
}

static void a_full_pool_refuses_before_anything_changes(void **state)
{
	(void)state;
	struct layer_pool *pool = layer_pool_new(4);
	struct layer *layer = layer_new(pool, 1, 0);
	struct id id = id_number(9);
	assert_int_equal(blocks_write(layer, 0, 3 * CHUNK_BLOCKS, 0), -ENOSPC);
	assert_int_equal(layer->entry_count, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(layer_set_id(layer, i, &id), 0);
	assert_int_equal(layer_set_id(layer, 4, &id), -ENOSPC);
	assert_int_equal(blocks_write(layer, 0, 1, 0), -ENOSPC);
	assert_int_equal(layer_zero(layer, 1, 1), -ENOSPC);
	assert_int_equal(layer->entry_count, 4);
	layer_free(layer);
	layer_pool_free(pool);
}

static void room_means_that_the_change_succeeds(void **state)
{
	(void)state;
	for (uint32_t entries = 1; entries < 150; entries++)
		for (uint64_t count = 1; count < 150 * CHUNK_BLOCKS; count += 61) {
			struct layer_pool *pool = layer_pool_new(entries);
			struct layer *layer = layer_new(pool, 1, 0);
			bool room = layer_room_write(layer, count);
			assert_int_equal(blocks_write(layer, 15, (uint32_t)count, 0),
					 room ? 0 : -ENOSPC);
			layer_free(layer);
			layer = layer_new(pool, 1, 0);
			room = layer_room(layer, count);
			assert_int_equal(layer_zero(layer, 15, count), room ? 0 : -ENOSPC);
			layer_free(layer);
			layer_pool_free(pool);
		}
}

static void many_ranges_do_not_stop_writes(void **state)
{
	(void)state;
	struct layer_pool *pool = layer_pool_new(100);
	struct layer *layer = layer_new(pool, 1, 0);
	uint64_t at = 0;
	while (layer_zero(layer, at, 64 * CHUNK_BLOCKS) == 0)
		at += 128 * CHUNK_BLOCKS;
	assert_int_equal(layer->range_count, LAYER_RANGES_MAX - 1);
	assert_int_equal(blocks_write(layer, 5, 20, 1), 0);
	layer_free(layer);
	layer_pool_free(pool);
}

/* A header of 32 bytes, one range of 16, one entry: mask at 8, base at 10, reserved from 11. */
static void decoding_keeps_what_the_layer_keeps_true(void **state)
{
	(void)state;
	struct layer_pool *pool = layer_pool_new(100), *small = layer_pool_new(0);
	struct layer *layer = layer_new(pool, 1, 0), *copy;
	uint8_t encoded[256];
	static const struct {
		unsigned at;
		uint8_t value;
	} wrong[] = {{32 + 16 + 10, BASE_INHERIT}, /* inside the range */
		     {32 + 16 + 10, BASE_ID + 1},
		     {32 + 16 + 15, 1}, /* reserved */
		     {24, 2}};		/* frozen */
	layer_zero(layer, 0, 64 * CHUNK_BLOCKS);
	blocks_write(layer, CHUNK_BLOCKS, 1, 5);
	size_t bytes = layer_encoded_bytes(layer);
	for (unsigned i = 0; i <= 4; i++) {
		struct cursor c = cursor_over(encoded, sizeof encoded);
		layer_encode(layer, &c);
		if (i < 4)
			encoded[wrong[i].at] = wrong[i].value;
		c = cursor_reading(encoded, bytes);
		if (i < 4)
			assert_int_equal(layer_decode(pool, &c, 1000, &copy), -VS_EFORMAT);
		else /* whole, but there is no room: no format error */
			assert_int_equal(layer_decode(small, &c, 1000, &copy), -ENOSPC);
	}
	layer_free(layer);
	assert_int_equal(pool->free_count, 100);
	layer_pool_free(pool);
	layer_pool_free(small);
}

static void foreign_bytes_are_refused(void **state)
{
	(void)state;
	struct layer_pool *pool = layer_pool_new(100);
	struct layer *layer = layer_new(pool, 1, 0), *copy;
	struct id id = id_number(9);
	uint8_t encoded[4096], changed[4096];
	blocks_write(layer, 5, 20, 77);
	layer_set_id(layer, 9, &id);
	layer_zero(layer, 4096, 4096);
	size_t bytes = layer_encoded_bytes(layer);
	struct cursor c = cursor_over(encoded, sizeof encoded);
	layer_encode(layer, &c);
	layer_free(layer);
	for (size_t cut = 0; cut < bytes; cut++) {
		c = cursor_reading(encoded, cut);
		assert_int_equal(layer_decode(pool, &c, RING_BLOCKS, &copy), -VS_EFORMAT);
	}
	for (uint64_t seed = 1; seed < 5000; seed++) { /* whatever comes out, nothing breaks */
		uint64_t state2 = seed;
		memcpy(changed, encoded, bytes);
		for (unsigned i = 0; i < 1 + seed % 3; i++)
			changed[test_random(&state2) % bytes] ^=
				(uint8_t)(1u << test_random(&state2) % 8);
		c = cursor_reading(changed, bytes);
		if (layer_decode(pool, &c, RING_BLOCKS, &copy) == 0)
			layer_free(copy);
	}
	assert_int_equal(pool->free_count, 100);
	layer_pool_free(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes_match_a_naive_model),
		cmocka_unit_test(sorted_entries_come_in_order),
		cmocka_unit_test(a_full_pool_refuses_before_anything_changes),
		cmocka_unit_test(room_means_that_the_change_succeeds),
		cmocka_unit_test(many_ranges_do_not_stop_writes),
		cmocka_unit_test(decoding_keeps_what_the_layer_keeps_true),
		cmocka_unit_test(foreign_bytes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
