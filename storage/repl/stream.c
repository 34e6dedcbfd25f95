/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outgoing side of what follows in step: records of a volume, queued as they go to our own log,
 * sent commit by commit, acknowledged.
 *
 *     QUEUING -> ASKING -> LIVE        each of them -> BROKEN
 *
 * Keeps true: what is sent continues, without a gap, where the follower said that it stands; only
 * what it said to be durable is acknowledged; the queue is bounded, and who falls out of it is
 * broken: the next cut has all that it missed, so nothing here holds up the volume or its log.
 */
#include "storage/repl/session.h"

#include "storage/rt/log_event.h"

#include <stdio.h>
#include <stdlib.h>

#define TICK_NS (5 * NSEC_PER_SEC)
#define SILENT_NS (20 * NSEC_PER_SEC) /* a commit is acknowledged in this time */

/* A WRITE, whole, or, with no bytes, the end of a commit. */
struct item {
	struct item *next;
	struct store_position position; /* after it */
	uint64_t queued_ns;
	uint32_t byte_count;
	uint8_t bytes[];
};
/* A commit that was sent and is not acknowledged. */
struct flying {
	struct flying *next;
	uint64_t vseq, bytes_total, queued_ns, sent_ns;
};

struct repl_stream {
	struct repl *repl;
	struct repl_stream *next;
	enum repl_stream_phase phase;
	uint32_t volume;
	uint8_t uuid[16];
	char name[NAME_ROOM], host[NAME_ROOM];
	struct session *session;
	struct item *items, **items_tail;
	struct flying *flying, **flying_tail;
	bool open_commit;	     /* items behind the last end of a commit */
	uint64_t queued_bytes;	     /* in items */
	uint64_t bytes_total;	     /* of WRITEs, ever sent ... */
	uint64_t acked_total;	     /* ... and of it acknowledged */
	struct store_position begin; /* where what is sent begins */
	struct store_position last;  /* of the last record that was queued */
	struct store_position sent, acked;
	uint64_t request;
	int res;
	char sentence[SENTENCE_BYTES];
};

/* Bytes came to what is queued, or left it. */
static void queued(struct repl_stream *stream, uint64_t came, uint64_t left)
{
	stream->queued_bytes += came - left;
	stream->repl->stream_bytes += came - left;
}

static void items_free(struct repl_stream *stream)
{
	while (stream->items) {
		struct item *item = stream->items;
		stream->items = item->next;
		free(item);
	}
	while (stream->flying) {
		struct flying *flying = stream->flying;
		stream->flying = flying->next;
		free(flying);
	}
	stream->items_tail = &stream->items;
	stream->flying_tail = &stream->flying;
	queued(stream, 0, stream->queued_bytes);
}

/* Other streams of the volume may still want its records. */
static void untap(struct repl_stream *stream)
{
	for (const struct repl_stream *at = stream->repl->streams; at; at = at->next)
		if (at != stream && at->volume == stream->volume && at->phase != STREAM_BROKEN)
			return;
	store_tap(stream->repl->store, stream->volume, false);
}

static void stream_break(struct repl_stream *stream, int res, const char *sentence)
{
	if (stream->phase == STREAM_BROKEN)
		return;
	if (stream->phase == STREAM_LIVE)
		store_follower_live(stream->repl->store, stream->volume, stream->host, false);
	stream->phase = STREAM_BROKEN;
	stream->res = res;
	snprintf(stream->sentence, sizeof stream->sentence, "%s", sentence);
	items_free(stream);
	untap(stream);
	if (stream->session)
		session_end(stream->session, res, sentence);
}

/* ---- what the store hands out ---- */

static struct item *item_add(struct repl_stream *stream, uint32_t byte_count)
{
	struct item *item = malloc(sizeof(*item) + byte_count);
	if (!item || stream->queued_bytes + byte_count > REPL_STREAM_BYTES_MAX ||
	    stream->repl->stream_bytes + byte_count > REPL_STREAMS_BYTES_MAX) {
		free(item);
		stream_break(stream, -EAGAIN, "It fell too far behind: a cut is sent.");
		return NULL;
	}
	item->next = NULL;
	item->byte_count = byte_count;
	item->queued_ns = env_now_ns(stream->repl->env);
	*stream->items_tail = item;
	stream->items_tail = &item->next;
	queued(stream, byte_count, 0);
	return item;
}

