/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parts of the store that promise durability, in a world made of one seed, against what they
 * promised:
 *  - the log: after a kill every answered record is replayed, after a power cut every flushed one;
 * what is replayed is a beginning of what was appended, in order, with its payload; never anything
 * else;
 *  - a segment: after any crash every record that was waited for is found by the scan, and nothing
 * that is not whole. Usage: sim --seeds A..B [--jobs N] | --mutant N. One line about the counts, or
 * the seeds that failed.
 */
#include "proto/crc32c.h"
#include "proto/err.h"
#include "storage/store/log.h"
#include "storage/store/segment.h"
#include "tests/sim/seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

#define RING_BLOCKS (LOG_BYTES_MIN / BLOCK_BYTES)
#define LOG_OPS 700u
#define LIVES 4u
#define MODEL_MAX 4096u

static struct {
	uint64_t seeds, records, flushes, replays, cut, segments, segment_records;
	struct sim_counts faults;
} totals;

#define FAIL(...)                                                                                  \
	do {                                                                                       \
		snprintf(failure, sizeof failure, __VA_ARGS__);                                    \
		return failure;                                                                    \
	} while (0)
static char failure[200];

/* ---- the log ---- */

struct record {
	uint8_t op, flags;
	uint16_t bytes;
	uint32_t blocks;
	uint64_t number, life;
};

struct log_world {
	struct log_owner owner;
	struct sim *sim;
	struct env_file *file;
	struct log *log;
	struct log_options options;
	struct log_place checkpoint;
	uint64_t life;
	struct {
		uint64_t life;
		uint32_t blocks;
	} model[MODEL_MAX]; /* by record number, from `base` on */
	uint64_t base, appended, answered, flushed, replayed;
	uint8_t *block; /* one, for reading payload */
	bool failed, wrong;
	unsigned under_way;
};

struct append {
	struct log_entry entry;
	struct log_world *world;
	uint64_t number;
};

struct flush {
	struct log_flush_op flush; /* first: found back by its address */
	struct log_world *world;
	uint64_t number; /* all below were appended before */
};

static uint64_t payload_word(uint64_t number, uint64_t life, uint32_t block)
{
	return (number * 1000003u + life) * 0x9e3779b97f4a7c15u + block;
}

static void append_done(struct log_entry *entry, int res)
{
	struct append *append = (struct append *)entry;
	struct log_world *world = append->world;
	world->under_way--;
	if (res == 0) {
		world->wrong |= append->number != world->answered; /* ends are in order */
		world->answered = append->number + 1;
	}
}

static void flush_done(struct io_op *op)
{
	struct flush *flush = (struct flush *)op;
	struct log_world *world = flush->world;
	world->under_way--;
	if (op->res == 0) {
		world->wrong |= world->answered < flush->number && !world->failed;
		world->flushed = max_u64(world->flushed, min_u64(flush->number, world->answered));
	}
}

static int world_apply(struct log_owner *owner, const void *record, uint32_t bytes,
		       const struct log_payload *payload)
{
	struct log_world *world = (struct log_world *)owner;
	struct record r;
	if (bytes != sizeof r)
		return -VS_EFORMAT;
	memcpy(&r, record, sizeof r);
	uint64_t at = world->replayed;
	if (r.number != at || at >= world->appended ||
	    r.life != world->model[at % MODEL_MAX].life ||
	    r.blocks != world->model[at % MODEL_MAX].blocks) {
		world->wrong = true;
		return -VS_EFORMAT;
	}
	for (uint32_t i = 0; i < r.blocks; i++) {
		uint64_t word;
		env_file_read_wait(world->file, world->block, BLOCK_BYTES,
				   ((uint64_t)payload->log_block + i) * BLOCK_BYTES);
		for (unsigned w = 0; w < BLOCK_BYTES; w += 504) {
			memcpy(&word, world->block + w, 8);
			world->wrong |= word != payload_word(r.number, r.life, i) && w != 504;
		}
	}
	world->replayed++;
	return (int)r.blocks;
}

static void world_failed(struct log_owner *owner, int res, const char *what)
{
	(void)res;
	(void)what;
	((struct log_world *)owner)->failed = true;
}

static void world_committed(struct log_owner *owner)
{
	(void)owner;
}

static uint8_t payload[16 * BLOCK_BYTES];

/* Some payloads hold what looks like a commit: blocks that the guest once read from elsewhere in
 * the ring. */
static void world_append(struct log_world *world, uint32_t blocks)
{
	struct sim *sim = world->sim;
	struct record record = {.op = 1,
				.bytes = sizeof record,
				.blocks = blocks,
				.number = world->appended,
				.life = world->life};
	if (!log_room(world->log, sizeof record, blocks, false) ||
	    world->appended - world->base >= MODEL_MAX)
		return;
	for (uint32_t i = 0; i < blocks; i++)
		for (unsigned w = 0; w < BLOCK_BYTES; w += 504) {
			uint64_t word = payload_word(record.number, record.life, i);
			memcpy(payload + (size_t)i * BLOCK_BYTES + w, &word, 8);
		}
	struct append *append = sim_process_memory(sim, sizeof(*append));
	*append = (struct append){
		.entry.done = append_done, .world = world, .number = world->appended};
	world->model[world->appended % MODEL_MAX].life = world->life;
	world->model[world->appended % MODEL_MAX].blocks = blocks;
	world->appended++;
	world->under_way++;
	totals.records++;
	log_append(world->log, &append->entry, &record, sizeof record, payload, blocks,
		   sim_random(sim, 6) == 0);
}

