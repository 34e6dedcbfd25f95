/* SPDX-License-Identifier: Apache-2.0 */
/* A volume's epoch rises once for each opening that writes to it, before the first write counts. */
#include "tests/unit/store_fixture.h"

#include "storage/store/store_int.h"

static void an_opening_that_writes_raises_the_epoch_once(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB), before[16];
	memset(data, 7, MIB);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	for (uint64_t epoch = 1; epoch < 5; epoch++) {
		const struct volume *volume = volume_by_name(f->store, "a");
		struct view *view = open_view(f, "a");
		assert_int_equal(do_request(f, view, REQUEST_READ, 0, 4096, data, 0), 0);
		assert_int_equal(volume->epoch, epoch); /* reading changes nothing */
		memcpy(before, volume->incarnation, 16);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, 4096, data, 0), 0);
		assert_int_equal(volume->epoch, epoch + 1);
		assert_memory_not_equal(before, volume->incarnation, 16);
		memcpy(before, volume->incarnation, 16);
		assert_int_equal(do_request(f, view, REQUEST_ZERO, 0, 8192, NULL, 0), 0);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 100, 50, data, 0), 0);
		assert_int_equal(volume->epoch, epoch + 1);
		store_view_close(view);
		fixture_close(f);
		fixture_open(f);
		volume = volume_by_name(f->store, "a");
		assert_int_equal(volume->epoch, epoch + 1);
		assert_memory_equal(before, volume->incarnation, 16);
	}
	free(data);
}

/* The durable record comes first: writes of one pass wait for it together, and all are answered. */
static void writes_that_come_together_wait_for_one_record(void **state)
{
	struct fixture *f = *state;
	struct store_request requests[16];
	uint8_t *data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	memset(data, 9, BLOCK_BYTES);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	struct view *view = open_view(f, "a");
	for (unsigned i = 0; i < 16; i++) {
		requests[i] = (struct store_request){.view = view,
						     .kind = REQUEST_WRITE,
						     .offset_bytes = i * (uint64_t)BLOCK_BYTES,
						     .length_bytes = BLOCK_BYTES,
						     .data = data};
		env_wait_prepare(&requests[i].op);
		store_submit(&requests[i]);
	}
	const struct volume *volume = volume_by_name(f->store, "a");
	assert_int_equal(volume->admitted_vseq, 0); /* none has a place yet */
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(env_wait(f->env, &requests[i].op), 0);
	assert_int_equal(volume->epoch, 2);
	assert_int_equal(volume->vseq, 16);
	store_view_close(view);
	free(data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_opening_that_writes_raises_the_epoch_once),
		CASE(writes_that_come_together_wait_for_one_record),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
