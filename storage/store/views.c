/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Views, and guests' requests on their way in and out: what a request may not be is refused here,
 * and none ends inside the call that submitted it.
 */
#include "storage/store/requests.h"

#include "storage/store/store_int.h"

#include <stdlib.h>

int store_view_open(struct store *store, const char *name, struct view **ret_view)
{
	return store_view_open_leased(store, name, 0, ret_view);
}

int view_new(struct store *store, struct volume *volume, struct snapshot *snapshot,
	     uint64_t generation, struct view **ret_view)
{
	if (volume->busy || (snapshot && snapshot->busy) || store->closing)
		return -EBUSY;
	if (!snapshot && volume_superseded(store, volume))
		return -VS_EFENCED;
	const struct volume_lease *lease = &volume->lease;
	bool leased = lease->holder_name[0] != 0;
	if (generation && !snapshot && (!leased || generation != lease->generation))
		return -VS_EFENCED;
	struct view *view = calloc(1, sizeof(*view));
	if (!view)
		return -ENOMEM;
	*view = (struct view){.store = store,
			      .volume = volume,
			      .snapshot = snapshot,
			      .generation = generation,
			      .left_primaries = volume->left_primaries,
			      .read_only = snapshot || volume->replica || store->read_only ||
					   (leased && !generation)};
	volume->views++;
	volume->writers += !view->read_only;
	if (snapshot)
		snapshot->views++;
	*ret_view = view;
	return 0;
}

int store_view_open_leased(struct store *store, const char *name, uint64_t generation,
			   struct view **ret_view)
{
	struct snapshot *snapshot = NULL;
	struct volume *volume = volume_by_name(store, name);
	if (!volume) {
		snapshot = snapshot_by_name(store, name);
		volume = snapshot ? volume_by_number(store, snapshot->volume) : NULL;
	}
	if (!volume)
		return -ENOENT;
	return view_new(store, volume, snapshot, generation, ret_view);
}

void store_view_close(struct view *view)
{
	if (!view)
		return;
	view->volume->views--;
	view->volume->writers -= !view->read_only;
	if (view->snapshot)
		view->snapshot->views--;
	free(view);
}

uint64_t store_view_bytes(const struct view *view)
{
	return view->snapshot ? view->snapshot->size_bytes : view->volume->size_bytes;
}

const uint8_t *store_view_uuid(const struct view *view)
{
	return view->volume->uuid;
}

bool store_view_read_only(const struct view *view)
{
	return view->read_only || view->volume->replica || view->store->read_only;
}

/* Never inside the call that submitted it. */
void request_end(struct store_request *request, int res)
{
	struct store *store = request->view->store;
	store->requests--;
	env_complete(store->env, &request->op, res);
}

void store_submit(struct store_request *request)
{
	struct store *store = request->view->store;
	struct store_counters *counters = &store->counters;
	uint64_t size = store_view_bytes(request->view);
	store->requests++;
	request->status = 0;
	request->pending = request->unlogged = 0;
	request->logged = NULL;
	request->phase = 0;
	request->progress_bytes = 0;
	if (request->kind != REQUEST_FLUSH &&
	    (request->offset_bytes > size ||
	     request->length_bytes > size - request->offset_bytes)) {
		request_end(request, request->kind == REQUEST_WRITE ? -ENOSPC : -EINVAL);
		return;
	}
	bool change = request->kind == REQUEST_WRITE || request->kind == REQUEST_TRIM ||
		      request->kind == REQUEST_ZERO;
	if (change && store_view_read_only(request->view)) {
		request_end(request, -EROFS);
		return;
	}
	if (request->length_bytes == 0 && request->kind != REQUEST_FLUSH) {
		request_end(request, request->kind == REQUEST_STATUS ? -EINVAL : 0);
		return;
	}
	switch (request->kind) {
	case REQUEST_READ:
	case REQUEST_CACHE:
		counters->reads++;
		counters->read_bytes += request->length_bytes;
		if (request->kind == REQUEST_CACHE)
			request->data = NULL;
		read_submit(request);
		return;
	case REQUEST_WRITE:
		counters->writes++;
		counters->write_bytes += request->length_bytes;
		write_submit(request);
		return;
	case REQUEST_TRIM:
	case REQUEST_ZERO:
		counters->trims++;
		write_submit(request);
		return;
	case REQUEST_FLUSH:
		counters->flushes++;
		if (store->read_only)
			request_end(request, 0);
		else
			write_submit(request);
		return;
	case REQUEST_STATUS:
		status_submit(request);
		return;
	case REQUEST_COPY: /* nobody outside has a record to give */
		break;
	}
	request_end(request, -EINVAL);
}
