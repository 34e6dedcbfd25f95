/* SPDX-License-Identifier: Apache-2.0 */
/* Ids with counts, see node_set.h: open addressing, linear, no tombstones. */
#include "storage/store/node_set.h"

#include <errno.h>
#include <stdlib.h>

static size_t node_home(const struct node_set *set, const uint64_t key[2])
{
	return (key[0] ^ key[1] >> 7) & (set->room - 1);
}

struct node_ref *node_set_find(const struct node_set *set, const struct id *id)
{
	uint64_t key[2] = {id_word(id, 0), id_word(id, 1)};
	if (!set->room)
		return NULL;
	for (size_t i = node_home(set, key); set->at[i].count; i = (i + 1) & (set->room - 1))
		if (set->at[i].key[0] == key[0] && set->at[i].key[1] == key[1])
			return &set->at[i];
	return NULL;
}

void node_set_prefetch(const struct node_set *set, const struct id *id)
{
	uint64_t key[2] = {id_word(id, 0), id_word(id, 1)};
	if (set->room)
		__builtin_prefetch(&set->at[node_home(set, key)], 1);
}

static void node_place(struct node_set *set, const struct node_ref *ref)
{
	size_t i = node_home(set, ref->key);
	while (set->at[i].count)
		i = (i + 1) & (set->room - 1);
	set->at[i] = *ref;
}

int node_set_add(struct node_set *set, const struct id *id)
{
	if (2 * (set->count + 1) > set->room) {
		struct node_set larger = {.room = set->room ? 2 * set->room : 1024,
					  .count = set->count};
		larger.at = calloc(larger.room, sizeof(*larger.at));
		if (!larger.at)
			return -ENOMEM;
		for (size_t i = 0; i < set->room; i++)
			if (set->at[i].count)
				node_place(&larger, &set->at[i]);
		free(set->at);
		*set = larger;
	}
	struct node_ref ref = {.key = {id_word(id, 0), id_word(id, 1)}, .count = 1};
	node_place(set, &ref);
	set->count++;
	return 0;
}

void node_set_remove(struct node_set *set, struct node_ref *ref)
{
	size_t hole = (size_t)(ref - set->at), i = hole;
	set->at[hole].count = 0;
	set->count--;
	for (;;) { /* what lies behind moves up, unless it is at home before the hole */
		i = (i + 1) & (set->room - 1);
		if (!set->at[i].count)
			return;
		size_t home = node_home(set, set->at[i].key);
		if (((i - home) & (set->room - 1)) < ((i - hole) & (set->room - 1)))
			continue;
		set->at[hole] = set->at[i];
		set->at[i].count = 0;
		hole = i;
	}
}

void node_set_free(struct node_set *set)
{
	free(set->at);
	*set = (struct node_set){0};
}
