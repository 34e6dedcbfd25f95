/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of segments: which there are, their directories in memory, and where a record is.
 *
 * Keeps true:
 *  - directories of sealed segments are in memory within a bound, the least recently used leave
 * first, with their open files;
 *  - "not there" is said only when every directory that may have the record was asked.
 * Records are appended in segments_append.c; new segments are made in segments_make.c; recovery is
 * in segments_recover.c.
 */
#include "storage/store/segments_int.h"

#include "storage/rt/log_event.h"
#include "storage/store/index_file.h"
#include "storage/store/mutant.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define LOAD_AGAIN_NS NSEC_PER_SEC /* after a directory could not be read */

void segment_file_name(uint64_t id, char out[32])
{
	snprintf(out, 32, "%016llx", (unsigned long long)id);
}

struct segment_name segment_name_of(const struct segment *segment)
{
	struct segment_name name = {.id = segment->id, .slot = segment->slot};
	memcpy(name.uuid, segment->store->sb.uuid, 16);
	return name;
}

int segments_init(struct store *store)
{
	struct segment_set *set = calloc(1, sizeof(*set));
	if (!set)
		return -ENOMEM;
	set->store = store;
	set->lru.lru_prev = set->lru.lru_next = &set->lru;
	set->header = env_memory(store->env, SEGMENT_HEADER_BYTES);
	store->segment_set = set;
	return set->header ? 0 : -ENOMEM;
}

/* ---- directories in memory ---- */

static void lru_remove(struct segment *segment)
{
	if (!segment->lru_next)
		return;
	segment->lru_prev->lru_next = segment->lru_next;
	segment->lru_next->lru_prev = segment->lru_prev;
	segment->lru_prev = segment->lru_next = NULL;
}

static void lru_front(struct segment_set *set, struct segment *segment)
{
	lru_remove(segment);
	segment->lru_next = set->lru.lru_next;
	segment->lru_prev = &set->lru;
	segment->lru_next->lru_prev = segment;
	set->lru.lru_next = segment;
}

static size_t directory_memory(const struct directory *directory)
{
	return directory->entry_room * sizeof(struct dir_entry) +
	       directory->frame_room * sizeof(struct frame_entry);
}

static void directory_evict(struct segment_set *set, struct segment *segment)
{
	lru_remove(segment);
	set->directory_bytes -= directory_memory(segment->directory);
	directory_free(segment->directory);
	segment->directory = NULL;
	env_file_close(segment->file);
	segment->file = NULL;
}

void segment_unlisted(struct segment *segment)
{
	if (!segment->unlisted)
		segment->store->segment_set->unlisted++;
	segment->unlisted = true;
}

void segment_damaged(struct segment *segment)
{
	if (segment->damaged)
		return;
	segment->damaged = true;
	index_write_mend_both(segment->store);
}

void segment_index_lacking(struct segment *segment, const struct directory *directory)
{
	struct store *store = segment->store;
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		uint64_t location = location_of(segment->slot, entry->offset64);
		if (!index_has(store->index, &entry->id, location) &&
		    index_insert(store->index, &entry->id, location) < 0)
			store_fail(store, -ENOMEM, "the index cannot grow");
	}
}

/* What is not found may be in a segment that could not tell what it has: it is asked again. 0:
 * there is none such; WAITING; or why it cannot be read. */
static int unlisted_ask(struct store *store, struct wait *wait)
{
	int worst = 0;
	for (uint32_t slot = 1; store->segment_set->unlisted && slot < segments_slot_count(store);
	     slot++) {
		struct segment *segment = segment_of(store, slot);
		if (!segment || !segment->unlisted)
			continue;
		int res = segments_directory(segment, wait);
		if (res == WAITING)
			return WAITING;
		worst = res < 0 ? res : worst;
	}
	return worst;
}

