/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes of a cluster that have voters: two copies and a witness, or three copies. Nobody accepts
 * a loss here: hosts die, stop, are cut off, and copies become the volume by a majority; old
 * primaries come back, and their volumes are deleted when they have lost.
 *
 * At every moment at most one host answers for such a volume; who begins to has all that any flush
 * was answered for, and was elected; a word that stands is kept by a majority. Who is elected and
 * dies before it answers may find that the one before goes on.
 */
#include "tests/sim/cluster.h"
#include "tests/sim/cluster_word.h"
#include "tests/sim/model.h"

#define TOLD_NS (30 * NSEC_PER_SEC)   /* and who forgot is told, and what it lost is sent to it */
#define LISTENS_NS (5 * NSEC_PER_SEC) /* who starts says nothing for so long */
#define HEARS_NS NSEC_PER_SEC /* an owner that started so lately hears of a newer word in time */
#define WORD_NS (12 * NSEC_PER_SEC) /* who is missing is left out in this time */

static uint8_t image[VOLUME_BYTES] __attribute__((aligned(4096)));

/* ---- how they begin ---- */

/* The view on a host that has the volume itself. */
static const char *volume_open(struct host *host, unsigned v, struct view **ret_view)
{
	struct volume_info info;
	if (host_volume(host, cluster_volumes[v], &info) < 0 ||
	    store_view_open(host->store, cluster_volumes[v], ret_view) < 0)
		FAIL("%s is gone from %s", cluster_volumes[v], cluster_hosts[host->number]);
	host->cluster->volumes[v].number[host->number] = info.number;
	memcpy(host->cluster->volumes[v].uuid, info.uuid, 16);
	return NULL;
}

const char *volume_vote(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[volume->primary];
	bool three = sim_random(host->sim, 2);
	unsigned first = (volume->primary + 1 + (unsigned)sim_random(host->sim, 2)) % HOSTS;
	for (unsigned i = 0; i < 2; i++) {
		unsigned h = i == 0 ? first : HOSTS - volume->primary - first;
		struct follower_rules rules = {
			.lag_ns = 2 * NSEC_PER_SEC,
			.in_step = true,
			/* The second copy that may be left out makes voters of them. */
			.degrade = sim_random(host->sim, 3) || (three && i == 1)};
		int res = i == 1 && !three ? HOST_DO(host, store_witness_add, cluster_volumes[v],
						     cluster_hosts[h])
					   : HOST_DO(host, store_follower_set, cluster_volumes[v],
						     cluster_hosts[h], &rules);
		if (res < 0)
			return failure;
		volume->copy[h] = i == 0 || three;
	}
	volume->copy[volume->primary] = true;
	*(three ? &totals.three_copies : &totals.witnessed) += 1;
	store_view_close(volume->view);
	return volume_open(host, v, &volume->view);
}

/* ---- who is the primary ---- */

static struct view *view_of(const struct volume *volume, unsigned h)
{
	return volume->primary == h ? volume->view : volume->old[h];
}

static bool answers(const struct cluster *cluster, unsigned v, unsigned h)
{
	const struct view *view = view_of(&cluster->volumes[v], h);
	return host_runs(&cluster->hosts[h]) && view && store_view_answers(view);
}

/* It answers now, and was elected: is all there? */
static const char *primary_becomes(struct cluster *cluster, unsigned v, unsigned to)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[to];
	for (unsigned steps = 0; volume->under_way[to] && steps < 20000; steps++)
		simnet_step(cluster->net); /* what was asked before it could answer */
	if (host_read_well(host, cluster_volumes[v], image) < 0)
		FAIL("%s cannot be read on %s, which was elected", cluster_volumes[v],
		     cluster_hosts[to]);
	const char *failed = cluster_check(&volume->model, image, FLOOR_FLUSHED);
	if (failed)
		FAIL("%s on %s, which was elected: %s", cluster_volumes[v], cluster_hosts[to],
		     failed);
	cluster_settle(&volume->model, false);
	volume->old[volume->primary] = volume->view;
	volume->view = volume->old[to];
	volume->old[to] = NULL;
	volume->primary = to;
	volume->generation++;
	for (unsigned h = 0; h < HOSTS; h++)
		volume->elected[h] &= volume->attempt.trying && volume->attempt.host == h;
	totals.primaries++;
	return NULL;
}

