/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/crc32c.h"
#include "proto/err.h"
#include "storage/store/codec.h"
#include "storage/store/sha256_pair.h"

#include <openssl/evp.h>

static struct codec *codec;
static const struct domain_key key = {{1, 2, 3}};

/* Text-like in the first half, random in the third quarter, zero in the last. */
static void chunk_fill(uint8_t chunk[CHUNK_BYTES], uint64_t seed)
{
	for (unsigned i = 0; i < CHUNK_BYTES / 2; i++)
		chunk[i] = "the quick brown fox "[test_random(&seed) % 20];
	test_random_fill(&seed, chunk + CHUNK_BYTES / 2, CHUNK_BYTES / 4);
	memset(chunk + CHUNK_BYTES * 3 / 4, 0, CHUNK_BYTES / 4);
}

static void every_frame_size_round_trips(void **state)
{
	(void)state;
	static uint8_t chunk[CHUNK_BYTES], back[CHUNK_BYTES], stored[CHUNK_BYTES + 512];
	static const uint32_t sizes[] = {4096, 8192, 16384, 65536};
	struct frame_entry entries[FRAMES_PER_CHUNK_MAX];
	struct id id;
	chunk_fill(chunk, 1);
	codec_id_chunk(&key, chunk, &id);
	for (unsigned s = 0; s < 4; s++) {
		int64_t bytes = codec_encode(codec, 0, 1, sizes[s], chunk, CHUNK_BYTES, &id, stored,
					     entries);
		assert_true(bytes > 0 && bytes < CHUNK_BYTES);
		const uint8_t *at = stored;
		for (unsigned f = 0; f < CHUNK_BYTES / sizes[s]; f++) {
			assert_int_equal(codec_decode(codec, 1, &entries[f], f, &id, at,
						      back + (size_t)f * sizes[s], sizes[s]),
					 0);
			at += entries[f].stored_bytes;
		}
		assert_memory_equal(chunk, back, CHUNK_BYTES);
	}
	assert_int_equal(
		codec_encode(codec, 0, 1, 16384, chunk, CHUNK_BYTES, &id, stored, entries) > 0, 1);
	assert_int_equal(entries[0].codec, FRAME_ZSTD);
	assert_int_equal(entries[2].codec, FRAME_RAW);
	assert_int_equal(entries[3].codec, FRAME_ZERO);
}

