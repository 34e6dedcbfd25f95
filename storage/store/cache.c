/* SPDX-License-Identifier: Apache-2.0 */
/*
 * S3-FIFO over slots with a chained hash table.
 *
 * A new block enters the small queue. When it leaves that, it moves to the main queue if it was
 * asked for twice or more, else it goes and only a ghost of its key stays; a block that comes back
 * while its ghost is there enters the main queue at once. The main queue gives a block another
 * round for each time that it was asked for (at most three).
 *
 * Keeps true: every slot is free or in one queue; the small queue gives first when it has its share
 * or more, so what passes once never pushes out what is in the main queue. A slot's key is 16 bytes
 * of the id (chance of a meeting: 2^-128 a pair) with the block number mixed in.
 */
#include "storage/store/cache.h"

#include <stdlib.h>

#define NONE UINT32_MAX
#define SMALL_SHARE 10u /* of the slots: one in so many */
#define USES_MAX 3u
#define USES_MAIN 2u /* to move to the main queue */
#define GHOST_WAYS 4u

struct slot {
	uint64_t key[2];
	uint32_t next;	/* in its chain */
	uint32_t newer; /* in its queue, or free */
	uint8_t uses;
	bool used; /* false in a queue: dropped, taken when its turn comes */
};

struct queue {
	uint32_t oldest, newest, count;
};

struct ghost {
	uint32_t mark, time;
};

struct cache {
	uint8_t *area;
	struct slot *slots;
	uint32_t *heads;
	struct ghost *ghosts;
	uint32_t slot_count, mask, ghost_mask, ghost_time;
	uint32_t small_share;
	struct queue free, small, main;
};

/* ---- queues ---- */

static void queue_add(struct cache *cache, struct queue *queue, uint32_t at)
{
	cache->slots[at].newer = NONE;
	if (queue->count++)
		cache->slots[queue->newest].newer = at;
	else
		queue->oldest = at;
	queue->newest = at;
}

static uint32_t queue_take(struct cache *cache, struct queue *queue)
{
	uint32_t at = queue->oldest;
	queue->oldest = cache->slots[at].newer;
	queue->count--;
	return at;
}

/* ---- life ---- */

static uint32_t power_of_two(uint32_t least)
{
	uint32_t power = 1;
	while (power < least)
		power *= 2;
	return power;
}

uint64_t cache_table_bytes(uint32_t slot_count)
{
	return sizeof(struct cache) + slot_count * (uint64_t)sizeof(struct slot) +
	       power_of_two(slot_count) * (sizeof(uint32_t) + sizeof(struct ghost)) +
	       GHOST_WAYS * sizeof(struct ghost);
}

struct cache *cache_new(void *area, uint32_t slot_count)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	uint32_t heads = power_of_two(slot_count);
	uint32_t ghosts = heads < GHOST_WAYS ? GHOST_WAYS : heads;
	if (!cache)
		return NULL;
	cache->area = area;
	cache->slot_count = slot_count;
	cache->small_share = slot_count / SMALL_SHARE ? slot_count / SMALL_SHARE : 1;
	cache->mask = heads - 1;
	cache->ghost_mask = ghosts / GHOST_WAYS - 1;
	cache->ghost_time = slot_count + 1; /* so that an empty ghost is too old */
	cache->slots = calloc(slot_count, sizeof(struct slot));
	cache->heads = malloc(heads * sizeof(uint32_t));
	cache->ghosts = calloc(ghosts, sizeof(struct ghost));
	if (!cache->slots || !cache->heads || !cache->ghosts) {
		cache_free(cache);
		return NULL;
	}
	memset(cache->heads, 0xff, heads * sizeof(uint32_t));
	for (uint32_t at = 0; at < slot_count; at++)
		queue_add(cache, &cache->free, at);
	return cache;
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	free(cache->slots);
	free(cache->heads);
	free(cache->ghosts);
	free(cache);
}

uint32_t cache_passing_slots(const struct cache *cache)
{
	return cache->slot_count ? cache->small_share : 0;
}

/* ---- the table ---- */

static uint32_t *cache_chain(struct cache *cache, const uint64_t key[2])
{
	return &cache->heads[key[0] & cache->mask];
}

static uint32_t cache_find(struct cache *cache, const uint64_t key[2])
{
	uint32_t at = *cache_chain(cache, key);
	while (at != NONE &&
	       (cache->slots[at].key[0] != key[0] || cache->slots[at].key[1] != key[1]))
		at = cache->slots[at].next;
	return at;
}

static void key_of(const struct id *id, unsigned block, uint64_t ret_key[2])
{
	ret_key[0] = id_word(id, 2) ^ (block * 0x9e3779b97f4a7c15u);
	ret_key[1] = id_word(id, 3);
}

