/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows libevent. Its objects belong to the HTTP thread from its start to its
 * end; the reactor reaches that thread only through the list of answers, under the lock, and the
 * eventfd that says there are some.
 */
#include "storage/control/http.h"

#include "storage/rt/log_event.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HEADER_BYTES_MAX 16384
#define IDLE_S 60 /* a connection that asks nothing that long is closed */
#define LINGER_S 1
#define LISTEN_BACKLOG 64
/* evhttp answers a longer body itself, in HTML and at once; up to here the answer is ours. */
#define BODY_BYTES_READ (2 * HTTP_BODY_BYTES_MAX)
/* So with any method, those that it does not know too. */
#define METHODS_ALL UINT16_MAX

struct http {
	struct env *env;
	struct http_options options;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct event_base *base;
	struct evhttp *evhttp;
	struct evhttp_bound_socket *bound;
	struct event *wake;
	int wake_fd;
	pthread_t thread;
	unsigned sending; /* the thread's: answers that evhttp has not sent */

	pthread_mutex_t lock; /* of all below */
	struct http_request *answers, **answers_tail;
	unsigned pending;
	bool closed, quit;
};

/* ---- on the HTTP thread ---- */

static void sent(struct evhttp_request *handle, void *state)
{
	struct http *http = state;
	http->sending--;
	pthread_mutex_lock(&http->lock);
	bool quit = http->quit;
	pthread_mutex_unlock(&http->lock);
	if (quit && http->sending == 0)
		event_base_loopbreak(http->base);
}

static void text_free(const void *text, size_t bytes, void *state)
{
	free(state);
}

static void send_text(struct http *http, struct evhttp_request *handle, int status,
		      const char *content_type, char *text, size_t bytes)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(handle);
	/* evhttp gives such an answer no length; so the connection's end is its end. */
	if (evhttp_request_get_command(handle) == EVHTTP_REQ_HEAD)
		evhttp_add_header(headers, "Connection", "close");
	evhttp_add_header(headers, "Content-Type", content_type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	if (text && evbuffer_add_reference(evhttp_request_get_output_buffer(handle), text, bytes,
					   text_free, text) < 0)
		free(text);
	http->sending++;
	evhttp_request_set_on_complete_cb(handle, sent, http);
	evhttp_send_reply(handle, status, NULL, NULL);
}

/* A refusal that needs no reactor. The sentence needs no escaping in JSON. */
static void refuse(struct http *http, struct evhttp_request *handle, int status, const char *code,
		   const char *sentence)
{
	char *text = NULL;
	int bytes = asprintf(&text,
			     "{\"schema\": 1, \"error\": {\"code\": \"%s\", \"message\": \"%s\", "
			     "\"hint\": \"\", \"holder\": \"\"}}\n",
			     code, sentence);
	send_text(http, handle, status, "application/json", bytes < 0 ? NULL : text,
		  bytes < 0 ? 0 : (size_t)bytes);
}

static const char *method_name(struct evhttp_request *handle)
{
	switch (evhttp_request_get_command(handle)) {
	case EVHTTP_REQ_GET:
		return "GET";
	case EVHTTP_REQ_POST:
		return "POST";
	case EVHTTP_REQ_PUT:
		return "PUT";
	case EVHTTP_REQ_PATCH:
		return "PATCH";
	case EVHTTP_REQ_DELETE:
		return "DELETE";
	default:
		return "?";
	}
}

static void request_free(struct http_request *request)
{
	free(request->path);
	free(request->query);
	free(request->body);
	free(request);
}

static struct http_request *request_new(struct http *http, struct evhttp_request *handle)
{
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(handle);
	const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
	const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
	struct evbuffer *input = evhttp_request_get_input_buffer(handle);
	const char *prefer = evhttp_find_header(evhttp_request_get_input_headers(handle), "Prefer");
	struct http_request *request = calloc(1, sizeof(*request));
	if (!request)
		return NULL;
	request->http = http;
	request->handle = handle;
	request->method = method_name(handle);
	request->path = strdup(path ? path : "");
	request->query = strdup(query ? query : "");
	request->body_bytes = evbuffer_get_length(input);
	request->body = malloc(request->body_bytes + 1);
	request->async = prefer && strcasestr(prefer, "respond-async");
	if (!request->path || !request->query || !request->body) {
		request_free(request);
		return NULL;
	}
	evbuffer_copyout(input, request->body, request->body_bytes);
	request->body[request->body_bytes] = 0;
	return request;
}

