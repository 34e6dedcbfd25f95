/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words about volumes, between those that vote (store/quorum.c, store/voter.c).
 *
 * Keeps true: a voter counts as having kept a word only when it has said so of that very word, and
 * nothing is said here before the store has it durably.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

#define AGAIN_NS NSEC_PER_SEC /* a refusal may be over soon */
#define TAKES_MAX 64u	      /* of one session, under way */

static_assert(VOTERS_MAX == REPL_VOTERS_MAX && NAME_ROOM == REPL_NAME_ROOM,
	      "words are the same on the disk and on the wire");

struct repl_vote word_out(const struct store_word *word, uint64_t base_term, bool won)
{
	struct repl_vote out = {.term = word->term,
				.seq = word->seq,
				.base_term = base_term,
				.won = won,
				.voter_count = word->voter_count,
				.owner = word->owner,
				.copies = word->copies,
				.in_step = word->in_step};
	memcpy(out.volume_uuid, word->volume_uuid, 16);
	memcpy(out.voters, word->voters, sizeof out.voters);
	return out;
}

struct store_word word_in(const struct repl_vote *vote)
{
	struct store_word in = {.term = vote->term,
				.seq = vote->seq,
				.voter_count = vote->voter_count,
				.owner = vote->owner,
				.copies = vote->copies,
				.in_step = vote->in_step};
	memcpy(in.volume_uuid, vote->volume_uuid, 16);
	memcpy(in.voters, vote->voters, sizeof in.voters);
	return in;
}

/* ---- telling ---- */

void word_tell(struct session *session, struct telling *telling, uint32_t volume, const char *host,
	       bool heard)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	uint64_t now = env_now_ns(session->repl->env);
	struct store_word word;
	bool stands;
	if (heard || telling->waits || (telling->asked_ns && now - telling->asked_ns < AGAIN_NS) ||
	    !store_word_kept(session->repl->store, volume) ||
	    store_word(session->repl->store, volume, &word, &stands) < 0)
		return;
	struct repl_vote vote = word_out(&word, 0, true);
	telling->request = session_request(session);
	telling->asked_ns = now;
	telling->waits = true;
	telling->term = word.term;
	telling->seq = word.seq;
	channel_send(session->channel, message,
		     repl_encode_vote(telling->request, 0, &vote, message));
}

bool word_told(struct session *session, struct telling *telling, uint32_t volume, const char *host,
	       const struct repl_header *header, int res)
{
	if (!telling->waits || telling->request != header->request)
		return false;
	telling->waits = false;
	if (res == 0) {
		telling->asked_ns = 0; /* the next word at once */
		store_word_acked(session->repl->store, volume, host, telling->term, telling->seq);
	} else if (res != telling->res) {
		log_event(LOG_LEVEL_WARNING, "voters.refused",
			  "volume_number=%u host=%s term=%llu seq=%llu error=\"%s\"", volume, host,
			  (unsigned long long)telling->term, (unsigned long long)telling->seq,
			  vs_strerror(res));
	}
	telling->res = res;
	return true;
}

/* ---- taking ---- */

struct word_taking {
	struct session *session;
	uint64_t request;
	struct store_word_take take;
};

static void taken(struct io_op *op)
{
	struct word_taking *taking = container_of(op, struct word_taking, take.op.op);
	struct session *session = taking->session;
	const struct store_word_take *take = &taking->take;
	uint8_t message[REPL_HEADER_BYTES + 512];
	session->words_taken--;
	if (!session->ended && session->channel) {
		if (op->res == 0) {
			channel_send(session->channel, message,
				     repl_encode_ok(taking->request, message));
		} else if (take->has_known) {
			struct repl_vote known = word_out(&take->known, take->promised, false);
			channel_send(
				session->channel, message,
				repl_encode_vote(taking->request, REPL_REPLY, &known, message));
		} else {
			answer_error(session, taking->request, (int)op->res,
				     take->op.sentence[0] ? take->op.sentence
							  : vs_strerror((int)op->res));
		}
	}
	if (op->res == 0 && !take->only_ask)
		log_event(LOG_LEVEL_INFO, take->won ? "voters.kept" : "voters.promised",
			  "owner=%s term=%llu seq=%llu", take->from,
			  (unsigned long long)take->word.term, (unsigned long long)take->word.seq);
	free(taking);
	session_look(session);
}

int word_take(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_vote vote;
	if (repl_decode_vote(body, header->body_bytes, &vote) < 0 ||
	    session->words_taken == TAKES_MAX)
		return -VS_EFORMAT;
	struct word_taking *taking = calloc(1, sizeof(*taking));
	if (!taking) {
		answer_error(session, header->request, -ENOMEM, vs_strerror(-ENOMEM));
		return 0;
	}
	*taking = (struct word_taking){.session = session,
				       .request = header->request,
				       .take = {.op.op.done = taken,
						.word = word_in(&vote),
						.base_term = vote.base_term,
						.won = vote.won,
						.only_ask = vote.only_ask}};
	memcpy(taking->take.from, session->host, NAME_ROOM);
	session->words_taken++;
	store_word_take(session->repl->store, &taking->take);
	return 0;
}
