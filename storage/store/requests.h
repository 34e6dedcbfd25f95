/* SPDX-License-Identifier: Apache-2.0 */
/* Guests' requests (read.c, write.c, status.c), and reads of a chunk as a volume has it. */
#ifndef STORAGE_STORE_REQUESTS_H
#define STORAGE_STORE_REQUESTS_H

#include "storage/store/id.h"
#include "storage/store/store.h"
#include "storage/store/wait.h"

/* Reads blocks of one chunk as a volume or snapshot has them. */
struct chunk_read {
	void (*done)(struct chunk_read *read, int res);
	void *owner;
	struct volume *volume;
	struct snapshot *snapshot;
	uint64_t chunk_no;
	unsigned block_first, block_count;
	uint8_t *raw;
	bool background, no_cache;
	/* Only what is new in the layers: blocks from below are left as they are (base_mask, base;
	 * base_res: why the base is not known), and log blocks that cannot be read are in
	 * failed_mask (failed_res: why); neither fails the read. */
	bool log_only;
	uint16_t failed_mask;
	struct id base;
	int base_res, failed_res;

	/* read.c's own */
	struct store *store;
	struct wait wait;
	struct io_op op;
	struct layer *layer; /* in use while its log blocks are read */
	bool turn;	     /* store->read_turn when it began */
	uint16_t log_mask, zero_mask, base_mask;
	uint32_t log_block[CHUNK_BLOCKS], log_crc[CHUNK_BLOCKS];
	unsigned block_at; /* the run that is read from the log */
	bool one_by_one;   /* a run failed: which of its blocks? */
	uint32_t run_blocks;
	int res;
};
void chunk_read_start(struct store *store, struct chunk_read *read);
int read_init(struct store *store);
void read_exit(struct store *store);
uint64_t read_memory_bytes(void); /* at most */
void read_submit(struct store_request *request);
void status_submit(struct store_request *request);
int write_init(struct store *store);
void write_exit(struct store *store);
uint64_t write_memory_bytes(void); /* at most */
void write_submit(struct store_request *request);
void write_kick(struct store *store); /* goes on with what is queued, if it can */
bool write_idle(const struct store *store);
/* Some writes have their vseq, and wait for their place in the log. */
bool write_behind(const struct store *store);
/* The ids that records on their way to the log name. */
void write_mark(struct store *store, void (*mark)(struct store *store, const struct id *id));
void request_end(struct store_request *request, int res);

/* ---- lease.c ---- */

/* May this view's next write be admitted? 0 or -VS_EFENCED. */
int lease_admit(const struct view *view);

#endif
