/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about snapshots. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"
#include "proto/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A name for snapshots that got none: the moment in UTC, such as 20261124-074111Z. */
static void snap_name_now(char out[32])
{
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	strftime(out, 32, "%Y%m%d-%H%M%SZ", &tm);
}

int verb_snap_create(struct ctl *ctl)
{
	char now[32], name[SNAP_NAME_ROOM + 32], words[256];
	VALUE_AUTO body = value_object();
	struct value *names = value_array();
	value_set(body, "names", names);
	snap_name_now(now); /* once: all members of a step carry the same name */
	for (unsigned i = 0; i < ctl->arg_count; i++) {
		const char *given = ctl->args[i];
		int res = name_check_either(ctl, given);
		if (res)
			return res;
		bool named = strchr(given, '@');
		snprintf(name, sizeof name, "%s%s%s", given, named ? "" : "@", named ? "" : now);
		value_append(names, value_text_new(name));
	}
	if (ctl->arg_count == 1)
		snprintf(words, sizeof words, "Snapshot %s was taken.", name);
	else
		snprintf(words, sizeof words,
			 "%u snapshots were taken at one moment, the last is %s.", ctl->arg_count,
			 name);
	const struct call_change change = {
		.method = "POST", .path = "/v1/snapshots", .body = body, .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_snap_list(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = call_get(ctl,
			   ctl->arg_count
				   ? client_path(path, "/v1/snapshots?volume=", ctl->args[0], "")
				   : "/v1/snapshots",
			   &document);
	/* A volume without snapshots and none at all look the same in that list. */
	if (res == 0 && ctl->arg_count && !value_count(value_get(document, table_snapshots.key))) {
		VALUE_AUTO volume = NULL;
		res = call_get(ctl, client_path(path, "/v1/volumes/", ctl->args[0], ""), &volume);
	}
	return res ? res : table_print_list(ctl, &table_snapshots, document);
}

static int snap_get(struct ctl *ctl, const char *name, struct value **ret_document)
{
	char path[CLIENT_PATH_ROOM];
	int res = name_check_snapshot(ctl, name);
	return res ? res
		   : call_get(ctl, client_path(path, "/v1/snapshots/", name, ""), ret_document);
}

int verb_snap_show(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = snap_get(ctl, ctl->args[0], &document);
	if (res)
		return res;
	return table_print_one(ctl, &table_snapshots, call_object(document, "snapshot"), document);
}

static int snap_delete_one(struct ctl *ctl, const char *name)
{
	char path[CLIENT_PATH_ROOM], words[240];
	snprintf(words, sizeof words, "Snapshot %.130s is in the trash.", name);
	const struct call_change change = {.method = "DELETE",
					   .path = client_path(path, "/v1/snapshots/", name, ""),
					   .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_snap_delete(struct ctl *ctl)
{
	unsigned failed = 0;
	int res = 0;
	for (unsigned i = 0; i < ctl->arg_count; i++) {
		res = name_check_snapshot(ctl, ctl->args[i]);
		if (res)
			return res;
	}
	/* All questions come first, so that a refusal leaves everything as it was. */
	for (unsigned i = 0; i < ctl->arg_count && (!ctl->yes || ctl->dry_run); i++) {
		char what[CTL_WORDS_BYTES];
		VALUE_AUTO found = NULL;
		res = snap_get(ctl, ctl->args[i], &found);
		if (res)
			return res;
		snprintf(what, sizeof what, "Snapshot %.130s goes to the trash.", ctl->args[i]);
		if (!ctl_confirm(ctl, ctl->args[i], what, &res) && !(ctl->dry_run && res == 0))
			return res;
	}
	if (ctl->dry_run)
		return CTL_OK;
	for (unsigned i = 0; i < ctl->arg_count; i++) {
		int one = snap_delete_one(ctl, ctl->args[i]);
		failed += one != 0;
		res = one ? one : res;
	}
	return failed && failed < ctl->arg_count ? CTL_PARTLY : res;
}

int verb_snap_diff(struct ctl *ctl)
{
	VALUE_AUTO body = value_object();
	value_set_text(body, "a", ctl->args[0]);
	value_set_text(body, "b", ctl->args[1]);
	const struct call_change change = {
		.method = "POST", .path = "/v1/diff", .body = body, .wait_as_job = true};
	return call_change(ctl, &change, NULL);
}

int verb_snap_restore(struct ctl *ctl)
{
	const char *name = ctl->args[0];
	char path[CLIENT_PATH_ROOM], words[CTL_WORDS_BYTES];
	int volume_bytes = (int)strcspn(name, "@"), res = name_check_snapshot(ctl, name);
	if (res)
		return res;
	if (!ctl->yes || ctl->dry_run) {
		VALUE_AUTO found = NULL;
		char volume[SNAP_NAME_ROOM];
		res = snap_get(ctl, name, &found);
		if (res)
			return res;
		snprintf(volume, sizeof volume, "%.*s", volume_bytes, name);
		snprintf(words, sizeof words,
			 "Volume %s becomes %.130s again; what it holds now is lost.", volume,
			 name);
		if (!ctl_confirm(ctl, volume, words, &res))
			return res;
	}
	snprintf(words, sizeof words, "Volume %.*s is as it was at %.130s.", volume_bytes, name,
		 name);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/snapshots/", name, "/restore"),
		.wait_as_job = true,
		.done = words};
	return call_change(ctl, &change, NULL);
}

/* PUT or DELETE of a tag. */
static int snap_tag(struct ctl *ctl, const char *method, const char *words)
{
	char tag[CLIENT_PATH_ROOM], path[CLIENT_PATH_ROOM];
	int res = name_check(ctl, ctl->args[0]);
	if (res == 0)
		res = name_check_snapshot(ctl, ctl->args[1]);
	if (res)
		return res;
	client_path(tag, "/holds/", ctl->args[0], "");
	const struct call_change change = {
		.method = method,
		.path = client_path(path, "/v1/snapshots/", ctl->args[1], tag),
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_snap_hold(struct ctl *ctl)
{
	char words[256];
	snprintf(words, sizeof words, "%.130s is held by the tag %.63s.", ctl->args[1],
		 ctl->args[0]);
	return snap_tag(ctl, "PUT", words);
}

int verb_snap_release(struct ctl *ctl)
{
	char words[256];
	snprintf(words, sizeof words, "The tag %.63s holds %.130s no more.", ctl->args[0],
		 ctl->args[1]);
	return snap_tag(ctl, "DELETE", words);
}

int verb_snap_holds(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	VALUE_AUTO shown = value_object();
	int res = snap_get(ctl, ctl->args[0], &document);
	if (res)
		return res;
	const struct value *tags = value_get(call_object(document, "snapshot"), "holds");
	struct value *rows = value_array();
	for (size_t i = 0; i < value_count(tags); i++) {
		struct value *row = value_object();
		value_set_text(row, "tag", value_text(value_at(tags, i)));
		value_set_text(row, "snapshot", ctl->args[0]);
		value_append(rows, row);
	}
	value_set(shown, table_holds.key, rows);
	return table_print_list(ctl, &table_holds, shown);
}

int verb_snap_retain(struct ctl *ctl)
{
	const char *until = ctl_option(ctl, "until");
	char path[CLIENT_PATH_ROOM], words[256], date[TIME_TEXT_BYTES];
	uint64_t wall_ns;
	VALUE_AUTO body = value_object();
	int res = name_check_snapshot(ctl, ctl->args[0]);
	if (res)
		return res;
	if (!until || text_time_parse(until, &wall_ns) < 0)
		return ctl_fail(ctl, CTL_USAGE,
				"Until when? Say --until with a day (2036-01-31) or RFC 3339 time "
				"(2036-01-31T12:00:00Z).");
	text_time(wall_ns, date);
	value_set_text(body, "retain_until", date);
	snprintf(words, sizeof words, "%.130s cannot be deleted before %s.", ctl->args[0], date);
	const struct call_change change = {
		.method = "PATCH",
		.path = client_path(path, "/v1/snapshots/", ctl->args[0], ""),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}
