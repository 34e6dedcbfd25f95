/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would be free if a volume or a snapshot went: for each, as if its roots were taken out of
 * the last census, and nothing else.
 *
 * Of each object the tree is walked from the top down. A record that only it names is free: a
 * collection would find the same count go to zero. A walk turns back where a node stays reachable
 * from elsewhere, so a snapshot costs what only it has; a volume is counted twice, alone and with
 * its snapshots, and everything in the trash once together. A record that the object names several
 * times is free when it was met as often as it is named; those are remembered, SEEN_MAX of them at
 * most, and what goes beyond makes the figure a least one.
 *
 * A record's bytes are its own when its segment's directory is in memory, else the mean of that
 * segment's records: directories of guests are not pushed out for a figure.
 *
 * Keeps true: a figure is of one census, whose age is told; it takes a twentieth of the time at
 * most; a collection that begins ends it, and then it begins again behind that one. Collections by
 * schedule wait for it, those by need and by hand do not. What has many nodes, which push those of
 * guests out of memory, is counted again after a second for each of them, or a day.
 */
#include "storage/store/census.h"

#include "storage/store/behind.h"
#include "storage/store/index.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define SEEN_MAX (UINT32_C(1) << 20) /* 24 to 48 MiB at the worst, while it runs */
#define PAUSE_FACTOR 20u
#define NODES_FEW 64u
#define OBJECTS_PER_SLICE 256u
#define AGAIN_NS_MOST (24 * 3600 * NSEC_PER_SEC)

struct usage {
	struct store *store;
	uint64_t round, next_ns; /* the census that was gone over last, and when the next may be */
	bool running;

	/* While it runs. */
	struct work work;
	struct store_work own;
	uint64_t begun_ns, counted_ns;
	uint32_t *order;	     /* of the census's roots: by volume, the volume itself first */
	size_t count, at, end;	     /* of the volume that is counted: order[at .. end) */
	size_t from, until, root_at; /* of the object */
	uint64_t trash, trash_told;  /* what is in the trash, and what was when it was counted */
	enum { USAGE_ALONE, USAGE_TOGETHER, USAGE_TRASH, USAGE_ENDED } kind;
	bool walking;
	struct walk walk;
	struct node_set seen;
	struct freed freed;
};

int usage_init(struct store *store)
{
	store->usage = calloc(1, sizeof(*store->usage));
	if (!store->usage)
		return -ENOMEM;
	store->usage->store = store;
	return 0;
}

void usage_exit(struct store *store)
{
	free(store->usage);
	store->usage = NULL;
}

bool usage_running(const struct store *store)
{
	return store->usage->running;
}

/* ---- one record ---- */

/* Met once more: is that as often as it is named? */
static bool seen_all(struct usage *usage, const struct id *id, uint64_t named)
{
	if (named <= 1)
		return true;
	struct node_ref *ref = node_set_find(&usage->seen, id);
	if (ref)
		return ++ref->count == named;
	if (usage->seen.count == SEEN_MAX || node_set_add(&usage->seen, id) < 0)
		usage->freed.at_least = true;
	return false;
}

static void record_free(struct usage *usage, const struct id *id)
{
	const struct store *store = usage->store;
	uint64_t candidates[INDEX_CANDIDATES_MAX], mean = 0;
	unsigned count = index_find(store->index, id, candidates);
	for (unsigned i = 0; i < count; i++) {
		const struct segment *segment = segment_of(store, location_slot(candidates[i]));
		struct directory *directory = segment ? segment_records(segment) : NULL;
		if (!segment)
			continue;
		if (directory) {
			const struct dir_entry *entry =
				directory_find(directory, location_offset64(candidates[i]));
			if (!entry || !id_equal(&entry->id, id))
				continue;
			usage->freed.bytes += segment_record_end(segment, entry) -
					      entry->offset64 * (uint64_t)RECORD_ALIGN;
			return;
		}
		uint32_t entries, live;
		index_slot_counts(store->index, segment->slot, &entries, &live);
		mean = segment->bytes / max_u64(entries, 1);
	}
	usage->freed.bytes += mean;
}

