/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fold: the oldest frozen layer of a volume becomes part of its map.
 *
 * First its chunks, in order of address: what the log and the map have of each is put together and
 * stored (fold.c). Then the map, level by level from the leaves up: nodes on a changed path are
 * stored anew (fold_map.c). Last, one record moves the volume to the new map, and the layer goes.
 *
 * Keeps true: one fold at a time; the layer is frozen, so nothing changes under it; every chunk and
 * node is durable before the record that reaches it is appended; a fold that fails or is cut by a
 * crash has changed nothing but orphans. What failed is tried again after a while.
 */
#include "storage/store/fold.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/catalog.h"
#include "storage/store/fetch.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/put.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define RETRY_NS (5 * NSEC_PER_SEC)
#define FETCH_TRIES 3u
#define SPACE_TRIES 16u

int fold_init(struct store *store)
{
	store->fold = calloc(1, sizeof(*store->fold));
	if (!store->fold)
		return -ENOMEM;
	store->fold->store = store;
	for (unsigned i = 0; i < FOLD_WINDOW; i++)
		store->fold->slots[i].fold = store->fold;
	return 0;
}

void fold_exit(struct store *store)
{
	if (!store->fold)
		return;
	free(store->fold->in.at);
	free(store->fold->out.at);
	free(store->fold->sorted);
	free(store->fold);
	store->fold = NULL;
}

bool fold_running(const struct store *store)
{
	return store->fold && store->fold->volume;
}

struct volume *fold_volume(const struct store *store)
{
	return store->fold ? store->fold->volume : NULL;
}

int fold_error(const struct store *store)
{
	return store->fold->last_error;
}

bool fold_full(const struct store *store)
{
	return store->fold->last_error == -ENOSPC;
}

void fold_space_came(struct store *store)
{
	struct fold *fold = store->fold;
	fold->space_came = true; /* one that runs and fails may not have seen it */
	if (!fold_full(store) || fold->volume || fold->space_tries == SPACE_TRIES)
		return; /* what a collection frees of one that failed is no space for the next */
	fold->space_tries++;
	fold->last_error = 0; /* whether it would fail still is not known */
	fold->retry_ns = 0;
	fold_kick(store);
}

