/* SPDX-License-Identifier: Apache-2.0 */
/* Sends in their lines, alone: without a store, connections, or a clock that goes by itself. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around them ---- */

static uint64_t now_ns;
#define TIMERS 8u
static struct armed {
	struct env_timer *timer;
	uint64_t at_ns;
} timers[TIMERS];

static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static void timer_stop(struct env *env, struct env_timer *timer)
{
	for (unsigned i = 0; i < TIMERS; i++)
		if (timers[i].timer == timer)
			timers[i].timer = NULL;
}
static void timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	unsigned i = 0;
	timer_stop(env, timer);
	while (timers[i].timer)
		assert_true(++i < TIMERS);
	timers[i] = (struct armed){timer, now_ns + delay_ns};
}
static void complete(struct env *env, struct io_op *op, int64_t res)
{
	op->res = res;
	op->done(op);
}
static const struct env_ops env_ops = {.now_ns = clock_now,
				       .wall_ns = clock_now,
				       .timer_start = timer_start,
				       .timer_stop = timer_stop,
				       .complete = complete};
static struct env env = {&env_ops};
static struct repl repl;
static unsigned views;
static bool no_session;

/* The clock goes on to the next timer, until none is left before `until`. */
static void pass(uint64_t until_ns)
{
	for (;;) {
		struct armed *next = NULL;
		for (unsigned i = 0; i < TIMERS; i++)
			if (timers[i].timer && timers[i].at_ns <= until_ns &&
			    (!next || timers[i].at_ns < next->at_ns))
				next = &timers[i];
		if (!next)
			break;
		struct env_timer *timer = next->timer;
		next->timer = NULL;
		now_ns = max_u64(now_ns, next->at_ns);
		timer->fire(timer);
	}
	now_ns = max_u64(now_ns, until_ns);
}

int store_offer(const struct store *store, const char *name, struct store_offer *ret)
{
	*ret = (struct store_offer){.size_bytes = 1000 * CHUNK_BYTES};
	if (strncmp(name, "raw", 3) == 0)
		return -EAGAIN;
	/* A copy is sent on under its volume's own name. */
	const char *slash = strchr(name, '/');
	name = slash ? slash + 1 : name;
	memcpy(ret->volume, name, strcspn(name, "@"));
	ret->cut = strstr(name, "@cut-") != NULL;
	return 0;
}
int store_view_open(struct store *store, const char *name, struct view **ret_view)
{
	views++;
	*ret_view = (struct view *)&views;
	return 0;
}
void store_view_close(struct view *view)
{
	views--;
}
static struct follower_info follower;
int store_followers(const struct store *store, struct follower_info **ret, size_t *ret_count)
{
	*ret = malloc(sizeof follower);
	**ret = follower;
	*ret_count = follower.host[0] != 0;
	return 0;
}
static uint64_t rate_now; /* the last one of any session */
void serve_rate(struct session *session, uint64_t rate_bytes)
{
	rate_now = rate_bytes;
}
static unsigned lanes_ended;
void lanes_end(struct sender *sender)
{
	lanes_ended++;
}
uint64_t lanes_sent_bytes(const struct sender *sender)
{
	return 0;
}
struct session *session_new(struct repl *of, bool incoming)
{
	struct session *session = no_session ? NULL : calloc(1, sizeof(*session));
	if (session)
		session->repl = of;
	return session;
}
void session_dial(struct session *session)
{
}
/* A session's end, as repl.c and send.c bring it about. */
void session_end(struct session *session, int res, const char *sentence)
{
	struct sender *sender = session->sender;
	free(session);
	line_session_ended(sender, res, sentence);
}

/* ---- sends ---- */

struct trial {
	struct repl_send send;
	bool done;
};
static void done(struct io_op *op)
{
	((struct trial *)op)->done = true;
}
static void begin(struct trial *trial, const char *snapshot, const char *host)
{
	*trial = (struct trial){.send = {.op.done = done, .snapshot = snapshot, .host = host}};
	repl_send(&repl, &trial->send);
	assert_false(trial->done && !trial->send.op.res);
}
static struct session *session_of(const struct trial *trial)
{
	const struct sender *sender = trial->send.state;
	return sender ? sender->session : NULL;
}
static bool goes(const struct trial *trial)
{
	pass(now_ns);
	return session_of(trial) != NULL;
}
static void ends(const struct trial *trial, int res)
{
	assert_true(goes(trial));
	session_end(session_of(trial), res, res < 0 ? "words" : "");
}

