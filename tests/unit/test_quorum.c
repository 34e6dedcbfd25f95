/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of a volume with voters, without a network: what its flushes and answers wait for, and
 * who its next word names. */
#include "tests/unit/words.h"

struct owner {
	struct fixture *f;
	uint32_t number;
	struct view *view;
	struct store_request flush;
	bool ended;
};

static void flush_done(struct io_op *op)
{
	(container_of(op, struct owner, flush.op))->ended = true;
}

static void owner_open(struct owner *owner)
{
	store_set_host(owner->f->store, "h1");
	owner->number = volume_named(owner->f, "a", false).number;
	owner->view = open_view(owner->f, "a");
}

static void owner_make(struct owner *owner, struct fixture *f)
{
	const struct follower_rules rules = {
		.lag_ns = NSEC_PER_SEC, .in_step = true, .degrade = true};
	*owner = (struct owner){.f = f};
	skip_ns(f, MANDATES_NS); /* what it is told at its start is another case */
	assert_int_equal(make_volume(f, "a", MIB), 0);
	owner_open(owner);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.2:1"), 0);
	assert_int_equal(DO(f, store_peer_add, "w", "10.0.0.3:1"), 0);
	assert_int_equal(DO(f, store_witness_add, "a", "w"), -EINVAL); /* nobody is in step */
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	assert_int_equal(DO(f, store_witness_add, "a", "h2"), -EEXIST);
	assert_int_equal(DO(f, store_witness_add, "a", "x"), -ENOENT);
	assert_int_equal(DO(f, store_witness_add, "a", "w"), 0);
}

static void write_one(struct owner *owner)
{
	static uint8_t block[BLOCK_BYTES];
	block[0]++;
	assert_int_equal(do_request(owner->f, owner->view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0),
			 0);
}

/* A write, and a flush that begins. */
static void flush_begin(struct owner *owner)
{
	write_one(owner);
	owner->ended = false;
	owner->flush = (struct store_request){
		.view = owner->view, .kind = REQUEST_FLUSH, .op.done = flush_done};
	store_submit(&owner->flush);
}

/* More passes than it takes here. */
static void flush_waits(struct owner *owner)
{
	for (unsigned i = 0; i < 30; i++)
		assert_int_equal(DO(owner->f, store_volume_rename, "x", "y"), -ENOENT);
	assert_false(owner->ended);
}

static void flush_ends(struct owner *owner)
{
	while (!owner->ended)
		env_step(owner->f->env, true);
	assert_int_equal(owner->flush.op.res, 0);
}

static struct store_word word_here(struct owner *owner, bool *ret_stands)
{
	struct store_word word;
	assert_int_equal(store_word(owner->f->store, owner->number, &word, ret_stands), 0);
	return word;
}

static void await_in_step(struct owner *owner, unsigned in_step)
{
	bool stands;
	while (word_here(owner, &stands).in_step != in_step)
		env_step(owner->f->env, true);
}

/* w keeps what is said. */
static void kept(struct owner *owner, const char *host)
{
	bool stands;
	struct store_word word = word_here(owner, &stands);
	store_word_acked(owner->f->store, owner->number, host, word.term, word.seq);
}

static void acks(struct owner *owner)
{
	uint64_t vseq = volume_named(owner->f, "a", false).vseq;
	store_follower_acked(owner->f->store, owner->number, "h2", vseq);
}

static void stands_by(struct owner *owner, const char *host, uint64_t duration_ns)
{
	uint64_t now = env_now_ns(owner->f->env);
	store_mandate_given(owner->f->store, owner->number, host,
			    duration_ns ? now + duration_ns : 0);
}

