/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's side of HTTP: calls run on threads of a pool, because libvirt and vstored may take
 * their time; each is answered exactly once and, when it changes something, audited. */
#ifndef AGENT_API_API_H
#define AGENT_API_API_H

#include "agent/vm/agent.h"
#include "agent/vm/op.h"
#include "storage/control/api.h"

struct call {
	struct agent *agent;
	struct http_request *request; /* NULL: answered */
	const struct api_route *route;
	char args[API_ARGS_MAX][API_ARG_ROOM];
	json_t *body;
	struct problem problem;
};

/* ---- pool.c ---- */
struct pool;
int pool_new(struct agent *agent, struct pool **ret_pool);
void pool_free(struct pool *pool); /* waits for what runs */
/* http.h's handler; `state` is the pool. */
void pool_take(void *state, struct http_request *request);

/* ---- call.c ---- */
void call_handle(struct agent *agent, struct http_request *request);
void call_reply(struct call *call, int status, json_t *body);
/* By call->problem. */
void call_fail(struct call *call, int code);
/* {"schema": 1, "changed": true, "object": object} */
void call_changed(struct call *call, int status, json_t *object);
/* Runs an operation: answers before it when the client does not wait, else with its outcome. */
void call_operate(struct call *call, const struct op_kind *kind, const char *noun, const char *name,
		  json_t *data);
/* key=NUMBER of the query, else `or`. */
int64_t call_query(const struct call *call, const char *key, int64_t or);
/* To vstored and back, as it is. */
void call_forward(struct call *call);

/* ---- audit.c ---- */
/* One line: who, what, how it ended, chained to the one before by its hash. */
void audit_add(struct agent *agent, const struct http_request *request, const json_t *body,
	       const char *result);
/* -VS_ECHECKSUM: the sentence names the first line that was changed, added or taken away. */
int audit_verify(struct db *db, int64_t *ret_count, struct problem *problem);
json_t *audit_list(struct db *db, int64_t count);

/* ---- handlers, by file; the table is in call.c ---- */
/* vms.c */
void vm_list(struct call *call);
void vm_show(struct call *call);
void vm_create(struct call *call);
void vm_change(struct call *call);
void vm_delete(struct call *call);
void vm_clone(struct call *call);
void vm_adopt(struct call *call);
void vm_start(struct call *call);
void vm_shutdown(struct call *call);
void vm_shutdown_all(struct call *call);
void vm_stop(struct call *call);
void vm_reboot(struct call *call);
void vm_reset(struct call *call);
void vm_pause(struct call *call);
void vm_resume(struct call *call);
/* devices.c */
void disk_list(struct call *call);
void disk_attach(struct call *call);
void disk_detach(struct call *call);
void disk_grow(struct call *call);
void nic_list(struct call *call);
void nic_attach(struct call *call);
void nic_detach(struct call *call);
void disk_qos(struct call *call);
void cdrom_insert(struct call *call);
void cdrom_eject(struct call *call);
void vm_console(struct call *call);
void vm_vnc(struct call *call);
void vm_log(struct call *call);
void vm_why(struct call *call);
/* snapshots.c: of VMs; images */
void vm_snap_list(struct call *call);
void vm_snap_create(struct call *call);
void vm_snap_restore(struct call *call);
void vm_snap_delete(struct call *call);
void image_list(struct call *call);
void image_show(struct call *call);
void image_create(struct call *call);
void image_delete(struct call *call);
/* doctor.c */
void doctor_show(struct call *call);
/* host.c */
void network_list(struct call *call);
void event_list(struct call *call);
void audit_show(struct call *call);
void audit_check(struct call *call);
void job_list(struct call *call);
void job_show(struct call *call);
void job_stop(struct call *call);

#endif
