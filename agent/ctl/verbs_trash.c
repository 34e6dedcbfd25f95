/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about the trash and about jobs. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"

#include <stdio.h>
#include <string.h>

int verb_trash_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/trash", &document);
	return res ? res : table_print_list(ctl, &table_trash, document);
}

/* Nothing is lost by it, so it does not ask. */
int verb_trash_restore(struct ctl *ctl)
{
	const char *as = ctl_option(ctl, "as");
	char path[CLIENT_PATH_ROOM], words[256];
	VALUE_AUTO body = value_object();
	int res = id_check(ctl, "trash", ctl->args[0]);
	if (res == 0 && as)
		res = name_check(ctl, as);
	if (res)
		return res;
	if (as)
		value_set_text(body, "as", as);
	snprintf(words, sizeof words, "%.60s is out of the trash%s%s.", ctl->args[0],
		 as ? " and called " : "", as ? as : "");
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/trash/", ctl->args[0], "/restore"),
		.body = body,
		.done = words};
	return call_change(ctl, &change, NULL);
}

/* The trash's entry with this id, or NULL. */
static const struct value *trash_find(const struct value *document, const char *id)
{
	char own[64];
	const struct value *entries = value_get(document, table_trash.key);
	for (size_t i = 0; i < value_count(entries); i++) {
		const struct value *entry = value_at(entries, i);
		if (strcmp(value_plain(value_get(entry, "id"), own, sizeof own), id) == 0)
			return entry;
	}
	return NULL;
}

int verb_trash_purge(struct ctl *ctl)
{
	const char *id = ctl->args[0];
	char path[CLIENT_PATH_ROOM], words[CTL_WORDS_BYTES];
	int wrong = id_check(ctl, "trash", id);
	if (wrong)
		return wrong;
	if (!ctl->yes || ctl->dry_run) {
		VALUE_AUTO document = NULL;
		int res = call_get(ctl, "/v1/trash", &document);
		if (res)
			return res;
		const struct value *entry = trash_find(document, id);
		if (!entry)
			return ctl_fail(ctl, CTL_NOT_FOUND,
					"The trash has no %s; see vstorectl trash list.", id);
		snprintf(words, sizeof words, "The %s %s is deleted for good.",
			 value_get_text(entry, "kind"), value_get_text(entry, "name"));
		if (!ctl_confirm(ctl, value_get_text(entry, "name"), words, &res))
			return res;
	}
	snprintf(words, sizeof words, "%.60s is gone for good.", id);
	const struct call_change change = {
		.method = "DELETE", .path = client_path(path, "/v1/trash/", id, ""), .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_job_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/jobs", &document);
	return res ? res : table_print_list(ctl, &table_jobs, document);
}

int verb_job_show(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = id_check(ctl, "job", ctl->args[0]);
	if (res == 0)
		res = call_get(ctl, client_path(path, "/v1/jobs/", ctl->args[0], ""), &document);
	if (res)
		return res;
	const struct value *job = call_object(document, "job");
	const struct value *lines = value_get(job, "lines");
	res = table_print_one(ctl, &table_jobs, job, document);
	bool people = ctl->format == FORMAT_TABLE || ctl->format == FORMAT_WIDE;
	for (size_t i = 0; res == 0 && people && i < value_count(lines); i++)
		table_print_line(value_text(value_at(lines, i)));
	return res;
}

int verb_job_wait(struct ctl *ctl)
{
	VALUE_AUTO job = NULL;
	int res = id_check(ctl, "job", ctl->args[0]);
	if (res == 0)
		res = call_job_wait(ctl, ctl->args[0], &job);
	return res ? res : call_job_print(ctl, job);
}

int verb_job_cancel(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[128];
	int res = id_check(ctl, "job", ctl->args[0]);
	if (res)
		return res;
	snprintf(words, sizeof words, "Job %.60s is told to end.", ctl->args[0]);
	const struct call_change change = {.method = "DELETE",
					   .path = client_path(path, "/v1/jobs/", ctl->args[0], ""),
					   .done = words};
	return call_change(ctl, &change, NULL);
}
