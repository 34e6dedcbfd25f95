/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about volumes, but for import and export. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"
#include "proto/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* --level, --quota and --frame, which create and import share. */
int volume_options(const struct ctl *ctl, struct value *body)
{
	const char *level = ctl_option(ctl, "level"), *quota = ctl_option(ctl, "quota");
	const char *frame = ctl_option(ctl, "frame");
	int64_t number;
	uint64_t bytes;
	int res = level ? level_parse(ctl, level, &number) : 0;
	if (res)
		return res;
	if (level)
		value_set_integer(body, "level", number);
	res = quota ? size_parse(ctl, quota, &bytes) : 0;
	if (res)
		return res;
	if (quota)
		value_set_integer(body, "quota_bytes", (int64_t)bytes);
	res = frame ? size_parse(ctl, frame, &bytes) : 0;
	if (res)
		return res;
	if (frame)
		value_set_integer(body, "frame_bytes", (int64_t)bytes);
	return 0;
}

int verb_volume_create(struct ctl *ctl)
{
	const char *name = ctl->args[0], *size = ctl_option(ctl, "size");
	char words[160], human[32];
	uint64_t bytes;
	size_t replica_count = 0;
	VALUE_AUTO body = value_object();
	VALUE_AUTO peers = NULL;
	if (!size)
		return ctl_fail(ctl, CTL_USAGE,
				"How large? Say it with --size, such as --size 20G.");
	int res = name_check(ctl, name);
	if (res == 0)
		res = size_parse(ctl, size, &bytes);
	if (res == 0)
		res = volume_options(ctl, body);
	if (res == 0)
		res = replicas_choose(ctl, &peers, &replica_count);
	if (res)
		return res;
	bytes = round_up(bytes, BLOCK_BYTES);
	value_set_text(body, "name", name);
	value_set_integer(body, "size_bytes", (int64_t)bytes);
	snprintf(words, sizeof words, "Volume %s was created, %s.", name,
		 text_human(bytes, human, sizeof human));
	const struct call_change change = {
		.method = "POST", .path = "/v1/volumes", .body = body, .done = words};
	res = call_change(ctl, &change, NULL);
	return res ? res : replicas_add(ctl, name, peers, replica_count);
}

int verb_volume_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/volumes", &document);
	return res ? res : table_print_list(ctl, &table_volumes, document);
}

static int volume_get(struct ctl *ctl, const char *name, struct value **ret_document)
{
	char path[CLIENT_PATH_ROOM];
	return call_get(ctl, client_path(path, "/v1/volumes/", name, ""), ret_document);
}

int verb_volume_show(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = volume_get(ctl, ctl->args[0], &document);
	if (res)
		return res;
	return table_print_one(ctl, &table_volumes, call_object(document, "volume"), document);
}

