/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads: for each chunk the layers from the newest down, then the map; each block comes from the
 * log's ring, from the decoded-block cache, from its segment, or is zero.
 *
 * Keeps true:
 *  - what a chunk's blocks are is decided in one go, without returning to the loop, so a read never
 * mixes two states of a chunk; if a map node is missing, the decision is made anew when it is
 * there;
 *  - a block of the log's ring is handed out only when its bytes are those that were logged there;
 *  - a layer whose ring blocks are being read is in use until the read is done: the log does not
 * recycle them;
 *  - a request holds a bounded number of pieces; the rest of it waits.
 */
#include "storage/store/requests.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/cache.h"
#include "storage/store/fetch.h"
#include "storage/store/map.h"
#include "storage/store/mutant.h"
#include "storage/store/prefetch.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define PIECES_PER_REQUEST 32u
#define READ_PIECES 512u

struct read_piece {
	struct chunk_read read;
	struct store_request *request;
	struct read_piece *next;
	uint8_t *bounce; /* for what is not aligned to blocks */
	uint32_t skip_bytes, bytes;
	uint8_t *to; /* where a bounced piece goes */
};

struct reads {
	struct read_piece *free;
	unsigned busy; /* pieces under way */
	struct read_piece pieces[READ_PIECES];
	struct store_request *head, **tail; /* have no piece, and wait for one */
};

/* ---- blocks of one chunk ---- */

static void chunk_read_end(struct chunk_read *read)
{
	if (read->layer)
		layer_unuse(read->store, read->layer);
	read->layer = NULL;
	if (--read->store->readers[read->turn] == 0 && read->turn != read->store->read_turn)
		work_kick(read->store);
	read->done(read, read->res);
}

static void chunk_read_finish(struct io_op *op)
{
	chunk_read_end(container_of(op, struct chunk_read, op));
}

/* One block after the other from the log: a run of neighbours is one read. */
static void log_read_done(struct io_op *op);

static bool log_read_next(struct chunk_read *read)
{
	unsigned at = read->block_at, end = read->block_first + read->block_count;
	while (at < end && !(read->log_mask & 1u << at))
		at++;
	if (at == end)
		return false;
	unsigned run = 1;
	while (!read->one_by_one && at + run < end && read->log_mask & 1u << (at + run) &&
	       read->log_block[at + run] == read->log_block[at] + run)
		run++;
	read->block_at = at;
	read->run_blocks = run;
	read->op.done = log_read_done;
	env_file_read(read->store->log_file, &read->op,
		      read->raw + (size_t)(at - read->block_first) * BLOCK_BYTES, run * BLOCK_BYTES,
		      (uint64_t)read->log_block[at] * BLOCK_BYTES);
	return true;
}

/* The run that was read is what was logged, or -VS_ECHECKSUM. */
static int log_run_check(const struct chunk_read *read)
{
	struct store *store = read->store;
	for (unsigned at = read->block_at; at < read->block_at + read->run_blocks; at++) {
		const uint8_t *block = read->raw + (size_t)(at - read->block_first) * BLOCK_BYTES;
		if (log_block_crc(read->log_block[at], block) == read->log_crc[at] || MUTANT(25))
			continue;
		store->counters.checksum_errors++;
		log_event(LOG_LEVEL_ERROR, "log.block_bad",
			  "volume=%s offset=%llu log_block=%u effect=\"reads of it fail\" "
			  "hint=\"write it anew, or roll back to a snapshot\"",
			  read->volume->name,
			  (unsigned long long)(read->chunk_no * CHUNK_BYTES + at * BLOCK_BYTES),
			  read->log_block[at]);
		return -VS_ECHECKSUM;
	}
	return 0;
}

static void log_read_done(struct io_op *op)
{
	struct chunk_read *read = container_of(op, struct chunk_read, op);
	if (op->res < (int64_t)read->run_blocks * BLOCK_BYTES) {
		read->store->counters.io_errors++;
		read->res = op->res < 0 ? (int)op->res : -EIO;
	} else {
		read->res = log_run_check(read);
	}
	if (read->log_only && read->res < 0 && read->run_blocks > 1) {
		read->one_by_one = true; /* from the same block on */
		read->res = 0;
	} else {
		if (read->log_only && read->res < 0) {
			read->failed_mask |= (uint16_t)(1u << read->block_at);
			read->failed_res = read->res;
			read->res = 0;
		}
		read->block_at += read->run_blocks;
	}
	if (read->res < 0 || !log_read_next(read))
		chunk_read_end(read);
}

