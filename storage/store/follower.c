/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hosts follow which of our volumes, and the cuts that are sent to them: a part of the
 * catalog. Who makes and sends cuts is above (daemon/follow.c).
 *
 * A cut is a snapshot of a volume at a moment, named after its position, taken to be sent and gone
 * when it was. It is no snapshot of a person's, and nobody's to keep: it leaves without the trash.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"
#include "storage/store/vote.h"

#include <stdio.h>
#include <stdlib.h>

#define FOLLOWER_RECORD_BYTES 104u
#define FOLLOWER_HOURS_BYTES 8u /* more, where it has some */

struct follower *follower_of(struct store *store, uint32_t volume, const char *host)
{
	for (uint32_t i = 0; i < store->follower_count; i++)
		if (store->followers[i].volume == volume &&
		    strcmp(store->followers[i].host, host) == 0)
			return &store->followers[i];
	return NULL;
}

uint32_t follower_encode(enum log_op op, const struct follower *follower, void *out)
{
	const struct window *window = &follower->rules.window;
	uint32_t hours = window_always(window) ? 0 : FOLLOWER_HOURS_BYTES;
	struct cursor c = cursor_over(out, FOLLOWER_RECORD_BYTES + hours);
	put_u8(&c, (uint8_t)op);
	put_u8(&c, PUT_FULL);
	put_u16(&c, (uint16_t)(FOLLOWER_RECORD_BYTES + hours));
	put_u32(&c, follower->volume);
	put_bytes(&c, follower->host, NAME_ROOM);
	put_u64(&c, follower->rules.lag_ns);
	put_u64(&c, follower->rules.lag_bytes);
	put_u64(&c, follower->rules.rate_bytes);
	put_u64(&c, follower->rules.in_step | (follower->rules.degrade ? 2u : 0) |
			    (follower->rules.comes_in_step ? 4u : 0));
	if (hours) {
		put_u16(&c, window->from);
		put_u16(&c, window->until);
		put_u32(&c, 0);
	}
	assert(!c.failed && cursor_left(&c) == 0);
	return FOLLOWER_RECORD_BYTES + hours;
}

/* What flushes of a volume look at, after its followers changed. */
static void in_step_count(struct store *store, uint32_t number)
{
	struct volume *volume = volume_by_number(store, number);
	if (!volume)
		return;
	volume->in_step = false;
	for (uint32_t i = 0; i < store->follower_count; i++)
		volume->in_step |=
			store->followers[i].volume == number && store->followers[i].rules.in_step;
	quorum_look(store, volume);
	gate_look(store);
}

int follower_apply(struct store *store, enum log_op op, uint32_t volume, struct cursor *c)
{
	struct follower from = {.volume = volume};
	get_bytes(c, from.host, NAME_ROOM);
	from.rules.lag_ns = get_u64(c);
	from.rules.lag_bytes = get_u64(c);
	from.rules.rate_bytes = get_u64(c);
	uint64_t in_step = get_u64(c);
	from.rules.in_step = in_step & 1;
	from.rules.degrade = in_step & 2;
	from.rules.comes_in_step = in_step & 4;
	if (cursor_left(c)) {
		from.rules.window.from = get_u16(c);
		from.rules.window.until = get_u16(c);
	}
	if (c->failed || in_step > 4 || in_step == 2 || !window_good(&from.rules.window) ||
	    (in_step && !window_always(&from.rules.window)) || !memchr(from.host, 0, NAME_ROOM) ||
	    !text_name_ok(from.host, strlen(from.host)))
		return -VS_EFORMAT;
	struct follower *at = follower_of(store, volume, from.host);
	if (at && at->standing.fenced && (op == LOG_DEL_FOLLOWER || !from.rules.in_step))
		volume_by_number(store, volume)->left_primaries++;
	if (op == LOG_DEL_FOLLOWER) {
		if (!at)
			return -VS_EFORMAT;
		*at = store->followers[--store->follower_count];
		in_step_count(store, volume);
		return 0;
	}
	if (!volume_by_number(store, volume) || (!at && store->follower_count == FOLLOWERS_MAX))
		return -VS_EFORMAT;
	if (!at) {
		at = &store->followers[store->follower_count++];
	} else {
		from.acked_vseq = at->acked_vseq;
		from.standing = at->standing;
		from.live = at->live;
		from.joining = at->joining && from.rules.in_step;
		from.join_vseq = at->join_vseq;
	}
	*at = from;
	in_step_count(store, volume);
	return 0;
}

