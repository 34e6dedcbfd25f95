/* SPDX-License-Identifier: Apache-2.0 */
/* A segment on a real file: appended, made durable, sealed, loaded; and found again when it was not
 * sealed. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/segment.h"

#include <errno.h>
#include <unistd.h>

#define RECORDS_MAX 4000u

struct fixture {
	struct env *env;
	struct env_dir *dir;
	struct env_file *file;
	struct codec *codec;
	struct segment_writer *writer;
	struct segment_name name;
	struct domain_key key;
	char path[64];
	unsigned room_again;
	uint64_t seeds[RECORDS_MAX], ends[RECORDS_MAX];
	uint32_t offsets[RECORDS_MAX], count;
};

static void room_again(void *arg)
{
	((struct fixture *)arg)->room_again++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *sentence;
	snprintf(f->path, sizeof f->path, "./test-segment.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(
		env_real_new(&(struct env_real_options){.worker_count = 1}, &f->env, &sentence), 0);
	assert_int_equal(env_dir_open(f->env, f->path, &f->dir), 0);
	assert_int_equal(env_file_open(f->dir, "segment", ENV_CREATE | ENV_DIRECT, &f->file), 0);
	f->name = (struct segment_name){.uuid = {3}, .id = 17, .slot = 2};
	f->codec = codec_new(1);
	assert_int_equal(segment_create(f->env, f->file, &f->name), 0);
	assert_int_equal(segment_writer_new(f->env, f->file, &f->name, room_again, f, &f->writer),
			 0);
	*state = f;
	return 0;
}

static void settle(struct fixture *f)
{
	while (!segment_writer_idle(f->writer))
		env_step(f->env, true);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	settle(f);
	segment_writer_free(f->writer);
	codec_free(f->codec);
	env_file_close(f->file);
	env_file_remove_wait(f->dir, "segment");
	env_dir_close(f->dir);
	env_real_free(f->env);
	int res = rmdir(f->path);
	free(f);
	return res;
}

static uint8_t chunk[CHUNK_BYTES], stored[CHUNK_BYTES + 512];

static void chunk_make(uint64_t seed)
{
	uint64_t spread = 1 + seed % 60; /* from hardly to well compressible */
	for (unsigned i = 0; i < CHUNK_BYTES; i++)
		chunk[i] = (uint8_t)(test_random(&seed) % spread);
}

/* 0, or what segment_room said. */
static int append(struct fixture *f, uint64_t seed)
{
	struct dir_entry entry = {
		.type = RECORD_CHUNK, .domain = 1, .raw_bytes = CHUNK_BYTES, .frame_count = 4};
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	chunk_make(seed);
	codec_id_chunk(&f->key, chunk, &entry.id);
	memset(stored, 0, RECORD_QUARTERS_BYTES);
	int64_t bytes = RECORD_QUARTERS_BYTES +
			codec_encode(f->codec, 0, 1, 16384, chunk, CHUNK_BYTES, &entry.id,
				     stored + RECORD_QUARTERS_BYTES, frames);
	int res = segment_room(f->writer, (uint32_t)bytes);
	if (res < 0)
		return res;
	assert_true(f->count < RECORDS_MAX);
	f->seeds[f->count] = seed;
	f->offsets[f->count] = segment_append(f->writer, &entry, frames, stored, (uint32_t)bytes,
					      &f->ends[f->count]);
	f->count++;
	return 0;
}

static void append_many(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count;) {
		int res = append(f, 1000 + f->count);
		assert_true(res == 0 || res == -EAGAIN);
		i += res == 0;
		if (res == -EAGAIN || i % 3 == 0)
			env_step(f->env, res == -EAGAIN);
	}
}

static int64_t durable(struct fixture *f, uint64_t end)
{
	struct durable_wait wait = {0};
	env_wait_prepare(&wait.op);
	segment_wait_durable(f->writer, &wait, end);
	return env_wait(f->env, &wait.op);
}

