/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume import. The volume is made first, so that its name is ours or the verb fails with nothing
 * done; from then on every failure, Ctrl-C too, moves it to the trash: a volume under the wanted
 * name is complete and durable. Chunks of zeros are not written: a new volume reads as zeros.
 */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/image.h"
#include "agent/ctl/names.h"
#include "agent/ctl/progress.h"
#include "agent/ctl/table.h"
#include "agent/ctl/transfer.h"
#include "proto/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define IMPORT_AHEAD_BYTES (32 * MIB) /* read ahead of what is sent */
#define IMPORT_UNDO_NS (15 * NSEC_PER_SEC)

struct import {
	struct ctl *ctl;
	struct image image;
	const char *name;
	char uuid[64]; /* of the volume that we made */
	struct progress progress;
	uint64_t start_ns;

	/* A raw file's copy. at: what is before it was sent or is zero; a multiple of a chunk, or
	 * the file's end. data_end: up to where the file has no hole, known so far. */
	int fd;
	uint64_t at, data_end, ahead;
	uint64_t sent_bytes;
};

/* Moves `at` to the next data, or to the file's end. Where holes cannot be told all is data. */
static int import_seek(struct import *import, char sentence[SENTENCE_BYTES])
{
	uint64_t bytes = import->image.bytes;
	off_t data = lseek(import->fd, (off_t)import->at, SEEK_DATA);
	off_t hole = data < 0 ? -1 : lseek(import->fd, data, SEEK_HOLE);
	if (data < 0 && errno == ENXIO) {
		import->at = bytes;
		return 0;
	}
	if (data < 0 || hole < 0) {
		if (errno != EINVAL && errno != ENOTSUP) {
			int err = errno;
			snprintf(sentence, SENTENCE_BYTES, "The file cannot be searched: %s.",
				 strerror(err));
			return -err;
		}
		import->data_end = bytes;
		return 0;
	}
	import->at = max_u64(import->at, round_down((uint64_t)data, CHUNK_BYTES));
	import->data_end = min_u64(round_up((uint64_t)hole, CHUNK_BYTES), bytes);
	if (import->at >= bytes)
		import->at = bytes; /* it has grown since we measured it */
	return 0;
}

static int import_read(const struct import *import, uint8_t *to, size_t bytes,
		       char sentence[SENTENCE_BYTES])
{
	for (size_t got = 0; got < bytes;) {
		ssize_t n = pread(import->fd, to + got, bytes - got, (off_t)(import->at + got));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int err = n < 0 ? errno : EIO;
			snprintf(sentence, SENTENCE_BYTES, "The file cannot be read at %llu: %s.",
				 (unsigned long long)(import->at + got),
				 n < 0 ? strerror(err) : "it became shorter");
			return -err;
		}
		got += (size_t)n;
	}
	return 0;
}

static void import_read_ahead(struct import *import)
{
	if (import->at + IMPORT_AHEAD_BYTES / 2 < import->ahead)
		return;
	import->ahead = max_u64(import->ahead, import->at);
	posix_fadvise(import->fd, (off_t)import->ahead, IMPORT_AHEAD_BYTES, POSIX_FADV_WILLNEED);
	import->ahead += IMPORT_AHEAD_BYTES;
}

/* The part of data[0..bytes) without the chunks of zeros at its ends. Those between stay: the
 * store finds them, and one large request is cheaper than several. 0: all of it is zeros. */
static size_t import_trim(const uint8_t *data, size_t bytes, size_t *ret_skip)
{
	size_t skip = 0, end = round_up(bytes, CHUNK_BYTES);
	while (skip < bytes && transfer_is_zero(data + skip, min_u64(CHUNK_BYTES, bytes - skip)))
		skip += CHUNK_BYTES;
	if (skip >= bytes)
		return 0;
	while (transfer_is_zero(data + end - CHUNK_BYTES,
				min_u64(bytes, end) - (end - CHUNK_BYTES)))
		end -= CHUNK_BYTES;
	*ret_skip = skip;
	return min_u64(bytes, end) - skip;
}

static int import_next(void *state, struct nbdio_slot *slot, char sentence[SENTENCE_BYTES])
{
	struct import *import = state;
	while (import->at < import->image.bytes) {
		if (import->at >= import->data_end) {
			int res = import_seek(import, sentence);
			if (res < 0)
				return res;
			continue;
		}
		/* Up to a multiple of the request's size, so that chunks are never cut in two. */
		uint64_t end = round_down(import->at, NBDIO_REQUEST_BYTES) + NBDIO_REQUEST_BYTES;
		size_t wanted = min_u64(end, import->data_end) - import->at;
		size_t bytes =
			round_up(wanted, BLOCK_BYTES); /* the volume's last block may be longer */
		import_read_ahead(import);
		int res = import_read(import, slot->data, wanted, sentence);
		if (res < 0)
			return res;
		memset(slot->data + wanted, 0, bytes - wanted);
		size_t skip = 0, sent = import_trim(slot->data, bytes, &skip);
		slot->payload = slot->data + skip;
		slot->offset_bytes = import->at + skip;
		slot->length_bytes = (uint32_t)sent;
		import->at += wanted;
		progress_at(&import->progress, import->at, import->image.bytes);
		if (sent)
			return 1;
	}
	return 0;
}

