/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An open store: what every file of storage/store may reach.
 *
 * One reactor thread owns all of it; worker threads see only the buffers of their job.
 *
 *   a write:  write.c -> (put.c -> segments.c) -> log.c -> catalog.c, layer.c
 *   a read:   read.c -> layer.c, map.c -> fetch.c -> segments.c
 *   behind:   fold.c turns a frozen layer into map nodes; checkpoint.c lets the log's tail follow
 *
 * State changes only in catalog_apply, when a record's commit is done, in the log's order; replay
 * calls the same function in the same order.
 */
#ifndef STORAGE_STORE_STORE_INT_H
#define STORAGE_STORE_STORE_INT_H

#include "storage/store/history.h"
#include "storage/store/objects.h"
#include "storage/store/store_list.h"
#include "storage/store/superblock.h"

#include <assert.h>
#include <errno.h>

struct store {
	struct env *env;
	struct store_options options;
	struct superblock sb;
	struct upgrade *upgrade; /* one is under way */
	char path[512];
	struct env_dir *dir, *seg_dir, *log_dir;
	struct env_file *lock_file, *log_file;
	struct codec *codec;
	struct index *index;
	struct cache *cache;
	void *cache_area;
	size_t cache_area_bytes;
	struct layer_pool *layer_pool;
	struct log *log;
	struct log_owner log_owner;
	struct node_cache *nodes;

	struct segment_set *segment_set;
	struct fetches *fetches;
	struct heals *heals;
	struct tap *tap;
	struct mandates *mandates;
	struct puts *puts;
	struct writes *writes;
	struct reads *reads;
	struct prefetch *prefetch;
	struct fold *fold;
	struct pace *pace;
	struct checkpoint *checkpoint;
	struct index_load *index_load; /* NULL: all of the index is in memory */
	struct index_writer *index_writer;
	uint64_t index_generation; /* of the newest whole file, 0: none */
	struct works *works;
	struct gc *gc; /* the one that runs: two marks would spoil each other */
	uint64_t age_base_ns, age_opened_ns; /* see store_age_ns */
	struct history history;
	struct scrub *scrub;
	struct gc_need *gc_need;
	struct census *census;
	struct usage *usage;
	struct freed trash_freed;
	uint64_t roots_gone;  /* what maps named may be garbage now: how often, since opening */
	uint64_t compactions; /* begun and ended: the index and the segments differ meanwhile */
	/* Reads of chunks under way, by the turn in which they began: a collection waits for those
	 * that may hold ids of what it found dead. */
	uint32_t readers[2];
	bool read_turn;

	struct volume **volumes;
	uint32_t volume_count;
	struct snapshot **snapshots;
	uint32_t snapshot_count;
	struct domain domains[DOMAINS_MAX];
	uint32_t domain_count;
	struct peer peers[PEERS_MAX];
	uint32_t peer_count;
	struct policy policies[POLICIES_MAX];
	uint32_t policy_count;
	struct follower followers[FOLLOWERS_MAX];
	uint32_t follower_count;
	struct ballot **ballots;
	uint32_t ballot_count;
	char host[NAME_ROOM]; /* store_set_host */
	uint32_t next_number; /* of volumes and snapshots, never used twice */
	uint64_t next_segment_id;
	struct layer *zombies;	   /* dropped, but being read */
	uint32_t reserved_entries; /* of the layer pool, for records on their way */
	bool fold_all;		   /* room is short: fold whatever there is */
	struct admins *admins;

	uint64_t disk_free_bytes, disk_total_bytes, segment_bytes, polled_segment_bytes;
	uint32_t lost_segments;
	struct env_timer tick;
	bool read_only, failed, closing, started;
	char reason[SENTENCE_BYTES];
	struct store_counters counters;
	uint32_t requests; /* under way */
};

/* An error from the disk: nothing is written any more, and the reason is told. */
void store_fail(struct store *store, int res, const char *what);
/* How long the store has been open in its life: the only time by which anything is removed. It goes
 * at the pace of the machine's uptime, whatever the clock is set to, is kept in checkpoints, and
 * stands still while the store is closed: what is due may come later, never earlier. */
uint64_t store_age_ns(const struct store *store);
void store_poll_space(struct store *store);
/* make.c: -EOPNOTSUPP, and the sentence: the directory lies on what does not keep a store's
 * promises, unless any is taken. */
int store_kind_check(struct env_dir *dir, const char *path, bool any, char *sentence);

#endif
