/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The write-ahead log: a preallocated ring of 4 KiB blocks, written as a chain of commits.
 *
 * Keeps true:
 *  - one commit is in flight; what arrives meanwhile is staged in the other buffer (group commit);
 *  - entries end, and so change the state, in the order in which they were appended, when their
 * commit has reached the device; replay calls the same log_apply in the same order;
 *  - a commit's header carries a checksum keyed with the store's secret and chained to the one
 * before: a guest's old payload, or a commit of an earlier round of the ring, never passes for the
 * next one;
 *  - a commit with RWF_DSYNC is durable by itself only: durable_seq moves past it only when all
 * before it is durable too, else a sync is made before anything is promised;
 *  - what is written and not durable spans a bounded part of the ring (WINDOW_BLOCKS): replay need
 * not search all of it for a commit that proves rot;
 *  - after any failed write or sync the log takes nothing more.
 */
#include "storage/store/log.h"

#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/codec.h"
#include "storage/store/mutant.h"
#include "storage/store/recovery.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_FIXED_BYTES 104u
#define COMMIT_PAD 1u
#define RESERVE_BLOCKS(log)                                                                        \
	min_u64((log)->options.block_count / 8, 1024) /* for fold's, catalog's records */
#define DSYNC_SCORE_MAX 64u
/* What is written and not durable yet never spans more: when the chain ends at a commit that was
 * durable, one that says so begins within this distance, and nothing behind it need be searched. */
#define WINDOW_BLOCKS(log) min_u64((log)->options.block_count / 4, 16384)
static const char commit_magic[8] = "VSCOMMIT";

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

static void header_check(const struct log *log, const uint8_t *header, uint32_t header_blocks,
			 uint8_t ret[16])
{
	codec_keyed_check(log->options.secret, header, 88, header + HEADER_FIXED_BYTES,
			  header_blocks * (size_t)BLOCK_BYTES - HEADER_FIXED_BYTES, ret);
}

static void header_encode(const struct log *log, const struct commit_header *h, uint8_t *out)
{
	struct cursor c = cursor_over(out, HEADER_FIXED_BYTES);
	put_bytes(&c, commit_magic, 8);
	put_bytes(&c, log->options.uuid, 16);
	put_u64(&c, h->seq);
	put_u64(&c, h->pos);
	put_u64(&c, h->durable_through);
	put_bytes(&c, h->prev, 16);
	put_u32(&c, h->record_bytes);
	put_u32(&c, h->record_count);
	put_u32(&c, h->header_blocks);
	put_u32(&c, h->payload_blocks);
	put_u32(&c, h->flags);
	put_u32(&c, 0);
	put_zeros(&c, 16);
	assert(!c.failed);
	header_check(log, out, h->header_blocks, out + 88);
}

/* `bytes` readable from `in`. -VS_EFORMAT: no commit of this store. */
static int header_decode(const struct log *log, const uint8_t *in, size_t bytes,
			 struct commit_header *h)
{
	struct cursor c = cursor_reading(in, bytes);
	const uint8_t *magic = cursor_take(&c, 8), *uuid = cursor_take(&c, 16);
	if (!uuid || memcmp(magic, commit_magic, 8) != 0 ||
	    memcmp(uuid, log->options.uuid, 16) != 0)
		return -VS_EFORMAT;
	h->seq = get_u64(&c);
	h->pos = get_u64(&c);
	h->durable_through = get_u64(&c);
	get_bytes(&c, h->prev, 16);
	h->record_bytes = get_u32(&c);
	h->record_count = get_u32(&c);
	h->header_blocks = get_u32(&c);
	h->payload_blocks = get_u32(&c);
	h->flags = get_u32(&c);
	get_u32(&c);
	get_bytes(&c, h->check, 16);
	if (c.failed || h->header_blocks == 0 || h->header_blocks > COMMIT_HEADER_BLOCKS ||
	    (!(h->flags & COMMIT_PAD) && h->payload_blocks > COMMIT_PAYLOAD_BLOCKS) ||
	    h->payload_blocks > log->options.block_count ||
	    h->record_bytes > COMMIT_HEADER_BLOCKS * BLOCK_BYTES)
		return -VS_EFORMAT;
	uint64_t need = HEADER_FIXED_BYTES + (uint64_t)h->record_bytes;
	if (!(h->flags & COMMIT_PAD))
		need += 4 * (uint64_t)h->payload_blocks;
	if (need > h->header_blocks * (uint64_t)BLOCK_BYTES ||
	    h->header_blocks * (uint64_t)BLOCK_BYTES > bytes)
		return -VS_EFORMAT;
	uint8_t check[16];
	header_check(log, in, h->header_blocks, check);
	if (memcmp(check, h->check, 16) != 0 && !MUTANT(1))
		return -VS_ECHECKSUM;
	return 0;
}

