/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading everything and saying what is wrong.
 *
 * check: every record of every segment is read, decoded, and its full id computed anew; then every
 * map is walked, and each id in it must be a record that is there and was found good. What is wrong
 * is named with what it affects. The index's files are read before that, and the index is compared
 * with the records that were found; an entry that it lacks is put back. verify: the same for one
 * root's chunks. diff: two maps side by side.
 *
 * A record that is bad is looked for by its id, and so is a chunk that a map names and that cannot
 * be found: there may be another copy, or heal.c gets one. Such a one is mended, not damaged.
 *
 * A scrub by hand that is not asked to be deep sweeps segments (sweep.c): all stored bytes
 * are checked, nothing is decoded, and only what does not hold there is read as above.
 *
 * Keeps true: a bounded number of records is in memory; the store serves meanwhile; nothing is
 * changed, but that a record found bad is no target of deduplication any more, and what healing
 * stores anew.
 */
#include "storage/store/pace.h"
#include "storage/store/file_check.h"
#include "storage/store/sweep.h"

#include "storage/store/index_file.h"

#include "proto/text.h"

#include <stdio.h>
#include <stdlib.h>

#define VERIFY_COUNT 16u
#define DAMAGED_MAX 10000u

/* ---- records read side by side ---- */

struct verify_slot {
	struct verify *verify;
	struct env_job job;
	struct id id, computed;
	uint8_t type, domain;
	uint64_t location; /* check: {segment, offset} */
	uint64_t chunk_no; /* verify */
	bool busy;
	int first_res; /* check: of the record at `location`, when another one is read */
	uint8_t *raw;
};

struct verify {
	struct work work;
	struct verify_slot slots[VERIFY_COUNT];
	uint8_t *memory;
	unsigned busy;
	struct id *damaged_ids;
	uint32_t damaged_count;
	/* check */
	int phase;
	uint32_t slot, entry, only_slot;
	unsigned window;  /* records read side by side */
	bool scrub;	  /* when it has gone through, all was verified since: */
	bool shallow;	  /* the stored bytes alone */
	bool sweeping;	  /* the segment at `slot` */
	uint32_t unswept; /* the slot of one whose file cannot be opened */
	struct sweep sweep;
	uint64_t begun_ns; /* the store's age */
	struct root *roots;
	size_t root_count, root_at;
	bool walking;
	struct id_set seen;
	struct walk walk;
	struct index_check index;
	struct file_check files;
	uint32_t unread_segments;
	uint64_t record_count, stored_before; /* to see whether the index has more than that */
	/* verify, diff */
	char name[SNAP_NAME_ROOM], other[SNAP_NAME_ROOM];
	struct id top, other_top;
	uint64_t size_bytes, other_size_bytes;
};

static void verify_bad(struct verify_slot *slot, int res)
{
	struct verify *verify = slot->verify;
	struct store_work *public = verify->work.public;
	char id[17];
	text_hex(slot->id.bytes, 8, id);
	public->damaged++;
	if (verify->damaged_count < DAMAGED_MAX) {
		struct id *larger = realloc(verify->damaged_ids,
					    (verify->damaged_count + 1) * sizeof(struct id));
		if (larger) {
			verify->damaged_ids = larger;
			larger[verify->damaged_count++] = slot->id;
		}
	}
	if (slot->location) {
		const struct segment *segment =
			segment_of(verify->work.store, location_slot(slot->location));
		work_report(&verify->work, "segment %016llx, record at %llu, %s %s...: %s",
			    (unsigned long long)(segment ? segment->id : 0),
			    (unsigned long long)location_offset64(slot->location) * RECORD_ALIGN,
			    slot->type == RECORD_NODE ? "map node" : "chunk", id, vs_strerror(res));
	} else {
		work_report(&verify->work, "%s, bytes %llu to %llu: %s%s",
			    verify->roots ? verify->roots[verify->root_at].name : verify->name,
			    (unsigned long long)slot->chunk_no * CHUNK_BYTES,
			    (unsigned long long)(slot->chunk_no + 1) * CHUNK_BYTES,
			    verify->roots ? "the chunk is missing: " : "", vs_strerror(res));
	}
}

