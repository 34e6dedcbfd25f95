/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/cursor.h"

static void what_is_put_is_got_back(void **state)
{
	(void)state;
	uint8_t buf[64];
	struct cursor c = cursor_over(buf, sizeof buf);
	put_u8(&c, 0x12);
	put_u16(&c, 0x3456);
	put_u32(&c, 0x789abcde);
	put_u64(&c, 0x1122334455667788);
	put_be_u32(&c, 0x01020304);
	assert_false(c.failed);
	assert_int_equal(buf[1], 0x56);
	assert_int_equal(buf[15], 0x01);
	c = cursor_reading(buf, sizeof buf);
	assert_int_equal(get_u8(&c), 0x12);
	assert_int_equal(get_u16(&c), 0x3456);
	assert_int_equal(get_u32(&c), 0x789abcde);
	assert_true(get_u64(&c) == 0x1122334455667788);
	assert_int_equal(get_be_u32(&c), 0x01020304);
	assert_int_equal(cursor_left(&c), 64 - 19);
}

static void an_overrun_yields_zeros_and_sticks(void **state)
{
	(void)state;
	uint8_t buf[6] = {1, 2, 3, 4, 5, 6};
	struct cursor c = cursor_reading(buf, sizeof buf);
	assert_int_equal(get_u32(&c), 0x04030201);
	assert_int_equal(get_u32(&c), 0);
	assert_true(c.failed);
	assert_int_equal(get_u8(&c), 0); /* it would fit, but the cursor has failed */
	assert_null(cursor_take(&c, 0));
}

static void a_huge_length_does_not_wrap(void **state)
{
	(void)state;
	uint8_t buf[8] = {0};
	struct cursor c = cursor_reading(buf, sizeof buf);
	assert_null(cursor_take(&c, SIZE_MAX));
	assert_true(c.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_put_is_got_back),
		cmocka_unit_test(an_overrun_yields_zeros_and_sticks),
		cmocka_unit_test(a_huge_length_does_not_wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
