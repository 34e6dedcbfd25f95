/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weeks of policies in simulated time: a store with three volumes, snapshots every hour, crashes at
 * any moment, days of downtime, a clock that jumps a year ahead and back.
 *
 * Judged from outside, by rules of its own: a snapshot may only go when enough newer ones of the
 * policy are there, held ones and a person's never; an hour in which the store ran has one
 * snapshot, whatever was missed before; a policy never takes two in a period; one volume whose
 * snapshots are refused keeps no other from its own, nor old ones from going.
 *
 * Usage: sim_policy [FIRST..LAST]
 */
#include "storage/daemon/policies.h"
#include "tests/sim/admin.h"
#include "tests/sim/simenv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)
#define HOURLY 6u
#define DAILY 4u
#define VOLUMES 3u
#define SEEN_MAX 4096u
#define REFUSED_S 30u

static struct {
	struct sim *sim;
	struct store *store;
	struct policies *policies;
	uint32_t policy;
	struct {
		uint32_t number, volume;
		uint64_t created_ns;
		bool policys, held, gone;
	} seen[SEEN_MAX];
	unsigned seen_count, taken, removed, crashes, jumps;
} w;

static void fail(uint64_t seed, const char *what, uint32_t number)
{
	fprintf(stderr, "seed %llu: %s (snapshot %u)\n", (unsigned long long)seed, what, number);
	exit(1);
}

/* ---- what is there, against what was ---- */

/* May seen[k] have gone? Enough newer ones of its volume in other hours and days were there. */
static bool may_go(unsigned k)
{
	unsigned hours = 0, days = 0;
	uint64_t hour = w.seen[k].created_ns / HOUR_NS, day = w.seen[k].created_ns / DAY_NS;
	uint64_t last_hour = hour, last_day = day;
	bool same_hour = false, same_day = false;
	for (unsigned i = k + 1; i < w.seen_count; i++) { /* in the order of their numbers */
		if (w.seen[i].volume != w.seen[k].volume || !w.seen[i].policys)
			continue;
		uint64_t at = w.seen[i].created_ns;
		same_hour |= at / HOUR_NS == hour;
		same_day |= at / DAY_NS == day;
		hours += at / HOUR_NS != last_hour;
		days += at / DAY_NS != last_day;
		last_hour = at / HOUR_NS;
		last_day = at / DAY_NS;
	}
	return w.seen[k].policys && !w.seen[k].held && (same_hour || hours >= HOURLY) &&
	       (same_day || days >= DAILY);
}

static int older_first(const void *a, const void *b)
{
	uint32_t left = ((const struct snapshot_info *)a)->number;
	uint32_t right = ((const struct snapshot_info *)b)->number;
	return left > right ? 1 : left < right ? -1 : 0;
}

static void look(uint64_t seed)
{
	struct snapshot_info *s;
	size_t count;
	assert(store_snapshots(w.store, false, &s, &count) == 0);
	qsort(s, count, sizeof *s, older_first);
	for (size_t i = 0; i < count; i++) {
		unsigned k = 0;
		while (k < w.seen_count && w.seen[k].number != s[i].number)
			k++;
		if (k < w.seen_count) {
			w.seen[k].held = s[i].hold_count;
			continue;
		}
		assert(w.seen_count < SEEN_MAX);
		for (unsigned n = 0; n < w.seen_count && s[i].policy; n++)
			if (w.seen[n].volume == s[i].volume_number && w.seen[n].policys &&
			    w.seen[n].created_ns / HOUR_NS == s[i].created_wall_ns / HOUR_NS &&
			    n + VOLUMES >= w.seen_count)
				fail(seed, "a second one in an hour", s[i].number);
		w.seen[w.seen_count].number = s[i].number;
		w.seen[w.seen_count].volume = s[i].volume_number;
		w.seen[w.seen_count].created_ns = s[i].created_wall_ns;
		w.seen[w.seen_count].policys = s[i].policy == w.policy;
		w.seen[w.seen_count++].held = s[i].hold_count;
		w.taken++;
	}
	for (unsigned k = 0; k < w.seen_count; k++) {
		bool there = false;
		for (size_t i = 0; i < count && !there; i++)
			there = s[i].number == w.seen[k].number;
		if (there || w.seen[k].gone)
			continue;
		w.seen[k].gone = true;
		w.removed++;
		if (!may_go(k))
			fail(seed, "removed early", w.seen[k].number);
	}
	free(s);
}