/* False: it was purged since the check began, and what it named may be gone. */
static bool root_alive(const struct verify *verify)
{
	struct root *roots;
	size_t count;
	bool alive = false;
	if (roots_collect(verify->work.store, &roots, &count) < 0)
		return true;
	for (size_t i = 0; i < count && !alive; i++)
		alive = id_equal(&roots[i].top, &verify->roots[verify->root_at].top);
	free(roots);
	return alive;
}

static void verify_mended(struct verify_slot *slot)
{
	struct work *work = &slot->verify->work;
	const struct segment *segment = segment_of(work->store, location_slot(slot->location));
	char id[17];
	text_hex(slot->id.bytes, 8, id);
	work->public->mended++;
	work_report(work, "segment %016llx, record at %llu, %s %s...: %s; a whole one is stored",
		    (unsigned long long)(segment ? segment->id : 0),
		    (unsigned long long)location_offset64(slot->location) * RECORD_ALIGN,
		    slot->type == RECORD_NODE ? "map node" : "chunk", id,
		    vs_strerror(slot->first_res));
}

static void verify_end(struct verify_slot *slot, int res)
{
	struct verify *verify = slot->verify;
	slot->busy = false;
	verify->busy--;
	verify->work.public->chunks++;
	verify->work.public->progress += CHUNK_BYTES;
	if (slot->first_res < 0 && res == 0)
		verify_mended(slot);
	else if (slot->first_res < 0)
		res = slot->first_res;
	bool gone = slot->location ? res == -ENOENT /* a collection moved it */
				   : res < 0 && verify->roots && !root_alive(verify);
	if (res < 0 && !gone)
		verify_bad(slot, res);
	work_kick(verify->work.store);
}

static void verify_hashed(struct io_op *op)
{
	struct verify_slot *slot = container_of(op, struct verify_slot, job.op);
	verify_end(slot, op->res < 0				? (int)op->res
			 : id_equal(&slot->id, &slot->computed) ? 0
								: -VS_ECHECKSUM);
}

static int64_t verify_hash(struct env_job *job, unsigned worker_no)
{
	struct verify_slot *slot = container_of(job, struct verify_slot, job);
	const struct domain_key *key = domain_key(slot->verify->work.store, slot->domain);
	if (!key)
		return -VS_EFORMAT;
	if (slot->type == RECORD_NODE)
		codec_id_node(key, slot->raw, NODE_BYTES, &slot->computed);
	else
		codec_id_chunk(key, slot->raw, &slot->computed);
	return 0;
}

static void verify_fetched(struct fetch *fetch, int res)
{
	struct verify_slot *slot = fetch->owner;
	slot->domain = fetch->domain;
	if (res < 0 && res != -ENOENT && fetch->location) {
		slot->first_res = res;
		fetch->location = 0;
		fetch_start(fetch);
		return;
	}
	fetch_free(fetch);
	if (res < 0) {
		verify_end(slot, res);
		return;
	}
	slot->job =
		(struct env_job){.op.done = verify_hashed, .run = verify_hash, .background = true};
	env_job(slot->verify->work.store->env, &slot->job);
}

/* 0: it is being read; WAITING: the work's wait is woken; WINDOW_FULL: verify_end goes on. */
#define WINDOW_FULL 3
static int verify_start(struct verify *verify, const struct id *id, uint8_t type, uint64_t location,
			uint64_t chunk_no)
{
	struct verify_slot *slot = verify->slots;
	if (verify->busy >= verify->window)
		return WINDOW_FULL;
	if (!pace_ready(verify->work.store, &verify->work.wait))
		return WAITING;
	struct fetch *fetch = fetch_new(verify->work.store, true, &verify->work.wait);
	if (!fetch)
		return WAITING;
	while (slot->busy)
		slot++;
	slot->busy = true;
	verify->busy++;
	slot->id = *id;
	slot->type = type;
	slot->location = location;
	slot->chunk_no = chunk_no;
	slot->first_res = 0;
	fetch->done = verify_fetched;
	fetch->owner = slot;
	fetch->id = *id;
	fetch->type = type;
	fetch->location = location;
	fetch->block_first = 0;
	fetch->block_count = CHUNK_BLOCKS;
	fetch->raw = slot->raw;
	fetch->no_cache = true;
	fetch->proof = true;
	pace_spend(verify->work.store, CHUNK_BYTES / 2); /* about what is read */
	fetch_start(fetch);
	return 0;
}

