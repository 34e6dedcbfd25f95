/* SPDX-License-Identifier: Apache-2.0 */
/* Differences of leaves, see leaf_diff.h: one array that only grows, and a table of places in it
 * (open addressing, linear, at most half full). */
#include "storage/store/leaf_diff.h"

#include "storage/store/mutant.h"

#include <stdlib.h>

#define UNITS_START 4096u
#define PLACES_START 1024u
#define PLACES_SHARE 4u /* of the bytes: a difference has 80 or more, and at most 16 of places */

static bool half_equal(const struct half_id *a, const struct half_id *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1];
}

static const struct leaf_diff *diff_at(const struct leaf_diffs *diffs, size_t unit)
{
	return (const struct leaf_diff *)(const void *)&diffs->units[unit];
}

/* Where the new leaf's difference is, or belongs. */
static uint32_t *place_of(const struct leaf_diffs *diffs, const struct half_id *new)
{
	size_t i = new->word[0] & (diffs->place_room - 1);
	while (diffs->places[i] && !half_equal(&diff_at(diffs, diffs->places[i] - 1)->new, new))
		i = (i + 1) & (diffs->place_room - 1);
	return &diffs->places[i];
}

static bool places_grow(struct leaf_diffs *diffs, size_t most_bytes)
{
	struct leaf_diffs larger = *diffs;
	larger.place_room = diffs->place_room ? 2 * diffs->place_room : PLACES_START;
	if (larger.place_room * sizeof(*larger.places) > most_bytes / PLACES_SHARE)
		return false;
	larger.places = calloc(larger.place_room, sizeof(*larger.places));
	if (!larger.places)
		return false;
	for (size_t i = 0; i < diffs->place_room; i++)
		if (diffs->places[i])
			*place_of(&larger, &diff_at(diffs, diffs->places[i] - 1)->new) =
				diffs->places[i];
	free(diffs->places);
	*diffs = larger;
	return true;
}

static bool units_grow(struct leaf_diffs *diffs, size_t need, size_t most_bytes)
{
	size_t room = diffs->unit_room ? 2 * diffs->unit_room : UNITS_START;
	size_t most = (most_bytes - most_bytes / PLACES_SHARE) / sizeof(*diffs->units);
	if (room > most)
		room = most;
	if (room < diffs->unit_count + need || room > UINT32_MAX)
		return false;
	struct half_id *larger = realloc(diffs->units, room * sizeof(*larger));
	if (!larger)
		return false;
	diffs->units = larger;
	diffs->unit_room = room;
	return true;
}

void leaf_diffs_add(struct leaf_diffs *diffs, const struct id *old, const struct id *new,
		    const struct leaf_change *changes, unsigned count, size_t most_bytes)
{
	size_t bytes = sizeof(struct leaf_diff) + count * sizeof(*changes);
	size_t need = bytes / sizeof(*diffs->units);
	struct half_id key = half_of(new);
	if (2 * (diffs->count + 1) > diffs->place_room && !places_grow(diffs, most_bytes))
		return;
	uint32_t *place = place_of(diffs, &key);
	if (*place)
		return;
	if (diffs->unit_count + need > diffs->unit_room && !units_grow(diffs, need, most_bytes))
		return;
	struct leaf_diff *diff = (struct leaf_diff *)(void *)&diffs->units[diffs->unit_count];
	*diff = (struct leaf_diff){.new = key, .old = half_of(old), .count = count};
	memcpy(diff->changes, changes, count * sizeof(*changes));
	if (MUTANT(60) && count > 1)
		diff->count--;
	*place = (uint32_t)diffs->unit_count + 1;
	diffs->unit_count += need;
	diffs->count++;
}

unsigned leaf_diffs_find(const struct leaf_diffs *diffs, const struct id *old, const struct id *new,
			 const struct leaf_diff *ret[LEAF_LINKS_MAX])
{
	struct half_id from = half_of(old), at = half_of(new);
	for (unsigned links = 0; links < LEAF_LINKS_MAX && diffs->count;) {
		uint32_t place = *place_of(diffs, &at);
		if (!place)
			return 0;
		ret[links] = diff_at(diffs, place - 1);
		at = ret[links++]->old;
		if (half_equal(&at, &from))
			return links;
	}
	return 0; /* also where leaves came to be what they had been: in circles */
}