static void world_flush(struct log_world *world)
{
	struct flush *flush = sim_process_memory(world->sim, sizeof(*flush));
	*flush = (struct flush){
		.flush.op.done = flush_done, .world = world, .number = world->appended};
	world->under_way++;
	totals.flushes++;
	log_flush(world->log, &flush->flush);
}

/* A checkpoint: only of what is durable, or it would name what a power cut takes. */
static void world_checkpoint(struct log_world *world)
{
	if (!log_idle(world->log) || world->flushed != world->appended || world->failed)
		return;
	log_place(world->log, &world->checkpoint);
	if (log_durable_seq(world->log) + 1 != world->checkpoint.seq)
		return;
	log_set_tail(world->log, world->checkpoint.pos);
	world->base = world->appended;
}

static const char *world_open(struct log_world *world, bool power_cut)
{
	struct env *env = sim_env(world->sim);
	struct env_dir *dir;
	env_dir_open(env, "", &dir);
	env_file_open(dir, "log", ENV_DIRECT, &world->file);
	if (log_new(env, world->file, &world->options, &world->owner, &world->log) < 0)
		FAIL("no memory");
	world->replayed = world->base;
	world->failed = false;
	int res = log_replay(world->log, &world->checkpoint, world->checkpoint.pos);
	totals.replays++;
	if (world->wrong)
		FAIL("something was replayed that was not appended there, at record %llu",
		     (unsigned long long)world->replayed);
	if (res < 0)
		FAIL("the log was refused: %s", vs_strerror(res));
	if (world->replayed < (power_cut ? world->flushed : world->answered))
		FAIL("%s record %llu is lost", power_cut ? "flushed" : "answered",
		     (unsigned long long)world->replayed);
	totals.cut += world->appended - world->replayed;
	world->appended = world->answered = world->flushed = world->replayed;
	world->life++;
	return NULL;
}

static const char *log_live(struct log_world *world)
{
	struct sim *sim = world->sim;
	uint64_t ops = sim_random(sim, LOG_OPS);
	for (uint64_t i = 0; i < ops; i++) {
		uint64_t what = sim_random(sim, 20);
		if (what == 0) /* a header of several sectors, nothing else: only its checksum tells
				  a torn one */
			for (unsigned burst = 0; burst < 40; burst++)
				world_append(world, 0);
		else if (what < 8)
			world_append(world, (uint32_t)sim_random(sim, 12));
		else if (what == 8)
			world_flush(world);
		else if (what == 9)
			world_checkpoint(world);
		else
			env_step(sim_env(sim), true);
	}
	if (world->wrong)
		FAIL("an entry or a flush ended out of order");
	return NULL;
}

static const char *log_run(struct sim *sim)
{
	struct log_world *world = calloc(1, sizeof(*world));
	struct env *env = sim_env(sim);
	struct env_dir *dir;
	const char *failed;
	*world = (struct log_world){.sim = sim,
				    .checkpoint = {.seq = 1},
				    .owner = {.apply = world_apply,
					      .failed = world_failed,
					      .committed = world_committed}};
	world->options =
		(struct log_options){.uuid = {1}, .secret = {2}, .block_count = RING_BLOCKS};
	world->block = env_memory(env, BLOCK_BYTES);
	env_dir_open(env, "", &dir);
	env_file_open(dir, "log", ENV_CREATE, &world->file);
	env_file_allocate_wait(world->file, LOG_BYTES_MIN);
	env_file_sync_wait(world->file);
	env_dir_sync_wait(dir);
	failed = world_open(world, true);
	for (unsigned life = 0; life < LIVES && !failed; life++) {
		failed = log_live(world);
		if (failed)
			break;
		bool power_cut = sim_random(sim, 2);
		sim_crash(sim, power_cut);
		log_free(world->log); /* its ops died with the process; what they owned is left to
					 the leak list */
		failed = world_open(world, power_cut);
	}
	log_free(world->log);
	env_memory_free(env, world->block, BLOCK_BYTES);
	free(world);
	return failed;
}

/* ---- a segment ---- */

#define SEGMENT_OPS 250u

struct segment_world {
	struct segment_writer *writer;
	uint64_t durable_end; /* promised by a wait that ended with 0 */
};

struct seg_wait {
	struct durable_wait wait; /* first */
	struct segment_world *world;
	uint64_t end;
};

static void seg_wait_done(struct io_op *op)
{
	struct seg_wait *wait = (struct seg_wait *)op;
	if (op->res == 0)
		wait->world->durable_end = max_u64(wait->world->durable_end, wait->end);
}

