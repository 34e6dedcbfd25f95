/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stores one chunk or map node: hash it; look whether it is stored; if not, compress and append it;
 * end when the record is durable.
 *
 * Keeps true: a put ends well only when its record, its own or one that was found, is durable. Of
 * several puts of one id at once the first does the work and the others share its end. A candidate
 * of the index counts only when its full id is the same. Many puts may wait for one flush, but few
 * have memory for a chunk: it goes back as soon as the record is in the segment's buffer. A guest's
 * put may wait for a collection, which waits for the fold: so no put of a fold shares the end of
 * one that does, whichever came first, and there is always a buffer for it.
 */
#include "storage/store/put.h"

#include "storage/store/behind.h"
#include "storage/store/index.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/replica.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define BUSY_BUCKETS 128u
#define BUFFER_COUNT 64u	  /* puts that are not placed yet */
#define PUTS_LEFT (PUT_COUNT / 2) /* by background work to guests; so are half of the buffers */
#define BUFFERS_LEFT (BUFFER_COUNT / 2)
#define STORED_ROOM (CHUNK_BYTES + 1024)

struct puts {
	struct put all[PUT_COUNT];
	struct put *free;
	uint32_t free_count;
	struct wait_list waiters;
	struct put *busy[BUSY_BUCKETS]; /* those that may append, by id */
	uint8_t *buffers[BUFFER_COUNT]; /* that are free: a chunk, and what is stored of it */
	uint32_t buffer_count;
	uint32_t background_buffers; /* that background work has */
	uint8_t *memory;
	size_t memory_bytes;
};

int put_init(struct store *store)
{
	struct puts *puts = calloc(1, sizeof(*puts));
	size_t each = CHUNK_BYTES + STORED_ROOM;
	if (!puts)
		return -ENOMEM;
	store->puts = puts;
	puts->memory_bytes = BUFFER_COUNT * each;
	puts->memory = env_memory(store->env, puts->memory_bytes);
	if (!puts->memory)
		return -ENOMEM;
	for (unsigned i = 0; i < PUT_COUNT; i++) {
		struct put *put = &puts->all[i];
		put->store = store;
		put->next = puts->free;
		puts->free = put;
	}
	puts->free_count = PUT_COUNT;
	for (unsigned i = 0; i < BUFFER_COUNT; i++)
		puts->buffers[puts->buffer_count++] = puts->memory + i * each;
	return 0;
}

void put_exit(struct store *store)
{
	if (!store->puts)
		return;
	if (store->puts->memory)
		env_memory_free(store->env, store->puts->memory, store->puts->memory_bytes);
	free(store->puts);
	store->puts = NULL;
}

uint64_t put_memory_bytes(const struct store *store)
{
	return sizeof(struct puts) + store->puts->memory_bytes;
}

/* One buffer is for background work at any time: guests' puts may all wait for a collection, which
 * waits for the fold. */
static bool put_may(const struct puts *puts, bool background)
{
	if (!puts->free || !puts->buffer_count)
		return false;
	if (background)
		return !puts->background_buffers ||
		       (puts->free_count > PUTS_LEFT && puts->buffer_count > BUFFERS_LEFT);
	return puts->buffer_count > 1 || puts->background_buffers;
}

struct put *put_new(struct store *store, bool background, struct wait *wait)
{
	struct puts *puts = store->puts;
	if (!put_may(puts, background)) {
		wait_add(&puts->waiters, wait);
		return NULL;
	}
	struct put *put = puts->free;
	puts->free = put->next;
	puts->free_count--;
	put->room = puts->buffers[--puts->buffer_count];
	put->stored = put->room + CHUNK_BYTES;
	put->placed = NULL;
	put->background = background;
	puts->background_buffers += background;
	put->type = RECORD_CHUNK;
	put->same = put->same_next = NULL;
	put->listed = false;
	put->coming = put->wants_space = false;
	put->segment = NULL;
	put->patch = NULL;
	put->given = false;
	return put;
}

static void buffer_give_back(struct put *put)
{
	struct puts *puts = put->store->puts;
	if (put->room) {
		puts->buffers[puts->buffer_count++] = put->room;
		puts->background_buffers -= put->background;
	}
	put->room = put->stored = NULL;
}

/* Nothing of a chunk is looked at any more; what is woken may start the next put. */
static void put_placed(struct put *put)
{
	if (put->type != RECORD_CHUNK)
		return;
	buffer_give_back(put);
	if (put->placed)
		put->placed(put);
	wait_wake_all(&put->store->puts->waiters);
}

void put_free(struct put *put)
{
	struct puts *puts = put->store->puts;
	buffer_give_back(put);
	put->next = puts->free;
	puts->free = put;
	puts->free_count++;
	wait_wake_all(&puts->waiters);
}

static struct put **busy_bucket(struct put *put)
{
	return &put->store->puts->busy[id_word(&put->id, 0) % BUSY_BUCKETS];
}

/* It has been appended, or will not be. */
static void put_made(struct put *put)
{
	if (put->coming)
		segments_coming(put->store, -1);
	put->coming = false;
}

