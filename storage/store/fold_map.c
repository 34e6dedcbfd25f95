/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The map's part of a fold: one level at a time, from the leaves up, new ids of a level's slots
 * become new nodes, whose ids are the next level's updates. Nodes of a level are made side by side.
 *
 * Keeps true: the old map is only read; a node all of whose slots are null does not exist; a range
 * of zeros over whole nodes drops them without reading them, but for counting the chunks they had.
 */
#include "storage/store/fold.h"

#include "storage/store/census.h"
#include "storage/store/put.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define LEAVES_PER_SLICE 64u /* counted between two passes of the loop */

void fold_map_begin(struct fold *fold)
{
	fold->next = fold->next_skip = 0;
	fold->out.count = 0;
	fold_map(fold);
}

/* The id of a node of the old map: the one with that number on that level. */
static int old_node_id(struct store *store, const struct id *top, unsigned level, uint64_t node_no,
		       struct wait *wait, struct id *ret_id)
{
	struct id id = *top;
	for (unsigned at = MAP_LEVELS - 1; at > level && !id_is_null(&id); at--) {
		int res = 0;
		const struct id *slots = map_node(store, &id, wait, &res);
		if (!slots)
			return res;
		id = slots[(node_no >> 8 * (at - level - 1)) & (NODE_SLOTS - 1)];
	}
	*ret_id = id;
	return 0;
}

static void slot_end(struct fold_slot *slot, const struct id *id)
{
	struct fold *fold = slot->fold;
	if (id)
		fold->out.at[slot->index].id = *id;
	slot_free(slot);
	if (fold->level == 0)
		fold_progress(fold);
	fold_go_on(fold);
}

/* Told to the next census, where the old node is at hand still. */
static void above_made(const struct fold_slot *slot, const struct id *id, const struct id *slots)
{
	static const struct id none[NODE_SLOTS];
	struct store *store = slot->fold->store;
	const struct id *old =
		id_is_null(&slot->old_node) ? none : map_node_cached(store, &slot->old_node);
	if (old)
		census_node_made(store->census, &slot->old_node, id, old, slots);
}

static void node_stored(struct put *put, int res)
{
	struct fold_slot *slot = put->owner;
	if (res < 0) {
		slot_fail(slot, res);
		return;
	}
	struct id id = put->id;
	struct store *store = slot->fold->store;
	if (slot->fold->level > 0)
		above_made(slot, &id, (const struct id *)put->room);
	else if (slot->change_count <= LEAF_CHANGES_MAX)
		census_leaf_made(store->census, &slot->old_node, &id, slot->changes,
				 slot->change_count);
	map_node_add(store, &id, put->room);
	slot_end(slot, &id);
}

/* Moves to the next update; *skip counts within a range. */
static void step_on(const struct fold *fold, size_t *at, size_t *skip, uint64_t count)
{
	*skip += count;
	if (*skip == fold->in.at[*at].count) {
		*skip = 0;
		(*at)++;
	}
}

static void leaf_change(struct fold_slot *slot, const struct id *old, const struct id *new)
{
	struct fold *fold = slot->fold;
	fold->chunks_removed += !id_is_null(old);
	fold->chunks_added += !id_is_null(new);
	if (id_equal(old, new))
		return;
	if (slot->change_count < LEAF_CHANGES_MAX)
		slot->changes[slot->change_count] =
			(struct leaf_change){.old = half_of(old), .new = half_of(new)};
	slot->change_count++;
}

/* Sets the node's slots that the updates name. */
static void node_change(struct fold_slot *slot, struct id *slots)
{
	struct fold *fold = slot->fold;
	uint64_t node_no = fold->out.at[slot->index].first;
	size_t at = slot->from, skip = slot->from_skip;
	while (at < fold->in.count) {
		const struct update *update = &fold->in.at[at];
		uint64_t first = update->first + skip;
		if (first / NODE_SLOTS != node_no)
			break;
		uint64_t count = min_u64(update->count - skip, NODE_SLOTS - first % NODE_SLOTS);
		for (uint64_t i = 0; i < count; i++) {
			struct id *old = &slots[first % NODE_SLOTS + i];
			if (fold->level == 0)
				leaf_change(slot, old, &update->id);
			*old = update->id;
		}
		step_on(fold, &at, &skip, count);
	}
}

/* The old node cannot be read: what it had within the volume is lost. */
static int node_lost(struct fold_slot *slot, struct id *slots)
{
	struct fold *fold = slot->fold;
	struct id id;
	int res = fold_lost_id(fold, fold->level, &slot->wait, &id);
	if (res)
		return res;
	slot->change_count = LEAF_CHANGES_MAX + 1;	/* who knows */
	uint64_t span = UINT64_C(1) << 8 * fold->level; /* chunks of a slot */
	uint64_t first = fold->out.at[slot->index].first * NODE_SLOTS;
	for (unsigned i = 0; i < NODE_SLOTS; i++)
		if ((first + i) * span * CHUNK_BYTES < fold->volume->size_bytes)
			slots[i] = id;
	if (fold->level == 0)
		fold->lost_blocks += NODE_SLOTS * (uint64_t)CHUNK_BLOCKS;
	else
		fold->lost_blocks++;
	return 0;
}

