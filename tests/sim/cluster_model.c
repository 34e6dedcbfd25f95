/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/cluster_model.h"

#include "tests/sim/fail.h"
#include "tests/sim/model.h"
#ifdef SIM_PROCESS
#include "tests/sim/process_outside.h"
#endif

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void version_add(struct cluster_block *block, uint64_t value, uint64_t submitted,
			uint64_t answered)
{
	if (block->count == block->room) {
		block->room = block->room ? 2 * block->room : 8;
		block->versions =
			reallocarray(block->versions, block->room, sizeof(*block->versions));
		assert(block->versions);
	}
	block->versions[block->count++] = (struct cluster_version){value, submitted, answered};
}

void cluster_model_make(struct cluster_model *model, uint32_t block_count)
{
	model->events = 1;
	model->block_count = block_count;
	model->blocks = calloc(block_count, sizeof(*model->blocks));
	for (uint32_t b = 0; b < block_count; b++)
		version_add(&model->blocks[b], 0, 0, 1);
}

void cluster_model_free(struct cluster_model *model)
{
	for (uint32_t b = 0; b < model->block_count; b++)
		free(model->blocks[b].versions);
	free(model->blocks);
}

bool cluster_idle(const struct cluster_model *model, uint32_t block, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (model->blocks[block + i].busy)
			return false;
	return true;
}

void cluster_submit(struct cluster_model *model, uint32_t block, uint64_t value, uint64_t number)
{
	version_add(&model->blocks[block], value, number, 0);
}

void cluster_answered(struct cluster_model *model, uint32_t block, uint64_t number)
{
	struct cluster_block *at = &model->blocks[block];
	for (uint32_t i = at->count; i-- > 0;)
		if (at->versions[i].submitted == number) {
			at->versions[i].answered = model->events;
			return;
		}
}

void cluster_flushed(struct cluster_model *model, uint64_t number)
{
	for (uint32_t b = 0; b < model->block_count; b++) {
		struct cluster_block *block = &model->blocks[b];
		for (uint32_t i = block->flushed; i < block->count; i++)
			if (block->versions[i].answered && block->versions[i].answered < number)
				block->flushed = i;
	}
}

bool cluster_is(uint64_t value, const uint8_t *got)
{
	uint8_t want[BLOCK_BYTES] = {0};
	if (value)
		model_fill(want, value);
	return memcmp(want, got, BLOCK_BYTES) == 0;
}

static uint32_t last_answered(const struct cluster_block *block, uint64_t before)
{
	for (uint32_t i = block->count; i-- > 0;)
		if (block->versions[i].answered && block->versions[i].answered < before)
			return i;
	return 0;
}

const char *cluster_check(struct cluster_model *model, const uint8_t *image, enum floor floor)
{
	uint64_t survivor = 0;
	for (uint32_t b = 0; b < model->block_count; b++) {
		struct cluster_block *block = &model->blocks[b];
		const uint8_t *got = image + b * (size_t)BLOCK_BYTES;
		uint32_t least = floor == FLOOR_ANSWERED  ? last_answered(block, UINT64_MAX)
				 : floor == FLOOR_FLUSHED ? block->flushed
							  : 0;
		uint32_t first = least;
		while (first < block->count && !cluster_is(block->versions[first].value, got))
			first++;
		if (first == block->count) {
			while (least > 0 && !cluster_is(block->versions[least].value, got))
				least--;
			FAIL("block %u: %s", b,
			     cluster_is(block->versions[least].value, got)
				     ? "what was promised is lost"
				     : "it is nothing that was ever written there");
		}
		survivor = survivor > block->versions[first].submitted
				   ? survivor
				   : block->versions[first].submitted;
		block->seen = first;
		for (uint32_t i = first; i < block->count; i++)
			if (block->versions[i].value == block->versions[first].value)
				block->seen = i;
	}
	for (uint32_t b = 0; b < model->block_count; b++) {
		const struct cluster_block *block = &model->blocks[b];
		if (block->seen < last_answered(block, survivor))
			FAIL("block %u: older than what was written after it and is there", b);
	}
	return NULL;
}

void cluster_settle(struct cluster_model *model, bool safe)
{
	model->events += 2;
	for (uint32_t b = 0; b < model->block_count; b++) {
		struct cluster_block *block = &model->blocks[b];
		block->busy = false;
		version_add(block, block->versions[block->seen].value, model->events - 1,
			    model->events);
		if (safe)
			block->flushed = block->count - 1;
	}
	model->events++;
}
