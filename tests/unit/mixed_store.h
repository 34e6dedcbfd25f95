/* SPDX-License-Identifier: Apache-2.0 */
/* A store half of which can become garbage, record by record: for tests of reclaiming. */
#ifndef TESTS_UNIT_MIXED_STORE_H
#define TESTS_UNIT_MIXED_STORE_H

#include "tests/unit/store_fixture.h"

#include <dirent.h>
#include <stdio.h>

#define SHARE_BYTES (40 * MIB)

/* Two volumes whose chunks lie side by side in the same segments; "gone" is purged at the end. */
static inline uint8_t *make_mixed(struct fixture *f)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, 2 * SHARE_BYTES);
	test_random_fill(&f->seed, data, 2 * SHARE_BYTES);
	assert_int_equal(make_volume(f, "keep", SHARE_BYTES), 0);
	assert_int_equal(make_volume(f, "gone", SHARE_BYTES), 0);
	struct view *keep = open_view(f, "keep"), *gone = open_view(f, "gone");
	for (uint64_t at = 0; at < SHARE_BYTES; at += MIB) {
		assert_int_equal(do_request(f, keep, REQUEST_WRITE, at, MIB, data + at, 0), 0);
		assert_int_equal(
			do_request(f, gone, REQUEST_WRITE, at, MIB, data + SHARE_BYTES + at, 0), 0);
	}
	store_view_close(keep);
	store_view_close(gone);
	return data;
}

static inline void purge(struct fixture *f, const char *name)
{
	struct volume_info *infos;
	size_t count;
	assert_int_equal(DO(f, store_volume_delete, name), 0);
	assert_int_equal(store_volumes(f->store, true, &infos, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(DO(f, store_trash_purge, infos[0].number), 0);
	free(infos);
}

static inline void read_back(struct fixture *f, const uint8_t *data)
{
	uint8_t *got = aligned_alloc(BLOCK_BYTES, SHARE_BYTES);
	struct view *view = open_view(f, "keep");
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, SHARE_BYTES, got, 0), 0);
	assert_memory_equal(got, data, SHARE_BYTES);
	store_view_close(view);
	free(got);
}

static inline void check_sum(const struct store_info *info)
{
	assert_int_equal(info->live_bytes + info->garbage_bytes + info->prepared_bytes +
				 info->reserve_bytes,
			 info->segment_bytes);
}

/* Calls `each` for every segment file; returns the sum of what it says. */
static inline uint64_t each_segment(struct fixture *f, uint64_t (*each)(const char *path))
{
	char path[400];
	uint64_t sum = 0;
	snprintf(path, sizeof path, "%s/seg", f->path);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir));) {
		snprintf(path, sizeof path, "%s/seg/%s", f->path, entry->d_name);
		sum += entry->d_name[0] == '.' ? 0 : each(path);
	}
	closedir(dir);
	return sum;
}

#endif
