/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a store, its tick, and how it fails.
 *
 * Opening: superblock, lock, checkpoint, log, segments, in this order; nothing is written before
 * all of it was understood. Closing: what is under way ends, segments are sealed, a checkpoint is
 * written; a store that was not closed opens the same way, only later.
 */
#include "storage/store/store_int.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/cache.h"
#include "storage/store/catalog.h"
#include "storage/store/fetch.h"
#include "storage/store/heal.h"
#include "storage/store/index_file.h"
#include "storage/store/map.h"
#include "storage/store/pace.h"
#include "storage/store/prefetch.h"
#include "storage/store/put.h"
#include "storage/store/requests.h"
#include "storage/store/segments_int.h"
#include "storage/store/tap.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_NS NSEC_PER_SEC
#define POOL_EXTRA 65536u /* entries for chunks that have no block in the log */
#define CLOSE_PASSES_MAX 10000000u
#define STILL_PASSES 1000u /* a real ring may wake for nothing; then all is still */

/* ---- failure and space ---- */

void store_fail(struct store *store, int res, const char *what)
{
	if (store->failed)
		return;
	store->failed = true;
	store->counters.io_errors++;
	snprintf(store->reason, sizeof store->reason,
		 "The store takes no more writes: %s (%s); check the disk, then restart vstored.",
		 what, vs_strerror(res));
	log_event(LOG_LEVEL_ERROR, "store.failed", "what=\"%s\" error=\"%s\" effect=\"read-only\"",
		  what, vs_strerror(res));
	if (store->segment_set)
		wait_wake_all(&store->segment_set->room);
	if (store->writes)
		write_kick(store);
	if (store->fold && store->started)
		admin_kick(store);
}

void store_poll_space(struct store *store)
{
	uint64_t free_bytes, total_bytes;
	if (env_dir_space(store->dir, &free_bytes, &total_bytes) < 0)
		return;
	store->disk_free_bytes = free_bytes;
	store->disk_total_bytes = total_bytes;
	store->polled_segment_bytes = store->segment_bytes;
}

uint64_t store_age_ns(const struct store *store)
{
	return store->age_base_ns + (env_now_ns(store->env) - store->age_opened_ns);
}

/* ---- log ---- */

static int owner_apply(struct log_owner *owner, const void *record, uint32_t bytes,
		       const struct log_payload *payload)
{
	return catalog_apply(container_of(owner, struct store, log_owner), record, bytes, payload);
}

static void owner_failed(struct log_owner *owner, int res, const char *what)
{
	store_fail(container_of(owner, struct store, log_owner), res, what);
}

static void owner_left(struct log_owner *owner)
{
	tap_committed(container_of(owner, struct store, log_owner));
}

static void owner_committed(struct log_owner *owner)
{
	struct store *store = container_of(owner, struct store, log_owner);
	store->counters.commits++;
	tap_committed(store);
	checkpoint_committed(store);
	segments_kick(store);
	write_kick(store);
	fold_kick(store);
	admin_kick(store);
	work_kick(store);
}

/* ---- the tick ---- */

static void store_tick(struct env_timer *timer)
{
	struct store *store = container_of(timer, struct store, tick);
	if (store->closing)
		return;
	store_poll_space(store);
	segments_retry_space(store);
	if (checkpoint_wanted(store))
		checkpoint_want(store);
	index_write_kick(store, 0);
	fold_kick(store);
	write_kick(store);
	admin_tick(store);
	admin_kick(store);
	gc_tick(store);
	scrub_tick(store);
	usage_tick(store);
	history_tick(store);
	work_kick(store);
	env_timer_start(store->env, &store->tick, TICK_NS);
}

/* ---- opening ---- */

static void store_free(struct store *store)
{
	work_exit(store);
	usage_exit(store);
	gc_exit(store);
	scrub_exit(store);
	upgrade_exit(store);
	admin_exit(store);
	fold_exit(store);
	pace_exit(store);
	write_exit(store);
	read_exit(store);
	prefetch_exit(store);
	checkpoint_exit(store);
	map_exit(store);
	fetch_exit(store);
	heal_exit(store);
	tap_exit(store);
	mandate_exit(store);
	ballots_free(store);
	put_exit(store);
	catalog_free(store);
	index_load_exit(store);
	index_write_exit(store);
	segments_free(store);
	log_free(store->log);
	layer_pool_free(store->layer_pool);
	cache_free(store->cache);
	if (store->cache_area)
		env_memory_free(store->env, store->cache_area, store->cache_area_bytes);
	index_free(store->index);
	codec_free(store->codec);
	env_file_close(store->log_file);
	env_file_close(store->lock_file);
	if (store->log_dir != store->dir)
		env_dir_close(store->log_dir);
	env_dir_close(store->seg_dir);
	env_dir_close(store->dir);
	free(store);
}

