/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Replay: what the chain of commits holds after an opening, applied once more, in its order.
 *
 * Keeps true: the chain ends where the next commit is not whole. Where a later one says that this
 * one was durable, that is damage, and nothing is cut; else it was torn, nothing of it was
 * promised, and its header is wiped, so that what was cut never becomes whole again.
 */
#include "storage/store/log_int.h"

#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/mutant.h"
#include "storage/store/recovery.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Does a whole header among these blocks, which start at the ring's block `ring`, claim that `seq`
 * was durable? */
static bool blocks_claim(const struct log *log, uint64_t seq, const uint8_t *window,
			 uint32_t blocks, uint64_t ring)
{
	for (uint32_t i = 0; i < blocks; i++) {
		const uint8_t *block = window + (size_t)i * BLOCK_BYTES;
		struct commit_header h;
		if (memcmp(block, commit_magic, 8) == 0 &&
		    header_decode(log, block, (size_t)(blocks - i) * BLOCK_BYTES, &h) == 0 &&
		    h.pos % log->options.block_count == ring + i && h.seq > seq &&
		    h.durable_through >= seq)
			return true;
	}
	return false;
}

/* After the chain ended: does a later commit claim that the one missing there was durable? Then
 * blocks rotted and the chain must not be cut. If so, the first commit that begins WINDOW_BLOCKS
 * behind it does, at the latest; one more is looked at, should that one have rotted too. */
static int log_find_claim(struct log *log, uint8_t *window, uint32_t window_blocks)
{
	uint64_t count = log->options.block_count;
	uint64_t most = WINDOW_BLOCKS(log) + 2 * (COMMIT_HEADER_BLOCKS + COMMIT_PAYLOAD_BLOCKS);
	if (MUTANT(24))
		most = WINDOW_BLOCKS(log) / 4;
	most = min_u64(most + COMMIT_HEADER_BLOCKS, count);
	for (uint64_t at = 0; at < most;) {
		uint64_t ring = (log->next.pos + at) % count;
		uint32_t blocks =
			(uint32_t)min_u64(min_u64(window_blocks, count - ring), most - at);
		int64_t got = env_file_read_wait(log->file, window, blocks * BLOCK_BYTES,
						 ring * BLOCK_BYTES);
		if (got < 0)
			return (int)got;
		if (blocks_claim(log, log->next.seq, window, blocks, ring))
			return 1;
		/* A header that this window cuts is whole in the next; at the ring's end none is.
		 */
		bool cut = at + blocks < most && ring + blocks < count;
		at += cut ? blocks - COMMIT_HEADER_BLOCKS + 1 : blocks;
	}
	return 0;
}

static int commit_apply(struct log *log, const struct commit_header *h, const uint8_t *header)
{
	struct cursor c = cursor_reading(header + HEADER_FIXED_BYTES, h->record_bytes);
	uint64_t payload = (h->pos + h->header_blocks) % log->options.block_count;
	uint64_t used = 0;
	uint32_t crc[COMMIT_PAYLOAD_BLOCKS];
	struct cursor crcs = cursor_reading(header + HEADER_FIXED_BYTES + h->record_bytes,
					    4 * (size_t)h->payload_blocks);
	for (uint32_t i = 0; i < h->payload_blocks; i++)
		crc[i] = get_u32(&crcs);
	log->applying_pos = h->pos;
	for (uint32_t i = 0; i < h->record_count; i++) {
		uint16_t bytes;
		if (cursor_left(&c) < 8)
			return -VS_EFORMAT;
		memcpy(&bytes, c.at + 2, 2);
		const void *record = cursor_take(&c, le16toh(bytes));
		if (!record || le16toh(bytes) < 8)
			return -VS_EFORMAT;
		struct log_payload left = {.log_block = (uint32_t)(payload + used),
					   .block_count = (uint32_t)(h->payload_blocks - used),
					   .crc = crc + used};
		int res = log->owner->apply(log->owner, record, le16toh(bytes), &left);
		if (res < 0)
			return res;
		if ((uint32_t)res > left.block_count)
			return -VS_EFORMAT;
		used += (uint64_t)res;
	}
	return used == h->payload_blocks && cursor_left(&c) == 0 ? 0 : -VS_EFORMAT;
}

static bool payload_good(const struct log *log, const struct commit_header *h,
			 const uint8_t *header)
{
	uint64_t ring = (h->pos + h->header_blocks) % log->options.block_count;
	struct cursor crcs = cursor_reading(header + HEADER_FIXED_BYTES + h->record_bytes,
					    4 * (size_t)h->payload_blocks);
	const uint8_t *payload = header + (size_t)h->header_blocks * BLOCK_BYTES;
	for (uint32_t i = 0; i < h->payload_blocks; i++)
		if (get_u32(&crcs) !=
			    log_block_crc((uint32_t)ring + i, payload + (size_t)i * BLOCK_BYTES) &&
		    !MUTANT(5))
			return false;
	return true;
}

