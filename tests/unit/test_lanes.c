/* SPDX-License-Identifier: Apache-2.0 */
/* Further connections of one snapshot, both sides, alone: without a store, connections, or a clock
 * that goes by itself. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around them ---- */

static uint64_t now_ns, came_bytes = 100;
static struct repl_hello hello;
/* A channel is a number here: of the session that it is of. */
#define SESSIONS 8u
static struct session sessions[SESSIONS];
static unsigned made, dialled, ended, gets;
static struct repl_header last; /* message that was sent, over: */
static unsigned last_over;
static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static const struct env_ops env_ops = {.now_ns = clock_now};
static struct env env = {&env_ops};
static struct repl repl;

static struct channel *channel_of(unsigned number)
{
	return (struct channel *)&sessions[number];
}
void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	assert_int_equal(repl_decode_header(bytes, &last), 0);
	last_over = (unsigned)((struct session *)channel - sessions);
	assert_ptr_equal(sessions[last_over].channel, channel); /* it is open */
}
const struct repl_hello *channel_hello(const struct channel *channel)
{
	return &hello;
}
uint64_t channel_sent_bytes(const struct channel *channel)
{
	return 1000;
}
uint64_t channel_received_bytes(const struct channel *channel)
{
	return came_bytes;
}
bool channel_room(struct channel *channel)
{
	return true;
}
struct session *session_new(struct repl *of, bool incoming)
{
	if (made == SESSIONS)
		return NULL;
	struct session *session = &sessions[made];
	*session = (struct session){.repl = of,
				    .incoming = incoming,
				    .channel = channel_of(made),
				    .next_request = 1,
				    .next = of->sessions};
	snprintf(session->host, sizeof session->host, "a");
	of->sessions = session;
	made++;
	return session;
}
void session_dial(struct session *session)
{
	dialled++;
}
uint64_t session_request(struct session *session)
{
	return session->next_request++;
}
void session_end(struct session *session, int res, const char *sentence)
{
	ended++;
	session->res = res;
}
/* As repl.c does it when the connection is gone. */
static void gone(struct session *session)
{
	lanes_left(session);
	session->channel = NULL;
	session->ended = true;
	lanes_left(session);
}
int serve_get(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	gets++;
	return 0;
}
static unsigned asked_over[SESSIONS];
void receive_ask(struct session *session, const uint8_t *ids, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct session *over = lanes_ask(session, ids + (size_t)i * ID_BYTES, 1);
		assert_non_null(over->channel);
		asked_over[over - sessions]++;
	}
}

static int setup(void **state)
{
	memset(sessions, 0, sizeof sessions);
	memset(asked_over, 0, sizeof asked_over);
	repl = (struct repl){.env = &env};
	hello.features_known = REPL_FEATURES_KNOWN;
	made = dialled = ended = gets = last_over = 0;
	came_bytes = 100;
	now_ns = NSEC_PER_SEC;
	return 0;
}
static int teardown(void **state)
{
	for (unsigned i = 0; i < made; i++)
		gone(&sessions[i]);
	assert_int_equal(repl.lanes_sent, 0);
	assert_int_equal(repl.lanes_received, 0);
	return 0;
}

/* ---- who sends ---- */

static struct repl_send a_send;
static struct sender a_sender;

static void sends(void)
{
	a_send = (struct repl_send){.host = "a"};
	a_sender = (struct sender){.repl = &repl, .send = &a_send, .transfer = {7}};
	a_sender.session = session_new(&repl, false);
	a_sender.session->sender = &a_sender;
}

static void states(unsigned count)
{
	while (count--)
		lanes_look(&a_sender);
}

static void what_takes_long_gets_three_more(void **state)
{
	sends();
	states(2);
	assert_int_equal(dialled, 0); /* it may be over soon */
	states(1);
	assert_int_equal(dialled, 1);
	states(20);
	assert_int_equal(dialled, LANES_MAX);
	lanes_opened(&sessions[1]);
	assert_int_equal(last.type, REPL_JOIN);
	assert_int_equal(last_over, 1);
	/* What they have sent counts, and goes on counting when they are gone. */
	assert_int_equal(lanes_sent_bytes(&a_sender), LANES_MAX * 1000);
	gone(&sessions[2]);
	assert_int_equal(lanes_sent_bytes(&a_sender) + a_sender.sent_bytes, LANES_MAX * 1000);
	/* The first one's end is theirs. */
	gone(a_sender.session);
	assert_int_equal(ended, LANES_MAX - 1);
	assert_int_equal(a_sender.lane_count, 0);
	assert_int_equal(a_sender.sent_bytes, LANES_MAX * 1000);
	lanes_opened(&sessions[3]); /* it was connecting */
	assert_int_equal(ended, LANES_MAX);
}

static void one_that_ends_is_made_anew_behind_a_pause(void **state)
{
	sends();
	states(20);
	gone(&sessions[1]);
	states(20);
	assert_int_equal(dialled, LANES_MAX);
	now_ns += 10 * NSEC_PER_SEC;
	states(20);
	assert_int_equal(dialled, LANES_MAX + 1);
}