static bool usage_enter(struct walk *walk, const struct id *id)
{
	struct usage *usage = walk->owner;
	const struct node_ref *ref = node_set_find(&usage->store->census->nodes, id);
	if (!ref || !seen_all(usage, id, ref->count))
		return false;
	record_free(usage, id);
	usage->freed.nodes++;
	return true;
}

static int usage_chunk(struct walk *walk, const struct id *id)
{
	struct usage *usage = walk->owner;
	unsigned named = index_refs(usage->store->index, id);
	if (walk->slot[MAP_LEVELS - 1] + 8 < NODE_SLOTS)
		index_prefetch(usage->store->index, id + 8);
	if (named > 0 && named < INDEX_REFS_MAX && seen_all(usage, id, named))
		record_free(usage, id);
	return 0;
}

/* ---- one object after the other ---- */

static const struct root *root_at(const struct usage *usage, size_t at)
{
	return &usage->store->census->roots[usage->order[at]];
}

static void object_begin(struct usage *usage, size_t from, size_t until)
{
	usage->from = usage->root_at = from;
	usage->until = until;
	usage->freed = (struct freed){.counted_ns = usage->counted_ns};
	node_set_free(&usage->seen);
	usage->walk = (struct walk){
		.store = usage->store, .enter = usage_enter, .chunk = usage_chunk, .owner = usage};
	usage->walking = false;
}

/* 0: all roots of the object were walked. */
static int object_step(struct usage *usage)
{
	for (; usage->root_at < usage->until; usage->root_at++) {
		const struct root *root = root_at(usage, usage->root_at);
		if (usage->kind == USAGE_TRASH && !root->trash)
			continue;
		if (!usage->walking)
			walk_start(&usage->walk, &root->top);
		usage->walking = true;
		int res = walk_step(&usage->walk, &usage->work.wait);
		if (res == WAITING)
			return work_waits(&usage->work);
		if (res == WALK_MORE)
			return res;
		if (res < 0)
			usage->freed.at_least = true; /* a node that cannot be read */
		usage->walking = false;
	}
	return 0;
}

/* The volume itself, which is the first of its roots; when there is one. */
static void volume_begin(struct usage *usage, size_t at)
{
	usage->at = usage->end = at;
	while (usage->end < usage->count &&
	       root_at(usage, usage->end)->volume == root_at(usage, at)->volume)
		usage->end++;
	usage->kind = at < usage->count ? USAGE_ALONE : USAGE_TRASH;
	if (usage->kind == USAGE_ALONE)
		object_begin(usage, at, at + 1);
	else
		object_begin(usage, 0, usage->count);
}

/* Where the object's figure is; NULL: it is gone. */
static struct freed *object_freed(const struct usage *usage)
{
	struct store *store = usage->store;
	if (usage->kind == USAGE_TRASH)
		return &store->trash_freed;
	const struct root *root = root_at(usage, usage->from);
	struct volume *volume = volume_by_number(store, root->volume);
	struct snapshot *snapshot = snapshot_by_number(store, root->snapshot);
	if (usage->kind == USAGE_TOGETHER)
		return volume ? &volume->freed_all : NULL;
	if (root->snapshot)
		return snapshot ? &snapshot->freed : NULL;
	return volume ? &volume->freed_own : NULL;
}

static bool object_due(const struct usage *usage)
{
	const struct freed *freed = object_freed(usage);
	if (!freed)
		return false;
	uint64_t again = min_u64(freed->nodes * NSEC_PER_SEC, AGAIN_NS_MOST);
	if (usage->kind == USAGE_TRASH && usage->trash != usage->trash_told)
		return true;
	return freed->counted_ns == 0 || freed->nodes <= NODES_FEW ||
	       usage->counted_ns - freed->counted_ns >= again;
}

