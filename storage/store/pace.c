/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The throttle and the budget, see pace.h. All of their state is here; nothing of it is on disk.
 *
 * The throttle has a base: what was in use when pressure began, or when the log's tail moved last.
 * From there on the part of the free room that guests have taken may be as large as the part of
 * the base's dirty chunks that is folded, and SLACK more, for the times in which a fold plans,
 * writes nodes or waits for its checkpoint.
 *
 * The budget is a token bucket whose rate is decided ten times a second: down to three quarters of
 * what was written last when most flushes took several times what they take alone, up by a quarter
 * when not. The lowest rate rises with the log's use, for a fold that guests wait for must go on.
 */
#include "storage/store/pace.h"

#include "storage/store/behind.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define SLACK_PARTS 32u /* a 32nd of the room is given out before there is progress */
#define DECIDE_NS (NSEC_PER_SEC / 10)
#define RATE_MOST (4 * GIB)
#define RATE_LEAST (32 * MIB)
#define BURST_LEAST (2 * MIB)
#define SLOW_FACTOR 4u
#define SLOW_LEAST_NS (3 * NSEC_PER_SEC / 1000) /* below, no flush is slow */
#define GUESTS_NS (NSEC_PER_SEC / 10)		/* so long after a request guests are still there */

struct pace {
	struct store *store;
	/* the throttle */
	bool pressure, blocked;
	uint64_t base_blocks, base_entries;
	int64_t base_units, units;
	/* the budget */
	uint64_t rate, decided_ns, filled_ns, spent_bytes;
	int64_t tokens;
	uint64_t usual_ns; /* what a flush takes when nothing else is written; 0: not known */
	uint32_t flushes, slow;
	struct wait_list waiters;
	struct env_timer timer;
};

static void pace_fire(struct env_timer *timer)
{
	pace_wake(container_of(timer, struct pace, timer)->store);
}

int pace_init(struct store *store)
{
	struct pace *pace = calloc(1, sizeof(*pace));
	if (!pace)
		return -ENOMEM;
	pace->store = store;
	pace->rate = RATE_MOST;
	pace->timer.fire = pace_fire;
	store->pace = pace;
	return 0;
}

void pace_exit(struct store *store)
{
	if (store->pace)
		env_timer_stop(store->env, &store->pace->timer);
	free(store->pace);
	store->pace = NULL;
}

/* ---- the throttle ---- */

static uint64_t entries_used(const struct store *store)
{
	const struct layer_pool *pool = store->layer_pool;
	return pool->entry_count - pool->free_count + store->reserved_entries;
}

static void pace_rebase(struct store *store)
{
	struct pace *pace = store->pace;
	pace->base_blocks = log_used_blocks(store->log);
	pace->base_entries = entries_used(store);
	pace->base_units = pace->units;
}

/* A checkpoint that lets go of little is no reason: the base's chunks still have to be folded. */
void pace_tail_moved(struct store *store, uint64_t blocks)
{
	if (blocks > log_guest_blocks(store->log) / 16)
		pace_rebase(store);
}

static bool used_above(const struct store *store, unsigned quarters)
{
	return log_used_blocks(store->log) > log_guest_blocks(store->log) / 4 * quarters ||
	       entries_used(store) > store->layer_pool->entry_count / 4 * quarters;
}

/* Once it is there it stays until less than a quarter is in use: a fold frees about half of the log
 * at once, and guests that ran free from there to the half would be stopped the harder. */
bool pace_pressure(struct store *store)
{
	struct pace *pace = store->pace;
	bool before = pace->pressure;
	pace->pressure = used_above(store, before ? 1 : 2);
	if (pace->pressure && !before)
		pace_rebase(store);
	return pace->pressure;
}

/* Of `room` that was free at the base, is `taken` at most what may be? */
static bool share_admits(const struct pace *pace, int64_t taken, int64_t room)
{
	double work = (double)(pace->base_entries * PACE_UNITS);
	double done = (double)(pace->units - pace->base_units); /* below 0: a fold failed */
	if (room <= 0 || taken <= 0)
		return taken <= 0;
	double share = 1.0 / SLACK_PARTS;
	share += (1 - share) * (done >= work ? 1 : done > 0 ? done / work : 0);
	return (double)taken <= share * (double)room;
}

bool pace_admit(struct store *store, uint32_t blocks, uint32_t entries)
{
	struct pace *pace = store->pace;
	if (!pace_pressure(store) || fold_error(store) || store->failed || store->closing) {
		pace->blocked = false;
		return true;
	}
	int64_t log_taken =
		(int64_t)(log_used_blocks(store->log) + blocks) - (int64_t)pace->base_blocks;
	int64_t log_room = (int64_t)log_guest_blocks(store->log) - (int64_t)pace->base_blocks;
	int64_t taken = (int64_t)(entries_used(store) + entries) - (int64_t)pace->base_entries;
	int64_t room = (int64_t)store->layer_pool->entry_count - (int64_t)pace->base_entries;
	bool yes = MUTANT(30) ||
		   (share_admits(pace, log_taken, log_room) && share_admits(pace, taken, room));
	pace->blocked = !yes;
	return yes;
}

