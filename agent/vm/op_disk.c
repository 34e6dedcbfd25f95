/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks of a VM: attach, detach, grow. The catalog names a disk only once the guest has it, and
 * forgets it only when libvirt has said that it is gone.
 *
 * data: {vm: uuid, disk: {target, volume, uuid, size_bytes, owned}, fresh: the volume is new}
 */
#include "agent/vm/op.h"

#include "agent/vm/domxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GONE_MS 20000
#define ALIAS_ROOM 64

static json_t *op_disk(const struct op *op)
{
	return json_object_get(op->data, "disk");
}
static const char *op_volume(const struct op *op)
{
	return spec_text(op_disk(op), "volume");
}
static const char *op_vm(const struct op *op)
{
	return spec_text(op->data, "vm");
}

/* In the running domain's XML, or in the definition's when it does not run. */
static int device_there(struct op *op, bool *ret_there)
{
	char alias[ALIAS_ROOM], want[ALIAS_ROOM + 16];
	struct virt_result result = {0};
	struct virt_args args = {.uuid = op_vm(op)};
	int res = virt_do(op->agent->virt, VIRT_XML, &args, &result, &op->problem);
	if (res < 0)
		return res;
	domxml_alias(spec_text(op_disk(op), "target"), alias, sizeof alias);
	snprintf(want, sizeof want, "alias name='%s'", alias);
	*ret_there = strstr(result.text, want) != NULL;
	free(result.text);
	return 0;
}

static int device_add(struct op *op)
{
	bool there;
	int res = device_there(op, &there);
	if (res < 0 || there)
		return res;
	char *xml = domxml_disk(op_disk(op));
	struct virt_args args = {.uuid = op_vm(op), .text = xml};
	res = virt_do(op->agent->virt, VIRT_ATTACH, &args, NULL, &op->problem);
	free(xml);
	return res;
}

/* Done when the event has come, not when the call returns. */
static int device_remove(struct op *op)
{
	char alias[ALIAS_ROOM];
	enum virt_state state;
	enum virt_reason reason;
	bool there;
	int res = device_there(op, &there);
	if (res == 0 && there)
		res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res < 0 || !there)
		return res;
	uint64_t mark = virt_event_mark(op->agent->virt);
	char *xml = domxml_disk(op_disk(op));
	struct virt_args args = {.uuid = op_vm(op), .text = xml};
	res = virt_do(op->agent->virt, VIRT_DETACH, &args, NULL, &op->problem);
	free(xml);
	if (res < 0 || state == VIRT_STOPPED)
		return res;
	domxml_alias(spec_text(op_disk(op), "target"), alias, sizeof alias);
	res = virt_wait_gone(op->agent->virt, op_vm(op), alias, mark, GONE_MS);
	if (res == -ETIMEDOUT && device_there(op, &there) == 0 && !there)
		return 0; /* the connection was lost in between: events are not repeated */
	if (res < 0)
		problem_set(
			&op->problem, res,
			"The guest did not let go of %s; it may have it mounted, or may not have "
			"booted far enough to answer.",
			spec_text(op_disk(op), "target"));
	return res;
}

/* ---- attach ---- */

static int volume_take(struct op *op)
{
	json_t *volume = NULL, *disk = op_disk(op);
	int res;
	if (json_is_true(json_object_get(op->data, "fresh")))
		res = storage_volume_create(&op->agent->storage, op_volume(op),
					    (uint64_t)spec_number(disk, "size_bytes"), &volume,
					    &op->problem);
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
	if (!json_is_true(json_object_get(op->data, "fresh")))
		return 0;
	return storage_volume_delete(&op->agent->storage, op_volume(op), true, &op->problem);
}

static int socket_make(struct op *op)
{
	char socket[128];
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	res = storage_attach(&op->agent->storage, op_volume(op), vm.uuid, vm.name, op->agent->group,
			     socket, &op->problem);
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
	{"socket", socket_make, socket_undo}, {"device", device_add, device_remove},
	{"publish", attach_publish, NULL},
};
const struct op_kind op_disk_attach = {"vm.disk.attach", attach_steps,
				       sizeof attach_steps / sizeof *attach_steps, 4};

/* ---- detach ---- */

static int detach_check(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res == 0)
		vm_free(&vm);
	return res;
}

static int detach_publish(struct op *op)
{
	struct vm vm;
	size_t i;
	json_t *one;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_t *disks = json_object_get(vm.spec, "disks");
	json_array_foreach(disks, i, one) if (strcmp(spec_text(one, "volume"), op_volume(op)) == 0)
	{
		json_array_remove(disks, i);
		break;
	}
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
	{"check", detach_check, NULL},
	{"device", device_remove, device_add},
	{"socket", socket_undo, NULL},
	{"publish", detach_publish, NULL},
};
const struct op_kind op_disk_detach = {"vm.disk.detach", detach_steps,
				       sizeof detach_steps / sizeof *detach_steps, 1};

/* ---- grow: never undone, a volume does not shrink ---- */

static int grow_volume(struct op *op)
{
	json_t *volume = NULL;
	uint64_t want = (uint64_t)spec_number(op->data, "size_bytes");
	int res = storage_volume(&op->agent->storage, op_volume(op), &volume, &op->problem);
	if (res == 0 && (uint64_t)spec_number(volume, "size_bytes") != want)
		res = storage_volume_grow(&op->agent->storage, op_volume(op), want, &op->problem);
	json_decref(volume);
	return res;
}

static int grow_publish(struct op *op)
{
	struct vm vm;
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_t *disk = spec_disk(vm.spec, op_volume(op));
	json_object_set(disk, "size_bytes", json_object_get(op->data, "size_bytes"));
	res = vm_save(op->agent, vm.spec, false, &op->problem);
	if (res == 0)
		res = vm_state(op->agent, vm.uuid, &state, &reason, &op->problem);
	if (res == 0) {
		op->result = json_pack("{s:s, s:O, s:b}", "name", op_volume(op), "size_bytes",
				       json_object_get(op->data, "size_bytes"), "at_next_start",
				       state != VIRT_STOPPED);
		agent_event(op->agent, "vm.disk_grown", vm.name,
			    json_pack("{s:s}", "volume", op_volume(op)));
	}
	vm_free(&vm);
	return res;
}

static const struct op_step grow_steps[] = {
	{"volume", grow_volume, NULL},
	{"publish", grow_publish, NULL},
};
const struct op_kind op_disk_grow = {"vm.disk.grow", grow_steps,
				     sizeof grow_steps / sizeof *grow_steps, 0};