static uint32_t commit_header_blocks(const struct commit *commit, uint32_t more_bytes,
				     uint32_t more_blocks)
{
	return (uint32_t)((HEADER_FIXED_BYTES + commit->record_bytes + more_bytes +
			   4 * (commit->payload_blocks + more_blocks) + BLOCK_BYTES - 1) /
			  BLOCK_BYTES);
}

uint64_t log_used_blocks(const struct log *log)
{
	return log->next.pos - log->tail_pos;
}

uint64_t log_guest_blocks(const struct log *log)
{
	uint64_t kept = RESERVE_BLOCKS(log) + 3 * COMMIT_PAYLOAD_BLOCKS + 4 * COMMIT_HEADER_BLOCKS;
	return log->options.block_count > kept ? log->options.block_count - kept : 0;
}

bool log_room(const struct log *log, uint32_t record_bytes, uint32_t blocks, bool internal)
{
	if (log->failed)
		return true; /* log_append ends it with an error */
	const struct commit *c = log->staging;
	uint32_t header = commit_header_blocks(c, record_bytes, blocks);
	if (c->payload_blocks + blocks > COMMIT_PAYLOAD_BLOCKS || header > COMMIT_HEADER_BLOCKS)
		return false;
	/* staged and in flight, and a pad at the ring's end */
	uint64_t need = header + c->payload_blocks + blocks + COMMIT_PAYLOAD_BLOCKS +
			2 * COMMIT_HEADER_BLOCKS;
	if (log->flying)
		need += log->flying->payload_blocks + COMMIT_HEADER_BLOCKS;
	need += COMMIT_PAYLOAD_BLOCKS; /* what a pad may waste */
	uint64_t reserve = internal ? 0 : RESERVE_BLOCKS(log);
	return log_used_blocks(log) + need + reserve <= log->options.block_count;
}

static void log_kick_done(struct io_op *op);

static void log_kick(struct log *log)
{
	if (log->kicked || log->writing || log->held)
		return;
	log->kicked = true;
	log->kick_op.done = log_kick_done;
	env_complete(log->env, &log->kick_op, 0);
}

static void commit_reset(struct commit *commit)
{
	commit->record_bytes = commit->record_count = commit->payload_blocks = 0;
	commit->head = NULL;
	commit->tail = &commit->head;
	commit->dsync = false;
}

/* Ends a commit's entries, in order, and empties it: what they append goes elsewhere or comes
 * after. */
static void commit_end(struct log *log, struct commit *commit, int res)
{
	struct log_entry *entry = commit->head;
	uint32_t payload_block = 0;
	if (res == 0)
		payload_block = (uint32_t)((commit->pos + commit->header_blocks) %
					   log->options.block_count);
	commit_reset(commit);
	log->applying_pos = commit->pos;
	while (entry) {
		struct log_entry *next = entry->next;
		entry->payload.log_block = payload_block + entry->payload_index;
		entry->payload.crc = commit->crc + entry->payload_index;
		entry->done(entry, res);
		entry = next;
	}
}

static void flush_check(struct log *log);

