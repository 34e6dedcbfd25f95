/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters of three hosts, each made of one seed with all that happens to them (cluster_fate.c),
 * against a model of what each volume may be on each host (cluster_model.h).
 *
 * No flush that was answered is lost by a promotion of who was in step; at the end all roots are
 * equal; a snapshot that was published is what it was; an old primary, or a store from a backup,
 * changes nothing and answers no flush. In every second life two of the three volumes have voters
 * (cluster_voters.c).
 *
 * Usage: sim_cluster --seeds A..B [--jobs N] | --mutant N | --scene (cluster_scene.c)
 */
#include "tests/sim/cluster.h"

#include "storage/rt/log_event.h"

#include <malloc.h>

int vstore_mutant;
struct cluster_totals totals;

#define OPS 2000u
#define STEPS_MAX 3000000u

static const char *life(struct cluster *cluster)
{
	const char *failed = NULL;
	uint64_t steps = 0;
	for (unsigned i = 0; i < OPS && !failed && !cluster->wrong;) {
		if (cluster->voting && (failed = voters_look(cluster)))
			break;
		uint64_t what = sim_random(cluster->hosts[0].sim, 1000);
		unsigned v = (unsigned)sim_random(cluster->hosts[0].sim, VOLUMES);
		struct volume *volume = &cluster->volumes[v];
		bool serves = volume->view && host_runs(&cluster->hosts[volume->primary]) &&
			      volume->under_way[volume->primary] < UNDER_WAY_MAX;
		if (++steps > STEPS_MAX)
			FAIL("nothing moves any more");
		if (what < 350 || (what < 980 && !serves)) {
			if (!simnet_step(cluster->net))
				simnet_wait(cluster->net, NSEC_PER_MSEC);
			failed = fate_back(cluster, false);
			continue;
		}
		i++;
		if (what >= 980)
			failed = fate(cluster);
		else if (cluster->voting && what >= 790 && what < 800)
			voters_ask_old(cluster, v);
		else if (what < 800)
			guest_write(cluster, v);
		else if (what < 900)
			guest_read(cluster, v);
		else
			guest_flush(cluster, v);
	}
	return failed ? failed : cluster->wrong;
}

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	struct cluster *cluster = calloc(1, sizeof(*cluster));
	cluster->net = simnet_new(seed ^ 0xc1057e, HOSTS);
	cluster->voting = seed % 2;
	const char *failed = cluster_make(cluster);
	if (!failed)
		failed = life(cluster);
	if (!failed)
		failed = cluster_end(cluster);
	*ret_trace = simnet_trace(cluster->net);
	seeds_counts_add(&totals.network, simnet_counts(cluster->net), sizeof totals.network);
	cluster_free(cluster);
	totals.seeds++;
	return failed;
}

#define COUNT(name) #name, totals.name, false
#define RARE(name) #name, totals.name, true
#define FAULT(name) #name, totals.faults.name, false
#define NETWORK(name) #name, totals.network.name, false

static int totals_tell(uint64_t seeds)
{
	const struct seeds_count counts[] = {{COUNT(seeds)},
					     {COUNT(writes)},
					     {COUNT(reads)},
					     {COUNT(flushes)},
					     {COUNT(flushes_in_step)},
					     {COUNT(kills)},
					     {COUNT(power_cuts)},
					     {COUNT(stops)},
					     {COUNT(restarts)},
					     {COUNT(links_down)},
					     {COUNT(cuts)},
					     {COUNT(ill)},
					     {COUNT(sends)},
					     {COUNT(published)},
					     {COUNT(lanes)},
					     {COUNT(promotions)},
					     {COUNT(promotions_in_step)},
					     {COUNT(returned)},
					     {COUNT(held_flushes)},
					     {COUNT(restored)},
					     {COUNT(restored_again)},
					     {COUNT(stale_accepted)},
					     {COUNT(live_backups)},
					     {COUNT(given_up)},
					     {COUNT(site_cuts)},
					     {COUNT(in_step)},
					     {COUNT(cuts_sent)},
					     {COUNT(kept_promises)},
					     {COUNT(yielded)},
					     {COUNT(fenced_kept)},
					     {RARE(earlier_reigns)},
					     {COUNT(witnessed)},
					     {COUNT(three_copies)},
					     {COUNT(flushes_voted)},
					     {COUNT(elections)},
					     {COUNT(elected)},
					     {COUNT(primaries)},
					     {COUNT(no_majority)},
					     {COUNT(left_out_refused)},
					     {COUNT(exclusions)},
					     {COUNT(taken_in)},
					     {COUNT(restored_voters)},
					     {COUNT(forgot)},
					     {COUNT(witness_down)},
					     {COUNT(cut_off)},
					     {COUNT(old_asked)},
					     {COUNT(old_left)},
					     {COUNT(unanswered)},
					     {RARE(too_late)},
					     {RARE(not_asked)},
					     {RARE(overridden)},
					     {RARE(renewals)},
					     {NETWORK(connections)},
					     {NETWORK(refused)},
					     {NETWORK(packets)},
					     {NETWORK(packet_bytes)},
					     {NETWORK(delayed)},
					     {NETWORK(cut)},
					     {NETWORK(cut_bytes)},
					     {NETWORK(held)},
					     {NETWORK(lost_hosts)},
					     {FAULT(kept)},
					     {FAULT(dropped)},
					     {FAULT(torn)},
					     {FAULT(overtaken)},
					     {FAULT(slow)},
					     {FAULT(lost_files)},
					     {FAULT(read_errors)},
					     {FAULT(write_errors)},
					     {FAULT(sync_errors)}};
	return seeds_counts_tell(counts, sizeof counts / sizeof *counts, seeds, 100);
}

int main(int argc, char **argv)
{
	const struct seeds seeds = {.program = "sim_cluster",
				    .run = seed_run,
				    .totals = &totals,
				    .totals_bytes = sizeof totals,
				    .tell = totals_tell,
				    .mutant = &vstore_mutant,
				    .mutant_seeds = 600};
	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	mallopt(M_TRIM_THRESHOLD, 256 << 20);
	log_level_set(0);
	if (argc == 2 && strcmp(argv[1], "--scene") == 0)
		return cluster_scene();
	return seeds_main(&seeds, argc, argv);
}
