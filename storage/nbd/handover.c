/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handing over: one process parks its connections between two requests and gives their sockets
 * away, another goes on with them, and clients see nothing but a pause.
 *
 * Keeps true: a connection is parked only when nothing of it is under way: each request that was
 * taken has its answer sent, and what was received beyond goes along, byte for byte. It is adopted
 * only when its volume, lease, size and rights are what its client was told; older ones are adopted
 * before newer ones, and each passes the fence (fence.c) as if it had just attached. What fails any
 * of this is closed, and its client connects again.
 */
#include "storage/nbd/conn.h"

#include "storage/rt/log_event.h"
#include "storage/store/store_follow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PARK_NS NSEC_PER_SEC

/* ---- parking ---- */

static struct nbd_heir *heir_new(struct nbd_server *server, const char *path)
{
	if (server->heir_count == server->heir_room) {
		size_t room = 2 * server->heir_room + 16;
		struct nbd_heir *heirs = realloc(server->heirs, room * sizeof(*heirs));
		if (!heirs)
			return NULL;
		server->heirs = heirs;
		server->heir_room = room;
	}
	struct nbd_heir *heir = &server->heirs[server->heir_count++];
	*heir = (struct nbd_heir){.fd = -1};
	memcpy(heir->path, path, strlen(path) + 1);
	return heir;
}

static bool heir_of(struct conn *conn)
{
	uint32_t bytes = in_left(conn);
	uint8_t *input = malloc(bytes + 1);
	struct nbd_heir *heir = input ? heir_new(conn->server, conn->export->path) : NULL;
	if (!heir) {
		free(input);
		return false;
	}
	memcpy(input, in_at(conn), bytes);
	memcpy(heir->name, conn->name, sizeof heir->name);
	memcpy(heir->volume_uuid, store_view_uuid(conn->view), sizeof heir->volume_uuid);
	heir->generation = conn->export->generation;
	heir->size_bytes = store_view_bytes(conn->view);
	heir->since_wall_ns = conn->since_wall_ns;
	heir->order = conn->park_order;
	heir->read_only = conn->read_only;
	heir->structured = conn->structured;
	heir->meta_allocation = conn->meta_allocation;
	heir->input = input;
	heir->input_bytes = bytes;
	heir->fd = env_sock_release(conn->sock);
	conn->sock = NULL;
	return true;
}

enum step park_step(struct conn *conn)
{
	request_forget(conn);
	limit_forget(conn);
	if (conn->receiving && !conn->recv_cancelled) {
		conn->recv_cancelled = true;
		env_recv_cancel(conn->sock, &conn->recv_op);
	}
	if (conn->receiving || conn->sending || conn->kicked || conn->in_flight > 0)
		return STEP_BLOCKED;
	if (!heir_of(conn)) {
		conn_die(conn, false, "there is no memory to hand it over");
		return STEP_MORE;
	}
	env_timer_stop(conn->server->env, &conn->watch_timer);
	conn->end_reason = "the next process goes on with it";
	return STEP_DONE;
}

static void park_late(struct env_timer *timer)
{
	struct nbd_server *server = container_of(timer, struct nbd_server, park_timer);
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		conn_die(conn, false, "what it had under way did not end in time");
		conn_kick(conn);
	}
	store_followers_stop(server->store); /* a flush may wait for a host that is away */
}

void nbd_server_park(struct nbd_server *server, struct io_op *op)
{
	struct export *next;
	uint32_t order = 0;
	server->stop_op = op;
	server->parking = true;
	server->park_timer.fire = park_late;
	env_timer_start(server->env, &server->park_timer, PARK_NS);
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		conn->park_order = order++;
		if (!conn->view)
			conn_die(conn, false, "the server restarts");
		conn_kick(conn);
	}
	for (struct export *export = server->exports; export; export = next) {
		next = export->next;
		if (export->closed)
			continue;
		struct nbd_heir *heir = heir_new(server, export->path);
		if (heir) {
			heir->listening = true;
			heir->fd = env_listener_release(export->listener);
			if (heir->fd < 0) /* the next process listens anew */
				server->heir_count--;
		} else {
			env_listener_close(export->listener);
		}
		export_retire(export);
	}
	server_check_stopped(server);
}

/* Sockets first, then connections, the oldest first. */
static int heir_compare(const void *a, const void *b)
{
	const struct nbd_heir *x = a, *y = b;
	if (x->listening != y->listening)
		return y->listening - x->listening;
	return x->order < y->order ? 1 : x->order > y->order ? -1 : 0;
}

