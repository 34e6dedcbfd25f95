/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading everything and saying what is wrong.
 *
 * Every record of every segment is read, decoded, and its full id computed anew (verify.c); then
 * every map is walked, and each id in it must be a record that is there and was found good. What is
 * wrong is named with what it affects. The index's files are read before that, and the index is
 * compared with the records that were found; an entry that it lacks is put back.
 *
 * A scrub by hand that is not asked to be deep sweeps segments (sweep.c): all stored bytes
 * are checked, nothing is decoded, and only what does not hold there is read as above.
 *
 * Keeps true: a bounded number of records is in memory; the store serves meanwhile; nothing is
 * changed, but that a record found bad is no target of deduplication any more, and what healing
 * stores anew.
 */
#include "storage/store/verify.h"

#include "storage/store/behind.h"
#include "storage/store/file_check.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/sweep.h"

#include <stdlib.h>

enum { CHECK_BEGIN, CHECK_FILES, CHECK_INDEX, CHECK_RECORDS, CHECK_DRAIN, CHECK_MAPS };

struct check {
	struct verify verify;
	int phase;
	uint32_t slot, entry, only_slot;
	bool scrub;	  /* when it has gone through, all was verified since: */
	bool shallow;	  /* the stored bytes alone */
	bool sweeping;	  /* the segment at `slot` */
	uint32_t unswept; /* the slot of one whose file cannot be opened */
	struct sweep sweep;
	uint64_t begun_ns; /* the store's age */
	struct root *roots;
	size_t root_count, root_at;
	struct id_set seen;
	struct index_check index;
	struct file_check files;
	uint32_t unread_segments;
	uint64_t record_count, stored_before; /* to see whether the index has more than that */
};

static void check_finding(struct check *check, const char *what)
{
	struct work *work = &check->verify.work;
	work->public->damaged++;
	work_report(work, "%s", what);
}

static void check_index_report(struct index_check *index, const char *what)
{
	check_finding(container_of(index, struct check, index), what);
}

static void check_index_wake(struct index_check *index)
{
	work_kick(index->store);
}

static void check_files_report(struct file_check *files, const char *what)
{
	struct check *check = container_of(files, struct check, files);
	check->verify.work.public->damaged_files++;
	check_finding(check, what);
}

static void check_files_wake(struct file_check *files)
{
	work_kick(files->store);
}

static void check_files_begin(struct check *check)
{
	check->files = (struct file_check){.store = check->verify.work.store,
					   .report = check_files_report,
					   .wake = check_files_wake,
					   .only_slot = check->only_slot};
}

/* The files first: they may be what the index is loaded from. */
static int check_index(struct check *check)
{
	struct work *work = &check->verify.work;
	struct store *store = work->store;
	int res = index_check_step(&check->index);
	if (res)
		return res;
	res = index_load_all(store, &work->wait);
	if (res)
		return res == WAITING ? work_waits(work) : res;
	work->public->total = index_count(store->index) * CHUNK_BYTES;
	check->stored_before = store->counters.chunks_stored + store->compactions +
			       store->counters.segments_dropped;
	check->slot = 1;
	check->phase = CHECK_RECORDS;
	return WALK_MORE;
}

/* A record that the index does not have cannot be read: that is damage, and here it is mended. */
static void check_indexed(struct check *check, const struct segment *segment,
			  const struct dir_entry *entry)
{
	struct work *work = &check->verify.work;
	struct store *store = work->store;
	uint64_t location = location_of(segment->slot, entry->offset64);
	check->record_count++;
	if (segment->leaving)
		check->unread_segments++; /* it is being emptied */
	if (segment->leaving || index_has(store->index, &entry->id, location))
		return;
	work->public->damaged++;
	work_report(work,
		    "segment %016llx, record at %llu: the index does not have it; it is put back",
		    (unsigned long long)segment->id,
		    (unsigned long long)entry->offset64 * RECORD_ALIGN);
	if (index_insert(store->index, &entry->id, location) < 0)
		store_fail(store, -ENOMEM, "the index cannot grow");
}

/* All directories were seen: if nothing was stored or dropped meanwhile, their records are what the
 * index has. */
static void check_index_count(struct check *check)
{
	struct work *work = &check->verify.work;
	struct store *store = work->store;
	uint64_t count = index_count(store->index);
	if (store->counters.chunks_stored + store->compactions + store->counters.segments_dropped !=
		    check->stored_before ||
	    check->unread_segments || count == check->record_count)
		return;
	work->public->damaged++;
	work_report(work,
		    "the index has %llu entries, the segments have %llu records: restart vstored "
		    "to load it anew",
		    (unsigned long long)count, (unsigned long long)check->record_count);
}

static void check_sweep_wake(struct sweep *sweep)
{
	work_kick(sweep->store);
}

