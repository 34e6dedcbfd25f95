/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests: parsed from the input, handed to the store, answered in the order in which they end.
 *
 * Keeps true: a request is taken from the input only when all that it needs is there: a place among
 * CONN_REQUESTS_MAX, its data's room, and for a small write its whole payload; until then nothing
 * more is received (back-pressure), so nothing fails halfway for want of memory. A refused write's
 * payload is consumed. While a request is in the store, its connection exists.
 */
#include "storage/nbd/conn.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <string.h>

enum range { RANGE_NONE, RANGE_EINVAL, RANGE_ENOSPC }; /* what a range beyond the end is */

struct command_rule {
	const char *name;
	uint16_t flags; /* besides FUA, which any command may have */
	uint8_t kind;
	uint8_t range;
	bool writes, carries_data; /* data: at most REQUEST_BYTES_MAX */
	bool limited;		   /* it counts for the volume's limits */
};

static const struct command_rule command_rules[] = {
	[NBD_CMD_READ] = {"read", NBD_FLAG_DF, REQUEST_READ, RANGE_EINVAL, false, true, true},
	[NBD_CMD_WRITE] = {"write", 0, REQUEST_WRITE, RANGE_ENOSPC, true, true, true},
	[NBD_CMD_FLUSH] = {"flush", 0, REQUEST_FLUSH, RANGE_NONE, false, false, false},
	[NBD_CMD_TRIM] = {"trim", 0, REQUEST_TRIM, RANGE_EINVAL, true, false, true},
	[NBD_CMD_CACHE] = {"cache", 0, REQUEST_CACHE, RANGE_EINVAL, false, false, true},
	/* The store keeps zeros as holes, always fast, and finds room for them when they are
	 * overwritten: NO_HOLE has nothing to add. */
	[NBD_CMD_WRITE_ZEROES] = {"write_zeroes", NBD_FLAG_NO_HOLE | NBD_FLAG_FAST_ZERO,
				  REQUEST_ZERO, RANGE_ENOSPC, true, false, true},
	[NBD_CMD_BLOCK_STATUS] = {"block_status", NBD_FLAG_REQ_ONE, REQUEST_STATUS, RANGE_EINVAL,
				  false, false, false},
};
#define COMMANDS (sizeof command_rules / sizeof command_rules[0])

static const struct command_rule *command_rule(uint32_t type)
{
	return type < COMMANDS && command_rules[type].name ? &command_rules[type] : NULL;
}

enum nbd_error nbd_error_of(int64_t res)
{
	switch (res < 0 ? -res : 0) {
	case 0:
		return NBD_OK;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case ENOSPC:
	case VS_EQUOTA:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case ENOTSUP:
		return NBD_ENOTSUP;
	default: /* checksum, fail-stop, lost: the guest must know that it has no data */
		return NBD_EIO;
	}
}

/* Who may not answer any more says nothing: the client reconnects and asks again. */
static bool res_drops(int64_t res)
{
	return res == -ESHUTDOWN || res == -VS_ECANCELLED || res == -VS_EFENCED;
}

/* ---- bounds on data ---- */

static uint64_t shared_part(uint64_t held_bytes)
{
	return held_bytes > CONN_OWN_BYTES ? held_bytes - CONN_OWN_BYTES : 0;
}

static void hungry_remove(struct conn *conn)
{
	struct nbd_server *server = conn->server;
	struct conn **at = &server->hungry;
	if (!conn->waits_for_bytes)
		return;
	while (*at != conn)
		at = &(*at)->hungry_next;
	*at = conn->hungry_next;
	if (!conn->hungry_next)
		server->hungry_tail = at;
	conn->waits_for_bytes = false;
	if (server->hungry)
		conn_kick(server->hungry);
}

static void hungry_add(struct conn *conn)
{
	struct nbd_server *server = conn->server;
	if (conn->waits_for_bytes)
		return;
	conn->waits_for_bytes = true;
	conn->hungry_next = NULL;
	*server->hungry_tail = conn;
	server->hungry_tail = &conn->hungry_next;
}