void nbd_server_heirs(struct nbd_server *server, struct nbd_heir **ret, size_t *ret_count)
{
	if (server->heir_count > 0)
		qsort(server->heirs, server->heir_count, sizeof(*server->heirs), heir_compare);
	*ret = server->heirs;
	*ret_count = server->heir_count;
	server->heirs = NULL;
	server->heir_count = server->heir_room = 0;
}

/* ---- adopting ---- */

void nbd_server_inherit(struct nbd_server *server, struct nbd_heir *heirs, size_t count)
{
	server->heirs = heirs;
	server->heir_count = count;
}

int heir_listener(struct nbd_server *server, const char *path, struct env_listener **ret_listener)
{
	for (size_t i = 0; i < server->heir_count; i++) {
		struct nbd_heir *heir = &server->heirs[i];
		if (!heir->listening || heir->fd < 0 || strcmp(heir->path, path) != 0)
			continue;
		int res = env_listener_adopt(server->env, heir->fd, path, ret_listener);
		if (res == 0)
			heir->fd = -1;
		return res;
	}
	return -ENOENT;
}

/* NULL, or what keeps it from going on. */
static const char *heir_judge(const struct nbd_heir *heir, const struct view *view)
{
	if (memcmp(store_view_uuid(view), heir->volume_uuid, sizeof heir->volume_uuid) != 0)
		return "its volume is another one";
	if (store_view_bytes(view) != heir->size_bytes)
		return "its volume has another size";
	if (store_view_read_only(view) != heir->read_only)
		return "its rights have changed";
	return NULL;
}

static bool input_put(struct conn *conn, const struct nbd_heir *heir)
{
	struct in_buffer *in = &conn->in;
	if (heir->input_bytes > in->room) {
		uint8_t *big = pool_big(&conn->server->pool, IN_BIG_BYTES);
		if (!big)
			return false;
		free(in->at);
		*in = (struct in_buffer){.at = big, .room = IN_BIG_BYTES, .big = true};
		conn->in_want_big = true;
	}
	memcpy(in->at, heir->input, heir->input_bytes);
	in->end = heir->input_bytes;
	return true;
}

static const char *conn_adopt(struct export *export, struct nbd_heir *heir)
{
	struct nbd_server *server = export->server;
	struct view *view;
	struct env_sock *sock = NULL;
	if (heir->generation != export->generation)
		return "its lease is another one";
	int res = store_view_open_leased(server->store, heir->name, export->generation, &view);
	if (res < 0)
		return vs_strerror(res);
	const char *why = heir_judge(heir, view);
	if (!why &&
	    (heir->input_bytes > IN_BIG_BYTES || env_sock_adopt(server->env, heir->fd, &sock) < 0))
		why = "there is no memory";
	if (why) {
		store_view_close(view);
		return why;
	}
	heir->fd = -1;
	struct conn *conn = conn_blank(export, sock);
	if (!conn || !input_put(conn, heir)) {
		if (conn)
			free(conn->in.at);
		free(conn);
		env_sock_close(sock);
		store_view_close(view);
		return "there is no memory";
	}
	conn->view = view;
	conn->read_only = heir->read_only;
	conn->structured = heir->structured;
	conn->meta_allocation = heir->meta_allocation;
	conn->since_wall_ns = heir->since_wall_ns;
	memcpy(conn->name, heir->name, sizeof conn->name);
	conn->state = CONN_FENCE;
	server_conn_added(conn);
	fence_enter(conn);
	limit_attach(conn);
	conn_kick(conn);
	return NULL;
}

size_t nbd_server_adopt(struct nbd_server *server)
{
	size_t count = 0;
	for (size_t i = 0; i < server->heir_count; i++) {
		struct nbd_heir *heir = &server->heirs[i];
		if (heir->listening)
			continue;
		struct export *export = export_find(server, heir->path);
		const char *why = export ? conn_adopt(export, heir) : "its socket is gone";
		if (why)
			log_event(LOG_LEVEL_WARNING, "nbd.not_adopted",
				  "export=%s socket=%s reason=\"%s\" action=\"its client connects "
				  "again\"",
				  heir->name, heir->path, why);
		count += !why;
	}
	server->heirs = NULL;
	server->heir_count = 0;
	return count;
}
