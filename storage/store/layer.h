/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer: what a volume's writes changed since the layer began, by chunk. The newest layer of a
 * volume takes its writes; a frozen one is folded into the volume's map and then dropped. Memory
 * comes from a pool with a fixed number of entries, shared by all layers of a store.
 */
#ifndef STORAGE_STORE_LAYER_H
#define STORAGE_STORE_LAYER_H

#include "proto/cursor.h"
#include "storage/store/id.h"

#define LAYER_RANGES_MAX 4096u
#define LOG_BLOCK_ZERO UINT32_MAX /* instead of a log block: the block is zero */

enum dirty_base {
	BASE_INHERIT = 0, /* blocks not set here come from below */
	BASE_ZERO = 1,	  /* ... are zero */
	BASE_ID = 2,	  /* ... are of the stored chunk `id` */
};

struct dirty_chunk {
	uint64_t chunk_no;
	struct dirty_chunk *next; /* the table's, or the pool's free list */
	struct id id;
	/* Where set in mask: the log's block, or LOG_BLOCK_ZERO, and the log's check of it. */
	uint32_t log_block[CHUNK_BLOCKS], log_crc[CHUNK_BLOCKS];
	uint16_t mask;
	uint8_t base;
};

/* Whole chunks that are zero; entries inside lie above it. */
struct zero_range {
	uint64_t chunk_no, chunk_count;
};

struct layer_pool {
	struct dirty_chunk *entries, *free;
	uint32_t entry_count, free_count, never_used;
	uint32_t log_blocks; /* of all its layers */
};

struct layer {
	struct layer_pool *pool;
	uint64_t number;
	uint64_t start_pos; /* no record of it lies before this position of the log */
	uint32_t users;	    /* reads under way; its log blocks stay until they end */
	struct layer *next; /* its owner's, when dropped */
	bool frozen, dropped;
	uint32_t entry_count, bucket_count;
	struct dirty_chunk **buckets;
	uint32_t range_count, range_room;
	struct zero_range *ranges; /* sorted, disjoint, not touching */
	uint32_t log_blocks;	   /* blocks of the log that it refers to */
};

struct layer_pool *layer_pool_new(uint32_t entry_count); /* NULL: no memory */
/* At most, of the pool, its layers' tables, and their form in a checkpoint. */
uint64_t layer_pool_memory_bytes(const struct layer_pool *pool);
void layer_pool_free(struct layer_pool *pool);

struct layer *layer_new(struct layer_pool *pool, uint64_t number, uint64_t start_pos);
void layer_free(struct layer *layer);

/* True when the next layer_zero of `block_count` blocks cannot fail for want of room; a long one
 * needs few entries, but a range. */
bool layer_room(const struct layer *layer, uint64_t block_count);
/* The same of layer_write, which needs an entry a chunk and no range. */
bool layer_room_write(const struct layer *layer, uint64_t block_count);

/* The changes; -ENOSPC (before anything is changed) when layer_room, or layer_room_write,
 * would have said no; layer_zero: -ENOMEM, also before. */
int layer_write(struct layer *layer, uint64_t block_no, uint32_t block_count, uint32_t log_block,
		const uint32_t *crc); /* of each block */
int layer_zero(struct layer *layer, uint64_t block_no, uint64_t block_count);
int layer_set_id(struct layer *layer, uint64_t chunk_no, const struct id *id); /* null: zero */

/* What the layer says of a chunk, or NULL: nothing. *room is used to make up an entry for a range.
 * Valid until the next change. */
const struct dirty_chunk *layer_find(const struct layer *layer, uint64_t chunk_no,
				     struct dirty_chunk *room);

/* The entries in order of chunk_no, into out[entry_count]. */
void layer_sorted(const struct layer *layer, const struct dirty_chunk **out);

/* For checkpoints. Decoding takes foreign bytes: -VS_EFORMAT; -ENOSPC: the pool is too small for
 * it (it was larger when the layer was stored), -ENOMEM. */
size_t layer_encoded_bytes(const struct layer *layer);
void layer_encode(const struct layer *layer, struct cursor *c);
int layer_decode(struct layer_pool *pool, struct cursor *c, uint64_t ring_blocks,
		 struct layer **ret_layer);

#endif
