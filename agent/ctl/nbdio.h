/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk copies to or from one NBD export: several connections, many requests in flight, one thread.
 * Functions return 0 or more, or a negative code and a sentence.
 */
#ifndef AGENT_CTL_NBDIO_H
#define AGENT_CTL_NBDIO_H

#include "agent/ctl/ctl.h"
#include "proto/err.h"

#define NBDIO_CONNECTIONS 4u /* at most; 1 when the server does not promise multi-conn */
#define NBDIO_DEPTH 16u	     /* requests in flight, each connection */
#define NBDIO_REQUEST_BYTES (256u * 1024)

struct nbdio;

/* One request. `data` has NBDIO_REQUEST_BYTES of its own, aligned to 4 KiB; `payload` is where in
 * them the request's bytes are. */
struct nbdio_slot {
	uint8_t *data, *payload;
	uint64_t offset_bytes;
	uint32_t length_bytes;

	/* nbdio's own */
	struct nbdio *owner;
	struct nbdio_slot *next;
	unsigned connection;
	int error; /* an errno, or 0 */
};

struct nbdio_copy {
	bool write;
	/* Sets offset, length and payload, and for a write fills the payload. 1: a request, 0:
	 * there are no more, negative: a failure with its sentence. */
	int (*next)(void *state, struct nbdio_slot *slot, char ret_sentence[SENTENCE_BYTES]);
	/* An answer: for a read the payload has come. In any order. 0 or negative, as above. */
	int (*arrived)(void *state, const struct nbdio_slot *slot,
		       char ret_sentence[SENTENCE_BYTES]);
	void *state;
};

struct nbdio_extent {
	uint64_t length_bytes;
	bool hole; /* reads as zeros */
};

/* Connects to `export_name` on a unix socket. -ENOENT: no such socket or export; other negative
 * codes when nobody answers or speaks NBD. */
int nbdio_open(const char *socket_path, const char *export_name, bool with_status,
	       struct nbdio **ret_nbdio, char ret_sentence[SENTENCE_BYTES]);
/* Says goodbye to the server, so that the volume is free when this returns. NULL is fine. */
void nbdio_close(struct nbdio *nbdio);
uint64_t nbdio_bytes(const struct nbdio *nbdio);

/* Runs a copy to its end. -EINTR after a signal, -ETIMEDOUT when ctl's deadline passed; then
 * requests in flight are abandoned and only nbdio_close may follow. */
int nbdio_run(struct nbdio *nbdio, const struct ctl *ctl, const struct nbdio_copy *copy,
	      char ret_sentence[SENTENCE_BYTES]);
int nbdio_flush(struct nbdio *nbdio, char ret_sentence[SENTENCE_BYTES]);

/* Describes the range from offset on, at least its beginning: an array for the caller to free.
 * Returns how many extents (at least 1); a server that cannot tell gives one of data. Uses a
 * connection of its own, so it may be called from `next`. */
int nbdio_extents(struct nbdio *nbdio, uint64_t offset_bytes, uint64_t length_bytes,
		  struct nbdio_extent **ret_extents, char ret_sentence[SENTENCE_BYTES]);

#endif