void request_forget(struct conn *conn)
{
	hungry_remove(conn);
}

/* False: it must wait, for its own requests or, in turn, for those of others. */
static bool bytes_take(struct conn *conn, uint32_t room)
{
	struct nbd_server *server = conn->server;
	uint64_t held = conn->held_bytes + room;
	uint64_t more = shared_part(held) - shared_part(conn->held_bytes);
	if (held > CONN_BYTES_MAX)
		return false;
	if (more > 0) {
		bool others_first = server->hungry && server->hungry != conn;
		if (others_first ||
		    server->shared_bytes + more > server->options.buffer_bytes_max) {
			hungry_add(conn);
			return false;
		}
	}
	server->shared_bytes += more;
	server->counters.buffer_bytes += room;
	conn->held_bytes = held;
	hungry_remove(conn);
	return true;
}

static void bytes_give(struct conn *conn, uint32_t room)
{
	struct nbd_server *server = conn->server;
	uint64_t held = conn->held_bytes - room;
	uint64_t less = shared_part(conn->held_bytes) - shared_part(held);
	conn->held_bytes = held;
	server->shared_bytes -= less;
	server->counters.buffer_bytes -= room;
	if (less > 0 && server->hungry)
		conn_kick(server->hungry);
}

/* ---- a request's life ---- */

static void request_drop_data(struct conn_request *request)
{
	if (!request->data)
		return;
	pool_data_free(&request->conn->server->pool, request->data, request->data_room);
	bytes_give(request->conn, request->data_room);
	request->data = NULL;
}

void request_free(struct conn_request *request)
{
	struct conn *conn = request->conn;
	request_drop_data(request);
	conn->in_flight--;
	pool_request_free(&conn->server->pool, request);
}

/* NULL: no memory, and the connection ends. `room` bytes of data were granted by bytes_take. */
static struct conn_request *request_new(struct conn *conn, const struct nbd_request *wire,
					uint32_t room)
{
	struct pool *pool = &conn->server->pool;
	struct conn_request *request = pool_request(pool, sizeof(*request));
	void *data = request && room ? pool_data(pool, room) : NULL;
	if (!request || (room && !data)) {
		if (request)
			pool_request_free(pool, request);
		if (room)
			bytes_give(conn, room);
		conn_die(conn, false, "there is no memory for its request");
		return NULL;
	}
	*request = (struct conn_request){
		.conn = conn,
		.cookie = wire->cookie,
		.type = wire->type,
		.flags = wire->flags,
		.length_bytes = wire->length_bytes,
		.data = data,
		.data_room = room,
		.store.offset_bytes = wire->offset_bytes,
	};
	conn->in_flight++;
	conn->requests++;
	conn->server->counters.requests++;
	return request;
}

static void request_finish(struct conn_request *request, enum nbd_error error)
{
	struct conn *conn = request->conn;
	request->error = error;
	if (error != NBD_OK) {
		conn->errors++;
		conn->server->counters.errors++;
		request->answer_bytes = 0;
	}
	if (request->answer_bytes == 0)
		request_drop_data(request);
	request_list_add(&conn->ready, request);
}

/* Turns the store's extents into the wire's, in place, like ones merged. Returns their bytes. */
static uint32_t status_encode(struct conn_request *request)
{
	const struct extent *extents = request->data;
	uint32_t left = request->length_bytes, count = 0;
	uint32_t last_bytes = 0, last_state = UINT32_MAX;
	struct cursor c = cursor_over(request->data, request->data_room);
	for (uint32_t i = 0; i < request->store.extent_count && left > 0; i++) {
		struct extent extent = extents[i]; /* read before its place is written over */
		uint32_t bytes = (uint32_t)min_u64(extent.length_bytes, left);
		uint32_t state = extent.hole ? NBD_STATE_HOLE | NBD_STATE_ZERO : 0;
		left -= bytes;
		if (bytes == 0)
			continue;
		if (state == last_state) {
			c.at -= NBD_EXTENT_BYTES;
			bytes += last_bytes;
			count--;
		} else if (count > 0 && request->flags & NBD_FLAG_REQ_ONE) {
			break;
		}
		put_be_u32(&c, bytes);
		put_be_u32(&c, state);
		last_bytes = bytes;
		last_state = state;
		count++;
	}
	return count * NBD_EXTENT_BYTES;
}

