/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/scan.h"

#include "proto/crc32c.h"
#include "tests/sim/fail.h"

#include "storage/store/index.h"
#include "storage/store/map.h"
#include "storage/store/store_int.h"

#include <endian.h>
#include <stdlib.h>

#define RECORD_MAGIC 0x52435356u
#define CHILDREN_MAX 64u /* of a node of the simulation's small volumes */

struct scan_node {
	struct id id; /* null: nothing is here */
	uint32_t child_count;
	struct id *children;
};
/* Where the records of an id are: the first one, and whether somebody named it in this turn. */
struct scan_place {
	uint64_t turn, live_turn;
	struct id id;
	uint32_t segment, record; /* of the first */
	bool twice;
};

void scan_init(struct scan *scan, struct sim *sim)
{
	*scan = (struct scan){.sim = sim, .codec = codec_new(1)};
}

void scan_done(struct scan *scan)
{
	for (size_t i = 0; i < scan->segment_count; i++)
		free(scan->segments[i].records);
	for (size_t i = 0; i < scan->node_room; i++)
		free(scan->nodes[i].children);
	free(scan->segments);
	free(scan->nodes);
	free(scan->places);
	codec_free(scan->codec);
}

static void room_make(void **at, size_t *room, size_t count, size_t each)
{
	if (count < *room)
		return;
	*room = *room ? 2 * *room : 64;
	*at = reallocarray(*at, *room, each);
	if (!*at)
		abort();
}

/* ---- records ---- */

static uint32_t u32_at(const uint8_t *at)
{
	uint32_t word;
	memcpy(&word, at, 4);
	return le32toh(word);
}

/* Its frames' bytes, which are all there, have their checksums. */
static bool frames_whole(const uint8_t *at, uint32_t frames, const uint8_t *stored)
{
	for (uint32_t i = 0; i < frames; i++) {
		uint32_t bytes = u32_at(at + 52 + 8 * i) & 0xffffff;
		if (crc32c(u32_at(at + 8) ^ (i * 0x9e3779b1u), stored, bytes) !=
		    u32_at(at + 56 + 8 * i))
			return false;
		stored += bytes;
	}
	return true;
}

static bool header_whole(const uint8_t *at, uint32_t bytes)
{
	uint8_t copy[52 + 8 * 16];
	memcpy(copy, at, bytes);
	memset(copy + 48, 0, 4);
	return crc32c(0, copy, bytes) == u32_at(at + 48);
}

/* A record's bytes without what fills up; 0: none begins here, or what a crash left of one. */
static uint32_t record_at(const uint8_t *at, uint64_t left, struct scan_record *ret)
{
	if (left < 52 || u32_at(at) != RECORD_MAGIC)
		return 0;
	uint32_t frames = at[5], header = 52 + 8 * frames;
	ret->type = at[4];
	memcpy(ret->id.bytes, at + 8, ID_BYTES);
	if (frames == 0 || frames > 16 || header > left || !header_whole(at, header))
		return 0;
	uint32_t prefix = header + (ret->type == 1 ? 128 : 0), bytes = prefix;
	for (uint32_t i = 0; i < frames; i++)
		bytes += u32_at(at + 52 + 8 * i) & 0xffffff;
	return bytes > left || !frames_whole(at, frames, at + prefix) ? 0 : bytes;
}

/* Where the records of a sealed one end: its trailer says so. */
static uint64_t records_end(const uint8_t *data, uint64_t bytes)
{
	uint64_t offset;
	const uint8_t *trailer = data + bytes - BLOCK_BYTES;
	if (bytes < 2 * BLOCK_BYTES || memcmp(trailer, "VSSEGEND", 8) != 0)
		return bytes;
	memcpy(&offset, trailer + 16, 8);
	return min_u64(le64toh(offset), bytes);
}

