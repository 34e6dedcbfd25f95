/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A world made of one seed: files, clock, worker jobs. Completions come late and out of order,
 * synced data survives a power cut, other data may or may not, sector by sector. The same seed and
 * the same calls give the same run, and the same trace hash.
 */
#ifndef TESTS_SIM_SIMENV_H
#define TESTS_SIM_SIMENV_H

#include "storage/rt/env.h"

struct sim;

/* Chances in 10,000 operations. */
struct sim_faults {
	unsigned read_error, write_error, sync_error;
	unsigned misread, miswritten; /* data comes from, or goes to, another place of the file */
	unsigned slow;		      /* takes up to half a second */
};

/* How often each kind was seen. */
struct sim_counts {
	uint64_t kept, dropped, torn; /* unsynced or unfinished writes at a crash */
	uint64_t lost_files;	      /* whose directory was not synced */
	uint64_t read_errors, write_errors, sync_errors;
	uint64_t no_space, files_back, rotten, misread, miswritten;
	uint64_t overtaken; /* completions that came before an earlier start's */
	uint64_t kills, power_cuts, slow;
};

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *sim);
struct env *sim_env(struct sim *sim);
uint64_t sim_random(struct sim *sim, uint64_t below);
/* The clock goes on by skip_ns in which nothing happens: no event comes nearer, and no timer. The
 * time of day is set by jump_ns besides, ahead or back. */
void sim_clock_move(struct sim *sim, uint64_t skip_ns, int64_t jump_ns);
/* Zeroed memory of the simulated process: gone at the next crash, or with the sim. */
void *sim_process_memory(struct sim *sim, size_t bytes);
void sim_process_memory_free(void *at);
/* The same without zeros, aligned; and how much was asked for. */
void *sim_process_memory_raw(struct sim *sim, size_t bytes, size_t align);
size_t sim_process_memory_bytes(void *at);
/* Of one of several hosts (simnet.h), or of one that says so, a crash leaves the memory, until
 * here.
 */
void sim_process_end(struct sim *sim);
void sim_process_stays(struct sim *sim);
void sim_faults_set(struct sim *sim, const struct sim_faults *faults);
/* What is free on the disk from now on; UINT64_MAX: plenty. */
void sim_disk_room_set(struct sim *sim, uint64_t bytes);
/* One bit flips that was ever written, at `from` or behind it, of a file whose name begins with
 * prefix. */
bool sim_rot(struct sim *sim, const char *prefix, uint64_t from);
/* A file of that name as a reader sees it, in whatever folder; NULL: there is none. Costs no time
 * in the world. */
const uint8_t *sim_file_look(struct sim *sim, const char *name, uint64_t *ret_bytes);
/* One bit of the byte at `offset` of such a file flips. */
void sim_flip(struct sim *sim, const char *name, uint64_t offset);
/* The process is gone, with all that was under way; a power cut also takes what was not synced. The
 * env may be used at once by the next life; old files, ops and timers are forgotten, memory is the
 * caller's to free. */
void sim_crash(struct sim *sim, bool power_cut);

/* The disk as it is, while no process has a file open; and the same disk again. */
struct sim_backup;
struct sim_backup *sim_backup_new(const struct sim *sim);
void sim_backup_restore(struct sim *sim, const struct sim_backup *backup);
void sim_backup_free(struct sim_backup *backup);

/* What becomes of each thing that a crash finds in doubt: a write under way or not synced, a new
 * file or a removal whose folder was not synced, a size. What cannot be torn is dropped then. */
enum sim_fate { SIM_KEPT, SIM_DROPPED, SIM_TORN };
struct sim_crash_plan {
	bool power_cut;
	enum sim_fate fate; /* of all of them ... */
	uint32_t one;	    /* ... but this one, counted from 0; UINT32_MAX: none */
	enum sim_fate fate_of_one;
};
/* As sim_crash, but chosen. Returns how many things were in doubt. */
uint32_t sim_crash_planned(struct sim *sim, const struct sim_crash_plan *plan);
/* Called before anything changes on the disk or becomes durable there: what is on it, and what was
 * answered, is what the last change left. NULL: no longer. */
void sim_before_change(struct sim *sim, void (*call)(void *arg), void *arg);
const struct sim_counts *sim_counts(const struct sim *sim);
uint64_t sim_trace(const struct sim *sim); /* a hash of every event so far */

#endif
