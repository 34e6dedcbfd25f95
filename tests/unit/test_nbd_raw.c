/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server against clients that break rules, vanish, come back, or are many. */
#include "tests/unit/unit.h"

#include "storage/nbd/conn.h"
#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int setup(void **state)
{
	*state = bed_new(NULL);
	return 0;
}

static int teardown(void **state)
{
	bed_free(*state);
	return 0;
}

#define FLAGS (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)

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
	int fd = raw_greeted(bed->disk, FLAGS | 4); /* a flag that nobody offered */
	raw_closed(fd);
	fd = raw_greeted(bed->disk, FLAGS);
	raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, FLAGS);
	nbd_put_option(&c, NBD_OPT_LIST, 64 * 1024 + 1);
	raw_send(fd, header, sizeof header);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, FLAGS);
	c = cursor_over(header, sizeof header);
	nbd_put_option(&c, NBD_OPT_GO, UINT32_MAX);
	raw_send(fd, header, sizeof header);
	raw_closed(fd);
	fd = raw_greeted(bed->disk, FLAGS);
	raw_option(fd, NBD_OPT_EXPORT_NAME, "nothing", 7);
	raw_closed(fd);
	assert_int_equal(bed_counts(bed).nbd.connections_dropped, 5);
	assert_int_equal(bed_counts(bed).views, 0);
}

