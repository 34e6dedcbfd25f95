/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of the table in commands.c, by file. Each returns an enum ctl_exit. */
#ifndef AGENT_CTL_VERBS_H
#define AGENT_CTL_VERBS_H

#include "agent/ctl/ctl.h"

struct value;

/* verbs_store.c: the store and the tool itself */
int verb_status(struct ctl *ctl);
int verb_store_status(struct ctl *ctl);
int verb_store_check(struct ctl *ctl);
int verb_store_gc(struct ctl *ctl);
int verb_store_upgrade(struct ctl *ctl);
int verb_store_forecast(struct ctl *ctl);
int verb_store_scrub(struct ctl *ctl);
int verb_version(struct ctl *ctl);
int verb_completion(struct ctl *ctl);
int verb_api(struct ctl *ctl);

/* verbs_volume.c */
int verb_volume_create(struct ctl *ctl);
int verb_volume_list(struct ctl *ctl);
int verb_volume_show(struct ctl *ctl);
int verb_volume_grow(struct ctl *ctl);
int verb_volume_rename(struct ctl *ctl);
int verb_volume_set(struct ctl *ctl);
int verb_volume_delete(struct ctl *ctl);
int verb_volume_clone(struct ctl *ctl);
int verb_volume_verify(struct ctl *ctl);

/* --level and --quota into a body, for create and import */
int volume_options(const struct ctl *ctl, struct value *body);

/* import.c, export.c */
int verb_volume_import(struct ctl *ctl);
/* The first argument's file into a new volume `name`, with the options of volume import. */
int import_file(struct ctl *ctl, const char *name);
int verb_volume_export(struct ctl *ctl);

/* verbs_snap.c */
int verb_snap_create(struct ctl *ctl);
int verb_snap_list(struct ctl *ctl);
int verb_snap_show(struct ctl *ctl);
int verb_snap_delete(struct ctl *ctl);
int verb_snap_diff(struct ctl *ctl);
int verb_snap_restore(struct ctl *ctl);
int verb_snap_hold(struct ctl *ctl);
int verb_snap_release(struct ctl *ctl);
int verb_snap_holds(struct ctl *ctl);
int verb_snap_retain(struct ctl *ctl);

/* verbs_policy.c */
int verb_policy_set(struct ctl *ctl);
int verb_policy_list(struct ctl *ctl);
int verb_policy_show(struct ctl *ctl);
int verb_policy_delete(struct ctl *ctl);
int verb_policy_attach(struct ctl *ctl);
int verb_policy_detach(struct ctl *ctl);
int verb_policy_run(struct ctl *ctl);

/* verbs_trash.c: the trash and jobs */
int verb_trash_list(struct ctl *ctl);
int verb_trash_restore(struct ctl *ctl);
int verb_trash_purge(struct ctl *ctl);
int verb_job_list(struct ctl *ctl);
int verb_job_show(struct ctl *ctl);
int verb_job_wait(struct ctl *ctl);
int verb_job_cancel(struct ctl *ctl);

/* verbs_replica.c */
int verb_peer_add(struct ctl *ctl);
int verb_peer_list(struct ctl *ctl);
int verb_peer_show(struct ctl *ctl);
int verb_peer_delete(struct ctl *ctl);
int verb_domain_list(struct ctl *ctl);
int verb_replica_send(struct ctl *ctl);
int verb_replica_add(struct ctl *ctl);
int verb_replica_set(struct ctl *ctl);
/* Of --replicas and --mode, before anything is made: who is to have copies, the first *ret_count of
 * the peers (the caller frees; untouched when there are none). An exit code. */
int replicas_choose(struct ctl *ctl, struct value **ret_peers, size_t *ret_count);
/* And when the volume is there. */
int replicas_add(struct ctl *ctl, const char *volume, const struct value *peers, size_t count);
int verb_replica_remove(struct ctl *ctl);
int verb_replica_promote(struct ctl *ctl);
int verb_replica_recover(struct ctl *ctl);
int verb_replica_transfers(struct ctl *ctl);
int verb_replica_list(struct ctl *ctl);
int verb_replica_status(struct ctl *ctl);
int verb_witness_add(struct ctl *ctl);
int verb_witness_remove(struct ctl *ctl);
int verb_witness_list(struct ctl *ctl);

/* verbs_pki.c */
int verb_pki_init(struct ctl *ctl);
int verb_pki_import(struct ctl *ctl);
int verb_pki_issue(struct ctl *ctl);
int verb_pki_rotate(struct ctl *ctl);
int verb_pki_revoke(struct ctl *ctl);
int verb_pki_show(struct ctl *ctl);

/* verbs_vm.c */
int verb_vm_create(struct ctl *ctl);
int verb_vm_list(struct ctl *ctl);
int verb_vm_show(struct ctl *ctl);
int verb_vm_start(struct ctl *ctl);
int verb_vm_shutdown(struct ctl *ctl);
int verb_vm_stop(struct ctl *ctl);
int verb_vm_reboot(struct ctl *ctl);
int verb_vm_reset(struct ctl *ctl);
int verb_vm_pause(struct ctl *ctl);
int verb_vm_resume(struct ctl *ctl);
int verb_vm_delete(struct ctl *ctl);
int verb_vm_rename(struct ctl *ctl);
int verb_vm_clone(struct ctl *ctl);
int verb_vm_set(struct ctl *ctl);
int verb_vm_wait(struct ctl *ctl);
int verb_vm_why(struct ctl *ctl);
int verb_vm_log(struct ctl *ctl);
int verb_vm_vnc(struct ctl *ctl);

int verb_vm_adopt(struct ctl *ctl);
/* "bridge=B,vlan=N,mac=M" or "network=N,mac=M" into a NIC's object. */
int net_parse(const struct ctl *ctl, const char *text, struct value *nic);

/* console.c */
int verb_vm_console(struct ctl *ctl);

/* verbs_vmparts.c: disks, NICs, CD drive and snapshots of VMs; images */
int verb_vm_disk_attach(struct ctl *ctl);
int verb_vm_disk_detach(struct ctl *ctl);
int verb_vm_disk_list(struct ctl *ctl);
int verb_vm_disk_grow(struct ctl *ctl);
int verb_vm_nic_attach(struct ctl *ctl);
int verb_vm_nic_detach(struct ctl *ctl);
int verb_vm_nic_list(struct ctl *ctl);
int verb_vm_disk_set_qos(struct ctl *ctl);
int verb_vm_cdrom_insert(struct ctl *ctl);
int verb_vm_cdrom_eject(struct ctl *ctl);
int verb_vm_snap_create(struct ctl *ctl);
int verb_vm_snap_list(struct ctl *ctl);
int verb_vm_snap_restore(struct ctl *ctl);
int verb_vm_snap_delete(struct ctl *ctl);
int verb_image_import(struct ctl *ctl);
int verb_image_list(struct ctl *ctl);
int verb_image_show(struct ctl *ctl);
int verb_image_verify(struct ctl *ctl);
int verb_image_delete(struct ctl *ctl);

/* verbs_host.c */
int verb_network_list(struct ctl *ctl);
int verb_events(struct ctl *ctl);
int verb_audit_list(struct ctl *ctl);
int verb_audit_verify(struct ctl *ctl);
int verb_doctor(struct ctl *ctl);
int verb_volume_attachments(struct ctl *ctl);
int verb_volume_fence(struct ctl *ctl);

/* bundle.c */
int verb_support_bundle(struct ctl *ctl);

#endif
