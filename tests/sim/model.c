/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/model.h"

#include "tests/sim/fail.h"

#include <stdlib.h>
#include <string.h>

static void block_forget_older(struct block *block, const struct version *keep)
{
	while (block->oldest != keep) {
		struct version *next = block->oldest->next;
		free(block->oldest->data);
		free(block->oldest);
		block->oldest = next;
	}
}

static void block_forget_newer(struct block *block, struct version *keep)
{
	while (keep->next) {
		struct version *gone = keep->next;
		keep->next = gone->next;
		free(gone->data);
		free(gone);
	}
	block->newest = keep;
}

struct version *model_submit(struct model *model, struct block *block, uint8_t *data)
{
	struct version *version = calloc(1, sizeof(*version));
	version->data = data;
	version->submitted = model->events;
	if (block->newest)
		block->newest->next = version;
	else
		block->oldest = version;
	block->newest = version;
	return version;
}

void model_volume_grow(struct model *model, unsigned volume, uint32_t block_count)
{
	uint32_t had = model->block_counts[volume];
	model->blocks[volume] =
		reallocarray(model->blocks[volume], block_count, sizeof(struct block));
	memset(model->blocks[volume] + had, 0, (block_count - had) * sizeof(struct block));
	for (uint32_t b = had; b < block_count; b++) {
		struct version *version = model_submit(model, &model->blocks[volume][b], NULL);
		*version = (struct version){.answered = 1};
	}
	model->block_counts[volume] = block_count;
}

void model_volume_make(struct model *model, unsigned volume, uint32_t block_count)
{
	model_volume_drop(model, volume);
	model_volume_grow(model, volume, block_count);
}

void model_volume_drop(struct model *model, unsigned volume)
{
	for (uint32_t b = 0; b < model->block_counts[volume]; b++)
		block_forget_older(&model->blocks[volume][b], NULL);
	free(model->blocks[volume]);
	model->blocks[volume] = NULL;
	model->block_counts[volume] = 0;
}

void model_free(struct model *model)
{
	for (unsigned v = 0; v < MODEL_VOLUMES_MAX; v++)
		model_volume_drop(model, v);
}

bool data_equal(const uint8_t *data, const uint8_t *got)
{
	static const uint8_t zeros[BLOCK_BYTES];
	return memcmp(data ? data : zeros, got, BLOCK_BYTES) == 0;
}

void model_flushed(struct model *model, uint64_t number)
{
	for (unsigned v = 0; v < MODEL_VOLUMES_MAX && !model->keeps_all; v++)
		for (uint32_t b = 0; b < model->block_counts[v]; b++) {
			struct block *block = &model->blocks[v][b];
			struct version *keep = block->oldest;
			for (struct version *at = block->oldest; at; at = at->next)
				if (at->answered && at->answered < number)
					keep = at;
			block_forget_older(block, keep);
		}
}

void model_answered(struct model *model, struct block *block, uint64_t number, bool durable)
{
	block->lost = false;
	struct version *at = block->oldest;
	while (at && at->submitted != number)
		at = at->next;
	if (!at) /* a newer one is durable already */
		return;
	at->answered = model->events;
	if (durable && !model->keeps_all)
		block_forget_older(block, at);
}

uint8_t *model_image(const struct model *model, unsigned volume)
{
	uint8_t *image = malloc(model->block_counts[volume] * (size_t)BLOCK_BYTES);
	for (uint32_t b = 0; b < model->block_counts[volume]; b++) {
		const uint8_t *data = model->blocks[volume][b].newest->data;
		if (data)
			memcpy(image + (size_t)b * BLOCK_BYTES, data, BLOCK_BYTES);
		else
			memset(image + (size_t)b * BLOCK_BYTES, 0, BLOCK_BYTES);
	}
	return image;
}

void model_fill(uint8_t *data, uint64_t value)
{
	uint64_t state = value * 0x9e3779b97f4a7c15u;
	for (unsigned i = 0; i < BLOCK_BYTES; i += 8) {
		if (i % 64 == 0)
			state = state * 6364136223846793005u + 1442695040888963407u;
		memcpy(data + i, &state, 8);
	}
}

/* The newest version that fits, from `least` on. */
static struct version *block_match(struct version *least, const uint8_t *got)
{
	struct version *found = NULL;
	for (struct version *at = least; at; at = at->next)
		if (data_equal(at->data, got))
			found = at;
	return found;
}

bool model_impossible(const struct block *block, const uint8_t *got)
{
	return block->lost && !block->busy && !block_match(block->oldest, got);
}

const char *model_check(struct model *model, unsigned volume, const uint8_t *image,
			const bool *unreadable, bool power_cut, uint64_t *survivor)
{
	for (uint32_t b = 0; b < model->block_counts[volume]; b++) {
		struct block *block = &model->blocks[volume][b];
		const uint8_t *got = image + (size_t)b * BLOCK_BYTES;
		struct version *least = block->oldest;
		block->seen = NULL;
		if (unreadable && unreadable[b])
			continue;
		for (struct version *at = block->oldest; at && !power_cut; at = at->next)
			if (at->answered)
				least = at;
		block->seen = block_match(least, got);
		if (!block->seen)
			FAIL("volume %c, block %u: %s", 'a' + (int)volume, b,
			     block_match(block->oldest, got) ? "an answered write is lost"
							     : "it is nothing that it should be");
		/* A version that looks like an older one proves nothing. */
		struct version *first = least;
		while (!data_equal(first->data, got))
			first = first->next;
		*survivor = max_u64(*survivor, first->submitted);
	}
	return NULL;
}

const char *model_check_order(struct model *model, unsigned volume, const uint8_t *image,
			      uint64_t survivor)
{
	for (uint32_t b = 0; b < model->block_counts[volume]; b++) {
		struct block *block = &model->blocks[volume][b];
		struct version *least = block->oldest;
		for (struct version *at = block->oldest; at; at = at->next)
			if ((at->answered && at->answered < survivor) ||
			    (at->together && at->together < survivor))
				least = at;
		if (block->seen && !block_match(least, image + (size_t)b * BLOCK_BYTES))
			FAIL("volume %c, block %u: lost, though a write submitted after its "
			     "answer survived",
			     'a' + (int)volume, b);
	}
	return NULL;
}

void model_settle(struct model *model, unsigned volume)
{
	for (uint32_t b = 0; b < model->block_counts[volume]; b++) {
		struct block *block = &model->blocks[volume][b];
		struct version *keep = block->seen;
		block->busy = false;
		block->lost = !block->seen;
		if (block->lost) { /* any of its versions may be what is damaged */
			for (struct version *at = block->oldest; at; at = at->next)
				at->submitted = at->answered = at->together = 0;
			continue;
		}
		block_forget_older(block, keep);
		block_forget_newer(block, keep);
		keep->submitted = keep->together = 0;
		keep->answered = 1;
	}
}
