/* SPDX-License-Identifier: Apache-2.0 */
/* The variable stays set: a planned restart's next program tells by it too. It does not name
 * anything secret, and systemd takes word from the service's main process alone. */
#include "storage/control/notify.h"

#include "proto/err.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int notify_send(const char *path, const char *state)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t bytes = strlen(path);
	if ((path[0] != '/' && path[0] != '@') || bytes >= sizeof to.sun_path)
		return -EINVAL;
	memcpy(to.sun_path, path, bytes);
	if (path[0] == '@')
		to.sun_path[0] = 0; /* without a file */
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	socklen_t to_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
	ssize_t sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&to,
			      to_bytes);
	int res = sent < 0 ? -errno : 0;
	close(fd);
	return res;
}

void notify_manager(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	int res = path && *path ? notify_send(path, state) : 0;
	if (res < 0)
		log_event(LOG_LEVEL_WARNING, "systemd.not_told",
			  "state=%s socket=%.108s error=\"%s\"", state, path, vs_strerror(res));
}
