/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that change snapshots. How commands run is in admin.c. */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

struct snapshot *command_snapshot(struct command *command, const char *name, int *ret_res)
{
	struct snapshot *snapshot = snapshot_by_name(command->store, name);
	if (!snapshot)
		*ret_res = command_refuse(command, -ENOENT,
					  "There is no snapshot '%s' (written VOLUME@SNAP); "
					  "vstorectl snap list shows those that are.",
					  name);
	return snapshot;
}

int command_seal(struct command *command, struct snapshot *snapshot)
{
	struct store *store = command->store;
	if (snapshot->sealed)
		return 0;
	if (fold_error(store) < 0 && !fold_running(store))
		return command_refuse(command, fold_error(store),
				      "The snapshot's data could not be folded (%s): see the log, "
				      "then try again.",
				      vs_strerror(fold_error(store)));
	volume_by_number(store, snapshot->volume)->fold_wanted = true;
	fold_kick(store);
	return WAITING;
}

int command_retained(struct command *command, const struct snapshot *snapshot)
{
	const struct volume *volume = volume_by_number(command->store, snapshot->volume);
	if (snapshot->hold_count) {
		snprintf(command->op->holder, sizeof command->op->holder, "%s", snapshot->holds[0]);
		return command_refuse(command, -VS_ERETAINED,
				      "'%s@%s' is held by '%s': release that hold first.",
				      volume->name, snapshot->name, snapshot->holds[0]);
	}
	if (snapshot_retained(command->store, snapshot)) {
		char until[TIME_TEXT_BYTES];
		text_time(snapshot->retain_until_wall_ns, until);
		return command_refuse(command, -VS_ERETAINED,
				      "'%s@%s' must be kept until %s, and nobody can shorten that.",
				      volume->name, snapshot->name, until);
	}
	return 0;
}

/* ---- create: one commit freezes all volumes and names all snapshots ---- */

void command_snap(struct command *command, struct snapshot *snapshot)
{
	snapshot->number = command->store->next_number++;
	command_add(command, record_number(LOG_FREEZE, snapshot->volume, command_record(command)));
	command_add(command, snapshot_encode_flags(snapshot, PUT_NEW, command_record(command)));
}

/* How many of the command's snapshots are of the same volume as this one. */
static uint32_t named_of(const struct command *command, const char *name)
{
	size_t bytes = (size_t)(strchr(name, '@') - name) + 1;
	uint32_t count = 0;
	for (size_t i = 0; i < command->name_count; i++)
		count += strncmp(command->names[i], name, bytes) == 0;
	return count;
}

static int prepare_one(struct command *command, const char *name)
{
	struct store *store = command->store;
	const char *at = strchr(name, '@');
	char volume_name[NAME_ROOM] = "";
	int res = 0;
	if (at && at - name <= (ptrdiff_t)NAME_BYTES_MAX)
		memcpy(volume_name, name, (size_t)(at - name));
	struct volume *volume = command_volume(command, volume_name, &res);
	if (!volume)
		return res;
	if (!text_name_ok(at + 1, strlen(at + 1)))
		return command_refuse(command, -EINVAL, "'%s' cannot be a snapshot's name.",
				      at + 1);
	if (volume->replica && !volume->whole) /* it would be no moment of its original */
		return command_refuse(command, -EBUSY,
				      "'%s' holds half of a transfer: its newest snapshot is the "
				      "last whole state of it.",
				      volume->name);
	if (snapshot_of(store, volume->number, at + 1))
		return command_refuse(command, -EEXIST,
				      "A snapshot '%s' exists already; choose another name.", name);
	if ((res = command_snapshot_room(command, command->name_count)) < 0)
		return res;
	if ((res = command_layer_room(command, volume, named_of(command, name))) != 0)
		return res;
	struct snapshot snapshot = {.volume = volume->number,
				    .policy = (uint32_t)command->number,
				    .created_wall_ns = env_wall_ns(store->env)};
	memcpy(snapshot.name, at + 1, strlen(at + 1) + 1);
	command_snap(command, &snapshot);
	return 0;
}

