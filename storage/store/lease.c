/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leases: who alone may write to a volume.
 *
 * Keeps true: a view's write is admitted to the log only while it has the generation of the lease
 * that stands, or no lease stands and it has none; a generation is never given twice; a lease is
 * taken only when nobody writes without one. So what a holder left under way when its lease was
 * broken cannot land among the writes of the next one.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/requests.h"

#include <errno.h>
#include <stdio.h>

#define FENCED UINT64_MAX /* a generation that no lease has */

static bool leased(const struct volume *volume)
{
	return volume->lease.holder_name[0] != 0;
}

int lease_admit(const struct view *view)
{
	const struct volume *volume = view->volume;
	uint64_t writer = leased(volume) ? volume->lease.generation : 0;
	return view->generation == writer ? 0 : -VS_EFENCED;
}

void store_view_fence(struct view *view)
{
	view->generation = FENCED;
}

int command_leased(struct command *command, const struct volume *volume, const uint8_t *holder)
{
	const struct volume_lease *lease = &volume->lease;
	if (!leased(volume) || (holder && memcmp(lease->holder, holder, 16) == 0))
		return 0;
	snprintf(command->op->holder, sizeof command->op->holder, "%s", lease->holder_name);
	return command_refuse(command, -EBUSY,
			      "Volume %s is attached to %s: detach it there first, or, when that "
			      "host is lost, break its lease with vstorectl volume fence %s.",
			      volume->name, lease->holder_name, volume->name);
}

static void put_lease(struct command *command, const struct volume *volume,
		      const struct volume_lease *lease)
{
	struct volume changed = *volume;
	changed.lease = *lease;
	command->busy_volume = volume->number; /* nobody opens it for writing in between */
	command_add(command, volume_encode_flags(&changed, PUT_ADMIN, command_record(command)));
}

static int prepare_take(struct command *command)
{
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	const uint8_t *holder = (const uint8_t *)command->value;
	if (!volume || (res = command_own(command, volume)) < 0 ||
	    (res = command_leased(command, volume, holder)) < 0)
		return res;
	if (!text_name_ok(command->other, strlen(command->other)))
		return command_refuse(command, -EINVAL, "'%.63s' is no name for a holder.",
				      command->other);
	struct volume_lease lease = volume->lease;
	if (leased(volume) && strcmp(lease.holder_name, command->other) == 0)
		return 0;
	if (!leased(volume) && volume->writers > 0) {
		snprintf(command->op->holder, sizeof command->op->holder, "an NBD client");
		return command_refuse(command, -EBUSY,
				      "Volume %s is open for writing by %u NBD client%s without a "
				      "lease: disconnect %s first.",
				      volume->name, volume->writers,
				      volume->writers == 1 ? "" : "s",
				      volume->writers == 1 ? "it" : "them");
	}
	lease.generation += !leased(volume);
	memcpy(lease.holder, holder, 16);
	snprintf(lease.holder_name, sizeof lease.holder_name, "%.63s", command->other);
	put_lease(command, volume, &lease);
	return 0;
}

void store_lease_take(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t holder[16], const char *holder_name)
{
	struct command *command = command_new(store, op, name, prepare_take);
	if (!command)
		return;
	memcpy(command->value, holder, 16);
	snprintf(command->other, sizeof command->other, "%.*s", NAME_ROOM, holder_name);
	command_start(command);
}

static int prepare_end(struct command *command)
{
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	if (!leased(volume))
		return command_refuse(command, -ENOENT, "Nobody has a lease of volume %s.",
				      volume->name);
	if (command->number && memcmp(command->value, volume->lease.holder, 16) != 0)
		return command_refuse(command, -ENOENT, "Volume %s is not attached to that holder.",
				      volume->name);
	const struct volume_lease none = {.generation = volume->lease.generation};
	put_lease(command, volume, &none);
	return 0;
}

void store_lease_end(struct store *store, struct admin_op *op, const char *name,
		     const uint8_t *holder)
{
	struct command *command = command_new(store, op, name, prepare_end);
	if (!command)
		return;
	command->number = holder != NULL; /* it alone may end it */
	if (holder)
		memcpy(command->value, holder, 16);
	command_start(command);
}
