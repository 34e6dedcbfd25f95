/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What leaves for followers as it is written, and flushes that wait until they have it.
 *
 * A volume that is tapped hands each record of its data out, in the order of the log, with the
 * bytes that were written; and says where commits end. Writes of one commit were under way
 * together, so nobody may rely on an order among them; who repeats commit after commit is at every
 * moment where a crash could have left the volume.
 *
 * A record is handed out when its commit goes to the device, so that followers write while we do:
 * what they have and we lose is what a crash takes from us, which nobody was promised (lines.c). It
 * is handed out again when it takes effect, to whoever came in between; who has it passes over it.
 * Early go only records that follow each other: one behind a change that no record of data tells
 * waits for its effect, since who stood behind it would seem to have that change.
 *
 * A flush of a volume with followers that are in step (rules.in_step) ends when it is durable here
 * and each of them has acknowledged the position that the volume had when the flush began; where
 * voters decide, each that they know as in step, and while what they know stands (quorum.c); it
 * ends badly when they say that another host owns the volume. There is no time limit: that is what
 * was asked for. Who stops for good says so (store_followers_stop).
 */
#include "storage/store/tap.h"

#include "storage/store/catalog.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdlib.h>

int tap_init(struct store *store)
{
	store->tap = calloc(1, sizeof(*store->tap));
	if (!store->tap)
		return -ENOMEM;
	store->tap->tail = &store->tap->held;
	return 0;
}

void tap_exit(struct store *store)
{
	free(store->tap);
	store->tap = NULL;
}

void store_set_tap(struct store *store, const struct store_tap_ops *ops, void *owner)
{
	store->tap->ops = ops;
	store->tap->owner = owner;
	for (uint32_t i = 0; !ops && i < store->volume_count; i++)
		store->volumes[i]->tapped = false;
}

int store_tap(struct store *store, uint32_t number, bool on)
{
	struct volume *volume = volume_by_number(store, number);
	if (!volume || (on && (!store->tap->ops || volume->replica)))
		return -ENOENT;
	if (!volume->tapped)
		volume->tapped_vseq = 0; /* it may have been a copy since, and stand further back */
	volume->tapped = on;
	return 0;
}

/* ---- records ---- */

static struct store_position record_position(struct cursor *c)
{
	struct store_position position = {.vseq = get_u64(c)};
	position.epoch = get_u64(c);
	return position;
}

void tap_leaving(struct store *store, struct volume *volume, const void *record, uint32_t bytes,
		 const void *data)
{
	struct cursor c = cursor_reading(record, bytes);
	cursor_take(&c, 8);
	struct store_position position = record_position(&c);
	if (position.epoch != volume->epoch ||
	    (position.vseq != max_u64(volume->vseq, volume->tapped_vseq) + 1 && !MUTANT(83)))
		return;
	volume->tapped_vseq = position.vseq;
	tap_data(store, volume, record, bytes, data);
}

void tap_data(struct store *store, const struct volume *volume, const void *record, uint32_t bytes,
	      const void *data)
{
	struct cursor c = cursor_reading(record, bytes);
	struct store_tap_record out = {.volume = volume->number, .data = data};
	unsigned op = get_u8(&c);
	cursor_take(&c, 7);
	out.position = record_position(&c);
	uint64_t first = get_u64(&c);
	out.offset_bytes = first * BLOCK_BYTES;
	if (op == LOG_WRITE) {
		out.length_bytes = get_u32(&c) * (uint64_t)BLOCK_BYTES;
	} else if (op == LOG_ZERO) {
		out.length_bytes = get_u64(&c) * BLOCK_BYTES;
		out.data = NULL;
	} else {
		out.offset_bytes = first * CHUNK_BYTES;
		out.length_bytes = CHUNK_BYTES;
	}
	memcpy(out.position.incarnation, volume->incarnation, 16);
	store->tap->any = true;
	store->tap->ops->record(store->tap->owner, &out);
}

void tap_committed(struct store *store)
{
	struct tap *tap = store->tap;
	if (!tap->any || !tap->ops)
		return;
	tap->any = false;
	tap->ops->committed(tap->owner);
}

void tap_broken(struct store *store, struct volume *volume)
{
	if (!volume->tapped)
		return;
	volume->tapped = false;
	store->tap->ops->broken(store->tap->owner, volume->number);
}

/* ---- flushes ---- */

static bool gate_open(const struct store *store, const struct store_request *request)
{
	const struct volume *volume = request->view->volume;
	if (volume->ballot && !quorum_stands(store, volume->ballot))
		return false;
	for (uint32_t i = 0; volume->in_step && i < store->follower_count && !MUTANT(63); i++) {
		const struct follower *follower = &store->followers[i];
		if (follower->volume == volume->number && follower->rules.in_step &&
		    quorum_counts(volume, follower) && follower->acked_vseq < request->vseq)
			return false;
	}
	return true;
}

/* Nothing that it waits for comes: another host is, or was meanwhile, the primary. */
static bool request_outdated(const struct store_request *request)
{
	const struct view *view = request->view;
	return store_view_outdated(view) || quorum_lost(view->store, view->volume) ||
	       volume_superseded(view->store, view->volume);
}

bool gate_hold(struct store_request *request)
{
	struct store *store = request->view->store;
	struct tap *tap = store->tap;
	struct volume *volume = request->view->volume;
	if (!volume->replica) /* what a copy has says nothing of its original */
		volume->durable_vseq = max_u64(volume->durable_vseq, request->vseq);
	bool outdated = request_outdated(request);
	if (!outdated && gate_open(store, request))
		return false;
	request->next = NULL;
	*tap->tail = request;
	tap->tail = &request->next;
	if (tap->shut || outdated) /* its own sync ended after that: no success, and no waiting */
		gate_look(store);
	return true;
}

void gate_look(struct store *store)
{
	struct tap *tap = store->tap;
	struct store_request **at = &tap->held;
	while (*at) {
		struct store_request *request = *at;
		bool open = gate_open(store, request), outdated = request_outdated(request);
		if (!open && !tap->shut && !store->failed && !outdated) {
			at = &request->next;
			continue;
		}
		*at = request->next;
		request_end(request, outdated	     ? -VS_EFENCED
				     : open	     ? 0
				     : store->failed ? -VS_EFAILSTOP
						     : -ESHUTDOWN);
	}
	tap->tail = at;
}

void store_follower_acked(struct store *store, uint32_t volume, const char *host, uint64_t vseq)
{
	struct follower *follower = follower_of(store, volume, host);
	struct volume *of = volume_by_number(store, volume);
	if (follower)
		follower->acked_vseq = max_u64(follower->acked_vseq, vseq);
	if (of && of->ballot)
		quorum_look(store, of);
	gate_look(store);
}

uint64_t store_durable_vseq(const struct store *store, uint32_t number)
{
	const struct volume *volume = volume_by_number(store, number);
	return volume ? volume->durable_vseq : 0;
}

void store_followers_stop(struct store *store)
{
	store->tap->shut = true;
	gate_look(store);
}
