/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Elections: a host with a copy asks the other voters whether it may own the volume; and an owner,
 * whom some do not follow any more, whether it still may.
 *
 *     a voice   CALLED -> ASKED -> WOULD -> TOLD -> AGREED       each of them -> NO
 *
 * Keeps true: nobody is told to promise its voice before a majority would, so that a question which
 * cannot succeed leaves nothing behind; all that counts was said of one term; our own voice is
 * counted here and given with the commit of what was asked for, which looks whether it still can
 * be. Where a voter has promised a term as high, of an election that came to nothing or that it
 * gave its voice in before, all are asked again in a higher one.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

/* A voter waits until what it has given has passed, and after its start, as long. */
#define PATIENCE_NS (4 * MANDATE_NS)
#define ROUNDS_MAX 4u
/* For so long a voter says no before its owner asks anew: time for who won to say so. */
#define RENEW_NS (2 * MANDATE_NS)

enum voice_state { VOICE_CALLED, VOICE_ASKED, VOICE_WOULD, VOICE_TOLD, VOICE_AGREED, VOICE_NO };
struct voice {
	enum voice_state state;
	struct session *session;
	uint64_t request;
	char sentence[SENTENCE_BYTES];
};
struct election {
	struct election *next;
	struct repl *repl;
	struct repl_election *wish;
	struct voice voices[VOTERS_MAX]; /* by place; our own AGREED */
	struct env_timer timer;
	unsigned rounds; /* so many terms were tried */
};

static struct voice *voice_of(struct session *session)
{
	for (unsigned i = 0; i < VOTERS_MAX; i++)
		if (session->election->voices[i].session == session)
			return &session->election->voices[i];
	return NULL;
}

static unsigned voices_from(const struct election *election, enum voice_state least)
{
	unsigned count = 0;
	for (unsigned i = 0; i < election->wish->word.voter_count; i++)
		count +=
			election->voices[i].state >= least && election->voices[i].state != VOICE_NO;
	return count;
}

static bool majority(const struct election *election, unsigned count)
{
	return 2 * count > election->wish->word.voter_count;
}

static void election_end(struct election *election, int res)
{
	struct repl *repl = election->repl;
	struct repl_election *wish = election->wish;
	struct election **at = &repl->elections;
	while (*at != election)
		at = &(*at)->next;
	*at = election->next;
	env_timer_stop(repl->env, &election->timer);
	for (unsigned i = 0; i < VOTERS_MAX; i++) {
		struct session *session = election->voices[i].session;
		if (!session)
			continue;
		session->election = NULL;
		session_end(session, 0, "");
	}
	free(election);
	env_complete(repl->env, &wish->op, res);
	stop_look(repl);
}

/* Who said no, and why, as far as there is room. */
static void told_why(struct election *election)
{
	struct repl_election *wish = election->wish;
	size_t at =
		(size_t)snprintf(wish->sentence, SENTENCE_BYTES,
				 "No majority of its %u voters agrees.", wish->word.voter_count);
	for (unsigned i = 0; i < wish->word.voter_count && at < SENTENCE_BYTES; i++)
		if (i != wish->word.owner && election->voices[i].state != VOICE_AGREED)
			at += (size_t)snprintf(wish->sentence + at, SENTENCE_BYTES - at,
					       " %.63s: %.100s", wish->word.voters[i],
					       election->voices[i].sentence[0]
						       ? election->voices[i].sentence
						       : "It does not answer.");
}

static void vote_send(struct election *election, struct voice *voice, bool only_ask)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	struct repl_vote vote = word_out(&election->wish->word, election->wish->base_term, false);
	vote.only_ask = only_ask;
	voice->state = only_ask ? VOICE_ASKED : VOICE_TOLD;
	voice->request = session_request(voice->session);
	channel_send(voice->session->channel, message,
		     repl_encode_vote(voice->request, 0, &vote, message));
}

static void election_look(struct election *election)
{
	if (majority(election, voices_from(election, VOICE_AGREED))) {
		election_end(election, 0);
		return;
	}
	unsigned hope = 0;
	bool would = majority(election, voices_from(election, VOICE_WOULD));
	for (unsigned i = 0; i < election->wish->word.voter_count; i++) {
		struct voice *voice = &election->voices[i];
		if (would && voice->state == VOICE_WOULD && voice->session)
			vote_send(election, voice, false);
		hope += voice->state != VOICE_NO;
	}
	if (majority(election, hope))
		return;
	told_why(election);
	election_end(election, -VS_ERETAINED);
}

/* Who is there is asked in a term above the given one. */
static void ask_again(struct election *election, uint64_t term)
{
	election->rounds++;
	election->wish->word.term = epoch_next_term(term);
	for (unsigned i = 0; i < election->wish->word.voter_count; i++) {
		struct voice *voice = &election->voices[i];
		if (voice->session && voice->state != VOICE_CALLED && voice->state != VOICE_NO)
			vote_send(election, voice, true);
		else if (voice->state == VOICE_AGREED && i != election->wish->word.owner)
			voice->state = VOICE_NO; /* it agreed to the term before, and went */
	}
}

static void voice_no(struct session *session, struct voice *voice, const char *sentence)
{
	voice->state = VOICE_NO;
	snprintf(voice->sentence, sizeof voice->sentence, "%s", sentence);
	election_look(session->election);
}

void elect_opened(struct session *session)
{
	vote_send(session->election, voice_of(session), true);
}

