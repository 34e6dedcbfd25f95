/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A life in the world of sim_store: requests, changes, folds and collections side by side, each
 * told to the model when it is submitted and again when it is answered. What fails must say so, and
 * must have a reason; a read never sees what no write made.
 */
#include "tests/sim/sim_world.h"

#define IN_FLIGHT 20u
#define PATTERNS 24u

/* ---- requests ---- */

static void write_some(struct world *world)
{
	struct sim *sim = world->sim;
	unsigned volume = (unsigned)sim_random(sim, VOLUMES);
	uint64_t kind = sim_random(sim, 10);
	uint32_t count = kind < 6   ? 1 + (uint32_t)sim_random(sim, 3)
			 : kind < 8 ? 16 * (1 + (uint32_t)sim_random(sim, 6))
				    : 1 + (uint32_t)sim_random(sim, 40);
	uint32_t block = (uint32_t)sim_random(sim, BLOCKS - count + 1);
	if (kind >= 6 && kind < 8)
		block = block / 16 * 16;
	if (sim_random(sim, 3) == 0) /* a hot place */
		block %= 64;
	if (world->guests.admin_busy && world->admin_snapshot)
		return; /* what is written meanwhile may be in the snapshot or not */
	if (block + count > BLOCKS || !guests_blocks_idle(&world->guests, volume, block, count))
		return;
	bool zero = sim_random(sim, 12) == 0;
	struct operation *operation = guests_operation_new(
		&world->guests, zero ? REQUEST_ZERO : REQUEST_WRITE, volume, block, count);
	/* What was written long ago dies, and comes back while it may still be there. */
	uint64_t era = world->guests.model.events / 250;
	uint64_t pattern = sim_random(sim, 2) ? (era + sim_random(sim, PATTERNS / 3)) % PATTERNS
					      : operation->number;
	bool part = !zero && count == 1 && sim_random(sim, 4) == 0;
	totals.operations++;
	totals.writes++;
	if (!world->lazy && sim_random(sim, 10) == 0)
		operation->request.flags = REQUEST_FUA;
	for (uint32_t i = 0; i < count; i++) {
		struct block *at = &world->guests.model.blocks[volume][block + i];
		uint8_t *data = zero ? NULL : malloc(BLOCK_BYTES);
		uint64_t value = count % 16 == 0 && block % 16 == 0
					 ? pattern * 16 + i % 16
					 : 1000 + operation->number * 64 + i;
		if (!zero)
			model_fill(data, value);
		if (part && (!at->newest->answered || at->newest->next))
			part = false; /* what it is mixed with is not known */
		if (part) {
			uint32_t skip = (uint32_t)sim_random(sim, BLOCK_BYTES - 1);
			uint32_t bytes = 1 + (uint32_t)sim_random(sim, BLOCK_BYTES - skip);
			memcpy(operation->data, data, bytes);
			operation->request.offset_bytes += skip;
			operation->request.length_bytes = bytes;
			uint8_t *mixed = calloc(1, BLOCK_BYTES);
			if (at->newest->data)
				memcpy(mixed, at->newest->data, BLOCK_BYTES);
			memcpy(mixed + skip, data, bytes);
			memcpy(data, mixed, BLOCK_BYTES);
			free(mixed);
		} else if (!zero) {
			memcpy(operation->data + (size_t)i * BLOCK_BYTES, data, BLOCK_BYTES);
		}
		model_submit(&world->guests.model, at, data);
		at->busy = true;
	}
	store_submit(&operation->request);
}

static void read_some(struct world *world)
{
	uint32_t count = 1 + (uint32_t)sim_random(world->sim, 33);
	uint32_t block = (uint32_t)sim_random(world->sim, BLOCKS - count + 1);
	struct operation *operation =
		guests_operation_new(&world->guests, REQUEST_READ,
				     (unsigned)sim_random(world->sim, VOLUMES), block, count);
	totals.operations++;
	totals.reads++;
	store_submit(&operation->request);
}

static void flush_some(struct world *world)
{
	struct operation *operation = guests_operation_new(
		&world->guests, REQUEST_FLUSH, (unsigned)sim_random(world->sim, VOLUMES), 0, 0);
	totals.operations++;
	totals.flushes++;
	store_submit(&operation->request);
}

/* ---- changes and long work ---- */

static void admin_done(struct io_op *op)
{
	struct world *world = container_of(op, struct world, admin.op);
	struct model_snapshot *snapshot = world->admin_snapshot;
	world->guests.admin_busy = false;
	world->guests.model.events++;
	if (!snapshot || op->res < 0) {
		if (op->res < 0 && !world->faults && !world->full && !world->rot)
			world->guests.wrong = "a change failed without a reason";
		if (snapshot && !snapshot->pending_delete && op->res != -VS_EFAILSTOP &&
		    op->res != -EIO) {
			free(snapshot->data);
			snapshot->used = false;
		}
		return;
	}
	snapshot->answered = true;
	if (snapshot->pending_delete) {
		free(snapshot->data);
		snapshot->used = false;
	}
	model_flushed(&world->guests.model,
		      world->guests.model.events); /* its commit is durable, and so all before it */
}

