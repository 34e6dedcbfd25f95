/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: made by a peer's connection, by a send or by a question, freed when nothing of theirs
 * is under way.
 *
 * A session that has ended (no channel any more) waits for the store to give back what it has: the
 * reads of serve.c, a domain being kept, a receive being cancelled. session_look frees it then.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECT_NS (10 * NSEC_PER_SEC)
#define ACCEPT_AGAIN_NS (100 * NSEC_PER_MSEC)
#define UNKNOWN_MAX 64u /* connections that have not shown who they are */

/* ---- the life of a session ---- */

void stop_look(struct repl *repl)
{
	if (!repl->stop_op || repl->sessions || repl->accepting || repl->question_count ||
	    repl->elections || repl->renewals)
		return;
	struct io_op *op = repl->stop_op;
	repl->stop_op = NULL;
	env_complete(repl->env, op, 0);
}

struct session *session_new(struct repl *repl, bool incoming)
{
	if (repl->session_count >= SESSIONS_MAX - (incoming ? SESSIONS_OWN : 0))
		return NULL;
	struct session *session = calloc(1, sizeof(*session));
	if (!session)
		return NULL;
	session->repl = repl;
	session->incoming = incoming;
	session->next_request = 1;
	session->next = repl->sessions;
	if (session->next)
		session->next->prev = session;
	repl->sessions = session;
	repl->session_count++;
	return session;
}

void session_look(struct session *session)
{
	struct repl *repl = session->repl;
	if (!session->ended || session->connecting || session->channel || session->reads_busy ||
	    session->words_taken)
		return;
	if (!receive_idle(session)) {
		receive_cancel(session);
		return;
	}
	env_timer_stop(repl->env, &session->timer);
	lanes_left(session);
	send_ended(session);
	heal_ended(session);
	stream_ended(session);
	mandate_ended(session);
	elect_ended(session);
	copy_ended(session);
	if (session->prev)
		session->prev->next = session->next;
	else
		repl->sessions = session->next;
	if (session->next)
		session->next->prev = session->prev;
	repl->session_count--;
	serve_free(session);
	free(session);
	stop_look(repl);
}

void session_end(struct session *session, int res, const char *sentence)
{
	if (session->ended)
		return;
	if (!session->res)
		session->res = res;
	if (!session->sentence[0])
		snprintf(session->sentence, sizeof session->sentence, "%s", sentence);
	if (session->channel)
		channel_close(session->channel, res, res < 0 ? sentence : "");
	else if (session->connecting)
		env_sock_shutdown(session->sock);
}

void session_refused(struct session *session, const struct repl_error *error)
{
	if (!session->sentence[0])
		repl_quote(session->host, error, session->sentence);
	session_end(session, error->code, "");
}

uint64_t session_request(struct session *session)
{
	return session->next_request++;
}

/* ---- what the channel says ---- */

/* Its place, or clock_count. */
static unsigned clock_of(const struct repl *repl, const char *host)
{
	unsigned at = 0;
	while (at < repl->clock_count && strcmp(repl->clocks[at].host, host) != 0)
		at++;
	return at;
}

static void hello_note(struct repl *repl, const char *host, int64_t ahead_ns,
		       const uint8_t store_uuid[16])
{
	unsigned at = clock_of(repl, host);
	if (at == CLOCKS_MAX)
		return;
	if (at == repl->clock_count)
		snprintf(repl->clocks[repl->clock_count++].host, NAME_ROOM, "%s", host);
	repl->clocks[at].ahead_ns = ahead_ns;
	memcpy(&repl->clocks[at].store_tag, store_uuid, sizeof repl->clocks[at].store_tag);
	repl->clocks[at].store_tag |= !repl->clocks[at].store_tag;
}