static void flushes_wait_for_who_is_in_step_and_for_the_word_that_says_so(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	flush_begin(&owner);
	flush_waits(&owner); /* nobody keeps the word */
	kept(&owner, "w");
	flush_ends(&owner); /* h2 was in step with nothing yet */
	/* It is live, and then it is waited for; it joins when it has all. */
	store_follower_live(store, owner.number, "h2", true);
	flush_begin(&owner);
	flush_waits(&owner);
	assert_int_equal(word_here(&owner, &stands).in_step, 1);
	acks(&owner);
	await_in_step(&owner, 3);
	flush_begin(&owner);
	acks(&owner);
	flush_waits(&owner); /* w does not keep that word */
	kept(&owner, "w");
	flush_ends(&owner);
	/* Missing: no majority stands by us, and then one does. */
	store_follower_live(store, owner.number, "h2", false);
	flush_begin(&owner);
	store_follower_missing(store, owner.number, "h2");
	flush_waits(&owner);
	assert_int_equal(word_here(&owner, &stands).in_step, 3);
	stands_by(&owner, "h2", NSEC_PER_SEC * 60); /* its own word does not count */
	store_follower_missing(store, owner.number, "h2");
	flush_waits(&owner);
	assert_int_equal(word_here(&owner, &stands).in_step, 3);
	stands_by(&owner, "w", NSEC_PER_SEC * 60);
	store_follower_missing(store, owner.number, "h2");
	await_in_step(&owner, 1);
	flush_waits(&owner); /* that it is left out is written down here alone */
	word_here(&owner, &stands);
	assert_false(stands);
	kept(&owner, "w");
	flush_ends(&owner);
	/* Live for a moment: waited for, and given up, without a word. */
	store_follower_live(store, owner.number, "h2", true);
	flush_begin(&owner);
	flush_waits(&owner);
	store_follower_live(store, owner.number, "h2", false);
	flush_ends(&owner);
	/* What voters said is not known after an opening. */
	store_view_close(owner.view);
	fixture_close(owner.f);
	fixture_open(owner.f);
	owner_open(&owner);
	flush_begin(&owner);
	flush_waits(&owner);
	kept(&owner, "w");
	flush_waits(&owner); /* h2 may know better than this store */
	kept(&owner, "h2");
	flush_ends(&owner);
	store_view_close(owner.view);
}

/* The stream of who joins ends in any pass of the word that says so: nothing is promised without it
 * that a majority then says it has. */
static void who_ceases_while_the_word_is_written_is_waited_for(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	kept(&owner, "w");
	stands_by(&owner, "w", 3600 * NSEC_PER_SEC);
	for (unsigned passes = 0; passes < 12; passes++) {
		write_one(&owner);
		uint64_t joins_vseq = volume_named(owner.f, "a", false).vseq;
		store_follower_live(store, owner.number, "h2", true);
		flush_begin(&owner);
		flush_waits(&owner);
		store_follower_acked(store, owner.number, "h2", joins_vseq); /* it joins */
		for (unsigned i = 0; i < passes; i++)
			env_step(owner.f->env, false);
		store_follower_live(store, owner.number, "h2", false);
		for (unsigned i = 0; i < 30; i++)
			assert_int_equal(DO(owner.f, store_volume_rename, "x", "y"), -ENOENT);
		if (word_here(&owner, &stands).in_step == 3) {
			assert_false(owner.ended);
			kept(&owner, "w");
			assert_false(owner.ended);
			store_follower_missing(store, owner.number, "h2");
			await_in_step(&owner, 1);
			kept(&owner, "w");
		}
		flush_ends(&owner);
	}
	store_view_close(owner.view);
}

static void three_copies_vote_without_a_witness(void **state)
{
	struct fixture *f = *state;
	struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = true};
	struct owner owner = {.f = f};
	bool stands;
	skip_ns(f, MANDATES_NS);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	owner_open(&owner);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.2:1"), 0);
	assert_int_equal(DO(f, store_peer_add, "h3", "10.0.0.3:1"), 0);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	rules.degrade = true;
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &rules), 0);
	struct store_word word = word_here(&owner, &stands);
	assert_int_equal(word.voter_count, 3);
	assert_int_equal(word.copies, 7);
	assert_int_equal(word.in_step, 1);
	assert_false(stands);
	kept(&owner, "h3");
	word_here(&owner, &stands);
	assert_true(stands);
	store_view_close(owner.view);
}

static void an_owner_asks_anew_and_another_one_ends_its_flushes(void **state)
{
	struct owner owner;
	struct store_word plan, word;
	uint64_t base_term;
	bool stands;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	skip_ns(owner.f, MANDATES_NS);
	kept(&owner, "w");
	word = word_here(&owner, &stands);
	assert_int_equal(store_word_plan_renewal(store, owner.number, &plan, &base_term), 0);
	assert_true(plan.term > word.term);
	assert_int_equal(plan.owner, 0);
	assert_int_equal(plan.in_step, word.in_step);
	assert_int_equal(DO(owner.f, store_word_renew, owner.number, &plan, base_term), 0);
	assert_int_equal(DO(owner.f, store_word_renew, owner.number, &plan, base_term), -EBUSY);
	word = word_here(&owner, &stands);
	assert_memory_equal(&word, &plan, sizeof plan);
	assert_true(store_word_kept(store, owner.number));
	assert_false(stands); /* in that term nobody has heard it */
	flush_begin(&owner);
	flush_waits(&owner);
	word.term++;
	word.owner = 1;
	word.in_step = 2;
	assert_int_equal(told(owner.f, "h2", &word), 0);
	while (!owner.ended)
		env_step(owner.f->env, true);
	assert_int_equal(owner.flush.op.res, -VS_EFENCED);
	assert_int_equal(store_word_plan_renewal(store, owner.number, &plan, &base_term), -ENOENT);
	store_view_close(owner.view);
}

