/* SPDX-License-Identifier: Apache-2.0 */
/* Domains and peers as parts of the catalog, on a real store. */
#include "tests/unit/store_fixture.h"

#define VOLUME_BYTES (4 * MIB)

static const uint8_t foreign_key[64] = {1, 2, 3};

static void reopen(struct fixture *f)
{
	fixture_close(f);
	fixture_open(f);
}

static struct domain_info domain_at(struct fixture *f, size_t at, size_t want_count)
{
	struct domain_info *infos, info;
	size_t count;
	assert_int_equal(store_domains(f->store, &infos, &count), 0);
	assert_int_equal(count, want_count);
	info = infos[at];
	free(infos);
	return info;
}

static void a_domain_is_kept_and_is_the_same_everywhere(void **state)
{
	struct fixture *f = *state;
	uint8_t key[64];
	assert_true(domain_at(f, 0, 1).own);
	assert_int_equal(DO(f, store_domain_add, "hanoi.local", foreign_key), 0);
	struct domain_info added = domain_at(f, 1, 2);
	assert_string_equal(added.name, "hanoi.local");
	assert_int_equal(DO(f, store_domain_add, "again", foreign_key), 0); /* no second one */
	uint8_t other_key[64] = {4};
	assert_int_equal(DO(f, store_domain_add, "no/name", other_key), -EINVAL);
	reopen(f);
	assert_memory_equal(domain_at(f, 1, 2).uuid, added.uuid, 16);
	assert_int_equal(store_domain_key(f->store, added.uuid, key), 0);
	assert_memory_equal(key, foreign_key, 64);
	memset(added.uuid, 0, 16);
	assert_int_equal(store_domain_key(f->store, added.uuid, key), -ENOENT);
}

/* A host that was lost with its disks has another key when it comes back, and its old name. */
static void a_host_that_comes_back_empty_hands_over_another_key(void **state)
{
	struct fixture *f = *state;
	uint8_t new_key[64] = {4}, key[64];
	assert_int_equal(DO(f, store_domain_add, "hanoi.local", foreign_key), 0);
	assert_int_equal(DO(f, store_domain_add, "hanoi.local", new_key), 0);
	assert_int_equal(DO(f, store_domain_add, "hanoi.local", new_key), 0);
	struct domain_info old = domain_at(f, 1, 3), new = domain_at(f, 2, 3);
	assert_string_equal(old.name, "hanoi.local");
	assert_string_not_equal(new.name, old.name);
	assert_int_equal(strncmp(new.name, "hanoi.local-", 12), 0);
	assert_int_equal(store_domain_key(f->store, new.uuid, key), 0);
	assert_memory_equal(key, new_key, 64);
	/* The longest name that there is. */
	char longest[NAME_ROOM] = {0};
	memset(longest, 'x', NAME_ROOM - 1);
	uint8_t third_key[64] = {5}, fourth_key[64] = {6};
	assert_int_equal(DO(f, store_domain_add, longest, third_key), 0);
	assert_int_equal(DO(f, store_domain_add, longest, fourth_key), 0);
	reopen(f);
	assert_string_equal(domain_at(f, 2, 5).name, new.name);
}

/* Writes the same 16 chunks into a volume and folds it. */
static void fill(struct fixture *f, const char *name)
{
	struct view *view = open_view(f, name);
	struct store_work work;
	uint64_t seed = 9;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	test_random_fill(&seed, data, MIB);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	store_view_close(view);
	free(data);
}

static void equal_data_of_two_domains_shares_nothing(void **state)
{
	struct fixture *f = *state;
	struct volume_options options = {.size_bytes = VOLUME_BYTES};
	struct store_work work;
	assert_int_equal(DO(f, store_domain_add, "hanoi", foreign_key), 0);
	assert_int_equal(DO(f, store_volume_create, "a", &options), 0);
	assert_int_equal(DO(f, store_volume_create, "a2", &options), 0);
	options.domain = "hanoi";
	assert_int_equal(DO(f, store_volume_create, "b", &options), 0);
	options.domain = "nowhere";
	assert_int_equal(DO(f, store_volume_create, "c", &options), -ENOENT);
	struct store_counters before, between, after;
	fill(f, "a");
	store_counters(f->store, &before);
	fill(f, "a2");
	store_counters(f->store, &between);
	fill(f, "b");
	store_counters(f->store, &after);
	assert_int_equal(between.chunk_bytes_out, before.chunk_bytes_out);
	assert_true(after.chunk_bytes_out >= between.chunk_bytes_out + MIB);
	assert_memory_equal(volume_named(f, "a", false).root, volume_named(f, "a2", false).root,
			    ID_BYTES);
	assert_memory_not_equal(volume_named(f, "a", false).root, volume_named(f, "b", false).root,
				ID_BYTES);
	assert_int_equal(WORK(f, &work, store_diff, "a", "b"), -EINVAL);
	/* A check knows whose key made each id, a clone stays in its domain. */
	assert_int_equal(snap(f, "b@s"), 0);
	assert_int_equal(DO(f, store_volume_clone, "b@s", "b2"), 0);
	assert_memory_equal(volume_named(f, "b2", false).root, volume_named(f, "b", false).root,
			    ID_BYTES);
	reopen(f);
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
	assert_true(work.chunks >= 32);
	assert_int_equal(WORK(f, &work, store_verify, "b2"), 0);
	assert_int_equal(work.damaged, 0);
	assert_memory_equal(volume_named(f, "b2", false).domain, domain_at(f, 1, 2).uuid, 16);
}

static void peers_are_kept(void **state)
{
	struct fixture *f = *state;
	struct peer_info *peers;
	size_t count;
	assert_int_equal(DO(f, store_peer_add, "h1", "127.0.0.1:7000"), 0);
	assert_int_equal(DO(f, store_peer_add, "h2", "[::1]:7000"), 0);
	assert_int_equal(DO(f, store_peer_add, "h1", "127.0.0.2:7000"), 0);
	assert_int_equal(DO(f, store_peer_add, "h3", "nowhere"), -EINVAL);
	assert_int_equal(DO(f, store_peer_add, "h/3", "127.0.0.1:7000"), -EINVAL);
	assert_int_equal(DO(f, store_peer_delete, "h2"), 0);
	assert_int_equal(DO(f, store_peer_delete, "h2"), -ENOENT);
	reopen(f);
	assert_int_equal(store_peers(f->store, &peers, &count), 0);
	assert_int_equal(count, 1);
	assert_string_equal(peers[0].host, "h1");
	assert_string_equal(peers[0].address, "127.0.0.2:7000");
	free(peers);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_domain_is_kept_and_is_the_same_everywhere),
		TEST(a_host_that_comes_back_empty_hands_over_another_key),
		TEST(equal_data_of_two_domains_shares_nothing),
		TEST(peers_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
