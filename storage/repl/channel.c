/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection between two vstored (channel.h).
 *
 *     socket -> wire -> (TLS) -> in -> messages          messages -> gather -> (TLS) -> out ->
 * socket
 *
 * One receive and one send are under way at most. What gathers in a pass of the loop is encrypted
 * while it is in the processor's cache, and sent at the pass's end, at once. In CLOSING what is
 * queued is still sent; in CLOSED the socket is shut down, and `closed` comes when no operation is
 * left.
 */
#include "storage/repl/channel.h"

#include "proto/text.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define WIRE_BYTES (256u * 1024)
#define IN_BYTES (2 * (REPL_HEADER_BYTES + REPL_BODY_MAX))
#define QUEUE_MANY (2 * MIB)	   /* queued bytes from which channel_room says no */
#define QUEUE_MOST (16 * MIB)	   /* more is no owner's: the peer asks, and reads no answer */
#define GATHER_MANY 65536u	   /* plain bytes that are encrypted without waiting for more */
#define IN_ROOM_MIN (IN_BYTES / 2) /* to receive into; a message is never longer */
#define HANDSHAKE_NS (10 * NSEC_PER_SEC)
#define LINGER_NS (2 * NSEC_PER_SEC) /* for the last words to leave */
#define SILENCE_NS (60 * NSEC_PER_SEC)

#define CHANNEL_STATES(X)                                                                          \
	X(TLS, "its TLS handshake")                                                                \
	X(HELLO, "its HELLO")                                                                      \
	X(OPEN, "a message")                                                                       \
	X(CLOSING, "the last words to leave")                                                      \
	X(CLOSED, "its operations to end")

enum channel_state {
#define X(name, text) CHANNEL_##name,
	CHANNEL_STATES(X)
#undef X
};

struct channel {
	struct env *env;
	struct env_sock *sock;
	struct channel_options options;
	const struct channel_ops *ops;
	void *owner;
	struct tls_session *tls;
	enum channel_state state;
	char peer[TLS_NAME_ROOM], expected[TLS_NAME_ROOM];
	struct repl_hello hello;

	struct io_op recv_op, send_op, kick_op;
	bool receiving, sending, kicked, paused, goodbye;
	bool no_room;		/* and somebody was told so */
	struct env_timer timer; /* of the state */
	uint64_t heard_ns;

	uint8_t *wire; /* received; without TLS nothing lies here */
	uint8_t *in;   /* plain bytes in [in_at, in_end) */
	uint32_t in_at, in_end;

	uint8_t *gather, *out; /* plain, and what a send has */
	size_t gather_bytes, gather_room, out_room, out_bytes;
	struct iovec iov;
	uint64_t sent_bytes, received_bytes;

	int res;
	char sentence[SENTENCE_BYTES];
};

static void channel_kick(struct channel *channel);

/* ---- ends ---- */

static void channel_shut(struct channel *channel, int res, const char *sentence)
{
	if (channel->state == CHANNEL_CLOSED)
		return;
	if (!channel->res) {
		channel->res = res;
		snprintf(channel->sentence, sizeof channel->sentence, "%s", sentence);
	}
	channel->state = CHANNEL_CLOSED;
	env_timer_stop(channel->env, &channel->timer);
	env_sock_shutdown(channel->sock);
	channel_kick(channel);
}

/* Says why, then ends. */
static void channel_end(struct channel *channel, int res, const char *sentence)
{
	uint8_t message[REPL_HEADER_BYTES + 6 + SENTENCE_BYTES];
	if (channel->state >= CHANNEL_CLOSING)
		return;
	if (channel->state == CHANNEL_TLS) {
		channel_shut(channel, res, sentence);
		return;
	}
	channel->res = res;
	snprintf(channel->sentence, sizeof channel->sentence, "%s", sentence);
	if (sentence[0])
		channel_send(channel, message,
			     repl_encode_error(0, 0, res, channel->sentence, message));
	channel->state = CHANNEL_CLOSING;
	env_timer_start(channel->env, &channel->timer, LINGER_NS);
	channel_kick(channel);
}

void channel_close(struct channel *channel, int code, const char *sentence)
{
	channel_end(channel, code, sentence);
}

