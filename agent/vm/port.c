/* SPDX-License-Identifier: Apache-2.0 */
/* iproute2's programs do the work, and sysfs says what there is; see port.h for the order. */
#include "agent/vm/port.h"

#include "agent/vm/program.h"
#include "agent/vm/spec.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM_MS 10000
#define WORDS_ROOM 4096
#define PATH_ROOM 96
#define MTU_DEFAULT 1500

void port_name(const char *mac, char out[PORT_NAME_ROOM])
{
	size_t n = (size_t)snprintf(out, PORT_NAME_ROOM, "vst");
	for (; *mac && n + 1 < PORT_NAME_ROOM; mac++)
		if (*mac != ':')
			out[n++] = *mac;
	out[n] = 0;
}

/* ---- what there is ---- */

static bool device_has(const char *device, const char *what)
{
	char path[PATH_ROOM];
	snprintf(path, sizeof path, "/sys/class/net/%.15s/%s", device, what);
	return access(path, F_OK) == 0;
}

/* -1: the kernel does not say. */
static long device_number(const char *device, const char *what)
{
	char path[PATH_ROOM], text[32] = "";
	snprintf(path, sizeof path, "/sys/class/net/%.15s/%s", device, what);
	FILE *file = fopen(path, "re");
	bool read = file && fgets(text, sizeof text, file);
	if (file)
		fclose(file);
	return read ? strtol(text, NULL, 0) : -1;
}

static bool device_on(const char *device, const char *bridge)
{
	char path[PATH_ROOM], to[PATH_ROOM];
	snprintf(path, sizeof path, "/sys/class/net/%.15s/master", device);
	ssize_t bytes = readlink(path, to, sizeof to - 1);
	if (bytes < 0)
		return false;
	to[bytes] = 0;
	const char *slash = strrchr(to, '/');
	return strcmp(slash ? slash + 1 : to, bridge) == 0;
}

bool port_wanted(const json_t *nic)
{
	const char *bridge = spec_text(nic, "bridge");
	return *bridge && spec_number(nic, "vlan") && device_has(bridge, "bridge");
}

int port_bridge_check(const json_t *nic, struct problem *problem)
{
	const char *bridge = spec_text(nic, "bridge");
	int vlan = (int)spec_number(nic, "vlan");
	long filtering = device_number(bridge, "bridge/vlan_filtering");
	if (filtering > 0)
		return 0;
	if (filtering < 0)
		return problem_set(problem, -ENOTSUP,
				   "This kernel's bridges cannot keep VLANs apart (it lacks "
				   "CONFIG_BRIDGE_VLAN_FILTERING): give a bridge that is in VLAN "
				   "%d itself, without vlan=%d.",
				   vlan, vlan);
	return problem_set(problem, -ENOTSUP,
			   "Bridge %.15s does not keep VLANs apart: let it (ip link set %.15s type "
			   "bridge vlan_filtering 1) and put its uplink into VLAN %d (bridge vlan "
			   "add dev UPLINK vid %d), or give a bridge that is in that VLAN itself.",
			   bridge, bridge, vlan, vlan);
}

bool port_vlan_only(const char *said, int vlan)
{
	json_t *list = json_loads(said, 0, NULL);
	json_t *vlans = json_object_get(json_array_get(list, 0), "vlans");
	json_t *one = json_array_get(vlans, 0), *flag;
	bool pvid = false, untagged = false;
	size_t i;
	json_array_foreach(json_object_get(one, "flags"), i, flag) {
		const char *text = json_string_value(flag);
		pvid |= text && strcmp(text, "PVID") == 0;
		untagged |= text && strcmp(text, "Egress Untagged") == 0;
	}
	bool only = json_array_size(list) == 1 && json_array_size(vlans) == 1 &&
		    spec_number(one, "vlan") == vlan && !json_object_get(one, "vlanEnd") && pvid &&
		    untagged;
	json_decref(list);
	return only;
}

/* ---- changing it ---- */

