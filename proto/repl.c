/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of replication's messages (repl.h) of a connection and of transfers; repl_follow.c has
 * those about volumes that are followed. */
#include "proto/repl_int.h"

#include "proto/node_delta.h"

#include <stdio.h>

int repl_decode_header(const void *bytes, struct repl_header *ret)
{
	struct cursor c = cursor_reading(bytes, REPL_HEADER_BYTES);
	struct repl_header header = {.body_bytes = get_u32(&c), .type = get_u8(&c)};
	header.flags = get_u8(&c);
	uint16_t zero = get_u16(&c);
	header.request = get_u64(&c);
	if (header.body_bytes > REPL_BODY_MAX || header.type == 0 ||
	    header.flags & ~(unsigned)REPL_REPLY || zero)
		return -VS_EFORMAT;
	*ret = header;
	return 0;
}

/* ---- HELLO, ERROR, OK ---- */

#define HELLO_BYTES 48u

uint32_t repl_encode_hello(const struct repl_hello *hello, void *out)
{
	struct cursor c = message_begin(out, REPL_HELLO, 0, 0, HELLO_BYTES);
	put_u32(&c, REPL_MAGIC);
	put_u16(&c, hello->version_min);
	put_u16(&c, hello->version_max);
	put_bytes(&c, hello->store_uuid, 16);
	put_u64(&c, hello->features_needed);
	put_u64(&c, hello->features_known);
	put_u64(&c, hello->wall_ns);
	return message_end(&c, out);
}

int repl_decode_hello(const void *body, size_t bytes, struct repl_hello *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_hello hello = {0};
	bool good = get_u32(&c) == REPL_MAGIC;
	hello.version_min = get_u16(&c);
	hello.version_max = get_u16(&c);
	get_bytes(&c, hello.store_uuid, 16);
	hello.features_needed = get_u64(&c);
	hello.features_known = get_u64(&c);
	hello.wall_ns = get_u64(&c);
	if (c.failed || !good || hello.version_min > hello.version_max)
		return -VS_EFORMAT; /* a newer version's may be longer */
	*ret = hello;
	return 0;
}

uint32_t repl_encode_error(uint64_t request, unsigned flags, int code, const char *sentence,
			   void *out)
{
	uint32_t bytes = (uint32_t)min_u64(strlen(sentence), SENTENCE_BYTES - 1);
	struct cursor c = message_begin(out, REPL_ERROR, flags, request, 6 + bytes);
	put_u32(&c, (uint32_t)code);
	put_u16(&c, (uint16_t)bytes);
	put_bytes(&c, sentence, bytes);
	return message_end(&c, out);
}

int repl_decode_error(const void *body, size_t bytes, struct repl_error *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_error error = {.code = (int32_t)get_u32(&c)};
	uint16_t sentence_bytes = get_u16(&c);
	if (c.failed || error.code >= 0 || error.code < -65535 ||
	    sentence_bytes >= SENTENCE_BYTES || cursor_left(&c) != sentence_bytes)
		return -VS_EFORMAT;
	get_bytes(&c, error.sentence, sentence_bytes);
	for (char *at = error.sentence; *at; at++) /* it goes into logs and terminals */
		if ((unsigned char)*at < ' ' || *at == 127)
			*at = '?';
	*ret = error;
	return 0;
}

void repl_quote(const char *peer, const struct repl_error *error, char ret_sentence[SENTENCE_BYTES])
{
	snprintf(ret_sentence, SENTENCE_BYTES, "%.63s says: %.*s", peer[0] ? peer : "The peer",
		 SENTENCE_BYTES - 73, error->sentence);
}

uint32_t repl_encode_ok(uint64_t request, void *out)
{
	struct cursor c = message_begin(out, REPL_OK, REPL_REPLY, request, 0);
	return message_end(&c, out);
}

uint32_t repl_encode_alive(void *out)
{
	struct cursor c = message_begin(out, REPL_ALIVE, 0, 0, 0);
	return message_end(&c, out);
}

/* ---- DOMAIN ---- */

uint32_t repl_encode_domain(uint64_t request, const struct repl_domain *domain, void *out)
{
	struct cursor c = message_begin(out, REPL_DOMAIN, 0, request, 16 + 64 + REPL_NAME_ROOM);
	put_bytes(&c, domain->uuid, 16);
	put_bytes(&c, domain->key, 64);
	put_name(&c, domain->name);
	return message_end(&c, out);
}

