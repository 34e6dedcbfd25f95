/* SPDX-License-Identifier: Apache-2.0 */
/* What a deletion would free, against what it frees. */
#include "tests/unit/store_fixture.h"

#define ROOM (64 * KIB)	      /* of nodes and of headers */
#define ROOM_LIVE (320 * KIB) /* live_bytes takes a segment's records for equally large */

static void fill(struct fixture *f, const char *name, uint64_t offset, uint64_t bytes,
		 uint64_t seed)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes);
	struct view *view = open_view(f, name);
	test_random_fill(&seed, data, bytes);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, offset, bytes, data, 0), 0);
	store_view_close(view);
	free(data);
}

static struct snapshot_info snapshot_of(struct fixture *f, const char *name, bool in_trash)
{
	struct snapshot_info *infos, found = {0};
	size_t count;
	assert_int_equal(store_snapshots(f->store, in_trash, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].name, name) == 0)
			found = infos[i];
	free(infos);
	assert_int_not_equal(found.number, 0);
	return found;
}

/* Folds, collects, and waits until all is counted by that collection. */
static struct store_info count_all(struct fixture *f)
{
	struct store_info info;
	struct store_work work;
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f); /* all segments are sealed, so that a collection looks at them */
	fixture_open(f);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	for (store_info(f->store, &info); !info.trash.known; store_info(f->store, &info))
		(void)env_step(f->env, true);
	return info;
}

#define assert_within(a, b, room) assert_in_range(a, (b) > (room) ? (b) - (room) : 0, (b) + (room))
#define assert_near(a, b) assert_within(a, b, ROOM)
#define assert_live(info, b) assert_within((info).live_bytes, b, ROOM_LIVE)

static void purge_volume(struct fixture *f, const char *name)
{
	assert_int_equal(DO(f, store_volume_delete, name), 0);
	assert_int_equal(DO(f, store_trash_purge, volume_named(f, name, true).number), 0);
}

static void what_it_says_is_what_a_deletion_frees(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", 64 * MIB), 0);
	assert_int_equal(make_volume(f, "b", 64 * MIB), 0);
	fill(f, "a", 0, 8 * MIB, 1);
	fill(f, "b", 0, 4 * MIB, 2);
	fill(f, "b", 8 * MIB, 2 * MIB, 1); /* a has it too, at its beginning */
	assert_int_equal(snap(f, "a@one"), 0);
	fill(f, "a", 4 * MIB, MIB, 3);
	assert_int_equal(snap(f, "a@two"), 0);
	fill(f, "a", 4 * MIB, MIB, 4);
	fill(f, "a", 20 * MIB, MIB, 5); /* twice in one volume, and nowhere else */
	fill(f, "a", 40 * MIB, MIB, 5);
	struct store_info before = count_all(f);
	struct volume_info a = volume_named(f, "a", false), b = volume_named(f, "b", false);
	assert_true(a.freed.known && a.freed_own.known && b.freed.known);
	assert_false(a.freed.at_least);
	assert_near(a.freed_own.bytes, 2 * MIB);
	assert_near(a.freed.bytes, 6 * MIB + 2 * MIB + MIB);
	assert_near(b.freed.bytes, 4 * MIB);
	assert_int_equal(b.freed.bytes, b.freed_own.bytes);
	assert_near(snapshot_of(f, "one", false).freed.bytes, MIB);
	assert_near(snapshot_of(f, "two", false).freed.bytes, MIB);
	assert_int_equal(before.trash.bytes, 0);
	/* A snapshot goes: its megabyte does, and what the volume would free is that much less. */
	assert_int_equal(DO(f, store_snap_delete, "a@two"), 0);
	struct store_info trash = count_all(f);
	assert_near(trash.trash.bytes, MIB);
	assert_live(trash, before.live_bytes);
	assert_int_equal(DO(f, store_trash_purge, snapshot_of(f, "two", true).number), 0);
	struct store_info less = count_all(f);
	assert_live(less, before.live_bytes - MIB);
	assert_near(volume_named(f, "a", false).freed.bytes, 8 * MIB);
	assert_int_equal(less.trash.bytes, 0);
	/* The volume goes with its other snapshot. */
	purge_volume(f, "a");
	struct store_info after = count_all(f);
	assert_live(after, less.live_bytes - 8 * MIB);
	/* The part that both had is b's alone now. */
	assert_near(volume_named(f, "b", false).freed.bytes, 6 * MIB);
	purge_volume(f, "b");
	assert_live(count_all(f), 0ull);
}

static void what_was_made_since_the_count_is_not_known(void **state)
{
	struct fixture *f = *state;
	struct store_info info;
	assert_int_equal(make_volume(f, "a", 64 * MIB), 0);
	assert_false(volume_named(f, "a", false).freed.known);
	store_info(f->store, &info);
	assert_false(info.trash.known);
	fill(f, "a", 0, MIB, 1);
	count_all(f);
	assert_true(volume_named(f, "a", false).freed.known);
	assert_int_equal(snap(f, "a@one"), 0);
	assert_false(snapshot_of(f, "one", false).freed.known);
	assert_int_equal(make_volume(f, "b", 64 * MIB), 0);
	assert_false(volume_named(f, "b", false).freed.known);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_it_says_is_what_a_deletion_frees),
		CASE(what_was_made_since_the_count_is_not_known),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
