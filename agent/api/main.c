/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vstore-agent: VMs on volumes of vstored, through libvirt.
 *
 * Start: the state folder and its lock, the catalog, libvirt in the background, the socket. Guests,
 * libvirt and vstored need not be there; what needs them says so. End: what runs is waited for, and
 * what would take long is left to the next start. A guest never notices.
 */
#include "agent/api/api.h"
#include "agent/api/watch.h"

#include "storage/control/notify.h"
#include "storage/control/signals.h"
#include "storage/rt/conf.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADMIN_GROUP "vstore-admin"
#define QEMU_GROUP "kvm"
#define UIDS_DEFAULT "70000-79999" /* Debian and systemd use none of these */
#define UID_LEAST 1000
#define EXIT_USAGE 2
#define EXIT_BUSY 5
#define EXIT_DAMAGE 11

struct options {
	char run_path[96], state_path[256], uri[200], storage[120], group[64], crash_after[64],
		uids[40];
	uint32_t uid_first, uid_last;
	int64_t gid; /* of group; -1: it has none */
	bool recover, verify;
};

static const char help[] =
	"vstore-agent: virtual machines on volumes of vstored, through libvirt\n"
	"\n"
	"  vstore-agent --run RUN [--libvirt URI]    serve RUN/agent.sock\n"
	"  vstore-agent --run RUN --recover          make a lost catalog again from the store\n"
	"  vstore-agent --run RUN --verify-audit     check the audit log, offline\n"
	"\n"
	"  --libvirt URI       (qemu:///system)\n"
	"  --storage SOCKET    vstored's (RUN/storage.sock)\n"
	"  --state DIR         catalog and console logs (RUN/agent)\n"
	"  --uids FIRST-LAST   users that nobody else has: each VM's QEMU runs as one "
	"(70000-79999)\n"
	"  --group NAME        of all of them, which may use /dev/kvm (kvm)\n"
	"  --config FILE       the same as an INI file: [agent] run, libvirt, storage, state, "
	"group, uids\n"
	"  --help, --version\n"
	"\n"
	"Example: vstore-agent --run /run/vstore --state /var/lib/vstore-agent\n";

#define KEYS 7u
enum flag { FLAG_HELP = 256, FLAG_VERSION, FLAG_CONFIG, FLAG_RECOVER, FLAG_VERIFY, FLAG_KEY };

static const struct option flags[] = {
	{"help", no_argument, NULL, FLAG_HELP},
	{"version", no_argument, NULL, FLAG_VERSION},
	{"config", required_argument, NULL, FLAG_CONFIG},
	{"recover", no_argument, NULL, FLAG_RECOVER},
	{"verify-audit", no_argument, NULL, FLAG_VERIFY},
	{"run", required_argument, NULL, FLAG_KEY + 0},
	{"libvirt", required_argument, NULL, FLAG_KEY + 1},
	{"storage", required_argument, NULL, FLAG_KEY + 2},
	{"state", required_argument, NULL, FLAG_KEY + 3},
	{"group", required_argument, NULL, FLAG_KEY + 4},
	{"uids", required_argument, NULL, FLAG_KEY + 6},
	{"crash-after", required_argument, NULL, FLAG_KEY + 5}, /* tests: see vm/op.h */
	{0},
};

static int fail(int code, const char *sentence)
{
	fprintf(stderr, "vstore-agent: %s\n", sentence);
	return code == -VS_ELOCKED ? EXIT_BUSY : code == -VS_ECHECKSUM ? EXIT_DAMAGE : 1;
}

static void keys_fill(struct options *o, struct conf_key keys[KEYS])
{
	const struct conf_key table[KEYS] = {
		{"agent", "run", CONF_TEXT, o->run_path, sizeof o->run_path},
		{"agent", "libvirt", CONF_TEXT, o->uri, sizeof o->uri},
		{"agent", "storage", CONF_TEXT, o->storage, sizeof o->storage},
		{"agent", "state", CONF_TEXT, o->state_path, sizeof o->state_path},
		{"agent", "group", CONF_TEXT, o->group, sizeof o->group},
		{"agent", "crash_after", CONF_TEXT, o->crash_after, sizeof o->crash_after},
		{"agent", "uids", CONF_TEXT, o->uids, sizeof o->uids},
	};
	memcpy(keys, table, sizeof table);
}

