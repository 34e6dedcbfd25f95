/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes and goes, judged from outside by rules of its own: a policy's snapshot may go to the
 * trash when enough newer ones in other hours and days are there, or a person said so; held ones
 * and those whose date is to come never; from the trash, after its delay by the time for which the
 * store was open, or when a person said so. What is there holds what the volume was.
 */
#include "tests/sim/week.h"

#include <stdio.h>
#include <stdlib.h>

#define PERSONS_MAX 5u /* of a person, at a time */
#define HELD_MAX 2u

static uint64_t print_of(const uint8_t *data)
{
	uint64_t hash = 0xcbf29ce484222325u, word;
	for (unsigned i = 0; data && i < BLOCK_BYTES; i += 8) {
		memcpy(&word, data + i, 8);
		hash = (hash ^ word) * 0x100000001b3u;
		hash ^= hash >> 29;
	}
	return hash;
}

static uint64_t print_of_read(const uint8_t *data)
{
	static const uint8_t zeros[BLOCK_BYTES];
	return print_of(memcmp(data, zeros, BLOCK_BYTES) == 0 ? NULL : data);
}

/* ---- what was there, and what is ---- */

static struct seen *seen_find(struct world *world, uint32_t number)
{
	for (unsigned i = world->seen_count; i-- > 0;)
		if (world->seen[i].number == number)
			return &world->seen[i];
	return NULL;
}

/* Enough newer ones of its volume in other hours and days were there. */
static bool rules_let_go(const struct world *world, const struct seen *seen)
{
	unsigned hours = 0, days = 0;
	uint64_t hour = seen->created_ns / HOUR_NS, day = seen->created_ns / DAY_NS;
	uint64_t last_hour = hour, last_day = day;
	bool same_hour = false, same_day = false;
	for (const struct seen *at = seen + 1; at < world->seen + world->seen_count; at++) {
		if (at->volume != seen->volume || !at->policys)
			continue;
		same_hour |= at->created_ns / HOUR_NS == hour;
		same_day |= at->created_ns / DAY_NS == day;
		hours += at->created_ns / HOUR_NS != last_hour;
		days += at->created_ns / DAY_NS != last_day;
		last_hour = at->created_ns / HOUR_NS;
		last_day = at->created_ns / DAY_NS;
	}
	return seen->policys && (same_hour || hours >= KEEP_HOURS) &&
	       (same_day || days >= KEEP_DAYS);
}

static bool kept(const struct world *world, const struct seen *seen)
{
	return seen->held || seen->retained_ns > world_open_ns(world);
}

static void seen_add(struct world *world, const struct snapshot_info *info)
{
	if (world->seen_count == SEEN_MAX)
		abort();
	struct seen *seen = &world->seen[world->seen_count++];
	*seen = (struct seen){.number = info->number,
			      .volume = info->volume_number == world->volume_numbers[1],
			      .created_ns = info->created_wall_ns,
			      .policys = info->policy == world->policy,
			      .known = world->calm,
			      .live_ns = world_open_ns(world)};
	snprintf(seen->name, sizeof seen->name, "%s@%s", info->volume, info->name);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		const struct version *newest = world->guests.model.blocks[seen->volume][b].newest;
		seen->known &= newest->answered > 0;
		seen->print[b] = print_of(newest->data);
	}
	week_totals.snapshots++;
}

static const char *seen_judge(struct world *world, struct seen *seen,
			      const struct snapshot_info *info)
{
	uint64_t open = world_open_ns(world);
	if (info && !info->in_trash) {
		if (seen->state == SEEN_GONE)
			FAIL("%s was purged, and is there again", seen->name);
		seen->state = SEEN_LIVE;
		seen->by_person = false;
		seen->live_ns = open;
		seen->held = info->hold_count;
		return NULL;
	}
	if (seen->state == SEEN_GONE && info)
		FAIL("%s was purged, and is in the trash again", seen->name);
	if (seen->state == SEEN_LIVE) {
		if (kept(world, seen))
			FAIL("%s is held or retained, and is gone", seen->name);
		if (!seen->by_person && !rules_let_go(world, seen))
			FAIL("%s was removed early", seen->name);
		seen->state = SEEN_TRASH;
		week_totals.removed++;
	}
	if (info || seen->state == SEEN_GONE)
		return NULL;
	if (!seen->purged_by_person && open - seen->live_ns < TRASH_NS)
		FAIL("%s was purged %llu s after it was there last", seen->name,
		     (unsigned long long)((open - seen->live_ns) / NSEC_PER_SEC));
	week_totals.purged_by_time += !seen->purged_by_person;
	seen->state = SEEN_GONE;
	return NULL;
}

