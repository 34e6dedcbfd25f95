/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a census costs: all anew, and after some chunks changed, at a number of chunks.
 *
 * The map's nodes are real: hashed, stored in segments, read back as a collection reads them. The
 * chunks are ids alone, with a place in the index and no record behind it, so that 50 million fit
 * on a small disk. A change is what a guest's writes of whole chunks leave behind, in runs of --run
 * chunks: entries of the volume's layer, which the store folds into its map whenever they are many.
 *
 * Keeps true: no collection but those that are measured. The nodes of the first map are named by no
 * root while it is made, and there is no fold for whose end a census would wait: one that began
 * then would take them for the garbage that they seem to be. So the store's clock stands meanwhile,
 * and while chunks are changed; a count of collections that is not ours, or one that failed, ends
 * the run.
 *
 * Usage: gc_scale FOLDER CHUNKS [--changed N]... [--run CHUNKS]
 * FOLDER must not exist; it takes about 35 bytes a chunk. Prints one line a step.
 */
#include "storage/store/census.h"
#include "storage/store/index.h"
#include "storage/store/put.h"
#include "storage/store/store_int.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLOT_FIRST 1000u /* of segments that do not exist */
#define CHUNKS_PER_SLOT 2048u

static struct env *env;
static struct store *store;
static uint64_t chunk_count, leaf_count;
static uint64_t run_chunks = 256;

