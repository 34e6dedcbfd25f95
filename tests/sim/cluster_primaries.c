/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Primaries of a cluster change: a copy becomes the volume when its primary is gone, and the old
 * one comes back; a host comes back with the disk of long ago, and is given up, or all go back to
 * what it has. Who is no primary any more, or is older than what it had made durable, changes
 * nothing and answers no flush. It gives its volume up when nobody uses it, and what only it had is
 * a snapshot then; or somebody deletes it.
 */
#include "tests/sim/cluster.h"
#include "tests/sim/cluster_word.h"
#include "tests/sim/model.h"

#define ZOMBIE_NS (8 * NSEC_PER_SEC)
#define GIVEN_UP_NS (130 * NSEC_PER_SEC) /* twice the longest pause of who sends */
#define FREE_NS (300 * NSEC_PER_SEC)	 /* a flush that may end does so in this time */
#define YIELD_SECONDS 300u		 /* and a volume that nobody uses is given up */

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));
static uint8_t kept[VOLUME_BYTES] __attribute__((aligned(4096)));

/* ---- an old primary ---- */

/* Somebody still writes to the volume on a host that is its primary no more, or from a backup. */
static struct zombie {
	struct store_request flush; /* first: found back by its address */
	struct view *view;	    /* NULL: it gave the volume up before anybody used it */
	bool wrote, flushed;
} zombies[VOLUMES];
static uint8_t zombie_block[BLOCK_BYTES] __attribute__((aligned(4096)));

static void zombie_done(struct io_op *op)
{
	((struct zombie *)op)->flushed = op->res == 0;
	op->done = NULL;
}

/* No flush may be answered there (must_hold), while one that was in step has gone on without it. */
static const char *zombie_writes(struct host *host, unsigned v, bool must_hold)
{
	struct cluster *cluster = host->cluster;
	struct zombie *zombie = &zombies[v];
	*zombie = (struct zombie){.flush = {.op.done = zombie_done, .kind = REQUEST_FLUSH}};
	host_enter(host);
	int res = store_view_open(host->store, cluster_volumes[v], &zombie->view);
	/* Given up, or just about to be. */
	if ((res == -ENOENT || res == -EBUSY || res == -VS_EFENCED) &&
	    cluster->volumes[v].primary != host->number) {
		zombie->flush.op.done = NULL;
		totals.yielded++;
		return NULL;
	}
	if (res < 0)
		FAIL("the old %s is gone", cluster_volumes[v]);
	model_fill(zombie_block, 999);
	struct store_request write = {.view = zombie->view,
				      .kind = REQUEST_WRITE,
				      .length_bytes = BLOCK_BYTES,
				      .data = zombie_block};
	env_wait_prepare(&write.op);
	store_submit(&write);
	zombie->wrote = env_wait(host->env, &write.op) == 0;
	if (zombie->wrote) /* whoever still follows here may have it */
		cluster_submit(&cluster->volumes[v].model, 0, 999, 0);
	zombie->flush.view = zombie->view;
	host_enter(host);
	store_submit(&zombie->flush);
	const char *failed = cluster_pass(cluster, ZOMBIE_NS);
	if (!failed && zombie->flushed && must_hold)
		FAIL("an old primary of %s answered a flush", cluster_volumes[v]);
	totals.held_flushes += zombie->flush.op.done != NULL;
	return failed;
}

/* What the new primary says of why. */
static const char *why_not(struct host *host, unsigned v)
{
	static char why[SENTENCE_BYTES + 64];
	struct host *primary = &host->cluster->hosts[host->cluster->volumes[v].primary];
	struct follow_state *states;
	size_t count;
	snprintf(why, sizeof why, "it is not asked");
	host_enter(primary);
	if (!host_runs(primary) || follows_states(primary->follows, &states, &count) < 0)
		return why;
	for (size_t i = 0; i < count; i++)
		if (strcmp(states[i].info.volume, cluster_volumes[v]) == 0 &&
		    strcmp(states[i].info.host, cluster_hosts[host->number]) == 0)
			snprintf(why, sizeof why, "%s", states[i].sentence);
	process_free(states);
	return why;
}

