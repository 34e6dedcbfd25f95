/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mandates (store/mandate.c): asks the hosts that follow our volumes in step, and their witnesses,
 * for them, and gives them to those whose copies are here. The voters' words go the same way
 * (word.c).
 *
 * One connection a host, for all its volumes, beside those that carry data: what queues there must
 * not hold up a question. Each volume is asked for again and again, one question at a time.
 *
 * Keeps true: a mandate counts from when its question was sent. A host counts as absent only when
 * a try to reach it, or a connection to it, that began since this one was last asleep has failed,
 * and for as long as the next does not succeed: who wakes asks first.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_NS (100 * NSEC_PER_MSEC)
#define EVERY_NS (MANDATE_NS / 4)
#define SILENT_NS (MANDATE_NS / 2) /* then it is absent, before what it gave has passed */
#define DIAL_AGAIN_NS NSEC_PER_SEC
/* No tick came for so long: this host was stopped. What was found absent is that for longer, so
 * that no moment lies between, but not for much. */
#define ASLEEP_NS NSEC_PER_SEC
#define ABSENT_NS (2 * NSEC_PER_SEC)

/* A volume that a host is asked for. */
struct asking {
	struct asking *next;
	uint32_t volume;
	bool listed, waits; /* waits: for the answer to `request` */
	uint64_t request, sent_ns;
	int res;	     /* of the last answer */
	uint64_t refused_ns; /* a voter says no since then; 0: it does not */
	bool voter, copy, heard;
	struct telling telling;
};
struct mandate_link {
	struct mandate_link *next;
	struct repl *repl;
	char host[NAME_ROOM];
	struct session *session;
	bool open;
	bool awake; /* we were, since its session began */
	bool absent;
	uint64_t absent_ns; /* since then, when it is */
	struct asking *askings;
	uint64_t dial_ns; /* not before */
};

/* ---- asking ---- */

static void ask(struct mandate_link *link, struct asking *asking, uint64_t now)
{
	uint8_t message[REPL_HEADER_BYTES + 64];
	struct volume_info volume;
	struct repl_mandate question = {.duration_ns = MANDATE_NS};
	if (store_volume_info(link->repl->store, asking->volume, &volume) < 0)
		return;
	memcpy(question.volume_uuid, volume.uuid, 16);
	question.position.epoch = volume.epoch;
	question.position.vseq = volume.vseq;
	memcpy(question.position.incarnation, volume.incarnation, 16);
	asking->request = session_request(link->session);
	asking->sent_ns = now;
	asking->waits = true;
	channel_send(link->session->channel, message,
		     repl_encode_mandate(asking->request, &question, message));
}

static void link_ask(struct mandate_link *link)
{
	uint64_t now = env_now_ns(link->repl->env);
	for (struct asking *asking = link->askings; asking; asking = asking->next) {
		if (asking->refused_ns &&
		    elect_renew(link->repl, asking->volume, asking->refused_ns))
			asking->refused_ns = now;
		if (asking->voter)
			word_tell(link->session, &asking->telling, asking->volume, link->host,
				  asking->heard);
		if (asking->waits && now - asking->sent_ns > SILENT_NS) {
			session_end(link->session, -ETIMEDOUT, "It does not answer.");
			return;
		}
		if (!asking->waits && (!asking->sent_ns || now - asking->sent_ns >= EVERY_NS))
			ask(link, asking, now);
	}
}

static void link_look(struct mandate_link *link)
{
	struct repl *repl = link->repl;
	uint64_t now = env_now_ns(repl->env);
	if (link->session && link->open && !link->session->ended)
		link_ask(link);
	if (link->session || now < link->dial_ns)
		return;
	struct session *session = session_new(repl, false);
	if (!session)
		return;
	link->dial_ns = now + DIAL_AGAIN_NS;
	link->session = session;
	link->awake = true;
	session->mandates = link;
	memcpy(session->host, link->host, NAME_ROOM);
	session_dial(session);
}

