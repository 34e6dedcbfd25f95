/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps true:
 *  - a frame that is kept is copied as it is stored, and its checksum is moved to the new id
 * without looking at the bytes: rot stays rot;
 *  - a quarter's stored hash counts only when the id proves it;
 *  - what cannot be read is lost and says so from then on; it never becomes zeros that look like
 * data. The id of such a chunk says which blocks are lost, so a whole chunk never meets it.
 */
#include "storage/store/patch.h"

#include "proto/crc32c.h"
#include "storage/store/mutant.h"

#include <assert.h>

#define ALL_BLOCKS 0xffffu
#define BLOCKS_PER_QUARTER (QUARTER_BYTES / BLOCK_BYTES)

static unsigned frame_count(const struct patch *patch)
{
	return CHUNK_BYTES / patch->frame_bytes;
}

static uint16_t frame_blocks(const struct patch *patch, unsigned frame_no)
{
	unsigned blocks = patch->frame_bytes / BLOCK_BYTES;
	return (uint16_t)(((1u << blocks) - 1) << frame_no * blocks);
}

static bool frame_kept(const struct patch *patch, unsigned frame_no)
{
	uint16_t fresh = patch->fresh & frame_blocks(patch, frame_no);
	return !fresh || (MUTANT(31) && !(fresh & (fresh - 1)));
}

static uint16_t quarter_blocks(unsigned quarter)
{
	return (uint16_t)(((1u << BLOCKS_PER_QUARTER) - 1) << quarter * BLOCKS_PER_QUARTER);
}

static bool frame_whole(const struct patch *patch, unsigned frame_no, const uint8_t *stored)
{
	return codec_frame_whole(&patch->base_id, frame_no, &patch->frames[frame_no], stored) ||
	       MUTANT(32);
}

/* Before anything is decoded: which of the old blocks that are still needed cannot be had? */
static void patch_damage(struct patch *patch)
{
	patch->lost = patch->lost_now = patch->unread;
	if (!patch->record) {
		patch->lost = patch->lost_now = (uint16_t)~patch->fresh;
		return;
	}
	const uint8_t *stored = patch->record + RECORD_QUARTERS_BYTES;
	for (unsigned i = 0; i < frame_count(patch); i++) {
		uint16_t need = frame_blocks(patch, i) & (uint16_t) ~(patch->fresh | patch->unread);
		bool known = patch->frames[i].codec == FRAME_LOST;
		if (need && (known || !frame_whole(patch, i, stored))) {
			patch->lost |= need;
			patch->lost_now |= known ? 0 : need;
		}
		stored += patch->frames[i].stored_bytes;
	}
}

/* The old blocks of the frames that reach into `want`. What does not decode is lost; true: nothing
 * more was. */
static bool patch_decode(struct codec *codec, unsigned worker_no, struct patch *patch,
			 uint16_t want, uint8_t *raw, uint8_t *scratch)
{
	uint16_t lost = patch->lost;
	const uint8_t *stored = patch->record + RECORD_QUARTERS_BYTES;
	for (unsigned i = 0; patch->record && i < frame_count(patch); i++) {
		const struct frame_entry *frame = &patch->frames[i];
		uint16_t all = frame_blocks(patch, i);
		uint16_t need = all & (uint16_t) ~(patch->fresh | patch->lost);
		uint8_t *at = raw + (size_t)i * patch->frame_bytes;
		uint8_t *to = need == all ? at : scratch;
		if (need && all & want) {
			int res = codec_decode(codec, worker_no, frame, i, &patch->base_id, stored,
					       to, patch->frame_bytes);
			if (res < 0) {
				patch->lost |= need;
				patch->lost_now |= need;
				need = 0;
			}
			for (unsigned b = 0; b < CHUNK_BLOCKS && to == scratch; b++)
				if (need & 1u << b)
					memcpy(raw + (size_t)b * BLOCK_BYTES,
					       scratch + (size_t)b * BLOCK_BYTES -
						       (size_t)i * patch->frame_bytes,
					       BLOCK_BYTES);
		}
		stored += frame->stored_bytes;
	}
	return patch->lost == lost;
}

