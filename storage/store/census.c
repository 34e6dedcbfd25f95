/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The census counts, for each record, how many live map nodes name it, and for each node how many
 * nodes and roots do. A record with count 0 that nobody touched since the count began is garbage.
 *
 * It keeps the list of the roots that it has counted. The next count compares that list with the
 * roots of now. A change of a reference from an old id to a new one (either may be none) counts the
 * new one up and the old one down. Only where the new one was not there before, or the old one is
 * there no more, do the references inside them change: slot by slot, and equal slots of both
 * cancel out. So a count costs what has changed, not what there is, nor what stands beside it. The
 * first one after opening, or after something could not be counted, has an empty list behind it: it
 * counts everything.
 *
 * These changes are sums: the end does not depend on their order, so many nodes are read at a time
 * and counted as they come. The stack of changes is bounded by what is read at a time: at most
 * (CENSUS_PAIRS + 1) nodes' children on each level.
 *
 * Keeps true:
 *  - when a count has ended, the counts are those of the roots of one moment, at which no fold ran.
 *    What became alive after it is either reachable at it, or was appended or found by
 *    deduplication after it; what was on its way at it (puts, records, layers, nodes that are
 *    received) is touched at it;
 *  - nobody looks at a count before the end: on the way it may be too small;
 *  - counts of chunks may be too large (the index), never too small; nodes are told apart by 128
 *    bits of their id;
 *  - what cannot be counted (a node that cannot be read, an id without a record) makes the next
 *    count begin anew, and a tree that is alive but cannot be walked stops the collection.
 *
 * What folds have left behind is not read (census_diff.c): a count after folds costs the chunks
 * that changed, also where each of them has a leaf of its own. What came beside an old node that
 * stays, as a snapshot names it, is read: all that it names counts.
 *
 * Nodes are read beside the cache, which guests' reads need: a count that goes over more nodes than
 * it holds would empty it. What is there is used.
 *
 * Memory: 24 bytes a reachable node at most half full, 160 bytes a root, one byte a record (index),
 * the stack (2 MiB), the nodes under way (512 KiB), the differences (census_diffs_bytes_most).
 */
#include "storage/store/census_int.h"

#include "storage/store/behind.h"
#include "storage/store/fetch.h"
#include "storage/store/index.h"
#include "storage/store/mutant.h"
#include "storage/store/put.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define PREFETCH_AHEAD 8u
#define SHARDS_PER_SLICE 128u
#define NODES_PER_SLICE 16u
#define CHUNKS_PER_SLICE (2u * NODES_PER_SLICE * NODE_SLOTS)

static void side_wake(struct wait *wait);

int census_init(struct store *store)
{
	struct census *census = calloc(1, sizeof(*census));
	if (!census)
		return -ENOMEM;
	store->census = census;
	census->store = store;
	census->phase = CENSUS_DONE;
	census->whole = true;
	for (unsigned i = 0; i < CENSUS_PAIRS; i++) {
		struct census_pair *pair = &census->pairs[i];
		pair->census = census;
		for (unsigned side = 0; side < 2; side++) {
			pair->sides[side].pair = pair;
			pair->sides[side].wait.wake = side_wake;
		}
	}
	return 0;
}

static void census_memory_take(struct census *census)
{
	census->memory = env_memory(census->store->env, CENSUS_MEMORY_BYTES);
	if (!census->memory) {
		census->res = -ENOMEM;
		return;
	}
	for (unsigned i = 0; i < 2 * CENSUS_PAIRS; i++)
		census->pairs[i / 2].sides[i % 2].raw = census->memory + i * NODE_BYTES;
}

static void census_memory_drop(struct census *census)
{
	if (census->memory)
		env_memory_free(census->store->env, census->memory, CENSUS_MEMORY_BYTES);
	census->memory = NULL;
}

void census_exit(struct store *store)
{
	if (!store->census)
		return;
	node_set_free(&store->census->nodes);
	census_diffs_free(&store->census->diffs);
	census_diffs_free(&store->census->taken);
	census_memory_drop(store->census);
	free(store->census->roots);
	free(store->census->next);
	free(store->census->changes);
	free(store->census);
	store->census = NULL;
}

/* ---- counting ---- */

/* One more reference to a node. True: it is the first. */
static bool node_came(struct census *census, const struct id *id)
{
	struct node_ref *ref = node_set_find(&census->nodes, id);
	if (ref) {
		ref->count++;
		return false;
	}
	int res = node_set_add(&census->nodes, id);
	if (res < 0 && census->res == 0)
		census->res = res;
	if (!index_ref(census->store->index, id))
		census->missing++;
	return res == 0;
}

