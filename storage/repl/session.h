/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of storage/repl share: a session is one connection and what goes on over it. */
#ifndef STORAGE_REPL_SESSION_H
#define STORAGE_REPL_SESSION_H

#include "storage/repl/channel.h"
#include "storage/repl/repl.h"
#include "storage/store/store_transfer.h"
#include "storage/rt/rate.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define SERVE_READS 16u /* records being read for one peer */
static_assert(STORE_WANTS_MAX <= REPL_UNANSWERED_MAX, "each may be asked for alone");
/* Of which so many are for those that this host makes: whoever comes, it can ask for its mandates,
 * serve its followers and be healed. */
#define SESSIONS_MAX 4096u
#define SESSIONS_OWN 1024u
#define CLOCKS_MAX 64u	  /* peers whose clocks are remembered */
#define LANES_MAX 3u	  /* connections of one send beside its first */
#define LANES_ALL_MAX 12u /* of all sends, and of all that is received: each has some MiB */

/* What a send waits for an answer to; other sessions stay NEW. One that asks for records (heal.c)
 * is HEAL from the time when it is open; one of a send's further ones (lanes.c) begins as LANE. */
enum session_state {
	SESSION_NEW,
	SESSION_DOMAIN,
	SESSION_OFFER,
	SESSION_HEAL,
	SESSION_LANE, /* not taken yet */
	SESSION_LANE_OPEN,
};

/* A GET that is being answered. */
struct serve_get {
	struct serve_get *next;
	uint64_t request;
	uint32_t count, at;
	uint8_t type;
	uint8_t ids[REPL_GET_MAX][ID_BYTES], bases[REPL_GET_MAX][ID_BYTES];
};
struct serve_read {
	struct store_record_read read;
	struct session *session;
	uint64_t request;
	bool busy;
};

/* line.c: a send, in its line or on its way. */
struct sender {
	struct sender *next; /* a later one */
	struct repl *repl;
	struct repl_send *send;
	struct session *session; /* NULL: it waits */
	struct view *view;	 /* keeps the snapshot */
	struct store_offer offer;
	struct env_timer timer; /* it goes, or goes again */
	bool begun;		/* its turn has come */
	uint64_t busy_since_ns, pause_ns;
	/* Connections that were cut: whether one was open ever, what those before this one brought,
	 * and how many in a row brought nothing (line.c says what is believed of that). */
	bool reached;
	uint64_t fetched, found, sent_bytes;
	uint64_t believed; /* chunks that those which were cut brought */
	unsigned vain_cuts;
	uint64_t cut_pause_ns;
	/* The peer takes nothing: until the timer, others of the line go before it. */
	bool parked;
	uint64_t full_pause_ns; /* 0: it was not asked in vain */
	/* lanes.c: of this connection */
	uint8_t transfer[16];
	struct session *lanes[LANES_MAX];
	unsigned lane_count, states; /* STATEs that it is being received */
	uint64_t lane_after_ns;	     /* no other one before */
};

/* lanes.c: over what the chunks of a snapshot that is received are asked for. */
struct lanes {
	struct lane {
		struct session *session;
		unsigned silent;	 /* ticks: so long nothing came */
		uint64_t received_bytes; /* at the last one */
	} at[LANES_MAX + 1];		 /* the first connection, then lanes */
	unsigned count;
	uint64_t received_bytes; /* by lanes that are gone */
	struct lane_asked {
		struct session *over; /* NULL: a free place */
		uint8_t id[ID_BYTES];
	} asked[STORE_WANTS_MAX]; /* and not answered */
};

struct session {
	struct repl *repl;
	struct session *next, *prev;
	struct channel *channel; /* NULL until it is connected, and after its end */
	unsigned tls_number;	 /* of the certificates that it was begun with */
	enum session_state state;
	bool incoming, ended;
	char host[NAME_ROOM], object[SNAP_NAME_ROOM];
	char from[ENV_ADDRESS_ROOM]; /* incoming: whose address it is */
	int64_t clock_ahead_ns;
	int res;
	char sentence[SENTENCE_BYTES];
	uint64_t next_request;

	/* Connecting. */
	struct env_sock *sock;
	struct io_op connect_op;
	struct env_timer timer; /* connecting; the rate; progress */
	bool connecting;
	uint64_t patience_ns; /* for the connection, and again for TLS and HELLO; 0: 10 s */

	/* serve.c */
	struct serve_get *gets, **gets_tail;
	unsigned get_count, reads_busy;
	struct serve_read *reads;
	uint8_t *read_memory;
	struct rate rate; /* of what it is sent */

