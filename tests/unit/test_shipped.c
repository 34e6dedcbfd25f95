/* SPDX-License-Identifier: Apache-2.0 */
/* What the store keeps for who sends: hours and limits of followers, hosts of policies, and up to
 * which snapshot each host has what a policy took. */
#include "tests/unit/store_fixture.h"

#include "storage/store/catalog.h"
#include "storage/store/store_int.h"

#define VOLUME_BYTES (16 * MIB)
#define DAY_NS (24 * 3600 * NSEC_PER_SEC)
#define TO(...) .send_to = {__VA_ARGS__}

static int setup(void **state)
{
	int res = fixture_setup(state);
	struct fixture *f = *state;
	static const char *const hosts[] = {"h2", "h3", "h4", "h5"};
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(DO(f, store_peer_add, hosts[i], "10.0.0.1:1"), 0);
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	assert_int_equal(make_volume(f, "b", VOLUME_BYTES), 0);
	return res;
}

static struct policy_info policy_of(struct fixture *f, const char *name)
{
	struct policy_info *list, found = {0};
	size_t count;
	assert_int_equal(store_policies(f->store, &list, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(list[i].name, name) == 0)
			found = list[i];
	free(list);
	return found;
}

static uint32_t number_of(struct fixture *f, const char *name)
{
	return volume_by_name(f->store, name)->number;
}

static void again(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static void policies_that_send_are_kept(void **state)
{
	struct fixture *f = *state;
	struct policy_rules good = {.every_ns = DAY_NS,
				    .keep = {1},
				    TO("h2", "h3"),
				    .rate_bytes = MIB,
				    .window = {1320, 360}};
	struct policy_rules stranger = {TO("h2", "h9")}, twice = {TO("h2", "h2")};
	struct policy_rules gap = {TO("", "h2")}, nowhere = {.rate_bytes = 1};
	struct policy_rules hours = {.window = {1320, 360}}, plain = {.keep = {7}};
	assert_int_equal(DO(f, store_policy_set, "p", &stranger), -ENOENT);
	assert_int_equal(DO(f, store_policy_set, "p", &twice), -EINVAL);
	assert_int_equal(DO(f, store_policy_set, "p", &gap), -EINVAL);
	assert_int_equal(DO(f, store_policy_set, "p", &nowhere), -EINVAL);
	assert_int_equal(DO(f, store_policy_set, "p", &hours), -EINVAL);
	assert_int_equal(DO(f, store_policy_set, "p", &good), 0);
	assert_int_equal(DO(f, store_policy_set, "plain", &plain), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct policy_info is = policy_of(f, "p");
		assert_memory_equal(&is.rules, &good, sizeof good);
		is = policy_of(f, "plain");
		assert_memory_equal(&is.rules, &plain, sizeof plain);
		again(f);
	}
	good = (struct policy_rules){.keep = {2}}; /* it sends no more */
	assert_int_equal(DO(f, store_policy_set, "p", &good), 0);
	again(f);
	struct policy_info is = policy_of(f, "p");
	assert_memory_equal(&is.rules, &good, sizeof good);
}

static void what_was_sent_is_remembered(void **state)
{
	struct fixture *f = *state;
	struct policy_rules rules = {.keep = {1}, TO("h2", "h3")};
	uint32_t a = number_of(f, "a"), b = number_of(f, "b");
	assert_int_equal(DO(f, store_policy_set, "p", &rules), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 5, 0), 0); /* it has no policy: nothing */
	assert_int_equal(store_shipped_until(f->store, a, "h2", 0), 0);
	assert_int_equal(DO(f, store_policy_attach, "a", "p"), 0);
	assert_int_equal(DO(f, store_policy_attach, "b", "p"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 5, 0), 0);
	assert_int_equal(DO(f, store_shipped, a, "h3", 3, 0), 0);
	assert_int_equal(DO(f, store_shipped, b, "h2", 9, 0), 0);
	assert_int_equal(DO(f, store_shipped, a, "h4", 5, 0), 0);   /* not one of its hosts */
	assert_int_equal(DO(f, store_shipped, a, "h2", 4, 0), 0);   /* it never goes back */
	assert_int_equal(DO(f, store_shipped, 999, "h2", 4, 0), 0); /* it is gone */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_shipped_until(f->store, a, "h2", 0), 5);
		assert_int_equal(store_shipped_until(f->store, a, "h3", 0), 3);
		assert_int_equal(store_shipped_until(f->store, a, "h4", 0), 0);
		assert_int_equal(store_shipped_until(f->store, b, "h2", 0), 9);
		assert_int_equal(store_shipped_until(f->store, b, "h3", 0), 0);
		assert_int_equal(store_shipped_until(f->store, 999, "h2", 0), 0);
		again(f);
	}
}

