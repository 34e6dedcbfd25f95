/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume of this host becomes a copy of another host's, which was promoted while this one was
 * away: the opposite of adopt.c. The new primary's offer is what tells it so; what comes behind
 * that is a transfer like any other, which asks for what differs and no more.
 *
 * Keeps true:
 *  - what this host has and the new primary does not is a snapshot, fenced-EPOCH, in the commit
 *    that gives the volume up; where it has nothing of the kind there is none, and the state that
 *    it had is kept as a cut until the first transfer is whole;
 *  - it gives way to who has a copy by its own rules, or is the owner by its voters' word, and in a
 *    later promotion; to nobody else, and so to no old primary, and to no store from a backup that
 *    was not promoted since;
 *  - who is still answered is never cut off. Who is not, because the volume is in step, is told:
 *    its flushes end with an error, and it opens nothing anew (volume_superseded);
 *  - one commit: there is the volume, or the copy with all its snapshots, and nothing between.
 */
#include "storage/store/replica.h"

#include "storage/rt/log_event.h"
#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/mutant.h"
#include "storage/store/requests.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

/* The new primary asks again sooner; after that its word is as good as none. */
#define SUPERSEDED_NS (30 * NSEC_PER_SEC)
#define RETIRED_MAX 100u /* older copies of one name */

bool volume_superseded(const struct store *store, const struct volume *volume)
{
	return volume->superseded_until_ns > env_now_ns(store->env);
}

bool store_yields(const struct store *store, const char *host, const uint8_t uuid[16],
		  uint64_t epoch)
{
	const struct volume *volume = served_here(store, uuid);
	const struct ballot *ballot = ballot_of(store, uuid);
	const struct store_word *word = ballot ? &ballot->word : NULL;
	bool known = word && strcmp(word->voters[word->owner], host) == 0;
	if (!volume || !store_has(store, FEATURE_RETURNS) ||
	    epoch / EPOCH_TERM <= volume->epoch / EPOCH_TERM)
		return false;
	for (uint32_t i = 0; i < store->follower_count && !word; i++)
		known |= store->followers[i].volume == volume->number &&
			 strcmp(store->followers[i].host, host) == 0;
	return known;
}

/* ---- what only this host has ---- */

/* The lines of both are the same up to some opening; behind it, or behind the write where the other
 * one's next opening begins, what is here is not there. True also where that cannot be told. */
static bool has_more(const struct volume *volume, const struct store_lines *theirs)
{
	const struct store_lines *ours = &volume->lines;
	uint32_t our = 0, their = 0; /* the first ones that are not common */
	for (uint32_t i = 0; i < ours->count; i++)
		for (uint32_t k = 0; k < theirs->count; k++)
			if (ours->at[i].epoch == theirs->at[k].epoch &&
			    memcmp(ours->at[i].incarnation, theirs->at[k].incarnation, 16) == 0) {
				our = i + 1;
				their = k + 1;
			}
	bool cut_off = ours->count == STORE_LINES_MAX || theirs->count == STORE_LINES_MAX;
	if (their == theirs->count || (!our && cut_off))
		return volume->vseq > 0;
	return volume->vseq > theirs->at[their].begin_vseq ||
	       (our < ours->count && volume->vseq > ours->at[our].begin_vseq);
}

struct yielding {
	struct store *store;
	struct admin_op *op, own;
	char name[NAME_ROOM], kept[NAME_ROOM];
};