/* What was found before says nothing now. */
static void link_woke(struct mandate_link *link)
{
	link->absent = link->awake = false;
	link->dial_ns = 0;
	if (link->session)
		session_end(link->session, -ECONNRESET, "This host was stopped for a while.");
}

static void absent_tell(const struct mandate_link *link)
{
	struct repl *repl = link->repl;
	uint64_t now = env_now_ns(repl->env);
	for (const struct asking *asking = link->askings; asking; asking = asking->next) {
		if (asking->copy && now - link->absent_ns >= REPL_MISSING_NS)
			store_follower_missing(repl->store, asking->volume, link->host);
		store_mandate_absent(repl->store, asking->volume, link->host, now + ABSENT_NS);
	}
}

/* ---- who is asked for what ---- */

static void asking_list(struct mandate_link *link, const struct voter_info *info)
{
	struct asking *asking = link->askings;
	while (asking && asking->volume != info->volume_number)
		asking = asking->next;
	if (!asking) {
		asking = calloc(1, sizeof(*asking));
		if (!asking)
			return; /* the next tick tries again */
		asking->volume = info->volume_number;
		asking->next = link->askings;
		link->askings = asking;
	}
	asking->listed = true;
	asking->voter = info->voter;
	asking->copy = info->copy;
	asking->heard = info->heard;
}

static struct mandate_link *link_of(struct repl *repl, const char *host)
{
	struct mandate_link *link = repl->links;
	while (link && strcmp(link->host, host) != 0)
		link = link->next;
	if (link || !(link = calloc(1, sizeof(*link))))
		return link;
	link->repl = repl;
	memcpy(link->host, host, NAME_ROOM);
	link->next = repl->links;
	repl->links = link;
	return link;
}

static void askings_sweep(struct mandate_link *link, bool all)
{
	for (struct asking **at = &link->askings; *at;) {
		struct asking *asking = *at;
		if (asking->listed && !all) {
			at = &asking->next;
			continue;
		}
		*at = asking->next;
		free(asking);
	}
}

static void links_sweep(struct repl *repl)
{
	for (struct mandate_link **at = &repl->links; *at;) {
		struct mandate_link *link = *at;
		askings_sweep(link, false);
		if (link->askings) {
			at = &link->next;
			continue;
		}
		*at = link->next;
		if (link->session) {
			link->session->mandates = NULL;
			session_end(link->session, 0, "");
		}
		free(link);
	}
}

static void tick(struct env_timer *timer)
{
	struct repl *repl = container_of(timer, struct repl, mandate_timer);
	struct voter_info *voters;
	size_t count;
	uint64_t now = env_now_ns(repl->env);
	bool woke = now - repl->mandate_tick_ns > ASLEEP_NS;
	if (repl->stopping)
		return;
	repl->mandate_tick_ns = now;
	env_timer_start(repl->env, timer, TICK_NS);
	for (struct mandate_link *link = repl->links; link && woke; link = link->next)
		link_woke(link);
	if (store_voters(repl->store, &voters, &count) < 0)
		return;
	for (struct mandate_link *link = repl->links; link; link = link->next)
		for (struct asking *asking = link->askings; asking; asking = asking->next)
			asking->listed = false;
	for (size_t i = 0; i < count; i++) {
		struct mandate_link *link = link_of(repl, voters[i].host);
		if (link)
			asking_list(link, &voters[i]);
	}
	free(voters);
	links_sweep(repl);
	for (struct mandate_link *link = repl->links; link; link = link->next) {
		link_look(link);
		if (link->absent)
			absent_tell(link);
	}
}

void mandate_start(struct repl *repl)
{
	repl->mandate_timer.fire = tick;
	repl->mandate_tick_ns = env_now_ns(repl->env);
	env_timer_start(repl->env, &repl->mandate_timer, 0);
}

