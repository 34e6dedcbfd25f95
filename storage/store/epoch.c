/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume's epoch: how often it was opened for writing, told by every record of its data.
 *
 * Keeps true: after an opening of the store, the first write to a volume, and the first change of
 * its size or of all that it holds, waits until a record with a higher epoch, and an incarnation
 * that nobody else has, is durable. So {epoch, vseq} never names two writes, also where a power cut
 * took the end of the log and the vseqs are given again: those have a new epoch. Replicas compare
 * {epoch, vseq}, and refuse what comes from an older one.
 */
#include "storage/store/epoch.h"

#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/catalog.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"

static void epoch_durable(struct io_op *op)
{
	struct volume *volume = container_of(op, struct volume, epoch_raise.flush.op);
	struct store *store = volume->epoch_raise.store;
	volume->epoch_raise.state = op->res == 0 ? EPOCH_RAISED : EPOCH_OLD;
	if (op->res == 0) /* and so is all that came before it */
		volume->durable_vseq = max_u64(volume->durable_vseq, volume->vseq);
	if (op->res < 0)
		store_fail(store, (int)op->res, "the epoch of a volume could not be made durable");
	write_kick(store);
	admin_kick(store);
}

static void epoch_logged(struct log_entry *entry, int res)
{
	struct volume *volume = container_of(entry, struct volume, epoch_raise.entry);
	struct store *store = volume->epoch_raise.store;
	if (res == 0)
		res = catalog_apply(store, volume->epoch_raise.record, EPOCH_RECORD_BYTES, NULL);
	volume->epoch_raise.flush = (struct log_flush_op){.op.done = epoch_durable};
	if (res < 0)
		env_complete(store->env, &volume->epoch_raise.flush.op, res);
	else
		log_flush(store->log, &volume->epoch_raise.flush);
}

bool epoch_ready(struct store *store, struct volume *volume)
{
	struct epoch_raise *raise = &volume->epoch_raise;
	uint8_t incarnation[16];
	if (volume->replica)
		return true; /* its original's */
	if (raise->state == EPOCH_RAISED || store->failed)
		return true; /* who writes to a failed store is told elsewhere */
	if (raise->state == EPOCH_RAISING || !log_room(store->log, EPOCH_RECORD_BYTES, 0, true))
		return false; /* the kicks follow a commit, too */
	env_random(store->env, incarnation, sizeof incarnation);
	record_epoch(volume->number, volume->epoch + 1, incarnation, raise->record);
	raise->state = EPOCH_RAISING;
	raise->store = store;
	raise->entry.done = epoch_logged;
	log_append(store->log, &raise->entry, raise->record, EPOCH_RECORD_BYTES, NULL, 0, true);
	return false;
}

static int prepare_line(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = command_own(command, volume)) < 0)
		return res;
	return epoch_ready(command->store, volume) ? 0 : WAITING;
}

void store_line_begin(struct store *store, struct admin_op *op, const char *volume)
{
	struct command *command = command_new(store, op, volume, prepare_line);
	if (command)
		command_start(command);
}
