/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every message of replication, fed with anything: a header of 16 bytes, then its body, as a
 * channel takes them apart. What a decoder accepts is encoded again, and comes out the same where
 * it has one form; DOMAIN, OFFER, POLICY and FOLLOW have several (what lies behind a name's end is
 * not kept): their encoded form is decoded and encoded once more, and that is the same. Of the
 * rest: a HELLO of a newer version may be longer, an ERROR's text is made printable, RECORD and
 * WRITE point into their body and not behind it.
 */
#include "proto/node_delta.h"
#include "proto/repl.h"
#include "tests/fuzz/replay.h"

#include <assert.h>
#include <errno.h>

static uint8_t out[REPL_HEADER_BYTES + REPL_BODY_MAX], first[sizeof out];

/* What was accepted has one form. */
static void same(const uint8_t *body, size_t bytes, uint32_t encoded)
{
	assert(encoded == REPL_HEADER_BYTES + bytes);
	assert(memcmp(out + REPL_HEADER_BYTES, body, bytes) == 0);
}

/* It is as long as it was; returns the encoded form's body, which is to be decoded. */
static const uint8_t *encoded_body(size_t bytes, uint32_t encoded)
{
	assert(encoded == REPL_HEADER_BYTES + bytes);
	memcpy(first, out, encoded);
	return first + REPL_HEADER_BYTES;
}

static void fuzz_domain(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_domain domain;
	if (repl_decode_domain(body, bytes, &domain) < 0)
		return;
	body = encoded_body(bytes, repl_encode_domain(request, &domain, out));
	assert(repl_decode_domain(body, bytes, &domain) == 0);
	same(body, bytes, repl_encode_domain(request, &domain, out));
}

static void fuzz_vote(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_vote vote;
	if (repl_decode_vote(body, bytes, &vote) < 0)
		return;
	body = encoded_body(bytes, repl_encode_vote(request, 0, &vote, out));
	assert(repl_decode_vote(body, bytes, &vote) == 0);
	same(body, bytes, repl_encode_vote(request, 0, &vote, out));
}

static void fuzz_offer(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_offer offer;
	if (repl_decode_offer(body, bytes, &offer) < 0)
		return;
	body = encoded_body(bytes, repl_encode_offer(request, &offer, out));
	assert(repl_decode_offer(body, bytes, &offer) == 0);
	same(body, bytes, repl_encode_offer(request, &offer, out));
}

static void fuzz_policy(const uint8_t *body, size_t bytes)
{
	struct told_policy told;
	char sentence[SENTENCE_BYTES];
	if (repl_decode_policy(body, bytes, &told) < 0)
		return;
	assert(!told.policy.name[0] || policy_check(&told.policy, sentence) == 0);
	body = encoded_body(bytes, repl_encode_policy(&told, out));
	assert(repl_decode_policy(body, bytes, &told) == 0);
	same(body, bytes, repl_encode_policy(&told, out));
}

static void fuzz_follow(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_follow follow;
	if (repl_decode_follow(body, bytes, &follow) < 0)
		return;
	body = encoded_body(bytes, repl_encode_follow(request, &follow, out));
	assert(repl_decode_follow(body, bytes, &follow) == 0);
	same(body, bytes, repl_encode_follow(request, &follow, out));
}

static void fuzz_get(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_get get;
	if (repl_decode_get(body, bytes, &get) == 0)
		same(body, bytes, repl_encode_get(request, &get, out));
}

static void fuzz_get_delta(uint64_t request, const uint8_t *body, size_t bytes)
{
	struct repl_get_delta get;
	if (repl_decode_get_delta(body, bytes, &get) == 0)
		same(body, bytes, repl_encode_get_delta(request, &get, out));
}

