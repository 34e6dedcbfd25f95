/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index goes to a file, beside everything else: one shard at a time is copied,
 * INDEX_GROUP_BYTES are written, then the next.
 *
 * Keeps true:
 *  - the file's old head is gone, durably, before its pages change; the new head is written when
 * pages and list are durable: a head that is whole speaks of pages that are whole;
 *  - what the head lists was sealed before the first page was copied, and left the index, if it
 * did, after the last one: of a listed segment no entry is missing. Entries of other segments may
 * be there, and do not count;
 *  - the other file is whole all the time; a file that could not be written only makes the next
 * opening slower.
 */
#include "storage/store/index_file.h"

#include "proto/crc32c.h"
#include "storage/rt/log_event.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define RETRY_NS (60 * NSEC_PER_SEC)
#define WRITE_BYTES (4 * INDEX_GROUP_BYTES)
/* So many sealed segments may be in no file: at opening their directories are read. */
#define INDEX_SEGMENTS_LEAST 16u
#define INDEX_SEGMENTS_MOST 128u

enum write_phase {
	WRITE_NONE,
	WRITE_CLEARED, /* each: this has ended, and what follows is started */
	WRITE_CLEAR_SYNCED,
	WRITE_PAGES,
	WRITE_LIST,
	WRITE_SYNCED,
	WRITE_FOLDER,
	WRITE_HEAD,
	WRITE_HEAD_SYNCED,
	WRITE_SPACE_FREED,
};

struct index_writer {
	struct store *store;
	enum write_phase phase;
	struct env_file *file;
	struct io_op op;
	struct wait pace;
	struct index_head head;
	uint64_t *page; /* the shard that is being copied out */
	uint64_t page_room, page_bytes, page_at;
	uint32_t shard; /* the next one */
	uint64_t offset;
	uint8_t *buf, *list, *head_buf;
	uint64_t list_bytes;
	uint64_t retry_ns;
	unsigned mend_files; /* bits: these must be written anew */
	int res;
};

int index_write_init(struct store *store)
{
	store->index_writer = calloc(1, sizeof(*store->index_writer));
	if (!store->index_writer)
		return -ENOMEM;
	store->index_writer->store = store;
	return 0;
}

static void write_free(struct index_writer *writer)
{
	struct env *env = writer->store->env;
	env_file_close(writer->file);
	writer->file = NULL;
	if (writer->buf)
		env_memory_free(env, writer->buf, WRITE_BYTES);
	if (writer->list)
		env_memory_free(env, writer->list, writer->list_bytes);
	if (writer->head_buf)
		env_memory_free(env, writer->head_buf, INDEX_PAGES_OFFSET);
	writer->buf = writer->list = writer->head_buf = NULL;
	index_head_free(&writer->head);
	free(writer->page);
	writer->page = NULL;
	writer->page_room = 0;
	writer->phase = WRITE_NONE;
}

void index_write_exit(struct store *store)
{
	if (!store->index_writer)
		return;
	write_free(store->index_writer);
	free(store->index_writer);
	store->index_writer = NULL;
}

bool index_write_idle(const struct store *store)
{
	return store->index_writer->phase == WRITE_NONE;
}

unsigned index_write_phase(const struct store *store)
{
	return store->index_writer->phase;
}

int index_write_file(const struct store *store)
{
	return index_write_idle(store) ? -1 : (int)((store->index_generation + 1) % 2);
}

void index_write_mend(struct store *store, unsigned file_no)
{
	store->index_writer->mend_files |= 1u << file_no;
	index_write_kick(store, 0);
}

void index_write_mend_both(struct store *store)
{
	index_write_mend(store, 0);
	index_write_mend(store, 1);
}

/* ---- which segments ---- */

static bool segment_listable(const struct segment *segment)
{
	return segment && segment->state == SEGMENT_SEALED && !segment->writer &&
	       !segment->leaving && !segment->load_error && !segment->unlisted && !segment->damaged;
}

static uint32_t uncovered_count(const struct store *store, uint32_t *ret_covered)
{
	uint32_t uncovered = 0, covered = 0;
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		const struct segment *segment = segment_of(store, slot);
		if (segment && segment->indexed)
			covered++;
		else if (segment_listable(segment))
			uncovered++;
	}
	*ret_covered = covered;
	return uncovered;
}

static int list_begin(struct index_writer *writer)
{
	const struct store *store = writer->store;
	struct index_head *head = &writer->head;
	uint32_t slots = segments_slot_count(store);
	head->pages = calloc(INDEX_SHARDS, sizeof(*head->pages));
	head->segments = calloc(slots + 1, sizeof(*head->segments));
	if (!head->pages || !head->segments)
		return -ENOMEM;
	for (uint32_t slot = 1; slot < slots; slot++) {
		const struct segment *segment = segment_of(store, slot);
		if (segment_listable(segment))
			head->segments[head->header.segment_count++] = (struct index_segment){
				.id = segment->id,
				.slot = slot,
				.blocks = (uint32_t)(segment->bytes / BLOCK_BYTES)};
	}
	return 0;
}

