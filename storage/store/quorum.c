/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner's side of voters: the words that it speaks about its volume, and what flushes and
 * answers wait for meanwhile. How a host becomes the owner is election.c.
 *
 *     a follower in step    MEMBER --- missing, degrade: a word without it stands ---> OUT
 *                           MEMBER <-- it has all: a word with it is kept here ------- JOINING
 *                           OUT <--- its stream ends --- JOINING <--- it is live ------ OUT
 *
 * Keeps true: flushes wait for a MEMBER and for one that is JOINING, and for who is not to be left
 * out by its rules, and for nobody else; none ends
 * while the newest word that is kept here is not kept by a majority, this host included. So what
 * was promised is at every copy that any majority names as in step: a word that names one more is
 * spoken only when it has all that was promised up to the moment from which flushes waited for it,
 * and one that names one less stands before anything is promised without it. And whoever became the
 * owner by a majority kept our word from standing.
 *
 * What a voter has said counts for one connection to it, as it may be of a backup on the next. An
 * owner one of whose voters keeps a newer word owns nothing, also when a majority agrees: that has
 * forgotten. It is from a backup itself, where that word is its own; else who spoke it has won.
 *
 * Words are spoken one at a time, each changes one host, and only when the one before stands, as
 * two majorities share a voter only then.
 */
#include "storage/store/admin.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/mutant.h"
#include "storage/store/replica.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- what is so ---- */

bool quorum_owns(const struct store *store, const struct ballot *ballot)
{
	const struct store_word *word = &ballot->word;
	return store->host[0] && strcmp(word->voters[word->owner], store->host) == 0 &&
	       !ballot->lost_term;
}

static bool heard(const struct ballot *ballot, unsigned place)
{
	const struct store_word *word = &ballot->word;
	if (place == word->owner)
		return ballot->kept_term == word->term && ballot->kept_seq == word->seq;
	return ballot->voters[place].acked_term == word->term &&
	       ballot->voters[place].acked_seq >= word->seq;
}

bool store_word_kept(const struct store *store, uint32_t number)
{
	const struct volume *volume = volume_by_number(store, number);
	return volume && volume->ballot && heard(volume->ballot, volume->ballot->word.owner);
}

bool quorum_lost(const struct store *store, const struct volume *volume)
{
	return volume->ballot && store->host[0] && !quorum_owns(store, volume->ballot);
}

/* Who has just started may be of a backup: then some voter keeps a word of ours that is not here,
 * and says so when it is told this one. Who says nothing is waited for a while. */
static bool may_be_outdated(const struct store *store, const struct ballot *ballot)
{
	bool all = true;
	for (unsigned i = 0; i < ballot->word.voter_count; i++)
		all &= heard(ballot, i);
	return !all && ballot->word.voter_count >= VOTERS_DECIDE && mandate_listens(store);
}

bool quorum_stands(const struct store *store, const struct ballot *ballot)
{
	unsigned count = 0;
	for (unsigned i = 0; i < ballot->word.voter_count; i++)
		count += heard(ballot, i);
	if (may_be_outdated(store, ballot))
		return false;
	return quorum_owns(store, ballot) && (2 * count > ballot->word.voter_count || MUTANT(71));
}

static bool member(const struct ballot *ballot, const char *host)
{
	int place = word_place(&ballot->word, host);
	return place >= 0 && ballot->word.in_step & 1u << place;
}

bool quorum_counts(const struct volume *volume, const struct follower *follower)
{
	return !volume->ballot || !follower->rules.degrade || follower->joining ||
	       member(volume->ballot, follower->host);
}

/* The moment up to which at least half of the others stand by us; with us, that is a majority. */
uint64_t quorum_until_ns(const struct store *store, const struct ballot *ballot)
{
	uint64_t best = 0;
	unsigned count = ballot->word.voter_count;
	if (!quorum_owns(store, ballot) || may_be_outdated(store, ballot))
		return 0;
	for (unsigned i = 0; i < count; i++) {
		uint64_t until = ballot->voters[i].given_ns;
		unsigned as_long = 1;
		for (unsigned k = 0; k < count; k++)
			as_long += k != ballot->word.owner && ballot->voters[k].given_ns >= until;
		if (i != ballot->word.owner && 2 * as_long > count)
			best = max_u64(best, until);
	}
	return best;
}

