/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything under way in the simulated world is an event with a due time; a step runs the earliest
 * one. Nothing here or in its neighbours looks at the real world, or at an address: the seed alone
 * decides.
 */
#include "tests/sim/simenv_int.h"

#define SLOW_NS_MAX (NSEC_PER_SEC / 2)
#define WALL_NS UINT64_C(1700000000000000000) /* the time of day when a world begins */
#define COMPLETE_NS_MAX 20000u		      /* I/O of the same time may come first */

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t sim_random(struct sim *sim, uint64_t below)
{
	uint64_t z = (sim->random += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void sim_note(struct sim *sim, uint64_t value)
{
	sim->trace = (sim->trace ^ value) * 0x100000001b3u; /* FNV-1a by words */
}

struct event *event_add(struct sim *sim, enum event_kind kind, struct io_op *op, uint64_t delay_ns)
{
	if (sim->event_count == sim->event_room) {
		sim->event_room = sim->event_room ? sim->event_room * 2 : 64;
		sim->events = reallocarray(sim->events, sim->event_room, sizeof(struct event));
		assert(sim->events);
	}
	struct event *event = &sim->events[sim->event_count++];
	*event = (struct event){.kind = kind,
				.op = op,
				.due_ns = sim->now_ns + delay_ns,
				.number = sim->next_number++};
	return event;
}

uint64_t io_delay(struct sim *sim)
{
	if (sim_chance(sim, sim->faults.slow)) {
		sim->counts.slow++;
		return sim_random(sim, SLOW_NS_MAX);
	}
	return 1000 + sim_random(sim, sim_random(sim, 8) ? 100000 : 2000000);
}

/* ---- clock, memory, jobs ---- */

static uint64_t sim_now_ns(struct env *env)
{
	return sim_of(env)->now_ns + sim_of(env)->skipped_ns;
}
static uint64_t sim_wall_ns(struct env *env)
{
	return WALL_NS + sim_now_ns(env) + (uint64_t)sim_of(env)->jumped_ns;
}

void sim_clock_move(struct sim *sim, uint64_t skip_ns, int64_t jump_ns)
{
	sim->skipped_ns += skip_ns;
	sim->jumped_ns += jump_ns;
}

static void sim_random_bytes(struct env *env, void *ret, size_t bytes)
{
	for (uint8_t *at = ret; bytes; at++, bytes--)
		*at = (uint8_t)sim_random(sim_of(env), 256);
}

static void sim_timer_stop(struct env *env, struct env_timer *timer)
{
	struct sim *sim = sim_of(env);
	for (unsigned i = 0; i < sim->timer_count; i++)
		if (sim->timers[i] == timer)
			sim->timers[i] = sim->timers[--sim->timer_count];
	timer->heap_index = 0;
}

static void sim_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	struct sim *sim = sim_of(env);
	sim_timer_stop(env, timer);
	assert(sim->timer_count < TIMERS_MAX);
	timer->at_ns = sim->now_ns + delay_ns;
	timer->heap_index = 1;
	sim->timers[sim->timer_count++] = timer;
}

static void sim_job(struct env *env, struct env_job *job)
{
	event_add(sim_of(env), EVENT_JOB, &job->op, sim_random(sim_of(env), 200000));
}

static unsigned sim_worker_count(struct env *env)
{
	(void)env;
	return 1;
}

/* In the order of their starts, as the contract says, but what is due meanwhile comes between. */
void sim_complete(struct env *env, struct io_op *op, int64_t res)
{
	struct sim *sim = sim_of(env);
	struct event *event = event_add(sim, EVENT_COMPLETE, op, sim_random(sim, COMPLETE_NS_MAX));
	event->due_ns = sim->completed_ns = max_u64(event->due_ns, sim->completed_ns);
	event->res = res;
}

static int64_t event_run(struct sim *sim, const struct event *event)
{
	switch (event->kind) {
	case EVENT_READ:
		return event_read(sim, event);
	case EVENT_WRITE:
		return event_write(sim, event);
	case EVENT_SYNC:
		return event_sync(sim, event);
	case EVENT_DIR_SYNC:
		return event_dir_sync(sim, event);
	case EVENT_JOB: {
		struct env_job *job = container_of(event->op, struct env_job, op);
		return job->run(job, 0);
	}
	case EVENT_COMPLETE:
		break;
	}
	return event->res;
}

static bool timer_step(struct sim *sim, uint64_t before_ns)
{
	struct env_timer *first = NULL;
	for (unsigned i = 0; i < sim->timer_count; i++)
		if (!first || sim->timers[i]->at_ns < first->at_ns)
			first = sim->timers[i];
	if (!first || first->at_ns > before_ns)
		return false;
	sim->now_ns = max_u64(sim->now_ns, first->at_ns);
	sim_timer_stop(&sim->env, first);
	first->fire(first);
	return true;
}

bool sim_due(const struct sim *sim, uint64_t *ret_ns)
{
	*ret_ns = UINT64_MAX;
	for (size_t i = 0; i < sim->event_count; i++)
		*ret_ns = min_u64(*ret_ns, sim->events[i].due_ns);
	for (unsigned i = 0; i < sim->timer_count; i++)
		*ret_ns = min_u64(*ret_ns, sim->timers[i]->at_ns);
	return sim->event_count || sim->timer_count;
}

bool sim_step_own(struct sim *sim)
{
	size_t first = 0, oldest = 0;
	for (size_t i = 1; i < sim->event_count; i++) {
		const struct event *a = &sim->events[i], *b = &sim->events[first];
		if (a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number))
			first = i;
		if (a->number < sim->events[oldest].number)
			oldest = i;
	}
	if (timer_step(sim, sim->event_count ? sim->events[first].due_ns : UINT64_MAX))
		return true;
	if (!sim->event_count)
		return false;
	enum event_kind kind = sim->events[first].kind;
	if (kind == EVENT_WRITE || kind == EVENT_SYNC || kind == EVENT_DIR_SYNC)
		change_begins(sim); /* while it is still under way */
	struct event event = sim->events[first];
	sim->counts.overtaken += event.number != sim->events[oldest].number;
	sim->events[first] = sim->events[--sim->event_count];
	sim->now_ns = max_u64(sim->now_ns, event.due_ns);
	event.op->res = event_run(sim, &event);
	sim_note(sim, event.number * 31 + event.kind);
	sim_note(sim, (uint64_t)event.op->res ^ event.offset);
	event.op->done(event.op);
	return true;
}

