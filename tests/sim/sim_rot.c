/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bit flips in a store at rest, at a hundred places one after the other: in records of chunks
 * and of map nodes (their headers, hashes and frames), in the headers, directories and trailers of
 * segments, in both checkpoints and both copies of the superblock. Each must be found by one pass
 * of the scrub, with every volume and snapshot that it affects named; and after a crash and an
 * opening nothing is read that is not what was written.
 *
 * Each place is a child of the process that has the store.
 *
 * Usage: sim_rot FIRST..LAST: a store for each seed.
 */
#include "tests/sim/week.h"

#include "storage/rt/log_event.h"
#include "storage/store/store_int.h"
#include "storage/store/store_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int vstore_mutant;
struct totals week_totals;

#define HOURS 12u
#define PLACES_MAX 256u
#define LINES_MAX 400u

enum kind { CHUNK, NODE, HEADER, DIRECTORY, TRAILER, CHECKPOINT, SUPERBLOCK, KINDS };
static const char *const kinds[KINDS] = {"chunk",   "map node",	  "segment header", "directory",
					 "trailer", "checkpoint", "superblock"};

static struct world world;
static struct place {
	enum kind kind;
	char file[32];
	uint64_t offset;
	struct id id; /* of a record */
} places[PLACES_MAX];
static unsigned place_count;
static char lines[LINES_MAX][SENTENCE_BYTES];
static unsigned line_count;

static void place_add(enum kind kind, const char *file, uint64_t offset, const struct id *id)
{
	if (place_count == PLACES_MAX)
		return;
	struct place *place = &places[place_count++];
	*place = (struct place){.kind = kind, .offset = offset};
	snprintf(place->file, sizeof place->file, "%s", file);
	if (id)
		place->id = *id;
}

/* ---- where ---- */

/* `count` live records of a type; somewhere in each, but not in what fills it up. */
static void records_choose(uint8_t type, unsigned count)
{
	const struct scan *scan = &world.scan;
	for (unsigned tries = 0; count && tries < 100000; tries++) {
		const struct scan_segment *segment =
			&scan->segments[sim_random(world.sim, scan->segment_count)];
		if (!segment->record_count)
			continue;
		const struct scan_record *record =
			&segment->records[sim_random(world.sim, segment->record_count)];
		char name[32];
		if (!record->live || record->type != type || record->bytes <= 128)
			continue;
		snprintf(name, sizeof name, "%016llx", (unsigned long long)segment->id);
		place_add(type == RECORD_CHUNK ? CHUNK : NODE, name,
			  record->offset64 * 64ull + sim_random(world.sim, record->bytes - 64),
			  &record->id);
		count--;
	}
}

static void footers_choose(unsigned count)
{
	const struct scan *scan = &world.scan;
	for (unsigned tries = 0; count && tries < 100000; tries++) {
		const struct scan_segment *segment =
			&scan->segments[sim_random(world.sim, scan->segment_count)];
		uint64_t bytes, directory[2];
		char name[32];
		if (!segment->sealed || !segment->record_count)
			continue;
		snprintf(name, sizeof name, "%016llx", (unsigned long long)segment->id);
		const uint8_t *data = sim_file_look(world.sim, name, &bytes);
		memcpy(directory, data + bytes - BLOCK_BYTES + 16, sizeof directory);
		place_add(HEADER, name, sim_random(world.sim, BLOCK_BYTES), NULL);
		place_add(DIRECTORY, name, directory[0] + sim_random(world.sim, directory[1]),
			  NULL);
		place_add(TRAILER, name, bytes - BLOCK_BYTES + sim_random(world.sim, BLOCK_BYTES),
			  NULL);
		count--;
	}
}

static void others_choose(void)
{
	for (unsigned i = 0; i < 2; i++) {
		const char *name = i ? "checkpoint.1" : "checkpoint.0";
		uint64_t bytes, body;
		const uint8_t *data = sim_file_look(world.sim, name, &bytes);
		memcpy(&body, data + 64, sizeof body);
		place_add(CHECKPOINT, name, sim_random(world.sim, BLOCK_BYTES), NULL);
		place_add(CHECKPOINT, name, BLOCK_BYTES + sim_random(world.sim, body), NULL);
		place_add(SUPERBLOCK, "superblock",
			  i * SUPERBLOCK_COPY_OFFSET + sim_random(world.sim, SUPERBLOCK_BYTES),
			  NULL);
	}
}

/* ---- one place ---- */

static void line_keep(struct store_work *work, const char *line)
{
	if (line_count < LINES_MAX)
		snprintf(lines[line_count++], SENTENCE_BYTES, "%s", line);
}

