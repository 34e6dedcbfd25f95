/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A week of a store that runs unattended: guests write, a policy takes a snapshot of each volume
 * every hour and removes what no rule keeps, the trash empties itself, collections and the scrub
 * run by need and by hand; and all the while it crashes, is restarted, is off for days, the clock
 * jumps by a year, the disk is full or fails.
 *
 * Judged several times an hour: every tree and layer names only what is there (scan.c reads all
 * files), what the store claims of its space is what the scan finds, nothing was removed early or
 * came back (week_snapshots.c), a read is the last answered write (model.c). At quiet moments a
 * collection's counts are compared segment by segment.
 *
 * Usage: sim_week --seeds A..B [--jobs N] | --mutant N. One line about the counts, or the seeds
 * that failed.
 */
#include "tests/sim/week.h"

#include "storage/rt/log_event.h"
#include "tests/sim/seeds.h"

#include "storage/store/store_int.h"
#include "storage/store/store_work.h"

#include <malloc.h>

int vstore_mutant;
struct totals week_totals;

#define STRIDES 4u		  /* of an hour */
#define RUN_NS (7 * NSEC_PER_SEC) /* of a stride; more than a policy's tick */
#define STRIDE_NS (HOUR_NS / STRIDES)
#define COUNT_HOURS 12u /* between two comparisons with a collection's counts */

/* ---- judging ---- */

/* All that can be said at a moment that is not quite quiet: folds and collections go on. */
static const char *look(struct world *world)
{
	bool flushed;
	const char *failed = world_settle(world, &flushed);
	if (!failed && flushed)
		failed = snapshots_look(world);
	if (!failed && !world->ill)
		failed = scan_run(&world->scan, world->store);
	if (!failed && !world->ill)
		failed = scan_compare(&world->scan, world->store, false);
	week_totals.scans++;
	return failed;
}

static const char *work_run(struct world *world,
			    void (*start)(struct store *store, struct store_work *work), int *ret)
{
	work_begin(world, start);
	const char *failed = guests_drain(&world->guests);
	*ret = (int)world->work.op.res;
	return failed;
}

static void scrub_some(struct store *store, struct store_work *work)
{
	store_scrub(store, work, store->counters.reads % 2);
}

static void fold_all(struct store *store, struct store_work *work)
{
	store_fold(store, work, NULL);
}

/* What a collection has counted is what the scan counts, unless something changed meanwhile. */
static const char *count_and_compare(struct world *world)
{
	for (unsigned tries = 0; tries < 4; tries++) {
		struct store_counters before, after;
		int folded, collected;
		const char *failed = work_run(world, fold_all, &folded);
		if (!failed)
			failed = work_run(world, store_gc, &collected);
		if (failed || folded < 0) /* for want of space: else work_done had said so */
			return failed;
		store_counters(world->store, &before);
		uint64_t roots_gone = world->store->roots_gone;
		if (!failed)
			failed = work_run(world, store_gc, &collected);
		if (!failed && collected < 0)
			FAIL("a collection failed without a reason: %s", world->work.sentence);
		store_counters(world->store, &after);
		if (!failed &&
		    (before.folds != after.folds || roots_gone != world->store->roots_gone ||
		     before.moved_bytes != after.moved_bytes || world->store->gc ||
		     before.segments_dropped != after.segments_dropped ||
		     before.chunks_stored != after.chunks_stored))
			continue; /* it was no quiet moment */
		if (!failed)
			failed = scan_run(&world->scan, world->store);
		if (!failed)
			failed = scan_compare(&world->scan, world->store, true);
		week_totals.claims++;
		return failed;
	}
	return NULL;
}

/* ---- what happens ---- */

/* A collection or a scrub, with guests writing meanwhile; sometimes it does not end. */
static const char *busy_moment(struct world *world, bool crash, bool scrub)
{
	work_begin(world, scrub ? scrub_some : store_gc);
	week_totals.scrubs += scrub;
	const char *failed = world_guests(world, 6 + (unsigned)sim_random(world->sim, 14));
	if (failed || !crash)
		return failed;
	/* Anywhere, or soon after a segment's file has gone. */
	uint64_t dropped = world->store->counters.segments_dropped, most = 3000;
	bool soon = sim_random(world->sim, 2);
	while (soon && world->guests.work_busy && most-- > 0 &&
	       world->store->counters.segments_dropped == dropped)
		env_step(sim_env(world->sim), true);
	for (uint64_t steps = sim_random(world->sim, soon ? 12 : 400);
	     steps > 0 && world->guests.work_busy; steps--)
		env_step(sim_env(world->sim), true);
	return world_crash(world, sim_random(world->sim, 4) > 0, 0);
}

static const char *crash(struct world *world)
{
	const char *failed = world_guests(world, (unsigned)sim_random(world->sim, 20));
	uint64_t downtime = 0;
	if (failed)
		return failed;
	if (sim_random(world->sim, 4) == 0) {
		downtime = (1 + sim_random(world->sim, 3 * 24)) * HOUR_NS;
		week_totals.downtimes++;
	}
	return world_crash(world, sim_random(world->sim, 2), downtime);
}

/* Room for nothing, or for a segment or two, for some hours. */
static void disk_fills(struct world *world)
{
	sim_disk_room_set(world->sim, sim_random(world->sim, 3) * (SEGMENT_FILE_BYTES + KIB));
	world->full = true;
	week_totals.full_disks++;
}

static const char *disk_is_ill(struct world *world)
{
	struct sim_faults some = {.write_error = 60, .sync_error = 60, .read_error = 10};
	sim_faults_set(world->sim, &some);
	world->ill = true;
	week_totals.ill_disks++;
	const char *failed = world_guests(world, 30);
	/* What a failed sync lost, readers go on seeing until the machine starts anew, and no later
	 * sync tells of it: only a power cut is an honest end of such a day. */
	return failed ? failed : world_crash(world, true, 0);
}

