/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ranges of a volume or snapshot have data. Answers from layers and map, reads no data; a
 * long range is answered in part (the caller asks for the rest).
 */
#include "storage/store/requests.h"

#include "storage/store/map.h"
#include "storage/store/objects.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNKS_MAX 65536u /* looked at for one answer */

struct status {
	struct store_request *request;
	struct wait wait;
	struct io_op op;
	uint64_t at; /* bytes; where to look next */
	uint32_t looked;
};

/* Blocks of a chunk that have data, and for how many chunks from here on that is the same answer.
 */
static int chunk_data(struct status *status, uint64_t chunk_no, uint16_t *ret_mask,
		      uint64_t *ret_span)
{
	const struct view *view = status->request->view;
	uint32_t count = view_layer_count(view->volume, view->snapshot);
	uint16_t data = 0, open = UINT16_MAX;
	bool clean = true;
	*ret_span = 1;
	for (uint32_t i = count; i-- > 0 && open;) {
		struct layer *layer = view->volume->layers[i];
		struct dirty_chunk room;
		clean = clean && layer->entry_count == 0 && layer->range_count == 0;
		const struct dirty_chunk *dirty = layer_find(layer, chunk_no, &room);
		if (!dirty)
			continue;
		for (unsigned b = 0; b < CHUNK_BLOCKS; b++)
			if (open & dirty->mask & 1u << b && dirty->log_block[b] != LOG_BLOCK_ZERO)
				data |= (uint16_t)(1u << b);
		open &= (uint16_t)~dirty->mask;
		if (dirty->base == BASE_ID)
			data |= open;
		if (dirty->base != BASE_INHERIT)
			open = 0;
	}
	if (open) {
		struct id id;
		uint64_t span = 1;
		int res = map_lookup(view->store, view_top(view->volume, view->snapshot), chunk_no,
				     &status->wait, &id, &span);
		if (res)
			return res;
		if (!id_is_null(&id))
			data |= open;
		else if (clean)
			*ret_span = span;
	}
	*ret_mask = data;
	return 0;
}

/* False: there is no room for another extent. */
static bool extent_add(struct store_request *request, uint64_t bytes, bool hole)
{
	struct extent *last =
		request->extent_count ? &request->extents[request->extent_count - 1] : NULL;
	if (last && last->hole == hole) {
		last->length_bytes += bytes;
		return true;
	}
	if (request->extent_count == request->extent_count_max)
		return false;
	request->extents[request->extent_count++] =
		(struct extent){.length_bytes = bytes, .hole = hole};
	return true;
}

static void status_end(struct status *status, int res)
{
	struct store_request *request = status->request;
	free(status);
	request_end(request, res);
}

static void status_look(struct wait *wait)
{
	struct status *status = container_of(wait, struct status, wait);
	struct store_request *request = status->request;
	uint64_t end = request->offset_bytes + request->length_bytes;
	status->wait.wake = status_look;
	while (status->at < end && status->looked++ < CHUNKS_MAX) {
		uint16_t mask = 0;
		uint64_t span = 1, chunk_no = status->at / CHUNK_BYTES;
		int res = chunk_data(status, chunk_no, &mask, &span);
		if (res == WAITING)
			return;
		if (res < 0) {
			status_end(status, res);
			return;
		}
		if (mask == 0 || mask == UINT16_MAX) {
			uint64_t to = min_u64(end, (chunk_no + span) * CHUNK_BYTES);
			if (!extent_add(request, to - status->at, mask == 0))
				break;
			status->at = to;
			continue;
		}
		bool room = true;
		uint64_t to = min_u64(end, (chunk_no + 1) * CHUNK_BYTES);
		while (status->at < to && room) {
			unsigned block = (unsigned)(status->at % CHUNK_BYTES / BLOCK_BYTES);
			uint64_t next =
				min_u64(to, round_down(status->at, BLOCK_BYTES) + BLOCK_BYTES);
			room = extent_add(request, next - status->at, !(mask & 1u << block));
			if (room)
				status->at = next;
		}
		if (!room)
			break;
	}
	status_end(status, 0);
}

void status_submit(struct store_request *request)
{
	struct status *status = calloc(1, sizeof(*status));
	request->extent_count = 0;
	if (!status || request->extent_count_max == 0) {
		free(status);
		request_end(request, request->extent_count_max ? -ENOMEM : -EINVAL);
		return;
	}
	status->request = request;
	status->at = request->offset_bytes;
	status_look(&status->wait);
}