static int check_sweep_begin(struct check *check, struct segment *segment)
{
	const struct directory *directory = segment_records(segment);
	check->sweep.store = check->verify.work.store;
	check->sweep.wake = check_sweep_wake;
	int res = sweep_begin(&check->sweep, segment);
	if (res < 0)
		return res;
	uint32_t count = check->sweep.end;
	check->unread_segments += count < directory->entry_count;
	for (uint32_t i = 0; i < count; i++)
		check_indexed(check, segment, &directory->entries[i]);
	check->verify.work.public->chunks += count;
	check->verify.work.public->progress += count * (uint64_t)CHUNK_BYTES;
	check->sweeping = true;
	return 0;
}

/* What the sweep suspects is read and judged as every record of a deep check is. */
static int check_swept(struct check *check)
{
	struct work *work = &check->verify.work;
	struct sweep *sweep = &check->sweep;
	uint32_t at;
	bool paced;
	int res;
	while ((res = sweep_step(sweep, &work->wait, &paced, &at)) == SWEEP_SUSPECT) {
		const struct dir_entry *entry = &segment_records(sweep->segment)->entries[at];
		res = verify_record(&check->verify, &entry->id, entry->type,
				    location_of(sweep->segment->slot, entry->offset64), 0);
		if (res)
			return res == WAITING ? work_waits(work) : WAITING;
		sweep_told(sweep, at);
	}
	if (res == WAITING)
		return paced ? work_waits(work) : WAITING;
	check->sweeping = false;
	check->slot++;
	return WALK_MORE;
}

static int check_records(struct check *check)
{
	if (check->sweeping)
		return check_swept(check);
	struct work *work = &check->verify.work;
	struct store *store = work->store;
	while (check->slot < segments_slot_count(store) &&
	       (!check->only_slot || check->slot == check->only_slot)) {
		struct segment *segment = segment_of(store, check->slot);
		if (!segment) { /* never was, or went while it was read */
			check->slot++;
			check->entry = 0;
			continue;
		}
		int res = segments_directory(segment, &work->wait);
		if (res == WAITING)
			return work_waits(work);
		if (res < 0) {
			check->unread_segments++;
			work->public->damaged++;
			work_report(work, "segment %016llx cannot be read: %s",
				    (unsigned long long)segment->id, vs_strerror(res));
			check->slot++;
			check->entry = 0;
			continue;
		}
		const struct directory *directory = segment_records(segment);
		if (check->entry >= directory->entry_count) {
			check->slot++;
			check->entry = 0;
			continue;
		}
		if (check->shallow && check->unswept != check->slot) {
			res = check_sweep_begin(check, segment);
			if (lacks_means(res))
				return res;
			if (res < 0) /* its records are judged one by one */
				check->unswept = check->slot;
			return WALK_MORE;
		}
		const struct dir_entry *entry = &directory->entries[check->entry];
		if (segment->writer &&
		    segment_record_end(segment, entry) > segment_durable_end(segment->writer)) {
			check->unread_segments++;
			check->slot++; /* what is not on disk yet is not looked at */
			check->entry = 0;
			continue;
		}
		res = verify_record(&check->verify, &entry->id, entry->type,
				    location_of(check->slot, entry->offset64), 0);
		if (res)
			return res == WAITING ? work_waits(work) : WAITING;
		check_indexed(check, segment, entry);
		check->entry++;
	}
	if (!check->only_slot)
		check_index_count(check);
	check->phase = CHECK_DRAIN;
	return WALK_MORE;
}

static bool check_enter(struct walk *walk, const struct id *id)
{
	struct check *check = walk->owner;
	if (verify_damaged(&check->verify, id)) /* memory may still know it */
		work_report(&check->verify.work, "%s: a map node of it is damaged",
			    check->verify.name);
	if (check->verify.damaged_count)
		return true; /* each root says what is wrong with it */
	return id_set_add(&check->seen, id) != 0;
}

/* 1: no record of it is here that could be read; 0; WAITING is -EAGAIN. */
static int check_missing(struct check *check, const struct id *id)
{
	struct store *store = check->verify.work.store;
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	struct segment *segment;
	struct dir_entry *entry;
	if (index_find(store->index, id, candidates) == 0)
		return 1;
	if (!check->unread_segments)
		return 0;
	int res = segments_locate(store, id, false, &check->verify.work.wait, &segment, &entry);
	return res == WAITING ? -EAGAIN : res < 0;
}

static int check_chunk(struct walk *walk, const struct id *id)
{
	struct check *check = walk->owner;
	int missing = check_missing(check, id);
	if (missing == -EAGAIN)
		return WAITING;
	if (!missing && !verify_damaged(&check->verify, id))
		return 0;
	if (missing && !verify_root_alive(&check->verify))
		return -ENOENT; /* the rest of it is nobody's, too */
	if (missing)		/* unless somebody else has it */
		return verify_record(&check->verify, id, RECORD_CHUNK, 0, walk->chunk_no);
	work_report(&check->verify.work, "%s, bytes %llu to %llu: the chunk is damaged",
		    check->verify.name, (unsigned long long)walk->chunk_no * CHUNK_BYTES,
		    (unsigned long long)(walk->chunk_no + 1) * CHUNK_BYTES);
	return 0;
}

