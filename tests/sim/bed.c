/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the scripts of points.c are made of: one request or change of the store each, told to the
 * model first and again when it is answered.
 */
#include "storage/store/replica.h"
#include "storage/store/store_vote.h"
#include "tests/sim/points.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 2000000u
#define LOG_BYTES (8 * MIB)

/* ---- the store itself ---- */

void bed_make(struct bed *bed)
{
	char sentence[SENTENCE_BYTES];
	struct store_make_options options = {.log_bytes = LOG_BYTES};
	bed->making = true;
	if (store_make(sim_env(bed->sim), "store", &options, sentence) < 0)
		bed_fail("no store was made: %s", sentence);
	bed->making = false;
}

void bed_open(struct bed *bed)
{
	char sentence[SENTENCE_BYTES];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.idle_fold_ns = 3600 * NSEC_PER_SEC,
					.scrub_period_ns = bed->scrub_period_ns};
	bed->under_way = 0;
	memset(bed->views, 0, sizeof bed->views);
	bed->store = NULL;
	bed->disk_failed = false;
	int res = store_open(sim_env(bed->sim), "store", &options, &bed->store, sentence);
	if (bed->making && res < 0)
		return; /* the superblock comes last */
	if (res < 0)
		bed_fail("the store was refused: %s", sentence);
}

static void views_close(struct bed *bed)
{
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT; v++) {
		store_view_close(bed->views[v]);
		bed->views[v] = NULL;
	}
}

void bed_close(struct bed *bed)
{
	bed_wait(bed);
	views_close(bed);
	int res = store_close(bed->store);
	bed->store = NULL;
	if (res < 0)
		bed_fail("the store could not be closed: %s", vs_strerror(res));
}

/* ---- requests ---- */

struct operation {
	struct store_request request; /* first: found back by its address */
	struct bed *bed;
	unsigned volume;
	uint32_t block, count;
	uint64_t number;
	uint8_t **want; /* of a read: by block */
};

static void operation_done(struct io_op *op)
{
	struct operation *operation = (struct operation *)op;
	struct bed *bed = operation->bed;
	bed->under_way--;
	bed->model.events++;
	if (op->res < 0) {
		if (!bed->may_fail)
			bed_fail("a request failed: %s", vs_strerror((int)op->res));
		bed->failed_requests++;
		return;
	}
	if (operation->request.kind == REQUEST_READ) {
		for (uint32_t i = 0; i < operation->count; i++)
			if (!data_equal(operation->want[i], (uint8_t *)operation->request.data +
								    i * (size_t)BLOCK_BYTES))
				bed_fail("a read saw what is not the last answered write");
		free(operation->want);
		return;
	}
	bool durable = operation->request.flags & REQUEST_FUA;
	if (durable || operation->request.kind == REQUEST_FLUSH)
		model_flushed(&bed->model, operation->number); /* the log is one chain */
	for (uint32_t i = 0; i < operation->count; i++)
		model_answered(&bed->model,
			       &bed->model.blocks[operation->volume][operation->block + i],
			       operation->number, durable);
}

static struct operation *operation_new(struct bed *bed, enum request_kind kind, unsigned volume,
				       uint32_t block, uint32_t count)
{
	struct operation *operation = calloc(1, sizeof(*operation));
	if (!bed->views[volume] &&
	    store_view_open(bed->store, bed->now.volumes[volume].name, &bed->views[volume]) < 0)
		bed_fail("volume %s cannot be opened", bed->now.volumes[volume].name);
	*operation = (struct operation){.bed = bed,
					.volume = volume,
					.block = block,
					.count = count,
					.number = ++bed->model.events,
					.request = {.op.done = operation_done,
						    .view = bed->views[volume],
						    .kind = kind,
						    .offset_bytes = block * (uint64_t)BLOCK_BYTES,
						    .length_bytes = count * (uint64_t)BLOCK_BYTES}};
	bed->under_way++;
	return operation;
}