static int import_arrived(void *state, const struct nbdio_slot *slot, char sentence[SENTENCE_BYTES])
{
	struct import *import = state;
	import->sent_bytes += slot->length_bytes;
	return 0;
}

static int import_copy_raw(struct import *import, struct nbdio *nbdio,
			   char sentence[SENTENCE_BYTES])
{
	const struct nbdio_copy copy = {
		.write = true, .next = import_next, .arrived = import_arrived, .state = import};
	import->fd = open(import->image.path, O_RDONLY | O_CLOEXEC);
	if (import->fd < 0) {
		int err = errno;
		snprintf(sentence, SENTENCE_BYTES, "The file cannot be opened: %s.", strerror(err));
		return -err;
	}
	posix_fadvise(import->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	int res = nbdio_run(nbdio, import->ctl, &copy, sentence);
	close(import->fd);
	return res;
}

static void import_percent(void *state, unsigned percent_100)
{
	struct import *import = state;
	import->sent_bytes = import->image.bytes / 10000 * percent_100;
	progress_at(&import->progress, import->sent_bytes, import->image.bytes);
}

/* Copies and makes durable. Nothing is connected to the volume when it returns. */
static int import_copy(struct import *import, char sentence[SENTENCE_BYTES])
{
	char socket[TRANSFER_PATH_BYTES];
	struct nbdio *nbdio;
	int res = transfer_open(import->ctl, import->name, false, socket, &nbdio, sentence);
	if (res < 0)
		return res;
	if (nbdio_bytes(nbdio) < import->image.bytes) {
		snprintf(sentence, SENTENCE_BYTES, "The new volume is smaller than the image.");
		res = -EIO;
	} else if (strcmp(import->image.format, "raw") == 0) {
		res = import_copy_raw(import, nbdio, sentence);
	} else {
		res = image_convert(import->ctl, &import->image, socket, import->name,
				    import_percent, import, sentence);
	}
	if (res == 0) /* covers what other connections wrote */
		res = nbdio_flush(nbdio, sentence);
	nbdio_close(nbdio);
	return res;
}

/* Makes the volume. An exit code; CTL_EXISTS when the name is taken. */
static int import_create(struct import *import)
{
	struct ctl *ctl = import->ctl;
	struct client_reply reply;
	VALUE_AUTO body = value_object();
	value_set_text(body, "name", import->name);
	value_set_integer(body, "size_bytes", (int64_t)round_up(import->image.bytes, BLOCK_BYTES));
	int res = volume_options(ctl, body);
	if (res)
		return res;
	char *text = value_dump(body, false);
	const struct client_request request = {
		.method = "POST", .path = "/v1/volumes", .body = text, .timeout_ms = -1};
	res = call_raw(ctl, &request, &reply);
	free(text);
	if (res)
		return res;
	if (reply.status < 200 || reply.status >= 300) {
		res = call_error(ctl, &reply);
	} else {
		VALUE_AUTO document = value_parse(reply.body, reply.body_bytes);
		snprintf(import->uuid, sizeof import->uuid, "%s",
			 value_get_text(call_object(document, "volume"), "uuid"));
	}
	free(reply.body);
	return res;
}

/* Is the volume of this name still the one that we made? */
static bool import_is_ours(struct import *import, const char *path)
{
	char sentence[SENTENCE_BYTES];
	struct client_reply reply;
	const struct client_request request = {.method = "GET", .path = path, .timeout_ms = -1};
	if (call_try(import->ctl, &request, &reply, sentence) < 0)
		return false;
	VALUE_AUTO document = value_parse(reply.body, reply.body_bytes);
	free(reply.body);
	const char *uuid = value_get_text(call_object(document, "volume"), "uuid");
	return reply.status == 200 && strcmp(uuid, import->uuid) == 0;
}

/* Moves the half-imported volume to the trash, even after a signal or a timeout; the daemon may
 * need a moment until it sees that nobody is connected. False when it did not work. */
static bool import_undo(struct import *import)
{
	char path[CLIENT_PATH_ROOM], sentence[SENTENCE_BYTES];
	struct ctl *ctl = import->ctl;
	int number = ctl_interrupted;
	bool gone = false;
	ctl_interrupted = 0;
	ctl->deadline_ns = ctl_now_ns() + IMPORT_UNDO_NS;
	client_path(path, "/v1/volumes/", import->name, "");
	while (!gone && ctl_left_ms(ctl) > 0 && !ctl_interrupted) {
		const struct timespec pause = {.tv_nsec = 100 * (long)NSEC_PER_MSEC};
		const struct client_request request = {
			.method = "DELETE", .path = path, .timeout_ms = -1};
		struct client_reply reply;
		if (!import_is_ours(import, path) || call_try(ctl, &request, &reply, sentence) < 0)
			break;
		free(reply.body);
		gone = reply.status >= 200 && reply.status < 300;
		if (!gone && reply.status != 409)
			break;
		if (!gone)
			nanosleep(&pause, NULL);
	}
	if (number)
		ctl_interrupted = number;
	return gone;
}

static int import_failed(struct import *import, int err, const char *sentence)
{
	const struct ctl *ctl = import->ctl;
	bool gone = import_undo(import);
	int res = ctl_fail(ctl, ctl_exit_of_err(err), "%s was not imported: %s %s%s%s",
			   import->image.path, sentence,
			   gone ? "The unfinished volume "
				: "The unfinished volume is still there; delete it with: vstorectl "
				  "volume delete ",
			   import->name, gone ? " is in the trash." : "");
	if (ctl_interrupted)
		ctl_die_of_signal();
	return res;
}

/* The volume as it is now, for -o json and -o name; words for a person. */
static int import_print(struct import *import)
{
	struct ctl *ctl = import->ctl;
	char path[CLIENT_PATH_ROOM], size[32], sent[32];
	VALUE_AUTO document = NULL;
	VALUE_AUTO shown = value_object();
	double seconds = (double)(ctl_now_ns() - import->start_ns) / (double)NSEC_PER_SEC;
	if (strcmp(import->image.format, "raw") == 0)
		ctl_say(ctl, "Volume %s was imported: %s, of which %s were written, in %.1f s.",
			import->name, text_human(import->image.bytes, size, sizeof size),
			text_human(import->sent_bytes, sent, sizeof sent), seconds);
	else
		ctl_say(ctl, "Volume %s was imported: %s from %s in %.1f s.", import->name,
			text_human(import->image.bytes, size, sizeof size), import->image.format,
			seconds);
	if (ctl->format == FORMAT_NAME)
		table_print_line(import->name);
	if (ctl->format != FORMAT_JSON)
		return CTL_OK;
	int res = call_get(ctl, client_path(path, "/v1/volumes/", import->name, ""), &document);
	if (res)
		return res;
	value_set_integer(shown, "schema", 1);
	value_set_bool(shown, "changed", true);
	value_set(shown, "object", value_ref(call_object(document, "volume")));
	table_print_json(shown);
	return CTL_OK;
}

/* What can be refused before anything is made. */
static int import_look(struct import *import)
{
	const struct ctl *ctl = import->ctl;
	const char *file = ctl->args[0];
	int res = name_check(ctl, import->name);
	if (res == 0)
		res = image_look(ctl, file, ctl_option(ctl, "format"), &import->image);
	if (res)
		return res;
	if (*import->image.outside && !ctl_option(ctl, "allow-backing"))
		return ctl_fail(ctl, CTL_DENIED,
				"%s takes data from another file, %.100s; if you trust that, say "
				"--allow-backing.",
				file, import->image.outside);
	if (import->image.bytes == 0)
		return ctl_fail(ctl, CTL_FAILED, "%s is empty; there is nothing to import.", file);
	if (import->image.bytes > VOLUME_BYTES_MAX)
		return ctl_fail(ctl, CTL_FAILED, "%s is larger than a volume can be, 256 TiB.",
				file);
	return 0;
}

int verb_volume_import(struct ctl *ctl)
{
	return import_file(ctl, ctl->args[1]);
}

int import_file(struct ctl *ctl, const char *name)
{
	struct import import = {.ctl = ctl, .name = name, .start_ns = ctl_now_ns()};
	char sentence[SENTENCE_BYTES] = "", size[32];
	int res = import_look(&import);
	if (res)
		return res;
	if (ctl->dry_run) {
		ctl_say(ctl, "Volume %s would be made with %s from %s, format %s (--dry-run).",
			import.name, text_human(import.image.bytes, size, sizeof size),
			import.image.path, import.image.format);
		return CTL_OK;
	}
	res = import_create(&import);
	if (res)
		return res;
	progress_init(&import.progress, ctl, "import", true);
	res = import_copy(&import, sentence);
	progress_done(&import.progress);
	return res < 0 ? import_failed(&import, res, sentence) : import_print(&import);
}
