/* SPDX-License-Identifier: Apache-2.0 */
/* Stores one chunk or node, or finds that it is stored (put.c): ends when it is durable. */
#ifndef STORAGE_STORE_PUT_H
#define STORAGE_STORE_PUT_H

#include "storage/store/patch.h"
#include "storage/store/segments.h"

#define PUT_COUNT 256u /* chunks and nodes on their way into segments */

struct put {
	void (*done)(struct put *put,
		     int res); /* durable, and named by id; the owner calls put_free */
	/* or NULL: a chunk's raw, room and patch are not needed any more, and room is gone */
	void (*placed)(struct put *put);
	void *owner;
	const uint8_t *raw; /* the owner's, until placed or done */
	uint8_t *room;	    /* CHUNK_BYTES of its own, where raw may be made up */
	struct id id;	    /* at done; null: all zero (a chunk) */
	uint8_t type;
	int level;
	uint32_t frame_bytes;
	uint8_t domain;
	bool background;
	struct patch *patch; /* or NULL; then raw is room, and has the new blocks only */

	/* put.c's own */
	bool given; /* the record was made elsewhere */
	struct store *store;
	struct env_job job;
	struct wait wait;
	struct durable_wait durable;
	struct segment *segment;
	uint8_t *stored;
	uint32_t raw_bytes, stored_bytes;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint8_t quarters[QUARTER_COUNT][32]; /* of a chunk: what its id is made of */
	bool zero, listed, coming, wants_space;
	struct put *next, *same_next, *same; /* puts of one id that wait for the first of them */
};
int put_init(struct store *store);
void put_exit(struct store *store);
uint64_t put_memory_bytes(const struct store *store);
struct put *put_new(struct store *store, bool background, struct wait *wait);
void put_free(struct put *put);
void put_start(struct put *put);
/* Touches, in the index, what puts under way count on. */
void put_mark(struct store *store);

#endif
