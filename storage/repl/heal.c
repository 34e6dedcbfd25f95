/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that the store cannot read any more are asked of the peers, one after the other, until
 * one has it. The store proves what comes (store/heal.c); here is only who is asked.
 *
 * Keeps true: a question is answered once, from the loop; a peer that does not answer holds up
 * nobody for more than a tick or two: the next one is asked; who failed a moment ago is asked
 * behind all others, not never, as it may be the only one that has it; a connection for questions
 * ends when nobody asks any more.
 */
#include "storage/repl/session.h"

#include <stdlib.h>

/* A peer answers something in this time, and is connected in it: the store waits for 15 s. */
#define TICK_NS (4 * NSEC_PER_SEC)
#define IDLE_TICKS 8u
#define DOWN_NS (60 * NSEC_PER_SEC) /* one that failed is the last so long */
#define PEERS_ASKED_MAX 64u	    /* as many as a store knows */

struct question {
	struct question *next, *prev;
	struct repl *repl;
	struct store_wanted wanted;
	struct session *session; /* that it was given to; NULL: its op is under way */
	uint64_t tried;		 /* peers, by place */
	struct io_op op;
};

/* Peers that failed lately. */
struct heal_down {
	char host[NAME_ROOM];
	uint64_t until_ns;
};

static void question_end(struct question *question, const void *record, uint32_t record_bytes,
			 int code)
{
	struct repl *repl = question->repl;
	store_heal_answer(repl->store, question->wanted.number, record, record_bytes, code);
	if (question->prev)
		question->prev->next = question->next;
	else
		repl->questions = question->next;
	if (question->next)
		question->next->prev = question->prev;
	repl->question_count--;
	free(question);
	stop_look(repl);
}

static void question_step(struct io_op *op);

/* From the loop: whoever calls this may be in the middle of something. */
static void question_again(struct question *question)
{
	question->session = NULL;
	question->op.done = question_step;
	env_complete(question->repl->env, &question->op, 0);
}

static void question_send(struct question *question)
{
	struct session *session = question->session;
	uint8_t message[REPL_HEADER_BYTES + 24 + ID_BYTES];
	/* Of whichever domain: the store tries the keys of all that it has. */
	struct repl_get get = {
		.type = question->wanted.type, .count = 1, .ids = question->wanted.id};
	channel_send(session->channel, message,
		     repl_encode_get(session_request(session), &get, message));
}

/* ---- who is asked ---- */

static struct heal_down *down_of(struct repl *repl, const char *host)
{
	for (unsigned i = 0; i < PEERS_ASKED_MAX; i++)
		if (strcmp(repl->downs[i].host, host) == 0)
			return &repl->downs[i];
	return NULL;
}

static void down_note(struct repl *repl, const char *host)
{
	struct heal_down *down = down_of(repl, host);
	for (unsigned i = 0; i < PEERS_ASKED_MAX && !down; i++)
		if (repl->downs[i].until_ns <= env_now_ns(repl->env))
			down = &repl->downs[i];
	if (!down)
		return;
	memcpy(down->host, host, NAME_ROOM);
	down->until_ns = env_now_ns(repl->env) + DOWN_NS;
}

static bool is_down(struct repl *repl, const char *host)
{
	const struct heal_down *down = down_of(repl, host);
	return down && down->until_ns > env_now_ns(repl->env);
}

static struct session *session_for(struct repl *repl, const struct peer_info *peer)
{
	for (struct session *session = repl->sessions; session; session = session->next)
		if (session->heals && !session->ended && session->res == 0 &&
		    strcmp(session->host, peer->host) == 0)
			return session;
	struct session *session = session_new(repl, false);
	if (!session)
		return NULL;
	session->heals = true;
	session->patience_ns = TICK_NS;
	memcpy(session->host, peer->host, NAME_ROOM);
	return session;
}

/* First those that are not known to be down. NULL: all were asked. */
static const struct peer_info *next_peer(struct question *question, const struct peer_info *peers,
					 size_t count)
{
	count = min_u64(count, PEERS_ASKED_MAX);
	for (unsigned down = 0; down < 2; down++)
		for (size_t i = 0; i < count; i++) {
			size_t at = (question->wanted.attempt + i) % count;
			uint64_t bit = UINT64_C(1) << at;
			if (question->tried & bit ||
			    (!down && is_down(question->repl, peers[at].host)))
				continue;
			question->tried |= bit;
			return &peers[at];
		}
	return NULL;
}