/* What was sent was that volume's, whoever has its name when the host answers. */
static void a_mark_is_the_volumes_not_the_names(void **state)
{
	struct fixture *f = *state;
	struct policy_rules rules = {.keep = {1}, TO("h2")};
	uint32_t a = number_of(f, "a"), b = number_of(f, "b");
	assert_int_equal(DO(f, store_policy_set, "p", &rules), 0);
	assert_int_equal(DO(f, store_policy_attach, "a", "p"), 0);
	assert_int_equal(DO(f, store_policy_attach, "b", "p"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 5, 0), 0);
	assert_int_equal(DO(f, store_volume_rename, "a", "c"), 0);
	assert_int_equal(DO(f, store_volume_rename, "b", "a"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 7, 0), 0);
	assert_int_equal(DO(f, store_volume_delete, "c"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 8, 0), 0); /* it may come back */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_shipped_until(f->store, a, "h2", 0), 8);
		assert_int_equal(store_shipped_until(f->store, b, "h2", 0), 0);
		again(f);
	}
}

/* It lost its disks: what went into the store from before is not in this one. */
static void a_host_with_another_store_has_nothing(void **state)
{
	struct fixture *f = *state;
	struct policy_rules rules = {.keep = {1}, TO("h2", "h3")};
	uint32_t a = number_of(f, "a");
	assert_int_equal(DO(f, store_policy_set, "p", &rules), 0);
	assert_int_equal(DO(f, store_policy_attach, "a", "p"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 9, 77), 0);
	assert_int_equal(DO(f, store_shipped, a, "h3", 9, 0), 0); /* as older programs wrote it */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_shipped_until(f->store, a, "h2", 77), 9);
		assert_int_equal(store_shipped_until(f->store, a, "h2", 0), 9); /* not heard yet */
		assert_int_equal(store_shipped_until(f->store, a, "h2", 78), 0);
		assert_int_equal(store_shipped_until(f->store, a, "h3", 78), 9);
		again(f);
	}
	assert_int_equal(DO(f, store_shipped, a, "h2", 4, 78), 0);
	again(f);
	assert_int_equal(store_shipped_until(f->store, a, "h2", 78), 4);
	assert_int_equal(store_shipped_until(f->store, a, "h2", 77), 0);
	assert_int_equal(store_shipped_until(f->store, a, "h3", 0), 9);
}

static void a_host_that_left_leaves_its_place(void **state)
{
	struct fixture *f = *state;
	struct policy_rules rules = {.keep = {1}, TO("h2", "h3", "h4")};
	uint32_t a = number_of(f, "a");
	assert_int_equal(DO(f, store_policy_set, "p", &rules), 0);
	assert_int_equal(DO(f, store_policy_attach, "a", "p"), 0);
	assert_int_equal(DO(f, store_shipped, a, "h2", 2, 0), 0);
	assert_int_equal(DO(f, store_shipped, a, "h3", 3, 0), 0);
	assert_int_equal(DO(f, store_shipped, a, "h4", 4, 0), 0);
	struct policy_rules others = {.keep = {1}, TO("h2", "h5", "h4")};
	assert_int_equal(DO(f, store_policy_set, "p", &others), 0);
	assert_int_equal(store_shipped_until(f->store, a, "h3", 0), 3); /* it may come back */
	assert_int_equal(DO(f, store_shipped, a, "h5", 5, 0), 0);
	/* One that is no peer any more, and comes back with empty disks. */
	assert_int_equal(DO(f, store_peer_delete, "h2"), 0);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.2:1"), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(store_shipped_until(f->store, a, "h2", 0), 0);
		assert_int_equal(store_shipped_until(f->store, a, "h3", 0), 0);
		assert_int_equal(store_shipped_until(f->store, a, "h4", 0), 4);
		assert_int_equal(store_shipped_until(f->store, a, "h5", 0), 5);
		again(f);
	}
}

static struct follower_rules rules_of(struct fixture *f, const char *host)
{
	struct follower_info *infos;
	struct follower_rules found = {0};
	size_t count;
	assert_int_equal(store_followers(f->store, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].host, host) == 0)
			found = infos[i].rules;
	free(infos);
	return found;
}

static void limit_and_hours_change_alone(void **state)
{
	struct fixture *f = *state;
	struct follower_rules rules = {.lag_ns = DAY_NS, .lag_bytes = 7, .rate_bytes = 8};
	struct follower_pace rate = {.has_rate = true, .rate_bytes = MIB};
	struct follower_pace hours = {.has_window = true, .window = {1320, 360}};
	struct follower_pace always = {.has_window = true};
	assert_int_equal(DO(f, store_follower_pace, "a", "h2", &rate), -ENOENT);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	assert_int_equal(DO(f, store_follower_pace, "a", "h2", &rate), 0);
	assert_int_equal(DO(f, store_follower_pace, "a", "h2", &hours), 0);
	rules.rate_bytes = MIB;
	rules.window = hours.window;
	for (unsigned i = 0; i < 3; i++) {
		struct follower_rules is = rules_of(f, "h2");
		assert_memory_equal(&is, &rules, sizeof rules);
		again(f);
	}
	assert_int_equal(DO(f, store_follower_pace, "a", "h2", &always), 0);
	rules.window = always.window;
	again(f);
	struct follower_rules is = rules_of(f, "h2");
	assert_memory_equal(&is, &rules, sizeof rules);
}