/* w comes back, and is perhaps older: what it has said says nothing. */
static void a_voter_that_comes_back_is_told_again(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	kept(&owner, "w");
	word_here(&owner, &stands);
	assert_true(stands);
	store_word_unheard(owner.f->store, owner.number, "h2");
	word_here(&owner, &stands);
	assert_true(stands);
	store_word_unheard(owner.f->store, owner.number, "w");
	flush_begin(&owner);
	flush_waits(&owner);
	word_here(&owner, &stands);
	assert_false(stands);
	kept(&owner, "w");
	flush_ends(&owner);
	store_view_close(owner.view);
}

/* A voter keeps a word of ours that is not here. */
static void an_owner_from_a_backup_is_silent(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	kept(&owner, "w");
	stands_by(&owner, "w", 60 * NSEC_PER_SEC);
	assert_true(store_view_answers(owner.view));
	struct store_word here = word_here(&owner, &stands), known = here;
	store_word_known(store, owner.number, "w", &known); /* the same */
	known.seq--;					    /* an older one */
	store_word_known(store, owner.number, "w", &known);
	assert_true(store_view_answers(owner.view));
	known.seq += 2;
	flush_begin(&owner);
	store_word_known(store, owner.number, "w", &known);
	assert_false(store_view_answers(owner.view));
	while (!owner.ended)
		env_step(owner.f->env, true);
	stands_by(&owner, "h2", 60 * NSEC_PER_SEC);
	assert_false(store_view_answers(owner.view));
	/* Its voice is anyone's who knows better. */
	struct store_word plan = known;
	struct store_word_take take = {.base_term = known.term, .only_ask = true};
	plan.term = epoch_next_term(known.term);
	plan.seq++;
	plan.owner = 1;
	plan.in_step = 3;
	take_begin(owner.f, &take, "h2", &plan);
	assert_int_equal(take_end(owner.f, &take), 0);
	/* A person goes on with what is here. */
	assert_int_equal(DO(owner.f, store_witness_delete, "a", "w", false), -VS_EFENCED);
	assert_int_equal(DO(owner.f, store_witness_delete, "a", "w", true), 0);
	here = word_here(&owner, &stands);
	assert_true(here.term > known.term);
	store_view_close(owner.view);
}

/* h2 was elected and w, which agreed, is from a backup: it agrees to us as well. */
static void a_newer_owner_is_believed_whoever_agrees(void **state)
{
	struct owner owner;
	bool stands;
	uint64_t base_term;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	struct store_word here = word_here(&owner, &stands), known = here, plan;
	flush_begin(&owner);
	known.term = epoch_next_term(here.term);
	known.seq++;
	known.owner = 1;
	known.in_step = 2;
	store_word_known(store, owner.number, "h2", &known);
	kept(&owner, "w");
	stands_by(&owner, "w", 60 * NSEC_PER_SEC);
	assert_false(store_view_answers(owner.view));
	word_here(&owner, &stands);
	assert_false(stands);
	assert_int_equal(store_word_plan_renewal(store, owner.number, &plan, &base_term), -ENOENT);
	while (!owner.ended)
		env_step(owner.f->env, true);
	assert_int_equal(owner.flush.op.res, -VS_EFENCED);
	struct admin_op removal = {0};
	env_wait_prepare(&removal.op);
	store_witness_delete(store, &removal, "a", "w", false);
	assert_int_equal(admin_wait(owner.f, &removal), -VS_EFENCED);
	assert_non_null(strstr(removal.sentence, "belongs to h2"));
	/* Its word comes: whose it is stands there, and no person's loss changes it here. */
	assert_int_equal(told(owner.f, "h2", &known), 0);
	assert_int_equal(DO(owner.f, store_witness_delete, "a", "w", true), -VS_EFENCED);
	store_view_close(owner.view);
}