/* How many volumes have their snapshot of this hour. */
static unsigned taken_this_hour(void)
{
	struct snapshot_info *s;
	size_t count;
	unsigned now = 0;
	assert(store_snapshots(w.store, false, &s, &count) == 0);
	for (size_t i = 0; i < count; i++)
		now += s[i].policy == w.policy &&
		       s[i].created_wall_ns / HOUR_NS == env_wall_ns(sim_env(w.sim)) / HOUR_NS;
	free(s);
	return now;
}

/* An hour's work is done: each volume has a snapshot of this hour, and not many in all. */
static void look_settled(uint64_t seed)
{
	struct snapshot_info *s;
	size_t count;
	look(seed);
	if (taken_this_hour() < VOLUMES)
		fail(seed, "an hour without its snapshots", 0);
	assert(store_snapshots(w.store, false, &s, &count) == 0);
	if (count > VOLUMES * (HOURLY + DAILY) + 8)
		fail(seed, "too many stay", 0);
	free(s);
}

/* ---- living ---- */

static void run(uint64_t ns)
{
	struct env *env = sim_env(w.sim);
	uint64_t end = env_now_ns(env) + ns;
	while (env_now_ns(env) < end)
		assert(env_step(env, true));
}

static void open_store(uint64_t seed)
{
	struct store_options options = {.cache_bytes = MIB, .trash_delay_ns = DAY_NS};
	char sentence[SENTENCE_BYTES];
	struct env *env = sim_env(w.sim);
	if (store_open(env, "store", &options, &w.store, sentence) < 0 ||
	    policies_new(env, w.store, &w.policies) < 0) {
		fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, sentence);
		exit(1);
	}
}

static void crash(uint64_t seed)
{
	sim_crash(w.sim, sim_random(w.sim, 2));
	policies_free(w.policies);
	store_abandon(w.store);
	if (sim_random(w.sim, 3) == 0) /* days of downtime */
		sim_clock_move(w.sim, 0, (int64_t)(sim_random(w.sim, 4 * 24) * HOUR_NS));
	w.crashes++;
	open_store(seed);
}

static void begin(uint64_t seed)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct policy_rules rules = {.every_ns = HOUR_NS};
	struct volume_options options = {.size_bytes = MIB};
	struct policy_info *list;
	struct admin_op op;
	size_t count;
	char sentence[SENTENCE_BYTES], name[8];
	memset(&w, 0, sizeof w);
	w.sim = sim_new(seed);
	assert(store_make(sim_env(w.sim), "store", &make, sentence) == 0);
	open_store(seed);
	rules.keep[KEEP_HOURLY] = HOURLY;
	rules.keep[KEEP_DAILY] = DAILY;
	store_policy_set(w.store, admin(&op), "often", &rules);
	admin_must(w.sim, &op);
	assert(store_policies(w.store, &list, &count) == 0 && count == 1);
	w.policy = list[0].number;
	free(list);
	for (unsigned i = 0; i < VOLUMES; i++) {
		snprintf(name, sizeof name, "v%u", i);
		store_volume_create(w.store, admin(&op), name, &options);
		admin_must(w.sim, &op);
		store_policy_attach(w.store, admin(&op), name, "often");
		admin_must(w.sim, &op);
	}
	const char *person = "v0@mine";
	store_snap_create(w.store, admin(&op), &person, 1);
	admin_must(w.sim, &op);
}

/* Into the next hour, while a person's snapshots have all the names that v0's could get in its
 * first seconds: v0's are refused, and nothing else may feel it. */
