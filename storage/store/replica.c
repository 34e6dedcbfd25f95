/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes that are copies of another host's: named HOST/VOL, changed by what arrives from there
 * and by nothing else. The commands that make them and their snapshots; and what a sender tells.
 * A volume is made of one in promote.c.
 *
 * Keeps true: a copy takes no cut that does not go on from what it has (lines.c; a snapshot that a
 * person sends may be an old one); where the volume itself is (its UUID, after a promotion), no
 * copy of it is taken at all. So an old primary that comes back changes nothing, and is told why.
 * When an older snapshot was received, the copy itself is again what its newest one is, by the
 * commit that publishes.
 */
#include "storage/store/replica.h"

#include "storage/store/admin.h"
#include "storage/store/behind.h"
#include "storage/store/lines.h"
#include "storage/store/mutant.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#include <stdio.h>

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
	lines_until(&volume->lines, snapshot->epoch, &ret->lines);
	store_policy_told(store, volume->number, &ret->policy);
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

uint64_t replica_epoch(const struct store *store, const struct volume *copy)
{
	uint64_t epoch = copy->epoch; /* of what it follows, which no snapshot may have yet */
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		if (store->snapshots[i]->volume == copy->number)
			epoch = max_u64(epoch, store->snapshots[i]->epoch);
	return epoch;
}

static struct lines_known lines_known(const struct store *store, const struct volume *copy)
{
	struct lines_known known = {.lines = &copy->lines,
				    .epoch = replica_epoch(store, copy),
				    .durable_vseq = copy->durable_vseq};
	if (copy->epoch == known.epoch)
		known.vseq = copy->vseq;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *at = store->snapshots[i];
		if (at->volume == copy->number && at->epoch == known.epoch)
			known.vseq = max_u64(known.vseq, at->vseq);
	}
	return known;
}

#define OLD_STORE "Promote the copy, or delete it to have what that store has instead."

static int refuse_other(struct command *command)
{
	return command_refuse(command, -EEXIST,
			      "'%s' is the copy of another volume of that name: delete or rename "
			      "one of them.",
			      command->name);
}

/* What says that the sender is no longer the primary. */
static int check_fence(struct command *command, const struct store_offer *offer)
{
	const struct store *store = command->store;
	const struct volume *served = served_here(store, offer->volume_uuid);
	if (served)
		return command_refuse(command, -VS_EFENCED,
				      "This host serves that volume itself, as '%s': it takes no "
				      "copy of it. Stop using it there, or delete '%s' here.",
				      served->name, served->name);
	const struct volume *copy = volume_by_name(store, command->name);
	if (copy && memcmp(copy->uuid, offer->volume_uuid, 16) != 0)
		return refuse_other(command); /* their lives are not to be compared */
	if (!copy || MUTANT(62))
		return 0;
	struct lines_known known = lines_known(store, copy);
	switch (lines_compare(&known, offer)) {
	case LINES_GO_ON:
		return 0;
	case LINES_OLDER:
		if (!offer->cut)
			return 0;
		return command_refuse(command, -VS_EFENCED,
				      "The copy '%s' is of epoch %llu, what is offered of %llu: "
				      "the sender's store is an older one. " OLD_STORE,
				      copy->name, (unsigned long long)known.epoch,
				      (unsigned long long)offer->epoch);
	case LINES_BEHIND:
		if (!offer->cut)
			return 0;
		return command_refuse(command, -ESTALE,
				      "The copy '%s' is at write %llu already, what is offered at "
				      "%llu.",
				      copy->name, (unsigned long long)known.vseq,
				      (unsigned long long)offer->vseq);
	case LINES_APART:
		return command_refuse(command, -VS_EFENCED,
				      "The copy '%s' has writes of epoch %llu that the sender's "
				      "store never had: that store is from a backup. " OLD_STORE,
				      copy->name, (unsigned long long)known.epoch);
	case LINES_LOST:
		return command_refuse(command, -VS_EFENCED,
				      "The sender's store has lost what was durable there, up to "
				      "write %llu: it is from a backup. " OLD_STORE,
				      (unsigned long long)known.durable_vseq);
	case LINES_FORGOTTEN:
		return command_refuse(command, -VS_EFENCED,
				      "The sender was started too often since it sent to the copy "
				      "'%s', to tell whether it goes on from that: delete the "
				      "copy, and it is made anew.",
				      copy->name);
	}
	__builtin_unreachable();
}

int replica_check(struct command *command)
{
	int res = check_offer(command, command->offer);
	return res < 0 ? res : check_fence(command, command->offer);
}

int replica_same(struct command *command, const struct volume *copy)
{
	const struct domain *domain = domain_by_uuid(command->store, command->offer->domain);
	if (copy->replica && memcmp(copy->uuid, command->offer->volume_uuid, 16) == 0 &&
	    copy->domain == domain->number)
		return 0;
	return refuse_other(command);
}

