/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that are copies of another host's: named HOST/VOL, changed by what arrives from there
 * and by nothing else. The commands that make them, their snapshots, and a volume of one; and what
 * a sender tells.
 *
 * Keeps true: a copy takes no position of a lower epoch than it has; where the volume itself is
 * (its UUID, after a promotion), no copy of it is taken at all. So an old primary that comes back
 * changes nothing, and is told why.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"

#include "proto/text.h"

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
				    .epoch = snapshot->epoch,
				    .vseq = snapshot->vseq,
				    .mapped_chunks = snapshot->mapped_chunks,
				    .frame_bytes = volume->frame_bytes,
				    .level = volume->level,
				    .cut = snapshot->policy == POLICY_CUT};
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

/* What says that the sender is no longer the primary. */
static int check_fence(struct command *command, const struct store_offer *offer)
{
	const struct store *store = command->store;
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		if (!volume->replica && volume->state == OBJECT_LIVE &&
		    memcmp(volume->uuid, offer->volume_uuid, 16) == 0)
			return command_refuse(command, -VS_EFENCED,
					      "This host serves that volume itself, as '%s': it "
					      "takes no copy of it. Stop using it there, or delete "
					      "'%s' here.",
					      volume->name, volume->name);
	}
	const struct volume *copy = volume_by_name(store, command->name);
	for (uint32_t i = 0; copy && i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume == copy->number && snapshot->epoch > offer->epoch &&
		    offer->cut)
			return command_refuse(command, -VS_EFENCED,
					      "The copy '%s' is of epoch %llu, what is offered of "
					      "%llu: the sender's store is an older one.",
					      copy->name, (unsigned long long)snapshot->epoch,
					      (unsigned long long)offer->epoch);
	}
	return 0;
}

/* The volume, made or of the offered size. */
static int prepare_make(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	struct volume volume = {.replica = true};
	int res = check_offer(command, offer);
	if (res == 0)
		res = check_fence(command, offer);
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

/* Cuts that are older than the one that is published go with its commit. */
static void drop_cuts(struct command *command, const struct volume *volume)
{
	const struct store *store = command->store;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume != volume->number || snapshot->policy != POLICY_CUT ||
		    snapshot->views || snapshot->busy || snapshot->hold_count ||
		    snapshot->retain_until_wall_ns || command->record_count == COMMAND_RECORDS_MAX)
			continue;
		command_add(command, record_number(LOG_DEL_SNAPSHOT, snapshot->number,
						   command_record(command)));
	}
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
				    .policy = offer->cut ? POLICY_CUT : 0,
				    .size_bytes = offer->size_bytes,
				    .epoch = offer->epoch,
				    .vseq = offer->vseq,
				    .created_wall_ns = offer->created_wall_ns,
				    .mapped_chunks = volume->mapped_chunks,
				    .top = volume->top};
	memcpy(snapshot.name, offer->snapshot, NAME_ROOM);
	command_add(command, snapshot_encode_flags(&snapshot, PUT_FULL, command_record(command)));
	if (offer->cut)
		drop_cuts(command, volume);
	return 0;
}

void replica_publish(struct store *store, struct admin_op *op, const char *name,
		     const struct store_offer *offer)
{
	start(store, op, name, offer, prepare_publish);
}

/* ---- a copy becomes the volume ---- */

static const struct snapshot *newest_of(const struct store *store, const struct volume *copy)
{
	const struct snapshot *best = NULL;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *at = store->snapshots[i];
		if (at->volume != copy->number || at->state != OBJECT_LIVE || !at->sealed)
			continue;
		if (!best || at->epoch > best->epoch ||
		    (at->epoch == best->epoch && at->vseq >= best->vseq))
			best = at;
	}
	return best;
}

static int prepare_promote(struct command *command)
{
	struct store *store = command->store;
	int res = 0;
	const struct volume *copy = command_volume(command, command->name, &res);
	if (!copy)
		return res;
	const struct snapshot *newest = newest_of(store, copy);
	if (!copy->replica || !newest)
		return command_refuse(command, -EINVAL,
				      "'%s' is no copy of another host's volume that was received "
				      "in whole.",
				      command->name);
	if ((res = command_new_name(command, command->other)) < 0)
		return res;
	if (store->volume_count >= VOLUMES_MAX)
		return command_refuse(command, -ENOSPC,
				      "The store has %u volumes, which is the most; purge some.",
				      VOLUMES_MAX);
	if (!command->number) {
		char when[TIME_TEXT_BYTES];
		text_time(newest->created_wall_ns, when);
		return command_refuse(
			command, -VS_ERETAINED,
			"What %.*s wrote to it after %s (epoch %llu, write %llu) is not "
			"here. Make sure that it is stopped there, then say "
			"--accept-loss.",
			(int)strcspn(copy->name, "/"), copy->name, when,
			(unsigned long long)newest->epoch, (unsigned long long)newest->vseq);
	}
	struct volume volume = {.number = store->next_number++,
				.created_wall_ns = env_wall_ns(store->env),
				.domain = copy->domain,
				.level = copy->level,
				.frame_bytes = copy->frame_bytes,
				.size_bytes = newest->size_bytes,
				.epoch = newest->epoch + 1,
				.vseq = newest->vseq,
				.top = newest->top,
				.mapped_chunks = newest->mapped_chunks};
	memcpy(volume.uuid, copy->uuid, 16);
	memcpy(volume.name, command->other, strlen(command->other));
	snprintf(volume.origin, sizeof volume.origin, "%.63s@%.63s", copy->name, newest->name);
	command_add(command, volume_encode(&volume, command_record(command)));
	return 0;
}

void store_replica_promote(struct store *store, struct admin_op *op, const char *name,
			   const char *new_name, bool accept_loss)
{
	struct command *command = command_new(store, op, name, prepare_promote);
	if (!command)
		return;
	snprintf(command->other, sizeof command->other, "%s", new_name);
	command->number = accept_loss;
	command_start(command);
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
