/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows libnbd. A slot is in exactly one place: the free list, in flight on a
 * connection, or the done list; there are as many as may be in flight, so nothing else bounds the
 * copy. Slots are reused last-in first-out, which keeps a slow copy's buffers in the cache.
 */
#include "agent/ctl/nbdio.h"

#include <assert.h>
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBDIO_SLOTS (NBDIO_CONNECTIONS * NBDIO_DEPTH)
#define NBDIO_POLL_MS 1000 /* to look at signals and the deadline */

struct nbdio {
	struct nbd_handle *connections[NBDIO_CONNECTIONS];
	unsigned connection_count;
	unsigned in_flight[NBDIO_CONNECTIONS];
	struct nbd_handle *status; /* for block status alone; NULL when not wanted or not offered */
	uint64_t bytes;
	uint8_t *memory;
	struct nbdio_slot slots[NBDIO_SLOTS];
	struct nbdio_slot *free, *done, *done_last;
};

static int nbdio_failure(const char *what, char sentence[SENTENCE_BYTES])
{
	const char *why = nbd_get_error();
	int err = nbd_get_errno();
	snprintf(sentence, SENTENCE_BYTES, "%s: %.200s.", what, why ? why : "no reason was given");
	return err ? -err : -EIO;
}

/* One handshake. */
static int nbdio_connect(const char *socket_path, const char *export_name, bool with_status,
			 struct nbd_handle **ret_handle, char sentence[SENTENCE_BYTES])
{
	struct nbd_handle *handle = nbd_create();
	if (!handle)
		return nbdio_failure("NBD cannot start", sentence);
	nbd_set_pread_initialize(handle, false); /* an error's buffer is never looked at */
	int res = nbd_set_export_name(handle, export_name);
	if (res == 0 && with_status)
		res = nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION);
	if (res == 0)
		res = nbd_connect_unix(handle, socket_path);
	if (res < 0) {
		res = nbdio_failure("The volume's data cannot be reached over NBD", sentence);
		nbd_close(handle);
		return res;
	}
	*ret_handle = handle;
	return 0;
}

static int nbdio_memory(struct nbdio *nbdio, char sentence[SENTENCE_BYTES])
{
	nbdio->memory = aligned_alloc(4096, (size_t)NBDIO_SLOTS * NBDIO_REQUEST_BYTES);
	if (!nbdio->memory) {
		snprintf(sentence, SENTENCE_BYTES, "There is not enough memory for the buffers.");
		return -ENOMEM;
	}
	for (unsigned i = nbdio->connection_count * NBDIO_DEPTH; i-- > 0;) {
		struct nbdio_slot *slot = &nbdio->slots[i];
		slot->owner = nbdio;
		slot->data = nbdio->memory + (size_t)i * NBDIO_REQUEST_BYTES;
		slot->next = nbdio->free;
		nbdio->free = slot;
	}
	return 0;
}

int nbdio_open(const char *socket_path, const char *export_name, bool with_status,
	       struct nbdio **ret_nbdio, char ret_sentence[SENTENCE_BYTES])
{
	struct nbdio *nbdio = calloc(1, sizeof *nbdio);
	if (!nbdio) {
		snprintf(ret_sentence, SENTENCE_BYTES, "There is not enough memory.");
		return -ENOMEM;
	}
	int res = nbdio_connect(socket_path, export_name, false, &nbdio->connections[0],
				ret_sentence);
	unsigned wanted = 1;
	if (res == 0) {
		nbdio->connection_count = 1;
		int64_t bytes = nbd_get_size(nbdio->connections[0]);
		if (bytes < 0)
			res = nbdio_failure("The volume's size is unknown", ret_sentence);
		nbdio->bytes = bytes < 0 ? 0 : (uint64_t)bytes;
		if (nbd_can_multi_conn(nbdio->connections[0]) > 0)
			wanted = NBDIO_CONNECTIONS;
	}
	while (res == 0 && nbdio->connection_count < wanted) {
		res = nbdio_connect(socket_path, export_name, false,
				    &nbdio->connections[nbdio->connection_count], ret_sentence);
		nbdio->connection_count += res == 0;
	}
	if (res == 0 && with_status)
		res = nbdio_connect(socket_path, export_name, true, &nbdio->status, ret_sentence);
	if (res == 0)
		res = nbdio_memory(nbdio, ret_sentence);
	if (res < 0) {
		nbdio_close(nbdio);
		return res;
	}
	*ret_nbdio = nbdio;
	return 0;
}