int elect_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct voice *voice = voice_of(session);
	struct repl_error error;
	struct repl_vote known;
	char sentence[SENTENCE_BYTES];
	if (!(header->flags & REPL_REPLY) || header->request > voice->request)
		return -VS_EFORMAT;
	if (header->request < voice->request)
		return 0; /* of a term before */
	if (voice->state != VOICE_ASKED && voice->state != VOICE_TOLD)
		return -VS_EFORMAT;
	if (header->type == REPL_OK) {
		voice->state = voice->state == VOICE_ASKED ? VOICE_WOULD : VOICE_AGREED;
		election_look(session->election);
	} else if (header->type == REPL_ERROR &&
		   repl_decode_error(body, header->body_bytes, &error) == 0) {
		voice_no(session, voice, error.sentence);
	} else if (header->type == REPL_VOTE &&
		   repl_decode_vote(body, header->body_bytes, &known) == 0) {
		const struct store_word *asked = &session->election->wish->word;
		if (known.base_term >= asked->term && known.base_term < EPOCH_MAX &&
		    session->election->rounds < ROUNDS_MAX) {
			ask_again(session->election, known.base_term);
			return 0;
		}
		snprintf(sentence, sizeof sentence, "It knows %.63s as the owner (term %llu.%llu).",
			 known.voters[known.owner], (unsigned long long)known.term,
			 (unsigned long long)known.seq);
		voice_no(session, voice, sentence);
	} else {
		return -VS_EFORMAT;
	}
	return 0;
}

void elect_ended(struct session *session)
{
	struct election *election = session->election;
	if (!election)
		return;
	struct voice *voice = voice_of(session);
	voice->session = NULL;
	if (voice->state != VOICE_AGREED)
		voice_no(session, voice, session->sentence);
}

static void late(struct env_timer *timer)
{
	struct election *election = container_of(timer, struct election, timer);
	told_why(election);
	election_end(election, -ETIMEDOUT);
}

void repl_elect(struct repl *repl, struct repl_election *wish)
{
	struct election *election = calloc(1, sizeof(*election));
	if (!election || repl->stopping) {
		free(election);
		snprintf(wish->sentence, SENTENCE_BYTES, "There is no memory to ask the voters.");
		env_complete(repl->env, &wish->op, -ENOMEM);
		return;
	}
	election->repl = repl;
	election->wish = wish;
	election->next = repl->elections;
	repl->elections = election;
	election->timer.fire = late;
	env_timer_start(repl->env, &election->timer, PATIENCE_NS);
	election->voices[wish->word.owner].state = VOICE_AGREED;
	struct session *sessions[VOTERS_MAX] = {0};
	for (unsigned i = 0; i < wish->word.voter_count; i++) {
		struct session *session = i == wish->word.owner ? NULL : session_new(repl, false);
		if (i != wish->word.owner && !session)
			election->voices[i].state = VOICE_NO;
		if (!session)
			continue;
		election->voices[i].session = sessions[i] = session;
		session->election = election;
		memcpy(session->host, wish->word.voters[i], NAME_ROOM);
	}
	/* Each may end at once, and the election with the last that could have helped. */
	for (unsigned i = 0; i < VOTERS_MAX; i++) {
		if (sessions[i] && sessions[i]->election)
			session_dial(sessions[i]);
		else if (sessions[i])
			session_never(sessions[i], -VS_ECANCELLED);
	}
}

void elect_stop(struct repl *repl)
{
	while (repl->elections) {
		snprintf(repl->elections->wish->sentence, SENTENCE_BYTES,
			 "This vstored is stopping.");
		election_end(repl->elections, -ESHUTDOWN);
	}
}

/* ---- an owner asks anew ---- */

struct renewal {
	struct renewal *next;
	struct repl *repl;
	uint32_t volume;
	struct repl_election election;
	struct admin_op op;
};

static void renewal_end(struct renewal *renewal, int res, const char *sentence)
{
	struct repl *repl = renewal->repl;
	struct renewal **at = &repl->renewals;
	while (*at != renewal)
		at = &(*at)->next;
	*at = renewal->next;
	log_event(res ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "voters.asked_anew",
		  "volume_number=%u term=%llu result=\"%s\"", renewal->volume,
		  (unsigned long long)renewal->election.word.term, res ? sentence : "done");
	free(renewal);
	stop_look(repl);
}

static void renewed(struct io_op *op)
{
	struct renewal *renewal = container_of(op, struct renewal, op.op);
	renewal_end(renewal, (int)op->res, renewal->op.sentence);
}

static void renewal_elected(struct io_op *op)
{
	struct renewal *renewal = container_of(op, struct renewal, election.op);
	if (op->res < 0) {
		renewal_end(renewal, (int)op->res, renewal->election.sentence);
		return;
	}
	renewal->op = (struct admin_op){.op.done = renewed};
	store_word_renew(renewal->repl->store, &renewal->op, renewal->volume,
			 &renewal->election.word, renewal->election.base_term);
}

bool elect_renew(struct repl *repl, uint32_t volume, uint64_t refused_ns)
{
	if (env_now_ns(repl->env) - refused_ns < RENEW_NS)
		return false;
	for (const struct renewal *at = repl->renewals; at; at = at->next)
		if (at->volume == volume)
			return true;
	struct renewal *renewal = calloc(1, sizeof(*renewal));
	if (!renewal || store_word_plan_renewal(repl->store, volume, &renewal->election.word,
						&renewal->election.base_term) < 0) {
		free(renewal);
		return true;
	}
	renewal->repl = repl;
	renewal->volume = volume;
	renewal->next = repl->renewals;
	repl->renewals = renewal;
	renewal->election.op.done = renewal_elected;
	repl_elect(repl, &renewal->election);
	return true;
}
