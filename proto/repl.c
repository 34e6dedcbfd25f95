/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of replication's messages (repl.h). Each decoder takes exactly its body: what is left
 * over, a name without end, or a number out of its range is refused. */
#include "proto/repl.h"

#include "proto/node_delta.h"
#include "proto/text.h"

#include <assert.h>

static struct cursor begin(void *out, enum repl_type type, unsigned flags, uint64_t request,
			   uint32_t body_bytes)
{
	assert(body_bytes <= REPL_BODY_MAX);
	struct cursor c = cursor_over(out, REPL_HEADER_BYTES + body_bytes);
	put_u32(&c, body_bytes);
	put_u8(&c, (uint8_t)type);
	put_u8(&c, (uint8_t)flags);
	put_u16(&c, 0);
	put_u64(&c, request);
	return c;
}

static uint32_t end(const struct cursor *c, const void *out)
{
	assert(!c->failed && cursor_left(c) == 0);
	return (uint32_t)(c->at - (const uint8_t *)out);
}

static bool zeros(struct cursor *c, size_t bytes)
{
	uint8_t any = 0;
	while (bytes-- > 0)
		any |= get_u8(c);
	return !any;
}

/* A name of NAME's room: terminated, and one that could have been given. */
static bool name(struct cursor *c, char ret[REPL_NAME_ROOM])
{
	get_bytes(c, ret, REPL_NAME_ROOM);
	return !c->failed && memchr(ret, 0, REPL_NAME_ROOM) && text_name_ok(ret, strlen(ret));
}

static void put_name(struct cursor *c, const char *name)
{
	char room[REPL_NAME_ROOM] = {0};
	size_t bytes = strlen(name);
	assert(bytes < sizeof room);
	memcpy(room, name, bytes);
	put_bytes(c, room, sizeof room);
}

static int whole(const struct cursor *c, bool good)
{
	return good && !c->failed && cursor_left(c) == 0 ? 0 : -VS_EFORMAT;
}

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
	struct cursor c = begin(out, REPL_HELLO, 0, 0, HELLO_BYTES);
	put_u32(&c, REPL_MAGIC);
	put_u16(&c, hello->version_min);
	put_u16(&c, hello->version_max);
	put_bytes(&c, hello->store_uuid, 16);
	put_u64(&c, hello->features_needed);
	put_u64(&c, hello->features_known);
	put_u64(&c, hello->wall_ns);
	return end(&c, out);
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
	struct cursor c = begin(out, REPL_ERROR, flags, request, 6 + bytes);
	put_u32(&c, (uint32_t)code);
	put_u16(&c, (uint16_t)bytes);
	put_bytes(&c, sentence, bytes);
	return end(&c, out);
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

uint32_t repl_encode_ok(uint64_t request, void *out)
{
	struct cursor c = begin(out, REPL_OK, REPL_REPLY, request, 0);
	return end(&c, out);
}

/* ---- DOMAIN, OFFER, STATE ---- */

uint32_t repl_encode_domain(uint64_t request, const struct repl_domain *domain, void *out)
{
	struct cursor c = begin(out, REPL_DOMAIN, 0, request, 16 + 64 + REPL_NAME_ROOM);
	put_bytes(&c, domain->uuid, 16);
	put_bytes(&c, domain->key, 64);
	put_name(&c, domain->name);
	return end(&c, out);
}

int repl_decode_domain(const void *body, size_t bytes, struct repl_domain *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_domain domain = {0};
	get_bytes(&c, domain.uuid, 16);
	get_bytes(&c, domain.key, 64);
	bool good = name(&c, domain.name);
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = domain;
	return 0;
}

#define OFFER_BYTES (3 * 16u + 5 * 8 + 8 + 2 * ID_BYTES + 2 * REPL_NAME_ROOM + 8)
#define LINE_BYTES 32u
enum offer_kind { OFFER_CUT = 1, OFFER_BESIDE = 2 };

uint32_t repl_encode_offer(uint64_t request, const struct repl_offer *offer, void *out)
{
	assert(offer->line_count <= REPL_LINES_MAX);
	struct cursor c =
		begin(out, REPL_OFFER, 0, request, OFFER_BYTES + offer->line_count * LINE_BYTES);
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
	return end(&c, out);
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
	bool good = zeros(&c, 2) && kind <= OFFER_BESIDE;
	offer.cut = kind == OFFER_CUT;
	offer.beside = kind == OFFER_BESIDE;
	get_bytes(&c, offer.top, ID_BYTES);
	get_bytes(&c, offer.root, ID_BYTES);
	good = name(&c, offer.volume) && good;
	good = name(&c, offer.snapshot) && good;
	good = get_lines(&c, &offer) && good;
	good = good && offer.size_bytes > 0 && offer.size_bytes % BLOCK_BYTES == 0 &&
	       offer.size_bytes <= VOLUME_BYTES_MAX && offer.epoch <= REPL_EPOCH_MAX &&
	       offer.vseq <= REPL_VSEQ_MAX;
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = offer;
	return 0;
}