static bool named(const char *name)
{
	size_t length = strlen(name);
	for (unsigned i = 0; i < line_count; i++)
		if (strncmp(lines[i], name, length) == 0 &&
		    (lines[i][length] == ',' || lines[i][length] == ':'))
			return true;
	return false;
}

static const char *affected_named(const struct place *place)
{
	const struct store *store = world.store;
	char name[SNAP_NAME_ROOM];
	for (uint32_t i = 0; i < store->volume_count; i++)
		if (scan_names(&world.scan, &store->volumes[i]->top, &place->id) &&
		    !named(store->volumes[i]->name))
			FAIL("volume %s is affected, and not named", store->volumes[i]->name);
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		snprintf(name, sizeof name, "%s@%s",
			 volume_by_number(store, snapshot->volume)->name, snapshot->name);
		if (snapshot->sealed && scan_names(&world.scan, &snapshot->top, &place->id) &&
		    !named(name))
			FAIL("%s is affected, and not named", name);
	}
	return NULL;
}

static const char *place_run(const struct place *place)
{
	struct store_work work = {.report = line_keep};
	sim_flip(world.sim, place->file, place->offset);
	world.rotten = true;
	env_wait_prepare(&work.op);
	store_scrub(world.store, &work, false);
	if (env_wait(sim_env(world.sim), &work.op) < 0)
		FAIL("the scrub failed: %s", work.sentence);
	if (!work.damaged || !line_count)
		FAIL("one pass of the scrub does not find it");
	const char *failed = place->kind <= NODE ? affected_named(place) : NULL;
	if (!failed)
		failed = world_crash(&world, false, 0);
	for (unsigned i = 0; i < world.seen_count && !failed; i++)
		if (world.seen[i].state == SEEN_LIVE)
			failed = snapshot_read(&world, &world.seen[i]);
	return failed;
}

/* ---- the store ---- */

static const char *store_live(uint64_t seed)
{
	bool flushed;
	const char *failed = world_make(&world, seed);
	for (; world.hour < HOURS && !failed; world.hour++) {
		failed = world_guests(&world, 30);
		if (!failed)
			failed = world_settle(&world, &flushed);
		if (!failed)
			failed = snapshots_look(&world);
		if (!failed) /* until it is folded, and the policy had its turn */
			failed = world_pass(&world, 40 * NSEC_PER_SEC, HOUR_NS - 40 * NSEC_PER_SEC);
		if (!failed)
			failed = snapshots_look(&world);
	}
	if (!failed)
		failed = world_restart(&world); /* all segments are sealed */
	if (!failed)
		failed = world_pass(&world, 1300 * NSEC_PER_SEC, 0); /* two checkpoints */
	if (!failed)
		failed = snapshots_look(&world);
	for (unsigned i = 0; i < world.seen_count && !failed; i++)
		if (world.seen[i].state == SEEN_LIVE) /* what each holds is known */
			failed = snapshot_read(&world, &world.seen[i]);
	if (!failed)
		failed = scan_run(&world.scan, world.store);
	return failed;
}

static int seed_run(uint64_t seed, unsigned counts[KINDS])
{
	const char *failed = store_live(seed);
	place_count = 0;
	if (failed) {
		printf("seed %llu: %s\n", (unsigned long long)seed, failed);
		return 1;
	}
	records_choose(RECORD_CHUNK, 60);
	records_choose(RECORD_NODE, 22);
	footers_choose(4);
	others_choose();
	for (unsigned i = 0; i < place_count; i++) {
		int status;
		fflush(stdout);
		pid_t child = fork();
		if (child == 0) {
			failed = place_run(&places[i]);
			if (failed)
				printf("seed %llu, %s, %s at %llu: %s\n", (unsigned long long)seed,
				       kinds[places[i].kind], places[i].file,
				       (unsigned long long)places[i].offset, failed);
			fflush(stdout);
			_exit(failed != NULL);
		}
		if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
			return 1;
		counts[places[i].kind]++;
	}
	world_free(&world);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned long long first = 1, last = 1;
	unsigned counts[KINDS] = {0}, all = 0;
	log_level_set(0); /* what is injected here is no news */
	if (argc > 1 && sscanf(argv[1], "%llu..%llu", &first, &last) != 2)
		return 2;
	for (uint64_t seed = first; seed <= last; seed++)
		if (seed_run(seed, counts))
			return 1;
	printf("each found by one pass:");
	for (unsigned k = 0; k < KINDS; k++) {
		printf(" %u in a %s%s", counts[k], kinds[k], k + 1 < KINDS ? "," : "");
		all += counts[k];
		if (!counts[k])
			return 1;
	}
	printf("; %u places\n", all);
	return all < 100 * (last - first + 1);
}