void store_abandon(struct store *store)
{
	store_free(store);
}

static int open_files(struct store *store, char *sentence)
{
	struct env *env = store->env;
	char seg_path[600];
	int res = env_dir_open(env, store->path, &store->dir);
	if (res == -ENOENT)
		snprintf(sentence, SENTENCE_BYTES,
			 "There is no directory %.200s: check the path, and that its disk is "
			 "mounted; a new store is made with --init only.",
			 store->path);
	if (res < 0)
		return res;
	res = store_kind_check(store->dir, store->path, store->options.any_file_system, sentence);
	if (res == 0)
		res = superblock_read(store->dir, &store->sb, sentence);
	if (res < 0)
		return res;
	res = env_file_open(store->dir, "superblock", ENV_LOCK, &store->lock_file);
	if (res == -VS_ELOCKED)
		snprintf(sentence, SENTENCE_BYTES,
			 "Another vstored has the store in %.200s open: stop that one first.",
			 store->path);
	if (res == -VS_ELOCKED)
		return res;
	if (res < 0 && !(store->options.read_only))
		return res;
	if (store->sb.feature_read_only && !store->options.read_only) {
		snprintf(sentence, SENTENCE_BYTES,
			 "A newer vstored used this store in a way that this version can only "
			 "read: run the newer version; nothing was changed.");
		return -VS_ENEWER;
	}
	const char *log_dir = store->options.log_dir ? store->options.log_dir
			      : store->sb.log_dir[0] ? store->sb.log_dir
						     : NULL;
	store->log_dir = store->dir;
	if (log_dir && (res = env_dir_open(env, log_dir, &store->log_dir)) < 0) {
		store->log_dir = store->dir;
		snprintf(sentence, SENTENCE_BYTES,
			 "The folder of the log, %.120s, cannot be opened (%s): mount its disk, or "
			 "give "
			 "--log-dir if it moved.",
			 log_dir, vs_strerror(res));
		return res;
	}
	res = env_file_open(store->log_dir, "log",
			    ENV_DIRECT | (store->options.read_only ? ENV_RDONLY : 0),
			    &store->log_file);
	if (res == 0 && env_file_bytes(store->log_file) != (int64_t)store->sb.log_bytes)
		res = -VS_EFORMAT;
	if (res < 0) {
		snprintf(
			sentence, SENTENCE_BYTES,
			"The store's log cannot be opened, or has the wrong size (%s): restore the "
			"file from where it was; nothing was changed.",
			vs_strerror(res));
		return res;
	}
	snprintf(seg_path, sizeof seg_path, "%s/seg", store->path);
	return env_dir_open(env, seg_path, &store->seg_dir);
}

static int open_memory(struct store *store)
{
	struct store_options *o = &store->options;
	o->cache_bytes = o->cache_bytes ? o->cache_bytes : 256 * MIB;
	o->node_cache_bytes = o->node_cache_bytes ? o->node_cache_bytes : 64 * MIB;
	o->directory_cache_bytes = o->directory_cache_bytes ? o->directory_cache_bytes : 64 * MIB;
	o->trash_delay_ns = o->trash_delay_ns ? o->trash_delay_ns : 7 * 24 * 3600 * NSEC_PER_SEC;
	o->idle_fold_ns = o->idle_fold_ns ? o->idle_fold_ns : 30 * NSEC_PER_SEC;
	store->next_number = 1;
	store->next_segment_id = 1;
	store->log_owner = (struct log_owner){.apply = owner_apply,
					      .failed = owner_failed,
					      .committed = owner_committed,
					      .left = owner_left};
	store->codec = codec_new(env_worker_count(store->env));
	store->index = index_new();
	uint64_t entries = store->sb.log_bytes / BLOCK_BYTES + POOL_EXTRA;
	store->layer_pool = layer_pool_new((uint32_t)entries);
	store->cache_area_bytes = round_up(o->cache_bytes, BLOCK_BYTES);
	store->cache_area = env_memory_lazy(store->env, store->cache_area_bytes);
	if (store->cache_area)
		store->cache = cache_new(store->cache_area,
					 (uint32_t)(store->cache_area_bytes / BLOCK_BYTES));
	if (!store->codec || !store->index || !store->layer_pool || !store->cache)
		return -ENOMEM;
	struct log_options options = {.block_count = store->sb.log_bytes / BLOCK_BYTES,
				      .read_only = store->options.read_only};
	memcpy(options.uuid, store->sb.uuid, 16);
	memcpy(options.secret, store->sb.secret, 16);
	int (*const inits[])(struct store * store) = {
		domain_init,	  segments_init, fetch_init,	  put_init,	 read_init,
		heal_init,	  tap_init,	 mandate_init,	  prefetch_init, write_init,
		pace_init,	  fold_init,	 checkpoint_init, work_init,	 admin_init,
		index_write_init, gc_init,	 scrub_init,	  usage_init};
	int res = map_init(store, o->node_cache_bytes);
	for (unsigned i = 0; i < sizeof inits / sizeof *inits && res == 0; i++)
		res = inits[i](store);
	return res < 0 ? res
		       : log_new(store->env, store->log_file, &options, &store->log_owner,
				 &store->log);
}

