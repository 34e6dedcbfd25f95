/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier life left, see cut_sweep.h. Held cuts, and those in use, are somebody's. */
#include "storage/daemon/cut_sweep.h"

#include "storage/store/store_list.h"

#include <stdio.h>
#include <stdlib.h>

static void swept(struct io_op *op)
{
	container_of(op, struct cut_sweep, op.op)->busy = false;
}

void cut_sweep_look(struct cut_sweep *sweep)
{
	struct snapshot_info *snapshots;
	struct volume_info volume;
	size_t count;
	char name[SNAP_NAME_ROOM] = "";
	if (sweep->done || sweep->busy ||
	    store_snapshots(sweep->store, false, &snapshots, &count) < 0)
		return;
	for (size_t i = 0; i < count && !name[0]; i++)
		if (snapshots[i].policy == POLICY_CUT && !snapshots[i].hold_count &&
		    !snapshots[i].retained && !snapshots[i].attached &&
		    store_volume_info(sweep->store, snapshots[i].volume_number, &volume) == 0 &&
		    !volume.replica)
			snprintf(name, sizeof name, "%.63s@%.63s", snapshots[i].volume,
				 snapshots[i].name);
	free(snapshots);
	sweep->done = !name[0];
	if (!name[0])
		return;
	sweep->busy = true;
	sweep->op = (struct admin_op){.op.done = swept};
	store_cut_drop(sweep->store, &sweep->op, name);
}
