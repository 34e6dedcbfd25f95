/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and folders are wrapped, so that their operations come here; sockets, timers and jobs are
 * the inner env's own. An operation is started with an op of ours around the caller's; its end is
 * noted before the caller's done runs, so that whatever the caller answers comes after it.
 */
#include "storage/rt/recorder.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recorder {
	struct env env; /* first */
	struct env *inner;
	uint64_t now;
	struct recorded *events;
	size_t count, room;
	uint32_t folders, files;
	struct known {
		char name[64];
		uint32_t folder, file;
	} * known; /* files by name, those that exist */
	size_t known_count;
	struct known *first_names; /* by file - 1 */
	struct folder {
		char path[512];
	} * paths;
};

/* What the caller has instead of the inner env's objects. */
struct recorder_dir {
	struct env *env; /* first */
	struct env_dir *inner;
	uint32_t folder;
};
struct recorder_file {
	struct env *env; /* first */
	struct env_file *inner;
	uint32_t folder, file;
};

struct recorder_op {
	struct io_op op; /* first */
	struct recorder *recorder;
	struct io_op *outer;
	size_t event;
};

static struct recorder *recorder_of(struct env *env)
{
	return (struct recorder *)env;
}

static void *room_for(void *at, size_t count, size_t bytes)
{
	at = reallocarray(at, count, bytes);
	assert(at); /* a test without memory */
	return at;
}

static struct recorded *event_add(struct recorder *recorder, enum recorded_kind kind,
				  uint32_t folder, uint32_t file)
{
	if (recorder->count == recorder->room) {
		recorder->room = recorder->room ? 2 * recorder->room : 1024;
		recorder->events =
			room_for(recorder->events, recorder->room, sizeof(struct recorded));
	}
	struct recorded *event = &recorder->events[recorder->count++];
	*event = (struct recorded){
		.kind = kind, .folder = folder, .file = file, .started = ++recorder->now};
	return event;
}

static void op_done(struct io_op *op)
{
	struct recorder_op *own = (struct recorder_op *)op;
	struct io_op *outer = own->outer;
	if (op->res >= 0)
		own->recorder->events[own->event].ended = ++own->recorder->now;
	outer->res = op->res;
	free(own);
	outer->done(outer);
}

/* Around the caller's op, for the event that was added last. */
static struct io_op *op_wrap(struct recorder *recorder, struct io_op *outer)
{
	struct recorder_op *own = room_for(NULL, 1, sizeof(*own));
	*own = (struct recorder_op){.op.done = op_done,
				    .recorder = recorder,
				    .outer = outer,
				    .event = recorder->count - 1};
	return &own->op;
}

/* ---- what passes through ---- */

static uint64_t through_now_ns(struct env *env)
{
	return env_now_ns(recorder_of(env)->inner);
}
static uint64_t through_wall_ns(struct env *env)
{
	return env_wall_ns(recorder_of(env)->inner);
}
static void through_random(struct env *env, void *ret, size_t bytes)
{
	env_random(recorder_of(env)->inner, ret, bytes);
}
static void through_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	env_timer_start(recorder_of(env)->inner, timer, delay_ns);
}
static void through_timer_stop(struct env *env, struct env_timer *timer)
{
	env_timer_stop(recorder_of(env)->inner, timer);
}
static void *through_memory(struct env *env, size_t bytes)
{
	return env_memory(recorder_of(env)->inner, bytes);
}
static void *through_memory_lazy(struct env *env, size_t bytes)
{
	return env_memory_lazy(recorder_of(env)->inner, bytes);
}
static void through_memory_free(struct env *env, void *at, size_t bytes)
{
	env_memory_free(recorder_of(env)->inner, at, bytes);
}
static int through_listen_unix(struct env *env, const char *path, unsigned mode, int64_t group,
			       struct env_listener **ret_listener)
{
	return env_listen_unix(recorder_of(env)->inner, path, mode, group, ret_listener);
}
static int through_listen_tcp(struct env *env, const char *address,
			      struct env_listener **ret_listener)
{
	return env_listen_tcp(recorder_of(env)->inner, address, ret_listener);
}
static void through_job(struct env *env, struct env_job *job)
{
	env_job(recorder_of(env)->inner, job);
}
static unsigned through_worker_count(struct env *env)
{
	return env_worker_count(recorder_of(env)->inner);
}
static void through_complete(struct env *env, struct io_op *op, int64_t res)
{
	env_complete(recorder_of(env)->inner, op, res);
}
static void through_post(struct env *env, struct io_op *op)
{
	env_post(recorder_of(env)->inner, op);
}
static bool through_step(struct env *env, bool wait)
{
	return env_step(recorder_of(env)->inner, wait);
}

/* ---- folders ---- */

