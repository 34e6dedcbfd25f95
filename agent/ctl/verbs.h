/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of the table in commands.c, by file. Each returns an enum ctl_exit. */
#ifndef AGENT_CTL_VERBS_H
#define AGENT_CTL_VERBS_H

#include "agent/ctl/ctl.h"

/* verbs_store.c: the store and the tool itself */
int verb_status(struct ctl *ctl);
int verb_store_status(struct ctl *ctl);
int verb_store_check(struct ctl *ctl);
int verb_store_gc(struct ctl *ctl);
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

/* verbs_trash.c: the trash and jobs */
int verb_trash_list(struct ctl *ctl);
int verb_trash_restore(struct ctl *ctl);
int verb_trash_purge(struct ctl *ctl);
int verb_job_list(struct ctl *ctl);
int verb_job_show(struct ctl *ctl);
int verb_job_wait(struct ctl *ctl);
int verb_job_cancel(struct ctl *ctl);

/* verbs_pki.c */
int verb_pki_init(struct ctl *ctl);
int verb_pki_import(struct ctl *ctl);
int verb_pki_issue(struct ctl *ctl);
int verb_pki_rotate(struct ctl *ctl);
int verb_pki_revoke(struct ctl *ctl);
int verb_pki_show(struct ctl *ctl);

#endif
