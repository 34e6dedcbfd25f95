/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NICs of a VM: what they may be connected to, attach, detach. As with disks the catalog names one
 * only once the guest has it, and forgets it only when libvirt has said that it is gone. The host's
 * networks are looked at and never changed.
 *
 * data: {vm: uuid, nic: {mac, bridge, network, vlan}}
 */
#include "agent/vm/op_device.h"

#include "agent/vm/domxml.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *op_nic(const struct op *op)
{
	return json_object_get(op->data, "nic");
}
static const char *op_mac(const struct op *op)
{
	return spec_text(op_nic(op), "mac");
}

/* ---- what it is connected to ---- */

static int network_check(struct agent *agent, const char *name, struct problem *problem)
{
	struct virt_result result = {0};
	struct virt_args args = {0};
	json_t *list, *one;
	size_t i;
	bool known = false, active = false;
	int res = virt_do(agent->virt, VIRT_NETWORKS, &args, &result, problem);
	if (res < 0)
		return res;
	list = json_loads(result.text, 0, NULL);
	free(result.text);
	json_array_foreach(list, i, one) if (strcmp(spec_text(one, "name"), name) == 0)
	{
		known = true;
		active = json_is_true(json_object_get(one, "active"));
	}
	json_decref(list);
	if (!known)
		return problem_set(
			problem, -ENOENT,
			"libvirt has no network %.63s; vstorectl network list shows what "
			"there is, virsh net-define makes one.",
			name);
	if (!active)
		return problem_set(problem, -EINVAL,
				   "libvirt's network %.63s is not active; start it with: virsh "
				   "net-start %.63s.",
				   name, name);
	return 0;
}

int nic_check(struct agent *agent, const json_t *nic, struct problem *problem)
{
	if (*spec_text(nic, "bridge"))
		return spec_nic_check(nic, problem);
	return network_check(agent, spec_text(nic, "network"), problem);
}

int nic_mac_free(struct agent *agent, const char *mac, const char *uuid, struct problem *problem)
{
	json_t *rows = db_rows(agent->db, "SELECT uuid, name, spec FROM vm", ""), *row;
	size_t i;
	int res = 0;
	json_array_foreach(rows, i, row)
	{
		json_t *spec = db_json(row, "spec");
		if (res == 0 && strcmp(spec_text(row, "uuid"), uuid) != 0 &&
		    spec_nic_find(spec, mac))
			res = problem_set(problem, -EEXIST,
					  "VM %.63s has the MAC address %s already; give another "
					  "one, or none and one is made.",
					  spec_text(row, "name"), mac);
		json_decref(spec);
	}
	json_decref(rows);
	return res;
}

/* ---- attach ---- */

static int attach_check(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	if (spec_nic_find(vm.spec, op_mac(op)))
		res = problem_set(&op->problem, -EEXIST, "VM %s has a NIC with %s already.",
				  vm.name, op_mac(op));
	else
		res = nic_mac_free(op->agent, op_mac(op), vm.uuid, &op->problem);
	if (res == 0)
		res = nic_check(op->agent, op_nic(op), &op->problem);
	vm_free(&vm);
	return res;
}

static int device_plug(struct op *op)
{
	return device_add(op, op_mac(op), domxml_nic(op_nic(op)));
}
static int device_unplug(struct op *op)
{
	return device_remove(op, op_mac(op), domxml_nic(op_nic(op)));
}

/* The definition with or without it. */
static int publish(struct op *op, bool with, const char *event)
{
	struct vm vm;
	size_t i;
	json_t *one;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_t *nics = json_object_get(vm.spec, "nics");
	json_array_foreach(nics, i, one) if (strcmp(spec_text(one, "mac"), op_mac(op)) == 0)
	{
		json_array_remove(nics, i);
		break;
	}
	if (with)
		json_array_append(nics, op_nic(op));
	res = vm_save(op->agent, vm.spec, false, &op->problem);
	if (res == 0) {
		op->result = json_copy(op_nic(op));
		json_object_set_new(op->result, "name", json_string(op_mac(op)));
		agent_event(op->agent, event, vm.name, json_pack("{s:s}", "mac", op_mac(op)));
	}
	vm_free(&vm);
	return res;
}

static int attach_publish(struct op *op)
{
	return publish(op, true, "vm.nic_attached");
}

static const struct op_step attach_steps[] = {
	{"check", attach_check, NULL},
	{"device", device_plug, device_unplug},
	{"publish", attach_publish, NULL},
};
const struct op_kind op_nic_attach = {"vm.nic.attach", attach_steps,
				      sizeof attach_steps / sizeof *attach_steps, 2};

/* ---- detach ---- */

static int detach_publish(struct op *op)
{
	return publish(op, false, "vm.nic_detached");
}

static const struct op_step detach_steps[] = {
	{"check", op_vm_check, NULL},
	{"device", device_unplug, device_plug},
	{"publish", detach_publish, NULL},
};
const struct op_kind op_nic_detach = {"vm.nic.detach", detach_steps,
				      sizeof detach_steps / sizeof *detach_steps, 1};