int repl_decode_domain(const void *body, size_t bytes, struct repl_domain *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_domain domain = {0};
	get_bytes(&c, domain.uuid, 16);
	get_bytes(&c, domain.key, 64);
	bool good = get_name(&c, domain.name);
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = domain;
	return 0;
}

/* ---- what is told of a policy, at the end of a body; POLICY ---- */

static uint32_t told_bytes(const struct told_policy *told)
{
	if (!told->told)
		return 0;
	return 8 + (told->policy.name[0] ? policy_bytes(&told->policy.rules) : 0);
}

static void put_told(struct cursor *c, const struct told_policy *told)
{
	if (!told->told)
		return;
	put_u8(c, told->policy.name[0] != 0);
	put_zeros(c, 7);
	if (told->policy.name[0])
		policy_put(c, &told->policy);
}

/* It is one that a person could have set, or none. */
static bool get_told(struct cursor *c, struct told_policy *ret)
{
	char sentence[SENTENCE_BYTES];
	if (!cursor_left(c))
		return true;
	ret->told = true;
	uint8_t has = get_u8(c);
	if (!get_zeros(c, 7) || has > 1)
		return false;
	return !has || (policy_get(c, &ret->policy) && policy_check(&ret->policy, sentence) == 0);
}

uint32_t repl_encode_policy(const struct told_policy *told, void *out)
{
	assert(told->told);
	struct cursor c = message_begin(out, REPL_POLICY, 0, 0, told_bytes(told));
	put_told(&c, told);
	return message_end(&c, out);
}

int repl_decode_policy(const void *body, size_t bytes, struct told_policy *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct told_policy told = {0};
	bool good = get_told(&c, &told) && told.told;
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = told;
	return 0;
}

/* ---- OFFER ---- */

#define OFFER_BYTES (3 * 16u + 5 * 8 + 8 + 2 * ID_BYTES + 2 * REPL_NAME_ROOM + 8)
#define LINE_BYTES 32u
enum offer_kind { OFFER_CUT = 1, OFFER_BESIDE = 2 };

uint32_t repl_encode_offer(uint64_t request, const struct repl_offer *offer, void *out)
{
	assert(offer->line_count <= REPL_LINES_MAX);
	struct cursor c = message_begin(out, REPL_OFFER, 0, request,
					OFFER_BYTES + offer->line_count * LINE_BYTES +
						told_bytes(&offer->policy));
	put_bytes(&c, offer->transfer, 16);
	put_bytes(&c, offer->domain, 16);
	put_bytes(&c, offer->volume_uuid, 16);
	put_u64(&c, offer->size_bytes);
	put_u64(&c, offer->created_wall_ns);
	put_u64(&c, offer->epoch);
	put_u64(&c, offer->vseq);
	put_u64(&c, offer->mapped_chunks);
	put_u32(&c, offer->frame_bytes);
	put_u8(&c, offer->level);
	put_u8(&c, offer->cut ? OFFER_CUT : offer->beside ? OFFER_BESIDE : 0);
	put_zeros(&c, 2);
	put_bytes(&c, offer->top, ID_BYTES);
	put_bytes(&c, offer->root, ID_BYTES);
	put_name(&c, offer->volume);
	put_name(&c, offer->snapshot);
	put_u32(&c, offer->line_count);
	put_u32(&c, 0);
	for (uint32_t i = 0; i < offer->line_count; i++) {
		put_u64(&c, offer->lines[i].epoch);
		put_u64(&c, offer->lines[i].begin_vseq);
		put_bytes(&c, offer->lines[i].incarnation, 16);
	}
	put_told(&c, &offer->policy);
	return message_end(&c, out);
}

/* Their epochs rise, and none is above the offer's. */
static bool get_lines(struct cursor *c, struct repl_offer *offer)
{
	uint64_t below = 0;
	offer->line_count = get_u32(c);
	if (get_u32(c) || offer->line_count > REPL_LINES_MAX)
		return false;
	for (uint32_t i = 0; i < offer->line_count; i++) {
		struct repl_line *line = &offer->lines[i];
		line->epoch = get_u64(c);
		line->begin_vseq = get_u64(c);
		get_bytes(c, line->incarnation, 16);
		if (line->epoch <= below || line->epoch > offer->epoch)
			return false;
		below = line->epoch;
	}
	return true;
}

