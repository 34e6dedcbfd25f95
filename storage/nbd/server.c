/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server: exports, accepting, the cap on connections, stopping.
 *
 * Life of an export: listening -> closed (its socket is gone) -> freed, when its accept has ended
 * and its last connection is gone. Life of the server: nbd_server_stop closes all exports and drops
 * all connections; its op ends with the last of both.
 */
#include "storage/nbd/conn.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS_DEFAULT 1024u
#define BUFFER_BYTES_DEFAULT (256 * MIB)
#define HANDSHAKE_NS_DEFAULT (10 * NSEC_PER_SEC)
#define ACCEPT_RETRY_NS (100 * NSEC_PER_MSEC)

/* ---- exports ---- */

void server_check_stopped(struct nbd_server *server)
{
	if (!server->stop_op || server->exports || server->conns)
		return;
	env_timer_stop(server->env, &server->park_timer);
	env_complete(server->env, server->stop_op, 0);
	server->stop_op = NULL;
}

static void export_check_free(struct export *export)
{
	struct nbd_server *server = export->server;
	struct export **at = &server->exports;
	if (!export->closed || export->accepting || export->conn_count > 0)
		return;
	while (*at != export)
		at = &(*at)->next;
	*at = export->next;
	if (export->cut_op)
		env_complete(server->env, export->cut_op, 0);
	free(export);
	server_check_stopped(server);
}

static void export_accept(struct export *export);

static void accept_retry(struct env_timer *timer)
{
	export_accept(container_of(timer, struct export, retry_timer));
}

/* A client has connected: takes it in, or closes it at once. */
static void export_welcome(struct export *export, struct env_sock *sock)
{
	struct nbd_server *server = export->server;
	server->counters.connections_total++;
	if (server->counters.connections >= server->options.connection_count_max) {
		server->counters.connections_refused++;
		log_event(LOG_LEVEL_WARNING, "nbd.refused",
			  "socket=%s reason=\"%u connections are open, which is the most "
			  "allowed\" action=closed",
			  export->path, server->counters.connections);
		env_sock_close(sock);
		return;
	}
	if (conn_new(export, sock) < 0) {
		log_event(LOG_LEVEL_ERROR, "nbd.refused",
			  "socket=%s reason=\"there is no memory\" action=closed", export->path);
		env_sock_close(sock);
	}
}

static void accept_done(struct io_op *op)
{
	struct export *export = container_of(op, struct export, accept_op);
	export->accepting = false;
	if (export->closed) {
		if (op->res >= 0)
			env_sock_close(export->accepted);
		export_check_free(export);
		return;
	}
	if (op->res < 0) { /* no file descriptors, most likely: existing connections go on */
		log_event(LOG_LEVEL_ERROR, "nbd.accept",
			  "socket=%s error=\"%s\" action=\"try again soon\"", export->path,
			  vs_strerror((int)op->res));
		export->retry_timer.fire = accept_retry;
		env_timer_start(export->server->env, &export->retry_timer, ACCEPT_RETRY_NS);
		return;
	}
	export_welcome(export, export->accepted);
	export_accept(export);
}

static void export_accept(struct export *export)
{
	export->accepting = true;
	export->accept_op.done = accept_done;
	env_accept(export->listener, &export->accept_op, &export->accepted);
}

struct export *export_find(const struct nbd_server *server, const char *path)
{
	struct export *export = server->exports;
	while (export && (export->closed || strcmp(export->path, path) != 0))
		export = export->next;
	return export;
}

