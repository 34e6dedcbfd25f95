/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads blocks of one stored chunk: locate, one read of the frames that are needed, one job that
 * checks and decodes them.
 *
 * Keeps true: what is handed out has passed its frames' checksums, which are seeded with the id; a
 * segment's file stays open while a read of it is under way. A record that fails is marked bad: it
 * is never a target of deduplication again, and another copy of it, if there is one, is used; if
 * there is none, the fetch waits, once, until heal.c has stored one or says that nobody has it.
 */
#include "storage/store/fetch.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"
#include "storage/store/cache.h"
#include "storage/store/heal.h"
#include "storage/store/index.h"
#include "storage/store/mutant.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define READ_ALIGN 4096u
#define STORED_ROOM (CHUNK_BYTES + 2 * READ_ALIGN + FRAMES_PER_CHUNK_MAX * 64)
#define FOREGROUND_SHARE (FETCH_COUNT / 2) /* background work leaves so many */

struct fetches {
	struct fetch all[FETCH_COUNT];
	struct fetch *free;
	uint32_t free_count;
	struct wait_list waiters;
	uint8_t *memory;
	size_t memory_bytes;
};

int fetch_init(struct store *store)
{
	struct fetches *fetches = calloc(1, sizeof(*fetches));
	size_t each = round_up(STORED_ROOM, READ_ALIGN) + CHUNK_BYTES;
	if (!fetches)
		return -ENOMEM;
	store->fetches = fetches;
	fetches->memory_bytes = FETCH_COUNT * each;
	fetches->memory = env_memory(store->env, fetches->memory_bytes);
	if (!fetches->memory)
		return -ENOMEM;
	for (unsigned i = 0; i < FETCH_COUNT; i++) {
		struct fetch *fetch = &fetches->all[i];
		fetch->store = store;
		fetch->spill = fetches->memory + i * each;
		fetch->stored = fetch->spill + CHUNK_BYTES;
		fetch->next = fetches->free;
		fetches->free = fetch;
	}
	fetches->free_count = FETCH_COUNT;
	return 0;
}

void fetch_exit(struct store *store)
{
	if (!store->fetches)
		return;
	if (store->fetches->memory)
		env_memory_free(store->env, store->fetches->memory, store->fetches->memory_bytes);
	free(store->fetches);
	store->fetches = NULL;
}

uint64_t fetch_memory_bytes(const struct store *store)
{
	return sizeof(struct fetches) + store->fetches->memory_bytes;
}

struct fetch *fetch_new(struct store *store, bool background, struct wait *wait)
{
	struct fetches *fetches = store->fetches;
	if (!fetches->free || (background && fetches->free_count <= FOREGROUND_SHARE)) {
		if (wait)
			wait_add(&fetches->waiters, wait);
		return NULL;
	}
	struct fetch *fetch = fetches->free;
	fetches->free = fetch->next;
	fetches->free_count--;
	fetch->background = background;
	fetch->no_cache = false;
	fetch->no_heal = false;
	fetch->location = 0;
	fetch->whole = false;
	fetch->proof = false;
	fetch->segment = NULL;
	fetch->type = RECORD_CHUNK;
	return fetch;
}

void fetch_free(struct fetch *fetch)
{
	struct fetches *fetches = fetch->store->fetches;
	fetch->next = fetches->free;
	fetches->free = fetch;
	fetches->free_count++;
	wait_wake_all(&fetches->waiters);
}

static void fetch_end(struct fetch *fetch, int res)
{
	if (fetch->segment)
		segment_unuse(fetch->segment);
	fetch->segment = NULL;
	fetch->done(fetch, res);
}

static void fetch_look(struct wait *wait);

static void fetch_failed(struct io_op *op)
{
	fetch_end(container_of(op, struct fetch, op), (int)op->res);
}

/* Never inside the call that started it. */
static void fetch_fail(struct fetch *fetch, int res)
{
	fetch->op.done = fetch_failed;
	env_complete(fetch->store->env, &fetch->op, res);
}

/* Of the record that the id names there is none here that can be read. */
static void fetch_damaged(struct fetch *fetch, int res)
{
	fetch->res = res;
	if (fetch->location || fetch->no_heal || fetch->heal_asked || res == -ENOMEM ||
	    heal_ask(fetch->store, &fetch->id, fetch->type, &fetch->wait) != WAITING) {
		fetch_fail(fetch, res);
		return;
	}
	fetch->heal_asked = true;
}

