/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "proto/node_delta.h"
#include "proto/repl.h"

#define ROOM (REPL_HEADER_BYTES + REPL_BODY_MAX)

static uint8_t bytes[ROOM];

static const void *body_of(uint32_t total, uint32_t *ret_bytes, enum repl_type type)
{
	struct repl_header header;
	assert_int_equal(repl_decode_header(bytes, &header), 0);
	assert_int_equal(header.type, type);
	assert_int_equal(header.body_bytes, total - REPL_HEADER_BYTES);
	*ret_bytes = header.body_bytes;
	return bytes + REPL_HEADER_BYTES;
}

static struct repl_offer an_offer(void)
{
	struct repl_offer offer = {.size_bytes = 64 * MIB,
				   .created_wall_ns = 5,
				   .epoch = 2,
				   .vseq = 99,
				   .mapped_chunks = 7,
				   .frame_bytes = 16384,
				   .level = 3,
				   .volume = "web1",
				   .snapshot = "monday"};
	memset(offer.transfer, 1, 16);
	memset(offer.domain, 2, 16);
	memset(offer.top, 3, 32);
	offer.line_count = 2;
	offer.lines[0] = (struct repl_line){1, 50, {7}};
	offer.lines[1] = (struct repl_line){2, 80, {8}};
	return offer;
}

static void offers_come_back_as_they_were(void **state)
{
	struct repl_offer offer = an_offer(), got;
	uint32_t count;
	const void *body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, count, &got), 0);
	assert_string_equal(got.volume, "web1");
	assert_string_equal(got.snapshot, "monday");
	assert_int_equal(got.size_bytes, offer.size_bytes);
	assert_int_equal(got.vseq, 99);
	assert_memory_equal(got.top, offer.top, 32);
	assert_int_equal(got.line_count, 2);
	assert_memory_equal(got.lines, offer.lines, sizeof got.lines);
	for (unsigned kind = 0; kind < 3; kind++) {
		offer.cut = kind == 1;
		offer.beside = kind == 2;
		body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(repl_decode_offer(body, count, &got), 0);
		assert_true(got.cut == offer.cut && got.beside == offer.beside);
	}
}

static struct told_policy a_policy(void)
{
	struct told_policy told = {.told = true,
				   .policy = {.name = "daily",
					      .rules = {.every_ns = 3600 * NSEC_PER_SEC,
							.keep = {1, 2, 3, 4, 5, 6},
							.send_to = {"b", "c"},
							.rate_bytes = MIB,
							.window = {1320, 360}}}};
	return told;
}

/* An older host's offer ends where it did, and tells nothing; another one tells of a policy, or
 * that there is none. */
static void an_offer_tells_of_the_policy_to_who_understands_it(void **state)
{
	struct repl_offer offer = an_offer(), got;
	uint32_t count, before;
	const uint8_t *body = body_of(repl_encode_offer(8, &offer, bytes), &before, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, before, &got), 0);
	assert_false(got.policy.told);
	for (unsigned kind = 0; kind < 3; kind++) { /* it sends, it does not, there is none */
		offer.policy = a_policy();
		if (kind == 1)
			offer.policy.policy.rules = (struct policy_rules){.keep = {7}};
		if (kind == 2)
			offer.policy = (struct told_policy){.told = true};
		body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(count, before + (kind == 0 ? 312 : kind == 1 ? 112 : 8));
		assert_int_equal(repl_decode_offer(body, count, &got), 0);
		assert_true(got.policy.told);
		assert_true(policy_same(&got.policy.policy, &offer.policy.policy));
		assert_memory_equal(got.lines, offer.lines, sizeof got.lines);
		for (uint32_t cut = before + 1; cut < count;
		     cut++) /* where one may end, not this one */
			assert_int_equal(repl_decode_offer(body, cut, &got), -VS_EFORMAT);
		assert_int_equal(repl_decode_offer(body, before, &got), 0);
		assert_int_equal(repl_decode_offer(body, count + 1, &got), -VS_EFORMAT);
		body = body_of(repl_encode_policy(&offer.policy, bytes), &count, REPL_POLICY);
		struct told_policy told;
		assert_int_equal(repl_decode_policy(body, count, &told), 0);
		assert_true(told.told && policy_same(&told.policy, &offer.policy.policy));
		for (uint32_t cut = 0; cut < count; cut++)
			assert_int_equal(repl_decode_policy(body, cut, &told), -VS_EFORMAT);
		assert_int_equal(repl_decode_policy(body, count + 1, &told), -VS_EFORMAT);
	}
}

