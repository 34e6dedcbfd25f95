/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes and snapshots, and what the log's records do to them.
 *
 * Keeps true:
 *  - catalog_apply is the only place where they change, so that replay ends where the running store
 * was;
 *  - a record that is put while another one is on its way does not undo it: a fold's record moves
 * only the map, an administrator's everything else;
 *  - both arrays are in the order of numbers, which is the order of birth, so that finding one
 * among tens of thousands is a few steps;
 *  - a snapshot is the volume's map and the layers up to its own; layers are folded oldest first
 * and whole, so the map reaches that very state once, and then the snapshot is sealed with it.
 */
#include "storage/store/catalog.h"

#include "storage/store/lines.h"
#include "storage/store/mutant.h"
#include "storage/store/replica.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"

#include <stdlib.h>

/* ---- finding ---- */

static_assert(offsetof(struct volume, number) == 0 && offsetof(struct snapshot, number) == 0,
	      "a number is what both begin with");

/* Where the first volume, or snapshot, of this number or a larger one is. */
static uint32_t place_of(void *const *array, uint32_t count, uint32_t number)
{
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (*(const uint32_t *)array[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void *by_number(void *const *array, uint32_t count, uint32_t number)
{
	uint32_t at = place_of(array, count, number);
	return at < count && *(const uint32_t *)array[at] == number ? array[at] : NULL;
}

struct volume *volume_by_number(const struct store *store, uint32_t number)
{
	return by_number((void *const *)store->volumes, store->volume_count, number);
}

struct volume *volume_by_name(const struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (store->volumes[i]->state == OBJECT_LIVE &&
		    strcmp(store->volumes[i]->name, name) == 0)
			return store->volumes[i];
	return NULL;
}

struct snapshot *snapshot_by_number(const struct store *store, uint32_t number)
{
	return by_number((void *const *)store->snapshots, store->snapshot_count, number);
}

struct snapshot *snapshot_of(const struct store *store, uint32_t volume, const char *name)
{
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume == volume && snapshot->state == OBJECT_LIVE &&
		    strcmp(snapshot->name, name) == 0)
			return snapshot;
	}
	return NULL;
}

struct snapshot *snapshot_by_name(const struct store *store, const char *volume_at_name)
{
	const char *at = strchr(volume_at_name, '@');
	char name[NAME_ROOM];
	if (!at || at - volume_at_name > (ptrdiff_t)NAME_BYTES_MAX)
		return NULL;
	memcpy(name, volume_at_name, (size_t)(at - volume_at_name));
	name[at - volume_at_name] = 0;
	struct volume *volume = volume_by_name(store, name);
	return volume ? snapshot_of(store, volume->number, at + 1) : NULL;
}

bool snapshot_retained(const struct store *store, const struct snapshot *snapshot)
{
	return snapshot->retain_until_wall_ns && snapshot->age_ns > store_age_ns(store);
}

bool snapshot_kept(const struct store *store, const struct snapshot *snapshot)
{
	return snapshot->hold_count || snapshot_retained(store, snapshot);
}

struct layer *volume_active(const struct volume *volume)
{
	return volume->layers[volume->layer_count - 1];
}

uint64_t volume_dirty_chunks(const struct volume *volume)
{
	uint64_t count = 0;
	for (uint32_t i = 0; i < volume->layer_count; i++)
		count += volume->layers[i]->entry_count;
	return count;
}

uint32_t view_layer_count(const struct volume *volume, const struct snapshot *snapshot)
{
	uint32_t count = 0;
	if (!snapshot)
		return volume->layer_count;
	if (snapshot->sealed)
		return 0;
	while (count < volume->layer_count && volume->layers[count]->number <= snapshot->layer)
		count++;
	return count;
}

const struct id *view_top(const struct volume *volume, const struct snapshot *snapshot)
{
	return snapshot && snapshot->sealed ? &snapshot->top : &volume->top;
}

/* ---- layers that are read, and the log's tail ---- */

void layer_use(struct layer *layer)
{
	layer->users++;
}

void layer_unuse(struct store *store, struct layer *layer)
{
	assert(layer->users > 0);
	if (--layer->users || !layer->dropped)
		return;
	for (struct layer **at = &store->zombies; *at; at = &(*at)->next)
		if (*at == layer) {
			*at = layer->next;
			break;
		}
	layer_free(layer);
}

static void layer_drop(struct store *store, struct layer *layer)
{
	if (layer->users == 0) {
		layer_free(layer);
		return;
	}
	layer->dropped = true;
	layer->next = store->zombies;
	store->zombies = layer;
}

uint64_t catalog_tail(const struct store *store, uint64_t most)
{
	for (uint32_t i = 0; i < store->volume_count; i++)
		for (uint32_t k = 0; k < store->volumes[i]->layer_count; k++) {
			const struct layer *layer = store->volumes[i]->layers[k];
			if (layer->log_blocks || layer->users)
				most = min_u64(most, layer->start_pos);
		}
	for (const struct layer *layer = store->zombies; layer && !MUTANT(48); layer = layer->next)
		most = min_u64(most, layer->start_pos);
	return most;
}

/* ---- adding and removing ---- */

static void volume_free(struct volume *volume)
{
	for (uint32_t i = 0; i < volume->layer_count; i++)
		layer_free(volume->layers[i]);
	free(volume);
}

void catalog_free(struct store *store)
{
	for (uint32_t i = 0; i < store->volume_count; i++)
		volume_free(store->volumes[i]);
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		free(store->snapshots[i]);
	while (store->zombies) {
		struct layer *layer = store->zombies;
		store->zombies = layer->next;
		layer_free(layer);
	}
	free(store->volumes);
	free(store->snapshots);
	store->volumes = NULL;
	store->snapshots = NULL;
	store->volume_count = store->snapshot_count = 0;
}

/* One more, at its place, in an array that grows by powers of two. */
static int array_add(void ***array, uint32_t *count, uint32_t count_max, void *item)
{
	if (*count >= count_max)
		return -VS_EFORMAT;
	if ((*count & (*count - 1)) == 0) {
		uint32_t room = *count ? 2 * *count : 1;
		void **larger = realloc(*array, room * sizeof(void *));
		if (!larger)
			return -ENOMEM;
		*array = larger;
	}
	uint32_t place = place_of(*array, *count, *(const uint32_t *)item);
	memmove(*array + place + 1, *array + place, (*count - place) * sizeof(void *));
	(*array)[place] = item;
	(*count)++;
	return 0;
}

static void array_remove(void **array, uint32_t *count, const void *item)
{
	uint32_t place = place_of(array, *count, *(const uint32_t *)item);
	(*count)--;
	memmove(array + place, array + place + 1, (*count - place) * sizeof(void *));
}

static void snapshot_remove(struct store *store, struct snapshot *snapshot)
{
	volume_by_number(store, snapshot->volume)->snapshot_count -= snapshot->state == OBJECT_LIVE;
	array_remove((void **)store->snapshots, &store->snapshot_count, snapshot);
	free(snapshot);
}

static void volume_remove(struct store *store, struct volume *volume)
{
	for (uint32_t i = store->snapshot_count; i-- > 0;)
		if (store->snapshots[i]->volume == volume->number)
			snapshot_remove(store, store->snapshots[i]);
	for (uint32_t i = 0; i < volume->layer_count; i++)
		layer_drop(store, volume->layers[i]);
	volume->layer_count = 0;
	array_remove((void **)store->volumes, &store->volume_count, volume);
	volume_free(volume);
}

static int volume_add_layer(struct store *store, struct volume *volume, uint64_t number)
{
	if (volume->layer_count == LAYERS_MAX)
		return -VS_EFORMAT; /* who appends a FREEZE looks before */
	struct layer *layer =
		layer_new(store->layer_pool, number, store->log ? log_applying_pos(store->log) : 0);
	if (!layer)
		return -ENOMEM;
	volume->layers[volume->layer_count++] = layer;
	return 0;
}

int volume_set_layers(struct volume *volume, struct layer **layers, uint32_t count)
{
	for (uint32_t i = 0; i < volume->layer_count; i++)
		layer_free(volume->layers[i]);
	memcpy(volume->layers, layers, count * sizeof(*layers));
	volume->layer_count = count;
	for (uint32_t i = 0; i + 1 < count; i++)
		if (!layers[i]->frozen || layers[i]->number >= layers[i + 1]->number)
			return -VS_EFORMAT;
	return layers[count - 1]->frozen ? -VS_EFORMAT : 0;
}

/* ---- what records do ---- */

/* Snapshots whose last layer is in the map now. */
static void snapshots_seal(struct store *store, const struct volume *volume)
{
	uint64_t first = volume->layers[0]->number;
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		struct snapshot *snapshot = store->snapshots[i];
		if (snapshot->volume != volume->number || snapshot->sealed ||
		    snapshot->layer >= first)
			continue;
		snapshot->sealed = true;
		snapshot->top = volume->top;
		snapshot->mapped_chunks = volume->mapped_chunks;
	}
}