/* What it kept was counted before its store was replaced by a backup: it is told that again before
 * it speaks. */
static bool just_forgot(const struct host *host)
{
	return host->forgot_ns && simnet_now_ns(host->cluster->net) - host->forgot_ns < LISTENS_NS;
}

/* A majority of those that it names keeps the word, as far as their stores can be asked. */
static const char *word_look(struct cluster *cluster, unsigned v, const struct store_word *word)
{
	unsigned keep = 0;
	for (unsigned i = 0; i < word->voter_count; i++)
		for (unsigned h = 0; h < HOSTS; h++) {
			const struct store *store = cluster->hosts[h].store;
			if (strcmp(word->voters[i], cluster_hosts[h]) != 0)
				continue;
			keep += !store || cluster_word_kept(store, word) ||
				just_forgot(&cluster->hosts[h]);
		}
	if (2 * keep <= word->voter_count)
		FAIL("a word about %s stands on %s that no majority keeps", cluster_volumes[v],
		     cluster_hosts[cluster->volumes[v].primary]);
	return NULL;
}

static const char *primary_word(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	const struct host *host = &cluster->hosts[volume->primary];
	struct store_word word;
	bool stands;
	if (!host_runs(host) || !volume->view ||
	    store_word(host->store, volume->number[volume->primary], &word, &stands) < 0 ||
	    strcmp(word.voters[word.owner], cluster_hosts[volume->primary]) != 0)
		return NULL;
	unsigned before = volume->in_step_mask, now = word.in_step;
	if (!stands || (word.term == volume->term && word.seq == volume->seq))
		return NULL;
	if (word.term == volume->term) {
		totals.exclusions += (before & ~now) != 0;
		totals.taken_in += (now & ~before) != 0;
	} else if (volume->term && volume->term_owner == volume->primary) {
		totals.renewals++;
	}
	volume->term = word.term;
	volume->term_owner = volume->primary;
	volume->seq = word.seq;
	volume->in_step_mask = now;
	return word_look(cluster, v, &word);
}

static const char *primary_look(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	unsigned other = HOSTS;
	bool first = answers(cluster, v, volume->primary);
	for (unsigned h = 0; h < HOSTS; h++) {
		if (h == volume->primary || !answers(cluster, v, h))
			continue;
		if (first || other != HOSTS)
			FAIL("%s and another host answer for %s", cluster_hosts[h],
			     cluster_volumes[v]);
		other = h;
	}
	if (other == HOSTS)
		return NULL;
	if (!volume->elected[other])
		FAIL("%s answers for %s, and was not elected since %s did", cluster_hosts[other],
		     cluster_volumes[v], cluster_hosts[volume->primary]);
	return primary_becomes(cluster, v, other);
}

/* ---- elections ---- */

struct trying {
	struct repl_election election; /* first: found back by its address */
	struct admin_op op;
	struct cluster *cluster;
	unsigned volume;
};

static void try_ended(struct cluster *cluster, unsigned v, int64_t res)
{
	cluster->volumes[v].attempt.ended = true;
	cluster->volumes[v].attempt.res = (int)res;
}

static void elected(struct io_op *op)
{
	const struct trying *trying = (struct trying *)op;
	try_ended(trying->cluster, trying->volume, op->res);
}

static void promoted(struct io_op *op)
{
	const struct trying *trying = container_of(op, struct trying, op.op);
	try_ended(trying->cluster, trying->volume, op->res);
}

