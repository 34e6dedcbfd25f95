/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The scrub: every record of every sealed segment is read and proved by its full hash, segment by
 * segment in the order of their ids, once in a period, for ever.
 *
 * It is spread over the period: a segment is due when that part of the pass which lies before it
 * has had its time; when the store was closed, what became due is caught up one segment a tick.
 * What was verified and is gone since counts as a part of the pass that is done (until a restart),
 * and what is made when the period is over is the next pass's: so a store in which much is written
 * and collected is not read as fast as that.
 * Where it is, is in the checkpoints, so a restart goes on there. The work on a segment is
 * check.c's: a record found bad is no target of deduplication from then on (after a restart: from
 * its next reading on), and what it belongs to is named. A pass by hand goes over all of it at
 * once: over the stored bytes and their checksums, which finds what rots on a disk, or, when it is
 * to be deep, as this one. The former does not set this one back: everything is still decoded once
 * in a period.
 *
 * Keeps true: the oldest age that is told is never too young.
 */
#include "storage/store/behind.h"

#include "storage/rt/log_event.h"
#include "storage/store/index_file.h"
#include "storage/store/mutant.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIOD_NS_DEFAULT (30ull * 24 * 3600 * NSEC_PER_SEC)
#define CHECKPOINT_NS (600 * NSEC_PER_SEC)

struct scrub {
	struct store *store;
	struct store_life life;
	struct store_work own;
	bool busy;
	uint64_t segment_id;		 /* which own is on */
	uint64_t done_bytes, bytes_left; /* of the pass; done, also of what is gone since */
	uint64_t segment_bytes;		 /* of the one that own is on */
	uint64_t end_id;		 /* segments with this id and above are the next pass's */
	uint64_t kept_ns;		 /* age at which a checkpoint last had it */
	char failed[SENTENCE_BYTES], found[SENTENCE_BYTES];
};

int scrub_init(struct store *store)
{
	store->scrub = calloc(1, sizeof(*store->scrub));
	if (!store->scrub)
		return -ENOMEM;
	store->scrub->store = store;
	store->scrub->end_id = UINT64_MAX;
	return 0;
}

void scrub_exit(struct store *store)
{
	free(store->scrub);
	store->scrub = NULL;
}

void scrub_life(const struct store *store, struct store_life *ret)
{
	*ret = store->scrub->life;
	if (MUTANT(61) && store->scrub->busy)
		ret->scrub_segment_id = store->scrub->segment_id;
	ret->age_ns = store_age_ns(store);
	store->scrub->kept_ns = ret->age_ns;
}

void scrub_life_set(struct store *store, const struct store_life *life)
{
	store->scrub->life = *life;
}

uint64_t scrub_oldest_ns(const struct store *store)
{
	const struct store_life *life = &store->scrub->life;
	uint64_t age = store_age_ns(store);
	return age - min_u64(age, life->scrub_before_ns);
}

/* ---- by itself ---- */

/* The sealed segment with the smallest id above the pass's place; NULL: the pass is over. */
static struct segment *scrub_next(struct scrub *scrub)
{
	struct store *store = scrub->store;
	struct segment *best = NULL;
	uint64_t done_bytes = 0; /* of what is still there */
	scrub->bytes_left = 0;
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		struct segment *segment = segment_of(store, slot);
		if (!segment || segment->state != SEGMENT_SEALED || segment->writer ||
		    segment->id >= scrub->end_id)
			continue;
		if (segment->id <= scrub->life.scrub_segment_id) {
			done_bytes += segment->bytes;
			continue;
		}
		scrub->bytes_left += segment->bytes;
		if (!best || segment->id < best->id)
			best = segment;
	}
	scrub->done_bytes = max_u64(scrub->done_bytes, done_bytes);
	return best;
}

static void scrub_done(struct io_op *op)
{
	struct scrub *scrub = container_of(op, struct scrub, own.op);
	struct store *store = scrub->store;
	scrub->busy = false;
	if (op->res == -VS_ECANCELLED)
		return;
	if (op->res < 0) { /* the same segment again, at a later tick; told once */
		if (!scrub->failed[0])
			log_event(LOG_LEVEL_ERROR, "scrub.failed",
				  "segment=%016llx error=\"%s\" effect=\"it is tried again\"",
				  (unsigned long long)scrub->segment_id, vs_strerror((int)op->res));
		snprintf(scrub->failed, SENTENCE_BYTES,
			 "The scrub does not get past segment %016llx: %s.",
			 (unsigned long long)scrub->segment_id, vs_strerror((int)op->res));
		store->counters.scrubs_failed++;
		return;
	}
	scrub->failed[0] = 0;
	uint64_t records = scrub->own.damaged - scrub->own.damaged_files;
	if (records)
		log_event(LOG_LEVEL_ERROR, "scrub.damage",
			  "segment=%016llx records=%llu effect=\"they are no target of "
			  "deduplication any more\" hint=\"vstorectl store check names what they "
			  "affect\"",
			  (unsigned long long)scrub->segment_id, (unsigned long long)records);
	store->counters.scrubbed_records += scrub->own.chunks;
	store->counters.scrub_damaged += records;
	scrub->life.scrub_segment_id = scrub->segment_id;
	scrub->done_bytes += scrub->segment_bytes;
}

static void scrub_line(struct store_work *work, const char *line)
{
	struct scrub *scrub = container_of(work, struct scrub, own);
	snprintf(scrub->found, SENTENCE_BYTES, "%s", line);
	log_event(LOG_LEVEL_ERROR, "scrub.finding", "what=\"%s\"", line);
}

const char *scrub_failed(const struct store *store)
{
	return store->scrub->failed;
}

const char *scrub_found(const struct store *store)
{
	return store->scrub->found;
}

void scrub_pass_ended(struct store *store, uint64_t begun_ns, bool shallow)
{
	struct store_life *life = &store->scrub->life;
	life->scrub_before_ns = max_u64(life->scrub_before_ns, begun_ns);
	if (shallow) /* the pass that decodes everything goes on where it is */
		return;
	life->scrub_begun_ns = store_age_ns(store);
	life->scrub_segment_id = 0;
	store->scrub->done_bytes = 0;
	store->scrub->end_id = UINT64_MAX;
}

void scrub_tick(struct store *store)
{
	struct scrub *scrub = store->scrub;
	uint64_t age = store_age_ns(store);
	uint64_t period =
		store->options.scrub_period_ns ? store->options.scrub_period_ns : PERIOD_NS_DEFAULT;
	if (store->closing || store->read_only || store->failed)
		return;
	if (age - min_u64(age, scrub->kept_ns) > CHECKPOINT_NS) {
		scrub->kept_ns = age; /* not again while this one is on its way */
		checkpoint_want(store);
	}
	if (scrub->busy || period == SCRUB_NEVER || !index_loaded(store))
		return;
	uint64_t since = age - min_u64(age, scrub->life.scrub_begun_ns);
	if (since >= period)
		scrub->end_id = min_u64(scrub->end_id, store->next_segment_id);
	struct segment *segment = scrub_next(scrub);
	if (!segment) {
		if (since >= period)
			scrub_pass_ended(store, scrub->life.scrub_begun_ns, false);
		return;
	}
	/* Due when its part of the period has begun. */
	double done = (double)scrub->done_bytes, all = done + (double)scrub->bytes_left;
	if ((double)since < (double)period * done / all)
		return;
	scrub->busy = true;
	scrub->segment_id = segment->id;
	scrub->segment_bytes = segment->bytes;
	scrub->own = (struct store_work){.op.done = scrub_done, .report = scrub_line};
	check_segment(store, &scrub->own, segment->slot);
}
