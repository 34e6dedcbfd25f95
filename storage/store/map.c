/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volume maps: trees of four levels of 256 ids, whose nodes are stored like chunks.
 *
 * Keeps true: a node is in the cache only after its record's checksums held, and never changes, as
 * its id names its bytes. A map is read through map_node alone: a node that is not in memory is
 * fetched once, whoever asks meanwhile waits for it and then looks again from the top. What failed
 * to load fails for those who wait; after a moment it is tried again.
 */
#include "storage/store/map.h"

#include "storage/store/fetch.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define FAILED_COUNT 16u
#define FAILED_NS (2 * NSEC_PER_SEC)

struct node {
	struct id id; /* null: the slot is empty */
	uint32_t next;
	bool referenced;
};

struct node_load {
	struct store *store;
	struct id id;
	struct wait_list waiters;
	struct node_load *next;
	uint8_t raw[NODE_BYTES];
};

struct node_cache {
	struct node *nodes;
	uint8_t *area; /* NODE_BYTES a slot */
	uint32_t slot_count, bucket_mask, hand;
	uint32_t *buckets; /* slot + 1; 0: none */
	struct node_load *loads;
	struct {
		struct id id;
		int res;
		uint64_t until_ns;
	} failed[FAILED_COUNT];
	unsigned failed_at;
};

int map_init(struct store *store, uint64_t bytes)
{
	struct node_cache *cache = calloc(1, sizeof(*cache));
	if (!cache)
		return -ENOMEM;
	store->nodes = cache;
	cache->slot_count = (uint32_t)max_u64(bytes / NODE_BYTES, 64);
	uint32_t buckets = 64;
	while (buckets < cache->slot_count)
		buckets *= 2;
	cache->bucket_mask = buckets - 1;
	cache->buckets = calloc(buckets, sizeof(uint32_t));
	cache->nodes = calloc(cache->slot_count, sizeof(struct node));
	cache->area = env_memory_lazy(store->env, cache->slot_count * (size_t)NODE_BYTES);
	return cache->buckets && cache->nodes && cache->area ? 0 : -ENOMEM;
}

void map_exit(struct store *store)
{
	struct node_cache *cache = store->nodes;
	if (!cache)
		return;
	while (cache->loads) {
		struct node_load *load = cache->loads;
		cache->loads = load->next;
		free(load);
	}
	if (cache->area)
		env_memory_free(store->env, cache->area, cache->slot_count * (size_t)NODE_BYTES);
	free(cache->buckets);
	free(cache->nodes);
	free(cache);
	store->nodes = NULL;
}

uint64_t map_memory_bytes(const struct store *store)
{
	const struct node_cache *cache = store->nodes;
	return sizeof(*cache) + cache->slot_count * (sizeof(struct node) + (uint64_t)NODE_BYTES) +
	       (cache->bucket_mask + 1ull) * sizeof(uint32_t) +
	       FETCH_COUNT * (uint64_t)sizeof(struct node_load);
}

static uint32_t *bucket_of(struct node_cache *cache, const struct id *id)
{
	return &cache->buckets[id_word(id, 1) & cache->bucket_mask];
}

static struct node *cache_find(struct node_cache *cache, const struct id *id)
{
	for (uint32_t at = *bucket_of(cache, id); at; at = cache->nodes[at - 1].next)
		if (id_equal(&cache->nodes[at - 1].id, id))
			return &cache->nodes[at - 1];
	return NULL;
}

static uint8_t *node_bytes(struct node_cache *cache, const struct node *node)
{
	return cache->area + (size_t)(node - cache->nodes) * NODE_BYTES;
}