static bool verify_must_finish(const struct work *work)
{
	const struct verify *verify = container_of(work, struct verify, work);
	return verify->busy > 0 || verify->index.busy || verify->files.busy || verify->sweep.busy;
}

static void verify_done(struct work *work)
{
	struct verify *verify = container_of(work, struct verify, work);
	if (verify->memory)
		env_memory_free(work->store->env, verify->memory, VERIFY_COUNT * CHUNK_BYTES);
	if (verify->index.store)
		index_check_done(&verify->index);
	if (verify->files.store)
		file_check_done(&verify->files);
	if (verify->sweep.store)
		sweep_done(&verify->sweep);
	id_set_free(&verify->seen);
	free(verify->damaged_ids);
	free(verify->roots);
	free(verify);
}

static struct verify *verify_new(struct store *store, const char *name)
{
	struct verify *verify = calloc(1, sizeof(*verify));
	if (!verify)
		return NULL;
	verify->memory = env_memory(store->env, VERIFY_COUNT * CHUNK_BYTES);
	if (!verify->memory) {
		free(verify);
		return NULL;
	}
	for (unsigned i = 0; i < VERIFY_COUNT; i++) {
		verify->slots[i].verify = verify;
		verify->slots[i].raw = verify->memory + (size_t)i * CHUNK_BYTES;
	}
	verify->window = VERIFY_COUNT;
	verify->work.done = verify_done;
	verify->work.must_finish = verify_must_finish;
	snprintf(verify->name, sizeof verify->name, "%s", name);
	return verify;
}

/* ---- check ---- */

enum { CHECK_BEGIN, CHECK_FILES, CHECK_INDEX, CHECK_RECORDS, CHECK_DRAIN, CHECK_MAPS };

static void check_finding(struct verify *verify, const char *what)
{
	verify->work.public->damaged++;
	work_report(&verify->work, "%s", what);
}

static void check_index_report(struct index_check *index, const char *what)
{
	check_finding(container_of(index, struct verify, index), what);
}

static void check_index_wake(struct index_check *index)
{
	work_kick(index->store);
}

static void check_files_report(struct file_check *files, const char *what)
{
	struct verify *verify = container_of(files, struct verify, files);
	verify->work.public->damaged_files++;
	check_finding(verify, what);
}

static void check_files_wake(struct file_check *files)
{
	work_kick(files->store);
}

static void check_files_begin(struct verify *verify)
{
	verify->files = (struct file_check){.store = verify->work.store,
					    .report = check_files_report,
					    .wake = check_files_wake,
					    .only_slot = verify->only_slot};
}

/* The files first: they may be what the index is loaded from. */
static int check_index(struct verify *verify)
{
	struct store *store = verify->work.store;
	int res = index_check_step(&verify->index);
	if (res)
		return res;
	res = index_load_all(store, &verify->work.wait);
	if (res)
		return res == WAITING ? work_waits(&verify->work) : res;
	verify->work.public->total = index_count(store->index) * CHUNK_BYTES;
	verify->stored_before = store->counters.chunks_stored + store->compactions +
				store->counters.segments_dropped;
	verify->slot = 1;
	verify->phase = CHECK_RECORDS;
	return WALK_MORE;
}