/* What no person could set, nobody else can either. */
static void a_policy_that_cannot_be_is_refused(void **state)
{
	for (unsigned wrong = 0; wrong <= 13; wrong++) {
		struct told_policy told = a_policy(), got;
		struct policy_rules *rules = &told.policy.rules;
		char *name = told.policy.name, (*hosts)[REPL_NAME_ROOM] = rules->send_to;
		uint32_t count;
		if (wrong == 1)
			rules->every_ns = 59 * NSEC_PER_SEC;
		if (wrong == 2)
			rules->every_ns = POLICY_EVERY_NS_MAX + 1;
		if (wrong == 3)
			memset(name, 'x', POLICY_NAME_BYTES_MAX + 1);
		if (wrong == 4)
			memcpy(name, "../x", 5);
		if (wrong == 5)
			memcpy(hosts[1], "b", 2); /* twice */
		if (wrong == 6)
			memcpy(hosts[1], "a b", 4);
		if (wrong == 7) {
			memset(hosts[1], 0, REPL_NAME_ROOM);
			memcpy(hosts[2], "c", 2);
		}
		if (wrong == 8)
			rules->window.until = 1440;
		if (wrong == 9)
			rules->window = (struct window){60, 60};
		if (wrong == 10) /* fast, and nowhere to */
			memset(hosts, 0, sizeof rules->send_to);
		uint8_t *body =
			(uint8_t *)body_of(repl_encode_policy(&told, bytes), &count, REPL_POLICY);
		if (wrong == 11)
			body[0] = 2;
		if (wrong == 12)
			body[7] = 1;
		if (wrong == 13)
			memset(body + 8 + 112, 'x', REPL_NAME_ROOM); /* a host without an end */
		assert_int_equal(repl_decode_policy(body, count, &got), wrong ? -VS_EFORMAT : 0);
	}
	/* The longer form, without a host, is nobody's. */
	struct told_policy told = a_policy(), got;
	uint32_t count;
	told.policy.rules.rate_bytes = 0;
	told.policy.rules.window = (struct window){0};
	uint8_t *body = (uint8_t *)body_of(repl_encode_policy(&told, bytes), &count, REPL_POLICY);
	memset(body + count - 3 * REPL_NAME_ROOM, 0, 3 * REPL_NAME_ROOM);
	assert_int_equal(repl_decode_policy(body, count, &got), -VS_EFORMAT);
}

static void lines_that_cannot_be_are_refused(void **state)
{
	struct repl_offer offer = an_offer(), got;
	uint32_t count;
	uint8_t *body = (uint8_t *)body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	uint8_t *lines = body + count - 2 * 32 - 8;
	assert_int_equal(lines[0], 2);
	for (unsigned wrong = 0; wrong < 256; wrong += wrong == 3 ? 20 : 1) {
		lines[0] = (uint8_t)wrong; /* one less, one more, too many */
		assert_int_equal(repl_decode_offer(body, count, &got),
				 wrong == 2 ? 0 : -VS_EFORMAT);
	}
	lines[0] = 2;
	lines[4] = 1; /* what is zero */
	assert_int_equal(repl_decode_offer(body, count, &got), -VS_EFORMAT);
	for (uint64_t epoch = 0; epoch < 4; epoch++) { /* they rise, up to the offer's */
		offer = an_offer();
		offer.lines[1].epoch = epoch;
		body = (uint8_t *)body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(repl_decode_offer(body, count, &got),
				 epoch == 2 ? 0 : -VS_EFORMAT);
	}
	offer = an_offer();
	offer.epoch = REPL_LINES_MAX;
	for (offer.line_count = 0; offer.line_count < REPL_LINES_MAX; offer.line_count++)
		offer.lines[offer.line_count].epoch = offer.line_count + 1;
	body = (uint8_t *)body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, count, &got), 0);
	assert_int_equal(got.line_count, REPL_LINES_MAX);
}