static int apply_fold(struct store *store, struct volume *volume, const struct volume *folded)
{
	if (volume->layer_count < 2 || volume->layers[0]->number != folded->folded_layer)
		return -VS_EFORMAT;
	layer_drop(store, volume->layers[0]);
	memmove(&volume->layers[0], &volume->layers[1],
		--volume->layer_count * sizeof(volume->layers[0]));
	volume->top = folded->top;
	volume->mapped_chunks = folded->mapped_chunks;
	volume->folded_layer = folded->folded_layer;
	snapshots_seal(store, volume);
	return 0;
}

/* A change that no record of data tells has a position of its own, too: who stands before it does
 * not have it. */
static void apply_position(struct volume *volume, const struct volume *to)
{
	volume->vseq = max_u64(volume->vseq, to->vseq);
	volume->admitted_vseq = max_u64(volume->admitted_vseq, volume->vseq);
}

/* The volume becomes another state as a whole; there are no pending snapshots (who asks waits). */
static int apply_reset(struct store *store, struct volume *volume, const struct volume *to)
{
	uint64_t number = volume_active(volume)->number + 1;
	tap_broken(store, volume);
	for (uint32_t i = 0; i < volume->layer_count; i++)
		layer_drop(store, volume->layers[i]);
	volume->layer_count = 0;
	store->roots_gone++;
	volume->top = to->top;
	volume->mapped_chunks = to->mapped_chunks;
	volume->folded_layer = number - 1;
	volume->size_bytes = to->size_bytes;
	apply_position(volume, to);
	return volume_add_layer(store, volume, number);
}