void followers_forget(struct store *store, uint32_t volume)
{
	for (uint32_t i = store->follower_count; i-- > 0;)
		if (store->followers[i].volume == volume)
			store->followers[i] = store->followers[--store->follower_count];
	in_step_count(store, volume);
}

/* ---- commands and lists ---- */

/* Hours are for cuts, and for stores that can keep them. */
static int check_window(struct command *command, const struct follower_rules *rules)
{
	if (window_always(&rules->window))
		return 0;
	if (!store_has(command->store, FEATURE_SHIPPING))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "hours for sends");
	if (rules->in_step || rules->comes_in_step)
		return command_refuse(command, -EINVAL,
				      "The replica on %.63s is, or comes, in step: it gets each "
				      "write at once, so hours (--window) are for those of --mode "
				      "async.",
				      command->other);
	return 0;
}

static int prepare_set(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	struct follower follower = {.rules = command->follow};
	bool known = false;
	if (!volume || (res = command_own(command, volume)) < 0)
		return res;
	if (!store_has(store, FEATURE_FOLLOWERS))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "replicas in step");
	for (uint32_t i = 0; i < store->peer_count; i++)
		known |= strcmp(store->peers[i].host, command->other) == 0;
	if (!known)
		return command_refuse(command, -ENOENT,
				      "There is no peer '%.63s': add it with 'vstorectl peer add "
				      "HOST ADDRESS'.",
				      command->other);
	if (!follower_of(store, volume->number, command->other) &&
	    store->follower_count == FOLLOWERS_MAX)
		return command_refuse(command, -ENOSPC, "A store has at most %u replicas.",
				      FOLLOWERS_MAX);
	if (follower.rules.degrade && !store_has(store, FEATURE_VOTERS))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "voters");
	if (follower.rules.degrade && !follower.rules.in_step)
		return command_refuse(command, -EINVAL,
				      "Only a replica that is in step (--mode sync) can be "
				      "missing: --on-missing is for those.");
	if (follower.rules.comes_in_step && follower.rules.in_step)
		return command_refuse(command, -EINVAL, "What is in step does not come in step.");
	if (follower.rules.lag_ns < NSEC_PER_SEC ||
	    follower.rules.lag_ns > 24 * 3600 * NSEC_PER_SEC)
		return command_refuse(command, -EINVAL,
				      "A replica can lag behind from one second to a day.");
	if ((res = check_window(command, &follower.rules)) < 0)
		return res;
	follower.volume = volume->number;
	memcpy(follower.host, command->other, strlen(command->other));
	if ((res = word_follows(command, volume, command->other, follower.rules.in_step)) < 0)
		return res;
	command_add(command, follower_encode(LOG_PUT_FOLLOWER, &follower, command_record(command)));
	return 0;
}

static const struct follower *command_follower(struct command *command, const struct volume *volume,
					       int *ret_res)
{
	const struct follower *there = follower_of(command->store, volume->number, command->other);
	if (!there)
		*ret_res = command_refuse(command, -ENOENT,
					  "'%s' has no replica on '%.63s'; vstorectl replica "
					  "status shows those that are.",
					  command->name, command->other);
	return there;
}

static int prepare_pace(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	const struct follower *there = volume ? command_follower(command, volume, &res) : NULL;
	if (!there)
		return res;
	struct follower follower = *there;
	if (command->pace.has_rate)
		follower.rules.rate_bytes = command->pace.rate_bytes;
	if (command->pace.has_window)
		follower.rules.window = command->pace.window;
	if ((res = check_window(command, &follower.rules)) < 0)
		return res;
	command_add(command, follower_encode(LOG_PUT_FOLLOWER, &follower, command_record(command)));
	return 0;
}

