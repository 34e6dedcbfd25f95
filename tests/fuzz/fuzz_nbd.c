/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Foreign bytes for the NBD server: the parsers by themselves, and the whole server over an env of
 * memory with one client that sends the input and then closes.
 *
 * The first byte says in which pieces the rest arrives; bit 7: the store holds requests until the
 * client is gone. Without a fuzzing engine, main replays files and folders.
 */
#include "proto/nbd.h"
#include "storage/nbd/nbd.h"
#include "storage/rt/log_event.h"
#include "tests/unit/fake_store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 10000000u

struct fuzz_env {
	struct env env;
	struct io_op *ready, **ready_tail;
	const uint8_t *input;
	size_t input_bytes, piece_bytes;
	struct io_op *receiving, *accepting;
	bool shut, closed;
	uint64_t sent_bytes;
};
struct env_sock {
	struct env *env;
};
struct env_listener {
	struct env *env;
};
static struct env_sock the_sock;
static struct env_listener the_listener;

static struct fuzz_env *fuzz_of(void *object)
{
	return (struct fuzz_env *)((struct env_object *)object)->env;
}

static void fuzz_complete(struct env *env, struct io_op *op, int64_t res)
{
	struct fuzz_env *fuzz = (struct fuzz_env *)env;
	op->res = res;
	op->link = NULL;
	*fuzz->ready_tail = op;
	fuzz->ready_tail = &op->link;
}

static bool fuzz_step(struct env *env, bool wait)
{
	struct fuzz_env *fuzz = (struct fuzz_env *)env;
	struct io_op *op = fuzz->ready;
	(void)wait;
	fuzz->ready = NULL;
	fuzz->ready_tail = &fuzz->ready;
	for (struct io_op *next; op; op = next) {
		next = op->link;
		op->done(op);
	}
	return fuzz->ready != NULL;
}

static uint64_t fuzz_now(struct env *env)
{
	(void)env;
	return 1;
}

static void fuzz_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	(void)env;
	(void)delay_ns;
	timer->heap_index = 1;
}

static void fuzz_timer_stop(struct env *env, struct env_timer *timer)
{
	(void)env;
	timer->heap_index = 0;
}

static int fuzz_listen(struct env *env, const char *path, unsigned mode, int64_t group,
		       struct env_listener **ret_listener)
{
	(void)path;
	(void)mode;
	(void)group;
	the_listener.env = env;
	*ret_listener = &the_listener;
	return 0;
}

static void fuzz_listener_close(struct env_listener *listener)
{
	struct fuzz_env *fuzz = fuzz_of(listener);
	if (fuzz->accepting)
		fuzz_complete(&fuzz->env, fuzz->accepting, -ECANCELED);
	fuzz->accepting = NULL;
}

/* The first accept gets the client, a second one waits for ever. */
static void fuzz_accept(struct env_listener *listener, struct io_op *op, struct env_sock **ret_sock)
{
	struct fuzz_env *fuzz = fuzz_of(listener);
	if (the_sock.env) {
		fuzz->accepting = op;
		return;
	}
	the_sock.env = &fuzz->env;
	*ret_sock = &the_sock;
	fuzz_complete(&fuzz->env, op, 0);
}

static void fuzz_recv(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes)
{
	struct fuzz_env *fuzz = fuzz_of(sock);
	assert(bytes > 0 && !fuzz->closed);
	bytes = (uint32_t)min_u64(min_u64(bytes, fuzz->piece_bytes), fuzz->input_bytes);
	if (fuzz->shut)
		bytes = 0;
	if (bytes > 0)
		memcpy(buf, fuzz->input, bytes);
	fuzz->input += bytes;
	fuzz->input_bytes -= bytes;
	fuzz_complete(&fuzz->env, op, bytes);
}

static void fuzz_send(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
		      uint32_t iov_count)
{
	struct fuzz_env *fuzz = fuzz_of(sock);
	volatile uint8_t sum = 0;
	assert(iov_count > 0 && iov_count <= 1024 && !fuzz->closed);
	for (uint32_t i = 0; i < iov_count; i++) {
		assert(iov[i].iov_len > 0);
		sum = (uint8_t)(sum + ((uint8_t *)iov[i].iov_base)[0] +
				((uint8_t *)iov[i].iov_base)[iov[i].iov_len - 1]);
		fuzz->sent_bytes += iov[i].iov_len;
	}
	fuzz_complete(&fuzz->env, op, fuzz->shut ? -EPIPE : 0);
}

static void fuzz_shutdown(struct env_sock *sock)
{
	fuzz_of(sock)->shut = true;
}

static void fuzz_close(struct env_sock *sock)
{
	fuzz_of(sock)->closed = true;
}

