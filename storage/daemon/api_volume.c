/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API changes volumes, snapshots and the trash: what a body says is handed to the store, which
 * judges it. Each is one change (change_begin), answered when it is durable.
 */
#include "storage/daemon/call.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void volume_create(struct call *call)
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

void volume_change(struct call *call)
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
	json_object_foreach(call->body, key, value)
		break;
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

void volume_delete(struct call *call)
{
	note_number(call);
	store_volume_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

void snapshot_create(struct call *call)
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

void snapshot_delete(struct call *call)
{
	note_number(call);
	store_snap_delete(call->daemon->store, change_begin(call, ""), call->args[0]);
}

void snapshot_change(struct call *call)
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

void snapshot_clone(struct call *call)
{
	const char *name = body_text(call, "name");
	call->status = 201;
	store_volume_clone(call->daemon->store, change_begin(call, name), call->args[0], name);
}

void snapshot_restore(struct call *call)
{
	store_snap_restore(call->daemon->store, change_begin(call, call->args[0]), call->args[0]);
}

void snapshot_seal(struct call *call)
{
	store_snap_seal(call->daemon->store, change_begin(call, call->args[0]), call->args[0]);
}

void snapshot_hold(struct call *call)
{
	store_snap_hold(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			call->args[1]);
}

void snapshot_release(struct call *call)
{
	store_snap_release(call->daemon->store, change_begin(call, call->args[0]), call->args[0],
			   call->args[1]);
}

void trash_restore(struct call *call)
{
	uint64_t number;
	const char *as = body_text(call, "as");
	if (number_arg(call, &number))
		store_trash_restore(call->daemon->store, change_begin(call, as), number,
				    as[0] ? as : NULL);
}

void trash_purge(struct call *call)
{
	uint64_t number;
	if (number_arg(call, &number))
		store_trash_purge(call->daemon->store, change_begin(call, ""), number);
}
