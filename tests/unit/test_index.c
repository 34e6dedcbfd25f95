/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/index.h"

#include <errno.h>

#define COUNT 1000000u

static struct id id_number(uint64_t number)
{
	struct id id;
	uint64_t seed = number * 77 + 5;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t word = test_random(&seed);
		memcpy(id.bytes + 8 * i, &word, 8);
	}
	return id;
}

static uint64_t location_number(uint64_t number)
{
	return location_of(1 + (uint32_t)(number >> 11), (uint32_t)(number & 2047) * 512);
}

static bool found(const struct index *index, const struct id *id, uint64_t location)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	unsigned count = index_find(index, id, candidates);
	for (unsigned i = 0; i < count; i++)
		if (candidates[i] == location)
			return true;
	return false;
}

static void a_million_ids_are_found_in_at_most_12_bytes_each(void **state)
{
	(void)state;
	struct index *index = index_new();
	uint64_t false_candidates = 0, candidates[INDEX_CANDIDATES_MAX];
	for (uint64_t i = 0; i < COUNT; i++) {
		struct id id = id_number(i);
		assert_int_equal(index_insert(index, &id, location_number(i)), 0);
	}
	for (uint64_t i = 0; i < COUNT; i++) {
		struct id id = id_number(i), absent = id_number(i + COUNT);
		assert_true(found(index, &id, location_number(i)));
		false_candidates += index_find(index, &absent, candidates);
	}
	assert_true(index_count(index) == COUNT);
	/* the 16,384 shards' own headers are 0.26 MB of it */
	double bytes = (double)index_bytes(index) / COUNT;
	print_message("bytes an entry: %.2f, false candidates a lookup: %.5f\n", bytes,
		      (double)false_candidates / COUNT);
	assert_true(bytes <= 12.0);
	assert_true(false_candidates < COUNT / 1000);
	index_free(index);
}

static void removed_entries_are_gone_and_others_stay(void **state)
{
	(void)state;
	struct index *index = index_new();
	for (uint64_t i = 0; i < 100000; i++) {
		struct id id = id_number(i);
		assert_int_equal(index_insert(index, &id, location_number(i)), 0);
	}
	struct id twice = id_number(4);
	assert_int_equal(index_insert(index, &twice, location_number(900)), 0);
	for (uint64_t i = 0; i < 100000; i += 3) {
		struct id id = id_number(i);
		assert_true(index_remove(index, &id, location_number(i)));
		assert_false(index_remove(index, &id, location_number(i)));
	}
	for (uint64_t i = 0; i < 100000; i++) {
		struct id id = id_number(i);
		assert_int_equal(found(index, &id, location_number(i)), i % 3 != 0);
	}
	assert_true(found(index, &twice, location_number(900)));
	index_free(index);
}

static void too_many_of_one_id_are_refused_and_cost_no_memory(void **state)
{
	(void)state;
	struct index *index = index_new();
	struct id id = id_number(1);
	int res = 0;
	uint32_t slot = 0;
	while (res == 0 && slot <= INDEX_CANDIDATES_MAX)
		res = index_insert(index, &id, location_of(++slot, 0));
	assert_int_equal(res, -ENOMEM);
	assert_true(slot > 8);
	assert_true(index_bytes(index) < 400000); /* 262,160 of it are the shards' headers */
	for (uint32_t there = 1; there < slot; there++)
		assert_true(found(index, &id, location_of(there, 0)));
	uint64_t same[20];
	for (uint32_t i = 0; i < 20; i++)
		same[i] = UINT64_C(5) << 44 | location_of(1 + i, 0);
	assert_int_equal(index_shard_load(index, 3, same, 20), -ENOMEM);
	assert_true(index_bytes(index) < 400000);
	index_free(index);
}