/* The base is in place, if there is one: what is zero or in the log goes over it. */
static void log_read_start(struct chunk_read *read)
{
	read->block_at = read->block_first;
	for (unsigned b = read->block_first; b < read->block_first + read->block_count; b++)
		if (read->zero_mask & 1u << b)
			memset(read->raw + (size_t)(b - read->block_first) * BLOCK_BYTES, 0,
			       BLOCK_BYTES);
	if (!read->log_mask || read->res < 0 || !log_read_next(read)) {
		read->op.done = chunk_read_finish;
		env_complete(read->store->env, &read->op, 0);
	}
}

static void base_fetched(struct fetch *fetch, int res)
{
	struct chunk_read *read = fetch->owner;
	fetch_free(fetch);
	if (res < 0)
		read->res = res;
	log_read_start(read);
}

/* What is under a chunk's blocks, newest layer first: fills log_block, log_mask, zero_mask; what is
 * left comes from *ret_base. 0, WAITING or negative. */
static int chunk_resolve(struct chunk_read *read, struct wait *wait, struct id *ret_base)
{
	struct store *store = read->store;
	uint32_t count = view_layer_count(read->volume, MUTANT(10) ? NULL : read->snapshot);
	uint16_t want = (uint16_t)(((1u << read->block_count) - 1) << read->block_first);
	read->log_mask = read->zero_mask = read->base_mask = 0;
	struct layer *oldest = NULL;
	memset(ret_base, 0, sizeof *ret_base);
	for (uint32_t k = count; k-- > 0 && want;) {
		uint32_t i = MUTANT(27) ? count - 1 - k : k;
		struct dirty_chunk room;
		const struct dirty_chunk *dirty =
			layer_find(read->volume->layers[i], read->chunk_no, &room);
		if (!dirty)
			continue;
		uint16_t have = dirty->mask & want;
		for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
			if (!(have & 1u << b))
				continue;
			if (dirty->log_block[b] == LOG_BLOCK_ZERO) {
				read->zero_mask |= (uint16_t)(1u << b);
				continue;
			}
			read->log_block[b] = dirty->log_block[b];
			read->log_crc[b] = dirty->log_crc[b];
			read->log_mask |= (uint16_t)(1u << b);
			oldest = read->volume->layers[i];
		}
		want &= (uint16_t)~have;
		if (!want || dirty->base == BASE_INHERIT)
			continue;
		if (dirty->base == BASE_ID)
			*ret_base = dirty->id;
		else
			read->zero_mask |= want;
		if (dirty->base == BASE_ZERO)
			want = 0;
		goto resolved;
	}
	if (want) {
		int res = map_lookup(store, view_top(read->volume, read->snapshot), read->chunk_no,
				     wait, ret_base, NULL);
		if (res == WAITING || (res < 0 && !read->log_only))
			return res;
		read->base_res = res;
	}
resolved:
	if (want && id_is_null(ret_base) && read->base_res == 0)
		read->zero_mask |= want;
	else
		read->base_mask = want;
	/* Layers are dropped oldest first, so holding the oldest one holds the tail for all. */
	if (oldest) {
		layer_use(oldest);
		read->layer = oldest;
	}
	return 0;
}

int chunk_base(struct store *store, struct volume *volume, struct snapshot *snapshot,
	       uint64_t chunk_no, struct wait *wait, struct id *ret_base, uint16_t *ret_mask)
{
	struct chunk_read read = {.store = store,
				  .volume = volume,
				  .snapshot = snapshot,
				  .chunk_no = chunk_no,
				  .block_count = CHUNK_BLOCKS};
	int res = chunk_resolve(&read, wait, ret_base);
	if (read.layer)
		layer_unuse(store, read.layer);
	*ret_mask = read.base_mask;
	return res;
}