static void an_offer_of_no_name_or_size_is_refused(void **state)
{
	struct repl_offer offer = an_offer(), got;
	uint32_t count;
	const uint8_t *body;
	static const char *const names[] = {"", "a/b", "../x", ".x", "a b", "x@y"};
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		memset(offer.volume, 0, sizeof offer.volume);
		snprintf(offer.volume, sizeof offer.volume, "%s", names[i]);
		body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(repl_decode_offer(body, count, &got), -VS_EFORMAT);
	}
	static const uint64_t sizes[] = {0, 4095, VOLUME_BYTES_MAX + 4096};
	for (unsigned i = 0; i < 3; i++) {
		offer = an_offer();
		offer.size_bytes = sizes[i];
		body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(repl_decode_offer(body, count, &got), -VS_EFORMAT);
	}
	offer = an_offer();
	offer.epoch = REPL_EPOCH_MAX;
	body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, count, &got), 0);
	offer.epoch++;
	body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, count, &got), -VS_EFORMAT);
	offer = an_offer();
	body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
	assert_int_equal(repl_decode_offer(body, count - 1, &got), -VS_EFORMAT);
	assert_int_equal(repl_decode_offer(body, count + 1, &got), -VS_EFORMAT);
	memset((uint8_t *)body + count - 2 * 32 - 8 - 64, 'x', 64); /* a name without an end */
	assert_int_equal(repl_decode_offer(body, count, &got), -VS_EFORMAT);
}

static void a_get_has_1_to_64_ids_and_nothing_else(void **state)
{
	uint8_t ids[64 * 32];
	struct repl_get get = {.type = 1, .count = 64, .ids = ids}, got;
	uint32_t count;
	memset(ids, 9, sizeof ids);
	uint8_t *body = (uint8_t *)body_of(repl_encode_get(1, &get, bytes), &count, REPL_GET);
	assert_int_equal(repl_decode_get(body, count, &got), 0);
	assert_int_equal(got.count, 64);
	assert_memory_equal(got.ids, ids, sizeof ids);
	assert_int_equal(repl_decode_get(body, count - 32, &got), -VS_EFORMAT);
	body[4] = 65;
	assert_int_equal(repl_decode_get(body, count, &got), -VS_EFORMAT);
	memset(body + 4, 0, 4);
	assert_int_equal(repl_decode_get(body, 24, &got), -VS_EFORMAT);
	memset(body + 4, 0xff, 4);
	assert_int_equal(repl_decode_get(body, count, &got), -VS_EFORMAT);
	body[4] = 64;
	memset(body + 5, 0, 3);
	body[0] = 3;
	assert_int_equal(repl_decode_get(body, count, &got), -VS_EFORMAT);
}

