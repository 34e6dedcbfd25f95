/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/archive_model.h"

#ifdef SIM_PROCESS
#include "tests/sim/process_outside.h"
#endif
#include "proto/units.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static bool named_by_policy(const struct item *item)
{
	size_t bytes = strlen(item->name);
	struct tm tm = {0};
	char end[8] = "";
	if (bytes < 18 || strspn(item->name + bytes - 16, "0123456789") != 8 ||
	    strspn(item->name + bytes - 7, "0123456789") != 6)
		return false;
	if (sscanf(item->name + bytes - 17, "-%4d%2d%2d-%2d%2d%2d%7s", &tm.tm_year, &tm.tm_mon,
		   &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, end) != 7 ||
	    strcmp(end, "Z") != 0)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	int64_t named = timegm(&tm), taken = (int64_t)(item->taken_ns / NSEC_PER_SEC);
	return named - taken <= 60 && taken - named < 24 * 3600;
}

bool archive_counts(const struct item *item, uint64_t now_wall_ns)
{
	return item->here && !item->cut && named_by_policy(item) &&
	       item->taken_ns <= now_wall_ns + 3600 * NSEC_PER_SEC;
}

static int64_t period_of(const struct item *item, enum policy_keep rule)
{
	time_t at = (time_t)(item->taken_ns / NSEC_PER_SEC);
	const struct tm *tm = gmtime(&at);
	int64_t day =
		timegm(&(struct tm){
			.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday}) /
		86400;
	switch (rule) {
	case KEEP_HOURLY:
		return day * 24 + tm->tm_hour;
	case KEEP_DAILY:
		return day;
	case KEEP_WEEKLY: /* by its Monday */
		return day - (tm->tm_wday + 6) % 7;
	case KEEP_MONTHLY:
		return tm->tm_year * 100 + tm->tm_mon;
	case KEEP_YEARLY:
		return tm->tm_year;
	default:
		return item->number;
	}
}

static bool older_writes(const struct item *a, const struct item *b)
{
	return a->epoch != b->epoch ? a->epoch < b->epoch : a->vseq < b->vseq;
}

/* Those that count still, in the order in which they came. */
struct series {
	const struct item *items[ITEMS_MAX];
	bool late[ITEMS_MAX];
	size_t count;
};

/* Is at[k] the newest of one of the last n periods of its kind? A period begins anew where another
 * one lies between. */
static bool rule_keeps(const struct series *s, size_t k, enum policy_keep rule, uint32_t n)
{
	const struct item *newer = NULL; /* the next of its kind */
	uint32_t periods = 0;		 /* that are newer */
	for (size_t i = s->count; i-- > k;) {
		if (s->late[i] != s->late[k])
			continue;
		bool first = !newer || period_of(newer, rule) != period_of(s->items[i], rule);
		if (i == k)
			return first && periods < n;
		periods += first;
		newer = s->items[i];
	}
	return false;
}

static bool kept(const struct series *s, size_t k, const uint32_t keep[POLICY_KEEPS])
{
	const struct item *item = s->items[k];
	bool newest = true;
	if (item->held || item->used || k == s->count - 1)
		return true;
	for (size_t i = 0; i < s->count; i++)
		if (older_writes(item, s->items[i]) || (i > k && !older_writes(s->items[i], item)))
			newest = false;
	for (enum policy_keep rule = 0; rule < POLICY_KEEPS; rule++)
		if (rule_keeps(s, k, rule, keep[rule]))
			return true;
	return newest;
}

/* What goes leaves fewer, of which something may not be late any more. */
void archive_goes(const struct item *items, size_t count, const struct law *law, unsigned copy,
		  uint64_t now_wall_ns, bool goes[ITEMS_MAX])
{
	static struct series s;
	bool some = true;
	memset(goes, 0, ITEMS_MAX * sizeof *goes);
	while (some && law->policy[copy]) {
		bool out[ITEMS_MAX] = {false};
		some = false;
		s.count = 0;
		for (size_t i = 0; i < count; i++) {
			if (items[i].copy != copy || goes[i] ||
			    !archive_counts(&items[i], now_wall_ns))
				continue;
			size_t at = s.count++;
			for (; at > 0 && s.items[at - 1]->number > items[i].number; at--)
				s.items[at] = s.items[at - 1];
			s.items[at] = &items[i];
		}
		for (size_t k = 0; k < s.count; k++) {
			s.late[k] = false;
			for (size_t i = 0; i < k; i++)
				s.late[k] |= older_writes(s.items[k], s.items[i]);
		}
		for (size_t k = 0; k < s.count; k++)
			out[k] = !kept(&s, k, law->keep[law->policy[copy] - 1]);
		for (size_t k = 0; k < s.count; k++)
			if (out[k])
				some = goes[s.items[k] - items] = true;
	}
}
