/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The chunk index: from an id to where its record may lie. It keeps 20 bits of the id, so an answer
 * is a candidate that the caller verifies with the record's full id. 10 to 12 bytes an entry.
 */
#ifndef STORAGE_STORE_INDEX_H
#define STORAGE_STORE_INDEX_H

#include "storage/store/id.h"

#include <stddef.h>

#ifndef INDEX_SHARDS /* tests/sim has fewer, so that a page has several entries */
#define INDEX_SHARDS 16384u
#endif
#define INDEX_CANDIDATES_MAX 14u
#define INDEX_REFS_MAX 127u /* a count that reaches it stays there: nobody knows how many */
#define INDEX_SLOT_MAX ((UINT32_C(1) << 24) - 1)

/* {segment slot (1 to INDEX_SLOT_MAX), offset in units of 64 bytes (20 bits)} */
static inline uint64_t location_of(uint32_t slot, uint32_t offset64)
{
	return (uint64_t)slot << 20 | offset64;
}
static inline uint32_t location_slot(uint64_t location)
{
	return (uint32_t)(location >> 20);
}
static inline uint32_t location_offset64(uint64_t location)
{
	return (uint32_t)(location & 0xfffff);
}

struct index;

struct index *index_new(void); /* NULL: no memory */
void index_free(struct index *index);
/* -ENOMEM. The same id may be there several times (7 for sure, INDEX_CANDIDATES_MAX at most), at
 * several places; one more is -ENOMEM, and costs no memory. */
int index_insert(struct index *index, const struct id *id, uint64_t location);
/* True when it was there. */
bool index_remove(struct index *index, const struct id *id, uint64_t location);
/* How many candidates were written to ret_locations. */
unsigned index_find(const struct index *index, const struct id *id,
		    uint64_t ret_locations[INDEX_CANDIDATES_MAX]);
/* Brings what any function here looks at for an id to the processor, ahead of it. */
void index_prefetch(const struct index *index, const struct id *id);
uint64_t index_count(const struct index *index);
uint64_t index_bytes(const struct index *index);

/* ---- for reclaiming: how often live maps name an entry, and whether somebody used it lately ----
 *
 * Ids that share the 34 bits which the index keeps (3 in 1,000 at 50 million) share one count and
 * one mark: dead may be taken for alive, alive never for dead. A count that reaches 127 stays there
 * until all are counted anew. A new entry has the count of those that share its bits, and the mark.
 */
/* How many references an id has; 0 also when there is no entry. */
unsigned index_refs(const struct index *index, const struct id *id);
/* False: the index has no such entry. */
bool index_ref(struct index *index, const struct id *id);
/* True: it was the last reference. */
bool index_unref(struct index *index, const struct id *id);
void index_touch(struct index *index, const struct id *id);
/* Neither referenced nor touched since the marks turned. */
bool index_dead(const struct index *index, const struct id *id);
/* From now on nothing is touched. */
void index_marks_turn(struct index *index);
/* True: before the next turn every shard's old marks must be cleared (once in 128 turns). */
bool index_marks_worn(const struct index *index);
void index_marks_clear(struct index *index, uint32_t shard_no);
void index_refs_clear(struct index *index, uint32_t shard_no);
/* Entries of a segment, and how many of them are not dead: referenced, or touched. */
void index_slot_counts(const struct index *index, uint32_t slot, uint32_t *ret_entries,
		       uint32_t *ret_live);
uint64_t index_live_count(const struct index *index);

/* Whether exactly this entry is there. */
bool index_has(const struct index *index, const struct id *id, uint64_t location);

/* ---- shard by shard: index_load.c and index_write.c ---- */

uint32_t index_shard_of(const struct id *id);
/* A deferred shard's page is on disk still: it takes entries, but what it lacks is not known, so
 * index_find may not be asked and index_remove may not be used. */
void index_shard_defer(struct index *index, uint32_t shard_no);
bool index_shard_deferred(const struct index *index, uint32_t shard_no);
void index_shard_complete(struct index *index, uint32_t shard_no);
/* The raw entries, little-endian on disk as in memory (x86, arm64). */
size_t index_shard_count(const struct index *index, uint32_t shard_no);
void index_shard_store(const struct index *index, uint32_t shard_no, uint64_t *out);
static inline uint64_t index_entry_location(uint64_t entry)
{
	return entry & ((UINT64_C(1) << 44) - 1);
}
/* Adds foreign entries to a shard. -VS_EFORMAT, -ENOMEM. */
int index_shard_load(struct index *index, uint32_t shard_no, const uint64_t *entries, size_t count);

#endif
