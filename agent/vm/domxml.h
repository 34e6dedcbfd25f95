/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt's XML, made from a VM's definition (spec.h) with calls that escape, and read back. Pure.
 * Texts that are returned are malloc's.
 */
#ifndef AGENT_VM_DOMXML_H
#define AGENT_VM_DOMXML_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* What is this host's, not the VM's. */
struct domxml_host {
	bool kvm;
	const char *console_log; /* a file; NULL: none */
	uint32_t gid;		 /* of its QEMU, whose user is the definition's "uid" */
};

/* Every disk and the seed must have their "socket". */
char *domxml_domain(const json_t *spec, const struct domxml_host *host);

/* One device, for attaching and detaching. */
char *domxml_disk(const json_t *disk);
char *domxml_nic(const json_t *nic);
/* path: an ISO, or NULL for an empty drive. */
char *domxml_cdrom(const char *path);

/* The alias that libvirt's events use for a disk's target or a NIC's MAC. */
void domxml_alias(const char *name, char *out, size_t room);

/* From a domain's XML: the serial console's terminal, the VNC socket; NULL: it has none. */
char *domxml_console(const char *xml);
char *domxml_vnc(const char *xml);

/* What adopting takes over, texts but for lists: {uuid, name, type: kvm|qemu, cpu, memory_kib,
 * firmware, disks: [{target, bus, format, type: file|block..., path}], cdroms: [path], nics:
 * [{type: bridge|network..., mac, model, bridge, network}]}, and what it would lose: others:
 * ["tpm", "vlan of MAC"]. NULL: no domain's XML. */
json_t *domxml_read(const char *xml);

#endif