static int volume_patch(struct ctl *ctl, const char *name, const struct value *body,
			const char *words)
{
	char path[CLIENT_PATH_ROOM];
	const struct call_change change = {.method = "PATCH",
					   .path = client_path(path, "/v1/volumes/", name, ""),
					   .body = body,
					   .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_volume_grow(struct ctl *ctl)
{
	char words[160], human[32];
	uint64_t bytes;
	VALUE_AUTO body = value_object();
	int res = size_parse(ctl, ctl->args[1], &bytes);
	if (res)
		return res;
	bytes = round_up(bytes, BLOCK_BYTES);
	value_set_integer(body, "size_bytes", (int64_t)bytes);
	snprintf(words, sizeof words, "Volume %.63s has %s now.", ctl->args[0],
		 text_human(bytes, human, sizeof human));
	return volume_patch(ctl, ctl->args[0], body, words);
}

int verb_volume_rename(struct ctl *ctl)
{
	char words[200];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[1]);
	if (res)
		return res;
	value_set_text(body, "name", ctl->args[1]);
	snprintf(words, sizeof words, "Volume %.63s is called %s now.", ctl->args[0], ctl->args[1]);
	return volume_patch(ctl, ctl->args[0], body, words);
}

int verb_volume_set(struct ctl *ctl)
{
	const char *pair = ctl->args[1], *equals = strchr(pair, '=');
	size_t bytes = equals ? (size_t)(equals - pair) : 0;
	int64_t level = 0, number = 0;
	uint64_t size = 0;
	char words[200];
	int res;
	VALUE_AUTO body = value_object();
	if (bytes == 5 && strncmp(pair, "level", bytes) == 0) {
		res = level_parse(ctl, equals + 1, &level);
		value_set_integer(body, "level", level);
	} else if (bytes == 5 && strncmp(pair, "quota", bytes) == 0) {
		res = size_parse(ctl, equals + 1, &size);
		value_set_integer(body, "quota_bytes", (int64_t)size);
	} else if (bytes == 5 && strncmp(pair, "frame", bytes) == 0) {
		res = size_parse(ctl, equals + 1, &size);
		value_set_integer(body, "frame_bytes", (int64_t)size);
	} else if (bytes == 4 && strncmp(pair, "iops", bytes) == 0) {
		res = count_parse(ctl, "iops", equals + 1, &number);
		value_set_integer(body, "iops", number);
	} else if (bytes == 9 && strncmp(pair, "bandwidth", bytes) == 0) {
		res = size_parse(ctl, equals + 1, &size);
		value_set_integer(body, "bandwidth_bytes", (int64_t)size);
	} else if (bytes == 5 && strncmp(pair, "burst", bytes) == 0) {
		res = seconds_parse(ctl, equals + 1, &number);
		value_set_integer(body, "burst_seconds", number);
	} else {
		res = ctl_fail(ctl, CTL_USAGE,
			       "\"%.80s\" cannot be set; it takes level=N, quota=SIZE, frame=SIZE, "
			       "iops=N, bandwidth=SIZE or burst=DURATION.",
			       pair);
	}
	if (res)
		return res;
	snprintf(words, sizeof words, "Volume %.63s has %.60s now.", ctl->args[0], pair);
	return volume_patch(ctl, ctl->args[0], body, words);
}

int verb_volume_delete(struct ctl *ctl)
{
	const char *name = ctl->args[0];
	char path[CLIENT_PATH_ROOM], what[CTL_WORDS_BYTES], human[32];
	int res;
	VALUE_AUTO found = NULL;
	VALUE_AUTO gone = NULL;
	if (!ctl->yes || ctl->dry_run) {
		res = volume_get(ctl, name, &found);
		if (res)
			return res;
		const struct value *volume = call_object(found, "volume");
		snprintf(what, sizeof what,
			 "Volume %.63s (%s, snapshots: %" PRId64 ") goes to the trash.", name,
			 text_human((uint64_t)value_get_integer(volume, "size_bytes"), human,
				    sizeof human),
			 value_get_integer(volume, "snapshot_count"));
		if (!ctl_confirm(ctl, name, what, &res))
			return res;
	}
	const struct call_change change = {.method = "DELETE",
					   .path = client_path(path, "/v1/volumes/", name, "")};
	res = call_change(ctl, &change, &gone);
	if (res == 0 && gone) {
		char id[64];
		const struct value *trash = value_get(gone, "trash_id");
		value_plain(trash ? trash : value_get(value_get(gone, "object"), "trash_id"), id,
			    sizeof id);
		ctl_say(ctl,
			"Volume %s is in the trash. Have it back with: vstorectl trash restore %s",
			name, id);
	}
	return res;
}

int verb_volume_clone(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[240];
	VALUE_AUTO body = value_object();
	int res = name_check_snapshot(ctl, ctl->args[0]);
	if (res == 0)
		res = name_check(ctl, ctl->args[1]);
	if (res)
		return res;
	value_set_text(body, "name", ctl->args[1]);
	snprintf(words, sizeof words, "Volume %s was cloned from %.130s.", ctl->args[1],
		 ctl->args[0]);
	/* It waits until the snapshot is folded, which can take long. */
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/snapshots/", ctl->args[0], "/clone"),
		.body = body,
		.wait_as_job = true,
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_volume_verify(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	const char *where = strchr(ctl->args[0], '@') ? "/v1/snapshots/" : "/v1/volumes/";
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, where, ctl->args[0], "/verify"),
		.wait_as_job = true};
	return call_change(ctl, &change, NULL);
}
