/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether KVM works here. /dev/kvm can exist, answer, and still hang guests: so a guest of one
 * sector is booted under it, once a process, with a time limit. It writes to QEMU's debug-exit
 * port; only that counts as working.
 */
#include "agent/vm/agent.h"

#include "agent/vm/program.h"
#include "storage/rt/log_event.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CANARY_MS 15000
#define CANARY_STATUS 33 /* (0x10 << 1) | 1 */

/* mov dx, 0xf4; mov al, 0x10; out dx, al; hlt; jmp $ */
static const unsigned char canary[] = {0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfe};

static bool canary_runs(struct agent *agent)
{
	char path[300], drive[400], words[200], reuid[32], regid[32];
	unsigned char sector[512] = {0};
	snprintf(path, sizeof path, "%s/canary.img", agent->state_path);
	snprintf(drive, sizeof drive, "file=%s,format=raw,if=ide,snapshot=on", path);
	snprintf(reuid, sizeof reuid, "--reuid=%u", agent->uid_first);
	snprintf(regid, sizeof regid, "--regid=%u",
		 agent->gid >= 0 ? (uint32_t)agent->gid : agent->uid_first);
	memcpy(sector, canary, sizeof canary);
	sector[510] = 0x55;
	sector[511] = 0xaa;
	FILE *file = fopen(path, "we");
	if (!file)
		return false;
	bool written = fwrite(sector, 1, sizeof sector, file) == sizeof sector;
	written &= fchmod(fileno(file), 0644) == 0; /* QEMU is another user */
	written &= fclose(file) == 0;
	const char *const argv[] = {"setpriv",
				    reuid,
				    regid,
				    "--clear-groups",
				    "qemu-system-x86_64",
				    "-accel",
				    "kvm",
				    "-m",
				    "32",
				    "-nodefaults",
				    "-no-user-config",
				    "-display",
				    "none",
				    "-device",
				    "isa-debug-exit,iobase=0xf4,iosize=0x04",
				    "-drive",
				    drive,
				    NULL};
	/* As its guests do: as a user of the VMs', in QEMU's group. */
	bool other = agent->uid_first != 0;
	int res =
		written ? program_run(other ? argv : argv + 4, CANARY_MS, words, sizeof words) : -1;
	unlink(path);
	log_event(LOG_LEVEL_INFO, "kvm.canary", "works=%s result=%d",
		  res == CANARY_STATUS ? "yes" : "no", res);
	return res == CANARY_STATUS;
}

bool agent_kvm(struct agent *agent)
{
	static pthread_mutex_t trying = PTHREAD_MUTEX_INITIALIZER;
	pthread_mutex_lock(&trying);
	if (agent->kvm < 0)
		agent->kvm = access("/dev/kvm", F_OK) == 0 && canary_runs(agent);
	bool works = agent->kvm;
	pthread_mutex_unlock(&trying);
	return works;
}
