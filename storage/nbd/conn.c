/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: its life, its receives and sends. What it says is handshake.c's and request.c's.
 *
 * Life: conn_new -> handshake -> attached (it has a view) -> DEAD -> freed. In DEAD the socket is
 * shut down, nothing more is parsed or sent, and the connection is freed by the step that finds no
 * receive, send, kick or store request under way: the view closes only then.
 *
 * Keeps true: at most one receive and one send are under way; conn->in is replaced or moved only
 * while no receive is; the requests of `sent` keep their data until the send has ended.
 */
#include "storage/nbd/conn.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CALM_RECEIVES                                                                              \
	32u /* that a small buffer would have held, before the big one is given back */

#define STEPS_MAX 16u /* of a connection in one pass */

static void conn_run(struct conn *conn);

static const char *conn_state_text(enum conn_state state)
{
	static const char *const texts[] = {
#define X(name, text) [CONN_##name] = (text),
		CONN_STATES(X)
#undef X
	};
	return texts[state];
}

/* ---- the receive buffer ---- */

/* Puts the unused bytes into another buffer, or to the front of this one. */
static void in_move(struct conn *conn, uint8_t *to, uint32_t room, bool big)
{
	struct in_buffer *in = &conn->in;
	uint32_t left = in_left(conn);
	memmove(to, in->at + in->start, left);
	if (to != in->at && in->big)
		pool_big_free(&conn->server->pool, in->at);
	else if (to != in->at)
		free(in->at);
	*in = (struct in_buffer){.at = to, .room = room, .end = left, .big = big};
}

/* Chooses the buffer that the next receive wants, and makes room there for in_need bytes. False:
 * there is none. No receive may be armed. */
static bool in_prepare(struct conn *conn)
{
	struct in_buffer *in = &conn->in;
	if (in->start == in->end)
		in->start = in->end = 0;
	if (!in->big && (conn->in_want_big || conn->in_need > in->room)) {
		uint8_t *big = pool_big(&conn->server->pool, IN_BIG_BYTES);
		if (big)
			in_move(conn, big, IN_BIG_BYTES, true);
	} else if (in->big && !conn->in_want_big && conn->in_need <= IN_SMALL_BYTES &&
		   in_left(conn) < IN_SMALL_BYTES) {
		uint8_t *small = malloc(IN_SMALL_BYTES);
		if (small)
			in_move(conn, small, IN_SMALL_BYTES, false);
	}
	if (in->room - in->start < conn->in_need || in->room - in->end < in->room / 4)
		in_move(conn, in->at, in->room, in->big);
	return conn->in_need <= in->room && in->end < in->room;
}

/* A buffer that is filled is too small; one that stays nearly empty is too big. */
static void in_adapt(struct conn *conn, uint32_t got)
{
	if (got == conn->recv_bytes) {
		conn->in_want_big = true;
		conn->in_calm = 0;
	} else if (got >= IN_SMALL_BYTES / 2) {
		conn->in_calm = 0;
	} else if (++conn->in_calm >= CALM_RECEIVES) {
		conn->in_want_big = false;
		conn->in_calm = 0;
	}
}

bool conn_has(struct conn *conn, uint32_t bytes)
{
	if (in_left(conn) >= bytes)
		return true;
	conn->in_need = bytes;
	return false;
}

/* ---- receiving and sending ---- */

static void recv_done(struct io_op *op)
{
	struct conn *conn = container_of(op, struct conn, recv_op);
	conn->receiving = false;
	if (conn->state == CONN_DEAD) {
		conn_run(conn);
		return;
	}
	if (op->res == -ECANCELED && conn->recv_cancelled) {
		conn_run(conn);
		return;
	}
	if (op->res <= 0) {
		conn_die(conn, false, op->res == 0 ? "the client closed" : "a receive failed");
		conn_run(conn);
		return;
	}
	uint32_t got = (uint32_t)op->res;
	if (conn->recv_direct) {
		conn->partial_left -= got;
	} else {
		conn->in.end += got;
		in_adapt(conn, got);
	}
	fence_received(conn, got);
	conn_run(conn);
}

