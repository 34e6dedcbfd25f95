/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index comes from its file: the head at opening, a page when somebody asks for an id of it,
 * the rest one after the other.
 *
 * Keeps true:
 *  - a page counts only when its checksum in the head is right; what was in one that is not is
 * taken from the directories of the segments that the file lists, before anybody gets an answer
 * from it;
 *  - an entry counts only when its segment, by slot and id, is in the file's list and in the
 * catalog: slots are reused, and an old entry must not point into another segment;
 *  - no segment is dropped before all pages are there (gc waits), so that removing entries needs no
 * memory of its own;
 *  - what one completion costs the loop is bounded by INDEX_GROUP_BYTES, or by one page.
 */
#include "storage/store/index_file.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/mutant.h"
#include "storage/store/recovery.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define READ_COUNT 4u					 /* the first one is the sweep's */
#define ASKED_BYTES min_u64(16 * KIB, INDEX_GROUP_BYTES) /* read when somebody waits for a page */

enum page_state { PAGE_THERE, PAGE_ON_DISK, PAGE_READING, PAGE_DAMAGED };

struct page_read {
	struct index_load *load;
	struct io_op op;
	uint8_t *buf;
	uint32_t first, count;
	uint64_t skip; /* bytes of buf before the first page */
	bool busy;
};

struct index_load {
	struct store *store;
	struct env_file *file;
	struct index_head head;
	uint64_t *offsets; /* of each shard's page in the file */
	uint8_t states[INDEX_SHARDS];
	uint64_t *cover; /* by slot: the id of the segment whose entries count, or 0 */
	uint32_t cover_count;
	struct page_read reads[READ_COUNT];
	uint64_t buf_bytes;
	uint32_t sweep_at, left, damaged;
	uint64_t pending;
	bool started, kicked, mend_busy;
	uint32_t mend_slot, mend_read, mend_unreadable;
	struct wait mend_wait;
	struct io_op mend_op, kick_op;
	struct wait_list waiters;
	int failed;
};

/* ---- opening ---- */

static int file_read(struct store *store, struct env_file *file, uint64_t offset, uint64_t bytes,
		     uint8_t *buf)
{
	int64_t got = env_file_read_wait(file, buf, (uint32_t)round_up(bytes, BLOCK_BYTES), offset);
	return got < 0 ? (int)got : (uint64_t)got < bytes ? -VS_EFORMAT : 0;
}

/* Straight-line. 0; -ENOENT: no file, or one whose writing had not ended. */
static int head_read(struct store *store, unsigned number, struct index_head *ret)
{
	struct env_file *file;
	*ret = (struct index_head){0};
	int res =
		env_file_open(store->dir, index_file_name(number), ENV_RDONLY | ENV_DIRECT, &file);
	if (res < 0)
		return res;
	uint64_t room = INDEX_PAGES_OFFSET;
	uint8_t *buf = env_memory(store->env, room);
	static const uint8_t unfinished[INDEX_HEADER_BYTES];
	res = buf ? file_read(store, file, 0, room, buf) : -ENOMEM;
	if (res == 0 && memcmp(buf, unfinished, INDEX_HEADER_BYTES) == 0)
		res = -ENOENT;
	if (res == 0)
		res = index_head_decode(store->sb.uuid, buf, ret);
	if (buf)
		env_memory_free(store->env, buf, room);
	if (res == 0) {
		uint64_t bytes = ret->header.segment_count * (uint64_t)INDEX_SEGMENT_BYTES;
		room = round_up(max_u64(bytes, 1), BLOCK_BYTES);
		buf = env_memory(store->env, room);
		res = buf ? file_read(store, file, ret->header.segments_offset, bytes, buf)
			  : -ENOMEM;
		if (res == 0)
			res = index_list_decode(ret, buf);
		if (buf)
			env_memory_free(store->env, buf, room);
	}
	env_file_close(file);
	if (res == 0 && ret->header.generation % 2 != number)
		res = -VS_EFORMAT; /* another file under this name: its pages would be looked for
				      there */
	if (res < 0)
		index_head_free(ret);
	return res;
}