static void refused_options_leave_the_handshake_going(void **state)
{
	struct bed *bed = *state;
	uint8_t *large = calloc(1, OPTION_BYTES_MAX);
	int fd = raw_greeted(bed->disk, FLAGS);
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
	put_be_u32(&c, FLAGS);
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
		int fd = raw_greeted(bed->disk, i ? FLAGS : NBD_FIXED_NEWSTYLE);
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
		int fd = raw_greeted(bed->all, FLAGS);
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
	put_be_u32(&c, FLAGS);
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
	int silent = raw_connect(bed->disk), halfway = raw_greeted(bed->disk, FLAGS);
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

/* ---- vanishing, coming back ---- */

static void a_client_that_vanishes_leaves_no_harm(void **state)
{
	struct bed *bed = *state;
	uint8_t *payload = calloc(1, MIB);
	for (unsigned i = 0; i < 40; i++) {
		int fd = i < 4 ? raw_connect(bed->disk) : raw_attached(bed->disk, "disk");
		if (i % 2)
			bed_hold(bed);
		if (i >= 4) {
			raw_request(fd, NBD_CMD_WRITE, 0, 1, 0, MIB);
			raw_send(fd, payload, i % 8 ? MIB : MIB / 2);
			for (unsigned k = 0; k < 10; k++)
				raw_request(fd, NBD_CMD_READ, 0, k, 0, MIB);
		}
		close(fd);
		bed_release(bed);
	}
	bed_await(bed, nbd.connections, ==, 0);
	assert_int_equal(bed_counts(bed).views, 0);
	assert_int_equal(bed_counts(bed).nbd.buffer_bytes, 0);
	free(payload);
}

static void a_reconnecting_client_waits_for_its_old_requests(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[4096] = {0}, back[4096];
	int old = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	memset(payload, 1, sizeof payload);
	raw_request(old, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(old, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	close(old);
	int fd = raw_attached(bed->disk, "disk");
	memset(payload, 2, sizeof payload);
	raw_request(fd, NBD_CMD_WRITE, 0, 2, 0, sizeof payload);
	raw_send(fd, payload, sizeof payload);
	int other = raw_attached(bed->all, "other"); /* another volume does not wait */
	raw_request(other, NBD_CMD_FLUSH, 0, 3, 0, 0);
	bed_await(bed, held, ==, 2);
	usleep(20 * 1000);
	assert_int_equal(bed_counts(bed).writes, 1);
	bed_release(bed);
	assert_int_equal(raw_reply(other, 3), 0);
	assert_int_equal(raw_reply(fd, 2), 0);
	raw_request(fd, NBD_CMD_READ, 0, 4, 0, sizeof back);
	assert_int_equal(raw_reply(fd, 4), 0);
	raw_receive(fd, back, sizeof back);
	assert_memory_equal(back, payload, sizeof back);
	close(fd);
	close(other);
}

static void what_an_old_connection_left_unread_goes_first_too(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[512], back[512];
	int old = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	memset(payload, 1, sizeof payload);
	for (unsigned i = 0; i < CONN_REQUESTS_MAX + 90; i++) { /* more than the server takes */
		raw_request(old, NBD_CMD_WRITE, 0, i, 0, sizeof payload);
		raw_send(old, payload, sizeof payload);
	}
	bed_await(bed, held, ==, CONN_REQUESTS_MAX);
	close(old); /* the server does not receive, and cannot see it */
	int fd = raw_attached(bed->disk, "disk");
	memset(payload, 2, sizeof payload);
	raw_request(fd, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(fd, payload, sizeof payload);
	usleep(20 * 1000);
	assert_int_equal(bed_counts(bed).writes, CONN_REQUESTS_MAX);
	bed_release(bed);
	assert_int_equal(raw_reply(fd, 1), 0);
	bed_await(bed, nbd.connections, ==, 1);
	raw_request(fd, NBD_CMD_READ, 0, 2, 0, sizeof back);
	assert_int_equal(raw_reply(fd, 2), 0);
	raw_receive(fd, back, sizeof back);
	assert_memory_equal(back, payload, sizeof back);
	close(fd);
}

static void a_second_connection_does_not_wait_for_a_living_one(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[4096] = {0};
	int first = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	raw_request(first, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(first, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	int second = raw_attached(bed->disk, "disk");
	raw_request(second, NBD_CMD_FLUSH, 0, 2, 0, 0);
	bed_await(bed, held, ==, 2);
	bed_release(bed);
	assert_int_equal(raw_reply(first, 1), 0);
	assert_int_equal(raw_reply(second, 2), 0);
	close(first);
	close(second);
}

/* ---- the server's life ---- */

static void beyond_the_cap_connections_are_closed(void **state)
{
	struct nbd_server_options options = {.connection_count_max = 2};
	struct bed *bed = bed_new(&options);
	(void)state;
	int a = raw_attached(bed->disk, "disk"), b = raw_attached(bed->all, "disk");
	int c = raw_connect(bed->disk);
	raw_closed(c);
	assert_int_equal(bed_counts(bed).nbd.connections_refused, 1);
	close(a);
	bed_await(bed, nbd.connections, ==, 1);
	c = raw_attached(bed->disk, "disk");
	close(b);
	close(c);
	bed_free(bed);
}

static void a_stop_waits_for_requests_and_answers_nothing(void **state)
{
	struct bed *bed = bed_new(NULL);
	uint8_t payload[4096] = {0};
	(void)state;
	int attached = raw_attached(bed->disk, "disk"), greeted = raw_greeted(bed->all, FLAGS);
	int sending = raw_attached(bed->disk, "disk");
	raw_request(sending, NBD_CMD_WRITE, 0, 1, 0, MIB);
	raw_send(sending, payload, sizeof payload);
	bed_hold(bed);
	raw_request(attached, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(attached, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	bed_stop(bed);
	raw_closed(greeted);
	raw_closed(sending);
	uint8_t byte;
	assert_int_equal(recv(attached, &byte, 1, 0), 0);
	bed_await(bed, views, ==, 1); /* the request is under way: its connection waits */
	assert_false(bed->leave);
	bed_release(bed);
	bed_free(bed); /* the fake store asserts that no view closes under a request */
	raw_closed(attached);
}

struct exports {
	const char *path;
	int added, again, removed, twice;
	struct nbd_attachment *attachments;
	size_t attachment_count;
};

static void call_exports(struct bed *bed, void *arg)
{
	struct exports *exports = arg;
	nbd_server_rename(bed->server, "disk", "renamed");
	memcpy(bed->fake.volumes[0].name, "renamed", 8);
	exports->added = nbd_server_export(bed->server, exports->path, "renamed", 0660, -1);
	exports->again = nbd_server_export(bed->server, exports->path, "renamed", 0660, -1);
	exports->removed = nbd_server_unexport(bed->server, bed->disk);
	exports->twice = nbd_server_unexport(bed->server, bed->disk);
	assert_int_equal(nbd_server_attachments(bed->server, &exports->attachments,
						&exports->attachment_count),
			 0);
}

static void a_renamed_volume_moves_and_its_attachments_stay(void **state)
{
	struct bed *bed = *state;
	char path[96];
	struct exports exports = {.path = path};
	snprintf(path, sizeof path, "%s/renamed", bed->folder);
	int attached = raw_attached(bed->disk, "disk"), greeted = raw_greeted(bed->disk, FLAGS);
	raw_request(attached, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(raw_reply(attached, 1), 0);
	bed_call(bed, call_exports, &exports);
	assert_int_equal(exports.added, 0);
	assert_int_equal(exports.again, -EEXIST);
	assert_int_equal(exports.removed, 0);
	assert_int_equal(exports.twice, -ENOENT);
	assert_int_equal(exports.attachment_count, 1);
	assert_string_equal(exports.attachments[0].name, "renamed");
	assert_string_equal(exports.attachments[0].path, bed->disk);
	assert_int_equal(exports.attachments[0].requests, 1);
	free(exports.attachments);
	assert_int_equal(access(bed->disk, F_OK), -1);
	raw_closed(greeted); /* it has no export to come to */
	raw_request(attached, NBD_CMD_FLUSH, 0, 2, 0, 0);
	assert_int_equal(raw_reply(attached, 2), 0);
	int fd = raw_attached(path, "renamed");
	close(fd);
	close(attached);
}

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void idle_connections_cost_little_memory(void **state)
{
	enum { COUNT = 1000 };
	static int fds[COUNT];
	struct bed *bed = *state;
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	unsigned count = (unsigned)min_u64(COUNT, (limit.rlim_cur - 64) / 2);
	uint64_t before = resident_bytes();
	for (unsigned i = 0; i < count; i++)
		fds[i] = raw_attached(bed->disk, "disk");
	assert_int_equal(bed_counts(bed).nbd.connections, count);
	uint64_t each = (resident_bytes() - before) / count;
#ifndef __SANITIZE_ADDRESS__
	assert_true(each <= 24 * KIB);
#else
	(void)each;
#endif
	for (unsigned i = 0; i < count; i++) {
		raw_request(fds[i], NBD_CMD_FLUSH, 0, i, 0, 0);
		assert_int_equal(raw_reply(fds[i], i), 0);
		close(fds[i]);
	}
	bed_await(bed, nbd.connections, ==, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(broken_handshakes_are_dropped),
		CASE(refused_options_leave_the_handshake_going),
		CASE(options_may_be_pipelined_byte_by_byte_or_at_once),
		CASE(export_name_ends_with_zeroes_unless_agreed_otherwise),
		CASE(a_context_counts_only_for_the_export_it_was_set_for),
		cmocka_unit_test(a_slow_handshake_is_dropped),
		CASE(a_bad_request_is_refused_and_the_next_one_served),
		CASE(payloads_of_all_sizes_arrive_in_pieces_of_all_sizes),
		CASE(goodbye_answers_what_is_under_way_first),
		CASE(nothing_is_answered_while_the_store_says_so),
		CASE(who_leaves_does_not_wait_for_what_is_held),
		CASE(a_client_that_vanishes_leaves_no_harm),
		CASE(a_reconnecting_client_waits_for_its_old_requests),
		CASE(what_an_old_connection_left_unread_goes_first_too),
		CASE(a_second_connection_does_not_wait_for_a_living_one),
		cmocka_unit_test(beyond_the_cap_connections_are_closed),
		cmocka_unit_test(a_stop_waits_for_requests_and_answers_nothing),
		CASE(a_renamed_volume_moves_and_its_attachments_stay),
		CASE(idle_connections_cost_little_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