int repl_decode_offer(const void *body, size_t bytes, struct repl_offer *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_offer offer = {0};
	get_bytes(&c, offer.transfer, 16);
	get_bytes(&c, offer.domain, 16);
	get_bytes(&c, offer.volume_uuid, 16);
	offer.size_bytes = get_u64(&c);
	offer.created_wall_ns = get_u64(&c);
	offer.epoch = get_u64(&c);
	offer.vseq = get_u64(&c);
	offer.mapped_chunks = get_u64(&c);
	offer.frame_bytes = get_u32(&c);
	offer.level = get_u8(&c);
	uint8_t kind = get_u8(&c);
	bool good = get_zeros(&c, 2) && kind <= OFFER_BESIDE;
	offer.cut = kind == OFFER_CUT;
	offer.beside = kind == OFFER_BESIDE;
	get_bytes(&c, offer.top, ID_BYTES);
	get_bytes(&c, offer.root, ID_BYTES);
	good = get_name(&c, offer.volume) && good;
	good = get_name(&c, offer.snapshot) && good;
	good = get_lines(&c, &offer) && good;
	good = good && get_told(&c, &offer.policy);
	good = good && offer.size_bytes > 0 && offer.size_bytes % BLOCK_BYTES == 0 &&
	       offer.size_bytes <= VOLUME_BYTES_MAX && offer.epoch <= REPL_EPOCH_MAX &&
	       offer.vseq <= REPL_VSEQ_MAX;
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = offer;
	return 0;
}

/* ---- STATE ---- */

#define STATE_BYTES (8u + 4 * 8 + ID_BYTES)

uint32_t repl_encode_state(uint64_t request, const struct repl_state *state, void *out)
{
	struct cursor c = message_begin(out, REPL_STATE, REPL_REPLY, request, STATE_BYTES);
	put_u8(&c, state->state);
	put_zeros(&c, 7);
	put_u64(&c, state->chunks);
	put_u64(&c, state->fetched);
	put_u64(&c, state->found);
	put_u64(&c, state->received_bytes);
	put_bytes(&c, state->root, ID_BYTES);
	return message_end(&c, out);
}

int repl_decode_state(const void *body, size_t bytes, struct repl_state *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_state state = {.state = get_u8(&c)};
	bool good = get_zeros(&c, 7);
	state.chunks = get_u64(&c);
	state.fetched = get_u64(&c);
	state.found = get_u64(&c);
	state.received_bytes = get_u64(&c);
	get_bytes(&c, state.root, ID_BYTES);
	good = good && (state.state == REPL_RECEIVING || state.state == REPL_PUBLISHED);
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = state;
	return 0;
}

/* ---- GET, RECORD, MISSING, CANCEL, JOIN ---- */

uint32_t repl_encode_get(uint64_t request, const struct repl_get *get, void *out)
{
	assert(get->count >= 1 && get->count <= REPL_GET_MAX);
	struct cursor c = message_begin(out, REPL_GET, 0, request, 24 + get->count * ID_BYTES);
	put_u8(&c, get->type);
	put_zeros(&c, 3);
	put_u32(&c, get->count);
	put_bytes(&c, get->domain, 16);
	put_bytes(&c, get->ids, get->count * ID_BYTES);
	return message_end(&c, out);
}

int repl_decode_get(const void *body, size_t bytes, struct repl_get *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_get get = {.type = get_u8(&c)};
	bool good = get_zeros(&c, 3);
	get.count = get_u32(&c);
	get_bytes(&c, get.domain, 16);
	good = good && (get.type == REPL_GET_CHUNK || get.type == REPL_GET_NODE) &&
	       get.count >= 1 && get.count <= REPL_GET_MAX;
	if (!good)
		return -VS_EFORMAT;
	get.ids = cursor_take(&c, get.count * ID_BYTES);
	if (message_whole(&c, true) < 0)
		return -VS_EFORMAT;
	*ret = get;
	return 0;
}

uint32_t repl_encode_get_delta(uint64_t request, const struct repl_get_delta *get, void *out)
{
	assert(get->count >= 1 && get->count <= REPL_GET_MAX);
	struct cursor c =
		message_begin(out, REPL_GET_DELTA, 0, request, 24 + get->count * 2 * ID_BYTES);
	put_u32(&c, get->count);
	put_zeros(&c, 4);
	put_bytes(&c, get->domain, 16);
	put_bytes(&c, get->pairs, (size_t)get->count * 2 * ID_BYTES);
	return message_end(&c, out);
}

