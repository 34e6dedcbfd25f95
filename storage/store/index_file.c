/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the index's files, see FORMAT.md. Keeps true: what comes out of here was proved by a
 * checksum; nothing else is believed of a file but what its own head says.
 */
#include "storage/store/index_file.h"

#include "proto/crc32c.h"
#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/mutant.h"
#include "storage/store/record.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

static const char index_magic[8] = "VSINDEX1";
#define SEGMENTS_MAX (INDEX_SLOT_MAX + 1)

const char *index_file_name(uint64_t generation)
{
	return generation % 2 ? "index.1" : "index.0";
}

void index_header_encode(const uint8_t uuid[16], const struct index_header *header,
			 uint8_t out[INDEX_HEADER_BYTES])
{
	struct cursor c = cursor_over(out, INDEX_HEADER_BYTES);
	put_bytes(&c, index_magic, 8);
	put_bytes(&c, uuid, 16);
	put_u64(&c, header->generation);
	put_u64(&c, header->next_segment_id);
	put_u64(&c, header->entry_count);
	put_u64(&c, header->segments_offset);
	put_u32(&c, header->segment_count);
	put_u32(&c, INDEX_SHARDS);
	put_u32(&c, header->table_crc);
	put_u32(&c, header->segments_crc);
	put_zeros(&c, cursor_left(&c) - 4);
	put_u32(&c, crc32c(0, out, INDEX_HEADER_BYTES - 4));
	assert(!c.failed);
}

int index_header_decode(const uint8_t uuid[16], const uint8_t in[INDEX_HEADER_BYTES],
			struct index_header *ret)
{
	struct cursor c = cursor_reading(in, INDEX_HEADER_BYTES);
	struct cursor end = cursor_reading(in + INDEX_HEADER_BYTES - 4, 4);
	uint8_t from_magic[8], from_uuid[16];
	get_bytes(&c, from_magic, 8);
	get_bytes(&c, from_uuid, 16);
	ret->generation = get_u64(&c);
	ret->next_segment_id = get_u64(&c);
	ret->entry_count = get_u64(&c);
	ret->segments_offset = get_u64(&c);
	ret->segment_count = get_u32(&c);
	uint32_t shards = get_u32(&c);
	ret->table_crc = get_u32(&c);
	ret->segments_crc = get_u32(&c);
	if (memcmp(from_magic, index_magic, 8) != 0 || memcmp(from_uuid, uuid, 16) != 0)
		return -VS_EFORMAT;
	if (get_u32(&end) != crc32c(0, in, INDEX_HEADER_BYTES - 4))
		return -VS_ECHECKSUM;
	if (shards != INDEX_SHARDS || ret->segment_count > SEGMENTS_MAX ||
	    ret->entry_count > INDEX_ENTRIES_MAX ||
	    ret->segments_offset !=
		    INDEX_PAGES_OFFSET + round_up(8 * ret->entry_count, BLOCK_BYTES))
		return -VS_EFORMAT;
	return 0;
}

void index_page_encode(const struct index_page *page, uint8_t out[8])
{
	struct cursor c = cursor_over(out, 8);
	put_u32(&c, page->entry_count);
	put_u32(&c, page->crc);
}

void index_segment_encode(const struct index_segment *segment, uint8_t out[INDEX_SEGMENT_BYTES])
{
	struct cursor c = cursor_over(out, INDEX_SEGMENT_BYTES);
	put_u64(&c, segment->id);
	put_u32(&c, segment->slot);
	put_u32(&c, segment->blocks);
}

/* Started from the shard's number, so that one page never passes for another. */
uint32_t index_page_crc(uint32_t shard_no, const void *at, uint64_t bytes)
{
	return crc32c(shard_no, at, bytes);
}

bool index_page_good(const struct index_page *page, uint32_t shard_no, const void *at)
{
	return index_page_crc(shard_no, at, 8ull * page->entry_count) == page->crc || MUTANT(21);
}

/* The table must say of how many entries the file is, page by page. */
static int table_decode(const struct index_header *header, const uint8_t *in,
			struct index_page *pages)
{
	struct cursor c = cursor_reading(in, INDEX_TABLE_BYTES);
	uint64_t sum = 0;
	if (crc32c(0, in, INDEX_TABLE_BYTES) != header->table_crc)
		return -VS_ECHECKSUM;
	for (uint32_t i = 0; i < INDEX_SHARDS; i++) {
		pages[i].entry_count = get_u32(&c);
		pages[i].crc = get_u32(&c);
		sum += pages[i].entry_count;
		if (pages[i].entry_count > INDEX_PAGE_ENTRIES_MAX)
			return -VS_EFORMAT;
	}
	return sum == header->entry_count ? 0 : -VS_EFORMAT;
}

int index_head_decode(const uint8_t uuid[16], const uint8_t *in, struct index_head *ret)
{
	struct index_head head = {0};
	*ret = head;
	int res = index_header_decode(uuid, in, &head.header);
	if (res < 0)
		return res;
	head.pages = malloc(INDEX_SHARDS * sizeof(*head.pages));
	head.segments = calloc(head.header.segment_count + 1, sizeof(*head.segments));
	res = head.pages && head.segments
		      ? table_decode(&head.header, in + INDEX_HEADER_BYTES, head.pages)
		      : -ENOMEM;
	if (res < 0)
		index_head_free(&head);
	else
		*ret = head;
	return res;
}

int index_list_decode(struct index_head *head, const uint8_t *in)
{
	uint64_t bytes = head->header.segment_count * (uint64_t)INDEX_SEGMENT_BYTES;
	struct cursor c = cursor_reading(in, bytes);
	if (crc32c(0, in, bytes) != head->header.segments_crc)
		return -VS_ECHECKSUM;
	for (uint32_t i = 0; i < head->header.segment_count; i++) {
		struct index_segment *segment = &head->segments[i];
		segment->id = get_u64(&c);
		segment->slot = get_u32(&c);
		segment->blocks = get_u32(&c);
		if (segment->slot == 0 || segment->slot > INDEX_SLOT_MAX ||
		    segment->id >= head->header.next_segment_id ||
		    segment->blocks < SEGMENT_HEADER_BYTES / BLOCK_BYTES + 1)
			return -VS_EFORMAT;
	}
	return 0;
}

void index_head_free(struct index_head *head)
{
	free(head->pages);
	free(head->segments);
	*head = (struct index_head){0};
}