/* Only between writes: then it is known what the snapshot is. */
static void snapshot_some(struct world *world)
{
	struct model_snapshot *free_one = NULL, *victim = NULL;
	if (world->guests.admin_busy || world->guests.writes_under_way)
		return;
	for (unsigned i = 0; i < WORLD_SNAPSHOTS; i++) {
		if (!world->snapshots[i].used)
			free_one = &world->snapshots[i];
		else if (world->snapshots[i].answered)
			victim = &world->snapshots[i];
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		for (unsigned b = 0; b < BLOCKS; b++)
			if (!world->guests.model.blocks[v][b].newest->answered)
				return; /* a failed write: not known */
	world->admin = (struct admin_op){.op.done = admin_done};
	world->guests.admin_busy = true;
	if (!free_one) {
		victim->pending_delete = true;
		world->admin_snapshot = victim;
		store_snap_delete(world->store, &world->admin, victim->name);
		return;
	}
	*free_one = (struct model_snapshot){.used = true,
					    .volume = (unsigned)sim_random(world->sim, VOLUMES)};
	snprintf(free_one->name, sizeof free_one->name, "%c@s%llu", 'a' + (int)free_one->volume,
		 (unsigned long long)++world->snapshot_number);
	free_one->data = model_image(&world->guests.model, free_one->volume);
	world->admin_snapshot = free_one;
	totals.snapshots++;
	const char *names[] = {free_one->name};
	store_snap_create(world->store, &world->admin, names, 1);
}

void work_done(struct io_op *op)
{
	struct world *world = container_of(op, struct world, work.op);
	world->guests.work_busy = false;
	if (world->work.damaged && !world->rot && !world->faults && !world->index_rot)
		world->guests.wrong = "a check found damage";
	if (op->res < 0 && !world->rot && !world->faults && !world->full) {
		static char what[SENTENCE_BYTES + 60];
		snprintf(what, sizeof what, "long work failed without a reason: %s",
			 world->work.sentence);
		world->guests.wrong = what;
	}
}

static void work_some(struct world *world)
{
	if (world->guests.work_busy)
		return;
	world->work = (struct store_work){.op.done = work_done};
	world->guests.work_busy = true;
	totals.works++;
	switch (sim_random(world->sim, 6)) {
	case 4: /* of all ages */
		world->work.recompress = true;
		store_gc(world->store, &world->work);
		break;
	case 0:
		store_gc(world->store, &world->work);
		break;
	case 5:
		store_scrub(world->store, &world->work, sim_random(world->sim, 2));
		break;
	case 1:
		store_check(world->store, &world->work);
		break;
	default:
		totals.folds++;
		store_fold(world->store, &world->work, sim_random(world->sim, 2) ? "a" : NULL);
	}
}

static void purge_some(struct world *world)
{
	struct snapshot_info *infos;
	size_t count;
	if (world->guests.admin_busy || store_snapshots(world->store, true, &infos, &count) < 0)
		return;
	if (count) {
		world->admin = (struct admin_op){.op.done = admin_done};
		world->guests.admin_busy = true;
		world->admin_snapshot = NULL;
		store_trash_purge(world->store, &world->admin, infos[0].number);
	}
	free(infos);
}

/* The parts of the space add up to all of it, at any moment. */
static const char *space_adds_up(struct world *world)
{
	struct store_info info;
	store_info(world->store, &info);
	if (info.live_bytes + info.garbage_bytes + info.prepared_bytes + info.reserve_bytes !=
	    info.segment_bytes)
		FAIL("live, garbage, prepared and reserve are not what the segments take");
	return NULL;
}

const char *life(struct world *world, unsigned ops)
{
	struct sim *sim = world->sim;
	uint64_t steps = 0;
	for (unsigned i = 0; i < ops && !world->guests.wrong;) {
		uint64_t what = sim_random(sim, 1000);
		if (++steps > STEPS_MAX)
			FAIL("nothing moves any more");
		const char *failed = what % 16 == 0 ? space_adds_up(world) : NULL;
		if (failed)
			return failed;
		if (world->guests.under_way >= IN_FLIGHT || what < 300 ||
		    (world->guests.admin_busy && !world->admin_snapshot && what < 600)) {
			if (!env_step(sim_env(sim), true))
				FAIL("nothing is under way, and %u requests wait",
				     world->guests.under_way);
			continue;
		}
		i++;
		if (what < 700)
			write_some(world);
		else if (what < 900)
			read_some(world);
		else if (world->lazy && (what < 960 || what >= 980))
			continue;
		else if (what < 960)
			flush_some(world);
		else if (what < 980)
			work_some(world);
		else if (what < 990)
			purge_some(world);
		else {
			while (world->guests.writes_under_way && ++steps < STEPS_MAX &&
			       env_step(sim_env(sim), true))
				;
			snapshot_some(world);
		}
	}
	return world->guests.wrong;
}
