/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Domains: sets of volumes that share chunks, each with the key that makes its ids.
 *
 * Keeps true: a domain's UUID follows from its key, so one key is one domain on every host; a key
 * that came is never forgotten or changed, as records name it by number. The first domain is the
 * superblock's; others are handed over by peers. A name is for people: a host that was lost and
 * has come back empty hands over another key under the name that the old one has here.
 */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define DOMAIN_RECORD_BYTES 136u

const struct domain *domain_by_number(const struct store *store, uint32_t number)
{
	/* Numbers are places: a domain is never removed. */
	return number >= 1 && number <= store->domain_count ? &store->domains[number - 1] : NULL;
}

const struct domain *domain_by_name(const struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->domain_count; i++)
		if (strcmp(store->domains[i].name, name) == 0)
			return &store->domains[i];
	return NULL;
}

const struct domain *domain_by_uuid(const struct store *store, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < store->domain_count; i++)
		if (memcmp(store->domains[i].uuid, uuid, 16) == 0)
			return &store->domains[i];
	return NULL;
}

int domain_init(struct store *store)
{
	struct domain *own = &store->domains[0];
	*own = (struct domain){.number = DOMAIN_OWN, .name = "local", .key = store->sb.domain};
	codec_domain_uuid(&own->key, own->uuid);
	store->domain_count = 1;
	return 0;
}

uint32_t domain_encode(const struct domain *domain, void *out)
{
	struct cursor c = cursor_over(out, DOMAIN_RECORD_BYTES);
	put_u8(&c, LOG_PUT_DOMAIN);
	put_u8(&c, PUT_FULL);
	put_u16(&c, DOMAIN_RECORD_BYTES);
	put_u32(&c, domain->number);
	put_bytes(&c, domain->name, NAME_ROOM);
	put_bytes(&c, domain->key.key, sizeof domain->key.key);
	assert(!c.failed && cursor_left(&c) == 0);
	return DOMAIN_RECORD_BYTES;
}

int domain_apply(struct store *store, uint32_t number, struct cursor *c)
{
	struct domain domain = {.number = (uint8_t)number};
	get_bytes(c, domain.name, NAME_ROOM);
	get_bytes(c, domain.key.key, sizeof domain.key.key);
	if (c->failed || number != store->domain_count + 1 || number > DOMAINS_MAX ||
	    !memchr(domain.name, 0, NAME_ROOM) || !text_name_ok(domain.name, strlen(domain.name)))
		return -VS_EFORMAT;
	codec_domain_uuid(&domain.key, domain.uuid);
	store->domains[store->domain_count++] = domain;
	return 0;
}

/* ---- commands and lists ---- */

/* The name that was asked for, or that and the beginning of its UUID, where it is another one's. */
static int domain_name(struct command *command, struct domain *domain)
{
	const uint8_t *uuid = domain->uuid;
	snprintf(domain->name, NAME_ROOM, "%s", command->name);
	if (domain_by_name(command->store, domain->name))
		snprintf(domain->name, NAME_ROOM, "%.54s-%02x%02x%02x%02x", command->name, uuid[0],
			 uuid[1], uuid[2], uuid[3]);
	if (domain_by_name(command->store, domain->name))
		return command_refuse(command, -EEXIST,
				      "A domain '%s' with another key exists already.",
				      domain->name);
	return 0;
}

static int prepare_domain(struct command *command)
{
	struct store *store = command->store;
	struct domain domain = {.number = (uint8_t)(store->domain_count + 1)};
	memcpy(domain.key.key, command->value, sizeof domain.key.key);
	codec_domain_uuid(&domain.key, domain.uuid);
	if (domain_by_uuid(store, domain.uuid))
		return 0; /* no record: there is nothing to change */
	if (!text_name_ok(command->name, strlen(command->name)))
		return command_refuse(command, -EINVAL, "'%s' cannot be a domain's name.",
				      command->name);
	if (store->domain_count == DOMAINS_MAX)
		return command_refuse(command, -ENOSPC,
				      "The store has %u domains, which is the most.", DOMAINS_MAX);
	int res = domain_name(command, &domain);
	if (res < 0)
		return res;
	command_add(command, domain_encode(&domain, command_record(command)));
	return 0;
}

void store_domain_add(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t key[64])
{
	struct command *command = command_new(store, op, name, prepare_domain);
	if (!command)
		return;
	static_assert(sizeof command->value >= 64, "a key fits");
	memcpy(command->value, key, 64);
	command_start(command);
}

int store_domain_key(const struct store *store, const uint8_t uuid[16], uint8_t ret_key[64])
{
	const struct domain *domain = domain_by_uuid(store, uuid);
	if (!domain)
		return -ENOENT;
	memcpy(ret_key, domain->key.key, 64);
	return 0;
}

int store_domains(const struct store *store, struct domain_info **ret, size_t *ret_count)
{
	struct domain_info *infos = calloc(store->domain_count, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->domain_count; i++) {
		const struct domain *domain = &store->domains[i];
		memcpy(infos[i].uuid, domain->uuid, 16);
		memcpy(infos[i].name, domain->name, NAME_ROOM);
		infos[i].own = domain->number == DOMAIN_OWN;
		for (uint32_t k = 0; k < store->volume_count; k++)
			infos[i].volume_count += store->volumes[k]->domain == domain->number;
	}
	*ret = infos;
	*ret_count = store->domain_count;
	return 0;
}
