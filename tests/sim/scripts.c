/* SPDX-License-Identifier: Apache-2.0 */
/* The scripts that points.c crashes: each does one kind of thing, as shortly as it can be done. */
#include "storage/store/behind.h"
#include "storage/store/index.h"
#include "storage/store/map.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"
#include "tests/sim/points.h"

#define SMALL 64u  /* blocks: 4 chunks */
#define LARGE 768u /* 3 MiB: more than a segment of the simulation holds */

static void one_volume(struct bed *bed)
{
	bed_volume(bed, 0, "a", SMALL);
}

static void two_volumes(struct bed *bed)
{
	bed_volume(bed, 0, "a", SMALL);
	bed_volume(bed, 1, "b", SMALL);
}

static void make(struct bed *bed)
{
	bed_make(bed);
	bed_open(bed);
	bed_volume(bed, 0, "a", SMALL);
	bed_write(bed, 0, 1, 2, 10, 0);
	bed_close(bed);
	bed_open(bed);
}

/* Blocks, parts of blocks, zeros, two in flight, a flush and a write that asks for durability. */
static void write(struct bed *bed)
{
	bed_write(bed, 0, 1, 2, 10, 0);
	bed_write(bed, 0, 5, 1, 20, 0);
	bed_wait(bed);
	bed_write_part(bed, 0, 5, 100, 1000, 30);
	bed_flush(bed);
	bed_write(bed, 0, 1, 1, 40, 0);
	bed_wait(bed);
	bed_write(bed, 0, 9, 3, 50, REQUEST_FUA);
	bed_write(bed, 0, 30, 1, 60, 0);
	bed_wait(bed);
	bed_zero(bed, 0, 2, 1);
	bed_wait(bed);
	bed_write(bed, 0, 2, 1, 70, REQUEST_FUA);
	bed_wait(bed);
}

/* Several unsynced commits before one that is durable by itself. */
static void unsynced(struct bed *bed)
{
	for (unsigned i = 0; i < 12; i++) { /* the first ones may be made durable one by one */
		bed_write(bed, 0, 3 * i, 1, 10 * i, 0);
		bed_wait(bed);
	}
	bed_write(bed, 0, 40, 1, 90, REQUEST_FUA);
	bed_write(bed, 0, 41, 1, 91, 0);
	bed_wait(bed);
	bed_write(bed, 0, 0, 1, 92, 0);
	bed_flush(bed);
}

/* Whole chunks go to a segment; one of them twice. */
static void direct(struct bed *bed)
{
	bed_write(bed, 0, 0, 32, RANDOM, 0);
	bed_wait(bed);
	bed_write(bed, 0, 32, 16, RANDOM, REQUEST_FUA);
	bed_write(bed, 1, 16, 16, RANDOM + 5, 0);
	bed_wait(bed);
	bed_write(bed, 1, 0, 16, RANDOM, 0);
	bed_flush(bed);
	bed_zero(bed, 0, 0, 48);
	bed_write(bed, 1, 18, 1, 5, 0);
	bed_flush(bed);
}

/* A chunk that is stored already, or nearly so: whoever finds it waits for it all the same. */
static void twice(struct bed *bed)
{
	for (unsigned n = 0; n < 4; n++) {
		bed_write(bed, 0, 16 * n, 16, RANDOM + 100 * n, 0);
		bed_steps(bed, 2 + n);
		bed_write(bed, 1, 16 * n, 16, RANDOM + 100 * n, 0);
		bed_wait(bed);
	}
	bed_flush(bed);
}

/* Parts of one block side by side: the second one is on top of the first. */
static void parts(struct bed *bed)
{
	bed_write(bed, 0, 5, 1, 10, 0);
	bed_wait(bed);
	bed_fold(bed); /* so that the parts have to read it */
	bed_write_part(bed, 0, 5, 100, 200, 20);
	bed_write_part(bed, 0, 5, 1000, 300, 30);
	bed_write_part(bed, 0, 5, 2000, 400, 40);
	bed_flush(bed);
	bed_write_part(bed, 0, 6, 7, 1, 50);
	bed_write_part(bed, 0, 6, 8, 1, 60);
	bed_flush(bed);
}