static bool patch_zero(const struct patch *patch, uint32_t new_frame_bytes, const uint8_t *raw)
{
	if (patch->lost)
		return false;
	if (!patch->keep)
		return codec_is_zero(raw, CHUNK_BYTES);
	for (unsigned i = 0; i < frame_count(patch); i++) {
		if (frame_kept(patch, i)
			    ? patch->frames[i].codec != FRAME_ZERO
			    : !codec_is_zero(raw + (size_t)i * new_frame_bytes, new_frame_bytes))
			return false;
	}
	return true;
}

void patch_hash(struct codec *codec, unsigned worker_no, const struct domain_key *key,
		struct patch *patch, uint32_t new_frame_bytes, uint8_t *raw, uint8_t *scratch,
		uint8_t ret_quarters[QUARTER_COUNT][32], bool *ret_zero, struct id *ret_id)
{
	bool proven = false;
	patch_damage(patch);
	if (patch->record) {
		struct id id;
		memcpy(ret_quarters, patch->record, RECORD_QUARTERS_BYTES);
		codec_id_quarters(key, (const uint8_t(*)[32])ret_quarters, &id);
		proven = id_equal(&id, &patch->base_id);
	}
	uint16_t want;
	do { /* ends: each round finds more that is lost */
		patch->keep = !patch->lost && patch->frame_bytes == new_frame_bytes;
		want = 0;
		for (unsigned q = 0; q < QUARTER_COUNT; q++)
			if (patch->fresh & quarter_blocks(q) || !proven || !patch->keep)
				want |= quarter_blocks(q);
	} while (!patch_decode(codec, worker_no, patch, want, raw, scratch));
	for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
		if (patch->lost & 1u << b)
			memset(raw + (size_t)b * BLOCK_BYTES, 0, BLOCK_BYTES);
	if (MUTANT(33))
		patch->lost = 0;
	if (want == ALL_BLOCKS)
		codec_hash_quarters(raw, ret_quarters);
	else
		for (unsigned q = 0; q < QUARTER_COUNT; q++)
			if (want & quarter_blocks(q))
				codec_hash_quarter(raw + (size_t)q * QUARTER_BYTES,
						   ret_quarters[q]);
	if (patch->lost)
		codec_id_lost(key, (const uint8_t(*)[32])ret_quarters, patch->lost, ret_id);
	else
		codec_id_quarters(key, (const uint8_t(*)[32])ret_quarters, ret_id);
	*ret_zero = patch_zero(patch, new_frame_bytes, raw);
}

int64_t patch_encode(struct codec *codec, unsigned worker_no, int level, const struct patch *patch,
		     uint32_t new_frame_bytes, const uint8_t *raw, const struct id *id, void *out,
		     struct frame_entry ret_frames[FRAMES_PER_CHUNK_MAX], uint32_t *ret_frame_bytes)
{
	uint32_t frame_bytes = *ret_frame_bytes = patch->lost ? BLOCK_BYTES : new_frame_bytes;
	const uint8_t *stored = patch->keep ? patch->record + RECORD_QUARTERS_BYTES : NULL;
	uint8_t *at = out;
	for (unsigned i = 0; i < CHUNK_BYTES / frame_bytes; i++) {
		struct frame_entry *frame = &ret_frames[i];
		uint32_t seed = codec_crc_seed(id, i);
		if (patch->lost & 1u << i) { /* its frames are blocks */
			*frame = (struct frame_entry){.codec = FRAME_LOST,
						      .crc = crc32c(seed, at, 0)};
		} else if (patch->keep && frame_kept(patch, i)) {
			*frame = patch->frames[i];
			memcpy(at, stored, frame->stored_bytes);
			frame->crc = MUTANT(32) ? crc32c(seed, at, frame->stored_bytes)
						: codec_crc_move(frame->crc,
								 codec_crc_seed(&patch->base_id, i),
								 seed, frame->stored_bytes);
		} else {
			codec_encode_frame(codec, worker_no, level, raw + (size_t)i * frame_bytes,
					   frame_bytes, id, i, at, frame);
		}
		at += frame->stored_bytes;
		if (stored)
			stored += patch->frames[i].stored_bytes;
	}
	return at - (uint8_t *)out;
}
