/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a program of seeds says what went wrong: by functions that return a sentence, or NULL when
 * all is well. Each file has room for one of its own, so that it may quote another file's.
 */
#ifndef TESTS_SIM_FAIL_H
#define TESTS_SIM_FAIL_H

#include <stdio.h>

static char failure[800] __attribute__((unused));
#define FAIL(...)                                                                                  \
	do {                                                                                       \
		snprintf(failure, sizeof failure, __VA_ARGS__);                                    \
		return failure;                                                                    \
	} while (0)

#endif