static void put_end(struct put *put, int res)
{
	put_made(put);
	struct put *same = put->same;
	if (put->listed) {
		struct put **at = busy_bucket(put);
		while (*at != put)
			at = &(*at)->next;
		*at = put->next;
		put->listed = false;
	}
	if (put->segment)
		segment_unuse(put->segment);
	put->segment = NULL;
	put->same = NULL;
	put->done(put, res);
	while (same) {
		struct put *next = same->same_next;
		same->done(same, res);
		same = next;
	}
}

static void put_durable(struct io_op *op)
{
	struct put *put = container_of(op, struct put, durable.op);
	if (op->res < 0)
		store_fail(put->store, (int)op->res, "a segment could not be made durable");
	put_end(put, (int)op->res);
}

static void put_wait_durable(struct put *put, struct segment *segment, uint64_t end)
{
	segment_use(segment);
	put->segment = segment;
	put_made(put);
	put->durable = (struct durable_wait){.op.done = put_durable};
	if (!segment->writer || segment_durable_end(segment->writer) >= end || MUTANT(9) ||
	    (MUTANT(45) && put->type == RECORD_NODE))
		env_complete(put->store->env, &put->durable.op, 0);
	else
		segment_wait_durable(segment->writer, &put->durable, end);
	put_placed(put);
}

/* Puts of a fold share the end of one that is about to wait for a collection, which waits for the
 * fold: they end here. */
static void put_leave_folds(struct put *put)
{
	struct put *folds = NULL;
	for (struct put **at = &put->same; *at;) {
		struct put *same = *at;
		if (!same->background) {
			at = &same->same_next;
			continue;
		}
		*at = same->same_next;
		same->same_next = folds;
		folds = same;
	}
	while (folds) {
		struct put *next = folds->same_next;
		folds->done(folds, -ENOSPC);
		folds = next;
	}
}

static void put_append(struct wait *wait)
{
	struct put *put = container_of(wait, struct put, wait);
	struct store *store = put->store;
	uint64_t end;
	put->wait.wake = put_append;
	put->wants_space = false;
	int res = segments_room(store, put->stored_bytes, &put->wait);
	if (res == WAITING)
		return;
	/* A fold does not wait for a collection, which would wait for the fold. */
	if (res == -ENOSPC && !put->background && gc_may_help(store)) {
		put->wants_space = true;
		segments_wait_space(store, &put->wait);
		put_leave_folds(put);
		return;
	}
	if (res < 0) {
		put_end(put, res);
		return;
	}
	struct dir_entry entry = {.id = put->id,
				  .type = put->type,
				  .domain = put->domain,
				  .raw_bytes = put->raw_bytes,
				  .frame_count = (uint8_t)(put->raw_bytes / put->frame_bytes)};
	struct segment *segment =
		segments_append(store, &entry, put->frames, put->stored, put->stored_bytes, &end);
	store->counters.chunk_bytes_out += put->stored_bytes;
	pace_spend(store, put->stored_bytes);
	put_wait_durable(put, segment, end);
}

static void put_encoded(struct io_op *op)
{
	struct put *put = container_of(op, struct put, job.op);
	if (op->res < 0) {
		put_end(put, (int)op->res);
		return;
	}
	put->stored_bytes = (uint32_t)op->res;
	put_append(&put->wait);
}

static int64_t put_encode(struct env_job *job, unsigned worker_no)
{
	struct put *put = container_of(job, struct put, job);
	uint32_t prefix = record_prefix_bytes(put->type);
	memcpy(put->stored, put->quarters, prefix);
	if (put->patch)
		return prefix + patch_encode(put->store->codec, worker_no, put->level, put->patch,
					     put->frame_bytes, put->raw, &put->id,
					     put->stored + prefix, put->frames, &put->frame_bytes);
	int64_t bytes =
		codec_encode(put->store->codec, worker_no, put->level, put->frame_bytes, put->raw,
			     put->raw_bytes, &put->id, put->stored + prefix, put->frames);
	return bytes < 0 ? bytes : bytes + prefix;
}

static void put_look(struct wait *wait)
{
	struct put *put = container_of(wait, struct put, wait);
	struct store *store = put->store;
	struct segment *segment;
	struct dir_entry *entry;
	put->wait.wake = put_look;
	int res = segments_locate(store, &put->id, true, &put->wait, &segment, &entry);
	if (res == WAITING)
		return;
	if (res == 0 && entry->type == put->type) {
		store->counters.chunks_deduplicated++;
		if (!MUTANT(50))
			index_touch(store->index, &put->id);
		put_wait_durable(put, segment,
				 segment->writer ? segment_record_end(segment, entry) : 0);
		return;
	}
	if (put->given) {
		if (put->stored_bytes)
			put_append(&put->wait);
		else
			put_end(put, -ENOENT); /* it was thought to be here */
		return;
	}
	put->job = (struct env_job){
		.op.done = put_encoded, .run = put_encode, .background = put->background};
	env_job(store->env, &put->job);
}

