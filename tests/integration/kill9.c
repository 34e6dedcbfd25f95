/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill -9 in a loop under a writer that knows what was answered.
 *
 * Each round starts vstored, reads every block back, writes at random with many requests in flight,
 * takes snapshots now and then, and kills the daemon in the middle. After each start a block must
 * be the last answered write of it, or one that was under way when the daemon died.
 *
 * Usage: kill9 VSTORED STORE RUN ROUNDS SEED
 */
#include <assert.h>
#include <libnbd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK_BYTES 4096u
#define BLOCKS 16384u /* 64 MiB */
#define IN_FLIGHT 24u
#define BLOCKS_PER_WRITE_MAX 48u

static struct {
	uint32_t answered, submitted; /* generations; 0: never written */
	uint8_t busy;
} model[BLOCKS];
static uint64_t seed, writes, rounds_with_loss;

static uint64_t random_below(uint64_t below)
{
	uint64_t z = (seed += 0x9e3779b97f4a7c15u); /* splitmix64 (Steele, Lea, Flood 2014) */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % below;
}

static void block_fill(uint8_t *to, uint32_t block, uint32_t generation)
{
	uint64_t word = (uint64_t)block << 32 | generation;
	for (unsigned i = 0; i < BLOCK_BYTES; i += 8) {
		uint64_t value = i % 32 ? word * 0x9e3779b97f4a7c15u + i / 256 : word;
		memcpy(to + i, &value, 8);
	}
}

static pid_t vstored_start(char **argv, char *socket_path, size_t room)
{
	struct stat st;
	char control[256];
	snprintf(socket_path, room, "%s/nbd/a.sock", argv[3]);
	snprintf(control, sizeof control, "%s/storage.sock", argv[3]);
	unlink(socket_path);
	unlink(control);
	pid_t pid = fork();
	if (pid == 0) {
		execl(argv[1], argv[1], "--store", argv[2], "--run", argv[3], "--any-file-system",
		      "--cache", "16M", (char *)NULL);
		_exit(127);
	}
	for (unsigned i = 0; i < 6000 && stat(control, &st) < 0; i++) {
		int status;
		if (waitpid(pid, &status, WNOHANG) == pid) {
			fprintf(stderr, "vstored did not start: status %d\n", status);
			exit(1);
		}
		usleep(10000);
	}
	return pid;
}

static struct nbd_handle *client_new(const char *socket_path)
{
	struct nbd_handle *nbd = nbd_create();
	nbd_set_export_name(nbd, "a");
	if (nbd_connect_unix(nbd, socket_path) < 0) {
		fprintf(stderr, "no connection: %s\n", nbd_get_error());
		exit(1);
	}
	return nbd;
}

/* Every block is what it may be; from now on it is what it is. */
static int verify(struct nbd_handle *nbd, unsigned round)
{
	static uint8_t got[256 * BLOCK_BYTES], want[BLOCK_BYTES];
	for (uint32_t block = 0; block < BLOCKS; block++) {
		const uint8_t *at = got + (size_t)(block % 256) * BLOCK_BYTES;
		uint32_t generation;
		if (block % 256 == 0 &&
		    nbd_pread(nbd, got, sizeof got, block * (uint64_t)BLOCK_BYTES, 0) < 0) {
			fprintf(stderr, "round %u: a read failed: %s\n", round, nbd_get_error());
			return -1;
		}
		memcpy(&generation, at, 4);
		if (generation)
			block_fill(want, block, generation);
		else
			memset(want, 0, BLOCK_BYTES);
		if (memcmp(want, at, BLOCK_BYTES) != 0 || generation < model[block].answered ||
		    generation > model[block].submitted) {
			fprintf(stderr,
				"round %u, block %u: generation %u, answered %u, submitted %u%s\n",
				round, block, generation, model[block].answered,
				model[block].submitted,
				memcmp(want, at, BLOCK_BYTES) ? ", and the data is torn" : "");
			return -1;
		}
		rounds_with_loss += generation != model[block].submitted;
		model[block].answered = model[block].submitted = generation;
		model[block].busy = 0;
	}
	return 0;
}

