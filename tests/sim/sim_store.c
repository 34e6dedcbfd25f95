/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole store in a world made of one seed, against a model that knows, of each block, what a
 * reader may see.
 *
 * A life: thousands of requests, changes, folds and collections side by side, then a kill or a
 * power cut, and the store is opened again. After a kill each block is what was answered last, or
 * something that was under way; after a power cut it is what was flushed, or something later, and
 * nothing that was answered before a survivor was submitted is missing. A snapshot that was
 * answered is there and is what the volume was. What fails must say so: a reader never sees wrong
 * data.
 *
 * Usage: sim_store --seeds A..B | --mutant N. One line about the counts, or the seed that failed.
 */
#include "proto/err.h"
#include "storage/rt/log_event.h"
#include "storage/store/store.h"
#include "tests/sim/model.h"
#include "tests/sim/simenv.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vstore_mutant;

#define VOLUMES 2u
#define BLOCKS 1024u /* of a volume */
#define VOLUME_BYTES (BLOCKS * (uint64_t)BLOCK_BYTES)
#define OPS 2000u
#define OPS_AFTER 150u
#define IN_FLIGHT 20u
#define SNAPSHOTS_MAX 5u
#define PATTERNS 24u
#define STEPS_MAX 4000000u
#define MUTANT_SEEDS 300u

struct world;
struct operation {
	struct store_request request; /* first: found back by its address */
	struct world *world;
	unsigned volume;
	uint32_t block, count;
	uint64_t number;
	uint8_t *data;
	void *memory; /* that data lies in */
};

struct model_snapshot {
	bool used, answered, pending_delete;
	unsigned volume;
	char name[32];
	uint8_t *data; /* the whole volume */
};

struct world {
	struct sim *sim;
	struct store *store;
	struct view *views[VOLUMES];
	struct model model;
	struct model_snapshot snapshots[SNAPSHOTS_MAX];
	uint64_t snapshot_number;
	unsigned under_way, writes_under_way;
	bool faults, rot, full;
	bool index_rot; /* the index's files changed or went: nothing may be lost by that */
	bool wild;	/* rot: damage of any kind; what was promised may be gone */
	bool lazy;	/* nobody asks for durability */
	struct admin_op admin;
	bool admin_busy;
	struct model_snapshot *admin_snapshot;
	struct store_work work;
	bool work_busy;
	const char *wrong;
};

static struct {
	uint64_t seeds, operations, writes, reads, flushes, snapshots, folds, works, opened,
		refused;
	uint64_t folds_after_rot, fold_at_crash, checkpoints, dropped_segments, moved_bytes,
		censuses, dedup;
	uint64_t index_written, index_pages, index_mended, index_at_crash;
	struct sim_counts faults;
} totals;

static char failure[500];
#define FAIL(...)                                                                                  \
	do {                                                                                       \
		snprintf(failure, sizeof failure, __VA_ARGS__);                                    \
		return failure;                                                                    \
	} while (0)

/* ---- requests ---- */

static void operation_free(struct operation *operation)
{
	sim_process_memory_free(operation->memory);
	sim_process_memory_free(operation);
}

static void operation_done(struct io_op *op)
{
	struct operation *operation = (struct operation *)op;
	struct world *world = operation->world;
	struct store_request *request = &operation->request;
	world->under_way--;
	world->model.events++;
	if (request->kind == REQUEST_FLUSH) {
		if (op->res == 0)
			model_flushed(&world->model, operation->number);
		operation_free(operation);
		return;
	}
	if (request->kind == REQUEST_READ) {
		for (uint32_t i = 0; i < operation->count && op->res == 0; i++) {
			struct block *block =
				&world->model.blocks[operation->volume][operation->block + i];
			if (model_impossible(block, operation->data + (size_t)i * BLOCK_BYTES))
				world->wrong = "a lost block came back as something else";
			if (block->busy || block->newest->submitted > operation->number ||
			    !block->newest->answered || block->newest->answered > operation->number)
				continue; /* written meanwhile, or not known */
			if (!data_equal(block->newest->data,
					operation->data + (size_t)i * BLOCK_BYTES))
				world->wrong = "a read saw what is not the last answered write";
		}
		operation_free(operation);
		return;
	}
	world->writes_under_way--;
	if (op->res == 0 && request->flags & REQUEST_FUA)
		model_flushed(&world->model, operation->number); /* the log is one chain */
	for (uint32_t i = 0; i < operation->count; i++) {
		struct block *block = &world->model.blocks[operation->volume][operation->block + i];
		block->busy = false;
		if (op->res == 0)
			model_answered(&world->model, block, operation->number,
				       request->flags & REQUEST_FUA);
	}
	if (op->res < 0 && !world->faults && !world->full && !world->rot)
		world->wrong = "a write failed without a reason";
	operation_free(operation);
}

