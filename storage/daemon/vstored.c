/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vstored: opens a store and serves it until a signal.
 *
 * Start: RUN and its lock, the guard against crash loops, the store, sockets. End: sockets go and
 * connections are dropped, jobs are cancelled, what is under way ends, the store is closed. A
 * second signal ends it at once; nothing that was answered is lost then either.
 */
#include "storage/daemon/daemon.h"
#include "storage/daemon/policies.h"

#include "storage/control/notify.h"
#include "storage/control/signals.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUP "vstore-admin"
#define CRASHES_MAX 2u
#define TICK_NS NSEC_PER_SEC /* a fast writer fills a small store in seconds */
#define EXIT_AGAIN 256	     /* no exit code */
#define EXIT_USAGE 2
#define EXIT_BUSY 5
#define EXIT_DAMAGE 11
#define EXIT_NO_SPACE 12

static int fail(int code, const char *sentence)
{
	fprintf(stderr, "vstored: %s\n", sentence);
	return code == -VS_ELOCKED ? EXIT_BUSY : code == -ENOSPC ? EXIT_NO_SPACE : 1;
}

/* ---- RUN ---- */

/* Passable by everyone, whatever the umask: the sockets in it have their own rights. */
static int folder_make(const char *path)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -1;
	return chmod(path, 0755);
}

static int run_open(const char *run_path, char *sentence)
{
	char path[200];
	snprintf(path, sizeof path, "%s/nbd", run_path);
	if (folder_make(run_path) < 0 || folder_make(path) < 0) {
		int res = -errno;
		snprintf(sentence, SENTENCE_BYTES, "The folder %.200s cannot be made: %s.",
			 run_path, vs_strerror(res));
		return res;
	}
	snprintf(path, sizeof path, "%s/vstored.lock", run_path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 fd < 0 ? "%.200s/vstored.lock cannot be opened."
				: "Another vstored runs in %.200s: stop that one, or give another "
				  "--run.",
			 run_path);
		return fd < 0 ? -errno : -VS_ELOCKED;
	}
	return 0; /* held as long as the process lives */
}

/* RUN/starting counts starts of a store that did not end in serving it. */
static int guard_enter(const struct daemon *daemon, char *sentence)
{
	char path[200], line[600] = "", want[600];
	unsigned count = 0;
	snprintf(path, sizeof path, "%s/starting", daemon->run_path);
	FILE *file = fopen(path, "re");
	if (file) {
		if (fgets(line, sizeof line, file))
			count = (unsigned)strtoul(line, NULL, 10);
		fclose(file);
	}
	snprintf(want, sizeof want, "%u %s", count, daemon->store_path);
	if (strcmp(line, want) != 0)
		count = 0; /* another store */
	if (count >= CRASHES_MAX) {
		snprintf(sentence, SENTENCE_BYTES,
			 "vstored crashed %u times while opening this store, and does not try "
			 "again: "
			 "run vstored --check, keep the core for a report, then remove %.90s.",
			 count, path);
		return -VS_EFAILSTOP;
	}
	file = fopen(path, "we");
	if (!file)
		return -errno;
	fprintf(file, "%u %s", count + 1, daemon->store_path);
	return fclose(file) == 0 ? 0 : -errno;
}

static void guard_leave(const struct daemon *daemon)
{
	char path[200];
	snprintf(path, sizeof path, "%s/starting", daemon->run_path);
	unlink(path);
}

/* ---- serving ---- */

static void daemon_tick(struct env_timer *timer)
{
	struct daemon *daemon = container_of(timer, struct daemon, tick);
	unsigned percent = daemon_full_percent(daemon);
	unsigned level = percent >= 90 ? 90 : percent >= 80 ? 80 : 0;
	if (level > daemon->full_told)
		log_event(LOG_LEVEL_WARNING, "store.filling",
			  "percent=%u hint=\"purge the trash, delete snapshots, or add space\"",
			  percent);
	daemon->full_told = level;
	env_timer_start(daemon->env, &daemon->tick, TICK_NS);
}

