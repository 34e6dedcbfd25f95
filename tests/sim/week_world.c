/* SPDX-License-Identifier: Apache-2.0 */
/* The store of a week: made, opened, used by guests, crashed. The model knows what each block is.
 */
#include "tests/sim/week.h"

#include "storage/store/store_int.h"
#include "storage/store/store_work.h"

#include <stdio.h>
#include <stdlib.h>

uint64_t world_open_ns(const struct world *world)
{
	return world->open_ns + (env_now_ns(sim_env(world->sim)) - world->opened_ns);
}

/* ---- time ---- */

static bool step(struct world *world)
{
	return env_step(sim_env(world->sim), true);
}

const char *world_pass(struct world *world, uint64_t run_ns, uint64_t skip_ns)
{
	struct env *env = sim_env(world->sim);
	uint64_t end = env_now_ns(env) + run_ns, steps = 0;
	while (env_now_ns(env) < end)
		if (!step(world) || ++steps > STEPS_MAX)
			FAIL("time stands still");
	sim_clock_move(world->sim, skip_ns, 0);
	return NULL;
}

/* ---- guests ---- */

static bool may_fail(const struct world *world)
{
	return world->full || world->ill;
}

static const char *request_failed(struct guests *guests, enum request_kind kind)
{
	week_totals.failed_requests++;
	return may_fail((const struct world *)guests) ? NULL : "a request failed without a reason";
}

/* Whole chunks hold what many hold: of this hour, or of one so long ago that policies and the trash
 * have just let go of it. */
static uint64_t pattern(struct world *world)
{
	uint64_t hour = world->hour + 1000;
	if (sim_random(world->sim, 2))
		hour -= 5 + sim_random(world->sim, 24);
	return (hour * 2 + sim_random(world->sim, 2)) * CHUNK_BLOCKS;
}

static void guest_write(struct world *world)
{
	struct sim *sim = world->sim;
	unsigned volume = (unsigned)sim_random(sim, VOLUMES);
	bool chunk = sim_random(sim, 3) == 0, zero = sim_random(sim, 16) == 0;
	uint32_t count = chunk ? CHUNK_BLOCKS : 1 + (uint32_t)sim_random(sim, 3);
	uint32_t block = (uint32_t)sim_random(sim, BLOCKS - count + 1);
	if (chunk)
		block = block / CHUNK_BLOCKS * CHUNK_BLOCKS;
	if (!guests_blocks_idle(&world->guests, volume, block, count))
		return;
	struct operation *operation = guests_operation_new(
		&world->guests, zero ? REQUEST_ZERO : REQUEST_WRITE, volume, block, count);
	uint64_t value = chunk ? pattern(world) : (UINT64_C(1) << 32) + operation->number * 4;
	if (sim_random(sim, 12) == 0)
		operation->request.flags = REQUEST_FUA;
	week_totals.writes++;
	world->calm = false;
	for (uint32_t i = 0; i < count; i++) {
		struct block *at = &world->guests.model.blocks[volume][block + i];
		uint8_t *data = zero ? NULL : malloc(BLOCK_BYTES);
		if (!zero) {
			model_fill(data, value + i);
			memcpy(operation->data + (size_t)i * BLOCK_BYTES, data, BLOCK_BYTES);
		}
		model_submit(&world->guests.model, at, data);
		at->busy = true;
	}
	store_submit(&operation->request);
}

static void guest_read(struct world *world)
{
	uint32_t count = 1 + (uint32_t)sim_random(world->sim, 17);
	uint32_t block = (uint32_t)sim_random(world->sim, BLOCKS - count + 1);
	struct operation *operation =
		guests_operation_new(&world->guests, REQUEST_READ,
				     (unsigned)sim_random(world->sim, VOLUMES), block, count);
	week_totals.reads++;
	store_submit(&operation->request);
}

static void guest_flush(struct world *world)
{
	store_submit(&guests_operation_new(&world->guests, REQUEST_FLUSH, 0, 0, 0)->request);
}

