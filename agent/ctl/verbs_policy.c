/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about policies: what snapshots are taken by themselves, and which of them are kept. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"
#include "proto/text.h"
#include "proto/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct column policy_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"EVERY", "every_seconds", CELL_NUMBER, false},
	{"LAST", "keep_last", CELL_NUMBER, false},
	{"HOURLY", "keep_hourly", CELL_NUMBER, false},
	{"DAILY", "keep_daily", CELL_NUMBER, false},
	{"WEEKLY", "keep_weekly", CELL_NUMBER, false},
	{"MONTHLY", "keep_monthly", CELL_NUMBER, false},
	{"YEARLY", "keep_yearly", CELL_NUMBER, false},
	{"VOLUMES", "volumes", CELL_TEXT, false},
	{"SEND_TO", "send_to", CELL_TEXT, false},
	{"WINDOW", "window", CELL_TEXT, true},
	{"LIMIT", "rate_bytes", CELL_SIZE, true},
	{NULL, NULL, CELL_TEXT, false},
};
static const struct table table_policies = {"policies", policy_columns};

static const struct column plan_columns[] = {
	{"SNAPSHOT", "snapshot", CELL_TEXT, false},
	{"ACTION", "action", CELL_TEXT, false},
	{"RULE", "rule", CELL_TEXT, false},
	{"CREATED", "created", CELL_TIME, false},
	{NULL, NULL, CELL_TEXT, false},
};
static const struct table table_plan = {"plan", plan_columns};

static const struct {
	const char *option, *key;
} keeps[] = {
	{"keep-last", "keep_last"},	  {"keep-hourly", "keep_hourly"},
	{"keep-daily", "keep_daily"},	  {"keep-weekly", "keep_weekly"},
	{"keep-monthly", "keep_monthly"}, {"keep-yearly", "keep_yearly"},
};

/* Where to: names with commas between them; how fast; when. */
static int sends_set(struct ctl *ctl, struct value *body)
{
	const char *hosts = ctl_option(ctl, "send-to"), *limit = ctl_option(ctl, "limit");
	const char *window = ctl_option(ctl, "window");
	struct value *list = value_array();
	uint64_t rate_bytes = 0;
	int res = 0;
	while (hosts && res == 0) {
		char host[NAME_BYTES_MAX + 2];
		size_t bytes = strcspn(hosts, ",");
		snprintf(host, sizeof host, "%.*s", (int)bytes, hosts);
		res = name_check(ctl, host);
		value_append(list, value_text_new(host));
		hosts = hosts[bytes] ? hosts + bytes + 1 : NULL;
	}
	value_set(body, "send_to", list);
	if (res == 0 && limit)
		res = size_parse(ctl, limit, &rate_bytes);
	if (res == 0 && window)
		res = window_check(ctl, window);
	if (window)
		value_set_text(body, "window", window);
	if (rate_bytes)
		value_set_integer(body, "rate_bytes", (int64_t)rate_bytes);
	return res;
}

/* All the rules at once: what is not said is 0, so that a line in a script says all of it. */
int verb_policy_set(struct ctl *ctl)
{
	const char *every = ctl_option(ctl, "every");
	char path[CLIENT_PATH_ROOM], words[160];
	uint64_t every_ns = 0, all = 0;
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[0]);
	if (res)
		return res;
	if (every && text_duration(every, &every_ns) < 0)
		return ctl_fail(ctl, CTL_USAGE,
				"--every %.40s is no duration; write it like 1h, 1d or 7d.", every);
	value_set_integer(body, "every_seconds", (int64_t)(every_ns / NSEC_PER_SEC));
	for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
		const char *given = ctl_option(ctl, keeps[i].option);
		char *end = "";
		unsigned long keep = given ? strtoul(given, &end, 10) : 0;
		if (given && (*end || given[0] < '0' || given[0] > '9' || keep > 100000))
			return ctl_fail(ctl, CTL_USAGE, "--%s takes a number from 0 to 100000.",
					keeps[i].option);
		value_set_integer(body, keeps[i].key, (int64_t)keep);
		all += keep;
	}
	res = sends_set(ctl, body);
	if (res)
		return res;
	if (all == 0) {
		snprintf(words, sizeof words,
			 "Policy %s would keep nothing: each snapshot that it took goes to the "
			 "trash.",
			 ctl->args[0]);
		if (!ctl_confirm(ctl, ctl->args[0], words, &res))
			return res;
		value_set_bool(body, "keep_nothing", true);
	} else if (ctl->dry_run) {
		ctl_say(ctl, "Policy %s would be set. (not done: --dry-run)", ctl->args[0]);
		return CTL_OK;
	}
	snprintf(words, sizeof words, "Policy %s is set.", ctl->args[0]);
	const struct call_change change = {
		.method = "PUT",
		.path = client_path(path, "/v1/policies/", ctl->args[0], ""),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}

