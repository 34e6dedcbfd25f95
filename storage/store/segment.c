/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The writer of a segment.
 *
 * Keeps true:
 *  - records are packed; a buffer is written when it is half full, or at once when somebody waits
 * for its data;
 *  - a block that was written is never written again: what is forced out early is padded to a
 * block, so a torn write never touches what was durable before. While more records are coming the
 * part of a block at the end stays behind for them, and padding is left to the last one;
 *  - one write and one sync are under way at most; a sync promises only what was written before it
 * began;
 *  - what a seal writes comes after the records are durable: whoever finds it whole, after whatever
 * crash, may believe the directory;
 *  - after a failed write or sync nothing is promised any more, and nothing retried.
 * Not here: reading (callers read below segment_written_end from the file), and names of segments.
 */
#include "storage/store/segment.h"

#include "proto/err.h"
#include "storage/store/mutant.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#ifndef BUFFER_BYTES /* tests/sim clears less memory for each of its small segments */
#define BUFFER_BYTES MIB
#endif
#define FLUSH_BYTES (BUFFER_BYTES / 2)
#define LINGER_BYTES (128 * KIB) /* what a wait may wait for while more is coming */
#define NEWS_MOST 64u		 /* without a record: what was coming is found elsewhere */

struct segment_writer {
	struct env *env;
	struct env_file *file;
	struct segment_name name;
	void (*room_again)(void *arg);
	void *arg;
	struct directory *directory;
	uint8_t *buffers[2];
	unsigned active;
	uint64_t base; /* where the active buffer starts in the file: a multiple of the block */
	uint32_t fill;
	uint64_t end_most;
	uint64_t written_end, durable_end, writing_end, syncing_end;
	bool kicked, writing, syncing, refused;
	bool more;     /* records are on their way here */
	unsigned news; /* how often that was said since one came */
	bool sealed;   /* as soon as no kick or sync is under way, the seal ends */
	int failed;    /* 0, or why */
	struct io_op kick_op, write_op, sync_op;
	struct durable_wait *waits;
	struct io_op *seal; /* the caller's */
	struct io_op footer_op;
	uint8_t *footer;
	size_t footer_bytes;
};

int segment_create(struct env *env, struct env_file *file, const struct segment_name *name)
{
	int res = env_file_allocate_wait(file, SEGMENT_FILE_BYTES);
	if (res < 0)
		return res;
	uint8_t *header = env_memory(env, SEGMENT_HEADER_BYTES);
	if (!header)
		return -ENOMEM;
	segment_header_encode(name->uuid, name->id, name->slot, header);
	int64_t moved = env_file_write_wait(file, header, SEGMENT_HEADER_BYTES, 0);
	env_memory_free(env, header, SEGMENT_HEADER_BYTES);
	return moved < 0 ? (int)moved : env_file_sync_wait(file);
}

int segment_writer_new(struct env *env, struct env_file *file, const struct segment_name *name,
		       void (*room_again)(void *arg), void *arg, struct segment_writer **ret_writer)
{
	int64_t bytes = env_file_bytes(file);
	if (bytes < 0)
		return (int)bytes;
	struct segment_writer *writer = calloc(1, sizeof(*writer));
	if (!writer)
		return -ENOMEM;
	*writer = (struct segment_writer){.env = env,
					  .file = file,
					  .name = *name,
					  .room_again = room_again,
					  .arg = arg,
					  .end_most =
						  segment_data_bytes((uint64_t)bytes) - BLOCK_BYTES,
					  .base = SEGMENT_HEADER_BYTES,
					  .written_end = SEGMENT_HEADER_BYTES,
					  .durable_end = SEGMENT_HEADER_BYTES};
	writer->directory = calloc(1, sizeof(struct directory));
	writer->buffers[0] = env_memory(env, BUFFER_BYTES);
	writer->buffers[1] = env_memory(env, BUFFER_BYTES);
	if (!writer->directory || !writer->buffers[0] || !writer->buffers[1]) {
		segment_writer_free(writer);
		return -ENOMEM;
	}
	*ret_writer = writer;
	return 0;
}

