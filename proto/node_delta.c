/* SPDX-License-Identifier: Apache-2.0 */
/* A map node as what differs from another one (node_delta.h). */
#include "proto/node_delta.h"

#include <string.h>

uint32_t node_delta_encode(const void *node, const void *base, void *out)
{
	const uint8_t *at = node, *old = base;
	uint8_t *map = out, *ids = map + NODE_DELTA_MAP_BYTES;
	memset(map, 0, NODE_DELTA_MAP_BYTES);
	for (unsigned i = 0; i < NODE_DELTA_SLOTS; i++, at += ID_BYTES, old += ID_BYTES) {
		if (memcmp(at, old, ID_BYTES) == 0)
			continue;
		map[i / 8] |= (uint8_t)(1u << i % 8);
		memcpy(ids, at, ID_BYTES);
		ids += ID_BYTES;
	}
	return (uint32_t)(ids - map);
}

bool node_delta_good(const void *delta, size_t bytes)
{
	const uint8_t *map = delta;
	unsigned set = 0;
	if (bytes < NODE_DELTA_MAP_BYTES)
		return false;
	for (unsigned i = 0; i < NODE_DELTA_MAP_BYTES; i++)
		set += (unsigned)__builtin_popcount(map[i]);
	return bytes == NODE_DELTA_MAP_BYTES + (size_t)set * ID_BYTES;
}

void node_delta_apply(const void *delta, void *node)
{
	const uint8_t *map = delta, *ids = map + NODE_DELTA_MAP_BYTES;
	uint8_t *at = node;
	for (unsigned i = 0; i < NODE_DELTA_SLOTS; i++, at += ID_BYTES) {
		if (!(map[i / 8] & 1u << i % 8))
			continue;
		memcpy(at, ids, ID_BYTES);
		ids += ID_BYTES;
	}
}
