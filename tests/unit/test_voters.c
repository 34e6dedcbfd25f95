/* SPDX-License-Identifier: Apache-2.0 */
/* Voters, without a network: what one keeps and agrees to, and how a copy becomes the volume by a
 * majority. What the owner waits for: test_quorum.c. */
#include "tests/unit/words.h"

/* ---- what a voter keeps ---- */

static const uint8_t uuid[16] = {9};

static void a_voter_keeps_what_is_newer(void **state)
{
	struct fixture *f = *state;
	store_set_host(f->store, "w");
	skip_ns(f, MANDATES_NS);
	struct store_word word = word_of(uuid, 1, 2, 3), other = word;
	assert_int_equal(told(f, "h2", &word), -EINVAL); /* not the owner that it names */
	snprintf(other.voters[2], NAME_ROOM, "x");
	assert_int_equal(told(f, "h1", &other), -EINVAL); /* no voter here */
	assert_int_equal(told(f, "h1", &word), 0);
	assert_int_equal(told(f, "h1", &word), 0);
	other = word_of(uuid, 1, 2, 1);
	struct store_word_take take = {.won = true};
	for (unsigned i = 0; i < 3; i++) { /* the same number and another word; older ones */
		other.seq -= i == 1;
		take_begin(f, &take, "h1", &other);
		assert_int_equal(take_end(f, &take), -VS_EFENCED);
		assert_true(take.has_known);
		assert_memory_equal(&take.known, &word, sizeof word);
		fixture_close(f);
		fixture_open(f);
		store_set_host(f->store, "w");
	}
	other.seq = 3;
	assert_int_equal(told(f, "h1", &word),
			 -EAGAIN); /* another owner may tell it of a newer one */
	assert_int_equal(told(f, "h1", &other), -EAGAIN);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -EAGAIN);
	skip_ns(f, MANDATES_NS);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), 0);
	assert_int_equal(told(f, "h1", &other), 0);
	assert_int_equal(told(f, "h1", &word), -VS_EFENCED);
	other = word_of(uuid, 2, 1, 1);
	assert_int_equal(told(f, "h1", &other), 0); /* of a higher term */
}

static int asks(struct fixture *f, unsigned term, unsigned seq, unsigned base_term, bool only_ask)
{
	struct store_word word = word_of(uuid, term, seq, 3);
	struct store_word_take take = {.base_term = base_term, .only_ask = only_ask};
	word.owner = 1;
	take_begin(f, &take, "h2", &word);
	return take_end(f, &take);
}

/* Of a backup: it has promised h1 nothing, and knows of no other owner. */
static void who_knows_better_is_heard_before_a_voter_speaks(void **state)
{
	struct fixture *f = *state;
	store_set_host(f->store, "w");
	struct store_word word = word_of(uuid, 1, 5, 3), renewed = word_of(uuid, 2, 6, 3);
	assert_int_equal(told(f, "h1", &word), 0); /* the first that it ever hears */
	/* h1 asks anew, and would go on at once. */
	struct store_word_take take = {.base_term = 1}, other = {.won = true};
	take_begin(f, &take, "h1", &renewed);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -EAGAIN);
	skip_ns(f, MANDATES_NS);
	assert_int_equal(take_end(f, &take), 0);
	assert_int_equal(told(f, "h1", &renewed), 0);
	fixture_close(f);
	fixture_open(f);
	store_set_host(f->store, "w");
	/* h2 tells it what it forgot: from then on h1 is nobody. */
	word = word_of(uuid, 3, 7, 2);
	word.owner = 1;
	take_begin(f, &other, "h2", &word);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 2, MANDATE_NS), -EAGAIN);
	renewed.seq = 7;
	assert_int_equal(told(f, "h1", &renewed), -EAGAIN);
	skip_ns(f, MANDATES_NS);
	assert_int_equal(take_end(f, &other), 0);
	assert_int_equal(told(f, "h1", &renewed), -VS_EFENCED);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 2, MANDATE_NS), -VS_EFENCED);
}

