/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks that differ between two maps: both from the top down, side by side. Equal ids are equal
 * data, so what is equal is never looked into, and no chunk is read.
 */
#include "storage/store/work.h"

#include "storage/store/objects.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct diff {
	struct work work;
	char name[2][SNAP_NAME_ROOM];
	struct id path[MAP_LEVELS][2];
	unsigned slot[MAP_LEVELS], depth;
	bool started;
	uint64_t range_at, range_count; /* chunks, not told yet */
};

static void diff_flush(struct diff *diff)
{
	struct store_work *told = diff->work.public;
	if (diff->range_count && told->range)
		told->range(told, diff->range_at * CHUNK_BYTES, diff->range_count * CHUNK_BYTES);
	told->differing_bytes += diff->range_count * CHUNK_BYTES;
	diff->range_count = 0;
}

static void diff_chunk(struct diff *diff, uint64_t chunk_no)
{
	if (diff->range_count && diff->range_at + diff->range_count != chunk_no)
		diff_flush(diff);
	if (!diff->range_count)
		diff->range_at = chunk_no;
	diff->range_count++;
}

static int diff_begin(struct diff *diff)
{
	uint64_t size;
	diff->work.pin_count = 0; /* it may have waited, and comes again */
	for (unsigned side = 0; side < 2; side++) {
		int res = work_root(&diff->work, diff->name[side], &diff->path[0][side], &size);
		if (res)
			return res;
	}
	const struct volume *of[2];
	for (unsigned side = 0; side < 2; side++) {
		const char *name = diff->name[side];
		const struct snapshot *snapshot = snapshot_by_name(diff->work.store, name);
		of[side] = snapshot ? volume_by_number(diff->work.store, snapshot->volume)
				    : volume_by_name(diff->work.store, name);
	}
	if (of[0]->domain != of[1]->domain)
		return work_refuse(&diff->work, -EINVAL,
				   "'%s' and '%s' are of different domains: their ids cannot be "
				   "compared.",
				   diff->name[0], diff->name[1]);
	diff->started = true;
	return 0;
}

static int diff_step(struct work *work)
{
	static const struct id none[NODE_SLOTS];
	struct diff *diff = container_of(work, struct diff, work);
	int res = diff->started ? 0 : diff_begin(diff);
	unsigned looked = 0;
	if (res)
		return res;
	for (;;) {
		unsigned depth = diff->depth;
		const struct id *slots[2];
		for (unsigned side = 0; side < 2; side++) {
			const struct id *id = &diff->path[depth][side];
			slots[side] = id_is_null(id) ? none
						     : map_node(work->store, id, &work->wait, &res);
			if (!slots[side])
				return res == WAITING ? work_waits(work) : res;
		}
		unsigned at = diff->slot[depth];
		while (at < NODE_SLOTS && id_equal(&slots[0][at], &slots[1][at]))
			at++;
		diff->slot[depth] = at;
		if (at == NODE_SLOTS) {
			if (depth == 0)
				break;
			diff->slot[--diff->depth]++;
		} else if (depth == MAP_LEVELS - 1) {
			uint64_t chunk_no = 0;
			for (unsigned i = 0; i < MAP_LEVELS; i++)
				chunk_no = chunk_no << 8 | diff->slot[i];
			diff_chunk(diff, chunk_no);
			diff->slot[depth]++;
		} else {
			diff->path[++diff->depth][0] = slots[0][at];
			diff->path[diff->depth][1] = slots[1][at];
			diff->slot[diff->depth] = 0;
		}
		if (++looked == 1024)
			return WALK_MORE;
	}
	diff_flush(diff);
	return 0;
}

static void diff_done(struct work *work)
{
	free(container_of(work, struct diff, work));
}

void store_diff(struct store *store, struct store_work *public, const char *a, const char *b)
{
	struct diff *diff = calloc(1, sizeof(*diff));
	if (diff) {
		snprintf(diff->name[0], SNAP_NAME_ROOM, "%s", a);
		snprintf(diff->name[1], SNAP_NAME_ROOM, "%s", b);
		diff->work.step = diff_step;
		diff->work.done = diff_done;
	}
	work_start(store, diff ? &diff->work : NULL, public);
}
