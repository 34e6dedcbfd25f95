/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that a power cut could have left, made of what a recorder saw: what was synced is there;
 * what was not is there, or not, or in part (512 bytes), each thing for itself, so that later
 * writes may survive earlier ones.
 */
#ifndef TESTS_CRASH_CUT_H
#define TESTS_CRASH_CUT_H

#include "storage/rt/recorder.h"

#define MOMENT_NEVER UINT64_MAX

struct cut_counts {
	uint64_t synced, kept, dropped, torn; /* writes */
	uint64_t lost_files, files_back, lost_sizes;
};

struct cutter;

/* `recorder` has seen everything since the folders' files were as they are now in memory: call it
 * before anything is recorded ... */
struct cutter *cutter_new(const char *folder);
/* ... and this when nothing more comes. */
void cutter_learn(struct cutter *cutter, const struct recorder *recorder);
void cutter_free(struct cutter *cutter);
/* Writes the disk of a moment into `image`, an existing folder that is emptied (of files, and of
 * those in its folder seg); `seed` decides what is not certain. */
void cutter_image(const struct cutter *cutter, uint64_t moment, uint64_t seed, const char *image,
		  struct cut_counts *counts);
void cutter_clear(const char *image); /* removes it */

#endif
