/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Weeks of policies that send, in simulated time: three volumes, two hosts, a snapshot every hour,
 * one host with hours of the day. The hosts are away for hours, full, or cut in the middle; they
 * delete what they please; the sending store dies at any moment, and is down for days. The wire and
 * the hosts are this file's, the store and what sends are real.
 *
 * Judged by rules of its own: to each host a volume's snapshots go in the order in which they were
 * taken; one that a host has said to have is offered again once at most, and only by a life that
 * died right behind that; never more than two are on their way to a host, nor two of a volume;
 * nothing is on its way outside of the hours; a host that is full is not asked more often than six
 * times a minute for a volume, whatever it took before it was; and when all is well for an hour, a
 * host has had all that the policy still has.
 *
 * Usage: sim_ship [FIRST..LAST]
 */
#include "storage/daemon/policies.h"
#include "storage/daemon/ship.h"
#include "tests/sim/admin.h"
#include "tests/sim/simenv.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define HOURLY 5u
#define VOLUMES 3u
#define HOSTS 2u
#define HOST_NIGHT 1u /* the one with hours */
#define SENDS_MAX 16u
#define NUMBERS_MAX 4096u /* of snapshots, in one run */
#define TICK_S 6u	  /* the hours are looked at so often, and a bit */

static const char *const hosts[HOSTS] = {"any", "night"};

static struct flight {
	struct repl_send *send; /* NULL: free */
	struct env_timer timer;
	unsigned host, volume;
	uint32_t number;
} flights[SENDS_MAX];

static struct {
	struct sim *sim;
	struct store *store;
	struct policies *policies;
	struct ships *ships;
	uint64_t seed;
	uint32_t policy;
	bool away[HOSTS], full[HOSTS], well; /* well: nothing is slow either */
	uint64_t held_since_ns[HOSTS];
	/* What each host has been given: the last number, whether this life gave it. */
	struct {
		uint32_t last;
		unsigned life;
	} given[HOSTS][VOLUMES];
	bool had[HOSTS][NUMBERS_MAX];	      /* by the snapshot's number: it was given that */
	unsigned life, begun[HOSTS][VOLUMES]; /* begun: in this minute */
	uint64_t minute;
	unsigned sent, again, failed, cancelled, crashes, caught_up;
} w;

static void fail(const char *what)
{
	fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w.seed, what);
	exit(1);
}

/* Its hours: 20:00 to 04:00, in a world whose time is UTC. */
static bool hours_now(unsigned host)
{
	unsigned hour = (unsigned)(env_wall_ns(sim_env(w.sim)) / HOUR_NS % 24);
	return host != HOST_NIGHT || hour >= 20 || hour < 4;
}

/* ---- the wire, and the other side ---- */

static void land(struct flight *flight, int res, const char *sentence)
{
	struct repl_send *send = flight->send;
	env_timer_stop(sim_env(w.sim), &flight->timer);
	flight->send = NULL;
	snprintf(send->sentence, sizeof send->sentence, "%s", res < 0 ? sentence : "");
	env_complete(sim_env(w.sim), &send->op, res);
}

static void arrives(struct env_timer *timer)
{
	struct flight *flight = container_of(timer, struct flight, timer);
	unsigned host = flight->host, volume = flight->volume;
	if (w.away[host] || w.full[host] || sim_random(w.sim, 12) == 0) {
		w.failed++;
		flight->send->fetched = w.full[host] || sim_random(w.sim, 2);
		land(flight, w.full[host] ? -ENOSPC : -ECONNRESET, "It did not get there.");
		return;
	}
	if (flight->number < w.given[host][volume].last)
		fail("an older one comes behind a newer one");
	if (flight->number == w.given[host][volume].last) {
		if (w.given[host][volume].life == w.life)
			fail("what it has is sent again by the same life");
		w.again++;
	}
	assert(flight->number < NUMBERS_MAX);
	w.had[host][flight->number] = true;
	w.given[host][volume].last = flight->number;
	w.given[host][volume].life = w.life;
	w.sent++;
	land(flight, 0, "");
}

bool repl_was_cut(int res)
{
	return res == -ECONNRESET;
}

