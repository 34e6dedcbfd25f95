/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's connection to libvirt, by libvirt's own test driver: it is opened again however early
 * it ends. */
#include "tests/unit/unit.h"

#include "agent/vm/virt.h"

#include <libvirt/libvirt.h>
#include <semaphore.h>
#include <time.h>

#define WAIT_S 60 /* only a failure takes so long */

static sem_t connected_count;
static unsigned callbacks;
static bool ended; /* the first connection; asked once whether it is alive */

/* In libvirt's place: the first connection ends as soon as somebody may be told, which is before
 * anybody waits for it. */
int virConnectRegisterCloseCallback(virConnectPtr connection, virConnectCloseFunc callback,
				    void *opaque, virFreeCallback free_opaque)
{
	(void)free_opaque;
	if (callbacks++ == 0) {
		ended = true;
		callback(connection, VIR_CONNECT_CLOSE_REASON_EOF, opaque);
	}
	return 0;
}

int virConnectIsAlive(virConnectPtr connection)
{
	bool alive = !ended;
	(void)connection;
	ended = false;
	return alive;
}

static void connected(void *state)
{
	(void)state;
	sem_post(&connected_count);
}

static void event(void *state, const struct virt_event *event)
{
	(void)state;
	(void)event;
}

static bool connected_again(void)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	return sem_timedwait(&connected_count, &until) == 0;
}

static void a_connection_that_ends_at_once_is_opened_again(void **state)
{
	const struct virt_options options = {
		.uri = "test:///default", .event = event, .connected = connected};
	struct problem problem = {0};
	struct virt_result result = {0};
	struct virt *virt;
	(void)state;
	sem_init(&connected_count, 0, 0);
	assert_int_equal(virt_new(&options, &virt), 0);
	assert_true(connected_again());
	assert_true(connected_again());
	assert_true(virt_connected(virt));
	assert_int_equal(virt_do(virt, VIRT_LIST, &(struct virt_args){0}, &result, &problem), 0);
	assert_non_null(strstr(result.text, "\"name\":\"test\"")); /* the driver's only domain */
	free(result.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_that_ends_at_once_is_opened_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
