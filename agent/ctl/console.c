/* SPDX-License-Identifier: Apache-2.0 */
/* A VM's serial console on this terminal. Ctrl-] ends it; the guest does not notice. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/table.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define DETACH_KEY 0x1d /* Ctrl-] */

/* Raw, so that every key reaches the guest; back to `old` at the end. */
static void terminal_raw(int fd, struct termios *ret_old)
{
	struct termios raw;
	if (tcgetattr(fd, ret_old) < 0)
		return;
	raw = *ret_old;
	cfmakeraw(&raw);
	tcsetattr(fd, TCSANOW, &raw);
}

static int all_write(int fd, const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t put = write(fd, data, bytes);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		data += put;
		bytes -= (size_t)put;
	}
	return 0;
}

/* 0: detached, or the input ended; negative: the guest's side is gone. */
static int console_copy(int guest)
{
	struct pollfd fds[2] = {{.fd = 0, .events = POLLIN}, {.fd = guest, .events = POLLIN}};
	char data[4096];
	while (!ctl_interrupted) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents) {
			ssize_t got = read(guest, data, sizeof data);
			if (got <= 0)
				return -EIO;
			all_write(1, data, (size_t)got);
		}
		if (fds[0].revents) {
			ssize_t got = read(0, data, sizeof data);
			char *key = got > 0 ? memchr(data, DETACH_KEY, (size_t)got) : NULL;
			size_t send = key ? (size_t)(key - data) : got > 0 ? (size_t)got : 0;
			if (all_write(guest, data, send) < 0)
				return -EIO;
			if (key || got <= 0)
				return 0;
		}
	}
	return 0;
}

int verb_vm_console(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	struct termios own, other;
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, client_path(path, "/v1/vms/", ctl->args[0], "/console"), &document);
	if (res)
		return res;
	const char *terminal = value_get_text(document, "terminal");
	int guest = open(terminal, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (guest < 0)
		return ctl_fail(
			ctl, errno == EACCES ? CTL_DENIED : CTL_FAILED,
			"The console %.100s cannot be opened (%s); be root on the VM's host.",
			terminal, strerror(errno));
	bool person = isatty(0);
	terminal_raw(guest, &other);
	ctl_say(ctl, "Connected to %s; Ctrl-] ends it.", ctl->args[0]);
	if (person)
		terminal_raw(0, &own);
	res = console_copy(guest);
	if (person)
		tcsetattr(0, TCSANOW, &own);
	close(guest);
	ctl_say(ctl, "\nThe console was left; the VM goes on.");
	return res < 0 ? ctl_fail(ctl, CTL_FAILED, "The VM's console ended.") : 0;
}
