/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format of NBD, byte by byte where the specification says so. */
#include "tests/unit/unit.h"

#include "proto/nbd.h"

static void a_request_has_the_bytes_of_the_specification(void **state)
{
	(void)state;
	static const uint8_t wire[NBD_REQUEST_BYTES] = {0x25, 0x60, 0x95, 0x13, 0, 1, 0,    1, 1, 2,
							3,    4,    5,	  6,	7, 8, 0,    0, 1, 0,
							0,    0,    0,	  0,	0, 0, 0x10, 0};
	uint8_t out[NBD_REQUEST_BYTES];
	struct nbd_request request;
	struct cursor c = cursor_reading(wire, sizeof wire);
	assert_int_equal(nbd_get_request(&c, &request), 0);
	assert_int_equal(request.flags, NBD_FLAG_FUA);
	assert_int_equal(request.type, NBD_CMD_WRITE);
	assert_true(request.cookie == UINT64_C(0x0102030405060708));
	assert_true(request.offset_bytes == UINT64_C(1) << 40);
	assert_int_equal(request.length_bytes, 4096);
	c = cursor_over(out, sizeof out);
	nbd_put_request(&c, &request);
	assert_false(c.failed);
	assert_memory_equal(out, wire, sizeof wire);
}

static void another_magic_or_too_few_bytes_is_no_request(void **state)
{
	(void)state;
	uint8_t wire[NBD_REQUEST_BYTES];
	struct nbd_request request = {.type = 77};
	struct cursor c = cursor_over(wire, sizeof wire);
	nbd_put_request(&c, &(struct nbd_request){.type = NBD_CMD_READ});
	c = cursor_reading(wire, sizeof wire - 1);
	assert_int_equal(nbd_get_request(&c, &request), -VS_EFORMAT);
	wire[3] ^= 1;
	c = cursor_reading(wire, sizeof wire);
	assert_int_equal(nbd_get_request(&c, &request), -VS_EFORMAT);
	assert_int_equal(request.type, 77);
}

