/* SPDX-License-Identifier: Apache-2.0 */
/* The name of a chunk or map node: a keyed SHA-256. All zero: a hole. */
#ifndef STORAGE_STORE_ID_H
#define STORAGE_STORE_ID_H

#include "proto/units.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct id {
	uint8_t bytes[ID_BYTES];
};

static inline bool id_equal(const struct id *a, const struct id *b)
{
	return memcmp(a->bytes, b->bytes, ID_BYTES) == 0;
}

/* The 64-bit word at byte 8 * n; ids are uniform, so any word is a hash. */
static inline uint64_t id_word(const struct id *id, unsigned n)
{
	uint64_t word;
	memcpy(&word, id->bytes + 8 * n, 8);
	return word;
}

static inline bool id_is_null(const struct id *id)
{
	return (id_word(id, 0) | id_word(id, 1) | id_word(id, 2) | id_word(id, 3)) == 0;
}

#endif
