/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every crash point of short scripts.
 *
 * A point lies before each change of the disk (a write, sync, allocation, new size, creation or
 * removal that is about to happen), with all that the change before it caused already answered. At
 * each point the process forks, and each child ends its world in one way: a kill with what was
 * under way there, gone or torn; a power cut with everything unsynced there, or gone, or each thing
 * alone gone, torn, or surviving, whole or torn. The child then opens the store, compares it with
 * the model, and lives on a little. At each point one recovery is cut short by another power cut;
 * at the last point of a script, every change of the recovery is.
 *
 * A race is a script of two things side by side: the second one begins after no step of the first,
 * after one, and so on, each in a child that goes on to the end and is compared.
 *
 * A planted bug may show in one order of things only, which the world's dice decide. So it is
 * looked for in several worlds; where it is found, the same world without it must be clean.
 *
 * Usage: points [SCRIPT | --mutant N [SCRIPT] | SCRIPT POINT CRASH]. One line a script, or the
 * crash that failed.
 */
#include "tests/sim/points.h"

#include "storage/rt/log_event.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

int vstore_mutant;

#define DOUBTS_MAX 64u /* more are left out, and counted */
#define RACES_MAX 2000u
#define WORLDS_MAX 12u	 /* in which a planted bug is looked for */
#define CHILD_SECONDS 60 /* the processor's own: only a loop without an end takes that long */

/* What parents and children share. */
static struct shared {
	uint32_t doubts, recovery_changes;
	bool over; /* a race was tried in all its orders */
	char failure[512];
} * shared;

static struct bed bed;
static const struct script *script;
static unsigned point, wanted_point, crash, wanted_crash;
static unsigned world = 1; /* the seed of its dice */
static struct {
	unsigned points, crashes, recovery_crashes, left_out;
} totals;
static char where[200];

void bed_fail(const char *format, ...)
{
	va_list args;
	char what[300];
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	snprintf(shared->failure, sizeof shared->failure, "%s: %s", where, what);
	_exit(1);
}

/* ---- what must be there ---- */

static bool names_equal(const struct names *names)
{
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t volume_count, snapshot_count, trashed_volumes, trashed_snapshots, want = 0;
	bool equal = true;
	void *trash[2];
	if (store_volumes(bed.store, false, &volumes, &volume_count) < 0 ||
	    store_snapshots(bed.store, false, &snapshots, &snapshot_count) < 0 ||
	    store_volumes(bed.store, true, (struct volume_info **)&trash[0], &trashed_volumes) <
		    0 ||
	    store_snapshots(bed.store, true, (struct snapshot_info **)&trash[1],
			    &trashed_snapshots) < 0)
		bed_fail("there is no list");
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT; v++) {
		bool found = false;
		for (size_t i = 0; i < volume_count; i++)
			found |= strcmp(volumes[i].name, names->volumes[v].name) == 0 &&
				 volumes[i].size_bytes ==
					 names->volumes[v].block_count * (uint64_t)BLOCK_BYTES;
		want += names->volumes[v].exists;
		equal &= found || !names->volumes[v].exists;
	}
	equal &= want == volume_count;
	want = 0;
	for (unsigned k = 0; k < SNAPSHOTS_IN_SCRIPT; k++) {
		bool found = false;
		char full[80];
		for (size_t i = 0; i < snapshot_count; i++) {
			snprintf(full, sizeof full, "%.30s@%.30s", snapshots[i].volume,
				 snapshots[i].name);
			found |= strcmp(full, names->snapshots[k].name) == 0;
		}
		want += names->snapshots[k].exists;
		equal &= found || !names->snapshots[k].exists;
	}
	equal &= want == snapshot_count && trashed_volumes + trashed_snapshots == names->trashed;
	free(volumes);
	free(snapshots);
	free(trash[0]);
	free(trash[1]);
	return equal;
}

