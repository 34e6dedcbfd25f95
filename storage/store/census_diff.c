/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a count need not read. Folds leave behind how the nodes that they made differ from those
 * that they were made of (leaf_diff.h): where that leads from the old node to the new one, neither
 * is read.
 *
 * A count is then little but misses of the processor's caches, in an index that is far larger than
 * they are: what is looked at for a change is asked for in stages, some changes ahead.
 */
#include "storage/store/census_int.h"

#include "storage/store/index.h"
#include "storage/store/store_int.h"

#define PREFETCH_AHEAD 8u
#define CHUNKS_AHEAD 4u /* of a leaf that is PREFETCH_AHEAD changes ahead */
/* Differences of leaves may take so many bytes, or this part of the index's, and those of the nodes
 * above them this part of that. */
#define DIFFS_BYTES (8 * MIB)
#define DIFFS_SHARE 16u
#define ABOVE_SHARE 2u

void census_diffs_free(struct map_diffs *diffs)
{
	leaf_diffs_free(&diffs->leaves);
	leaf_diffs_free(&diffs->above);
}

static uint64_t leaves_bytes_most(const struct store *store)
{
	return max_u64(DIFFS_BYTES, index_bytes(store->index) / DIFFS_SHARE);
}

uint64_t census_diffs_bytes_most(const struct store *store)
{
	return leaves_bytes_most(store) + leaves_bytes_most(store) / ABOVE_SHARE;
}

/* What there is room for, beside the differences that a count uses. */
static size_t diffs_room(size_t most, const struct leaf_diffs *taken)
{
	return most - min_u64(most, leaf_diffs_bytes(taken));
}

void census_leaf_made(struct census *census, const struct id *old, const struct id *new,
		      const struct leaf_change *changes, unsigned count)
{
	leaf_diffs_add(&census->diffs.leaves, old, new, changes, count,
		       diffs_room(leaves_bytes_most(census->store), &census->taken.leaves));
}

void census_node_made(struct census *census, const struct id *old, const struct id *new,
		      const struct id *old_slots, const struct id *new_slots)
{
	size_t most = leaves_bytes_most(census->store) / ABOVE_SHARE;
	node_diffs_add(&census->diffs.above, old, new, old_slots, new_slots,
		       diffs_room(most, &census->taken.above));
}

/* ---- what comes next goes to the processor ---- */

static const struct census_change *change_ahead(const struct census *census, size_t distance)
{
	return distance < census->change_count
		       ? &census->changes[census->change_count - 1 - distance]
		       : NULL;
}

/* A change's nodes, then what is known to have changed in them, then the chunks in that: each needs
 * the one before, and has time to come until the next. */
static void prefetch_nodes(const struct census *census, size_t distance)
{
	const struct census_change *change = change_ahead(census, distance);
	for (unsigned side = 0; side < 2 && change; side++) {
		node_set_prefetch(&census->nodes, &change->ids[side]);
		index_prefetch(census->store->index, &change->ids[side]);
		if (side == 1)
			leaf_diffs_prefetch_place(&census->taken.leaves, &change->ids[1]);
	}
}

static void prefetch_diff(const struct census *census, size_t distance)
{
	const struct census_change *change = change_ahead(census, distance);
	if (change)
		leaf_diffs_prefetch(&census->taken.leaves, &change->ids[1]);
}

static void prefetch_chunks(const struct census *census, size_t distance)
{
	const struct census_change *change = change_ahead(census, distance);
	const struct leaf_diff *diff =
		change ? leaf_diffs_peek(&census->taken.leaves, &change->ids[1]) : NULL;
	for (uint64_t i = 0; diff && i < min_u64(diff->count, CHUNKS_AHEAD); i++) {
		struct id ids[2] = {half_as_id(&diff->changes[i].old),
				    half_as_id(&diff->changes[i].new)};
		index_prefetch(census->store->index, &ids[0]);
		index_prefetch(census->store->index, &ids[1]);
	}
}

void census_prefetch_next(const struct census *census)
{
	prefetch_nodes(census, (size_t)3 * PREFETCH_AHEAD);
	prefetch_diff(census, (size_t)2 * PREFETCH_AHEAD);
	prefetch_chunks(census, PREFETCH_AHEAD);
}

void census_prefetch_first(const struct census *census)
{
	for (size_t i = 0; i < 3 * PREFETCH_AHEAD; i++)
		prefetch_nodes(census, i);
	for (size_t i = 0; i < 2 * PREFETCH_AHEAD; i++)
		prefetch_diff(census, i);
	for (size_t i = 0; i < PREFETCH_AHEAD; i++)
		prefetch_chunks(census, i);
}

/* ---- what is known ---- */

/* Several folds may have changed one slot: all that came is counted before what went is, so that no
 * count falls below what it was and will be. */
static bool leaf_known(struct census *census, const struct id *old, const struct id *new)
{
	struct index *index = census->store->index;
	const struct leaf_diff *links[LEAF_LINKS_MAX];
	unsigned count = leaf_diffs_find(&census->taken.leaves, old, new, links);
	for (unsigned up = 2; up-- > 0;)
		for (unsigned k = 0; k < count; k++)
			for (uint64_t i = 0; i < links[k]->count; i++) {
				const struct leaf_change *change = &links[k]->changes[i];
				const struct half_id *half = up ? &change->new : &change->old;
				struct id id = half_as_id(half);
				if (half_is_null(half))
					continue;
				if (!up)
					index_unref(index, &id);
				else if (!index_ref(index, &id))
					census->missing++;
				census->looked++;
			}
	return count > 0;
}

/* The changes below a node, as if it had been read. */
static bool node_known(struct census *census, const struct id *old,
		       const struct census_change *change)
{
	struct node_change below[NODE_SLOTS];
	unsigned count = node_diffs_find(&census->taken.above, old, &change->ids[1], below);
	for (unsigned i = count; i-- > 0;) /* the first is taken first */
		census_change(census, &below[i].old, &below[i].new, change->root,
			      change->depth + 1);
	if (count > 0)
		census_prefetch_first(census);
	return count > 0;
}

bool census_known(struct census *census, const struct id *old, const struct census_change *change)
{
	return change->depth == MAP_LEVELS - 1 ? leaf_known(census, old, &change->ids[1])
					       : node_known(census, old, change);
}
