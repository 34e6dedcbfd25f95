/* SPDX-License-Identifier: Apache-2.0 */
/* The hosts of a cluster: made, opened, crashed, closed, as vstored does it. */
#include "tests/sim/cluster.h"

const char *const cluster_hosts[HOSTS] = {"h0", "h1", "h2"};
const char *const cluster_volumes[VOLUMES] = {"v0", "v1", "v2"};

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));

void host_enter(struct host *host)
{
	sim_process = host->sim;
}

bool host_runs(const struct host *host)
{
	return host->store && !host->stopped;
}

const char *cluster_pass(struct cluster *cluster, uint64_t ns)
{
	uint64_t end = simnet_now_ns(cluster->net) + ns;
	while (simnet_now_ns(cluster->net) < end && !cluster->wrong) {
		if (!simnet_step(cluster->net))
			simnet_wait(cluster->net, NSEC_PER_MSEC);
		const char *failed = cluster->voting ? voters_look(cluster) : NULL;
		if (failed)
			return failed;
	}
	return cluster->wrong;
}

static const char *plain_peer(const struct env_sock *sock)
{
	return cluster_hosts[simnet_peer(sock)];
}

int host_volume(struct host *host, const char *name, struct volume_info *ret)
{
	struct volume_info *infos;
	size_t count;
	host_enter(host);
	int res = store_volumes(host->store, false, &infos, &count);
	if (res < 0)
		return res;
	res = -ENOENT;
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].name, name) == 0) {
			*ret = infos[i];
			res = 0;
		}
	process_free(infos);
	return res;
}

int host_read(struct host *host, const char *name, uint8_t *to)
{
	struct view *view;
	host_enter(host);
	int res = store_view_open(host->store, name, &view);
	if (res < 0)
		return res;
	struct store_request request = {
		.view = view, .kind = REQUEST_READ, .length_bytes = VOLUME_BYTES, .data = to};
	env_wait_prepare(&request.op);
	store_submit(&request);
	res = (int)env_wait(host->env, &request.op);
	store_view_close(view);
	return res;
}

void host_disk_ill(struct host *host, bool reads)
{
	sim_faults_set(host->sim, &(struct sim_faults){.read_error = reads ? 20 : 0,
						       .write_error = 100,
						       .sync_error = 100,
						       .slow = 50});
}

int host_read_well(struct host *host, const char *name, uint8_t *to)
{
	if (host->ill)
		host_disk_ill(host, false);
	int res = host_read(host, name, to);
	if (host->ill)
		host_disk_ill(host, true);
	return res;
}

static bool another_was_elected(const struct volume *volume, unsigned than)
{
	for (unsigned h = 0; h < HOSTS; h++)
		if (h != than && volume->elected[h])
			return true;
	return false;
}

static const char *volumes_look(struct host *host, bool check)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume *volume = &host->cluster->volumes[v];
		if (volume->primary != host->number)
			continue;
		int res = check ? host_read(host, cluster_volumes[v], image) : 0;
		if (res < 0)
			FAIL("%s cannot be read on its primary %s: %s", cluster_volumes[v],
			     cluster_hosts[host->number], vs_strerror(res));
		const char *failed =
			check ? cluster_check(&volume->model, image,
					      host->power_cut ? FLOOR_FLUSHED : FLOOR_ANSWERED)
			      : NULL;
		if (failed)
			FAIL("%s on its primary %s: %s", cluster_volumes[v],
			     cluster_hosts[host->number], failed);
		if (check)
			cluster_settle(&volume->model, false);
		host_enter(host);
		res = store_view_open(host->store, cluster_volumes[v], &volume->view);
		if (res == -VS_EFENCED && another_was_elected(volume, host->number))
			continue; /* who does not answer yet has told it: nobody opens it now */
		if (res < 0)
			FAIL("%s is gone from its primary", cluster_volumes[v]);
	}
	return NULL;
}

const char *host_open(struct host *host, bool check)
{
	char sentence[SENTENCE_BYTES], address[32];
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.idle_fold_ns = NSEC_PER_SEC / 4};
	struct repl_options repl = {.listen = address,
				    .plain_peer = plain_peer,
				    .own_host = cluster_hosts[host->number]};
	snprintf(address, sizeof address, "10.0.0.%u:7410", host->number + 1);
	host_enter(host);
	sim_faults_set(host->sim, &(struct sim_faults){0});
	simnet_power(host->cluster->net, host->number, true);
	if (store_open(host->env, "store", &options, &host->store, sentence) < 0) {
		host->store = NULL;
		FAIL("the store of %s was refused: %s", cluster_hosts[host->number], sentence);
	}
	host->opened_ns = simnet_now_ns(host->cluster->net);
	if (repl_new(host->env, host->store, &repl, &host->repl, sentence) < 0)
		FAIL("no connections: %s", sentence);
	if (follows_new(host->env, host->store, host->repl, &host->follows) < 0)
		FAIL("no followers");
	host->back_ns = 0;
	host->ill = host->leaving = false;
	const char *failed = volumes_look(host, check);
	return !failed && host->cluster->voting ? voters_back(host) : failed;
}

static void guests_gone(struct host *host)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume *volume = &host->cluster->volumes[v];
		if (volume->primary != host->number)
			continue;
		volume->view = NULL;
		volume->written = 0; /* may be lost: a flush of nothing waits for nobody */
		volume->generation++;
		for (uint32_t b = 0; b < BLOCKS; b++)
			volume->model.blocks[b].busy = false;
	}
}

