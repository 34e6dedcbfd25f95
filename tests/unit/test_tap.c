/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves for followers: each record of a tapped volume, in the order of the log, and early. */
#include "tests/unit/store_fixture.h"

#include "storage/store/catalog.h"
#include "storage/store/store_int.h"

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

struct order {
	struct store *store;
	const struct volume *volume;
	uint64_t last;
	unsigned records, misplaced, early, again, grown;
};

static void order_record(void *owner, const struct store_tap_record *record)
{
	struct order *order = owner;
	if (record->position.vseq <= order->last) {
		order->again++; /* it has taken effect now */
		return;
	}
	order->misplaced += record->position.vseq != order->last + 1;
	order->last = record->position.vseq;
	order->records++;
	order->early += record->position.vseq > order->volume->vseq;
}

static void order_committed(void *owner)
{
}

static void order_broken(void *owner, uint32_t volume)
{
	struct order *order = owner;
	order->last++; /* the change's own */
	order->grown++;
	store_tap(order->store, volume, true);
}

static const struct store_tap_ops order_ops = {order_record, order_committed, order_broken};

static void tap(struct fixture *f, struct order *order, const struct volume *volume)
{
	order->store = f->store;
	order->volume = volume;
	order->last = volume->vseq;
	store_set_tap(f->store, &order_ops, order);
	assert_int_equal(store_tap(f->store, volume->number, true), 0);
}

static void write_begin(struct fixture *f, struct store_request *request, struct view *view,
			uint64_t block, void *data)
{
	*request = (struct store_request){.view = view,
					  .kind = REQUEST_WRITE,
					  .offset_bytes = block * BLOCK_BYTES,
					  .length_bytes = BLOCK_BYTES,
					  .data = data};
	env_wait_prepare(&request->op);
	store_submit(request);
}

/* Volume a, written to before, and tapped from now on. */
struct tapped {
	struct view *view;
	uint8_t *data; /* a block */
	struct order order;
};

static void tapped_begin(struct fixture *f, struct tapped *tapped)
{
	*tapped = (struct tapped){.data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES)};
	memset(tapped->data, 5, BLOCK_BYTES);
	assert_int_equal(make_volume(f, "a", MIB), 0);
	tapped->view = open_view(f, "a");
	assert_int_equal(
		do_request(f, tapped->view, REQUEST_WRITE, 0, BLOCK_BYTES, tapped->data, 0), 0);
	tap(f, &tapped->order, volume_by_name(f->store, "a"));
}

static void tapped_end(struct fixture *f, struct tapped *tapped)
{
	store_set_tap(f->store, NULL, NULL);
	store_view_close(tapped->view);
	free(tapped->data);
}

/* So that followers write it while we do. */
static void a_record_leaves_before_it_has_taken_effect(void **state)
{
	struct fixture *f = *state;
	struct store_request requests[4];
	struct tapped t;
	tapped_begin(f, &t);
	for (unsigned i = 0; i < 4; i++)
		write_begin(f, &requests[i], t.view, i, t.data);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(env_wait(f->env, &requests[i].op), 0);
	assert_int_equal(t.order.records, 4);
	assert_int_equal(t.order.early, 4);
	assert_int_equal(t.order.again, 4);
	assert_int_equal(t.order.misplaced, 0);
	tapped_end(f, &t);
}

static void what_was_under_way_when_it_was_tapped_is_handed_out_too(void **state)
{
	struct fixture *f = *state;
	struct store_request request, next;
	struct order order = {0};
	struct tapped t;
	tapped_begin(f, &t);
	write_begin(f, &request, t.view, 1, t.data);
	while (!t.order.early)
		env_step(f->env, false);
	assert_int_equal(t.order.again, 0);
	tap(f, &order, t.order.volume); /* another one comes now */
	write_begin(f, &next, t.view, 2, t.data);
	assert_int_equal(env_wait(f->env, &request.op), 0);
	assert_int_equal(env_wait(f->env, &next.op), 0);
	assert_int_equal(order.records, 2);
	assert_int_equal(order.early, 1);
	assert_int_equal(order.misplaced, 0);
	tapped_end(f, &t);
}

