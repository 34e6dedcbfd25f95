/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The census counts, for each record, how many live map nodes name it, and for each node how many
 * nodes and roots do. A record with count 0 that nobody touched since the count began is garbage.
 *
 * It keeps the list of the roots that it has counted. The next count compares that list with the
 * roots of now: trees that came are walked and counted up, trees that went are walked and counted
 * down, and a walk turns back where a node stays reachable from elsewhere. So a count costs what
 * has changed, not what there is. The first one after opening, or after something could not be
 * counted, has an empty list behind it: it counts everything.
 *
 * Keeps true:
 *  - when a count has ended, the counts are those of the roots of one moment, at which no fold ran.
 *    What became alive after it is either reachable at it, or was appended or found by
 *    deduplication after it; what was on its way at it (puts, records, layers) is touched at it;
 *  - trees that came are counted before trees that went, so nothing that both have dies between;
 *  - counts of chunks may be too large (the index), never too small; nodes are told apart by 128
 *    bits of their id;
 *  - what cannot be counted (a node that cannot be read, an id without a record) makes the next
 *    count begin anew, and a tree that is alive but cannot be walked stops the collection.
 *
 * Memory: 24 bytes a reachable node at most 3/4 full, 144 bytes a root, one byte a record (index).
 */
#include "storage/store/census.h"

#include <stdlib.h>

#define PREFETCH_AHEAD 8u
#define SHARDS_PER_SLICE 512u

int census_init(struct store *store)
{
	store->census = calloc(1, sizeof(*store->census));
	if (!store->census)
		return -ENOMEM;
	store->census->store = store;
	store->census->phase = CENSUS_DONE;
	return 0;
}

void census_exit(struct store *store)
{
	if (!store->census)
		return;
	free(store->census->nodes.at);
	free(store->census->roots);
	free(store->census->next);
	free(store->census);
	store->census = NULL;
}

/* ---- nodes: open addressing, linear, no tombstones ---- */

static size_t node_home(const struct node_set *set, const uint64_t key[2])
{
	return (key[0] ^ key[1] >> 7) & (set->room - 1);
}

static struct node_ref *node_find(const struct node_set *set, const struct id *id)
{
	uint64_t key[2] = {id_word(id, 0), id_word(id, 1)};
	if (!set->room)
		return NULL;
	for (size_t i = node_home(set, key); set->at[i].count; i = (i + 1) & (set->room - 1))
		if (set->at[i].key[0] == key[0] && set->at[i].key[1] == key[1])
			return &set->at[i];
	return NULL;
}

static void node_place(struct node_set *set, const struct node_ref *ref)
{
	size_t i = node_home(set, ref->key);
	while (set->at[i].count)
		i = (i + 1) & (set->room - 1);
	set->at[i] = *ref;
}

static int node_add(struct node_set *set, const struct id *id)
{
	if (4 * (set->count + 1) > 3 * set->room) {
		struct node_set larger = {.room = set->room ? 2 * set->room : 1024};
		larger.at = calloc(larger.room, sizeof(*larger.at));
		if (!larger.at)
			return -ENOMEM;
		for (size_t i = 0; i < set->room; i++)
			if (set->at[i].count)
				node_place(&larger, &set->at[i]);
		free(set->at);
		set->at = larger.at;
		set->room = larger.room;
	}
	struct node_ref ref = {.key = {id_word(id, 0), id_word(id, 1)}, .count = 1};
	node_place(set, &ref);
	set->count++;
	return 0;
}

static void node_remove(struct node_set *set, struct node_ref *ref)
{
	size_t hole = (size_t)(ref - set->at), i = hole;
	set->at[hole].count = 0;
	set->count--;
	for (;;) { /* what lies behind moves up, unless it is at home before the hole */
		i = (i + 1) & (set->room - 1);
		if (!set->at[i].count)
			return;
		size_t home = node_home(set, set->at[i].key);
		if (((i - home) & (set->room - 1)) < ((i - hole) & (set->room - 1)))
			continue;
		set->at[hole] = set->at[i];
		set->at[i].count = 0;
		hole = i;
	}
}

/* ---- counting ---- */

static bool node_came(struct census *census, const struct id *id)
{
	struct node_ref *ref = node_find(&census->nodes, id);
	if (ref) {
		ref->count++;
		return false;
	}
	int res = node_add(&census->nodes, id);
	if (res < 0)
		census->res = res;
	if (!index_ref(census->store->index, id))
		census->missing++;
	return res == 0;
}