static void segment_read(struct scan_segment *segment, const uint8_t *data, uint64_t bytes)
{
	uint64_t end = records_end(data, bytes), at = BLOCK_BYTES;
	segment->record_count = 0;
	while (at < end) {
		struct scan_record record = {.offset64 = (uint32_t)(at / 64)};
		uint32_t length = record_at(data + at, end - at, &record);
		if (!length && at % BLOCK_BYTES == 0)
			break;
		if (!length) {
			at = round_up(at, BLOCK_BYTES);
			continue;
		}
		record.bytes = (uint32_t)round_up(length, 64);
		size_t room = segment->record_room;
		room_make((void **)&segment->records, &room, segment->record_count, sizeof record);
		segment->record_room = (uint32_t)room;
		segment->records[segment->record_count++] = record;
		at += record.bytes;
	}
}

static const char *segments_read(struct scan *scan, struct store *store)
{
	size_t kept = 0;
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		const struct segment *segment = segment_of(store, slot);
		struct scan_segment *found = NULL;
		char name[32];
		uint64_t bytes;
		if (!segment)
			continue;
		for (size_t i = 0; i < scan->segment_count && !found; i++)
			if (scan->segments[i].id == segment->id)
				found = &scan->segments[i];
		if (!found) {
			room_make((void **)&scan->segments, &scan->segment_room,
				  scan->segment_count, sizeof *found);
			found = &scan->segments[scan->segment_count++];
			*found = (struct scan_segment){.id = segment->id};
		}
		found->seen = true;
		found->slot = slot;
		bool sealed = segment->state == SEGMENT_SEALED && !segment->writer;
		snprintf(name, sizeof name, "%016llx", (unsigned long long)segment->id);
		const uint8_t *data = sim_file_look(scan->sim, name, &bytes);
		if (!data)
			FAIL("segment %s is in the catalog, and its file is gone", name);
		if (!found->sealed)
			segment_read(found, data, bytes);
		found->sealed = sealed;
		found->file_bytes = bytes;
		if (segment_length_open(bytes))
			found->open_bytes = bytes;
		else if (!found->open_bytes) /* never seen before it was cut */
			found->open_bytes = segment->bytes;
		if (segment->state == SEGMENT_LOST)
			FAIL("segment %s is lost", name);
	}
	for (size_t i = 0; i < scan->segment_count; i++) {
		if (scan->segments[i].seen)
			scan->segments[kept++] = scan->segments[i];
		else
			free(scan->segments[i].records);
		scan->segments[kept ? kept - 1 : 0].seen = false;
	}
	scan->segment_count = kept;
	return NULL;
}

/* ---- by id ---- */

static struct scan_place *place_of(struct scan *scan, const struct id *id)
{
	size_t i = id_word(id, 2) & (scan->place_room - 1);
	while (scan->places[i].turn == scan->turn && !id_equal(&scan->places[i].id, id))
		i = (i + 1) & (scan->place_room - 1);
	return &scan->places[i];
}

static void places_make(struct scan *scan)
{
	size_t count = 0;
	for (size_t i = 0; i < scan->segment_count; i++)
		count += scan->segments[i].record_count;
	scan->records = count;
	if (scan->place_room < 2 * count + 64) {
		scan->place_room = 1024;
		while (scan->place_room < 4 * count)
			scan->place_room *= 2;
		free(scan->places);
		scan->places = calloc(scan->place_room, sizeof *scan->places);
	}
	scan->turn++;
	for (uint32_t s = 0; s < scan->segment_count; s++)
		for (uint32_t r = 0; r < scan->segments[s].record_count; r++) {
			const struct id *id = &scan->segments[s].records[r].id;
			struct scan_place *place = place_of(scan, id);
			if (place->turn == scan->turn)
				place->twice = true;
			else
				*place = (struct scan_place){
					.turn = scan->turn, .id = *id, .segment = s, .record = r};
		}
}

