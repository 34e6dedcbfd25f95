/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends in lines: one at a time of a volume to a peer.
 *
 * Whatever snapshot it is, the peer takes it into the one copy HOST/VOL; so a send waits for those
 * before it, be they a person's or those that the daemon makes by itself. The peer may still have
 * the copy busy from a connection that was cut, or from what follows in step: then it lets go of
 * that and says "busy", and is asked again, for BUSY_NS at most.
 *
 * Where the copy gets each write (in step), a person's snapshot is received beside it: such sends
 * are a line of their own, so that neither the stream nor a cut that it needs waits for them.
 *
 * A connection that was cut is made anew where the send says so, and what arrived is not sent
 * again: that has no end while it brings something over, and CUTS_MAX in a row that do not are one.
 * What it brought the peer says (STATE), and not what was sent: bytes that lie in the buffers of a
 * dead link are nowhere. It is believed for as long as all that it ever said is no more than the
 * volume has chunks, twice, since a peer that loses its power takes some again. One that forgets
 * what it took, or lies, asks for the same again and again, and is a vain one from there on. No
 * connection follows another without a pause.
 * A peer that is full, or whose store is read-only, is asked again too where the send says so, for
 * as long as it takes: somebody has to make room there, or to cancel it here. It leaves its place
 * for that time (parked), for what comes behind it may be smaller, and has the last one then.
 *
 * Keeps true: no two sends that lead to the same copy are under way, and they go in the order in
 * which they came, but for one whose peer took nothing; a snapshot is kept from repl_send until its
 * end.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

/* A peer that does not see that a connection is dead leaves it after 60 s (channel.c). */
#define BUSY_SECONDS 90u
#define BUSY_PAUSE_NS_MIN (50 * NSEC_PER_MSEC)
#define BUSY_PAUSE_NS_MAX (2 * NSEC_PER_SEC)
#define CUTS_MAX 64u /* a half hour of them */
#define CUT_PAUSE_NS_MIN (100 * NSEC_PER_MSEC)
#define CUT_PAUSE_NS_MAX (30 * NSEC_PER_SEC)
#define FULL_PAUSE_NS_MIN (2 * NSEC_PER_SEC)
#define FULL_PAUSE_NS_MAX (60 * NSEC_PER_SEC)

