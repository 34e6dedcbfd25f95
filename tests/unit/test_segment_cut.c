/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The power goes at every step of a seal, and each thing that is in doubt then, in turn, is the
 * only one that does not reach the disk, or the only one that does. Whatever is left: a directory
 * that loads names only records that are whole. An opening believes it, and a chunk that it names
 * is not stored again.
 */
#include "tests/unit/unit.h"

#include "proto/crc32c.h"
#include "storage/store/codec.h"
#include "storage/store/segment.h"
#include "tests/sim/simenv.h"

#define RECORDS 20u /* together they are written in several parts */
#define STEPS_MAX 1000u

struct fixture {
	struct sim *sim;
	struct env *env;
	struct env_dir *dir;
	struct env_file *file;
	struct segment_name name;
	struct segment_writer *writer;
	struct io_op seal;
	bool sealed;
};

static struct cut_totals {
	unsigned loaded, not_loaded, cuts;
} totals;

static void room_again(void *arg)
{
	(void)arg;
}

static void seal_done(struct io_op *op)
{
	struct fixture *f = container_of(op, struct fixture, seal);
	assert_int_equal(op->res, 0);
	f->sealed = true;
}

static void append(struct fixture *f, unsigned number)
{
	static uint8_t stored[RECORD_QUARTERS_BYTES + CHUNK_BYTES];
	struct dir_entry entry = {
		.type = RECORD_CHUNK, .domain = 1, .raw_bytes = CHUNK_BYTES, .frame_count = 1};
	uint8_t *frame = stored + RECORD_QUARTERS_BYTES;
	uint64_t end, seed = number + 1;
	for (unsigned i = 0; i < CHUNK_BYTES; i++)
		frame[i] = (uint8_t)test_random(&seed);
	memset(&entry.id, (int)number + 1, sizeof entry.id);
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX] = {
		{.codec = FRAME_RAW,
		 .stored_bytes = CHUNK_BYTES,
		 .crc = crc32c(codec_crc_seed(&entry.id, 0), frame, CHUNK_BYTES)}};
	while (segment_room(f->writer, sizeof stored) != 0)
		assert_true(env_step(f->env, true));
	segment_append(f->writer, &entry, frames, stored, sizeof stored, &end);
}

/* All is appended, nobody waited for it, and the seal has begun. */
static void begin(struct fixture *f)
{
	*f = (struct fixture){.name = {.uuid = {3}, .id = 17, .slot = 2}};
	f->sim = sim_new(1);
	f->env = sim_env(f->sim);
	assert_int_equal(env_dir_open(f->env, "store", &f->dir), 0);
	assert_int_equal(env_file_open(f->dir, "segment", ENV_CREATE | ENV_DIRECT, &f->file), 0);
	assert_int_equal(segment_create(f->env, f->file, &f->name), 0);
	assert_int_equal(env_dir_sync_wait(f->dir), 0);
	assert_int_equal(segment_writer_new(f->env, f->file, &f->name, room_again, f, &f->writer),
			 0);
	for (unsigned i = 0; i < RECORDS; i++)
		append(f, i);
	f->seal.done = seal_done;
	segment_seal(f->writer, &f->seal);
}

static void end(struct fixture *f)
{
	env_file_close(f->file);
	env_dir_close(f->dir);
	sim_free(f->sim);
}

/* Every record that the directory names. */
static void records_whole(struct fixture *f, struct directory *directory)
{
	uint64_t bytes;
	const uint8_t *data = sim_file_look(f->sim, "segment", &bytes);
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		const uint8_t *from = data + (uint64_t)entry->offset64 * RECORD_ALIGN;
		assert_true(record_frames_whole(entry, &directory->frames[entry->frame_first],
						from + record_header_bytes(entry->frame_count) +
							record_prefix_bytes(entry->type)));
	}
}

/* Returns how many things were in doubt. */
static uint32_t cut(unsigned steps, const struct sim_crash_plan *plan, bool *ret_sealed)
{
	struct fixture f;
	struct directory *directory;
	begin(&f);
	for (unsigned i = 0; i < steps && !f.sealed; i++)
		assert_true(env_step(f.env, true));
	*ret_sealed = f.sealed;
	uint32_t doubts = sim_crash_planned(f.sim, plan);
	segment_writer_abandon(f.writer);
	int res = segment_load(f.env, f.file, &f.name, &directory);
	if (res == 0) {
		records_whole(&f, directory);
		assert_int_equal(directory->entry_count, RECORDS);
		directory_free(directory);
	}
	assert_true(res == 0 || !*ret_sealed); /* what was said to be sealed is */
	*(res == 0 ? &totals.loaded : &totals.not_loaded) += 1;
	totals.cuts++;
	end(&f);
	return doubts;
}

static void a_seal_that_is_cut_names_no_record_that_is_not_there(void **state)
{
	(void)state;
	bool sealed = false;
	for (unsigned steps = 0; !sealed; steps++) {
		assert_true(steps < STEPS_MAX);
		struct sim_crash_plan plan = {
			.power_cut = true, .fate = SIM_KEPT, .one = UINT32_MAX};
		uint32_t doubts = cut(steps, &plan, &sealed);
		for (plan.one = 0; plan.one < doubts; plan.one++) {
			plan.fate = SIM_KEPT;
			plan.fate_of_one = SIM_DROPPED;
			cut(steps, &plan, &sealed);
			plan.fate_of_one = SIM_TORN;
			cut(steps, &plan, &sealed);
			plan.fate = SIM_DROPPED;
			plan.fate_of_one = SIM_KEPT;
			cut(steps, &plan, &sealed);
		}
	}
	print_message("%u cuts: %u left a segment that loads, %u one that is scanned\n",
		      totals.cuts, totals.loaded, totals.not_loaded);
	assert_true(totals.loaded > 1 && totals.not_loaded > 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_seal_that_is_cut_names_no_record_that_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