static int daemon_listen(struct daemon *daemon, const struct daemon_options *options,
			 char *sentence)
{
	char path[120];
	snprintf(path, sizeof path, "%s/storage.sock", daemon->run_path);
	int res = jobs_new(daemon);
	if (res == 0)
		res = nbd_server_new(daemon->env, daemon->store, &options->nbd, &daemon->nbd);
	if (res == 0) {
		handover_inherit(daemon);
		res = exports_new(daemon);
	}
	if (res == 0)
		res = attachments_new(daemon);
	if (daemon->nbd)
		handover_adopt(daemon);
	if (res == 0)
		res = policies_new(daemon->env, daemon->store, &daemon->policies);
	if (res == 0 && (res = replicas_new(daemon, options->listen, options->tls, sentence)) < 0)
		return res;
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES, "The NBD sockets in %.150s cannot be made: %s.",
			 daemon->run_path, vs_strerror(res));
		return res;
	}
	struct http_options http = {.path = path,
				    .mode = daemon->group < 0 ? 0600 : 0660,
				    .group = daemon->group,
				    .any_peer = daemon->group >= 0,
				    .handle = api_handle,
				    .state = daemon};
	return http_new(daemon->env, &http, &daemon->http, sentence);
}

static bool daemon_busy(const struct daemon *daemon)
{
	return (daemon->http && http_pending(daemon->http)) ||
	       (daemon->jobs && !jobs_idle(daemon)) || !policies_idle(daemon->policies);
}

/* Who restarts ends its jobs first: guests wait from the parking of their connections on. */
static void daemon_stop(struct daemon *daemon, bool restart)
{
	struct io_op stopped = {0};
	daemon->stopping = true;
	env_timer_stop(daemon->env, &daemon->tick);
	if (daemon->http)
		http_close(daemon->http);
	policies_stop(daemon->policies);
	if (daemon->jobs)
		jobs_cancel_all(daemon);
	while (restart && daemon_busy(daemon))
		env_step(daemon->env, true);
	if (daemon->nbd) {
		env_wait_prepare(&stopped);
		if (restart) {
			nbd_server_park(daemon->nbd, &stopped);
		} else {
			nbd_server_stop(daemon->nbd, &stopped);
			/* A flush may wait for a follower that is away, and its connection with
			 * it. Behind their deaths: their guests get no answer and repeat it. */
			store_followers_stop(daemon->store);
		}
		env_wait(daemon->env, &stopped);
		nbd_server_heirs(daemon->nbd, &daemon->heirs, &daemon->heir_count);
	}
	replicas_stop(daemon);
	while (daemon_busy(daemon) || !replicas_idle(daemon))
		env_step(daemon->env, true);
	http_free(daemon->http);
	nbd_server_free(daemon->nbd);
	attachments_free(daemon);
	exports_free(daemon);
	policies_free(daemon->policies);
	replicas_free(daemon);
	jobs_free(daemon);
}

/* Returns EXIT_AGAIN when the program is to be executed again, which has the connections then. */
static int serve(struct env *env, const struct daemon_options *options)
{
	struct daemon daemon = {.env = env, .group = -1};
	char sentence[SENTENCE_BYTES] = "";
	const struct group *group = getgrnam(GROUP);
	bool restart = false;
	memcpy(daemon.store_path, options->store_path, sizeof daemon.store_path);
	memcpy(daemon.run_path, options->run_path, sizeof daemon.run_path);
	if (group)
		daemon.group = group->gr_gid;
	handover_read(&daemon);
	int res = run_open(daemon.run_path, sentence);
	if (res == 0)
		res = guard_enter(&daemon, sentence);
	if (res < 0)
		return fail(res, sentence[0] ? sentence : vs_strerror(res));
	res = store_open(env, daemon.store_path, &options->store, &daemon.store, sentence);
	if (res < 0) {
		handover_drop(&daemon);
		guard_leave(&daemon); /* it said why: that is no crash */
		return fail(res, sentence);
	}
	res = daemon_listen(&daemon, options, sentence);
	if (res == 0)
		res = signals_start(env);
	if (res == 0) {
		guard_leave(&daemon);
		daemon.tick.fire = daemon_tick;
		daemon_tick(&daemon.tick);
		log_event(LOG_LEVEL_INFO, "vstored.serving", "store=%s run=%s version=%s",
			  daemon.store_path, daemon.run_path, VSTORED_VERSION);
		notify_manager(NOTIFY_READY);
		while (!signals_stop_asked() && !signals_restart_asked())
			env_step(env, true);
		restart = !signals_stop_asked();
		log_event(LOG_LEVEL_INFO, "vstored.stopping", "store=%s restart=%d",
			  daemon.store_path, restart);
		notify_manager(restart ? NOTIFY_RELOADING : NOTIFY_STOPPING);
	}
	daemon_stop(&daemon, restart);
	guard_leave(&daemon);
	int left = restart ? handover_write(&daemon) : 0;
	if (left < 0)
		log_event(LOG_LEVEL_WARNING, "vstored.no_handover",
			  "error=\"%s\" action=\"clients connect again\"", vs_strerror(left));
	int closed = store_close(daemon.store);
	if (res < 0)
		return fail(res, sentence);
	if (closed < 0)
		return fail(closed, "The store could not be closed cleanly; the next start "
				    "replays its log.");
	restart = restart && !signals_end(); /* a later signal is the next program's */
	if (!restart || left < 0)
		handover_drop(&daemon);
	return restart ? EXIT_AGAIN : 0;
}

