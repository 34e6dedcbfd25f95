/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The incoming side of a session: takes domains, and one snapshot at a time.
 *
 * Keeps true: what a peer sends goes to volumes under its own certificate's name; an OFFER is
 * answered by published, or by an error, or the connection ends; nothing is answered before it is
 * durable. A peer sends to a copy over one connection at a time, so an OFFER ends the older one
 * that has the copy: it is dead, and only this side does not know yet. So it is, apart from those,
 * with what is to be received beside a copy.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>

#define PROGRESS_NS NSEC_PER_SEC
#ifndef PROGRESS_FIRST_NS
#define PROGRESS_FIRST_NS (100 * NSEC_PER_MSEC)
#endif

bool receive_idle(const struct session *session)
{
	return !session->domain_busy && !session->receive_busy && copy_idle(session);
}

void receive_cancel(struct session *session)
{
	if (!session->receive_busy || session->receive.cancel)
		return;
	session->receive.cancel = true;
	store_receive_kick(&session->receive);
}

void answer_error(struct session *session, uint64_t request, int code, const char *sentence)
{
	uint8_t message[REPL_HEADER_BYTES + 6 + SENTENCE_BYTES];
	if (!session->ended)
		channel_send(session->channel, message,
			     repl_encode_error(request, REPL_REPLY, code, sentence, message));
}

/* ---- domains ---- */

static void domain_added(struct io_op *op)
{
	struct session *session = container_of(op, struct session, domain_op.op);
	uint8_t message[REPL_HEADER_BYTES];
	session->domain_busy = false;
	if (op->res < 0)
		answer_error(session, session->domain_request, (int)op->res,
			     session->domain_op.sentence);
	else if (!session->ended)
		channel_send(session->channel, message,
			     repl_encode_ok(session->domain_request, message));
	session_look(session);
}

static int take_domain(struct session *session, const struct repl_header *header,
		       const uint8_t *body)
{
	struct repl_domain domain;
	char name[NAME_ROOM];
	if (repl_decode_domain(body, header->body_bytes, &domain) < 0 || session->domain_busy)
		return -VS_EFORMAT;
	snprintf(name, sizeof name, "%.31s.%.31s", session->host, domain.name);
	session->domain_busy = true;
	session->domain_request = header->request;
	session->domain_op = (struct admin_op){.op.done = domain_added};
	store_domain_add(session->repl->store, &session->domain_op, name, domain.key);
	explicit_bzero(&domain, sizeof domain);
	return 0;
}

/* ---- snapshots ---- */

static void send_state(struct session *session, enum repl_transfer_state state)
{
	uint8_t message[REPL_HEADER_BYTES + 128];
	const struct store_receive *receive = &session->receive;
	struct repl_state out = {.state = (uint8_t)state,
				 .chunks = receive->chunks,
				 .fetched = receive->fetched,
				 .found = receive->found,
				 .received_bytes = channel_received_bytes(session->channel) +
						   lanes_received_bytes(session)};
	if (state == REPL_PUBLISHED)
		memcpy(out.root, receive->offer.root, ID_BYTES);
	channel_send(session->channel, message,
		     repl_encode_state(session->offer_request, &out, message));
}

/* The first one comes with the first chunk, or soon, where all is here: the connection may be cut
 * the next moment, and by that the sender knows that another one is worth while (line.c). */
static void progress(struct env_timer *timer)
{
	struct session *session = container_of(timer, struct session, timer);
	if (session->ended || !session->receive_busy)
		return;
	send_state(session, REPL_RECEIVING);
	lanes_tick(session);
	env_timer_start(session->repl->env, timer, PROGRESS_NS);
}

static void received(struct io_op *op)
{
	struct session *session = container_of(op, struct session, receive.op);
	struct repl *repl = session->repl;
	session->receive_busy = false;
	env_timer_stop(repl->env, &session->timer);
	if (op->res < 0)
		repl->counters.receives_failed++;
	else
		repl->counters.receives++;
	log_event(op->res < 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO,
		  op->res < 0 ? "replica.failed" : "replica.received",
		  "host=%s object=%s chunks=%llu fetched=%llu error=\"%s\"", session->host,
		  session->object, (unsigned long long)session->receive.chunks,
		  (unsigned long long)session->receive.fetched,
		  op->res < 0 ? session->receive.sentence : "");
	session->object[0] = 0;
	if (op->res < 0)
		answer_error(session, session->offer_request, (int)op->res,
			     session->receive.sentence);
	else if (!session->ended)
		send_state(session, REPL_PUBLISHED);
	lanes_done(session);
	session_look(session);
}