/* What the volume is now stays, under a name of its own. */
static int keep_state(struct command *command, const struct volume *volume)
{
	struct store *store = command->store;
	struct yielding *yielding = container_of(command->op, struct yielding, own);
	bool more = has_more(volume, &command->offer->lines) && !MUTANT(80);
	unsigned long long epoch = volume->epoch, vseq = volume->vseq;
	struct snapshot snapshot = {.volume = volume->number,
				    .policy = more ? 0 : POLICY_CUT,
				    .created_wall_ns = env_wall_ns(store->env)};
	yielding->kept[0] = 0;
	if (!more && replica_kept(store, volume))
		return 0;
	if (more)
		snprintf(snapshot.name, sizeof snapshot.name, "fenced-%llu", epoch);
	else
		snprintf(snapshot.name, sizeof snapshot.name, "cut-%llu-%llu-kept", epoch, vseq);
	if (more && snapshot_of(store, volume->number, snapshot.name)) /* somebody's own */
		snprintf(snapshot.name, sizeof snapshot.name, "fenced-%llu-%llu", epoch, vseq);
	if (snapshot_of(store, volume->number, snapshot.name))
		return !more ? 0
			     : command_refuse(command, -EEXIST,
					      "'%s' has a snapshot '%s' already, the name of what "
					      "only this host has: delete that one.",
					      volume->name, snapshot.name);
	int res = command_snapshot_room(command, 1);
	if (res < 0)
		return res;
	command_snap(command, &snapshot);
	if (more)
		memcpy(yielding->kept, snapshot.name, NAME_ROOM);
	return 0;
}

/* ---- its new name ---- */

static bool only_cuts(const struct store *store, const struct volume *copy)
{
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *at = store->snapshots[i];
		if (at->volume == copy->number &&
		    (at->policy != POLICY_CUT || snapshot_kept(store, at)))
			return false;
	}
	return true;
}

/* This host was promoted from a copy of that name, and has it still: it is older than the volume.
 * It goes to the trash, or, with what somebody made of it or sent to it, gets another name. */
static int make_place(struct command *command, const struct volume *volume)
{
	struct store *store = command->store;
	const struct volume *there = volume_by_name(store, command->name);
	char name[NAME_ROOM + 16] = "";
	if (!replica_name_good(command->name))
		return command_refuse(command, -ENAMETOOLONG,
				      "'%.80s' is too long a name for a copy: host and volume "
				      "share 62 characters.",
				      command->name);
	if (!there)
		return 0;
	if (memcmp(there->uuid, volume->uuid, 16) != 0)
		return command_refuse(command, -EEXIST,
				      "'%s' is the copy of another volume of that name: delete or "
				      "rename one of them.",
				      there->name);
	if (there->taken)
		return command_refuse(command, -EBUSY, RECEIVED_ALREADY, there->name);
	struct volume changed = *there;
	if (!there->views && only_cuts(store, there)) {
		changed.state = OBJECT_TRASH;
		changed.deleted_wall_ns = env_wall_ns(store->env);
		changed.deleted_age_ns = store_age_ns(store);
	} else {
		for (unsigned i = 1; i < RETIRED_MAX; i++) {
			snprintf(name, sizeof name, "%s.%u", there->name, i);
			if (!volume_by_name(store, name))
				break;
		}
		if (strlen(name) > NAME_BYTES_MAX || volume_by_name(store, name))
			return command_refuse(command, -EEXIST,
					      "'%s' is an older copy of the same volume, with "
					      "snapshots, and there is no name to move it to: "
					      "delete it.",
					      there->name);
		memset(changed.name, 0, sizeof changed.name);
		memcpy(changed.name, name, strlen(name));
	}
	command_add(command, volume_encode_flags(&changed, PUT_ADMIN, command_record(command)));
	return 0;
}

/* ---- who uses it ---- */

/* Snapshots may be read on. */
static uint32_t views_of_itself(const struct store *store, const struct volume *volume)
{
	uint32_t views = volume->views;
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		if (store->snapshots[i]->volume == volume->number)
			views -= store->snapshots[i]->views;
	return views;
}