void map_node_add(struct store *store, const struct id *id, const void *raw)
{
	struct node_cache *cache = store->nodes;
	if (cache_find(cache, id))
		return;
	struct node *node;
	for (;;) { /* ends: the second round finds no reference set */
		node = &cache->nodes[cache->hand];
		cache->hand = (cache->hand + 1) % cache->slot_count;
		if (!node->referenced)
			break;
		node->referenced = false;
	}
	uint32_t slot = (uint32_t)(node - cache->nodes) + 1;
	if (!id_is_null(&node->id)) {
		uint32_t *at = bucket_of(cache, &node->id);
		while (*at != slot)
			at = &cache->nodes[*at - 1].next;
		*at = node->next;
	}
	uint32_t *bucket = bucket_of(cache, id);
	*node = (struct node){.id = *id, .next = *bucket, .referenced = true};
	*bucket = slot;
	memcpy(node_bytes(cache, node), raw, NODE_BYTES);
}

const void *map_node_cached(struct store *store, const struct id *id)
{
	const struct node *node = cache_find(store->nodes, id);
	return node ? node_bytes(store->nodes, node) : NULL;
}

static void node_fetched(struct fetch *fetch, int res)
{
	struct node_load *load = fetch->owner;
	struct store *store = load->store;
	struct node_cache *cache = store->nodes;
	struct node_load **at = &cache->loads;
	fetch_free(fetch);
	while (*at != load)
		at = &(*at)->next;
	*at = load->next;
	if (res == 0) {
		map_node_add(store, &load->id, load->raw);
	} else {
		unsigned k = cache->failed_at++ % FAILED_COUNT;
		cache->failed[k].id = load->id;
		cache->failed[k].res = res;
		cache->failed[k].until_ns = env_now_ns(store->env) + FAILED_NS;
	}
	wait_wake_all(&load->waiters);
	free(load);
}

const struct id *map_node(struct store *store, const struct id *id, struct wait *wait, int *ret_res)
{
	struct node_cache *cache = store->nodes;
	struct node *node = cache_find(cache, id);
	if (node) {
		node->referenced = true;
		return (const struct id *)node_bytes(cache, node);
	}
	for (unsigned i = 0; i < FAILED_COUNT; i++)
		if (cache->failed[i].res < 0 && id_equal(&cache->failed[i].id, id) &&
		    env_now_ns(store->env) < cache->failed[i].until_ns) {
			*ret_res = cache->failed[i].res;
			return NULL;
		}
	*ret_res = WAITING;
	if (!wait)
		return NULL;
	struct node_load *load = cache->loads;
	while (load && !id_equal(&load->id, id))
		load = load->next;
	if (!load) {
		struct fetch *fetch = fetch_new(store, false, wait);
		if (!fetch)
			return NULL;
		load = malloc(sizeof(*load));
		if (!load) {
			fetch_free(fetch);
			*ret_res = -ENOMEM;
			return NULL;
		}
		load->store = store;
		load->id = *id;
		load->waiters = (struct wait_list){0};
		load->next = cache->loads;
		cache->loads = load;
		fetch->done = node_fetched;
		fetch->owner = load;
		fetch->id = *id;
		fetch->type = RECORD_NODE;
		fetch->raw = load->raw;
		/* It may end at once: the waiter is in the list before. */
		wait_add(&load->waiters, wait);
		fetch_start(fetch);
		return NULL;
	}
	wait_add(&load->waiters, wait);
	return NULL;
}

int map_lookup(struct store *store, const struct id *top, uint64_t chunk_no, struct wait *wait,
	       struct id *ret_id, uint64_t *ret_span)
{
	struct id id = *top;
	for (unsigned level = MAP_LEVELS; level-- > 0;) {
		uint64_t below = UINT64_C(1) << 8 * (level + 1); /* chunks under this node */
		int res = 0;
		if (id_is_null(&id)) {
			if (ret_span)
				*ret_span = below - (chunk_no & (below - 1));
			*ret_id = id;
			return 0;
		}
		const struct id *slots = map_node(store, &id, wait, &res);
		if (!slots)
			return res;
		unsigned slot = (unsigned)(chunk_no >> 8 * level) & (NODE_SLOTS - 1);
		id = slots[slot];
		if (level == 0 && ret_span && id_is_null(&id)) {
			unsigned end = slot;
			while (end < NODE_SLOTS && id_is_null(&slots[end]))
				end++;
			*ret_span = end - slot;
		}
	}
	*ret_id = id;
	return 0;
}
