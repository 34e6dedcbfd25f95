/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends what policies take, see ship.h.
 *
 *     IDLE -> SEAL -> SEND -> MARK -> IDLE
 *
 * A ship is a volume and a host that its policy sends to. At each tick, and after each end, each
 * one that is idle and has something to send may begin, those with the oldest snapshot first: the
 * next of the policy's snapshots above the one that the host is known to have (store_shipped). So
 * what was missed while the host was away goes there one by one, in the order in which it was
 * taken, each as what differs from the one before; and it is never more than the policy's rules
 * keep here. What they remove before it was sent is not sent.
 *
 * Keeps true: at most ACTIVE_MAX are on their way to a host, one of a volume; after a failure a
 * ship pauses, for longer each time, up to a minute, but where a line that is cut brings something
 * over; nothing is on its way outside of its hours. What the host has said to have published is
 * remembered before the next one begins, so after a crash the last one at most is offered again;
 * and it is remembered of that volume, whatever its name is by then.
 */
#include "storage/daemon/ship.h"

#include "storage/daemon/policies.h"
#include "storage/daemon/retry.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_NS (5 * NSEC_PER_SEC)
#define ACTIVE_MAX 2u
#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)

enum ship_phase { SHIP_IDLE, SHIP_SEAL, SHIP_SEND, SHIP_MARK };

struct ship {
	struct ships *ships;
	struct ship *next;
	uint32_t volume_number;
	char volume[NAME_ROOM], host[NAME_ROOM], policy[NAME_ROOM];
	uint64_t every_ns, rate_bytes;
	struct window window;
	bool listed; /* the policy still says so */
	/* At the last look: how many wait, and the oldest of them. */
	uint32_t waiting, oldest;
	uint64_t oldest_wall_ns;
	char oldest_name[SNAP_NAME_ROOM];

	enum ship_phase phase;
	uint32_t number; /* of what is on its way */
	char name[SNAP_NAME_ROOM];
	struct admin_op op;
	struct repl_send send;
	struct retry retry;
	uint64_t sent, sent_bytes;
};

struct ships {
	struct env *env;
	struct store *store;
	struct repl *repl;
	struct env_timer timer;
	struct ship *list;
	bool stopping;
};

/* ---- one snapshot's way ---- */

/* What is next is looked up anew, once for all that end now: by what was listed before, something
 * that is gone since then would be begun again and again. */
static void ship_idle(struct ship *ship)
{
	ship->phase = SHIP_IDLE;
	if (!ship->ships->stopping)
		env_timer_start(ship->ships->env, &ship->ships->timer, 0);
}

/* The first failure of a row is told, and one that says something else. */
static void ship_failed(struct ship *ship, int res, const char *sentence)
{
	bool other = retry_failed(&ship->retry, env_now_ns(ship->ships->env), res, sentence);
	if (other && !ship->ships->stopping)
		log_event(LOG_LEVEL_WARNING, "policy.unsent", "snapshot=%s host=%s error=\"%s\"",
			  ship->name, ship->host, ship->retry.sentence);
}

static bool ship_held(const struct ship *ship)
{
	return !window_open(&ship->window, env_wall_ns(ship->ships->env));
}

static void ship_stop(struct ship *ship)
{
	if (ship->phase != SHIP_SEND || ship->send.cancel)
		return;
	ship->send.cancel = true;
	repl_send_cancel(&ship->send);
}

static void ship_marked(struct io_op *op)
{
	struct ship *ship = container_of(op, struct ship, op.op);
	if (op->res < 0)
		ship_failed(ship, (int)op->res, ship->op.sentence);
	ship_idle(ship);
}

