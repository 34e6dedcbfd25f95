/* SPDX-License-Identifier: Apache-2.0 */
/* Leases of volumes, on a store of real files. */
#include "tests/unit/store_fixture.h"

#include <string.h>

static const uint8_t WEB1[16] = {1}, WEB2[16] = {2};

static struct volume_lease lease_of(struct fixture *f, const char *name)
{
	return volume_named(f, name, false).lease;
}

static int write_block(struct fixture *f, struct view *view, uint8_t value)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	memset(data, value, BLOCK_BYTES);
	int res = do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, data, 0);
	free(data);
	return res;
}

static uint8_t read_byte(struct fixture *f, struct view *view)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, BLOCK_BYTES, data, 0), 0);
	uint8_t value = data[0];
	free(data);
	return value;
}

static void a_lease_has_one_holder_who_is_named(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	assert_int_equal(lease_of(f, "a").generation, 1);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "renamed"), 0);
	assert_int_equal(lease_of(f, "a").generation, 1);
	assert_string_equal(lease_of(f, "a").holder_name, "renamed");

	struct admin_op op = {0};
	env_wait_prepare(&op.op);
	store_lease_take(f->store, &op, "a", WEB2, "web2");
	assert_int_equal(admin_wait(f, &op), -EBUSY);
	assert_string_equal(op.holder, "renamed");
	assert_non_null(strstr(op.sentence, "renamed"));
	assert_int_equal(DO(f, store_volume_delete, "a"), -EBUSY);
	assert_int_equal(DO(f, store_lease_end, "a", WEB2), -ENOENT);
	assert_int_equal(DO(f, store_lease_end, "a", WEB1), 0);
	assert_int_equal(DO(f, store_lease_end, "a", WEB1), -ENOENT);
	assert_int_equal(DO(f, store_lease_end, "a", NULL), -ENOENT);
	assert_int_equal(DO(f, store_lease_take, "a", WEB2, ""), -EINVAL);
	assert_int_equal(DO(f, store_lease_take, "nosuch", WEB2, "web2"), -ENOENT);
}

static void leases_and_generations_outlive_a_restart(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(make_volume(f, "b", MIB), 0);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	assert_int_equal(DO(f, store_lease_take, "b", WEB1, "web1"), 0);
	assert_int_equal(DO(f, store_lease_end, "b", NULL), 0);
	assert_int_equal(DO(f, store_volume_set, "a", "iops", "500"), 0);
	assert_int_equal(DO(f, store_volume_set, "a", "bandwidth", "10M"), 0);
	assert_int_equal(DO(f, store_volume_set, "a", "burst", "3"), 0);
	assert_int_equal(DO(f, store_volume_set, "a", "burst", "3601"), -EINVAL);
	for (unsigned round = 0; round < 2; round++) { /* from the log, from a checkpoint */
		fixture_close(f);
		fixture_open(f);
		assert_memory_equal(lease_of(f, "a").holder, WEB1, 16);
		assert_string_equal(lease_of(f, "a").holder_name, "web1");
		assert_string_equal(lease_of(f, "b").holder_name, "");
		assert_int_equal(lease_of(f, "b").generation, 1 + round);
		assert_int_equal(DO(f, store_lease_take, "b", WEB2, "web2"), 0);
		assert_int_equal(lease_of(f, "b").generation, 2 + round);
		assert_int_equal(DO(f, store_lease_end, "b", WEB2), 0);
	}
	struct volume_info *infos;
	size_t count;
	assert_int_equal(store_volumes(f->store, false, &infos, &count), 0);
	assert_int_equal(infos[0].limits.iops, 500);
	assert_int_equal(infos[0].limits.bytes_per_s, 10 * MIB);
	assert_int_equal(infos[0].limits.burst_s, 3);
	free(infos);
}

static void only_the_holder_writes(void **state)
{
	struct fixture *f = *state;
	struct view *holder, *other, *stale;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	other = open_view(f, "a");
	assert_int_equal(write_block(f, other, 1), 0);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), -EBUSY); /* it may write */
	store_view_close(other);
	assert_int_equal(store_view_open_leased(f->store, "a", 1, &stale), -VS_EFENCED);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	other = open_view(f, "a"); /* reads what the holder wrote */
	assert_true(store_view_read_only(other));
	assert_int_equal(store_view_open_leased(f->store, "a", 1, &holder), 0);
	assert_int_equal(store_view_open_leased(f->store, "a", 2, &stale), -VS_EFENCED);
	assert_int_equal(write_block(f, holder, 2), 0);
	assert_int_equal(write_block(f, other, 3), -EROFS);
	assert_int_equal(read_byte(f, other), 2);
	store_view_close(other);
	store_view_close(holder);
}

static void who_held_an_earlier_lease_writes_no_more(void **state)
{
	struct fixture *f = *state;
	struct view *first, *fenced, *second;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	assert_int_equal(store_view_open_leased(f->store, "a", 1, &first), 0);
	assert_int_equal(store_view_open_leased(f->store, "a", 1, &fenced), 0);
	assert_int_equal(write_block(f, fenced, 1), 0);
	store_view_fence(fenced); /* refused before the lease ends, too */
	assert_int_equal(write_block(f, fenced, 2), -VS_EFENCED);
	assert_int_equal(write_block(f, first, 3), 0);
	assert_int_equal(DO(f, store_lease_end, "a", NULL), 0);
	assert_int_equal(write_block(f, first, 4), -VS_EFENCED);
	assert_int_equal(do_request(f, first, REQUEST_TRIM, 0, MIB, NULL, 0), -VS_EFENCED);
	store_view_close(fenced);
	store_view_close(first);
	assert_int_equal(DO(f, store_lease_take, "a", WEB1, "web1"), 0);
	assert_int_equal(store_view_open_leased(f->store, "a", 1, &first), -VS_EFENCED);
	assert_int_equal(store_view_open_leased(f->store, "a", 2, &second), 0);
	assert_int_equal(read_byte(f, second), 3);
	assert_int_equal(write_block(f, second, 5), 0);
	store_view_close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_lease_has_one_holder_who_is_named, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(leases_and_generations_outlive_a_restart,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(only_the_holder_writes, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(who_held_an_earlier_lease_writes_no_more,
						fixture_setup, fixture_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
