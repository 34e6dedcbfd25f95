/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included before all else (-include) in a build whose processes die: what the code of a process
 * allocates belongs to the simulated host that runs at that moment, and goes with its process.
 */
#ifndef TESTS_SIM_PROCESS_H
#define TESTS_SIM_PROCESS_H

#include <stdlib.h>
#include <string.h>

#define SIM_PROCESS 1

void *process_malloc(size_t bytes);
void *process_calloc(size_t count, size_t bytes);
void *process_realloc(void *at, size_t bytes);
void *process_aligned(size_t align, size_t bytes);
int process_memalign(void **ret, size_t align, size_t bytes);
void process_free(void *at);

#define malloc(bytes) process_malloc(bytes)
#define calloc(count, bytes) process_calloc(count, bytes)
#define realloc(at, bytes) process_realloc(at, bytes)
#define reallocarray(at, count, bytes) process_realloc(at, (size_t)(count) * (bytes))
#define aligned_alloc(align, bytes) process_aligned(align, bytes)
#define posix_memalign(ret, align, bytes) process_memalign(ret, align, bytes)
#define free(at) process_free(at)

#endif
