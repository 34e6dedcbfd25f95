/* SPDX-License-Identifier: Apache-2.0 */
/* How the hosts that follow in step are asked for mandates, alone: without a store, a network, or a
 * clock that goes. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around it ---- */

#define TICK_NS (100 * NSEC_PER_MSEC)

static uint64_t now_ns;
static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static void timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
}
static void timer_stop(struct env *env, struct env_timer *timer)
{
}
static const struct env_ops env_ops = {.now_ns = clock_now,
				       .wall_ns = clock_now,
				       .timer_start = timer_start,
				       .timer_stop = timer_stop};
static struct env env = {&env_ops};
static struct repl repl = {.env = &env};

static struct session *session; /* the one that there is; NULL: none */
static unsigned dials, asked;
static uint64_t last_request;
static size_t voter_count;
static struct voter_info voters[2];
static struct store_word word;
static struct {
	uint64_t term, seq;
	unsigned times;
} kept;
static unsigned missing, told, renewals, unheard;
static uint64_t known_seq; /* of a word that a voter keeps in place of ours */
static uint64_t renew_ns;
static bool not_durable, renewing;
static struct repl_vote vote;
static struct store_word_take *taking;
static struct repl_mandate question;
static struct {
	uint64_t until_ns;
	unsigned times;
} given, absent;
static int give_res;
static uint8_t answer[REPL_HEADER_BYTES + 512];

int store_voters(const struct store *store, struct voter_info **ret, size_t *ret_count)
{
	*ret = malloc(sizeof voters);
	memcpy(*ret, voters, sizeof voters);
	*ret_count = voter_count;
	return 0;
}
int store_word(const struct store *store, uint32_t number, struct store_word *ret, bool *ret_stands)
{
	assert_int_equal(number, 7);
	*ret = word;
	*ret_stands = false;
	return 0;
}
bool store_word_kept(const struct store *store, uint32_t volume)
{
	return !not_durable;
}
bool elect_renew(struct repl *of, uint32_t volume, uint64_t refused_ns)
{
	assert_int_equal(volume, 7);
	renew_ns = refused_ns;
	renewals++;
	return renewing;
}
void store_word_acked(struct store *store, uint32_t volume, const char *host, uint64_t term,
		      uint64_t seq)
{
	assert_string_equal(host, "h2");
	kept.term = term;
	kept.seq = seq;
	kept.times++;
}
void store_word_unheard(struct store *store, uint32_t volume, const char *host)
{
	assert_int_equal(volume, 7);
	assert_string_equal(host, "h2");
	unheard++;
}
void store_word_known(struct store *store, uint32_t volume, const char *host,
		      const struct store_word *known)
{
	assert_int_equal(volume, 7);
	assert_string_equal(host, "h2");
	known_seq = known->seq;
}
void store_follower_missing(struct store *store, uint32_t volume, const char *host)
{
	assert_string_equal(host, "h2");
	missing++;
}
void store_word_take(struct store *store, struct store_word_take *take)
{
	taking = take;
}
void session_look(struct session *of)
{
}
int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret)
{
	assert_int_equal(number, 7);
	*ret = (struct volume_info){.number = number, .uuid = {1}, .epoch = 3, .vseq = 9};
	return 0;
}
void store_mandate_given(struct store *store, uint32_t volume, const char *host, uint64_t until_ns)
{
	assert_string_equal(host, "h2");
	given.until_ns = until_ns;
	given.times++;
}
void store_mandate_absent(struct store *store, uint32_t volume, const char *host, uint64_t until_ns)
{
	assert_string_equal(host, "h2");
	absent.until_ns = until_ns;
	absent.times++;
}
int store_mandate_give(struct store *store, const char *host, const uint8_t uuid[16],
		       uint64_t epoch, uint64_t duration_ns)
{
	assert_string_equal(host, "h9");
	assert_int_equal(epoch, 3);
	assert_int_equal(duration_ns, MANDATE_NS);
	return give_res;
}
struct session *session_new(struct repl *of, bool incoming)
{
	assert_null(session);
	session = calloc(1, sizeof(*session));
	*session = (struct session){.repl = of, .incoming = incoming, .next_request = 1};
	return session;
}
void session_dial(struct session *of)
{
	dials++;
}
void session_end(struct session *of, int res, const char *sentence)
{
	of->ended = true;
}
uint64_t session_request(struct session *of)
{
	return of->next_request++;
}
void answer_error(struct session *of, uint64_t request, int code, const char *sentence)
{
	repl_encode_error(request, REPL_REPLY, code, sentence, answer);
}
void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	struct repl_header header;
	assert_int_equal(repl_decode_header(bytes, &header), 0);
	if (header.type == REPL_VOTE && !(header.flags & REPL_REPLY)) {
		assert_int_equal(repl_decode_vote((const uint8_t *)bytes + REPL_HEADER_BYTES,
						  header.body_bytes, &vote),
				 0);
		last_request = header.request;
		told++;
		return;
	}
	if (header.type != REPL_MANDATE) {
		memcpy(answer, bytes, byte_count);
		return;
	}
	assert_int_equal(repl_decode_mandate((const uint8_t *)bytes + REPL_HEADER_BYTES,
					     header.body_bytes, &question),
			 0);
	last_request = header.request;
	asked++;
}

