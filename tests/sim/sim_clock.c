/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A clock that is set a year ahead and a year back, and crashes, in days of simulated time: nothing
 * that waits for its time goes early, and it goes when its time has come; and the forecast's
 * history goes on over all of it.
 *
 * What waits: a volume and a snapshot in the trash, a snapshot with a date, a held one.
 *
 * Usage: sim_clock [FIRST..LAST]
 */
#include "storage/store/store.h"
#include "storage/store/store_list.h"
#include "tests/sim/admin.h"
#include "tests/sim/simenv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)
#define YEAR_NS (366 * DAY_NS)
#define TRASH_NS DAY_NS
#define RETAIN_NS (2 * DAY_NS)
#define CAPACITY_BYTES (16 * GIB)
#define HOUR_BYTES MIB /* what is written an hour */

static struct {
	struct sim *sim;
	struct store *store;
	uint64_t seed, written_bytes;
	uint64_t lived_ns; /* by this program's count, without what a crash may take back */
	unsigned crashes, jumps;
} w;

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "seed %llu, line %d, hour %llu: %s\n",                     \
				(unsigned long long)w.seed, __LINE__,                              \
				(unsigned long long)(w.lived_ns / HOUR_NS), #what);                \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static void open_store(void)
{
	struct store_options options = {.cache_bytes = MIB,
					.trash_delay_ns = TRASH_NS,
					.capacity_bytes = CAPACITY_BYTES,
					.gc_interval_ns = GC_NEVER,
					.scrub_period_ns = SCRUB_NEVER};
	char sentence[SENTENCE_BYTES];
	if (store_open(sim_env(w.sim), "store", &options, &w.store, sentence) < 0) {
		fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w.seed, sentence);
		exit(1);
	}
}

static int admin_end(struct admin_op *op)
{
	return (int)env_wait(sim_env(w.sim), &op->op);
}

static void run(uint64_t ns)
{
	struct env *env = sim_env(w.sim);
	uint64_t end = env_now_ns(env) + ns;
	while (env_now_ns(env) < end)
		CHECK(env_step(env, true));
	w.lived_ns += ns;
}

static void write_some(void)
{
	static uint8_t data[HOUR_BYTES] __attribute__((aligned(4096)));
	struct view *view;
	for (size_t i = 0; i < sizeof data; i += 8) {
		uint64_t word = sim_random(w.sim, UINT64_MAX);
		memcpy(data + i, &word, 8);
	}
	CHECK(store_view_open(w.store, "a", &view) == 0);
	struct store_request request = {.view = view,
					.kind = REQUEST_WRITE,
					.offset_bytes = w.written_bytes,
					.length_bytes = HOUR_BYTES,
					.data = data,
					.flags = REQUEST_FUA};
	env_wait_prepare(&request.op);
	store_submit(&request);
	CHECK(env_wait(sim_env(w.sim), &request.op) == 0);
	store_view_close(view);
	w.written_bytes += HOUR_BYTES;
}

static size_t in_trash(void)
{
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t volume_count, snapshot_count;
	CHECK(store_volumes(w.store, true, &volumes, &volume_count) == 0);
	CHECK(store_snapshots(w.store, true, &snapshots, &snapshot_count) == 0);
	free(volumes);
	free(snapshots);
	return volume_count + snapshot_count;
}

static int delete (const char *name)
{
	struct admin_op op;
	store_snap_delete(w.store, admin(&op), name);
	return admin_end(&op);
}

static void begin(void)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct volume_options options = {.size_bytes = GIB};
	struct admin_op op;
	char sentence[SENTENCE_BYTES];
	static const char *const names[] = {"a@gone", "a@kept", "a@held"};
	w.sim = sim_new(w.seed);
	CHECK(store_make(sim_env(w.sim), "store", &make, sentence) == 0);
	open_store();
	store_volume_create(w.store, admin(&op), "a", &options);
	CHECK(admin_end(&op) == 0);
	store_volume_create(w.store, admin(&op), "b", &options);
	CHECK(admin_end(&op) == 0);
	store_snap_create(w.store, admin(&op), names, 3);
	CHECK(admin_end(&op) == 0);
	store_snap_retain(w.store, admin(&op), "a@kept", env_wall_ns(sim_env(w.sim)) + RETAIN_NS);
	CHECK(admin_end(&op) == 0);
	store_snap_hold(w.store, admin(&op), "a@held", "audit");
	CHECK(admin_end(&op) == 0);
	CHECK(delete ("a@gone") == 0);
	store_volume_delete(w.store, admin(&op), "b");
	CHECK(admin_end(&op) == 0);
}

static void crash(void)
{
	sim_crash(w.sim, sim_random(w.sim, 2));
	store_abandon(w.store);
	w.crashes++;
	open_store();
}

static void look(void)
{
	struct store_forecast forecast;
	store_forecast(w.store, &forecast);
	if (w.lived_ns < TRASH_NS)
		CHECK(in_trash() == 2);
	/* A crash may take back the minutes since a checkpoint. */
	if (w.lived_ns > TRASH_NS + HOUR_NS + w.crashes * HOUR_NS / 5)
		CHECK(in_trash() == 0);
	if (w.lived_ns < RETAIN_NS)
		CHECK(delete ("a@kept") == -VS_ERETAINED);
	CHECK(delete ("a@held") == -VS_ERETAINED);
	uint64_t lost_ns = w.crashes * HOUR_NS / 5; /* by each, what no checkpoint had */
	CHECK(forecast.history_ns + lost_ns + 2 * HOUR_NS > w.lived_ns);
	CHECK(forecast.known || w.lived_ns < 26 * HOUR_NS + lost_ns);
	CHECK(!forecast.known || w.lived_ns > 23 * HOUR_NS);
}

static void life(uint64_t seed)
{
	memset(&w, 0, sizeof w);
	w.seed = seed;
	begin();
	for (unsigned hour = 0; hour < 72; hour++) {
		look();
		write_some();
		run(HOUR_NS / 2);
		if (hour % 10 == 3 || hour % 10 == 7) {
			sim_clock_move(w.sim, 0,
				       hour % 10 == 3 ? (int64_t)YEAR_NS : -2 * (int64_t)YEAR_NS);
			w.jumps++;
			look();
		}
		if (hour % 10 == 9)
			sim_clock_move(w.sim, 0, (int64_t)YEAR_NS); /* as it was */
		if (sim_random(w.sim, 8) == 0)
			crash();
		run(HOUR_NS / 2);
	}
	CHECK(delete ("a@kept") == 0);
	struct store_forecast f;
	store_forecast(w.store, &f);
	CHECK(f.known && f.days > 0 && f.days_low <= f.days);
	CHECK(f.bytes_a_day > 23.0 * HOUR_BYTES && f.bytes_a_day < 30.0 * HOUR_BYTES);
	double left = (double)f.available_bytes / f.bytes_a_day;
	CHECK(f.days > 0.98 * left && f.days < 1.03 * left);
	CHECK(store_close(w.store) == 0);
}

int main(int argc, char **argv)
{
	unsigned long long first = 1, last = 2;
	unsigned crashes = 0, jumps = 0;
	if (argc > 1 && sscanf(argv[1], "%llu..%llu", &first, &last) != 2)
		return 2;
	for (uint64_t seed = first; seed <= last; seed++) {
		life(seed);
		crashes += w.crashes;
		jumps += w.jumps;
		sim_free(w.sim);
	}
	printf("%u crashes, %u jumps of the clock\n", crashes, jumps);
	return crashes && jumps ? 0 : 1;
}