const void *cache_get(struct cache *cache, const struct id *id, unsigned block)
{
	uint64_t key[2];
	key_of(id, block, key);
	uint32_t at = cache_find(cache, key);
	if (at == NONE)
		return NULL;
	struct slot *slot = &cache->slots[at];
	slot->uses += slot->uses < USES_MAX;
	return cache->area + (size_t)at * BLOCK_BYTES;
}

bool cache_has(struct cache *cache, const struct id *id, unsigned block)
{
	uint64_t key[2];
	key_of(id, block, key);
	return cache_find(cache, key) != NONE;
}

static void cache_unlink(struct cache *cache, uint32_t at)
{
	uint32_t *link = cache_chain(cache, cache->slots[at].key);
	while (*link != at)
		link = &cache->slots[*link].next;
	*link = cache->slots[at].next;
	cache->slots[at].used = false;
}

/* ---- ghosts: keys of what left the small queue, for as many departures as there are slots ---- */

static struct ghost *ghost_set(const struct cache *cache, const uint64_t key[2])
{
	return &cache->ghosts[(size_t)(key[1] & cache->ghost_mask) * GHOST_WAYS];
}

static uint32_t ghost_mark(const uint64_t key[2])
{
	return (uint32_t)((key[0] ^ key[1]) >> 32);
}

static void ghost_add(struct cache *cache, const uint64_t key[2])
{
	struct ghost *set = ghost_set(cache, key), *oldest = set;
	for (unsigned way = 1; way < GHOST_WAYS; way++)
		if (cache->ghost_time - set[way].time > cache->ghost_time - oldest->time)
			oldest = &set[way];
	*oldest = (struct ghost){.mark = ghost_mark(key), .time = cache->ghost_time++};
}

static bool ghost_take(struct cache *cache, const uint64_t key[2])
{
	struct ghost *set = ghost_set(cache, key);
	for (unsigned way = 0; way < GHOST_WAYS; way++)
		if (set[way].mark == ghost_mark(key) &&
		    cache->ghost_time - set[way].time <= cache->slot_count) {
			set[way].time = cache->ghost_time - cache->slot_count - 1;
			return true;
		}
	return false;
}

/* ---- eviction ---- */

/* The oldest of the small queue: its slot if it goes, NONE if it moved to the main queue. */
static uint32_t small_evict(struct cache *cache)
{
	uint32_t at = queue_take(cache, &cache->small);
	struct slot *slot = &cache->slots[at];
	if (slot->used && slot->uses >= USES_MAIN) {
		slot->uses = 0;
		queue_add(cache, &cache->main, at);
		return NONE;
	}
	if (slot->used) {
		ghost_add(cache, slot->key);
		cache_unlink(cache, at);
	}
	return at;
}

static uint32_t main_evict(struct cache *cache)
{
	uint32_t at = queue_take(cache, &cache->main);
	struct slot *slot = &cache->slots[at];
	if (slot->used && slot->uses > 0) {
		slot->uses--;
		queue_add(cache, &cache->main, at);
		return NONE;
	}
	if (slot->used)
		cache_unlink(cache, at);
	return at;
}

/* Ends: each step moves a slot to the main queue, takes a use from one, or finds the victim. */
static uint32_t cache_victim(struct cache *cache)
{
	uint32_t at = NONE;
	if (cache->free.count)
		return queue_take(cache, &cache->free);
	while (at == NONE)
		at = cache->small.count >= cache->small_share || !cache->main.count
			     ? small_evict(cache)
			     : main_evict(cache);
	return at;
}

void cache_put(struct cache *cache, const struct id *id, unsigned block, const void *data)
{
	uint64_t key[2];
	if (!cache->slot_count)
		return;
	key_of(id, block, key);
	uint32_t at = cache_find(cache, key);
	if (at == NONE) {
		bool came_back = ghost_take(cache, key);
		at = cache_victim(cache);
		struct slot *slot = &cache->slots[at];
		uint32_t *head = cache_chain(cache, key);
		*slot = (struct slot){.key = {key[0], key[1]}, .next = *head, .used = true};
		*head = at;
		queue_add(cache, came_back ? &cache->main : &cache->small, at);
	}
	memcpy(cache->area + (size_t)at * BLOCK_BYTES, data, BLOCK_BYTES);
}

void cache_drop(struct cache *cache, const struct id *id)
{
	for (unsigned block = 0; block < CHUNK_BLOCKS; block++) {
		uint64_t key[2];
		key_of(id, block, key);
		uint32_t at = cache_find(cache, key);
		if (at != NONE)
			cache_unlink(cache, at);
	}
}
