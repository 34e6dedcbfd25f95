/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows libnbd. One thread: requests are started on the connection that has the
 * fewest, and one poll waits for all of them.
 */
#include "agent/ctl/stream.h"

#include "proto/units.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECTIONS 4u
#define PIECES 64u
#define EXTENTS_MAX 4096u
#define STATUS_BYTES (1u << 30) /* asked about at once */

struct piece {
	struct stream *stream;
	struct piece *next;
	void *data;
	uint64_t offset_bytes;
	uint32_t bytes;
	unsigned connection;
	bool done, under_way;
};

struct stream {
	struct nbd_handle *handles[CONNECTIONS];
	unsigned handle_count, in_flight[CONNECTIONS], under_way;
	struct piece pieces[PIECES], *free, *taken;
	int res;
	char sentence[SENTENCE_BYTES];
	/* extents of one answer */
	struct {
		uint64_t offset_bytes, bytes;
	} extents[EXTENTS_MAX];
	unsigned extent_count;
	uint64_t status_end;
	int (*consume)(void *state, uint64_t offset_bytes, const void *data, uint32_t bytes);
	void *state;
};

static int stream_fail(struct stream *stream, const char *what)
{
	int err = nbd_get_errno();
	if (stream->res == 0) {
		stream->res = err ? -err : -EIO;
		snprintf(stream->sentence, SENTENCE_BYTES, "%s: %.200s.", what, nbd_get_error());
	}
	return stream->res;
}

const char *stream_sentence(const struct stream *stream)
{
	return stream->sentence;
}

void stream_close(struct stream *stream)
{
	if (!stream)
		return;
	for (unsigned i = 0; i < stream->handle_count; i++) {
		if (stream->res == 0)
			nbd_shutdown(stream->handles[i], 0);
		nbd_close(stream->handles[i]);
	}
	for (unsigned i = 0; i < PIECES; i++)
		free(stream->pieces[i].data);
	free(stream);
}

