/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes to volumes and snapshots, one after the other.
 *
 * Each is a command: `prepare` looks whether it may be done, and writes the log records that do it;
 * it is asked again when it had to wait. The records of a command go into one commit, so that they
 * happen together or not at all; the command ends when that commit is durable.
 */
#include "storage/store/admin.h"

#include "storage/rt/log_event.h"
#include "storage/store/behind.h"
#include "storage/store/epoch.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct admins {
	struct store *store;
	struct command *head, **tail;
	bool committing, kicking;
	struct admin_op own; /* empties the trash */
	bool own_busy, own_refused;
};

int admin_init(struct store *store)
{
	store->admins = calloc(1, sizeof(*store->admins));
	if (!store->admins)
		return -ENOMEM;
	store->admins->store = store;
	store->admins->tail = &store->admins->head;
	return 0;
}

void admin_exit(struct store *store)
{
	if (!store->admins)
		return;
	while (store->admins->head) { /* only when the env has crashed */
		struct command *command = store->admins->head;
		store->admins->head = command->next;
		free(command);
	}
	free(store->admins);
	store->admins = NULL;
}

bool admin_idle(const struct store *store)
{
	return !store->admins->head;
}

int command_refuse(struct command *command, int code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(command->op->sentence, SENTENCE_BYTES, format, args);
	va_end(args);
	return code;
}

void *command_record(struct command *command)
{
	assert(command->record_count < COMMAND_RECORDS_MAX);
	return command->records + command->record_bytes;
}

void command_add(struct command *command, uint32_t bytes)
{
	command->record_at[command->record_count] = command->record_bytes;
	command->record_size[command->record_count++] = bytes;
	command->record_bytes += bytes;
	assert(command->record_bytes + LOG_RECORD_BYTES_MAX <= sizeof command->records);
}

int command_volume_room(struct command *command, size_t count)
{
	if (command->store->volume_count + count <= VOLUMES_MAX)
		return 0;
	return command_refuse(command, -ENOSPC,
			      "The store has %u volumes, which is the most; purge some.",
			      VOLUMES_MAX);
}

int command_snapshot_room(struct command *command, size_t count)
{
	if (command->store->snapshot_count + count <= SNAPSHOTS_MAX)
		return 0;
	return command_refuse(command, -ENOSPC,
			      "The store has %u snapshots, which is the most; purge some.",
			      SNAPSHOTS_MAX);
}

static_assert(SNAP_GROUP_MAX + 2 < LAYERS_MAX, "a group of one volume fits in, once it is folded");

int command_layer_room(struct command *command, struct volume *volume, uint32_t count)
{
	if (volume->layer_count + count + 1 < LAYERS_MAX) /* a fold may freeze it meanwhile, too */
		return 0;
	volume->fold_wanted = true;
	fold_kick(command->store);
	return WAITING;
}

int command_position(struct command *command, struct volume *volume, struct volume *changed)
{
	if (!epoch_ready(command->store, volume) || write_behind(command->store) ||
	    !log_room(command->store->log, command->record_bytes + LOG_RECORD_BYTES_MAX, 0, true))
		return WAITING; /* a position that was taken is in the log: none is left out */
	changed->vseq = ++volume->admitted_vseq;
	return 0;
}

/* ---- running ---- */

static void command_busy(struct command *command, bool busy)
{
	struct volume *volume = volume_by_number(command->store, command->busy_volume);
	struct volume *still = volume_by_number(command->store, command->still_volume);
	if (volume)
		volume->busy = busy;
	if (still)
		still->still = busy;
	for (uint32_t i = 0; i < command->busy_snapshot_count; i++) {
		struct snapshot *snapshot =
			snapshot_by_number(command->store, command->busy_snapshots[i]);
		if (snapshot)
			snapshot->busy = busy;
	}
}

static void command_end(struct command *command, int res)
{
	struct store *store = command->store;
	struct admins *admins = store->admins;
	struct admin_op *op = command->op;
	command_busy(command, false);
	admins->head = command->next;
	if (!admins->head)
		admins->tail = &admins->head;
	admins->committing = false;
	if (res < 0 && !op->sentence[0])
		snprintf(op->sentence, SENTENCE_BYTES, "The change could not be made: %.280s.",
			 store->failed ? store->reason : vs_strerror(res));
	bool gc = command->wants_gc && res == 0;
	free(command);
	env_complete(store->env, &op->op, res);
	if (gc)
		gc_want(store);
	fold_kick(store);
	admin_kick(store);
}

static void command_durable(struct io_op *op)
{
	struct command *command = container_of(op, struct command, flush.op);
	if (op->res == 0)
		words_durable(command->store);
	command_end(command, (int)op->res);
}

static void command_logged(struct log_entry *entry, int res)
{
	struct command_entry *item = container_of(entry, struct command_entry, entry);
	struct command *command = item->command;
	struct store *store = command->store;
	unsigned i = (unsigned)(item - command->entries);
	if (res == 0) {
		res = catalog_apply(store, command->records + command->record_at[i],
				    command->record_size[i], NULL);
		if (res < 0)
			store_fail(store, res, "a logged change could not be applied");
	}
	if (res < 0)
		command->res = res;
	if (i + 1 < command->record_count)
		return;
	if (command->res < 0) {
		command_end(command, command->res);
		return;
	}
	command->flush = (struct log_flush_op){.op.done = command_durable};
	if (MUTANT(49))
		env_complete(store->env, &command->flush.op, 0);
	else
		log_flush(store->log, &command->flush);
}

