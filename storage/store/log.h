/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's write-ahead log: group commit into a ring of 4 KiB blocks, flushes, replay. It knows
 * nothing of what the records mean: its owner applies them, live and in replay, in the same order.
 */
#ifndef STORAGE_STORE_LOG_H
#define STORAGE_STORE_LOG_H

#include "proto/crc32c.h"
#include "proto/units.h"
#include "storage/rt/env.h"

#define COMMIT_PAYLOAD_BLOCKS 256u
#define COMMIT_HEADER_BLOCKS 8u
#define LOG_BYTES_MIN (8 * MIB)
#define CHECK_BYTES 16u

/* Blocks of payload, one after the other in the ring. */
struct log_payload {
	uint32_t log_block, block_count;
	const uint32_t *crc; /* log_block_crc of each; valid until the callback returns */
};

/* What the log needs of the store that it belongs to. */
struct log_owner {
	/* Replay: one record, and the commit's payload from its own on. Returns how many payload
	 * blocks the record has, or a negative code, which ends the replay. */
	int (*apply)(struct log_owner *owner, const void *record, uint32_t bytes,
		     const struct log_payload *payload);
	/* A write or sync failed; from now on every append and flush fails. */
	void (*failed)(struct log_owner *owner, int res, const char *what);
	/* A commit has ended: there may be room again, or reason to fold. */
	void (*committed)(struct log_owner *owner);
	/* NULL, or: a commit goes to the device now, and with it all whose `leaving` was called. */
	void (*left)(struct log_owner *owner);
};

struct log_options {
	uint8_t uuid[16], secret[16]; /* of the store */
	uint64_t block_count;	      /* of the ring */
	bool read_only;		      /* replay writes nothing, and nothing may be appended */
};

/* A place in the chain: where the next commit goes, its number, and what it must chain to. */
struct log_place {
	uint64_t pos, seq; /* positions count blocks and never wrap; the ring's block is pos %
			      block_count */
	uint8_t chain[CHECK_BYTES];
};

/* One record on its way to the log; the caller's until done. */
struct log_entry {
	/* NULL, or: its commit goes to the device now. All commits before have ended, none follows
	 * before this one has; what it will come to is not known yet. */
	void (*leaving)(struct log_entry *entry);
	void (*done)(struct log_entry *entry, int res);
	struct log_entry *next;
	uint32_t payload_index;	    /* the log's own */
	struct log_payload payload; /* at done with 0 */
};

/* The check of a block of payload: a CRC of its bytes, bound to the ring's block that it lies in,
 * so that neither rot nor another block's bytes pass. (XOR after a CRC is as good as a seed before
 * it, and the place is not known yet when the bytes are at hand.) */
static inline uint32_t log_block_crc(uint32_t log_block, const void *block)
{
	return crc32c(0, block, BLOCK_BYTES) ^ log_block;
}

struct log_flush_op {
	struct io_op op; /* op.done; res 0: durable */
	struct log_flush_op *next;
	uint64_t seq;
};

struct log;

/* Takes over `file`, which has block_count * 4 KiB (the caller closes it after log_free). -ENOMEM.
 */
int log_new(struct env *env, struct env_file *file, const struct log_options *options,
	    struct log_owner *owner, struct log **ret_log);
void log_free(struct log *log); /* nothing may be under way */

/* Straight-line, once, before anything is appended: walks the chain from `from`, applies its
 * records, and leaves the log ready to append behind them. Blocks from tail_pos on, which is not
 * beyond `from`, are still needed. The torn tail is cut, its header wiped; damage before the tail
 * is -VS_ELOST, and nothing may be appended then. */
int log_replay(struct log *log, const struct log_place *from, uint64_t tail_pos);

/* Room in the staged commit and in the ring for a record and its payload? `internal` records (of
 * fold and catalog) may use the reserve that guests' may not. At most 256 blocks, and 1 KiB a
 * record. */
bool log_room(const struct log *log, uint32_t record_bytes, uint32_t blocks, bool internal);
/* Copies record (a multiple of 8 bytes, {u8 op, u8 flags, u16 bytes, ...}) and payload in;
 * entry->done when their commit has reached the device: 0, or a negative code. log_room said yes
 * before. dsync: that commit shall be durable by itself. */
void log_append(struct log *log, struct log_entry *entry, const void *record, uint32_t record_bytes,
		const void *payload, uint32_t blocks, bool dsync);
/* Ends when all that is appended now is durable. */
void log_flush(struct log *log, struct log_flush_op *flush);

/* Where the next commit will go, with all before it applied: what a checkpoint records. Only in
 * log_owner.committed, or when log_idle. */
void log_place(const struct log *log, struct log_place *ret_place);
bool log_idle(const struct log *log); /* nothing staged, no commit in flight */
bool log_quiet(
	const struct log *log); /* nor a sync, which may run ahead of need: it may be freed */
/* No record before this position is needed any more. */
void log_set_tail(struct log *log, uint64_t tail_pos);
uint64_t log_tail(const struct log *log);
/* In an entry's done, or in apply: where the commit that it belongs to starts. */
uint64_t log_applying_pos(const struct log *log);
uint64_t log_used_blocks(const struct log *log);
/* How many may be in use before guests' records are refused, nearly. */
uint64_t log_guest_blocks(const struct log *log);
uint64_t log_durable_seq(const struct log *log);

#endif
