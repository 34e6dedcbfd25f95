/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/units.h"
#include "storage/daemon/retention.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(last_keeps_the_newest),
		cmocka_unit_test(each_rule_keeps_the_newest_of_its_periods),
		cmocka_unit_test(rules_add_up),
		cmocka_unit_test(what_is_held_or_anothers_stays),
		cmocka_unit_test(a_clock_that_jumped_removes_nothing_early),
		cmocka_unit_test(due_is_once_a_period_however_many_were_missed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
