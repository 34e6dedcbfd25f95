/* SPDX-License-Identifier: Apache-2.0 */
/* Who answers for a volume, and how long who takes it over waits; without a network. */
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

static uint64_t now_ns(struct fixture *f)
{
	return env_now_ns(f->env);
}

static void follows(struct fixture *f, const char *host, bool in_step)
{
	const struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = in_step};
	assert_int_equal(DO(f, store_follower_set, "a", host, &rules), 0);
}

static void a_volume_is_answered_while_all_in_step_stand_by_it(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(snap(f, "a@1"), 0);
	uint32_t a = volume_named(f, "a", false).number;
	struct view *view = open_view(f, "a"), *old = open_view(f, "a@1");
	skip_ns(f, 0);
	for (unsigned i = 2; i < 5; i++) {
		const char host[] = {'h', (char)('0' + i), 0};
		assert_int_equal(DO(f, store_peer_add, host, "10.0.0.1:1"), 0);
	}
	follows(f, "h4", false);
	assert_true(store_view_answers(view)); /* who only lags has no say */
	follows(f, "h2", true);
	assert_false(store_view_answers(view));
	assert_false(volume_named(f, "a", false).answers);
	store_mandate_given(f->store, a, "h2", now_ns(f) + 5 * NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	assert_true(volume_named(f, "a", false).answers);
	follows(f, "h3", true); /* each of them has to */
	assert_false(store_view_answers(view));
	store_mandate_given(f->store, a, "h4", now_ns(f) + 60 * NSEC_PER_SEC);
	store_mandate_given(f->store, a, "nobody", now_ns(f) + 60 * NSEC_PER_SEC);
	store_mandate_given(f->store, a + 99, "h3", now_ns(f) + 60 * NSEC_PER_SEC);
	assert_false(store_view_answers(view));
	store_mandate_given(f->store, a, "h3", now_ns(f) + 3 * NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	skip_ns(f, 4 * NSEC_PER_SEC); /* h3's has passed */
	assert_false(store_view_answers(view));
	assert_true(store_view_answers(old)); /* what never changes needs nobody's word */
	/* Who cannot be reached counts for nothing, for as long as that was found, and said. */
	store_mandate_given(f->store, a, "h2", now_ns(f) + 60 * NSEC_PER_SEC);
	store_mandate_absent(f->store, a, "h3", now_ns(f) + NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	skip_ns(f, 2 * NSEC_PER_SEC);
	assert_false(store_view_answers(view));
	store_mandate_absent(f->store, a, "h3", now_ns(f) + 60 * NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	/* Other rules for it change nothing of that. */
	follows(f, "h3", true);
	assert_true(store_view_answers(view));
	/* But one that is the primary, as it said, is not forgotten when it is away. */
	store_mandate_given(f->store, a, "h3", 0);
	assert_false(store_view_answers(view));
	store_mandate_absent(f->store, a, "h3", now_ns(f) + 60 * NSEC_PER_SEC);
	assert_false(store_view_answers(view));
	store_mandate_given(f->store, a, "h3", now_ns(f) + NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	store_mandate_given(f->store, a, "h3", 0);
	assert_int_equal(DO(f, store_follower_delete, "a", "h3"), 0);
	assert_true(store_view_answers(view));
	store_view_close(view);
	store_view_close(old);
	/* An earlier life's are worth nothing. */
	fixture_close(f);
	fixture_open(f);
	assert_false(volume_named(f, "a", false).answers);
}

/* h1's volume "a" is here as the copy h1/a. */
static struct volume_info copied(struct pair *pair)
{
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	skip_ns(pair->to, 0);
	return volume_named(pair->from, "a", false);
}

static void none_is_given_against_who_knows_better(void **state)
{
	struct pair *pair = *state;
	struct volume_info a = copied(pair);
	struct store *store = pair->to->store;
	uint8_t other[16] = {77};
	assert_int_equal(store_mandate_give(store, "h1", a.uuid, a.epoch, MANDATE_NS), 0);
	assert_int_equal(store_mandate_give(store, "h1", a.uuid, a.epoch + 1, MANDATE_NS), 0);
	uint64_t epoch = volume_named(pair->to, "h1/a", false).epoch;
	assert_true(epoch > 0);
	assert_int_equal(store_mandate_give(store, "h1", a.uuid, epoch - 1, MANDATE_NS),
			 -VS_EFENCED);
	assert_int_equal(store_mandate_give(pair->from->store, "h1", a.uuid, epoch + 9, MANDATE_NS),
			 -VS_EFENCED);
	/* A volume that is not here yet, and many of them; there is a bound, and what has passed
	 * makes room. */
	unsigned given = 0;
	for (; given < 100000; given++) {
		memcpy(other, &given, sizeof given);
		other[15] = 1;
		if (store_mandate_give(store, "h1", other, 1, MANDATE_NS) < 0)
			break;
	}
	assert_true(given > 1000 && given < 100000);
	assert_int_equal(store_mandate_give(store, "h1", other, 1, MANDATE_NS), -ENOMEM);
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(store_mandate_give(store, "h1", other, 1, MANDATE_NS), 0);
}

struct taking {
	struct admin_op op;
	bool done;
};

static void taken(struct io_op *op)
{
	(container_of(op, struct taking, op.op))->done = true;
}

static void promote_begin(struct pair *pair, struct taking *taking)
{
	*taking = (struct taking){.op.op.done = taken};
	store_replica_promote(pair->to->store, &taking->op, "h1/a", "a", true);
}

static void recover_begin(struct pair *pair, struct taking *taking)
{
	*taking = (struct taking){.op.op.done = taken};
	store_replica_adopt(pair->to->store, &taking->op, "h1/a", "a");
}

static int take_end(struct pair *pair, struct taking *taking)
{
	while (!taking->done)
		env_step(pair->to->env, true);
	return (int)taking->op.op.res;
}

/* It withholds from now on; the only sign of that from outside. */
static void await_withheld(struct pair *pair, const struct volume_info *a)
{
	while (store_mandate_give(pair->to->store, "h1", a->uuid, a->epoch, 1) != -EAGAIN)
		env_step(pair->to->env, true);
}

/* More passes than any commit takes. */
static void goes_on_waiting(struct pair *pair, const struct taking *taking)
{
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(DO(pair->to, store_volume_rename, "x", "y"), -ENOENT);
	assert_false(taking->done);
}

static void who_takes_over_waits_until_nobody_else_answers(struct pair *pair,
							   void (*begin)(struct pair *pair,
									 struct taking *taking))
{
	struct volume_info a = copied(pair);
	struct taking taking, second;
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch, MANDATE_NS), 0);
	begin(pair, &taking);
	await_withheld(pair, &a);
	goes_on_waiting(pair, &taking);
	promote_begin(pair, &second);
	assert_int_equal(take_end(pair, &second), -EBUSY);
	assert_string_not_equal(second.op.sentence, "");
	recover_begin(pair, &second);
	assert_int_equal(take_end(pair, &second), -EBUSY);
	skip_ns(pair->to, MANDATE_NS); /* by the other clock it has passed; it may be a slow one */
	goes_on_waiting(pair, &taking);
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch, MANDATE_NS),
			 -EAGAIN);
	skip_ns(pair->to, MANDATE_NS / 16 + 1);
	assert_int_equal(take_end(pair, &taking), 0);
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch + 9, MANDATE_NS),
			 -VS_EFENCED);
	assert_true(volume_named(pair->to, "a", false).epoch > a.epoch);
}

