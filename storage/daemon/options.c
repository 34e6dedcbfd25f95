/* SPDX-License-Identifier: Apache-2.0 */
/* vstored's command line and its one INI file; both are tables, and a flag counts more than the
 * file. */
#include "storage/daemon/daemon.h"

#include "proto/text.h"
#include "storage/rt/conf.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
	"vstored: the storage daemon of vstore\n"
	"\n"
	"  vstored --init  --store DIR             make a new store in an empty directory\n"
	"  vstored         --store DIR --run RUN   serve it\n"
	"  vstored --check --store DIR             read all of it, change nothing\n"
	"\n"
	"RUN/storage.sock is the control socket, RUN/nbd/NAME.sock serves volume NAME, "
	"RUN/nbd.sock all.\n"
	"\n"
	"  --config FILE         settings; see the table below\n"
	"  --log-dir DIR         --init: put the write-ahead log there; else: where it moved to\n"
	"  --log-size SIZE       --init: size of the log (1G, or 1/16 of the disk)\n"
	"  --cache SIZE          memory for decoded blocks (256M)\n"
	"  --capacity SIZE       let segments take no more of the disk than this\n"
	"  --workers N           threads that hash and compress (cores - 1)\n"
	"  --tls DIR             this host's certificate, as 'vstorectl pki issue' made it\n"
	"  --listen ADDRESS:PORT take copies from other hosts there; needs --tls\n"
	"  --any-file-system     accept tmpfs, overlay and nfs, which may lose what was promised\n"
	"  --help, --version\n"
	"\n"
	"FILE has [store] path, log_dir, cache, node_cache, directory_cache, capacity, "
	"trash_delay,\n"
	"idle_fold, gc_every, scrub_every, recompress_level, recompress_after, any_file_system,\n"
	"workers; [run] dir; [nbd] connections, buffer, handshake; [replication] listen, tls.\n"
	"\n"
	"Example: vstored --init --store /srv/vstore && vstored --store /srv/vstore --run "
	"/run/vstore\n";

enum flag {
	FLAG_INIT = 256,
	FLAG_CHECK,
	FLAG_HELP,
	FLAG_VERSION,
	FLAG_CONFIG,
	FLAG_LOG_SIZE,
	FLAG_ANY,
	FLAG_KEY, /* and above: index into the table of keys */
};

#define KEYS 20u
static void keys_fill(struct daemon_options *o, struct conf_key keys[KEYS])
{
	const struct conf_key table[KEYS] = {
		{"store", "path", CONF_TEXT, o->store_path, sizeof o->store_path},
		{"store", "log_dir", CONF_TEXT, o->log_dir, sizeof o->log_dir},
		{"store", "cache", CONF_SIZE, &o->store.cache_bytes, 0},
		{"store", "capacity", CONF_SIZE, &o->store.capacity_bytes, 0},
		{"store", "workers", CONF_NUMBER, &o->worker_count, 0},
		{"run", "dir", CONF_TEXT, o->run_path, sizeof o->run_path},
		{"store", "node_cache", CONF_SIZE, &o->store.node_cache_bytes, 0},
		{"store", "directory_cache", CONF_SIZE, &o->store.directory_cache_bytes, 0},
		{"store", "trash_delay", CONF_DURATION, &o->store.trash_delay_ns, 0},
		{"store", "idle_fold", CONF_DURATION, &o->store.idle_fold_ns, 0},
		{"store", "any_file_system", CONF_BOOL, &o->any_file_system, 0},
		{"nbd", "connections", CONF_NUMBER, &o->nbd.connection_count_max, 0},
		{"nbd", "buffer", CONF_SIZE, &o->nbd.buffer_bytes_max, 0},
		{"nbd", "handshake", CONF_DURATION, &o->nbd.handshake_ns, 0},
		{"replication", "listen", CONF_TEXT, o->listen, sizeof o->listen},
		{"replication", "tls", CONF_TEXT, o->tls, sizeof o->tls},
		{"store", "gc_every", CONF_PERIOD, &o->store.gc_interval_ns, 0},
		{"store", "scrub_every", CONF_PERIOD, &o->store.scrub_period_ns, 0},
		{"store", "recompress_level", CONF_NUMBER, &o->store.recompress_level, 0},
		{"store", "recompress_after", CONF_DURATION, &o->store.recompress_after_ns, 0},
	};
	memcpy(keys, table, sizeof table);
}

