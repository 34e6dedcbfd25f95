/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a cluster: hosts die, lose power, stop and go on, links go down, connections end
 * at any byte, disks fail; snapshots are sent; primaries change (cluster_primaries.c).
 */
#include "tests/sim/cluster.h"

uint64_t pick(struct cluster *cluster, uint64_t below)
{
	return sim_random(cluster->hosts[0].sim, below);
}

static void links_up(struct cluster *cluster)
{
	for (unsigned a = 0; a < HOSTS; a++)
		for (unsigned b = 0; b < HOSTS; b++)
			simnet_link(cluster->net, a, b, true);
	cluster->links_back_ns = 0;
}

const char *fate_back(struct cluster *cluster, bool all)
{
	uint64_t now = simnet_now_ns(cluster->net);
	if (cluster->links_back_ns && (all || now >= cluster->links_back_ns))
		links_up(cluster);
	for (unsigned h = 0; h < HOSTS; h++) {
		struct host *host = &cluster->hosts[h];
		const char *failed = NULL;
		if (!host->back_ns || (now < host->back_ns && !all))
			continue;
		host->back_ns = 0;
		if (host->store && host->stopped) {
			simnet_stop(cluster->net, h, host->stopped = false);
			continue;
		}
		if (host->store && host->ill) /* what it cannot prove it refuses: a restart */
			host_crash(host, true);
		if (!host->store)
			failed = host_open(host, true);
		if (failed)
			return failed;
	}
	return cluster->wrong;
}

/* ---- snapshots ---- */

bool guests_quiet(struct cluster *cluster, const struct volume *volume)
{
	for (unsigned steps = 0; steps < 20000; steps++) {
		if (cluster_idle(&volume->model, 0, BLOCKS))
			return true;
		if (!simnet_step(cluster->net))
			return false;
	}
	return false;
}

struct sending {
	struct repl_send send;
	struct promise *promise;
	char snapshot[SNAP_NAME_ROOM];
};

static void sent(struct io_op *op)
{
	struct sending *sending = (struct sending *)op;
	/* A promise that was forgotten meanwhile may be another one by now. */
	if (strcmp(strchr(sending->snapshot, '@') + 1, sending->promise->name) == 0)
		sending->promise->kept = op->res == 0;
	totals.published += op->res == 0;
	sim_process_memory_free(sending);
}

static const char *snapshot_send(struct cluster *cluster)
{
	unsigned v = (unsigned)pick(cluster, VOLUMES);
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[volume->primary];
	unsigned to = (volume->primary + 1 + (unsigned)pick(cluster, HOSTS - 1)) % HOSTS;
	struct promise *promise = cluster->promises;
	while (promise < &cluster->promises[PROMISES] && promise->used)
		promise++;
	if (promise == &cluster->promises[PROMISES] || !volume->view || !host_runs(host) ||
	    host->ill || !guests_quiet(cluster, volume))
		return cluster->wrong;
	for (uint32_t b = 0; b < BLOCKS; b++) {
		const struct cluster_block *block = &volume->model.blocks[b];
		if (!block->versions[block->count - 1].answered)
			return NULL;
		promise->values[b] = block->versions[block->count - 1].value;
	}
	host_enter(host);
	struct sending *sending = sim_process_memory(host->sim, sizeof *sending);
	snprintf(promise->name, sizeof promise->name, "s%u", cluster->snapshots++);
	snprintf(sending->snapshot, sizeof sending->snapshot, "%s@%s", cluster_volumes[v],
		 promise->name);
	const char *names[1] = {sending->snapshot};
	struct admin_op made = {0};
	env_wait_prepare(&made.op);
	store_snap_create(host->store, &made, names, 1);
	int res = (int)env_wait(host->env, &made.op);
	if (res == 0)
		res = HOST_DO(host, store_snap_seal, sending->snapshot);
	if (res < 0)
		FAIL("a snapshot failed without a reason");
	promise->used = true;
	promise->kept = false; /* where a promise was forgotten, its answer is still here */
	promise->volume = v;
	promise->from = volume->primary;
	promise->to = to;
	sending->promise = promise;
	sending->send.op.done = sent;
	sending->send.snapshot = sending->snapshot;
	sending->send.host = cluster_hosts[to];
	totals.sends++;
	host_enter(host);
	repl_send(host->repl, &sending->send);
	return NULL;
}

/* ---- a day's luck ---- */

static void link_down(struct cluster *cluster)
{
	unsigned a = (unsigned)pick(cluster, HOSTS),
		 b = (a + 1 + (unsigned)pick(cluster, 2)) % HOSTS;
	simnet_link(cluster->net, a, b, false);
	if (pick(cluster, 2))
		simnet_link(cluster->net, b, a, false);
	cluster->links_back_ns = simnet_now_ns(cluster->net) + pick(cluster, 40 * NSEC_PER_SEC);
	totals.links_down++;
}

const char *fate(struct cluster *cluster)
{
	struct host *host = &cluster->hosts[pick(cluster, HOSTS)];
	uint64_t now = simnet_now_ns(cluster->net), what = pick(cluster, 13);
	bool runs = host_runs(host) && !host->back_ns;
	unsigned a = (unsigned)pick(cluster, HOSTS);
	switch (what) {
	case 0:
	case 1:
		if (!runs)
			return NULL;
		*(what ? &totals.power_cuts : &totals.kills) += 1;
		host_crash(host, what == 1);
		host->back_ns = now + 1 + pick(cluster, 3 * NSEC_PER_SEC);
		return NULL;
	case 2:
		if (!runs)
			return NULL;
		totals.stops++;
		simnet_stop(cluster->net, host->number, host->stopped = true);
		host->back_ns = now + 1 + pick(cluster, 30 * NSEC_PER_SEC);
		return NULL;
	case 3:
		return runs ? restart(host) : NULL;
	case 4:
		link_down(cluster);
		return NULL;
	case 5:
		totals.cuts++;
		simnet_cut(cluster->net, a, (a + 1) % HOSTS, pick(cluster, 2));
		return NULL;
	case 6:
		simnet_slow(cluster->net, pick(cluster, 2) ? 300 : 0);
		return NULL;
	case 7:
		if (!runs || pick(cluster, 3))
			return NULL;
		totals.ill++;
		host->ill = true;
		host->back_ns = now + 1 + pick(cluster, 3 * NSEC_PER_SEC);
		host_disk_ill(host, true);
		return NULL;
	case 8:
		return snapshot_send(cluster);
	case 9:
		return primary_lost(cluster);
	case 10:
		return cluster->voting && pick(cluster, 2) ? voters_left_out(cluster)
							   : restored(cluster);
	case 11:
		if (cluster->voting && pick(cluster, 2))
			return voters_person(cluster);
		return runs ? backup_live(host) : NULL;
	default:
		return cluster_pass(cluster, pick(cluster, 5 * NSEC_PER_SEC));
	}
}
