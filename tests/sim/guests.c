/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/guests.h"

#include "proto/units.h"

const char *const volume_names[VOLUMES] = {"a", "b"};

/* ---- views ---- */

const char *guests_views_open(struct guests *guests, struct store *store)
{
	for (unsigned v = 0; v < VOLUMES; v++)
		if (store_view_open(store, volume_names[v], &guests->views[v]) < 0)
			FAIL("volume %s is gone", volume_names[v]);
	return NULL;
}

void guests_views_close(struct guests *guests)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		store_view_close(guests->views[v]);
		guests->views[v] = NULL;
	}
}

void guests_abandon(struct guests *guests, struct store *store)
{
	guests_views_close(guests);
	store_abandon(store);
	guests->under_way = guests->writes_under_way = 0;
	guests->admin_busy = guests->work_busy = false;
}

/* ---- requests side by side ---- */

static struct block *block_of(const struct operation *operation, uint32_t i)
{
	return &operation->guests->model.blocks[operation->volume][operation->block + i];
}

static bool is_write(const struct operation *operation)
{
	return operation->request.kind == REQUEST_WRITE || operation->request.kind == REQUEST_ZERO;
}

static void read_done(const struct operation *operation)
{
	for (uint32_t i = 0; i < operation->count; i++) {
		const struct block *block = block_of(operation, i);
		const uint8_t *got = operation->data + (size_t)i * BLOCK_BYTES;
		if (model_impossible(block, got))
			operation->guests->wrong = "a lost block came back as something else";
		if (block->busy || block->newest->submitted > operation->number ||
		    !block->newest->answered || block->newest->answered > operation->number)
			continue; /* written meanwhile, or not known */
		if (!data_equal(block->newest->data, got))
			operation->guests->wrong = "a read saw what is not the last answered write";
	}
}

static void operation_done(struct io_op *op)
{
	struct operation *operation = (struct operation *)op;
	struct guests *guests = operation->guests;
	enum request_kind kind = operation->request.kind;
	bool durable = operation->request.flags & REQUEST_FUA;
	guests->under_way--;
	guests->model.events++;
	const char *wrong = op->res < 0 ? guests->request_failed(guests, kind) : NULL;
	if (wrong)
		guests->wrong = wrong;
	if (kind == REQUEST_READ && op->res == 0)
		read_done(operation);
	if ((kind == REQUEST_FLUSH || durable) && op->res == 0)
		model_flushed(&guests->model, operation->number); /* the log is one chain */
	guests->writes_under_way -= is_write(operation);
	for (uint32_t i = 0; i < operation->count && is_write(operation); i++) {
		block_of(operation, i)->busy = false;
		if (op->res == 0)
			model_answered(&guests->model, block_of(operation, i), operation->number,
				       durable);
	}
	sim_process_memory_free(operation->memory);
	sim_process_memory_free(operation);
}

bool guests_blocks_idle(const struct guests *guests, unsigned volume, uint32_t block,
			uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (guests->model.blocks[volume][block + i].busy)
			return false;
	return true;
}

struct operation *guests_operation_new(struct guests *guests, enum request_kind kind,
				       unsigned volume, uint32_t block, uint32_t count)
{
	struct operation *operation = sim_process_memory(guests->sim, sizeof *operation);
	uint8_t *memory = sim_process_memory(guests->sim, (count + 1) * (size_t)BLOCK_BYTES);
	*operation =
		(struct operation){.guests = guests,
				   .memory = memory,
				   .volume = volume,
				   .block = block,
				   .count = count,
				   .number = ++guests->model.events,
				   .data = (uint8_t *)round_up((uintptr_t)memory, BLOCK_BYTES)};
	operation->request = (struct store_request){.op.done = operation_done,
						    .view = guests->views[volume],
						    .kind = kind,
						    .offset_bytes = block * (uint64_t)BLOCK_BYTES,
						    .length_bytes = count * (uint64_t)BLOCK_BYTES,
						    .data = operation->data};
	guests->under_way++;
	guests->writes_under_way += is_write(operation);
	return operation;
}

const char *guests_drain(struct guests *guests)
{
	for (uint64_t steps = 0; guests->under_way || guests->admin_busy || guests->work_busy;
	     steps++)
		if (steps > STEPS_MAX || !env_step(sim_env(guests->sim), true))
			FAIL("%u requests, %u changes and %u works never end", guests->under_way,
			     guests->admin_busy, guests->work_busy);
	return guests->wrong;
}

/* ---- what is there ---- */

int guests_read(struct guests *guests, struct view *view, uint32_t block, uint32_t count,
		uint8_t *to)
{
	struct store_request request = {.view = view,
					.kind = REQUEST_READ,
					.offset_bytes = block * (uint64_t)BLOCK_BYTES,
					.length_bytes = count * (uint64_t)BLOCK_BYTES,
					.data = to};
	env_wait_prepare(&request.op);
	store_submit(&request);
	return (int)env_wait(sim_env(guests->sim), &request.op);
}

void guests_read_each(struct guests *guests, struct view *view, uint32_t block, uint32_t count,
		      uint8_t *to, bool *ret_unreadable)
{
	for (uint32_t i = 0; i < count; i++)
		ret_unreadable[i] =
			guests_read(guests, view, block + i, 1, to + i * (size_t)BLOCK_BYTES) < 0;
}

const char *guests_check(struct guests *guests, const uint8_t *images, const bool *unreadable,
			 bool power_cut, bool in_order)
{
	struct model *model = &guests->model;
	const uint8_t *image[VOLUMES];
	const char *failed = NULL;
	uint64_t survivor = 0;
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		image[v] = images;
		failed = model_check(model, v, images, unreadable, power_cut, &survivor);
		images += model->block_counts[v] * (size_t)BLOCK_BYTES;
		unreadable += model->block_counts[v];
	}
	for (unsigned v = 0; v < VOLUMES && power_cut && in_order && !failed; v++)
		failed = model_check_order(model, v, image[v], survivor);
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		model_settle(model, v);
	return failed;
}