void segment_writer_free(struct segment_writer *writer)
{
	if (!writer)
		return;
	assert(segment_writer_idle(writer));
	segment_writer_abandon(writer);
}

void segment_writer_abandon(struct segment_writer *writer)
{
	if (writer->footer)
		env_memory_free(writer->env, writer->footer, writer->footer_bytes);
	for (unsigned i = 0; i < 2; i++)
		if (writer->buffers[i])
			env_memory_free(writer->env, writer->buffers[i], BUFFER_BYTES);
	directory_free(writer->directory);
	free(writer);
}

bool segment_writer_idle(const struct segment_writer *writer)
{
	return !writer->writing && !writer->syncing && !writer->kicked && !writer->footer;
}

struct directory *segment_directory(struct segment_writer *writer)
{
	return writer->directory;
}

struct directory *segment_take_directory(struct segment_writer *writer)
{
	struct directory *directory = writer->directory;
	writer->directory = NULL;
	return directory;
}

uint64_t segment_written_end(const struct segment_writer *writer)
{
	return writer->written_end;
}

uint64_t segment_appended_end(const struct segment_writer *writer)
{
	return writer->base + writer->fill;
}

uint64_t segment_durable_end(const struct segment_writer *writer)
{
	return writer->durable_end;
}

uint64_t segment_end_most(const struct segment_writer *writer)
{
	return writer->end_most;
}

static void writer_kick(struct segment_writer *writer);

/* Ends the waits that are satisfied, or all when the segment has failed. */
static void waits_check(struct segment_writer *writer)
{
	for (struct durable_wait **at = &writer->waits; *at;) {
		struct durable_wait *wait = *at;
		if (!writer->failed && writer->durable_end < wait->end && !MUTANT(6)) {
			at = &wait->next;
			continue;
		}
		*at = wait->next;
		env_complete(writer->env, &wait->op, writer->failed);
	}
}

static void writer_fail(struct segment_writer *writer, int res)
{
	if (!writer->failed)
		writer->failed = res;
	waits_check(writer);
	if (writer->seal && segment_writer_idle(writer)) {
		struct io_op *seal = writer->seal;
		writer->seal = NULL;
		env_complete(writer->env, seal, writer->failed);
	}
	bool again = writer->refused; /* who waits for room learns from segment_room that there is
					 none */
	writer->refused = false;
	if (again)
		writer->room_again(writer->arg);
}

/* ---- writing and syncing ---- */

static void write_done(struct io_op *op)
{
	struct segment_writer *writer = container_of(op, struct segment_writer, write_op);
	writer->writing = false;
	if (op->res < 0 || writer->failed) {
		writer_fail(writer, op->res < 0 ? (int)op->res : writer->failed);
		return;
	}
	writer->written_end = writer->writing_end;
	bool again = writer->refused;
	writer->refused = false;
	writer_kick(writer);
	if (again)
		writer->room_again(writer->arg);
}

/* Gives the active buffer to the disk; what does not fill its last block moves to the other buffer,
 * unless somebody waits for that as well: then the block is padded and never touched again. */
static void write_start(struct segment_writer *writer, bool pad)
{
	uint32_t bytes = (uint32_t)(pad ? round_up(writer->fill, BLOCK_BYTES)
					: round_down(writer->fill, BLOCK_BYTES));
	uint8_t *from = writer->buffers[writer->active], *other = writer->buffers[!writer->active];
	uint32_t tail = bytes < writer->fill ? writer->fill - bytes : 0;
	if (!bytes)
		return;
	if (bytes > writer->fill)
		memset(from + writer->fill, 0, bytes - writer->fill);
	memcpy(other, from + bytes, tail);
	writer->writing = true;
	writer->writing_end = writer->base + bytes;
	uint64_t offset = writer->base;
	writer->base += bytes;
	writer->fill = tail;
	writer->active = !writer->active;
	writer->write_op.done = write_done;
	env_file_write(writer->file, &writer->write_op, from, bytes, offset, 0);
}