/* What is here on `to` wants to be the volume. */
static const char *elect(struct cluster *cluster, unsigned v, unsigned to)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[to];
	struct volume_info info;
	struct store_word word;
	uint64_t base_term;
	char sentence[SENTENCE_BYTES];
	if (volume->attempt.trying || to == volume->primary || !volume->copy[to] ||
	    !host_runs(host) || host->ill || host_volume(host, cluster_volumes[v], &info) == 0)
		return NULL;
	snprintf(volume->attempt.copy, sizeof volume->attempt.copy, "%s/%s",
		 cluster_hosts[volume->primary], cluster_volumes[v]);
	host_enter(host);
	int res = store_word_plan(host->store, volume->attempt.copy, &word, &base_term, sentence);
	totals.not_asked += res == -ENOENT;
	totals.left_out_refused += res == -VS_ERETAINED;
	if (res < 0)
		return NULL;
	struct trying *trying = sim_process_memory(host->sim, sizeof *trying);
	*trying = (struct trying){
		.election = {.op.done = elected, .word = word, .base_term = base_term},
		.cluster = cluster,
		.volume = v};
	volume->attempt.trying = trying;
	volume->attempt.host = to;
	volume->attempt.agreed = volume->attempt.ended = false;
	totals.elections++;
	repl_elect(host->repl, &trying->election);
	return NULL;
}

static const char *try_look(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	struct trying *trying = volume->attempt.trying;
	struct host *host = &cluster->hosts[volume->attempt.host];
	if (!trying || !volume->attempt.ended || !host_runs(host))
		return NULL;
	host_enter(host);
	if (!volume->attempt.agreed && volume->attempt.res == 0) {
		/* From here on it may be, also when it dies before it says so. */
		volume->attempt.agreed = volume->elected[host->number] = true;
		volume->attempt.ended = false;
		trying->op = (struct admin_op){.op.done = promoted};
		store_replica_promote_voted(host->store, &trying->op, volume->attempt.copy,
					    cluster_volumes[v], &trying->election.word,
					    trying->election.base_term);
		return NULL;
	}
	volume->attempt.trying = NULL;
	sim_process_memory_free(trying);
	if (!volume->attempt.agreed) {
		totals.no_majority++;
	} else if (volume->attempt.res < 0) {
		totals.too_late++;
		volume->elected[host->number] = host->ill; /* it may be there after a restart */
	} else {
		totals.elected++;
		return volume_open(host, v, &volume->old[host->number]);
	}
	return NULL;
}

const char *voters_look(struct cluster *cluster)
{
	const char *failed = NULL;
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		if (!cluster->volumes[v].voted)
			continue;
		failed = try_look(cluster, v);
		if (!failed)
			failed = primary_look(cluster, v);
		if (!failed)
			failed = primary_word(cluster, v);
	}
	return failed;
}

/* ---- hosts come and go ---- */

void voters_gone(struct host *host)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		struct volume *volume = &host->cluster->volumes[v];
		volume->old[host->number] = NULL;
		volume->under_way[host->number] = 0;
		if (volume->attempt.trying && volume->attempt.host == host->number)
			volume->attempt.trying = NULL; /* with its process */
	}
}

/* Volumes that are, were, or will be this host's. */
const char *voters_back(struct host *host)
{
	struct cluster *cluster = host->cluster;
	unsigned h = host->number;
	const char *failed = NULL;
	for (unsigned v = 0; v < VOLUMES && !failed; v++) {
		struct volume *volume = &cluster->volumes[v];
		struct volume_info info;
		if (!volume->voted || volume->primary == h)
			continue;
		if (host_volume(host, cluster_volumes[v], &info) < 0)
			volume->elected[h] = false;
		else
			failed = volume_open(host, v, &volume->old[h]);
	}
	return failed;
}

