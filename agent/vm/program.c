/* SPDX-License-Identifier: Apache-2.0 */
/* One child a call, in a process group of its own, so that its helpers end with it. */
#include "agent/vm/program.h"

#include "proto/units.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / (long)NSEC_PER_MSEC;
}

static int program_spawn(const char *const *argv, int out, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none;
	sigemptyset(&none);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	posix_spawn_file_actions_adddup2(&actions, out, 2);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setsigmask(&attr, &none);
	int res = posix_spawnp(ret_pid, argv[0], &actions, &attr, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	return -res;
}

/* The last room - 1 bytes stay. */
static size_t words_add(char *words, size_t used, size_t room, const char *more, size_t bytes)
{
	if (bytes >= room) {
		more += bytes - (room - 1);
		bytes = room - 1;
	}
	if (used + bytes >= room) {
		size_t drop = used + bytes - (room - 1);
		memmove(words, words + drop, used - drop);
		used -= drop;
	}
	memcpy(words + used, more, bytes);
	words[used + bytes] = 0;
	return used + bytes;
}

int program_run(const char *const *argv, int timeout_ms, char *ret_words, size_t room)
{
	int pipes[2], status = 0;
	pid_t pid;
	char piece[4096];
	size_t used = 0;
	int64_t end_ms = now_ms() + timeout_ms;
	bool late = false;
	ret_words[0] = 0;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	int res = program_spawn(argv, pipes[1], &pid);
	close(pipes[1]);
	while (res == 0 && !late) {
		struct pollfd ready = {.fd = pipes[0], .events = POLLIN};
		int64_t left = end_ms - now_ms();
		late = left <= 0 || poll(&ready, 1, (int)left) == 0;
		ssize_t got = late ? 0 : read(pipes[0], piece, sizeof piece);
		if (!late && got <= 0)
			break;
		used = words_add(ret_words, used, room, piece, (size_t)got);
	}
	close(pipes[0]);
	if (res < 0)
		return res;
	if (late)
		kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (late)
		return -ETIMEDOUT;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
