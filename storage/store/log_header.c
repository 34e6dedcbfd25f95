/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A commit's header in bytes.
 *
 * Keeps true: what is decoded was made with this store's secret, and says of no more bytes than
 * there are.
 */
#include "storage/store/log_int.h"

#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/codec.h"
#include "storage/store/mutant.h"

#include <assert.h>
#include <string.h>

const char commit_magic[8] = "VSCOMMIT";

static void header_check(const struct log *log, const uint8_t *header, uint32_t header_blocks,
			 uint8_t ret[16])
{
	codec_keyed_check(log->options.secret, header, 88, header + HEADER_FIXED_BYTES,
			  header_blocks * (size_t)BLOCK_BYTES - HEADER_FIXED_BYTES, ret);
}

void header_encode(const struct log *log, const struct commit_header *h, uint8_t *out)
{
	struct cursor c = cursor_over(out, HEADER_FIXED_BYTES);
	put_bytes(&c, commit_magic, 8);
	put_bytes(&c, log->options.uuid, 16);
	put_u64(&c, h->seq);
	put_u64(&c, h->pos);
	put_u64(&c, h->durable_through);
	put_bytes(&c, h->prev, 16);
	put_u32(&c, h->record_bytes);
	put_u32(&c, h->record_count);
	put_u32(&c, h->header_blocks);
	put_u32(&c, h->payload_blocks);
	put_u32(&c, h->flags);
	put_u32(&c, MUTANT(70) ? 0 : log->life);
	put_zeros(&c, 16);
	assert(!c.failed);
	header_check(log, out, h->header_blocks, out + 88);
}

int header_decode(const struct log *log, const uint8_t *in, size_t bytes, struct commit_header *h)
{
	struct cursor c = cursor_reading(in, bytes);
	const uint8_t *magic = cursor_take(&c, 8), *uuid = cursor_take(&c, 16);
	if (!uuid || memcmp(magic, commit_magic, 8) != 0 ||
	    memcmp(uuid, log->options.uuid, 16) != 0)
		return -VS_EFORMAT;
	h->seq = get_u64(&c);
	h->pos = get_u64(&c);
	h->durable_through = get_u64(&c);
	get_bytes(&c, h->prev, 16);
	h->record_bytes = get_u32(&c);
	h->record_count = get_u32(&c);
	h->header_blocks = get_u32(&c);
	h->payload_blocks = get_u32(&c);
	h->flags = get_u32(&c);
	get_u32(&c); /* the life that wrote it: only its checksum tells it from others */
	get_bytes(&c, h->check, 16);
	if (c.failed || h->header_blocks == 0 || h->header_blocks > COMMIT_HEADER_BLOCKS ||
	    (!(h->flags & COMMIT_PAD) && h->payload_blocks > COMMIT_PAYLOAD_BLOCKS) ||
	    h->payload_blocks > log->options.block_count ||
	    h->record_bytes > COMMIT_HEADER_BLOCKS * BLOCK_BYTES)
		return -VS_EFORMAT;
	uint64_t need = HEADER_FIXED_BYTES + (uint64_t)h->record_bytes;
	if (!(h->flags & COMMIT_PAD))
		need += 4 * (uint64_t)h->payload_blocks;
	if (need > h->header_blocks * (uint64_t)BLOCK_BYTES ||
	    h->header_blocks * (uint64_t)BLOCK_BYTES > bytes)
		return -VS_EFORMAT;
	uint8_t check[16];
	header_check(log, in, h->header_blocks, check);
	if (memcmp(check, h->check, 16) != 0 && !MUTANT(1))
		return -VS_ECHECKSUM;
	return 0;
}