void quorum_given(struct ballot *ballot, const char *host, uint64_t until_ns)
{
	int place = word_place(&ballot->word, host);
	if (place >= 0)
		ballot->voters[place].given_ns = until_ns;
}

/* A majority stands by us, were this one not there. */
static bool enough_without(const struct store *store, const struct ballot *ballot, unsigned place)
{
	unsigned count = 1;
	for (unsigned i = 0; i < ballot->word.voter_count; i++)
		count += i != place && i != ballot->word.owner &&
			 ballot->voters[i].given_ns > env_now_ns(store->env);
	return 2 * count > ballot->word.voter_count;
}

void store_set_host(struct store *store, const char *host)
{
	if (!store->host[0]) /* what an opening finds in the log it made durable */
		words_durable(store);
	snprintf(store->host, sizeof store->host, "%s", host);
	for (uint32_t i = 0; i < store->volume_count; i++) {
		quorum_look(store, store->volumes[i]);
		mandate_look(store, store->volumes[i]);
	}
}

/* ---- who comes and goes ---- */

static bool may_leave(const struct store *store, const struct ballot *ballot,
		      const struct follower *follower)
{
	int place = word_place(&ballot->word, follower->host);
	return follower->rules.degrade && member(ballot, follower->host) &&
	       ballot->word.voter_count >= VOTERS_DECIDE && quorum_stands(store, ballot) &&
	       enough_without(store, ballot, (unsigned)place);
}

static bool may_join(const struct store *store, const struct ballot *ballot,
		     const struct follower *follower)
{
	return follower->joining && follower->live && !member(ballot, follower->host) &&
	       word_place(&ballot->word, follower->host) >= 0 &&
	       (follower->acked_vseq >= follower->join_vseq || MUTANT(72)) &&
	       quorum_stands(store, ballot);
}

static int prepare_turn(struct command *command)
{
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	const struct follower *follower =
		volume ? follower_of(command->store, volume->number, command->other) : NULL;
	if (!follower || !volume->ballot)
		return 0; /* it went meanwhile */
	const struct ballot *ballot = volume->ballot;
	bool join = command->number;
	if (join ? !may_join(command->store, ballot, follower)
		 : !may_leave(command->store, ballot, follower))
		return 0;
	struct store_word word = word_next(ballot);
	word.in_step ^= (uint8_t)(1u << word_place(&word, follower->host));
	command_add(command, word_encode(&word, command_record(command)));
	return 0;
}

static void turned(struct io_op *op)
{
	struct ballot *ballot = container_of(op, struct ballot, change.op);
	struct store *store = ballot->store;
	ballot->changing = false;
	for (uint32_t i = 0; i < store->follower_count; i++) {
		struct follower *follower = &store->followers[i];
		const struct volume *volume = volume_by_number(store, follower->volume);
		if (volume->ballot == ballot && !follower->live)
			follower->joining = false; /* its stream ended meanwhile */
	}
	gate_look(store);
	if (op->res < 0)
		log_event(LOG_LEVEL_WARNING, "voters.unchanged", "error=\"%s\"",
			  ballot->change.sentence);
}

static void turn(struct ballot *ballot, const struct volume *volume,
		 const struct follower *follower, bool join)
{
	if (ballot->changing || ballot->store->closing)
		return;
	ballot->change = (struct admin_op){.op.done = turned};
	struct command *command =
		command_new(ballot->store, &ballot->change, volume->name, prepare_turn);
	ballot->changing = true;
	snprintf(ballot->joins, sizeof ballot->joins, "%s", join ? follower->host : "");
	if (!command)
		return; /* done follows */
	memcpy(command->other, follower->host, sizeof follower->host);
	command->number = join;
	log_event(LOG_LEVEL_WARNING, "voters.told",
		  "volume=%s host=%s in_step=%d term=%llu seq=%llu", volume->name, follower->host,
		  join, (unsigned long long)ballot->word.term,
		  (unsigned long long)ballot->word.seq + 1);
	command_start(command);
}

/* A word that names it may be in the log already: then flushes wait for it until that is here, also
 * when its stream has ended, or that word would say that it has what it lacks. */