static void write_queue(struct repl_stream *stream, const struct store_tap_record *record)
{
	if (stream->last.vseq && record->position.vseq != stream->last.vseq + 1) {
		stream_break(stream, -EAGAIN, "It misses a change of the volume: a cut is sent.");
		return;
	}
	for (uint64_t at = 0; at < record->length_bytes;) {
		uint64_t part = record->data ? min_u64(record->length_bytes - at, REPL_WRITE_MAX)
					     : record->length_bytes;
		uint32_t head = REPL_HEADER_BYTES + 16;
		struct item *item = item_add(stream, head + (record->data ? (uint32_t)part : 0));
		if (!item)
			return;
		item->position = record->position;
		repl_encode_write(record->offset_bytes + at, part, record->data, item->bytes);
		if (record->data)
			memcpy(item->bytes + head, (const uint8_t *)record->data + at, part);
		at += part;
	}
	stream->last = record->position;
	stream->open_commit = true;
}

static void tap_record(void *owner, const struct store_tap_record *record)
{
	struct repl *repl = owner;
	for (struct repl_stream *stream = repl->streams; stream; stream = stream->next)
		if (stream->volume == record->volume && stream->phase != STREAM_BROKEN &&
		    record->position.vseq > stream->last.vseq)
			write_queue(stream, record);
}

static void stream_kick(struct repl_stream *stream);

static void tap_committed(void *owner)
{
	struct repl *repl = owner;
	for (struct repl_stream *stream = repl->streams; stream; stream = stream->next) {
		if (!stream->open_commit || stream->phase == STREAM_BROKEN)
			continue;
		stream->open_commit = false;
		struct item *item = item_add(stream, 0);
		if (!item)
			continue;
		item->position = stream->last;
		stream_kick(stream);
	}
}

static void tap_broken(void *owner, uint32_t volume)
{
	struct repl *repl = owner;
	for (struct repl_stream *stream = repl->streams; stream; stream = stream->next)
		if (stream->volume == volume)
			stream_break(stream, -EAGAIN,
				     "The volume was resized or restored: a cut is sent.");
}

static const struct store_tap_ops tap_ops = {tap_record, tap_committed, tap_broken};

void stream_start(struct repl *repl)
{
	store_set_tap(repl->store, &tap_ops, repl);
}

void stream_stop(struct repl *repl)
{
	for (struct repl_stream *stream = repl->streams; stream; stream = stream->next)
		stream_break(stream, -ESHUTDOWN, "This vstored is stopping.");
	store_set_tap(repl->store, NULL, NULL);
}

/* ---- sending ---- */

static void commit_send(struct repl_stream *stream, const struct store_position *to,
			uint64_t queued_ns)
{
	uint8_t message[REPL_HEADER_BYTES + 64];
	uint64_t durable = store_durable_vseq(stream->repl->store, stream->volume);
	struct repl_commit commit = {.from_vseq = stream->sent.vseq,
				     .durable_vseq = min_u64(durable, to->vseq),
				     .to = position_out(to)};
	struct flying *flying = malloc(sizeof(*flying));
	if (!flying) {
		stream_break(stream, -ENOMEM, "There is no memory to go on with it.");
		return;
	}
	*flying = (struct flying){.vseq = to->vseq,
				  .bytes_total = stream->bytes_total,
				  .queued_ns = queued_ns,
				  .sent_ns = env_now_ns(stream->repl->env)};
	*stream->flying_tail = flying;
	stream->flying_tail = &flying->next;
	stream->sent = *to;
	channel_send(stream->session->channel, message, repl_encode_commit(&commit, message));
}

static void stream_kick(struct repl_stream *stream)
{
	while (stream->phase == STREAM_LIVE && stream->items && !stream->session->ended &&
	       channel_room(stream->session->channel)) {
		struct item *item = stream->items;
		stream->items = item->next;
		if (!stream->items)
			stream->items_tail = &stream->items;
		queued(stream, 0, item->byte_count);
		if (item->byte_count) {
			stream->bytes_total += item->byte_count;
			channel_send(stream->session->channel, item->bytes, item->byte_count);
		} else {
			commit_send(stream, &item->position, item->queued_ns);
		}
		free(item);
	}
}

void stream_room(struct session *session)
{
	stream_kick(session->stream);
}

