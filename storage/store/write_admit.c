/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: when the next piece of a write may begin, and how it does.
 *
 * The queue is first in, first out: a piece that cannot be admitted (room in the log, entries for
 * layers, space to fold, a chunk that is being worked on) holds back what is behind it, and goes on
 * when something ended. That is the back-pressure; nothing fails for want of memory later. What
 * comes in bulk has a queue of its own.
 *
 * Keeps true:
 *  - a chunk on which a long piece works (a put, a read-modify-write) is locked meanwhile, so
 * nothing overtakes it unseen;
 *  - what is admitted can be folded: space for it is reserved, and ENOSPC comes before an answer.
 */
#include "storage/store/write_int.h"

#include "storage/store/behind.h"
#include "storage/store/epoch.h"
#include "storage/store/mutant.h"
#include "storage/store/pace.h"
#include "storage/store/replica.h"
#include "storage/store/segments.h"

#include <stdlib.h>

#define LOG_PIECE_BLOCKS 64u
/* What a dirty chunk may need in segments when it is folded: itself, and a leaf of its own. */
#define FOLD_DATA_BYTES (CHUNK_BYTES + 1024)
#define FOLD_NODE_BYTES (NODE_BYTES + 1024)
#define ZERO_ENTRIES 66u /* what one LOG_ZERO may need of the layer pool */

enum admitted { ADMITTED, BLOCKED };

/* ---- what it takes ---- */

/* Space to fold all that is dirty, and this: a chunk's data where the log has blocks of it, and a
 * share of its map's nodes. -ENOSPC when nothing gives more back: no fold, no segment that is being
 * made or sealed, no collection. */
static int space_admit(struct store *store, uint32_t entries)
{
	const struct layer_pool *pool = store->layer_pool;
	uint64_t dirty = pool->entry_count - pool->free_count;
	uint64_t coming = store->reserved_entries + entries;
	uint64_t need = (min_u64(dirty, pool->log_blocks) + coming) * FOLD_DATA_BYTES +
			(dirty + coming) * FOLD_NODE_BYTES;
	if (need <= segments_room_bytes(store) || MUTANT(17))
		return ADMITTED;
	if (dirty == 0 || fold_full(store))
		return store->reserved_entries || !segments_idle(store) || gc_may_help(store)
			       ? BLOCKED
			       : -ENOSPC;
	store->fold_all = true; /* what is reserved is more than what it will take */
	fold_kick(store);
	return BLOCKED;
}

/* Zeros need next to no space, and give some back: a full store takes them. */
static int entries_admit(struct store *store, struct piece *piece, uint32_t blocks,
			 uint32_t entries, bool data)
{
	if (store->reserved_entries + entries > store->layer_pool->free_count) {
		store->fold_all = true;
		fold_kick(store);
		return BLOCKED;
	}
	int res = data ? space_admit(store, entries) : ADMITTED;
	if (res != ADMITTED)
		return res;
	if (!pace_admit(store, blocks, entries)) {
		fold_kick(store);
		return BLOCKED;
	}
	piece->entries_reserved = entries;
	return ADMITTED;
}

static int quota_admit(struct store *store, struct volume *volume)
{
	if (volume->quota_bytes == 0)
		return ADMITTED;
	uint64_t dirty = volume_dirty_chunks(volume);
	if ((volume->mapped_chunks + dirty + 1) * CHUNK_BYTES <= volume->quota_bytes)
		return ADMITTED;
	if (dirty == 0)
		return -VS_EQUOTA;
	volume->fold_wanted = true; /* then it is known what is new */
	fold_kick(store);
	return BLOCKED;
}

/* ---- one piece of each kind ---- */

static bool range_locked(struct writes *writes, const struct volume *volume, uint64_t block_no,
			 uint64_t block_count)
{
	uint64_t first = block_no / CHUNK_BLOCKS;
	uint64_t last = (block_no + block_count - 1) / CHUNK_BLOCKS;
	if (writes->lock_total == 0)
		return false;
	if (last - first >= LOCK_COUNT)
		return true;
	for (uint64_t chunk_no = first; chunk_no <= last; chunk_no++)
		if (*lock_of(writes, volume, chunk_no))
			return true;
	return false;
}

static void piece_lock(struct piece *piece, uint64_t chunk_no)
{
	struct writes *writes = piece->store->writes;
	piece->chunk_no = chunk_no;
	if (MUTANT(42))
		return;
	*lock_of(writes, piece->request->view->volume, chunk_no) = 1;
	writes->lock_total++;
	piece->locked = true;
}

