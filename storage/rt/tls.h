/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 between hosts, bytes in and bytes out: no socket is known here, who moves the bytes is
 * the caller's business (repl/channel.c).
 *
 * Keeps true: TLS 1.3 and nothing older; both sides show a certificate that the site's CA signed
 * and did not revoke, and that names a host of our own cluster (a SAN of the form
 * vstore://CLUSTER/HOST); nothing is read or written for a peer before all of that was checked. No
 * session is resumed, no early data is taken: nothing that was recorded can be replayed.
 *
 * A context is read from a folder with ca.crt, host.crt, host.key and, where something was revoked,
 * ca.crl. One thread uses a session. Only this file's source knows OpenSSL's TLS.
 */
#ifndef STORAGE_RT_TLS_H
#define STORAGE_RT_TLS_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TLS_NAME_ROOM 64u     /* of a cluster's or host's name, with its NUL */
#define TLS_RECORD_MAX 16384u /* plain bytes that one record carries */

struct tls_identity {
	char cluster[TLS_NAME_ROOM], host[TLS_NAME_ROOM];
	int64_t not_after_s; /* since 1970 UTC */
};

struct tls_context;
struct tls_session;

/* Reads and checks the folder's files. -ENOENT, -EACCES, -EINVAL (no SAN, key of another
 * certificate ...), and one sentence. One that has expired is no error here: its peers refuse it,
 * and what needs no peer goes on. Sessions keep their context alive, so that a newer one may
 * replace it while they go on. */
int tls_context_new(const char *folder, struct tls_context **ret_context,
		    char ret_sentence[SENTENCE_BYTES]);
void tls_context_free(struct tls_context *context); /* NULL is fine */
const struct tls_identity *tls_context_identity(const struct tls_context *context);

/* NULL: no memory. */
struct tls_session *tls_session_new(struct tls_context *context, bool is_server);
void tls_session_free(struct tls_session *session); /* NULL is fine */

/* Bytes that came from the peer: the session reads them in place, and they stay valid until
 * tls_in_left says 0 (or the session is freed). Call only when it does. */
void tls_in(struct tls_session *session, const void *bytes, size_t byte_count);
size_t tls_in_left(const struct tls_session *session);

/* Goes on with the handshake. 1: it is done and the peer is known; 0: more bytes are needed (send
 * what tls_out_take gives first); negative: refused, tls_sentence says why. */
int tls_handshake(struct tls_session *session);
const struct tls_identity *tls_peer(const struct tls_session *session);
/* Whether the peer's certificate, as it was shown then, is good by a newer context too: 0, or
 * -EACCES (it was revoked since, has expired, or its CA is not ours any more) and why. */
int tls_peer_still_good(struct tls_session *session, struct tls_context *newer,
			char ret_sentence[SENTENCE_BYTES]);

/* After the handshake. Plain bytes, or 0: more are needed; -ECONNRESET: the peer closed;
 * -EPROTO and others: broken, for good. */
int64_t tls_read(struct tls_session *session, void *buf, size_t bytes);
/* Encrypts all of it into what tls_out_take gives; the caller bounds how much it lets gather there.
 * -ENOMEM, -EPROTO. */
int tls_write(struct tls_session *session, const void *buf, size_t bytes);
/* What gathered for the peer so far. */
size_t tls_out_bytes(const struct tls_session *session);
/* Says goodbye, so that the peer can tell an end from a cut. */
void tls_close(struct tls_session *session);

/* Takes what gathered for the peer: the buffer becomes the caller's, who gives another in exchange
 * (from malloc, or NULL with room 0), so that nothing moves under a send. Returns its bytes; 0:
 * nothing was exchanged. */
size_t tls_out_take(struct tls_session *session, uint8_t **buffer, size_t *room);

/* Why it failed, for a person; "" when it did not. */
const char *tls_sentence(const struct tls_session *session);

/* vstore://CLUSTER/HOST, both names of [a-zA-Z0-9][a-zA-Z0-9._-]*. -EINVAL. */
int tls_identity_parse(const char *uri, size_t bytes, struct tls_identity *ret_identity);

#endif