int updates_add(struct updates *updates, uint64_t first, uint64_t count)
{
	if (updates->count == updates->room) {
		size_t room = updates->room ? 2 * updates->room : 256;
		struct update *larger = realloc(updates->at, room * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		updates->at = larger;
		updates->room = room;
	}
	updates->at[updates->count++] = (struct update){.first = first, .count = count};
	return 0;
}

/* ---- the plan: entries, and ranges of zeros around them, in order ---- */

static int plan_range(struct fold *fold, uint64_t first, uint64_t end, uint32_t *entry)
{
	const struct layer *layer = fold->layer;
	int res = 0;
	while (first < end && res == 0) {
		uint64_t next = *entry < layer->entry_count ? fold->sorted[*entry]->chunk_no : end;
		if (next > first) {
			res = updates_add(&fold->in, first, min_u64(next, end) - first);
			first = min_u64(next, end);
		} else {
			res = updates_add(&fold->in, first++, 1);
			fold->in.at[fold->in.count - 1].dirty = fold->sorted[(*entry)++];
		}
	}
	return res;
}

static int fold_plan(struct fold *fold)
{
	const struct layer *layer = fold->layer;
	uint32_t entry = 0;
	int res = 0;
	fold->sorted = malloc((layer->entry_count + 1) * sizeof(*fold->sorted));
	if (!fold->sorted)
		return -ENOMEM;
	layer_sorted(layer, fold->sorted);
	for (uint32_t i = 0; i <= layer->range_count && res == 0; i++) {
		bool range = i < layer->range_count;
		uint64_t before = range ? layer->ranges[i].chunk_no : UINT64_MAX;
		while (entry < layer->entry_count && fold->sorted[entry]->chunk_no < before &&
		       res == 0) {
			res = updates_add(&fold->in, fold->sorted[entry]->chunk_no, 1);
			if (res == 0)
				fold->in.at[fold->in.count - 1].dirty = fold->sorted[entry++];
		}
		if (range && res == 0)
			res = plan_range(fold, before, before + layer->ranges[i].chunk_count,
					 &entry);
	}
	return res;
}

/* Its dirty chunks are its progress, in as many steps as it has chunks and leaves to make. */
static void fold_measure(struct fold *fold)
{
	int64_t steps = 1;
	for (size_t i = 0; i < fold->in.count; i++)
		steps += 1 + (i == 0 || fold->in.at[i].first / NODE_SLOTS !=
						fold->in.at[i - 1].first / NODE_SLOTS);
	fold->units_all = (int64_t)fold->layer->entry_count * PACE_UNITS;
	fold->units_step = fold->units_all / steps;
	fold->units_given = 0;
}

void fold_progress(struct fold *fold)
{
	fold->units_given += fold->units_step;
	pace_folded(fold->store, fold->units_step);
}

/* ---- ending ---- */

static void fold_reset(struct fold *fold)
{
	struct store *store = fold->store;
	layer_unuse(store, fold->layer);
	free(fold->sorted);
	fold->sorted = NULL;
	fold->in.count = fold->out.count = 0;
	fold->volume = NULL;
	fold->layer = NULL;
}

static void fold_ended(struct store *store)
{
	work_kick(store); /* first: a collection begins only between folds */
	write_kick(store);
	admin_kick(store);
	fold_kick(store);
}

/* Slots may still be busy: the last one of them ends the fold. */
static void fold_fail(struct fold *fold)
{
	struct store *store = fold->store;
	if (fold->busy)
		return;
	if (fold->res != -VS_ECANCELLED)
		log_event(LOG_LEVEL_ERROR, "fold.failed",
			  "volume=%s error=\"%s\" effect=\"its new data stays in the log, and is "
			  "folded later\"",
			  fold->volume->name, vs_strerror(fold->res));
	fold->last_error = fold->res;
	fold->eio_folds += fold->res == -EIO;
	pace_folded(store, -fold->units_given);
	fold->retry_ns = env_now_ns(store->env) + RETRY_NS;
	fold_reset(fold);
	if (fold->space_came)
		fold_space_came(store);
	write_kick(store);
	admin_kick(store);
	work_kick(store);
}

static void fold_logged(struct log_entry *entry, int res)
{
	struct fold *fold = container_of(entry, struct fold, entry);
	struct store *store = fold->store;
	if (res == 0)
		res = catalog_apply(store, fold->record, fold->record_bytes, NULL);
	if (res < 0) {
		fold->res = res;
		fold_fail(fold);
		return;
	}
	fold->last_error = 0;
	fold->space_tries = 0;
	fold->eio_folds = 0;
	pace_folded(store, fold->units_all - fold->units_given);
	store->counters.folds++;
	fold_reset(fold);
	checkpoint_want(store);
	fold_ended(store);
}

void fold_commit(struct fold *fold)
{
	struct store *store = fold->store;
	struct volume folded = *fold->volume;
	fold->phase = FOLD_COMMIT;
	folded.top = fold->top;
	folded.mapped_chunks = fold->volume->mapped_chunks + fold->chunks_added;
	/* Where nodes are lost it is an estimate. */
	folded.mapped_chunks -= min_u64(folded.mapped_chunks, fold->chunks_removed);
	folded.folded_layer = fold->layer->number;
	fold->record_bytes = volume_encode_flags(&folded, PUT_FOLD, fold->record);
	if (!log_room(store->log, fold->record_bytes, 0, true) || !fold_lost_keep(fold))
		return; /* fold_kick comes back after the next commit */
	fold->phase = FOLD_LOGGING;
	fold->entry.done = fold_logged;
	log_append(store->log, &fold->entry, fold->record, fold->record_bytes, NULL, 0, false);
}

void slot_free(struct fold_slot *slot)
{
	if (slot->put)
		put_free(slot->put);
	if (slot->fetch)
		fetch_free(slot->fetch);
	slot->put = NULL;
	slot->fetch = NULL;
	slot->busy = false;
	slot->fold->busy--;
}

void slot_fail(struct fold_slot *slot, int res)
{
	struct fold *fold = slot->fold;
	slot_free(slot);
	if (fold->res == 0)
		fold->res = res;
	fold_go_on(fold);
}

/* ---- chunks ---- */

static void slot_stored(struct put *put, int res)
{
	struct fold_slot *slot = put->owner;
	struct fold *fold = slot->fold;
	if (res < 0) {
		slot_fail(slot, res);
		return;
	}
	if (put->patch)
		fold->lost_blocks += (unsigned)__builtin_popcount(slot->patch.lost_now);
	fold->in.at[slot->index].id = put->id;
	fold->store->counters.folded_chunks++;
	slot_free(slot);
	fold_progress(fold);
	fold_go_on(fold);
}

/* What the chunk was has been put into the new record. */
static void slot_placed(struct put *put)
{
	struct fold_slot *slot = put->owner;
	if (slot->fetch)
		fetch_free(slot->fetch);
	slot->fetch = NULL;
}

static void slot_patch(struct fold_slot *slot)
{
	slot->put->patch = &slot->patch;
	slot->put->placed = slot_placed;
	put_start(slot->put);
}

/* Damaged frames are lost, and what is whole is kept. A read that failed may do better again. */
static void slot_fetched(struct fetch *fetch, int res)
{
	struct fold_slot *slot = fetch->owner;
	if (res == -EIO && ++slot->tries < FETCH_TRIES) {
		fetch_start(fetch);
		return;
	}
	if (res < 0 && !fold_is_damage(slot->fold, res)) {
		slot_fail(slot, res);
		return;
	}
	slot->patch.record = fetch_record(fetch);
	slot->patch.frame_bytes = slot->patch.record ? fetch->frame_bytes : BLOCK_BYTES;
	memcpy(slot->patch.frames, fetch->frames, sizeof slot->patch.frames);
	slot_patch(slot);
}

static void slot_fetch(struct wait *wait)
{
	struct fold_slot *slot = container_of(wait, struct fold_slot, wait);
	slot->wait.wake = slot_fetch;
	slot->fetch = fetch_new(slot->fold->store, true, &slot->wait);
	if (!slot->fetch)
		return;
	slot->tries = 0;
	slot->fetch->done = slot_fetched;
	slot->fetch->owner = slot;
	slot->fetch->id = slot->read.base;
	slot->fetch->whole = true;
	slot->fetch->block_first = 0;
	slot->fetch->block_count = CHUNK_BLOCKS;
	fetch_start(slot->fetch);
}

/* What the log has of the chunk is in place; if that is not all, it changes what is stored. */
static void slot_read(struct chunk_read *read, int res)
{
	struct fold_slot *slot = container_of(read, struct fold_slot, read);
	if (res == 0 && read->base_res < 0 && !fold_is_damage(slot->fold, read->base_res))
		res = read->base_res;
	if (res == 0 && read->failed_mask && !fold_is_damage(slot->fold, read->failed_res))
		res = read->failed_res;
	if (res < 0) {
		slot_fail(slot, res);
		return;
	}
	if (!read->base_mask && !read->failed_mask) {
		put_start(slot->put);
		return;
	}
	slot->patch = (struct patch){.base_id = read->base,
				     .frame_bytes = BLOCK_BYTES,
				     .fresh = (uint16_t) ~(read->base_mask | read->failed_mask),
				     .unread = read->failed_mask};
	if (!read->base_mask || read->base_res < 0)
		slot_patch(slot);
	else
		slot_fetch(&slot->wait);
}

static void slot_put(struct wait *wait)
{
	struct fold_slot *slot = container_of(wait, struct fold_slot, wait);
	struct fold *fold = slot->fold;
	slot->wait.wake = slot_put;
	if (!pace_ready(fold->store, &slot->wait))
		return;
	slot->put = put_new(fold->store, true, &slot->wait);
	if (!slot->put)
		return;
	slot->put->done = slot_stored;
	slot->put->owner = slot;
	slot->put->raw = slot->put->room;
	slot->put->domain = fold->volume->domain;
	slot->put->level = fold->volume->level;
	slot->put->frame_bytes = fold->volume->frame_bytes;
	slot->read = (struct chunk_read){.done = slot_read,
					 .volume = fold->volume,
					 .snapshot = &fold->as_of,
					 .chunk_no = fold->in.at[slot->index].first,
					 .block_count = CHUNK_BLOCKS,
					 .raw = slot->put->room,
					 .log_only = true};
	chunk_read_start(fold->store, &slot->read);
}

static void fold_chunks(struct fold *fold)
{
	while (fold->next < fold->in.count && fold->res == 0) {
		struct update *update = &fold->in.at[fold->next];
		const struct dirty_chunk *dirty = update->dirty;
		if (!dirty || (dirty->mask == 0 && dirty->base != BASE_INHERIT)) {
			if (dirty && dirty->base == BASE_ID)
				update->id = dirty->id;
			fold->next++;
			fold_progress(fold);
			continue;
		}
		struct fold_slot *slot = fold_slot_free(fold);
		if (!slot)
			return;
		slot->busy = true;
		slot->index = fold->next++;
		fold->busy++;
		slot_put(&slot->wait);
	}
	if (fold->busy)
		return;
	if (fold->in.count == 0) { /* nothing that the map would not have */
		fold->top = fold->volume->top;
		fold_commit(fold);
		return;
	}
	fold->phase = FOLD_MAP;
	fold->level = 0;
	fold_map_begin(fold);
}

struct fold_slot *fold_slot_free(struct fold *fold)
{
	for (unsigned i = 0; i < FOLD_WINDOW; i++)
		if (!fold->slots[i].busy)
			return &fold->slots[i];
	return NULL;
}

void fold_go_on(struct fold *fold)
{
	if (fold->starting)
		return; /* who starts slots goes on when it has done so */
	if (fold->res == 0 && fold->store->closing)
		fold->res = -VS_ECANCELLED;
	if (fold->res == 0 && fold->store->failed)
		fold->res = -VS_EFAILSTOP;
	if (fold->res < 0)
		fold_fail(fold);
	else if (fold->phase == FOLD_CHUNKS)
		fold_chunks(fold);
	else if (fold->phase == FOLD_MAP)
		fold_map(fold);
}

static void fold_started(struct io_op *op)
{
	fold_go_on(container_of(op, struct fold, start_op));
}

static void fold_start(struct fold *fold, struct volume *volume)
{
	fold->volume = volume;
	fold->layer = volume->layers[0];
	layer_use(fold->layer);
	fold->as_of = (struct snapshot){.layer = MUTANT(16) ? UINT64_MAX : fold->layer->number};
	fold->res = 0;
	fold->space_came = false;
	fold->next = 0;
	fold->busy = 0;
	fold->chunks_added = fold->chunks_removed = 0;
	fold->top = volume->top;
	fold->phase = FOLD_CHUNKS;
	fold->in.count = fold->out.count = 0;
	fold_lost_reset(fold);
	fold->res = fold_plan(fold);
	fold_measure(fold);
	fold->start_op.done = fold_started;
	env_complete(fold->store->env, &fold->start_op, 0);
}

/* ---- what to fold ---- */

static bool volume_clean(const struct volume *volume)
{
	const struct layer *active = volume_active(volume);
	return volume->layer_count == 1 && active->entry_count == 0 && active->range_count == 0;
}

static void freeze_logged(struct log_entry *entry, int res)
{
	struct fold *fold = container_of(entry, struct fold, freeze_entry);
	struct store *store = fold->store;
	fold->freezing = false;
	if (res == 0 && catalog_apply(store, fold->freeze_record, 8, NULL) < 0)
		store_fail(store, -ENOMEM, "a layer could not be made");
	fold_kick(store);
}

void fold_freeze(struct fold *fold, struct volume *volume)
{
	struct store *store = fold->store;
	if (fold->freezing || !log_room(store->log, 8, 0, true))
		return;
	fold->freezing = true;
	record_number(LOG_FREEZE, volume->number, fold->freeze_record);
	fold->freeze_entry.done = freeze_logged;
	log_append(store->log, &fold->freeze_entry, fold->freeze_record, 8, NULL, 0, false);
}

/* The volume whose oldest layer starts first, of those that should be folded. */
static struct volume *fold_choose(struct store *store)
{
	uint64_t now = env_now_ns(store->env);
	bool pressure = store->fold_all || pace_pressure(store);
	struct volume *best = NULL;
	for (uint32_t i = 0; i < store->volume_count; i++) {
		struct volume *volume = store->volumes[i];
		if (volume_clean(volume))
			volume->fold_wanted = false;
		if (volume_clean(volume) || volume->busy || volume->still)
			continue;
		bool idle = now - volume->changed_ns >= store->options.idle_fold_ns;
		if (!pressure && !volume->fold_wanted && !idle)
			continue;
		if (!best || (volume->fold_wanted && !best->fold_wanted) ||
		    (volume->fold_wanted == best->fold_wanted &&
		     volume->layers[0]->start_pos < best->layers[0]->start_pos))
			best = volume;
	}
	if (!best)
		store->fold_all = false;
	return best;
}

void fold_kick(struct store *store)
{
	struct fold *fold = store->fold;
	if (!fold || !store->started || store->failed || store->read_only)
		return;
	if (fold->volume) {
		if (fold->phase == FOLD_COMMIT)
			fold_commit(fold);
		return;
	}
	if (store->closing || env_now_ns(store->env) < fold->retry_ns)
		return;
	struct volume *volume = fold_choose(store);
	if (!volume)
		return;
	if (volume->layer_count > 1)
		fold_start(fold, volume);
	else
		fold_freeze(fold, volume);
}