/* Data is never given back: a process crashes once, and lives shortly. */
static void fill(uint8_t *data, uint64_t value)
{
	if (value < RANDOM) {
		model_fill(data, value);
		return;
	}
	for (unsigned i = 0; i < BLOCK_BYTES; i += 8) {
		value = value * 6364136223846793005u + 1442695040888963407u;
		uint64_t word = value ^ (value >> 29);
		memcpy(data + i, &word, 8);
	}
}

void bed_write(struct bed *bed, unsigned volume, uint32_t block, uint32_t count, uint64_t value,
	       unsigned flags)
{
	struct operation *operation = operation_new(bed, REQUEST_WRITE, volume, block, count);
	uint8_t *data = aligned_alloc(BLOCK_BYTES, count * (size_t)BLOCK_BYTES);
	operation->request.data = data;
	operation->request.flags = flags;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *copy = malloc(BLOCK_BYTES);
		fill(copy, value + i);
		memcpy(data + i * (size_t)BLOCK_BYTES, copy, BLOCK_BYTES);
		model_submit(&bed->model, &bed->model.blocks[volume][block + i], copy);
	}
	store_submit(&operation->request);
}

void bed_write_part(struct bed *bed, unsigned volume, uint32_t block, uint32_t skip, uint32_t bytes,
		    uint64_t value)
{
	struct operation *operation = operation_new(bed, REQUEST_WRITE, volume, block, 1);
	struct block *at = &bed->model.blocks[volume][block];
	uint8_t *mixed = calloc(1, BLOCK_BYTES), *data = malloc(BLOCK_BYTES);
	fill(data, value);
	if (at->newest->data)
		memcpy(mixed, at->newest->data, BLOCK_BYTES);
	memcpy(mixed + skip, data, bytes);
	model_submit(&bed->model, at, mixed);
	operation->request.data = data;
	operation->request.offset_bytes += skip;
	operation->request.length_bytes = bytes;
	store_submit(&operation->request);
}

void bed_zero(struct bed *bed, unsigned volume, uint32_t block, uint32_t count)
{
	struct operation *operation = operation_new(bed, REQUEST_ZERO, volume, block, count);
	for (uint32_t i = 0; i < count; i++)
		model_submit(&bed->model, &bed->model.blocks[volume][block + i], NULL);
	store_submit(&operation->request);
}

void bed_read(struct bed *bed, unsigned volume, uint32_t block, uint32_t count)
{
	struct operation *operation = operation_new(bed, REQUEST_READ, volume, block, count);
	operation->request.data = aligned_alloc(BLOCK_BYTES, count * (size_t)BLOCK_BYTES);
	operation->want = calloc(count, sizeof(*operation->want));
	for (uint32_t i = 0; i < count; i++)
		operation->want[i] = bed->model.blocks[volume][block + i].newest->data;
	store_submit(&operation->request);
}

static void wait_for(struct bed *bed, const unsigned *count)
{
	for (unsigned steps = 0; *count; steps++)
		if (steps > STEPS_MAX || !env_step(sim_env(bed->sim), true))
			bed_fail("nothing moves any more");
}

void bed_wait(struct bed *bed)
{
	wait_for(bed, &bed->under_way);
}

void bed_flush(struct bed *bed)
{
	bed_wait(bed);
	store_submit(&operation_new(bed, REQUEST_FLUSH, 0, 0, 0)->request);
	bed_wait(bed);
}

void bed_steps(struct bed *bed, unsigned count)
{
	while (count-- && env_step(sim_env(bed->sim), true))
		;
}

struct pause {
	struct env_timer timer; /* first */
	unsigned waits;
};

static void pause_over(struct env_timer *timer)
{
	((struct pause *)timer)->waits = 0;
}

void bed_pause(struct bed *bed, uint64_t ns)
{
	struct pause pause = {.timer.fire = pause_over, .waits = 1};
	env_timer_start(sim_env(bed->sim), &pause.timer, ns);
	wait_for(bed, &pause.waits);
}

