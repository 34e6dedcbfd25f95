/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of sim_store is made, opened, verified, closed and crashed here. After a kill each
 * block is what was answered last, or something that was under way; after a power cut it is what
 * was flushed, or something later, and nothing that was answered before a survivor was submitted is
 * missing. A snapshot that was answered is there and is what the volume was.
 */
#include "tests/sim/sim_world.h"

#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

const char *world_open(struct world *world)
{
	char sentence[SENTENCE_BYTES];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.idle_fold_ns = NSEC_PER_SEC / 50,
					.recompress_level = 9,
					.recompress_after_ns = 1,
					.index_lag_segments =
						1 + (uint32_t)sim_random(world->sim, 4)};
	int res = store_open(sim_env(world->sim), "store", &options, &world->store, sentence);
	totals.opened++;
	if (res < 0) {
		world->store = NULL;
		FAIL("the store was refused: %s", sentence);
	}
	return guests_views_open(&world->guests, world->store);
}

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));

static const char *volumes_verify(struct world *world, bool power_cut)
{
	static uint8_t images[VOLUMES][VOLUME_BYTES] __attribute__((aligned(4096)));
	static bool unreadable[VOLUMES][BLOCKS];
	struct guests *guests = &world->guests;
	memset(unreadable, 0, sizeof unreadable);
	for (unsigned v = 0; v < VOLUMES; v++)
		for (uint32_t b = 0; b < BLOCKS; b += CHUNK_BLOCKS) {
			struct view *view = guests->views[v];
			uint8_t *got = images[v] + (size_t)b * BLOCK_BYTES;
			int res = guests_read(guests, view, b, CHUNK_BLOCKS, got);
			if (res < 0 && !world->rot)
				FAIL("volume %c, block %u: %s", 'a' + (int)v, b, vs_strerror(res));
			if (res < 0)
				guests_read_each(guests, view, b, CHUNK_BLOCKS, got,
						 unreadable[v] + b);
		}
	return guests_check(guests, images[0], unreadable[0], power_cut, !world->wild);
}

static const char *snapshots_verify(struct world *world)
{
	for (unsigned i = 0; i < WORLD_SNAPSHOTS; i++) {
		struct model_snapshot *snapshot = &world->snapshots[i];
		struct view *view;
		if (!snapshot->used)
			continue;
		int res = store_view_open(world->store, snapshot->name, &view);
		if (res == -ENOENT &&
		    (!snapshot->answered || snapshot->pending_delete || world->wild)) {
			free(snapshot->data);
			snapshot->used = false;
			continue;
		}
		if (res < 0)
			FAIL("snapshot %s is gone", snapshot->name);
		res = guests_read(&world->guests, view, 0, BLOCKS, image);
		store_view_close(view);
		if (res < 0 && !world->rot)
			FAIL("snapshot %s: %s", snapshot->name, vs_strerror(res));
		if (res == 0 && memcmp(image, snapshot->data, VOLUME_BYTES) != 0)
			FAIL("snapshot %s is not what the volume was", snapshot->name);
		snapshot->answered = true;
		snapshot->pending_delete = false;
	}
	return NULL;
}

const char *world_verify(struct world *world, bool power_cut)
{
	struct sim_faults none = {0};
	sim_faults_set(world->sim, &none);
	world->faults = world->full = world->lazy = false;
	const char *failed = volumes_verify(world, power_cut);
	if (!failed)
		failed = snapshots_verify(world);
	if (failed || world->rot)
		return failed;
	struct store_info info;
	struct store_counters counters;
	store_info(world->store, &info);
	store_counters(world->store, &counters);
	if (counters.checksum_errors || counters.io_errors)
		FAIL("%llu bad checksums and %llu errors of the disk, though nothing was damaged",
		     (unsigned long long)counters.checksum_errors,
		     (unsigned long long)counters.io_errors);
	if (info.lost_segments)
		FAIL("%u segments are lost, though nothing was damaged", info.lost_segments);
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_check(world->store, &work);
	int res = (int)env_wait(sim_env(world->sim), &work.op);
	totals.index_pages += counters.index_pages_loaded;
	totals.index_mended += counters.index_pages_damaged;
	if (counters.index_pages_damaged && !world->index_rot)
		FAIL("a page of the index is damaged, and nobody damaged it");
	if (res < 0 || (work.damaged && !world->index_rot))
		FAIL("the check after opening found %llu things: %s",
		     (unsigned long long)work.damaged, work.sentence);
	return NULL;
}

/* What is damaged must not keep the rest in the log. */
const char *fold_all(struct world *world)
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_fold(world->store, &work, NULL);
	if (env_wait(sim_env(world->sim), &work.op) < 0)
		FAIL("damage stops a fold: %s", work.sentence);
	totals.folds_after_rot++;
	return NULL;
}