/* A record that the index does not have cannot be read: that is damage, and here it is mended. */
static void check_indexed(struct verify *verify, const struct segment *segment,
			  const struct dir_entry *entry)
{
	struct store *store = verify->work.store;
	uint64_t location = location_of(segment->slot, entry->offset64);
	verify->record_count++;
	if (segment->leaving)
		verify->unread_segments++; /* it is being emptied */
	if (segment->leaving || index_has(store->index, &entry->id, location))
		return;
	verify->work.public->damaged++;
	work_report(&verify->work,
		    "segment %016llx, record at %llu: the index does not have it; it is put back",
		    (unsigned long long)segment->id,
		    (unsigned long long)entry->offset64 * RECORD_ALIGN);
	if (index_insert(store->index, &entry->id, location) < 0)
		store_fail(store, -ENOMEM, "the index cannot grow");
}

/* All directories were seen: if nothing was stored or dropped meanwhile, their records are what the
 * index has. */
static void check_index_count(struct verify *verify)
{
	struct store *store = verify->work.store;
	uint64_t count = index_count(store->index);
	if (store->counters.chunks_stored + store->compactions + store->counters.segments_dropped !=
		    verify->stored_before ||
	    verify->unread_segments || count == verify->record_count)
		return;
	verify->work.public->damaged++;
	work_report(&verify->work,
		    "the index has %llu entries, the segments have %llu records: restart vstored "
		    "to load it anew",
		    (unsigned long long)count, (unsigned long long)verify->record_count);
}

static void check_sweep_wake(struct sweep *sweep)
{
	work_kick(sweep->store);
}

static int check_sweep_begin(struct verify *verify, struct segment *segment)
{
	const struct directory *directory = segment_records(segment);
	verify->sweep.store = verify->work.store;
	verify->sweep.wake = check_sweep_wake;
	int res = sweep_begin(&verify->sweep, segment);
	if (res < 0)
		return res;
	uint32_t count = verify->sweep.end;
	verify->unread_segments += count < directory->entry_count;
	for (uint32_t i = 0; i < count; i++)
		check_indexed(verify, segment, &directory->entries[i]);
	verify->work.public->chunks += count;
	verify->work.public->progress += count * (uint64_t)CHUNK_BYTES;
	verify->sweeping = true;
	return 0;
}

/* What the sweep suspects is read and judged as every record of a deep check is. */
static int check_swept(struct verify *verify)
{
	struct sweep *sweep = &verify->sweep;
	uint32_t at;
	bool paced;
	int res;
	while ((res = sweep_step(sweep, &verify->work.wait, &paced, &at)) == SWEEP_SUSPECT) {
		const struct dir_entry *entry = &segment_records(sweep->segment)->entries[at];
		res = verify_start(verify, &entry->id, entry->type,
				   location_of(sweep->segment->slot, entry->offset64), 0);
		if (res)
			return res == WAITING ? work_waits(&verify->work) : WAITING;
		sweep_told(sweep, at);
	}
	if (res == WAITING)
		return paced ? work_waits(&verify->work) : WAITING;
	verify->sweeping = false;
	verify->slot++;
	return WALK_MORE;
}

static int check_records(struct verify *verify)
{
	if (verify->sweeping)
		return check_swept(verify);
	struct store *store = verify->work.store;
	while (verify->slot < segments_slot_count(store) &&
	       (!verify->only_slot || verify->slot == verify->only_slot)) {
		struct segment *segment = segment_of(store, verify->slot);
		if (!segment) {
			verify->slot++;
			continue;
		}
		int res = segments_directory(segment, &verify->work.wait);
		if (res == WAITING)
			return work_waits(&verify->work);
		if (res < 0) {
			verify->unread_segments++;
			verify->work.public->damaged++;
			work_report(&verify->work, "segment %016llx cannot be read: %s",
				    (unsigned long long)segment->id, vs_strerror(res));
			verify->slot++;
			verify->entry = 0;
			continue;
		}
		const struct directory *directory = segment_records(segment);
		if (verify->entry >= directory->entry_count) {
			verify->slot++;
			verify->entry = 0;
			continue;
		}
		if (verify->shallow && verify->unswept != verify->slot) {
			res = check_sweep_begin(verify, segment);
			if (lacks_means(res))
				return res;
			if (res < 0) /* its records are judged one by one */
				verify->unswept = verify->slot;
			return WALK_MORE;
		}
		const struct dir_entry *entry = &directory->entries[verify->entry];
		if (segment->writer &&
		    segment_record_end(segment, entry) > segment_durable_end(segment->writer)) {
			verify->unread_segments++;
			verify->slot++; /* what is not on disk yet is not looked at */
			verify->entry = 0;
			continue;
		}
		res = verify_start(verify, &entry->id, entry->type,
				   location_of(verify->slot, entry->offset64), 0);
		if (res)
			return res == WAITING ? work_waits(&verify->work) : WAITING;
		check_indexed(verify, segment, entry);
		verify->entry++;
	}
	if (!verify->only_slot)
		check_index_count(verify);
	verify->phase = CHECK_DRAIN;
	return WALK_MORE;
}

