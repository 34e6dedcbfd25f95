/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The incoming side of what follows in step: commits of the original become batches of the copy.
 *
 * Batches are applied one after the other; flushes run beside that, one at a time, and each stands
 * for all that was applied before it began. What is acknowledged is durable.
 *
 * Keeps true: what is not applied yet is bounded, for one copy and for all together, then nothing
 * more is read from the connection;
 * one session has a copy at a time, and a newer one of the same host takes it over.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUED_MAX (32 * MIB)
#define QUEUED_ALL_MAX (512 * MIB) /* of all copies; each may have one commit nevertheless */
#define PARTS_MAX 65536u

struct batch {
	struct batch *next;
	struct store_copy_part *parts;
	uint32_t part_count, part_room;
	uint64_t byte_count, from_vseq, durable_vseq;
	struct store_position to;
};

/* What the original told of its policy, on its way into the store. It lives until that has ended,
 * whatever becomes of the connection, which lets go of the copy at once. */
struct telling_policy {
	struct admin_op op;
	struct copying *copying; /* NULL: it is gone */
	char name[NAME_ROOM];
};

struct copying {
	struct session *session;
	struct view *view;
	char name[NAME_ROOM];
	uint64_t request;
	struct batch *filling, *batches, **batches_tail;
	uint64_t queued_bytes;
	struct store_copy_batch apply;
	struct store_request flush;
	bool applying, flushing, paused;
	struct store_position applied, flushed; /* flushed: what the flush under way stands for */
	bool fresh;				/* applied goes beyond flushed */
	struct told_policy told;		/* last, of its policy */
	struct telling_policy *telling;
};

/* Bytes came to what is not applied, or left it. */
static void queued(struct copying *copying, uint64_t came, uint64_t left)
{
	copying->queued_bytes += came - left;
	copying->session->repl->copy_bytes += came - left;
}

/* More than this part of what may be. */
static bool queued_many(const struct copying *copying, unsigned part)
{
	return copying->queued_bytes > QUEUED_MAX / part ||
	       copying->session->repl->copy_bytes > QUEUED_ALL_MAX / part;
}

/* What it takes counts, also where nobody sends data. */
static struct batch *batch_filling(struct copying *copying)
{
	if (copying->filling)
		return copying->filling;
	struct batch *batch = copying->filling = calloc(1, sizeof(*batch));
	if (batch) {
		batch->byte_count = sizeof(*batch);
		queued(copying, sizeof(*batch), 0);
	}
	return batch;
}

static void batch_free(struct batch *batch)
{
	if (!batch)
		return;
	for (uint32_t i = 0; i < batch->part_count; i++)
		free((void *)batch->parts[i].data);
	free(batch->parts);
	free(batch);
}

bool copy_idle(const struct session *session)
{
	const struct copying *copying = session->copying;
	return !copying || (!copying->applying && !copying->flushing);
}

void copy_ended(struct session *session)
{
	struct copying *copying = session->copying;
	if (!copying)
		return;
	session->copying = NULL;
	if (copying->telling)
		copying->telling->copying = NULL;
	queued(copying, 0, copying->queued_bytes);
	batch_free(copying->filling);
	while (copying->batches) {
		struct batch *batch = copying->batches;
		copying->batches = batch->next;
		batch_free(batch);
	}
	store_copy_close(copying->view);
	free(copying);
}

static void copy_fail(struct copying *copying, int res)
{
	struct session *session = copying->session;
	char sentence[SENTENCE_BYTES];
	snprintf(sentence, sizeof sentence, "'%.63s' cannot take what was written: %s.",
		 copying->name,
		 res == -VS_EFENCED ? "this host serves that volume itself" : vs_strerror(res));
	answer_error(session, copying->request, res, sentence);
	session_end(session, res, sentence);
}

static void say_position(struct copying *copying, const struct store_position *at)
{
	struct session *session = copying->session;
	uint8_t message[REPL_HEADER_BYTES + 64];
	struct repl_position position = position_out(at);
	if (!session->ended)
		channel_send(session->channel, message,
			     repl_encode_position(copying->request, &position, message));
}

/* ---- flushes ---- */

static void flush_kick(struct copying *copying);