/* ---- changes: each is there whole after a crash, or not at all ---- */

struct change {
	struct admin_op admin; /* first */
	unsigned waits;
};

static void change_done(struct io_op *op)
{
	((struct change *)op)->waits = 0;
}

static void change_begin(struct bed *bed, struct change *change)
{
	bed_wait(bed);
	*change = (struct change){.admin.op.done = change_done, .waits = 1};
	bed->next = bed->now;
	bed->changing = true;
	bed->change_submitted = ++bed->model.events;
}

static void change_end(struct bed *bed, struct change *change)
{
	wait_for(bed, &change->waits);
	bed->changing = false;
	bed->model.events++;
	if (change->admin.op.res < 0) {
		if (!bed->may_fail)
			bed_fail("a change failed: %s", change->admin.sentence);
		return;
	}
	bed->now = bed->next;
	model_flushed(&bed->model,
		      bed->model.events); /* its commit is durable, and all before it */
}

static void name_set(char out[32], const char *name)
{
	snprintf(out, 32, "%.31s", name);
}

void bed_volume(struct bed *bed, unsigned volume, const char *name, uint32_t block_count)
{
	struct change change;
	struct volume_options options = {.size_bytes = block_count * (uint64_t)BLOCK_BYTES};
	change_begin(bed, &change);
	bed->next.volumes[volume].exists = true;
	bed->next.volumes[volume].block_count = block_count;
	name_set(bed->next.volumes[volume].name, name);
	model_volume_make(&bed->model, volume, block_count);
	store_volume_create(bed->store, &change.admin, name, &options);
	change_end(bed, &change);
}

static void snapshot_expect(struct bed *bed, unsigned slot, unsigned volume, const char *name)
{
	bed->next.snapshots[slot].exists = true;
	bed->next.snapshots[slot].data = model_image(&bed->model, volume);
	bed->next.snapshots[slot].block_count = bed->now.volumes[volume].block_count;
	name_set(bed->next.snapshots[slot].name, name);
}

void bed_snapshot(struct bed *bed, unsigned slot, unsigned volume, const char *name)
{
	struct change change;
	const char *names[] = {name};
	change_begin(bed, &change);
	snapshot_expect(bed, slot, volume, name);
	store_snap_create(bed->store, &change.admin, names, 1);
	change_end(bed, &change);
}

void bed_snapshot_pair(struct bed *bed, unsigned slot, unsigned volume, const char *name,
		       unsigned other, const char *other_name)
{
	struct change change;
	const char *names[] = {name, other_name};
	change_begin(bed, &change);
	snapshot_expect(bed, slot, volume, name);
	snapshot_expect(bed, slot + 1, other, other_name);
	store_snap_create(bed->store, &change.admin, names, 2);
	change_end(bed, &change);
}

void bed_snapshot_delete(struct bed *bed, unsigned slot)
{
	struct change change;
	change_begin(bed, &change);
	bed->next.snapshots[slot].exists = false;
	bed->next.trashed++;
	store_snap_delete(bed->store, &change.admin, bed->now.snapshots[slot].name);
	change_end(bed, &change);
}

/* A volume's blocks become a snapshot's; `together`: on top of what they were, all of them or none.
 */
static void blocks_become(struct bed *bed, unsigned volume, unsigned slot, uint64_t together)
{
	for (uint32_t b = 0; b < bed->now.snapshots[slot].block_count; b++) {
		uint8_t *copy = malloc(BLOCK_BYTES);
		memcpy(copy, bed->now.snapshots[slot].data + b * (size_t)BLOCK_BYTES, BLOCK_BYTES);
		struct version *version =
			model_submit(&bed->model, &bed->model.blocks[volume][b], copy);
		version->together = together;
		if (!together)
			*version = (struct version){.data = copy, .answered = 1};
	}
}

