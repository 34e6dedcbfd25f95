/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run: writes of all kinds, folds, snapshots, a volume that comes and goes, a clean end in the
 * middle. Of each thing it is written down when it was submitted and when it was answered.
 */
#include "tests/crash/life.h"

#include "proto/err.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "tests/sim/model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define OPS 1500u
#define IN_FLIGHT 8u
#define LOG_BYTES (8 * MIB)

struct life life;

static struct view *views[VOLUMES];
static bool busy[VOLUMES][BLOCKS];
static unsigned under_way;
static uint64_t fold_began;

uint64_t life_random(uint64_t below)
{
	uint64_t z = (life.seed += 0x9e3779b97f4a7c15u); /* splitmix64 (Steele, Lea, Flood 2014) */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void *grown(void *at, size_t count, size_t bytes)
{
	at = reallocarray(at, count, bytes);
	assert(at);
	return at;
}

static void happening_add(struct operation *operation, struct taken *snapshot, bool answered)
{
	if ((life.happening_count & (life.happening_count - 1)) == 0)
		life.happenings =
			grown(life.happenings, life.happening_count ? 2 * life.happening_count : 1,
			      sizeof(*life.happenings));
	life.happenings[life.happening_count++] =
		(struct happening){.moment = recorder_now(life.recorder),
				   .answered = answered,
				   .operation = operation,
				   .snapshot = snapshot};
}

static void span_add(enum in_flight kind, uint64_t from, uint64_t to)
{
	if (to <= from)
		return;
	life.spans[kind].at =
		grown(life.spans[kind].at, ++life.spans[kind].count, sizeof(struct span));
	life.spans[kind].at[life.spans[kind].count - 1] = (struct span){from, to};
}

void life_prepare(const char *path)
{
	char sentence[SENTENCE_BYTES];
	struct store_make_options make = {.log_bytes = LOG_BYTES, .any_file_system = true};
	struct store_options options = {.cache_bytes = MIB, .any_file_system = true};
	struct volume_options volume = {.size_bytes = BLOCKS * (uint64_t)BLOCK_BYTES};
	mkdir(path, 0700);
	if (store_make(life.env, path, &make, sentence) < 0 ||
	    store_open(life.env, path, &options, &life.store, sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		exit(1);
	}
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct admin_op admin = {0};
		env_wait_prepare(&admin.op);
		store_volume_create(life.store, &admin, v ? "b" : "a", &volume);
		assert(env_wait(life.env, &admin.op) == 0);
	}
	assert(store_close(life.store) == 0);
}

static void blocks_set_busy(const struct operation *operation, bool value)
{
	for (uint32_t i = 0; i < operation->count; i++)
		busy[operation->volume][operation->block + i] = value;
}

static void operation_done(struct io_op *op)
{
	struct operation *operation = (struct operation *)op;
	assert(op->res == 0);
	under_way--;
	blocks_set_busy(operation, false);
	happening_add(operation, NULL, true);
	free(operation->request.data);
	operation->request.data = NULL;
}

static void operation_start(enum request_kind kind, unsigned volume, uint32_t block, uint32_t count)
{
	struct operation *operation = calloc(1, sizeof(*operation));
	assert(operation);
	for (uint32_t i = 0; i < count; i++)
		if (busy[volume][block + i]) {
			free(operation);
			return;
		}
	*operation = (struct operation){.volume = volume,
					.block = block,
					.count = count,
					.value = life_random(3) ? life.happening_count * 64
								: life_random(20) * 64,
					.request = {.op.done = operation_done,
						    .view = views[volume],
						    .kind = kind,
						    .offset_bytes = block * (uint64_t)BLOCK_BYTES,
						    .length_bytes = count * (uint64_t)BLOCK_BYTES}};
	if (kind == REQUEST_WRITE) {
		operation->request.data = aligned_alloc(BLOCK_BYTES, count * (size_t)BLOCK_BYTES);
		assert(operation->request.data);
		for (uint32_t i = 0; i < count; i++)
			model_fill((uint8_t *)operation->request.data + i * (size_t)BLOCK_BYTES,
				   operation->value + i);
		operation->request.flags = life_random(40) ? 0 : REQUEST_FUA;
	}
	blocks_set_busy(operation, true);
	happening_add(operation, NULL, false);
	under_way++;
	store_submit(&operation->request);
}

static void step(void)
{
	struct store_info info;
	env_step(life.env, true);
	store_info(life.store, &info);
	if (info.fold_active && !fold_began)
		fold_began = recorder_now(life.recorder);
	if (!info.fold_active && fold_began) {
		span_add(FOLD, fold_began, recorder_now(life.recorder));
		fold_began = 0;
	}
}

static void snapshot_done(struct io_op *op)
{
	struct taken *taken = (struct taken *)op;
	assert(op->res == 0);
	taken->busy = false;
	happening_add(NULL, taken, true);
}

/* Between writes, so that it is known what it holds. */
static void snapshot_take(void)
{
	const char *names[1];
	if (life.snapshot_count == SNAPSHOTS)
		return;
	while (under_way)
		step();
	struct taken *taken = &life.snapshots[life.snapshot_count++];
	*taken = (struct taken){.volume = (unsigned)life_random(VOLUMES), .busy = true};
	snprintf(taken->name, sizeof taken->name, "%c@s%u", 'a' + (int)taken->volume,
		 life.snapshot_count);
	names[0] = taken->name;
	taken->admin.op.done = snapshot_done;
	happening_add(NULL, taken, false);
	store_snap_create(life.store, &taken->admin, names, 1);
	while (taken->busy)
		step();
}

static void work_do(void (*start)(struct store *of, struct store_work *work))
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	start(life.store, &work);
	while (work.op.done)
		step();
	assert(work.op.res == 0);
}