/* The old primary's volume, when another one answers: it becomes a copy. */
static const char *old_leaves(struct cluster *cluster, unsigned v, unsigned h)
{
	struct volume *volume = &cluster->volumes[v];
	struct host *host = &cluster->hosts[h];
	if (!volume->old[h] || !host_runs(host) || host->ill || volume->under_way[h] ||
	    !answers(cluster, v, volume->primary))
		return NULL;
	host_enter(host);
	store_view_close(volume->old[h]);
	volume->old[h] = NULL;
	if (HOST_DO(host, store_volume_delete, cluster_volumes[v]) < 0) {
		host_enter(host); /* it is in use, or is just given up: then nobody opens it */
		if (store_view_open(host->store, cluster_volumes[v], &volume->old[h]) < 0)
			volume->elected[h] = false;
		return NULL;
	}
	totals.old_left++;
	totals.overridden += volume->elected[h]; /* nobody had heard of it */
	volume->elected[h] = false;
	return trash_purge(host);
}

const char *voters_person(struct cluster *cluster)
{
	const char *failed = NULL;
	for (unsigned v = 0; v < VOLUMES && !failed; v++)
		for (unsigned h = 0; h < HOSTS && !failed && cluster->volumes[v].voted; h++)
			failed = old_leaves(cluster, v, h);
	return failed;
}

/* ---- what happens to them ---- */

/* From all, or from this one alone. */
static void cut_off(struct cluster *cluster, unsigned h, unsigned from)
{
	for (unsigned other = 0; other < HOSTS; other++) {
		if (from != HOSTS && other != from)
			continue;
		simnet_link(cluster->net, h, other, false);
		simnet_link(cluster->net, other, h, false);
	}
	cluster->links_back_ns = simnet_now_ns(cluster->net) + 1 + pick(cluster, 60 * NSEC_PER_SEC);
	totals.cut_off++;
}

/* It is gone in one way or another, or for a while; or nothing happens to it. */
static void trouble(struct cluster *cluster, unsigned h)
{
	struct host *host = &cluster->hosts[h];
	uint64_t what = pick(cluster, 5), back = 1 + pick(cluster, 40 * NSEC_PER_SEC);
	if (!host_runs(host) || host->back_ns || what == 4)
		return;
	for (unsigned v = 0; v < VOLUMES; v++) {
		const struct volume *volume = &cluster->volumes[v];
		totals.witness_down += volume->voted && !volume->copy[h];
	}
	if (what == 3) {
		cut_off(cluster, h, HOSTS);
		return;
	}
	if (what == 2)
		simnet_stop(cluster->net, h, host->stopped = true);
	else
		host_crash(host, what == 1);
	host->back_ns = simnet_now_ns(cluster->net) + back;
	*(what == 2 ? &totals.stops : what == 1 ? &totals.power_cuts : &totals.kills) += 1;
}

static unsigned other_copy(struct cluster *cluster, const struct volume *volume)
{
	unsigned h = (volume->primary + 1 + (unsigned)pick(cluster, HOSTS - 1)) % HOSTS;
	return volume->copy[h] ? h : HOSTS - volume->primary - h;
}

const char *voters_elect(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	unsigned to = other_copy(cluster, volume);
	uint64_t pass = pick(cluster, 6 * NSEC_PER_SEC);
	if (pick(cluster, 4) ==
	    0) { /* for so long that it has given no mandate that still stands */
		cut_off(cluster, volume->primary, to);
		pass += 2 * MANDATE_NS;
	} else {
		trouble(cluster, volume->primary);
	}
	if (pick(cluster, 4) == 0)
		trouble(cluster, HOSTS - volume->primary - to);
	const char *failed = cluster_pass(cluster, pass);
	if (!failed)
		failed = elect(cluster, v, to);
	if (!failed)
		failed = cluster_pass(cluster, pick(cluster, 20 * NSEC_PER_SEC));
	if (!failed && volume->attempt.trying && host_runs(&cluster->hosts[to]) &&
	    pick(cluster, 4) == 0) { /* amid of it */
		host_crash(&cluster->hosts[to], pick(cluster, 2));
		cluster->hosts[to].back_ns =
			simnet_now_ns(cluster->net) + 1 + pick(cluster, 40 * NSEC_PER_SEC);
	}
	return failed;
}

