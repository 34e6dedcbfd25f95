/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of a volume whose copy is in step: received beside it. */
#include "storage/store/store_int.h"
#include "tests/unit/skip.h"
#include "tests/unit/store_live.h"

static struct live *now; /* of `goes_on` */

static void goes_on(struct pair *pair)
{
	if (now->applied == now->batch_count)
		return;
	struct batch *batch = &now->batches[now->applied++];
	assert_int_equal(apply(now, batch), 0);
	batch_free(batch);
}

static size_t in_trash(struct fixture *f)
{
	struct volume_info *infos;
	size_t count;
	assert_int_equal(store_volumes(f->store, true, &infos, &count), 0);
	free(infos);
	return count;
}

/* a@then has 4 MiB that the copy never had. */
static struct live *begin(struct pair *pair)
{
	struct live *live = live_new(pair);
	prepare(pair);
	write_random(pair->from, "a", 8 * MIB, 4 * MIB);
	assert_int_equal(snap(pair->from, "a@then"), 0);
	write_random(pair->from, "a", 8 * MIB, 4 * MIB);
	live_begin(live);
	pair->beside = true;
	return live;
}

/* All is whole, and the copy is where its stream left it. */
static void ends(struct live *live)
{
	struct pair *pair = live->pair;
	struct store_work work;
	apply_all(live);
	read_both(pair, "a", "h1/a");
	live_end(live);
	assert_int_equal(in_trash(pair->to), 0);
	assert_int_equal(WORK(pair->to, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
}

static void the_copy_goes_on_meanwhile(void **state)
{
	struct pair *pair = *state;
	struct live *live = now = begin(pair);
	write_wildly(pair, 64);
	apply_all(live);
	write_wildly(pair, 256);
	pair->between = goes_on;
	assert_int_equal(send_snapshot(pair, "a@then"), 0);
	pair->between = NULL;
	assert_true(live->applied > 16); /* of batches, while it was received */
	read_both(pair, "a@then", "h1/a@then");
	ends(live);
	fixture_close(pair->to);
	fixture_open(pair->to);
	read_both(pair, "a@then", "h1/a@then");
	read_both(pair, "a", "h1/a");
	/* Once more: it is there. */
	assert_int_equal(send_snapshot(pair, "a@then"), 0);
	assert_int_equal(pair->records, 0);
	assert_int_equal(in_trash(pair->to), 0);
}

static void opens(struct pair *pair)
{
	store_view_close(open_view(pair->to, "h1/a"));
}

/* A client that comes while a commit makes the beginning, or the end, is not told to come again. */
static void the_copy_can_be_opened_at_each_moment(void **state)
{
	struct pair *pair = *state;
	struct live *live = begin(pair);
	pair->each = opens;
	assert_int_equal(send_snapshot(pair, "a@then"), 0);
	pair->each = NULL;
	ends(live);
}

/* In its log, where nobody finds it by its id. */
static void what_the_copy_has_is_not_sent(void **state)
{
	struct pair *pair = *state;
	struct live *live = begin(pair);
	write_wildly(pair, 64);
	write_random(pair->from, "a", 30 * MIB, 2 * MIB);
	apply_all(live);
	assert_int_equal(snap(pair->from, "a@mine"), 0);
	assert_int_equal(send_snapshot(pair, "a@mine"), 0);
	assert_int_equal(pair->records, 0);
	assert_int_equal(pair->receive.chunks, 0);
	read_both(pair, "a@mine", "h1/a@mine");
	/* An older one, too: what differs is here, from before. */
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->receive.fetched, 0);
	read_both(pair, "a@1", "h1/a@1");
	ends(live);
}

static void a_cut_is_gone_on_from(void **state)
{
	struct pair *pair = *state;
	struct live *live = begin(pair);
	uint64_t all = 0;
	unsigned cuts = 0;
	pair->cut_after = 20;
	while (send_snapshot(pair, "a@then") < 0) {
		assert_int_equal(pair->receive.op.res, -VS_ECANCELLED);
		all += pair->records;
		assert_int_equal(in_trash(pair->to), 1);
		assert_true(++cuts < 20);
		struct volume_info left = volume_named(pair->to, "h1/a", true);
		assert_int_equal(DO(pair->to, store_trash_restore, left.number, NULL), -EBUSY);
		assert_int_equal(apply(live, &(struct batch){.to = live->at}), 0); /* it lives */
	}
	all += pair->records;
	assert_true(cuts >= 2);
	assert_true(all <= 64 + 5 + cuts * 2);
	read_both(pair, "a@then", "h1/a@then");
	ends(live);
}

/* And what is left of it can be thrown away, or goes with all that is in the trash for long. */
static void a_restart_of_the_receiver_is_gone_on_from(void **state)
{
	struct pair *pair = *state;
	struct live *live = begin(pair);
	pair->cut_after = 30;
	assert_int_equal(send_snapshot(pair, "a@then"), -VS_ECANCELLED);
	read_both(pair, "a", "h1/a");
	live_end(live);
	fixture_close(pair->to);
	fixture_open(pair->to);
	assert_int_equal(in_trash(pair->to), 1);
	pair->cut_after = 40;
	assert_int_equal(send_snapshot(pair, "a@then"), 0);
	read_both(pair, "a@then", "h1/a@then");
	assert_int_equal(in_trash(pair->to), 0);
	pair->cut_after = 2;
	write_random(pair->from, "a", 8 * MIB, 4 * MIB);
	assert_int_equal(snap(pair->from, "a@lost"), 0);
	assert_int_equal(send_snapshot(pair, "a@lost"), -VS_ECANCELLED);
	struct volume_info left = volume_named(pair->to, "h1/a", true);
	assert_int_equal(DO(pair->to, store_trash_purge, left.number), 0);
	pair->cut_after = 0;
	assert_int_equal(send_snapshot(pair, "a@lost"), 0);
	read_both(pair, "a@lost", "h1/a@lost");
}

/* What came lies in a segment that is emptied in the middle of the next try. */
static void what_came_outlives_a_collection(void **state)
{
	struct pair *pair = *state;
	live_end(begin(pair));
	assert_int_equal(make_volume(pair->to, "junk", 16 * MIB), 0);
	write_random(pair->to, "junk", 0, 16 * MIB);
	pair->cut_after = 30;
	assert_int_equal(send_snapshot(pair, "a@then"), -VS_ECANCELLED);
	pair->cut_after = 0;
	fixture_close(pair->to); /* the segment is sealed */
	fixture_open(pair->to);
	pair->collect_after = 10;
	assert_int_equal(send_snapshot(pair, "a@then"), 0);
	assert_int_equal(pair->collect_after, 0);
	assert_true(pair->records <= 64 + 5 - 30 + 2);
	read_both(pair, "a@then", "h1/a@then");
	read_both(pair, "a", "h1/a");
	assert_int_equal(in_trash(pair->to), 0);
}

/* The copy is made, but holds nothing; the snapshot is there; and what makes it whole goes on. */
static void where_there_is_no_copy_one_is_made(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	struct volume_info info = volume_named(pair->from, "a", false);
	struct store_position at;
	struct view *view;
	pair->beside = true;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	read_both(pair, "a@1", "h1/a@1");
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", info.uuid, &view, &at), -EAGAIN);
	pair->beside = false;
	write_random(pair->from, "a", 3 * MIB, MIB);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	read_both(pair, "a@cut-1", "h1/a");
	assert_int_equal(pair->receive.fetched, 16);
	read_both(pair, "a@1", "h1/a@1");
}

/* The copy is deleted, or becomes the volume, before all of it is here. */
static void a_copy_that_goes_meanwhile_gets_no_snapshot(void **state)
{
	struct pair *pair = *state;
	struct live *live = begin(pair);
	live_end(live);
	pair->cut_after = 30;
	assert_int_equal(send_snapshot(pair, "a@then"), -VS_ECANCELLED);
	pair->cut_after = 0;
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	assert_int_equal(send_snapshot(pair, "a@then"), -VS_EFENCED);
	assert_non_null(strstr(pair->receive.sentence, "serves that volume itself"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_copy_goes_on_meanwhile),
		TEST(the_copy_can_be_opened_at_each_moment),
		TEST(what_the_copy_has_is_not_sent),
		TEST(a_cut_is_gone_on_from),
		TEST(a_restart_of_the_receiver_is_gone_on_from),
		TEST(what_came_outlives_a_collection),
		TEST(where_there_is_no_copy_one_is_made),
		TEST(a_copy_that_goes_meanwhile_gets_no_snapshot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
