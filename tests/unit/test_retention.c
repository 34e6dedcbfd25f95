/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/units.h"
#include "storage/daemon/retention.h"
#include "storage/store/store_follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)
#define T0 (20000 * DAY_NS) /* 2024-10-04 */
#define ITEMS_MAX 400

static struct snapshot_brief infos[ITEMS_MAX];
static struct retention_item items[ITEMS_MAX];
static struct policy_info policy;

/* `count` snapshots of policy 7, `step_ns` apart, the newest (first) at `newest_ns`. */
static void series(size_t count, uint64_t newest_ns, uint64_t step_ns)
{
	policy = (struct policy_info){.number = 7};
	for (size_t i = 0; i < count; i++) {
		infos[i] = (struct snapshot_brief){.policy = 7,
						   .number = (uint32_t)(1000 - i),
						   .created_wall_ns = newest_ns - i * step_ns};
		items[i] = (struct retention_item){.snapshot = &infos[i]};
	}
}

static size_t kept(size_t count)
{
	size_t n = 0;
	retention_plan(&policy, items, count);
	for (size_t i = 0; i < count; i++) {
		assert_true(items[i].keep == (items[i].rule[0] != 0));
		n += items[i].keep;
	}
	return n;
}

static void last_keeps_the_newest(void **state)
{
	series(10, T0, HOUR_NS);
	policy.rules.keep[KEEP_LAST] = 3;
	assert_int_equal(kept(10), 3);
	assert_true(items[0].keep && items[1].keep && items[2].keep && !items[3].keep);
	assert_string_equal(items[2].rule, "last 3 of 3");
}

static void each_rule_keeps_the_newest_of_its_periods(void **state)
{
	series(400, T0 + 23 * HOUR_NS, 6 * HOUR_NS); /* 100 days, four a day */
	policy.rules.keep[KEEP_DAILY] = 7;
	assert_int_equal(kept(400), 7);
	assert_true(items[0].keep && items[4].keep && items[24].keep && !items[1].keep);
	assert_string_equal(items[4].rule, "daily 2 of 7");
	policy.rules.keep[KEEP_DAILY] = 0;
	policy.rules.keep[KEEP_WEEKLY] = 4;
	assert_int_equal(kept(400), 4);
	/* 2024-10-04 is a Friday: the week before ended on Sunday, five days back. */
	assert_true(items[0].keep && items[20].keep && items[20 + 28].keep);
	policy.rules.keep[KEEP_WEEKLY] = 0;
	policy.rules.keep[KEEP_MONTHLY] = 12;
	assert_int_equal(kept(400), 5); /* October back to June */
	policy.rules.keep[KEEP_MONTHLY] = 0;
	policy.rules.keep[KEEP_YEARLY] = 3;
	assert_int_equal(kept(400), 1);
	policy.rules.keep[KEEP_HOURLY] = 5;
	assert_int_equal(kept(400), 5); /* hours without a snapshot take no place */
}

static void rules_add_up(void **state)
{
	series(100, T0 + 5 * HOUR_NS, HOUR_NS);
	policy.rules.keep[KEEP_LAST] = 2;
	policy.rules.keep[KEEP_DAILY] = 2;
	assert_int_equal(kept(100), 3); /* the newest counts for both */
	assert_string_equal(items[0].rule, "last 1 of 2");
}

static void what_is_held_or_anothers_stays(void **state)
{
	series(5, T0, HOUR_NS);
	infos[2].hold = "audit";
	infos[3].retained = true;
	infos[4].policy = 0;
	assert_int_equal(kept(5), 3);
	assert_string_equal(items[2].rule, "hold audit");
	assert_string_equal(items[3].rule, "retained");
	assert_string_equal(items[4].rule, "not the policy's");
	infos[3].retained = false;
	assert_int_equal(kept(5), 2);
	infos[3].attached = true;
	assert_int_equal(kept(5), 3);
}

