/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fake_store.h"

#include "proto/err.h"
#include "storage/store/store_follow.h"
#include "storage/store/store_list.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct view {
	struct fake_store *fake;
	struct fake_volume *volume;
	unsigned requests; /* under way: none may be when it closes */
};

void fake_store_init(struct fake_store *fake, struct env *env)
{
	memset(fake, 0, sizeof(*fake));
	fake->env = env;
}

void fake_store_done(struct fake_store *fake)
{
	assert(fake->views == 0 && fake->held_count == 0);
	for (unsigned i = 0; i < fake->volume_count; i++)
		free(fake->volumes[i].data);
}

void fake_store_add(struct fake_store *fake, const char *name, uint64_t bytes, bool memory)
{
	assert(fake->volume_count < FAKE_VOLUMES_MAX && strlen(name) < SNAP_NAME_ROOM);
	struct fake_volume *volume = &fake->volumes[fake->volume_count++];
	memcpy(volume->name, name, strlen(name) + 1);
	volume->bytes = bytes;
	volume->data = memory ? calloc(1, bytes) : NULL;
	assert(!memory || volume->data);
}

/* Leases are the store's: here every generation is let in but one. */
int store_view_open_leased(struct store *store, const char *name, uint64_t generation,
			   struct view **ret_view)
{
	return generation == FAKE_FENCED ? -VS_EFENCED : store_view_open(store, name, ret_view);
}

void store_followers_stop(struct store *store)
{
	(void)store;
}

void store_view_fence(struct view *view)
{
	view->fake->fences++;
}

int store_view_open(struct store *store, const char *name, struct view **ret_view)
{
	struct fake_store *fake = (struct fake_store *)store;
	for (unsigned i = 0; i < fake->volume_count; i++) {
		if (strcmp(fake->volumes[i].name, name) != 0)
			continue;
		struct view *view = calloc(1, sizeof(*view));
		if (!view)
			return -ENOMEM;
		view->fake = fake;
		view->volume = &fake->volumes[i];
		view->volume->views++;
		fake->views++;
		*ret_view = view;
		return 0;
	}
	return -ENOENT;
}

void store_view_close(struct view *view)
{
	assert(view->requests == 0);
	view->volume->views--;
	view->fake->views--;
	free(view);
}

uint64_t store_view_bytes(const struct view *view)
{
	return view->volume->bytes;
}

const uint8_t *store_view_uuid(const struct view *view)
{
	static const uint8_t uuid[16];
	return uuid;
}

bool store_view_answers(const struct view *view)
{
	return !view->fake->mute;
}

bool store_view_outdated(const struct view *view)
{
	return false;
}

bool store_view_read_only(const struct view *view)
{
	return strchr(view->volume->name, '@') != NULL;
}

static bool all_zero(const uint8_t *at, uint64_t bytes)
{
	return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

/* Extents of whole blocks, never merged: whoever wants them merged does it. */
static void status_fill(struct store_request *request)
{
	const struct fake_volume *volume = request->view->volume;
	uint64_t at = request->offset_bytes, end = at + request->length_bytes;
	request->extent_count = 0;
	while (at < end && request->extent_count < request->extent_count_max) {
		uint64_t next = volume->data
					? min_u64(round_down(at, BLOCK_BYTES) + BLOCK_BYTES, end)
					: end;
		request->extents[request->extent_count++] = (struct extent){
			.length_bytes = next - at,
			.hole = !volume->data || all_zero(volume->data + at, next - at),
		};
		at = next;
	}
}

static int64_t request_run(struct store_request *request)
{
	struct fake_store *fake = request->view->fake;
	struct fake_volume *volume = request->view->volume;
	uint8_t *at = volume->data ? volume->data + request->offset_bytes : NULL;
	assert(request->offset_bytes + request->length_bytes <= volume->bytes);
	if (fake->fail && request->kind != REQUEST_FLUSH)
		return fake->fail;
	switch (request->kind) {
	case REQUEST_READ:
		if (at)
			memcpy(request->data, at, request->length_bytes);
		else
			memset(request->data, 0, request->length_bytes);
		break;
	case REQUEST_WRITE:
		if (at)
			memcpy(at, request->data, request->length_bytes);
		break;
	case REQUEST_TRIM:
	case REQUEST_ZERO:
		if (at)
			memset(at, 0, request->length_bytes);
		break;
	case REQUEST_STATUS:
		status_fill(request);
		break;
	case REQUEST_FLUSH:
	case REQUEST_CACHE:
	case REQUEST_COPY:
		break;
	}
	return 0;
}

static void request_end(struct store_request *request)
{
	int64_t res = request_run(request);
	request->view->requests--;
	env_complete(request->view->fake->env, &request->op, res);
}

void store_submit(struct store_request *request)
{
	struct fake_store *fake = request->view->fake;
	fake->requests++;
	fake->fuas += request->flags & REQUEST_FUA ? 1 : 0;
	fake->reads += request->kind == REQUEST_READ;
	fake->writes += request->kind == REQUEST_WRITE;
	fake->flushes += request->kind == REQUEST_FLUSH;
	fake->zeros += request->kind == REQUEST_ZERO;
	fake->trims += request->kind == REQUEST_TRIM;
	fake->caches += request->kind == REQUEST_CACHE;
	fake->statuses += request->kind == REQUEST_STATUS;
	request->view->requests++;
	if (!fake->hold) {
		request_end(request);
		return;
	}
	assert(fake->held_count < FAKE_HELD_MAX);
	fake->held[fake->held_count++] = request;
	if (fake->held_count > fake->held_most)
		fake->held_most = fake->held_count;
}

void fake_store_release(struct fake_store *fake)
{
	fake->hold = false;
	for (unsigned i = 0; i < fake->held_count; i++)
		request_end(fake->held[i]);
	fake->held_count = 0;
}

int store_volumes(const struct store *store, bool in_trash, struct volume_info **ret,
		  size_t *ret_count)
{
	const struct fake_store *fake = (const struct fake_store *)store;
	struct volume_info *list = calloc(fake->volume_count + 1, sizeof(*list));
	(void)in_trash;
	*ret = list;
	*ret_count = 0;
	for (unsigned i = 0; list && i < fake->volume_count; i++) {
		const struct fake_volume *volume = &fake->volumes[i];
		if (strchr(volume->name, '@'))
			continue;
		memcpy(list[*ret_count].name, volume->name, NAME_ROOM);
		list[(*ret_count)++].size_bytes = volume->bytes;
	}
	return list ? 0 : -ENOMEM;
}

int store_snapshots(const struct store *store, bool in_trash, struct snapshot_info **ret,
		    size_t *ret_count)
{
	const struct fake_store *fake = (const struct fake_store *)store;
	struct snapshot_info *list = calloc(fake->volume_count + 1, sizeof(*list));
	(void)in_trash;
	*ret = list;
	*ret_count = 0;
	for (unsigned i = 0; list && i < fake->volume_count; i++) {
		const struct fake_volume *volume = &fake->volumes[i];
		const char *at = strchr(volume->name, '@');
		if (!at)
			continue;
		memcpy(list[*ret_count].volume, volume->name, (size_t)(at - volume->name));
		memcpy(list[*ret_count].name, at + 1, strlen(at + 1) + 1);
		list[(*ret_count)++].size_bytes = volume->bytes;
	}
	return list ? 0 : -ENOMEM;
}
