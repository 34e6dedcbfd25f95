/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent's parts share. Any thread may use it; each part locks what is its own. */
#ifndef AGENT_VM_AGENT_H
#define AGENT_VM_AGENT_H

#include "agent/vm/db.h"
#include "agent/vm/spec.h"
#include "agent/vm/storage.h"
#include "agent/vm/virt.h"

#include <pthread.h>

#define AGENT_VERSION "0.1.0"

struct agent {
	struct db *db;
	struct virt *virt;
	struct storage storage;
	char state_path[256];		/* catalog, console logs, seeds under way */
	char group[NAME_BYTES_MAX + 1]; /* of QEMU, for /dev/kvm; "": none but the user's own */
	int64_t gid;			/* of that group, or -1 */
	/* Each VM's QEMU runs as a user of its own, of these. 0: all run as who runs the agent. */
	uint32_t uid_first, uid_last;
	char crash_after[64]; /* KIND:STEP: for tests, SIGKILL once that step is persisted */
	bool stopping;

	pthread_mutex_t ports; /* of NICs: they are made and removed one at a time (port.h) */

	pthread_mutex_t lock;	/* of what follows */
	pthread_cond_t changed; /* an operation ended, an event came */
	struct op *active;	/* operations that run in this process */
	bool starting;		/* guests, after a boot */
	bool ending;		/* all guests: no more of them are started by themselves */
	int kvm;		/* kvm.c: -1: not tried yet */
};

/* ---- events.c: what happened, with a cursor ---- */
void agent_event(struct agent *agent, const char *kind, const char *object, json_t *detail);
int64_t agent_now_ns(void); /* time of day */

/* ---- vms.c: the catalog's VMs ---- */
struct vm {
	char uuid[37], name[NAME_BYTES_MAX + 1], state[16]; /* creating, ready, deleting */
	json_t *spec;
};
/* By name or UUID. -ENOENT. vm_free afterwards. */
int vm_get(struct agent *agent, const char *name, struct vm *ret_vm, struct problem *problem);
void vm_free(struct vm *vm);
/* The definition's next generation: into the catalog, beside the volumes, and into libvirt for the
 * next start (`define`). May be repeated. */
int vm_save(struct agent *agent, json_t *spec, bool define, struct problem *problem);
/* Sockets of all its volumes, ports of its NICs, and its domain as the catalog says. May be
 * repeated. What the catalog has besides by now is in `spec` afterwards. */
int vm_attach(struct agent *agent, json_t *spec, struct problem *problem);
int vm_define(struct agent *agent, json_t *spec, struct problem *problem);
int vm_detach(struct agent *agent, const json_t *spec, struct problem *problem);
/* VIRT_STOPPED for one that libvirt does not know. */
int vm_state(struct agent *agent, const char *uuid, enum virt_state *ret_state,
	     enum virt_reason *ret_reason, struct problem *problem);
int vm_power(struct agent *agent, const char *uuid, enum virt_verb verb, struct problem *problem);
/* A definition that has no user yet gets one that no other VM has. */
int vm_user(struct agent *agent, json_t *spec, struct problem *problem);
/* UUIDs of all that a boot of the host starts, in their order; those of one place by name. */
json_t *vm_boot_order(struct agent *agent);
/* The VM that has this volume, or NULL; the caller frees. */
char *vm_of_volume(struct agent *agent, const char *volume);
/* ---- op_adopt.c ---- */
/* Looks at a domain of libvirt that is not ours: *ret_data is what op_vm_adopt works on. Refused
 * with what stands in the way. */
int adopt_look(struct agent *agent, const char *domain, json_t **ret_data, struct problem *problem);

/* ---- op_nic.c ---- */
/* What a NIC is connected to is on this host and can do what is asked. */
int nic_check(struct agent *agent, const json_t *nic, struct problem *problem);
/* Ports of all its NICs that need one; each "port" in `spec` is set. Leaves out a NIC that the
 * catalog has no more, and a VM that is being deleted: `spec` may be of an earlier moment. May be
 * repeated. */
int nic_ports_make(struct agent *agent, json_t *spec, struct problem *problem);
int nic_ports_remove(struct agent *agent, const json_t *spec, struct problem *problem);
/* -EEXIST: a VM but that of this UUID has the MAC address; both would get the same IP address. */
int nic_mac_free(struct agent *agent, const char *mac, const char *uuid, struct problem *problem);

void vm_console_log(const struct agent *agent, const char *uuid, char *out, size_t room);
bool agent_kvm(struct agent *agent); /* usable: a tiny guest has run under it */

#endif