static void a_delta_is_as_long_as_its_bitmap_says(void **state)
{
	uint8_t base[NODE_DELTA_SLOTS * ID_BYTES], node[sizeof base], made[sizeof base];
	uint8_t difference[NODE_DELTA_BYTES_MAX], pairs[2 * 2 * ID_BYTES];
	struct repl_delta delta = {.id = {1}, .base = {2}, .delta = difference}, got;
	uint32_t count;
	memset(base, 9, sizeof base);
	memcpy(node, base, sizeof node);
	node[0] = node[5 * ID_BYTES + 31] = node[255 * ID_BYTES] = 1;
	delta.delta_bytes = node_delta_encode(node, base, difference);
	assert_int_equal(delta.delta_bytes, 32 + 3 * ID_BYTES);
	uint8_t *body = (uint8_t *)body_of(repl_encode_delta(1, &delta, bytes), &count, REPL_DELTA);
	assert_int_equal(repl_decode_delta(body, count, &got), 0);
	assert_memory_equal(got.id, delta.id, ID_BYTES);
	assert_memory_equal(got.base, delta.base, ID_BYTES);
	memcpy(made, base, sizeof made);
	node_delta_apply(got.delta, made);
	assert_memory_equal(made, node, sizeof node);
	assert_int_equal(repl_decode_delta(body, count - 1, &got), -VS_EFORMAT);
	assert_int_equal(repl_decode_delta(body, count - ID_BYTES, &got), -VS_EFORMAT);
	assert_int_equal(repl_decode_delta(body, 2 * ID_BYTES + 31, &got), -VS_EFORMAT);
	assert_int_equal(repl_decode_delta(body, 40, &got), -VS_EFORMAT);
	body[2 * ID_BYTES + 1] = 1;
	assert_int_equal(repl_decode_delta(body, count, &got), -VS_EFORMAT);

	struct repl_get_delta get = {.count = 2, .pairs = pairs}, asked;
	memset(pairs, 7, sizeof pairs);
	body = (uint8_t *)body_of(repl_encode_get_delta(1, &get, bytes), &count, REPL_GET_DELTA);
	assert_int_equal(repl_decode_get_delta(body, count, &asked), 0);
	assert_int_equal(asked.count, 2);
	assert_memory_equal(asked.pairs, pairs, sizeof pairs);
	assert_int_equal(repl_decode_get_delta(body, count - ID_BYTES, &asked), -VS_EFORMAT);
	body[0] = 65;
	assert_int_equal(repl_decode_get_delta(body, count, &asked), -VS_EFORMAT);
	body[0] = 0;
	assert_int_equal(repl_decode_get_delta(body, 24, &asked), -VS_EFORMAT);
	body[0] = 2;
	body[4] = 1;
	assert_int_equal(repl_decode_get_delta(body, count, &asked), -VS_EFORMAT);
}

static void an_errors_sentence_cannot_move_the_terminal(void **state)
{
	struct repl_error got;
	uint32_t count;
	const void *body =
		body_of(repl_encode_error(3, REPL_REPLY, -VS_EQUOTA, "evil \x1b[2J\nwords", bytes),
			&count, REPL_ERROR);
	assert_int_equal(repl_decode_error(body, count, &got), 0);
	assert_int_equal(got.code, -VS_EQUOTA);
	assert_string_equal(got.sentence, "evil ?[2J?words");
	assert_int_equal(repl_decode_error(body, count - 1, &got), -VS_EFORMAT);
	body = body_of(repl_encode_error(3, 0, 5, "not negative", bytes), &count, REPL_ERROR);
	assert_int_equal(repl_decode_error(body, count, &got), -VS_EFORMAT);
}

static void headers_with_unknown_bits_or_lengths_are_refused(void **state)
{
	struct repl_header header;
	repl_encode_ok(1, bytes);
	assert_int_equal(repl_decode_header(bytes, &header), 0);
	for (unsigned bit = 1; bit < 8; bit++) {
		repl_encode_ok(1, bytes);
		bytes[5] |= (uint8_t)(1 << bit);
		assert_int_equal(repl_decode_header(bytes, &header), -VS_EFORMAT);
	}
	repl_encode_ok(1, bytes);
	bytes[6] = 1;
	assert_int_equal(repl_decode_header(bytes, &header), -VS_EFORMAT);
	repl_encode_ok(1, bytes);
	bytes[4] = 0;
	assert_int_equal(repl_decode_header(bytes, &header), -VS_EFORMAT);
	repl_encode_ok(1, bytes);
	memset(bytes, 0xff, 4);
	assert_int_equal(repl_decode_header(bytes, &header), -VS_EFORMAT);
}

