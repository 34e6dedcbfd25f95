/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chained hash table of entries by chunk number, and a sorted list of zero ranges below them.
 * Keeps true: an entry inside a zero range never has base INHERIT; log_blocks counts the set blocks
 * that lie in the log.
 */
#include "storage/store/layer.h"

#include "proto/err.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUCKETS_START 64u
#define RANGE_CHUNKS_MIN 64u /* smaller runs of zero chunks are entries */

struct layer_pool *layer_pool_new(uint32_t entry_count)
{
	struct layer_pool *pool = calloc(1, sizeof(*pool));
	if (!pool)
		return NULL;
	pool->entries = malloc(entry_count * sizeof(struct dirty_chunk)); /* touched only as used */
	pool->entry_count = pool->free_count = entry_count;
	if (!pool->entries) {
		free(pool);
		return NULL;
	}
	return pool;
}

uint64_t layer_pool_memory_bytes(const struct layer_pool *pool)
{
	uint64_t encoded = 16 + ID_BYTES + 8 * CHUNK_BLOCKS;
	uint64_t tables = 3 * sizeof(struct dirty_chunk *); /* old and new while one grows */
	return pool->entry_count * (sizeof(struct dirty_chunk) + tables + encoded);
}

void layer_pool_free(struct layer_pool *pool)
{
	if (!pool)
		return;
	free(pool->entries);
	free(pool);
}

static struct dirty_chunk *pool_take(struct layer_pool *pool)
{
	struct dirty_chunk *entry = pool->free;
	assert(pool->free_count > 0);
	pool->free_count--;
	if (entry)
		pool->free = entry->next;
	else
		entry = &pool->entries[pool->never_used++];
	return entry;
}

static void pool_give(struct layer_pool *pool, struct dirty_chunk *entry)
{
	entry->next = pool->free;
	pool->free = entry;
	pool->free_count++;
}

struct layer *layer_new(struct layer_pool *pool, uint64_t number, uint64_t start_pos)
{
	struct layer *layer = calloc(1, sizeof(*layer));
	if (!layer)
		return NULL;
	layer->pool = pool;
	layer->number = number;
	layer->start_pos = start_pos;
	layer->bucket_count = BUCKETS_START;
	layer->buckets = calloc(BUCKETS_START, sizeof(struct dirty_chunk *));
	if (!layer->buckets) {
		free(layer);
		return NULL;
	}
	return layer;
}

void layer_free(struct layer *layer)
{
	if (!layer)
		return;
	layer->pool->log_blocks -= layer->log_blocks;
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (struct dirty_chunk *entry = layer->buckets[b]; entry;) {
			struct dirty_chunk *next = entry->next;
			pool_give(layer->pool, entry);
			entry = next;
		}
	free(layer->buckets);
	free(layer->ranges);
	free(layer);
}

static struct dirty_chunk **layer_chain(const struct layer *layer, uint64_t chunk_no)
{
	uint64_t hash = chunk_no * 0x9e3779b97f4a7c15u;
	return &layer->buckets[(hash >> 32) & (layer->bucket_count - 1)];
}

static struct dirty_chunk *layer_entry(const struct layer *layer, uint64_t chunk_no)
{
	struct dirty_chunk *entry = *layer_chain(layer, chunk_no);
	while (entry && entry->chunk_no != chunk_no)
		entry = entry->next;
	return entry;
}