static void join_look(struct store *store, struct volume *volume, struct follower *follower)
{
	struct ballot *ballot = volume->ballot;
	bool out = word_place(&ballot->word, follower->host) >= 0 &&
		   !member(ballot, follower->host) && quorum_owns(store, ballot);
	bool named = ballot->changing && strcmp(ballot->joins, follower->host) == 0;
	if (!out || !follower->live || !follower->rules.in_step) {
		follower->joining &= out && follower->rules.in_step && named;
		return;
	}
	if (!follower->joining) {
		follower->joining = true;
		follower->join_vseq = volume->vseq;
	}
	if (may_join(store, ballot, follower))
		turn(ballot, volume, follower, true);
}

void quorum_look(struct store *store, struct volume *volume)
{
	volume->ballot = volume->replica ? NULL : ballot_of(store, volume->uuid);
	for (uint32_t i = 0; volume->ballot && i < store->follower_count; i++)
		if (store->followers[i].volume == volume->number)
			join_look(store, volume, &store->followers[i]);
	mandate_look(store, volume);
}

void store_follower_live(struct store *store, uint32_t number, const char *host, bool live)
{
	struct volume *volume = volume_by_number(store, number);
	struct follower *follower = follower_of(store, number, host);
	if (!volume || !follower)
		return;
	follower->live = live;
	quorum_look(store, volume);
	gate_look(store);
}

void store_follower_missing(struct store *store, uint32_t number, const char *host)
{
	const struct volume *volume = volume_by_number(store, number);
	const struct follower *follower = follower_of(store, number, host);
	if (volume && follower && volume->ballot && may_leave(store, volume->ballot, follower))
		turn(volume->ballot, volume, follower, false);
}

void store_word_acked(struct store *store, uint32_t number, const char *host, uint64_t term,
		      uint64_t seq)
{
	struct volume *volume = volume_by_number(store, number);
	struct ballot *ballot = volume ? volume->ballot : NULL;
	int place = ballot ? word_place(&ballot->word, host) : -1;
	if (place < 0)
		return;
	ballot->voters[place].acked_term = term;
	ballot->voters[place].acked_seq = seq;
	quorum_look(store, volume);
	gate_look(store);
}

/* ---- voters that start, and owners, from a backup ---- */

void store_word_unheard(struct store *store, uint32_t number, const char *host)
{
	struct volume *volume = volume_by_number(store, number);
	struct ballot *ballot = volume ? volume->ballot : NULL;
	int place = ballot ? word_place(&ballot->word, host) : -1;
	if (place < 0 || MUTANT(81))
		return;
	ballot->voters[place].acked_term = ballot->voters[place].acked_seq = 0;
}

static void lose(struct store *store, struct volume *volume, const struct store_word *known,
		 const char *host)
{
	struct ballot *ballot = volume->ballot;
	const char *owner = known->voters[known->owner];
	bool backup = strcmp(owner, store->host) == 0;
	ballot->lost_term = known->term;
	memcpy(ballot->lost_to, owner, NAME_ROOM);
	log_event(backup ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
		  backup ? "voters.outdated" : "voters.superseded",
		  "volume=%s host=%s owner=%s here=%llu.%llu there=%llu.%llu effect=\"%s\"",
		  volume->name, host, owner, (unsigned long long)ballot->word.term,
		  (unsigned long long)ballot->word.seq, (unsigned long long)known->term,
		  (unsigned long long)known->seq,
		  backup ? "this store is from a backup: it answers nothing for the volume; "
			   "promote a copy"
			 : "this host answers nothing for the volume");
	quorum_look(store, volume);
	gate_look(store);
}

void quorum_hear(struct store *store, const struct store_word *known, const char *host)
{
	for (uint32_t i = 0; i < store->volume_count; i++) {
		struct volume *volume = store->volumes[i];
		if (volume->ballot && memcmp(known->volume_uuid, volume->uuid, 16) == 0 &&
		    quorum_owns(store, volume->ballot) && word_newer(known, &volume->ballot->word))
			lose(store, volume, known, host);
	}
}

void store_word_known(struct store *store, uint32_t number, const char *host,
		      const struct store_word *known)
{
	const struct volume *volume = volume_by_number(store, number);
	if (volume && memcmp(known->volume_uuid, volume->uuid, 16) == 0)
		quorum_hear(store, known, host);
}

/* ---- who votes ---- */

#define WORD_UNKNOWN                                                                               \
	"A majority of the voters of '%s' does not keep the last change yet: 'vstorectl witness "  \
	"list' shows who is missing. Try again when they are there."

