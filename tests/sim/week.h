/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A week of one store: week_world.c has the store, its guests and its crashes, week_snapshots.c
 * judges what comes and goes by policy, sim_week.c lives the hours and counts.
 */
#ifndef TESTS_SIM_WEEK_H
#define TESTS_SIM_WEEK_H

#include "storage/daemon/policies.h"
#include "tests/sim/guests.h"
#include "tests/sim/scan.h"

#include "storage/store/store_work.h"

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)
#define WEEK_HOURS 168u
#define BLOCKS 128u /* of a volume: 8 chunks */
#define IN_FLIGHT 10u
#define SEEN_MAX 4096u
#define TRASH_NS (6 * HOUR_NS)
#define KEEP_HOURS 5u
#define KEEP_DAYS 3u

/* A snapshot that was there at a quiet moment. */
enum seen_state { SEEN_LIVE, SEEN_TRASH, SEEN_GONE };
struct seen {
	uint32_t number, volume;
	char name[SNAP_NAME_ROOM];
	uint64_t created_ns; /* by the clock on the wall */
	enum seen_state state;
	bool policys, held;
	bool by_person, purged_by_person; /* somebody deleted, or purged it */
	bool known;			  /* `print` is what it holds */
	uint64_t retained_ns;	/* by the test's count of the store's open time; 0: it is not */
	uint64_t live_ns;	/* by the same: when it was last seen outside of the trash */
	uint64_t print[BLOCKS]; /* a hash of each block */
};

struct world {
	struct guests guests; /* first: found back by its address */
	uint64_t seed;
	struct sim *sim;
	struct store *store;
	struct policies *policies;
	uint32_t volume_numbers[VOLUMES], policy;
	bool calm;   /* no write since the last look: what a snapshot holds is known */
	bool full;   /* the disk: requests and changes may fail */
	bool ill;    /* the disk: the store may have failed */
	bool rotten; /* what is read may be an error */
	unsigned hour;
	uint64_t opened_ns,
		open_ns; /* open_ns: for how long the store was open, without this time */
	struct scan scan;
	struct seen seen[SEEN_MAX];
	unsigned seen_count;
	struct store_work work;
	bool work_may_fail; /* as things were when it began */
};

extern struct totals {
	uint64_t seeds, hours, writes, reads, deduplicated, failed_requests, snapshots, removed,
		purged_by_time, purged_by_hand, restored, held, retained, refused, contents, scans,
		claims, collections, moved_bytes, dropped_segments, scrubbed, scrubs, folds,
		checkpoints, restarts, downtimes, clock_jumps, full_disks, ill_disks,
		crashes_in_collections;
	struct sim_counts faults;
} week_totals;

/* ---- week_world.c; each returns NULL or a sentence ---- */

const char *world_make(struct world *world, uint64_t seed);
void world_free(struct world *world);
uint64_t world_open_ns(const struct world *world); /* the store's age is this, or less */
/* Simulated time goes on; then a part in which nothing happens is left out. */
const char *world_pass(struct world *world, uint64_t run_ns, uint64_t skip_ns);
/* So many requests of guests, some of them side by side. */
const char *world_guests(struct world *world, unsigned count);
/* Drained, and what was answered is durable; *ret_flushed false: the disk did not let it. */
const char *world_settle(struct world *world, bool *ret_flushed);
const char *world_crash(struct world *world, bool power_cut, uint64_t downtime_ns);
const char *world_restart(struct world *world);
/* A change of the catalog, waited for: its result. */
struct admin_op *change(struct admin_op *op);
int change_end(struct world *world, struct admin_op *op);
void work_begin(struct world *world, void (*start)(struct store *store, struct store_work *work));

/* ---- week_snapshots.c ---- */

/* Compares the lists with what was there before: nothing went that may not. */
const char *snapshots_look(struct world *world);
/* One of them holds what it held. */
const char *snapshot_read(struct world *world, struct seen *seen);
struct seen *snapshot_some(struct world *world, enum seen_state state);
/* What a person does: takes, deletes, restores, purges, holds, retains one. */
const char *snapshots_person(struct world *world);

#endif