/* The index, which is the authority for reads, knows one of its places. */
static bool index_knows(const struct scan *scan, struct store *store, const struct id *id)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	if (index_shard_deferred(store->index, index_shard_of(id)))
		return true; /* it is on disk still */
	unsigned count = index_find(store->index, id, candidates);
	for (unsigned c = 0; c < count; c++)
		for (size_t i = 0; i < scan->segment_count; i++) {
			const struct scan_segment *segment = &scan->segments[i];
			if (segment->slot != location_slot(candidates[c]))
				continue;
			uint32_t low = 0, high = segment->record_count;
			while (low < high) {
				uint32_t middle = (low + high) / 2;
				if (segment->records[middle].offset64 <
				    location_offset64(candidates[c]))
					low = middle + 1;
				else
					high = middle;
			}
			if (low < segment->record_count &&
			    segment->records[low].offset64 == location_offset64(candidates[c]) &&
			    id_equal(&segment->records[low].id, id))
				return true;
		}
	return false;
}

/* Somebody names it: is it there? */
static const char *name_look(struct scan *scan, struct store *store, const struct id *id,
			     const char *who, bool tree, struct scan_place **ret)
{
	struct scan_place *place = place_of(scan, id);
	*ret = place;
	if (place->turn != scan->turn)
		FAIL("what %s names (%02x%02x%02x%02x...) is in no segment", who, id->bytes[0],
		     id->bytes[1], id->bytes[2], id->bytes[3]);
	if (place->live_turn != scan->turn && !index_knows(scan, store, id))
		FAIL("what %s names (%02x%02x%02x%02x...) is not found by the index", who,
		     id->bytes[0], id->bytes[1], id->bytes[2], id->bytes[3]);
	if (tree)
		place->live_turn = scan->turn;
	return NULL;
}

/* ---- trees ---- */

/* Where it is, or would be. */
static struct scan_node *node_place(const struct scan *scan, const struct id *id)
{
	size_t i = id_word(id, 1) & (scan->node_room - 1);
	while (!id_is_null(&scan->nodes[i].id) && !id_equal(&scan->nodes[i].id, id))
		i = (i + 1) & (scan->node_room - 1);
	return &scan->nodes[i];
}

static void nodes_grow(struct scan *scan)
{
	struct scan larger = {.node_room = scan->node_room ? 2 * scan->node_room : 1024};
	larger.nodes = calloc(larger.node_room, sizeof *larger.nodes);
	for (size_t i = 0; i < scan->node_room; i++)
		if (!id_is_null(&scan->nodes[i].id))
			*node_place(&larger, &scan->nodes[i].id) = scan->nodes[i];
	free(scan->nodes);
	scan->nodes = larger.nodes;
	scan->node_room = larger.node_room;
}

/* Decodes it once in the life of the scan. */
static struct scan_node *node_read(struct scan *scan, const struct scan_place *place)
{
	static uint8_t raw[NODE_BYTES];
	if (2 * scan->node_count >= scan->node_room)
		nodes_grow(scan);
	struct scan_node *node = node_place(scan, &place->id);
	if (!id_is_null(&node->id))
		return node;
	const struct scan_segment *segment = &scan->segments[place->segment];
	char name[32];
	uint64_t bytes;
	snprintf(name, sizeof name, "%016llx", (unsigned long long)segment->id);
	const uint8_t *at = sim_file_look(scan->sim, name, &bytes);
	at += segment->records[place->record].offset64 * 64ull;
	struct frame_entry frame = {.stored_bytes = u32_at(at + 52) & 0xffffff,
				    .codec = at[55],
				    .crc = u32_at(at + 56)};
	if (at[4] != 2 ||
	    codec_decode(scan->codec, 0, &frame, 0, &place->id, at + 60, raw, NODE_BYTES) < 0)
		return NULL;
	scan->node_count++;
	*node = (struct scan_node){.id = place->id};
	node->children = calloc(CHILDREN_MAX, sizeof(struct id));
	for (unsigned i = 0; i < NODE_SLOTS && node->child_count < CHILDREN_MAX; i++) {
		struct id child;
		memcpy(&child, raw + i * sizeof child, sizeof child);
		if (!id_is_null(&child))
			node->children[node->child_count++] = child;
	}
	return node;
}

