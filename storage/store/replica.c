/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that are copies of another host's: named HOST/VOL, changed by what arrives from there
 * and by nothing else. The commands that make them and their snapshots, and what a sender tells.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"

#include <stdio.h>
#include <stdlib.h>

int store_offer(const struct store *store, const char *name, struct store_offer *ret)
{
	const struct snapshot *snapshot = snapshot_by_name(store, name);
	if (!snapshot)
		return -ENOENT;
	if (!snapshot->sealed)
		return -EAGAIN;
	const struct volume *volume = volume_by_number(store, snapshot->volume);
	const struct domain *domain = domain_by_number(store, volume->domain);
	struct id root;
	codec_id_root(&domain->key, snapshot->size_bytes, &snapshot->top, &root);
	*ret = (struct store_offer){.size_bytes = snapshot->size_bytes,
				    .created_wall_ns = snapshot->created_wall_ns,
				    .epoch = volume->epoch,
				    .vseq = snapshot->vseq,
				    .mapped_chunks = snapshot->mapped_chunks,
				    .frame_bytes = volume->frame_bytes,
				    .level = volume->level};
	memcpy(ret->domain, domain->uuid, 16);
	memcpy(ret->volume_uuid, volume->uuid, 16);
	memcpy(ret->top, snapshot->top.bytes, ID_BYTES);
	memcpy(ret->root, root.bytes, ID_BYTES);
	/* A copy is sent on under its volume's own name. */
	const char *slash = strchr(volume->name, '/');
	snprintf(ret->volume, sizeof ret->volume, "%s", slash ? slash + 1 : volume->name);
	memcpy(ret->snapshot, snapshot->name, NAME_ROOM);
	return 0;
}

int replica_published(const struct store *store, const char *name, const struct store_offer *offer)
{
	struct store_offer here;
	char full[SNAP_NAME_ROOM];
	snprintf(full, sizeof full, "%s@%s", name, offer->snapshot);
	int res = store_offer(store, full, &here);
	if (res < 0)
		return res == -ENOENT ? 0 : res;
	return memcmp(here.root, offer->root, ID_BYTES) == 0 ? 1 : -EEXIST;
}

static int check_offer(struct command *command, const struct store_offer *offer)
{
	if (!replica_name_good(command->name))
		return command_refuse(command, -ENAMETOOLONG,
				      "'%s' is too long a name for a copy: host and volume share "
				      "62 characters.",
				      command->name);
	if (!frame_bytes_good(offer->frame_bytes) || offer->level < 1 || offer->level > 19 ||
	    offer->size_bytes == 0 || offer->size_bytes % BLOCK_BYTES ||
	    offer->size_bytes > VOLUME_BYTES_MAX)
		return command_refuse(command, -EINVAL, "The peer offers a volume that cannot be.");
	if (!domain_by_uuid(command->store, offer->domain))
		return command_refuse(command, -ENOENT,
				      "The domain of '%s' was not handed to this host: add this "
				      "host as a peer there.",
				      command->name);
	return 0;
}

/* The volume, made or of the offered size. */
static int prepare_make(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	struct volume volume = {.replica = true};
	int res = check_offer(command, offer);
	if (res < 0)
		return res;
	const struct volume *there = volume_by_name(store, command->name);
	const struct domain *domain = domain_by_uuid(store, offer->domain);
	if (there) {
		if (memcmp(there->uuid, offer->volume_uuid, 16) != 0 ||
		    there->domain != domain->number)
			return command_refuse(command, -EEXIST,
					      "'%s' is the copy of another volume of that name: "
					      "delete or rename one of them.",
					      command->name);
		if (there->size_bytes == offer->size_bytes)
			return 0;
		volume = *there;
		volume.size_bytes = offer->size_bytes;
		command_add(command,
			    volume_encode_flags(&volume, PUT_ADMIN, command_record(command)));
		return 0;
	}
	if (store->volume_count >= VOLUMES_MAX)
		return command_refuse(command, -ENOSPC,
				      "The store has %u volumes, which is the most; purge some.",
				      VOLUMES_MAX);
	volume.number = store->next_number++;
	volume.created_wall_ns = env_wall_ns(store->env);
	volume.epoch = 1;
	volume.domain = domain->number;
	volume.level = offer->level;
	volume.frame_bytes = offer->frame_bytes;
	volume.size_bytes = offer->size_bytes;
	memcpy(volume.uuid, offer->volume_uuid, 16);
	memcpy(volume.name, command->name, strlen(command->name));
	command_add(command, volume_encode(&volume, command_record(command)));
	return 0;
}

static void start(struct store *store, struct admin_op *op, const char *name,
		  const struct store_offer *offer, int (*prepare)(struct command *command))
{
	struct command *command = command_new(store, op, name, prepare);
	if (!command)
		return;
	command->offer = offer;
	command_start(command);
}

void replica_make(struct store *store, struct admin_op *op, const char *name,
		  const struct store_offer *offer)
{
	start(store, op, name, offer, prepare_make);
}

/* The volume has been folded and its root compared: what it is now is the snapshot. */
static int prepare_publish(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	if (!volume)
		return res;
	if (store->snapshot_count >= SNAPSHOTS_MAX)
		return command_refuse(command, -ENOSPC,
				      "The store has %u snapshots, which is the most; purge some.",
				      SNAPSHOTS_MAX);
	struct snapshot snapshot = {.number = store->next_number++,
				    .volume = volume->number,
				    .sealed = true,
				    .size_bytes = offer->size_bytes,
				    .vseq = offer->vseq,
				    .created_wall_ns = offer->created_wall_ns,
				    .mapped_chunks = volume->mapped_chunks,
				    .top = volume->top};
	memcpy(snapshot.name, offer->snapshot, NAME_ROOM);
	command_add(command, snapshot_encode_flags(&snapshot, PUT_FULL, command_record(command)));
	return 0;
}

void replica_publish(struct store *store, struct admin_op *op, const char *name,
		     const struct store_offer *offer)
{
	start(store, op, name, offer, prepare_publish);
}

int copy_decode(struct copy *copy, uint8_t type, const void *record, uint32_t record_bytes_given)
{
	struct dir_entry entry;
	int res = record_decode_header(record, record_bytes_given, &entry, copy->frames);
	if (res < 0)
		return res;
	if (entry.type != type || !id_equal(&entry.id, &copy->id) ||
	    record_bytes(&entry, copy->frames) != record_bytes_given)
		return -VS_EFORMAT;
	copy->frame_bytes = entry.raw_bytes / entry.frame_count;
	copy->stored = (const uint8_t *)record + record_header_bytes(entry.frame_count);
	copy->stored_bytes = record_bytes_given - record_header_bytes(entry.frame_count);
	return 0;
}