static void a_clock_that_jumped_removes_nothing_early(void **state)
{
	series(10, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 10;
	infos[0].created_wall_ns = T0 + 400 * DAY_NS; /* a year ahead, for one snapshot */
	assert_int_equal(kept(10), 10);
	infos[0].created_wall_ns = T0 - 400 * DAY_NS; /* or back */
	assert_int_equal(kept(10), 10);
	policy.rules.keep[KEEP_DAILY] = 1; /* the newest is the one taken last, whatever its date */
	assert_int_equal(kept(10), 1);
	assert_true(items[0].keep);
}

static void due_is_once_a_period_however_many_were_missed(void **state)
{
	series(1, T0 + HOUR_NS, HOUR_NS);
	policy.rules.every_ns = HOUR_NS;
	assert_false(retention_due(&policy, T0 + HOUR_NS + HOUR_NS / 2, items, 1));
	assert_true(retention_due(&policy, T0 + 2 * HOUR_NS, items, 1));
	assert_true(retention_due(&policy, T0 + 900 * HOUR_NS, items, 1));
	assert_true(retention_due(&policy, T0 - 900 * HOUR_NS, items, 1)); /* the clock went back */
	assert_true(retention_due(&policy, T0, items, 0));
	infos[0].policy = 0; /* a person's does not count */
	assert_true(retention_due(&policy, T0 + HOUR_NS, items, 1));
	policy.rules.every_ns = 0;
	assert_false(retention_due(&policy, T0 + 9 * HOUR_NS, items, 1));
}

/* ---- copies ---- */

static char names[ITEMS_MAX][40];

/* As series, received of another host: no policy of this one took them. */
static void received(size_t count, uint64_t newest_ns, uint64_t step_ns)
{
	series(count, newest_ns, step_ns);
	for (size_t i = 0; i < count; i++) {
		infos[i].policy = 0;
		infos[i].name = names[i];
		infos[i].epoch = UINT64_C(5) << 32;
		infos[i].vseq = 1000 - i;
	}
}

static int by_number(const void *a, const void *b)
{
	uint32_t left = ((const struct retention_item *)a)->snapshot->number;
	uint32_t right = ((const struct retention_item *)b)->snapshot->number;
	return left < right ? 1 : left > right ? -1 : 0;
}

static size_t kept_of_copy(size_t count, uint64_t now_ns)
{
	size_t n = 0;
	for (size_t i = 0; i < count; i++) {
		time_t at = (time_t)(infos[i].created_wall_ns / NSEC_PER_SEC) - 2;
		struct tm tm;
		strftime(names[i], sizeof names[i], "daily-%Y%m%d-%H%M%SZ", gmtime_r(&at, &tm));
	}
	qsort(items, count, sizeof *items, by_number);
	retention_plan_copy(&policy, now_ns, items, count);
	for (size_t i = 0; i < count; i++) {
		assert_true(items[i].keep == (items[i].rule[0] != 0));
		n += items[i].keep;
	}
	return n;
}

/* The rule that keeps infos[k]: planning changes the items' order. */
static const char *rule_of(size_t count, size_t k)
{
	size_t i = 0;
	while (items[i].snapshot != &infos[k])
		assert_true(++i < count);
	return items[i].rule;
}

static void rules_count_what_any_policy_took_of_a_copy(void **state)
{
	received(10, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 3;
	assert_int_equal(kept(10), 10); /* of a volume of this host they are not the policy's */
	infos[1].policy = 9;		/* taken here, before the volume became a copy */
	assert_int_equal(kept_of_copy(10, T0), 3);
	assert_true(items[0].keep && items[1].keep && items[2].keep);
	assert_string_equal(items[2].rule, "daily 3 of 3");
}

static void what_no_policy_took_stays_in_a_copy(void **state)
{
	static const char *const other[] = {"before-migration",	       "fenced-42",
					    "cut-21474836480-7-kept",  "lost-1",
					    "-20241004-000001Z",       "daily-20241004-000001",
					    "daily-2024100a-000001Z",  "daily_20241004-000001Z",
					    "daily-20241004-000001Zx", "records-19991231-235959Z",
					    "x-99999999-999999Z"};
	size_t count = 3 + sizeof other / sizeof *other;
	received(count, T0, DAY_NS);
	policy.rules.keep[KEEP_LAST] = 1;
	for (size_t i = 0; i < sizeof other / sizeof *other; i++)
		infos[i + 2].name = other[i];
	infos[1].policy = POLICY_CUT; /* whatever it is called */
	infos[count - 1].hold = "audit";
	assert_int_equal(kept_of_copy(count, T0), count);
	assert_string_equal(rule_of(count, 0), "last 1 of 1");
	assert_string_equal(rule_of(count, 1), "no policy's");
	assert_string_equal(rule_of(count, 2), "no policy's");
	infos[count - 1].hold = NULL;
	assert_int_equal(kept_of_copy(count, T0), count - 1);
	assert_string_equal(rule_of(count, count - 1), "");
}

static void a_copys_newest_stays_even_when_nothing_is_to(void **state)
{
	received(5, T0, DAY_NS);
	assert_int_equal(kept_of_copy(5, T0), 1);
	assert_string_equal(rule_of(5, 0), "newest");
	infos[0].name = "mine"; /* of those that count */
	assert_int_equal(kept_of_copy(5, T0), 2);
	assert_string_equal(rule_of(5, 1), "newest");
}

/* The older ones of nine are sent once more, after a peer was added anew: what is newer is not
 * driven out by them. The very last one stays until the next comes. */
static void what_comes_late_takes_no_places_of_the_newest(void **state)
{
	received(9, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 4;
	for (size_t i = 4; i < 9; i++)
		infos[i].number += 1000; /* the oldest first, as before */
	assert_int_equal(kept_of_copy(9, T0), 8);
	assert_string_equal(rule_of(9, 3), "daily 4 of 4");
	assert_string_equal(rule_of(9, 4), "late: daily 1 of 4");
	assert_string_equal(rule_of(9, 8), "");
	policy.rules.keep[KEEP_DAILY] = 0;
	assert_int_equal(kept_of_copy(9, T0), 2);
	assert_string_equal(rule_of(9, 0), "newest");
	assert_string_equal(rule_of(9, 4), "came last");
}

/* Its host goes on from a backup: what it sends holds less than what was sent before. Neither
 * drives out the other, whatever its clock says now. */
static void what_a_sender_from_a_backup_sends_has_places_of_its_own(void **state)
{
	for (unsigned behind = 0; behind < 2; behind++) {
		received(8, T0, DAY_NS);
		policy.rules.keep[KEEP_DAILY] = 4;
		for (size_t i = 0; i < 3; i++) {
			infos[i].epoch -= 7;
			infos[i].created_wall_ns -= behind * 2000 * DAY_NS;
		}
		assert_int_equal(kept_of_copy(8, T0), 3 + 4);
		assert_string_equal(rule_of(8, 0), "late: daily 1 of 4");
		assert_string_equal(rule_of(8, 3), "daily 1 of 4");
		assert_string_equal(rule_of(8, 7), "");
		policy.rules.keep[KEEP_DAILY] = 2;
		assert_int_equal(kept_of_copy(8, T0), 2 + 2);
		assert_string_equal(rule_of(8, 2), "");
		assert_string_equal(rule_of(8, 4), "daily 2 of 2");
	}
}

static void a_senders_wrong_clock_removes_nothing_early(void **state)
{
	received(10, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 5;
	policy.rules.keep[KEEP_YEARLY] = 2;
	for (size_t i = 0; i < 3; i++) /* a year ahead, for three days */
		infos[i].created_wall_ns += 366 * DAY_NS;
	/* They are not counted: five of before stay, and these. */
	assert_int_equal(kept_of_copy(10, T0), 8);
	assert_string_equal(rule_of(10, 0), "of a date to come");
	assert_string_equal(rule_of(10, 7), "daily 5 of 5");
	infos[0].created_wall_ns -= 366 * DAY_NS; /* mended: what comes now is counted first */
	assert_int_equal(kept_of_copy(10, T0), 7);
	assert_string_equal(rule_of(10, 0), "daily 1 of 5");
	assert_string_equal(rule_of(10, 6), "daily 5 of 5");
	/* Clocks are never the same to the second. */
	received(10, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 5;
	assert_int_equal(kept_of_copy(10, T0 - 60 * NSEC_PER_SEC), 5);
	/* A receiver whose clock stands at its beginning removes nothing. */
	assert_int_equal(kept_of_copy(10, DAY_NS), 10);
	/* One that is ahead: no rule looks at how long ago something is. */
	assert_int_equal(kept_of_copy(10, T0 + 4000 * DAY_NS), 5);
	/* A sender that was set back, for three days: these take their places, no more. */
	for (size_t i = 0; i < 3; i++)
		infos[i].created_wall_ns -= 4000 * DAY_NS;
	assert_int_equal(kept_of_copy(10, T0), 5);
	assert_string_equal(rule_of(10, 0), "daily 1 of 5");
	assert_string_equal(rule_of(10, 4), "daily 5 of 5");
}

/* Dates at random, in the order of the writes: --keep-last goes by that order. */
static void no_dates_let_go_of_what_is_last(void **state)
{
	uint64_t seed = 9;
	for (unsigned round = 0; round < 2000; round++) {
		uint32_t random[2];
		received(20, T0, DAY_NS);
		for (size_t i = 0; i < 20; i++) {
			test_random_fill(&seed, random, sizeof random);
			infos[i].created_wall_ns = random[0] % 40 * DAY_NS;
		}
		policy.rules.keep[KEEP_LAST] = 1 + random[1] % 10;
		kept_of_copy(20, T0);
		for (size_t i = 0; i < 20; i++)
			assert_int_equal(rule_of(20, i)[0] != 0, i < policy.rules.keep[KEEP_LAST]);
	}
}

/* What came behind one that goes is late no more, and the plan says so at once. */
static void what_is_late_no_more_is_planned_at_once(void **state)
{
	received(9, T0, DAY_NS);
	policy.rules.keep[KEEP_DAILY] = 2;
	infos[3].vseq -= 100; /* it came behind 4 to 8, which go */
	assert_int_equal(kept_of_copy(9, T0), 2);
	assert_string_equal(rule_of(9, 3), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_keeps_the_newest),
		cmocka_unit_test(each_rule_keeps_the_newest_of_its_periods),
		cmocka_unit_test(rules_add_up),
		cmocka_unit_test(what_is_held_or_anothers_stays),
		cmocka_unit_test(a_clock_that_jumped_removes_nothing_early),
		cmocka_unit_test(due_is_once_a_period_however_many_were_missed),
		cmocka_unit_test(rules_count_what_any_policy_took_of_a_copy),
		cmocka_unit_test(what_no_policy_took_stays_in_a_copy),
		cmocka_unit_test(a_copys_newest_stays_even_when_nothing_is_to),
		cmocka_unit_test(what_comes_late_takes_no_places_of_the_newest),
		cmocka_unit_test(what_a_sender_from_a_backup_sends_has_places_of_its_own),
		cmocka_unit_test(a_senders_wrong_clock_removes_nothing_early),
		cmocka_unit_test(no_dates_let_go_of_what_is_last),
		cmocka_unit_test(what_is_late_no_more_is_planned_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
