/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulated disk keeps, for each file, what is durable, what a reader sees, and the list of
 * writes between the two. A sync makes durable what was done when it was started; ENV_DSYNC only
 * its own write. Everything under way is an event with a due time; a step runs the earliest one.
 */
#include "tests/sim/simenv.h"

#include "proto/units.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SECTOR_BYTES 512u
#define FILES_MAX 256u
#ifndef FILE_BYTES_MAX
#define FILE_BYTES_MAX (80 * MIB)
#endif
#define DISK_BYTES (UINT64_C(1) << 40)

struct unsynced {
	struct unsynced *next;
	uint64_t offset, number;
	uint32_t bytes;
	uint8_t data[];
};

struct sim_file {
	char name[64];
	uint64_t folder; /* a hash of its path */
	bool used, entry_durable;
	bool unlinked,
		unlink_durable; /* an open handle may still read it; its name may come back */
	uint8_t *now, *durable; /* room for FILE_BYTES_MAX, touched as used */
	uint64_t bytes, durable_bytes;
	uint64_t high; /* nothing was ever written from here on */
	bool differs;  /* now and durable do, not only by the writes between them */
	struct unsynced *writes;
};

enum event_kind { EVENT_READ, EVENT_WRITE, EVENT_SYNC, EVENT_DIR_SYNC, EVENT_JOB, EVENT_COMPLETE };

struct event {
	enum event_kind kind;
	uint64_t due_ns, number; /* number: in order of starting */
	struct io_op *op;
	struct sim_file *file;
	void *buf;
	uint64_t offset, writes_done;
	uint32_t bytes;
	unsigned flags;
	int64_t res;
};

struct env_dir {
	struct env *env;
	uint64_t folder;
	struct env_dir *next;
};
struct env_file {
	struct env *env;
	struct sim_file *file;
	struct env_file *next; /* a handle outlives its process: what is left of it closes it */
};

struct process_memory {
	struct process_memory *next, **before;
	max_align_t data[];
};

struct sim {
	struct env env;
	uint64_t random, now_ns, next_number, writes_done, trace;
	struct sim_file files[FILES_MAX];
	struct event *events;
	size_t event_count, event_room;
	struct env_timer *timers[64];
	unsigned timer_count;
	struct process_memory *process_memory;
	struct sim_faults faults;
	struct sim_counts counts;
	uint64_t disk_bytes;
	struct env_dir *dirs;
	struct env_file *handles;
	void (*before_change)(void *arg);
	void *before_change_arg;
	const struct sim_crash_plan *plan; /* while a planned crash is made */
	uint32_t doubts;
};

static struct sim *sim_of(struct env *env)
{
	return (struct sim *)env;
}