static void recv_arm(struct conn *conn)
{
	void *to;
	conn->recv_direct = conn->state == CONN_PAYLOAD;
	if (conn->recv_direct) {
		struct conn_request *request = conn->partial;
		conn->recv_bytes = conn->partial_left;
		to = (uint8_t *)request->data + request->length_bytes - conn->partial_left;
	} else {
		if (!in_prepare(conn)) {
			conn_die(conn, false, "there is no memory for what it sends");
			conn_kick(conn);
			return;
		}
		conn->recv_bytes = conn->in.room - conn->in.end;
		to = conn->in.at + conn->in.end;
	}
	conn->receiving = true;
	conn->recv_number++;
	conn->recv_op.done = recv_done;
	env_sock_recv(conn->sock, &conn->recv_op, to, conn->recv_bytes);
	if (conn->suspicion != TRUSTED)
		fence_watch(conn);
}

static void send_done(struct io_op *op)
{
	struct conn *conn = container_of(op, struct conn, send_op);
	struct conn_request *request;
	conn->sending = false;
	while ((request = request_list_take(&conn->sent)))
		request_free(request);
	if (op->res < 0 && conn->state != CONN_DEAD)
		conn_die(conn, false, "the client went away");
	else if (conn->state == CONN_ANSWER)
		conn->state = conn->after_answer;
	conn_run(conn);
}

static void send_start(struct conn *conn, uint32_t iov_count)
{
	conn->sending = true;
	conn->send_number++;
	conn->send_op.done = send_done;
	env_sock_send(conn->sock, &conn->send_op, conn->iov, iov_count);
	if (conn->suspicion != TRUSTED)
		fence_watch(conn);
}

/* Headers that follow each other without data between them share one iovec. */
static uint32_t send_gather(struct conn *conn)
{
	struct conn_request *request;
	uint8_t *header = conn->headers;
	uint32_t count = 0;
	bool extend = false;
	while ((request = request_list_take(&conn->ready))) {
		uint32_t bytes = request_answer(request, header);
		if (extend)
			conn->iov[count - 1].iov_len += bytes;
		else
			conn->iov[count++] = (struct iovec){header, bytes};
		header += bytes;
		extend = request->answer_bytes == 0;
		if (!extend)
			conn->iov[count++] = (struct iovec){request->data, request->answer_bytes};
		request_list_add(&conn->sent, request);
	}
	return count;
}

void conn_send(struct conn *conn)
{
	if (conn->sending || conn->state == CONN_DEAD)
		return;
	if (conn->out_bytes > 0) {
		conn->iov[0] = (struct iovec){conn->out, conn->out_bytes};
		conn->out_bytes = 0;
		send_start(conn, 1);
	} else if (conn->ready.head && store_view_outdated(conn->view)) {
		conn_die(conn, true, "another host was the primary of its volume meanwhile");
		conn_kick(conn);
	} else if (conn->ready.head && !store_view_answers(conn->view)) {
		server_conn_held(conn);
	} else if (conn->ready.head) {
		conn->held = false;
		send_start(conn, send_gather(conn));
	}
}

/* ---- stepping ---- */

static enum step dead_step(struct conn *conn)
{
	bool still = conn->receiving || conn->sending || conn->kicked;
	return still || conn->store_pending > 0 ? STEP_BLOCKED : STEP_DONE;
}

static enum step conn_step(struct conn *conn)
{
	conn->in_need = 0;
	switch (conn->state) {
	case CONN_FLAGS:
	case CONN_OPTION:
		return handshake_step(conn);
	case CONN_ANSWER: /* send_done moves on */
		return STEP_BLOCKED;
	case CONN_FENCE:
		env_timer_stop(conn->server->env, &conn->handshake_timer);
		if (conn->server->parking)
			return park_step(conn);
		if (fence_holds(conn)) {
			if (in_left(conn) < conn->in.room) /* to see it vanish meanwhile */
				conn->in_need = in_left(conn) + 1;
			return STEP_BLOCKED;
		}
		conn->state = CONN_REQUEST;
		return STEP_MORE;
	case CONN_REQUEST:
		return conn->server->parking ? park_step(conn) : request_step(conn);
	case CONN_PAYLOAD:
	case CONN_DISCARD:
		return request_step(conn);
	case CONN_LEAVE:
		if ((conn->in_flight > 0 && !conn->held) || conn->sending)
			return STEP_BLOCKED;
		conn_die(conn, false, "the client said goodbye");
		return STEP_MORE;
	case CONN_DEAD:
		return dead_step(conn);
	}
	__builtin_unreachable();
}

