/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy becomes a volume of this host, with all its snapshots: what a host does that lost its
 * disks and was sent its volumes back by a peer.
 *
 * It has the policy that it had at home (home.c), by the same commit.
 *
 * Keeps true: it is one commit, so there is the copy or the volume and nothing between; the volume
 * is what the copy is, which is kept first, for it may have followed since its newest snapshot, or
 * what that one is, where a transfer left something else in the copy; its epoch is higher than
 * that of all that is known of it, so who follows it takes nothing of an older store any more; and
 * nobody answers as the volume by a mandate of this host.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/lines.h"
#include "storage/store/store_int.h"

static int check_adopt(struct command *command, const struct volume *copy)
{
	const struct volume *served = served_here(command->store, copy->uuid);
	if (!copy->replica || !replica_newest(command->store, copy))
		return command_refuse(command, -EINVAL,
				      "'%s' is no copy with a snapshot that was received in whole: "
				      "send one with 'vstorectl replica send'.",
				      copy->name);
	if (served)
		return command_refuse(command, -EEXIST,
				      "'%s' is that volume already; delete the copy '%s', or "
				      "clone a snapshot of it.",
				      served->name, copy->name);
	if (copy->taken)
		return command_refuse(command, -EBUSY,
				      "'%s' is being received: try again when that has ended.",
				      copy->name);
	if (copy->views)
		return command_refuse(
			command, -EBUSY,
			"'%s' is attached %u times: disconnect its NBD clients first.", copy->name,
			copy->views);
	int res = command_new_name(command, command->other);
	return res < 0 ? res : home_room(command, copy);
}

static int prepare_adopt(struct command *command)
{
	struct store *store = command->store;
	uint8_t incarnation[16];
	struct store_lines lines;
	int res = 0;
	struct volume *copy = command_volume(command, command->name, &res);
	if (!copy || (res = check_adopt(command, copy)) < 0)
		return res;
	const struct snapshot *newest = replica_newest(store, copy);
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume != copy->number)
			continue;
		if ((res = command_seal(command, snapshot)))
			return res; /* it needs the layers that go */
	}
	if (fold_volume(store) == copy)
		return WAITING;
	struct volume changed = *copy;
	changed.replica = changed.whole = false;
	memset(changed.name, 0, sizeof changed.name);
	memcpy(changed.name, command->other, strlen(command->other));
	changed.size_bytes = newest->size_bytes;
	changed.top = newest->top;
	changed.mapped_chunks = newest->mapped_chunks;
	home_comes_true(command, copy, &changed);
	env_random(store->env, incarnation, sizeof incarnation);
	command->busy_volume = copy->number;
	command_add(command, volume_encode_flags(&changed, PUT_ADMIN, command_record(command)));
	command_add(command, volume_encode_flags(&changed, PUT_RESET, command_record(command)));
	lines_until(&copy->lines, newest->epoch, &lines);
	if (store_has(store, FEATURE_LINES))
		command_add(command,
			    lines_encode(copy->number, &lines, 0, command_record(command)));
	uint64_t epoch = word_epoch(command, copy->uuid);
	command_add(command,
		    record_epoch(copy->number, epoch, incarnation, command_record(command)));
	replica_drop_cuts(command, copy);
	return word_takes_over(command, copy->uuid, copy->number, epoch);
}

static int prepare_look(struct command *command)
{
	int res = 0;
	const struct volume *copy = command_volume(command, command->name, &res);
	return copy ? check_adopt(command, copy) : res;
}

static int prepare_keep(struct command *command)
{
	int res = 0;
	struct volume *copy = command_volume(command, command->name, &res);
	if (!copy || (res = check_adopt(command, copy)) < 0)
		return res;
	return replica_keep(command, copy);
}

void store_replica_adopt(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name)
{
	static command_prepare *const steps[] = {prepare_look, prepare_keep, prepare_adopt, NULL};
	takeover_start(store, op, name, new_name, steps, NULL, 0);
}
