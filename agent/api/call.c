/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table of what the agent does itself; what is not in it goes to vstored as it came, but for
 * changes of a volume that belongs to a VM, which are the VM's to make.
 */
#include "agent/api/api.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct api_route routes[] = {
	{"GET", "/v1/vms", vm_list, ""},
	{"POST", "/v1/vms", vm_create,
	 " name image cpu# memory_bytes# disks[] nics[] user_data ssh_keys[] firmware accel tpm? "
	 "cdrom start? "},
	{"POST", "/v1/vms/adopt", vm_adopt, " domain "},
	{"POST", "/v1/vms/shutdown", vm_shutdown_all, " deadline_s# "},
	{"GET", "/v1/vms/{}", vm_show, ""},
	{"PATCH", "/v1/vms/{}", vm_change, " name cpu# memory_bytes# autostart? order# delay_s# "},
	{"DELETE", "/v1/vms/{}", vm_delete, ""},
	{"POST", "/v1/vms/{}/clone", vm_clone, " name start? "},
	{"POST", "/v1/vms/{}/start", vm_start, ""},
	{"POST", "/v1/vms/{}/shutdown", vm_shutdown, ""},
	{"POST", "/v1/vms/{}/stop", vm_stop, ""},
	{"POST", "/v1/vms/{}/reboot", vm_reboot, ""},
	{"POST", "/v1/vms/{}/reset", vm_reset, ""},
	{"POST", "/v1/vms/{}/pause", vm_pause, ""},
	{"POST", "/v1/vms/{}/resume", vm_resume, ""},
	{"GET", "/v1/vms/{}/console", vm_console, ""},
	{"GET", "/v1/vms/{}/vnc", vm_vnc, ""},
	{"GET", "/v1/vms/{}/log", vm_log, ""},
	{"GET", "/v1/vms/{}/why", vm_why, ""},
	{"GET", "/v1/vms/{}/disks", disk_list, ""},
	{"POST", "/v1/vms/{}/disks", disk_attach, " size_bytes# volume "},
	{"PATCH", "/v1/vms/{}/disks/{}", disk_grow, " size_bytes# "},
	{"PUT", "/v1/vms/{}/disks/{}/qos", disk_qos, " iops# bandwidth_bytes# burst_seconds# "},
	{"DELETE", "/v1/vms/{}/disks/{}", disk_detach, ""},
	{"GET", "/v1/vms/{}/nics", nic_list, ""},
	{"POST", "/v1/vms/{}/nics", nic_attach, " bridge network vlan# mac "},
	{"DELETE", "/v1/vms/{}/nics/{}", nic_detach, ""},
	{"PUT", "/v1/vms/{}/cdrom", cdrom_insert, " path "},
	{"DELETE", "/v1/vms/{}/cdrom", cdrom_eject, ""},
	{"GET", "/v1/vms/{}/snapshots", vm_snap_list, ""},
	{"POST", "/v1/vms/{}/snapshots", vm_snap_create, " name "},
	{"POST", "/v1/vms/{}/snapshots/{}/restore", vm_snap_restore, ""},
	{"DELETE", "/v1/vms/{}/snapshots/{}", vm_snap_delete, ""},
	{"GET", "/v1/images", image_list, ""},
	{"POST", "/v1/images", image_create, " name volume source "},
	{"GET", "/v1/images/{}", image_show, ""},
	{"DELETE", "/v1/images/{}", image_delete, ""},
	{"GET", "/v1/networks", network_list, ""},
	{"GET", "/v1/events", event_list, ""},
	{"GET", "/v1/audit", audit_show, ""},
	{"GET", "/v1/audit/verify", audit_check, ""},
	{"GET", "/v1/doctor", doctor_show, ""},
	{"GET", "/v1/jobs", job_list, ""},
	{"GET", "/v1/jobs/{}", job_show, ""},
	{"DELETE", "/v1/jobs/{}", job_stop, ""},
};

/* ---- answers ---- */

/* Reads are not audited. */
static void call_audit(const struct call *call, const char *result)
{
	if (strcmp(call->request->method, "GET") != 0)
		audit_add(call->agent, call->request, call->body, result);
}

void call_reply(struct call *call, int status, json_t *body)
{
	const char *error =
		json_string_value(json_object_get(json_object_get(body, "error"), "code"));
	const char *job = json_string_value(json_object_get(json_object_get(body, "job"), "id"));
	char result[80];
	snprintf(result, sizeof result, "%d%s%.60s", status, error || job ? " " : "",
		 error ? error
		 : job ? job
		       : "");
	call_audit(call, result);
	api_reply(call->request, status, body);
	call->request = NULL;
}

