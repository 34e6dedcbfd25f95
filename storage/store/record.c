/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a segment file: its header, records, the directory at its end. Encoding and decoding
 * only; what comes from disk is foreign and is checked here, once.
 */
#include "storage/store/record.h"

#include "proto/crc32c.h"
#include "proto/cursor.h"
#include "proto/err.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_MAGIC 0x52435356u
static const char segment_magic[8] = "VSSEGMT1";
static const char trailer_magic[8] = "VSSEGEND";

uint32_t record_header_bytes(unsigned frame_count)
{
	return RECORD_HEADER_BYTES + frame_count * RECORD_FRAME_BYTES;
}

uint32_t record_bytes(const struct dir_entry *entry, const struct frame_entry *frames)
{
	uint32_t bytes = record_header_bytes(entry->frame_count) + record_prefix_bytes(entry->type);
	for (unsigned i = 0; i < entry->frame_count; i++)
		bytes += frames[i].stored_bytes;
	return bytes;
}

#define CRC_AT 48u

uint32_t record_encode_header(void *out, const struct dir_entry *entry,
			      const struct frame_entry *frames)
{
	uint32_t bytes = record_header_bytes(entry->frame_count);
	struct cursor c = cursor_over(out, bytes);
	put_u32(&c, RECORD_MAGIC);
	put_u8(&c, entry->type);
	put_u8(&c, entry->frame_count);
	put_u16(&c, 0);
	put_bytes(&c, entry->id.bytes, ID_BYTES);
	put_u32(&c, entry->domain);
	put_u32(&c, 0); /* key generation */
	put_u32(&c, 0); /* the checksum, below */
	for (unsigned i = 0; i < entry->frame_count; i++) {
		put_u32(&c, frames[i].stored_bytes | (uint32_t)frames[i].codec << 24);
		put_u32(&c, frames[i].crc);
	}
	assert(!c.failed);
	uint32_t crc = htole32(crc32c(0, out, bytes));
	memcpy((uint8_t *)out + CRC_AT, &crc, 4);
	return bytes;
}

int record_decode_header(const void *from, size_t bytes, struct dir_entry *ret_entry,
			 struct frame_entry ret_frames[FRAMES_PER_CHUNK_MAX])
{
	uint8_t copy[RECORD_HEADER_BYTES + FRAMES_PER_CHUNK_MAX * RECORD_FRAME_BYTES];
	struct cursor c = cursor_reading(from, bytes);
	if (get_u32(&c) != RECORD_MAGIC)
		return -VS_EFORMAT;
	struct dir_entry entry = {.type = get_u8(&c)};
	entry.frame_count = get_u8(&c);
	get_u16(&c);
	entry.raw_bytes = entry.type == RECORD_CHUNK ? CHUNK_BYTES : NODE_BYTES;
	get_bytes(&c, entry.id.bytes, ID_BYTES);
	uint32_t domain = get_u32(&c);
	uint32_t key_generation = get_u32(&c);
	entry.domain = (uint8_t)domain;
	uint32_t crc = get_u32(&c), stored = 0;
	if (c.failed || entry.frame_count == 0 || entry.frame_count > FRAMES_PER_CHUNK_MAX ||
	    record_header_bytes(entry.frame_count) > bytes || entry.raw_bytes % entry.frame_count ||
	    domain == 0 || domain > UINT8_MAX || key_generation != 0 ||
	    !(entry.type == RECORD_CHUNK || (entry.type == RECORD_NODE && entry.frame_count == 1)))
		return -VS_EFORMAT;
	memcpy(copy, from, record_header_bytes(entry.frame_count));
	memset(copy + CRC_AT, 0, 4);
	if (crc32c(0, copy, record_header_bytes(entry.frame_count)) != crc)
		return -VS_ECHECKSUM;
	for (unsigned i = 0; i < entry.frame_count; i++) {
		uint32_t word = get_u32(&c);
		ret_frames[i] = (struct frame_entry){.stored_bytes = word & 0xffffff,
						     .codec = (uint8_t)(word >> 24),
						     .crc = get_u32(&c)};
		stored += ret_frames[i].stored_bytes; /* 16 times 24 bits: no overflow */
	}
	if (c.failed || stored > CHUNK_BYTES)
		return -VS_EFORMAT;
	*ret_entry = entry;
	return 0;
}

int record_header_matches(const void *from, size_t bytes, const struct dir_entry *known,
			  const struct frame_entry *known_frames)
{
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	struct dir_entry header;
	int res = record_decode_header(from, bytes, &header, frames);
	if (res < 0)
		return res;
	if (!id_equal(&header.id, &known->id) || header.type != known->type ||
	    header.domain != known->domain || header.raw_bytes != known->raw_bytes ||
	    header.frame_count != known->frame_count)
		return -VS_EFORMAT;
	for (unsigned i = 0; i < known->frame_count; i++)
		if (frames[i].stored_bytes != known_frames[i].stored_bytes ||
		    frames[i].crc != known_frames[i].crc ||
		    frames[i].codec != known_frames[i].codec)
			return -VS_EFORMAT;
	return 0;
}