/* Depth is bounded by the map's levels. */
static const char *tree_walk(struct scan *scan, struct store *store, const struct id *id,
			     unsigned level, const char *who)
{
	struct scan_place *place;
	if (id_is_null(id))
		return NULL;
	bool first = place_of(scan, id)->live_turn != scan->turn;
	const char *failed = name_look(scan, store, id, who, true, &place);
	if (failed || !first)
		return failed;
	if (level == MAP_LEVELS) {
		scan->chunks++;
		return NULL;
	}
	scan->nodes_live++;
	struct scan_node *node = node_read(scan, place);
	if (!node)
		FAIL("a map node of %s is damaged", who);
	/* What is known of it may move while its children are read. */
	struct id *children = node->children;
	uint32_t count = node->child_count;
	for (uint32_t i = 0; i < count && !failed; i++)
		failed = tree_walk(scan, store, &children[i], level + 1, who);
	return failed;
}

static const char *layers_look(struct scan *scan, struct store *store, const struct volume *volume)
{
	struct scan_place *place;
	const char *failed = NULL;
	for (uint32_t k = 0; k < volume->layer_count; k++) {
		const struct layer *layer = volume->layers[k];
		for (uint32_t b = 0; b < layer->bucket_count && !failed; b++)
			for (const struct dirty_chunk *dirty = layer->buckets[b]; dirty && !failed;
			     dirty = dirty->next)
				if (dirty->base == BASE_ID && !id_is_null(&dirty->id))
					failed = name_look(scan, store, &dirty->id, "a layer",
							   false, &place);
	}
	return failed;
}

const char *scan_run(struct scan *scan, struct store *store)
{
	const char *failed = segments_read(scan, store);
	if (failed)
		return failed;
	places_make(scan);
	scan->chunks = scan->nodes_live = 0;
	for (uint32_t i = 0; i < store->volume_count && !failed; i++) {
		const struct volume *volume = store->volumes[i];
		failed = tree_walk(scan, store, &volume->top, 0, volume->name);
		if (!failed)
			failed = layers_look(scan, store, volume);
	}
	for (uint32_t i = 0; i < store->snapshot_count && !failed; i++)
		if (store->snapshots[i]->sealed)
			failed = tree_walk(scan, store, &store->snapshots[i]->top, 0,
					   store->snapshots[i]->name);
	scan->live_records = scan->live_bytes = scan->file_bytes = 0;
	for (size_t s = 0; s < scan->segment_count && !failed; s++) {
		struct scan_segment *segment = &scan->segments[s];
		segment->live_bytes = segment->live_count = 0;
		for (uint32_t r = 0; r < segment->record_count; r++) {
			struct scan_record *record = &segment->records[r];
			record->live = place_of(scan, &record->id)->live_turn == scan->turn;
			segment->live_count += record->live;
			segment->live_bytes += record->live ? record->bytes : 0;
		}
		scan->live_records += segment->live_count;
		if (segment->sealed) {
			scan->file_bytes += segment->file_bytes;
			scan->live_bytes += segment->live_bytes;
		}
	}
	return failed;
}

/* ---- what the store claims ---- */

/* What the index keeps of an id: those that share it share their count. */
static uint64_t index_key(const struct id *id)
{
	return (uint64_t)index_shard_of(id) << 20 | id_word(id, 1) >> 44;
}