void repl_send(struct repl *repl, struct repl_send *send)
{
	struct flight *flight = flights;
	struct snapshot_brief *briefs;
	size_t count;
	unsigned same_host = 0;
	while (flight->send)
		assert(++flight < flights + SENDS_MAX);
	flight->host = strcmp(send->host, hosts[0]) != 0;
	flight->volume = (unsigned)(send->snapshot[1] - '0');
	flight->number = 0;
	assert(store_snapshot_briefs(w.store, &briefs, &count) == 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(briefs[i].name, strchr(send->snapshot, '@') + 1) == 0 &&
		    briefs[i].policy == w.policy) {
			struct volume_info volume;
			if (store_volume_info(w.store, briefs[i].volume_number, &volume) == 0 &&
			    strncmp(volume.name, send->snapshot, 2) == 0)
				flight->number = briefs[i].number;
		}
	free(briefs);
	if (!flight->number)
		fail("something is sent that the policy did not take");
	for (unsigned i = 0; i < SENDS_MAX; i++) {
		if (!flights[i].send || flights[i].host != flight->host)
			continue;
		same_host++;
		if (flights[i].volume == flight->volume)
			fail("two of a volume are on their way to a host");
	}
	if (same_host >= 2)
		fail("three are on their way to a host");
	if (!hours_now(flight->host))
		fail("something is sent outside of the hours");
	uint64_t minute = env_now_ns(sim_env(w.sim)) / (60 * NSEC_PER_SEC);
	if (minute != w.minute)
		memset(w.begun, 0, sizeof w.begun);
	w.minute = minute;
	w.begun[flight->host][flight->volume]++;
	flight->send = send;
	flight->timer.fire = arrives;
	uint64_t longest_ns = w.well || sim_random(w.sim, 8) ? 20 * NSEC_PER_SEC : HOUR_NS / 3;
	if (w.full[flight->host])
		longest_ns = NSEC_PER_SEC;
	env_timer_start(sim_env(w.sim), &flight->timer, sim_random(w.sim, longest_ns));
}

void repl_send_cancel(struct repl_send *send)
{
	for (unsigned i = 0; i < SENDS_MAX; i++)
		if (flights[i].send == send) {
			w.cancelled++;
			land(&flights[i], -VS_ECANCELLED, "");
		}
}

uint32_t repl_store_tag(const struct repl *of, const char *host)
{
	return 1;
}

void repl_send_rate(struct repl_send *send, uint64_t rate_bytes)
{
	fail("a rate changes that nobody changed");
}

/* ---- living ---- */

static void look(void)
{
	bool flies[HOSTS] = {false};
	uint64_t now = env_now_ns(sim_env(w.sim));
	for (unsigned i = 0; i < SENDS_MAX; i++)
		if (flights[i].send)
			flies[flights[i].host] = true;
	for (unsigned host = 0; host < HOSTS; host++) {
		if (!flies[host] || hours_now(host))
			w.held_since_ns[host] = 0;
		else if (!w.held_since_ns[host])
			w.held_since_ns[host] = now;
		else if (now - w.held_since_ns[host] > TICK_S * NSEC_PER_SEC)
			fail("something is still on its way outside of the hours");
		for (unsigned volume = 0; volume < VOLUMES; volume++)
			if (w.full[host] && w.begun[host][volume] > 6)
				fail("a host that is full is asked again and again");
	}
}

static void run(uint64_t ns)
{
	struct env *env = sim_env(w.sim);
	uint64_t end = env_now_ns(env) + ns;
	while (env_now_ns(env) < end) {
		assert(env_step(env, true));
		look();
	}
}

static void open_store(void)
{
	struct store_options options = {.cache_bytes = MIB, .trash_delay_ns = 24 * HOUR_NS};
	char sentence[SENTENCE_BYTES];
	struct env *env = sim_env(w.sim);
	w.life++;
	assert(store_open(env, "store", &options, &w.store, sentence) == 0);
	assert(policies_new(env, w.store, &w.policies) == 0);
	assert(ships_new(env, w.store, NULL, &w.ships) == 0);
}

static void crash(void)
{
	sim_crash(w.sim, sim_random(w.sim, 2));
	memset(flights, 0, sizeof flights);
	memset(w.held_since_ns, 0, sizeof w.held_since_ns);
	memset(w.begun, 0, sizeof w.begun); /* pauses are the life's */
	ships_free(w.ships);
	policies_free(w.policies);
	store_abandon(w.store);
	if (sim_random(w.sim, 3) == 0)
		sim_clock_move(w.sim, 0, (int64_t)(sim_random(w.sim, 3 * 24) * HOUR_NS));
	w.crashes++;
	open_store();
}

/* A host has just said that it has one. */
static void crash_behind_one(void)
{
	unsigned sent = w.sent;
	for (unsigned i = 0; i < 1000000 && w.sent == sent; i++)
		assert(env_step(sim_env(w.sim), true));
	crash();
}

