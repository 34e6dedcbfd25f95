/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded blocks of chunks, 4 KiB each, found by {id, block number}. Bounded by the memory it is
 * given, no allocation later. A scan, however long, does not empty it: what is read once passes
 * through a tenth of it (S3-FIFO: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for
 * cache eviction", SOSP 2023).
 */
#ifndef STORAGE_STORE_CACHE_H
#define STORAGE_STORE_CACHE_H

#include "storage/store/id.h"

struct cache;

/* area: slot_count * 4 KiB, the caller's for the cache's life. NULL: no memory for the tables. */
struct cache *cache_new(void *area, uint32_t slot_count);
void cache_free(struct cache *cache);
/* So many of the slots are for blocks that were not asked for again yet. */
uint32_t cache_passing_slots(const struct cache *cache);
/* What the tables of so many slots take, beside the area. */
uint64_t cache_table_bytes(uint32_t slot_count);
/* The block's 4 KiB, valid until the next cache_put; NULL: not there. */
const void *cache_get(struct cache *cache, const struct id *id, unsigned block);
/* Is it there? Counts as no use of it. */
bool cache_has(struct cache *cache, const struct id *id, unsigned block);
void cache_put(struct cache *cache, const struct id *id, unsigned block, const void *data);
/* Forgets a chunk's blocks (its record was found bad). */
void cache_drop(struct cache *cache, const struct id *id);

#endif