/* The commit has its number now, or never will: its flushes join those that wait for durability. */
static void commit_flushes(struct log *log, struct commit *commit)
{
	while (commit->flushes) {
		struct log_flush_op *flush = commit->flushes;
		commit->flushes = flush->next;
		flush->seq = commit->seq;
		flush->next = log->flushes;
		log->flushes = flush;
	}
}

/* From here on nothing is written; what is staged, now or later, ends with an error. */
static void log_fail(struct log *log, int res, const char *what)
{
	struct commit *commit = log->flying;
	bool first = !log->failed;
	log->failed = true;
	log->held = false;
	log->flying = NULL;
	if (commit) {
		commit_flushes(log, commit);
		commit_end(log, commit, res);
	}
	log_kick(log);
	flush_check(log);
	if (first)
		log->owner->failed(log->owner, res, what);
}

static void log_write_done(struct io_op *op);
static void log_sync_start(struct log *log);

static uint64_t log_undurable_blocks(const struct log *log)
{
	return MUTANT(23) ? 0 : log->next.pos - log->durable_pos;
}

/* Writes a header block that fills the ring's end, when the commit does not fit there. */
static void log_write_pad(struct log *log, uint32_t left_blocks)
{
	uint8_t *block = log->pad.memory;
	memset(block, 0, BLOCK_BYTES);
	struct commit_header h = {.seq = log->next.seq,
				  .pos = log->next.pos,
				  .durable_through = log->durable_seq,
				  .header_blocks = 1,
				  .payload_blocks = left_blocks - 1,
				  .flags = COMMIT_PAD};
	memcpy(h.prev, log->next.chain, 16);
	header_encode(log, &h, block);
	log->pad.pos = log->next.pos;
	log->pad.header_blocks = left_blocks;
	log->writing_pad = log->writing = true;
	log->write_op.done = log_write_done;
	env_file_write(log->file, &log->write_op, block, BLOCK_BYTES,
		       (log->next.pos % log->options.block_count) * BLOCK_BYTES, 0);
}

static void log_write(struct log *log)
{
	struct commit *c = log->flying;
	if (log_undurable_blocks(log) > WINDOW_BLOCKS(log)) {
		log->held = true;
		log_sync_start(log);
		return;
	}
	c->header_blocks = commit_header_blocks(c, 0, 0);
	uint64_t total = c->header_blocks + c->payload_blocks;
	uint64_t left = log->options.block_count - log->next.pos % log->options.block_count;
	if (total > left) {
		log_write_pad(log, (uint32_t)left);
		return;
	}
	c->pos = log->next.pos;
	c->seq = log->next.seq;
	uint8_t *header =
		c->memory + (size_t)(COMMIT_HEADER_BLOCKS - c->header_blocks) * BLOCK_BYTES;
	memset(header, 0, c->header_blocks * (size_t)BLOCK_BYTES);
	memcpy(header + HEADER_FIXED_BYTES, c->records, c->record_bytes);
	struct cursor crcs = cursor_over(header + HEADER_FIXED_BYTES + c->record_bytes,
					 4 * (size_t)c->payload_blocks);
	for (uint32_t i = 0; i < c->payload_blocks; i++) {
		c->crc[i] ^= (uint32_t)((c->pos + c->header_blocks + i) % log->options.block_count);
		put_u32(&crcs, c->crc[i]);
	}
	struct commit_header h = {.seq = c->seq,
				  .pos = c->pos,
				  .durable_through = log->durable_seq,
				  .record_bytes = c->record_bytes,
				  .record_count = c->record_count,
				  .header_blocks = c->header_blocks,
				  .payload_blocks = c->payload_blocks};
	memcpy(h.prev, log->next.chain, 16);
	header_encode(log, &h, header);
	c->dsync = c->dsync || log->dsync_score > 0;
	log->writing = true;
	log->write_op.done = log_write_done;
	env_file_write(log->file, &log->write_op, header, (uint32_t)(total * BLOCK_BYTES),
		       (c->pos % log->options.block_count) * BLOCK_BYTES,
		       c->dsync && !MUTANT(2) ? ENV_DSYNC : 0);
}

