/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a VM: attach, detach, grow. The catalog names a disk only once the guest has it, and
 * forgets it only when libvirt has said that it is gone.
 *
 * data: {vm: uuid, disk: {target, volume, uuid, size_bytes, owned}, fresh: the volume is new}
 */
#include "agent/vm/op_device.h"

#include "agent/vm/domxml.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROBES 50u
#define PROBE_PAUSE_NS 20000000L

static json_t *op_disk(const struct op *op)
{
	return json_object_get(op->data, "disk");
}
static const char *op_volume(const struct op *op)
{
	return spec_text(op_disk(op), "volume");
}

static int device_plug(struct op *op)
{
	return device_add(op, spec_text(op_disk(op), "target"), domxml_disk(op_disk(op)));
}
static int device_unplug(struct op *op)
{
	return device_remove(op, spec_text(op_disk(op), "target"), domxml_disk(op_disk(op)));
}

/* ---- attach ---- */

static int volume_take(struct op *op)
{
	json_t *volume = NULL, *disk = op_disk(op);
	int res;
	if (json_is_true(json_object_get(op->data, "fresh")))
		res = op_made(op, op_volume(op),
			      storage_volume_create(&op->agent->storage, op_volume(op),
						    (uint64_t)spec_number(disk, "size_bytes"),
						    &volume, &op->problem));
	else
		res = storage_volume(&op->agent->storage, op_volume(op), &volume, &op->problem);
	if (res == 0) {
		json_object_set(disk, "uuid", json_object_get(volume, "uuid"));
		json_object_set(disk, "size_bytes", json_object_get(volume, "size_bytes"));
	}
	json_decref(volume);
	return res;
}

static int volume_check(struct op *op)
{
	json_t *volume = NULL;
	struct problem problem = {0};
	bool fresh = json_is_true(json_object_get(op->data, "fresh"));
	int res = storage_volume(&op->agent->storage, op_volume(op), &volume, &problem);
	char *owner = vm_of_volume(op->agent, op_volume(op));
	json_decref(volume);
	if (owner) {
		snprintf(op->problem.holder, sizeof op->problem.holder, "%s", owner);
		res = problem_set(&op->problem, -EBUSY, "Volume %.63s belongs to VM %.63s.",
				  op_volume(op), owner);
	} else if (fresh && res == 0) {
		res = problem_set(&op->problem, -EEXIST, "There is a volume %.63s already.",
				  op_volume(op));
	} else if (fresh && res == -ENOENT) {
		res = 0;
	} else if (res < 0) {
		op->problem = problem;
	}
	free(owner);
	return res;
}

static int volume_undo(struct op *op)
{
	return json_is_true(json_object_get(op->data, "fresh")) ? op_volume_purge(op, op_volume(op))
								: 0;
}

static int socket_make(struct op *op)
{
	char socket[128];
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	res = storage_attach(&op->agent->storage, op_volume(op), vm.uuid, vm.name,
			     (uint32_t)spec_number(vm.spec, "uid"), socket, &op->problem);
	if (res == 0)
		json_object_set_new(op_disk(op), "socket", json_string(socket));
	vm_free(&vm);
	return res;
}

static int socket_undo(struct op *op)
{
	return storage_detach(&op->agent->storage, op_volume(op), op_vm(op), &op->problem);
}

static int attach_publish(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	if (!spec_disk(vm.spec, op_volume(op)))
		json_array_append(json_object_get(vm.spec, "disks"), op_disk(op));
	res = vm_save(op->agent, vm.spec, false, &op->problem);
	if (res == 0) {
		op->result = json_incref(op_disk(op));
		agent_event(op->agent, "vm.disk_attached", vm.name,
			    json_pack("{s:s}", "volume", op_volume(op)));
	}
	vm_free(&vm);
	return res;
}

static const struct op_step attach_steps[] = {
	{"check", volume_check, NULL},	      {"volume", volume_take, volume_undo},
	{"socket", socket_make, socket_undo}, {"device", device_plug, device_unplug},
	{"publish", attach_publish, NULL},
};
const struct op_kind op_disk_attach = {"vm.disk.attach", attach_steps,
				       sizeof attach_steps / sizeof *attach_steps, 4};

/* ---- detach ---- */

static int detach_publish(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	spec_remove(json_object_get(vm.spec, "disks"), "volume", op_volume(op));
	res = vm_save(op->agent, vm.spec, false, &op->problem);
	if (res == 0) {
		op->result =
			json_pack("{s:s, s:s}", "name", op_volume(op), "volume", op_volume(op));
		agent_event(op->agent, "vm.disk_detached", vm.name,
			    json_pack("{s:s}", "volume", op_volume(op)));
	}
	vm_free(&vm);
	return res;
}

