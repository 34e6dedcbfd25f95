/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a copy of another host's snapshot: compares its tree with the copy's map from the top down
 * and takes in what differs.
 *
 *     MAKE -> FOLD -> DIFF -> FOLD -> COMPARE -> PUBLISH
 *
 * Nodes that are not here are asked for and stored as they come, so that the walk reads both trees
 * the same way; the peer is told which node the copy has in their place, and may answer with what
 * differs. Chunks become the copy's by writes of kind REQUEST_COPY, which hold and admit them
 * as a guest's writes. So a cut loses nothing that arrived: the next try finds it in the map.
 * Nodes are in no map until a fold names equal ones: while the walk may come to them, they are
 * touched for each collection.
 *
 * Keeps true: a record is stored only under the id that was computed from it here; the snapshot is
 * published only when the copy's top is the offered one; what is asked for is bounded.
 */
#include "storage/store/replica.h"

#include "proto/node_delta.h"
#include "storage/store/behind.h"
#include "storage/store/index.h"
#include "storage/store/put.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"
#include "storage/store/work.h"

#include <stdio.h>
#include <stdlib.h>

#define ENTRY_COUNT STORE_WANTS_MAX
#define NODE_SHARE (ENTRY_COUNT / 4) /* entries that nodes asked for ahead may have */
#define WANT_BATCH 64u
#define RESTARTS_MAX 64u /* of the comparison, when a node of the old map is gone meanwhile */

enum phase { RECEIVE_MAKE, RECEIVE_FOLD, RECEIVE_DIFF, RECEIVE_END, RECEIVE_PUBLISH };

/* A chunk or node that is on its way, or a range that becomes zeros. */
enum entry_state {
	ENTRY_FREE,
	ENTRY_WANTED, /* the peer was asked for it */
	ENTRY_SAME,   /* another entry was, for the same id */
	ENTRY_TAKEN,  /* being stored */
};
struct receiving;
struct entry {
	struct receiving *receiving;
	enum entry_state state;
	uint8_t type;
	uint64_t chunk_no;
	struct copy copy;
	struct id base;	 /* of a node: what the copy has in its place; null: nothing */
	uint8_t *record; /* what came: a record, or what differs from `base` */
	struct store_request request;
	struct put *put; /* of a node */
	struct wait wait;
};

struct receiving {
	struct work work;
	struct store_work own; /* work's public half */
	struct store_receive *public;
	enum phase phase;
	char name[NAME_ROOM];
	struct view *view;
	struct admin_op admin;
	bool admin_busy, admin_done, walking;
	int error;
	unsigned restarts, busy, nodes_wanted;
	struct entry entries[ENTRY_COUNT];
	uint8_t want_ids[2][WANT_BATCH][ID_BYTES]; /* chunks, nodes */
	uint8_t want_bases[WANT_BATCH][ID_BYTES];
	uint32_t want_count[2];

	struct id path[MAP_LEVELS][2]; /* the offered tree, the copy's */
	unsigned slot[MAP_LEVELS], depth;
	bool ahead[MAP_LEVELS]; /* its children were asked for, and are these: */
	struct id children[MAP_LEVELS - 1][NODE_SLOTS];
};

static const struct id no_ids[NODE_SLOTS];

/* ---- what the peer is asked for ---- */

static void want_flush(struct receiving *receiving, unsigned nodes)
{
	uint32_t count = receiving->want_count[nodes];
	receiving->want_count[nodes] = 0;
	if (count)
		receiving->public->want(receiving->public, nodes ? RECORD_NODE : RECORD_CHUNK,
					receiving->want_ids[nodes][0],
					nodes ? receiving->want_bases[0] : NULL, count);
}

static void entry_want(struct entry *entry)
{
	struct receiving *receiving = entry->receiving;
	unsigned nodes = entry->type == RECORD_NODE;
	uint32_t at = receiving->want_count[nodes]++;
	entry->state = ENTRY_WANTED;
	memcpy(receiving->want_ids[nodes][at], entry->copy.id.bytes, ID_BYTES);
	if (nodes)
		memcpy(receiving->want_bases[at], entry->base.bytes, ID_BYTES);
	if (receiving->want_count[nodes] == WANT_BATCH)
		want_flush(receiving, nodes);
}

/* ---- entries ---- */

