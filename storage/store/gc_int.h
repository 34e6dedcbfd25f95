/* SPDX-License-Identifier: Apache-2.0 */
/* What gc.c, a collection, and gc_need.c, which begins one by itself, share. */
#ifndef STORAGE_STORE_GC_INT_H
#define STORAGE_STORE_GC_INT_H

#include "storage/store/behind.h"

struct segment;

#define GARBAGE_PERCENT_LEAST 3u /* of a segment, where somebody waits for space */

/* What begins collections by itself; a collection notes in it what it has done. */
struct gc_need {
	struct store_work own;
	bool busy, wanted;
	bool awaited; /* somebody waits for space, and no collection has seen it */
	uint64_t begun_ns, folds, roots_gone, segment_bytes; /* when the last one began */
	bool ever;	/* one began; until then begun_ns is when the store was opened */
	bool fruitless; /* it freed nothing: only a change makes another one useful */
	bool old_left;	/* there may be more to compress anew */
	uint64_t old_looked_ns;
	char failed[SENTENCE_BYTES]; /* why the last one did, or "" */
};

bool gc_space_low(const struct store *store);
bool gc_space_scarce(const struct store *store); /* soon somebody waits for it */
/* How many percent of a segment must be garbage, by the room that there is. */
uint32_t gc_percent_worth(const struct store *store);
/* Segments with smaller ids are old. A store whose format is older than recompression may not hold
 * such frames. */
uint64_t gc_old_before(const struct store *store);
/* May a segment, or NULL, be compressed anew for its age? */
bool gc_pack_candidate(const struct segment *segment, uint64_t before);

#endif