static int dir_open(struct env *env, const char *path, struct env_dir **ret_dir)
{
	struct recorder *recorder = recorder_of(env);
	struct env_dir *inner;
	int res = env_dir_open(recorder->inner, path, &inner);
	if (res < 0)
		return res;
	uint32_t folder = 0;
	while (folder < recorder->folders && strcmp(recorder->paths[folder].path, path) != 0)
		folder++;
	if (folder == recorder->folders) {
		recorder->paths =
			room_for(recorder->paths, ++recorder->folders, sizeof(*recorder->paths));
		snprintf(recorder->paths[folder].path, sizeof recorder->paths->path, "%s", path);
	}
	struct recorder_dir *dir = room_for(NULL, 1, sizeof(*dir));
	*dir = (struct recorder_dir){.env = env, .inner = inner, .folder = folder};
	*ret_dir = (struct env_dir *)dir;
	return 0;
}
static void dir_close(struct env_dir *dir)
{
	env_dir_close(((struct recorder_dir *)dir)->inner);
	free(dir);
}
static int dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries, size_t *ret_count)
{
	return env_dir_list(((struct recorder_dir *)dir)->inner, ret_entries, ret_count);
}
static int dir_make(struct env_dir *dir, const char *name)
{
	return env_dir_make(((struct recorder_dir *)dir)->inner, name);
}
static int dir_space(struct env_dir *dir, uint64_t *ret_free_bytes, uint64_t *ret_total_bytes)
{
	return env_dir_space(((struct recorder_dir *)dir)->inner, ret_free_bytes, ret_total_bytes);
}
static int dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes)
{
	return env_dir_kind(((struct recorder_dir *)dir)->inner, ret_name, name_bytes);
}
static void dir_sync(struct env_dir *dir, struct io_op *op)
{
	struct recorder_dir *own = (struct recorder_dir *)dir;
	struct recorder *recorder = recorder_of(own->env);
	event_add(recorder, RECORDED_FOLDER_SYNC, own->folder, 0);
	env_dir_sync(own->inner, op_wrap(recorder, op));
}

static struct known *known_find(struct recorder *recorder, uint32_t folder, const char *name)
{
	for (size_t i = 0; i < recorder->known_count; i++)
		if (recorder->known[i].folder == folder &&
		    strcmp(recorder->known[i].name, name) == 0)
			return &recorder->known[i];
	return NULL;
}

static void file_remove(struct env_dir *dir, struct io_op *op, const char *name)
{
	struct recorder_dir *own = (struct recorder_dir *)dir;
	struct recorder *recorder = recorder_of(own->env);
	struct known *known = known_find(recorder, own->folder, name);
	struct recorded *event =
		event_add(recorder, RECORDED_REMOVE, own->folder, known ? known->file : 0);
	snprintf(event->name, sizeof event->name, "%s", name);
	if (known)
		*known = recorder->known[--recorder->known_count];
	env_file_remove(own->inner, op_wrap(recorder, op), name);
}

static void file_rename(struct env_dir *dir, struct io_op *op, const char *from, const char *to)
{
	struct recorder_dir *own = (struct recorder_dir *)dir;
	struct recorder *recorder = recorder_of(own->env);
	struct known *known = known_find(recorder, own->folder, from);
	struct recorded *event =
		event_add(recorder, RECORDED_RENAME, own->folder, known ? known->file : 0);
	snprintf(event->name, sizeof event->name, "%s", from);
	snprintf(event->new_name, sizeof event->new_name, "%s", to);
	if (known)
		snprintf(known->name, sizeof known->name, "%s", to);
	env_file_rename(own->inner, op_wrap(recorder, op), from, to);
}

/* ---- files ---- */

static int file_open(struct env_dir *dir, const char *name, unsigned flags,
		     struct env_file **ret_file)
{
	struct recorder_dir *own = (struct recorder_dir *)dir;
	struct recorder *recorder = recorder_of(own->env);
	struct env_file *inner;
	bool was = true;
	int res =
		env_file_open(own->inner, name, flags & ~(unsigned)(ENV_CREATE | ENV_EXCL), &inner);
	if (res == 0 && (flags & ENV_EXCL)) {
		env_file_close(inner);
		return -EEXIST;
	}
	if (res == -ENOENT && (flags & ENV_CREATE)) {
		was = false;
		res = env_file_open(own->inner, name, flags, &inner);
	}
	if (res < 0)
		return res;
	struct known *known = known_find(recorder, own->folder, name);
	if (!known) {
		recorder->known = room_for(recorder->known, ++recorder->known_count,
					   sizeof(*recorder->known));
		known = &recorder->known[recorder->known_count - 1];
		*known = (struct known){.folder = own->folder, .file = ++recorder->files};
		snprintf(known->name, sizeof known->name, "%s", name);
		recorder->first_names =
			room_for(recorder->first_names, recorder->files, sizeof(*known));
		recorder->first_names[recorder->files - 1] = *known;
	}
	if (!was) {
		struct recorded *event =
			event_add(recorder, RECORDED_CREATE, own->folder, known->file);
		snprintf(event->name, sizeof event->name, "%s", name);
		event->ended = ++recorder->now;
	}
	struct recorder_file *file = room_for(NULL, 1, sizeof(*file));
	*file = (struct recorder_file){
		.env = own->env, .inner = inner, .folder = own->folder, .file = known->file};
	*ret_file = (struct env_file *)file;
	return 0;
}
static void file_close(struct env_file *file)
{
	env_file_close(((struct recorder_file *)file)->inner);
	free(file);
}
static int64_t file_bytes(struct env_file *file)
{
	return env_file_bytes(((struct recorder_file *)file)->inner);
}
static unsigned file_align(struct env_file *file)
{
	return env_file_align(((struct recorder_file *)file)->inner);
}
static void file_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
		      uint64_t offset)
{
	env_file_read(((struct recorder_file *)file)->inner, op, buf, bytes, offset);
}

