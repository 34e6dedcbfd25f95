/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emptying one segment, so that its file can go.
 *
 * Weigh: is it worth it? Sift: a record that is dead leaves the index at once, so that nobody finds
 * it any more; the check and the removal are one step. Copy: what is alive is read, its frames and
 * its full hash are checked, and it is appended to another segment as it is stored: frames and
 * their checksums are never made anew, so damage that came before is not covered up (what pack.c
 * compresses anew was proved by its id first). Swap: when the copies are durable the old places
 * leave the index.
 *
 * Keeps true:
 *  - at every moment the index has a good and durable place of each live record;
 *  - a record that fails its check stops it: the segment stays as it is, is told, and no later
 *    collection touches it before a restart (it then learns the same);
 *  - a record that is stored elsewhere, too, is not copied, when that other one is good and
 * durable;
 *  - nothing is copied unless all that lives in the segment has room: half a segment's copies would
 *    take the reserve and give nothing back, and without it nothing can be collected any more;
 *  - a bounded number of records is in memory;
 *  - while guests are served a batch of copies is followed by a rest, REST_MOST_NS at most, as a
 *    close waits for it; gc.c says how long, by the room that there is.
 */
#include "storage/store/compact.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define READ_ALIGN 4096u
#define ENTRIES_PER_SLICE 2048u
#define REST_MOST_NS PACE_WAIT_NS

int compact_init(struct compact *compact, struct work *work, bool packs)
{
	compact->work = work;
	compact->store = work->store;
	size_t copies = COPY_COUNT * (size_t)(COPY_ROOM + CHUNK_BYTES);
	compact->memory_bytes = copies + (packs ? pack_memory_bytes() : 0);
	compact->memory = env_memory(work->store->env, compact->memory_bytes);
	if (!compact->memory)
		return -ENOMEM;
	compact->packed = compact->memory + copies;
	guests_forget(compact->store, &compact->guests);
	for (unsigned i = 0; i < COPY_COUNT; i++) {
		struct copy *copy = &compact->copies[i];
		copy->compact = compact;
		copy->stored = compact->memory + i * (size_t)(COPY_ROOM + CHUNK_BYTES);
		copy->raw = copy->stored + COPY_ROOM;
	}
	return 0;
}

void compact_exit(struct compact *compact)
{
	if (compact->segment)
		compact_end(compact);
	if (compact->memory)
		env_memory_free(compact->store->env, compact->memory, compact->memory_bytes);
	free(compact->moves);
	compact->memory = NULL;
	compact->moves = NULL;
}

void compact_start(struct compact *compact, struct segment *segment, uint32_t garbage_percent_min,
		   unsigned pack_level, unsigned rest_parts)
{
	segment_use(segment);
	compact->store->compactions++;
	compact->segment = segment;
	compact->phase = COMPACT_LOAD;
	compact->garbage_percent_min = garbage_percent_min;
	compact->pack_level = pack_level;
	compact->rest_parts = rest_parts;
	compact->batch = 0;
	compact->at = compact->move_at = compact->move_count = 0;
	compact->live_bytes = compact->move_bytes = compact->move_frames = 0;
	compact->output_count = compact->output_at = 0;
	compact->res = 0;
	compact->bad = false;
}

/* It stays: the index has all of its records again, as of every segment that is not leaving. A
 * file of the index that is being written meanwhile may have copied it without them. */
static void compact_restore(struct compact *compact)
{
	struct segment *segment = compact->segment;
	const struct directory *directory = segment_records(segment);
	if (directory)
		segment_index_lacking(segment, directory);
	segment->leaving = !index_write_idle(compact->store);
}

void compact_end(struct compact *compact)
{
	if (compact->segment->leaving && compact->phase != COMPACT_EMPTY && compact->store->index)
		compact_restore(compact);
	compact->store->compactions++;
	for (unsigned i = 0; i < compact->output_count; i++)
		segment_unuse(compact->outputs[i]);
	compact->output_count = 0;
	segment_unuse(compact->segment);
	compact->segment = NULL;
}

bool compact_busy(const struct compact *compact)
{
	return compact->segment && (compact->busy || compact->durable.op.done);
}

static uint64_t entry_bytes(const struct compact *compact, const struct dir_entry *entry)
{
	return segment_record_end(compact->segment, entry) -
	       entry->offset64 * (uint64_t)RECORD_ALIGN;
}

