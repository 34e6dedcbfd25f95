/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts of a real run. The store runs on real files through the real ring, with a recorder
 * between; afterwards disks are built that a power cut at some moment of the run could have left,
 * each is opened by the store, and compared with what had been answered and flushed by then. A
 * round's moment lies in a commit, a fold, a checkpoint, or the making or sealing of a segment.
 *
 * Usage: power_cuts FOLDER ROUNDS SEED [MUTANT]: works in a new folder in FOLDER, and removes it.
 * With a mutant: exits 0 when it was found.
 */
#include "proto/err.h"
#include "storage/rt/log_event.h"
#include "storage/store/store.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "tests/crash/cut.h"
#include "tests/sim/fail.h"
#include "tests/sim/model.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int vstore_mutant;

#define VOLUMES 2u
#define BLOCKS 512u
#define OPS 1500u
#define IN_FLIGHT 8u
#define SNAPSHOTS 12u
#define LOG_BYTES (8 * MIB)

enum in_flight { COMMIT, FOLD, CHECKPOINT, SEGMENT, IN_FLIGHT_KINDS };
static const char *const in_flight_names[] = {"commit", "fold", "checkpoint", "segment"};

struct span {
	uint64_t from, to; /* moments */
};
static struct {
	struct span *at;
	size_t count;
} spans[IN_FLIGHT_KINDS];

struct operation {
	struct store_request request; /* first */
	unsigned volume;
	uint32_t block, count;
	uint64_t value, number;
	bool busy;
};

/* What the program knew, and when: the model of any moment is made of it. */
struct happening {
	uint64_t moment;
	bool answered; /* else: submitted */
	struct operation *operation;
	struct taken *snapshot;
};
static struct happening *happenings;
static size_t happening_count;
static struct taken {
	struct admin_op admin; /* first */
	char name[32];
	unsigned volume;
	bool busy;
	/* As of the moment that is looked at. */
	uint8_t *image;
	bool answered;
	uint64_t submitted;
} snapshots[SNAPSHOTS];
static unsigned snapshot_count;

static struct recorder *recorder;
static struct env *env;
static struct store *store;
static struct view *views[VOLUMES];
static bool busy[VOLUMES][BLOCKS];
static unsigned under_way;
static uint64_t seed, fold_began;

static uint64_t random_below(uint64_t below)
{
	uint64_t z = (seed += 0x9e3779b97f4a7c15u); /* splitmix64 (Steele, Lea, Flood 2014) */
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
	if ((happening_count & (happening_count - 1)) == 0)
		happenings = grown(happenings, happening_count ? 2 * happening_count : 1,
				   sizeof(*happenings));
	happenings[happening_count++] = (struct happening){.moment = recorder_now(recorder),
							   .answered = answered,
							   .operation = operation,
							   .snapshot = snapshot};
}

static void span_add(enum in_flight kind, uint64_t from, uint64_t to)
{
	if (to <= from)
		return;
	spans[kind].at = grown(spans[kind].at, ++spans[kind].count, sizeof(struct span));
	spans[kind].at[spans[kind].count - 1] = (struct span){from, to};
}

/* ---- the run ---- */

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
					.value = random_below(3) ? happening_count * 64
								 : random_below(20) * 64,
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
		operation->request.flags = random_below(40) ? 0 : REQUEST_FUA;
	}
	blocks_set_busy(operation, true);
	happening_add(operation, NULL, false);
	under_way++;
	store_submit(&operation->request);
}

