/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading ahead of guests that read in order. A hint only: it fills the cache with chunks by their
 * ids, so it cannot make a read see anything else than it would have seen.
 */
#ifndef STORAGE_STORE_PREFETCH_H
#define STORAGE_STORE_PREFETCH_H

#include "storage/store/objects.h"
#include "storage/store/wait.h"

int prefetch_init(struct store *store);
void prefetch_exit(struct store *store); /* prefetch_idle */
bool prefetch_idle(const struct store *store);
/* A guest's READ has begun: notes where it is, and starts reads ahead of it. busy: so many chunks
 * are being read for guests already; where that is plenty, reading ahead gains nothing. */
void prefetch_note(struct store_request *request, unsigned busy);
/* True: this chunk is on its way into the cache, and the wait is woken when that has ended, well or
 * not. */
bool prefetch_wait(struct store *store, const struct id *id, struct wait *wait);

/* read.c: the stored chunk below a chunk's log blocks, and which of its blocks count. 0, WAITING
 * (the wait is woken) or negative; without a wait it only looks. */
int chunk_base(struct store *store, struct volume *volume, struct snapshot *snapshot,
	       uint64_t chunk_no, struct wait *wait, struct id *ret_base, uint16_t *ret_mask);

#endif