static void a_promotion_waits(void **state)
{
	who_takes_over_waits_until_nobody_else_answers(*state, promote_begin);
}

static void a_recovery_waits(void **state)
{
	who_takes_over_waits_until_nobody_else_answers(*state, recover_begin);
}

static void what_cannot_be_is_told_at_once(void **state)
{
	struct pair *pair = *state;
	struct volume_info a = copied(pair);
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch, MANDATE_NS), 0);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/b", "a", true), -ENOENT);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a/b", true), -EINVAL);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/b", "a"), -ENOENT);
	assert_int_equal(make_volume(pair->to, "a", MIB), 0);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), -EEXIST);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "a"), -EEXIST);
	/* And nothing is withheld for it. */
	assert_int_equal(store_mandate_give(pair->to->store, "h1", a.uuid, a.epoch, MANDATE_NS), 0);
}

/* What an earlier life gave is not known any more. */
static void after_an_opening_it_waits_as_if_one_had_been_given(void **state)
{
	struct pair *pair = *state;
	struct volume_info a = copied(pair);
	struct taking taking;
	fixture_close(pair->to);
	fixture_open(pair->to);
	promote_begin(pair, &taking);
	await_withheld(pair, &a);
	goes_on_waiting(pair, &taking);
	/* A store that closes waits for nobody. */
	fixture_close(pair->to);
	assert_true(taking.done);
	assert_int_equal(taking.op.op.res, -ESHUTDOWN);
	fixture_open(pair->to);
	assert_int_equal(volume_named(pair->to, "h1/a", false).replica, true);
	promote_begin(pair, &taking);
	await_withheld(pair, &a);
	skip_ns(pair->to, MANDATES_NS);
	assert_int_equal(take_end(pair, &taking), 0);
	assert_int_equal(volume_named(pair->to, "a", false).replica, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_volume_is_answered_while_all_in_step_stand_by_it,
						fixture_setup, fixture_teardown),
		TEST(none_is_given_against_who_knows_better),
		TEST(a_promotion_waits),
		TEST(a_recovery_waits),
		TEST(what_cannot_be_is_told_at_once),
		TEST(after_an_opening_it_waits_as_if_one_had_been_given),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
