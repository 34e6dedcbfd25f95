/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 2^14 shards by the id's first bits; a shard is an array of 64-byte buckets of eight entries, and
 * grows by an eighth when both buckets of an entry are full, and none of the entries there can go
 * to its other choice. An entry is {20 bits of the id, 44
 * bits of location}; both bucket choices follow from those 20 bits alone, so growing needs no id.
 * At 50 million chunks a shard has 3,000 entries and a lookup of an absent id meets a false
 * candidate in 0.3 % of cases. An entry is never 0: slots start at 1.
 *
 * Behind its buckets a shard has one byte an entry: six bits of references and two marks, for
 * reclaiming. Entries that share a tag share its value, so it is exact or too large, never too
 * small.
 */
#include "storage/store/index.h"

#include "proto/err.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUCKET_ENTRIES 8u
#define LOCATION_BITS 44
#define LOCATION_MASK ((UINT64_C(1) << LOCATION_BITS) - 1)
#define BUCKETS_MAX (UINT32_C(1) << 20)
#define BUCKETS_SPARE 64u /* more than entries + this: they share a tag, growing cannot help */

struct bucket {
	uint64_t entries[BUCKET_ENTRIES];
} __attribute__((aligned(64)));

struct shard {
	struct bucket *buckets; /* and behind them the reference bytes */
	uint32_t bucket_count;
	uint32_t entry_count : 31, deferred : 1;
};

#define REFS_MASK INDEX_REFS_MAX
#define MARK_SHIFT 6

/* How many entries a segment has, and how many of them are referenced, or not but marked. */
struct slot_count {
	uint32_t entries, live, marked;
};

struct index {
	uint64_t entry_count, bucket_count, live_count;
	uint8_t mark; /* the one that is set now: 1 or 2 << MARK_SHIFT */
	struct slot_count *slots;
	uint32_t slot_room;
	struct shard shards[INDEX_SHARDS];
};

struct index *index_new(void)
{
	struct index *index = calloc(1, sizeof(struct index));
	if (index)
		index->mark = 1u << MARK_SHIFT;
	return index;
}

void index_free(struct index *index)
{
	if (!index)
		return;
	for (uint32_t i = 0; i < INDEX_SHARDS; i++)
		free(index->shards[i].buckets);
	free(index->slots);
	free(index);
}

uint32_t index_shard_of(const struct id *id)
{
	return (uint32_t)(id_word(id, 0) % INDEX_SHARDS);
}

static uint64_t tag_of(const struct id *id)
{
	return id_word(id, 1) >> LOCATION_BITS; /* 20 bits */
}

/* The two choices: the tag, and a mix of it, scaled to the shard's buckets. */
static void bucket_choices(const struct shard *shard, uint64_t tag, uint32_t ret[2])
{
	uint32_t mixed = (uint32_t)(tag + 1) * 0x9e3779b1u;
	ret[0] = (uint32_t)((tag * shard->bucket_count) >> 20);
	ret[1] = (uint32_t)(((uint64_t)mixed * shard->bucket_count) >> 32);
}

static unsigned bucket_fill(const struct bucket *bucket)
{
	unsigned fill = 0;
	while (fill < BUCKET_ENTRIES && bucket->entries[fill])
		fill++;
	return fill; /* entries are kept at the front */
}

static uint8_t *refs_of(const struct shard *shard, uint32_t bucket)
{
	return (uint8_t *)(shard->buckets + shard->bucket_count) + (size_t)bucket * BUCKET_ENTRIES;
}

static size_t shard_bytes(uint32_t bucket_count)
{
	size_t bytes = bucket_count * (sizeof(struct bucket) + BUCKET_ENTRIES);
	return (bytes + 63) / 64 * 64;
}

/* One entry of a full bucket goes to its other choice, if there is room. *ret is where it was. */
static bool bucket_make_room(struct shard *shard, uint32_t bucket_no, uint64_t **ret)
{
	for (unsigned e = 0; e < BUCKET_ENTRIES; e++) {
		uint64_t *entry = &shard->buckets[bucket_no].entries[e];
		uint32_t choice[2];
		bucket_choices(shard, *entry >> LOCATION_BITS, choice);
		struct bucket *other =
			&shard->buckets[choice[0] == bucket_no ? choice[1] : choice[0]];
		unsigned fill = bucket_fill(other);
		if (fill == BUCKET_ENTRIES)
			continue;
		other->entries[fill] = *entry;
		refs_of(shard, (uint32_t)(other - shard->buckets))[fill] =
			refs_of(shard, bucket_no)[e];
		*ret = entry;
		return true;
	}
	return false;
}