/* The socket's mode decides who may connect at all; without a group of administrators to decide by,
 * the peer must be root or our own user. */
static bool peer_allowed(struct http *http, struct bufferevent *bev, struct ucred *ret_peer)
{
	socklen_t bytes = sizeof *ret_peer;
	if (getsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_PEERCRED, ret_peer, &bytes) < 0)
		return false;
	return http->options.any_peer || ret_peer->uid == 0 || ret_peer->uid == geteuid();
}

static void arrived(struct io_op *op)
{
	struct http_request *request = container_of(op, struct http_request, op);
	request->http->options.handle(request->http->options.state, request);
}

static void received(struct evhttp_request *handle, void *state)
{
	struct http *http = state;
	struct bufferevent *bev =
		evhttp_connection_get_bufferevent(evhttp_request_get_connection(handle));
	struct ucred peer;
	if (!peer_allowed(http, bev, &peer)) {
		log_event(LOG_LEVEL_WARNING, "api.denied", "uid=%ld", (long)peer.uid);
		refuse(http, handle, 403, "denied",
		       "This socket is for root and for the daemon's own user; be one of them.");
		return;
	}
	if (evbuffer_get_length(evhttp_request_get_input_buffer(handle)) > HTTP_BODY_BYTES_MAX) {
		refuse(http, handle, 413, "too_large",
		       "The body is larger than 1 MiB, and nothing here needs that much.");
		return;
	}
	struct http_request *request = request_new(http, handle);
	pthread_mutex_lock(&http->lock);
	bool closed = http->closed;
	bool taken = request && !closed && http->pending < HTTP_PENDING_MAX;
	http->pending += taken;
	pthread_mutex_unlock(&http->lock);
	if (!taken) {
		if (request)
			request_free(request);
		refuse(http, handle, 503, closed ? "stopping" : "busy",
		       closed ? "The daemon is stopping; try again when it runs."
			      : "Too many requests are under way; try again soon.");
		return;
	}
	request->uid = peer.uid;
	request->pid = peer.pid;
	/* evhttp ends the process when a second request arrives before the first is answered; so it
	 * may not arrive. Sending the answer turns reading on again. */
	bufferevent_disable(bev, EV_READ);
	request->op.done = arrived;
	env_post(http->env, &request->op);
}

static void woken(evutil_socket_t fd, short what, void *state)
{
	struct http *http = state;
	uint64_t count;
	ssize_t got = read(fd, &count, sizeof count);
	(void)got;
	pthread_mutex_lock(&http->lock);
	struct http_request *request = http->answers;
	http->answers = NULL;
	http->answers_tail = &http->answers;
	bool closed = http->closed, quit = http->quit;
	pthread_mutex_unlock(&http->lock);
	while (request) {
		struct http_request *next = request->next;
		struct evhttp_request *handle = request->handle;
		bufferevent_enable(
			evhttp_connection_get_bufferevent(evhttp_request_get_connection(handle)),
			EV_READ);
		send_text(http, handle, request->status, request->content_type, request->text,
			  request->text_bytes);
		request_free(request);
		request = next;
	}
	if (closed && http->bound) {
		evhttp_del_accept_socket(http->evhttp, http->bound);
		http->bound = NULL;
	}
	if (quit) {
		struct timeval linger = {.tv_sec = LINGER_S};
		event_base_loopexit(http->base, &linger);
		if (http->sending == 0)
			event_base_loopbreak(http->base);
	}
}

static void *http_run(void *state)
{
	struct http *http = state;
	event_base_dispatch(http->base);
	return NULL;
}

/* ---- on the reactor ---- */

static void http_wake(struct http *http)
{
	uint64_t one = 1;
	ssize_t written = write(http->wake_fd, &one, sizeof one);
	(void)written; /* full means that it is awake already */
}

void http_reply(struct http_request *request, int status, const char *content_type, char *text,
		size_t text_bytes)
{
	struct http *http = request->http;
	request->status = status;
	request->content_type = content_type;
	request->text = text;
	request->text_bytes = text_bytes;
	request->next = NULL;
	pthread_mutex_lock(&http->lock);
	*http->answers_tail = request;
	http->answers_tail = &request->next;
	assert(http->pending > 0);
	http->pending--;
	pthread_mutex_unlock(&http->lock);
	http_wake(http);
}

