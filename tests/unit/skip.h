/* SPDX-License-Identifier: Apache-2.0 */
/* A real env whose clocks can be set forward: what waits for hours need not be waited for. */
#ifndef TESTS_UNIT_SKIP_H
#define TESTS_UNIT_SKIP_H

#include "tests/unit/store_fixture.h"

#include "storage/store/store_follow.h"
#include "storage/store/store_vote.h"

/* Every mandate has passed. */
#define MANDATES_NS (MANDATE_NS + MANDATE_NS / 16 + NSEC_PER_SEC)

static struct env_ops skip_ops;
static uint64_t (*skip_now)(struct env *env), (*skip_wall)(struct env *env);
static uint64_t skip_skipped_ns;

static inline uint64_t skip_later_ns(struct env *env)
{
	return skip_now(env) + skip_skipped_ns;
}
static inline uint64_t skip_later_wall_ns(struct env *env)
{
	return skip_wall(env) + skip_skipped_ns;
}

/* From here on, of all envs that this was said of. Timers that run already fire when they would
 * have. */
static inline void skip_ns(struct fixture *f, uint64_t duration_ns)
{
	if (f->env->ops != &skip_ops) {
		skip_ops = *f->env->ops;
		skip_now = skip_ops.now_ns;
		skip_ops.now_ns = skip_later_ns;
		skip_wall = skip_ops.wall_ns;
		skip_ops.wall_ns = skip_later_wall_ns;
		f->env->ops = &skip_ops;
	}
	skip_skipped_ns += duration_ns;
}

/* The next four seconds by the time of day, for which a decision waits, begin in so long, or less.
 */
static inline void skip_to_decision(struct fixture *f, uint64_t left_ns)
{
	skip_ns(f, 0);
	uint64_t left = DECISION_NS - env_wall_ns(f->env) % DECISION_NS;
	skip_ns(f, left > left_ns ? left - left_ns : 0);
}

/* Nothing that was given or decided is waited for long. */
static inline void skip_to_promotion(struct fixture *f)
{
	skip_ns(f, MANDATES_NS);
	skip_to_decision(f, 20 * NSEC_PER_MSEC);
}

static inline uint64_t skip_no_wall_ns(struct env *env)
{
	(void)env;
	return 0;
}

/* Nobody knows the time of day, and no decision waits for it. */
static inline void skip_wall_unknown(struct fixture *f)
{
	skip_ns(f, 0);
	skip_ops.wall_ns = skip_no_wall_ns;
}

#endif