static bool blocks_free(const struct world *world, unsigned volume, uint32_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (world->model.blocks[volume][block + i].busy)
			return false;
	return true;
}

static struct operation *operation_new(struct world *world, enum request_kind kind, unsigned volume,
				       uint32_t block, uint32_t count)
{
	struct operation *operation = sim_process_memory(world->sim, sizeof(*operation));
	size_t room = round_up(count * (size_t)BLOCK_BYTES, BLOCK_BYTES) + BLOCK_BYTES;
	uint8_t *memory = sim_process_memory(world->sim, room + BLOCK_BYTES);
	operation->world = world;
	operation->memory = memory;
	operation->volume = volume;
	operation->block = block;
	operation->count = count;
	operation->number = ++world->model.events;
	operation->data = (uint8_t *)round_up((uintptr_t)memory, BLOCK_BYTES);
	operation->request = (struct store_request){.op.done = operation_done,
						    .view = world->views[volume],
						    .kind = kind,
						    .offset_bytes = block * (uint64_t)BLOCK_BYTES,
						    .length_bytes = count * (uint64_t)BLOCK_BYTES,
						    .data = operation->data};
	world->under_way++;
	totals.operations++;
	return operation;
}

static void write_some(struct world *world)
{
	struct sim *sim = world->sim;
	unsigned volume = (unsigned)sim_random(sim, VOLUMES);
	uint64_t kind = sim_random(sim, 10);
	uint32_t count = kind < 6   ? 1 + (uint32_t)sim_random(sim, 3)
			 : kind < 8 ? 16 * (1 + (uint32_t)sim_random(sim, 6))
				    : 1 + (uint32_t)sim_random(sim, 40);
	uint32_t block = (uint32_t)sim_random(sim, BLOCKS - count + 1);
	if (kind >= 6 && kind < 8)
		block = block / 16 * 16;
	if (sim_random(sim, 3) == 0) /* a hot place */
		block %= 64;
	if (world->admin_busy && world->admin_snapshot)
		return; /* what is written meanwhile may be in the snapshot or not */
	if (block + count > BLOCKS || !blocks_free(world, volume, block, count))
		return;
	bool zero = sim_random(sim, 12) == 0;
	struct operation *operation =
		operation_new(world, zero ? REQUEST_ZERO : REQUEST_WRITE, volume, block, count);
	/* What was written long ago dies, and comes back while it may still be there. */
	uint64_t era = world->model.events / 250;
	uint64_t pattern = sim_random(sim, 2) ? (era + sim_random(sim, PATTERNS / 3)) % PATTERNS
					      : operation->number;
	bool part = !zero && count == 1 && sim_random(sim, 4) == 0;
	totals.writes++;
	world->writes_under_way++;
	if (!world->lazy && sim_random(sim, 10) == 0)
		operation->request.flags = REQUEST_FUA;
	for (uint32_t i = 0; i < count; i++) {
		struct block *at = &world->model.blocks[volume][block + i];
		uint8_t *data = zero ? NULL : malloc(BLOCK_BYTES);
		uint64_t value = count % 16 == 0 && block % 16 == 0
					 ? pattern * 16 + i % 16
					 : 1000 + operation->number * 64 + i;
		if (!zero)
			model_fill(data, value);
		if (part && (!at->newest->answered || at->newest->next))
			part = false; /* what it is mixed with is not known */
		if (part) {
			uint32_t skip = (uint32_t)sim_random(sim, BLOCK_BYTES - 1);
			uint32_t bytes = 1 + (uint32_t)sim_random(sim, BLOCK_BYTES - skip);
			memcpy(operation->data, data, bytes);
			operation->request.offset_bytes += skip;
			operation->request.length_bytes = bytes;
			uint8_t *mixed = calloc(1, BLOCK_BYTES);
			if (at->newest->data)
				memcpy(mixed, at->newest->data, BLOCK_BYTES);
			memcpy(mixed + skip, data, bytes);
			memcpy(data, mixed, BLOCK_BYTES);
			free(mixed);
		} else if (!zero) {
			memcpy(operation->data + (size_t)i * BLOCK_BYTES, data, BLOCK_BYTES);
		}
		model_submit(&world->model, at, data);
		at->busy = true;
	}
	store_submit(&operation->request);
}