static double now_s(void)
{
	return (double)env_now_ns(env) / 1e9;
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static struct id chunk_id(uint64_t chunk_no, uint32_t version)
{
	struct id id;
	uint64_t words[4];
	for (unsigned i = 0; i < 4; i++)
		words[i] = mix(chunk_no * 4 + i + ((uint64_t)version << 40));
	memcpy(&id, words, sizeof id);
	return id;
}

/* ---- the store's clock: what begins collections by need and by schedule ---- */

static void clock_stop(void)
{
	env_timer_stop(env, &store->tick);
}

static void clock_go_on(void)
{
	env_timer_start(env, &store->tick, NSEC_PER_SEC);
}

/* ---- nodes ---- */

static unsigned under_way;

struct stored {
	struct id *to;
};
static struct stored stored[PUT_COUNT];

static void node_done(struct put *put, int res)
{
	struct stored *where = put->owner;
	if (res < 0) {
		fprintf(stderr, "gc_scale: a node could not be stored: %s\n", vs_strerror(res));
		exit(1);
	}
	*where->to = put->id;
	where->to = NULL;
	put_free(put);
	under_way--;
}

static void node_store(const struct id *slots, struct id *to)
{
	struct put *put;
	while (under_way == PUT_COUNT / 2 || !(put = put_new(store, false, NULL)))
		env_step(env, true);
	unsigned i = 0;
	while (stored[i].to)
		i++;
	stored[i].to = to;
	memcpy(put->room, slots, NODE_BYTES);
	put->type = RECORD_NODE;
	put->domain = DOMAIN_OWN;
	put->done = node_done;
	put->owner = &stored[i];
	put->raw = put->room;
	put->level = 1;
	under_way++;
	put_start(put);
}

static void nodes_wait(void)
{
	while (under_way)
		env_step(env, true);
}

static void leaf_store(uint64_t leaf, struct id *to)
{
	struct id slots[NODE_SLOTS] = {0};
	for (unsigned i = 0; i < NODE_SLOTS; i++) {
		uint64_t chunk_no = leaf * NODE_SLOTS + i;
		if (chunk_no < chunk_count)
			slots[i] = chunk_id(chunk_no, 0);
	}
	node_store(slots, to);
}

/* The levels above the leaves; returns the top. */
static struct id map_store(const struct id *leaves)
{
	const struct id *below = leaves;
	uint64_t count = leaf_count;
	struct id *level = NULL;
	for (unsigned at = 1; at < MAP_LEVELS; at++) {
		uint64_t nodes = (count + NODE_SLOTS - 1) / NODE_SLOTS;
		struct id *ids = calloc(nodes, sizeof(*ids));
		for (uint64_t n = 0; n < nodes; n++) {
			struct id slots[NODE_SLOTS] = {0};
			uint64_t part = min_u64(NODE_SLOTS, count - n * NODE_SLOTS);
			memcpy(slots, below + n * NODE_SLOTS, part * sizeof(struct id));
			node_store(slots, &ids[n]);
		}
		nodes_wait();
		free(level);
		level = ids;
		below = ids;
		count = nodes;
	}
	struct id top = level[0];
	free(level);
	return top;
}

static void chunk_index(uint64_t chunk_no, uint32_t version)
{
	struct id id = chunk_id(chunk_no, version);
	uint32_t slot = SLOT_FIRST + (uint32_t)(chunk_no / CHUNKS_PER_SLOT);
	if (index_insert(store->index, &id,
			 location_of(slot,
				     (uint32_t)(chunk_no % CHUNKS_PER_SLOT) * 400 + version)) < 0) {
		fprintf(stderr, "gc_scale: no memory\n");
		exit(1);
	}
}

static void fold(void)
{
	struct store_work work = {0};
	env_wait_prepare(&work.op);
	store_fold(store, &work, NULL);
	if (env_wait(env, &work.op) < 0) {
		fprintf(stderr, "gc_scale: %s\n", work.sentence);
		exit(1);
	}
}

static void chunk_change(uint64_t chunk_no, uint32_t round)
{
	struct id id = chunk_id(chunk_no, round);
	chunk_index(chunk_no, round);
	while (layer_set_id(volume_active(store->volumes[0]), chunk_no, &id) < 0)
		fold();
}

static void change(uint64_t chunks, uint32_t round)
{
	uint64_t runs = (chunks + run_chunks - 1) / run_chunks;
	uint64_t all_runs = (chunk_count + run_chunks - 1) / run_chunks;
	uint64_t stride = max_u64(all_runs / runs, 1);
	clock_stop();
	for (uint64_t i = 0; i < min_u64(runs, all_runs); i++) {
		uint64_t run = i * stride + round % stride;
		for (uint64_t c = run * run_chunks;
		     c < min_u64((run + 1) * run_chunks, chunk_count); c++)
			chunk_change(c, round);
	}
	fold();
	clock_go_on();
}

static uint64_t collections; /* ours */

static void collect(const char *what, uint64_t changed)
{
	struct store_work work = {0};
	double begun = now_s(), counted = begun;
	uint64_t round = store->census->round + 1;
	env_wait_prepare(&work.op);
	store_gc(store, &work);
	while (work.op.done) { /* the count, and what it found to be garbage */
		if (store->census->round < round || store->census->phase != CENSUS_DONE)
			counted = now_s();
		env_step(env, true);
	}
	int64_t res = work.op.res;
	double took = now_s() - counted;
	uint64_t opened = store->census->opened;
	printf("%-8s chunks %10llu changed %9llu looked at %11llu: %8.3f s, %llu nodes read, %.1f "
	       "us "
	       "a node, and %.3f s to free %llu MiB; nodes %llu, index %.2f B a chunk, census %llu "
	       "KiB%s%s\n",
	       what, (unsigned long long)chunk_count, (unsigned long long)changed,
	       (unsigned long long)work.chunks, counted - begun, (unsigned long long)opened,
	       opened ? (counted - begun) * 1e6 / (double)opened : 0, took,
	       (unsigned long long)(work.freed_bytes / MIB),
	       (unsigned long long)store->census->nodes.count,
	       (double)index_bytes(store->index) / (double)index_count(store->index),
	       (unsigned long long)(store->census->nodes.room * sizeof(struct node_ref) / 1024),
	       res < 0 ? ", failed: " : "", work.sentence);
	fflush(stdout);
	if (res < 0 || store->counters.collections != ++collections) {
		fprintf(stderr, "gc_scale: %s: these are no figures\n",
			res < 0 ? "the collection failed" : "the store collected by itself");
		_exit(1);
	}
}

int main(int argc, char **argv)
{
	const char *why;
	char sentence[SENTENCE_BYTES];
	if (argc < 3) {
		fprintf(stderr, "usage: gc_scale FOLDER CHUNKS [--changed N]... [--run CHUNKS]\n");
		return 2;
	}
	for (int i = 3; i + 1 < argc; i += 2)
		if (strcmp(argv[i], "--run") == 0)
			run_chunks = strtoull(argv[i + 1], NULL, 10);
	chunk_count = strtoull(argv[2], NULL, 10);
	leaf_count = (chunk_count + NODE_SLOTS - 1) / NODE_SLOTS;
	if (!chunk_count || !run_chunks || mkdir(argv[1], 0700) < 0 ||
	    env_real_new(&(struct env_real_options){.worker_count = 1}, &env, &why) < 0) {
		fprintf(stderr, "gc_scale: the folder or the numbers will not do\n");
		return 1;
	}
	struct store_make_options make = {.log_bytes = 64 * MIB, .any_file_system = true};
	struct store_options options = {.any_file_system = true, .scrub_period_ns = SCRUB_NEVER};
	if (store_make(env, argv[1], &make, sentence) < 0 ||
	    store_open(env, argv[1], &options, &store, sentence) < 0) {
		fprintf(stderr, "gc_scale: %s\n", sentence);
		return 1;
	}
	struct admin_op admin = {0};
	struct volume_options volume = {.size_bytes = chunk_count * CHUNK_BYTES};
	env_wait_prepare(&admin.op);
	store_volume_create(store, &admin, "a", &volume);
	if (env_wait(env, &admin.op) < 0) {
		fprintf(stderr, "gc_scale: %s\n", admin.sentence);
		return 1;
	}
	struct id *leaves = calloc(leaf_count, sizeof(*leaves));
	double begun = now_s();
	clock_stop();
	for (uint64_t c = 0; c < chunk_count; c++)
		chunk_index(c, 0);
	for (uint64_t leaf = 0; leaf < leaf_count; leaf++)
		leaf_store(leaf, &leaves[leaf]);
	nodes_wait();
	store->volumes[0]->top = map_store(leaves);
	clock_go_on();
	printf("made     chunks %10llu in %.1f s\n", (unsigned long long)chunk_count,
	       now_s() - begun);
	collect("anew", chunk_count);
	collect("nothing", 0);
	uint32_t round = 0;
	for (int i = 3; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--changed") != 0)
			continue;
		uint64_t changed = strtoull(argv[i + 1], NULL, 10);
		change(changed, ++round);
		collect("changed", changed);
	}
	fflush(stdout);
	_exit(0); /* the volume's map is not in the log: the store is not to be closed */
}
