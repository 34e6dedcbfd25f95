/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Appending to segments, and sealing them: one open for appending, one spare prepared ahead, one
 * that takes what a collection moves, one in reserve for the next of those.
 *
 * Keeps true: the index knows a record from its append on; whoever finds it there waits for its
 * durability like the one who appended it; what a collection moves keeps its old place in the
 * index, too, until the new one is durable.
 */
#include "storage/store/segments_int.h"

#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/store_transfer.h"

static void seal_done(struct io_op *op)
{
	struct segment *segment = container_of(op, struct segment, seal_op);
	struct store *store = segment->store;
	store->segment_set->sealing--;
	if (op->res < 0) {
		store_fail(store, (int)op->res, "a segment could not be sealed");
		return;
	}
	struct directory *directory = segment_take_directory(segment->writer);
	segment_writer_free(segment->writer);
	segment->writer = NULL;
	segment->state = SEGMENT_SEALED;
	store->segment_bytes -= segment->bytes;
	segment->bytes = (uint64_t)env_file_bytes(segment->file);
	store->segment_bytes += segment->bytes;
	segments_keep_directory(segment, directory);
	store->counters.segments_sealed++;
	if (store->closing)
		wait_wake_all(&store->segment_set->room);
	else
		segments_retry_space(store); /* what it did not need may be what was missing */
	index_write_kick(store, 0);
	work_kick(store);
}

static void segment_seal_start(struct segment *segment)
{
	segment->store->segment_set->sealing++;
	segment->seal_op.done = seal_done;
	segment_seal(segment->writer, &segment->seal_op);
}

/* Many small records have a large directory: it must fit into what is reserved for it behind the
 * segment, so that no segment takes more than its file. */
static bool directory_fits(const struct segment *segment, uint64_t records, uint64_t frames)
{
	const struct directory *directory = segment_directory(segment->writer);
	return footer_bytes_for(directory->entry_count + records,
				directory->frame_count + frames) <=
	       segment->bytes - segment_data_bytes(segment->bytes);
}

/* Room in one of them for `records` at most, and so many stored bytes. -ENOSPC: it is full and is
 * being sealed. */
static int room_in(struct segment_set *set, struct segment **at, unsigned records,
		   uint32_t stored_bytes, struct wait *wait)
{
	int res = directory_fits(*at, records, records * FRAMES_PER_CHUNK_MAX)
			  ? segment_room((*at)->writer, stored_bytes)
			  : -ENOSPC;
	if (res == -EAGAIN) {
		wait_add(&set->room, wait);
		return WAITING;
	}
	if (res == -ENOSPC) {
		segment_seal_start(*at);
		*at = NULL;
	} else if (res < 0) {
		store_fail(set->store, res, "a segment could not be written");
	}
	return res;
}

int segments_room(struct store *store, uint32_t stored_bytes, struct wait *wait)
{
	struct segment_set *set = store->segment_set;
	if (store->failed)
		return -VS_EFAILSTOP;
	for (;;) {
		if (!set->open && set->spare) {
			set->open = set->spare;
			set->spare = NULL;
			segment_expect(set->open->writer, set->coming > 0);
			segments_make_ahead(set);
		}
		if (!set->open) {
			if (!set->no_space)
				segments_make(set);
			if (set->no_space)
				return -ENOSPC;
			wait_add(&set->room, wait);
			return WAITING;
		}
		/* One record less than there may be: who copies them takes them in another order.
		 */
		int res = room_in(set, &set->open, 2, stored_bytes, wait);
		if (res != -ENOSPC)
			return res;
	}
}

void segments_coming(struct store *store, int change)
{
	struct segment_set *set = store->segment_set;
	bool first = set->coming == 0;
	set->coming += (uint32_t)change;
	if (set->open && (first || change < 0))
		segment_expect(set->open->writer, set->coming > 0);
}

struct segment *segments_append(struct store *store, const struct dir_entry *entry,
				const struct frame_entry *frames, const void *stored,
				uint32_t stored_bytes, uint64_t *ret_end)
{
	struct segment *segment = store->segment_set->open;
	uint32_t offset64 =
		segment_append(segment->writer, entry, frames, stored, stored_bytes, ret_end);
	if (index_insert(store->index, &entry->id, location_of(segment->slot, offset64)) < 0)
		store_fail(store, -ENOMEM, "the index cannot grow");
	store->counters.chunks_stored++;
	return segment;
}

int segments_moved_room(struct store *store, uint32_t stored_bytes, struct wait *wait)
{
	struct segment_set *set = store->segment_set;
	if (store->failed)
		return -VS_EFAILSTOP;
	if (store->closing)
		return -VS_ECANCELLED;
	for (;;) {
		if (!set->moved && set->reserve) {
			set->moved = set->reserve;
			set->reserve = NULL;
			segments_make_ahead(set);
		}
		if (!set->moved) {
			if (set->no_space)
				return -ENOSPC;
			segments_make_ahead(set);
			wait_add(&set->room, wait);
			return WAITING;
		}
		int res = room_in(set, &set->moved, 1, stored_bytes, wait);
		if (res != -ENOSPC)
			return res;
	}
}

struct segment *segments_moved_append(struct store *store, const struct dir_entry *entry,
				      const struct frame_entry *frames, const void *stored,
				      uint32_t stored_bytes, uint32_t *ret_offset64,
				      uint64_t *ret_end)
{
	struct segment *segment = store->segment_set->moved;
	*ret_offset64 =
		segment_append(segment->writer, entry, frames, stored, stored_bytes, ret_end);
	return segment;
}

int segments_moved_fits(struct store *store, uint64_t bytes, uint32_t records, uint64_t frames,
			struct wait *wait)
{
	struct segment_set *set = store->segment_set;
	uint64_t end = set->moved ? segment_appended_end(set->moved->writer) : SEGMENT_BYTES;
	if (set->reserve || (end + bytes + STORE_RECORD_BYTES_MAX < SEGMENT_BYTES - BLOCK_BYTES &&
			     directory_fits(set->moved, records, frames + FRAMES_PER_CHUNK_MAX)))
		return 0; /* all of a segment has room in an empty one */
	if (!set->no_space)
		segments_make_ahead(set);
	if ((set->no_space && !set->sealing) || store->failed || store->closing)
		return -ENOSPC;
	wait_add(&set->room, wait);
	return WAITING;
}

void segments_moved_seal(struct store *store)
{
	struct segment_set *set = store->segment_set;
	if (set->moved)
		segment_seal_start(set->moved);
	set->moved = NULL;
}

bool segments_idle(const struct store *store)
{
	const struct segment_set *set = store->segment_set;
	return set->making.phase == SPARE_NONE && set->sealing == 0;
}

bool segments_writers_idle(const struct store *store)
{
	const struct segment_set *set = store->segment_set;
	for (uint32_t slot = 1; slot < set->slot_count; slot++) {
		const struct segment *segment = set->slots[slot];
		if (segment &&
		    (segment->load || (segment->writer && !segment_writer_idle(segment->writer))))
			return false;
	}
	return true;
}

void segments_seal_open(struct store *store)
{
	struct segment_set *set = store->segment_set;
	if (set->open)
		segment_seal_start(set->open);
	if (set->spare)
		segment_seal_start(set->spare);
	if (set->reserve)
		segment_seal_start(set->reserve);
	set->open = set->spare = set->reserve = NULL;
	segments_moved_seal(store);
}