static void log_kick_done(struct io_op *op)
{
	struct log *log = (struct log *)((char *)op - offsetof(struct log, kick_op));
	log->kicked = false;
	if (log->failed) {
		commit_flushes(log, log->staging);
		commit_end(log, log->staging, -VS_EFAILSTOP);
		flush_check(log);
	}
	if (log->writing || log->held || !log->staging->record_count)
		return;
	log->flying = log->staging;
	log->staging = log->staging == &log->commits[0] ? &log->commits[1] : &log->commits[0];
	log_write(log);
}

static void log_write_done(struct io_op *op)
{
	struct log *log = (struct log *)((char *)op - offsetof(struct log, write_op));
	log->writing = false;
	if (op->res < 0 || log->failed) { /* a sync may have failed meanwhile */
		log->writing_pad = false;
		log_fail(log, op->res < 0 ? (int)op->res : -VS_EFAILSTOP,
			 "a write to the log failed");
		return;
	}
	struct commit *c = log->writing_pad ? &log->pad : log->flying;
	const uint8_t *header =
		log->writing_pad ? c->memory
				 : c->memory + (size_t)(COMMIT_HEADER_BLOCKS - c->header_blocks) *
						       BLOCK_BYTES;
	memcpy(log->next.chain, header + 88, 16);
	log->done_seq = log->next.seq++;
	log->next.pos += c->header_blocks + (log->writing_pad ? 0 : c->payload_blocks);
	if (log->writing_pad) {
		log->writing_pad = false;
		log_write(log);
		return;
	}
	if (c->dsync && (log->durable_seq == c->seq - 1 || MUTANT(3))) {
		log->durable_seq = c->seq;
		log->durable_pos = log->next.pos;
	}
	if (log->dsync_score > 0)
		log->dsync_score--;
	log->flying = NULL;
	commit_flushes(log, c);
	commit_end(log, c, 0);
	flush_check(log);
	if (log_undurable_blocks(log) > WINDOW_BLOCKS(log) / 2)
		log_sync_start(log); /* ahead of the bound, so that nobody waits for it */
	if (log->staging->record_count)
		log_kick(log);
	log->owner->committed(log->owner);
}

void log_append(struct log *log, struct log_entry *entry, const void *record, uint32_t record_bytes,
		const void *payload, uint32_t blocks, bool dsync)
{
	struct commit *c = log->staging;
	assert(record_bytes % 8 == 0);
	entry->next = NULL;
	entry->payload_index = c->payload_blocks;
	entry->payload.block_count = blocks;
	*c->tail = entry;
	c->tail = &entry->next;
	if (log->failed) {
		log_kick(log);
		return;
	}
	memcpy(c->records + c->record_bytes, record, record_bytes);
	c->record_bytes += record_bytes;
	c->record_count++;
	c->dsync |= dsync;
	uint8_t *to = c->memory + (size_t)(COMMIT_HEADER_BLOCKS + c->payload_blocks) * BLOCK_BYTES;
	for (uint32_t i = 0; i < blocks; i++) {
		memcpy(to + (size_t)i * BLOCK_BYTES,
		       (const uint8_t *)payload + (size_t)i * BLOCK_BYTES, BLOCK_BYTES);
		c->crc[c->payload_blocks + i] = log_block_crc(0, to + (size_t)i * BLOCK_BYTES);
	}
	c->payload_blocks += blocks;
	log_kick(log);
}

/* ---- durability ---- */

static void log_sync_done(struct io_op *op)
{
	struct log *log = (struct log *)((char *)op - offsetof(struct log, sync_op));
	log->syncing = false;
	if (op->res < 0) {
		log_fail(log, (int)op->res, "a sync of the log failed");
		return;
	}
	log->durable_seq = max_u64(log->durable_seq, log->syncing_seq);
	log->durable_pos = max_u64(log->durable_pos, log->syncing_pos);
	flush_check(log);
	if (log->held) {
		log->held = false;
		log_write(log);
	}
}

