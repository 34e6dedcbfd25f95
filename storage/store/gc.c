/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Garbage: segments that no root reaches are dropped as a whole.
 *
 * Mark: every segment that may hold an id that is reachable. Then sweep: what is not marked leaves
 * the index, then the catalog (a log record), then the disk.
 *
 * Keeps true:
 *  - what is alive at the start is found from the roots and layers of that moment and from what is
 * on its way (puts, records; a fold is waited for); what becomes alive later was appended or
 * deduplicated later, and that marks its segment at once;
 *  - the check of the mark and the removal from the index happen in one go, so that nobody finds a
 * segment that is about to be dropped;
 *  - marking goes by the index's candidates without reading directories: a candidate that is none
 * keeps a dead segment alive until another day, never the other way round.
 */
#include "storage/store/work.h"

#include "storage/rt/log_event.h"
#include "storage/store/index_file.h"

#include <stdlib.h>

enum gc_phase { GC_BEGIN, GC_MARK, GC_SWEEP, GC_LOGGING, GC_FLUSHING, GC_REMOVING };

struct gc {
	struct work work;
	enum gc_phase phase;
	struct root *roots;
	size_t root_count, root_at;
	bool walking;
	struct walk walk;
	struct id_set seen;
	int res;
	uint32_t slot;
	uint64_t file_id, file_bytes;
	uint8_t record[8];
	struct log_entry entry;
	struct log_flush_op flush;
	struct io_op op;
};

static void mark_id(struct store *store, const struct id *id)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	unsigned count = id_is_null(id) ? 0 : index_find(store->index, id, candidates);
	for (unsigned i = 0; i < count; i++) {
		struct segment *segment = segment_of(store, location_slot(candidates[i]));
		if (segment)
			segment->marked_live = true;
	}
}

static void mark_layer(struct store *store, const struct layer *layer)
{
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (const struct dirty_chunk *entry = layer->buckets[b]; entry;
		     entry = entry->next)
			if (entry->base == BASE_ID)
				mark_id(store, &entry->id);
}

static bool gc_enter(struct walk *walk, const struct id *id)
{
	struct gc *gc = walk->owner;
	int added = id_set_add(&gc->seen, id);
	if (added < 0)
		gc->res = added;
	if (added > 0)
		mark_id(walk->store, id);
	return added > 0;
}

static int gc_chunk(struct walk *walk, const struct id *id)
{
	struct gc *gc = walk->owner;
	mark_id(walk->store, id);
	gc->work.public->chunks++;
	return 0;
}

static int gc_begin(struct gc *gc)
{
	struct store *store = gc->work.store;
	if (store->read_only || store->failed)
		return -EROFS;
	/* What a running fold has stored is in no map yet. One that begins later marks by itself.
	 */
	if ((store->gc && store->gc != gc) || fold_running(store))
		return WAITING;
	int res = index_load_all(store, &gc->work.wait); /* marking goes by the index */
	if (res)
		return res == WAITING ? work_waits(&gc->work) : res;
	store->gc = gc;
	res = roots_collect(store, &gc->roots, &gc->root_count);
	if (res < 0)
		return res;
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++)
		if (segment_of(store, slot))
			segment_of(store, slot)->marked_live = false;
	put_mark(store);
	write_mark(store, mark_id);
	for (uint32_t i = 0; i < store->volume_count && !MUTANT(13); i++)
		for (uint32_t k = 0; k < store->volumes[i]->layer_count; k++)
			mark_layer(store, store->volumes[i]->layers[k]);
	for (const struct layer *layer = store->zombies; layer; layer = layer->next)
		mark_layer(store, layer);
	gc->work.public->total = gc->root_count;
	gc->walk = (struct walk){.store = store, .enter = gc_enter, .chunk = gc_chunk, .owner = gc};
	gc->phase = GC_MARK;
	return WALK_MORE;
}

static int gc_mark(struct gc *gc)
{
	while (gc->root_at < gc->root_count) {
		if (!gc->walking)
			walk_start(&gc->walk, &gc->roots[gc->root_at].top);
		gc->walking = true;
		int res = walk_step(&gc->walk, &gc->work.wait);
		if (gc->res < 0)
			return gc->res;
		if (res == WAITING)
			return work_waits(&gc->work);
		if (res == WALK_MORE)
			return res;
		if (res < 0)
			return work_refuse(&gc->work, res,
					   "'%s' cannot be read in full (%s), so nothing can be "
					   "proved to be garbage: run vstorectl store check.",
					   gc->roots[gc->root_at].name, vs_strerror(res));
		gc->walking = false;
		gc->root_at++;
		gc->work.public->progress = gc->root_at;
	}
	gc->slot = 1;
	gc->phase = GC_SWEEP;
	return WALK_MORE;
}

