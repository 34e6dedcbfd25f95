/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers a peer's GETs: records as they are stored.
 *
 * Keeps true: an answer is read only when the connection has room for it, so a slow peer holds back
 * its own reads and nothing else; a record that is damaged here is MISSING, never sent. Of what
 * this host sends it is asked for elsewhere first; who asks because it lacks a record is told at
 * once.
 */
#include "storage/repl/session.h"

#include "proto/node_delta.h"

#include <stdlib.h>

/* With the first GET: most sessions never get one. */
static int serve_init(struct session *session)
{
	if (session->reads)
		return 0;
	session->gets_tail = &session->gets;
	session->read_memory = malloc((size_t)SERVE_READS * STORE_RECORD_BYTES_MAX);
	session->reads = calloc(SERVE_READS, sizeof(*session->reads));
	if (!session->reads || !session->read_memory) {
		free(session->reads);
		free(session->read_memory);
		session->reads = NULL;
		session->read_memory = NULL;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < SERVE_READS; i++) {
		session->reads[i].session = session;
		session->reads[i].read.store = session->repl->store;
		session->reads[i].read.buf =
			session->read_memory + (size_t)i * STORE_RECORD_BYTES_MAX;
	}
	return 0;
}

void serve_free(struct session *session)
{
	assert(session->reads_busy == 0);
	while (session->gets) {
		struct serve_get *get = session->gets;
		session->gets = get->next;
		free(get);
	}
	free(session->reads);
	free(session->read_memory);
}

/* ---- the rate ---- */

/* A record is charged as the longest when it is begun, and as what it was when it goes. */
#define HEAD_BYTES (REPL_HEADER_BYTES + ID_BYTES)
#define CHARGE_BYTES (HEAD_BYTES + STORE_RECORD_BYTES_MAX)
/* Of what was not used; and something goes so often at any rate, or the peer takes us for dead. */
#define BURST_NS (100 * NSEC_PER_MSEC)
#define HOLD_NS_MAX (20 * NSEC_PER_SEC)

static void rate_over(struct env_timer *timer)
{
	struct session *session = container_of(timer, struct session, timer);
	struct rate *rate = &session->rate;
	rate->due_ns = min_u64(rate->due_ns, env_now_ns(session->repl->env) + rate->burst_ns);
	serve_kick(session);
}

/* True: wait, the timer goes on. */
static bool rate_holds(struct session *session)
{
	struct env *env = session->repl->env;
	uint64_t wait_ns = rate_wait_ns(&session->rate, env_now_ns(env));
	if (!wait_ns)
		return false;
	session->timer.fire = rate_over;
	env_timer_start(env, &session->timer, min_u64(wait_ns, HOLD_NS_MAX));
	return true;
}

static void rate_refund(struct rate *rate, uint64_t bytes)
{
	if (rate->a_second)
		rate->due_ns -= min_u64(rate->due_ns, bytes * NSEC_PER_SEC / rate->a_second);
}

void serve_rate(struct session *session, uint64_t rate_bytes)
{
	session->rate = (struct rate){.a_second = rate_bytes, .burst_ns = BURST_NS};
	serve_kick(session); /* what waits for the rate before does not wait for it any more */
}

/* ---- records ---- */

static void serve_answer(struct serve_read *read)
{
	struct session *session = read->session;
	uint8_t message[REPL_HEADER_BYTES + ID_BYTES + 4];
	int64_t res = read->read.op.res;
	if (res < 0) {
		uint32_t bytes =
			repl_encode_missing(read->request, read->read.id, (int)res, message);
		channel_send(session->channel, message, bytes);
		return;
	}
	if (read->read.delta) {
		uint8_t whole[REPL_HEADER_BYTES + 2 * ID_BYTES + NODE_DELTA_BYTES_MAX];
		struct repl_delta delta = {.delta = read->read.buf, .delta_bytes = (uint32_t)res};
		memcpy(delta.id, read->read.id, ID_BYTES);
		memcpy(delta.base, read->read.base, ID_BYTES);
		channel_send(session->channel, whole,
			     repl_encode_delta(read->request, &delta, whole));
		return;
	}
	uint32_t bytes = repl_encode_record(read->request, read->read.id, (uint32_t)res, message);
	channel_send(session->channel, message, bytes);
	channel_send(session->channel, read->read.buf, (size_t)res);
}

static void serve_read_done(struct io_op *op)
{
	struct serve_read *read = container_of(op, struct serve_read, read.op);
	struct session *session = read->session;
	read->busy = false;
	session->reads_busy--;
	rate_refund(&session->rate,
		    CHARGE_BYTES - HEAD_BYTES - (op->res > 0 ? (uint64_t)op->res : 0));
	if (!session->ended) {
		serve_answer(read);
		serve_kick(session);
	}
	session_look(session);
}

void serve_kick(struct session *session)
{
	while (session->gets && !session->ended && session->reads_busy < SERVE_READS &&
	       channel_room(session->channel) && !rate_holds(session)) {
		struct serve_get *get = session->gets;
		struct serve_read *read = session->reads;
		while (read->busy)
			read++;
		read->busy = true;
		session->reads_busy++;
		read->request = get->request;
		read->read.type = get->type;
		read->read.heals = !session->incoming;
		memcpy(read->read.id, get->ids[get->at], ID_BYTES);
		memcpy(read->read.base, get->bases[get->at], ID_BYTES);
		read->read.op = (struct io_op){.done = serve_read_done};
		rate_charge(&session->rate, env_now_ns(session->repl->env), CHARGE_BYTES);
		store_record_read(&read->read);
		if (++get->at < get->count)
			continue;
		session->gets = get->next;
		if (!session->gets)
			session->gets_tail = &session->gets;
		session->get_count--;
		free(get);
	}
}

static struct serve_get *get_new(struct session *session, uint64_t request, uint8_t type,
				 uint32_t count)
{
	struct serve_get *get = serve_init(session) == 0 ? calloc(1, sizeof(*get)) : NULL;
	if (!get)
		return NULL;
	get->request = request;
	get->count = count;
	get->type = type;
	*session->gets_tail = get;
	session->gets_tail = &get->next;
	session->get_count++;
	return get;
}

/* Who has a domain's key may read its records: the id is the proof that it knew them. */
int serve_get(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_get wanted;
	int res = repl_decode_get(body, header->body_bytes, &wanted);
	if (res < 0 || session->get_count == REPL_UNANSWERED_MAX)
		return -VS_EFORMAT;
	struct serve_get *get = get_new(session, header->request, wanted.type, wanted.count);
	if (!get)
		return -ENOMEM;
	memcpy(get->ids, wanted.ids, (size_t)wanted.count * ID_BYTES);
	serve_kick(session);
	return 0;
}

int serve_get_delta(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_get_delta wanted;
	int res = repl_decode_get_delta(body, header->body_bytes, &wanted);
	if (res < 0 || session->get_count == REPL_UNANSWERED_MAX)
		return -VS_EFORMAT;
	struct serve_get *get = get_new(session, header->request, REPL_GET_NODE, wanted.count);
	if (!get)
		return -ENOMEM;
	for (uint32_t i = 0; i < wanted.count; i++) {
		const uint8_t *pair = wanted.pairs + (size_t)i * 2 * ID_BYTES;
		memcpy(get->ids[i], pair, ID_BYTES);
		memcpy(get->bases[i], pair + ID_BYTES, ID_BYTES);
	}
	serve_kick(session);
	return 0;
}
