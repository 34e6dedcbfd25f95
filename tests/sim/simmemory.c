/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of the simulated world. Large pieces are kept for who asks next, and cleared by writing
 * over them: a page that the kernel has to find costs more than what a seed does with it. What a
 * caller sees is zeroed memory, whatever was there.
 */
#include "tests/sim/simenv_int.h"

#include <sys/mman.h>

#define KEPT_FROM (32 * KIB) /* smaller pieces are malloc's, which keeps them as well */
#define KEPT_TO (5 * MIB)    /* larger ones are seldom touched all over */
#define KEPT_MAX 256u
#define FILES_KEPT_MAX (2 * FILES_MAX)
#ifdef __SANITIZE_ADDRESS__ /* it sees who uses what was given back */
#define KEEP 0
#else
#define KEEP 1
#endif

static struct kept {
	void *at;
	size_t bytes;
} kept[KEPT_MAX];
static unsigned kept_count;
static uint8_t *files_kept[FILES_KEPT_MAX];
static unsigned files_kept_count;

static void *map(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at == MAP_FAILED ? NULL : at;
}

void *sim_memory(struct env *env, size_t bytes)
{
	(void)env;
	bytes = round_up(bytes, BLOCK_BYTES);
	if (bytes >= KEPT_FROM) {
		for (unsigned i = kept_count; i-- > 0;)
			if (kept[i].bytes == bytes) {
				void *at = kept[i].at;
				kept[i] = kept[--kept_count];
				memset(at, 0, bytes);
				return at;
			}
		return map(bytes);
	}
	void *at = aligned_alloc(BLOCK_BYTES, bytes);
	if (at)
		memset(at, 0, bytes);
	return at;
}

void sim_memory_free(struct env *env, void *at, size_t bytes)
{
	(void)env;
	bytes = round_up(bytes, BLOCK_BYTES);
	if (bytes < KEPT_FROM)
		free(at);
	else if (KEEP && bytes <= KEPT_TO && kept_count < KEPT_MAX)
		kept[kept_count++] = (struct kept){.at = at, .bytes = bytes};
	else
		munmap(at, bytes);
}

uint8_t *file_memory(void)
{
	if (files_kept_count)
		return files_kept[--files_kept_count];
	uint8_t *at = map(FILE_BYTES_MAX);
	assert(at);
	return at;
}

void file_memory_free(uint8_t *at, uint64_t touched)
{
	memset(at, 0, touched);
	if (KEEP && files_kept_count < FILES_KEPT_MAX)
		files_kept[files_kept_count++] = at;
	else
		munmap(at, FILE_BYTES_MAX);
}
