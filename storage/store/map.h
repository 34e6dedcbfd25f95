/* SPDX-License-Identifier: Apache-2.0 */
/* Volume maps (map.c): trees of nodes, which are in memory within a bound. */
#ifndef STORAGE_STORE_MAP_H
#define STORAGE_STORE_MAP_H

#include "storage/store/id.h"
#include "storage/store/wait.h"

#define NODE_SLOTS 256u
#define MAP_LEVELS 4u /* 256^4 chunks of 64 KiB: 256 TiB */

struct store;
struct node_cache;
int map_init(struct store *store, uint64_t bytes);
void map_exit(struct store *store);
uint64_t map_memory_bytes(const struct store *store); /* at most */
/* The 256 ids of a node; NULL: *ret_res is WAITING or negative. Valid until control returns to the
 * loop. Without a wait it only looks: WAITING, and nothing comes of it. */
const struct id *map_node(struct store *store, const struct id *id, struct wait *wait,
			  int *ret_res);
/* NULL: it is not in memory. Does not count as a use. */
const void *map_node_cached(struct store *store, const struct id *id);
void map_node_add(struct store *store, const struct id *id, const void *raw);
/* 0 and *ret_id (null: a hole, and *ret_span, if wanted, is how many chunks from chunk_no on are
 * holes for the same reason). */
int map_lookup(struct store *store, const struct id *top, uint64_t chunk_no, struct wait *wait,
	       struct id *ret_id, uint64_t *ret_span);

#endif
