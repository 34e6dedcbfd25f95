/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole store in a world made of one seed, against a model that knows, of each block, what a
 * reader may see.
 *
 * A life: thousands of requests, changes, folds and collections side by side, then a kill or a
 * power cut, and the store is opened again (sim_world.c says what must be there then). On bad days
 * the disk fails, is slow, is full, or has rotted. What fails must say so: a reader never sees
 * wrong data.
 *
 * Usage: sim_store --seeds A..B [--jobs N] | --mutant N. One line about the counts, or the seeds
 * that failed. The seed alone decides a life, whichever process runs it.
 */
#include "storage/rt/log_event.h"
#include "tests/sim/sim_world.h"

#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

int vstore_mutant;
struct totals totals;
char sim_failure[500];

#define OPS 2000u
#define OPS_AFTER 150u
#define MUTANT_SEEDS 300u
#define JOBS_MAX 64u
#define FAILED_MAX 20u	 /* seeds: then the rest is not tried */
#define SEED_SECONDS 120 /* of the processor: it hangs */
#define TELL_EVERY 1000u

/* The index's files change, or one or both go. */
static void index_spoil(struct world *world)
{
	struct env_dir *dir;
	world->index_rot = true;
	if (sim_random(world->sim, 3)) {
		for (uint64_t n = 1 + sim_random(world->sim, 10); n > 0; n--)
			sim_rot(world->sim, "index", 0);
		return;
	}
	if (env_dir_open(sim_env(world->sim), "store", &dir) < 0)
		return;
	uint64_t which = sim_random(world->sim, 3);
	if (which != 0)
		(void)!env_file_remove_wait(dir, "index.0");
	if (which != 1)
		(void)!env_file_remove_wait(dir, "index.1");
	env_dir_close(dir);
}

/* A life that ends soon after a file of the index began to be written, or a segment was dropped. */
static const char *index_day(struct world *world)
{
	struct store_counters at, now;
	struct store_info info;
	bool dropped = vstore_mutant != 22 && sim_random(world->sim, 2);
	unsigned phase = 1 + (unsigned)sim_random(world->sim, 8);
	uint64_t steps = 0;
	store_counters(world->store, &at);
	for (unsigned i = 0; i < 4 * OPS; i++) {
		const char *failed = life(world, 1);
		if (failed)
			return failed;
		store_info(world->store, &info);
		store_counters(world->store, &now);
		if (dropped ? now.segments_dropped > at.segments_dropped : info.index_phase)
			break;
		if (dropped && !world->work_busy && i % 64 == 0) {
			world->work = (struct store_work){.op.done = work_done};
			world->work_busy = true;
			store_gc(world->store, &world->work);
		}
	}
	if (dropped)
		return life(world, (unsigned)sim_random(world->sim, 500));
	for (; info.index_phase && info.index_phase < phase && steps < 2000; steps++) {
		env_step(sim_env(world->sim), true);
		store_info(world->store, &info);
	}
	return NULL;
}

static void faults_set(struct world *world, struct sim_faults faults)
{
	faults.slow = world->slow ? 10 : 0;
	sim_faults_set(world->sim, &faults);
}

