/* SPDX-License-Identifier: Apache-2.0 */
/*
 * support-bundle: one tar file (POSIX ustar) with what somebody who helps needs to see. It is read
 * before it is sent: every entry is text. Not in it: data of volumes, guests' consoles, user-data,
 * keys. What could not be had is named in MISSING, and is itself a finding.
 */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 512u
#define HOST_FILE_BYTES_MAX (1u << 20)
#define MISSING_ROOM 8192u
#define GET_MS 20000

/* Names of entries, and what the daemon is asked for. vstored alone does not know the agent's. */
static const struct {
	const char *name, *path;
} answers[] = {
	{"status.json", "/v1/status"},
	{"store.json", "/v1/store"},
	{"volumes.json", "/v1/volumes"},
	{"snapshots.json", "/v1/snapshots"},
	{"trash.json", "/v1/trash"},
	{"jobs.json", "/v1/jobs"},
	{"policies.json", "/v1/policies"},
	{"attachments.json", "/v1/attachments"},
	{"peers.json", "/v1/peers"},
	{"metrics.txt", "/metrics"},
	{"vms.json", "/v1/vms"},
	{"images.json", "/v1/images"},
	{"networks.json", "/v1/networks"},
	{"doctor.json", "/v1/doctor"},
	{"events.json", "/v1/events"},
	{"audit.json", "/v1/audit"},
	{"audit-verify.json", "/v1/audit/verify"},
};
static const char *const host_files[] = {"/etc/os-release",  "/proc/version", "/proc/cpuinfo",
					 "/proc/meminfo",    "/proc/mounts",  "/proc/loadavg",
					 "/proc/pressure/io"};

struct bundle {
	struct ctl *ctl;
	FILE *file;
	time_t now;
	char missing[MISSING_ROOM];
	unsigned count;
};

/* ---- tar ---- */

/* Fills all but the last byte, which ends it. */
static void octal(char *field, size_t room, unsigned long long number)
{
	for (field[--room] = 0; room; number >>= 3)
		field[--room] = (char)('0' + (number & 7));
}

static void entry_add(struct bundle *bundle, const char *name, const char *data, size_t bytes)
{
	struct {
		char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
		char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8];
		char prefix[155], rest[12];
	} head = {.type = '0', .magic = "ustar", .version = {'0', '0'}};
	_Static_assert(sizeof head == BLOCK, "a ustar header is one block");
	static const char zeros[BLOCK];
	unsigned sum = 0;
	snprintf(head.name, sizeof head.name, "vstore-support/%s", name);
	octal(head.mode, sizeof head.mode, 0600);
	octal(head.uid, sizeof head.uid, 0);
	octal(head.gid, sizeof head.gid, 0);
	octal(head.size, sizeof head.size, bytes);
	octal(head.mtime, sizeof head.mtime, (unsigned long long)bundle->now);
	memset(head.checksum, ' ', sizeof head.checksum); /* as it counts in its own sum */
	for (size_t i = 0; i < sizeof head; i++)
		sum += ((const unsigned char *)&head)[i];
	octal(head.checksum, 7, sum);
	fwrite(&head, sizeof head, 1, bundle->file);
	fwrite(data, 1, bytes, bundle->file);
	fwrite(zeros, 1, (BLOCK - bytes % BLOCK) % BLOCK, bundle->file);
	bundle->count++;
}

static void missing_add(struct bundle *bundle, const char *what, const char *why)
{
	size_t used = strlen(bundle->missing);
	snprintf(bundle->missing + used, sizeof bundle->missing - used, "%s: %.300s\n", what, why);
}

/* ---- what goes in ---- */

static void answer_add(struct bundle *bundle, const char *name, const char *path)
{
	char sentence[SENTENCE_BYTES];
	struct client_reply reply;
	struct client_request request = {.method = "GET", .path = path, .timeout_ms = GET_MS};
	int res = call_try(bundle->ctl, &request, &reply, sentence);
	if (res < 0) {
		missing_add(bundle, name, sentence);
		return;
	}
	if (reply.status == 200) {
		entry_add(bundle, name, reply.body, reply.body_bytes);
	} else {
		snprintf(sentence, sizeof sentence, "status %ld", reply.status);
		missing_add(bundle, name, sentence);
	}
	free(reply.body);
}

static void host_file_add(struct bundle *bundle, const char *path)
{
	char name[80] = "host";
	FILE *file = fopen(path, "re");
	char *data = malloc(HOST_FILE_BYTES_MAX);
	size_t bytes = file && data ? fread(data, 1, HOST_FILE_BYTES_MAX, file) : 0;
	snprintf(name + 4, sizeof name - 4, "%s", path);
	if (file)
		entry_add(bundle, name, data, bytes);
	else
		missing_add(bundle, path, strerror(errno));
	if (file)
		fclose(file);
	free(data);
}

static void bundle_fill(struct bundle *bundle)
{
	static const char zeros[2 * BLOCK];
	if (call_socket(bundle->ctl) == 0)
		for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
			answer_add(bundle, answers[i].name, answers[i].path);
	else
		missing_add(bundle, "all of the daemon's", "its socket was not found");
	for (size_t i = 0; i < sizeof host_files / sizeof *host_files; i++)
		host_file_add(bundle, host_files[i]);
	entry_add(bundle, "vstorectl.txt", CTL_VERSION "\n", strlen(CTL_VERSION "\n"));
	entry_add(bundle, "MISSING", bundle->missing, strlen(bundle->missing));
	fwrite(zeros, sizeof zeros, 1, bundle->file);
}

int verb_support_bundle(struct ctl *ctl)
{
	struct bundle bundle = {.ctl = ctl, .now = time(NULL)};
	char name[64];
	struct tm utc;
	gmtime_r(&bundle.now, &utc);
	strftime(name, sizeof name, "vstore-support-%Y%m%dT%H%M%SZ.tar", &utc);
	const char *path = ctl->arg_count ? ctl->args[0] : name;
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return ctl_fail(ctl, errno == EEXIST ? CTL_EXISTS : CTL_FAILED,
				"%.200s cannot be made: %s; give another FILE.", path,
				strerror(errno));
	bundle.file = fdopen(fd, "w");
	if (!bundle.file) {
		close(fd);
		return ctl_fail(ctl, CTL_FAILED, "There is not enough memory.");
	}
	bundle_fill(&bundle);
	bool wrong = ferror(bundle.file) != 0;
	if (fclose(bundle.file) != 0 || wrong) {
		unlink(path);
		return ctl_fail(ctl, CTL_FAILED, "%.200s cannot be written: %s.", path,
				strerror(errno));
	}
	ctl_say(ctl,
		"%u entries are in %.200s%s. Look at it before you give it away: names of VMs "
		"and volumes, addresses and who changed what are in it.",
		bundle.count, path,
		*bundle.missing ? "; what could not be had is named in its MISSING" : "");
	return 0;
}