static void the_rest_comes_back_as_it_was(void **state)
{
	struct repl_hello hello = {.version_min = 1, .version_max = 3, .wall_ns = 77}, hello_got;
	struct repl_state in = {.state = 2, .chunks = 4, .fetched = 3, .found = 1}, state_got;
	struct repl_domain domain = {.name = "records"}, domain_got;
	struct repl_record record;
	uint8_t id[32], got_id[32], uuid[16] = {4}, got_uuid[16];
	uint32_t count;
	int code;
	const void *body = body_of(repl_encode_hello(&hello, bytes), &count, REPL_HELLO);
	assert_int_equal(repl_decode_hello(body, count, &hello_got), 0);
	assert_int_equal(hello_got.wall_ns, 77);
	body = body_of(repl_encode_state(1, &in, bytes), &count, REPL_STATE);
	assert_int_equal(repl_decode_state(body, count, &state_got), 0);
	assert_int_equal(state_got.fetched, 3);
	memset(domain.key, 6, 64);
	body = body_of(repl_encode_domain(1, &domain, bytes), &count, REPL_DOMAIN);
	assert_int_equal(repl_decode_domain(body, count, &domain_got), 0);
	assert_memory_equal(domain_got.key, domain.key, 64);
	memset(id, 8, 32);
	uint32_t at = repl_encode_record(1, id, 3, bytes);
	memcpy(bytes + at, "abc", 3);
	body = body_of(at + 3, &count, REPL_RECORD);
	assert_int_equal(repl_decode_record(body, count, &record), 0);
	assert_int_equal(record.record_bytes, 3);
	assert_memory_equal(record.record, "abc", 3);
	assert_int_equal(repl_decode_record(body, 32, &record), -VS_EFORMAT);
	body = body_of(repl_encode_missing(1, id, -VS_ELOST, bytes), &count, REPL_MISSING);
	assert_int_equal(repl_decode_missing(body, count, got_id, &code), 0);
	assert_int_equal(code, -VS_ELOST);
	body = body_of(repl_encode_cancel(1, uuid, bytes), &count, REPL_CANCEL);
	assert_int_equal(repl_decode_cancel(body, count, got_uuid), 0);
	assert_memory_equal(uuid, got_uuid, 16);
	memset(got_uuid, 0, 16);
	body = body_of(repl_encode_join(1, uuid, bytes), &count, REPL_JOIN);
	assert_int_equal(repl_decode_join(body, count, got_uuid), 0);
	assert_memory_equal(uuid, got_uuid, 16);
	assert_int_equal(repl_decode_join(body, count - 1, got_uuid), -VS_EFORMAT);
}

static void what_is_in_step_comes_back_as_it_was(void **state)
{
	struct repl_follow follow = {.position = {3, 9, {1}}, .volume = "web1"}, follow_got;
	struct repl_position position = {4, 10, {2}}, position_got;
	struct repl_commit commit = {.from_vseq = 9, .durable_vseq = 8, .to = {4, 12, {2}}},
			   commit_got;
	struct repl_mandate mandate = {{7}, {4, 10, {2}}, NSEC_PER_SEC}, mandate_got;
	struct repl_write write;
	uint32_t count;
	const uint8_t *body = body_of(repl_encode_follow(5, &follow, bytes), &count, REPL_FOLLOW);
	assert_int_equal(repl_decode_follow(body, count, &follow_got), 0);
	assert_memory_equal(&follow, &follow_got, sizeof follow);
	for (uint32_t cut = 0; cut < count; cut++)
		assert_int_equal(repl_decode_follow(body, cut, &follow_got), -VS_EFORMAT);
	body = body_of(repl_encode_position(5, &position, bytes), &count, REPL_POSITION);
	assert_int_equal(repl_decode_position(body, count, &position_got), 0);
	assert_memory_equal(&position, &position_got, sizeof position);
	assert_int_equal(repl_decode_position(body, count - 1, &position_got), -VS_EFORMAT);
	body = body_of(repl_encode_commit(&commit, bytes), &count, REPL_COMMIT);
	assert_int_equal(repl_decode_commit(body, count, &commit_got), 0);
	assert_memory_equal(&commit, &commit_got, sizeof commit);
	assert_int_equal(repl_decode_commit(body, count + 1, &commit_got), -VS_EFORMAT);
	body = body_of(repl_encode_mandate(5, &mandate, bytes), &count, REPL_MANDATE);
	assert_int_equal(repl_decode_mandate(body, count, &mandate_got), 0);
	assert_memory_equal(&mandate, &mandate_got, sizeof mandate);
	assert_int_equal(repl_decode_mandate(body, count - 1, &mandate_got), -VS_EFORMAT);
	body = body_of(repl_encode_write(8192, GIB, false, bytes), &count, REPL_WRITE);
	assert_int_equal(repl_decode_write(body, count, &write), 0);
	assert_int_equal(write.offset_bytes, 8192);
	assert_int_equal(write.length_bytes, GIB);
	assert_null(write.data);
	uint32_t head = repl_encode_write(4096, REPL_WRITE_MAX, true, bytes);
	body = body_of(head + REPL_WRITE_MAX, &count, REPL_WRITE);
	assert_int_equal(repl_decode_write(body, count, &write), 0);
	assert_ptr_equal(write.data, body + 16);
	assert_int_equal(write.length_bytes, REPL_WRITE_MAX);
}