/* One less. True: it was the last. */
static bool node_went(struct census *census, const struct id *id)
{
	struct node_ref *ref = node_set_find(&census->nodes, id);
	if (!ref) {
		census->missing++; /* never: our own mistake leaves garbage, not a hole */
		return false;
	}
	if (ref->count > 1) {
		ref->count--;
		return false;
	}
	node_set_remove(&census->nodes, ref);
	index_unref(census->store->index, id);
	return true;
}

void census_change(struct census *census, const struct id *old, const struct id *new,
		   const struct root *root, uint32_t depth)
{
	if (census->change_count == census->change_room) {
		size_t room = census->change_room ? 2 * census->change_room : 1024;
		struct census_change *larger =
			realloc(census->changes, room * sizeof(*census->changes));
		if (!larger) {
			census->res = census->res ? census->res : -ENOMEM;
			return;
		}
		census->changes = larger;
		census->change_room = room;
	}
	census->changes[census->change_count++] =
		(struct census_change){.ids = {*old, *new}, .root = root, .depth = depth};
}

/* A leaf: its chunks are counted. Those that change are looked for first, so that the index's
 * places for them are on their way to the processor while the ones before are counted. */
static void leaf_count(struct census *census, const struct id *old, const struct id *new)
{
	struct index *index = census->store->index;
	const struct id *went[NODE_SLOTS], *came[NODE_SLOTS];
	unsigned gone = 0, new_count = 0;
	for (unsigned i = 0; i < NODE_SLOTS; i++) {
		if (id_equal(&old[i], &new[i]))
			continue;
		if (!id_is_null(&new[i]))
			came[new_count++] = &new[i];
		if (!id_is_null(&old[i]))
			went[gone++] = &old[i];
	}
	for (unsigned i = 0; i < new_count; i++) {
		if (i + PREFETCH_AHEAD < new_count)
			index_prefetch(index, came[i + PREFETCH_AHEAD]);
		if (!index_ref(index, came[i]))
			census->missing++;
	}
	for (unsigned i = 0; i < gone; i++) {
		if (i + PREFETCH_AHEAD < gone)
			index_prefetch(index, went[i + PREFETCH_AHEAD]);
		index_unref(index, went[i]);
	}
	census->looked += new_count + gone;
}

/* ---- pairs ---- */

static void side_wake(struct wait *wait)
{
	struct census_side *side = container_of(wait, struct census_side, wait);
	side->waits = false;
	work_kick(side->pair->census->store);
}

static void side_fetched(struct fetch *fetch, int res)
{
	struct census_side *side = fetch->owner;
	side->have = res == 0;
	side->res = res;
	fetch_free(fetch);
	side_wake(&side->wait);
}

/* 0: its ids are in raw; WAITING; negative. */
static int side_read(struct census_pair *pair, unsigned side_no)
{
	struct store *store = pair->census->store;
	struct census_side *side = &pair->sides[side_no];
	const struct id *id = &pair->change.ids[side_no];
	if (side->have || side->res < 0)
		return side->res;
	const void *cached = map_node_cached(store, id);
	if (cached) {
		memcpy(side->raw, cached, NODE_BYTES);
		side->have = true;
		return 0;
	}
	side->waits = true;
	struct fetch *fetch = fetch_new(store, true, &side->wait);
	if (!fetch)
		return WAITING;
	fetch->done = side_fetched;
	fetch->owner = side;
	fetch->id = *id;
	fetch->type = RECORD_NODE;
	fetch->raw = side->raw;
	fetch_start(fetch);
	return WAITING;
}

/* A tree that is alive must be counted; what one named that is gone may stay until all is counted
 * anew. */
static void side_failed(struct census_pair *pair, unsigned side, int res)
{
	struct census *census = pair->census;
	pair->open[side] = false;
	if (side == 0) {
		census->missing++;
	} else if (census->res == 0) {
		census->res = res;
		census->unreadable = pair->change.root;
	}
}

