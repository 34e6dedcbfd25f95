/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control API: a table of methods and paths (proto/openapi.yaml describes it), how requests are
 * answered, and what is asked about the store as a whole. A request that changes something is
 * answered when the change is durable; it becomes a job when its client asked not to wait, and long
 * work always does.
 */
#include "storage/daemon/call.h"

#include "storage/daemon/policies.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers ---- */

void call_free(struct call *call)
{
	json_decref(call->body);
	free(call);
}

void call_reply(struct call *call, int status, json_t *body)
{
	api_reply(call->request, status, body);
	call_free(call);
}

void call_refuse(struct call *call, int code, const char *sentence)
{
	call_reply(call, api_status(code), api_error(code, sentence, ""));
}

/* ---- changes ---- */

static void change_done(struct io_op *op)
{
	struct call *call = container_of(op, struct call, op.op);
	struct daemon *daemon = call->daemon;
	int res = (int)op->res;
	exports_sync(daemon);
	if (call->rules)
		policies_changed(daemon->policies);
	json_t *object = res == 0 && call->shown[0] ? object_json(daemon, call->shown) : NULL;
	if (res == 0 && call->trash_id)
		object = json_pack("{s:I}", "trash_id", (json_int_t)call->trash_id);
	if (call->job) {
		job_end(call->job, res, call->op.sentence, call->op.holder,
			object ? object : json_object());
		call_free(call);
	} else if (res < 0) {
		call_reply(call, api_status(res),
			   api_error(res, call->op.sentence, call->op.holder));
	} else {
		json_t *out = json_pack("{s:i, s:b, s:o}", "schema", 1, "changed", 1, "object",
					object ? object : json_object());
		call_reply(call, call->status, out);
	}
}

/* Before a change: the client may not want to wait for it. `shown` is the object to show then. */
struct admin_op *change_begin(struct call *call, const char *shown)
{
	struct http_request *request = call->request;
	snprintf(call->shown, sizeof call->shown, "%s", shown);
	call->op = (struct admin_op){.op.done = change_done};
	call->status = call->status ? call->status : 200;
	log_event(LOG_LEVEL_INFO, "api.change", "method=%s path=%.200s uid=%u", request->method,
		  request->path, request->uid);
	if (request->async) {
		call->job = job_new(call->daemon, call->route->method, request->path);
		if (call->job) {
			call->request = NULL;
			api_reply(request, 202,
				  json_pack("{s:i, s:o}", "schema", 1, "job", job_json(call->job)));
		}
	}
	return &call->op;
}

const char *body_text(const struct call *call, const char *key)
{
	const char *text = json_string_value(json_object_get(call->body, key));
	return text ? text : "";
}
uint64_t body_number(const struct call *call, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(call->body, key));
	return number < 0 ? UINT64_MAX : (uint64_t)number;
}

bool number_arg(struct call *call, uint64_t *ret)
{
	char *end;
	*ret = strtoull(call->args[0], &end, 10);
	if (*end == 0 && *ret <= UINT32_MAX && call->args[0][0])
		return true;
	call_refuse(call, -EINVAL, "A number is expected in this path.");
	return false;
}

/* ---- the store ---- */

static void status_show(struct call *call)
{
	call_reply(call, 200, status_json(call->daemon));
}
static void store_show(struct call *call)
{
	call_reply(call, 200, store_json(call->daemon));
}

static void upgrade_done(struct io_op *op)
{
	struct call *call = container_of(op, struct call, op.op);
	int res = (int)op->res;
	if (res < 0)
		call_reply(call, api_status(res),
			   api_error(res, call->op.sentence, call->op.holder));
	else
		call_reply(call, 200,
			   json_pack("{s:i, s:b, s:{s:o}}", "schema", 1, "changed", call->changed,
				     "object", "format", format_json(call->daemon)));
}

static void upgrade_start(struct call *call)
{
	struct store_info info;
	store_info(call->daemon->store, &info);
	call->changed = info.features_missing != 0;
	call->op = (struct admin_op){.op.done = upgrade_done};
	log_event(LOG_LEVEL_INFO, "api.change", "method=POST path=/v1/store/upgrade uid=%u",
		  call->request->uid);
	store_upgrade(call->daemon->store, &call->op);
}

static void forecast_show(struct call *call)
{
	call_reply(call, 200, forecast_json(call->daemon));
}

static void metrics_show(struct call *call)
{
	size_t bytes = 0;
	char *text = metrics_text(call->daemon, &bytes);
	http_reply(call->request, text ? 200 : 500, "text/plain; version=0.0.4", text, bytes);
	call_free(call);
}

/* ---- routing ---- */

