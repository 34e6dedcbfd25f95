/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work: it goes on in steps while the store serves, tells what it finds, and may be cancelled.
 */
#ifndef STORAGE_STORE_STORE_WORK_H
#define STORAGE_STORE_STORE_WORK_H

#include "storage/store/store.h"

/* Goes on in steps; progress in [0, total]. cancel may be set any time. */
struct store_work {
	struct io_op op; /* done: res 0, or a negative code; sentence then says more */
	char sentence[SENTENCE_BYTES];
	bool cancel;
	bool thorough;		  /* gc: counts all anew, whatever it knows */
	bool recompress;	  /* gc: compresses all that was not yet anew, however young */
	uint64_t progress, total; /* bytes or objects */
	uint64_t freed_bytes;	  /* gc: of files that went, without what of them was moved */
	uint64_t chunks, damaged; /* check, verify: records read and found bad; gc: counted, bad */
	uint64_t damaged_files;	  /* check: of the damaged, what is no record, as a header */
	uint64_t mended; /* check: bad ones of whose id there is a whole record, if by healing */
	uint64_t differing_bytes; /* diff */
	/* gc, check, verify, diff: one line a finding: what is wrong and what it affects. The
	 * callback may be NULL. */
	void (*report)(struct store_work *work, const char *line);
	/* diff: a range that differs. May be NULL. */
	void (*range)(struct store_work *work, uint64_t offset_bytes, uint64_t length_bytes);
	void *state; /* the store's own */
};
/* Counts what live maps name, empties the segments with most garbage, and drops them. */
void store_gc(struct store *store, struct store_work *work);
/* Reads every record and map node and every root's tree. res: 0 even when damage was found. */
void store_check(struct store *store, struct store_work *work);
/* Every stored byte against its checksum, in large reads that make room for guests, and all maps;
 * deep: as store_check, at a gentler pace. What it has gone through counts as scrubbed. */
void store_scrub(struct store *store, struct store_work *work, bool deep);
/* One root's data: "NAME" (after a fold) or "NAME@SNAP". */
void store_verify(struct store *store, struct store_work *work, const char *name);
/* Chunks that differ between two of VOL, VOL@SNAP (of one domain), by their maps. */
void store_diff(struct store *store, struct store_work *work, const char *a, const char *b);
/* Folds a volume's log blocks into its map now (NULL: all volumes). */
void store_fold(struct store *store, struct store_work *work, const char *name);

#endif