static void an_older_peer_or_a_limit_has_one_connection(void **state)
{
	sends();
	hello.features_known = REPL_FEATURE_DELTA;
	states(20);
	hello.features_known = REPL_FEATURES_KNOWN;
	a_send.rate_bytes = 1;
	states(20);
	assert_int_equal(dialled, 0);
	a_send.rate_bytes = 0;
	states(20);
	assert_int_equal(dialled, LANES_MAX);
	lanes_end(&a_sender); /* as when it gets a limit on its way */
	assert_int_equal(ended, LANES_MAX);
}

static void all_sends_together_have_a_bound(void **state)
{
	sends();
	repl.lanes_sent = LANES_ALL_MAX - 1;
	states(20);
	assert_int_equal(dialled, 1);
	gone(&sessions[1]);
	repl.lanes_sent = 0;
}

static struct repl_header header_of(uint8_t type, uint8_t flags, uint64_t request)
{
	return (struct repl_header){.type = type, .flags = flags, .request = request};
}

static void a_lane_serves_chunks_and_nothing_else(void **state)
{
	struct repl_header get = header_of(REPL_GET, 0, 1), ok = header_of(REPL_OK, REPL_REPLY, 1);
	sends();
	states(3);
	struct session *lane = &sessions[1];
	lanes_opened(lane);
	assert_int_equal(lanes_message(lane, &get, NULL), -VS_EFORMAT); /* not taken yet */
	struct repl_header header = header_of(REPL_OK, REPL_REPLY, 9);
	assert_int_equal(lanes_message(lane, &header, NULL), -VS_EFORMAT);
	assert_int_equal(lanes_message(lane, &ok, NULL), 0);
	assert_int_equal(repl.counters.lanes, 1);
	assert_int_equal(lanes_message(lane, &ok, NULL), -VS_EFORMAT); /* once */
	assert_int_equal(lanes_message(lane, &get, NULL), 0);
	assert_int_equal(gets, 1);
	header = header_of(REPL_GET_DELTA, 0, 2);
	assert_int_equal(lanes_message(lane, &header, NULL), -VS_EFORMAT);
	header = header_of(REPL_STATE, REPL_REPLY, 1);
	assert_int_equal(lanes_message(lane, &header, NULL), -VS_EFORMAT);
	assert_int_equal(repl.counters.lanes, 1);
}

static void each_second_it_says_that_it_lives(void **state)
{
	struct repl_header ok = header_of(REPL_OK, REPL_REPLY, 1);
	sends();
	states(3);
	lanes_opened(&sessions[1]);
	last = (struct repl_header){0};
	a_sender.lane_after_ns = UINT64_MAX; /* no other one */
	states(1);
	assert_int_equal(last.type, 0); /* it is not taken yet */
	assert_int_equal(lanes_message(&sessions[1], &ok, NULL), 0);
	states(1);
	assert_int_equal(last.type, REPL_ALIVE);
	assert_int_equal(last_over, 1);
}

/* ---- who receives ---- */

static struct session *receives(uint8_t transfer)
{
	struct session *first = session_new(&repl, true);
	first->receive_busy = true;
	first->transfer[0] = transfer;
	lanes_begin(first);
	return first;
}