static uint64_t entry_location(const struct compact *compact, const struct dir_entry *entry)
{
	return location_of(compact->segment->slot, entry->offset64);
}

/* ---- sift ---- */

/* Another good and durable record of the same id: 0, -ENOENT, or WAITING. */
static int stored_elsewhere(struct compact *compact, const struct dir_entry *entry)
{
	struct store *store = compact->store;
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	unsigned count = index_find(store->index, &entry->id, candidates);
	for (unsigned i = 0; i < count && count > 1; i++) {
		struct segment *other = segment_of(store, location_slot(candidates[i]));
		if (!other || other == compact->segment || other->kept)
			continue;
		int res = segments_directory(other, &compact->work->wait);
		if (res == WAITING)
			return WAITING;
		if (res < 0)
			continue;
		struct dir_entry *same =
			directory_find(segment_records(other), location_offset64(candidates[i]));
		if (!same || same->bad || same->type != entry->type ||
		    same->domain != entry->domain || !id_equal(&same->id, &entry->id))
			continue;
		if (other->writer &&
		    segment_record_end(other, same) > segment_durable_end(other->writer))
			continue;
		return 0;
	}
	return -ENOENT;
}

static int moves_add(struct compact *compact, uint32_t entry)
{
	if (compact->move_count == compact->move_room) {
		uint32_t room = compact->move_room ? 2 * compact->move_room : 1024;
		uint32_t *larger = realloc(compact->moves, room * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		compact->moves = larger;
		compact->move_room = room;
	}
	compact->moves[compact->move_count++] = entry;
	compact->move_frames += segment_records(compact->segment)->entries[entry].frame_count;
	compact->move_bytes +=
		entry_bytes(compact, &segment_records(compact->segment)->entries[entry]);
	return 0;
}

/* Is it worth it? What is alive now may be dead later, never the other way round but by a touch. */
static int compact_weigh(struct compact *compact)
{
	const struct directory *directory = segment_records(compact->segment);
	struct segment *segment = compact->segment;
	uint32_t live = 0;
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		if (index_dead(compact->store->index, &directory->entries[i].id))
			continue;
		compact->live_bytes += entry_bytes(compact, &directory->entries[i]);
		live++;
	}
	segment->known_live_bytes = compact->live_bytes;
	segment->known_entries = live;
	segment->sifted = true;
	uint64_t bytes = segment->bytes, garbage = bytes - min_u64(bytes, compact->live_bytes);
	bool worth = live == 0 || garbage * 100 >= bytes * compact->garbage_percent_min;
	if (!worth && compact->pack_level) {
		worth = pack_worth(segment, compact->live_bytes);
		segment->packed = !worth;
	}
	if (!worth) {
		compact->phase = COMPACT_KEPT;
		return WALK_MORE;
	}
	segment->leaving = true;
	compact->phase = COMPACT_SIFT;
	return WALK_MORE;
}

static int sift_entry(struct compact *compact, const struct dir_entry *entry)
{
	struct store *store = compact->store;
	uint64_t location = entry_location(compact, entry);
	if (!index_has(store->index, &entry->id, location))
		return 0;
	if (index_dead(store->index, &entry->id)) {
		index_remove(store->index, &entry->id, location);
		return 0;
	}
	int res = stored_elsewhere(compact, entry);
	if (res == WAITING)
		return WAITING;
	if (res == 0) {
		index_remove(store->index, &entry->id, location);
		return 0;
	}
	return moves_add(compact, compact->at);
}

static int compact_sift(struct compact *compact)
{
	const struct directory *directory = segment_records(compact->segment);
	for (unsigned i = 0; i < ENTRIES_PER_SLICE && compact->at < directory->entry_count; i++) {
		int res = sift_entry(compact, &directory->entries[compact->at]);
		if (res)
			return res == WAITING ? work_waits(compact->work) : res;
		compact->at++;
	}
	if (compact->at < directory->entry_count)
		return WALK_MORE;
	int res = 0;
	if (compact->move_count) /* all is dead: it goes without a reserve, too */
		res = segments_moved_fits(compact->store, compact->move_bytes, compact->move_count,
					  compact->move_frames, &compact->work->wait);
	if (res == WAITING)
		return work_waits(compact->work);
	compact->phase = res < 0 ? COMPACT_KEPT : COMPACT_COPY;
	return WALK_MORE;
}

/* ---- copy ---- */

