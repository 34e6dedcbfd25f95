/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features of the format that a store may lack, being older than them, and the step that adds them.
 *
 * Keeps true:
 *  - nothing that an older version cannot read is written before the feature that allows it is in
 * both copies of the superblock, durably: a crash in between leaves a store of either kind, and
 * each is right for what is in it;
 *  - only an administrator's command does that: opening never changes a format.
 */
#include "storage/store/behind.h"

#include "storage/rt/log_event.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

struct upgrade {
	struct store *store;
	struct admin_op *op;
	struct superblock sb;
	struct env_file *file;
	uint8_t block[SUPERBLOCK_BYTES];
	unsigned copy;
	bool syncing;
	struct io_op io;
};

static const char *const feature_names[] = {"policies", "recompression", "followers",
					    "lines",	"voters",	 "promises",
					    "returns",	"shipping",	 "home"};
static_assert(FEATURES_ALL == (1u << (sizeof feature_names / sizeof *feature_names)) - 1,
	      "each feature has its name");

const char *store_feature_name(unsigned bit)
{
	return bit < sizeof feature_names / sizeof *feature_names ? feature_names[bit] : NULL;
}

bool store_has(const struct store *store, enum feature feature)
{
	return store->sb.feature_incompatible & feature;
}

void upgrade_exit(struct store *store)
{
	if (!store->upgrade)
		return;
	env_file_close(store->upgrade->file);
	free(store->upgrade);
	store->upgrade = NULL;
}

bool upgrade_idle(const struct store *store)
{
	return !store->upgrade;
}

static void upgrade_end(struct upgrade *upgrade, int res)
{
	struct store *store = upgrade->store;
	struct admin_op *op = upgrade->op;
	if (res == 0)
		store->sb = upgrade->sb;
	else if (!op->sentence[0])
		snprintf(op->sentence, SENTENCE_BYTES,
			 "The superblock could not be written (%s): check the disk, then try "
			 "again; the store serves on as it was.",
			 vs_strerror(res));
	log_event(res ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "store.upgrade",
		  "features=%llx result=\"%s\"", (unsigned long long)store->sb.feature_incompatible,
		  res ? vs_strerror(res) : "done");
	upgrade_exit(store);
	env_complete(store->env, &op->op, res);
}

/* Write and sync of the first copy, then of the second. */
static void upgrade_step(struct io_op *io)
{
	struct upgrade *upgrade = container_of(io, struct upgrade, io);
	if (io->res < 0 || (!upgrade->syncing && io->res < SUPERBLOCK_BYTES)) {
		upgrade_end(upgrade, io->res < 0 ? (int)io->res : -EIO);
		return;
	}
	if (!upgrade->syncing) {
		upgrade->syncing = true;
		env_file_sync(upgrade->file, io);
		return;
	}
	upgrade->syncing = false;
	if (++upgrade->copy == 2) {
		upgrade_end(upgrade, 0);
		return;
	}
	env_file_write(upgrade->file, io, upgrade->block, SUPERBLOCK_BYTES,
		       upgrade->copy * (uint64_t)SUPERBLOCK_COPY_OFFSET, 0);
}

static int refused(struct admin_op *op, int code, const char *sentence)
{
	snprintf(op->sentence, SENTENCE_BYTES, "%s", sentence);
	return code;
}

static int upgrade_begin(struct store *store, struct admin_op *op)
{
	if (store->upgrade)
		return refused(op, -EBUSY,
			       "The store is being upgraded already: wait for that to end.");
	if (store->failed || store->read_only || store->closing)
		return refused(op, -EROFS,
			       store->failed ? store->reason
					     : "The store is open for reading only: its format "
					       "cannot be changed now.");
	struct upgrade *upgrade = store->upgrade = calloc(1, sizeof(*upgrade));
	if (!upgrade)
		return -ENOMEM;
	*upgrade = (struct upgrade){.store = store, .op = op, .sb = store->sb};
	upgrade->sb.generation++;
	upgrade->sb.feature_incompatible |= FEATURES_ALL;
	superblock_encode(&upgrade->sb, upgrade->block);
	upgrade->io.done = upgrade_step;
	int res = env_file_open(store->dir, "superblock", 0, &upgrade->file);
	if (res < 0) {
		upgrade_exit(store);
		return res;
	}
	env_file_write(upgrade->file, &upgrade->io, upgrade->block, SUPERBLOCK_BYTES, 0, 0);
	return 0;
}

void store_upgrade(struct store *store, struct admin_op *op)
{
	bool current = (store->sb.feature_incompatible & FEATURES_ALL) == FEATURES_ALL;
	op->sentence[0] = op->holder[0] = 0;
	int res = current ? 0 : upgrade_begin(store, op);
	if (res < 0 && !op->sentence[0])
		snprintf(op->sentence, SENTENCE_BYTES, "The store could not be upgraded: %s.",
			 vs_strerror(res));
	if (res < 0 || current)
		env_complete(store->env, &op->op, res);
}