static int joins(struct session *lane, uint8_t transfer)
{
	uint8_t uuid[16] = {transfer}, message[REPL_HEADER_BYTES + 16];
	struct repl_header header;
	repl_encode_join(1, uuid, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	last = (struct repl_header){0};
	lane->res = 0;
	int res = lanes_join(lane, &header, message + REPL_HEADER_BYTES);
	if (res == 0 && !lane->res)
		assert_int_equal(last.type, REPL_OK);
	return res ? res : lane->res;
}

static void id_of(unsigned number, uint8_t id[ID_BYTES])
{
	memset(id, 0, ID_BYTES);
	id[9] = (uint8_t)number;
	id[10] = 1;
}

static void ask(struct session *first, unsigned from, unsigned count)
{
	uint8_t id[ID_BYTES];
	while (count--) {
		id_of(from++, id);
		receive_ask(first, id, 1);
	}
}

static void answered(struct session *first, unsigned from, unsigned count)
{
	uint8_t id[ID_BYTES];
	while (count--) {
		id_of(from++, id);
		for (unsigned i = 0; i < made; i++) /* over whichever it was asked for */
			lanes_answered(first, &sessions[i], id);
	}
}

static void it_joins_what_its_own_host_sends(void **state)
{
	struct session *first = receives(7), *lane = session_new(&repl, true);
	assert_int_equal(joins(lane, 8), -ENOENT);
	snprintf(lane->host, sizeof lane->host, "b");
	assert_int_equal(joins(lane, 7), -ENOENT); /* another host's is none */
	snprintf(lane->host, sizeof lane->host, "a");
	assert_int_equal(joins(lane, 7), 0);
	assert_ptr_equal(lane->joined, first);
	assert_int_equal(joins(lane, 7), -VS_EFORMAT);	/* once */
	assert_int_equal(joins(first, 7), -VS_EFORMAT); /* it receives itself */
	assert_int_equal(lanes_received_bytes(first), 100);
	lanes_done(first);
	assert_null(lane->joined);
	first->receive_busy = false;
	assert_int_equal(joins(lane, 7), -ENOENT); /* it has ended */
}

static void three_may_join(void **state)
{
	receives(7);
	for (unsigned i = 0; i < LANES_MAX; i++)
		assert_int_equal(joins(session_new(&repl, true), 7), 0);
	assert_int_equal(joins(session_new(&repl, true), 7), -EBUSY);
	repl.lanes_received = LANES_ALL_MAX;
	gone(&sessions[1]);
	repl.lanes_received = LANES_ALL_MAX;
	assert_int_equal(joins(&sessions[LANES_MAX + 1], 7), -EBUSY); /* all together */
	repl.lanes_received = LANES_MAX - 1;
}

static void each_has_as_many_chunks_open_as_the_others(void **state)
{
	struct session *first = receives(7);
	ask(first, 0, 10); /* over the first: there is no other one */
	assert_int_equal(asked_over[0], 10);
	assert_int_equal(joins(session_new(&repl, true), 7), 0);
	assert_int_equal(joins(session_new(&repl, true), 7), 0);
	ask(first, 10, 20);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(asked_over[i], 10);
	/* Who is slow gets no more: here all but the second one answer. */
	memset(asked_over, 0, sizeof asked_over);
	answered(first, 0, 10);
	for (unsigned i = 11; i < 30; i += 2)
		answered(first, i, 1);
	ask(first, 40, 20);
	assert_int_equal(asked_over[0], 10);
	assert_int_equal(asked_over[1], 0);
	assert_int_equal(asked_over[2], 10);
}

static void one_over_which_nothing_comes_is_left(void **state)
{
	struct session *first = receives(7);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(joins(session_new(&repl, true), 7), 0);
	ask(first, 0, 30);
	for (unsigned i = 0; i < 30; i++) {
		came_bytes++;
		lanes_tick(first);
		assert_int_equal(last.type, REPL_ALIVE); /* the other side wants to hear us, too */
	}
	for (unsigned i = 0; i < 10; i++)
		lanes_tick(first);
	assert_int_equal(ended, 0);
	memset(asked_over, 0, sizeof asked_over);
	lanes_tick(first);
	assert_int_equal(ended, 2);
	assert_int_equal(asked_over[0], 20);
	assert_int_equal(sessions[1].res, -ETIMEDOUT);
	assert_null(sessions[1].joined);
	assert_int_equal(lanes_received_bytes(first), 2 * came_bytes);
}

static void what_a_dead_one_owes_is_asked_for_again(void **state)
{
	struct session *first = receives(7);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(joins(session_new(&repl, true), 7), 0);
	ask(first, 0, 30);
	answered(first, 0, 6); /* two of each */
	memset(asked_over, 0, sizeof asked_over);
	gone(&sessions[1]);
	assert_int_equal(asked_over[1], 0);
	assert_int_equal(asked_over[0], 4);
	assert_int_equal(asked_over[2], 4);
	memset(asked_over, 0, sizeof asked_over);
	gone(&sessions[2]);
	assert_int_equal(asked_over[0], 12);
	/* The table has room for all that may be open, again and again. */
	answered(first, 0, 30);
	for (unsigned round = 0; round < 3; round++) {
		memset(asked_over, 0, sizeof asked_over);
		ask(first, 0, STORE_WANTS_MAX - 1);
		answered(first, 0, STORE_WANTS_MAX - 1);
		assert_int_equal(asked_over[0], STORE_WANTS_MAX - 1);
	}
}

static void behind_the_first_ones_end_nothing_is_asked(void **state)
{
	struct session *first = receives(7);
	assert_int_equal(joins(session_new(&repl, true), 7), 0);
	ask(first, 0, 30);
	memset(asked_over, 0, sizeof asked_over);
	gone(first);
	assert_null(sessions[1].joined);
	gone(&sessions[1]);
	assert_int_equal(asked_over[0] + asked_over[1], 0);
}

#define LANES_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		LANES_TEST(what_takes_long_gets_three_more),
		LANES_TEST(one_that_ends_is_made_anew_behind_a_pause),
		LANES_TEST(an_older_peer_or_a_limit_has_one_connection),
		LANES_TEST(all_sends_together_have_a_bound),
		LANES_TEST(a_lane_serves_chunks_and_nothing_else),
		LANES_TEST(each_second_it_says_that_it_lives),
		LANES_TEST(it_joins_what_its_own_host_sends),
		LANES_TEST(three_may_join),
		LANES_TEST(each_has_as_many_chunks_open_as_the_others),
		LANES_TEST(one_over_which_nothing_comes_is_left),
		LANES_TEST(what_a_dead_one_owes_is_asked_for_again),
		LANES_TEST(behind_the_first_ones_end_nothing_is_asked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
