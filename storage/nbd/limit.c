/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Limits of volumes: requests and bytes a second, for all connections of a volume together.
 *
 * Keeps true: a connection whose next request exceeds a limit waits in its limit's list and parses
 * nothing; the first of the list goes first, and whoever went stands at the end again. One timer a
 * volume runs, and only while somebody waits: a request that is within the limits costs two
 * comparisons, one of a volume without limits a look at a pointer.
 */
#include "storage/nbd/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct limit {
	struct nbd_server *server;
	struct limit *next;
	char volume[NAME_ROOM];
	struct rate requests, bytes;
	struct conn *waiting, **waiting_tail;
	struct env_timer timer;
	uint64_t throttled, waited_ns;
};

static struct limit *limit_find(const struct nbd_server *server, const char *volume)
{
	struct limit *limit = server->limits;
	while (limit && strcmp(limit->volume, volume) != 0)
		limit = limit->next;
	return limit;
}

void limit_attach(struct conn *conn)
{
	conn->limit = limit_find(conn->server, conn->name);
}

/* ---- waiting ---- */

static void limit_fire(struct env_timer *timer)
{
	struct limit *limit = container_of(timer, struct limit, timer);
	if (limit->waiting)
		conn_kick(limit->waiting);
}

static void waiting_add(struct limit *limit, struct conn *conn, uint64_t now_ns)
{
	if (conn->waits_for_limit)
		return;
	conn->waits_for_limit = true;
	conn->limit_since_ns = now_ns;
	conn->limit_next = NULL;
	*limit->waiting_tail = conn;
	limit->waiting_tail = &conn->limit_next;
	limit->throttled++;
}

void limit_forget(struct conn *conn)
{
	struct limit *limit = conn->limit;
	if (!conn->waits_for_limit)
		return;
	struct conn **at = &limit->waiting;
	while (*at != conn)
		at = &(*at)->limit_next;
	*at = conn->limit_next;
	if (!conn->limit_next)
		limit->waiting_tail = at;
	conn->waits_for_limit = false;
	limit->waited_ns += env_now_ns(conn->server->env) - conn->limit_since_ns;
	if (limit->waiting)
		conn_kick(limit->waiting);
}

bool limit_open(struct conn *conn)
{
	struct limit *limit = conn->limit;
	uint64_t now_ns = env_now_ns(conn->server->env);
	uint64_t wait_ns = max_u64(rate_wait_ns(&limit->requests, now_ns),
				   rate_wait_ns(&limit->bytes, now_ns));
	bool first = !limit->waiting || limit->waiting == conn;
	if (wait_ns == 0 && first)
		return true;
	waiting_add(limit, conn, now_ns);
	if (wait_ns > 0 && !limit->timer.heap_index)
		env_timer_start(conn->server->env, &limit->timer, wait_ns);
	return false;
}

void limit_charge(struct conn *conn, uint32_t bytes)
{
	struct limit *limit = conn->limit;
	uint64_t now_ns = env_now_ns(conn->server->env);
	rate_charge(&limit->requests, now_ns, 1);
	rate_charge(&limit->bytes, now_ns, bytes);
	limit_forget(conn);
}

/* ---- changes ---- */

static void limit_connect(struct nbd_server *server, const char *volume, struct limit *limit)
{
	for (struct conn *conn = server->conns; conn; conn = conn->next) {
		if (!conn->view || strcmp(conn->name, volume) != 0)
			continue;
		bool waits = conn->waits_for_limit;
		limit_forget(conn);
		conn->limit = limit;
		if (waits)
			conn_kick(conn);
	}
}

static void limit_remove(struct limit *limit)
{
	struct limit **at = &limit->server->limits;
	limit_connect(limit->server, limit->volume, NULL);
	env_timer_stop(limit->server->env, &limit->timer);
	while (*at != limit)
		at = &(*at)->next;
	*at = limit->next;
	free(limit);
}

/* A saved burst that was used up stays so, but what was owed by the old rate is forgotten: it may
 * be years by the new one. */
static void rate_set(struct rate *rate, uint64_t now_ns, uint64_t a_second, uint64_t burst_ns)
{
	rate->a_second = a_second;
	rate->burst_ns = burst_ns;
	rate->due_ns = min_u64(rate->due_ns, now_ns + burst_ns);
}

int nbd_server_limit(struct nbd_server *server, const char *volume,
		     const struct volume_limits *limits)
{
	struct limit *limit = limit_find(server, volume);
	uint64_t burst_ns = (limits->burst_s ? limits->burst_s : 1) * NSEC_PER_SEC;
	if (!limits->iops && !limits->bytes_per_s) {
		if (limit)
			limit_remove(limit);
		return 0;
	}
	if (limit && limit->requests.a_second == limits->iops &&
	    limit->bytes.a_second == limits->bytes_per_s && limit->requests.burst_ns == burst_ns)
		return 0;
	if (!limit) {
		limit = calloc(1, sizeof(*limit));
		if (!limit)
			return -ENOMEM;
		limit->server = server;
		strncpy(limit->volume, volume, sizeof limit->volume - 1);
		limit->timer.fire = limit_fire;
		limit->waiting_tail = &limit->waiting;
		limit->next = server->limits;
		server->limits = limit;
	}
	uint64_t now_ns = env_now_ns(server->env);
	rate_set(&limit->requests, now_ns, limits->iops, burst_ns);
	rate_set(&limit->bytes, now_ns, limits->bytes_per_s, burst_ns);
	env_timer_stop(server->env, &limit->timer);
	limit_connect(server, volume, limit);
	return 0;
}

void limits_rename(struct nbd_server *server, const char *from, const char *to)
{
	struct limit *limit = limit_find(server, from);
	if (limit)
		memcpy(limit->volume, to, strlen(to) + 1);
}

void limits_free(struct nbd_server *server)
{
	while (server->limits)
		limit_remove(server->limits);
}

int nbd_server_throttled(const struct nbd_server *server, struct nbd_throttled **ret,
			 size_t *ret_count)
{
	size_t count = 0;
	for (const struct limit *limit = server->limits; limit; limit = limit->next)
		count++;
	struct nbd_throttled *list = calloc(count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*ret = list;
	*ret_count = count;
	for (const struct limit *limit = server->limits; limit; limit = limit->next, list++) {
		memcpy(list->volume, limit->volume, sizeof list->volume);
		list->requests = limit->throttled;
		list->waited_ns = limit->waited_ns;
		for (const struct conn *conn = limit->waiting; conn; conn = conn->limit_next) {
			list->waiting++;
			list->waited_ns += env_now_ns(server->env) - conn->limit_since_ns;
		}
	}
	return 0;
}