static int export_new(struct nbd_server *server, const char *path, const char *volume,
		      unsigned mode, int64_t group, uint64_t generation)
{
	assert(!server->stop_op);
	if (strlen(path) >= NBD_PATH_ROOM)
		return -ENAMETOOLONG;
	if (volume && !text_volume_ok(volume, strlen(volume)))
		return -EINVAL;
	if (export_find(server, path))
		return -EEXIST;
	struct export *export = calloc(1, sizeof(*export));
	if (!export)
		return -ENOMEM;
	int res = heir_listener(server, path, &export->listener);
	if (res == -ENOENT)
		res = env_listen_unix(server->env, path, mode, group, &export->listener);
	if (res < 0) {
		free(export);
		return res;
	}
	export->server = server;
	export->generation = generation;
	memcpy(export->path, path, strlen(path) + 1);
	if (volume)
		memcpy(export->volume, volume, strlen(volume) + 1);
	export->next = server->exports;
	server->exports = export;
	export_accept(export);
	return 0;
}

int nbd_server_export(struct nbd_server *server, const char *path, const char *volume,
		      unsigned mode, int64_t group)
{
	return export_new(server, path, volume, mode, group, 0);
}

int nbd_server_export_leased(struct nbd_server *server, const char *path, const char *volume,
			     unsigned mode, uint64_t generation)
{
	return export_new(server, path, volume, mode, -1, generation);
}

void export_retire(struct export *export)
{
	export->closed = true;
	export->listener = NULL;
	env_timer_stop(export->server->env, &export->retry_timer);
	export_check_free(export);
}

static void export_close(struct export *export)
{
	env_listener_close(export->listener); /* a pending accept ends, canceled */
	export_retire(export);
}

int nbd_server_unexport(struct nbd_server *server, const char *path)
{
	struct export *export = export_find(server, path);
	if (!export)
		return -ENOENT;
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (conn->export != export || conn->view)
			continue;
		conn_die(conn, false, "its socket was removed");
		conn_kick(conn);
	}
	export_close(export);
	return 0;
}

int nbd_server_drop(struct nbd_server *server, const char *path)
{
	const struct export *export = export_find(server, path);
	if (!export)
		return -ENOENT;
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (conn->export != export || conn->state == CONN_DEAD)
			continue;
		conn_die(conn, false, "its holder asked for it");
		conn_kick(conn);
	}
	return 0;
}

void nbd_server_drop_volume(struct nbd_server *server, const char *volume)
{
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (!conn->view || conn->state == CONN_DEAD || strcmp(conn->name, volume) != 0)
			continue;
		conn_die(conn, false, "another host is the primary of its volume");
		conn_kick(conn);
	}
}

void nbd_server_cut(struct nbd_server *server, const char *path, struct io_op *op)
{
	struct export *export = export_find(server, path);
	if (!export) {
		env_complete(server->env, op, -ENOENT);
		return;
	}
	export->cut_op = op;
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (conn->export != export)
			continue;
		if (conn->view)
			store_view_fence(conn->view);
		conn_die(conn, false, "its lease ended");
		conn_kick(conn);
	}
	export_close(export);
}

void nbd_server_rename(struct nbd_server *server, const char *from, const char *to)
{
	size_t from_bytes = strlen(from);
	assert(strlen(to) < NAME_ROOM);
	limits_rename(server, from, to);
	for (struct export *export = server->exports; export; export = export->next)
		if (strcmp(export->volume, from) == 0)
			memcpy(export->volume, to, strlen(to) + 1);
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		char rest[SNAP_NAME_ROOM];
		if (strncmp(conn->name, from, from_bytes) != 0 ||
		    (conn->name[from_bytes] != 0 && conn->name[from_bytes] != '@'))
			continue;
		memcpy(rest, conn->name + from_bytes, strlen(conn->name + from_bytes) + 1);
		memcpy(conn->name, to, strlen(to));
		memcpy(conn->name + strlen(to), rest, strlen(rest) + 1);
	}
}

/* ---- connections ---- */

void server_conn_added(struct conn *conn)
{
	struct nbd_server *server = conn->server;
	conn->next = server->conns;
	if (server->conns)
		server->conns->prev = conn;
	server->conns = conn;
	server->counters.connections++;
	conn->export->conn_count++;
}