static bool shard_place(struct shard *shard, uint64_t entry, uint8_t refs)
{
	uint64_t *at;
	uint32_t choice[2];
	bucket_choices(shard, entry >> LOCATION_BITS, choice);
	unsigned fill[2] = {bucket_fill(&shard->buckets[choice[0]]),
			    bucket_fill(&shard->buckets[choice[1]])};
	unsigned less = fill[1] < fill[0];
	if (fill[less] == BUCKET_ENTRIES) {
		if (!bucket_make_room(shard, choice[0], &at) &&
		    !bucket_make_room(shard, choice[1], &at))
			return false;
		*at = entry;
		size_t place = (size_t)(at - shard->buckets[0].entries);
		refs_of(shard, 0)[place] = refs;
		return true;
	}
	shard->buckets[choice[less]].entries[fill[less]] = entry;
	refs_of(shard, choice[less])[fill[less]] = refs;
	return true;
}

/* To `count` buckets, or more: tries sizes until every entry finds a place. `entries` are there, or
 * are about to come. */
static int shard_grow(struct index *index, struct shard *shard, uint32_t count, uint64_t entries)
{
	for (;; count += count / 32 + 1) {
		if (count > BUCKETS_MAX || count > entries + BUCKETS_SPARE)
			return -ENOMEM;
		struct shard bigger = *shard;
		bigger.bucket_count = count;
		bigger.buckets = aligned_alloc(64, shard_bytes(count));
		if (!bigger.buckets)
			return -ENOMEM;
		memset(bigger.buckets, 0, shard_bytes(count));
		bool fits = true;
		for (uint32_t b = 0; b < shard->bucket_count && fits; b++)
			for (unsigned e = 0; e < BUCKET_ENTRIES && fits; e++)
				if (shard->buckets[b].entries[e])
					fits = shard_place(&bigger, shard->buckets[b].entries[e],
							   refs_of(shard, b)[e]);
		if (!fits) {
			free(bigger.buckets);
			continue;
		}
		index->bucket_count += count - shard->bucket_count;
		free(shard->buckets);
		*shard = bigger;
		return 0;
	}
}

/* ---- what is known of a segment ---- */

static int slots_room(struct index *index, uint32_t slot)
{
	if (slot < index->slot_room)
		return 0;
	uint32_t room = slot < 32 ? 64 : 2 * slot;
	struct slot_count *larger = realloc(index->slots, room * sizeof(*larger));
	if (!larger)
		return -ENOMEM;
	memset(larger + index->slot_room, 0, (room - index->slot_room) * sizeof(*larger));
	index->slots = larger;
	index->slot_room = room;
	return 0;
}

static struct slot_count *slot_of(const struct index *index, uint64_t entry)
{
	return &index->slots[location_slot(entry & LOCATION_MASK)];
}

/* The byte of an entry changes; 0: it comes or goes. */
static void entry_counts(struct index *index, uint64_t entry, uint8_t before, uint8_t after)
{
	struct slot_count *slot = slot_of(index, entry);
	bool was = before & REFS_MASK, is = after & REFS_MASK;
	slot->live += (uint32_t)is - (uint32_t)was;
	index->live_count += (uint64_t)is - (uint64_t)was;
	slot->marked += (uint32_t)(!is && after & index->mark);
	slot->marked -= (uint32_t)(!was && before & index->mark);
}

/* ---- entries that share a tag ---- */

/* Where a walk over a tag's entries stands. */
struct tag_at {
	uint32_t choice[2], choices, c, e;
};

static void tag_begin(const struct shard *shard, uint64_t tag, struct tag_at *at)
{
	*at = (struct tag_at){0};
	if (!shard->bucket_count)
		return;
	bucket_choices(shard, tag, at->choice);
	at->choices = at->choice[0] == at->choice[1] ? 1 : 2;
}

/* The next entry, or 0; *ret_refs is its byte. */
static uint64_t tag_next(const struct shard *shard, uint64_t tag, struct tag_at *at,
			 uint8_t **ret_refs)
{
	for (; at->c < at->choices; at->c++, at->e = 0) {
		const struct bucket *bucket = &shard->buckets[at->choice[at->c]];
		while (at->e < BUCKET_ENTRIES && bucket->entries[at->e]) {
			uint64_t entry = bucket->entries[at->e++];
			if (entry >> LOCATION_BITS != tag)
				continue;
			*ret_refs = refs_of(shard, at->choice[at->c]) + at->e - 1;
			return entry;
		}
	}
	return 0;
}

