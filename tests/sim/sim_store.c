/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole store in a world made of one seed, against a model that knows, of each block, what a
 * reader may see.
 *
 * A life: thousands of requests, changes, folds and collections side by side, then a kill or a
 * power cut, and the store is opened again (sim_world.c says what must be there then). On bad days
 * the disk fails, is slow, is full, or has rotted. What fails must say so: a reader never sees
 * wrong data.
 *
 * Usage: sim_store --seeds A..B [--jobs N] | --mutant N. One line about the counts, or the seeds
 * that failed.
 */
#include "storage/rt/log_event.h"
#include "storage/store/index_file.h"
#include "storage/store/segments.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"
#include "tests/sim/seeds.h"
#include "tests/sim/sim_world.h"

#include <malloc.h>

int vstore_mutant;
struct totals totals;

#define OPS 2000u
#define OPS_AFTER 150u
#define SEAL_STEPS 40u /* about as many as a seal takes, beside what else goes on */

/* The index's files change, or one or both go. */
static void index_spoil(struct world *world)
{
	struct env_dir *dir;
	world->index_rot = true;
	if (sim_random(world->sim, 3)) {
		/* What hits the head or its tables makes the whole file unusable: not on every day.
		 */
		uint64_t from = sim_random(world->sim, 2) ? INDEX_PAGES_OFFSET : 0;
		for (uint64_t n = 1 + sim_random(world->sim, 10); n > 0; n--)
			sim_rot(world->sim, "index", from);
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
	bool dropped = sim_random(world->sim, 2);
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
		if (dropped && !world->guests.work_busy && i % 64 == 0) {
			world->work = (struct store_work){.op.done = work_done};
			world->guests.work_busy = true;
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

/* One that is being sealed while records of it are not durable, or NULL. */
static const struct segment *sealed_early(const struct world *world)
{
	const struct segment_set *set = world->store->segment_set;
	for (uint32_t slot = 1; set->sealing && slot < set->slot_count; slot++) {
		const struct segment *segment = set->slots[slot];
		if (segment && segment->writer && segment != set->open && segment != set->moved &&
		    segment_durable_end(segment->writer) < segment_appended_end(segment->writer))
			return segment;
	}
	return NULL;
}

/* A life that ends while a segment is being sealed: somewhere between its last records and the sync
 * of its directory, or just behind the cut of its file. Nobody waits for the records that a
 * collection moves, so that most are not durable then: one runs all the time. */
static const char *seal_day(struct world *world)
{
	const struct segment *segment;
	for (unsigned i = 0; i < 4 * OPS && !(segment = sealed_early(world)); i++) {
		const char *failed = life(world, 1);
		if (failed)
			return failed;
		if (!world->guests.work_busy) {
			world->work = (struct store_work){.op.done = work_done};
			world->guests.work_busy = true;
			store_gc(world->store, &world->work);
		}
	}
	bool cut = sim_random(world->sim, 4);
	uint64_t steps = sim_random(world->sim, cut ? 3 : SEAL_STEPS);
	int64_t bytes = segment ? env_file_bytes(segment->file) : 0;
	while (cut && segment && segment->writer && env_file_bytes(segment->file) == bytes)
		env_step(sim_env(world->sim), true);
	for (; steps > 0 && world->store->segment_set->sealing; steps--)
		env_step(sim_env(world->sim), true);
	return NULL;
}

static void faults_set(struct world *world, struct sim_faults faults)
{
	faults.slow = world->slow ? 10 : 0;
	sim_faults_set(world->sim, &faults);
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
	uint64_t bad_day = sim_random(sim, 9);
	world->slow = sim_random(sim, 2);
	faults_set(world, (struct sim_faults){0});
	if (vstore_mutant == 15 || (vstore_mutant >= 32 && vstore_mutant <= 34))
		bad_day = 2; /* these bugs show on such days only, and they are rare */
	if (vstore_mutant == 20 || vstore_mutant == 22)
		bad_day = 5;
	if (vstore_mutant == 59)
		bad_day = 8;
	if (bad_day == 0) {
		faults_set(world, (struct sim_faults){
					  .write_error = 20, .sync_error = 20, .read_error = 5});
		world->faults = true;
	} else if (bad_day == 1) {
		sim_disk_room_set(sim, 100 * KIB);
		world->full = true;
	} else if (bad_day == 3) {
		world->lazy = true;
	}
	bool wild = (bad_day == 6 || bad_day == 7) && sim_random(sim, 2);
	if (wild) { /* anything may be damaged: what is read is right all the same, or an error */
		world->rot = world->wild = world->guests.model.keeps_all = true;
		if (bad_day == 6)
			faults_set(world, (struct sim_faults){.misread = 20, .miswritten = 10});
	}
	failed = life(world, OPS);
	if (failed)
		return failed;
	if (bad_day == 5 && (failed = index_day(world)))
		return failed;
	if (bad_day == 8 && (failed = seal_day(world)))
		return failed;
	bool power_cut = sim_random(sim, 2) || bad_day == 8 || vstore_mutant == 22;
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

/* ---- all of it ---- */

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	struct world *world = calloc(1, sizeof(*world));
	struct sim *sim = world->sim = sim_new(seed ^ 0x5707e);
	const char *failed = world_run(world);
	*ret_trace = sim_trace(sim);
	world_free(world);
	seeds_faults_add(&totals.faults, sim);
	sim_free(sim);
	totals.seeds++;
	return failed;
}

#define COUNT(name) #name, totals.name, false
#define FAULT(name) #name, totals.faults.name, false
#define RARE(name) #name, totals.name, true
#define RARE_FAULT(name) #name, totals.faults.name, true

static int totals_tell(uint64_t seeds)
{
	const struct seeds_count counts[] = {{COUNT(seeds)},
					     {COUNT(operations)},
					     {COUNT(writes)},
					     {COUNT(reads)},
					     {COUNT(flushes)},
					     {COUNT(snapshots)},
					     {COUNT(folds)},
					     {COUNT(works)},
					     {COUNT(opened)},
					     {RARE(refused)},
					     {COUNT(folds_after_rot)},
					     {COUNT(fold_at_crash)},
					     {COUNT(checkpoints)},
					     {COUNT(dropped_segments)},
					     {COUNT(moved_bytes)},
					     {COUNT(repacked_bytes)},
					     {COUNT(censuses)},
					     {COUNT(dedup)},
					     {COUNT(index_written)},
					     {COUNT(index_pages)},
					     {RARE(index_mended)},
					     {RARE(index_at_crash)},
					     {COUNT(seal_at_crash)},
					     {FAULT(kills)},
					     {FAULT(power_cuts)},
					     {FAULT(kept)},
					     {FAULT(dropped)},
					     {FAULT(torn)},
					     {FAULT(overtaken)},
					     {FAULT(slow)},
					     {RARE_FAULT(lost_files)},
					     {FAULT(files_back)},
					     {FAULT(read_errors)},
					     {FAULT(write_errors)},
					     {RARE_FAULT(sync_errors)},
					     {FAULT(no_space)},
					     {FAULT(rotten)},
					     {FAULT(misread)},
					     {RARE_FAULT(miswritten)}};
	return seeds_counts_tell(counts, sizeof counts / sizeof *counts, seeds, 200);
}

int main(int argc, char **argv)
{
	const struct seeds seeds = {.program = "sim_store",
				    .run = seed_run,
				    .totals = &totals,
				    .totals_bytes = sizeof totals,
				    .tell = totals_tell,
				    .mutant = &vstore_mutant,
				    .mutant_seeds = 1000};
	/* Memory that was touched once is used again: pages cost more than what is done with them.
	 */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	log_level_set(0); /* what is injected here is no news */
	return seeds_main(&seeds, argc, argv);
}