static void seal_finish(struct segment_writer *writer);

static void sync_done(struct io_op *op)
{
	struct segment_writer *writer = container_of(op, struct segment_writer, sync_op);
	writer->syncing = false;
	if (op->res < 0 || writer->failed) {
		writer_fail(writer, op->res < 0 ? (int)op->res : writer->failed);
		return;
	}
	if (writer->sealed) {
		seal_finish(writer);
		return;
	}
	writer->durable_end = writer->syncing_end;
	waits_check(writer);
	writer_kick(writer);
}

static void seal_footer(struct segment_writer *writer);

/* The caller frees the writer when the seal ends: nothing may be under way then. Who found a record
 * of it meanwhile may have asked for a sync. */
static void seal_finish(struct segment_writer *writer)
{
	struct io_op *seal = writer->seal;
	if (writer->kicked || writer->syncing || !seal)
		return;
	writer->seal = NULL;
	env_complete(writer->env, seal, 0);
}

static void kick_done(struct io_op *op)
{
	struct segment_writer *writer = container_of(op, struct segment_writer, kick_op);
	bool force = writer->seal != NULL, sync = false;
	writer->kicked = false;
	if (writer->failed) {
		writer_fail(writer, writer->failed);
		return;
	}
	if (writer->sealed) {
		seal_finish(writer);
		return;
	}
	for (const struct durable_wait *wait = writer->waits; wait; wait = wait->next) {
		force |= wait->end > writer->base;
		sync |= wait->end > writer->durable_end && wait->end <= writer->written_end;
	}
	/* While a sync runs, who waits gains nothing from a write now; and while more records are
	 * about to come, one write and one sync for all of them cost less, in padding too: the
	 * last record, which ends within a block, goes out with those behind it. */
	bool more = writer->more && writer->news < NEWS_MOST;
	bool pad = force && (!more || writer->seal);
	force = force && !writer->syncing && (pad || writer->fill >= LINGER_BYTES);
	if (!writer->writing && writer->fill && (force || writer->fill >= FLUSH_BYTES))
		write_start(writer, pad);
	bool all_written = !writer->writing && !writer->fill;
	sync |= writer->seal && all_written && writer->durable_end < writer->written_end &&
		!MUTANT(59);
	if (sync && !writer->syncing) {
		writer->syncing = true;
		writer->syncing_end = MUTANT(7) ? writer->base + writer->fill : writer->written_end;
		writer->sync_op.done = sync_done;
		env_file_sync(writer->file, &writer->sync_op);
	}
	if (writer->seal && all_written && !writer->syncing && !writer->footer)
		seal_footer(writer);
}

/* What is asked for in one pass of the loop is served together. */
static void writer_kick(struct segment_writer *writer)
{
	if (writer->kicked)
		return;
	writer->kicked = true;
	writer->kick_op.done = kick_done;
	env_complete(writer->env, &writer->kick_op, 0);
}

/* ---- appending ---- */

static uint32_t room_bytes(unsigned frame_count, uint32_t stored_bytes)
{
	return (uint32_t)round_up(record_header_bytes(frame_count) + stored_bytes, RECORD_ALIGN);
}

void segment_expect(struct segment_writer *writer, bool more)
{
	writer->more = more;
	writer->news += writer->news < NEWS_MOST;
	if ((!more || writer->news == NEWS_MOST) && writer->waits)
		writer_kick(writer);
}

