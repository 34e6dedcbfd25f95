/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP over the daemon's unix socket. One connection, kept open; one thread. */
#ifndef AGENT_CLIENT_CLIENT_H
#define AGENT_CLIENT_CLIENT_H

#include "proto/err.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* More than this is refused: a list of a million snapshots fits. */
#define CLIENT_BODY_BYTES_MAX (512u << 20)
#define CLIENT_PATH_ROOM 1024

struct client;

/* NULL without memory. `interrupted`, which may be NULL, ends a wait once it is not 0. */
struct client *client_new(const char *socket_path, const volatile sig_atomic_t *interrupted);
void client_free(struct client *client);

struct client_reply {
	long status;
	char *body; /* terminated; the caller frees */
	size_t body_bytes;
};

struct client_request {
	const char *method, *path;
	const char *body; /* JSON, or NULL */
	bool async;	  /* Prefer: respond-async */
	int timeout_ms;	  /* -1: none */
};

/* 0 for a reply of whatever status; else a negative code and a sentence. -ECONNREFUSED: nobody
 * listens, or the connection broke before an answer; -EACCES: the socket is not for us;
 * -ETIMEDOUT; -EINTR: a signal came (*interrupted). */
int client_send(struct client *client, const struct client_request *request,
		struct client_reply *ret_reply, char ret_sentence[SENTENCE_BYTES]);

/* Writes prefix, `name` percent-encoded ('@' stays), suffix. Returns `out`; a path that does not
 * fit becomes "", which no daemon serves. */
char *client_path(char out[CLIENT_PATH_ROOM], const char *prefix, const char *name,
		  const char *suffix);

#endif