/* Is the commit at `header`, of which `blocks` can be read, the next one of the chain? */
static int commit_next(const struct log *log, const uint8_t *header, uint64_t blocks,
		       struct commit_header *h)
{
	int res = header_decode(log, header, blocks * BLOCK_BYTES, h);
	if (res < 0)
		return res;
	if (h->seq != log->next.seq || h->pos != log->next.pos)
		return -VS_EFORMAT;
	if (memcmp(h->prev, log->next.chain, CHECK_BYTES) != 0 && !MUTANT(1))
		return -VS_ECHECKSUM;
	if (h->flags & COMMIT_PAD)
		return 0;
	if (h->header_blocks + h->payload_blocks > blocks)
		return -VS_EFORMAT;
	return payload_good(log, h, header) ? 0 : -VS_ECHECKSUM;
}

/* Applies commits while there is a next one. 0: there is none; negative: the disk or the owner said
 * no. */
static int chain_walk(struct log *log, uint8_t *window, uint32_t window_blocks)
{
	uint64_t start = 0, end = 0; /* positions that the window holds */
	for (;;) {
		uint64_t pos = log->next.pos, ring = pos % log->options.block_count;
		uint64_t most = min_u64(COMMIT_HEADER_BLOCKS + COMMIT_PAYLOAD_BLOCKS,
					log->options.block_count - ring);
		if (pos < start || pos + most > end) {
			uint32_t blocks =
				(uint32_t)min_u64(window_blocks, log->options.block_count - ring);
			int64_t got = env_file_read_wait(log->file, window, blocks * BLOCK_BYTES,
							 ring * BLOCK_BYTES);
			if (got < 0)
				return (int)got;
			start = pos;
			end = pos + (uint64_t)got / BLOCK_BYTES;
		}
		const uint8_t *header = window + (pos - start) * BLOCK_BYTES;
		struct commit_header h;
		if (end == pos || commit_next(log, header, end - pos, &h) < 0)
			return 0;
		int res = h.flags & COMMIT_PAD ? 0 : commit_apply(log, &h, header);
		if (res < 0)
			return res;
		memcpy(log->next.chain, header + 88, CHECK_BYTES);
		log->done_seq = log->next.seq++;
		log->next.pos += h.header_blocks + h.payload_blocks;
	}
}

/* Where the chain ended: a torn tail, or the place of a commit that was durable and has rotted? */
static int chain_end(struct log *log, uint8_t *window, uint32_t window_blocks)
{
	int found = log_find_claim(log, window, window_blocks);
	uint8_t facts[] = {COMMIT_OTHER, found < 0   ? CLAIM_UNREADABLE
					 : found > 0 ? CLAIM_FOUND
						     : CLAIM_NONE};
	switch (recovery_decide(&recovery_chain, facts)) {
	case CHAIN_CUT:
		return 0;
	case CHAIN_LOST:
		return -VS_ELOST;
	default:
		return found;
	}
}

/* A torn commit that was cut here may lack one sector only. The next commit goes over it, and a
 * power cut that keeps just that sector of it would make the old one whole: what was seen to be
 * gone would be back. So its header goes, before anything is appended. */
static int torn_wipe(struct log *log, uint8_t *block)
{
	uint64_t count = log->options.block_count, at = log->next.pos % count * BLOCK_BYTES;
	if (log->options.read_only || log->next.pos - log->tail_pos >= count)
		return 0; /* in a full ring, what lies here is still needed */
	int64_t res = env_file_read_wait(log->file, block, BLOCK_BYTES, at);
	if (res < 0 || memcmp(block, commit_magic, 8) != 0)
		return res < 0 ? (int)res : 0;
	memset(block, 0, BLOCK_BYTES);
	res = env_file_write_wait(log->file, block, BLOCK_BYTES, at);
	return res < 0 ? (int)res : 0;
}

int log_replay(struct log *log, const struct log_place *from, uint64_t tail_pos)
{
	uint32_t window_blocks = 4 * (COMMIT_HEADER_BLOCKS + COMMIT_PAYLOAD_BLOCKS);
	uint8_t *window = env_memory(log->env, window_blocks * (size_t)BLOCK_BYTES);
	if (!window)
		return -ENOMEM;
	log->next = *from;
	assert(tail_pos <= from->pos);
	log->tail_pos = tail_pos;
	log->done_seq = from->seq - 1;
	int res = chain_walk(log, window, window_blocks);
	if (res == 0)
		res = chain_end(log, window, window_blocks);
	if (res == 0)
		res = torn_wipe(log, window);
	env_memory_free(log->env, window, window_blocks * (size_t)BLOCK_BYTES);
	if (res == 0) /* what was replayed may lie in the device's cache only */
		res = env_file_sync_wait(log->file);
	log->durable_seq = log->done_seq;
	log->durable_pos = log->next.pos;
	log->failed = res < 0;
	return res;
}