int verb_policy_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/policies", &document);
	return res ? res : table_print_list(ctl, &table_policies, document);
}

int verb_policy_show(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, client_path(path, "/v1/policies/", ctl->args[0], ""), &document);
	return res ? res : table_print_one(ctl, &table_policies, document, document);
}

int verb_policy_delete(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], what[200];
	int res = 0;
	snprintf(what, sizeof what,
		 "Policy %.63s goes; its snapshots stay, and nothing removes them.", ctl->args[0]);
	if (!ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	snprintf(what, sizeof what, "Policy %.63s is deleted.", ctl->args[0]);
	const struct call_change change = {
		.method = "DELETE",
		.path = client_path(path, "/v1/policies/", ctl->args[0], ""),
		.done = what};
	return call_change(ctl, &change, NULL);
}

static int policy_volume(struct ctl *ctl, const char *method, const char *words)
{
	char volume[CLIENT_PATH_ROOM], path[CLIENT_PATH_ROOM];
	client_path(volume, "/volumes/", ctl->args[1], "");
	const struct call_change change = {
		.method = method,
		.path = client_path(path, "/v1/policies/", ctl->args[0], volume),
		.done = words};
	return call_change(ctl, &change, NULL);
}

static int print_plan(struct ctl *ctl, const char *query)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, client_path(path, "/v1/policies/", ctl->args[0], query), &document);
	return res ? res : table_print_list(ctl, &table_plan, document);
}

/* A copy has what the rules may let go at once, so what goes can be seen before. */
static unsigned plan_removes(const struct value *document)
{
	const struct value *rows = value_get(document, "plan");
	unsigned count = 0;
	for (size_t i = 0; i < value_count(rows); i++)
		count += strcmp(value_get_text(value_at(rows, i), "action"), "remove") == 0;
	return count;
}

int verb_policy_attach(struct ctl *ctl)
{
	char words[200], query[CLIENT_PATH_ROOM], path[CLIENT_PATH_ROOM];
	client_path(query, "/plan?volume=", ctl->args[1], "");
	if (ctl->dry_run)
		return print_plan(ctl, query);
	if (strchr(ctl->args[1], '/')) {
		VALUE_AUTO document = NULL;
		int res = call_get(ctl, client_path(path, "/v1/policies/", ctl->args[0], query),
				   &document);
		if (res)
			return res;
		unsigned goes = plan_removes(document);
		snprintf(words, sizeof words,
			 "%u of what was received of %.63s would go to the trash (--dry-run shows "
			 "which).",
			 goes, ctl->args[1]);
		if (goes && !ctl_confirm(ctl, ctl->args[1], words, &res))
			return res;
	}
	snprintf(words, sizeof words, "Volume %.63s has the policy %.63s now.", ctl->args[1],
		 ctl->args[0]);
	return policy_volume(ctl, "PUT", words);
}

int verb_policy_detach(struct ctl *ctl)
{
	char words[200];
	snprintf(words, sizeof words, "Volume %.63s has no policy now; its snapshots stay.",
		 ctl->args[1]);
	return policy_volume(ctl, "DELETE", words);
}

int verb_policy_run(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[120];
	if (ctl->dry_run)
		return print_plan(ctl, "/plan");
	snprintf(words, sizeof words, "Policy %.63s has run.", ctl->args[0]);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/policies/", ctl->args[0], "/run"),
		.wait_as_job = true,
		.done = words};
	return call_change(ctl, &change, NULL);
}
