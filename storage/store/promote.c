/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of another host's volume becomes the volume here: what it holds is kept, then the volume
 * is made of its newest snapshot, in a life of its own.
 *
 * Keeps true: the new life's epoch is above all that is known here of the volume, as whoever's
 * copy; the copy stays, and what it held is a snapshot of it; without a majority, a person has
 * been told what is lost.
 */
#include "storage/store/replica.h"

#include "proto/text.h"
#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/lines.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdio.h>

/* ---- the epoch ---- */

/* A term for every four seconds since 2023; what is left above is for promotions that count on from
 * one that a clock of long after put at the end. A decision waits for the next four seconds: one
 * that was made before it, on a host of which nothing is heard here, is in these at the latest, and
 * the same term for both is what neither would give way to. */
#define DECISIONS_FROM_NS (UINT64_C(1672531200) * NSEC_PER_SEC)
#define DECISION_TERM_MAX (EPOCH_MAX / EPOCH_TERM - (UINT64_C(1) << 24))

uint64_t replica_epoch_next(const struct store *store, const uint8_t uuid[16])
{
	uint64_t epoch = 0;
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (memcmp(store->volumes[i]->uuid, uuid, 16) == 0)
			epoch = max_u64(epoch, replica_epoch(store, store->volumes[i]));
	return epoch_next_term(epoch);
}

uint64_t replica_epoch_decided(const struct store *store, const uint8_t uuid[16])
{
	uint64_t wall_ns = env_wall_ns(store->env), term = 0;
	if (wall_ns > DECISIONS_FROM_NS)
		term = min_u64((wall_ns - DECISIONS_FROM_NS) / DECISION_NS, DECISION_TERM_MAX);
	return max_u64(replica_epoch_next(store, uuid), term * EPOCH_TERM);
}

uint64_t replica_decides_ns(const struct store *store)
{
	uint64_t wall_ns = env_wall_ns(store->env), now_ns = env_now_ns(store->env);
	if (wall_ns < DECISIONS_FROM_NS) /* the time of day is of no help */
		return now_ns;
	return now_ns + DECISION_NS - (wall_ns - DECISIONS_FROM_NS) % DECISION_NS;
}

/* ---- the volume ---- */

/* A copy that can be promoted; NULL: *ret_res says why not. */
static struct volume *promotable(struct command *command, int *ret_res)
{
	struct volume *copy = command_volume(command, command->name, ret_res);
	if (!copy)
		return NULL;
	if (!copy->replica || (!copy->whole && !replica_newest(command->store, copy)))
		*ret_res = command_refuse(command, -EINVAL,
					  "'%s' is no copy of another host's volume that was "
					  "received in whole.",
					  command->name);
	else if ((*ret_res = command_new_name(command, command->other)) == 0)
		return copy;
	return NULL;
}

/* First what it holds becomes a snapshot, when it followed write by write. */
static int prepare_stand(struct command *command)
{
	int res = 0;
	struct volume *copy = promotable(command, &res);
	if (!copy)
		return res;
	if (!command->number) {
		char when[TIME_TEXT_BYTES] = "what is here";
		const struct snapshot *newest = replica_newest(command->store, copy);
		struct store_position at = replica_stands(command->store, copy);
		if (newest)
			text_time(newest->created_wall_ns, when);
		return command_refuse(
			command, -VS_ERETAINED,
			"What %.*s wrote to it after %s%s (epoch %llu, write %llu) is not "
			"here. Make sure that it is stopped there, then say "
			"--accept-loss.",
			(int)strcspn(copy->name, "/"), copy->name, when,
			copy->whole ? ", or later still," : "", (unsigned long long)at.epoch,
			(unsigned long long)at.vseq);
	}
	return replica_keep(command, copy);
}

/* Who was the primary follows, if it was followed and can be reached: when it returns it gives way
 * (yield.c), and is brought up to date. Nothing waits for it before it has all. */
static void carry_primary(struct command *command, const struct volume *copy, uint32_t number)
{
	const struct store *store = command->store;
	struct follower follower = {
		.volume = number,
		.rules = {.lag_ns = CARRIED_LAG_NS, .comes_in_step = copy->stepped}};
	bool followed = copy->stepped, known = false;
	memcpy(follower.host, copy->name, strcspn(copy->name, "/"));
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		followed |= store->snapshots[i]->volume == copy->number &&
			    store->snapshots[i]->policy == POLICY_CUT;
	for (uint32_t i = 0; i < store->peer_count; i++)
		known |= strcmp(store->peers[i].host, follower.host) == 0;
	if (followed && known && store->follower_count < FOLLOWERS_MAX &&
	    store_has(store, FEATURE_RETURNS))
		command_add(command,
			    follower_encode(LOG_PUT_FOLLOWER, &follower, command_record(command)));
}

/* The volume begins as the newest snapshot. */
static int prepare_promote(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	const struct volume *copy = promotable(command, &res);
	if (!copy)
		return res;
	struct snapshot *newest = replica_newest(store, copy);
	if (!newest)
		return command_refuse(command, -EINVAL, "'%s' has no snapshot.", command->name);
	if ((res = command_volume_room(command, 1)) < 0)
		return res;
	if ((res = command_seal(command, newest)))
		return res;
	uint8_t incarnation[16];
	struct store_lines lines;
	struct volume volume = {.number = store->next_number++,
				.created_wall_ns = env_wall_ns(store->env),
				.domain = copy->domain,
				.level = copy->level,
				.frame_bytes = copy->frame_bytes,
				.size_bytes = newest->size_bytes,
				.epoch = newest->epoch,
				.vseq = newest->vseq,
				.top = newest->top,
				.mapped_chunks = newest->mapped_chunks};
	memcpy(volume.uuid, copy->uuid, 16);
	memcpy(volume.name, command->other, strlen(command->other));
	snprintf(volume.origin, sizeof volume.origin, "%.63s@%.63s", copy->name, newest->name);
	command_add(command, volume_encode(&volume, command_record(command)));
	lines_until(&copy->lines, newest->epoch, &lines);
	if (store_has(store, FEATURE_LINES))
		command_add(command,
			    lines_encode(volume.number, &lines, 0, command_record(command)));
	env_random(store->env, incarnation, sizeof incarnation);
	uint64_t epoch = word_epoch(command, copy->uuid);
	command_add(command,
		    record_epoch(volume.number, epoch, incarnation, command_record(command)));
	if (!ballot_of(store, copy->uuid) || !store->host[0])
		carry_primary(command, copy, volume.number);
	return word_takes_over(command, copy->uuid, volume.number, epoch);
}

static int prepare_look(struct command *command)
{
	int res = 0;
	return promotable(command, &res) ? 0 : res;
}

/* What it holds is kept, and sealed; then the volume is there. */
static command_prepare *const promotion[] = {prepare_look, prepare_stand, prepare_promote, NULL};

void store_replica_promote_voted(struct store *store, struct admin_op *op, const char *name,
				 const char *new_name, const struct store_word *word,
				 uint64_t base_term)
{
	takeover_start(store, op, name, new_name, promotion, word, base_term);
}

void store_replica_promote(struct store *store, struct admin_op *op, const char *name,
			   const char *new_name, bool accept_loss)
{
	struct command *command;
	if (accept_loss) {
		takeover_start(store, op, name, new_name, promotion, NULL, 0);
	} else if ((command = command_new(store, op, name, prepare_stand))) {
		snprintf(command->other, sizeof command->other, "%s", new_name);
		command_start(command);
	}
}
