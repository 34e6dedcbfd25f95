/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server against clients that break rules, and what it answers to bytes of any kind. */
#include "tests/unit/unit.h"

#include "storage/nbd/conn.h"
#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static uint32_t option_answer(int fd, uint32_t number, const void *data, uint32_t bytes)
{
	uint8_t answer[256];
	uint32_t type;
	raw_option(fd, number, data, bytes);
	raw_option_reply(fd, number, &type, answer, sizeof answer);
	return type;
}

/* ---- handshake ---- */

static void broken_handshakes_are_dropped(void **state)
{
	struct bed *bed = *state;
	uint8_t header[NBD_OPTION_BYTES];
	struct cursor c = cursor_over(header, sizeof header);
	int fd = raw_greeted(bed->disk, RAW_FLAGS | 4); /* a flag that nobody offered */
	raw_closed(fd);
	fd = raw_greeted(bed->disk, RAW_FLAGS);
	raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, RAW_FLAGS);
	nbd_put_option(&c, NBD_OPT_LIST, 64 * 1024 + 1);
	raw_send(fd, header, sizeof header);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, RAW_FLAGS);
	c = cursor_over(header, sizeof header);
	nbd_put_option(&c, NBD_OPT_GO, UINT32_MAX);
	raw_send(fd, header, sizeof header);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, RAW_FLAGS);
	raw_option(fd, NBD_OPT_EXPORT_NAME, "nothing", 7);
	raw_closed(fd);
	assert_int_equal(bed_counts(bed).nbd.connections_dropped, 5);
	assert_int_equal(bed_counts(bed).views, 0);
}

static void refused_options_leave_the_handshake_going(void **state)
{
	struct bed *bed = *state;
	uint8_t *large = calloc(1, OPTION_BYTES_MAX);
	int fd = raw_greeted(bed->disk, RAW_FLAGS);
	assert_true(option_answer(fd, NBD_OPT_STARTTLS, "", 0) == NBD_REP_ERR_UNSUP);
	assert_true(option_answer(fd, NBD_OPT_EXTENDED_HEADERS, "", 0) == NBD_REP_ERR_UNSUP);
	assert_true(option_answer(fd, 4, "", 0) == NBD_REP_ERR_UNSUP);
	assert_true(option_answer(fd, 0xffffffff, "abc", 3) == NBD_REP_ERR_UNSUP);
	assert_true(option_answer(fd, 77, large, OPTION_BYTES_MAX) == NBD_REP_ERR_UNSUP);
	assert_true(option_answer(fd, NBD_OPT_LIST, "x", 1) == NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_STRUCTURED_REPLY, "x", 1) == NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_GO, "", 0) == NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_INFO, "\xff\xff\xff\xff\0\0", 6) ==
		    NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_GO, "\0\0\0\0\xff\xff", 6) == NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_GO, "\0\0\0\4no\0e\0\0", 10) == NBD_REP_ERR_UNKNOWN);
	assert_true(option_answer(fd, NBD_OPT_SET_META_CONTEXT, "\0\0\0\0\0\0\0\0", 8) ==
		    NBD_REP_ERR_INVALID); /* structured replies come first */
	assert_true(option_answer(fd, NBD_OPT_STRUCTURED_REPLY, "", 0) == NBD_REP_ACK);
	assert_true(option_answer(fd, NBD_OPT_SET_META_CONTEXT, "\0\0\0\0\xff\xff\xff\xff", 8) ==
		    NBD_REP_ERR_INVALID);
	assert_true(option_answer(fd, NBD_OPT_SET_META_CONTEXT, "\0\0\0\0\0\0\0\0", 8) ==
		    NBD_REP_ACK);
	assert_true(option_answer(fd, NBD_OPT_LIST_META_CONTEXT, "\0\0\0\0\0\0\0\0", 8) ==
		    NBD_REP_META_CONTEXT);
	uint32_t type;
	raw_option_reply(fd, NBD_OPT_LIST_META_CONTEXT, &type, large, 0);
	assert_int_equal(type, NBD_REP_ACK);
	assert_true(option_answer(fd, NBD_OPT_ABORT, "", 0) == NBD_REP_ACK);
	raw_closed(fd);
	assert_int_equal(bed_counts(bed).nbd.connections_dropped, 0);
	free(large);
}