static void fold(struct bed *bed)
{
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_write(bed, 0, 20, 20, 20, 0);
	bed_wait(bed);
	bed_fold(bed);
	bed_write(bed, 0, 2, 1, 30, 0);
	bed_zero(bed, 0, 16, 16);
	bed_wait(bed);
	bed_fold(bed);
	bed_flush(bed);
}

/* A clean end and an opening: seals, checkpoints. */
static void checkpoint(struct bed *bed)
{
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_wait(bed);
	bed_close(bed);
	bed_open(bed);
	bed_write(bed, 0, 2, 3, 20, 0);
	bed_wait(bed);
	bed_fold(bed);
	bed_close(bed);
	bed_open(bed);
}

static bool checkpoint_in_cache(struct bed *bed, unsigned number)
{
	uint64_t bytes;
	const uint8_t *at = sim_file_look(bed->sim, checkpoint_file_name(number), &bytes);
	return at && checkpoint_whole(bed->store, number, at, bytes);
}

/* A kill amid the sync of the first checkpoint, which an opening writes: it is whole in a cache,
 * and the next opening finds it. */
static void killed_amid_checkpoint(struct bed *bed)
{
	const struct sim_crash_plan kill = {.fate = SIM_KEPT, .one = UINT32_MAX};
	while (!checkpoint_in_cache(bed, 1))
		bed_steps(bed, 1);
	if (checkpoint_generation(bed->store) != 0)
		bed_fail("the checkpoint was durable before the kill");
	sim_crash_planned(bed->sim, &kill);
	bed_open(bed);
	if (checkpoint_generation(bed->store) != 1)
		bed_fail("the opening did not find the checkpoint");
}

/* Its own checkpoint goes over the only one that was durable then. */
static void cached(struct bed *bed)
{
	bed_volume(bed, 0, "a", SMALL);
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_flush(bed);
	while (checkpoint_running(bed->store))
		bed_steps(bed, 1);
	if (checkpoint_generation(bed->store) != 2)
		bed_fail("the opening wrote no checkpoint");
}

static void snapshot(struct bed *bed)
{
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_write(bed, 1, 1, 3, 20, 0);
	bed_snapshot_pair(bed, 0, 0, "a@s", 1, "b@s");
	bed_write(bed, 0, 2, 1, 30, 0);
	bed_write(bed, 1, 2, 1, 40, 0);
	bed_flush(bed);
	bed_snapshot(bed, 2, 0, "a@t");
	bed_fold(bed);
	bed_write(bed, 0, 1, 1, 50, 0);
	bed_snapshot_delete(bed, 0);
	bed_flush(bed);
}

static void clone(struct bed *bed)
{
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_snapshot(bed, 0, 0, "a@s");
	bed_clone(bed, 0, 1, "b");
	bed_write(bed, 1, 2, 1, 20, 0);
	bed_write(bed, 0, 1, 1, 30, 0);
	bed_flush(bed);
	bed_fold(bed);
}

static void restore(struct bed *bed)
{
	bed_write(bed, 0, 1, 30, 10, 0);
	bed_snapshot(bed, 0, 0, "a@s");
	bed_write(bed, 0, 1, 3, 50, 0);
	bed_write(bed, 0, 40, 2, 60, 0);
	bed_wait(bed);
	bed_restore(bed, 0, 0);
	bed_write(bed, 0, 2, 1, 70, 0);
	bed_flush(bed);
}

static void grow(struct bed *bed)
{
	bed_write(bed, 0, 1, 3, 10, 0);
	bed_grow(bed, 0, 2 * SMALL);
	bed_write(bed, 0, SMALL + 1, 3, 20, 0);
	bed_wait(bed);
	bed_rename(bed, 0, "c");
	bed_write(bed, 0, SMALL + 2, 1, 30, 0);
	bed_flush(bed);
	bed_delete(bed, 0);
	bed_volume(bed, 0, "a", SMALL);
	bed_write(bed, 0, 1, 1, 40, 0);
	bed_flush(bed);
}