static void channel_late(struct env_timer *timer)
{
	struct channel *channel = container_of(timer, struct channel, timer);
	uint64_t silent = env_now_ns(channel->env) - channel->heard_ns;
	if (channel->state == CHANNEL_OPEN && silent < channel->options.silence_ns) {
		env_timer_start(channel->env, timer, channel->options.silence_ns - silent);
		return;
	}
	static const char *const waited[] = {
#define X(name, text) [CHANNEL_##name] = (text),
		CHANNEL_STATES(X)
#undef X
	};
	char sentence[SENTENCE_BYTES];
	snprintf(sentence, sizeof sentence, "The peer let us wait too long for %s.",
		 waited[channel->state]);
	channel_shut(channel, channel->res ? channel->res : -ETIMEDOUT, sentence);
}

/* ---- out ---- */

static void send_done(struct io_op *op)
{
	struct channel *channel = container_of(op, struct channel, send_op);
	channel->sending = false;
	if (op->res < 0)
		channel_shut(channel, (int)op->res, "The peer went away.");
	else
		channel->sent_bytes += channel->out_bytes;
	channel_kick(channel);
}

static bool gather_room(struct channel *channel, size_t bytes)
{
	size_t room = channel->gather_room ? channel->gather_room : 65536;
	while (room < channel->gather_bytes + bytes)
		room *= 2;
	if (room == channel->gather_room)
		return true;
	uint8_t *larger = realloc(channel->gather, room);
	if (!larger)
		return false;
	channel->gather = larger;
	channel->gather_room = room;
	return true;
}

/* Encrypts what gathered: whole records of it, or all. */
static int gather_encrypt(struct channel *channel, bool all)
{
	size_t bytes = channel->gather_bytes;
	if (!all)
		bytes -= bytes % TLS_RECORD_MAX;
	int res = tls_write(channel->tls, channel->gather, bytes);
	channel->gather_bytes -= bytes;
	memmove(channel->gather, channel->gather + bytes, channel->gather_bytes);
	return res;
}

static size_t queued(const struct channel *channel)
{
	size_t encrypted = channel->tls ? tls_out_bytes(channel->tls) : 0;
	return channel->gather_bytes + encrypted + (channel->sending ? channel->out_bytes : 0);
}

void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	if (channel->state >= CHANNEL_CLOSING)
		return;
	if (queued(channel) + byte_count > QUEUE_MOST) {
		channel_shut(channel, -ENOBUFS, "The peer does not read what it is answered.");
		return;
	}
	if (!gather_room(channel, byte_count)) {
		channel_shut(channel, -ENOMEM, "There is no memory for what the peer is to get.");
		return;
	}
	memcpy(channel->gather + channel->gather_bytes, bytes, byte_count);
	channel->gather_bytes += byte_count;
	if (channel->tls && channel->state == CHANNEL_OPEN &&
	    channel->gather_bytes >= GATHER_MANY) {
		int res = gather_encrypt(channel, false);
		if (res < 0)
			channel_shut(channel, res, tls_sentence(channel->tls));
	}
	channel_kick(channel);
}

static bool has_room(const struct channel *channel)
{
	return queued(channel) < QUEUE_MANY;
}

/* A send may end before the next step looks: what counts is what was said. */
bool channel_room(struct channel *channel)
{
	bool room = has_room(channel);
	channel->no_room |= !room;
	return room;
}

/* What gathered becomes what is sent: encrypted, or by exchanging the buffers. */
static int out_prepare(struct channel *channel)
{
	channel->out_bytes = 0;
	if (channel->tls) {
		int res = 0;
		if (channel->gather_bytes && channel->state != CHANNEL_TLS)
			res = gather_encrypt(channel, true);
		if (channel->state == CHANNEL_CLOSING && !channel->goodbye) {
			channel->goodbye = true;
			tls_close(channel->tls);
		}
		channel->out_bytes = tls_out_take(channel->tls, &channel->out, &channel->out_room);
		return res;
	}
	uint8_t *free_buffer = channel->out;
	size_t free_room = channel->out_room;
	channel->out = channel->gather;
	channel->out_room = channel->gather_room;
	channel->out_bytes = channel->gather_bytes;
	channel->gather = free_buffer;
	channel->gather_room = free_room;
	channel->gather_bytes = 0;
	return 0;
}

