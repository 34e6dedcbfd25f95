/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CRC-32C. The hardware path runs three independent streams (the instruction has a latency of
 * three cycles and a throughput of one) and joins them by multiplying with x^n mod P, from
 * tables made at start.
 */
#include "proto/crc32c.h"

#include <string.h>

#define CRC32C_POLY 0x82f63b78u
#define LANE_BYTES 1360u /* three lanes are 4080 bytes: a 4 KiB block in one round */

static uint32_t table[256];
static uint32_t shift_lane[4][256];  /* a checksum moved over LANE_BYTES zero bytes */
static uint32_t shift_lanes[4][256]; /* ... over two lanes */

static uint32_t crc_bytes(uint32_t crc, const uint8_t *at, size_t bytes)
{
	while (bytes--)
		crc = table[(crc ^ *at++) & 0xff] ^ (crc >> 8);
	return crc;
}

static uint32_t shift_zeros(uint32_t crc, size_t bytes)
{
	while (bytes--)
		crc = table[crc & 0xff] ^ (crc >> 8);
	return crc;
}

__attribute__((constructor)) static void crc32c_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? CRC32C_POLY : 0);
		table[i] = crc;
	}
	uint32_t one[32], two[32];
	for (int bit = 0; bit < 32; bit++) {
		one[bit] = shift_zeros(1u << bit, LANE_BYTES);
		two[bit] = shift_zeros(1u << bit, 2 * LANE_BYTES);
	}
	for (int byte = 0; byte < 4; byte++)
		for (uint32_t i = 0; i < 256; i++)
			for (int bit = 0; bit < 8; bit++)
				if (i & (1u << bit)) {
					shift_lane[byte][i] ^= one[byte * 8 + bit];
					shift_lanes[byte][i] ^= two[byte * 8 + bit];
				}
}

#if defined(__x86_64__)
static uint32_t shifted(uint32_t by[4][256], uint32_t crc)
{
	return by[0][crc & 0xff] ^ by[1][(crc >> 8) & 0xff] ^ by[2][(crc >> 16) & 0xff] ^
	       by[3][crc >> 24];
}

static uint64_t load64(const uint8_t *at)
{
	uint64_t v;
	memcpy(&v, at, sizeof v);
	return v;
}

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const uint8_t *at,
							    size_t bytes)
{
	uint64_t a = crc;
	while (bytes >= 3 * LANE_BYTES) {
		uint64_t b = 0, c = 0;
		for (const uint8_t *end = at + LANE_BYTES; at < end; at += 8) {
			a = __builtin_ia32_crc32di(a, load64(at));
			b = __builtin_ia32_crc32di(b, load64(at + LANE_BYTES));
			c = __builtin_ia32_crc32di(c, load64(at + 2 * LANE_BYTES));
		}
		a = shifted(shift_lanes, (uint32_t)a) ^ shifted(shift_lane, (uint32_t)b) ^ c;
		at += 2 * LANE_BYTES;
		bytes -= 3 * LANE_BYTES;
	}
	for (; bytes >= 8; at += 8, bytes -= 8)
		a = __builtin_ia32_crc32di(a, load64(at));
	crc = (uint32_t)a;
	for (; bytes; at++, bytes--)
		crc = __builtin_ia32_crc32qi(crc, *at);
	return crc;
}
#endif

uint32_t crc32c(uint32_t seed, const void *buf, size_t bytes)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_sse42(~seed, buf, bytes);
#endif
	return ~crc_bytes(~seed, buf, bytes);
}