/* It cannot be read, or its records not be checked: a person decides. */
static void compact_keep(struct compact *compact, int res)
{
	uint64_t id = compact->segment->id;
	compact->segment->kept = true;
	compact->bad_records++;
	log_event(LOG_LEVEL_ERROR, "gc.kept",
		  "segment=%016llx error=\"%s\" effect=\"the segment is kept as it is\" "
		  "hint=\"vstorectl store check\"",
		  (unsigned long long)id, vs_strerror(res));
	work_report(compact->work, "segment %016llx cannot be read: %s; it is kept as it is",
		    (unsigned long long)id, vs_strerror(res));
}

static void copy_end(struct copy *copy, int res)
{
	struct compact *compact = copy->compact;
	struct store *store = compact->store; /* the end of the last copy may be the end of all */
	copy->busy = false;
	compact->busy--;
	if (res < 0 && compact->res == 0)
		compact->res = res;
	pack_left(copy);
	work_kick(store);
}

static void copy_bad(struct copy *copy, int res)
{
	struct compact *compact = copy->compact;
	struct dir_entry *entry = &segment_records(compact->segment)->entries[copy->entry];
	char id[17];
	text_hex(entry->id.bytes, 8, id);
	entry->bad = true; /* no target of deduplication from now on */
	compact->bad = true;
	compact->bad_records++;
	compact->segment->kept = true;
	compact->store->counters.checksum_errors++;
	log_event(LOG_LEVEL_ERROR, "gc.bad_record",
		  "segment=%016llx id=%s error=\"%s\" effect=\"the segment is kept as it is\" "
		  "hint=\"vstorectl store check\"",
		  (unsigned long long)compact->segment->id, id, vs_strerror(res));
	work_report(compact->work,
		    "segment %016llx, record at %llu, %s...: %s; the segment is kept as it is",
		    (unsigned long long)compact->segment->id,
		    (unsigned long long)entry->offset64 * RECORD_ALIGN, id, vs_strerror(res));
	copy_end(copy, 0);
}

void copy_append(struct wait *wait)
{
	struct copy *copy = container_of(wait, struct copy, wait);
	struct compact *compact = copy->compact;
	struct directory *directory = segment_records(compact->segment);
	const struct dir_entry *entry = &directory->entries[copy->entry];
	const struct frame_entry *frames =
		copy->packed ? copy->frames : &directory->frames[entry->frame_first];
	uint32_t header = record_header_bytes(entry->frame_count), offset64;
	uint32_t stored = copy->packed ? copy->packed_bytes : copy->record_bytes - header;
	const uint8_t *from =
		copy->packed ? compact->packed : copy->stored + copy->skip_bytes + header;
	uint64_t end;
	copy->wait.wake = copy_append;
	if (compact->bad || compact->res < 0) { /* another one failed meanwhile */
		copy_end(copy, 0);
		return;
	}
	int res = segments_moved_room(compact->store, stored, &copy->wait);
	if (res == WAITING)
		return;
	if (res < 0) {
		copy_end(copy, res);
		return;
	}
	struct segment *to =
		segments_moved_append(compact->store, entry, frames, from, stored, &offset64, &end);
	unsigned o = compact->output_count;
	if (o == 0 || compact->outputs[o - 1] != to) {
		if (o == OUTPUTS_MAX) {
			copy_end(copy, -ENOSPC);
			return;
		}
		segment_use(to);
		compact->outputs[compact->output_count++] = to;
		o++;
	}
	compact->output_ends[o - 1] = end;
	/* It is found from now on, but not read before it is written (segments_locate). */
	if (index_insert(compact->store->index, &entry->id, location_of(to->slot, offset64)) < 0) {
		copy_end(copy, -ENOMEM);
		return;
	}
	pace_spend(compact->store, header + stored);
	compact->moved_bytes += header + stored;
	compact->store->counters.moved_bytes += header + stored;
	copy_end(copy, 0);
}

static void copy_checked(struct io_op *op)
{
	struct copy *copy = container_of(op, struct copy, job.op);
	if (op->res < 0)
		copy_bad(copy, (int)op->res);
	else
		pack_or_append(copy);
}

