/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm adopt: a domain that libvirt has becomes a VM. Its disks are copied into volumes and its
 * definition is replaced, under the same name, UUID and MAC addresses. The files stay where they
 * are, and until the last step undoing gives the domain its old definition back.
 *
 * Only what can be taken over whole is: a domain that is off, with virtio disks in files or block
 * devices, virtio NICs on bridges or networks, and at most one CD. Its other devices, and what else
 * is set for disks and NICs, are refused by name, before anything is done; domxml.c knows what a
 * guest does not miss.
 *
 * data: {spec, xml: the old definition, autostart: libvirt's own flag, sources: [{path, format}]}
 */
#include "agent/vm/op_create.h"

#include "agent/vm/domxml.h"
#include "agent/vm/program.h"
#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INFO_MS 30000
#define COPY_MS (24 * 3600 * 1000)
#define WORDS_ROOM 4096
#define SOCKET_TRIES 100u
#define SOCKET_PAUSE_NS 20000000L

static json_t *op_spec(const struct op *op)
{
	return json_object_get(op->data, "spec");
}

/* ---- looking ---- */

/* The size that a guest sees of an image. */
static int image_bytes(const char *path, const char *format, json_int_t *ret_bytes,
		       struct problem *problem)
{
	char words[WORDS_ROOM];
	const char *const argv[] = {"qemu-img", "info", "--output=json", "-f", format, path, NULL};
	int res = program_run(argv, INFO_MS, words, sizeof words);
	json_t *info = res == 0 ? json_loads(words, 0, NULL) : NULL;
	*ret_bytes = json_integer_value(json_object_get(info, "virtual-size"));
	json_decref(info);
	if (*ret_bytes > 0)
		return 0;
	if (res == -ENOENT)
		return problem_set(problem, res,
				   "qemu-img is not installed; apt install qemu-utils.");
	return problem_set(problem, -EINVAL, "%.150s cannot be read as %s: %.200s", path, format,
			   words);
}

static int disk_look(const json_t *disk, json_t *sizes, json_t *sources, struct problem *problem)
{
	const char *target = spec_text(disk, "target"), *path = spec_text(disk, "path");
	const char *format = spec_text(disk, "format");
	json_int_t bytes;
	if (strcmp(spec_text(disk, "bus"), "virtio") != 0)
		return problem_set(problem, -ENOTSUP,
				   "Its disk %.20s is on bus %.20s, and a VM's disks are virtio: "
				   "see that the guest has virtio drivers, change the bus (virsh "
				   "edit), try it, then adopt it.",
				   target, spec_text(disk, "bus"));
	if (!*path || (strcmp(format, "raw") != 0 && strcmp(format, "qcow2") != 0))
		return problem_set(problem, -ENOTSUP,
				   "Its disk %.20s (%.20s, %.20s) is no raw or qcow2 file.", target,
				   spec_text(disk, "type"), format);
	int res = image_bytes(path, format, &bytes, problem);
	if (res < 0)
		return res;
	json_array_append_new(sizes, json_integer(bytes));
	json_array_append_new(sources, json_pack("{s:s, s:s}", "path", path, "format", format));
	return 0;
}

static int nic_look(const json_t *nic, json_t *nics, struct problem *problem)
{
	const char *type = spec_text(nic, "type");
	if (strcmp(type, "bridge") != 0 && strcmp(type, "network") != 0)
		return problem_set(problem, -ENOTSUP,
				   "Its NIC %.17s is of type %.20s; a VM's NICs are on a bridge or "
				   "one of libvirt's networks. Change it (virsh edit), then adopt "
				   "it.",
				   spec_text(nic, "mac"), type);
	if (strncmp(spec_text(nic, "model"), "virtio", 6) != 0)
		return problem_set(problem, -ENOTSUP,
				   "Its NIC %.17s is of model %.20s, and a VM's NICs are virtio: "
				   "see that the guest has virtio drivers, change the model (virsh "
				   "edit), try it, then adopt it.",
				   spec_text(nic, "mac"), spec_text(nic, "model"));
	json_array_append_new(nics, json_pack("{s:s, s:s}", "mac", spec_text(nic, "mac"), type,
					      spec_text(nic, type)));
	return 0;
}

/* What would be lost without a word. */
static int others_look(const json_t *read, struct problem *problem)
{
	char names[300] = "";
	json_t *one;
	size_t i;
	json_array_foreach(json_object_get(read, "others"), i, one) {
		size_t used = strlen(names);
		snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
			 json_string_value(one));
	}
	return *names ? problem_set(problem, -ENOTSUP,
				    "It has what a VM cannot take over: %s. Take that away (virsh "
				    "edit %.63s), try the guest without it, then adopt it.",
				    names, spec_text(read, "name"))
		      : 0;
}