/* ---- the other modes ---- */

static int init(struct env *env, const struct daemon_options *options)
{
	char sentence[SENTENCE_BYTES] = "";
	struct store_make_options make = {.log_bytes = options->log_bytes,
					  .log_dir = options->log_dir[0] ? options->log_dir : NULL,
					  .any_file_system = options->any_file_system};
	if (mkdir(options->store_path, 0700) < 0 && errno != EEXIST) {
		int res = -errno;
		snprintf(sentence, sizeof sentence, "The directory %.200s cannot be made: %s.",
			 options->store_path, vs_strerror(res));
		return fail(res, sentence);
	}
	int res = store_make(env, options->store_path, &make, sentence);
	if (res < 0)
		return fail(res, sentence);
	printf("A new store is in %s.\n", options->store_path);
	return 0;
}

static void check_report(struct store_work *work, const char *line)
{
	puts(line);
}

static int check(struct env *env, const struct daemon_options *options)
{
	char sentence[SENTENCE_BYTES] = "";
	struct store *store;
	struct store_options read_only = options->store;
	struct store_work work = {.report = check_report};
	read_only.read_only = true;
	int res = store_open(env, options->store_path, &read_only, &store, sentence);
	if (res < 0) {
		int code = fail(res, sentence);
		return res == -VS_EFORMAT || res == -VS_ECHECKSUM || res == -VS_ELOST ? EXIT_DAMAGE
										      : code;
	}
	env_wait_prepare(&work.op);
	store_check(store, &work);
	res = (int)env_wait(env, &work.op);
	store_close(store);
	if (res < 0)
		return fail(res, work.sentence);
	printf("%llu records read, %llu damaged or missing.\n", (unsigned long long)work.chunks,
	       (unsigned long long)work.damaged);
	return work.damaged ? EXIT_DAMAGE : 0;
}

int main(int argc, char **argv)
{
	struct daemon_options options;
	char sentence[SENTENCE_BYTES];
	const char *why;
	char program[PATH_MAX];
	struct rlimit files;
	struct env *env;
	int res = options_read(argc, argv, &options, sentence);
	if (res < 0)
		fail(res, sentence);
	if (res)
		return res < 0 ? EXIT_USAGE : 0;
	signals_block();
	/* Now, since an upgrade puts another file there. */
	ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 1);
	program[bytes < 0 ? 0 : bytes] = 0;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	umask(0077);
	res = env_real_new(&(struct env_real_options){.worker_count = options.worker_count}, &env,
			   &why);
	if (res < 0)
		return fail(res, why);
	if (options.log_dir[0])
		options.store.log_dir = options.log_dir;
	int code = options.init	   ? init(env, &options)
		   : options.check ? check(env, &options)
				   : serve(env, &options);
	env_real_free(env);
	if (code == EXIT_AGAIN) {
		execv(program, argv);
		return fail(-errno, "The program cannot be executed again: is it still where it "
				    "was? Clients connect again once vstored is started.");
	}
	return code;
}
