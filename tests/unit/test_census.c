/* SPDX-License-Identifier: Apache-2.0 */
/* A collection and a fold at once: what a fold has stored and no map names yet is not garbage. And
 * what a count does not take from guests. */
#include "tests/unit/store_fixture.h"

#include "storage/store/census.h"
#include "storage/store/fold.h"
#include "storage/store/index.h"
#include "storage/store/store_int.h"

#define DATA_BYTES (72 * MIB) /* a sealed segment, and some */
#define PART_BYTES (32 * KIB) /* less than a chunk: it is the fold that stores chunks */
#define STEPS 1000u	      /* of the loop: a count that did not wait would long have begun */

static const struct env_ops *real;
static struct fold *held_fold;
static struct held {
	struct env_file *file;
	struct io_op *op;
	const void *buf;
	uint32_t bytes;
	uint64_t offset;
	unsigned flags;
} held[8];
static unsigned held_count;

/* Everything that the fold has stored is durable, and the record that names it is not. */
static bool root_is_on_its_way(void)
{
	return held_fold && held_fold->volume && held_fold->phase == FOLD_LOGGING;
}

static void hold_write(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
		       uint64_t offset, unsigned flags)
{
	if (!root_is_on_its_way()) {
		real->file_write(file, op, buf, bytes, offset, flags);
		return;
	}
	assert_true(held_count < 8);
	held[held_count++] = (struct held){file, op, buf, bytes, offset, flags};
}

static void let_go(struct fixture *f)
{
	f->env->ops = real;
	held_fold = NULL;
	for (unsigned i = 0; i < held_count; i++)
		env_file_write(held[i].file, held[i].op, held[i].buf, held[i].bytes, held[i].offset,
			       held[i].flags);
	held_count = 0;
}

static int setup(void **state)
{
	int res = fixture_setup_log(state, 256 * MIB);
	struct fixture *f = *state;
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	return res;
}

static uint8_t *write_all(struct fixture *f)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, DATA_BYTES);
	test_random_fill(&f->seed, data, DATA_BYTES);
	assert_int_equal(make_volume(f, "a", DATA_BYTES), 0);
	struct view *view = open_view(f, "a");
	for (uint64_t at = 0; at < DATA_BYTES; at += PART_BYTES)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, PART_BYTES, data + at, 0),
				 0);
	store_view_close(view);
	return data;
}

static void read_back(struct fixture *f, const uint8_t *data)
{
	uint8_t *got = aligned_alloc(BLOCK_BYTES, MIB);
	struct view *view = open_view(f, "a");
	for (uint64_t at = 0; at < DATA_BYTES; at += MIB) {
		assert_int_equal(do_request(f, view, REQUEST_READ, at, MIB, got, 0), 0);
		assert_memory_equal(got, data + at, MIB);
	}
	store_view_close(view);
	free(got);
	nothing_is_damaged(f);
}

static void a_collection_waits_for_the_map_of_a_fold_that_runs(void **state)
{
	struct fixture *f = *state;
	struct store_work fold = {0}, gc = {0};
	uint8_t *data = write_all(f);
	real = f->env->ops;
	struct env_ops ops = *real;
	ops.file_write = hold_write;
	held_fold = f->store->fold;
	f->env->ops = &ops;
	env_wait_prepare(&fold.op);
	store_fold(f->store, &fold, NULL);
	while (!held_count)
		env_step(f->env, true);
	assert_true(id_is_null(&f->store->volumes[0]->top));
	uint64_t rounds = f->store->census->round;
	env_wait_prepare(&gc.op);
	store_gc(f->store, &gc);
	while (f->store->census->round == rounds)
		env_step(f->env, true);
	for (unsigned i = 0; i < STEPS; i++) /* far more than it takes to begin to count */
		env_step(f->env, false);
	assert_true(root_is_on_its_way());
	assert_int_equal(f->store->census->phase, CENSUS_BEGIN);
	let_go(f);
	assert_int_equal(env_wait(f->env, &fold.op), 0);
	assert_int_equal(env_wait(f->env, &gc.op), 0);
	assert_int_equal(gc.chunks, DATA_BYTES / CHUNK_BYTES);
	assert_true(gc.freed_bytes < MIB); /* the first opening's segment had nothing in it */
	read_back(f, data);
	fixture_close(f);
	fixture_open(f);
	read_back(f, data);
	free(data);
}

/* More leaves than the cache has room for, a chunk in each. */
static void a_count_leaves_the_nodes_in_memory_that_guests_use(void **state)
{
	struct fixture *f = *state;
	const uint64_t leaves = 100, leaf_bytes = NODE_SLOTS * (uint64_t)CHUNK_BYTES;
	uint8_t *chunk = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	struct store_work work;
	struct id id;
	fixture_close(f);
	f->options.node_cache_bytes = 1; /* what is least: 64 */
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", leaves * leaf_bytes), 0);
	struct view *view = open_view(f, "a");
	for (uint64_t i = 0; i < leaves; i++) {
		test_random_fill(&f->seed, chunk, CHUNK_BYTES);
		assert_int_equal(
			do_request(f, view, REQUEST_WRITE, i * leaf_bytes, CHUNK_BYTES, chunk, 0),
			0);
	}
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	fixture_open(f);
	const struct id *top = &f->store->volumes[0]->top;
	assert_int_equal(map_lookup(f->store, top, 0, NULL, &id, NULL), WAITING);
	view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, CHUNK_BYTES, chunk, 0), 0);
	store_view_close(view);
	assert_int_equal(map_lookup(f->store, top, 0, NULL, &id, NULL), 0);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_int_equal(work.chunks, leaves);
	assert_int_equal(f->store->census->opened, leaves + MAP_LEVELS - 1);
	assert_int_equal(map_lookup(f->store, top, 0, NULL, &id, NULL), 0);
	free(chunk);
}