static void gc_end_wait(struct gc *gc, enum gc_phase phase, int res)
{
	gc->phase = phase;
	if (res < 0)
		gc->res = res;
	gc->work.waits = false;
	work_kick(gc->work.store);
}

static void gc_removed(struct io_op *op)
{
	struct gc *gc = container_of(op, struct gc, op);
	/* A file that stays is an orphan: the next opening removes it. */
	gc->work.public->freed_bytes += gc->file_bytes;
	gc->work.store->counters.segments_dropped++;
	gc_end_wait(gc, GC_SWEEP, 0);
}

static void gc_flushed(struct io_op *op)
{
	struct gc *gc = container_of(op, struct gc, flush.op);
	gc_end_wait(gc, op->res < 0 ? GC_SWEEP : GC_REMOVING, (int)op->res);
}

static void gc_logged(struct log_entry *entry, int res)
{
	struct gc *gc = container_of(entry, struct gc, entry);
	if (res == 0)
		res = catalog_apply(gc->work.store, gc->record, sizeof gc->record, NULL);
	gc_end_wait(gc, res < 0 ? GC_SWEEP : GC_FLUSHING, res);
}

/* The next dead segment leaves the index; its record goes to the log. */
static int gc_sweep(struct gc *gc)
{
	struct store *store = gc->work.store;
	for (; gc->slot < segments_slot_count(store); gc->slot++) {
		struct segment *segment = segment_of(store, gc->slot);
		if (!segment || segment->marked_live || segment->state != SEGMENT_SEALED ||
		    segment->writer)
			continue;
		int res = segments_directory(segment, &gc->work.wait);
		if (res == WAITING)
			return work_waits(&gc->work);
		if (res < 0)
			continue; /* damaged: a person decides */
		if (!log_room(store->log, sizeof gc->record, 0, true))
			return WAITING;
		segment_leave_index(segment);
		gc->file_id = segment->id;
		gc->file_bytes = segment->bytes;
		record_number(LOG_DEL_SEGMENT, gc->slot, gc->record);
		gc->entry.done = gc_logged;
		gc->phase = GC_LOGGING;
		log_append(store->log, &gc->entry, gc->record, sizeof gc->record, NULL, 0, true);
		return work_waits(&gc->work);
	}
	log_event(LOG_LEVEL_INFO, "gc.done", "freed_bytes=%llu chunks=%llu",
		  (unsigned long long)gc->work.public->freed_bytes,
		  (unsigned long long)gc->work.public->chunks);
	store_poll_space(store);
	segments_retry_space(store);
	return 0;
}

static int gc_step(struct work *work)
{
	struct gc *gc = container_of(work, struct gc, work);
	struct store *store = work->store;
	char name[32];
	if (gc->res < 0)
		return gc->res;
	switch (gc->phase) {
	case GC_BEGIN:
		return gc_begin(gc);
	case GC_MARK:
		return gc_mark(gc);
	case GC_SWEEP:
		return gc_sweep(gc);
	case GC_FLUSHING:
		gc->flush = (struct log_flush_op){.op.done = gc_flushed};
		log_flush(store->log, &gc->flush);
		return work_waits(work);
	case GC_REMOVING:
		segment_file_name(gc->file_id, name);
		gc->op.done = gc_removed;
		env_file_remove(store->seg_dir, &gc->op, name);
		return work_waits(work);
	case GC_LOGGING:
		break;
	}
	return WAITING;
}

static bool gc_must_finish(const struct work *work)
{
	return container_of(work, struct gc, work)->phase > GC_SWEEP;
}

static void gc_done(struct work *work)
{
	struct gc *gc = container_of(work, struct gc, work);
	struct store *store = work->store;
	if (store->gc == gc)
		store->gc = NULL;
	id_set_free(&gc->seen);
	free(gc->roots);
	free(gc);
	work_kick(store); /* another one may have waited */
}

void store_gc(struct store *store, struct store_work *public)
{
	struct gc *gc = calloc(1, sizeof(*gc));
	if (gc) {
		gc->work.step = gc_step;
		gc->work.done = gc_done;
		gc->work.must_finish = gc_must_finish;
	}
	work_start(store, gc ? &gc->work : NULL, public);
}