/* Again and again: nobody says what it has kept. */
static void tell_policy(struct repl_stream *stream)
{
	uint8_t message[REPL_HEADER_BYTES + 8 + POLICY_BYTES_MAX];
	struct channel *channel = stream->session->channel;
	struct told_policy now;
	if (!(channel_hello(channel)->features_known & REPL_FEATURE_POLICIES))
		return;
	store_policy_told(stream->repl->store, stream->volume, &now);
	if (now.told)
		channel_send(channel, message, repl_encode_policy(&now, message));
}

/* Alive? Acknowledged in time? */
static void tick(struct env_timer *timer)
{
	struct session *session = container_of(timer, struct session, timer);
	struct repl_stream *stream = session->stream;
	uint64_t now = env_now_ns(session->repl->env);
	if (session->ended || !stream)
		return;
	if (stream->flying && now - stream->flying->sent_ns > SILENT_NS) {
		stream_break(stream, -ETIMEDOUT, "It does not acknowledge what it is sent.");
		return;
	}
	if (stream->phase == STREAM_LIVE && !stream->flying && !stream->items)
		commit_send(stream, &stream->sent, now);
	if (stream->phase == STREAM_LIVE)
		tell_policy(stream);
	env_timer_start(session->repl->env, timer, TICK_NS);
}

/* ---- the session ---- */

void stream_opened(struct session *session)
{
	struct repl_stream *stream = session->stream;
	uint8_t message[REPL_HEADER_BYTES + 128];
	struct repl_follow follow = {.position = position_out(&stream->begin)};
	memcpy(follow.volume_uuid, stream->uuid, 16);
	memcpy(follow.volume, stream->name, sizeof follow.volume);
	stream->request = session_request(session);
	channel_send(session->channel, message,
		     repl_encode_follow(stream->request, &follow, message));
}

static bool incarnation_known(const uint8_t at[16])
{
	static const uint8_t none[16];
	return memcmp(at, none, 16) != 0;
}

static void acked(struct repl_stream *stream, const struct repl_position *position)
{
	while (stream->flying && stream->flying->vseq <= position->vseq) {
		struct flying *flying = stream->flying;
		stream->flying = flying->next;
		if (!stream->flying)
			stream->flying_tail = &stream->flying;
		stream->acked_total = flying->bytes_total;
		free(flying);
	}
	stream->acked = position_in(position);
	store_follower_acked(stream->repl->store, stream->volume, stream->host, position->vseq);
}

/* What is at or before the position is there already; also in the middle of a commit. */
static void items_drop(struct repl_stream *stream, uint64_t vseq)
{
	while (stream->items && stream->items->position.vseq <= vseq) {
		struct item *item = stream->items;
		stream->items = item->next;
		queued(stream, 0, item->byte_count);
		free(item);
	}
	if (!stream->items)
		stream->items_tail = &stream->items;
}

/* Records leave while they are written here: it got them over a connection before this one, and by
 * now they have taken effect here, too. */
static bool caught_up(struct repl_stream *stream, const struct repl_position *position)
{
	struct volume_info volume;
	if (store_volume_info(stream->repl->store, stream->volume, &volume) < 0 ||
	    volume.epoch != position->epoch || volume.vseq < position->vseq ||
	    incarnations_differ(volume.incarnation, position->incarnation))
		return false;
	stream->begin.vseq = position->vseq;
	items_drop(stream, position->vseq);
	return true;
}

static int take_position(struct repl_stream *stream, const struct repl_position *position)
{
	if (stream->phase == STREAM_LIVE) {
		if (position->vseq > stream->sent.vseq)
			return -VS_EFORMAT; /* nobody sent it that */
		acked(stream, position);
		return 0;
	}
	bool same = position->epoch == stream->begin.epoch &&
		    !incarnations_differ(position->incarnation, stream->begin.incarnation);
	if (same && position->vseq > stream->begin.vseq && !caught_up(stream, position)) {
		stream_break(stream, -ESTALE, "It has writes that were lost here in a crash.");
		return 0;
	}
	if (!same || position->vseq != stream->begin.vseq) {
		stream_break(stream, -EAGAIN, "It stands somewhere else: a cut is sent.");
		return 0;
	}
	stream->phase = STREAM_LIVE;
	stream->sent = stream->begin;
	log_event(LOG_LEVEL_INFO, "replica.in_step", "volume=%s host=%s epoch=%llu vseq=%llu",
		  stream->name, stream->host, (unsigned long long)position->epoch,
		  (unsigned long long)position->vseq);
	store_follower_live(stream->repl->store, stream->volume, stream->host, true);
	acked(stream, position);
	/* A copy that a cut made knows no incarnation, nor that it is in step: it is told, by what
	 * is queued where that is enough. */
	if (incarnation_known(stream->begin.incarnation) &&
	    (!stream->items || !incarnation_known(position->incarnation)))
		commit_send(stream, &stream->begin, env_now_ns(stream->repl->env));
	if (stream->phase != STREAM_LIVE)
		return 0;
	tell_policy(stream);
	stream->session->timer.fire = tick;
	env_timer_start(stream->repl->env, &stream->session->timer, TICK_NS);
	stream_kick(stream);
	return 0;
}