/* Whoever is promoted counts on from what a peer said, and must not wrap. */
static void positions_that_cannot_be_counted_on_are_refused(void **state)
{
	for (unsigned wrong = 0; wrong < 3; wrong++) {
		const struct repl_position at = {
			REPL_EPOCH_MAX + (wrong == 1), REPL_VSEQ_MAX + (wrong == 2), {1}};
		const int expected = wrong ? -VS_EFORMAT : 0;
		struct repl_follow follow = {.position = at, .volume = "web1"}, follow_got;
		struct repl_commit commit = {.to = at}, commit_got;
		struct repl_mandate mandate = {{7}, at, NSEC_PER_SEC}, mandate_got;
		struct repl_position position_got;
		struct repl_offer offer = an_offer(), offer_got;
		struct repl_vote vote = {.term = at.epoch,
					 .seq = wrong == 2 ? UINT64_MAX : 1,
					 .voter_count = 1,
					 .copies = 1,
					 .in_step = 1,
					 .voters = {"h1"}},
				 vote_got;
		uint32_t count;
		const uint8_t *body =
			body_of(repl_encode_follow(5, &follow, bytes), &count, REPL_FOLLOW);
		assert_int_equal(repl_decode_follow(body, count, &follow_got), expected);
		body = body_of(repl_encode_position(5, &at, bytes), &count, REPL_POSITION);
		assert_int_equal(repl_decode_position(body, count, &position_got), expected);
		body = body_of(repl_encode_commit(&commit, bytes), &count, REPL_COMMIT);
		assert_int_equal(repl_decode_commit(body, count, &commit_got), expected);
		body = body_of(repl_encode_mandate(5, &mandate, bytes), &count, REPL_MANDATE);
		assert_int_equal(repl_decode_mandate(body, count, &mandate_got), expected);
		body = body_of(repl_encode_vote(5, 0, &vote, bytes), &count, REPL_VOTE);
		assert_int_equal(repl_decode_vote(body, count, &vote_got), expected);
		offer.epoch = at.epoch;
		offer.vseq = at.vseq;
		body = body_of(repl_encode_offer(8, &offer, bytes), &count, REPL_OFFER);
		assert_int_equal(repl_decode_offer(body, count, &offer_got), expected);
	}
}

