/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes, trims, zeroes and flushes.
 *
 * A request is cut into pieces: aligned blocks go into the log with their data; whole chunks go
 * through put.c into a segment and the log names them; part of a block is read, changed and logged;
 * ranges of zeros are one record. write_admit.c lets them in.
 *
 * Keeps true: pieces take effect in the order of their log records; an answer comes after the
 * piece's commit is on the device; with FUA after it is durable.
 */
#include "storage/store/write_int.h"

#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/tap.h"

#include <stdlib.h>

static void put_free_again(struct wait *wait)
{
	struct writes *writes = container_of(wait, struct writes, put_wait);
	writes->put_waiting = false;
	write_kick(writes->pieces[0].store);
}

static void pace_again(struct wait *wait)
{
	struct writes *writes = container_of(wait, struct writes, pace_wait);
	writes->pace_waiting = false;
	write_kick(writes->pieces[0].store);
}

int write_init(struct store *store)
{
	struct writes *writes = calloc(1, sizeof(*writes));
	if (!writes)
		return -ENOMEM;
	store->writes = writes;
	for (unsigned i = 0; i < 2; i++)
		writes->queues[i].tail = &writes->queues[i].head;
	writes->ready_tail = &writes->ready;
	writes->flush_tail = &writes->flush_head;
	writes->put_wait.wake = put_free_again;
	writes->pace_wait.wake = pace_again;
	for (unsigned i = 0; i < PIECE_COUNT; i++) {
		writes->pieces[i].store = store;
		writes->pieces[i].next = writes->free;
		writes->free = &writes->pieces[i];
	}
	for (unsigned i = 0; i < FLUSH_COUNT; i++) {
		writes->flushes[i].next = writes->free_flush;
		writes->free_flush = &writes->flushes[i];
	}
	return 0;
}

void write_exit(struct store *store)
{
	if (!store->writes)
		return;
	for (unsigned i = 0; i < PIECE_COUNT; i++)
		free(store->writes->pieces[i].block);
	free(store->writes);
	store->writes = NULL;
}

uint64_t write_memory_bytes(void)
{
	return sizeof(struct writes) + PIECE_COUNT * (uint64_t)BLOCK_BYTES;
}

bool write_idle(const struct store *store)
{
	const struct writes *writes = store->writes;
	return !writes->queues[0].head && !writes->queues[1].head && !writes->under_way;
}

bool write_behind(const struct store *store)
{
	return store->writes->ready;
}

/* ---- flushes ---- */

static void flush_start(struct store_request *request);

static void flush_done(struct io_op *op)
{
	struct flush *flush = container_of(op, struct flush, op.op);
	struct store_request *request = flush->request;
	struct writes *writes = request->view->store->writes;
	struct store *store = request->view->store;
	if (op->res == 0)
		pace_flushed(store, env_now_ns(store->env) - flush->began_ns);
	flush->next = writes->free_flush;
	writes->free_flush = flush;
	if (writes->flush_head) {
		struct store_request *next = writes->flush_head;
		writes->flush_head = next->next;
		if (!writes->flush_head)
			writes->flush_tail = &writes->flush_head;
		flush_start(next);
	}
	if (op->res < 0 || !gate_hold(request))
		request_end(request, (int)op->res);
}

static void flush_start(struct store_request *request)
{
	struct store *store = request->view->store;
	struct writes *writes = store->writes;
	struct flush *flush = writes->free_flush;
	if (!flush) {
		request->next = NULL;
		*writes->flush_tail = request;
		writes->flush_tail = &request->next;
		return;
	}
	writes->free_flush = flush->next;
	request->vseq = request->view->volume->vseq;
	flush->request = request;
	flush->began_ns = env_now_ns(store->env);
	flush->op = (struct log_flush_op){.op.done = flush_done};
	log_flush(store->log, &flush->op);
}

/* ---- ends of pieces ---- */

void request_look_logged(struct store_request *request)
{
	if (request->logged && request->phase == 0 && request->unlogged == 0)
		request->logged(request);
}

static void piece_given(struct piece *piece)
{
	if (!piece->unlogged)
		return;
	piece->unlogged = false;
	piece->request->unlogged--;
	request_look_logged(piece->request);
}

static void piece_end(struct piece *piece, int res)
{
	struct store *store = piece->store;
	struct writes *writes = store->writes;
	struct store_request *request = piece->request;
	if (piece->put)
		put_free(piece->put);
	piece->put = NULL;
	if (piece->locked) {
		*lock_of(writes, request->view->volume, piece->chunk_no) = 0;
		writes->lock_total--;
		piece->locked = false;
	}
	if (piece->zero)
		request->view->volume->zeros_pending--;
	store->reserved_entries -= piece->entries_reserved;
	piece->next = writes->free;
	writes->free = piece;
	writes->under_way--;
	if (res < 0 && request->status == 0)
		request->status = res;
	piece_given(piece);
	if (--request->pending == 0 && request->phase == 0) {
		if (request->status == 0 && request->flags & REQUEST_FUA && !MUTANT(18))
			flush_start(request);
		else
			request_end(request, request->status);
	}
	write_kick(store);
}

