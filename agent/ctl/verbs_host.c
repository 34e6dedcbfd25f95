/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about the host: networks, events, the audit log, the doctor, attachments. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int list(struct ctl *ctl, const char *path, const struct table *table)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, path, &document);
	return res ? res : table_print_list(ctl, table, document);
}

int verb_network_list(struct ctl *ctl)
{
	return list(ctl, "/v1/networks", &table_networks);
}

int verb_audit_list(struct ctl *ctl)
{
	return list(ctl, "/v1/audit", &table_audit);
}

int verb_audit_verify(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/audit/verify", &document);
	if (res)
		return res;
	if (ctl->format == FORMAT_JSON)
		table_print_json(document);
	ctl_say(ctl, "%" PRId64 " lines, all as they were written.",
		value_get_integer(document, "lines"));
	return 0;
}

/* With --since it prints what came after and ends; without, it goes on until Ctrl-C. */
int verb_events(struct ctl *ctl)
{
	const char *since = ctl_option(ctl, "since");
	char path[CLIENT_PATH_ROOM];
	int64_t cursor = 0;
	if (since && count_parse(ctl, "--since", since, &cursor) != 0)
		return CTL_USAGE;
	if (since)
		return list(ctl, client_path(path, "/v1/events?since=", since, ""), &table_events);
	for (;;) {
		VALUE_AUTO document = NULL;
		snprintf(path, sizeof path, "/v1/events?since=%" PRId64 "&wait=15", cursor);
		int res = call_get(ctl, path, &document);
		if (res == 0 && value_count(value_get(document, "events")))
			res = table_print_list(ctl, &table_events, document);
		fflush(stdout);
		if (res)
			return res;
		cursor = value_get_integer(document, "cursor");
		ctl->no_header = true;
	}
}

int verb_doctor(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/doctor", &document);
	if (res)
		return res;
	res = table_print_list(ctl, &table_findings, document);
	const struct value *findings = value_get(document, "findings");
	for (size_t i = 0; res == 0 && i < value_count(findings); i++)
		if (strcmp(value_get_text(value_at(findings, i), "state"), "ok") != 0)
			return CTL_FAILED;
	return res;
}

int verb_volume_attachments(struct ctl *ctl)
{
	char filter[160], path[CLIENT_PATH_ROOM];
	VALUE_AUTO volume = NULL;
	int res = ctl->arg_count
			  ? call_get(ctl, client_path(path, "/v1/volumes/", ctl->args[0], ""),
				     &volume)
			  : 0;
	if (res)
		return res;
	if (ctl->arg_count && !ctl->filter) {
		snprintf(filter, sizeof filter, "volume=%.63s", ctl->args[0]);
		ctl->filter = filter;
	}
	res = list(ctl, "/v1/attachments", &table_attachments);
	ctl->filter = NULL;
	return res;
}

int verb_volume_fence(struct ctl *ctl)
{
	const char *name = ctl->args[0], *holder = "its holder";
	char path[CLIENT_PATH_ROOM], words[320];
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, client_path(path, "/v1/volumes/", name, ""), &document);
	if (res)
		return res;
	const struct value *volume = call_object(document, "volume");
	if (*value_get_text(volume, "holder"))
		holder = value_get_text(volume, "holder");
	snprintf(words, sizeof words,
		 "The lease of %.100s on volume %.63s is broken: a guest that runs sees this disk "
		 "fail.",
		 holder, name);
	if (!ctl->yes || ctl->dry_run)
		if (!ctl_confirm(ctl, name, words, &res))
			return res;
	snprintf(words, sizeof words,
		 "The lease of %.100s on volume %.63s is broken; no write of it can land any more.",
		 holder, name);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/volumes/", name, "/fence"),
		.done = words};
	return call_change(ctl, &change, NULL);
}