static void read_some(struct world *world)
{
	uint32_t count = 1 + (uint32_t)sim_random(world->sim, 33);
	uint32_t block = (uint32_t)sim_random(world->sim, BLOCKS - count + 1);
	struct operation *operation = operation_new(
		world, REQUEST_READ, (unsigned)sim_random(world->sim, VOLUMES), block, count);
	totals.reads++;
	store_submit(&operation->request);
}

static void flush_some(struct world *world)
{
	struct operation *operation = operation_new(
		world, REQUEST_FLUSH, (unsigned)sim_random(world->sim, VOLUMES), 0, 0);
	totals.flushes++;
	store_submit(&operation->request);
}

/* ---- changes and long work ---- */

static void admin_done(struct io_op *op)
{
	struct world *world = (struct world *)((char *)op - offsetof(struct world, admin.op));
	struct model_snapshot *snapshot = world->admin_snapshot;
	world->admin_busy = false;
	world->model.events++;
	if (!snapshot || op->res < 0) {
		if (op->res < 0 && !world->faults && !world->full && !world->rot)
			world->wrong = "a change failed without a reason";
		if (snapshot && !snapshot->pending_delete && op->res != -VS_EFAILSTOP &&
		    op->res != -EIO) {
			free(snapshot->data);
			snapshot->used = false;
		}
		return;
	}
	snapshot->answered = true;
	if (snapshot->pending_delete) {
		free(snapshot->data);
		snapshot->used = false;
	}
	model_flushed(&world->model,
		      world->model.events); /* its commit is durable, and so all before it */
}

/* Only between writes: then it is known what the snapshot is. */
static void snapshot_some(struct world *world)
{
	struct model_snapshot *free_one = NULL, *victim = NULL;
	if (world->admin_busy || world->writes_under_way)
		return;
	for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
		if (!world->snapshots[i].used)
			free_one = &world->snapshots[i];
		else if (world->snapshots[i].answered)
			victim = &world->snapshots[i];
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		for (unsigned b = 0; b < BLOCKS; b++)
			if (!world->model.blocks[v][b].newest->answered)
				return; /* a failed write: not known */
	world->admin = (struct admin_op){.op.done = admin_done};
	world->admin_busy = true;
	if (!free_one) {
		victim->pending_delete = true;
		world->admin_snapshot = victim;
		store_snap_delete(world->store, &world->admin, victim->name);
		return;
	}
	*free_one = (struct model_snapshot){.used = true,
					    .volume = (unsigned)sim_random(world->sim, VOLUMES)};
	snprintf(free_one->name, sizeof free_one->name, "%c@s%llu", 'a' + (int)free_one->volume,
		 (unsigned long long)++world->snapshot_number);
	free_one->data = model_image(&world->model, free_one->volume);
	world->admin_snapshot = free_one;
	totals.snapshots++;
	const char *names[] = {free_one->name};
	store_snap_create(world->store, &world->admin, names, 1);
}

static void work_done(struct io_op *op)
{
	struct world *world = (struct world *)((char *)op - offsetof(struct world, work.op));
	world->work_busy = false;
	if (world->work.damaged && !world->rot && !world->faults && !world->index_rot)
		world->wrong = "a check found damage";
}

static void work_some(struct world *world)
{
	if (world->work_busy)
		return;
	world->work = (struct store_work){.op.done = work_done};
	world->work_busy = true;
	totals.works++;
	switch (sim_random(world->sim, 6)) {
	case 0:
	case 4:
		store_gc(world->store, &world->work);
		break;
	case 5:
		store_scrub(world->store, &world->work);
		break;
	case 1:
		store_check(world->store, &world->work);
		break;
	default:
		totals.folds++;
		store_fold(world->store, &world->work, sim_random(world->sim, 2) ? "a" : NULL);
	}
}

