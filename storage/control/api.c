/* SPDX-License-Identifier: Apache-2.0 */
/* What the APIs of both daemons share: finding a route, checking a body against its list of keys,
 * and the shape of answers and errors. */
#include "storage/control/api.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BYTES 72

/* ---- answers ---- */

int api_status(int code)
{
	switch (-code) {
	case EINVAL:
		return 400;
	case EACCES:
	case EPERM:
	case VS_ERETAINED:
		return 403;
	case ENOENT:
		return 404;
	case EEXIST:
	case EBUSY:
	case VS_EFENCED:
	case VS_ECANCELLED:
		return 409;
	case ERANGE:
	case ENAMETOOLONG:
		return 422;
	case ESHUTDOWN:
	case ECONNREFUSED:
		return 503;
	case ETIMEDOUT:
		return 504;
	case ENOSPC:
	case VS_EQUOTA:
		return 507;
	default:
		return 500;
	}
}

/* What a user sent may be in it, cut anywhere, and need not be UTF-8: there is an answer anyway. */
static json_t *text_json(const char *text)
{
	char plain[SENTENCE_BYTES];
	json_t *out = json_string(text);
	if (out)
		return out;
	snprintf(plain, sizeof plain, "%s", text);
	for (char *at = plain; *at; at++)
		if (*at & 0x80)
			*at = '?';
	return json_string(plain);
}

json_t *api_error(int code, const char *sentence, const char *holder)
{
	return json_pack("{s:i, s:{s:s, s:o, s:s, s:o}}", "schema", 1, "error", "code",
			 vs_errname(code), "message",
			 text_json(sentence[0] ? sentence : vs_strerror(code)), "hint", "",
			 "holder", text_json(holder));
}

void api_reply(struct http_request *request, int status, json_t *body)
{
	char *text = json_dumps(body, JSON_INDENT(1));
	json_decref(body);
	http_reply(request, status, "application/json", text, text ? strlen(text) : 0);
}

json_t *time_json(uint64_t wall_ns)
{
	char text[TIME_TEXT_BYTES];
	text_time(wall_ns, text);
	return json_string(text);
}

/* ---- routing ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

bool api_decode(const char *from, size_t bytes, char out[API_ARG_ROOM])
{
	size_t n = 0;
	for (size_t i = 0; i < bytes; i++, n++) {
		if (n + 1 >= API_ARG_ROOM)
			return false;
		out[n] = from[i];
		if (from[i] != '%')
			continue;
		int high = bytes - i > 2 ? hex_digit(from[i + 1]) : -1;
		int low = bytes - i > 2 ? hex_digit(from[i + 2]) : -1;
		if (high < 0 || low < 0 || (high == 0 && low == 0))
			return false;
		out[n] = (char)(high << 4 | low);
		i += 2;
	}
	out[n] = 0;
	return n > 0;
}

static bool path_matches(const char *pattern, const char *path,
			 char args[API_ARGS_MAX][API_ARG_ROOM])
{
	unsigned arg = 0;
	while (*pattern) {
		if (strncmp(pattern, "{}", 2) != 0) {
			if (*pattern++ != *path++)
				return false;
			continue;
		}
		size_t bytes = strcspn(path, "/");
		if (!api_decode(path, bytes, args[arg++]))
			return false;
		pattern += 2;
		path += bytes;
	}
	return *path == 0;
}

/* ---- bodies ---- */

/* What a key's mark in the table asks for; 0: the key is not in the table. */
static char key_mark(const char *keys, const char *key)
{
	char word[WORD_BYTES];
	snprintf(word, sizeof word, " %.60s", key);
	size_t bytes = strlen(word);
	for (const char *at = strstr(keys, word); at; at = strstr(at + 1, word))
		if (strchr(" #?[", at[bytes]) && at[bytes])
			return at[bytes];
	return 0;
}

static const char *mark_wants(char mark, const json_t *value)
{
	switch (mark) {
	case '#':
		return json_is_integer(value) ? NULL : "a whole number";
	case '?':
		return json_is_boolean(value) ? NULL : "true or false";
	case '[':
		return json_is_array(value) ? NULL : "a list";
	default:
		return json_is_string(value) ? NULL : "a text";
	}
}

static void keys_plain(const char *keys, char *out, size_t room)
{
	size_t n = 0;
	for (; *keys && n + 1 < room; keys++)
		if (!strchr("#?[]", *keys))
			out[n++] = *keys;
	out[n] = 0;
}

static int body_read(const struct http_request *request, const char *keys, json_t **ret_body,
		     char *sentence)
{
	const char *key;
	json_t *value;
	json_error_t error = {.text = "it is something else"};
	if (request->body_bytes == 0) {
		*ret_body = json_object();
		return 0;
	}
	json_t *body =
		json_loadb(request->body, request->body_bytes, JSON_REJECT_DUPLICATES, &error);
	if (!json_is_object(body)) {
		snprintf(sentence, SENTENCE_BYTES, "The body must be a JSON object: %.150s.",
			 body ? "it is something else" : error.text);
		json_decref(body);
		return -EINVAL;
	}
	json_object_foreach(body, key, value) {
		char mark = key_mark(keys, key), known[200];
		const char *want = mark ? mark_wants(mark, value) : NULL;
		if (mark && !want)
			continue;
		keys_plain(keys, known, sizeof known);
		if (!mark)
			snprintf(sentence, SENTENCE_BYTES,
				 "'%.60s' is not known here; a body may have:%s.", key,
				 known[0] ? known : " nothing");
		else
			snprintf(sentence, SENTENCE_BYTES, "'%.60s' must be %s.", key, want);
		json_decref(body);
		return -EINVAL;
	}
	*ret_body = body;
	return 0;
}

int api_find(const struct api_route *routes, size_t count, const struct http_request *request,
	     char ret_args[API_ARGS_MAX][API_ARG_ROOM], const struct api_route **ret_route,
	     json_t **ret_body, char ret_sentence[SENTENCE_BYTES])
{
	bool path_known = false;
	for (size_t i = 0; i < count; i++) {
		if (!path_matches(routes[i].path, request->path, ret_args))
			continue;
		path_known = true;
		if (strcmp(routes[i].method, request->method) != 0)
			continue;
		if (body_read(request, routes[i].keys, ret_body, ret_sentence) < 0)
			return 400;
		*ret_route = &routes[i];
		return 0;
	}
	snprintf(ret_sentence, SENTENCE_BYTES, "%s",
		 path_known ? "This path does not take that method; see the API's description."
			    : "There is no such path; the API starts at /v1/status.");
	return path_known ? 405 : 404;
}
