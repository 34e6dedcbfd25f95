/* SPDX-License-Identifier: Apache-2.0 */
/* What systemd is told of a service of Type=notify (sd_notify(3)): one datagram to the socket that
 * the environment names. Nobody is told where there is no such socket. */
#ifndef STORAGE_CONTROL_NOTIFY_H
#define STORAGE_CONTROL_NOTIFY_H

#define NOTIFY_READY "READY=1"	       /* it serves, for the first time or again */
#define NOTIFY_RELOADING "RELOADING=1" /* until the next READY */
#define NOTIFY_STOPPING "STOPPING=1"

/* Any thread. A failure is logged and costs nothing else: what is served does not depend on it. */
void notify_manager(const char *state);

#endif