static void channel_flush(struct channel *channel)
{
	if (channel->sending || channel->state == CHANNEL_CLOSED)
		return;
	int res = out_prepare(channel);
	if (res < 0) {
		channel_shut(channel, res, tls_sentence(channel->tls));
		return;
	}
	if (channel->out_bytes) {
		channel->sending = true;
		channel->iov = (struct iovec){channel->out, channel->out_bytes};
		channel->send_op.done = send_done;
		env_sock_send(channel->sock, &channel->send_op, &channel->iov, 1);
	} else if (channel->state == CHANNEL_CLOSING) {
		channel_shut(channel, channel->res, channel->sentence);
	}
}

/* ---- in ---- */

static void hello_send(struct channel *channel)
{
	uint8_t message[REPL_HEADER_BYTES + 64];
	struct repl_hello hello = {.version_min = REPL_VERSION_MIN,
				   .version_max = REPL_VERSION_MAX,
				   .features_known = REPL_FEATURES_KNOWN,
				   .wall_ns = env_wall_ns(channel->env)};
	memcpy(hello.store_uuid, channel->options.store_uuid, 16);
	channel->state = CHANNEL_HELLO;
	channel_send(channel, message, repl_encode_hello(&hello, message));
}

static void hello_received(struct channel *channel, const struct repl_header *header,
			   const uint8_t *body)
{
	char sentence[SENTENCE_BYTES];
	if (header->type != REPL_HELLO ||
	    repl_decode_hello(body, header->body_bytes, &channel->hello) < 0) {
		channel_end(channel, -VS_EFORMAT, "The peer did not say HELLO.");
		return;
	}
	if (channel->hello.version_max < REPL_VERSION_MIN ||
	    channel->hello.version_min > REPL_VERSION_MAX || channel->hello.features_needed) {
		snprintf(sentence, sizeof sentence,
			 "%.63s speaks versions %u to %u of the protocol, we speak %u to %u: "
			 "upgrade the "
			 "older one.",
			 channel->peer, channel->hello.version_min, channel->hello.version_max,
			 REPL_VERSION_MIN, REPL_VERSION_MAX);
		channel_end(channel, -VS_ENEWER, sentence);
		return;
	}
	if (memcmp(channel->hello.store_uuid, channel->options.store_uuid, 16) == 0) {
		channel_end(channel, -EINVAL,
			    "The peer serves a copy of this very store; a store must not be copied "
			    "to a second host.");
		return;
	}
	channel->state = CHANNEL_OPEN;
	env_timer_start(channel->env, &channel->timer, channel->options.silence_ns);
	channel->ops->opened(channel->owner);
}

static void error_received(struct channel *channel, const struct repl_header *header,
			   const uint8_t *body)
{
	struct repl_error error;
	char sentence[SENTENCE_BYTES];
	if (repl_decode_error(body, header->body_bytes, &error) < 0) {
		channel_end(channel, -VS_EFORMAT, "The peer sent a message that makes no sense.");
		return;
	}
	repl_quote(channel->peer, &error, sentence);
	channel_shut(channel, error.code, sentence);
}

static void in_refused(struct channel *channel, unsigned type, int res)
{
	char sentence[SENTENCE_BYTES];
	snprintf(sentence, sizeof sentence,
		 "The peer sent a message of type %u that makes no sense.", type);
	channel_end(channel, res,
		    res == -ENOMEM ? "There is no memory for what the peer sent." : sentence);
}