static void begin(uint64_t seed)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct policy_rules rules = {
		.every_ns = HOUR_NS, .keep[KEEP_HOURLY] = HOURLY, .send_to = {"any"}};
	struct follower_rules night = {.lag_ns = HOUR_NS, .window = {20 * 60, 4 * 60}};
	struct volume_options options = {.size_bytes = MIB};
	struct policy_info *list;
	struct admin_op op;
	size_t count;
	char sentence[SENTENCE_BYTES], name[8];
	memset(&w, 0, sizeof w);
	memset(flights, 0, sizeof flights);
	w.seed = seed;
	w.sim = sim_new(seed);
	assert(store_make(sim_env(w.sim), "store", &make, sentence) == 0);
	open_store();
	for (unsigned i = 0; i < HOSTS; i++) {
		store_peer_add(w.store, admin(&op), hosts[i], "10.0.0.1:1");
		admin_must(w.sim, &op);
	}
	snprintf(rules.send_to[1], NAME_ROOM, "%s", hosts[HOST_NIGHT]);
	store_policy_set(w.store, admin(&op), "often", &rules);
	admin_must(w.sim, &op);
	assert(store_policies(w.store, &list, &count) == 0 && count == 1);
	w.policy = list[0].number;
	free(list);
	for (unsigned i = 0; i < VOLUMES; i++) {
		snprintf(name, sizeof name, "v%u", i);
		store_volume_create(w.store, admin(&op), name, &options);
		admin_must(w.sim, &op);
		/* The hours of the replica there count, not the policy's, which are always. */
		store_follower_set(w.store, admin(&op), name, hosts[HOST_NIGHT], &night);
		admin_must(w.sim, &op);
		store_policy_attach(w.store, admin(&op), name, "often");
		admin_must(w.sim, &op);
	}
	const char *person = "v0@mine";
	store_snap_create(w.store, admin(&op), &person, 1);
	admin_must(w.sim, &op);
}

/* Each host whose hours it is has had all that the policy has. */
static void look_settled(void)
{
	struct ship_state *states;
	struct snapshot_info *s;
	size_t count;
	assert(store_snapshots(w.store, false, &s, &count) == 0);
	for (size_t i = 0; i < count; i++)
		for (unsigned host = 0; host < HOSTS; host++)
			if (hours_now(host) && s[i].policy == w.policy && !w.had[host][s[i].number])
				fail("all is well, and a host lacks what the policy took");
	free(s);
	assert(ships_states(w.ships, &states, &count) == 0 && count == HOSTS * VOLUMES);
	for (size_t i = 0; i < count; i++) {
		bool night = strcmp(states[i].host, hosts[HOST_NIGHT]) == 0;
		if (states[i].held && !night)
			fail("one without hours is said to wait for them");
		if (hours_now(night) &&
		    (states[i].waiting || states[i].sentence[0] || states[i].late))
			fail("all is there, and that is not said");
	}
	free(states);
	w.caught_up++;
}

static void life(uint64_t seed)
{
	begin(seed);
	for (unsigned hour = 0; hour < 170; hour++) {
		for (unsigned host = 0; host < HOSTS; host++) {
			w.away[host] = sim_random(w.sim, 5) == 0;
			/* A minute's count is of hosts as they are. */
			memset(w.begun, 0, sizeof w.begun);
			w.full[host] = sim_random(w.sim, 8) == 0;
		}
		run(HOUR_NS + sim_random(w.sim, 100 * NSEC_PER_SEC));
		if (sim_random(w.sim, 10) == 0)
			crash();
		else if (sim_random(w.sim, 10) == 0)
			crash_behind_one();
		if (sim_random(w.sim, 6) == 0) {
			memset(w.away, 0, sizeof w.away);
			memset(w.full, 0, sizeof w.full);
			w.well = true;
			/* So that the hour's snapshots are not the very last. */
			uint64_t into = env_wall_ns(sim_env(w.sim)) % HOUR_NS;
			run(HOUR_NS - into + HOUR_NS / 2);
			look_settled();
			w.well = false;
		}
	}
	ships_stop(w.ships);
	policies_stop(w.policies);
	while (!ships_idle(w.ships) || !policies_idle(w.policies))
		env_step(sim_env(w.sim), true);
	ships_free(w.ships);
	policies_free(w.policies);
	assert(store_close(w.store) == 0);
}

int main(int argc, char **argv)
{
	unsigned long long first = 1, last = 3;
	unsigned sent = 0, again = 0, failed = 0, cancelled = 0, crashes = 0, caught_up = 0;
	if (argc > 1 && sscanf(argv[1], "%llu..%llu", &first, &last) != 2)
		return 2;
	setenv("TZ", "UTC", 1);
	for (uint64_t seed = first; seed <= last; seed++) {
		life(seed);
		sent += w.sent;
		again += w.again;
		failed += w.failed;
		cancelled += w.cancelled;
		crashes += w.crashes;
		caught_up += w.caught_up;
		sim_free(w.sim);
	}
	printf("%u sent, %u offered again behind a crash, %u failed, %u cancelled by the hours, %u "
	       "crashes, %u times all was there\n",
	       sent, again, failed, cancelled, crashes, caught_up);
	return sent && failed && cancelled && crashes && caught_up ? 0 : 1;
}
