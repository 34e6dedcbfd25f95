/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts of a real run. The store runs on real files through the real ring, with a recorder
 * between (life.c); afterwards disks are built that a power cut at some moment of the run could
 * have left, each is opened by the store, and compared with what had been answered and flushed by
 * then. A round's moment lies in a commit, a fold, a checkpoint, or the making or sealing of a
 * segment.
 *
 * Usage: power_cuts FOLDER ROUNDS SEED [MUTANT]: works in a new folder in FOLDER, and removes it.
 * With a mutant: exits 0 when it was found.
 */
#include "proto/err.h"
#include "storage/rt/log_event.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "tests/crash/cut.h"
#include "tests/crash/life.h"
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

static const char *const in_flight_names[] = {"commit", "fold", "checkpoint", "segment"};

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
	int res = store_view_open(life.store, name, &view);
	if (res < 0)
		FAIL("%s: %s", name, vs_strerror(res));
	struct store_request request = {
		.view = view, .length_bytes = BLOCKS * (uint64_t)BLOCK_BYTES, .data = to};
	env_wait_prepare(&request.op);
	store_submit(&request);
	res = (int)env_wait(life.env, &request.op);
	store_view_close(view);
	if (res < 0)
		FAIL("%s: %s", name, vs_strerror(res));
	return NULL;
}

static uint8_t images[VOLUMES][BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));

static const char *snapshots_check(uint64_t *survivor)
{
	for (unsigned i = 0; i < life.snapshot_count; i++) {
		struct taken *taken = &life.snapshots[i];
		struct view *view;
		int res = store_view_open(life.store, taken->name, &view);
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
	store_check(life.store, &work);
	env_wait(life.env, &work.op);
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
	for (size_t i = 0; i < life.happening_count && life.happenings[i].moment <= moment; i++)
		happening_tell(&model, &life.happenings[i]);
	const char *failed = NULL;
	if (store_open(life.env, path, &options, &life.store, sentence) < 0) {
		snprintf(failure, sizeof failure, "the store was refused: %.200s", sentence);
		failed = failure;
	} else {
		failed = disk_check(&model);
		if (store_close(life.store) < 0 && !failed)
			failed = "the store could not be closed";
	}
	model_free(&model);
	for (unsigned i = 0; i < life.snapshot_count; i++) {
		free(life.snapshots[i].image);
		life.snapshots[i].image = NULL;
		life.snapshots[i].answered = false;
	}
	return failed;
}

/* ---- all of it ---- */

static const char *rounds_run(struct cutter *cutter, const char *image, unsigned rounds,
			      struct cut_counts *counts, uint64_t *in_flight)
{
	for (unsigned round = 0; round < rounds; round++) {
		unsigned kind = round % IN_FLIGHT_KINDS;
		if (!life.spans[kind].count)
			FAIL("the run had no %s", in_flight_names[kind]);
		struct span span = life.spans[kind].at[life_random(life.spans[kind].count)];
		uint64_t moment = span.from + life_random(span.to - span.from);
		uint64_t dice = life_random(UINT64_MAX);
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
	life.seed = strtoull(argv[3], NULL, 10);
	vstore_mutant = argc > 4 ? atoi(argv[4]) : 0;
	log_level_set(0);
	if (env_real_new(&(struct env_real_options){0}, &real, &sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		return 1;
	}
	life.env = real;
	life_prepare(path);
	image = mkdtemp(in_memory);
	if (!image) {
		image = "image";
		mkdir(image, 0700);
	}
	struct cutter *cutter = cutter_new(path);
	life.recorder = recorder_new(real);
	life.env = recorder_env(life.recorder);
	life_run(path);
	cutter_learn(cutter, life.recorder);
	life_learn_spans();
	life.env = real;
	const char *failed = rounds_run(cutter, image, (unsigned)atoi(argv[2]), &counts, in_flight);
	printf("%u happenings, %llu moments; cuts in a commit %llu, fold %llu, checkpoint %llu, "
	       "segment %llu; writes "
	       "synced %llu, kept %llu, dropped %llu, torn %llu; files lost %llu, back %llu, sizes "
	       "lost %llu\n",
	       (unsigned)life.happening_count, (unsigned long long)recorder_now(life.recorder),
	       (unsigned long long)in_flight[COMMIT], (unsigned long long)in_flight[FOLD],
	       (unsigned long long)in_flight[CHECKPOINT], (unsigned long long)in_flight[SEGMENT],
	       (unsigned long long)counts.synced, (unsigned long long)counts.kept,
	       (unsigned long long)counts.dropped, (unsigned long long)counts.torn,
	       (unsigned long long)counts.lost_files, (unsigned long long)counts.files_back,
	       (unsigned long long)counts.lost_sizes);
	life_free();
	cutter_clear(image);
	cutter_clear(path);
	if (chdir("..") == 0)
		rmdir(own);
	cutter_free(cutter);
	recorder_free(life.recorder);
	env_real_free(real);
	return vstore_mutant ? !failed : failed != NULL;
}