void segments_keep_directory(struct segment *segment, struct directory *directory)
{
	struct segment_set *set = segment->store->segment_set;
	if (segment->unlisted) {
		segment_index_lacking(segment, directory);
		segment->unlisted = false;
		set->unlisted--;
	}
	uint64_t bound = segment->store->options.directory_cache_bytes;
	segment->directory = directory;
	set->directory_bytes += directory_memory(directory);
	lru_front(set, segment);
	for (struct segment *at = set->lru.lru_prev;
	     set->directory_bytes > bound && at != &set->lru;) {
		struct segment *before = at->lru_prev;
		bool pinned = at->users || at == segment || at->damaged;
		for (unsigned i = 0; i < at->directory->entry_count && !pinned; i++)
			pinned = at->directory->entries[i].bad; /* known only here */
		if (!pinned)
			directory_evict(set, at);
		at = before;
	}
}

static void segment_free(struct segment *segment)
{
	if (segment->load) { /* only when the env has crashed */
		if (segment->load->buf)
			env_memory_free(segment->store->env, segment->load->buf,
					segment->load->buf_bytes);
		free(segment->load);
	}
	if (segment->writer)
		segment_writer_abandon(segment->writer);
	else if (segment->directory)
		directory_evict(segment->store->segment_set, segment);
	env_file_close(segment->file);
	free(segment);
}

void segments_free(struct store *store)
{
	struct segment_set *set = store->segment_set;
	if (!set)
		return;
	for (uint32_t slot = 0; slot < set->slot_count; slot++)
		if (set->slots[slot]) {
			set->slots[slot]->users = 0;
			segment_free(set->slots[slot]);
		}
	while (set->gone) { /* only when the env has crashed */
		struct segment *segment = set->gone;
		set->gone = segment->gone_next;
		segment_free(segment);
	}
	env_file_close(set->making.file);
	if (set->header)
		env_memory_free(store->env, set->header, SEGMENT_HEADER_BYTES);
	free(set->slots);
	free(set);
	store->segment_set = NULL;
}

/* ---- which there are ---- */

struct segment *segment_of(const struct store *store, uint32_t slot)
{
	const struct segment_set *set = store->segment_set;
	return slot < set->slot_count ? set->slots[slot] : NULL;
}

uint32_t segments_slot_count(const struct store *store)
{
	return store->segment_set->slot_count;
}

