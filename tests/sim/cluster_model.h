/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each block of a replicated volume may be, on whichever host: all its versions, each a number
 * that its data is made of, with the moments of its submission and of its answer. Which of them are
 * too old depends on what happened: a killed primary has what it answered, one without power, and
 * whoever was in step with it, what a flush promised, and a follower by cuts any moment of the
 * past; and none of them lacks what was answered before something that it has was submitted.
 */
#ifndef TESTS_SIM_CLUSTER_MODEL_H
#define TESTS_SIM_CLUSTER_MODEL_H

#include "proto/units.h"

#include <stdbool.h>
#include <stdint.h>

enum floor { FLOOR_ANSWERED, FLOOR_FLUSHED, FLOOR_NONE };

struct cluster_version {
	uint64_t value; /* 0: zeros */
	uint64_t submitted, answered;
};
struct cluster_block {
	struct cluster_version *versions;
	uint32_t count, room, flushed;
	bool busy;
	uint32_t seen;
};
struct cluster_model {
	uint64_t events;
	uint32_t block_count;
	struct cluster_block *blocks;
};

void cluster_model_make(struct cluster_model *model, uint32_t block_count);
void cluster_model_free(struct cluster_model *model);
/* No operation on these blocks is under way. */
bool cluster_idle(const struct cluster_model *model, uint32_t block, uint32_t count);
void cluster_submit(struct cluster_model *model, uint32_t block, uint64_t value, uint64_t number);
void cluster_answered(struct cluster_model *model, uint32_t block, uint64_t number);
void cluster_flushed(struct cluster_model *model, uint64_t number);
bool cluster_is(uint64_t value, const uint8_t *got);
/* NULL, or a sentence. */
const char *cluster_check(struct cluster_model *model, const uint8_t *image, enum floor floor);
/* What the check saw is what the guests go on with; `safe`: and no less. */
void cluster_settle(struct cluster_model *model, bool safe);

#endif