void call_fail(struct call *call, int code)
{
	call_reply(call, api_status(code),
		   api_error(code, call->problem.sentence, call->problem.holder));
}

void call_changed(struct call *call, int status, json_t *object)
{
	call_reply(call, status,
		   json_pack("{s:i, s:b, s:o}", "schema", 1, "changed", 1, "object", object));
}

int64_t call_query(const struct call *call, const char *key, int64_t or)
{
	size_t bytes = strlen(key);
	for (const char *at = call->request->query; at; at = strchr(at, '&')) {
		at += *at == '&';
		if (strncmp(at, key, bytes) == 0 && at[bytes] == '=')
			return strtoll(at + bytes + 1, NULL, 10);
	}
	return or ;
}

void call_operate(struct call *call, const struct op_kind *kind, const char *noun, const char *name,
		  json_t *data)
{
	struct op *op;
	int res = op_new(call->agent, kind, noun, name, data, call->request->uid, &op,
			 &call->problem);
	if (res < 0) {
		call_fail(call, res);
		return;
	}
	if (call->request->async) {
		json_t *row = op_row(call->agent, op->id);
		call_reply(call, 202, json_pack("{s:i, s:o}", "schema", 1, "job", op_json(row)));
		json_decref(row);
	}
	op_run(op);
	if (call->request && op->res < 0) {
		call->problem = op->problem;
		call_fail(call, op->res);
	} else if (call->request) {
		call_changed(call, 200, op->result ? json_incref(op->result) : json_object());
	}
	op_free(op);
}

/* ---- what is vstored's ---- */

/* A VM's volumes are changed and let go of through the VM; its snapshots, copies and reads are
 * free.
 */
static bool volume_guarded(struct call *call)
{
	static const char prefix[] = "/v1/volumes/";
	const struct http_request *request = call->request;
	char name[API_ARG_ROOM];
	if (strncmp(request->path, prefix, strlen(prefix)) != 0 ||
	    (strcmp(request->method, "DELETE") != 0 && strcmp(request->method, "PATCH") != 0))
		return false;
	const char *part = request->path + strlen(prefix); /* as vstored will read it */
	const char *rest = part + strcspn(part, "/");
	if ((*rest && strcmp(rest, "/attachment") != 0) ||
	    !api_decode(part, (size_t)(rest - part), name))
		return false;
	char *owner = vm_of_volume(call->agent, name);
	if (!owner)
		return false;
	snprintf(call->problem.holder, sizeof call->problem.holder, "%s", owner);
	problem_set(&call->problem, -EBUSY,
		    "Volume %.63s belongs to VM %.63s: change it with vstorectl vm disk, or delete "
		    "the VM.",
		    name, owner);
	free(owner);
	call_fail(call, -EBUSY);
	return true;
}

void call_forward(struct call *call)
{
	struct http_request *request = call->request;
	char path[2048], result[40];
	long status = 0;
	char *text = NULL;
	size_t bytes = 0;
	snprintf(path, sizeof path, "%.1000s%s%.1000s", request->path, *request->query ? "?" : "",
		 request->query);
	int res = storage_forward(&call->agent->storage, request->method, path,
				  request->body_bytes ? request->body : NULL, request->async,
				  &status, &text, &bytes, &call->problem);
	if (res < 0) {
		call_fail(call, res);
		return;
	}
	snprintf(result, sizeof result, "%ld", status);
	call->body = json_loadb(request->body, request->body_bytes, 0, NULL);
	call_audit(call, result);
	http_reply(request, (int)status,
		   strcmp(request->path, "/metrics") == 0 ? "text/plain; version=0.0.4"
							  : "application/json",
		   text, bytes);
	call->request = NULL;
}

void call_handle(struct agent *agent, struct http_request *request)
{
	struct call call = {.agent = agent, .request = request};
	int status = api_find(routes, sizeof routes / sizeof *routes, request, call.args,
			      &call.route, &call.body, call.problem.sentence);
	if (status == 0) {
		if (strcmp(request->method, "GET") != 0)
			log_event(LOG_LEVEL_INFO, "api.change", "method=%s path=%.200s uid=%u",
				  request->method, request->path, request->uid);
		call.route->handle(&call);
	} else if (status != 404) {
		call_reply(&call, status, api_error(-EINVAL, call.problem.sentence, ""));
	} else if (!volume_guarded(&call)) {
		call_forward(&call);
	}
	json_decref(call.body);
}
