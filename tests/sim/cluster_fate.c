/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to a cluster: hosts die, lose power, stop and go on, links go down, connections end
 * at any byte, disks fail; snapshots are sent; a copy becomes the volume when its primary is gone,
 * and the old one, or one from a backup, comes back and must change nothing.
 */
#include "tests/sim/cluster.h"
#include "tests/sim/model.h"

#define ZOMBIE_NS (8 * NSEC_PER_SEC)

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));
static uint8_t zombie_block[BLOCK_BYTES] __attribute__((aligned(4096)));

static uint64_t pick(struct cluster *cluster, uint64_t below)
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

static bool guests_quiet(struct cluster *cluster, const struct volume *volume)
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

/* ---- an old primary ---- */

static bool zombie_flushed;

static void zombie_done(struct io_op *op)
{
	zombie_flushed = op->res == 0;
	op->done = NULL;
}

/* Somebody still writes to the volume on a host that is its primary no more, or from a backup: no
 * flush may be answered there, while one that was in step has gone on without it. */
static const char *zombie_writes(struct host *host, unsigned v, bool must_hold)
{
	struct cluster *cluster = host->cluster;
	struct view *view;
	host_enter(host);
	if (store_view_open(host->store, cluster_volumes[v], &view) < 0)
		FAIL("the old %s is gone", cluster_volumes[v]);
	model_fill(zombie_block, 999);
	struct store_request write = {.view = view,
				      .kind = REQUEST_WRITE,
				      .length_bytes = BLOCK_BYTES,
				      .data = zombie_block};
	env_wait_prepare(&write.op);
	store_submit(&write);
	if (env_wait(host->env, &write.op) == 0) /* whoever still follows here may have it */
		cluster_submit(&cluster->volumes[v].model, 0, 999, 0);
	struct store_request flush = {.op.done = zombie_done, .view = view, .kind = REQUEST_FLUSH};
	zombie_flushed = false;
	host_enter(host);
	store_submit(&flush);
	const char *failed = cluster_pass(cluster, ZOMBIE_NS);
	if (!failed && zombie_flushed && must_hold)
		FAIL("an old primary of %s answered a flush", cluster_volumes[v]);
	totals.held_flushes += flush.op.done != NULL;
	for (unsigned h = 0; h < HOSTS; h++)
		if (h != host->number)
			(void)HOST_DO(host, store_follower_delete, cluster_volumes[v],
				      cluster_hosts[h]);
	while (flush.op.done)
		if (!simnet_step(cluster->net))
			FAIL("a flush that waits for nobody never ends");
	host_enter(host);
	store_view_close(view);
	return failed;
}

static const char *volume_gone(struct host *host, const char *name)
{
	struct volume_info *infos;
	size_t count;
	int res;
	for (unsigned tries = 0; (res = HOST_DO(host, store_volume_delete, name)) < 0; tries++) {
		if (res == -ENOENT)
			return NULL;
		if (tries == 20) /* what is still under way ends before */
			return failure;
		const char *failed = cluster_pass(host->cluster, NSEC_PER_SEC);
		if (failed)
			return failed;
	}
	host_enter(host);
	if (store_volumes(host->store, true, &infos, &count) < 0)
		return NULL;
	uint64_t number = count ? infos[0].number : 0;
	process_free(infos);
	if (count && HOST_DO(host, store_trash_purge, number) < 0)
		return failure;
	return NULL;
}

/* It becomes a copy: its own volume goes. It is not made primary again: what it wrote since is at
 * its followers, perhaps in a higher epoch. */
static const char *zombie_leaves(struct host *host, unsigned v)
{
	host->cluster->volumes[v].was[host->number] = true;
	return volume_gone(host, cluster_volumes[v]);
}

/* ---- promotion ---- */

/* What is on `to` becomes the volume. False: it cannot. */
static const char *promote(struct cluster *cluster, unsigned v, unsigned to, bool *ret_done)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[to];
	char copy[NAME_ROOM];
	bool sure = volume->sure[to];
	snprintf(copy, sizeof copy, "%s/%s", cluster_hosts[volume->primary], cluster_volumes[v]);
	int res = HOST_DO(host, store_replica_promote, copy, cluster_volumes[v], true);
	*ret_done = res == 0;
	if (res < 0)
		return sure ? failure : NULL;
	if (host_read(host, cluster_volumes[v], image) < 0)
		FAIL("a promoted volume cannot be read");
	const char *failed =
		cluster_check(&volume->model, image, sure ? FLOOR_FLUSHED : FLOOR_NONE);
	if (failed)
		FAIL("%s, promoted on %s (%s): %s", cluster_volumes[v], cluster_hosts[to],
		     sure ? "in step" : "by cuts", failed);
	cluster_settle(&volume->model, true);
	totals.promotions++;
	totals.promotions_in_step += sure;
	return NULL;
}

static const char *promoted_serves(struct cluster *cluster, unsigned v, unsigned to)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[to];
	volume->primary = to;
	volume->under_way = 0;
	host_enter(host);
	if (store_view_open(host->store, cluster_volumes[v], &volume->view) < 0)
		FAIL("a promoted volume is gone");
	return volume_follow(cluster, v);
}

static bool all_run(const struct cluster *cluster)
{
	for (unsigned h = 0; h < HOSTS; h++)
		if (!host_runs(&cluster->hosts[h]) || cluster->hosts[h].ill)
			return false;
	return true;
}

