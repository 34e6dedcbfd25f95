/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka with what it wants included first, and a small seeded generator for random tests. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t test_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline void test_random_fill(uint64_t *state, void *to, size_t bytes)
{
	for (uint8_t *at = to; bytes; at++, bytes--)
		*at = (uint8_t)test_random(state);
}

#endif