/* A goodbye only when nothing is in flight: else it would wait for answers that may never come. */
static void nbdio_disconnect(struct nbd_handle *handle, unsigned in_flight)
{
	if (!handle)
		return;
	if (in_flight == 0 && nbd_aio_is_ready(handle) > 0)
		nbd_shutdown(handle, 0);
	nbd_close(handle);
}

void nbdio_close(struct nbdio *nbdio)
{
	if (!nbdio)
		return;
	for (unsigned i = 0; i < nbdio->connection_count; i++)
		nbdio_disconnect(nbdio->connections[i], nbdio->in_flight[i]);
	nbdio_disconnect(nbdio->status, 0);
	free(nbdio->memory);
	free(nbdio);
}

uint64_t nbdio_bytes(const struct nbdio *nbdio)
{
	return nbdio->bytes;
}

/* Runs inside libnbd, which must not be called from here: only notes what came. */
static int nbdio_answered(void *state, int *error)
{
	struct nbdio_slot *slot = state;
	struct nbdio *nbdio = slot->owner;
	assert(nbdio->in_flight[slot->connection] > 0);
	nbdio->in_flight[slot->connection]--;
	slot->error = *error;
	slot->next = NULL;
	if (nbdio->done)
		nbdio->done_last->next = slot;
	else
		nbdio->done = slot;
	nbdio->done_last = slot;
	return 1; /* libnbd may forget it */
}

static int nbdio_start(struct nbdio *nbdio, bool write, struct nbdio_slot *slot,
		       char sentence[SENTENCE_BYTES])
{
	unsigned least = 0;
	for (unsigned i = 1; i < nbdio->connection_count; i++)
		if (nbdio->in_flight[i] < nbdio->in_flight[least])
			least = i;
	struct nbd_handle *handle = nbdio->connections[least];
	nbd_completion_callback answered = {.callback = nbdio_answered, .user_data = slot};
	slot->connection = least;
	nbdio->in_flight[least]++; /* before: an answer may come within the call */
	int64_t cookie = write ? nbd_aio_pwrite(handle, slot->payload, slot->length_bytes,
						slot->offset_bytes, answered, 0)
			       : nbd_aio_pread(handle, slot->payload, slot->length_bytes,
					       slot->offset_bytes, answered, 0);
	if (cookie >= 0)
		return 0;
	nbdio->in_flight[least]--;
	return nbdio_failure("The connection to the volume broke", sentence);
}

/* Gives the free slots work. Returns 1 while there may be more, 0 when there is none. */
static int nbdio_feed(struct nbdio *nbdio, const struct nbdio_copy *copy,
		      char sentence[SENTENCE_BYTES])
{
	while (nbdio->free) {
		struct nbdio_slot *slot = nbdio->free;
		slot->payload = slot->data;
		int res = copy->next(copy->state, slot, sentence);
		if (res <= 0)
			return res;
		assert(slot->length_bytes <= NBDIO_REQUEST_BYTES);
		nbdio->free = slot->next;
		res = nbdio_start(nbdio, copy->write, slot, sentence);
		if (res < 0)
			return res;
	}
	return 1;
}

/* Hands answers on and frees their slots. */
static int nbdio_harvest(struct nbdio *nbdio, const struct nbdio_copy *copy,
			 char sentence[SENTENCE_BYTES])
{
	while (nbdio->done) {
		struct nbdio_slot *slot = nbdio->done;
		nbdio->done = slot->next;
		if (slot->error) {
			snprintf(sentence, SENTENCE_BYTES,
				 "The volume answered a %s at %llu with: %s.",
				 copy->write ? "write" : "read",
				 (unsigned long long)slot->offset_bytes, strerror(slot->error));
			return -slot->error;
		}
		int res = copy->arrived(copy->state, slot, sentence);
		if (res < 0)
			return res;
		slot->next = nbdio->free;
		nbdio->free = slot;
	}
	return 0;
}

