/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An env around another one that keeps what was done to files, in its order: what a test needs to
 * build the disks that a power cut could have left. Everything else passes through. For tests: it
 * keeps all data that is written in memory.
 */
#ifndef STORAGE_RT_RECORDER_H
#define STORAGE_RT_RECORDER_H

#include "storage/rt/env.h"

enum recorded_kind {
	RECORDED_CREATE, /* of a file that was not there */
	RECORDED_WRITE,
	RECORDED_SYNC,
	RECORDED_ALLOCATE, /* bytes: the size that it has at least from then on */
	RECORDED_TRUNCATE, /* bytes: the new size */
	RECORDED_REMOVE,
	RECORDED_RENAME, /* name becomes new_name */
	RECORDED_FOLDER_SYNC,
};

/* started and ended are moments: every start and every end has its own, from 1 on. */
struct recorded {
	enum recorded_kind kind;
	uint64_t started, ended; /* ended 0: not yet, or it failed */
	uint32_t folder;	 /* folders and files are numbered as they are opened first */
	uint32_t file;
	char name[64], new_name[64];
	uint64_t offset_bytes, bytes;
	bool dsync;
	uint8_t *data; /* of a write */
};

struct recorder;

/* NULL: no memory. `inner` stays the caller's, and is used through the new env only. */
struct recorder *recorder_new(struct env *inner);
void recorder_free(struct recorder *recorder); /* nothing may be under way or open */
struct env *recorder_env(struct recorder *recorder);
/* The last moment that was given; a caller's own events lie between two. */
uint64_t recorder_now(const struct recorder *recorder);
/* The path that a folder was opened by; a file's folder, and its name when it was opened first. */
const char *recorder_folder(const struct recorder *recorder, uint32_t folder);
const char *recorder_file(const struct recorder *recorder, uint32_t file, uint32_t *ret_folder);
uint32_t recorder_file_count(const struct recorder *recorder); /* numbered 1 to this */
/* In the order of their starts; valid until the next operation. */
const struct recorded *recorder_events(const struct recorder *recorder, size_t *ret_count);

#endif
