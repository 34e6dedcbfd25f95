/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a host becomes the owner of a volume that has voters: the word that it asks the others for
 * (repl/elect.c), and the commit by which it gives its own voice and keeps that word.
 *
 * Keeps true: that commit is made only while the word here is the one that the question began with,
 * and our voice is promised to nobody in that term or a higher one; so of each term there is one
 * owner at most. An owner that is elected counts nobody but itself as having all: the copies of the
 * others are its predecessor's, and who was that holds a volume that nobody compared.
 */
#include "storage/store/admin.h"

#include "storage/store/replica.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdio.h>

static bool copy_behind(const struct store *store, const struct volume *copy,
			const struct volume *than)
{
	struct store_position a = replica_stands(store, copy), b = replica_stands(store, than);
	return position_before(a.epoch, a.vseq, b.epoch, b.vseq);
}

/* A copy of before the owner's volume was renamed, or of an earlier reign: the word that says that
 * this host has all does not mean that one. NULL: it is the furthest of this owner's. */
static const struct volume *copy_outdated(const struct store *store, const struct volume *copy)
{
	size_t host_bytes = strcspn(copy->name, "/") + 1;
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *at = store->volumes[i];
		if (at->replica && at->state == OBJECT_LIVE &&
		    memcmp(at->uuid, copy->uuid, 16) == 0 &&
		    strncmp(at->name, copy->name, host_bytes) == 0 && copy_behind(store, copy, at))
			return at;
	}
	return NULL;
}

#define OUTDATED "'%.63s' is an older copy of the volume, which has no promise: promote '%.63s'."

int store_word_plan(const struct store *store, const char *name, struct store_word *ret,
		    uint64_t *ret_base_term, char ret_sentence[SENTENCE_BYTES])
{
	const struct volume *copy = volume_by_name(store, name);
	const struct ballot *ballot = copy && copy->replica ? ballot_of(store, copy->uuid) : NULL;
	int place = ballot ? word_place(&ballot->word, store->host) : -1;
	if (place < 0 || ballot->word.voter_count < VOTERS_DECIDE)
		return -ENOENT;
	const char *owner = ballot->word.voters[ballot->word.owner];
	if (strncmp(name, owner, strlen(owner)) != 0 || name[strlen(owner)] != '/') {
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "The volume belongs to %.63s, as its voters say: promote what is here of "
			 "that host, or say --accept-loss.",
			 owner);
		return -VS_ERETAINED;
	}
	if (!(ballot->word.in_step & 1u << place)) {
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "The voters wrote down that this copy was left out: it lacks what was "
			 "promised since. Promote another one, or say --accept-loss.");
		return -VS_ERETAINED;
	}
	const struct volume *newer = copy_outdated(store, copy);
	if (newer) {
		snprintf(ret_sentence, SENTENCE_BYTES, OUTDATED, name, newer->name);
		return -VS_ERETAINED;
	}
	*ret = word_next(ballot);
	ret->owner = (uint8_t)place;
	/* Others' copies are of the old owner, and are in step again when they are of this one. */
	ret->in_step = (uint8_t)(1u << place);
	ret->term = max_u64(epoch_next_term(max_u64(ballot->word.term, ballot->promised)),
			    replica_epoch_next(store, copy->uuid));
	*ret_base_term = ballot->word.term;
	return 0;
}

int store_word_plan_renewal(const struct store *store, uint32_t number, struct store_word *ret,
			    uint64_t *ret_base_term)
{
	const struct volume *volume = volume_by_number(store, number);
	const struct ballot *ballot = volume ? volume->ballot : NULL;
	if (!ballot || !quorum_owns(store, ballot) || ballot->changing ||
	    ballot->word.voter_count < VOTERS_DECIDE)
		return -ENOENT;
	*ret = word_next(ballot);
	ret->term = epoch_next_term(max_u64(ballot->word.term, ballot->promised));
	*ret_base_term = ballot->word.term;
	return 0;
}

