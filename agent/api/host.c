/* SPDX-License-Identifier: Apache-2.0 */
/* The host: networks, events, the audit log, jobs of both daemons, and the doctor. */
#include "agent/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 1000
#define WAIT_S_MAX 20 /* of a thread of the pool */
#define AUDIT_LINES 1000
#define LIBVIRT_FOLDER "/var/lib/libvirt/qemu"
#define APPARMOR_FILE "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define APPARMOR_RULE "run/vstore/vm/@{profile_name}/"

void network_list(struct call *call)
{
	struct virt_result result = {0};
	struct virt_args args = {0};
	int res = virt_do(call->agent->virt, VIRT_NETWORKS, &args, &result, &call->problem);
	if (res < 0) {
		call_fail(call, res);
		return;
	}
	json_t *list = json_loads(result.text, 0, NULL);
	free(result.text);
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "networks", list ? list : json_array()));
}

/* True: something changed before the time was over. */
static bool wait_change(struct agent *agent, const struct timespec *deadline)
{
	return pthread_cond_timedwait(&agent->changed, &agent->lock, deadline) != ETIMEDOUT;
}

static struct timespec wait_deadline(const struct call *call)
{
	struct timespec at;
	int64_t seconds = call_query(call, "wait", 0);
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += seconds < 0 ? 0 : seconds > WAIT_S_MAX ? WAIT_S_MAX : seconds;
	return at;
}

/* ?since=CURSOR&wait=S: what came after, waiting for the first of it. */
void event_list(struct call *call)
{
	struct agent *agent = call->agent;
	struct timespec deadline = wait_deadline(call);
	int64_t since = call_query(call, "since", 0), last = since;
	json_t *rows = NULL, *array = json_array(), *row;
	size_t i;
	pthread_mutex_lock(&agent->lock);
	for (bool more = true; more && !json_array_size(rows);) {
		pthread_mutex_unlock(&agent->lock);
		json_decref(rows);
		rows = db_rows(agent->db,
			       "SELECT * FROM event WHERE cursor > ? ORDER BY cursor LIMIT ?", "ii",
			       since, (int64_t)EVENTS_MAX);
		pthread_mutex_lock(&agent->lock);
		if (!json_array_size(rows))
			more = !agent->stopping && wait_change(agent, &deadline);
	}
	pthread_mutex_unlock(&agent->lock);
	json_array_foreach(rows, i, row)
	{
		last = spec_number(row, "cursor");
		json_array_append_new(
			array,
			json_pack("{s:I, s:o, s:s, s:s, s:o}", "cursor", (json_int_t)last, "time",
				  time_json((uint64_t)spec_number(row, "time")), "kind",
				  spec_text(row, "kind"), "object", spec_text(row, "object"),
				  "detail", db_json(row, "detail")));
	}
	json_decref(rows);
	call_reply(call, 200,
		   json_pack("{s:i, s:o, s:I}", "schema", 1, "events", array, "cursor",
			     (json_int_t)last));
}

void audit_show(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "audit",
			     audit_list(call->agent->db, AUDIT_LINES)));
}

void audit_check(struct call *call)
{
	int64_t count = 0;
	int res = audit_verify(call->agent->db, &count, &call->problem);
	if (res < 0)
		call_fail(call, res);
	else
		call_reply(call, 200,
			   json_pack("{s:i, s:I}", "schema", 1, "lines", (json_int_t)count));
}

/* ---- jobs: ours are a1, a2 ..., vstored's are numbers ---- */

void job_list(struct call *call)
{
	json_t *document = NULL, *array = json_array(), *rows, *row;
	struct problem problem = {0};
	size_t i;
	rows = db_rows(call->agent->db, "SELECT * FROM operation ORDER BY id DESC", "");
	json_array_foreach(rows, i, row) json_array_append_new(array, op_json(row));
	json_decref(rows);
	if (storage_call(&call->agent->storage, "GET", "/v1/jobs", NULL, &document, &problem) == 0)
		json_array_extend(array, json_object_get(document, "jobs"));
	json_decref(document);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "jobs", array));
}

static bool row_ended(const json_t *row)
{
	return spec_number(row, "ended") != 0;
}

void job_show(struct call *call)
{
	struct agent *agent = call->agent;
	struct timespec deadline = wait_deadline(call);
	json_t *row = NULL;
	if (call->args[0][0] != 'a') {
		call_forward(call);
		return;
	}
	int64_t id = strtoll(call->args[0] + 1, NULL, 10);
	pthread_mutex_lock(&agent->lock);
	for (bool more = true; more;) {
		pthread_mutex_unlock(&agent->lock);
		json_decref(row);
		row = op_row(agent, id);
		pthread_mutex_lock(&agent->lock);
		more = row && !row_ended(row) && !agent->stopping && wait_change(agent, &deadline);
	}
	pthread_mutex_unlock(&agent->lock);
	if (!row) {
		problem_set(&call->problem, -ENOENT, "There is no job %.20s; it may be long past.",
			    call->args[0]);
		call_fail(call, -ENOENT);
		return;
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "job", op_json(row)));
	json_decref(row);
}

