/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume export. The image grows under the name FILE.part, locked, and takes its own name when all
 * of it is on disk: a file under the wanted name is complete. Holes of the volume and chunks of
 * zeros become holes of the file. Images hold a guest's data: only their owner may read them.
 */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/progress.h"
#include "agent/ctl/table.h"
#include "agent/ctl/transfer.h"
#include "proto/text.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT_WINDOW_BYTES (256 * MIB) /* asked for its extents at once */
#define EXPORT_WRITEBACK_BYTES (32 * MIB)

struct export
{
	struct ctl *ctl;
	const char *name, *file;
	char *part; /* FILE.part */
	int fd;
	struct nbdio *nbdio;
	struct progress progress;
	uint64_t start_ns;

	uint64_t at;	/* what is before it was asked for, or is a hole */
	uint64_t bytes; /* of the volume */
	struct nbdio_extent *extents;
	int extent, extent_count; /* the one that `at` is in */
	uint64_t written_bytes, unsynced_bytes;
};

/* Makes extents[extent] the one that begins at `at`. */
static int export_look(struct export *export, char sentence[SENTENCE_BYTES])
{
	if (export->extent + 1 < export->extent_count) {
		export->extent++;
		return 0;
	}
	free(export->extents);
	export->extents = NULL;
	export->extent = 0;
	export->extent_count = 0;
	int res = nbdio_extents(export->nbdio, export->at,
				min_u64(EXPORT_WINDOW_BYTES, export->bytes - export->at),
				&export->extents, sentence);
	if (res > 0)
		export->extent_count = res;
	return res < 0 ? res : 0;
}

static int export_next(void *state, struct nbdio_slot *slot, char sentence[SENTENCE_BYTES])
{
	struct export *export = state;
	while (export->at < export->bytes) {
		struct nbdio_extent *extent =
			export->extents ? &export->extents[export->extent] : NULL;
		if (!extent || extent->length_bytes == 0) {
			int res = export_look(export, sentence);
			if (res < 0)
				return res;
			continue;
		}
		uint64_t bytes = extent->length_bytes;
		if (!extent->hole)
			bytes = min_u64(bytes, NBDIO_REQUEST_BYTES);
		slot->offset_bytes = export->at;
		slot->length_bytes = extent->hole ? 0 : (uint32_t)bytes;
		extent->length_bytes -= bytes;
		export->at += bytes;
		progress_at(&export->progress, export->at, export->bytes);
		if (slot->length_bytes)
			return 1;
	}
	return 0;
}