/* Reads record `i` from the file by its directory entry and compares the chunk. */
static void compare(struct fixture *f, struct directory *directory, uint32_t i)
{
	static uint8_t window[160 * 1024], back[CHUNK_BYTES];
	const struct dir_entry *entry = directory_find(directory, f->offsets[i]);
	assert_non_null(entry);
	uint64_t at = (uint64_t)f->offsets[i] * RECORD_ALIGN;
	uint8_t *buf = env_memory(f->env, sizeof window);
	assert_true(env_file_read_wait(f->file, buf, sizeof window, round_down(at, BLOCK_BYTES)) >
		    0);
	const uint8_t *from = buf + at % BLOCK_BYTES + record_header_bytes(entry->frame_count) +
			      RECORD_QUARTERS_BYTES;
	for (unsigned frame = 0; frame < entry->frame_count; frame++) {
		const struct frame_entry *fe = &directory->frames[entry->frame_first + frame];
		assert_int_equal(codec_decode(f->codec, 0, fe, frame, &entry->id, from,
					      back + (size_t)frame * 16384, 16384),
				 0);
		from += fe->stored_bytes;
	}
	env_memory_free(f->env, buf, sizeof window);
	chunk_make(f->seeds[i]);
	assert_memory_equal(back, chunk, CHUNK_BYTES);
}

static void what_is_durable_can_be_read_from_the_file(void **state)
{
	struct fixture *f = *state;
	append_many(f, 60);
	assert_int_equal(durable(f, f->ends[59]), 0);
	assert_true(segment_durable_end(f->writer) >= f->ends[59]);
	for (uint32_t i = 0; i < 60; i++)
		compare(f, segment_directory(f->writer), i);
}

struct waiting {
	struct durable_wait wait;
	bool ended;
};

static void waiting_ended(struct io_op *op)
{
	struct waiting *waiting = container_of(op, struct waiting, wait);
	assert_int_equal(op->res, 0);
	waiting->ended = true;
}

/* Each is waited for, as a guest's large writes are; only the last one may cost a part of a block.
 */
static void records_that_keep_coming_lie_without_gaps(void **state)
{
	struct fixture *f = *state;
	struct waiting waiting[60] = {0};
	segment_expect(f->writer, true);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(append(f, 1000 + i), 0);
		waiting[i].wait.op.done = waiting_ended;
		segment_wait_durable(f->writer, &waiting[i].wait, f->ends[i]);
		settle(f);
		assert_true(i < 30 || waiting[i - 30].ended); /* nobody waits for long */
		if (i > 0)
			assert_int_equal((uint64_t)f->offsets[i] * RECORD_ALIGN, f->ends[i - 1]);
	}
	assert_false(waiting[59].ended);
	segment_expect(f->writer, false);
	settle(f);
	for (unsigned i = 0; i < 60; i++) {
		assert_true(waiting[i].ended);
		compare(f, segment_directory(f->writer), i);
	}
}

/* Those that keep coming may all be found elsewhere: a guest's new data does not wait for them. */
static void records_that_never_come_keep_nobody_waiting(void **state)
{
	struct fixture *f = *state;
	struct waiting waiting = {.wait.op.done = waiting_ended};
	segment_expect(f->writer, true);
	assert_int_equal(append(f, 1000), 0);
	segment_wait_durable(f->writer, &waiting.wait, f->ends[0]);
	settle(f);
	assert_false(waiting.ended);
	for (unsigned i = 0; i < 256; i++)
		segment_expect(f->writer, true);
	settle(f);
	assert_true(waiting.ended);
	compare(f, segment_directory(f->writer), 0);
}

static void a_sealed_segment_loads_with_every_record(void **state)
{
	struct fixture *f = *state;
	struct io_op seal = {0};
	struct directory *directory;
	append_many(f, 200);
	assert_int_equal(segment_load(f->env, f->file, &f->name, &directory),
			 -VS_EFORMAT); /* not yet */
	env_wait_prepare(&seal);
	segment_seal(f->writer, &seal);
	assert_int_equal(env_wait(f->env, &seal), 0);
	assert_true(env_file_bytes(f->file) < (int64_t)(16 * MIB)); /* cut */
	assert_int_equal(segment_load(f->env, f->file, &f->name, &directory), 0);
	assert_int_equal(directory->entry_count, 200);
	for (uint32_t i = 0; i < 200; i += 7)
		compare(f, directory, i);
	directory_free(directory);
	struct segment_name other = f->name;
	other.id++;
	assert_int_equal(segment_load(f->env, f->file, &other, &directory), -VS_EFORMAT);
}

