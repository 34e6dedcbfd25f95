/* SPDX-License-Identifier: Apache-2.0 */
/* A store that has no space: who waits for some does as long as something may come back, and no
 * longer. */
#include "tests/unit/mixed_store.h"

#include "storage/store/behind.h"
#include "storage/store/fold.h"
#include "storage/store/segments.h"
#include "storage/store/segments_int.h"
#include "storage/store/store_int.h"

static struct env_ops poor;
static const struct env_ops *real;

/* Until none would help any more. */
static void collections_end(struct fixture *f)
{
	while (f->store->gc || gc_may_help(f->store))
		(void)env_step(f->env, true);
}

static void one_that_began_with_space_to_spare_was_no_attempt(void **state)
{
	struct fixture *f = *state;
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_gc(f->store, &work);
	while (!f->store->gc)
		(void)env_step(f->env, true);
	f->store->options.capacity_bytes = 1; /* now it is low */
	assert_int_equal((int)env_wait(f->env, &work.op), 0);
	assert_true(gc_may_help(f->store));
	collections_end(f); /* ... but not for ever */
	f->store->options.capacity_bytes = 0;
}

static void what_is_overdue_in_the_trash_may_come_back(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	f->store->options.capacity_bytes = 1;
	assert_int_equal(make_volume(f, "gone", MIB), 0);
	assert_int_equal(DO(f, store_volume_delete, "gone"), 0);
	assert_int_equal(volume_named(f, "gone", true).in_trash, true);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	collections_end(f);
	f->store->options.trash_delay_ns =
		1; /* of 7 days; and no tick comes before the next line */
	assert_true(gc_may_help(f->store));
	while (f->store->volume_count)
		(void)env_step(f->env, true);
	f->store->options.capacity_bytes = 0;
}

/* Not by a purge: it goes at once, as cuts do. */
static void what_a_cut_held_may_come_back(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	f->store->options.capacity_bytes = 1;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(snap(f, "a@cut"), 0);
	f->store->snapshots[0]->policy = POLICY_CUT;
	assert_int_equal(WORK(f, &work, store_gc), 0);
	collections_end(f);
	assert_int_equal(DO(f, store_cut_drop, "a@cut"), 0);
	assert_int_equal(f->store->snapshot_count, 0);
	assert_true(gc_may_help(f->store));
	f->store->options.capacity_bytes = 0;
}

static bool disk_full;
static struct env *full_env;
static struct io_op *held; /* an allocation whose end waits for the test */

static void allocate_or_not(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	if (disk_full)
		env_complete(full_env, op, -ENOSPC);
	else
		real->file_allocate(file, op, bytes);
}

static void allocate_never(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	held = op;
}

static void fixture_poor(struct fixture *f,
			 void (*allocate)(struct env_file *file, struct io_op *op, uint64_t bytes))
{
	real = f->env->ops;
	poor = *real;
	poor.file_allocate = allocate;
	f->env->ops = &poor;
}

/* There is no space for a segment until disk_full is false; f->env->ops = real at the end. */
static void fixture_open_full(struct fixture *f)
{
	fixture_poor(f, allocate_or_not);
	full_env = f->env;
	disk_full = true;
	fixture_open(f);
}

/* It takes no space to give it back. */
static void what_is_all_dead_goes_when_not_even_a_reserve_can_be_made(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	test_random_fill(&f->seed, data, MIB);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	store_view_close(view);
	fixture_close(f);
	fixture_open_full(f);
	purge(f, "a");
	while (f->store->counters.collections == 0)
		(void)env_step(f->env, true);
	assert_null(f->store->segment_set->reserve);
	assert_true(f->store->counters.segments_dropped > 0);
	f->env->ops = real;
	free(data);
}

/* Nothing more comes back by collections, but what is being made may be all that is needed. */
static void a_write_waits_for_a_segment_that_is_being_made(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	struct segment_set *set = f->store->segment_set;
	uint8_t data[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES))) = {1};
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	/* Its epoch is raised by something that stores nothing, and leaves nothing to fold. */
	assert_int_equal(do_request(f, view, REQUEST_ZERO, 0, MIB, NULL, 0), 0);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	while (!segments_idle(f->store) || !set->spare)
		(void)env_step(f->env, true);
	fixture_poor(f, allocate_never);
	segments_seal_open(f->store); /* neither open nor spare nor reserve: one is made */
	segments_make_ahead(set);
	f->store->options.capacity_bytes = 1;
	while (set->sealing || f->store->gc || gc_may_help(f->store))
		(void)env_step(f->env, true);
	struct store_request request = {
		.view = view, .kind = REQUEST_WRITE, .length_bytes = 4096, .data = data};
	env_wait_prepare(&request.op);
	store_submit(&request);
	bool waits = !write_idle(f->store);
	f->store->options.capacity_bytes = 0;
	f->env->ops = real;
	env_complete(f->env, held, 0);
	assert_int_equal((int)env_wait(f->env, &request.op), 0);
	assert_true(waits);
	store_view_close(view);
}

static void fold_fails_for_want_of_space(struct fixture *f)
{
	struct store_work work;
	uint8_t data[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES))) = {1};
	fixture_close(f);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 4096, 4096, data, 0), 0);
	store_view_close(view);
	fixture_close(f);
	fixture_open_full(f);
	assert_int_equal(WORK(f, &work, store_fold, NULL), -ENOSPC);
}

/* Guests wait for it, or are told that the store is full: it does not wait for its usual while. */
static void a_fold_that_had_no_space_is_tried_again_when_some_came(void **state)
{
	struct fixture *f = *state;
	struct store_work work;
	fold_fails_for_want_of_space(f);
	assert_true(fold_full(f->store));
	disk_full = false;
	segments_retry_space(f->store); /* a collection's end does it */
	while (!f->store->segment_set->spare && !f->store->segment_set->open)
		(void)env_step(f->env, true);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	assert_int_equal(f->store->fold->space_tries, 0); /* the next one has as many again */
	f->env->ops = real;
}

/* What is freed of a fold that failed may be no more than what the next one takes of it: whoever
 * waits for it is told after so many tries. */
static void a_fold_that_never_fits_is_not_tried_for_ever(void **state)
{
	struct fixture *f = *state;
	unsigned tries = 0;
	fold_fails_for_want_of_space(f);
	f->store->fold_all = true;
	for (; f->store->fold->space_tries == tries && tries < 100; tries++) {
		fold_space_came(f->store); /* and somebody else takes it */
		while (fold_running(f->store))
			(void)env_step(f->env, true);
		assert_true(fold_full(f->store));
	}
	assert_in_range(tries, 2, 99);
	f->env->ops = real;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(one_that_began_with_space_to_spare_was_no_attempt),
		CASE(what_is_overdue_in_the_trash_may_come_back),
		CASE(what_a_cut_held_may_come_back),
		CASE(what_is_all_dead_goes_when_not_even_a_reserve_can_be_made),
		CASE(a_write_waits_for_a_segment_that_is_being_made),
		CASE(a_fold_that_had_no_space_is_tried_again_when_some_came),
		CASE(a_fold_that_never_fits_is_not_tried_for_ever),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
