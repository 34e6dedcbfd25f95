/* SPDX-License-Identifier: Apache-2.0 */
/* Who may answer for a volume, inside: ballots (voter.c, quorum.c) and mandates (mandate.c). */
#ifndef STORAGE_STORE_VOTE_H
#define STORAGE_STORE_VOTE_H

#include "storage/store/objects.h"
#include "storage/store/store_vote.h"

/* ---- voter.c, quorum.c ---- */

/* The newest word about a volume that this host was given, or, as the owner, gave; and the highest
 * term in which it has promised its voice. */
struct ballot {
	struct store *store;
	uint8_t uuid[16];
	struct store_word word; /* of term 0: none was given */
	uint64_t promised;
	uint64_t kept_term, kept_seq; /* of the newest word that is durable here */
	/* Of the owner: a voter keeps a word of that term which is newer than what is here. It is
	 * ours, and this store is from a backup; or that of `lost_to`, who was elected. 0: none
	 * does, as far as is known. */
	uint64_t lost_term;
	char lost_to[NAME_ROOM];
	/* Of the owner: what each voter has said since the opening. */
	struct {
		uint64_t given_ns, acked_term, acked_seq;
	} voters[VOTERS_MAX];
	struct admin_op change; /* of who is in step */
	bool changing;
	char joins[NAME_ROOM]; /* while changing: who will be; "": somebody is left out */
};
struct ballot *ballot_of(const struct store *store, const uint8_t uuid[16]); /* NULL: no word */
uint64_t ballot_promised(const struct store *store, const uint8_t uuid[16]); /* 0: nothing */
void ballots_free(struct store *store);
int word_place(const struct store_word *word, const char *host); /* -1: it does not vote */
bool word_newer(const struct store_word *a, const struct store_word *b);
/* What its owner speaks next; the voters are as before. */
struct store_word word_next(const struct ballot *ballot);
bool word_same(const struct store_word *a, const struct store_word *b);
/* What was applied is durable now; only then an owner tells its words, and counts itself. */
void words_durable(struct store *store);
/* A volume began, or ceased, to be one of ours, or its ballot changed. */
void quorum_look(struct store *store, struct volume *volume);
bool quorum_owns(const struct store *store, const struct ballot *ballot);
/* Another host owns the volume by the newest word here, or that was heard of; or we did by one that
 * is not here. */
bool quorum_lost(const struct store *store, const struct volume *volume);
/* `host` keeps this word, durably: if it is newer than ours, we own the volume no more. */
void quorum_hear(struct store *store, const struct store_word *known, const char *host);
/* The newest word is kept by a majority, and it is ours. */
bool quorum_stands(const struct store *store, const struct ballot *ballot);
/* Do flushes wait for this follower in step? */
bool quorum_counts(const struct volume *volume, const struct follower *follower);
/* Until when a majority, this host included, takes it for the owner. */
uint64_t quorum_until_ns(const struct store *store, const struct ballot *ballot);
void quorum_given(struct ballot *ballot, const char *host, uint64_t until_ns);

/* ---- mandate.c ---- */

struct mandates;
int mandate_init(struct store *store);
void mandate_exit(struct store *store);
/* After its followers, or what they gave, changed. */
void mandate_look(struct store *store, struct volume *volume);
bool mandate_stands(const struct store *store, const struct volume *volume);
/* This host has just started: what it keeps as a voter may be of a backup, and whoever knows better
 * tells it now. */
bool mandate_listens(const struct store *store);
/* Nobody is given one of this volume from here on; `then`, also at once, when all that were given
 * have passed, and not_before_ns has, until mandate_release. Else -EBUSY, -ENOMEM, -ESHUTDOWN:
 * nothing is withheld. */
struct withholding {
	struct store *store;
	uint8_t uuid[16];
	uint64_t not_before_ns;
	struct env_timer timer;
	void (*then)(struct withholding *withholding, int res);
};
void mandate_withhold(struct withholding *withholding);
void mandate_release(struct withholding *withholding);

#endif
