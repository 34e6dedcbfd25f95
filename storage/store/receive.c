/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a copy of another host's snapshot: compares its tree with the copy's map from the top down
 * and takes in what differs.
 *
 *     YIELD -> MAKE -> FOLD -> DIFF -> FOLD -> COMPARE -> PUBLISH (-> DROP)
 *
 * A copy that is in step stays what it is: then all of this is done to a volume beside it, which
 * begins as the copy's map, with all that the copy was given before (beside.c), and is dropped in
 * the end.
 *
 * Nodes that are not here are asked for and stored as they come, so that the walk reads both trees
 * the same way (receive_take.c). Chunks become the copy's by writes of kind REQUEST_COPY, which
 * hold and admit them as a guest's writes. So a cut loses nothing that arrived: the next try finds
 * it in the map. Nodes are in no map until a fold names equal ones: while the walk may come to
 * them, they are touched for each collection.
 *
 * Keeps true: the snapshot is published only when the copy's top is the offered one; what cannot be
 * compared is compared from its beginning again, for as long as something new is stored by that.
 */
#include "storage/store/receive.h"

#include "storage/store/behind.h"
#include "storage/store/index.h"

#include <stdio.h>
#include <stdlib.h>

#define RESTARTS_MAX 64u /* of the comparison, one after the other, that brought nothing new */

static const struct id no_ids[NODE_SLOTS];

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
		entry = receive_entry(receiving, RECORD_CHUNK, id);
		entry->chunk_no = chunk_no;
		receive_write(entry, REQUEST_ZERO, offset,
			      offset < size ? min_u64(CHUNK_BYTES, size - offset) : CHUNK_BYTES);
		receiving->public->chunks++;
		return 0;
	}
	bool same = receive_entry_of(receiving, RECORD_CHUNK, id, ENTRY_FREE) != NULL;
	int res = same ? 0 : receive_is_here(receiving, id, RECORD_CHUNK, &receiving->work.wait);
	if (res == WAITING)
		return work_waits(&receiving->work);
	entry = receive_entry(receiving, RECORD_CHUNK, id);
	entry->chunk_no = chunk_no;
	receiving->public->chunks++;
	if (same) {
		entry->state = ENTRY_SAME;
		receiving->public->found++;
	} else if (res == 0) {
		receiving->public->found++;
		receive_entry_take(entry);
	} else {
		receive_entry_want(entry);
	}
	return 0;
}

/* `own`: the copy's node in its place, or null. */
static void want_node(struct receiving *receiving, const struct id *id, const struct id *own)
{
	if (receive_entry_of(receiving, RECORD_NODE, id, ENTRY_FREE) ||
	    receiving->busy == ENTRY_COUNT)
		return;
	struct entry *entry = receive_entry(receiving, RECORD_NODE, id);
	entry->base = *own;
	receive_entry_want(entry);
}