static void fill_large(struct bed *bed)
{
	bed_volume(bed, 0, "a", SMALL);
	bed_volume(bed, 1, "b", LARGE);
	for (uint32_t b = 0; b < LARGE; b += 64)
		bed_write(bed, 1, b, 64, RANDOM + 1000 * b, 0);
	bed_write(bed, 0, 0, 16, RANDOM + 77, 0);
	bed_flush(bed);
	bed_fold(bed);
}

/* A volume goes, and its segments with it; what lies beside it in them stays. */
static void collect(struct bed *bed)
{
	bed_delete(bed, 1);
	bed_purge(bed);
	bed_gc(bed);
	bed_write(bed, 0, 16, 16, RANDOM + 5000, 0);
	bed_flush(bed);
	bed_gc(bed);
}

/* Two volumes whose chunks lie side by side in the same segments. */
static void fill_mixed(struct bed *bed)
{
	bed_volume(bed, 0, "a", LARGE);
	bed_volume(bed, 1, "b", LARGE);
	for (uint32_t b = 0; b < 320; b += 16) {
		bed_write(bed, 0, b, 16, RANDOM + 1000 * b, 0);
		bed_write(bed, 1, b, 16, RANDOM + 1000000 + 1000 * b, 0);
	}
	bed_flush(bed);
	bed_fold(bed);
}

/* One of them goes: what the other has in half dead segments is moved. */
static void compact(struct bed *bed)
{
	bed_delete(bed, 1);
	bed_purge(bed);
	bed_gc(bed);
	bed_check(bed);
	bed_write(bed, 0, 0, 16, RANDOM + 1000000, 0); /* what was dropped comes back */
	bed_flush(bed);
	bed_gc(bed);
}

static void fill_segment(struct bed *bed)
{
	bed_volume(bed, 0, "a", LARGE);
	for (uint32_t b = 0; b < 400; b += 16)
		bed_write(bed, 0, b, 16, RANDOM + 1000 * b, 0);
	bed_flush(bed);
}

/* A segment becomes full and is sealed, the next one opens. */
static void seal(struct bed *bed)
{
	for (uint32_t b = 400; b < 592; b += 16) {
		bed_write(bed, 0, b, 16, RANDOM + 1000 * b, 0);
		if (b % 64 == 0)
			bed_wait(bed);
	}
	bed_flush(bed);
}

static void fill_log(struct bed *bed)
{
	bed_volume(bed, 0, "a", LARGE);
	for (unsigned round = 0; round < 11; round++) {
		for (uint32_t b = 1; b + 14 < LARGE; b += 64)
			bed_write(bed, 0, b, 14, 100000 * round + b, 0);
		bed_flush(bed);
	}
}

/* The ring's end: a pad, and commits over what was there. */
static void wrap(struct bed *bed)
{
	for (unsigned round = 11; round < 14; round++) {
		for (uint32_t b = 1; b + 14 < LARGE; b += 64)
			bed_write(bed, 0, b, 14, 100000 * round + b, 0);
		bed_flush(bed);
	}
}

#define HUGE 1152u

/* No space for a third segment. */
static void fill_disk(struct bed *bed)
{
	bed_volume(bed, 0, "a", HUGE);
	bed_pause(bed, NSEC_PER_SEC); /* the second one is made ahead */
	sim_disk_room_set(bed->sim, 64 * KIB);
	bed_pause(bed, 2 * NSEC_PER_SEC); /* the store sees it */
	bed->may_fail = true;
	for (uint32_t b = 0; b < 448; b += 64)
		bed_write(bed, 0, b, 64, RANDOM + 1000 * b, 0);
	bed_flush(bed);
	if (bed->failed_requests)
		bed_fail("the disk was full too early");
}