static int copy_id_check(const struct domain_key *key, const struct dir_entry *entry,
			 const uint8_t *raw, const uint8_t *prefix, uint16_t lost)
{
	uint8_t quarters[QUARTER_COUNT][32];
	struct id id;
	if (entry->type == RECORD_NODE) {
		codec_id_node(key, raw, entry->raw_bytes, &id);
		return id_equal(&id, &entry->id) ? 0 : -VS_ECHECKSUM;
	}
	codec_hash_quarters(raw, quarters);
	if (memcmp(quarters, prefix, sizeof quarters) != 0)
		return -VS_ECHECKSUM;
	if (lost)
		codec_id_lost(key, (const uint8_t(*)[32])quarters, lost, &id);
	else
		codec_id_quarters(key, (const uint8_t(*)[32])quarters, &id);
	return id_equal(&id, &entry->id) ? 0 : -VS_ECHECKSUM;
}

/* On a worker: the record is the one that the directory tells of, and its data has its id. */
static int64_t copy_check(struct env_job *job, unsigned worker_no)
{
	struct copy *copy = container_of(job, struct copy, job);
	struct compact *compact = copy->compact;
	struct store *store = compact->store;
	const struct directory *directory = segment_records(compact->segment);
	const struct dir_entry *entry = &directory->entries[copy->entry];
	const struct frame_entry *frames = &directory->frames[entry->frame_first];
	const uint8_t *record = copy->stored + copy->skip_bytes;
	uint16_t lost = 0;
	int res = record_header_matches(record, copy->record_bytes, entry, frames);
	if (res < 0)
		return res;
	uint32_t frame_bytes = entry->raw_bytes / entry->frame_count;
	const uint8_t *prefix = record + record_header_bytes(entry->frame_count);
	const uint8_t *at = prefix + record_prefix_bytes(entry->type);
	for (unsigned i = 0; i < entry->frame_count; i++) {
		res = codec_decode(store->codec, worker_no, &frames[i], i, &entry->id, at,
				   copy->raw + i * frame_bytes, frame_bytes);
		if (res == -VS_ELOST && frame_bytes % BLOCK_BYTES == 0) {
			unsigned blocks = frame_bytes / BLOCK_BYTES;
			memset(copy->raw + i * frame_bytes, 0, frame_bytes);
			lost |= (uint16_t)(((1u << blocks) - 1) << i * blocks);
		} else if (res < 0) {
			return res;
		}
		at += frames[i].stored_bytes;
	}
	const struct domain_key *key = domain_key(store, entry->domain);
	return key ? copy_id_check(key, entry, copy->raw, prefix, lost) : -VS_EFORMAT;
}

static void copy_read(struct io_op *op)
{
	struct copy *copy = container_of(op, struct copy, op);
	if (op->res < 0 || (uint64_t)op->res < copy->skip_bytes + copy->record_bytes) {
		copy_bad(copy, op->res < 0 ? (int)op->res : -VS_ECHECKSUM);
		return;
	}
	copy->job =
		(struct env_job){.op.done = copy_checked, .run = copy_check, .background = true};
	env_job(copy->compact->store->env, &copy->job);
}

static int copy_start(struct compact *compact, struct copy *copy, uint32_t entry_no)
{
	const struct dir_entry *entry = &segment_records(compact->segment)->entries[entry_no];
	const struct frame_entry *frames =
		&segment_records(compact->segment)->frames[entry->frame_first];
	if (entry->raw_bytes > CHUNK_BYTES ||
	    (entry->type != RECORD_NODE && entry->raw_bytes != CHUNK_BYTES))
		return -VS_EFORMAT; /* a newer one's, which this one cannot check */
	int res = segment_open_file(compact->segment);
	if (res < 0)
		return res;
	uint64_t start = entry->offset64 * (uint64_t)RECORD_ALIGN;
	uint64_t offset = round_down(start, READ_ALIGN);
	copy->entry = entry_no;
	copy->record_bytes = record_bytes(entry, frames);
	copy->skip_bytes = (uint32_t)(start - offset);
	uint32_t bytes = (uint32_t)round_up(copy->skip_bytes + copy->record_bytes, READ_ALIGN);
	if (bytes > COPY_ROOM)
		return -VS_EFORMAT;
	copy->busy = true;
	copy->packed = false;
	compact->busy++;
	copy->op.done = copy_read;
	env_file_read(compact->segment->file, &copy->op, copy->stored, bytes, offset);
	return 0;
}

static bool beside_guests(struct compact *compact)
{
	return compact->rest_parts && guests_served(compact->store, &compact->guests);
}

static void rest_over(struct env_timer *timer)
{
	struct compact *compact = container_of(timer, struct compact, rest);
	compact->work->waits = false;
	work_kick(compact->store);
}