int segment_room(struct segment_writer *writer, uint32_t stored_bytes)
{
	uint32_t bytes = room_bytes(FRAMES_PER_CHUNK_MAX, stored_bytes);
	assert(!writer->seal);
	if (writer->failed)
		return writer->failed;
	if (writer->base + writer->fill + bytes > writer->end_most)
		return -ENOSPC;
	if (writer->fill + bytes <= BUFFER_BYTES)
		return 0;
	writer->refused = true;
	writer_kick(writer);
	return -EAGAIN;
}

uint32_t segment_append(struct segment_writer *writer, const struct dir_entry *entry,
			const struct frame_entry *frames, const void *stored, uint32_t stored_bytes,
			uint64_t *ret_end)
{
	uint8_t *at = writer->buffers[writer->active] + writer->fill;
	uint32_t bytes = room_bytes(entry->frame_count, stored_bytes);
	struct dir_entry placed = *entry;
	placed.bad = false; /* a copy was checked, whatever was thought of what it was made from */
	assert(writer->fill + bytes <= BUFFER_BYTES && !writer->failed && !writer->seal);
	placed.offset64 = (uint32_t)((writer->base + writer->fill) / RECORD_ALIGN);
	uint32_t header = record_encode_header(at, entry, frames);
	memcpy(at + header, stored, stored_bytes);
	memset(at + header + stored_bytes, 0, bytes - header - stored_bytes);
	writer->fill += bytes;
	writer->news = 0;
	*ret_end = writer->base + writer->fill;
	if (directory_add(writer->directory, &placed, frames) < 0)
		writer->failed = -ENOMEM; /* without its directory the segment cannot be sealed */
	writer_kick(writer);
	return placed.offset64;
}

void segment_wait_durable(struct segment_writer *writer, struct durable_wait *wait, uint64_t end)
{
	assert(end <= writer->base + writer->fill);
	if (writer->failed || writer->durable_end >= end) {
		env_complete(writer->env, &wait->op, writer->failed);
		return;
	}
	wait->end = end;
	wait->next = writer->waits;
	writer->waits = wait;
	writer_kick(writer);
}

/* ---- sealing: records durable, footer written, file cut, all synced ---- */

static void seal_end(struct segment_writer *writer, int res)
{
	env_memory_free(writer->env, writer->footer, writer->footer_bytes);
	writer->footer = NULL;
	if (res < 0) {
		writer_fail(writer, res);
		return;
	}
	writer->written_end = writer->durable_end = writer->base;
	writer->sealed = true;
	waits_check(writer);
	seal_finish(writer);
}

static void seal_synced(struct io_op *op)
{
	seal_end(container_of(op, struct segment_writer, footer_op), (int)op->res);
}

static void seal_truncated(struct io_op *op)
{
	struct segment_writer *writer = container_of(op, struct segment_writer, footer_op);
	if (op->res < 0) {
		seal_end(writer, (int)op->res);
		return;
	}
	op->done = seal_synced;
	env_file_sync(writer->file, op);
}

static void seal_written(struct io_op *op)
{
	struct segment_writer *writer = container_of(op, struct segment_writer, footer_op);
	if (op->res < 0) {
		seal_end(writer, (int)op->res);
		return;
	}
	op->done = seal_truncated;
	env_file_truncate(writer->file, op, writer->base + writer->footer_bytes);
}

static void seal_footer(struct segment_writer *writer)
{
	writer->base = footer_offset(writer->directory, writer->base);
	writer->footer_bytes = footer_bytes(writer->directory);
	writer->footer = env_memory(writer->env, writer->footer_bytes);
	if (!writer->footer) {
		writer_fail(writer, -ENOMEM);
		return;
	}
	footer_encode(writer->directory, writer->name.id, writer->base, writer->footer);
	writer->footer_op.done = seal_written;
	env_file_write(writer->file, &writer->footer_op, writer->footer,
		       (uint32_t)writer->footer_bytes, writer->base, 0);
}

void segment_seal(struct segment_writer *writer, struct io_op *op)
{
	assert(!writer->seal);
	writer->seal = op;
	writer_kick(writer);
}
