/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What single parts cost, without disk, network or threads: nanoseconds an item here, instructions
 * an item under callgrind (bench/instructions). Everything is drawn from a fixed seed, so that two
 * runs do exactly the same. Only what runs below micro_measured is counted; preparing is not.
 */
#include "proto/crc32c.h"
#include "proto/nbd.h"
#include "storage/store/cache.h"
#include "storage/store/codec.h"
#include "storage/store/index.h"
#include "storage/store/layer.h"
#include "storage/store/log.h"
#include "tests/sim/simenv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IDS 65536u
#define CHUNKS 16u /* different ones, of text-like bytes */
#define CACHED (IDS / 16)
#define LOG_BATCH 32u
#define LOG_BYTES (64 * MIB)

static struct {
	uint8_t *chunks, *stored, *raw;
	struct frame_entry frames[CHUNKS][FRAMES_PER_CHUNK_MAX];
	uint32_t stored_bytes[CHUNKS];
	struct id *ids;
	struct codec *codec;
	struct index *index;
	struct cache *cache;
	struct layer *layer;
	struct env *env;
	struct log_owner log_owner;
	struct log *log;
	struct log_entry entries[LOG_BATCH];
	uint32_t waiting;
} m;

static volatile uint64_t sink; /* what is computed is used */

static uint64_t draw(void)
{
	static uint64_t state = 88172645463325252u;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "micro: %s\n", what);
	exit(1);
}

static void *memory(size_t bytes)
{
	void *at = aligned_alloc(BLOCK_BYTES, round_up(bytes, BLOCK_BYTES));
	if (!at)
		die("there is no memory");
	memset(at, 0, bytes);
	return at;
}

/* Words from a small dictionary: compresses by about a half, as a file system does. */
static void chunks_prepare(void)
{
	m.chunks = memory((size_t)CHUNKS * CHUNK_BYTES);
	for (size_t at = 0; at < (size_t)CHUNKS * CHUNK_BYTES; at += 8) {
		uint64_t r = draw(), word = (r % 512) * UINT64_C(0x9e3779b97f4a7c15);
		if (r >> 62 == 0)
			word = draw();
		memcpy(m.chunks + at, &word, 8);
	}
	m.ids = memory(IDS * sizeof *m.ids);
	for (uint32_t i = 0; i < IDS; i++)
		for (unsigned w = 0; w < 4; w++) {
			uint64_t word = draw();
			memcpy(m.ids[i].bytes + 8 * w, &word, 8);
		}
}

static uint8_t *chunk_of(uint64_t i)
{
	return m.chunks + i % CHUNKS * CHUNK_BYTES;
}

static void codec_prepare(void)
{
	m.codec = codec_new(1);
	m.stored = memory((size_t)CHUNKS * codec_bound(CHUNK_BYTES));
	m.raw = memory(CHUNK_BYTES);
	if (!m.codec)
		die("there is no memory");
	for (uint32_t i = 0; i < CHUNKS; i++) {
		int64_t res = codec_encode(
			m.codec, 0, 1, FRAME_BYTES_DEFAULT, chunk_of(i), CHUNK_BYTES, &m.ids[i],
			m.stored + (size_t)i * codec_bound(CHUNK_BYTES), m.frames[i]);
		if (res < 0)
			die("a chunk cannot be encoded");
		m.stored_bytes[i] = (uint32_t)res;
	}
}

static void index_prepare(void)
{
	m.index = index_new();
	for (uint32_t i = 0; m.index && i < IDS / 2; i++)
		if (index_insert(m.index, &m.ids[i], location_of(1 + i / 1000, i % 1000)) < 0)
			die("the index is full");
}

static void cache_prepare(void)
{
	uint32_t slots = 2 * CACHED;
	m.cache = cache_new(memory((size_t)slots * BLOCK_BYTES), slots);
	for (uint32_t i = 0; m.cache && i < CACHED; i++)
		cache_put(m.cache, &m.ids[i], 0, m.chunks);
}

static void layer_prepare(void)
{
	struct layer_pool *pool = layer_pool_new(IDS);
	m.layer = pool ? layer_new(pool, 1, 0) : NULL;
	if (!m.layer)
		die("there is no memory");
}

static void log_failed(struct log_owner *owner, int res, const char *what)
{
	(void)owner, (void)res;
	die(what);
}