/* Its data and its snapshots stay as they are. */
static int apply_copy(struct store *store, struct volume *volume, const struct volume *from)
{
	if (volume->replica || !from->replica)
		return -VS_EFORMAT;
	tap_broken(store, volume);
	memcpy(volume->name, from->name, NAME_ROOM);
	volume->replica = true;
	volume->quota_bytes = from->quota_bytes;
	volume->policy = from->policy;
	volume->lease = from->lease;
	volume->superseded_until_ns = 0;
	memset(volume->shipped, 0, sizeof volume->shipped);
	followers_forget(store, volume->number);
	return 0;
}

static int apply_put_volume(struct store *store, unsigned flags, const struct volume *from)
{
	struct volume *volume = volume_by_number(store, from->number);
	if ((!volume && flags != PUT_FULL) || !domain_by_number(store, from->domain))
		return -VS_EFORMAT;
	if (!volume) {
		volume = calloc(1, sizeof(*volume));
		if (!volume)
			return -ENOMEM;
		*volume = *from;
		volume->admitted_vseq = volume->vseq;
		volume->changed_ns = env_now_ns(store->env); /* an opening is no quiet time */
		int res = volume_add_layer(store, volume, from->folded_layer + 1);
		if (res == 0)
			res = array_add((void ***)&store->volumes, &store->volume_count,
					VOLUMES_MAX, volume);
		if (res < 0) {
			volume_free(volume);
			return res;
		}
		store->next_number = (uint32_t)max_u64(store->next_number, from->number + 1ull);
		return 0;
	}
	if (flags == PUT_FOLD)
		return apply_fold(store, volume, from);
	if (flags == PUT_RESET)
		return apply_reset(store, volume, from);
	if (flags == PUT_COPY)
		return apply_copy(store, volume, from);
	if (flags != PUT_ADMIN)
		return -VS_EFORMAT;
	if (volume->size_bytes != from->size_bytes || volume->state != from->state)
		tap_broken(store, volume);
	if (volume->size_bytes != from->size_bytes && !volume->replica)
		apply_position(volume, from);
	memcpy(volume->name, from->name, NAME_ROOM);
	volume->state = from->state;
	volume->replica &= from->replica; /* a copy may become a volume (adopt.c) ... */
	volume->whole &= volume->replica; /* ... and then follows nobody */
	if (!volume->replica)
		volume->home = (struct named_policy){0};
	volume->size_bytes = from->size_bytes;
	volume->quota_bytes = from->quota_bytes;
	volume->deleted_wall_ns = from->deleted_wall_ns;
	volume->deleted_age_ns = from->deleted_age_ns;
	volume->level = from->level;
	volume->frame_bytes = from->frame_bytes;
	volume->policy = from->policy;
	volume->limits = from->limits;
	volume->lease = from->lease;
	return 0; /* its epoch is raised by LOG_EPOCH only */
}