static void object_told(struct usage *usage)
{
	struct freed *freed = object_freed(usage);
	if (!freed)
		return;
	*freed = usage->freed;
	if (usage->kind == USAGE_TRASH)
		usage->trash_told = usage->trash;
	if (usage->kind == USAGE_ALONE && usage->end == usage->at + 1) { /* it has no snapshots */
		struct volume *volume = container_of(freed, struct volume, freed_own);
		volume->freed_all = usage->freed;
	}
}

/* From one object to the next: of each volume itself, each of its snapshots, all of them; at the
 * end the trash. */
static void object_next(struct usage *usage)
{
	if (usage->kind == USAGE_ALONE && usage->until < usage->end) {
		object_begin(usage, usage->until, usage->until + 1);
	} else if (usage->kind == USAGE_ALONE && usage->end > usage->at + 1) {
		usage->kind = USAGE_TOGETHER;
		object_begin(usage, usage->at, usage->end);
	} else if (usage->kind != USAGE_TRASH) {
		volume_begin(usage, usage->end);
	} else {
		usage->kind = USAGE_ENDED;
	}
}

static int usage_step(struct work *work)
{
	struct usage *usage = container_of(work, struct usage, work);
	const struct census *census = usage->store->census;
	if (census->round != usage->round || census->phase != CENSUS_DONE)
		return -VS_ECANCELLED; /* the counts are others now */
	for (unsigned objects = 0; usage->kind != USAGE_ENDED; objects++) {
		if (objects == OBJECTS_PER_SLICE)
			return WALK_MORE;
		if (usage->walking || usage->root_at > usage->from || object_due(usage)) {
			int res = object_step(usage);
			if (res)
				return res;
			object_told(usage);
		}
		object_next(usage);
	}
	return 0;
}

static void usage_done(struct work *work)
{
	struct usage *usage = container_of(work, struct usage, work);
	node_set_free(&usage->seen);
	free(usage->order);
	usage->order = NULL;
}

static void usage_ended(struct io_op *op)
{
	struct usage *usage = container_of(op, struct usage, own.op);
	uint64_t now = env_now_ns(usage->store->env);
	usage->running = false;
	usage->next_ns = now + PAUSE_FACTOR * (now - usage->begun_ns);
	if (op->res < 0)
		usage->round = 0; /* again, when the census allows it */
}

static int order_compare(const void *a, const void *b, void *state)
{
	const struct root *roots = state;
	const struct root *left = &roots[*(const uint32_t *)a];
	const struct root *right = &roots[*(const uint32_t *)b];
	if (left->volume != right->volume)
		return left->volume < right->volume ? -1 : 1;
	return left->snapshot < right->snapshot ? -1 : left->snapshot > right->snapshot;
}

void usage_tick(struct store *store)
{
	struct usage *usage = store->usage;
	struct census *census = store->census;
	uint64_t now = env_now_ns(store->env);
	if (usage->running || store->gc || store->closing || !census->exact ||
	    census->phase != CENSUS_DONE || census->round == usage->round || now < usage->next_ns)
		return;
	usage->order = calloc(census->root_count + 1, sizeof(*usage->order));
	if (!usage->order)
		return;
	usage->count = usage->trash = 0;
	for (size_t i = 0; i < census->root_count; i++) {
		const struct root *root = &census->roots[i];
		if (root->volume) /* not a pin */
			usage->order[usage->count++] = (uint32_t)i;
		if (root->trash)
			usage->trash += ((uint64_t)root->volume << 32) + root->snapshot + 1;
	}
	qsort_r(usage->order, usage->count, sizeof(*usage->order), order_compare, census->roots);
	usage->running = true;
	usage->round = census->round;
	usage->begun_ns = now;
	usage->counted_ns = census->counted_ns;
	volume_begin(usage, 0);
	usage->work = (struct work){.step = usage_step, .done = usage_done};
	usage->own = (struct store_work){.op.done = usage_ended};
	work_start(store, &usage->work, &usage->own);
}
