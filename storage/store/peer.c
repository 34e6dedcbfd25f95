/* SPDX-License-Identifier: Apache-2.0 */
/* The hosts that this one knows, and where they are: a part of the catalog. What is done with them
 * is repl/'s. */
#include "storage/store/admin.h"

#include "proto/text.h"
#include "storage/store/store_int.h"

#include <stdio.h>
#include <stdlib.h>

#define PEER_RECORD_BYTES 200u

static struct peer *peer_by_host(struct store *store, const char *host)
{
	for (uint32_t i = 0; i < store->peer_count; i++)
		if (strcmp(store->peers[i].host, host) == 0)
			return &store->peers[i];
	return NULL;
}

uint32_t peer_encode(enum log_op op, const struct peer *peer, void *out)
{
	struct cursor c = cursor_over(out, PEER_RECORD_BYTES);
	put_u8(&c, (uint8_t)op);
	put_u8(&c, PUT_FULL);
	put_u16(&c, PEER_RECORD_BYTES);
	put_u32(&c, 0);
	put_bytes(&c, peer->host, NAME_ROOM);
	put_bytes(&c, peer->address, PEER_ADDRESS_ROOM);
	assert(!c.failed && cursor_left(&c) == 0);
	return PEER_RECORD_BYTES;
}

int peer_apply(struct store *store, enum log_op op, struct cursor *c)
{
	struct peer from;
	get_bytes(c, from.host, NAME_ROOM);
	get_bytes(c, from.address, PEER_ADDRESS_ROOM);
	if (c->failed || !memchr(from.host, 0, NAME_ROOM) ||
	    !memchr(from.address, 0, PEER_ADDRESS_ROOM) ||
	    !text_name_ok(from.host, strlen(from.host)))
		return -VS_EFORMAT;
	struct peer *peer = peer_by_host(store, from.host);
	if (op == LOG_DEL_PEER) {
		if (!peer)
			return -VS_EFORMAT;
		*peer = store->peers[--store->peer_count];
		shipped_forget(store, from.host);
		return 0;
	}
	if (!peer && store->peer_count == PEERS_MAX)
		return -VS_EFORMAT;
	if (!peer)
		peer = &store->peers[store->peer_count++];
	*peer = from;
	return 0;
}

/* ---- commands and lists ---- */

static int prepare_add(struct command *command)
{
	struct store *store = command->store;
	struct peer peer = {0};
	if (!text_name_ok(command->name, strlen(command->name)))
		return command_refuse(command, -EINVAL,
				      "'%s' cannot be a host's name: it is the one in its "
				      "certificate.",
				      command->name);
	if (strcmp(command->name, store->host) == 0)
		return command_refuse(command, -EINVAL,
				      "%s is this host: a peer is another one, by the name in its "
				      "certificate.",
				      command->name);
	if (!text_address_ok(command->other) || strlen(command->other) >= PEER_ADDRESS_ROOM)
		return command_refuse(command, -EINVAL,
				      "'%.80s' is no address: write ADDRESS:PORT, in numbers.",
				      command->other);
	if (!peer_by_host(store, command->name) && store->peer_count == PEERS_MAX)
		return command_refuse(command, -ENOSPC, "A store knows at most %u peers.",
				      PEERS_MAX);
	memcpy(peer.host, command->name, strlen(command->name));
	memcpy(peer.address, command->other, strlen(command->other));
	command_add(command, peer_encode(LOG_PUT_PEER, &peer, command_record(command)));
	return 0;
}

void store_peer_add(struct store *store, struct admin_op *op, const char *host, const char *address)
{
	struct command *command = command_new(store, op, host, prepare_add);
	if (!command)
		return;
	snprintf(command->other, sizeof command->other, "%s", address);
	command_start(command);
}

static int prepare_delete(struct command *command)
{
	const struct peer *peer = peer_by_host(command->store, command->name);
	if (!peer)
		return command_refuse(command, -ENOENT,
				      "There is no peer '%s'; vstorectl peer list shows those that "
				      "are.",
				      command->name);
	command_add(command, peer_encode(LOG_DEL_PEER, peer, command_record(command)));
	return 0;
}

void store_peer_delete(struct store *store, struct admin_op *op, const char *host)
{
	struct command *command = command_new(store, op, host, prepare_delete);
	if (command)
		command_start(command);
}

int store_peers(const struct store *store, struct peer_info **ret, size_t *ret_count)
{
	struct peer_info *infos = calloc(store->peer_count + 1ull, sizeof(*infos));
	if (!infos)
		return -ENOMEM;
	for (uint32_t i = 0; i < store->peer_count; i++) {
		memcpy(infos[i].host, store->peers[i].host, NAME_ROOM);
		memcpy(infos[i].address, store->peers[i].address, PEER_ADDRESS_ROOM);
	}
	*ret = infos;
	*ret_count = store->peer_count;
	return 0;
}