static void request_answered(struct conn_request *request)
{
	struct conn *conn = request->conn;
	enum nbd_error error = nbd_error_of(request->store.op.res);
	switch (request->type) {
	case NBD_CMD_READ:
		request->answer_bytes = request->length_bytes;
		if (error == NBD_OK) {
			conn->read_bytes += request->length_bytes;
			conn->server->counters.read_bytes += request->length_bytes;
		}
		break;
	case NBD_CMD_WRITE:
		if (error == NBD_OK) {
			conn->write_bytes += request->length_bytes;
			conn->server->counters.write_bytes += request->length_bytes;
		}
		break;
	case NBD_CMD_BLOCK_STATUS:
		request->answer_bytes = error == NBD_OK ? status_encode(request) : 0;
		if (request->answer_bytes == 0)
			error = error == NBD_OK ? NBD_EIO : error;
		break;
	default:
		break;
	}
	if (error != NBD_OK)
		log_event(LOG_LEVEL_WARNING, "nbd.error",
			  "export=%s command=%s offset=%llu bytes=%u error=\"%s\"", conn->name,
			  command_rules[request->type].name,
			  (unsigned long long)request->store.offset_bytes, request->length_bytes,
			  vs_strerror((int)request->store.op.res));
	request_finish(request, error);
}

static void request_submit(struct conn_request *request);

static void request_done(struct io_op *op)
{
	struct conn_request *request = (struct conn_request *)op;
	struct conn *conn = request->conn;
	bool dead = conn->state == CONN_DEAD;
	conn->store_pending--;
	if (!dead && res_drops(op->res)) {
		conn_die(conn, false, "the store does not answer any more");
		dead = true;
	}
	if (!dead && request->type == NBD_CMD_READ && request->flags & NBD_FLAG_FUA &&
	    op->res >= 0 && !request->flushing) {
		request->flushing = true; /* what it read must be durable before it is answered */
		request->store.kind = REQUEST_FLUSH;
		request_submit(request);
		return;
	}
	if (dead)
		request_free(request);
	else
		request_answered(request);
	if (conn->store_pending == 0)
		fence_store_idle(conn);
	/* One send for all that ends in this pass: the last one's, or that of the next pass. */
	if (!dead && conn->store_pending == 0)
		conn_send(conn);
	else if (dead ? conn->store_pending == 0 : !conn->sending)
		conn_kick(conn);
}

static void request_submit(struct conn_request *request)
{
	request->store.op.done = request_done;
	request->conn->store_pending++;
	store_submit(&request->store);
}

static void request_start(struct conn_request *request)
{
	struct conn *conn = request->conn;
	struct store_request *store = &request->store;
	store->view = conn->view;
	store->kind = (enum request_kind)command_rules[request->type].kind;
	store->flags = request->flags & NBD_FLAG_FUA ? REQUEST_FUA : 0;
	store->length_bytes = request->length_bytes;
	store->data = request->data;
	if (store->kind == REQUEST_FLUSH) {
		store->offset_bytes = 0;
		store->length_bytes = 0;
	} else if (store->kind == REQUEST_STATUS) {
		store->data = NULL;
		store->extents = request->data;
		store->extent_count_max =
			request->flags & NBD_FLAG_REQ_ONE ? 1 : STATUS_EXTENTS_MAX;
	} else if (store->kind == REQUEST_READ) {
		store->flags = 0;
	}
	request_submit(request);
}

/* ---- answers ---- */