static void purge_some(struct world *world)
{
	struct snapshot_info *infos;
	size_t count;
	if (world->admin_busy || store_snapshots(world->store, true, &infos, &count) < 0)
		return;
	if (count) {
		world->admin = (struct admin_op){.op.done = admin_done};
		world->admin_busy = true;
		world->admin_snapshot = NULL;
		store_trash_purge(world->store, &world->admin, infos[0].number);
	}
	free(infos);
}

/* The parts of the space add up to all of it, at any moment. */
static const char *space_adds_up(struct world *world)
{
	struct store_info info;
	store_info(world->store, &info);
	if (info.live_bytes + info.garbage_bytes + info.prepared_bytes + info.reserve_bytes !=
	    info.segment_bytes)
		FAIL("live, garbage, prepared and reserve are not what the segments take");
	return NULL;
}

static const char *life(struct world *world, unsigned ops)
{
	struct sim *sim = world->sim;
	uint64_t steps = 0;
	for (unsigned i = 0; i < ops && !world->wrong;) {
		uint64_t what = sim_random(sim, 1000);
		if (++steps > STEPS_MAX)
			FAIL("nothing moves any more");
		const char *failed = what % 16 == 0 ? space_adds_up(world) : NULL;
		if (failed)
			return failed;
		if (world->under_way >= IN_FLIGHT || what < 300 ||
		    (world->admin_busy && !world->admin_snapshot && what < 600)) {
			if (!env_step(sim_env(sim), true))
				FAIL("nothing is under way, and %u requests wait",
				     world->under_way);
			continue;
		}
		i++;
		if (what < 700)
			write_some(world);
		else if (what < 900)
			read_some(world);
		else if (world->lazy && (what < 960 || what >= 980))
			continue;
		else if (what < 960)
			flush_some(world);
		else if (what < 980)
			work_some(world);
		else if (what < 990)
			purge_some(world);
		else {
			while (world->writes_under_way && ++steps < STEPS_MAX &&
			       env_step(sim_env(sim), true))
				;
			snapshot_some(world);
		}
	}
	if (world->wrong)
		FAIL("%s", world->wrong);
	return NULL;
}

/* ---- opening, and what must be there ---- */

static const char *world_open(struct world *world)
{
	char sentence[SENTENCE_BYTES];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.idle_fold_ns = NSEC_PER_SEC / 50,
					.index_lag_segments =
						1 + (uint32_t)sim_random(world->sim, 4)};
	int res = store_open(sim_env(world->sim), "store", &options, &world->store, sentence);
	totals.opened++;
	if (res < 0) {
		world->store = NULL;
		FAIL("the store was refused: %s", sentence);
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		if (store_view_open(world->store, v ? "b" : "a", &world->views[v]) < 0)
			FAIL("volume %c is gone", 'a' + (int)v);
	return NULL;
}

static int read_blocks(struct world *world, struct view *view, uint32_t block, uint32_t count,
		       uint8_t *to)
{
	struct store_request request = {.view = view,
					.kind = REQUEST_READ,
					.offset_bytes = block * (uint64_t)BLOCK_BYTES,
					.length_bytes = count * (uint64_t)BLOCK_BYTES,
					.data = to};
	env_wait_prepare(&request.op);
	store_submit(&request);
	return (int)env_wait(sim_env(world->sim), &request.op);
}

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));

/* After a power cut the log is one chain for all volumes: what survives of one tells of the others.
 */
static const char *volumes_verify(struct world *world, bool power_cut)
{
	static uint8_t images[VOLUMES][VOLUME_BYTES] __attribute__((aligned(4096)));
	static bool unreadable[VOLUMES][BLOCKS];
	const char *failed = NULL;
	uint64_t survivor = 0;
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		for (uint32_t b = 0; b < BLOCKS; b += CHUNK_BLOCKS) {
			uint8_t *got = images[v] + (size_t)b * BLOCK_BYTES;
			int res = read_blocks(world, world->views[v], b, CHUNK_BLOCKS, got);
			memset(unreadable[v] + b, 0, CHUNK_BLOCKS);
			for (uint32_t i = 0; i < CHUNK_BLOCKS && res < 0 && world->rot; i++)
				unreadable[v][b + i] = read_blocks(world, world->views[v], b + i, 1,
								   got + i * BLOCK_BYTES) < 0;
			if (res < 0 && !world->rot)
				FAIL("volume %c, block %u: %s", 'a' + (int)v, b, vs_strerror(res));
		}
		failed = model_check(&world->model, v, images[v], unreadable[v], power_cut,
				     &survivor);
	}
	for (unsigned v = 0; v < VOLUMES && power_cut && !world->wild && !failed; v++)
		failed = model_check_order(&world->model, v, images[v], survivor);
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		model_settle(&world->model, v);
	return failed;
}