static const char *world_run(struct world *world)
{
	struct sim *sim = world->sim;
	const char *failed = world_make(world);
	if (failed)
		return failed;
	failed = life(world, (unsigned)sim_random(sim, OPS / 2));
	if (failed)
		return failed;
	uint64_t bad_day = sim_random(sim, 8);
	world->slow = sim_random(sim, 2);
	faults_set(world, (struct sim_faults){0});
	if (vstore_mutant == 15 || (vstore_mutant >= 32 && vstore_mutant <= 34))
		bad_day = 2; /* these bugs show on such days only, and they are rare */
	if (vstore_mutant == 20 || vstore_mutant == 22)
		bad_day = 5;
	if (bad_day == 0) {
		faults_set(world, (struct sim_faults){
					  .write_error = 20, .sync_error = 20, .read_error = 5});
		world->faults = true;
	} else if (bad_day == 1) {
		sim_disk_room_set(sim, 100 * KIB);
		world->full = true;
	} else if (bad_day == 3) {
		world->lazy = true;
	}
	bool wild = bad_day >= 6 && sim_random(sim, 2);
	if (wild) { /* anything may be damaged: what is read is right all the same, or an error */
		world->rot = world->wild = world->model.keeps_all = true;
		if (bad_day == 6)
			faults_set(world, (struct sim_faults){.misread = 20, .miswritten = 10});
	}
	failed = life(world, OPS);
	if (failed)
		return failed;
	if (bad_day == 5 && (failed = index_day(world)))
		return failed;
	bool power_cut = sim_random(sim, 2) || vstore_mutant == 22;
	world_crash(world, power_cut);
	sim_disk_room_set(sim, UINT64_MAX);
	sim_faults_set(sim, &(struct sim_faults){0});
	for (unsigned i = 0; bad_day == 2 && i < 1 + sim_random(sim, 30); i++)
		world->rot |= sim_rot(sim, "00000", 4096);
	if (bad_day == 4 || vstore_mutant == 21)
		index_spoil(world);
	static const char *const prefixes[] = {"log", "checkpoint", "superblock", "0"};
	for (unsigned i = 0; wild && bad_day == 7 && i < 1 + sim_random(sim, 20); i++)
		sim_rot(sim, prefixes[sim_random(sim, 4)], 0);
	failed = world_open(world);
	if (failed && wild && !world->store) {
		totals.refused++;
		return NULL;
	}
	if (!failed)
		failed = world_verify(world, power_cut || wild);
	if (wild)
		return failed;
	if (!failed)
		failed = life(world, OPS_AFTER);
	if (!failed && world->rot)
		failed = fold_all(world);
	if (!failed)
		failed = close_and_open(world);
	world->index_rot = false; /* what was damaged was written anew */
	if (!failed)
		failed = world_verify(world, false);
	return failed;
}

/* ---- all of it ---- */

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	struct world *world = calloc(1, sizeof(*world));
	struct sim *sim = world->sim = sim_new(seed ^ 0x5707e);
	const char *failed = world_run(world);
	*ret_trace = sim_trace(sim);
	world_free(world);
	const uint64_t *from = (const uint64_t *)sim_counts(sim);
	uint64_t *to = (uint64_t *)&totals.faults;
	for (size_t i = 0; i < sizeof(struct sim_counts) / sizeof(uint64_t); i++)
		to[i] += from[i];
	sim_free(sim);
	totals.seeds++;
	return failed;
}

#define COUNT(name) #name, (unsigned long long)totals.name
#define FAULT(name) #name, (unsigned long long)totals.faults.name

static int totals_tell(uint64_t seeds)
{
	const struct {
		const char *name;
		unsigned long long count;
	} counts[] = {{COUNT(seeds)},
		      {COUNT(operations)},
		      {COUNT(writes)},
		      {COUNT(reads)},
		      {COUNT(flushes)},
		      {COUNT(snapshots)},
		      {COUNT(folds)},
		      {COUNT(works)},
		      {COUNT(opened)},
		      {COUNT(folds_after_rot)},
		      {COUNT(fold_at_crash)},
		      {COUNT(checkpoints)},
		      {COUNT(dropped_segments)},
		      {COUNT(moved_bytes)},
		      {COUNT(repacked_bytes)},
		      {COUNT(censuses)},
		      {COUNT(dedup)},
		      {COUNT(index_written)},
		      {COUNT(index_pages)},
		      {COUNT(index_mended)},
		      {COUNT(index_at_crash)},
		      {FAULT(kills)},
		      {FAULT(power_cuts)},
		      {FAULT(kept)},
		      {FAULT(dropped)},
		      {FAULT(torn)},
		      {FAULT(overtaken)},
		      {FAULT(slow)},
		      {FAULT(lost_files)},
		      {FAULT(files_back)},
		      {FAULT(read_errors)},
		      {FAULT(write_errors)},
		      {FAULT(sync_errors)},
		      {FAULT(no_space)},
		      {FAULT(rotten)},
		      {FAULT(misread)},
		      {FAULT(miswritten)}};
	int res = 0;
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		printf("%s%s %llu", i ? ", " : "", counts[i].name, counts[i].count);
		if (seeds >= 200 && counts[i].count == 0)
			res = 1; /* a kind of fault that was never seen proves nothing */
	}
	printf("\n");
	return res;
}

