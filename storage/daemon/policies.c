/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running policies, see policies.h.
 *
 * At each tick, and after each step, one thing is done: a step of snapshots that are due (volumes
 * of one policy, up to a group, at one moment), else a group of what no rule keeps of one volume
 * goes to the trash, the oldest first, else nothing. Nothing is remembered that the store does not
 * have, so a crash at any point only means that the next look finds the same work again.
 *
 * What a look finds to go only says of which volume something may go. Which ones do is planned when
 * the store removes them, and nothing can come between: whatever was held, deleted or received
 * meanwhile, or said of rules, counts. So one plan serves a group, and is never an old one.
 *
 * What the store refuses is passed over for a minute and stops nothing else: when it refuses a
 * group, its members are tried one by one.
 */
#include "storage/daemon/policies.h"

#include "storage/rt/log_event.h"
#include "storage/store/store_follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TICK_NS (5 * NSEC_PER_SEC)
#define REFUSED_NS (60 * NSEC_PER_SEC) /* until what was refused is tried again */
#define REFUSED_MAX 64u

struct policies {
	struct env *env;
	struct store *store;
	struct env_timer timer;
	struct admin_op op;
	bool busy, stopping;
	bool prune;		 /* there may be something to remove */
	uint32_t received;	 /* the highest number in copies that have a policy */
	uint32_t asked;		 /* number of the policy that somebody wants to run now */
	uint32_t asked_above;	 /* snapshots of it with a larger number were taken for that */
	struct admin_op *waiter; /* who asked */
	int failed;		 /* the first failure of the run that was asked for, and why */
	char failed_sentence[SENTENCE_BYTES];

	char what[SNAP_NAME_ROOM];
	const char *step;
	uint32_t target; /* the step's volume or snapshot; 0: several */
	uint32_t volume; /* whose snapshots a removal is of (0: it is none) ... */
	char gone[SNAP_GROUP_MAX][SNAP_NAME_ROOM]; /* ... and which */
	unsigned gone_count;

	uint32_t refused[REFUSED_MAX]; /* volumes and snapshots, by their number */
	unsigned refused_count;	       /* all of them: the store takes nothing, nothing is tried */
	bool one_by_one;
	uint64_t refused_until_ns; /* 0: nothing was refused */
};

static void policies_look(struct policies *policies);

static void waiter_end(struct policies *policies, int res, const char *sentence)
{
	struct admin_op *waiter = policies->waiter;
	policies->waiter = NULL;
	policies->asked = 0;
	if (waiter) {
		snprintf(waiter->sentence, SENTENCE_BYTES, "%s", sentence);
		env_complete(policies->env, &waiter->op, res);
	}
	policies->failed = 0;
	policies->failed_sentence[0] = 0;
}

static int by_volume_newest_first(const void *a, const void *b)
{
	const struct snapshot_brief *left = a, *right = b;
	if (left->volume_number != right->volume_number)
		return left->volume_number < right->volume_number ? -1 : 1;
	return left->number < right->number ? 1 : left->number > right->number ? -1 : 0;
}

int policies_list(const struct store *store, struct snapshot_brief **ret, size_t *ret_count)
{
	int res = store_snapshot_briefs(store, ret, ret_count);
	if (res == 0)
		qsort(*ret, *ret_count, sizeof **ret, by_volume_newest_first);
	return res;
}

struct retention_item *policies_items(const struct snapshot_brief *list, size_t list_count,
				      uint32_t volume, size_t *ret_count)
{
	size_t first = 0, end = list_count;
	while (first < end) {
		size_t middle = first + (end - first) / 2;
		if (list[middle].volume_number < volume)
			first = middle + 1;
		else
			end = middle;
	}
	while (end < list_count && list[end].volume_number == volume)
		end++;
	struct retention_item *items = calloc(end - first + 1, sizeof(*items));
	if (!items)
		return NULL;
	for (size_t i = first; i < end; i++)
		items[i - first].snapshot = &list[i];
	*ret_count = end - first;
	return items;
}

bool policies_received(const struct policy_info *policy, const struct volume_info *volume)
{
	return volume->replica && !policy->rules.every_ns;
}

void policies_plan(struct env *env, const struct policy_info *policy,
		   const struct volume_info *volume, struct retention_item *items, size_t count)
{
	if (policies_received(policy, volume))
		retention_plan_copy(policy, env_wall_ns(env), items, count);
	else
		retention_plan(policy, items, count);
}

/* ---- steps, and what the store refused ---- */