static const char *snapshots_verify(struct world *world)
{
	for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
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
		res = read_blocks(world, view, 0, BLOCKS, image);
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

static const char *world_verify(struct world *world, bool power_cut)
{
	struct sim_faults none = {0};
	sim_faults_set(world->sim, &none);
	world->faults = world->full = world->lazy = false;
	const char *failed = volumes_verify(world, power_cut);
	if (!failed)
		failed = snapshots_verify(world);
	if (failed || world->rot)
		return failed;
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_check(world->store, &work);
	int res = (int)env_wait(sim_env(world->sim), &work.op);
	struct store_counters counters;
	store_counters(world->store, &counters);
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
static const char *fold_all(struct world *world)
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_fold(world->store, &work, NULL);
	if (env_wait(sim_env(world->sim), &work.op) < 0)
		FAIL("damage stops a fold: %s", work.sentence);
	totals.folds_after_rot++;
	return NULL;
}

static const char *world_make(struct world *world)
{
	struct env *env = sim_env(world->sim);
	struct store_make_options make = {.log_bytes = 8 * MIB};
	char sentence[SENTENCE_BYTES];
	if (store_make(env, "store", &make, sentence) < 0)
		FAIL("no store was made: %s", sentence);
	if (store_open(env, "store", &(struct store_options){.cache_bytes = MIB}, &world->store,
		       sentence) < 0)
		FAIL("a new store was refused: %s", sentence);
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct admin_op admin = {0};
		struct volume_options options = {.size_bytes = VOLUME_BYTES};
		env_wait_prepare(&admin.op);
		store_volume_create(world->store, &admin, v ? "b" : "a", &options);
		if (env_wait(env, &admin.op) < 0)
			FAIL("no volume was made: %s", admin.sentence);
		model_volume_make(&world->model, v, BLOCKS);
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

static const char *close_and_open(struct world *world)
{
	uint64_t steps = 0;
	while ((world->under_way || world->admin_busy || world->work_busy) && steps++ < STEPS_MAX &&
	       env_step(sim_env(world->sim), true))
		;
	if (world->under_way || world->admin_busy || world->work_busy)
		FAIL("%u requests never end", world->under_way);
	const char *failed = world->rot ? NULL : census_is_exact(world);
	if (failed)
		return failed;
	for (unsigned v = 0; v < VOLUMES; v++)
		store_view_close(world->views[v]);
	int res = store_close(world->store);
	world->store = NULL;
	if (res < 0 && !world->rot)
		FAIL("the store could not be closed: %s", vs_strerror(res));
	return world_open(world);
}

static void world_crash(struct world *world, bool power_cut)
{
	struct store_counters counters;
	struct store_info info;
	store_counters(world->store, &counters);
	store_info(world->store, &info);
	totals.fold_at_crash += info.fold_active;
	totals.index_at_crash += info.index_phase > 0;
	totals.checkpoints += counters.checkpoints;
	totals.dropped_segments += counters.segments_dropped;
	totals.moved_bytes += counters.moved_bytes;
	totals.dedup += counters.chunks_deduplicated;
	totals.index_written += counters.index_checkpoints;
	sim_crash(world->sim, power_cut);
	for (unsigned v = 0; v < VOLUMES; v++)
		store_view_close(world->views[v]);
	store_abandon(world->store);
	world->store = NULL;
	world->under_way = world->writes_under_way = 0;
	world->admin_busy = world->work_busy = false;
}

/* The index's files change, or one or both go. */
static void index_spoil(struct world *world)
{
	struct env_dir *dir;
	world->index_rot = true;
	if (sim_random(world->sim, 3)) {
		for (uint64_t n = 1 + sim_random(world->sim, 10); n > 0; n--)
			sim_rot(world->sim, "index", 0);
		return;
	}
	if (env_dir_open(sim_env(world->sim), "store", &dir) < 0)
		return;
	uint64_t which = sim_random(world->sim, 3);
	if (which != 0)
		(void)!env_file_remove_wait(dir, "index.0");
	if (which != 1)
		(void)!env_file_remove_wait(dir, "index.1");
	env_dir_close(dir);
}

/* A life that ends soon after a file of the index began to be written, or a segment was dropped. */
static const char *index_day(struct world *world)
{
	struct store_counters at, now;
	struct store_info info;
	bool dropped = vstore_mutant != 22 && sim_random(world->sim, 2);
	unsigned phase = 1 + (unsigned)sim_random(world->sim, 8);
	uint64_t steps = 0;
	store_counters(world->store, &at);
	for (unsigned i = 0; i < 4 * OPS; i++) {
		const char *failed = life(world, 1);
		if (failed)
			return failed;
		store_info(world->store, &info);
		store_counters(world->store, &now);
		if (dropped ? now.segments_dropped > at.segments_dropped : info.index_phase)
			break;
		if (dropped && !world->work_busy && i % 64 == 0) {
			world->work = (struct store_work){.op.done = work_done};
			world->work_busy = true;
			store_gc(world->store, &world->work);
		}
	}
	if (dropped)
		return life(world, (unsigned)sim_random(world->sim, 500));
	for (; info.index_phase && info.index_phase < phase && steps < 2000; steps++) {
		env_step(sim_env(world->sim), true);
		store_info(world->store, &info);
	}
	return NULL;
}

static const char *world_run(struct world *world)
{
	struct sim *sim = world->sim;
	const char *failed = world_make(world);
	if (failed)
		return failed;
	failed = life(world, (unsigned)sim_random(sim, OPS / 2));
	if (failed)
		return failed;
	uint64_t bad_day = sim_random(sim, 8);
	if (vstore_mutant == 15 || (vstore_mutant >= 32 && vstore_mutant <= 34))
		bad_day = 2; /* these bugs show on such days only, and they are rare */
	if (vstore_mutant == 20 || vstore_mutant == 22)
		bad_day = 5;
	if (bad_day == 0) {
		struct sim_faults faults = {.write_error = 20, .sync_error = 20, .read_error = 5};
		sim_faults_set(sim, &faults);
		world->faults = true;
	} else if (bad_day == 1) {
		sim_disk_room_set(sim, 100 * KIB);
		world->full = true;
	} else if (bad_day == 3) {
		world->lazy = true;
	}
	bool wild = bad_day >= 6 && sim_random(sim, 2);
	if (wild) { /* anything may be damaged: what is read is right all the same, or an error */
		world->rot = world->wild = world->model.keeps_all = true;
		if (bad_day == 6)
			sim_faults_set(sim, &(struct sim_faults){.misread = 20, .miswritten = 10});
	}
	failed = life(world, OPS);
	if (failed)
		return failed;
	if (bad_day == 5 && (failed = index_day(world)))
		return failed;
	bool power_cut = sim_random(sim, 2) || vstore_mutant == 22;
	world_crash(world, power_cut);
	sim_disk_room_set(sim, UINT64_MAX);
	sim_faults_set(sim, &(struct sim_faults){0});
	for (unsigned i = 0; bad_day == 2 && i < 1 + sim_random(sim, 30); i++)
		world->rot |= sim_rot(sim, "00000", 4096);
	if (bad_day == 4 || vstore_mutant == 21)
		index_spoil(world);
	static const char *const prefixes[] = {"log", "checkpoint", "superblock", "0"};
	for (unsigned i = 0; wild && bad_day == 7 && i < 1 + sim_random(sim, 20); i++)
		sim_rot(sim, prefixes[sim_random(sim, 4)], 0);
	failed = world_open(world);
	if (failed && wild && !world->store) {
		totals.refused++;
		return NULL;
	}
	if (!failed)
		failed = world_verify(world, power_cut || wild);
	if (wild)
		return failed;
	if (!failed)
		failed = life(world, OPS_AFTER);
	if (!failed && world->rot)
		failed = fold_all(world);
	if (!failed)
		failed = close_and_open(world);
	world->index_rot = false; /* what was damaged was written anew */
	if (!failed)
		failed = world_verify(world, false);
	return failed;
}

static void world_free(struct world *world)
{
	if (world->store)
		world_crash(world, false);
	for (unsigned i = 0; i < SNAPSHOTS_MAX; i++)
		if (world->snapshots[i].used)
			free(world->snapshots[i].data);
	model_free(&world->model);
	free(world);
}

/* ---- all of it ---- */

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	struct world *world = calloc(1, sizeof(*world));
	struct sim *sim = world->sim = sim_new(seed ^ 0x5707e);
	const char *failed = world_run(world);
	*ret_trace = sim_trace(sim);
	world_free(world);
	const uint64_t *from = (const uint64_t *)sim_counts(sim);
	uint64_t *to = (uint64_t *)&totals.faults;
	for (size_t i = 0; i < sizeof(struct sim_counts) / sizeof(uint64_t); i++)
		to[i] += from[i];
	sim_free(sim);
	totals.seeds++;
	return failed;
}

#define COUNT(name) #name, (unsigned long long)totals.name
#define FAULT(name) #name, (unsigned long long)totals.faults.name

static int totals_tell(uint64_t seeds)
{
	const struct {
		const char *name;
		unsigned long long count;
	} counts[] = {{COUNT(seeds)},
		      {COUNT(operations)},
		      {COUNT(writes)},
		      {COUNT(reads)},
		      {COUNT(flushes)},
		      {COUNT(snapshots)},
		      {COUNT(folds)},
		      {COUNT(works)},
		      {COUNT(opened)},
		      {COUNT(folds_after_rot)},
		      {COUNT(fold_at_crash)},
		      {COUNT(checkpoints)},
		      {COUNT(dropped_segments)},
		      {COUNT(moved_bytes)},
		      {COUNT(censuses)},
		      {COUNT(dedup)},
		      {COUNT(index_written)},
		      {COUNT(index_pages)},
		      {COUNT(index_mended)},
		      {COUNT(index_at_crash)},
		      {FAULT(kills)},
		      {FAULT(power_cuts)},
		      {FAULT(kept)},
		      {FAULT(dropped)},
		      {FAULT(torn)},
		      {FAULT(overtaken)},
		      {FAULT(lost_files)},
		      {FAULT(files_back)},
		      {FAULT(read_errors)},
		      {FAULT(write_errors)},
		      {FAULT(sync_errors)},
		      {FAULT(no_space)},
		      {FAULT(rotten)},
		      {FAULT(misread)},
		      {FAULT(miswritten)}};
	int res = 0;
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		printf("%s%s %llu", i ? ", " : "", counts[i].name, counts[i].count);
		if (seeds >= 200 && counts[i].count == 0)
			res = 1; /* a kind of fault that was never seen proves nothing */
	}
	printf("\n");
	return res;
}

