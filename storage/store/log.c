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
 *  - commits of two openings are never the same, not even pads: so what was cut at an opening does
 * not come back behind a commit that is written like the one before it was;
 *  - a commit with RWF_DSYNC is durable by itself only: durable_seq moves past it only when all
 * before it is durable too, else a sync is made before anything is promised;
 *  - what is written and not durable spans a bounded part of the ring (WINDOW_BLOCKS): replay need
 * not search all of it for a commit that proves rot;
 *  - after any failed write or sync the log takes nothing more.
 */
#include "storage/store/log_int.h"

#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE_BLOCKS(log)                                                                        \
	min_u64((log)->options.block_count / 8, 1024) /* for fold's, catalog's records */
#define DSYNC_SCORE_MAX 64u

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
	for (struct log_entry *entry = c->head; entry; entry = entry->next)
		if (entry->leaving)
			entry->leaving(entry);
	if (log->owner->left)
		log->owner->left(log->owner);
}

static void log_kick_done(struct io_op *op)
{
	struct log *log = container_of(op, struct log, kick_op);
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
	struct log *log = container_of(op, struct log, write_op);
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
	struct log *log = container_of(op, struct log, sync_op);
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

/* ---- life ---- */

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
	env_random(env, &log->life, sizeof log->life);
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
