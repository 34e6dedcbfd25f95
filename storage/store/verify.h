/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records read side by side, and what is wrong with them: what verify.c, which reads, and check.c,
 * which names every record there is, share.
 *
 * Keeps true: a bounded number of records is in memory; a record that is bad is read by its id once
 * more before it counts, as another copy may be whole, or heal.c may get one.
 */
#ifndef STORAGE_STORE_VERIFY_H
#define STORAGE_STORE_VERIFY_H

#include "storage/store/work.h"

#define VERIFY_COUNT 16u

struct verify_slot {
	struct verify *verify;
	struct env_job job;
	struct id id, computed;
	uint8_t type, domain;
	uint64_t location; /* {segment, offset}; 0: wherever it is, it is a chunk of the map */
	uint64_t chunk_no; /* of the map */
	bool busy;
	int first_res; /* of the record at `location`, when another one is read */
	uint8_t *raw;
};

struct verify {
	struct work work;
	struct verify_slot slots[VERIFY_COUNT];
	uint8_t *memory;
	unsigned busy;
	unsigned window; /* records read side by side */
	struct id *damaged_ids;
	uint32_t damaged_count;
	/* The map that is walked: its name, and, of a check, the root it is of. */
	const char *name;
	const struct root *root;
	struct walk walk;
	bool walking;
};

/* -ENOMEM. The work's callbacks are the caller's to set. */
int verify_init(struct verify *verify, struct store *store);
void verify_exit(struct verify *verify);
/* 0: it is being read, and work_kick says when it was; WAITING: the work's wait is woken;
 * WINDOW_FULL: work_kick says when there is room. What is bad is reported and counted. */
#define WINDOW_FULL 3
int verify_record(struct verify *verify, const struct id *id, uint8_t type, uint64_t location,
		  uint64_t chunk_no);
bool verify_damaged(const struct verify *verify, const struct id *id); /* found so, by this work */
/* False: the root was purged since the check began, and what it named may be gone. */
bool verify_root_alive(const struct verify *verify);

#endif
