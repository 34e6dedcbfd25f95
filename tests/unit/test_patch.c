/* SPDX-License-Identifier: Apache-2.0 */
/* A stored chunk with new blocks: against the whole way, with damage of every kind. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/patch.h"

static struct codec *codec;
static const struct domain_key key = {{9, 8, 7}};
static uint8_t base[CHUNK_BYTES], want[CHUNK_BYTES], raw[CHUNK_BYTES], scratch[CHUNK_BYTES];
static uint8_t record[CHUNK_BYTES + 4096], out[CHUNK_BYTES + 4096];

static void patch_make(struct patch *patch, uint32_t frame_bytes, uint16_t fresh, uint64_t seed)
{
	uint8_t quarters[QUARTER_COUNT][32];
	for (unsigned i = 0; i < CHUNK_BYTES; i++)
		base[i] = (uint8_t)(test_random(&seed) % 7);
	memcpy(want, base, sizeof want);
	memset(raw, 0xee, sizeof raw); /* what is not new must not be looked at */
	*patch = (struct patch){.record = record, .frame_bytes = frame_bytes, .fresh = fresh};
	for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
		if (fresh & 1u << b) {
			memset(want + b * BLOCK_BYTES, (int)(b + seed % 5), BLOCK_BYTES);
			memcpy(raw + b * BLOCK_BYTES, want + b * BLOCK_BYTES, BLOCK_BYTES);
		}
	for (unsigned q = 0; q < QUARTER_COUNT; q++)
		codec_hash_quarter(base + q * QUARTER_BYTES, quarters[q]);
	codec_id_quarters(&key, (const uint8_t(*)[32])quarters, &patch->base_id);
	memcpy(record, quarters, sizeof quarters);
	codec_encode(codec, 0, 1, frame_bytes, base, CHUNK_BYTES, &patch->base_id,
		     record + RECORD_QUARTERS_BYTES, patch->frames);
}

/* Applies it and decodes the result; returns the blocks that answer with a loss. */
static uint16_t patch_apply(struct patch *patch, uint32_t frame_bytes, struct id *ret_id)
{
	uint8_t quarters[QUARTER_COUNT][32];
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t result_bytes;
	bool zero;
	uint16_t lost = 0;
	patch_hash(codec, 0, &key, patch, frame_bytes, raw, scratch, quarters, &zero, ret_id);
	assert_false(zero);
	patch_encode(codec, 0, 1, patch, frame_bytes, raw, ret_id, out, frames, &result_bytes);
	const uint8_t *at = out;
	for (unsigned i = 0; i < CHUNK_BYTES / result_bytes; i++) {
		uint8_t *to = scratch + (size_t)i * result_bytes;
		int res = codec_decode(codec, 0, &frames[i], i, ret_id, at, to, result_bytes);
		assert_true(res == 0 || (res == -VS_ELOST && result_bytes == BLOCK_BYTES));
		if (res == 0)
			assert_memory_equal(to, want + (size_t)i * result_bytes, result_bytes);
		else
			lost |= (uint16_t)(1u << i);
		at += frames[i].stored_bytes;
	}
	return lost;
}

static void every_mask_and_frame_size_is_as_the_whole_way(void **state)
{
	static const uint32_t sizes[] = {4096, 8192, 16384, 65536};
	(void)state;
	for (uint64_t seed = 1; seed < 200; seed++) {
		struct patch patch;
		struct id id, whole;
		uint64_t random = seed;
		uint32_t bytes = sizes[seed % 4], next = seed % 3 ? bytes : sizes[seed / 4 % 4];
		patch_make(&patch, bytes, (uint16_t)test_random(&random), seed);
		assert_int_equal(patch_apply(&patch, next, &id), 0);
		codec_id_chunk(&key, want, &whole);
		assert_true(id_equal(&id, &whole));
	}
}

static void a_rotten_frame_is_lost_but_for_its_new_blocks(void **state)
{
	struct patch patch;
	struct id id, whole;
	(void)state;
	patch_make(&patch, 16384, 0x0012, 3);				       /* blocks 1 and 4 */
	record[RECORD_QUARTERS_BYTES + patch.frames[0].stored_bytes + 5] ^= 1; /* frame 1 */
	assert_int_equal(patch_apply(&patch, 16384, &id), 0x00e0);
	assert_int_equal(patch.lost_now, 0x00e0);
	codec_id_chunk(&key, want, &whole);
	assert_false(id_equal(&id, &whole));
	patch_make(&patch, 16384, 0x00f0, 3);
	record[RECORD_QUARTERS_BYTES + patch.frames[0].stored_bytes + 5] ^= 1;
	assert_int_equal(patch_apply(&patch, 16384, &id), 0); /* all of it is new: nothing lost */
}

static void rotten_hashes_are_not_believed(void **state)
{
	struct patch patch;
	struct id id, whole;
	(void)state;
	patch_make(&patch, 16384, 0x0001, 4);
	record[32 * 2] ^= 1; /* of a quarter that is not touched */
	assert_int_equal(patch_apply(&patch, 16384, &id), 0);
	codec_id_chunk(&key, want, &whole);
	assert_true(id_equal(&id, &whole));
}

static void without_a_record_only_what_is_new_is_there(void **state)
{
	struct patch patch;
	struct id id;
	(void)state;
	patch_make(&patch, 16384, 0x8003, 5);
	patch.record = NULL;
	patch.frame_bytes = BLOCK_BYTES;
	assert_int_equal(patch_apply(&patch, 16384, &id), 0x7ffc);
}

static void a_new_block_that_cannot_be_read_is_not_the_old_one(void **state)
{
	struct patch patch;
	struct id id;
	(void)state;
	patch_make(&patch, 16384, 0x0001, 6);
	patch.unread = 0x0100;
	assert_int_equal(patch_apply(&patch, 16384, &id), 0x0100);
}

static int setup(void **state)
{
	(void)state;
	codec = codec_new(1);
	return codec ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	codec_free(codec);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mask_and_frame_size_is_as_the_whole_way),
		cmocka_unit_test(a_rotten_frame_is_lost_but_for_its_new_blocks),
		cmocka_unit_test(rotten_hashes_are_not_believed),
		cmocka_unit_test(without_a_record_only_what_is_new_is_there),
		cmocka_unit_test(a_new_block_that_cannot_be_read_is_not_the_old_one),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
