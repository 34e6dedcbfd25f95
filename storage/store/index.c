/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 2^14 shards by the id's first bits; a shard is an array of 64-byte buckets of seven entries, and
 * grows by an eighth when both buckets of an entry are full, and none of the entries there can go
 * to its other choice. An entry is {20 bits of the id, 44 bits of location}; both bucket choices
 * follow from those 20 bits alone, so growing needs no id. At 50 million chunks a shard has 3,000
 * entries and a lookup of an absent id meets a false candidate in 0.3 % of cases. An entry is never
 * 0: slots start at 1.
 *
 * An entry has one byte for reclaiming: seven bits of references and a mark. It lies in the bucket,
 * so that whoever counts or marks misses the processor's caches no more often than who finds.
 * Entries that share a tag share its value, so it is exact or too large, never too small.
 *
 * The marks of a bucket are those of one turn, whose number it has; when marks turn, all others are
 * none from then on, and are cleared when somebody comes by. As the number has eight bits, those
 * that nobody came by are cleared every MARKS_WORN turns, before their number comes again: turning
 * costs what is marked, not what there is.
 */
#include "storage/store/index.h"

#include "proto/err.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUCKET_ENTRIES 7u
#define LOCATION_BITS 44
#define LOCATION_MASK ((UINT64_C(1) << LOCATION_BITS) - 1)
#define BUCKETS_MAX (UINT32_C(1) << 20)
#define BUCKETS_SPARE 64u /* more than entries + this: they share a tag, growing cannot help */

#define REFS_MASK INDEX_REFS_MAX
#define MARK 0x80u
#define MARKS_WORN 128u

struct bucket {
	uint64_t entries[BUCKET_ENTRIES];
	uint8_t refs[BUCKET_ENTRIES];
	uint8_t turn; /* of its marks */
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct bucket) == 64, "a bucket is a line of the processor's caches");

struct shard {
	struct bucket *buckets;
	uint32_t bucket_count;
	uint32_t entry_count : 31, deferred : 1;
};

/* How many entries a segment has, and how many of them are referenced, or not but marked. */
struct slot_count {
	uint32_t entries, live, marked;
};

struct index {
	uint64_t entry_count, bucket_count, live_count;
	uint8_t turn; /* of the marks that count */
	struct slot_count *slots;
	uint32_t slot_room;
	struct shard shards[INDEX_SHARDS];
};

