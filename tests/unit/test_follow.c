/* SPDX-License-Identifier: Apache-2.0 */
/* Copies that follow: cuts, which take each other's place; promotion, adoption; who follows what.
 */
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

static unsigned snapshots_of(struct fixture *f)
{
	struct snapshot_info *infos;
	size_t count;
	assert_int_equal(store_snapshots(f->store, false, &infos, &count), 0);
	free(infos);
	return (unsigned)count;
}

static void a_cut_takes_the_place_of_the_one_before(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	for (unsigned i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof name, "a@cut-%u", i);
		write_random(pair->from, "a", i * MIB, MIB);
		assert_int_equal(cut(pair->from, name), 0);
		assert_int_equal(send_snapshot(pair, name), 0);
		snprintf(name, sizeof name, "h1/a@cut-%u", i);
		read_both(pair, name + 3, name);
		assert_int_equal(snapshots_of(pair->to), 2); /* and what a person sent */
		if (i == 1)
			assert_int_equal(DO(pair->to, store_snap_hold, name, "mine"), 0);
		if (i == 1)
			assert_int_equal(DO(pair->to, store_snap_release, name, "mine"), 0);
		assert_int_equal(DO(pair->from, store_cut_drop, name + 3), 0);
		assert_int_equal(DO(pair->from, store_cut_drop, name + 3), 0); /* it is gone */
	}
	assert_int_equal(DO(pair->from, store_cut_drop, "a@1"), 0); /* it is no cut */
	assert_int_equal(snapshots_of(pair->from), 1);
	fixture_close(pair->to);
	fixture_open(pair->to);
	assert_int_equal(snapshots_of(pair->to), 2);
}

/* And not the copy: that stays what the newest is, of that size, also where a reader has it. */
static void an_older_snapshot_is_put_beside(void **state)
{
	struct pair *pair = *state;
	const char *names[] = {"h1/a@rescued"};
	prepare(pair);
	write_random(pair->from, "a", 3 * MIB, MIB);
	assert_int_equal(DO(pair->from, store_volume_grow, "a", VOLUME_BYTES + MIB), 0);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	struct view *reader = open_view(pair->to, "h1/a");
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	store_view_close(reader);
	read_both(pair, "a@1", "h1/a@1");
	read_both(pair, "a@cut-1", "h1/a");
	read_both(pair, "a@cut-1", "h1/a@cut-1");
	fixture_close(pair->to);
	fixture_open(pair->to);
	read_both(pair, "a@cut-1", "h1/a");
	/* What a person takes of it when the original is lost is the newest. */
	assert_int_equal(DO(pair->to, store_snap_create, names, 1), 0);
	read_both(pair, "a@cut-1", "h1/a@rescued");
	/* The next cut goes on from there. */
	write_random(pair->from, "a", 9 * MIB, CHUNK_BYTES);
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	assert_int_equal(pair->receive.chunks, 1);
	read_both(pair, "a@cut-2", "h1/a");
}

#define FAR (UINT64_C(4000000000) * NSEC_PER_SEC)

