/* SPDX-License-Identifier: Apache-2.0 */
/* Differences of leaves: what is found is what was told, from the one leaf to the other. */
#include "tests/unit/unit.h"

#include "storage/store/leaf_diff.h"

#define PLENTY (1u << 20)

static struct id id_of(uint64_t number)
{
	struct id id = {0};
	uint64_t seed = number;
	if (number)
		test_random_fill(&seed, id.bytes, sizeof id.bytes);
	return id;
}

/* One slot, whose chunk is of the leaf's number. */
static void add(struct leaf_diffs *diffs, uint64_t old, uint64_t new, size_t most_bytes)
{
	struct id ids[2] = {id_of(old), id_of(new)};
	struct leaf_change change = {half_of(&ids[0]), half_of(&ids[1])};
	leaf_diffs_add(diffs, &ids[0], &ids[1], &change, 1, most_bytes);
}

static unsigned find(const struct leaf_diffs *diffs, uint64_t old, uint64_t new,
		     const struct leaf_diff *ret[LEAF_LINKS_MAX])
{
	struct id ids[2] = {id_of(old), id_of(new)};
	return leaf_diffs_find(diffs, &ids[0], &ids[1], ret);
}

static void links_lead_from_one_leaf_to_the_other(void **state)
{
	struct leaf_diffs diffs = {0};
	const struct leaf_diff *links[LEAF_LINKS_MAX];
	struct id new = id_of(3);
	assert_int_equal(find(&diffs, 1, 2, links), 0);
	assert_null(leaf_diffs_peek(&diffs, &new));
	add(&diffs, 0, 1, PLENTY);
	add(&diffs, 1, 2, PLENTY);
	add(&diffs, 2, 3, PLENTY);
	add(&diffs, 7, 3, PLENTY); /* the first stays */
	assert_int_equal(find(&diffs, 2, 3, links), 1);
	assert_int_equal(links[0]->count, 1);
	assert_memory_equal(&links[0]->changes[0].new, new.bytes, sizeof(struct half_id));
	assert_ptr_equal(links[0], leaf_diffs_peek(&diffs, &new));
	assert_int_equal(find(&diffs, 1, 3, links), 2);
	assert_int_equal(find(&diffs, 0, 3, links), 3); /* from nothing */
	assert_int_equal(find(&diffs, 7, 3, links), 0);
	assert_int_equal(find(&diffs, 3, 1, links), 0); /* back is another thing */
	leaf_diffs_free(&diffs);
	assert_int_equal(find(&diffs, 2, 3, links), 0);
}

static void circles_and_long_ways_are_not_known(void **state)
{
	struct leaf_diffs diffs = {0};
	const struct leaf_diff *links[LEAF_LINKS_MAX];
	add(&diffs, 1, 2, PLENTY);
	add(&diffs, 2, 1, PLENTY);
	assert_int_equal(find(&diffs, 1, 2, links), 1);
	assert_int_equal(find(&diffs, 9, 2, links), 0);
	for (uint64_t i = 10; i < 10 + LEAF_LINKS_MAX + 1; i++)
		add(&diffs, i, i + 1, PLENTY);
	assert_int_equal(find(&diffs, 10, 10 + LEAF_LINKS_MAX, links), LEAF_LINKS_MAX);
	assert_int_equal(find(&diffs, 10, 11 + LEAF_LINKS_MAX, links), 0);
	leaf_diffs_free(&diffs);
}

static void what_has_no_room_is_not_kept(void **state)
{
	struct leaf_diffs diffs = {0};
	const struct leaf_diff *links[LEAF_LINKS_MAX];
	uint64_t kept = 0;
	const uint64_t count = 50000;
	for (uint64_t i = 1; i <= count; i++)
		add(&diffs, 2 * i, 2 * i + 1, PLENTY);
	assert_true(leaf_diffs_bytes(&diffs) <= PLENTY);
	for (uint64_t i = 1; i <= count; i++) {
		unsigned found = find(&diffs, 2 * i, 2 * i + 1, links);
		assert_true(found == (i <= diffs.count));
		kept += found;
	}
	assert_true(kept > PLENTY / 2 / (sizeof(struct leaf_diff) + sizeof(struct leaf_change)));
	assert_true(kept < count);
	leaf_diffs_free(&diffs);
	add(&diffs, 1, 2, 0);
	assert_int_equal(find(&diffs, 1, 2, links), 0);
	assert_int_equal(leaf_diffs_bytes(&diffs), 0);
	leaf_diffs_free(&diffs);
}

/* ---- above the leaves ---- */

static void node_fill(struct id slots[NODE_SLOTS], uint64_t first)
{
	for (unsigned i = 0; i < NODE_SLOTS; i++)
		slots[i] = id_of(first + i);
}

static void add_node(struct leaf_diffs *diffs, uint64_t old, uint64_t new, const struct id *from,
		     const struct id *to)
{
	struct id ids[2] = {id_of(old), id_of(new)};
	node_diffs_add(diffs, &ids[0], &ids[1], from, to, PLENTY);
}

static unsigned find_node(const struct leaf_diffs *diffs, uint64_t old, uint64_t new,
			  struct node_change ret[NODE_SLOTS])
{
	struct id ids[2] = {id_of(old), id_of(new)};
	return node_diffs_find(diffs, &ids[0], &ids[1], ret);
}

static void what_several_folds_did_to_a_node_is_one_change_a_slot(void **state)
{
	static const struct id none[NODE_SLOTS];
	struct leaf_diffs diffs = {0};
	struct id first[NODE_SLOTS], second[NODE_SLOTS], third[NODE_SLOTS];
	struct node_change got[NODE_SLOTS];
	node_fill(first, 1000);
	memcpy(second, first, sizeof first);
	second[0] = id_of(1);
	second[64] = id_of(2);
	second[255] = none[0];
	memcpy(third, second, sizeof first);
	third[0] = first[0]; /* and back */
	third[63] = id_of(3);
	third[64] = id_of(4);
	add_node(&diffs, 0, 51, none, first);
	add_node(&diffs, 51, 52, first, second);
	add_node(&diffs, 52, 53, second, third);
	assert_int_equal(find_node(&diffs, 51, 53, got), 3);
	const struct node_change want[] = {
		{first[63], third[63]}, {first[64], third[64]}, {first[255], none[0]}};
	assert_memory_equal(got, want, sizeof want);
	assert_int_equal(find_node(&diffs, 52, 53, got), 3);
	assert_memory_equal(&got[0].old, &second[0], sizeof(struct id));
	assert_int_equal(find_node(&diffs, 0, 53, got), NODE_SLOTS - 1);
	assert_memory_equal(&got[254].new, &third[254], sizeof(struct id));
	assert_int_equal(find_node(&diffs, 50, 53, got), 0);
	leaf_diffs_free(&diffs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_lead_from_one_leaf_to_the_other),
		cmocka_unit_test(circles_and_long_ways_are_not_known),
		cmocka_unit_test(what_has_no_room_is_not_kept),
		cmocka_unit_test(what_several_folds_did_to_a_node_is_one_change_a_slot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
