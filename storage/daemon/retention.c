/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots a policy keeps, see retention.h. */
#include "storage/daemon/retention.h"

#include "storage/store/store_follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AHEAD_NS (3600 * NSEC_PER_SEC) /* clocks of two hosts may differ by so much */

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

static void rules_count(const struct policy_info *policy, struct retention_item *items,
			size_t count)
{
	for (enum policy_keep rule = 0; rule < POLICY_KEEPS; rule++) {
		int64_t last = INT64_MIN;
		uint32_t kept = 0;
		for (size_t i = 0; i < count && kept < policy->rules.keep[rule]; i++) {
			struct retention_item *item = &items[i];
			if (!item->counts)
				continue;
			int64_t at = period(rule, item->snapshot->created_wall_ns,
					    item->snapshot->number);
			if (at == last)
				continue;
			last = at;
			kept++;
			if (!item->keep)
				snprintf(item->rule, sizeof item->rule, "%s %u of %u", names[rule],
					 kept, policy->rules.keep[rule]);
			item->keep = true;
		}
	}
}

void retention_plan(const struct policy_info *policy, struct retention_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		item_begin(&items[i], policys_own(policy, &items[i]) ? NULL : "not the policy's");
	rules_count(policy, items, count);
}

/* ---- copies ---- */

/* POLICY-YYYYMMDD-HHMMSSZ */
static bool named_by_policy(const char *name)
{
	static const char end[] = "-dddddddd-ddddddZ";
	size_t bytes = strlen(name), end_bytes = sizeof end - 1;
	if (bytes <= end_bytes)
		return false;
	for (size_t i = 0; i < end_bytes; i++) {
		char at = name[bytes - end_bytes + i];
		if (end[i] == 'd' ? at < '0' || at > '9' : at != end[i])
			return false;
	}
	return true;
}

static bool position_before(const struct snapshot_brief *left, const struct snapshot_brief *right)
{
	return left->epoch < right->epoch ||
	       (left->epoch == right->epoch && left->vseq < right->vseq);
}

static int newest_first(const void *a, const void *b)
{
	const struct retention_item *left = a, *right = b;
	if (left->order_ns != right->order_ns)
		return left->order_ns < right->order_ns ? 1 : -1;
	uint32_t l = left->snapshot->number, r = right->snapshot->number;
	return l < r ? 1 : l > r ? -1 : 0;
}

/* As they came; one of older writes than another that was there is put where its date says. */
static void put_in_order(struct retention_item *items, size_t count)
{
	const struct snapshot_brief *furthest = NULL;
	uint64_t newest_ns = 0;
	for (size_t i = count; i-- > 0;) {
		const struct snapshot_brief *s = items[i].snapshot;
		items[i].order_ns = newest_ns;
		if (!items[i].counts)
			continue;
		if (furthest && position_before(s, furthest)) {
			items[i].order_ns = s->created_wall_ns;
			continue;
		}
		furthest = s;
		newest_ns = max_u64(newest_ns, s->created_wall_ns);
		items[i].order_ns = newest_ns;
	}
	qsort(items, count, sizeof(*items), newest_first);
}

static void keep_always(struct retention_item *item, const char *why)
{
	if (!item->keep)
		snprintf(item->rule, sizeof item->rule, "%s", why);
	item->keep = true;
}

void retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
			 struct retention_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_brief *s = items[i].snapshot;
		const char *others = NULL;
		if (s->policy == POLICY_CUT || !named_by_policy(s->name))
			others = "no policy's";
		else if (s->created_wall_ns > now_wall_ns + AHEAD_NS)
			others = "of a date to come";
		item_begin(&items[i], others);
	}
	put_in_order(items, count);
	rules_count(policy, items, count);
	struct retention_item *furthest = NULL, *last = NULL;
	for (size_t i = 0; i < count; i++) {
		struct retention_item *item = &items[i];
		if (!item->counts)
			continue;
		if (!furthest || position_before(furthest->snapshot, item->snapshot))
			furthest = item;
		if (!last || last->snapshot->number < item->snapshot->number)
			last = item;
	}
	if (last) {
		keep_always(furthest, "newest");
		keep_always(last, "came last");
	}
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
