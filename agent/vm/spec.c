/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing that a user may send reaches libvirt or the store unchecked; a refusal names the value
 * and what it may be. */
#include "agent/vm/spec.h"

#include "proto/text.h"

#include <errno.h>
#include <glob.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define CPU_MAX 512
#define ORDER_MAX 9999
#define DELAY_S_MAX 3600
#define MEMORY_BYTES_MIN (64 * MIB)
#define MEMORY_BYTES_MAX (16 * TIB)
#define MEMORY_BYTES_DEFAULT (2 * GIB)
#define FIRMWARES "/usr/share/qemu/firmware/*.json"
#define SWTPM "/usr/bin/swtpm"
#define NAME_BYTES_VM 50u /* so that NAME-disk12 is a name as well */

static void random_fill(void *to, size_t bytes)
{
	/* Up to 256 bytes come whole or not at all; without randomness nothing here is safe. */
	if (getrandom(to, bytes, 0) != (ssize_t)bytes)
		abort();
}

void spec_uuid_new(char out[37])
{
	uint8_t uuid[16];
	random_fill(uuid, sizeof uuid);
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	text_uuid(uuid, out);
}

static void mac_new(char out[18])
{
	uint8_t tail[3];
	random_fill(tail, sizeof tail);
	snprintf(out, 18, "52:54:00:%02x:%02x:%02x", tail[0], tail[1], tail[2]);
}

static bool mac_ok(const char *mac)
{
	unsigned digits = 0;
	if (strlen(mac) != 17)
		return false;
	for (unsigned i = 0; i < 17; i++) {
		if (i % 3 == 2 ? mac[i] != ':' : !strchr("0123456789abcdef", mac[i]))
			return false;
		digits += i % 3 != 2;
	}
	return digits == 12 && !(strtoul(mac, NULL, 16) & 1); /* no group's address */
}

int spec_nic(const json_t *body, json_t **ret_nic, struct problem *problem)
{
	const char *bridge = spec_text(body, "bridge"), *network = spec_text(body, "network");
	char mac[18];
	int64_t vlan = spec_number(body, "vlan");
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)body, key, value)
		if (!strstr(" bridge network vlan mac ", key))
			return problem_set(problem, -EINVAL,
					   "'%.60s' is not known of a NIC; it has "
					   "bridge, network, "
					   "vlan and mac.",
					   key);
	if (!*bridge == !*network)
		return problem_set(problem, -EINVAL,
				   "A NIC needs either bridge=NAME or network=NAME.");
	if (strlen(bridge) >= IF_NAMESIZE || strlen(network) > NAME_BYTES_MAX)
		return problem_set(problem, -EINVAL, "'%.60s' is too long for a network's name.",
				   *bridge ? bridge : network);
	if (vlan < 0 || vlan > 4094)
		return problem_set(problem, -EINVAL, "A VLAN is a number from 1 to 4094.");
	mac_new(mac);
	if (*spec_text(body, "mac")) {
		snprintf(mac, sizeof mac, "%s", spec_text(body, "mac"));
		for (char *at = mac; *at; at++)
			*at |= *at >= 'A' && *at <= 'F' ? 0x20 : 0;
		if (strlen(spec_text(body, "mac")) != 17 || !mac_ok(mac))
			return problem_set(problem, -EINVAL,
					   "'%.40s' is no MAC address of one host; one is like "
					   "52:54:00:12:34:56.",
					   spec_text(body, "mac"));
	}
	*ret_nic = json_pack("{s:s, s:s, s:s, s:I}", "mac", mac, "bridge", bridge, "network",
			     network, "vlan", (json_int_t)vlan);
	return 0;
}

json_t *spec_nic_find(const json_t *spec, const char *mac)
{
	size_t i;
	json_t *nic;
	json_array_foreach(json_object_get(spec, "nics"), i, nic)
		if (strcasecmp(spec_text(nic, "mac"), mac) == 0)
			return nic;
	return NULL;
}

void spec_remove(json_t *list, const char *key, const char *value)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(spec_text(json_array_get(list, i), key), value) == 0) {
			json_array_remove(list, i);
			return;
		}
}

