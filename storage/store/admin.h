/* SPDX-License-Identifier: Apache-2.0 */
/* What admin.c, which runs commands, and volumes.c and snapshots.c, which define them, share. */
#ifndef STORAGE_STORE_ADMIN_H
#define STORAGE_STORE_ADMIN_H

#include "storage/store/catalog.h"
#include "storage/store/wait.h"

#define COMMAND_RECORDS_MAX (2 * SNAP_GROUP_MAX)

struct command_entry {
	struct command *command;
	struct log_entry entry;
};

struct command {
	struct store *store;
	struct admin_op *op;
	struct command *next;
	/* 0: the records say it; WAITING; negative: op->sentence says why. */
	int (*prepare)(struct command *command);
	char name[SNAP_NAME_ROOM], other[SNAP_NAME_ROOM], value[64];
	char names[SNAP_GROUP_MAX][SNAP_NAME_ROOM];
	size_t name_count;
	struct volume_options options;
	const struct store_offer *offer; /* of a receive: its owner's */
	struct policy_rules rules;
	struct told_policy told;
	struct follower_rules follow;
	struct follower_pace pace;
	const struct store_word *word; /* the voters agreed to it; NULL: nobody was asked */
	uint64_t base_term;
	uint64_t number;
	uint32_t volume_number; /* for who does not go by a name */
	uint32_t store_tag;	/* of a host that something went to */
	int (*choose)(struct admin_op *op, uint32_t ret_numbers[SNAP_GROUP_MAX]);
	bool wants_gc;

	/* From prepare: whom no view and no fold may meet meanwhile; numbers, 0: none. */
	uint32_t busy_volume;
	uint32_t busy_snapshots[SNAP_GROUP_MAX], busy_snapshot_count;
	uint32_t still_volume; /* whom no fold may meet; it may be read */
	uint8_t records[28 * 1024];
	uint32_t record_bytes, record_count;
	uint32_t record_at[COMMAND_RECORDS_MAX], record_size[COMMAND_RECORDS_MAX];
	struct command_entry entries[COMMAND_RECORDS_MAX];
	struct log_flush_op flush;
	struct io_op start_op;
	bool starting; /* start_op is the loop's: it must not end, which frees it, before */
	int res;
};

/* NULL: the op has ended with an error already. The first is zeroed memory, for who makes one op of
 * several commands. */
void *admin_memory(struct store *store, struct admin_op *op, size_t bytes);
struct command *command_new(struct store *store, struct admin_op *op, const char *name,
			    int (*prepare)(struct command *command));
void command_start(struct command *command);
void *command_record(struct command *command);		   /* where the next record goes ... */
void command_add(struct command *command, uint32_t bytes); /* ... and that it is there */
__attribute__((format(printf, 3, 4))) int command_refuse(struct command *command, int code,
							 const char *format, ...);

/* Whether so many more of them may be: 0, or refused. */
int command_volume_room(struct command *command, size_t count);
int command_snapshot_room(struct command *command, size_t count);
/* The records freeze the volume so many times, SNAP_GROUP_MAX at most: 0, or WAITING, and it is
 * folded meanwhile. */
int command_layer_room(struct command *command, struct volume *volume, uint32_t count);

/* For a change that no record of data tells: the volume's next position, which nobody who follows
 * it can stand at yet; one record follows, and must go into the log at once, for vseqs are in its
 * order, and none is left out. 0 or WAITING. */
int command_position(struct command *command, struct volume *volume, struct volume *changed);

int policy_room(struct command *command); /* for one more */
/* Of home.c: the policy that a copy's original has, if that is said and is not what is known: a
 * record for that. */
void home_told(struct command *command, const struct volume *copy, const struct told_policy *told);
/* The copy can become a volume that has its original's policy: 0, or refused; and it does, by a
 * record for that policy, where it is to be made. */
int home_room(struct command *command, const struct volume *copy);
void home_comes_true(struct command *command, const struct volume *copy, struct volume *changed);

/* Of volumes.c: the sentences that both need. NULL: refused, *ret_res says how. */
struct volume *command_volume(struct command *command, const char *name, int *ret_res);
/* -EROFS: a copy follows its original, in name and size as in data. */
int command_own(struct command *command, const struct volume *volume);
/* -EBUSY: somebody else than `holder` (NULL: anybody) has its lease. */
int command_leased(struct command *command, const struct volume *volume, const uint8_t *holder);
int command_new_name(struct command *command, const char *name);
struct snapshot *command_snapshot(struct command *command, const char *name, int *ret_res);
/* Of quorum.c: the host comes to, or leaves, those that vote: a record for that, if the volume has
 * voters. 0, or refused. */
int word_follows(struct command *command, struct volume *volume, const char *host, bool in_step);
/* This host owns the volume from now on: by command->word, or by force. First the epoch in which it
 * begins; then, behind the volume's own record, all else that says so. */
uint64_t word_epoch(const struct command *command, const uint8_t uuid[16]);
int word_takes_over(struct command *command, const uint8_t uuid[16], uint32_t number,
		    uint64_t epoch);
/* 0: the snapshot's root is known; WAITING: it is being folded; negative. */
int command_seal(struct command *command, struct snapshot *snapshot);
/* -VS_ERETAINED: a hold or a date forbids that the snapshot goes. */
int command_retained(struct command *command, const struct snapshot *snapshot);
/* The snapshot is taken of what its volume is at that commit, and gets its number. */
void command_snap(struct command *command, struct snapshot *snapshot);

#endif