/* What is refused is refused before an answer. */
static void full(struct bed *bed)
{
	for (uint32_t b = 448; b < HUGE; b += 176) {
		bed_write(bed, 0, b, 160, RANDOM + 1000 * b, 0);
		bed_wait(bed);
	}
	bed_write(bed, 0, 3, 1, 5, 0);
	bed_flush(bed);
	if (!bed->failed_requests)
		bed_fail("the disk was not full");
	bed->may_fail = false; /* what was admitted can be folded */
	bed_fold(bed);
}

/* ---- races ---- */

/* Two volumes in the same segments, and what the second one had is garbage that nobody collected:
 * its chunks' values are RANDOM + 1000000 + 1000 * block. Nothing of it is in memory. */
static void fill_garbage(struct bed *bed)
{
	fill_mixed(bed);
	bed_zero(bed, 1, 0, 320);
	bed_flush(bed);
	bed_fold(bed);
	bed_close(bed);
	bed_open(bed);
}

static void write_again(struct bed *bed, unsigned first, unsigned count)
{
	for (unsigned c = first; c < first + count; c++)
		bed_write(bed, 0, 320 + 16 * c, 16, RANDOM + 1000000 + 16000 * c, 0);
}

/* So many steps, or as long as something waits: those that are left. */
static unsigned steps_take(struct bed *bed, const unsigned *waits, unsigned steps)
{
	for (; steps && *waits; steps--)
		bed_steps(bed, 1);
	return steps;
}

/* What is garbage is written once more, and found; then a collection begins. */
static bool found(struct bed *bed, unsigned steps)
{
	write_again(bed, 0, 4);
	steps = steps_take(bed, &bed->under_way, steps);
	bed_gc_begin(bed);
	bed_gc_end(bed);
	return steps == 0;
}

/* The other way round: a collection runs when it is written. */
static bool collected(struct bed *bed, unsigned steps)
{
	bed_gc_begin(bed);
	steps = steps_take(bed, &bed->gc_waits, steps);
	write_again(bed, 0, 2);
	bed_gc_end(bed);
	return steps == 0;
}

/* What is alive is read, and stored by another volume, while it is moved. */
static bool moved(struct bed *bed, unsigned steps)
{
	bed_gc_begin(bed);
	steps = steps_take(bed, &bed->gc_waits, steps);
	for (uint32_t b = 0; b < 128; b += 16) {
		bed_read(bed, 0, b, 16);
		bed_write(bed, 1, 400 + b, 16, RANDOM + 1000 * b, 0);
	}
	bed_gc_end(bed);
	return steps == 0;
}

/* A read of what is alive fails once; then it is moved, and read by a fold meanwhile. Seeds 3050
 * and 5260: the copy was taken for bad as well, was read before it was written, and so was lost. */
static bool failed_once(struct bed *bed, unsigned steps)
{
	bed_check(bed); /* then the index and the directories are in memory */
	bed->may_fail = bed->disk_failed = true;
	sim_faults_set(bed->sim, &(struct sim_faults){.read_error = 10000});
	for (uint32_t b = 0; b < 256; b += 16)
		bed_read(bed, 0, b, 16);
	bed_wait(bed);
	sim_faults_set(bed->sim, &(struct sim_faults){0});
	bed->may_fail = false;
	for (uint32_t b = 0; b < 256; b += 16)
		bed_write(bed, 0, b + 3, 1, b, 0);
	bed_wait(bed);
	bed_gc_begin(bed);
	steps = steps_take(bed, &bed->gc_waits, steps);
	bed_fold(bed);
	bed_gc_end(bed);
	return steps == 0;
}

/* The disk gives nothing when a store has just been opened: the index, the directories that would
 * mend it, the data. When it works again nothing may be lost, nor taken for lost by a fold. */
static bool failed_early(struct bed *bed, unsigned steps)
{
	bed->may_fail = bed->disk_failed = true;
	sim_faults_set(bed->sim, &(struct sim_faults){.read_error = 10000});
	for (uint32_t b = 0; b < 256; b += 16)
		bed_read(bed, 0, b, 16);
	steps = steps_take(bed, &bed->under_way, steps);
	sim_faults_set(bed->sim, &(struct sim_faults){0});
	bed_wait(bed);
	bed_pause(bed, 3 * NSEC_PER_SEC);
	bed->may_fail = false;
	bed_read(bed, 0, 0, 64);
	bed_wait(bed);
	for (uint32_t b = 0; b < 256; b += 16)
		bed_write(bed, 0, b + 3, 1, b, 0);
	bed_wait(bed);
	bed_fold(bed);
	return steps == 0;
}

