/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint's bytes: a header that proves itself and the body, and the body: the catalog as the
 * log's own records, with all layers. What is decoded is applied to a store that is being opened;
 * bytes that cannot be are -VS_EFORMAT or -VS_ECHECKSUM.
 */
#include "storage/store/checkpoint_int.h"

#include "proto/crc32c.h"
#include "storage/store/catalog.h"
#include "storage/store/lines.h"
#include "storage/store/mutant.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"
#include "storage/store/vote.h"

#define HEADER_HISTORY 1024u /* where it is in the header */
static_assert(HEADER_HISTORY + HISTORY_BYTES <= HEADER_BYTES - 4, "the header has room for it");
static const char magic[8] = "VSCHECKP";

void checkpoint_header_encode(const uint8_t uuid[16], uint64_t generation,
			      const struct log_place *place, const struct store_life *life,
			      const struct history *history, const uint8_t *body,
			      uint64_t body_bytes, uint8_t out[HEADER_BYTES])
{
	struct cursor c = cursor_over(out, HEADER_BYTES);
	put_bytes(&c, magic, 8);
	put_bytes(&c, uuid, 16);
	put_u64(&c, generation);
	put_u64(&c, place->pos);
	put_u64(&c, place->seq);
	put_bytes(&c, place->chain, CHECK_BYTES);
	put_u64(&c, body_bytes);
	put_u32(&c, crc32c(0, body, body_bytes));
	put_u32(&c, 0);
	put_u64(&c, life->age_ns);
	put_u64(&c, life->scrub_begun_ns);
	put_u64(&c, life->scrub_before_ns);
	put_u64(&c, life->scrub_segment_id);
	put_zeros(&c, cursor_left(&c) - 4);
	history_encode(history, out + HEADER_HISTORY);
	put_u32(&c, crc32c(0, out, HEADER_BYTES - 4));
	assert(!c.failed);
}

int checkpoint_header_decode(const uint8_t uuid[16], const uint8_t in[HEADER_BYTES],
			     struct checkpoint_header *ret)
{
	struct cursor c = cursor_reading(in, HEADER_BYTES);
	uint8_t from_magic[8], from_uuid[16];
	struct cursor end = cursor_reading(in + HEADER_BYTES - 4, 4);
	get_bytes(&c, from_magic, 8);
	get_bytes(&c, from_uuid, 16);
	ret->generation = get_u64(&c);
	ret->place.pos = get_u64(&c);
	ret->place.seq = get_u64(&c);
	get_bytes(&c, ret->place.chain, CHECK_BYTES);
	ret->body_bytes = get_u64(&c);
	ret->body_crc = get_u32(&c);
	get_u32(&c);
	ret->life.age_ns = get_u64(&c);
	ret->life.scrub_begun_ns = get_u64(&c);
	ret->life.scrub_before_ns = get_u64(&c);
	ret->life.scrub_segment_id = get_u64(&c);
	history_decode(&ret->history, in + HEADER_HISTORY);
	if (memcmp(from_magic, magic, 8) != 0 || memcmp(from_uuid, uuid, 16) != 0)
		return -VS_EFORMAT;
	if (get_u32(&end) != crc32c(0, in, HEADER_BYTES - 4))
		return -VS_ECHECKSUM;
	return ret->place.seq == 0 || ret->body_bytes > BODY_BYTES_MAX ? -VS_EFORMAT : 0;
}

size_t checkpoint_body_bytes(const struct store *store)
{
	size_t bytes =
		32 + store->volume_count * (LOG_RECORD_BYTES_MAX + 8ull) +
		store->snapshot_count * (size_t)LOG_RECORD_BYTES_MAX +
		segments_slot_count(store) * 24ull +
		(store->domain_count + store->peer_count + store->policy_count +
		 store->follower_count + 3ull * store->volume_count + 2ull * store->ballot_count +
		 1) * LOG_RECORD_BYTES_MAX;
	for (uint32_t i = 0; i < store->volume_count; i++)
		for (uint32_t k = 0; k < store->volumes[i]->layer_count; k++)
			bytes += layer_encoded_bytes(store->volumes[i]->layers[k]);
	return bytes;
}

static bool volume_has_home(const struct volume *volume)
{
	return volume->home.name[0] && !MUTANT(88);
}

static bool volume_has_lines(const struct store *store, const struct volume *volume)
{
	return volume->lines.count && store_has(store, FEATURE_LINES);
}

