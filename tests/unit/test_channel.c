/* SPDX-License-Identifier: Apache-2.0 */
/* Connections between hosts over real sockets and real TLS, both ends in one loop; and what happens
 * to those who speak something else. */
#include "tests/unit/unit.h"

#include "agent/ctl/pki.h"
#include "storage/repl/channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIG 100000u

static char folder[64];
static struct env *env;
static struct tls_context *contexts[2];

struct end {
	struct channel *channel;
	bool opened, closed;
	int res;
	char sentence[SENTENCE_BYTES];
	uint64_t messages, bytes, next; /* next: what the next message must begin with */
	unsigned rooms;
	int answer;
};

struct bed {
	struct env_listener *listener;
	struct io_op accept_op, connect_op;
	struct env_sock *accepted;
	struct end ends[2]; /* the client, the server */
	struct channel_options options[2];
	char address[64];
	uint16_t port;
	bool accepting;
};

static void opened(void *owner)
{
	((struct end *)owner)->opened = true;
}
static int message(void *owner, const struct repl_header *header, const uint8_t *body)
{
	struct end *end = owner;
	if (header->type == REPL_STATE) {
		assert_int_equal(header->request, end->next++);
		for (uint32_t i = 0; i < header->body_bytes; i += 997)
			assert_int_equal(body[i], (uint8_t)(header->request + i));
	}
	end->messages++;
	end->bytes += header->body_bytes;
	return end->answer;
}
static void room(void *owner)
{
	((struct end *)owner)->rooms++;
}
static void closed(void *owner, int res, const char *sentence)
{
	struct end *end = owner;
	assert_false(end->closed);
	end->closed = true;
	end->res = res;
	snprintf(end->sentence, sizeof end->sentence, "%s", sentence);
	channel_free(end->channel);
	end->channel = NULL;
}
static const struct channel_ops ops = {opened, message, room, closed};

static void accepted(struct io_op *op)
{
	struct bed *bed = container_of(op, struct bed, accept_op);
	bed->accepting = false;
	if (op->res == 0)
		assert_int_equal(channel_new(env, bed->accepted, true, &bed->options[1], &ops,
					     &bed->ends[1], &bed->ends[1].channel),
				 0);
}

static uint16_t free_port(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &bytes), 0);
	close(fd);
	return ntohs(at.sin_port);
}

static struct bed *bed_new(void)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	for (unsigned i = 0; i < 2; i++) {
		bed->options[i].tls = contexts[i];
		memset(bed->options[i].store_uuid, (int)i + 1, 16);
	}
	bed->port = free_port();
	snprintf(bed->address, sizeof bed->address, "127.0.0.1:%u", bed->port);
	assert_int_equal(env_listen_tcp(env, bed->address, &bed->listener), 0);
	bed->accept_op.done = accepted;
	bed->accepting = true;
	env_accept(bed->listener, &bed->accept_op, &bed->accepted);
	return bed;
}

static void bed_connect(struct bed *bed)
{
	struct env_sock *sock;
	env_wait_prepare(&bed->connect_op);
	assert_int_equal(env_connect_tcp(env, bed->address, &bed->connect_op, &sock), 0);
	assert_int_equal(env_wait(env, &bed->connect_op), 0);
	assert_int_equal(channel_new(env, sock, false, &bed->options[0], &ops, &bed->ends[0],
				     &bed->ends[0].channel),
			 0);
}

static void bed_free(struct bed *bed)
{
	for (unsigned i = 0; i < 2; i++) {
		if (bed->ends[i].channel)
			channel_close(bed->ends[i].channel, 0, "");
		while (bed->ends[i].channel)
			env_step(env, true);
	}
	env_listener_close(bed->listener);
	while (bed->accepting)
		env_step(env, true);
	free(bed);
}

#define UNTIL(condition)                                                                           \
	do                                                                                         \
		while (!(condition))                                                               \
			env_step(env, true);                                                       \
	while (0)

static void send_message(struct end *end, uint64_t number, uint32_t bytes)
{
	uint8_t *m = malloc(REPL_HEADER_BYTES + bytes);
	struct cursor c = cursor_over(m, REPL_HEADER_BYTES);
	put_u32(&c, bytes);
	put_u8(&c, REPL_STATE);
	put_u8(&c, REPL_REPLY);
	put_u16(&c, 0);
	put_u64(&c, number);
	for (uint32_t i = 0; i < bytes; i++)
		m[REPL_HEADER_BYTES + i] = (uint8_t)(number + i);
	channel_send(end->channel, m, REPL_HEADER_BYTES + bytes);
	free(m);
}

static void both_ends_know_each_other(void **state)
{
	struct bed *bed = bed_new();
	bed->options[0].expected_host = "b";
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	assert_string_equal(channel_peer(bed->ends[0].channel), "b");
	assert_string_equal(channel_peer(bed->ends[1].channel), "a");
	assert_int_equal(channel_hello(bed->ends[1].channel)->store_uuid[0], 1);
	bed_free(bed);
}

/* A sender that keeps to channel_room is held back by a receiver that does not read, and goes on
 * with it; every message arrives whole and in order. */
