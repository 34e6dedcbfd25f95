/* SPDX-License-Identifier: Apache-2.0 */
/* Hours of each day, as people write them, by the local time. */
#include "tests/unit/unit.h"

#include "proto/units.h"
#include "proto/window.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void windows_go_both_ways(void **state)
{
	static const struct {
		const char *text;
		struct window window;
		const char *back;
	} good[] = {
		{"always", {0, 0}, "always"},
		{"00:00-24:00", {0, 0}, "always"},
		{"22:00-06:30", {1320, 390}, "22:00-06:30"},
		{"09:05-17:00", {545, 1020}, "09:05-17:00"},
		{"20:00-24:00", {1200, 0}, "20:00-00:00"},
		{"20:00-00:00", {1200, 0}, "20:00-00:00"},
		{"00:00-23:59", {0, 1439}, "00:00-23:59"},
	};
	static const char *const bad[] = {"",
					  "never",
					  "22:00",
					  "22-06",
					  "22:00-22:00",
					  "24:00-06:00",
					  "22:00-24:01",
					  "22:60-23:00",
					  "25:00-06:00",
					  " 22:00-06:00",
					  "22:00-06:00 ",
					  "2:00-06:00",
					  "22:00_06:00",
					  "-1:00-06:00",
					  "22:0x-06:00",
					  "Always"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		struct window window = {7, 7};
		char text[WINDOW_TEXT_BYTES];
		assert_int_equal(window_parse(good[i].text, &window), 0);
		assert_memory_equal(&window, &good[i].window, sizeof window);
		assert_true(window_good(&window));
		window_text(&window, text);
		assert_string_equal(text, good[i].back);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct window window = {7, 7};
		assert_int_equal(window_parse(bad[i], &window), -EINVAL);
		assert_int_equal(window.from, 7);
	}
}

static void foreign_minutes_are_checked(void **state)
{
	assert_false(window_good(&(struct window){1440, 0}));
	assert_false(window_good(&(struct window){0, 1440}));
	assert_false(window_good(&(struct window){7, 7})); /* always is said in one way */
	assert_true(window_good(&(struct window){1439, 0}));
}

static void each_minute_is_inside_or_not(void **state)
{
	struct window windows[] = {{0, 0}, {540, 1020}, {1320, 390}, {1200, 0}, {0, 1}};
	for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
		unsigned length =
			windows[i].from == windows[i].until
				? WINDOW_DAY_MINUTES
				: (windows[i].until + WINDOW_DAY_MINUTES - windows[i].from) %
					  WINDOW_DAY_MINUTES;
		for (unsigned k = 0; k < WINDOW_DAY_MINUTES; k++)
			assert_int_equal(
				window_has(&windows[i], (windows[i].from + k) % WINDOW_DAY_MINUTES),
				k < length);
	}
}

static bool open_at(const struct window *window, time_t seconds)
{
	return window_open(window, (uint64_t)seconds * NSEC_PER_SEC);
}

/* Central Europe: UTC+1, and +2 from 2026-03-29 01:00 UTC to 2026-10-25 01:00 UTC. */
static void it_goes_by_the_local_time(void **state)
{
	struct window night = {.from = 22 * 60, .until = 6 * 60}, always = {0};
	const time_t winter = 1768435200 /* 2026-01-15 */, summer = 1784073600 /* 2026-07-15 */;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	assert_false(open_at(&night, winter + 21 * 3600 - 1));
	assert_true(open_at(&night, winter + 21 * 3600));
	assert_true(open_at(&night, winter + 29 * 3600 - 1));
	assert_false(open_at(&night, winter + 29 * 3600));
	assert_false(open_at(&night, summer + 20 * 3600 - 1));
	assert_true(open_at(&night, summer + 20 * 3600));
	assert_false(open_at(&night, summer + 28 * 3600));
	assert_true(open_at(&always, summer + 12 * 3600));
	/* The night with an hour less. */
	unsigned open = 0;
	const time_t march = 1774699200; /* 2026-03-28 12:00 UTC */
	for (unsigned minute = 0; minute < WINDOW_DAY_MINUTES; minute++)
		open += open_at(&night, march + minute * 60);
	assert_int_equal(open, 7 * 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_go_both_ways),
		cmocka_unit_test(foreign_minutes_are_checked),
		cmocka_unit_test(each_minute_is_inside_or_not),
		cmocka_unit_test(it_goes_by_the_local_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
