/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a segment from its first record to the last one that is durable.
 *
 * A part is as many whole records as fit: it is read, proved by one job, and then waits until its
 * suspects were taken. The directory says where records lie, so a record whose own header is
 * damaged hides none behind it.
 */
#include "storage/store/sweep.h"

#include "storage/store/pace.h"
#include "storage/store/store_int.h"

#include <string.h>

#define REST_PARTS 3u /* of the time that a part took */

/* ---- beside guests ---- */

static bool guests_there(struct sweep *sweep)
{
	return guests_served(sweep->store, &sweep->guests);
}

static void rest_over(struct env_timer *timer)
{
	struct sweep *sweep = container_of(timer, struct sweep, rest);
	sweep->resting = false;
	sweep->wake(sweep);
}

static void rest_begin(struct sweep *sweep)
{
	uint64_t took = env_now_ns(sweep->store->env) - sweep->begun_ns;
	sweep->resting = true;
	sweep->rest.fire = rest_over;
	env_timer_start(sweep->store->env, &sweep->rest, REST_PARTS * took);
}

/* ---- a part ---- */

static void part_proved(struct io_op *op)
{
	struct sweep_part *part = container_of(op, struct sweep_part, job.op);
	struct sweep *sweep = part->sweep;
	part->done = true;
	sweep->busy--;
	if (!sweep->busy && guests_there(sweep))
		rest_begin(sweep);
	sweep->wake(sweep);
}

static int64_t part_prove(struct env_job *job, unsigned worker_no)
{
	struct sweep_part *part = container_of(job, struct sweep_part, job);
	(void)worker_no;
	for (uint32_t i = 0; i < part->count; i++) {
		const struct dir_entry *entry = &part->entries[i];
		uint64_t at = entry->offset64 * (uint64_t)RECORD_ALIGN - part->offset;
		part->suspect[i] = at >= part->bytes ||
				   record_prove(domain_key(part->sweep->store, entry->domain),
						part->buf + at, part->bytes - at, entry,
						&part->frames[entry->frame_first]) < 0;
	}
	return 0;
}

/* What could not be read is suspect: each record of it is read by itself. */
static void part_read(struct io_op *op)
{
	struct sweep_part *part = container_of(op, struct sweep_part, op);
	part->bytes = op->res < 0 ? 0 : (uint32_t)min_u64((uint64_t)op->res, part->bytes);
	part->job = (struct env_job){.op.done = part_proved, .run = part_prove, .background = true};
	env_job(part->sweep->store->env, &part->job);
}

static void part_start(struct sweep_part *part)
{
	struct sweep *sweep = part->sweep;
	struct segment *segment = sweep->segment;
	const struct directory *directory = segment_records(segment);
	uint64_t end = 0;
	uint32_t frames = 0;
	part->used = true;
	part->done = false;
	part->told = part->count = 0;
	part->first = sweep->next;
	part->offset = round_down(directory->entries[part->first].offset64 * (uint64_t)RECORD_ALIGN,
				  BLOCK_BYTES);
	while (sweep->next < sweep->end && part->count < SWEEP_PART_RECORDS) {
		const struct dir_entry *entry = &directory->entries[sweep->next];
		uint64_t next = segment_record_end(segment, entry);
		if (round_up(next, BLOCK_BYTES) - part->offset > SWEEP_PART_BYTES ||
		    frames + entry->frame_count > SWEEP_PART_FRAMES)
			break;
		end = next;
		part->entries[part->count] = *entry;
		part->entries[part->count].frame_first = frames;
		memcpy(&part->frames[frames], &directory->frames[entry->frame_first],
		       entry->frame_count * sizeof(part->frames[0]));
		frames += entry->frame_count;
		part->count++;
		sweep->next++;
	}
	assert(part->count > 0); /* a record is smaller than a part */
	part->bytes = (uint32_t)(round_up(end, BLOCK_BYTES) - part->offset);
	sweep->busy++;
	sweep->begun_ns = env_now_ns(sweep->store->env);
	pace_spend(sweep->store, part->bytes);
	part->op.done = part_read;
	env_file_read(segment->file, &part->op, part->buf, part->bytes, part->offset);
}

static bool part_suspect(struct sweep_part *part, uint32_t *ret_entry)
{
	for (; part->told < part->count; part->told++)
		if (part->suspect[part->told]) {
			*ret_entry = part->first + part->told;
			return true;
		}
	return false;
}

/* ---- the segment ---- */

int sweep_begin(struct sweep *sweep, struct segment *segment)
{
	if (!sweep->memory) {
		sweep->memory =
			env_memory(sweep->store->env, (size_t)SWEEP_PARTS * SWEEP_PART_BYTES);
		if (!sweep->memory)
			return -ENOMEM;
		guests_forget(sweep->store, &sweep->guests);
	}
	int res = segment_open_file(segment);
	if (res < 0)
		return res;
	for (unsigned i = 0; i < SWEEP_PARTS; i++) {
		sweep->parts[i].sweep = sweep;
		sweep->parts[i].buf = sweep->memory + (size_t)i * SWEEP_PART_BYTES;
		sweep->parts[i].used = false;
	}
	segment_use(segment);
	sweep->segment = segment;
	const struct directory *directory = segment_records(segment);
	sweep->next = 0;
	sweep->end = directory->entry_count;
	while (segment->writer && sweep->end > 0 &&
	       segment_record_end(segment, &directory->entries[sweep->end - 1]) >
		       segment_durable_end(segment->writer))
		sweep->end--;
	return 0;
}

int sweep_step(struct sweep *sweep, struct wait *wait, bool *ret_paced, uint32_t *ret_entry)
{
	bool waits = false;
	*ret_paced = false;
	for (unsigned i = 0; i < SWEEP_PARTS; i++) {
		struct sweep_part *part = &sweep->parts[i];
		if (part->used && part->done) {
			if (part_suspect(part, ret_entry))
				return SWEEP_SUSPECT;
			part->used = false;
		}
		if (!part->used && sweep->next < sweep->end) {
			if (sweep->resting || (sweep->busy && guests_there(sweep))) {
				waits = true;
				continue;
			}
			if (!pace_ready(sweep->store, wait)) {
				*ret_paced = true;
				return WAITING;
			}
			part_start(part);
		}
		waits |= part->used;
	}
	if (waits)
		return WAITING;
	segment_unuse(sweep->segment);
	sweep->segment = NULL;
	return 0;
}

void sweep_told(struct sweep *sweep, uint32_t entry)
{
	for (unsigned i = 0; i < SWEEP_PARTS; i++) {
		struct sweep_part *part = &sweep->parts[i];
		if (part->used && part->done && entry == part->first + part->told)
			part->told++;
	}
}

void sweep_done(struct sweep *sweep)
{
	if (sweep->resting)
		env_timer_stop(sweep->store->env, &sweep->rest);
	if (sweep->segment)
		segment_unuse(sweep->segment);
	if (sweep->memory)
		env_memory_free(sweep->store->env, sweep->memory,
				(size_t)SWEEP_PARTS * SWEEP_PART_BYTES);
	sweep->segment = NULL;
	sweep->memory = NULL;
	sweep->resting = false;
}