/* Which segments need not be read, and whose entries count. */
static int cover_note(struct index_load *load)
{
	struct store *store = load->store;
	const struct index_head *head = &load->head;
	load->cover_count = segments_slot_count(store);
	load->cover = calloc(load->cover_count + 1, sizeof(*load->cover));
	if (!load->cover)
		return -ENOMEM;
	for (uint32_t i = 0; i < head->header.segment_count; i++) {
		const struct index_segment *listed = &head->segments[i];
		struct segment *segment = segment_of(store, listed->slot);
		if (!segment)
			continue;
		if (segment->id == listed->id || MUTANT(20))
			load->cover[listed->slot] = listed->id;
		if (segment->id != listed->id)
			continue;
		segment->indexed = true;
		store->segment_bytes -= segment->bytes;
		segment->bytes = listed->blocks * (uint64_t)BLOCK_BYTES;
		store->segment_bytes += segment->bytes;
	}
	/* An id that this file names must never be given again, even where a power cut took the
	 * record of its segment: the entries would pass for those of the new one. */
	store->next_segment_id = max_u64(store->next_segment_id, head->header.next_segment_id);
	return 0;
}

static int pages_note(struct index_load *load)
{
	uint64_t offset = INDEX_PAGES_OFFSET, most = INDEX_GROUP_BYTES;
	load->offsets = malloc((INDEX_SHARDS + 1) * sizeof(*load->offsets));
	if (!load->offsets)
		return -ENOMEM;
	for (uint32_t i = 0; i < INDEX_SHARDS; i++) {
		uint64_t bytes = 8ull * load->head.pages[i].entry_count;
		load->offsets[i] = offset;
		offset += bytes;
		most = max_u64(most, bytes);
		if (!bytes)
			continue;
		load->states[i] = PAGE_ON_DISK;
		load->left++;
		index_shard_defer(load->store->index, i);
	}
	load->offsets[INDEX_SHARDS] = offset;
	load->pending = load->head.header.entry_count;
	load->buf_bytes = round_up(most, BLOCK_BYTES) + 2 * BLOCK_BYTES;
	for (unsigned i = 0; i < READ_COUNT; i++) {
		load->reads[i].load = load;
		load->reads[i].buf = env_memory(load->store->env, load->buf_bytes);
		if (!load->reads[i].buf)
			return -ENOMEM;
	}
	return 0;
}

int index_load_open(struct store *store)
{
	struct index_head heads[2];
	enum copy_fact facts[2];
	int res[2];
	for (unsigned i = 0; i < 2; i++) {
		res[i] = head_read(store, i, &heads[i]);
		facts[i] = recovery_copy_fact(res[i]);
	}
	enum pair_verdict verdict =
		recovery_pair(&recovery_index, facts,
			      (uint64_t[]){heads[0].header.generation, heads[1].header.generation});
	int best = verdict == PAIR_FIRST ? 0 : verdict == PAIR_SECOND ? 1 : -1;
	for (unsigned i = 0; i < 2; i++) {
		if (facts[i] == COPY_DAMAGED)
			log_event(LOG_LEVEL_WARNING, "index.file_unusable",
				  "file=%s error=\"%s\" effect=\"%s\"", index_file_name(i),
				  vs_strerror(res[i]),
				  best >= 0 ? "the other one serves"
					    : "the index is built from all segments' directories");
		if ((int)i != best)
			index_head_free(&heads[i]);
	}
	if (best < 0)
		return verdict == PAIR_STOP ? -ENOMEM : 0;
	store->index_generation = heads[best].header.generation;
	struct index_load *load = store->index_load = calloc(1, sizeof(*load));
	if (!load) {
		index_head_free(&heads[best]);
		return -ENOMEM;
	}
	load->store = store;
	load->head = heads[best];
	int out = env_file_open(store->dir, index_file_name(store->index_generation),
				ENV_RDONLY | ENV_DIRECT, &load->file);
	if (out == 0)
		out = cover_note(load);
	return out < 0 ? out : pages_note(load);
}

void index_load_exit(struct store *store)
{
	struct index_load *load = store->index_load;
	if (!load)
		return;
	for (unsigned i = 0; i < READ_COUNT; i++)
		if (load->reads[i].buf)
			env_memory_free(store->env, load->reads[i].buf, load->buf_bytes);
	env_file_close(load->file);
	index_head_free(&load->head);
	free(load->offsets);
	free(load->cover);
	free(load);
	store->index_load = NULL;
}

bool index_loaded(const struct store *store)
{
	return !store->index_load;
}

bool index_load_idle(const struct store *store)
{
	const struct index_load *load = store->index_load;
	for (unsigned i = 0; load && i < READ_COUNT; i++)
		if (load->reads[i].busy)
			return false;
	return !load || (!load->mend_busy && !load->kicked);
}

