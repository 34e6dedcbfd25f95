/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about whole VMs. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WORDS 400
#define FILE_BYTES_MAX (512u * 1024u)
#define POLL_NS 200000000L

/* ---- create ---- */

/* A whole small file as text; NULL: said why not. */
static char *file_text(const struct ctl *ctl, const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = file ? malloc(FILE_BYTES_MAX + 1) : NULL;
	size_t bytes = text ? fread(text, 1, FILE_BYTES_MAX + 1, file) : 0;
	if (file)
		fclose(file);
	if (!text || bytes > FILE_BYTES_MAX) {
		ctl_fail(ctl, CTL_FAILED, "%.200s %s.", path,
			 text ? "is larger than 512 KiB" : "cannot be read");
		free(text);
		return NULL;
	}
	text[bytes] = 0;
	return text;
}

int net_parse(const struct ctl *ctl, const char *text, struct value *nic)
{
	char copy[256], *save = NULL;
	int res = 0;
	snprintf(copy, sizeof copy, "%s", text);
	for (char *part = strtok_r(copy, ",", &save); part && res == 0;
	     part = strtok_r(NULL, ",", &save)) {
		char *equals = strchr(part, '=');
		int64_t number;
		if (!equals)
			return ctl_fail(
				ctl, CTL_USAGE,
				"A network is bridge=B,vlan=N,mac=M or network=N,mac=M; \"%.60s\" "
				"is neither.",
				part);
		*equals = 0;
		if (strcmp(part, "vlan") == 0) {
			res = count_parse(ctl, "a VLAN", equals + 1, &number);
			value_set_integer(nic, "vlan", number);
		} else {
			value_set_text(nic, part, equals + 1);
		}
	}
	return res;
}

static int create_lists(const struct ctl *ctl, struct value *body)
{
	const char *text;
	struct value *disks = value_array(), *nics = value_array();
	int res = 0;
	for (unsigned i = 0; res == 0 && (text = ctl_option_nth(ctl, "disk", i)); i++) {
		uint64_t bytes = 0;
		char number[32];
		res = size_parse(ctl, text, &bytes);
		snprintf(number, sizeof number, "%llu", (unsigned long long)bytes);
		value_append(disks, value_parse(number, strlen(number)));
	}
	for (unsigned i = 0; res == 0 && (text = ctl_option_nth(ctl, "net", i)); i++)
		if (strcmp(text, "none") != 0) {
			struct value *nic = value_object();
			res = net_parse(ctl, text, nic);
			value_append(nics, nic);
		}
	value_set(body, "disks", disks);
	if (ctl_option(ctl, "net"))
		value_set(body, "nics", nics);
	else
		value_free(nics);
	return res;
}

static int create_seed(const struct ctl *ctl, struct value *body)
{
	const char *user = ctl_option(ctl, "user-data"), *path;
	struct value *keys = value_array();
	if (user) {
		char *text = file_text(ctl, user);
		if (!text) {
			value_free(keys);
			return CTL_FAILED;
		}
		value_set_text(body, "user_data", text);
		free(text);
	}
	for (unsigned i = 0; (path = ctl_option_nth(ctl, "ssh-key", i)); i++) {
		char *text = file_text(ctl, path), *save = NULL;
		if (!text) {
			value_free(keys);
			return CTL_FAILED;
		}
		for (char *line = strtok_r(text, "\n", &save); line;
		     line = strtok_r(NULL, "\n", &save))
			if (*line && *line != '#')
				value_append(keys, value_text_new(line));
		free(text);
	}
	value_set(body, "ssh_keys", keys);
	return 0;
}

static int create_figures(const struct ctl *ctl, struct value *body)
{
	static const char *const texts[] = {"image", "firmware", "accel"};
	const char *cpu = ctl_option(ctl, "cpu"), *memory = ctl_option(ctl, "memory");
	const char *iso = ctl_option(ctl, "cdrom");
	char absolute[PATH_MAX];
	int64_t number;
	uint64_t bytes;
	int res = cpu ? count_parse(ctl, "CPUs", cpu, &number) : 0;
	if (res == 0 && cpu)
		value_set_integer(body, "cpu", number);
	if (res == 0 && memory)
		res = size_parse(ctl, memory, &bytes);
	if (res == 0 && memory)
		value_set_integer(body, "memory_bytes", (int64_t)bytes);
	if (res == 0 && iso && !realpath(iso, absolute))
		res = ctl_fail(ctl, CTL_NOT_FOUND, "There is no file %.200s.", iso);
	if (res == 0 && iso)
		value_set_text(body, "cdrom", absolute);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (ctl_option(ctl, texts[i]))
			value_set_text(body, texts[i], ctl_option(ctl, texts[i]));
	if (ctl_option(ctl, "tpm"))
		value_set_bool(body, "tpm", true);
	if (ctl_option(ctl, "no-start"))
		value_set_bool(body, "start", false);
	return res;
}