static bool id_damaged(const struct verify *verify, const struct id *id)
{
	for (uint32_t i = 0; i < verify->damaged_count; i++)
		if (id_equal(&verify->damaged_ids[i], id))
			return true;
	return false;
}

static bool check_enter(struct walk *walk, const struct id *id)
{
	struct verify *verify = walk->owner;
	if (verify->damaged_count && id_damaged(verify, id)) /* memory may still know it */
		work_report(&verify->work, "%s: a map node of it is damaged",
			    verify->roots[verify->root_at].name);
	if (verify->damaged_count)
		return true; /* each root says what is wrong with it */
	return id_set_add(&verify->seen, id) != 0;
}

/* 1: no record of it is here that could be read; 0; WAITING is -EAGAIN. */
static int check_missing(struct verify *verify, const struct id *id)
{
	struct store *store = verify->work.store;
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	struct segment *segment;
	struct dir_entry *entry;
	if (index_find(store->index, id, candidates) == 0)
		return 1;
	if (!verify->unread_segments)
		return 0;
	int res = segments_locate(store, id, false, &verify->work.wait, &segment, &entry);
	return res == WAITING ? -EAGAIN : res < 0;
}

static int check_chunk(struct walk *walk, const struct id *id)
{
	struct verify *verify = walk->owner;
	int missing = check_missing(verify, id);
	if (missing == -EAGAIN)
		return WAITING;
	if (!missing && !(verify->damaged_count && id_damaged(verify, id)))
		return 0;
	if (missing && !root_alive(verify))
		return -ENOENT; /* the rest of it is nobody's, too */
	if (missing)		/* unless somebody else has it */
		return verify_start(verify, id, RECORD_CHUNK, 0, walk->chunk_no);
	work_report(&verify->work, "%s, bytes %llu to %llu: the chunk is damaged",
		    verify->roots[verify->root_at].name,
		    (unsigned long long)walk->chunk_no * CHUNK_BYTES,
		    (unsigned long long)(walk->chunk_no + 1) * CHUNK_BYTES);
	return 0;
}

static int check_maps(struct verify *verify)
{
	while (verify->root_at < verify->root_count) {
		if (!verify->walking)
			walk_start(&verify->walk, &verify->roots[verify->root_at].top);
		verify->walking = true;
		int res = walk_step(&verify->walk, &verify->work.wait);
		if (res == WAITING)
			return work_waits(&verify->work);
		if (res == WALK_MORE)
			return res;
		if (res == WINDOW_FULL || (res <= 0 && verify->busy))
			return WAITING; /* verify_end goes on */
		if (res < 0 && root_alive(verify)) {
			verify->work.public->damaged++;
			work_report(&verify->work, "%s: a map node cannot be read: %s",
				    verify->roots[verify->root_at].name, vs_strerror(res));
		}
		verify->walking = false;
		verify->root_at++;
	}
	return 0;
}

