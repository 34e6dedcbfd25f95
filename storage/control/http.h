/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP on a unix socket, in a thread of its own: parsing and sending never hold up the reactor.
 *
 * A request is handed to `handle` on the reactor, belongs to the daemon until http_reply, and is
 * answered exactly once, from any thread. Life of the server: http_new (listens, serves) ->
 * http_close (new requests are refused here) -> the reactor answers the last of those it has
 * (http_pending is 0) -> http_free.
 */
#ifndef STORAGE_CONTROL_HTTP_H
#define STORAGE_CONTROL_HTTP_H

#include "proto/err.h"
#include "storage/rt/env.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_BODY_BYTES_MAX (1u << 20)
#define HTTP_PENDING_MAX 256u /* requests on the reactor; one more is told to come again */

struct http;

struct http_request {
	const char *method; /* "GET" ...; "?" for one that we do not know */
	char *path;	    /* as sent, still percent-encoded, without the query */
	char *query;	    /* as sent; "" for none */
	char *body;	    /* terminated, for body_bytes 0 too */
	size_t body_bytes;
	bool async;   /* Prefer: respond-async */
	uint32_t uid; /* of the peer, by the kernel's word */
	int32_t pid;

	/* The server's own. */
	struct io_op op;
	struct http *http;
	void *handle; /* evhttp's request */
	struct http_request *next;
	int status;
	const char *content_type;
	char *text;
	size_t text_bytes;
};

struct http_options {
	const char *path; /* of the socket; an old one is replaced: who has RUN's lock may */
	unsigned mode;
	int64_t group; /* -1: leave it */
	bool any_peer; /* else only root and our own user, whoever could open the socket */
	void (*handle)(void *state, struct http_request *request);
	void *state;
};

/* Listens and starts the thread. On the reactor's thread, like all below but http_reply. */
int http_new(struct env *env, const struct http_options *options, struct http **ret_http,
	     char ret_sentence[SENTENCE_BYTES]);

/* Answers, from any thread; the request is gone. `text` is malloc's and is taken (NULL: nothing),
 * the content type is static. */
void http_reply(struct http_request *request, int status, const char *content_type, char *text,
		size_t text_bytes);

/* Stops listening; what still comes on open connections is refused with 503. */
void http_close(struct http *http);

/* Requests that were handed over, or are on their way to the reactor, and are not answered. */
unsigned http_pending(struct http *http);

/* Waits, a second at most, until the answers are sent, ends the thread and removes the socket.
 * Pending must be 0. NULL is fine. */
void http_free(struct http *http);

#endif
