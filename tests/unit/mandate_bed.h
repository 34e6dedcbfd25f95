/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands around mandate.c and word.c, which are tested alone: a store of one volume, 7, that
 * h2 follows or votes about, one session at most, and a clock that goes by ticks. Included once in
 * a program: its functions are those that they call.
 */
#ifndef TESTS_UNIT_MANDATE_BED_H
#define TESTS_UNIT_MANDATE_BED_H

#include "tests/unit/unit.h"

#include "storage/repl/session.h"

#include <stdlib.h>

#define TICK_NS (100 * NSEC_PER_MSEC)

static uint64_t now_ns;
static uint64_t clock_now(struct env *env)
{
	return now_ns;
}
static void timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
}
static void timer_stop(struct env *env, struct env_timer *timer)
{
}
static const struct env_ops env_ops = {.now_ns = clock_now,
				       .wall_ns = clock_now,
				       .timer_start = timer_start,
				       .timer_stop = timer_stop};
static struct env env = {&env_ops};
static struct repl repl = {.env = &env};

static struct session *session; /* the one that there is; NULL: none */
static unsigned dials, asked;
static uint64_t last_request;
static size_t voter_count;
static struct voter_info voters[2];
static const struct store_word first = {.volume_uuid = {1},
					.term = 3,
					.seq = 5,
					.voter_count = 3,
					.copies = 3,
					.in_step = 3,
					.voters = {"h1", "h2", "w"}};
static struct store_word word; /* the newest of that volume; `first` in the beginning */
static struct {
	uint64_t term, seq;
	unsigned times;
} kept;
static unsigned missing, told, renewals, unheard;
static uint64_t known_seq; /* of a word that a voter keeps in place of ours */
static uint64_t renew_ns;
static bool not_durable, renewing;
static struct repl_vote vote;
static struct store_word_take *taking;
static struct repl_mandate question;
static struct {
	uint64_t until_ns;
	unsigned times;
} given, absent;
static int give_res;
static uint8_t answer[REPL_HEADER_BYTES + 512];

int store_voters(const struct store *store, struct voter_info **ret, size_t *ret_count)
{
	*ret = malloc(sizeof voters);
	memcpy(*ret, voters, sizeof voters);
	*ret_count = voter_count;
	return 0;
}
int store_word(const struct store *store, uint32_t number, struct store_word *ret, bool *ret_stands)
{
	assert_int_equal(number, 7);
	*ret = word;
	*ret_stands = false;
	return 0;
}
bool store_word_kept(const struct store *store, uint32_t volume)
{
	return !not_durable;
}
bool elect_renew(struct repl *of, uint32_t volume, uint64_t refused_ns)
{
	assert_int_equal(volume, 7);
	renew_ns = refused_ns;
	renewals++;
	return renewing;
}
void store_word_acked(struct store *store, uint32_t volume, const char *host, uint64_t term,
		      uint64_t seq)
{
	assert_string_equal(host, "h2");
	kept.term = term;
	kept.seq = seq;
	kept.times++;
}
void store_word_unheard(struct store *store, uint32_t volume, const char *host)
{
	assert_int_equal(volume, 7);
	assert_string_equal(host, "h2");
	unheard++;
}
void store_word_known(struct store *store, uint32_t volume, const char *host,
		      const struct store_word *known)
{
	assert_int_equal(volume, 7);
	assert_string_equal(host, "h2");
	known_seq = known->seq;
}
void store_follower_missing(struct store *store, uint32_t volume, const char *host)
{
	assert_string_equal(host, "h2");
	missing++;
}
void store_word_take(struct store *store, struct store_word_take *take)
{
	taking = take;
}
void session_look(struct session *of)
{
}
int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret)
{
	assert_int_equal(number, 7);
	*ret = (struct volume_info){.number = number, .uuid = {1}, .epoch = 3, .vseq = 9};
	return 0;
}
void store_mandate_given(struct store *store, uint32_t volume, const char *host, uint64_t until_ns)
{
	assert_string_equal(host, "h2");
	given.until_ns = until_ns;
	given.times++;
}
void store_mandate_absent(struct store *store, uint32_t volume, const char *host, uint64_t until_ns)
{
	assert_string_equal(host, "h2");
	absent.until_ns = until_ns;
	absent.times++;
}
int store_mandate_give(struct store *store, const char *host, const uint8_t uuid[16],
		       uint64_t epoch, uint64_t duration_ns)
{
	assert_string_equal(host, "h9");
	assert_int_equal(epoch, 3);
	assert_int_equal(duration_ns, MANDATE_NS);
	return give_res;
}
struct session *session_new(struct repl *of, bool incoming)
{
	assert_null(session);
	session = calloc(1, sizeof(*session));
	*session = (struct session){.repl = of, .incoming = incoming, .next_request = 1};
	return session;
}
void session_dial(struct session *of)
{
	dials++;
}
void session_end(struct session *of, int res, const char *sentence)
{
	of->ended = true;
}
uint64_t session_request(struct session *of)
{
	return of->next_request++;
}
void answer_error(struct session *of, uint64_t request, int code, const char *sentence)
{
	repl_encode_error(request, REPL_REPLY, code, sentence, answer);
}
void channel_send(struct channel *channel, const void *bytes, size_t byte_count)
{
	struct repl_header header;
	assert_int_equal(repl_decode_header(bytes, &header), 0);
	if (header.type == REPL_VOTE && !(header.flags & REPL_REPLY)) {
		assert_int_equal(repl_decode_vote((const uint8_t *)bytes + REPL_HEADER_BYTES,
						  header.body_bytes, &vote),
				 0);
		last_request = header.request;
		told++;
		return;
	}
	if (header.type != REPL_MANDATE) {
		memcpy(answer, bytes, byte_count);
		return;
	}
	assert_int_equal(repl_decode_mandate((const uint8_t *)bytes + REPL_HEADER_BYTES,
					     header.body_bytes, &question),
			 0);
	last_request = header.request;
	asked++;
}

/* ---- what happens ---- */

static inline void tick(void)
{
	now_ns += TICK_NS;
	repl.mandate_timer.fire(&repl.mandate_timer);
}

static inline void ticks(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		tick();
}

static inline void begin(void)
{
	now_ns += 3600 * NSEC_PER_SEC;
	dials = asked = given.times = absent.times = 0;
	given.until_ns = absent.until_ns = 0;
	give_res = 0;
	voter_count = 1;
	voters[0] = (struct voter_info){.volume_number = 7, .host = "h2"};
	kept.times = missing = told = renewals = unheard = 0;
	known_seq = 0;
	word = first;
	mandate_start(&repl);
	tick();
	assert_non_null(session);
	assert_int_equal(dials, 1);
}

static inline void connected(void)
{
	mandate_opened(session);
}

/* The connection is gone. */
static inline void gone(void)
{
	struct session *old = session;
	session = NULL;
	mandate_ended(old);
	free(old);
}

static inline void end(void)
{
	if (session)
		gone();
	mandate_stop(&repl);
	assert_null(repl.links);
}

static inline void answered(int code)
{
	uint8_t message[REPL_HEADER_BYTES + 512];
	struct repl_header header;
	if (code)
		repl_encode_error(last_request, REPL_REPLY, code, "No.", message);
	else
		repl_encode_ok(last_request, message);
	assert_int_equal(repl_decode_header(message, &header), 0);
	assert_int_equal(mandate_message(session, &header, message + REPL_HEADER_BYTES), 0);
}

#endif
