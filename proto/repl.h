/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of replication (REPLICATION.md). Pure functions over bytes, any thread; decoders of
 * foreign bytes return -VS_EFORMAT and touch *ret only when all was good. */
#ifndef PROTO_REPL_H
#define PROTO_REPL_H

#include "proto/cursor.h"
#include "proto/err.h"
#include "proto/policy.h"
#include "proto/units.h"

#define REPL_VERSION_MIN 2u
#define REPL_VERSION_MAX 2u
#define REPL_MAGIC 0x52505356u
#define REPL_HEADER_BYTES 16u
#define REPL_BODY_MAX (132u * 1024)
#define REPL_GET_MAX 64u	     /* ids of one GET or GET_DELTA */
#define REPL_WRITE_MAX (128u * 1024) /* bytes of one WRITE's data */
#define REPL_MANDATE_NS_MAX (60 * NSEC_PER_SEC)
#define REPL_VOTERS_MAX 5u
#define REPL_UNANSWERED_MAX 256u	   /* requests of one side */
#define REPL_LINES_MAX 24u		   /* of one OFFER */
#define REPL_EPOCH_MAX (UINT64_C(1) << 62) /* who is promoted counts on from an epoch ... */
#define REPL_VSEQ_MAX (UINT64_C(1) << 62)  /* ... and a write: neither may wrap */
#define REPL_NAME_ROOM (NAME_BYTES_MAX + 1)

enum repl_type {
	REPL_HELLO = 1,
	REPL_ERROR = 2,
	REPL_OK = 3,
	REPL_DOMAIN = 4,
	REPL_OFFER = 5,
	REPL_STATE = 6,
	REPL_GET = 7,
	REPL_RECORD = 8,
	REPL_MISSING = 9,
	REPL_CANCEL = 10,
	REPL_GET_DELTA = 11,
	REPL_DELTA = 12,
	REPL_JOIN = 13,
	REPL_POLICY = 14,
	REPL_FOLLOW = 16,
	REPL_POSITION = 17,
	REPL_WRITE = 18,
	REPL_COMMIT = 19,
	REPL_MANDATE = 20,
	REPL_VOTE = 21,
	REPL_TYPE_IGNORED = 128, /* from here on, unknown ones are */
	REPL_ALIVE = 128,
};
enum repl_flags { REPL_REPLY = 1 };
/* Bits of HELLO's features that may be known. */
#define REPL_FEATURE_DELTA 1u	 /* answers GET_DELTA */
#define REPL_FEATURE_LANES 2u	 /* takes JOIN */
#define REPL_FEATURE_POLICIES 4u /* takes what is told of policies: in OFFER, and POLICY */
#define REPL_FEATURES_KNOWN (REPL_FEATURE_DELTA | REPL_FEATURE_LANES | REPL_FEATURE_POLICIES)

struct repl_header {
	uint32_t body_bytes;
	uint8_t type, flags;
	uint64_t request;
};

struct repl_hello {
	uint16_t version_min, version_max;
	uint8_t store_uuid[16];
	uint64_t features_needed, features_known, wall_ns;
};

struct repl_error {
	int32_t code; /* negative */
	char sentence[SENTENCE_BYTES];
};

struct repl_domain {
	uint8_t uuid[16], key[64];
	char name[REPL_NAME_ROOM];
};

/* The writes of one opening of the volume: those behind `begin_vseq`. */
struct repl_line {
	uint64_t epoch, begin_vseq;
	uint8_t incarnation[16];
};
struct repl_offer {
	uint8_t transfer[16], domain[16], volume_uuid[16];
	uint64_t size_bytes, created_wall_ns, epoch, vseq, mapped_chunks;
	uint32_t frame_bytes;
	uint8_t level;
	bool cut;
	bool beside; /* the copy stays as it is; never of a cut */
	uint8_t top[ID_BYTES], root[ID_BYTES];
	char volume[REPL_NAME_ROOM], snapshot[REPL_NAME_ROOM];
	uint32_t line_count;
	struct repl_line lines[REPL_LINES_MAX]; /* oldest first; none above `epoch` */
	struct told_policy policy;		/* never told to who is older than that */
};

enum repl_transfer_state { REPL_RECEIVING = 1, REPL_PUBLISHED = 2 };
struct repl_state {
	uint8_t state;
	uint64_t chunks, fetched, found, received_bytes;
	uint8_t root[ID_BYTES];
};

enum repl_get_type { REPL_GET_CHUNK = 1, REPL_GET_NODE = 2 };
struct repl_get {
	uint8_t type; /* as a record's: 1 chunk, 2 map node */
	uint32_t count;
	uint8_t domain[16];
	const uint8_t *ids; /* within the decoded bytes, or the caller's when encoding */
};

/* Map nodes, each with one that the asker has: pairs of ids, the wanted one first. */
struct repl_get_delta {
	uint32_t count;
	uint8_t domain[16];
	const uint8_t *pairs; /* as repl_get's ids */
};

struct repl_delta {
	uint8_t id[ID_BYTES], base[ID_BYTES];
	const uint8_t *delta; /* within the decoded bytes, and node_delta_good */
	uint32_t delta_bytes;
};

struct repl_record {
	uint8_t id[ID_BYTES];
	const uint8_t *record; /* within the decoded bytes */
	uint32_t record_bytes;
};

