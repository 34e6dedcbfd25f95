/* SPDX-License-Identifier: Apache-2.0 */
/* Steps of vm create that vm adopt has as well. They work on data.spec alone, and each may be
 * repeated. */
#ifndef AGENT_VM_OP_CREATE_H
#define AGENT_VM_OP_CREATE_H

#include "agent/vm/op.h"

/* NICs can be had, no volume is in the way, and the name is taken: the row says "creating". */
int create_reserve(struct op *op);
int create_reserve_undo(struct op *op);
/* `make` for each disk until one fails; the volumes of those after it are none of ours. */
int create_disks(struct op *op, int (*make)(struct op *op, json_t *disk, size_t index));
int create_disks_undo(struct op *op); /* purged */
int create_meta(struct op *op);
int create_meta_undo(struct op *op);
int create_attach(struct op *op); /* sockets */
int create_attach_undo(struct op *op);
int create_publish(struct op *op); /* the row says "ready" */
int create_publish_undo(struct op *op);

#endif
