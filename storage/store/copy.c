/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy that takes its original's writes as they are made there.
 *
 * It stands at a position {epoch, vseq, incarnation} of its original: all up to there is in it. A
 * batch is what one commit there had; its parts are written as a guest's would be, in their order,
 * and behind the last of them a record says the new position, in the same commit where it fits. So
 * after a crash the copy is where a crash there could have left it. Before the first of them a
 * record says that a batch begins: an incarnation that is nobody's. A copy that a crash left in the
 * middle of one may have some of it, which its original may have lost; so it stands nowhere, and
 * gets a cut.
 *
 * Keeps true: a copy takes a batch only when it is whole (no transfer is half done), the batch
 * begins where the copy stands, in no lower epoch nor another opening of it, and the volume itself
 * is not served here; one receiver at a time.
 */
#include "storage/store/replica.h"

#include "storage/store/catalog.h"
#include "storage/store/behind.h"
#include "storage/store/lines.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define FOLLOW_RECORD_BYTES 56u

uint32_t follow_encode(const struct volume *volume, const struct store_position *position,
		       enum follow_what what, uint64_t durable_vseq, void *out)
{
	struct cursor c = cursor_over(out, FOLLOW_RECORD_BYTES);
	put_u8(&c, LOG_FOLLOW);
	put_u8(&c, 0);
	put_u16(&c, FOLLOW_RECORD_BYTES);
	put_u32(&c, volume->number);
	put_u64(&c, position->epoch);
	put_u64(&c, position->vseq);
	put_bytes(&c, position->incarnation, 16);
	put_u8(&c, (uint8_t)what);
	put_zeros(&c, 7);
	put_u64(&c, durable_vseq);
	assert(!c.failed && cursor_left(&c) == 0);
	return FOLLOW_RECORD_BYTES;
}

int follow_apply(struct volume *volume, struct cursor *c)
{
	static const uint8_t none[16];
	struct store_position position = {.epoch = get_u64(c)};
	position.vseq = get_u64(c);
	get_bytes(c, position.incarnation, 16);
	uint8_t what = get_u8(c);
	cursor_take(c, 7);
	uint64_t durable_vseq = cursor_left(c) ? get_u64(c) : 0; /* stores older than lines */
	if (c->failed || !volume->replica || what > FOLLOW_IN_STEP || what == 2)
		return -VS_EFORMAT;
	if (what == FOLLOW_IN_STEP && !volume->whole)
		return 0; /* what it was is kept already (replica_keep), without this batch */
	const struct store_lines *lines = &volume->lines;
	if (position.epoch > (lines->count ? lines->at[lines->count - 1].epoch : 0) &&
	    memcmp(position.incarnation, none, sizeof none) != 0) {
		/* An opening begins when what came before it is durable there. */
		durable_vseq = max_u64(durable_vseq, volume->vseq);
		lines_add(volume, position.epoch, position.incarnation);
	}
	volume->durable_vseq = max_u64(volume->durable_vseq, durable_vseq);
	volume->epoch = position.epoch;
	volume->vseq = volume->admitted_vseq = position.vseq;
	memcpy(volume->incarnation, position.incarnation, 16);
	volume->whole = what & FOLLOW_WHOLE;
	if (volume->whole) /* half of a transfer says nothing of that */
		volume->stepped = what == FOLLOW_IN_STEP;
	return 0;
}

const struct volume *served_here(const struct store *store, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		if (!volume->replica && volume->state == OBJECT_LIVE &&
		    memcmp(volume->uuid, uuid, 16) == 0)
			return volume;
	}
	return NULL;
}

/* ---- opening ---- */

int store_copy_open(struct store *store, const char *name, const uint8_t uuid[16],
		    struct view **ret_view, struct store_position *ret_position)
{
	struct volume *volume = volume_by_name(store, name);
	struct view *view;
	if (served_here(store, uuid))
		return -VS_EFENCED;
	if (!volume || !volume->replica || memcmp(volume->uuid, uuid, 16) != 0)
		return -ENOENT;
	if (!volume->whole)
		return -EAGAIN;
	if (volume->taken)
		return -EBUSY;
	int res = store_view_open(store, name, &view);
	if (res < 0)
		return res;
	volume->taken = true;
	ret_position->epoch = volume->epoch;
	ret_position->vseq = volume->vseq;
	memcpy(ret_position->incarnation, volume->incarnation, 16);
	*ret_view = view;
	return 0;
}

void store_copy_close(struct view *view)
{
	view->volume->taken = false;
	store_view_close(view);
}

/* ---- a batch ---- */

/* What the log says of a batch: before its first part that it begins, and right behind the last one
 * the position, so that one commit, and one sync of the device, may have them all. */
struct follow_log {
	struct log_entry entry;
	struct applying *applying;
	uint8_t record[FOLLOW_RECORD_BYTES];
};
struct part_write {
	struct store_request request;
	struct applying *applying;
};
struct applying {
	struct store_copy_batch *batch;
	struct store *store;
	uint32_t unlogged; /* parts that the log was not given yet */
	uint32_t pending;  /* parts that have not ended, and the records */
	int res;
	struct env_timer room_timer;
	struct follow_log begin, end;
	struct part_write writes[];
};

static void applying_end(struct applying *applying, int res)
{
	struct store *store = applying->store;
	struct store_copy_batch *batch = applying->batch;
	if (res < 0 && applying->res == 0)
		applying->res = res;
	if (--applying->pending)
		return;
	res = applying->res;
	store->requests--;
	free(applying);
	env_complete(store->env, &batch->op, res);
}