static int setup(void **state)
{
	repl = (struct repl){.env = &env};
	memset(timers, 0, sizeof timers);
	no_session = false;
	follower = (struct follower_info){0};
	return 0;
}
static int teardown(void **state)
{
	assert_int_equal(views, 0);
	assert_null(repl.senders);
	for (unsigned i = 0; i < TIMERS; i++)
		assert_null(timers[i].timer);
	return 0;
}

static void sends_to_one_copy_go_one_after_the_other(void **state)
{
	struct trial trials[3], other_host, other_volume;
	begin(&trials[0], "v@1", "b");
	begin(&trials[1], "v@2", "b");
	begin(&trials[2], "h/v@2", "b"); /* leads to the same copy */
	begin(&other_host, "v@1", "c");
	begin(&other_volume, "w@1", "b");
	assert_true(goes(&other_host) && goes(&other_volume));
	for (unsigned i = 0; i < 3; i++) {
		for (unsigned k = i + 1; k < 3; k++) {
			assert_false(goes(&trials[k]));
			assert_non_null(strstr(trials[k].send.waits, "is being sent to b"));
			assert_non_null(strstr(trials[k].send.waits, trials[i].send.snapshot));
		}
		assert_string_equal(trials[i].send.waits, "");
		ends(&trials[i], i == 1 ? -ECONNRESET : 0); /* a failure holds up nobody */
		assert_true(trials[i].done);
		assert_int_equal(trials[i].send.op.res, i == 1 ? -ECONNRESET : 0);
	}
	ends(&other_host, 0);
	ends(&other_volume, 0);
	assert_int_equal(repl.counters.sends, 4);
	assert_int_equal(repl.counters.sends_failed, 1);
}

static void one_that_waits_can_be_cancelled(void **state)
{
	struct trial trials[3];
	for (unsigned i = 0; i < 3; i++)
		begin(&trials[i], "v@1", "b");
	trials[1].send.cancel = true;
	repl_send_cancel(&trials[1].send);
	assert_true(trials[1].done && !trials[0].done && !trials[2].done);
	assert_int_equal(trials[1].send.op.res, -VS_ECANCELLED);
	repl_send_cancel(&trials[1].send); /* harmless */
	ends(&trials[0], 0);
	ends(&trials[2], 0);
}

static void a_busy_peer_is_asked_again(void **state)
{
	struct trial first, second;
	begin(&first, "v@1", "b");
	begin(&second, "v@2", "b");
	for (unsigned i = 0; i < 5; i++) {
		ends(&first, -EBUSY);
		assert_false(first.done || goes(&second));
		assert_non_null(strstr(first.send.waits, "b is asked again"));
		pass(now_ns + 2 * NSEC_PER_SEC);
		assert_true(goes(&first));
		assert_string_equal(first.send.waits, "");
	}
	ends(&first, 0);
	assert_int_equal(first.send.op.res, 0);
	/* In a pause it can be cancelled too. */
	ends(&second, -EBUSY);
	second.send.cancel = true;
	repl_send_cancel(&second.send);
	assert_int_equal(second.send.op.res, -VS_ECANCELLED);
}

static void a_peer_that_stays_busy_is_given_up(void **state)
{
	struct trial trial;
	uint64_t begun_ns = now_ns;
	begin(&trial, "v@1", "b");
	while (!trial.done) {
		ends(&trial, -EBUSY);
		if (!trial.done)
			pass(now_ns + 2 * NSEC_PER_SEC);
		assert_true(now_ns - begun_ns < 100 * NSEC_PER_SEC);
	}
	assert_int_equal(trial.send.op.res, -EBUSY);
	assert_true(now_ns - begun_ns >= 90 * NSEC_PER_SEC);
	assert_string_equal(trial.send.sentence, "b was asked for 90 seconds and says: words");
}