struct write {
	uint32_t block, count;
	uint32_t generation[BLOCKS_PER_WRITE_MAX];
	uint8_t *data;
	int busy;
};
static struct write slots[IN_FLIGHT];

static int write_done(void *state, int *error)
{
	struct write *write = state;
	for (uint32_t i = 0; i < write->count; i++) {
		if (*error == 0)
			model[write->block + i].answered = write->generation[i];
		model[write->block + i].busy = 0;
	}
	writes += *error == 0;
	write->busy = 0;
	return 1;
}

static void write_start(struct nbd_handle *nbd, struct write *write)
{
	uint32_t count = random_below(3) ? 1 + (uint32_t)random_below(3)
					 : 16 * (1 + (uint32_t)random_below(3));
	uint32_t block = (uint32_t)random_below(BLOCKS - count);
	if (count >= 16)
		block = block / 16 * 16;
	for (uint32_t i = 0; i < count; i++)
		if (model[block + i].busy)
			return;
	write->block = block;
	write->count = count;
	write->busy = 1;
	for (uint32_t i = 0; i < count; i++) {
		model[block + i].busy = 1;
		write->generation[i] = ++model[block + i].submitted;
		block_fill(write->data + (size_t)i * BLOCK_BYTES, block + i, write->generation[i]);
	}
	nbd_completion_callback done = {.callback = write_done, .user_data = write};
	if (nbd_aio_pwrite(nbd, write->data, count * (size_t)BLOCK_BYTES,
			   block * (uint64_t)BLOCK_BYTES, done, 0) < 0)
		write->busy = 0; /* submitted, not answered: either is right */
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Writes until it is time, then the daemon is killed with requests in flight. */
static void write_and_kill(struct nbd_handle *nbd, pid_t pid)
{
	uint64_t end = now_ms() + 30 + random_below(250);
	while (now_ms() < end) {
		for (unsigned i = 0; i < IN_FLIGHT; i++)
			if (!slots[i].busy)
				write_start(nbd, &slots[i]);
		if (nbd_poll(nbd, 10) < 0)
			break;
	}
	kill(pid, SIGKILL);
	while (nbd_poll(nbd, 100) > 0) /* what was answered before it died */
		;
	nbd_close(nbd);
	waitpid(pid, NULL, 0);
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		slots[i].busy = 0;
}

int main(int argc, char **argv)
{
	char socket_path[256];
	if (argc != 6) {
		fprintf(stderr, "usage: kill9 VSTORED STORE RUN ROUNDS SEED\n");
		return 2;
	}
	unsigned rounds = (unsigned)atoi(argv[4]);
	seed = strtoull(argv[5], NULL, 10);
	for (unsigned i = 0; i < IN_FLIGHT; i++)
		slots[i].data = aligned_alloc(BLOCK_BYTES, BLOCKS_PER_WRITE_MAX * BLOCK_BYTES);
	for (unsigned round = 0; round <= rounds; round++) {
		pid_t pid = vstored_start(argv, socket_path, sizeof socket_path);
		struct nbd_handle *nbd = client_new(socket_path);
		if (verify(nbd, round) < 0) {
			kill(pid, SIGTERM);
			waitpid(pid, NULL, 0);
			return 1;
		}
		if (round < rounds) {
			write_and_kill(nbd, pid);
			continue;
		}
		int status;
		nbd_shutdown(nbd, 0);
		nbd_close(nbd);
		kill(pid, SIGTERM);
		waitpid(pid, &status, 0);
		if (status != 0) {
			fprintf(stderr, "vstored ended with status %d\n", status);
			return 1;
		}
	}
	printf("%u kills, %llu writes answered, all of them there; %llu blocks whose last write "
	       "was "
	       "under way are older\n",
	       rounds, (unsigned long long)writes, (unsigned long long)rounds_with_loss);
	return writes ? 0 : 1;
}
