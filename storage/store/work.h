/* SPDX-License-Identifier: Apache-2.0 */
/* Long work in steps: what work.c, which runs it, and those who define it (gc.c, check.c, verify.c,
 * diff.c ...) share. */
#ifndef STORAGE_STORE_WORK_H
#define STORAGE_STORE_WORK_H

#include "storage/store/map.h"
#include "storage/store/store_admin.h"
#include "storage/store/store_work.h"

struct volume;

/* A walk over a map: nodes from the top down, chunks in order of address. */
struct walk {
	struct store *store;
	struct id path[MAP_LEVELS];
	unsigned slot[MAP_LEVELS], depth;
	bool active;
	uint64_t chunk_no; /* of the chunk that the callback sees */
	/* A node is about to be walked: false leaves it out. */
	bool (*enter)(struct walk *walk, const struct id *id);
	/* 0, or WAITING (it is called with this chunk again), or negative: the walk ends. */
	int (*chunk)(struct walk *walk, const struct id *id);
	void *owner;
};
void walk_start(struct walk *walk, const struct id *top);
/* 0: it has ended; WAITING (wait is woken, or a callback said so); WALK_MORE: enough for one slice;
 * negative: a node cannot be read. */
#define WALK_MORE 2
int walk_step(struct walk *walk, struct wait *wait);

/* A set of ids, by their first 16 bytes. */
struct id_set {
	uint64_t (*at)[2];
	size_t count, room;
};
/* 1: it is new; 0: it was there; -ENOMEM. */
int id_set_add(struct id_set *set, const struct id *id);
void id_set_free(struct id_set *set);

#define WORK_PINS_MAX 2u

struct work {
	struct store *store;
	struct work *next;
	struct store_work *public;
	/* WAITING (woken by its wait or by work_kick), WALK_MORE (soon again), or the end. */
	int (*step)(struct work *work);
	void (*done)(struct work *work); /* frees what it has, and itself */
	/* Operations are under way: a cancelled work is stepped on until they ended. NULL: never.
	 */
	bool (*must_finish)(const struct work *work);
	/* Touches, in the index, the ids that it counts on and that no map names yet. NULL: none.
	 */
	void (*mark)(const struct work *work);
	struct wait wait;
	struct id pins[WORK_PINS_MAX]; /* tops that it reads: roots for the census */
	unsigned pin_count;
	bool waits, slicing;
	struct io_op slice_op;
};

/* Takes `work` over: its done frees it. NULL, when there was no memory for it, ends with -ENOMEM.
 */
void work_start(struct store *store, struct work *work, struct store_work *public);
/* WAITING through the work's own wait: work_kick leaves it alone until then. */
int work_waits(struct work *work);
__attribute__((format(printf, 2, 3))) void work_report(struct work *work, const char *format, ...);
__attribute__((format(printf, 3, 4))) int work_refuse(struct work *work, int code,
						      const char *format, ...);
/* "NAME", folded, or "NAME@SNAP", sealed: 0 and the map's top, which
 * stays readable while the work goes on; WAITING; negative. */
int work_root(struct work *work, const char *name, struct id *ret_top, uint64_t *ret_size_bytes);
/* The same of a volume that a view keeps. A work has WORK_PINS_MAX of them: who begins anew lets
 * those from before go (pin_count). */
int work_volume_root(struct work *work, struct volume *volume, struct id *ret_top);
/* All tops that are alive now, for the caller to free. What is deduplicated against a name in a
 * map, which only folds do, or read from one, is reachable from these, or touched. */
struct root {
	struct id top;
	uint32_t volume, snapshot; /* numbers; snapshot 0: the volume itself; both 0: a pin */
	bool trash;		   /* it, or its volume, is there */
	char name[SNAP_NAME_ROOM];
};
int roots_collect(struct store *store, struct root **ret_roots, size_t *ret_count);
void works_mark(const struct store *store); /* all of them touch what they count on */

#endif
