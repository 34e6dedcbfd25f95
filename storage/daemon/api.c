/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control API: a table of methods and paths (proto/openapi.yaml describes it), and what each
 * does with the store. A request that changes something is answered when the change is durable; it
 * becomes a job when its client asked not to wait, and long work always does.
 */
#include "storage/daemon/call.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_S_MAX 3600u

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

/* ---- objects ---- */

/* Of a policy's number; "" for none, and for one that is gone. */
static json_t *policy_name(const struct daemon *daemon, uint32_t number)
{
	struct policy_info *list;
	size_t count;
	json_t *name = NULL;
	if (number && store_policies(daemon->store, &list, &count) == 0) {
		for (size_t i = 0; i < count && !name; i++)
			if (list[i].number == number)
				name = json_string(list[i].name);
		free(list);
	}
	return name ? name : json_string("");
}

/* What its deletion would free; nothing when that is not counted yet. */
static void freed_add(const struct daemon *daemon, json_t *out, const struct freed_info *freed)
{
	if (!freed->known)
		return;
	json_object_set_new(out, "freed_bytes", json_integer((json_int_t)freed->bytes));
	json_object_set_new(out, "freed_at_least", json_boolean(freed->at_least));
	json_object_set_new(out, "freed_counted",
			    time_json(env_wall_ns(daemon->env) - freed->age_ns));
}

/* Who alone may write to it, and what its clients may do. */
static void lease_add(json_t *out, const struct volume_info *v)
{
	json_object_set_new(out, "holder", json_string(v->lease.holder_name));
	json_object_set_new(out, "generation", json_integer((json_int_t)v->lease.generation));
	json_object_set_new(out, "iops", json_integer((json_int_t)v->limits.iops));
	json_object_set_new(out, "bandwidth_bytes",
			    json_integer((json_int_t)v->limits.bytes_per_s));
	json_object_set_new(out, "burst_seconds", json_integer((json_int_t)v->limits.burst_s));
}

static json_t *volume_json(const struct daemon *daemon, const struct volume_info *v)
{
	char uuid[UUID_TEXT_BYTES], domain[UUID_TEXT_BYTES], root[2 * ID_BYTES + 1];
	text_uuid(v->uuid, uuid);
	text_uuid(v->domain, domain);
	text_hex(v->root, ID_BYTES, root);
	json_t *out = json_pack(
		"{s:s, s:o, s:s, s:I, s:I, s:I, s:i, s:I, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:s, "
		"s:s, s:s, s:b, s:b}",
		"name", v->name, "policy", policy_name(daemon, v->policy), "uuid", uuid, "number",
		(json_int_t)v->number, "size_bytes", (json_int_t)v->size_bytes, "quota_bytes",
		(json_int_t)v->quota_bytes, "level", v->level, "frame_bytes",
		(json_int_t)v->frame_bytes, "epoch", (json_int_t)v->epoch, "vseq",
		(json_int_t)v->vseq, "created", time_json(v->created_wall_ns), "log_bytes",
		(json_int_t)v->log_bytes, "mapped_bytes", (json_int_t)v->mapped_bytes,
		"attachments", (json_int_t)v->attachments, "snapshot_count",
		(json_int_t)v->snapshot_count, "root", root, "origin", v->origin, "domain", domain,
		"replica", v->replica, "serving", v->answers);
	lease_add(out, v);
	freed_add(daemon, out, &v->freed);
	if (v->freed_own.known)
		json_object_set_new(out, "freed_own_bytes",
				    json_integer((json_int_t)v->freed_own.bytes));
	return out;
}

static json_t *snapshot_json(const struct daemon *daemon, const struct snapshot_info *s)
{
	char root[2 * ID_BYTES + 1] = "";
	json_t *holds = json_array();
	if (s->sealed)
		text_hex(s->root, ID_BYTES, root);
	for (uint32_t i = 0; i < s->hold_count; i++)
		json_array_append_new(holds, json_string(s->holds[i]));
	json_t *out = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:b, s:s, s:o, s:I}", "volume",
				s->volume, "name", s->name, "number", (json_int_t)s->number,
				"parent", (json_int_t)s->parent_number, "size_bytes",
				(json_int_t)s->size_bytes, "vseq", (json_int_t)s->vseq, "created",
				time_json(s->created_wall_ns), "sealed", s->sealed, "root", root,
				"holds", holds, "hold_count", (json_int_t)s->hold_count);
	json_object_set_new(out, "policy", policy_name(daemon, s->policy));
	if (s->retain_until_wall_ns)
		json_object_set_new(out, "retain_until", time_json(s->retain_until_wall_ns));
	freed_add(daemon, out, &s->freed);
	return out;
}