static void piece_leaving(struct log_entry *entry)
{
	const struct piece *piece = container_of(entry, struct piece, entry);
	struct volume *volume = piece->request->view->volume;
	if (volume->tapped)
		tap_leaving(piece->store, volume, piece->record, piece->record_bytes,
			    piece->payload);
}

static void piece_logged(struct log_entry *entry, int res)
{
	struct piece *piece = container_of(entry, struct piece, entry);
	struct store *store = piece->store;
	if (res == 0) {
		res = catalog_apply(store, piece->record, piece->record_bytes, &entry->payload);
		if (res < 0)
			store_fail(store, res, "a logged write could not be applied");
		else if (piece->request->view->volume->tapped)
			tap_data(store, piece->request->view->volume, piece->record,
				 piece->record_bytes, piece->payload);
		res = res < 0 ? res : 0;
	}
	piece_end(piece, res);
}

bool piece_append(struct piece *piece)
{
	struct log *log = piece->store->log;
	if (piece->store->failed) { /* room may never come */
		piece_end(piece, -VS_EFAILSTOP);
		return true;
	}
	if (!log_room(log, piece->record_bytes, piece->block_count, false))
		return false;
	piece->entry.leaving = piece_leaving;
	piece->entry.done = piece_logged;
	log_append(log, &piece->entry, piece->record, piece->record_bytes, piece->payload,
		   piece->block_count, piece->request->flags & REQUEST_FUA && !MUTANT(18));
	piece_given(piece);
	return true;
}

static void piece_ready(struct piece *piece)
{
	struct writes *writes = piece->store->writes;
	if (!writes->ready && piece_append(piece))
		return;
	piece->next = NULL;
	*writes->ready_tail = piece;
	writes->ready_tail = &piece->next;
}

/* ---- long pieces ---- */

void piece_stored(struct put *put, int res)
{
	struct piece *piece = put->owner;
	struct volume *volume = piece->request->view->volume;
	if (res < 0) {
		piece_end(piece, res);
		return;
	}
	piece->record_bytes = record_chunk(volume, piece->chunk_no, &put->id, piece->record);
	put_free(put);
	piece->put = NULL;
	piece_ready(piece);
}

void part_read(struct chunk_read *read, int res)
{
	struct piece *piece = container_of(read, struct piece, read);
	struct volume *volume = piece->request->view->volume;
	if (res < 0) {
		piece_end(piece, res);
		return;
	}
	if (piece->payload)
		memcpy(piece->block + piece->skip_bytes, piece->payload, piece->bytes);
	else
		memset(piece->block + piece->skip_bytes, 0, piece->bytes);
	uint64_t block_no = piece->chunk_no * CHUNK_BLOCKS + read->block_first;
	piece->payload = piece->block;
	piece->block_count = 1;
	piece->record_bytes = record_write(volume, block_no, 1, piece->record);
	piece_ready(piece);
}

void part_barrier(struct log_entry *entry, int res)
{
	struct piece *piece = container_of(entry, struct piece, entry);
	if (res < 0)
		piece_end(piece, res);
	else
		chunk_read_start(piece->store, &piece->read);
}

void write_mark(struct store *store, void (*mark)(struct store *store, const struct id *id))
{
	for (unsigned i = 0; i < PIECE_COUNT; i++) {
		const struct piece *piece = &store->writes->pieces[i];
		struct cursor c = cursor_reading(piece->record, sizeof piece->record);
		struct id id;
		if (!piece->locked || piece->record[0] != LOG_CHUNK)
			continue; /* before its record, the put's segment is marked */
		cursor_take(&c, CHUNK_RECORD_ID);
		get_bytes(&c, &id, sizeof id);
		mark(store, &id);
	}
}

/* What can go straight into segments: it waits for workers and for its share of the disk, and small
 * writes do not wait behind it. A copy's writes stay in their order. */
static bool request_is_bulk(const struct store_request *request)
{
	return request->kind == REQUEST_WRITE && !(request->flags & REQUEST_FUA) &&
	       request->length_bytes >= CHUNK_BYTES && !request->view->volume->replica;
}

void write_submit(struct store_request *request)
{
	struct store *store = request->view->store;
	struct writes *writes = store->writes;
	if (request->kind == REQUEST_FLUSH) {
		flush_start(request);
		return;
	}
	request->phase = 1;
	request->next = NULL;
	struct write_queue *queue = &writes->queues[request_is_bulk(request)];
	*queue->tail = request;
	queue->tail = &request->next;
	write_kick(store);
}