static void follow_logged(struct log_entry *entry, int res)
{
	struct follow_log *follow = container_of(entry, struct follow_log, entry);
	struct store *store = follow->applying->store;
	if (res == 0) {
		res = catalog_apply(store, follow->record, FOLLOW_RECORD_BYTES, NULL);
		if (res < 0)
			store_fail(store, res, "a copy's position could not be applied");
		else if (!follow->applying->batch->view->volume->whole)
			res = -EAGAIN; /* it is being promoted, from what it was */
	}
	applying_end(follow->applying, res);
}

/* False: the log has no room, and `again` looks soon. */
static bool follow_append(struct applying *applying, struct follow_log *follow,
			  const struct store_position *position, uint64_t durable_vseq,
			  void (*again)(struct env_timer *timer))
{
	struct store *store = applying->store;
	enum follow_what what = store_has(store, FEATURE_RETURNS) ? FOLLOW_IN_STEP : FOLLOW_WHOLE;
	if (!log_room(store->log, FOLLOW_RECORD_BYTES, 0, true)) {
		applying->room_timer.fire = again;
		env_timer_start(store->env, &applying->room_timer, NSEC_PER_MSEC);
		return false;
	}
	follow->applying = applying;
	follow->entry.done = follow_logged;
	follow_encode(applying->batch->view->volume, position, what, durable_vseq, follow->record);
	log_append(store->log, &follow->entry, follow->record, FOLLOW_RECORD_BYTES, NULL, 0, false);
	return true;
}

static void position_log(struct applying *applying);

static void position_again(struct env_timer *timer)
{
	position_log(container_of(timer, struct applying, room_timer));
}

/* All parts are in the log, or in what it was given: replay finds no position without them. */
static void position_log(struct applying *applying)
{
	const struct store *store = applying->store;
	const struct store_copy_batch *batch = applying->batch;
	if (applying->res < 0 || store->failed)
		applying_end(applying, -VS_EFAILSTOP);
	else
		follow_append(applying, &applying->end, &batch->to, batch->durable_vseq,
			      position_again);
}

static void part_logged(struct store_request *request)
{
	struct applying *applying = container_of(request, struct part_write, request)->applying;
	if (request->status < 0 && applying->res == 0)
		applying->res = request->status;
	if (--applying->unlogged == 0)
		position_log(applying);
}

static void part_done(struct io_op *op)
{
	applying_end(container_of(op, struct part_write, request.op)->applying, (int)op->res);
}

/* Nothing ends before the loop's next pass: `applying` and the batch outlive the calls. */
static void parts_submit(struct applying *applying)
{
	const struct store_copy_batch *batch = applying->batch;
	for (uint32_t i = 0; i < batch->part_count; i++) {
		const struct store_copy_part *part = &batch->parts[i];
		applying->writes[i].applying = applying;
		applying->writes[i].request =
			(struct store_request){.op.done = part_done,
					       .view = batch->view,
					       .kind = part->data ? REQUEST_WRITE : REQUEST_ZERO,
					       .offset_bytes = part->offset_bytes,
					       .length_bytes = part->length_bytes,
					       .data = (void *)part->data,
					       .logged = part_logged};
		applying->store->requests++;
		write_submit(&applying->writes[i].request);
	}
}

static void begin_log(struct applying *applying);

static void begin_again(struct env_timer *timer)
{
	begin_log(container_of(timer, struct applying, room_timer));
}

/* Before all parts, and in one commit with them where they fit: then nobody ever sees it. */
static void begin_log(struct applying *applying)
{
	const struct volume *volume = applying->batch->view->volume;
	struct store_position torn = {.epoch = volume->epoch, .vseq = volume->vseq};
	memset(torn.incarnation, NOBODYS, sizeof torn.incarnation);
	if (!follow_append(applying, &applying->begin, &torn, 0, begin_again))
		return;
	applying->pending++;
	parts_submit(applying);
}

static int batch_check(const struct store_copy_batch *batch)
{
	const struct volume *volume = batch->view->volume;
	if (served_here(batch->view->store, volume->uuid))
		return -VS_EFENCED;
	if (!volume->whole || volume->state != OBJECT_LIVE)
		return -EAGAIN;
	if (batch->to.epoch < volume->epoch ||
	    (batch->to.epoch == volume->epoch &&
	     incarnations_differ(batch->to.incarnation, volume->incarnation)))
		return -VS_EFENCED;
	if (batch->from_vseq != volume->vseq || batch->to.vseq < volume->vseq)
		return -EAGAIN;
	for (uint32_t i = 0; i < batch->part_count; i++) {
		const struct store_copy_part *part = &batch->parts[i];
		if (part->offset_bytes % BLOCK_BYTES || part->length_bytes % BLOCK_BYTES ||
		    part->length_bytes == 0 || part->offset_bytes > volume->size_bytes ||
		    part->length_bytes > volume->size_bytes - part->offset_bytes)
			return -VS_EFORMAT;
	}
	return 0;
}

void store_copy_apply(struct store_copy_batch *batch)
{
	struct store *store = batch->view->store;
	int res = batch_check(batch);
	struct applying *applying =
		res < 0 ? NULL
			: calloc(1,
				 sizeof(*applying) + batch->part_count * sizeof(struct part_write));
	if (!applying) {
		env_complete(store->env, &batch->op, res < 0 ? res : -ENOMEM);
		return;
	}
	applying->batch = batch;
	applying->store = store;
	applying->unlogged = batch->part_count;
	applying->pending = batch->part_count + 1;
	store->requests++;
	if (!batch->part_count)
		position_log(applying);
	else if (lines_find(&batch->view->volume->lines, batch->view->volume->epoch) && !MUTANT(84))
		begin_log(applying);
	else /* of a store that is older than lines */
		parts_submit(applying);
}
