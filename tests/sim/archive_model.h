/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sim_archive knows of the receiver's copies, and what it says may go there: by
 * storage/repl/README.md ("On the receiver a policy of its own"), from definitions, one snapshot
 * against all others, and without a line of storage/daemon/retention.c.
 */
#ifndef TESTS_SIM_ARCHIVE_MODEL_H
#define TESTS_SIM_ARCHIVE_MODEL_H

#include "storage/store/store_admin.h"

#define COPIES 2u
#define POLICIES 2u
#define SLOTS 12u /* chunks that are written to, of a volume */
#define TAKEN_MAX 400u
#define ITEMS_MAX 800u

/* A snapshot of the sender's. */
struct taken {
	unsigned copy;
	char name[NAME_ROOM];
	uint64_t taken_ns, epoch, vseq; /* epoch 0: it was never offered */
	uint64_t values[SLOTS];
	bool there, cut;
};

/* One that was seen at the receiver. */
struct item {
	uint32_t number;
	unsigned copy;
	const struct taken *taken; /* NULL: made there, by a person or by the store itself */
	char name[NAME_ROOM];
	uint64_t taken_ns, epoch, vseq;
	bool here, cut, held, used; /* used: somebody reads it */
	bool sure;		    /* the sender was told that it is there */
	uint64_t gone_ns;
};

/* What persons have said at the receiver. */
struct law {
	unsigned policy[COPIES]; /* of each copy, from 1; 0: none */
	uint32_t keep[POLICIES][POLICY_KEEPS];
};

/* Which of the copy's go by the law; items are in any order. */
void archive_goes(const struct item *items, size_t count, const struct law *law, unsigned copy,
		  uint64_t now_wall_ns, bool goes[ITEMS_MAX]);
/* A policy took it, by its name, and it is not of a date to come. */
bool archive_counts(const struct item *item, uint64_t now_wall_ns);

#endif