/* Of what an owner has lost a witness knows nothing, and a copy that is away neither; and who
 * forgot that it is the owner is of no use to those who know: no owner's store comes from a backup
 * here.
 */
bool voters_may_restore(const struct host *host)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		const struct volume *volume = &host->cluster->volumes[v];
		if (volume->voted && (volume->primary == host->number || volume->attempt.trying ||
				      volume->elected[host->number]))
			return false;
	}
	return true;
}

static bool takes_itself_for_owner(struct host *host, uint32_t number)
{
	struct voter_info *infos;
	size_t count;
	bool owns = false;
	host_enter(host);
	if (store_voters(host->store, &infos, &count) < 0)
		return true;
	for (size_t i = 0; i < count; i++)
		owns |= infos[i].volume_number == number;
	process_free(infos);
	return owns;
}

/* A voter that has no word at all takes the first one: not the old owner's, which runs and has not
 * heard of the new one yet. Who starts listens first. */
bool voters_all_heard(const struct host *host)
{
	struct cluster *cluster = host->cluster;
	for (unsigned v = 0; v < VOLUMES; v++)
		for (unsigned h = 0; h < HOSTS; h++) {
			const struct volume *volume = &cluster->volumes[v];
			struct host *old = &cluster->hosts[h];
			if (volume->voted && volume->old[h] && !host->backup_votes[v] &&
			    simnet_now_ns(cluster->net) - old->opened_ns >= HEARS_NS &&
			    takes_itself_for_owner(old, volume->number[h]))
				return false;
		}
	return true;
}

/* It is nobody's primary, and may go back; who knows of what it forgets is there, and stays. */
static bool third_may(struct cluster *cluster, unsigned third, unsigned primary)
{
	const struct host *host = &cluster->hosts[third];
	bool may = host_runs(host) && !host->ill && voters_may_restore(host);
	for (unsigned v = 0; v < VOLUMES; v++)
		may &= cluster->volumes[v].voted ? cluster->volumes[v].primary == primary
						 : cluster->volumes[v].primary != third;
	return may && host_runs(&cluster->hosts[primary]);
}

/* It goes back to before a copy was left out; the owner tells it. */
static const char *third_forgets(struct cluster *cluster, unsigned third,
				 const struct sim_backup *backup)
{
	struct host *host = &cluster->hosts[third];
	host_crash(host, true);
	sim_backup_restore(host->sim, backup);
	const char *failed = host_open(host, false);
	host->forgot_ns = host->opened_ns;
	totals.forgot++;
	for (unsigned i = 0; i < PROMISES; i++)
		if (cluster->promises[i].to == third)
			cluster->promises[i].used = false;
	if (!failed)
		failed = cluster_pass(cluster, TOLD_NS);
	for (unsigned v = 0; v < VOLUMES; v++)
		cluster->volumes[v].sure[third] = false;
	return failed;
}

