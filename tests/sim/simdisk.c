/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk keeps, for each file, what is durable, what a reader sees, and the list of
 * writes between the two. A sync makes durable what was done when it was started; ENV_DSYNC only
 * its own write.
 */
#include "tests/sim/simenv_int.h"

#include <stdio.h>

/* ---- what the store asks for ---- */

void change_begins(struct sim *sim)
{
	if (sim->before_change)
		sim->before_change(sim->before_change_arg);
}

void sim_before_change(struct sim *sim, void (*call)(void *arg), void *arg)
{
	sim->before_change = call;
	sim->before_change_arg = arg;
}

/* Folders need not be made, and are told apart by a hash of their path. */
static int sim_dir_open(struct env *env, const char *path, struct env_dir **ret_dir)
{
	struct sim *sim = sim_of(env);
	struct env_dir *dir = malloc(sizeof(*dir));
	*dir = (struct env_dir){.env = env, .folder = 0xcbf29ce484222325u, .next = sim->dirs};
	for (; *path; path++)
		dir->folder = (dir->folder ^ (uint8_t)*path) * 0x100000001b3u; /* FNV-1a */
	sim->dirs = dir;
	*ret_dir = dir;
	return 0;
}

static void sim_dir_close(struct env_dir *dir)
{
	struct env_dir **at = &sim_of(dir->env)->dirs;
	while (*at != dir)
		at = &(*at)->next;
	*at = dir->next;
	free(dir);
}

static struct sim_file *file_find(const struct env_dir *dir, const char *name)
{
	struct sim *sim = sim_of(dir->env);
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used && !sim->files[i].unlinked &&
		    sim->files[i].folder == dir->folder && strcmp(sim->files[i].name, name) == 0)
			return &sim->files[i];
	return NULL;
}

static int sim_dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries, size_t *ret_count)
{
	struct sim *sim = sim_of(dir->env);
	struct env_dir_entry *entries = list_calloc(FILES_MAX, sizeof(*entries));
	size_t count = 0;
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used && !sim->files[i].unlinked &&
		    sim->files[i].folder == dir->folder)
			memcpy(entries[count++].name, sim->files[i].name, 64);
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

static int sim_dir_make(struct env_dir *dir, const char *name)
{
	(void)dir;
	(void)name;
	return 0;
}

uint64_t disk_used(const struct sim *sim)
{
	uint64_t used = 0;
	for (unsigned i = 0; i < FILES_MAX; i++)
		used += sim->files[i].used && !sim->files[i].unlinked ? sim->files[i].bytes : 0;
	return used;
}

static int sim_dir_space(struct env_dir *dir, uint64_t *ret_free_bytes, uint64_t *ret_total_bytes)
{
	struct sim *sim = sim_of(dir->env);
	uint64_t used = disk_used(sim);
	*ret_total_bytes = sim->disk_bytes;
	*ret_free_bytes = used < sim->disk_bytes ? sim->disk_bytes - used : 0;
	return 0;
}

static int sim_dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes)
{
	(void)dir;
	snprintf(ret_name, name_bytes, "ext4");
	return 0;
}

/* A removed file that nobody has open is forgotten when its place is needed: it does not come back
 * then, as chance may have it for any removal. */
static struct sim_file *file_place(struct sim *sim)
{
	struct sim_file *gone = NULL;
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct sim_file *file = &sim->files[i];
		if (!file->used)
			return file;
		if (file->unlinked && !file->handles &&
		    (!gone || (file->unlink_durable && !gone->unlink_durable)))
			gone = file;
	}
	assert(gone);
	file_gone(gone);
	return gone;
}

static int sim_file_open(struct env_dir *dir, const char *name, unsigned flags,
			 struct env_file **ret_file)
{
	struct sim *sim = sim_of(dir->env);
	struct sim_file *file = file_find(dir, name);
	if (file && (flags & ENV_EXCL))
		return -EEXIST;
	if (!file && !(flags & ENV_CREATE))
		return -ENOENT;
	if (!file) {
		change_begins(sim);
		file = file_place(sim);
		*file = (struct sim_file){.used = true,
					  .folder = dir->folder,
					  .now = file_memory(),
					  .durable = file_memory()};
		file->last = &file->writes;
		snprintf(file->name, sizeof file->name, "%s", name);
	}
	struct env_file *handle = malloc(sizeof(*handle));
	*handle = (struct env_file){.env = dir->env, .file = file, .next = sim->handles};
	sim->handles = handle;
	file->handles++;
	*ret_file = handle;
	return 0;
}