/* Who goes before it, and is first: NULL: it is. */
static const struct sender *sender_before(const struct sender *sender)
{
	const struct sender *at = sender->repl->senders;
	while (at != sender && (at->parked || strcmp(at->send->host, sender->send->host) != 0 ||
				strcmp(at->offer.volume, sender->offer.volume) != 0 ||
				at->offer.beside != sender->offer.beside))
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

static void sender_unlink(struct sender *sender)
{
	struct sender **at = &sender->repl->senders;
	while (*at != sender)
		at = &(*at)->next;
	*at = sender->next;
}

static void sender_add(struct sender *sender)
{
	struct sender **end = &sender->repl->senders;
	while (*end)
		end = &(*end)->next;
	sender->next = NULL;
	*end = sender;
}

static void sender_end(struct sender *sender, int res, const char *sentence)
{
	struct repl_send *send = sender->send;
	struct repl *repl = sender->repl;
	sender_unlink(sender);
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

/* Its pause is over: it waits for its turn as one that has just come. */
static void sender_unpark(struct sender *sender)
{
	sender_unlink(sender);
	sender_add(sender);
	sender->parked = sender->begun = false;
	line_look(sender->repl);
}

static void sender_go(struct env_timer *timer)
{
	struct sender *sender = container_of(timer, struct sender, timer);
	struct repl_send *send = sender->send;
	if (sender->parked) {
		sender_unpark(sender);
		return;
	}
	struct session *session = session_new(sender->repl, false);
	send->waits[0] = 0;
	if (!session) {
		sender_end(sender, -EAGAIN,
			   "There is no room for another connection now; try again.");
		return;
	}
	sender->session = session;
	sender->states = 0;
	session->sender = sender;
	serve_rate(session, send->rate_bytes);
	snprintf(session->host, sizeof session->host, "%.63s", send->host);
	snprintf(session->object, sizeof session->object, "%.127s", send->snapshot);
	session_dial(session);
}

/* What a peer that tells the truth has taken of this snapshot, at most. */
static uint64_t taken_max(const struct sender *sender)
{
	return 2 * (sender->offer.size_bytes / CHUNK_BYTES + 1);
}

/* The counts of the peer are those of one connection; the first one says how many differ in all. */
void line_progress(struct sender *sender, const struct repl_state *state, uint64_t sent_bytes)
{
	struct repl_send *send = sender->send;
	send->sent_bytes = sender->sent_bytes + sent_bytes + lanes_sent_bytes(sender);
	if (!state)
		return;
	/* Their sum does not overflow, whatever it says. */
	uint64_t most = taken_max(sender) + 1;
	uint64_t fetched = min_u64(state->fetched, most), found = min_u64(state->found, most);
	send->fetched = sender->fetched + fetched;
	send->found = sender->found + found;
	send->chunks = max_u64(send->chunks,
			       sender->fetched + sender->found + min_u64(state->chunks, most));
	if (fetched + found && sender->believed + fetched + found < most)
		sender->vain_cuts = 0;
}

bool repl_was_cut(int res)
{
	static const int cuts[] = {ECONNRESET,	 ECONNABORTED, EPIPE,	    ETIMEDOUT, ECONNREFUSED,
				   EHOSTUNREACH, EHOSTDOWN,    ENETUNREACH, ENETDOWN,  ESHUTDOWN};
	for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++)
		if (res == -cuts[i])
			return true;
	return false;
}

/* Nothing can be written there until a person has done something about it. */
static bool takes_nothing(int res)
{
	return res == -ENOSPC || res == -EROFS || res == -VS_EQUOTA || res == -VS_EFAILSTOP;
}

/* What this connection brought stays there; the next one counts from it. */
static void counts_keep(struct sender *sender)
{
	sender->fetched = sender->send->fetched;
	sender->found = sender->send->found;
	sender->sent_bytes = sender->send->sent_bytes;
	sender->pause_ns = 0; /* that it was busy is over */
}

static void full_again(struct sender *sender, const char *sentence)
{
	struct repl *repl = sender->repl;
	struct repl_send *send = sender->send;
	if (!sender->full_pause_ns)
		log_event(LOG_LEVEL_WARNING, "send.refused", "object=%s host=%s reason=\"%s\"",
			  send->snapshot, send->host, sentence);
	counts_keep(sender); /* not believed: what it says to have taken it did not keep */
	sender->full_pause_ns =
		min_u64(max_u64(2 * sender->full_pause_ns, FULL_PAUSE_NS_MIN), FULL_PAUSE_NS_MAX);
	snprintf(send->waits, sizeof send->waits,
		 "%.63s takes nothing now, and is asked again until it does; it says: %.190s",
		 send->host, sentence);
	sender->parked = true;
	env_timer_start(repl->env, &sender->timer, sender->full_pause_ns);
	line_look(repl);
}

/* False: that was the last one. */
static bool cut_again(struct sender *sender, const char *sentence)
{
	struct repl *repl = sender->repl;
	struct repl_send *send = sender->send;
	if (sender->vain_cuts++ == 0)
		sender->cut_pause_ns = 0;
	if (sender->vain_cuts > CUTS_MAX)
		return false;
	sender->believed += send->fetched + send->found - sender->fetched - sender->found;
	counts_keep(sender);
	sender->cut_pause_ns =
		min_u64(max_u64(2 * sender->cut_pause_ns, CUT_PAUSE_NS_MIN), CUT_PAUSE_NS_MAX);
	snprintf(send->waits, sizeof send->waits,
		 "The connection to %.63s was cut, and is tried again: what arrived stays there. "
		 "(%.150s)",
		 send->host, sentence);
	log_event(LOG_LEVEL_INFO, "send.cut", "object=%s host=%s reason=\"%s\"", send->snapshot,
		  send->host, sentence);
	env_timer_start(repl->env, &sender->timer, sender->cut_pause_ns);
	return true;
}

/* False: it was asked for long enough. */
static bool busy_again(struct sender *sender, const char *sentence)
{
	struct repl *repl = sender->repl;
	struct repl_send *send = sender->send;
	uint64_t now_ns = env_now_ns(repl->env);
	char words[2 * SENTENCE_BYTES];
	if (!sender->pause_ns) {
		sender->busy_since_ns = now_ns;
		log_event(LOG_LEVEL_INFO, "send.waits", "object=%s host=%s reason=\"%s\"",
			  send->snapshot, send->host, sentence);
	}
	if (now_ns - sender->busy_since_ns >= BUSY_SECONDS * NSEC_PER_SEC)
		return false;
	sender->pause_ns =
		min_u64(max_u64(2 * sender->pause_ns, BUSY_PAUSE_NS_MIN), BUSY_PAUSE_NS_MAX);
	snprintf(words, sizeof words, "%.63s is asked again, for %u seconds at most; it says: %s",
		 send->host, BUSY_SECONDS, sentence);
	snprintf(send->waits, sizeof send->waits, "%.*s", (int)sizeof send->waits - 1, words);
	env_timer_start(repl->env, &sender->timer, sender->pause_ns);
	return true;
}

void line_session_ended(struct sender *sender, int res, const char *sentence)
{
	const struct repl_send *send = sender->send;
	bool busy = res == -EBUSY, cut = repl_was_cut(res) && send->goes_on && sender->reached;
	char words[2 * SENTENCE_BYTES];
	sender->session = NULL;
	bool ends = send->cancel || sender->repl->stopping;
	if (!ends && send->goes_on && takes_nothing(res)) {
		full_again(sender, sentence);
		return;
	}
	if (ends || (!busy && !cut)) {
		sender_end(sender, res, sentence);
		return;
	}
	if (busy ? busy_again(sender, sentence) : cut_again(sender, sentence))
		return;
	if (busy)
		snprintf(words, sizeof words, "%.63s was asked for %u seconds and says: %s",
			 send->host, BUSY_SECONDS, sentence);
	else
		snprintf(words, sizeof words,
			 "%u connections to %.63s, one after the other, brought nothing over; what "
			 "arrived before stays there, and is not sent again. The last one: %s",
			 CUTS_MAX, send->host, sentence);
	sender_end(sender, res, words);
}

/* Does the peer get each write of the volume? A copy of another host's has a slash, and no
 * followers. */
static bool in_step_there(const struct sender *sender)
{
	struct follower_info *infos;
	const char *snapshot = sender->send->snapshot;
	size_t count, bytes = strcspn(snapshot, "@");
	bool in_step = false;
	if (store_followers(sender->repl->store, &infos, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		in_step |= infos[i].rules.in_step &&
			   strcmp(infos[i].host, sender->send->host) == 0 &&
			   strncmp(infos[i].volume, snapshot, bytes) == 0 &&
			   infos[i].volume[bytes] == 0;
	free(infos);
	return in_step;
}

/* Of the sealed snapshot, which is kept from here on. */
static int sender_prepare(struct sender *sender, char *sentence)
{
	struct store *store = sender->repl->store;
	const char *snapshot = sender->send->snapshot;
	int res = store_offer(store, snapshot, &sender->offer);
	sender->offer.beside = res == 0 && !sender->offer.cut && in_step_there(sender);
	if (res == 0)
		res = store_view_open(store, snapshot, &sender->view);
	if (res < 0)
		snprintf(sentence, SENTENCE_BYTES, "The snapshot '%.130s' cannot be sent: %s.",
			 snapshot, res == -EAGAIN ? "it is not folded yet" : vs_strerror(res));
	return res;
}

void repl_send(struct repl *repl, struct repl_send *send)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	char sentence[SENTENCE_BYTES] = "";
	send->sentence[0] = send->waits[0] = 0;
	send->state = sender;
	if (!sender) {
		snprintf(send->sentence, sizeof send->sentence, "There is no memory for a send.");
		env_complete(repl->env, &send->op, -ENOMEM);
		return;
	}
	*sender = (struct sender){.repl = repl, .send = send, .timer.fire = sender_go};
	sender_add(sender);
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

void repl_send_rate(struct repl_send *send, uint64_t rate_bytes)
{
	struct sender *sender = send->state;
	send->rate_bytes = rate_bytes;
	if (sender && rate_bytes)
		lanes_end(sender);
	if (sender && sender->session)
		serve_rate(sender->session, rate_bytes);
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
