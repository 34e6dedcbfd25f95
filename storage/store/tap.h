/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves for followers as it is written (tap.c), for write.c, catalog.c,
 * follower.c and store.c. */
#ifndef STORAGE_STORE_TAP_H
#define STORAGE_STORE_TAP_H

#include "storage/store/objects.h"

struct tap {
	const struct store_tap_ops *ops;
	void *owner;
	bool any;  /* records were handed out, and where their commit ends was not told yet */
	bool shut; /* no acknowledgement comes any more */
	struct store_request *held, **tail; /* flushes that are durable here */
};
int tap_init(struct store *store);
void tap_exit(struct store *store);
/* A record of data of a tapped volume goes to the device; `data` is what is written. */
void tap_leaving(struct store *store, struct volume *volume, const void *record, uint32_t bytes,
		 const void *data);
/* It has taken effect. */
void tap_data(struct store *store, const struct volume *volume, const void *record, uint32_t bytes,
	      const void *data);
void tap_committed(struct store *store);
/* The volume changed in a way that no record of data tells: it is tapped no more. */
void tap_broken(struct store *store, struct volume *volume);
/* A flush that is durable here: true, and followers do not have all before it yet; it ends later.
 * request->vseq: the volume's when it began. */
bool gate_hold(struct store_request *request);
void gate_look(struct store *store);

#endif