static void piece_taken(struct piece *piece, uint64_t bytes)
{
	struct store *store = piece->store;
	struct writes *writes = store->writes;
	writes->free = piece->next;
	writes->under_way++;
	store->reserved_entries += piece->entries_reserved;
	piece->request->pending++;
	piece->request->unlogged++;
	piece->unlogged = true;
	piece->request->progress_bytes += bytes;
}

static int admit_blocks(struct piece *piece, uint64_t block_no, uint32_t blocks)
{
	struct store *store = piece->store;
	struct volume *volume = piece->request->view->volume;
	if (range_locked(store->writes, volume, block_no, blocks) || store->writes->ready ||
	    !log_room(store->log, WRITE_RECORD_BYTES, blocks, false))
		return BLOCKED;
	int res = entries_admit(store, piece, blocks, blocks / CHUNK_BLOCKS + 2, true);
	if (res != ADMITTED)
		return res;
	piece->block_count = blocks;
	piece->record_bytes = record_write(volume, block_no, blocks, piece->record);
	piece_taken(piece, blocks * (uint64_t)BLOCK_BYTES);
	if (!piece_append(piece))
		assert(!"log_room said yes");
	return ADMITTED;
}

static int admit_zeros(struct piece *piece, uint64_t block_no, uint64_t blocks)
{
	struct store *store = piece->store;
	struct volume *volume = piece->request->view->volume;
	struct layer *active = volume_active(volume);
	if (range_locked(store->writes, volume, block_no, blocks) || store->writes->ready ||
	    !log_room(store->log, ZERO_RECORD_BYTES, 0, false))
		return BLOCKED;
	if (active->range_count + 2 * volume->zeros_pending + 2 > LAYER_RANGES_MAX) {
		volume->fold_wanted = true;
		fold_kick(store);
		return BLOCKED;
	}
	int res = entries_admit(store, piece, 0, ZERO_ENTRIES, false);
	if (res != ADMITTED)
		return res;
	piece->zero = true;
	volume->zeros_pending++;
	piece->block_count = 0;
	piece->record_bytes = record_zero(volume, block_no, blocks, piece->record);
	piece_taken(piece, blocks * BLOCK_BYTES);
	if (!piece_append(piece))
		assert(!"log_room said yes");
	return ADMITTED;
}

static int admit_chunk(struct piece *piece, uint64_t chunk_no)
{
	struct store *store = piece->store;
	struct writes *writes = store->writes;
	struct volume *volume = piece->request->view->volume;
	if (*lock_of(writes, volume, chunk_no) || writes->put_waiting || writes->pace_waiting)
		return BLOCKED;
	int res = entries_admit(store, piece, 0, 2, true);
	if (res != ADMITTED)
		return res;
	writes->pace_waiting = !pace_ready(store, &writes->pace_wait);
	if (writes->pace_waiting)
		return BLOCKED;
	struct put *put = put_new(store, false, &writes->put_wait);
	if (!put) {
		writes->put_waiting = true;
		return BLOCKED;
	}
	piece_lock(piece, chunk_no);
	piece->block_count = 0;
	piece->put = put;
	put->done = piece_stored;
	put->owner = piece;
	put->raw = piece->payload;
	put->domain = volume->domain;
	put->level = volume->level;
	put->frame_bytes = volume->frame_bytes;
	piece_taken(piece, CHUNK_BYTES);
	if (piece->request->kind == REQUEST_COPY)
		put_start_foreign(put, piece->request->data);
	else
		put_start(put);
	return ADMITTED;
}

