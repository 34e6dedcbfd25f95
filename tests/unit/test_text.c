/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/text.h"
#include "proto/units.h"

#include <errno.h>

static void sizes_are_powers_of_1024(void **state)
{
	(void)state;
	uint64_t v = 7;
	assert_int_equal(text_size("4096", &v), 0);
	assert_true(v == 4096);
	assert_int_equal(text_size("20G", &v), 0);
	assert_true(v == 20 * GIB);
	assert_int_equal(text_size("3MiB", &v), 0);
	assert_true(v == 3 * MIB);
	static const char *const bad[] = {"", "G", "-1", "1X", "1.5G", " 1", "1 ", "1GG", "0x10"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(text_size(bad[i], &v), -EINVAL);
	assert_int_equal(text_size("99999999999999999999", &v), -ERANGE);
	assert_int_equal(text_size("99999999999T", &v), -ERANGE);
	assert_true(v == 3 * MIB); /* untouched on failure */
}

static void durations_need_a_unit(void **state)
{
	(void)state;
	uint64_t v;
	assert_int_equal(text_duration("500ms", &v), 0);
	assert_true(v == 500 * NSEC_PER_MSEC);
	assert_int_equal(text_duration("7d", &v), 0);
	assert_true(v == 7 * 86400 * NSEC_PER_SEC);
	assert_int_equal(text_duration("5", &v), -EINVAL);
	assert_int_equal(text_duration("5w", &v), -EINVAL);
	assert_int_equal(text_duration("999999999999d", &v), -ERANGE);
}

static void names_are_checked(void **state)
{
	(void)state;
	char longest[65];
	memset(longest, 'a', sizeof longest);
	assert_true(text_name_ok("web1-disk0", 10));
	assert_true(text_name_ok(longest, 63));
	assert_false(text_name_ok(longest, 64));
	assert_false(text_name_ok("", 0));
	assert_false(text_name_ok(".hidden", 7));
	assert_false(text_name_ok("-rf", 3));
	assert_false(text_name_ok("a/b", 3));
	assert_false(text_name_ok("a@b", 3));
	assert_false(text_name_ok("a\0b", 3));
}

static void uuids_go_both_ways(void **state)
{
	(void)state;
	uint64_t seed = 3;
	uint8_t uuid[16], back[16];
	char text[UUID_TEXT_BYTES];
	test_random_fill(&seed, uuid, 16);
	text_uuid(uuid, text);
	assert_int_equal(text_uuid_parse(text, back), 0);
	assert_memory_equal(uuid, back, 16);
	text[8] = '0';
	assert_int_equal(text_uuid_parse(text, back), -EINVAL);
	assert_int_equal(text_uuid_parse("0", back), -EINVAL);
}

static void times_are_utc(void **state)
{
	(void)state;
	uint64_t v;
	char text[TIME_TEXT_BYTES];
	assert_int_equal(text_time_parse("2026-11-24T07:41:11Z", &v), 0);
	text_time(v, text);
	assert_string_equal(text, "2026-11-24T07:41:11Z");
	assert_int_equal(text_time_parse("2026-11-24T14:41:11+07:00", &v), 0);
	text_time(v, text);
	assert_string_equal(text, "2026-11-24T07:41:11Z");
	assert_int_equal(text_time_parse("2036-01-31", &v), 0);
	text_time(v, text);
	assert_string_equal(text, "2036-01-31T00:00:00Z");
	static const char *const bad[] = {"",
					  "2026",
					  "2026-02-31",
					  "2026-13-01",
					  "2026-11-24T07:41",
					  "2026-11-24T07:41:11",
					  "1960-01-01",
					  "2999-01-01",
					  "2026-11-24T07:41:11+7"};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(text_time_parse(bad[i], &v), -EINVAL);
}

static void addresses_are_numbers_with_a_port(void **state)
{
	(void)state;
	static const char *const good[] = {"127.0.0.1:1", "10.1.0.2:65535", "[::1]:7410",
					   "[fe80::1%veth0]:7410", "::1:7410"};
	static const char *const bad[] = {"",
					  ":7410",
					  "10.1.0.2",
					  "10.1.0.2:",
					  "10.1.0.2:0",
					  "10.1.0.2:65536",
					  "10.1.0.2:99999",
					  "10.1.0.2:+1",
					  "10.1.0.2:1x",
					  "host2:7410",
					  "10.1.0:7410",
					  "[::1]7410",
					  "[]:7410",
					  "[1.2.3.4]:",
					  "10.1.0.2:1 ",
					  "10.1.0.2:000001"};
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		assert_true(text_address_ok(good[i]));
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_false(text_address_ok(bad[i]));
}

static void sizes_for_people(void **state)
{
	(void)state;
	char text[32];
	assert_string_equal(text_human(0, text, sizeof text), "0 B");
	assert_string_equal(text_human(1536 * MIB, text, sizeof text), "1.5 GiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_powers_of_1024),
		cmocka_unit_test(durations_need_a_unit),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(uuids_go_both_ways),
		cmocka_unit_test(times_are_utc),
		cmocka_unit_test(addresses_are_numbers_with_a_port),
		cmocka_unit_test(sizes_for_people),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
