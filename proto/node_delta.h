/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A map node as what differs from another one: a bitmap of 256 bits, a byte's lowest first, then
 * the ids of the slots whose bits are set, in their order.
 *
 * Keeps true: what is applied is exactly as long as its bitmap says; nothing is said about what the
 * ids are, who applies one computes the node's own id.
 */
#ifndef PROTO_NODE_DELTA_H
#define PROTO_NODE_DELTA_H

#include "proto/units.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODE_DELTA_SLOTS 256u
#define NODE_DELTA_MAP_BYTES (NODE_DELTA_SLOTS / 8)
#define NODE_DELTA_BYTES_MAX (NODE_DELTA_MAP_BYTES + NODE_DELTA_SLOTS * ID_BYTES)

/* Both nodes are 256 ids; returns the bytes written to `out`, at most NODE_DELTA_BYTES_MAX. */
uint32_t node_delta_encode(const void *node, const void *base, void *out);
/* Foreign bytes: is it a delta, whole? */
bool node_delta_good(const void *delta, size_t bytes);
/* A good one: the base becomes the node, in place. */
void node_delta_apply(const void *delta, void *node);

#endif
