/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of what the store has, for those who show it. Changes nothing, never waits. */
#include "storage/store/store_list.h"

#include "storage/store/behind.h"
#include "storage/store/cache.h"
#include "storage/store/census.h"
#include "storage/store/fetch.h"
#include "storage/store/fold.h"
#include "storage/store/index_file.h"
#include "storage/store/put.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

void store_counters(const struct store *store, struct store_counters *ret_counters)
{
	*ret_counters = store->counters;
}

/* What the store takes at most: its caches and pools, as configured; the index, 12 bytes a chunk;
 * what a fold plans, by the chunks that can be dirty; what folds leave for a census; and a rest for
 * buffers of segments, of the log, of long work, and for names. */
static uint64_t memory_bound(const struct store *store)
{
	const uint64_t rest = 64 * MIB, plan = 4 * sizeof(struct update) + sizeof(void *);
	uint32_t slots = (uint32_t)(store->cache_area_bytes / BLOCK_BYTES);
	return store->cache_area_bytes + cache_table_bytes(slots) + map_memory_bytes(store) +
	       store->options.directory_cache_bytes + fetch_memory_bytes(store) +
	       put_memory_bytes(store) + read_memory_bytes() + write_memory_bytes() +
	       layer_pool_memory_bytes(store->layer_pool) + store->layer_pool->entry_count * plan +
	       max_u64(index_bytes(store->index), 12 * index_count(store->index)) +
	       census_diffs_bytes_most(store) + rest;
}

static void freed_fill(const struct store *store, const struct freed *freed,
		       struct freed_info *info)
{
	*info = (struct freed_info){
		.known = freed->counted_ns, .at_least = freed->at_least, .bytes = freed->bytes};
	if (info->known)
		info->age_ns = env_now_ns(store->env) - freed->counted_ns;
}

/* Where the bytes of the segments are. Whatever is not known to be garbage counts as live. */
static void space_fill(const struct store *store, struct store_info *info)
{
	const struct segment_set *set = store->segment_set;
	const struct census *census = store->census;
	uint64_t garbage = 0;
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		const struct segment *segment = segment_of(store, slot);
		if (!segment)
			continue;
		if (segment == set->reserve)
			info->reserve_bytes += segment->bytes;
		else if (segment->writer)
			info->prepared_bytes +=
				segment->bytes -
				min_u64(segment->bytes, segment_appended_end(segment->writer));
		else if (segment->counted)
			garbage += segment->bytes -
				   min_u64(segment->bytes, segment_live_bytes(segment));
	}
	uint64_t data = store->segment_bytes - info->reserve_bytes - info->prepared_bytes;
	if (!census->whole) /* the counts are on their way, or were given up */
		garbage = census->garbage_bytes;
	info->garbage_bytes = min_u64(garbage, data);
	info->live_bytes = data - info->garbage_bytes;
	info->unique_bytes =
		CHUNK_BYTES * (index_live_count(store->index) -
			       min_u64(index_live_count(store->index), census->node_records));
	info->counted = census->counted_ns > 0;
	if (info->counted)
		info->counted_age_ns = env_now_ns(store->env) - census->counted_ns;
	info->scrub_oldest_ns = scrub_oldest_ns(store);
	freed_fill(store, &store->trash_freed, &info->trash);
	info->trash.bytes = min_u64(info->trash.bytes, info->live_bytes); /* of an older count */
}

static void objects_count(const struct store *store, struct store_info *info)
{
	uint32_t snapshots = 0;
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		bool live = volume->state == OBJECT_LIVE;
		info->volume_count += live;
		info->trash_count += !live;
		info->snapshot_count += live ? volume->snapshot_count : 0;
		info->logical_bytes += volume->mapped_chunks * CHUNK_BYTES;
		snapshots += volume->snapshot_count;
	}
	info->trash_count += store->snapshot_count - snapshots;
}