static int shard_insert(struct index *index, struct shard *shard, uint64_t entry)
{
	struct tag_at at;
	uint8_t *same, refs = 0;
	uint32_t slot = location_slot(entry & LOCATION_MASK);
	int res = slots_room(index, slot);
	tag_begin(shard, entry >> LOCATION_BITS, &at);
	if (tag_next(shard, entry >> LOCATION_BITS, &at, &same))
		refs = *same;
	refs |= index->mark;
	while (res == 0 && (!shard->bucket_count || !shard_place(shard, entry, refs)))
		res = shard_grow(index, shard, shard->bucket_count + shard->bucket_count / 8 + 1,
				 shard->entry_count);
	if (res < 0)
		return res;
	shard->entry_count++;
	index->entry_count++;
	index->slots[slot].entries++;
	entry_counts(index, entry, 0, refs);
	return 0;
}

int index_insert(struct index *index, const struct id *id, uint64_t location)
{
	assert(location_slot(location) >= 1 && location <= LOCATION_MASK);
	return shard_insert(index, &index->shards[index_shard_of(id)],
			    tag_of(id) << LOCATION_BITS | location);
}

bool index_remove(struct index *index, const struct id *id, uint64_t location)
{
	struct shard *shard = &index->shards[index_shard_of(id)];
	uint64_t entry = tag_of(id) << LOCATION_BITS | location;
	uint32_t choice[2];
	assert(!shard->deferred);
	if (!shard->bucket_count)
		return false;
	bucket_choices(shard, tag_of(id), choice);
	for (unsigned c = 0; c < 2; c++) {
		struct bucket *bucket = &shard->buckets[choice[c]];
		unsigned fill = bucket_fill(bucket);
		for (unsigned e = 0; e < fill; e++) {
			if (bucket->entries[e] != entry)
				continue;
			uint8_t *refs = refs_of(shard, choice[c]);
			entry_counts(index, entry, refs[e], 0);
			slot_of(index, entry)->entries--;
			bucket->entries[e] = bucket->entries[fill - 1];
			bucket->entries[fill - 1] = 0;
			refs[e] = refs[fill - 1];
			refs[fill - 1] = 0;
			shard->entry_count--;
			index->entry_count--;
			return true;
		}
	}
	return false;
}

unsigned index_find(const struct index *index, const struct id *id,
		    uint64_t ret_locations[INDEX_CANDIDATES_MAX])
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	uint64_t tag = tag_of(id);
	uint32_t choice[2];
	unsigned count = 0;
	assert(!shard->deferred);
	if (!shard->bucket_count)
		return 0;
	bucket_choices(shard, tag, choice);
	for (unsigned c = 0; c < (choice[0] == choice[1] ? 1u : 2u); c++) {
		const struct bucket *bucket = &shard->buckets[choice[c]];
		for (unsigned e = 0; e < BUCKET_ENTRIES && bucket->entries[e]; e++)
			if (bucket->entries[e] >> LOCATION_BITS == tag)
				ret_locations[count++] = bucket->entries[e] & LOCATION_MASK;
	}
	return count;
}

bool index_has(const struct index *index, const struct id *id, uint64_t location)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	unsigned count = index_find(index, id, candidates);
	for (unsigned i = 0; i < count; i++)
		if (candidates[i] == location)
			return true;
	return false;
}

void index_shard_defer(struct index *index, uint32_t shard_no)
{
	index->shards[shard_no].deferred = 1;
}

bool index_shard_deferred(const struct index *index, uint32_t shard_no)
{
	return index->shards[shard_no].deferred;
}

void index_shard_complete(struct index *index, uint32_t shard_no)
{
	index->shards[shard_no].deferred = 0;
}

void index_prefetch(const struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	uint32_t choice[2];
	if (!shard->bucket_count)
		return;
	bucket_choices(shard, tag_of(id), choice);
	__builtin_prefetch(&shard->buckets[choice[0]]);
	__builtin_prefetch(&shard->buckets[choice[1]]);
}

uint64_t index_count(const struct index *index)
{
	return index->entry_count;
}

uint64_t index_bytes(const struct index *index)
{
	return sizeof(*index) + index->bucket_count * (sizeof(struct bucket) + BUCKET_ENTRIES) +
	       index->slot_room * sizeof(struct slot_count);
}

/* ---- references and marks ---- */

unsigned index_refs(const struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	struct tag_at at;
	uint8_t *refs;
	tag_begin(shard, tag_of(id), &at);
	return tag_next(shard, tag_of(id), &at, &refs) ? *refs & REFS_MASK : 0;
}

void index_refs_prefetch(const struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	uint32_t choice[2];
	if (!shard->bucket_count)
		return;
	bucket_choices(shard, tag_of(id), choice);
	for (unsigned c = 0; c < 2; c++) {
		__builtin_prefetch(&shard->buckets[choice[c]]);
		__builtin_prefetch(refs_of(shard, choice[c]), 1);
	}
}