/* Takes what the cache has; returns what it has not. */
static uint16_t base_from_cache(struct chunk_read *read, const struct id *base)
{
	uint16_t missing = 0;
	for (unsigned b = 0; b < CHUNK_BLOCKS; b++) {
		if (!(read->base_mask & 1u << b))
			continue;
		const void *block = cache_get(read->store->cache, base, b);
		if (block)
			memcpy(read->raw + (size_t)(b - read->block_first) * BLOCK_BYTES, block,
			       BLOCK_BYTES);
		else
			missing |= (uint16_t)(1u << b);
	}
	return missing;
}

static void chunk_read_look(struct wait *wait)
{
	struct chunk_read *read = container_of(wait, struct chunk_read, wait);
	struct store *store = read->store;
	struct id base;
	struct fetch *fetch = NULL;
	int res = chunk_resolve(read, &read->wait, &base);
	if (res == WAITING)
		return;
	if (res < 0) {
		read->res = res;
		log_read_start(read);
		return;
	}
	read->base = base;
	if (read->log_only) {
		log_read_start(read);
		return;
	}
	uint16_t missing = read->base_mask ? base_from_cache(read, &base) : 0;
	if (missing && !prefetch_wait(store, &base, &read->wait))
		fetch = fetch_new(store, read->background, &read->wait);
	if (missing && !fetch) { /* woken, it looks again, from the start */
		if (read->layer)
			layer_unuse(store, read->layer);
		read->layer = NULL;
		return;
	}
	if (!missing) {
		store->counters.cache_hits += read->base_mask != 0;
		log_read_start(read);
		return;
	}
	store->counters.cache_misses++;
	/* One fetch covers all that is missing, and what lies between. */
	unsigned first = (unsigned)__builtin_ctz(missing);
	unsigned last = 31 - (unsigned)__builtin_clz(missing);
	fetch->done = base_fetched;
	fetch->owner = read;
	fetch->id = base;
	fetch->block_first = first;
	fetch->block_count = last - first + 1;
	fetch->raw = read->raw + (size_t)(first - read->block_first) * BLOCK_BYTES;
	fetch->no_cache = read->no_cache;
	fetch_start(fetch);
}

void chunk_read_start(struct store *store, struct chunk_read *read)
{
	read->store = store;
	read->layer = NULL;
	read->res = 0;
	read->turn = store->read_turn;
	store->readers[read->turn]++;
	read->wait.wake = chunk_read_look;
	chunk_read_look(&read->wait);
}

/* ---- a guest's read ---- */

int read_init(struct store *store)
{
	struct reads *reads = calloc(1, sizeof(*reads));
	if (!reads)
		return -ENOMEM;
	store->reads = reads;
	reads->tail = &reads->head;
	for (unsigned i = 0; i < READ_PIECES; i++) {
		reads->pieces[i].next = reads->free;
		reads->free = &reads->pieces[i];
	}
	return 0;
}

void read_exit(struct store *store)
{
	if (!store->reads)
		return;
	for (unsigned i = 0; i < READ_PIECES; i++)
		free(store->reads->pieces[i].bounce);
	free(store->reads);
	store->reads = NULL;
}

uint64_t read_memory_bytes(void)
{
	return sizeof(struct reads) + READ_PIECES * (uint64_t)CHUNK_BYTES;
}

static void piece_done(struct chunk_read *read, int res);