static const struct api_route routes[] = {
	{"GET", "/v1/status", status_show, ""},
	{"GET", "/v1/store", store_show, ""},
	{"GET", "/v1/store/forecast", forecast_show, ""},
	{"POST", "/v1/store/check", check_start, ""},
	{"POST", "/v1/store/upgrade", upgrade_start, ""},
	{"POST", "/v1/store/gc", gc_start, " recompress? "},
	{"POST", "/v1/store/scrub", scrub_start, " deep? "},
	{"POST", "/v1/store/fold", fold_all_start, ""},
	{"GET", "/v1/volumes", volume_list, ""},
	{"POST", "/v1/volumes", volume_create,
	 " name size_bytes# level# frame_bytes# quota_bytes# domain "},
	{"GET", "/v1/volumes/{}", object_show, ""},
	{"PATCH", "/v1/volumes/{}", volume_change,
	 " name size_bytes# level# quota_bytes# frame_bytes# iops# bandwidth_bytes# "
	 "burst_seconds# "},
	{"DELETE", "/v1/volumes/{}", volume_delete, ""},
	{"GET", "/v1/attachments", attachment_list, ""},
	{"PUT", "/v1/volumes/{}/attachment", attachment_make, " holder holder_name uid# "},
	{"DELETE", "/v1/volumes/{}/attachment", attachment_end, " holder "},
	{"POST", "/v1/volumes/{}/attachment/reconnect", attachment_again, " holder "},
	{"POST", "/v1/volumes/{}/fence", volume_fence, ""},
	{"POST", "/v1/volumes/{}/verify", verify_start, ""},
	{"POST", "/v1/volumes/{}/fold", fold_start, ""},
	{"GET", "/v1/snapshots", snapshot_list, ""},
	{"POST", "/v1/snapshots", snapshot_create, " names[] "},
	{"GET", "/v1/snapshots/{}", object_show, ""},
	{"DELETE", "/v1/snapshots/{}", snapshot_delete, ""},
	{"PATCH", "/v1/snapshots/{}", snapshot_change, " retain_until "},
	{"POST", "/v1/snapshots/{}/clone", snapshot_clone, " name "},
	{"POST", "/v1/snapshots/{}/restore", snapshot_restore, ""},
	{"POST", "/v1/snapshots/{}/seal", snapshot_seal, ""},
	{"POST", "/v1/snapshots/{}/verify", verify_start, ""},
	{"PUT", "/v1/snapshots/{}/holds/{}", snapshot_hold, ""},
	{"DELETE", "/v1/snapshots/{}/holds/{}", snapshot_release, ""},
	{"POST", "/v1/snapshots/{}/send", snapshot_send, " host rate_bytes# "},
	{"POST", "/v1/diff", diff_start, " a b "},
	{"GET", "/v1/peers", peer_list, ""},
	{"PUT", "/v1/peers/{}", peer_put, " address "},
	{"DELETE", "/v1/peers/{}", peer_delete, ""},
	{"GET", "/v1/domains", domain_list, ""},
	{"GET", "/v1/transfers", transfer_list, ""},
	{"GET", "/v1/replicas", replica_list, ""},
	{"PUT", "/v1/volumes/{}/replicas/{}", replica_set,
	 " lag_seconds# lag_bytes# rate_bytes# mode on_missing window "},
	{"PATCH", "/v1/volumes/{}/replicas/{}", replica_pace, " rate_bytes# window "},
	{"DELETE", "/v1/volumes/{}/replicas/{}", replica_remove, ""},
	{"GET", "/v1/voters", voter_list, ""},
	{"PUT", "/v1/volumes/{}/witnesses/{}", witness_set, ""},
	{"DELETE", "/v1/volumes/{}/witnesses/{}", witness_remove, " accept_loss? "},
	{"POST", "/v1/volumes/{}/promote", replica_promote, " name accept_loss? "},
	{"POST", "/v1/volumes/{}/recover", replica_recover, " name "},
	{"GET", "/v1/trash", trash_list, ""},
	{"POST", "/v1/trash/{}/restore", trash_restore, " as "},
	{"DELETE", "/v1/trash/{}", trash_purge, ""},
	{"GET", "/v1/policies", policy_list, ""},
	{"GET", "/v1/policies/{}", policy_show, ""},
	{"PUT", "/v1/policies/{}", policy_set,
	 " every_seconds# keep_last# keep_hourly# keep_daily# keep_weekly# keep_monthly# "
	 "keep_yearly# keep_nothing? send_to[] rate_bytes# window "},
	{"DELETE", "/v1/policies/{}", policy_delete, ""},
	{"PUT", "/v1/policies/{}/volumes/{}", policy_attach, ""},
	{"DELETE", "/v1/policies/{}/volumes/{}", policy_detach, ""},
	{"GET", "/v1/policies/{}/plan", policy_plan, ""},
	{"POST", "/v1/policies/{}/run", policy_run, ""},
	{"GET", "/v1/jobs", job_list, ""},
	{"GET", "/v1/jobs/{}", job_show, ""},
	{"DELETE", "/v1/jobs/{}", job_stop, ""},
	{"GET", "/metrics", metrics_show, ""},
};

void api_handle(void *state, struct http_request *request)
{
	struct daemon *daemon = state;
	char sentence[SENTENCE_BYTES];
	struct call *call = calloc(1, sizeof(*call));
	if (!call) {
		http_reply(request, 503, "application/json", NULL, 0);
		return;
	}
	call->daemon = daemon;
	call->request = request;
	if (daemon->stopping) {
		call_refuse(call, -ESHUTDOWN, "vstored is stopping; try again when it runs.");
		return;
	}
	int status = api_find(routes, sizeof routes / sizeof *routes, request, call->args,
			      &call->route, &call->body, sentence);
	if (status)
		call_reply(call, status,
			   api_error(status == 404 ? -ENOENT : -EINVAL, sentence, ""));
	else
		call->route->handle(call);
}