static int check_step(struct work *work)
{
	struct verify *verify = container_of(work, struct verify, work);
	struct store *store = work->store;
	int res;
	if (work->public->cancel || store->closing)
		return verify_must_finish(work) ? WAITING : -VS_ECANCELLED;
	switch (verify->phase) {
	case CHECK_BEGIN:
		for (uint32_t slot = 1; slot < segments_slot_count(store); slot++)
			if (segment_of(store, slot) &&
			    segment_of(store, slot)->state == SEGMENT_LOST) {
				work->public->damaged++;
				work_report(work, "segment %016llx is missing",
					    (unsigned long long)segment_of(store, slot)->id);
			}
		verify->begun_ns = store_age_ns(store);
		verify->index = (struct index_check){
			.store = store, .report = check_index_report, .wake = check_index_wake};
		verify->phase = CHECK_FILES;
		return WALK_MORE;
	case CHECK_FILES:
		if (!verify->files.store)
			check_files_begin(verify);
		res = file_check_step(&verify->files);
		if (res == 0)
			verify->phase = verify->only_slot ? CHECK_RECORDS : CHECK_INDEX;
		return res == 0 ? WALK_MORE : res;
	case CHECK_INDEX:
		return check_index(verify);
	case CHECK_RECORDS:
		return check_records(verify);
	case CHECK_DRAIN:
		if (verify->busy)
			return WAITING;
		if (verify->only_slot && work->public->damaged == work->public->damaged_files)
			return 0; /* a record that is damaged is told with what it affects */
		verify->walk = (struct walk){.store = store,
					     .enter = check_enter,
					     .chunk = check_chunk,
					     .owner = verify};
		verify->phase = CHECK_MAPS;
		return roots_collect(store, &verify->roots, &verify->root_count) < 0 ? -ENOMEM
										     : WALK_MORE;
	default:
		break;
	}
	res = check_maps(verify);
	if (res == 0 && verify->scrub)
		scrub_pass_ended(store, verify->begun_ns, verify->shallow);
	return res;
}

void store_check(struct store *store, struct store_work *public)
{
	struct verify *verify = verify_new(store, "");
	if (verify)
		verify->work.step = check_step;
	work_start(store, verify ? &verify->work : NULL, public);
}

void store_scrub(struct store *store, struct store_work *public, bool deep)
{
	struct verify *verify = verify_new(store, "");
	if (verify) {
		verify->work.step = check_step;
		verify->scrub = true;
		verify->shallow = !deep;
		verify->window = VERIFY_COUNT / 2;
	}
	work_start(store, verify ? &verify->work : NULL, public);
}

void check_segment(struct store *store, struct store_work *public, uint32_t slot)
{
	struct verify *verify = verify_new(store, "");
	if (verify) {
		verify->work.step = check_step;
		verify->phase = CHECK_FILES;
		verify->slot = verify->only_slot = slot;
		verify->window = 2;
	}
	work_start(store, verify ? &verify->work : NULL, public);
}

/* ---- verify ---- */

static bool verify_enter(struct walk *walk, const struct id *id)
{
	return true;
}

static int verify_chunk(struct walk *walk, const struct id *id)
{
	struct verify *verify = walk->owner;
	return verify_start(verify, id, RECORD_CHUNK, 0, walk->chunk_no);
}

static int verify_step(struct work *work)
{
	struct verify *verify = container_of(work, struct verify, work);
	if (work->public->cancel || work->store->closing)
		return verify->busy ? WAITING : -VS_ECANCELLED;
	if (!verify->walking) {
		int res = work_root(work, verify->name, &verify->top, &verify->size_bytes);
		if (res)
			return res;
		verify->walk = (struct walk){.store = work->store,
					     .enter = verify_enter,
					     .chunk = verify_chunk,
					     .owner = verify};
		walk_start(&verify->walk, &verify->top);
		verify->walking = true;
		work->public->total = verify->size_bytes;
	}
	int res = walk_step(&verify->walk, &work->wait);
	if (res == WALK_MORE)
		return res;
	if (res == WAITING || res == WINDOW_FULL)
		return res == WAITING ? work_waits(work) : WAITING;
	if (verify->busy)
		return WAITING; /* verify_end goes on, and the walk says the same again */
	if (res < 0) {
		work->public->damaged++;
		work_report(work, "%s: a map node cannot be read: %s", verify->name,
			    vs_strerror(res));
	}
	return 0;
}

void store_verify(struct store *store, struct store_work *public, const char *name)
{
	struct verify *verify = verify_new(store, name);
	if (verify)
		verify->work.step = verify_step;
	work_start(store, verify ? &verify->work : NULL, public);
}