static const struct op_step detach_steps[] = {
	{"check", op_vm_check, NULL},
	{"device", device_unplug, device_plug},
	{"socket", socket_undo, NULL},
	{"publish", detach_publish, NULL},
};
const struct op_kind op_disk_detach = {"vm.disk.detach", detach_steps,
				       sizeof detach_steps / sizeof *detach_steps, 1};

/*
 * ---- grow: never undone, a volume does not shrink ----
 *
 * A guest that runs sees it at once. QEMU 7.2 asks an NBD server for the size only when it
 * connects, and connects again only when a request meets a dead connection; that request fails. So
 * the guest stands still for the moment in which its connection is dropped, QEMU is made to read a
 * block, which fails until it has connected again, and then it is told the new size. Where QEMU
 * does not take part, the guest goes on and sees the size at its next start.
 *
 * data, besides the above: {size_bytes, live: it was running or paused, running: it ran, seen}
 */

static int grow_volume(struct op *op)
{
	json_t *volume = NULL;
	enum virt_state state = VIRT_STOPPED;
	enum virt_reason reason;
	uint64_t want = (uint64_t)spec_number(op->data, "size_bytes");
	int res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	/* A step that is repeated after a crash must not take its own pause for a person's. */
	if (res == 0 && !json_object_get(op->data, "live")) {
		json_object_set_new(op->data, "live",
				    json_boolean(state == VIRT_RUNNING || state == VIRT_PAUSED));
		json_object_set_new(op->data, "running", json_boolean(state == VIRT_RUNNING));
	}
	/* Last: once it has grown, nothing here may fail any more. */
	if (res == 0)
		res = storage_volume(&op->agent->storage, op_volume(op), &volume, &op->problem);
	if (res == 0 && (uint64_t)spec_number(volume, "size_bytes") != want)
		res = storage_volume_grow(&op->agent->storage, op_volume(op), want, &op->problem);
	json_decref(volume);
	return res;
}

/* Until QEMU has connected again it refuses the new size. */
static int grow_show(struct op *op)
{
	char alias[ALIAS_ROOM];
	struct virt_args probe = {.uuid = op_vm(op), .text = alias};
	struct virt_args resize = {.uuid = op_vm(op),
				   .text = spec_text(op_disk(op), "target"),
				   .number = (uint64_t)spec_number(op->data, "size_bytes")};
	const struct timespec pause = {.tv_nsec = PROBE_PAUSE_NS};
	domxml_alias(resize.text, alias, sizeof alias);
	int res = storage_reconnect(&op->agent->storage, op_volume(op), op_vm(op), &op->problem);
	for (unsigned i = 0; i < PROBES && res == 0; i++) {
		res = virt_do(op->agent->virt, VIRT_PROBE, &probe, NULL, &op->problem);
		if (res == 0)
			res = virt_do(op->agent->virt, VIRT_RESIZE, &resize, NULL, &op->problem);
		if (res != -EIO || i + 1 == PROBES)
			break;
		nanosleep(&pause, NULL);
		res = 0;
	}
	return res;
}

static int grow_guest(struct op *op)
{
	bool running = json_is_true(json_object_get(op->data, "running"));
	if (!json_is_true(json_object_get(op->data, "live")))
		return 0;
	int res = running ? vm_power(op->agent, op_vm(op), VIRT_SUSPEND, &op->problem) : 0;
	if (res == 0 || res == -EINVAL) /* it stands still already, from a try before */
		res = grow_show(op);
	json_object_set_new(op->data, "seen", json_boolean(res == 0));
	if (res < 0)
		log_event(LOG_LEVEL_WARNING, "vm.disk_grow_unseen", "volume=%s error=\"%.200s\"",
			  op_volume(op), op->problem.sentence);
	/* One that has ended meanwhile has nothing to go on with. */
	res = running ? vm_power(op->agent, op_vm(op), VIRT_RESUME, &op->problem) : 0;
	return res == -EINVAL ? 0 : res;
}

static int grow_publish(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_t *disk = spec_disk(vm.spec, op_volume(op));
	json_object_set(disk, "size_bytes", json_object_get(op->data, "size_bytes"));
	res = vm_save(op->agent, vm.spec, false, &op->problem);
	if (res == 0) {
		bool later = json_is_true(json_object_get(op->data, "live")) &&
			     !json_is_true(json_object_get(op->data, "seen"));
		op->result =
			json_pack("{s:s, s:O, s:b}", "name", op_volume(op), "size_bytes",
				  json_object_get(op->data, "size_bytes"), "at_next_start", later);
		agent_event(op->agent, "vm.disk_grown", vm.name,
			    json_pack("{s:s}", "volume", op_volume(op)));
	}
	vm_free(&vm);
	return res;
}

static const struct op_step grow_steps[] = {
	{"volume", grow_volume, NULL},
	{"guest", grow_guest, NULL},
	{"publish", grow_publish, NULL},
};
const struct op_kind op_disk_grow = {"vm.disk.grow", grow_steps,
				     sizeof grow_steps / sizeof *grow_steps, 0};