int repl_decode_get_delta(const void *body, size_t bytes, struct repl_get_delta *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_get_delta get = {.count = get_u32(&c)};
	bool good = get_zeros(&c, 4) && get.count >= 1 && get.count <= REPL_GET_MAX;
	get_bytes(&c, get.domain, 16);
	if (!good)
		return -VS_EFORMAT;
	get.pairs = cursor_take(&c, (size_t)get.count * 2 * ID_BYTES);
	if (message_whole(&c, true) < 0)
		return -VS_EFORMAT;
	*ret = get;
	return 0;
}

uint32_t repl_encode_delta(uint64_t request, const struct repl_delta *delta, void *out)
{
	struct cursor c = message_begin(out, REPL_DELTA, REPL_REPLY, request,
					2 * ID_BYTES + delta->delta_bytes);
	put_bytes(&c, delta->id, ID_BYTES);
	put_bytes(&c, delta->base, ID_BYTES);
	put_bytes(&c, delta->delta, delta->delta_bytes);
	return message_end(&c, out);
}

int repl_decode_delta(const void *body, size_t bytes, struct repl_delta *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_delta delta = {0};
	get_bytes(&c, delta.id, ID_BYTES);
	get_bytes(&c, delta.base, ID_BYTES);
	if (c.failed || !node_delta_good(c.at, cursor_left(&c)))
		return -VS_EFORMAT;
	delta.delta = c.at;
	delta.delta_bytes = (uint32_t)cursor_left(&c);
	*ret = delta;
	return 0;
}

uint32_t repl_encode_record(uint64_t request, const uint8_t id[ID_BYTES], uint32_t record_bytes,
			    void *out)
{
	struct cursor c =
		message_begin(out, REPL_RECORD, REPL_REPLY, request, ID_BYTES + record_bytes);
	put_bytes(&c, id, ID_BYTES);
	assert(!c.failed);
	return REPL_HEADER_BYTES + ID_BYTES;
}

int repl_decode_record(const void *body, size_t bytes, struct repl_record *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_record record = {0};
	get_bytes(&c, record.id, ID_BYTES);
	if (c.failed || cursor_left(&c) == 0)
		return -VS_EFORMAT;
	record.record = c.at;
	record.record_bytes = (uint32_t)cursor_left(&c);
	*ret = record;
	return 0;
}

uint32_t repl_encode_missing(uint64_t request, const uint8_t id[ID_BYTES], int code, void *out)
{
	struct cursor c = message_begin(out, REPL_MISSING, REPL_REPLY, request, ID_BYTES + 4);
	put_bytes(&c, id, ID_BYTES);
	put_u32(&c, (uint32_t)code);
	return message_end(&c, out);
}

int repl_decode_missing(const void *body, size_t bytes, uint8_t ret_id[ID_BYTES], int *ret_code)
{
	struct cursor c = cursor_reading(body, bytes);
	uint8_t id[ID_BYTES];
	get_bytes(&c, id, ID_BYTES);
	int32_t code = (int32_t)get_u32(&c);
	if (message_whole(&c, code < 0 && code >= -65535) < 0)
		return -VS_EFORMAT;
	memcpy(ret_id, id, ID_BYTES);
	*ret_code = code;
	return 0;
}

/* What names a transfer and says no more. */
static uint32_t encode_transfer(enum repl_type type, uint64_t request, const uint8_t transfer[16],
				void *out)
{
	struct cursor c = message_begin(out, type, 0, request, 16);
	put_bytes(&c, transfer, 16);
	return message_end(&c, out);
}

uint32_t repl_encode_cancel(uint64_t request, const uint8_t transfer[16], void *out)
{
	return encode_transfer(REPL_CANCEL, request, transfer, out);
}

uint32_t repl_encode_join(uint64_t request, const uint8_t transfer[16], void *out)
{
	return encode_transfer(REPL_JOIN, request, transfer, out);
}

int repl_decode_cancel(const void *body, size_t bytes, uint8_t ret_transfer[16])
{
	if (bytes != 16)
		return -VS_EFORMAT;
	memcpy(ret_transfer, body, 16);
	return 0;
}

int repl_decode_join(const void *body, size_t bytes, uint8_t ret_transfer[16])
{
	return repl_decode_cancel(body, bytes, ret_transfer);
}