int verb_vm_create(struct ctl *ctl)
{
	char words[WORDS];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[0]);
	value_set_text(body, "name", ctl->args[0]);
	if (res == 0)
		res = create_figures(ctl, body);
	if (res == 0)
		res = create_lists(ctl, body);
	if (res == 0)
		res = create_seed(ctl, body);
	if (res)
		return res;
	snprintf(words, sizeof words, "VM %.63s %s. See it boot with: vstorectl vm console %.63s",
		 ctl->args[0], ctl_option(ctl, "no-start") ? "was made" : "runs", ctl->args[0]);
	const struct call_change change = {.method = "POST",
					   .path = "/v1/vms",
					   .body = body,
					   .wait_as_job = true,
					   .done = words};
	return call_change(ctl, &change, NULL);
}

/* ---- looking ---- */

int verb_vm_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/vms", &document);
	return res ? res : table_print_list(ctl, &table_vms, document);
}

static int vm_get(struct ctl *ctl, const char *tail, struct value **ret_document)
{
	char path[CLIENT_PATH_ROOM];
	return call_get(ctl, client_path(path, "/v1/vms/", ctl->args[0], tail), ret_document);
}

int verb_vm_show(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = vm_get(ctl, "", &document);
	return res ? res : table_print_one(ctl, &table_vms, document, document);
}

int verb_vm_why(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = vm_get(ctl, "/why", &document);
	if (res)
		return res;
	if (ctl->format == FORMAT_JSON)
		table_print_json(document);
	else
		table_print_line(value_get_text(document, "message"));
	return 0;
}

int verb_vm_vnc(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = vm_get(ctl, "/vnc", &document);
	if (res)
		return res;
	table_print_line(value_get_text(document, "socket"));
	ctl_say(ctl, "Open it with a VNC client that takes a unix socket, or over ssh with -L "
		     "5900:SOCKET.");
	return 0;
}

int verb_vm_log(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	struct client_reply reply;
	struct client_request request = {
		.method = "GET",
		.path = client_path(path, "/v1/vms/", ctl->args[0], "/log"),
		.timeout_ms = -1};
	int res = call_raw(ctl, &request, &reply);
	if (res)
		return res;
	if (reply.status != 200)
		res = call_error(ctl, &reply);
	else
		fwrite(reply.body, 1, reply.body_bytes, stdout);
	free(reply.body);
	return res;
}

/* ---- waiting ---- */

static int vm_pause_or_late(const struct ctl *ctl, const char *what)
{
	const struct timespec pause = {.tv_nsec = POLL_NS};
	nanosleep(&pause, NULL);
	if (ctl_interrupted)
		ctl_die_of_signal();
	if (ctl_left_ms(ctl) == 0)
		return ctl_fail(ctl, CTL_TIMED_OUT,
				"VM %.63s is not %s yet; it may still become so.", ctl->args[0],
				what);
	return 0;
}

/* Until its state is `what`, or ("agent") its guest agent answers. */
static int vm_until(struct ctl *ctl, const char *what)
{
	bool agent = strcmp(what, "agent") == 0;
	for (;;) {
		VALUE_AUTO document = NULL;
		int res = vm_get(ctl, agent ? "?agent=1" : "", &document);
		if (res)
			return res;
		if (agent ? value_true(value_get(document, "guest_agent"))
			  : strcmp(value_get_text(document, "state"), what) == 0)
			return 0;
		res = vm_pause_or_late(ctl, agent ? "answering" : what);
		if (res)
			return res;
	}
}

int verb_vm_wait(struct ctl *ctl)
{
	const char *what = ctl_option(ctl, "for");
	what = what ? what : "running";
	if (strcmp(what, "running") != 0 && strcmp(what, "stopped") != 0 &&
	    strcmp(what, "paused") != 0 && strcmp(what, "agent") != 0)
		return ctl_fail(ctl, CTL_USAGE,
				"--for takes running, stopped, paused or agent, not \"%.40s\".",
				what);
	return vm_until(ctl, what);
}

/* ---- power ---- */

