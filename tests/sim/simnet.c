/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of simnet.h. Two ends a connection; what is under way to an end is a list of packets,
 * in order; an end that its process has closed, or lost, is freed with the other one.
 */
#include "tests/sim/simnet.h"

#include "tests/sim/simenv_int.h"

#include <stdio.h>

#define WINDOW_BYTES (256u * 1024) /* sent and not received: then sending waits */
#define LISTENERS_MAX 8u

enum packet_kind { PACKET_DATA, PACKET_SYN, PACKET_ACCEPTED, PACKET_END, PACKET_RESET };

struct packet {
	struct packet *next;
	enum packet_kind kind;
	uint64_t due_ns;
	uint32_t bytes, at;
	bool held;
	uint8_t data[];
};

struct env_sock {
	struct env *env;
	struct simnet *net;
	unsigned host;
	struct env_sock *other;
	struct conn *conn;
	struct packet *coming, **coming_last; /* to this end */
	struct packet *here, **here_last;     /* arrived, not received */
	uint64_t queued_bytes;		      /* of both */
	bool shut, ended, reset, closed;
	struct io_op *connect_op, *recv_op, *send_op;
	void *recv_buf;
	uint32_t recv_bytes;
	const struct iovec *send_iov;
	uint32_t send_count;
};

struct conn {
	struct conn *next;
	struct env_sock ends[2];
	bool waits; /* to be accepted */
	struct env_listener *listener;
};

struct env_listener {
	struct env *env;
	struct simnet *net;
	unsigned host;
	struct io_op *op;
	struct env_sock **ret_sock;
	bool open;
};

struct simnet {
	unsigned host_count;
	struct sim *hosts[HOSTS_MAX];
	bool stopped[HOSTS_MAX], off[HOSTS_MAX], down[HOSTS_MAX][HOSTS_MAX];
	struct env_listener listeners[LISTENERS_MAX];
	struct conn *conns;
	uint64_t now_ns, trace;
	unsigned slow;
	struct simnet_counts counts;
};

static uint64_t net_random(struct simnet *net, uint64_t below)
{
	return sim_random(net->hosts[0], below);
}

static unsigned host_of(const struct simnet *net, const struct env *env)
{
	unsigned host = 0;
	while (&net->hosts[host]->env != env)
		host++;
	return host;
}

/* A moment later, on the loop of that end's process. */
static void op_end(struct env_sock *sock, struct io_op **op, int64_t res)
{
	struct io_op *ended = *op;
	if (!ended)
		return;
	*op = NULL;
	event_add(sim_of(sock->env), EVENT_COMPLETE, ended, 500 + net_random(sock->net, 20000))
		->res = res;
}

/* ---- packets ---- */

static uint64_t packet_delay(struct simnet *net)
{
	if (net->slow && net_random(net, 10000) < net->slow) {
		net->counts.delayed++;
		return net_random(net, NSEC_PER_SEC);
	}
	return 20000 + net_random(net, net_random(net, 8) ? 200000 : 3000000);
}

static void packet_send(struct env_sock *to, enum packet_kind kind, const void *data,
			uint32_t bytes)
{
	struct simnet *net = to->net;
	struct packet *packet = malloc(sizeof(*packet) + bytes);
	*packet = (struct packet){
		.kind = kind, .bytes = bytes, .due_ns = net->now_ns + packet_delay(net)};
	if (bytes)
		memcpy(packet->data, data, bytes);
	*to->coming_last = packet;
	to->coming_last = &packet->next;
	to->queued_bytes += bytes;
	net->counts.packets++;
	net->counts.packet_bytes += bytes;
}

static void packets_free(struct packet **list, struct packet ***last)
{
	while (*list) {
		struct packet *next = (*list)->next;
		free(*list);
		*list = next;
	}
	*last = list;
}

static void sock_make(struct conn *conn, unsigned i, struct simnet *net, unsigned host)
{
	struct env_sock *sock = &conn->ends[i];
	sock->env = &net->hosts[host]->env;
	sock->net = net;
	sock->host = host;
	sock->conn = conn;
	sock->other = &conn->ends[!i];
	sock->coming_last = &sock->coming;
	sock->here_last = &sock->here;
}

static void conn_look(struct conn *conn)
{
	if (!conn->ends[0].closed || !conn->ends[1].closed)
		return;
	struct conn **at = &conn->ends[0].net->conns;
	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
	for (unsigned i = 0; i < 2; i++) {
		packets_free(&conn->ends[i].coming, &conn->ends[i].coming_last);
		packets_free(&conn->ends[i].here, &conn->ends[i].here_last);
	}
	free(conn);
}