uint64_t index_load_pending(const struct store *store)
{
	return store->index_load ? store->index_load->pending : 0;
}

/* ---- pages ---- */

static void sweep(struct index_load *load);
static void page_read_done(struct io_op *op);

/* Reads the page of `shard`, with as many behind it as fit in `most` bytes. */
static void pages_read(struct index_load *load, struct page_read *read, uint32_t shard,
		       uint64_t most)
{
	uint32_t end = shard + 1;
	load->states[shard] = PAGE_READING;
	for (; end < INDEX_SHARDS && load->offsets[end + 1] - load->offsets[shard] <= most; end++) {
		if (load->states[end] == PAGE_READING || load->states[end] == PAGE_DAMAGED)
			break;
		if (load->states[end] == PAGE_ON_DISK)
			load->states[end] = PAGE_READING;
		else if (load->head.pages[end].entry_count)
			break; /* there already */
	}
	uint64_t from = round_down(load->offsets[shard], BLOCK_BYTES);
	read->first = shard;
	read->count = end - shard;
	read->skip = load->offsets[shard] - from;
	read->busy = true;
	read->op.done = page_read_done;
	env_file_read(load->file, &read->op, read->buf,
		      (uint32_t)round_up(load->offsets[end] - from, BLOCK_BYTES), from);
}

/* The entries of a whole page, but for those of segments that do not count. */
static void page_take(struct index_load *load, uint32_t shard, uint64_t *entries)
{
	struct store *store = load->store;
	uint32_t count = load->head.pages[shard].entry_count, kept = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t slot = location_slot(index_entry_location(entries[i]));
		if (slot < load->cover_count && load->cover[slot])
			entries[kept++] = entries[i];
	}
	int res = index_shard_load(store->index, shard, entries, kept);
	if (res < 0) {
		load->failed = res;
		store_fail(store, res, "the index could not be loaded");
		return;
	}
	load->states[shard] = PAGE_THERE;
	load->pending -= count;
	load->left--;
	index_shard_complete(store->index, shard);
	store->counters.index_pages_loaded++;
}

static void pages_damaged(struct index_load *load, uint32_t shard, int res)
{
	load->states[shard] = PAGE_DAMAGED;
	load->store->counters.index_pages_damaged++;
	if (load->damaged++ == 0)
		log_event(LOG_LEVEL_WARNING, "index.page_damaged",
			  "file=%s page=%u error=\"%s\" effect=\"what it held is read from the "
			  "segments' directories; nothing is lost\"",
			  index_file_name(load->head.header.generation), shard, vs_strerror(res));
}

static void load_end(struct index_load *load)
{
	struct store *store = load->store;
	struct wait_list waiters = load->waiters;
	load->waiters = (struct wait_list){0};
	if (load->damaged)
		index_write_mend(store, load->head.header.generation % 2);
	index_load_exit(store);
	wait_wake_all(&waiters);
	index_write_kick(store, 0);
	work_kick(store);
}

static void page_read_done(struct io_op *op)
{
	struct page_read *read = container_of(op, struct page_read, op);
	struct index_load *load = read->load;
	uint64_t got = op->res < 0 ? 0 : (uint64_t)op->res;
	read->busy = false;
	for (uint32_t i = read->first; i < read->first + read->count && !load->failed; i++) {
		uint64_t at = read->skip + load->offsets[i] - load->offsets[read->first];
		if (load->states[i] != PAGE_READING)
			continue; /* an empty one */
		if (at + 8ull * load->head.pages[i].entry_count > got)
			pages_damaged(load, i, op->res < 0 ? (int)op->res : -VS_EFORMAT);
		else if (!index_page_good(&load->head.pages[i], i, read->buf + at))
			pages_damaged(load, i, -VS_ECHECKSUM);
		else
			page_take(load, i, (uint64_t *)(void *)(read->buf + at));
	}
	wait_wake_all(&load->waiters);
	sweep(load);
}

/* ---- pages that are damaged ---- */

static void mend_again(struct io_op *op)
{
	struct index_load *load = container_of(op, struct index_load, mend_op);
	load->mend_busy = false;
	sweep(load);
}

static void mend_wake(struct wait *wait)
{
	struct index_load *load = container_of(wait, struct index_load, mend_wait);
	load->mend_busy = false;
	sweep(load);
}

