/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed from one node of a map to the one that a fold made of it, kept in memory for the
 * next census, which then need not read them.
 *
 * Which slots two nodes differ in follows from their ids alone: what is here is never old, and
 * needs no care when folds fail, volumes go or snapshots come. It may be missing at any time: then
 * the nodes are read.
 *
 * Of leaves and of the nodes above them there is one each: of a leaf's chunks half an id is enough,
 * the nodes below a node may have to be read.
 */
#ifndef STORAGE_STORE_LEAF_DIFF_H
#define STORAGE_STORE_LEAF_DIFF_H

#include "storage/store/map.h"

#include <stddef.h>

#define LEAF_CHANGES_MAX                                                                           \
	64u		   /* a leaf of which more changed is read: that costs no more by chunk    \
			    */
#define LEAF_LINKS_MAX 64u /* folds of one leaf; beyond them it is read */

/* The part of an id by which the index and the census tell ids apart. */
struct half_id {
	uint64_t word[2];
};
static inline struct half_id half_of(const struct id *id)
{
	return (struct half_id){{id_word(id, 0), id_word(id, 1)}};
}
static inline bool half_is_null(const struct half_id *half)
{
	return (half->word[0] | half->word[1]) == 0;
}
static inline struct id half_as_id(const struct half_id *half)
{
	struct id id = {0};
	memcpy(id.bytes, half, sizeof *half);
	return id;
}

struct leaf_change { /* of one slot; null: a hole */
	struct half_id old, new;
};
struct node_change {
	struct id old, new;
};
struct leaf_diff {
	struct half_id new, old; /* old null: there was no leaf */
	uint64_t count, unused;
	struct leaf_change changes[]; /* of a node above: which slots, and their node_changes */
};

struct leaf_diffs {
	struct half_id *units; /* one leaf_diff behind the other */
	size_t unit_count, unit_room;
	uint32_t *places; /* by the new leaf's id: where in units its difference is, + 1; 0: none */
	size_t place_room, count;
};

/* Of two differences of one new leaf the first stays. What has no room within most_bytes is not
 * kept. */
void leaf_diffs_add(struct leaf_diffs *diffs, const struct id *old, const struct id *new,
		    const struct leaf_change *changes, unsigned count, size_t most_bytes);
/* The differences that lead from the old leaf (null: none) to the new one, in ret; 0: not known.
 * Their sum is what changed: what came may have gone again. Valid until something is added. */
unsigned leaf_diffs_find(const struct leaf_diffs *diffs, const struct id *old, const struct id *new,
			 const struct leaf_diff *ret[LEAF_LINKS_MAX]);
/* The same of nodes above the leaves: what differs comes out slot by slot. 0: not known. */
void node_diffs_add(struct leaf_diffs *diffs, const struct id *old, const struct id *new,
		    const struct id old_slots[NODE_SLOTS], const struct id new_slots[NODE_SLOTS],
		    size_t most_bytes);
unsigned node_diffs_find(const struct leaf_diffs *diffs, const struct id *old, const struct id *new,
			 struct node_change ret[NODE_SLOTS]);
/* For who is about to ask for many, in this order: the last one returns a difference that is on its
 * way to the processor, or NULL. */
void leaf_diffs_prefetch_place(const struct leaf_diffs *diffs, const struct id *new);
void leaf_diffs_prefetch(const struct leaf_diffs *diffs, const struct id *new);
const struct leaf_diff *leaf_diffs_peek(const struct leaf_diffs *diffs, const struct id *new);
size_t leaf_diffs_bytes(const struct leaf_diffs *diffs);
void leaf_diffs_free(struct leaf_diffs *diffs); /* empty, and usable again */

#endif