struct repl_position {
	uint64_t epoch, vseq;
	uint8_t incarnation[16];
};
struct repl_follow {
	uint8_t volume_uuid[16];
	struct repl_position position;
	char volume[REPL_NAME_ROOM];
};
struct repl_write {
	uint64_t offset_bytes, length_bytes; /* whole blocks */
	const uint8_t *data;		     /* within the decoded bytes; NULL: zeros */
};
struct repl_mandate {
	uint8_t volume_uuid[16];
	struct repl_position position; /* where the primary is */
	uint64_t duration_ns;
};
/* What a voter keeps of a volume, or is asked to keep. */
struct repl_vote {
	uint8_t volume_uuid[16];
	uint64_t term, seq;
	/* Of the word that this one follows; in an answer: the highest that the voter has promised
	 * its voice in, 0: none. */
	uint64_t base_term;
	bool won;      /* no question: the asker is the owner already */
	bool only_ask; /* nothing is promised */
	uint8_t voter_count, owner;
	uint8_t copies, in_step; /* bits by place: has a copy; has all that was promised */
	char voters[REPL_VOTERS_MAX][REPL_NAME_ROOM];
};
struct repl_commit {
	uint64_t from_vseq;
	uint64_t durable_vseq; /* up to there it is durable at the sender; at most `to` */
	struct repl_position to;
};

/* Encoders: a whole message into `out`, which has room for REPL_HEADER_BYTES + REPL_BODY_MAX;
 * returns its bytes. */
uint32_t repl_encode_hello(const struct repl_hello *hello, void *out);
uint32_t repl_encode_error(uint64_t request, unsigned flags, int code, const char *sentence,
			   void *out);
uint32_t repl_encode_ok(uint64_t request, void *out);
uint32_t repl_encode_alive(void *out);
uint32_t repl_encode_domain(uint64_t request, const struct repl_domain *domain, void *out);
uint32_t repl_encode_offer(uint64_t request, const struct repl_offer *offer, void *out);
/* What is told of the policy of the volume that is followed. */
uint32_t repl_encode_policy(const struct told_policy *told, void *out);
uint32_t repl_encode_state(uint64_t request, const struct repl_state *state, void *out);
uint32_t repl_encode_get(uint64_t request, const struct repl_get *get, void *out);
uint32_t repl_encode_get_delta(uint64_t request, const struct repl_get_delta *get, void *out);
uint32_t repl_encode_delta(uint64_t request, const struct repl_delta *delta, void *out);
/* Header and id of a RECORD; the record's bytes follow, sent by the caller. */
uint32_t repl_encode_record(uint64_t request, const uint8_t id[ID_BYTES], uint32_t record_bytes,
			    void *out);
uint32_t repl_encode_missing(uint64_t request, const uint8_t id[ID_BYTES], int code, void *out);
uint32_t repl_encode_cancel(uint64_t request, const uint8_t transfer[16], void *out);
uint32_t repl_encode_join(uint64_t request, const uint8_t transfer[16], void *out);

uint32_t repl_encode_follow(uint64_t request, const struct repl_follow *follow, void *out);
uint32_t repl_encode_position(uint64_t request, const struct repl_position *position, void *out);
/* Header and range of a WRITE; with data, the bytes follow, sent by the caller. */
uint32_t repl_encode_write(uint64_t offset_bytes, uint64_t length_bytes, bool data, void *out);
uint32_t repl_encode_commit(const struct repl_commit *commit, void *out);
uint32_t repl_encode_mandate(uint64_t request, const struct repl_mandate *mandate, void *out);
uint32_t repl_encode_vote(uint64_t request, unsigned flags, const struct repl_vote *vote,
			  void *out);

/* -VS_EFORMAT: the connection cannot go on. */
int repl_decode_header(const void *bytes, struct repl_header *ret);
int repl_decode_hello(const void *body, size_t bytes, struct repl_hello *ret);
int repl_decode_error(const void *body, size_t bytes, struct repl_error *ret);
/* For people on our side: its sentence may speak of "this host", and means the peer's own. */
void repl_quote(const char *peer, const struct repl_error *error,
		char ret_sentence[SENTENCE_BYTES]);
int repl_decode_domain(const void *body, size_t bytes, struct repl_domain *ret);
int repl_decode_offer(const void *body, size_t bytes, struct repl_offer *ret);
int repl_decode_policy(const void *body, size_t bytes, struct told_policy *ret);
int repl_decode_state(const void *body, size_t bytes, struct repl_state *ret);
int repl_decode_get(const void *body, size_t bytes, struct repl_get *ret);
int repl_decode_get_delta(const void *body, size_t bytes, struct repl_get_delta *ret);
int repl_decode_delta(const void *body, size_t bytes, struct repl_delta *ret);
int repl_decode_record(const void *body, size_t bytes, struct repl_record *ret);
int repl_decode_missing(const void *body, size_t bytes, uint8_t ret_id[ID_BYTES], int *ret_code);
int repl_decode_follow(const void *body, size_t bytes, struct repl_follow *ret);
int repl_decode_position(const void *body, size_t bytes, struct repl_position *ret);
int repl_decode_write(const void *body, size_t bytes, struct repl_write *ret);
int repl_decode_commit(const void *body, size_t bytes, struct repl_commit *ret);
int repl_decode_mandate(const void *body, size_t bytes, struct repl_mandate *ret);
int repl_decode_vote(const void *body, size_t bytes, struct repl_vote *ret);
int repl_decode_cancel(const void *body, size_t bytes, uint8_t ret_transfer[16]);
int repl_decode_join(const void *body, size_t bytes, uint8_t ret_transfer[16]);

#endif