static int mend_segment(struct index_load *load, struct segment *segment)
{
	const struct directory *directory = segment_records(segment);
	int res = 0;
	for (uint32_t i = 0; i < directory->entry_count && res == 0; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		if (load->states[index_shard_of(&entry->id)] == PAGE_DAMAGED)
			res = index_insert(load->store->index, &entry->id,
					   location_of(segment->slot, entry->offset64));
	}
	return res;
}

static void mend_end(struct index_load *load)
{
	struct store *store = load->store;
	log_event(LOG_LEVEL_WARNING, "index.mended",
		  "pages=%u segments=%u unreadable=%u effect=\"the index is whole%s\"",
		  load->damaged, load->mend_read, load->mend_unreadable,
		  load->mend_unreadable ? ", but for the segments that cannot be read" : "");
	for (uint32_t i = 0; i < INDEX_SHARDS; i++)
		if (load->states[i] == PAGE_DAMAGED)
			index_shard_complete(store->index, i);
	load_end(load);
}

/* One segment's directory, then the loop goes round. */
static void mend(struct index_load *load)
{
	struct store *store = load->store;
	while (load->mend_slot < load->cover_count &&
	       !(load->cover[load->mend_slot] && segment_of(store, load->mend_slot)))
		load->mend_slot++;
	if (load->mend_slot == load->cover_count) {
		mend_end(load);
		return;
	}
	struct segment *segment = segment_of(store, load->mend_slot);
	load->mend_busy = true;
	load->mend_wait.wake = mend_wake;
	int res = segments_directory(segment, &load->mend_wait);
	if (res == WAITING)
		return;
	if (res == 0)
		load->failed = mend_segment(load, segment);
	if (load->failed)
		store_fail(store, load->failed, "the index could not be mended");
	load->mend_read += res == 0;
	load->mend_unreadable += res < 0;
	if (res < 0)
		segment_unlisted(segment);
	load->mend_slot++;
	load->mend_op.done = mend_again;
	env_complete(store->env, &load->mend_op, 0);
}

/* Goes on with what is left: pages one after the other, then the damaged ones. While the store
 * closes, only for those who wait. */
static void sweep(struct index_load *load)
{
	struct page_read *read = &load->reads[0];
	if (!load->started || read->busy || load->mend_busy || load->kicked ||
	    (load->store->closing && !load->waiters.head))
		return;
	if (load->failed) {
		wait_wake_all(&load->waiters); /* they are told */
		return;
	}
	while (load->sweep_at < INDEX_SHARDS && load->states[load->sweep_at] != PAGE_ON_DISK)
		load->sweep_at++;
	if (load->sweep_at < INDEX_SHARDS) {
		pages_read(load, read, load->sweep_at, INDEX_GROUP_BYTES);
		return;
	}
	for (unsigned i = 1; i < READ_COUNT; i++)
		if (load->reads[i].busy)
			return; /* its end comes here again */
	if (load->damaged)
		mend(load);
	else
		load_end(load);
}

static void kicked(struct io_op *op)
{
	struct index_load *load = container_of(op, struct index_load, kick_op);
	load->kicked = false;
	sweep(load);
}

/* Not in the call of somebody who is about to wait: it may wake him. */
static void sweep_soon(struct index_load *load)
{
	if (load->kicked)
		return;
	load->kicked = true;
	load->kick_op.done = kicked;
	env_complete(load->store->env, &load->kick_op, 0);
}

void index_load_start(struct store *store)
{
	if (!store->index_load)
		return;
	store->index_load->started = true;
	sweep_soon(store->index_load);
}

int index_load_page(struct store *store, const struct id *id, struct wait *wait)
{
	struct index_load *load = store->index_load;
	uint32_t shard = index_shard_of(id);
	assert(load && index_shard_deferred(store->index, shard));
	if (load->failed)
		return load->failed;
	wait_add(&load->waiters, wait);
	if (load->states[shard] == PAGE_ON_DISK)
		for (unsigned i = 1; i < READ_COUNT; i++)
			if (!load->reads[i].busy) {
				pages_read(load, &load->reads[i], shard, ASKED_BYTES);
				break;
			}
	sweep_soon(load); /* closing may have stopped it */
	return WAITING;
}

int index_load_all(struct store *store, struct wait *wait)
{
	struct index_load *load = store->index_load;
	if (!load)
		return 0;
	if (load->failed)
		return load->failed;
	wait_add(&load->waiters, wait);
	sweep_soon(load);
	return WAITING;
}
