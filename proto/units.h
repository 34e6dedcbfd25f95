/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes that every part of vstore shares, and rounding to them. */
#ifndef PROTO_UNITS_H
#define PROTO_UNITS_H

#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define NSEC_PER_USEC UINT64_C(1000)
#define NSEC_PER_MSEC UINT64_C(1000000)
#define NSEC_PER_SEC UINT64_C(1000000000)

#define BLOCK_BYTES 4096u  /* the log's unit, and a guest's preferred one */
#define CHUNK_BYTES 65536u /* the unit of deduplication */
#define CHUNK_BLOCKS (CHUNK_BYTES / BLOCK_BYTES)
#define QUARTER_BYTES 16384u	   /* what an id is computed over, whatever the frame size */
#define FRAME_BYTES_DEFAULT 16384u /* the unit of compression */
#define FRAMES_PER_CHUNK_MAX 16u   /* a frame has at least 4 KiB */
#define ID_BYTES 32u
#define VOLUME_BYTES_MAX (256 * TIB)
#define NAME_BYTES_MAX 63u

static inline uint64_t round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t round_down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
