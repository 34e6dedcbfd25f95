/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about the store as a whole and about the tool itself. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/args.h"
#include "agent/ctl/call.h"
#include "agent/ctl/table.h"
#include "proto/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void status_space(const struct value *store)
{
	char used[32], total[32], stored[32], logical[32];
	uint64_t total_bytes = (uint64_t)value_get_integer(store, "disk_total_bytes");
	uint64_t free_bytes = (uint64_t)value_get_integer(store, "disk_free_bytes");
	if (!total_bytes)
		return;
	printf("disk       %s free of %s (%.0f%% full)\n",
	       text_human(free_bytes, used, sizeof used),
	       text_human(total_bytes, total, sizeof total),
	       100 - (double)free_bytes * 100 / (double)total_bytes);
	printf("data       %s in volumes, %s stored\n",
	       text_human((uint64_t)value_get_integer(store, "logical_bytes"), logical,
			  sizeof logical),
	       text_human((uint64_t)value_get_integer(store, "segment_bytes"), stored,
			  sizeof stored));
}

static void status_log(const struct value *store)
{
	char used[32], total[32];
	if (value_get_integer(store, "log_bytes") > 0)
		printf("log        %s of %s in use\n",
		       text_human((uint64_t)value_get_integer(store, "log_used_bytes"), used,
				  sizeof used),
		       text_human((uint64_t)value_get_integer(store, "log_bytes"), total,
				  sizeof total));
}

/* Foreign sentences, with the daemon's advice under each. */
static void status_problems(const struct value *problems)
{
	char line[CTL_WORDS_BYTES];
	if (value_count(problems) == 0)
		puts("\nNothing is wrong.");
	for (size_t i = 0; i < value_count(problems); i++) {
		const struct value *problem = value_at(problems, i);
		snprintf(line, sizeof line, "! %s", value_get_text(problem, "sentence"));
		putchar('\n');
		table_print_line(line);
		snprintf(line, sizeof line, "  %s", value_get_text(problem, "hint"));
		if (line[2])
			table_print_line(line);
	}
}

int verb_status(struct ctl *ctl)
{
	char line[CTL_WORDS_BYTES];
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/status", &document);
	if (res)
		return res;
	if (ctl->format == FORMAT_JSON) {
		table_print_json(document);
		return CTL_OK;
	}
	snprintf(line, sizeof line, "store      %s, vstore %s: %s",
		 value_get_text(document, "uuid"), value_get_text(document, "version"),
		 value_get_text(document, "state"));
	table_print_line(line);
	printf("contents   volumes: %" PRId64 ", snapshots: %" PRId64 ", running jobs: %" PRId64
	       "\n",
	       value_get_integer(document, "volumes"), value_get_integer(document, "snapshots"),
	       value_get_integer(document, "jobs_running"));
	status_space(value_get(document, "store"));
	status_log(value_get(document, "store"));
	status_problems(value_get(document, "problems"));
	return CTL_OK;
}

/* From what guests see to what the disk holds: each step says what it adds or saves. */
static void waterfall(const struct value *store)
{
	static const struct {
		const char *key, *words;
	} steps[] = {
		{"logical_bytes", "in volumes, as guests see it"},
		{"unique_bytes", "of different chunks, as last counted"},
		{"live_bytes", "needed, compressed, in segments"},
		{"trash_bytes", "  of that only for the trash, until it is purged"},
		{"garbage_bytes", "+ garbage, until a collection"},
		{"prepared_bytes", "+ prepared for new data"},
		{"reserve_bytes", "+ reserve, so that a full store can be collected"},
		{"log_bytes", "+ log"},
	};
	uint64_t all = (uint64_t)value_get_integer(store, "segment_bytes") +
		       (uint64_t)value_get_integer(store, "log_bytes");
	char human[32], line[CTL_WORDS_BYTES];
	putchar('\n');
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		uint64_t bytes = (uint64_t)value_get_integer(store, steps[i].key);
		if (strcmp(steps[i].key, "trash_bytes") == 0 && !value_get(store, "trash_counted"))
			continue; /* no collection has counted it yet */
		snprintf(line, sizeof line, "%10s  %s", text_human(bytes, human, sizeof human),
			 steps[i].words);
		table_print_line(line);
	}
	snprintf(line, sizeof line, "%10s  = on disk", text_human(all, human, sizeof human));
	table_print_line(line);
}

int verb_store_status(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/store", &document);
	if (res)
		return res;
	const struct value *store = call_object(document, "store");
	int shown = table_print_one(ctl, &table_store, store, document);
	if (ctl->format == FORMAT_TABLE && shown == CTL_OK)
		waterfall(store);
	return shown;
}

int verb_store_forecast(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/store/forecast", &document);
	if (res)
		return res;
	if (ctl->format == FORMAT_JSON) {
		table_print_json(document);
		return CTL_OK;
	}
	table_print_line(value_get_text(document, "sentence"));
	return CTL_OK;
}