static uint8_t *read_all(const char *name, uint32_t block_count)
{
	struct view *view;
	uint8_t *image = aligned_alloc(BLOCK_BYTES, block_count * (size_t)BLOCK_BYTES);
	int res = store_view_open(bed.store, name, &view);
	if (res < 0)
		bed_fail("%s: %s", name, vs_strerror(res));
	for (uint32_t b = 0; b < block_count; b += CHUNK_BLOCKS) {
		uint32_t count = (uint32_t)min_u64(CHUNK_BLOCKS, block_count - b);
		struct store_request request = {.view = view,
						.kind = REQUEST_READ,
						.offset_bytes = b * (uint64_t)BLOCK_BYTES,
						.length_bytes = count * (uint64_t)BLOCK_BYTES,
						.data = image + b * (size_t)BLOCK_BYTES};
		env_wait_prepare(&request.op);
		store_submit(&request);
		res = (int)env_wait(sim_env(bed.sim), &request.op);
		if (res < 0)
			bed_fail("%s, block %u: %s", name, b, vs_strerror(res));
	}
	store_view_close(view);
	return image;
}

static void bed_verify(bool power_cut)
{
	uint8_t *images[VOLUMES_IN_SCRIPT] = {NULL};
	uint64_t survivor = 0;
	const char *failed = NULL;
	if (bed.changing && names_equal(&bed.next)) {
		survivor = memcmp(&bed.now, &bed.next, sizeof bed.now) ? bed.change_submitted : 0;
		bed.now = bed.next;
	} else if (!names_equal(&bed.now)) {
		bed_fail("the volumes and snapshots are not those that there should be");
	}
	bed.changing = false;
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT && !failed; v++) {
		if (!bed.now.volumes[v].exists) {
			model_volume_drop(&bed.model, v);
			continue;
		}
		images[v] =
			calloc(bed.model.block_counts[v], BLOCK_BYTES); /* it may not have grown */
		uint32_t count = bed.now.volumes[v].block_count;
		uint8_t *read = read_all(bed.now.volumes[v].name, count);
		memcpy(images[v], read, count * (size_t)BLOCK_BYTES);
		free(read);
		failed = model_check(&bed.model, v, images[v], NULL, power_cut, &survivor);
	}
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT && !failed; v++)
		if (images[v])
			failed = model_check_order(&bed.model, v, images[v], survivor);
	if (failed)
		bed_fail("%s", failed);
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT; v++) {
		model_settle(&bed.model, v);
		free(images[v]);
	}
	for (unsigned k = 0; k < SNAPSHOTS_IN_SCRIPT; k++) {
		if (!bed.now.snapshots[k].exists)
			continue;
		uint8_t *image =
			read_all(bed.now.snapshots[k].name, bed.now.snapshots[k].block_count);
		if (memcmp(image, bed.now.snapshots[k].data,
			   bed.now.snapshots[k].block_count * (size_t)BLOCK_BYTES) != 0)
			bed_fail("snapshot %s is not what the volume was",
				 bed.now.snapshots[k].name);
		free(image);
	}
	bed_check(&bed);
	struct store_counters counters;
	struct store_info info;
	store_counters(bed.store, &counters);
	store_info(bed.store, &info);
	if (!bed.disk_failed && !bed.rotten &&
	    (counters.checksum_errors || counters.io_errors || info.lost_segments))
		bed_fail("%llu bad checksums, %llu errors of the disk, %u lost segments, though "
			 "nothing was damaged",
			 (unsigned long long)counters.checksum_errors,
			 (unsigned long long)counters.io_errors, info.lost_segments);
}

/* What was saved can be used: writes, folds, and a clean end that the next opening agrees with. */
static void bed_live_on(void)
{
	for (unsigned v = 0; v < VOLUMES_IN_SCRIPT; v++)
		if (bed.now.volumes[v].exists && !strchr(bed.now.volumes[v].name, '/')) {
			bed_write(&bed, v, 3, 2, 7000 + v, 0);
			bed_write(&bed, v, 16, 16, 7100 + v, 0);
			bed_flush(&bed);
		}
	bed_fold(&bed);
	bed_gc(&bed);
	bed_close(&bed);
	bed_open(&bed);
	bed_verify(false);
}

/* ---- crashes ---- */

static unsigned recovery_change, recovery_cut_at;

static void crashed_open(bool power_cut, bool live_on)
{
	bed.may_fail = false;
	sim_disk_room_set(bed.sim, UINT64_MAX);
	bed_open(&bed);
	sim_before_change(bed.sim, NULL, NULL);
	shared->recovery_changes = recovery_change;
	if (!bed.store)
		_exit(0); /* it was never made */
	if (bed.opened)
		bed.opened(&bed);
	bed_verify(power_cut);
	if (live_on)
		bed_live_on();
	_exit(0);
}