static void a_full_segment_says_so_and_fits_its_bound(void **state)
{
	struct fixture *f = *state;
	struct io_op seal = {0};
	struct directory *directory;
	int res;
	while ((res = append(f, 59)) !=
	       -ENOSPC) { /* the same data: quick, and not deduplicated here */
		assert_true(res == 0 || res == -EAGAIN);
		if (res == -EAGAIN)
			env_step(f->env, true);
	}
	assert_true(f->ends[f->count - 1] <= SEGMENT_BYTES);
	assert_true(f->ends[f->count - 1] > SEGMENT_BYTES - 2 * CHUNK_BYTES);
	assert_true(f->room_again > 0);
	env_wait_prepare(&seal);
	segment_seal(f->writer, &seal);
	assert_int_equal(env_wait(f->env, &seal), 0);
	assert_int_equal(segment_load(f->env, f->file, &f->name, &directory), 0);
	assert_int_equal(directory->entry_count, f->count);
	compare(f, directory, f->count - 1);
	directory_free(directory);
}

static void an_unsealed_segment_is_scanned_and_sealed(void **state)
{
	struct fixture *f = *state;
	struct directory *directory, *loaded;
	uint64_t end;
	for (unsigned batch = 0; batch < 12; batch++) { /* forced blocks leave gaps of zeros */
		append_many(f, 1 + batch % 4);
		assert_int_equal(durable(f, f->ends[f->count - 1]), 0);
	}
	assert_int_equal(segment_scan(f->env, f->file, &f->name, false, &directory, &end), 0);
	assert_int_equal(directory->entry_count, f->count);
	for (uint32_t i = 0; i < f->count; i++)
		compare(f, directory, i);
	assert_int_equal(segment_seal_scanned(f->env, f->file, &f->name, directory, end), 0);
	assert_int_equal(segment_load(f->env, f->file, &f->name, &loaded), 0);
	assert_int_equal(loaded->entry_count, f->count);
	directory_free(loaded);
	directory_free(directory);
}

static void a_torn_record_ends_the_scan_before_it(void **state)
{
	struct fixture *f = *state;
	struct directory *directory;
	uint64_t end;
	append_many(f, 20);
	assert_int_equal(durable(f, f->ends[19]), 0);
	uint64_t at =
		round_down(f->ends[19] - 200, BLOCK_BYTES); /* inside the last record's frames */
	uint8_t *block = env_memory(f->env, BLOCK_BYTES);
	assert_true(env_file_read_wait(f->file, block, BLOCK_BYTES, at) == BLOCK_BYTES);
	block[0] ^= 1;
	assert_true(env_file_write_wait(f->file, block, BLOCK_BYTES, at) == BLOCK_BYTES);
	env_memory_free(f->env, block, BLOCK_BYTES);
	assert_int_equal(segment_scan(f->env, f->file, &f->name, false, &directory, &end), 0);
	assert_int_equal(directory->entry_count, 19);
	assert_true(end == round_up(f->ends[18], BLOCK_BYTES));
	directory_free(directory);
}

static void after_a_failed_write_nothing_is_promised(void **state)
{
	struct fixture *f = *state;
	struct env_file *writable = f->file;
	struct io_op seal = {0};
	segment_writer_free(f->writer);
	assert_int_equal(env_file_open(f->dir, "segment", ENV_RDONLY | ENV_DIRECT, &f->file), 0);
	assert_int_equal(segment_writer_new(f->env, f->file, &f->name, room_again, f, &f->writer),
			 0);
	assert_int_equal(append(f, 1), 0);
	assert_int_equal(durable(f, f->ends[0]), -EBADF);
	assert_int_equal(append(f, 2), -EBADF);
	assert_int_equal(durable(f, f->ends[0]), -EBADF);
	settle(f);
	segment_writer_free(f->writer);
	assert_int_equal(segment_writer_new(f->env, f->file, &f->name, room_again, f, &f->writer),
			 0);
	f->count = 0;
	assert_int_equal(append(f, 1), 0);
	env_wait_prepare(&seal);
	segment_seal(f->writer, &seal);
	assert_int_equal(env_wait(f->env, &seal), -EBADF);
	env_file_close(writable);
}

int main(void)
{
#define SEGMENT_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		SEGMENT_TEST(what_is_durable_can_be_read_from_the_file),
		SEGMENT_TEST(records_that_keep_coming_lie_without_gaps),
		SEGMENT_TEST(records_that_never_come_keep_nobody_waiting),
		SEGMENT_TEST(a_sealed_segment_loads_with_every_record),
		SEGMENT_TEST(a_full_segment_says_so_and_fits_its_bound),
		SEGMENT_TEST(an_unsealed_segment_is_scanned_and_sealed),
		SEGMENT_TEST(a_torn_record_ends_the_scan_before_it),
		SEGMENT_TEST(after_a_failed_write_nothing_is_promised),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
