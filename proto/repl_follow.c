/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of replication's messages (repl.h) about volumes that are followed: their positions and
 * commits, mandates, and votes. */
#include "proto/repl_int.h"

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
	struct cursor c =
		message_begin(out, REPL_FOLLOW, 0, request, 16 + POSITION_BYTES + REPL_NAME_ROOM);
	put_bytes(&c, follow->volume_uuid, 16);
	put_position(&c, &follow->position);
	put_name(&c, follow->volume);
	return message_end(&c, out);
}

int repl_decode_follow(const void *body, size_t bytes, struct repl_follow *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_follow follow = {0};
	get_bytes(&c, follow.volume_uuid, 16);
	bool good = get_position(&c, &follow.position);
	good = get_name(&c, follow.volume) && good;
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = follow;
	return 0;
}

uint32_t repl_encode_position(uint64_t request, const struct repl_position *position, void *out)
{
	struct cursor c = message_begin(out, REPL_POSITION, REPL_REPLY, request, POSITION_BYTES);
	put_position(&c, position);
	return message_end(&c, out);
}

int repl_decode_position(const void *body, size_t bytes, struct repl_position *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_position position;
	bool good = get_position(&c, &position);
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = position;
	return 0;
}

uint32_t repl_encode_write(uint64_t offset_bytes, uint64_t length_bytes, bool data, void *out)
{
	assert(!data || length_bytes <= REPL_WRITE_MAX);
	struct cursor c =
		message_begin(out, REPL_WRITE, 0, 0, 16 + (data ? (uint32_t)length_bytes : 0));
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
	struct cursor c = message_begin(out, REPL_COMMIT, 0, 0, 16 + POSITION_BYTES);
	put_u64(&c, commit->from_vseq);
	put_u64(&c, commit->durable_vseq);
	put_position(&c, &commit->to);
	return message_end(&c, out);
}

int repl_decode_commit(const void *body, size_t bytes, struct repl_commit *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_commit commit = {.from_vseq = get_u64(&c)};
	commit.durable_vseq = get_u64(&c);
	bool good = get_position(&c, &commit.to);
	good = good && commit.to.vseq >= commit.from_vseq && commit.to.vseq >= commit.durable_vseq;
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = commit;
	return 0;
}

/* ---- MANDATE ---- */

uint32_t repl_encode_mandate(uint64_t request, const struct repl_mandate *mandate, void *out)
{
	struct cursor c = message_begin(out, REPL_MANDATE, 0, request, 16 + POSITION_BYTES + 8);
	put_bytes(&c, mandate->volume_uuid, 16);
	put_position(&c, &mandate->position);
	put_u64(&c, mandate->duration_ns);
	return message_end(&c, out);
}

int repl_decode_mandate(const void *body, size_t bytes, struct repl_mandate *ret)
{
	struct cursor c = cursor_reading(body, bytes);
	struct repl_mandate mandate = {0};
	get_bytes(&c, mandate.volume_uuid, 16);
	bool good = get_position(&c, &mandate.position);
	mandate.duration_ns = get_u64(&c);
	good = good && mandate.duration_ns > 0 && mandate.duration_ns <= REPL_MANDATE_NS_MAX;
	if (message_whole(&c, good) < 0)
		return -VS_EFORMAT;
	*ret = mandate;
	return 0;
}

/* ---- VOTE ---- */

#define VOTE_BYTES (48u + REPL_VOTERS_MAX * REPL_NAME_ROOM)

uint32_t repl_encode_vote(uint64_t request, unsigned flags, const struct repl_vote *vote, void *out)
{
	struct cursor c = message_begin(out, REPL_VOTE, flags, request, VOTE_BYTES);
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
	return message_end(&c, out);
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
		good = get_name(&c, vote.voters[i]);
	good = good && get_zeros(&c, (REPL_VOTERS_MAX - vote.voter_count) * (size_t)REPL_NAME_ROOM);
	if (message_whole(&c, good && vote_sane(&vote)) < 0)
		return -VS_EFORMAT;
	*ret = vote;
	return 0;
}