/* "VOL" or "VOL@SNAP"; NULL: it is not there. */
static json_t *object_json(const struct daemon *daemon, const char *name)
{
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t count;
	json_t *out = NULL;
	char full[SNAP_NAME_ROOM];
	if (strchr(name, '@')) {
		if (store_snapshots(daemon->store, false, &snapshots, &count) < 0)
			return NULL;
		for (size_t i = 0; i < count && !out; i++) {
			snprintf(full, sizeof full, "%s@%s", snapshots[i].volume,
				 snapshots[i].name);
			if (strcmp(full, name) == 0)
				out = snapshot_json(daemon, &snapshots[i]);
		}
		free(snapshots);
		return out;
	}
	if (store_volumes(daemon->store, false, &volumes, &count) < 0)
		return NULL;
	for (size_t i = 0; i < count && !out; i++)
		if (strcmp(volumes[i].name, name) == 0)
			out = volume_json(daemon, &volumes[i]);
	free(volumes);
	return out;
}

/* ---- changes ---- */

static void change_done(struct io_op *op)
{
	struct call *call = container_of(op, struct call, op.op);
	struct daemon *daemon = call->daemon;
	int res = (int)op->res;
	exports_sync(daemon);
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

static void volume_create(struct call *call)
{
	struct volume_options options = {
		.size_bytes = body_number(call, "size_bytes"),
		.level = (int)min_u64(body_number(call, "level"), 1000),
		.frame_bytes = (uint32_t)min_u64(body_number(call, "frame_bytes"), UINT32_MAX),
		.quota_bytes = body_number(call, "quota_bytes"),
		.domain = body_text(call, "domain")[0] ? body_text(call, "domain") : NULL};
	const char *name = body_text(call, "name");
	call->status = 201;
	store_volume_create(call->daemon->store, change_begin(call, name), name, &options);
}

/* "quota_bytes" is the store's "quota". */
static const char *set_key(const char *key)
{
	static const char *const keys[] = {"level", "quota", "frame", "iops", "bandwidth", "burst"};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (strncmp(key, keys[i], strlen(keys[i])) == 0)
			return keys[i];
	return key;
}

static void volume_change(struct call *call)
{
	struct store *store = call->daemon->store;
	const char *name = call->args[0], *key = "";
	char number[32];
	json_t *value = NULL;
	if (json_object_size(call->body) != 1) {
		call_refuse(call, -EINVAL,
			    "Give exactly one of name, size_bytes, level, quota_bytes, "
			    "frame_bytes, iops, bandwidth_bytes and burst_seconds.");
		return;
	}
	json_object_foreach(call->body, key, value) break;
	snprintf(number, sizeof number, "%llu", (unsigned long long)body_number(call, key));
	if (strcmp(key, "name") == 0)
		store_volume_rename(store, change_begin(call, body_text(call, key)), name,
				    body_text(call, key));
	else if (strcmp(key, "size_bytes") == 0)
		store_volume_grow(store, change_begin(call, name), name, body_number(call, key));
	else
		store_volume_set(store, change_begin(call, name), name, set_key(key), number);
}

/* What is deleted is found in the trash by its number. */
static void note_number(struct call *call)
{
	json_t *object = object_json(call->daemon, call->args[0]);
	call->trash_id = (uint32_t)json_integer_value(json_object_get(object, "number"));
	json_decref(object);
}

static void volume_delete(struct call *call)
{
	note_number(call);
	store_volume_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

static void snapshot_create(struct call *call)
{
	const char *names[SNAP_GROUP_MAX + 1];
	json_t *array = json_object_get(call->body, "names");
	size_t count = json_array_size(array);
	if (count == 0 || count > SNAP_GROUP_MAX) {
		call_refuse(call, -EINVAL, "'names' must be a list of 1 to 32 VOLUME@SNAP.");
		return;
	}
	for (size_t i = 0; i < count; i++) {
		names[i] = json_string_value(json_array_get(array, i));
		if (!names[i] || strlen(names[i]) >= SNAP_NAME_ROOM) {
			call_refuse(call, -EINVAL, "'names' must be a list of VOLUME@SNAP.");
			return;
		}
	}
	call->status = 201;
	store_snap_create(call->daemon->store, change_begin(call, names[0]), names, count);
}

static void snapshot_delete(struct call *call)
{
	note_number(call);
	store_snap_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

static void snapshot_change(struct call *call)
{
	uint64_t until;
	if (text_time_parse(body_text(call, "retain_until"), &until) < 0) {
		call_refuse(call, -EINVAL,
			    "'retain_until' must be a day or a time like 2036-01-31T00:00:00Z.");
		return;
	}
	store_snap_retain(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			  until);
}

static void snapshot_clone(struct call *call)
{
	const char *name = body_text(call, "name");
	call->status = 201;
	store_volume_clone(call->daemon->store, change_begin(call, name), call->args[0], name);
}

static void snapshot_restore(struct call *call)
{
	store_snap_restore(call->daemon->store, change_begin(call, call->args[0]), call->args[0]);
}

static void snapshot_seal(struct call *call)
{
	store_snap_seal(call->daemon->store, change_begin(call, call->args[0]), call->args[0]);
}

static void snapshot_hold(struct call *call)
{
	store_snap_hold(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			call->args[1]);
}

static void snapshot_release(struct call *call)
{
	store_snap_release(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			   call->args[1]);
}

static bool number_arg(struct call *call, uint64_t *ret)
{
	char *end;
	*ret = strtoull(call->args[0], &end, 10);
	if (*end == 0 && *ret <= UINT32_MAX && call->args[0][0])
		return true;
	call_refuse(call, -EINVAL, "A number is expected in this path.");
	return false;
}

static void trash_restore(struct call *call)
{
	uint64_t number;
	const char *as = body_text(call, "as");
	if (number_arg(call, &number))
		store_trash_restore(call->daemon->store, change_begin(call, as), number,
				    as[0] ? as : NULL);
}

static void trash_purge(struct call *call)
{
	uint64_t number;
	if (number_arg(call, &number))
		store_trash_purge(call->daemon->store, change_begin(call, ""), number);
}

/* ---- long work ---- */

static void start_check(struct job *job, struct store_work *work)
{
	store_check(job_store(job), work);
}
static void start_gc(struct job *job, struct store_work *work)
{
	store_gc(job_store(job), work);
}
static void start_recompressing_gc(struct job *job, struct store_work *work)
{
	work->recompress = true;
	store_gc(job_store(job), work);
}
static void start_scrub(struct job *job, struct store_work *work)
{
	store_scrub(job_store(job), work, false);
}
static void start_deep_scrub(struct job *job, struct store_work *work)
{
	store_scrub(job_store(job), work, true);
}
static void start_fold(struct job *job, struct store_work *work)
{
	store_fold(job_store(job), work, job_object(job)[0] ? job_object(job) : NULL);
}
static void start_verify(struct job *job, struct store_work *work)
{
	store_verify(job_store(job), work, job_object(job));
}
static void start_diff(struct job *job, struct store_work *work)
{
	store_diff(job_store(job), work, job_object(job), job_other(job));
}

static void work_start(struct call *call, const char *kind, const char *object, const char *other,
		       void (*start)(struct job *job, struct store_work *work))
{
	struct job *job = job_new(call->daemon, kind, object);
	if (!job) {
		call_refuse(call, -EBUSY, "Too many jobs run; wait for one, or cancel one.");
		return;
	}
	job_set_other(job, other);
	job_work(job, start);
	call_reply(call, 202, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
}

static void check_start(struct call *call)
{
	work_start(call, "check", "", "", start_check);
}
static void gc_start(struct call *call)
{
	bool recompress = json_is_true(json_object_get(call->body, "recompress"));
	work_start(call, "gc", "", "", recompress ? start_recompressing_gc : start_gc);
}
static void scrub_start(struct call *call)
{
	bool deep = json_is_true(json_object_get(call->body, "deep"));
	work_start(call, "scrub", "", "", deep ? start_deep_scrub : start_scrub);
}
static void fold_all_start(struct call *call)
{
	work_start(call, "fold", "", "", start_fold);
}
static void fold_start(struct call *call)
{
	work_start(call, "fold", call->args[0], "", start_fold);
}
static void verify_start(struct call *call)
{
	work_start(call, "verify", call->args[0], "", start_verify);
}
static void diff_start(struct call *call)
{
	work_start(call, "diff", body_text(call, "a"), body_text(call, "b"), start_diff);
}

/* ---- peers and copies ---- */

static void peer_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "peers", peers_json(call->daemon)));
}
static void domain_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "domains", domains_json(call->daemon)));
}
static void transfer_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "transfers", transfers_json(call->daemon)));
}