static int check_users(struct command *command, struct volume *volume, const char *host)
{
	struct store *store = command->store;
	uint32_t views = views_of_itself(store, volume);
	if (!views)
		return 0;
	if (volume->in_step || volume->ballot) /* what it would say to who asks for a mandate */
		store_mandate_given(store, volume->number, host, 0);
	if (mandate_stands(store,
			   volume)) /* a person has to do something: not asked at once again */
		return command_refuse(
			command, -EAGAIN,
			"%.63s is asked to give '%s' up, and it is in use there by %u "
			"clients: disconnect them, and it becomes a copy; what only "
			"that host has is kept as a snapshot.",
			store->host[0] ? store->host : "A host", volume->name, views);
	if (!volume_superseded(store, volume)) {
		store->counters.volumes_superseded++;
		log_event(LOG_LEVEL_WARNING, "volume.superseded",
			  "volume=%s by=%s epoch=%llu clients=%u effect=\"they are disconnected\"",
			  volume->name, host, (unsigned long long)command->offer->epoch, views);
	}
	volume->superseded_until_ns = env_now_ns(store->env) + SUPERSEDED_NS;
	gate_look(store);
	return command_refuse(command, -EBUSY,
			      "The %u clients of '%s', which is given up, are disconnected first.",
			      views, volume->name);
}

/* ---- the command ---- */

static int prepare_yield(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	const struct volume *served = served_here(store, offer->volume_uuid);
	struct volume *volume = served ? volume_by_number(store, served->number) : NULL;
	const struct domain *domain = domain_by_uuid(store, offer->domain);
	struct yielding *yielding = container_of(command->op, struct yielding, own);
	const struct store_position nowhere = {.epoch = offer->epoch};
	char host[NAME_ROOM];
	int res;
	snprintf(host, sizeof host, "%.*s", (int)strcspn(command->name, "/"), command->name);
	if (!volume || !store_yields(store, host, offer->volume_uuid, offer->epoch))
		return 0; /* it went meanwhile, or is to stay: what comes next says so */
	memcpy(yielding->name, volume->name, NAME_ROOM);
	if (!domain || domain->number != volume->domain)
		return command_refuse(command, -EEXIST,
				      "'%s' is in another domain than what is offered of it.",
				      volume->name);
	if ((res = check_users(command, volume, host)) < 0)
		return res;
	if (volume->epoch_raise.state == EPOCH_RAISING || write_behind(store))
		return WAITING;
	if ((res = command_layer_room(command, volume, 1)) != 0)
		return res;
	if ((res = keep_state(command, volume)) < 0 || (res = make_place(command, volume)) < 0)
		return res;
	struct volume changed = *volume;
	changed.replica = true;
	changed.whole = changed.stepped = false;
	changed.policy = 0; /* its snapshots stay; those to come are the primary's */
	changed.quota_bytes = 0;
	changed.lease = (struct volume_lease){.generation = volume->lease.generation};
	memset(changed.name, 0, sizeof changed.name);
	memcpy(changed.name, command->name, strlen(command->name));
	command->busy_volume = volume->number;
	command_add(command, volume_encode_flags(&changed, PUT_COPY, command_record(command)));
	/* In the epoch that it gave way to: nothing of an older one is taken, and a promotion from
	 * here is above it. */
	command_add(command,
		    follow_encode(volume, &nowhere, FOLLOW_HALF, 0, command_record(command)));
	return 0;
}

static void yielded(struct io_op *op)
{
	struct yielding *yielding = container_of(op, struct yielding, own.op);
	struct store *store = yielding->store;
	struct admin_op *outer = yielding->op;
	int64_t res = op->res;
	if (res == 0 && yielding->name[0]) {
		store->counters.volumes_yielded++;
		log_event(LOG_LEVEL_WARNING, "volume.yielded",
			  "volume=%s kept=%s effect=\"another host is its primary; it is a copy\"",
			  yielding->name, yielding->kept[0] ? yielding->kept : "nothing");
	}
	memcpy(outer->sentence, yielding->own.sentence, SENTENCE_BYTES);
	free(yielding);
	env_complete(store->env, &outer->op, res);
}

void replica_yield(struct store *store, struct admin_op *op, const char *name,
		   const struct store_offer *offer)
{
	struct yielding *yielding = admin_memory(store, op, sizeof(*yielding));
	if (!yielding)
		return; /* done follows */
	yielding->store = store;
	yielding->op = op;
	yielding->own.op.done = yielded;
	struct command *command = command_new(store, &yielding->own, name, prepare_yield);
	if (!command)
		return; /* done follows */
	command->offer = offer;
	command_start(command);
}