#define STATE_BYTES (8u + 4 * 8 + ID_BYTES)

uint32_t repl_encode_state(uint64_t request, const struct repl_state *state, void *out)
{
	struct cursor c = begin(out, REPL_STATE, REPL_REPLY, request, STATE_BYTES);
	put_u8(&c, state->state);
	put_zeros(&c, 7);
	put_u64(&c, state->chunks);
	put_u64(&c, state->fetched);
	put_u64(&c, state->found);
	put_u64(&c, state->received_bytes);
	put_bytes(&c, state->root, ID_BYTES);
	return end(&c, out);
}

int repl_decode_state(const void *body, size_t bytes, struct repl_state *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_state state = {.state = get_u8(&c)};
	bool good = zeros(&c, 7);
	state.chunks = get_u64(&c);
	state.fetched = get_u64(&c);
	state.found = get_u64(&c);
	state.received_bytes = get_u64(&c);
	get_bytes(&c, state.root, ID_BYTES);
	good = good && (state.state == REPL_RECEIVING || state.state == REPL_PUBLISHED);
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = state;
	return 0;
}

/* ---- GET, RECORD, MISSING, CANCEL ---- */

uint32_t repl_encode_get(uint64_t request, const struct repl_get *get, void *out)
{
	assert(get->count >= 1 && get->count <= REPL_GET_MAX);
	struct cursor c = begin(out, REPL_GET, 0, request, 24 + get->count * ID_BYTES);
	put_u8(&c, get->type);
	put_zeros(&c, 3);
	put_u32(&c, get->count);
	put_bytes(&c, get->domain, 16);
	put_bytes(&c, get->ids, get->count * ID_BYTES);
	return end(&c, out);
}

int repl_decode_get(const void *body, size_t bytes, struct repl_get *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_get get = {.type = get_u8(&c)};
	bool good = zeros(&c, 3);
	get.count = get_u32(&c);
	get_bytes(&c, get.domain, 16);
	good = good && (get.type == REPL_GET_CHUNK || get.type == REPL_GET_NODE) &&
	       get.count >= 1 && get.count <= REPL_GET_MAX;
	if (!good)
		return -VS_EFORMAT;
	get.ids = cursor_take(&c, get.count * ID_BYTES);
	if (whole(&c, true) < 0)
		return -VS_EFORMAT;
	*ret = get;
	return 0;
}

uint32_t repl_encode_get_delta(uint64_t request, const struct repl_get_delta *get, void *out)
{
	assert(get->count >= 1 && get->count <= REPL_GET_MAX);
	struct cursor c = begin(out, REPL_GET_DELTA, 0, request, 24 + get->count * 2 * ID_BYTES);
	put_u32(&c, get->count);
	put_zeros(&c, 4);
	put_bytes(&c, get->domain, 16);
	put_bytes(&c, get->pairs, (size_t)get->count * 2 * ID_BYTES);
	return end(&c, out);
}

int repl_decode_get_delta(const void *body, size_t bytes, struct repl_get_delta *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_get_delta get = {.count = get_u32(&c)};
	bool good = zeros(&c, 4) && get.count >= 1 && get.count <= REPL_GET_MAX;
	get_bytes(&c, get.domain, 16);
	if (!good)
		return -VS_EFORMAT;
	get.pairs = cursor_take(&c, (size_t)get.count * 2 * ID_BYTES);
	if (whole(&c, true) < 0)
		return -VS_EFORMAT;
	*ret = get;
	return 0;
}

uint32_t repl_encode_delta(uint64_t request, const struct repl_delta *delta, void *out)
{
	struct cursor c =
		begin(out, REPL_DELTA, REPL_REPLY, request, 2 * ID_BYTES + delta->delta_bytes);
	put_bytes(&c, delta->id, ID_BYTES);
	put_bytes(&c, delta->base, ID_BYTES);
	put_bytes(&c, delta->delta, delta->delta_bytes);
	return end(&c, out);
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
	struct cursor c = begin(out, REPL_RECORD, REPL_REPLY, request, ID_BYTES + record_bytes);
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
	struct cursor c = begin(out, REPL_MISSING, REPL_REPLY, request, ID_BYTES + 4);
	put_bytes(&c, id, ID_BYTES);
	put_u32(&c, (uint32_t)code);
	return end(&c, out);
}