static const struct env_ops fuzz_ops = {
	.now_ns = fuzz_now,
	.wall_ns = fuzz_now,
	.timer_start = fuzz_timer_start,
	.timer_stop = fuzz_timer_stop,
	.listen_unix = fuzz_listen,
	.listener_close = fuzz_listener_close,
	.accept = fuzz_accept,
	.sock_recv = fuzz_recv,
	.sock_send = fuzz_send,
	.sock_shutdown = fuzz_shutdown,
	.sock_close = fuzz_close,
	.complete = fuzz_complete,
	.step = fuzz_step,
};

static void run_parsers(const uint8_t *data, size_t bytes)
{
	struct nbd_go go;
	struct nbd_meta meta;
	struct nbd_option option;
	struct nbd_request request;
	struct nbd_string query;
	struct cursor c = cursor_reading(data, bytes);
	if (nbd_parse_go(data, bytes, &go) == 0)
		assert(go.name.bytes <= bytes);
	if (nbd_parse_meta(data, bytes, &meta) == 0) {
		uint32_t count = 0;
		for (; nbd_meta_next(&meta, &query); count++)
			nbd_query_matches(query, NBD_BASE_ALLOCATION, true);
		assert(count == meta.query_count);
	}
	(void)!nbd_get_option(&c, &option);
	c = cursor_reading(data, bytes);
	(void)!nbd_get_request(&c, &request);
}

static void stopped(struct io_op *op)
{
	op->env.tag = 1;
}

static void run_server(uint8_t control, const uint8_t *data, size_t bytes)
{
	static struct fake_store fake;
	struct fuzz_env fuzz = {.env.ops = &fuzz_ops, .input = data, .input_bytes = bytes};
	struct io_op stop = {.done = stopped};
	struct nbd_server *server;
	fuzz.ready_tail = &fuzz.ready;
	fuzz.piece_bytes = control & 0x7f ? (control & 0x7f) * (size_t)17 : SIZE_MAX;
	memset(&the_sock, 0, sizeof the_sock);
	fake.volume_count = 0; /* only what is used of its large arrays is cleared */
	fake.env = &fuzz.env;
	fake.hold = control & 0x80;
	fake_store_add(&fake, "disk", 64 * KIB, true);
	fake_store_add(&fake, "disk@monday", 8 * KIB, true);
	fake_store_add(&fake, "huge", VOLUME_BYTES_MAX, false);
	for (unsigned i = 0; i < fake.volume_count; i++)
		fake.volumes[i].views = 0;
	if (nbd_server_new(&fuzz.env, (struct store *)&fake, NULL, &server) < 0 ||
	    nbd_server_export(server, "socket", NULL, 0600, -1) < 0)
		abort();
	unsigned steps = 0;
	while (fuzz_step(&fuzz.env, false) || fake.held_count > 0) {
		assert(++steps < STEPS_MAX); /* it must come to rest */
		if (!fuzz.ready)
			fake_store_release(&fake);
	}
	nbd_server_stop(server, &stop);
	fake_store_release(&fake);
	while (!stop.env.tag) {
		assert(++steps < STEPS_MAX);
		fuzz_step(&fuzz.env, false);
	}
	struct nbd_counters counters;
	nbd_server_counters(server, &counters);
	assert(counters.connections == 0 && counters.buffer_bytes == 0 && fuzz.closed);
	nbd_server_free(server);
	fake_store_done(&fake);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	if (bytes == 0)
		return 0;
	log_level_set(LOG_LEVEL_ERROR);
	run_parsers(data + 1, bytes - 1);
	run_server(data[0], data + 1, bytes - 1);
	return 0;
}

#ifndef VSTORE_FUZZ_ENGINE

/* Every input as it is, cut at every length when it is short, and in other pieces. */
static int replay(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *file = fopen(path, "rb");
	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return 1;
	}
	size_t bytes = fread(data, 1, sizeof data, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, bytes);
	for (size_t cut = 0; cut < min_u64(bytes, 300); cut++)
		LLVMFuzzerTestOneInput(data, cut);
	static const uint8_t controls[] = {0, 1, 2, 127, 128, 129, 255};
	for (unsigned i = 0; i < sizeof controls && bytes > 0; i++) {
		data[0] = controls[i];
		LLVMFuzzerTestOneInput(data, bytes);
	}
	return 0;
}

int main(int argc, char **argv)
{
	int wrong = argc < 2;
	unsigned count = 0;
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		if (!dir) {
			wrong |= replay(argv[i]);
			count++;
			continue;
		}
		for (struct dirent *entry; (entry = readdir(dir));) {
			char path[1024];
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof path, "%s/%s", argv[i], entry->d_name);
			wrong |= replay(path);
			count++;
		}
		closedir(dir);
	}
	printf("%u inputs\n", count);
	return wrong || count == 0;
}

#endif