/* The record is bad: the next look finds another copy, or ends with its error. */
static void fetch_bad(struct fetch *fetch, int res)
{
	struct store *store = fetch->store;
	struct directory *directory = segment_records(fetch->segment);
	struct dir_entry *entry = NULL;
	if (directory)
		entry = directory_find(directory, fetch->offset64);
	char id[17];
	text_hex(fetch->id.bytes, 8, id);
	log_event(LOG_LEVEL_ERROR, "record.bad",
		  "segment=%016llx id=%s error=\"%s\" effect=\"reads of it fail\" hint=\"vstorectl "
		  "store check\"",
		  (unsigned long long)fetch->segment->id, id, vs_strerror(res));
	store->counters.checksum_errors++;
	bool first = entry && !entry->bad && !fetch->location;
	if (entry)
		entry->bad = true;
	segment_unuse(fetch->segment);
	fetch->segment = NULL;
	fetch->res = res;
	if (first)
		fetch_look(&fetch->wait);
	else
		fetch_damaged(fetch, res);
}

static void fetch_decoded(struct io_op *op)
{
	struct fetch *fetch = container_of(op, struct fetch, job.op);
	struct store *store = fetch->store;
	if (op->res == -VS_ELOST) { /* the record is good, and says that the data is not there */
		fetch_end(fetch, -VS_ELOST);
		return;
	}
	if (op->res < 0) {
		fetch_bad(fetch, (int)op->res);
		return;
	}
	if (fetch->whole) {
		fetch_end(fetch, 0);
		return;
	}
	uint32_t first = fetch->frame_from * fetch->frame_bytes; /* what spill starts with */
	if (fetch->type == RECORD_CHUNK) {
		uint32_t from = fetch->block_first * BLOCK_BYTES;
		uint32_t bytes = fetch->block_count * BLOCK_BYTES;
		uint32_t decoded = (fetch->frame_to - fetch->frame_from) * fetch->frame_bytes;
		if (fetch->target != fetch->raw)
			memcpy(fetch->raw, fetch->target + (from - first), bytes);
		for (uint32_t at = 0; !fetch->no_cache && at < decoded; at += BLOCK_BYTES)
			cache_put(store->cache, &fetch->id,
				  (first + at) / BLOCK_BYTES + (MUTANT(26) ? 1 : 0),
				  fetch->target + at);
	}
	fetch_end(fetch, 0);
}

/* The record's own header, which else only a scan needs, and the hashes of its quarters. */
static int fetch_prove(const struct fetch *fetch, const uint8_t *record)
{
	struct dir_entry known = {.id = fetch->id,
				  .raw_bytes = fetch->raw_bytes,
				  .type = fetch->type,
				  .domain = fetch->domain,
				  .frame_count = (uint8_t)fetch->frame_to};
	return record_head_prove(domain_key(fetch->store, fetch->domain), record, fetch->head_bytes,
				 &known, fetch->frames);
}

static int64_t fetch_decode(struct env_job *job, unsigned worker_no)
{
	struct fetch *fetch = container_of(job, struct fetch, job);
	const uint8_t *stored = fetch->stored + fetch->stored_skip;
	uint8_t *raw = fetch->target;
	int proved = fetch->proof ? fetch_prove(fetch, stored) : 0;
	if (proved < 0)
		return proved;
	stored += fetch->head_bytes;
	for (uint32_t i = fetch->frame_from; i < fetch->frame_to; i++) {
		int res = codec_decode(fetch->store->codec, worker_no, &fetch->frames[i], i,
				       &fetch->id, stored, raw, fetch->frame_bytes);
		if (res < 0)
			return res;
		stored += fetch->frames[i].stored_bytes;
		raw += fetch->frame_bytes;
	}
	return 0;
}

const uint8_t *fetch_record(const struct fetch *fetch)
{
	return fetch->have_record ? fetch->stored + fetch->stored_skip : NULL;
}

static int64_t fetch_verify(struct env_job *job, unsigned worker_no)
{
	const struct fetch *fetch = container_of(job, struct fetch, job);
	const uint8_t *stored = fetch_record(fetch) + fetch->head_bytes;
	(void)worker_no;
	for (uint32_t i = fetch->frame_from; i < fetch->frame_to; i++) {
		if (!codec_frame_whole(&fetch->id, i, &fetch->frames[i], stored))
			return -VS_ECHECKSUM;
		stored += fetch->frames[i].stored_bytes;
	}
	return 0;
}

static void fetch_read_done(struct io_op *op)
{
	struct fetch *fetch = container_of(op, struct fetch, op);
	uint64_t want = fetch->stored_skip + fetch->head_bytes;
	for (uint32_t i = fetch->frame_from; i < fetch->frame_to; i++)
		want += fetch->frames[i].stored_bytes;
	if (op->res < 0 || (uint64_t)op->res < want) {
		fetch->store->counters.io_errors++;
		fetch_bad(fetch, op->res < 0 ? (int)op->res : -VS_ECHECKSUM);
		return;
	}
	fetch->have_record = fetch->whole;
	fetch->job = (struct env_job){.op.done = fetch_decoded,
				      .run = fetch->whole ? fetch_verify : fetch_decode,
				      .background = fetch->background};
	env_job(fetch->store->env, &fetch->job);
}