static void sim_file_close(struct env_file *file)
{
	struct env_file **at = &sim_of(file->env)->handles;
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
	file->file->handles--;
	free(file);
}
static int64_t sim_file_bytes(struct env_file *file)
{
	return (int64_t)file->file->bytes;
}
static unsigned sim_file_align(struct env_file *file)
{
	(void)file;
	return SECTOR_BYTES;
}

static struct event *file_event(struct env_file *file, enum event_kind kind, struct io_op *op,
				void *buf, uint32_t bytes, uint64_t offset)
{
	struct sim *sim = sim_of(file->env);
	struct event *event = event_add(sim, kind, op, io_delay(sim));
	event->file = file->file;
	event->buf = buf;
	event->bytes = bytes;
	event->offset = offset;
	event->writes_done = sim->writes_done;
	return event;
}

static void sim_file_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
			  uint64_t offset)
{
	file_event(file, EVENT_READ, op, buf, bytes, offset);
}

static void sim_file_write(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
			   uint64_t offset, unsigned flags)
{
	assert(offset + bytes <= FILE_BYTES_MAX && bytes % SECTOR_BYTES == 0 &&
	       offset % SECTOR_BYTES == 0);
	file_event(file, EVENT_WRITE, op, (void *)(uintptr_t)buf, bytes, offset)->flags = flags;
}

static void sim_file_sync(struct env_file *file, struct io_op *op)
{
	file_event(file, EVENT_SYNC, op, NULL, 0, 0);
}

static void sim_file_allocate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	struct sim *sim = sim_of(file->env);
	change_begins(sim);
	if (bytes > file->file->bytes &&
	    disk_used(sim) + bytes - file->file->bytes > sim->disk_bytes) {
		sim->counts.no_space++;
		sim_complete(file->env, op, -ENOSPC);
		return;
	}
	file->file->bytes = max_u64(file->file->bytes, bytes);
	sim_complete(file->env, op, 0);
}

static void sim_file_truncate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	change_begins(sim_of(file->env));
	file->file->differs = true;
	if (bytes < file->file->touched)
		memset(file->file->now + bytes, 0, file->file->touched - bytes);
	file->file->bytes = bytes;
	sim_complete(file->env, op, 0);
}

static void sim_dir_sync(struct env_dir *dir, struct io_op *op)
{
	struct sim *sim = sim_of(dir->env);
	event_add(sim, EVENT_DIR_SYNC, op, io_delay(sim))->offset = dir->folder;
}

void writes_drop(struct sim_file *file)
{
	while (file->writes) {
		struct unsynced *next = file->writes->next;
		free(file->writes);
		file->writes = next;
	}
	file->last = &file->writes;
}

void file_gone(struct sim_file *file)
{
	writes_drop(file);
	file_memory_free(file->now, file->touched);
	file_memory_free(file->durable, file->touched);
	*file = (struct sim_file){0};
}

static void sim_file_remove(struct env_dir *dir, struct io_op *op, const char *name)
{
	struct sim_file *file = file_find(dir, name);
	change_begins(sim_of(dir->env));
	if (file)
		file->unlinked = true;
	sim_complete(dir->env, op, file ? 0 : -ENOENT);
}

static void sim_file_rename(struct env_dir *dir, struct io_op *op, const char *from, const char *to)
{
	struct sim_file *file = file_find(dir, from);
	change_begins(sim_of(dir->env));
	if (file)
		snprintf(file->name, sizeof file->name, "%s", to);
	sim_complete(dir->env, op, file ? 0 : -ENOENT);
}

/* ---- what an event does when it is due ---- */

/* Another place in the file where so much was written, or where it was to go. */
static uint64_t misdirected(struct sim *sim, const struct event *event)
{
	const struct sim_file *file = event->file;
	if (file->high < event->bytes + BLOCK_BYTES)
		return event->offset;
	return sim_random(sim, (file->high - event->bytes) / BLOCK_BYTES) * BLOCK_BYTES;
}

int64_t event_read(struct sim *sim, const struct event *event)
{
	if (sim_chance(sim, sim->faults.read_error)) {
		sim->counts.read_errors++;
		return -EIO;
	}
	uint64_t end = min_u64(event->offset + event->bytes, event->file->bytes);
	uint64_t bytes = end > event->offset ? end - event->offset : 0;
	uint64_t from = event->offset;
	if (sim_chance(sim, sim->faults.misread))
		from = misdirected(sim, event);
	sim->counts.misread += from != event->offset;
	memcpy(event->buf, event->file->now + from, bytes);
	return (int64_t)bytes;
}

