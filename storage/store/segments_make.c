/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making segments: how long the next one may be, and its way from a file to one that takes records.
 *
 * Keeps true:
 *  - a segment takes records only after its LOG_PUT_SEGMENT is in the log, so every record that
 * names a chunk of it comes later in the chain; a file whose record was lost is an orphan;
 *  - the reserve is made before the spare, and no new data goes there: a store that is full for
 * its writers can still be collected, which gives space back;
 *  - the reserve has the full length, so that all of a segment fits in; where there is no space for
 * that, the others are as long as there is space: what is bought can be used.
 */
#include "storage/store/segments_int.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/catalog.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"
#include "storage/store/store_transfer.h"

/* ---- space ---- */

/* What segments may still take; a part of the disk is left to the checkpoints and the index. */
static uint64_t space_left(const struct store *store)
{
	uint64_t capacity = store->options.capacity_bytes, segments = store->segment_bytes;
	uint64_t grown = segments - min_u64(segments, store->polled_segment_bytes);
	uint64_t disk = store->disk_free_bytes;
	disk -= min_u64(disk, grown + SEGMENT_PART_BYTES);
	return capacity ? min_u64(disk, capacity - min_u64(capacity, segments)) : disk;
}

/* The last record may not fit in, which in a short one is no small part. */
static uint64_t usable(uint64_t bytes, uint64_t file_bytes)
{
	return file_bytes < SEGMENT_FILE_BYTES ? bytes - min_u64(bytes, STORE_RECORD_BYTES_MAX)
					       : bytes;
}

static uint64_t segment_left(const struct segment *segment)
{
	return segment ? usable(segment_end_most(segment->writer) -
					segment_appended_end(segment->writer),
				segment->bytes)
		       : 0;
}

uint64_t segments_room_bytes(const struct store *store)
{
	const struct segment_set *set = store->segment_set;
	uint64_t space = space_left(store);
	if (!set->reserve) /* it comes first */
		space -= min_u64(space, SEGMENT_FILE_BYTES);
	uint64_t rest = space % SEGMENT_FILE_BYTES / SEGMENT_PART_BYTES * SEGMENT_PART_BYTES;
	return space / SEGMENT_FILE_BYTES * SEGMENT_BYTES +
	       (rest ? usable(segment_data_bytes(rest), rest) : 0) + segment_left(set->open) +
	       segment_left(set->spare);
}

static void no_space(struct segment_set *set)
{
	if (!set->no_space_told)
		log_event(
			LOG_LEVEL_WARNING, "segment.no_space",
			"effect=\"new data is refused\" hint=\"purge the trash, delete snapshots, "
			"or add space\"");
	set->no_space = set->no_space_told = true;
}

/* ---- file, space, header, sync, folder, log, ready ---- */

static void spare_step(struct io_op *op);

static void spare_fail(struct segment_set *set, int res)
{
	struct spare *spare = &set->making;
	spare->phase = SPARE_NONE;
	spare->slot = 0;
	env_file_close(spare->file);
	spare->file = NULL;
	if (res == -ENOSPC || res == -EDQUOT) {
		no_space(set);
	} else {
		store_fail(set->store, res, "a new segment could not be made");
	}
	wait_wake_all(&set->room);
	write_kick(set->store); /* admission waits for how this ends */
}

static void room_again(void *arg)
{
	struct segment_set *set = arg;
	wait_wake_all(&set->room);
}

static void spare_logged(struct log_entry *entry, int res)
{
	struct segment_set *set = container_of(entry, struct segment_set, making.entry);
	struct spare *spare = &set->making;
	struct store *store = set->store;
	if (res == 0)
		res = segments_add(store, spare->id, spare->slot);
	struct segment *segment = res == 0 ? segment_of(store, spare->slot) : NULL;
	if (segment) {
		segment->file = spare->file;
		spare->file = NULL;
		store->segment_bytes -= segment->bytes - spare->bytes;
		segment->bytes = spare->bytes;
		struct segment_name name = segment_name_of(segment);
		res = segment_writer_new(store->env, segment->file, &name, room_again, set,
					 &segment->writer);
	}
	if (res < 0) {
		spare_fail(set, res);
		return;
	}
	spare->phase = SPARE_NONE;
	spare->slot = 0;
	if (set->reserve || spare->bytes < SEGMENT_FILE_BYTES)
		set->spare = segment;
	else
		set->reserve = segment;
	set->no_space = set->no_space_told = false;
	if (set->spare)
		fold_space_came(store);
	wait_wake_all(&set->room);
	segments_make_ahead(set);
	work_kick(store);
}

