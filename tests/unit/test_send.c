/* SPDX-License-Identifier: Apache-2.0 */
/* The outgoing side of a session, alone: what it says, and what it believes. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around it ---- */

static struct repl_header said[4]; /* by us */
static unsigned said_count, gets, looks, progressed;
static int ended_res;
static bool ended;
static char ended_sentence[SENTENCE_BYTES];
static struct repl_offer offered;

static void no_random(struct env *env, void *bytes, size_t count)
{
	memset(bytes, 5, count);
}
static const struct env_ops env_ops = {.random = no_random};
static struct env env = {&env_ops};
static struct repl repl = {.env = &env};

void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	assert_true(said_count < 4);
	assert_int_equal(repl_decode_header(bytes, &said[said_count]), 0);
	assert_int_equal(byte_count, REPL_HEADER_BYTES + said[said_count].body_bytes);
	if (said[said_count].type == REPL_OFFER)
		assert_int_equal(repl_decode_offer((const uint8_t *)bytes + REPL_HEADER_BYTES,
						   said[said_count].body_bytes, &offered),
				 0);
	said_count++;
}
static bool no_room;
bool channel_room(struct channel *channel)
{
	return !no_room;
}
static struct repl_hello hello; /* of the peer */
const struct repl_hello *channel_hello(const struct channel *channel)
{
	return &hello;
}
uint64_t channel_sent_bytes(const struct channel *channel)
{
	return 1000;
}
int store_domain_key(const struct store *store, const uint8_t uuid[16], uint8_t ret_key[64])
{
	memset(ret_key, 1, 64);
	return 0;
}
int store_domains(const struct store *store, struct domain_info **ret, size_t *ret_count)
{
	return -ENOMEM; /* its name is a nicety */
}
uint64_t session_request(struct session *session)
{
	return session->next_request++;
}
void session_end(struct session *session, int res, const char *sentence)
{
	ended = true;
	ended_res = res;
	snprintf(ended_sentence, sizeof ended_sentence, "%s", sentence);
}
void session_refused(struct session *session, const struct repl_error *error)
{
	session_end(session, error->code, error->sentence);
}
int serve_get(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	gets++;
	return 0;
}
int serve_get_delta(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	gets++;
	return 0;
}
void line_progress(struct sender *sender, const struct repl_state *state, uint64_t sent_bytes)
{
	progressed++;
}
void line_session_ended(struct sender *sender, int res, const char *sentence)
{
}
void lanes_look(struct sender *sender)
{
	looks++;
}

static struct sender a_sender;
static struct session a_session;

static int setup(void **state)
{
	a_sender = (struct sender){.repl = &repl};
	snprintf(a_sender.offer.volume, NAME_ROOM, "web1");
	snprintf(a_sender.offer.snapshot, NAME_ROOM, "monday");
	a_sender.offer.size_bytes = MIB;
	a_sender.offer.root[0] = 7;
	a_session = (struct session){.repl = &repl,
				     .channel = (struct channel *)&said,
				     .sender = &a_sender,
				     .next_request = 1};
	said_count = gets = looks = progressed = 0;
	ended = false;
	return 0;
}

static int hears(uint8_t type, unsigned flags, uint64_t request)
{
	const struct repl_header header = {
		.type = type, .flags = (uint8_t)flags, .request = request};
	return send_message(&a_session, &header, NULL);
}