static void ship_sent(struct io_op *op)
{
	struct ship *ship = container_of(op, struct ship, send.op);
	ship->sent_bytes += ship->send.sent_bytes;
	if (op->res < 0) {
		if (repl_was_cut((int)op->res) && ship->send.fetched)
			ship->retry.pause_ns = 0; /* it moves */
		if (!ship->send.cancel)
			ship_failed(ship, (int)op->res, ship->send.sentence);
		ship_idle(ship);
		return;
	}
	log_event(LOG_LEVEL_INFO, "policy.sent", "snapshot=%s host=%s bytes=%llu", ship->name,
		  ship->host, (unsigned long long)ship->send.sent_bytes);
	ship->sent++;
	retry_worked(&ship->retry);
	ship->phase = SHIP_MARK;
	ship->op = (struct admin_op){.op.done = ship_marked};
	store_shipped(ship->ships->store, &ship->op, ship->volume_number, ship->host, ship->number,
		      repl_store_tag(ship->ships->repl, ship->host));
}

/* What is sealed by name may be another volume's by now: this one was renamed. */
static bool ship_named(const struct ship *ship)
{
	struct volume_info volume;
	size_t bytes = strcspn(ship->name, "@");
	return store_volume_info(ship->ships->store, ship->volume_number, &volume) == 0 &&
	       strncmp(volume.name, ship->name, bytes) == 0 && !volume.name[bytes];
}

static void ship_sealed(struct io_op *op)
{
	struct ship *ship = container_of(op, struct ship, op.op);
	/* -ENOENT: the rules removed it meanwhile. */
	if (op->res < 0 && op->res != -ENOENT)
		ship_failed(ship, (int)op->res, ship->op.sentence);
	if (op->res < 0 || ship->ships->stopping || !ship->listed || ship_held(ship) ||
	    !ship_named(ship)) {
		ship_idle(ship);
		return;
	}
	ship->phase = SHIP_SEND;
	ship->send = (struct repl_send){.op.done = ship_sent,
					.snapshot = ship->name,
					.host = ship->host,
					.rate_bytes = ship->rate_bytes};
	repl_send(ship->ships->repl, &ship->send);
}

static void ship_start(struct ship *ship)
{
	ship->phase = SHIP_SEAL;
	ship->number = ship->oldest;
	memcpy(ship->name, ship->oldest_name, sizeof ship->name);
	ship->op = (struct admin_op){.op.done = ship_sealed};
	store_snap_seal(ship->ships->store, &ship->op, ship->name);
}

/* ---- what there is to send ---- */

/* What the store has, at one moment. */
struct lists {
	struct policy_info *policies;
	struct volume_info *volumes;
	struct snapshot_brief *briefs; /* as policies_list has them */
	struct follower_info *followers;
	size_t policy_count, volume_count, brief_count, follower_count;
};

static bool lists_send(const struct lists *lists)
{
	for (size_t i = 0; i < lists->policy_count; i++)
		if (lists->policies[i].rules.send_to[0][0])
			return true;
	return false;
}

/* -ENOMEM and others. Where no policy sends anything, only policies are listed. */
static int lists_take(const struct store *store, struct lists *lists)
{
	int res = store_policies(store, &lists->policies, &lists->policy_count);
	if (res < 0 || !lists_send(lists))
		return res;
	res = store_volumes(store, false, &lists->volumes, &lists->volume_count);
	if (res == 0)
		res = policies_list(store, &lists->briefs, &lists->brief_count);
	if (res == 0)
		res = store_followers(store, &lists->followers, &lists->follower_count);
	return res;
}

static void lists_free(struct lists *lists)
{
	free(lists->followers);
	free(lists->briefs);
	free(lists->volumes);
	free(lists->policies);
}

/* Of a volume that follows there by rules of its own, and not in step, those count. */
struct pace {
	uint64_t rate_bytes;
	struct window window;
};
static struct pace pace_of(const struct lists *lists, const struct policy_info *policy,
			   uint32_t volume, const char *host)
{
	struct pace pace = {policy->rules.rate_bytes, policy->rules.window};
	for (size_t i = 0; i < lists->follower_count; i++) {
		const struct follower_info *follower = &lists->followers[i];
		const struct follower_rules *rules = &follower->rules;
		if (follower->volume_number == volume && !rules->in_step && !rules->comes_in_step &&
		    strcmp(follower->host, host) == 0)
			pace = (struct pace){rules->rate_bytes, rules->window};
	}
	return pace;
}

