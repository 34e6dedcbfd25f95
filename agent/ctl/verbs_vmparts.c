/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about the parts of VMs (disks, NICs, CD drive, snapshots), and about images. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/call.h"
#include "agent/ctl/names.h"
#include "agent/ctl/table.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 320

/* "/v1/vms/VM/PART/NAME": both names are checked to be safe in a path. */
static int vm_path(const struct ctl *ctl, char path[CLIENT_PATH_ROOM], const char *part,
		   const char *name)
{
	int res = name_check(ctl, ctl->args[0]);
	if (res == 0 && name)
		res = name_check(ctl, name);
	if (res == 0)
		snprintf(path, CLIENT_PATH_ROOM, "/v1/vms/%.63s/%s%s%.63s", ctl->args[0], part,
			 name ? "/" : "", name ? name : "");
	return res;
}

static int vm_list(struct ctl *ctl, const char *part, const struct table *table)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = vm_path(ctl, path, part, NULL);
	if (res == 0)
		res = call_get(ctl, path, &document);
	return res ? res : table_print_list(ctl, table, document);
}

static int change(struct ctl *ctl, const char *method, const char *path, const struct value *body,
		  const char *words)
{
	const struct call_change call = {
		.method = method, .path = path, .body = body, .wait_as_job = true, .done = words};
	return call_change(ctl, &call, NULL);
}

/* ---- disks ---- */

int verb_vm_disk_list(struct ctl *ctl)
{
	return vm_list(ctl, "disks", &table_disks);
}

int verb_vm_disk_attach(struct ctl *ctl)
{
	const char *size = ctl_option(ctl, "size"), *volume = ctl_option(ctl, "volume");
	char path[CLIENT_PATH_ROOM], words[WORDS];
	uint64_t bytes;
	VALUE_AUTO body = value_object();
	int res = vm_path(ctl, path, "disks", NULL);
	if (res == 0 && !size == !volume)
		res = ctl_fail(ctl, CTL_USAGE,
			       "Give --size S for a new disk, or --volume V for one there is.");
	if (res == 0 && size)
		res = size_parse(ctl, size, &bytes);
	if (res)
		return res;
	if (size)
		value_set_integer(body, "size_bytes", (int64_t)bytes);
	else
		value_set_text(body, "volume", volume);
	snprintf(words, sizeof words, "VM %.63s has one more disk.", ctl->args[0]);
	return change(ctl, "POST", path, body, words);
}

int verb_vm_disk_detach(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[WORDS];
	int res = vm_path(ctl, path, "disks", ctl->args[1]);
	snprintf(words, sizeof words, "VM %.63s has let go of %.63s; its volume stays.",
		 ctl->args[0], ctl->args[1]);
	return res ? res : change(ctl, "DELETE", path, NULL, words);
}

int verb_vm_disk_grow(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	uint64_t bytes;
	VALUE_AUTO body = value_object();
	VALUE_AUTO ended = NULL;
	int res = vm_path(ctl, path, "disks", ctl->args[1]);
	if (res == 0)
		res = size_parse(ctl, ctl->args[2], &bytes);
	if (res)
		return res;
	value_set_integer(body, "size_bytes", (int64_t)bytes);
	const struct call_change call = {
		.method = "PATCH", .path = path, .body = body, .wait_as_job = true};
	res = call_change(ctl, &call, &ended);
	if (res == 0 && ended)
		ctl_say(ctl, "Disk %.63s of %.63s has grown%s", ctl->args[1], ctl->args[0],
			value_true(value_get(value_get(ended, "result"), "at_next_start"))
				? "; the guest sees it at its next start."
				: ". Its partition and file system grow from inside the guest.");
	return res;
}

/* ---- NICs ---- */

int verb_vm_nic_list(struct ctl *ctl)
{
	return vm_list(ctl, "nics", &table_nics);
}