static void change_await(struct admin_op *admin)
{
	while (admin->op.done)
		step();
	assert(admin->op.res == 0);
}

/* A volume comes and goes, and segments with it. */
static void passing_volume(void)
{
	struct admin_op admin = {0};
	struct volume_options options = {.size_bytes = 6 * MIB};
	struct volume_info *trash;
	size_t count;
	struct view *view;
	env_wait_prepare(&admin.op);
	store_volume_create(life.store, &admin, "passing", &options);
	change_await(&admin);
	assert(store_view_open(life.store, "passing", &view) == 0);
	struct store_request request = {
		.view = view, .kind = REQUEST_WRITE, .length_bytes = options.size_bytes};
	uint64_t *words = aligned_alloc(BLOCK_BYTES, options.size_bytes);
	assert(words);
	for (size_t i = 0; i < options.size_bytes / 8; i++)
		words[i] = life_random(UINT64_MAX);
	request.data = words;
	env_wait_prepare(&request.op);
	store_submit(&request);
	while (request.op.done)
		step();
	assert(request.op.res == 0);
	free(words);
	store_view_close(view);
	env_wait_prepare(&admin.op);
	store_volume_delete(life.store, &admin, "passing");
	change_await(&admin);
	assert(store_volumes(life.store, true, &trash, &count) == 0 && count == 1);
	env_wait_prepare(&admin.op);
	store_trash_purge(life.store, &admin, trash[0].number);
	change_await(&admin);
	free(trash);
	work_do(store_gc);
}

static void fold_all(struct store *of, struct store_work *work)
{
	store_fold(of, work, NULL);
}

static void store_reopen(const char *path)
{
	char sentence[SENTENCE_BYTES];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.any_file_system = true,
					.idle_fold_ns = NSEC_PER_SEC / 10};
	if (store_open(life.env, path, &options, &life.store, sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		exit(1);
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		assert(store_view_open(life.store, v ? "b" : "a", &views[v]) == 0);
}

static void store_end(void)
{
	for (unsigned v = 0; v < VOLUMES; v++)
		store_view_close(views[v]);
	assert(store_close(life.store) == 0);
}

void life_run(const char *path)
{
	store_reopen(path);
	for (unsigned i = 0; i < OPS; i++) {
		uint64_t what = life_random(100), small = life_random(3);
		uint32_t count =
			small ? 1 + (uint32_t)life_random(4) : 16 * (1 + (uint32_t)life_random(5));
		uint32_t block = (uint32_t)life_random(BLOCKS - count);
		unsigned volume = (unsigned)life_random(VOLUMES);
		while (under_way >= IN_FLIGHT || (under_way && life_random(3) == 0))
			step();
		if (what < 4)
			operation_start(REQUEST_FLUSH, volume, 0, 0);
		else if (what < 10)
			operation_start(REQUEST_ZERO, volume, block, count);
		else if (what < 11)
			snapshot_take();
		else if (what < 13)
			work_do(fold_all);
		else
			operation_start(REQUEST_WRITE, volume, small ? block : block / 16 * 16,
					count);
		if (i % (OPS / 4) == OPS / 8)
			passing_volume();
		if (i == OPS / 2) {
			while (under_way)
				step();
			store_end();
			store_reopen(path);
		}
	}
	while (under_way)
		step();
	store_end();
}

void life_learn_spans(void)
{
	size_t count;
	const struct recorded *events = recorder_events(life.recorder, &count);
	uint64_t checkpoint_began = 0;
	for (size_t i = 0; i < count; i++) {
		const struct recorded *event = &events[i];
		uint32_t folder;
		if (!event->file || !event->ended)
			continue;
		const char *name = recorder_file(life.recorder, event->file, &folder);
		if (strcmp(name, "log") == 0 && event->kind == RECORDED_WRITE)
			span_add(COMMIT, event->started, event->ended);
		if (strncmp(name, "checkpoint", 10) == 0) {
			if (event->kind == RECORDED_WRITE && !checkpoint_began)
				checkpoint_began = event->started;
			if (event->kind == RECORDED_SYNC && checkpoint_began) {
				span_add(CHECKPOINT, checkpoint_began, event->ended);
				checkpoint_began = 0;
			}
		}
		if (strlen(name) == 16 && event->kind != RECORDED_WRITE)
			span_add(SEGMENT, event->started - 1, event->ended + 2);
	}
}

void life_free(void)
{
	for (size_t i = 0; i < life.happening_count; i++)
		if (life.happenings[i].answered)
			free(life.happenings[i].operation);
	free(life.happenings);
	for (unsigned k = 0; k < IN_FLIGHT_KINDS; k++)
		free(life.spans[k].at);
}
