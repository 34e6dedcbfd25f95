/* SPDX-License-Identifier: Apache-2.0 */
/* How the hosts that follow in step are asked for mandates, alone: without a store, a network, or a
 * clock that goes. */
#include "tests/unit/mandate_bed.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_mandate_counts_from_its_question),
		cmocka_unit_test(only_who_says_that_it_is_the_primary_ends_one),
		cmocka_unit_test(who_cannot_be_reached_is_absent),
		cmocka_unit_test(who_wakes_asks_first),
		cmocka_unit_test(nobody_is_asked_for_what_nobody_follows),
		cmocka_unit_test(a_question_is_answered),
		cmocka_unit_test(an_owner_that_is_refused_asks_anew),
		cmocka_unit_test(who_is_absent_for_long_is_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