static const char *request_failed(struct guests *guests, enum request_kind kind)
{
	const struct world *world = (const struct world *)guests;
	bool write = kind == REQUEST_WRITE || kind == REQUEST_ZERO;
	if (world->faults || world->rot || (world->full && write))
		return NULL;
	return write ? "a write failed without a reason"
		     : "a read or a flush failed without a reason";
}

const char *world_make(struct world *world)
{
	struct env *env = sim_env(world->sim);
	struct store_make_options make = {.log_bytes = 8 * MIB};
	char sentence[SENTENCE_BYTES];
	world->guests.sim = world->sim;
	world->guests.request_failed = request_failed;
	if (store_make(env, "store", &make, sentence) < 0)
		FAIL("no store was made: %s", sentence);
	if (store_open(env, "store", &(struct store_options){.cache_bytes = MIB}, &world->store,
		       sentence) < 0)
		FAIL("a new store was refused: %s", sentence);
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct admin_op admin = {0};
		static const uint32_t frames[] = {4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB};
		struct volume_options options = {.size_bytes = VOLUME_BYTES,
						 .frame_bytes = frames[sim_random(world->sim, 4)]};
		env_wait_prepare(&admin.op);
		store_volume_create(world->store, &admin, volume_names[v], &options);
		if (env_wait(env, &admin.op) < 0)
			FAIL("no volume was made: %s", admin.sentence);
		model_volume_make(&world->guests.model, v, BLOCKS);
	}
	if (store_close(world->store) < 0)
		FAIL("the new store could not be closed");
	world->store = NULL;
	return world_open(world);
}

static int collect(struct world *world, bool thorough, struct store_info *ret)
{
	struct store_work work = {.thorough = thorough};
	env_wait_prepare(&work.op);
	store_gc(world->store, &work);
	int res = (int)env_wait(sim_env(world->sim), &work.op);
	store_info(world->store, ret);
	return res;
}

/* A census that went from count to count by what changed ends where one ends that counts it all. */
static const char *census_is_exact(struct world *world)
{
	for (unsigned i = 0; i < 5; i++) {
		struct store_info by_change, all_anew;
		struct store_counters before, after;
		store_counters(world->store, &before);
		if (collect(world, false, &by_change) < 0 || collect(world, true, &all_anew) < 0)
			FAIL("a collection failed without a reason");
		store_counters(world->store, &after);
		if (before.moved_bytes != after.moved_bytes || before.folds != after.folds ||
		    before.segments_dropped != after.segments_dropped ||
		    before.segments_sealed != after.segments_sealed ||
		    before.chunks_stored != after.chunks_stored)
			continue; /* it was no quiet moment */
		totals.censuses++;
		if (by_change.unique_bytes != all_anew.unique_bytes ||
		    by_change.garbage_bytes != all_anew.garbage_bytes)
			FAIL("counted by change %llu and %llu bytes of garbage, all anew %llu and "
			     "%llu",
			     (unsigned long long)by_change.unique_bytes,
			     (unsigned long long)by_change.garbage_bytes,
			     (unsigned long long)all_anew.unique_bytes,
			     (unsigned long long)all_anew.garbage_bytes);
		return NULL;
	}
	return NULL;
}

const char *close_and_open(struct world *world)
{
	const char *failed = guests_drain(&world->guests);
	if (!failed && !world->rot)
		failed = census_is_exact(world);
	if (failed)
		return failed;
	guests_views_close(&world->guests);
	int res = store_close(world->store);
	world->store = NULL;
	if (res < 0 && !world->rot)
		FAIL("the store could not be closed: %s", vs_strerror(res));
	return world_open(world);
}

void world_crash(struct world *world, bool power_cut)
{
	struct store_counters counters;
	struct store_info info;
	store_counters(world->store, &counters);
	store_info(world->store, &info);
	totals.fold_at_crash += info.fold_active;
	totals.index_at_crash += info.index_phase > 0;
	totals.seal_at_crash += world->store->segment_set->sealing > 0;
	totals.checkpoints += counters.checkpoints;
	totals.dropped_segments += counters.segments_dropped;
	totals.moved_bytes += counters.moved_bytes;
	totals.repacked_bytes += counters.repacked_in_bytes - counters.repacked_out_bytes;
	totals.dedup += counters.chunks_deduplicated;
	totals.index_written += counters.index_checkpoints;
	sim_crash(world->sim, power_cut);
	guests_abandon(&world->guests, world->store);
	world->store = NULL;
}

void world_free(struct world *world)
{
	if (world->store)
		world_crash(world, false);
	for (unsigned i = 0; i < WORLD_SNAPSHOTS; i++)
		if (world->snapshots[i].used)
			free(world->snapshots[i].data);
	model_free(&world->guests.model);
	free(world);
}
