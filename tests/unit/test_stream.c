/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of what follows in step, alone: without a store, a network, or a clock that goes. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around them ---- */

static uint64_t now_ns;
static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static void timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
}
static const struct env_ops env_ops = {
	.now_ns = clock_now, .wall_ns = clock_now, .timer_start = timer_start};
static struct env env = {&env_ops};

static struct repl repl = {.env = &env};
static struct session session;
static const struct store_tap_ops *tap;
static struct store_position now_at; /* the volume */
static unsigned messages;
static uint64_t acked_vseq;
static bool paused, pending;
static struct store_copy_batch *applying;
static struct view *const view = (struct view *)&session; /* nobody looks into it */

void store_set_tap(struct store *store, const struct store_tap_ops *ops, void *owner)
{
	tap = ops;
}
int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret)
{
	*ret = (struct volume_info){.epoch = now_at.epoch, .vseq = now_at.vseq};
	memcpy(ret->incarnation, now_at.incarnation, 16);
	return 0;
}
int store_tap(struct store *store, uint32_t volume, bool on)
{
	return 0;
}
void store_follower_live(struct store *store, uint32_t volume, const char *host, bool live)
{
}
void store_follower_acked(struct store *store, uint32_t volume, const char *host, uint64_t vseq)
{
	acked_vseq = vseq;
}
uint64_t store_durable_vseq(const struct store *store, uint32_t volume)
{
	return 0;
}
int store_copy_open(struct store *store, const char *name, const uint8_t uuid[16],
		    struct view **ret_view, struct store_position *ret_position)
{
	*ret_view = view;
	*ret_position = (struct store_position){.epoch = 1};
	return 0;
}
bool store_yields(const struct store *store, const char *host, const uint8_t uuid[16],
		  uint64_t epoch)
{
	return false;
}
void store_copy_close(struct view *copy)
{
}
static struct told_policy policy_here; /* what is told of ours */
void store_policy_told(const struct store *store, uint32_t volume, struct told_policy *ret)
{
	*ret = policy_here;
}
static struct admin_op *keeping; /* what came of a copy's, while it is being kept */
static struct told_policy kept;
static unsigned kept_count;
void store_copy_policy(struct store *store, struct admin_op *op, const char *name,
		       const struct told_policy *told)
{
	assert_null(keeping);
	keeping = op;
	kept = *told;
	kept_count++;
}
bool store_copy_policy_news(const struct store *store, const char *name,
			    const struct told_policy *told)
{
	return !policy_same(&told->policy, &kept.policy);
}
static struct repl_hello hello; /* of the peer */
const struct repl_hello *channel_hello(const struct channel *channel)
{
	return &hello;
}
void store_copy_apply(struct store_copy_batch *batch)
{
	applying = batch;
}
void store_submit(struct store_request *request)
{
	pending = true;
}
struct session *session_new(struct repl *of, bool incoming)
{
	session = (struct session){.repl = of, .incoming = incoming, .next_request = 1};
	return &session;
}
void session_dial(struct session *of)
{
}
void session_end(struct session *of, int res, const char *sentence)
{
	of->ended = true;
}
void session_refused(struct session *of, const struct repl_error *error)
{
	session_end(of, error->code, error->sentence);
}
void session_look(struct session *of)
{
}
uint64_t session_request(struct session *of)
{
	return of->next_request++;
}
void answer_error(struct session *of, uint64_t request, int code, const char *sentence)
{
}
void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	messages++;
}
bool channel_room(struct channel *channel)
{
	return true;
}
void channel_pause(struct channel *channel, bool on)
{
	paused = on;
}

/* ---- the outgoing side ---- */

static const struct store_position here = {.epoch = 2, .vseq = 7, .incarnation = {5}};

static struct repl_stream *stream_made(void)
{
	const struct volume_info volume = {.number = 1, .name = "v"};
	stream_start(&repl);
	struct repl_stream *stream = repl_stream_new(&repl, &volume, "h2");
	assert_non_null(stream);
	return stream;
}

