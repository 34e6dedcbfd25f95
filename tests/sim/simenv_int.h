/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the simulated world share: simenv.c has its clock and its events, simdisk.c its
 * files, simcrash.c its ends, simmemory.c the memory that it gives away.
 */
#ifndef TESTS_SIM_SIMENV_INT_H
#define TESTS_SIM_SIMENV_INT_H

#include "tests/sim/simenv.h"

#include "proto/units.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A list is its caller's to free, in a build where callers have memory of their process. */
#ifdef SIM_PROCESS
#include "tests/sim/process_outside.h"
#define list_calloc process_calloc
#else
#define list_calloc calloc
#endif

#define SECTOR_BYTES 512u
#define FILES_MAX 256u
#ifndef FILE_BYTES_MAX
#define FILE_BYTES_MAX (80 * MIB)
#endif
#define TIMERS_MAX 512u
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
	unsigned handles;
	bool unlinked,
		unlink_durable; /* an open handle may still read it; its name may come back */
	uint8_t *now, *durable; /* room for FILE_BYTES_MAX, touched as used */
	uint64_t bytes, durable_bytes;
	uint64_t high;	  /* nothing was ever written from here on */
	uint64_t touched; /* nor anything but zeros from here on */
	bool differs;	  /* now and durable do, not only by the writes between them */
	struct unsynced *writes, **last; /* last: where the next one is linked in */
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
	size_t bytes;
	void *raw; /* what is freed */
	max_align_t data[];
};

struct sim {
	struct env env;
	struct env_ops ops;
	uint64_t random, now_ns, next_number, writes_done, trace;
	uint64_t skipped_ns;   /* the env's clock is so far ahead of now_ns, ... */
	int64_t jumped_ns;     /* ... and the time of day further by this */
	uint64_t completed_ns; /* when the last EVENT_COMPLETE is due */
	struct sim_file files[FILES_MAX];
	struct event *events;
	size_t event_count, event_room;
	struct env_timer *timers[TIMERS_MAX];
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
	bool memory_stays;  /* of the process, behind a crash: sim_process_end */
	struct simnet *net; /* NULL: a world of one host */
	bool (*net_step)(struct simnet *net);
};

static inline struct sim *sim_of(struct env *env)
{
	return (struct sim *)env;
}
static inline bool sim_chance(struct sim *sim, unsigned of_10000)
{
	return of_10000 && sim_random(sim, 10000) < of_10000;
}

/* ---- simenv.c ---- */

struct event *event_add(struct sim *sim, enum event_kind kind, struct io_op *op, uint64_t delay_ns);
uint64_t io_delay(struct sim *sim);
void sim_complete(struct env *env, struct io_op *op, int64_t res);

/* When its next event or timer is due; false: there is none. */
bool sim_due(const struct sim *sim, uint64_t *ret_ns);
bool sim_step_own(struct sim *sim); /* as env_step, of this host alone */

/* ---- simdisk.c ---- */

void disk_ops_set(struct env_ops *ops); /* those that concern files */
uint64_t disk_used(const struct sim *sim);
void change_begins(struct sim *sim);
/* What an event does when it is due; returns its result. */
int64_t event_read(struct sim *sim, const struct event *event);
int64_t event_write(struct sim *sim, const struct event *event);
int64_t event_sync(struct sim *sim, const struct event *event);
int64_t event_dir_sync(struct sim *sim, const struct event *event);
/* A write reaches its file, as event_write without the faults. */
void file_write(struct sim *sim, const struct event *event);
void file_gone(struct sim_file *file);
void writes_drop(struct sim_file *file);

/* ---- simmemory.c ---- */

void *sim_memory(struct env *env, size_t bytes);
void sim_memory_free(struct env *env, void *at, size_t bytes);
/* FILE_BYTES_MAX of zeros; it is given back with zeros from `touched` on. */
uint8_t *file_memory(void);
void file_memory_free(uint8_t *at, uint64_t touched);

#endif