/* All pages are copied: what left the index meanwhile, or was found unreadable, leaves the list. */
static int list_end(struct index_writer *writer)
{
	struct store *store = writer->store;
	struct index_head *head = &writer->head;
	uint32_t kept = 0;
	for (uint32_t i = 0; i < head->header.segment_count; i++) {
		const struct segment *segment = segment_of(store, head->segments[i].slot);
		if (segment_listable(segment) && segment->id == head->segments[i].id)
			head->segments[kept++] = head->segments[i];
	}
	head->header.segment_count = kept;
	uint64_t bytes = kept * (uint64_t)INDEX_SEGMENT_BYTES;
	writer->list_bytes = round_up(max_u64(bytes, 1), BLOCK_BYTES);
	writer->list = env_memory(store->env, writer->list_bytes);
	if (!writer->list)
		return -ENOMEM;
	for (uint32_t i = 0; i < kept; i++)
		index_segment_encode(&head->segments[i],
				     writer->list + (size_t)i * INDEX_SEGMENT_BYTES);
	head->header.segments_crc = crc32c(0, writer->list, bytes);
	head->header.segments_offset = writer->offset;
	return 0;
}

/* ---- the steps ---- */

static void write_step(struct io_op *op);

static void write_end(struct index_writer *writer, int res)
{
	struct store *store = writer->store;
	uint64_t generation = store->index_generation + 1;
	if (res < 0) {
		log_event(LOG_LEVEL_WARNING, "index.not_written",
			  "file=%s error=\"%s\" effect=\"opening takes longer; tried again soon\"",
			  index_file_name(generation), vs_strerror(res));
		writer->retry_ns = env_now_ns(store->env) + RETRY_NS;
		write_free(writer);
		return;
	}
	for (uint32_t i = 0; i < writer->head.header.segment_count; i++) {
		const struct index_segment *listed = &writer->head.segments[i];
		struct segment *segment = segment_of(store, listed->slot);
		if (segment && segment->id == listed->id)
			segment->indexed = true;
	}
	store->index_generation = generation;
	store->counters.index_checkpoints++;
	writer->mend_files &= ~(1u << generation % 2);
	write_free(writer);
	index_write_kick(store, 0);
}

/* Fills buf from the shards on. How many bytes, whole blocks; 0: there are none left. */
static int64_t pages_copy(struct index_writer *writer)
{
	const struct index *index = writer->store->index;
	uint64_t filled = 0;
	while (filled < WRITE_BYTES) {
		if (writer->page_at == writer->page_bytes) {
			if (writer->shard == INDEX_SHARDS)
				break;
			uint64_t count = index_shard_count(index, writer->shard);
			struct index_page *page = &writer->head.pages[writer->shard];
			if (count > INDEX_PAGE_ENTRIES_MAX)
				return -EFBIG;
			if (8 * count > writer->page_room) {
				free(writer->page);
				writer->page_room = 8 * (count + count / 4);
				writer->page = malloc(writer->page_room);
				if (!writer->page) {
					writer->page_room = 0;
					return -ENOMEM;
				}
			}
			if (count > 0)
				index_shard_store(index, writer->shard, writer->page);
			page->entry_count = (uint32_t)count;
			page->crc = index_page_crc(writer->shard, writer->page, 8 * count);
			writer->page_bytes = 8 * count;
			writer->page_at = 0;
			writer->head.header.entry_count += count;
			writer->shard++;
			continue;
		}
		uint64_t part = min_u64(WRITE_BYTES - filled, writer->page_bytes - writer->page_at);
		memcpy(writer->buf + filled, (uint8_t *)writer->page + writer->page_at, part);
		filled += part;
		writer->page_at += part;
	}
	uint64_t whole = round_up(filled, BLOCK_BYTES);
	memset(writer->buf + filled, 0, whole - filled);
	return (int64_t)whole;
}

static void write_pages(struct index_writer *writer)
{
	int64_t bytes = pages_copy(writer);
	if (bytes == 0) {
		writer->phase = WRITE_LIST;
		bytes = list_end(writer);
		if (bytes == 0) {
			env_file_write(writer->file, &writer->op, writer->list,
				       (uint32_t)writer->list_bytes, writer->offset, 0);
			return;
		}
	}
	if (bytes < 0) {
		write_end(writer, (int)bytes);
		return;
	}
	env_file_write(writer->file, &writer->op, writer->buf, (uint32_t)bytes, writer->offset, 0);
	writer->offset += (uint64_t)bytes;
	pace_spend(writer->store, (uint64_t)bytes);
}