int record_head_prove(const struct domain_key *key, const void *from, size_t bytes,
		      const struct dir_entry *known, const struct frame_entry *known_frames)
{
	bool lost = false;
	int res = record_header_matches(from, bytes, known, known_frames);
	if (res < 0)
		return res;
	for (unsigned i = 0; i < known->frame_count; i++)
		lost |= known_frames[i].codec == FRAME_LOST;
	if (known->type != RECORD_CHUNK || lost || !key)
		return 0;
	uint8_t quarters[QUARTER_COUNT][32];
	struct id id;
	memcpy(quarters, (const uint8_t *)from + record_header_bytes(known->frame_count),
	       sizeof quarters);
	codec_id_quarters(key, (const uint8_t(*)[32])quarters, &id);
	return id_equal(&id, &known->id) ? 0 : -VS_ECHECKSUM;
}

bool record_frames_whole(const struct dir_entry *entry, const struct frame_entry *frames,
			 const uint8_t *stored)
{
	for (unsigned i = 0; i < entry->frame_count; i++) {
		if (!codec_frame_whole(&entry->id, i, &frames[i], stored))
			return false;
		stored += frames[i].stored_bytes;
	}
	return true;
}

int record_prove(const struct domain_key *key, const void *from, size_t bytes,
		 const struct dir_entry *known, const struct frame_entry *known_frames)
{
	if (record_bytes(known, known_frames) > bytes)
		return -VS_EFORMAT;
	int res = record_head_prove(key, from, bytes, known, known_frames);
	if (res < 0)
		return res;
	const uint8_t *stored = (const uint8_t *)from + record_header_bytes(known->frame_count) +
				record_prefix_bytes(known->type);
	return record_frames_whole(known, known_frames, stored) ? 0 : -VS_ECHECKSUM;
}

void segment_header_encode(const uint8_t uuid[16], uint64_t segment_id, uint32_t slot,
			   uint8_t out[SEGMENT_HEADER_BYTES])
{
	memset(out, 0, SEGMENT_HEADER_BYTES);
	struct cursor c = cursor_over(out, SEGMENT_HEADER_BYTES - 4);
	put_bytes(&c, segment_magic, 8);
	put_bytes(&c, uuid, 16);
	put_u64(&c, segment_id);
	put_u32(&c, slot);
	put_u32(&c, 0); /* device */
	c = cursor_over(out + SEGMENT_HEADER_BYTES - 4, 4);
	put_u32(&c, crc32c(0, out, SEGMENT_HEADER_BYTES - 4));
}

int segment_header_decode(const uint8_t uuid[16], uint64_t segment_id, uint32_t slot,
			  const uint8_t in[SEGMENT_HEADER_BYTES])
{
	uint8_t want[SEGMENT_HEADER_BYTES];
	segment_header_encode(uuid, segment_id, slot, want);
	return memcmp(in, want, SEGMENT_HEADER_BYTES) == 0 ? 0 : -VS_EFORMAT;
}

/* ---- the directory ---- */

void directory_free(struct directory *directory)
{
	if (!directory)
		return;
	free(directory->entries);
	free(directory->frames);
	free(directory);
}

int directory_add(struct directory *directory, const struct dir_entry *entry,
		  const struct frame_entry *frames)
{
	if (directory->entry_count == directory->entry_room) {
		uint32_t room = directory->entry_room ? directory->entry_room * 2 : 512;
		struct dir_entry *more = reallocarray(directory->entries, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		directory->entries = more;
		directory->entry_room = room;
	}
	if (directory->frame_count + entry->frame_count > directory->frame_room) {
		uint32_t room = directory->frame_room ? directory->frame_room * 2 : 2048;
		struct frame_entry *more = reallocarray(directory->frames, room, sizeof(*more));
		if (!more)
			return -ENOMEM;
		directory->frames = more;
		directory->frame_room = room;
	}
	struct dir_entry *to = &directory->entries[directory->entry_count++];
	*to = *entry;
	to->frame_first = directory->frame_count;
	memcpy(&directory->frames[directory->frame_count], frames,
	       entry->frame_count * sizeof(*frames));
	directory->frame_count += entry->frame_count;
	return 0;
}

struct dir_entry *directory_find(struct directory *directory, uint32_t offset64)
{
	uint32_t low = 0, high = directory->entry_count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (directory->entries[middle].offset64 < offset64)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == directory->entry_count || directory->entries[low].offset64 != offset64)
		return NULL;
	return &directory->entries[low];
}