static int export_write(struct export *export, const uint8_t *from, size_t bytes, uint64_t offset,
			char sentence[SENTENCE_BYTES])
{
	export->written_bytes += bytes;
	export->unsynced_bytes += bytes;
	while (bytes) {
		ssize_t n = pwrite(export->fd, from, bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int err = errno;
			snprintf(sentence, SENTENCE_BYTES, "The file cannot be written: %s.",
				 strerror(err));
			return -err;
		}
		from += n;
		offset += (uint64_t)n;
		bytes -= (size_t)n;
	}
	if (export->unsynced_bytes >= EXPORT_WRITEBACK_BYTES) {
		/* Starts the disk early, so that the fsync at the end is short; its result counts.
		 */
		sync_file_range(export->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		export->unsynced_bytes = 0;
	}
	return 0;
}

/* Writes the runs of chunks that are not zero. */
static int export_arrived(void *state, const struct nbdio_slot *slot, char sentence[SENTENCE_BYTES])
{
	struct export *export = state;
	size_t start = 0, at = 0, bytes = slot->length_bytes;
	while (at < bytes) {
		uint64_t chunk_end = round_down(slot->offset_bytes + at, CHUNK_BYTES) + CHUNK_BYTES;
		size_t step = min_u64(chunk_end - slot->offset_bytes - at, bytes - at);
		if (transfer_is_zero(slot->payload + at, step)) {
			int res = export_write(export, slot->payload + start, at - start,
					       slot->offset_bytes + start, sentence);
			if (res < 0)
				return res;
			start = at + step;
		}
		at += step;
	}
	return export_write(export, slot->payload + start, at - start, slot->offset_bytes + start,
			    sentence);
}

static int export_copy(struct export *export, char sentence[SENTENCE_BYTES])
{
	const struct nbdio_copy copy = {
		.next = export_next, .arrived = export_arrived, .state = export};
	char socket[TRANSFER_PATH_BYTES];
	int res = transfer_open(export->ctl, export->name, true, socket, &export->nbdio, sentence);
	if (res < 0)
		return res;
	export->bytes = nbdio_bytes(export->nbdio);
	if (ftruncate(export->fd, (off_t) export->bytes) < 0) {
		res = -errno;
		snprintf(sentence, SENTENCE_BYTES, "The file cannot have that size: %s.",
			 strerror(-res));
	} else {
		res = nbdio_run(export->nbdio, export->ctl, &copy, sentence);
	}
	free(export->extents);
	nbdio_close(export->nbdio);
	return res;
}

/* Opens FILE.part, ours alone. An exit code. */
static int export_open(struct export *export)
{
	const struct ctl *ctl = export->ctl;
	struct stat opened, named;
	export->fd = open(export->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (export->fd < 0)
		return ctl_fail(ctl, ctl_exit_of_err(errno), "%s cannot be written: %s.",
				export->part, strerror(errno));
	/* Between our open and our lock another export may have finished: then what we hold is its
	 * image under its own name, and must not be touched. */
	if (flock(export->fd, LOCK_EX | LOCK_NB) < 0 || fstat(export->fd, &opened) < 0 ||
	    stat(export->part, &named) < 0 || opened.st_ino != named.st_ino ||
	    opened.st_dev != named.st_dev)
		return ctl_fail(ctl, CTL_BUSY, "Another export writes %s now; wait for its end.",
				export->part);
	/* What an export that was killed left behind. */
	if (ftruncate(export->fd, 0) < 0)
		return ctl_fail(ctl, CTL_FAILED, "%s cannot be emptied: %s.", export->part,
				strerror(errno));
	return 0;
}

/* All of it on disk, then the name, then the name on disk. */
static int export_publish(struct export *export, char sentence[SENTENCE_BYTES])
{
	unsigned flags = export->ctl->yes ? 0 : RENAME_NOREPLACE;
	int res = 0;
	if (fsync(export->fd) < 0)
		res = -errno;
	else if (renameat2(AT_FDCWD, export->part, AT_FDCWD, export->file, flags) < 0)
		res = -errno;
	if (res == -EINVAL && !export->ctl->yes && rename(export->part, export->file) == 0)
		res = 0; /* a file system without that flag; its name was free when we looked */
	if (res == 0) {
		char *copy = strdup(export->file);
		int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		if (fd < 0 || fsync(fd) < 0)
			res = -errno;
		if (fd >= 0)
			close(fd);
		free(copy);
	}
	if (res < 0)
		snprintf(sentence, SENTENCE_BYTES, "The file cannot be made durable: %s.",
			 strerror(-res));
	return res;
}

/* What can be refused before anything is written: FILE is there, NAME is not. */
static int export_check(struct ctl *ctl)
{
	const char *name = ctl->args[0], *file = ctl->args[1];
	const char *where = strchr(name, '@') ? "/v1/snapshots/" : "/v1/volumes/";
	char path[CLIENT_PATH_ROOM];
	struct stat st;
	VALUE_AUTO document = NULL;
	int res = name_check_either(ctl, name);
	if (res)
		return res;
	if (lstat(file, &st) == 0) {
		if (!S_ISREG(st.st_mode))
			return ctl_fail(ctl, CTL_USAGE, "%s is there and no file; name another.",
					file);
		if (!ctl->yes)
			return ctl_fail(ctl, CTL_EXISTS,
					"%s is there already; say --yes to replace it.", file);
	}
	return call_get(ctl, client_path(path, where, name, ""), &document);
}

static int export_print(const struct export *export)
{
	const struct ctl *ctl = export->ctl;
	char size[32], written[32];
	double seconds = (double)(ctl_now_ns() - export->start_ns) / (double)NSEC_PER_SEC;
	ctl_say(ctl, "%s was exported to %s: %s, of which %s were written, in %.1f s.",
		export->name, export->file, text_human(export->bytes, size, sizeof size),
		text_human(export->written_bytes, written, sizeof written), seconds);
	if (ctl->format == FORMAT_NAME)
		table_print_line(export->file);
	if (ctl->format == FORMAT_JSON) {
		VALUE_AUTO shown = value_object();
		struct value *object = value_object();
		value_set_integer(shown, "schema", 1);
		value_set_bool(shown, "changed", true);
		value_set_text(object, "name", export->name);
		value_set_text(object, "file", export->file);
		value_set_integer(object, "size_bytes", (int64_t) export->bytes);
		value_set_integer(object, "written_bytes", (int64_t) export->written_bytes);
		value_set(shown, "object", object);
		table_print_json(shown);
	}
	return CTL_OK;
}

static int export_run(struct export *export)
{
	char sentence[SENTENCE_BYTES] = "";
	int res = export_open(export);
	if (res)
		return res;
	progress_init(&export->progress, export->ctl, "export", true);
	int err = export_copy(export, sentence);
	if (err == 0)
		err = export_publish(export, sentence);
	progress_done(&export->progress);
	if (err == 0)
		return export_print(export);
	unlink(export->part);
	res = ctl_fail(export->ctl, ctl_exit_of_err(err), "%s was not exported: %s", export->name,
		       sentence);
	if (ctl_interrupted)
		ctl_die_of_signal();
	return res;
}

int verb_volume_export(struct ctl *ctl)
{
	struct export export = {.ctl = ctl,
				.name = ctl->args[0],
				.file = ctl->args[1],
				.fd = -1,
				.start_ns = ctl_now_ns()};
	int res = export_check(ctl);
	if (res)
		return res;
	if (ctl->dry_run) {
		ctl_say(ctl, "%s would be written to %s (--dry-run).", export.name, export.file);
		return CTL_OK;
	}
	if (asprintf(&export.part, "%s.part", export.file) < 0)
		return ctl_fail(ctl, CTL_FAILED, "There is not enough memory.");
	res = export_run(&export);
	if (export.fd >= 0)
		close(export.fd);
	free(export.part);
	return res;
}