/* ---- what a process does ---- */

static void send_look(struct env_sock *sock)
{
	struct env_sock *to = sock->other;
	if (!sock->send_op)
		return;
	if (sock->shut || sock->reset) {
		op_end(sock, &sock->send_op, -ECONNRESET);
		return;
	}
	if (to->queued_bytes >= WINDOW_BYTES)
		return;
	for (uint32_t i = 0; i < sock->send_count; i++)
		for (size_t at = 0; at < sock->send_iov[i].iov_len;) {
			size_t left = sock->send_iov[i].iov_len - at;
			size_t part =
				net_random(sock->net, 3) ? left : 1 + net_random(sock->net, left);
			part = min_u64(part, 65536);
			packet_send(to, PACKET_DATA,
				    (const uint8_t *)sock->send_iov[i].iov_base + at,
				    (uint32_t)part);
			at += part;
		}
	op_end(sock, &sock->send_op, 0);
}

static void recv_look(struct env_sock *sock)
{
	uint32_t got = 0;
	if (!sock->recv_op)
		return;
	if (sock->reset || sock->shut || (!sock->here && sock->ended)) {
		op_end(sock, &sock->recv_op, sock->reset ? -ECONNRESET : 0);
		return;
	}
	while (sock->here && got < sock->recv_bytes) {
		struct packet *packet = sock->here;
		uint32_t part =
			(uint32_t)min_u64(packet->bytes - packet->at, sock->recv_bytes - got);
		memcpy((uint8_t *)sock->recv_buf + got, packet->data + packet->at, part);
		got += part;
		packet->at += part;
		if (packet->at < packet->bytes)
			break;
		sock->here = packet->next;
		if (!sock->here)
			sock->here_last = &sock->here;
		free(packet);
	}
	if (!got)
		return;
	sock->queued_bytes -= got;
	op_end(sock, &sock->recv_op, got);
	send_look(sock->other);
}

static int net_listen(struct env *env, const char *address, struct env_listener **ret_listener)
{
	struct simnet *net = sim_of(env)->net;
	(void)address;
	for (unsigned i = 0; i < LISTENERS_MAX; i++) {
		struct env_listener *listener = &net->listeners[i];
		if (listener->open)
			continue;
		*listener = (struct env_listener){
			.env = env, .net = net, .host = host_of(net, env), .open = true};
		*ret_listener = listener;
		return 0;
	}
	return -EMFILE;
}

static void accept_look(struct env_listener *listener)
{
	struct conn *found = NULL;
	for (struct conn *conn = listener->net->conns; conn; conn = conn->next)
		if (conn->waits && conn->listener == listener)
			found = conn; /* the list has the newest first */
	if (!found || !listener->op)
		return;
	found->waits = false;
	*listener->ret_sock = &found->ends[1];
	op_end(&found->ends[1], &listener->op, 0);
}

static void net_accept(struct env_listener *listener, struct io_op *op, struct env_sock **ret_sock)
{
	listener->op = op;
	listener->ret_sock = ret_sock;
	accept_look(listener);
}

static void sock_end(struct env_sock *sock, enum packet_kind how)
{
	if (sock->closed)
		return;
	if (!sock->shut)
		packet_send(sock->other, how, NULL, 0);
	sock->shut = sock->closed = true;
	conn_look(sock->conn);
}

static void listener_gone(struct env_listener *listener)
{
	listener->open = false;
	for (struct conn *conn = listener->net->conns, *next; conn; conn = next) {
		next = conn->next;
		if (!conn->waits || conn->listener != listener)
			continue;
		conn->waits = false; /* whoever listens next has the same place */
		sock_end(&conn->ends[1], PACKET_RESET);
	}
}

static void net_listener_close(struct env_listener *listener)
{
	if (listener->op)
		event_add(sim_of(listener->env), EVENT_COMPLETE, listener->op, 1000)->res =
			-ECANCELED;
	listener->op = NULL;
	listener_gone(listener);
}

static int net_connect(struct env *env, const char *address, struct io_op *op,
		       struct env_sock **ret_sock)
{
	struct simnet *net = sim_of(env)->net;
	unsigned number;
	if (sscanf(address, "10.0.0.%u:", &number) != 1 || number < 1 || number > net->host_count)
		return -EINVAL;
	struct conn *conn = calloc(1, sizeof(*conn));
	sock_make(conn, 0, net, host_of(net, env));
	sock_make(conn, 1, net, number - 1);
	conn->next = net->conns;
	net->conns = conn;
	conn->ends[0].connect_op = op;
	conn->ends[1].closed = true; /* nobody has it yet */
	packet_send(&conn->ends[1], PACKET_SYN, NULL, 0);
	*ret_sock = &conn->ends[0];
	return 0;
}

