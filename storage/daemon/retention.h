/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a volume's snapshots a policy keeps. Pure: no clock, no store.
 *
 * Rules count snapshots, not days gone by: "daily 7" keeps the newest of each of the last seven
 * days that have one. So a clock that jumps removes nothing early, and neither does a host that was
 * off. "Newest" is the order in which they were taken, whatever the clock said.
 *
 * Of a copy of another host's volume the dates are that host's, and who took a snapshot is told by
 * its name alone. The newest is what came last, whatever its date. One that holds older writes than
 * another that was there came late, or its sender goes on from a backup: the late ones are a series
 * of their own, so that neither drives out the other. What is of a date to come is neither removed
 * nor counted.
 */
#ifndef STORAGE_DAEMON_RETENTION_H
#define STORAGE_DAEMON_RETENTION_H

#include "storage/store/store_list.h"

struct retention_item {
	const struct snapshot_brief *snapshot;
	bool counts; /* for the rules */
	bool late;   /* of a copy */
	bool keep;
	char rule[NAME_ROOM + 16]; /* which one keeps it; "": none does */
};

/* `items` are one volume's, the newest (by number) first. Snapshots that the policy did not take
 * are kept and no rule counts them; held ones, those with a date to come and those in use are kept,
 * and rules count them. */
void retention_plan(const struct policy_info *policy, struct retention_item *items, size_t count);

/* The same for a copy. Rules count what some policy took, of whatever host: its name ends as
 * policies' do (-YYYYMMDD-HHMMSSZ), with the time when it was taken. All else is kept: what
 * somebody named, cuts, fenced-EPOCH. So are, whatever the rules, the one that holds the latest
 * writes, which the copy may be put back to, and the one that came last. */
void retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
			 struct retention_item *items, size_t count);

/* Whether a volume is due for its snapshot: never had one of the policy's, or the last was taken in
 * another period (hours, days ... since 1970 UTC). However many were missed, one is due. */
bool retention_due(const struct policy_info *policy, uint64_t now_wall_ns,
		   const struct retention_item *items, size_t count);

#endif
