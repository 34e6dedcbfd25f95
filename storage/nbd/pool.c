/* SPDX-License-Identifier: Apache-2.0 */
/* Free lists over malloc; see pool.h for the bounds that they keep. */
#include "storage/nbd/pool.h"

#include <assert.h>
#include <stdlib.h>

static void *piece_take(struct pool_piece **list)
{
	struct pool_piece *piece = *list;
	if (piece)
		*list = piece->next;
	return piece;
}

static void piece_give(struct pool_piece **list, void *at)
{
	struct pool_piece *piece = at;
	piece->next = *list;
	*list = piece;
}

static void pieces_free(struct pool_piece **list)
{
	void *piece;
	while ((piece = piece_take(list)))
		free(piece);
}

static unsigned pool_class(uint32_t bytes)
{
	unsigned class = 0;
	while ((BLOCK_BYTES << class) < bytes)
		class ++;
	assert(class < POOL_CLASSES);
	return class;
}

uint32_t pool_data_room(uint32_t bytes)
{
	return BLOCK_BYTES << pool_class(bytes);
}

static uint64_t *pool_kept(struct pool *pool, uint32_t room)
{
	return &pool->kept_bytes[room > 64 * KIB];
}

void *pool_data(struct pool *pool, uint32_t room)
{
	void *at = piece_take(&pool->data[pool_class(room)]);
	if (!at)
		return aligned_alloc(BLOCK_BYTES, room);
	*pool_kept(pool, room) -= room;
	return at;
}

void pool_data_free(struct pool *pool, void *at, uint32_t room)
{
	if (!at)
		return;
	uint64_t *kept = pool_kept(pool, room);
	if (*kept + room > POOL_KEEP_BYTES) {
		free(at);
		return;
	}
	*kept += room;
	piece_give(&pool->data[pool_class(room)], at);
}

void *pool_big(struct pool *pool, size_t bytes)
{
	if (pool->big_out == POOL_BIG_MAX)
		return NULL;
	void *at = piece_take(&pool->big);
	if (!at)
		at = malloc(bytes);
	if (at)
		pool->big_out++;
	return at;
}

void pool_big_free(struct pool *pool, void *at)
{
	pool->big_out--;
	piece_give(&pool->big, at);
}

void *pool_request(struct pool *pool, size_t bytes)
{
	void *at = piece_take(&pool->requests);
	if (!at)
		return malloc(bytes);
	pool->requests_kept--;
	return at;
}

void pool_request_free(struct pool *pool, void *request)
{
	if (pool->requests_kept == POOL_REQUESTS_KEEP) {
		free(request);
		return;
	}
	pool->requests_kept++;
	piece_give(&pool->requests, request);
}

void pool_done(struct pool *pool)
{
	for (unsigned i = 0; i < POOL_CLASSES; i++)
		pieces_free(&pool->data[i]);
	pieces_free(&pool->big);
	pieces_free(&pool->requests);
}
