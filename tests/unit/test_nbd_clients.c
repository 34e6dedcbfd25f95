/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server's clients vanish, come back, and are many; it stops, and renames, under them. */
#include "tests/unit/unit.h"

#include "storage/nbd/conn.h"
#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- vanishing, coming back ---- */

static void a_client_that_vanishes_leaves_no_harm(void **state)
{
	struct bed *bed = *state;
	uint8_t *payload = calloc(1, MIB);
	for (unsigned i = 0; i < 40; i++) {
		int fd = i < 4 ? raw_connect(bed->disk) : raw_attached(bed->disk, "disk");
		if (i % 2)
			bed_hold(bed);
		if (i >= 4) {
			raw_request(fd, NBD_CMD_WRITE, 0, 1, 0, MIB);
			raw_send(fd, payload, i % 8 ? MIB : MIB / 2);
			for (unsigned k = 0; k < 10; k++)
				raw_request(fd, NBD_CMD_READ, 0, k, 0, MIB);
		}
		close(fd);
		bed_release(bed);
	}
	bed_await(bed, nbd.connections, ==, 0);
	assert_int_equal(bed_counts(bed).views, 0);
	assert_int_equal(bed_counts(bed).nbd.buffer_bytes, 0);
	free(payload);
}

static void a_reconnecting_client_waits_for_its_old_requests(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[4096] = {0}, back[4096];
	int old = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	memset(payload, 1, sizeof payload);
	raw_request(old, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(old, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	close(old);
	int fd = raw_attached(bed->disk, "disk");
	memset(payload, 2, sizeof payload);
	raw_request(fd, NBD_CMD_WRITE, 0, 2, 0, sizeof payload);
	raw_send(fd, payload, sizeof payload);
	int other = raw_attached(bed->all, "other"); /* another volume does not wait */
	raw_request(other, NBD_CMD_FLUSH, 0, 3, 0, 0);
	bed_await(bed, held, ==, 2);
	usleep(20 * 1000);
	assert_int_equal(bed_counts(bed).writes, 1);
	bed_release(bed);
	assert_int_equal(raw_reply(other, 3), 0);
	assert_int_equal(raw_reply(fd, 2), 0);
	raw_request(fd, NBD_CMD_READ, 0, 4, 0, sizeof back);
	assert_int_equal(raw_reply(fd, 4), 0);
	raw_receive(fd, back, sizeof back);
	assert_memory_equal(back, payload, sizeof back);
	close(fd);
	close(other);
}

static void what_an_old_connection_left_unread_goes_first_too(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[512], back[512];
	int old = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	memset(payload, 1, sizeof payload);
	for (unsigned i = 0; i < CONN_REQUESTS_MAX + 90; i++) { /* more than the server takes */
		raw_request(old, NBD_CMD_WRITE, 0, i, 0, sizeof payload);
		raw_send(old, payload, sizeof payload);
	}
	bed_await(bed, held, ==, CONN_REQUESTS_MAX);
	close(old); /* the server does not receive, and cannot see it */
	int fd = raw_attached(bed->disk, "disk");
	memset(payload, 2, sizeof payload);
	raw_request(fd, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(fd, payload, sizeof payload);
	usleep(20 * 1000);
	assert_int_equal(bed_counts(bed).writes, CONN_REQUESTS_MAX);
	bed_release(bed);
	assert_int_equal(raw_reply(fd, 1), 0);
	bed_await(bed, nbd.connections, ==, 1);
	raw_request(fd, NBD_CMD_READ, 0, 2, 0, sizeof back);
	assert_int_equal(raw_reply(fd, 2), 0);
	raw_receive(fd, back, sizeof back);
	assert_memory_equal(back, payload, sizeof back);
	close(fd);
}

static void a_second_connection_does_not_wait_for_a_living_one(void **state)
{
	struct bed *bed = *state;
	uint8_t payload[4096] = {0};
	int first = raw_attached(bed->disk, "disk");
	bed_hold(bed);
	raw_request(first, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(first, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	int second = raw_attached(bed->disk, "disk");
	raw_request(second, NBD_CMD_FLUSH, 0, 2, 0, 0);
	bed_await(bed, held, ==, 2);
	bed_release(bed);
	assert_int_equal(raw_reply(first, 1), 0);
	assert_int_equal(raw_reply(second, 2), 0);
	close(first);
	close(second);
}

/* ---- the server's life ---- */

static void beyond_the_cap_connections_are_closed(void **state)
{
	struct nbd_server_options options = {.connection_count_max = 2};
	struct bed *bed = bed_new(&options);
	(void)state;
	int a = raw_attached(bed->disk, "disk"), b = raw_attached(bed->all, "disk");
	int c = raw_connect(bed->disk);
	raw_closed(c);
	assert_int_equal(bed_counts(bed).nbd.connections_refused, 1);
	close(a);
	bed_await(bed, nbd.connections, ==, 1);
	c = raw_attached(bed->disk, "disk");
	close(b);
	close(c);
	bed_free(bed);
}

static void a_stop_waits_for_requests_and_answers_nothing(void **state)
{
	struct bed *bed = bed_new(NULL);
	uint8_t payload[4096] = {0};
	(void)state;
	int attached = raw_attached(bed->disk, "disk"), greeted = raw_greeted(bed->all, RAW_FLAGS);
	int sending = raw_attached(bed->disk, "disk");
	raw_request(sending, NBD_CMD_WRITE, 0, 1, 0, MIB);
	raw_send(sending, payload, sizeof payload);
	bed_hold(bed);
	raw_request(attached, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(attached, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	bed_stop(bed);
	raw_closed(greeted);
	raw_closed(sending);
	uint8_t byte;
	assert_int_equal(recv(attached, &byte, 1, 0), 0);
	bed_await(bed, views, ==, 1); /* the request is under way: its connection waits */
	assert_false(bed->leave);
	bed_release(bed);
	bed_free(bed); /* the fake store asserts that no view closes under a request */
	raw_closed(attached);
}

struct exports {
	const char *path;
	int added, again, removed, twice;
	struct nbd_attachment *attachments;
	size_t attachment_count;
};

static void call_exports(struct bed *bed, void *arg)
{
	struct exports *exports = arg;
	nbd_server_rename(bed->server, "disk", "renamed");
	memcpy(bed->fake.volumes[0].name, "renamed", 8);
	exports->added = nbd_server_export(bed->server, exports->path, "renamed", 0660, -1);
	exports->again = nbd_server_export(bed->server, exports->path, "renamed", 0660, -1);
	exports->removed = nbd_server_unexport(bed->server, bed->disk);
	exports->twice = nbd_server_unexport(bed->server, bed->disk);
	assert_int_equal(nbd_server_attachments(bed->server, &exports->attachments,
						&exports->attachment_count),
			 0);
}

static void a_renamed_volume_moves_and_its_attachments_stay(void **state)
{
	struct bed *bed = *state;
	char path[96];
	struct exports exports = {.path = path};
	snprintf(path, sizeof path, "%s/renamed", bed->folder);
	int attached = raw_attached(bed->disk, "disk"), greeted = raw_greeted(bed->disk, RAW_FLAGS);
	raw_request(attached, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(raw_reply(attached, 1), 0);
	bed_call(bed, call_exports, &exports);
	assert_int_equal(exports.added, 0);
	assert_int_equal(exports.again, -EEXIST);
	assert_int_equal(exports.removed, 0);
	assert_int_equal(exports.twice, -ENOENT);
	assert_int_equal(exports.attachment_count, 1);
	assert_string_equal(exports.attachments[0].name, "renamed");
	assert_string_equal(exports.attachments[0].path, bed->disk);
	assert_int_equal(exports.attachments[0].requests, 1);
	free(exports.attachments);
	assert_int_equal(access(bed->disk, F_OK), -1);
	raw_closed(greeted); /* it has no export to come to */
	raw_request(attached, NBD_CMD_FLUSH, 0, 2, 0, 0);
	assert_int_equal(raw_reply(attached, 2), 0);
	int fd = raw_attached(path, "renamed");
	close(fd);
	close(attached);
}

static uint64_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *file = fopen("/proc/self/statm", "r");
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*u %lu", &pages), 1);
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void idle_connections_cost_little_memory(void **state)
{
	enum { COUNT = 1000 };
	static int fds[COUNT];
	struct bed *bed = *state;
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	unsigned count = (unsigned)min_u64(COUNT, (limit.rlim_cur - 64) / 2);
	uint64_t before = resident_bytes();
	for (unsigned i = 0; i < count; i++)
		fds[i] = raw_attached(bed->disk, "disk");
	assert_int_equal(bed_counts(bed).nbd.connections, count);
	uint64_t each = (resident_bytes() - before) / count;
#ifndef __SANITIZE_ADDRESS__
	assert_true(each <= 24 * KIB);
#else
	(void)each;
#endif
	for (unsigned i = 0; i < count; i++) {
		raw_request(fds[i], NBD_CMD_FLUSH, 0, i, 0, 0);
		assert_int_equal(raw_reply(fds[i], i), 0);
		close(fds[i]);
	}
	bed_await(bed, nbd.connections, ==, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BED_CASE(a_client_that_vanishes_leaves_no_harm),
		BED_CASE(a_reconnecting_client_waits_for_its_old_requests),
		BED_CASE(what_an_old_connection_left_unread_goes_first_too),
		BED_CASE(a_second_connection_does_not_wait_for_a_living_one),
		cmocka_unit_test(beyond_the_cap_connections_are_closed),
		cmocka_unit_test(a_stop_waits_for_requests_and_answers_nothing),
		BED_CASE(a_renamed_volume_moves_and_its_attachments_stay),
		BED_CASE(idle_connections_cost_little_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
