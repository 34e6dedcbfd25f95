/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each block holds: real data, chosen by block and generation, with both stamped into its
 * first 16 bytes, so that no two writes are equal and a lost, old or misplaced write is seen.
 */
#include "bench/load/load.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define STAMP_MAGIC 0x76736c64u
#define REPORTED_MAX 5u

struct stamp {
	uint32_t magic, generation;
	uint64_t block_no;
};

static void *map_file(const char *path, int flags, uint64_t bytes, uint64_t *ret_bytes)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);
	struct stat stat;
	if (fd < 0 || (bytes && ftruncate(fd, (off_t)bytes) < 0) || fstat(fd, &stat) < 0)
		die("%s cannot be opened: %s", path, strerror(errno));
	int writable = bytes ? PROT_WRITE : 0;
	void *at = mmap(NULL, (size_t)stat.st_size, PROT_READ | writable, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		die("%s cannot be mapped: %s", path, strerror(errno));
	close(fd);
	*ret_bytes = (uint64_t)stat.st_size;
	return at;
}

void content_open(struct content *content, const char *payload, const char *base, const char *state,
		  uint64_t block_count)
{
	uint64_t bytes;
	*content = (struct content){.block_count = block_count};
	content->payload = map_file(payload, O_RDONLY, 0, &bytes);
	content->payload_blocks = bytes / BLOCK_BYTES;
	if (!content->payload_blocks)
		die("%s is smaller than a block", payload);
	if (base) {
		content->base = map_file(base, O_RDONLY, 0, &bytes);
		content->base_blocks = bytes / BLOCK_BYTES;
	}
	content->generations =
		state ? map_file(state, O_RDWR | O_CREAT, block_count * sizeof(uint32_t), &bytes)
		      : calloc(block_count, sizeof(uint32_t));
	if (!content->generations)
		die("there is no memory for %llu blocks", (unsigned long long)block_count);
}

void content_fill(const struct content *content, uint64_t block_no, uint32_t generation,
		  void *ret_block)
{
	uint64_t mixed = (block_no + 1) * UINT64_C(0x9e3779b97f4a7c15) +
			 generation * UINT64_C(0xd1b54a32d192ed03);
	mixed ^= mixed >> 29;
	memcpy(ret_block, content->payload + mixed % content->payload_blocks * BLOCK_BYTES,
	       BLOCK_BYTES);
	struct stamp stamp = {STAMP_MAGIC, generation, block_no};
	memcpy(ret_block, &stamp, sizeof stamp);
}

static bool block_right(const struct content *content, uint64_t block_no, const uint8_t *block)
{
	uint8_t wanted[BLOCK_BYTES];
	uint32_t generation = content->generations[block_no];
	if (generation) {
		content_fill(content, block_no, generation, wanted);
		return memcmp(block, wanted, BLOCK_BYTES) == 0;
	}
	if (!content->base || block_no >= content->base_blocks)
		return true;
	return memcmp(block, content->base + block_no * BLOCK_BYTES, BLOCK_BYTES) == 0;
}

uint64_t content_verify(const struct content *content, int fd)
{
	static uint8_t data[16 * CHUNK_BYTES];
	uint64_t wrong = 0, bytes = content->block_count * BLOCK_BYTES;
	for (uint64_t at = 0; at < bytes; at += sizeof data) {
		uint32_t count = (uint32_t)min_u64(sizeof data, bytes - at);
		conn_read(fd, at, data, count);
		for (uint32_t i = 0; i < count; i += BLOCK_BYTES) {
			uint64_t block_no = (at + i) / BLOCK_BYTES;
			if (block_right(content, block_no, data + i))
				continue;
			struct stamp stamp;
			memcpy(&stamp, data + i, sizeof stamp);
			if (wrong++ < REPORTED_MAX)
				fprintf(stderr,
					"load: block %llu is not what was answered last "
					"(generation %u, "
					"read %s%u)\n",
					(unsigned long long)block_no,
					content->generations[block_no],
					stamp.magic == STAMP_MAGIC ? "" : "no stamp, ",
					stamp.generation);
		}
	}
	return wrong;
}