static void headers_have_their_declared_sizes(void **state)
{
	(void)state;
	uint8_t out[64];
	struct cursor c = cursor_over(out, sizeof out);
	nbd_put_greeting(&c, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	assert_int_equal(sizeof out - cursor_left(&c), NBD_GREETING_BYTES);
	assert_memory_equal(out, "NBDMAGICIHAVEOPT\0\3", NBD_GREETING_BYTES);
	c = cursor_over(out, sizeof out);
	nbd_put_option_reply(&c, NBD_OPT_GO, NBD_REP_ERR_UNKNOWN, 5);
	assert_int_equal(sizeof out - cursor_left(&c), NBD_OPTION_REPLY_BYTES);
	assert_memory_equal(out, "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\x80\0\0\6\0\0\0\5",
			    NBD_OPTION_REPLY_BYTES);
	c = cursor_over(out, sizeof out);
	nbd_put_simple_reply(&c, NBD_ENOSPC, 9);
	assert_int_equal(sizeof out - cursor_left(&c), NBD_SIMPLE_REPLY_BYTES);
	assert_memory_equal(out, "\x67\x44\x66\x98\0\0\0\x1c\0\0\0\0\0\0\0\x9",
			    NBD_SIMPLE_REPLY_BYTES);
	c = cursor_over(out, sizeof out);
	nbd_put_chunk(&c, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, 9, 6);
	assert_int_equal(sizeof out - cursor_left(&c), NBD_CHUNK_BYTES);
	assert_memory_equal(out, "\x66\x8e\x33\xef\0\1\x80\1\0\0\0\0\0\0\0\x9\0\0\0\6",
			    NBD_CHUNK_BYTES);
}

static void an_option_header_round_trips(void **state)
{
	(void)state;
	uint8_t wire[NBD_OPTION_BYTES];
	struct nbd_option option;
	struct cursor c = cursor_over(wire, sizeof wire);
	nbd_put_option(&c, NBD_OPT_LIST, 0xffffffff);
	c = cursor_reading(wire, sizeof wire);
	assert_int_equal(nbd_get_option(&c, &option), 0);
	assert_int_equal(option.number, NBD_OPT_LIST);
	assert_true(option.length_bytes == 0xffffffff);
	wire[0] = 'x';
	c = cursor_reading(wire, sizeof wire);
	assert_int_equal(nbd_get_option(&c, &option), -VS_EFORMAT);
}

static void go_names_an_export_and_what_is_asked_of_it(void **state)
{
	(void)state;
	struct nbd_go go;
	static const char wire[] = "\0\0\0\3abc\0\2\0\3\xff\xff";
	assert_int_equal(nbd_parse_go(wire, 13, &go), 0);
	assert_true(nbd_string_is(go.name, "abc"));
	assert_int_equal(go.infos, 1 << NBD_INFO_BLOCK_SIZE); /* unknown ones are ignored */
	assert_int_equal(nbd_parse_go("\0\0\0\0\0\0", 6, &go), 0);
	assert_int_equal(go.name.bytes, 0);
}

static void go_with_lengths_that_do_not_add_up_is_refused(void **state)
{
	(void)state;
	struct nbd_go go;
	static const char wire[] = "\0\0\0\3abc\0\2\0\3\0\1\0";
	for (size_t bytes = 0; bytes <= 14; bytes++)
		assert_int_equal(nbd_parse_go(wire, bytes, &go), bytes == 13 ? 0 : -VS_EFORMAT);
	assert_int_equal(nbd_parse_go("\xff\xff\xff\xff\0\0", 6, &go), -VS_EFORMAT);
	assert_int_equal(nbd_parse_go("\0\0\0\0\xff\xff\0\1", 8, &go), -VS_EFORMAT);
}

static void meta_queries_come_one_by_one(void **state)
{
	(void)state;
	struct nbd_meta meta;
	struct nbd_string query;
	static const char wire[] = "\0\0\0\1v\0\0\0\2\0\0\0\5base:\0\0\0\0";
	assert_int_equal(nbd_parse_meta(wire, 22, &meta), 0);
	assert_true(nbd_string_is(meta.name, "v"));
	assert_int_equal(meta.query_count, 2);
	assert_true(nbd_meta_next(&meta, &query));
	assert_true(nbd_string_is(query, "base:"));
	assert_true(nbd_meta_next(&meta, &query));
	assert_int_equal(query.bytes, 0);
	assert_false(nbd_meta_next(&meta, &query));
	for (size_t bytes = 0; bytes < 22; bytes++)
		assert_int_equal(nbd_parse_meta(wire, bytes, &meta), -VS_EFORMAT);
	assert_int_equal(nbd_parse_meta("\0\0\0\0\xff\xff\xff\xff\0\0\0\0", 12, &meta),
			 -VS_EFORMAT);
}

static void a_namespace_matches_when_listing_only(void **state)
{
	(void)state;
	struct nbd_string exact = {.at = "base:allocation", .bytes = 15};
	struct nbd_string space = {.at = "base:", .bytes = 5};
	struct nbd_string other = {.at = "bas", .bytes = 3}, none = {.at = "", .bytes = 0};
	assert_true(nbd_query_matches(exact, NBD_BASE_ALLOCATION, false));
	assert_true(nbd_query_matches(exact, NBD_BASE_ALLOCATION, true));
	assert_true(nbd_query_matches(space, NBD_BASE_ALLOCATION, true));
	assert_false(nbd_query_matches(space, NBD_BASE_ALLOCATION, false));
	assert_false(nbd_query_matches(other, NBD_BASE_ALLOCATION, true));
	assert_false(nbd_query_matches(none, NBD_BASE_ALLOCATION, true));
}

static void random_bytes_never_lead_outside(void **state)
{
	(void)state;
	uint64_t seed = 11;
	for (unsigned round = 0; round < 20000; round++) {
		size_t bytes = test_random(&seed) % 40;
		uint8_t *data = malloc(bytes ? bytes : 1); /* the sanitizer watches its end */
		struct nbd_go go;
		struct nbd_meta meta;
		struct nbd_string query;
		for (size_t i = 0; i < bytes; i++) /* small lengths are the interesting ones */
			data[i] = test_random(&seed) % 4 ? 0 : (uint8_t)test_random(&seed) % 16;
		nbd_parse_go(data, bytes, &go);
		if (nbd_parse_meta(data, bytes, &meta) == 0)
			for (uint32_t i = 0; i < meta.query_count; i++)
				assert_true(nbd_meta_next(&meta, &query));
		free(data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_has_the_bytes_of_the_specification),
		cmocka_unit_test(another_magic_or_too_few_bytes_is_no_request),
		cmocka_unit_test(headers_have_their_declared_sizes),
		cmocka_unit_test(an_option_header_round_trips),
		cmocka_unit_test(go_names_an_export_and_what_is_asked_of_it),
		cmocka_unit_test(go_with_lengths_that_do_not_add_up_is_refused),
		cmocka_unit_test(meta_queries_come_one_by_one),
		cmocka_unit_test(a_namespace_matches_when_listing_only),
		cmocka_unit_test(random_bytes_never_lead_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
