/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm set, vm cdrom: other figures in a VM's definition. What is changed is read and written while
 * the operation has the VM, so that two changes at once cannot take each other back.
 *
 * data: {vm: uuid, change: {cpu, memory_bytes, autostart, order, delay_s, cdrom}, any of them,
 *        before: the same keys as they were}
 */
#include "agent/vm/op.h"

#include "agent/vm/domxml.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *op_change(const struct op *op)
{
	return json_object_get(op->data, "change");
}
static json_t *op_before(const struct op *op)
{
	return json_object_get(op->data, "before");
}

static int cdrom_check(const json_t *change, struct problem *problem)
{
	const char *path = spec_text(change, "cdrom");
	struct stat file;
	if (!*path || (path[0] == '/' && access(path, R_OK) == 0 && stat(path, &file) == 0 &&
		       !S_ISDIR(file.st_mode)))
		return 0;
	return problem_set(problem, -ENOENT,
			   "%.150s cannot be read here; give the whole path of an ISO.", path);
}

static int check(struct op *op)
{
	struct vm vm;
	const char *key;
	json_t *value, *before = json_object();
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res == 0) {
		json_object_foreach(op_change(op), key, value)
			json_object_set(before, key, json_object_get(vm.spec, key));
		res = spec_change(vm.spec, op_change(op), &op->problem);
		/* As the definition has it: memory is rounded. The request itself is audited. */
		json_t *change = json_copy(op_change(op));
		json_object_update_existing(change, vm.spec);
		json_object_set_new(op->data, "change", change);
		vm_free(&vm);
	}
	if (res == 0)
		res = cdrom_check(op_change(op), &op->problem);
	json_object_set_new(op->data, "before", before);
	return res;
}

/* What is in the drive of a guest that runs; one that does not has it from its definition. */
static int drive_change(struct op *op, const json_t *values)
{
	enum virt_state state;
	enum virt_reason reason;
	const char *path = spec_text(values, "cdrom");
	if (!json_object_get(op_change(op), "cdrom"))
		return 0;
	int res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res < 0 || state == VIRT_STOPPED || state == VIRT_CRASHED)
		return res;
	char *xml = domxml_cdrom(*path ? path : NULL);
	struct virt_args args = {.uuid = op_vm(op), .text = xml};
	res = virt_do(op->agent->virt, VIRT_UPDATE, &args, NULL, &op->problem);
	free(xml);
	return res;
}

static int drive(struct op *op)
{
	return drive_change(op, op_change(op));
}
static int drive_undo(struct op *op)
{
	return drive_change(op, op_before(op));
}

/* What one of them has and the other has not, goes: definitions of an older agent lack some
 * keys. */
static int definition_change(struct op *op, const json_t *values)
{
	struct vm vm;
	const char *key;
	json_t *value;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_object_foreach(op_change(op), key, value) {
		if (json_object_get(values, key))
			json_object_set(vm.spec, key, json_object_get(values, key));
		else
			json_object_del(vm.spec, key);
	}
	res = vm_save(op->agent, vm.spec, true, &op->problem);
	json_decref(op->result); /* of a try before */
	op->result = json_incref(vm.spec);
	vm_free(&vm);
	return res;
}

static int publish(struct op *op)
{
	int res = definition_change(op, op_change(op));
	if (res == 0)
		agent_event(op->agent, "vm.changed", spec_text(op->result, "name"),
			    json_incref(op_change(op)));
	return res;
}
static int publish_undo(struct op *op)
{
	return definition_change(op, op_before(op));
}

static const struct op_step set_steps[] = {
	{"check", check, NULL},
	{"drive", drive, drive_undo},
	{"publish", publish, publish_undo},
};
const struct op_kind op_vm_set = {"vm.set", set_steps, sizeof set_steps / sizeof *set_steps, 2};
