/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a cluster's life: links are up and hosts are back, followers come near; then all is
 * the same everywhere, each published snapshot is what it was, and each store is whole. */
#include "tests/sim/cluster.h"

#include "storage/store/store_transfer.h"

#define END_NS (400 * NSEC_PER_SEC)

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));
static uint8_t other[VOLUME_BYTES] __attribute__((aligned(4096)));

static char away[512]; /* who is not near, and why */

static bool followers_near(struct host *host)
{
	struct follow_state *states;
	size_t count;
	bool near = true;
	host_enter(host);
	if (follows_states(host->follows, &states, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		bool step = states[i].info.rules.in_step;
		bool one = states[i].verified && !states[i].behind && (!step || states[i].in_step);
		if (!one)
			snprintf(away, sizeof away, "%s of %s on %s: %s", states[i].info.volume,
				 cluster_hosts[host->number], states[i].info.host,
				 states[i].sentence);
		near &= one;
		totals.cuts_sent += near ? states[i].cuts : 0;
		totals.in_step += near && step;
	}
	process_free(states);
	return near;
}

/* What a promotion on `host` would take: the copy as it is, or a snapshot that is newer: where an
 * old one that somebody sent arrived last, the copy holds that. */
static void copy_newest(struct host *host, unsigned v, char ret_name[SNAP_NAME_ROOM])
{
	char copy[NAME_ROOM];
	struct volume_info newest = {0};
	struct snapshot_info *snapshots;
	size_t count;
	snprintf(copy, sizeof copy, "%s/%s", cluster_hosts[host->cluster->volumes[v].primary],
		 cluster_volumes[v]);
	snprintf(ret_name, SNAP_NAME_ROOM, "%s", copy);
	int res = host_volume(host, copy, &newest);
	if ((res < 0 && res != -ENOENT) ||
	    store_snapshots(host->store, false, &snapshots, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		const struct snapshot_info *at = &snapshots[i];
		if (strcmp(at->volume, copy) != 0 || at->epoch < newest.epoch ||
		    (at->epoch == newest.epoch && at->vseq <= newest.vseq))
			continue;
		newest.epoch = at->epoch;
		newest.vseq = at->vseq;
		snprintf(ret_name, SNAP_NAME_ROOM, "%.63s@%.63s", at->volume, at->name);
	}
	process_free(snapshots);
}

static const char *copies_same(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	char copy[SNAP_NAME_ROOM];
	if (host_read(&cluster->hosts[volume->primary], cluster_volumes[v], image) < 0)
		FAIL("%s cannot be read at the end", cluster_volumes[v]);
	const char *failed = cluster_check(&volume->model, image, FLOOR_ANSWERED);
	if (failed)
		FAIL("%s at the end: %s", cluster_volumes[v], failed);
	for (unsigned h = 0; h < HOSTS; h++) {
		if (h == volume->primary || (volume->voted && !volume->copy[h]))
			continue;
		copy_newest(&cluster->hosts[h], v, copy);
		int res = host_read(&cluster->hosts[h], copy, other);
		if (res < 0)
			FAIL("%s cannot be read on %s: %s", copy, cluster_hosts[h],
			     vs_strerror(res));
		if (memcmp(image, other, sizeof image) != 0)
			FAIL("%s on %s is not what its primary has", copy, cluster_hosts[h]);
	}
	return NULL;
}

static int root_of(struct host *host, const char *name, uint8_t ret_root[ID_BYTES])
{
	struct volume_info info;
	struct store_work work = {0};
	struct store_offer offer;
	if (strchr(name, '@')) {
		int sealed = HOST_DO(host, store_snap_seal, name);
		host_enter(host);
		if (sealed < 0 || (sealed = store_offer(host->store, name, &offer)) < 0)
			return sealed;
		memcpy(ret_root, offer.root, ID_BYTES);
		return 0;
	}
	host_enter(host);
	env_wait_prepare(&work.op);
	store_fold(host->store, &work, name);
	int res = (int)env_wait(host->env, &work.op);
	if (res >= 0)
		res = host_volume(host, name, &info);
	if (res == 0)
		memcpy(ret_root, info.root, ID_BYTES);
	return res;
}

static const char *roots_same(struct cluster *cluster, unsigned v)
{
	unsigned primary = cluster->volumes[v].primary;
	uint8_t root[ID_BYTES], there[ID_BYTES];
	char copy[SNAP_NAME_ROOM];
	if (root_of(&cluster->hosts[primary], cluster_volumes[v], root) < 0)
		FAIL("%s has no root", cluster_volumes[v]);
	for (unsigned h = 0; h < HOSTS; h++) {
		if (h == primary || (cluster->volumes[v].voted && !cluster->volumes[v].copy[h]))
			continue;
		copy_newest(&cluster->hosts[h], v, copy);
		if (root_of(&cluster->hosts[h], copy, there) < 0 ||
		    memcmp(root, there, ID_BYTES) != 0)
			FAIL("%s on %s has another root", copy, cluster_hosts[h]);
	}
	return NULL;
}

static const char *promise_check(struct cluster *cluster, const struct promise *promise)
{
	char name[SNAP_NAME_ROOM];
	struct host *host = &cluster->hosts[promise->to];
	snprintf(name, sizeof name, "%s/%s@%s", cluster_hosts[promise->from],
		 cluster_volumes[promise->volume], promise->name);
	int res = host_read(host, name, image);
	/* A host that became the primary and gave way again has moved the copy aside. */
	for (unsigned aside = 1; res == -ENOENT && aside < HOSTS * VOLUMES; aside++) {
		snprintf(name, sizeof name, "%s/%s.%u@%s", cluster_hosts[promise->from],
			 cluster_volumes[promise->volume], aside, promise->name);
		res = host_read(host, name, image);
	}
	if (res == -ENOENT && !promise->kept)
		return NULL;
	if (res < 0)
		FAIL("%s was promised on %s: %s", name, cluster_hosts[promise->to],
		     vs_strerror(res));
	for (uint32_t b = 0; b < BLOCKS; b++)
		if (!cluster_is(promise->values[b], image + b * (size_t)BLOCK_BYTES))
			FAIL("%s on %s is not the snapshot, block %u", name,
			     cluster_hosts[promise->to], b);
	totals.kept_promises += promise->kept;
	return NULL;
}

static const char *host_whole(struct host *host)
{
	struct store_work work = {0};
	host_enter(host);
	env_wait_prepare(&work.op);
	store_check(host->store, &work);
	if (env_wait(host->env, &work.op) < 0 || work.damaged)
		FAIL("the check of %s found %llu things: %s", cluster_hosts[host->number],
		     (unsigned long long)work.damaged, work.sentence);
	return NULL;
}

const char *cluster_end(struct cluster *cluster)
{
	simnet_slow(cluster->net, 0);
	const char *failed = fate_back(cluster, true);
	uint64_t until = simnet_now_ns(cluster->net) + END_NS;
	/* A follower by cuts whose host went back to a backup is found by the next cut. */
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		if (guests_quiet(cluster, &cluster->volumes[v]))
			guest_write(cluster, v);
	for (bool near = false; !failed && !near;) {
		failed = person_decides(cluster);
		if (!failed)
			failed = cluster_pass(cluster, NSEC_PER_SEC);
		near = true;
		for (unsigned h = 0; h < HOSTS; h++)
			near &= followers_near(&cluster->hosts[h]);
		for (unsigned v = 0; v < VOLUMES; v++)
			for (unsigned h = 0; h < HOSTS; h++)
				near &= !cluster->volumes[v].under_way[h];
		if (near && cluster->voting)
			near = voters_near(cluster, away, sizeof away);
		if (!failed && simnet_now_ns(cluster->net) > until)
			FAIL("followers do not come near, or requests do not end (%s)", away);
	}
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		failed = copies_same(cluster, v);
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		failed = roots_same(cluster, v);
	for (unsigned i = 0; i < PROMISES && !failed; i++)
		if (cluster->promises[i].used)
			failed = promise_check(cluster, &cluster->promises[i]);
	for (unsigned h = 0; h < HOSTS && !failed; h++)
		failed = host_whole(&cluster->hosts[h]);
	return failed;
}
