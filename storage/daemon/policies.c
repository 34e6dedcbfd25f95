/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running policies, see policies.h.
 *
 * At each tick, and after each step, one thing is done: a step of snapshots that are due (volumes
 * of one policy, up to a group, at one moment), else one snapshot that no rule keeps goes to the
 * trash, else nothing. Nothing is remembered that the store does not have, so a crash at any point
 * only means that the next look finds the same work again.
 */
#include "storage/daemon/policies.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_NS (5 * NSEC_PER_SEC)
#define FAILED_PAUSE_NS (60 * NSEC_PER_SEC) /* after a step that the store refused */

struct policies {
	struct env *env;
	struct store *store;
	struct env_timer timer;
	struct admin_op op;
	bool busy, stopping;
	bool prune;		 /* there may be something to remove */
	uint32_t asked;		 /* number of the policy that somebody wants to run now */
	uint32_t asked_above;	 /* snapshots of it with a larger number were taken for that */
	struct admin_op *waiter; /* who asked */
	char what[SNAP_NAME_ROOM];
	const char *step;
};

static void policies_look(struct policies *policies);

static void waiter_end(struct policies *policies, int res, const char *sentence)
{
	struct admin_op *waiter = policies->waiter;
	policies->waiter = NULL;
	policies->asked = 0;
	if (!waiter)
		return;
	snprintf(waiter->sentence, SENTENCE_BYTES, "%s", sentence);
	env_complete(policies->env, &waiter->op, res);
}

static int newest_first(const void *a, const void *b)
{
	uint32_t left = ((const struct snapshot_info *)a)->number;
	uint32_t right = ((const struct snapshot_info *)b)->number;
	return left < right ? 1 : left > right ? -1 : 0;
}