static void writes_of_no_blocks_and_commits_backwards_are_refused(void **state)
{
	static const uint64_t ranges[][2] = {{0, 0},
					     {1, 4096},
					     {0, 4095},
					     {VOLUME_BYTES_MAX, 4096},
					     {4096, UINT64_MAX - 4095},
					     {UINT64_MAX - 4095, 4096}};
	struct repl_commit commit = {.from_vseq = 9, .to = {1, 8, {0}}};
	struct repl_write write;
	uint32_t count;
	const uint8_t *body;
	for (unsigned i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
		body = body_of(repl_encode_write(ranges[i][0], ranges[i][1], false, bytes), &count,
			       REPL_WRITE);
		assert_int_equal(repl_decode_write(body, count, &write), -VS_EFORMAT);
	}
	uint32_t head = repl_encode_write(0, 8192, true, bytes);
	body = body_of(head + 8192, &count, REPL_WRITE);
	assert_int_equal(repl_decode_write(body, count - 4096, &write), -VS_EFORMAT);
	body = body_of(repl_encode_commit(&commit, bytes), &count, REPL_COMMIT);
	assert_int_equal(repl_decode_commit(body, count, &commit), -VS_EFORMAT);
	commit = (struct repl_commit){.from_vseq = 7, .durable_vseq = 9, .to = {1, 8, {0}}};
	body = body_of(repl_encode_commit(&commit, bytes), &count, REPL_COMMIT);
	assert_int_equal(repl_decode_commit(body, count, &commit), -VS_EFORMAT);
	static const struct repl_vote good = {.term = 1,
					      .seq = 1,
					      .voter_count = 3,
					      .owner = 1,
					      .copies = 3,
					      .in_step = 2,
					      .voters = {"h1", "h2", "w"}};
	struct repl_vote vote = good, vote_got;
	body = body_of(repl_encode_vote(5, 0, &vote, bytes), &count, REPL_VOTE);
	assert_int_equal(repl_decode_vote(body, count, &vote_got), 0);
	assert_memory_equal(&vote, &vote_got, sizeof vote);
	assert_int_equal(repl_decode_vote(body, count - 1, &vote_got), -VS_EFORMAT);
	for (unsigned i = 0; i < 8; i++) {
		vote = good;
		vote.term -= i == 0;
		vote.seq -= i == 1;
		vote.owner += 2 * (i == 2);
		vote.owner -= i == 3;	      /* who is not in step */
		vote.in_step |= 4 * (i == 4); /* who has no copy */
		vote.copies |= 8 * (i == 5);
		vote.voter_count -= 3 * (i == 6);
		vote.voters[2][0] = i == 7 ? '/' : 'w';
		body = body_of(repl_encode_vote(5, 0, &vote, bytes), &count, REPL_VOTE);
		assert_int_equal(repl_decode_vote(body, count, &vote_got), -VS_EFORMAT);
	}
	for (unsigned i = 0; i < 2; i++) {
		struct repl_mandate mandate = {.duration_ns = i ? REPL_MANDATE_NS_MAX + 1
								: 0}; /* no time, or too much */
		body = body_of(repl_encode_mandate(1, &mandate, bytes), &count, REPL_MANDATE);
		assert_int_equal(repl_decode_mandate(body, count, &mandate), -VS_EFORMAT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_come_back_as_they_were),
		cmocka_unit_test(an_offer_tells_of_the_policy_to_who_understands_it),
		cmocka_unit_test(a_policy_that_cannot_be_is_refused),
		cmocka_unit_test(an_offer_of_no_name_or_size_is_refused),
		cmocka_unit_test(lines_that_cannot_be_are_refused),
		cmocka_unit_test(a_get_has_1_to_64_ids_and_nothing_else),
		cmocka_unit_test(a_delta_is_as_long_as_its_bitmap_says),
		cmocka_unit_test(an_errors_sentence_cannot_move_the_terminal),
		cmocka_unit_test(headers_with_unknown_bits_or_lengths_are_refused),
		cmocka_unit_test(the_rest_comes_back_as_it_was),
		cmocka_unit_test(what_is_in_step_comes_back_as_it_was),
		cmocka_unit_test(positions_that_cannot_be_counted_on_are_refused),
		cmocka_unit_test(writes_of_no_blocks_and_commits_backwards_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