static void options_may_be_pipelined_byte_by_byte_or_at_once(void **state)
{
	struct bed *bed = *state;
	uint8_t wire[4 + 2 * NBD_OPTION_BYTES + 6], answer[NBD_GREETING_BYTES];
	struct cursor c = cursor_over(wire, sizeof wire);
	uint32_t type;
	put_be_u32(&c, RAW_FLAGS);
	nbd_put_option(&c, NBD_OPT_STRUCTURED_REPLY, 0);
	nbd_put_option(&c, NBD_OPT_GO, 6);
	put_zeros(&c, 6);
	for (unsigned round = 0; round < 2; round++) {
		int fd = raw_connect(bed->disk); /* and before the greeting was read */
		for (size_t at = 0; at < sizeof wire; at += round ? 1 : sizeof wire)
			raw_send(fd, wire + at, round ? 1 : sizeof wire);
		raw_receive(fd, answer, sizeof answer);
		raw_option_reply(fd, NBD_OPT_STRUCTURED_REPLY, &type, answer, 0);
		assert_int_equal(type, NBD_REP_ACK);
		assert_int_equal(raw_option_reply(fd, NBD_OPT_GO, &type, answer, 12), 12);
		assert_int_equal(raw_option_reply(fd, NBD_OPT_GO, &type, answer, 14), 14);
		raw_option_reply(fd, NBD_OPT_GO, &type, answer, 0);
		assert_int_equal(type, NBD_REP_ACK);
		close(fd);
	}
}

static void export_name_ends_with_zeroes_unless_agreed_otherwise(void **state)
{
	struct bed *bed = *state;
	uint8_t answer[10 + NBD_EXPORT_ZEROES], zeroes[NBD_EXPORT_ZEROES] = {0};
	for (unsigned i = 0; i < 2; i++) {
		int fd = raw_greeted(bed->disk, i ? RAW_FLAGS : NBD_FIXED_NEWSTYLE);
		raw_option(fd, NBD_OPT_EXPORT_NAME, "disk", 4);
		raw_receive(fd, answer, i ? 10 : sizeof answer);
		struct cursor c = cursor_reading(answer, 10);
		assert_true(get_be_u64(&c) == BED_DISK_BYTES);
		assert_int_equal(get_be_u16(&c), 0xd6d); /* no DF */
		if (!i)
			assert_memory_equal(answer + 10, zeroes, sizeof zeroes);
		raw_request(fd, NBD_CMD_FLUSH, 0, 5, 0, 0);
		assert_int_equal(raw_reply(fd, 5), 0);
		raw_request(fd, NBD_CMD_DISC, 0, 6, 0, 0);
		raw_closed(fd);
	}
}

static void a_context_counts_only_for_the_export_it_was_set_for(void **state)
{
	struct bed *bed = *state;
	static const char *const names[] = {"disk", "other"};
	for (unsigned i = 0; i < 2; i++) {
		uint8_t data[64], answer[64];
		uint32_t type;
		int fd = raw_greeted(bed->all, RAW_FLAGS);
		assert_true(option_answer(fd, NBD_OPT_STRUCTURED_REPLY, "", 0) == NBD_REP_ACK);
		assert_true(option_answer(fd, NBD_OPT_SET_META_CONTEXT,
					  "\0\0\0\4disk\0\0\0\1\0\0\0\xf"
					  "base:allocation",
					  31) == NBD_REP_META_CONTEXT);
		raw_option_reply(fd, NBD_OPT_SET_META_CONTEXT, &type, answer, 0);
		struct cursor c = cursor_over(data, sizeof data);
		put_be_u32(&c, (uint32_t)strlen(names[i]));
		put_bytes(&c, names[i], strlen(names[i]));
		put_be_u16(&c, 0);
		raw_option(fd, NBD_OPT_GO, data, (uint32_t)(sizeof data - cursor_left(&c)));
		do
			raw_option_reply(fd, NBD_OPT_GO, &type, answer, sizeof answer);
		while (type == NBD_REP_INFO);
		raw_request(fd, NBD_CMD_BLOCK_STATUS, 0, 9, 0, 4096);
		raw_receive(fd, answer, NBD_CHUNK_BYTES);
		c = cursor_reading(answer + 6, 2);
		assert_int_equal(get_be_u16(&c), i ? NBD_CHUNK_ERROR : NBD_CHUNK_BLOCK_STATUS);
		close(fd);
	}
}

/* All of a handshake in one go: it is over as soon as the server has looked. */
static int attached_at_once(const char *path)
{
	uint8_t wire[NBD_GREETING_BYTES + 64];
	uint32_t type;
	struct cursor c = cursor_over(wire, sizeof wire);
	int fd = raw_connect(path);
	put_be_u32(&c, RAW_FLAGS);
	nbd_put_option(&c, NBD_OPT_GO, 10);
	put_be_u32(&c, 4);
	put_bytes(&c, "disk", 4);
	put_be_u16(&c, 0);
	raw_send(fd, wire, sizeof wire - cursor_left(&c));
	raw_receive(fd, wire, NBD_GREETING_BYTES);
	do
		raw_option_reply(fd, NBD_OPT_GO, &type, wire, sizeof wire);
	while (type == NBD_REP_INFO);
	assert_int_equal(type, NBD_REP_ACK);
	return fd;
}