void pace_folded(struct store *store, int64_t units)
{
	struct pace *pace = store->pace;
	pace->units += units;
	if (units < 0 || !pace->blocked)
		return;
	pace->blocked = false;
	write_kick(store);
}

/* ---- the budget ---- */

/* A fold that guests wait for may not be starved by their flushes. */
static uint64_t rate_least(const struct store *store)
{
	uint64_t used = log_used_blocks(store->log), all = log_guest_blocks(store->log);
	uint64_t eighths = all ? min_u64(8 * used / all, 7) : 0;
	return RATE_LEAST << (eighths > 3 ? eighths - 3 : 0);
}

static void rate_decide(struct pace *pace, uint64_t now)
{
	uint64_t took = now - pace->decided_ns;
	if (took < DECIDE_NS)
		return;
	uint64_t least = rate_least(pace->store);
	if (pace->flushes && 2 * pace->slow > pace->flushes) {
		uint64_t wrote = pace->spent_bytes * (NSEC_PER_SEC / 1000) / (took / 1000);
		pace->rate = min_u64(pace->rate, wrote) / 4 * 3;
	} else {
		pace->rate += pace->rate / (pace->flushes ? 4 : 1);
	}
	pace->rate = max_u64(least, min_u64(pace->rate, RATE_MOST));
	pace->decided_ns = now;
	pace->spent_bytes = 0;
	pace->flushes = pace->slow = 0;
}

void pace_flushed(struct store *store, uint64_t latency_ns)
{
	struct pace *pace = store->pace;
	if (latency_ns < pace->usual_ns || !pace->usual_ns)
		pace->usual_ns = latency_ns;
	else
		pace->usual_ns += pace->usual_ns / 256 + 1;
	pace->flushes++;
	pace->slow += latency_ns > max_u64(SLOW_FACTOR * pace->usual_ns, SLOW_LEAST_NS);
	rate_decide(pace, env_now_ns(store->env));
}

bool pace_ready(struct store *store, struct wait *wait)
{
	struct pace *pace = store->pace;
	uint64_t now = env_now_ns(store->env);
	rate_decide(pace, now);
	if (pace->rate == RATE_MOST || store->closing || store->failed) {
		pace->tokens = 0;
		pace->filled_ns = now;
		return true;
	}
	uint64_t passed = min_u64(now - pace->filled_ns, NSEC_PER_SEC);
	int64_t most = (int64_t)max_u64(BURST_LEAST, pace->rate / 20);
	pace->tokens += (int64_t)(pace->rate / 1000 * (passed / 1000) / 1000);
	pace->tokens = pace->tokens < most ? pace->tokens : most;
	pace->filled_ns = now;
	if (pace->tokens > 0)
		return true;
	if (!pace->waiters.head) {
		uint64_t debt = (uint64_t)(1 - pace->tokens);
		uint64_t delay = debt * (NSEC_PER_SEC / 1000) / (pace->rate / 1000);
		env_timer_start(store->env, &pace->timer,
				max_u64(NSEC_PER_SEC / 1000, min_u64(delay, PACE_WAIT_NS)));
	}
	wait_add(&pace->waiters, wait);
	return false;
}

void pace_spend(struct store *store, uint64_t bytes)
{
	struct pace *pace = store->pace;
	pace->spent_bytes += bytes;
	if (pace->rate != RATE_MOST)
		pace->tokens -= (int64_t)bytes;
}

void pace_wake(struct store *store)
{
	wait_wake_all(&store->pace->waiters);
}

uint64_t pace_rate(const struct store *store)
{
	return store->pace->rate == RATE_MOST ? UINT64_MAX : store->pace->rate;
}

/* ---- beside guests ---- */

static uint64_t requests_counted(const struct store *store)
{
	const struct store_counters *c = &store->counters;
	return c->reads + c->writes + c->trims + c->flushes;
}

void guests_forget(const struct store *store, struct guests_seen *seen)
{
	*seen = (struct guests_seen){.requests = requests_counted(store)};
}

bool guests_served(const struct store *store, struct guests_seen *seen)
{
	uint64_t requests = requests_counted(store), now = env_now_ns(store->env);
	if (requests != seen->requests || store->requests)
		seen->ns = now;
	seen->requests = requests;
	return seen->ns && now - seen->ns < GUESTS_NS;
}
