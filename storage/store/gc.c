/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A collection: a census, then the segments with most garbage for the least copying are emptied and
 * dropped, one after the other.
 *
 * Keeps true:
 *  - a file goes only when nobody finds a record in it (compact.c), and after the record that drops
 *    its segment is durable, which lies in the log behind the one that made the segment that took
 *    its copies;
 *  - a read that began before the census's moment may hold an id that is dead since: the first
 *    removal waits until those have ended;
 *  - a removal (a commit, a flush, and the file system's work for a file that may be large) is
 *    followed by a pause of REST_FACTOR times what it took, so that guests have the disk for most
 *    of the time; none when space is scarce, and REST_MOST_NS at most, as a close waits for it;
 *  - one that begins by itself copies as little as the room allows: the more there is, the more
 *    garbage a segment must have, and when there is room again the poor ones are let be. Who waits
 *    for space takes what there is;
 *  - what cannot be proved to be garbage stays; what goes wrong ends the collection, and the store
 *    is as good as before;
 *  - segments that are emptied for their age alone, to be compressed anew (pack.c), come in small
 *    parts, the rest with a collection a minute later, and after all others: who waits for a
 *    collection, or for space, waits for one of them at most.
 *
 * One at a time: begun by itself (gc_need.c), or by hand. One that fails is logged with its reason,
 * and told in store_info until one ends well.
 */
#include "storage/store/gc_int.h"

#include "storage/rt/log_event.h"
#include "storage/store/catalog.h"
#include "storage/store/compact.h"
#include "storage/store/index_file.h"
#include "storage/store/mutant.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define REST_FACTOR 3u
#define REST_FACTOR_LOW 1u
#define REST_MOST_NS (NSEC_PER_SEC / 2)
/* How much of a segment must be garbage, by hand, so that it is worth it to copy the rest. */
#define GARBAGE_PERCENT 25u
/* Of segments that have no garbage, one collection compresses so many anew, and looks at so many.
 */
#define PACK_SEGMENTS_MAX 8u
#define PACK_LOOKS_MAX 64u

enum gc_phase {
	GC_COUNT,
	GC_DRAIN,
	GC_CHOOSE,
	GC_NEXT,
	GC_COMPACT,
	GC_UNDER_WAY, /* a commit, a flush, a removal or the rest behind it: its end says what is
			 next */
	GC_FLUSHING,
	GC_REMOVING
};

struct victim {
	uint32_t slot;
	uint64_t id; /* slots are used again */
	double score;
	bool old_only; /* it is here for its age alone */
};

struct gc {
	struct work work;
	enum gc_phase phase;
	bool counting, low;
	uint32_t percent; /* of garbage, that was worth it when it began */
	int res;
	struct victim *victims;
	size_t victim_count, victim_at;
	uint64_t pack_before; /* segments with smaller ids are compressed anew */
	uint32_t packed;      /* segments for their age alone, so far */
	bool packing;	      /* this one is one of them */
	bool left;	      /* some of them wait for the next one */
	bool awaited;	      /* another collection waits until this one has ended */
	struct compact compact;
	uint64_t file_id, file_bytes, moved_before_bytes, drop_begun_ns;
	uint8_t record[8];
	struct log_entry entry;
	struct log_flush_op flush;
	struct io_op op;
	struct env_timer rest;
};

static bool by_itself(const struct gc *gc)
{
	return gc->work.public == &gc->work.store->gc_need->own;
}

static uint32_t percent_begin(const struct gc *gc)
{
	struct store *store = gc->work.store;
	if (!by_itself(gc))
		return gc_space_low(store) ? GARBAGE_PERCENT_LEAST : GARBAGE_PERCENT;
	bool awaited = store->gc_need->awaited;
	store->gc_need->awaited = false;
	return awaited ? GARBAGE_PERCENT_LEAST : gc_percent_worth(store);
}

/* What was freed so far may be enough. */
static uint32_t percent_now(const struct gc *gc)
{
	if (!by_itself(gc) || !gc->work.public->freed_bytes)
		return gc->percent;
	return (uint32_t)max_u64(gc->percent, gc_percent_worth(gc->work.store));
}

/* ---- count, and wait for who may hold what is dead ---- */

static unsigned pack_level(const struct gc *gc)
{
	unsigned level = gc->work.store->options.recompress_level;
	return level || !gc->work.public->recompress ? level : RECOMPRESS_LEVEL_DEFAULT;
}

static int gc_count(struct gc *gc)
{
	struct store *store = gc->work.store;
	if (store->read_only || store->failed)
		return -EROFS;
	if (store->gc && store->gc != gc) {
		store->gc->awaited = true;
		return WAITING;
	}
	if (!gc->counting) {
		int res = index_load_all(store, &gc->work.wait); /* counts lie beside it */
		if (res == WAITING)
			return work_waits(&gc->work);
		if (res < 0)
			return res;
		store->gc_need->begun_ns = env_now_ns(store->env);
		store->gc_need->ever = true;
		store->gc_need->fruitless = true; /* until it has freed something */
		store->gc_need->folds = store->counters.folds;
		store->gc_need->roots_gone = store->roots_gone;
		store->gc_need->old_left = false;
		store->gc_need->segment_bytes = store->segment_bytes;
		res = compact_init(&gc->compact, &gc->work, pack_level(gc) != 0);
		if (res < 0)
			return res;
		store->gc = gc;
		gc->counting = true;
		gc->low = gc_space_low(store);
		gc->percent = percent_begin(gc);
		census_start(store->census, gc->work.public->thorough);
	}
	int res = census_step(store->census, &gc->work);
	gc->work.public->chunks = store->census->looked;
	if (res)
		return res;
	gc->counting = false;
	gc->phase = GC_DRAIN;
	return WALK_MORE;
}

static int gc_drain(struct gc *gc)
{
	struct store *store = gc->work.store;
	if (store->readers[!store->read_turn])
		return WAITING; /* the last of them kicks */
	gc->phase = GC_CHOOSE;
	return WALK_MORE;
}

/* ---- choose: most garbage for the least copying, old before new ---- */

static int victim_order(const void *a, const void *b)
{
	const struct victim *left = a, *right = b;
	if (left->score != right->score)
		return left->score > right->score ? -1 : 1;
	return left->id < right->id ? -1 : left->id > right->id;
}

/* When space is short there is no time for it. */
static uint64_t pack_before(const struct gc *gc)
{
	return gc->low			     ? 0
	       : gc->work.public->recompress ? UINT64_MAX
					     : gc_old_before(gc->work.store);
}

/* By what is known of it now: compact.c weighs it again. */
static bool segment_worth(const struct segment *segment, uint32_t percent)
{
	uint64_t live = segment_live_bytes(segment), bytes = segment->bytes;
	return !live || (bytes - min_u64(bytes, live)) * 100 >= bytes * percent;
}

static int gc_choose(struct gc *gc)
{
	struct store *store = gc->work.store;
	uint32_t slots = segments_slot_count(store), looks = 0;
	gc->pack_before = pack_before(gc);
	gc->victims = calloc(slots + 1ull, sizeof(*gc->victims));
	if (!gc->victims)
		return -ENOMEM;
	gc->work.public->total = 0;
	for (uint32_t slot = 1; slot < slots; slot++) {
		const struct segment *segment = segment_of(store, slot);
		if (!segment || !segment->counted || segment->kept ||
		    segment->state != SEGMENT_SEALED || segment->writer)
			continue;
		uint64_t live = segment_live_bytes(segment), bytes = segment->bytes;
		bool old_only = !segment_worth(segment, gc->percent);
		if (old_only && !gc_pack_candidate(segment, gc->pack_before))
			continue;
		if (old_only && looks++ == PACK_LOOKS_MAX && !gc->work.public->recompress) {
			store->gc_need->old_left = true;
			looks = PACK_LOOKS_MAX;
			continue;
		}
		double used = bytes ? (double)min_u64(live, bytes) / (double)bytes : 0;
		double age = 1 + (double)(store->next_segment_id - segment->id) /
					 (double)store->next_segment_id;
		gc->victims[gc->victim_count++] =
			(struct victim){.slot = slot,
					.id = segment->id,
					.score = (1 - used) * age / (1 + used),
					.old_only = old_only};
		gc->work.public->total += bytes;
	}
	qsort(gc->victims, gc->victim_count, sizeof(*gc->victims), victim_order);
	gc->phase = GC_NEXT;
	return WALK_MORE;
}

/* ---- one segment after the other ---- */

static int gc_end(struct gc *gc)
{
	struct store *store = gc->work.store;
	/* What it fills is sealed: then there may be a reserve. And one that began while there was
	 * space let garbage be that is worth it to who waits. */
	if (gc->percent > GARBAGE_PERCENT_LEAST || store->segment_set->moved)
		store->gc_need->fruitless = false;
	store->counters.collections++;
	store->gc_need->failed[0] = 0;
	if (gc->work.public->recompress && (gc->low || gc->left))
		work_report(&gc->work, "space is short: not all was compressed anew");
	log_event(LOG_LEVEL_INFO, "gc.done", "freed_bytes=%llu moved_bytes=%llu counted=%llu",
		  (unsigned long long)gc->work.public->freed_bytes,
		  (unsigned long long)gc->compact.moved_bytes,
		  (unsigned long long)gc->work.public->chunks);
	if (gc->percent == GARBAGE_PERCENT_LEAST || gc_space_scarce(store))
		segments_moved_seal(store); /* what its last segment does not need is given back */
	store_poll_space(store);
	segments_retry_space(store);
	return 0;
}

/* It can wait for the next collection: enough of them are done, or something else is to be. */
static bool gc_later(const struct gc *gc, const struct victim *victim)
{
	const struct store *store = gc->work.store;
	if (!victim->old_only)
		return false;
	if (gc_space_low(store))
		return true;
	return !gc->work.public->recompress &&
	       (gc->packed >= PACK_SEGMENTS_MAX || gc->awaited || store->gc_need->wanted);
}

static int gc_next(struct gc *gc)
{
	struct store *store = gc->work.store;
	while (gc->victim_at < gc->victim_count) {
		const struct victim *victim = &gc->victims[gc->victim_at++];
		struct segment *segment = segment_of(store, victim->slot);
		if (!segment || segment->id != victim->id || segment->kept)
			continue;
		if (gc_later(gc, victim)) {
			store->gc_need->old_left = gc->left = true;
			continue;
		}
		uint32_t percent = percent_now(gc);
		if (percent > gc->percent && !victim->old_only &&
		    !segment_worth(segment, percent)) {
			gc->work.public->progress += segment->bytes;
			continue;
		}
		gc->packing = victim->old_only;
		gc->file_id = segment->id;
		gc->file_bytes = segment->bytes;
		gc->moved_before_bytes = gc->compact.moved_bytes;
		compact_start(&gc->compact, segment, percent,
			      segment->id < gc->pack_before ? pack_level(gc) : 0,
			      gc_space_scarce(store) ? 0
			      : gc_space_low(store)  ? REST_FACTOR_LOW
						     : REST_FACTOR);
		gc->phase = GC_COMPACT;
		return WALK_MORE;
	}
	return gc_end(gc);
}

static void gc_end_wait(struct gc *gc, enum gc_phase phase, int res)
{
	gc->phase = phase;
	if (res < 0)
		gc->res = res;
	gc->work.waits = false;
	work_kick(gc->work.store);
}

static void gc_logged(struct log_entry *entry, int res)
{
	struct gc *gc = container_of(entry, struct gc, entry);
	if (res == 0)
		res = catalog_apply(gc->work.store, gc->record, sizeof gc->record, NULL);
	gc_end_wait(gc, res < 0 ? GC_NEXT : MUTANT(52) ? GC_REMOVING : GC_FLUSHING, res);
}

static int gc_compact(struct gc *gc)
{
	struct store *store = gc->work.store;
	int res = compact_step(&gc->compact);
	if (res)
		return res;
	if (gc->compact.phase == COMPACT_EMPTY) {
		if (!log_room(store->log, sizeof gc->record, 0, true))
			return WAITING;
		gc->packed += gc->packing;
		gc->drop_begun_ns = env_now_ns(store->env);
		record_number(LOG_DEL_SEGMENT, gc->compact.segment->slot, gc->record);
		compact_end(&gc->compact);
		gc->entry.done = gc_logged;
		gc->phase = GC_UNDER_WAY;
		log_append(store->log, &gc->entry, gc->record, sizeof gc->record, NULL, 0,
			   !MUTANT(52));
		return work_waits(&gc->work);
	}
	gc->work.public->progress += gc->file_bytes;
	gc->work.public->damaged = gc->compact.bad_records;
	compact_end(&gc->compact);
	gc->phase = GC_NEXT;
	return WALK_MORE;
}

static void gc_rested(struct env_timer *timer)
{
	gc_end_wait(container_of(timer, struct gc, rest), GC_NEXT, 0);
}

static void gc_removed(struct io_op *op)
{
	struct gc *gc = container_of(op, struct gc, op);
	struct store *store = gc->work.store;
	/* A file that stays is an orphan: the next opening removes it. */
	gc->work.public->freed_bytes +=
		gc->file_bytes -
		min_u64(gc->file_bytes, gc->compact.moved_bytes - gc->moved_before_bytes);
	gc->work.public->progress += gc->file_bytes;
	store->counters.segments_dropped++;
	store->gc_need->fruitless = false;
	store_poll_space(store);
	segments_retry_space(store);
	if (store->closing || gc->work.public->cancel || gc_space_scarce(store)) {
		gc_end_wait(gc, GC_NEXT, 0);
		return;
	}
	gc->rest.fire = gc_rested;
	env_timer_start(
		store->env, &gc->rest,
		min_u64(REST_MOST_NS, REST_FACTOR * (env_now_ns(store->env) - gc->drop_begun_ns)));
}

static void gc_flushed(struct io_op *op)
{
	struct gc *gc = container_of(op, struct gc, flush.op);
	gc_end_wait(gc, op->res < 0 ? GC_NEXT : GC_REMOVING, (int)op->res);
}

static int gc_go_on(struct gc *gc)
{
	struct work *work = &gc->work;
	struct store *store = work->store;
	char name[32];
	if (gc->phase == GC_COMPACT && compact_busy(&gc->compact)) /* also when it is cancelled */
		return work->public->cancel || store->closing ? WAITING : gc_compact(gc);
	if (gc->phase < GC_UNDER_WAY && (work->public->cancel || store->closing))
		return gc->counting && census_busy(store->census) ? WAITING : -VS_ECANCELLED;
	if (gc->res < 0)
		return gc->res;
	switch (gc->phase) {
	case GC_COUNT:
		return gc_count(gc);
	case GC_DRAIN:
		return gc_drain(gc);
	case GC_CHOOSE:
		return gc_choose(gc);
	case GC_NEXT:
		return gc_next(gc);
	case GC_COMPACT:
		return gc_compact(gc);
	case GC_FLUSHING:
		gc->phase = GC_UNDER_WAY;
		gc->flush = (struct log_flush_op){.op.done = gc_flushed};
		log_flush(store->log, &gc->flush);
		return work_waits(work);
	case GC_REMOVING:
		gc->phase = GC_UNDER_WAY;
		segment_file_name(gc->file_id, name);
		gc->op.done = gc_removed;
		env_file_remove(store->seg_dir, &gc->op, name);
		return work_waits(work);
	case GC_UNDER_WAY:
		break;
	}
	return WAITING;
}

static int gc_step(struct work *work)
{
	struct gc *gc = container_of(work, struct gc, work);
	struct store *store = work->store;
	if (work->public->recompress && !store_has(store, FEATURE_PACKED))
		return work_refuse(work, -EOPNOTSUPP, FEATURE_MISSING, "recompression");
	int res = gc_go_on(gc);
	if (res >= 0 || res == -VS_ECANCELLED)
		return res;
	char *why = store->gc_need->failed;
	if (work->public->sentence[0])
		snprintf(why, SENTENCE_BYTES, "%s", work->public->sentence);
	else
		snprintf(why, SENTENCE_BYTES, "The last collection stopped: %s.", vs_strerror(res));
	store->counters.collections_failed++;
	log_event(LOG_LEVEL_ERROR, "gc.failed",
		  "error=\"%s\" reason=\"%s\" effect=\"nothing more is freed until one ends well\"",
		  vs_strerror(res), why);
	return res;
}

static bool gc_must_finish(const struct work *work)
{
	const struct gc *gc = container_of(work, struct gc, work);
	return gc->phase >= GC_UNDER_WAY || compact_busy(&gc->compact) ||
	       (gc->counting && census_busy(work->store->census));
}

static void gc_done(struct work *work)
{
	struct gc *gc = container_of(work, struct gc, work);
	struct store *store = work->store;
	if (store->gc == gc) {
		if (work->public->cancel)
			store->gc_need->fruitless = false; /* nobody knows */
		census_stop(store->census);
		store->gc = NULL;
	}
	compact_exit(&gc->compact);
	free(gc->victims);
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
