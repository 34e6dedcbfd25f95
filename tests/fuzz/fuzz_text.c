/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people and programs write to the daemons: a request of the API (its path, and its body
 * against a table of keys, as both daemons do it), the body that makes a VM, an INI file, and the
 * texts for sizes, durations, dates and names. The first byte chooses.
 *
 * Besides memory errors: every refusal has a sentence, and that makes an answer (no text that a
 * user sent can turn an error's answer into nothing).
 */
#include "agent/vm/domxml.h"
#include "agent/vm/spec.h"
#include "proto/text.h"
#include "proto/window.h"
#include "storage/control/api.h"
#include "storage/rt/conf.h"
#include "tests/fuzz/replay.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>

/* What answers need of the daemons. */
void http_reply(struct http_request *request, int status, const char *content_type, char *text,
		size_t text_bytes)
{
	(void)request;
	(void)status;
	(void)content_type;
	(void)text_bytes;
	free(text);
}

int problem_set(struct problem *problem, int code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(problem->sentence, sizeof problem->sentence, format, args);
	va_end(args);
	return code;
}

enum what { FUZZ_REQUEST, FUZZ_VM, FUZZ_CONF, FUZZ_TEXT, FUZZ_XML, FUZZ_COUNT };

/* One of each shape that the daemons' tables have. */
static const struct api_route routes[] = {
	{"GET", "/v1/volumes", NULL, ""},
	{"POST", "/v1/volumes", NULL, " name size_bytes# level# domain "},
	{"PATCH", "/v1/volumes/{}", NULL, " name size_bytes# level# quota_bytes# frame_bytes# "},
	{"PUT", "/v1/snapshots/{}/holds/{}", NULL, ""},
	{"POST", "/v1/vms", NULL, " name cpu# disks[] nics[] ssh_keys[] tpm? start? "},
	{"DELETE", "/v1/policies/{}/volumes/{}", NULL, ""},
};

static void answer(int code, const char *sentence, const char *holder)
{
	json_t *error = api_error(code, sentence, holder);
	assert(error && "a sentence that makes no answer");
	char *text = json_dumps(error, JSON_INDENT(1));
	assert(text);
	free(text);
	json_decref(error);
}

/* "METHOD PATH\nBODY" */
static void fuzz_request(char *text, size_t bytes)
{
	char args[API_ARGS_MAX][API_ARG_ROOM], sentence[SENTENCE_BYTES] = "";
	const struct api_route *route;
	struct http_request request = {.method = text, .query = ""};
	json_t *body = NULL;
	char *path = memchr(text, ' ', bytes), *line = memchr(text, '\n', bytes);
	if (!path || !line || line < path)
		return;
	*path = *line = 0;
	request.path = path + 1;
	request.body = line + 1;
	request.body_bytes = bytes - (size_t)(request.body - text);
	int status = api_find(routes, sizeof routes / sizeof *routes, &request, args, &route, &body,
			      sentence);
	if (status) {
		assert(sentence[0] && !body);
		answer(-EINVAL, sentence, "");
		return;
	}
	assert(json_is_object(body));
	unsigned arg = 0; /* what is not there is named */
	for (const char *at = route->path; (at = strstr(at, "{}")); at += 2, arg++)
		answer(-ENOENT, args[arg], args[arg]);
	json_decref(body);
}

static void fuzz_vm(const char *text, size_t bytes)
{
	struct problem problem = {0};
	json_t *spec, *body = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(body)) {
		if (spec_new(body, &spec, &problem) == 0) {
			const struct domxml_host host = {.kvm = true};
			assert(spec);
			char *xml = domxml_domain(spec, &host);
			json_decref(domxml_read(xml));
			free(xml);
			json_decref(spec);
		} else {
			assert(problem.sentence[0]);
			answer(-EINVAL, problem.sentence, problem.holder);
		}
	}
	json_decref(body);
}

static void fuzz_conf(const char *text, size_t bytes)
{
	static struct {
		char path[64];
		uint64_t size, duration;
		unsigned number;
		bool yes;
	} to;
	const struct conf_key keys[] = {
		{"store", "path", CONF_TEXT, to.path, sizeof to.path},
		{"store", "cache", CONF_SIZE, &to.size, 0},
		{"store", "trash_delay", CONF_DURATION, &to.duration, 0},
		{"nbd", "connections", CONF_NUMBER, &to.number, 0},
		{"nbd", "any", CONF_BOOL, &to.yes, 0},
	};
	static int fd = -1;
	char path[64], sentence[SENTENCE_BYTES];
	if (fd < 0)
		fd = memfd_create("conf", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) < 0 || pwrite(fd, text, bytes, 0) != (ssize_t)bytes)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int res = conf_read(path, keys, sizeof keys / sizeof *keys, sentence);
	assert((res == 0) == (sentence[0] == 0));
}