/* "policies, recompression" */
static void names_join(const struct value *names, char *out, size_t room)
{
	size_t n = 0;
	out[0] = 0;
	for (size_t i = 0; i < value_count(names) && n < room; i++)
		n += (size_t)snprintf(out + n, room - n, "%s%s", i ? ", " : "",
				      value_text(value_at(names, i)));
}

int verb_store_upgrade(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	char missing[CTL_WORDS_BYTES / 2], done[CTL_WORDS_BYTES];
	int res = call_get(ctl, "/v1/store", &document);
	if (res)
		return res;
	names_join(value_get(value_get(document, "format"), "missing"), missing, sizeof missing);
	snprintf(done, sizeof done,
		 "The store's format has now: %s. Versions of vstored without it cannot open the "
		 "store any more.",
		 missing);
	if (ctl->dry_run) {
		if (missing[0])
			ctl_say(ctl, "The store's format would get: %s.", missing);
		else
			ctl_say(ctl, "The store's format is current: there is nothing to do.");
		return CTL_OK;
	}
	const struct call_change change = {
		.method = "POST", .path = "/v1/store/upgrade", .done = done};
	return call_change(ctl, &change, NULL);
}

int verb_store_check(struct ctl *ctl)
{
	const struct call_change change = {
		.method = "POST", .path = "/v1/store/check", .wait_as_job = true};
	return call_change(ctl, &change, NULL);
}

/* A job; the option, where it is given, is true in the body. */
static int change_with_flag(struct ctl *ctl, const char *path, const char *option)
{
	VALUE_AUTO body = NULL;
	if (ctl_option(ctl, option)) {
		body = value_object();
		value_set_bool(body, option, true);
	}
	const struct call_change change = {
		.method = "POST", .path = path, .body = body, .wait_as_job = true};
	return call_change(ctl, &change, NULL);
}

int verb_store_gc(struct ctl *ctl)
{
	return change_with_flag(ctl, "/v1/store/gc", "recompress");
}

int verb_store_scrub(struct ctl *ctl)
{
	return change_with_flag(ctl, "/v1/store/scrub", "deep");
}

/* The daemon's version is an extra: without a daemon this still succeeds. */
int verb_version(struct ctl *ctl)
{
	char sentence[SENTENCE_BYTES];
	struct client_reply reply = {0};
	const struct client_request request = {
		.method = "GET", .path = "/v1/status", .timeout_ms = 5000};
	int res = call_socket(ctl);
	if (res)
		return res;
	res = call_try(ctl, &request, &reply, sentence);
	VALUE_AUTO document = res < 0 ? NULL : value_parse(reply.body, reply.body_bytes);
	const char *daemon = value_get_text(document, "version");
	free(reply.body);
	if (ctl->format == FORMAT_JSON) {
		VALUE_AUTO shown = value_object();
		value_set_integer(shown, "schema", 1);
		value_set_text(shown, "vstorectl", CTL_VERSION);
		if (*daemon)
			value_set_text(shown, "daemon", daemon);
		table_print_json(shown);
		return CTL_OK;
	}
	printf("vstorectl %s\n", CTL_VERSION);
	if (*daemon) {
		fputs("vstored ", stdout);
		table_print_line(daemon);
	} else {
		ctl_say(ctl, "The daemon's version is not known: nobody answers on %s.",
			ctl->socket);
	}
	return CTL_OK;
}

int verb_completion(struct ctl *ctl)
{
	if (completion_print(ctl->args[0]) < 0)
		return ctl_fail(
			ctl, CTL_USAGE,
			"There is no completion for %s; there is one for bash, zsh and fish.",
			ctl->args[0]);
	return CTL_OK;
}

int verb_api(struct ctl *ctl)
{
	struct client_reply reply;
	struct client_request request = {.method = ctl->args[0],
					 .path = ctl->args[1],
					 .body = ctl->arg_count > 2 ? ctl->args[2] : NULL,
					 .timeout_ms = -1};
	for (const char *c = request.path; *c; c++)
		if (*request.path != '/' || *c <= ' ' || *c > '~' ||
		    strlen(request.path) >= CLIENT_PATH_ROOM)
			return ctl_fail(
				ctl, CTL_USAGE,
				"The path must begin with / and be percent-encoded, such as "
				"/v1/volumes.");
	if (strspn(request.method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(request.method) ||
	    !*request.method || !*request.path)
		return ctl_fail(ctl, CTL_USAGE,
				"The method must be GET, POST, PUT, PATCH or DELETE, in capitals.");
	if (request.body) {
		VALUE_AUTO body = value_parse(request.body, strlen(request.body));
		if (!body)
			return ctl_fail(ctl, CTL_USAGE, "The body is no JSON: %.100s",
					request.body);
	}
	int res = call_raw(ctl, &request, &reply);
	if (res)
		return res;
	fwrite(reply.body, 1, reply.body_bytes, stdout);
	if (reply.body_bytes && reply.body[reply.body_bytes - 1] != '\n')
		putchar('\n');
	VALUE_AUTO document = value_parse(reply.body, reply.body_bytes);
	const struct value *error = value_get(document, "error");
	free(reply.body);
	return (int)ctl_exit_of(reply.status,
				reply.status >= 400 ? value_get_text(error, "code") : NULL);
}
