/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guests of a simulated store, for sim_store and sim_week: requests side by side on two
 * volumes, each told to the model when it is submitted and again when it is answered. A read of
 * what is known never sees anything else, and what fails must have a reason.
 */
#ifndef TESTS_SIM_GUESTS_H
#define TESTS_SIM_GUESTS_H

#include "storage/store/store.h"
#include "tests/sim/fail.h"
#include "tests/sim/model.h"
#include "tests/sim/simenv.h"

#define VOLUMES 2u
#define STEPS_MAX 3000000u /* more, and nothing moves any more */

extern const char *const volume_names[VOLUMES];

/* The first member of a world. */
struct guests {
	struct sim *sim;
	struct model model;
	struct view *views[VOLUMES];
	unsigned under_way, writes_under_way; /* requests */
	bool admin_busy, work_busy;	      /* the world's change, its long work */
	const char *wrong;		      /* what was seen that must not be */
	/* A request ended with an error: NULL, or what is wrong with that. */
	const char *(*request_failed)(struct guests *guests, enum request_kind kind);
};

struct operation {
	struct store_request request; /* first: found back by its address */
	struct guests *guests;
	unsigned volume;
	uint32_t block, count;
	uint64_t number; /* the moment of its submission */
	uint8_t *data;
	void *memory; /* that data lies in */
};

/* Functions that return a sentence return NULL when all is well. */

const char *guests_views_open(struct guests *guests, struct store *store);
void guests_views_close(struct guests *guests);
/* After sim_crash: the process's memory is given back, nothing is under way any more. */
void guests_abandon(struct guests *guests, struct store *store);

/* No write of these blocks is under way. */
bool guests_blocks_idle(const struct guests *guests, unsigned volume, uint32_t block,
			uint32_t count);
/* To be submitted at once; a write's versions are told to the model before, and its blocks are busy
 * from then on. It frees itself. */
struct operation *guests_operation_new(struct guests *guests, enum request_kind kind,
				       unsigned volume, uint32_t block, uint32_t count);
/* All requests, the change and the long work have ended; or what is wrong. */
const char *guests_drain(struct guests *guests);

/* Reads and waits; its result. */
int guests_read(struct guests *guests, struct view *view, uint32_t block, uint32_t count,
		uint8_t *to);
/* As it, block by block: says of each whether it could not be read. */
void guests_read_each(struct guests *guests, struct view *view, uint32_t block, uint32_t count,
		      uint8_t *to, bool *ret_unreadable);
/* After an opening: what was read of all volumes, one after the other, is what they may be, and is
 * what counts from now on. in_order: after a power cut nothing is missing that is older than what
 * survived; the log is one chain for all volumes, so what survives of one tells of the others. */
const char *guests_check(struct guests *guests, const uint8_t *images, const bool *unreadable,
			 bool power_cut, bool in_order);

#endif
