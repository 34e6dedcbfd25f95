/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of the log's records (catalog_record.c, FORMAT.md), and what they do to the objects
 * (catalog.c).
 */
#ifndef STORAGE_STORE_CATALOG_H
#define STORAGE_STORE_CATALOG_H

#include "proto/cursor.h"
#include "storage/store/objects.h"
#include "storage/store/store_vote.h"

enum log_op {
	LOG_WRITE = 1,
	LOG_ZERO = 2,
	LOG_CHUNK = 3,
	LOG_FREEZE = 4,
	LOG_PUT_VOLUME = 5,
	LOG_DEL_VOLUME = 6,
	LOG_PUT_SNAPSHOT = 7,
	LOG_DEL_SNAPSHOT = 8,
	LOG_PUT_SEGMENT = 9,
	LOG_DEL_SEGMENT = 10,
	LOG_BARRIER = 11, /* changes nothing */
	LOG_EPOCH = 12,
	LOG_PUT_DOMAIN = 13,
	LOG_PUT_PEER = 14,
	LOG_DEL_PEER = 15,
	LOG_PUT_POLICY = 16,
	LOG_DEL_POLICY = 17,
	LOG_PUT_FOLLOWER = 18,
	LOG_DEL_FOLLOWER = 19,
	LOG_FOLLOW = 20,
	LOG_LINES = 21,
	LOG_PUT_WORD = 22,
	LOG_PUT_PROMISE = 23,
	LOG_SHIPPED = 24,
	LOG_HOME_POLICY = 25,
};
#define LOG_RECORD_BYTES_MAX 1024u

/* The flags of LOG_PUT_VOLUME and LOG_PUT_SNAPSHOT: which fields count. */
enum put_flags {
	PUT_FULL = 0,  /* all: a new volume, and checkpoints */
	PUT_NEW = 1,   /* a new snapshot: what it holds is decided when the record takes effect */
	PUT_ADMIN = 2, /* names, sizes, dates, holds; never data */
	PUT_FOLD = 3,  /* a volume's map, and the layer that went into it */
	PUT_RESET = 4, /* the volume becomes a snapshot again */
	PUT_COPY = 5,  /* the volume becomes a copy (yield.c), and nobody follows it any more */
};

uint32_t volume_encode_flags(const struct volume *volume, enum put_flags flags, void *out);
uint32_t snapshot_encode_flags(const struct snapshot *snapshot, enum put_flags flags, void *out);
/* Foreign bytes: -VS_EFORMAT. The cursor stands behind the number. */
int volume_decode(struct cursor *c, uint32_t number, struct volume *ret);
int snapshot_decode(struct cursor *c, uint32_t number, struct snapshot *ret);
bool replica_name_good(const char name[NAME_ROOM]);
bool frame_bytes_good(uint32_t frame_bytes); /* one that a volume may ask for */
/* From a checkpoint: replaces the volume's layers, takes them over. -VS_EFORMAT. */
int volume_set_layers(struct volume *volume, struct layer **layers, uint32_t count);
uint32_t volume_encode(const struct volume *volume, void *out); /* a LOG_PUT_VOLUME */
uint32_t snapshot_encode(const struct snapshot *snapshot, void *out);
/* Of data: each takes the volume's epoch and its next vseq. */
#define WRITE_RECORD_BYTES 40u
#define ZERO_RECORD_BYTES 40u
#define CHUNK_RECORD_BYTES 64u
#define CHUNK_RECORD_ID 32u /* where its id is */
uint32_t record_write(struct volume *volume, uint64_t block_no, uint32_t count, void *out);
uint32_t record_zero(struct volume *volume, uint64_t block_no, uint64_t count, void *out);
uint32_t record_epoch(uint32_t volume, uint64_t epoch, const uint8_t incarnation[16], void *out);
uint32_t record_chunk(struct volume *volume, uint64_t chunk_no, const struct id *id, void *out);
uint32_t record_number(enum log_op op, uint32_t number, void *out); /* FREEZE, DEL_*, BARRIER */
uint32_t record_segment(uint64_t id, uint32_t slot, void *out);

/* ---- records of what belongs to volumes, and of other hosts: each in the file of its name ---- */

uint32_t domain_encode(const struct domain *domain, void *out);
int domain_apply(struct store *store, uint32_t number, struct cursor *c);
uint32_t peer_encode(enum log_op op, const struct peer *peer, void *out);
int peer_apply(struct store *store, enum log_op op, struct cursor *c);
uint32_t follower_encode(enum log_op op, const struct follower *follower, void *out);
int follower_apply(struct store *store, enum log_op op, uint32_t volume, struct cursor *c);
uint32_t word_encode(const struct store_word *word, void *out);
int word_apply(struct store *store, struct cursor *c);
uint32_t promise_encode(const uint8_t uuid[16], uint64_t term, void *out);
int promise_apply(struct store *store, struct cursor *c);
uint32_t shipped_encode(const struct volume *volume, void *out); /* a LOG_SHIPPED */
int shipped_apply(struct volume *volume, struct cursor *c);
/* A LOG_HOME_POLICY; with no name: that it has none. */
uint32_t home_encode(uint32_t volume, const struct named_policy *home, void *out);
int home_apply(struct volume *volume, struct cursor *c);
uint32_t policy_encode(const struct policy *policy, void *out); /* a LOG_PUT_POLICY */
/* The cursor stands behind the number. -VS_EFORMAT. */
int policy_apply(struct store *store, enum log_op op, uint32_t number, struct cursor *c);

/* ---- what a record does, live and in replay alike ---- */

/* Returns the payload blocks of the record; foreign bytes: -VS_EFORMAT; -ENOMEM. payload: NULL when
 * there is none. */
int catalog_apply(struct store *store, const void *record, uint32_t bytes,
		  const struct log_payload *payload);
/* The position before which no layer needs the log. */
uint64_t catalog_tail(const struct store *store, uint64_t most);

#endif