/* What gets each write cannot wait for the night; and nothing is lost by asking. */
static void who_is_in_step_has_no_hours(void **state)
{
	struct fixture *f = *state;
	struct follower_rules live = {.lag_ns = DAY_NS, .in_step = true, .window = {1320, 360}};
	struct follower_rules comes = {.lag_ns = DAY_NS, .comes_in_step = true};
	struct follower_pace hours = {.has_window = true, .window = {1320, 360}};
	struct follower_pace rate = {.has_rate = true, .rate_bytes = MIB};
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &live), -EINVAL);
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &comes), 0);
	assert_int_equal(DO(f, store_follower_pace, "a", "h3", &hours), -EINVAL);
	assert_int_equal(DO(f, store_follower_pace, "a", "h3", &rate), 0);
	assert_true(rules_of(f, "h3").comes_in_step);
	assert_int_equal(rules_of(f, "h3").rate_bytes, MIB);
}

static void older_stores_keep_none_of_it(void **state)
{
	struct fixture *f = *state;
	struct policy_rules sends = {.keep = {1}, TO("h2")}, plain = {.keep = {1}};
	struct follower_rules rules = {.lag_ns = DAY_NS},
			      hours = {.lag_ns = DAY_NS, .window = {1320, 360}};
	struct follower_pace pace = {.has_window = true, .window = {1320, 360}};
	f->store->sb.feature_incompatible &= ~(uint64_t)FEATURE_SHIPPING;
	assert_int_equal(DO(f, store_policy_set, "p", &sends), -EOPNOTSUPP);
	assert_int_equal(DO(f, store_policy_set, "p", &plain), 0);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &hours), -EOPNOTSUPP);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	assert_int_equal(DO(f, store_follower_pace, "a", "h2", &pace), -EOPNOTSUPP);
}

/* One byte after the other is wrong: refused, or another value, and nothing else. */
static void records_are_foreign_bytes(void **state)
{
	struct fixture *f = *state;
	uint8_t record[LOG_RECORD_BYTES_MAX];
	struct volume volume = {.number = number_of(f, "a"),
				.shipped = {{"h2", 7}, {"", 0}, {"h3", 9}}};
	struct policy policy = {
		.number = 77,
		.is = {.name = "p", .rules = {TO("h2", "h3"), .window = {1320, 360}}}};
	struct follower follower = {.volume = volume.number,
				    .host = "h2",
				    .rules = {.lag_ns = DAY_NS, .window = {1320, 360}}};
	for (unsigned kind = 0; kind < 3; kind++)
		for (unsigned at = 8; at < 320; at++) {
			uint32_t bytes =
				kind == 0   ? shipped_encode(&volume, record)
				: kind == 1 ? policy_encode(&policy, record)
					    : follower_encode(LOG_PUT_FOLLOWER, &follower, record);
			if (at >= bytes)
				continue;
			record[at] = 0xff;
			int res = catalog_apply(f->store, record, bytes, NULL);
			assert_true(res == 0 || res == -VS_EFORMAT);
			record[2] = (uint8_t)(at & ~7u); /* and it ends here */
			record[3] = (uint8_t)(at >> 8);
			res = catalog_apply(f->store, record, at & ~7u, NULL);
			assert_true(res == 0 || res == -VS_EFORMAT);
		}
	uint32_t bytes = shipped_encode(&volume, record);
	record[8] = '/';
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
	bytes = follower_encode(LOG_PUT_FOLLOWER, &follower, record);
	record[bytes - 8] = record[bytes - 6]; /* from 0x0568 until 0x0168: to the same */
	record[bytes - 7] = record[bytes - 5];
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
	policy.is.rules.window = (struct window){1440, 0};
	bytes = policy_encode(&policy, record);
	assert_int_equal(catalog_apply(f->store, record, bytes, NULL), -VS_EFORMAT);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(policies_that_send_are_kept),
		CASE(what_was_sent_is_remembered),
		CASE(a_mark_is_the_volumes_not_the_names),
		CASE(a_host_with_another_store_has_nothing),
		CASE(a_host_that_left_leaves_its_place),
		CASE(limit_and_hours_change_alone),
		CASE(who_is_in_step_has_no_hours),
		CASE(older_stores_keep_none_of_it),
		CASE(records_are_foreign_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
