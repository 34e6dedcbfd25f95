/* SPDX-License-Identifier: Apache-2.0 */
/* A pair of stores of which one's copy takes the other's writes commit by commit. */
#ifndef TESTS_UNIT_STORE_LIVE_H
#define TESTS_UNIT_STORE_LIVE_H

#include "tests/unit/store_pair.h"

#define BATCHES_MAX 4096u

struct live {
	struct pair *pair;
	struct store_copy_part parts[4096];
	uint32_t part_count;
	struct batch {
		struct store_copy_part *parts;
		uint32_t part_count;
		struct store_position to;
	} batches[BATCHES_MAX];
	unsigned batch_count, applied;
	struct store_position last;
	unsigned broken;
	struct view *copy;
	struct store_position at;
};

static inline void tap_record(void *owner, const struct store_tap_record *record)
{
	struct live *live = owner;
	if (record->position.vseq <= live->last.vseq)
		return; /* it has taken effect now */
	struct store_copy_part *part = &live->parts[live->part_count++];
	assert_true(live->part_count < 4096);
	*part = (struct store_copy_part){.offset_bytes = record->offset_bytes,
					 .length_bytes = record->length_bytes};
	if (record->data) {
		part->data = aligned_alloc(BLOCK_BYTES, record->length_bytes);
		memcpy((void *)part->data, record->data, record->length_bytes);
	}
	assert_int_equal(record->position.vseq, live->last.vseq + 1); /* none is left out */
	live->last = record->position;
}

static inline void tap_committed(void *owner)
{
	struct live *live = owner;
	if (!live->part_count)
		return;
	struct batch *batch = &live->batches[live->batch_count++];
	assert_true(live->batch_count < BATCHES_MAX);
	batch->parts = malloc(live->part_count * sizeof(live->parts[0]));
	memcpy(batch->parts, live->parts, live->part_count * sizeof(live->parts[0]));
	batch->part_count = live->part_count;
	batch->to = live->last;
	live->part_count = 0;
}

static inline void tap_broken(void *owner, uint32_t volume)
{
	struct live *live = owner;
	live->broken++;
}

static const struct store_tap_ops tap_ops = {tap_record, tap_committed, tap_broken};

/* Tapped, cut, sent: what comes from now on can follow. */
static inline void live_begin(struct live *live)
{
	struct pair *pair = live->pair;
	struct volume_info info = volume_named(pair->from, "a", false);
	live->last = (struct store_position){.epoch = info.epoch, .vseq = info.vseq};
	store_set_tap(pair->from->store, &tap_ops, live);
	assert_int_equal(store_tap(pair->from->store, info.number, true), 0);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	assert_int_equal(
		store_copy_open(pair->to->store, "h1/a", info.uuid, &live->copy, &live->at), 0);
	assert_int_equal(live->at.vseq, info.vseq);
}

static inline int apply(struct live *live, struct batch *from)
{
	struct store_copy_batch batch = {.view = live->copy,
					 .parts = from->parts,
					 .part_count = from->part_count,
					 .from_vseq = live->at.vseq,
					 .to = from->to};
	env_wait_prepare(&batch.op);
	store_copy_apply(&batch);
	int res = (int)env_wait(live->pair->to->env, &batch.op);
	if (res == 0)
		live->at = from->to;
	return res;
}

static inline void batch_free(struct batch *batch)
{
	for (uint32_t i = 0; i < batch->part_count; i++)
		free((void *)batch->parts[i].data);
	free(batch->parts);
}

static inline void apply_all(struct live *live)
{
	for (; live->applied < live->batch_count; live->applied++) {
		assert_int_equal(apply(live, &live->batches[live->applied]), 0);
		batch_free(&live->batches[live->applied]);
	}
}

static inline void live_end(struct live *live)
{
	store_copy_close(live->copy);
	store_set_tap(live->pair->from->store, NULL, NULL);
	for (; live->applied < live->batch_count; live->applied++)
		batch_free(&live->batches[live->applied]);
	free(live);
}

static inline struct live *live_new(struct pair *pair)
{
	struct live *live = calloc(1, sizeof(*live));
	live->pair = pair;
	return live;
}

/* Of all kinds, many at once. */
static inline void write_wildly(struct pair *pair, unsigned count)
{
	enum { AT_ONCE = 8 };
	struct fixture *f = pair->from;
	struct view *view = open_view(f, "a");
	uint8_t *data = aligned_alloc(BLOCK_BYTES, AT_ONCE * 8 * CHUNK_BYTES);
	test_random_fill(&f->seed, data, AT_ONCE * 8 * CHUNK_BYTES);
	for (unsigned i = 0; i < count; i += AT_ONCE) {
		struct store_request requests[AT_ONCE];
		for (unsigned k = 0; k < AT_ONCE; k++) {
			uint64_t kind = test_random(&f->seed) % 5;
			uint64_t unit = kind == 0 ? 512 : kind == 1 ? CHUNK_BYTES : BLOCK_BYTES;
			/* Near each other, so that they meet. */
			uint64_t at = test_random(&f->seed) % (MIB / unit) * unit;
			uint64_t bytes = (1 + test_random(&f->seed) % 4) * unit;
			requests[k] = (struct store_request){
				.view = view,
				.kind = kind == 4 ? REQUEST_ZERO : REQUEST_WRITE,
				.flags = kind == 3 ? REQUEST_FUA : 0,
				.offset_bytes = at,
				.length_bytes = bytes,
				.data = data + (size_t)k * 8 * CHUNK_BYTES};
			test_random_fill(&f->seed, requests[k].data, 64);
			env_wait_prepare(&requests[k].op);
			store_submit(&requests[k]);
		}
		for (unsigned k = 0; k < AT_ONCE; k++)
			assert_int_equal(env_wait(f->env, &requests[k].op), 0);
	}
	store_view_close(view);
	free(data);
}

#endif