static void spare_log(struct segment_set *set)
{
	uint8_t record[LOG_RECORD_BYTES_MAX];
	uint32_t bytes = record_segment(set->making.id, set->making.slot, record);
	set->making.phase = SPARE_LOG;
	if (!log_room(set->store->log, bytes, 0, true))
		return; /* segments_kick tries again */
	set->making.phase = SPARE_LOGGING;
	set->making.entry.done = spare_logged;
	log_append(set->store->log, &set->making.entry, record, bytes, NULL, 0, false);
}

void segments_kick(struct store *store)
{
	if (store->segment_set->making.phase == SPARE_LOG)
		spare_log(store->segment_set);
}

static void spare_removed(struct io_op *op)
{
	struct segment_set *set = container_of(op, struct segment_set, making.op);
	spare_fail(set, -ENOSPC);
}

static void spare_step(struct io_op *op)
{
	struct segment_set *set = container_of(op, struct segment_set, making.op);
	struct spare *spare = &set->making;
	struct env_file *file = spare->file;
	if (op->res < 0 && (op->res == -ENOSPC || op->res == -EDQUOT)) {
		char name[32];
		segment_file_name(spare->id, name);
		op->done = spare_removed; /* a file that was grown in part holds space */
		env_file_remove(set->store->seg_dir, op, name);
		return;
	}
	if (op->res < 0) {
		spare_fail(set, (int)op->res);
		return;
	}
	switch (spare->phase++) {
	case SPARE_SPACE:
		env_file_write(file, op, set->header, SEGMENT_HEADER_BYTES, 0, 0);
		return;
	case SPARE_HEADER:
		env_file_sync(file, op);
		return;
	case SPARE_SYNC:
		if (MUTANT(19))
			env_complete(set->store->env, op, 0);
		else
			env_dir_sync(set->store->seg_dir, op);
		return;
	default:
		spare_log(set);
	}
}

/* ---- when ---- */

static uint32_t free_slot(const struct segment_set *set)
{
	for (uint32_t slot = 1; slot < set->slot_count; slot++)
		if (!set->slots[slot] && slot != set->making.slot)
			return slot;
	return set->slot_count ? set->slot_count : 1;
}

/* How long the next one is; 0: there is no space. */
static uint64_t spare_bytes(const struct segment_set *set)
{
	struct store *store = set->store;
	uint64_t capacity = store->options.capacity_bytes;
	if (!set->reserve && capacity && store->segment_bytes + SEGMENT_FILE_BYTES > capacity)
		return 0;
	if (!set->reserve)
		return SEGMENT_FILE_BYTES; /* the disk says what it has */
	if (space_left(store) < SEGMENT_FILE_BYTES)
		store_poll_space(store);
	uint64_t parts = space_left(store) / SEGMENT_PART_BYTES;
	return min_u64(parts * SEGMENT_PART_BYTES, SEGMENT_FILE_BYTES);
}

void segments_make(struct segment_set *set)
{
	struct spare *spare = &set->making;
	struct store *store = set->store;
	if (spare->phase != SPARE_NONE || (set->spare && set->reserve) || store->failed)
		return;
	uint64_t bytes = spare_bytes(set);
	if (bytes == 0) {
		no_space(set);
		return;
	}
	char name[32];
	*spare = (struct spare){
		.id = store->next_segment_id++, .slot = free_slot(set), .bytes = bytes};
	segment_file_name(spare->id, name);
	int res = env_file_open(store->seg_dir, name, ENV_CREATE | ENV_EXCL | ENV_DIRECT,
				&spare->file);
	if (res < 0) {
		spare_fail(set, res);
		return;
	}
	segment_header_encode(store->sb.uuid, spare->id, spare->slot, set->header);
	spare->phase = SPARE_SPACE;
	spare->op.done = spare_step;
	env_file_allocate(spare->file, &spare->op, bytes);
}

void segments_make_ahead(struct segment_set *set)
{
	if (!set->store->closing)
		segments_make(set);
}

void segments_start(struct store *store)
{
	segments_make_ahead(store->segment_set);
}

void segments_retry_space(struct store *store)
{
	struct segment_set *set = store->segment_set;
	if (!set->no_space)
		return;
	set->no_space = false;
	segments_make_ahead(set);
	wait_wake_all(&set->room);
}

void segments_wait_space(struct store *store, struct wait *wait)
{
	wait_add(&store->segment_set->room, wait);
}

bool segments_full(const struct store *store)
{
	return store->segment_set->no_space && !store->segment_set->open;
}
