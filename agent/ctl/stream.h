/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bulk data to or from an NBD export: several connections, several requests in flight on each,
 * buffers that are reused. The only part that knows libnbd.
 */
#ifndef AGENT_CTL_STREAM_H
#define AGENT_CTL_STREAM_H

#include "agent/ctl/ctl.h"
#include "proto/err.h"

#define STREAM_PIECE_BYTES (256u << 10)

struct stream;

/* Connects to export `name` at a unix socket. *ret_bytes: its size. A negative code and a
 * sentence. */
int stream_open(const char *socket_path, const char *name, bool writing, struct stream **ret_stream,
		uint64_t *ret_bytes, char ret_sentence[SENTENCE_BYTES]);
void stream_close(struct stream *stream); /* NULL is fine */

/* Writing. Where the next piece goes: a buffer of STREAM_PIECE_BYTES that is free; waits for one.
 * NULL: it has failed. */
void *stream_buffer(struct stream *stream);
/* Writes the first `bytes` of the buffer that stream_buffer gave. */
int stream_write(struct stream *stream, uint64_t offset_bytes, uint32_t bytes);
/* Waits for all, and for their durability. */
int stream_finish(struct stream *stream);

/* Reading: calls `piece` for each piece of data, in any order; holes are left out. A negative code
 * of `piece` ends it. */
int stream_read(struct stream *stream, uint64_t size_bytes,
		int (*piece)(void *state, uint64_t offset_bytes, const void *data, uint32_t bytes),
		void *state);

/* The sentence after a failure. */
const char *stream_sentence(const struct stream *stream);

#endif