/* A create request from what the domain is. */
static int body_look(const json_t *read, json_t *body, json_t *sources, struct problem *problem)
{
	json_t *sizes = json_array(), *nics = json_array(), *one;
	size_t i;
	int res = others_look(read, problem);
	json_array_foreach(json_object_get(read, "disks"), i, one)
		if (res == 0)
			res = disk_look(one, sizes, sources, problem);
	json_array_foreach(json_object_get(read, "nics"), i, one)
		if (res == 0)
			res = nic_look(one, nics, problem);
	const char *iso = json_string_value(json_array_get(json_object_get(read, "cdroms"), 0));
	json_object_set(body, "name", json_object_get(read, "name"));
	json_object_set_new(body, "cpu", json_integer(atoll(spec_text(read, "cpu"))));
	json_object_set_new(body, "memory_bytes",
			    json_integer(atoll(spec_text(read, "memory_kib")) * (json_int_t)KIB));
	json_object_set(body, "firmware", json_object_get(read, "firmware"));
	json_object_set_new(
		body, "accel",
		json_string(strcmp(spec_text(read, "type"), "qemu") == 0 ? "tcg" : "auto"));
	json_object_set_new(body, "cdrom", json_string(iso ? iso : ""));
	json_object_set_new(body, "disks", sizes);
	json_object_set_new(body, "nics", nics);
	return res;
}

static int adopt_off(struct agent *agent, const char *uuid, const char *name,
		     struct problem *problem)
{
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	int res = vm_state(agent, uuid, &state, &reason, problem);
	if (res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED)
		res = problem_set(problem, -EBUSY,
				  "Domain %.63s is %s, and what it writes while its disks are "
				  "copied would be lost; end it first: virsh shutdown %.63s.",
				  name, virt_state_name(state), name);
	return res;
}

static int adopt_read(struct agent *agent, const char *domain, const struct virt_result *looked,
		      json_t **ret_data, struct problem *problem)
{
	json_t *read = domxml_read(looked->text), *body = json_object(), *sources = json_array();
	json_t *spec = NULL;
	const char *uuid = spec_text(read, "uuid");
	struct vm vm;
	int res = 0;
	if (vm_get(agent, uuid, &vm, problem) == 0) {
		vm_free(&vm);
		res = problem_set(problem, -EEXIST, "Domain %.63s is a VM of vstore already.",
				  domain);
	}
	if (res == 0)
		res = adopt_off(agent, uuid, domain, problem);
	if (res == 0 && looked->number2)
		res = problem_set(problem, -ENOTSUP,
				  "libvirt has a saved state or snapshots of %.63s, which volumes "
				  "cannot take over; delete them first (virsh managedsave-remove, "
				  "virsh snapshot-delete).",
				  domain);
	if (res == 0)
		res = body_look(read, body, sources, problem);
	if (res == 0)
		res = spec_new(body, &spec, problem);
	if (res == 0) {
		json_object_set_new(spec, "uuid", json_string(uuid));
		json_object_set_new(spec, "autostart", json_boolean(looked->number != 0));
		*ret_data = json_pack("{s:o, s:s, s:b, s:O}", "spec", spec, "xml", looked->text,
				      "autostart", looked->number != 0, "sources", sources);
	}
	json_decref(sources);
	json_decref(body);
	json_decref(read);
	return res;
}

int adopt_look(struct agent *agent, const char *domain, json_t **ret_data, struct problem *problem)
{
	struct virt_result looked = {0};
	struct virt_args args = {.text = domain};
	int res = virt_do(agent->virt, VIRT_LOOKUP, &args, &looked, problem);
	if (res == -ENOENT)
		return problem_set(problem, res,
				   "libvirt has no domain %.63s; virsh list --all shows what there "
				   "is.",
				   domain);
	if (res == 0)
		res = adopt_read(agent, domain, &looked, ret_data, problem);
	free(looked.text);
	return res;
}

