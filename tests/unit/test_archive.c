/* SPDX-License-Identifier: Apache-2.0 */
/* A policy of the receiver on a copy: two stores, and the policies of the second one. What its
 * rules do not keep goes to the trash there, whatever else is on its way, and costs the sender
 * nothing but records. Dates are test_retention.c's. */
#include "storage/daemon/policies.h"
#include "storage/store/store_vote.h"
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

#include <time.h>

#define TAKEN_BYTES (4 * MIB)
#define DAY_NS (24 * 3600 * NSEC_PER_SEC)

static unsigned plans;
void __real_retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
				struct retention_item *items, size_t count);
void __wrap_retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
				struct retention_item *items, size_t count);
void __wrap_retention_plan_copy(const struct policy_info *policy, uint64_t now_wall_ns,
				struct retention_item *items, size_t count)
{
	plans++;
	__real_retention_plan_copy(policy, now_wall_ns, items, count);
}

/* The policy runs once, and all that it may let go is gone. A change that was begun before (or
 * NULL) is done first. */
static void run_behind(struct fixture *f, const char *policy, struct admin_op *before)
{
	struct policies *policies;
	struct admin_op op = {0};
	assert_int_equal(policies_new(f->env, f->store, &policies), 0);
	env_wait_prepare(&op.op);
	policies_run(policies, &op, policy);
	if (before)
		assert_int_equal(env_wait(f->env, &before->op), 0);
	assert_int_equal(env_wait(f->env, &op.op), 0);
	policies_stop(policies);
	assert_true(policies_idle(policies));
	policies_free(policies);
}

static void run(struct fixture *f, const char *policy)
{
	run_behind(f, policy, NULL);
}

/* VOLUME@daily-TIME, of that second of this test; good for the next three. */
static const char *one(const char *volume, unsigned number)
{
	static char names[4][SNAP_NAME_ROOM];
	static unsigned next;
	static time_t began;
	struct tm tm;
	char *name = names[next++ % 4];
	if (!began)
		began = time(NULL);
	time_t at = began + number;
	size_t bytes = (size_t)snprintf(name, SNAP_NAME_ROOM, "%s@daily", volume);
	strftime(name + bytes, SNAP_NAME_ROOM - bytes, "-%Y%m%d-%H%M%SZ", gmtime_r(&at, &tm));
	return name;
}

/* One more of a's, as a policy over there would name it, in place of the last one's data; sent. */
static void taken(struct pair *pair, unsigned number)
{
	const char *name = one("a", number);
	write_random(pair->from, "a", 8 * MIB, TAKEN_BYTES);
	assert_int_equal(snap(pair->from, name), 0);
	assert_int_equal(send_snapshot(pair, name), 0);
}

/* h1/a's in the order in which they came, the policy's by their number, and "," behind each. */
static void there(struct fixture *f, bool in_trash, char ret[512])
{
	struct snapshot_info *infos;
	size_t count, bytes = 0;
	ret[0] = 0;
	assert_int_equal(store_snapshots(f->store, in_trash, &infos, &count), 0);
	for (size_t i = 0; i < count; i++) {
		char number[8] = "";
		for (unsigned k = 1; k <= 6; k++)
			if (strcmp(strchr(one("a", k), '@') + 1, infos[i].name) == 0)
				snprintf(number, sizeof number, "#%u", k);
		if (strcmp(infos[i].volume, "h1/a") == 0)
			bytes += (size_t)snprintf(ret + bytes, 512 - bytes, "%s,",
						  number[0] ? number : infos[i].name);
	}
	free(infos);
}
#define THERE(f, in_trash, names)                                                                  \
	do {                                                                                       \
		char is[512];                                                                      \
		there(f, in_trash, is);                                                            \
		assert_string_equal(is, names);                                                    \
	} while (0)

static void keeps(struct fixture *f, unsigned last, uint64_t every_ns)
{
	struct policy_rules rules = {.every_ns = every_ns, .keep[KEEP_LAST] = last};
	assert_int_equal(DO(f, store_policy_set, "archive", &rules), 0);
}

static void whole(struct fixture *f)
{
	struct store_work work;
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
}

/* a@1, which a person made; then five of a policy's; "archive" is attached to the copy. */
static void archived(struct pair *pair, unsigned last, uint64_t every_ns)
{
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	for (unsigned i = 1; i <= 4; i++)
		taken(pair, i);
	fixture_close(pair->to); /* the segment is sealed */
	fixture_open(pair->to);
	taken(pair, 5);
	keeps(pair->to, last, every_ns);
	assert_int_equal(DO(pair->to, store_policy_attach, "h1/a", "archive"), 0);
}