/* 0: the record is here, and a node can be read; -ENOENT; WAITING. */
static int is_here(struct receiving *receiving, const struct id *id, uint8_t type,
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

static struct entry *entry_new(struct receiving *receiving, uint8_t type, const struct id *id)
{
	struct entry *entry = receiving->entries;
	if (receiving->busy == ENTRY_COUNT)
		return NULL;
	while (entry->state != ENTRY_FREE)
		entry++;
	receiving->busy++;
	entry->type = type;
	entry->copy = (struct copy){.id = *id};
	entry->base = (struct id){0};
	entry->record = NULL;
	entry->put = NULL;
	receiving->nodes_wanted += type == RECORD_NODE;
	return entry;
}

static struct entry *entry_of(struct receiving *receiving, uint8_t type, const struct id *id,
			      enum entry_state state)
{
	for (unsigned i = 0; i < ENTRY_COUNT; i++) {
		struct entry *entry = &receiving->entries[i];
		if (entry->state != ENTRY_FREE && (!state || entry->state == state) &&
		    entry->type == type && id_equal(&entry->copy.id, id))
			return entry;
	}
	return NULL;
}

static void entry_take(struct entry *entry);

static void entry_end(struct entry *entry, int res)
{
	struct receiving *receiving = entry->receiving;
	struct id id = entry->copy.id;
	free(entry->record);
	entry->record = NULL;
	if (res == -ENOENT && !receiving->error) { /* it was here, and a collection took it */
		entry->copy = (struct copy){.id = id};
		entry->base = (struct id){0};
		entry_want(entry);
		work_kick(receiving->work.store);
		return;
	}
	entry->state = ENTRY_FREE;
	receiving->busy--;
	receiving->nodes_wanted -= entry->type == RECORD_NODE;
	if (res < 0 && !receiving->error)
		receiving->error = res;
	struct entry *same;
	while (entry->type == RECORD_CHUNK &&
	       (same = entry_of(receiving, RECORD_CHUNK, &id, ENTRY_SAME)))
		entry_take(same);
	work_kick(receiving->work.store);
}

static void chunk_done(struct io_op *op)
{
	entry_end(container_of(op, struct entry, request.op), (int)op->res);
}

static void write_start(struct entry *entry, enum request_kind kind, uint64_t offset,
			uint64_t bytes)
{
	struct store *store = entry->receiving->work.store;
	entry->state = ENTRY_TAKEN;
	entry->request = (struct store_request){.op.done = chunk_done,
						.view = entry->receiving->view,
						.kind = kind,
						.offset_bytes = offset,
						.length_bytes = bytes,
						.data = &entry->copy};
	store->requests++;
	write_submit(&entry->request);
}

static void node_stored(struct put *put, int res)
{
	struct entry *entry = put->owner;
	put_free(put);
	entry->put = NULL;
	entry_end(entry, res);
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
	put_start_copy(entry->put, &entry->copy);
}

/* -ENOENT: the whole record is asked for. */
static void delta_stored(struct put *put, int res)
{
	const struct entry *entry = put->owner;
	bool other = res == 0 && !id_equal(&put->id, &entry->copy.id);
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
	int res = is_here(receiving, &entry->base, RECORD_NODE, &entry->wait);
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
static void entry_take(struct entry *entry)
{
	if (entry->type == RECORD_CHUNK) {
		write_start(entry, REQUEST_COPY, entry->chunk_no * CHUNK_BYTES, CHUNK_BYTES);
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
	entry = entry_of(receiving, RECORD_CHUNK, &id, ENTRY_WANTED);
	if (!entry)
		entry = entry_of(receiving, RECORD_NODE, &id, ENTRY_WANTED);
	if (!entry)
		return;
	int res = code;
	entry->record = record_bytes ? malloc(record_bytes) : NULL;
	if (record_bytes && !entry->record)
		res = -ENOMEM;
	if (entry->record) {
		memcpy(entry->record, record, record_bytes);
		res = copy_decode(&entry->copy, entry->type, entry->record, record_bytes);
	}
	if (res < 0 || !entry->record || receiving->error) {
		/* The peer does not have it: no retry would help. */
		entry_end(entry, res < 0 && res != -ENOENT ? res : -VS_ELOST);
		return;
	}
	public->fetched += entry->type == RECORD_CHUNK;
	entry_take(entry);
}

void store_receive_delta(struct store_receive *public, const uint8_t id_bytes[ID_BYTES],
			 const uint8_t base[ID_BYTES], const void *delta, uint32_t delta_bytes)
{
	struct receiving *receiving = public->state;
	struct entry *entry;
	struct id id;
	memcpy(id.bytes, id_bytes, ID_BYTES);
	if (!receiving || !(entry = entry_of(receiving, RECORD_NODE, &id, ENTRY_WANTED)))
		return;
	if (id_is_null(&entry->base) || memcmp(base, entry->base.bytes, ID_BYTES) != 0) {
		entry_end(entry, -VS_EFORMAT); /* of something that nobody named */
		return;
	}
	entry->record = malloc(delta_bytes);
	if (!entry->record || receiving->error) {
		entry_end(entry, -ENOMEM);
		return;
	}
	memcpy(entry->record, delta, delta_bytes);
	entry->state = ENTRY_TAKEN;
	delta_start(&entry->wait);
}

/* ---- the comparison ---- */

/* 0, WAITING, or -EBUSY: no entry is free. */
static int take_chunk(struct receiving *receiving, uint64_t chunk_no, const struct id *id)
{
	if (receiving->busy == ENTRY_COUNT)
		return -EBUSY;
	struct entry *entry;
	if (id_is_null(id)) {
		uint64_t size = receiving->public->offer.size_bytes;
		uint64_t offset = chunk_no * CHUNK_BYTES;
		entry = entry_new(receiving, RECORD_CHUNK, id);
		entry->chunk_no = chunk_no;
		write_start(entry, REQUEST_ZERO, offset,
			    offset < size ? min_u64(CHUNK_BYTES, size - offset) : CHUNK_BYTES);
		receiving->public->chunks++;
		return 0;
	}
	bool same = entry_of(receiving, RECORD_CHUNK, id, ENTRY_FREE) != NULL;
	int res = same ? 0 : is_here(receiving, id, RECORD_CHUNK, &receiving->work.wait);
	if (res == WAITING)
		return work_waits(&receiving->work);
	entry = entry_new(receiving, RECORD_CHUNK, id);
	entry->chunk_no = chunk_no;
	receiving->public->chunks++;
	if (same) {
		entry->state = ENTRY_SAME;
		receiving->public->found++;
	} else if (res == 0) {
		receiving->public->found++;
		entry_take(entry);
	} else {
		entry_want(entry);
	}
	return 0;
}

/* `own`: the copy's node in its place, or null. */
static void want_node(struct receiving *receiving, const struct id *id, const struct id *own)
{
	if (entry_of(receiving, RECORD_NODE, id, ENTRY_FREE) || receiving->busy == ENTRY_COUNT)
		return;
	struct entry *entry = entry_new(receiving, RECORD_NODE, id);
	entry->base = *own;
	entry_want(entry);
}

/* Children that will be needed soon, so that the walk does not wait a round trip for each. */
static void want_ahead(struct receiving *receiving, const struct id *offered, const struct id *own)
{
	for (unsigned i = 0; i < NODE_SLOTS && receiving->nodes_wanted < NODE_SHARE; i++)
		if (!id_is_null(&offered[i]) && !id_equal(&offered[i], &own[i]) &&
		    is_here(receiving, &offered[i], RECORD_NODE, NULL) == -ENOENT)
			want_node(receiving, &offered[i], &own[i]);
}

/* The ids of a node of one of the trees; NULL: *ret_res is WAITING, -EBUSY or an error. */
static const struct id *node_of(struct receiving *receiving, unsigned side, int *ret_res)
{
	const struct id *id = &receiving->path[receiving->depth][side];
	struct store *store = receiving->work.store;
	if (id_is_null(id))
		return no_ids;
	if (side == 0) {
		int here = is_here(receiving, id, RECORD_NODE, &receiving->work.wait);
		if (here == -ENOENT) {
			want_node(receiving, id, &receiving->path[receiving->depth][1]);
			*ret_res = -EBUSY;
			return NULL;
		}
		if (here == WAITING) {
			*ret_res = work_waits(&receiving->work);
			return NULL;
		}
	}
	const struct id *ids = map_node(store, id, &receiving->work.wait, ret_res);
	if (!ids && *ret_res == WAITING)
		work_waits(&receiving->work);
	return ids;
}

static uint64_t chunk_at(const struct receiving *receiving)
{
	uint64_t chunk_no = 0;
	for (unsigned i = 0; i < MAP_LEVELS; i++)
		chunk_no = chunk_no << 8 | (receiving->slot[i] & 0xff);
	return chunk_no;
}

static void walk_begin(struct receiving *receiving)
{
	receiving->depth = 0;
	receiving->slot[0] = 0;
	receiving->ahead[0] = false;
	memcpy(receiving->path[0][0].bytes, receiving->public->offer.top, ID_BYTES);
	receiving->path[0][1] = receiving->view->volume->top;
	receiving->walking = !id_equal(&receiving->path[0][0], &receiving->path[0][1]);
}

/* One node's differing slots, or down into the first. 0: go on; else as walk_step. */
static int walk_node(struct receiving *receiving)
{
	unsigned depth = receiving->depth;
	int res = 0;
	const struct id *offered = node_of(receiving, 0, &res);
	const struct id *own = offered ? node_of(receiving, 1, &res) : NULL;
	if (!own)
		return res;
	if (depth < MAP_LEVELS - 1 && !receiving->ahead[depth]) {
		memcpy(receiving->children[depth], offered, sizeof receiving->children[depth]);
		receiving->ahead[depth] = true;
		want_ahead(receiving, receiving->children[depth], own);
	}
	for (; receiving->slot[depth] < NODE_SLOTS; receiving->slot[depth]++) {
		unsigned i = receiving->slot[depth];
		if (id_equal(&offered[i], &own[i]))
			continue;
		if (depth < MAP_LEVELS - 1) {
			receiving->path[depth + 1][0] = offered[i];
			receiving->path[depth + 1][1] = own[i];
			receiving->slot[depth + 1] = 0;
			receiving->ahead[depth + 1] = false;
			receiving->depth++;
			return 0;
		}
		res = take_chunk(receiving, chunk_at(receiving), &offered[i]);
		if (res)
			return res;
	}
	if (depth == 0)
		receiving->walking = false;
	else
		receiving->slot[--receiving->depth]++;
	return 0;
}

static int diff_step(struct receiving *receiving)
{
	unsigned nodes = 0;
	int res = 0;
	while (receiving->walking && res == 0 && nodes++ < 64)
		res = walk_node(receiving);
	want_flush(receiving, 0);
	want_flush(receiving, 1);
	if (res == -EBUSY || (res == 0 && !receiving->walking && receiving->busy))
		return WAITING; /* an entry's end goes on */
	if (res < 0 && receiving->restarts++ < RESTARTS_MAX && !receiving->busy) {
		receiving->phase = RECEIVE_FOLD; /* a node of the old map is gone: from its new */
		return WALK_MORE;
	}
	if (res < 0)
		return receiving->busy ? WAITING : res;
	if (res == 0 && receiving->walking)
		return WALK_MORE;
	if (res == 0)
		receiving->phase = RECEIVE_END;
	return res == 0 ? WALK_MORE : res;
}

/* ---- the whole ---- */

static void admin_done(struct io_op *op)
{
	struct receiving *receiving = container_of(op, struct receiving, admin.op);
	receiving->admin_busy = false;
	receiving->admin_done = true;
	if (op->res < 0 && !receiving->error) {
		receiving->error = (int)op->res;
		memcpy(receiving->own.sentence, receiving->admin.sentence, SENTENCE_BYTES);
	}
	work_kick(receiving->work.store);
}

/* True: the command has ended. */
static bool admin_run(struct receiving *receiving,
		      void (*command)(struct store *store, struct admin_op *op, const char *name,
				      const struct store_offer *offer))
{
	if (receiving->admin_done) {
		receiving->admin_done = false;
		return true;
	}
	if (!receiving->admin_busy) {
		receiving->admin_busy = true;
		receiving->admin = (struct admin_op){.op.done = admin_done};
		command(receiving->work.store, &receiving->admin, receiving->name,
			&receiving->public->offer);
	}
	return false;
}

static int make_step(struct receiving *receiving)
{
	struct store *store = receiving->work.store;
	const struct store_offer *offer = &receiving->public->offer;
	int res = replica_published(store, receiving->name, offer);
	if (res == 1)
		return 0;
	if (res == -EEXIST)
		return work_refuse(&receiving->work, res,
				   "'%s@%s' is here already, and is not the same.", receiving->name,
				   offer->snapshot);
	if (res < 0)
		return res;
	if (!admin_run(receiving, replica_make))
		return WAITING;
	if (receiving->error)
		return receiving->error;
	struct view *view; /* since the commit, somebody may have taken or deleted it */
	res = store_view_open(store, receiving->name, &view);
	if (res < 0)
		return res;
	if (view->volume->taken) {
		store_view_close(view);
		return work_refuse(&receiving->work, -EBUSY,
				   "'%s' is being received already; try again later.",
				   receiving->name);
	}
	receiving->view = view;
	view->volume->taken = true;
	receiving->phase = RECEIVE_FOLD;
	return WALK_MORE;
}

static int end_step(struct receiving *receiving)
{
	struct id top;
	uint64_t size_bytes;
	int res = work_root(&receiving->work, receiving->name, &top, &size_bytes);
	if (res)
		return res;
	if (memcmp(top.bytes, receiving->public->offer.top, ID_BYTES) != 0)
		return work_refuse(&receiving->work, -VS_ECHECKSUM,
				   "The copy '%s' did not become what was offered: nothing is "
				   "published.",
				   receiving->name);
	receiving->phase = RECEIVE_PUBLISH;
	return WALK_MORE;
}

static int receive_step(struct work *work)
{
	struct receiving *receiving = container_of(work, struct receiving, work);
	struct id top;
	uint64_t size_bytes;
	if (receiving->own.cancel && !receiving->error)
		receiving->error = -VS_ECANCELLED;
	if (receiving->error) {
		for (unsigned i = 0; i < ENTRY_COUNT; i++)
			if (receiving->entries[i].state == ENTRY_WANTED ||
			    receiving->entries[i].state == ENTRY_SAME)
				entry_end(&receiving->entries[i], receiving->error);
		return receiving->busy || receiving->admin_busy ? WAITING : receiving->error;
	}
	switch (receiving->phase) {
	case RECEIVE_MAKE:
		return make_step(receiving);
	case RECEIVE_FOLD: {
		int res = work_root(work, receiving->name, &top, &size_bytes);
		if (res)
			return res;
		receiving->phase = RECEIVE_DIFF;
		walk_begin(receiving);
		return WALK_MORE;
	}
	case RECEIVE_DIFF:
		return diff_step(receiving);
	case RECEIVE_END:
		return end_step(receiving);
	case RECEIVE_PUBLISH:
		if (!admin_run(receiving, replica_publish))
			return WAITING;
		return receiving->error;
	}
	__builtin_unreachable();
}

static bool receive_must_finish(const struct work *work)
{
	const struct receiving *receiving = container_of(work, struct receiving, work);
	return receiving->busy || receiving->admin_busy;
}

/* The walk's path in the offered tree, and what was asked for ahead of it. */
static void receive_mark(const struct work *work)
{
	const struct receiving *receiving = container_of(work, const struct receiving, work);
	struct index *index = work->store->index;
	for (unsigned depth = 0; receiving->walking && depth <= receiving->depth; depth++) {
		index_touch(index, &receiving->path[depth][0]);
		for (unsigned i = 0; receiving->ahead[depth] && i < NODE_SLOTS; i++)
			if (!id_is_null(&receiving->children[depth][i]))
				index_touch(index, &receiving->children[depth][i]);
	}
}

/* It lives until own.op: that is what the work ends with. */
static void receive_done(struct work *work)
{
	struct receiving *receiving = container_of(work, struct receiving, work);
	for (unsigned i = 0; i < ENTRY_COUNT; i++)
		free(receiving->entries[i].record);
	if (receiving->view)
		store_copy_close(receiving->view);
	receiving->view = NULL;
	receiving->public->state = NULL;
}

static void receive_ended(struct io_op *op)
{
	struct receiving *receiving = container_of(op, struct receiving, own.op);
	struct store_receive *public = receiving->public;
	struct store *store = receiving->work.store;
	memcpy(public->sentence, receiving->own.sentence, SENTENCE_BYTES);
	int64_t res = op->res;
	free(receiving);
	env_complete(store->env, &public->op, res);
}

void store_receive(struct store *store, struct store_receive *public)
{
	struct receiving *receiving = calloc(1, sizeof(*receiving));
	public->sentence[0] = 0;
	public->state = receiving;
	public->chunks = public->fetched = public->found = 0;
	if (!receiving) {
		snprintf(public->sentence, SENTENCE_BYTES, "There is no memory for a copy.");
		env_complete(store->env, &public->op, -ENOMEM);
		return;
	}
	receiving->public = public;
	receiving->work.step = receive_step;
	receiving->work.done = receive_done;
	receiving->work.must_finish = receive_must_finish;
	receiving->work.mark = receive_mark;
	receiving->own.op.done = receive_ended;
	for (unsigned i = 0; i < ENTRY_COUNT; i++)
		receiving->entries[i].receiving = receiving;
	if (snprintf(receiving->name, sizeof receiving->name, "%s/%s", public->host,
		     public->offer.volume) >= (int)sizeof receiving->name) {
		receiving->error = -ENAMETOOLONG;
		snprintf(receiving->own.sentence, SENTENCE_BYTES,
			 "'%.63s/%.63s' is too long a name for a copy: host and volume share 62 "
			 "characters.",
			 public->host, public->offer.volume);
	}
	work_start(store, &receiving->work, &receiving->own);
}

void store_receive_kick(struct store_receive *public)
{
	struct receiving *receiving = public->state;
	if (!receiving)
		return;
	receiving->own.cancel = public->cancel;
	/* While its wait is in somebody's list, that somebody has to wake it before it may end. */
	work_kick(receiving->work.store);
}
