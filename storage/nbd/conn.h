/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this folder share: the server, an export, a connection, a request.
 *
 * A connection is a state machine: conn_step looks at what there is, does one thing, and says
 * whether it can do more. Input lies in conn->in until a step has used it; requests go to the
 * store; finished ones queue in `ready` and leave with one send. A buffer is never moved or freed
 * while a receive or a send may touch it.
 */
#ifndef STORAGE_NBD_CONN_H
#define STORAGE_NBD_CONN_H

#include "proto/nbd.h"
#include "storage/rt/rate.h"
#include "storage/nbd/nbd.h"
#include "storage/nbd/pool.h"

#define CONN_REQUESTS_MAX 64u	   /* in flight on one connection, answers not yet sent included */
#define CONN_BYTES_MAX (64 * MIB)  /* their data */
#define CONN_OWN_BYTES (256 * KIB) /* of that, what does not count for the server's bound */
#define REQUEST_BYTES_MAX (32 * MIB) /* READ, WRITE */
#define OPTION_BYTES_MAX (64 * KIB)
#define IN_SMALL_BYTES (16 * KIB)   /* every connection's receive buffer ... */
#define IN_BIG_BYTES (256 * KIB)    /* ... and that of one which fills it, while there are some */
#define DIRECT_BYTES_MIN (32 * KIB) /* a payload that lacks more is received in place */
#define STATUS_EXTENTS_MAX 256u

/* Name, what it waits for. FENCE and what follows have a view. */
#define CONN_STATES(X)                                                                             \
	X(FLAGS, "the client's flags, after our greeting")                                         \
	X(OPTION, "an option")                                                                     \
	X(ANSWER, "an option's answer to be sent; then conn->after_answer")                        \
	X(FENCE, "requests of older connections to the same volume to end")                        \
	X(REQUEST, "a request, or room for it")                                                    \
	X(PAYLOAD, "the rest of a payload, received in place")                                     \
	X(DISCARD, "the rest of a payload that nobody wants")                                      \
	X(LEAVE, "answers under way, before we close as the client asked")                         \
	X(DEAD, "operations and requests under way to end; nothing is sent any more")

enum conn_state {
#define X(name, text) CONN_##name,
	CONN_STATES(X)
#undef X
};

enum step { STEP_MORE, STEP_BLOCKED, STEP_DONE };

struct conn;

/* From the pool, from its header's arrival until its answer is sent. */
struct conn_request {
	struct store_request store; /* first: done gets back from its op */
	struct conn *conn;
	struct conn_request *next; /* in conn->ready, conn->sending or the pool */
	uint64_t cookie;
	uint32_t type, flags, length_bytes;
	uint32_t error; /* enum nbd_error, once it is answered */
	void *data;	/* from the pool, of data_room bytes, or NULL */
	uint32_t data_room;
	uint32_t answer_bytes; /* of data, to be sent behind the header */
	bool flushing;	       /* a READ with FUA, in its second phase */
};

struct request_list {
	struct conn_request *head, **tail;
	unsigned count;
};

struct in_buffer {
	uint8_t *at;
	uint32_t room, start, end; /* unused bytes lie in [start, end) */
	bool big;
};

/* Is an older connection's peer still there? See fence.c. */
enum suspicion { TRUSTED, SUSPECT, DRAINED };

struct conn {
	struct nbd_server *server;
	struct export *export;
	struct conn *next, *prev; /* in server->conns, newest first */
	struct env_sock *sock;
	enum conn_state state;
	const char *end_reason; /* once DEAD */

	struct io_op recv_op, send_op, kick_op;
	bool receiving, sending, kicked;
	struct env_timer handshake_timer, watch_timer;

	/* Input. */
	struct in_buffer in;
	uint32_t in_need;    /* bytes that the next step wants; 0: it waits for something else */
	uint32_t recv_bytes; /* asked for by the armed receive */
	bool recv_direct;    /* it goes to the payload of `partial` */
	bool in_want_big;
	uint8_t in_calm;	      /* receives in a row that a small buffer would have held */
	struct conn_request *partial; /* of PAYLOAD and DISCARD, with what is still to come */
	uint32_t partial_left;

	/* The handshake. */
	bool no_zeroes, structured, meta_allocation;
	enum conn_state after_answer;
	char meta_name[SNAP_NAME_ROOM];
	uint8_t *out; /* an option's answer */
	size_t out_bytes, out_room;

	/* Once attached. */
	struct view *view;
	bool read_only;
	char name[SNAP_NAME_ROOM];
	uint64_t since_wall_ns;
	uint64_t requests, read_bytes, write_bytes, errors;

	/* Requests. in_flight counts all; store_pending those that the store has. */
	unsigned in_flight, store_pending;
	uint64_t held_bytes;
	struct request_list ready, sent;
	bool held;	      /* answers that are ready may not leave: see conn_send */
	bool waits_for_bytes; /* it is in server->hungry */
	struct conn *hungry_next;
	struct limit *limit;	 /* of its volume; NULL: none */
	bool waits_for_limit;	 /* it is in limit->waiting ... */
	uint64_t limit_since_ns; /* ... since then */
	struct conn *limit_next;