int verb_vm_nic_attach(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[WORDS];
	VALUE_AUTO body = value_object();
	int res = vm_path(ctl, path, "nics", NULL);
	if (res == 0)
		res = net_parse(ctl, ctl->args[1], body);
	snprintf(words, sizeof words, "VM %.63s has one more NIC.", ctl->args[0]);
	return res ? res : change(ctl, "POST", path, body, words);
}

int verb_vm_nic_detach(struct ctl *ctl)
{
	const char *mac = ctl->args[1];
	char path[CLIENT_PATH_ROOM], tail[40], words[WORDS];
	if (strlen(mac) != 17 || strspn(mac, "0123456789abcdefABCDEF:") != 17)
		return ctl_fail(
			ctl, CTL_USAGE,
			"\"%.40s\" is no MAC address; vstorectl vm nic list %.63s shows them.", mac,
			ctl->args[0]);
	snprintf(tail, sizeof tail, "nics/%.17s", mac);
	int res = vm_path(ctl, path, tail, NULL);
	snprintf(words, sizeof words, "VM %.63s has let go of %.17s.", ctl->args[0], mac);
	return res ? res : change(ctl, "DELETE", path, NULL, words);
}

int verb_vm_disk_set_qos(struct ctl *ctl)
{
	const char *iops = ctl_option(ctl, "iops"), *bandwidth = ctl_option(ctl, "bandwidth");
	const char *burst = ctl_option(ctl, "burst");
	char path[CLIENT_PATH_ROOM], words[WORDS];
	int64_t number = 0;
	uint64_t bytes = 0;
	VALUE_AUTO body = value_object();
	int res = vm_path(ctl, path, "disks", ctl->args[1]);
	if (res == 0 && !iops && !bandwidth && !burst)
		res = ctl_fail(ctl, CTL_USAGE, "Give --iops N, --bandwidth S or --burst DUR.");
	if (res == 0 && iops && (res = count_parse(ctl, "--iops", iops, &number)) == 0)
		value_set_integer(body, "iops", number);
	if (res == 0 && bandwidth && (res = size_parse(ctl, bandwidth, &bytes)) == 0)
		value_set_integer(body, "bandwidth_bytes", (int64_t)bytes);
	if (res == 0 && burst && (res = seconds_parse(ctl, burst, &number)) == 0)
		value_set_integer(body, "burst_seconds", number);
	if (res)
		return res;
	size_t used = strlen(path);
	snprintf(path + used, sizeof path - used, "/qos");
	snprintf(words, sizeof words, "Disk %.63s of %.63s has new limits.", ctl->args[1],
		 ctl->args[0]);
	const struct call_change call = {
		.method = "PUT", .path = path, .body = body, .done = words};
	return call_change(ctl, &call, NULL);
}

/* ---- the CD drive ---- */

static int cdrom(struct ctl *ctl, const char *method, const struct value *body, const char *words)
{
	char path[CLIENT_PATH_ROOM];
	const struct call_change call = {
		.method = method, .path = path, .body = body, .done = words};
	int res = vm_path(ctl, path, "cdrom", NULL);
	return res ? res : call_change(ctl, &call, NULL);
}

int verb_vm_cdrom_insert(struct ctl *ctl)
{
	char absolute[PATH_MAX];
	VALUE_AUTO body = value_object();
	if (!realpath(ctl->args[1], absolute))
		return ctl_fail(ctl, CTL_NOT_FOUND, "There is no file %.200s.", ctl->args[1]);
	value_set_text(body, "path", absolute);
	return cdrom(ctl, "PUT", body, "The CD is in the drive.");
}

int verb_vm_cdrom_eject(struct ctl *ctl)
{
	return cdrom(ctl, "DELETE", NULL, "The drive is empty.");
}

/* ---- snapshots ---- */

int verb_vm_snap_list(struct ctl *ctl)
{
	return vm_list(ctl, "snapshots", &table_vm_snapshots);
}