int repl_decode_missing(const void *body, size_t bytes, uint8_t ret_id[ID_BYTES], int *ret_code)
{
	struct cursor c = cursor_reading(body, bytes);
	uint8_t id[ID_BYTES];
	get_bytes(&c, id, ID_BYTES);
	int32_t code = (int32_t)get_u32(&c);
	if (whole(&c, code < 0 && code >= -65535) < 0)
		return -VS_EFORMAT;
	memcpy(ret_id, id, ID_BYTES);
	*ret_code = code;
	return 0;
}

uint32_t repl_encode_cancel(uint64_t request, const uint8_t transfer[16], void *out)
{
	struct cursor c = begin(out, REPL_CANCEL, 0, request, 16);
	put_bytes(&c, transfer, 16);
	return end(&c, out);
}

int repl_decode_cancel(const void *body, size_t bytes, uint8_t ret_transfer[16])
{
	if (bytes != 16)
		return -VS_EFORMAT;
	memcpy(ret_transfer, body, 16);
	return 0;
}

/* ---- FOLLOW, POSITION, WRITE, COMMIT ---- */

#define POSITION_BYTES 32u

static void put_position(struct cursor *c, const struct repl_position *position)
{
	put_u64(c, position->epoch);
	put_u64(c, position->vseq);
	put_bytes(c, position->incarnation, 16);
}

/* False: whoever counts on from there would wrap. */
static bool get_position(struct cursor *c, struct repl_position *ret)
{
	ret->epoch = get_u64(c);
	ret->vseq = get_u64(c);
	get_bytes(c, ret->incarnation, 16);
	return ret->epoch <= REPL_EPOCH_MAX && ret->vseq <= REPL_VSEQ_MAX;
}

uint32_t repl_encode_follow(uint64_t request, const struct repl_follow *follow, void *out)
{
	struct cursor c = begin(out, REPL_FOLLOW, 0, request, 16 + POSITION_BYTES + REPL_NAME_ROOM);
	put_bytes(&c, follow->volume_uuid, 16);
	put_position(&c, &follow->position);
	put_name(&c, follow->volume);
	return end(&c, out);
}

int repl_decode_follow(const void *body, size_t bytes, struct repl_follow *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_follow follow = {0};
	get_bytes(&c, follow.volume_uuid, 16);
	bool good = get_position(&c, &follow.position);
	good = name(&c, follow.volume) && good;
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = follow;
	return 0;
}

uint32_t repl_encode_position(uint64_t request, const struct repl_position *position, void *out)
{
	struct cursor c = begin(out, REPL_POSITION, REPL_REPLY, request, POSITION_BYTES);
	put_position(&c, position);
	return end(&c, out);
}

int repl_decode_position(const void *body, size_t bytes, struct repl_position *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_position position;
	bool good = get_position(&c, &position);
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = position;
	return 0;
}

uint32_t repl_encode_write(uint64_t offset_bytes, uint64_t length_bytes, bool data, void *out)
{
	assert(!data || length_bytes <= REPL_WRITE_MAX);
	struct cursor c = begin(out, REPL_WRITE, 0, 0, 16 + (data ? (uint32_t)length_bytes : 0));
	put_u64(&c, offset_bytes);
	put_u64(&c, length_bytes);
	assert(!c.failed);
	return REPL_HEADER_BYTES + 16;
}

int repl_decode_write(const void *body, size_t bytes, struct repl_write *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_write write = {.offset_bytes = get_u64(&c)};
	write.length_bytes = get_u64(&c);
	size_t left = cursor_left(&c);
	bool good = write.length_bytes > 0 && write.length_bytes % BLOCK_BYTES == 0 &&
		    write.offset_bytes % BLOCK_BYTES == 0 &&
		    write.offset_bytes <= VOLUME_BYTES_MAX &&
		    write.length_bytes <= VOLUME_BYTES_MAX - write.offset_bytes &&
		    (left == 0 || left == write.length_bytes);
	if (c.failed || !good)
		return -VS_EFORMAT;
	write.data = left ? c.at : NULL;
	*ret = write;
	return 0;
}