void job_stop(struct call *call)
{
	if (call->args[0][0] != 'a') {
		call_forward(call);
		return;
	}
	problem_set(&call->problem, -EBUSY,
		    "A VM's change cannot be cancelled once it is under way.");
	call_fail(call, -EBUSY);
}

/* ---- doctor ---- */

static void finding(json_t *array, const char *what, bool good, const char *message)
{
	json_array_append_new(array, json_pack("{s:s, s:s, s:s}", "name", what, "state",
					       good ? "ok" : "wrong", "message", message));
}

static bool program_there(const char *name)
{
	const char *path = getenv("PATH");
	char full[512];
	for (const char *at = path ? path : ""; *at; at += *at == ':') {
		size_t bytes = strcspn(at, ":");
		snprintf(full, sizeof full, "%.*s/%s", (int)(bytes < 400 ? bytes : 400), at, name);
		if (access(full, X_OK) == 0)
			return true;
		at += bytes;
	}
	return false;
}

static void doctor_programs(json_t *array)
{
	static const struct {
		const char *name, *message;
	} programs[] = {
		{"xorriso", "Makes the seed of a guest; apt install xorriso."},
		{"qemu-img", "Reads images that are not raw; apt install qemu-utils."},
		{"qemu-system-x86_64", "Runs guests; apt install qemu-system-x86."},
	};
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
		finding(array, programs[i].name, program_there(programs[i].name),
			programs[i].message);
}

/* Each QEMU is a user of its own, and has to pass libvirt's folder, which Debian's package closes.
 */
static void doctor_users(const struct agent *agent, json_t *array)
{
	struct stat folder;
	bool passes = stat(LIBVIRT_FOLDER, &folder) < 0 || folder.st_mode & S_IXOTH;
	finding(array, "users", agent->uid_first != 0,
		agent->uid_first ? "Each VM's QEMU is a user of its own, which alone may open the "
				   "VM's disks."
				 : "All QEMUs are one user: run the agent as root to keep them "
				   "apart.");
	if (agent->uid_first)
		finding(array, "libvirt's folder", passes,
			passes ? "QEMU may pass it."
			       : "QEMU cannot pass " LIBVIRT_FOLDER
				 ": dpkg-statoverride --force-all "
				 "--update --add libvirt-qemu libvirt-qemu 0751 " LIBVIRT_FOLDER
				 ".");
}

static bool file_says(const char *path, const char *text)
{
	char line[512];
	bool found = false;
	FILE *file = fopen(path, "re");
	while (file && !found && fgets(line, sizeof line, file))
		found = line[0] != '#' && strstr(line, text);
	if (file)
		fclose(file);
	return found;
}

/* A second lock, where the kernel has it: the first is the users, and the folders' access lists. */
static void doctor_apparmor(json_t *array)
{
	if (!file_says("/sys/module/apparmor/parameters/enabled", "Y"))
		finding(array, "apparmor", true,
			"This kernel does not use AppArmor: users and folders alone keep each "
			"VM's disks from other VMs.");
	else if (file_says(APPARMOR_FILE, APPARMOR_RULE))
		finding(array, "apparmor", true,
			"Its rule lets each VM's QEMU open its own VM's sockets alone.");
	else
		finding(array, "apparmor", false,
			"libvirt's profiles do not let QEMU open its disks: cat "
			"/usr/share/vstore/apparmor/libvirt-qemu >>" APPARMOR_FILE ".");
}

void doctor_show(struct call *call)
{
	struct agent *agent = call->agent;
	struct virt_result result = {0};
	struct virt_args args = {.timeout_ms = 5000};
	struct problem problem = {0};
	json_t *array = json_array(), *store = NULL;
	char words[SENTENCE_BYTES];
	bool kvm = agent_kvm(agent);
	finding(array, "kvm", kvm,
		kvm ? "A tiny guest has run under KVM."
		    : "KVM does not run a guest here: turn virtualization on in the firmware, load "
		      "kvm_intel or kvm_amd. Until then guests are emulated, and slow.");
	int res = virt_do(agent->virt, VIRT_VERSION, &args, &result, &problem);
	snprintf(words, sizeof words, "libvirt %lld.%lld.%lld answers.",
		 (long long)(result.number / 1000000), (long long)(result.number / 1000 % 1000),
		 (long long)(result.number % 1000));
	finding(array, "libvirt", res == 0, res == 0 ? words : problem.sentence);
	res = storage_call(&agent->storage, "GET", "/v1/store", NULL, &store, &problem);
	finding(array, "vstored", res == 0, res == 0 ? "It answers." : problem.sentence);
	if (res == 0)
		finding(array, "space", !json_is_true(json_object_get(store, "full")),
			"The store must have room: purge the trash, delete snapshots, or add "
			"space.");
	doctor_users(agent, array);
	doctor_apparmor(array);
	doctor_programs(array);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	finding(array, "time", now.tv_sec > 1700000000,
		"The clock must be right: certificates and retention depend on it.");
	json_decref(store);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "findings", array));
}
