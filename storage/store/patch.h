/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stored chunk some blocks of which are new: what it becomes, frame by frame. Pure functions over
 * buffers, run as a put's jobs.
 */
#ifndef STORAGE_STORE_PATCH_H
#define STORAGE_STORE_PATCH_H

#include "storage/store/record.h"

struct patch {
	/* What is known of the chunk before. */
	struct id base_id;
	const uint8_t
		*record; /* its quarters' hashes and frames, as read; NULL: it cannot be read */
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t frame_bytes;
	uint16_t fresh;	 /* the blocks that are new: they are in raw */
	uint16_t unread; /* blocks that are new too, but cannot be read: lost, never the old ones */

	/* What patch_hash finds. */
	uint16_t lost;	   /* blocks that nobody has */
	uint16_t lost_now; /* of those: what was not known as lost before */
	bool keep;	   /* frames without a new block are taken as they are stored */
};

/* Decodes into raw what the new id needs, and no more; a block that is neither new nor readable is
 * lost (and zero in raw). scratch: CHUNK_BYTES. */
void patch_hash(struct codec *codec, unsigned worker_no, const struct domain_key *key,
		struct patch *patch, uint32_t new_frame_bytes, uint8_t *raw, uint8_t *scratch,
		uint8_t ret_quarters[QUARTER_COUNT][32], bool *ret_zero, struct id *ret_id);
/* As codec_encode, after patch_hash. A chunk with lost blocks has frames of one block each, so that
 * what is not lost can be read: *ret_frame_bytes. */
int64_t patch_encode(struct codec *codec, unsigned worker_no, int level, const struct patch *patch,
		     uint32_t new_frame_bytes, const uint8_t *raw, const struct id *id, void *out,
		     struct frame_entry ret_frames[FRAMES_PER_CHUNK_MAX],
		     uint32_t *ret_frame_bytes);

#endif
