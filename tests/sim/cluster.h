/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of sim_cluster: three hosts, each with a store, its connections (storage/repl, in the
 * clear) and its followers (storage/daemon/follow.c), three volumes, their guests and their model.
 */
#ifndef TESTS_SIM_CLUSTER_H
#define TESTS_SIM_CLUSTER_H

#include "proto/err.h"
#include "proto/units.h"
#include "storage/daemon/follow.h"
#include "storage/repl/repl.h"
#include "storage/store/store_list.h"
#include "storage/store/store_vote.h"
#include "storage/store/store_work.h"
#include "tests/sim/cluster_model.h"
#include "tests/sim/fail.h"
#include "tests/sim/seeds.h"
#include "tests/sim/simnet.h"

#include "tests/sim/process.h"
#include "tests/sim/process_outside.h"

#include <errno.h>

#define HOSTS 3u
#define VOLUMES 3u
#define BLOCKS 256u
#define VOLUME_BYTES (BLOCKS * (uint64_t)BLOCK_BYTES)
#define PROMISES 6u
#define UNDER_WAY_MAX 12u /* requests of a volume */

/* A snapshot that was sent; `kept`: the peer said that it has it. */
struct promise {
	bool used, kept;
	unsigned volume, from, to;
	char name[NAME_ROOM];
	uint64_t values[BLOCKS];
};

struct host {
	struct cluster *cluster;
	struct sim *sim;
	struct env *env;
	unsigned number;
	struct store *store; /* NULL: no process runs */
	struct repl *repl;
	struct follows *follows;
	bool stopped, ill, leaving, power_cut;
	uint64_t back_ns; /* it comes back then, or goes on */
	struct sim_backup *backup;
	uint64_t backup_epoch[VOLUMES], backup_vseq[VOLUMES];
	bool backup_votes[VOLUMES];    /* a word of the volume is in it */
	uint64_t opened_ns, forgot_ns; /* its store; one from a backup */
};

struct volume {
	struct cluster_model model;
	unsigned primary;
	struct view *view; /* of its guests; NULL: there are none now */
	bool in_step[HOSTS];
	bool sure[HOSTS]; /* a flush since it is in step was answered */
	bool doubted; /* whether its primary is older than a copy that was in step is looked at */
	uint64_t given_up_ns[HOSTS];
	bool accepted;	  /* what a copy elsewhere may have was given up */
	uint64_t written; /* when the first write of this primary was answered */
	unsigned under_way[HOSTS];

	/* Of those that have voters (cluster_voters.c). */
	bool voted;
	uint8_t uuid[16];
	bool copy[HOSTS];	 /* it is to have one; else it is a witness */
	bool elected[HOSTS];	 /* perhaps; and has not answered since */
	struct view *old[HOSTS]; /* of who was the primary, and has the volume still */
	uint32_t number[HOSTS];
	uint64_t generation; /* of primaries: what an older one was asked says nothing */
	uint64_t term, seq;  /* of the last word that stood */
	unsigned term_owner, in_step_mask;
	struct attempt {	       /* somebody wants to be the primary */
		struct trying *trying; /* NULL: nobody */
		unsigned host;
		bool ended, agreed;
		int res;
		char copy[NAME_ROOM];
	} attempt;
};

struct cluster {
	struct simnet *net;
	struct host hosts[HOSTS];
	struct volume volumes[VOLUMES];
	struct promise promises[PROMISES];
	uint64_t links_back_ns;
	unsigned snapshots;
	bool voting; /* some of its volumes have voters */
	const char *wrong;
};

struct cluster_totals {
	uint64_t seeds, writes, reads, flushes, flushes_in_step, kills, power_cuts, stops, restarts,
		links_down, cuts, ill, sends, published, promotions, promotions_in_step, returned,
		held_flushes, restored, restored_again, stale_accepted, live_backups, given_up,
		site_cuts, in_step, cuts_sent, kept_promises, yielded, fenced_kept, earlier_reigns,
		restored_voters, forgot, lanes;
	/* Of volumes with voters. */
	uint64_t witnessed, three_copies, elections, elected, no_majority, too_late, not_asked,
		left_out_refused, overridden, primaries, renewals, exclusions, taken_in,
		witness_down, cut_off, old_asked, old_left, unanswered, flushes_voted;
	struct sim_counts faults;
	struct simnet_counts network;
};
extern struct cluster_totals totals;
extern const char *const cluster_hosts[HOSTS], *const cluster_volumes[VOLUMES];

