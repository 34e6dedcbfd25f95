/* SPDX-License-Identifier: Apache-2.0 */
/* Cuts that an earlier life of vstored left: dropped one by one after a start. Reactor thread only.
 */
#ifndef STORAGE_DAEMON_CUT_SWEEP_H
#define STORAGE_DAEMON_CUT_SWEEP_H

#include "storage/store/store_follow.h"

struct cut_sweep {
	struct store *store;
	struct admin_op op;
	bool busy, done; /* done: none was left at the last look */
};
/* While no cut is on its way: drops one, if there is one. To be called again and again. */
void cut_sweep_look(struct cut_sweep *sweep);

#endif
