/* SPDX-License-Identifier: Apache-2.0 */
/* Emptying one segment: what is dead leaves the index, what is alive moves. */
#ifndef STORAGE_STORE_COMPACT_H
#define STORAGE_STORE_COMPACT_H

#include "storage/store/census.h"
#include "storage/store/pace.h"
#include "storage/store/segments.h"

#define COPY_COUNT 8u
#define COPY_ROOM (CHUNK_BYTES + 4096u + 2u * 4096u) /* a record, and what its read takes along */
#define OUTPUTS_MAX 3u

struct compact;

/* A record on its way to another segment. */
struct copy {
	struct compact *compact;
	uint32_t entry; /* in the directory */
	bool busy;
	struct io_op op;
	struct env_job job;
	struct wait wait;
	uint8_t *stored, *raw; /* of the collection's memory */
	uint32_t skip_bytes, record_bytes;

	/* pack.c's: the record anew, in compact->packed, and how far it is. */
	bool packed;
	struct copy *pack_next;
	unsigned frame_no;
	uint32_t packed_from, packed_bytes;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
};

enum compact_phase {
	COMPACT_LOAD,
	COMPACT_WEIGH,
	COMPACT_SIFT,
	COMPACT_COPY,
	COMPACT_DURABLE,
	COMPACT_SWAP,
	COMPACT_EMPTY, /* nobody finds a record there any more */
	COMPACT_KEPT,  /* it stays: not worth it, no room for it now, or something in it is bad */
};

struct compact {
	struct work *work;
	struct store *store;
	struct segment *segment; /* in use until compact_end */
	enum compact_phase phase;
	uint32_t garbage_percent_min; /* with less than this it is not worth it */
	uint32_t at, busy, move_at;
	uint32_t *moves; /* live entries */
	uint32_t move_count, move_room;
	uint64_t live_bytes, move_bytes, move_frames;
	struct segment *outputs[OUTPUTS_MAX];
	uint64_t output_ends[OUTPUTS_MAX];
	unsigned output_count, output_at;
	struct durable_wait durable;
	/* Beside guests: so many times as long as a batch of copies took, it rests after it. */
	unsigned rest_parts, batch;
	uint64_t batch_begun_ns;
	struct guests_seen guests;
	struct env_timer rest;
	int res;
	bool bad; /* a record failed its check */
	struct copy copies[COPY_COUNT];
	uint8_t *memory;
	size_t memory_bytes;
	unsigned
		pack_level; /* records of this segment are compressed anew; 0: as they are stored */
	struct copy *packing, *pack_queue;
	struct env_timer pack_timer;
	uint64_t pack_begun_ns;
	uint8_t *packed;
	uint64_t moved_bytes, bad_records; /* of all segments so far */
};

/* packs: some segments will be given a pack_level. */
int compact_init(struct compact *compact, struct work *work, bool packs);
void compact_exit(struct compact *compact);
/* pack_level: of zstd, for its records, also when it has no garbage; 0: they stay as they are.
 * rest_parts: see above; 0: no rest. */
void compact_start(struct compact *compact, struct segment *segment, uint32_t garbage_percent_min,
		   unsigned pack_level, unsigned rest_parts);
/* WAITING, WALK_MORE; 0: phase says whether it is empty or stays; negative: the collection ends. */
int compact_step(struct compact *compact);
bool compact_busy(const struct compact *compact);
void compact_end(struct compact *compact); /* lets go of the segment */
void copy_append(struct wait *wait);	   /* a record that was checked goes to its new place */

/* ---- pack.c: recompression ---- */

size_t pack_memory_bytes(void);
/* Is there enough in a segment, whose directory is in memory, that may come out smaller? */
bool pack_worth(const struct segment *segment, uint64_t live_bytes);
void pack_or_append(struct copy *copy); /* it was checked; copy_append follows, at once or later */
void pack_left(struct copy *copy);	/* it has ended */

#endif
