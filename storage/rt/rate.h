/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast something may go on: a rate, and for how long what was not used is saved up.
 *
 * One number is kept: when the next unit would be due if all went at the rate exactly. Work may
 * begin while that is at most `burst` ahead of now, and moves it on by what it costs. So a request
 * that is larger than the burst still passes, and those behind it pay. Pure: the clock is the
 * caller's.
 */
#ifndef STORAGE_RT_RATE_H
#define STORAGE_RT_RATE_H

#include "proto/units.h"

#include <stdint.h>

struct rate {
	uint64_t a_second; /* 0: no limit */
	uint64_t burst_ns;
	uint64_t due_ns;
};

/* How long until work may begin; 0: now. */
static inline uint64_t rate_wait_ns(const struct rate *rate, uint64_t now_ns)
{
	if (!rate->a_second || rate->due_ns <= now_ns + rate->burst_ns)
		return 0;
	return rate->due_ns - rate->burst_ns - now_ns;
}

static inline void rate_charge(struct rate *rate, uint64_t now_ns, uint32_t units)
{
	if (rate->a_second)
		rate->due_ns =
			max_u64(rate->due_ns, now_ns) + units * NSEC_PER_SEC / rate->a_second;
}

#endif