static void flushed(struct io_op *op)
{
	struct copying *copying = container_of(op, struct copying, flush.op);
	struct session *session = copying->session;
	copying->flushing = false;
	if (op->res < 0 && !session->ended)
		copy_fail(copying, (int)op->res);
	else if (!session->ended)
		say_position(copying, &copying->flushed);
	if (session->ended) {
		session_look(session); /* it may go */
		return;
	}
	flush_kick(copying);
}

static void flush_kick(struct copying *copying)
{
	if (copying->flushing || !copying->fresh || copying->session->ended)
		return;
	copying->flushing = true;
	copying->fresh = false;
	copying->flushed = copying->applied;
	copying->flush = (struct store_request){
		.op.done = flushed, .view = copying->view, .kind = REQUEST_FLUSH};
	store_submit(&copying->flush);
}

/* ---- batches ---- */

static void apply_next(struct copying *copying);

static void applied(struct io_op *op)
{
	struct copying *copying = container_of(op, struct copying, apply.op);
	struct session *session = copying->session;
	struct batch *batch = copying->batches;
	copying->applying = false;
	copying->batches = batch->next;
	if (!copying->batches)
		copying->batches_tail = &copying->batches;
	queued(copying, 0, batch->byte_count);
	if (op->res == 0) {
		copying->applied = batch->to;
		copying->fresh = true;
	}
	batch_free(batch);
	if (op->res < 0 && !session->ended)
		copy_fail(copying, (int)op->res);
	if (session->ended) {
		session_look(session);
		return;
	}
	if (op->res < 0)
		return;
	if (copying->paused && (!copying->batches || !queued_many(copying, 2))) {
		copying->paused = false;
		channel_pause(session->channel, false);
	}
	flush_kick(copying);
	apply_next(copying);
}

static void apply_next(struct copying *copying)
{
	struct batch *batch = copying->batches;
	if (copying->applying || !batch || copying->session->ended)
		return;
	copying->applying = true;
	copying->apply = (struct store_copy_batch){.op.done = applied,
						   .view = copying->view,
						   .parts = batch->parts,
						   .part_count = batch->part_count,
						   .from_vseq = batch->from_vseq,
						   .durable_vseq = batch->durable_vseq,
						   .to = batch->to};
	store_copy_apply(&copying->apply);
}

static int take_write(struct copying *copying, const struct repl_header *header,
		      const uint8_t *body)
{
	struct repl_write write;
	if (repl_decode_write(body, header->body_bytes, &write) < 0)
		return -VS_EFORMAT;
	struct batch *batch = batch_filling(copying);
	if (!batch)
		return -ENOMEM;
	if (batch->part_count == PARTS_MAX || batch->byte_count > 2 * QUEUED_MAX)
		return -VS_EFORMAT; /* no commit is so large */
	if (batch->part_count == batch->part_room) {
		uint32_t room = batch->part_room ? 2 * batch->part_room : 16;
		struct store_copy_part *larger = realloc(batch->parts, room * sizeof(*larger));
		if (!larger)
			return -ENOMEM;
		batch->parts = larger;
		batch->part_room = room;
	}
	void *data = NULL;
	if (write.data && posix_memalign(&data, BLOCK_BYTES, write.length_bytes) != 0)
		return -ENOMEM;
	uint64_t bytes = sizeof(*batch->parts) + (write.data ? write.length_bytes : 0);
	if (write.data)
		memcpy(data, write.data, write.length_bytes);
	batch->byte_count += bytes;
	queued(copying, bytes, 0);
	batch->parts[batch->part_count++] =
		(struct store_copy_part){.offset_bytes = write.offset_bytes,
					 .length_bytes = write.length_bytes,
					 .data = data};
	return 0;
}

static int take_commit(struct copying *copying, const struct repl_header *header,
		       const uint8_t *body)
{
	struct repl_commit commit;
	if (repl_decode_commit(body, header->body_bytes, &commit) < 0)
		return -VS_EFORMAT;
	struct batch *batch = batch_filling(copying);
	if (!batch)
		return -ENOMEM;
	copying->filling = NULL;
	batch->from_vseq = commit.from_vseq;
	batch->to = position_in(&commit.to);
	batch->durable_vseq = commit.durable_vseq;
	*copying->batches_tail = batch;
	copying->batches_tail = &batch->next;
	if (queued_many(copying, 1) && !copying->paused) {
		copying->paused = true;
		channel_pause(copying->session->channel, true);
	}
	apply_next(copying);
	return 0;
}

