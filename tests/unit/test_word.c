/* SPDX-License-Identifier: Apache-2.0 */
/* How voters are told the newest word, and how one that comes is answered, alone: without a store,
 * a network, or a clock that goes. */
#include "tests/unit/mandate_bed.h"

/* Until it has said so of that very word. */
static void a_voter_is_told_the_newest_word(void **state)
{
	struct repl_header header = {.type = REPL_VOTE, .flags = REPL_REPLY};
	uint8_t message[REPL_HEADER_BYTES + 512];
	begin();
	voters[0].voter = voters[0].copy = true;
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
		cmocka_unit_test(a_voter_is_told_the_newest_word),
		cmocka_unit_test(a_word_that_may_be_lost_is_not_told),
		cmocka_unit_test(a_word_is_answered_when_the_store_has_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