static struct ship *ship_of(struct ships *ships, uint32_t volume, const char *host)
{
	struct ship *ship = ships->list;
	while (ship && (ship->volume_number != volume || strcmp(ship->host, host) != 0))
		ship = ship->next;
	if (ship)
		return ship;
	ship = calloc(1, sizeof(*ship));
	if (!ship)
		return NULL; /* the next tick tries again */
	ship->ships = ships;
	ship->volume_number = volume;
	snprintf(ship->host, sizeof ship->host, "%s", host);
	ship->next = ships->list;
	ships->list = ship;
	return ship;
}

/* items: the volume's snapshots, the newest first. */
static void ship_waits(struct ship *ship, const struct policy_info *policy,
		       const struct retention_item *items, size_t count)
{
	uint32_t there = store_shipped_until(ship->ships->store, ship->volume_number, ship->host,
					     repl_store_tag(ship->ships->repl, ship->host));
	ship->waiting = 0;
	for (size_t i = 0; i < count && items[i].snapshot->number > there; i++) {
		const struct snapshot_brief *snapshot = items[i].snapshot;
		if (snapshot->policy != policy->number)
			continue;
		ship->waiting++;
		ship->oldest = snapshot->number;
		ship->oldest_wall_ns = snapshot->created_wall_ns;
		snprintf(ship->oldest_name, sizeof ship->oldest_name, "%s@%s", ship->volume,
			 snapshot->name);
	}
}

static void ship_list(struct ships *ships, const struct policy_info *policy, const char *host,
		      const struct volume_info *volume, const struct pace *pace,
		      const struct retention_item *items, size_t count)
{
	struct ship *ship = ship_of(ships, volume->number, host);
	if (!ship)
		return;
	bool other = ship->rate_bytes != pace->rate_bytes;
	ship->listed = true;
	ship->every_ns = policy->rules.every_ns;
	ship->rate_bytes = pace->rate_bytes;
	ship->window = pace->window;
	memcpy(ship->policy, policy->name, NAME_ROOM);
	memcpy(ship->volume, volume->name, NAME_ROOM);
	ship_waits(ship, policy, items, count);
	if (other && ship->phase == SHIP_SEND)
		repl_send_rate(&ship->send, ship->rate_bytes);
}

static void policy_list(struct ships *ships, const struct policy_info *policy,
			const struct lists *lists)
{
	for (size_t i = 0; i < lists->volume_count; i++) {
		const struct volume_info *volume = &lists->volumes[i];
		size_t count;
		if (volume->policy != policy->number || volume->replica)
			continue;
		struct retention_item *items =
			policies_items(lists->briefs, lists->brief_count, volume->number, &count);
		for (unsigned k = 0; items && k < POLICY_HOSTS_MAX; k++) {
			const char *host = policy->rules.send_to[k];
			struct pace pace = pace_of(lists, policy, volume->number, host);
			if (host[0])
				ship_list(ships, policy, host, volume, &pace, items, count);
		}
		free(items);
	}
}

static void ships_list(struct ships *ships)
{
	struct lists lists = {0};
	if (lists_take(ships->store, &lists) == 0) {
		for (struct ship *ship = ships->list; ship; ship = ship->next)
			ship->listed = false;
		for (size_t i = 0; i < lists.policy_count; i++)
			policy_list(ships, &lists.policies[i], &lists);
	}
	lists_free(&lists);
}

static void ships_drop(struct ships *ships)
{
	for (struct ship **at = &ships->list; *at;) {
		struct ship *ship = *at;
		if (!ship->listed || ship_held(ship))
			ship_stop(ship);
		if (ship->listed || ship->phase != SHIP_IDLE) {
			at = &ship->next;
			continue;
		}
		*at = ship->next;
		free(ship);
	}
}

/* ---- which goes next ---- */

