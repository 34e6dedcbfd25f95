/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program of seeds is: a range of them on some processes, each told when it fails, dies or
 * hangs, every fiftieth run twice with the same trace; or one planted bug, looked for seed by seed.
 * The seed alone decides a life, whichever process runs it.
 */
#ifndef TESTS_SIM_SEEDS_H
#define TESTS_SIM_SEEDS_H

#include "tests/sim/simenv.h"

struct seeds {
	const char *program;
	/* NULL, or what went wrong. Counts what it does in the totals. */
	const char *(*run)(uint64_t seed, uint64_t *ret_trace);
	/* Nothing but uint64_t; what the processes counted is added up here. */
	void *totals;
	size_t totals_bytes;
	/* One line about them; not 0 when something was never seen that so many seeds must show. */
	int (*tell)(uint64_t seeds);
	int *mutant;	       /* NULL: there is none in this program */
	unsigned mutant_seeds; /* that are tried for one */
};

/* --seeds A..B [--jobs N] | --mutant N [FIRST-SEED]: the exit code. */
int seeds_main(const struct seeds *seeds, int argc, char **argv);

struct seeds_count {
	const char *name;
	uint64_t count;
	bool rare; /* some hundred seeds may do without it */
};
/* Prints them; 1 when one is zero that may not be, as of so many seeds (or of many more, when it is
 * rare) each kind of thing must be seen. */
int seeds_counts_tell(const struct seeds_count *counts, size_t count, uint64_t seeds,
		      uint64_t enough);
/* Of structs of nothing but uint64_t. */
void seeds_counts_add(void *to, const void *from, size_t bytes);
void seeds_faults_add(struct sim_counts *to, const struct sim *sim);

#endif
