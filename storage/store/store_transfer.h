/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records between hosts: snapshots sent and received, and what is damaged here and whole elsewhere.
 */
#ifndef STORAGE_STORE_STORE_TRANSFER_H
#define STORAGE_STORE_STORE_TRANSFER_H

#include "storage/store/store_follow.h"

/* ---- copies between hosts ---- */

/* What one host tells another about a snapshot that it sends. */
struct store_offer {
	uint8_t domain[16], volume_uuid[16];
	uint64_t size_bytes, created_wall_ns, epoch, vseq, mapped_chunks;
	uint32_t frame_bytes;
	int level;
	bool cut; /* of a follower: it takes the place of the cut before it */
	/* Whom it goes to gets each write of the volume: it is received beside the copy, which
	 * stays as it is, where it is, and open to who follows. Not of a cut. */
	bool beside;
	uint8_t top[ID_BYTES], root[ID_BYTES];
	char volume[NAME_ROOM], snapshot[NAME_ROOM];
	struct store_lines lines;  /* up to its epoch */
	struct told_policy policy; /* of the volume at home: a copy that is sent on tells it on */
};
/* "VOL@SNAP": -ENOENT; -EAGAIN: it has no root yet (store_snap_seal). */
int store_offer(const struct store *store, const char *name, struct store_offer *ret);

#define STORE_RECORD_BYTES_MAX (CHUNK_BYTES + 1024u)

/* Reads one record as it is stored. op.res: its bytes in `buf`, or -ENOENT: not stored here;
 * -VS_ECHECKSUM and others: damaged here. The checksums of its frames were looked at. */
struct store_record_read {
	struct io_op op;
	struct store *store;
	uint8_t id[ID_BYTES];
	uint8_t type; /* 1 a chunk, 2 a map node */
	/* Of a node: another one, that the asker has; zeros: none. Where both can be read and that
	 * is shorter, `buf` has what differs (proto/node_delta.h), and `delta` is set. */
	uint8_t base[ID_BYTES];
	bool delta;
	/* One that is damaged here is asked for elsewhere, and stored anew. Not where it is read
	 * for who asks us so: two that lack it would ask each other. */
	bool heals;
	uint8_t *buf;	 /* STORE_RECORD_BYTES_MAX, the caller's */
	void *state[24]; /* the store's own */
};
void store_record_read(struct store_record_read *read);

/* Makes a copy of a snapshot of another host: the volume HOST/VOL becomes it, chunk by chunk, and
 * then gets the snapshot. What is here already, in that volume or anywhere in its domain, is not
 * asked for; what was taken in survives a cut, and the next try goes on from there. Done: op.res 0
 * when the copy's root is the offered one and the snapshot is durable (a snapshot that is older
 * than what the copy was leaves it that). Where the volume itself is here and is to give way
 * (store_yields), it becomes the copy first, with a snapshot of what only this host had; -EAGAIN:
 * it is in use; -EBUSY: those who use it, and are not answered, are to go first. -EEXIST: a
 * snapshot of that name with another root is there. The caller owns it until then. */
struct store_receive {
	struct io_op op;
	char sentence[SENTENCE_BYTES];
	bool cancel;
	struct store_offer offer;
	char host[NAME_ROOM];
	/* The records of these ids (of one type) are needed; never inside store_receive. Each is
	 * answered by store_receive_record, in any order. At most STORE_WANTS_MAX are open. Of a
	 * node `bases` has one that is here already (or zeros), and store_receive_delta, with what
	 * differs from that, is an answer too; of chunks it is NULL. */
	void (*want)(struct store_receive *receive, uint8_t type, const uint8_t *ids,
		     const uint8_t *bases, uint32_t count);
	/* So far: chunks that differed, of those fetched, of those found here. */
	uint64_t chunks, fetched, found;
	void *state; /* the store's own */
};
#ifndef STORE_WANTS_MAX
#define STORE_WANTS_MAX 256u
#endif
void store_receive(struct store *store, struct store_receive *receive);
/* The peer's answer: a record, copied and verified against the id; or bytes 0 and why not. An id
 * that was not wanted is ignored. */
void store_receive_record(struct store_receive *receive, const uint8_t id[ID_BYTES],
			  const void *record, uint32_t record_bytes, int code);
/* A node as what differs from the base that was told, copied (proto/node_delta.h, a good one); it
 * is verified against the id, and asked for as a record when that fails. */
void store_receive_delta(struct store_receive *receive, const uint8_t id[ID_BYTES],
			 const uint8_t base[ID_BYTES], const void *delta, uint32_t delta_bytes);
/* `cancel` was set: ends soon, with -VS_ECANCELLED. */
void store_receive_kick(struct store_receive *receive);

/* ---- healing: what is damaged or missing here, somebody else may have ---- */

/* A question of the store: a record that a name of its own asks for, and that it cannot read. */
struct store_wanted {
	uint64_t number; /* of the question; never used twice */
	uint8_t id[ID_BYTES];
	uint8_t type;	  /* 1 a chunk, 2 a map node */
	uint32_t attempt; /* so many answers were not the id's: ask somebody else */
};
/* `want` is called with each question from now on, and answers it, once, never inside that call,
 * with store_heal_answer; it may be as slow as it likes, the store waits for a bounded time. A
 * reader of the record waits meanwhile, and then reads what was stored anew. NULL: nobody can be
 * asked any more; questions that are open end. */
void store_set_healer(struct store *store,
		      void (*want)(void *owner, const struct store_wanted *wanted), void *owner);
/* A record as store_record_read gives it, copied and verified against the id; or bytes 0 and why
 * not. A question that is no longer open is ignored. */
void store_heal_answer(struct store *store, uint64_t number, const void *record,
		       uint32_t record_bytes, int code);

#endif