static void hour_refused(uint64_t seed)
{
	struct admin_op op;
	uint64_t next = (env_wall_ns(sim_env(w.sim)) / HOUR_NS + 1) * HOUR_NS;
	char names[REFUSED_S][SNAP_NAME_ROOM];
	const char *name;
	for (unsigned i = 0; i < REFUSED_S; i++) {
		time_t seconds = (time_t)(next / NSEC_PER_SEC) + i;
		struct tm tm;
		gmtime_r(&seconds, &tm);
		strftime(names[i], sizeof names[i], "v0@often-%Y%m%d-%H%M%SZ", &tm);
		name = names[i];
		store_snap_create(w.store, admin(&op), &name, 1);
		admin_must(w.sim, &op);
	}
	run(next - env_wall_ns(sim_env(w.sim)) + (REFUSED_S - 5) * NSEC_PER_SEC);
	look(seed);
	if (taken_this_hour() != VOLUMES - 1)
		fail(seed, "a refused volume stops others, or was not refused", 0);
	for (unsigned k = 0; k < w.seen_count; k++)
		if (!w.seen[k].gone && w.seen[k].volume != w.seen[0].volume && may_go(k))
			fail(seed, "a refused volume keeps what should go", w.seen[k].number);
	for (unsigned k = 1; k < w.seen_count; k++) /* the first one is v0@mine */
		w.seen[k].gone |= !w.seen[k].policys;
	for (unsigned i = 0; i < REFUSED_S; i++) {
		store_snap_delete(w.store, admin(&op), names[i]);
		admin_must(w.sim, &op);
	}
}

static void life(uint64_t seed)
{
	struct admin_op op;
	begin(seed);
	for (unsigned hour = 0; hour < 150; hour++) {
		/* Into the next hour, and until what is due there is done. */
		uint64_t left = HOUR_NS - env_wall_ns(sim_env(w.sim)) % HOUR_NS;
		if (hour % 50 == 45)
			hour_refused(seed);
		else
			run(left + 1);
		if (sim_random(w.sim, 6) == 0) {
			run(sim_random(w.sim, 10 * NSEC_PER_SEC));
			crash(seed);
		}
		run(120 * NSEC_PER_SEC);
		look_settled(seed);
		if (hour == 30) { /* the newest of v1 is held for good */
			for (unsigned k = w.seen_count; k-- > 0;)
				if (!w.seen[k].gone && w.seen[k].volume == w.seen[0].volume + 1)
					break;
			struct snapshot_info *s;
			size_t count;
			assert(store_snapshots(w.store, false, &s, &count) == 0);
			char name[SNAP_NAME_ROOM];
			snprintf(name, sizeof name, "%s@%s", s[count - 1].volume,
				 s[count - 1].name);
			free(s);
			store_snap_hold(w.store, admin(&op), name, "audit");
			admin_must(w.sim, &op);
		}
		if (hour == 60 || hour == 90) {
			int64_t year = (int64_t)(366 * DAY_NS);
			unsigned before = w.removed;
			sim_clock_move(w.sim, 0, hour == 60 ? year : -year);
			w.jumps++;
			run(120 * NSEC_PER_SEC);
			look_settled(seed);
			if (w.removed - before > 2 * VOLUMES)
				fail(seed, "a jump of the clock removed many", 0);
		}
	}
	policies_stop(w.policies);
	while (!policies_idle(w.policies))
		env_step(sim_env(w.sim), true);
	policies_free(w.policies);
	assert(store_close(w.store) == 0);
}

int main(int argc, char **argv)
{
	unsigned long long first = 1, last = 3;
	if (argc > 1 && sscanf(argv[1], "%llu..%llu", &first, &last) != 2)
		return 2;
	unsigned taken = 0, removed = 0, crashes = 0, jumps = 0;
	for (uint64_t seed = first; seed <= last; seed++) {
		life(seed);
		taken += w.taken;
		removed += w.removed;
		crashes += w.crashes;
		jumps += w.jumps;
		sim_free(w.sim);
	}
	printf("%u snapshots taken, %u removed, %u crashes, %u jumps of the clock\n", taken,
	       removed, crashes, jumps);
	return taken && removed && crashes && jumps ? 0 : 1;
}
