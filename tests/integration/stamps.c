/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer that knows what was answered, for days on which writes fail.
 *
 * `write` puts stamped blocks at random places with several requests in flight, until MIB of them
 * were answered and flushed, or one fails; what it knows goes to FILE and is carried on by the next
 * run. `flush` does so too, and flushes on the way, until SIGTERM: to it, a write counts as
 * answered when a flush was answered that was sent behind its answer, so the host may be lost.
 * `verify` reads all blocks: each must be the last one answered, or a later one that was sent and
 * failed; those that cannot be read are counted (EIO).
 *
 * Usage: stamps write|flush|verify SOCKET EXPORT FILE [MIB]. Exit: 0, 1 the data is wrong, else 2
 * ENOSPC, 3 EIO, 4 another error, which is printed.
 */
#include <errno.h>
#include <libnbd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK_BYTES 4096u
#define BLOCKS_MAX (1u << 20) /* of the volume: 4 GiB */
#define IN_FLIGHT 16u
#define WRITE_BLOCKS_MAX 32u
#define FLUSH_BLOCKS 128u
#define UNREAD_MAX 4096u /* a disk that fails everywhere need not be read to its end */

static struct {
	uint64_t seed;
	uint32_t answered[BLOCKS_MAX], sent[BLOCKS_MAX]; /* generations; 0: never written */
} known;

static struct slot {
	uint8_t data[WRITE_BLOCKS_MAX * BLOCK_BYTES];
	uint32_t block, count; /* count 0: free */
	int failed;	       /* errno */
} slots[IN_FLIGHT];
static uint8_t busy[BLOCKS_MAX];
static uint64_t answered_blocks, last_ms, pause_ms_max; /* between two answers */
static int failed;
static volatile sig_atomic_t stopped;

/* Of `flush`: generations that were answered, and those that the flush under way stands for. */
static struct {
	bool wanted, under_way;
	uint32_t written[BLOCKS_MAX], covered[BLOCKS_MAX];
	uint64_t behind_blocks, count; /* answered when the last one was sent; answered flushes */
} flushes;

static uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u; /* splitmix64 (Steele, Lea, Flood 2014) */
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Cannot be compressed or deduplicated: what is written takes space. */
static void block_fill(uint8_t *to, uint32_t block, uint32_t generation)
{
	uint64_t word = (uint64_t)block << 32 | generation;
	memcpy(to, &word, 8);
	for (unsigned i = 8; i < BLOCK_BYTES; i += 8) {
		uint64_t value = mix(word * 512 + i);
		memcpy(to + i, &value, 8);
	}
}

static uint64_t now_ms(void)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000 + (uint64_t)at.tv_nsec / 1000000;
}

static int written(void *state, int *error)
{
	uint64_t now = now_ms();
	if (last_ms && now - last_ms > pause_ms_max)
		pause_ms_max = now - last_ms;
	last_ms = now;
	struct slot *slot = state;
	for (uint32_t i = 0; i < slot->count; i++) {
		busy[slot->block + i] = 0;
		if (*error == 0)
			(flushes.wanted ? flushes.written : known.answered)[slot->block + i] =
				known.sent[slot->block + i];
	}
	if (*error && !failed)
		failed = *error;
	if (*error == 0)
		answered_blocks += slot->count;
	slot->count = 0;
	return 1;
}

static void write_start(struct nbd_handle *nbd, struct slot *slot, uint32_t blocks)
{
	uint64_t a = mix(known.seed += 0x9e3779b97f4a7c15u), b = mix(a);
	uint32_t count = b & 1 ? 1 : WRITE_BLOCKS_MAX;
	uint32_t block = (uint32_t)(a % (blocks - WRITE_BLOCKS_MAX)) / 16 * 16;
	if (count == 1)
		block += (uint32_t)(b >> 8) % 16;
	for (uint32_t i = 0; i < count; i++)
		if (busy[block + i])
			return; /* another place next time */
	for (uint32_t i = 0; i < count; i++) {
		busy[block + i] = 1;
		block_fill(slot->data + (size_t)i * BLOCK_BYTES, block + i,
			   ++known.sent[block + i]);
	}
	slot->block = block;
	slot->count = count;
	if (nbd_aio_pwrite(
		    nbd, slot->data, (size_t)count * BLOCK_BYTES, (uint64_t)block * BLOCK_BYTES,
		    (nbd_completion_callback){.callback = written, .user_data = slot}, 0) < 0) {
		failed = nbd_get_errno() ? nbd_get_errno() : EIO;
		slot->count = 0;
	}
}

static void flush_start(void)
{
	memcpy(flushes.covered, flushes.written, sizeof flushes.covered);
	flushes.behind_blocks = answered_blocks;
}

static void flush_answered(void)
{
	flushes.count++;
	for (uint32_t block = 0; block < BLOCKS_MAX; block++)
		if (known.answered[block] < flushes.covered[block])
			known.answered[block] = flushes.covered[block];
}

static int flushed(void *state, int *error)
{
	(void)state;
	flushes.under_way = false;
	if (*error == 0)
		flush_answered();
	else if (!failed)
		failed = *error;
	return 1;
}