/* What is in step there goes on, and a cut that it needs, beside a send that takes hours. */
static void beside_a_copy_in_step_is_a_line_of_its_own(void **state)
{
	struct trial first, second, other_host, other_volume, cut;
	follower = (struct follower_info){.volume = "v", .host = "b", .rules.in_step = true};
	begin(&first, "v@1", "b");
	begin(&second, "v@2", "b");
	begin(&other_host, "v@1", "c");
	begin(&other_volume, "v2@1", "b");
	begin(&cut, "v@cut-1", "b");
	assert_true(goes(&first) && goes(&other_host) && goes(&other_volume) && goes(&cut));
	assert_false(goes(&second));
	assert_true(session_of(&first)->sender->offer.beside);
	assert_false(session_of(&other_host)->sender->offer.beside);
	assert_false(session_of(&other_volume)->sender->offer.beside);
	assert_false(session_of(&cut)->sender->offer.beside);
	ends(&first, 0);
	assert_true(goes(&second) && session_of(&second)->sender->offer.beside);
	ends(&second, 0);
	ends(&other_host, 0);
	ends(&other_volume, 0);
	ends(&cut, 0);
}

/* One more connection, which brought so many chunks before it was cut. */
static void is_cut(struct trial *trial, uint64_t chunks, uint64_t fetched)
{
	pass(now_ns + 60 * NSEC_PER_SEC);
	assert_true(goes(trial));
	struct sender *sender = trial->send.state;
	struct repl_state there = {.chunks = chunks, .fetched = fetched};
	sender->reached = true;
	line_progress(sender, &there, fetched * 1000);
	ends(trial, fetched % 2 ? -ECONNRESET : -ETIMEDOUT);
}

static void a_send_that_moves_is_cut_as_often_as_may_be(void **state)
{
	struct trial trial = {.send = {.op.done = done, .snapshot = "v@1", .host = "b"}};
	trial.send.goes_on = true;
	repl_send(&repl, &trial.send);
	for (unsigned i = 0; i < 300; i++) {
		is_cut(&trial, 1000 - i, 1);
		assert_false(trial.done);
		assert_non_null(strstr(trial.send.waits, "b was cut"));
		for (unsigned k = 0; k < i % 60; k++) /* a bad hour between */
			is_cut(&trial, 999 - i, 0);
		assert_false(trial.done);
	}
	pass(now_ns + 60 * NSEC_PER_SEC);
	ends(&trial, 0);
	assert_int_equal(trial.send.op.res, 0);
	assert_int_equal(trial.send.chunks, 1000); /* the counts are those of all connections */
	assert_int_equal(trial.send.fetched, 300);
	assert_int_equal(trial.send.sent_bytes, 300 * 1000);
}

static void a_send_that_does_not_move_ends_and_says_so(void **state)
{
	struct trial trial = {.send = {.op.done = done, .snapshot = "v@1", .host = "b"}};
	unsigned cuts = 0;
	trial.send.goes_on = true;
	repl_send(&repl, &trial.send);
	is_cut(&trial, 1000, 1);
	for (; !trial.done; cuts++)
		is_cut(&trial, 1000, 0);
	assert_int_equal(cuts, 64);
	assert_int_equal(trial.send.op.res, -ETIMEDOUT);
	assert_non_null(strstr(trial.send.sentence, "brought nothing over"));
	assert_non_null(strstr(trial.send.sentence, "words"));
}

/* It forgets what it took, or lies: a snapshot has an end. */
static void a_peer_that_takes_the_same_again_and_again_has_an_end(void **state)
{
	static const uint64_t takes[] = {100, 2000, UINT64_MAX, UINT64_MAX / 2 + 1};
	static const unsigned good[] = {20, 1, 1, 1}; /* twice 1000 chunks */
	for (unsigned i = 0; i < 4; i++) {
		struct trial trial = {.send = {.op.done = done, .snapshot = "v@1", .host = "b"}};
		unsigned cuts = 0;
		trial.send.goes_on = true;
		repl_send(&repl, &trial.send);
		for (; !trial.done && cuts < 1000; cuts++)
			is_cut(&trial, 1000, takes[i]);
		assert_true(trial.done);
		assert_int_equal(cuts, good[i] + 64);
	}
}