	/* heal.c */
	bool heals;	      /* it is one of heal.c's */
	unsigned quiet_ticks; /* so long nobody asked, or nothing was answered */
	bool answered;	      /* since the last tick */

	/* stream.c */
	struct repl_stream *stream;

	/* mandate.c, word.c */
	struct mandate_link *mandates;
	unsigned words_taken; /* VOTEs that the store has */

	/* elect.c */
	struct election *election;

	/* copy.c */
	struct copying *copying;

	/* send.c */
	struct sender *sender;

	/* lanes.c: whose lane it is: of one that sends; of one that receives. */
	struct sender *lane_of;
	struct session *joined;

	/* receive.c */
	struct admin_op domain_op;
	bool domain_busy;
	uint64_t domain_request;
	struct store_receive receive;
	bool receive_busy;
	uint64_t offer_request;
	uint8_t transfer[16];
	struct lanes *lanes; /* NULL: nothing is received, or there was no memory */
};

struct repl {
	struct env *env;
	struct store *store;
	struct tls_context *tls;
	unsigned tls_number; /* how often they were replaced */
	char plain_host[NAME_ROOM];
	const char *(*plain_peer)(const struct env_sock *sock);
	struct env_listener *listener;
	struct io_op accept_op;
	struct env_sock *accepted;
	struct env_timer accept_timer;
	bool accepting, stopping;
	struct io_op *stop_op;
	struct session *sessions;
	unsigned session_count;
	struct repl_stream *streams;
	uint64_t stream_bytes;		     /* queued, in all of them */
	uint64_t copy_bytes;		     /* not applied yet, in all of copy.c's */
	struct sender *senders;		     /* line.c's, the oldest first */
	unsigned lanes_sent, lanes_received; /* sessions that are lanes */
	struct mandate_link *links;	     /* mandate.c's */
	struct election *elections;	     /* elect.c's */
	struct renewal *renewals;
	struct env_timer mandate_timer;
	uint64_t mandate_tick_ns;   /* the last one */
	struct question *questions; /* heal.c's */
	struct heal_down *downs;
	unsigned question_count;
	struct repl_counters counters;
	struct repl_clock clocks[CLOCKS_MAX];
	unsigned clock_count;
};

static inline struct repl_position position_out(const struct store_position *at)
{
	struct repl_position out = {.epoch = at->epoch, .vseq = at->vseq};
	memcpy(out.incarnation, at->incarnation, sizeof out.incarnation);
	return out;
}
static inline struct store_position position_in(const struct repl_position *at)
{
	struct store_position in = {.epoch = at->epoch, .vseq = at->vseq};
	memcpy(in.incarnation, at->incarnation, sizeof in.incarnation);
	return in;
}

/* Says ALIVE to a peer that may hear nothing else for long; one that takes nothing has enough to
 * hear. */
static inline void session_alive(struct session *session)
{
	uint8_t message[REPL_HEADER_BYTES];
	if (session->channel && channel_room(session->channel))
		channel_send(session->channel, message, repl_encode_alive(message));
}

/* repl.c */
/* NULL: there are too many, or no memory. What it does not use yet it has no memory for. */
struct session *session_new(struct repl *repl, bool incoming);
int session_channel(struct session *session, struct env_sock *sock);
/* Ends it soon, with what `closed` of its channel would have said. */
void session_end(struct session *session, int res, const char *sentence);
/* The same with what the peer answered, which is not said back to it. */
void session_refused(struct session *session, const struct repl_error *error);
/* Frees it when nothing is under way any more. */
void session_look(struct session *session);
uint64_t session_request(struct session *session);
/* Connects; what follows is `opened`, or the session's end, also at once. */
void session_connect(struct session *session, const char *address);
/* The same, to the address that the store knows of its host; there may be none. */
void session_dial(struct session *session);
/* Ends one that was never connected. */
void session_never(struct session *session, int res);
void stop_look(struct repl *repl);

/* serve.c: answers GETs. Handlers of messages return 0, or a negative code: the peer is dropped. */
void serve_free(struct session *session);
/* A second, from now on; 0: no limit. */
void serve_rate(struct session *session, uint64_t rate_bytes);
int serve_get(struct session *session, const struct repl_header *header, const uint8_t *body);
int serve_get_delta(struct session *session, const struct repl_header *header, const uint8_t *body);
void serve_kick(struct session *session);

/* send.c: the outgoing side. */
void send_opened(struct session *session);
int send_message(struct session *session, const struct repl_header *header, const uint8_t *body);
void send_ended(struct session *session); /* the session is gone */