const char *world_guests(struct world *world, unsigned count)
{
	uint64_t steps = 0;
	while (count && !world->guests.wrong) {
		uint64_t what = sim_random(world->sim, 100);
		if (world->guests.under_way >= IN_FLIGHT || what < 40) {
			if (!step(world) || ++steps > STEPS_MAX)
				FAIL("nothing moves, and %u requests wait",
				     world->guests.under_way);
			continue;
		}
		count--;
		if (what < 85)
			guest_write(world);
		else if (what < 96)
			guest_read(world);
		else
			guest_flush(world);
	}
	return world->guests.wrong;
}

const char *world_settle(struct world *world, bool *ret_flushed)
{
	uint64_t number = world->guests.model.events + 1;
	const char *failed = guests_drain(&world->guests);
	if (failed)
		return failed;
	struct store_request request = {.view = world->guests.views[0], .kind = REQUEST_FLUSH};
	env_wait_prepare(&request.op);
	world->guests.model.events++;
	store_submit(&request);
	int res = (int)env_wait(sim_env(world->sim), &request.op);
	world->guests.model.events++;
	*ret_flushed = res == 0;
	if (res == 0)
		model_flushed(&world->guests.model, number);
	else if (!may_fail(world))
		FAIL("a flush failed without a reason: %s", vs_strerror(res));
	return world->guests.wrong;
}

/* ---- changes and long work ---- */

struct admin_op *change(struct admin_op *op)
{
	*op = (struct admin_op){0};
	env_wait_prepare(&op->op);
	return op;
}

int change_end(struct world *world, struct admin_op *op)
{
	return (int)env_wait(sim_env(world->sim), &op->op);
}

static void work_done(struct io_op *op)
{
	struct world *world = container_of(op, struct world, work.op);
	world->guests.work_busy = false;
	static char what[SENTENCE_BYTES + 60];
	if (world->work.damaged && !world->ill) {
		snprintf(what, sizeof what, "damage was found: %s", world->work.sentence);
		world->guests.wrong = what;
	} else if (op->res < 0 && !world->work_may_fail && !may_fail(world) && !world->rotten) {
		snprintf(what, sizeof what, "long work failed without a reason: %s",
			 world->work.sentence);
		world->guests.wrong = what;
	}
}

void work_begin(struct world *world, void (*start)(struct store *store, struct store_work *work))
{
	world->work = (struct store_work){.op.done = work_done};
	world->guests.work_busy = true;
	world->work_may_fail = may_fail(world); /* it may also become well meanwhile */
	start(world->store, &world->work);
}

/* ---- opening, closing, crashing ---- */

static const char *world_open(struct world *world)
{
	char sentence[SENTENCE_BYTES];
	struct env *env = sim_env(world->sim);
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.trash_delay_ns = TRASH_NS,
					.idle_fold_ns = 30 * NSEC_PER_SEC,
					.scrub_period_ns = DAY_NS,
					.index_lag_segments = 2};
	world->opened_ns = env_now_ns(env);
	if (store_open(env, "store", &options, &world->store, sentence) < 0) {
		world->store = NULL;
		FAIL("the store was refused: %s", sentence);
	}
	const char *failed = guests_views_open(&world->guests, world->store);
	if (failed)
		return failed;
	if (policies_new(env, world->store, &world->policies) < 0)
		FAIL("there is no memory");
	return NULL;
}

static void counters_take(struct world *world)
{
	struct store_counters counters;
	store_counters(world->store, &counters);
	week_totals.deduplicated += counters.chunks_deduplicated;
	week_totals.collections += counters.collections;
	week_totals.moved_bytes += counters.moved_bytes;
	week_totals.dropped_segments += counters.segments_dropped;
	week_totals.scrubbed += counters.scrubbed_records;
	week_totals.folds += counters.folds;
	week_totals.checkpoints += counters.checkpoints;
}

/* What a crash leaves is what each volume may be. */
static const char *volumes_verify(struct world *world, bool power_cut)
{
	static uint8_t images[VOLUMES][BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));
	static bool unreadable[VOLUMES][BLOCKS];
	struct guests *guests = &world->guests;
	for (unsigned v = 0; v < VOLUMES; v++) {
		int res = guests_read(guests, guests->views[v], 0, BLOCKS, images[v]);
		if (res < 0 && !world->rotten)
			FAIL("volume %c: %s", 'a' + (int)v, vs_strerror(res));
		if (world->rotten)
			guests_read_each(guests, guests->views[v], 0, BLOCKS, images[v],
					 unreadable[v]);
	}
	return guests_check(guests, images[0], unreadable[0], power_cut, true);
}

