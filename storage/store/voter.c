/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a voter keeps of a volume: the newest word about it, and whether another one may take its
 * place (proto/REPLICATION.md, "Voters"). Who owns a volume and speaks the words is quorum.c.
 *
 * Keeps true: a word is durable here before anybody is told so; it is never followed by one that is
 * not newer; and who is named the owner by another word than the old owner's own, without having
 * won, was in step by the word that stood here, or by one that this voter had not heard of. From
 * the moment when the question is taken up until the new word is durable, the old owner gets no
 * mandate here, and what it was given has passed.
 *
 * A word is kept for good, also when the volume is not here any more: a voter that forgets would
 * agree to what it had refused.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/mutant.h"
#include "storage/store/replica.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

#define WORD_RECORD_BYTES (48u + VOTERS_MAX * NAME_ROOM)

/* ---- words ---- */

int word_place(const struct store_word *word, const char *host)
{
	for (int i = 0; i < word->voter_count; i++)
		if (strcmp(word->voters[i], host) == 0)
			return i;
	return -1;
}

static bool newer(uint64_t term, uint64_t seq, const struct store_word *than)
{
	return term > than->term || (term == than->term && seq > than->seq);
}

bool word_newer(const struct store_word *a, const struct store_word *b)
{
	return newer(a->term, a->seq, b);
}

bool word_same(const struct store_word *a, const struct store_word *b)
{
	bool same = memcmp(a->volume_uuid, b->volume_uuid, 16) == 0 && a->term == b->term &&
		    a->seq == b->seq && a->voter_count == b->voter_count && a->owner == b->owner &&
		    a->copies == b->copies && a->in_step == b->in_step;
	for (unsigned i = 0; same && i < a->voter_count; i++)
		same = strcmp(a->voters[i], b->voters[i]) == 0;
	return same;
}

static bool word_sane(const struct store_word *word)
{
	if (!word->term || !word->seq || !word->voter_count || word->voter_count > VOTERS_MAX ||
	    word->owner >= word->voter_count)
		return false;
	unsigned all = (1u << word->voter_count) - 1, owner = 1u << word->owner;
	bool sane = !(word->copies & ~all) && !(word->in_step & ~word->copies) &&
		    (word->in_step & owner);
	for (unsigned i = 0; sane && i < word->voter_count; i++)
		sane = memchr(word->voters[i], 0, NAME_ROOM) &&
		       text_name_ok(word->voters[i], strlen(word->voters[i])) &&
		       word_place(word, word->voters[i]) == (int)i;
	return sane;
}

uint32_t word_encode(const struct store_word *word, void *out)
{
	struct cursor c = cursor_over(out, WORD_RECORD_BYTES);
	put_u8(&c, LOG_PUT_WORD);
	put_u8(&c, PUT_FULL);
	put_u16(&c, WORD_RECORD_BYTES);
	put_u32(&c, 0);
	put_bytes(&c, word->volume_uuid, 16);
	put_u64(&c, word->term);
	put_u64(&c, word->seq);
	put_u8(&c, word->voter_count);
	put_u8(&c, word->owner);
	put_u8(&c, word->copies);
	put_u8(&c, word->in_step);
	put_zeros(&c, 4);
	put_bytes(&c, word->voters, sizeof word->voters);
	assert(!c.failed && cursor_left(&c) == 0);
	return WORD_RECORD_BYTES;
}

/* ---- ballots: a part of the catalog ---- */

struct ballot *ballot_of(const struct store *store, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < store->ballot_count; i++)
		if (memcmp(store->ballots[i]->word.volume_uuid, uuid, 16) == 0)
			return store->ballots[i];
	return NULL;
}

void ballots_free(struct store *store)
{
	for (uint32_t i = 0; i < store->ballot_count; i++)
		free(store->ballots[i]);
	free(store->ballots);
	store->ballots = NULL;
	store->ballot_count = 0;
}

static struct ballot *ballot_new(struct store *store)
{
	if (store->ballot_count == BALLOTS_MAX)
		return NULL;
	struct ballot **more =
		realloc(store->ballots, (store->ballot_count + 1ull) * sizeof(*more));
	if (!more)
		return NULL;
	store->ballots = more;
	struct ballot *ballot = calloc(1, sizeof(*ballot));
	if (!ballot)
		return NULL;
	ballot->store = store;
	store->ballots[store->ballot_count++] = ballot;
	return ballot;
}

/* What voters have said stays with their names. */
static void ballot_put(struct ballot *ballot, const struct store_word *word)
{
	struct ballot before = *ballot;
	ballot->word = *word;
	memset(ballot->voters, 0, sizeof ballot->voters);
	for (unsigned i = 0; i < word->voter_count; i++) {
		int was = word_place(&before.word, word->voters[i]);
		if (was >= 0)
			ballot->voters[i] = before.voters[was];
	}
}

