/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments at the opening of a store, straight-line. The folder is listed once. What the index's
 * file has is believed to be there when its name is, and is not opened; every other segment of the
 * catalog is opened, sealed where it was not, and indexed. Files that the catalog does not name are
 * orphans of a crash and go.
 *
 * A segment that cannot be read is lost: it is named, its chunks answer with an error, and the rest
 * of the store serves on.
 */
#include "storage/store/segments_int.h"

#include "storage/rt/log_event.h"
#include "storage/store/index.h"
#include "storage/store/recovery.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

static int segment_index(struct segment *segment, const struct directory *directory)
{
	struct store *store = segment->store;
	for (uint32_t i = 0; i < directory->entry_count; i++) {
		const struct dir_entry *entry = &directory->entries[i];
		uint64_t location = location_of(segment->slot, entry->offset64);
		if (index_insert(store->index, &entry->id, location) < 0)
			return -ENOMEM;
	}
	return 0;
}

static enum seal_fact seal_fact(const struct segment *segment, int res)
{
	struct store *store = segment->store;
	struct segment_name name = segment_name_of(segment);
	if (res == 0)
		return SEAL_WHOLE;
	if (res == -VS_EFORMAT ||
	    res == -VS_ECHECKSUM) /* what is wrong: the header, or the rest? */
		res = segment_header_look(store->env, segment->file, &name);
	if (res == 0) { /* sealing cuts the file */
		int64_t bytes = env_file_bytes(segment->file);
		return bytes >= 0 && segment_length_open((uint64_t)bytes) ? SEAL_NONE
									  : SEAL_DAMAGED;
	}
	if (lacks_means(res))
		return SEAL_UNKNOWN;
	return res == -VS_EFORMAT ? SEAL_ALIEN : SEAL_FAILED;
}

/* What a scan finds, and a seal when something may be written. */
static int segment_scan_directory(struct segment *segment, bool salvage,
				  struct directory **ret_directory)
{
	struct store *store = segment->store;
	struct segment_name name = segment_name_of(segment);
	uint64_t end;
	int res = segment_scan(store->env, segment->file, &name, salvage, ret_directory, &end);
	if (res < 0 || store->options.read_only)
		return res;
	res = segment_seal_scanned(store->env, segment->file, &name, *ret_directory, end);
	if (res < 0) {
		directory_free(*ret_directory);
		*ret_directory = NULL;
	}
	return res;
}

static void segment_lost(struct segment *segment, int res)
{
	struct store *store = segment->store;
	segment->state = SEGMENT_LOST;
	env_file_close(segment->file);
	segment->file = NULL;
	store->segment_bytes -= segment->bytes;
	segment->bytes = 0;
	store->lost_segments++;
	log_event(LOG_LEVEL_ERROR, "segment.lost",
		  "segment=%016llx error=\"%s\" effect=\"its chunks cannot be read\" "
		  "hint=\"restore its file, then check the store\"",
		  (unsigned long long)segment->id, vs_strerror(res));
}

static int segment_take(struct segment *segment, struct directory *directory)
{
	struct store *store = segment->store;
	segment->state = SEGMENT_SEALED;
	int64_t bytes = env_file_bytes(segment->file);
	store->segment_bytes += (uint64_t)bytes - segment->bytes;
	segment->bytes = (uint64_t)bytes;
	int res = segment_index(segment, directory);
	segments_keep_directory(segment, directory);
	return res;
}