static void step(void)
{
	struct store_info info;
	env_step(env, true);
	store_info(store, &info);
	if (info.fold_active && !fold_began)
		fold_began = recorder_now(recorder);
	if (!info.fold_active && fold_began) {
		span_add(FOLD, fold_began, recorder_now(recorder));
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
	if (snapshot_count == SNAPSHOTS)
		return;
	while (under_way)
		step();
	struct taken *taken = &snapshots[snapshot_count++];
	*taken = (struct taken){.volume = (unsigned)random_below(VOLUMES), .busy = true};
	snprintf(taken->name, sizeof taken->name, "%c@s%u", 'a' + (int)taken->volume,
		 snapshot_count);
	names[0] = taken->name;
	taken->admin.op.done = snapshot_done;
	happening_add(NULL, taken, false);
	store_snap_create(store, &taken->admin, names, 1);
	while (taken->busy)
		step();
}

static void work_do(void (*start)(struct store *store, struct store_work *work))
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	start(store, &work);
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
	store_volume_create(store, &admin, "passing", &options);
	change_await(&admin);
	assert(store_view_open(store, "passing", &view) == 0);
	struct store_request request = {
		.view = view, .kind = REQUEST_WRITE, .length_bytes = options.size_bytes};
	uint64_t *words = aligned_alloc(BLOCK_BYTES, options.size_bytes);
	assert(words);
	for (size_t i = 0; i < options.size_bytes / 8; i++)
		words[i] = random_below(UINT64_MAX);
	request.data = words;
	env_wait_prepare(&request.op);
	store_submit(&request);
	while (request.op.done)
		step();
	assert(request.op.res == 0);
	free(words);
	store_view_close(view);
	env_wait_prepare(&admin.op);
	store_volume_delete(store, &admin, "passing");
	change_await(&admin);
	assert(store_volumes(store, true, &trash, &count) == 0 && count == 1);
	env_wait_prepare(&admin.op);
	store_trash_purge(store, &admin, trash[0].number);
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
	if (store_open(env, path, &options, &store, sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		exit(1);
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		assert(store_view_open(store, v ? "b" : "a", &views[v]) == 0);
}

static void store_end(void)
{
	for (unsigned v = 0; v < VOLUMES; v++)
		store_view_close(views[v]);
	assert(store_close(store) == 0);
}

static void run(const char *path)
{
	store_reopen(path);
	for (unsigned i = 0; i < OPS; i++) {
		uint64_t what = random_below(100), small = random_below(3);
		uint32_t count = small ? 1 + (uint32_t)random_below(4)
				       : 16 * (1 + (uint32_t)random_below(5));
		uint32_t block = (uint32_t)random_below(BLOCKS - count);
		unsigned volume = (unsigned)random_below(VOLUMES);
		while (under_way >= IN_FLIGHT || (under_way && random_below(3) == 0))
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

/* What was under way when, by the files that were written. */
static void spans_learn(void)
{
	size_t count;
	const struct recorded *events = recorder_events(recorder, &count);
	uint64_t checkpoint_began = 0;
	for (size_t i = 0; i < count; i++) {
		const struct recorded *event = &events[i];
		uint32_t folder;
		if (!event->file || !event->ended)
			continue;
		const char *name = recorder_file(recorder, event->file, &folder);
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

/* ---- what must be on a disk ---- */

static void blocks_submit(struct model *model, const struct operation *operation)
{
	for (uint32_t i = 0; i < operation->count; i++) {
		uint8_t *data = NULL;
		if (operation->request.kind == REQUEST_WRITE) {
			data = malloc(BLOCK_BYTES);
			assert(data);
			model_fill(data, operation->value + i);
		}
		model_submit(model, &model->blocks[operation->volume][operation->block + i], data);
	}
}

static void happening_tell(struct model *model, const struct happening *happening)
{
	struct operation *operation = happening->operation;
	struct taken *snapshot = happening->snapshot;
	model->events++;
	if (snapshot && !happening->answered) {
		snapshot->image = model_image(model, snapshot->volume);
		snapshot->submitted = model->events;
	} else if (snapshot) {
		snapshot->answered = true;
		model_flushed(model, model->events);
	} else if (!happening->answered) {
		operation->number = model->events;
		blocks_submit(model, operation);
	} else {
		bool durable = operation->request.flags & REQUEST_FUA;
		if (durable || operation->request.kind == REQUEST_FLUSH)
			model_flushed(model, operation->number);
		for (uint32_t i = 0; i < operation->count; i++)
			model_answered(model,
				       &model->blocks[operation->volume][operation->block + i],
				       operation->number, durable);
	}
}

static const char *read_whole(const char *name, uint8_t *to)
{
	struct view *view;
	int res = store_view_open(store, name, &view);
	if (res < 0)
		FAIL("%s: %s", name, vs_strerror(res));
	struct store_request request = {
		.view = view, .length_bytes = BLOCKS * (uint64_t)BLOCK_BYTES, .data = to};
	env_wait_prepare(&request.op);
	store_submit(&request);
	res = (int)env_wait(env, &request.op);
	store_view_close(view);
	if (res < 0)
		FAIL("%s: %s", name, vs_strerror(res));
	return NULL;
}

static uint8_t images[VOLUMES][BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));

static const char *snapshots_check(uint64_t *survivor)
{
	for (unsigned i = 0; i < snapshot_count; i++) {
		struct taken *taken = &snapshots[i];
		struct view *view;
		int res = store_view_open(store, taken->name, &view);
		if (res == -ENOENT && !taken->answered)
			continue;
		if (res < 0)
			FAIL("snapshot %s: %s", taken->name, vs_strerror(res));
		store_view_close(view);
		if (!taken->image)
			FAIL("snapshot %s comes from the future", taken->name);
		*survivor = max_u64(*survivor, taken->submitted);
		const char *failed = read_whole(taken->name, images[0]);
		if (failed)
			return failed;
		if (memcmp(images[0], taken->image, sizeof images[0]) != 0)
			FAIL("snapshot %s is not what the volume was", taken->name);
	}
	return NULL;
}

static void damage_tell(struct store_work *work, const char *line)
{
	(void)work;
	printf("damage: %s\n", line);
}

static const char *disk_check(struct model *model)
{
	uint64_t survivor = 0;
	const char *failed = snapshots_check(&survivor);
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		failed = read_whole(v ? "b" : "a", images[v]);
		if (!failed)
			failed = model_check(model, v, images[v], NULL, true, &survivor);
	}
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		failed = model_check_order(model, v, images[v], survivor);
	if (failed)
		return failed;
	struct store_work work = {.report = damage_tell};
	env_wait_prepare(&work.op);
	store_check(store, &work);
	env_wait(env, &work.op);
	if (work.damaged)
		FAIL("the check found %llu things", (unsigned long long)work.damaged);
	return NULL;
}

static const char *disk_open_and_check(const char *path, uint64_t moment)
{
	struct model model = {0};
	char sentence[SENTENCE_BYTES];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.any_file_system = true};
	for (unsigned v = 0; v < VOLUMES; v++)
		model_volume_make(&model, v, BLOCKS);
	for (size_t i = 0; i < happening_count && happenings[i].moment <= moment; i++)
		happening_tell(&model, &happenings[i]);
	const char *failed = NULL;
	if (store_open(env, path, &options, &store, sentence) < 0) {
		snprintf(failure, sizeof failure, "the store was refused: %.200s", sentence);
		failed = failure;
	} else {
		failed = disk_check(&model);
		if (store_close(store) < 0 && !failed)
			failed = "the store could not be closed";
	}
	model_free(&model);
	for (unsigned i = 0; i < snapshot_count; i++) {
		free(snapshots[i].image);
		snapshots[i].image = NULL;
		snapshots[i].answered = false;
	}
	return failed;
}

/* ---- all of it ---- */

static void store_prepare(const char *path)
{
	char sentence[SENTENCE_BYTES];
	struct store_make_options make = {.log_bytes = LOG_BYTES, .any_file_system = true};
	struct store_options options = {.cache_bytes = MIB, .any_file_system = true};
	struct volume_options volume = {.size_bytes = BLOCKS * (uint64_t)BLOCK_BYTES};
	mkdir(path, 0700);
	if (store_make(env, path, &make, sentence) < 0 ||
	    store_open(env, path, &options, &store, sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		exit(1);
	}
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct admin_op admin = {0};
		env_wait_prepare(&admin.op);
		store_volume_create(store, &admin, v ? "b" : "a", &volume);
		assert(env_wait(env, &admin.op) == 0);
	}
	assert(store_close(store) == 0);
}

static const char *rounds_run(struct cutter *cutter, const char *image, unsigned rounds,
			      struct cut_counts *counts, uint64_t *in_flight)
{
	for (unsigned round = 0; round < rounds; round++) {
		unsigned kind = round % IN_FLIGHT_KINDS;
		if (!spans[kind].count)
			FAIL("the run had no %s", in_flight_names[kind]);
		struct span span = spans[kind].at[random_below(spans[kind].count)];
		uint64_t moment = span.from + random_below(span.to - span.from);
		uint64_t dice = random_below(UINT64_MAX);
		cutter_image(cutter, moment, dice, image, counts);
		const char *failed = disk_open_and_check(image, moment);
		in_flight[kind]++;
		if (failed) {
			printf("round %u, in a %s, moment %llu: %s\n", round, in_flight_names[kind],
			       (unsigned long long)moment, failed);
			return failed;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	const char *sentence, *path = "store", *image;
	char in_memory[] = "/dev/shm/power_cuts.XXXXXX"; /* what is on it needs no disk */
	struct cut_counts counts = {0};
	uint64_t in_flight[IN_FLIGHT_KINDS] = {0};
	struct env *real;
	char own[] = "power_cuts.XXXXXX";
	if (argc < 4 || chdir(argv[1]) < 0 || !mkdtemp(own) || chdir(own) < 0) {
		fprintf(stderr, "usage: power_cuts FOLDER ROUNDS SEED [MUTANT]\n");
		return 2;
	}
	seed = strtoull(argv[3], NULL, 10);
	vstore_mutant = argc > 4 ? atoi(argv[4]) : 0;
	log_level_set(0);
	if (env_real_new(&(struct env_real_options){0}, &real, &sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		return 1;
	}
	env = real;
	store_prepare(path);
	image = mkdtemp(in_memory);
	if (!image) {
		image = "image";
		mkdir(image, 0700);
	}
	struct cutter *cutter = cutter_new(path);
	recorder = recorder_new(real);
	env = recorder_env(recorder);
	run(path);
	cutter_learn(cutter, recorder);
	spans_learn();
	env = real;
	const char *failed = rounds_run(cutter, image, (unsigned)atoi(argv[2]), &counts, in_flight);
	printf("%u happenings, %llu moments; cuts in a commit %llu, fold %llu, checkpoint %llu, "
	       "segment %llu; writes "
	       "synced %llu, kept %llu, dropped %llu, torn %llu; files lost %llu, back %llu, sizes "
	       "lost %llu\n",
	       (unsigned)happening_count, (unsigned long long)recorder_now(recorder),
	       (unsigned long long)in_flight[COMMIT], (unsigned long long)in_flight[FOLD],
	       (unsigned long long)in_flight[CHECKPOINT], (unsigned long long)in_flight[SEGMENT],
	       (unsigned long long)counts.synced, (unsigned long long)counts.kept,
	       (unsigned long long)counts.dropped, (unsigned long long)counts.torn,
	       (unsigned long long)counts.lost_files, (unsigned long long)counts.files_back,
	       (unsigned long long)counts.lost_sizes);
	for (size_t i = 0; i < happening_count; i++)
		if (happenings[i].answered)
			free(happenings[i].operation);
	free(happenings);
	for (unsigned k = 0; k < IN_FLIGHT_KINDS; k++)
		free(spans[k].at);
	cutter_clear(image);
	cutter_clear(path);
	if (chdir("..") == 0)
		rmdir(own);
	cutter_free(cutter);
	recorder_free(recorder);
	env_real_free(real);
	return vstore_mutant ? !failed : failed != NULL;
}
