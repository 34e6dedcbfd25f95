/* SPDX-License-Identifier: Apache-2.0 */
/* A command of a store, waited for in simulated time: store_...(store, admin(&op), ...). */
#ifndef TESTS_SIM_ADMIN_H
#define TESTS_SIM_ADMIN_H

#include "storage/store/store_admin.h"
#include "tests/sim/simenv.h"

#include <stdio.h>
#include <stdlib.h>

static inline struct admin_op *admin(struct admin_op *op)
{
	*op = (struct admin_op){0};
	env_wait_prepare(&op->op);
	return op;
}

/* Refused: it says so, and the program ends. */
static inline void admin_must(struct sim *sim, struct admin_op *op)
{
	if (env_wait(sim_env(sim), &op->op) < 0) {
		fprintf(stderr, "refused: %s\n", op->sentence);
		exit(1);
	}
}

#endif