void bed_clone(struct bed *bed, unsigned slot, unsigned volume, const char *name)
{
	struct change change;
	change_begin(bed, &change);
	bed->next.volumes[volume].exists = true;
	bed->next.volumes[volume].block_count = bed->now.snapshots[slot].block_count;
	name_set(bed->next.volumes[volume].name, name);
	model_volume_make(&bed->model, volume, bed->now.snapshots[slot].block_count);
	blocks_become(bed, volume, slot, 0);
	model_flushed(&bed->model, 2);
	store_volume_clone(bed->store, &change.admin, bed->now.snapshots[slot].name, name);
	change_end(bed, &change);
}

void bed_restore(struct bed *bed, unsigned slot, unsigned volume)
{
	struct change change;
	views_close(bed);
	change_begin(bed, &change);
	uint64_t together = bed->model.events++;
	blocks_become(bed, volume, slot, together);
	store_snap_restore(bed->store, &change.admin, bed->now.snapshots[slot].name);
	change_end(bed, &change);
	for (uint32_t b = 0; b < bed->model.block_counts[volume] && change.admin.op.res == 0; b++)
		bed->model.blocks[volume][b].newest->answered = bed->model.events;
}

void bed_delete(struct bed *bed, unsigned volume)
{
	struct change change;
	bed_wait(bed);
	views_close(bed);
	change_begin(bed, &change);
	bed->next.volumes[volume].exists = false;
	bed->next.trashed++;
	store_volume_delete(bed->store, &change.admin, bed->now.volumes[volume].name);
	change_end(bed, &change);
}

/* What is in the trash, one after the other. */
void bed_purge(struct bed *bed)
{
	struct change change;
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t volume_count, snapshot_count;
	if (store_volumes(bed->store, true, &volumes, &volume_count) < 0 ||
	    store_snapshots(bed->store, true, &snapshots, &snapshot_count) < 0)
		bed_fail("the trash cannot be listed");
	for (size_t i = 0; i < volume_count + snapshot_count; i++) {
		change_begin(bed, &change);
		bed->next.trashed--;
		store_trash_purge(bed->store, &change.admin,
				  i < volume_count ? volumes[i].number
						   : snapshots[i - volume_count].number);
		change_end(bed, &change);
	}
	free(volumes);
	free(snapshots);
}

void bed_grow(struct bed *bed, unsigned volume, uint32_t block_count)
{
	struct change change;
	change_begin(bed, &change);
	bed->next.volumes[volume].block_count = block_count;
	model_volume_grow(&bed->model, volume, block_count);
	store_volume_grow(bed->store, &change.admin, bed->now.volumes[volume].name,
			  block_count * (uint64_t)BLOCK_BYTES);
	change_end(bed, &change);
}

void bed_rename(struct bed *bed, unsigned volume, const char *name)
{
	struct change change;
	bed_wait(bed);
	views_close(bed);
	change_begin(bed, &change);
	name_set(bed->next.volumes[volume].name, name);
	store_volume_rename(bed->store, &change.admin, bed->now.volumes[volume].name, name);
	change_end(bed, &change);
}

void bed_followed(struct bed *bed, unsigned volume, const char *host)
{
	const struct follower_rules rules = {.lag_ns = NSEC_PER_SEC};
	struct change change;
	change_begin(bed, &change);
	store_peer_add(bed->store, &change.admin, host, "10.0.0.1:1");
	change_end(bed, &change);
	change_begin(bed, &change);
	store_follower_set(bed->store, &change.admin, bed->now.volumes[volume].name, host, &rules);
	change_end(bed, &change);
}

/* Its snapshots are named after it. */
static void volume_becomes(struct bed *bed, unsigned volume, const char *name)
{
	const char *was = bed->now.volumes[volume].name;
	size_t was_bytes = strlen(was);
	for (unsigned k = 0; k < SNAPSHOTS_IN_SCRIPT; k++) {
		char full[SNAP_NAME_ROOM], *of = bed->next.snapshots[k].name;
		if (strncmp(of, was, was_bytes) != 0 || of[was_bytes] != '@')
			continue;
		snprintf(full, sizeof full, "%.62s%.32s", name, of + was_bytes);
		name_set(of, full);
	}
	name_set(bed->next.volumes[volume].name, name);
}

