/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A receiver with policies of its own, for months of simulated time: two hosts with stores, two
 * volumes whose snapshots are sent, and between them a wire that is slow, and cut in the middle.
 * Rules change, are attached and detached; persons hold, read, delete, restore and take snapshots
 * of the copies; the receiver dies at any moment; the sender deletes what it has sent, sends old
 * ones again, goes on from a backup, and its clock goes wrong, as the receiver's does.
 *
 * Judged after each event of the receiver, by archive_model.c: what goes by itself is what the
 * rules do not keep, as all is at that moment; when all is quiet, all of that has gone; nothing
 * else goes or comes; and what is there holds what it held at the sender.
 *
 * Usage: sim_archive --seeds A..B [--jobs N] | --mutant N. One line about the counts, or the seeds
 * that failed.
 */
#include "tests/sim/archive.h"

#include "storage/rt/log_event.h"

#define ROUNDS 90u

int vstore_mutant;
struct archive_totals totals;

static const char *work_do(void (*work)(struct store *store, struct store_work *work),
			   struct store_work *ret)
{
	enter(&w.to);
	*ret = (struct store_work){.op.done = op_done};
	op_start();
	work(w.to.store, ret);
	op_wait();
	return w.failed;
}

static const char *begin(uint64_t seed)
{
	struct store_make_options make = {.log_bytes = 8 * MIB};
	struct volume_options options = {.size_bytes = VOLUME_BYTES};
	struct domain_info *infos;
	struct admin_op op;
	size_t count;
	char sentence[SENTENCE_BYTES];
	uint8_t key[64];
	const char *failed = NULL;
	sim_backup_free(w.backup.disk);
	sim_backup_free(w.present.disk);
	memset(&w, 0, sizeof w);
	w.from.sim = sim_new(seed ^ 0xa4c41e);
	w.to.sim = sim_new(seed);
	sim_process_stays(w.to.sim);
	w.from.env = sim_env(w.from.sim);
	w.to.env = sim_env(w.to.sim);
	for (struct end *end = &w.from; end; end = end == &w.from ? &w.to : NULL) {
		enter(end);
		assert(store_make(end->env, "store", &make, sentence) == 0);
		if ((failed = open_end(end)))
			return failed;
	}
	enter(&w.from);
	assert(store_domains(w.from.store, &infos, &count) == 0 && count == 1);
	assert(store_domain_key(w.from.store, infos[0].uuid, key) == 0);
	free(infos);
	for (unsigned i = 0; i < COPIES && !failed; i++) {
		store_volume_create(w.from.store, from_op(&op), originals[i], &options);
		failed = from_must(&op);
	}
	store_domain_add(w.to.store, op_begin(&op), "h1.local", key);
	if (failed || !op_wait())
		return failed ? failed : w.failed;
	for (unsigned i = 0; i < POLICIES; i++) {
		struct policy_rules rules = {.keep[KEEP_LAST] = 3};
		w.law.keep[i][KEEP_LAST] = 3;
		store_policy_set(w.to.store, op_begin(&op), policy_names[i], &rules);
		if (!op_wait())
			return w.failed;
	}
	return NULL;
}

/* All that the rules do not keep has gone. */
static const char *settle(void)
{
	static bool goes[ITEMS_MAX];
	unsigned life = w.life;
	if (w.quiet_needs_telling)
		policies_changed(w.policies);
	w.quiet_needs_telling = false;
	do { /* they look every 5 s */
		if (archive_pass(20 * NSEC_PER_SEC) || w.life != life)
			return w.failed;
	} while (w.came_ns + 12 * NSEC_PER_SEC > env_now_ns(w.to.env));
	for (unsigned copy = 0; copy < COPIES; copy++) {
		archive_goes(w.items, w.item_count, &w.law, copy, env_wall_ns(w.to.env), goes);
		for (size_t i = 0; i < w.item_count; i++)
			if (goes[i])
				FAIL("%s is still there", full_name(&w.items[i]));
		totals.settled += w.law.policy[copy] != 0;
	}
	return NULL;
}

/* Each is wrong for a while, and then is as before. */
static const char *clocks_move(void)
{
	if (pick(12) == 0) {
		int64_t off = (int64_t)pick(900 * DAY_NS) - (int64_t)(450 * DAY_NS);
		off = w.sender_off ? -w.sender_off : off;
		sim_clock_move(w.from.sim, 0, off);
		w.sender_off += off;
		totals.sender_clock++;
	}
	if (pick(20) == 0) {
		while (!policies_idle(w.policies))
			if (archive_step())
				return w.failed;
		int64_t off = pick(2) ? (int64_t)pick(40 * DAY_NS)
				      : (int64_t)DAY_NS - (int64_t)env_wall_ns(w.to.env);
		off = w.receiver_off ? -w.receiver_off : off;
		sim_clock_move(w.to.sim, 0, off);
		w.receiver_off += off;
		w.quiet_needs_telling = true;
		totals.receiver_clock++;
	}
	return NULL;
}