void server_conn_gone(struct conn *conn)
{
	struct nbd_server *server = conn->server;
	if (conn->prev)
		conn->prev->next = conn->next;
	else
		server->conns = conn->next;
	if (conn->next)
		conn->next->prev = conn->prev;
	server->counters.connections--;
	conn->export->conn_count--;
	export_check_free(conn->export);
	server_check_stopped(server);
}

/* ---- answers that are held ---- */

#define HELD_LOOK_NS (10 * NSEC_PER_MSEC)

static void held_fire(struct env_timer *timer)
{
	struct nbd_server *server = container_of(timer, struct nbd_server, held_timer);
	bool any = false;
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (!conn->held)
			continue;
		any = true;
		if (conn->state == CONN_LEAVE || store_view_answers(conn->view))
			conn_kick(conn);
	}
	if (any)
		env_timer_start(server->env, timer, HELD_LOOK_NS);
}

void server_conn_held(struct conn *conn)
{
	struct nbd_server *server = conn->server;
	if (!conn->held)
		log_event(LOG_LEVEL_WARNING, "nbd.held",
			  "export=%s reason=\"a host that follows in step does not say that this "
			  "one is the primary\" effect=\"nothing is answered until it does\"",
			  conn->name);
	conn->held = true;
	server->held_timer.fire = held_fire;
	if (!server->held_timer.heap_index)
		env_timer_start(server->env, &server->held_timer, HELD_LOOK_NS);
}

/* ---- life ---- */

int nbd_server_new(struct env *env, struct store *store, const struct nbd_server_options *options,
		   struct nbd_server **ret_server)
{
	struct nbd_server *server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->env = env;
	server->store = store;
	if (options)
		server->options = *options;
	if (!server->options.connection_count_max)
		server->options.connection_count_max = CONNECTIONS_DEFAULT;
	if (!server->options.buffer_bytes_max)
		server->options.buffer_bytes_max = BUFFER_BYTES_DEFAULT;
	if (!server->options.handshake_ns)
		server->options.handshake_ns = HANDSHAKE_NS_DEFAULT;
	server->options.buffer_bytes_max =
		max_u64(server->options.buffer_bytes_max, REQUEST_BYTES_MAX);
	server->hungry_tail = &server->hungry;
	*ret_server = server;
	return 0;
}

void nbd_server_stop(struct nbd_server *server, struct io_op *op)
{
	struct export *next;
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		conn_die(conn, false, "the server stops");
		conn_kick(conn);
	}
	server->stop_op = op;
	for (struct export *export = server->exports; export; export = next) {
		next = export->next;
		if (!export->closed)
			export_close(export);
	}
	server_check_stopped(server);
}

void nbd_server_free(struct nbd_server *server)
{
	if (!server)
		return;
	assert(!server->conns && !server->exports);
	limits_free(server);
	env_timer_stop(server->env, &server->held_timer);
	pool_done(&server->pool);
	free(server);
}

void nbd_server_counters(const struct nbd_server *server, struct nbd_counters *ret_counters)
{
	*ret_counters = server->counters;
}

int nbd_server_attachments(const struct nbd_server *server, struct nbd_attachment **ret,
			   size_t *ret_count)
{
	size_t count = 0;
	struct nbd_attachment *list = calloc(server->counters.connections + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	for (const struct conn *conn = server->conns; conn; conn = conn->next) {
		struct nbd_attachment *one = &list[count];
		if (!conn->view)
			continue;
		count++;
		memcpy(one->name, conn->name, sizeof one->name);
		memcpy(one->path, conn->export->path, sizeof one->path);
		one->since_wall_ns = conn->since_wall_ns;
		one->read_only = conn->read_only;
		one->in_flight = conn->in_flight;
		one->requests = conn->requests;
		one->read_bytes = conn->read_bytes;
		one->write_bytes = conn->write_bytes;
		one->errors = conn->errors;
	}
	*ret = list;
	*ret_count = count;
	return 0;
}
