/* SPDX-License-Identifier: Apache-2.0 */
/* Records, directories, trailers and superblocks: round trips, and bytes of strangers. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/record.h"
#include "storage/store/superblock.h"

#define ENTRIES 900u

static struct dir_entry
entry_number(uint64_t number, struct frame_entry frames[FRAMES_PER_CHUNK_MAX], uint32_t *ret_stored)
{
	struct dir_entry entry = {.type = number % 5 ? RECORD_CHUNK : RECORD_NODE, .domain = 1};
	static const uint8_t counts[] = {1, 4, 8, 16};
	uint64_t seed = number + 1;
	test_random_fill(&seed, entry.id.bytes, ID_BYTES);
	entry.frame_count = entry.type == RECORD_NODE ? 1 : counts[number % 4];
	entry.raw_bytes = entry.type == RECORD_NODE ? NODE_BYTES : CHUNK_BYTES;
	*ret_stored = 0;
	for (unsigned i = 0; i < entry.frame_count; i++) {
		frames[i] =
			(struct frame_entry){.stored_bytes = (uint32_t)(test_random(&seed) % 4000),
					     .crc = (uint32_t)test_random(&seed),
					     .codec = FRAME_ZSTD};
		*ret_stored += frames[i].stored_bytes;
	}
	return entry;
}

static void a_header_round_trips_and_every_bit_counts(void **state)
{
	(void)state;
	for (uint64_t number = 0; number < 20; number++) {
		uint8_t bytes[RECORD_HEADER_BYTES + FRAMES_PER_CHUNK_MAX * RECORD_FRAME_BYTES];
		struct frame_entry frames[FRAMES_PER_CHUNK_MAX], back[FRAMES_PER_CHUNK_MAX];
		struct dir_entry entry, got;
		uint32_t stored;
		entry = entry_number(number, frames, &stored);
		uint32_t length = record_encode_header(bytes, &entry, frames);
		assert_int_equal(length, record_header_bytes(entry.frame_count));
		assert_int_equal(record_decode_header(bytes, length, &got, back), 0);
		assert_true(id_equal(&entry.id, &got.id));
		assert_int_equal(record_bytes(&entry, frames), record_bytes(&got, back));
		assert_int_equal(record_bytes(&entry, frames),
				 length + record_prefix_bytes(entry.type) + stored);
		assert_int_equal(entry.frame_count, got.frame_count);
		for (unsigned i = 0; i < entry.frame_count; i++) {
			assert_int_equal(frames[i].crc, back[i].crc);
			assert_int_equal(frames[i].stored_bytes, back[i].stored_bytes);
		}
		for (uint32_t cut = 0; cut < length; cut++)
			assert_true(record_decode_header(bytes, cut, &got, back) < 0);
		for (uint32_t bit = 0; bit < length * 8; bit++) {
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			assert_true(record_decode_header(bytes, length, &got, back) < 0);
			bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	}
}

static struct directory *directory_make(void)
{
	struct directory *directory = calloc(1, sizeof(*directory));
	uint32_t offset64 = SEGMENT_HEADER_BYTES / RECORD_ALIGN;
	for (uint64_t number = 0; number < ENTRIES; number++) {
		struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
		uint32_t stored;
		struct dir_entry entry = entry_number(number, frames, &stored);
		entry.offset64 = offset64;
		offset64 += (uint32_t)round_up(record_bytes(&entry, frames), RECORD_ALIGN) /
			    RECORD_ALIGN;
		assert_int_equal(directory_add(directory, &entry, frames), 0);
	}
	return directory;
}

static void a_directory_survives_its_footer(void **state)
{
	(void)state;
	struct directory *directory = directory_make(), *back;
	size_t bytes = footer_bytes(directory);
	uint64_t offset = 16 * MIB;
	uint8_t *footer = malloc(bytes);
	struct trailer trailer;
	footer_encode(directory, 42, offset, footer);
	const uint8_t *last = footer + bytes - BLOCK_BYTES;
	assert_int_equal(trailer_decode(last, 42, offset + bytes, &trailer), 0);
	assert_int_equal(trailer_decode(last, 43, offset + bytes, &trailer), -VS_EFORMAT);
	assert_int_equal(trailer_decode(last, 42, offset + bytes + BLOCK_BYTES, &trailer),
			 -VS_EFORMAT);
	assert_int_equal(directory_decode(&trailer, footer, &back), 0);
	assert_int_equal(back->entry_count, ENTRIES);
	for (uint32_t i = 0; i < ENTRIES; i++) {
		struct dir_entry *found = directory_find(back, directory->entries[i].offset64);
		assert_non_null(found);
		assert_true(id_equal(&found->id, &directory->entries[i].id));
		assert_memory_equal(&back->frames[found->frame_first].crc,
				    &directory->frames[directory->entries[i].frame_first].crc, 4);
	}
	assert_null(directory_find(back, directory->entries[7].offset64 + 1));
	directory_free(back);
	for (uint64_t seed = 1; seed < 200; seed++) {
		uint64_t at = seed;
		uint8_t *byte = &footer[test_random(&at) % trailer.bytes];
		*byte ^= 4;
		assert_int_equal(directory_decode(&trailer, footer, &back), -VS_ECHECKSUM);
		*byte ^= 4;
	}
	directory_free(directory);
	free(footer);
}

static void a_segment_header_names_store_and_segment(void **state)
{
	(void)state;
	uint8_t header[SEGMENT_HEADER_BYTES], uuid[16] = {5}, other[16] = {6};
	segment_header_encode(uuid, 9, 3, header);
	assert_int_equal(segment_header_decode(uuid, 9, 3, header), 0);
	assert_int_equal(segment_header_decode(other, 9, 3, header), -VS_EFORMAT);
	assert_int_equal(segment_header_decode(uuid, 8, 3, header), -VS_EFORMAT);
	assert_int_equal(segment_header_decode(uuid, 9, 2, header), -VS_EFORMAT);
	header[100] ^= 1;
	assert_int_equal(segment_header_decode(uuid, 9, 3, header), -VS_EFORMAT);
}

static void a_superblock_round_trips_and_a_newer_one_is_refused(void **state)
{
	(void)state;
	struct superblock sb = {.log_bytes = 64 * MIB, .generation = 3, .uuid = {1}, .secret = {2}},
			  back;
	uint8_t bytes[SUPERBLOCK_BYTES];
	superblock_encode(&sb, bytes);
	assert_int_equal(superblock_decode(bytes, &back), 0);
	assert_memory_equal(back.uuid, sb.uuid, 16);
	assert_true(back.log_bytes == 64 * MIB && back.generation == 3);
	for (uint32_t at = 0; at < SUPERBLOCK_BYTES; at += 13) {
		bytes[at] ^= 0x80;
		assert_true(superblock_decode(bytes, &back) < 0);
		bytes[at] ^= 0x80;
	}
	sb.feature_incompatible = UINT64_C(1) << 40;
	superblock_encode(&sb, bytes);
	assert_int_equal(superblock_decode(bytes, &back), -VS_ENEWER);
	sb.feature_incompatible = 0;
	sb.log_bytes = 5;
	superblock_encode(&sb, bytes);
	assert_int_equal(superblock_decode(bytes, &back), -VS_EFORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_header_round_trips_and_every_bit_counts),
		cmocka_unit_test(a_directory_survives_its_footer),
		cmocka_unit_test(a_segment_header_names_store_and_segment),
		cmocka_unit_test(a_superblock_round_trips_and_a_newer_one_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
