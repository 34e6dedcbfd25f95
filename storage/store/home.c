/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy that a volume has at home, kept with its copy: a part of the catalog. Here it does
 * nothing: what is kept of the copy is by a policy of this host. When the copy becomes the volume,
 * of a host that lost its disks (adopt.c), the volume has that policy again.
 *
 * Keeps true: only a copy has one, what its original said last; it goes with the copy. A name means
 * the same policy on all hosts of a site: where there is one of that name, that one is taken, with
 * the rules that it has here.
 */
#include "storage/store/admin.h"

#include "storage/store/behind.h"
#include "storage/store/replica.h"
#include "storage/store/store_int.h"

uint32_t home_encode(uint32_t volume, const struct named_policy *home, void *out)
{
	uint32_t bytes = 8 + (home->name[0] ? policy_bytes(&home->rules) : 0);
	struct cursor c = cursor_over(out, bytes);
	put_u8(&c, LOG_HOME_POLICY);
	put_u8(&c, PUT_FULL);
	put_u16(&c, (uint16_t)bytes);
	put_u32(&c, volume);
	if (home->name[0])
		policy_put(&c, home);
	assert(!c.failed && cursor_left(&c) == 0);
	return bytes;
}

int home_apply(struct volume *volume, struct cursor *c)
{
	struct named_policy home = {0};
	if (!volume->replica || (cursor_left(c) && !policy_get(c, &home)))
		return -VS_EFORMAT;
	volume->home = home;
	return 0;
}

/* ---- what its original says ---- */

static bool is_news(const struct store *store, const struct volume *copy,
		    const struct told_policy *told)
{
	return told->told && store_has(store, FEATURE_HOME) &&
	       !policy_same(&told->policy, &copy->home);
}

bool store_copy_policy_news(const struct store *store, const char *name,
			    const struct told_policy *told)
{
	const struct volume *copy = volume_by_name(store, name);
	return copy && copy->replica && is_news(store, copy, told);
}

void home_told(struct command *command, const struct volume *copy, const struct told_policy *told)
{
	if (is_news(command->store, copy, told))
		command_add(command,
			    home_encode(copy->number, &told->policy, command_record(command)));
}

static int prepare_home(struct command *command)
{
	const struct volume *copy = volume_by_name(command->store, command->name);
	if (copy && copy->replica)
		home_told(command, copy, &command->told);
	return 0;
}

void store_copy_policy(struct store *store, struct admin_op *op, const char *name,
		       const struct told_policy *told)
{
	struct command *command = command_new(store, op, name, prepare_home);
	if (!command)
		return;
	command->told = *told;
	command_start(command);
}

void replica_home(struct store *store, struct admin_op *op, const char *name,
		  const struct store_offer *offer)
{
	store_copy_policy(store, op, name, &offer->policy);
}

/* ---- what this side says of its own ---- */

void store_policy_told(const struct store *store, uint32_t number, struct told_policy *ret)
{
	const struct volume *volume = volume_by_number(store, number);
	const struct policy *policy = volume ? policy_by_number(store, volume->policy) : NULL;
	char sentence[SENTENCE_BYTES];
	*ret = (struct told_policy){0};
	if (!volume || (volume->replica && !store_has(store, FEATURE_HOME)))
		return; /* nobody knows */
	ret->told = true;
	if (volume->replica)
		ret->policy = volume->home;
	else if (policy)
		ret->policy = policy->is;
	if (ret->policy.name[0] && policy_check(&ret->policy, sentence) < 0)
		*ret = (struct told_policy){0}; /* nobody would take it, nor what comes with it */
}

/* ---- the copy becomes a volume ---- */

/* This host is no peer of its own. Others stay, also who is none yet: `peer add` is all that is
 * missing then, and `replica status` says so. */
static void send_to_others(struct policy_rules *rules, const char *host)
{
	unsigned kept = 0;
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++)
		if (rules->send_to[i][0] && strcmp(rules->send_to[i], host) != 0 && kept++ != i)
			memcpy(rules->send_to[kept - 1], rules->send_to[i], NAME_ROOM);
	for (unsigned i = kept; i < POLICY_HOSTS_MAX; i++)
		memset(rules->send_to[i], 0, NAME_ROOM);
	if (!kept) {
		rules->rate_bytes = 0;
		rules->window = (struct window){0};
	}
}

int home_room(struct command *command, const struct volume *copy)
{
	bool made = copy->home.name[0] && !policy_by_name(command->store, copy->home.name);
	return made ? policy_room(command) : 0;
}

void home_comes_true(struct command *command, const struct volume *copy, struct volume *changed)
{
	struct store *store = command->store;
	const struct policy *here = policy_by_name(store, copy->home.name);
	struct policy policy = {.is = copy->home};
	if (!copy->home.name[0])
		return;
	if (here) {
		changed->policy = here->number;
		return;
	}
	send_to_others(&policy.is.rules, store->host);
	policy.number = changed->policy = store->next_number++;
	command_add(command, policy_encode(&policy, command_record(command)));
}
