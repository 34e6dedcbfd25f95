/* SPDX-License-Identifier: Apache-2.0 */
/* The history of what is used, and the forecast that follows from it. */
#include "tests/unit/unit.h"

#include "storage/store/history.h"

#include <stdlib.h>
#include <string.h>

#define DAY_NS (86400 * NSEC_PER_SEC)

/* `day_bytes` a day, and up to `noise` more or less in each step. */
static void live(struct history *history, uint64_t from_ns, uint64_t to_ns, double day_bytes,
		 double noise)
{
	static double used;
	unsigned random = 7;
	if (from_ns == 0)
		used = 100e9;
	for (uint64_t age = from_ns; age < to_ns; age += 60 * NSEC_PER_SEC) {
		double chance = (double)rand_r(&random) / RAND_MAX * 2 - 1;
		used += day_bytes / 1440 + noise * chance;
		struct history_point point = {.age_ns = age,
					      .used_bytes = (uint64_t)used,
					      .next_segment_id = age / (3600 * NSEC_PER_SEC) + 1};
		history_add(history, &point);
	}
}

static void a_line_is_seen_as_one(void **state)
{
	struct history history = {0};
	struct store_forecast f;
	live(&history, 0, 20 * DAY_NS, 1e9, 0);
	history_forecast(&history, UINT64_C(40000000000), &f);
	assert_true(f.known);
	assert_true(f.days > 39.9 && f.days < 40.1);
	assert_true(f.days_low > 39 && f.days_low <= f.days);
	assert_true(f.days_high >= f.days && f.days_high < 41);
	assert_true(f.bytes_a_day > 0.99e9 && f.bytes_a_day < 1.01e9);
}

static void chance_widens_the_band(void **state)
{
	struct history history = {0};
	struct store_forecast f, longer;
	live(&history, 0, 10 * DAY_NS, 1e9, 3e7);
	history_forecast(&history, UINT64_C(40000000000), &f);
	assert_true(f.known && f.days_low > 0);
	assert_true(f.days_low < 0.95 * f.days);
	assert_true(f.days_high < 0 || f.days_high > 1.05 * f.days);
	live(&history, 10 * DAY_NS, 100 * DAY_NS, 1e9, 3e7);
	history_forecast(&history, UINT64_C(40000000000), &longer);
	assert_true(longer.days_high > 0);
	assert_true(longer.days_high / longer.days_low < 2);
	assert_true(longer.days_low <= longer.days && longer.days <= longer.days_high);
}

static void a_short_history_says_so(void **state)
{
	struct history history = {0};
	struct store_forecast f;
	history_forecast(&history, 1000, &f);
	assert_false(f.known);
	assert_non_null(strstr(f.sentence, "no forecast yet"));
	live(&history, 0, DAY_NS / 2, 1e9, 0);
	history_forecast(&history, 1000, &f);
	assert_false(f.known);
	assert_non_null(strstr(f.sentence, "needs 24"));
	live(&history, DAY_NS / 2, DAY_NS + 7200 * NSEC_PER_SEC, 1e9, 0);
	history_forecast(&history, 1000, &f);
	assert_true(f.known);
}

static void what_does_not_grow_is_never_full(void **state)
{
	struct history history = {0};
	struct store_forecast f;
	live(&history, 0, 30 * DAY_NS, -1e9, 0);
	history_forecast(&history, UINT64_C(40000000000), &f);
	assert_true(f.known && f.days < 0 && f.days_low < 0 && f.days_high < 0);
	assert_non_null(strstr(f.sentence, "does not grow"));
	/* Nothing left: it is full at once. */
	live(&history, 30 * DAY_NS, 90 * DAY_NS, 3e9, 0);
	history_forecast(&history, 0, &f);
	assert_true(f.days >= 0 && f.days < 0.02);
}

static void years_fit_into_its_bound(void **state)
{
	struct history history = {0}, again;
	uint8_t bytes[HISTORY_BYTES];
	live(&history, 0, 3 * 365 * DAY_NS, 1e8, 1e5);
	assert_in_range(history.count, HISTORY_MAX / 2, HISTORY_MAX);
	for (uint32_t i = 1; i < history.count; i++) {
		assert_true(history.points[i].age_ns > history.points[i - 1].age_ns);
		assert_true(history.points[i].age_ns - history.points[i - 1].age_ns < 2 * DAY_NS);
	}
	/* The newest is there, and a hundred days before it. */
	assert_true(history.points[history.count - 1].age_ns > (3 * 365 - 1) * DAY_NS);
	assert_true(history.points[0].age_ns < (3 * 365 - 50) * DAY_NS);
	history_encode(&history, bytes);
	history_decode(&again, bytes);
	assert_memory_equal(&history.count, &again.count, sizeof history.count);
	assert_memory_equal(history.points, again.points,
			    history.count * sizeof(struct history_point));
}

static void bytes_that_make_no_sense_are_no_history(void **state)
{
	struct history history;
	uint8_t bytes[HISTORY_BYTES];
	memset(bytes, 0xff, sizeof bytes);
	history_decode(&history, bytes);
	assert_int_equal(history.count, 0);
	memset(bytes, 0, sizeof bytes);
	bytes[0] = 3; /* three points of the same age */
	history_decode(&history, bytes);
	assert_int_equal(history.count, 0);
}

static void it_knows_which_segments_are_old(void **state)
{
	struct history history = {0};
	live(&history, 0, 20 * DAY_NS, 1e9, 0);
	uint64_t week = history_segments_before(&history, 13 * DAY_NS);
	assert_true(week > 0 && week <= 13 * 24 + 1);
	assert_true(week > 11 * 24);
	history.count = 1;
	history.points[0].age_ns = 5;
	assert_int_equal(history_segments_before(&history, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_line_is_seen_as_one),
		cmocka_unit_test(chance_widens_the_band),
		cmocka_unit_test(a_short_history_says_so),
		cmocka_unit_test(what_does_not_grow_is_never_full),
		cmocka_unit_test(years_fit_into_its_bound),
		cmocka_unit_test(bytes_that_make_no_sense_are_no_history),
		cmocka_unit_test(it_knows_which_segments_are_old),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