/* What the processes that run seeds share. */
struct common {
	_Atomic uint64_t next; /* seeds are dealt one by one */
	_Atomic unsigned failed;
	struct job {
		uint64_t seed; /* that it runs */
		struct totals totals;
	} jobs[JOBS_MAX];
};

static bool seed_fits(uint64_t seed)
{
	uint64_t trace, again;
	const char *failed = seed_run(seed, &trace);
	if (!failed && seed % 50 == 0 && (seed_run(seed, &again) || again != trace))
		failed = "two runs differ";
	if (failed)
		printf("seed %llu: %s\n", (unsigned long long)seed, failed);
	fflush(stdout);
	return !failed;
}

static void job_run(struct common *common, struct job *job, uint64_t from, uint64_t to)
{
	const struct itimerval limit = {.it_value.tv_sec = SEED_SECONDS};
	while (common->failed < FAILED_MAX && (job->seed = common->next++) <= to) {
		setitimer(ITIMER_PROF, &limit, NULL);
		if (!seed_fits(job->seed))
			common->failed++;
		job->totals = totals;
		if ((job->seed - from + 1) % TELL_EVERY == 0)
			fprintf(stderr, "seed %llu\n", (unsigned long long)job->seed);
	}
}

static pid_t job_fork(struct common *common, struct job *job, uint64_t from, uint64_t to)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		totals = job->totals; /* of one that died before */
		job_run(common, job, from, to);
		_exit(0);
	}
	return child;
}

static void totals_add(struct totals *to, const struct totals *from)
{
	for (size_t i = 0; i < sizeof(*to) / sizeof(uint64_t); i++)
		((uint64_t *)to)[i] += ((const uint64_t *)from)[i];
}

static int seeds_run(uint64_t from, uint64_t to, unsigned job_count)
{
	struct common *common = mmap(NULL, sizeof(*common), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t children[JOBS_MAX];
	unsigned running = job_count;
	common->next = from;
	for (unsigned i = 0; i < job_count; i++)
		children[i] = job_fork(common, &common->jobs[i], from, to);
	while (running) {
		int status;
		pid_t child = waitpid(-1, &status, 0);
		for (unsigned i = 0; i < job_count && child > 0; i++) {
			if (children[i] != child)
				continue;
			if (status == 0) {
				running--;
				continue;
			}
			printf("seed %llu: the process died (%s)\n",
			       (unsigned long long)common->jobs[i].seed,
			       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit");
			common->failed++;
			children[i] = job_fork(common, &common->jobs[i], from, to);
		}
	}
	for (unsigned i = 0; i < job_count; i++)
		totals_add(&totals, &common->jobs[i].totals);
	int res = totals_tell(to - from + 1);
	if (common->failed)
		printf("%u seeds failed\n", common->failed);
	return common->failed || res;
}

/* 0: the planted bug was found. */
static int mutant_run(int number)
{
	uint64_t trace;
	vstore_mutant = number;
	for (uint64_t seed = 1; seed <= MUTANT_SEEDS; seed++) {
		const char *failed = seed_run(seed, &trace);
		if (failed) {
			printf("mutant %d: found at seed %llu: %s\n", number,
			       (unsigned long long)seed, failed);
			return 0;
		}
	}
	printf("mutant %d: not found in %u seeds\n", number, MUTANT_SEEDS);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long long from, to;
	/* Memory that was touched once is used again: pages cost more than what is done with them.
	 */
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	log_level_set(0); /* what is injected here is no news */
	if ((argc == 3 || argc == 5) && strcmp(argv[1], "--seeds") == 0 &&
	    sscanf(argv[2], "%llu..%llu", &from, &to) == 2) {
		int jobs = argc == 5 && strcmp(argv[3], "--jobs") == 0 ? atoi(argv[4]) : 1;
		if (from == to) /* under a debugger */
			return !seed_fits(from) || totals_tell(1);
		if (jobs >= 1 && jobs <= (int)JOBS_MAX)
			return seeds_run(from, to, (unsigned)jobs);
	}
	if (argc == 3 && strcmp(argv[1], "--mutant") == 0)
		return mutant_run(atoi(argv[2]));
	fprintf(stderr, "usage: sim_store --seeds A..B [--jobs N] | --mutant N\n");
	return 2;
}
