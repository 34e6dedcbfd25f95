/* SPDX-License-Identifier: Apache-2.0 */
/* Voters, without a network: what one keeps and agrees to, what the owner's flushes and answers
 * wait for, and how a copy becomes the volume by a majority. */
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

static struct store_word word_of(const uint8_t uuid[16], uint64_t term, uint64_t seq,
				 unsigned in_step)
{
	struct store_word word = {.term = term,
				  .seq = seq,
				  .voter_count = 3,
				  .copies = 3,
				  .in_step = (uint8_t)in_step,
				  .voters = {"h1", "h2", "w"}};
	memcpy(word.volume_uuid, uuid, 16);
	return word;
}

/* ---- what a voter keeps ---- */

static void take_begin(struct fixture *f, struct store_word_take *take, const char *from,
		       const struct store_word *word)
{
	take->word = *word;
	snprintf(take->from, sizeof take->from, "%s", from);
	env_wait_prepare(&take->op.op);
	store_word_take(f->store, take);
}

static int take_end(struct fixture *f, struct store_word_take *take)
{
	return (int)env_wait(f->env, &take->op.op);
}

static int told(struct fixture *f, const char *from, const struct store_word *word)
{
	struct store_word_take take = {.won = true};
	take_begin(f, &take, from, word);
	return take_end(f, &take);
}

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

/* ---- the owner ---- */

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
		ONE(flushes_wait_for_who_is_in_step_and_for_the_word_that_says_so),
		ONE(three_copies_vote_without_a_witness),
		ONE(an_owner_asks_anew_and_another_one_ends_its_flushes),
		ONE(a_voter_that_comes_back_is_told_again),
		ONE(an_owner_from_a_backup_is_silent),
		ONE(a_newer_owner_is_believed_whoever_agrees),
		ONE(who_is_told_of_another_owner_is_silent_at_once),
		ONE(a_majority_must_stand_by_who_answers),
		ONE(voters_change_one_by_one),
		TWO(a_copy_becomes_the_volume_by_a_majority),
		TWO(a_copy_of_another_host_than_the_owner_is_no_candidate),
		TWO(who_was_left_out_is_promoted_with_its_loss_alone),
	};
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc > 1 ? atoi(argv[1]) : 0;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