static void position_came(const struct repl_position *position)
{
	uint8_t message[REPL_HEADER_BYTES + 64];
	struct repl_header header;
	repl_encode_position(1, position, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(stream_message(&session, &header, message + REPL_HEADER_BYTES), 0);
}

static struct repl_stream_state state_of(const struct repl_stream *stream)
{
	struct repl_stream_state state;
	repl_stream_state(stream, &state);
	return state;
}

static void stands_at(struct repl_stream *stream, const struct store_position *there)
{
	const struct repl_position at = position_out(there);
	repl_stream_from(stream, &here);
	stream_opened(&session);
	position_came(&at);
}

static void what_waited_long_before_it_was_sent_is_not_late(void **state)
{
	static const uint8_t block[BLOCK_BYTES];
	struct repl_stream *stream = stream_made();
	struct store_position next = here;
	next.vseq++;
	struct store_tap_record record = {
		.volume = 1, .position = next, .length_bytes = sizeof block, .data = block};
	tap->record(&repl, &record);
	tap->committed(&repl);
	now_ns += 60 * NSEC_PER_SEC; /* while a cut was sent */
	messages = 0;
	stands_at(stream, &here);
	assert_int_equal(messages, 3);				   /* FOLLOW, WRITE, COMMIT */
	assert_true(state_of(stream).lag_ns >= 60 * NSEC_PER_SEC); /* it is that far behind */
	now_ns += 5 * NSEC_PER_SEC;
	session.timer.fire(&session.timer);
	assert_int_equal(state_of(stream).phase, STREAM_LIVE);
	const struct repl_position at = position_out(&next);
	position_came(&at);
	assert_int_equal(acked_vseq, next.vseq);
	assert_int_equal(state_of(stream).lag_ns, 0);
	/* It has taken effect here, too: nobody is told again. */
	messages = 0;
	tap->record(&repl, &record);
	tap->committed(&repl);
	assert_int_equal(messages, 0);
	/* What is sent, and not acknowledged in time, is. */
	record.position.vseq++;
	tap->record(&repl, &record);
	tap->committed(&repl);
	assert_int_equal(messages, 2);
	now_ns += 21 * NSEC_PER_SEC;
	session.timer.fire(&session.timer);
	assert_int_equal(state_of(stream).phase, STREAM_BROKEN);
	assert_int_equal(state_of(stream).res, -ETIMEDOUT);
	repl_stream_free(stream);
}

/* The same epoch and vseq of another life of the store are another place. */
static void another_incarnation_is_somewhere_else(void **state)
{
	static const uint8_t others[][16] = {{5}, {0}, {6}};
	for (unsigned i = 0; i < 3; i++) {
		struct repl_stream *stream = stream_made();
		struct store_position there = here;
		memcpy(there.incarnation, others[i], 16);
		messages = 0;
		stands_at(stream, &there);
		/* Who knows none is told it, and that it is in step, by a COMMIT behind the
		 * FOLLOW. */
		assert_int_equal(messages, i < 2 ? 2 : 1);
		assert_int_equal(state_of(stream).phase, i < 2 ? STREAM_LIVE : STREAM_BROKEN);
		assert_int_equal(state_of(stream).res, i < 2 ? 0 : -EAGAIN);
		repl_stream_free(stream);
	}
}

/* It has writes of this opening that the power took here: more than a cut is needed. */
static void who_stands_further_is_told_apart(void **state)
{
	struct repl_stream *stream = stream_made();
	struct store_position there = here;
	there.vseq++;
	stands_at(stream, &there);
	assert_int_equal(state_of(stream).phase, STREAM_BROKEN);
	assert_int_equal(state_of(stream).res, -ESTALE);
	repl_stream_free(stream);
	stream = stream_made();
	there.incarnation[0]++;
	stands_at(stream, &there);
	assert_int_equal(state_of(stream).res, -EAGAIN);
	repl_stream_free(stream);
}

/* It had them over a connection before this one, while they were written here. */
static void who_has_what_was_being_written_here_goes_on(void **state)
{
	static const uint8_t block[BLOCK_BYTES];
	struct store_position there = here, after = here;
	struct store_tap_record record = {.volume = 1, .length_bytes = sizeof block, .data = block};
	struct repl_stream *stream = stream_made();
	there.vseq += 2;
	after.vseq += 3;
	for (unsigned i = 1; i <= 3; i++) {
		record.position = here;
		record.position.vseq += i;
		tap->record(&repl, &record);
		tap->committed(&repl);
	}
	now_at = there;
	messages = 0;
	stands_at(stream, &there);
	assert_int_equal(state_of(stream).phase, STREAM_LIVE);
	assert_int_equal(messages, 3); /* FOLLOW, and what it has not */
	const struct repl_position at = position_out(&after);
	position_came(&at);
	assert_int_equal(acked_vseq, after.vseq);
	repl_stream_free(stream);
	now_at = (struct store_position){0};
}

/* Better a cut than a copy with a hole in it. */
static void a_gap_breaks_the_stream(void **state)
{
	static const uint8_t block[BLOCK_BYTES];
	struct store_tap_record record = {
		.volume = 1, .position = here, .length_bytes = sizeof block, .data = block};
	struct repl_stream *stream = stream_made();
	tap->record(&repl, &record);
	record.position.vseq += 2;
	tap->record(&repl, &record);
	assert_int_equal(state_of(stream).phase, STREAM_BROKEN);
	assert_int_equal(state_of(stream).res, -EAGAIN);
	repl_stream_free(stream);
}

/* Where a host is away many volumes wait for it at once. */
static void all_streams_together_are_bounded(void **state)
{
	static const uint8_t block[REPL_WRITE_MAX];
	struct repl_stream *stream = stream_made();
	uint64_t others = repl.stream_bytes = REPL_STREAMS_BYTES_MAX - MIB;
	struct store_position next = here;
	for (unsigned i = 0; state_of(stream).phase != STREAM_BROKEN; i++) {
		next.vseq++;
		const struct store_tap_record record = {
			.volume = 1, .position = next, .length_bytes = sizeof block, .data = block};
		tap->record(&repl, &record);
		assert_true(repl.stream_bytes <= REPL_STREAMS_BYTES_MAX);
		assert_true(i <= MIB / sizeof block);
	}
	assert_int_equal(state_of(stream).res, -EAGAIN);
	assert_int_equal(repl.stream_bytes, others); /* it gives back what it had */
	repl_stream_free(stream);
	repl.stream_bytes = 0;
}

/* When it is in step, and again and again; to who is older never. */
static void the_policy_is_told_to_who_is_in_step(void **state)
{
	for (unsigned knows = 0; knows < 2; knows++) {
		struct repl_stream *stream = stream_made();
		policy_here = (struct told_policy){.told = true};
		hello.features_known = knows ? REPL_FEATURE_POLICIES : 0;
		messages = 0;
		stands_at(stream, &here);
		assert_int_equal(messages, 2 + knows); /* FOLLOW, COMMIT */
		const struct repl_position at = position_out(&here);
		for (unsigned i = 0; i < 4; i++) {
			position_came(&at);
			policy_here.policy.name[0] = 'p';
			messages = 0;
			session.timer.fire(&session.timer);
			assert_int_equal(messages, 1 + knows); /* are you there? */
		}
		position_came(&at);
		policy_here.told = false; /* nobody knows any more */
		messages = 0;
		session.timer.fire(&session.timer);
		assert_int_equal(messages, 1);
		assert_int_equal(state_of(stream).phase, STREAM_LIVE);
		repl_stream_free(stream);
	}
	hello = (struct repl_hello){0};
	policy_here = (struct told_policy){0};
}

/* ---- the incoming side ---- */

static void came(uint32_t (*encode)(void *message), void *message)
{
	struct repl_header header;
	encode(message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(copy_message(&session, &header, (uint8_t *)message + REPL_HEADER_BYTES),
			 0);
}

static uint32_t follow(void *message)
{
	const struct repl_follow out = {.volume = "v"};
	return repl_encode_follow(1, &out, message);
}
static uint32_t commit(void *message)
{
	const struct repl_commit out = {.to = {.epoch = 1}};
	return repl_encode_commit(&out, message);
}
static uint32_t zeros(void *message)
{
	return repl_encode_write(0, BLOCK_BYTES, false, message);
}

/* Messages without data take memory, too, while they wait. */
static void nothing_of_a_peer_is_queued_without_a_bound(void **state)
{
	enum { BOUND = 32 * MIB };
	uint8_t message[REPL_HEADER_BYTES + 256];
	for (unsigned writes = 0; writes <= 60000; writes += 60000) {
		uint64_t least = writes ? sizeof(struct store_copy_part) * writes : 64;
		uint64_t commits = 0, queued;
		session_new(&repl, true);
		paused = false;
		came(follow, message);
		while (!paused && commits <= BOUND / least) {
			for (unsigned i = 0; i < writes; i++)
				came(zeros, message);
			came(commit, message);
			commits++;
		}
		assert_true(paused);
		/* It goes on when half of that is applied. */
		for (queued = commits; paused && queued; queued--) {
			applying->op.res = 0;
			applying->op.done(&applying->op);
		}
		assert_false(paused);
		assert_true(queued >= commits / 2 - 1 && queued <= commits / 2 + 1);
		session.ended = true;
		copy_ended(&session);
	}
}

/* Those of other copies count, too; who has nothing under way goes on with one commit. */
static void all_copies_together_are_bounded(void **state)
{
	uint8_t message[REPL_HEADER_BYTES + 256];
	const uint64_t others = 600 * MIB;
	session_new(&repl, true);
	repl.copy_bytes = others;
	paused = false;
	came(follow, message);
	for (unsigned i = 0; i < 3; i++) {
		came(zeros, message);
		came(commit, message);
		assert_true(paused);
		applying->op.res = 0;
		applying->op.done(&applying->op);
		assert_false(paused);
		assert_int_equal(repl.copy_bytes, others);
	}
	came(zeros, message);
	session.ended = true;
	copy_ended(&session);
	assert_int_equal(repl.copy_bytes, others); /* it gives back what it had */
	repl.copy_bytes = 0;
}

static void kept_now(int res)
{
	struct admin_op *op = keeping;
	keeping = NULL;
	op->op.res = res;
	op->op.done(&op->op);
}

static uint32_t policy(void *message)
{
	return repl_encode_policy(&policy_here, message);
}

/* One after the other, the last of those that came meanwhile; the connection waits for none. */
static void what_is_told_of_a_policy_is_kept(void **state)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	session_new(&repl, true);
	policy_here = (struct told_policy){.told = true, .policy = {.name = "a"}};
	kept_count = 0;
	came(follow, message);
	for (char name = 'a'; name <= 'e'; name++) {
		policy_here.policy.name[0] = name;
		came(policy, message);
	}
	assert_int_equal(kept_count, 1);
	assert_string_equal(kept.policy.name, "a");
	kept_now(0);
	assert_int_equal(kept_count, 2);
	assert_string_equal(kept.policy.name, "e");
	kept_now(0);
	came(policy, message); /* it is known */
	assert_int_equal(kept_count, 2);
	policy_here.policy.name[0] = 'f';
	came(policy, message);
	kept.policy.name[0] = 'e'; /* it was not kept: again when it is told again */
	kept_now(-ENOSPC);
	assert_int_equal(kept_count, 3);
	came(policy, message);
	assert_int_equal(kept_count, 4);
	session.ended = true;
	copy_ended(&session);
	kept_now(0);
	assert_null(keeping);
	assert_int_equal(kept_count, 4);
	/* Of no copy, or nonsense: the connection goes. */
	struct repl_header header;
	policy(message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	session_new(&repl, true);
	assert_int_equal(copy_message(&session, &header, message + REPL_HEADER_BYTES), -VS_EFORMAT);
	came(follow, message);
	policy(message);
	message[REPL_HEADER_BYTES + 8] = '/';
	assert_int_equal(copy_message(&session, &header, message + REPL_HEADER_BYTES), -VS_EFORMAT);
	session.ended = true;
	copy_ended(&session);
	policy_here = (struct told_policy){0};
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_waited_long_before_it_was_sent_is_not_late),
		cmocka_unit_test(another_incarnation_is_somewhere_else),
		cmocka_unit_test(who_stands_further_is_told_apart),
		cmocka_unit_test(who_has_what_was_being_written_here_goes_on),
		cmocka_unit_test(a_gap_breaks_the_stream),
		cmocka_unit_test(all_streams_together_are_bounded),
		cmocka_unit_test(nothing_of_a_peer_is_queued_without_a_bound),
		cmocka_unit_test(all_copies_together_are_bounded),
		cmocka_unit_test(the_policy_is_told_to_who_is_in_step),
		cmocka_unit_test(what_is_told_of_a_policy_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
