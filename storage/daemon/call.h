/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the API share: a request on its way, and how it is answered. */
#ifndef STORAGE_DAEMON_CALL_H
#define STORAGE_DAEMON_CALL_H

#include "storage/daemon/daemon.h"

/* A request on its way; lives until it is answered, or until its job ends. */
struct call {
	struct daemon *daemon;
	struct http_request *request; /* NULL: answered already, a job goes on */
	struct job *job;
	const struct api_route *route;
	char args[API_ARGS_MAX][API_ARG_ROOM];
	json_t *body;
	struct admin_op op;
	char shown[SNAP_NAME_ROOM]; /* the object to show when it is done */
	int status;		    /* when it is done */
	bool changed;		    /* an upgrade: there is something to do */
	bool rules;		    /* a policy's, or a volume's: then something may go by them */
	uint32_t trash_id;	    /* of what is deleted */
};

/* ---- api.c ---- */
void call_free(struct call *call);
void call_reply(struct call *call, int status, json_t *body); /* takes body */
void call_refuse(struct call *call, int code, const char *sentence);
/* Before a change: the client may not want to wait for it. `shown` is the object to show then, or
 * "". */
struct admin_op *change_begin(struct call *call, const char *shown);
const char *body_text(const struct call *call, const char *key);
uint64_t body_number(const struct call *call, const char *key); /* negative: UINT64_MAX */
/* The path's first argument. False: it is no number, and the call is answered. */
bool number_arg(struct call *call, uint64_t *ret);

/* ---- api_show.c ---- */
/* "VOL" or "VOL@SNAP"; NULL: it is not there. */
json_t *object_json(const struct daemon *daemon, const char *name);
void object_show(struct call *call);
void volume_list(struct call *call);
void snapshot_list(struct call *call);
void trash_list(struct call *call);

/* ---- api_volume.c ---- */
void volume_create(struct call *call);
void volume_change(struct call *call);
void volume_delete(struct call *call);
void snapshot_create(struct call *call);
void snapshot_delete(struct call *call);
void snapshot_change(struct call *call);
void snapshot_clone(struct call *call);
void snapshot_restore(struct call *call);
void snapshot_seal(struct call *call);
void snapshot_hold(struct call *call);
void snapshot_release(struct call *call);
void trash_restore(struct call *call);
void trash_purge(struct call *call);

/* ---- api_work.c ---- */
void check_start(struct call *call);
void gc_start(struct call *call);
void scrub_start(struct call *call);
void fold_all_start(struct call *call);
void fold_start(struct call *call);
void verify_start(struct call *call);
void diff_start(struct call *call);
void job_list(struct call *call);
void job_show(struct call *call);
void job_stop(struct call *call);

/* ---- api_policy.c ---- */
void policy_list(struct call *call);
void policy_show(struct call *call);
void policy_set(struct call *call);
void policy_delete(struct call *call);
void policy_attach(struct call *call);
void policy_detach(struct call *call);
void policy_plan(struct call *call);
void policy_run(struct call *call);

/* ---- api_replica.c ---- */
/* False: the body's "window", if there is one, is none, and that was said. */
bool body_window(struct call *call, struct window *ret);
void peer_list(struct call *call);
void peer_put(struct call *call);
void peer_delete(struct call *call);
void domain_list(struct call *call);
void transfer_list(struct call *call);
void snapshot_send(struct call *call);
void replica_list(struct call *call);
void replica_set(struct call *call);
void replica_pace(struct call *call);
void replica_remove(struct call *call);
void replica_promote(struct call *call);
void replica_recover(struct call *call);
void witness_set(struct call *call);
void witness_remove(struct call *call);
void voter_list(struct call *call);

/* ---- api_attach.c ---- */
void attachment_list(struct call *call);
void attachment_make(struct call *call);
void attachment_end(struct call *call);
void attachment_again(struct call *call);
void volume_fence(struct call *call);

#endif
