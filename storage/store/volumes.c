/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that change volumes. How commands run is in admin.c. */
#include "storage/store/admin.h"
#include "storage/store/replica.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

/* Of another host's volume of that name; NULL: there is none. */
static const struct volume *copy_called(const struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		const char *slash = strchr(volume->name, '/');
		if (volume->replica && volume->state == OBJECT_LIVE && slash &&
		    strcmp(slash + 1, name) == 0)
			return volume;
	}
	return NULL;
}

struct volume *command_volume(struct command *command, const char *name, int *ret_res)
{
	struct volume *volume = volume_by_name(command->store, name);
	const struct volume *copy = volume ? NULL : copy_called(command->store, name);
	if (copy)
		*ret_res =
			command_refuse(command, -ENOENT,
				       "There is no volume named '%s' here: '%s' is a copy of one "
				       "on another host, to be used there.",
				       name, copy->name);
	else if (!volume)
		*ret_res = command_refuse(command, -ENOENT,
					  "There is no volume named '%s'; vstorectl volume list "
					  "shows those that are.",
					  name);
	return volume;
}

int command_own(struct command *command, const struct volume *volume)
{
	if (!volume->replica)
		return 0;
	return command_refuse(command, -EROFS,
			      "'%s' is a copy of another host's volume: clone a snapshot of it to "
			      "have one to change.",
			      volume->name);
}

int command_new_name(struct command *command, const char *name)
{
	if (!text_name_ok(name, strlen(name)))
		return command_refuse(command, -EINVAL,
				      "'%s' cannot be a name: use letters, digits, dots, dashes "
				      "and underscores, at most 63, the first a letter or digit.",
				      name);
	if (volume_by_name(command->store, name))
		return command_refuse(command, -EEXIST,
				      "A volume named '%s' exists already; choose another name.",
				      name);
	return 0;
}

static int check_size(struct command *command, uint64_t size_bytes)
{
	if (size_bytes == 0)
		return command_refuse(command, -EINVAL, "A volume cannot have size 0.");
	if (size_bytes % BLOCK_BYTES)
		return command_refuse(command, -EINVAL,
				      "A volume's size must be a multiple of 4096 bytes; %llu is "
				      "the next one.",
				      (unsigned long long)round_up(size_bytes, BLOCK_BYTES));
	if (size_bytes > VOLUME_BYTES_MAX)
		return command_refuse(command, -ERANGE, "A volume can have at most 256 TiB.");
	return 0;
}

static int check_options(struct command *command, int level, uint32_t frame_bytes)
{
	if (level < 1 || level > 19)
		return command_refuse(command, -EINVAL, "A level must be from 1 to 19.");
	if (!frame_bytes_good(frame_bytes))
		return command_refuse(command, -EINVAL,
				      "A frame must have 4K, 8K, 16K or 64K bytes.");
	return 0;
}

/* ---- create, grow, rename, set ---- */

static void volume_begin(struct command *command, struct volume *volume, const char *name)
{
	struct store *store = command->store;
	*volume = (struct volume){.number = store->next_number++,
				  .created_wall_ns = env_wall_ns(store->env),
				  .domain = DOMAIN_OWN,
				  .epoch = 1};
	env_random(store->env, volume->uuid, 16);
	volume->uuid[6] = (uint8_t)((volume->uuid[6] & 0x0f) | 0x40);
	volume->uuid[8] = (uint8_t)((volume->uuid[8] & 0x3f) | 0x80);
	memcpy(volume->name, name, strlen(name) + 1);
}

static int prepare_create(struct command *command)
{
	struct volume_options *o = &command->options;
	struct volume volume;
	int level = o->level ? o->level : 1;
	uint32_t frame_bytes = o->frame_bytes ? o->frame_bytes : FRAME_BYTES_DEFAULT;
	int res = command_new_name(command, command->name);
	if (res == 0)
		res = check_size(command, o->size_bytes);
	if (res == 0)
		res = check_options(command, level, frame_bytes);
	if (res < 0)
		return res;
	if ((res = command_volume_room(command, 1)) < 0)
		return res;
	volume_begin(command, &volume, command->name);
	if (command->other[0]) {
		const struct domain *domain = domain_by_name(command->store, command->other);
		if (!domain)
			return command_refuse(command, -ENOENT, "There is no domain named '%.63s'.",
					      command->other);
		volume.domain = domain->number;
	}
	volume.size_bytes = o->size_bytes;
	volume.quota_bytes = o->quota_bytes;
	volume.level = level;
	volume.frame_bytes = frame_bytes;
	command_add(command, volume_encode(&volume, command_record(command)));
	return 0;
}

static bool copy_other(struct command *command, const char *other)
{
	if (strlen(other) < sizeof command->other) {
		memcpy(command->other, other, strlen(other) + 1);
		return true;
	}
	memset(command->other, 'x', sizeof command->other - 1); /* refused as too long a name */
	return false;
}