/* ---- diff: two maps from the top down; equal ids are equal data ---- */

struct diff {
	struct work work;
	char name[2][SNAP_NAME_ROOM];
	struct id path[MAP_LEVELS][2];
	unsigned slot[MAP_LEVELS], depth;
	bool started;
	uint64_t range_at, range_count; /* chunks, not told yet */
};

static void diff_flush(struct diff *diff)
{
	struct store_work *public = diff->work.public;
	if (diff->range_count && public->range)
	public->range(public, diff->range_at * CHUNK_BYTES, diff->range_count * CHUNK_BYTES);
	public->differing_bytes += diff->range_count * CHUNK_BYTES;
	diff->range_count = 0;
}

static void diff_chunk(struct diff *diff, uint64_t chunk_no)
{
	if (diff->range_count && diff->range_at + diff->range_count != chunk_no)
		diff_flush(diff);
	if (!diff->range_count)
		diff->range_at = chunk_no;
	diff->range_count++;
}

static int diff_begin(struct diff *diff)
{
	uint64_t size;
	diff->work.pin_count = 0; /* it may have waited, and comes again */
	for (unsigned side = 0; side < 2; side++) {
		int res = work_root(&diff->work, diff->name[side], &diff->path[0][side], &size);
		if (res)
			return res;
	}
	const struct volume *of[2];
	for (unsigned side = 0; side < 2; side++) {
		const char *name = diff->name[side];
		const struct snapshot *snapshot = snapshot_by_name(diff->work.store, name);
		of[side] = snapshot ? volume_by_number(diff->work.store, snapshot->volume)
				    : volume_by_name(diff->work.store, name);
	}
	if (of[0]->domain != of[1]->domain)
		return work_refuse(&diff->work, -EINVAL,
				   "'%s' and '%s' are of different domains: their ids cannot be "
				   "compared.",
				   diff->name[0], diff->name[1]);
	diff->started = true;
	return 0;
}

static int diff_step(struct work *work)
{
	static const struct id none[NODE_SLOTS];
	struct diff *diff = container_of(work, struct diff, work);
	int res = diff->started ? 0 : diff_begin(diff);
	unsigned looked = 0;
	if (res)
		return res;
	for (;;) {
		unsigned depth = diff->depth;
		const struct id *slots[2];
		for (unsigned side = 0; side < 2; side++) {
			const struct id *id = &diff->path[depth][side];
			slots[side] = id_is_null(id) ? none
						     : map_node(work->store, id, &work->wait, &res);
			if (!slots[side])
				return res == WAITING ? work_waits(work) : res;
		}
		unsigned at = diff->slot[depth];
		while (at < NODE_SLOTS && id_equal(&slots[0][at], &slots[1][at]))
			at++;
		diff->slot[depth] = at;
		if (at == NODE_SLOTS) {
			if (depth == 0)
				break;
			diff->slot[--diff->depth]++;
		} else if (depth == MAP_LEVELS - 1) {
			uint64_t chunk_no = 0;
			for (unsigned i = 0; i < MAP_LEVELS; i++)
				chunk_no = chunk_no << 8 | diff->slot[i];
			diff_chunk(diff, chunk_no);
			diff->slot[depth]++;
		} else {
			diff->path[++diff->depth][0] = slots[0][at];
			diff->path[diff->depth][1] = slots[1][at];
			diff->slot[diff->depth] = 0;
		}
		if (++looked == 1024)
			return WALK_MORE;
	}
	diff_flush(diff);
	return 0;
}

static void diff_done(struct work *work)
{
	free(container_of(work, struct diff, work));
}

void store_diff(struct store *store, struct store_work *public, const char *a, const char *b)
{
	struct diff *diff = calloc(1, sizeof(*diff));
	if (diff) {
		snprintf(diff->name[0], SNAP_NAME_ROOM, "%s", a);
		snprintf(diff->name[1], SNAP_NAME_ROOM, "%s", b);
		diff->work.step = diff_step;
		diff->work.done = diff_done;
	}
	work_start(store, diff ? &diff->work : NULL, public);
}
