/* SPDX-License-Identifier: Apache-2.0 */
/* Rates, with a clock of the test's own. */
#include "tests/unit/unit.h"

#include "storage/rt/rate.h"

#define START_NS (5 * NSEC_PER_SEC)

/* How many units begin until `until_ns`, when there is always one to begin. */
static unsigned begun(struct rate *rate, uint64_t *now_ns, uint64_t until_ns, uint32_t units)
{
	unsigned count = 0;
	for (;;) {
		uint64_t wait_ns = rate_wait_ns(rate, *now_ns);
		if (*now_ns + wait_ns > until_ns)
			return count;
		*now_ns += wait_ns;
		assert_int_equal(rate_wait_ns(rate, *now_ns), 0); /* the time it said is enough */
		rate_charge(rate, *now_ns, units);
		count++;
	}
}

static void no_rate_never_waits(void **state)
{
	struct rate rate = {.burst_ns = NSEC_PER_SEC};
	for (unsigned i = 0; i < 100000; i++) {
		assert_int_equal(rate_wait_ns(&rate, START_NS), 0);
		rate_charge(&rate, START_NS, UINT32_MAX);
	}
}

static void the_burst_goes_at_once_and_then_the_rate_holds(void **state)
{
	struct rate rate = {.a_second = 100, .burst_ns = 2 * NSEC_PER_SEC};
	uint64_t now_ns = START_NS;
	/* Two seconds' worth, and the one that finds nothing owed. */
	assert_int_equal(begun(&rate, &now_ns, START_NS, 1), 201);
	assert_int_equal(begun(&rate, &now_ns, START_NS + 10 * NSEC_PER_SEC, 1), 1000);
}

static void what_is_saved_up_has_a_bound(void **state)
{
	struct rate rate = {.a_second = 100, .burst_ns = NSEC_PER_SEC};
	uint64_t now_ns = START_NS;
	begun(&rate, &now_ns, START_NS, 1);
	now_ns = START_NS + 3600 * NSEC_PER_SEC;
	assert_int_equal(begun(&rate, &now_ns, now_ns, 1), 101);
}

static void a_request_larger_than_the_burst_passes_and_is_paid_for(void **state)
{
	struct rate rate = {.a_second = MIB, .burst_ns = NSEC_PER_SEC};
	rate_charge(&rate, START_NS, 32 * MIB);
	assert_int_equal(rate_wait_ns(&rate, START_NS), 31 * NSEC_PER_SEC);
	assert_int_equal(rate_wait_ns(&rate, START_NS + 31 * NSEC_PER_SEC), 0);
}

static void odd_rates_are_kept_to_a_thousandth(void **state)
{
	static const uint64_t rates[] = {3, 7, 999, 33333, 299993};
	for (unsigned i = 0; i < sizeof rates / sizeof *rates; i++) {
		struct rate rate = {.a_second = rates[i], .burst_ns = NSEC_PER_SEC / 10};
		uint64_t now_ns = START_NS;
		begun(&rate, &now_ns, START_NS, 1);
		unsigned count = begun(&rate, &now_ns, START_NS + 10 * NSEC_PER_SEC, 1);
		assert_in_range(count, 10 * rates[i] - 1, 10 * rates[i] + rates[i] / 100 + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_rate_never_waits),
		cmocka_unit_test(the_burst_goes_at_once_and_then_the_rate_holds),
		cmocka_unit_test(what_is_saved_up_has_a_bound),
		cmocka_unit_test(a_request_larger_than_the_burst_passes_and_is_paid_for),
		cmocka_unit_test(odd_rates_are_kept_to_a_thousandth),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