/* The word that the others were asked for still follows ours, and our voice is nobody else's. */
static int word_voted(struct command *command, const struct ballot *ballot)
{
	const struct store_word *word = command->word;
	if (ballot->word.term == command->base_term && ballot->word.seq + 1 == word->seq &&
	    ballot->promised < word->term)
		return 0;
	return command_refuse(command, -EBUSY,
			      "What the voters say of it changed while they were asked: say it "
			      "again.");
}

/* Nobody was asked: only what is here counts. */
static struct store_word forced_word(const struct store *store, const struct ballot *ballot,
				     uint64_t epoch)
{
	struct store_word word = word_next(ballot);
	int place = word_place(&word, store->host);
	word.term = epoch;
	if (place < 0) { /* it voted no more */
		memset(word.voters, 0, sizeof word.voters);
		memcpy(word.voters[0], store->host, NAME_ROOM);
		word.voter_count = word.copies = 1;
		place = 0;
	}
	word.owner = (uint8_t)place;
	word.in_step = (uint8_t)(1u << place);
	word.copies |= word.in_step;
	return word;
}

/* The other copies follow from now on. */
static void carry_followers(struct command *command, const struct store_word *word, uint32_t number)
{
	const struct store *store = command->store;
	for (unsigned i = 0; i < word->voter_count; i++) {
		struct follower follower = {
			.volume = number,
			.rules = {.lag_ns = CARRIED_LAG_NS, .in_step = true, .degrade = true}};
		if (i == word->owner || !(word->copies & 1u << i) ||
		    store->follower_count + i >= FOLLOWERS_MAX)
			continue;
		memcpy(follower.host, word->voters[i], NAME_ROOM);
		command_add(command,
			    follower_encode(LOG_PUT_FOLLOWER, &follower, command_record(command)));
	}
}

uint64_t word_epoch(const struct command *command, const uint8_t uuid[16])
{
	const struct store *store = command->store;
	const struct ballot *ballot = ballot_of(store, uuid);
	if (command->word)
		return max_u64(replica_epoch_next(store, uuid), command->word->term);
	uint64_t epoch = replica_epoch_decided(store, uuid);
	return ballot ? max_u64(epoch, epoch_next_term(ballot->word.term)) : epoch;
}

int word_takes_over(struct command *command, const uint8_t uuid[16], uint32_t number,
		    uint64_t epoch)
{
	const struct store *store = command->store;
	const struct ballot *ballot = ballot_of(store, uuid);
	struct store_word word;
	if (!ballot || !store->host[0])
		return 0; /* it has no voters, or this host cannot be one */
	if (command->word) {
		const struct volume *copy = volume_by_name(store, command->name);
		const struct volume *newer = copy ? copy_outdated(store, copy) : NULL;
		int res = newer ? command_refuse(command, -VS_ERETAINED, OUTDATED, copy->name,
						 newer->name)
				: word_voted(command, ballot);
		if (res < 0)
			return res;
		word = *command->word;
	} else {
		word = forced_word(store, ballot, epoch);
	}
	carry_followers(command, &word, number);
	command_add(command, word_encode(&word, command_record(command)));
	return 0;
}

/* ---- the owner asks anew ---- */

static int prepare_renew(struct command *command)
{
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	const struct ballot *ballot = volume->ballot;
	if (!ballot || !quorum_owns(command->store, ballot))
		return -EBUSY;
	if ((res = word_voted(command, ballot)) == 0)
		command_add(command, word_encode(command->word, command_record(command)));
	return res;
}

void store_word_renew(struct store *store, struct admin_op *op, uint32_t number,
		      const struct store_word *word, uint64_t base_term)
{
	const struct volume *volume = volume_by_number(store, number);
	struct command *command = command_new(store, op, volume ? volume->name : "", prepare_renew);
	if (!command)
		return;
	command->word = word;
	command->base_term = base_term;
	command_start(command);
}