static void peer_put(struct call *call)
{
	store_peer_add(call->daemon->store, change_begin(call, ""), call->args[0],
		       body_text(call, "address"));
}
static void peer_delete(struct call *call)
{
	store_peer_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

static void snapshot_send(struct call *call)
{
	struct job *job;
	if (!call->daemon->replicas) {
		call_refuse(call, -ENOTCONN,
			    "This vstored has no certificate: start it with --tls DIR, made by "
			    "'vstorectl pki issue'.");
		return;
	}
	job = job_new(call->daemon, "send", call->args[0]);
	if (!job || replica_send(job, call->daemon, body_text(call, "host"),
				 body_number(call, "rate_bytes")) < 0) {
		if (job)
			job_end(job, -ENOMEM, "There is no memory for it.", "", NULL);
		call_refuse(call, -EBUSY, "Too many jobs run; wait for one, or cancel one.");
		return;
	}
	call_reply(call, 202, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
}

static void job_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "jobs", jobs_json(call->daemon)));
}

static struct job *call_job(struct call *call)
{
	uint64_t id;
	if (!number_arg(call, &id))
		return NULL;
	struct job *job = job_find(call->daemon, id);
	if (!job)
		call_refuse(call, -ENOENT,
			    "There is no job with this number; it may be long past.");
	return job;
}