static bool sim_step(struct env *env, bool wait)
{
	struct sim *sim = sim_of(env);
	(void)wait;
	return sim->net ? sim->net_step(sim->net) : sim_step_own(sim);
}

struct sim *sim_new(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	sim->ops = (struct env_ops){.now_ns = sim_now_ns,
				    .wall_ns = sim_wall_ns,
				    .random = sim_random_bytes,
				    .timer_start = sim_timer_start,
				    .timer_stop = sim_timer_stop,
				    .memory = sim_memory,
				    .memory_lazy = sim_memory,
				    .memory_free = sim_memory_free,
				    .job = sim_job,
				    .worker_count = sim_worker_count,
				    .complete = sim_complete,
				    .step = sim_step};
	disk_ops_set(&sim->ops);
	sim->env.ops = &sim->ops;
	sim->random = seed * 0x2545f4914f6cdd1du + 1;
	sim->disk_bytes = DISK_BYTES;
	return sim;
}

void sim_free(struct sim *sim)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used)
			file_gone(&sim->files[i]);
	sim_process_end(sim);
	while (sim->handles)
		env_file_close(sim->handles);
	while (sim->dirs)
		env_dir_close(sim->dirs);
	free(sim->events);
	free(sim);
}

struct env *sim_env(struct sim *sim)
{
	return &sim->env;
}
void sim_disk_room_set(struct sim *sim, uint64_t bytes)
{
	sim->disk_bytes = bytes == UINT64_MAX ? DISK_BYTES : disk_used(sim) + bytes;
}

void sim_faults_set(struct sim *sim, const struct sim_faults *faults)
{
	sim->faults = *faults;
}
const struct sim_counts *sim_counts(const struct sim *sim)
{
	return &sim->counts;
}
uint64_t sim_trace(const struct sim *sim)
{
	return sim->trace;
}