static int older_first(const void *a, const void *b)
{
	uint32_t left = ((const struct snapshot_info *)a)->number;
	uint32_t right = ((const struct snapshot_info *)b)->number;
	return left > right ? 1 : left < right ? -1 : 0;
}

const char *snapshots_look(struct world *world)
{
	struct snapshot_info *live, *trash, *all;
	size_t live_count, trash_count;
	const char *failed = NULL;
	if (store_snapshots(world->store, false, &live, &live_count) < 0 ||
	    store_snapshots(world->store, true, &trash, &trash_count) < 0)
		FAIL("there is no list of snapshots");
	size_t count = live_count + trash_count, next = 0;
	all = calloc(count + 1, sizeof *all);
	memcpy(all, live, live_count * sizeof *all);
	memcpy(all + live_count, trash, trash_count * sizeof *all);
	qsort(all, count, sizeof *all, older_first);
	for (size_t i = 0; i < count; i++)
		if (!seen_find(world, all[i].number))
			seen_add(world, &all[i]);
	for (unsigned i = 0; i < world->seen_count && !failed; i++) {
		struct seen *seen = &world->seen[i];
		while (next < count && all[next].number < seen->number)
			next++;
		bool there = next < count && all[next].number == seen->number;
		failed = seen_judge(world, seen, there ? &all[next] : NULL);
	}
	world->calm = true;
	free(all);
	free(live);
	free(trash);
	return failed;
}

/* ---- what one holds ---- */

const char *snapshot_read(struct world *world, struct seen *seen)
{
	static uint8_t image[BLOCKS * BLOCK_BYTES] __attribute__((aligned(4096)));
	struct view *view;
	int res = store_view_open(world->store, seen->name, &view);
	if (res == -ENOENT || res == -EBUSY)
		return NULL; /* it went since the last look, which judges that */
	if (res < 0)
		FAIL("%s: %s", seen->name, vs_strerror(res));
	static bool unreadable[BLOCKS];
	res = guests_read(&world->guests, view, 0, BLOCKS, image);
	if (world->rotten)
		guests_read_each(&world->guests, view, 0, BLOCKS, image, unreadable);
	store_view_close(view);
	if (res < 0 && !world->rotten)
		FAIL("%s: %s", seen->name, vs_strerror(res));
	for (uint32_t b = 0; b < BLOCKS; b++) {
		if (unreadable[b])
			continue;
		uint64_t print = print_of_read(image + b * (size_t)BLOCK_BYTES);
		if (seen->known && print != seen->print[b])
			FAIL("%s, block %u: it is not what the volume was", seen->name, b);
		seen->print[b] = print;
	}
	seen->known = true;
	week_totals.contents++;
	return NULL;
}

struct seen *snapshot_some(struct world *world, enum seen_state state)
{
	unsigned count = 0, which;
	for (unsigned i = 0; i < world->seen_count; i++)
		count += world->seen[i].state == state;
	if (!count)
		return NULL;
	which = (unsigned)sim_random(world->sim, count);
	for (unsigned i = 0;; i++)
		if (world->seen[i].state == state && which-- == 0)
			return &world->seen[i];
}

/* ---- what a person does ---- */

