/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FIPS 180-4 with the processor's SHA instructions, two independent lanes side by side; the way
 * that the state and the schedule lie in registers is the one that the instructions' description
 * in Intel's manual (SHA256RNDS2, SHA256MSG1, SHA256MSG2) asks for. Two lanes, because more do not
 * fit the 16 registers. A processor without these instructions hashes with OpenSSL instead.
 */
#include "storage/store/sha256_pair.h"

#include <assert.h>

/* A test that puts another hash in SHA-256's place answers no instead. */
#define OVERRULED __attribute__((weak))

#if defined(__x86_64__)
#include <cpuid.h>
#include <endian.h>
#include <immintrin.h>
#include <string.h>

#define LANES 2u
#define BLOCK_64 64u /* SHA-256's own block */
#define NATIVE __attribute__((target("sha,sse4.1")))

static const uint32_t round_keys[64] __attribute__((aligned(16))) = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

/* The state's words a to h, as the instructions want them: the last named lowest. */
struct lane {
	__m128i abef, cdgh;
};

static bool works; /* asked once: in a virtual machine CPUID leaves the guest */

__attribute__((constructor)) static void sha256_pair_ask(void)
{
	unsigned a, b, c, d;
	works = __get_cpuid(1, &a, &b, &c, &d) && c & bit_SSSE3 && c & bit_SSE4_1 &&
		__get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_SHA;
}

OVERRULED bool sha256_pair_works(void)
{
	return works;
}

/* One block of each lane. The loops are unrolled: all of it stays in registers. */
static inline __attribute__((always_inline)) NATIVE void pair_block(struct lane lanes[LANES],
								    const uint8_t *const at[LANES])
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
	struct lane was[LANES] = {lanes[0], lanes[1]};
	__m128i words[LANES][4];
#pragma GCC unroll 16
	for (unsigned i = 0; i < 16; i++) { /* four rounds each */
		__m128i keys = _mm_load_si128((const __m128i *)(const void *)&round_keys[4 * i]);
#pragma GCC unroll 2
		for (unsigned l = 0; l < LANES; l++) {
			__m128i *w = words[l], *now = &w[i % 4];
			if (i < 4) {
				*now = _mm_loadu_si128(
					(const __m128i *)(const void *)(at[l] + 16 * i));
				*now = _mm_shuffle_epi8(*now, swap);
			} else {
				*now = _mm_sha256msg1_epu32(*now, w[(i + 1) % 4]);
				*now = _mm_add_epi32(
					*now, _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4));
				*now = _mm_sha256msg2_epu32(*now, w[(i + 3) % 4]);
			}
			__m128i sum = _mm_add_epi32(*now, keys);
			lanes[l].cdgh = _mm_sha256rnds2_epu32(lanes[l].cdgh, lanes[l].abef, sum);
			sum = _mm_shuffle_epi32(sum, 0x0e);
			lanes[l].abef = _mm_sha256rnds2_epu32(lanes[l].abef, lanes[l].cdgh, sum);
		}
	}
	for (unsigned l = 0; l < LANES; l++) {
		lanes[l].abef = _mm_add_epi32(lanes[l].abef, was[l].abef);
		lanes[l].cdgh = _mm_add_epi32(lanes[l].cdgh, was[l].cdgh);
	}
}

static NATIVE void lane_end(const struct lane *lane, uint8_t ret_hash[32])
{
	uint32_t abef[4], cdgh[4]; /* the last named first */
	memcpy(abef, &lane->abef, sizeof abef);
	memcpy(cdgh, &lane->cdgh, sizeof cdgh);
	const uint32_t state[8] = {
		htobe32(abef[3]), htobe32(abef[2]), htobe32(cdgh[3]), htobe32(cdgh[2]),
		htobe32(abef[1]), htobe32(abef[0]), htobe32(cdgh[1]), htobe32(cdgh[0]),
	};
	memcpy(ret_hash, state, sizeof state);
}

NATIVE void sha256_pair(const void *a, const void *b, size_t bytes, uint8_t ret_a[32],
			uint8_t ret_b[32])
{
	assert(bytes % BLOCK_64 == 0);
	const struct lane start = {
		.abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
		.cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19)};
	struct lane lanes[LANES] = {start, start};
	const uint8_t *at[LANES] = {a, b};
	for (size_t done = 0; done < bytes; done += BLOCK_64) {
		pair_block(lanes, at);
		at[0] += BLOCK_64;
		at[1] += BLOCK_64;
	}
	/* What SHA-256 ends with: a bit, and how many bits there were. */
	uint8_t last[BLOCK_64] = {0x80};
	const uint64_t bits = htobe64((uint64_t)bytes * 8);
	memcpy(last + BLOCK_64 - sizeof bits, &bits, sizeof bits);
	at[0] = at[1] = last;
	pair_block(lanes, at);
	lane_end(&lanes[0], ret_a);
	lane_end(&lanes[1], ret_b);
}

#else

OVERRULED bool sha256_pair_works(void)
{
	return false;
}

void sha256_pair(const void *a, const void *b, size_t bytes, uint8_t ret_a[32], uint8_t ret_b[32])
{
	assert(!"sha256_pair_works() said no");
}
#endif