static void fetch_read(struct fetch *fetch, struct segment *segment, const struct dir_entry *entry)
{
	const struct frame_entry *frames = &segment_records(segment)->frames[entry->frame_first];
	uint32_t expect = fetch->type == RECORD_CHUNK ? CHUNK_BYTES : NODE_BYTES;
	/* Whoever names it errs (a peer may), not the record; and nobody else has another one. */
	if (entry->type != fetch->type) {
		fetch_fail(fetch, -VS_EFORMAT);
		return;
	}
	if (entry->raw_bytes != expect) {
		fetch->offset64 = entry->offset64;
		segment_use(segment);
		fetch->segment = segment;
		fetch_bad(fetch, -VS_EFORMAT);
		return;
	}
	fetch->domain = entry->domain;
	fetch->raw_bytes = entry->raw_bytes;
	fetch->frame_bytes = entry->raw_bytes / entry->frame_count;
	fetch->frame_from = 0;
	fetch->frame_to = entry->frame_count;
	fetch->target = fetch->raw;
	if (fetch->type == RECORD_CHUNK) {
		fetch->frame_from = fetch->block_first * BLOCK_BYTES / fetch->frame_bytes;
		fetch->frame_to =
			(uint32_t)((fetch->block_first + fetch->block_count) * BLOCK_BYTES +
				   fetch->frame_bytes - 1) /
			fetch->frame_bytes;
		if ((fetch->frame_to - fetch->frame_from) * fetch->frame_bytes !=
		    fetch->block_count * BLOCK_BYTES)
			fetch->target = fetch->spill; /* frames reach beyond the blocks */
	}
	fetch->offset64 = entry->offset64;
	uint32_t header = record_header_bytes(entry->frame_count);
	uint32_t prefix = record_prefix_bytes(entry->type);
	fetch->head_bytes =
		(fetch->proof ? header : 0) + (fetch->proof || fetch->whole ? prefix : 0);
	uint64_t start = (uint64_t)entry->offset64 * RECORD_ALIGN + header + prefix;
	start -= fetch->head_bytes;
	uint64_t bytes = fetch->head_bytes;
	memcpy(fetch->frames, frames, entry->frame_count * sizeof(*frames));
	for (uint32_t i = 0; i < fetch->frame_from; i++)
		start += frames[i].stored_bytes;
	for (uint32_t i = fetch->frame_from; i < fetch->frame_to; i++)
		bytes += frames[i].stored_bytes;
	int res = segment_open_file(segment);
	if (lacks_means(res)) {
		fetch_damaged(fetch, res);
		return;
	}
	segment_use(segment);
	fetch->segment = segment;
	if (res < 0) {
		fetch_bad(fetch, res);
		return;
	}
	unsigned align = env_file_align(segment->file);
	uint64_t offset = round_down(start, align);
	fetch->stored_skip = (uint32_t)(start - offset);
	uint32_t read_bytes = (uint32_t)(round_up(start + bytes, align) - offset);
	assert(read_bytes <= round_up(STORED_ROOM, READ_ALIGN));
	fetch->op.done = fetch_read_done;
	if (read_bytes == 0)
		env_complete(fetch->store->env, &fetch->op, 0);
	else
		env_file_read(segment->file, &fetch->op, fetch->stored, read_bytes, offset);
}

/* One record, whichever its id's other copies are. */
static int fetch_locate(struct fetch *fetch, struct segment **ret_segment,
			struct dir_entry **ret_entry)
{
	struct segment *segment = segment_of(fetch->store, location_slot(fetch->location));
	int res = segment ? segments_directory(segment, &fetch->wait) : -ENOENT;
	if (res)
		return res;
	*ret_segment = segment;
	*ret_entry = directory_find(segment_records(segment), location_offset64(fetch->location));
	return *ret_entry && id_equal(&(*ret_entry)->id, &fetch->id) ? 0 : -ENOENT;
}

static void fetch_look(struct wait *wait)
{
	struct fetch *fetch = container_of(wait, struct fetch, wait);
	struct segment *segment;
	struct dir_entry *entry;
	fetch->wait.wake = fetch_look;
	int res = fetch->location ? fetch_locate(fetch, &segment, &entry)
				  : segments_locate(fetch->store, &fetch->id, fetch->res < 0,
						    &fetch->wait, &segment, &entry);
	if (res == WAITING)
		return;
	if (res < 0) {
		/* A name without its record is damage, whatever the index says; a place without
		 * one is a record that a collection moved. */
		bool lost = res == -ENOENT && !fetch->location;
		fetch_damaged(fetch, fetch->res < 0 ? fetch->res : lost ? -VS_ELOST : res);
		return;
	}
	fetch_read(fetch, segment, entry);
}

void fetch_start(struct fetch *fetch)
{
	fetch->have_record = false;
	fetch->heal_asked = false;
	fetch->res = 0;
	fetch_look(&fetch->wait);
}
