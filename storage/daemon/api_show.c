/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API shows volumes, snapshots and what is in the trash: a volume or snapshot is one object of
 * JSON, the same in a list, alone, and as the answer to a change. What was not counted yet is left
 * out, never zero.
 */
#include "storage/daemon/call.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	json_object_set_new(out, "home_policy", json_string(v->home_policy));
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

json_t *object_json(const struct daemon *daemon, const char *name)
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

/* ---- one, and lists ---- */

void object_show(struct call *call)
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

/* A list that could not be made is not an empty one. */
static void list_refuse(struct call *call)
{
	call_refuse(call, -ENOMEM, "There is no memory for the list; try again.");
}

void volume_list(struct call *call)
{
	struct volume_info *infos;
	size_t count;
	if (store_volumes(call->daemon->store, false, &infos, &count) < 0) {
		list_refuse(call);
		return;
	}
	json_t *array = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, volume_json(call->daemon, &infos[i]));
	free(infos);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "volumes", array));
}

void snapshot_list(struct call *call)
{
	struct snapshot_info *infos;
	size_t count;
	const char *query = call->request->query;
	char volume[API_ARG_ROOM] = "";
	if (strncmp(query, "volume=", 7) == 0 &&
	    !api_decode(query + 7, strlen(query + 7), volume)) {
		call_refuse(call, -EINVAL, "'volume' in the query is no name.");
		return;
	}
	if (store_snapshots(call->daemon->store, false, &infos, &count) < 0) {
		list_refuse(call);
		return;
	}
	json_t *array = json_array();
	for (size_t i = 0; i < count; i++)
		if (!volume[0] || strcmp(infos[i].volume, volume) == 0)
			json_array_append_new(array, snapshot_json(call->daemon, &infos[i]));
	free(infos);
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

void trash_list(struct call *call)
{
	struct volume_info *volumes = NULL;
	struct snapshot_info *snapshots = NULL;
	size_t volume_count, snapshot_count;
	char name[SNAP_NAME_ROOM];
	if (store_volumes(call->daemon->store, true, &volumes, &volume_count) < 0 ||
	    store_snapshots(call->daemon->store, true, &snapshots, &snapshot_count) < 0) {
		free(volumes);
		list_refuse(call);
		return;
	}
	json_t *array = json_array();
	for (size_t i = 0; i < volume_count; i++) {
		/* "@SNAP": what that snapshot is received into. */
		const char *origin = volumes[i].origin;
		snprintf(name, sizeof name, "%s%.64s", volumes[i].name,
			 origin[0] == '@' ? origin : "");
		trash_add(array, "volume", volumes[i].number, name, volumes[i].size_bytes,
			  volumes[i].deleted_wall_ns, volumes[i].purge_wall_ns);
	}
	for (size_t i = 0; i < snapshot_count; i++) {
		snprintf(name, sizeof name, "%s@%s", snapshots[i].volume, snapshots[i].name);
		trash_add(array, "snapshot", snapshots[i].number, name, snapshots[i].size_bytes,
			  snapshots[i].deleted_wall_ns, snapshots[i].purge_wall_ns);
	}
	free(volumes);
	free(snapshots);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "trash", array));
}
