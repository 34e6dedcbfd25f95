/* SPDX-License-Identifier: Apache-2.0 */
/* Latencies in buckets that grow with the value: 64 for every power of two. */
#include "bench/load/load.h"

static unsigned bucket_of(uint64_t ns)
{
	if (ns < 64)
		return (unsigned)ns;
	unsigned shift = 63u - 6u - (unsigned)__builtin_clzll(ns);
	return (shift + 1) * 64u + (unsigned)(ns >> shift) - 64u;
}

static uint64_t bucket_ns(unsigned bucket)
{
	if (bucket < 64)
		return bucket;
	unsigned shift = bucket / 64u - 1;
	return (uint64_t)(bucket % 64u + 64u) << shift;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->counts[bucket_of(ns)]++;
	h->total++;
	h->max_ns = max_u64(h->max_ns, ns);
}

uint64_t histogram_at(const struct histogram *h, double part)
{
	uint64_t wanted = (uint64_t)((double)h->total * part), seen = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (seen > wanted)
			return bucket_ns(i);
	}
	return h->max_ns;
}