/* Of the nodes, those for which the peer is told of another one (or not). */
static void want_nodes(struct session *session, const uint8_t *ids, const uint8_t *bases,
		       uint32_t count, bool based)
{
	static const uint8_t none[ID_BYTES];
	uint8_t message[REPL_HEADER_BYTES + 24 + REPL_GET_MAX * 2 * ID_BYTES];
	uint8_t wanted[REPL_GET_MAX * 2 * ID_BYTES];
	uint32_t each = based ? 2 * ID_BYTES : ID_BYTES, found = 0;
	bool known = channel_hello(session->channel)->features_known & REPL_FEATURE_DELTA;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *base = bases + (size_t)i * ID_BYTES;
		if ((known && memcmp(base, none, ID_BYTES) != 0) != based)
			continue;
		uint8_t *at = wanted + (size_t)found++ * each;
		memcpy(at, ids + (size_t)i * ID_BYTES, ID_BYTES);
		if (based)
			memcpy(at + ID_BYTES, base, ID_BYTES);
	}
	struct repl_get get = {.type = REPL_GET_NODE, .count = found, .ids = wanted};
	struct repl_get_delta get_delta = {.count = found, .pairs = wanted};
	memcpy(get.domain, session->receive.offer.domain, 16);
	memcpy(get_delta.domain, session->receive.offer.domain, 16);
	if (!found)
		return;
	uint64_t request = session_request(session);
	channel_send(session->channel, message,
		     based ? repl_encode_get_delta(request, &get_delta, message)
			   : repl_encode_get(request, &get, message));
}

void receive_ask(struct session *session, const uint8_t *ids, uint32_t count)
{
	uint8_t message[REPL_HEADER_BYTES + 24 + REPL_GET_MAX * ID_BYTES];
	for (uint32_t at = 0; at < count; at += REPL_GET_MAX) {
		struct repl_get get = {.type = REPL_GET_CHUNK,
				       .count = (uint32_t)min_u64(count - at, REPL_GET_MAX),
				       .ids = ids + (size_t)at * ID_BYTES};
		memcpy(get.domain, session->receive.offer.domain, 16);
		struct session *over = lanes_ask(session, get.ids, get.count);
		channel_send(over->channel, message,
			     repl_encode_get(session_request(over), &get, message));
	}
}

static void want(struct store_receive *receive, uint8_t type, const uint8_t *ids,
		 const uint8_t *bases, uint32_t count)
{
	struct session *session = container_of(receive, struct session, receive);
	if (session->ended)
		return;
	if (type == REPL_GET_CHUNK) {
		receive_ask(session, ids, count);
		return;
	}
	for (uint32_t at = 0; at < count; at += REPL_GET_MAX) {
		uint32_t some = (uint32_t)min_u64(count - at, REPL_GET_MAX);
		const uint8_t *of = ids + (size_t)at * ID_BYTES;
		want_nodes(session, of, bases + (size_t)at * ID_BYTES, some, false);
		want_nodes(session, of, bases + (size_t)at * ID_BYTES, some, true);
	}
}

/* Older connections of the same host let go of the copy, or of what is received beside it: this
 * OFFER is refused as busy, and not the next one. */
static void take_over(struct session *session, const struct store_offer *offer)
{
	char copy[2 * NAME_ROOM];
	snprintf(copy, sizeof copy, "%s/%s", session->host, offer->volume);
	if (!offer->beside)
		copy_take_over(session, copy);
	for (struct session *other = session->repl->sessions; other; other = other->next)
		if (other != session && other->receive_busy &&
		    strcmp(other->host, session->host) == 0 &&
		    strcmp(other->receive.offer.volume, offer->volume) == 0 &&
		    other->receive.offer.beside == offer->beside)
			session_end(other, -VS_ECANCELLED, "A newer connection has the copy.");
}

