/* SPDX-License-Identifier: Apache-2.0 */
/* By libsystemd. The variable stays set: a planned restart's next program tells by it too. It does
 * not name anything secret, and systemd takes word from the service's main process alone. */
#include "storage/control/notify.h"

#include "proto/err.h"
#include "storage/rt/log_event.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

void notify_manager(const char *state)
{
	int res = sd_notify(0, state);
	const char *path = getenv("NOTIFY_SOCKET");
	if (res < 0)
		log_event(LOG_LEVEL_WARNING, "systemd.not_told",
			  "state=%s socket=%.108s error=\"%s\"", state, path ? path : "",
			  vs_strerror(res));
}
