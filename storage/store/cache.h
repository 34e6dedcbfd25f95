/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded blocks of chunks, 4 KiB each, found by {id, block number}. Bounded by the memory it is
 * given, no allocation later. A block that was asked for once leaves before one that was asked for
 * twice (CLOCK with a reference bit that a first insertion does not set), so a scan that is shorter
 * than the cache does not empty it. A longer one does: a probationary queue is still to come.
 */
#ifndef STORAGE_STORE_CACHE_H
#define STORAGE_STORE_CACHE_H

#include "storage/store/id.h"

struct cache;

/* area: slot_count * 4 KiB, the caller's for the cache's life. NULL: no memory for the tables. */
struct cache *cache_new(void *area, uint32_t slot_count);
void cache_free(struct cache *cache);
/* The block's 4 KiB, valid until the next cache_put; NULL: not there. */
const void *cache_get(struct cache *cache, const struct id *id, unsigned block);
void cache_put(struct cache *cache, const struct id *id, unsigned block, const void *data);
/* Forgets a chunk's blocks (its record was found bad). */
void cache_drop(struct cache *cache, const struct id *id);

#endif
