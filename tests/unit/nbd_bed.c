/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the reactor's thread ---- */

static void *bed_main(void *arg)
{
	struct bed *bed = arg;
	const char *sentence;
	assert_int_equal(
		env_real_new(&(struct env_real_options){.worker_count = 1}, &bed->env, &sentence),
		0);
	fake_store_init(&bed->fake, bed->env);
	fake_store_add(&bed->fake, "disk", BED_DISK_BYTES, true);
	fake_store_add(&bed->fake, "disk@monday", MIB, true);
	fake_store_add(&bed->fake, "other", MIB, true);
	fake_store_add(&bed->fake, "huge", VOLUME_BYTES_MAX, false);
	assert_int_equal(
		nbd_server_new(bed->env, (struct store *)&bed->fake, &bed->options, &bed->server),
		0);
	assert_int_equal(nbd_server_export(bed->server, bed->disk, "disk", 0600, -1), 0);
	assert_int_equal(nbd_server_export(bed->server, bed->all, NULL, 0600, -1), 0);
	sem_post(&bed->ready);
	while (!bed->leave)
		env_step(bed->env, true);
	nbd_server_free(bed->server);
	fake_store_done(&bed->fake);
	env_real_free(bed->env);
	return NULL;
}

struct bed *bed_new(const struct nbd_server_options *options)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	assert_non_null(bed);
	snprintf(bed->folder, sizeof bed->folder, "./test-nbd.XXXXXX");
	assert_non_null(mkdtemp(bed->folder));
	snprintf(bed->disk, sizeof bed->disk, "%s/disk", bed->folder);
	snprintf(bed->all, sizeof bed->all, "%s/all", bed->folder);
	if (options)
		bed->options = *options;
	sem_init(&bed->ready, 0, 0);
	assert_int_equal(pthread_create(&bed->thread, NULL, bed_main, bed), 0);
	sem_wait(&bed->ready);
	return bed;
}

static void bed_stopped(struct io_op *op)
{
	struct bed *bed = container_of(op, struct bed, stop_op);
	bed->leave = true;
}

static void call_stop(struct bed *bed, void *arg)
{
	(void)arg;
	bed->stop_op.done = bed_stopped;
	nbd_server_stop(bed->server, &bed->stop_op);
}

void bed_stop(struct bed *bed)
{
	bed->stopping = true;
	bed_call(bed, call_stop, NULL);
}

void bed_free(struct bed *bed)
{
	if (!bed->stopping) {
		bed_release(bed);
		bed_stop(bed);
	}
	pthread_join(bed->thread, NULL);
	sem_destroy(&bed->ready);
	assert_int_equal(rmdir(bed->folder), 0); /* the sockets are gone */
	free(bed);
}

int bed_setup(void **state)
{
	*state = bed_new(NULL);
	return 0;
}

int bed_teardown(void **state)
{
	bed_free(*state);
	return 0;
}

struct bed_post {
	struct io_op op;
	struct bed *bed;
	void (*call)(struct bed *bed, void *arg);
	void *arg;
	sem_t done;
};

static void bed_called(struct io_op *op)
{
	struct bed_post *post = (struct bed_post *)op;
	post->call(post->bed, post->arg);
	sem_post(&post->done);
}

void bed_call(struct bed *bed, void (*call)(struct bed *bed, void *arg), void *arg)
{
	struct bed_post post = {.op.done = bed_called, .bed = bed, .call = call, .arg = arg};
	sem_init(&post.done, 0, 0);
	env_post(bed->env, &post.op);
	sem_wait(&post.done);
	sem_destroy(&post.done);
}

static void call_hold(struct bed *bed, void *arg)
{
	(void)arg;
	bed->fake.hold = true;
}
void bed_hold(struct bed *bed)
{
	bed_call(bed, call_hold, NULL);
}

static void call_release(struct bed *bed, void *arg)
{
	(void)arg;
	fake_store_release(&bed->fake);
}
void bed_release(struct bed *bed)
{
	bed_call(bed, call_release, NULL);
}

static void call_fail(struct bed *bed, void *arg)
{
	bed->fake.fail = *(int64_t *)arg;
}
void bed_fail(struct bed *bed, int64_t code)
{
	bed_call(bed, call_fail, &code);
}