static void fuzz_text(const char *text)
{
	uint64_t value;
	char back[API_ARG_ROOM], hours[WINDOW_TEXT_BYTES];
	struct window window, again;
	(void)text_size(text, &value);
	(void)text_duration(text, &value);
	(void)text_time_parse(text, &value);
	if (window_parse(text, &window) == 0) {
		assert(window_good(&window));
		window_text(&window, hours);
		assert(window_parse(hours, &again) == 0 && again.from == window.from &&
		       again.until == window.until);
	}
	if (api_decode(text, strlen(text), back))
		assert(strlen(back) <= strlen(text) && back[0]);
	assert(!text_name_ok(text, strlen(text)) || strlen(text) <= NAME_BYTES_MAX);
}

static void fuzz_xml(const char *text)
{
	free(domxml_console(text));
	free(domxml_vnc(text));
	json_decref(domxml_read(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes < 1)
		return 0;
	char *text = malloc(bytes); /* exactly: an overrun is seen; terminated, as all here is */
	memcpy(text, data + 1, bytes - 1);
	text[bytes - 1] = 0;
	switch (data[0] % FUZZ_COUNT) {
	case FUZZ_REQUEST:
		fuzz_request(text, bytes - 1);
		break;
	case FUZZ_VM:
		fuzz_vm(text, bytes - 1);
		break;
	case FUZZ_CONF:
		fuzz_conf(text, bytes - 1);
		break;
	case FUZZ_TEXT:
		fuzz_text(text);
		break;
	default:
		fuzz_xml(text);
	}
	free(text);
	return 0;
}

static int corpus_write(const char *folder)
{
	static const struct {
		const char *name;
		enum what what;
		const char *text;
	} inputs[] = {
		{"create", FUZZ_REQUEST,
		 "POST /v1/volumes\n{\"name\": \"a\", \"size_bytes\": 4096}"},
		{"unknown_key", FUZZ_REQUEST,
		 "POST /v1/volumes\n{\"gr\xc3\xb6\xc3\x9f"
		 "e\": 4096}"},
		{"escaped", FUZZ_REQUEST, "PUT /v1/snapshots/a%40b/holds/x%ff\n"},
		{"wrong_type", FUZZ_REQUEST, "POST /v1/vms\n{\"disks\": 3, \"tpm\": true}"},
		{"vm", FUZZ_VM,
		 "{\"name\": \"web1\", \"cpu\": 2, \"disks\": [4096, 10], \"firmware\": \"uefi\", "
		 "\"nics\": [{\"bridge\": \"br0\", \"vlan\": 3, \"mac\": \"52:54:00:12:34:56\"}]}"},
		{"vm_refused", FUZZ_VM, "{\"name\": \"web1\", \"nics\": [{\"colour\": 1}]}"},
		{"conf", FUZZ_CONF,
		 "[store]\npath = /srv\ncache = 10M ; words\ntrash_delay=7d\n[nbd]\nconnections=3\n"
		 "any = yes\n"},
		{"conf_wrong", FUZZ_CONF, "[store]\npath = a\npath = b\n"},
		{"size", FUZZ_TEXT, "1.5G"},
		{"date", FUZZ_TEXT, "2026-11-27T02:00:00Z"},
		{"xml", FUZZ_XML,
		 "<domain "
		 "type='kvm'><name>a</name><uuid>1b4e28ba-2fa1-11d2-883f-0016d3cca427</uuid>"
		 "<memory unit='GiB'>2</memory><vcpu>2</vcpu><devices><disk type='file' "
		 "device='disk'><source file='/a'/><target dev='vda'/></disk><interface "
		 "type='bridge'><mac address='52:54:00:00:00:01'/><source "
		 "bridge='br0'/></interface>"
		 "<console type='pty'><source path='/dev/pts/3'/></console></devices></domain>"},
	};
	for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
		corpus_put(folder, inputs[i].name, inputs[i].what, inputs[i].text,
			   strlen(inputs[i].text));
	return 0;
}