static void conn_free(struct conn *conn)
{
	struct conn_request *request;
	while ((request = request_list_take(&conn->ready)))
		request_free(request);
	if (conn->partial)
		request_free(conn->partial);
	if (conn->view) {
		log_event(LOG_LEVEL_INFO, "nbd.detached", "export=%s socket=%s reason=\"%s\"",
			  conn->name, conn->export->path, conn->end_reason);
		store_view_close(conn->view);
	}
	if (conn->in.big)
		pool_big_free(&conn->server->pool, conn->in.at);
	else
		free(conn->in.at);
	free(conn->out);
	env_sock_close(conn->sock);
	server_conn_gone(conn);
	free(conn);
}

/* Steps while it can, then receives and sends what that led to. Frees the connection at its end.
 * A long input is taken in parts, so that its first answers leave, and the client goes on, while
 * the rest is worked on; and so that other connections get their turn. */
static void conn_run(struct conn *conn)
{
	enum step step;
	unsigned steps = 0;
	while ((step = conn_step(conn)) == STEP_MORE && ++steps < STEPS_MAX)
		;
	if (step == STEP_MORE) {
		conn_kick(conn);
		conn_send(conn);
		return;
	}
	if (step == STEP_DONE) {
		conn_free(conn);
		return;
	}
	if (conn->in_need > 0 && !conn->receiving)
		recv_arm(conn);
	conn_send(conn);
}

static void kick_done(struct io_op *op)
{
	struct conn *conn = container_of(op, struct conn, kick_op);
	conn->kicked = false;
	conn_run(conn);
}

void conn_kick(struct conn *conn)
{
	if (conn->kicked)
		return;
	conn->kicked = true;
	conn->kick_op.done = kick_done;
	env_complete(conn->server->env, &conn->kick_op, 0);
}

void conn_die(struct conn *conn, bool at_fault, const char *reason)
{
	if (conn->state == CONN_DEAD)
		return;
	if (at_fault) {
		conn->server->counters.connections_dropped++;
		log_event(LOG_LEVEL_WARNING, "nbd.dropped",
			  "socket=%s export=%s reason=\"%s\" waited_for=\"%s\"", conn->export->path,
			  conn->view ? conn->name : "-", reason, conn_state_text(conn->state));
	}
	conn->state = CONN_DEAD;
	conn->end_reason = reason;
	env_timer_stop(conn->server->env, &conn->handshake_timer);
	env_timer_stop(conn->server->env, &conn->watch_timer);
	env_sock_shutdown(conn->sock);
	request_forget(conn);
	limit_forget(conn);
	if (conn->store_pending == 0)
		fence_store_idle(conn);
}

static void handshake_late(struct env_timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, handshake_timer);
	conn_die(conn, true, "it did not end its handshake in time");
	conn_run(conn);
}

struct conn *conn_blank(struct export *export, struct env_sock *sock)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	uint8_t *in = malloc(IN_SMALL_BYTES);
	if (!conn || !in) {
		free(conn);
		free(in);
		return NULL;
	}
	conn->server = export->server;
	conn->export = export;
	conn->sock = sock;
	conn->in = (struct in_buffer){.at = in, .room = IN_SMALL_BYTES};
	request_list_init(&conn->ready);
	request_list_init(&conn->sent);
	conn->handshake_timer.fire = handshake_late;
	return conn;
}

int conn_new(struct export *export, struct env_sock *sock)
{
	struct nbd_server *server = export->server;
	struct conn *conn = conn_blank(export, sock);
	if (!conn)
		return -ENOMEM;
	if (handshake_greet(conn) < 0) {
		free(conn->in.at);
		free(conn);
		return -ENOMEM;
	}
	server_conn_added(conn);
	env_timer_start(server->env, &conn->handshake_timer, server->options.handshake_ns);
	conn_run(conn);
	return 0;
}