static int admit_part(struct piece *piece, uint64_t block_no, uint32_t skip, uint32_t bytes)
{
	struct store *store = piece->store;
	struct writes *writes = store->writes;
	struct volume *volume = piece->request->view->volume;
	if (*lock_of(writes, volume, block_no / CHUNK_BLOCKS) || writes->ready ||
	    !log_room(store->log, 8, 0, false))
		return BLOCKED;
	if (!piece->block &&
	    posix_memalign((void **)&piece->block, BLOCK_BYTES, BLOCK_BYTES) != 0) {
		piece->block = NULL;
		return -ENOMEM;
	}
	int res = entries_admit(store, piece, 1, 2, true);
	if (res != ADMITTED)
		return res;
	piece_lock(piece, block_no / CHUNK_BLOCKS);
	piece->skip_bytes = skip;
	piece->bytes = bytes;
	piece->read = (struct chunk_read){.done = part_read,
					  .volume = volume,
					  .chunk_no = block_no / CHUNK_BLOCKS,
					  .block_first = (unsigned)(block_no % CHUNK_BLOCKS),
					  .block_count = 1,
					  .raw = piece->block};
	piece_taken(piece, bytes);
	/* Writes to this block that are on their way must have taken effect before it is read. */
	uint8_t record[8];
	uint32_t record_bytes = record_number(LOG_BARRIER, 0, record);
	piece->entry.leaving = NULL;
	piece->entry.done = part_barrier;
	log_append(store->log, &piece->entry, record, record_bytes, NULL, 0, false);
	return ADMITTED;
}

/* The next piece of the request: ADMITTED, BLOCKED, or a negative code. */
static int piece_admit(struct store *store, struct store_request *request)
{
	struct piece *piece = store->writes->free;
	uint64_t offset = request->offset_bytes + request->progress_bytes;
	uint64_t left = request->length_bytes - request->progress_bytes;
	uint32_t skip = (uint32_t)(offset % BLOCK_BYTES);
	bool data = request->kind == REQUEST_WRITE || request->kind == REQUEST_COPY;
	if (store->failed)
		return -VS_EFAILSTOP;
	int fenced = lease_admit(request->view);
	if (fenced < 0)
		return fenced;
	if (!piece || !epoch_ready(store, request->view->volume))
		return BLOCKED;
	piece->request = request;
	piece->put = NULL;
	piece->zero = false;
	piece->entries_reserved = 0;
	piece->record[0] = 0;
	piece->payload = data ? (const uint8_t *)request->data + request->progress_bytes : NULL;
	if (data) {
		int res = quota_admit(store, request->view->volume);
		if (res != ADMITTED)
			return res;
	}
	if (request->kind == REQUEST_COPY)
		return admit_chunk(piece, offset / CHUNK_BYTES);
	if (skip || left < BLOCK_BYTES)
		return admit_part(piece, offset / BLOCK_BYTES, skip,
				  (uint32_t)min_u64(BLOCK_BYTES - skip, left));
	uint64_t blocks = left / BLOCK_BYTES;
	if (!data)
		return admit_zeros(piece, offset / BLOCK_BYTES, blocks);
	bool long_way = !(request->flags & REQUEST_FUA);
	if (long_way && offset % CHUNK_BYTES == 0 && left >= CHUNK_BYTES)
		return admit_chunk(piece, offset / CHUNK_BYTES);
	if (long_way)
		blocks = min_u64(blocks, CHUNK_BLOCKS - offset / BLOCK_BYTES % CHUNK_BLOCKS);
	return admit_blocks(piece, offset / BLOCK_BYTES,
			    (uint32_t)min_u64(blocks, LOG_PIECE_BLOCKS));
}

/* ---- the queues ---- */

static void queue_pop(struct write_queue *queue)
{
	queue->head = queue->head->next;
	if (!queue->head)
		queue->tail = &queue->head;
}

/* phase is 1 while a request is in the queue: its pieces do not end it. */
static bool head_go_on(struct store *store, struct write_queue *queue)
{
	struct store_request *request = queue->head;
	while (request->progress_bytes < request->length_bytes && request->status == 0) {
		int res = piece_admit(store, request);
		if (res == BLOCKED)
			return false;
		if (res < 0)
			request->status = res;
	}
	queue_pop(queue);
	request->phase = 0;
	request_look_logged(request);
	if (request->pending == 0)
		request_end(request, request->status);
	return true;
}

void write_kick(struct store *store)
{
	struct writes *writes = store->writes;
	if (writes->kicking) {
		writes->again = true;
		return;
	}
	writes->kicking = true;
	do {
		writes->again = false;
		while (writes->ready) {
			struct piece *next = writes->ready->next; /* it may end, and be free */
			if (!piece_append(writes->ready))
				break;
			writes->ready = next;
			if (!next)
				writes->ready_tail = &writes->ready;
		}
		for (unsigned i = 0; i < 2; i++)
			while (writes->queues[i].head && head_go_on(store, &writes->queues[i]))
				;
	} while (writes->again);
	writes->kicking = false;
}