/* In a child's recovery: counts, and at one change the power goes once more. */
static void recovery_point(void *arg)
{
	(void)arg;
	struct sim_crash_plan plan = {.power_cut = true, .fate = SIM_DROPPED, .one = UINT32_MAX};
	if (++recovery_change != recovery_cut_at)
		return;
	sim_before_change(bed.sim, NULL, NULL);
	sim_crash_planned(bed.sim, &plan);
	crashed_open(true, false);
}

/* One end of the world, in a child. cut_recovery: 0, or the change of the recovery at which it is
 * cut. */
static void crash_one(const struct sim_crash_plan *plan, unsigned cut_recovery, bool live_on)
{
	crash++;
	if (wanted_crash && crash != wanted_crash)
		return;
	int status;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		struct rlimit limit = {CHILD_SECONDS, CHILD_SECONDS};
		setrlimit(RLIMIT_CPU, &limit);
		snprintf(where, sizeof where,
			 "script %s, point %u, crash %u (%s, all %s, number %d %s%s)", script->name,
			 point, crash, plan->power_cut ? "power cut" : "kill",
			 plan->fate == SIM_KEPT	     ? "kept"
			 : plan->fate == SIM_DROPPED ? "dropped"
						     : "torn",
			 (int)plan->one,
			 plan->fate_of_one == SIM_KEPT	    ? "kept"
			 : plan->fate_of_one == SIM_DROPPED ? "dropped"
							    : "torn",
			 cut_recovery ? ", recovery cut" : "");
		if (bed.crashing)
			bed.crashing(&bed);
		shared->doubts = sim_crash_planned(bed.sim, plan);
		recovery_change = 0;
		recovery_cut_at = cut_recovery;
		sim_before_change(bed.sim, recovery_point, NULL);
		crashed_open(plan->power_cut, live_on);
	}
	waitpid(child, &status, 0);
	totals.crashes++;
	totals.recovery_crashes += cut_recovery != 0;
	if (status == 0)
		return;
	if (!shared->failure[0])
		snprintf(shared->failure, sizeof shared->failure,
			 "script %s, point %u, crash %u: the process died (status %x)",
			 script->name, point, crash, (unsigned)status);
	_exit(1);
}

static void point_crash(bool last)
{
	static const enum sim_fate fates[] = {SIM_KEPT, SIM_DROPPED, SIM_TORN};
	struct sim_crash_plan plan = {.one = UINT32_MAX};
	crash = 0;
	for (unsigned i = 0; i < 3; i++) {
		plan.fate = fates[i];
		crash_one(&plan, 0, i == 1);
		if (!shared->doubts) /* nothing was under way */
			break;
	}
	plan.power_cut = true;
	plan.fate = SIM_KEPT;
	crash_one(&plan, 0, false);
	uint32_t doubts = shared->doubts;
	totals.left_out += doubts > DOUBTS_MAX ? doubts - DOUBTS_MAX : 0;
	doubts = (uint32_t)min_u64(doubts, DOUBTS_MAX);
	if (doubts) {
		plan.fate = SIM_DROPPED;
		crash_one(&plan, 0, true);
	}
	for (plan.one = 0; plan.one < doubts; plan.one++) {
		plan.fate = SIM_KEPT;
		plan.fate_of_one = SIM_TORN;
		crash_one(&plan, 0, false);
		if (doubts == 1)
			break; /* the rest is one of those above */
		plan.fate_of_one = SIM_DROPPED;
		crash_one(&plan, 0, false);
		plan.fate = SIM_DROPPED;
		plan.fate_of_one = SIM_KEPT;
		crash_one(&plan, 0, false);
		plan.fate_of_one = SIM_TORN;
		crash_one(&plan, 0, false);
	}
	plan = (struct sim_crash_plan){.power_cut = true, .fate = SIM_DROPPED, .one = UINT32_MAX};
	uint32_t changes = shared->recovery_changes;
	for (uint32_t at = 1; at <= changes; at++)
		if (last || at == 1 + point % changes)
			crash_one(&plan, at, false);
}

static void script_point(void *arg)
{
	point++;
	if (!wanted_point || point == wanted_point)
		point_crash(arg != NULL);
}