static void rules_let_go_of_what_was_received(void **state)
{
	struct pair *pair = *state;
	archived(pair, 2, 0);
	assert_int_equal(DO(pair->to, store_snap_hold, one("h1/a", 2), "audit"), 0);
	assert_int_equal(DO(pair->to, store_policy_delete, "archive"), -EBUSY);
	run(pair->to, "archive");
	/* And nothing is taken. */
	THERE(pair->to, false, "1,#2,#4,#5,");
	THERE(pair->to, true, "#1,#3,");
	fixture_close(pair->to);
	fixture_open(pair->to);
	taken(pair, 6);
	assert_int_equal(pair->receive.fetched,
			 TAKEN_BYTES / CHUNK_BYTES); /* as if all was there */
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#2,#5,#6,");
	read_both(pair, one("a", 6), "h1/a");
	read_both(pair, "a@1", "h1/a@1");
	whole(pair->to);
}

static void its_newest_stays_when_rules_keep_nothing(void **state)
{
	struct pair *pair = *state;
	archived(pair, 0, 0);
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#5,");
}

/* It does so of a copy as of any volume, and counts those: what was received is not its own. */
static void a_policy_that_takes_lets_go_of_nothing_received(void **state)
{
	struct pair *pair = *state;
	archived(pair, 1, DAY_NS);
	run(pair->to, "archive");
	assert_int_equal(volume_named(pair->to, "h1/a", false).snapshot_count, 6 + 1);
	THERE(pair->to, true, "");
	keeps(pair->to, 2, 0); /* its own has such a name, too */
	run(pair->to, "archive");
	THERE(pair->to, true, "#1,#2,#3,#4,");
}

/* A hundred go in four groups, each by a plan of its own and the look before it. */
static void a_plan_serves_a_group(void **state)
{
	struct pair *pair = *state;
	static char names[SNAP_GROUP_MAX][SNAP_NAME_ROOM];
	const char *group[SNAP_GROUP_MAX];
	archived(pair, 1, 0);
	for (unsigned i = 0; i < 3 * SNAP_GROUP_MAX; i++) {
		time_t at = time(NULL) - 1000 + i;
		struct tm tm;
		group[i % SNAP_GROUP_MAX] = names[i % SNAP_GROUP_MAX];
		strftime(names[i % SNAP_GROUP_MAX], SNAP_NAME_ROOM, "h1/a@daily-%Y%m%d-%H%M%SZ",
			 gmtime_r(&at, &tm));
		if (i % SNAP_GROUP_MAX == SNAP_GROUP_MAX - 1)
			assert_int_equal(DO(pair->to, store_snap_create, group, SNAP_GROUP_MAX), 0);
	}
	plans = 0;
	run(pair->to, "archive");
	/* a@1, and what came last. */
	assert_int_equal(volume_named(pair->to, "h1/a", false).snapshot_count, 2);
	assert_int_equal(plans, 2 * 4 + 1);
	whole(pair->to);
}

/* What is begun before a removal, and done by then, counts. */
static void what_changes_before_a_removal_counts(void **state)
{
	struct pair *pair = *state;
	struct admin_op before = {0};
	archived(pair, 2, 0);
	env_wait_prepare(&before.op);
	store_policy_attach(pair->to->store, &before, "h1/a", "");
	run_behind(pair->to, "archive", &before);
	THERE(pair->to, false, "1,#1,#2,#3,#4,#5,");
	assert_int_equal(DO(pair->to, store_policy_attach, "h1/a", "archive"), 0);
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#4,#5,");
	keeps(pair->to, 0, 0);
	env_wait_prepare(&before.op);
	store_snap_delete(pair->to->store, &before, one("h1/a", 5)); /* the newest then is #4 */
	run_behind(pair->to, "archive", &before);
	THERE(pair->to, false, "1,#4,");
}

