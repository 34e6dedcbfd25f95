/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends in lines: one at a time of a volume to a peer.
 *
 * Whatever snapshot it is, the peer takes it into the one copy HOST/VOL; so a send waits for those
 * before it, be they a person's or those that the daemon makes by itself. The peer may still have
 * the copy busy from a connection that was cut, or from what follows in step: then it lets go of
 * that and says "busy", and is asked again, for BUSY_NS at most.
 *
 * Keeps true: no two sends that lead to the same copy are under way, and they go in the order in
 * which they came; a snapshot is kept from repl_send until its end.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

/* A peer that does not see that a connection is dead leaves it after 60 s (channel.c). */
#define BUSY_SECONDS 90u
#define BUSY_PAUSE_NS_MIN (50 * NSEC_PER_MSEC)
#define BUSY_PAUSE_NS_MAX (2 * NSEC_PER_SEC)

/* Who goes before it, and is first: NULL: it is. */
static const struct sender *sender_before(const struct sender *sender)
{
	const struct sender *at = sender->repl->senders;
	while (at != sender && (strcmp(at->send->host, sender->send->host) != 0 ||
				strcmp(at->offer.volume, sender->offer.volume) != 0))
		at = at->next;
	return at == sender ? NULL : at;
}

/* Begins those whose turn has come; never inside this call. */
static void line_look(struct repl *repl)
{
	for (struct sender *sender = repl->senders; sender; sender = sender->next) {
		if (sender->begun)
			continue;
		struct repl_send *send = sender->send;
		const struct sender *before = sender_before(sender);
		if (before) {
			snprintf(send->waits, sizeof send->waits,
				 "It waits for its turn: '%.130s' is being sent to %.63s.",
				 before->send->snapshot, send->host);
			continue;
		}
		sender->begun = true;
		send->waits[0] = 0;
		env_timer_start(repl->env, &sender->timer, 0);
	}
}

static void sender_end(struct sender *sender, int res, const char *sentence)
{
	struct repl_send *send = sender->send;
	struct repl *repl = sender->repl;
	struct sender **at = &repl->senders;
	while (*at != sender)
		at = &(*at)->next;
	*at = sender->next;
	env_timer_stop(repl->env, &sender->timer);
	if (sender->view)
		store_view_close(sender->view);
	if (res < 0 && send->cancel)
		res = -VS_ECANCELLED;
	if (res < 0)
		repl->counters.sends_failed++;
	else
		repl->counters.sends++;
	snprintf(send->sentence, sizeof send->sentence, "%s", res < 0 ? sentence : "");
	if (res < 0 && !send->sentence[0])
		snprintf(send->sentence, sizeof send->sentence, "Sending '%.80s' to %s ended: %s.",
			 send->snapshot, send->host, vs_strerror(res));
	send->waits[0] = 0;
	send->state = NULL;
	free(sender);
	env_complete(repl->env, &send->op, res);
	line_look(repl);
}

static void sender_go(struct env_timer *timer)
{
	struct sender *sender = container_of(timer, struct sender, timer);
	struct repl_send *send = sender->send;
	struct session *session = session_new(sender->repl, false);
	send->waits[0] = 0;
	if (!session) {
		sender_end(sender, -EAGAIN,
			   "There is no room for another connection now; try again.");
		return;
	}
	sender->session = session;
	session->sender = sender;
	session->rate_bytes = send->rate_bytes;
	snprintf(session->host, sizeof session->host, "%.63s", send->host);
	snprintf(session->object, sizeof session->object, "%.127s", send->snapshot);
	session_dial(session);
}

void line_session_ended(struct sender *sender, int res, const char *sentence)
{
	struct repl *repl = sender->repl;
	struct repl_send *send = sender->send;
	uint64_t now_ns = env_now_ns(repl->env);
	char words[2 * SENTENCE_BYTES];
	sender->session = NULL;
	if (res != -EBUSY || send->cancel || repl->stopping) {
		sender_end(sender, res, sentence);
		return;
	}
	if (!sender->pause_ns) {
		sender->busy_since_ns = now_ns;
		log_event(LOG_LEVEL_INFO, "send.waits", "object=%s host=%s reason=\"%s\"",
			  send->snapshot, send->host, sentence);
	}
	if (now_ns - sender->busy_since_ns >= BUSY_SECONDS * NSEC_PER_SEC) {
		snprintf(words, sizeof words, "%.63s was asked for %u seconds and says: %s",
			 send->host, BUSY_SECONDS, sentence);
		sender_end(sender, res, words);
		return;
	}
	sender->pause_ns =
		min_u64(max_u64(2 * sender->pause_ns, BUSY_PAUSE_NS_MIN), BUSY_PAUSE_NS_MAX);
	snprintf(words, sizeof words, "%.63s is asked again, for %u seconds at most; it says: %s",
		 send->host, BUSY_SECONDS, sentence);
	snprintf(send->waits, sizeof send->waits, "%.*s", (int)sizeof send->waits - 1, words);
	env_timer_start(repl->env, &sender->timer, sender->pause_ns);
}

/* Of the sealed snapshot, which is kept from here on. */
static int sender_prepare(struct sender *sender, char *sentence)
{
	struct store *store = sender->repl->store;
	const char *snapshot = sender->send->snapshot;
	int res = store_offer(store, snapshot, &sender->offer);
	if (res == 0)
		res = store_view_open(store, snapshot, &sender->view);
	if (res < 0)
		snprintf(sentence, SENTENCE_BYTES, "The snapshot '%.130s' cannot be sent: %s.",
			 snapshot, res == -EAGAIN ? "it is not folded yet" : vs_strerror(res));
	return res;
}

void repl_send(struct repl *repl, struct repl_send *send)
{
	struct sender *sender = calloc(1, sizeof(*sender)), **end = &repl->senders;
	char sentence[SENTENCE_BYTES] = "";
	send->sentence[0] = send->waits[0] = 0;
	send->state = sender;
	if (!sender) {
		snprintf(send->sentence, sizeof send->sentence, "There is no memory for a send.");
		env_complete(repl->env, &send->op, -ENOMEM);
		return;
	}
	*sender = (struct sender){.repl = repl, .send = send, .timer.fire = sender_go};
	while (*end)
		end = &(*end)->next;
	*end = sender;
	int res = repl->stopping ? -ESHUTDOWN : sender_prepare(sender, sentence);
	if (res < 0)
		sender_end(sender, res, sentence);
	else
		line_look(repl);
}

void repl_send_cancel(struct repl_send *send)
{
	struct sender *sender = send->state;
	static const char sentence[] = "The sender cancelled it.";
	if (sender && sender->session)
		session_end(sender->session, -VS_ECANCELLED, sentence);
	else if (sender)
		sender_end(sender, -VS_ECANCELLED, sentence);
}

void line_stop(struct repl *repl)
{
	struct sender *sender = repl->senders;
	while (sender) {
		struct sender *next = sender->next;
		if (!sender->session)
			sender_end(sender, -ESHUTDOWN, "This vstored is stopping.");
		sender = next;
	}
}