/* ---- after folds ---- */

#define LEAVES 8u
#define LEAF_BYTES (NODE_SLOTS * (uint64_t)CHUNK_BYTES)

/* New data in the first chunks of every leaf, and a fold. */
static void change_leaves(struct fixture *f, struct view *view, unsigned chunks)
{
	uint8_t *chunk = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	struct store_work work;
	for (uint64_t i = 0; i < LEAVES; i++)
		for (uint64_t c = 0; c < chunks; c++) {
			test_random_fill(&f->seed, chunk, 64); /* enough to be another chunk */
			assert_int_equal(do_request(f, view, REQUEST_WRITE,
						    i * LEAF_BYTES + c * CHUNK_BYTES, CHUNK_BYTES,
						    chunk, 0),
					 0);
		}
	free(chunk);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
}

/* How many nodes a count reads, which ends where one ends that counts all anew. */
static uint64_t nodes_read(struct fixture *f)
{
	struct store_work work;
	struct store_info by_change, anew;
	assert_int_equal(WORK(f, &work, store_gc), 0);
	uint64_t opened = f->store->census->opened;
	store_info(f->store, &by_change);
	work = (struct store_work){.thorough = true};
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	assert_int_equal(env_wait(f->env, &work.op), 0);
	store_info(f->store, &anew);
	assert_int_equal(by_change.unique_bytes, anew.unique_bytes);
	assert_int_equal(by_change.garbage_bytes, anew.garbage_bytes);
	return opened;
}

static void a_count_after_folds_reads_no_node(void **state)
{
	struct fixture *f = *state;
	const uint64_t above = MAP_LEVELS - 1; /* nodes above the leaves */
	assert_int_equal(make_volume(f, "a", LEAVES * LEAF_BYTES), 0);
	struct view *view = open_view(f, "a");
	change_leaves(f, view, 2);
	assert_int_equal(nodes_read(f), 0);
	change_leaves(f, view, 1);
	assert_int_equal(nodes_read(f), 0);
	change_leaves(f, view, 3);
	change_leaves(f, view, 1);
	change_leaves(f, view, 2); /* three folds of each leaf */
	assert_int_equal(nodes_read(f), 0);
	/* Beside an old node that stays all of a new one counts. */
	assert_int_equal(snap(f, "a@s"), 0);
	change_leaves(f, view, 1);
	assert_int_equal(nodes_read(f), above + LEAVES);
	/* Of a leaf of which more changed than is kept both are read. */
	change_leaves(f, view, LEAF_CHANGES_MAX + 1);
	assert_int_equal(nodes_read(f), 2 * LEAVES);
	/* Nothing is kept beyond a count. */
	const struct map_diffs *diffs[] = {&f->store->census->taken, &f->store->census->diffs};
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(leaf_diffs_bytes(&diffs[i]->leaves), 0);
		assert_int_equal(leaf_diffs_bytes(&diffs[i]->above), 0);
	}
	store_view_close(view);
}

static bool index_has_id(const struct fixture *f, const struct id *id)
{
	uint64_t places[INDEX_CANDIDATES_MAX];
	return index_find(f->store->index, id, places) > 0;
}

/* As many counts as the number of a turn of the marks has values: what was new before the first of
 * them, and was named by no map since, does not seem new again. */
static void what_was_new_is_not_new_again_however_many_counts_come(void **state)
{
	struct fixture *f = *state;
	uint8_t *chunk = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	struct store_work work;
	struct dirty_chunk room;
	assert_int_equal(make_volume(f, "a", LEAF_BYTES), 0);
	struct view *view = open_view(f, "a");
	test_random_fill(&f->seed, chunk, CHUNK_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, CHUNK_BYTES, chunk, 0), 0);
	const struct dirty_chunk *entry = layer_find(volume_active(f->store->volumes[0]), 0, &room);
	assert_true(entry && entry->base == BASE_ID);
	struct id id = entry->id;
	test_random_fill(&f->seed, chunk, CHUNK_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, CHUNK_BYTES, chunk, 0), 0);
	store_view_close(view);
	free(chunk);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	assert_false(index_dead(f->store->index, &id));
	for (unsigned i = 0; i <= UINT8_MAX; i++)
		assert_int_equal(WORK(f, &work, store_gc), 0);
	assert_true(index_has_id(f, &id));
	assert_true(index_dead(f->store->index, &id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_collection_waits_for_the_map_of_a_fold_that_runs,
						setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_count_leaves_the_nodes_in_memory_that_guests_use,
						setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_count_after_folds_reads_no_node, setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(
			what_was_new_is_not_new_again_however_many_counts_come, setup,
			fixture_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