/* Children that will be needed soon, so that the walk does not wait a round trip for each. */
static void want_ahead(struct receiving *receiving, const struct id *offered, const struct id *own)
{
	for (unsigned i = 0; i < NODE_SLOTS && receiving->nodes_wanted < NODE_SHARE; i++)
		if (!id_is_null(&offered[i]) && !id_equal(&offered[i], &own[i]) &&
		    receive_is_here(receiving, &offered[i], RECORD_NODE, NULL) == -ENOENT)
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
		int here = receive_is_here(receiving, id, RECORD_NODE, &receiving->work.wait);
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

/* A node of one of the trees cannot be read. What was stored since the last time is progress, and
 * there is an end to that. */
static int diff_again(struct receiving *receiving, int res)
{
	if (receiving->stored != receiving->stored_before)
		receiving->restarts = 0;
	receiving->stored_before = receiving->stored;
	if (receiving->restarts++ < RESTARTS_MAX) {
		receiving->phase = RECEIVE_FOLD;
		return WALK_MORE;
	}
	return work_refuse(&receiving->work, res,
			   "A part of the map of '%s' cannot be read (%s), and %u comparisons from "
			   "its beginning brought nothing new: see 'vstorectl store check' there.",
			   receiving->name, vs_strerror(res), RESTARTS_MAX);
}

static int diff_step(struct receiving *receiving)
{
	unsigned nodes = 0;
	int res = 0;
	while (receiving->walking && res == 0 && nodes++ < 64)
		res = walk_node(receiving);
	receive_want_flush(receiving, 0);
	receive_want_flush(receiving, 1);
	if (res == -EBUSY || (res == 0 && !receiving->walking && receiving->busy))
		return WAITING; /* an entry's end goes on */
	if (res < 0)
		return receiving->busy ? WAITING : diff_again(receiving, res);
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
static bool admin_run(struct receiving *receiving, receive_command *command)
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

static bool admin_begun(const struct receiving *receiving)
{
	return receiving->admin_busy || receiving->admin_done;
}

/* Only what is in a map is found by its id: true: all that the copy had at the beginning is, or
 * cannot be. */
static bool copy_folded(struct receiving *receiving)
{
	struct store *store = receiving->work.store;
	struct volume *copy = volume_by_name(store, receiving->name);
	if (!copy || store->read_only || store->failed)
		return true;
	if (!receiving->copy_number) {
		receiving->copy_number = copy->number;
		receiving->copy_layer = volume_active(copy)->number;
	}
	const struct layer *oldest = copy->layers[0];
	bool clean = copy->layer_count == 1 && !oldest->entry_count && !oldest->range_count;
	if (clean || copy->number != receiving->copy_number ||
	    oldest->number > receiving->copy_layer ||
	    (fold_error(store) < 0 && !fold_running(store)))
		return true;
	copy->fold_wanted = true;
	fold_kick(store);
	return false;
}

/* Since the commit, somebody may have taken or deleted it. */
static int take_volume(struct receiving *receiving)
{
	struct store *store = receiving->work.store;
	const struct store_offer *offer = &receiving->public->offer;
	struct volume *volume = offer->beside ? beside_volume(store, receiving->name, offer)
					      : volume_by_name(store, receiving->name);
	if (!volume)
		return -ENOENT;
	if (volume->taken)
		return work_refuse(&receiving->work, -EBUSY, RECEIVED_ALREADY, receiving->name);
	int res = view_new(store, volume, NULL, 0, &receiving->view);
	if (res < 0)
		return res;
	volume->taken = true;
	receiving->phase = RECEIVE_FOLD;
	return WALK_MORE;
}

/* The volume itself may be here, and have to give way. */
static int yield_step(struct receiving *receiving)
{
	const struct store_receive *public = receiving->public;
	const struct store_offer *offer = &public->offer;
	if (admin_begun(receiving) ||
	    (!offer->beside &&
	     store_yields(receiving->work.store, public->host, offer->volume_uuid, offer->epoch))) {
		if (!admin_run(receiving, replica_yield))
			return WAITING;
		if (receiving->error)
			return receiving->error;
	}
	receiving->phase = RECEIVE_MAKE;
	return WALK_MORE;
}

/* The snapshot is here already; what is told of its volume may be new. */
static int published_step(struct receiving *receiving)
{
	if (!admin_begun(receiving) &&
	    !store_copy_policy_news(receiving->work.store, receiving->name,
				    &receiving->public->offer.policy))
		return 0;
	return admin_run(receiving, replica_home) ? receiving->error : WAITING;
}

static int make_step(struct receiving *receiving)
{
	struct store *store = receiving->work.store;
	const struct store_offer *offer = &receiving->public->offer;
	if (receiving->admin_busy) /* whatever is here by now: it ends before this does */
		return WAITING;
	int res = replica_published(store, receiving->name, offer);
	if (res == 1)
		return published_step(receiving);
	if (res == -EEXIST)
		return work_refuse(&receiving->work, res,
				   "'%s@%s' is here already, and is not the same.", receiving->name,
				   offer->snapshot);
	if (res < 0)
		return res;
	bool begun = admin_begun(receiving);
	if (offer->beside && !begun && !copy_folded(receiving))
		return WAITING;
	if (!admin_run(receiving, offer->beside ? beside_make : replica_make))
		return WAITING;
	return receiving->error ? receiving->error : take_volume(receiving);
}

static int end_step(struct receiving *receiving)
{
	struct id top;
	int res = work_volume_root(&receiving->work, receiving->view->volume, &top);
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

/* A snapshot that is there stays there, whatever becomes of what it was received into. */
static int drop_step(struct receiving *receiving)
{
	if (receiving->view)
		store_copy_close(receiving->view);
	receiving->view = NULL;
	return admin_run(receiving, beside_drop) ? 0 : WAITING;
}

static int publish_step(struct receiving *receiving)
{
	bool beside = receiving->public->offer.beside;
	if (!admin_run(receiving, beside ? beside_publish : replica_publish))
		return WAITING;
	if (receiving->error || !beside)
		return receiving->error;
	receiving->phase = RECEIVE_DROP;
	return drop_step(receiving);
}

static int failed(struct receiving *receiving)
{
	if (receiving->error == -ENOSPC && !receiving->own.sentence[0])
		return work_refuse(&receiving->work, -ENOSPC,
				   "The store that is to have '%s' has no space: free or add some "
				   "there. What arrived stays, and the next try goes on from it.",
				   receiving->name);
	return receiving->error;
}

static int receive_step(struct work *work)
{
	struct receiving *receiving = container_of(work, struct receiving, work);
	struct id top;
	int res;
	if (receiving->phase == RECEIVE_DROP)
		return drop_step(receiving);
	if (receiving->own.cancel && !receiving->error)
		receiving->error = -VS_ECANCELLED;
	if (receiving->error) {
		for (unsigned i = 0; i < ENTRY_COUNT; i++)
			if (receiving->entries[i].state == ENTRY_WANTED ||
			    receiving->entries[i].state == ENTRY_SAME)
				receive_entry_end(&receiving->entries[i], receiving->error);
		return receiving->busy || receiving->admin_busy ? WAITING : failed(receiving);
	}
	switch (receiving->phase) {
	case RECEIVE_YIELD:
		return yield_step(receiving);
	case RECEIVE_MAKE:
		return make_step(receiving);
	case RECEIVE_FOLD:
		work->pin_count = 0; /* the map that it was compared with before may go */
		res = work_volume_root(work, receiving->view->volume, &top);
		if (res)
			return res;
		receiving->phase = RECEIVE_DIFF;
		walk_begin(receiving);
		return WALK_MORE;
	case RECEIVE_DIFF:
		return diff_step(receiving);
	case RECEIVE_END:
		return end_step(receiving);
	case RECEIVE_PUBLISH:
		return publish_step(receiving);
	case RECEIVE_DROP:
		break;
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
