/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows libcurl. */
#include "agent/client/client.h"

#include <curl/curl.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLIENT_CONNECT_MS 10000L

struct client {
	CURL *curl;
	char *socket_path;
	const volatile sig_atomic_t *interrupted;
	char *body;
	size_t body_bytes, room_bytes;
	char text[CURL_ERROR_SIZE];
};

static size_t client_receive(char *data, size_t one, size_t count, void *state)
{
	struct client *client = state;
	size_t bytes = one * count, need = client->body_bytes + bytes + 1;
	if (need > CLIENT_BODY_BYTES_MAX)
		return 0;
	if (need > client->room_bytes) {
		size_t room = need < 16384 ? 16384 : need * 2;
		char *body = realloc(client->body, room);
		if (!body)
			return 0;
		client->body = body;
		client->room_bytes = room;
	}
	memcpy(client->body + client->body_bytes, data, bytes);
	client->body_bytes += bytes;
	client->body[client->body_bytes] = 0;
	return bytes;
}

/* Called at least once a second: a signal ends the wait. */
static int client_tick(void *state, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct client *client = state;
	return client->interrupted && *client->interrupted != 0;
}

struct client *client_new(const char *socket_path, const volatile sig_atomic_t *interrupted)
{
	struct client *client = calloc(1, sizeof *client);
	if (!client)
		return NULL;
	client->interrupted = interrupted;
	client->curl = curl_easy_init();
	client->socket_path = strdup(socket_path);
	if (!client->curl || !client->socket_path) {
		client_free(client);
		return NULL;
	}
	return client;
}

void client_free(struct client *client)
{
	if (!client)
		return;
	if (client->curl)
		curl_easy_cleanup(client->curl);
	free(client->socket_path);
	free(client->body);
	free(client);
}

static void client_set_up(struct client *client, const struct client_request *request,
			  const char *url, struct curl_slist *headers)
{
	CURL *curl = client->curl;
	curl_easy_reset(curl); /* keeps the connection */
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* no http_proxy for a local socket */
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, client->text);
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, client_receive);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
	curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
	curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, client_tick);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CLIENT_CONNECT_MS);
	if (request->timeout_ms >= 0) /* 0 would mean no limit to curl */
		curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS,
				 request->timeout_ms ? (long)request->timeout_ms : 1L);
	if (strcmp(request->method, "HEAD") == 0)
		curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
	if (request->body)
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body);
}

/* Why curl failed, as a code and a sentence. */
static int client_failure(const struct client *client, CURLcode code, char sentence[SENTENCE_BYTES])
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
		curl_easy_getinfo(client->curl, CURLINFO_OS_ERRNO, &os_error);
		if (os_error == EACCES || os_error == EPERM) {
			snprintf(sentence, SENTENCE_BYTES,
				 "You may not use the socket %s; be root or in its group.",
				 client->socket_path);
			return -EACCES;
		}
		snprintf(sentence, SENTENCE_BYTES,
			 "Nobody answers on the socket %s; start vstored, or name another with "
			 "--host.",
			 client->socket_path);
		return -ECONNREFUSED;
	case CURLE_WRITE_ERROR:
		snprintf(sentence, SENTENCE_BYTES, "The daemon's answer is too large to hold.");
		return -EFBIG;
	default:
		snprintf(sentence, SENTENCE_BYTES,
			 "The connection to %.110s broke (%.90s); what was asked may have "
			 "happened: look, "
			 "then try again.",
			 client->socket_path,
			 *client->text ? client->text : curl_easy_strerror(code));
		return -ECONNREFUSED;
	}
}

int client_send(struct client *client, const struct client_request *request,
		struct client_reply *ret_reply, char ret_sentence[SENTENCE_BYTES])
{
	char url[CLIENT_PATH_ROOM + 32];
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");
	if (request->async)
		headers = curl_slist_append(headers, "Prefer: respond-async");
	snprintf(url, sizeof url, "http://localhost%s", request->path);
	client->body_bytes = 0;
	client->text[0] = 0;
	client_set_up(client, request, url, headers);
	CURLcode code = curl_easy_perform(client->curl);
	curl_slist_free_all(headers);
	if (code != CURLE_OK)
		return client_failure(client, code, ret_sentence);
	struct client_reply reply = {0};
	curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &reply.status);
	reply.body_bytes = client->body_bytes;
	reply.body = client->body_bytes ? client->body : strdup("");
	if (client->body_bytes) {
		client->body = NULL;
		client->room_bytes = 0;
	}
	*ret_reply = reply;
	return 0;
}

char *client_path(char out[CLIENT_PATH_ROOM], const char *prefix, const char *name,
		  const char *suffix)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t used = strlen(prefix), end = strlen(suffix);
	out[0] = 0;
	if (used + 3 * strlen(name) + end >= CLIENT_PATH_ROOM)
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
