/* SPDX-License-Identifier: Apache-2.0 */
/* The answers to a peer's GETs, alone: without a store, a connection, or a clock that goes by
 * itself. */
#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

/* ---- what stands around them ---- */

static uint64_t now_ns, sent_bytes, timer_ns;
static struct env_timer *timer;
static uint32_t record_bytes;
static struct store_record_read *reading[SERVE_READS];
static unsigned reading_count;

static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static void timer_start(struct env *env, struct env_timer *start, uint64_t delay_ns)
{
	timer = start;
	timer_ns = now_ns + delay_ns;
}
static const struct env_ops env_ops = {.now_ns = clock_now, .timer_start = timer_start};
static struct env env = {&env_ops};
static struct repl repl = {.env = &env};

void store_record_read(struct store_record_read *read)
{
	assert_true(reading_count < SERVE_READS);
	reading[reading_count++] = read;
}
void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	sent_bytes += byte_count;
}
bool channel_room(struct channel *channel)
{
	return true;
}
uint64_t channel_sent_bytes(const struct channel *channel)
{
	return sent_bytes;
}
void session_look(struct session *session)
{
}

static void reads_end(void)
{
	while (reading_count) {
		struct store_record_read *read = reading[--reading_count];
		read->op.res = record_bytes;
		read->op.done(&read->op);
	}
}

static void asks(struct session *session)
{
	static uint8_t ids[REPL_GET_MAX * ID_BYTES], message[REPL_HEADER_BYTES + 24 + sizeof ids];
	struct repl_get get = {.type = 1, .count = REPL_GET_MAX, .ids = ids};
	struct repl_header header;
	repl_encode_get(1, &get, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(serve_get(session, &header, message + REPL_HEADER_BYTES), 0);
}

/* What goes over in so many seconds to who asks for more than that. */
static uint64_t goes_in(unsigned seconds, uint64_t rate, uint32_t each)
{
	struct session *session = calloc(1, sizeof(*session));
	session->repl = &repl;
	sent_bytes = 0;
	timer = NULL;
	record_bytes = each;
	now_ns = NSEC_PER_SEC;
	serve_rate(session, rate);
	for (uint64_t end_ns = now_ns + seconds * NSEC_PER_SEC; now_ns < end_ns;) {
		while (session->get_count < 4)
			asks(session);
		reads_end();
		now_ns += NSEC_PER_MSEC;
		if (timer && timer_ns <= now_ns) {
			struct env_timer *fired = timer;
			timer = NULL;
			fired->fire(fired);
		}
	}
	reads_end();
	session->ended = true;
	reads_end();
	serve_free(session);
	free(session);
	return sent_bytes;
}

static void a_rate_is_kept(void **state)
{
	static const uint64_t rates[] = {32 * 1024, 100 * 1000, MIB, 20 * MIB};
	static const uint32_t bytes[] = {500, 8192, 30000, 65600};
	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 4; k++) {
			uint64_t went = goes_in(60, rates[i], bytes[k]), all = 60 * rates[i];
			/* A burst, and the records that are on their way at the end. */
			if (went > all + rates[i] / 10 + 2 * STORE_RECORD_BYTES_MAX)
				fail_msg("%llu bytes of %u at %llu a second",
					 (unsigned long long)went, bytes[k],
					 (unsigned long long)rates[i]);
			/* A millisecond's steps, each record charged as the longest at first. */
			if (bytes[k] > 30000 && went < all / 10 * 9)
				fail_msg("only %llu bytes of %u at %llu a second",
					 (unsigned long long)went, bytes[k],
					 (unsigned long long)rates[i]);
		}
}

static void the_lowest_rate_keeps_the_connection_alive(void **state)
{
	uint64_t went = goes_in(200, 1, 65600);
	assert_true(went >= 9 * 65600ull); /* one in 20 s: the peer leaves a silent one after 60 */
	assert_true(went <= 13 * 66000ull);
}

static void without_a_rate_nothing_waits(void **state)
{
	assert_true(goes_in(1, 0, 65600) > 1000 * 65600ull);
}

/* Ten minutes' worth of debt at the old rate is not paid at the new one. */
static void another_rate_holds_at_once(void **state)
{
	struct session *session = calloc(1, sizeof(*session));
	session->repl = &repl;
	sent_bytes = 0;
	timer = NULL;
	record_bytes = 65600;
	now_ns = NSEC_PER_SEC;
	serve_rate(session, 100);
	for (unsigned i = 0; i < 4; i++)
		asks(session);
	reads_end();
	uint64_t before = sent_bytes;
	assert_true(timer && timer_ns > now_ns);
	reads_end();
	assert_int_equal(sent_bytes, before);
	serve_rate(session, 0);
	for (unsigned i = 0; i < 100; i++)
		reads_end();
	assert_int_equal(session->get_count, 0);
	assert_true(sent_bytes > before);
	session->ended = true;
	serve_free(session);
	free(session);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_rate_is_kept),
		cmocka_unit_test(the_lowest_rate_keeps_the_connection_alive),
		cmocka_unit_test(without_a_rate_nothing_waits),
		cmocka_unit_test(another_rate_holds_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