static const char *person_takes(struct world *world)
{
	struct admin_op op;
	char name[SNAP_NAME_ROOM];
	const char *names[] = {name};
	unsigned mine = 0;
	for (unsigned i = 0; i < world->seen_count; i++)
		mine += world->seen[i].state == SEEN_LIVE && !world->seen[i].policys;
	if (mine >= PERSONS_MAX)
		return NULL;
	snprintf(name, sizeof name, "%c@by-hand-%u", 'a' + (int)sim_random(world->sim, VOLUMES),
		 world->seen_count);
	store_snap_create(world->store, change(&op), names, 1);
	if (change_end(world, &op) < 0 && op.op.res != -EEXIST && !world->full)
		FAIL("%s was not taken: %s", name, op.sentence);
	return NULL;
}

static const char *person_deletes(struct world *world)
{
	struct seen *seen = snapshot_some(world, SEEN_LIVE);
	struct admin_op op;
	if (!seen)
		return NULL;
	bool keep = kept(world, seen), dated = seen->retained_ns;
	seen->by_person = true;
	store_snap_delete(world->store, change(&op), seen->name);
	int res = change_end(world, &op);
	if (res == 0 && keep)
		FAIL("%s is held or retained, and could be deleted", seen->name);
	week_totals.refused += res == -VS_ERETAINED;
	/* Its age is less than ours: it may not know yet that the date is over. */
	if (res < 0 && !keep && !dated && res != -ENOENT && !world->full)
		FAIL("%s could not be deleted: %s", seen->name, op.sentence);
	if (res < 0)
		seen->by_person = false;
	return NULL;
}

static void person_restores(struct world *world)
{
	struct seen *seen = snapshot_some(world, SEEN_TRASH);
	struct admin_op op;
	if (!seen)
		return;
	store_trash_restore(world->store, change(&op), seen->number, NULL);
	week_totals.restored += change_end(world, &op) == 0; /* it may be gone just now */
}

static void person_purges(struct world *world)
{
	struct seen *seen = snapshot_some(world, SEEN_TRASH);
	struct admin_op op;
	if (!seen)
		return;
	seen->purged_by_person = true;
	store_trash_purge(world->store, change(&op), seen->number);
	if (change_end(world, &op) == 0)
		week_totals.purged_by_hand++;
	else
		seen->purged_by_person = false;
}

static void person_holds(struct world *world)
{
	struct seen *seen = snapshot_some(world, SEEN_LIVE);
	struct admin_op op;
	unsigned held = 0;
	for (unsigned i = 0; i < world->seen_count; i++)
		held += world->seen[i].state == SEEN_LIVE && world->seen[i].held;
	for (unsigned i = 0; i < world->seen_count && held >= HELD_MAX; i++)
		if (world->seen[i].state == SEEN_LIVE && world->seen[i].held) {
			store_snap_release(world->store, change(&op), world->seen[i].name, "audit");
			world->seen[i].held = change_end(world, &op) < 0;
			return;
		}
	if (!seen || seen->held)
		return;
	store_snap_hold(world->store, change(&op), seen->name, "audit");
	seen->held = change_end(world, &op) == 0;
	week_totals.held += seen->held;
}

static void person_retains(struct world *world)
{
	struct seen *seen = snapshot_some(world, SEEN_LIVE);
	struct admin_op op;
	uint64_t hours = 8 + sim_random(world->sim, 24);
	if (!seen || seen->retained_ns)
		return;
	uint64_t from = world_open_ns(world);
	store_snap_retain(world->store, change(&op), seen->name,
			  env_wall_ns(sim_env(world->sim)) + hours * HOUR_NS);
	if (change_end(world, &op) < 0)
		return;
	seen->retained_ns = from + hours * HOUR_NS;
	week_totals.retained++;
}

const char *snapshots_person(struct world *world)
{
	switch (sim_random(world->sim, 8)) {
	case 0:
	case 1:
		return person_takes(world);
	case 2:
	case 3:
		return person_deletes(world);
	case 4:
		person_restores(world);
		break;
	case 5:
		person_purges(world);
		break;
	case 6:
		person_holds(world);
		break;
	default:
		person_retains(world);
	}
	return NULL;
}