static void net_recv(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes)
{
	sock->recv_op = op;
	sock->recv_buf = buf;
	sock->recv_bytes = bytes;
	recv_look(sock);
}

static void net_send(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
		     uint32_t count)
{
	sock->send_op = op;
	sock->send_iov = iov;
	sock->send_count = count;
	send_look(sock);
}

static void net_shutdown(struct env_sock *sock)
{
	if (!sock->shut)
		packet_send(sock->other, PACKET_END, NULL, 0);
	sock->shut = true;
	op_end(sock, &sock->connect_op, -ECANCELED);
	recv_look(sock);
	send_look(sock);
}

static void net_close(struct env_sock *sock)
{
	sock_end(sock, PACKET_END);
}

/* ---- what arrives ---- */

static void syn_arrives(struct env_sock *sock)
{
	struct simnet *net = sock->net;
	for (unsigned i = 0; i < LISTENERS_MAX; i++) {
		struct env_listener *listener = &net->listeners[i];
		if (!listener->open || listener->host != sock->host || sock->other->closed)
			continue;
		sock->closed = false;
		sock->conn->waits = true;
		sock->conn->listener = listener;
		net->counts.connections++;
		packet_send(sock->other, PACKET_ACCEPTED, NULL, 0);
		accept_look(listener);
		return;
	}
	net->counts.refused++;
	packet_send(sock->other, PACKET_RESET, NULL, 0);
}

static void arrives(struct env_sock *sock, struct packet *packet)
{
	if (packet->kind == PACKET_SYN) {
		syn_arrives(sock);
	} else if (sock->closed) { /* nobody is there any more: whoever sends is told */
		if (packet->kind != PACKET_RESET && !sock->other->closed) {
			sock->net->counts.lost_hosts++;
			packet_send(sock->other, PACKET_RESET, NULL, 0);
		}
	} else if (packet->kind == PACKET_ACCEPTED) {
		op_end(sock, &sock->connect_op, 0);
	} else if (packet->kind == PACKET_DATA) {
		packet->next = NULL;
		*sock->here_last = packet;
		sock->here_last = &packet->next;
		recv_look(sock);
		return;
	} else {
		sock->ended = true;
		sock->reset |= packet->kind == PACKET_RESET;
		op_end(sock, &sock->connect_op, -ECONNREFUSED);
		recv_look(sock);
		send_look(sock);
	}
	sock->queued_bytes -= packet->bytes;
	free(packet);
}

static struct env_sock *first_due(struct simnet *net, uint64_t *ret_ns)
{
	struct env_sock *first = NULL;
	*ret_ns = UINT64_MAX;
	for (struct conn *conn = net->conns; conn; conn = conn->next)
		for (unsigned i = 0; i < 2; i++) {
			struct env_sock *sock = &conn->ends[i];
			struct packet *packet = sock->coming;
			if (!packet)
				continue;
			if (net->off[sock->host] || net->down[sock->other->host][sock->host]) {
				net->counts.held += !packet->held;
				packet->held = true;
				continue;
			}
			if (packet->due_ns < *ret_ns) {
				*ret_ns = packet->due_ns;
				first = sock;
			}
		}
	return first;
}

static void now_set(struct simnet *net, uint64_t now_ns)
{
	net->now_ns = max_u64(net->now_ns, now_ns);
	for (unsigned i = 0; i < net->host_count; i++)
		net->hosts[i]->now_ns = net->now_ns;
}

bool simnet_step(struct simnet *net)
{
	uint64_t due, packet_due;
	struct env_sock *sock = first_due(net, &packet_due);
	struct sim *first = NULL, *before = sim_process;
	uint64_t host_due = UINT64_MAX;
	for (unsigned i = 0; i < net->host_count; i++)
		if (!net->stopped[i] && sim_due(net->hosts[i], &due) && due < host_due) {
			host_due = due;
			first = net->hosts[i];
		}
	if (!sock && !first)
		return false;
	if (sock && packet_due <= host_due) {
		struct packet *packet = sock->coming;
		now_set(net, packet_due);
		sock->coming = packet->next;
		if (!sock->coming)
			sock->coming_last = &sock->coming;
		net->trace = (net->trace ^ (packet->bytes * 8ull + packet->kind) ^ net->now_ns) *
			     0x100000001b3u;
		struct conn *conn = sock->conn;
		arrives(sock, packet);
		conn_look(conn);
		return true;
	}
	now_set(net, host_due);
	sim_process = first;
	sim_step_own(first);
	sim_process = before;
	return true;
}