static int flag_read(int flag, const char *value, struct options *o, const struct conf_key *keys,
		     char *sentence)
{
	const char *want = "another";
	switch (flag) {
	case FLAG_HELP:
		fputs(help, stdout);
		return 1;
	case FLAG_VERSION:
		puts("vstore-agent " AGENT_VERSION);
		return 1;
	case FLAG_CONFIG:
		return 0; /* read before the other flags */
	case FLAG_RECOVER:
		o->recover = true;
		return 0;
	case FLAG_VERIFY:
		o->verify = true;
		return 0;
	default:
		if (flag >= FLAG_KEY && conf_set(&keys[flag - FLAG_KEY], value, &want) == 0)
			return 0;
	}
	snprintf(sentence, SENTENCE_BYTES,
		 "'%.100s' is not understood here (%s is); see vstore-agent --help.", value, want);
	return -EINVAL;
}

/* Not those of the system and of people. */
static bool uids_parse(const char *text, struct options *o)
{
	char *end;
	unsigned long first = strtoul(text, &end, 10), last = 0;
	if (*end == '-')
		last = strtoul(end + 1, &end, 10);
	o->uid_first = (uint32_t)first;
	o->uid_last = (uint32_t)last;
	return *end == 0 && first >= UID_LEAST && last >= first && last < UINT32_MAX;
}

/* A group that was asked for must be there; without one it is QEMU's, where there is that. */
static int group_find(struct options *o, char *sentence)
{
	const struct group *group = getgrnam(o->group[0] ? o->group : QEMU_GROUP);
	o->gid = group ? (int64_t)group->gr_gid : -1;
	if (!group && o->group[0]) {
		snprintf(sentence, SENTENCE_BYTES,
			 "There is no group %.60s; groupadd --system %.60s makes one.", o->group,
			 o->group);
		return -EINVAL;
	}
	if (group && !o->group[0])
		snprintf(o->group, sizeof o->group, "%s", QEMU_GROUP);
	return 0;
}

/* 0; 1: all is said; negative: the sentence. */
static int options_read(int argc, char **argv, struct options *o, char *sentence)
{
	struct conf_key keys[KEYS];
	int flag, res = 0;
	*o = (struct options){.uri = "qemu:///system"};
	keys_fill(o, keys);
	opterr = 0;
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1 && res == 0)
		if (flag == FLAG_CONFIG)
			res = conf_read(optarg, keys, KEYS, sentence);
	optind = 1;
	while (res == 0 && (flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		res = flag_read(flag, optarg ? optarg : argv[optind - 1], o, keys, sentence);
	if (res)
		return res;
	if (optind < argc || !o->run_path[0]) {
		snprintf(sentence, SENTENCE_BYTES,
			 "--run RUN is missing, or there is more than flags; see vstore-agent "
			 "--help.");
		return -EINVAL;
	}
	if (!o->storage[0])
		snprintf(o->storage, sizeof o->storage, "%s/storage.sock", o->run_path);
	if (!o->state_path[0])
		snprintf(o->state_path, sizeof o->state_path, "%s/agent", o->run_path);
	if (!uids_parse(o->uids[0] ? o->uids : UIDS_DEFAULT, o)) {
		snprintf(sentence, SENTENCE_BYTES,
			 "'%.40s' is no range of users; write it like " UIDS_DEFAULT ".", o->uids);
		return -EINVAL;
	}
	return group_find(o, sentence);
}

/* ---- the state folder ---- */

static int folder_make(const char *path, mode_t mode, char *sentence)
{
	if ((mkdir(path, mode) == 0 && chmod(path, mode) == 0) || errno == EEXIST)
		return 0;
	snprintf(sentence, SENTENCE_BYTES, "The folder %.200s cannot be made: %s.", path,
		 vs_strerror(errno));
	return -errno;
}

static int state_open(struct agent *agent, const struct options *o, char *sentence)
{
	char path[300], absolute[PATH_MAX];
	int res = folder_make(o->run_path, 0755, sentence);
	if (res == 0)
		res = folder_make(o->state_path, 0711, sentence);
	if (res < 0)
		return res;
	if (!realpath(o->state_path, absolute) || strlen(absolute) >= sizeof agent->state_path) {
		snprintf(sentence, SENTENCE_BYTES, "The path %.200s is too long.", o->state_path);
		return -ENAMETOOLONG;
	}
	snprintf(agent->state_path, sizeof agent->state_path, "%.255s", absolute);
	snprintf(path, sizeof path, "%s/console", agent->state_path);
	res = folder_make(path, 0711, sentence);
	if (res < 0)
		return res;
	snprintf(path, sizeof path, "%s/agent.lock", agent->state_path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 "Another vstore-agent has %.150s; stop that one, or give another --state.",
			 agent->state_path);
		return -VS_ELOCKED;
	}
	snprintf(path, sizeof path, "%s/catalog.db", agent->state_path);
	return db_open(path, &agent->db, sentence); /* the lock is held as long as we live */
}

