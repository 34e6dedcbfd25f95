/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent does without being asked: notes libvirt's events, resumes guests that waited for
 * their disks, converges operations, starts VMs after a boot, and rebuilds a lost catalog. */
#ifndef AGENT_API_WATCH_H
#define AGENT_API_WATCH_H

#include "agent/vm/agent.h"

struct watch;
/* Before virt_new, whose thread calls it for as long as the process lives: it is never freed. */
int watch_new(struct agent *agent, struct watch **ret_watch);
/* The thread; once agent->virt is set. 0 or -errno. */
int watch_start(struct watch *watch);
void watch_stop(struct watch *watch);

/* For virt_options: `state` is the watch. */
void watch_event(void *state, const struct virt_event *event);
void watch_connected(void *state);

/* Rebuilds the VMs of an empty catalog from the definitions beside their volumes, and images from
 * their snapshots. Prints what it found. */
int recover_run(struct agent *agent, struct problem *problem);

#endif
