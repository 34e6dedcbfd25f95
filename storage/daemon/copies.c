/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of other hosts' volumes (copies.h): volumes and snapshots are gone through once. */
#include "storage/daemon/copies.h"

#include "storage/store/store_follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_number(const void *number, const void *info)
{
	uint32_t a = *(const uint32_t *)number, b = ((const struct volume_info *)info)->number;
	return (a > b) - (a < b);
}

static void newest_find(const struct volume_info *infos, size_t count,
			const struct snapshot_brief *briefs, size_t brief_count,
			const struct snapshot_brief **newest)
{
	for (size_t i = 0; i < brief_count; i++) {
		const struct snapshot_brief *brief = &briefs[i];
		const struct volume_info *info =
			bsearch(&brief->volume_number, infos, count, sizeof(*infos), by_number);
		const struct snapshot_brief **best = info ? &newest[info - infos] : NULL;
		if (best && (!*best || !position_before(brief->epoch, brief->vseq, (*best)->epoch,
							(*best)->vseq)))
			*best = brief;
	}
}

static void copy_fill(const struct volume_info *info, const struct snapshot_brief *newest,
		      uint64_t now_wall_ns, struct copy_state *copy)
{
	bool in_step = info->whole && info->stepped && info->taken;
	*copy = (struct copy_state){.word = !info->whole && info->taken ? "being received"
					    : !info->whole		? "half received"
					    : in_step			? "in step"
									: "whole",
				    .as_of_wall_ns = in_step  ? now_wall_ns
						     : newest ? newest->created_wall_ns
							      : 0,
				    .epoch = info->epoch,
				    .vseq = info->vseq};
	memcpy(copy->name, info->name, sizeof info->name);
	snprintf(copy->host, sizeof copy->host, "%.*s", (int)strcspn(info->name, "/"), info->name);
}

int copies_states(const struct store *store, uint64_t now_wall_ns, struct copy_state **ret,
		  size_t *ret_count)
{
	struct volume_info *infos = NULL;
	struct snapshot_brief *briefs = NULL;
	const struct snapshot_brief **newest = NULL;
	struct copy_state *states = NULL;
	size_t count = 0, brief_count = 0, copy_count = 0;
	if (store_volumes(store, false, &infos, &count) == 0 &&
	    store_snapshot_briefs(store, &briefs, &brief_count) == 0 &&
	    (newest = calloc(count + 1, sizeof(*newest))) &&
	    (states = calloc(count + 1, sizeof(*states)))) {
		newest_find(infos, count, briefs, brief_count, newest);
		for (size_t i = 0; i < count; i++)
			if (infos[i].replica)
				copy_fill(&infos[i], newest[i], now_wall_ns, &states[copy_count++]);
	}
	free(newest);
	free(briefs);
	free(infos);
	*ret = states;
	*ret_count = copy_count;
	return states ? 0 : -ENOMEM;
}
