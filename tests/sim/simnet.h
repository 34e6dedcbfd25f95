/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts of one simulated world, and the network between them: each host is a struct sim with its
 * own disk and process; they share one clock, and a step runs what is due first, wherever.
 *
 * A connection keeps the order of its bytes and nothing else: each piece takes its own time, so
 * connections overtake one another. A link that is down loses nothing by itself: what was sent
 * arrives when it is up again, as TCP would see to; meanwhile neither side is told. The address of
 * host N is "10.0.0.N:PORT", N from 1.
 */
#ifndef TESTS_SIM_SIMNET_H
#define TESTS_SIM_SIMNET_H

#include "tests/sim/simenv.h"

#define HOSTS_MAX 4u

struct simnet;
struct simnet_counts {
	uint64_t connections, refused, packets, packet_bytes;
	uint64_t delayed;    /* packets that took up to a second */
	uint64_t cut;	     /* connections that ended in the middle ... */
	uint64_t cut_bytes;  /* ... with bytes on their way, some of which arrived */
	uint64_t held;	     /* packets that met a link that was down */
	uint64_t lost_hosts; /* connections whose other end was gone without a word */
};

/* Whose process runs now: for process.h. */
extern struct sim *sim_process;

struct simnet *simnet_new(uint64_t seed, unsigned host_count);
void simnet_free(struct simnet *net);
struct sim *simnet_host(struct simnet *net, unsigned host);
bool simnet_step(struct simnet *net);
/* Time passes although nothing is under way. */
void simnet_wait(struct simnet *net, uint64_t ns);
uint64_t simnet_now_ns(const struct simnet *net);
/* Which host is at the other end. */
unsigned simnet_peer(const struct env_sock *sock);

/* One direction. */
void simnet_link(struct simnet *net, unsigned from, unsigned to, bool up);
/* Connections between the two end now, or only the newest one; of what is on its way a part
 * arrives. */
void simnet_cut(struct simnet *net, unsigned a, unsigned b, bool one);
/* Chances in 10,000 that a packet takes long. */
void simnet_slow(struct simnet *net, unsigned chance);
/* Its process stands still; its disk and its part of the network do not matter meanwhile. */
void simnet_stop(struct simnet *net, unsigned host, bool stopped);
/* The host's process is gone (sim_crash comes first): its kernel ends its connections, or, when the
 * host has no power, says nothing, until it has power again. */
void simnet_crashed(struct simnet *net, unsigned host, bool power_cut);
void simnet_power(struct simnet *net, unsigned host, bool on);

const struct simnet_counts *simnet_counts(const struct simnet *net);
uint64_t simnet_trace(const struct simnet *net);

#endif