static const char *zombie_ends(struct host *host, unsigned v)
{
	uint64_t until = simnet_now_ns(host->cluster->net) + FREE_NS;
	while (zombies[v].flush.op.done)
		if (!simnet_step(host->cluster->net) || simnet_now_ns(host->cluster->net) > until)
			FAIL("a flush that waits for nobody never ends: %s", why_not(host, v));
	host_enter(host);
	store_view_close(zombies[v].view);
	return host->cluster->wrong;
}

const char *trash_purge(struct host *host)
{
	struct volume_info *infos;
	size_t count;
	int res = 0;
	host_enter(host);
	if (store_volumes(host->store, true, &infos, &count) < 0)
		return NULL;
	for (size_t i = 0; i < count && res == 0; i++) {
		res = HOST_DO(host, store_trash_purge, infos[i].number);
		/* A transfer that had begun still has it: the next time; or has ended, and it went.
		 */
		if (res == -EBUSY || res == -ENOENT)
			res = 0;
	}
	host_enter(host);
	process_free(infos);
	return res < 0 ? failure : NULL;
}

static const char *volume_gone(struct host *host, const char *name)
{
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
	return trash_purge(host);
}

static bool serves(struct host *host, unsigned v)
{
	struct volume_info info;
	return host_volume(host, cluster_volumes[v], &info) == 0;
}

/* The newest snapshot of what only this host had of the volume; false: there is none. */
static bool fenced_newest(struct host *host, unsigned v, char ret_name[SNAP_NAME_ROOM])
{
	struct snapshot_info *snapshots;
	size_t count;
	bool found = false;
	char copy[NAME_ROOM];
	snprintf(copy, sizeof copy, "%s/%s", cluster_hosts[host->cluster->volumes[v].primary],
		 cluster_volumes[v]);
	host_enter(host);
	if (store_snapshots(host->store, false, &snapshots, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(snapshots[i].volume, copy) != 0 ||
		    strncmp(snapshots[i].name, "fenced-", strlen("fenced-")) != 0)
			continue;
		found = true;
		snprintf(ret_name, SNAP_NAME_ROOM, "%.63s@%.63s", copy, snapshots[i].name);
	}
	process_free(snapshots);
	return found;
}

/* Its client ends, and the new primary finds it unused. */
static const char *zombie_yields(struct host *host, unsigned v)
{
	struct cluster *cluster = host->cluster;
	const char *failed = zombie_ends(host, v);
	char name[SNAP_NAME_ROOM];
	if (failed)
		return failed;
	int res = host_read(host, cluster_volumes[v], image); /* -ENOENT: it is over already */
	for (unsigned i = 0; serves(host, v) && !failed; i++) {
		if (i == YIELD_SECONDS)
			FAIL("an old primary of %s does not give it up: %s", cluster_volumes[v],
			     why_not(host, v));
		failed = cluster_pass(cluster, NSEC_PER_SEC);
	}
	if (failed)
		return failed;
	totals.yielded++;
	if (!zombies[v].wrote)
		return NULL;
	if (!fenced_newest(host, v, name))
		FAIL("what only an old primary of %s had is no snapshot", cluster_volumes[v]);
	int kept_res = res == 0 ? host_read(host, name, kept) : 0;
	for (unsigned i = 0; kept_res == -EBUSY && i < YIELD_SECONDS; i++) {
		failed = cluster_pass(cluster,
				      NSEC_PER_SEC); /* its commit is there, and not flushed */
		if (failed)
			return failed;
		kept_res = host_read(host, name, kept);
	}
	if (res == 0 && (kept_res < 0 || memcmp(kept, image, sizeof kept) != 0))
		FAIL("%s is not what the old primary had", name);
	totals.fenced_kept++;
	return NULL;
}

/* It gives way; or somebody gives it up: nothing waits for its followers any more, and its own
 * volume goes. */
