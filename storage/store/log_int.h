/* SPDX-License-Identifier: Apache-2.0 */
/* The log as its parts see it: log.c (live), log_header.c (a commit's header in bytes),
 * log_replay.c (after an opening). Nothing else includes this. */
#ifndef STORAGE_STORE_LOG_INT_H
#define STORAGE_STORE_LOG_INT_H

#include "storage/store/log.h"

#define HEADER_FIXED_BYTES 104u
#define COMMIT_PAD 1u
/* What is written and not durable yet never spans more: when the chain ends at a commit that was
 * durable, one that says so begins within this distance, and nothing behind it need be searched. */
#define WINDOW_BLOCKS(log) min_u64((log)->options.block_count / 4, 16384)
#define RECORDS_BYTES (COMMIT_HEADER_BLOCKS * BLOCK_BYTES)

struct commit {
	uint8_t *memory; /* room for the largest header, then the payload */
	uint32_t record_bytes, record_count, payload_blocks, header_blocks;
	struct log_entry *head, **tail;
	struct log_flush_op
		*flushes; /* that wait for this commit; its number is known at its end */
	bool dsync;
	uint64_t pos, seq;		     /* once it is written */
	uint32_t crc[COMMIT_PAYLOAD_BLOCKS]; /* bound to their blocks once it is written */
	uint8_t records[RECORDS_BYTES];
};

struct log {
	struct env *env;
	struct env_file *file;
	struct log_options options;
	struct log_owner *owner;
	uint32_t life; /* of this opening alone, in each of its commits */
	struct log_place next;
	uint64_t tail_pos, done_seq, durable_seq, syncing_seq;
	uint64_t durable_pos, syncing_pos; /* where the durable commits, or those of a sync, end */
	uint64_t applying_pos; /* of the commit whose entries end, or whose records are replayed */
	struct commit commits[2];
	struct commit *staging, *flying;
	struct commit pad; /* a header block that fills the end of the ring */
	bool kicked, writing, syncing, failed, writing_pad;
	bool held;	 /* the flying commit waits for a sync: too much is not durable */
	int dsync_score; /* above 0: commits are flushed one by one, so each is made durable at once
			  */
	struct io_op kick_op, write_op, sync_op;
	struct log_flush_op *flushes;
};

struct commit_header {
	uint64_t seq, pos, durable_through;
	uint8_t prev[16];
	uint32_t record_bytes, record_count, header_blocks, payload_blocks, flags;
	uint8_t check[16];
};

/* ---- log_header.c ---- */

extern const char commit_magic[8];
void header_encode(const struct log *log, const struct commit_header *h, uint8_t *out);
/* `bytes` readable from `in`. -VS_EFORMAT: no commit of this store. -VS_ECHECKSUM: one that is
 * damaged, or of another place in the chain. */
int header_decode(const struct log *log, const uint8_t *in, size_t bytes, struct commit_header *h);

#endif