static const char *sender_round(void)
{
	const char *failed = NULL;
	from_follow();
	for (unsigned copy = 0; copy < COPIES && !failed; copy++)
		if (pick(3))
			failed = from_take(copy);
	if (!failed && pick(10) == 0 && w.taken_count) {
		struct taken *taken = &w.taken[pick(w.taken_count)];
		if (taken->there)
			failed = from_delete(taken);
	}
	if (!failed && pick(w.present.disk ? 5 : 10) == 0)
		failed = from_restart();
	for (unsigned copy = 0; copy < COPIES && !failed; copy++)
		if (pick(8))
			failed = send_one(copy);
	return failed;
}

static const char *round_one(void)
{
	static struct store_work work;
	const char *failed = sender_round();
	for (unsigned n = (unsigned)pick(3); !failed && n; n--)
		failed = archive_pass(pick(6 * NSEC_PER_SEC));
	for (unsigned n = (unsigned)pick(3); !failed && n; n--)
		failed = change_one();
	if (!failed && pick(5) == 0) {
		struct item *item = item_pick(true);
		if (item && item->taken)
			failed = read_one(item, (unsigned)pick(4) + 1);
	}
	if (w.viewed && w.viewed_rounds-- == 0) {
		totals.used_through++;
		view_close();
	}
	if (!failed && pick(12) == 0) {
		w.crash_in = 1 + (unsigned)pick(300);
		failed = archive_pass(10 * NSEC_PER_SEC);
	}
	if (!failed && pick(12) == 0) {
		failed = work_do(store_gc, &work);
		totals.collected++;
	}
	if (!failed && pick(4) == 0)
		failed = settle();
	if (!failed)
		failed = clocks_move();
	for (size_t i = 0; i < w.item_count; i++) /* what is to come begins to count */
		w.quiet_needs_telling |=
			w.items[i].here && w.items[i].taken_ns > env_wall_ns(w.to.env) + HOUR_NS;
	sim_clock_move(w.to.sim, pick(pick(3) ? 3 * HOUR_NS : 2 * DAY_NS), 0);
	return failed;
}

static const char *end(void)
{
	static struct store_work work;
	const char *failed = NULL;
	w.crash_in = 0;
	w.ending = true;
	view_close();
	for (unsigned i = 0; i < COPIES; i++)
		while (w.wires[i].active)
			if (archive_step())
				return w.failed;
	policies_stop(w.policies);
	while (!policies_idle(w.policies))
		if (archive_step())
			return w.failed;
	for (size_t i = 0; i < w.item_count && !failed; i++)
		if (w.items[i].here && w.items[i].taken && !w.items[i].cut)
			failed = read_one(&w.items[i], 0);
	view_close();
	if (!failed)
		failed = work_do(store_check, &work);
	if (!failed && work.damaged)
		failed = "the receiver's store is damaged";
	enter(&w.to);
	policies_free(w.policies);
	if (!failed && store_close(w.to.store) < 0)
		failed = "the receiver cannot be closed";
	enter(&w.from);
	if (!failed && store_close(w.from.store) < 0)
		failed = "the sender cannot be closed";
	return failed;
}

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	const char *failed = begin(seed);
	for (unsigned i = 0; i < ROUNDS && !failed; i++)
		failed = round_one();
	if (!failed)
		failed = end();
	*ret_trace = sim_trace(w.from.sim) * 31 + sim_trace(w.to.sim);
	sim_free(w.from.sim);
	sim_free(w.to.sim);
	totals.seeds++;
	return failed;
}

#define COUNT(name) #name, totals.name, false
#define RARE(name) #name, totals.name, true
static int totals_tell(uint64_t seeds)
{
	const struct seeds_count counts[] = {
		{COUNT(seeds)},		 {COUNT(taken)},	   {COUNT(received)},
		{COUNT(late)},		 {COUNT(again)},	   {COUNT(ahead)},
		{COUNT(removed)},	 {COUNT(groups)},	   {COUNT(removed_amid)},
		{COUNT(raced)},		 {COUNT(settled)},	   {COUNT(persons)},
		{COUNT(held)},		 {COUNT(deleted)},	   {COUNT(restored)},
		{COUNT(read)},		 {COUNT(used_through)},	   {COUNT(cuts)},
		{COUNT(cut_wires)},	 {COUNT(crashes)},	   {COUNT(crashed_changes)},
		{RARE(came_back)},	 {RARE(undone)},	   {COUNT(collected)},
		{COUNT(sender_deleted)}, {COUNT(sender_restored)}, {COUNT(refused)},
		{COUNT(sender_clock)},	 {COUNT(receiver_clock)}};
	return seeds_counts_tell(counts, sizeof counts / sizeof *counts, seeds, 30);
}

int main(int argc, char **argv)
{
	const struct seeds seeds = {.program = "sim_archive",
				    .run = seed_run,
				    .totals = &totals,
				    .totals_bytes = sizeof totals,
				    .tell = totals_tell,
				    .mutant = &vstore_mutant,
				    .mutant_seeds = 100};
	log_level_set(0);
	return seeds_main(&seeds, argc, argv);
}