static void node_make(struct wait *wait)
{
	struct fold_slot *slot = container_of(wait, struct fold_slot, wait);
	struct fold *fold = slot->fold;
	struct store *store = fold->store;
	struct id old;
	slot->wait.wake = node_make;
	if (!slot->put)
		slot->put = put_new(store, true, &slot->wait);
	if (!slot->put)
		return;
	struct id *slots = (struct id *)slot->put->room;
	int res = old_node_id(store, &fold->volume->top, fold->level,
			      fold->out.at[slot->index].first, &slot->wait, &old);
	const struct id *old_slots = NULL;
	if (res == 0 && !id_is_null(&old))
		old_slots = map_node(store, &old, &slot->wait, &res);
	if (old_slots)
		memcpy(slots, old_slots, NODE_BYTES);
	else
		memset(slots, 0, NODE_BYTES);
	slot->old_node = old;
	slot->change_count = 0;
	if (fold_is_damage(fold, res))
		res = node_lost(slot, slots);
	if (res == WAITING)
		return;
	if (res < 0) {
		slot_fail(slot, res);
		return;
	}
	node_change(slot, slots);
	if (codec_is_zero(slots, NODE_BYTES)) {
		slot_end(slot, NULL);
		return;
	}
	slot->put->type = RECORD_NODE;
	slot->put->done = node_stored;
	slot->put->owner = slot;
	slot->put->raw = slot->put->room;
	slot->put->domain = fold->volume->domain;
	slot->put->level = 1;
	put_start(slot->put);
}

/* Counts the chunks that the old map has in a range of leaves that goes. */
static void leaves_count(struct wait *wait);

static void leaves_slice(struct io_op *op)
{
	leaves_count(&container_of(op, struct fold_slot, slice_op)->wait);
}

static void leaves_count(struct wait *wait)
{
	struct fold_slot *slot = container_of(wait, struct fold_slot, wait);
	struct fold *fold = slot->fold;
	struct store *store = fold->store;
	slot->wait.wake = leaves_count;
	for (unsigned leaves = 0; slot->count_at < slot->count_end; leaves++) {
		struct id id;
		uint64_t span = 1;
		if (leaves == LEAVES_PER_SLICE) {
			slot->slice_op.done = leaves_slice;
			env_complete(store->env, &slot->slice_op, 0);
			return;
		}
		int res = map_lookup(store, &fold->volume->top, slot->count_at, &slot->wait, &id,
				     &span);
		if (res == WAITING)
			return;
		if (fold_is_damage(fold, res)) { /* it goes: what it had is not known any more */
			slot->count_at =
				min_u64(slot->count_end,
					round_down(slot->count_at, NODE_SLOTS) + NODE_SLOTS);
			continue;
		}
		if (res < 0) {
			slot_fail(slot, res);
			return;
		}
		if (id_is_null(&id)) {
			slot->count_at += span;
			continue;
		}
		/* Its leaf is in memory: the rest of it goes at once. */
		uint64_t end = min_u64(slot->count_end,
				       round_down(slot->count_at, NODE_SLOTS) + NODE_SLOTS);
		while (slot->count_at < end && map_lookup(store, &fold->volume->top, slot->count_at,
							  &slot->wait, &id, NULL) == 0) {
			fold->chunks_removed += !id_is_null(&id);
			slot->count_at++;
		}
		if (slot->count_at < end)
			return;
	}
	slot_end(slot, NULL);
}

/* Starts what the next updates ask for. */
static int group_start(struct fold *fold, struct fold_slot *slot)
{
	const struct update *update = &fold->in.at[fold->next];
	uint64_t first = update->first + fold->next_skip;
	uint64_t left = update->count - fold->next_skip;
	slot->index = fold->out.count;
	if (first % NODE_SLOTS == 0 && left >= NODE_SLOTS) {
		uint64_t nodes = left / NODE_SLOTS;
		int res = updates_add(&fold->out, first / NODE_SLOTS, nodes);
		if (res < 0)
			return res;
		step_on(fold, &fold->next, &fold->next_skip, nodes * NODE_SLOTS);
		if (fold->level > 0)
			return 0; /* its chunks were counted on the first level */
		slot->busy = true;
		fold->busy++;
		slot->count_at = first;
		slot->count_end = first + nodes * NODE_SLOTS;
		slot->wait.wake = leaves_count;
		slot->slice_op.done = leaves_slice;
		env_complete(fold->store->env, &slot->slice_op, 0);
		return 0;
	}
	uint64_t node_no = first / NODE_SLOTS;
	int res = updates_add(&fold->out, node_no, 1);
	if (res < 0)
		return res;
	slot->from = fold->next;
	slot->from_skip = fold->next_skip;
	while (fold->next < fold->in.count) {
		update = &fold->in.at[fold->next];
		first = update->first + fold->next_skip;
		if (first / NODE_SLOTS != node_no)
			break;
		left = min_u64(update->count - fold->next_skip, NODE_SLOTS - first % NODE_SLOTS);
		step_on(fold, &fold->next, &fold->next_skip, left);
	}
	slot->busy = true;
	fold->busy++;
	slot->put = NULL;
	node_make(&slot->wait);
	return 0;
}

void fold_map(struct fold *fold)
{
	fold->starting = true;
	while (fold->next < fold->in.count && fold->res == 0) {
		struct fold_slot *slot = fold_slot_free(fold);
		if (!slot)
			break;
		int res = group_start(fold, slot);
		if (res < 0)
			fold->res = res;
	}
	fold->starting = false;
	if (fold->busy)
		return;
	if (fold->res < 0) {
		fold_go_on(fold);
		return;
	}
	if (++fold->level == MAP_LEVELS) {
		fold->top = fold->out.at[0].id;
		fold_commit(fold);
		return;
	}
	struct updates in = fold->in;
	fold->in = fold->out;
	fold->out = in;
	fold_map_begin(fold);
}