static int word_change(struct command *command, const struct ballot *ballot)
{
	bool lost = ballot->lost_term;
	if (lost && command->number)
		return 0;
	if (lost && strcmp(ballot->lost_to, command->store->host) == 0)
		return command_refuse(command, -VS_EFENCED,
				      "This host's store is from a backup: '%s' was written to "
				      "since. Promote a copy of it; only if none is left, remove "
				      "its voters with --accept-loss, and go on with what is here.",
				      command->name);
	if (!quorum_owns(command->store, ballot))
		return command_refuse(command, -VS_EFENCED,
				      "'%s' belongs to %s now, as its voters say.", command->name,
				      lost ? ballot->lost_to
					   : ballot->word.voters[ballot->word.owner]);
	if (!quorum_stands(command->store, ballot) && !command->number)
		return command_refuse(command, -EBUSY, WORD_UNKNOWN, command->name);
	return 0;
}

static int voter_add(struct command *command, struct store_word *word, const char *host, bool copy)
{
	if (word->voter_count == VOTERS_MAX)
		return command_refuse(command, -ENOSPC, "A volume has at most %u voters.",
				      VOTERS_MAX);
	memcpy(word->voters[word->voter_count], host, strlen(host) + 1);
	word->copies |= (uint8_t)(copy << word->voter_count++);
	return 0;
}

static uint8_t mask_without(uint8_t mask, unsigned place)
{
	unsigned below = mask & ((1u << place) - 1);
	return (uint8_t)(below | (mask >> (place + 1) << place));
}

static void voter_remove(struct store_word *word, unsigned place)
{
	for (unsigned i = place; i + 1 < word->voter_count; i++)
		memcpy(word->voters[i], word->voters[i + 1], NAME_ROOM);
	word->voter_count--;
	memset(word->voters[word->voter_count], 0, NAME_ROOM);
	word->copies = mask_without(word->copies, place);
	word->in_step = mask_without(word->in_step, place);
	word->owner -= word->owner > place;
}

/* The first word: who follows in step joins when it is known to have all. */
static int word_first(struct command *command, const struct volume *volume, struct store_word *word)
{
	const struct store *store = command->store;
	int res = 0;
	*word = (struct store_word){
		.term = volume->epoch, .seq = 1, .voter_count = 1, .copies = 1, .in_step = 1};
	memcpy(word->volume_uuid, volume->uuid, 16);
	memcpy(word->voters[0], store->host, NAME_ROOM);
	for (uint32_t i = 0; i < store->follower_count && res == 0; i++)
		if (store->followers[i].volume == volume->number &&
		    store->followers[i].rules.in_step)
			res = voter_add(command, word, store->followers[i].host, true);
	return res;
}

/* With one that may be left out there are three, who can decide that. */
static int word_begins(struct command *command, const struct volume *volume, const char *host)
{
	struct store_word word;
	int res = 0;
	if (!command->follow.degrade || !command->store->host[0])
		return 0;
	res = word_first(command, volume, &word);
	if (res == 0 && word_place(&word, host) < 0)
		res = voter_add(command, &word, host, true);
	if (res == 0 && word.voter_count >= VOTERS_DECIDE)
		command_add(command, word_encode(&word, command_record(command)));
	return res;
}

int word_follows(struct command *command, struct volume *volume, const char *host, bool in_step)
{
	struct ballot *ballot = volume->ballot;
	int place = ballot ? word_place(&ballot->word, host) : -1, res = 0;
	if (!ballot && in_step)
		return word_begins(command, volume, host);
	if (!ballot || in_step == (place >= 0))
		return 0;
	if ((res = word_change(command, ballot)) < 0)
		return res;
	struct store_word word = word_next(ballot);
	if (command->number) /* it stands or not: nobody is asked */
		word.term = epoch_next_term(max_u64(word.term, ballot->lost_term));
	if (in_step)
		res = voter_add(command, &word, host, true);
	else
		voter_remove(&word, (unsigned)place);
	if (res == 0)
		command_add(command, word_encode(&word, command_record(command)));
	return res;
}

static int check_witness(struct command *command)
{
	const struct store *store = command->store;
	bool known = false;
	if (!store_has(store, FEATURE_VOTERS))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "voters");
	if (!store->host[0])
		return command_refuse(command, -ENOTCONN,
				      "This vstored has no certificate, and so no name to vote by: "
				      "start it with --tls DIR.");
	for (uint32_t i = 0; i < store->peer_count; i++)
		known |= strcmp(store->peers[i].host, command->other) == 0;
	if (!known)
		return command_refuse(command, -ENOENT,
				      "There is no peer '%.63s': add it with 'vstorectl peer add "
				      "HOST ADDRESS'.",
				      command->other);
	return 0;
}