static void step_refused(struct policies *policies, int res)
{
	if (!policies->refused_until_ns)
		policies->refused_until_ns = env_now_ns(policies->env) + REFUSED_NS;
	if (!policies->target) {
		policies->one_by_one = true;
		return;
	}
	if (policies->waiter && !policies->failed) {
		policies->failed = res;
		memcpy(policies->failed_sentence, policies->op.sentence, SENTENCE_BYTES);
	}
	log_event(LOG_LEVEL_WARNING, "policy.failed", "step=%s object=%s error=\"%s\"",
		  policies->step, policies->what, policies->op.sentence);
	policies->refused[policies->refused_count++] = policies->target;
	if (res == -EROFS || res == -VS_EFAILSTOP)
		policies->refused_count = REFUSED_MAX;
}

static bool is_refused(const struct policies *policies, uint32_t number)
{
	for (unsigned i = 0; i < policies->refused_count; i++)
		if (policies->refused[i] == number)
			return true;
	return policies->refused_count == REFUSED_MAX;
}

static void refused_try_again(struct policies *policies)
{
	policies->refused_until_ns = 0;
	policies->refused_count = 0;
	policies->one_by_one = false;
	policies->prune = true;
}

static void step_log(const struct policies *policies, const char *object)
{
	log_event(LOG_LEVEL_INFO, "policy.step", "step=%s object=%s", policies->step, object);
}

static void step_done(struct io_op *op)
{
	struct policies *policies = container_of(op, struct policies, op.op);
	policies->busy = false;
	if (op->res < 0)
		step_refused(policies, (int)op->res);
	else if (!policies->volume)
		step_log(policies, policies->what);
	for (unsigned i = 0; i < policies->gone_count && op->res >= 0; i++)
		step_log(policies, policies->gone[i]);
	policies_look(policies);
}

static struct admin_op *step_begin(struct policies *policies, const char *step, const char *what,
				   uint32_t target)
{
	policies->busy = true;
	policies->step = step;
	policies->target = target;
	policies->volume = policies->gone_count = 0;
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
		       const struct volume_info *volume, const struct retention_item *items,
		       size_t count, uint64_t now)
{
	if (policies_received(policy, volume))
		return false;
	if (policies->asked != policy->number)
		return retention_due(policy, now, items, count);
	for (size_t i = 0; i < count; i++)
		if (items[i].snapshot->policy == policy->number)
			return items[i].snapshot->number <= policies->asked_above &&
			       items[i].snapshot->created_wall_ns / NSEC_PER_SEC !=
				       now / NSEC_PER_SEC; /* it would have the same name */
	return true;
}

/* A copy got another snapshot since the last look: rules may let go of some. items: the newest
 * first. A cut takes no rule's place. */
static void look_received(struct policies *policies, const struct retention_item *items,
			  size_t count)
{
	size_t i = 0;
	while (i < count && items[i].snapshot->policy == POLICY_CUT)
		i++;
	if (i == count || items[i].snapshot->number <= policies->received)
		return;
	policies->received = items[i].snapshot->number;
	policies->prune = true;
}

/* ---- removals ---- */

/* What goes of the volume by these rules now, the oldest first, at most so many. */
static unsigned removable(struct policies *policies, const struct policy_info *policy,
			  const struct volume_info *volume, struct retention_item *items,
			  size_t count, uint32_t *ret_numbers, unsigned max)
{
	unsigned found = 0;
	policies_plan(policies->env, policy, volume, items, count);
	for (size_t k = count; k-- > 0 && found < max;) {
		const struct snapshot_brief *snapshot = items[k].snapshot;
		if (items[k].keep || is_refused(policies, snapshot->number))
			continue;
		snprintf(policies->gone[found], SNAP_NAME_ROOM, "%s@%s", volume->name,
			 snapshot->name);
		ret_numbers[found++] = snapshot->number;
	}
	return found;
}

/* Of one volume that has a policy. */
static int volume_removable(struct policies *policies, const struct policy_info *policy,
			    const struct volume_info *volume, uint32_t *ret_numbers, unsigned max)
{
	struct snapshot_brief *list;
	size_t list_count, count;
	int res = policies_list(policies->store, &list, &list_count);
	if (res < 0)
		return res;
	struct retention_item *items = policies_items(list, list_count, volume->number, &count);
	res = items ? (int)removable(policies, policy, volume, items, count, ret_numbers, max)
		    : -ENOMEM;
	free(items);
	free(list);
	return res;
}