void store_info(const struct store *store, struct store_info *ret_info)
{
	struct store_info info = {
		.format_version = FORMAT_VERSION,
		.features = store->sb.feature_incompatible,
		.features_missing = FEATURES_ALL & ~store->sb.feature_incompatible,
		.created_wall_ns = store->sb.created_wall_ns,
		.read_only = store->read_only || store->failed,
		.disk_free_bytes = store->disk_free_bytes,
		.disk_total_bytes = store->disk_total_bytes,
		.capacity_bytes = store->options.capacity_bytes,
		.segment_bytes = store->segment_bytes,
		.chunk_count = index_count(store->index) + index_load_pending(store),
		.log_bytes = store->sb.log_bytes,
		.log_used_bytes = log_used_blocks(store->log) * BLOCK_BYTES,
		.index_bytes = index_bytes(store->index),
		.lost_segments = store->lost_segments,
		.full = segments_full(store),
		.room_bytes = segments_room_bytes(store),
		.fold_active = fold_running(store),
		.index_phase = index_write_phase(store)};
	space_fill(store, &info);
	objects_count(store, &info);
	memcpy(info.uuid, store->sb.uuid, 16);
	memcpy(info.reason, store->reason, sizeof info.reason);
	snprintf(info.gc_failed, SENTENCE_BYTES, "%s", gc_failed(store));
	snprintf(info.scrub_failed, SENTENCE_BYTES, "%s", scrub_failed(store));
	snprintf(info.scrub_found, SENTENCE_BYTES, "%s", scrub_found(store));
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++)
		info.segment_count += segment_of(store, slot) != NULL;
	info.dirty_bytes =
		(uint64_t)(store->layer_pool->entry_count - store->layer_pool->free_count) *
		CHUNK_BYTES;
	info.memory_bound_bytes = memory_bound(store);
	*ret_info = info;
}

/* When it will be purged, if the store stays open until then. */
static uint64_t purge_wall_ns(const struct store *store, uint64_t deleted_age_ns)
{
	uint64_t due = deleted_age_ns + store->options.trash_delay_ns, age = store_age_ns(store);
	return env_wall_ns(store->env) + due - min_u64(due, age);
}

static void volume_fill(const struct store *store, const struct volume *volume,
			struct volume_info *info)
{
	*info = (struct volume_info){.number = volume->number,
				     .size_bytes = volume->size_bytes,
				     .quota_bytes = volume->quota_bytes,
				     .level = volume->level,
				     .replica = volume->replica,
				     .whole = volume->whole,
				     .taken = volume->taken,
				     .stepped = volume->stepped,
				     .superseded = volume_superseded(store, volume),
				     .answers = mandate_stands(store, volume),
				     .policy = volume->policy,
				     .limits = volume->limits,
				     .lease = volume->lease,
				     .frame_bytes = volume->frame_bytes,
				     .epoch = volume->epoch,
				     .vseq = volume->vseq,
				     .durable_vseq = volume->durable_vseq,
				     .written_bytes = volume->written_bytes,
				     .created_wall_ns = volume->created_wall_ns,
				     .mapped_bytes = volume->mapped_chunks * CHUNK_BYTES,
				     .attachments = volume->views,
				     .snapshot_count = volume->snapshot_count,
				     .in_trash = volume->state == OBJECT_TRASH,
				     .deleted_wall_ns = volume->deleted_wall_ns};
	struct id root;
	codec_id_root(domain_key(store, volume->domain), volume->size_bytes, &volume->top, &root);
	memcpy(info->root, root.bytes, ID_BYTES);
	memcpy(info->name, volume->name, NAME_ROOM);
	memcpy(info->uuid, volume->uuid, 16);
	memcpy(info->home_policy, volume->home.name, NAME_ROOM);
	memcpy(info->incarnation, volume->incarnation, 16);
	memcpy(info->domain, domain_by_number(store, volume->domain)->uuid, 16);
	memcpy(info->origin, volume->origin, SNAP_NAME_ROOM);
	for (uint32_t i = 0; i < volume->layer_count; i++)
		info->log_bytes += (uint64_t)volume->layers[i]->log_blocks * BLOCK_BYTES;
	freed_fill(store, &volume->freed_all, &info->freed);
	freed_fill(store, &volume->freed_own, &info->freed_own);
	if (info->in_trash)
		info->purge_wall_ns = purge_wall_ns(store, volume->deleted_age_ns);
}