bool index_ref(struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	struct tag_at at;
	uint8_t *refs;
	uint64_t entry;
	bool found = false;
	tag_begin(shard, tag_of(id), &at);
	while ((entry = tag_next(shard, tag_of(id), &at, &refs))) {
		found = true;
		if ((*refs & REFS_MASK) == REFS_MASK)
			continue;
		entry_counts(index, entry, *refs, (uint8_t)(*refs + 1));
		++*refs;
	}
	return found;
}

bool index_unref(struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	struct tag_at at;
	uint8_t *refs;
	uint64_t entry;
	bool last = false;
	tag_begin(shard, tag_of(id), &at);
	while ((entry = tag_next(shard, tag_of(id), &at, &refs))) {
		uint8_t count = *refs & REFS_MASK;
		if (count == REFS_MASK || count == 0)
			continue;
		entry_counts(index, entry, *refs, (uint8_t)(*refs - 1));
		--*refs;
		last = count == 1;
	}
	return last;
}

void index_touch(struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	struct tag_at at;
	uint8_t *refs;
	uint64_t entry;
	tag_begin(shard, tag_of(id), &at);
	while ((entry = tag_next(shard, tag_of(id), &at, &refs))) {
		entry_counts(index, entry, *refs, *refs | index->mark);
		*refs |= index->mark;
	}
}

bool index_dead(const struct index *index, const struct id *id)
{
	const struct shard *shard = &index->shards[index_shard_of(id)];
	struct tag_at at;
	uint8_t *refs;
	tag_begin(shard, tag_of(id), &at);
	return !tag_next(shard, tag_of(id), &at, &refs) || !(*refs & (REFS_MASK | index->mark));
}

static uint8_t other_mark(const struct index *index)
{
	return (uint8_t)(index->mark ^ 3u << MARK_SHIFT);
}

void index_marks_turn(struct index *index)
{
	index->mark = other_mark(index);
	for (uint32_t slot = 0; slot < index->slot_room; slot++)
		index->slots[slot].marked = 0; /* nobody has the new one yet */
}

void index_marks_clear(struct index *index, uint32_t shard_no)
{
	const struct shard *shard = &index->shards[shard_no];
	uint64_t keep = ~(other_mark(index) * UINT64_C(0x0101010101010101));
	_Static_assert(BUCKET_ENTRIES == 8, "the reference bytes of a bucket are one word");
	uint64_t *refs = (uint64_t *)(void *)refs_of(shard, 0);
	for (uint32_t b = 0; b < shard->bucket_count; b++)
		refs[b] &= keep;
}

void index_refs_clear(struct index *index, uint32_t shard_no)
{
	const struct shard *shard = &index->shards[shard_no];
	for (uint32_t b = 0; b < shard->bucket_count; b++) {
		uint8_t *refs = refs_of(shard, b);
		for (unsigned e = 0; e < BUCKET_ENTRIES; e++) {
			uint8_t marks = refs[e] & (uint8_t)~REFS_MASK;
			if (refs[e] & REFS_MASK)
				entry_counts(index, shard->buckets[b].entries[e], refs[e], marks);
			refs[e] = marks;
		}
	}
}

void index_slot_counts(const struct index *index, uint32_t slot, uint32_t *ret_entries,
		       uint32_t *ret_live)
{
	*ret_entries = slot < index->slot_room ? index->slots[slot].entries : 0;
	*ret_live =
		slot < index->slot_room ? index->slots[slot].live + index->slots[slot].marked : 0;
}

uint64_t index_live_count(const struct index *index)
{
	return index->live_count;
}

size_t index_shard_count(const struct index *index, uint32_t shard_no)
{
	return index->shards[shard_no].entry_count;
}

void index_shard_store(const struct index *index, uint32_t shard_no, uint64_t *out)
{
	const struct shard *shard = &index->shards[shard_no];
	for (uint32_t b = 0; b < shard->bucket_count; b++)
		for (unsigned e = 0; e < BUCKET_ENTRIES && shard->buckets[b].entries[e]; e++)
			*out++ = shard->buckets[b].entries[e];
}

int index_shard_load(struct index *index, uint32_t shard_no, const uint64_t *entries, size_t count)
{
	struct shard *shard = &index->shards[shard_no];
	uint64_t total = shard->entry_count + count;
	/* 7.2 of 8 entries: most shards find their places at once, the others a size later. */
	uint32_t buckets = (uint32_t)min_u64(total * 10 / 72 + 1, BUCKETS_MAX);
	if (count > 0 && buckets > shard->bucket_count) {
		int res = shard_grow(index, shard, buckets, total);
		if (res < 0)
			return res;
	}
	for (size_t i = 0; i < count; i++) {
		if (location_slot(entries[i] & LOCATION_MASK) == 0)
			return -VS_EFORMAT;
		int res = shard_insert(index, shard, entries[i]);
		if (res < 0)
			return res;
	}
	return 0;
}