int verb_vm_snap_create(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], words[WORDS];
	VALUE_AUTO body = value_object();
	VALUE_AUTO ended = NULL;
	int res = vm_path(ctl, path, "snapshots", NULL);
	if (res == 0)
		res = name_check(ctl, ctl->args[1]);
	if (res)
		return res;
	value_set_text(body, "name", ctl->args[1]);
	const struct call_change call = {
		.method = "POST", .path = path, .body = body, .wait_as_job = true};
	res = call_change(ctl, &call, &ended);
	const struct value *result = value_get(ended, "result");
	snprintf(words, sizeof words, "%.20s", value_get_text(result, "consistency"));
	if (res == 0 && *words)
		ctl_say(ctl, "Snapshot %.63s of %.63s was taken, consistency %s.", ctl->args[1],
			ctl->args[0], words);
	return res;
}

int verb_vm_snap_restore(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], tail[128], what[WORDS];
	int res = name_check(ctl, ctl->args[1]);
	snprintf(tail, sizeof tail, "snapshots/%.63s/restore", ctl->args[1]);
	if (res == 0)
		res = vm_path(ctl, path, tail, NULL);
	snprintf(what, sizeof what,
		 "All disks of VM %.63s become snapshot %.63s again; what they held since is lost.",
		 ctl->args[0], ctl->args[1]);
	if (res || !ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	return change(ctl, "POST", path, NULL, "The disks are restored.");
}

int verb_vm_snap_delete(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], what[WORDS];
	int res = vm_path(ctl, path, "snapshots", ctl->args[1]);
	snprintf(what, sizeof what, "Snapshot %.63s of VM %.63s goes to the trash.", ctl->args[1],
		 ctl->args[0]);
	if (res || !ctl_confirm(ctl, ctl->args[1], what, &res))
		return res;
	return change(ctl, "DELETE", path, NULL, "The snapshot is in the trash.");
}

/* ---- images ---- */

int verb_image_import(struct ctl *ctl)
{
	const char *name = ctl->args[1], *slash = strrchr(ctl->args[0], '/');
	char volume[128], words[WORDS];
	VALUE_AUTO body = value_object();
	int res = name_check(ctl, name);
	snprintf(volume, sizeof volume, "image-%.57s", name);
	if (res == 0)
		res = import_file(ctl, volume);
	if (res || ctl->dry_run)
		return res;
	value_set_text(body, "name", name);
	value_set_text(body, "volume", volume);
	value_set_text(body, "source", slash ? slash + 1 : ctl->args[0]);
	snprintf(words, sizeof words,
		 "Image %.63s is there: vstorectl vm create NAME --image %.63s", name, name);
	return change(ctl, "POST", "/v1/images", body, words);
}

int verb_image_list(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = call_get(ctl, "/v1/images", &document);
	return res ? res : table_print_list(ctl, &table_images, document);
}

static int image_get(struct ctl *ctl, struct value **ret_document)
{
	char path[CLIENT_PATH_ROOM];
	return call_get(ctl, client_path(path, "/v1/images/", ctl->args[0], ""), ret_document);
}

int verb_image_show(struct ctl *ctl)
{
	VALUE_AUTO document = NULL;
	int res = image_get(ctl, &document);
	return res ? res : table_print_one(ctl, &table_images, document, document);
}

int verb_image_verify(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM];
	VALUE_AUTO document = NULL;
	int res = image_get(ctl, &document);
	if (res)
		return res;
	return change(ctl, "POST",
		      client_path(path, "/v1/snapshots/", value_get_text(document, "snapshot"),
				  "/verify"),
		      NULL, NULL);
}

int verb_image_delete(struct ctl *ctl)
{
	char path[CLIENT_PATH_ROOM], what[WORDS];
	int res = name_check(ctl, ctl->args[0]);
	snprintf(what, sizeof what, "Image %.63s goes to the trash; VMs made from it stay.",
		 ctl->args[0]);
	if (res || !ctl_confirm(ctl, ctl->args[0], what, &res))
		return res;
	return change(ctl, "DELETE", client_path(path, "/v1/images/", ctl->args[0], ""), NULL,
		      "The image is in the trash.");
}
