/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the store's policies: takes the snapshots that are due, then moves those to the trash that
 * no rule keeps. One step at a time, whatever was missed; the time is the env's. Needs nothing but
 * a store, so that it runs in a simulated world as well.
 *
 * A policy that takes nothing by itself (no --every) lets go of what was received, on a copy of
 * another host's volume: what its rules do not keep goes, soon after something newer came. One that
 * takes does so of a copy too, and counts what it took.
 */
#ifndef STORAGE_DAEMON_POLICIES_H
#define STORAGE_DAEMON_POLICIES_H

#include "storage/daemon/retention.h"

struct policies;

/* Begins to run them. */
int policies_new(struct env *env, struct store *store, struct policies **ret_policies);
void policies_stop(struct policies *policies); /* nothing new begins; NULL is fine */
bool policies_idle(const struct policies *policies);
/* Must be idle, or its env is gone. NULL is fine. */
void policies_free(struct policies *policies);
/* Rules, or whose they are, have changed: what no rule keeps goes soon. */
void policies_changed(struct policies *policies);

/* Takes a snapshot of each of the policy's volumes now (not of copies whose received ones it is
 * about), and removes what no rule keeps; done then. -ENOENT: there is no such policy, -EBUSY:
 * another run is under way. */
void policies_run(struct policies *policies, struct admin_op *op, const char *name);

/* All snapshots (store_snapshot_briefs), by volume, the newest of each first. The caller frees it.
 */
int policies_list(const struct store *store, struct snapshot_brief **ret, size_t *ret_count);
/* Of such a list those of one volume, for retention.h: they point into the list, and have room for
 * one more. The caller frees them; NULL: no memory. */
struct retention_item *policies_items(const struct snapshot_brief *list, size_t list_count,
				      uint32_t volume, size_t *ret_count);
/* Whether its rules are about what was received, and nothing is taken. */
bool policies_received(const struct policy_info *policy, const struct volume_info *volume);
/* What the policy keeps of them: retention_plan, or, of a copy, retention_plan_copy. */
void policies_plan(struct env *env, const struct policy_info *policy,
		   const struct volume_info *volume, struct retention_item *items, size_t count);

#endif