/* Hands on what is whole. */
static void in_dispatch(struct channel *channel)
{
	while (channel->state == CHANNEL_HELLO ||
	       (channel->state == CHANNEL_OPEN && !channel->paused)) {
		struct repl_header header;
		uint32_t left = channel->in_end - channel->in_at;
		if (left < REPL_HEADER_BYTES)
			break;
		if (repl_decode_header(channel->in + channel->in_at, &header) < 0) {
			channel_end(channel, -VS_EFORMAT,
				    "The peer sent a message that makes no sense.");
			break;
		}
		if (left < REPL_HEADER_BYTES + header.body_bytes)
			break;
		const uint8_t *body = channel->in + channel->in_at + REPL_HEADER_BYTES;
		channel->in_at += REPL_HEADER_BYTES + header.body_bytes;
		int res = 0;
		if (header.type == REPL_ERROR && header.request == 0)
			error_received(channel, &header, body);
		else if (channel->state == CHANNEL_HELLO)
			hello_received(channel, &header, body);
		else if (header.type < REPL_TYPE_IGNORED)
			res = channel->ops->message(channel->owner, &header, body);
		if (res < 0)
			in_refused(channel, header.type, res);
	}
}

/* Room to receive into. What is left of a message moves to the front only where it must, and never
 * under a receive. */
static uint32_t in_room(struct channel *channel)
{
	uint32_t left = channel->in_end - channel->in_at;
	if (channel->in_at && (left == 0 || IN_BYTES - channel->in_end < IN_ROOM_MIN)) {
		memmove(channel->in, channel->in + channel->in_at, left);
		channel->in_at = 0;
		channel->in_end = left;
	}
	return IN_BYTES - channel->in_end;
}

/* Decrypts into `in` as much as fits. False: nothing more is there, or there is no room. */
static bool in_fill(struct channel *channel)
{
	uint32_t room = channel->tls ? in_room(channel) : 0;
	if (!room)
		return false;
	int64_t got = tls_read(channel->tls, channel->in + channel->in_end, room);
	if (got > 0) {
		channel->in_end += (uint32_t)got;
		return true;
	}
	if (got == -ECONNRESET)
		channel_shut(channel, -ECONNRESET, "The peer closed the connection.");
	else if (got < 0)
		channel_shut(channel, (int)got, tls_sentence(channel->tls));
	return false;
}

static void handshake_step(struct channel *channel)
{
	int res = tls_handshake(channel->tls);
	if (res == 0)
		return;
	if (res < 0) {
		channel->res = res;
		snprintf(channel->sentence, sizeof channel->sentence, "%s",
			 tls_sentence(channel->tls));
		channel->state = CHANNEL_CLOSING; /* TLS has an alert to send */
		env_timer_start(channel->env, &channel->timer, LINGER_NS);
		return;
	}
	snprintf(channel->peer, sizeof channel->peer, "%s", tls_peer(channel->tls)->host);
	if (channel->expected[0] && strcmp(channel->expected, channel->peer) != 0) {
		char sentence[SENTENCE_BYTES];
		snprintf(sentence, sizeof sentence, "At the address of %.63s there is %.63s.",
			 channel->expected, channel->peer);
		channel->state = CHANNEL_HELLO;
		channel_end(channel, -EACCES, sentence);
		return;
	}
	hello_send(channel);
}

static void recv_done(struct io_op *op)
{
	struct channel *channel = container_of(op, struct channel, recv_op);
	channel->receiving = false;
	if (op->res <= 0) {
		channel_shut(channel, op->res < 0 ? (int)op->res : -ECONNRESET,
			     channel->state == CHANNEL_TLS
				     ? "The peer closed the connection before TLS was agreed on."
				     : "The connection was cut.");
	} else if (channel->state != CHANNEL_CLOSED) {
		channel->heard_ns = env_now_ns(channel->env);
		channel->received_bytes += (uint64_t)op->res;
		if (channel->tls)
			tls_in(channel->tls, channel->wire, (size_t)op->res);
		else
			channel->in_end += (uint32_t)op->res;
	}
	channel_kick(channel);
}

static void recv_arm(struct channel *channel)
{
	if (channel->receiving || (channel->tls && tls_in_left(channel->tls)))
		return;
	uint32_t room = channel->tls ? WIRE_BYTES : in_room(channel);
	void *to = channel->tls ? channel->wire : channel->in + channel->in_end;
	if (room == 0)
		return;
	channel->receiving = true;
	channel->recv_op.done = recv_done;
	env_sock_recv(channel->sock, &channel->recv_op, to, room);
}

/* ---- stepping: in a pass of its own, never inside the owner's call ---- */