static const struct option flags[] = {
	{"init", no_argument, NULL, FLAG_INIT},
	{"check", no_argument, NULL, FLAG_CHECK},
	{"help", no_argument, NULL, FLAG_HELP},
	{"version", no_argument, NULL, FLAG_VERSION},
	{"config", required_argument, NULL, FLAG_CONFIG},
	{"log-size", required_argument, NULL, FLAG_LOG_SIZE},
	{"any-file-system", no_argument, NULL, FLAG_ANY},
	{"store", required_argument, NULL, FLAG_KEY + 0},
	{"log-dir", required_argument, NULL, FLAG_KEY + 1},
	{"cache", required_argument, NULL, FLAG_KEY + 2},
	{"capacity", required_argument, NULL, FLAG_KEY + 3},
	{"workers", required_argument, NULL, FLAG_KEY + 4},
	{"run", required_argument, NULL, FLAG_KEY + 5},
	{"listen", required_argument, NULL, FLAG_KEY + 14},
	{"tls", required_argument, NULL, FLAG_KEY + 15},
	{0},
};

static int flag_read(int flag, const char *value, struct daemon_options *o,
		     const struct conf_key *keys, char *sentence)
{
	const char *want = "a size like 4096, 256M or 10G";
	struct conf_key log_size = {"", "log-size", CONF_SIZE, &o->log_bytes, 0};
	switch (flag) {
	case FLAG_INIT:
		o->init = true;
		return 0;
	case FLAG_CHECK:
		o->check = true;
		return 0;
	case FLAG_HELP:
		fputs(help, stdout);
		return 1;
	case FLAG_VERSION:
		puts("vstored " VSTORED_VERSION);
		return 1;
	case FLAG_ANY:
		o->any_file_system = true;
		return 0;
	case FLAG_CONFIG:
		return 0; /* read before the other flags */
	case FLAG_LOG_SIZE:
		if (conf_set(&log_size, value, &want) == 0)
			return 0;
		break;
	default:
		if (flag >= FLAG_KEY && conf_set(&keys[flag - FLAG_KEY], value, &want) == 0)
			return 0;
		if (flag < FLAG_KEY) {
			snprintf(sentence, SENTENCE_BYTES,
				 "The flag %.100s is unknown, or its value is missing; see vstored "
				 "--help.",
				 value);
			return -EINVAL;
		}
	}
	snprintf(sentence, SENTENCE_BYTES, "'%.100s' is no value for this flag; it takes %s.",
		 value, want);
	return -EINVAL;
}

int options_read(int argc, char **argv, struct daemon_options *ret, char sentence[SENTENCE_BYTES])
{
	struct conf_key keys[KEYS];
	int flag, res = 0;
	*ret = (struct daemon_options){.store.recompress_level = RECOMPRESS_LEVEL_DEFAULT};
	keys_fill(ret, keys);
	opterr = 0;
	sentence[0] = 0;
	while ((flag = getopt_long(argc, argv, "", flags, NULL)) != -1 && res == 0)
		if (flag == FLAG_CONFIG)
			res = conf_read(optarg, keys, KEYS, sentence);
	optind = 1;
	while (res == 0 && (flag = getopt_long(argc, argv, "", flags, NULL)) != -1)
		res = flag_read(flag, optarg ? optarg : argv[optind - 1], ret, keys, sentence);
	if (res)
		return res;
	if (optind < argc)
		snprintf(sentence, SENTENCE_BYTES,
			 "'%.100s' is not understood; see vstored --help.", argv[optind]);
	else if (!ret->store_path[0])
		snprintf(sentence, SENTENCE_BYTES, "--store DIR is missing; see vstored --help.");
	else if (ret->init && ret->check)
		snprintf(sentence, SENTENCE_BYTES, "--init and --check exclude each other.");
	else if (!ret->init && !ret->check && !ret->run_path[0])
		snprintf(sentence, SENTENCE_BYTES,
			 "--run RUN is missing: the folder for the sockets; see vstored --help.");
	else if (ret->listen[0] && !text_address_ok(ret->listen))
		snprintf(sentence, SENTENCE_BYTES,
			 "--listen takes an ADDRESS:PORT of this host, in numbers, such as "
			 "10.1.0.1:7410, not '%.80s'.",
			 ret->listen);
	else if (ret->listen[0] && !ret->tls[0])
		snprintf(sentence, SENTENCE_BYTES,
			 "--listen needs --tls DIR: make one with 'vstorectl pki issue'; hosts "
			 "speak with each other over TLS only.");
	else if (ret->store.recompress_level > RECOMPRESS_LEVEL_MAX)
		snprintf(sentence, SENTENCE_BYTES,
			 "recompress_level is zstd's: 1 to %u, or 0 for none.",
			 RECOMPRESS_LEVEL_MAX);
	ret->store.any_file_system = ret->any_file_system;
	return sentence[0] ? -EINVAL : 0;
}