/* ---- what happens ---- */

static void tick(void)
{
	now_ns += TICK_NS;
	repl.mandate_timer.fire(&repl.mandate_timer);
}

static void ticks(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		tick();
}

static void begin(void)
{
	now_ns += 3600 * NSEC_PER_SEC;
	dials = asked = given.times = absent.times = 0;
	given.until_ns = absent.until_ns = 0;
	give_res = 0;
	voter_count = 1;
	voters[0] = (struct voter_info){.volume_number = 7, .host = "h2"};
	kept.times = missing = told = renewals = unheard = 0;
	known_seq = 0;
	mandate_start(&repl);
	tick();
	assert_non_null(session);
	assert_int_equal(dials, 1);
}

static void connected(void)
{
	mandate_opened(session);
}

/* The connection is gone. */
static void gone(void)
{
	struct session *old = session;
	session = NULL;
	mandate_ended(old);
	free(old);
}

static void end(void)
{
	if (session)
		gone();
	mandate_stop(&repl);
	assert_null(repl.links);
}

static void answered(int code)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	struct repl_header header;
	if (code)
		repl_encode_error(last_request, REPL_REPLY, code, "No.", message);
	else
		repl_encode_ok(last_request, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(mandate_message(session, &header, message + REPL_HEADER_BYTES), 0);
}

static void a_mandate_counts_from_its_question(void **state)
{
	begin();
	connected();
	assert_int_equal(asked, 1);
	assert_int_equal(question.position.epoch, 3);
	uint64_t sent_ns = now_ns;
	ticks(15); /* a slow answer; nothing else is asked meanwhile */
	assert_int_equal(asked, 1);
	answered(0);
	assert_int_equal(given.times, 1);
	assert_int_equal(given.until_ns, sent_ns + MANDATE_NS);
	answered(0); /* twice the same answer is one */
	assert_int_equal(given.times, 1);
	ticks(6); /* two seconds after the first it is asked again */
	assert_int_equal(asked, 2);
	sent_ns = now_ns;
	answered(0);
	assert_true(given.until_ns <= sent_ns + MANDATE_NS);
	assert_int_equal(absent.times, 0);
	end();
}

static void only_who_says_that_it_is_the_primary_ends_one(void **state)
{
	begin();
	connected();
	answered(0);
	ticks(21);
	answered(-EAGAIN); /* it is being promoted: what was given stands until it has passed */
	assert_int_equal(given.times, 1);
	ticks(21);
	assert_int_equal(asked, 3);
	answered(-VS_EFENCED);
	assert_int_equal(given.times, 2);
	assert_int_equal(given.until_ns, 0);
	ticks(21); /* it may not be, later */
	answered(0);
	assert_true(given.until_ns > now_ns);
	assert_int_equal(absent.times, 0);
	end();
}

/* Found absent while we were awake, from one try to the next, until it answers. */
static void who_cannot_be_reached_is_absent(void **state)
{
	begin();
	ticks(5);
	assert_int_equal(absent.times, 0); /* nothing has failed yet */
	gone();
	tick();
	assert_int_equal(absent.times, 1);
	assert_true(absent.until_ns > now_ns && absent.until_ns <= now_ns + 2 * NSEC_PER_SEC);
	ticks(10);
	assert_int_equal(absent.times, 11);
	assert_int_equal(dials, 2); /* once a second */
	connected();
	tick();
	assert_int_equal(absent.times, 12); /* it has said nothing yet */
	answered(0);
	tick();
	assert_int_equal(absent.times, 12);
	assert_int_equal(given.times, 1);
	/* A connection that breaks; and one over which no answer comes, before what was given has
	 * passed. */
	gone();
	tick();
	assert_int_equal(absent.times, 13);
	ticks(10);
	connected();
	answered(0);
	uint64_t until_ns = given.until_ns;
	unsigned before = absent.times;
	while (!session->ended) {
		assert_int_equal(absent.times, before);
		tick();
	}
	gone();
	tick();
	assert_int_equal(absent.times, before + 1);
	assert_true(now_ns < until_ns);
	end();
}