static void who_was_left_out_is_no_owner(void **state)
{
	struct fixture *f = *state;
	store_set_host(f->store, "w");
	skip_ns(f, MANDATES_NS);
	struct store_word word = word_of(uuid, 1, 5, 1);
	assert_int_equal(told(f, "h1", &word), 0);
	assert_int_equal(asks(f, 2, 6, 1, false), -VS_EFENCED); /* by the word that is here */
	assert_int_equal(asks(f, 2, 5, 1, false), -VS_EFENCED); /* by an older one */
	word = word_of(uuid, 1, 6, 3);
	assert_int_equal(told(f, "h1", &word), 0);
	assert_int_equal(asks(f, 1, 7, 1, false), -EINVAL); /* in no higher term */
	assert_int_equal(asks(f, 2, 7, 1, true), 0);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), 0);
	assert_int_equal(store_mandate_give(f->store, "h2", uuid, 1, MANDATE_NS), -VS_EFENCED);
	/* It waits until that has passed, and the old owner gets no other. */
	struct store_word_take take = {.base_term = 1};
	struct store_word next = word_of(uuid, 2, 7, 3);
	next.owner = 1;
	take_begin(f, &take, "h2", &next);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -EAGAIN);
	assert_int_equal(asks(f, 3, 7, 1, false), -EAGAIN);
	skip_ns(f, MANDATES_NS);
	assert_int_equal(take_end(f, &take), 0);
	/* It may have won, or not: nobody gets one before it says so, nor is a word of h1 kept. */
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -EAGAIN);
	assert_int_equal(store_mandate_give(f->store, "h2", uuid, 1, MANDATE_NS), -VS_EFENCED);
	word.seq = 8;
	assert_int_equal(told(f, "h1", &word), -VS_EFENCED);
	assert_int_equal(told(f, "h2", &next), 0);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -VS_EFENCED);
	assert_int_equal(store_mandate_give(f->store, "h2", uuid, 1, MANDATE_NS), 0);
	/* A voter that had not heard the last ones believes who did. */
	assert_int_equal(asks(f, 9, 20, 4, true), 0);
	assert_int_equal(asks(f, 9, 20, 9, true), -EINVAL);
}

static void reopened(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
	store_set_host(f->store, "w");
	skip_ns(f, MANDATES_NS);
}

/* h2 asked, and nothing came of it: nobody is bound for longer than until a higher term. */
static void a_promise_gives_way_to_a_higher_term_alone(void **state)
{
	struct fixture *f = *state;
	store_set_host(f->store, "w");
	skip_ns(f, MANDATES_NS);
	assert_int_equal(asks(f, 2, 6, 1, false), 0); /* of a volume that is not known here */
	struct store_word word = word_of(uuid, 1, 5, 3), known;
	assert_int_equal(told(f, "h1", &word), -VS_EFENCED);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 1, MANDATE_NS), -EAGAIN);
	word = word_of(uuid, 3, 5, 3);
	assert_int_equal(told(f, "h1", &word), 0);
	known = word;
	assert_int_equal(asks(f, 5, 6, 3, false), 0);
	reopened(f);
	struct store_word_take take = {.base_term = 3};
	word = word_of(uuid, 5, 6, 2);
	word.owner = 1;
	take_begin(f, &take, "h2", &word); /* the same again, or another one, in that term */
	assert_int_equal(take_end(f, &take), -VS_EFENCED);
	assert_true(take.has_known);
	assert_int_equal(take.promised, 5);
	assert_memory_equal(&take.known, &known, sizeof known); /* what h2 would say is no word */
	word = word_of(uuid, 3, 6, 1);
	assert_int_equal(told(f, "h1", &word), -VS_EFENCED);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 3, MANDATE_NS), -EAGAIN);
	assert_int_equal(asks(f, 6, 6, 3, false), 0); /* a plain repeat */
	/* The old owner goes on in a higher one; for that nothing that it was given must pass. */
	word = word_of(uuid, 7, 6, 3);
	take = (struct store_word_take){.base_term = 3};
	take_begin(f, &take, "h1", &word);
	assert_int_equal(take_end(f, &take), 0);
	assert_int_equal(told(f, "h1", &word), 0);
	assert_int_equal(store_mandate_give(f->store, "h1", uuid, 3, MANDATE_NS), 0);
	/* h2's word in the term that was promised before comes too late, kept in a checkpoint too.
	 */
	word = word_of(uuid, 6, 6, 2);
	word.owner = 1;
	reopened(f);
	assert_int_equal(told(f, "h2", &word), -VS_EFENCED);
	assert_int_equal(asks(f, 7, 7, 7, false), -EINVAL);
	assert_int_equal(asks(f, 8, 8, 7, false), 0);
}

/* ---- a copy becomes the volume ---- */

/* h1's volume is here, on h2, as h1/a; its voters have told us that word. */
static struct volume_info copied(struct pair *pair, unsigned in_step)
{
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	struct volume_info a = volume_named(pair->from, "a", false);
	struct store_word word = word_of(a.uuid, a.epoch, 5, in_step);
	store_set_host(pair->to->store, "h2");
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(told(pair->to, "h1", &word), 0);
	return a;
}