static int check_maps(struct check *check)
{
	struct verify *verify = &check->verify;
	struct work *work = &verify->work;
	while (check->root_at < check->root_count) {
		if (!verify->walking) {
			verify->root = &check->roots[check->root_at];
			verify->name = verify->root->name;
			walk_start(&verify->walk, &verify->root->top);
		}
		verify->walking = true;
		int res = walk_step(&verify->walk, &work->wait);
		if (res == WAITING)
			return work_waits(work);
		if (res == WALK_MORE)
			return res;
		if (res == WINDOW_FULL || (res <= 0 && verify->busy))
			return WAITING; /* verify_end goes on */
		if (res < 0 && verify_root_alive(verify)) {
			work->public->damaged++;
			work_report(work, "%s: a map node cannot be read: %s", verify->name,
				    vs_strerror(res));
		}
		verify->walking = false;
		check->root_at++;
	}
	return 0;
}

static bool check_must_finish(const struct work *work)
{
	const struct check *check = container_of(work, struct check, verify.work);
	return check->verify.busy > 0 || check->index.busy || check->files.busy ||
	       check->sweep.busy;
}

static int check_step(struct work *work)
{
	struct check *check = container_of(work, struct check, verify.work);
	struct store *store = work->store;
	int res;
	if (work->public->cancel || store->closing)
		return check_must_finish(work) ? WAITING : -VS_ECANCELLED;
	switch (check->phase) {
	case CHECK_BEGIN:
		for (uint32_t slot = 1; slot < segments_slot_count(store); slot++)
			if (segment_of(store, slot) &&
			    segment_of(store, slot)->state == SEGMENT_LOST) {
				work->public->damaged++;
				work_report(work, "segment %016llx is missing",
					    (unsigned long long)segment_of(store, slot)->id);
			}
		check->begun_ns = store_age_ns(store);
		check->index = (struct index_check){
			.store = store, .report = check_index_report, .wake = check_index_wake};
		check->phase = CHECK_FILES;
		return WALK_MORE;
	case CHECK_FILES:
		if (!check->files.store)
			check_files_begin(check);
		res = file_check_step(&check->files);
		if (res == 0)
			check->phase = check->only_slot ? CHECK_RECORDS : CHECK_INDEX;
		return res == 0 ? WALK_MORE : res;
	case CHECK_INDEX:
		return check_index(check);
	case CHECK_RECORDS:
		return check_records(check);
	case CHECK_DRAIN:
		if (check->verify.busy)
			return WAITING;
		if (check->only_slot && work->public->damaged == work->public->damaged_files)
			return 0; /* a record that is damaged is told with what it affects */
		check->verify.walk = (struct walk){
			.store = store, .enter = check_enter, .chunk = check_chunk, .owner = check};
		check->phase = CHECK_MAPS;
		return roots_collect(store, &check->roots, &check->root_count) < 0 ? -ENOMEM
										   : WALK_MORE;
	default:
		break;
	}
	res = check_maps(check);
	if (res == 0 && check->scrub)
		scrub_pass_ended(store, check->begun_ns, check->shallow);
	return res;
}

static void check_done(struct work *work)
{
	struct check *check = container_of(work, struct check, verify.work);
	verify_exit(&check->verify);
	if (check->index.store)
		index_check_done(&check->index);
	if (check->files.store)
		file_check_done(&check->files);
	if (check->sweep.store)
		sweep_done(&check->sweep);
	id_set_free(&check->seen);
	free(check->roots);
	free(check);
}

static struct check *check_new(struct store *store)
{
	struct check *check = calloc(1, sizeof(*check));
	if (check && verify_init(&check->verify, store) < 0) {
		free(check);
		return NULL;
	}
	if (check) {
		check->verify.work.step = check_step;
		check->verify.work.done = check_done;
		check->verify.work.must_finish = check_must_finish;
	}
	return check;
}

void store_check(struct store *store, struct store_work *public)
{
	struct check *check = check_new(store);
	work_start(store, check ? &check->verify.work : NULL, public);
}

void store_scrub(struct store *store, struct store_work *public, bool deep)
{
	struct check *check = check_new(store);
	if (check) {
		check->scrub = true;
		check->shallow = !deep;
		check->verify.window = VERIFY_COUNT / 2;
	}
	work_start(store, check ? &check->verify.work : NULL, public);
}

void check_segment(struct store *store, struct store_work *public, uint32_t slot)
{
	struct check *check = check_new(store);
	if (check) {
		check->phase = CHECK_FILES;
		check->slot = check->only_slot = slot;
		check->verify.window = 2;
	}
	work_start(store, check ? &check->verify.work : NULL, public);
}