static int command_check(struct command *command)
{
	struct store *store = command->store;
	if (store->closing)
		return command_refuse(command, -ESHUTDOWN, "vstored is stopping; try again later.");
	if (store->failed)
		return command_refuse(command, -VS_EFAILSTOP, "%s", store->reason);
	if (store->read_only)
		return command_refuse(command, -EROFS, "The store is open for reading only.");
	return 0;
}

/* False: it waits. */
static bool command_run(struct command *command)
{
	struct store *store = command->store;
	command->record_count = 0;
	command->record_bytes = 0;
	command->busy_volume = command->busy_snapshot_count = command->still_volume = 0;
	int res = command_check(command);
	if (res == 0)
		res = command->prepare(command);
	if (res == WAITING)
		return false;
	if (res < 0 || command->record_count == 0) {
		command_end(command, res);
		return true;
	}
	if (!log_room(store->log, command->record_bytes, 0, true))
		return false;
	store->admins->committing = true;
	command_busy(command, true);
	for (unsigned i = 0; i < command->record_count; i++) {
		command->entries[i].command = command;
		command->entries[i].entry.done = command_logged;
		log_append(store->log, &command->entries[i].entry,
			   command->records + command->record_at[i], command->record_size[i], NULL,
			   0, !MUTANT(49));
	}
	return true;
}

void admin_kick(struct store *store)
{
	struct admins *admins = store->admins;
	if (!admins || admins->kicking)
		return;
	admins->kicking = true;
	while (admins->head && !admins->committing && !admins->head->starting &&
	       command_run(admins->head))
		;
	admins->kicking = false;
}

void *admin_memory(struct store *store, struct admin_op *op, size_t bytes)
{
	void *memory = calloc(1, bytes);
	op->sentence[0] = 0;
	op->holder[0] = 0;
	if (!memory) {
		snprintf(op->sentence, SENTENCE_BYTES,
			 "There is no memory for this now; try again.");
		env_complete(store->env, &op->op, -ENOMEM);
	}
	return memory;
}

struct command *command_new(struct store *store, struct admin_op *op, const char *name,
			    int (*prepare)(struct command *command))
{
	struct command *command = admin_memory(store, op, sizeof(*command));
	if (!command)
		return NULL;
	if (strlen(name) >= sizeof command->name) {
		snprintf(op->sentence, SENTENCE_BYTES,
			 "A name is too long: at most 63 characters.");
		env_complete(store->env, &op->op, -EINVAL);
		free(command);
		return NULL;
	}
	command->store = store;
	command->op = op;
	command->prepare = prepare;
	memcpy(command->name, name, strlen(name) + 1);
	return command;
}

static void command_started(struct io_op *op)
{
	struct command *command = container_of(op, struct command, start_op);
	command->starting = false;
	admin_kick(command->store);
}

void command_start(struct command *command)
{
	struct admins *admins = command->store->admins;
	*admins->tail = command;
	admins->tail = &command->next;
	if (admins->head != command)
		return; /* the one before it goes on with it */
	command->starting = true;
	command->start_op.done = command_started;
	env_complete(command->store->env, &command->start_op, 0);
}

/* ---- the trash, emptied of what is overdue ---- */

static void own_done(struct io_op *op)
{
	struct admins *admins = container_of(op, struct admins, own.op);
	admins->own_busy = false;
	admins->own_refused = op->res < 0;
	if (op->res < 0)
		log_event(LOG_LEVEL_WARNING, "trash.purge_failed", "error=\"%s\"",
			  admins->own.sentence);
}

bool admin_purge_overdue(struct store *store)
{
	struct admins *admins = store->admins;
	uint64_t now = store_age_ns(store), delay = store->options.trash_delay_ns;
	uint32_t number = 0;
	if (admins->own_busy)
		return true;
	if (admins->own_refused || store->failed || store->read_only)
		return false;
	for (uint32_t i = 0; i < store->volume_count && !number; i++)
		if (store->volumes[i]->state == OBJECT_TRASH && store->volumes[i]->views == 0 &&
		    now > store->volumes[i]->deleted_age_ns + delay)
			number = store->volumes[i]->number;
	for (uint32_t i = 0; i < store->snapshot_count && !number; i++)
		if (store->snapshots[i]->state == OBJECT_TRASH && store->snapshots[i]->views == 0 &&
		    now > store->snapshots[i]->age_ns + delay)
			number = store->snapshots[i]->number;
	if (!number)
		return false;
	admins->own_busy = true;
	admins->own.op.done = own_done;
	store_trash_purge(store, &admins->own, number);
	return true;
}

void admin_tick(struct store *store)
{
	store->admins->own_refused = false; /* tried again, but not as often as somebody asks */
	admin_purge_overdue(store);
}
