/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads records, decodes them and computes their full ids anew: a window of them for check.c
 * (verify.h), and here the chunks of one root.
 *
 * A record that is bad is looked for by its id, and so is a chunk that a map names and that cannot
 * be found: there may be another copy, or heal.c gets one. Such a one is mended, not damaged. A
 * record found bad is no target of deduplication any more (fetch.c); nothing else is changed.
 */
#include "storage/store/verify.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/fetch.h"
#include "storage/store/index.h"
#include "storage/store/pace.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define DAMAGED_MAX 10000u

static void verify_bad(struct verify_slot *slot, int res)
{
	struct verify *verify = slot->verify;
	struct store_work *public = verify->work.public;
	char id[17];
	text_hex(slot->id.bytes, 8, id);
	public->damaged++;
	if (verify->damaged_count < DAMAGED_MAX) {
		struct id *larger = realloc(verify->damaged_ids,
					    (verify->damaged_count + 1) * sizeof(struct id));
		if (larger) {
			verify->damaged_ids = larger;
			larger[verify->damaged_count++] = slot->id;
		}
	}
	if (slot->location) {
		const struct segment *segment =
			segment_of(verify->work.store, location_slot(slot->location));
		work_report(&verify->work, "segment %016llx, record at %llu, %s %s...: %s",
			    (unsigned long long)(segment ? segment->id : 0),
			    (unsigned long long)location_offset64(slot->location) * RECORD_ALIGN,
			    slot->type == RECORD_NODE ? "map node" : "chunk", id, vs_strerror(res));
	} else {
		work_report(&verify->work, "%s, bytes %llu to %llu: %s%s", verify->name,
			    (unsigned long long)slot->chunk_no * CHUNK_BYTES,
			    (unsigned long long)(slot->chunk_no + 1) * CHUNK_BYTES,
			    verify->root ? "the chunk is missing: " : "", vs_strerror(res));
	}
}

bool verify_root_alive(const struct verify *verify)
{
	struct root *roots;
	size_t count;
	bool alive = false;
	if (roots_collect(verify->work.store, &roots, &count) < 0)
		return true;
	for (size_t i = 0; i < count && !alive; i++)
		alive = id_equal(&roots[i].top, &verify->root->top);
	free(roots);
	return alive;
}

static void verify_mended(struct verify_slot *slot)
{
	struct work *work = &slot->verify->work;
	const struct segment *segment = segment_of(work->store, location_slot(slot->location));
	char id[17];
	text_hex(slot->id.bytes, 8, id);
	work->public->mended++;
	work_report(work, "segment %016llx, record at %llu, %s %s...: %s; a whole one is stored",
		    (unsigned long long)(segment ? segment->id : 0),
		    (unsigned long long)location_offset64(slot->location) * RECORD_ALIGN,
		    slot->type == RECORD_NODE ? "map node" : "chunk", id,
		    vs_strerror(slot->first_res));
}

static void verify_end(struct verify_slot *slot, int res)
{
	struct verify *verify = slot->verify;
	slot->busy = false;
	verify->busy--;
	verify->work.public->chunks++;
	verify->work.public->progress += CHUNK_BYTES;
	if (slot->first_res < 0 && res == 0)
		verify_mended(slot);
	else if (slot->first_res < 0)
		res = slot->first_res;
	bool gone = slot->location ? res == -ENOENT /* a collection moved it */
				   : res < 0 && verify->root && !verify_root_alive(verify);
	if (res < 0 && !gone)
		verify_bad(slot, res);
	work_kick(verify->work.store);
}

static void verify_hashed(struct io_op *op)
{
	struct verify_slot *slot = container_of(op, struct verify_slot, job.op);
	verify_end(slot, op->res < 0				? (int)op->res
			 : id_equal(&slot->id, &slot->computed) ? 0
								: -VS_ECHECKSUM);
}

static int64_t verify_hash(struct env_job *job, unsigned worker_no)
{
	struct verify_slot *slot = container_of(job, struct verify_slot, job);
	const struct domain_key *key = domain_key(slot->verify->work.store, slot->domain);
	if (!key)
		return -VS_EFORMAT;
	if (slot->type == RECORD_NODE)
		codec_id_node(key, slot->raw, NODE_BYTES, &slot->computed);
	else
		codec_id_chunk(key, slot->raw, &slot->computed);
	return 0;
}

static void verify_fetched(struct fetch *fetch, int res)
{
	struct verify_slot *slot = fetch->owner;
	slot->domain = fetch->domain;
	if (res < 0 && res != -ENOENT && fetch->location) {
		slot->first_res = res;
		fetch->location = 0;
		fetch_start(fetch);
		return;
	}
	fetch_free(fetch);
	if (res < 0) {
		verify_end(slot, res);
		return;
	}
	slot->job =
		(struct env_job){.op.done = verify_hashed, .run = verify_hash, .background = true};
	env_job(slot->verify->work.store->env, &slot->job);
}