static const char *zombie_leaves(struct host *host, unsigned v)
{
	if (!zombies[v].view)
		return NULL;
	if (pick(host->cluster, 2))
		return zombie_yields(host, v);
	for (unsigned h = 0; h < HOSTS; h++)
		if (h != host->number)
			(void)HOST_DO(host, store_follower_delete, cluster_volumes[v],
				      cluster_hosts[h]);
	const char *failed = zombie_ends(host, v);
	return failed ? failed : volume_gone(host, cluster_volumes[v]);
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
	volume->accepted |= !sure;
	return NULL;
}

static const char *promoted_serves(struct cluster *cluster, unsigned v, unsigned to)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[to];
	volume->primary = to;
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

/* A copy of an earlier reign of that primary, which does not know what it is to be above. */
static bool of_an_earlier_reign(struct cluster *cluster, unsigned v, unsigned to)
{
	struct volume_info now, copy;
	char name[NAME_ROOM];
	unsigned primary = cluster->volumes[v].primary;
	snprintf(name, sizeof name, "%s/%s", cluster_hosts[primary], cluster_volumes[v]);
	return host_volume(&cluster->hosts[primary], cluster_volumes[v], &now) == 0 &&
	       host_volume(&cluster->hosts[to], name, &copy) == 0 &&
	       copy.epoch / EPOCH_TERM < now.epoch / EPOCH_TERM;
}

/* The primary dies; a copy takes its place; the primary comes back as it was. */
const char *primary_lost(struct cluster *cluster)
{
	unsigned v = (unsigned)pick(cluster, VOLUMES);
	struct volume *volume = &cluster->volumes[v];
	unsigned from = volume->primary;
	unsigned to = (from + 1 + (unsigned)pick(cluster, HOSTS - 1)) % HOSTS;
	struct host *old = &cluster->hosts[from];
	bool done, must_hold;
	if (volume->voted)
		return voters_elect(cluster, v);
	const char *failed = fate_back(cluster, true);
	if (failed || !all_run(cluster) || !volume->view)
		return failed;
	bool earlier = of_an_earlier_reign(cluster, v, to);
	must_hold = volume->sure[to];
	bool site = pick(cluster, 4) == 0; /* loses power: both do */
	host_crash(old, site || pick(cluster, 2));
	if (site) {
		host_crash(&cluster->hosts[to], true);
		failed = host_open(&cluster->hosts[to], true);
		totals.site_cuts++;
	}
	if (!failed)
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
	totals.earlier_reigns += earlier;
	failed = zombie_writes(old, v, must_hold);
	if (!failed)
		failed = zombie_leaves(old, v);
	if (!failed && must_hold && zombies[v].flushed)
		FAIL("a flush of an old primary of %s ended well when its followers were removed",
		     cluster_volumes[v]);
	return failed;
}

/* ---- a store from a backup ---- */

/* Where the volumes of those names stand, or the copies of `from`. */
static bool stand(struct host *host, const struct host *from, struct volume_info ret[VOLUMES])
{
	char name[NAME_ROOM];
	for (unsigned v = 0; v < VOLUMES; v++) {
		snprintf(name, sizeof name, "%s%s%s", from ? cluster_hosts[from->number] : "",
			 from ? "/" : "", cluster_volumes[v]);
		ret[v] = (struct volume_info){0};
		int res = host_volume(host, name, &ret[v]);
		if (res < 0 && res != -ENOENT)
			return false;
	}
	return true;
}

static const char *backup_make(struct host *host)
{
	struct volume_info at[VOLUMES];
	if (!stand(host, NULL, at))
		FAIL("where the volumes of a backup stand is not known");
	for (unsigned v = 0; v < VOLUMES; v++) {
		host->backup_epoch[v] = at[v].epoch;
		host->backup_vseq[v] = at[v].vseq;
		host->backup_votes[v] =
			cluster_word_any(host->store, host->cluster->volumes[v].uuid);
	}
	return NULL;
}