static int iproute(const char *const *argv, char words[WORDS_ROOM], struct problem *problem)
{
	int res = program_run(argv, PROGRAM_MS, words, WORDS_ROOM);
	if (res == 0)
		return 0;
	if (res == -ENOENT)
		return problem_set(problem, res,
				   "%s is not installed, and VLANs of bridges need it: apt install "
				   "iproute2.",
				   argv[0]);
	words[strcspn(words, "\n")] = 0;
	return problem_set(problem, res < 0 ? res : -EIO, "%s %s %s failed: %.200s", argv[0],
			   argv[1], argv[2], words);
}

static int vlan_right(const char *port, int vlan, bool *ret_right, struct problem *problem)
{
	char words[WORDS_ROOM];
	const char *const show[] = {"bridge", "-j", "vlan", "show", "dev", port, NULL};
	int res = iproute(show, words, problem);
	if (res == 0)
		*ret_right = port_vlan_only(words, vlan);
	return res;
}

/* Its address is not the guest's, whose frames come through it, and as high as can be: a bridge
 * without one of its own takes the lowest of its ports. */
static void address_of(const char *mac, char out[18])
{
	snprintf(out, 18, "%s", mac);
	memcpy(out, strncmp(mac, "fe", 2) == 0 ? "fa" : "fe", 2);
}

static int port_bring(const json_t *nic, const char *port, struct problem *problem)
{
	const char *bridge = spec_text(nic, "bridge");
	char words[WORDS_ROOM], address[18], mtu[24], vlan[16];
	long bytes = device_number(bridge, "mtu");
	bool right = false;
	address_of(spec_text(nic, "mac"), address);
	snprintf(mtu, sizeof mtu, "%ld", bytes > 0 ? bytes : MTU_DEFAULT);
	snprintf(vlan, sizeof vlan, "%d", (int)spec_number(nic, "vlan"));
	const char *const down[] = {"ip", "link", "set", "dev", port, "down", NULL};
	const char *const join[] = {"ip",    "link", "set", "dev",    port,   "address",
				    address, "mtu",  mtu,   "master", bridge, NULL};
	const char *const none[] = {"bridge", "vlan", "del", "dev", port, "vid", "1-4094", NULL};
	const char *const give[] = {"bridge", "vlan", "add",  "dev",	  port,
				    "vid",    vlan,   "pvid", "untagged", NULL};
	const char *const up[] = {"ip", "link", "set", "dev", port, "up", NULL};
	const char *const *const before[] = {down, join, none, give};
	int res = 0;
	for (size_t i = 0; i < sizeof before / sizeof *before && res == 0; i++)
		res = iproute(before[i], words, problem);
	if (res == 0)
		res = vlan_right(port, (int)spec_number(nic, "vlan"), &right, problem);
	if (res == 0 && !right)
		res = problem_set(problem, -EIO,
				  "The port %s of bridge %.15s did not come into VLAN %s alone; it "
				  "stays down.",
				  port, bridge, vlan);
	return res < 0 ? res : iproute(up, words, problem);
}

int port_make(const json_t *nic, struct problem *problem)
{
	char port[PORT_NAME_ROOM], words[WORDS_ROOM];
	bool right = false;
	port_name(spec_text(nic, "mac"), port);
	const char *const add[] = {"ip", "tuntap", "add", "dev", port, "mode", "tap", NULL};
	int res = port_bridge_check(nic, problem);
	if (res == 0 && !device_has(port, ""))
		res = iproute(add, words, problem);
	if (res == 0 && !device_has(port, "tun_flags"))
		res = problem_set(problem, -EEXIST,
				  "There is a device %s on this host that is no tap device: rename "
				  "it, or give the NIC another MAC address.",
				  port);
	if (res == 0)
		res = vlan_right(port, (int)spec_number(nic, "vlan"), &right, problem);
	if (res < 0 || (right && device_on(port, spec_text(nic, "bridge")) &&
			device_number(port, "flags") & IFF_UP))
		return res;
	return port_bring(nic, port, problem);
}

int port_remove(const json_t *nic, struct problem *problem)
{
	char port[PORT_NAME_ROOM], words[WORDS_ROOM];
	port_name(spec_text(nic, "mac"), port);
	const char *const gone[] = {"ip", "link", "delete", "dev", port, NULL};
	return device_has(port, "tun_flags") ? iproute(gone, words, problem) : 0;
}
