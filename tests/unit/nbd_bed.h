/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bed for tests of the NBD server: the real env and the server on a thread of their own, over a
 * fake store; clients of any kind in the test's thread. Every wait has a limit, after which the
 * test fails.
 */
#ifndef TESTS_NBD_BED_H
#define TESTS_NBD_BED_H

#include "proto/nbd.h"
#include "storage/nbd/nbd.h"
#include "tests/unit/fake_store.h"

#include <pthread.h>
#include <semaphore.h>

#define BED_DISK_BYTES (80 * MIB)

struct bed {
	struct env *env;
	struct fake_store fake;
	struct nbd_server *server;
	char folder[64], disk[80], all[80]; /* socket paths */
	pthread_t thread;
	sem_t ready;
	bool stopping, leave;
	struct io_op stop_op;
	struct nbd_server_options options;
};

/* Volumes disk, disk@monday, other (1 MiB), huge (256 TiB, a hole); sockets `disk` and `all`. */
struct bed *bed_new(const struct nbd_server_options *options);
/* Starts to stop the server; only bed_release and bed_free may follow. */
void bed_stop(struct bed *bed);
/* Lets go of what is held, and waits until the server has ended. */
void bed_free(struct bed *bed);

/* A bed of its own for a case: *state. */
int bed_setup(void **state);
int bed_teardown(void **state);
#define BED_CASE(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

/* Runs a function on the reactor and waits for it. */
void bed_call(struct bed *bed, void (*call)(struct bed *bed, void *arg), void *arg);
void bed_hold(struct bed *bed);
void bed_release(struct bed *bed);
void bed_fail(struct bed *bed, int64_t code);
struct bed_counts {
	unsigned views, requests, held, held_most, reads, writes, flushes, fuas, zeros, trims,
		caches;
	struct nbd_counters nbd;
};
struct bed_counts bed_counts(struct bed *bed);
/* Waits until a field of the counts compares so. */
#define bed_await(bed, field, op, value)                                                           \
	do {                                                                                       \
		unsigned tries = 0;                                                                \
		while (!(bed_counts(bed).field op(value))) {                                       \
			assert_true(++tries < 120000);                                             \
			usleep(1000);                                                              \
		}                                                                                  \
	} while (0)

/* ---- a client that speaks bytes ---- */

#define RAW_FLAGS (NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES) /* what clients of today agree to */
int raw_connect(const char *path);
void raw_send(int fd, const void *data, size_t bytes);
void raw_receive(int fd, void *to, size_t bytes);
/* Reads on until the server has closed. */
void raw_closed(int fd);
/* Connects and exchanges greeting and flags. */
int raw_greeted(const char *path, uint32_t flags);
void raw_option(int fd, uint32_t number, const void *data, uint32_t bytes);
/* One reply to an option: its type; data up to `room` bytes. Returns the data's bytes. */
uint32_t raw_option_reply(int fd, uint32_t number, uint32_t *ret_type, void *data, size_t room);
/* GO for `name`, its replies read. */
int raw_attached(const char *path, const char *name);
void raw_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset,
		 uint32_t bytes);
/* A simple reply: its error. */
uint32_t raw_reply(int fd, uint64_t cookie);

#endif
