/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A real store behind the NBD server, without a daemon: for scripts that bring their own clients.
 *
 *     serve STORE RUN [VOLUME=SIZE | VOLUME@SNAP]...
 *
 * Makes the store when it is empty, then the volumes and snapshots that are named, serves
 * RUN/VOLUME.sock for each volume there is and RUN/all.sock, prints "ready", and ends at SIGTERM:
 * drops its clients, closes the store. Its exit status says whether all that went well.
 */
#include "proto/text.h"
#include "storage/nbd/nbd.h"
#include "storage/rt/env.h"
#include "storage/store/store.h"
#include "storage/store/store_list.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static volatile sig_atomic_t ending;

static void on_signal(int number)
{
	(void)number;
	ending = 1;
}

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "serve: %s: %s\n", what, why);
	return 1;
}

static int make_one(struct env *env, struct store *store, char *what)
{
	struct admin_op admin = {0};
	char *size = strchr(what, '=');
	env_wait_prepare(&admin.op);
	if (size) {
		struct volume_options options = {0};
		*size = 0;
		if (text_size(size + 1, &options.size_bytes) < 0)
			return fail(what, "no size");
		store_volume_create(store, &admin, what, &options);
	} else {
		const char *names[] = {what};
		store_snap_create(store, &admin, names, 1);
	}
	return env_wait(env, &admin.op) < 0 ? fail(what, admin.sentence) : 0;
}

static int export_all(struct nbd_server *server, struct store *store, const char *run)
{
	struct volume_info *volumes;
	char path[NBD_PATH_ROOM];
	size_t count;
	if (store_volumes(store, false, &volumes, &count) < 0)
		return fail(run, "no memory");
	int wrong = 0;
	for (size_t i = 0; i < count; i++) {
		snprintf(path, sizeof path, "%s/%.63s.sock", run, volumes[i].name);
		if (nbd_server_export(server, path, volumes[i].name, 0600, -1) < 0)
			wrong |= fail(path, "cannot be listened at");
	}
	snprintf(path, sizeof path, "%s/all.sock", run);
	if (nbd_server_export(server, path, NULL, 0600, -1) < 0)
		wrong |= fail(path, "cannot be listened at");
	free(volumes);
	return wrong;
}

/* Wakes the loop now and then, to look at `ending`. */
static struct env *the_env;
static void on_tick(struct env_timer *timer)
{
	env_timer_start(the_env, timer, 20 * NSEC_PER_MSEC);
}

static int serve(struct env *env, struct store *store, const char *run, int count, char **what)
{
	struct nbd_server *server;
	struct env_timer tick = {.fire = on_tick};
	struct io_op stop = {0};
	for (int i = 0; i < count; i++)
		if (make_one(env, store, what[i]) != 0)
			return 1;
	if (nbd_server_new(env, store, NULL, &server) < 0)
		return fail(run, "no memory");
	int wrong = export_all(server, store, run);
	the_env = env;
	on_tick(&tick);
	puts("ready");
	fflush(stdout);
	while (!ending && !wrong)
		env_step(env, true);
	env_timer_stop(env, &tick);
	env_wait_prepare(&stop);
	nbd_server_stop(server, &stop);
	env_wait(env, &stop);
	nbd_server_free(server);
	return wrong;
}

int main(int argc, char **argv)
{
	struct env *env;
	struct store *store;
	struct store_make_options make = {.log_bytes = 32 * MIB, .any_file_system = true};
	struct store_options options = {.any_file_system = true, .cache_bytes = 32 * MIB};
	char sentence[SENTENCE_BYTES];
	const char *why;
	if (argc < 3)
		return fail("usage", "serve STORE RUN [VOLUME=SIZE | VOLUME@SNAP]...");
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	if (env_real_new(&(struct env_real_options){.worker_count = 1}, &env, &why) < 0)
		return fail("env", why);
	int res = store_open(env, argv[1], &options, &store, sentence);
	if (res == -ENOENT) {
		res = store_make(env, argv[1], &make, sentence);
		if (res == 0)
			res = store_open(env, argv[1], &options, &store, sentence);
	}
	if (res < 0)
		return fail(argv[1], sentence);
	int wrong = serve(env, store, argv[2], argc - 3, argv + 3);
	res = store_close(store);
	if (res < 0)
		wrong |= fail("closing", vs_strerror(res));
	env_real_free(env);
	return wrong;
}
