/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/seeds.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#define RARE_SEEDS 5000u
#define JOBS_MAX 64u
#define FAILED_MAX 20u	 /* seeds: then the rest is not tried */
#define SEED_SECONDS 120 /* of the processor: it hangs */
#define TELL_EVERY 1000u

/* What the processes that run seeds share; behind it the totals of each. */
struct common {
	_Atomic uint64_t next; /* seeds are dealt one by one */
	_Atomic unsigned failed;
	uint64_t seed[JOBS_MAX]; /* that each runs */
	uint64_t totals[];
};

struct range {
	const struct seeds *seeds;
	struct common *common;
	uint64_t from, to;
};

static bool seed_fits(const struct seeds *seeds, uint64_t seed)
{
	uint64_t trace, again;
	const char *failed = seeds->run(seed, &trace);
	if (!failed && seed % 50 == 0 && (seeds->run(seed, &again) || again != trace))
		failed = "two runs differ";
	if (failed)
		printf("seed %llu: %s\n", (unsigned long long)seed, failed);
	fflush(stdout);
	return !failed;
}

static uint64_t *job_totals(const struct range *range, unsigned job)
{
	return range->common->totals + job * (range->seeds->totals_bytes / sizeof(uint64_t));
}

static void job_run(const struct range *range, unsigned job)
{
	const struct itimerval limit = {.it_value.tv_sec = SEED_SECONDS};
	struct common *common = range->common;
	uint64_t *seed = &common->seed[job];
	while (common->failed < FAILED_MAX && (*seed = common->next++) <= range->to) {
		setitimer(ITIMER_PROF, &limit, NULL);
		if (!seed_fits(range->seeds, *seed))
			common->failed++;
		memcpy(job_totals(range, job), range->seeds->totals, range->seeds->totals_bytes);
		if ((*seed - range->from + 1) % TELL_EVERY == 0)
			fprintf(stderr, "seed %llu\n", (unsigned long long)*seed);
	}
}

static pid_t job_fork(const struct range *range, unsigned job)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) { /* with the totals of one that died before */
		memcpy(range->seeds->totals, job_totals(range, job), range->seeds->totals_bytes);
		job_run(range, job);
		_exit(0);
	}
	return child;
}

static int range_run(const struct range *range, unsigned job_count)
{
	struct common *common = range->common;
	pid_t children[JOBS_MAX];
	unsigned running = job_count;
	common->next = range->from;
	for (unsigned i = 0; i < job_count; i++)
		children[i] = job_fork(range, i);
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
			       (unsigned long long)common->seed[i],
			       WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit");
			common->failed++;
			children[i] = job_fork(range, i);
		}
	}
	for (unsigned i = 0; i < job_count; i++)
		seeds_counts_add(range->seeds->totals, job_totals(range, i),
				 range->seeds->totals_bytes);
	int res = range->seeds->tell(range->to - range->from + 1);
	if (common->failed)
		printf("%u seeds failed\n", common->failed);
	return common->failed || res;
}

static int seeds_run(const struct seeds *seeds, uint64_t from, uint64_t to, unsigned job_count)
{
	size_t bytes = sizeof(struct common) + job_count * seeds->totals_bytes;
	struct common *common =
		mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (common == MAP_FAILED)
		return 1;
	return range_run(&(struct range){seeds, common, from, to}, job_count);
}

/* 0: the planted bug was found. All seeds are tried, from that one on and round; where it is found
 * late, that saves minutes for as long as nothing shifts the dice. */
static int mutant_run(const struct seeds *seeds, int number, unsigned first)
{
	uint64_t trace;
	*seeds->mutant = number;
	for (unsigned i = 0; i < seeds->mutant_seeds; i++) {
		uint64_t seed = 1 + (first - 1 + i) % seeds->mutant_seeds;
		const char *failed = seeds->run(seed, &trace);
		if (failed) {
			printf("mutant %d: found at seed %llu: %s\n", number,
			       (unsigned long long)seed, failed);
			return 0;
		}
	}
	printf("mutant %d: not found in %u seeds\n", number, seeds->mutant_seeds);
	return 1;
}

int seeds_main(const struct seeds *seeds, int argc, char **argv)
{
	unsigned long long from, to;
	if ((argc == 3 || argc == 5) && strcmp(argv[1], "--seeds") == 0 &&
	    sscanf(argv[2], "%llu..%llu", &from, &to) == 2) {
		int jobs = argc == 5 && strcmp(argv[3], "--jobs") == 0 ? atoi(argv[4]) : 1;
		if (from == to) /* under a debugger */
			return !seed_fits(seeds, from) || seeds->tell(1);
		if (jobs >= 1 && jobs <= (int)JOBS_MAX)
			return seeds_run(seeds, from, to, (unsigned)jobs);
	}
	if ((argc == 3 || argc == 4) && strcmp(argv[1], "--mutant") == 0 && seeds->mutant) {
		int first = argc == 4 ? atoi(argv[3]) : 1;
		if (first >= 1)
			return mutant_run(seeds, atoi(argv[2]), (unsigned)first);
	}
	fprintf(stderr, "usage: %s --seeds A..B [--jobs N]%s\n", seeds->program,
		seeds->mutant ? " | --mutant N [FIRST-SEED]" : "");
	return 2;
}

/* ---- counts ---- */

int seeds_counts_tell(const struct seeds_count *counts, size_t count, uint64_t seeds,
		      uint64_t enough)
{
	int res = 0;
	for (size_t i = 0; i < count; i++) {
		printf("%s%s %llu", i ? ", " : "", counts[i].name,
		       (unsigned long long)counts[i].count);
		if (counts[i].count == 0 && seeds >= (counts[i].rare ? RARE_SEEDS : enough))
			res = 1; /* what was never seen proves nothing */
	}
	printf("\n");
	return res;
}

void seeds_counts_add(void *to, const void *from, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
		((uint64_t *)to)[i] += ((const uint64_t *)from)[i];
}

void seeds_faults_add(struct sim_counts *to, const struct sim *sim)
{
	seeds_counts_add(to, sim_counts(sim), sizeof(*to));
}
