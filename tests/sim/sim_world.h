/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of sim_store: a store in the simulated env, its model, and what is under way in it.
 * sim_life.c lives in it, sim_world.c opens, verifies and ends it, sim_store.c decides what kind of
 * days it has.
 */
#ifndef TESTS_SIM_SIM_WORLD_H
#define TESTS_SIM_SIM_WORLD_H

#include "proto/err.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "tests/sim/guests.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 1024u /* of a volume */
#define VOLUME_BYTES (BLOCKS * (uint64_t)BLOCK_BYTES)
#define WORLD_SNAPSHOTS 5u

struct model_snapshot {
	bool used, answered, pending_delete;
	unsigned volume;
	char name[32];
	uint8_t *data; /* the whole volume */
};

struct world {
	struct guests guests; /* first: found back by its address */
	struct sim *sim;
	struct store *store;
	struct model_snapshot snapshots[WORLD_SNAPSHOTS];
	uint64_t snapshot_number;
	bool faults, rot, full;
	bool index_rot; /* the index's files changed or went: nothing may be lost by that */
	bool wild;	/* rot: damage of any kind; what was promised may be gone */
	bool lazy;	/* nobody asks for durability */
	bool slow;	/* some I/O takes very long */
	struct admin_op admin;
	struct model_snapshot *admin_snapshot;
	struct store_work work;
};

struct totals {
	uint64_t seeds, operations, writes, reads, flushes, snapshots, folds, works, opened,
		refused;
	uint64_t folds_after_rot, fold_at_crash, checkpoints, dropped_segments, moved_bytes,
		repacked_bytes, censuses, dedup;
	uint64_t index_written, index_pages, index_mended, index_at_crash, seal_at_crash;
	struct sim_counts faults;
};
extern struct totals totals;

/* ---- sim_life.c ---- */

/* So many requests, changes and works, and whatever they set in motion; most of it is still under
 * way at the end. */
const char *life(struct world *world, unsigned ops);
void work_done(struct io_op *op); /* of world->work */

/* ---- sim_world.c ---- */

const char *world_make(struct world *world);
const char *world_open(struct world *world);
/* Each block and snapshot is something that it may be, and what is there is sound. */
const char *world_verify(struct world *world, bool power_cut);
/* What is damaged must not keep the rest in the log. */
const char *fold_all(struct world *world);
const char *close_and_open(struct world *world);
void world_crash(struct world *world, bool power_cut);
void world_free(struct world *world);

#endif
