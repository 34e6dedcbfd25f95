/* SPDX-License-Identifier: Apache-2.0 */
/* Words of voters, h1, h2 and w, and how a store is told one: for tests without a network. */
#ifndef TESTS_UNIT_WORDS_H
#define TESTS_UNIT_WORDS_H

#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

#ifdef VSTORE_MUTANTS
int vstore_mutant; /* the first argument's */
#endif

static inline struct store_word word_of(const uint8_t uuid[16], uint64_t term, uint64_t seq,
					unsigned in_step)
{
	struct store_word word = {.term = term,
				  .seq = seq,
				  .voter_count = 3,
				  .copies = 3,
				  .in_step = (uint8_t)in_step,
				  .voters = {"h1", "h2", "w"}};
	memcpy(word.volume_uuid, uuid, 16);
	return word;
}

static inline void take_begin(struct fixture *f, struct store_word_take *take, const char *from,
			      const struct store_word *word)
{
	take->word = *word;
	snprintf(take->from, sizeof take->from, "%s", from);
	env_wait_prepare(&take->op.op);
	store_word_take(f->store, take);
}

static inline int take_end(struct fixture *f, struct store_word_take *take)
{
	return (int)env_wait(f->env, &take->op.op);
}

static inline int told(struct fixture *f, const char *from, const struct store_word *word)
{
	struct store_word_take take = {.won = true};
	take_begin(f, &take, from, word);
	return take_end(f, &take);
}

/* An argument is the number of a planted bug. */
static inline void words_argument(int argc, char **argv)
{
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc > 1 ? atoi(argv[1]) : 0;
#endif
}

#endif
