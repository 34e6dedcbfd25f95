/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What connections between hosts can carry, without a store at either end (repl/channel.h):
 *
 *     repl_limit take ADDRESS:PORT [TLS-DIR]                    # until SIGTERM
 *     repl_limit give ADDRESS:PORT STREAMS SECONDS [TLS-DIR]    # prints MiB/s
 *
 * Messages of a usual record's size, as fast as the connections have room; without TLS-DIR in the
 * clear. Beside iperf3 on the same link it says what messages and TLS cost.
 */
#include "storage/repl/channel.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STREAMS_MAX 16u
#define RECORD_BYTES 24576u /* a chunk, compressed */
#define BODY_BYTES (ID_BYTES + RECORD_BYTES)

struct stream {
	struct channel *channel;
	struct env_sock *sock;
	struct io_op connect_op;
	bool open, ended;
};

static struct env *env;
static struct stream streams[STREAMS_MAX];
static struct tls_context *tls;
static struct env_listener *listener;
static struct io_op accept_op;
static struct env_sock *accepted_sock;
static volatile sig_atomic_t ending;
static bool giving;
static uint8_t message_bytes[REPL_HEADER_BYTES + BODY_BYTES];

static void on_signal(int number)
{
	(void)number;
	ending = 1;
}

static void on_time(struct env_timer *timer)
{
	(void)timer;
	ending = 1;
}

static void room(void *owner)
{
	struct stream *stream = owner;
	while (giving && !ending && channel_room(stream->channel))
		channel_send(stream->channel, message_bytes, sizeof message_bytes);
}

static void opened(void *owner)
{
	((struct stream *)owner)->open = true;
	room(owner);
}

static int message(void *owner, const struct repl_header *header, const uint8_t *body)
{
	(void)owner, (void)body;
	return header->body_bytes == BODY_BYTES ? 0 : -VS_EFORMAT;
}

static void closed(void *owner, int res, const char *sentence)
{
	struct stream *stream = owner;
	if (giving && !ending)
		fprintf(stderr, "repl_limit: %s: %s\n", vs_strerror(res), sentence);
	ending |= giving;
	channel_free(stream->channel);
	*stream = (struct stream){.ended = true};
}

static const struct channel_ops ops = {opened, message, room, closed};

/* Each side is taken for the other's host; the stores have nothing to do with it. */
static int stream_open(struct stream *stream, struct env_sock *sock)
{
	struct channel_options options = {.tls = tls, .plain_peer = giving ? "b" : "a"};
	memset(options.store_uuid, giving ? 1 : 2, sizeof options.store_uuid);
	return channel_new(env, sock, !giving, &options, &ops, stream, &stream->channel);
}

static void accepted(struct io_op *op)
{
	struct stream *stream = streams;
	while (stream < streams + STREAMS_MAX && stream->channel)
		stream++;
	if (op->res < 0 || stream == streams + STREAMS_MAX ||
	    stream_open(stream, accepted_sock) < 0) {
		ending = 1;
		return;
	}
	env_accept(listener, &accept_op, &accepted_sock);
}

static int take(const char *address)
{
	if (env_listen_tcp(env, address, &listener) < 0) {
		fprintf(stderr, "repl_limit: %s cannot be listened at\n", address);
		return 1;
	}
	accept_op.done = accepted;
	env_accept(listener, &accept_op, &accepted_sock);
	while (!ending)
		env_step(env, true);
	return 0; /* the process ends, and its sockets with it */
}

static int give(const char *address, unsigned count, unsigned seconds)
{
	struct env_timer timer = {.fire = on_time};
	for (unsigned i = 0; i < count; i++) {
		struct stream *stream = &streams[i];
		env_wait_prepare(&stream->connect_op);
		if (env_connect_tcp(env, address, &stream->connect_op, &stream->sock) < 0 ||
		    env_wait(env, &stream->connect_op) < 0 ||
		    stream_open(stream, stream->sock) < 0) {
			fprintf(stderr, "repl_limit: %s cannot be connected to\n", address);
			return 1;
		}
	}
	for (unsigned i = 0; i < count; i++)
		while (!streams[i].open && !ending)
			env_step(env, true);
	uint64_t from_ns = env_now_ns(env), sent = 0;
	for (unsigned i = 0; i < count && !ending; i++)
		sent -= channel_sent_bytes(streams[i].channel);
	env_timer_start(env, &timer, seconds * NSEC_PER_SEC);
	while (!ending)
		env_step(env, true);
	for (unsigned i = 0; i < count; i++) {
		if (streams[i].ended)
			return 1;
		sent += channel_sent_bytes(streams[i].channel);
	}
	printf("%.1f\n", (double)sent / (double)MIB * 1e9 / (double)(env_now_ns(env) - from_ns));
	return 0;
}

int main(int argc, char **argv)
{
	const char *words, *folder;
	char sentence[SENTENCE_BYTES];
	unsigned long count = 0, seconds = 0;
	giving = argc > 1 && strcmp(argv[1], "give") == 0;
	int needed = giving ? 5 : 3;
	if (argc < needed || argc > needed + 1 || (!giving && strcmp(argv[1], "take") != 0))
		goto usage;
	if (giving) {
		count = strtoul(argv[3], NULL, 10);
		seconds = strtoul(argv[4], NULL, 10);
		if (!count || count > STREAMS_MAX || !seconds)
			goto usage;
	}
	folder = argc > needed ? argv[needed] : NULL;
	if (folder && tls_context_new(folder, &tls, sentence) < 0) {
		fprintf(stderr, "repl_limit: %s\n", sentence);
		return 1;
	}
	if (env_real_new(&(struct env_real_options){.worker_count = 1}, &env, &words) < 0) {
		fprintf(stderr, "repl_limit: %s\n", words);
		return 1;
	}
	static const uint8_t id[ID_BYTES];
	repl_encode_record(1, id, RECORD_BYTES, message_bytes);
	for (unsigned i = 0; i < RECORD_BYTES; i++)
		message_bytes[REPL_HEADER_BYTES + ID_BYTES + i] = (uint8_t)(i * 2654435761u >> 16);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	return giving ? give(argv[2], (unsigned)count, (unsigned)seconds) : take(argv[2]);
usage:
	fprintf(stderr, "usage: repl_limit take ADDRESS:PORT [TLS-DIR] | "
			"give ADDRESS:PORT STREAMS SECONDS [TLS-DIR]\n");
	return 2;
}