static int key_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Chunks that a tree has: what a volume maps. */
static uint64_t mapped_chunks(const struct scan *scan, const struct id *id, unsigned level)
{
	uint64_t count = 0;
	if (id_is_null(id) || level == MAP_LEVELS)
		return !id_is_null(id);
	const struct scan_node *node = node_place(scan, id);
	for (uint32_t i = 0; i < node->child_count; i++)
		count += mapped_chunks(scan, &node->children[i], level + 1);
	return count;
}

/* What the census counted of each segment: records, and those that are named. */
static const char *counts_compare(const struct scan *scan, struct store *store,
				  uint64_t *ret_live_records)
{
	uint64_t *keys = calloc(scan->live_records + 1, sizeof *keys), count = 0;
	const char *failed = NULL;
	for (size_t s = 0; s < scan->segment_count; s++)
		for (uint32_t r = 0; r < scan->segments[s].record_count; r++)
			if (scan->segments[s].records[r].live)
				keys[count++] = index_key(&scan->segments[s].records[r].id);
	qsort(keys, count, sizeof *keys, key_order);
	*ret_live_records = 0;
	for (size_t s = 0; s < scan->segment_count && !failed; s++) {
		const struct scan_segment *segment = &scan->segments[s];
		uint32_t entries, live, want = 0;
		for (uint32_t r = 0; r < segment->record_count; r++) {
			uint64_t key = index_key(&segment->records[r].id);
			want += bsearch(&key, keys, count, sizeof key, key_order) != NULL;
		}
		*ret_live_records += want;
		index_slot_counts(store->index, segment->slot, &entries, &live);
		if (entries != segment->record_count || live != want) {
			snprintf(failure, sizeof failure,
				 "segment %llx has %u records, %u of them named; the census says "
				 "%u and %u",
				 (unsigned long long)segment->id, segment->record_count, want,
				 entries, live);
			failed = failure;
		}
	}
	free(keys);
	return failed;
}

#define CLAIM(what, claimed, is)                                                                   \
	do {                                                                                       \
		uint64_t claimed_ = (claimed), is_ = (is);                                         \
		if (claimed_ != is_)                                                               \
			FAIL("%s: claimed %llu, by the scan %llu", what,                           \
			     (unsigned long long)claimed_, (unsigned long long)is_);               \
	} while (0)

const char *scan_compare(const struct scan *scan, struct store *store, bool counted)
{
	struct store_info info;
	uint64_t files = 0, logical = 0, live_records;
	store_info(store, &info);
	for (size_t s = 0; s < scan->segment_count; s++)
		files += scan->segments[s].sealed ? scan->segments[s].file_bytes
						  : scan->segments[s].open_bytes;
	CLAIM("the segments' bytes", info.segment_bytes, files);
	CLAIM("live, garbage, prepared and reserve",
	      info.live_bytes + info.garbage_bytes + info.prepared_bytes + info.reserve_bytes,
	      files);
	for (uint32_t i = 0; i < store->volume_count; i++)
		logical += mapped_chunks(scan, &store->volumes[i]->top, 0);
	CLAIM("logical bytes", info.logical_bytes, logical * CHUNK_BYTES);
	if (!counted)
		return NULL;
	CLAIM("records", info.chunk_count, scan->records);
	const char *failed = counts_compare(scan, store, &live_records);
	if (failed)
		return failed;
	CLAIM("unique bytes", info.unique_bytes, (live_records - scan->nodes_live) * CHUNK_BYTES);
	return NULL;
}

static bool tree_names(const struct scan *scan, const struct id *at, const struct id *id,
		       unsigned level)
{
	if (id_is_null(at) || id_equal(at, id))
		return !id_is_null(at);
	if (level == MAP_LEVELS)
		return false;
	const struct scan_node *node = node_place(scan, at);
	for (uint32_t i = 0; i < node->child_count; i++)
		if (tree_names(scan, &node->children[i], id, level + 1))
			return true;
	return false;
}

bool scan_names(const struct scan *scan, const struct id *top, const struct id *id)
{
	return tree_names(scan, top, id, 0);
}