/* A copy is away while flushes go on, and wants to be the volume when its primary is gone. */
const char *voters_left_out(struct cluster *cluster)
{
	unsigned v = (unsigned)pick(cluster, VOLUMES);
	struct volume *volume = &cluster->volumes[v];
	const char *failed = volume->voted ? fate_back(cluster, true) : NULL;
	if (failed || !volume->voted || !answers(cluster, v, volume->primary))
		return failed;
	unsigned away = other_copy(cluster, volume), primary = volume->primary;
	struct host *host = &cluster->hosts[away];
	if (!host_runs(host) || host->ill || cluster->hosts[primary].ill)
		return NULL;
	unsigned third = HOSTS - primary - away;
	struct sim_backup *backup = NULL;
	if (third_may(cluster, third, primary))
		backup = sim_backup_new(cluster->hosts[third].sim);
	if (pick(cluster, 2))
		host_crash(host, pick(cluster, 2));
	else
		simnet_stop(cluster->net, away, host->stopped = true);
	host->back_ns = simnet_now_ns(cluster->net) + 1 + pick(cluster, 60 * NSEC_PER_SEC);
	for (unsigned i = 0; i < 6 && !failed; i++) {
		if (volume->primary == primary && volume->view &&
		    volume->under_way[primary] < UNDER_WAY_MAX) {
			guest_write(cluster, v);
			guest_flush(cluster, v);
		}
		failed = cluster_pass(cluster, WORD_NS / 6);
	}
	if (backup && !failed && third_may(cluster, third, primary))
		failed = third_forgets(cluster, third, backup);
	sim_backup_free(backup);
	if (failed || volume->primary != primary || !host_runs(&cluster->hosts[primary]))
		return failed;
	host_crash(&cluster->hosts[primary], pick(cluster, 2));
	cluster->hosts[primary].back_ns =
		simnet_now_ns(cluster->net) + 1 + pick(cluster, 40 * NSEC_PER_SEC);
	host->back_ns = 0;
	if (host->stopped)
		simnet_stop(cluster->net, away, host->stopped = false);
	else
		failed = host_open(host, true);
	if (!failed)
		failed = elect(cluster, v, away);
	return failed ? failed : cluster_pass(cluster, pick(cluster, 20 * NSEC_PER_SEC));
}

/* Somebody still asks a host that was the primary; whether it answers is looked at when that ends.
 */
void voters_ask_old(struct cluster *cluster, unsigned v)
{
	struct volume *volume = &cluster->volumes[v];
	unsigned h = (volume->primary + 1 + (unsigned)pick(cluster, HOSTS - 1)) % HOSTS;
	const struct host *host = &cluster->hosts[h];
	if (!volume->voted || !volume->old[h] || !host_runs(host) || volume->under_way[h] >= 4)
		return;
	totals.old_asked++;
	guest_ask_old(cluster, v, h);
}

/* Each voter keeps the newest word, and takes this host for the owner. */
static bool voters_agree(struct host *host, uint32_t number)
{
	struct voter_info *infos;
	size_t count;
	bool all = true;
	host_enter(host);
	if (store_voters(host->store, &infos, &count) < 0)
		return false;
	for (size_t i = 0; i < count; i++)
		all &= infos[i].volume_number != number || (infos[i].heard && infos[i].stands);
	process_free(infos);
	return all;
}

bool voters_near(struct cluster *cluster, char *ret_away, size_t room)
{
	for (unsigned v = 0; v < VOLUMES; v++) {
		const struct volume *volume = &cluster->volumes[v];
		struct host *host = &cluster->hosts[volume->primary];
		uint32_t number = volume->number[volume->primary];
		struct store_word word = {0};
		bool stands = false;
		if (!volume->voted)
			continue;
		if (!host_runs(host) || store_word(host->store, number, &word, &stands) < 0 ||
		    !stands || word.in_step != word.copies ||
		    !answers(cluster, v, volume->primary) || !voters_agree(host, number)) {
			snprintf(ret_away, room,
				 "%s is not whole on %s: its word %s, in step %x of %x, it is%s "
				 "answered",
				 cluster_volumes[v], cluster_hosts[volume->primary],
				 stands ? "stands" : "does not stand", word.in_step, word.copies,
				 answers(cluster, v, volume->primary) ? "" : " not");
			return false;
		}
		for (unsigned h = 0; h < HOSTS; h++)
			if (volume->old[h]) {
				snprintf(ret_away, room, "%s is still on %s", cluster_volumes[v],
					 cluster_hosts[h]);
				return false;
			}
	}
	return true;
}