static int apply_put_snapshot(struct store *store, unsigned flags, const struct snapshot *from)
{
	struct snapshot *snapshot = snapshot_by_number(store, from->number);
	struct volume *volume = volume_by_number(store, from->volume);
	if (!volume || (!snapshot && flags == PUT_ADMIN) || (snapshot && flags != PUT_ADMIN) ||
	    flags > PUT_ADMIN)
		return -VS_EFORMAT;
	if (snapshot) {
		memcpy(snapshot->name, from->name, NAME_ROOM);
		volume->snapshot_count -= snapshot->state == OBJECT_LIVE;
		snapshot->state = from->state;
		volume->snapshot_count += snapshot->state == OBJECT_LIVE;
		snapshot->deleted_wall_ns = from->deleted_wall_ns;
		snapshot->age_ns = from->age_ns;
		snapshot->retain_until_wall_ns = from->retain_until_wall_ns;
		snapshot->hold_count = from->hold_count;
		memcpy(snapshot->holds, from->holds, sizeof(snapshot->holds));
		return 0;
	}
	snapshot = malloc(sizeof(*snapshot));
	if (!snapshot)
		return -ENOMEM;
	*snapshot = *from;
	if (flags == PUT_NEW) {
		snapshot->layer = volume_active(volume)->number - !MUTANT(14);
		snapshot->size_bytes = volume->size_bytes;
		snapshot->epoch = volume->epoch;
		snapshot->vseq = volume->vseq;
		snapshot->parent = 0;
		for (uint32_t i = 0; i < store->snapshot_count; i++)
			if (store->snapshots[i]->volume == volume->number)
				snapshot->parent = store->snapshots[i]->number;
	}
	int res = array_add((void ***)&store->snapshots, &store->snapshot_count, SNAPSHOTS_MAX,
			    snapshot);
	if (res < 0) {
		free(snapshot);
		return res;
	}
	volume->snapshot_count += snapshot->state == OBJECT_LIVE;
	store->next_number = (uint32_t)max_u64(store->next_number, from->number + 1ull);
	if (flags == PUT_NEW)
		snapshots_seal(store, volume);
	return 0;
}

static int apply_freeze(struct store *store, struct volume *volume)
{
	struct layer *active = volume_active(volume);
	if (active->entry_count == 0 && active->range_count == 0)
		return 0;
	if (MUTANT(12) && !store->started)
		return 0;
	active->frozen = true;
	return volume_add_layer(store, volume, active->number + 1);
}

static int apply_data(struct store *store, enum log_op op, struct volume *volume, struct cursor *c,
		      const struct log_payload *payload)
{
	struct layer *layer = volume_active(volume);
	uint64_t vseq = get_u64(c), epoch = get_u64(c), first = get_u64(c), count = 0;
	int blocks = 0, res;
	if (layer->log_blocks == 0 && layer->users == 0)
		layer->start_pos = log_applying_pos(store->log);
	if (op == LOG_WRITE) {
		count = get_u32(c);
		if (c->failed || !payload || count > payload->block_count)
			return -VS_EFORMAT;
		blocks = (int)count;
	} else if (op == LOG_ZERO) {
		count = get_u64(c);
	} else {
		count = CHUNK_BLOCKS;
		if (first > VOLUME_BYTES_MAX / CHUNK_BYTES)
			return -VS_EFORMAT;
	}
	uint64_t end = VOLUME_BYTES_MAX / BLOCK_BYTES;
	uint64_t first_block = op == LOG_CHUNK ? first * CHUNK_BLOCKS : first;
	if (c->failed || count == 0 || first_block > end || count > end - first_block ||
	    epoch != volume->epoch)
		return -VS_EFORMAT;
	if (op == LOG_WRITE) {
		res = layer_write(layer, first, (uint32_t)count, payload->log_block, payload->crc);
	} else if (op == LOG_ZERO) {
		res = layer_zero(layer, first, count);
	} else {
		struct id id;
		get_bytes(c, &id, sizeof id);
		res = c->failed ? -VS_EFORMAT : layer_set_id(layer, first, &id);
	}
	if (res < 0)
		return res;
	volume->vseq = max_u64(volume->vseq, vseq);
	volume->admitted_vseq = max_u64(volume->admitted_vseq, vseq);
	volume->changed_ns = env_now_ns(store->env);
	volume->written_bytes += count * BLOCK_BYTES;
	return blocks;
}