int word_apply(struct store *store, struct cursor *c)
{
	struct store_word word = {0};
	get_bytes(c, word.volume_uuid, 16);
	word.term = get_u64(c);
	word.seq = get_u64(c);
	word.voter_count = get_u8(c);
	word.owner = get_u8(c);
	word.copies = get_u8(c);
	word.in_step = get_u8(c);
	cursor_take(c, 4);
	get_bytes(c, word.voters, sizeof word.voters);
	if (c->failed || !word_sane(&word))
		return -VS_EFORMAT;
	struct ballot *ballot = ballot_of(store, word.volume_uuid);
	if (!ballot && !(ballot = ballot_new(store)))
		return -ENOMEM;
	ballot_put(ballot, &word);
	for (uint32_t i = 0; i < store->volume_count; i++) {
		struct volume *volume = store->volumes[i];
		if (memcmp(volume->uuid, word.volume_uuid, 16) == 0)
			quorum_look(store, volume);
	}
	gate_look(store);
	return 0;
}

/* ---- another word is to take its place ---- */

struct taking {
	struct store *store;
	struct store_word_take *take;
	struct admin_op own;
	bool withheld;
	struct withholding withholding;
};

static int take_refuse(struct store_word_take *take, const struct ballot *ballot)
{
	take->has_known = ballot;
	if (ballot)
		take->known = ballot->word;
	return -VS_EFENCED;
}

/* 0; 1: it changes the owner by a vote; negative: no. */
static int take_check(struct store *store, struct store_word_take *take)
{
	const struct store_word *word = &take->word;
	const struct ballot *ballot = ballot_of(store, word->volume_uuid);
	take->has_known = false;
	if (!word_sane(word) || strcmp(word->voters[word->owner], take->from) != 0 ||
	    word_place(word, store->host) < 0 || strcmp(take->from, store->host) == 0)
		return -EINVAL;
	if (!store_has(store, FEATURE_VOTERS))
		return -EOPNOTSUPP;
	if (!ballot)
		return !take->won;
	const struct store_word *here = &ballot->word;
	if (word_same(word, here))
		return 0;
	if (!word_newer(word, here))
		return take_refuse(take, ballot);
	if (take->won || MUTANT(74))
		return 0;
	const struct volume *served = served_here(store, word->volume_uuid);
	int place = word_place(here, take->from);
	bool behind = newer(take->base_term, word->seq - 1, here);
	bool here_too = take->base_term == here->term && word->seq - 1 == here->seq && place >= 0 &&
			here->in_step & 1u << place;
	if (word->term <= here->term || (!behind && !here_too) ||
	    (served && quorum_owns(store, ballot)))
		return take_refuse(take, ballot);
	return !MUTANT(73);
}

static int prepare_take(struct command *command)
{
	struct taking *taking = container_of(command->op, struct taking, own);
	const struct ballot *ballot = ballot_of(command->store, taking->take->word.volume_uuid);
	int res = take_check(command->store, taking->take);
	if (res < 0)
		return res;
	if (res > 0 && !taking->withheld)
		return -EAGAIN; /* it changed meanwhile */
	if (ballot && word_same(&ballot->word, &taking->take->word))
		return 0;
	if (!ballot && command->store->ballot_count == BALLOTS_MAX)
		return -ENOSPC;
	command_add(command, word_encode(&taking->take->word, command_record(command)));
	return 0;
}

static void taking_end(struct taking *taking, int64_t res)
{
	struct store_word_take *take = taking->take;
	struct env *env = taking->store->env;
	memcpy(take->op.sentence, taking->own.sentence, SENTENCE_BYTES);
	if (taking->withheld)
		mandate_release(&taking->withholding);
	free(taking);
	env_complete(env, &take->op.op, res);
}

static void taken(struct io_op *op)
{
	taking_end(container_of(op, struct taking, own.op), op->res);
}

static void taking_go(struct taking *taking)
{
	taking->own = (struct admin_op){.op.done = taken};
	struct command *command = command_new(taking->store, &taking->own, "", prepare_take);
	if (command)
		command_start(command);
}

static void alone(struct withholding *withholding, int res)
{
	struct taking *taking = container_of(withholding, struct taking, withholding);
	taking->withheld = res == 0;
	if (res == 0)
		taking_go(taking);
	else
		taking_end(taking, res == -EBUSY ? -EAGAIN : res);
}

void store_word_take(struct store *store, struct store_word_take *take)
{
	struct taking *taking;
	int res = take_check(store, take);
	take->op.sentence[0] = 0;
	if (res < 0 || take->only_ask || !(taking = calloc(1, sizeof(*taking)))) {
		env_complete(store->env, &take->op.op,
			     res < 0	      ? res
			     : take->only_ask ? 0
					      : -ENOMEM);
		return;
	}
	taking->store = store;
	taking->take = take;
	if (res == 0) {
		taking_go(taking);
		return;
	}
	taking->withholding = (struct withholding){.store = store, .then = alone};
	memcpy(taking->withholding.uuid, take->word.volume_uuid, 16);
	mandate_withhold(&taking->withholding);
}