uint32_t repl_encode_commit(const struct repl_commit *commit, void *out)
{
	struct cursor c = begin(out, REPL_COMMIT, 0, 0, 16 + POSITION_BYTES);
	put_u64(&c, commit->from_vseq);
	put_u64(&c, commit->durable_vseq);
	put_position(&c, &commit->to);
	return end(&c, out);
}

int repl_decode_commit(const void *body, size_t bytes, struct repl_commit *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_commit commit = {.from_vseq = get_u64(&c)};
	commit.durable_vseq = get_u64(&c);
	bool good = get_position(&c, &commit.to);
	good = good && commit.to.vseq >= commit.from_vseq && commit.to.vseq >= commit.durable_vseq;
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = commit;
	return 0;
}

/* ---- MANDATE ---- */

uint32_t repl_encode_mandate(uint64_t request, const struct repl_mandate *mandate, void *out)
{
	struct cursor c = begin(out, REPL_MANDATE, 0, request, 16 + POSITION_BYTES + 8);
	put_bytes(&c, mandate->volume_uuid, 16);
	put_position(&c, &mandate->position);
	put_u64(&c, mandate->duration_ns);
	return end(&c, out);
}

int repl_decode_mandate(const void *body, size_t bytes, struct repl_mandate *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_mandate mandate = {0};
	get_bytes(&c, mandate.volume_uuid, 16);
	bool good = get_position(&c, &mandate.position);
	mandate.duration_ns = get_u64(&c);
	good = good && mandate.duration_ns > 0 && mandate.duration_ns <= REPL_MANDATE_NS_MAX;
	if (whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = mandate;
	return 0;
}

/* ---- VOTE ---- */

#define VOTE_BYTES (48u + REPL_VOTERS_MAX * REPL_NAME_ROOM)

uint32_t repl_encode_vote(uint64_t request, unsigned flags, const struct repl_vote *vote, void *out)
{
	struct cursor c = begin(out, REPL_VOTE, flags, request, VOTE_BYTES);
	put_bytes(&c, vote->volume_uuid, 16);
	put_u64(&c, vote->term);
	put_u64(&c, vote->seq);
	put_u64(&c, vote->base_term);
	put_u8(&c, vote->won);
	put_u8(&c, vote->only_ask);
	put_u8(&c, vote->voter_count);
	put_u8(&c, vote->owner);
	put_u8(&c, vote->copies);
	put_u8(&c, vote->in_step);
	put_u16(&c, 0);
	for (unsigned i = 0; i < REPL_VOTERS_MAX; i++)
		put_name(&c, i < vote->voter_count ? vote->voters[i] : "");
	return end(&c, out);
}

/* Who owns it has a copy that has all; each has its name once. */
static bool vote_sane(const struct repl_vote *vote)
{
	unsigned all = (1u << vote->voter_count) - 1, owner = 1u << vote->owner;
	if (vote->owner >= vote->voter_count || vote->copies & ~all ||
	    vote->in_step & ~vote->copies || !(vote->in_step & owner))
		return false;
	for (unsigned i = 0; i < vote->voter_count; i++)
		for (unsigned k = 0; k < i; k++)
			if (strcmp(vote->voters[i], vote->voters[k]) == 0)
				return false;
	return true;
}

int repl_decode_vote(const void *body, size_t bytes, struct repl_vote *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_vote vote = {0};
	get_bytes(&c, vote.volume_uuid, 16);
	vote.term = get_u64(&c);
	vote.seq = get_u64(&c);
	vote.base_term = get_u64(&c);
	uint8_t won = get_u8(&c), only_ask = get_u8(&c);
	vote.won = won;
	vote.only_ask = only_ask;
	vote.voter_count = get_u8(&c);
	vote.owner = get_u8(&c);
	vote.copies = get_u8(&c);
	vote.in_step = get_u8(&c);
	bool good = get_u16(&c) == 0 && won <= 1 && only_ask <= 1 && vote.term > 0 &&
		    vote.term <= REPL_EPOCH_MAX && vote.base_term <= REPL_EPOCH_MAX &&
		    vote.seq > 0 && vote.seq < UINT64_MAX && vote.voter_count > 0 &&
		    vote.voter_count <= REPL_VOTERS_MAX;
	for (unsigned i = 0; good && i < vote.voter_count; i++)
		good = name(&c, vote.voters[i]);
	good = good && zeros(&c, (REPL_VOTERS_MAX - vote.voter_count) * (size_t)REPL_NAME_ROOM);
	if (whole(&c, good && vote_sane(&vote)) < 0)
		return -VS_EFORMAT;
	*ret = vote;
	return 0;
}