int verify_record(struct verify *verify, const struct id *id, uint8_t type, uint64_t location,
		  uint64_t chunk_no)
{
	struct verify_slot *slot = verify->slots;
	if (verify->busy >= verify->window)
		return WINDOW_FULL;
	if (!pace_ready(verify->work.store, &verify->work.wait))
		return WAITING;
	struct fetch *fetch = fetch_new(verify->work.store, true, &verify->work.wait);
	if (!fetch)
		return WAITING;
	while (slot->busy)
		slot++;
	slot->busy = true;
	verify->busy++;
	slot->id = *id;
	slot->type = type;
	slot->location = location;
	slot->chunk_no = chunk_no;
	slot->first_res = 0;
	fetch->done = verify_fetched;
	fetch->owner = slot;
	fetch->id = *id;
	fetch->type = type;
	fetch->location = location;
	fetch->block_first = 0;
	fetch->block_count = CHUNK_BLOCKS;
	fetch->raw = slot->raw;
	fetch->no_cache = true;
	fetch->proof = true;
	pace_spend(verify->work.store, CHUNK_BYTES / 2); /* about what is read */
	fetch_start(fetch);
	return 0;
}

bool verify_damaged(const struct verify *verify, const struct id *id)
{
	for (uint32_t i = 0; i < verify->damaged_count; i++)
		if (id_equal(&verify->damaged_ids[i], id))
			return true;
	return false;
}

int verify_init(struct verify *verify, struct store *store)
{
	verify->memory = env_memory(store->env, VERIFY_COUNT * CHUNK_BYTES);
	if (!verify->memory)
		return -ENOMEM;
	for (unsigned i = 0; i < VERIFY_COUNT; i++) {
		verify->slots[i].verify = verify;
		verify->slots[i].raw = verify->memory + (size_t)i * CHUNK_BYTES;
	}
	verify->work.store = store;
	verify->window = VERIFY_COUNT;
	return 0;
}

void verify_exit(struct verify *verify)
{
	env_memory_free(verify->work.store->env, verify->memory, VERIFY_COUNT * CHUNK_BYTES);
	free(verify->damaged_ids);
}

/* ---- one root ---- */

struct verify_map {
	struct verify verify;
	char name[SNAP_NAME_ROOM];
	struct id top;
	uint64_t size_bytes;
};

static bool verify_enter(struct walk *walk, const struct id *id)
{
	return true;
}

static int verify_chunk(struct walk *walk, const struct id *id)
{
	struct verify *verify = walk->owner;
	return verify_record(verify, id, RECORD_CHUNK, 0, walk->chunk_no);
}

static int verify_step(struct work *work)
{
	struct verify_map *map = container_of(work, struct verify_map, verify.work);
	struct verify *verify = &map->verify;
	if (work->public->cancel || work->store->closing)
		return verify->busy ? WAITING : -VS_ECANCELLED;
	if (!verify->walking) {
		int res = work_root(work, map->name, &map->top, &map->size_bytes);
		if (res)
			return res;
		verify->walk = (struct walk){.store = work->store,
					     .enter = verify_enter,
					     .chunk = verify_chunk,
					     .owner = verify};
		walk_start(&verify->walk, &map->top);
		verify->walking = true;
		work->public->total = map->size_bytes;
	}
	int res = walk_step(&verify->walk, &work->wait);
	if (res == WALK_MORE)
		return res;
	if (res == WAITING || res == WINDOW_FULL)
		return res == WAITING ? work_waits(work) : WAITING;
	if (verify->busy)
		return WAITING; /* verify_end goes on, and the walk says the same again */
	if (res < 0) {
		work->public->damaged++;
		work_report(work, "%s: a map node cannot be read: %s", map->name, vs_strerror(res));
	}
	return 0;
}

static bool verify_must_finish(const struct work *work)
{
	return container_of(work, struct verify, work)->busy > 0;
}

static void verify_done(struct work *work)
{
	struct verify_map *map = container_of(work, struct verify_map, verify.work);
	verify_exit(&map->verify);
	free(map);
}

void store_verify(struct store *store, struct store_work *public, const char *name)
{
	struct verify_map *map = calloc(1, sizeof(*map));
	if (map && verify_init(&map->verify, store) < 0) {
		free(map);
		map = NULL;
	}
	if (map) {
		snprintf(map->name, sizeof map->name, "%s", name);
		map->verify.name = map->name;
		map->verify.work.step = verify_step;
		map->verify.work.done = verify_done;
		map->verify.work.must_finish = verify_must_finish;
	}
	work_start(store, map ? &map->verify.work : NULL, public);
}