static int prepare_create(struct command *command)
{
	int res = 0;
	for (size_t i = 0; i < command->name_count && res == 0; i++) {
		for (size_t k = 0; k < i; k++)
			if (strcmp(command->names[i], command->names[k]) == 0)
				return command_refuse(command, -EEXIST, "'%s' is named twice.",
						      command->names[i]);
		res = prepare_one(command, command->names[i]);
	}
	return res;
}

void store_policy_snap(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count, uint32_t policy)
{
	struct command *command = command_new(store, op, "", prepare_create);
	if (!command)
		return;
	if (count == 0 || count > SNAP_GROUP_MAX) {
		command_refuse(command, -EINVAL,
			       "One step takes from 1 to %u snapshots; make several steps.",
			       SNAP_GROUP_MAX);
		free(command);
		env_complete(store->env, &op->op, -EINVAL);
		return;
	}
	for (size_t i = 0; i < count; i++)
		snprintf(command->names[i], SNAP_NAME_ROOM, "%s", names[i]);
	command->name_count = count;
	command->number = policy;
	command_start(command);
}

void store_snap_create(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count)
{
	store_policy_snap(store, op, names, count, 0);
}

/* ---- the others change one snapshot ---- */

static void put_changed(struct command *command, const struct snapshot *changed)
{
	command_add(command, snapshot_encode_flags(changed, PUT_ADMIN, command_record(command)));
}

static int delete_one(struct command *command, const struct snapshot *snapshot)
{
	int res = command_retained(command, snapshot);
	if (res < 0)
		return res;
	if (snapshot->views)
		return command_refuse(
			command, -EBUSY, "'%s@%s' is attached: disconnect its NBD clients first.",
			volume_by_number(command->store, snapshot->volume)->name, snapshot->name);
	struct snapshot changed = *snapshot;
	changed.state = OBJECT_TRASH;
	changed.deleted_wall_ns = env_wall_ns(command->store->env);
	changed.age_ns = store_age_ns(command->store);
	command->busy_snapshots[command->busy_snapshot_count++] = snapshot->number;
	put_changed(command, &changed);
	return 0;
}

static int prepare_delete(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	return snapshot ? delete_one(command, snapshot) : res;
}

void store_snap_delete(struct store *store, struct admin_op *op, const char *name)
{
	struct command *command = command_new(store, op, name, prepare_delete);
	if (command)
		command_start(command);
}

static int prepare_delete_chosen(struct command *command)
{
	uint32_t numbers[SNAP_GROUP_MAX];
	/* Behind a wait: to choose costs more than to see that there is still no room. */
	if (command->number && !log_room(command->store->log, (uint32_t)command->number, 0, true))
		return WAITING;
	int count = command->choose(command->op, numbers), res = count;
	assert(count <= (int)SNAP_GROUP_MAX);
	for (int i = 0; i < count && res >= 0; i++) {
		struct snapshot *snapshot = snapshot_by_number(command->store, numbers[i]);
		if (!snapshot || snapshot->state != OBJECT_LIVE)
			return command_refuse(command, -ENOENT, "There is no snapshot %u.",
					      numbers[i]);
		res = delete_one(command, snapshot);
	}
	command->number = command->record_bytes;
	return res < 0 ? res : 0;
}

void store_snap_delete_chosen(struct store *store, struct admin_op *op,
			      int (*choose)(struct admin_op *op,
					    uint32_t ret_numbers[SNAP_GROUP_MAX]))
{
	struct command *command = command_new(store, op, "", prepare_delete_chosen);
	if (!command)
		return;
	command->choose = choose;
	command_start(command);
}

