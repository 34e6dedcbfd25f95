/* SPDX-License-Identifier: Apache-2.0 */
/* One thing that chance does not bring about among three volumes: a host stands still that many
 * follow on, more than are served at once; what follows on another one goes on all the same. */
#include "tests/sim/cluster.h"

#define SILENT_VOLUMES 12u
#define SOON_NS (8 * NSEC_PER_SEC) /* before the first connection to who is silent is given up */

static const char *follow_new(struct cluster *cluster, const char *name, const char *host)
{
	struct volume_options options = {.size_bytes = VOLUME_BYTES};
	struct follower_rules rules = {.lag_ns = 2 * NSEC_PER_SEC};
	struct host *first = &cluster->hosts[0];
	if (HOST_DO(first, store_volume_create, name, &options) < 0 ||
	    HOST_DO(first, store_follower_set, name, host, &rules) < 0)
		return failure;
	return NULL;
}

static bool near(struct host *host, const char *volume)
{
	struct follow_state *states;
	size_t count;
	bool found = false;
	host_enter(host);
	if (follows_states(host->follows, &states, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		found |= strcmp(states[i].info.volume, volume) == 0 && states[i].verified;
	process_free(states);
	return found;
}

static const char *scene(struct cluster *cluster)
{
	const char *failed = cluster_make(cluster);
	char name[NAME_ROOM];
	simnet_stop(cluster->net, 1, cluster->hosts[1].stopped = true);
	/* Who was listed first is looked at last. */
	if (!failed)
		failed = follow_new(cluster, "w", cluster_hosts[2]);
	for (unsigned i = 0; i < SILENT_VOLUMES && !failed; i++) {
		snprintf(name, sizeof name, "s%u", i);
		failed = follow_new(cluster, name, cluster_hosts[1]);
	}
	if (!failed)
		failed = cluster_pass(cluster, SOON_NS);
	if (!failed && !near(&cluster->hosts[0], "w"))
		FAIL("who follows on a host that is there waits for one that is silent");
	for (unsigned i = 0; i < SILENT_VOLUMES && !failed; i++) {
		snprintf(name, sizeof name, "s%u", i);
		if (near(&cluster->hosts[0], name))
			FAIL("a host that stands still has %s", name);
	}
	return failed;
}

int cluster_scene(void)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	cluster->net = simnet_new(0x5ce4e, HOSTS);
	const char *failed = scene(cluster);
	if (failed)
		fprintf(stderr, "%s\n", failed);
	cluster_free(cluster);
	return failed ? 1 : 0;
}