/* ---- above the leaves ---- */

struct slot_bits { /* as large as a leaf_change */
	uint64_t words[NODE_SLOTS / 64];
};
_Static_assert(sizeof(struct slot_bits) == sizeof(struct leaf_change) &&
		       sizeof(struct node_change) == 2 * sizeof(struct leaf_change),
	       "they lie where leaf_changes do");

static bool slot_bit(const struct slot_bits *bits, unsigned slot)
{
	return bits->words[slot / 64] >> slot % 64 & 1;
}

void node_diffs_add(struct leaf_diffs *diffs, const struct id *old, const struct id *new,
		    const struct id old_slots[NODE_SLOTS], const struct id new_slots[NODE_SLOTS],
		    size_t most_bytes)
{
	struct {
		struct slot_bits bits;
		struct node_change changes[NODE_SLOTS];
	} diff = {0};
	unsigned count = 0;
	for (unsigned slot = 0; slot < NODE_SLOTS; slot++)
		if (!id_equal(&old_slots[slot], &new_slots[slot])) {
			diff.bits.words[slot / 64] |= UINT64_C(1) << slot % 64;
			diff.changes[count++] =
				(struct node_change){old_slots[slot], new_slots[slot]};
		}
	leaf_diffs_add(diffs, old, new, (const struct leaf_change *)(const void *)&diff,
		       1 + 2 * count, most_bytes);
}

unsigned node_diffs_find(const struct leaf_diffs *diffs, const struct id *old, const struct id *new,
			 struct node_change ret[NODE_SLOTS])
{
	const struct leaf_diff *links[LEAF_LINKS_MAX];
	const struct node_change *first[NODE_SLOTS] = {0}, *last[NODE_SLOTS] = {0};
	unsigned count = 0, link_count = leaf_diffs_find(diffs, old, new, links);
	for (unsigned k = 0; k < link_count; k++) { /* the newest is the first */
		const struct slot_bits *bits = (const void *)links[k]->changes;
		const struct node_change *change = (const void *)(links[k]->changes + 1);
		for (unsigned slot = 0; slot < NODE_SLOTS; slot++)
			if (slot_bit(bits, slot)) {
				last[slot] = last[slot] ? last[slot] : change;
				first[slot] = change++;
			}
	}
	for (unsigned slot = 0; slot < NODE_SLOTS; slot++)
		if (last[slot] && !id_equal(&first[slot]->old, &last[slot]->new))
			ret[count++] = (struct node_change){first[slot]->old, last[slot]->new};
	return count;
}

/* ---- ahead of many questions ---- */

void leaf_diffs_prefetch_place(const struct leaf_diffs *diffs, const struct id *new)
{
	if (diffs->count)
		__builtin_prefetch(&diffs->places[id_word(new, 0) & (diffs->place_room - 1)]);
}

void leaf_diffs_prefetch(const struct leaf_diffs *diffs, const struct id *new)
{
	size_t i = id_word(new, 0) & (diffs->place_room - 1);
	if (!diffs->count || !diffs->places[i])
		return;
	__builtin_prefetch(diff_at(diffs, diffs->places[i] - 1));
	__builtin_prefetch(diff_at(diffs, diffs->places[i] - 1)->changes);
}

const struct leaf_diff *leaf_diffs_peek(const struct leaf_diffs *diffs, const struct id *new)
{
	struct half_id key = half_of(new);
	uint32_t place = diffs->count ? *place_of(diffs, &key) : 0;
	return place ? diff_at(diffs, place - 1) : NULL;
}

size_t leaf_diffs_bytes(const struct leaf_diffs *diffs)
{
	return diffs->unit_room * sizeof(*diffs->units) +
	       diffs->place_room * sizeof(*diffs->places);
}

void leaf_diffs_free(struct leaf_diffs *diffs)
{
	free(diffs->units);
	free(diffs->places);
	*diffs = (struct leaf_diffs){0};
}