static int log_apply(struct log_owner *owner, const void *record, uint32_t bytes,
		     const struct log_payload *payload)
{
	(void)owner, (void)record, (void)bytes, (void)payload;
	return 1;
}

static void log_committed(struct log_owner *owner)
{
	(void)owner;
}

static void log_prepare(void)
{
	struct env_dir *dir;
	struct env_file *file;
	struct log_options options = {.block_count = LOG_BYTES / BLOCK_BYTES};
	m.env = sim_env(sim_new(1));
	m.log_owner = (struct log_owner){
		.apply = log_apply, .failed = log_failed, .committed = log_committed};
	if (env_dir_open(m.env, "", &dir) < 0 ||
	    env_file_open(dir, "log", ENV_CREATE | ENV_DIRECT, &file) < 0 ||
	    env_file_allocate_wait(file, LOG_BYTES) < 0 ||
	    log_new(m.env, file, &options, &m.log_owner, &m.log) < 0 ||
	    log_replay(m.log, &(struct log_place){.seq = 1}, 0) < 0)
		die("the log cannot be made");
}

static void run_crc(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sink += crc32c(0, m.chunks + i * BLOCK_BYTES % ((size_t)CHUNKS * CHUNK_BYTES),
			       BLOCK_BYTES);
}

static void run_hash(uint64_t count)
{
	static const struct domain_key key = {{1, 2, 3}};
	for (uint64_t i = 0; i < count; i++) {
		struct id id;
		codec_id_chunk(&key, chunk_of(i), &id);
		sink += id.bytes[0];
	}
}

static void run_zero(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sink += codec_is_zero(m.raw, CHUNK_BYTES);
}

static void run_encode(uint64_t count)
{
	static uint8_t out[CHUNK_BYTES + 512];
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	for (uint64_t i = 0; i < count; i++)
		sink += (uint64_t)codec_encode(m.codec, 0, 1, FRAME_BYTES_DEFAULT, chunk_of(i),
					       CHUNK_BYTES, &m.ids[i % CHUNKS], out, frames);
}

static void run_decode(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t n = i % CHUNKS;
		if (codec_decode(m.codec, 0, &m.frames[n][0], 0, &m.ids[n],
				 m.stored + n * codec_bound(CHUNK_BYTES), m.raw,
				 FRAME_BYTES_DEFAULT) < 0)
			die("a frame cannot be decoded");
	}
}

static void run_index_insert(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		sink += (uint64_t)index_insert(m.index, &m.ids[(IDS / 2 + i) % IDS],
					       location_of(1 + (uint32_t)i / 1000, i % 1000));
}

static void run_index_find(uint64_t count)
{
	uint64_t found[INDEX_CANDIDATES_MAX];
	for (uint64_t i = 0; i < count; i++) /* one of four is not there */
		sink += index_find(m.index, &m.ids[i * 7919 % (IDS / 2 + IDS / 6)], found);
}

static void run_cache_get(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (!cache_get(m.cache, &m.ids[i * 7919 % CACHED], 0))
			die("a block is not in the cache");
}

static void run_cache_put(uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		cache_put(m.cache, &m.ids[CACHED + i % (IDS / 2)], 0, m.chunks);
}

static void run_layer_write(uint64_t count)
{
	static const uint32_t crc = 1;
	for (uint64_t i = 0; i < count; i++)
		sink += (uint64_t)layer_write(m.layer, i * 7919 % (IDS * 8), 1, (uint32_t)i, &crc);
}

static void run_layer_find(uint64_t count)
{
	struct dirty_chunk room;
	for (uint64_t i = 0; i < count; i++)
		sink += layer_find(m.layer, i * 7919 % IDS, &room) != NULL;
}

static void entry_done(struct log_entry *entry, int res)
{
	(void)entry;
	if (res < 0)
		die("a commit failed");
	m.waiting--;
}

/* Thirty-two guests' 4 KiB writes a time, as far as the log goes; the file is simulated. */
static void run_log(uint64_t count)
{
	for (uint64_t i = 0; i < count; i += LOG_BATCH) {
		uint8_t record[32] = {1, 0, sizeof record};
		struct log_place place;
		for (uint32_t n = 0; n < LOG_BATCH; n++) {
			m.entries[n].done = entry_done;
			m.waiting++;
			log_append(m.log, &m.entries[n], record, sizeof record, chunk_of(i + n), 1,
				   false);
		}
		while (m.waiting || !log_idle(m.log))
			env_step(m.env, true);
		log_place(m.log, &place);
		log_set_tail(m.log, place.pos);
	}
}