/* It may come at any moment: each vseq is of one thing, and they are in the order of the log. */
static void a_volume_that_grows_among_writes_takes_a_vseq_in_their_order(void **state)
{
	enum { WRITES = 64, ROUNDS = 16 };
	struct fixture *f = *state;
	struct store_request requests[WRITES];
	struct order order = {0};
	uint8_t *data = aligned_alloc(BLOCK_BYTES, 2 * CHUNK_BYTES);
	test_random_fill(&f->seed, data, 2 * CHUNK_BYTES);
	assert_int_equal(make_volume(f, "a", 64 * MIB), 0);
	struct view *view = open_view(f, "a");
	const struct volume *volume = volume_by_name(f->store, "a");
	tap(f, &order, volume);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < WRITES; i++) {
			uint64_t unit = i % 3 == 0 ? CHUNK_BYTES : BLOCK_BYTES;
			requests[i] = (struct store_request){
				.view = view,
				.kind = REQUEST_WRITE,
				.offset_bytes = test_random(&f->seed) % (32 * MIB / unit) * unit,
				.length_bytes = unit,
				.data = data + test_random(&f->seed) % 16 * BLOCK_BYTES};
			env_wait_prepare(&requests[i].op);
			store_submit(&requests[i]);
		}
		assert_int_equal(DO(f, store_volume_grow, "a", (65 + round) * MIB), 0);
		for (unsigned i = 0; i < WRITES; i++)
			assert_int_equal(env_wait(f->env, &requests[i].op), 0);
	}
	assert_int_equal(order.misplaced, 0);
	assert_int_equal(order.grown, ROUNDS);
	assert_true(order.records >= WRITES * ROUNDS);
	assert_int_equal(volume->vseq, order.last);
	assert_true(order.early > order.records / 2);
	store_set_tap(f->store, NULL, NULL);
	store_view_close(view);
	free(data);
}

static void filler_done(struct log_entry *entry, int res)
{
}

/* Its record finds no room in the commit; what is written meanwhile comes before it, without a gap.
 */
static void a_volume_that_waits_to_grow_takes_no_vseq_yet(void **state)
{
	enum { FILLERS = 200, FILLER_BYTES = 240 }; /* what is left is too little */
	struct fixture *f = *state;
	struct log_entry fillers[FILLERS] = {{.done = NULL}};
	struct store_request first, write;
	struct admin_op grow = {0};
	struct tapped t;
	uint8_t record[FILLER_BYTES];
	tapped_begin(f, &t);
	write_begin(f, &first, t.view, 1, t.data);
	while (!t.order.early)
		env_step(f->env, false);
	/* Behind the commit that is under way one gathers that is full. */
	record_number(LOG_BARRIER, 0, record);
	for (unsigned i = 0; log_room(f->store->log, FILLER_BYTES, 0, true); i++) {
		assert_true(i < FILLERS);
		fillers[i].done = filler_done;
		log_append(f->store->log, &fillers[i], record, FILLER_BYTES, NULL, 0, false);
	}
	env_wait_prepare(&grow.op);
	store_volume_grow(f->store, &grow, "a", 2 * MIB);
	write_begin(f, &write, t.view, 2, t.data);
	assert_int_equal(env_wait(f->env, &grow.op), 0);
	assert_int_equal(env_wait(f->env, &first.op), 0);
	assert_int_equal(env_wait(f->env, &write.op), 0);
	assert_int_equal(t.order.misplaced, 0);
	assert_int_equal(t.order.grown, 1);
	assert_int_equal(t.order.records, 2);
	tapped_end(f, &t);
}

/* It gave its volume up, was a copy, and is the volume again: what left before says nothing. */
static void who_stands_further_back_than_before_leaves_early_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct tapped t;
	tapped_begin(f, &t);
	store_set_tap(f->store, NULL, NULL);
	volume_by_name(f->store, "a")->tapped_vseq = 100;
	tap(f, &t.order, t.order.volume);
	assert_int_equal(do_request(f, t.view, REQUEST_WRITE, 0, BLOCK_BYTES, t.data, 0), 0);
	assert_int_equal(t.order.records, 1);
	assert_int_equal(t.order.early, 1);
	tapped_end(f, &t);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		CASE(a_record_leaves_before_it_has_taken_effect),
		CASE(what_was_under_way_when_it_was_tapped_is_handed_out_too),
		CASE(a_volume_that_waits_to_grow_takes_no_vseq_yet),
		CASE(who_stands_further_back_than_before_leaves_early_all_the_same),
		CASE(a_volume_that_grows_among_writes_takes_a_vseq_in_their_order),
	};
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc > 1 ? atoi(argv[1]) : 0;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
