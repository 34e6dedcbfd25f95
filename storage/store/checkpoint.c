/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checkpoint: the catalog and all layers, as they were at one place of the log
 * (checkpoint_bytes.c).
 *
 * Two files take turns. Keeps true:
 *  - what is encoded is the state between two commits, with the place where the next one goes;
 *  - a checkpoint is written only after all commits before its place are durable, so it never names
 * log blocks that a power cut can take back;
 *  - the log's tail moves only after the checkpoint that lets it is durable; the other file is
 * whole until then;
 *  - what an opening finds is synced before the other file is written over.
 */
#include "storage/store/checkpoint_int.h"

#include "proto/crc32c.h"
#include "storage/rt/log_event.h"
#include "storage/store/catalog.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/recovery.h"
#include "storage/store/requests.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define RETRY_NS (2 * NSEC_PER_SEC)

struct checkpoint {
	struct store *store;
	bool wanted, running, kicked;
	uint64_t generation; /* of the newest durable one */
	uint64_t pos;	     /* its place */
	uint64_t retry_ns;
	struct log_place place; /* of the one being written */
	uint64_t tail_pos;
	uint8_t *buf;
	size_t buf_bytes, body_bytes;
	struct env_file *file;
	struct log_flush_op flush;
	struct io_op op, kick_op;
	size_t written_bytes;
};

static const char *file_name(uint64_t generation)
{
	return generation % 2 ? "checkpoint.1" : "checkpoint.0";
}

const char *checkpoint_file_name(unsigned number)
{
	return file_name(number);
}

uint64_t checkpoint_generation(const struct store *store)
{
	return store->checkpoint->generation;
}

/* ---- writing ---- */

static void checkpoint_begin(struct checkpoint *checkpoint);

static void kicked(struct io_op *op)
{
	struct checkpoint *checkpoint = container_of(op, struct checkpoint, kick_op);
	checkpoint->kicked = false;
	if (checkpoint->wanted && !checkpoint->running && log_idle(checkpoint->store->log))
		checkpoint_begin(checkpoint);
}

void checkpoint_want(struct store *store)
{
	struct checkpoint *checkpoint = store->checkpoint;
	checkpoint->wanted = true;
	if (checkpoint->kicked)
		return;
	checkpoint->kicked = true;
	checkpoint->kick_op.done = kicked;
	env_complete(store->env, &checkpoint->kick_op, 0);
}

bool checkpoint_running(const struct store *store)
{
	return store->checkpoint->running || store->checkpoint->kicked;
}

bool checkpoint_wanted(const struct store *store)
{
	return store->checkpoint->wanted;
}

static void checkpoint_end(struct checkpoint *checkpoint, int res)
{
	struct store *store = checkpoint->store;
	env_file_close(checkpoint->file);
	checkpoint->file = NULL;
	if (checkpoint->buf)
		env_memory_free(store->env, checkpoint->buf, checkpoint->buf_bytes);
	checkpoint->buf = NULL;
	checkpoint->running = false;
	if (res < 0) {
		log_event(LOG_LEVEL_ERROR, "checkpoint.failed",
			  "error=\"%s\" effect=\"the log cannot be recycled; tried again soon\"",
			  vs_strerror(res));
		if (res == -EIO)
			store_fail(store, res, "a checkpoint could not be written");
		checkpoint->wanted = true;
		checkpoint->retry_ns = env_now_ns(store->env) + RETRY_NS;
		work_kick(store);
		return;
	}
	checkpoint->generation++;
	checkpoint->pos = checkpoint->place.pos;
	store->counters.checkpoints++;
	uint64_t tail = log_tail(store->log);
	log_set_tail(store->log, max_u64(checkpoint->tail_pos, tail));
	pace_tail_moved(store, log_tail(store->log) - tail);
	write_kick(store);
	segments_kick(store);
	fold_kick(store);
	admin_kick(store);
	work_kick(store);
	if (checkpoint->wanted) /* since it began; guests may wait for it, and commit nothing */
		checkpoint_want(store);
}

