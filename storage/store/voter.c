/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a voter keeps of a volume: the newest word about it, and the highest term in which it has
 * promised its voice to somebody (proto/REPLICATION.md, "Voters"). Who owns a volume and speaks the
 * words is quorum.c.
 *
 * Keeps true: a word, or a promise, is durable here before anybody is told so; a word is never
 * followed by one that is not newer, or of a lower term than what was promised; and a promise only
 * by one of a higher term. It is given to who was in step by the word that stands here, or by one
 * that this voter has not heard of. A word of who has not won is never kept: what a host would say
 * if it won is no proof of anything. From the moment when the question is taken up until the word
 * of the term that was promised is here, nobody gets a mandate, and what was given has passed.
 *
 * Both are kept for good, also when the volume is not here any more: a voter that forgets would
 * agree to what it had refused. A store from a backup has forgotten: so who has just started takes
 * up no word, and no question, of the owner that it knows before that one, or another, has had time
 * to tell it the newest (mandate_listens).
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
#define PROMISE_RECORD_BYTES 32u

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

struct store_word word_next(const struct ballot *ballot)
{
	struct store_word word = ballot->word;
	word.seq++;
	return word;
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
	if (!word->term || word->term > EPOCH_MAX || !word->seq || word->seq > EPOCH_MAX ||
	    !word->voter_count || word->voter_count > VOTERS_MAX ||
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

uint32_t promise_encode(const uint8_t uuid[16], uint64_t term, void *out)
{
	struct cursor c = cursor_over(out, PROMISE_RECORD_BYTES);
	put_u8(&c, LOG_PUT_PROMISE);
	put_u8(&c, PUT_FULL);
	put_u16(&c, PROMISE_RECORD_BYTES);
	put_u32(&c, 0);
	put_bytes(&c, uuid, 16);
	put_u64(&c, term);
	assert(!c.failed && cursor_left(&c) == 0);
	return PROMISE_RECORD_BYTES;
}

/* ---- ballots: a part of the catalog ---- */

/* Also one without a word. */
static struct ballot *ballot_any(const struct store *store, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < store->ballot_count; i++)
		if (memcmp(store->ballots[i]->uuid, uuid, 16) == 0)
			return store->ballots[i];
	return NULL;
}

struct ballot *ballot_of(const struct store *store, const uint8_t uuid[16])
{
	struct ballot *ballot = ballot_any(store, uuid);
	return ballot && ballot->word.term ? ballot : NULL;
}

uint64_t ballot_promised(const struct store *store, const uint8_t uuid[16])
{
	const struct ballot *ballot = ballot_any(store, uuid);
	return ballot ? ballot->promised : 0;
}

void ballots_free(struct store *store)
{
	for (uint32_t i = 0; i < store->ballot_count; i++)
		free(store->ballots[i]);
	free(store->ballots);
	store->ballots = NULL;
	store->ballot_count = 0;
}

/* The one of that volume, made if there is none; NULL: no memory, or too many. */
static struct ballot *ballot_need(struct store *store, const uint8_t uuid[16])
{
	struct ballot *ballot = ballot_any(store, uuid);
	if (ballot || store->ballot_count == BALLOTS_MAX)
		return ballot;
	struct ballot **more =
		realloc(store->ballots, (store->ballot_count + 1ull) * sizeof(*more));
	if (!more)
		return NULL;
	store->ballots = more;
	ballot = calloc(1, sizeof(*ballot));
	if (!ballot)
		return NULL;
	ballot->store = store;
	memcpy(ballot->uuid, uuid, 16);
	store->ballots[store->ballot_count++] = ballot;
	return ballot;
}

/* What voters have said stays with their names. */
static void ballot_put(struct ballot *ballot, const struct store_word *word)
{
	struct ballot before = *ballot;
	ballot->word = *word;
	if (word->term > ballot->lost_term ||
	    (word->term == ballot->lost_term &&
	     strcmp(word->voters[word->owner], ballot->store->host) != 0))
		ballot->lost_term = 0; /* the word itself says whose it is */
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
	struct ballot *ballot = ballot_need(store, word.volume_uuid);
	if (!ballot)
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

int promise_apply(struct store *store, struct cursor *c)
{
	uint8_t uuid[16];
	get_bytes(c, uuid, 16);
	uint64_t term = get_u64(c);
	if (c->failed || !term)
		return -VS_EFORMAT;
	struct ballot *ballot = ballot_need(store, uuid);
	if (!ballot)
		return -ENOMEM;
	ballot->promised = max_u64(ballot->promised, term);
	return 0;
}

void words_durable(struct store *store)
{
	bool any = false;
	for (uint32_t i = 0; i < store->ballot_count; i++) {
		struct ballot *ballot = store->ballots[i];
		any |= ballot->kept_term != ballot->word.term ||
		       ballot->kept_seq != ballot->word.seq;
		ballot->kept_term = ballot->word.term;
		ballot->kept_seq = ballot->word.seq;
	}
	for (uint32_t i = 0; any && i < store->volume_count; i++)
		if (store->volumes[i]->ballot)
			quorum_look(store, store->volumes[i]);
	if (any)
		gate_look(store);
}

/* ---- another word is to take its place, or a voice to be promised ---- */

struct taking {
	struct store *store;
	struct store_word_take *take;
	struct admin_op own;
	bool withheld;
	struct withholding withholding;
};

/* With the word that is here, once a power cut cannot take it back: an owner that hears of it is
 * none from then on. */
static int take_refuse(struct store_word_take *take, const struct ballot *ballot)
{
	if (ballot &&
	    (ballot->kept_term != ballot->word.term || ballot->kept_seq != ballot->word.seq))
		return -EAGAIN;
	take->has_known = true;
	take->known = ballot && ballot->word.term ? ballot->word : take->word;
	take->promised = ballot ? ballot->promised : 0;
	return -VS_EFENCED;
}

/* Of who has won: 0, or 1 when it is another owner than before. */
static int take_check_word(const struct store *store, struct store_word_take *take,
			   const struct ballot *any)
{
	const struct store_word *word = &take->word;
	const struct store_word *here = any && any->word.term ? &any->word : NULL;
	if (here && word_same(word, here))
		return word->voter_count >= VOTERS_DECIDE && mandate_listens(store) ? -EAGAIN : 0;
	if ((any && word->term < any->promised) || (here && !word_newer(word, here)))
		return take_refuse(take, any);
	if (!here || strcmp(here->voters[here->owner], take->from) != 0)
		return here != NULL;
	/* It may be the owner no more, by a word that a backup lacks. */
	return word->voter_count >= VOTERS_DECIDE && mandate_listens(store) ? -EAGAIN : 0;
}

/* Of who asks for our voice: 0, 1, or refused. */
static int take_check_asker(const struct store *store, struct store_word_take *take,
			    const struct ballot *any)
{
	const struct store_word *word = &take->word;
	const struct store_word *here = any && any->word.term ? &any->word : NULL;
	if (!store_has(store, FEATURE_PROMISES))
		return -EOPNOTSUPP;
	if ((any && word->term <= any->promised) || (here && word->term <= here->term))
		return take_refuse(take, any);
	if (!here || MUTANT(74))
		return 1;
	int place = word_place(here, take->from);
	bool behind = newer(take->base_term, word->seq - 1, here);
	bool here_too = take->base_term == here->term && word->seq - 1 == here->seq && place >= 0 &&
			here->in_step & 1u << place;
	bool ours = served_here(store, word->volume_uuid) && quorum_owns(store, any);
	if ((!behind && !here_too) || ours)
		return take_refuse(take, any);
	/* Mandates are the owner's own, if it asks itself: it may be answered meanwhile. */
	return strcmp(here->voters[here->owner], take->from) != 0 || mandate_listens(store);
}

/* 0; 1: mandates that were given must have passed before; negative: no. */
static int take_check(struct store *store, struct store_word_take *take)
{
	const struct store_word *word = &take->word;
	const struct ballot *any = ballot_any(store, word->volume_uuid);
	take->has_known = false;
	if (!word_sane(word) || strcmp(word->voters[word->owner], take->from) != 0 ||
	    word_place(word, store->host) < 0 || strcmp(take->from, store->host) == 0 ||
	    (!take->won && take->base_term >= word->term))
		return -EINVAL;
	if (!store_has(store, FEATURE_VOTERS))
		return -EOPNOTSUPP;
	int res =
		take->won ? take_check_word(store, take, any) : take_check_asker(store, take, any);
	return res > 0 && MUTANT(73) ? 0 : res;
}

static int prepare_take(struct command *command)
{
	struct taking *taking = container_of(command->op, struct taking, own);
	struct store_word_take *take = taking->take;
	const struct ballot *any = ballot_any(command->store, take->word.volume_uuid);
	int res = take_check(command->store, take);
	if (res < 0)
		return res;
	if (res > 0 && !taking->withheld)
		return -EAGAIN; /* it changed meanwhile */
	if (!any && command->store->ballot_count == BALLOTS_MAX)
		return -ENOSPC;
	if (!take->won)
		command_add(command, promise_encode(take->word.volume_uuid, take->word.term,
						    command_record(command)));
	else if (!any || !word_same(&any->word, &take->word))
		command_add(command, word_encode(&take->word, command_record(command)));
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
	if (take->won) /* it is kept when mandates have passed, but we own nothing from here on */
		quorum_hear(store, &take->word, take->from);
	if (res == 0) {
		taking_go(taking);
		return;
	}
	taking->withholding = (struct withholding){.store = store, .then = alone};
	memcpy(taking->withholding.uuid, take->word.volume_uuid, 16);
	mandate_withhold(&taking->withholding);
}
