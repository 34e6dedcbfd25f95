/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two kinds of pace, and whether there is anybody to pace for.
 *
 * The throttle: between the log's watermarks, guests get the room that is left in step with the
 * fold's progress: the share of it that they may have taken is the share of the dirty chunks that
 * are folded. So admission slows to the fold's rate by itself, without a clock: no cliff, no stall.
 *
 * The budget: all that writes in bulk (fold, ingest, and whoever else moves many bytes behind the
 * guests' backs) asks pace_ready before it starts a piece and tells pace_spend what it wrote. The
 * rate shrinks while guests' flushes are slow and grows again when they are not.
 *
 * Keeps true: the lower half of the log is never throttled; a fold that fails, a store that fails
 * or closes, are never paced, so an end is never stuck here; who waits is asked again after
 * PACE_WAIT_NS at most. Reactor thread only.
 */
#ifndef STORAGE_STORE_PACE_H
#define STORAGE_STORE_PACE_H

#include "storage/store/store.h"
#include "storage/store/wait.h"

#define PACE_WAIT_NS (50 * NSEC_PER_SEC / 1000)
#define PACE_UNITS 1024u /* of progress, for one dirty chunk */

int pace_init(struct store *store); /* -ENOMEM */
void pace_exit(struct store *store);

/* ---- the throttle ---- */

/* Is so much of the log, or of the layers' memory, in use that everything should be folded? */
bool pace_pressure(struct store *store);
/* May a guest take so many blocks of the log and entries of layers now? If not, write_kick follows
 * when there was progress. */
bool pace_admit(struct store *store, uint32_t blocks, uint32_t entries);
/* The fold got on, or (negative) failed and will do so much again. */
void pace_folded(struct store *store, int64_t units);
/* The log's tail moved by so much: what is free now is shared out anew. */
void pace_tail_moved(struct store *store, uint64_t blocks);

/* ---- the budget ---- */

/* May one more piece be written in bulk? If not, the wait is woken: look again. */
bool pace_ready(struct store *store, struct wait *wait);
void pace_spend(struct store *store, uint64_t bytes);
/* A guest's flush took so long. */
void pace_flushed(struct store *store, uint64_t latency_ns);
/* The store closes, or work was cancelled: all who wait look again now. */
void pace_wake(struct store *store);
uint64_t pace_rate(const struct store *store); /* bytes a second; UINT64_MAX: no bound */

/* ---- beside guests ---- */

struct guests_seen {
	uint64_t requests, ns; /* ns: when; 0: never */
};
/* What came before does not count. */
void guests_forget(const struct store *store, struct guests_seen *seen);
/* Is there a request of a guest, or was there one a short while ago? Asked often enough. */
bool guests_served(const struct store *store, struct guests_seen *seen);

#endif