static void process_kill(struct world *world, bool power_cut)
{
	counters_take(world);
	sim_crash(world->sim, power_cut);
	policies_free(world->policies);
	guests_abandon(&world->guests, world->store);
}

static void process_end(struct world *world)
{
	world->open_ns = world_open_ns(world);
	world->policies = NULL;
	world->store = NULL;
	world->calm = false;
	world->full = world->ill = false;
	sim_disk_room_set(world->sim, UINT64_MAX);
	sim_faults_set(world->sim, &(struct sim_faults){0});
}

const char *world_crash(struct world *world, bool power_cut, uint64_t downtime_ns)
{
	week_totals.crashes_in_collections += world->store->gc != NULL;
	process_kill(world, power_cut);
	process_end(world);
	sim_clock_move(world->sim, downtime_ns, 0);
	const char *failed = world_open(world);
	return failed ? failed : volumes_verify(world, power_cut);
}

const char *world_restart(struct world *world)
{
	const char *failed = guests_drain(&world->guests);
	policies_stop(world->policies);
	while (!failed && !policies_idle(world->policies))
		if (!step(world))
			FAIL("a policy's step never ends");
	if (failed)
		return failed;
	counters_take(world);
	policies_free(world->policies);
	guests_views_close(&world->guests);
	bool ill = world->ill;
	int res = store_close(world->store);
	process_end(world);
	if (res < 0 && !ill)
		FAIL("the store could not be closed: %s", vs_strerror(res));
	failed = world_open(world);
	return failed ? failed : volumes_verify(world, false);
}

/* ---- making ---- */

static const char *volumes_make(struct world *world)
{
	struct policy_rules rules = {.every_ns = HOUR_NS};
	struct volume_options options = {.size_bytes = BLOCKS * (uint64_t)BLOCK_BYTES};
	struct volume_info *volumes;
	struct policy_info *policies;
	struct admin_op op;
	size_t count;
	rules.keep[KEEP_HOURLY] = KEEP_HOURS;
	rules.keep[KEEP_DAILY] = KEEP_DAYS;
	store_policy_set(world->store, change(&op), "often", &rules);
	if (change_end(world, &op) < 0)
		FAIL("no policy: %s", op.sentence);
	for (unsigned v = 0; v < VOLUMES; v++) {
		store_volume_create(world->store, change(&op), volume_names[v], &options);
		if (change_end(world, &op) < 0)
			FAIL("no volume: %s", op.sentence);
		store_policy_attach(world->store, change(&op), volume_names[v], "often");
		if (change_end(world, &op) < 0)
			FAIL("not attached: %s", op.sentence);
		model_volume_make(&world->guests.model, v, BLOCKS);
	}
	if (store_policies(world->store, &policies, &count) < 0 || count != 1)
		FAIL("there is no list of policies");
	world->policy = policies[0].number;
	free(policies);
	if (store_volumes(world->store, false, &volumes, &count) < 0 || count != VOLUMES)
		FAIL("there is no list of volumes");
	for (size_t i = 0; i < count; i++)
		world->volume_numbers[volumes[i].name[0] == 'b'] = volumes[i].number;
	free(volumes);
	return NULL;
}

const char *world_make(struct world *world, uint64_t seed)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct store_options options = {.cache_bytes = MIB};
	char sentence[SENTENCE_BYTES];
	*world = (struct world){.seed = seed, .sim = sim_new(seed ^ 0x3ee4)};
	world->guests.sim = world->sim;
	world->guests.request_failed = request_failed;
	struct env *env = sim_env(world->sim);
	scan_init(&world->scan, world->sim);
	if (store_make(env, "store", &make, sentence) < 0 ||
	    store_open(env, "store", &options, &world->store, sentence) < 0)
		FAIL("no store was made: %s", sentence);
	const char *failed = volumes_make(world);
	if (failed)
		return failed;
	if (store_close(world->store) < 0)
		FAIL("the new store could not be closed");
	return world_open(world);
}

void world_free(struct world *world)
{
	if (world->store)
		process_kill(world, false);
	model_free(&world->guests.model);
	scan_done(&world->scan);
	sim_free(world->sim);
}