/* Of all that is written now. One at a time: its end looks whether another is needed. */
static void log_sync_start(struct log *log)
{
	if (log->syncing || log->failed)
		return;
	log->syncing = true;
	log->syncing_seq = log->done_seq;
	log->syncing_pos = log->next.pos;
	log->sync_op.done = log_sync_done;
	env_file_sync(log->file, &log->sync_op);
}

/* Ends the flushes that are satisfied, and starts a sync when one needs it. */
static void flush_check(struct log *log)
{
	bool need_sync = false;
	for (struct log_flush_op **at = &log->flushes; *at;) {
		struct log_flush_op *flush = *at;
		bool durable = log->durable_seq >= flush->seq || MUTANT(4);
		if (log->failed || durable) {
			*at = flush->next;
			env_complete(log->env, &flush->op, log->failed ? -VS_EFAILSTOP : 0);
			continue;
		}
		need_sync |= log->done_seq >= flush->seq;
		at = &flush->next;
	}
	if (need_sync && !log->syncing) {
		log->dsync_score = (int)min_u64((uint64_t)log->dsync_score + 8, DSYNC_SCORE_MAX);
		log_sync_start(log);
	}
}

void log_flush(struct log *log, struct log_flush_op *flush)
{
	/* A commit that is not written yet has no sure number: a pad may come before it. */
	struct commit *last = log->staging->record_count ? log->staging : log->flying;
	struct log_flush_op **list = last ? &last->flushes : &log->flushes;
	flush->seq = log->done_seq;
	if (log->dsync_score > 0)
		log->dsync_score = (int)min_u64((uint64_t)log->dsync_score + 2, DSYNC_SCORE_MAX);
	flush->next = *list;
	*list = flush;
	flush_check(log);
}

void log_set_tail(struct log *log, uint64_t tail_pos)
{
	assert(tail_pos >= log->tail_pos && tail_pos <= log->next.pos);
	log->tail_pos = tail_pos;
}

uint64_t log_tail(const struct log *log)
{
	return log->tail_pos;
}

uint64_t log_applying_pos(const struct log *log)
{
	return log->applying_pos;
}

uint64_t log_durable_seq(const struct log *log)
{
	return log->durable_seq;
}

bool log_idle(const struct log *log)
{
	return !log->writing && !log->held && !log->kicked && !log->staging->head;
}

bool log_quiet(const struct log *log)
{
	return log_idle(log) && !log->syncing;
}

void log_place(const struct log *log, struct log_place *ret_place)
{
	assert(!log->writing && !log->flying);
	*ret_place = log->next;
}

/* ---- opening and replay ---- */

#define COMMIT_BYTES ((COMMIT_HEADER_BLOCKS + COMMIT_PAYLOAD_BLOCKS) * (size_t)BLOCK_BYTES)

int log_new(struct env *env, struct env_file *file, const struct log_options *options,
	    struct log_owner *owner, struct log **ret_log)
{
	struct log *log = calloc(1, sizeof(*log));
	assert(options->block_count >= LOG_BYTES_MIN / BLOCK_BYTES);
	if (!log)
		return -ENOMEM;
	log->env = env;
	log->file = file;
	log->options = *options;
	log->owner = owner;
	log->staging = &log->commits[0];
	log->pad.memory = env_memory(env, BLOCK_BYTES);
	bool memory = log->pad.memory != NULL;
	for (unsigned i = 0; i < 2; i++) {
		log->commits[i].memory = env_memory(env, COMMIT_BYTES);
		memory = memory && log->commits[i].memory;
		commit_reset(&log->commits[i]);
	}
	if (!memory) {
		log_free(log);
		return -ENOMEM;
	}
	*ret_log = log;
	return 0;
}

void log_free(struct log *log)
{
	if (!log)
		return;
	for (unsigned i = 0; i < 2; i++)
		if (log->commits[i].memory)
			env_memory_free(log->env, log->commits[i].memory, COMMIT_BYTES);
	if (log->pad.memory)
		env_memory_free(log->env, log->pad.memory, BLOCK_BYTES);
	free(log);
}

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