bool replica_goes_on(const struct store *store, const struct volume *copy,
		     const struct store_offer *offer)
{
	struct lines_known known = lines_known(store, copy);
	return lines_compare(&known, offer) == LINES_GO_ON;
}

bool replica_kept(const struct store *store, const struct volume *volume)
{
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *at = store->snapshots[i];
		if (at->volume == volume->number && at->state == OBJECT_LIVE &&
		    at->epoch == volume->epoch && at->vseq == volume->vseq)
			return true;
	}
	return false;
}

int replica_keep(struct command *command, struct volume *volume)
{
	struct store *store = command->store;
	struct store_position position = {.epoch = volume->epoch, .vseq = volume->vseq};
	struct snapshot cut = {.volume = volume->number,
			       .policy = POLICY_CUT,
			       .created_wall_ns = env_wall_ns(store->env)};
	bool kept = !volume->whole || (MUTANT(64) && command->offer) || replica_kept(store, volume);
	memcpy(position.incarnation, volume->incarnation, 16);
	snprintf(cut.name, sizeof cut.name, "cut-%llu-%llu-kept", (unsigned long long)volume->epoch,
		 (unsigned long long)volume->vseq);
	if (!kept && !snapshot_of(store, volume->number, cut.name)) {
		int res = command_layer_room(command, volume, 1);
		if (res != 0)
			return res;
		command_snap(command, &cut);
	}
	if (volume->whole)
		command_add(command, follow_encode(volume, &position, FOLLOW_HALF, 0,
						   command_record(command)));
	return 0;
}

struct volume replica_volume(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	struct volume volume = {.number = store->next_number++,
				.replica = true,
				.created_wall_ns = env_wall_ns(store->env),
				.epoch = offer->epoch,
				.domain = domain_by_uuid(store, offer->domain)->number,
				.level = offer->level,
				.frame_bytes = offer->frame_bytes,
				.size_bytes = offer->size_bytes};
	memcpy(volume.uuid, offer->volume_uuid, 16);
	memcpy(volume.name, command->name, strlen(command->name));
	return volume;
}

/* The volume, made or of the offered size. */
static int prepare_make(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	struct volume volume;
	int res = replica_check(command);
	if (res < 0)
		return res;
	struct volume *there = volume_by_name(store, command->name);
	if (there && there->taken)
		return command_refuse(command, -EBUSY, RECEIVED_ALREADY, command->name);
	if (there) {
		if ((res = replica_same(command, there)) < 0)
			return res;
		if ((res = replica_keep(command, there)))
			return res;
		home_told(command, there, &offer->policy);
		if (there->size_bytes == offer->size_bytes)
			return 0;
		volume = *there;
		volume.size_bytes = offer->size_bytes;
		command_add(command,
			    volume_encode_flags(&volume, PUT_ADMIN, command_record(command)));
		return 0;
	}
	if ((res = command_volume_room(command, 1)) < 0)
		return res;
	volume = replica_volume(command);
	command_add(command, volume_encode(&volume, command_record(command)));
	home_told(command, &volume, &offer->policy);
	return 0;
}

void replica_command(struct store *store, struct admin_op *op, const char *name,
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
	replica_command(store, op, name, offer, prepare_make);
}

/* Cuts that are older than the one that is published go with its commit. */
void replica_drop_cuts(struct command *command, const struct volume *volume)
{
	const struct store *store = command->store;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume != volume->number || snapshot->policy != POLICY_CUT ||
		    snapshot->views || snapshot->busy || snapshot_kept(store, snapshot) ||
		    command->record_count == COMMAND_RECORDS_MAX)
			continue;
		command_add(command, record_number(LOG_DEL_SNAPSHOT, snapshot->number,
						   command_record(command)));
	}
}

struct snapshot *replica_newest(const struct store *store, const struct volume *copy)
{
	struct snapshot *best = NULL;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		struct snapshot *at = store->snapshots[i];
		if (at->volume != copy->number || at->state != OBJECT_LIVE)
			continue;
		if (!best || !position_before(at->epoch, at->vseq, best->epoch, best->vseq))
			best = at;
	}
	return best;
}

struct store_position replica_stands(const struct store *store, const struct volume *copy)
{
	const struct snapshot *newest = copy->whole ? NULL : replica_newest(store, copy);
	if (copy->whole)
		return (struct store_position){.epoch = copy->epoch, .vseq = copy->vseq};
	if (newest)
		return (struct store_position){.epoch = newest->epoch, .vseq = newest->vseq};
	return (struct store_position){0};
}

/* What the copy was before an older snapshot was received into it; NULL: that is not older. */
static struct snapshot *head_before(const struct store *store, const struct volume *copy,
				    const struct store_offer *offer)
{
	struct snapshot *newest = offer->cut ? NULL : replica_newest(store, copy);
	bool older =
		newest && position_before(offer->epoch, offer->vseq, newest->epoch, newest->vseq);
	return older ? newest : NULL;
}