static void checkpoint_synced(struct io_op *op)
{
	checkpoint_end(container_of(op, struct checkpoint, op), (int)op->res);
}

static void checkpoint_written(struct io_op *op)
{
	struct checkpoint *checkpoint = container_of(op, struct checkpoint, op);
	size_t total = round_up(HEADER_BYTES + checkpoint->body_bytes, BLOCK_BYTES);
	if (op->res < 0) {
		checkpoint_end(checkpoint, (int)op->res);
		return;
	}
	checkpoint->written_bytes += (size_t)op->res;
	if (checkpoint->written_bytes < total) {
		uint32_t bytes = (uint32_t)min_u64(total - checkpoint->written_bytes, 4 * MIB);
		op->done = checkpoint_written;
		env_file_write(checkpoint->file, op, checkpoint->buf + checkpoint->written_bytes,
			       bytes, checkpoint->written_bytes, 0);
		return;
	}
	op->done = checkpoint_synced;
	if (MUTANT(46))
		env_complete(checkpoint->store->env, op, 0);
	else
		env_file_sync(checkpoint->file, op);
}

static void checkpoint_flushed(struct io_op *op)
{
	struct checkpoint *checkpoint = container_of(op, struct checkpoint, flush.op);
	struct store *store = checkpoint->store;
	int res = (int)op->res;
	if (res == 0)
		res = env_file_open(store->dir, file_name(checkpoint->generation + 1),
				    ENV_CREATE | ENV_DIRECT, &checkpoint->file);
	if (res < 0) {
		checkpoint_end(checkpoint, res);
		return;
	}
	checkpoint->written_bytes = 0;
	checkpoint->op.res = 0;
	checkpoint_written(&checkpoint->op);
}

static void checkpoint_begin(struct checkpoint *checkpoint)
{
	struct store *store = checkpoint->store;
	if (store->failed || env_now_ns(store->env) < checkpoint->retry_ns)
		return;
	size_t room = checkpoint_body_bytes(store);
	checkpoint->buf_bytes = round_up(HEADER_BYTES + room, BLOCK_BYTES);
	checkpoint->buf = env_memory(store->env, checkpoint->buf_bytes);
	if (!checkpoint->buf) {
		checkpoint->retry_ns = env_now_ns(store->env) + RETRY_NS;
		return;
	}
	checkpoint->wanted = false;
	checkpoint->running = true;
	log_place(store->log, &checkpoint->place);
	checkpoint->tail_pos =
		MUTANT(11) ? checkpoint->place.pos : catalog_tail(store, checkpoint->place.pos);
	struct cursor c = cursor_over(checkpoint->buf + HEADER_BYTES, room);
	checkpoint_body_encode(store, &c);
	checkpoint->body_bytes = room - cursor_left(&c);
	struct store_life life;
	scrub_life(store, &life);
	checkpoint_header_encode(store->sb.uuid, checkpoint->generation + 1, &checkpoint->place,
				 &life, &store->history, checkpoint->buf + HEADER_BYTES,
				 checkpoint->body_bytes, checkpoint->buf);
	checkpoint->flush = (struct log_flush_op){.op.done = checkpoint_flushed};
	if (MUTANT(8))
		env_complete(store->env, &checkpoint->flush.op, 0);
	else
		log_flush(store->log, &checkpoint->flush);
}

void checkpoint_committed(struct store *store)
{
	struct checkpoint *checkpoint = store->checkpoint;
	struct log_place place;
	if (!store->started || checkpoint->running)
		return;
	log_place(store->log, &place);
	if (place.pos - checkpoint->pos > store->sb.log_bytes / BLOCK_BYTES / 8)
		checkpoint->wanted = true;
	if (checkpoint->wanted)
		checkpoint_begin(checkpoint);
}