/* Waits for the sockets and moves bytes, one pass. */
static int nbdio_wait(struct nbdio *nbdio, int timeout_ms, char sentence[SENTENCE_BYTES])
{
	struct pollfd fds[NBDIO_CONNECTIONS];
	for (unsigned i = 0; i < nbdio->connection_count; i++) {
		unsigned direction = nbd_aio_get_direction(nbdio->connections[i]);
		fds[i] = (struct pollfd){.fd = nbd_aio_get_fd(nbdio->connections[i])};
		fds[i].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
					(direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	}
	if (poll(fds, nbdio->connection_count, timeout_ms) < 0 && errno != EINTR) {
		int err = errno;
		snprintf(sentence, SENTENCE_BYTES, "poll: %s.", strerror(err));
		return -err;
	}
	for (unsigned i = 0; i < nbdio->connection_count; i++) {
		struct nbd_handle *handle = nbdio->connections[i];
		int res = 0;
		if (fds[i].revents & POLLOUT && fds[i].events & POLLOUT)
			res = nbd_aio_notify_write(handle);
		else if (fds[i].revents) /* hanging up shows as a read of nothing */
			res = nbd_aio_notify_read(handle);
		if (res < 0 || nbd_aio_is_dead(handle) > 0 || nbd_aio_is_closed(handle) > 0) {
			nbdio_failure("The connection to the volume broke", sentence);
			return -ENOTCONN;
		}
	}
	return 0;
}

static bool nbdio_busy(const struct nbdio *nbdio)
{
	unsigned count = 0;
	for (unsigned i = 0; i < nbdio->connection_count; i++)
		count += nbdio->in_flight[i];
	return count > 0 || nbdio->done;
}

int nbdio_run(struct nbdio *nbdio, const struct ctl *ctl, const struct nbdio_copy *copy,
	      char ret_sentence[SENTENCE_BYTES])
{
	int more = 1;
	while (more || nbdio_busy(nbdio)) {
		int left_ms = ctl_left_ms(ctl), res;
		if (ctl_interrupted || left_ms == 0) {
			snprintf(ret_sentence, SENTENCE_BYTES, "%s",
				 ctl_interrupted ? "Interrupted." : "It did not end in time.");
			return ctl_interrupted ? -EINTR : -ETIMEDOUT;
		}
		if (more) {
			more = nbdio_feed(nbdio, copy, ret_sentence);
			if (more < 0)
				return more;
		}
		if (nbdio_busy(nbdio) && !nbdio->done) {
			res = nbdio_wait(nbdio,
					 left_ms >= 0 && left_ms < NBDIO_POLL_MS ? left_ms
										 : NBDIO_POLL_MS,
					 ret_sentence);
			if (res < 0)
				return res;
		}
		res = nbdio_harvest(nbdio, copy, ret_sentence);
		if (res < 0)
			return res;
	}
	return 0;
}

int nbdio_flush(struct nbdio *nbdio, char ret_sentence[SENTENCE_BYTES])
{
	if (nbd_can_flush(nbdio->connections[0]) <= 0)
		return 0; /* then every answer already was a promise */
	if (nbd_flush(nbdio->connections[0], 0) < 0)
		return nbdio_failure("What was written could not be made durable", ret_sentence);
	return 0;
}

struct nbdio_status {
	struct nbdio_extent *extents;
	uint64_t covered_bytes, wanted_bytes;
	int count;
	bool failed;
};

/* Pairs of length and flags. The last may reach beyond what was asked for. */
static int nbdio_described(void *state, const char *context, uint64_t offset, uint32_t *entries,
			   size_t entry_count, int *error)
{
	struct nbdio_status *status = state;
	if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
		return 0;
	free(status->extents);
	*status = (struct nbdio_status){.wanted_bytes = status->wanted_bytes};
	status->extents = calloc(entry_count / 2 + 1, sizeof(*status->extents));
	status->failed = !status->extents;
	for (size_t i = 0; status->extents && i + 1 < entry_count; i += 2) {
		uint64_t left = status->wanted_bytes - status->covered_bytes;
		uint64_t length = entries[i] < left ? entries[i] : left;
		if (length == 0)
			break;
		status->extents[status->count++] = (struct nbdio_extent){
			.length_bytes = length, .hole = entries[i + 1] & LIBNBD_STATE_ZERO};
		status->covered_bytes += length;
	}
	return 0;
}

int nbdio_extents(struct nbdio *nbdio, uint64_t offset_bytes, uint64_t length_bytes,
		  struct nbdio_extent **ret_extents, char ret_sentence[SENTENCE_BYTES])
{
	struct nbdio_status status = {.wanted_bytes = length_bytes};
	bool offered = nbdio->status &&
		       nbd_can_meta_context(nbdio->status, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	nbd_extent_callback described = {.callback = nbdio_described, .user_data = &status};
	if (offered &&
	    nbd_block_status(nbdio->status, length_bytes, offset_bytes, described, 0) < 0) {
		free(status.extents);
		return nbdio_failure("The volume did not say where its data is", ret_sentence);
	}
	if (!status.count) {
		free(status.extents);
		status.extents = calloc(1, sizeof(*status.extents));
		status.failed = !status.extents;
		if (status.extents)
			*status.extents = (struct nbdio_extent){.length_bytes = length_bytes};
		status.count = 1;
	}
	if (status.failed) {
		free(status.extents);
		snprintf(ret_sentence, SENTENCE_BYTES, "There is not enough memory.");
		return -ENOMEM;
	}
	*ret_extents = status.extents;
	return status.count;
}
