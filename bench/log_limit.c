/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the write-ahead log alone can do on this disk: 4 KiB records, a number of writers that each
 * wait for their answer, with or without a flush after every write. No NBD, no map: the upper limit
 * of rows 3 and 4. Usage: log_limit FOLDER SECONDS. The ring is 256 MiB, written with zeros once,
 * as a store's is; its tail follows at once.
 */
#include "proto/err.h"
#include "storage/rt/env.h"
#include "storage/store/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RING_BYTES (256 * MIB)
#define WRITERS_MAX 64u

struct bench {
	struct log_owner owner;
	struct env *env;
	struct log *log;
	uint64_t answered, next;
	bool stopping, flushing, failed;
	unsigned under_way;
	struct writer {
		struct log_entry entry; /* first */
		struct log_flush_op flush;
		struct bench *bench;
	} writers[WRITERS_MAX];
};

static uint8_t payload[BLOCK_BYTES] __attribute__((aligned(4096)));

static void writer_go(struct writer *writer)
{
	struct bench *bench = writer->bench;
	uint8_t record[32] = {1, 0, sizeof record};
	if (bench->stopping || !log_room(bench->log, sizeof record, 1, false)) {
		bench->under_way--;
		return;
	}
	memcpy(payload, &bench->next, 8);
	bench->next++;
	log_append(bench->log, &writer->entry, record, sizeof record, payload, 1, false);
}

static void writer_flushed(struct io_op *op)
{
	struct writer *writer = container_of(op, struct writer, flush);
	writer->bench->failed |= op->res < 0;
	writer->bench->answered++;
	writer_go(writer);
}

static void writer_written(struct log_entry *entry, int res)
{
	struct writer *writer = (struct writer *)entry;
	struct bench *bench = writer->bench;
	bench->failed |= res < 0;
	if (bench->flushing && res == 0) {
		writer->flush.op.done = writer_flushed;
		log_flush(bench->log, &writer->flush);
		return;
	}
	bench->answered++;
	writer_go(writer);
}

static int no_apply(struct log_owner *owner, const void *record, uint32_t bytes,
		    const struct log_payload *payload)
{
	(void)owner, (void)record, (void)bytes, (void)payload;
	return 1;
}

static void on_failed(struct log_owner *owner, int res, const char *what)
{
	fprintf(stderr, "%s: %s\n", what, vs_strerror(res));
	((struct bench *)owner)->failed = true;
}

static void on_committed(struct log_owner *owner)
{
	(void)owner;
}

/* Runs until the ring is full or time is up; then the tail follows and it goes on. Answers a
 * second. */
static double bench_run(struct bench *bench, unsigned writer_count, bool flushing, uint64_t seconds)
{
	uint64_t start = env_now_ns(bench->env), end = start + seconds * NSEC_PER_SEC, now = start;
	bench->answered = 0;
	bench->flushing = flushing;
	while (now < end && !bench->failed) {
		struct log_place place;
		bench->stopping = false;
		bench->under_way = writer_count;
		for (unsigned i = 0; i < writer_count; i++) {
			bench->writers[i].bench = bench;
			bench->writers[i].entry.done = writer_written;
			writer_go(&bench->writers[i]);
		}
		while (bench->under_way || !log_idle(bench->log)) {
			env_step(bench->env, true);
			now = env_now_ns(bench->env);
			bench->stopping = now >= end;
		}
		log_place(bench->log, &place);
		log_set_tail(bench->log, place.pos);
	}
	return (double)bench->answered / ((double)(now - start) / 1e9);
}

int main(int argc, char **argv)
{
	static struct bench bench;
	struct env_dir *dir;
	struct env_file *file;
	const char *sentence;
	if (argc != 3) {
		fprintf(stderr, "usage: log_limit FOLDER SECONDS\n");
		return 2;
	}
	if (env_real_new(&(struct env_real_options){0}, &bench.env, &sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		return 1;
	}
	int res = env_dir_open(bench.env, argv[1], &dir);
	if (res == 0)
		res = env_file_open(dir, "log_limit.ring", ENV_CREATE | ENV_EXCL | ENV_DIRECT,
				    &file);
	if (res < 0) {
		fprintf(stderr, "%s/log_limit.ring: %s\n", argv[1], vs_strerror(res));
		return 1;
	}
	uint8_t *zeros = env_memory(bench.env, MIB);
	for (uint64_t at = 0; at < RING_BYTES && res >= 0; at += MIB)
		res = (int)env_file_write_wait(file, zeros, MIB, at);
	if (res >= 0)
		res = env_file_sync_wait(file);
	struct log_options options = {.block_count = RING_BYTES / BLOCK_BYTES};
	bench.owner = (struct log_owner){
		.apply = no_apply, .failed = on_failed, .committed = on_committed};
	if (res < 0 || log_new(bench.env, file, &options, &bench.owner, &bench.log) < 0 ||
	    log_replay(bench.log, &(struct log_place){.seq = 1}, 0) < 0)
		return 1;
	uint64_t seconds = strtoull(argv[2], NULL, 10);
	for (size_t i = 0; i < sizeof payload; i++)
		payload[i] = (uint8_t)(i * 7);
	printf("32 writers, no flush:        %.0f writes/s\n",
	       bench_run(&bench, 32, false, seconds));
	printf("1 writer, flush each write:  %.0f writes/s\n", bench_run(&bench, 1, true, seconds));
	printf("16 writers, flush each one:  %.0f writes/s\n",
	       bench_run(&bench, 16, true, seconds));
	log_free(bench.log);
	env_file_close(file);
	env_file_remove_wait(dir, "log_limit.ring");
	env_dir_close(dir);
	env_memory_free(bench.env, zeros, MIB);
	env_real_free(bench.env);
	return bench.failed;
}