#define SLOW_TRIES 8u

static void one_large(struct bed *bed)
{
	bed_volume(bed, 0, "a", LARGE);
}

/* A block is read from the log, slowly; the layer that had it is folded, and the log goes round
 * once: what is read may not be written over before it is read. */
static bool slow(struct bed *bed, unsigned steps)
{
	for (unsigned i = 0; i < steps; i++)
		(void)sim_random(bed->sim, 2); /* another delay each time */
	bed_write(bed, 0, 0, 1, RANDOM, 0);
	bed_flush(bed);
	sim_faults_set(bed->sim, &(struct sim_faults){.slow = 10000});
	bed_read(bed, 0, 0, 1);
	sim_faults_set(bed->sim, &(struct sim_faults){0});
	for (unsigned round = 0; round < 14; round++) {
		for (uint32_t b = 1; b + 14 < LARGE; b += 64)
			bed_write(bed, 0, b, 14, 100000 * round + b, 0);
		bed_pause(bed, 4 * NSEC_PER_SEC / 1000);
	}
	bed_flush(bed);
	return steps + 1 < SLOW_TRIES;
}

#define SCRUB_PERIOD_NS (60 * NSEC_PER_SEC)

static void scrub_crashing(struct bed *bed)
{
	struct store_counters counters;
	store_counters(bed->store, &counters);
	bed->damaged_before = counters.scrub_damaged > 0;
}

/* A place in the pass that is told too far on would leave records out, and the rot with them: until
 * the pass ends that was under way when the crash came, it was found, before or behind that. */
static void scrub_opened(struct bed *bed)
{
	struct store_counters counters;
	struct store_life begun, now;
	scrub_life(bed->store, &begun);
	for (now = begun; now.scrub_begun_ns == begun.scrub_begun_ns;
	     scrub_life(bed->store, &now)) {
		if (now.age_ns > begun.age_ns + 2 * SCRUB_PERIOD_NS)
			bed_fail("the scrub does not end its pass");
		bed_pause(bed, NSEC_PER_SEC);
	}
	store_counters(bed->store, &counters);
	if (!counters.scrub_damaged && !bed->damaged_before)
		bed_fail("the scrub ended its pass and has not found the rot");
}

/* Two volumes in the same segments; of the second one nothing is left, and a chunk that it had has
 * rotted. The scrub is to find that, and nobody else reads it. */
static void fill_rotten(struct bed *bed)
{
	struct id id;
	uint64_t places[INDEX_CANDIDATES_MAX];
	char name[32];
	fill_mixed(bed);
	if (map_lookup(bed->store, &bed->store->volumes[1]->top, 19, NULL, &id, NULL) != 0 ||
	    index_find(bed->store->index, &id, places) != 1)
		bed_fail("what is to rot was not found");
	segment_file_name(segment_of(bed->store, location_slot(places[0]))->id, name);
	bed_zero(bed, 1, 0, 320);
	bed_flush(bed);
	bed_fold(bed);
	bed_close(bed);
	sim_flip(bed->sim, name, location_offset64(places[0]) * UINT64_C(64) + 30000);
	bed->rotten = true;
	bed->scrub_period_ns = SCRUB_PERIOD_NS;
	bed->crashing = scrub_crashing;
	bed->opened = scrub_opened;
	bed_open(bed);
}

/* A pass of the scrub, with a checkpoint on its way at nearly every step of it. */
static void scrub(struct bed *bed)
{
	for (unsigned seconds = 0; seconds < 2 * SCRUB_PERIOD_NS / NSEC_PER_SEC; seconds++) {
		bed_pause(bed, NSEC_PER_SEC);
		for (unsigned steps = 0; !work_idle(bed->store); steps++) {
			if (!checkpoint_running(bed->store))
				checkpoint_want(bed->store);
			bed_steps(bed, 1);
		}
	}
}

