/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/cut.h"

#include "proto/units.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_BYTES 512u
#define BASES_MAX 32u

struct base {
	char name[64]; /* no name of the one folder is one of the other */
	uint8_t *data;
	uint64_t bytes;
};

struct cutter {
	struct base bases[BASES_MAX];
	unsigned base_count;
	const struct recorder *recorder;
	const struct recorded *events;
	size_t event_count;
	uint64_t *durable_at; /* of each event: from this moment on it is certain */
};

struct disk_file {
	uint8_t *data;
	uint64_t bytes, room;
	bool exists;
};

static uint64_t random_below(uint64_t *seed, uint64_t below)
{
	uint64_t z = (*seed += 0x9e3779b97f4a7c15u); /* splitmix64 (Steele, Lea, Flood 2014) */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void bases_add(struct cutter *cutter, const char *folder)
{
	DIR *dir = opendir(folder);
	assert(dir);
	for (struct dirent *at; (at = readdir(dir));) {
		struct stat info;
		int fd = openat(dirfd(dir), at->d_name, O_RDONLY);
		assert(fd >= 0 && fstat(fd, &info) == 0);
		if (S_ISREG(info.st_mode)) {
			assert(cutter->base_count < BASES_MAX);
			struct base *base = &cutter->bases[cutter->base_count++];
			snprintf(base->name, sizeof base->name, "%.63s", at->d_name);
			base->bytes = (uint64_t)info.st_size;
			base->data = malloc(base->bytes + 1);
			assert(base->data &&
			       pread(fd, base->data, base->bytes, 0) == (ssize_t)base->bytes);
		}
		close(fd);
	}
	closedir(dir);
}

struct cutter *cutter_new(const char *folder)
{
	struct cutter *cutter = calloc(1, sizeof(*cutter));
	char path[700];
	assert(cutter);
	snprintf(path, sizeof path, "%s/seg", folder);
	bases_add(cutter, folder);
	bases_add(cutter, path);
	return cutter;
}

/* Is `sync` what makes `event` durable, when it began after the event had ended? */
static bool makes_durable(const struct recorded *sync, const struct recorded *event)
{
	if (!event->ended || !sync->ended || sync->started < event->ended)
		return false;
	if (event->kind == RECORDED_CREATE || event->kind == RECORDED_REMOVE ||
	    event->kind == RECORDED_RENAME)
		return sync->kind == RECORDED_FOLDER_SYNC && sync->folder == event->folder;
	return sync->kind == RECORDED_SYNC && sync->file == event->file;
}

void cutter_learn(struct cutter *cutter, const struct recorder *recorder)
{
	cutter->recorder = recorder;
	cutter->events = recorder_events(recorder, &cutter->event_count);
	cutter->durable_at = calloc(cutter->event_count + 1, sizeof(uint64_t));
	for (size_t i = 0; i < cutter->event_count; i++) {
		const struct recorded *event = &cutter->events[i];
		uint64_t at = event->kind == RECORDED_WRITE && event->dsync && event->ended
				      ? event->ended
				      : MOMENT_NEVER;
		for (size_t k = i + 1; k < cutter->event_count; k++) {
			if (cutter->events[k].started > at)
				break;
			if (makes_durable(&cutter->events[k], event))
				at = min_u64(at, cutter->events[k].ended);
		}
		cutter->durable_at[i] = at;
	}
}

void cutter_free(struct cutter *cutter)
{
	if (!cutter)
		return;
	for (unsigned i = 0; i < cutter->base_count; i++)
		free(cutter->bases[i].data);
	free(cutter->durable_at);
	free(cutter);
}

static void file_reach(struct disk_file *file, uint64_t bytes)
{
	if (bytes > file->room) {
		file->data = realloc(file->data, bytes);
		assert(file->data);
		memset(file->data + file->room, 0, bytes - file->room);
		file->room = bytes;
	}
	file->bytes = max_u64(file->bytes, bytes);
}

static void write_apply(struct disk_file *file, const struct recorded *event, bool certain,
			uint64_t *seed, struct cut_counts *counts)
{
	uint64_t fate = certain ? 0 : random_below(seed, 3);
	*(certain     ? &counts->synced
	  : fate == 0 ? &counts->kept
	  : fate == 1 ? &counts->dropped
		      : &counts->torn) += 1;
	if (fate == 1)
		return;
	file_reach(file, event->offset_bytes + event->bytes);
	for (uint64_t at = 0; at < event->bytes; at += SECTOR_BYTES)
		if (fate == 0 || random_below(seed, 2))
			memcpy(file->data + event->offset_bytes + at, event->data + at,
			       min_u64(SECTOR_BYTES, event->bytes - at));
}

static void event_apply(const struct recorded *event, struct disk_file *file, bool certain,
			uint64_t *seed, struct cut_counts *counts)
{
	bool happens = certain || random_below(seed, 2);
	switch (event->kind) {
	case RECORDED_CREATE:
		file->exists = happens;
		counts->lost_files += !happens;
		break;
	case RECORDED_WRITE:
		write_apply(file, event, certain, seed, counts);
		break;
	case RECORDED_ALLOCATE:
		if (happens)
			file_reach(file, event->bytes);
		counts->lost_sizes += !happens;
		break;
	case RECORDED_TRUNCATE:
		counts->lost_sizes += !happens;
		if (!happens)
			break;
		file_reach(file, event->bytes);
		memset(file->data + event->bytes, 0, file->room - event->bytes);
		file->bytes = event->bytes;
		break;
	case RECORDED_REMOVE:
		file->exists &= !happens;
		counts->files_back += !happens;
		break;
	case RECORDED_RENAME: /* the store renames nothing */
		assert(!"a rename was recorded");
	case RECORDED_SYNC:
	case RECORDED_FOLDER_SYNC:
		break;
	}
}

static void folder_empty(const char *path)
{
	DIR *dir = opendir(path);
	for (struct dirent *at; dir && (at = readdir(dir));)
		if (at->d_name[0] != '.')
			unlinkat(dirfd(dir), at->d_name, 0);
	if (dir)
		closedir(dir);
}

/* Blocks of zeros are holes. */
static void file_put(const char *path, const struct disk_file *file)
{
	static const uint8_t zeros[BLOCK_BYTES];
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert(fd >= 0 && ftruncate(fd, (off_t)file->bytes) == 0);
	for (uint64_t at = 0; at < file->bytes; at += BLOCK_BYTES) {
		size_t bytes = min_u64(BLOCK_BYTES, file->bytes - at);
		if (memcmp(file->data + at, zeros, bytes) != 0)
			assert(pwrite(fd, file->data + at, bytes, (off_t)at) == (ssize_t)bytes);
	}
	close(fd);
}

void cutter_image(const struct cutter *cutter, uint64_t moment, uint64_t seed, const char *image,
		  struct cut_counts *counts)
{
	uint32_t count = recorder_file_count(cutter->recorder);
	struct disk_file *files = calloc(count + 1, sizeof(*files));
	char path[700];
	snprintf(path, sizeof path, "%s/seg", image);
	folder_empty(image);
	mkdir(path, 0700);
	folder_empty(path);
	for (uint32_t f = 1; f <= count; f++) {
		uint32_t folder;
		const char *name = recorder_file(cutter->recorder, f, &folder);
		for (unsigned b = 0; b < cutter->base_count; b++)
			if (strcmp(cutter->bases[b].name, name) == 0) {
				file_reach(&files[f], cutter->bases[b].bytes);
				memcpy(files[f].data, cutter->bases[b].data,
				       cutter->bases[b].bytes);
				files[f].exists = true;
			}
	}
	for (size_t i = 0; i < cutter->event_count && cutter->events[i].started <= moment; i++)
		event_apply(&cutter->events[i], &files[cutter->events[i].file],
			    cutter->durable_at[i] <= moment, &seed, counts);
	for (uint32_t f = 1; f <= count; f++) {
		uint32_t folder;
		const char *name = recorder_file(cutter->recorder, f, &folder);
		const char *of = recorder_folder(cutter->recorder, folder);
		bool segment = strlen(of) > 4 && strcmp(of + strlen(of) - 4, "/seg") == 0;
		snprintf(path, sizeof path, "%s%s/%s", image, segment ? "/seg" : "", name);
		if (files[f].exists)
			file_put(path, &files[f]);
		free(files[f].data);
	}
	free(files);
}

void cutter_clear(const char *image)
{
	char path[700];
	snprintf(path, sizeof path, "%s/seg", image);
	folder_empty(path);
	rmdir(path);
	folder_empty(image);
	rmdir(image);
}
