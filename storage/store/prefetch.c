/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams: the last places where guests read in order. When a stream has read a while without a
 * jump, the chunks ahead of it are fetched into the cache, more of them the longer it runs.
 *
 * Keeps true:
 *  - bounded: so many streams, so many chunks ahead of each, so many under way; never more than the
 *    part of the cache that new blocks pass through would hold;
 *  - it waits for nothing: what is busy is left for the stream's next read;
 *  - a reader that comes to a chunk under way waits for it, then decides anew what the chunk is.
 */
#include "storage/store/prefetch.h"

#include "storage/store/cache.h"
#include "storage/store/fetch.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define STREAMS 16u
#define SLOTS 32u
#define AHEAD_MAX 16u	      /* chunks: 1 MiB */
#define SLACK (256 * KIB)     /* a stream's requests may come out of order by so much */
#define RUN_MIN (128 * KIB)   /* read in order before anything is read ahead */
#define BUSY_ENOUGH AHEAD_MAX /* a guest with so many chunks under way reads ahead by itself */

struct stream {
	uint32_t volume, snapshot; /* numbers; 0: unused, no snapshot */
	uint64_t next_bytes, run_bytes;
	uint64_t ahead; /* the first chunk that was not looked at */
	uint64_t used;	/* the clock at its last read */
};

struct prefetch_slot {
	struct id id;
	struct prefetch_slot *next;
	struct wait_list waiters;
};

struct prefetch {
	struct store *store;
	struct stream streams[STREAMS];
	struct prefetch_slot slots[SLOTS], *free, *busy;
	uint64_t clock;
	unsigned ahead_max;
	struct wait node_wait;
	bool node_waiting; /* for a node of a map: one at a time */
};

static void node_there(struct wait *wait)
{
	container_of(wait, struct prefetch, node_wait)->node_waiting = false;
}

int prefetch_init(struct store *store)
{
	struct prefetch *prefetch = calloc(1, sizeof(*prefetch));
	if (!prefetch)
		return -ENOMEM;
	store->prefetch = prefetch;
	prefetch->store = store;
	prefetch->node_wait.wake = node_there;
	uint64_t room = cache_passing_slots(store->cache) / CHUNK_BLOCKS;
	prefetch->ahead_max = (unsigned)min_u64(room, AHEAD_MAX);
	for (unsigned i = 0; i < SLOTS; i++) {
		prefetch->slots[i].next = prefetch->free;
		prefetch->free = &prefetch->slots[i];
	}
	return 0;
}

void prefetch_exit(struct store *store)
{
	free(store->prefetch);
	store->prefetch = NULL;
}

bool prefetch_idle(const struct store *store)
{
	return !store->prefetch->busy && !store->prefetch->node_waiting;
}

static struct prefetch_slot *slot_of(struct prefetch *prefetch, const struct id *id)
{
	struct prefetch_slot *slot = prefetch->busy;
	while (slot && !id_equal(&slot->id, id))
		slot = slot->next;
	return slot;
}

bool prefetch_wait(struct store *store, const struct id *id, struct wait *wait)
{
	struct prefetch_slot *slot = slot_of(store->prefetch, id);
	if (slot)
		wait_add(&slot->waiters, wait);
	return slot != NULL;
}

/* An error is told to the reader, who will meet it himself. */
static void slot_fetched(struct fetch *fetch, int res)
{
	(void)res;
	struct prefetch_slot *slot = fetch->owner;
	struct prefetch *prefetch = fetch->store->prefetch;
	struct prefetch_slot **at = &prefetch->busy;
	struct wait_list waiters = slot->waiters;
	fetch_free(fetch);
	while (*at != slot)
		at = &(*at)->next;
	*at = slot->next;
	slot->next = prefetch->free;
	prefetch->free = slot;
	wait_wake_all(&waiters);
}

static bool all_cached(struct cache *cache, const struct id *id, uint16_t mask)
{
	for (; mask; mask &= (uint16_t)(mask - 1))
		if (!cache_has(cache, id, (unsigned)__builtin_ctz(mask)))
			return false;
	return true;
}

/* True: the chunk is on its way, or needs none; false: not now. */
static bool chunk_ahead(struct prefetch *prefetch, const struct view *view, uint64_t chunk_no)
{
	struct store *store = prefetch->store;
	struct id base;
	uint16_t mask;
	struct wait *wait = prefetch->node_waiting ? NULL : &prefetch->node_wait;
	int res = chunk_base(store, view->volume, view->snapshot, chunk_no, wait, &base, &mask);
	if (res == WAITING) {
		prefetch->node_waiting = true;
		return false;
	}
	if (res < 0 || all_cached(store->cache, &base, mask) || slot_of(prefetch, &base))
		return true;
	struct prefetch_slot *slot = prefetch->free;
	struct fetch *fetch = slot ? fetch_new(store, true, NULL) : NULL;
	if (!fetch)
		return false;
	prefetch->free = slot->next;
	slot->id = base;
	slot->waiters = (struct wait_list){0};
	slot->next = prefetch->busy;
	prefetch->busy = slot;
	store->counters.prefetched_chunks++;
	fetch->background = false; /* its reader is near */
	fetch->done = slot_fetched;
	fetch->owner = slot;
	fetch->id = base;
	fetch->block_first = 0;
	fetch->block_count = CHUNK_BLOCKS;
	fetch->raw = fetch->spill;
	fetch_start(fetch);
	return true;
}

static struct stream *stream_of(struct prefetch *prefetch, const struct view *view, uint64_t offset)
{
	uint32_t snapshot = view->snapshot ? view->snapshot->number : 0;
	struct stream *oldest = &prefetch->streams[0];
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *stream = &prefetch->streams[i];
		if (stream->volume == view->volume->number && stream->snapshot == snapshot &&
		    offset + SLACK - stream->next_bytes <= 2 * SLACK)
			return stream;
		if (stream->used < oldest->used)
			oldest = stream;
	}
	*oldest = (struct stream){
		.volume = view->volume->number, .snapshot = snapshot, .next_bytes = offset};
	return oldest;
}

void prefetch_note(struct store_request *request, unsigned busy)
{
	struct view *view = request->view;
	struct prefetch *prefetch = view->store->prefetch;
	uint64_t end = request->offset_bytes + request->length_bytes;
	struct stream *stream = stream_of(prefetch, view, request->offset_bytes);
	stream->used = ++prefetch->clock;
	if (end > stream->next_bytes) { /* what is read again is no progress, nor is a jump */
		stream->run_bytes += min_u64(request->length_bytes, end - stream->next_bytes);
		stream->next_bytes = end;
	}
	if (stream->run_bytes < RUN_MIN || busy >= BUSY_ENOUGH)
		return;
	uint64_t chunk_no = stream->next_bytes / CHUNK_BYTES;
	uint64_t ahead = min_u64(stream->run_bytes / CHUNK_BYTES, prefetch->ahead_max);
	uint64_t stop =
		min_u64(chunk_no + ahead, (store_view_bytes(view) + CHUNK_BYTES - 1) / CHUNK_BYTES);
	stream->ahead = max_u64(stream->ahead, chunk_no);
	while (stream->ahead < stop && chunk_ahead(prefetch, view, stream->ahead))
		stream->ahead++;
}