/* ---- races ---- */

/* One order of things, in a child: compared while the store is open, and after a kill. */
static void race_one(void)
{
	const struct sim_crash_plan plan = {.fate = SIM_KEPT, .one = UINT32_MAX};
	snprintf(where, sizeof where, "script %s, after %u steps", script->name, point);
	shared->over = !script->race(&bed, point);
	bed_wait(&bed);
	bed_verify(false);
	sim_crash_planned(bed.sim, &plan);
	recovery_cut_at = 0;
	crashed_open(false, true);
}

static void races(void)
{
	for (shared->over = false; !shared->over && point < RACES_MAX; point++) {
		int status;
		fflush(stdout);
		pid_t child = fork();
		if (child == 0)
			race_one();
		waitpid(child, &status, 0);
		if (status == 0)
			continue;
		if (!shared->failure[0])
			snprintf(shared->failure, sizeof shared->failure,
				 "script %s, after %u steps: the process died (status %x)",
				 script->name, point, (unsigned)status);
		_exit(1);
	}
	printf("script %s: %u orders%s\n", script->name, point,
	       shared->over ? "" : "; SOME LEFT OUT");
	fflush(stdout);
	_exit(!shared->over);
}

/* ---- scripts ---- */

/* In a child of its own. */
static void script_run(void)
{
	bed.sim = sim_new(world);
	snprintf(where, sizeof where, "script %s, before any crash", script->name);
	if (!script->no_store) {
		bed_make(&bed);
		bed_open(&bed);
	}
	if (script->prepare)
		script->prepare(&bed);
	if (script->race)
		races();
	sim_before_change(bed.sim, script_point, NULL);
	script->run(&bed);
	script_point(&bed);
	totals.points = point;
	printf("script %s: %u points, %u crashes, %u of them in a recovery%s\n", script->name,
	       totals.points, totals.crashes, totals.recovery_crashes,
	       totals.left_out ? "; SOME LEFT OUT" : "");
	fflush(stdout);
	_exit(totals.left_out ? 1 : 0);
}

/* 0: every crash ended well. */
static int script_try(const struct script *what)
{
	int status;
	script = what;
	shared->failure[0] = 0;
	fflush(stdout);
	pid_t child = fork();
	if (child == 0)
		script_run();
	waitpid(child, &status, 0);
	return status;
}

static int scripts_try(const char *only)
{
	int failed = 0;
	for (unsigned i = 0; i < script_count && !failed; i++)
		if (!only || strcmp(only, scripts[i].name) == 0)
			failed = script_try(&scripts[i]);
	return failed;
}

/* 0: it was found. */
static int mutant_try(int mutant, const char *only)
{
	char found[sizeof shared->failure];
	for (; world <= WORLDS_MAX; world++) {
		vstore_mutant = mutant;
		if (scripts_try(only) == 0)
			continue;
		memcpy(found, shared->failure, sizeof found);
		vstore_mutant = 0;
		bool clean = scripts_try(only) == 0;
		printf("mutant %d: found in world %u, %s at %s\n", mutant, world,
		       clean ? "and only with it," : "BUT ALSO WITHOUT IT,",
		       clean ? found : shared->failure);
		return !clean;
	}
	printf("mutant %d: not found in %u worlds\n", mutant, WORLDS_MAX);
	return 1;
}

static bool script_known(const char *name)
{
	for (unsigned i = 0; i < script_count; i++)
		if (strcmp(name, scripts[i].name) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	bool mutant = argc > 2 && strcmp(argv[1], "--mutant") == 0;
	const char *only = argc > 1 + 2 * mutant ? argv[1 + 2 * mutant] : NULL;
	if (only && !script_known(only)) {
		fprintf(stderr,
			"usage: points [SCRIPT | --mutant N [SCRIPT] | SCRIPT POINT CRASH]\n");
		return 2;
	}
	if (!mutant && argc > 3) {
		wanted_point = (unsigned)atoi(argv[2]);
		wanted_crash = (unsigned)atoi(argv[3]);
	}
	log_level_set(0); /* what is injected here is no news */
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (mutant)
		return mutant_try(atoi(argv[2]), only);
	int failed = scripts_try(only);
	if (failed)
		printf("failed: %d: %s\n", failed, shared->failure);
	return failed != 0;
}