static void lanes_count(const struct host *host)
{
	struct repl_counters counters;
	repl_counters(host->repl, &counters);
	totals.lanes += counters.lanes;
}

void host_crash(struct host *host, bool power_cut)
{
	host_enter(host);
	lanes_count(host);
	sim_crash(host->sim, power_cut);
	simnet_crashed(host->cluster->net, host->number, power_cut);
	store_abandon(host->store);
	sim_process_end(host->sim);
	host->store = NULL;
	host->repl = NULL;
	host->follows = NULL;
	host->power_cut = power_cut;
	host->stopped = false;
	guests_gone(host);
	voters_gone(host);
}

const char *host_close(struct host *host)
{
	struct cluster *cluster = host->cluster;
	struct io_op stopped = {0};
	host->leaving = true;
	host_enter(host);
	store_followers_stop(host->store);
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume *volume = &cluster->volumes[v];
		struct view **view = volume->primary == host->number ? &volume->view
								     : &volume->old[host->number];
		if (!*view)
			continue;
		while (volume->under_way[host->number])
			if (!simnet_step(cluster->net))
				FAIL("requests never end");
		host_enter(host);
		store_view_close(*view);
		*view = NULL;
	}
	follows_stop(host->follows);
	env_wait_prepare(&stopped);
	repl_stop(host->repl, &stopped);
	env_wait(host->env, &stopped);
	while (!follows_idle(host->follows))
		if (!env_step(host->env, true))
			FAIL("the followers never end");
	follows_free(host->follows);
	lanes_count(host);
	repl_free(host->repl);
	int res = store_close(host->store);
	host->store = NULL;
	host->power_cut = host->ill;
	sim_process_end(host->sim);
	voters_gone(host);
	if (res < 0 && !host->ill)
		FAIL("a store could not be closed: %s", vs_strerror(res));
	return cluster->wrong;
}

const char *volume_follow(struct cluster *cluster, unsigned number)
{
	struct volume *volume = &cluster->volumes[number];
	struct host *host = &cluster->hosts[volume->primary];
	volume->written = 0;
	if (volume->voted)
		return volume_vote(cluster, number);
	for (unsigned h = 0; h < HOSTS; h++) {
		volume->sure[h] = volume->in_step[h] = false;
		if (h == volume->primary)
			continue;
		struct follower_rules rules = {.lag_ns = 2 * NSEC_PER_SEC,
					       .in_step = number == 0 || sim_random(host->sim, 2)};
		if (HOST_DO(host, store_follower_set, cluster_volumes[number], cluster_hosts[h],
			    &rules) < 0)
			return host->ill ? NULL : failure;
		volume->in_step[h] = rules.in_step;
	}
	return NULL;
}

const char *cluster_make(struct cluster *cluster)
{
	char sentence[SENTENCE_BYTES], address[32];
	const char *failed = NULL;
	for (unsigned h = 0; h < HOSTS; h++) {
		struct host *host = &cluster->hosts[h];
		struct store_make_options make = {.log_bytes = 8 * MIB};
		host->cluster = cluster;
		host->number = h;
		host->sim = simnet_host(cluster->net, h);
		host->env = sim_env(host->sim);
		host_enter(host);
		if (store_make(host->env, "store", &make, sentence) < 0)
			FAIL("no store was made: %s", sentence);
	}
	for (unsigned v = 0; v < VOLUMES; v++) {
		cluster->volumes[v].primary = HOSTS;
		cluster->volumes[v].voted = cluster->voting && v < VOLUMES - 1;
		cluster_model_make(&cluster->volumes[v].model, BLOCKS);
	}
	for (unsigned h = 0; h < HOSTS && !failed; h++)
		failed = host_open(&cluster->hosts[h], false);
	for (unsigned h = 0; h < HOSTS && !failed; h++)
		for (unsigned to = 0; to < HOSTS; to++) {
			snprintf(address, sizeof address, "10.0.0.%u:7410", to + 1);
			if (to != h && HOST_DO(&cluster->hosts[h], store_peer_add,
					       cluster_hosts[to], address) < 0)
				return failure;
		}
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		struct host *host = &cluster->hosts[v % HOSTS];
		struct volume_options options = {.size_bytes = VOLUME_BYTES};
		if (HOST_DO(host, store_volume_create, cluster_volumes[v], &options) < 0)
			return failure;
		cluster->volumes[v].primary = host->number;
		host_enter(host);
		if (store_view_open(host->store, cluster_volumes[v], &cluster->volumes[v].view) < 0)
			FAIL("a new volume is gone");
		failed = volume_follow(cluster, v);
	}
	return failed;
}

void cluster_free(struct cluster *cluster)
{
	for (unsigned h = 0; h < HOSTS; h++) {
		struct host *host = &cluster->hosts[h];
		if (host->store)
			host_crash(host, false);
		if (host->sim)
			seeds_faults_add(&totals.faults, host->sim);
		sim_backup_free(host->backup);
	}
	for (unsigned v = 0; v < VOLUMES; v++)
		cluster_model_free(&cluster->volumes[v].model);
	simnet_free(cluster->net);
	free(cluster);
}