static int prepare_restore(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	if (!snapshot)
		return res;
	struct volume *volume = volume_by_number(store, snapshot->volume);
	if ((res = command_own(command, volume)) < 0)
		return res;
	if (volume->views)
		return command_refuse(
			command, -EBUSY,
			"'%s' is attached %u times: disconnect its NBD clients first.",
			volume->name, volume->views);
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		if (store->snapshots[i]->volume == volume->number &&
		    (res = command_seal(command, store->snapshots[i])))
			return res; /* they need the layers that go */
	if (fold_volume(store) == volume)
		return WAITING;
	struct volume changed = *volume;
	changed.top = snapshot->top;
	changed.mapped_chunks = snapshot->mapped_chunks;
	changed.size_bytes = snapshot->size_bytes;
	if ((res = command_position(command, volume, &changed)))
		return res;
	command->busy_volume = volume->number;
	command_add(command, volume_encode_flags(&changed, PUT_RESET, command_record(command)));
	return 0;
}

void store_snap_restore(struct store *store, struct admin_op *op, const char *name)
{
	struct command *command = command_new(store, op, name, prepare_restore);
	if (command)
		command_start(command);
}

static int prepare_hold(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	if (!snapshot)
		return res;
	if (!text_name_ok(command->other, strlen(command->other)))
		return command_refuse(command, -EINVAL, "'%s' cannot be a hold's tag.",
				      command->other);
	for (uint32_t i = 0; i < snapshot->hold_count; i++)
		if (strcmp(snapshot->holds[i], command->other) == 0)
			return command_refuse(command, -EEXIST, "'%s' is held by '%s' already.",
					      command->name, command->other);
	if (snapshot->hold_count == HOLDS_MAX)
		return command_refuse(command, -ENOSPC, "A snapshot takes at most %u holds.",
				      HOLDS_MAX);
	struct snapshot changed = *snapshot;
	snprintf(changed.holds[changed.hold_count++], NAME_ROOM, "%.63s", command->other);
	put_changed(command, &changed);
	return 0;
}

static int prepare_release(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	if (!snapshot)
		return res;
	struct snapshot changed = *snapshot;
	for (uint32_t i = 0; i < changed.hold_count; i++) {
		if (strcmp(changed.holds[i], command->other) != 0)
			continue;
		memmove(changed.holds[i], changed.holds[i + 1],
			(--changed.hold_count - i) * (size_t)NAME_ROOM);
		memset(changed.holds[changed.hold_count], 0, NAME_ROOM);
		put_changed(command, &changed);
		return 0;
	}
	return command_refuse(command, -ENOENT, "'%s' has no hold named '%s'.", command->name,
			      command->other);
}

static int prepare_retain(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	if (!snapshot)
		return res;
	if (command->number < snapshot->retain_until_wall_ns)
		return command_refuse(command, -VS_ERETAINED,
				      "The date until which '%s' is kept can only move later.",
				      command->name);
	struct snapshot changed = *snapshot;
	uint64_t now = env_wall_ns(command->store->env), age = store_age_ns(command->store);
	changed.retain_until_wall_ns = command->number;
	changed.age_ns =
		max_u64(changed.age_ns, age + command->number - min_u64(command->number, now));
	put_changed(command, &changed);
	return 0;
}

static int prepare_seal(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	return snapshot ? command_seal(command, snapshot) : res;
}

static void start_with(struct store *store, struct admin_op *op, const char *name,
		       const char *other, uint64_t number, int (*prepare)(struct command *command))
{
	struct command *command = command_new(store, op, name, prepare);
	if (!command)
		return;
	if (strlen(other) < sizeof command->other)
		memcpy(command->other, other, strlen(other) + 1);
	command->number = number;
	command_start(command);
}

void store_snap_hold(struct store *store, struct admin_op *op, const char *name, const char *tag)
{
	start_with(store, op, name, tag, 0, prepare_hold);
}

void store_snap_release(struct store *store, struct admin_op *op, const char *name, const char *tag)
{
	start_with(store, op, name, tag, 0, prepare_release);
}

void store_snap_retain(struct store *store, struct admin_op *op, const char *name,
		       uint64_t until_wall_ns)
{
	start_with(store, op, name, "", until_wall_ns, prepare_retain);
}

void store_snap_seal(struct store *store, struct admin_op *op, const char *name)
{
	start_with(store, op, name, "", 0, prepare_seal);
}