void mandate_stop(struct repl *repl)
{
	env_timer_stop(repl->env, &repl->mandate_timer);
	while (repl->links) {
		struct mandate_link *link = repl->links;
		repl->links = link->next;
		if (link->session)
			link->session->mandates = NULL;
		askings_sweep(link, true);
		free(link);
	}
}

/* ---- the session ---- */

void mandate_opened(struct session *session)
{
	session->mandates->open = true;
	for (struct asking *asking = session->mandates->askings; asking; asking = asking->next) {
		store_word_unheard(session->repl->store, asking->volume, session->host);
		asking->heard = false;
	}
	link_ask(session->mandates);
}

static void answered(struct mandate_link *link, struct asking *asking, int res)
{
	uint64_t until = res == 0 ? asking->sent_ns + MANDATE_NS : 0;
	asking->waits = link->absent = false;
	if (res < 0 && res != asking->res)
		log_event(LOG_LEVEL_WARNING, "mandate.refused",
			  "volume_number=%u host=%s error=\"%s\" effect=\"its clients get no "
			  "answers\"",
			  asking->volume, link->host, vs_strerror(res));
	asking->res = res;
	if ((res != -VS_EFENCED && res != -EAGAIN) || !asking->voter)
		asking->refused_ns = 0;
	else if (!asking->refused_ns)
		asking->refused_ns = env_now_ns(link->repl->env);
	/* Any other refusal may be over soon, and what was given before still stands. */
	if (res == 0 || res == -VS_EFENCED)
		store_mandate_given(link->repl->store, asking->volume, link->host, until);
}

int mandate_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct mandate_link *link = session->mandates;
	struct repl_error error = {0};
	struct repl_vote vote;
	bool refused = header->type == REPL_ERROR;
	bool other = header->type == REPL_VOTE; /* a word that is kept in place of ours */
	if (!(header->flags & REPL_REPLY) || (header->type != REPL_OK && !refused && !other) ||
	    (refused && repl_decode_error(body, header->body_bytes, &error) < 0) ||
	    (other && repl_decode_vote(body, header->body_bytes, &vote) < 0))
		return -VS_EFORMAT;
	for (struct asking *asking = link->askings; asking; asking = asking->next) {
		int code = other ? -VS_EFENCED : error.code;
		if (word_told(session, &asking->telling, asking->volume, link->host, header,
			      code)) {
			if (other) {
				struct store_word known = word_in(&vote);
				store_word_known(session->repl->store, asking->volume, link->host,
						 &known);
			}
			return 0;
		}
		if (asking->waits && asking->request == header->request)
			answered(link, asking, code);
	}
	return 0;
}

void mandate_ended(struct session *session)
{
	struct mandate_link *link = session->mandates;
	if (!link)
		return;
	session->mandates = NULL;
	link->session = NULL;
	link->open = false;
	if (link->awake && !link->absent) {
		link->absent = true;
		link->absent_ns = env_now_ns(link->repl->env);
	}
	for (struct asking *asking = link->askings; asking; asking = asking->next) {
		asking->waits = asking->telling.waits = false;
		asking->sent_ns = asking->telling.asked_ns = 0;
	}
}

/* ---- giving ---- */

int mandate_take(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_mandate question;
	uint8_t message[REPL_HEADER_BYTES];
	if (repl_decode_mandate(body, header->body_bytes, &question) < 0)
		return -VS_EFORMAT;
	int res = store_mandate_give(session->repl->store, session->host, question.volume_uuid,
				     question.position.epoch, question.duration_ns);
	if (res < 0)
		answer_error(
			session, header->request, res,
			res == -VS_EFENCED
				? "This host serves that volume itself, has it of a higher "
				  "epoch, or knows another owner of it."
			: res == -EAGAIN
				? "Its copy is being promoted here, or another host was promised "
				  "this one's voice."
				: vs_strerror(res));
	else
		channel_send(session->channel, message, repl_encode_ok(header->request, message));
	return 0;
}