static int apply_epoch(struct volume *volume, struct cursor *c)
{
	uint64_t epoch = get_u64(c);
	if (c->failed || epoch <= volume->epoch)
		return -VS_EFORMAT;
	volume->epoch = epoch;
	get_bytes(c, volume->incarnation, sizeof volume->incarnation);
	if (c->failed)
		return -VS_EFORMAT;
	lines_add(volume, epoch, volume->incarnation);
	return 0;
}

int catalog_apply(struct store *store, const void *record, uint32_t bytes,
		  const struct log_payload *payload)
{
	struct cursor c = cursor_reading(record, bytes);
	unsigned op = get_u8(&c), flags = get_u8(&c);
	get_u16(&c);
	uint32_t number = get_u32(&c);
	if (c.failed)
		return -VS_EFORMAT;
	struct volume *volume = volume_by_number(store, number);
	struct snapshot *snapshot;
	struct volume new_volume;
	struct snapshot new_snapshot;
	int res = 0;
	switch (op) {
	case LOG_WRITE:
	case LOG_ZERO:
	case LOG_CHUNK:
		return volume ? apply_data(store, op, volume, &c, payload) : -VS_EFORMAT;
	case LOG_FREEZE:
		return volume ? apply_freeze(store, volume) : -VS_EFORMAT;
	case LOG_PUT_VOLUME:
		res = volume_decode(&c, number, &new_volume);
		return res < 0 ? res : apply_put_volume(store, flags, &new_volume);
	case LOG_DEL_VOLUME:
		if (!volume)
			return -VS_EFORMAT;
		followers_forget(store, number);
		volume_remove(store, volume);
		store->roots_gone++;
		return 0;
	case LOG_PUT_SNAPSHOT:
		res = snapshot_decode(&c, number, &new_snapshot);
		return res < 0 ? res : apply_put_snapshot(store, flags, &new_snapshot);
	case LOG_DEL_SNAPSHOT:
		snapshot = snapshot_by_number(store, number);
		if (!snapshot)
			return -VS_EFORMAT;
		snapshot_remove(store, snapshot);
		store->roots_gone++;
		return 0;
	case LOG_PUT_SEGMENT: {
		uint64_t id = get_u64(&c);
		uint32_t device = cursor_left(&c) ? get_u32(&c) : 0; /* once it had none */
		return c.failed || device ? -VS_EFORMAT : segments_add(store, id, number);
	}
	case LOG_DEL_SEGMENT:
		if (!segment_of(store, number))
			return -VS_EFORMAT;
		segments_remove(store, number);
		return 0;
	case LOG_EPOCH:
		return volume ? apply_epoch(volume, &c) : -VS_EFORMAT;
	case LOG_BARRIER:
		return 0;
	case LOG_PUT_DOMAIN:
		return domain_apply(store, number, &c);
	case LOG_PUT_PEER:
	case LOG_DEL_PEER:
		return peer_apply(store, op, &c);
	case LOG_FOLLOW:
		return volume ? follow_apply(volume, &c) : -VS_EFORMAT;
	case LOG_LINES:
		return volume ? lines_apply(volume, &c) : -VS_EFORMAT;
	case LOG_SHIPPED:
		return volume ? shipped_apply(volume, &c) : -VS_EFORMAT;
	case LOG_HOME_POLICY:
		return volume ? home_apply(volume, &c) : -VS_EFORMAT;
	case LOG_PUT_FOLLOWER:
	case LOG_DEL_FOLLOWER:
		return follower_apply(store, op, number, &c);
	case LOG_PUT_WORD:
		return word_apply(store, &c);
	case LOG_PUT_PROMISE:
		return promise_apply(store, &c);
	case LOG_PUT_POLICY:
	case LOG_DEL_POLICY:
		return policy_apply(store, op, number, &c);
	default:
		return -VS_EFORMAT;
	}
}