static void no_room(void *arg)
{
	(void)arg;
}

static const char *segment_run(struct sim *sim)
{
	struct env *env = sim_env(sim);
	struct env_dir *dir;
	struct env_file *file;
	struct segment_world world = {0};
	struct segment_name name = {.uuid = {1}, .id = 5, .slot = 1};
	uint64_t ends[SEGMENT_OPS], ends_count = 0, ops = sim_random(sim, SEGMENT_OPS);
	static uint8_t stored[CHUNK_BYTES];
	env_dir_open(env, "", &dir);
	env_file_open(dir, "segment", ENV_CREATE, &file);
	if (segment_create(env, file, &name) < 0 ||
	    segment_writer_new(env, file, &name, no_room, NULL, &world.writer) < 0)
		FAIL("the segment cannot be made");
	env_dir_sync_wait(dir);
	for (uint64_t i = 0; i < ops; i++) {
		uint32_t bytes = 200 + (uint32_t)sim_random(sim, 40000);
		struct dir_entry entry = {.type = RECORD_CHUNK,
					  .domain = 1,
					  .raw_bytes = CHUNK_BYTES,
					  .frame_count = 1};
		if (sim_random(sim, 3) || segment_room(world.writer, bytes) < 0) {
			env_step(env, true);
			continue;
		}
		memset(stored, (int)i, bytes);
		memcpy(entry.id.bytes, &i, 8);
		uint32_t prefix = record_prefix_bytes(entry.type);
		struct frame_entry frame = {.stored_bytes = bytes - prefix, .codec = FRAME_ZSTD};
		frame.crc = crc32c(codec_crc_seed(&entry.id, 0), stored + prefix, bytes - prefix);
		segment_append(world.writer, &entry, &frame, stored, bytes, &ends[ends_count++]);
		totals.segment_records++;
		if (sim_random(sim, 4) == 0) {
			struct seg_wait *wait = sim_process_memory(sim, sizeof(*wait));
			*wait = (struct seg_wait){.wait.op.done = seg_wait_done,
						  .world = &world,
						  .end = ends[ends_count - 1]};
			segment_wait_durable(world.writer, &wait->wait, wait->end);
		}
	}
	uint64_t promised = world.durable_end;
	sim_crash(sim, sim_random(sim, 2));
	segment_writer_abandon(world.writer);
	struct directory *directory;
	uint64_t end;
	env_dir_open(env, "", &dir);
	env_file_open(dir, "segment", 0, &file);
	int res = segment_scan(env, file, &name, false, &directory, &end);
	totals.segments++;
	if (res < 0)
		FAIL("the segment cannot be scanned: %s", vs_strerror(res));
	uint64_t want = 0;
	while (want < ends_count && ends[want] <= promised)
		want++;
	uint32_t found = directory->entry_count;
	bool order = found <= ends_count;
	for (uint64_t i = 0; order && i < found; i++)
		order = id_word(&directory->entries[i].id, 0) < ops;
	directory_free(directory);
	if (found < want || !order)
		FAIL("%llu records of the segment were promised, %u were found",
		     (unsigned long long)want, found);
	return NULL;
}

/* ---- all of it ---- */

static const char *seed_run(uint64_t seed, uint64_t *ret_trace)
{
	struct sim *sim = sim_new(seed);
	const char *failed = log_run(sim);
	if (!failed)
		failed = segment_run(sim);
	seeds_faults_add(&totals.faults, sim);
	*ret_trace = sim_trace(sim);
	sim_free(sim);
	totals.seeds++;
	return failed;
}

static int totals_tell(uint64_t seeds)
{
	const struct sim_counts *f = &totals.faults;
	printf("seeds %llu, records %llu, flushes %llu, replays %llu, records cut %llu, segments "
	       "%llu, segment records %llu, "
	       "kills %llu, power cuts %llu, writes kept %llu, dropped %llu, torn %llu, overtaken "
	       "%llu\n",
	       (unsigned long long)totals.seeds, (unsigned long long)totals.records,
	       (unsigned long long)totals.flushes, (unsigned long long)totals.replays,
	       (unsigned long long)totals.cut, (unsigned long long)totals.segments,
	       (unsigned long long)totals.segment_records, (unsigned long long)f->kills,
	       (unsigned long long)f->power_cuts, (unsigned long long)f->kept,
	       (unsigned long long)f->dropped, (unsigned long long)f->torn,
	       (unsigned long long)f->overtaken);
	return f->kept && f->dropped && f->torn && f->overtaken && f->kills && f->power_cuts &&
			       totals.cut
		       ? 0
		       : 1;
}

int main(int argc, char **argv)
{
	const struct seeds seeds = {
		.program = "sim",
		.run = seed_run,
		.totals = &totals,
		.totals_bytes = sizeof totals,
		.tell = totals_tell,
#ifdef VSTORE_MUTANTS
		.mutant = &vstore_mutant,
		.mutant_seeds = 400,
#endif
	};
	return seeds_main(&seeds, argc, argv);
}