/* Who was stopped may have been replaced: what it found before, or began before, says nothing. */
static void who_wakes_asks_first(void **state)
{
	begin();
	gone();
	ticks(3);
	assert_int_equal(absent.times, 3);
	uint64_t until_ns = absent.until_ns;
	unsigned dialled = dials;
	now_ns += 20 * NSEC_PER_SEC;
	assert_true(now_ns > until_ns);
	tick();
	assert_int_equal(absent.times, 3);
	assert_int_equal(dials, dialled + 1); /* at once */
	/* Stopped while it connects: the failure of that is none. */
	now_ns += 20 * NSEC_PER_SEC;
	tick();
	assert_true(session->ended);
	gone();
	ticks(1);
	assert_int_equal(absent.times, 3);
	assert_int_equal(dials, dialled + 2);
	/* And that of what began since is. */
	gone();
	tick();
	assert_int_equal(absent.times, 4);
	/* Stopped in the middle of a question, as well. */
	ticks(10);
	connected();
	answered(0);
	ticks(21);
	now_ns += 20 * NSEC_PER_SEC;
	tick();
	assert_true(session->ended);
	unsigned before = absent.times;
	gone();
	tick();
	assert_int_equal(absent.times, before);
	connected();
	answered(-VS_EFENCED);
	assert_int_equal(given.until_ns, 0);
	ticks(3);
	assert_int_equal(absent.times, before);
	end();
}

static void nobody_is_asked_for_what_nobody_follows(void **state)
{
	begin();
	connected();
	voter_count = 0;
	tick();
	assert_true(session->ended);
	assert_null(session->mandates);
	assert_null(repl.links);
	gone(); /* nobody's any more */
	ticks(20);
	assert_int_equal(dials, 1);
	end();
}

static void a_question_is_answered(void **state)
{
	static const struct {
		int res, code;
	} cases[] = {{0, 0}, {-VS_EFENCED, -VS_EFENCED}, {-EAGAIN, -EAGAIN}, {-ENOMEM, -ENOMEM}};
	struct repl_mandate asks = {
		.volume_uuid = {1}, .position.epoch = 3, .duration_ns = MANDATE_NS};
	uint8_t message[REPL_HEADER_BYTES + 64];
	struct repl_header header;
	struct repl_error error;
	struct session one = {.repl = &repl, .incoming = true, .host = "h9"};
	for (unsigned i = 0; i < 4; i++) {
		give_res = cases[i].res;
		repl_encode_mandate(11, &asks, message);
		assert_int_equal(repl_decode_header(message, &header), 0);
		assert_int_equal(mandate_take(&one, &header, message + REPL_HEADER_BYTES), 0);
		assert_int_equal(repl_decode_header(answer, &header), 0);
		assert_int_equal(header.request, 11);
		assert_int_equal(header.type, cases[i].code ? REPL_ERROR : REPL_OK);
		if (!cases[i].code)
			continue;
		assert_int_equal(
			repl_decode_error(answer + REPL_HEADER_BYTES, header.body_bytes, &error),
			0);
		assert_int_equal(error.code, cases[i].code);
		assert_string_not_equal(error.sentence, "");
	}
	header.body_bytes--;
	assert_int_equal(mandate_take(&one, &header, message + REPL_HEADER_BYTES), -VS_EFORMAT);
}

static const struct store_word first = {.volume_uuid = {1},
					.term = 3,
					.seq = 5,
					.voter_count = 3,
					.copies = 3,
					.in_step = 3,
					.voters = {"h1", "h2", "w"}};

