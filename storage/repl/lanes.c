/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Further connections of one snapshot that is sent: lanes. One TCP connection does not fill each
 * link, be it for its window or for what a loss does to it; several do.
 *
 *     sender                                    receiver
 *     STATE, STATE: it takes a while
 *     connects, JOIN {transfer} ────────────►   whose is it? ... OK
 *                             ◄──────────────   GETs of chunks
 *     RECORDs ──────────────────────────────►
 *     ALIVE, each second ◄──────────────────►   ALIVE
 *
 * All else stays with the first connection: the offer, map nodes, STATE, the end. A lane's end is
 * nobody's failure: what it was asked for is asked for again over the others, and the sender makes
 * another one later. One over which nothing comes is left by the receiver before it holds up the
 * end. A send with a limit has none: a limit is for one connection.
 *
 * Keeps true: a lane belongs to a transfer that the same host offered, or to none; each chunk that
 * the store waits for is noted as asked for over one connection, and that one's end is noticed;
 * lanes end with the first connection.
 */
#include "storage/repl/session.h"

#include <stdio.h>
#include <stdlib.h>

#ifndef LANES_AFTER
#define LANES_AFTER 2u /* STATEs, one a second: what takes less time is not worth a lane */
#endif
#define LANE_PAUSE_NS (10 * NSEC_PER_SEC) /* behind one that has ended */
#define SILENT_TICKS_MAX 10u

/* ---- who sends ---- */

static bool wants_lane(const struct sender *sender)
{
	const struct repl *repl = sender->repl;
	const struct repl_hello *hello = channel_hello(sender->session->channel);
	return hello->features_known & REPL_FEATURE_LANES && !sender->send->rate_bytes &&
	       sender->states > LANES_AFTER && sender->lane_count < LANES_MAX &&
	       repl->lanes_sent < LANES_ALL_MAX && env_now_ns(repl->env) >= sender->lane_after_ns;
}

void lanes_look(struct sender *sender)
{
	sender->states++;
	for (unsigned i = 0; i < sender->lane_count; i++)
		if (sender->lanes[i]->state == SESSION_LANE_OPEN)
			session_alive(sender->lanes[i]);
	if (!wants_lane(sender))
		return;
	struct session *lane = session_new(sender->repl, false);
	if (!lane)
		return;
	lane->state = SESSION_LANE;
	lane->lane_of = sender;
	sender->lanes[sender->lane_count++] = lane;
	sender->repl->lanes_sent++;
	memcpy(lane->host, sender->session->host, sizeof lane->host);
	memcpy(lane->object, sender->session->object, sizeof lane->object);
	session_dial(lane);
}

/* What it has sent counts as the send's. */
static void lane_leaves(struct session *lane)
{
	struct sender *sender = lane->lane_of;
	unsigned at = 0;
	lane->lane_of = NULL;
	while (sender->lanes[at] != lane)
		at++;
	sender->lanes[at] = sender->lanes[--sender->lane_count];
	sender->repl->lanes_sent--;
	if (lane->channel)
		sender->sent_bytes += channel_sent_bytes(lane->channel);
	sender->lane_after_ns = env_now_ns(sender->repl->env) + LANE_PAUSE_NS;
}

void lanes_end(struct sender *sender)
{
	while (sender->lane_count) {
		struct session *lane = sender->lanes[0];
		lane_leaves(lane);
		session_end(lane, 0, "");
	}
	sender->lane_after_ns = 0;
}

uint64_t lanes_sent_bytes(const struct sender *sender)
{
	uint64_t bytes = 0;
	for (unsigned i = 0; i < sender->lane_count; i++)
		if (sender->lanes[i]->channel)
			bytes += channel_sent_bytes(sender->lanes[i]->channel);
	return bytes;
}

void lanes_opened(struct session *lane)
{
	uint8_t message[REPL_HEADER_BYTES + 16];
	if (!lane->lane_of)
		session_end(lane, 0, ""); /* the send has ended meanwhile */
	else
		channel_send(
			lane->channel, message,
			repl_encode_join(session_request(lane), lane->lane_of->transfer, message));
}

/* One that is refused ends by the peer's words. */
int lanes_message(struct session *lane, const struct repl_header *header, const uint8_t *body)
{
	bool reply = header->flags & REPL_REPLY;
	if (lane->state == SESSION_LANE_OPEN && header->type == REPL_GET && !reply)
		return serve_get(lane, header, body);
	if (lane->state != SESSION_LANE || header->type != REPL_OK || !reply ||
	    header->request != lane->next_request - 1)
		return -VS_EFORMAT;
	lane->state = SESSION_LANE_OPEN;
	lane->repl->counters.lanes++;
	return 0;
}

/* ---- who receives ---- */

/* NULL: there is none, or it is not this host's. */
static struct session *first_of(const struct session *lane, const uint8_t transfer[16])
{
	struct session *at = lane->repl->sessions;
	while (at && (!at->receive_busy || at->ended || memcmp(at->transfer, transfer, 16) != 0 ||
		      strcmp(at->host, lane->host) != 0))
		at = at->next;
	return at;
}

void lanes_begin(struct session *first)
{
	first->lanes = calloc(1, sizeof(*first->lanes));
	if (first->lanes)
		first->lanes->at[first->lanes->count++].session = first;
}