/* ---- what a test does ---- */

struct simnet *simnet_new(uint64_t seed, unsigned host_count)
{
	struct simnet *net = calloc(1, sizeof(*net));
	net->host_count = host_count;
	for (unsigned i = 0; i < host_count; i++) {
		struct sim *sim = net->hosts[i] = sim_new(seed * HOSTS_MAX + i);
		sim->net = net;
		sim->net_step = simnet_step;
		sim->ops.listen_tcp = net_listen;
		sim->ops.listener_close = net_listener_close;
		sim->ops.connect_tcp = net_connect;
		sim->ops.accept = net_accept;
		sim->ops.sock_recv = net_recv;
		sim->ops.sock_send = net_send;
		sim->ops.sock_shutdown = net_shutdown;
		sim->ops.sock_close = net_close;
	}
	return net;
}

void simnet_free(struct simnet *net)
{
	while (net->conns) {
		net->conns->ends[0].closed = net->conns->ends[1].closed = true;
		conn_look(net->conns);
	}
	for (unsigned i = 0; i < net->host_count; i++)
		sim_free(net->hosts[i]);
	free(net);
}

struct sim *simnet_host(struct simnet *net, unsigned host)
{
	return net->hosts[host];
}

void simnet_wait(struct simnet *net, uint64_t ns)
{
	now_set(net, net->now_ns + ns);
}

uint64_t simnet_now_ns(const struct simnet *net)
{
	return net->now_ns;
}

unsigned simnet_peer(const struct env_sock *sock)
{
	return sock->other->host;
}

void simnet_link(struct simnet *net, unsigned from, unsigned to, bool up)
{
	net->down[from][to] = !up;
}

static void sock_cut(struct env_sock *sock)
{
	struct packet **at = &sock->coming;
	struct simnet *net = sock->net;
	if (sock->closed)
		return;
	while (*at && net_random(net, 2))
		at = &(*at)->next;
	struct packet *last = *at;
	if (last && last->bytes > 1) { /* a part of this one arrives */
		uint32_t bytes = 1 + (uint32_t)net_random(net, last->bytes - 1);
		sock->queued_bytes -= last->bytes - bytes;
		net->counts.cut_bytes += last->bytes - bytes;
		last->bytes = bytes;
		at = &last->next;
	}
	struct packet *rest = *at;
	*at = NULL;
	sock->coming_last = at;
	for (struct packet *packet = rest; packet; packet = packet->next)
		sock->queued_bytes -= packet->bytes;
	struct packet **end;
	packets_free(&rest, &end);
	packet_send(sock, PACKET_RESET, NULL, 0);
}

void simnet_cut(struct simnet *net, unsigned a, unsigned b, bool one)
{
	for (struct conn *conn = net->conns; conn; conn = conn->next) {
		unsigned from = conn->ends[0].host, to = conn->ends[1].host;
		if ((from != a || to != b) && (from != b || to != a))
			continue;
		net->counts.cut++;
		sock_cut(&conn->ends[0]);
		sock_cut(&conn->ends[1]);
		if (one)
			return;
	}
}

void simnet_slow(struct simnet *net, unsigned chance)
{
	net->slow = chance;
}

void simnet_stop(struct simnet *net, unsigned host, bool stopped)
{
	net->stopped[host] = stopped;
}

void simnet_crashed(struct simnet *net, unsigned host, bool power_cut)
{
	net->stopped[host] = false;
	for (unsigned i = 0; i < LISTENERS_MAX; i++)
		if (net->listeners[i].host == host)
			net->listeners[i].open = false;
	for (struct conn *conn = net->conns, *next; conn; conn = next) {
		next = conn->next;
		for (unsigned i = 0; i < 2; i++) {
			struct env_sock *sock = &conn->ends[i];
			if (sock->host != host)
				continue;
			sock->connect_op = sock->recv_op = sock->send_op = NULL;
			conn->waits = false;
			if (!sock->closed && !sock->shut && !power_cut)
				packet_send(sock->other, PACKET_RESET, NULL, 0);
			sock->shut = sock->closed = true;
		}
		conn_look(conn);
	}
	net->off[host] = power_cut;
}

void simnet_power(struct simnet *net, unsigned host, bool on)
{
	net->off[host] = !on;
}

const struct simnet_counts *simnet_counts(const struct simnet *net)
{
	return &net->counts;
}

uint64_t simnet_trace(const struct simnet *net)
{
	uint64_t trace = net->trace;
	for (unsigned i = 0; i < net->host_count; i++)
		trace = (trace ^ sim_trace(net->hosts[i])) * 0x100000001b3u;
	return trace;
}