/* Functions that return a sentence return NULL when all is well. Waits run the whole world. */

/* ---- cluster_world.c: hosts ---- */

const char *cluster_make(struct cluster *cluster);
void cluster_free(struct cluster *cluster);
/* Its process is what the calls that follow are of. */
void host_enter(struct host *host);
bool host_runs(const struct host *host);
/* With its guests' volumes looked at. */
const char *host_open(struct host *host, bool check);
void host_crash(struct host *host, bool power_cut);
const char *host_close(struct host *host);
#define HOST_DO(host, call, name, ...)                                                             \
	({                                                                                         \
		struct admin_op op_ = {0};                                                         \
		host_enter(host);                                                                  \
		env_wait_prepare(&op_.op);                                                         \
		call((host)->store, &op_, name, ##__VA_ARGS__);                                    \
		int res_ = (int)env_wait((host)->env, &op_.op);                                    \
		if (res_ < 0)                                                                      \
			snprintf(failure, sizeof failure, "%s", op_.sentence);                     \
		res_;                                                                              \
	})
/* -ENOENT: there is none of that name. */
int host_volume(struct host *host, const char *name, struct volume_info *ret);
/* All of "NAME" or "NAME@SNAP" there. */
int host_read(struct host *host, const char *name, uint8_t *image);
/* Its writes and syncs fail at times, and its reads, if they are to. */
void host_disk_ill(struct host *host, bool reads);
/* host_read, of the store: an ill disk fails no read meanwhile. */
int host_read_well(struct host *host, const char *name, uint8_t *image);
/* Others follow the volume from now on. */
const char *volume_follow(struct cluster *cluster, unsigned volume);
const char *cluster_pass(struct cluster *cluster, uint64_t ns);

/* ---- cluster_guests.c ---- */

void guest_write(struct cluster *cluster, unsigned volume);
void guest_read(struct cluster *cluster, unsigned volume);
void guest_flush(struct cluster *cluster, unsigned volume);
/* The same of a host that was its primary: nothing that may be answered. */
void guest_ask_old(struct cluster *cluster, unsigned volume, unsigned host);

/* ---- cluster_primaries.c: who is the primary changes ---- */

/* It dies; a copy takes its place; it comes back as it was. */
const char *primary_lost(struct cluster *cluster);
/* One from a backup: of a restart, or of a host that ran. */
const char *restart(struct host *host);
const char *backup_live(struct host *host);
const char *restored(struct cluster *cluster);
/* Copies that refuse what goes on without what was given up are deleted. */
const char *person_decides(struct cluster *cluster);

const char *trash_purge(struct host *host);

/* ---- cluster_voters.c ---- */

/* A new volume has voters from now on. */
const char *volume_vote(struct cluster *cluster, unsigned volume);
/* After each step: how elections go on, and who answers. */
const char *voters_look(struct cluster *cluster);
void voters_gone(struct host *host);
const char *voters_back(struct host *host);
/* Volumes of those that are the primary no more are deleted. */
const char *voters_person(struct cluster *cluster);
const char *voters_elect(struct cluster *cluster, unsigned volume);
const char *voters_left_out(struct cluster *cluster);
/* It may come back from a backup: what it has lost is known to others, who are there. */
bool voters_may_restore(const struct host *host);
/* Nobody takes itself for an owner by what its backup would agree to. */
bool voters_all_heard(const struct host *host);
void voters_ask_old(struct cluster *cluster, unsigned volume);
/* Each is whole, and at one place. */
bool voters_near(struct cluster *cluster, char *ret_away, size_t room);

/* ---- cluster_fate.c: what happens to hosts and volumes ---- */

uint64_t pick(struct cluster *cluster, uint64_t below);
/* No write or read is under way; false: they do not end. */
bool guests_quiet(struct cluster *cluster, const struct volume *volume);
const char *fate(struct cluster *cluster);
/* Links that are up again by now, and hosts that are back; all: whatever was in store for them. */
const char *fate_back(struct cluster *cluster, bool all);

/* ---- cluster_scene.c: what happens by no chance; an exit code ---- */

int cluster_scene(void);

/* ---- cluster_end.c: all is the same everywhere ---- */

const char *cluster_end(struct cluster *cluster);

#endif