static void a_slow_handshake_is_dropped(void **state)
{
	struct nbd_server_options options = {.handshake_ns = 500 * NSEC_PER_MSEC};
	struct bed *bed = bed_new(&options);
	(void)state;
	int silent = raw_connect(bed->disk), halfway = raw_greeted(bed->disk, RAW_FLAGS);
	raw_send(halfway, "IHAVEOPT", 8);
	raw_closed(silent);
	raw_closed(halfway);
	int attached = attached_at_once(bed->disk), later = raw_connect(bed->disk);
	raw_closed(later); /* the limit has gone by for both, but it ends with the handshake */
	raw_request(attached, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(raw_reply(attached, 1), 0);
	close(attached);
	assert_int_equal(bed_counts(bed).nbd.connections_dropped, 3);
	bed_free(bed);
}

/* ---- requests ---- */

static void a_bad_request_is_refused_and_the_next_one_served(void **state)
{
	struct bed *bed = *state;
	uint8_t *payload = calloc(1, 200000);
	int fd = raw_attached(bed->all, "disk@monday");
	static const struct {
		uint16_t type, flags;
		uint32_t bytes, error;
	} rows[] = {
		{8, 0, 4096, NBD_EINVAL},
		{0xffff, 0xffff, 4096, NBD_EINVAL},
		{NBD_CMD_READ, 64, 4096, NBD_EINVAL},
		{NBD_CMD_READ, NBD_FLAG_DF, 4096, NBD_EINVAL},
		{NBD_CMD_READ, 0, 0, NBD_EINVAL},
		{NBD_CMD_READ, 0, UINT32_MAX, NBD_EINVAL},
		{NBD_CMD_BLOCK_STATUS, 0, 4096, NBD_EINVAL},
		{NBD_CMD_FLUSH, NBD_FLAG_NO_HOLE, 0, NBD_EINVAL},
		{NBD_CMD_TRIM, 0, 4096, NBD_EPERM},
		{NBD_CMD_WRITE, 0, 0, NBD_EPERM},
		{NBD_CMD_WRITE, 0, 10, NBD_EPERM},
		{NBD_CMD_WRITE, NBD_FLAG_DF, 4096, NBD_EINVAL},
		{NBD_CMD_WRITE, 0, 200000, NBD_EPERM}, /* its payload is consumed */
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		raw_request(fd, rows[i].type, rows[i].flags, i, 0, rows[i].bytes);
		if (rows[i].type == NBD_CMD_WRITE)
			raw_send(fd, payload, rows[i].bytes);
		assert_int_equal(raw_reply(fd, i), rows[i].error);
		raw_request(fd, NBD_CMD_READ, 0, 99, 0, 16);
		assert_int_equal(raw_reply(fd, 99), 0);
		raw_receive(fd, payload, 16);
	}
	assert_int_equal(bed_counts(bed).writes, 0);
	raw_send(fd, "this is not a request's header", 30);
	raw_closed(fd);
	assert_int_equal(bed_counts(bed).nbd.connections_dropped, 1);
	free(payload);
}

static void payloads_of_all_sizes_arrive_in_pieces_of_all_sizes(void **state)
{
	struct bed *bed = *state;
	uint64_t seed = 5;
	uint8_t *stream = malloc(4 * MIB), *back = malloc(400000);
	int fd = raw_attached(bed->disk, "");
	for (unsigned round = 0; round < 40; round++) {
		struct cursor c = cursor_over(stream, 4 * MIB);
		uint32_t sizes[24];
		size_t offset = 0;
		for (unsigned i = 0; i < 24; i++) {
			sizes[i] = 1 + (uint32_t)(test_random(&seed) %
						  (test_random(&seed) % 4 ? 9000 : 160000));
			nbd_put_request(&c, &(struct nbd_request){.type = NBD_CMD_WRITE,
								  .cookie = i,
								  .offset_bytes = offset,
								  .length_bytes = sizes[i]});
			uint8_t *payload = cursor_take(&c, sizes[i]);
			assert_non_null(payload);
			memset(payload, (int)(round + i), sizes[i]);
			offset += sizes[i];
		}
		size_t bytes = 4 * MIB - cursor_left(&c);
		for (size_t at = 0; at < bytes;) {
			size_t piece = 1 + test_random(&seed) % (round % 2 ? 300000 : 3000);
			piece = min_u64(piece, bytes - at);
			raw_send(fd, stream + at, piece);
			at += piece;
		}
		uint32_t done = 0;
		for (unsigned i = 0; i < 24; i++) {
			uint8_t wire[NBD_SIMPLE_REPLY_BYTES];
			raw_receive(fd, wire, sizeof wire);
			assert_int_equal(wire[7], 0);
			done |= 1u << wire[15];
		}
		assert_int_equal(done, (1u << 24) - 1);
		offset = 0;
		for (unsigned i = 0; i < 24; offset += sizes[i++]) {
			raw_request(fd, NBD_CMD_READ, 0, i, offset, sizes[i]);
			assert_int_equal(raw_reply(fd, i), 0);
			raw_receive(fd, back, sizes[i]);
			assert_int_equal(back[0], (uint8_t)(round + i));
			assert_memory_equal(back, back + 1, sizes[i] - 1);
		}
	}
	close(fd);
	free(stream);
	free(back);
}

static void goodbye_answers_what_is_under_way_first(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[4096] = {0};
	int fd = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	raw_request(fd, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(fd, payload, sizeof payload);
	raw_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
	raw_request(fd, NBD_CMD_READ, 0, 3, 0, 512); /* after goodbye: not heard */
	bed_await(bed, held, ==, 1);
	bed_release(bed);
	assert_int_equal(raw_reply(fd, 1), 0);
	raw_closed(fd);
	assert_int_equal(bed_counts(bed).reads, 0);
}

/* ---- a volume that may not be answered: its primary may be another host ---- */

static void mute(struct bed *bed, void *arg)
{
	bed->fake.mute = arg != NULL;
}

static void nothing_is_answered_while_the_store_says_so(void **state)
{
	struct bed *bed = *state;
	uint8_t back[4096];
	int fd = raw_attached(bed->disk, "disk");
	bed_call(bed, mute, bed);
	for (unsigned i = 0; i < CONN_REQUESTS_MAX + 4;
	     i++) /* and no more than the bound is taken */
		raw_request(fd, NBD_CMD_READ, 0, i, 0, 512);
	bed_await(bed, reads, ==, CONN_REQUESTS_MAX);
	usleep(30 * 1000); /* several looks */
	assert_int_equal(recv(fd, back, 1, MSG_DONTWAIT), -1);
	assert_int_equal(bed_counts(bed).reads, CONN_REQUESTS_MAX);
	int other = raw_attached(bed->all, "other"); /* asked for anew, it is no more answered */
	raw_request(other, NBD_CMD_READ, 0, 1, 0, 512);
	bed_call(bed, mute, NULL);
	for (unsigned i = 0; i < CONN_REQUESTS_MAX + 4; i++) {
		assert_int_equal(raw_reply(fd, i), 0);
		raw_receive(fd, back, 512);
	}
	assert_int_equal(raw_reply(other, 1), 0);
	close(other);
	close(fd);
}

static void who_leaves_does_not_wait_for_what_is_held(void **state)
{
	struct bed *bed = *state;
	bed_call(bed, mute, bed);
	for (unsigned i = 0; i < 2; i++) {
		int fd = raw_attached(bed->disk, "disk");
		raw_request(fd, NBD_CMD_READ, 0, 1, 0, 512);
		bed_await(bed, reads, ==, i + 1);
		if (i == 0) {
			raw_request(fd, NBD_CMD_DISC, 0, 2, 0, 0);
			raw_closed(fd);
		} else {
			close(fd);
		}
		bed_await(bed, nbd.connections, ==, 0);
	}
	bed_call(bed, mute, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BED_CASE(broken_handshakes_are_dropped),
		BED_CASE(refused_options_leave_the_handshake_going),
		BED_CASE(options_may_be_pipelined_byte_by_byte_or_at_once),
		BED_CASE(export_name_ends_with_zeroes_unless_agreed_otherwise),
		BED_CASE(a_context_counts_only_for_the_export_it_was_set_for),
		cmocka_unit_test(a_slow_handshake_is_dropped),
		BED_CASE(a_bad_request_is_refused_and_the_next_one_served),
		BED_CASE(payloads_of_all_sizes_arrive_in_pieces_of_all_sizes),
		BED_CASE(goodbye_answers_what_is_under_way_first),
		BED_CASE(nothing_is_answered_while_the_store_says_so),
		BED_CASE(who_leaves_does_not_wait_for_what_is_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