/* libvirt picks the firmware by these descriptions. */
int spec_machine_check(const json_t *spec, struct problem *problem)
{
	if (strcmp(spec_text(spec, "firmware"), "uefi") == 0) {
		glob_t found = {0};
		bool none = glob(FIRMWARES, 0, NULL, &found) != 0;
		globfree(&found);
		if (none)
			return problem_set(problem, -ENOENT,
					   "There is no UEFI firmware on this host: apt install "
					   "ovmf, or give --firmware bios.");
	}
	if (json_is_true(json_object_get(spec, "tpm")) && access(SWTPM, X_OK) < 0)
		return problem_set(problem, -ENOENT,
				   "There is no emulator of a TPM on this host: apt install swtpm "
				   "swtpm-tools, or leave --tpm out.");
	return 0;
}

/* ---- disks ---- */

json_t *spec_disk(const json_t *spec, const char *name)
{
	size_t i;
	json_t *disk;
	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (strcmp(spec_text(disk, "target"), name) == 0 ||
		    strcmp(spec_text(disk, "volume"), name) == 0)
			return disk;
	return NULL;
}

int spec_target_free(const json_t *spec, char ret_target[8])
{
	for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
		snprintf(ret_target, 8, "vd%c", (char)('a' + i));
		if (!spec_disk(spec, ret_target))
			return 0;
	}
	return -ENOSPC;
}

void spec_volume_name(const json_t *spec, char *out, size_t room)
{
	for (unsigned i = 0; i <= VM_DISKS_MAX; i++) {
		snprintf(out, room, "%s-disk%u", spec_text(spec, "name"), i);
		if (!spec_disk(spec, out))
			return;
	}
}

static int disks_new(const json_t *body, json_t *spec, struct problem *problem)
{
	const json_t *wanted = json_object_get(body, "disks");
	json_t *disks = json_object_get(spec, "disks"), *one;
	size_t i;
	char target[8], volume[80];
	if (json_array_size(wanted) > VM_DISKS_MAX)
		return problem_set(problem, -EINVAL, "A VM has at most %u disks.", VM_DISKS_MAX);
	json_array_foreach(wanted, i, one) {
		json_int_t bytes = json_integer_value(one);
		if (!json_is_integer(one) || bytes <= 0 || (uint64_t)bytes > VOLUME_BYTES_MAX)
			return problem_set(
				problem, -EINVAL,
				"'disks' must be a list of sizes in bytes, up to 256 T.");
		spec_target_free(spec, target);
		spec_volume_name(spec, volume, sizeof volume);
		json_array_append_new(disks,
				      json_pack("{s:s, s:s, s:s, s:I, s:b}", "target", target,
						"volume", volume, "uuid", "", "size_bytes",
						(json_int_t)round_up((uint64_t)bytes, BLOCK_BYTES),
						"owned", 1));
	}
	return 0;
}

static int nics_new(const json_t *body, json_t *spec, struct problem *problem)
{
	size_t i;
	json_t *one, *nic;
	if (json_array_size(json_object_get(body, "nics")) > VM_NICS_MAX)
		return problem_set(problem, -EINVAL, "A VM has at most %u NICs.", VM_NICS_MAX);
	json_array_foreach(json_object_get(body, "nics"), i, one) {
		int res = spec_nic(one, &nic, problem);
		if (res == 0 && spec_nic_find(spec, spec_text(nic, "mac"))) {
			res = problem_set(problem, -EINVAL, "Two NICs have the MAC address %s.",
					  spec_text(nic, "mac"));
			json_decref(nic);
		}
		if (res < 0)
			return res;
		json_array_append_new(json_object_get(spec, "nics"), nic);
	}
	return 0;
}

static int word_check(const char *value, const char *words, const char *what,
		      struct problem *problem)
{
	char word[40];
	snprintf(word, sizeof word, " %.36s ", value);
	if (strstr(words, word))
		return 0;
	return problem_set(problem, -EINVAL, "'%.36s' is no %s; it is one of:%.60s", value, what,
			   words);
}