/* True: it is done with. */
static bool pair_step(struct census_pair *pair)
{
	static const struct id none[NODE_SLOTS];
	struct census *census = pair->census;
	const struct id *ids[2] = {none, none};
	bool waits = false;
	if (pair->sides[0].waits || pair->sides[1].waits)
		return false;
	for (unsigned side = 0; side < 2; side++) {
		if (!pair->open[side])
			continue;
		int res = side_read(pair, side);
		waits |= res == WAITING;
		if (res == 0)
			ids[side] = (const struct id *)pair->sides[side].raw;
		else if (res < 0)
			side_failed(pair, side, res);
	}
	if (waits)
		return false;
	pair->used = false;
	census->busy--;
	census->opened += (uint64_t)pair->open[0] + pair->open[1];
	if (census->res < 0)
		return true;
	if (pair->change.depth == MAP_LEVELS - 1) {
		leaf_count(census, ids[0], ids[1]);
		return true;
	}
	for (unsigned i = NODE_SLOTS; i-- > 0;) /* the first is taken first */
		if (!id_equal(&ids[0][i], &ids[1][i]))
			census_change(census, &ids[0][i], &ids[1][i], pair->change.root,
				      pair->change.depth + 1);
	census_prefetch_first(census);
	return true;
}

/* Counts one change; what it opens becomes a pair. */
static void change_take(struct census *census)
{
	static const struct id none;
	census_prefetch_next(census);
	struct census_change change = census->changes[--census->change_count];
	bool came = !id_is_null(&change.ids[1]) && node_came(census, &change.ids[1]);
	bool went = !id_is_null(&change.ids[0]) && node_went(census, &change.ids[0]);
	if (!came && !went)
		return;
	const struct id *old = went ? &change.ids[0] : &none;
	if (came && census_known(census, old, &change))
		return;
	struct census_pair *pair = census->pairs;
	while (pair->used)
		pair++;
	census->busy++;
	pair->used = true;
	pair->change = change;
	pair->open[0] = went;
	pair->open[1] = came;
	for (unsigned side = 0; side < 2; side++) {
		pair->sides[side].have = false;
		pair->sides[side].res = 0;
	}
}

/* ---- what is on its way ---- */

static void touch_id(struct store *store, const struct id *id)
{
	if (!id_is_null(id))
		index_touch(store->index, id);
}

static void touch_layer(struct store *store, const struct layer *layer)
{
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (const struct dirty_chunk *entry = layer->buckets[b]; entry;
		     entry = entry->next)
			if (entry->base == BASE_ID)
				touch_id(store, &entry->id);
}

static void touch_all(struct store *store)
{
	if (!MUTANT(51))
		put_mark(store);
	works_mark(store);
	if (!MUTANT(58))
		write_mark(store, touch_id);
	for (uint32_t i = 0; i < store->volume_count && !MUTANT(13); i++)
		for (uint32_t k = 0; k < store->volumes[i]->layer_count; k++)
			touch_layer(store, store->volumes[i]->layers[k]);
	for (const struct layer *layer = store->zombies; layer; layer = layer->next)
		touch_layer(store, layer);
}

/* ---- one count ---- */

static int root_order(const void *a, const void *b)
{
	const struct root *left = a, *right = b;
	uint32_t x = left->snapshot ? left->snapshot : left->volume;
	uint32_t y = right->snapshot ? right->snapshot : right->volume;
	if (x != y)
		return x < y ? -1 : 1;
	return x ? 0 : memcmp(&left->top, &right->top, sizeof left->top); /* pins have no number */
}

bool census_busy(const struct census *census)
{
	for (unsigned i = 0; i < CENSUS_PAIRS; i++)
		if (census->pairs[i].used &&
		    (census->pairs[i].sides[0].waits || census->pairs[i].sides[1].waits))
			return true;
	return false;
}

void census_start(struct census *census, bool all_anew)
{
	struct store_info info;
	assert(!census_busy(census));
	store_info(census->store, &info);
	census->garbage_bytes = info.garbage_bytes;
	census->round++;
	census->all_anew = all_anew || !census->exact;
	census->phase = census->all_anew || index_marks_worn(census->store->index) ? CENSUS_CLEAR
										   : CENSUS_BEGIN;
	census->shard = 0;
	census->res = 0;
	census->unreadable = NULL;
	census->looked = census->opened = 0;
	census->exact = census->whole = false; /* until it has ended */
	if (census->all_anew) {
		free(census->roots);
		census->roots = NULL;
		census->root_count = 0;
		node_set_free(&census->nodes);
		census->missing = 0;
	}
	census_memory_take(census);
}

void census_stop(struct census *census)
{
	for (unsigned i = 0; i < CENSUS_PAIRS; i++)
		census->pairs[i].used = false;
	census->busy = 0;
	census_memory_drop(census);
	census_diffs_free(&census->taken);
	census->phase = CENSUS_DONE;
	free(census->next);
	census->next = NULL;
	free(census->changes);
	census->changes = NULL;
	census->change_count = census->change_room = 0;
}

