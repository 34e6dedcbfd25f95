/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's definition, one JSON object: what the catalog keeps, what lies beside its volumes, what
 * the domain's XML is made from.
 *
 *   {uuid, name, generation, cpu, memory_bytes, firmware: bios|uefi, accel: auto|kvm|tcg, tpm,
 *    image, cdrom, autostart, order, delay_s, meta,
 *    disks: [{target, volume, uuid, size_bytes, owned}], nics: [{mac, bridge, vlan, network,
 *    port}], seed: {volume, uuid} or null}
 *
 * What is this host's, and found when the VM is attached: a disk's socket, a NIC's port ("": none,
 * libvirt puts it into its VLAN itself; only NICs in a VLAN have the word).
 */
#ifndef AGENT_VM_SPEC_H
#define AGENT_VM_SPEC_H

#include "agent/vm/storage.h"

#include <jansson.h>
#include <stdint.h>

#define VM_DISKS_MAX 24u
#define VM_NICS_MAX 16u

static inline const char *spec_text(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text ? text : "";
}
static inline int64_t spec_number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

/* A new definition from the body of a create request; sizes and names are checked, UUID and MACs
 * made. Disks have no uuid yet. `env_random` comes from the kernel. 0 or -EINVAL with a sentence.
 */
int spec_new(const json_t *body, json_t **ret_spec, struct problem *problem);

/* Other figures: {cpu, memory_bytes, autostart, order, delay_s, cdrom}, any of them, checked. On a
 * failure, -EINVAL with a sentence, nothing of `spec` has changed. */
int spec_change(json_t *spec, const json_t *change, struct problem *problem);

int spec_name_check(const char *name, struct problem *problem);

/* One NIC from {bridge, vlan, mac, network}. */
int spec_nic(const json_t *body, json_t **ret_nic, struct problem *problem);
/* By its MAC address; NULL. */
json_t *spec_nic_find(const json_t *spec, const char *mac);
/* From a list of disks or NICs, the one whose `key` is that, if it is there. */
void spec_remove(json_t *list, const char *key, const char *value);

/* "vda" ... the first that is free; -ENOSPC. */
int spec_target_free(const json_t *spec, char ret_target[8]);
/* A volume's name for the n-th disk: NAME-diskN, the first that no disk has. */
void spec_volume_name(const json_t *spec, char *out, size_t room);
/* By target or volume; NULL. */
json_t *spec_disk(const json_t *spec, const char *name);

void spec_uuid_new(char out[37]);

/* What its machine needs beside QEMU (a firmware, a TPM's emulator) is installed here. */
int spec_machine_check(const json_t *spec, struct problem *problem);

/* ---- beside its volumes: two places in the volume NAME-meta take turns ---- */

#define META_BYTES (512u * 1024u)
/* Writes the definition into its meta volume, durable when done. */
int meta_write(const struct storage *storage, const json_t *spec, struct problem *problem);
/* The newest whole one of a meta volume. -VS_EFORMAT: there is none. */
int meta_read(const struct storage *storage, const char *volume, json_t **ret_spec,
	      struct problem *problem);

#endif