static void begin_patient(struct trial *trial, const char *snapshot, const char *host)
{
	*trial = (struct trial){
		.send = {.op.done = done, .snapshot = snapshot, .host = host, .goes_on = true}};
	repl_send(&repl, &trial->send);
}

/* It says that it took some, each time, and then has no room: once it has, it may be cut as often.
 */
static void one_that_was_full_for_long_may_be_cut_as_often(void **state)
{
	struct trial trial;
	begin_patient(&trial, "v@1", "b");
	for (unsigned i = 0; i < 100; i++) {
		struct repl_state there = {.chunks = 1000, .fetched = 100};
		pass(now_ns + 60 * NSEC_PER_SEC);
		line_progress(trial.send.state, &there, 100);
		ends(&trial, -ENOSPC);
	}
	for (unsigned i = 0; i < 100; i++)
		is_cut(&trial, 1000, 10);
	assert_false(trial.done);
	pass(now_ns + 60 * NSEC_PER_SEC);
	ends(&trial, 0);
	assert_int_equal(trial.send.op.res, 0);
}

/* Nobody is there at all, something is refused, or a program sends that looks itself. */
static void other_ends_are_no_cuts(void **state)
{
	for (unsigned i = 0; i < 3; i++) {
		struct trial trial = {.send = {.op.done = done, .snapshot = "v@1", .host = "b"}};
		trial.send.goes_on = i != 2;
		repl_send(&repl, &trial.send);
		pass(now_ns);
		((struct sender *)trial.send.state)->reached = i > 0;
		ends(&trial, i == 1 ? -VS_EFENCED : -ECONNRESET);
		assert_true(trial.done);
		assert_string_equal(trial.send.sentence, "words");
	}
}

/* For days, if need be: a person makes room there. */
static void a_peer_that_is_full_is_asked_until_it_is_not(void **state)
{
	static const int refusals[] = {-ENOSPC, -EROFS, -VS_EFAILSTOP, -VS_EQUOTA};
	struct trial trial;
	uint64_t begun_ns = now_ns;
	unsigned asked = 0;
	begin_patient(&trial, "v@1", "b");
	for (; now_ns - begun_ns < 3600 * NSEC_PER_SEC; asked++) {
		ends(&trial, refusals[asked % 4]);
		assert_false(trial.done || goes(&trial));
		assert_string_equal(trial.send.waits, "b takes nothing now, and is asked again "
						      "until it does; it says: words");
		pass(now_ns + 60 * NSEC_PER_SEC);
	}
	assert_true(asked >= 59);
	ends(&trial, 0);
	assert_true(trial.done);
	assert_int_equal(trial.send.op.res, 0);
	/* Who looks again by itself is told at once. */
	begin(&trial, "v@1", "b");
	ends(&trial, -ENOSPC);
	assert_true(trial.done);
	assert_int_equal(trial.send.op.res, -ENOSPC);
}

static void one_that_is_refused_holds_up_nobody(void **state)
{
	struct trial large, small, third;
	begin_patient(&large, "v@1", "b");
	begin_patient(&small, "v@2", "b");
	ends(&large, -ENOSPC);
	assert_true(goes(&small));
	begin_patient(&third, "v@3", "b");
	/* Its pause is over, and it stands behind those that have come. */
	pass(now_ns + 60 * NSEC_PER_SEC);
	assert_non_null(strstr(large.send.waits, "'v@2' is being sent to b"));
	ends(&small, 0);
	assert_true(goes(&third));
	assert_false(goes(&large));
	ends(&third, 0);
	ends(&large, 0);
	assert_int_equal(large.send.op.res, 0);
}

static void one_that_is_refused_can_be_cancelled(void **state)
{
	struct trial trials[2];
	for (unsigned i = 0; i < 2; i++) {
		begin_patient(&trials[i], "v@1", "b");
		ends(&trials[i], -EROFS);
	}
	trials[0].send.cancel = true;
	repl_send_cancel(&trials[0].send);
	assert_int_equal(trials[0].send.op.res, -VS_ECANCELLED);
	repl.stopping = true;
	line_stop(&repl);
	assert_int_equal(trials[1].send.op.res, -ESHUTDOWN);
}