/* Of counts that are to be anew, and of marks that nobody came by for long. */
static int census_clear(struct census *census)
{
	struct index *index = census->store->index;
	for (unsigned i = 0; i < SHARDS_PER_SLICE && census->shard < INDEX_SHARDS; i++) {
		index_marks_clear(index, census->shard);
		if (census->all_anew)
			index_refs_clear(index, census->shard);
		census->shard++;
	}
	if (census->shard == INDEX_SHARDS)
		census->phase = CENSUS_BEGIN;
	return WALK_MORE;
}

/* The moment. */
static int census_begin(struct census *census)
{
	struct store *store = census->store;
	/* What a running fold has stored is in no map yet. */
	if (fold_running(store) && !MUTANT(56))
		return WAITING;
	int res = roots_collect(store, &census->next, &census->next_count);
	if (res < 0)
		return res;
	qsort(census->next, census->next_count, sizeof(*census->next), root_order);
	census->taken = census->diffs;
	census->diffs = (struct map_diffs){0};
	index_marks_turn(store->index);
	touch_all(store);
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		struct segment *segment = segment_of(store, slot);
		if (segment)
			segment->counted = segment->state == SEGMENT_SEALED && !segment->writer;
	}
	store->read_turn = !store->read_turn;
	census->counted_ns = max_u64(env_now_ns(store->env), 1);
	census->pass = 0;
	census->old_at = census->next_at = 0;
	census->phase = CENSUS_COUNT;
	return WALK_MORE;
}

/* The next root of this pass whose tree is another one than before: those that came are counted
 * first, those that went last, so that little goes only to come again. False: there is no more. */
static bool root_next(struct census *census)
{
	static const struct id none;
	while (census->old_at < census->root_count || census->next_at < census->next_count) {
		const struct root *old = &census->roots[census->old_at];
		const struct root *next = &census->next[census->next_at];
		int order = census->old_at == census->root_count    ? 1
			    : census->next_at == census->next_count ? -1
								    : root_order(old, next);
		census->old_at += order <= 0;
		census->next_at += order >= 0;
		unsigned pass = order > 0 ? 0 : order == 0 ? 1 : 2;
		const struct id *from = order <= 0 ? &old->top : &none;
		const struct id *to = order >= 0 ? &next->top : &none;
		if (pass != census->pass || id_equal(from, to))
			continue;
		census_change(census, from, to, order >= 0 ? next : old, 0);
		return true;
	}
	return false;
}

static int count_failed(struct census *census, struct work *work)
{
	if (!census->unreadable)
		return census->res;
	return work_refuse(work, census->res,
			   "'%s' cannot be read in full (%s), so nothing can be proved to be "
			   "garbage: run vstorectl store check.",
			   census->unreadable->name, vs_strerror(census->res));
}

/* Pairs that can go on do, then new ones are begun. Whoever waits wakes the work. */
static int census_count(struct census *census, struct work *work)
{
	unsigned done = 0;
	uint64_t enough = census->looked + CHUNKS_PER_SLICE;
	while (census->res == 0 && done < NODES_PER_SLICE && census->looked < enough) {
		for (unsigned i = 0; i < CENSUS_PAIRS; i++)
			if (census->pairs[i].used)
				done += pair_step(&census->pairs[i]);
		bool begun = false;
		while (census->busy < CENSUS_PAIRS && census->res == 0 &&
		       (!begun || census->looked < enough) &&
		       (census->change_count || root_next(census))) {
			change_take(census);
			begun = true;
		}
		if (begun)
			continue;
		if (census->busy && census_busy(census))
			return WAITING;
		if (!census->busy && ++census->pass == 3)
			return 0;
		if (!census->busy)
			census->old_at = census->next_at = 0;
	}
	if (census->res == 0)
		return WALK_MORE;
	return census_busy(census) ? WAITING : count_failed(census, work);
}

static int census_end(struct census *census)
{
	free(census->roots);
	census->roots = census->next;
	census->root_count = census->next_count;
	census->next = NULL;
	census->node_records = census->nodes.count;
	census->exact = census->missing == 0;
	census->whole = true;
	census_stop(census);
	return 0;
}

int census_step(struct census *census, struct work *work)
{
	int res;
	switch (census->phase) {
	case CENSUS_CLEAR:
		return census_clear(census);
	case CENSUS_BEGIN:
		return census_begin(census);
	case CENSUS_COUNT:
		res = census_count(census, work);
		return res ? res : census_end(census);
	case CENSUS_DONE:
		break;
	}
	return 0;
}
