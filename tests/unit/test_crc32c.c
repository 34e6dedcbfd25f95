/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/crc32c.h"

static uint32_t bitwise(uint32_t crc, const uint8_t *at, size_t bytes)
{
	crc = ~crc;
	for (; bytes; bytes--, at++) {
		crc ^= *at;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

static void vectors_of_rfc_3720(void **state)
{
	(void)state;
	uint8_t buf[32] = {0};
	assert_int_equal(crc32c(0, buf, 32), 0x8a9136aa);
	memset(buf, 0xff, 32);
	assert_int_equal(crc32c(0, buf, 32), 0x62a8ab43);
	for (unsigned i = 0; i < 32; i++)
		buf[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, buf, 32), 0x46dd794e);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
}

static void every_length_and_alignment_matches_the_bitwise_one(void **state)
{
	(void)state;
	uint64_t seed = 1;
	static uint8_t buf[20000];
	test_random_fill(&seed, buf, sizeof buf);
	for (size_t bytes = 0; bytes < 9000; bytes += bytes < 64 ? 1 : 61)
		assert_int_equal(crc32c(7, buf + bytes % 9, bytes),
				 bitwise(7, buf + bytes % 9, bytes));
	assert_int_equal(crc32c(0, buf, 16384), bitwise(0, buf, 16384));
}

static void a_checksum_can_be_continued(void **state)
{
	(void)state;
	uint64_t seed = 2;
	static uint8_t buf[10000];
	test_random_fill(&seed, buf, sizeof buf);
	for (size_t cut = 0; cut <= sizeof buf; cut += 999)
		assert_int_equal(crc32c(crc32c(5, buf, cut), buf + cut, sizeof buf - cut),
				 crc32c(5, buf, sizeof buf));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(vectors_of_rfc_3720),
		cmocka_unit_test(every_length_and_alignment_matches_the_bitwise_one),
		cmocka_unit_test(a_checksum_can_be_continued),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