struct index *index_new(void)
{
	return calloc(1, sizeof(struct index));
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

/* The marks of an earlier turn are none. */
static void marks_renew(const struct index *index, struct bucket *bucket)
{
	if (bucket->turn == index->turn)
		return;
	for (unsigned e = 0; e < BUCKET_ENTRIES; e++)
		bucket->refs[e] &= REFS_MASK;
	bucket->turn = index->turn;
}

static void bucket_set(const struct index *index, struct bucket *bucket, unsigned e, uint64_t entry,
		       uint8_t refs)
{
	marks_renew(index, bucket);
	bucket->entries[e] = entry;
	bucket->refs[e] = refs;
}

/* One entry of a full bucket goes to its other choice, if there is room. Where it was:
 * BUCKET_ENTRIES if there is none. */
static unsigned bucket_make_room(const struct index *index, struct shard *shard, uint32_t bucket_no)
{
	struct bucket *bucket = &shard->buckets[bucket_no];
	for (unsigned e = 0; e < BUCKET_ENTRIES; e++) {
		uint32_t choice[2];
		bucket_choices(shard, bucket->entries[e] >> LOCATION_BITS, choice);
		struct bucket *other =
			&shard->buckets[choice[0] == bucket_no ? choice[1] : choice[0]];
		unsigned fill = bucket_fill(other);
		if (fill == BUCKET_ENTRIES)
			continue;
		marks_renew(index, bucket);
		bucket_set(index, other, fill, bucket->entries[e], bucket->refs[e]);
		return e;
	}
	return BUCKET_ENTRIES;
}

static bool shard_place(const struct index *index, struct shard *shard, uint64_t entry,
			uint8_t refs)
{
	uint32_t choice[2];
	bucket_choices(shard, entry >> LOCATION_BITS, choice);
	unsigned fill[2] = {bucket_fill(&shard->buckets[choice[0]]),
			    bucket_fill(&shard->buckets[choice[1]])};
	unsigned to = fill[1] < fill[0], e = fill[to];
	if (e == BUCKET_ENTRIES)
		e = bucket_make_room(index, shard, choice[to = 0]);
	if (e == BUCKET_ENTRIES)
		e = bucket_make_room(index, shard, choice[to = 1]);
	if (e == BUCKET_ENTRIES)
		return false;
	bucket_set(index, &shard->buckets[choice[to]], e, entry, refs);
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
		bigger.buckets = aligned_alloc(64, count * sizeof(struct bucket));
		if (!bigger.buckets)
			return -ENOMEM;
		memset(bigger.buckets, 0, count * sizeof(struct bucket));
		bool fits = true;
		for (uint32_t b = 0; b < shard->bucket_count && fits; b++) {
			struct bucket *from = &shard->buckets[b];
			marks_renew(index, from);
			for (unsigned e = 0; e < BUCKET_ENTRIES && from->entries[e] && fits; e++)
				fits = shard_place(index, &bigger, from->entries[e], from->refs[e]);
		}
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

/* The byte of an entry changes, whose mark is of this turn; 0: it comes or goes. */
static void entry_counts(struct index *index, uint64_t entry, uint8_t before, uint8_t after)
{
	struct slot_count *slot = slot_of(index, entry);
	bool was = before & REFS_MASK, is = after & REFS_MASK;
	slot->live += (uint32_t)is - (uint32_t)was;
	index->live_count += (uint64_t)is - (uint64_t)was;
	slot->marked += (uint32_t)(!is && after & MARK);
	slot->marked -= (uint32_t)(!was && before & MARK);
}

/* ---- entries that share a tag ---- */

/* A bit for each entry of that tag. No branch depends on what is there: where in a bucket an entry
 * is cannot be foreseen. */
static unsigned bucket_matches(const struct bucket *bucket, uint64_t tag)
{
	unsigned matches = 0;
	for (unsigned e = 0; e < BUCKET_ENTRIES; e++) {
		uint64_t location = bucket->entries[e] ^ tag << LOCATION_BITS;
		matches |= (unsigned)(location - 1 < LOCATION_MASK) << e; /* never 0: see above */
	}
	return matches;
}

/* A walk over an id's entries, or over those of a tag. Their marks are of this turn. */
struct tag_walk {
	struct bucket *buckets[2];
	unsigned matches; /* of the first bucket, and behind them of the second */
};

static void tag_begin(const struct index *index, uint32_t shard_no, uint64_t tag,
		      struct tag_walk *walk)
{
	const struct shard *shard = &index->shards[shard_no];
	uint32_t choice[2];
	walk->matches = 0;
	if (!shard->bucket_count)
		return;
	bucket_choices(shard, tag, choice);
	for (unsigned c = 0; c < (choice[0] == choice[1] ? 1u : 2u); c++) {
		walk->buckets[c] = &shard->buckets[choice[c]];
		marks_renew(index, walk->buckets[c]);
		walk->matches |= bucket_matches(walk->buckets[c], tag) << c * BUCKET_ENTRIES;
	}
}

static void id_begin(const struct index *index, const struct id *id, struct tag_walk *walk)
{
	tag_begin(index, index_shard_of(id), tag_of(id), walk);
}

/* The next entry, or 0; *ret_refs is its byte. */
static uint64_t tag_next(struct tag_walk *walk, uint8_t **ret_refs)
{
	if (!walk->matches)
		return 0;
	unsigned at = (unsigned)__builtin_ctz(walk->matches), e = at % BUCKET_ENTRIES;
	struct bucket *bucket = walk->buckets[at / BUCKET_ENTRIES];
	walk->matches &= walk->matches - 1;
	*ret_refs = &bucket->refs[e];
	return bucket->entries[e];
}

static int shard_insert(struct index *index, uint32_t shard_no, uint64_t entry)
{
	struct shard *shard = &index->shards[shard_no];
	struct tag_walk walk;
	uint8_t *same, refs = MARK;
	uint32_t slot = location_slot(entry & LOCATION_MASK);
	int res = slots_room(index, slot);
	tag_begin(index, shard_no, entry >> LOCATION_BITS, &walk);
	if (tag_next(&walk, &same))
		refs |= *same;
	while (res == 0 && (!shard->bucket_count || !shard_place(index, shard, entry, refs)))
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
	return shard_insert(index, index_shard_of(id), tag_of(id) << LOCATION_BITS | location);
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
			marks_renew(index, bucket);
			entry_counts(index, entry, bucket->refs[e], 0);
			slot_of(index, entry)->entries--;
			bucket_set(index, bucket, e, bucket->entries[fill - 1],
				   bucket->refs[fill - 1]);
			bucket_set(index, bucket, fill - 1, 0, 0);
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
	return sizeof(*index) + index->bucket_count * sizeof(struct bucket) +
	       index->slot_room * sizeof(struct slot_count);
}

/* ---- references and marks ---- */

unsigned index_refs(const struct index *index, const struct id *id)
{
	struct tag_walk walk;
	uint8_t *refs;
	id_begin(index, id, &walk);
	return tag_next(&walk, &refs) ? *refs & REFS_MASK : 0;
}

bool index_ref(struct index *index, const struct id *id)
{
	struct tag_walk walk;
	uint8_t *refs;
	uint64_t entry;
	bool found = false;
	id_begin(index, id, &walk);
	while ((entry = tag_next(&walk, &refs))) {
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
	struct tag_walk walk;
	uint8_t *refs;
	uint64_t entry;
	bool last = false;
	id_begin(index, id, &walk);
	while ((entry = tag_next(&walk, &refs))) {
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
	struct tag_walk walk;
	uint8_t *refs;
	uint64_t entry;
	id_begin(index, id, &walk);
	while ((entry = tag_next(&walk, &refs))) {
		entry_counts(index, entry, *refs, *refs | MARK);
		*refs |= MARK;
	}
}

bool index_dead(const struct index *index, const struct id *id)
{
	struct tag_walk walk;
	uint8_t *refs;
	id_begin(index, id, &walk);
	return !tag_next(&walk, &refs) || *refs == 0;
}

void index_marks_turn(struct index *index)
{
	index->turn++;
	for (uint32_t slot = 0; slot < index->slot_room; slot++)
		index->slots[slot].marked = 0; /* nobody has the new one yet */
}

bool index_marks_worn(const struct index *index)
{
	return index->turn % MARKS_WORN == MARKS_WORN - 1;
}

void index_marks_clear(struct index *index, uint32_t shard_no)
{
	const struct shard *shard = &index->shards[shard_no];
	for (uint32_t b = 0; b < shard->bucket_count; b++)
		marks_renew(index, &shard->buckets[b]);
}

void index_refs_clear(struct index *index, uint32_t shard_no)
{
	const struct shard *shard = &index->shards[shard_no];
	for (uint32_t b = 0; b < shard->bucket_count; b++) {
		struct bucket *bucket = &shard->buckets[b];
		marks_renew(index, bucket);
		for (unsigned e = 0; e < BUCKET_ENTRIES; e++) {
			uint8_t mark = bucket->refs[e] & MARK;
			if (bucket->refs[e] & REFS_MASK)
				entry_counts(index, bucket->entries[e], bucket->refs[e], mark);
			bucket->refs[e] = mark;
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
	/* 6.3 of 7 entries: most shards find their places at once, the others a size later. */
	uint32_t buckets = (uint32_t)min_u64(total * 10 / 63 + 1, BUCKETS_MAX);
	if (count > 0 && buckets > shard->bucket_count) {
		int res = shard_grow(index, shard, buckets, total);
		if (res < 0)
			return res;
	}
	for (size_t i = 0; i < count; i++) {
		if (location_slot(entries[i] & LOCATION_MASK) == 0)
			return -VS_EFORMAT;
		int res = shard_insert(index, shard_no, entries[i]);
		if (res < 0)
			return res;
	}
	return 0;
}