static void agent_init(struct agent *agent, const struct options *o)
{
	pthread_condattr_t attr;
	*agent = (struct agent){.kvm = -1};
	snprintf(agent->storage.socket, sizeof agent->storage.socket, "%s", o->storage);
	snprintf(agent->storage.run_path, sizeof agent->storage.run_path, "%s", o->storage);
	char *slash = strrchr(agent->storage.run_path, '/');
	if (slash)
		*slash = 0;
	snprintf(agent->group, sizeof agent->group, "%s", o->group);
	agent->gid = o->gid;
	if (geteuid() == 0) { /* nobody else can make libvirt run QEMU as another */
		agent->uid_first = o->uid_first;
		agent->uid_last = o->uid_last;
	}
	snprintf(agent->crash_after, sizeof agent->crash_after, "%s", o->crash_after);
	pthread_mutex_init(&agent->ports, NULL);
	pthread_mutex_init(&agent->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&agent->changed, &attr);
	pthread_condattr_destroy(&attr);
}

/* ---- serving ---- */

static void serve_until_asked(struct env *env, struct agent *agent, struct http *http,
			      struct pool *pool)
{
	while (!signals_stop_asked())
		env_step(env, true);
	log_event(LOG_LEVEL_INFO, "agent.stopping", "state=%s", agent->state_path);
	notify_manager(NOTIFY_STOPPING);
	pthread_mutex_lock(&agent->lock);
	agent->stopping = true;
	pthread_cond_broadcast(&agent->changed);
	pthread_mutex_unlock(&agent->lock);
	http_close(http);
	while (http_pending(http)) /* answers come from the pool, which does not wake this loop */
		if (!env_step(env, false))
			usleep(10000);
	pool_free(pool);
	http_free(http);
}

static int serve(struct agent *agent, const struct options *o)
{
	char sentence[SENTENCE_BYTES] = "", path[120];
	const char *why = "";
	const struct group *admins = getgrnam(ADMIN_GROUP);
	struct env *env;
	struct pool *pool = NULL;
	struct watch *watch = NULL;
	struct http *http = NULL;
	const struct env_real_options real = {
		.worker_count = 1, .ring_entries = 64, .no_fixed_buffers = true};
	int res = env_real_new(&real, &env, &why);
	if (res < 0)
		return fail(res, why);
	res = pool_new(agent, &pool);
	if (res == 0)
		res = watch_new(agent, &watch);
	const struct virt_options virt = {
		.uri = o->uri, .event = watch_event, .connected = watch_connected, .state = watch};
	if (res == 0)
		res = virt_new(&virt, &agent->virt);
	if (res == 0)
		res = watch_start(watch);
	snprintf(path, sizeof path, "%s/agent.sock", o->run_path);
	const struct http_options options = {.path = path,
					     .mode = admins ? 0660 : 0600,
					     .group = admins ? (int64_t)admins->gr_gid : -1,
					     .any_peer = admins != NULL,
					     .handle = pool_take,
					     .state = pool};
	if (res == 0)
		res = http_new(env, &options, &http, sentence);
	if (res == 0)
		res = signals_start(env);
	if (res < 0)
		return fail(res, sentence[0] ? sentence : vs_strerror(res));
	log_event(LOG_LEVEL_INFO, "agent.serving", "run=%s state=%s libvirt=%s version=%s",
		  o->run_path, agent->state_path, o->uri, AGENT_VERSION);
	notify_manager(NOTIFY_READY);
	serve_until_asked(env, agent, http, pool);
	watch_stop(watch);
	db_close(agent->db);
	return 0; /* libvirt's threads end with the process */
}

static int verify(struct agent *agent)
{
	int64_t count = 0;
	struct problem problem = {0};
	int res = audit_verify(agent->db, &count, &problem);
	if (res < 0)
		return fail(res, problem.sentence);
	printf("%lld lines, all as they were written.\n", (long long)count);
	return 0;
}

int main(int argc, char **argv)
{
	struct options options;
	struct agent agent;
	struct problem problem = {0};
	char sentence[SENTENCE_BYTES] = "";
	int res = options_read(argc, argv, &options, sentence);
	if (res < 0) {
		fail(res, sentence);
		return EXIT_USAGE;
	}
	if (res)
		return 0;
	signals_block();
	mallopt(M_ARENA_MAX, 2); /* threads come and go; their memory should not stay */
	umask(0077);
	agent_init(&agent, &options);
	res = state_open(&agent, &options, sentence);
	if (res < 0)
		return fail(res, sentence);
	if (options.verify)
		return verify(&agent);
	if (options.recover) {
		res = recover_run(&agent, &problem);
		return res < 0 ? fail(res, problem.sentence) : 0;
	}
	return serve(&agent, &options);
}