/* It tells us so itself: it is kept when mandates have passed, and believed at once. */
static void who_is_told_of_another_owner_is_silent_at_once(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	store_view_close(owner.view);
	fixture_close(owner.f);
	fixture_open(owner.f); /* may have given mandates before */
	owner_open(&owner);
	struct store_word here = word_here(&owner, &stands), word = here;
	struct store_word_take take = {.won = true};
	kept(&owner, "w");
	kept(&owner, "h2");
	stands_by(&owner, "w", 60 * NSEC_PER_SEC);
	assert_true(store_view_answers(owner.view));
	word.term = epoch_next_term(here.term);
	word.seq++;
	word.owner = 1;
	word.in_step = 2;
	take_begin(owner.f, &take, "h2", &word);
	assert_false(store_view_answers(owner.view));
	assert_int_equal(word_here(&owner, &stands).term, here.term);
	assert_int_equal(take_end(owner.f, &take), 0);
	assert_int_equal(word_here(&owner, &stands).term, word.term);
	assert_false(store_view_answers(owner.view));
	store_view_close(owner.view);
}

static void a_majority_must_stand_by_who_answers(void **state)
{
	struct owner owner;
	owner_make(&owner, *state);
	struct store *store = owner.f->store;
	uint64_t soon_ns = env_now_ns(owner.f->env) + 60 * NSEC_PER_SEC;
	assert_false(store_view_answers(owner.view));
	store_mandate_absent(store, owner.number, "h2", soon_ns); /* no excuse */
	store_mandate_absent(store, owner.number, "w", soon_ns);
	assert_false(store_view_answers(owner.view));
	stands_by(&owner, "x", MANDATE_NS);
	assert_false(store_view_answers(owner.view));
	stands_by(&owner, "w", MANDATE_NS);
	assert_true(store_view_answers(owner.view));
	stands_by(&owner, "h2", 0); /* one no of three */
	assert_true(store_view_answers(owner.view));
	skip_ns(owner.f, MANDATE_NS);
	assert_false(store_view_answers(owner.view));
	stands_by(&owner, "h2", MANDATE_NS);
	assert_true(store_view_answers(owner.view));
	store_set_host(store, "h7"); /* its certificate names another host */
	assert_false(store_view_answers(owner.view));
	store_view_close(owner.view);
}

static void voters_change_one_by_one(void **state)
{
	struct owner owner;
	bool stands;
	owner_make(&owner, *state);
	struct fixture *f = owner.f;
	assert_int_equal(DO(f, store_peer_add, "h3", "10.0.0.4:1"), 0);
	const struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = true};
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &rules), -EBUSY);
	assert_int_equal(DO(f, store_follower_delete, "a", "h2"), -EBUSY);
	assert_int_equal(DO(f, store_witness_delete, "a", "w", false), -EBUSY);
	kept(&owner, "w");
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &rules), 0);
	struct store_word word = word_here(&owner, &stands);
	assert_int_equal(word.voter_count, 4);
	assert_int_equal(word.copies, 11);
	assert_string_equal(word.voters[3], "h3");
	kept(&owner, "w");
	word_here(&owner, &stands);
	assert_false(stands); /* two of four */
	kept(&owner, "h2");
	/* h3 is never left out: it is waited for from the beginning. */
	flush_begin(&owner);
	flush_waits(&owner);
	assert_int_equal(DO(f, store_follower_delete, "a", "h3"), 0);
	flush_waits(&owner); /* that stands first */
	kept(&owner, "w");
	flush_ends(&owner);
	assert_int_equal(DO(f, store_follower_delete, "a", "h2"), 0);
	word = word_here(&owner, &stands);
	assert_int_equal(word.voter_count, 2);
	assert_int_equal(word.copies, 1);
	assert_string_equal(word.voters[1], "w");
	/* The others are gone for good. */
	assert_int_equal(DO(f, store_witness_delete, "a", "w", false), -EBUSY);
	assert_int_equal(DO(f, store_witness_delete, "a", "w", true), 0);
	word_here(&owner, &stands);
	assert_true(stands);
	flush_begin(&owner);
	flush_ends(&owner);
	store_view_close(owner.view);
}

#define ONE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		ONE(flushes_wait_for_who_is_in_step_and_for_the_word_that_says_so),
		ONE(who_ceases_while_the_word_is_written_is_waited_for),
		ONE(three_copies_vote_without_a_witness),
		ONE(an_owner_asks_anew_and_another_one_ends_its_flushes),
		ONE(a_voter_that_comes_back_is_told_again),
		ONE(an_owner_from_a_backup_is_silent),
		ONE(a_newer_owner_is_believed_whoever_agrees),
		ONE(who_is_told_of_another_owner_is_silent_at_once),
		ONE(a_majority_must_stand_by_who_answers),
		ONE(voters_change_one_by_one),
	};
	words_argument(argc, argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