static void answer_chunk(const struct conn_request *request, struct cursor *c)
{
	if (request->error != NBD_OK) {
		nbd_put_chunk(c, NBD_CHUNK_DONE, NBD_CHUNK_ERROR, request->cookie,
			      NBD_ERROR_CHUNK_BYTES - NBD_CHUNK_BYTES);
		put_be_u32(c, request->error);
		put_be_u16(c, 0); /* no text */
	} else if (request->type == NBD_CMD_READ) {
		nbd_put_chunk(c, NBD_CHUNK_DONE, NBD_CHUNK_OFFSET_DATA, request->cookie,
			      8 + request->answer_bytes);
		put_be_u64(c, request->store.offset_bytes);
	} else {
		nbd_put_chunk(c, NBD_CHUNK_DONE, NBD_CHUNK_BLOCK_STATUS, request->cookie,
			      4 + request->answer_bytes);
		put_be_u32(c, 1); /* the context's id, as the handshake gave it */
	}
}

uint32_t request_answer(const struct conn_request *request, uint8_t *out)
{
	bool has_data = request->type == NBD_CMD_READ || request->type == NBD_CMD_BLOCK_STATUS;
	struct cursor c = cursor_over(out, 32);
	if (has_data && request->conn->structured)
		answer_chunk(request, &c);
	else
		nbd_put_simple_reply(&c, request->error, request->cookie);
	return (uint32_t)(32 - cursor_left(&c));
}

/* ---- parsing ---- */

/* What is wrong with a request by itself, before the store sees it. */
static enum nbd_error request_judge(const struct conn *conn, const struct nbd_request *wire)
{
	const struct command_rule *rule = command_rule(wire->type);
	uint64_t bytes = store_view_bytes(conn->view);
	if (!rule || wire->flags & ~(rule->flags | NBD_FLAG_FUA))
		return NBD_EINVAL;
	if (wire->flags & NBD_FLAG_DF && !conn->structured)
		return NBD_EINVAL;
	if (wire->type == NBD_CMD_BLOCK_STATUS && !conn->meta_allocation)
		return NBD_EINVAL;
	if (rule->writes && conn->read_only)
		return NBD_EPERM;
	if (rule->range == RANGE_NONE)
		return NBD_OK;
	if (wire->length_bytes == 0)
		return NBD_EINVAL;
	if (wire->offset_bytes > bytes || wire->length_bytes > bytes - wire->offset_bytes)
		return rule->range == RANGE_ENOSPC ? NBD_ENOSPC : NBD_EINVAL;
	if (rule->carries_data && wire->length_bytes > REQUEST_BYTES_MAX)
		return NBD_EINVAL;
	return NBD_OK;
}

static enum step request_refuse(struct conn *conn, const struct nbd_request *wire,
				enum nbd_error error)
{
	struct conn_request *request = request_new(conn, wire, 0);
	if (!request)
		return STEP_MORE;
	conn->in.start += NBD_REQUEST_BYTES;
	if (wire->type != NBD_CMD_WRITE || wire->length_bytes == 0) {
		request_finish(request, error);
		return STEP_MORE;
	}
	/* Answered behind its payload: libnbd takes an answer before that for a server's bug. */
	request->error = error;
	conn->partial = request;
	conn->partial_left = wire->length_bytes;
	conn->state = CONN_DISCARD;
	return STEP_MORE;
}

/* Moves what the input has of the payload; true when that was the rest. */
static bool payload_move(struct conn *conn, struct conn_request *request, uint32_t *left)
{
	uint32_t bytes = (uint32_t)min_u64(in_left(conn), *left);
	memcpy((uint8_t *)request->data + request->length_bytes - *left, in_at(conn), bytes);
	conn->in.start += bytes;
	*left -= bytes;
	return *left == 0;
}

