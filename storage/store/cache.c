/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slots with a chained hash table over their numbers. A slot's key is 16 bytes of the id (chance of
 * a meeting: 2^-128 a pair) with the block number mixed in.
 */
#include "storage/store/cache.h"

#include <stdlib.h>

#define NONE UINT32_MAX

struct slot {
	uint64_t key[2];
	uint32_t next; /* in its chain */
	bool used, referenced;
};

struct cache {
	uint8_t *area;
	struct slot *slots;
	uint32_t *heads;
	uint32_t slot_count, mask, hand;
};

struct cache *cache_new(void *area, uint32_t slot_count)
{
	struct cache *cache = calloc(1, sizeof(*cache));
	uint32_t heads = 1;
	while (heads < slot_count)
		heads *= 2;
	if (!cache)
		return NULL;
	cache->area = area;
	cache->slot_count = slot_count;
	cache->mask = heads - 1;
	cache->slots = calloc(slot_count, sizeof(struct slot));
	cache->heads = malloc(heads * sizeof(uint32_t));
	if (!cache->slots || !cache->heads) {
		cache_free(cache);
		return NULL;
	}
	memset(cache->heads, 0xff, heads * sizeof(uint32_t));
	return cache;
}

void cache_free(struct cache *cache)
{
	if (!cache)
		return;
	free(cache->slots);
	free(cache->heads);
	free(cache);
}

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
	cache->slots[at].referenced = true;
	return cache->area + (size_t)at * BLOCK_BYTES;
}

static void cache_unlink(struct cache *cache, uint32_t at)
{
	uint32_t *link = cache_chain(cache, cache->slots[at].key);
	while (*link != at)
		link = &cache->slots[*link].next;
	*link = cache->slots[at].next;
	cache->slots[at].used = false;
}

/* The hand passes referenced slots once; so it stops within two rounds. */
static uint32_t cache_victim(struct cache *cache)
{
	for (;;) {
		uint32_t at = cache->hand;
		cache->hand = at + 1 == cache->slot_count ? 0 : at + 1;
		struct slot *slot = &cache->slots[at];
		if (slot->used && slot->referenced) {
			slot->referenced = false;
			continue;
		}
		if (slot->used)
			cache_unlink(cache, at);
		return at;
	}
}

void cache_put(struct cache *cache, const struct id *id, unsigned block, const void *data)
{
	uint64_t key[2];
	if (!cache->slot_count)
		return;
	key_of(id, block, key);
	uint32_t at = cache_find(cache, key);
	if (at == NONE) {
		at = cache_victim(cache);
		struct slot *slot = &cache->slots[at];
		uint32_t *head = cache_chain(cache, key);
		*slot = (struct slot){.key = {key[0], key[1]}, .next = *head, .used = true};
		*head = at;
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