static void shards_survive_a_checkpoint(void **state)
{
	(void)state;
	struct index *index = index_new(), *copy = index_new();
	for (uint64_t i = 0; i < 200000; i++) {
		struct id id = id_number(i);
		assert_int_equal(index_insert(index, &id, location_number(i)), 0);
	}
	for (uint32_t shard = 0; shard < INDEX_SHARDS; shard++) {
		size_t count = index_shard_count(index, shard);
		uint64_t *entries = calloc(count + 1, 8);
		index_shard_store(index, shard, entries);
		assert_int_equal(entries[count], 0);
		assert_int_equal(index_shard_load(copy, shard, entries, count), 0);
		free(entries);
	}
	assert_true(index_count(copy) == 200000);
	for (uint64_t i = 0; i < 200000; i++) {
		struct id id = id_number(i);
		assert_true(found(copy, &id, location_number(i)));
	}
	uint64_t no_slot = 17;
	assert_int_equal(index_shard_load(copy, 0, &no_slot, 1), -VS_EFORMAT);
	index_free(index);
	index_free(copy);
}

static void references_are_counted_and_stay_at_the_most(void **state)
{
	(void)state;
	struct index *index = index_new();
	struct id id = id_number(1), absent = id_number(2);
	uint32_t entries, live;
	assert_false(index_ref(index, &id));
	assert_int_equal(index_insert(index, &id, location_of(5, 0)), 0);
	assert_int_equal(index_insert(index, &id, location_of(6, 0)), 0);
	assert_true(index_ref(index, &id));
	assert_true(index_ref(index, &id));
	assert_int_equal(index_refs(index, &id), 2);
	assert_int_equal(index_refs(index, &absent), 0);
	assert_false(index_unref(index, &id));
	assert_true(index_unref(index, &id));
	assert_false(index_unref(index, &id)); /* it has none */
	for (unsigned i = 0; i < INDEX_REFS_MAX + 1; i++)
		assert_true(index_ref(index, &id));
	assert_false(index_unref(index, &id));
	assert_int_equal(index_refs(index, &id), INDEX_REFS_MAX);
	index_marks_turn(index);
	assert_false(index_dead(index, &id));
	index_slot_counts(index, 6, &entries, &live);
	assert_int_equal(entries, 1);
	assert_int_equal(live, 1);
	for (uint32_t shard = 0; shard < INDEX_SHARDS; shard++)
		index_refs_clear(index, shard);
	assert_true(index_dead(index, &id));
	assert_int_equal(index_live_count(index), 0);
	index_free(index);
}

static void turn(struct index *index)
{
	for (uint32_t shard = 0; index_marks_worn(index) && shard < INDEX_SHARDS; shard++)
		index_marks_clear(index, shard);
	index_marks_turn(index);
}

/* Also when the number of a turn comes again, and whether or not somebody came by meanwhile. */
static void a_mark_counts_for_one_turn(void **state)
{
	(void)state;
	struct index *index = index_new();
	const uint32_t turns = 600, ids = 1000;
	uint32_t entries, live;
	for (uint32_t i = 0; i < ids; i++) {
		struct id id = id_number(i);
		assert_int_equal(index_insert(index, &id, location_of(1 + i % 7, i)), 0);
		assert_false(index_dead(index, &id)); /* it is new */
	}
	for (uint32_t t = 0; t < turns; t++) {
		struct id touched = id_number(t), next = id_number(t + 1);
		turn(index);
		for (uint32_t slot = 1; slot <= 7; slot++) {
			index_slot_counts(index, slot, &entries, &live);
			assert_int_equal(live, 0);
		}
		index_touch(index, &touched);
		assert_false(index_dead(index, &touched));
		assert_true(index_dead(index, &next));
		index_slot_counts(index, 1 + t % 7, &entries, &live);
		assert_int_equal(live, 1);
	}
	for (uint32_t i = 0; i < ids; i++) {
		struct id id = id_number(i);
		assert_int_equal(index_dead(index, &id), i != turns - 1);
	}
	index_free(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_million_ids_are_found_in_at_most_12_bytes_each),
		cmocka_unit_test(removed_entries_are_gone_and_others_stay),
		cmocka_unit_test(too_many_of_one_id_are_refused_and_cost_no_memory),
		cmocka_unit_test(shards_survive_a_checkpoint),
		cmocka_unit_test(references_are_counted_and_stay_at_the_most),
		cmocka_unit_test(a_mark_counts_for_one_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