static void opened(void *owner)
{
	struct session *session = owner;
	const struct repl_hello *hello = channel_hello(session->channel);
	/* Others came while TLS was agreed on by the old ones, however long the peer made that. */
	if (session->tls_number != session->repl->tls_number &&
	    !channel_recheck(session->channel, session->repl->tls))
		return;
	snprintf(session->host, sizeof session->host, "%s", channel_peer(session->channel));
	session->clock_ahead_ns = (int64_t)(hello->wall_ns - env_wall_ns(session->repl->env));
	hello_note(session->repl, session->host, session->clock_ahead_ns, hello->store_uuid);
	log_event(LOG_LEVEL_INFO, "peer.connected", "host=%s direction=%s", session->host,
		  session->incoming ? "in" : "out");
	if (session->heals)
		heal_opened(session);
	else if (session->stream)
		stream_opened(session);
	else if (session->mandates)
		mandate_opened(session);
	else if (session->election)
		elect_opened(session);
	else if (session->state == SESSION_LANE)
		lanes_opened(session);
	else if (session->sender)
		send_opened(session);
}

static int message(void *owner, const struct repl_header *header, const uint8_t *body)
{
	struct session *session = owner;
	if (session->incoming)
		return receive_message(session, header, body);
	if (session->heals)
		return heal_message(session, header, body);
	if (session->stream)
		return stream_message(session, header, body);
	if (session->mandates)
		return mandate_message(session, header, body);
	if (session->election)
		return elect_message(session, header, body);
	if (session->state >= SESSION_LANE)
		return lanes_message(session, header, body);
	return session->sender ? send_message(session, header, body) : 0; /* nobody's any more */
}

static void room(void *owner)
{
	struct session *session = owner;
	serve_kick(session);
	if (session->stream)
		stream_room(session);
}

static void closed(void *owner, int res, const char *sentence)
{
	struct session *session = owner;
	struct repl *repl = session->repl;
	if (!session->res)
		session->res = res ? res : -ECONNRESET;
	if (!session->sentence[0])
		snprintf(session->sentence, sizeof session->sentence, "%s", sentence);
	if (session->incoming && (!session->host[0] || res == -VS_EFORMAT)) {
		repl->counters.refused++;
		log_event(LOG_LEVEL_WARNING, "peer.refused", "%s%s%sfrom=%s reason=\"%s\"",
			  session->host[0] ? "host=" : "", session->host,
			  session->host[0] ? " " : "", session->from, session->sentence);
	} else {
		log_event(LOG_LEVEL_INFO, "peer.disconnected", "host=%s reason=\"%s\"",
			  session->host, session->sentence);
	}
	lanes_left(session);
	repl->counters.sent_bytes += channel_sent_bytes(session->channel);
	repl->counters.received_bytes += channel_received_bytes(session->channel);
	if (session->sender)
		line_progress(session->sender, NULL, channel_sent_bytes(session->channel));
	channel_free(session->channel);
	session->channel = NULL;
	session->ended = true;
	session_look(session);
}

static const struct channel_ops session_ops = {opened, message, room, closed};

int session_channel(struct session *session, struct env_sock *sock)
{
	struct repl *repl = session->repl;
	struct store_info info;
	struct channel_options options = {.tls = repl->tls, .handshake_ns = session->patience_ns};
	store_info(repl->store, &info);
	session->tls_number = repl->tls_number;
	memcpy(options.store_uuid, info.uuid, 16);
	if (!session->incoming)
		options.plain_peer = options.expected_host = session->host;
	else
		options.plain_peer = repl->plain_peer ? repl->plain_peer(sock) : repl->plain_host;
	return channel_new(repl->env, sock, session->incoming, &options, &session_ops, session,
			   &session->channel);
}

/* ---- accepting ---- */

static void accept_start(struct repl *repl);

/* Who says nothing, or little by little, has no more than these; the newest may be a peer. */
static void unknown_bound(struct repl *repl)
{
	struct session *oldest = NULL;
	unsigned count = 0;
	for (struct session *at = repl->sessions; at; at = at->next) {
		if (!at->incoming || !at->channel || at->res || at->host[0])
			continue;
		oldest = at;
		count++;
	}
	if (count >= UNKNOWN_MAX)
		session_end(oldest, -EBUSY,
			    "It made room for a newer one: too many connections have not said who "
			    "they are.");
}

static void accept_again(struct env_timer *timer)
{
	accept_start(container_of(timer, struct repl, accept_timer));
}

