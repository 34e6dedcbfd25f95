/* SPDX-License-Identifier: Apache-2.0 */
/* The NBD server's part in leases and limits: sockets that are cut, connections that wait. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "tests/unit/nbd_bed.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct cut {
	struct io_op op;
	char path[96];
	uint64_t generation;
	int exported;
	bool done;
	struct nbd_throttled throttled;
	struct volume_limits limits;
};

static void cut_done(struct io_op *op)
{
	((struct cut *)op)->done = true;
}

static void call_export(struct bed *bed, void *arg)
{
	struct cut *cut = arg;
	cut->exported =
		nbd_server_export_leased(bed->server, cut->path, "disk", 0600, cut->generation);
}
static void call_cut(struct bed *bed, void *arg)
{
	struct cut *cut = arg;
	cut->op.done = cut_done;
	nbd_server_cut(bed->server, cut->path, &cut->op);
	assert_false(cut->done); /* never before it returns */
}
static void call_done(struct bed *bed, void *arg)
{
	*(bool *)arg |= bed->fake.fences > 0;
}
static void call_look(struct bed *bed, void *arg)
{
	(void)bed;
	(void)arg;
}

static bool cut_ended(struct bed *bed, struct cut *cut)
{
	bed_call(bed, call_look, NULL); /* a pass of the loop */
	return __atomic_load_n(&cut->done, __ATOMIC_ACQUIRE);
}

static void a_cut_ends_when_what_came_by_the_socket_has(void **state)
{
	struct bed *bed = *state;
	struct cut cut = {.generation = 1};
	uint8_t payload[512] = {7};
	bool fenced = false;
	snprintf(cut.path, sizeof cut.path, "%s/leased", bed->folder);
	bed_call(bed, call_export, &cut);
	assert_int_equal(cut.exported, 0);
	int leased = raw_attached(cut.path, "disk"), other = raw_attached(bed->disk, "disk");
	int greeted = raw_greeted(cut.path, RAW_FLAGS);
	bed_hold(bed);
	raw_request(leased, NBD_CMD_WRITE, 0, 1, 0, sizeof payload);
	raw_send(leased, payload, sizeof payload);
	bed_await(bed, held, ==, 1);
	bed_call(bed, call_cut, &cut);
	bed_call(bed, call_done, &fenced);
	assert_true(fenced);
	raw_closed(leased);
	raw_closed(greeted);
	assert_int_equal(access(cut.path, F_OK), -1);
	assert_false(cut_ended(bed, &cut)); /* its write may still land */
	bed_release(bed);
	while (!cut_ended(bed, &cut))
		usleep(1000);
	assert_int_equal(cut.op.res, 0);
	raw_request(other, NBD_CMD_FLUSH, 0, 2, 0, 0); /* who came by another door stays */
	assert_int_equal(raw_reply(other, 2), 0);
	close(other);
}

static void a_socket_of_an_ended_lease_lets_nobody_in(void **state)
{
	struct bed *bed = *state;
	struct cut cut = {.generation = FAKE_FENCED};
	uint8_t data[512];
	uint32_t type;
	struct cursor c = cursor_over(data, sizeof data);
	snprintf(cut.path, sizeof cut.path, "%s/stale", bed->folder);
	bed_call(bed, call_export, &cut);
	int fd = raw_greeted(cut.path, RAW_FLAGS);
	put_be_u32(&c, 4);
	put_bytes(&c, "disk", 4);
	put_be_u16(&c, 0);
	raw_option(fd, NBD_OPT_GO, data, 10);
	raw_option_reply(fd, NBD_OPT_GO, &type, data, sizeof data);
	assert_int_equal(type, NBD_REP_ERR_UNKNOWN);
	close(fd);
	cut.done = false;
	snprintf(cut.path, sizeof cut.path, "%s/nosuch", bed->folder);
	bed_call(bed, call_cut, &cut);
	while (!cut_ended(bed, &cut))
		usleep(1000);
	assert_int_equal(cut.op.res, -ENOENT);
}

