/* SPDX-License-Identifier: Apache-2.0 */
/* For files that are no part of a simulated process (process.h): malloc is the C library's. */
#ifndef TESTS_SIM_PROCESS_OUTSIDE_H
#define TESTS_SIM_PROCESS_OUTSIDE_H

#undef malloc
#undef calloc
#undef realloc
#undef reallocarray
#undef aligned_alloc
#undef posix_memalign
#undef free

#endif