void http_close(struct http *http)
{
	pthread_mutex_lock(&http->lock);
	http->closed = true;
	pthread_mutex_unlock(&http->lock);
	http_wake(http);
}

unsigned http_pending(struct http *http)
{
	pthread_mutex_lock(&http->lock);
	unsigned pending = http->pending;
	pthread_mutex_unlock(&http->lock);
	return pending;
}

/* What nobody answers on is a dead daemon's; a living one's is left alone. */
static int path_clear(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	bool lives = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ||
		     errno == EAGAIN;
	close(fd);
	if (lives)
		return -EADDRINUSE;
	return unlink(address->sun_path) < 0 && errno != ENOENT ? -errno : 0;
}

static int http_listen(struct http *http)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, http->path, sizeof address.sun_path);
	int res = path_clear(&address);
	if (res < 0)
		return res;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mode_t old = umask(0177); /* no moment in which others may connect */
	if (res == 0 && bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		res = -errno;
	umask(old);
	if (res == 0 && http->options.group >= 0 &&
	    chown(http->path, (uid_t)-1, (gid_t)http->options.group) < 0)
		res = -errno;
	if (res == 0 &&
	    (chmod(http->path, http->options.mode) < 0 || listen(fd, LISTEN_BACKLOG) < 0))
		res = -errno;
	if (res < 0)
		close(fd);
	return res < 0 ? res : fd;
}

static void libevent_says(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_event(LOG_LEVEL_WARNING, "http.library", "text=\"%s\"", text);
}

static int http_set_up(struct http *http)
{
	http->base = event_base_new();
	http->evhttp = http->base ? evhttp_new(http->base) : NULL;
	http->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!http->evhttp || http->wake_fd < 0)
		return -ENOMEM;
	http->wake = event_new(http->base, http->wake_fd, EV_READ | EV_PERSIST, woken, http);
	if (!http->wake || event_add(http->wake, NULL) < 0)
		return -ENOMEM;
	evhttp_set_max_headers_size(http->evhttp, HEADER_BYTES_MAX);
	evhttp_set_max_body_size(http->evhttp, BODY_BYTES_READ);
	evhttp_set_timeout(http->evhttp, IDLE_S);
	evhttp_set_allowed_methods(http->evhttp, METHODS_ALL);
	evhttp_set_gencb(http->evhttp, received, http);
	int fd = http_listen(http);
	if (fd < 0)
		return fd;
	http->bound = evhttp_accept_socket_with_handle(http->evhttp, fd);
	if (!http->bound) {
		close(fd);
		return -ENOMEM;
	}
	return -pthread_create(&http->thread, NULL, http_run, http);
}

static void http_done(struct http *http)
{
	if (http->wake)
		event_free(http->wake);
	if (http->evhttp)
		evhttp_free(http->evhttp);
	if (http->base)
		event_base_free(http->base);
	if (http->wake_fd >= 0)
		close(http->wake_fd);
	pthread_mutex_destroy(&http->lock);
	free(http);
}

int http_new(struct env *env, const struct http_options *options, struct http **ret_http,
	     char ret_sentence[SENTENCE_BYTES])
{
	struct http *http = calloc(1, sizeof(*http));
	int res = http ? 0 : -ENOMEM;
	if (http) {
		http->env = env;
		http->options = *options;
		http->wake_fd = -1;
		http->answers_tail = &http->answers;
		pthread_mutex_init(&http->lock, NULL);
		event_set_log_callback(libevent_says);
		if (strlen(options->path) >= sizeof http->path)
			res = -ENAMETOOLONG;
		else
			memcpy(http->path, options->path, strlen(options->path) + 1);
	}
	if (res == 0)
		res = http_set_up(http);
	if (res < 0) {
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "The control socket %.150s cannot be opened (%s); give another folder "
			 "with --run.",
			 options->path, vs_strerror(res));
		if (http)
			http_done(http);
		return res;
	}
	*ret_http = http;
	return 0;
}

void http_free(struct http *http)
{
	if (!http)
		return;
	assert(http_pending(http) == 0);
	pthread_mutex_lock(&http->lock);
	http->closed = true;
	http->quit = true;
	pthread_mutex_unlock(&http->lock);
	http_wake(http);
	pthread_join(http->thread, NULL);
	unlink(http->path);
	http_done(http);
}
