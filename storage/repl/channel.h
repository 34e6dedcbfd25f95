/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection between two vstored: messages in, messages out, over TLS.
 *
 * Keeps true: nothing of the peer is handed on before TLS has proved who it is and both HELLOs
 * agree; a message is whole; what is queued for a slow peer is bounded by its sender, who asks
 * channel_room, and a peer that asks on and on and reads no answer is dropped; so is a silent one.
 *
 * Reactor thread only. No callback runs inside a call of the owner. After `closed` nothing is
 * called any more, and the owner frees.
 */
#ifndef STORAGE_REPL_CHANNEL_H
#define STORAGE_REPL_CHANNEL_H

#include "proto/repl.h"
#include "storage/rt/env.h"
#include "storage/rt/tls.h"

struct channel;

struct channel_ops {
	/* The peer is known and speaks our version. */
	void (*opened)(void *owner);
	/* One message, after HELLO; the body is the channel's. A negative code ends the
	 * connection. */
	int (*message)(void *owner, const struct repl_header *header, const uint8_t *body);
	/* channel_room said no, and has become true again. */
	void (*room)(void *owner);
	/* It has ended: the peer closed (-ECONNRESET), was refused, or channel_close. */
	void (*closed)(void *owner, int res, const char *sentence);
};

struct channel_options {
	struct tls_context *tls;   /* NULL: in the clear, for the simulator and measurements */
	const char *plain_peer;	   /* without TLS: who it is taken for */
	const char *expected_host; /* a client's: whom it means to speak with */
	uint8_t store_uuid[16];
	uint64_t silence_ns;   /* drop it when nothing came for so long; 0: 60 s */
	uint64_t handshake_ns; /* TLS and HELLO take no longer; 0: 10 s */
};

/* Takes the socket over (also on failure). A server's has been accepted; a client's is connected.
 */
int channel_new(struct env *env, struct env_sock *sock, bool is_server,
		const struct channel_options *options, const struct channel_ops *ops, void *owner,
		struct channel **ret_channel);
/* Ends it soon: the peer is sent an ERROR with this code and sentence, if it can still be. A
 * sentence of "" says goodbye without one. */
void channel_close(struct channel *channel, int code, const char *sentence);
/* Only from `closed` on. */
void channel_free(struct channel *channel);

/* Queues a whole message, or more bytes of one. Copies. */
void channel_send(struct channel *channel, const void *bytes, size_t byte_count);
/* False: enough is queued; `room` follows. */
bool channel_room(struct channel *channel);
/* Hands on no further message until told otherwise. */
void channel_pause(struct channel *channel, bool paused);

/* False, and it ends: the peer is known, and its certificate is not good by a newer context. */
bool channel_recheck(struct channel *channel, struct tls_context *newer);

/* From `opened` on. */
const char *channel_peer(const struct channel *channel);
const struct repl_hello *channel_hello(const struct channel *channel);
uint64_t channel_sent_bytes(const struct channel *channel);	/* on the wire */
uint64_t channel_received_bytes(const struct channel *channel); /* on the wire */

#endif