const char *restart(struct host *host)
{
	const char *failed = host_close(host);
	bool kept = !failed && !host->ill && !host->backup;
	totals.restarts++;
	if (kept)
		host->backup = sim_backup_new(host->sim);
	if (!failed)
		failed = host_open(host, true);
	/* What ended while it closed may have been written: the backup stands where it opens. */
	return !failed && kept ? backup_make(host) : failed;
}

/* The disk as it is, under a host that runs. */
const char *backup_live(struct host *host)
{
	for (unsigned v = 0; v < VOLUMES; v++)
		if (host->cluster->volumes[v].primary == host->number &&
		    !guests_quiet(host->cluster, &host->cluster->volumes[v]))
			return host->cluster->wrong;
	if (host->backup || !host_runs(host) || host->ill)
		return host->cluster->wrong;
	host->backup = sim_backup_new(host->sim);
	totals.live_backups++;
	return backup_make(host);
}

enum lost { LOST_NOTHING, LOST_KNOWN, LOST_UNKNOWN };

/* What the host would lose of the volume; LOST_KNOWN: `ret_to` was in step, and can tell. */
static enum lost lost(struct cluster *cluster, const struct host *host, unsigned v,
		      const struct volume_info *now, unsigned *ret_to)
{
	struct volume_info there[VOLUMES];
	uint64_t epoch = host->backup_epoch[v], vseq = host->backup_vseq[v];
	if (now->epoch == epoch && now->vseq == vseq)
		return LOST_NOTHING;
	for (unsigned h = 0; h < HOSTS; h++)
		if (cluster->volumes[v].sure[h] && stand(&cluster->hosts[h], host, there) &&
		    (there[v].epoch > epoch ||
		     (there[v].epoch == epoch && there[v].durable_vseq > vseq))) {
			*ret_to = h;
			return LOST_KNOWN;
		}
	return LOST_UNKNOWN;
}

/* A copy that has what was given up refuses what goes on without it, and says so: somebody deletes
 * it. */
static const char *copy_given_up(struct cluster *cluster, unsigned v, unsigned at)
{
	struct volume *volume = &cluster->volumes[v];
	char copy[NAME_ROOM];
	snprintf(copy, sizeof copy, "%s/%s", cluster_hosts[volume->primary], cluster_volumes[v]);
	uint64_t now = simnet_now_ns(cluster->net);
	if (now < volume->given_up_ns[at]) /* what was refused is not tried again yet */
		return NULL;
	if (HOST_DO(&cluster->hosts[at], store_volume_delete, copy) < 0)
		return NULL; /* it is in use: perhaps it is refused no more */
	volume->given_up_ns[at] = now + GIVEN_UP_NS;
	for (unsigned i = 0; i < PROMISES; i++)
		if (cluster->promises[i].volume == v && cluster->promises[i].to == at &&
		    cluster->promises[i].from == volume->primary)
			cluster->promises[i].used = false;
	volume->sure[at] = false;
	totals.given_up++;
	return trash_purge(&cluster->hosts[at]);
}

const char *person_decides(struct cluster *cluster)
{
	const char *failed = NULL;
	for (unsigned v = 0; v < VOLUMES; v++) {
		const struct volume *volume = &cluster->volumes[v];
		const struct host *host = &cluster->hosts[volume->primary];
		bool refused[HOSTS] = {false};
		struct follow_state *states;
		size_t count;
		if (!volume->accepted || volume->doubted || !host_runs(host))
			continue;
		host_enter(&cluster->hosts[volume->primary]);
		if (follows_states(host->follows, &states, &count) < 0)
			continue;
		for (size_t i = 0; i < count; i++)
			for (unsigned h = 0; h < HOSTS; h++)
				refused[h] |=
					strcmp(states[i].info.volume, cluster_volumes[v]) == 0 &&
					strcmp(states[i].info.host, cluster_hosts[h]) == 0 &&
					strstr(states[i].sentence, "Promote the copy, or delete");
		process_free(states);
		for (unsigned h = 0; h < HOSTS && !failed; h++)
			if (refused[h] && host_runs(&cluster->hosts[h]) && !cluster->hosts[h].ill)
				failed = copy_given_up(cluster, v, h);
	}
	if (!failed && cluster->voting)
		failed = voters_person(cluster);
	return failed ? failed : cluster->wrong;
}