static int take_offer(struct session *session, const struct repl_header *header,
		      const uint8_t *body)
{
	struct repl_offer offer;
	if (repl_decode_offer(body, header->body_bytes, &offer) < 0 || session->receive_busy ||
	    session->joined)
		return -VS_EFORMAT;
	struct store_receive *receive = &session->receive;
	*receive = (struct store_receive){.op.done = received, .want = want};
	struct store_offer *to = &receive->offer;
	*to = (struct store_offer){.size_bytes = offer.size_bytes,
				   .created_wall_ns = offer.created_wall_ns,
				   .epoch = offer.epoch,
				   .vseq = offer.vseq,
				   .mapped_chunks = offer.mapped_chunks,
				   .frame_bytes = offer.frame_bytes,
				   .level = offer.level,
				   .cut = offer.cut,
				   .beside = offer.beside,
				   .policy = offer.policy};
	memcpy(to->domain, offer.domain, 16);
	memcpy(to->volume_uuid, offer.volume_uuid, 16);
	memcpy(to->top, offer.top, ID_BYTES);
	memcpy(to->root, offer.root, ID_BYTES);
	memcpy(to->volume, offer.volume, sizeof to->volume);
	memcpy(to->snapshot, offer.snapshot, sizeof to->snapshot);
	for (; to->lines.count < offer.line_count; to->lines.count++) {
		const struct repl_line *line = &offer.lines[to->lines.count];
		struct store_line *into = &to->lines.at[to->lines.count];
		*into = (struct store_line){.epoch = line->epoch, .begin_vseq = line->begin_vseq};
		memcpy(into->incarnation, line->incarnation, 16);
	}
	memcpy(receive->host, session->host, sizeof receive->host);
	snprintf(session->object, sizeof session->object, "%s@%s", offer.volume, offer.snapshot);
	take_over(session, to);
	memcpy(session->transfer, offer.transfer, 16);
	session->offer_request = header->request;
	session->receive_busy = true;
	lanes_begin(session);
	session->timer.fire = progress;
	env_timer_start(session->repl->env, &session->timer, PROGRESS_FIRST_NS);
	store_receive(session->repl->store, receive);
	return 0;
}

static int take_record(struct session *session, const struct repl_header *header,
		       const uint8_t *body)
{
	struct repl_record record = {0};
	int code = 0;
	int res = header->type == REPL_RECORD
			  ? repl_decode_record(body, header->body_bytes, &record)
			  : repl_decode_missing(body, header->body_bytes, record.id, &code);
	if (res < 0 || !(header->flags & REPL_REPLY))
		return -VS_EFORMAT;
	struct session *first = session->joined ? session->joined : session;
	lanes_answered(first, session, record.id);
	if (!first->receive_busy)
		return 0;
	uint64_t before = first->receive.fetched;
	store_receive_record(&first->receive, record.id, record.record, record.record_bytes, code);
	if (!before && first->receive.fetched)
		progress(&first->timer);
	return 0;
}

static int take_delta(struct session *session, const struct repl_header *header,
		      const uint8_t *body)
{
	struct repl_delta delta;
	if (repl_decode_delta(body, header->body_bytes, &delta) < 0 ||
	    !(header->flags & REPL_REPLY))
		return -VS_EFORMAT;
	if (session->receive_busy)
		store_receive_delta(&session->receive, delta.id, delta.base, delta.delta,
				    delta.delta_bytes);
	return 0;
}

int receive_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	uint8_t transfer[16], message[REPL_HEADER_BYTES];
	if (session->joined && header->type != REPL_RECORD && header->type != REPL_MISSING)
		return -VS_EFORMAT;
	switch (header->type) {
	case REPL_DOMAIN:
		return take_domain(session, header, body);
	case REPL_OFFER:
		return take_offer(session, header, body);
	case REPL_RECORD:
	case REPL_MISSING:
		return take_record(session, header, body);
	case REPL_DELTA:
		return take_delta(session, header, body);
	case REPL_FOLLOW:
	case REPL_WRITE:
	case REPL_COMMIT:
	case REPL_POLICY:
		return copy_message(session, header, body);
	case REPL_MANDATE:
		return mandate_take(session, header, body);
	case REPL_VOTE:
		return word_take(session, header, body);
	case REPL_GET:
		return serve_get(session, header, body);
	case REPL_JOIN:
		return lanes_join(session, header, body);
	case REPL_CANCEL:
		if (repl_decode_cancel(body, header->body_bytes, transfer) < 0)
			return -VS_EFORMAT;
		receive_cancel(session);
		channel_send(session->channel, message, repl_encode_ok(header->request, message));
		return 0;
	default:
		return -VS_EFORMAT;
	}
}
