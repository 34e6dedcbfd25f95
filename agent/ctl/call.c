/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and their errors. Whatever went wrong is said here once; a verb only hands the exit
 * code on. Waiting for jobs is in jobs.c.
 */
#include "agent/ctl/call.h"

#include "agent/ctl/args.h"
#include "agent/ctl/table.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGENT_SOCKET "/run/vstore/agent.sock"
#define DAEMON_SOCKET "/run/vstore/storage.sock"

/* An agent that is installed but down must not be gone round: it may know of a change under way. */
static bool agent_installed(void)
{
	return access(AGENT_SOCKET, F_OK) == 0 || access("/usr/sbin/vstore-agent", F_OK) == 0 ||
	       access("/usr/bin/vstore-agent", F_OK) == 0;
}

int call_socket(struct ctl *ctl)
{
	const char *host = ctl->host ? ctl->host : getenv("VSTORE_HOST");
	if (*ctl->socket)
		return 0;
	if (!host || !*host) {
		snprintf(ctl->socket, sizeof ctl->socket, "%s",
			 agent_installed() ? AGENT_SOCKET : DAEMON_SOCKET);
		return 0;
	}
	if (strncmp(host, "unix:", 5) != 0 || !host[5])
		return ctl_fail(ctl, CTL_USAGE,
				"--host %s is not understood; it takes unix:PATH of a socket. For "
				"another host run vstorectl there, over ssh.",
				host);
	if (strlen(host + 5) >= sizeof ctl->socket)
		return ctl_fail(ctl, CTL_USAGE, "The path of --host is too long.");
	memcpy(ctl->socket, host + 5, strlen(host + 5) + 1);
	return 0;
}

int call_try(struct ctl *ctl, const struct client_request *request, struct client_reply *ret_reply,
	     char ret_sentence[SENTENCE_BYTES])
{
	struct client_request limited = *request;
	int left_ms = ctl_left_ms(ctl);
	if (!ctl->http)
		ctl->http = client_new(ctl->socket, &ctl_interrupted);
	if (!ctl->http) {
		snprintf(ret_sentence, SENTENCE_BYTES, "There is not enough memory.");
		return -ENOMEM;
	}
	if (left_ms >= 0 && (limited.timeout_ms < 0 || left_ms < limited.timeout_ms))
		limited.timeout_ms = left_ms;
	return client_send(ctl->http, &limited, ret_reply, ret_sentence);
}

/* A verb that vstore-agent alone knows, asked of vstored: it has no VMs either. */
static bool asked_of_vstored(struct ctl *ctl)
{
	static const char *const nouns[] = {"vm", "image", "network", "events", "audit", "doctor"};
	const struct client_request request = {
		.method = "GET", .path = "/v1/vms", .timeout_ms = 5000};
	const char *noun = ctl->command->noun;
	struct client_reply reply = {0};
	char sentence[SENTENCE_BYTES];
	bool agents = false;
	for (size_t i = 0; i < sizeof nouns / sizeof *nouns; i++)
		agents |= strncmp(noun, nouns[i], strcspn(noun, " ")) == 0;
	if (!agents || call_try(ctl, &request, &reply, sentence) < 0)
		return false;
	free(reply.body);
	return reply.status == 404;
}

int call_raw(struct ctl *ctl, const struct client_request *request, struct client_reply *ret_reply)
{
	char sentence[SENTENCE_BYTES];
	/* Whatever its verb forgot: a dry run asks, and changes nothing. */
	assert(!ctl->dry_run || strcmp(request->method, "GET") == 0);
	int res = call_socket(ctl);
	if (res)
		return res;
	res = call_try(ctl, request, ret_reply, sentence);
	if (res == -EINTR) {
		if (strcmp(request->method, "GET") != 0)
			ctl_say(ctl, "Interrupted; what was asked may still happen.");
		ctl_die_of_signal();
	}
	if (res < 0)
		return ctl_fail(ctl, ctl_exit_of_err(res), "%s", sentence);
	if (ret_reply->status != 404 || !asked_of_vstored(ctl))
		return 0;
	free(ret_reply->body);
	return ctl_fail(ctl, CTL_UNAVAILABLE,
			"%s is vstore-agent's to answer, and %s is vstored's socket: start "
			"vstore-agent, or name its socket with --host.",
			ctl->command->noun, ctl->socket);
}

