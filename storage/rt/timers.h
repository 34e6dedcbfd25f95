/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of timers by due time: what every env's loop sleeps until. */
#ifndef STORAGE_RT_TIMERS_H
#define STORAGE_RT_TIMERS_H

#include "storage/rt/env.h"

struct timers {
	struct env_timer **heap; /* heap[0] unused */
	uint32_t count, room;
};

/* (Re-)arms; dies with a sentence when there is no memory for the heap (a few bytes a timer). */
void timers_start(struct timers *timers, struct env_timer *timer, uint64_t at_ns);
void timers_stop(struct timers *timers, struct env_timer *timer);
/* UINT64_MAX: none is armed. */
uint64_t timers_next_ns(const struct timers *timers);
/* Fires those due at now_ns, earliest first; those that they arm meanwhile wait. Returns how many.
 */
unsigned timers_fire(struct timers *timers, uint64_t now_ns);
void timers_done(struct timers *timers);

#endif
