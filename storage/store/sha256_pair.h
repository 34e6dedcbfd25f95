/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256 of two buffers at once. One digest leaves most of a processor's SHA unit idle: each of
 * its steps waits for the one before. OpenSSL hashes one buffer a call; this is for the pairs that
 * a chunk's quarters make. The digests are SHA-256's, the same as OpenSSL's.
 */
#ifndef STORAGE_STORE_SHA256_PAIR_H
#define STORAGE_STORE_SHA256_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Has this processor what it needs? Any thread; always the same answer. */
bool sha256_pair_works(void);

/* bytes, of each: a multiple of 64. Only where sha256_pair_works(). Any thread. */
void sha256_pair(const void *a, const void *b, size_t bytes, uint8_t ret_a[32], uint8_t ret_b[32]);

#endif
