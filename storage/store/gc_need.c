/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a collection is begun by itself: after a purge, by need and by schedule. An archive in which
 * nothing changes has one as well when something in it has become old. And what the room that there
 * is makes of one: how much garbage is worth it, and what is old enough to be compressed anew.
 *
 * Keeps true: one that ended, in whichever way, and has freed nothing is not begun again for who
 * waits for space: that would be waiting for ever.
 */
#include "storage/store/gc_int.h"

#include "storage/store/census.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define LOW_SHARE 16u	   /* less room than this part of all: space is low */
#define LOW_SEGMENTS 4u	   /* ... or than so many segments */
#define SCARCE_SEGMENTS 2u /* less room than so many: soon somebody waits for it */
/* How much of a segment must be garbage when one begins by itself: WORTH_FACTOR percent for each
 * percent of the space that is room: with a quarter free it copies no more than it frees, with a
 * 16th free seven times that. */
#define GARBAGE_PERCENT_MOST 50u
#define WORTH_FACTOR 2u
#define PACK_AFTER_NS_DEFAULT (7 * 24 * 3600 * NSEC_PER_SEC)
#define INTERVAL_NS_DEFAULT (3600 * NSEC_PER_SEC)
#define LOW_INTERVAL_NS (2 * NSEC_PER_SEC)
#define GROWN_INTERVAL_NS (60 * NSEC_PER_SEC)
#define PACK_INTERVAL_NS (60 * NSEC_PER_SEC)

/* ---- room, and what is worth it ---- */

static uint64_t space_all(const struct store *store)
{
	return store->options.capacity_bytes ? store->options.capacity_bytes
					     : store->segment_bytes + store->disk_free_bytes;
}

bool gc_space_low(const struct store *store)
{
	uint64_t room = segments_room_bytes(store);
	return segments_full(store) || room < LOW_SEGMENTS * SEGMENT_BYTES ||
	       room < space_all(store) / LOW_SHARE;
}

bool gc_space_scarce(const struct store *store)
{
	return segments_full(store) || segments_room_bytes(store) < SCARCE_SEGMENTS * SEGMENT_BYTES;
}

uint32_t gc_percent_worth(const struct store *store)
{
	uint64_t hundredth = space_all(store) / 100;
	uint64_t percent = hundredth ? WORTH_FACTOR * (segments_room_bytes(store) / hundredth) : 0;
	return (uint32_t)max_u64(GARBAGE_PERCENT_LEAST, min_u64(percent, GARBAGE_PERCENT_MOST));
}

uint64_t gc_old_before(const struct store *store)
{
	uint64_t after = store->options.recompress_after_ns ? store->options.recompress_after_ns
							    : PACK_AFTER_NS_DEFAULT;
	uint64_t age = store_age_ns(store);
	if (!store->options.recompress_level || !store_has(store, FEATURE_PACKED) || age < after)
		return 0;
	return history_segments_before(&store->history, age - after);
}

bool gc_pack_candidate(const struct segment *segment, uint64_t before)
{
	return segment && segment->id < before && !segment->packed && !segment->kept &&
	       segment->state == SEGMENT_SEALED && !segment->writer;
}

/* ---- by itself ---- */

int gc_init(struct store *store)
{
	store->gc_need = calloc(1, sizeof(*store->gc_need));
	if (!store->gc_need)
		return -ENOMEM;
	store->gc_need->begun_ns = env_now_ns(store->env);
	return census_init(store);
}

void gc_exit(struct store *store)
{
	census_exit(store);
	free(store->gc_need);
	store->gc_need = NULL;
}

static void own_done(struct io_op *op)
{
	struct gc_need *need = container_of(op, struct gc_need, own.op);
	need->busy = false;
}

static bool changed_since(const struct store *store)
{
	const struct gc_need *need = store->gc_need;
	return !need->ever || need->folds != store->counters.folds ||
	       need->roots_gone != store->roots_gone;
}

/* Is there something to compress anew, although nothing has changed? Looked at once an interval. */
static bool old_due(struct store *store, uint64_t interval)
{
	struct gc_need *need = store->gc_need;
	uint64_t now = env_now_ns(store->env), before = gc_old_before(store);
	uint32_t slots = segments_slot_count(store);
	if (before == 0 || now - need->old_looked_ns < interval)
		return false;
	need->old_looked_ns = now;
	for (uint32_t slot = 1; slot < slots; slot++)
		if (gc_pack_candidate(segment_of(store, slot), before))
			return !gc_space_low(store);
	return false;
}

static void gc_begin(struct store *store)
{
	struct gc_need *need = store->gc_need;
	need->wanted = false;
	need->busy = true;
	need->own = (struct store_work){.op.done = own_done};
	store_gc(store, &need->own);
}

void gc_want(struct store *store)
{
	store->gc_need->wanted = true;
	gc_tick(store);
}

void gc_tick(struct store *store)
{
	struct gc_need *need = store->gc_need;
	uint64_t since = env_now_ns(store->env) - need->begun_ns;
	if (need->busy || store->gc || store->closing || store->read_only || store->failed)
		return;
	uint64_t interval =
		store->options.gc_interval_ns ? store->options.gc_interval_ns : INTERVAL_NS_DEFAULT;
	bool scheduled = since >= interval && !usage_running(store);
	bool grown = interval != GC_NEVER &&
		     store->segment_bytes >
			     need->segment_bytes + need->segment_bytes / 4 + 8 * SEGMENT_BYTES;
	bool more = need->old_left && interval != GC_NEVER && since >= PACK_INTERVAL_NS &&
		    !usage_running(store);
	if (need->wanted || more || (scheduled && old_due(store, interval)) ||
	    (changed_since(store) && (scheduled || (grown && since >= GROWN_INTERVAL_NS) ||
				      (since >= LOW_INTERVAL_NS && gc_space_low(store)))))
		gc_begin(store);
}

bool gc_may_help(struct store *store)
{
	struct gc_need *need = store->gc_need;
	if (store->closing || store->read_only || store->failed)
		return false;
	if (need->busy || store->gc)
		return true;
	if (need->fruitless && !changed_since(store))
		return admin_purge_overdue(store);
	need->awaited = true;
	gc_begin(store);
	return true;
}

const char *gc_failed(const struct store *store)
{
	return store->gc_need->failed;
}