int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret)
{
	const struct volume *volume = volume_by_number(store, number);
	if (!volume || volume->state == OBJECT_TRASH)
		return -ENOENT;
	volume_fill(store, volume, ret);
	return 0;
}

int store_volumes(const struct store *store, bool in_trash, struct volume_info **ret,
		  size_t *ret_count)
{
	struct volume_info *infos = calloc(store->volume_count + 1ull, sizeof(*infos));
	size_t count = 0;
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->volume_count; i++)
		if ((store->volumes[i]->state == OBJECT_TRASH) == in_trash)
			volume_fill(store, store->volumes[i], &infos[count++]);
	*ret = infos;
	*ret_count = count;
	return 0;
}

static void snapshot_fill(const struct store *store, const struct snapshot *snapshot,
			  struct snapshot_info *info)
{
	*info = (struct snapshot_info){.number = snapshot->number,
				       .volume_number = snapshot->volume,
				       .parent_number = snapshot->parent,
				       .policy = snapshot->policy,
				       .size_bytes = snapshot->size_bytes,
				       .epoch = snapshot->epoch,
				       .vseq = snapshot->vseq,
				       .created_wall_ns = snapshot->created_wall_ns,
				       .retain_until_wall_ns = snapshot->retain_until_wall_ns,
				       .retained = snapshot_retained(store, snapshot),
				       .attached = snapshot->views,
				       .sealed = snapshot->sealed,
				       .in_trash = snapshot->state == OBJECT_TRASH,
				       .deleted_wall_ns = snapshot->deleted_wall_ns,
				       .hold_count = snapshot->hold_count};
	const struct volume *volume = volume_by_number(store, snapshot->volume);
	memcpy(info->name, snapshot->name, NAME_ROOM);
	memcpy(info->volume, volume->name, NAME_ROOM);
	memcpy(info->holds, snapshot->holds, sizeof info->holds);
	if (snapshot->sealed) {
		struct id root;
		codec_id_root(domain_key(store, volume->domain), snapshot->size_bytes,
			      &snapshot->top, &root);
		memcpy(info->root, root.bytes, ID_BYTES);
	}
	freed_fill(store, &snapshot->freed, &info->freed);
	if (info->in_trash)
		info->purge_wall_ns = purge_wall_ns(store, snapshot->age_ns);
}

int store_snapshot_briefs(const struct store *store, struct snapshot_brief **ret, size_t *ret_count)
{
	struct snapshot_brief *briefs = calloc(store->snapshot_count + 1ull, sizeof(*briefs));
	size_t count = 0;
	if (!briefs)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->state == OBJECT_LIVE)
			briefs[count++] = (struct snapshot_brief){
				.number = snapshot->number,
				.volume_number = snapshot->volume,
				.policy = snapshot->policy,
				.created_wall_ns = snapshot->created_wall_ns,
				.epoch = snapshot->epoch,
				.vseq = snapshot->vseq,
				.name = snapshot->name,
				.hold = snapshot->hold_count ? snapshot->holds[0] : NULL,
				.retained = snapshot_retained(store, snapshot),
				.attached = snapshot->views};
	}
	*ret = briefs;
	*ret_count = count;
	return 0;
}

int store_snapshots(const struct store *store, bool in_trash, struct snapshot_info **ret,
		    size_t *ret_count)
{
	struct snapshot_info *infos = calloc(store->snapshot_count + 1ull, sizeof(*infos));
	size_t count = 0;
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		const struct volume *volume = volume_by_number(store, snapshot->volume);
		if (volume->state == OBJECT_TRASH)
			continue; /* it goes and comes with its volume */
		if ((snapshot->state == OBJECT_TRASH) == in_trash)
			snapshot_fill(store, snapshot, &infos[count++]);
	}
	*ret = infos;
	*ret_count = count;
	return 0;
}