static void a_copy_becomes_the_volume_by_a_majority(void **state)
{
	struct pair *pair = *state;
	struct volume_info a = copied(pair, 3);
	struct store_word plan, now;
	uint64_t base_term;
	char sentence[SENTENCE_BYTES] = "";
	bool stands;
	assert_int_equal(store_word_plan(pair->to->store, "h1/b", &plan, &base_term, sentence),
			 -ENOENT);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence), 0);
	assert_int_equal(base_term, a.epoch);
	assert_int_equal(plan.seq, 6);
	assert_int_equal(plan.owner, 1);
	assert_int_equal(plan.in_step, 2);
	assert_true(plan.term > a.epoch);
	/* What it followed is not what is here any more. */
	struct store_word word = word_of(a.uuid, a.epoch, 6, 3);
	assert_int_equal(told(pair->to, "h1", &word), 0);
	assert_int_equal(DO(pair->to, store_replica_promote_voted, "h1/a", "a", &plan, base_term),
			 -EBUSY);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence), 0);
	/* Its own voice is somebody else's in that term; then nobody's. */
	struct store_word_take take = {.base_term = word.term};
	word = plan;
	word.owner = 0;
	word.in_step = 1;
	take_begin(pair->to, &take, "h1", &word);
	assert_int_equal(take_end(pair->to, &take), 0);
	assert_int_equal(DO(pair->to, store_replica_promote_voted, "h1/a", "a", &plan, base_term),
			 -EBUSY);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence), 0);
	assert_int_equal(DO(pair->to, store_replica_promote_voted, "h1/a", "a", &plan, base_term),
			 0);
	word = word_of(a.uuid, a.epoch, 6, 3);
	struct volume_info b = volume_named(pair->to, "a", false);
	assert_true(b.epoch >= plan.term);
	assert_int_equal(store_word(pair->to->store, b.number, &now, &stands), 0);
	assert_memory_equal(&now, &plan, sizeof now);
	assert_false(stands);
	/* The old primary follows, when it is there; nothing of it is kept. */
	struct follower_info *followers;
	size_t count;
	assert_int_equal(store_followers(pair->to->store, &followers, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(followers[0].host, "h1");
	assert_true(followers[0].rules.in_step && followers[0].rules.degrade);
	free(followers);
	word.seq = 7;
	assert_int_equal(told(pair->to, "h1", &word), -VS_EFENCED);
	read_both(pair, "a@1", "a");
}

/* A volume that was renamed, or an owner that came back, leaves a copy of before. */
static void an_older_copy_of_the_owner_is_no_candidate(void **state)
{
	struct pair *pair = *state;
	copied(pair, 3);
	struct store_word plan;
	uint64_t base_term;
	char sentence[SENTENCE_BYTES] = "";
	assert_int_equal(DO(pair->from, store_volume_rename, "a", "b"), 0);
	write_random(pair->from, "b", 0, BLOCK_BYTES);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence), 0);
	const struct store_word before = plan;
	assert_int_equal(snap(pair->from, "b@2"), 0);
	assert_int_equal(send_snapshot(pair, "b@2"), 0);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence),
			 -VS_ERETAINED);
	assert_non_null(strstr(sentence, "h1/b"));
	/* Nor when it has come since the voters were asked. */
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(DO(pair->to, store_replica_promote_voted, "h1/a", "a", &before, base_term),
			 -VS_ERETAINED);
	assert_int_equal(store_word_plan(pair->to->store, "h1/b", &plan, &base_term, sentence), 0);
	assert_int_equal(DO(pair->to, store_replica_promote_voted, "h1/b", "b", &plan, base_term),
			 0);
	read_both(pair, "b", "b");
}

/* What is here of a host that owns it no more may be as old as can be. */
static void a_copy_of_another_host_than_the_owner_is_no_candidate(void **state)
{
	struct pair *pair = *state;
	struct volume_info a = copied(pair, 3);
	struct store_word plan, word = word_of(a.uuid, epoch_next_term(a.epoch), 6, 6);
	uint64_t base_term;
	char sentence[SENTENCE_BYTES] = "";
	word.copies = 7;
	word.owner = 2;
	/* Nor does its epoch say anything against the owner that a majority has. */
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch - 1, MANDATE_NS),
			 0);
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(told(pair->to, "w", &word), 0);
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence),
			 -VS_ERETAINED);
	assert_non_null(strstr(sentence, "belongs to w"));
}

static void who_was_left_out_is_promoted_with_its_loss_alone(void **state)
{
	struct pair *pair = *state;
	copied(pair, 1);
	struct store_word plan, now;
	uint64_t base_term;
	char sentence[SENTENCE_BYTES] = "";
	bool stands;
	assert_int_equal(store_word_plan(pair->to->store, "h1/a", &plan, &base_term, sentence),
			 -VS_ERETAINED);
	assert_string_not_equal(sentence, "");
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	struct volume_info b = volume_named(pair->to, "a", false);
	assert_int_equal(store_word(pair->to->store, b.number, &now, &stands), 0);
	assert_int_equal(now.owner, 1);
	assert_int_equal(now.in_step, 2); /* what others have is not known */
	assert_int_equal(now.term, b.epoch);
}

#define ONE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
#define TWO(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		ONE(a_voter_keeps_what_is_newer),
		ONE(who_knows_better_is_heard_before_a_voter_speaks),
		ONE(who_was_left_out_is_no_owner),
		ONE(a_promise_gives_way_to_a_higher_term_alone),
		TWO(a_copy_becomes_the_volume_by_a_majority),
		TWO(a_copy_of_another_host_than_the_owner_is_no_candidate),
		TWO(an_older_copy_of_the_owner_is_no_candidate),
		TWO(who_was_left_out_is_promoted_with_its_loss_alone),
	};
	words_argument(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
