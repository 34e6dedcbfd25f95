/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scan of a store's files (tests/sim/scan.c) judges what the store claims, so it counts what
 * the format counts: a record that a crash left in part is none.
 */
#include "tests/unit/unit.h"

#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/store_work.h"
#include "tests/sim/scan.h"

#define CHUNKS 8u

int vstore_mutant;

struct fixture {
	struct sim *sim;
	struct store *store;
	struct view *view;
	char sentence[SENTENCE_BYTES];
};

static void store_opened(struct fixture *f)
{
	struct store_options options = {.scrub_period_ns = UINT64_MAX};
	assert_int_equal(store_open(sim_env(f->sim), "store", &options, &f->store, f->sentence), 0);
}

static void begin(struct fixture *f)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct volume_options options = {.size_bytes = CHUNKS * (uint64_t)CHUNK_BYTES};
	struct admin_op op = {0};
	*f = (struct fixture){.sim = sim_new(1)};
	assert_int_equal(store_make(sim_env(f->sim), "store", &make, f->sentence), 0);
	store_opened(f);
	env_wait_prepare(&op.op);
	store_volume_create(f->store, &op, "a", &options);
	assert_int_equal(env_wait(sim_env(f->sim), &op.op), 0);
	assert_int_equal(store_view_open(f->store, "a", &f->view), 0);
}

static void end(struct fixture *f)
{
	store_abandon(f->store);
	sim_free(f->sim);
}

/* Chunks that compress to little share the blocks of a segment; their nodes come behind them. */
static void chunks_store(struct fixture *f)
{
	static uint8_t data[CHUNKS * CHUNK_BYTES] __attribute__((aligned(4096)));
	struct store_request request = {
		.view = f->view, .kind = REQUEST_WRITE, .data = data, .length_bytes = sizeof data};
	struct store_work work = {0};
	for (unsigned i = 0; i < CHUNKS; i++)
		memset(data + i * (size_t)CHUNK_BYTES, (int)i + 1, CHUNK_BYTES);
	env_wait_prepare(&request.op);
	store_submit(&request);
	assert_int_equal(env_wait(sim_env(f->sim), &request.op), 0);
	env_wait_prepare(&work.op);
	store_fold(f->store, &work, NULL);
	assert_int_equal(env_wait(sim_env(f->sim), &work.op), 0);
}

/* The last one of several in a block of the open segment: what is behind it begins a block. */
static bool record_find(const struct scan *scan, char name[32], uint64_t *ret_at)
{
	for (size_t i = 0; i < scan->segment_count; i++) {
		const struct scan_segment *segment = &scan->segments[i];
		for (uint32_t r = 0; r + 1 < segment->record_count && !segment->sealed; r++) {
			const struct scan_record *record = &segment->records[r];
			uint64_t at = record->offset64 * 64ull;
			uint64_t next = segment->records[r + 1].offset64 * 64ull;
			snprintf(name, 32, "%016llx", (unsigned long long)segment->id);
			*ret_at = at;
			if (at % BLOCK_BYTES && at % BLOCK_BYTES + record->bytes <= BLOCK_BYTES &&
			    next % BLOCK_BYTES == 0)
				return true;
		}
	}
	return false;
}

/* A bit of the record did not arrive: of its header, or of its frame. */
static void torn_is_none(bool header)
{
	struct fixture f;
	struct scan scan;
	struct store_info info;
	char name[32];
	uint64_t at = 0;
	begin(&f);
	scan_init(&scan, f.sim);
	chunks_store(&f);
	assert_null(scan_run(&scan, f.store));
	assert_true(record_find(&scan, name, &at));
	uint64_t whole = scan.records;
	scan_done(&scan);

	store_view_close(f.view);
	sim_crash(f.sim, false);
	store_abandon(f.store);
	uint64_t file_bytes;
	unsigned frames = sim_file_look(f.sim, name, &file_bytes)[at + 5];
	uint64_t domain = at + 40, data = at + 52 + 8ull * frames + 128;
	sim_flip(f.sim, name, header ? domain : data);
	store_opened(&f);
	while (!index_loaded(f.store))
		assert_true(env_step(sim_env(f.sim), true));

	scan_init(&scan, f.sim);
	const char *failed = scan_run(&scan, f.store); /* it was named */
	store_info(f.store, &info);
	assert_int_equal(info.chunk_count, whole - 1);
	assert_int_equal(scan.records, info.chunk_count);
	assert_non_null(failed);
	scan_done(&scan);
	end(&f);
}

static void test_header_torn(void **state)
{
	(void)state;
	torn_is_none(true);
}

static void test_frame_torn(void **state)
{
	(void)state;
	torn_is_none(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_header_torn),
					   cmocka_unit_test(test_frame_torn)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
