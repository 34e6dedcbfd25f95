/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies as the catalog has them: their rules, which volume has which, which snapshots are
 * whose. A policy that a volume has cannot go; one in the trash may name a policy that is gone,
 * whose number is never used again, and then has none. Nothing is taken or removed here.
 */
#include "storage/store/admin.h"

#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

const struct policy *policy_by_number(const struct store *store, uint32_t number)
{
	for (uint32_t i = 0; i < store->policy_count; i++)
		if (store->policies[i].number == number)
			return &store->policies[i];
	return NULL;
}

const struct policy *policy_by_name(const struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->policy_count; i++)
		if (strcmp(store->policies[i].is.name, name) == 0)
			return &store->policies[i];
	return NULL;
}

uint32_t policy_encode(const struct policy *policy, void *out)
{
	uint32_t bytes = 8 + policy_bytes(&policy->is.rules);
	struct cursor c = cursor_over(out, bytes);
	put_u8(&c, LOG_PUT_POLICY);
	put_u8(&c, PUT_FULL);
	put_u16(&c, (uint16_t)bytes);
	put_u32(&c, policy->number);
	policy_put(&c, &policy->is);
	assert(!c.failed && cursor_left(&c) == 0);
	return bytes;
}

int policy_apply(struct store *store, enum log_op op, uint32_t number, struct cursor *c)
{
	struct policy *at = store->policies, *end = at + store->policy_count;
	struct named_policy said;
	while (at < end && at->number != number)
		at++;
	if (op == LOG_DEL_POLICY) {
		if (at == end)
			return -VS_EFORMAT;
		*at = store->policies[--store->policy_count];
		return 0;
	}
	if (number == 0 || (at == end && store->policy_count == POLICIES_MAX) ||
	    !policy_get(c, &said))
		return -VS_EFORMAT;
	store->policy_count += at == end;
	*at = (struct policy){.number = number, .is = said};
	store->next_number = (uint32_t)max_u64(store->next_number, number + 1ull);
	return 0;
}

/* ---- commands ---- */

static const struct policy *command_policy(struct command *command, const char *name, int *ret_res)
{
	const struct policy *policy = policy_by_name(command->store, name);
	if (!policy)
		*ret_res = command_refuse(command, -ENOENT,
					  "There is no policy named '%s'; vstorectl policy list "
					  "shows those that are.",
					  name);
	return policy;
}

static int check_sends(struct command *command, const struct policy_rules *rules)
{
	const struct store *store = command->store;
	if (!rules->send_to[0][0])
		return 0;
	if (!store_has(store, FEATURE_SHIPPING))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "policies that send");
	for (unsigned i = 0; i < POLICY_HOSTS_MAX && rules->send_to[i][0]; i++) {
		bool known = false;
		for (uint32_t k = 0; k < store->peer_count; k++)
			known |= strcmp(store->peers[k].host, rules->send_to[i]) == 0;
		if (!known)
			return command_refuse(command, -ENOENT,
					      "There is no peer '%.63s': add it with 'vstorectl "
					      "peer add HOST ADDRESS'.",
					      rules->send_to[i]);
	}
	return 0;
}

int policy_room(struct command *command)
{
	if (command->store->policy_count < POLICIES_MAX)
		return 0;
	return command_refuse(command, -ENOSPC,
			      "The store has %u policies, which is the most; delete some.",
			      POLICIES_MAX);
}

static int prepare_set(struct command *command)
{
	struct store *store = command->store;
	const struct policy *old = policy_by_name(store, command->name);
	struct policy policy = {.is.rules = command->rules};
	snprintf(policy.is.name, NAME_ROOM, "%.63s", command->name);
	int res = policy_check(&policy.is, command->op->sentence);
	if (res < 0)
		return res;
	if (!store_has(store, FEATURE_POLICIES))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "policies");
	if ((!old && (res = policy_room(command)) < 0) ||
	    (res = check_sends(command, &policy.is.rules)) < 0)
		return res;
	policy.number = old ? old->number : store->next_number++;
	command_add(command, policy_encode(&policy, command_record(command)));
	return 0;
}

void store_policy_set(struct store *store, struct admin_op *op, const char *name,
		      const struct policy_rules *rules)
{
	struct command *command = command_new(store, op, name, prepare_set);
	if (!command)
		return;
	command->rules = *rules;
	command_start(command);
}

static int prepare_delete(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	const struct policy *policy = command_policy(command, command->name, &res);
	if (!policy)
		return res;
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (store->volumes[i]->policy == policy->number &&
		    store->volumes[i]->state == OBJECT_LIVE) {
			snprintf(command->op->holder, sizeof command->op->holder, "%s",
				 store->volumes[i]->name);
			return command_refuse(command, -EBUSY,
					      "Volume '%s' has the policy '%s': detach it first.",
					      store->volumes[i]->name, command->name);
		}
	command_add(command,
		    record_number(LOG_DEL_POLICY, policy->number, command_record(command)));
	return 0;
}

void store_policy_delete(struct store *store, struct admin_op *op, const char *name)
{
	struct command *command = command_new(store, op, name, prepare_delete);
	if (command)
		command_start(command);
}

static int prepare_attach(struct command *command)
{
	int res = 0;
	struct volume *volume = command_volume(command, command->name, &res);
	const struct policy *policy = NULL;
	if (volume && command->other[0])
		policy = command_policy(command, command->other, &res);
	if (res < 0)
		return res;
	struct volume changed = *volume;
	changed.policy = policy ? policy->number : 0;
	command_add(command, volume_encode_flags(&changed, PUT_ADMIN, command_record(command)));
	return 0;
}

void store_policy_attach(struct store *store, struct admin_op *op, const char *volume,
			 const char *policy)
{
	struct command *command = command_new(store, op, volume, prepare_attach);
	if (!command)
		return;
	snprintf(command->other, sizeof command->other, "%s", policy);
	command_start(command);
}

int store_policies(const struct store *store, struct policy_info **ret, size_t *ret_count)
{
	struct policy_info *infos = calloc(store->policy_count + 1ull, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->policy_count; i++) {
		const struct policy *policy = &store->policies[i];
		infos[i] =
			(struct policy_info){.number = policy->number, .rules = policy->is.rules};
		memcpy(infos[i].name, policy->is.name, NAME_ROOM);
		for (uint32_t k = 0; k < store->volume_count; k++)
			infos[i].volume_count += store->volumes[k]->policy == policy->number &&
						 store->volumes[k]->state == OBJECT_LIVE;
	}
	*ret = infos;
	*ret_count = store->policy_count;
	return 0;
}