/* Until it has said so of that very word. */
static void a_voter_is_told_the_newest_word(void **state)
{
	struct repl_header header = {.type = REPL_VOTE, .flags = REPL_REPLY};
	uint8_t message[REPL_HEADER_BYTES + 512];
	begin();
	voters[0].voter = voters[0].copy = true;
	word = first;
	tick();
	connected();
	assert_int_equal(told, 1);
	assert_true(vote.won && !vote.only_ask);
	assert_int_equal(vote.seq, 5);
	assert_string_equal(vote.voters[2], "w");
	uint64_t request = last_request - 1; /* the mandate's question came behind */
	word.seq = 6;			     /* meanwhile */
	ticks(3);
	assert_int_equal(told, 1);
	repl_encode_ok(request, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(mandate_message(session, &header, message + REPL_HEADER_BYTES), 0);
	assert_int_equal(kept.times, 1);
	assert_int_equal(kept.seq, 5);
	assert_int_equal(given.times, 0); /* that was not what was asked */
	tick();
	assert_int_equal(told, 2); /* the next one at once */
	assert_int_equal(vote.seq, 6);
	/* It keeps another one: it is not said to have ours, and is told again, but not at once. */
	struct repl_vote theirs = vote;
	theirs.seq = 9;
	repl_encode_vote(last_request, REPL_REPLY, &theirs, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(mandate_message(session, &header, message + REPL_HEADER_BYTES), 0);
	assert_int_equal(kept.times, 1);
	assert_int_equal(known_seq, 9);
	ticks(5);
	assert_int_equal(told, 2);
	ticks(6);
	assert_int_equal(told, 3);
	/* A connection that broke: nothing is known of what it did. */
	gone();
	ticks(10);
	connected();
	assert_int_equal(told, 4);
	voters[0].heard = true;
	ticks(30);
	assert_int_equal(told, 4);
	/* On the next one it may be an older store: it is told again, whatever it said. */
	unsigned before = unheard;
	gone();
	ticks(10);
	connected();
	assert_int_equal(unheard, before + 1);
	assert_int_equal(told, 5);
	end();
}

static void a_word_that_may_be_lost_is_not_told(void **state)
{
	begin();
	voters[0].voter = true;
	word = first;
	not_durable = true;
	tick();
	connected();
	ticks(20);
	assert_int_equal(told, 0);
	not_durable = false;
	tick();
	assert_int_equal(told, 1);
	end();
}

/* Whom a voter follows no more asks all anew, as of when it began. */
static void an_owner_that_is_refused_asks_anew(void **state)
{
	begin();
	voters[0].voter = voters[0].heard = true;
	tick();
	connected();
	answered(0);
	ticks(25);
	assert_int_equal(renewals, 0);
	answered(-EAGAIN);
	uint64_t since_ns = now_ns;
	tick();
	assert_true(renewals > 0);
	assert_true(renew_ns == since_ns);
	ticks(25);
	answered(-VS_EFENCED);
	tick();
	assert_true(renew_ns == since_ns);
	renewing = true;
	tick();
	uint64_t again_ns = now_ns;
	renewing = false;
	tick();
	assert_true(renew_ns == again_ns); /* counted anew */
	ticks(25);
	answered(0);
	renewals = 0;
	ticks(5);
	assert_int_equal(renewals, 0);
	end();
}

static void who_is_absent_for_long_is_missing(void **state)
{
	begin();
	gone();
	tick();
	uint64_t since_ns = now_ns;
	ticks(60);
	assert_int_equal(missing, 0); /* no copy */
	voters[0].voter = voters[0].copy = true;
	tick();
	assert_true(now_ns - since_ns >= REPL_MISSING_NS);
	assert_true(missing > 0);
	end();
	begin();
	voters[0].copy = true;
	gone();
	while (!missing)
		tick();
	assert_true(absent.times * TICK_NS >= REPL_MISSING_NS);
	end();
}

static void a_word_is_answered_when_the_store_has_it(void **state)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	struct repl_header header;
	struct repl_vote asks = word_out(&first, 2, false), known;
	struct session one = {
		.repl = &repl, .incoming = true, .host = "h9", .channel = (struct channel *)answer};
	for (unsigned i = 0; i < 3; i++) {
		asks.only_ask = i == 2;
		memset(answer, 0, sizeof answer);
		repl_encode_vote(12, 0, &asks, message);
		assert_int_equal(repl_decode_header(message, &header), 0);
		assert_int_equal(word_take(&one, &header, message + REPL_HEADER_BYTES), 0);
		assert_int_equal(one.words_taken, 1);
		assert_int_equal(answer[4], 0); /* not before */
		assert_string_equal(taking->from, "h9");
		assert_int_equal(taking->base_term, 2);
		assert_int_equal(taking->only_ask, i == 2);
		assert_memory_equal(&taking->word, &first, sizeof first);
		taking->op.op.res = i == 0 ? 0 : -VS_EFENCED;
		taking->has_known = i == 1;
		taking->known = first;
		taking->op.op.done(&taking->op.op);
		assert_int_equal(one.words_taken, 0);
		assert_int_equal(repl_decode_header(answer, &header), 0);
		assert_int_equal(header.request, 12);
		assert_int_equal(header.type, i == 0 ? REPL_OK : i == 1 ? REPL_VOTE : REPL_ERROR);
		if (i == 1)
			assert_int_equal(repl_decode_vote(answer + REPL_HEADER_BYTES,
							  header.body_bytes, &known),
					 0);
	}
	header.body_bytes = 5;
	assert_int_equal(word_take(&one, &header, message + REPL_HEADER_BYTES), -VS_EFORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mandate_counts_from_its_question),
		cmocka_unit_test(only_who_says_that_it_is_the_primary_ends_one),
		cmocka_unit_test(who_cannot_be_reached_is_absent),
		cmocka_unit_test(who_wakes_asks_first),
		cmocka_unit_test(nobody_is_asked_for_what_nobody_follows),
		cmocka_unit_test(a_question_is_answered),
		cmocka_unit_test(a_voter_is_told_the_newest_word),
		cmocka_unit_test(a_word_that_may_be_lost_is_not_told),
		cmocka_unit_test(an_owner_that_is_refused_asks_anew),
		cmocka_unit_test(who_is_absent_for_long_is_missing),
		cmocka_unit_test(a_word_is_answered_when_the_store_has_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
