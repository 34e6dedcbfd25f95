/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a receive asks its peer for, and what becomes of what comes: chunks are written to the copy,
 * nodes stored beside it. The peer is told which node the copy has in the place of one, and may
 * answer with what differs.
 *
 * Keeps true: a record is stored only under the id that was computed from it here; what is asked
 * for is bounded; what was here and was collected meanwhile is asked for after all.
 */
#include "storage/store/receive.h"

#include "proto/node_delta.h"
#include "storage/store/behind.h"
#include "storage/store/index.h"
#include "storage/store/put.h"

#include <stdlib.h>

/* ---- what the peer is asked for ---- */

void receive_want_flush(struct receiving *receiving, unsigned nodes)
{
	uint32_t count = receiving->want_count[nodes];
	receiving->want_count[nodes] = 0;
	if (count)
		receiving->public->want(receiving->public, nodes ? RECORD_NODE : RECORD_CHUNK,
					receiving->want_ids[nodes][0],
					nodes ? receiving->want_bases[0] : NULL, count);
}

void receive_entry_want(struct entry *entry)
{
	struct receiving *receiving = entry->receiving;
	unsigned nodes = entry->type == RECORD_NODE;
	uint32_t at = receiving->want_count[nodes]++;
	entry->state = ENTRY_WANTED;
	memcpy(receiving->want_ids[nodes][at], entry->foreign.id.bytes, ID_BYTES);
	if (nodes)
		memcpy(receiving->want_bases[at], entry->base.bytes, ID_BYTES);
	if (receiving->want_count[nodes] == WANT_BATCH)
		receive_want_flush(receiving, nodes);
}

/* ---- entries ---- */

/* 0: the record is here, and a node can be read; -ENOENT; WAITING. */
int receive_is_here(struct receiving *receiving, const struct id *id, uint8_t type,
		    struct wait *wait)
{
	struct segment *segment;
	struct dir_entry *entry;
	int res = segments_locate(receiving->work.store, id, true, wait, &segment, &entry);
	if (res == WAITING)
		return WAITING;
	if (res < 0 || entry->type != type)
		return -ENOENT;
	if (type == RECORD_NODE)
		index_touch(receiving->work.store->index, id); /* it may be in no map */
	/* What is still being written cannot be read; a put of it waits for that. */
	bool written = !segment->writer ||
		       segment_durable_end(segment->writer) >= segment_record_end(segment, entry);
	return written || type == RECORD_CHUNK ? 0 : -ENOENT;
}

struct entry *receive_entry(struct receiving *receiving, uint8_t type, const struct id *id)
{
	struct entry *entry = receiving->entries;
	if (receiving->busy == ENTRY_COUNT)
		return NULL;
	while (entry->state != ENTRY_FREE)
		entry++;
	receiving->busy++;
	entry->type = type;
	entry->foreign = (struct foreign_record){.id = *id};
	entry->base = (struct id){0};
	entry->record = NULL;
	entry->put = NULL;
	receiving->nodes_wanted += type == RECORD_NODE;
	return entry;
}

struct entry *receive_entry_of(struct receiving *receiving, uint8_t type, const struct id *id,
			       enum entry_state state)
{
	for (unsigned i = 0; i < ENTRY_COUNT; i++) {
		struct entry *entry = &receiving->entries[i];
		if (entry->state != ENTRY_FREE && (!state || entry->state == state) &&
		    entry->type == type && id_equal(&entry->foreign.id, id))
			return entry;
	}
	return NULL;
}

void receive_entry_end(struct entry *entry, int res)
{
	struct receiving *receiving = entry->receiving;
	struct id id = entry->foreign.id;
	free(entry->record);
	entry->record = NULL;
	if (res == -ENOENT && !receiving->error) { /* it was here, and a collection took it */
		entry->foreign = (struct foreign_record){.id = id};
		entry->base = (struct id){0};
		receive_entry_want(entry);
		work_kick(receiving->work.store);
		return;
	}
	entry->state = ENTRY_FREE;
	receiving->busy--;
	receiving->stored += res == 0;
	receiving->nodes_wanted -= entry->type == RECORD_NODE;
	if (res < 0 && !receiving->error)
		receiving->error = res;
	struct entry *same;
	while (entry->type == RECORD_CHUNK &&
	       (same = receive_entry_of(receiving, RECORD_CHUNK, &id, ENTRY_SAME)))
		receive_entry_take(same);
	work_kick(receiving->work.store);
}

static void chunk_done(struct io_op *op)
{
	receive_entry_end(container_of(op, struct entry, request.op), (int)op->res);
}

void receive_write(struct entry *entry, enum request_kind kind, uint64_t offset, uint64_t bytes)
{
	struct store *store = entry->receiving->work.store;
	entry->state = ENTRY_TAKEN;
	entry->request = (struct store_request){.op.done = chunk_done,
						.view = entry->receiving->view,
						.kind = kind,
						.offset_bytes = offset,
						.length_bytes = bytes,
						.data = &entry->foreign};
	store->requests++;
	write_submit(&entry->request);
}

