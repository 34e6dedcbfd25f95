/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load generator for NBD servers, for what fio cannot do: payload of real data, many clients that
 * each write and flush, a figure for every second, and proof afterwards that each block holds what
 * was answered last. One thread; plain sockets; simple replies.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "proto/units.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONNECTIONS_MAX 256u
#define DEPTH_MAX 256u

/* conn.c: one connection to an export; blocks, and ends the program with a sentence on failure. */
int conn_open(const char *socket_path, const char *export_name, uint64_t *ret_bytes);
void conn_send(int fd, const void *bytes, size_t count);
void conn_receive(int fd, void *ret, size_t count);
void conn_close(int fd); /* NBD_CMD_DISC */
/* One request with its answer, nothing else under way on this connection. */
void conn_read(int fd, uint64_t offset_bytes, void *ret, uint32_t bytes);
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);

/*
 * content.c: what each block holds. A block's generation counts our writes to it; 0: it still holds
 * what the file `base` has there. Generations live in a file, so that one run can go on where
 * another ended and a later one can verify.
 */
struct content {
	const uint8_t *payload,
		*base; /* base: NULL when there is none; generation 0 is not judged then */
	uint64_t payload_blocks, base_blocks;
	uint32_t *generations;
	uint64_t block_count;
};

void content_open(struct content *content, const char *payload, const char *base, const char *state,
		  uint64_t block_count);
void content_fill(const struct content *content, uint64_t block_no, uint32_t generation,
		  void *ret_block);
/* Reads the region and counts the blocks that hold something else. */
uint64_t content_verify(const struct content *content, int fd);

/* histogram.c: latencies, exact to 1.6 %. */
#define HISTOGRAM_BUCKETS (64u * 59u)
struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS], total, max_ns;
};
void histogram_add(struct histogram *h, uint64_t ns);
uint64_t histogram_at(const struct histogram *h, double part); /* ns; part: 0.5 is the median */

#endif
