/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: a client that reconnects must not be overtaken by what its old connection still has
 * under way, or a write that it sent again could be undone by its older self.
 *
 * Keeps true: the first request of a read-write connection is parsed only when no older connection
 * to the same volume
 *  - is at its end with requests in the store, nor
 *  - may be at its end without our knowing: while we do not receive (back-pressure), requests and
 *    the end of the stream lie unread in the socket.
 * So each older one is suspected until, after the newcomer has attached, one of these tells that
 * its client still holds it: a receive drained the socket and then more came; a receive or a send
 * stayed pending for some passes, which the end of the stream would have ended; or more came than a
 * socket can hold. A client with several connections is not slowed down: idle ones prove
 * themselves in three passes.
 */
#include "storage/nbd/conn.h"

#include <string.h>

#define SOCKET_BYTES_MAX (16 * MIB) /* more than any socket of ours holds unread */
#define WATCH_PASSES 3u

static bool fence_same_volume(const struct conn *a, const struct conn *b)
{
	return a != b && a->view && b->view && !a->read_only && !b->read_only &&
	       strcmp(a->name, b->name) == 0;
}

static bool fence_ended(const struct conn *conn)
{
	return conn->state == CONN_DEAD || conn->state == CONN_LEAVE;
}

/* server->conns has the newest first: those behind a connection are older. */
bool fence_holds(const struct conn *conn)
{
	for (const struct conn *old = conn->next; old; old = old->next) {
		if (!fence_same_volume(conn, old))
			continue;
		if (fence_ended(old) ? old->store_pending > 0 : old->suspicion != TRUSTED)
			return true;
	}
	return false;
}

static void fence_open(const struct conn *old)
{
	for (struct conn *conn = old->server->conns; conn && conn != old; conn = conn->next)
		if (conn->state == CONN_FENCE && fence_same_volume(conn, old))
			conn_kick(conn);
}

static void fence_trust(struct conn *old)
{
	old->suspicion = TRUSTED;
	fence_open(old);
}

void fence_enter(struct conn *conn)
{
	for (struct conn *old = conn->next; old; old = old->next) {
		if (!fence_same_volume(conn, old) || fence_ended(old))
			continue;
		old->suspicion = SUSPECT;
		old->suspect_bytes = 0;
		fence_watch(old);
	}
}

void fence_store_idle(struct conn *conn)
{
	if (fence_ended(conn) && conn->view)
		fence_open(conn);
}

void fence_received(struct conn *conn, uint32_t bytes)
{
	if (conn->suspicion == TRUSTED)
		return;
	conn->suspect_bytes += bytes;
	if (conn->suspicion == DRAINED || conn->suspect_bytes > SOCKET_BYTES_MAX)
		fence_trust(conn);
	else if (bytes < conn->recv_bytes)
		conn->suspicion = DRAINED; /* for the next receive, which starts from here */
}

static void watch_fire(struct env_timer *timer)
{
	struct conn *conn = container_of(timer, struct conn, watch_timer);
	bool receive_pends = conn->receiving && conn->recv_number == conn->watch_recv;
	bool send_pends = conn->sending && conn->send_number == conn->watch_send;
	if (conn->suspicion == TRUSTED)
		return;
	if (!receive_pends && !send_pends)
		fence_watch(conn); /* what is pending now, if anything */
	else if (--conn->watch_passes > 0)
		env_timer_start(conn->server->env, timer, 1);
	else
		fence_trust(conn);
}

/* A timer of 1 ns fires in the next pass of the loop, after that pass has harvested. */
void fence_watch(struct conn *conn)
{
	if (conn->watch_timer.heap_index || (!conn->receiving && !conn->sending))
		return;
	conn->watch_recv = conn->recv_number;
	conn->watch_send = conn->send_number;
	conn->watch_passes = WATCH_PASSES;
	conn->watch_timer.fire = watch_fire;
	env_timer_start(conn->server->env, &conn->watch_timer, 1);
}