int checkpoint_init(struct store *store)
{
	store->checkpoint = calloc(1, sizeof(*store->checkpoint));
	if (!store->checkpoint)
		return -ENOMEM;
	store->checkpoint->store = store;
	return 0;
}

void checkpoint_exit(struct store *store)
{
	if (!store->checkpoint)
		return;
	if (store->checkpoint->buf)
		env_memory_free(store->env, store->checkpoint->buf, store->checkpoint->buf_bytes);
	env_file_close(store->checkpoint->file);
	free(store->checkpoint);
	store->checkpoint = NULL;
}

/* ---- the first one, and loading ---- */

int checkpoint_write_first(struct env *env, struct env_dir *dir, const uint8_t uuid[16])
{
	struct log_place place = {.seq = 1};
	size_t bytes = HEADER_BYTES + BLOCK_BYTES;
	struct env_file *file;
	int res = env_file_open(dir, file_name(0), ENV_CREATE | ENV_EXCL | ENV_DIRECT, &file);
	if (res < 0)
		return res;
	uint8_t *buf = env_memory(env, bytes);
	if (buf) {
		struct cursor c = cursor_over(buf + HEADER_BYTES, 40);
		put_u32(&c, 1); /* the first number of a volume */
		put_u32(&c, 0);
		put_u64(&c, 1);	   /* the first segment id */
		put_zeros(&c, 24); /* no domains but the superblock's, no snapshots, no segments */
		checkpoint_header_encode(uuid, 0, &place, &(struct store_life){0},
					 &(struct history){0}, buf + HEADER_BYTES, 40, buf);
		int64_t moved = env_file_write_wait(file, buf, (uint32_t)bytes, 0);
		res = moved < 0 ? (int)moved : env_file_sync_wait(file);
		env_memory_free(env, buf, bytes);
	} else {
		res = -ENOMEM;
	}
	env_file_close(file);
	if (res == 0) /* empty, so that its name is durable with the folder before it is needed */
		res = env_file_open(dir, file_name(1), ENV_CREATE | ENV_EXCL, &file);
	if (res == 0)
		env_file_close(file);
	return res;
}

/* The bytes of the file of that number prove themselves. */
static int file_decode(const struct store *store, uint64_t number, const uint8_t *buf,
		       uint64_t bytes, struct checkpoint_header *ret_header)
{
	int res = bytes < HEADER_BYTES ? -VS_EFORMAT
				       : checkpoint_header_decode(store->sb.uuid, buf, ret_header);
	if (res < 0)
		return res;
	if (ret_header->generation % 2 != number)
		return -VS_EFORMAT; /* the next one would be written over this one */
	return ret_header->body_bytes <= bytes - HEADER_BYTES &&
			       crc32c(0, buf + HEADER_BYTES, ret_header->body_bytes) ==
				       ret_header->body_crc
		       ? 0
		       : -VS_ECHECKSUM;
}

bool checkpoint_whole(const struct store *store, unsigned number, const uint8_t *buf,
		      uint64_t bytes)
{
	struct checkpoint_header header;
	return file_decode(store, number, buf, bytes, &header) == 0;
}

