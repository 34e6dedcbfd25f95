/* SPDX-License-Identifier: Apache-2.0 */
/* The index's files on a real store: what opening reads, and what damage to them costs. */
#include "tests/unit/store_fixture.h"

#include "storage/store/index_file.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DATA_BYTES (24 * MIB)

struct filled {
	uint8_t *data;
	uint64_t chunk_count;
};

/* A volume of data that does not repeat, folded, in a store that was closed. */
static struct filled fill_and_close(struct fixture *f)
{
	struct store_info info;
	struct store_work work;
	struct filled filled = {.data = aligned_alloc(BLOCK_BYTES, DATA_BYTES)};
	for (uint64_t i = 0; i < DATA_BYTES / 8; i++)
		((uint64_t *)(void *)filled.data)[i] = test_random(&f->seed);
	assert_int_equal(make_volume(f, "a", DATA_BYTES), 0);
	struct view *view = open_view(f, "a");
	for (uint64_t at = 0; at < DATA_BYTES; at += MIB)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, MIB, filled.data + at, 0),
				 0);
	assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	store_view_close(view);
	store_info(f->store, &info);
	filled.chunk_count = info.chunk_count;
	fixture_close(f);
	return filled;
}

static void read_all(struct fixture *f, const struct filled *filled)
{
	uint8_t *got = aligned_alloc(BLOCK_BYTES, DATA_BYTES);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, DATA_BYTES, got, 0), 0);
	assert_memory_equal(got, filled->data, DATA_BYTES);
	store_view_close(view);
	free(got);
}

static uint64_t check_damaged(struct fixture *f)
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_check(f->store, &work);
	assert_int_equal(env_wait(f->env, &work.op), 0);
	return work.damaged;
}

static const char *used_file(struct fixture *f)
{
	return index_file_name(f->store->index_generation);
}

static void opening_reads_no_directory_that_the_index_has(void **state)
{
	struct fixture *f = *state;
	struct filled filled = fill_and_close(f);
	struct store_info info;
	char name[40] = "seg/";
	segment_file_name(1, name + 4);
	flip(f, name, -1); /* its trailer: a directory that is looked at would be refused */
	fixture_open(f);
	store_info(f->store, &info);
	assert_int_equal(info.chunk_count, filled.chunk_count);
	assert_int_equal(info.lost_segments, 0);
	assert_true(segment_of(f->store, 1)->indexed && !segment_of(f->store, 1)->directory);
	flip(f, name, -1);
	read_all(f, &filled);
	assert_int_equal(check_damaged(f), 0);
	free(filled.data);
}

static void a_damaged_page_is_taken_from_the_directories(void **state)
{
	struct fixture *f = *state;
	struct filled filled = fill_and_close(f);
	struct store_counters counters;
	for (unsigned file = 0; file < 2; file++) { /* whichever is used */
		char path[160];
		snprintf(path, sizeof path, "%s/%s", f->path, index_file_name(file));
		for (int i = 0; i < 40 && access(path, F_OK) == 0; i++)
			flip(f, index_file_name(file), INDEX_PAGES_OFFSET + 8 * i);
	}
	fixture_open(f);
	read_all(f, &filled);
	check_damaged(f); /* waits for all pages */
	store_counters(f->store, &counters);
	/* 40 entries changed; ids are random, and now and then two of them share a page */
	assert_true(counters.index_pages_damaged >= 20 && counters.index_pages_damaged <= 40);
	fixture_close(f);
	fixture_open(f); /* from a file that was written anew */
	read_all(f, &filled);
	assert_int_equal(check_damaged(f), 0);
	store_counters(f->store, &counters);
	assert_int_equal(counters.index_pages_damaged, 0);
	free(filled.data);
}

static void heads_that_are_gone_or_damaged_only_cost_time(void **state)
{
	struct fixture *f = *state;
	struct filled filled = fill_and_close(f);
	struct store_info info;
	for (int how = 0; how < 3; how++) {
		char path[160];
		for (int i = 0; i < 2; i++) {
			snprintf(path, sizeof path, "%s/index.%d", f->path, i);
			if (access(path, F_OK) != 0)
				continue;
			if (how == 0)
				flip(f, path + strlen(f->path) + 1, 40);
			else if (how == 1)
				assert_int_equal(unlink(path), 0);
			else
				assert_int_equal(truncate(path, 5000), 0);
		}
		fixture_open(f);
		store_info(f->store, &info);
		assert_int_equal(info.chunk_count, filled.chunk_count);
		read_all(f, &filled);
		assert_int_equal(check_damaged(f), 0);
		fixture_close(f);
	}
	fixture_open(f);
	free(filled.data);
}

static void a_check_names_a_damaged_file_and_has_it_written_anew(void **state)
{
	struct fixture *f = *state;
	struct filled filled = fill_and_close(f);
	fixture_open(f);
	assert_int_equal(check_damaged(f), 0);
	flip(f, used_file(f), INDEX_PAGES_OFFSET + 9);
	assert_true(check_damaged(f) >= 1);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(check_damaged(f), 0);
	read_all(f, &filled);
	free(filled.data);
}

static void heads_of_any_bytes_are_refused(void **state)
{
	struct fixture *f = *state;
	uint8_t uuid[16] = "0123456789abcdef", *file = calloc(1, INDEX_PAGES_OFFSET);
	struct index_header header = {.generation = 1, .next_segment_id = 2};
	struct index_head head;
	header.segments_offset = INDEX_PAGES_OFFSET;
	index_header_encode(uuid, &header, file); /* its table has another checksum */
	assert_int_equal(index_head_decode(uuid, file, &head), -VS_ECHECKSUM);
	header.segments_offset += 512;
	index_header_encode(uuid, &header, file);
	assert_int_equal(index_head_decode(uuid, file, &head), -VS_EFORMAT);
	for (unsigned i = 0; i < 2000; i++) {
		file[test_random(&f->seed) % INDEX_HEADER_BYTES] ^= 1 + test_random(&f->seed) % 255;
		assert_true(index_head_decode(uuid, file, &head) < 0);
	}
	free(file);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(opening_reads_no_directory_that_the_index_has),
		CASE(a_damaged_page_is_taken_from_the_directories),
		CASE(heads_that_are_gone_or_damaged_only_cost_time),
		CASE(a_check_names_a_damaged_file_and_has_it_written_anew),
		CASE(heads_of_any_bytes_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