static int hears_state(enum repl_transfer_state what, uint8_t root)
{
	uint8_t message[REPL_HEADER_BYTES + 128];
	const struct repl_state state = {.state = (uint8_t)what, .root = {root}};
	struct repl_header header;
	repl_encode_state(a_session.next_request - 1, &state, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	return send_message(&a_session, &header, message + REPL_HEADER_BYTES);
}

static void offers(void)
{
	send_opened(&a_session);
	assert_true(a_sender.reached);
	assert_int_equal(hears(REPL_OK, REPL_REPLY, 1), 0);
	assert_int_equal(said_count, 2);
	assert_int_equal(said[0].type, REPL_DOMAIN);
	assert_int_equal(said[1].type, REPL_OFFER);
}

/* ---- what it does ---- */

static void the_domain_goes_first_then_the_offer(void **state)
{
	offers();
	assert_int_equal(a_sender.transfer[3], 5); /* what a lane says */
}

/* To an older one the offer is what it was. */
static void a_policy_is_told_to_who_understands_it(void **state)
{
	a_sender.offer.policy =
		(struct told_policy){.told = true, .policy = {.name = "p", .rules = {.keep = {7}}}};
	hello.features_known = REPL_FEATURES_KNOWN & ~(uint64_t)REPL_FEATURE_POLICIES;
	offers();
	assert_false(offered.policy.told);
	setup(NULL);
	a_sender.offer.policy =
		(struct told_policy){.told = true, .policy = {.name = "p", .rules = {.keep = {7}}}};
	hello.features_known = REPL_FEATURES_KNOWN;
	offers();
	assert_true(offered.policy.told);
	assert_true(policy_same(&offered.policy.policy, &a_sender.offer.policy.policy));
	hello.features_known = 0;
}

static void who_asks_for_nothing_hears_that_we_live(void **state)
{
	offers();
	assert_int_equal(hears_state(REPL_RECEIVING, 0), 0);
	assert_int_equal(said_count, 3);
	assert_int_equal(said[2].type, REPL_ALIVE);
	assert_true(said[2].type >= REPL_TYPE_IGNORED); /* for who does not know it */
	assert_int_equal(looks, 1);
	assert_int_equal(progressed, 1);
	assert_false(ended);
	no_room = true; /* enough is on its way to it */
	assert_int_equal(hears_state(REPL_RECEIVING, 0), 0);
	assert_int_equal(said_count, 3);
	no_room = false;
}

static void it_is_published_when_the_root_is_ours(void **state)
{
	offers();
	assert_int_equal(hears_state(REPL_PUBLISHED, 7), 0);
	assert_true(ended);
	assert_int_equal(ended_res, 0);
	assert_int_equal(a_session.res, 1);
}

static void another_root_is_not_believed(void **state)
{
	offers();
	assert_int_equal(hears_state(REPL_PUBLISHED, 8), 0);
	assert_true(ended);
	assert_int_equal(ended_res, -VS_ECHECKSUM);
	assert_non_null(strstr(ended_sentence, "another root"));
}

static void what_is_out_of_turn_ends_the_connection(void **state)
{
	send_opened(&a_session);
	assert_int_equal(hears(REPL_GET, 0, 1), -VS_EFORMAT); /* before the offer */
	assert_int_equal(hears_state(REPL_RECEIVING, 0), -VS_EFORMAT);
	assert_int_equal(hears(REPL_OK, REPL_REPLY, 9), -VS_EFORMAT); /* of no question */
	assert_int_equal(hears(REPL_OK, REPL_REPLY, 1), 0);
	assert_int_equal(hears(REPL_OK, REPL_REPLY, 2), -VS_EFORMAT);
	assert_int_equal(hears(REPL_OFFER, 0, 1), -VS_EFORMAT);
	assert_int_equal(gets, 0);
	assert_int_equal(hears(REPL_GET, 0, 1), 0);
	assert_int_equal(hears(REPL_GET_DELTA, 0, 2), 0);
	assert_int_equal(gets, 2);
}

#define SEND_TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SEND_TEST(the_domain_goes_first_then_the_offer),
		SEND_TEST(a_policy_is_told_to_who_understands_it),
		SEND_TEST(who_asks_for_nothing_hears_that_we_live),
		SEND_TEST(it_is_published_when_the_root_is_ours),
		SEND_TEST(another_root_is_not_believed),
		SEND_TEST(what_is_out_of_turn_ends_the_connection),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