static void flush_look(struct nbd_handle *nbd)
{
	if (!flushes.wanted || flushes.under_way || failed ||
	    answered_blocks - flushes.behind_blocks < FLUSH_BLOCKS)
		return;
	flush_start();
	flushes.under_way = true;
	if (nbd_aio_flush(nbd, (nbd_completion_callback){.callback = flushed}, 0) < 0)
		failed = nbd_get_errno() ? nbd_get_errno() : EIO;
}

static int write_all(struct nbd_handle *nbd, uint32_t blocks, uint64_t want)
{
	for (;;) {
		bool more = !failed && !stopped && answered_blocks < want;
		unsigned flying = 0;
		for (unsigned i = 0; i < IN_FLIGHT; i++) {
			if (slots[i].count == 0 && more)
				write_start(nbd, &slots[i], blocks);
			flying += slots[i].count != 0;
		}
		flush_look(nbd);
		if (flying == 0 && !flushes.under_way && !more)
			return failed;
		if (nbd_poll(nbd, -1) < 0 && nbd_get_errno() != EINTR)
			return failed ? failed : ENOTCONN; /* it is gone, and all requests too */
	}
}

/* Exits when the block is not what it may be; from now on it is what it is. */
static void block_verify(const uint8_t *at, uint32_t block)
{
	static uint8_t want[BLOCK_BYTES];
	uint32_t generation;
	memcpy(&generation, at, 4);
	memset(want, 0, BLOCK_BYTES);
	if (generation)
		block_fill(want, block, generation);
	if (memcmp(want, at, BLOCK_BYTES) != 0 || generation < known.answered[block] ||
	    generation > known.sent[block]) {
		fprintf(stderr, "block %u: generation %u, answered %u, sent %u%s\n", block,
			generation, known.answered[block], known.sent[block],
			memcmp(want, at, BLOCK_BYTES) ? ", and the data is torn" : "");
		exit(1);
	}
	known.answered[block] = known.sent[block] = generation;
}

static int verify(struct nbd_handle *nbd, uint32_t blocks)
{
	static uint8_t got[256 * BLOCK_BYTES];
	uint32_t unread = 0;
	for (uint32_t first = 0; first < blocks; first += 256) {
		bool whole = nbd_pread(nbd, got, sizeof got, (uint64_t)first * BLOCK_BYTES, 0) == 0;
		for (uint32_t block = first; block < first + 256; block++) {
			uint8_t *at = got + (size_t)(block - first) * BLOCK_BYTES;
			if (whole ||
			    nbd_pread(nbd, at, BLOCK_BYTES, (uint64_t)block * BLOCK_BYTES, 0) == 0)
				block_verify(at, block);
			else if (nbd_get_errno() != EIO)
				return nbd_get_errno();
			else
				unread++;
		}
		if (unread >= UNREAD_MAX)
			break; /* enough to know it */
	}
	if (unread)
		printf("%u blocks could not be read\n", unread);
	return unread ? EIO : 0;
}

static int know(const char *path, const char *mode)
{
	FILE *file = fopen(path, mode);
	if (!file)
		return errno == ENOENT && *mode == 'r' ? 0 : -1;
	size_t got = *mode == 'r' ? fread(&known, sizeof known, 1, file)
				  : fwrite(&known, sizeof known, 1, file);
	return fclose(file) == 0 && got == 1 ? 0 : -1;
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

int main(int argc, char **argv)
{
	struct nbd_handle *nbd = nbd_create();
	if (argc < 5 || know(argv[4], "r") < 0) {
		fprintf(stderr, "usage: stamps write|flush|verify SOCKET EXPORT FILE [MIB]\n");
		return 4;
	}
	nbd_set_export_name(nbd, argv[3]);
	if (nbd_connect_unix(nbd, argv[2]) < 0) {
		fprintf(stderr, "no connection: %s\n", nbd_get_error());
		return 4;
	}
	uint32_t blocks = (uint32_t)(nbd_get_size(nbd) / BLOCK_BYTES);
	uint64_t want = argc > 5 ? strtoull(argv[5], NULL, 10) << 8 : UINT64_MAX;
	if (blocks > BLOCKS_MAX || blocks % 256) {
		fprintf(stderr, "the volume has %u blocks\n", blocks);
		return 4;
	}
	bool writes = strcmp(argv[1], "verify") != 0;
	flushes.wanted = strcmp(argv[1], "flush") == 0;
	if (flushes.wanted)
		signal(SIGTERM, stop);
	int error = writes ? write_all(nbd, blocks, want) : verify(nbd, blocks);
	flush_start();
	if (error == 0 && writes && nbd_flush(nbd, 0) < 0)
		error = nbd_get_errno();
	else if (error == 0 && writes)
		flush_answered();
	nbd_close(nbd);
	if (know(argv[4], "w") < 0)
		return 4;
	if (writes)
		printf("%llu blocks answered, %llu flushes, longest pause %llu ms%s%s\n",
		       (unsigned long long)answered_blocks, (unsigned long long)flushes.count,
		       (unsigned long long)pause_ms_max, error ? ", then: " : "",
		       error ? strerror(error) : "");
	return error == 0 ? 0 : error == ENOSPC ? 2 : error == EIO ? 3 : 4;
}