int stream_message(struct session *session, const struct repl_header *header, const uint8_t *body)
{
	struct repl_stream *stream = session->stream;
	struct repl_position position;
	struct repl_error error;
	if (!(header->flags & REPL_REPLY) || header->request != stream->request ||
	    stream->phase == STREAM_QUEUING)
		return -VS_EFORMAT;
	if (stream->phase == STREAM_BROKEN)
		return 0;
	if (header->type == REPL_ERROR &&
	    repl_decode_error(body, header->body_bytes, &error) == 0) {
		session_refused(session, &error);
		stream_break(stream, error.code, session->sentence);
		return 0;
	}
	if (header->type == REPL_POSITION &&
	    repl_decode_position(body, header->body_bytes, &position) == 0)
		return take_position(stream, &position);
	return -VS_EFORMAT;
}

void stream_ended(struct session *session)
{
	struct repl_stream *stream = session->stream;
	if (!stream)
		return;
	session->stream = NULL;
	stream->session = NULL;
	stream_break(stream, session->res < 0 ? session->res : -ECONNRESET, session->sentence);
}

/* ---- for the daemon ---- */

struct repl_stream *repl_stream_new(struct repl *repl, const struct volume_info *volume,
				    const char *host)
{
	struct repl_stream *stream = calloc(1, sizeof(*stream));
	if (!stream || repl->stopping || store_tap(repl->store, volume->number, true) < 0) {
		free(stream);
		return NULL;
	}
	stream->repl = repl;
	stream->volume = volume->number;
	memcpy(stream->uuid, volume->uuid, 16);
	memcpy(stream->name, volume->name, NAME_ROOM);
	snprintf(stream->host, sizeof stream->host, "%s", host);
	stream->items_tail = &stream->items;
	stream->flying_tail = &stream->flying;
	stream->next = repl->streams;
	repl->streams = stream;
	return stream;
}

void repl_stream_from(struct repl_stream *stream, const struct store_position *position)
{
	if (stream->phase != STREAM_QUEUING)
		return;
	stream->begin = *position;
	items_drop(stream, position->vseq);
	struct session *session = session_new(stream->repl, false);
	if (!session) {
		stream_break(stream, -EBUSY, "There is no room for another connection now.");
		return;
	}
	stream->phase = STREAM_ASKING;
	stream->session = session;
	session->stream = stream;
	memcpy(session->host, stream->host, NAME_ROOM);
	snprintf(session->object, sizeof session->object, "%s", stream->name);
	session_dial(session);
}

void repl_stream_state(const struct repl_stream *stream, struct repl_stream_state *ret)
{
	const struct item *item = stream->items;
	*ret = (struct repl_stream_state){.phase = stream->phase,
					  .res = stream->res,
					  .acked = stream->acked,
					  .lag_bytes = stream->queued_bytes + stream->bytes_total -
						       stream->acked_total,
					  .sent_bytes = stream->bytes_total};
	memcpy(ret->sentence, stream->sentence, SENTENCE_BYTES);
	if (stream->flying && stream->flying->vseq > stream->acked.vseq)
		ret->lag_ns = env_now_ns(stream->repl->env) - stream->flying->queued_ns;
	else if (item)
		ret->lag_ns = env_now_ns(stream->repl->env) - item->queued_ns;
}

void repl_stream_free(struct repl_stream *stream)
{
	if (!stream)
		return;
	stream_break(stream, -VS_ECANCELLED, "It follows no more.");
	struct repl_stream **at = &stream->repl->streams;
	while (*at != stream)
		at = &(*at)->next;
	*at = stream->next;
	if (stream->session)
		stream->session->stream = NULL;
	free(stream);
}