static void a_slow_receiver_holds_the_sender_back(void **state)
{
	struct bed *bed = bed_new();
	uint64_t number = 0;
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	channel_pause(bed->ends[1].channel, true);
	unsigned idle = 0;
	while (idle < 1000) { /* until nothing more fits anywhere */
		idle = channel_room(bed->ends[0].channel) ? 0 : idle + 1;
		if (!idle) {
			send_message(&bed->ends[0], number, BIG + (uint32_t)number);
			number++;
		}
		env_step(env, false);
	}
	assert_true(number * BIG < 64 * MIB);
	assert_int_equal(bed->ends[1].messages, 0);
	channel_pause(bed->ends[1].channel, false);
	UNTIL(bed->ends[1].messages == number);
	assert_true(bed->ends[0].rooms > 0);
	for (unsigned i = 0; i < 300; i++)
		send_message(&bed->ends[1], i, i * 7);
	UNTIL(bed->ends[0].messages == 300);
	bed_free(bed);
}

/* What a peer asks is answered whether there is room or not; one that never reads is left. */
static void who_reads_no_answer_is_left(void **state)
{
	struct bed *bed = bed_new();
	uint64_t number = 0;
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	channel_pause(bed->ends[0].channel, true);
	while (!bed->ends[1].closed && number < 4000) {
		send_message(&bed->ends[1], number++, 65536);
		env_step(env, false);
	}
	assert_true(bed->ends[1].closed);
	assert_int_equal(bed->ends[1].res, -ENOBUFS);
	bed_free(bed);
}

struct burst {
	struct io_op op;
	struct end *end;
	uint64_t number;
};
static void send_until_full(struct io_op *op)
{
	struct burst *burst = (struct burst *)op;
	while (channel_room(burst->end->channel))
		send_message(burst->end, burst->number++, 8192);
}

/* Also when a send ends between the no and the next look: here what was sent before is what is too
 * much, and ends in the pass of the burst. */
static void who_was_told_no_is_told_when_there_is_room(void **state)
{
	struct bed *bed = bed_new();
	struct burst burst = {.op.done = send_until_full, .end = &bed->ends[0]};
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	for (unsigned i = 0; i < 100; i++) /* nothing is left to do */
		env_step(env, false);
	send_message(&bed->ends[0], burst.number++, 16384);
	env_step(env, false);
	env_complete(env, &burst.op, 0);
	UNTIL(burst.number > 1 && bed->ends[1].messages == burst.number);
	assert_int_equal(bed->ends[0].rooms, 1);
	bed_free(bed);
}

static void a_close_is_told_with_its_sentence(void **state)
{
	struct bed *bed = bed_new();
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	channel_close(bed->ends[1].channel, -ENOSPC, "The disk is full.");
	UNTIL(bed->ends[0].closed && bed->ends[1].closed);
	assert_int_equal(bed->ends[0].res, -ENOSPC);
	assert_string_equal(bed->ends[0].sentence, "b says: The disk is full.");
	bed_free(bed);
}

static void an_owner_may_refuse_a_message(void **state)
{
	struct bed *bed = bed_new();
	bed_connect(bed);
	UNTIL(bed->ends[0].opened && bed->ends[1].opened);
	bed->ends[1].answer = -VS_EFORMAT;
	send_message(&bed->ends[0], 0, 10);
	UNTIL(bed->ends[0].closed && bed->ends[1].closed);
	assert_int_equal(bed->ends[0].res, -VS_EFORMAT);
	assert_int_equal(bed->ends[1].messages, 1);
	bed_free(bed);
}

static void another_host_than_meant_is_refused(void **state)
{
	struct bed *bed = bed_new();
	bed->options[0].expected_host = "c";
	bed_connect(bed);
	UNTIL(bed->ends[0].closed && bed->ends[1].closed);
	assert_false(bed->ends[0].opened);
	assert_int_equal(bed->ends[0].res, -EACCES);
	assert_non_null(strstr(bed->ends[0].sentence, "there is b"));
	bed_free(bed);
}

static void a_copy_of_the_same_store_is_refused(void **state)
{
	struct bed *bed = bed_new();
	memset(bed->options[0].store_uuid, 2, 16);
	bed_connect(bed);
	UNTIL(bed->ends[0].closed && bed->ends[1].closed);
	assert_false(bed->ends[0].opened || bed->ends[1].opened);
	bed_free(bed);
}

static void a_silent_peer_is_dropped(void **state)
{
	struct bed *bed = bed_new();
	bed->options[1].silence_ns = 50 * NSEC_PER_MSEC;
	bed_connect(bed);
	UNTIL(bed->ends[1].closed);
	assert_int_equal(bed->ends[1].res, -ETIMEDOUT);
	bed_free(bed);
}