/* A batch is through, and there is more. */
static int compact_rest(struct compact *compact)
{
	struct env *env = compact->store->env;
	uint64_t took = env_now_ns(env) - compact->batch_begun_ns;
	compact->batch = 0;
	if (!beside_guests(compact))
		return WALK_MORE;
	compact->rest.fire = rest_over;
	env_timer_start(env, &compact->rest, min_u64(REST_MOST_NS, compact->rest_parts * took));
	return work_waits(compact->work);
}

static int compact_copy(struct compact *compact)
{
	bool batches = beside_guests(compact);
	while (compact->move_at < compact->move_count && compact->busy < COPY_COUNT &&
	       !(batches && compact->batch >= COPY_COUNT) && !compact->bad && compact->res == 0) {
		if (!pace_ready(compact->store, &compact->work->wait))
			return work_waits(compact->work);
		if (compact->batch++ == 0)
			compact->batch_begun_ns = env_now_ns(compact->store->env);
		struct copy *copy = compact->copies;
		while (copy->busy)
			copy++;
		int res = copy_start(compact, copy, compact->moves[compact->move_at]);
		if (lacks_means(res)) {
			compact->res = res;
		} else if (res < 0) {
			compact_keep(compact, res);
			compact->bad = true;
			break;
		} else {
			compact->move_at++;
		}
	}
	if (compact->busy)
		return WAITING;
	if (compact->res < 0 || compact->bad) {
		compact->phase = COMPACT_KEPT; /* copies that were made are garbage */
		return compact->res < 0 ? compact->res : WALK_MORE;
	}
	if (compact->move_at < compact->move_count)
		return compact_rest(compact);
	compact->phase = COMPACT_DURABLE;
	return WALK_MORE;
}

/* ---- durable, then the swap ---- */

static void outputs_durable(struct io_op *op)
{
	struct compact *compact = container_of(op, struct compact, durable.op);
	compact->durable.op.done = NULL;
	compact->work->waits = false;
	if (op->res < 0) {
		compact->res = (int)op->res;
		store_fail(compact->store, (int)op->res, "a segment could not be made durable");
	}
	work_kick(compact->store);
}

static int compact_durable(struct compact *compact)
{
	if (compact->res < 0)
		return compact->res;
	while (compact->output_at < compact->output_count) {
		struct segment *to = compact->outputs[compact->output_at];
		uint64_t end = compact->output_ends[compact->output_at++];
		if (!to->writer || segment_durable_end(to->writer) >= end || MUTANT(54))
			continue;
		compact->durable = (struct durable_wait){.op.done = outputs_durable};
		segment_wait_durable(to->writer, &compact->durable, end);
		return work_waits(compact->work);
	}
	compact->phase = COMPACT_SWAP;
	compact->at = 0;
	return WALK_MORE;
}

static int compact_swap(struct compact *compact)
{
	struct store *store = compact->store;
	const struct directory *directory = segment_records(compact->segment);
	for (unsigned i = 0; i < ENTRIES_PER_SLICE && compact->at < compact->move_count; i++) {
		const struct dir_entry *entry = &directory->entries[compact->moves[compact->at]];
		index_remove(store->index, &entry->id, entry_location(compact, entry));
		compact->at++;
	}
	if (compact->at < compact->move_count)
		return WALK_MORE;
	/* The last look: whatever the steps before did, a record that can be found keeps it. */
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		if (index_has(store->index, &entry->id, entry_location(compact, entry))) {
			compact->phase = COMPACT_KEPT;
			return WALK_MORE;
		}
	}
	compact->phase = COMPACT_EMPTY;
	return WALK_MORE;
}

int compact_step(struct compact *compact)
{
	int res;
	switch (compact->phase) {
	case COMPACT_LOAD:
		res = segments_directory(compact->segment, &compact->work->wait);
		if (res == WAITING)
			return work_waits(compact->work);
		if (lacks_means(res))
			return res;
		if (res < 0)
			compact_keep(compact, res);
		compact->phase = res < 0 ? COMPACT_KEPT : COMPACT_WEIGH;
		return WALK_MORE;
	case COMPACT_WEIGH:
		return compact_weigh(compact);
	case COMPACT_SIFT:
		return compact_sift(compact);
	case COMPACT_COPY:
		return compact_copy(compact);
	case COMPACT_DURABLE:
		return compact_durable(compact);
	case COMPACT_SWAP:
		return compact_swap(compact);
	case COMPACT_EMPTY:
	case COMPACT_KEPT:
		break;
	}
	return 0;
}
