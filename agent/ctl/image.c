/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume import and volume export. Raw images are read here; every other format is qemu-img's
 * business, run as a program.
 *
 * Keeps true: a volume that exists is never written to; an import that fails leaves its half-made
 * volume in the trash; an export appears under its name only when it is whole and synced.
 */
#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/progress.h"
#include "agent/ctl/stream.h"
#include "agent/ctl/verbs.h"

#include "proto/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define INFO_BYTES_MAX (1u << 20)

extern char **environ;

struct image {
	const char *path;
	char format[32];
	uint64_t bytes; /* of the disk that it holds */
	char backing[256];
};

/* RUN/nbd/NAME.sock beside the control socket. */
static int nbd_socket(const struct ctl *ctl, const char *name, char *out, size_t room)
{
	const char *slash = strrchr(ctl->socket, '/');
	int run = slash ? (int)(slash - ctl->socket) : 1;
	int bytes = snprintf(out, room, "%.*s/nbd/%.*s.sock", run, slash ? ctl->socket : ".",
			     (int)strcspn(name, "@"), name);
	return bytes > 0 && (size_t)bytes < room ? 0 : -ENAMETOOLONG;
}

static bool all_zero(const void *data, size_t bytes)
{
	const uint8_t *at = data;
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* ---- qemu-img ---- */

/* Runs a program; its output into out (NULL: ours). Returns its exit status, or negative. */
static int run(const char *const *argv, char *out, size_t room)
{
	posix_spawn_file_actions_t actions;
	int pipes[2] = {-1, -1}, status;
	size_t used = 0;
	pid_t pid;
	if (out && pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, out ? pipes[1] : STDERR_FILENO, STDOUT_FILENO);
	int res = -posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (out)
		close(pipes[1]);
	while (res == 0 && out && used + 1 < room) {
		ssize_t got = read(pipes[0], out + used, room - 1 - used);
		if (got <= 0 && !(got < 0 && errno == EINTR))
			break;
		used += got > 0 ? (size_t)got : 0;
	}
	if (out) {
		out[used] = 0;
		close(pipes[0]);
	}
	if (res < 0)
		return res;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static int image_inspect(const struct ctl *ctl, struct image *image)
{
	char *text = malloc(INFO_BYTES_MAX);
	const char *format = ctl_option(ctl, "format");
	const char *argv[] = {"qemu-img", "info", "--output=json", image->path, NULL, NULL, NULL};
	struct stat st;
	if (stat(image->path, &st) < 0 || !text) {
		free(text);
		return ctl_fail(ctl, errno == ENOENT ? CTL_NOT_FOUND : CTL_FAILED,
				"%s cannot be read: %s.", image->path, strerror(errno));
	}
	if (format && strcmp(format, "raw") == 0) {
		free(text);
		snprintf(image->format, sizeof image->format, "raw");
		image->bytes = (uint64_t)st.st_size;
		return 0;
	}
	if (format) {
		argv[3] = "-f";
		argv[4] = format;
		argv[5] = image->path;
	}
	int status = run(argv, text, INFO_BYTES_MAX);
	VALUE_AUTO info = status == 0 ? value_parse(text, strlen(text)) : NULL;
	free(text);
	if (status == -ENOENT)
		return ctl_fail(ctl, CTL_FAILED,
				"qemu-img is not installed, so only --format raw can be imported: "
				"install qemu-utils.");
	if (!info)
		return ctl_fail(ctl, CTL_FAILED, "qemu-img does not understand %s.", image->path);
	snprintf(image->format, sizeof image->format, "%s", value_get_text(info, "format"));
	image->bytes = (uint64_t)value_get_integer(info, "virtual-size");
	snprintf(image->backing, sizeof image->backing, "%s",
		 value_get_text(info, "backing-filename"));
	if (image->backing[0] && !ctl_option(ctl, "allow-backing"))
		return ctl_fail(ctl, CTL_DENIED,
				"%s refers to another file, %s: give --allow-backing if you trust "
				"it to read that file.",
				image->path, image->backing);
	return 0;
}

static int convert(const struct ctl *ctl, const struct image *image, const char *socket_path,
		   const char *name)
{
	char target[512];
	snprintf(target, sizeof target, "driver=nbd,server.type=unix,server.path=%s,export=%s",
		 socket_path, name);
	const char *argv[] = {
		"qemu-img",  "convert", "-n", "--target-is-zero", "-W",
		"-m",	     "16",	"-f", image->format,	  "--target-image-opts",
		image->path, target,	NULL};
	int status = run(argv, NULL, 0);
	if (status == 0)
		return 0;
	return ctl_fail(ctl, CTL_FAILED, "qemu-img could not copy %s into the volume.",
			image->path);
}

/* ---- import ---- */

/* Reads [at, end) of the file, which has data, and writes what is not zero. */
static int import_range(struct stream *stream, int fd, uint64_t at, uint64_t end,
			struct progress *progress, uint64_t total)
{
	while (at < end) {
		void *buffer = stream_buffer(stream);
		if (!buffer)
			return -EIO;
		uint64_t next = round_down(at, STREAM_PIECE_BYTES) + STREAM_PIECE_BYTES;
		uint32_t bytes = (uint32_t)(min_u64(next, end) - at);
		ssize_t got = pread(fd, buffer, bytes, (off_t)at);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA; /* it became shorter meanwhile */
		if (!all_zero(buffer, (size_t)got) && stream_write(stream, at, (uint32_t)got) < 0)
			return -EIO;
		at += (uint64_t)got;
		progress_at(progress, at, total);
	}
	return 0;
}

static int import_raw(struct ctl *ctl, const struct image *image, const char *socket_path,
		      const char *name)
{
	char sentence[SENTENCE_BYTES] = "";
	struct stream *stream = NULL;
	struct progress progress;
	uint64_t size, at = 0;
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return ctl_fail(ctl, CTL_FAILED, "%s cannot be read: %s.", image->path,
				strerror(errno));
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	int res = stream_open(socket_path, name, true, &stream, &size, sentence);
	progress_init(&progress, ctl, "import", true);
	while (res == 0 && at < image->bytes) {
		off_t data = lseek(fd, (off_t)at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break; /* a hole to the end */
		off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
		uint64_t from = data < 0 ? at : (uint64_t)data;
		uint64_t end = hole < 0 ? image->bytes : min_u64((uint64_t)hole, image->bytes);
		res = import_range(stream, fd, from, end, &progress, image->bytes);
		at = end;
	}
	if (res == 0)
		res = stream_finish(stream);
	progress_done(&progress);
	close(fd);
	if (stream && stream_sentence(stream)[0])
		snprintf(sentence, sizeof sentence, "%s", stream_sentence(stream));
	stream_close(stream);
	if (ctl_interrupted)
		return ctl_fail(ctl, CTL_FAILED, "The import was interrupted.");
	if (res < 0)
		return ctl_fail(ctl, ctl_exit_of_err(res), "The import of %s failed: %s",
				image->path, sentence[0] ? sentence : vs_strerror(res));
	return 0;
}

/* The half-made volume goes to the trash; what is said is said already. */
static void import_undo(struct ctl *ctl, const char *name)
{
	char path[HTTP_PATH_ROOM], sentence[SENTENCE_BYTES];
	struct http_reply reply = {0};
	const struct http_request request = {.method = "DELETE",
					     .path = http_path(path, "/v1/volumes/", name, "")};
	for (unsigned tries = 0; tries < 50; tries++) { /* its connections are just ending */
		if (call_try(ctl, &request, &reply, sentence) < 0)
			return;
		bool busy = reply.status == 409;
		free(reply.body);
		if (!busy)
			break;
		usleep(100000);
	}
	ctl_say(ctl, "The half-imported volume %s is in the trash.", name);
}

int verb_volume_import(struct ctl *ctl)
{
	const char *name = ctl->args[1];
	struct image image = {.path = ctl->args[0]};
	char socket_path[300], human[32];
	VALUE_AUTO body = value_object();
	VALUE_AUTO created = NULL;
	int res = name_check(ctl, name);
	if (res == 0)
		res = image_inspect(ctl, &image);
	if (res == 0)
		res = volume_options(ctl, body);
	if (res == 0)
		res = call_socket(ctl);
	if (res)
		return res;
	uint64_t bytes = max_u64(round_up(image.bytes, BLOCK_BYTES), BLOCK_BYTES);
	value_set_text(body, "name", name);
	value_set_integer(body, "size_bytes", (int64_t)bytes);
	text_human(bytes, human, sizeof human);
	if (ctl->dry_run) {
		ctl_say(ctl, "Volume %s, %s, would be made from %s (%s).", name, human, image.path,
			image.format);
		return 0;
	}
	if (nbd_socket(ctl, name, socket_path, sizeof socket_path) < 0)
		return ctl_fail(ctl, CTL_FAILED, "The path of the volume's socket is too long.");
	const struct call_change change = {.method = "POST", .path = "/v1/volumes", .body = body};
	res = call_change(ctl, &change, &created);
	if (res)
		return res;
	res = strcmp(image.format, "raw") == 0 ? import_raw(ctl, &image, socket_path, name)
					       : convert(ctl, &image, socket_path, name);
	if (res) {
		import_undo(ctl, name);
		return res;
	}
	ctl_say(ctl, "Volume %s was imported from %s, %s.", name, image.path, human);
	return 0;
}

/* ---- export ---- */

struct output {
	int fd;
	struct progress *progress;
	uint64_t written_bytes, size_bytes;
};

static int output_piece(void *state, uint64_t offset_bytes, const void *data, uint32_t bytes)
{
	struct output *output = state;
	const uint8_t *from = data;
	for (uint32_t at = 0; at < bytes;) {
		uint32_t part = (uint32_t)min_u64(bytes - at, CHUNK_BYTES);
		if (!all_zero(from + at, part)) {
			ssize_t put =
				pwrite(output->fd, from + at, part, (off_t)(offset_bytes + at));
			if (put < 0 && errno == EINTR)
				continue;
			if (put <= 0)
				return put < 0 ? -errno : -EIO;
			part = (uint32_t)put;
		}
		at += part;
	}
	output->written_bytes += bytes;
	progress_at(output->progress, output->written_bytes, output->size_bytes);
	return 0;
}

static int export_to(struct ctl *ctl, const char *name, const char *socket_path, int fd)
{
	char sentence[SENTENCE_BYTES] = "";
	struct stream *stream = NULL;
	struct progress progress;
	struct output output = {.fd = fd, .progress = &progress};
	int res = stream_open(socket_path, name, false, &stream, &output.size_bytes, sentence);
	progress_init(&progress, ctl, "export", true);
	if (res == 0)
		res = stream_read(stream, output.size_bytes, output_piece, &output);
	progress_done(&progress);
	if (res == 0 && (ftruncate(fd, (off_t)output.size_bytes) < 0 || fsync(fd) < 0))
		res = -errno;
	if (stream && stream_sentence(stream)[0])
		snprintf(sentence, sizeof sentence, "%s", stream_sentence(stream));
	stream_close(stream);
	if (ctl_interrupted)
		return ctl_fail(ctl, CTL_FAILED, "The export was interrupted.");
	if (res < 0)
		return ctl_fail(ctl, ctl_exit_of_err(res), "The export of %s failed: %s", name,
				sentence[0] ? sentence : vs_strerror(res));
	return 0;
}

int verb_volume_export(struct ctl *ctl)
{
	const char *name = ctl->args[0], *file = ctl->args[1];
	char part[4096], path[HTTP_PATH_ROOM], socket_path[300];
	VALUE_AUTO document = NULL;
	int res = name_check_either(ctl, name);
	if (res)
		return res;
	if (access(file, F_OK) == 0 && !ctl->yes)
		return ctl_fail(ctl, CTL_EXISTS,
				"%s exists: give another name, or --yes to replace "
				"it.",
				file);
	res = call_get(
		ctl,
		http_path(path, strchr(name, '@') ? "/v1/snapshots/" : "/v1/volumes/", name, ""),
		&document);
	if (res)
		return res;
	if (ctl->dry_run) {
		ctl_say(ctl, "%s would be written to %s.", name, file);
		return 0;
	}
	if (snprintf(part, sizeof part, "%s.part", file) >= (int)sizeof part ||
	    nbd_socket(ctl, name, socket_path, sizeof socket_path) < 0)
		return ctl_fail(ctl, CTL_USAGE, "The path %s is too long.", file);
	int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return ctl_fail(ctl, CTL_FAILED, "%s cannot be written: %s.", part,
				strerror(errno));
	res = export_to(ctl, name, socket_path, fd);
	if (close(fd) < 0 && res == 0)
		res = ctl_fail(ctl, CTL_FAILED, "%s cannot be written: %s.", part, strerror(errno));
	if (res == 0 && rename(part, file) < 0)
		res = ctl_fail(ctl, CTL_FAILED, "%s cannot be written: %s.", file, strerror(errno));
	if (res)
		unlink(part);
	else
		ctl_say(ctl, "%s was written to %s.", name, file);
	return res;
}
