/* SPDX-License-Identifier: Apache-2.0 */
/* The census: which stored records live maps name, and how often. What reclaiming rests on. */
#ifndef STORAGE_STORE_CENSUS_H
#define STORAGE_STORE_CENSUS_H

#include "storage/store/leaf_diff.h"
#include "storage/store/node_set.h"
#include "storage/store/record.h"
#include "storage/store/work.h"

#define CENSUS_PAIRS 32u /* nodes, or pairs of them, that are read at a time */

enum census_phase { CENSUS_CLEAR, CENSUS_BEGIN, CENSUS_COUNT, CENSUS_DONE };

/* One place of a tree, or a root, whose id changed: null: there was none, or is none. */
struct census_change {
	struct id ids[2]; /* the old one, the new one */
	const struct root *root;
	uint32_t depth;
};

/* A change below which there is something to count: the old node is gone, or the new one came, or
 * both. Those that are so are read. */
struct census_pair {
	struct census *census;
	struct census_change change;
	bool used, open[2]; /* which sides are to be counted */
	struct census_side {
		struct census_pair *pair;
		struct wait wait;
		bool waits, have; /* have: the node is in raw */
		int res;	  /* why it could not be read */
		uint8_t *raw;	  /* a part of census.memory */
	} sides[2];
};
#define CENSUS_MEMORY_BYTES (2ull * CENSUS_PAIRS * NODE_BYTES)

struct census {
	struct store *store;
	struct node_set nodes; /* reachable, and from how many places */
	struct root *roots;    /* whose trees are counted, by number and id */
	size_t root_count;
	bool exact; /* the counts are those of `roots`; if not, all is counted anew */
	bool whole; /* no count is on its way, or was given up on it: they may be told */
	struct map_diffs {
		struct leaf_diffs leaves, above;
	} diffs; /* of folds since the last count began */

	/* The count that runs. */
	enum census_phase phase;
	uint64_t round; /* it is the how-manieth */
	bool all_anew;
	struct root *next; /* what there is now: roots when it has ended */
	size_t next_count;
	unsigned pass;		/* over both lists: what came, what changed, what went */
	size_t old_at, next_at; /* what both lists were compared up to in this pass */
	uint32_t shard;
	struct census_change *changes; /* a stack: the deepest are on top */
	size_t change_count, change_room;
	struct census_pair pairs[CENSUS_PAIRS];
	struct map_diffs taken; /* the differences of before it */
	uint8_t *memory;	/* the nodes that are read; NULL: none is */
	unsigned busy;		/* pairs in use */
	int res;
	const struct root *unreadable; /* the first one, with res */
	uint64_t missing;	       /* names without a record */
	uint64_t looked;	       /* chunks counted, up or down, by this count */
	uint64_t opened;	       /* nodes that this count has read for that */
	uint64_t counted_ns;	       /* when the last count began (env_now_ns); 0: never */
	uint64_t node_records;	       /* reachable nodes */
	uint64_t garbage_bytes;	       /* when this count began: told while it runs */
};

int census_init(struct store *store);
void census_exit(struct store *store);
/* A count begins: census_step goes on with it. */
void census_start(struct census *census, bool all_anew);
/* 0: it has ended, and the index knows what the roots of the moment when it began name; all that
 * was named since is touched. WAITING, WALK_MORE; negative: not counted, and then the next one
 * begins anew. */
int census_step(struct census *census, struct work *work);
bool census_busy(const struct census *census); /* nodes are being read: it must be stepped on */
void census_stop(struct census *census);       /* it is given up */

/* A fold made a leaf of another one (null: there was none): these slots differ. */
void census_leaf_made(struct census *census, const struct id *old, const struct id *new,
		      const struct leaf_change *changes, unsigned count);
/* Or a node above the leaves; with all slots of both. */
void census_node_made(struct census *census, const struct id *old, const struct id *new,
		      const struct id *old_slots, const struct id *new_slots);
uint64_t census_diffs_bytes_most(const struct store *store); /* of memory for that */

#endif
