/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu-img as a child process. An image is foreign: its header may name other files, even on
 * the network, whose content would then land in the volume; so what it names is found out first
 * and only formats of a list are opened.
 */
#include "agent/ctl/image.h"

#include "agent/ctl/value.h"
#include "proto/units.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define IMAGE_TEXT_BYTES (1u << 20) /* of qemu-img's answer */
#define IMAGE_POLL_MS 500
#define IMAGE_ARGS_MAX 20

extern char **environ;

/* Formats whose files stand alone, or tell what else they need. */
static const char *const image_formats[] = {"raw",  "qcow2", "qcow", "qed",	 "vdi",
					    "vhdx", "vmdk",  "vpc",  "parallels"};

struct child {
	pid_t pid;
	int out, err; /* our ends of its pipes */
};

/* 0 or -errno; -ENOENT when there is no such program. */
static int child_start(const char *const *args, struct child *ret_child)
{
	int out[2], err[2], res;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t defaults;
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(err, O_CLOEXEC) < 0) {
		res = -errno;
		close(out[0]), close(out[1]);
		return res;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_adddup2(&actions, err[1], 2);
	/* A group of its own: Ctrl-C reaches us alone, and we end it when we have decided to. */
	posix_spawnattr_init(&attributes);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setpgroup(&attributes, 0);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
	res = -posix_spawnp(&ret_child->pid, args[0], &actions, &attributes,
			    (char *const *)(uintptr_t)args, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	close(out[1]), close(err[1]);
	ret_child->out = out[0];
	ret_child->err = err[0];
	if (res < 0)
		close(out[0]), close(err[0]);
	return res;
}

/* Where a child's words go: both end with a terminator, and what does not fit is dropped. */
struct child_text {
	char *out;
	size_t out_bytes, out_room;
	char err[512];
	size_t err_bytes;
	/* Instead of `out`: each piece as it comes. */
	void (*piece)(void *state, const char *text, size_t bytes);
	void *state;
};

static void child_out(struct child_text *text, const char *piece, size_t bytes)
{
	if (text->piece) {
		text->piece(text->state, piece, bytes);
		return;
	}
	size_t room = text->out_room - 1 - text->out_bytes;
	bytes = min_u64(bytes, room);
	memcpy(text->out + text->out_bytes, piece, bytes);
	text->out_bytes += bytes;
	text->out[text->out_bytes] = 0;
}

/* Keeps the end of it: the last line is the reason. */
static void child_err(struct child_text *text, const char *piece, size_t bytes)
{
	size_t room = sizeof text->err - 1;
	if (bytes > room) {
		piece += bytes - room;
		bytes = room;
	}
	if (text->err_bytes + bytes > room) {
		size_t drop = text->err_bytes + bytes - room;
		memmove(text->err, text->err + drop, text->err_bytes - drop);
		text->err_bytes -= drop;
	}
	memcpy(text->err + text->err_bytes, piece, bytes);
	text->err_bytes += bytes;
	text->err[text->err_bytes] = 0;
}

/* Reads until both pipes have ended, then waits. Returns the exit status, or -EINTR, -ETIMEDOUT
 * (the child was killed), or -EIO when a signal ended it. */
static int child_finish(const struct ctl *ctl, struct child *child, struct child_text *text)
{
	struct pollfd fds[2] = {{.fd = child->out, .events = POLLIN},
				{.fd = child->err, .events = POLLIN}};
	int res = 0, status;
	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		char piece[4096];
		if (ctl_interrupted || ctl_left_ms(ctl) == 0) {
			res = ctl_interrupted ? -EINTR : -ETIMEDOUT;
			kill(child->pid, SIGKILL);
			break;
		}
		if (poll(fds, 2, IMAGE_POLL_MS) <= 0)
			continue;
		for (unsigned i = 0; i < 2; i++) {
			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			ssize_t got = read(fds[i].fd, piece, sizeof piece);
			if (got <= 0)
				fds[i].fd = -1;
			else if (i == 0)
				child_out(text, piece, (size_t)got);
			else
				child_err(text, piece, (size_t)got);
		}
	}
	close(child->out), close(child->err);
	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (res < 0)
		return res;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

/* The last line that the child wrote to stderr. */
static const char *child_reason(struct child_text *text)
{
	while (text->err_bytes && text->err[text->err_bytes - 1] == '\n')
		text->err[--text->err_bytes] = 0;
	const char *line = strrchr(text->err, '\n');
	line = line ? line + 1 : text->err;
	return *line ? line : "no reason was given";
}

static bool format_known(const char *format)
{
	for (size_t i = 0; i < sizeof image_formats / sizeof image_formats[0]; i++)
		if (strcmp(format, image_formats[i]) == 0)
			return true;
	return false;
}

/* A backing file, a data file, or an extent in another file. */
static void image_outside(const struct value *info, struct image *image)
{
	const struct value *data = value_get(value_get(info, "format-specific"), "data");
	const struct value *extents = value_get(data, "extents");
	const char *backing = value_get_text(info, "backing-filename");
	const char *data_file = value_get_text(data, "data-file");
	const char *outside = *backing ? backing : data_file;
	for (size_t i = 0; !*outside && i < value_count(extents); i++) {
		const char *name = value_get_text(value_at(extents, i), "filename");
		if (*name && strcmp(name, image->path) != 0)
			outside = name;
	}
	snprintf(image->outside, sizeof image->outside, "%s", outside);
}

static int image_info(const struct ctl *ctl, const char *format, struct image *image)
{
	const char *args[IMAGE_ARGS_MAX] = {"qemu-img", "info", "--output=json", "-U"};
	unsigned count = 4;
	struct child child;
	if (format) {
		args[count++] = "-f";
		args[count++] = format;
	}
	args[count++] = image->path;
	char *buffer = calloc(1, IMAGE_TEXT_BYTES);
	if (!buffer)
		return ctl_fail(ctl, CTL_FAILED, "There is not enough memory.");
	int res = child_start(args, &child);
	if (res < 0)
		free(buffer);
	if (res == -ENOENT)
		return ctl_fail(ctl, CTL_FAILED,
				"qemu-img is needed to tell what %s is; install qemu-utils, or say "
				"--format raw if it is a raw image.",
				image->path);
	if (res < 0)
		return ctl_fail(ctl, CTL_FAILED, "qemu-img does not start: %s.", strerror(-res));
	struct child_text text = {.out = buffer, .out_room = IMAGE_TEXT_BYTES};
	res = child_finish(ctl, &child, &text);
	if (res == -EINTR)
		ctl_die_of_signal();
	if (res != 0) {
		res = ctl_fail(ctl, res == -ETIMEDOUT ? CTL_TIMED_OUT : CTL_FAILED,
			       "%s cannot be read as an image: %s.", image->path,
			       child_reason(&text));
	} else {
		VALUE_AUTO info = value_parse(text.out, text.out_bytes);
		snprintf(image->format, sizeof image->format, "%s", value_get_text(info, "format"));
		image->bytes = (uint64_t)value_get_integer(info, "virtual-size");
		image_outside(info, image);
		if (value_true(value_get(info, "encrypted")))
			res = ctl_fail(ctl, CTL_FAILED,
				       "%s is encrypted; decrypt it with qemu-img convert first.",
				       image->path);
	}
	free(buffer);
	return res;
}

/* The size of a raw file or block device. */
static int image_raw(const struct ctl *ctl, struct image *image)
{
	int fd = open(image->path, O_RDONLY | O_CLOEXEC);
	off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	int err = errno;
	if (fd >= 0)
		close(fd);
	if (end < 0)
		return ctl_fail(ctl, CTL_FAILED, "%s cannot be read: %s.", image->path,
				strerror(err));
	snprintf(image->format, sizeof image->format, "raw");
	image->bytes = (uint64_t)end;
	return 0;
}

int image_look(const struct ctl *ctl, const char *file, const char *format, struct image *ret_image)
{
	struct stat st;
	int res;
	*ret_image = (struct image){0};
	if (format && !format_known(format))
		return ctl_fail(
			ctl, CTL_USAGE,
			"The format %.40s is not taken; it is raw, qcow2, qcow, qed, vdi, vhdx, "
			"vmdk, vpc or parallels.",
			format);
	char *path = realpath(file, NULL);
	if (!path || stat(path, &st) < 0 || strlen(path) >= sizeof ret_image->path) {
		res = ctl_fail(ctl, errno == ENOENT ? CTL_NOT_FOUND : CTL_FAILED,
			       "%s cannot be read: %s.", file, strerror(errno));
		free(path);
		return res;
	}
	memcpy(ret_image->path, path, strlen(path) + 1);
	free(path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return ctl_fail(ctl, CTL_USAGE, "%s is neither a file nor a block device.", file);
	if (format && strcmp(format, "raw") == 0)
		return image_raw(ctl, ret_image);
	res = image_info(ctl, format, ret_image);
	if (res)
		return res;
	if (strcmp(ret_image->format, "raw") == 0)
		return image_raw(ctl, ret_image);
	if (!format_known(ret_image->format) || ret_image->bytes == 0)
		return ctl_fail(
			ctl, CTL_FAILED,
			"%s is an image of format \"%s\", which is not taken; convert it with "
			"qemu-img convert.",
			file, ret_image->format);
	return 0;
}

struct percent_state {
	void (*progress)(void *state, unsigned percent_100);
	void *state;
};

/* qemu-img writes "    (12.34/100%)" and a carriage return. */
static void convert_piece(void *state, const char *text, size_t bytes)
{
	const struct percent_state *percent = state;
	char line[64];
	size_t end = bytes;
	while (end > 0 && text[end - 1] != '(')
		end--;
	if (end == 0)
		return;
	snprintf(line, sizeof line, "%.*s", (int)min_u64(bytes - end, sizeof line - 1), text + end);
	double value = strtod(line, NULL);
	if (value >= 0 && value <= 100)
		percent->progress(percent->state, (unsigned)(value * 100));
}

int image_convert(const struct ctl *ctl, const struct image *image, const char *socket_path,
		  const char *export_name, void (*progress)(void *state, unsigned percent_100),
		  void *state, char ret_sentence[SENTENCE_BYTES])
{
	char target[512];
	struct child child;
	struct percent_state percent = {.progress = progress, .state = state};
	struct child_text text = {.piece = convert_piece, .state = &percent};
	snprintf(target, sizeof target, "nbd:unix:%s:exportname=%s", socket_path, export_name);
	/* It does not tell when its flush fails: import.c flushes after it. */
	const char *const args[] = {"qemu-img", "convert",     "-p", "-n",  "--target-is-zero",
				    "-W",	"-m",	       "16", "-t",  "writeback",
				    "-f",	image->format, "-O", "raw", image->path,
				    target,	NULL};
	int res = child_start(args, &child);
	if (res < 0) {
		snprintf(ret_sentence, SENTENCE_BYTES, "qemu-img does not start: %s.",
			 strerror(-res));
		return res;
	}
	res = child_finish(ctl, &child, &text);
	if (res == 0)
		return 0;
	if (res == -EINTR || res == -ETIMEDOUT) {
		snprintf(ret_sentence, SENTENCE_BYTES, "%s",
			 res == -EINTR ? "Interrupted." : "It did not end in time.");
		return res;
	}
	snprintf(ret_sentence, SENTENCE_BYTES, "qemu-img could not copy it: %.200s.",
		 child_reason(&text));
	return -EIO;
}