static int seeds_run(uint64_t from, uint64_t to)
{
	uint64_t trace, again;
	for (uint64_t seed = from; seed <= to; seed++) {
		const char *failed = seed_run(seed, &trace);
		if (failed) {
			printf("seed %llu: %s\n", (unsigned long long)seed, failed);
			return 1;
		}
		if (seed % 50 == 0 && (seed_run(seed, &again) || again != trace)) {
			printf("seed %llu: two runs differ\n", (unsigned long long)seed);
			return 1;
		}
	}
	return totals_tell(to - from + 1);
}

/* 0: the planted bug was found. */
static int mutant_run(int number)
{
	uint64_t trace;
	vstore_mutant = number;
	for (uint64_t seed = 1; seed <= MUTANT_SEEDS; seed++) {
		const char *failed = seed_run(seed, &trace);
		if (failed) {
			printf("mutant %d: found at seed %llu: %s\n", number,
			       (unsigned long long)seed, failed);
			return 0;
		}
	}
	printf("mutant %d: not found in %u seeds\n", number, MUTANT_SEEDS);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long long from, to;
	/* Memory that was touched once is used again: pages cost more than what is done with them.
	 */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	log_level_set(0); /* what is injected here is no news */
	if (argc == 3 && strcmp(argv[1], "--seeds") == 0 &&
	    sscanf(argv[2], "%llu..%llu", &from, &to) == 2)
		return seeds_run(from, to);
	if (argc == 3 && strcmp(argv[1], "--mutant") == 0)
		return mutant_run(atoi(argv[2]));
	fprintf(stderr, "usage: sim_store --seeds A..B | --mutant N\n");
	return 2;
}
