/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot of a volume that is followed in step is received beside its copy: into a volume of its
 * own, which begins as the copy's map, and whose map then becomes the snapshot's.
 *
 *     make (here) -> receive.c fills it -> publish -> drop
 *
 * The volume lies in the trash, under the copy's name, from its first moment: nobody finds it by
 * that name, and what a cut transfer leaves of it is found by the next try, or goes as all that is
 * in the trash for long. Its origin is "@SNAPSHOT", which no other volume's is.
 *
 * Keeps true: the copy keeps its data, its position and who writes to it; the snapshot is there
 * before what it was received into goes; a line that only the snapshot is of is known with it, so
 * that what comes later is compared with the furthest that was seen.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/lines.h"
#include "storage/store/store_int.h"

#include <stdio.h>

bool beside_is(const struct volume *volume)
{
	return volume->replica && volume->state == OBJECT_TRASH && volume->origin[0] == '@';
}

struct volume *beside_volume(const struct store *store, const char *name,
			     const struct store_offer *offer)
{
	for (uint32_t i = 0; i < store->volume_count; i++) {
		struct volume *volume = store->volumes[i];
		if (beside_is(volume) && strcmp(volume->name, name) == 0 &&
		    strcmp(volume->origin + 1, offer->snapshot) == 0 &&
		    memcmp(volume->uuid, offer->volume_uuid, 16) == 0)
			return volume;
	}
	return NULL;
}

/* The copy's own record, where there is none yet; then that of what is received into. */
static int prepare_make(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	int res = replica_check(command);
	if (res < 0)
		return res;
	const struct volume *copy = volume_by_name(store, command->name);
	const struct volume *left = beside_volume(store, command->name, offer);
	if (left && left->taken)
		return command_refuse(command, -EBUSY, RECEIVED_ALREADY, command->name);
	if (copy && (res = replica_same(command, copy)) < 0)
		return res;
	if ((res = command_volume_room(command, 2)) < 0)
		return res;
	if (copy && !left) { /* its map must be a root until it is this one's, too */
		if (fold_volume(store) == copy)
			return WAITING;
		command->still_volume = copy->number;
	}
	if (!copy) {
		struct volume made = replica_volume(command);
		command_add(command, volume_encode(&made, command_record(command)));
		home_told(command, &made, &offer->policy);
	} else {
		home_told(command, copy, &offer->policy);
	}
	if (left && left->size_bytes == offer->size_bytes)
		return 0;
	struct volume beside = left ? *left : replica_volume(command);
	beside.size_bytes = offer->size_bytes;
	if (!left) {
		beside.state = OBJECT_TRASH;
		beside.deleted_wall_ns = env_wall_ns(store->env);
		beside.deleted_age_ns = store_age_ns(store);
		snprintf(beside.origin, sizeof beside.origin, "@%.63s", offer->snapshot);
		beside.top = copy ? copy->top : (struct id){0};
		beside.mapped_chunks = copy ? copy->mapped_chunks : 0;
	}
	command_add(command, volume_encode_flags(&beside, left ? PUT_ADMIN : PUT_FULL,
						 command_record(command)));
	return 0;
}

/* The map that was compared becomes the copy's snapshot. */
static int prepare_publish(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	int res = replica_check(command);
	if (res < 0)
		return res;
	const struct volume *copy = command_volume(command, command->name, &res);
	const struct volume *beside = beside_volume(store, command->name, offer);
	if (!copy || (res = replica_same(command, copy)) < 0)
		return res;
	if (!beside)
		return -ENOENT;
	if (snapshot_of(store, copy->number, offer->snapshot))
		return replica_published(store, command->name, offer) == 1
			       ? 0
			       : command_refuse(command, -EEXIST,
						"'%.63s@%.63s' is here already, and is not the "
						"same.",
						copy->name, offer->snapshot);
	if ((res = command_snapshot_room(command, 1)) < 0)
		return res;
	struct snapshot snapshot = replica_snapshot(command, copy, beside);
	bool furthest = replica_goes_on(store, copy, offer);
	command->busy_volume = beside->number;
	command_add(command, snapshot_encode_flags(&snapshot, PUT_FULL, command_record(command)));
	if (furthest && store_has(store, FEATURE_LINES))
		command_add(command, lines_encode(copy->number, &offer->lines, offer->vseq,
						  command_record(command)));
	return 0;
}

static int prepare_drop(struct command *command)
{
	struct store *store = command->store;
	const struct volume *beside = beside_volume(store, command->name, command->offer);
	if (!beside || beside->views)
		return 0; /* it is gone, or somebody begins anew with it */
	if (fold_volume(store) == beside)
		return WAITING;
	command->busy_volume = beside->number;
	command_add(command,
		    record_number(LOG_DEL_VOLUME, beside->number, command_record(command)));
	return 0;
}

void beside_make(struct store *store, struct admin_op *op, const char *name,
		 const struct store_offer *offer)
{
	replica_command(store, op, name, offer, prepare_make);
}

void beside_publish(struct store *store, struct admin_op *op, const char *name,
		    const struct store_offer *offer)
{
	replica_command(store, op, name, offer, prepare_publish);
}

void beside_drop(struct store *store, struct admin_op *op, const char *name,
		 const struct store_offer *offer)
{
	replica_command(store, op, name, offer, prepare_drop);
}
