/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies as the catalog has them: their rules, which volume has which, which snapshots are
 * whose. A policy that a volume has cannot go; one in the trash may name a policy that is gone,
 * whose number is never used again, and then has none. Nothing is taken or removed here.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define POLICY_RECORD_BYTES 112u
#define POLICY_SENDS_BYTES (8u + POLICY_HOSTS_MAX * NAME_ROOM) /* more, where it sends */

struct policy *policy_by_number(struct store *store, uint32_t number)
{
	for (uint32_t i = 0; i < store->policy_count; i++)
		if (store->policies[i].number == number)
			return &store->policies[i];
	return NULL;
}

static struct policy *policy_by_name(struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->policy_count; i++)
		if (strcmp(store->policies[i].name, name) == 0)
			return &store->policies[i];
	return NULL;
}

uint32_t policy_encode(const struct policy *policy, void *out)
{
	const struct policy_rules *rules = &policy->rules;
	uint32_t sends = rules->send_to[0][0] ? POLICY_SENDS_BYTES : 0;
	struct cursor c = cursor_over(out, POLICY_RECORD_BYTES + sends);
	put_u8(&c, LOG_PUT_POLICY);
	put_u8(&c, PUT_FULL);
	put_u16(&c, (uint16_t)(POLICY_RECORD_BYTES + sends));
	put_u32(&c, policy->number);
	put_bytes(&c, policy->name, NAME_ROOM);
	put_u64(&c, rules->every_ns);
	for (unsigned i = 0; i < POLICY_KEEPS; i++)
		put_u32(&c, rules->keep[i]);
	put_u64(&c, rules->rate_bytes);
	if (sends) {
		put_u16(&c, rules->window.from);
		put_u16(&c, rules->window.until);
		put_u32(&c, 0);
		put_bytes(&c, rules->send_to, sizeof rules->send_to);
	}
	assert(!c.failed && cursor_left(&c) == 0);
	return POLICY_RECORD_BYTES + sends;
}

/* Names, each once, the empty ones last. */
static bool hosts_good(char hosts[POLICY_HOSTS_MAX][NAME_ROOM])
{
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++) {
		if (!memchr(hosts[i], 0, NAME_ROOM) ||
		    (hosts[i][0] && !text_name_ok(hosts[i], strlen(hosts[i]))))
			return false;
		for (unsigned k = 0; k < i; k++)
			if (hosts[i][0] && (!hosts[k][0] || strcmp(hosts[i], hosts[k]) == 0))
				return false;
	}
	return true;
}

int policy_apply(struct store *store, enum log_op op, uint32_t number, struct cursor *c)
{
	struct policy *at = policy_by_number(store, number), policy = {.number = number};
	if (op == LOG_DEL_POLICY) {
		if (!at)
			return -VS_EFORMAT;
		*at = store->policies[--store->policy_count];
		return 0;
	}
	get_bytes(c, policy.name, NAME_ROOM);
	policy.rules.every_ns = get_u64(c);
	for (unsigned i = 0; i < POLICY_KEEPS; i++)
		policy.rules.keep[i] = get_u32(c);
	policy.rules.rate_bytes = get_u64(c);
	if (cursor_left(c)) {
		policy.rules.window.from = get_u16(c);
		policy.rules.window.until = get_u16(c);
		get_u32(c);
		get_bytes(c, policy.rules.send_to, sizeof policy.rules.send_to);
	}
	if (c->failed || !window_good(&policy.rules.window) || !hosts_good(policy.rules.send_to) ||
	    number == 0 || !memchr(policy.name, 0, NAME_ROOM) ||
	    !text_name_ok(policy.name, strlen(policy.name)) ||
	    (!at && store->policy_count == POLICIES_MAX))
		return -VS_EFORMAT;
	if (!at)
		at = &store->policies[store->policy_count++];
	*at = policy;
	store->next_number = (uint32_t)max_u64(store->next_number, number + 1ull);
	return 0;
}

/* ---- commands ---- */

static struct policy *command_policy(struct command *command, const char *name, int *ret_res)
{
	struct policy *policy = policy_by_name(command->store, name);
	if (!policy)
		*ret_res = command_refuse(command, -ENOENT,
					  "There is no policy named '%s'; vstorectl policy list "
					  "shows those that are.",
					  name);
	return policy;
}

static int check_sends(struct command *command, struct policy_rules *rules)
{
	const struct store *store = command->store;
	if (!hosts_good(rules->send_to) || !window_good(&rules->window))
		return command_refuse(command, -EINVAL,
				      "A policy sends to at most %u hosts, each named once.",
				      POLICY_HOSTS_MAX);
	if (!rules->send_to[0][0]) {
		if (rules->rate_bytes || !window_always(&rules->window))
			return command_refuse(
				command, -EINVAL,
				"A limit or hours (--limit, --window) are for what is "
				"sent: say where to with --send-to.");
		return 0;
	}
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

static int prepare_set(struct command *command)
{
	struct store *store = command->store;
	struct policy *old = policy_by_name(store, command->name);
	struct policy policy = {.rules = command->rules};
	if (!text_name_ok(command->name, strlen(command->name)) ||
	    strlen(command->name) > POLICY_NAME_BYTES_MAX)
		return command_refuse(command, -EINVAL,
				      "'%s' cannot be a policy's name: use letters, digits, dots, "
				      "dashes and underscores, at most 40.",
				      command->name);
	if (!store_has(store, FEATURE_POLICIES))
		return command_refuse(command, -EOPNOTSUPP, FEATURE_MISSING, "policies");
	if (!old && store->policy_count == POLICIES_MAX)
		return command_refuse(command, -ENOSPC,
				      "The store has %u policies, which is the most; delete some.",
				      POLICIES_MAX);
	if (policy.rules.every_ns && policy.rules.every_ns < 60 * NSEC_PER_SEC)
		return command_refuse(command, -EINVAL,
				      "Snapshots every %llu seconds are too many: give at least a "
				      "minute.",
				      (unsigned long long)(policy.rules.every_ns / NSEC_PER_SEC));
	int res = check_sends(command, &policy.rules);
	if (res < 0)
		return res;
	policy.number = old ? old->number : store->next_number++;
	memcpy(policy.name, command->name, strlen(command->name) + 1);
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
	struct policy *policy = command_policy(command, command->name, &res);
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
	struct policy *policy = NULL;
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
		infos[i] = (struct policy_info){.number = policy->number, .rules = policy->rules};
		memcpy(infos[i].name, policy->name, NAME_ROOM);
		for (uint32_t k = 0; k < store->volume_count; k++)
			infos[i].volume_count += store->volumes[k]->policy == policy->number &&
						 store->volumes[k]->state == OBJECT_LIVE;
	}
	*ret = infos;
	*ret_count = store->policy_count;
	return 0;
}