static void backups_drop(struct cluster *cluster)
{
	for (unsigned h = 0; h < HOSTS; h++) {
		sim_backup_free(cluster->hosts[h].backup);
		cluster->hosts[h].backup = NULL;
	}
}

/* The primary dies; a copy takes its place; the primary comes back as it was. */
static const char *primary_lost(struct cluster *cluster)
{
	unsigned v = (unsigned)pick(cluster, VOLUMES);
	struct volume *volume = &cluster->volumes[v];
	unsigned from = volume->primary;
	unsigned to = (from + 1 + (unsigned)pick(cluster, HOSTS - 1)) % HOSTS;
	struct host *old = &cluster->hosts[from];
	bool done, must_hold;
	const char *failed = fate_back(cluster, true);
	if (failed || !all_run(cluster) || !volume->view || volume->was[to])
		return failed;
	must_hold = volume->sure[to];
	host_crash(old, pick(cluster, 2));
	failed = cluster_pass(cluster, pick(cluster, 2 * NSEC_PER_SEC));
	if (!failed)
		failed = promote(cluster, v, to, &done);
	if (!failed && !done)
		return host_open(old, true);
	if (!failed)
		failed = promoted_serves(cluster, v, to);
	backups_drop(cluster);
	if (!failed)
		failed = cluster_pass(cluster, pick(cluster, 3 * NSEC_PER_SEC));
	if (!failed)
		failed = host_open(old, true);
	if (failed)
		return failed;
	totals.returned++;
	failed = zombie_writes(old, v, must_hold);
	return failed ? failed : zombie_leaves(old, v);
}

/* ---- a store from a backup ---- */

/* Of the volumes of those names, or of the copies of `from`. */
static bool epochs(struct host *host, const struct host *from, uint64_t ret[VOLUMES])
{
	char name[NAME_ROOM];
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume_info info = {0};
		snprintf(name, sizeof name, "%s%s%s", from ? cluster_hosts[from->number] : "",
			 from ? "/" : "", cluster_volumes[v]);
		int res = host_volume(host, name, &info);
		if (res < 0 && res != -ENOENT)
			return false;
		ret[v] = info.epoch;
	}
	return true;
}

static const char *restart(struct host *host)
{
	const char *failed = host_close(host);
	bool kept = !failed && !host->ill && !host->backup;
	totals.restarts++;
	if (kept)
		host->backup = sim_backup_new(host->sim);
	if (!failed)
		failed = host_open(host, true);
	/* What ended while it closed may have raised an epoch: the backup's are those it opens
	 * with. */
	if (!failed && kept && !epochs(host, NULL, host->backup_epoch))
		FAIL("the epochs of a backup are not known");
	return failed;
}

/* A host comes back with the disk of long ago, two epochs behind: whoever was in step knows better.
 */
static const char *restored(struct cluster *cluster)
{
	struct host *host = &cluster->hosts[pick(cluster, HOSTS)];
	unsigned to[VOLUMES];
	uint64_t there[VOLUMES];
	const char *failed = host->backup ? fate_back(cluster, true) : NULL;
	if (failed || !host->backup || !all_run(cluster))
		return failed;
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume *volume = &cluster->volumes[v];
		to[v] = HOSTS;
		if (volume->primary != host->number)
			continue;
		for (unsigned h = 0; h < HOSTS; h++)
			if (volume->sure[h] && !volume->was[h] &&
			    epochs(&cluster->hosts[h], host, there) &&
			    there[v] >= host->backup_epoch[v] + 2)
				to[v] = h;
		if (to[v] == HOSTS || !volume->view)
			return NULL;
	}
	host_crash(host, true);
	sim_backup_restore(host->sim, host->backup);
	failed = host_open(host, false);
	totals.restored++;
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		struct volume *volume = &cluster->volumes[v];
		bool done;
		volume->sure[host->number] = false;
		if (to[v] == HOSTS)
			continue;
		host_enter(host);
		store_view_close(volume->view);
		volume->view = NULL;
		failed = zombie_writes(host, v, true);
		if (!failed)
			failed = promote(cluster, v, to[v], &done);
		if (!failed)
			failed = promoted_serves(cluster, v, to[v]);
		if (!failed)
			failed = zombie_leaves(host, v);
	}
	backups_drop(cluster);
	for (unsigned i = 0; i < PROMISES; i++)
		if (cluster->promises[i].to == host->number)
			cluster->promises[i].used = false; /* it is as old as the backup */
	/* What followed here was acknowledged: until its primary hears that it went back, nothing
	 * here is a promise. */
	if (!failed)
		failed = cluster_pass(cluster, 30 * NSEC_PER_SEC);
	for (unsigned v = 0; v < VOLUMES; v++)
		cluster->volumes[v].sure[host->number] = false;
	return failed;
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
	uint64_t now = simnet_now_ns(cluster->net), what = pick(cluster, 12);
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
		simnet_cut(cluster->net, a, (a + 1) % HOSTS);
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
		sim_faults_set(host->sim, &(struct sim_faults){.read_error = 20,
							       .write_error = 100,
							       .sync_error = 100,
							       .slow = 50});
		return NULL;
	case 8:
		return snapshot_send(cluster);
	case 9:
		return primary_lost(cluster);
	case 10:
		return restored(cluster);
	default:
		return cluster_pass(cluster, pick(cluster, 5 * NSEC_PER_SEC));
	}
}