static bool any_question(const struct session *session)
{
	for (const struct question *q = session->repl->questions; q; q = q->next)
		if (q->session == session)
			return true;
	return false;
}

static void question_step(struct io_op *op)
{
	struct question *question = container_of(op, struct question, op);
	struct repl *repl = question->repl;
	struct peer_info *peers;
	size_t count;
	struct session *session = NULL;
	char address[PEER_ADDRESS_ROOM];
	int res = store_peers(repl->store, &peers, &count);
	if (res < 0 || repl->stopping) {
		if (res == 0)
			free(peers);
		question_end(question, NULL, 0, res < 0 ? res : -ESHUTDOWN);
		return;
	}
	const struct peer_info *peer;
	while (!session && (peer = next_peer(question, peers, count))) {
		session = session_for(repl, peer);
		memcpy(address, peer->address, PEER_ADDRESS_ROOM);
	}
	free(peers);
	if (!session) {
		question_end(question, NULL, 0, -ENOENT);
		return;
	}
	if (!any_question(session))
		session->quiet_ticks = 0;
	question->session = session;
	if (session->state == SESSION_HEAL)
		question_send(question);
	else if (!session->connecting && !session->channel)
		session_connect(session, address);
}

/* ---- the session ---- */

static void tick(struct env_timer *timer)
{
	struct session *session = container_of(timer, struct session, timer);
	bool asked = any_question(session);
	if (session->ended)
		return;
	if (asked && !session->answered && session->quiet_ticks > 0) {
		session_end(session, -ETIMEDOUT, "It does not answer.");
		return;
	}
	if (!asked && session->quiet_ticks > IDLE_TICKS) {
		session->res = 1; /* nobody is to be given to it any more */
		session_end(session, 0, "");
		return;
	}
	session->quiet_ticks++;
	session->answered = false;
	env_timer_start(session->repl->env, timer, TICK_NS);
}

void heal_opened(struct session *session)
{
	session->state = SESSION_HEAL;
	session->timer.fire = tick;
	env_timer_start(session->repl->env, &session->timer, TICK_NS);
	for (struct question *q = session->repl->questions; q; q = q->next)
		if (q->session == session)
			question_send(q);
}

static struct question *question_of(const struct session *session, const uint8_t id[ID_BYTES])
{
	for (struct question *q = session->repl->questions; q; q = q->next)
		if (q->session == session && memcmp(q->wanted.id, id, ID_BYTES) == 0)
			return q;
	return NULL;
}

int heal_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_record record = {0};
	int code = 0;
	if (!(header->flags & REPL_REPLY) || session->state != SESSION_HEAL)
		return -VS_EFORMAT;
	int res = header->type == REPL_RECORD
			  ? repl_decode_record(body, header->body_bytes, &record)
		  : header->type == REPL_MISSING
			  ? repl_decode_missing(body, header->body_bytes, record.id, &code)
			  : -VS_EFORMAT;
	if (res < 0)
		return res;
	session->answered = true;
	struct question *question = question_of(session, record.id);
	if (question && record.record)
		question_end(question, record.record, record.record_bytes, 0);
	else if (question)
		question_again(question); /* the next peer */
	return 0;
}

void heal_ended(struct session *session)
{
	if (!session->heals)
		return;
	if (session->res < 0 && any_question(session))
		down_note(session->repl, session->host);
	for (struct question *q = session->repl->questions; q; q = q->next)
		if (q->session == session)
			question_again(q);
}

/* ---- the store's questions ---- */

static void want(void *owner, const struct store_wanted *wanted)
{
	struct repl *repl = owner;
	struct question *question = calloc(1, sizeof(*question));
	if (!question)
		return; /* the store waits no longer than it does */
	question->repl = repl;
	question->wanted = *wanted;
	question->next = repl->questions;
	if (question->next)
		question->next->prev = question;
	repl->questions = question;
	repl->question_count++;
	question_again(question);
}

int heal_start(struct repl *repl)
{
	repl->downs = calloc(PEERS_ASKED_MAX, sizeof(*repl->downs));
	if (!repl->downs)
		return -ENOMEM;
	store_set_healer(repl->store, want, repl);
	return 0;
}

void heal_stop(struct repl *repl)
{
	store_set_healer(repl->store, NULL, NULL);
}