static void call_limit(struct bed *bed, void *arg)
{
	assert_int_equal(nbd_server_limit(bed->server, "disk", &((struct cut *)arg)->limits), 0);
}
static void call_throttled(struct bed *bed, void *arg)
{
	struct cut *cut = arg;
	struct nbd_throttled *list;
	size_t count;
	assert_int_equal(nbd_server_throttled(bed->server, &list, &count), 0);
	memset(&cut->throttled, 0, sizeof cut->throttled);
	if (count)
		cut->throttled = list[0];
	free(list);
}

#define REQUESTS 60u

/* A minute's worth at one a second: some wait, whatever the machine does. */
static void what_exceeds_a_limit_waits_and_goes_on_when_it_is_lifted(void **state)
{
	struct bed *bed = *state;
	struct cut cut = {.limits = {.iops = 1}};
	uint8_t data[512];
	int fds[2] = {raw_attached(bed->disk, "disk"), raw_attached(bed->disk, "disk")};
	int free_of_it = raw_attached(bed->all, "other"), gone = raw_attached(bed->disk, "disk");
	bed_call(bed, call_limit, &cut);
	for (unsigned i = 0; i < REQUESTS; i++)
		raw_request(fds[i % 2], NBD_CMD_READ, 0, i, 0, sizeof data);
	raw_request(gone, NBD_CMD_READ, 0, 1, 0, sizeof data);
	do
		bed_call(bed, call_throttled, &cut);
	while (cut.throttled.waiting < 3);
	assert_string_equal(cut.throttled.volume, "disk");
	assert_true(bed_counts(bed).reads < REQUESTS);
	close(gone); /* who waits may vanish */
	bed_await(bed, nbd.connections, ==, 3);
	for (unsigned i = 0; i < 10; i++) { /* others are not held up */
		raw_request(free_of_it, NBD_CMD_READ, 0, i, 0, sizeof data);
		assert_int_equal(raw_reply(free_of_it, i), 0);
		raw_receive(free_of_it, data, sizeof data);
	}
	bed_call(bed, call_throttled, &cut);
	assert_true(cut.throttled.requests >= 3 && cut.throttled.waited_ns > 0);
	cut.limits.iops = 0;
	bed_call(bed, call_limit, &cut);
	for (unsigned i = 0; i < REQUESTS; i++) {
		assert_int_equal(raw_reply(fds[i % 2], i), 0);
		raw_receive(fds[i % 2], data, sizeof data);
	}
	bed_call(bed, call_throttled, &cut);
	assert_int_equal(cut.throttled.requests, 0); /* none has limits any more */
	close(fds[0]);
	close(fds[1]);
	close(free_of_it);
}

/* By bytes: what was owed at a very low rate does not outlive it. */
static void a_higher_limit_counts_at_once(void **state)
{
	struct bed *bed = *state;
	struct cut cut = {.limits = {.bytes_per_s = 1}};
	uint8_t data[4096];
	int fd = raw_attached(bed->disk, "disk");
	bed_call(bed, call_limit, &cut);
	for (unsigned i = 0; i < 3; i++)
		raw_request(fd, NBD_CMD_READ, 0, i, 0, sizeof data);
	do
		bed_call(bed, call_throttled, &cut);
	while (cut.throttled.waiting < 1);
	cut.limits.bytes_per_s = GIB;
	bed_call(bed, call_limit, &cut);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(raw_reply(fd, i), 0);
		raw_receive(fd, data, sizeof data);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BED_CASE(a_cut_ends_when_what_came_by_the_socket_has),
		BED_CASE(a_socket_of_an_ended_lease_lets_nobody_in),
		BED_CASE(what_exceeds_a_limit_waits_and_goes_on_when_it_is_lifted),
		BED_CASE(a_higher_limit_counts_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
