/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments at the opening of a store, straight-line: what the catalog names is opened, sealed where
 * it was not, and indexed; files that it does not name are orphans of a crash and go.
 *
 * A segment that cannot be read is lost: it is named, its chunks answer with an error, and the rest
 * of the store serves on.
 */
#include "storage/rt/log_event.h"
#include "storage/store/segments.h"

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

/* Sealed: its directory. Not sealed: what a scan finds, and a seal, unless nothing may be written.
 */
static int segment_read_directory(struct segment *segment, struct directory **ret_directory)
{
	struct store *store = segment->store;
	struct segment_name name = segment_name_of(segment);
	uint64_t end;
	int res = segment_load(store->env, segment->file, &name, ret_directory);
	if (res != -VS_EFORMAT && res != -VS_ECHECKSUM)
		return res;
	res = segment_scan(store->env, segment->file, &name, ret_directory, &end);
	if (res < 0 || store->options.read_only)
		return res;
	res = segment_seal_scanned(store->env, segment->file, &name, *ret_directory, end);
	if (res < 0) {
		directory_free(*ret_directory);
		*ret_directory = NULL;
	}
	return res;
}

static int segment_recover(struct segment *segment, bool indexed)
{
	struct store *store = segment->store;
	struct directory *directory = NULL;
	int res = segment_open_file(segment);
	if (res == 0 && indexed) {
		int64_t bytes = env_file_bytes(segment->file);
		env_file_close(segment->file);
		segment->file = NULL;
		segment->state = SEGMENT_SEALED;
		store->segment_bytes += (uint64_t)bytes - segment->bytes;
		segment->bytes = (uint64_t)bytes;
		return 0;
	}
	if (res == 0)
		res = segment_read_directory(segment, &directory);
	if (res == -ENOMEM || res == -ENOSPC || res == -EMFILE)
		return res;
	if (res < 0) {
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
		return 0;
	}
	segment->state = SEGMENT_SEALED;
	int64_t bytes = env_file_bytes(segment->file);
	store->segment_bytes += (uint64_t)bytes - segment->bytes;
	segment->bytes = (uint64_t)bytes;
	res = segment_index(segment, directory);
	segments_keep_directory(segment, directory);
	return res;
}

static int orphans_remove(struct store *store)
{
	struct segment_set *set = store->segment_set;
	struct env_dir_entry *entries;
	size_t count;
	int res = env_dir_list(store->seg_dir, &entries, &count);
	if (res < 0)
		return res;
	for (size_t i = 0; i < count && res == 0; i++) {
		char *end, name[32];
		uint64_t id = strtoull(entries[i].name, &end, 16);
		bool known = false;
		if (*end || end - entries[i].name != 16)
			continue; /* not a name of ours */
		segment_file_name(id, name);
		for (uint32_t slot = 1; slot < set->slot_count && !known; slot++)
			known = set->slots[slot] && set->slots[slot]->id == id;
		store->next_segment_id = max_u64(store->next_segment_id, id + 1);
		if (!known && !store->options.read_only)
			res = env_file_remove_wait(store->seg_dir, name);
	}
	free(entries);
	return res;
}

int segments_recover(struct store *store, char *sentence)
{
	struct segment_set *set = store->segment_set;
	int res = 0;
	for (uint32_t slot = 1; slot < set->slot_count && res == 0; slot++)
		if (set->slots[slot])
			res = segment_recover(set->slots[slot], set->slots[slot]->indexed);
	if (res == 0)
		res = orphans_remove(store);
	if (res < 0)
		snprintf(
			sentence, SENTENCE_BYTES,
			"The store's segments could not be opened (%s): free memory, space or open "
			"files, then start again; nothing was lost.",
			vs_strerror(res));
	return res;
}