static void a_cut_that_is_held_or_retained_stays(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	assert_int_equal(DO(pair->from, store_snap_retain, "a@cut-1", FAR), 0);
	assert_int_equal(DO(pair->from, store_cut_drop, "a@cut-1"), -VS_ERETAINED);
	assert_int_equal(snapshots_of(pair->from), 2);
	/* There: the next one takes the place of one whose date is over, and of no other. */
	assert_int_equal(DO(pair->to, store_snap_retain, "h1/a@cut-1", 1), 0);
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	assert_int_equal(snapshots_of(pair->to), 1);
	assert_int_equal(DO(pair->to, store_snap_retain, "h1/a@cut-2", FAR), 0);
	assert_int_equal(cut(pair->from, "a@cut-3"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-3"), 0);
	assert_int_equal(snapshots_of(pair->to), 2);
	assert_int_equal(DO(pair->from, store_snap_hold, "a@cut-3", "mine"), 0);
	assert_int_equal(DO(pair->from, store_cut_drop, "a@cut-3"), -VS_ERETAINED);
	assert_int_equal(DO(pair->from, store_snap_release, "a@cut-3", "mine"), 0);
	assert_int_equal(DO(pair->from, store_cut_drop, "a@cut-3"), 0);
}

static void a_promoted_copy_is_the_volume(void **state)
{
	struct pair *pair = *state;
	struct volume_info *infos;
	size_t count;
	uint64_t old_epoch = 0;
	prepare(pair);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", false), -VS_ERETAINED);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	assert_int_equal(DO(pair->to, store_replica_promote, "a", "b", true), -EINVAL);
	read_both(pair, "a", "a");
	assert_int_equal(store_volumes(pair->from->store, false, &infos, &count), 0);
	old_epoch = infos[0].epoch;
	free(infos);
	assert_int_equal(store_volumes(pair->to->store, false, &infos, &count), 0);
	assert_int_equal(count, 2);
	assert_false(infos[1].replica);
	assert_true(infos[1].epoch > old_epoch);
	assert_memory_equal(infos[0].uuid, infos[1].uuid, 16);
	free(infos);
	/* It can be written, and nothing of the old primary is taken any more. */
	write_random(pair->to, "a", 0, MIB);
	write_random(pair->from, "a", MIB, MIB);
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), -VS_EFENCED);
	assert_non_null(strstr(pair->receive.sentence, "serves that volume itself"));
	fixture_close(pair->to);
	fixture_open(pair->to);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), -VS_EFENCED);
	assert_int_equal(DO(pair->to, store_volume_delete, "a"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
}

/* A host that was sent its own volume back: the copy is the volume then, with its snapshots, also
 * when a transfer left something else in it. */
static void an_adopted_copy_is_the_volume_with_its_snapshots(void **state)
{
	struct pair *pair = *state;
	struct volume_info *infos;
	struct snapshot_info *snapshots;
	size_t count;
	prepare(pair);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "a"), -ENOENT);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	write_random(pair->from, "a", 3 * MIB, MIB);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	write_random(pair->from, "a", 8 * MIB, 4 * MIB);
	assert_int_equal(snap(pair->from, "a@2"), 0);
	pair->cut_after = 5;
	assert_int_equal(send_snapshot(pair, "a@2"), -VS_ECANCELLED);
	pair->cut_after = 0;
	assert_int_equal(snap(pair->to, "h1/a@torn"), -EBUSY); /* half of it came */
	struct view *view = open_view(pair->to, "h1/a");
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "a"), -EBUSY);
	store_view_close(view);
	assert_int_equal(make_volume(pair->to, "b", MIB), 0);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "b"), -EEXIST);
	assert_int_equal(DO(pair->to, store_replica_adopt, "b", "c"), -EINVAL);
	assert_int_equal(store_volumes(pair->to->store, false, &infos, &count), 0);
	uint64_t epoch = infos[0].epoch;
	free(infos);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "a"), 0);
	for (unsigned opening = 0; opening < 2; opening++) {
		read_both(pair, "a@1", "a@1");
		read_both(pair, "a@cut-1", "a");
		assert_int_equal(store_volumes(pair->to->store, false, &infos, &count), 0);
		assert_int_equal(count, 2);
		assert_string_equal(infos[0].name, "a");
		assert_false(infos[0].replica);
		assert_true(infos[0].epoch > epoch);
		free(infos);
		assert_int_equal(store_snapshots(pair->to->store, false, &snapshots, &count), 0);
		assert_int_equal(count, 1);
		free(snapshots);
		fixture_close(pair->to);
		fixture_open(pair->to);
	}
	assert_int_equal(DO(pair->to, store_replica_adopt, "a", "c"), -EINVAL);
	assert_int_equal(send_snapshot(pair, "a@2"), -VS_EFENCED);
	write_random(pair->to, "a", 0, MIB);
	assert_int_equal(snap(pair->to, "a@3"), 0);
}

static void an_older_epoch_is_refused(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	fixture_close(pair->from);
	fixture_open(pair->from);
	write_random(pair->from, "a", 0, MIB); /* in a higher epoch */
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), -VS_EFENCED);
	read_both(pair, "a@cut-2", "h1/a@cut-2");
	assert_int_equal(send_snapshot(pair, "a@1"), 0); /* a person may send what is old */
}

static void followers_are_kept(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->from;
	struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .lag_bytes = 7, .rate_bytes = 8};
	struct follower_info *infos;
	size_t count;
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	assert_int_equal(make_volume(f, "b", VOLUME_BYTES), 0);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), -ENOENT);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.1:1"), 0);
	assert_int_equal(DO(f, store_follower_set, "x", "h2", &rules), -ENOENT);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	assert_int_equal(DO(f, store_follower_set, "b", "h2", &rules), 0);
	rules.lag_ns = 0;
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), -EINVAL);
	for (unsigned i = 0; i < 2; i++) { /* from the log, and from a checkpoint */
		fixture_close(f);
		fixture_open(f);
		assert_int_equal(store_followers(f->store, &infos, &count), 0);
		assert_int_equal(count, 2);
		assert_string_equal(infos[0].volume, "a");
		assert_string_equal(infos[0].host, "h2");
		assert_int_equal(infos[0].rules.lag_ns, NSEC_PER_SEC);
		assert_int_equal(infos[0].rules.lag_bytes, 7);
		assert_int_equal(infos[0].rules.rate_bytes, 8);
		free(infos);
	}
	assert_int_equal(DO(f, store_follower_delete, "a", "h2"), 0);
	assert_int_equal(DO(f, store_follower_delete, "a", "h2"), -ENOENT);
	struct volume_info *volumes;
	assert_int_equal(DO(f, store_volume_delete, "b"), 0);
	assert_int_equal(store_followers(f->store, &infos, &count), 0);
	assert_int_equal(count, 0);
	free(infos);
	assert_int_equal(store_volumes(f->store, true, &volumes, &count), 0);
	assert_int_equal(DO(f, store_trash_purge, volumes[0].number), 0);
	free(volumes);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(store_followers(f->store, &infos, &count), 0);
	assert_int_equal(count, 0);
	free(infos);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_cut_takes_the_place_of_the_one_before),
		TEST(an_older_snapshot_is_put_beside),
		TEST(a_cut_that_is_held_or_retained_stays),
		TEST(a_promoted_copy_is_the_volume),
		TEST(an_adopted_copy_is_the_volume_with_its_snapshots),
		TEST(an_older_epoch_is_refused),
		TEST(followers_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
