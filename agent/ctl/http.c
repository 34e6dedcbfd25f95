/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows libcurl. */
#include "agent/ctl/http.h"

#include "agent/ctl/ctl.h"

#include <curl/curl.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HTTP_CONNECT_MS 10000L

struct http {
	CURL *curl;
	char *socket_path;
	char *body;
	size_t body_bytes, room_bytes;
	char text[CURL_ERROR_SIZE];
};

static size_t http_receive(char *data, size_t one, size_t count, void *state)
{
	struct http *http = state;
	size_t bytes = one * count, need = http->body_bytes + bytes + 1;
	if (need > HTTP_BODY_BYTES_MAX)
		return 0;
	if (need > http->room_bytes) {
		size_t room = need < 16384 ? 16384 : need * 2;
		char *body = realloc(http->body, room);
		if (!body)
			return 0;
		http->body = body;
		http->room_bytes = room;
	}
	memcpy(http->body + http->body_bytes, data, bytes);
	http->body_bytes += bytes;
	http->body[http->body_bytes] = 0;
	return bytes;
}

/* Called at least once a second: a Ctrl-C ends the wait. */
static int http_tick(void *state, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	return ctl_interrupted != 0;
}

struct http *http_new(const char *socket_path)
{
	struct http *http = calloc(1, sizeof *http);
	if (!http)
		return NULL;
	http->curl = curl_easy_init();
	http->socket_path = strdup(socket_path);
	if (!http->curl || !http->socket_path) {
		http_free(http);
		return NULL;
	}
	return http;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	if (http->curl)
		curl_easy_cleanup(http->curl);
	free(http->socket_path);
	free(http->body);
	free(http);
}

static void http_set_up(struct http *http, const struct http_request *request, const char *url,
			struct curl_slist *headers)
{
	CURL *curl = http->curl;
	curl_easy_reset(curl); /* keeps the connection */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* no http_proxy for a local socket */
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, http->socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, http->text);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, http_receive);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, http);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, http_tick);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, HTTP_CONNECT_MS);
	if (request->timeout_ms >= 0) /* 0 would mean no limit to curl */
		curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
				 request->timeout_ms ? (long)request->timeout_ms : 1L);
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	if (request->body)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
}

/* Why curl failed, as a code and a sentence. */
static int http_failure(const struct http *http, CURLcode code, char sentence[SENTENCE_BYTES])
{
	long os_error = 0;
	switch (code) {
	case CURLE_ABORTED_BY_CALLBACK:
		snprintf(sentence, SENTENCE_BYTES, "Interrupted.");
		return -EINTR;
	case CURLE_OPERATION_TIMEDOUT:
		snprintf(sentence, SENTENCE_BYTES,
			 "The daemon did not answer in time; what was asked may still happen.");
		return -ETIMEDOUT;
	case CURLE_COULDNT_CONNECT:
		curl_easy_getinfo(http->curl, CURLINFO_OS_ERRNO, &os_error);
		if (os_error == EACCES || os_error == EPERM) {
			snprintf(sentence, SENTENCE_BYTES,
				 "You may not use the socket %s; be root or in its group.",
				 http->socket_path);
			return -EACCES;
		}
		snprintf(sentence, SENTENCE_BYTES,
			 "Nobody answers on the socket %s; start vstored, or name another with "
			 "--host.",
			 http->socket_path);
		return -ECONNREFUSED;
	case CURLE_WRITE_ERROR:
		snprintf(sentence, SENTENCE_BYTES, "The daemon's answer is too large to hold.");
		return -EFBIG;
	default:
		snprintf(sentence, SENTENCE_BYTES,
			 "The connection to %.110s broke (%.90s); what was asked may have "
			 "happened: look, "
			 "then try again.",
			 http->socket_path, *http->text ? http->text : curl_easy_strerror(code));
		return -ECONNREFUSED;
	}
}

int http_send(struct http *http, const struct http_request *request, struct http_reply *ret_reply,
	      char ret_sentence[SENTENCE_BYTES])
{
	char url[HTTP_PATH_ROOM + 32];
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	if (request->async)
		headers = curl_slist_append(headers, "Prefer: respond-async");
	snprintf(url, sizeof url, "http://localhost%s", request->path);
	http->body_bytes = 0;
	http->text[0] = 0;
	http_set_up(http, request, url, headers);
	CURLcode code = curl_easy_perform(http->curl);
	curl_slist_free_all(headers);
	if (code != CURLE_OK)
		return http_failure(http, code, ret_sentence);
	struct http_reply reply = {0};
	curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &reply.status);
	reply.body_bytes = http->body_bytes;
	reply.body = http->body_bytes ? http->body : strdup("");
	if (http->body_bytes) {
		http->body = NULL;
		http->room_bytes = 0;
	}
	*ret_reply = reply;
	return 0;
}

char *http_path(char out[HTTP_PATH_ROOM], const char *prefix, const char *name, const char *suffix)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t used = strlen(prefix), end = strlen(suffix);
	out[0] = 0;
	if (used + 3 * strlen(name) + end >= HTTP_PATH_ROOM)
		return out;
	memcpy(out, prefix, used);
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;
		if (isalnum(c) || strchr("-._~@", c)) {
			out[used++] = (char)c;
			continue;
		}
		out[used++] = '%';
		out[used++] = digits[c >> 4];
		out[used++] = digits[c & 15];
	}
	memcpy(out + used, suffix, end + 1);
	return out;
}