static struct io_op *file_event(struct env_file *file, struct io_op *op, enum recorded_kind kind,
				uint64_t offset, uint64_t bytes)
{
	struct recorder_file *own = (struct recorder_file *)file;
	struct recorder *recorder = recorder_of(own->env);
	struct recorded *event = event_add(recorder, kind, own->folder, own->file);
	event->offset_bytes = offset;
	event->bytes = bytes;
	return op_wrap(recorder, op);
}

static void file_write(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
		       uint64_t offset, unsigned flags)
{
	struct recorder_file *own = (struct recorder_file *)file;
	struct io_op *wrapped = file_event(file, op, RECORDED_WRITE, offset, bytes);
	struct recorder *recorder = recorder_of(own->env);
	struct recorded *event = &recorder->events[recorder->count - 1];
	event->dsync = flags & ENV_DSYNC;
	event->data = room_for(NULL, bytes, 1);
	memcpy(event->data, buf, bytes);
	env_file_write(own->inner, wrapped, buf, bytes, offset, flags);
}
static void file_sync(struct env_file *file, struct io_op *op)
{
	env_file_sync(((struct recorder_file *)file)->inner,
		      file_event(file, op, RECORDED_SYNC, 0, 0));
}
static void file_allocate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	env_file_allocate(((struct recorder_file *)file)->inner,
			  file_event(file, op, RECORDED_ALLOCATE, 0, bytes), bytes);
}
static void file_truncate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	env_file_truncate(((struct recorder_file *)file)->inner,
			  file_event(file, op, RECORDED_TRUNCATE, 0, bytes), bytes);
}

/* accept, recv and the rest are not here: sockets belong to the inner env, which their calls reach
 * by themselves. */
static const struct env_ops recorder_ops = {
	.now_ns = through_now_ns,
	.wall_ns = through_wall_ns,
	.random = through_random,
	.timer_start = through_timer_start,
	.timer_stop = through_timer_stop,
	.memory = through_memory,
	.memory_lazy = through_memory_lazy,
	.memory_free = through_memory_free,
	.dir_open = dir_open,
	.dir_close = dir_close,
	.dir_list = dir_list,
	.dir_make = dir_make,
	.dir_space = dir_space,
	.dir_kind = dir_kind,
	.file_open = file_open,
	.file_close = file_close,
	.file_bytes = file_bytes,
	.file_align = file_align,
	.file_read = file_read,
	.file_write = file_write,
	.file_sync = file_sync,
	.file_allocate = file_allocate,
	.file_truncate = file_truncate,
	.dir_sync = dir_sync,
	.file_remove = file_remove,
	.file_rename = file_rename,
	.listen_unix = through_listen_unix,
	.listen_tcp = through_listen_tcp,
	.job = through_job,
	.worker_count = through_worker_count,
	.complete = through_complete,
	.post = through_post,
	.step = through_step,
};

struct recorder *recorder_new(struct env *inner)
{
	struct recorder *recorder = calloc(1, sizeof(*recorder));
	if (!recorder)
		return NULL;
	recorder->env.ops = &recorder_ops;
	recorder->inner = inner;
	return recorder;
}

void recorder_free(struct recorder *recorder)
{
	if (!recorder)
		return;
	for (size_t i = 0; i < recorder->count; i++)
		free(recorder->events[i].data);
	free(recorder->events);
	free(recorder->known);
	free(recorder->first_names);
	free(recorder->paths);
	free(recorder);
}

struct env *recorder_env(struct recorder *recorder)
{
	return &recorder->env;
}

uint64_t recorder_now(const struct recorder *recorder)
{
	return recorder->now;
}

const struct recorded *recorder_events(const struct recorder *recorder, size_t *ret_count)
{
	*ret_count = recorder->count;
	return recorder->events;
}

const char *recorder_folder(const struct recorder *recorder, uint32_t folder)
{
	return recorder->paths[folder].path;
}

const char *recorder_file(const struct recorder *recorder, uint32_t file, uint32_t *ret_folder)
{
	*ret_folder = recorder->first_names[file - 1].folder;
	return recorder->first_names[file - 1].name;
}

uint32_t recorder_file_count(const struct recorder *recorder)
{
	return recorder->files;
}