/* The first range that ends after chunk_no. */
static uint32_t range_after(const struct layer *layer, uint64_t chunk_no)
{
	uint32_t low = 0, high = layer->range_count;
	while (low < high) {
		uint32_t middle = (low + high) / 2;
		const struct zero_range *range = &layer->ranges[middle];
		if (range->chunk_no + range->chunk_count > chunk_no)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static bool range_holds(const struct layer *layer, uint64_t chunk_no)
{
	uint32_t at = range_after(layer, chunk_no);
	return at < layer->range_count && layer->ranges[at].chunk_no <= chunk_no;
}

/* Twice the buckets; without memory the chains just get longer. */
static void layer_rehash(struct layer *layer)
{
	uint32_t count = layer->bucket_count;
	struct dirty_chunk **old = layer->buckets;
	struct dirty_chunk **buckets = calloc((size_t)count * 2, sizeof(*buckets));
	if (!buckets)
		return;
	layer->buckets = buckets;
	layer->bucket_count = count * 2;
	for (uint32_t b = 0; b < count; b++)
		for (struct dirty_chunk *entry = old[b]; entry;) {
			struct dirty_chunk *next = entry->next;
			struct dirty_chunk **chain = layer_chain(layer, entry->chunk_no);
			entry->next = *chain;
			*chain = entry;
			entry = next;
		}
	free(old);
}

/* The chunk's entry, made when it is not there. The pool has room (layer_room). */
static struct dirty_chunk *layer_entry_make(struct layer *layer, uint64_t chunk_no)
{
	struct dirty_chunk *entry = layer_entry(layer, chunk_no);
	if (entry)
		return entry;
	if (layer->entry_count >= layer->bucket_count)
		layer_rehash(layer);
	entry = pool_take(layer->pool);
	struct dirty_chunk **chain = layer_chain(layer, chunk_no);
	*entry = (struct dirty_chunk){.chunk_no = chunk_no,
				      .next = *chain,
				      .base = range_holds(layer, chunk_no) ? BASE_ZERO
									   : BASE_INHERIT};
	*chain = entry;
	layer->entry_count++;
	return entry;
}

static void entry_release_blocks(struct layer *layer, const struct dirty_chunk *entry,
				 uint16_t mask)
{
	for (unsigned block = 0; block < CHUNK_BLOCKS; block++)
		if ((entry->mask & mask & (1u << block)) &&
		    entry->log_block[block] != LOG_BLOCK_ZERO) {
			layer->log_blocks--;
			layer->pool->log_blocks--;
		}
}

static void layer_entry_drop(struct layer *layer, struct dirty_chunk *entry)
{
	struct dirty_chunk **link = layer_chain(layer, entry->chunk_no);
	while (*link != entry)
		link = &(*link)->next;
	*link = entry->next;
	entry_release_blocks(layer, entry, UINT16_MAX);
	pool_give(layer->pool, entry);
	layer->entry_count--;
}

bool layer_room(const struct layer *layer, uint64_t block_count)
{
	uint64_t chunks = min_u64(block_count / CHUNK_BLOCKS, RANGE_CHUNKS_MIN) + 2;
	if (block_count < RANGE_CHUNKS_MIN * CHUNK_BLOCKS)
		chunks = block_count / CHUNK_BLOCKS + 2;
	return chunks <= layer->pool->free_count && layer->range_count + 2 <= LAYER_RANGES_MAX;
}

bool layer_room_write(const struct layer *layer, uint64_t block_count)
{
	return block_count / CHUNK_BLOCKS + 2 <= layer->pool->free_count;
}

/* Sets blocks of one chunk: to consecutive log blocks with their checks, or all to zero. */
static void chunk_set(struct layer *layer, uint64_t block_no, unsigned count, uint32_t log_block,
		      const uint32_t *crc)
{
	struct dirty_chunk *entry = layer_entry_make(layer, block_no / CHUNK_BLOCKS);
	unsigned first = block_no % CHUNK_BLOCKS;
	uint16_t mask = (uint16_t)(((1u << count) - 1) << first);
	entry_release_blocks(layer, entry, mask);
	for (unsigned i = 0; i < count; i++) {
		entry->log_block[first + i] = crc ? log_block + i : LOG_BLOCK_ZERO;
		entry->log_crc[first + i] = crc ? crc[i] : 0;
	}
	entry->mask |= mask;
	if (crc) {
		layer->log_blocks += count;
		layer->pool->log_blocks += count;
	}
}

int layer_write(struct layer *layer, uint64_t block_no, uint32_t block_count, uint32_t log_block,
		const uint32_t *crc)
{
	if (!layer_room_write(layer, block_count))
		return -ENOSPC;
	while (block_count) {
		unsigned count =
			(unsigned)min_u64(CHUNK_BLOCKS - block_no % CHUNK_BLOCKS, block_count);
		chunk_set(layer, block_no, count, log_block, crc);
		crc += count;
		block_no += count;
		block_count -= count;
		log_block += count;
	}
	return 0;
}

/* Makes room for one more range. */
static int range_reserve(struct layer *layer)
{
	if (layer->range_count < layer->range_room)
		return 0;
	uint32_t room = layer->range_room ? layer->range_room * 2 : 16;
	struct zero_range *more = reallocarray(layer->ranges, room, sizeof(*more));
	if (!more)
		return -ENOMEM;
	layer->ranges = more;
	layer->range_room = room;
	return 0;
}

/* Adds a range, merged with those that it meets. Its room is reserved. */
static void range_add(struct layer *layer, uint64_t chunk_no, uint64_t chunk_count)
{
	assert(layer->range_count < layer->range_room);
	uint64_t end = chunk_no + chunk_count;
	uint32_t from = range_after(layer, chunk_no ? chunk_no - 1 : 0); /* touching counts */
	uint32_t to = from;
	while (to < layer->range_count && layer->ranges[to].chunk_no <= end) {
		const struct zero_range *range = &layer->ranges[to++];
		end = max_u64(end, range->chunk_no + range->chunk_count);
		chunk_no = min_u64(chunk_no, range->chunk_no);
	}
	memmove(&layer->ranges[from + 1], &layer->ranges[to],
		(layer->range_count - to) * sizeof(struct zero_range));
	layer->range_count -= to - from;
	layer->range_count++;
	layer->ranges[from] = (struct zero_range){chunk_no, end - chunk_no};
}

/* Drops the entries of a range of chunks, by whichever way is shorter. */
static void entries_drop(struct layer *layer, uint64_t chunk_no, uint64_t chunk_count)
{
	if (chunk_count <= layer->bucket_count) {
		for (uint64_t c = chunk_no; c < chunk_no + chunk_count; c++) {
			struct dirty_chunk *entry = layer_entry(layer, c);
			if (entry)
				layer_entry_drop(layer, entry);
		}
		return;
	}
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (struct dirty_chunk *entry = layer->buckets[b]; entry;) {
			struct dirty_chunk *next = entry->next;
			if (entry->chunk_no - chunk_no < chunk_count)
				layer_entry_drop(layer, entry);
			entry = next;
		}
}

int layer_zero(struct layer *layer, uint64_t block_no, uint64_t block_count)
{
	if (!layer_room(layer, block_count))
		return -ENOSPC;
	int res = range_reserve(layer);
	if (res < 0)
		return res;
	if (block_no % CHUNK_BLOCKS) {
		unsigned count =
			(unsigned)min_u64(CHUNK_BLOCKS - block_no % CHUNK_BLOCKS, block_count);
		chunk_set(layer, block_no, count, LOG_BLOCK_ZERO, NULL);
		block_no += count;
		block_count -= count;
	}
	uint64_t chunk_no = block_no / CHUNK_BLOCKS, chunks = block_count / CHUNK_BLOCKS;
	if (chunks >= RANGE_CHUNKS_MIN) {
		range_add(layer, chunk_no, chunks);
		entries_drop(layer, chunk_no, chunks);
	} else {
		static const struct id null_id;
		for (uint64_t c = chunk_no; c < chunk_no + chunks; c++)
			layer_set_id(layer, c, &null_id);
	}
	block_no += chunks * CHUNK_BLOCKS;
	block_count -= chunks * CHUNK_BLOCKS;
	if (block_count)
		chunk_set(layer, block_no, (unsigned)block_count, LOG_BLOCK_ZERO, NULL);
	return 0;
}

int layer_set_id(struct layer *layer, uint64_t chunk_no, const struct id *id)
{
	if (!layer->pool->free_count)
		return -ENOSPC;
	struct dirty_chunk *entry = layer_entry_make(layer, chunk_no);
	entry_release_blocks(layer, entry, UINT16_MAX);
	entry->mask = 0;
	entry->base = id_is_null(id) ? BASE_ZERO : BASE_ID;
	entry->id = *id;
	return 0;
}

const struct dirty_chunk *layer_find(const struct layer *layer, uint64_t chunk_no,
				     struct dirty_chunk *room)
{
	if (layer->entry_count == 0 && layer->range_count == 0)
		return NULL; /* of most volumes, at most times */
	const struct dirty_chunk *entry = layer_entry(layer, chunk_no);
	if (entry || !range_holds(layer, chunk_no))
		return entry;
	*room = (struct dirty_chunk){.chunk_no = chunk_no, .base = BASE_ZERO};
	return room;
}

static int entry_compare(const void *a, const void *b)
{
	uint64_t left = (*(const struct dirty_chunk *const *)a)->chunk_no;
	uint64_t right = (*(const struct dirty_chunk *const *)b)->chunk_no;
	return left < right ? -1 : left > right;
}

void layer_sorted(const struct layer *layer, const struct dirty_chunk **out)
{
	uint32_t count = 0;
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (const struct dirty_chunk *entry = layer->buckets[b]; entry;
		     entry = entry->next)
			out[count++] = entry;
	assert(count == layer->entry_count);
	if (count)
		qsort(out, count, sizeof(*out), entry_compare);
}

/* ---- the checkpoint's form: header, ranges, entries; an entry has a log block and its check for
 * each set bit ---- */

#define LAYER_HEADER_BYTES 32u
#define ENTRY_FIXED_BYTES 16u

static size_t entry_encoded_bytes(const struct dirty_chunk *entry)
{
	return ENTRY_FIXED_BYTES + (entry->base == BASE_ID ? ID_BYTES : 0) +
	       8 * (size_t)__builtin_popcount(entry->mask);
}

size_t layer_encoded_bytes(const struct layer *layer)
{
	size_t bytes = LAYER_HEADER_BYTES + layer->range_count * sizeof(struct zero_range);
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (const struct dirty_chunk *entry = layer->buckets[b]; entry;
		     entry = entry->next)
			bytes += entry_encoded_bytes(entry);
	return bytes;
}

static void entry_encode(const struct dirty_chunk *entry, struct cursor *c)
{
	put_u64(c, entry->chunk_no);
	put_u16(c, entry->mask);
	put_u8(c, entry->base);
	put_zeros(c, 5);
	if (entry->base == BASE_ID)
		put_bytes(c, entry->id.bytes, ID_BYTES);
	for (unsigned block = 0; block < CHUNK_BLOCKS; block++)
		if (entry->mask & (1u << block)) {
			put_u32(c, entry->log_block[block]);
			put_u32(c, entry->log_crc[block]);
		}
}

void layer_encode(const struct layer *layer, struct cursor *c)
{
	put_u64(c, layer->number);
	put_u64(c, layer->start_pos);
	put_u32(c, layer->range_count);
	put_u32(c, layer->entry_count);
	put_u64(c, layer->frozen);
	for (uint32_t i = 0; i < layer->range_count; i++) {
		put_u64(c, layer->ranges[i].chunk_no);
		put_u64(c, layer->ranges[i].chunk_count);
	}
	for (uint32_t b = 0; b < layer->bucket_count; b++)
		for (const struct dirty_chunk *entry = layer->buckets[b]; entry;
		     entry = entry->next)
			entry_encode(entry, c);
	assert(!c->failed);
}

static int entry_decode(struct layer *layer, struct cursor *c, uint64_t ring_blocks)
{
	uint64_t chunk_no = get_u64(c);
	uint16_t mask = get_u16(c);
	uint8_t base = get_u8(c);
	static const uint8_t zeros[5];
	const void *reserved = cursor_take(c, sizeof zeros);
	if (!reserved || memcmp(reserved, zeros, sizeof zeros) || base > BASE_ID ||
	    chunk_no >= VOLUME_BYTES_MAX / CHUNK_BYTES || layer_entry(layer, chunk_no) ||
	    (base == BASE_INHERIT && range_holds(layer, chunk_no)))
		return -VS_EFORMAT;
	if (!layer->pool->free_count)
		return -ENOSPC;
	struct dirty_chunk *entry = layer_entry_make(layer, chunk_no);
	entry->base = base;
	if (base == BASE_ID)
		get_bytes(c, entry->id.bytes, ID_BYTES);
	if (base == BASE_ID && id_is_null(&entry->id))
		return -VS_EFORMAT;
	for (unsigned block = 0; block < CHUNK_BLOCKS; block++) {
		if (!(mask & (1u << block)))
			continue;
		uint32_t log_block = get_u32(c), crc = get_u32(c);
		if (c->failed || (log_block != LOG_BLOCK_ZERO && log_block >= ring_blocks))
			return -VS_EFORMAT;
		entry->log_block[block] = log_block;
		entry->log_crc[block] = crc;
		entry->mask |= (uint16_t)(1u << block);
		layer->log_blocks += log_block != LOG_BLOCK_ZERO;
		layer->pool->log_blocks += log_block != LOG_BLOCK_ZERO;
	}
	return c->failed ? -VS_EFORMAT : 0;
}

int layer_decode(struct layer_pool *pool, struct cursor *c, uint64_t ring_blocks,
		 struct layer **ret_layer)
{
	uint64_t number = get_u64(c), start_pos = get_u64(c);
	uint32_t range_count = get_u32(c), entry_count = get_u32(c);
	uint64_t frozen = get_u64(c);
	if (c->failed || frozen > 1 || range_count > LAYER_RANGES_MAX)
		return -VS_EFORMAT;
	struct layer *layer = layer_new(pool, number, start_pos);
	if (!layer)
		return -ENOMEM;
	layer->frozen = frozen;
	int res = 0;
	uint64_t end = 0;
	for (uint32_t i = 0; i < range_count && res == 0; i++) {
		uint64_t chunk_no = get_u64(c), count = get_u64(c);
		if (c->failed || (i && chunk_no <= end) || count == 0 ||
		    chunk_no + count > VOLUME_BYTES_MAX / CHUNK_BYTES ||
		    chunk_no + count < chunk_no)
			res = -VS_EFORMAT;
		else if ((res = range_reserve(layer)) == 0)
			range_add(layer, chunk_no, count);
		end = chunk_no + count;
	}
	for (uint32_t i = 0; i < entry_count && res == 0; i++)
		res = entry_decode(layer, c, ring_blocks);
	if (res < 0) {
		layer_free(layer);
		return res;
	}
	*ret_layer = layer;
	return 0;
}
