/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image costs to take in, without storing it: reads a file in chunks, finds zero chunks and
 * those seen before, hashes and compresses the rest on the codec pool, and prints counts and time.
 * The upper limit of ingest speed on this machine, and the space that the image's data will need.
 * Not here: any write. A chunk counts as seen when its whole id was (kept in memory here).
 */
#include "proto/text.h"
#include "storage/rt/env.h"
#include "storage/store/codec.h"
#include "storage/store/index.h"
#include "storage/store/record.h"

#include <stdio.h>
#include <stdlib.h>

#define IN_FLIGHT 64u

enum slot_state {
	SLOT_FREE,
	SLOT_BUSY,
};

struct slot {
	struct env_job job; /* first: a job is found back by its address */
	struct ingest *ingest;
	uint8_t *raw, *stored;
	struct id id;
	bool zero;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	enum slot_state state;
};

struct ingest {
	struct env *env;
	struct codec *codec;
	struct index *index;
	struct domain_key key;
	struct slot slots[IN_FLIGHT];
	struct id *ids; /* by the number that the index gives as a location */
	uint64_t id_count, id_room, busy;
	uint64_t chunks, zeros, seen, stored_bytes;
};

static struct slot *slot_of(struct io_op *op)
{
	return (struct slot *)((char *)op - offsetof(struct env_job, op));
}

static int64_t hash_run(struct env_job *job, unsigned worker_no)
{
	struct slot *slot = (struct slot *)job;
	slot->zero = codec_is_zero(slot->raw, CHUNK_BYTES);
	if (!slot->zero)
		codec_id_chunk(&slot->ingest->key, slot->raw, &slot->id);
	return 0;
}

static int64_t compress_run(struct env_job *job, unsigned worker_no)
{
	struct slot *slot = (struct slot *)job;
	return codec_encode(slot->ingest->codec, worker_no, 1, FRAME_BYTES_DEFAULT, slot->raw,
			    CHUNK_BYTES, &slot->id, slot->stored, slot->frames);
}

static void slot_end(struct slot *slot)
{
	slot->state = SLOT_FREE;
	slot->ingest->busy--;
}

static void compress_done(struct io_op *op)
{
	struct slot *slot = slot_of(op);
	uint32_t header =
		record_header_bytes(CHUNK_BYTES / FRAME_BYTES_DEFAULT) + RECORD_QUARTERS_BYTES;
	slot->ingest->stored_bytes += round_up(header + (uint64_t)op->res, RECORD_ALIGN);
	slot_end(slot);
}

static bool ingest_seen(struct ingest *ingest, const struct id *id)
{
	uint64_t candidates[INDEX_CANDIDATES_MAX];
	unsigned count = index_find(ingest->index, id, candidates);
	for (unsigned i = 0; i < count; i++)
		if (id_equal(&ingest->ids[candidates[i] - location_of(1, 0)], id))
			return true;
	if (ingest->id_count == ingest->id_room) {
		ingest->id_room = ingest->id_room ? ingest->id_room * 2 : 65536;
		ingest->ids = reallocarray(ingest->ids, ingest->id_room, sizeof(struct id));
		if (!ingest->ids)
			abort();
	}
	ingest->ids[ingest->id_count] = *id;
	if (index_insert(ingest->index, id, location_of(1, 0) + ingest->id_count++) < 0)
		abort();
	return false;
}

static void hash_done(struct io_op *op)
{
	struct slot *slot = slot_of(op);
	struct ingest *ingest = slot->ingest;
	ingest->zeros += slot->zero;
	bool seen = !slot->zero && ingest_seen(ingest, &slot->id);
	ingest->seen += seen;
	if (slot->zero || seen) {
		slot_end(slot);
		return;
	}
	slot->job.run = compress_run;
	slot->job.op.done = compress_done;
	env_job(ingest->env, &slot->job);
}

static struct slot *slot_free(struct ingest *ingest)
{
	for (;;) {
		for (unsigned i = 0; i < IN_FLIGHT; i++)
			if (ingest->slots[i].state == SLOT_FREE)
				return &ingest->slots[i];
		env_step(ingest->env, true);
	}
}

static int ingest_file(struct ingest *ingest, const char *path)
{
	FILE *file = fopen(path, "rb");
	if (!file) {
		fprintf(stderr, "%s cannot be opened: %m\n", path);
		return 1;
	}
	for (;;) {
		struct slot *slot = slot_free(ingest);
		size_t got = fread(slot->raw, 1, CHUNK_BYTES, file);
		if (!got)
			break;
		memset(slot->raw + got, 0, CHUNK_BYTES - got);
		ingest->chunks++;
		ingest->busy++;
		slot->state = SLOT_BUSY;
		slot->job.run = hash_run;
		slot->job.op.done = hash_done;
		env_job(ingest->env, &slot->job);
		env_step(ingest->env, false);
	}
	while (ingest->busy)
		env_step(ingest->env, true);
	int failed = ferror(file);
	fclose(file);
	return failed ? 1 : 0;
}

static void report(const struct ingest *ingest, const char *path, uint64_t took_ns)
{
	char data[32], stored[32];
	uint64_t data_bytes = (ingest->chunks - ingest->zeros) * CHUNK_BYTES;
	printf("%s: %llu chunks, %llu zero, %llu seen before; %s of data would be stored in %s, "
	       "%.0f MB/s of data\n",
	       path, (unsigned long long)ingest->chunks, (unsigned long long)ingest->zeros,
	       (unsigned long long)ingest->seen, text_human(data_bytes, data, sizeof data),
	       text_human(ingest->stored_bytes, stored, sizeof stored),
	       (double)data_bytes / 1e6 / ((double)took_ns / 1e9));
}

int main(int argc, char **argv)
{
	static struct ingest ingest;
	const char *sentence;
	if (argc < 2) {
		fprintf(stderr, "usage: ingest_limit FILE...   (counts are totals over the files "
				"so far)\n");
		return 2;
	}
	if (env_real_new(&(struct env_real_options){0}, &ingest.env, &sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		return 1;
	}
	ingest.codec = codec_new(env_worker_count(ingest.env));
	ingest.index = index_new();
	env_random(ingest.env, &ingest.key, sizeof ingest.key);
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		ingest.slots[i].ingest = &ingest;
		ingest.slots[i].raw = env_memory(ingest.env, CHUNK_BYTES);
		ingest.slots[i].stored = env_memory(ingest.env, codec_bound(CHUNK_BYTES));
		if (!ingest.slots[i].raw || !ingest.slots[i].stored)
			return 1;
	}
	int res = ingest.codec && ingest.index ? 0 : 1;
	for (int i = 1; i < argc && res == 0; i++) {
		env_step(ingest.env, false);
		uint64_t start = env_now_ns(ingest.env);
		res = ingest_file(&ingest, argv[i]);
		env_step(ingest.env, false);
		report(&ingest, argv[i], env_now_ns(ingest.env) - start);
	}
	codec_free(ingest.codec);
	index_free(ingest.index);
	env_real_free(ingest.env);
	return res;
}