static void accept_done(struct io_op *op)
{
	struct repl *repl = container_of(op, struct repl, accept_op);
	repl->accepting = false;
	if (repl->stopping) {
		if (op->res == 0)
			env_sock_close(repl->accepted);
		stop_look(repl);
		return;
	}
	if (op->res < 0) {
		repl->accept_timer.fire = accept_again;
		env_timer_start(repl->env, &repl->accept_timer, ACCEPT_AGAIN_NS);
		return;
	}
	unknown_bound(repl);
	struct session *session = session_new(repl, true);
	repl->counters.connections++;
	if (session)
		env_sock_peer(repl->accepted, session->from);
	if (!session) {
		repl->counters.refused++;
		log_event(LOG_LEVEL_WARNING, "peer.refused",
			  "reason=\"There is no room for another connection now.\"");
		env_sock_close(repl->accepted);
	} else if (session_channel(session, repl->accepted) < 0) {
		session->ended = true;
		session_look(session);
	}
	accept_start(repl);
}

static void accept_start(struct repl *repl)
{
	if (repl->stopping)
		return;
	repl->accepting = true;
	repl->accept_op.done = accept_done;
	env_accept(repl->listener, &repl->accept_op, &repl->accepted);
}

/* ---- connecting ---- */

static void connect_late(struct env_timer *timer)
{
	struct session *session = container_of(timer, struct session, timer);
	snprintf(session->sentence, sizeof session->sentence,
		 "%s does not answer: is vstored running there with --listen?", session->host);
	session->res = -ETIMEDOUT;
	env_sock_shutdown(session->sock);
}

static void connected(struct io_op *op)
{
	struct session *session = container_of(op, struct session, connect_op);
	struct repl *repl = session->repl;
	session->connecting = false;
	env_timer_stop(repl->env, &session->timer);
	int res = session->res < 0 ? session->res : (int)op->res;
	if (res < 0)
		env_sock_close(session->sock);
	else
		res = session_channel(session, session->sock);
	session->sock = NULL;
	if (res == 0)
		return;
	session->res = res;
	if (!session->sentence[0])
		snprintf(session->sentence, sizeof session->sentence,
			 "%s cannot be reached (%s): is vstored running there with --listen?",
			 session->host, vs_strerror(res));
	session->ended = true;
	session_look(session);
}

static int session_address(struct session *session, char ret_address[PEER_ADDRESS_ROOM])
{
	struct peer_info *peers;
	size_t count;
	int res = store_peers(session->repl->store, &peers, &count);
	if (res < 0)
		return res;
	ret_address[0] = 0;
	for (size_t i = 0; i < count; i++)
		if (strcmp(peers[i].host, session->host) == 0)
			memcpy(ret_address, peers[i].address, PEER_ADDRESS_ROOM);
	free(peers);
	if (ret_address[0])
		return 0;
	snprintf(session->sentence, sizeof session->sentence,
		 "There is no peer '%.63s': add it with 'vstorectl peer add HOST ADDRESS'.",
		 session->host);
	return -ENOENT;
}

void session_never(struct session *session, int res)
{
	session->res = res;
	session->ended = true;
	session_look(session);
}

void session_connect(struct session *session, const char *address)
{
	struct env *env = session->repl->env;
	session->connect_op.done = connected;
	int res = env_connect_tcp(env, address, &session->connect_op, &session->sock);
	if (res < 0) {
		session_never(session, res);
		return;
	}
	session->connecting = true;
	session->timer.fire = connect_late;
	env_timer_start(env, &session->timer,
			session->patience_ns ? session->patience_ns : CONNECT_NS);
}

void session_dial(struct session *session)
{
	char address[PEER_ADDRESS_ROOM];
	int res = session_address(session, address);
	if (res == 0)
		session_connect(session, address);
	else
		session_never(session, res);
}

/* ---- the whole ---- */

