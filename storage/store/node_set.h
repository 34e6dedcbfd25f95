/* SPDX-License-Identifier: Apache-2.0 */
/* A set of ids with a count each: how many places name it. Ids are told apart by 128 of their
 * bits; 24 bytes a place, at most half of them full, so that most lie where they are looked for. */
#ifndef STORAGE_STORE_NODE_SET_H
#define STORAGE_STORE_NODE_SET_H

#include "storage/store/id.h"

#include <stddef.h>

struct node_ref {
	uint64_t key[2];
	uint64_t count; /* 0: the place is empty */
};
struct node_set {
	struct node_ref *at;
	size_t count, room;
};

/* NULL: it is not there. Valid until the set changes. */
struct node_ref *node_set_find(const struct node_set *set, const struct id *id);
void node_set_prefetch(const struct node_set *set, const struct id *id);
/* It was not there, and has count 1 now. -ENOMEM. */
int node_set_add(struct node_set *set, const struct id *id);
void node_set_remove(struct node_set *set, struct node_ref *ref);
void node_set_free(struct node_set *set); /* empty, and usable again */

#endif