static int prepare_join(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	const struct follower *there = follower_of(command->store, volume->number, command->other);
	if (!there || !there->rules.comes_in_step)
		return 0; /* somebody has decided otherwise */
	struct follower follower = *there;
	follower.rules.in_step = true;
	follower.rules.comes_in_step = false;
	if ((res = word_follows(command, volume, command->other, true)) < 0)
		return res;
	command_add(command, follower_encode(LOG_PUT_FOLLOWER, &follower, command_record(command)));
	return 0;
}

static int prepare_delete(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	const struct follower *follower = volume ? command_follower(command, volume, &res) : NULL;
	if (!follower)
		return res;
	if ((res = word_follows(command, volume, command->other, false)) < 0)
		return res;
	command_add(command, follower_encode(LOG_DEL_FOLLOWER, follower, command_record(command)));
	return 0;
}

static struct command *begin(struct store *store, struct admin_op *op, const char *name,
			     const char *host, int (*prepare)(struct command *command))
{
	struct command *command = command_new(store, op, name, prepare);
	if (command)
		snprintf(command->other, sizeof command->other, "%s", host);
	return command;
}

void store_follower_set(struct store *store, struct admin_op *op, const char *volume,
			const char *host, const struct follower_rules *rules)
{
	struct command *command = begin(store, op, volume, host, prepare_set);
	if (!command)
		return;
	command->follow = *rules;
	command_start(command);
}

void store_follower_pace(struct store *store, struct admin_op *op, const char *volume,
			 const char *host, const struct follower_pace *pace)
{
	struct command *command = begin(store, op, volume, host, prepare_pace);
	if (!command)
		return;
	command->pace = *pace;
	command_start(command);
}

void store_follower_join(struct store *store, struct admin_op *op, const char *volume,
			 const char *host)
{
	struct command *command = begin(store, op, volume, host, prepare_join);
	if (command)
		command_start(command);
}

void store_follower_delete(struct store *store, struct admin_op *op, const char *volume,
			   const char *host)
{
	struct command *command = begin(store, op, volume, host, prepare_delete);
	if (command)
		command_start(command);
}

int store_followers(const struct store *store, struct follower_info **ret, size_t *ret_count)
{
	struct follower_info *infos = calloc(store->follower_count + 1ull, sizeof(*infos));
	size_t count = 0;
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->follower_count; i++) {
		const struct follower *follower = &store->followers[i];
		const struct volume *volume = volume_by_number(store, follower->volume);
		if (volume->state == OBJECT_TRASH)
			continue; /* it goes on when the volume comes back */
		infos[count].volume_number = follower->volume;
		infos[count].rules = follower->rules;
		infos[count].left_out = volume->ballot && follower->rules.in_step &&
					!quorum_counts(volume, follower);
		memcpy(infos[count].volume, volume->name, NAME_ROOM);
		memcpy(infos[count++].host, follower->host, NAME_ROOM);
	}
	*ret = infos;
	*ret_count = count;
	return 0;
}

/* ---- cuts ---- */

static int prepare_drop(struct command *command)
{
	const struct snapshot *snapshot = snapshot_by_name(command->store, command->name);
	if (!snapshot || snapshot->policy != POLICY_CUT)
		return 0; /* it is gone, or somebody else's */
	int res = command_retained(command, snapshot);
	if (res < 0)
		return res;
	if (snapshot->views || snapshot->busy)
		return command_refuse(command, -EBUSY, "The cut '%s' is in use.", command->name);
	command_add(command,
		    record_number(LOG_DEL_SNAPSHOT, snapshot->number, command_record(command)));
	return 0;
}

void store_cut_drop(struct store *store, struct admin_op *op, const char *name)
{
	struct command *command = command_new(store, op, name, prepare_drop);
	if (command)
		command_start(command);
}