static int open_recover(struct store *store, char *sentence)
{
	struct log_place place;
	int res = checkpoint_load(store, &place, sentence);
	if (res < 0)
		return res;
	res = log_replay(store->log, &place, catalog_tail(store, place.pos));
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 "The log is damaged before its end (%s), and what it held was promised: "
			 "nothing was changed; restore the log, or ask for help.",
			 vs_strerror(res));
		return res;
	}
	res = index_load_open(store);
	return res < 0 ? res : segments_recover(store, sentence);
}

/* One good copy is enough to open: a disk that does not take the other is told of, and no more. */
static void superblock_look(struct store *store)
{
	int res = superblock_mend(store->dir, &store->sb);
	if (res)
		log_event(LOG_LEVEL_WARNING, "superblock.mended",
			  "result=\"%s\" hint=\"one of its two copies was damaged or not written\"",
			  res < 0 ? vs_strerror(res) : "done");
}

int store_open(struct env *env, const char *path, const struct store_options *options,
	       struct store **ret_store, char ret_sentence[SENTENCE_BYTES])
{
	struct store *store = calloc(1, sizeof(*store));
	ret_sentence[0] = 0;
	if (!store || strlen(path) >= sizeof store->path) {
		free(store);
		snprintf(ret_sentence, SENTENCE_BYTES, "There is no memory for a store.");
		return -ENOMEM;
	}
	store->env = env;
	store->options = *options;
	store->read_only = options->read_only;
	store->age_opened_ns = env_now_ns(env);
	memcpy(store->path, path, strlen(path) + 1);
	int res = open_files(store, ret_sentence);
	if (res == 0)
		res = open_memory(store);
	if (res == 0)
		res = open_recover(store, ret_sentence);
	if (res < 0) {
		if (!ret_sentence[0])
			snprintf(ret_sentence, SENTENCE_BYTES,
				 "The store in %.200s cannot be opened: %s.", path,
				 vs_strerror(res));
		store_free(store);
		return res;
	}
	store_poll_space(store);
	store->started = true;
	index_load_start(store);
	if (!store->read_only) {
		superblock_look(store);
		segments_start(store);
		checkpoint_want(store);
	}
	store->tick.fire = store_tick;
	env_timer_start(env, &store->tick, TICK_NS);
	*ret_store = store;
	return 0;
}

/* ---- closing ---- */

/* Runs the loop until a condition holds; it must come to hold by itself. */
static void close_until(struct store *store, bool (*quiet)(const struct store *store))
{
	for (unsigned pass = 0, still = 0; !quiet(store) && still < STILL_PASSES; pass++) {
		assert(pass < CLOSE_PASSES_MAX);
		still = env_step(store->env, true) ? 0 : still + 1;
	}
}

static bool work_quiet(const struct store *store)
{
	return store->requests == 0 && write_idle(store) && !fold_running(store) &&
	       work_idle(store) && admin_idle(store) && prefetch_idle(store) && upgrade_idle(store);
}

static bool disk_quiet(const struct store *store)
{
	return segments_idle(store) && segments_writers_idle(store) && !checkpoint_running(store) &&
	       log_quiet(store->log) && index_load_idle(store) && index_write_idle(store);
}

int store_close(struct store *store)
{
	int res = 0;
	store->closing = true;
	env_timer_stop(store->env, &store->tick);
	store_followers_stop(store);
	pace_wake(store);
	fold_kick(store);
	work_kick(store);
	admin_kick(store);
	close_until(store, work_quiet);
	close_until(store, disk_quiet);
	if (!store->failed && !store->read_only) {
		segments_seal_open(store);
		close_until(store, disk_quiet);
		struct log_flush_op flush = {0};
		env_wait_prepare(&flush.op);
		log_flush(store->log, &flush);
		res = (int)env_wait(store->env, &flush.op);
		checkpoint_want(store);
		index_write_kick(store, 1);
		close_until(store, disk_quiet);
	}
	if (store->failed)
		res = -VS_EFAILSTOP;
	store_free(store);
	return res;
}