static int prepare_witness(struct command *command)
{
	struct store_word word;
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = command_own(command, volume)) < 0 ||
	    (res = check_witness(command)) < 0)
		return res;
	if (!volume->in_step)
		return command_refuse(command, -EINVAL,
				      "Nobody follows '%s' in step, so there is nothing to decide: "
				      "'vstorectl replica add %s HOST --mode sync' comes first.",
				      command->name, command->name);
	if (follower_of(command->store, volume->number, command->other))
		return command_refuse(command, -EEXIST, "'%.63s' has a replica of '%s'.",
				      command->other, command->name);
	if (volume->ballot && word_place(&volume->ballot->word, command->other) >= 0)
		return 0;
	if (volume->ballot) {
		if ((res = word_change(command, volume->ballot)) < 0)
			return res;
		word = word_next(volume->ballot);
	} else if ((res = word_first(command, volume, &word)) < 0) {
		return res;
	}
	if ((res = voter_add(command, &word, command->other, false)) < 0)
		return res;
	command_add(command, word_encode(&word, command_record(command)));
	return 0;
}

static int prepare_witness_delete(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	int place = volume->ballot ? word_place(&volume->ballot->word, command->other) : -1;
	if (place < 0 || volume->ballot->word.copies & 1u << place)
		return command_refuse(command, -ENOENT, "'%.63s' is no witness of '%s'.",
				      command->other, command->name);
	return word_follows(command, volume, command->other, false);
}

static void witness(struct store *store, struct admin_op *op, const char *volume, const char *host,
		    bool accept_loss, int (*prepare)(struct command *command))
{
	struct command *command = command_new(store, op, volume, prepare);
	if (!command)
		return;
	snprintf(command->other, sizeof command->other, "%s", host);
	command->number = accept_loss;
	command_start(command);
}

void store_witness_add(struct store *store, struct admin_op *op, const char *volume,
		       const char *host)
{
	witness(store, op, volume, host, false, prepare_witness);
}

void store_witness_delete(struct store *store, struct admin_op *op, const char *volume,
			  const char *host, bool accept_loss)
{
	witness(store, op, volume, host, accept_loss, prepare_witness_delete);
}

/* ---- lists ---- */

int store_word(const struct store *store, uint32_t number, struct store_word *ret, bool *ret_stands)
{
	const struct volume *volume = volume_by_number(store, number);
	if (!volume || !volume->ballot)
		return -ENOENT;
	*ret = volume->ballot->word;
	*ret_stands = quorum_stands(store, volume->ballot);
	return 0;
}

static size_t voters_of(const struct store *store, const struct volume *volume,
			struct voter_info *out)
{
	const struct ballot *ballot = volume->ballot;
	uint64_t now = env_now_ns(store->env);
	size_t count = 0;
	for (unsigned i = 0; i < ballot->word.voter_count; i++) {
		if (i == ballot->word.owner)
			continue;
		out[count] = (struct voter_info){.volume_number = volume->number,
						 .voter = true,
						 .copy = ballot->word.copies & 1u << i,
						 .in_step = ballot->word.in_step & 1u << i,
						 .heard = heard(ballot, i),
						 .stands = ballot->voters[i].given_ns > now};
		memcpy(out[count++].host, ballot->word.voters[i], NAME_ROOM);
	}
	return count;
}

int store_voters(const struct store *store, struct voter_info **ret, size_t *ret_count)
{
	size_t room = store->follower_count + (size_t)store->ballot_count * VOTERS_MAX + 1,
	       count = 0;
	struct voter_info *infos = calloc(room, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->follower_count; i++) {
		const struct follower *follower = &store->followers[i];
		const struct volume *volume = volume_by_number(store, follower->volume);
		if (!follower->rules.in_step || volume->ballot || volume->state == OBJECT_TRASH)
			continue;
		infos[count].volume_number = follower->volume;
		memcpy(infos[count++].host, follower->host, NAME_ROOM);
	}
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		if (volume->ballot && volume->state == OBJECT_LIVE &&
		    quorum_owns(store, volume->ballot))
			count += voters_of(store, volume, infos + count);
	}
	*ret = infos;
	*ret_count = count;
	return 0;
}