/* What is applied fits a node, whatever it says; and the node then differs by it, or by less. */
static void fuzz_delta(uint64_t request, const uint8_t *body, size_t bytes)
{
	static const uint8_t base[NODE_DELTA_SLOTS * ID_BYTES];
	static uint8_t node[sizeof base], again[NODE_DELTA_BYTES_MAX];
	struct repl_delta delta;
	if (repl_decode_delta(body, bytes, &delta) < 0)
		return;
	same(body, bytes, repl_encode_delta(request, &delta, out));
	memset(node, 0, sizeof node);
	node_delta_apply(delta.delta, node);
	assert(node_delta_encode(node, base, again) <= delta.delta_bytes);
}

static void fuzz_body(const struct repl_header *header, const uint8_t *body, size_t bytes)
{
	struct repl_hello hello;
	struct repl_error error;
	struct repl_state state;
	struct repl_record record;
	struct repl_position position;
	struct repl_write write;
	struct repl_commit commit;
	struct repl_mandate mandate;
	uint8_t id[ID_BYTES];
	int code;
	switch (header->type) {
	case REPL_HELLO:
		repl_decode_hello(body, bytes, &hello); /* a newer version's may be longer */
		break;
	case REPL_ERROR:
		if (repl_decode_error(body, bytes, &error) == 0)
			for (const char *at = error.sentence; *at; at++)
				assert((unsigned char)*at >= ' ' && *at != 127);
		break;
	case REPL_DOMAIN:
		fuzz_domain(header->request, body, bytes);
		break;
	case REPL_OFFER:
		fuzz_offer(header->request, body, bytes);
		break;
	case REPL_POLICY:
		fuzz_policy(body, bytes);
		break;
	case REPL_STATE:
		if (repl_decode_state(body, bytes, &state) == 0)
			same(body, bytes, repl_encode_state(header->request, &state, out));
		break;
	case REPL_GET:
		fuzz_get(header->request, body, bytes);
		break;
	case REPL_GET_DELTA:
		fuzz_get_delta(header->request, body, bytes);
		break;
	case REPL_DELTA:
		fuzz_delta(header->request, body, bytes);
		break;
	case REPL_RECORD:
		if (repl_decode_record(body, bytes, &record) == 0)
			assert(record.record_bytes == bytes - ID_BYTES &&
			       record.record == body + ID_BYTES);
		break;
	case REPL_MISSING:
		if (repl_decode_missing(body, bytes, id, &code) == 0)
			same(body, bytes, repl_encode_missing(header->request, id, code, out));
		break;
	case REPL_CANCEL:
		if (repl_decode_cancel(body, bytes, id) == 0)
			same(body, bytes, repl_encode_cancel(header->request, id, out));
		break;
	case REPL_JOIN:
		if (repl_decode_join(body, bytes, id) == 0)
			same(body, bytes, repl_encode_join(header->request, id, out));
		break;
	case REPL_FOLLOW:
		fuzz_follow(header->request, body, bytes);
		break;
	case REPL_POSITION:
		if (repl_decode_position(body, bytes, &position) == 0)
			same(body, bytes, repl_encode_position(header->request, &position, out));
		break;
	case REPL_WRITE:
		if (repl_decode_write(body, bytes, &write) == 0 && write.data)
			assert(write.data >= body &&
			       write.length_bytes <= bytes - (size_t)(write.data - body));
		break;
	case REPL_COMMIT:
		if (repl_decode_commit(body, bytes, &commit) == 0)
			same(body, bytes, repl_encode_commit(&commit, out));
		break;
	case REPL_MANDATE:
		if (repl_decode_mandate(body, bytes, &mandate) == 0)
			same(body, bytes, repl_encode_mandate(header->request, &mandate, out));
		break;
	case REPL_VOTE:
		fuzz_vote(header->request, body, bytes);
		break;
	default:
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct repl_header header;
	if (bytes < REPL_HEADER_BYTES || repl_decode_header(data, &header) < 0)
		return 0;
	/* What a channel waits for; here the input's end is the body's. */
	fuzz_body(&header, data + REPL_HEADER_BYTES, bytes - REPL_HEADER_BYTES);
	return 0;
}

static void put(const char *folder, const char *name, uint32_t bytes)
{
	/* The target has no byte that chooses: the header's type does. */
	corpus_put(folder, name, out[0], out + 1, bytes - 1);
}

static int corpus_write(const char *folder)
{
	static const uint8_t id[ID_BYTES] = {7, 8, 9}, ids[2 * ID_BYTES] = {1, 2};
	const struct repl_hello hello = {
		.version_min = 1, .version_max = 1, .store_uuid = {1}, .features_known = 7};
	const struct repl_domain domain = {.uuid = {1}, .key = {2}, .name = "default"};
	struct repl_offer offer = {.transfer = {1},
				   .size_bytes = GIB,
				   .frame_bytes = 16384,
				   .level = 1,
				   .volume = "web1",
				   .snapshot = "monday"};
	const struct repl_state state = {.state = REPL_PUBLISHED, .chunks = 3};
	const struct repl_get get = {.type = 1, .count = 2, .ids = ids};
	put(folder, "hello", repl_encode_hello(&hello, out));
	put(folder, "error", repl_encode_error(5, REPL_REPLY, -VS_ECHECKSUM, "No.", out));
	put(folder, "ok", repl_encode_ok(5, out));
	put(folder, "domain", repl_encode_domain(6, &domain, out));
	put(folder, "offer", repl_encode_offer(7, &offer, out));
	offer.policy.told = true;
	put(folder, "offer_no_policy", repl_encode_offer(7, &offer, out));
	offer.policy.policy = (struct named_policy){.name = "daily",
						    .rules = {.every_ns = 3600 * NSEC_PER_SEC,
							      .keep = {1, 0, 7},
							      .send_to = {"host2", "h3"},
							      .rate_bytes = MIB,
							      .window = {1320, 360}}};
	put(folder, "offer_policy", repl_encode_offer(7, &offer, out));
	put(folder, "policy", repl_encode_policy(&offer.policy, out));
	put(folder, "state", repl_encode_state(7, &state, out));
	put(folder, "get", repl_encode_get(8, &get, out));
	const struct repl_get_delta get_delta = {.count = 1, .pairs = ids};
	uint8_t changed[NODE_DELTA_MAP_BYTES + 2 * ID_BYTES] = {1, 0, 128, [40] = 9, [70] = 8};
	const struct repl_delta delta = {
		.id = {7}, .base = {8}, .delta = changed, .delta_bytes = sizeof changed};
	put(folder, "get_delta", repl_encode_get_delta(8, &get_delta, out));
	put(folder, "delta", repl_encode_delta(8, &delta, out));
	put(folder, "missing", repl_encode_missing(8, id, -ENOENT, out));
	put(folder, "cancel", repl_encode_cancel(9, id, out));
	put(folder, "join", repl_encode_join(9, id, out));
	const struct repl_position position = {.epoch = 3, .vseq = 9};
	const struct repl_follow follow = {.volume_uuid = {4}, .position = position, .volume = "a"};
	const struct repl_commit commit = {.from_vseq = 8, .to = position};
	put(folder, "follow", repl_encode_follow(8, &follow, out));
	put(folder, "position", repl_encode_position(8, &position, out));
	put(folder, "zeros", repl_encode_write(4096, 8192, false, out));
	put(folder, "commit", repl_encode_commit(&commit, out));
	const struct repl_mandate mandate = {
		.volume_uuid = {4}, .position = position, .duration_ns = NSEC_PER_SEC};
	put(folder, "mandate", repl_encode_mandate(10, &mandate, out));
	const struct repl_vote vote = {.volume_uuid = {4},
				       .term = 3,
				       .seq = 7,
				       .base_term = 2,
				       .voter_count = 3,
				       .owner = 1,
				       .copies = 3,
				       .in_step = 3,
				       .voters = {"h1", "h2", "w"}};
	put(folder, "vote", repl_encode_vote(11, 0, &vote, out));
	uint32_t bytes = repl_encode_write(4096, 4096, true, out);
	memset(out + bytes, 5, 4096);
	put(folder, "write", bytes + 4096);
	bytes = repl_encode_record(8, id, 300, out);
	memset(out + bytes, 5, 300);
	put(folder, "record", bytes + 300);
	return 0;
}