/* ---- copying ---- */

/* The socket of a new volume may come a little later than the answer that it exists. */
static void socket_wait(const char *path)
{
	const struct timespec pause = {.tv_nsec = SOCKET_PAUSE_NS};
	for (unsigned i = 0; i < SOCKET_TRIES && access(path, F_OK) < 0; i++)
		nanosleep(&pause, NULL);
}

/* qemu-img ends with the thread that waits for it, so that it writes into no volume that the next
 * start of the agent takes away again. */
static int disk_copy(struct op *op, const char *volume, const json_t *source)
{
	char socket[256], uri[400], words[WORDS_ROOM];
	const char *path = spec_text(source, "path");
	snprintf(socket, sizeof socket, "%s/nbd/%.63s.sock", op->agent->storage.run_path, volume);
	snprintf(uri, sizeof uri, "nbd+unix:///%.63s?socket=%s", volume, socket);
	const char *const argv[] = {"setpriv",
				    "--pdeathsig",
				    "KILL",
				    "qemu-img",
				    "convert",
				    "-n",
				    "--target-is-zero",
				    "-W",
				    "-m",
				    "16",
				    "-f",
				    spec_text(source, "format"),
				    "-O",
				    "raw",
				    path,
				    uri,
				    NULL};
	socket_wait(socket);
	int res = program_run(argv, COPY_MS, words, sizeof words);
	if (res)
		return problem_set(&op->problem, res < 0 ? res : -EIO,
				   "%.150s could not be copied into volume %.63s: %.200s", path,
				   volume, words);
	/* qemu-img flushes when it closes, and does not tell when that fails. */
	return volume_write(&op->agent->storage, volume, 0, NULL, 0, &op->problem);
}

static int disk_make(struct op *op, json_t *disk, size_t index)
{
	const char *name = spec_text(disk, "volume");
	json_t *volume = NULL;
	int res = op_made(op, name,
			  storage_volume_create(&op->agent->storage, name,
						(uint64_t)spec_number(disk, "size_bytes"), &volume,
						&op->problem));
	if (res == 0)
		json_object_set(disk, "uuid", json_object_get(volume, "uuid"));
	json_decref(volume);
	(void)index;
	return res;
}

/* All names are taken before the first copy, which may take hours. */
static int disks(struct op *op)
{
	const json_t *sources = json_object_get(op->data, "sources");
	json_t *disk, *array = json_object_get(op_spec(op), "disks");
	size_t i;
	int res = create_disks(op, disk_make);
	json_array_foreach(array, i, disk)
		if (res == 0)
			res = disk_copy(op, spec_text(disk, "volume"), json_array_get(sources, i));
	return res;
}

/* ---- libvirt ---- */

static int autostart_set(struct op *op, bool on)
{
	struct virt_args args = {.uuid = spec_text(op_spec(op), "uuid"), .number = on};
	return virt_do(op->agent->virt, VIRT_AUTOSTART, &args, NULL, &op->problem);
}

/* Somebody may have started it meanwhile. From here on it starts with our order, not libvirt's. */
static int define(struct op *op)
{
	json_t *spec = op_spec(op);
	int res = adopt_off(op->agent, spec_text(spec, "uuid"), spec_text(spec, "name"),
			    &op->problem);
	if (res == 0)
		res = vm_define(op->agent, spec, &op->problem);
	return res < 0 ? res : autostart_set(op, false);
}

static int define_undo(struct op *op)
{
	struct virt_args args = {.text = spec_text(op->data, "xml")};
	int res = virt_do(op->agent->virt, VIRT_DEFINE, &args, NULL, &op->problem);
	if (res == 0 && json_is_true(json_object_get(op->data, "autostart")))
		res = autostart_set(op, true);
	return res;
}

static const struct op_step steps[] = {
	{"reserve", create_reserve, create_reserve_undo},
	{"disks", disks, create_disks_undo},
	{"meta", create_meta, create_meta_undo},
	{"attach", create_attach, create_attach_undo},
	{"define", define, define_undo},
	{"publish", create_publish, create_publish_undo},
};
const struct op_kind op_vm_adopt = {"vm.adopt", steps, sizeof steps / sizeof *steps, 6};
