/* SPDX-License-Identifier: Apache-2.0 */
/* Guests that start with the host. */
#ifndef AGENT_API_BOOT_H
#define AGENT_API_BOOT_H

#include "agent/vm/agent.h"

#include <pthread.h>

/* The thread that starts those that this boot has left, and ends; once libvirt has answered for the
 * first time. It ends early, and is to be joined, once agent->stopping is set. 0 or -errno. */
int boot_start(struct agent *agent, pthread_t *ret_thread);

#endif
