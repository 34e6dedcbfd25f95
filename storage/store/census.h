/* SPDX-License-Identifier: Apache-2.0 */
/* The census: which stored records live maps name, and how often. What reclaiming rests on. */
#ifndef STORAGE_STORE_CENSUS_H
#define STORAGE_STORE_CENSUS_H

#include "storage/store/work.h"

/* A map node that is reachable, by the first half of its id, and from how many places. */
struct node_ref {
	uint64_t key[2];
	uint64_t count; /* 0: the place is empty */
};
struct node_set {
	struct node_ref *at;
	size_t count, room;
};

enum census_phase { CENSUS_CLEAR, CENSUS_BEGIN, CENSUS_ADD, CENSUS_REMOVE, CENSUS_DONE };

struct census {
	struct store *store;
	struct node_set nodes;
	struct root *roots; /* whose trees are counted, sorted by id */
	size_t root_count;
	bool exact; /* the counts are those of `roots`; if not, all is counted anew */

	/* The count that runs. */
	enum census_phase phase;
	bool walking, adding, all_anew;
	struct root *next; /* what there is now: roots when it has ended */
	size_t next_count;
	size_t old_at, next_at; /* what both lists were compared up to */
	uint32_t shard;
	const struct root *root; /* whose tree is being walked */
	struct walk walk;
	int res;
	uint64_t missing;	/* names without a record */
	uint64_t looked;	/* chunks counted, up or down, by this count */
	uint64_t counted_ns;	/* when the last count began (env_now_ns); 0: never */
	uint64_t node_records;	/* reachable nodes */
	uint64_t garbage_bytes; /* when this count began: told while it runs */
};

int census_init(struct store *store);
void census_exit(struct store *store);
/* A count begins: census_step goes on with it. */
void census_start(struct census *census, bool all_anew);
/* 0: it has ended, and the index knows what the roots of the moment when it began name; all that
 * was named since is touched. WAITING, WALK_MORE; negative: not counted, and then the next one
 * begins anew. */
int census_step(struct census *census, struct work *work);
void census_stop(struct census *census); /* it is given up */

#endif