static void what_it_brought_before_it_was_full_counts(void **state)
{
	struct trial trial;
	begin_patient(&trial, "v@1", "b");
	for (unsigned i = 0; i < 3; i++) {
		assert_true(goes(&trial));
		line_progress(trial.send.state,
			      &(struct repl_state){.chunks = 30 - i * 10, .fetched = 10}, 1000);
		ends(&trial, i < 2 ? -ENOSPC : 0);
		pass(now_ns + 60 * NSEC_PER_SEC);
	}
	assert_true(trial.done);
	assert_int_equal(trial.send.fetched, 30);
	assert_int_equal(trial.send.chunks, 30);
	assert_int_equal(trial.send.sent_bytes, 3000);
}

/* Of the connection that is, and of the next one. */
static void the_rate_can_be_changed_at_any_time(void **state)
{
	struct trial trial;
	begin_patient(&trial, "v@1", "b");
	repl_send_rate(&trial.send, 1);
	assert_true(goes(&trial));
	assert_int_equal(rate_now, 1);
	lanes_ended = 0;
	repl_send_rate(&trial.send, 2);
	assert_int_equal(rate_now, 2);
	assert_int_equal(lanes_ended, 1); /* a limit is one connection's */
	repl_send_rate(&trial.send, 0);
	assert_int_equal(lanes_ended, 1);
	is_cut(&trial, 10, 1);
	repl_send_rate(&trial.send, 3);
	assert_int_equal(rate_now, 0);
	pass(now_ns + 60 * NSEC_PER_SEC);
	assert_int_equal(rate_now, 3);
	ends(&trial, 0);
	repl_send_rate(&trial.send, 4); /* harmless */
	assert_int_equal(rate_now, 3);
}

static void what_cannot_begin_says_why(void **state)
{
	struct trial raw, roomless, next;
	begin(&raw, "raw@1", "b");
	assert_int_equal(raw.send.op.res, -EAGAIN);
	assert_non_null(strstr(raw.send.sentence, "not folded yet"));
	no_session = true;
	begin(&roomless, "v@1", "b");
	begin(&next, "v@2", "b");
	pass(now_ns);
	assert_true(roomless.done && next.done);
	assert_non_null(strstr(next.send.sentence, "no room"));
}

static void a_stop_ends_those_that_wait(void **state)
{
	struct trial goes_on, waits, paused, late;
	begin(&goes_on, "v@1", "b");
	begin(&waits, "v@2", "b");
	begin(&paused, "w@1", "b");
	ends(&paused, -EBUSY);
	assert_true(goes(&goes_on));
	repl.stopping = true;
	line_stop(&repl);
	assert_true(waits.done && paused.done && !goes_on.done);
	assert_int_equal(paused.send.op.res, -ESHUTDOWN);
	ends(&goes_on, -EBUSY); /* nothing is tried again */
	assert_true(goes_on.done);
	begin(&late, "v@1", "b");
	assert_int_equal(late.send.op.res, -ESHUTDOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(sends_to_one_copy_go_one_after_the_other, setup,
						teardown),
		cmocka_unit_test_setup_teardown(one_that_waits_can_be_cancelled, setup, teardown),
		cmocka_unit_test_setup_teardown(a_busy_peer_is_asked_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_peer_that_stays_busy_is_given_up, setup,
						teardown),
		cmocka_unit_test_setup_teardown(beside_a_copy_in_step_is_a_line_of_its_own, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_send_that_moves_is_cut_as_often_as_may_be, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_send_that_does_not_move_ends_and_says_so, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_peer_that_takes_the_same_again_and_again_has_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_was_full_for_long_may_be_cut_as_often,
						setup, teardown),
		cmocka_unit_test_setup_teardown(other_ends_are_no_cuts, setup, teardown),
		cmocka_unit_test_setup_teardown(a_peer_that_is_full_is_asked_until_it_is_not, setup,
						teardown),
		cmocka_unit_test_setup_teardown(one_that_is_refused_holds_up_nobody, setup,
						teardown),
		cmocka_unit_test_setup_teardown(one_that_is_refused_can_be_cancelled, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_it_brought_before_it_was_full_counts, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_rate_can_be_changed_at_any_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_cannot_begin_says_why, setup, teardown),
		cmocka_unit_test_setup_teardown(a_stop_ends_those_that_wait, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