static void job_show(struct call *call)
{
	struct job *job = call_job(call);
	uint64_t seconds = 0;
	if (!job)
		return;
	const char *wait = strstr(call->request->query, "wait=");
	if (wait)
		seconds = min_u64(strtoull(wait + 5, NULL, 10), WAIT_S_MAX);
	job_wait(job, call->request, seconds * NSEC_PER_SEC);
	call_free(call);
}

static void job_stop(struct call *call)
{
	struct job *job = call_job(call);
	if (!job)
		return;
	if (job_cancel(job) < 0) {
		call_refuse(call, -EBUSY, "A change cannot be cancelled once it is under way.");
		return;
	}
	job_wait(job, call->request, 5 * NSEC_PER_SEC);
	call_free(call);
}

/* ---- lists ---- */

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

static void object_show(struct call *call)
{
	json_t *object = object_json(call->daemon, call->args[0]);
	char sentence[SENTENCE_BYTES];
	if (object) {
		json_object_set_new(object, "schema", json_integer(1));
		call_reply(call, 200, object);
		return;
	}
	snprintf(sentence, sizeof sentence,
		 "There is no %s named '%s'; a list shows those that are.",
		 strchr(call->args[0], '@') ? "snapshot" : "volume", call->args[0]);
	call_refuse(call, -ENOENT, sentence);
}

static void volume_list(struct call *call)
{
	struct volume_info *infos;
	size_t count;
	json_t *array = json_array();
	if (store_volumes(call->daemon->store, false, &infos, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			json_array_append_new(array, volume_json(call->daemon, &infos[i]));
		free(infos);
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "volumes", array));
}

static void snapshot_list(struct call *call)
{
	struct snapshot_info *infos;
	size_t count;
	json_t *array = json_array();
	const char *query = call->request->query;
	char volume[API_ARG_ROOM] = "";
	if (strncmp(query, "volume=", 7) == 0 &&
	    !api_decode(query + 7, strlen(query + 7), volume)) {
		call_refuse(call, -EINVAL, "'volume' in the query is no name.");
		return;
	}
	if (store_snapshots(call->daemon->store, false, &infos, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			if (!volume[0] || strcmp(infos[i].volume, volume) == 0)
				json_array_append_new(array,
						      snapshot_json(call->daemon, &infos[i]));
		free(infos);
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "snapshots", array));
}

static void trash_add(json_t *array, const char *kind, uint32_t number, const char *name,
		      uint64_t size_bytes, uint64_t deleted_wall_ns, uint64_t purge_wall_ns)
{
	json_array_append_new(array, json_pack("{s:I, s:s, s:s, s:I, s:o, s:o}", "id",
					       (json_int_t)number, "kind", kind, "name", name,
					       "size_bytes", (json_int_t)size_bytes, "deleted",
					       time_json(deleted_wall_ns), "purge",
					       time_json(purge_wall_ns)));
}

static void trash_list(struct call *call)
{
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t count;
	char name[SNAP_NAME_ROOM];
	json_t *array = json_array();
	if (store_volumes(call->daemon->store, true, &volumes, &count) == 0) {
		for (size_t i = 0; i < count; i++)
			trash_add(array, "volume", volumes[i].number, volumes[i].name,
				  volumes[i].size_bytes, volumes[i].deleted_wall_ns,
				  volumes[i].purge_wall_ns);
		free(volumes);
	}
	if (store_snapshots(call->daemon->store, true, &snapshots, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			snprintf(name, sizeof name, "%s@%s", snapshots[i].volume,
				 snapshots[i].name);
			trash_add(array, "snapshot", snapshots[i].number, name,
				  snapshots[i].size_bytes, snapshots[i].deleted_wall_ns,
				  snapshots[i].purge_wall_ns);
		}
		free(snapshots);
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "trash", array));
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
	 " lag_seconds# lag_bytes# rate_bytes# mode on_missing "},
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
	 "keep_yearly# keep_nothing? "},
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