void store_volume_create(struct store *store, struct admin_op *op, const char *name,
			 const struct volume_options *options)
{
	struct command *command = command_new(store, op, name, prepare_create);
	if (!command)
		return;
	command->options = *options;
	command->options.domain = NULL; /* the caller's */
	if (options->domain)
		copy_other(command, options->domain);
	command_start(command);
}

static void put_changed(struct command *command, const struct volume *changed)
{
	command_add(command, volume_encode_flags(changed, PUT_ADMIN, command_record(command)));
}

static int prepare_grow(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = command_own(command, volume)) < 0 ||
	    (res = check_size(command, command->number)) < 0)
		return res;
	if (command->number < volume->size_bytes)
		return command_refuse(command, -EINVAL,
				      "'%s' has %llu bytes: a volume can only grow.", command->name,
				      (unsigned long long)volume->size_bytes);
	struct volume changed = *volume;
	changed.size_bytes = command->number;
	if (changed.size_bytes != volume->size_bytes &&
	    (res = command_position(command, volume, &changed)))
		return res;
	put_changed(command, &changed);
	return 0;
}

void store_volume_grow(struct store *store, struct admin_op *op, const char *name,
		       uint64_t size_bytes)
{
	struct command *command = command_new(store, op, name, prepare_grow);
	if (!command)
		return;
	command->number = size_bytes;
	command_start(command);
}

static int prepare_rename(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = command_own(command, volume)) < 0 ||
	    (res = command_new_name(command, command->other)) < 0)
		return res;
	struct volume changed = *volume;
	snprintf(changed.name, sizeof changed.name, "%.63s", command->other);
	put_changed(command, &changed);
	return 0;
}

void store_volume_rename(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name)
{
	struct command *command = command_new(store, op, name, prepare_rename);
	if (!command)
		return;
	copy_other(command, new_name);
	command_start(command);
}

static int prepare_set(struct command *command)
{
	int res = 0;
	uint64_t number;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	if (text_size(command->value, &number) < 0)
		return command_refuse(command, -EINVAL, "'%s' is no value for %s: give a number.",
				      command->value, command->other);
	struct volume changed = *volume;
	if (strcmp(command->other, "level") == 0)
		changed.level = (int)min_u64(number, 1000);
	else if (strcmp(command->other, "quota") == 0)
		changed.quota_bytes = number;
	else if (strcmp(command->other, "frame") == 0)
		changed.frame_bytes = (uint32_t)min_u64(number, GIB);
	else if (strcmp(command->other, "iops") == 0)
		changed.limits.iops = number;
	else if (strcmp(command->other, "bandwidth") == 0)
		changed.limits.bytes_per_s = number;
	else if (strcmp(command->other, "burst") == 0)
		changed.limits.burst_s = (uint32_t)min_u64(number, UINT32_MAX);
	else
		return command_refuse(command, -EINVAL,
				      "'%.32s' is no key of a volume: level, quota, frame, iops, "
				      "bandwidth and burst are.",
				      command->other);
	if (changed.limits.burst_s > BURST_S_MAX)
		return command_refuse(command, -EINVAL, "A burst is at most one hour (3600).");
	res = check_options(command, changed.level, changed.frame_bytes);
	if (res == 0)
		put_changed(command, &changed);
	return res;
}

void store_volume_set(struct store *store, struct admin_op *op, const char *name, const char *key,
		      const char *value)
{
	struct command *command = command_new(store, op, name, prepare_set);
	if (!command)
		return;
	copy_other(command, key);
	snprintf(command->value, sizeof command->value, "%s", value);
	command_start(command);
}

/* ---- delete, clone, trash ---- */

static int check_attached(struct command *command, const struct volume *volume)
{
	if (volume->views == 0)
		return 0;
	snprintf(command->op->holder, sizeof command->op->holder, "%s", volume->name);
	return command_refuse(command, -EBUSY,
			      "'%s' is attached %u time%s: disconnect its NBD clients first.",
			      volume->name, volume->views, volume->views == 1 ? "" : "s");
}

static int prepare_delete(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = check_attached(command, volume)) < 0 ||
	    (res = command_leased(command, volume, NULL)) < 0)
		return res;
	for (uint32_t i = 0; i < store->snapshot_count && res == 0; i++)
		if (store->snapshots[i]->volume == volume->number)
			res = command_retained(command, store->snapshots[i]);
	if (res < 0)
		return res;
	struct volume changed = *volume;
	changed.state = OBJECT_TRASH;
	changed.deleted_wall_ns = env_wall_ns(store->env);
	changed.deleted_age_ns = store_age_ns(store);
	command->busy_volume = volume->number;
	put_changed(command, &changed);
	return 0;
}

void store_volume_delete(struct store *store, struct admin_op *op, const char *name)
{
	struct command *command = command_new(store, op, name, prepare_delete);
	if (command)
		command_start(command);
}