/* At most one thing in an hour. */
static const char *something(struct world *world)
{
	uint64_t what = sim_random(world->sim, 100);
	if (what < 5)
		return crash(world);
	if (what < 10)
		return busy_moment(world, true, false);
	if (what < 30)
		return busy_moment(world, false, false);
	if (what < 33)
		return busy_moment(world, what == 30, true);
	if (what < 35) {
		week_totals.restarts++;
		return world_restart(world);
	}
	if (what < 37) {
		int64_t year = (int64_t)(366 * DAY_NS);
		sim_clock_move(world->sim, 0, sim_random(world->sim, 2) ? year : -year);
		week_totals.clock_jumps++;
	} else if (what < 40) {
		disk_fills(world);
	} else if (what < 41) {
		return disk_is_ill(world);
	} else if (what < 75) {
		return snapshots_person(world);
	}
	return NULL;
}

static const char *hour(struct world *world)
{
	const char *failed = NULL;
	unsigned when = (unsigned)sim_random(world->sim, STRIDES);
	unsigned busy = (unsigned)sim_random(world->sim, STRIDES);
	for (unsigned stride = 0; stride < STRIDES && !failed; stride++) {
		if (stride == busy)
			failed = world_guests(world, 5 + (unsigned)sim_random(world->sim, 8));
		if (!failed && stride == when)
			failed = something(world);
		if (!failed)
			failed = look(world);
		if (!failed)
			failed = world_pass(world, RUN_NS, STRIDE_NS - RUN_NS);
	}
	struct seen *seen = failed ? NULL : snapshot_some(world, SEEN_LIVE);
	if (seen && world->hour % 2)
		failed = snapshot_read(world, seen);
	if (!failed && world->full && sim_random(world->sim, 3) == 0) {
		sim_disk_room_set(world->sim, UINT64_MAX);
		failed = world_pass(world, 3 * NSEC_PER_SEC, 0); /* the store sees it */
		if (!failed)
			failed = guests_drain(&world->guests);
		world->full = false;
	}
	week_totals.hours++;
	return failed;
}

static const char *week(struct world *world)
{
	const char *failed = NULL;
	for (; world->hour < WEEK_HOURS && !failed; world->hour++) {
		failed = hour(world);
		if (!failed && world->hour % COUNT_HOURS == COUNT_HOURS - 1 && !world->full)
			failed = count_and_compare(world);
	}
	if (!failed)
		failed = world_restart(world);
	if (!failed)
		failed = look(world);
	for (unsigned i = 0; i < world->seen_count && !failed; i++)
		if (world->seen[i].state == SEEN_LIVE)
			failed = snapshot_read(world, &world->seen[i]);
	int checked = 0;
	if (!failed)
		failed = work_run(world, store_check, &checked);
	if (!failed && checked < 0)
		FAIL("the last check failed: %s", world->work.sentence);
	return failed;
}

/* ---- all of it ---- */

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	static struct world world;
	const char *failed = world_make(&world, seed);
	if (!failed)
		failed = week(&world);
	*ret_trace = sim_trace(world.sim);
	seeds_faults_add(&week_totals.faults, world.sim);
	world_free(&world);
	week_totals.seeds++;
	return failed;
}

#define COUNT(name)                                                                                \
	{                                                                                          \
#name, week_totals.name, false                                                     \
	}
#define FAULT(name)                                                                                \
	{                                                                                          \
#name, week_totals.faults.name, false                                              \
	}

#define RARE_FAULT(name)                                                                           \
	{                                                                                          \
#name, week_totals.faults.name, true                                               \
	}

static int totals_tell(uint64_t seeds)
{
	const struct seeds_count counts[] = {COUNT(seeds),
					     COUNT(hours),
					     COUNT(writes),
					     COUNT(reads),
					     COUNT(deduplicated),
					     COUNT(failed_requests),
					     COUNT(snapshots),
					     COUNT(removed),
					     COUNT(purged_by_time),
					     COUNT(restored),
					     COUNT(purged_by_hand),
					     COUNT(held),
					     COUNT(retained),
					     COUNT(refused),
					     COUNT(contents),
					     COUNT(scans),
					     COUNT(claims),
					     COUNT(collections),
					     COUNT(moved_bytes),
					     COUNT(dropped_segments),
					     COUNT(scrubbed),
					     COUNT(scrubs),
					     COUNT(folds),
					     COUNT(checkpoints),
					     COUNT(restarts),
					     COUNT(downtimes),
					     COUNT(clock_jumps),
					     COUNT(full_disks),
					     COUNT(ill_disks),
					     COUNT(crashes_in_collections),
					     FAULT(kills),
					     FAULT(power_cuts),
					     FAULT(kept),
					     FAULT(dropped),
					     FAULT(torn),
					     FAULT(overtaken),
					     FAULT(lost_files),
					     FAULT(files_back),
					     RARE_FAULT(read_errors),
					     RARE_FAULT(write_errors),
					     RARE_FAULT(sync_errors),
					     FAULT(no_space)};
	return seeds_counts_tell(counts, sizeof counts / sizeof *counts, seeds, 50);
}

int main(int argc, char **argv)
{
	const struct seeds seeds = {.program = "sim_week",
				    .run = seed_run,
				    .totals = &week_totals,
				    .totals_bytes = sizeof week_totals,
				    .tell = totals_tell,
				    .mutant = &vstore_mutant,
				    .mutant_seeds = 1000};
	mallopt(M_MMAP_THRESHOLD, 4 << 20); /* memory that was touched once is used again */
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	log_level_set(0); /* what is injected here is no news */
	return seeds_main(&seeds, argc, argv);
}
