/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy becomes the volume, by a promotion (promote.c) or a recovery (adopt.c): commits, one after
 * the other, of which the first only looks, so that what cannot be is told at once.
 *
 * Keeps true: behind the first one nobody answers as the volume by a mandate of this host, until
 * the last has ended. What was acknowledged until then is in the copy, and so in the volume. One
 * that a person decided on is of a higher epoch than those that ended before it began, on whatever
 * host, as far as the hosts' time of day is right.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

struct takeover {
	struct store *store;
	struct admin_op *op, own;
	char name[SNAP_NAME_ROOM], new_name[SNAP_NAME_ROOM];
	command_prepare *const *steps;
	struct store_word word; /* of the voters, if they were asked */
	uint64_t base_term;
	bool voted, withheld;
	struct withholding withholding;
};

static void takeover_end(struct takeover *takeover, int64_t res)
{
	struct env *env = takeover->store->env;
	struct admin_op *outer = takeover->op;
	memcpy(outer->sentence, takeover->own.sentence, SENTENCE_BYTES);
	memcpy(outer->holder, takeover->own.holder, sizeof outer->holder);
	if (takeover->withheld)
		mandate_release(&takeover->withholding);
	free(takeover);
	env_complete(env, &outer->op, res);
}

static void stepped(struct io_op *op);

static void step(struct takeover *takeover)
{
	takeover->own = (struct admin_op){.op.done = stepped};
	struct command *command =
		command_new(takeover->store, &takeover->own, takeover->name, *takeover->steps++);
	if (!command)
		return; /* done follows */
	snprintf(command->other, sizeof command->other, "%s", takeover->new_name);
	command->number = 1; /* the loss is accepted, or there is none */
	command->word = takeover->voted ? &takeover->word : NULL;
	command->base_term = takeover->base_term;
	command_start(command);
}

static void alone(struct withholding *withholding, int res)
{
	struct takeover *takeover = container_of(withholding, struct takeover, withholding);
	takeover->withheld = res == 0;
	if (res == 0) {
		step(takeover);
		return;
	}
	snprintf(takeover->own.sentence, SENTENCE_BYTES, "%s",
		 res == -EBUSY	     ? "It is being promoted, or recovered, already."
		 : res == -ESHUTDOWN ? "This vstored is stopping."
				     : "There is no memory for this now.");
	takeover_end(takeover, res);
}

static void stepped(struct io_op *op)
{
	struct takeover *takeover = container_of(op, struct takeover, own.op);
	const struct volume *copy = volume_by_name(takeover->store, takeover->name);
	if (op->res < 0 || !*takeover->steps) {
		takeover_end(takeover, op->res);
	} else if (takeover->withheld || !copy) { /* it went meanwhile: the next step tells */
		step(takeover);
	} else {
		takeover->withholding =
			(struct withholding){.store = takeover->store, .then = alone};
		if (!takeover->voted)
			takeover->withholding.not_before_ns = replica_decides_ns(takeover->store);
		memcpy(takeover->withholding.uuid, copy->uuid, 16);
		mandate_withhold(&takeover->withholding);
	}
}

void takeover_start(struct store *store, struct admin_op *op, const char *name,
		    const char *new_name, command_prepare *const *steps,
		    const struct store_word *word, uint64_t base_term)
{
	struct takeover *takeover = admin_memory(store, op, sizeof(*takeover));
	if (!takeover)
		return; /* done follows */
	takeover->store = store;
	takeover->op = op;
	takeover->steps = steps;
	takeover->voted = word;
	takeover->base_term = base_term;
	if (word)
		takeover->word = *word;
	snprintf(takeover->name, sizeof takeover->name, "%s", name);
	snprintf(takeover->new_name, sizeof takeover->new_name, "%s", new_name);
	step(takeover);
}