size_t footer_bytes_for(size_t entry_count, size_t frame_count)
{
	size_t bytes = frame_count * RECORD_FRAME_BYTES + entry_count * (RECORD_HEADER_BYTES + 4);
	return round_up(bytes, BLOCK_BYTES) + BLOCK_BYTES;
}

static_assert(SEGMENT_FILE_BYTES % SEGMENT_PART_BYTES == 0 && SEGMENT_PART_BYTES % BLOCK_BYTES == 0,
	      "whole parts, whole blocks");

uint64_t segment_data_bytes(uint64_t file_bytes)
{
	if (file_bytes >= SEGMENT_FILE_BYTES)
		return SEGMENT_BYTES;
	return file_bytes - max_u64(file_bytes / 65, 32 * KIB);
}

bool segment_length_open(uint64_t file_bytes)
{
	return file_bytes > 0 && file_bytes <= SEGMENT_FILE_BYTES &&
	       file_bytes % SEGMENT_PART_BYTES == 0;
}

uint64_t footer_offset(const struct directory *directory, uint64_t end)
{
	return segment_length_open(end + footer_bytes(directory)) ? end + BLOCK_BYTES : end;
}

size_t footer_bytes(const struct directory *directory)
{
	return footer_bytes_for(directory->entry_count, directory->frame_count);
}

void footer_encode(const struct directory *directory, uint64_t segment_id, uint64_t offset,
		   uint8_t *out)
{
	size_t bytes = footer_bytes(directory);
	memset(out, 0, bytes);
	uint8_t *at = out;
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		uint32_t offset64 = htole32(entry->offset64);
		memcpy(at, &offset64, 4);
		at += 4;
		at += record_encode_header(at, entry, &directory->frames[entry->frame_first]);
	}
	uint8_t *trailer = out + bytes - BLOCK_BYTES;
	struct cursor c = cursor_over(trailer, BLOCK_BYTES - 4);
	put_bytes(&c, trailer_magic, 8);
	put_u64(&c, segment_id);
	put_u64(&c, offset);
	put_u64(&c, (uint64_t)(at - out));
	put_u32(&c, directory->entry_count);
	put_u32(&c, crc32c(0, out, (size_t)(at - out)));
	c = cursor_over(trailer + BLOCK_BYTES - 4, 4);
	put_u32(&c, crc32c(0, trailer, BLOCK_BYTES - 4));
}

int trailer_decode(const uint8_t in[BLOCK_BYTES], uint64_t segment_id, uint64_t file_bytes,
		   struct trailer *ret)
{
	struct cursor c = cursor_reading(in + BLOCK_BYTES - 4, 4);
	if (memcmp(in, trailer_magic, 8) != 0)
		return -VS_EFORMAT;
	if (get_u32(&c) != crc32c(0, in, BLOCK_BYTES - 4))
		return -VS_ECHECKSUM;
	c = cursor_reading(in + 8, 32);
	uint64_t id = get_u64(&c);
	ret->offset = get_u64(&c);
	ret->bytes = get_u64(&c);
	ret->entry_count = get_u32(&c);
	ret->crc = get_u32(&c);
	if (id != segment_id || ret->bytes > file_bytes || ret->offset > SEGMENT_BYTES ||
	    ret->offset % BLOCK_BYTES ||
	    ret->offset + round_up(ret->bytes, BLOCK_BYTES) + BLOCK_BYTES != file_bytes)
		return -VS_EFORMAT;
	return 0;
}

int directory_decode(const struct trailer *trailer, const uint8_t *in,
		     struct directory **ret_directory)
{
	if (crc32c(0, in, trailer->bytes) != trailer->crc)
		return -VS_ECHECKSUM;
	struct directory *directory = calloc(1, sizeof(*directory));
	if (!directory)
		return -ENOMEM;
	struct cursor c = cursor_reading(in, trailer->bytes);
	uint64_t end64 = SEGMENT_HEADER_BYTES / RECORD_ALIGN;
	int res = 0;
	for (uint32_t i = 0; i < trailer->entry_count && res == 0; i++) {
		struct dir_entry entry;
		struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
		uint32_t offset64 = get_u32(&c);
		res = record_decode_header(c.at, cursor_left(&c), &entry, frames);
		if (res == 0 && (offset64 < end64 || offset64 >= SEGMENT_BYTES / RECORD_ALIGN))
			res = -VS_EFORMAT;
		if (res < 0)
			break;
		cursor_take(&c, record_header_bytes(entry.frame_count));
		entry.offset64 = offset64;
		end64 = offset64 +
			round_up(record_bytes(&entry, frames), RECORD_ALIGN) / RECORD_ALIGN;
		res = directory_add(directory, &entry, frames);
	}
	if (res < 0) {
		directory_free(directory);
		return res;
	}
	*ret_directory = directory;
	return 0;
}
