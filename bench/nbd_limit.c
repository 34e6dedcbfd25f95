/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What NBD alone can do: the server over a store of memory, one core. Serves export "disk" at
 * SOCKET until it is told to end (SIGTERM, SIGINT, or SECONDS are over), then says what it did.
 * Drive it with fio's nbd engine or nbdcopy; see README.md.
 */
#include "proto/text.h"
#include "storage/nbd/nbd.h"
#include "tests/unit/fake_store.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static struct fake_store fake;
static volatile sig_atomic_t ending;

static void on_signal(int number)
{
	(void)number;
	ending = 1;
}

static void on_time(struct env_timer *timer)
{
	(void)timer;
	ending = 1;
}

int main(int argc, char **argv)
{
	struct env *env;
	struct nbd_server *server;
	const char *sentence;
	uint64_t bytes;
	if (argc != 4 || text_size(argv[2], &bytes) < 0) {
		fprintf(stderr, "usage: nbd_limit SOCKET SIZE SECONDS\n");
		return 2;
	}
	if (env_real_new(&(struct env_real_options){.worker_count = 1}, &env, &sentence) < 0) {
		fprintf(stderr, "%s\n", sentence);
		return 1;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	fake_store_init(&fake, env);
	fake_store_add(&fake, "disk", bytes, true);
	if (nbd_server_new(env, (struct store *)&fake, NULL, &server) < 0 ||
	    nbd_server_export(server, argv[1], "disk", 0600, -1) < 0) {
		fprintf(stderr, "nbd_limit: %s cannot be listened at\n", argv[1]);
		return 1;
	}
	struct env_timer timer = {.fire = on_time};
	env_timer_start(env, &timer, strtoul(argv[3], NULL, 10) * NSEC_PER_SEC);
	while (!ending)
		env_step(env, true);
	struct io_op stop = {0};
	env_wait_prepare(&stop);
	nbd_server_stop(server, &stop);
	env_wait(env, &stop);
	struct nbd_counters counters;
	struct rusage used;
	nbd_server_counters(server, &counters);
	getrusage(RUSAGE_SELF, &used);
	double cpu = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		     (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
	printf("%llu requests, %.2f s of CPU, %.2f us each\n",
	       (unsigned long long)counters.requests, cpu,
	       cpu * 1e6 / (double)(counters.requests ? counters.requests : 1));
	nbd_server_free(server);
	fake_store_done(&fake);
	env_real_free(env);
	return 0;
}