/* The others go back to what the host has. */
static const char *stale_accepted(struct host *host, unsigned v)
{
	struct cluster *cluster = host->cluster;
	struct volume *volume = &cluster->volumes[v];
	const char *failed = NULL;
	volume->accepted = true;
	for (unsigned i = 0; i < 300 && zombies[v].flush.op.done && !failed; i++) {
		failed = person_decides(cluster);
		if (!failed)
			failed = cluster_pass(cluster, NSEC_PER_SEC);
	}
	if (!failed)
		failed = zombie_ends(host, v);
	if (!failed && !zombies[v].flushed)
		FAIL("the flush of a store that was accepted failed");
	if (!failed && host_read(host, cluster_volumes[v], image) < 0)
		FAIL("a store that was accepted cannot be read");
	if (!failed)
		failed = cluster_check(&volume->model, image, FLOOR_NONE);
	if (failed)
		return failed;
	cluster_settle(&volume->model, true);
	totals.stale_accepted++;
	host_enter(host);
	if (store_view_open(host->store, cluster_volumes[v], &volume->view) < 0)
		FAIL("a volume that was accepted is gone");
	return NULL;
}

static const char *restored_volume(struct host *host, unsigned v, unsigned to)
{
	struct cluster *cluster = host->cluster;
	struct volume *volume = &cluster->volumes[v];
	bool done;
	host_enter(host);
	store_view_close(volume->view);
	volume->view = NULL;
	for (unsigned h = 0; h < HOSTS; h++)
		volume->sure[h] &= h == to;
	const char *failed = zombie_writes(host, v, true);
	volume->doubted = false;
	if (!failed && pick(cluster, 3) == 0) {
		volume->sure[to] = false;
		return stale_accepted(host, v);
	}
	if (!failed)
		failed = promote(cluster, v, to, &done);
	if (!failed)
		failed = promoted_serves(cluster, v, to);
	return failed ? failed : zombie_leaves(host, v);
}

/* A host comes back with the disk of long ago, and may be opened and written to several times:
 * whoever was in step knows better. */
const char *restored(struct cluster *cluster)
{
	struct host *host = &cluster->hosts[pick(cluster, HOSTS)];
	struct volume_info now[VOLUMES];
	unsigned to[VOLUMES] = {HOSTS, HOSTS, HOSTS};
	const char *failed = host->backup ? fate_back(cluster, true) : NULL;
	if (failed || !host->backup || !all_run(cluster) || !stand(host, NULL, now))
		return failed;
	if (!voters_may_restore(host) || !voters_all_heard(host))
		return NULL;
	for (unsigned v = 0; v < VOLUMES; v++)
		if (cluster->volumes[v].primary == host->number &&
		    (!cluster->volumes[v].view ||
		     lost(cluster, host, v, &now[v], &to[v]) == LOST_UNKNOWN))
			return NULL;
	for (unsigned v = 0; v < VOLUMES; v++)
		cluster->volumes[v].doubted = to[v] != HOSTS;
	host_crash(host, true);
	sim_backup_restore(host->sim, host->backup);
	failed = host_open(host, false);
	host->forgot_ns = host->opened_ns;
	totals.restored++;
	totals.restored_voters += cluster->voting;
	for (uint64_t again = pick(cluster, 3); again && !failed; again--) {
		for (unsigned v = 0; v < VOLUMES && !failed; v++)
			if (to[v] != HOSTS)
				failed = zombie_writes(host, v, true);
		host_crash(host, pick(cluster, 2));
		if (!failed)
			failed = host_open(host, false);
		host->forgot_ns = host->opened_ns;
		totals.restored_again++;
	}
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		if (to[v] != HOSTS)
			failed = restored_volume(host, v, to[v]);
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