/* The body of a valid file, in new memory. */
static int file_read(struct store *store, uint64_t number, struct checkpoint_header *ret_header,
		     uint8_t **ret_buf, size_t *ret_bytes)
{
	struct env_file *file;
	int res = env_file_open(store->dir, file_name(number), ENV_RDONLY | ENV_DIRECT, &file);
	if (res < 0)
		return res;
	int64_t bytes = env_file_bytes(file);
	uint8_t *buf = NULL;
	if (bytes == 0)
		res = -ENOENT;
	else if (bytes < HEADER_BYTES || bytes > (int64_t)(BODY_BYTES_MAX + HEADER_BYTES))
		res = -VS_EFORMAT;
	else if (!(buf = env_memory(store->env, round_up((uint64_t)bytes, BLOCK_BYTES))))
		res = -ENOMEM;
	for (int64_t at = 0; res == 0 && at < bytes;) {
		uint32_t part =
			(uint32_t)min_u64(round_up((uint64_t)(bytes - at), BLOCK_BYTES), 4 * MIB);
		int64_t got = env_file_read_wait(file, buf + at, part, (uint64_t)at);
		if (got <= 0)
			res = got < 0 ? (int)got : -VS_EFORMAT;
		at += got;
	}
	env_file_close(file);
	if (res == 0)
		res = file_decode(store, number, buf, (uint64_t)bytes, ret_header);
	if (res < 0) {
		if (buf)
			env_memory_free(store->env, buf, round_up((uint64_t)bytes, BLOCK_BYTES));
		return res;
	}
	*ret_buf = buf;
	*ret_bytes = round_up((uint64_t)bytes, BLOCK_BYTES);
	return 0;
}

/* Applies the chosen one. */
static int body_load(struct store *store, const struct checkpoint_header *header,
		     const uint8_t *buf, struct log_place *ret_place)
{
	struct cursor c = cursor_reading(buf + HEADER_BYTES, header->body_bytes);
	*ret_place = header->place;
	store->checkpoint->generation = header->generation;
	store->checkpoint->pos = header->place.pos;
	store->age_base_ns = header->life.age_ns;
	store->history = header->history;
	scrub_life_set(store, &header->life);
	return checkpoint_body_decode(store, &c);
}

/* After a kill amid its sync a copy may be whole in the device's or the kernel's cache only. The
 * next checkpoint is written over the other copy: from here on this one must stay. */
static int file_stays(struct store *store, uint64_t number)
{
	struct env_file *file;
	int res = env_file_open(store->dir, file_name(number), ENV_DIRECT, &file);
	if (res < 0)
		return res;
	res = env_file_sync_wait(file);
	env_file_close(file);
	return res;
}

int checkpoint_load(struct store *store, struct log_place *ret_place, char *sentence)
{
	struct checkpoint_header headers[2] = {0};
	uint8_t *bufs[2] = {NULL, NULL};
	enum copy_fact facts[2];
	size_t bytes[2];
	int out = -ENOENT, synced = 0;
	for (unsigned i = 0; i < 2; i++) {
		int res = file_read(store, i, &headers[i], &bufs[i], &bytes[i]);
		facts[i] = recovery_copy_fact(res);
		out = res < 0 && out != -ENOMEM && res != -ENOENT ? res : out;
	}
	enum pair_verdict verdict =
		recovery_pair(&recovery_checkpoint, facts,
			      (uint64_t[]){headers[0].generation, headers[1].generation});
	if (verdict == PAIR_FIRST || verdict == PAIR_SECOND) {
		unsigned best = verdict == PAIR_SECOND;
		out = body_load(store, &headers[best], bufs[best], ret_place);
		if (out == 0 && !store->options.read_only && !MUTANT(82))
			synced = file_stays(store, best);
	}
	for (unsigned i = 0; i < 2; i++)
		if (bufs[i])
			env_memory_free(store->env, bufs[i], bytes[i]);
	if (out == -ENOMEM)
		snprintf(sentence, SENTENCE_BYTES,
			 "There is no memory for the store's checkpoint: free some, then start "
			 "again; nothing was changed.");
	else if (out < 0)
		snprintf(sentence, SENTENCE_BYTES,
			 "Neither checkpoint of the store can be read (%s): nothing was changed; "
			 "restore checkpoint.0 and checkpoint.1 from a copy, or ask for help.",
			 vs_strerror(out));
	else if (synced < 0)
		snprintf(sentence, SENTENCE_BYTES,
			 "The store's newest checkpoint cannot be synced (%s): look at the disk's "
			 "health, then start again; nothing was changed.",
			 vs_strerror(synced));
	return out < 0 ? out : synced;
}