static void channel_step(struct channel *channel)
{
	if (channel->state == CHANNEL_TLS && channel->tls)
		handshake_step(channel);
	else if (channel->state == CHANNEL_TLS)
		hello_send(channel);
	bool more = true;
	while (more && (channel->state == CHANNEL_HELLO || channel->state == CHANNEL_OPEN)) {
		more = in_fill(channel);
		in_dispatch(channel);
	}
	channel_flush(channel);
	if (channel->state == CHANNEL_TLS || channel->state == CHANNEL_HELLO ||
	    (channel->state == CHANNEL_OPEN && !channel->paused))
		recv_arm(channel);
	if (channel->no_room && has_room(channel) && channel->state == CHANNEL_OPEN) {
		channel->no_room = false;
		channel->ops->room(channel->owner);
	}
}

static void kick_done(struct io_op *op)
{
	struct channel *channel = container_of(op, struct channel, kick_op);
	channel->kicked = false;
	channel_step(channel);
	if (channel->state == CHANNEL_CLOSED && !channel->receiving && !channel->sending &&
	    !channel->kicked)
		channel->ops->closed(channel->owner, channel->res, channel->sentence);
}

static void channel_kick(struct channel *channel)
{
	if (channel->kicked)
		return;
	channel->kicked = true;
	channel->kick_op.done = kick_done;
	env_complete(channel->env, &channel->kick_op, 0);
}

void channel_pause(struct channel *channel, bool paused)
{
	channel->paused = paused;
	if (!paused)
		channel_kick(channel);
}

bool channel_recheck(struct channel *channel, struct tls_context *newer)
{
	char sentence[SENTENCE_BYTES];
	if (!newer || !channel->tls || !tls_peer(channel->tls) ||
	    tls_peer_still_good(channel->tls, newer, sentence) == 0)
		return true;
	channel_end(channel, -EACCES, sentence);
	return false;
}

/* ---- life ---- */

int channel_new(struct env *env, struct env_sock *sock, bool is_server,
		const struct channel_options *options, const struct channel_ops *ops, void *owner,
		struct channel **ret_channel)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	if (channel) {
		channel->env = env;
		channel->options = *options;
		channel->in = malloc(IN_BYTES);
		channel->wire = options->tls ? malloc(WIRE_BYTES) : NULL;
		channel->tls = options->tls ? tls_session_new(options->tls, is_server) : NULL;
	}
	if (!channel || !channel->in || (options->tls && (!channel->tls || !channel->wire))) {
		channel_free(channel);
		env_sock_close(sock);
		return -ENOMEM;
	}
	channel->sock = sock;
	channel->ops = ops;
	channel->owner = owner;
	if (!options->silence_ns)
		channel->options.silence_ns = SILENCE_NS;
	if (!options->handshake_ns)
		channel->options.handshake_ns = HANDSHAKE_NS;
	if (options->expected_host)
		snprintf(channel->expected, sizeof channel->expected, "%s", options->expected_host);
	if (!options->tls)
		snprintf(channel->peer, sizeof channel->peer, "%s",
			 options->plain_peer ? options->plain_peer : "");
	channel->options.tls = NULL; /* strings and context are the caller's */
	channel->options.plain_peer = channel->options.expected_host = NULL;
	channel->heard_ns = env_now_ns(env);
	channel->timer.fire = channel_late;
	env_timer_start(env, &channel->timer, channel->options.handshake_ns);
	channel_kick(channel);
	*ret_channel = channel;
	return 0;
}

void channel_free(struct channel *channel)
{
	if (!channel)
		return;
	assert(!channel->receiving && !channel->sending);
	tls_session_free(channel->tls);
	env_sock_close(channel->sock);
	free(channel->wire);
	free(channel->in);
	free(channel->gather);
	free(channel->out);
	free(channel);
}

const char *channel_peer(const struct channel *channel)
{
	return channel->peer;
}

const struct repl_hello *channel_hello(const struct channel *channel)
{
	return &channel->hello;
}

uint64_t channel_sent_bytes(const struct channel *channel)
{
	return channel->sent_bytes;
}

uint64_t channel_received_bytes(const struct channel *channel)
{
	return channel->received_bytes;
}