int spec_name_check(const char *name, struct problem *problem)
{
	if (text_name_ok(name, strlen(name)) && strlen(name) <= NAME_BYTES_VM)
		return 0;
	return problem_set(problem, -EINVAL,
			   "'%.80s' is no name for a VM: letters, digits, . _ and -, at most "
			   "%u, the first a letter or digit.",
			   name, NAME_BYTES_VM);
}

static int figures_check(int64_t cpu, int64_t memory, struct problem *problem)
{
	if (cpu < 1 || cpu > CPU_MAX)
		return problem_set(problem, -EINVAL, "A VM has 1 to %d CPUs.", CPU_MAX);
	if (memory < (int64_t)MEMORY_BYTES_MIN || memory > (int64_t)MEMORY_BYTES_MAX)
		return problem_set(problem, -EINVAL, "A VM has 64M to 16T of memory.");
	return 0;
}

static json_t *memory_json(int64_t bytes)
{
	return json_integer((json_int_t)round_up((uint64_t)bytes, MIB));
}

int spec_change(json_t *spec, const json_t *change, struct problem *problem)
{
	json_t *now = json_copy(spec);
	json_object_update(now, (json_t *)change);
	int64_t order = spec_number(now, "order"), delay_s = spec_number(now, "delay_s");
	int res = figures_check(spec_number(now, "cpu"), spec_number(now, "memory_bytes"), problem);
	if (res == 0 && (order < 0 || order > ORDER_MAX))
		res = problem_set(problem, -EINVAL,
				  "A VM's place in the order of a boot is 0 to %d.", ORDER_MAX);
	if (res == 0 && (delay_s < 0 || delay_s > DELAY_S_MAX))
		res = problem_set(problem, -EINVAL, "The delay after a VM's start is 0 to %d s.",
				  DELAY_S_MAX);
	if (res == 0) {
		json_object_set_new(now, "memory_bytes",
				    memory_json(spec_number(now, "memory_bytes")));
		json_object_update(spec, now);
	}
	json_decref(now);
	return res;
}

int spec_new(const json_t *body, json_t **ret_spec, struct problem *problem)
{
	const char *name = spec_text(body, "name"), *firmware = spec_text(body, "firmware");
	const char *accel = spec_text(body, "accel");
	int64_t cpu = spec_number(body, "cpu"), memory = spec_number(body, "memory_bytes");
	char uuid[37], meta[80];
	firmware = *firmware ? firmware : "bios";
	accel = *accel ? accel : "auto";
	cpu = json_object_get(body, "cpu") ? cpu : 1;
	memory = json_object_get(body, "memory_bytes") ? memory : (int64_t)MEMORY_BYTES_DEFAULT;
	int res = spec_name_check(name, problem);
	if (res == 0)
		res = figures_check(cpu, memory, problem);
	if (res == 0)
		res = word_check(firmware, " bios uefi ", "firmware", problem);
	if (res == 0)
		res = word_check(accel, " auto kvm tcg ", "acceleration", problem);
	if (res < 0)
		return res;
	spec_uuid_new(uuid);
	snprintf(meta, sizeof meta, "%s-meta", name);
	json_t *spec = json_pack(
		"{s:s, s:s, s:i, s:I, s:o, s:s, s:s, s:b, s:s, s:s, s:b, s:i, s:i, s:s, s:[], "
		"s:[], "
		"s:n}",
		"uuid", uuid, "name", name, "generation", 1, "cpu", (json_int_t)cpu, "memory_bytes",
		memory_json(memory), "firmware", firmware, "accel", accel, "tpm",
		json_is_true(json_object_get(body, "tpm")), "image", spec_text(body, "image"),
		"cdrom", spec_text(body, "cdrom"), "autostart", 0, "order", 0, "delay_s", 0, "meta",
		meta, "disks", "nics", "seed");
	res = disks_new(body, spec, problem);
	if (res == 0)
		res = nics_new(body, spec, problem);
	if (res < 0)
		json_decref(spec);
	else
		*ret_spec = spec;
	return res;
}