static void a_flipped_bit_or_another_place_fails(void **state)
{
	(void)state;
	static uint8_t chunk[CHUNK_BYTES], back[CHUNK_BYTES], stored[CHUNK_BYTES + 512];
	struct frame_entry entries[4];
	struct id id, other;
	chunk_fill(chunk, 2);
	codec_id_chunk(&key, chunk, &id);
	codec_encode(codec, 0, 1, 16384, chunk, CHUNK_BYTES, &id, stored, entries);
	assert_int_equal(codec_decode(codec, 0, &entries[0], 1, &id, stored, back, 16384),
			 -VS_ECHECKSUM);
	other = id;
	other.bytes[0] ^= 1;
	assert_int_equal(codec_decode(codec, 0, &entries[0], 0, &other, stored, back, 16384),
			 -VS_ECHECKSUM);
	for (unsigned bit = 0; bit < 8 * 64; bit += 7) {
		stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(codec_decode(codec, 0, &entries[0], 0, &id, stored, back, 16384),
				 -VS_ECHECKSUM);
		stored[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* A checksum that fits, over bytes that are no frame, is a format error and no crash. */
	test_random_fill(&(uint64_t){3}, stored, 1000);
	struct frame_entry made = {.codec = FRAME_ZSTD, .stored_bytes = 1000};
	made.crc = crc32c(codec_crc_seed(&id, 0), stored, 1000);
	assert_int_equal(codec_decode(codec, 0, &made, 0, &id, stored, back, 16384), -VS_EFORMAT);
	made.codec = 77;
	assert_int_equal(codec_decode(codec, 0, &made, 0, &id, stored, back, 16384), -VS_EFORMAT);
}

static void ids_depend_on_key_kind_and_every_byte(void **state)
{
	(void)state;
	static uint8_t chunk[CHUNK_BYTES];
	struct domain_key other = key;
	struct id a, b;
	chunk_fill(chunk, 4);
	codec_id_chunk(&key, chunk, &a);
	codec_id_node(&key, chunk, CHUNK_BYTES, &b);
	assert_false(id_equal(&a, &b));
	other.key[63] ^= 1;
	codec_id_chunk(&other, chunk, &b);
	assert_false(id_equal(&a, &b));
	for (unsigned at = 0; at < CHUNK_BYTES; at += 4099) {
		chunk[at] ^= 1;
		codec_id_chunk(&key, chunk, &b);
		assert_false(id_equal(&a, &b));
		chunk[at] ^= 1;
	}
	struct id root_a, root_b;
	codec_id_root(&key, 4096, &a, &root_a);
	codec_id_root(&key, 8192, &a, &root_b);
	assert_false(id_equal(&root_a, &root_b));
}

static void hash_of_openssl(const void *at, size_t bytes, uint8_t ret_hash[32])
{
	assert_int_equal(EVP_Digest(at, bytes, ret_hash, NULL, EVP_sha256(), NULL), 1);
}

static void quarters_together_have_the_hashes_that_each_has(void **state)
{
	(void)state;
	static uint8_t chunk[CHUNK_BYTES + 1];
	uint8_t hashes[QUARTER_COUNT][32], want[32], one[32];
	test_random_fill(&(uint64_t){6}, chunk, sizeof chunk);
	for (unsigned shift = 0; shift < 2; shift++) { /* a chunk may lie at any address */
		codec_hash_quarters(chunk + shift, hashes);
		for (unsigned q = 0; q < QUARTER_COUNT; q++) {
			const uint8_t *quarter = chunk + shift + (size_t)q * QUARTER_BYTES;
			hash_of_openssl(quarter, QUARTER_BYTES, want);
			codec_hash_quarter(quarter, one);
			assert_memory_equal(hashes[q], want, sizeof want);
			assert_memory_equal(one, want, sizeof want);
		}
	}
}

static void a_pair_of_any_length_has_the_hashes_of_sha256(void **state)
{
	(void)state;
	static uint8_t a[QUARTER_BYTES], b[QUARTER_BYTES];
	uint8_t hash_a[32], hash_b[32], want[32];
	uint64_t seed = 7;
	if (!sha256_pair_works())
		skip();
	for (size_t bytes = 0; bytes <= QUARTER_BYTES; bytes += 64) {
		test_random_fill(&seed, a, bytes);
		test_random_fill(&seed, b, bytes);
		sha256_pair(a, b, bytes, hash_a, hash_b);
		hash_of_openssl(a, bytes, want);
		assert_memory_equal(hash_a, want, sizeof want);
		hash_of_openssl(b, bytes, want);
		assert_memory_equal(hash_b, want, sizeof want);
	}
}

static int setup(void **state)
{
	(void)state;
	codec = codec_new(2);
	return codec ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	codec_free(codec);
	return 0;
}

static void a_moved_checksum_fits_what_fitted_and_nothing_else(void **state)
{
	uint8_t stored[3000], raw[3000];
	uint64_t seed = 5;
	struct id from, to;
	(void)state;
	test_random_fill(&seed, stored, sizeof stored);
	test_random_fill(&seed, from.bytes, ID_BYTES);
	test_random_fill(&seed, to.bytes, ID_BYTES);
	struct frame_entry entry = {.stored_bytes = sizeof stored, .codec = FRAME_RAW};
	uint32_t old_seed = codec_crc_seed(&from, 1), new_seed = codec_crc_seed(&to, 2);
	entry.crc = codec_crc_move(crc32c(old_seed, stored, sizeof stored), old_seed, new_seed,
				   sizeof stored);
	assert_int_equal(codec_decode(codec, 0, &entry, 2, &to, stored, raw, sizeof raw), 0);
	stored[77] ^= 4;
	entry.crc = codec_crc_move(entry.crc, new_seed, old_seed, sizeof stored);
	assert_int_equal(codec_decode(codec, 0, &entry, 1, &from, stored, raw, sizeof raw),
			 -VS_ECHECKSUM);
}

static void a_lost_frame_is_an_error_and_its_chunk_has_a_name_of_its_own(void **state)
{
	struct frame_entry entry = {.codec = FRAME_LOST};
	uint8_t raw[4096], quarters[QUARTER_COUNT][32] = {{0}};
	struct id whole, lost, more;
	(void)state;
	codec_id_quarters(&key, (const uint8_t(*)[32])quarters, &whole);
	codec_id_lost(&key, (const uint8_t(*)[32])quarters, 1, &lost);
	codec_id_lost(&key, (const uint8_t(*)[32])quarters, 3, &more);
	assert_false(id_equal(&whole, &lost) || id_equal(&lost, &more));
	entry.crc = crc32c(codec_crc_seed(&lost, 0), "", 0);
	assert_int_equal(codec_decode(codec, 0, &entry, 0, &lost, "", raw, sizeof raw), -VS_ELOST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_frame_size_round_trips),
		cmocka_unit_test(a_flipped_bit_or_another_place_fails),
		cmocka_unit_test(ids_depend_on_key_kind_and_every_byte),
		cmocka_unit_test(quarters_together_have_the_hashes_that_each_has),
		cmocka_unit_test(a_pair_of_any_length_has_the_hashes_of_sha256),
		cmocka_unit_test(a_moved_checksum_fits_what_fitted_and_nothing_else),
		cmocka_unit_test(a_lost_frame_is_an_error_and_its_chunk_has_a_name_of_its_own),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
