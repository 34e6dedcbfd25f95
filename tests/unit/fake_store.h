/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stand-in for what storage/nbd uses of the store: volumes in memory, requests that can be
 * held back and failed, and counts of what came. On the reactor only, like the real one.
 */
#ifndef TESTS_FAKE_STORE_H
#define TESTS_FAKE_STORE_H

#include "storage/store/store_admin.h"

#define FAKE_VOLUMES_MAX 4096u
#define FAKE_HELD_MAX 4096u
#define FAKE_FENCED 13u /* a generation that is not let in */

struct fake_volume {
	char name[SNAP_NAME_ROOM]; /* VOLUME or VOLUME@SNAP */
	uint64_t bytes;
	uint8_t *data; /* NULL: an endless hole, for large sizes */
	unsigned views;
};

struct fake_store {
	struct env *env;
	struct fake_volume volumes[FAKE_VOLUMES_MAX];
	unsigned volume_count;

	bool hold; /* requests wait for fake_store_release */
	struct store_request *held[FAKE_HELD_MAX];
	unsigned held_count;
	bool mute;    /* no view may be answered */
	int64_t fail; /* not 0: what requests end with, except FLUSH */

	unsigned views, requests, reads, writes, flushes, fuas, zeros, trims, caches, statuses;
	unsigned held_most, fences;
};

void fake_store_init(struct fake_store *fake, struct env *env);
void fake_store_done(struct fake_store *fake); /* asserts that no view is open */
/* `memory` false: reads as zeros, takes no writes. Its size may be beyond any machine's. */
void fake_store_add(struct fake_store *fake, const char *name, uint64_t bytes, bool memory);
/* Ends what is held, and holds nothing from now on. */
void fake_store_release(struct fake_store *fake);

#endif