static void node_stored(struct put *put, int res)
{
	struct entry *entry = put->owner;
	put_free(put);
	entry->put = NULL;
	receive_entry_end(entry, res);
}

static void node_start(struct wait *wait)
{
	struct entry *entry = container_of(wait, struct entry, wait);
	struct receiving *receiving = entry->receiving;
	entry->wait.wake = node_start;
	entry->put = put_new(receiving->work.store, true, &entry->wait);
	if (!entry->put)
		return;
	entry->put->type = RECORD_NODE;
	entry->put->domain = receiving->view->volume->domain;
	entry->put->done = node_stored;
	entry->put->owner = entry;
	put_start_foreign(entry->put, &entry->foreign);
}

/* -ENOENT: the whole record is asked for. */
static void delta_stored(struct put *put, int res)
{
	const struct entry *entry = put->owner;
	bool other = res == 0 && !id_equal(&put->id, &entry->foreign.id);
	node_stored(put, other ? -ENOENT : res);
}

static void delta_start(struct wait *wait)
{
	struct entry *entry = container_of(wait, struct entry, wait);
	struct receiving *receiving = entry->receiving;
	struct store *store = receiving->work.store;
	entry->wait.wake = delta_start;
	if (!entry->put)
		entry->put = put_new(store, true, &entry->wait);
	if (!entry->put)
		return;
	const struct id *ids = NULL;
	int res = receive_is_here(receiving, &entry->base, RECORD_NODE, &entry->wait);
	if (res == 0)
		ids = map_node(store, &entry->base, &entry->wait, &res);
	if (res == WAITING)
		return;
	struct put *put = entry->put;
	put->owner = entry;
	if (!ids) {
		node_stored(put, -ENOENT);
		return;
	}
	memcpy(put->room, ids, NODE_BYTES);
	node_delta_apply(entry->record, put->room);
	put->type = RECORD_NODE;
	put->domain = receiving->view->volume->domain;
	put->level = 1;
	put->raw = put->room;
	put->done = delta_stored;
	put_start(put);
}

/* A record that came, or, of a chunk, one that is here. */
void receive_entry_take(struct entry *entry)
{
	if (entry->type == RECORD_CHUNK) {
		receive_write(entry, REQUEST_COPY, entry->chunk_no * CHUNK_BYTES, CHUNK_BYTES);
		return;
	}
	entry->state = ENTRY_TAKEN;
	node_start(&entry->wait);
}

void store_receive_record(struct store_receive *public, const uint8_t id_bytes[ID_BYTES],
			  const void *record, uint32_t record_bytes, int code)
{
	struct receiving *receiving = public->state;
	struct entry *entry;
	struct id id;
	memcpy(id.bytes, id_bytes, ID_BYTES);
	if (!receiving)
		return;
	entry = receive_entry_of(receiving, RECORD_CHUNK, &id, ENTRY_WANTED);
	if (!entry)
		entry = receive_entry_of(receiving, RECORD_NODE, &id, ENTRY_WANTED);
	if (!entry)
		return;
	int res = code;
	entry->record = record_bytes ? malloc(record_bytes) : NULL;
	if (record_bytes && !entry->record)
		res = -ENOMEM;
	if (entry->record) {
		memcpy(entry->record, record, record_bytes);
		res = foreign_record_decode(&entry->foreign, entry->type, entry->record,
					    record_bytes);
	}
	if (res < 0 || !entry->record || receiving->error) {
		/* The peer does not have it: no retry would help. */
		receive_entry_end(entry, res < 0 && res != -ENOENT ? res : -VS_ELOST);
		return;
	}
	public->fetched += entry->type == RECORD_CHUNK;
	receive_entry_take(entry);
}

void store_receive_delta(struct store_receive *public, const uint8_t id_bytes[ID_BYTES],
			 const uint8_t base[ID_BYTES], const void *delta, uint32_t delta_bytes)
{
	struct receiving *receiving = public->state;
	struct entry *entry;
	struct id id;
	memcpy(id.bytes, id_bytes, ID_BYTES);
	if (!receiving || !(entry = receive_entry_of(receiving, RECORD_NODE, &id, ENTRY_WANTED)))
		return;
	if (id_is_null(&entry->base) || memcmp(base, entry->base.bytes, ID_BYTES) != 0) {
		receive_entry_end(entry, -VS_EFORMAT); /* of something that nobody named */
		return;
	}
	entry->record = malloc(delta_bytes);
	if (!entry->record || receiving->error) {
		receive_entry_end(entry, -ENOMEM);
		return;
	}
	memcpy(entry->record, delta, delta_bytes);
	entry->state = ENTRY_TAKEN;
	delta_start(&entry->wait);
}
