/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server: serves the store's volumes and snapshots on unix sockets.
 *
 * One reactor thread, the store's own, calls all of this. A volume's socket serves export NAME
 * (also as "") and, read-only, NAME@SNAP; an administrators' socket serves and lists everything.
 * Any alignment is accepted, 4 KiB preferred, up to 32 MiB a request.
 *
 * A client that vanishes never loses the order of its writes: its successor's first requests wait
 * until what it had under way has ended in the store.
 */
#ifndef STORAGE_NBD_NBD_H
#define STORAGE_NBD_NBD_H

#include "storage/rt/env.h"
#include "storage/store/store_admin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_PATH_ROOM 108 /* what a unix socket's address can hold */

struct nbd_server;

struct nbd_server_options {
	unsigned connection_count_max; /* 0: 1024. One more is closed at once, with a line logged */
	uint64_t buffer_bytes_max;     /* 0: 256 MiB. Data of requests under way, beyond the 256 KiB
					  that each connection has for itself; at least 32 MiB */
	uint64_t handshake_ns;	       /* 0: 10 s. From connecting to the first request allowed */
};

struct nbd_counters {
	unsigned connections;	    /* now, those in their handshake and those that end included */
	uint64_t connections_total; /* accepted */
	uint64_t connections_refused; /* by the cap */
	uint64_t connections_dropped; /* for what the client sent, or was too slow to send */
	uint64_t requests, read_bytes, write_bytes;
	uint64_t errors;       /* requests answered with an error */
	uint64_t buffer_bytes; /* data of requests under way, now */
};

/* One connection that has its export. */
struct nbd_attachment {
	char name[SNAP_NAME_ROOM]; /* VOLUME or VOLUME@SNAP */
	char path[NBD_PATH_ROOM];  /* the socket it came by */
	uint64_t since_wall_ns;
	bool read_only;
	unsigned in_flight;
	uint64_t requests, read_bytes, write_bytes, errors;
};

/* `options` may be NULL; store and env outlive the server. -ENOMEM. */
int nbd_server_new(struct env *env, struct store *store, const struct nbd_server_options *options,
		   struct nbd_server **ret_server);

/* Listens at `path`, with mode and, unless -1, group, for `volume` and its snapshots (NULL: for
 * all there are). A volume may have several sockets; the path names the export from here on. The
 * volume need not exist yet. -EEXIST: exported here already; -ENAMETOOLONG; -EINVAL: no volume's
 * name; else what listening said. */
int nbd_server_export(struct nbd_server *server, const char *path, const char *volume,
		      unsigned mode, int64_t group);

/* As nbd_server_export, for the holder of the volume's lease alone, which has this generation: once
 * it does not stand any more, nobody is let in here. While a volume is leased, the other sockets
 * give it read-only. */
int nbd_server_export_leased(struct nbd_server *server, const char *path, const char *volume,
			     unsigned mode, uint64_t generation);

/* Removes the socket, fences and drops all its connections, and ends op with 0 when none of their
 * requests is under way: from then on no byte that came by it lands. -ENOENT: there is no such
 * socket. Never done before it returns. */
void nbd_server_cut(struct nbd_server *server, const char *path, struct io_op *op);

/* How much the clients of a volume may do, all together, from now on. Counted are reads, writes,
 * trims, zeroes and hints to cache; bytes are those of reads and writes. What exceeds it waits, and
 * is not received meanwhile. Volumes without limits cost nothing. -ENOMEM: it stays as it was. */
int nbd_server_limit(struct nbd_server *server, const char *volume,
		     const struct volume_limits *limits);

struct nbd_throttled {
	char volume[NAME_ROOM];
	uint64_t requests;  /* that had to wait */
	uint64_t waited_ns; /* ... for so long, in sum over connections */
	unsigned waiting;   /* connections, now */
};
/* Of each volume with limits. A copy for the caller to free. -ENOMEM. */
int nbd_server_throttled(const struct nbd_server *server, struct nbd_throttled **ret,
			 size_t *ret_count);

/* Removes the socket. Attached connections go on; those in their handshake are dropped. -ENOENT. */
int nbd_server_unexport(struct nbd_server *server, const char *path);

/* Drops the connections that came by this socket, without another answer: clients that connect
 * again learn what has changed, such as the volume's size. The socket stays. -ENOENT. */
int nbd_server_drop(struct nbd_server *server, const char *path);

/* Drops the connections that have the volume itself open (and no snapshot of it), by whatever
 * socket they came. */
void nbd_server_drop_volume(struct nbd_server *server, const char *volume);

/* After a volume got a new name: its sockets serve it under that one, paths stay as they are, and
 * its attachments are listed by it. To move NAME.sock, also export the new path and unexport the
 * old one. */
void nbd_server_rename(struct nbd_server *server, const char *from, const char *to);

/* Removes all sockets, drops all connections without another answer (clients reconnect and send
 * again what was not answered), and ends op with 0 when their requests have ended and their views
 * are closed. Nothing may be exported after. Never done before it returns. */
void nbd_server_stop(struct nbd_server *server, struct io_op *op);

/* ---- handover.c: another process goes on with the connections, and clients see nothing ---- */

/* A listening socket, or a connection at the boundary between two requests, none of them under way.
 */
struct nbd_heir {
	int fd; /* -1: it was adopted */
	bool listening;
	char path[NBD_PATH_ROOM];

	/* Of a connection; listed from the oldest to the newest. */
	char name[SNAP_NAME_ROOM];
	uint8_t volume_uuid[16];
	uint64_t generation, size_bytes, since_wall_ns;
	uint32_t order; /* 0: the newest */
	bool read_only, structured, meta_allocation;
	uint32_t input_bytes; /* received, not parsed */
	uint8_t *input;
};

/* Takes no new request, answers those that it has, and ends op with 0 when every connection is
 * parked; those that do not get there in a second are dropped, and clients in their handshake.
 * Nothing may be exported after. Never done before it returns. */
void nbd_server_park(struct nbd_server *server, struct io_op *op);
/* Once parked: what there is, the caller's from here on. The server can be freed. */
void nbd_server_heirs(struct nbd_server *server, struct nbd_heir **ret, size_t *ret_count);
/* In the other process, on a server without exports: each that is made at an heir's path gets that
 * socket. `heirs` stay the caller's, and live until nbd_server_adopt. */
void nbd_server_inherit(struct nbd_server *server, struct nbd_heir *heirs, size_t count);
/* When all exports are made: goes on with each connection whose volume, lease, size and rights are
 * what they were, forgets all else, whose descriptors the caller closes. Returns how many go on. */
size_t nbd_server_adopt(struct nbd_server *server);

/* Only when stopped, or when there was never an export. NULL is fine. */
void nbd_server_free(struct nbd_server *server);

void nbd_server_counters(const struct nbd_server *server, struct nbd_counters *ret_counters);

/* A copy for the caller to free. -ENOMEM. */
int nbd_server_attachments(const struct nbd_server *server, struct nbd_attachment **ret,
			   size_t *ret_count);

#endif
