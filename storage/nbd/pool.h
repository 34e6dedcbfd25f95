/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the data path, recycled: requests, their data, big receive buffers. Data comes in
 * powers of two from 4 KiB to 32 MiB, aligned to 4 KiB. What is returned is kept for the next one,
 * up to POOL_KEEP_BYTES of pieces to 64 KiB and as much of larger ones, so that requests cost no
 * allocation once the pool is warm. How much may be out at a time is the callers' business
 * (conn.h).
 */
#ifndef STORAGE_NBD_POOL_H
#define STORAGE_NBD_POOL_H

#include "proto/units.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POOL_CLASSES 14u /* 4 KiB << 13 is 32 MiB */
#define POOL_KEEP_BYTES (32 * MIB)
#define POOL_BIG_MAX 128u /* big receive buffers out at a time */
#define POOL_REQUESTS_KEEP 4096u

struct conn_request;
struct pool_piece { /* lies in what is free */
	struct pool_piece *next;
};

struct pool {
	struct pool_piece *data[POOL_CLASSES];
	uint64_t kept_bytes[2]; /* of small pieces, of large ones */
	struct pool_piece *big;
	unsigned big_out;
	struct pool_piece *requests;
	unsigned requests_kept;
};

/* The room that a request for `bytes` (1 byte to 32 MiB) gets. */
uint32_t pool_data_room(uint32_t bytes);
/* NULL: no memory. `room` is from pool_data_room. */
void *pool_data(struct pool *pool, uint32_t room);
void pool_data_free(struct pool *pool, void *at, uint32_t room);
/* `bytes` long each; NULL also when POOL_BIG_MAX are out: the caller goes on with what it has. */
void *pool_big(struct pool *pool, size_t bytes);
void pool_big_free(struct pool *pool, void *at);
/* Not zeroed. */
void *pool_request(struct pool *pool, size_t bytes);
void pool_request_free(struct pool *pool, void *request);
void pool_done(struct pool *pool);

#endif