int repl_new(struct env *env, struct store *store, const struct repl_options *options,
	     struct repl **ret_repl, char ret_sentence[SENTENCE_BYTES])
{
	struct repl *repl = calloc(1, sizeof(*repl));
	int res = repl ? 0 : -ENOMEM;
	if (res == 0 && options->listen)
		res = env_listen_tcp(env, options->listen, &repl->listener);
	if (res == 0) {
		repl->env = env;
		repl->store = store;
		res = heal_start(repl);
	}
	if (res == 0) {
		stream_start(repl);
		mandate_start(repl);
	}
	if (res == -ENOMEM)
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "There is no memory for connections to peers.");
	else if (res < 0)
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "Peers cannot be listened for on '%.80s' (%s): give --listen an "
			 "ADDRESS:PORT "
			 "of this host, in numbers, that is free.",
			 options->listen ? options->listen : "", vs_strerror(res));
	if (res < 0) {
		tls_context_free(options->tls);
		if (repl)
			env_listener_close(repl->listener);
		free(repl);
		return res;
	}
	repl->tls = options->tls;
	repl->plain_peer = options->plain_peer;
	if (options->plain_host)
		snprintf(repl->plain_host, sizeof repl->plain_host, "%s", options->plain_host);
	store_set_host(store, repl->tls		  ? tls_context_identity(repl->tls)->host
			      : options->own_host ? options->own_host
						  : "");
	if (repl->listener)
		accept_start(repl);
	*ret_repl = repl;
	return 0;
}

void repl_set_tls(struct repl *repl, struct tls_context *tls)
{
	tls_context_free(repl->tls);
	repl->tls = tls;
	repl->tls_number++;
	for (struct session *session = repl->sessions; session; session = session->next)
		if (session->channel)
			channel_recheck(session->channel, tls);
}

void repl_stop(struct repl *repl, struct io_op *op)
{
	repl->stopping = true;
	repl->stop_op = op;
	heal_stop(repl);
	stream_stop(repl);
	line_stop(repl);
	mandate_stop(repl);
	elect_stop(repl);
	env_timer_stop(repl->env, &repl->accept_timer);
	env_listener_close(repl->listener);
	repl->listener = NULL;
	for (struct session *session = repl->sessions; session; session = session->next) {
		session_end(session, -ESHUTDOWN, "This vstored is stopping.");
		receive_cancel(session);
	}
	stop_look(repl);
}

void repl_free(struct repl *repl)
{
	if (!repl)
		return;
	assert(!repl->sessions && !repl->senders && !repl->listener && !repl->question_count);
	tls_context_free(repl->tls);
	free(repl->downs);
	free(repl);
}

int repl_sessions(const struct repl *repl, struct repl_session_info **ret, size_t *ret_count)
{
	struct repl_session_info *infos = calloc(repl->session_count + 1ull, sizeof(*infos));
	size_t count = 0;
	if (!infos)
		return -ENOMEM;
	for (const struct session *session = repl->sessions; session; session = session->next) {
		struct repl_session_info *info = &infos[count];
		if (!session->host[0] || !session->channel)
			continue;
		memcpy(info->host, session->host, NAME_ROOM);
		memcpy(info->object, session->object, SNAP_NAME_ROOM);
		info->incoming = session->incoming;
		info->clock_ahead_ns = session->clock_ahead_ns;
		info->sent_bytes = channel_sent_bytes(session->channel);
		info->received_bytes = channel_received_bytes(session->channel);
		count++;
	}
	*ret = infos;
	*ret_count = count;
	return 0;
}

int repl_clocks(const struct repl *repl, struct repl_clock **ret, size_t *ret_count)
{
	*ret = malloc((repl->clock_count + 1ull) * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, repl->clocks, repl->clock_count * sizeof(**ret));
	*ret_count = repl->clock_count;
	return 0;
}

uint32_t repl_store_tag(const struct repl *repl, const char *host)
{
	unsigned at = clock_of(repl, host);
	return at < repl->clock_count ? repl->clocks[at].store_tag : 0;
}

void repl_counters(const struct repl *repl, struct repl_counters *ret)
{
	*ret = repl->counters;
	for (const struct session *session = repl->sessions; session; session = session->next)
		if (session->channel) {
			ret->sent_bytes += channel_sent_bytes(session->channel);
			ret->received_bytes += channel_received_bytes(session->channel);
		}
}
