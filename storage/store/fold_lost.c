/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fold that meets damage: a chunk or a node of the old map that is rotten or gone.
 *
 * Keeps true: damage stops no fold, for then it would hold the log, and with it every guest. What
 * is lost stays lost: its blocks are stored as lost frames, which answer with an error; in the
 * place of a lost node comes a node all of whose chunks are lost. So a lost chunk, a leaf of lost
 * chunks and so on are ordinary records, made when they are first needed, and nobody who walks a
 * map has to know of them. The map before is kept as a snapshot "lost-N", should what is missing
 * turn up again.
 */
#include "storage/store/fold.h"

#include "storage/rt/log_event.h"
#include "storage/store/catalog.h"
#include "storage/store/mutant.h"
#include "storage/store/put.h"
#include "storage/store/store_int.h"

#include <stdio.h>

#define EIO_FOLDS 3u
#define SNAPSHOTS_KEPT 8u /* of one volume; more would hold ever more space */

bool fold_is_damage(const struct fold *fold, int res)
{
	if (res == -EIO) /* it may pass: the fold is tried again before that is believed */
		return fold->eio_folds >= EIO_FOLDS;
	return (res == -VS_ECHECKSUM || res == -VS_EFORMAT || res == -VS_ELOST || res == -ENOENT) &&
	       !MUTANT(34);
}

static void lost_make(struct wait *wait);

static void lost_made(struct fold_lost *lost, int res)
{
	lost->making = false;
	put_free(lost->put);
	lost->put = NULL;
	if (res < 0) {
		struct fold *fold = container_of(lost, struct fold, lost);
		fold->res = fold->res ? fold->res : res;
	}
	wait_wake_all(&lost->waiters);
}

static void lost_stored(struct put *put, int res)
{
	struct fold_lost *lost = put->owner;
	if (res == 0)
		lost->ids[lost->made++] = put->id;
	lost_made(lost, res);
}

/* The next of the ids. */
static void lost_make(struct wait *wait)
{
	struct fold_lost *lost = container_of(wait, struct fold_lost, wait);
	struct fold *fold = container_of(lost, struct fold, lost);
	lost->wait.wake = lost_make;
	struct put *put = lost->put = put_new(fold->store, true, &lost->wait);
	if (!put)
		return;
	put->done = lost_stored;
	put->owner = lost;
	put->raw = put->room;
	put->domain = fold->volume->domain;
	put->level = 1;
	put->frame_bytes = BLOCK_BYTES;
	if (lost->made == 0) {
		lost->patch = (struct patch){.frame_bytes = BLOCK_BYTES};
		put->patch = &lost->patch;
	} else {
		put->type = RECORD_NODE;
		for (unsigned i = 0; i < NODE_SLOTS; i++)
			((struct id *)put->room)[i] = lost->ids[lost->made - 1];
	}
	put_start(put);
}

int fold_lost_id(struct fold *fold, unsigned level, struct wait *wait, struct id *ret_id)
{
	struct fold_lost *lost = &fold->lost;
	if (level < lost->made) {
		*ret_id = lost->ids[level];
		return 0;
	}
	if (fold->res < 0)
		return fold->res;
	wait_add(&lost->waiters, wait);
	if (!lost->making) {
		lost->making = true;
		lost_make(&lost->wait);
	}
	return WAITING;
}

/* The records of one fold may be collected before the next one needs them. */
void fold_lost_reset(struct fold *fold)
{
	fold->lost.made = 0;
	fold->lost_blocks = 0;
}

static unsigned snapshots_kept(const struct fold *fold)
{
	unsigned count = 0;
	for (uint32_t i = 0; i < fold->store->snapshot_count; i++) {
		const struct snapshot *snapshot = fold->store->snapshots[i];
		count += snapshot->volume == fold->volume->number &&
			 strncmp(snapshot->name, "lost-", 5) == 0;
	}
	return count;
}

static void kept_logged(struct log_entry *entry, int res)
{
	struct fold *fold = container_of(entry, struct fold, freeze_entry);
	struct store *store = fold->store;
	if (res == 0 && catalog_apply(store, fold->kept_record, fold->kept_bytes, 0) < 0)
		store_fail(store, -ENOMEM, "a snapshot could not be made");
}

bool fold_lost_keep(struct fold *fold)
{
	struct store *store = fold->store;
	const struct volume *volume = fold->volume;
	if (fold->lost_blocks == 0)
		return true;
	struct snapshot snapshot = {.volume = volume->number,
				    .sealed = true,
				    .layer = volume->folded_layer,
				    .size_bytes = volume->size_bytes,
				    .vseq = volume->vseq,
				    .created_wall_ns = env_wall_ns(store->env),
				    .top = volume->top,
				    .mapped_chunks = volume->mapped_chunks};
	if (!log_room(store->log, 2 * LOG_RECORD_BYTES_MAX, 0, true))
		return false;
	bool keep = !id_is_null(&volume->top) && snapshots_kept(fold) < SNAPSHOTS_KEPT &&
		    store->snapshot_count + 1 < SNAPSHOTS_MAX;
	if (keep) {
		snapshot.number = store->next_number++;
		snprintf(snapshot.name, sizeof snapshot.name, "lost-%u", snapshot.number);
		fold->kept_bytes = snapshot_encode(&snapshot, fold->kept_record);
		fold->freeze_entry.done = kept_logged;
		log_append(store->log, &fold->freeze_entry, fold->kept_record, fold->kept_bytes,
			   NULL, 0, false);
	}
	log_event(
		LOG_LEVEL_ERROR, "fold.lost",
		"volume=%s blocks=%llu kept=%s effect=\"reads of these blocks fail until they are "
		"written anew\" hint=\"vstorectl store check, then restore them from a snapshot "
		"or a copy\"",
		volume->name, (unsigned long long)fold->lost_blocks,
		keep ? snapshot.name : "nothing");
	fold->lost_blocks = 0;
	return true;
}
