/* SPDX-License-Identifier: Apache-2.0 */
/* The policy that a volume has at home goes along with its copy, and comes back with it: two
 * stores, of which the receiver calls the sender h1. */
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

#include "storage/store/catalog.h"
#include "storage/store/store_int.h"

#define DAY_NS (24 * 3600 * NSEC_PER_SEC)

static const struct policy_rules daily = {.every_ns = DAY_NS,
					  .keep[KEEP_DAILY] = 7,
					  .send_to = {"h2", "h3"},
					  .rate_bytes = MIB,
					  .window = {1320, 360}};

/* "a" of the sender has the policy "daily", which sends; a@1 is there. */
static int setup(void **state)
{
	int res = pair_setup(state);
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(DO(pair->from, store_peer_add, "h2", "10.0.0.2:1"), 0);
	assert_int_equal(DO(pair->from, store_peer_add, "h3", "10.0.0.3:1"), 0);
	assert_int_equal(DO(pair->from, store_policy_set, "daily", &daily), 0);
	assert_int_equal(DO(pair->from, store_policy_attach, "a", "daily"), 0);
	return res;
}

static void again(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static struct volume *volume_of(struct fixture *f, const char *name)
{
	struct volume *volume = volume_by_name(f->store, name);
	assert_non_null(volume);
	return volume;
}

/* Of what the copy h1/a knows: this name, and, unless that is "", these rules. */
static void at_home(struct fixture *f, const char *name, const struct policy_rules *rules)
{
	struct named_policy is = volume_of(f, "h1/a")->home, wanted = {0};
	struct volume_info info = volume_named(f, "h1/a", false);
	assert_string_equal(info.home_policy, name);
	snprintf(wanted.name, sizeof wanted.name, "%s", name);
	if (name[0])
		wanted.rules = *rules;
	assert_true(policy_same(&is, &wanted));
}

/* The next snapshot, of what is new. */
static void sent(struct pair *pair, const char *name)
{
	write_random(pair->from, "a", 8 * MIB, MIB);
	assert_int_equal(snap(pair->from, name), 0);
	assert_int_equal(send_snapshot(pair, name), 0);
}

static void a_copy_knows_the_policy_that_its_original_has(void **state)
{
	struct pair *pair = *state;
	struct policy_rules other = {.keep = {3}};
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	for (unsigned i = 0; i < 3; i++) { /* from the log, then from the checkpoint */
		at_home(pair->to, "daily", &daily);
		again(pair->to);
	}
	/* It is nobody's here. */
	assert_int_equal(pair->to->store->policy_count, 0);
	assert_int_equal(volume_of(pair->to, "h1/a")->policy, 0);
	assert_int_equal(DO(pair->from, store_policy_set, "daily", &other), 0);
	at_home(pair->to, "daily", &daily);
	sent(pair, "a@2");
	at_home(pair->to, "daily", &other);
	again(pair->to);
	at_home(pair->to, "daily", &other);
	assert_int_equal(DO(pair->from, store_policy_attach, "a", ""), 0);
	sent(pair, "a@3");
	for (unsigned i = 0; i < 3; i++) {
		at_home(pair->to, "", NULL);
		again(pair->to);
	}
	nothing_is_damaged(pair->to);
}

/* What was sent already is offered again when a person says so; that tells of the policy, too. */
static void a_snapshot_that_is_there_tells_it_anew(void **state)
{
	struct pair *pair = *state;
	struct policy_rules other = {.keep = {3}};
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(DO(pair->from, store_policy_set, "daily", &other), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->records, 0);
	at_home(pair->to, "daily", &other);
	again(pair->to);
	at_home(pair->to, "daily", &other);
}

static void a_cut_and_what_comes_beside_a_copy_tell_it_too(void **state)
{
	struct pair *pair = *state;
	struct policy_rules other = {.keep = {3}};
	assert_int_equal(cut(pair->from, "a@cut"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut"), 0);
	at_home(pair->to, "daily", &daily);
	assert_int_equal(DO(pair->from, store_policy_set, "daily", &other), 0);
	pair->beside = true;
	sent(pair, "a@2");
	at_home(pair->to, "daily", &other);
	again(pair->to);
	at_home(pair->to, "daily", &other);
}

static void beside_nothing_it_is_the_new_copys(void **state)
{
	struct pair *pair = *state;
	pair->beside = true;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	at_home(pair->to, "daily", &daily);
	again(pair->to);
	at_home(pair->to, "daily", &daily);
}

/* Without a snapshot, of a copy that follows write by write. */
static void it_is_told_of_a_copy_alone(void **state)
{
	struct pair *pair = *state;
	struct told_policy told = {.told = true, .policy = {.name = "p", .rules = {.keep = {1}}}};
	struct told_policy silent = {.told = false};
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(DO(pair->to, store_copy_policy, "h1/a", &told), 0);
	at_home(pair->to, "p", &told.policy.rules);
	assert_int_equal(DO(pair->to, store_copy_policy, "h1/a", &silent), 0);
	at_home(pair->to, "p", &told.policy.rules);
	assert_int_equal(DO(pair->to, store_copy_policy, "h1/b", &told), 0); /* it is gone */
	assert_int_equal(make_volume(pair->to, "own", MIB), 0);
	assert_int_equal(DO(pair->to, store_copy_policy, "own", &told), 0);
	assert_string_equal(volume_of(pair->to, "own")->home.name, "");
}

static void an_older_sender_takes_nothing_away(void **state)
{
	struct pair *pair = *state;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	pair->untold = true;
	sent(pair, "a@2");
	at_home(pair->to, "daily", &daily);
	assert_int_equal(send_snapshot(pair, "a@2"), 0);
	at_home(pair->to, "daily", &daily);
}

static void a_store_that_is_older_keeps_none(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	struct store_offer offer;
	f->store->sb.feature_incompatible &= ~(uint64_t)FEATURE_HOME;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	at_home(f, "", NULL);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	at_home(f, "", NULL);
	/* So it does not know, and says nothing, of what it sends on. */
	assert_int_equal(store_offer(f->store, "h1/a@1", &offer), 0);
	assert_false(offer.policy.told);
	skip_ns(f, MANDATES_NS);
	assert_int_equal(DO(f, store_replica_adopt, "h1/a", "a"), 0);
	assert_int_equal(volume_of(f, "a")->policy, 0);
	store_policy_told(f->store, volume_of(f, "a")->number, &offer.policy);
	assert_true(offer.policy.told); /* its own it knows */
}

static void it_goes_with_the_copy_and_comes_back_with_it(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	uint32_t number = volume_of(f, "h1/a")->number;
	assert_int_equal(DO(f, store_volume_delete, "h1/a"), 0);
	again(f);
	again(f);
	assert_int_equal(DO(f, store_trash_restore, number, NULL), 0);
	at_home(f, "daily", &daily);
	assert_int_equal(DO(f, store_volume_delete, "h1/a"), 0);
	assert_int_equal(DO(f, store_trash_purge, number), 0);
	again(f);
	again(f);
	/* A copy of another name, made anew, knows what it is told. */
	assert_int_equal(DO(pair->from, store_policy_attach, "a", ""), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	at_home(f, "", NULL);
}

/* What is sent back tells the copy's, whatever policy it has where it is. */
static void a_copy_that_is_sent_on_tells_it(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	struct store_offer offer;
	const struct policy_rules archive = {.keep[KEEP_MONTHLY] = 24};
	const struct named_policy wanted = {.name = "daily", .rules = daily};
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(DO(f, store_policy_set, "archive", &archive), 0);
	assert_int_equal(DO(f, store_policy_attach, "h1/a", "archive"), 0);
	assert_int_equal(store_offer(f->store, "h1/a@1", &offer), 0);
	assert_true(offer.policy.told && policy_same(&offer.policy.policy, &wanted));
	/* One that nobody would take goes nowhere, and holds up nothing. */
	volume_of(f, "h1/a")->home.rules.every_ns = 1;
	assert_int_equal(store_offer(f->store, "h1/a@1", &offer), 0);
	assert_false(offer.policy.told);
}

/* ---- recovered ---- */

static struct policy_info only_policy(struct fixture *f)
{
	struct policy_info *list, policy;
	size_t count;
	assert_int_equal(store_policies(f->store, &list, &count), 0);
	assert_int_equal(count, 1);
	policy = list[0];
	free(list);
	return policy;
}

static int recover(struct fixture *f)
{
	skip_ns(f, MANDATES_NS);
	return DO(f, store_replica_adopt, "h1/a", "a");
}

/* The hosts stay, though none of them is a peer yet. */
static void what_is_recovered_has_its_policy_again(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(recover(f), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct policy_info policy = only_policy(f);
		assert_string_equal(policy.name, "daily");
		assert_memory_equal(&policy.rules, &daily, sizeof daily);
		assert_int_equal(policy.volume_count, 1);
		assert_int_equal(volume_of(f, "a")->policy, policy.number);
		assert_string_equal(volume_of(f, "a")->home.name, "");
		assert_non_null(snapshot_by_name(f->store, "a@1"));
		again(f);
	}
	nothing_is_damaged(f);
}

static void a_policy_of_that_name_is_that_one(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	const struct policy_rules here = {.keep = {2}};
	assert_int_equal(DO(f, store_policy_set, "daily", &here), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(recover(f), 0);
	for (unsigned i = 0; i < 2; i++) {
		struct policy_info policy = only_policy(f);
		assert_memory_equal(&policy.rules, &here, sizeof here);
		assert_int_equal(volume_of(f, "a")->policy, policy.number);
		again(f);
	}
}

/* What had none keeps what it had here. */
static void without_one_at_home_it_keeps_what_it_has_here(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	const struct policy_rules here = {.keep = {2}};
	assert_int_equal(DO(pair->from, store_policy_attach, "a", ""), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(DO(f, store_policy_set, "archive", &here), 0);
	assert_int_equal(DO(f, store_policy_attach, "h1/a", "archive"), 0);
	assert_int_equal(recover(f), 0);
	assert_int_equal(volume_of(f, "a")->policy, only_policy(f).number);
}

/* Nobody sends to itself. */
static void where_it_was_sent_to_this_host_is_left_out(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	struct policy_rules wanted = daily;
	snprintf(f->store->host, sizeof f->store->host, "h2");
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(recover(f), 0);
	memset(wanted.send_to, 0, sizeof wanted.send_to);
	snprintf(wanted.send_to[0], sizeof wanted.send_to[0], "h3");
	struct policy_info policy = only_policy(f);
	assert_memory_equal(&policy.rules, &wanted, sizeof wanted);
}

static void with_nobody_left_it_sends_nothing(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	struct policy_rules rules = daily, wanted = {.every_ns = DAY_NS, .keep[KEEP_DAILY] = 7};
	memset(rules.send_to[1], 0, sizeof rules.send_to[1]);
	assert_int_equal(DO(pair->from, store_policy_set, "daily", &rules), 0);
	snprintf(f->store->host, sizeof f->store->host, "h2");
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(recover(f), 0);
	struct policy_info policy = only_policy(f);
	assert_memory_equal(&policy.rules, &wanted, sizeof wanted);
}

/* A person is told, and nothing has changed. */
static void where_no_policy_has_room_nothing_is_recovered(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	const struct policy_rules rules = {.keep = {1}};
	char name[16];
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	for (unsigned i = 0; i < POLICIES_MAX; i++) {
		snprintf(name, sizeof name, "p%u", i);
		assert_int_equal(DO(f, store_policy_set, name, &rules), 0);
	}
	assert_int_equal(recover(f), -ENOSPC);
	at_home(f, "daily", &daily);
	assert_int_equal(DO(f, store_policy_delete, "p7"), 0);
	assert_int_equal(recover(f), 0);
}

/* ---- bytes ---- */

static void records_are_foreign_bytes(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->to;
	uint8_t record[LOG_RECORD_BYTES_MAX];
	const struct named_policy home = {.name = "daily", .rules = daily}, none = {0};
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(make_volume(f, "own", MIB), 0);
	uint32_t number = volume_of(f, "h1/a")->number, bytes = home_encode(number, &home, record);
	assert_int_equal(bytes, 312);
	for (unsigned at = 8; at < bytes; at++) { /* its end is here, or it has another byte */
		home_encode(number, &home, record);
		int res = catalog_apply(f->store, record, at, NULL);
		/* None at all, and one that sends nothing, are shorter. */
		assert_int_equal(res, at == 8 || at == 112 ? 0 : -VS_EFORMAT);
		record[at] ^= 0xff;
		res = catalog_apply(f->store, record, bytes, NULL);
		assert_true(res == 0 || res == -VS_EFORMAT);
	}
	home_encode(number, &home, record);
	record[8] = '/';
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
	assert_int_equal(home_encode(number, &none, record), 8);
	assert_int_equal(catalog_apply(f->store, record, 8, NULL), 0);
	at_home(f, "", NULL);
	/* Only a copy has one. */
	bytes = home_encode(volume_of(f, "own")->number, &home, record);
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
	bytes = home_encode(999, &home, record);
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, pair_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_copy_knows_the_policy_that_its_original_has),
		TEST(a_snapshot_that_is_there_tells_it_anew),
		TEST(a_cut_and_what_comes_beside_a_copy_tell_it_too),
		TEST(beside_nothing_it_is_the_new_copys),
		TEST(it_is_told_of_a_copy_alone),
		TEST(an_older_sender_takes_nothing_away),
		TEST(a_store_that_is_older_keeps_none),
		TEST(it_goes_with_the_copy_and_comes_back_with_it),
		TEST(a_copy_that_is_sent_on_tells_it),
		TEST(what_is_recovered_has_its_policy_again),
		TEST(a_policy_of_that_name_is_that_one),
		TEST(without_one_at_home_it_keeps_what_it_has_here),
		TEST(where_it_was_sent_to_this_host_is_left_out),
		TEST(with_nobody_left_it_sends_nothing),
		TEST(where_no_policy_has_room_nothing_is_recovered),
		TEST(records_are_foreign_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
