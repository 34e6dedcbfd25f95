/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 took a third of a seed's time, and nobody forges ids in a simulated world: these take the
 * place of the library's functions where they are linked in. 256 bits of state, so ids are apart as
 * they are outside; the store's code is the same, its digests are not. The real function is tested
 * by tests/unit and by all that runs on real files.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "storage/store/sha256_pair.h"

#include <openssl/sha.h>

#include <stdint.h>
#include <string.h>

#define LANES 4u

static uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;
	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t rotated(uint64_t word, unsigned bits)
{
	return word << bits | word >> (64 - bits);
}

#define LANE(i)                                                                                    \
	(mix(words[2 * (i)] ^ state[i], words[2 * (i) + 1] ^ keys[i]) ^                            \
	 rotated(state[((i) + 1) % LANES], 23))

/* Lane i takes words 2i and 2i+1 of each block of 64 bytes, and what its neighbour was. */
static void blocks_take(SHA256_CTX *sha, const uint8_t *at, size_t count)
{
	static const uint64_t keys[LANES] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u,
					     0x94d049bb133111ebu, 0xd6e8feb86659fd93u};
	uint64_t state[LANES], words[2 * LANES];
	memcpy(state, sha->h, sizeof state);
	for (; count; count--, at += SHA256_CBLOCK) {
		memcpy(words, at, sizeof words);
		uint64_t a = LANE(0), b = LANE(1), c = LANE(2), d = LANE(3);
		state[0] = a;
		state[1] = b;
		state[2] = c;
		state[3] = d;
	}
	memcpy(sha->h, state, sizeof state);
}

int SHA256_Init(SHA256_CTX *sha)
{
	static const uint64_t start[LANES] = {0x243f6a8885a308d3u, 0x13198a2e03707344u,
					      0xa4093822299f31d0u, 0x082efa98ec4e6c89u};
	memset(sha, 0, sizeof(*sha));
	memcpy(sha->h, start, sizeof start);
	return 1;
}

int SHA256_Update(SHA256_CTX *sha, const void *data, size_t bytes)
{
	const uint8_t *at = data;
	sha->Nl += (SHA_LONG)bytes;
	while (bytes) {
		if (sha->num == 0 && bytes >= SHA256_CBLOCK) {
			size_t count = bytes / SHA256_CBLOCK;
			blocks_take(sha, at, count);
			at += count * SHA256_CBLOCK;
			bytes -= count * SHA256_CBLOCK;
			continue;
		}
		size_t room = SHA256_CBLOCK - sha->num, part = bytes < room ? bytes : room;
		memcpy((uint8_t *)sha->data + sha->num, at, part);
		sha->num += (unsigned)part;
		at += part;
		bytes -= part;
		if (sha->num == SHA256_CBLOCK) {
			blocks_take(sha, (const uint8_t *)sha->data, 1);
			sha->num = 0;
		}
	}
	return 1;
}

int SHA256_Final(unsigned char *digest, SHA256_CTX *sha)
{
	uint8_t *last = (uint8_t *)sha->data;
	memset(last + sha->num, 0, SHA256_CBLOCK - sha->num);
	blocks_take(sha, last, 1);
	memset(last, 0, SHA256_CBLOCK);
	memcpy(last, &sha->Nl, sizeof sha->Nl);	 /* data that ends in zeros is not shorter data */
	for (unsigned i = 0; i < 2 * LANES; i++) /* every lane reaches all others */
		blocks_take(sha, last, 1);
	memcpy(digest, sha->h, SHA256_DIGEST_LENGTH);
	return 1;
}

/* Pairs would be SHA-256's digests. */
bool sha256_pair_works(void)
{
	return false;
}
