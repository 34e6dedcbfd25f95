/* SPDX-License-Identifier: Apache-2.0 */
/* The copies here of other hosts' volumes, as far as this side knows. */
#ifndef VSTORE_DAEMON_COPIES_H
#define VSTORE_DAEMON_COPIES_H

#include "storage/store/store_list.h"

struct copy_state {
	char name[SNAP_NAME_ROOM]; /* HOST/VOL */
	char host[NAME_ROOM];
	const char *word; /* what it is; no one frees it */
	/* It has all that was durable there then: now where it is in step, else when its newest
	 * snapshot was taken; 0: there is none. */
	uint64_t as_of_wall_ns;
	uint64_t epoch, vseq;
};
/* An array for the caller to free; -ENOMEM. */
int copies_states(const struct store *store, uint64_t now_wall_ns, struct copy_state **ret,
		  size_t *ret_count);

#endif