static int connect_one(struct stream *stream, const char *socket_path, const char *name,
		       bool writing)
{
	struct nbd_handle *nbd = nbd_create();
	if (!nbd)
		return stream_fail(stream, "No NBD client could be made");
	stream->handles[stream->handle_count++] = nbd;
	if (nbd_set_export_name(nbd, name) < 0 ||
	    (!writing && nbd_add_meta_context(nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0) ||
	    nbd_connect_unix(nbd, socket_path) < 0)
		return stream_fail(stream, "The volume's NBD socket cannot be used");
	return 0;
}

int stream_open(const char *socket_path, const char *name, bool writing, struct stream **ret_stream,
		uint64_t *ret_bytes, char ret_sentence[SENTENCE_BYTES])
{
	struct stream *stream = calloc(1, sizeof(*stream));
	int res = stream ? 0 : -ENOMEM;
	for (unsigned i = 0; i < PIECES && res == 0; i++) {
		struct piece *piece = &stream->pieces[i];
		if (posix_memalign(&piece->data, BLOCK_BYTES, STREAM_PIECE_BYTES) != 0) {
			piece->data = NULL;
			res = -ENOMEM;
		}
		piece->stream = stream;
		piece->next = stream->free;
		stream->free = piece;
	}
	for (unsigned i = 0; i < CONNECTIONS && res == 0; i++)
		res = connect_one(stream, socket_path, name, writing);
	int64_t bytes = res == 0 ? nbd_get_size(stream->handles[0]) : 0;
	if (res == 0 && bytes < 0)
		res = stream_fail(stream, "The volume does not say its size");
	if (res == 0 && writing && nbd_is_read_only(stream->handles[0]) > 0) {
		res = -EROFS;
		snprintf(stream->sentence, SENTENCE_BYTES, "The volume is read-only now.");
	}
	if (res < 0) {
		snprintf(ret_sentence, SENTENCE_BYTES, "%s",
			 stream && stream->sentence[0] ? stream->sentence
						       : "There is not enough memory.");
		if (stream)
			stream->res = res;
		stream_close(stream);
		return res;
	}
	*ret_stream = stream;
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

/* ---- waiting ---- */

static void piece_end(struct piece *piece)
{
	struct stream *stream = piece->stream;
	piece->under_way = piece->done = false;
	stream->in_flight[piece->connection]--;
	stream->under_way--;
	if (stream->consume && stream->res == 0) {
		int res = stream->consume(stream->state, piece->offset_bytes, piece->data,
					  piece->bytes);
		if (res < 0)
			stream->res = res;
	}
	piece->next = stream->free;
	stream->free = piece;
}

/* Lets the connections move; returns after something has. */
static int stream_poll(struct stream *stream)
{
	struct pollfd fds[CONNECTIONS];
	for (unsigned i = 0; i < stream->handle_count; i++) {
		unsigned direction = nbd_aio_get_direction(stream->handles[i]);
		fds[i] = (struct pollfd){
			.fd = nbd_aio_get_fd(stream->handles[i]),
			.events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
					  (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0))};
	}
	if (ctl_interrupted)
		return stream->res = stream->res ? stream->res : -EINTR;
	if (poll(fds, stream->handle_count, 1000) < 0 && errno != EINTR)
		return stream->res = -errno;
	for (unsigned i = 0; i < stream->handle_count; i++) {
		int res = 0;
		if (fds[i].revents & (POLLIN | POLLHUP | POLLERR))
			res = nbd_aio_notify_read(stream->handles[i]);
		else if (fds[i].revents & POLLOUT)
			res = nbd_aio_notify_write(stream->handles[i]);
		if (res < 0)
			return stream_fail(stream, "The connection to the volume broke");
	}
	for (unsigned i = 0; i < PIECES; i++)
		if (stream->pieces[i].done)
			piece_end(&stream->pieces[i]);
	return stream->res;
}

static int piece_done(void *state, int *error)
{
	struct piece *piece = state;
	if (*error && piece->stream->res == 0) {
		piece->stream->res = -*error;
		snprintf(piece->stream->sentence, SENTENCE_BYTES, "The volume answered: %s.",
			 vs_strerror(*error));
	}
	piece->done = true;
	return 1;
}

static struct piece *piece_take(struct stream *stream)
{
	while (!stream->free && stream->res == 0)
		stream_poll(stream);
	if (stream->res < 0)
		return NULL;
	struct piece *piece = stream->free;
	stream->free = piece->next;
	return piece;
}

static int piece_start(struct piece *piece, bool writing)
{
	struct stream *stream = piece->stream;
	nbd_completion_callback done = {.callback = piece_done, .user_data = piece};
	piece->connection = 0;
	for (unsigned i = 1; i < stream->handle_count; i++)
		if (stream->in_flight[i] < stream->in_flight[piece->connection])
			piece->connection = i;
	struct nbd_handle *nbd = stream->handles[piece->connection];
	int64_t cookie = writing ? nbd_aio_pwrite(nbd, piece->data, piece->bytes,
						  piece->offset_bytes, done, 0)
				 : nbd_aio_pread(nbd, piece->data, piece->bytes,
						 piece->offset_bytes, done, 0);
	if (cookie < 0) {
		piece->next = stream->free;
		stream->free = piece;
		return stream_fail(stream, "A request to the volume could not be sent");
	}
	piece->under_way = true;
	stream->in_flight[piece->connection]++;
	stream->under_way++;
	return 0;
}

static int stream_drain(struct stream *stream)
{
	while (stream->under_way && stream->res == 0)
		stream_poll(stream);
	return stream->res;
}

/* ---- writing ---- */

void *stream_buffer(struct stream *stream)
{
	if (!stream->taken)
		stream->taken = piece_take(stream);
	return stream->taken ? stream->taken->data : NULL;
}

int stream_write(struct stream *stream, uint64_t offset_bytes, uint32_t bytes)
{
	struct piece *piece = stream->taken;
	stream->taken = NULL;
	piece->offset_bytes = offset_bytes;
	piece->bytes = bytes;
	return piece_start(piece, true);
}

int stream_finish(struct stream *stream)
{
	int res = stream_drain(stream);
	if (res == 0 && nbd_flush(stream->handles[0], 0) < 0)
		res = stream_fail(stream, "The volume could not be flushed");
	return res;
}

/* ---- reading ---- */

static int extents_note(void *state, const char *context, uint64_t offset_bytes, uint32_t *entries,
			size_t entry_count, int *error)
{
	struct stream *stream = state;
	for (size_t i = 0; i + 1 < entry_count; i += 2) {
		bool hole = entries[i + 1] & LIBNBD_STATE_ZERO;
		if (!hole && stream->extent_count == EXTENTS_MAX)
			break; /* the rest is asked for again */
		if (!hole) {
			stream->extents[stream->extent_count].offset_bytes = offset_bytes;
			stream->extents[stream->extent_count++].bytes = entries[i];
		}
		offset_bytes += entries[i];
		stream->status_end = offset_bytes;
	}
	return 0;
}

static int read_extent(struct stream *stream, uint64_t offset_bytes, uint64_t end)
{
	while (offset_bytes < end) {
		struct piece *piece = piece_take(stream);
		if (!piece)
			return stream->res;
		/* Pieces lie on multiples of their size: fewer chunks are cut in two. */
		uint64_t next = round_down(offset_bytes, STREAM_PIECE_BYTES) + STREAM_PIECE_BYTES;
		piece->offset_bytes = offset_bytes;
		piece->bytes = (uint32_t)(min_u64(next, end) - offset_bytes);
		offset_bytes += piece->bytes;
		if (piece_start(piece, false) < 0)
			return stream->res;
	}
	return 0;
}

int stream_read(struct stream *stream, uint64_t size_bytes,
		int (*piece)(void *state, uint64_t offset_bytes, const void *data, uint32_t bytes),
		void *state)
{
	stream->consume = piece;
	stream->state = state;
	bool map = nbd_can_meta_context(stream->handles[0], LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	for (uint64_t at = 0; at < size_bytes && stream->res == 0;) {
		uint64_t bytes = min_u64(size_bytes - at, STATUS_BYTES);
		nbd_extent_callback note = {.callback = extents_note, .user_data = stream};
		stream->extent_count = 0;
		stream->status_end = at;
		/* The answer is waited for while reads go on. */
		if (map && nbd_block_status(stream->handles[0], bytes, at, note, 0) < 0)
			return stream_fail(stream, "The volume's map cannot be read");
		if (stream->status_end == at) { /* no map: all of it is data */
			stream->extents[0].offset_bytes = at;
			stream->extents[0].bytes = bytes;
			stream->extent_count = 1;
			stream->status_end = at + bytes;
		}
		for (unsigned i = 0; i < stream->extent_count && stream->res == 0; i++)
			read_extent(stream, stream->extents[i].offset_bytes,
				    min_u64(size_bytes, stream->extents[i].offset_bytes +
								stream->extents[i].bytes));
		at = stream->status_end;
	}
	return stream_drain(stream);
}
