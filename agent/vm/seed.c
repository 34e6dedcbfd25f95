/* SPDX-License-Identifier: Apache-2.0 */
/* YAML is a superset of JSON: what cloud-init reads as YAML is written as JSON, so nothing needs
 * escaping by hand. */
#include "agent/vm/seed.h"

#include "agent/vm/program.h"
#include "agent/vm/spec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XORRISO_MS 60000
#define USER_DATA_BYTES_MAX (512u * 1024u)

int seed_check(const json_t *input, struct problem *problem)
{
	static const char *const kinds[] = {"ssh-", "ecdsa-", "sk-"};
	const char *user = spec_text(input, "user_data");
	size_t i;
	json_t *key;
	if (*user && user[0] != '#' && strncmp(user, "Content-Type:", 13) != 0)
		return problem_set(problem, -EINVAL,
				   "The user-data begins neither with #cloud-config nor with #!; "
				   "cloud-init would ignore it.");
	if (strlen(user) > USER_DATA_BYTES_MAX)
		return problem_set(problem, -EINVAL, "The user-data is larger than 512 KiB.");
	json_array_foreach(json_object_get(input, "ssh_keys"), i, key) {
		const char *text = json_string_value(key);
		bool known = false;
		for (size_t k = 0; text && k < sizeof kinds / sizeof *kinds; k++)
			known |= strncmp(text, kinds[k], strlen(kinds[k])) == 0;
		if (!known)
			return problem_set(problem, -EINVAL,
					   "'%.40s' is no public SSH key; give the .pub file.",
					   text ? text : "");
	}
	return 0;
}

static int file_write(const char *folder, const char *name, const char *text)
{
	char path[600];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *file = fopen(path, "we");
	if (!file)
		return -errno;
	int res = fputs(text, file) < 0 ? -EIO : 0;
	return fclose(file) == 0 ? res : -EIO;
}

static int json_write(const char *folder, const char *name, json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(1));
	int res = text ? file_write(folder, name, text) : -ENOMEM;
	json_decref(value);
	free(text);
	return res;
}

static json_t *network_config(const json_t *spec)
{
	json_t *ethernets = json_object(), *nic;
	size_t i;
	char name[32];
	json_array_foreach(json_object_get(spec, "nics"), i, nic) {
		snprintf(name, sizeof name, "nic%zu", i);
		json_object_set_new(ethernets, name,
				    json_pack("{s:{s:s}, s:b}", "match", "macaddress",
					      spec_text(nic, "mac"), "dhcp4", 1));
	}
	return json_pack("{s:i, s:o}", "version", 2, "ethernets", ethernets);
}

static int files_write(const json_t *spec, const json_t *input, const char *folder)
{
	const char *user = spec_text(input, "user_data");
	json_t *keys = json_object_get(input, "ssh_keys");
	json_t *meta = json_pack("{s:s, s:s}", "instance-id", spec_text(spec, "uuid"),
				 "local-hostname", spec_text(spec, "name"));
	if (json_array_size(keys))
		json_object_set(meta, "public-keys", keys);
	int res = json_write(folder, "meta-data", meta);
	if (res == 0)
		res = file_write(folder, "user-data", *user ? user : "#cloud-config\n{}\n");
	if (res == 0 && json_array_size(json_object_get(spec, "nics")))
		res = json_write(folder, "network-config", network_config(spec));
	return res;
}

static void folder_remove(const char *folder)
{
	static const char *const names[] = {"meta-data", "user-data", "network-config"};
	char path[600];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

int seed_make(const json_t *spec, const json_t *input, const char *path, struct problem *problem)
{
	char folder[512], iso[520], words[200] = "";
	snprintf(folder, sizeof folder, "%s.d", path);
	snprintf(iso, sizeof iso, "%.500s.iso", path);
	const char *const argv[] = {"xorriso", "-as", "mkisofs", "-quiet", "-V",   "cidata",
				    "-J",      "-r",  "-o",	 iso,	   folder, NULL};
	unlink(iso);
	if (mkdir(folder, 0700) < 0 && errno != EEXIST)
		return problem_set(problem, -errno, "%.120s cannot be made.", folder);
	int res = files_write(spec, input, folder);
	if (res < 0)
		problem_set(problem, res, "The seed's files cannot be written to %.120s.", folder);
	if (res == 0)
		res = program_run(argv, XORRISO_MS, words, sizeof words);
	folder_remove(folder);
	if (res == -ENOENT)
		return problem_set(problem, res,
				   "xorriso is not installed, and the guest's seed needs it: apt "
				   "install xorriso.");
	if (res != 0 && !problem->sentence[0])
		problem_set(problem, -EIO, "xorriso failed: %.200s", words);
	return res == 0 ? 0 : -EIO;
}