/* splitmix64 (Steele, Lea, Flood 2014) */
uint64_t sim_random(struct sim *sim, uint64_t below)
{
	uint64_t z = (sim->random += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static bool sim_chance(struct sim *sim, unsigned of_10000)
{
	return of_10000 && sim_random(sim, 10000) < of_10000;
}

static void sim_note(struct sim *sim, uint64_t value)
{
	sim->trace = (sim->trace ^ value) * 0x100000001b3u; /* FNV-1a by words */
}

static struct event *event_add(struct sim *sim, enum event_kind kind, struct io_op *op,
			       uint64_t delay_ns)
{
	if (sim->event_count == sim->event_room) {
		sim->event_room = sim->event_room ? sim->event_room * 2 : 64;
		sim->events = reallocarray(sim->events, sim->event_room, sizeof(struct event));
		assert(sim->events);
	}
	struct event *event = &sim->events[sim->event_count++];
	*event = (struct event){.kind = kind,
				.op = op,
				.due_ns = sim->now_ns + delay_ns,
				.number = sim->next_number++};
	return event;
}

static uint64_t io_delay(struct sim *sim)
{
	return 1000 + sim_random(sim, sim_random(sim, 8) ? 100000 : 2000000);
}

/* ---- clock, memory, jobs ---- */

static uint64_t sim_now_ns(struct env *env)
{
	return sim_of(env)->now_ns;
}
static uint64_t sim_wall_ns(struct env *env)
{
	return UINT64_C(1700000000000000000) + sim_of(env)->now_ns;
}

static void sim_random_bytes(struct env *env, void *ret, size_t bytes)
{
	for (uint8_t *at = ret; bytes; at++, bytes--)
		*at = (uint8_t)sim_random(sim_of(env), 256);
}

static void sim_timer_stop(struct env *env, struct env_timer *timer)
{
	struct sim *sim = sim_of(env);
	for (unsigned i = 0; i < sim->timer_count; i++)
		if (sim->timers[i] == timer)
			sim->timers[i] = sim->timers[--sim->timer_count];
	timer->heap_index = 0;
}

static void sim_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	struct sim *sim = sim_of(env);
	sim_timer_stop(env, timer);
	assert(sim->timer_count < 64);
	timer->at_ns = sim->now_ns + delay_ns;
	timer->heap_index = 1;
	sim->timers[sim->timer_count++] = timer;
}

/* Large pieces are mapped: zeroed only where they are touched. */
#define MAP_BYTES (128 * KIB)

static void *sim_memory(struct env *env, size_t bytes)
{
	(void)env;
	bytes = round_up(bytes, BLOCK_BYTES);
	if (bytes >= MAP_BYTES) {
		void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0);
		if (at != MAP_FAILED && bytes >= 2 * MIB)
			madvise(at, bytes, MADV_HUGEPAGE);
		return at == MAP_FAILED ? NULL : at;
	}
	void *at = aligned_alloc(BLOCK_BYTES, bytes);
	if (at)
		memset(at, 0, bytes);
	return at;
}

static void sim_memory_free(struct env *env, void *at, size_t bytes)
{
	(void)env;
	bytes = round_up(bytes, BLOCK_BYTES);
	if (bytes >= MAP_BYTES)
		munmap(at, bytes);
	else
		free(at);
}

static void sim_job(struct env *env, struct env_job *job)
{
	event_add(sim_of(env), EVENT_JOB, &job->op, sim_random(sim_of(env), 200000));
}

static unsigned sim_worker_count(struct env *env)
{
	(void)env;
	return 1;
}

static void sim_complete(struct env *env, struct io_op *op, int64_t res)
{
	event_add(sim_of(env), EVENT_COMPLETE, op, 0)->res = res;
}

/* ---- files ---- */

static void change_begins(struct sim *sim)
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
	struct env_dir_entry *entries = calloc(FILES_MAX, sizeof(*entries));
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

static uint64_t disk_used(const struct sim *sim)
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

static int sim_file_open(struct env_dir *dir, const char *name, unsigned flags,
			 struct env_file **ret_file)
{
	struct sim *sim = sim_of(dir->env);
	struct sim_file *file = file_find(dir, name);
	if (file && (flags & ENV_EXCL))
		return -EEXIST;
	if (!file && !(flags & ENV_CREATE))
		return -ENOENT;
	for (unsigned i = 0; !file && i < FILES_MAX; i++) {
		if (sim->files[i].used)
			continue;
		file = &sim->files[i];
		change_begins(sim);
		*file = (struct sim_file){.used = true,
					  .folder = dir->folder,
					  .now = calloc(1, FILE_BYTES_MAX),
					  .durable = calloc(1, FILE_BYTES_MAX)};
		snprintf(file->name, sizeof file->name, "%s", name);
	}
	assert(file);
	struct env_file *handle = malloc(sizeof(*handle));
	*handle = (struct env_file){.env = dir->env, .file = file, .next = sim->handles};
	sim->handles = handle;
	*ret_file = handle;
	return 0;
}

static void sim_file_close(struct env_file *file)
{
	struct env_file **at = &sim_of(file->env)->handles;
	while (*at != file)
		at = &(*at)->next;
	*at = file->next;
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
	if (bytes < file->file->high)
		memset(file->file->now + bytes, 0, file->file->high - bytes);
	file->file->bytes = bytes;
	sim_complete(file->env, op, 0);
}

static void sim_dir_sync(struct env_dir *dir, struct io_op *op)
{
	struct sim *sim = sim_of(dir->env);
	event_add(sim, EVENT_DIR_SYNC, op, io_delay(sim))->offset = dir->folder;
}

