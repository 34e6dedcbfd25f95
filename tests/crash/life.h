/* SPDX-License-Identifier: Apache-2.0 */
/* A real run of the store, through a recorder, and all that was known in it at each moment. */
#ifndef TESTS_CRASH_LIFE_H
#define TESTS_CRASH_LIFE_H

#include "storage/rt/recorder.h"
#include "storage/store/store_admin.h"

#define VOLUMES 2u /* "a" and "b" */
#define BLOCKS 512u
#define SNAPSHOTS 12u

enum in_flight { COMMIT, FOLD, CHECKPOINT, SEGMENT, IN_FLIGHT_KINDS };

struct span {
	uint64_t from, to; /* moments */
};

struct operation {
	struct store_request request; /* first */
	unsigned volume;
	uint32_t block, count;
	uint64_t value, number;
	bool busy;
};

struct taken {
	struct admin_op admin; /* first */
	char name[32];
	unsigned volume;
	bool busy;
	/* As of the moment that is looked at. */
	uint8_t *image;
	bool answered;
	uint64_t submitted;
};

/* What the program knew, and when: the model of any moment is made of it. */
struct happening {
	uint64_t moment;
	bool answered; /* else: submitted */
	struct operation *operation;
	struct taken *snapshot;
};

extern struct life {
	struct recorder *recorder;
	struct env *env;
	struct store *store;
	uint64_t seed;
	struct happening *happenings;
	size_t happening_count;
	struct taken snapshots[SNAPSHOTS];
	unsigned snapshot_count;
	struct {
		struct span *at;
		size_t count;
	} spans[IN_FLIGHT_KINDS];
} life;

uint64_t life_random(uint64_t below);
void life_prepare(const char *path); /* the store, with its volumes */
void life_run(const char *path);
void life_learn_spans(void); /* what was under way when, by the files that were written */
void life_free(void);

#endif
