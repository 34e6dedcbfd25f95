/* SPDX-License-Identifier: Apache-2.0 */
/* One receive: what receive.c, which walks both trees, and receive_take.c, which takes records in,
 * share. */
#ifndef STORAGE_STORE_RECEIVE_H
#define STORAGE_STORE_RECEIVE_H

#include "storage/store/replica.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"
#include "storage/store/work.h"

#define ENTRY_COUNT STORE_WANTS_MAX
#define NODE_SHARE (ENTRY_COUNT / 4) /* entries that nodes asked for ahead may have */
#define WANT_BATCH 64u

enum phase {
	RECEIVE_YIELD,
	RECEIVE_MAKE,
	RECEIVE_FOLD,
	RECEIVE_DIFF,
	RECEIVE_END,
	RECEIVE_PUBLISH,
	RECEIVE_DROP
};

/* A chunk or node that is on its way, or a range that becomes zeros. */
enum entry_state {
	ENTRY_FREE,
	ENTRY_WANTED, /* the peer was asked for it */
	ENTRY_SAME,   /* another entry was, for the same id */
	ENTRY_TAKEN,  /* being stored */
};
struct receiving;
struct entry {
	struct receiving *receiving;
	enum entry_state state;
	uint8_t type;
	uint64_t chunk_no;
	struct foreign_record foreign;
	struct id base;	 /* of a node: what the copy has in its place; null: nothing */
	uint8_t *record; /* what came: a record, or what differs from `base` */
	struct store_request request;
	struct put *put; /* of a node */
	struct wait wait;
};

struct receiving {
	struct work work;
	struct store_work own; /* work's public half */
	struct store_receive *public;
	enum phase phase;
	char name[NAME_ROOM];
	struct view *view;
	struct admin_op admin;
	bool admin_busy, admin_done, walking;
	int error;
	unsigned restarts, busy, nodes_wanted;
	uint64_t stored, stored_before; /* entries that ended well; when it was begun anew last */
	uint32_t copy_number;		/* beside: 0: nobody looked yet; the copy ... */
	uint64_t copy_layer;		/* ... and up to where it is to be in its map */
	struct entry entries[ENTRY_COUNT];
	uint8_t want_ids[2][WANT_BATCH][ID_BYTES]; /* chunks, nodes */
	uint8_t want_bases[WANT_BATCH][ID_BYTES];
	uint32_t want_count[2];

	struct id path[MAP_LEVELS][2]; /* the offered tree, the copy's */
	unsigned slot[MAP_LEVELS], depth;
	bool ahead[MAP_LEVELS]; /* its children were asked for, and are these: */
	struct id children[MAP_LEVELS - 1][NODE_SLOTS];
};

/* ---- receive_take.c ---- */

/* Sends what was gathered to be asked for: of chunks (0), or of nodes (1). */
void receive_want_flush(struct receiving *receiving, unsigned nodes);
/* 0: the record is here, and a node can be read; -ENOENT; WAITING. */
int receive_is_here(struct receiving *receiving, const struct id *id, uint8_t type,
		    struct wait *wait);
/* A free one, for this id; NULL: there is none. */
struct entry *receive_entry(struct receiving *receiving, uint8_t type, const struct id *id);
/* The one of this id, in this state; ENTRY_FREE: in any. */
struct entry *receive_entry_of(struct receiving *receiving, uint8_t type, const struct id *id,
			       enum entry_state state);
void receive_entry_want(struct entry *entry); /* the peer is asked, soon */
void receive_entry_take(struct entry *entry); /* what came, or, of a chunk, what is here */
void receive_entry_end(struct entry *entry, int res);
/* A range of the copy becomes a chunk of the entry's, or zeros. */
void receive_write(struct entry *entry, enum request_kind kind, uint64_t offset, uint64_t bytes);

#endif