/* ---- its policy ---- */

static void policy_kick(struct copying *copying);

static void policy_kept(struct io_op *op)
{
	struct telling_policy *telling = container_of(op, struct telling_policy, op.op);
	struct copying *copying = telling->copying;
	if (op->res < 0)
		log_event(LOG_LEVEL_WARNING, "replica.policy_unknown", "copy=%s error=\"%s\"",
			  telling->name, telling->op.sentence);
	bool kept = op->res == 0;
	free(telling);
	if (!copying)
		return;
	copying->telling = NULL;
	if (kept)
		policy_kick(copying); /* something else was told meanwhile */
}

static void policy_kick(struct copying *copying)
{
	struct store *store = copying->session->repl->store;
	if (copying->telling || !store_copy_policy_news(store, copying->name, &copying->told))
		return;
	struct telling_policy *telling = copying->telling = calloc(1, sizeof(*telling));
	if (!telling)
		return; /* it is told again */
	telling->copying = copying;
	telling->op.op.done = policy_kept;
	memcpy(telling->name, copying->name, sizeof telling->name);
	store_copy_policy(store, &telling->op, copying->name, &copying->told);
}

static int take_policy(struct copying *copying, const struct repl_header *header,
		       const uint8_t *body)
{
	if (repl_decode_policy(body, header->body_bytes, &copying->told) < 0)
		return -VS_EFORMAT;
	policy_kick(copying);
	return 0;
}

/* ---- the beginning ---- */

void copy_take_over(struct session *session, const char *name)
{
	for (struct session *other = session->repl->sessions; other; other = other->next)
		if (other != session && other->copying && strcmp(other->copying->name, name) == 0)
			session_end(other, -VS_ECANCELLED, "A newer connection has the copy.");
}

static int take_follow(struct session *session, const struct repl_header *header,
		       const uint8_t *body)
{
	struct repl_follow follow;
	struct copying *copying = NULL;
	struct store_position at = {0};
	char name[NAME_ROOM], sentence[SENTENCE_BYTES];
	if (repl_decode_follow(body, header->body_bytes, &follow) < 0 || session->copying ||
	    session->receive_busy)
		return -VS_EFORMAT;
	int res = 0;
	if (snprintf(name, sizeof name, "%s/%s", session->host, follow.volume) >= (int)sizeof name)
		res = -ENAMETOOLONG;
	else if (!(copying = calloc(1, sizeof(*copying))))
		res = -ENOMEM;
	if (res == 0)
		res = store_copy_open(session->repl->store, name, follow.volume_uuid,
				      &copying->view, &at);
	/* Ours gives way to what is offered with its lines, and not to a position. */
	if (res == -VS_EFENCED && store_yields(session->repl->store, session->host,
					       follow.volume_uuid, follow.position.epoch))
		res = -EAGAIN;
	if (res < 0) {
		if (res == -EBUSY)
			copy_take_over(session, name);
		snprintf(sentence, sizeof sentence, "'%.63s' cannot follow now: %s.", name,
			 res == -VS_EFENCED ? "this host serves that volume itself"
			 : res == -ENOENT   ? "it is not here yet"
			 : res == -EAGAIN   ? "a transfer to it was cut, or is to come"
			 : res == -EBUSY    ? "another connection still has it"
					    : vs_strerror(res));
		answer_error(session, header->request, res, sentence);
		free(copying);
		return 0;
	}
	copying->session = session;
	copying->batches_tail = &copying->batches;
	copying->request = header->request;
	copying->applied = copying->flushed = at;
	memcpy(copying->name, name, sizeof name);
	snprintf(session->object, sizeof session->object, "%s", follow.volume);
	session->copying = copying;
	/* Where it stands may not be durable yet: the flush's end says it. */
	copying->fresh = true;
	flush_kick(copying);
	return 0;
}

int copy_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	if (header->type == REPL_FOLLOW)
		return take_follow(session, header, body);
	if (!session->copying)
		return -VS_EFORMAT;
	if (header->type == REPL_POLICY)
		return take_policy(session->copying, header, body);
	return header->type == REPL_WRITE ? take_write(session->copying, header, body)
					  : take_commit(session->copying, header, body);
}