/* Everything that this request needs is there: takes it. */
static enum step request_take(struct conn *conn, const struct nbd_request *wire, uint32_t room)
{
	struct conn_request *request = request_new(conn, wire, room);
	uint32_t left = wire->length_bytes;
	if (!request)
		return STEP_MORE;
	conn->in.start += NBD_REQUEST_BYTES;
	if (wire->type == NBD_CMD_WRITE && !payload_move(conn, request, &left)) {
		conn->partial = request;
		conn->partial_left = left;
		conn->in_want_big = false; /* what comes next goes past the buffer */
		conn->state = CONN_PAYLOAD;
		return STEP_MORE;
	}
	request_start(request);
	return STEP_MORE;
}

static enum step request_parse(struct conn *conn)
{
	struct nbd_request wire;
	if (!conn_has(conn, NBD_REQUEST_BYTES))
		return STEP_BLOCKED;
	struct cursor c = cursor_reading(in_at(conn), NBD_REQUEST_BYTES);
	if (nbd_get_request(&c, &wire) < 0) {
		conn_die(conn, true, "a request does not start with its magic number");
		return STEP_MORE;
	}
	if (wire.type == NBD_CMD_DISC) {
		conn->state = CONN_LEAVE;
		if (conn->store_pending == 0)
			fence_store_idle(conn);
		return STEP_MORE;
	}
	if (conn->in_flight >= CONN_REQUESTS_MAX) {
		if (conn->held && in_left(conn) < conn->in.room) /* to see it vanish meanwhile */
			conn->in_need = in_left(conn) + 1;
		return STEP_BLOCKED;
	}
	enum nbd_error error = request_judge(conn, &wire);
	if (error != NBD_OK)
		return request_refuse(conn, &wire, error);
	uint32_t room = 0;
	if (wire.type == NBD_CMD_BLOCK_STATUS)
		room = pool_data_room(STATUS_EXTENTS_MAX * sizeof(struct extent));
	else if (command_rules[wire.type].carries_data)
		room = pool_data_room(wire.length_bytes);
	if (wire.type == NBD_CMD_WRITE) {
		uint32_t all = NBD_REQUEST_BYTES + wire.length_bytes;
		uint32_t lacks = all > in_left(conn) ? all - in_left(conn) : 0;
		if (all <= conn->in.room && lacks <= DIRECT_BYTES_MIN && !conn_has(conn, all))
			return STEP_BLOCKED;
	}
	bool limited = conn->limit && command_rules[wire.type].limited;
	if (limited && !limit_open(conn)) {
		if (in_left(conn) < conn->in.room) /* to see it vanish meanwhile */
			conn->in_need = in_left(conn) + 1;
		return STEP_BLOCKED;
	}
	if (!bytes_take(conn, room))
		return STEP_BLOCKED;
	if (limited)
		limit_charge(conn, command_rules[wire.type].carries_data ? wire.length_bytes : 0);
	return request_take(conn, &wire, room);
}

static enum step payload_step(struct conn *conn)
{
	struct conn_request *request = conn->partial;
	if (!payload_move(conn, request, &conn->partial_left)) {
		conn->in_need = 1;
		return STEP_BLOCKED;
	}
	conn->partial = NULL;
	conn->state = CONN_REQUEST;
	request_start(request);
	return STEP_MORE;
}

static enum step discard_step(struct conn *conn)
{
	struct conn_request *request = conn->partial;
	uint32_t bytes = (uint32_t)min_u64(in_left(conn), conn->partial_left);
	conn->in.start += bytes;
	conn->partial_left -= bytes;
	if (conn->partial_left > 0) {
		conn->in_need = 1;
		return STEP_BLOCKED;
	}
	conn->partial = NULL;
	conn->state = CONN_REQUEST;
	request_finish(request, (enum nbd_error)request->error);
	return STEP_MORE;
}

enum step request_step(struct conn *conn)
{
	switch (conn->state) {
	case CONN_PAYLOAD:
		return payload_step(conn);
	case CONN_DISCARD:
		return discard_step(conn);
	default:
		return request_parse(conn);
	}
}