static void call_counts(struct bed *bed, void *arg)
{
	const struct fake_store *fake = &bed->fake;
	struct bed_counts *counts = arg;
	*counts =
		(struct bed_counts){fake->views, fake->requests, fake->held_count, fake->held_most,
				    fake->reads, fake->writes,	 fake->flushes,	   fake->fuas,
				    fake->zeros, fake->trims,	 fake->caches,	   {0}};
	nbd_server_counters(bed->server, &counts->nbd);
}
struct bed_counts bed_counts(struct bed *bed)
{
	struct bed_counts counts;
	bed_call(bed, call_counts, &counts);
	return counts;
}

/* ---- a client that speaks bytes ---- */

int raw_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = 120}; /* ends a hang */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	memcpy(address.sun_path, path, strlen(path) + 1);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
	return fd;
}

void raw_send(int fd, const void *data, size_t bytes)
{
	for (const uint8_t *at = data; bytes > 0;) {
		ssize_t sent = send(fd, at, bytes, MSG_NOSIGNAL);
		assert_true(sent > 0);
		at += sent;
		bytes -= (size_t)sent;
	}
}

void raw_receive(int fd, void *to, size_t bytes)
{
	for (uint8_t *at = to; bytes > 0;) {
		ssize_t got = recv(fd, at, bytes, 0);
		assert_true(got > 0);
		at += got;
		bytes -= (size_t)got;
	}
}

void raw_closed(int fd)
{
	uint8_t rest[4096];
	ssize_t got;
	while ((got = recv(fd, rest, sizeof rest, 0)) > 0)
		;
	assert_true(got == 0 || errno == ECONNRESET);
	close(fd);
}

int raw_greeted(const char *path, uint32_t flags)
{
	uint8_t buf[NBD_GREETING_BYTES];
	int fd = raw_connect(path);
	raw_receive(fd, buf, sizeof buf);
	assert_memory_equal(buf, "NBDMAGICIHAVEOPT\0\3", sizeof buf);
	struct cursor c = cursor_over(buf, sizeof buf);
	put_be_u32(&c, flags);
	raw_send(fd, buf, 4);
	return fd;
}

void raw_option(int fd, uint32_t number, const void *data, uint32_t bytes)
{
	uint8_t header[NBD_OPTION_BYTES];
	struct cursor c = cursor_over(header, sizeof header);
	nbd_put_option(&c, number, bytes);
	raw_send(fd, header, sizeof header);
	if (data)
		raw_send(fd, data, bytes);
}

uint32_t raw_option_reply(int fd, uint32_t number, uint32_t *ret_type, void *data, size_t room)
{
	uint8_t header[NBD_OPTION_REPLY_BYTES];
	raw_receive(fd, header, sizeof header);
	struct cursor c = cursor_reading(header, sizeof header);
	assert_true(get_be_u64(&c) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(get_be_u32(&c), number);
	*ret_type = get_be_u32(&c);
	uint32_t bytes = get_be_u32(&c);
	assert_true(bytes <= room);
	raw_receive(fd, data, bytes);
	return bytes;
}

int raw_attached(const char *path, const char *name)
{
	uint8_t data[512];
	uint32_t type;
	struct cursor c = cursor_over(data, sizeof data);
	int fd = raw_greeted(path, RAW_FLAGS);
	put_be_u32(&c, (uint32_t)strlen(name));
	put_bytes(&c, name, strlen(name));
	put_be_u16(&c, 0);
	raw_option(fd, NBD_OPT_GO, data, (uint32_t)(sizeof data - cursor_left(&c)));
	do
		raw_option_reply(fd, NBD_OPT_GO, &type, data, sizeof data);
	while (type == NBD_REP_INFO);
	assert_int_equal(type, NBD_REP_ACK);
	return fd;
}

void raw_request(int fd, uint16_t type, uint16_t flags, uint64_t cookie, uint64_t offset,
		 uint32_t bytes)
{
	uint8_t wire[NBD_REQUEST_BYTES];
	struct cursor c = cursor_over(wire, sizeof wire);
	nbd_put_request(&c, &(struct nbd_request){.flags = flags,
						  .type = type,
						  .cookie = cookie,
						  .offset_bytes = offset,
						  .length_bytes = bytes});
	raw_send(fd, wire, sizeof wire);
}

uint32_t raw_reply(int fd, uint64_t cookie)
{
	uint8_t wire[NBD_SIMPLE_REPLY_BYTES];
	raw_receive(fd, wire, sizeof wire);
	struct cursor c = cursor_reading(wire, sizeof wire);
	assert_int_equal(get_be_u32(&c), NBD_SIMPLE_REPLY_MAGIC);
	uint32_t error = get_be_u32(&c);
	assert_true(get_be_u64(&c) == cookie);
	return error;
}