int segments_add(struct store *store, uint64_t id, uint32_t slot)
{
	struct segment_set *set = store->segment_set;
	if (slot == 0 || slot > INDEX_SLOT_MAX || id == 0 || id == UINT64_MAX ||
	    segment_of(store, slot))
		return -VS_EFORMAT;
	if (slot >= set->slot_room) {
		uint32_t room = (uint32_t)max_u64(64, 2ull * slot);
		struct segment **larger = realloc(set->slots, room * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		memset(larger + set->slot_room, 0, (room - set->slot_room) * sizeof(*larger));
		set->slots = larger;
		set->slot_room = room;
	}
	struct segment *segment = calloc(1, sizeof(*segment));
	if (!segment)
		return -ENOMEM;
	*segment = (struct segment){.store = store,
				    .slot = slot,
				    .id = id,
				    .state = SEGMENT_OPEN,
				    .bytes = SEGMENT_FILE_BYTES};
	set->slots[slot] = segment;
	set->slot_count = (uint32_t)max_u64(set->slot_count, slot + 1ull);
	store->segment_bytes += segment->bytes;
	store->next_segment_id = max_u64(store->next_segment_id, id + 1);
	return 0;
}

static void segment_removed(struct segment *segment)
{
	struct segment **at = &segment->store->segment_set->gone;
	while (*at != segment)
		at = &(*at)->gone_next;
	*at = segment->gone_next;
	struct segment_set *set = segment->store->segment_set;
	if (set->slots[segment->slot] == segment)
		set->slots[segment->slot] = NULL;
	segment_free(segment);
}

void segments_remove(struct store *store, uint32_t slot)
{
	struct segment *segment = segment_of(store, slot);
	assert(segment && !segment->writer);
	store->segment_bytes -= segment->bytes;
	store->segment_set->unlisted -= segment->unlisted;
	segment->unlisted = false;
	segment->removed = true;
	store->segment_set->slots[slot] = NULL;
	segment->gone_next = store->segment_set->gone;
	store->segment_set->gone = segment;
	if (segment->users == 0 && !segment->load)
		segment_removed(segment);
}

void segment_use(struct segment *segment)
{
	segment->users++;
}

void segment_unuse(struct segment *segment)
{
	assert(segment->users > 0);
	if (--segment->users == 0 && segment->removed && !segment->load)
		segment_removed(segment);
}

/* ---- reading a directory ---- */

/* What the disk did not give it may give later; bytes that are wrong stay wrong. */
static bool bytes_wrong(int res)
{
	return res == -VS_EFORMAT || res == -VS_ECHECKSUM;
}

static void load_done(struct load *load, struct directory *directory, int res)
{
	struct segment *segment = load->segment;
	struct store *store = segment->store;
	segment->load = NULL;
	if (load->buf)
		env_memory_free(store->env, load->buf, load->buf_bytes);
	free(load);
	if (!directory) {
		segment->load_error = res;
		segment->load_failed_ns = env_now_ns(store->env);
		log_event(LOG_LEVEL_ERROR, "segment.unreadable",
			  "segment=%016llx error=\"%s\" effect=\"its chunks cannot be read\"",
			  (unsigned long long)segment->id, vs_strerror(res));
		store->counters.io_errors++;
		if (bytes_wrong(res))
			segment_damaged(segment);
	} else {
		segments_keep_directory(segment, directory);
	}
	wait_wake_all(&segment->load_waiters);
	if (segment->removed && segment->users == 0)
		segment_removed(segment);
}

static void load_read(struct load *load, uint64_t bytes, uint64_t offset,
		      void (*done)(struct io_op *op))
{
	struct store *store = load->segment->store;
	if (load->buf)
		env_memory_free(store->env, load->buf, load->buf_bytes);
	load->buf_bytes = bytes;
	load->buf = env_memory(store->env, bytes);
	if (!load->buf) {
		load_done(load, NULL, -ENOMEM);
		return;
	}
	load->op.done = done;
	env_file_read(load->segment->file, &load->op, load->buf, (uint32_t)bytes, offset);
}

static void load_directory_read(struct io_op *op)
{
	struct load *load = container_of(op, struct load, op);
	struct directory *directory = NULL;
	int res = op->res < 0 ? (int)op->res
		  : (uint64_t)op->res < load->buf_bytes
			  ? -VS_EFORMAT
			  : directory_decode(&load->trailer, load->buf, &directory);
	load_done(load, directory, res);
}

static void load_trailer_read(struct io_op *op)
{
	struct load *load = container_of(op, struct load, op);
	struct segment *segment = load->segment;
	int res = op->res < 0 ? (int)op->res
		  : op->res < BLOCK_BYTES
			  ? -VS_EFORMAT
			  : trailer_decode(load->buf, segment->id, segment->bytes, &load->trailer);
	if (res < 0 || load->trailer.bytes == 0) {
		struct directory *none = res < 0 ? NULL : calloc(1, sizeof(*none));
		load_done(load, none, res < 0 ? res : none ? 0 : -ENOMEM);
		return;
	}
	load_read(load, round_up(load->trailer.bytes, BLOCK_BYTES), load->trailer.offset,
		  load_directory_read);
}

int segment_open_file(struct segment *segment)
{
	struct store *store = segment->store;
	char name[32];
	if (segment->file)
		return 0;
	segment_file_name(segment->id, name);
	int res = env_file_open(store->seg_dir, name,
				ENV_DIRECT | (store->options.read_only ? ENV_RDONLY : 0),
				&segment->file);
	return res == -ENOENT ? -VS_ELOST : res; /* -ENOENT is a record that has moved */
}

static bool load_again(const struct segment *segment)
{
	return !bytes_wrong(segment->load_error) &&
	       env_now_ns(segment->store->env) >= segment->load_failed_ns + LOAD_AGAIN_NS;
}

int segments_directory(struct segment *segment, struct wait *wait)
{
	struct segment_set *set = segment->store->segment_set;
	if (segment->writer)
		return 0;
	if (segment->directory) {
		lru_front(set, segment);
		return 0;
	}
	if (segment->state != SEGMENT_SEALED)
		return -VS_ELOST;
	if (segment->load_error && !load_again(segment))
		return segment->load_error;
	segment->load_error = 0;
	if (!segment->load) {
		int res = segment_open_file(segment);
		if (res < 0)
			return res;
		segment->load = calloc(1, sizeof(*segment->load));
		if (!segment->load)
			return -ENOMEM;
		segment->load->segment = segment;
		load_read(segment->load, BLOCK_BYTES, segment->bytes - BLOCK_BYTES,
			  load_trailer_read);
	}
	wait_add(&segment->load_waiters, wait);
	return WAITING;
}

struct directory *segment_records(const struct segment *segment)
{
	return segment->writer ? segment_directory(segment->writer) : segment->directory;
}

int segments_locate(struct store *store, const struct id *id, bool for_dedup, struct wait *wait,
		    struct segment **ret_segment, struct dir_entry **ret_entry)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	if (index_shard_deferred(store->index, index_shard_of(id)))
		return index_load_page(store, id, wait);
	unsigned count = index_find(store->index, id, candidates);
	int worst = -ENOENT;
	struct segment *bad_segment = NULL;
	struct dir_entry *bad_entry = NULL;
	for (unsigned i = 0; i < count; i++) {
		struct segment *segment = segment_of(store, location_slot(candidates[i]));
		if (!segment)
			continue;
		int res = segments_directory(segment, wait);
		if (res == WAITING)
			return WAITING;
		if (res < 0) {
			worst = res;
			continue;
		}
		struct dir_entry *entry =
			directory_find(segment_records(segment), location_offset64(candidates[i]));
		if (!entry || !id_equal(&entry->id, id))
			continue;
		if (entry->bad && for_dedup)
			continue;
		/* A copy that a collection is making cannot be read yet; what it was made from can.
		 */
		if (segment->writer && !MUTANT(57) &&
		    segment_record_end(segment, entry) > segment_written_end(segment->writer))
			continue;
		if (entry->bad && count > 1) { /* a good copy, which came later, mends it */
			bad_segment = segment;
			bad_entry = entry;
			continue;
		}
		*ret_segment = segment;
		*ret_entry = entry;
		return 0;
	}
	if (bad_entry) { /* its error says more than that it is not there */
		*ret_segment = bad_segment;
		*ret_entry = bad_entry;
		return 0;
	}
	if (worst == -ENOENT) {
		int res = unlisted_ask(store, wait);
		worst = res ? res : worst;
	}
	return worst;
}

uint64_t segment_live_bytes(const struct segment *segment)
{
	uint32_t entries, live;
	index_slot_counts(segment->store->index, segment->slot, &entries, &live);
	uint64_t bytes = segment->sifted ? segment->known_live_bytes : segment->bytes;
	uint32_t of = segment->sifted ? segment->known_entries : entries;
	return of ? bytes * min_u64(live, of) / of : 0;
}

uint64_t segment_record_end(const struct segment *segment, const struct dir_entry *entry)
{
	const struct directory *directory = segment_records(segment);
	return round_up(entry->offset64 * (uint64_t)RECORD_ALIGN +
				record_bytes(entry, &directory->frames[entry->frame_first]),
			RECORD_ALIGN);
}
