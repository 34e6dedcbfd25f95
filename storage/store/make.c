/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a store: the log written once, the first checkpoint, and the superblock last: without it
 * there is no store, so a making that was cut leaves a directory that is refused, not half a store.
 */
#include "storage/store/store_int.h"

#include "storage/store/behind.h"
#include "storage/store/log.h"

#include <stdio.h>
#include <stdlib.h>

#define LOG_BYTES_DEFAULT GIB
#define LOG_BYTES_MAX (256 * GIB)
#define ZERO_WRITE_BYTES MIB

static const char *const refused_kinds[] = {"tmpfs", "overlay", "nfs"};

static int make_log(struct env *env, struct env_dir *dir, uint64_t bytes)
{
	struct env_file *file;
	int res = env_file_open(dir, "log", ENV_CREATE | ENV_EXCL | ENV_DIRECT, &file);
	if (res < 0)
		return res;
	res = env_file_allocate_wait(file, bytes);
	uint8_t *zeros = res < 0 ? NULL : env_memory(env, ZERO_WRITE_BYTES);
	if (res == 0 && !zeros)
		res = -ENOMEM;
	for (uint64_t at = 0; at < bytes && res >= 0; at += ZERO_WRITE_BYTES) {
		int64_t moved = env_file_write_wait(
			file, zeros, (uint32_t)min_u64(ZERO_WRITE_BYTES, bytes - at), at);
		res = moved < 0 ? (int)moved : 0;
	}
	if (zeros)
		env_memory_free(env, zeros, ZERO_WRITE_BYTES);
	if (res == 0)
		res = env_file_sync_wait(file);
	env_file_close(file);
	return res < 0 ? res : env_dir_sync_wait(dir);
}

int store_kind_check(struct env_dir *dir, const char *path, bool any, char *sentence)
{
	char kind[32];
	if (any || env_dir_kind(dir, kind, sizeof kind) < 0)
		return 0;
	for (unsigned i = 0; i < sizeof refused_kinds / sizeof *refused_kinds; i++)
		if (strcmp(kind, refused_kinds[i]) == 0) {
			snprintf(
				sentence, SENTENCE_BYTES,
				"%.120s lies on %s, which does not keep what a store promises: use "
				"ext4 or xfs, or ask for it with --any-file-system.",
				path, kind);
			return -EOPNOTSUPP;
		}
	return 0;
}

static int make_in(struct env *env, struct env_dir *dir, const char *path,
		   const struct store_make_options *options, char *sentence)
{
	struct superblock sb = {.generation = 1,
				.created_wall_ns = env_wall_ns(env),
				.feature_incompatible = FEATURES_ALL};
	struct env_dir_entry *entries;
	struct env_dir *log_dir = NULL;
	uint64_t free_bytes, total_bytes;
	size_t count = 0;
	int res = env_dir_list(dir, &entries, &count);
	if (res == 0) {
		for (size_t i = 0; i < count; i++)
			if (strcmp(entries[i].name, "lost+found") != 0)
				res = -ENOTEMPTY;
		free(entries);
	}
	if (res == -ENOTEMPTY) {
		snprintf(sentence, SENTENCE_BYTES,
			 "%.200s is not empty: a new store needs an empty directory.", path);
		return res;
	}
	if (res == 0)
		res = env_dir_space(dir, &free_bytes, &total_bytes);
	if (res < 0)
		return res;
	sb.log_bytes = options->log_bytes;
	if (!sb.log_bytes)
		sb.log_bytes = max_u64(LOG_BYTES_MIN, min_u64(LOG_BYTES_DEFAULT,
							      round_down(total_bytes / 16, MIB)));
	if (sb.log_bytes < LOG_BYTES_MIN || sb.log_bytes > LOG_BYTES_MAX || sb.log_bytes % MIB) {
		snprintf(sentence, SENTENCE_BYTES,
			 "A log of %llu bytes cannot be: give 8 MiB to 256 GiB, in whole MiB.",
			 (unsigned long long)sb.log_bytes);
		return -EINVAL;
	}
	env_random(env, sb.uuid, 16);
	sb.uuid[6] = (uint8_t)((sb.uuid[6] & 0x0f) | 0x40);
	sb.uuid[8] = (uint8_t)((sb.uuid[8] & 0x3f) | 0x80);
	env_random(env, sb.secret, 16);
	env_random(env, &sb.domain, sizeof sb.domain);
	if (options->log_dir) {
		if (strlen(options->log_dir) >= sizeof sb.log_dir)
			return -ENAMETOOLONG;
		memcpy(sb.log_dir, options->log_dir, strlen(options->log_dir) + 1);
		res = env_dir_open(env, options->log_dir, &log_dir);
		if (res < 0)
			snprintf(sentence, SENTENCE_BYTES,
				 "The folder for the log, %.150s, cannot be opened (%s): make it "
				 "first, on the disk that is to have it.",
				 options->log_dir, vs_strerror(res));
	}
	if (res == 0)
		res = make_log(env, log_dir ? log_dir : dir, sb.log_bytes);
	if (res == 0)
		res = env_dir_make(dir, "seg");
	if (res == 0)
		res = checkpoint_write_first(env, dir, sb.uuid);
	if (res == 0)
		res = env_dir_sync_wait(dir);
	if (res == 0) /* last: without it there is no store */
		res = superblock_write(dir, &sb);
	if (res == 0)
		res = env_dir_sync_wait(dir);
	env_dir_close(log_dir);
	return res;
}

int store_make(struct env *env, const char *path, const struct store_make_options *options,
	       char ret_sentence[SENTENCE_BYTES])
{
	struct env_dir *dir;
	ret_sentence[0] = 0;
	int res = env_dir_open(env, path, &dir);
	if (res == 0) {
		res = store_kind_check(dir, path, options->any_file_system, ret_sentence);
		if (res == 0)
			res = make_in(env, dir, path, options, ret_sentence);
		env_dir_close(dir);
	}
	if (res < 0 && !ret_sentence[0])
		snprintf(ret_sentence, SENTENCE_BYTES, "A store could not be made in %.200s: %s.",
			 path, vs_strerror(res));
	return res;
}
