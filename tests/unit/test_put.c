/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks on their way into a segment: many wait for one flush, and few have memory meanwhile. */
#include "tests/unit/store_fixture.h"

#include "storage/store/behind.h"
#include "storage/store/fold.h"
#include "storage/store/put.h"
#include "storage/store/store_int.h"

#define CHUNKS 200u /* more than have memory at once */

static const struct env_ops *real;
static struct held { /* syncs that have not begun */
	struct env_file *file;
	struct io_op *op;
} held[4];
static unsigned held_count;
static unsigned started, placed, ended;
static struct starter {
	struct wait wait;
	struct store *store;
} starter;

/* What opens a segment goes on. */
static void hold_sync(struct env_file *file, struct io_op *op)
{
	if (placed == 0) {
		real->file_sync(file, op);
		return;
	}
	assert_true(held_count < 4);
	held[held_count++] = (struct held){file, op};
}

static void count_placed(struct put *put)
{
	assert_null(put->room);
	placed++;
}

static void count_ended(struct put *put, int res)
{
	assert_int_equal(res, 0);
	assert_false(id_is_null(&put->id));
	put_free(put);
	ended++;
}

static void start_next(struct wait *wait)
{
	wait->wake = start_next;
	while (started < CHUNKS) {
		struct put *put = put_new(starter.store, false, wait);
		if (!put)
			return;
		uint64_t number = started + 1;
		memset(put->room, 0, CHUNK_BYTES);
		memcpy(put->room, &number, sizeof number);
		put->raw = put->room;
		put->domain = starter.store->volumes[0]->domain;
		put->level = 1;
		put->frame_bytes = 16 * KIB;
		put->placed = count_placed;
		put->done = count_ended;
		started++;
		put_start(put);
	}
}

static void many_wait_for_one_flush(void **state)
{
	struct fixture *f = *state;
	real = f->env->ops;
	struct env_ops ops = *real;
	uint8_t *chunk = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	test_random_fill(&f->seed, chunk, CHUNK_BYTES);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a"); /* its segment is open */
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, CHUNK_BYTES, chunk, REQUEST_FUA), 0);
	ops.file_sync = hold_sync;
	f->env->ops = &ops;
	starter.store = f->store;
	start_next(&starter.wait);
	while (placed < CHUNKS) /* for ever, if a chunk waited for the flush of one before it */
		env_step(f->env, true);
	assert_int_equal(started, CHUNKS);
	assert_int_equal(ended, 0);
	f->env->ops = real;
	for (unsigned i = 0; i < held_count; i++)
		env_file_sync(held[i].file, held[i].op);
	held_count = 0;
	while (ended < CHUNKS)
		env_step(f->env, true);
	store_view_close(view);
	free(chunk);
}

static struct store *closing;
static uint64_t allocate_bytes;

static void hold_allocate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	if (closing && closing->closing) {
		real->file_allocate(file, op, bytes);
		return;
	}
	assert_int_equal(held_count, 0);
	held[held_count++] = (struct held){file, op};
	allocate_bytes = bytes;
}

static bool step_and_allocate(struct env *env, bool wait)
{
	if (held_count && closing && closing->closing)
		real->file_allocate(held[--held_count].file, held[0].op, allocate_bytes);
	return real->step(env, wait);
}

/* A fold begins as soon as the store is open, and waits for the first segment. */
static void a_store_closes_while_a_fold_waits_for_a_segment(void **state)
{
	struct fixture *f = *state;
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	fixture_close(f);
	fixture_open(f);
	test_random_fill(&f->seed, block, BLOCK_BYTES);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	store_view_close(view);
	fixture_close(f);
	f->options.idle_fold_ns = 1;
	real = f->env->ops;
	struct env_ops ops = *real;
	ops.file_allocate = hold_allocate;
	ops.step = step_and_allocate;
	f->env->ops = &ops;
	fixture_open(f);
	closing = f->store;
	while (!fold_running(f->store) || f->store->fold->busy == 0)
		env_step(f->env, true);
	fixture_close(f);
	f->env->ops = real;
	fixture_open(f);
	free(block);
}

static struct put *ends[4];
static int end_results[4];
static unsigned end_count;

static void note_end(struct put *put, int res)
{
	assert_true(end_count < 4);
	ends[end_count] = put;
	end_results[end_count++] = res;
	put_free(put);
}

static struct put *start_same(struct store *store, bool background)
{
	struct put *put = put_new(store, background, NULL);
	assert_non_null(put);
	memset(put->room, 1, CHUNK_BYTES);
	put->raw = put->room;
	put->domain = store->volumes[0]->domain;
	put->level = 1;
	put->frame_bytes = 16 * KIB;
	put->done = note_end;
	put_start(put);
	return put;
}

static void full_store(struct fixture *f)
{
	assert_int_equal(make_volume(f, "a", MIB), 0);
	fixture_close(f);
	f->options.capacity_bytes = MIB; /* of segments: none */
	fixture_open(f);
	end_count = 0;
}

static void hold_collections(struct store *store, int add)
{
	store->readers[0] += add;
	store->readers[1] += add;
	work_kick(store);
}

/* The guest's put waits for a collection, which waits for folds: none may share its end then. */
static void fold_ends_first(struct fixture *f, struct put *guest, struct put *fold)
{
	while (end_count == 0) {
		assert_false(guest->wants_space && guest->same);
		env_step(f->env, true);
	}
	assert_ptr_equal(ends[0], fold);
	assert_int_equal(end_results[0], -ENOSPC);
	hold_collections(f->store, -1);
	while (end_count < 2)
		env_step(f->env, true);
	assert_ptr_equal(ends[1], guest); /* after a collection that freed nothing */
	assert_int_equal(end_results[1], -ENOSPC);
}

static void a_fold_does_not_wait_with_a_guest_for_space(void **state)
{
	struct fixture *f = *state;
	full_store(f);
	hold_collections(f->store, 1);
	struct put *guest = start_same(f->store, false), *fold = start_same(f->store, true);
	fold_ends_first(f, guest, fold);
}

static void nor_does_one_that_comes_while_a_guest_waits(void **state)
{
	struct fixture *f = *state;
	full_store(f);
	hold_collections(f->store, 1);
	struct put *guest = start_same(f->store, false);
	while (!guest->wants_space)
		env_step(f->env, true);
	fold_ends_first(f, guest, start_same(f->store, true));
}

static void one_buffer_is_for_background_work_at_any_time(void **state)
{
	struct fixture *f = *state;
	struct put *guests[PUT_COUNT], *put;
	unsigned count = 0;
	while ((put = put_new(f->store, false, NULL)))
		guests[count++] = put;
	struct put *fold = put_new(f->store, true, NULL);
	assert_non_null(fold);
	assert_null(put_new(f->store, true, NULL));
	put_free(fold);
	assert_null(put_new(f->store, false, NULL));
	fold = put_new(f->store, true, NULL);
	assert_non_null(fold);
	put_free(fold);
	while (count > 0)
		put_free(guests[--count]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(many_wait_for_one_flush, fixture_setup,
						fixture_teardown),
		cmocka_unit_test_setup_teardown(a_store_closes_while_a_fold_waits_for_a_segment,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(nor_does_one_that_comes_while_a_guest_waits,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(a_fold_does_not_wait_with_a_guest_for_space,
						fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(one_buffer_is_for_background_work_at_any_time,
						fixture_setup, fixture_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