void checkpoint_body_encode(const struct store *store, struct cursor *c)
{
	uint8_t record[LOG_RECORD_BYTES_MAX];
	uint32_t segments = 0, lines = 0, shipped = 0, homes = 0, words = 0;
	put_u32(c, store->next_number);
	put_u32(c, store->volume_count);
	put_u64(c, store->next_segment_id);
	put_u64(c, store->domain_count + store->peer_count - DOMAIN_OWN);
	for (uint32_t i = DOMAIN_OWN; i < store->domain_count; i++)
		put_bytes(c, record, domain_encode(&store->domains[i], record));
	for (uint32_t i = 0; i < store->peer_count; i++)
		put_bytes(c, record, peer_encode(LOG_PUT_PEER, &store->peers[i], record));
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		put_bytes(c, record, volume_encode(volume, record));
		put_u64(c, volume->layer_count);
		for (uint32_t k = 0; k < volume->layer_count; k++)
			layer_encode(volume->layers[k], c);
	}
	put_u64(c, store->snapshot_count);
	for (uint32_t i = 0; i < store->snapshot_count; i++)
		put_bytes(c, record, snapshot_encode(store->snapshots[i], record));
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++)
		segments += segment_of(store, slot) != NULL;
	put_u64(c, segments);
	for (uint32_t slot = 1; slot < segments_slot_count(store); slot++) {
		const struct segment *segment = segment_of(store, slot);
		if (segment)
			put_bytes(c, record, record_segment(segment->id, slot, record));
	}
	for (uint32_t i = 0; i < store->volume_count; i++)
		lines += volume_has_lines(store, store->volumes[i]);
	for (uint32_t i = 0; i < store->volume_count; i++)
		shipped += volume_has_shipped(store->volumes[i]);
	for (uint32_t i = 0; i < store->volume_count; i++)
		homes += volume_has_home(store->volumes[i]);
	for (uint32_t i = 0; i < store->ballot_count; i++)
		words += (store->ballots[i]->word.term > 0) + (store->ballots[i]->promised > 0);
	put_u64(c, store->policy_count + store->follower_count + lines + shipped + homes + words);
	for (uint32_t i = 0; i < store->policy_count; i++)
		put_bytes(c, record, policy_encode(&store->policies[i], record));
	for (uint32_t i = 0; i < store->follower_count; i++)
		put_bytes(c, record,
			  follower_encode(LOG_PUT_FOLLOWER, &store->followers[i], record));
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		if (volume_has_lines(store, volume))
			put_bytes(c, record,
				  lines_encode(volume->number, &volume->lines, volume->durable_vseq,
					       record));
	}
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (volume_has_shipped(store->volumes[i]))
			put_bytes(c, record, shipped_encode(store->volumes[i], record));
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (volume_has_home(store->volumes[i]))
			put_bytes(c, record,
				  home_encode(store->volumes[i]->number, &store->volumes[i]->home,
					      record));
	for (uint32_t i = 0; i < store->ballot_count; i++) {
		const struct ballot *ballot = store->ballots[i];
		if (ballot->word.term)
			put_bytes(c, record, word_encode(&ballot->word, record));
		if (ballot->promised)
			put_bytes(c, record,
				  promise_encode(ballot->uuid, ballot->promised, record));
	}
	assert(!c->failed);
}

/* One record, applied. */
static int body_apply(struct store *store, struct cursor *c, enum log_op want)
{
	uint16_t bytes;
	if (cursor_left(c) < 8)
		return -VS_EFORMAT;
	memcpy(&bytes, c->at + 2, 2);
	const uint8_t *record = cursor_take(c, le16toh(bytes));
	if (!record || le16toh(bytes) < 8 || record[1] != PUT_FULL ||
	    (record[0] != want && !(want == LOG_PUT_DOMAIN && record[0] == LOG_PUT_PEER) &&
	     !(want == LOG_PUT_POLICY &&
	       (record[0] == LOG_PUT_FOLLOWER || record[0] == LOG_LINES ||
		record[0] == LOG_SHIPPED || record[0] == LOG_HOME_POLICY ||
		record[0] == LOG_PUT_WORD || record[0] == LOG_PUT_PROMISE))))
		return -VS_EFORMAT;
	return catalog_apply(store, record, le16toh(bytes), NULL);
}

static int body_decode_volume(struct store *store, struct cursor *c)
{
	struct layer *layers[LAYERS_MAX];
	int res = body_apply(store, c, LOG_PUT_VOLUME);
	uint64_t count = get_u64(c);
	if (res < 0 || count == 0 || count > LAYERS_MAX)
		return res < 0 ? res : -VS_EFORMAT;
	for (uint64_t k = 0; k < count; k++) {
		res = layer_decode(store->layer_pool, c, store->sb.log_bytes / BLOCK_BYTES,
				   &layers[k]);
		if (res < 0) {
			while (k-- > 0)
				layer_free(layers[k]);
			return res;
		}
	}
	return volume_set_layers(store->volumes[store->volume_count - 1], layers, (uint32_t)count);
}

int checkpoint_body_decode(struct store *store, struct cursor *c)
{
	uint32_t next_number = get_u32(c), volumes = get_u32(c);
	uint64_t next_segment_id = get_u64(c);
	uint64_t others = get_u64(c); /* domains, then peers: volumes name the former */
	int res = 0;
	for (uint64_t i = 0; i < others && res == 0; i++)
		res = body_apply(store, c, LOG_PUT_DOMAIN);
	for (uint32_t i = 0; i < volumes && res == 0; i++)
		res = body_decode_volume(store, c);
	uint64_t snapshots = res == 0 ? get_u64(c) : 0;
	for (uint64_t i = 0; i < snapshots && res == 0; i++)
		res = body_apply(store, c, LOG_PUT_SNAPSHOT);
	uint64_t segments = res == 0 ? get_u64(c) : 0;
	for (uint64_t i = 0; i < segments && res == 0; i++)
		res = body_apply(store, c, LOG_PUT_SEGMENT);
	uint64_t policies = res == 0 && cursor_left(c) ? get_u64(c) : 0; /* none in older ones */
	for (uint64_t i = 0; i < policies && res == 0; i++)
		res = body_apply(store, c, LOG_PUT_POLICY);
	if (res < 0)
		return res;
	if (c->failed)
		return -VS_EFORMAT;
	store->next_number = (uint32_t)max_u64(store->next_number, next_number);
	store->next_segment_id = max_u64(store->next_segment_id, next_segment_id);
	return 0;
}