static void two_volumes_followed(struct bed *bed)
{
	two_volumes(bed);
	bed_followed(bed, 0, "h1");
	bed_write(bed, 0, 0, 20, 10, 0);
	bed_flush(bed);
	bed_fold(bed);
	bed_snapshot(bed, 0, 0, "a@s");
}

/* A volume of ours becomes the copy of another host's, with what it had in a snapshot. */
static void yields(struct bed *bed)
{
	bed_write(bed, 0, 3, 2, 20, 0);
	bed_write(bed, 0, 32, 16, RANDOM, 0);
	bed_write(bed, 1, 3, 2, 30, 0);
	bed_wait(bed);
	bed_yield(bed, 1, 0, "h1");
	bed_write(bed, 1, 4, 2, 40, 0);
	bed_fold(bed);
	bed_gc(bed);
	bed_close(bed);
	bed_open(bed);
}

/* A copy that knows its original's policy is there. */
static void copy_told(struct bed *bed)
{
	two_volumes_followed(bed);
	bed_write(bed, 0, 3, 2, 20, 0);
	bed_wait(bed);
	bed_yield(bed, 1, 0, "h1");
}

/* There is the copy, which knows what was told and answered, and no policy; or the volume, with
 * one; and nothing between. */
static bool told_before;
static void policy_is_there(struct bed *bed)
{
	const struct volume *volume = volume_by_name(bed->store, "a");
	const struct volume *copy = volume_by_name(bed->store, "h1/a");
	uint32_t count = bed->store->policy_count;
	if (volume ? count != 1 || volume->policy != bed->store->policies[0].number ||
			     strcmp(bed->store->policies[0].is.name, "daily") != 0
		   : count != 0 || !copy || (told_before && strcmp(copy->home.name, "daily") != 0))
		bed_fail("of a copy that is recovered the policy is not there, or nothing but it");
}

static void recovers(struct bed *bed)
{
	bed->opened = policy_is_there;
	told_before = false;
	bed_told(bed, 0, "daily");
	told_before = true;
	bed_close(bed);
	bed_open(bed);
	bed_recover(bed, 0, "a");
	policy_is_there(bed);
	bed_write(bed, 0, 4, 2, 40, 0);
	bed_close(bed);
	bed_open(bed);
}

const struct script scripts[] = {
	{"make", NULL, make, true, NULL},
	{"write", one_volume, write, false, NULL},
	{"unsynced", one_volume, unsynced, false, NULL},
	{"direct", two_volumes, direct, false, NULL},
	{"twice", two_volumes, twice, false, NULL},
	{"parts", one_volume, parts, false, NULL},
	{"fold", one_volume, fold, false, NULL},
	{"checkpoint", one_volume, checkpoint, false, NULL},
	{"cached", killed_amid_checkpoint, cached, false, NULL},
	{"snapshot", two_volumes, snapshot, false, NULL},
	{"clone", one_volume, clone, false, NULL},
	{"restore", one_volume, restore, false, NULL},
	{"grow", one_volume, grow, false, NULL},
	{"collect", fill_large, collect, false, NULL},
	{"compact", fill_mixed, compact, false, NULL},
	{"seal", fill_segment, seal, false, NULL},
	{"wrap", fill_log, wrap, false, NULL},
	{"full", fill_disk, full, false, NULL},
	{"yield", two_volumes_followed, yields, false, NULL},
	{"recover", copy_told, recovers, false, NULL},
	{"found", fill_garbage, NULL, false, found},
	{"collected", fill_garbage, NULL, false, collected},
	{"moved", fill_garbage, NULL, false, moved},
	{"failed_once", fill_garbage, NULL, false, failed_once},
	{"failed_early", fill_garbage, NULL, false, failed_early},
	{"slow", one_large, NULL, false, slow},
	{"scrub", fill_rotten, scrub, false, NULL},
};
const unsigned script_count = sizeof scripts / sizeof *scripts;