/* One that the catalog knows. */
static int segment_recover(struct segment *segment, bool file)
{
	struct store *store = segment->store;
	struct segment_name name = segment_name_of(segment);
	struct directory *directory = NULL;
	uint8_t facts[] = {SEGMENT_KNOWN, file ? SEGMENT_FILE : SEGMENT_NO_FILE,
			   segment->indexed ? SEGMENT_LISTED : SEGMENT_NOT_LISTED, SEAL_UNKNOWN,
			   store->options.read_only ? OPEN_READ_ONLY : OPEN_WRITABLE};
	int res = file ? 0 : -ENOENT;
	if (file && !segment->indexed) {
		res = segment_open_file(segment);
		if (res == 0)
			res = segment_load(store->env, segment->file, &name, &directory);
		facts[3] = (uint8_t)seal_fact(segment, res);
	}
	unsigned verdict = recovery_decide(&recovery_segment, facts);
	switch (verdict) {
	case SEGMENT_TRUST:
		segment->state = SEGMENT_SEALED;
		return 0;
	case SEGMENT_SCAN:
	case SEGMENT_SCAN_SEAL:
		res = segment_scan_directory(segment, false, &directory);
		break;
	case SEGMENT_SALVAGE:
	case SEGMENT_SALVAGE_SEAL:
		log_event(
			LOG_LEVEL_WARNING, "segment.salvaged",
			"segment=%016llx error=\"%s\" effect=\"its records are found one by one\"",
			(unsigned long long)segment->id, vs_strerror(res));
		res = segment_scan_directory(segment, true, &directory);
		break;
	default:
		break;
	}
	/* A scan may find that the disk fails, or has no room for the seal. */
	if (verdict == SEGMENT_STOP || res == -ENOMEM || res == -ENOSPC)
		return res;
	if (verdict == SEGMENT_IS_LOST || res < 0) {
		segment_lost(segment, res);
		return 0;
	}
	/* After a kill it may be in the page cache only (what was sealed here is not); from here on
	 * it counts as durable: it is found by deduplication, and the index's file will list it. */
	if (verdict == SEGMENT_DIRECTORY && !store->options.read_only &&
	    (res = env_file_sync_wait(segment->file)) < 0) {
		directory_free(directory);
		return res;
	}
	return segment_take(segment, directory);
}

/* Segment ids, sorted. */
struct id_list {
	uint64_t *ids;
	size_t count;
};

static int id_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static bool id_listed(const struct id_list *list, uint64_t id)
{
	return list->count && bsearch(&id, list->ids, list->count, sizeof(*list->ids), id_compare);
}

/* Those that have a file, and those that the catalog knows. */
static int lists_make(struct store *store, struct id_list *ret_files, struct id_list *ret_known)
{
	const struct segment_set *set = store->segment_set;
	struct env_dir_entry *entries;
	size_t count;
	int res = env_dir_list(store->seg_dir, &entries, &count);
	if (res < 0)
		return res;
	ret_files->ids = malloc((count + 1) * sizeof(uint64_t));
	ret_known->ids = malloc((set->slot_count + 1) * sizeof(uint64_t));
	res = ret_files->ids && ret_known->ids ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && res == 0; i++) {
		char *end;
		uint64_t id = strtoull(entries[i].name, &end, 16);
		if (!*end && end - entries[i].name == 16 && id != UINT64_MAX) /* else: not ours */
			ret_files->ids[ret_files->count++] = id;
	}
	for (uint32_t slot = 1; slot < set->slot_count && res == 0; slot++)
		if (set->slots[slot])
			ret_known->ids[ret_known->count++] = set->slots[slot]->id;
	free(entries);
	if (res == 0) {
		qsort(ret_files->ids, ret_files->count, sizeof(uint64_t), id_compare);
		qsort(ret_known->ids, ret_known->count, sizeof(uint64_t), id_compare);
	}
	return res;
}

/* Files that the catalog does not name. */
static int orphans_remove(struct store *store, const struct id_list *files,
			  const struct id_list *known)
{
	int res = 0;
	for (size_t i = 0; i < files->count && res == 0; i++) {
		uint8_t facts[] = {id_listed(known, files->ids[i]) ? SEGMENT_KNOWN
								   : SEGMENT_UNKNOWN,
				   SEGMENT_FILE, SEGMENT_LISTED, SEAL_UNKNOWN,
				   store->options.read_only ? OPEN_READ_ONLY : OPEN_WRITABLE};
		char name[32];
		store->next_segment_id = max_u64(store->next_segment_id, files->ids[i] + 1);
		if (recovery_decide(&recovery_segment, facts) != SEGMENT_REMOVE)
			continue;
		segment_file_name(files->ids[i], name);
		res = env_file_remove_wait(store->seg_dir, name);
	}
	return res;
}

int segments_recover(struct store *store, char *sentence)
{
	struct segment_set *set = store->segment_set;
	struct id_list files = {0}, known = {0};
	int res = lists_make(store, &files, &known);
	for (uint32_t slot = 1; slot < set->slot_count && res == 0; slot++) {
		struct segment *segment = set->slots[slot];
		if (segment)
			res = segment_recover(segment, id_listed(&files, segment->id));
	}
	if (res == 0)
		res = orphans_remove(store, &files, &known);
	free(files.ids);
	free(known.ids);
	if (res < 0)
		snprintf(
			sentence, SENTENCE_BYTES,
			"The store's segments could not be opened (%s): free memory, space or open "
			"files, then start again; nothing was lost.",
			vs_strerror(res));
	return res;
}