	/* The fence. */
	enum suspicion suspicion;
	uint64_t suspect_bytes; /* received since it is suspected */
	uint64_t recv_number, send_number, watch_recv, watch_send;
	unsigned watch_passes;

	bool recv_cancelled; /* to be parked */
	uint32_t park_order; /* 0: the newest */

	/* Of the send under way. */
	struct iovec iov[2 * CONN_REQUESTS_MAX];
	uint8_t headers[CONN_REQUESTS_MAX * 32];
};

struct export
{
	struct nbd_server *server;
	struct export *next;
	struct env_listener *listener;
	struct env_sock *accepted;
	struct io_op accept_op;
	struct env_timer retry_timer; /* after an accept failed */
	bool accepting, closed;
	unsigned conn_count; /* it stays until these have ended */
	char path[NBD_PATH_ROOM];
	char volume[NAME_ROOM]; /* "": all */
	uint64_t generation;	/* of the lease that it is for; 0: of none */
	struct io_op *cut_op;	/* ends when the last of its connections is gone */
};

struct nbd_server {
	struct env *env;
	struct store *store;
	struct nbd_server_options options;
	struct export *exports;
	struct conn *conns;
	struct pool pool;
	uint64_t shared_bytes;		    /* what connections hold beyond CONN_OWN_BYTES */
	struct conn *hungry, **hungry_tail; /* wait for shared bytes, in order */
	struct limit *limits;
	struct env_timer held_timer; /* runs while answers are held */
	struct nbd_counters counters;
	struct io_op *stop_op; /* ends when nothing is left, stopped or parked */
	bool parking;
	struct env_timer park_timer;
	struct nbd_heir *heirs; /* parked, or, in another process, to be adopted */
	size_t heir_count, heir_room;
};

/* conn.c */
int conn_new(struct export *export, struct env_sock *sock);
/* One that has not said anything and is not in the server's list. NULL: no memory. */
struct conn *conn_blank(struct export *export, struct env_sock *sock);
/* Drops the connection: `reason` is static. A warning is logged when it is the client's fault. */
void conn_die(struct conn *conn, bool at_fault, const char *reason);
/* Lets it step soon, in a pass of its own. */
void conn_kick(struct conn *conn);
/* Starts a send of what is ready, if none is under way, and if the volume may be answered: its
 * primary may be another host meanwhile. What may not leave is held until it may. */
void conn_send(struct conn *conn);
/* True when `bytes` of input are there; else asks for them. */
bool conn_has(struct conn *conn, uint32_t bytes);
static inline uint32_t in_left(const struct conn *conn)
{
	return conn->in.end - conn->in.start;
}
static inline uint8_t *in_at(const struct conn *conn)
{
	return conn->in.at + conn->in.start;
}

/* handshake.c */
int handshake_greet(struct conn *conn);
enum step handshake_step(struct conn *conn);

/* request.c */
enum step request_step(struct conn *conn);
void request_free(struct conn_request *request);
/* A connection that ends waits for no bytes any more. */
void request_forget(struct conn *conn);
/* Writes the header of a finished request's answer; returns its bytes, at most 32. */
uint32_t request_answer(const struct conn_request *request, uint8_t *out);
/* The one place where our codes become NBD's. */
enum nbd_error nbd_error_of(int64_t res);

/* fence.c */
void fence_enter(struct conn *conn);
bool fence_holds(const struct conn *conn);
/* What older connections' requests and receives tell about them. */
void fence_store_idle(struct conn *conn);
void fence_received(struct conn *conn, uint32_t bytes);
void fence_watch(struct conn *conn);

/* limit.c: a volume's limits, shared by its connections. */
void limit_attach(struct conn *conn); /* once it has its volume */
bool limit_open(struct conn *conn);   /* false: it must wait, and is kicked when its turn comes */
void limit_charge(struct conn *conn, uint32_t bytes);
void limit_forget(struct conn *conn); /* it waits no more */
void limits_rename(struct nbd_server *server, const char *from, const char *to);
void limits_free(struct nbd_server *server);

/* handover.c */
enum step park_step(struct conn *conn);
/* An export's socket that was handed over; -ENOENT: there is none. */
int heir_listener(struct nbd_server *server, const char *path, struct env_listener **ret_listener);

/* server.c */
struct export *export_find(const struct nbd_server *server, const char *path);
void export_retire(struct export *export); /* no new client, and its socket is gone or given away */
void server_check_stopped(struct nbd_server *server);
void server_conn_added(struct conn *conn);
void server_conn_gone(struct conn *conn);
void server_conn_held(struct conn *conn);

static inline void request_list_init(struct request_list *list)
{
	*list = (struct request_list){.tail = &list->head};
}
static inline void request_list_add(struct request_list *list, struct conn_request *request)
{
	request->next = NULL;
	*list->tail = request;
	list->tail = &request->next;
	list->count++;
}
static inline struct conn_request *request_list_take(struct request_list *list)
{
	struct conn_request *request = list->head;
	if (!request)
		return NULL;
	list->head = request->next;
	if (!list->head)
		list->tail = &list->head;
	list->count--;
	return request;
}

#endif