static bool host_taken(const struct ships *ships, const char *host)
{
	unsigned active = 0;
	for (const struct ship *at = ships->list; at; at = at->next)
		active += at->phase != SHIP_IDLE && strcmp(at->host, host) == 0;
	return active >= ACTIVE_MAX;
}

static struct ship *ship_next(const struct ships *ships)
{
	struct ship *next = NULL;
	for (struct ship *ship = ships->list; ship; ship = ship->next)
		if (ship->phase == SHIP_IDLE && ship->listed && ship->waiting &&
		    env_now_ns(ships->env) >= ship->retry.at_ns && !ship_held(ship) &&
		    !host_taken(ships, ship->host) && (!next || ship->oldest < next->oldest))
			next = ship;
	return next;
}

static void tick(struct env_timer *timer)
{
	struct ships *ships = container_of(timer, struct ships, timer);
	struct ship *ship;
	if (ships->stopping)
		return;
	env_timer_start(ships->env, timer, TICK_NS);
	ships_list(ships);
	ships_drop(ships);
	while ((ship = ship_next(ships)))
		ship_start(ship);
}

/* ---- the whole ---- */

int ships_new(struct env *env, struct store *store, struct repl *repl, struct ships **ret)
{
	struct ships *ships = calloc(1, sizeof(*ships));
	if (!ships)
		return -ENOMEM;
	ships->env = env;
	ships->store = store;
	ships->repl = repl;
	ships->timer.fire = tick;
	env_timer_start(env, &ships->timer, TICK_NS);
	*ret = ships;
	return 0;
}

void ships_stop(struct ships *ships)
{
	if (!ships)
		return;
	ships->stopping = true;
	env_timer_stop(ships->env, &ships->timer);
	for (struct ship *ship = ships->list; ship; ship = ship->next)
		ship_stop(ship);
}

bool ships_idle(const struct ships *ships)
{
	for (const struct ship *ship = ships ? ships->list : NULL; ship; ship = ship->next)
		if (ship->phase != SHIP_IDLE)
			return false;
	return true;
}

void ships_free(struct ships *ships)
{
	while (ships && ships->list) {
		struct ship *ship = ships->list;
		ships->list = ship->next;
		free(ship);
	}
	free(ships);
}

static void state_fill(const struct ship *ship, struct ship_state *state)
{
	uint64_t now = env_wall_ns(ship->ships->env);
	bool hours = !window_always(&ship->window);
	*state = (struct ship_state){.rate_bytes = ship->rate_bytes,
				     .window = ship->window,
				     .waiting = ship->waiting,
				     .sending = ship->phase == SHIP_SEND,
				     .held = ship->waiting && ship_held(ship),
				     .sent = ship->sent,
				     .sent_bytes = ship->sent_bytes};
	memcpy(state->volume, ship->volume, NAME_ROOM);
	memcpy(state->host, ship->host, NAME_ROOM);
	memcpy(state->policy, ship->policy, NAME_ROOM);
	memcpy(state->sentence, ship->retry.sentence, SENTENCE_BYTES);
	if (state->sending)
		state->sent_bytes += ship->send.sent_bytes;
	if (!ship->waiting)
		return;
	memcpy(state->snapshot, ship->oldest_name, SNAP_NAME_ROOM);
	state->waits_ns = now - min_u64(now, ship->oldest_wall_ns);
	state->late = state->waits_ns > max_u64(ship->every_ns, HOUR_NS) + (hours ? DAY_NS : 0);
}

int ships_states(const struct ships *ships, struct ship_state **ret, size_t *ret_count)
{
	size_t count = 0;
	*ret = NULL;
	*ret_count = 0;
	for (const struct ship *ship = ships ? ships->list : NULL; ship; ship = ship->next)
		count++;
	if (!count)
		return 0;
	struct ship_state *states = calloc(count, sizeof(*states));
	if (!states)
		return -ENOMEM;
	count = 0;
	for (const struct ship *ship = ships->list; ship; ship = ship->next)
		if (ship->listed)
			state_fill(ship, &states[count++]);
	*ret = states;
	*ret_count = count;
	return 0;
}