/* The data of what was removed is not in the store any more. */
static void purge(struct fixture *f)
{
	struct snapshot_info *infos;
	struct store_counters before, after;
	struct store_work work;
	size_t count;
	store_counters(f->store, &before);
	assert_int_equal(store_snapshots(f->store, true, &infos, &count), 0);
	assert_true(count > 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(DO(f, store_trash_purge, infos[i].number), 0);
	free(infos);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_counters(f->store, &after);
	assert_true(after.segments_dropped > before.segments_dropped);
}

/* What the receiver let go of, and collected, was nobody's base: cuts, the next of the policy, and
 * an older one that somebody sends again, come whole. */
static void what_went_is_nobodys_base(void **state)
{
	struct pair *pair = *state;
	archived(pair, 1, 0);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#5,cut-1,"); /* the cut is who follows's */
	purge(pair->to);
	write_random(pair->from, "a", 2 * MIB, MIB);
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	assert_int_equal(pair->receive.fetched, MIB / CHUNK_BYTES);
	read_both(pair, "a@cut-2", "h1/a");
	/* Half of one that is older than the copy; the rules run amid that. */
	pair->cut_after = 5;
	assert_int_equal(send_snapshot(pair, one("a", 2)), -VS_ECANCELLED);
	pair->cut_after = 0;
	run(pair->to, "archive");
	assert_int_equal(send_snapshot(pair, one("a", 2)), 0);
	read_both(pair, one("a", 2), one("h1/a", 2));
	read_both(pair, "a@cut-2", "h1/a");
	/* It came last, and drove out nothing that is newer. */
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#5,cut-2,#2,");
	read_both(pair, "a@cut-2", "h1/a");
	taken(pair, 6);
	run(pair->to, "archive");
	THERE(pair->to, false, "1,cut-2,#6,"); /* what it came behind has gone */
	read_both(pair, one("a", 6), "h1/a");
	whole(pair->to);
}

/* What an older one that is half received is to be put back to: the newest, which no rule lets go.
 */
static void the_head_of_a_copy_outlives_an_older_one(void **state)
{
	struct pair *pair = *state;
	archived(pair, 0, 0);
	run(pair->to, "archive");
	purge(pair->to);
	pair->cut_after = 5;
	assert_int_equal(send_snapshot(pair, one("a", 3)), -VS_ECANCELLED);
	pair->cut_after = 0;
	run(pair->to, "archive");
	fixture_close(pair->to);
	fixture_open(pair->to);
	run(pair->to, "archive");
	assert_int_equal(send_snapshot(pair, one("a", 3)), 0);
	read_both(pair, one("a", 5), "h1/a");
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#5,#3,");
	whole(pair->to);
}

/* The snapshot is restored from the trash while it begins to be received: nothing is left to do,
 * and what was begun of that ends before it is freed. */
static void restored_while_it_is_sent_again(void **state)
{
	struct pair *pair = *state;
	struct admin_op before = {0};
	struct snapshot_info *infos;
	size_t count;
	archived(pair, 2, 0);
	run(pair->to, "archive");
	THERE(pair->to, true, "#1,#2,#3,");
	assert_int_equal(store_snapshots(pair->to->store, true, &infos, &count), 0);
	env_wait_prepare(&before.op);
	store_trash_restore(pair->to->store, &before, infos[0].number, NULL);
	assert_int_equal(send_snapshot(pair, one("a", 1)), 0);
	assert_int_equal(env_wait(pair->to->env, &before.op), 0);
	free(infos);
	THERE(pair->to, false, "1,#1,#4,#5,");
	read_both(pair, one("a", 1), one("h1/a", 1));
	whole(pair->to);
}

static void beside_a_copy_in_step_too(void **state)
{
	struct pair *pair = *state;
	archived(pair, 2, 0);
	pair->beside = true;
	taken(pair, 6);
	run(pair->to, "archive");
	THERE(pair->to, false, "1,#5,#6,");
	read_both(pair, one("a", 5), "h1/a"); /* the copy is where its stream left it */
	whole(pair->to);
}

/* Adopted, it is the same volume: its policy takes from then on, and counts what it took. Promoted,
 * there is a new one, without a policy; the copy stays under its rules. */
static void its_policy_when_it_becomes_the_volume(void **state)
{
	struct pair *pair = *state;
	archived(pair, 1, 0);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "b", true), 0);
	assert_int_equal(volume_named(pair->to, "b", false).policy, 0);
	uint32_t policy = volume_named(pair->to, "h1/a", false).policy;
	assert_int_not_equal(policy, 0);
	assert_int_equal(DO(pair->to, store_volume_delete, "b"), 0);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "h1-a"), 0);
	for (unsigned opening = 0; opening < 2; opening++) {
		struct volume_info volume = volume_named(pair->to, "h1-a", false);
		assert_int_equal(volume.policy, policy);
		assert_false(volume.replica);
		fixture_close(pair->to);
		fixture_open(pair->to);
	}
	run(pair->to, "archive");
	run(pair->to, "archive");
	assert_int_equal(volume_named(pair->to, "h1-a", false).snapshot_count, 6 + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rules_let_go_of_what_was_received),
		TEST(its_newest_stays_when_rules_keep_nothing),
		TEST(a_policy_that_takes_lets_go_of_nothing_received),
		TEST(a_plan_serves_a_group),
		TEST(what_changes_before_a_removal_counts),
		TEST(what_went_is_nobodys_base),
		TEST(the_head_of_a_copy_outlives_an_older_one),
		TEST(restored_while_it_is_sent_again),
		TEST(beside_a_copy_in_step_too),
		TEST(its_policy_when_it_becomes_the_volume),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