static bool node_went(struct census *census, const struct id *id)
{
	struct node_ref *ref = node_find(&census->nodes, id);
	if (!ref) {
		census->exact = false; /* never: our own mistake leaves garbage, not a hole */
		return false;
	}
	if (--ref->count)
		return false;
	ref->count = 1; /* it counts as a place that is taken until it is removed */
	node_remove(&census->nodes, ref);
	index_unref(census->store->index, id);
	return true;
}

static bool census_enter(struct walk *walk, const struct id *id)
{
	struct census *census = walk->owner;
	if (census->res < 0)
		return false;
	return census->adding ? node_came(census, id) : node_went(census, id);
}

static int census_chunk(struct walk *walk, const struct id *id)
{
	struct census *census = walk->owner;
	struct index *index = census->store->index;
	if (walk->slot[MAP_LEVELS - 1] + PREFETCH_AHEAD < NODE_SLOTS)
		index_prefetch(index, id + PREFETCH_AHEAD);
	census->looked++;
	if (!census->adding)
		index_unref(index, id);
	else if (!index_ref(index, id))
		census->missing++;
	return 0;
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
	put_mark(store);
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
	return memcmp(a, b, sizeof(struct id)); /* struct root begins with its id */
}

void census_start(struct census *census, bool all_anew)
{
	struct store_info info;
	store_info(census->store, &info);
	census->garbage_bytes = info.garbage_bytes;
	census->phase = CENSUS_CLEAR;
	census->all_anew = all_anew || !census->exact;
	census->shard = 0;
	census->walking = false;
	census->res = 0;
	census->looked = 0;
	census->exact = false; /* until it has ended */
	if (census->all_anew) {
		free(census->roots);
		census->roots = NULL;
		census->root_count = 0;
		free(census->nodes.at);
		census->nodes = (struct node_set){0};
		census->missing = 0;
	}
}

void census_stop(struct census *census)
{
	if (census->phase == CENSUS_DONE)
		return;
	census->phase = CENSUS_DONE;
	free(census->next);
	census->next = NULL;
}

/* Marks of the turn before the last must be gone before the marks turn again. */
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
	index_marks_turn(store->index);
	touch_all(store);
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		struct segment *segment = segment_of(store, slot);
		if (segment)
			segment->counted = segment->state == SEGMENT_SEALED && !segment->writer;
	}
	store->read_turn = !store->read_turn;
	census->counted_ns = max_u64(env_now_ns(store->env), 1);
	census->old_at = census->next_at = 0;
	census->adding = true;
	census->phase = CENSUS_ADD;
	return WALK_MORE;
}

/* The next tree that only the one list has; NULL: none. */
static const struct root *root_next(struct census *census)
{
	const struct root *old = census->roots, *next = census->next;
	while (census->old_at < census->root_count || census->next_at < census->next_count) {
		int order = census->old_at == census->root_count ? 1
			    : census->next_at == census->next_count
				    ? -1
				    : root_order(&old[census->old_at], &next[census->next_at]);
		census->old_at += order <= 0;
		census->next_at += order >= 0;
		if (order > 0 && census->adding)
			return &next[census->next_at - 1];
		if (order < 0 && !census->adding)
			return &old[census->old_at - 1];
	}
	return NULL;
}

static int census_count(struct census *census, struct work *work)
{
	for (;;) {
		const struct root *root = census->root;
		if (!census->walking) {
			root = census->root = root_next(census);
			if (!root)
				return 0;
			census->walk = (struct walk){.store = census->store,
						     .enter = census_enter,
						     .chunk = census_chunk,
						     .owner = census};
			walk_start(&census->walk, &root->top);
			census->walking = true;
		}
		int res = walk_step(&census->walk, &work->wait);
		if (census->res < 0)
			return census->res;
		if (res == WAITING)
			return work_waits(work);
		if (res == WALK_MORE)
			return res;
		if (res < 0 && census->adding)
			return work_refuse(work, res,
					   "'%s' cannot be read in full (%s), so nothing can be "
					   "proved to be garbage: run vstorectl store check.",
					   root->name, vs_strerror(res));
		if (res < 0)
			census->missing++; /* what it named stays until all is counted anew */
		census->walking = false;
	}
}

static int census_end(struct census *census)
{
	free(census->roots);
	census->roots = census->next;
	census->root_count = census->next_count;
	census->next = NULL;
	census->node_records = census->nodes.count;
	census->exact = census->missing == 0;
	census->phase = CENSUS_DONE;
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
	case CENSUS_ADD:
		res = census_count(census, work);
		if (res)
			return res;
		census->phase = CENSUS_REMOVE;
		census->adding = false;
		census->old_at = census->next_at = 0;
		return WALK_MORE;
	case CENSUS_REMOVE:
		res = census_count(census, work);
		return res ? res : census_end(census);
	case CENSUS_DONE:
		break;
	}
	return 0;
}