int policies_plan(struct store *store, const struct policy_info *policy, uint32_t volume,
		  struct snapshot_info **ret_snapshots, struct retention_item **ret_items,
		  size_t *ret_count)
{
	struct snapshot_info *snapshots;
	size_t all, count = 0;
	int res = store_snapshots(store, false, &snapshots, &all);
	if (res < 0)
		return res;
	for (size_t i = 0; i < all; i++)
		if (snapshots[i].volume_number == volume)
			snapshots[count++] = snapshots[i];
	qsort(snapshots, count, sizeof *snapshots, newest_first);
	struct retention_item *items = calloc(count + 1, sizeof(*items)); /* room for a new one */
	if (!items) {
		free(snapshots);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		items[i].snapshot = &snapshots[i];
	retention_plan(policy, items, count);
	*ret_snapshots = snapshots;
	*ret_items = items;
	*ret_count = count;
	return 0;
}

static void step_done(struct io_op *op)
{
	struct policies *policies = container_of(op, struct policies, op.op);
	policies->busy = false;
	if (op->res < 0) {
		log_event(LOG_LEVEL_WARNING, "policy.failed", "step=%s object=%s error=\"%s\"",
			  policies->step, policies->what, policies->op.sentence);
		policies->prune = false; /* until the next snapshot */
		waiter_end(policies, (int)op->res, policies->op.sentence);
		if (!policies->stopping)
			env_timer_start(policies->env, &policies->timer, FAILED_PAUSE_NS);
		return;
	}
	log_event(LOG_LEVEL_INFO, "policy.step", "step=%s object=%s", policies->step,
		  policies->what);
	policies_look(policies);
}

static struct admin_op *step_begin(struct policies *policies, const char *step, const char *what)
{
	policies->busy = true;
	policies->step = step;
	snprintf(policies->what, sizeof policies->what, "%s", what);
	env_timer_stop(policies->env, &policies->timer);
	policies->op = (struct admin_op){.op.done = step_done};
	return &policies->op;
}

static void snapshot_name(char out[SNAP_NAME_ROOM], const char *volume, const char *policy,
			  uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm tm;
	char moment[24];
	gmtime_r(&seconds, &tm);
	strftime(moment, sizeof moment, "%Y%m%d-%H%M%SZ", &tm);
	snprintf(out, SNAP_NAME_ROOM, "%s@%.40s-%s", volume, policy, moment);
}

static bool volume_due(const struct policies *policies, const struct policy_info *policy,
		       const struct retention_item *items, size_t count, uint64_t now)
{
	if (policies->asked != policy->number)
		return retention_due(policy, now, items, count);
	for (size_t i = 0; i < count; i++)
		if (items[i].snapshot->policy == policy->number)
			return items[i].snapshot->number <= policies->asked_above &&
			       items[i].snapshot->created_wall_ns / NSEC_PER_SEC !=
				       now / NSEC_PER_SEC; /* it would have the same name */
	return true;
}

/* One policy's next step. True: one was begun. */
static bool policy_step(struct policies *policies, const struct policy_info *policy,
			const struct volume_info *volumes, size_t volume_count)
{
	static char names[SNAP_GROUP_MAX][SNAP_NAME_ROOM]; /* the reactor's thread only */
	const char *group[SNAP_GROUP_MAX];
	char remove[SNAP_NAME_ROOM] = "";
	size_t due = 0, count;
	uint64_t now = env_wall_ns(policies->env);
	for (size_t i = 0; i < volume_count && due < SNAP_GROUP_MAX; i++) {
		struct snapshot_info *snapshots;
		struct retention_item *items;
		if (volumes[i].policy != policy->number ||
		    policies_plan(policies->store, policy, volumes[i].number, &snapshots, &items,
				  &count) < 0)
			continue;
		if (volume_due(policies, policy, items, count, now)) {
			snapshot_name(names[due], volumes[i].name, policy->name, now);
			group[due] = names[due];
			due++;
		}
		for (size_t k = count; k-- > 0 && policies->prune && !remove[0];)
			if (!items[k].keep)
				snprintf(remove, sizeof remove, "%s@%s", snapshots[k].volume,
					 snapshots[k].name);
		free(items);
		free(snapshots);
	}
	if (due) {
		policies->prune = true;
		store_policy_snap(policies->store, step_begin(policies, "snapshot", group[0]),
				  group, due, policy->number);
		return true;
	}
	if (remove[0])
		store_snap_delete(policies->store, step_begin(policies, "remove", remove), remove);
	return remove[0];
}

static void policies_look(struct policies *policies)
{
	struct policy_info *list;
	struct volume_info *volumes;
	size_t count, volume_count;
	bool begun = false;
	if (policies->busy || policies->stopping)
		return;
	env_timer_start(policies->env, &policies->timer, TICK_NS);
	if (store_policies(policies->store, &list, &count) < 0)
		return;
	if (count && store_volumes(policies->store, false, &volumes, &volume_count) == 0) {
		for (size_t i = 0; i < count && !begun; i++)
			begun = policy_step(policies, &list[i], volumes, volume_count);
		free(volumes);
	}
	if (!begun) {
		policies->prune = false;
		waiter_end(policies, 0, "");
	}
	free(list);
}

static void policies_tick(struct env_timer *timer)
{
	policies_look(container_of(timer, struct policies, timer));
}

void policies_changed(struct policies *policies)
{
	policies->prune = true;
}

static void run_refuse(struct policies *policies, struct admin_op *op, int res,
		       const char *sentence)
{
	snprintf(op->sentence, SENTENCE_BYTES, "%s", sentence[0] ? sentence : vs_strerror(res));
	env_complete(policies->env, &op->op, res);
}

void policies_run(struct policies *policies, struct admin_op *op, const char *name)
{
	struct policy_info *list;
	struct snapshot_info *snapshots;
	size_t count, snapshot_count;
	uint32_t number = 0;
	if (policies->waiter || policies->stopping) {
		run_refuse(policies, op, -EBUSY, "Policies run just now; try again in a moment.");
		return;
	}
	int res = store_policies(policies->store, &list, &count);
	if (res < 0) {
		run_refuse(policies, op, res, "");
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].name, name) == 0)
			number = list[i].number;
	free(list);
	res = number ? store_snapshots(policies->store, false, &snapshots, &snapshot_count)
		     : -ENOENT;
	if (res < 0) {
		run_refuse(
			policies, op, res,
			number ? ""
			       : "There is no policy with this name; vstorectl policy list shows "
				 "those that are.");
		return;
	}
	policies->asked_above = 0;
	for (size_t i = 0; i < snapshot_count; i++)
		policies->asked_above =
			(uint32_t)max_u64(policies->asked_above, snapshots[i].number);
	free(snapshots);
	policies->asked = number;
	policies->waiter = op;
	policies->prune = true;
	policies_look(policies);
}

int policies_new(struct env *env, struct store *store, struct policies **ret_policies)
{
	struct policies *policies = calloc(1, sizeof(*policies));
	if (!policies)
		return -ENOMEM;
	policies->env = env;
	policies->store = store;
	policies->prune = true; /* the last life may have ended before it was done */
	policies->timer.fire = policies_tick;
	env_timer_start(env, &policies->timer, TICK_NS);
	*ret_policies = policies;
	return 0;
}

void policies_stop(struct policies *policies)
{
	if (!policies)
		return;
	policies->stopping = true;
	env_timer_stop(policies->env, &policies->timer);
	waiter_end(policies, -ESHUTDOWN, "vstored is stopping; try again when it runs.");
}

bool policies_idle(const struct policies *policies)
{
	return !policies || !policies->busy;
}

void policies_free(struct policies *policies)
{
	free(policies);
}