static int prepare_clone(struct command *command)
{
	int res = 0;
	struct snapshot *snapshot = command_snapshot(command, command->name, &res);
	if (!snapshot || (res = command_new_name(command, command->other)) < 0)
		return res;
	if ((res = command_volume_room(command, 1)) < 0)
		return res;
	res = command_seal(command, snapshot);
	if (res)
		return res;
	const struct volume *origin = volume_by_number(command->store, snapshot->volume);
	struct volume volume;
	volume_begin(command, &volume, command->other);
	volume.size_bytes = snapshot->size_bytes;
	volume.domain = origin->domain;
	volume.level = origin->level;
	volume.frame_bytes = origin->frame_bytes;
	volume.top = snapshot->top;
	volume.mapped_chunks = snapshot->mapped_chunks;
	snprintf(volume.origin, sizeof volume.origin, "%s", command->name);
	command_add(command, volume_encode(&volume, command_record(command)));
	return 0;
}

void store_volume_clone(struct store *store, struct admin_op *op, const char *snapshot,
			const char *new_name)
{
	struct command *command = command_new(store, op, snapshot, prepare_clone);
	if (!command)
		return;
	copy_other(command, new_name);
	command_start(command);
}

static int no_such_trash(struct command *command)
{
	return command_refuse(command, -ENOENT,
			      "The trash has nothing with the number %llu; vstorectl trash list "
			      "shows what it has.",
			      (unsigned long long)command->number);
}

static int restore_snapshot(struct command *command, const struct snapshot *snapshot)
{
	struct snapshot changed = *snapshot;
	const struct volume *volume = volume_by_number(command->store, snapshot->volume);
	const char *name = command->other[0] ? command->other : snapshot->name;
	if (volume->state == OBJECT_TRASH)
		return command_refuse(command, -EBUSY,
				      "Its volume '%s' is in the trash: restore number %u first.",
				      volume->name, volume->number);
	if (!text_name_ok(name, strlen(name)) || snapshot_of(command->store, volume->number, name))
		return command_refuse(command, -EEXIST,
				      "'%s@%s' exists, or is no name; give another with --as.",
				      volume->name, name);
	changed.state = OBJECT_LIVE;
	changed.deleted_wall_ns = 0;
	snprintf(changed.name, sizeof changed.name, "%.63s", name);
	command_add(command, snapshot_encode_flags(&changed, PUT_ADMIN, command_record(command)));
	return 0;
}

static int prepare_trash_restore(struct command *command)
{
	struct store *store = command->store;
	struct volume *volume = volume_by_number(store, (uint32_t)command->number);
	struct snapshot *snapshot = snapshot_by_number(store, (uint32_t)command->number);
	if (snapshot && snapshot->state == OBJECT_TRASH)
		return restore_snapshot(command, snapshot);
	if (!volume || volume->state != OBJECT_TRASH)
		return no_such_trash(command);
	struct volume changed = *volume;
	const char *name = command->other[0] ? command->other : volume->name;
	int res = 0;
	if (!volume->replica)
		res = command_new_name(command, name);
	else if (beside_is(volume))
		res = command_refuse(command, -EBUSY,
				     "Number %u is what '%.63s%.64s' is, or was, received into: it "
				     "goes when that is here, or with the trash.",
				     volume->number, volume->name, volume->origin);
	else if (command->other[0])
		res = command_own(command, volume);
	else if (volume_by_name(store, name))
		res = command_refuse(command, -EEXIST, "A copy named '%s' exists already.", name);
	if (res < 0)
		return res;
	changed.state = OBJECT_LIVE;
	changed.deleted_wall_ns = 0;
	snprintf(changed.name, sizeof changed.name, "%.63s", name);
	put_changed(command, &changed);
	return 0;
}

void store_trash_restore(struct store *store, struct admin_op *op, uint64_t number, const char *as)
{
	struct command *command = command_new(store, op, "", prepare_trash_restore);
	if (!command)
		return;
	command->number = number;
	copy_other(command, as ? as : "");
	command_start(command);
}

static int prepare_purge(struct command *command)
{
	struct store *store = command->store;
	uint32_t number = (uint32_t)command->number;
	struct volume *volume = volume_by_number(store, number);
	struct snapshot *snapshot = snapshot_by_number(store, number);
	command->wants_gc = true;
	if (snapshot && snapshot->state == OBJECT_TRASH) {
		if (snapshot->views)
			return command_refuse(command, -EBUSY, "The snapshot is attached.");
		command->busy_snapshots[command->busy_snapshot_count++] = number;
		command_add(command,
			    record_number(LOG_DEL_SNAPSHOT, number, command_record(command)));
		return 0;
	}
	if (!volume || volume->state != OBJECT_TRASH)
		return no_such_trash(command);
	int res = check_attached(command, volume);
	if (res < 0)
		return res;
	if (fold_volume(store) == volume)
		return WAITING;
	command->busy_volume = number;
	command_add(command, record_number(LOG_DEL_VOLUME, number, command_record(command)));
	return 0;
}

void store_trash_purge(struct store *store, struct admin_op *op, uint64_t number)
{
	struct command *command = command_new(store, op, "", prepare_purge);
	if (!command)
		return;
	command->number = number;
	command_start(command);
}
