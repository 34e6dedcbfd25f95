/* SPDX-License-Identifier: Apache-2.0 */
/* What VMs need of this host, and how to mend what is missing. It looks and changes nothing; each
 * finding is asked for by itself, so that one that hangs or fails hides no other. */
#include "agent/api/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#define LIBVIRT_FOLDER "/var/lib/libvirt/qemu"
#define APPARMOR_FILE "/etc/apparmor.d/local/abstractions/libvirt-qemu"
#define WANTS "/etc/systemd/system/multi-user.target.wants/"
#define APPARMOR_RULE "run/vstore/vm/@{profile_name}/"

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
		{"bridge", "Puts guests into VLANs of Linux bridges; apt install iproute2."},
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
static void doctor_apparmor(json_t *array, const char *model)
{
	if (model && strcmp(model, "apparmor") != 0)
		finding(array, "apparmor", true,
			"libvirt does not use AppArmor here (security_driver in "
			"/etc/libvirt/qemu.conf, or the kernel): users and folders alone keep each "
			"VM's disks from other VMs.");
	else if (!file_says("/sys/module/apparmor/parameters/enabled", "Y"))
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

/* Who else would start or end guests with the host, and whether we do: where there is systemd. */
static void doctor_guests(json_t *array)
{
	bool ours = access(WANTS "vstore-guests.service", F_OK) == 0;
	bool theirs = access(WANTS "libvirt-guests.service", F_OK) == 0;
	if (access("/run/systemd/system", F_OK) < 0)
		return;
	finding(array, "guests at shutdown", ours && !theirs,
		!ours ? "Guests lose their power when the host goes down: systemctl enable --now "
			"vstore-guests."
		: theirs ? "libvirt-guests would end guests too, in no order: systemctl disable "
			   "libvirt-guests (without --now, which would end them)."
			 : "They end before the host does, in the reverse order of a boot.");
}

/* By which QEMU reaches its disks, again after each restart of vstored. */
static void doctor_sockets(const struct agent *agent, json_t *array)
{
	struct problem problem = {0};
	json_t *leases = NULL, *one;
	char words[SENTENCE_BYTES];
	size_t i, missing = 0;
	if (storage_attachments(&agent->storage, &leases, &problem) < 0)
		return; /* vstored's own finding says why */
	json_array_foreach(leases, i, one) {
		const char *socket = spec_text(one, "socket");
		if (!*socket || access(socket, F_OK) == 0)
			continue;
		if (!missing++)
			snprintf(words, sizeof words,
				 "The socket of volume %.63s for %.63s is gone (%.120s): systemctl "
				 "restart vstored makes it again.",
				 spec_text(one, "volume"), spec_text(one, "holder_name"), socket);
	}
	if (!missing)
		snprintf(words, sizeof words, "%zu disks of VMs, each with its socket.",
			 json_array_size(leases));
	finding(array, "sockets", !missing, words);
	json_decref(leases);
}

static void doctor_time(json_t *array)
{
	struct timex clock = {0};
	bool kept = adjtimex(&clock) >= 0 && !(clock.status & STA_UNSYNC);
	finding(array, "time", kept,
		kept ? "The clock is kept right by another one."
		     : "Nothing keeps the clock right, and certificates and retention depend on "
		       "it: apt install chrony.");
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
		finding(array, "space", !storage_no_room(store),
			"The store must have room: purge the trash, delete snapshots, or add "
			"space.");
	doctor_users(agent, array);
	doctor_apparmor(array, result.text);
	doctor_guests(array);
	doctor_sockets(agent, array);
	doctor_programs(array);
	doctor_time(array);
	json_decref(store);
	free(result.text);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "findings", array));
}