static void run_nbd(uint64_t count)
{
	static uint8_t wire[NBD_REQUEST_BYTES];
	for (uint64_t i = 0; i < count; i++) {
		struct nbd_request request = {.type = NBD_CMD_READ,
					      .cookie = i,
					      .offset_bytes = i * BLOCK_BYTES,
					      .length_bytes = BLOCK_BYTES};
		struct cursor c = cursor_over(wire, sizeof wire);
		nbd_put_request(&c, &request);
		__asm__ volatile("" ::"r"(wire) : "memory"); /* what was put is not known here */
		c = cursor_reading(wire, sizeof wire);
		sink += (uint64_t)nbd_get_request(&c, &request);
		c = cursor_over(wire, sizeof wire);
		nbd_put_simple_reply(&c, 0, request.cookie);
		__asm__ volatile("" ::"r"(wire) : "memory");
	}
}

static const struct micro {
	const char *name, *what;
	void (*run)(uint64_t count);
	uint64_t count; /* a multiple of LOG_BATCH; enough for a figure, few enough for callgrind */
} micros[] = {
	{"crc32c", "checksum of 4 KiB", run_crc, 4096},
	{"hash", "id of a 64 KiB chunk", run_hash, 64},
	{"zero", "64 KiB found to be zero", run_zero, 256},
	{"encode", "64 KiB compressed in 16 KiB frames", run_encode, 64},
	{"decode", "a 16 KiB frame decoded", run_decode, 256},
	{"index_insert", "an id put into the index", run_index_insert, IDS / 2},
	{"index_find", "an id looked up in the index", run_index_find, IDS},
	{"cache_get", "a block found in the cache", run_cache_get, IDS},
	{"cache_put", "a block put into the cache, one thrown out", run_cache_put, IDS / 4},
	{"layer_write", "a 4 KiB write noted in the extent map", run_layer_write, IDS},
	{"layer_find", "a chunk looked up in the extent map", run_layer_find, IDS},
	{"log_commit", "a 4 KiB write through the log, 32 a time", run_log, 4096},
	{"nbd", "an NBD request and its reply, both ways", run_nbd, IDS},
};

__attribute__((noinline)) void micro_measured(const struct micro *micro)
{
	micro->run(micro->count);
	__asm__ volatile("" ::: "memory"); /* not a tail call: callgrind sees where it ends */
}

static void micro_print(const struct micro *micro)
{
	struct timespec from, to;
	clock_gettime(CLOCK_MONOTONIC, &from);
	micro_measured(micro);
	clock_gettime(CLOCK_MONOTONIC, &to);
	double ns = (double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec);
	printf("%-14s %12.1f ns  %s\n", micro->name, ns / (double)micro->count, micro->what);
}

int main(int argc, char **argv)
{
	const char *only = argc == 2 ? argv[1] : NULL;
	bool found = false;
	if (argc > 2 || (only && strcmp(only, "--help") == 0)) {
		puts("usage: micro [NAME | --list]   nanoseconds an item; best of a quiet machine");
		return argc > 2 ? 2 : 0;
	}
	bool list = only && strcmp(only, "--list") == 0;
	if (!list) {
		chunks_prepare();
		codec_prepare();
		index_prepare();
		cache_prepare();
		layer_prepare();
		log_prepare();
		if (only && strcmp(only, "layer_find") == 0)
			run_layer_write(IDS); /* else there is nothing to find */
	}
	for (size_t i = 0; i < sizeof micros / sizeof *micros; i++) {
		const struct micro *micro = &micros[i];
		if (list)
			printf("%s %llu\n", micro->name, (unsigned long long)micro->count);
		else if (!only || strcmp(only, micro->name) == 0)
			micro_print(micro);
		found |= list || !only || strcmp(only, micro->name) == 0;
	}
	if (!found)
		fprintf(stderr, "micro: there is no '%s'; see micro --list\n", only);
	return found ? 0 : 2;
}
