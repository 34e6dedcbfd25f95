/* SPDX-License-Identifier: Apache-2.0 */
/* Which snapshots a policy keeps, see retention.h. */
#include "storage/daemon/retention.h"

#include <stdio.h>
#include <time.h>

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

void retention_plan(const struct policy_info *policy, struct retention_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_brief *s = items[i].snapshot;
		char *rule = items[i].rule;
		rule[0] = 0;
		if (!policys_own(policy, &items[i]))
			snprintf(rule, sizeof items[i].rule, "not the policy's");
		else if (s->hold)
			snprintf(rule, sizeof items[i].rule, "hold %s", s->hold);
		else if (s->retained)
			snprintf(rule, sizeof items[i].rule, "retained");
		else if (s->attached)
			snprintf(rule, sizeof items[i].rule, "in use");
		items[i].keep = rule[0];
	}
	for (enum policy_keep rule = 0; rule < POLICY_KEEPS; rule++) {
		int64_t last = INT64_MIN;
		uint32_t kept = 0;
		for (size_t i = 0; i < count && kept < policy->rules.keep[rule]; i++) {
			struct retention_item *item = &items[i];
			if (!policys_own(policy, item))
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
