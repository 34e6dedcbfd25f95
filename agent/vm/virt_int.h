/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What virt.c (calls), virt_verbs.c (what each call asks) and virt_connection.c (events) share:
 * these three alone know libvirt.
 *
 * Three kinds of threads: one that runs libvirt's events and only queues, one that keeps the
 * connection which brings them, and one for each call under way. A call's arguments and result are
 * its own, so that a caller may leave it behind.
 *
 * A call has a connection of its own as well. libvirtd answers five calls of a connection at a
 * time, whichever VMs they are about; and libvirt's client (9.0) crashes when one that many threads
 * wait on is closed, as keepalive does with a libvirtd that hangs.
 */
#ifndef AGENT_VM_VIRT_INT_H
#define AGENT_VM_VIRT_INT_H

#include "agent/vm/virt.h"

#include <libvirt/libvirt.h>
#include <pthread.h>
#include <time.h>

#define KEEPALIVE_S 5 /* and three of them lost: the connection counts as dead */
#define KEEPALIVE_COUNT 3
#define GONE_MAX 128u /* device events that are remembered */

struct virt_call {
	struct virt *virt;
	enum virt_verb verb;
	char *uuid, *text;
	uint64_t number;
	virConnectPtr connection;
	struct virt_call *next; /* under way */
	bool done, left;	/* answered; nobody waits any more */
	int res;
	struct virt_result result;
	char sentence[SENTENCE_BYTES];
};

struct virt {
	struct virt_options options;
	char uri[256];
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	virConnectPtr connection; /* NULL: none */
	bool lost;
	char why[160];
	struct virt_call *calls;
	unsigned call_count; /* under way: each has a thread */
	unsigned waiting;    /* for their domain's turn */
	uint64_t mark;
	struct {
		uint64_t mark;
		struct virt_event event;
	} gone[GONE_MAX];
};

/* Asks libvirt what the call is about, on the call's thread and connection; may block for as long
 * as libvirt does. 0, or -errno and the call's sentence. */
int virt_call_ask(struct virt_call *call);
/* On the clock of virt->changed. */
struct timespec virt_deadline(int timeout_ms);

#endif