static int power(struct ctl *ctl, const char *verb, const char *words)
{
	char path[CLIENT_PATH_ROOM], tail[40], said[WORDS];
	int res = name_check(ctl, ctl->args[0]);
	snprintf(tail, sizeof tail, "/%s", verb);
	snprintf(said, sizeof said, "VM %.63s %s", ctl->args[0], words ? words : "");
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/vms/", ctl->args[0], tail),
		.done = words ? said : NULL};
	return res ? res : call_change(ctl, &change, NULL);
}

static int power_asked(struct ctl *ctl, const char *verb, const char *danger, const char *words)
{
	char what[WORDS];
	int res = 0;
	snprintf(what, sizeof what, "VM %.63s %s", ctl->args[0], danger);
	if (!ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	return power(ctl, verb, words);
}

int verb_vm_start(struct ctl *ctl)
{
	return power(ctl, "start", "runs.");
}
int verb_vm_reboot(struct ctl *ctl)
{
	return power(ctl, "reboot", "was asked to reboot.");
}
int verb_vm_pause(struct ctl *ctl)
{
	return power(ctl, "pause", "is paused.");
}
int verb_vm_resume(struct ctl *ctl)
{
	return power(ctl, "resume", "goes on.");
}
int verb_vm_stop(struct ctl *ctl)
{
	return power_asked(ctl, "stop", "loses its power: what it has not written is lost.",
			   "is off.");
}
int verb_vm_reset(struct ctl *ctl)
{
	return power_asked(ctl, "reset", "is reset: what it has not written is lost.",
			   "was reset.");
}

/* All that run here. Some had to lose their power: partly done. */
static int shutdown_all(struct ctl *ctl)
{
	const char *deadline = ctl_option(ctl, "deadline");
	char list[400];
	int64_t seconds = 0;
	VALUE_AUTO ended = NULL;
	VALUE_AUTO body = value_object();
	int res = deadline ? seconds_parse(ctl, deadline, &seconds) : 0;
	if (deadline)
		value_set_integer(body, "deadline_s", seconds);
	if (res || !ctl_confirm(ctl, "all",
				"All guests of this host are asked to end; who does not in time "
				"loses its power.",
				&res))
		return res;
	const struct call_change change = {
		.method = "POST", .path = "/v1/vms/shutdown", .body = body, .wait_as_job = true};
	res = call_change(ctl, &change, &ended);
	const struct value *result = value_get(ended, "result");
	const struct value *lost = value_get(result, "destroyed");
	if (res || !result)
		return res;
	ctl_say(ctl, "%zu guests have ended by themselves.",
		value_count(value_get(result, "ended")));
	if (!value_count(lost))
		return 0;
	ctl_say(ctl,
		"Not ended in time, and without power now: %s. See what they said with "
		"vstorectl vm log, or give them longer with --deadline.",
		value_plain(lost, list, sizeof list));
	return CTL_PARTLY;
}

/* The guest ends itself, which may take its time. */
int verb_vm_shutdown(struct ctl *ctl)
{
	bool all = ctl_option(ctl, "all") != NULL;
	if (all != !ctl->arg_count || (!all && ctl_option(ctl, "deadline")))
		return ctl_fail(ctl, CTL_USAGE,
				"It takes the NAME of one VM, or --all with a --deadline.");
	if (all)
		return shutdown_all(ctl);
	int res = power(ctl, "shutdown", NULL);
	if (res)
		return res;
	ctl_say(ctl,
		"Waiting for %s to end by itself: its power button (ACPI) was pressed. Ctrl-C "
		"leaves it; vstorectl vm stop %s would end it hard.",
		ctl->args[0], ctl->args[0]);
	res = vm_until(ctl, "stopped");
	if (res == 0)
		ctl_say(ctl, "VM %s has stopped.", ctl->args[0]);
	return res;
}

/* ---- delete, rename, clone, set ---- */

int verb_vm_delete(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], what[WORDS], list[200];
	VALUE_AUTO ended = NULL;
	int res = name_check(ctl, ctl->args[0]);
	snprintf(what, sizeof what,
		 "VM %.63s goes; its own disks go to the trash, attached volumes stay.",
		 ctl->args[0]);
	if (res || !ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	const struct call_change change = {.method = "DELETE",
					   .path = client_path(path, "/v1/vms/", ctl->args[0], ""),
					   .wait_as_job = true};
	res = call_change(ctl, &change, &ended);
	const struct value *result = value_get(ended, "result");
	if (res == 0 && result) {
		ctl_say(ctl, "VM %.63s is gone. In the trash: %s.", ctl->args[0],
			value_plain(value_get(result, "trash"), list, sizeof list));
		if (value_count(value_get(result, "kept")))
			ctl_say(ctl, "Kept: %s.",
				value_plain(value_get(result, "kept"), list, sizeof list));
		const struct value *taken = value_get(result, "taken");
		for (size_t i = 0; i < value_count(taken); i++)
			ctl_say(ctl,
				"Not this VM's any more, and left alone: %.63s, which %.63s has.",
				value_get_text(value_at(taken, i), "volume"),
				value_get_text(value_at(taken, i), "holder"));
	}
	return res;
}

static int vm_patch(struct ctl *ctl, const struct value *body, bool job, const char *words)
{
	char path[CLIENT_PATH_ROOM];
	const struct call_change change = {.method = "PATCH",
					   .path = client_path(path, "/v1/vms/", ctl->args[0], ""),
					   .body = body,
					   .wait_as_job = job,
					   .done = words};
	return call_change(ctl, &change, NULL);
}

int verb_vm_rename(struct ctl *ctl)
{
	char words[WORDS];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[1]);
	value_set_text(body, "name", ctl->args[1]);
	snprintf(words, sizeof words, "VM %.63s is called %.63s now.", ctl->args[0], ctl->args[1]);
	return res ? res : vm_patch(ctl, body, true, words);
}

