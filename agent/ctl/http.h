/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the daemon's unix socket. One connection, kept open; one thread. */
#ifndef AGENT_CTL_HTTP_H
#define AGENT_CTL_HTTP_H

#include "proto/err.h"

#include <stdbool.h>
#include <stddef.h>

/* More than this is refused: a list of a million snapshots fits. */
#define HTTP_BODY_BYTES_MAX (512u << 20)
#define HTTP_PATH_ROOM 1024

struct http;

/* NULL without memory. */
struct http *http_new(const char *socket_path);
void http_free(struct http *http);

struct http_reply {
	long status;
	char *body; /* terminated; the caller frees */
	size_t body_bytes;
};

struct http_request {
	const char *method, *path;
	const char *body; /* JSON, or NULL */
	bool async;	  /* Prefer: respond-async */
	int timeout_ms;	  /* -1: none */
};

/* 0 for a reply of whatever status; else a negative code and a sentence. -ECONNREFUSED: nobody
 * listens, or the connection broke before an answer; -EACCES: the socket is not for us;
 * -ETIMEDOUT; -EINTR: a signal came (ctl_interrupted). */
int http_send(struct http *http, const struct http_request *request, struct http_reply *ret_reply,
	      char ret_sentence[SENTENCE_BYTES]);

/* Writes prefix, `name` percent-encoded ('@' stays), suffix. Returns `out`; a path that does not
 * fit becomes "", which no daemon serves. */
char *http_path(char out[HTTP_PATH_ROOM], const char *prefix, const char *name, const char *suffix);

#endif