/* line.c: sends of one volume to one peer, one after the other. */
/* What the peer says that its connection brought so far, which is believed up to what the volume
 * can have; NULL: it said nothing, only what was sent has become more. */
void line_progress(struct sender *sender, const struct repl_state *state, uint64_t sent_bytes);
/* The session of this one is gone: the send ends, or has another one soon. */
void line_session_ended(struct sender *sender, int res, const char *sentence);
void line_stop(struct repl *repl); /* ends those without a session */

/* lanes.c: further connections of one snapshot. */
/* It is being received still: it may get another connection. */
void lanes_look(struct sender *sender);
void lanes_end(struct sender *sender); /* all it has end */
uint64_t lanes_sent_bytes(const struct sender *sender);
void lanes_opened(struct session *session);
int lanes_message(struct session *session, const struct repl_header *header, const uint8_t *body);
int lanes_join(struct session *session, const struct repl_header *header, const uint8_t *body);
/* `first` begins to receive, and may have lanes from now on; nothing is received any more. */
void lanes_begin(struct session *first);
void lanes_done(struct session *first);
/* Over which connection these chunks are asked for now; which one is noted. */
struct session *lanes_ask(struct session *first, const uint8_t *ids, uint32_t count);
void lanes_answered(struct session *first, const struct session *over, const uint8_t id[ID_BYTES]);
uint64_t lanes_received_bytes(const struct session *first);
void lanes_tick(struct session *first); /* a second has passed */
/* The session ends: as a lane, and with those that it has. Its channel may still be there. */
void lanes_left(struct session *session);

/* heal.c: asks peers for records that the store cannot read. */
int heal_start(struct repl *repl); /* -ENOMEM */
void heal_stop(struct repl *repl);
void heal_opened(struct session *session);
int heal_message(struct session *session, const struct repl_header *header, const uint8_t *body);
void heal_ended(struct session *session); /* its questions go to the next peer */

/* stream.c: the outgoing side of what follows in step. */
void stream_start(struct repl *repl);
void stream_stop(struct repl *repl);
void stream_opened(struct session *session);
int stream_message(struct session *session, const struct repl_header *header, const uint8_t *body);
void stream_room(struct session *session);
void stream_ended(struct session *session);

/* mandate.c: whether the hosts that follow in step take us for the primary; and the other side. */
void mandate_start(struct repl *repl);
void mandate_stop(struct repl *repl);
void mandate_opened(struct session *session);
int mandate_message(struct session *session, const struct repl_header *header, const uint8_t *body);
void mandate_ended(struct session *session);
int mandate_take(struct session *session, const struct repl_header *header, const uint8_t *body);

/* word.c: tells the other voters the newest word of a volume of ours, over mandate.c's connections;
 * and takes what their owners say of theirs. */
struct telling {
	bool waits; /* for the answer to `request` */
	uint64_t request, asked_ns, term, seq;
	int res; /* of the last answer */
};
void word_tell(struct session *session, struct telling *telling, uint32_t volume, const char *host,
	       bool heard);
/* True: it is the answer to what was told. */
bool word_told(struct session *session, struct telling *telling, uint32_t volume, const char *host,
	       const struct repl_header *header, int res);
int word_take(struct session *session, const struct repl_header *header, const uint8_t *body);
struct store_word word_in(const struct repl_vote *vote);
struct repl_vote word_out(const struct store_word *word, uint64_t base_term, bool won);

/* elect.c: asks the other voters to have this host as the owner. */
void elect_opened(struct session *session);
int elect_message(struct session *session, const struct repl_header *header, const uint8_t *body);
void elect_ended(struct session *session);
void elect_stop(struct repl *repl);
/* A voter of this volume of ours has said no since then: false, too short a time. True: all are
 * asked anew, or that is under way, or there is nothing to ask for. */
bool elect_renew(struct repl *repl, uint32_t volume, uint64_t refused_ns);

/* copy.c: its incoming side. */
int copy_message(struct session *session, const struct repl_header *header, const uint8_t *body);
/* Sessions that have this copy end: a newer one of the same host wants it. */
void copy_take_over(struct session *session, const char *name);
bool copy_idle(const struct session *session); /* nothing of it is the store's */
void copy_ended(struct session *session);      /* the session goes: frees it */

/* receive.c: the incoming side. */
void answer_error(struct session *session, uint64_t request, int code, const char *sentence);
int receive_message(struct session *session, const struct repl_header *header, const uint8_t *body);
bool receive_idle(const struct session *session);
/* Asks for chunks, over lanes too. */
void receive_ask(struct session *session, const uint8_t *ids, uint32_t count);
void receive_cancel(struct session *session);

#endif