int verb_vm_clone(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[WORDS];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, ctl->args[1]);
	value_set_text(body, "name", ctl->args[1]);
	value_set_bool(body, "start", ctl_option(ctl, "start") != NULL);
	snprintf(words, sizeof words, "VM %.63s was cloned from %.63s.", ctl->args[1],
		 ctl->args[0]);
	const struct call_change change = {
		.method = "POST",
		.path = client_path(path, "/v1/vms/", ctl->args[0], "/clone"),
		.body = body,
		.wait_as_job = true,
		.done = words};
	return res ? res : call_change(ctl, &change, NULL);
}

int verb_vm_adopt(struct ctl *ctl)
{
	char words[WORDS];
	VALUE_AUTO body = value_object();
	value_set_text(body, "domain", ctl->args[0]);
	snprintf(words, sizeof words,
		 "VM %.63s is vstore's now and is off; its old files stay where they are until you "
		 "remove them. Start it with: vstorectl vm start %.63s",
		 ctl->args[0], ctl->args[0]);
	const struct call_change change = {.method = "POST",
					   .path = "/v1/vms/adopt",
					   .body = body,
					   .wait_as_job = true,
					   .done = words};
	return call_change(ctl, &change, NULL);
}

static int pair_parse(const struct ctl *ctl, const char *pair, struct value *body)
{
	const char *equals = strchr(pair, '=');
	char key[16] = "";
	int64_t number;
	uint64_t bytes;
	int res = 0;
	if (equals && equals - pair < (long)sizeof key)
		snprintf(key, (size_t)(equals - pair) + 1, "%s", pair);
	if (strcmp(key, "memory") == 0) {
		res = size_parse(ctl, equals + 1, &bytes);
		value_set_integer(body, "memory_bytes", (int64_t)bytes);
	} else if (strcmp(key, "cpu") == 0 || strcmp(key, "order") == 0) {
		res = count_parse(ctl, key, equals + 1, &number);
		value_set_integer(body, key, number);
	} else if (strcmp(key, "delay") == 0) {
		res = count_parse(ctl, "seconds of delay", equals + 1, &number);
		value_set_integer(body, "delay_s", number);
	} else if (strcmp(key, "autostart") == 0 &&
		   (strcmp(equals + 1, "yes") == 0 || strcmp(equals + 1, "no") == 0)) {
		value_set_bool(body, "autostart", equals[1] == 'y');
	} else {
		res = ctl_fail(ctl, CTL_USAGE,
			       "\"%.80s\" cannot be set; it takes cpu=N, memory=SIZE, "
			       "autostart=yes|no, order=N or delay=SECONDS.",
			       pair);
	}
	return res;
}

int verb_vm_set(struct ctl *ctl)
{
	VALUE_AUTO body = value_object();
	int res = 0;
	for (unsigned i = 1; i < ctl->arg_count && res == 0; i++)
		res = pair_parse(ctl, ctl->args[i], body);
	return res ? res
		   : vm_patch(ctl, body, false,
			      "It is set; CPUs and memory count from the next start.");
}
