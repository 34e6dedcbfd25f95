/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Up to which snapshot each host has what a volume's policy took: a part of the catalog. Who sends
 * them is above (daemon/ship.c).
 *
 * It is kept here, not asked of the host: what was deleted there is not to come back. Numbers of
 * snapshots only rise, so one number says it for all that were taken before.
 *
 * Keeps true: a number never goes back, but to none with its host, or when what is there is another
 * store; a host that the policy does not send to may lose its place to one that it does.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <assert.h>
#include <stdio.h>

#define SHIPPED_RECORD_BYTES (8u + POLICY_HOSTS_MAX * (NAME_ROOM + 8u))
static_assert(SHIPPED_RECORD_BYTES <= LOG_RECORD_BYTES_MAX, "all in one record");

bool volume_has_shipped(const struct volume *volume)
{
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++)
		if (volume->shipped[i].host[0])
			return true;
	return false;
}

uint32_t shipped_encode(const struct volume *volume, void *out)
{
	struct cursor c = cursor_over(out, SHIPPED_RECORD_BYTES);
	put_u8(&c, LOG_SHIPPED);
	put_u8(&c, PUT_FULL);
	put_u16(&c, SHIPPED_RECORD_BYTES);
	put_u32(&c, volume->number);
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++) {
		put_bytes(&c, volume->shipped[i].host, NAME_ROOM);
		put_u32(&c, volume->shipped[i].snapshot);
		put_u32(&c, volume->shipped[i].store_tag);
	}
	assert(!c.failed && cursor_left(&c) == 0);
	return SHIPPED_RECORD_BYTES;
}

int shipped_apply(struct volume *volume, struct cursor *c)
{
	struct shipped from[POLICY_HOSTS_MAX] = {0};
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++) {
		get_bytes(c, from[i].host, NAME_ROOM);
		from[i].snapshot = get_u32(c);
		from[i].store_tag = get_u32(c);
		if (c->failed || !memchr(from[i].host, 0, NAME_ROOM) ||
		    (from[i].host[0] && !text_name_ok(from[i].host, strlen(from[i].host))))
			return -VS_EFORMAT;
	}
	memcpy(volume->shipped, from, sizeof from);
	return 0;
}

void shipped_forget(struct store *store, const char *host)
{
	for (uint32_t i = 0; i < store->volume_count; i++)
		for (unsigned k = 0; k < POLICY_HOSTS_MAX; k++)
			if (strcmp(store->volumes[i]->shipped[k].host, host) == 0)
				store->volumes[i]->shipped[k] = (struct shipped){0};
}

static bool sends_to(const struct policy *policy, const char *host)
{
	for (unsigned i = 0; policy && i < POLICY_HOSTS_MAX; i++)
		if (host[0] && strcmp(policy->is.rules.send_to[i], host) == 0)
			return true;
	return false;
}

/* Its place, or one for it: its policy sends to no more hosts than there are places. */
static struct shipped *shipped_place(struct volume *volume, const struct policy *policy,
				     const char *host)
{
	struct shipped *place = NULL;
	for (unsigned i = 0; i < POLICY_HOSTS_MAX; i++) {
		struct shipped *at = &volume->shipped[i];
		if (strcmp(at->host, host) == 0)
			return at;
		if (!sends_to(policy, at->host))
			place = at;
	}
	return place;
}

static int prepare_shipped(struct command *command)
{
	struct store *store = command->store;
	const struct volume *volume = volume_by_number(store, command->volume_number);
	const struct policy *policy = volume ? policy_by_number(store, volume->policy) : NULL;
	uint32_t snapshot = (uint32_t)command->number;
	if (!store_has(store, FEATURE_SHIPPING) || !sends_to(policy, command->other) ||
	    store_shipped_until(store, volume->number, command->other, command->store_tag) >=
		    snapshot)
		return 0;
	struct volume changed = *volume;
	struct shipped *place = shipped_place(&changed, policy, command->other);
	*place = (struct shipped){.snapshot = snapshot, .store_tag = command->store_tag};
	memcpy(place->host, command->other, strlen(command->other));
	command_add(command, shipped_encode(&changed, command_record(command)));
	return 0;
}

void store_shipped(struct store *store, struct admin_op *op, uint32_t volume, const char *host,
		   uint32_t snapshot, uint32_t store_tag)
{
	struct command *command = command_new(store, op, "", prepare_shipped);
	if (!command)
		return;
	command->volume_number = volume;
	snprintf(command->other, sizeof command->other, "%.63s", host);
	command->number = snapshot;
	command->store_tag = store_tag;
	command_start(command);
}

uint32_t store_shipped_until(const struct store *store, uint32_t volume, const char *host,
			     uint32_t store_tag)
{
	const struct volume *of = volume_by_number(store, volume);
	for (unsigned i = 0; of && i < POLICY_HOSTS_MAX; i++) {
		const struct shipped *at = &of->shipped[i];
		if (strcmp(at->host, host) == 0)
			return store_tag && at->store_tag && at->store_tag != store_tag
				       ? 0
				       : at->snapshot;
	}
	return 0;
}
