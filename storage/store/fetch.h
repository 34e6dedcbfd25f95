/* SPDX-License-Identifier: Apache-2.0 */
/* Reads blocks of one stored chunk, or a node (fetch.c): only what is proved is given. */
#ifndef STORAGE_STORE_FETCH_H
#define STORAGE_STORE_FETCH_H

#include "storage/store/segments.h"

#ifndef FETCH_COUNT	 /* tests/sim has fewer, and waits for them more often */
#define FETCH_COUNT 128u /* reads of records under way */
#endif

struct fetch {
	void (*done)(struct fetch *fetch, int res); /* then the owner calls fetch_free */
	void *owner;
	struct id id;
	uint8_t type;
	uint8_t domain;			   /* at done: of the record that was read */
	unsigned block_first, block_count; /* of a chunk; a node is read whole */
	uint8_t *raw;			   /* the blocks go here */
	uint64_t location; /* 0, or the one record to read, whatever else there is */
	bool whole;	   /* a chunk's record as it is stored, nothing decoded, see fetch_record */
	bool background, no_cache;
	bool no_heal; /* for a peer, who would ask us in turn */
	bool proof;   /* the record's own header and hashes are looked at, too */

	/* fetch.c's own */
	struct store *store;
	struct io_op op;
	struct env_job job;
	struct wait wait;
	struct segment *segment;
	uint8_t *stored, *spill, *target; /* target: where frames are decoded to */
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t frame_bytes, frame_from, frame_to, stored_skip, raw_bytes, offset64;
	uint32_t head_bytes; /* of what is read before the frames: for a proof, or whole */
	int res;
	bool have_record, heal_asked;
	struct fetch *next;
};
int fetch_init(struct store *store);
void fetch_exit(struct store *store);
uint64_t fetch_memory_bytes(const struct store *store); /* what it holds, for good */
/* NULL: all are busy; the wait, if there is one, is woken. Background ones leave some for the
 * foreground. */
struct fetch *fetch_new(struct store *store, bool background, struct wait *wait);
void fetch_free(struct fetch *fetch);
void fetch_start(struct fetch *fetch);
/* After a fetch of a whole record, also one that found its frames damaged: the quarters' hashes and
 * the frames as they were read, until fetch_free. NULL: nothing could be read. */
const uint8_t *fetch_record(const struct fetch *fetch);

#endif