int lanes_join(struct session *lane, const struct repl_header *header, const uint8_t *body)
{
	uint8_t transfer[16], message[REPL_HEADER_BYTES];
	struct repl *repl = lane->repl;
	if (repl_decode_join(body, header->body_bytes, transfer) < 0 || lane->receive_busy ||
	    lane->joined || lane->copying)
		return -VS_EFORMAT;
	struct session *first = first_of(lane, transfer);
	struct lanes *lanes = first ? first->lanes : NULL;
	if (!first) {
		session_end(lane, -ENOENT,
			    "Nothing is being received that this connection could help with.");
		return 0;
	}
	if (!lanes || lanes->count > LANES_MAX || repl->lanes_received == LANES_ALL_MAX) {
		session_end(lane, -EBUSY,
			    "There are enough connections for what is being received.");
		return 0;
	}
	lanes->at[lanes->count++] = (struct lane){.session = lane};
	lane->joined = first;
	repl->lanes_received++;
	memcpy(lane->object, first->object, sizeof lane->object);
	channel_send(lane->channel, message, repl_encode_ok(header->request, message));
	return 0;
}

static unsigned open_over(const struct lanes *lanes, const struct session *over)
{
	unsigned count = 0;
	for (unsigned i = 0; i < STORE_WANTS_MAX; i++)
		count += lanes->asked[i].over == over;
	return count;
}

/* The one with the fewest chunks open: a slow one keeps its share, and gets no more. */
static struct session *least_busy(const struct lanes *lanes)
{
	struct session *least = lanes->at[0].session;
	unsigned fewest = lanes->count > 1 ? open_over(lanes, least) : 0;
	for (unsigned i = 1; i < lanes->count; i++) {
		unsigned open = open_over(lanes, lanes->at[i].session);
		if (open < fewest) {
			least = lanes->at[i].session;
			fewest = open;
		}
	}
	return least;
}

struct session *lanes_ask(struct session *first, const uint8_t *ids, uint32_t count)
{
	struct lanes *lanes = first->lanes;
	if (!lanes)
		return first;
	struct session *over = least_busy(lanes);
	for (unsigned i = 0, at = 0; i < STORE_WANTS_MAX && at < count; i++) {
		if (lanes->asked[i].over)
			continue;
		lanes->asked[i].over = over;
		memcpy(lanes->asked[i].id, ids + (size_t)at++ * ID_BYTES, ID_BYTES);
	}
	return over;
}

void lanes_answered(struct session *first, const struct session *over, const uint8_t id[ID_BYTES])
{
	struct lanes *lanes = first->lanes;
	for (unsigned i = 0; lanes && i < STORE_WANTS_MAX; i++)
		if (lanes->asked[i].over == over && memcmp(lanes->asked[i].id, id, ID_BYTES) == 0) {
			lanes->asked[i].over = NULL;
			return;
		}
}

uint64_t lanes_received_bytes(const struct session *first)
{
	const struct lanes *lanes = first->lanes;
	uint64_t bytes = lanes ? lanes->received_bytes : 0;
	for (unsigned i = 1; lanes && i < lanes->count; i++)
		bytes += channel_received_bytes(lanes->at[i].session->channel);
	return bytes;
}

void lanes_done(struct session *first)
{
	struct lanes *lanes = first->lanes;
	first->lanes = NULL;
	for (unsigned i = 1; lanes && i < lanes->count; i++) {
		struct session *lane = lanes->at[i].session;
		lane->joined = NULL;
		lane->object[0] = 0;
		first->repl->lanes_received--;
	}
	free(lanes);
}

/* What it was asked for is asked for again. */
static void lane_parts(struct session *lane)
{
	struct session *first = lane->joined;
	struct lanes *lanes = first->lanes;
	uint8_t ids[STORE_WANTS_MAX][ID_BYTES];
	uint32_t count = 0;
	unsigned at = 1;
	lane->joined = NULL;
	lane->repl->lanes_received--;
	lanes->received_bytes += channel_received_bytes(lane->channel);
	while (lanes->at[at].session != lane)
		at++;
	lanes->at[at] = lanes->at[--lanes->count];
	for (unsigned i = 0; i < STORE_WANTS_MAX; i++) {
		if (lanes->asked[i].over != lane)
			continue;
		lanes->asked[i].over = NULL;
		memcpy(ids[count++], lanes->asked[i].id, ID_BYTES);
	}
	if (count)
		receive_ask(first, ids[0], count);
}

void lanes_tick(struct session *first)
{
	struct lanes *lanes = first->lanes;
	for (unsigned i = lanes ? lanes->count - 1 : 0; i > 0; i--) { /* one may go */
		struct lane *lane = &lanes->at[i];
		struct session *session = lane->session;
		uint64_t received_bytes = channel_received_bytes(session->channel);
		lane->silent = received_bytes == lane->received_bytes ? lane->silent + 1 : 0;
		lane->received_bytes = received_bytes;
		if (lane->silent > SILENT_TICKS_MAX) {
			lane_parts(session);
			session_end(session, -ETIMEDOUT, "Nothing came over this connection.");
		} else {
			session_alive(session);
		}
	}
}

void lanes_left(struct session *session)
{
	if (session->joined)
		lane_parts(session);
	if (session->lane_of)
		lane_leaves(session);
	if (session->sender)
		lanes_end(session->sender);
	lanes_done(session);
}
