/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What write.c and write_admit.c share: pieces of requests.
 *
 *   waits in a queue -> admitted (write_admit.c): locked, reserved -> a long one works -> ready
 *   -> given to the log, in the order of readiness -> logged: it takes effect -> ended (write.c)
 */
#ifndef STORAGE_STORE_WRITE_INT_H
#define STORAGE_STORE_WRITE_INT_H

#include "storage/store/catalog.h"
#include "storage/store/put.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"

#define PIECE_COUNT 2048u
#define LOCK_COUNT 4096u
#define FLUSH_COUNT 512u

struct piece {
	struct store *store;
	struct store_request *request;
	struct piece *next; /* free, or waiting to append */
	struct log_entry entry;
	struct chunk_read read;
	struct put *put;
	uint64_t chunk_no;
	const uint8_t *payload;
	uint8_t *block; /* BLOCK_BYTES of its own, for parts of blocks */
	uint32_t skip_bytes, bytes, block_count, entries_reserved, record_bytes;
	bool locked, zero, unlogged;
	uint8_t record[CHUNK_RECORD_BYTES];
};

struct flush {
	struct log_flush_op op;
	struct store_request *request;
	struct flush *next;
	uint64_t began_ns;
};

struct writes {
	struct piece pieces[PIECE_COUNT];
	struct piece *free, *ready, **ready_tail; /* ready: has all but room in the log */
	struct flush flushes[FLUSH_COUNT], *free_flush;
	struct store_request *flush_head, **flush_tail; /* wait for a struct flush */
	struct write_queue {
		struct store_request *head, **tail;
	} queues[2]; /* wait to be admitted: what is small, and what comes in bulk */
	struct wait put_wait, pace_wait;
	bool put_waiting, pace_waiting, kicking, again;
	uint32_t under_way, lock_total;
	uint8_t locks[LOCK_COUNT]; /* by volume and chunk; a false conflict only waits */
};

static inline uint8_t *lock_of(struct writes *writes, const struct volume *volume,
			       uint64_t chunk_no)
{
	uint64_t hash = (chunk_no + volume->number * 0x9e3779b9ull) % LOCK_COUNT;
	return &writes->locks[hash];
}

/* Gives it to the log, in the order of readiness. False: the log has no room. */
bool piece_append(struct piece *piece);
/* What a long piece waited for is there: of its put, its read, its barrier. */
void piece_stored(struct put *put, int res);
void part_read(struct chunk_read *read, int res);
void part_barrier(struct log_entry *entry, int res);
/* The request's last piece was given to the log, or failed: who asked for it hears of that once. */
void request_look_logged(struct store_request *request);

#endif
