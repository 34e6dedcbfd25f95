/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt, as the agent uses it. Every call has a deadline: one that libvirt does not answer in
 * time is left behind in its thread, and that domain alone is busy until it returns. Calls to one
 * domain run one at a time, calls to others beside it.
 *
 * Life: virt_new (connects in the background, again and again) -> calls -> the process's end; the
 * event thread of libvirt cannot be ended.
 */
#ifndef AGENT_VM_VIRT_H
#define AGENT_VM_VIRT_H

#include "agent/vm/storage.h"
#include "proto/text.h"

#include <stdbool.h>
#include <stdint.h>

struct virt;

enum virt_verb {
	/* on a domain, by its UUID */
	VIRT_START,
	VIRT_SHUTDOWN, /* asks by ACPI and, when it answers, the guest agent */
	VIRT_DESTROY,
	VIRT_REBOOT,
	VIRT_RESET,
	VIRT_SUSPEND,
	VIRT_RESUME,
	VIRT_UNDEFINE, /* with its NVRAM and whatever else libvirt keeps of it */
	VIRT_STATE,    /* number: enum virt_state, number2: enum virt_reason */
	VIRT_XML,      /* text: as it runs, else as it is defined */
	VIRT_ATTACH,   /* text: the device; live when it runs, and for the next start */
	VIRT_DETACH,
	VIRT_UPDATE,
	VIRT_RESIZE, /* text: target, number: bytes */
	VIRT_PROBE,  /* text: a disk's alias; QEMU tries to read a block, past the guest */
	VIRT_FREEZE, /* number: file systems */
	VIRT_THAW,
	VIRT_PING_AGENT,
	VIRT_VCPUS,
	VIRT_AUTOSTART, /* number: libvirt's own flag, 0 or 1 */
	/* on the host */
	VIRT_DEFINE,   /* text: XML; validated against libvirt's schema */
	VIRT_LIST,     /* text: JSON array of {uuid, name, state, reason} */
	VIRT_NETWORKS, /* text: JSON array of {name, active, bridge} */
	VIRT_VERSION,  /* number: libvirt's; text: how it confines guests: "apparmor", "none" ... */
	VIRT_LOOKUP, /* text: a domain's name; text: its inactive XML, number: libvirt's autostart,
			number2: saved states and snapshots that libvirt has of it */
};

enum virt_state {
	VIRT_RUNNING,
	VIRT_PAUSED,
	VIRT_STOPPING,
	VIRT_STOPPED,
	VIRT_CRASHED,
	VIRT_UNKNOWN
};
enum virt_reason { VIRT_REASON_NONE, VIRT_REASON_IO_ERROR, VIRT_REASON_USER };
const char *virt_state_name(enum virt_state state); /* "running" ... */

struct virt_event {
	enum virt_event_kind {
		VIRT_EVENT_STARTED,
		VIRT_EVENT_STOPPED,
		VIRT_EVENT_CRASHED,
		VIRT_EVENT_PAUSED,
		VIRT_EVENT_PAUSED_IO, /* a disk gave an error, and its policy is to stop */
		VIRT_EVENT_RESUMED,
		VIRT_EVENT_DEVICE_GONE,
		VIRT_EVENT_DEVICE_KEPT, /* the guest refused */
		VIRT_EVENT_AGENT,	/* the guest agent came or went */
	} kind;
	char uuid[UUID_TEXT_BYTES];
	char detail[64]; /* DEVICE_*: the device's alias */
};
const char *virt_event_name(enum virt_event_kind kind); /* "vm.started" ... */

struct virt_options {
	const char *uri;
	void (*event)(void *state, const struct virt_event *event); /* must not block */
	void (*connected)(void *state); /* again after each loss: resync; may block */
	void *state;
};

/* 0 or -errno; whether libvirt is there shows later. Once a process. */
int virt_new(const struct virt_options *options, struct virt **ret_virt);
bool virt_connected(struct virt *virt);

/* So many calls wait for libvirt or for their turn; one more is refused at once. Whoever has more
 * threads than that goes on with everything else while libvirt hangs. */
#define VIRT_CALLS_MAX 64u

struct virt_args {
	const char *uuid, *text;
	uint64_t number;
	int timeout_ms; /* 0: 30 s */
};
struct virt_result {
	char *text; /* the caller frees */
	int64_t number, number2;
};

/* -ECONNREFUSED: no libvirt; -ETIMEDOUT; -EBUSY: an earlier call to the domain has not returned;
 * -ENOENT: no such domain; -EINVAL: it cannot be done in this state; -EIO with libvirt's words.
 * `ret` may be NULL for verbs without a result, and is untouched on failure. */
int virt_do(struct virt *virt, enum virt_verb verb, const struct virt_args *args,
	    struct virt_result *ret, struct problem *problem);

/* A number that grows with each event; taken before a detach, it tells virt_wait_gone which events
 * to look at. */
uint64_t virt_event_mark(struct virt *virt);
/* Waits until libvirt says that the device is gone: 0, -EBUSY (the guest kept it), -ETIMEDOUT. */
int virt_wait_gone(struct virt *virt, const char *uuid, const char *alias, uint64_t mark,
		   int timeout_ms);

#endif