/* A client of plain sockets; returns when the server has dropped it. */
static void speak(const void *bytes, size_t byte_count, bool keep_open, struct end *ret_end)
{
	struct bed *bed = bed_new();
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons(bed->port)};
	bed->options[1].handshake_ns = 100 * NSEC_PER_MSEC;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
	assert_int_equal(write(fd, bytes, byte_count), byte_count);
	if (!keep_open)
		shutdown(fd, SHUT_WR);
	UNTIL(bed->ends[1].closed);
	*ret_end = bed->ends[1];
	close(fd);
	bed_free(bed);
}

static void who_speaks_no_tls_is_refused(void **state)
{
	uint8_t hello[REPL_HEADER_BYTES + 64];
	struct repl_hello plain = {.version_min = REPL_VERSION_MIN,
				   .version_max = REPL_VERSION_MAX};
	struct end end;
	speak(hello, repl_encode_hello(&plain, hello), true, &end);
	assert_false(end.opened);
	assert_true(end.res < 0);
	speak("GET / HTTP/1.0\r\n\r\n", 18, false, &end);
	assert_false(end.opened);
	assert_string_not_equal(end.sentence, "");
}

static void who_sends_nothing_is_dropped(void **state)
{
	struct end end;
	speak("\x16", 1, true, &end);
	assert_int_equal(end.res, -ETIMEDOUT);
	assert_non_null(strstr(end.sentence, "TLS handshake"));
}

/* In the clear on both sides, so that the test can write the bytes of the protocol itself. */
static void speak_plainly(const void *bytes, size_t byte_count, struct end *ret_end)
{
	struct tls_context *own = contexts[1];
	contexts[1] = NULL;
	speak(bytes, byte_count, true, ret_end);
	contexts[1] = own;
}

static void a_newer_version_only_is_refused_with_a_sentence(void **state)
{
	uint8_t bytes[REPL_HEADER_BYTES + 64];
	struct repl_hello hello = {.version_min = REPL_VERSION_MAX + 1, .version_max = 9};
	struct end end;
	speak_plainly(bytes, repl_encode_hello(&hello, bytes), &end);
	assert_int_equal(end.res, -VS_ENEWER);
	assert_non_null(strstr(end.sentence, "upgrade"));
	hello = (struct repl_hello){.version_min = 1, .version_max = 9, .features_needed = 4};
	speak_plainly(bytes, repl_encode_hello(&hello, bytes), &end);
	assert_int_equal(end.res, -VS_ENEWER);
}

static void nothing_is_taken_before_hello(void **state)
{
	uint8_t bytes[REPL_HEADER_BYTES + 64];
	struct end end;
	speak_plainly(bytes, repl_encode_ok(1, bytes), &end);
	assert_int_equal(end.res, -VS_EFORMAT);
	assert_int_equal(end.messages, 0);
}

static void a_length_beyond_the_limit_is_refused(void **state)
{
	uint8_t bytes[256];
	struct repl_hello hello = {.version_min = REPL_VERSION_MIN,
				   .version_max = REPL_VERSION_MAX};
	struct end end;
	uint32_t at = repl_encode_hello(&hello, bytes);
	struct cursor c = cursor_over(bytes + at, REPL_HEADER_BYTES);
	put_u32(&c, REPL_BODY_MAX + 1);
	put_u8(&c, REPL_GET);
	put_zeros(&c, 11);
	speak_plainly(bytes, at + REPL_HEADER_BYTES, &end);
	assert_true(end.opened);
	assert_int_equal(end.res, -VS_EFORMAT);
}

static int group_setup(void **state)
{
	char path[2][128], ca[128], sentence[SENTENCE_BYTES];
	const char *why;
	snprintf(folder, sizeof folder, "test_channel.XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(ca, sizeof ca, "%s/ca", folder);
	assert_int_equal(pki_init(ca, "tn", sentence), 0);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path[i], sizeof path[i], "%s/%u", folder, i);
		assert_int_equal(pki_issue(ca, i ? "b" : "a", path[i], 30, false, sentence), 0);
		assert_int_equal(tls_context_new(path[i], &contexts[i], sentence), 0);
	}
	return env_real_new(&(struct env_real_options){0}, &env, &why);
}

static int group_teardown(void **state)
{
	char command[128];
	for (unsigned i = 0; i < 2; i++)
		tls_context_free(contexts[i]);
	env_real_free(env);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_know_each_other),
		cmocka_unit_test(a_slow_receiver_holds_the_sender_back),
		cmocka_unit_test(who_reads_no_answer_is_left),
		cmocka_unit_test(who_was_told_no_is_told_when_there_is_room),
		cmocka_unit_test(a_close_is_told_with_its_sentence),
		cmocka_unit_test(an_owner_may_refuse_a_message),
		cmocka_unit_test(another_host_than_meant_is_refused),
		cmocka_unit_test(a_copy_of_the_same_store_is_refused),
		cmocka_unit_test(a_silent_peer_is_dropped),
		cmocka_unit_test(who_speaks_no_tls_is_refused),
		cmocka_unit_test(who_sends_nothing_is_dropped),
		cmocka_unit_test(a_newer_version_only_is_refused_with_a_sentence),
		cmocka_unit_test(nothing_is_taken_before_hello),
		cmocka_unit_test(a_length_beyond_the_limit_is_refused),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