void bed_yield(struct bed *bed, unsigned slot, unsigned volume, const char *host)
{
	struct change change;
	const struct volume *here = volume_by_name(bed->store, bed->now.volumes[volume].name);
	const struct domain *domain = domain_by_number(bed->store, here->domain);
	char name[NAME_ROOM], kept[SNAP_NAME_ROOM];
	struct store_offer offer = {.epoch = here->epoch + EPOCH_TERM,
				    .lines = {.count = 1, .at = {{.epoch = EPOCH_TERM}}}};
	memcpy(offer.volume_uuid, here->uuid, 16);
	memcpy(offer.domain, domain->uuid, 16);
	snprintf(name, sizeof name, "%.30s/%.30s", host, here->name);
	snprintf(kept, sizeof kept, "%.62s@fenced-%llu", name, (unsigned long long)here->epoch);
	bed_wait(bed);
	views_close(bed);
	change_begin(bed, &change);
	volume_becomes(bed, volume, name);
	snapshot_expect(bed, slot, volume, kept);
	replica_yield(bed->store, &change.admin, name, &offer);
	change_end(bed, &change);
}

void bed_told(struct bed *bed, unsigned volume, const char *policy)
{
	struct told_policy told = {.told = true, .policy.rules = {.keep = {3}, .send_to = {"h1"}}};
	struct change change;
	name_set(told.policy.name, policy);
	change_begin(bed, &change);
	store_copy_policy(bed->store, &change.admin, bed->now.volumes[volume].name, &told);
	change_end(bed, &change);
}

void bed_recover(struct bed *bed, unsigned volume, const char *name)
{
	struct change change;
	bed_wait(bed);
	views_close(bed);
	change_begin(bed, &change);
	volume_becomes(bed, volume, name);
	store_replica_adopt(bed->store, &change.admin, bed->now.volumes[volume].name, name);
	change_end(bed, &change);
}

/* ---- long work ---- */

struct long_work {
	struct store_work work; /* first */
	unsigned waits;
};

static void work_done(struct io_op *op)
{
	((struct long_work *)op)->waits = 0;
}

void bed_work(struct bed *bed, void (*start)(struct bed *bed, struct store_work *work))
{
	struct long_work work = {.work.op.done = work_done, .waits = 1};
	bed_wait(bed);
	start(bed, &work.work);
	wait_for(bed, &work.waits);
	if (work.work.op.res < 0 && !bed->may_fail)
		bed_fail("long work failed: %s", work.work.sentence);
	if (work.work.damaged && !bed->rotten)
		bed_fail("a check found %llu things: %s", (unsigned long long)work.work.damaged,
			 work.work.sentence);
}

static void fold_start(struct bed *bed, struct store_work *work)
{
	store_fold(bed->store, work, NULL);
}
static void gc_start(struct bed *bed, struct store_work *work)
{
	store_gc(bed->store, work);
}
static void check_start(struct bed *bed, struct store_work *work)
{
	store_check(bed->store, work);
}
void bed_fold(struct bed *bed)
{
	bed_work(bed, fold_start);
}
void bed_gc(struct bed *bed)
{
	bed_work(bed, gc_start);
}
void bed_check(struct bed *bed)
{
	bed_work(bed, check_start);
}

static void gc_done(struct io_op *op)
{
	(container_of(op, struct bed, gc.op))->gc_waits = 0;
}

void bed_gc_begin(struct bed *bed)
{
	bed->gc = (struct store_work){.op.done = gc_done};
	bed->gc_waits = 1;
	store_gc(bed->store, &bed->gc);
}

void bed_gc_end(struct bed *bed)
{
	wait_for(bed, &bed->gc_waits);
	if (bed->gc.op.res < 0)
		bed_fail("a collection failed: %s", bed->gc.sentence);
}