/* As all is at the moment of the removal, whatever was planned before. */
static int removal_choose(struct admin_op *op, uint32_t ret_numbers[SNAP_GROUP_MAX])
{
	struct policies *policies = container_of(op, struct policies, op);
	struct volume_info volume;
	struct policy_info *list;
	size_t count;
	int res = store_policies(policies->store, &list, &count);
	if (res < 0)
		return res;
	if (store_volume_info(policies->store, policies->volume, &volume) == 0)
		for (size_t i = 0; i < count && res == 0; i++)
			if (list[i].number == volume.policy)
				res = volume_removable(policies, &list[i], &volume, ret_numbers,
						       policies->one_by_one ? 1 : SNAP_GROUP_MAX);
	free(list);
	policies->gone_count = res < 0 ? 0 : (unsigned)res;
	policies->target = res == 1 ? ret_numbers[0] : policies->target;
	return res;
}

static void removal_begin(struct policies *policies, const char *what, uint32_t volume,
			  uint32_t target)
{
	struct admin_op *op = step_begin(policies, "remove", what, target);
	policies->volume = volume;
	store_snap_delete_chosen(policies->store, op, removal_choose);
}

/* ---- what is next ---- */

/* One policy's next step. True: one was begun. */
static bool policy_step(struct policies *policies, const struct policy_info *policy,
			const struct volume_info *volumes, size_t volume_count,
			const struct snapshot_brief *list, size_t list_count)
{
	static char names[SNAP_GROUP_MAX][SNAP_NAME_ROOM]; /* the reactor's thread only */
	const char *group[SNAP_GROUP_MAX];
	char remove[SNAP_NAME_ROOM];
	uint32_t taken = 0;		      /* number of the last one due */
	uint32_t removed = 0, removed_of = 0; /* of one to remove, of its volume */
	size_t due = 0, due_max = policies->one_by_one ? 1 : SNAP_GROUP_MAX, count;
	uint64_t now = env_wall_ns(policies->env);
	for (size_t i = 0; i < volume_count && due < due_max; i++) {
		if (volumes[i].policy != policy->number)
			continue;
		struct retention_item *items =
			policies_items(list, list_count, volumes[i].number, &count);
		if (!items)
			continue;
		if (volume_due(policies, policy, &volumes[i], items, count, now) &&
		    !is_refused(policies, volumes[i].number)) {
			taken = volumes[i].number;
			snapshot_name(names[due], volumes[i].name, policy->name, now);
			group[due] = names[due];
			due++;
		}
		if (policies_received(policy, &volumes[i]))
			look_received(policies, items, count);
		if (policies->prune && !removed &&
		    removable(policies, policy, &volumes[i], items, count, &removed, 1)) {
			removed_of = volumes[i].number;
			memcpy(remove, policies->gone[0], sizeof remove);
		}
		free(items);
	}
	if (due) {
		policies->prune = true;
		store_policy_snap(policies->store,
				  step_begin(policies, "snapshot", group[0], due == 1 ? taken : 0),
				  group, due, policy->number);
		return true;
	}
	if (removed)
		removal_begin(policies, remove, removed_of, policies->one_by_one ? removed : 0);
	return removed;
}

static void policies_look(struct policies *policies)
{
	struct policy_info *list;
	struct volume_info *volumes = NULL;
	struct snapshot_brief *snapshots = NULL;
	size_t count, volume_count, snapshot_count;
	bool begun = false;
	if (policies->busy || policies->stopping)
		return;
	env_timer_start(policies->env, &policies->timer, TICK_NS);
	if (policies->refused_until_ns && env_now_ns(policies->env) >= policies->refused_until_ns)
		refused_try_again(policies);
	if (store_policies(policies->store, &list, &count) < 0)
		return;
	if (count && store_volumes(policies->store, false, &volumes, &volume_count) == 0 &&
	    policies_list(policies->store, &snapshots, &snapshot_count) == 0)
		for (size_t i = 0; i < count && !begun; i++)
			begun = policy_step(policies, &list[i], volumes, volume_count, snapshots,
					    snapshot_count);
	free(snapshots);
	free(volumes);
	if (!begun) {
		policies->prune = false;
		waiter_end(policies, policies->failed, policies->failed_sentence);
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
	struct snapshot_brief *snapshots;
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
	res = number ? store_snapshot_briefs(policies->store, &snapshots, &snapshot_count)
		     : -ENOENT;
	if (res < 0) {
		run_refuse(
			policies, op, res,
			number ? ""
			       : "There is no policy with this name; vstorectl policy list shows "
				 "those that are.");
		return;
	}
	policies->asked_above = snapshot_count ? snapshots[snapshot_count - 1].number : 0;
	free(snapshots);
	policies->asked = number;
	policies->waiter = op;
	refused_try_again(policies);
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