static void writes_drop(struct sim_file *file)
{
	while (file->writes) {
		struct unsynced *next = file->writes->next;
		free(file->writes);
		file->writes = next;
	}
}

static void file_gone(struct sim_file *file)
{
	writes_drop(file);
	free(file->now);
	free(file->durable);
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

static int64_t event_read(struct sim *sim, const struct event *event)
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
	for (struct unsynced **at = &file->writes; *at;) {
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
}

static void file_write(struct sim *sim, const struct event *event)
{
	struct sim_file *file = event->file;
	memcpy(file->now + event->offset, event->buf, event->bytes);
	file->high = max_u64(file->high, event->offset + event->bytes);
	file->bytes = max_u64(file->bytes, event->offset + event->bytes);
	sim->writes_done++;
	if (event->flags & ENV_DSYNC) {
		writes_covered(file, event->offset, event->bytes);
		memcpy(file->durable + event->offset, event->buf, event->bytes);
		file->durable_bytes = max_u64(file->durable_bytes, event->offset + event->bytes);
		return;
	}
	struct unsynced *write = malloc(sizeof(*write) + event->bytes);
	*write = (struct unsynced){
		.offset = event->offset, .number = sim->writes_done, .bytes = event->bytes};
	memcpy(write->data, event->buf, event->bytes);
	struct unsynced **at = &file->writes;
	while (*at)
		at = &(*at)->next;
	*at = write;
}

static int64_t event_write(struct sim *sim, const struct event *event)
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
static int64_t event_sync(struct sim *sim, const struct event *event)
{
	struct sim_file *file = event->file;
	bool failed = sim_chance(sim, sim->faults.sync_error);
	sim->counts.sync_errors += failed;
	file->differs |= failed;
	for (struct unsynced **at = &file->writes; *at;) {
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
	if (!failed)
		file->durable_bytes = file->bytes;
	return failed ? -EIO : 0;
}

static int64_t event_run(struct sim *sim, const struct event *event)
{
	switch (event->kind) {
	case EVENT_READ:
		return event_read(sim, event);
	case EVENT_WRITE:
		return event_write(sim, event);
	case EVENT_SYNC:
		return event_sync(sim, event);
	case EVENT_DIR_SYNC:
		for (unsigned i = 0; i < FILES_MAX; i++)
			if (sim->files[i].used && sim->files[i].folder == event->offset) {
				sim->files[i].entry_durable = true;
				sim->files[i].unlink_durable = sim->files[i].unlinked;
			}
		return 0;
	case EVENT_JOB: {
		struct env_job *job =
			(struct env_job *)((char *)event->op - offsetof(struct env_job, op));
		return job->run(job, 0);
	}
	case EVENT_COMPLETE:
		break;
	}
	return event->res;
}

static bool timer_step(struct sim *sim, uint64_t before_ns)
{
	struct env_timer *first = NULL;
	for (unsigned i = 0; i < sim->timer_count; i++)
		if (!first || sim->timers[i]->at_ns < first->at_ns)
			first = sim->timers[i];
	if (!first || first->at_ns > before_ns)
		return false;
	sim->now_ns = max_u64(sim->now_ns, first->at_ns);
	sim_timer_stop(&sim->env, first);
	first->fire(first);
	return true;
}

static bool sim_step(struct env *env, bool wait)
{
	struct sim *sim = sim_of(env);
	size_t first = 0, oldest = 0;
	(void)wait;
	for (size_t i = 1; i < sim->event_count; i++) {
		const struct event *a = &sim->events[i], *b = &sim->events[first];
		if (a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->number < b->number))
			first = i;
		if (a->number < sim->events[oldest].number)
			oldest = i;
	}
	if (timer_step(sim, sim->event_count ? sim->events[first].due_ns : UINT64_MAX))
		return true;
	if (!sim->event_count)
		return false;
	enum event_kind kind = sim->events[first].kind;
	if (kind == EVENT_WRITE || kind == EVENT_SYNC || kind == EVENT_DIR_SYNC)
		change_begins(sim); /* while it is still under way */
	struct event event = sim->events[first];
	sim->counts.overtaken += event.number != sim->events[oldest].number;
	sim->events[first] = sim->events[--sim->event_count];
	sim->now_ns = max_u64(sim->now_ns, event.due_ns);
	event.op->res = event_run(sim, &event);
	sim_note(sim, event.number * 31 + event.kind);
	sim_note(sim, (uint64_t)event.op->res ^ event.offset);
	event.op->done(event.op);
	return true;
}

/* ---- life and crash ---- */

/* What becomes of the next thing that a crash finds in doubt. */
static enum sim_fate fate_next(struct sim *sim)
{
	const struct sim_crash_plan *plan = sim->plan;
	uint32_t number = sim->doubts++;
	if (!plan)
		return (enum sim_fate)sim_random(sim, 3);
	return number == plan->one ? plan->fate_of_one : plan->fate;
}

/* Lets a write reach `to` whole, not at all, or in some of its sectors. */
static void write_survives(struct sim *sim, uint8_t *to, const uint8_t *data, uint64_t offset,
			   uint32_t bytes)
{
	enum sim_fate fate = fate_next(sim);
	if (fate == SIM_KEPT)
		memcpy(to + offset, data, bytes);
	for (uint32_t at = 0; fate == SIM_TORN && at < bytes; at += SECTOR_BYTES)
		if (sim_random(sim, 2))
			memcpy(to + offset + at, data + at, SECTOR_BYTES);
	*(fate == SIM_KEPT	? &sim->counts.kept
	  : fate == SIM_DROPPED ? &sim->counts.dropped
				: &sim->counts.torn) += 1;
}

static void file_power_cut(struct sim *sim, struct sim_file *file)
{
	if (!file->entry_durable && fate_next(sim) != SIM_KEPT) {
		sim->counts.lost_files++;
		file_gone(file);
		return;
	}
	for (struct unsynced *write = file->writes; write; write = write->next)
		write_survives(sim, file->durable, write->data, write->offset, write->bytes);
	for (struct unsynced *write = file->writes; write; write = write->next)
		memcpy(file->now + write->offset, file->durable + write->offset, write->bytes);
	if (file->differs)
		memcpy(file->now, file->durable, file->high);
	file->differs = false;
	writes_drop(file);
	if (file->bytes != file->durable_bytes && fate_next(sim) == SIM_KEPT)
		file->durable_bytes = file->bytes;
	file->bytes = file->durable_bytes;
}

void *sim_process_memory(struct sim *sim, size_t bytes)
{
	struct process_memory *memory = calloc(1, sizeof(*memory) + bytes);
	assert(memory);
	memory->next = sim->process_memory;
	memory->before = &sim->process_memory;
	if (memory->next)
		memory->next->before = &memory->next;
	sim->process_memory = memory;
	return memory->data;
}

void sim_process_memory_free(void *at)
{
	struct process_memory *memory =
		(struct process_memory *)((char *)at - offsetof(struct process_memory, data));
	*memory->before = memory->next;
	if (memory->next)
		memory->next->before = memory->before;
	free(memory);
}

static void process_memory_drop(struct sim *sim)
{
	while (sim->process_memory) {
		struct process_memory *next = sim->process_memory->next;
		free(sim->process_memory);
		sim->process_memory = next;
	}
}

/* A write that was under way: after a kill it is there, or not, or in part; a power cut finds it
 * among what was not synced. */
static void write_interrupted(struct sim *sim, const struct event *event, bool power_cut)
{
	struct event landed = *event;
	uint8_t *merged = malloc(event->bytes), *buf = event->buf;
	memcpy(merged, event->file->now + event->offset, event->bytes);
	if (power_cut)
		memcpy(merged, buf, event->bytes);
	else
		write_survives(sim, merged - event->offset, buf, event->offset, event->bytes);
	landed.buf = merged;
	landed.flags = 0;
	file_write(sim, &landed);
	free(merged);
}

static int event_compare(const void *a, const void *b)
{
	uint64_t x = ((const struct event *)a)->number, y = ((const struct event *)b)->number;
	return x < y ? -1 : x > y;
}

void sim_crash(struct sim *sim, bool power_cut)
{
	*(power_cut ? &sim->counts.power_cuts : &sim->counts.kills) += 1;
	qsort(sim->events, sim->event_count, sizeof(*sim->events), event_compare);
	for (size_t i = 0; i < sim->event_count; i++)
		if (sim->events[i].kind == EVENT_WRITE)
			write_interrupted(sim, &sim->events[i], power_cut);
	process_memory_drop(sim);
	sim->event_count = sim->timer_count = 0;
	for (unsigned i = 0; i < FILES_MAX; i++) {
		struct sim_file *file = &sim->files[i];
		if (!file->used)
			continue;
		bool back = power_cut && file->unlinked && !file->unlink_durable &&
			    fate_next(sim) == SIM_DROPPED;
		if (file->unlinked && !back) {
			file_gone(file);
			continue;
		}
		sim->counts.files_back += file->unlinked;
		file->unlinked = false;
		if (power_cut)
			file_power_cut(sim, file);
	}
}

uint32_t sim_crash_planned(struct sim *sim, const struct sim_crash_plan *plan)
{
	sim->plan = plan;
	sim->doubts = 0;
	sim_crash(sim, plan->power_cut);
	sim->plan = NULL;
	return sim->doubts;
}

static const struct env_ops sim_ops = {
	.now_ns = sim_now_ns,
	.wall_ns = sim_wall_ns,
	.random = sim_random_bytes,
	.timer_start = sim_timer_start,
	.timer_stop = sim_timer_stop,
	.memory = sim_memory,
	.memory_lazy = sim_memory,
	.memory_free = sim_memory_free,
	.dir_open = sim_dir_open,
	.dir_close = sim_dir_close,
	.dir_list = sim_dir_list,
	.dir_make = sim_dir_make,
	.dir_space = sim_dir_space,
	.dir_kind = sim_dir_kind,
	.file_open = sim_file_open,
	.file_close = sim_file_close,
	.file_bytes = sim_file_bytes,
	.file_align = sim_file_align,
	.file_read = sim_file_read,
	.file_write = sim_file_write,
	.file_sync = sim_file_sync,
	.file_allocate = sim_file_allocate,
	.file_truncate = sim_file_truncate,
	.dir_sync = sim_dir_sync,
	.file_remove = sim_file_remove,
	.file_rename = sim_file_rename,
	.job = sim_job,
	.worker_count = sim_worker_count,
	.complete = sim_complete,
	.post = NULL,
	.step = sim_step,
};

struct sim *sim_new(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	sim->env.ops = &sim_ops;
	sim->random = seed * 0x2545f4914f6cdd1du + 1;
	sim->disk_bytes = DISK_BYTES;
	return sim;
}

void sim_free(struct sim *sim)
{
	for (unsigned i = 0; i < FILES_MAX; i++)
		if (sim->files[i].used)
			file_gone(&sim->files[i]);
	process_memory_drop(sim);
	while (sim->handles)
		sim_file_close(sim->handles);
	while (sim->dirs)
		sim_dir_close(sim->dirs);
	free(sim->events);
	free(sim);
}

struct env *sim_env(struct sim *sim)
{
	return &sim->env;
}
void sim_disk_room_set(struct sim *sim, uint64_t bytes)
{
	sim->disk_bytes = bytes == UINT64_MAX ? DISK_BYTES : disk_used(sim) + bytes;
}

/* A byte that is durable, of a file whose name begins so, changes. */
bool sim_rot(struct sim *sim, const char *prefix, uint64_t from)
{
	for (unsigned tries = 0; tries < 200; tries++) {
		struct sim_file *file = &sim->files[sim_random(sim, FILES_MAX)];
		if (!file->used || file->unlinked ||
		    strncmp(file->name, prefix, strlen(prefix)) != 0 || file->high <= from)
			continue;
		uint64_t at = from + sim_random(sim, file->high - from);
		file->now[at] ^= 0x40;
		file->durable[at] ^= 0x40;
		sim->counts.rotten++;
		return true;
	}
	return false;
}

void sim_faults_set(struct sim *sim, const struct sim_faults *faults)
{
	sim->faults = *faults;
}
const struct sim_counts *sim_counts(const struct sim *sim)
{
	return &sim->counts;
}
uint64_t sim_trace(const struct sim *sim)
{
	return sim->trace;
}
