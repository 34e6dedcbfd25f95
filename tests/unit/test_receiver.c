/* SPDX-License-Identifier: Apache-2.0 */
/* The incoming side of a session, alone: when it says what it has taken. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around it ---- */

static uint64_t now_ns, armed_ns; /* 0: the timer is not armed */
static struct repl_state told;	  /* last */
static unsigned told_count;

static void timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	armed_ns = now_ns + delay_ns;
}
static void timer_stop(struct env *env, struct env_timer *timer)
{
	armed_ns = 0;
}
static const struct env_ops env_ops = {.timer_start = timer_start, .timer_stop = timer_stop};
static struct env env = {&env_ops};
static struct repl repl;
static struct session first, lane;

void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	struct repl_header header;
	assert_int_equal(repl_decode_header(bytes, &header), 0);
	if (header.type != REPL_STATE)
		return;
	assert_int_equal(repl_decode_state((const uint8_t *)bytes + REPL_HEADER_BYTES,
					   header.body_bytes, &told),
			 0);
	told_count++;
}
uint64_t channel_received_bytes(const struct channel *channel)
{
	return 100;
}
const struct repl_hello *channel_hello(const struct channel *channel)
{
	return NULL;
}
uint64_t session_request(struct session *session)
{
	return session->next_request++;
}
void session_end(struct session *session, int res, const char *sentence)
{
}
void session_look(struct session *session)
{
}
uint64_t lanes_received_bytes(const struct session *of)
{
	return 0;
}
void lanes_begin(struct session *of)
{
}
void lanes_done(struct session *of)
{
}
void lanes_tick(struct session *of)
{
}
struct session *lanes_ask(struct session *of, const uint8_t *ids, uint32_t count)
{
	return of;
}
void lanes_answered(struct session *of, const struct session *over, const uint8_t id[ID_BYTES])
{
}
int lanes_join(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	return -VS_EFORMAT;
}
bool copy_idle(const struct session *session)
{
	return true;
}
void copy_take_over(struct session *session, const char *name)
{
}
int copy_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	return -VS_EFORMAT;
}
int mandate_take(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	return -VS_EFORMAT;
}
int word_take(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	return -VS_EFORMAT;
}
int serve_get(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	return -VS_EFORMAT;
}
void store_domain_add(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t key[64])
{
}
void store_receive(struct store *store, struct store_receive *receive)
{
	assert_true(receive->offer.policy.told);
	assert_string_equal(receive->offer.policy.policy.name, "p");
}
void store_receive_kick(struct store_receive *receive)
{
}
/* A chunk, or, when it is damaged or a node, nothing that counts. */
void store_receive_record(struct store_receive *receive, const uint8_t id[ID_BYTES],
			  const void *record, uint32_t record_bytes, int code)
{
	receive->fetched += id[0] == 'c';
}
void store_receive_delta(struct store_receive *receive, const uint8_t id[ID_BYTES],
			 const uint8_t base[ID_BYTES], const void *delta, uint32_t delta_bytes)
{
}

static void hears(struct session *session, const uint8_t *message)
{
	struct repl_header header;
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(receive_message(session, &header, message + REPL_HEADER_BYTES), 0);
}

static void comes(struct session *over, uint8_t what)
{
	uint8_t message[REPL_HEADER_BYTES + ID_BYTES + 8] = {0};
	const uint8_t id[ID_BYTES] = {what};
	hears(over, (repl_encode_record(1, id, 8, message), message));
}

static int setup(void **state)
{
	uint8_t message[REPL_HEADER_BYTES + 2048];
	const struct repl_offer offer = {.size_bytes = MIB,
					 .frame_bytes = 16384,
					 .level = 1,
					 .volume = "v",
					 .snapshot = "s",
					 .policy = {.told = true, .policy = {.name = "p"}}};
	repl = (struct repl){.env = &env};
	first = lane = (struct session){
		.repl = &repl, .incoming = true, .channel = (void *)&told, .host = "a"};
	lane.joined = &first;
	now_ns = NSEC_PER_SEC;
	told_count = 0;
	repl_encode_offer(5, &offer, message);
	hears(&first, message);
	assert_true(first.receive_busy && armed_ns);
	return 0;
}

static void a_second(void)
{
	assert_true(armed_ns > now_ns);
	now_ns = armed_ns;
	first.timer.fire(&first.timer);
}

/* Who is cut the next moment has moved, and the other side is to know. */
static void the_first_chunk_is_told_at_once(void **state)
{
	comes(&first, 'n');
	assert_int_equal(told_count, 0);
	comes(&first, 'c');
	assert_int_equal(told_count, 1);
	assert_int_equal(told.state, REPL_RECEIVING);
	assert_int_equal(told.fetched, 1);
}

static void so_it_is_over_a_lane(void **state)
{
	comes(&lane, 'c');
	assert_int_equal(told_count, 1);
	assert_int_equal(told.fetched, 1);
}

static void the_others_are_told_each_second(void **state)
{
	comes(&first, 'c');
	uint64_t begun_ns = now_ns;
	for (unsigned i = 1; i < 10; i++) {
		for (unsigned k = 0; k < 100; k++)
			comes(&first, 'c');
		assert_int_equal(told_count, i);
		a_second();
		assert_int_equal(now_ns - begun_ns, i * NSEC_PER_SEC);
		assert_int_equal(told.fetched, 1 + 100 * i);
	}
}

/* All may be here already. */
static void without_any_it_is_told_too(void **state)
{
	a_second();
	a_second();
	assert_int_equal(told_count, 2);
	assert_int_equal(told.fetched, 0);
	comes(&first, 'c');
	assert_int_equal(told_count, 3);
}

static void behind_its_end_nothing_is_told(void **state)
{
	first.ended = true;
	comes(&first, 'c');
	assert_int_equal(told_count, 0);
}

#define RECEIVER_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RECEIVER_TEST(the_first_chunk_is_told_at_once),
		RECEIVER_TEST(so_it_is_over_a_lane),
		RECEIVER_TEST(the_others_are_told_each_second),
		RECEIVER_TEST(without_any_it_is_told_too),
		RECEIVER_TEST(behind_its_end_nothing_is_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
