/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may answer for a volume, and who may go on with it: mandates, voters, and copies that become
 * the volume. What each of these rules out, and what it does not, is in proto/REPLICATION.md.
 */
#ifndef STORAGE_STORE_STORE_VOTE_H
#define STORAGE_STORE_STORE_VOTE_H

#include "storage/store/store_admin.h"

/* ---- mandates: a primary answers only while nobody else can have become it ---- */

/* A volume with followers in step is served under a mandate: each of them says, for a short time,
 * that it takes no other host's side; or it cannot be reached. The time counts on one clock at each
 * end, never across. */
#define MANDATE_NS (8 * NSEC_PER_SEC)
/* This side: the follower gave it until then, by our clock: MANDATE_NS after the question was sent.
 * 0: it says that somebody else is the primary. */
void store_mandate_given(struct store *store, uint32_t volume, const char *host, uint64_t until_ns);
/* It cannot be reached: it counts for nothing until then, unless it has said that 0. Of what was
 * found before this host slept nothing may be said. */
void store_mandate_absent(struct store *store, uint32_t volume, const char *host,
			  uint64_t until_ns);
/* The other side: its host is asked for so long by `host`. 0: given, and kept until that has surely
 * passed; -VS_EFENCED: the volume is served here, a copy here is of a higher epoch, or the voters
 * have another owner; -EAGAIN: one is being promoted, or our voice is promised; -ENOMEM. */
int store_mandate_give(struct store *store, const char *host, const uint8_t uuid[16],
		       uint64_t epoch, uint64_t duration_ns);

/* ---- voters: who may go on alone (proto/REPLICATION.md) ---- */

#define VOTERS_MAX 5u
#define VOTERS_DECIDE 3u /* so many do; fewer only keep what they are told */
#define BALLOTS_MAX 4096u
/* What a voter keeps of a volume. */
struct store_word {
	uint8_t volume_uuid[16];
	uint64_t term, seq;	    /* the order of words */
	uint8_t voter_count, owner; /* the owner's place among them: it is the primary */
	uint8_t copies, in_step;    /* bits by place: has a copy; has all that was promised */
	char voters[VOTERS_MAX][NAME_ROOM];
};
/* Who this host is, by its certificate; until this is said it is nobody, and owns nothing that has
 * voters. */
void store_set_host(struct store *store, const char *host);
/* A host that is asked for mandates of one of our volumes, and told its word. An array for the
 * caller to free; -ENOMEM. */
struct voter_info {
	uint32_t volume_number;
	char host[NAME_ROOM];
	bool voter;   /* else it follows in step, and no voters are there */
	bool copy;    /* else a witness */
	bool in_step; /* it has all that was promised */
	bool heard;   /* it keeps the newest word, as far as is known */
	bool stands;  /* its mandate does */
};
int store_voters(const struct store *store, struct voter_info **ret, size_t *ret_count);
/* The newest word here about one of our volumes; -ENOENT. *ret_stands: a majority keeps it. */
int store_word(const struct store *store, uint32_t volume, struct store_word *ret,
	       bool *ret_stands);
/* It is durable here, so that others may be told. */
bool store_word_kept(const struct store *store, uint32_t volume);
/* That voter keeps the word with these. */
void store_word_acked(struct store *store, uint32_t volume, const char *host, uint64_t term,
		      uint64_t seq);
/* A connection to that voter begins: what it has said was perhaps said by a store that is older
 * now, and it is told our word again. */
void store_word_unheard(struct store *store, uint32_t volume, const char *host);
/* That voter keeps another word than ours: if it is newer, this host owns the volume no more. It is
 * from a backup, where that word is its own; or another was elected, and others may have forgotten.
 */
void store_word_known(struct store *store, uint32_t volume, const char *host,
		      const struct store_word *known);
/* A witness of a volume that hosts follow in step: it votes, and has no copy. With the first one,
 * or with a second follower in step that may be left out, the volume has voters: this host and all
 * that follow it in step. -EBUSY: the word before does not stand yet; for who is to go, with
 * `accept_loss`, that is no reason. */
void store_witness_add(struct store *store, struct admin_op *op, const char *volume,
		       const char *host);
void store_witness_delete(struct store *store, struct admin_op *op, const char *volume,
			  const char *host, bool accept_loss);
/* The voter's side. Of who has won: 0, the word is kept, durably. Else, in the term of the word by
 * which `from` would own the volume: our voice is promised to it, durably (only_ask: it would be).
 * -VS_EFENCED: no, and if has_known, `known` is what is kept here, and `promised` the highest term
 * in which we have promised; -EAGAIN: another one is being decided. A change of the owner waits
 * until all mandates that were given here have passed. The caller's until op.op is done. */
struct store_word_take {
	struct admin_op op;
	struct store_word word;
	uint64_t base_term;
	bool won, only_ask;
	char from[NAME_ROOM];
	struct store_word known;
	uint64_t promised;
	bool has_known;
};
void store_word_take(struct store *store, struct store_word_take *take);
/* The word by which the copy's host would own the volume: to be asked of the other voters. -ENOENT:
 * it has no voters that decide; -VS_ERETAINED: the copy is not known to have all that was promised,
 * the sentence says so. */
int store_word_plan(const struct store *store, const char *name, struct store_word *ret,
		    uint64_t *ret_base_term, char ret_sentence[SENTENCE_BYTES]);
/* The same for a volume that this host owns, in a higher term: some have promised another one that
 * they follow us no more, and it did not become the owner. -ENOENT: nothing to ask for. */
int store_word_plan_renewal(const struct store *store, uint32_t volume, struct store_word *ret,
			    uint64_t *ret_base_term);
/* A majority has agreed to that word, our own voice counted; it is the caller's until op is done.
 * -EBUSY: the word that it followed is not the one here any more. */
void store_word_renew(struct store *store, struct admin_op *op, uint32_t volume,
		      const struct store_word *word, uint64_t base_term);

/* ---- a copy becomes the volume ---- */

/* The copy HOST/VOL, as its newest snapshot has it, becomes the volume `new_name`, to be written
 * here: the same volume (UUID) in a higher epoch, which takes nothing of the old primary any more.
 * What that wrote later is not here; so unless `accept_loss`, this only says what is lost
 * (-VS_ERETAINED). Waits until every mandate that was given for it has passed. */
void store_replica_promote(struct store *store, struct admin_op *op, const char *name,
			   const char *new_name, bool accept_loss);
/* The same, when a majority of the voters has agreed to this word, our own voice counted: nothing
 * that was promised is lost. The other copies follow, in step, and are left out until they have
 * all. -EBUSY: the word that it followed is not the one here any more. */
void store_replica_promote_voted(struct store *store, struct admin_op *op, const char *name,
				 const char *new_name, const struct store_word *word,
				 uint64_t base_term);
/* The copy HOST/VOL itself becomes the volume `new_name`, with its snapshots, in a higher epoch and
 * as its newest snapshot has it: for the host whose volume it was, that lost its disks and was sent
 * its snapshots back. One commit; until then it is a copy. -EBUSY: attached, or being received. */
void store_replica_adopt(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name);

#endif