/* The next piece of a request: a chunk, or what it wants of one. */
static int piece_start(struct store *store, struct store_request *request, struct read_piece *piece)
{
	uint64_t offset = request->offset_bytes + request->progress_bytes;
	uint32_t in_chunk = (uint32_t)(offset % CHUNK_BYTES);
	uint32_t bytes = (uint32_t)min_u64(CHUNK_BYTES - in_chunk,
					   request->length_bytes - request->progress_bytes);
	uint32_t first = in_chunk / BLOCK_BYTES;
	uint32_t end = (in_chunk + bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
	uint8_t *to = request->data ? (uint8_t *)request->data + request->progress_bytes : NULL;
	bool direct = to && (uintptr_t)to % BLOCK_BYTES == 0 && in_chunk % BLOCK_BYTES == 0 &&
		      bytes % BLOCK_BYTES == 0;
	if (!direct && !piece->bounce &&
	    posix_memalign((void **)&piece->bounce, BLOCK_BYTES, CHUNK_BYTES) != 0) {
		piece->bounce = NULL;
		return -ENOMEM;
	}
	store->reads->free = piece->next;
	store->reads->busy++;
	piece->request = request;
	piece->skip_bytes = in_chunk % BLOCK_BYTES;
	piece->bytes = bytes;
	piece->to = direct ? NULL : to;
	piece->read = (struct chunk_read){
		.done = piece_done,
		.volume = request->view->volume,
		.snapshot = request->view->snapshot,
		.chunk_no = offset / CHUNK_BYTES,
		.block_first = first,
		.block_count = end - first,
		.no_cache = bytes == CHUNK_BYTES && request->kind == REQUEST_READ,
		.raw = direct ? to : piece->bounce,
	};
	request->progress_bytes += bytes;
	request->pending++;
	chunk_read_start(store, &piece->read);
	return 0;
}

/* Starts pieces of a request while it may have more; it goes on when one of them ends, or, when it
 * has none, when another request's piece becomes free. */
static void read_go_on(struct store *store, struct store_request *request)
{
	struct reads *reads = store->reads;
	while (request->progress_bytes < request->length_bytes && request->status == 0) {
		if (request->pending >= PIECES_PER_REQUEST)
			return;
		if (!reads->free && request->pending > 0)
			return;
		if (!reads->free) {
			request->next = NULL;
			*reads->tail = request;
			reads->tail = &request->next;
			return;
		}
		int res = piece_start(store, request, reads->free);
		if (res < 0)
			request->status = res;
	}
	if (request->pending == 0)
		request_end(request, request->status);
}

static void piece_done(struct chunk_read *read, int res)
{
	struct read_piece *piece = container_of(read, struct read_piece, read);
	struct store_request *request = piece->request;
	struct store *store = read->store;
	struct reads *reads = store->reads;
	if (res == 0 && piece->to)
		memcpy(piece->to, piece->bounce + piece->skip_bytes, piece->bytes);
	piece->next = reads->free;
	reads->free = piece;
	reads->busy--;
	if (res < 0 && request->status == 0)
		request->status = res;
	request->pending--;
	read_go_on(store, request);
	while (reads->free && reads->head) {
		request = reads->head;
		reads->head = request->next;
		if (!reads->head)
			reads->tail = &reads->head;
		read_go_on(store, request);
	}
}

/* Most reads of a guest are small, and what they want is in memory: no piece, no second turn of the
 * loop. */
static bool read_at_once(struct store *store, struct store_request *request)
{
	uint64_t offset = request->offset_bytes, bytes = request->length_bytes;
	struct chunk_read read = {.store = store,
				  .volume = request->view->volume,
				  .snapshot = request->view->snapshot,
				  .chunk_no = offset / CHUNK_BYTES,
				  .block_first = (unsigned)(offset % CHUNK_BYTES / BLOCK_BYTES),
				  .block_count = (unsigned)(bytes / BLOCK_BYTES),
				  .raw = request->data};
	struct id base;
	if (!request->data || offset % BLOCK_BYTES || bytes % BLOCK_BYTES ||
	    offset % CHUNK_BYTES + bytes > CHUNK_BYTES)
		return false;
	if (chunk_resolve(&read, NULL, &base) != 0)
		return false;
	if (read.layer)
		layer_unuse(store, read.layer);
	if (read.log_mask || (read.base_mask && base_from_cache(&read, &base)))
		return false;
	for (unsigned b = read.block_first; read.zero_mask >> b; b++)
		if (read.zero_mask & 1u << b)
			memset(read.raw + (size_t)(b - read.block_first) * BLOCK_BYTES, 0,
			       BLOCK_BYTES);
	store->counters.cache_hits += read.base_mask != 0;
	request_end(request, 0);
	return true;
}

void read_submit(struct store_request *request)
{
	struct store *store = request->view->store;
	if (!read_at_once(store, request))
		read_go_on(store, request);
	if (request->kind == REQUEST_READ)
		prefetch_note(request, store->reads->busy);
}
