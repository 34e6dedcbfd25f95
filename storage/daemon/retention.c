/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots a policy keeps, see retention.h. */
#include "storage/daemon/retention.h"

#include "storage/store/mutant.h"
#include "storage/store/store_follow.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define AHEAD_NS (3600 * NSEC_PER_SEC) /* clocks of two hosts may differ by so much */
#define NAMED_SECONDS 86400	       /* a policy's snapshot may wait for so long, named */

static const char *const names[POLICY_KEEPS] = {"last",	  "hourly",  "daily",
						"weekly", "monthly", "yearly"};

/* The hour, day ... that a moment lies in, UTC. */
static int64_t period(enum policy_keep rule, uint64_t wall_ns, uint32_t number)
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm tm;
	switch (rule) {
	case KEEP_HOURLY:
		return seconds / 3600;
	case KEEP_DAILY:
		return seconds / 86400;
	case KEEP_WEEKLY:
		return (seconds / 86400 + 3) / 7; /* 1970 began on a Thursday, weeks on Mondays */
	case KEEP_MONTHLY:
		gmtime_r(&seconds, &tm);
		return tm.tm_year * 12 + tm.tm_mon;
	case KEEP_YEARLY:
		gmtime_r(&seconds, &tm);
		return tm.tm_year;
	default:
		return number; /* each for itself */
	}
}

static bool policys_own(const struct policy_info *policy, const struct retention_item *item)
{
	return item->snapshot->policy == policy->number;
}

/* Kept, whatever the rules say; they count it, unless `others` says why not. */
static void item_begin(struct retention_item *item, const char *others)
{
	const struct snapshot_brief *s = item->snapshot;
	char *rule = item->rule;
	rule[0] = 0;
	item->counts = !others;
	item->late = false;
	if (others)
		snprintf(rule, sizeof item->rule, "%s", others);
	else if (s->hold)
		snprintf(rule, sizeof item->rule, "hold %s", s->hold);
	else if (s->retained)
		snprintf(rule, sizeof item->rule, "retained");
	else if (s->attached)
		snprintf(rule, sizeof item->rule, "in use");
	item->keep = rule[0];
}

/* One series: all that is late, or all that is not. */
static void rules_count(const struct policy_info *policy, struct retention_item *items,
			size_t count, bool late)
{
	for (enum policy_keep rule = 0; rule < POLICY_KEEPS; rule++) {
		int64_t last = INT64_MIN;
		uint32_t kept = 0;
		for (size_t i = 0; i < count && kept < policy->rules.keep[rule]; i++) {
			struct retention_item *item = &items[i];
			if (!item->counts || item->late != late)
				continue;
			int64_t at = period(rule, item->snapshot->created_wall_ns,
					    item->snapshot->number);
			if (at == last)
				continue;
			last = at;
			kept++;
			if (!item->keep)
				snprintf(item->rule, sizeof item->rule, "%s%s %u of %u",
					 late ? "late: " : "", names[rule], kept,
					 policy->rules.keep[rule]);
			item->keep = true;
		}
	}
}

void retention_plan(const struct policy_info *policy, struct retention_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		item_begin(&items[i], policys_own(policy, &items[i]) ? NULL : "not the policy's");
	rules_count(policy, items, count, false);
}

/* ---- copies ---- */

/* POLICY-YYYYMMDD-HHMMSSZ, of the time when it was taken: a person who names by dates, of records
 * say, names others. */
static bool named_by_policy(const struct snapshot_brief *s)
{
	static const char end[] = "-dddddddd-ddddddZ";
	size_t bytes = strlen(s->name), end_bytes = sizeof end - 1;
	const char *at = s->name + bytes - end_bytes;
	struct tm tm = {0};
	if (bytes <= end_bytes)
		return false;
	for (size_t i = 0; i < end_bytes; i++)
		if (end[i] == 'd' ? at[i] < '0' || at[i] > '9' : at[i] != end[i])
			return false;
	if (!strptime(at, "-%Y%m%d-%H%M%SZ", &tm))
		return false;
	int64_t named_s = timegm(&tm), taken_s = (int64_t)(s->created_wall_ns / NSEC_PER_SEC);
	if (MUTANT(86))
		return true;
	return taken_s >= named_s - 60 && taken_s < named_s + NAMED_SECONDS;
}

static bool snapshot_before(const struct snapshot_brief *left, const struct snapshot_brief *right)
{
	return position_before(left->epoch, left->vseq, right->epoch, right->vseq);
}

/* Of older writes than another one that came before it, and is here: a history that is sent once
 * more, or what a sender from a backup sends. items: the newest first. */
static void late_find(struct retention_item *items, size_t count)
{
	const struct snapshot_brief *furthest = NULL;
	for (size_t i = count; i-- > 0;) {
		if (!items[i].counts)
			continue;
		items[i].late =
			furthest && snapshot_before(items[i].snapshot, furthest) && !MUTANT(87);
		if (!items[i].late)
			furthest = items[i].snapshot;
	}
}

static void keep_always(struct retention_item *item, const char *why)
{
	if (!item->keep)
		snprintf(item->rule, sizeof item->rule, "%s", why);
	item->keep = true;
}

/* Of those that still count; how many of them no rule keeps, which then do not count any more. */
static size_t plan_pass(const struct policy_info *policy, struct retention_item *items,
			size_t count)
{
	struct retention_item *furthest = NULL, *last = NULL;
	size_t gone = 0;
	for (size_t i = 0; i < count; i++)
		if (items[i].counts)
			item_begin(&items[i], NULL);
	late_find(items, count);
	rules_count(policy, items, count, false);
	rules_count(policy, items, count, true);
	for (size_t i = 0; i < count; i++) {
		struct retention_item *item = &items[i];
		if (!item->counts)
			continue;
		if (!furthest || snapshot_before(furthest->snapshot, item->snapshot))
			furthest = item;
		if (!last)
			last = item;
	}
	if (last) {
		if (!MUTANT(85))
			keep_always(furthest, "newest");
		keep_always(last, "came last");
	}
	for (size_t i = 0; i < count; i++)
		if (items[i].counts && !items[i].keep) {
			items[i].counts = false;
			gone++;
		}
	return gone;
}

/* Nothing is late any more when that has gone which it came behind: so until nothing changes. */
void retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
			 struct retention_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_brief *s = items[i].snapshot;
		const char *others = NULL;
		if (s->policy == POLICY_CUT || !named_by_policy(s))
			others = "no policy's";
		else if (s->created_wall_ns > now_wall_ns + AHEAD_NS)
			others = "of a date to come";
		item_begin(&items[i], others);
	}
	while (plan_pass(policy, items, count))
		;
}

bool retention_due(const struct policy_info *policy, uint64_t now_wall_ns,
		   const struct retention_item *items, size_t count)
{
	uint64_t every = policy->rules.every_ns;
	if (!every)
		return false;
	for (size_t i = 0; i < count; i++)
		if (policys_own(policy, &items[i]))
			return items[i].snapshot->created_wall_ns / every != now_wall_ns / every;
	return true;
}