int call_error(const struct ctl *ctl, const struct client_reply *reply)
{
	char own[160];
	VALUE_AUTO document = value_parse(reply->body, reply->body_bytes);
	const struct value *inner = value_get(document, "error");
	struct ctl_error error = {
		.code = ctl_exit_of(reply->status, value_get_text(inner, "code")),
		.message = value_get_text(inner, "message"),
		.hint = value_get_text(inner, "hint"),
		.holder = value_get_text(inner, "holder"),
	};
	if (*value_get_text(inner, "code"))
		error.word = value_get_text(inner, "code");
	if (error.code == CTL_OK) /* 2xx with an error in it makes no sense, but is none */
		error.code = CTL_FAILED;
	if (!*error.message) {
		snprintf(
			own, sizeof own,
			"The daemon answered with status %ld and no explanation; is it of the same "
			"version?",
			reply->status);
		error.message = own;
	}
	return ctl_fail_with(ctl, &error);
}

static int call_document(struct ctl *ctl, const struct client_request *request, long *ret_status,
			 struct value **ret_document)
{
	struct client_reply reply;
	int res = call_raw(ctl, request, &reply);
	if (res)
		return res;
	if (reply.status < 200 || reply.status >= 300) {
		res = call_error(ctl, &reply);
		free(reply.body);
		return res;
	}
	struct value *document = value_parse(reply.body, reply.body_bytes);
	free(reply.body);
	if (!value_is_object(document)) {
		value_free(document);
		return ctl_fail(ctl, CTL_FAILED,
				"The daemon's answer is no JSON object; is %s "
				"vstore's socket?",
				ctl->socket);
	}
	*ret_status = reply.status;
	*ret_document = document;
	return 0;
}

int call_get(struct ctl *ctl, const char *path, struct value **ret_document)
{
	long status;
	struct client_request request = {.method = "GET", .path = path, .timeout_ms = -1};
	return call_document(ctl, &request, &status, ret_document);
}

const struct value *call_object(const struct value *document, const char *key)
{
	const struct value *object = value_get(document, "object");
	if (!value_is_object(object))
		object = value_get(document, key);
	return value_is_object(object) ? object : document;
}

/* What -o json and -o name show of a change; words say the rest. */
static void change_print(const struct ctl *ctl, const struct value *document, const char *done)
{
	if (ctl->format == FORMAT_JSON)
		table_print_json(document);
	if (ctl->format == FORMAT_NAME)
		table_print_names(value_get(document, "object"));
	const struct value *changed = value_get(document, "changed");
	bool same = changed && !value_true(changed);
	if (done)
		ctl_say(ctl, "%s", same ? "Nothing to do: it is so already." : done);
}

static int change_as_job(struct ctl *ctl, const struct value *job, const char *done,
			 struct value **ret_document)
{
	char id[64];
	VALUE_AUTO ended = NULL;
	value_plain(value_get(job, "id"), id, sizeof id);
	if (ctl->async) {
		table_print_job(ctl, job);
		return 0;
	}
	int res = call_job_wait(ctl, id, &ended);
	if (res)
		return res;
	res = call_job_print(ctl, ended);
	if (res == 0 && done)
		ctl_say(ctl, "%s", done);
	if (ret_document) {
		*ret_document = ended;
		ended = NULL;
	}
	return res;
}

int call_change(struct ctl *ctl, const struct call_change *change, struct value **ret_document)
{
	long status = 0;
	VALUE_AUTO document = NULL;
	char *body = change->body ? value_dump(change->body, false) : NULL;
	struct client_request request = {.method = change->method,
					 .path = change->path,
					 .body = body,
					 .async = ctl->async || change->wait_as_job,
					 .timeout_ms = -1};
	int res = call_document(ctl, &request, &status, &document);
	free(body);
	if (res)
		return res;
	const struct value *job = value_get(document, "job");
	if (status == 202 && job)
		return change_as_job(ctl, job, change->done, ret_document);
	change_print(ctl, document, change->done);
	if (ret_document) {
		*ret_document = document;
		document = NULL;
	}
	return 0;
}
