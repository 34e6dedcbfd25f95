/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reader may see of each block of each volume: versions, each with the moments of its
 * submission and of its answer. After a kill a block is what was answered last, or something that
 * was under way; after a power cut it is what was made durable, or something later, and nothing
 * that was answered before a survivor was submitted is missing.
 */
#ifndef TESTS_SIM_MODEL_H
#define TESTS_SIM_MODEL_H

#include "proto/units.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_VOLUMES_MAX 4u

/* What a block was made to be, and when. */
struct version {
	uint8_t *data;		      /* NULL: zeros */
	uint64_t submitted, answered; /* event numbers; answered 0: not, or with an error */
	uint64_t together;	      /* not 0: all versions of this number survive, or none */
	struct version *next;	      /* newer */
};

struct block {
	struct version *oldest, *newest; /* the oldest one is durable, or nothing older counts */
	struct version *seen;		 /* by a check: the newest that it may be */
	bool busy;			 /* a write of it is under way */
	bool lost; /* a check could not read it: an error, or one of its versions, until written */
};

struct model {
	uint64_t events; /* the moment: counts submissions and answers */
	bool keeps_all;	 /* damage is expected: what was durable may be older again */
	uint32_t block_counts[MODEL_VOLUMES_MAX];
	struct block *blocks[MODEL_VOLUMES_MAX];
};

void model_volume_make(struct model *model, unsigned volume,
		       uint32_t block_count); /* of zeros, durable */
void model_volume_grow(struct model *model, unsigned volume, uint32_t block_count);
void model_volume_drop(struct model *model, unsigned volume);
void model_free(struct model *model);

/* A version begins; takes data over. */
struct version *model_submit(struct model *model, struct block *block, uint8_t *data);
/* What a flush that was submitted at `number` made durable. */
void model_flushed(struct model *model, uint64_t number);
/* The version that was submitted at `number` was answered now; durable: as it was asked (FUA). */
void model_answered(struct model *model, struct block *block, uint64_t number, bool durable);
bool data_equal(const uint8_t *data, const uint8_t *got); /* of one block; NULL: zeros */
/* The volume as its newest versions make it, in new memory. */
uint8_t *model_image(const struct model *model, unsigned volume);
/* A block that was read is not what a lost one may be: anything but zeros made up, or another's. */
bool model_impossible(const struct block *block, const uint8_t *got);
/* A block of data that compresses, made of a number. */
void model_fill(uint8_t *data, uint64_t value);

/* The check after a crash, in three steps over all volumes. The first: each block is something that
 * it may be; raises *survivor to the submission of the newest write that is there. unreadable:
 * blocks that are not looked at; or NULL. NULL, or a sentence. */
const char *model_check(struct model *model, unsigned volume, const uint8_t *image,
			const bool *unreadable, bool power_cut, uint64_t *survivor);
/* The second, after a power cut: nothing older than the survivor is missing. */
const char *model_check_order(struct model *model, unsigned volume, const uint8_t *image,
			      uint64_t survivor);
/* The third: what was seen is what counts from now on. */
void model_settle(struct model *model, unsigned volume);

#endif