/* All that needs the layers, which a reset drops, has a map of its own. */
static int seal_all(struct command *command, const struct volume *volume)
{
	const struct store *store = command->store;
	int res = 0;
	for (uint32_t i = 0; i < store->snapshot_count && res == 0; i++)
		if (store->snapshots[i]->volume == volume->number)
			res = command_seal(command, store->snapshots[i]);
	return res ? res : fold_volume(store) == volume ? WAITING : 0;
}

/* replica_keep made it, and nobody has come to need it. */
static bool kept_for_us(const struct store *store, const struct snapshot *snapshot)
{
	size_t length = strlen(snapshot->name), tail = strlen("-kept");
	return snapshot->policy == POLICY_CUT && length > tail &&
	       strcmp(snapshot->name + length - tail, "-kept") == 0 && !snapshot->views &&
	       !snapshot->busy && !snapshot_kept(store, snapshot);
}

/* It may have been taken here in the middle of a batch, and have some of what its original lost
 * since: who follows in step gets a cut first. */
static void put_head_back(struct command *command, const struct volume *volume,
			  const struct snapshot *head)
{
	struct store_position position = {.epoch = head->epoch, .vseq = head->vseq};
	struct volume changed = *volume;
	memset(position.incarnation, NOBODYS, sizeof position.incarnation);
	changed.top = head->top;
	changed.mapped_chunks = head->mapped_chunks;
	changed.size_bytes = head->size_bytes;
	command->busy_volume = volume->number;
	command_add(command, volume_encode_flags(&changed, PUT_RESET, command_record(command)));
	if (!store_has(command->store, FEATURE_FOLLOWERS))
		return;
	command_add(command,
		    follow_encode(volume, &position, FOLLOW_WHOLE, 0, command_record(command)));
	if (kept_for_us(command->store, head)) /* the copy itself is that */
		command_add(command,
			    record_number(LOG_DEL_SNAPSHOT, head->number, command_record(command)));
}

struct snapshot replica_snapshot(struct command *command, const struct volume *copy,
				 const struct volume *map)
{
	const struct store_offer *offer = command->offer;
	struct snapshot snapshot = {.number = command->store->next_number++,
				    .volume = copy->number,
				    .sealed = true,
				    .policy = offer->cut ? POLICY_CUT : 0,
				    .size_bytes = offer->size_bytes,
				    .epoch = offer->epoch,
				    .vseq = offer->vseq,
				    .created_wall_ns = offer->created_wall_ns,
				    .mapped_chunks = map->mapped_chunks,
				    .top = map->top};
	memcpy(snapshot.name, offer->snapshot, NAME_ROOM);
	return snapshot;
}

/* The volume has been folded and its root compared: what it is now is the snapshot. */
static int prepare_publish(struct command *command)
{
	struct store *store = command->store;
	const struct store_offer *offer = command->offer;
	int res = 0;
	const struct volume *volume = command_volume(command, command->name, &res);
	if (!volume || (res = check_fence(command, offer)) < 0)
		return res;
	if ((res = command_snapshot_room(command, 1)) < 0)
		return res;
	const struct snapshot *head = head_before(store, volume, offer);
	if (head && (res = seal_all(command, volume)))
		return res;
	struct snapshot snapshot = replica_snapshot(command, volume, volume);
	command_add(command, snapshot_encode_flags(&snapshot, PUT_FULL, command_record(command)));
	struct store_position position = {.epoch = offer->epoch, .vseq = offer->vseq};
	const struct store_line *line = lines_find(&offer->lines, offer->epoch);
	bool furthest = replica_goes_on(store, volume, offer); /* an old one changes no line */
	if (line)
		memcpy(position.incarnation, line->incarnation, 16);
	if (head)
		put_head_back(command, volume, head);
	else if (store_has(store, FEATURE_FOLLOWERS)) /* else it is never in step */
		command_add(command, follow_encode(volume, &position, FOLLOW_WHOLE, 0,
						   command_record(command)));
	if (furthest && store_has(store, FEATURE_LINES))
		command_add(command, lines_encode(volume->number, &offer->lines, offer->vseq,
						  command_record(command)));
	if (offer->cut)
		replica_drop_cuts(command, volume);
	return 0;
}

void replica_publish(struct store *store, struct admin_op *op, const char *name,
		     const struct store_offer *offer)
{
	replica_command(store, op, name, offer, prepare_publish);
}

int foreign_record_decode(struct foreign_record *foreign, uint8_t type, const void *record,
			  uint32_t record_bytes_given)
{
	struct dir_entry entry;
	int res = record_decode_header(record, record_bytes_given, &entry, foreign->frames);
	if (res < 0)
		return res;
	if (entry.type != type || !id_equal(&entry.id, &foreign->id) ||
	    record_bytes(&entry, foreign->frames) != record_bytes_given)
		return -VS_EFORMAT;
	foreign->frame_bytes = entry.raw_bytes / entry.frame_count;
	foreign->stored = (const uint8_t *)record + record_header_bytes(entry.frame_count);
	foreign->stored_bytes = record_bytes_given - record_header_bytes(entry.frame_count);
	return 0;
}
