/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies on other hosts: sends snapshots to peers, takes those that peers send.
 *
 * Reactor thread only. Who a peer is comes from its certificate; what arrives from host H becomes
 * the volume H/VOL, so a host can write no other host's copies.
 */
#ifndef STORAGE_REPL_REPL_H
#define STORAGE_REPL_REPL_H

#include "storage/rt/tls.h"
#include "storage/store/store_follow.h"
#include "storage/store/store_list.h"
#include "storage/store/store_vote.h"

struct repl;

struct repl_options {
	struct tls_context *tls; /* this object's from here on; NULL: in the clear (tests only) */
	const char *listen;	 /* "ADDRESS:PORT", or NULL: sends only */
	const char *plain_host;	 /* without TLS: who every peer is taken for, or: */
	const char *own_host;	 /* without TLS: who this host is; NULL: nobody */
	/* Without TLS: who is at the other end of a connection that came. */
	const char *(*plain_peer)(const struct env_sock *sock);
};

/* -EADDRINUSE, -EINVAL ... and one sentence; the TLS context is freed in any case. */
int repl_new(struct env *env, struct store *store, const struct repl_options *options,
	     struct repl **ret_repl, char ret_sentence[SENTENCE_BYTES]);
/* Newer certificates, for connections made from now on. Those that are open go on, but for the ones
 * whose peer's certificate is not good by them, which end: who was revoked has no connection left.
 */
void repl_set_tls(struct repl *repl, struct tls_context *tls);
/* No new connection, and the open ones end; sends under way end with -ESHUTDOWN. Then op, then
 * repl_free. */
void repl_stop(struct repl *repl, struct io_op *op);
void repl_free(struct repl *repl);

/* One snapshot to one peer. The caller's until op.done; op.res 0: the peer has published it. Sends
 * of one volume to one peer go one after the other, in the order of their calls. A peer that is
 * still busy with the copy is asked again for 90 s, then it is -EBUSY. */
struct repl_send {
	struct io_op op;
	char sentence[SENTENCE_BYTES];
	char waits[SENTENCE_BYTES]; /* as it goes: what it waits for now, or "" */
	bool cancel;
	const char *snapshot, *host; /* VOL@SNAP, sealed; a peer of the store */
	uint64_t rate_bytes;	     /* a second; 0: no limit */
	/* A connection that was cut, once one was open, is made anew, until 64 in a row brought
	 * nothing over: that is half an hour. A peer that takes nothing, being full or read-only,
	 * is asked again every minute, without an end, and others of the line go before meanwhile.
	 * Otherwise the connection's end is the send's. */
	bool goes_on;
	/* As it goes: chunks that differed, were sent, were there already; bytes on the wire. */
	uint64_t chunks, fetched, found, sent_bytes;
	void *state; /* repl's own */
};
void repl_send(struct repl *repl, struct repl_send *send);
/* `cancel` was set: looks at it now. */
void repl_send_cancel(struct repl_send *send);
/* Of a send's res: the line was cut, or vstored there ended; nobody refused anything. */
bool repl_was_cut(int res);
/* Another rate, from now on, of one that has not ended. */
void repl_send_rate(struct repl_send *send, uint64_t rate_bytes);

/* ---- followers in step: the records of a volume, as they go to its log ---- */

/* A volume on its way to a follower. Life: repl_stream_new, which queues what is written from then
 * on; repl_stream_from, when the follower is known, or thought, to stand somewhere: what lies
 * behind that is sent, and acknowledged to the store (store_follower_acked); broken at any time,
 * for good: then repl_stream_free and a new one. Never waits, holds at most REPL_STREAM_BYTES_MAX,
 * and with all others REPL_STREAMS_BYTES_MAX: beyond that, who is to hold more is broken.
 */
struct repl_stream;
#define REPL_STREAM_BYTES_MAX (64 * MIB)
#define REPL_STREAMS_BYTES_MAX (512 * MIB)
enum repl_stream_phase { STREAM_QUEUING, STREAM_ASKING, STREAM_LIVE, STREAM_BROKEN };
struct repl_stream_state {
	enum repl_stream_phase phase;
	int res;		       /* broken: -EAGAIN, -ENOENT: send a cut first; others */
	char sentence[SENTENCE_BYTES]; /* broken: why */
	struct store_position acked;   /* live: durable there */
	uint64_t lag_bytes, lag_ns;    /* written and not acknowledged; since when */
	uint64_t sent_bytes;
};
/* NULL: no memory, or the volume is gone. */
struct repl_stream *repl_stream_new(struct repl *repl, const struct volume_info *volume,
				    const char *host);
void repl_stream_from(struct repl_stream *stream, const struct store_position *position);
void repl_stream_state(const struct repl_stream *stream, struct repl_stream_state *ret);
void repl_stream_free(struct repl_stream *stream);

/* ---- voters ---- */

/* How long a follower in step is missing before it is left out, where its rules say so. */
#define REPL_MISSING_NS (3 * NSEC_PER_SEC)

/* Asks the other voters for the word by which this host becomes the owner (store_word_plan): first
 * whether they would, then, when a majority would, that they do. The caller's until op.done: 0, a
 * majority, our own voice counted, has promised its voice in the term of the word, which may have
 * become higher; else the sentence says who said what. Who said yes stays with it until it is asked
 * in a higher term, by whomever. */
struct repl_election {
	struct io_op op;
	char sentence[SENTENCE_BYTES];
	struct store_word word;
	uint64_t base_term;
};
void repl_elect(struct repl *repl, struct repl_election *election);

struct repl_session_info {
	char host[NAME_ROOM];
	bool incoming;
	char object[SNAP_NAME_ROOM]; /* what is being sent or received, or "" */
	uint64_t sent_bytes, received_bytes;
	int64_t clock_ahead_ns; /* the peer's time of day against ours, when it connected */
};
struct repl_counters {
	uint64_t connections, refused, sent_bytes, received_bytes;
	uint64_t sends, sends_failed, receives, receives_failed;
	uint64_t lanes; /* further connections of a snapshot that was sent */
};
/* An array for the caller to free; -ENOMEM. */
int repl_sessions(const struct repl *repl, struct repl_session_info **ret, size_t *ret_count);
void repl_counters(const struct repl *repl, struct repl_counters *ret);
/* A peer's time of day against ours, as it was when it connected last, either way. */
struct repl_clock {
	char host[NAME_ROOM];
	int64_t ahead_ns;
	uint32_t store_tag; /* of the store that was there then */
};
/* An array for the caller to free; -ENOMEM. */
int repl_clocks(const struct repl *repl, struct repl_clock **ret, size_t *ret_count);
/* Which store was there when the host connected last: the first bytes of its UUID, as a number that
 * is not 0. 0: it has not connected since this began. */
uint32_t repl_store_tag(const struct repl *repl, const char *host);

#endif