/* One of those who write in bulk: they share a budget, which guests' flushes bound. */
static void write_paced(struct wait *wait)
{
	struct index_writer *writer = container_of(wait, struct index_writer, pace);
	if (pace_ready(writer->store, &writer->pace))
		write_pages(writer);
}

static void write_head(struct index_writer *writer)
{
	struct index_head *head = &writer->head;
	struct store *store = writer->store;
	uint8_t *table = writer->head_buf + INDEX_HEADER_BYTES;
	for (uint32_t i = 0; i < INDEX_SHARDS; i++)
		index_page_encode(&head->pages[i], table + 8ull * i);
	head->header.table_crc = crc32c(0, table, INDEX_TABLE_BYTES);
	head->header.generation = store->index_generation + 1;
	head->header.next_segment_id = store->next_segment_id;
	index_header_encode(store->sb.uuid, &head->header, writer->head_buf);
	env_file_write(writer->file, &writer->op, writer->head_buf, INDEX_PAGES_OFFSET, 0, 0);
}

static void write_failed(struct index_writer *writer, int res)
{
	writer->res = res;
	if (res != -ENOSPC && res != -EDQUOT) {
		write_end(writer, res);
		return;
	}
	writer->phase = WRITE_SPACE_FREED; /* others need it more */
	env_file_truncate(writer->file, &writer->op, INDEX_HEADER_BYTES);
}

static void write_step(struct io_op *op)
{
	struct index_writer *writer = container_of(op, struct index_writer, op);
	struct store *store = writer->store;
	if (op->res < 0 && writer->phase != WRITE_SPACE_FREED) {
		write_failed(writer, (int)op->res);
		return;
	}
	switch (writer->phase) {
	case WRITE_CLEARED:
		writer->phase = WRITE_CLEAR_SYNCED;
		env_file_sync(writer->file, op);
		return;
	case WRITE_CLEAR_SYNCED:
		writer->phase = WRITE_PAGES;
		write_pages(writer);
		return;
	case WRITE_PAGES:
		write_paced(&writer->pace);
		return;
	case WRITE_LIST:
		writer->phase = WRITE_SYNCED;
		if (MUTANT(22))
			env_complete(store->env, op, 0);
		else
			env_file_sync(writer->file, op);
		return;
	case WRITE_SYNCED:
		writer->phase = WRITE_FOLDER;
		env_dir_sync(store->dir, op);
		return;
	case WRITE_FOLDER:
		writer->phase = WRITE_HEAD;
		write_head(writer);
		return;
	case WRITE_HEAD:
		writer->phase = WRITE_HEAD_SYNCED;
		env_file_sync(writer->file, op);
		return;
	case WRITE_HEAD_SYNCED:
		write_end(writer, 0);
		return;
	case WRITE_SPACE_FREED:
	case WRITE_NONE:
		break;
	}
	write_end(writer, writer->res);
}

static int write_begin(struct index_writer *writer)
{
	struct store *store = writer->store;
	int res = list_begin(writer);
	writer->buf = env_memory(store->env, WRITE_BYTES);
	writer->head_buf = env_memory(store->env, INDEX_PAGES_OFFSET);
	if (res == 0 && (!writer->buf || !writer->head_buf))
		res = -ENOMEM;
	if (res == 0)
		res = env_file_open(store->dir, index_file_name(store->index_generation + 1),
				    ENV_CREATE | ENV_DIRECT, &writer->file);
	if (res < 0)
		return res;
	writer->shard = 0;
	writer->page_bytes = writer->page_at = 0;
	writer->offset = INDEX_PAGES_OFFSET;
	writer->phase = WRITE_CLEARED;
	writer->pace.wake = write_paced;
	writer->op.done = write_step;
	/* head_buf is zeros still */
	env_file_write(writer->file, &writer->op, writer->head_buf, INDEX_HEADER_BYTES, 0, 0);
	return 0;
}

void index_write_kick(struct store *store, uint32_t least)
{
	struct index_writer *writer = store->index_writer;
	uint32_t covered;
	if (!store->started || store->read_only || store->failed || store->index_load ||
	    writer->phase != WRITE_NONE || env_now_ns(store->env) < writer->retry_ns)
		return;
	uint32_t uncovered = uncovered_count(store, &covered);
	if (least == 0)
		least = store->options.index_lag_segments;
	if (least == 0)
		least = (uint32_t)max_u64(INDEX_SEGMENTS_LEAST,
					  min_u64(covered / 64, INDEX_SEGMENTS_MOST));
	if (uncovered < least && !writer->mend_files)
		return;
	int res = write_begin(writer);
	if (res < 0)
		write_end(writer, res);
}