/* A later write of the same place that is durable: what is older does not come back. */
static void writes_covered(struct sim_file *file, uint64_t offset, uint32_t bytes)
{
	struct unsynced **at = &file->writes;
	while (*at) {
		struct unsynced *write = *at;
		if (write->offset >= offset && write->offset + write->bytes <= offset + bytes) {
			*at = write->next;
			free(write);
			continue;
		}
		uint64_t from = max_u64(offset, write->offset),
			 to = min_u64(offset + bytes, write->offset + write->bytes);
		if (from < to)
			memcpy(write->data + (from - write->offset), file->now + from, to - from);
		at = &write->next;
	}
	file->last = at;
}

static bool all_zeros(const uint8_t *at, uint32_t bytes)
{
	return bytes && at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0;
}

void file_write(struct sim *sim, const struct event *event)
{
	struct sim_file *file = event->file;
	uint64_t end = event->offset + event->bytes;
	/* Zeros where nothing else ever was: whatever becomes of them, that is what is there. */
	bool blank = event->offset >= file->touched && all_zeros(event->buf, event->bytes);
	file->high = max_u64(file->high, end);
	file->bytes = max_u64(file->bytes, end);
	sim->writes_done++;
	if (event->flags & ENV_DSYNC)
		file->durable_bytes = max_u64(file->durable_bytes, end);
	if (blank)
		return;
	file->touched = max_u64(file->touched, end);
	memcpy(file->now + event->offset, event->buf, event->bytes);
	if (event->flags & ENV_DSYNC) {
		writes_covered(file, event->offset, event->bytes);
		memcpy(file->durable + event->offset, event->buf, event->bytes);
		return;
	}
	struct unsynced *write = malloc(sizeof(*write) + event->bytes);
	*write = (struct unsynced){
		.offset = event->offset, .number = sim->writes_done, .bytes = event->bytes};
	memcpy(write->data, event->buf, event->bytes);
	*file->last = write;
	file->last = &write->next;
}

int64_t event_write(struct sim *sim, const struct event *event)
{
	if (sim_chance(sim, sim->faults.write_error)) {
		sim->counts.write_errors++;
		return -EIO;
	}
	struct event placed = *event;
	if (sim_chance(sim, sim->faults.miswritten))
		placed.offset = misdirected(sim, event);
	sim->counts.miswritten += placed.offset != event->offset;
	file_write(sim, &placed);
	return event->bytes;
}

/* A failed sync loses what it was to make durable, as on Linux: a reader may still see it, a reboot
 * does not. */
int64_t event_sync(struct sim *sim, const struct event *event)
{
	struct sim_file *file = event->file;
	bool failed = sim_chance(sim, sim->faults.sync_error);
	sim->counts.sync_errors += failed;
	file->differs |= failed;
	struct unsynced **at = &file->writes;
	while (*at) {
		struct unsynced *write = *at;
		if (write->number > event->writes_done) {
			at = &write->next;
			continue;
		}
		if (!failed)
			memcpy(file->durable + write->offset, write->data, write->bytes);
		*at = write->next;
		free(write);
	}
	file->last = at;
	if (!failed)
		file->durable_bytes = file->bytes;
	return failed ? -EIO : 0;
}
int64_t event_dir_sync(struct sim *sim, const struct event *event)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used && sim->files[i].folder == event->offset) {
			sim->files[i].entry_durable = true;
			sim->files[i].unlink_durable = sim->files[i].unlinked;
		}
	return 0;
}

void disk_ops_set(struct env_ops *ops)
{
	ops->dir_open = sim_dir_open;
	ops->dir_close = sim_dir_close;
	ops->dir_list = sim_dir_list;
	ops->dir_make = sim_dir_make;
	ops->dir_space = sim_dir_space;
	ops->dir_kind = sim_dir_kind;
	ops->file_open = sim_file_open;
	ops->file_close = sim_file_close;
	ops->file_bytes = sim_file_bytes;
	ops->file_align = sim_file_align;
	ops->file_read = sim_file_read;
	ops->file_write = sim_file_write;
	ops->file_sync = sim_file_sync;
	ops->file_allocate = sim_file_allocate;
	ops->file_truncate = sim_file_truncate;
	ops->dir_sync = sim_dir_sync;
	ops->file_remove = sim_file_remove;
	ops->file_rename = sim_file_rename;
}
