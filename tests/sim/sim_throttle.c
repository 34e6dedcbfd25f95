/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer that never rests, in simulated time: random blocks of a volume that is many times the
 * log, 32 at once. What is asked for: once the log has been full a first time, no interval gets
 * less than half of what the median interval gets, so there is neither a cliff nor a stall; and
 * the store, closed in the middle of a fold, is closed soon.
 *
 * Usage: sim_throttle [--mutant N]. With a mutant: exits 0 when the test would have failed.
 */
#include "proto/err.h"
#include "storage/rt/log_event.h"
#include "storage/store/store.h"
#include "storage/store/store_admin.h"
#include "tests/sim/simenv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int vstore_mutant;

#define LOG_BYTES (32 * MIB)
#define VOLUME_BYTES (8 * LOG_BYTES)
#define IN_FLIGHT 32u
#define WRITES 80000u
#define SEEDS 3u
#define INTERVALS_MAX 4096u
/* Of the log an eighth: a fold takes several intervals, and one that lets nothing in shows. */
#define WRITES_PER_INTERVAL (LOG_BYTES / BLOCK_BYTES / 8)

struct writer {
	struct store_request request; /* first */
	uint8_t *data;
};

static struct sim *sim;
static struct store *store;
static struct view *view;
static struct writer writers[IN_FLIGHT];
static unsigned submitted, answered, under_way, failed;
static uint64_t answered_ns[WRITES];

static void write_next(struct writer *writer);

static void write_done(struct io_op *op)
{
	under_way--;
	failed += op->res < 0;
	answered_ns[answered++] = env_now_ns(sim_env(sim));
	write_next((struct writer *)op);
}

static void write_next(struct writer *writer)
{
	if (submitted == WRITES)
		return;
	uint64_t block = sim_random(sim, VOLUME_BYTES / BLOCK_BYTES);
	memset(writer->data, (int)submitted++, BLOCK_BYTES);
	memcpy(writer->data, &block, sizeof block);
	writer->request = (struct store_request){.op.done = write_done,
						 .view = view,
						 .kind = REQUEST_WRITE,
						 .offset_bytes = block * BLOCK_BYTES,
						 .length_bytes = BLOCK_BYTES,
						 .data = writer->data};
	under_way++;
	store_submit(&writer->request);
}

static int order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void open_all(void)
{
	struct env *env = sim_env(sim);
	char sentence[SENTENCE_BYTES];
	struct store_make_options make = {.log_bytes = LOG_BYTES};
	struct admin_op admin = {0};
	struct volume_options volume = {.size_bytes = VOLUME_BYTES};
	int res = store_make(env, "store", &make, sentence);
	assert(res == 0);
	res = store_open(env, "store", &(struct store_options){.cache_bytes = MIB}, &store,
			 sentence);
	assert(res == 0);
	env_wait_prepare(&admin.op);
	store_volume_create(store, &admin, "a", &volume);
	assert(env_wait(env, &admin.op) == 0);
	res = store_view_open(store, "a", &view);
	assert(res == 0);
}

/* The slowest interval against the median one, in percent, once the log had been half full. */
static unsigned smoothness(uint64_t *ret_median, unsigned *ret_count)
{
	static uint64_t counts[INTERVALS_MAX], sorted[INTERVALS_MAX];
	unsigned first = LOG_BYTES / BLOCK_BYTES, count = 0;
	uint64_t begin = answered_ns[first];
	uint64_t interval =
		(answered_ns[WRITES - 1] - begin) / ((WRITES - first) / WRITES_PER_INTERVAL);
	memset(counts, 0, sizeof counts);
	for (unsigned i = first; i < WRITES; i++) {
		uint64_t at = (answered_ns[i] - begin) / interval;
		assert(at < INTERVALS_MAX);
		counts[at]++;
		count = (unsigned)at; /* the last, cut short, does not count */
	}
	memcpy(sorted, counts, count * sizeof *counts);
	qsort(sorted, count, sizeof *sorted, order);
	*ret_median = sorted[count / 2];
	*ret_count = count;
	return *ret_median ? (unsigned)(100 * sorted[0] / *ret_median) : 0;
}

/* NULL, or what went wrong. */
static const char *run(uint64_t seed)
{
	static char text[200];
	sim = sim_new(seed);
	submitted = answered = under_way = failed = 0;
	open_all();
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		writers[i].data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
		write_next(&writers[i]);
	}
	while (under_way && env_step(sim_env(sim), true))
		;
	uint64_t median = 0;
	unsigned count = 0, percent = answered < WRITES ? 0 : smoothness(&median, &count);
	uint64_t began = env_now_ns(sim_env(sim));
	store_view_close(view);
	int res = store_close(store);
	uint64_t close_ns = env_now_ns(sim_env(sim)) - began;
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		free(writers[i].data);
	sim_free(sim);
	snprintf(text, sizeof text,
		 "seed %llu: %u intervals, median %llu writes, the slowest %u %% of it; closed in "
		 "%llu ms",
		 (unsigned long long)seed, count, (unsigned long long)median, percent,
		 (unsigned long long)(close_ns / 1000000));
	puts(text);
	if (answered < WRITES || failed || res < 0)
		return "writes hang or fail";
	if (percent < 50)
		return "an interval got less than half of the median";
	return close_ns > NSEC_PER_SEC ? "closing takes too long" : NULL;
}

int main(int argc, char **argv)
{
	log_level_set(0);
	if (argc == 3 && strcmp(argv[1], "--mutant") == 0)
		vstore_mutant = atoi(argv[2]);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		const char *wrong = run(seed);
		if (wrong) {
			printf("%s\n", wrong);
			return vstore_mutant ? 0 : 1;
		}
	}
	return vstore_mutant ? 1 : 0;
}