static void put_hashed(struct io_op *op)
{
	struct put *put = container_of(op, struct put, job.op);
	if (op->res < 0) { /* a record that came is not what it says */
		put_end(put, (int)op->res);
		return;
	}
	if (put->zero) {
		memset(&put->id, 0, sizeof put->id);
		put_end(put, 0);
		return;
	}
	struct put **bucket = busy_bucket(put);
	for (struct put *first = *bucket; first; first = first->next)
		if (id_equal(&first->id, &put->id) && first->type == put->type) {
			if (first->wants_space && put->background) {
				put_end(put, -ENOSPC);
				return;
			}
			put_made(put);
			put->store->counters.chunks_deduplicated++;
			if (MUTANT(41)) {
				put->done(put, 0);
				return;
			}
			put->same_next = first->same;
			first->same = put;
			put_placed(put);
			return;
		}
	if (!put->given || put->stored_bytes) { /* who has nothing to store leads nobody */
		put->next = *bucket;
		*bucket = put;
		put->listed = true;
	}
	put_look(&put->wait);
}

static int64_t put_hash(struct env_job *job, unsigned worker_no)
{
	struct put *put = container_of(job, struct put, job);
	const struct domain_key *key = domain_key(put->store, put->domain);
	if (put->patch) {
		patch_hash(put->store->codec, worker_no, key, put->patch, put->frame_bytes,
			   put->room, put->stored, put->quarters, &put->zero, &put->id);
		return 0;
	}
	put->zero = put->type == RECORD_CHUNK && codec_is_zero(put->raw, put->raw_bytes);
	if (put->zero)
		return 0;
	if (put->type == RECORD_NODE) {
		codec_id_node(key, put->raw, put->raw_bytes, &put->id);
		return 0;
	}
	codec_hash_quarters(put->raw, put->quarters);
	codec_id_quarters(key, (const uint8_t(*)[32])put->quarters, &put->id);
	return 0;
}

void put_start(struct put *put)
{
	put->raw_bytes = put->type == RECORD_CHUNK ? CHUNK_BYTES : NODE_BYTES;
	if (put->type == RECORD_NODE)
		put->frame_bytes = NODE_BYTES;
	put->store->counters.chunk_bytes_in += put->raw_bytes;
	put->coming = true;
	segments_coming(put->store, 1);
	put->job = (struct env_job){
		.op.done = put_hashed, .run = put_hash, .background = put->background};
	env_job(put->store->env, &put->job);
}

/* ---- records that came from a peer ---- */

/* The quarters' hashes that came along are proved by nothing: ours are stored. */
static int64_t put_verify(struct env_job *job, unsigned worker_no)
{
	struct put *put = container_of(job, struct put, job);
	const struct domain_key *key = domain_key(put->store, put->domain);
	const uint8_t *stored = put->stored + record_prefix_bytes(put->type);
	struct id id;
	for (uint32_t i = 0; i < put->raw_bytes / put->frame_bytes; i++) {
		int res = codec_decode(put->store->codec, worker_no, &put->frames[i], i, &put->id,
				       stored, put->room + (size_t)i * put->frame_bytes,
				       put->frame_bytes);
		if (res < 0)
			return res;
		stored += put->frames[i].stored_bytes;
	}
	if (put->type == RECORD_NODE) {
		codec_id_node(key, put->room, put->raw_bytes, &id);
	} else {
		codec_hash_quarters(put->room, put->quarters);
		codec_id_quarters(key, (const uint8_t(*)[32])put->quarters, &id);
		memcpy(put->stored, put->quarters, sizeof put->quarters);
	}
	return id_equal(&id, &put->id) ? 0 : -VS_ECHECKSUM;
}

static int64_t put_known(struct env_job *job, unsigned worker_no)
{
	return 0;
}

void put_start_foreign(struct put *put, const struct foreign_record *foreign)
{
	put->given = true;
	put->zero = false;
	put->id = foreign->id;
	put->raw_bytes = put->type == RECORD_CHUNK ? CHUNK_BYTES : NODE_BYTES;
	put->stored_bytes = foreign->stored ? foreign->stored_bytes : 0;
	if (foreign->stored) {
		assert(foreign->stored_bytes <= STORED_ROOM);
		put->frame_bytes = foreign->frame_bytes;
		memcpy(put->stored, foreign->stored, foreign->stored_bytes);
		memcpy(put->frames, foreign->frames, sizeof put->frames);
		for (unsigned i = 0; i < FRAMES_PER_CHUNK_MAX; i++)
			if (put->frames[i].codec == FRAME_PACKED &&
			    !store_has(put->store, FEATURE_PACKED))
				put->frames[i].codec = FRAME_ZSTD; /* the same bytes */
	}
	put->coming = true;
	segments_coming(put->store, 1);
	put->job = (struct env_job){.op.done = put_hashed,
				    .run = foreign->stored ? put_verify : put_known,
				    .background = put->background};
	env_job(put->store->env, &put->job);
}

void put_mark(struct store *store)
{
	for (unsigned i = 0; i < PUT_COUNT; i++)
		if (store->puts->all[i].segment)
			index_touch(store->index, &store->puts->all[i].id);
}
