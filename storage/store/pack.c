/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recompression: a record that a collection moves is compressed anew at a higher level, when it is
 * old and that is configured.
 *
 * Keeps true:
 *  - only a record whose frames and full id were just verified is compressed anew, so its new
 *    checksums cover what its id names: rot is never laundered. Each new frame is decoded again and
 *    compared; one that does not come out smaller, or the same, stays as it was stored, with the
 *    checksum that it had;
 *  - a frame that was tried says so (FRAME_PACKED), so no later collection tries it again;
 *  - one frame at a time, in the background's queue, and then a pause of three times what it took:
 *    a quarter of one core at most; no pause when somebody asked for it and waits. Nothing is
 *    compressed anew when space is short;
 *  - a record ends behind its last pause, so no timer runs when none is under way.
 */
#include "storage/store/compact.h"

#include "storage/store/index.h"
#include "storage/store/store_int.h"

#define PAUSE_FACTOR 3u
#define PACK_ROOM (RECORD_QUARTERS_BYTES + CHUNK_BYTES)

size_t pack_memory_bytes(void)
{
	return PACK_ROOM + (size_t)CHUNK_BYTES; /* what is made, and what it decodes to */
}

bool pack_worth(const struct segment *segment, uint64_t live_bytes)
{
	const struct directory *directory = segment_records(segment);
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		const struct frame_entry *frames = &directory->frames[entry->frame_first];
		if (entry->type != RECORD_CHUNK || index_dead(segment->store->index, &entry->id))
			continue;
		for (unsigned f = 0; f < entry->frame_count; f++)
			if (frames[f].codec == FRAME_ZSTD)
				bytes += frames[f].stored_bytes;
	}
	return bytes * 4 >= live_bytes && bytes > 0;
}

static bool pack_wanted(const struct copy *copy)
{
	const struct compact *compact = copy->compact;
	const struct directory *directory = segment_records(compact->segment);
	const struct dir_entry *entry = &directory->entries[copy->entry];
	bool some = false;
	for (unsigned f = 0; f < entry->frame_count; f++)
		some |= directory->frames[entry->frame_first + f].codec == FRAME_ZSTD;
	return some && entry->type == RECORD_CHUNK && compact->pack_level && !compact->bad &&
	       compact->res == 0 && !compact->work->public->cancel && !compact->store->closing &&
	       !segments_full(compact->store);
}

/* ---- one frame, on a worker ---- */

static int64_t pack_frame(struct env_job *job, unsigned worker_no)
{
	struct copy *copy = container_of(job, struct copy, job);
	struct compact *compact = copy->compact;
	struct codec *codec = compact->store->codec;
	const struct directory *directory = segment_records(compact->segment);
	const struct dir_entry *entry = &directory->entries[copy->entry];
	const struct frame_entry *old = &directory->frames[entry->frame_first + copy->frame_no];
	struct frame_entry *made = &copy->frames[copy->frame_no];
	uint32_t frame_bytes = entry->raw_bytes / entry->frame_count;
	const uint8_t *stored = copy->stored + copy->skip_bytes +
				record_header_bytes(entry->frame_count) + copy->packed_from;
	const uint8_t *raw = copy->raw + (size_t)copy->frame_no * frame_bytes;
	uint8_t *out = compact->packed + copy->packed_bytes, *again = compact->packed + PACK_ROOM;
	bool better = false;
	if (old->codec == FRAME_ZSTD) {
		codec_encode_frame(codec, worker_no, (int)compact->pack_level, raw, frame_bytes,
				   &entry->id, copy->frame_no, out, made);
		bool smaller = made->codec == FRAME_ZSTD && made->stored_bytes < old->stored_bytes;
		better = smaller &&
			 codec_decode(codec, worker_no, made, copy->frame_no, &entry->id, out,
				      again, frame_bytes) == 0 &&
			 memcmp(raw, again, frame_bytes) == 0;
	}
	if (!better) {
		*made = *old;
		memcpy(out, stored, old->stored_bytes);
	}
	if (old->codec == FRAME_ZSTD)
		made->codec = FRAME_PACKED;
	copy->packed_from += old->stored_bytes;
	copy->packed_bytes += made->stored_bytes;
	return 0;
}

/* ---- one record after the other ---- */

static void pack_end(struct compact *compact)
{
	struct copy *copy = compact->packing;
	struct store_counters *counters = &compact->store->counters;
	copy->packed = true;
	counters->repacked_in_bytes += copy->packed_from;
	counters->repacked_out_bytes += copy->packed_bytes;
	copy_append(&copy->wait);
}

static void frame_done(struct io_op *op)
{
	struct copy *copy = container_of(op, struct copy, job.op);
	struct compact *compact = copy->compact;
	struct env *env = compact->store->env;
	uint64_t took_ns = env_now_ns(env) - compact->pack_begun_ns;
	copy->frame_no++;
	env_timer_start(env, &compact->pack_timer,
			compact->work->public->recompress ? 0 : PAUSE_FACTOR * took_ns + 1);
}

static void frame_start(struct compact *compact)
{
	struct copy *copy = compact->packing;
	compact->pack_begun_ns = env_now_ns(compact->store->env);
	copy->job = (struct env_job){.op.done = frame_done, .run = pack_frame, .background = true};
	env_job(compact->store->env, &copy->job);
}

static void pack_fire(struct env_timer *timer)
{
	struct compact *compact = container_of(timer, struct compact, pack_timer);
	const struct copy *copy = compact->packing;
	if (copy->frame_no < segment_records(compact->segment)->entries[copy->entry].frame_count)
		frame_start(compact);
	else
		pack_end(compact);
}

static void pack_next(struct compact *compact)
{
	struct copy *copy = compact->pack_queue;
	if (compact->packing || !copy)
		return;
	compact->pack_queue = copy->pack_next;
	if (!pack_wanted(copy)) {   /* not any more: as it is stored */
		pack_next(compact); /* first, as the end of this one may be the end of all */
		copy_append(&copy->wait);
		return;
	}
	compact->packing = copy;
	copy->frame_no = 0;
	copy->packed_from = copy->packed_bytes = RECORD_QUARTERS_BYTES;
	memcpy(compact->packed,
	       copy->stored + copy->skip_bytes +
		       record_header_bytes(
			       segment_records(compact->segment)->entries[copy->entry].frame_count),
	       RECORD_QUARTERS_BYTES);
	frame_start(compact);
}

void pack_or_append(struct copy *copy)
{
	struct compact *compact = copy->compact;
	if (!pack_wanted(copy)) {
		copy_append(&copy->wait);
		return;
	}
	struct copy **at = &compact->pack_queue;
	while (*at)
		at = &(*at)->pack_next;
	copy->pack_next = NULL;
	*at = copy;
	compact->pack_timer.fire = pack_fire;
	pack_next(compact);
}

void pack_left(struct copy *copy)
{
	struct compact *compact = copy->compact;
	copy->packed = false;
	if (compact->packing != copy)
		return;
	compact->packing = NULL;
	pack_next(compact);
}
