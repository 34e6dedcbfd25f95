/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The durable records of one segment as they lie on the disk: large reads in the file's order, a
 * few under way, each proved by a worker while the next ones are read. Of each record the header,
 * the hashes that its id is made of and every stored byte's checksum are looked at; nothing is
 * decoded. What does not hold is a suspect: whoever sweeps reads that record by itself and judges
 * it.
 *
 * Keeps true: while guests are served it takes the disk and the workers for a quarter of the time
 * at most, one read at a time; a bounded number of bytes is in memory; the segment's file and
 * directory stay while it is under way.
 */
#ifndef STORAGE_STORE_SWEEP_H
#define STORAGE_STORE_SWEEP_H

#include "storage/store/pace.h"
#include "storage/store/segments.h"
#include "storage/store/work.h"

#define SWEEP_PARTS 4u
#define SWEEP_PART_BYTES (512u * 1024)
#define SWEEP_PART_RECORDS 256u
#define SWEEP_PART_FRAMES 1024u

struct sweep_part {
	struct sweep *sweep;
	struct io_op op;
	struct env_job job;
	uint8_t *buf;
	uint64_t offset;	      /* of buf in the file */
	uint32_t bytes, first, count; /* records, by their place in the directory */
	uint32_t told;		      /* suspects among the first `told` were taken */
	bool used, done;
	bool suspect[SWEEP_PART_RECORDS];
	/* Copies: the directory of an open segment grows meanwhile. */
	struct dir_entry entries[SWEEP_PART_RECORDS];
	struct frame_entry frames[SWEEP_PART_FRAMES];
};

struct sweep {
	struct store *store;
	void (*wake)(struct sweep *sweep); /* step may go on */

	/* sweep.c's own; zero at the start */
	struct segment *segment; /* in use */
	uint32_t next, end;	 /* the first record that no part has; what was durable */
	unsigned busy;		 /* reads and jobs under way */
	uint8_t *memory;
	struct sweep_part parts[SWEEP_PARTS];
	struct guests_seen guests;
	uint64_t begun_ns; /* of the last part */
	struct env_timer rest;
	bool resting;
};

/* Its directory is in memory. -ENOMEM, or as opening its file. */
int sweep_begin(struct sweep *sweep, struct segment *segment);
/* 0: all of it was looked at, and sweep has let go of the segment. SWEEP_SUSPECT: *ret_entry is to
 * be judged, or, when that must wait, it comes again unless sweep_told was called. WAITING: through
 * `wait`, when *ret_paced, or wake follows. */
#define SWEEP_SUSPECT 4
int sweep_step(struct sweep *sweep, struct wait *wait, bool *ret_paced, uint32_t *ret_entry);
void sweep_told(struct sweep *sweep, uint32_t entry);
/* Nothing may be under way (busy), unless the env has crashed. */
void sweep_done(struct sweep *sweep);

#endif
