/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NICs of a VM: what they may be connected to, attach, detach. As with disks the catalog names one
 * only once the guest has it, and forgets it only when libvirt has said that it is gone. The host's
 * networks are looked at and never changed. A port (port.h) is there before the guest has the NIC,
 * and goes once the catalog has forgotten it, so that nobody makes it again behind that.
 *
 * data: {vm: uuid, nic: {mac, bridge, network, vlan, port}}
 */
#include "agent/vm/op_device.h"

#include "agent/vm/domxml.h"
#include "agent/vm/port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPEN_VSWITCH "/run/openvswitch/db.sock" /* its bridges look like any other device */

static json_t *op_nic(const struct op *op)
{
	return json_object_get(op->data, "nic");
}
static const char *op_mac(const struct op *op)
{
	return spec_text(op_nic(op), "mac");
}

/* ---- what it is connected to ---- */

static int bridge_check(const json_t *nic, struct problem *problem)
{
	const char *bridge = spec_text(nic, "bridge");
	char path[80];
	snprintf(path, sizeof path, "/sys/class/net/%.15s", bridge);
	if (access(path, F_OK) < 0)
		return problem_set(
			problem, -ENOENT,
			"There is no bridge %.15s on this host: make it (in "
			"/etc/network/interfaces, or: ip link add %.15s type bridge), or "
			"give --net network=NAME.",
			bridge, bridge);
	snprintf(path, sizeof path, "/sys/class/net/%.15s/bridge", bridge);
	bool linux_bridge = access(path, F_OK) == 0;
	if (!linux_bridge && access(OPEN_VSWITCH, F_OK) < 0)
		return problem_set(
			problem, -EINVAL,
			"%.15s is a network device, and no bridge: make a bridge that has it "
			"as a port, and give that.",
			bridge);
	return port_wanted(nic) ? port_bridge_check(nic, problem) : 0;
}

static int network_check(struct agent *agent, const json_t *nic, struct problem *problem)
{
	const char *name = spec_text(nic, "network");
	struct virt_result result = {0};
	struct virt_args args = {0};
	json_t *list, *one;
	size_t i;
	bool known = false, active = false;
	json_t *bridged = NULL; /* the NIC, if it were on the network's bridge */
	int res = virt_do(agent->virt, VIRT_NETWORKS, &args, &result, problem);
	if (res < 0)
		return res;
	list = json_loads(result.text, 0, NULL);
	free(result.text);
	json_array_foreach(list, i, one)
		if (strcmp(spec_text(one, "name"), name) == 0) {
			known = true;
			active = json_is_true(json_object_get(one, "active"));
			bridged = json_pack("{s:O, s:O?}", "bridge", json_object_get(one, "bridge"),
					    "vlan", json_object_get(nic, "vlan"));
		}
	if (port_wanted(bridged))
		res = problem_set(problem, -ENOTSUP,
				  "libvirt sets no VLANs on its network %.63s, which is on the "
				  "Linux bridge %.15s: give bridge=%.15s,vlan=%d instead.",
				  name, spec_text(bridged, "bridge"), spec_text(bridged, "bridge"),
				  (int)spec_number(bridged, "vlan"));
	json_decref(bridged);
	json_decref(list);
	if (res < 0)
		return res;
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
		return bridge_check(nic, problem);
	return network_check(agent, nic, problem);
}

static int mac_taken(const char *object, const char *mac, struct problem *problem)
{
	return problem_set(problem, -EEXIST,
			   "%.70s has the MAC address %s already; give another one, or none and "
			   "one is made.",
			   object, mac);
}

/* One that is about to get it, or whose port, which has the address in its name, is about to go. */
static int mac_coming(struct agent *agent, const char *mac, const char *uuid,
		      struct problem *problem)
{
	json_t *rows = db_rows(agent->db,
			       "SELECT object, data FROM operation WHERE kind IN (?, ?) AND state "
			       "IN ('running', 'undoing')",
			       "ss", op_nic_attach.name, op_nic_detach.name);
	json_t *row;
	size_t i;
	int res = 0;
	json_array_foreach(rows, i, row) {
		json_t *data = db_json(row, "data");
		if (res == 0 && strcmp(spec_text(data, "vm"), uuid) != 0 &&
		    strcmp(spec_text(json_object_get(data, "nic"), "mac"), mac) == 0)
			res = mac_taken(spec_text(row, "object"), mac, problem);
		json_decref(data);
	}
	json_decref(rows);
	return res;
}

int nic_mac_free(struct agent *agent, const char *mac, const char *uuid, struct problem *problem)
{
	json_t *rows = db_rows(agent->db, "SELECT uuid, 'vm ' || name AS object, spec FROM vm", "");
	json_t *row;
	size_t i;
	int res = mac_coming(agent, mac, uuid, problem);
	json_array_foreach(rows, i, row) {
		json_t *spec = db_json(row, "spec");
		if (res == 0 && strcmp(spec_text(row, "uuid"), uuid) != 0 &&
		    spec_nic_find(spec, mac))
			res = mac_taken(spec_text(row, "object"), mac, problem);
		json_decref(spec);
	}
	json_decref(rows);
	return res;
}

/* ---- ports ---- */

static int nic_port(json_t *nic, struct problem *problem)
{
	char port[PORT_NAME_ROOM] = "";
	int res = port_wanted(nic) ? port_make(nic, problem) : 0;
	if (res == 0 && spec_number(nic, "vlan")) {
		if (port_wanted(nic))
			port_name(spec_text(nic, "mac"), port);
		json_object_set_new(nic, "port", json_string(port));
	}
	return res;
}

/* The definition that the catalog has by now; NULL: the VM goes, or is gone. */
static json_t *spec_now(struct agent *agent, const json_t *spec)
{
	json_t *row =
		db_row(agent->db, "SELECT spec FROM vm WHERE uuid = ? AND state <> 'deleting'", "s",
		       spec_text(spec, "uuid"));
	json_t *now = row ? db_json(row, "spec") : NULL;
	json_decref(row);
	return now;
}

int nic_ports_make(struct agent *agent, json_t *spec, struct problem *problem)
{
	json_t *nic;
	size_t i;
	int res = 0;
	pthread_mutex_lock(&agent->ports);
	json_t *now = spec_now(agent, spec);
	json_array_foreach(json_object_get(spec, "nics"), i, nic)
		if (res == 0 && spec_nic_find(now, spec_text(nic, "mac")))
			res = nic_port(nic, problem);
	pthread_mutex_unlock(&agent->ports);
	json_decref(now);
	return res;
}

int nic_ports_remove(struct agent *agent, const json_t *spec, struct problem *problem)
{
	json_t *nic;
	size_t i;
	int res = 0;
	pthread_mutex_lock(&agent->ports);
	json_array_foreach(json_object_get(spec, "nics"), i, nic)
		if (res == 0)
			res = port_remove(nic, problem);
	pthread_mutex_unlock(&agent->ports);
	return res;
}

static int port_plug(struct op *op)
{
	pthread_mutex_lock(&op->agent->ports);
	int res = nic_port(op_nic(op), &op->problem);
	pthread_mutex_unlock(&op->agent->ports);
	return res;
}

static int port_unplug(struct op *op)
{
	pthread_mutex_lock(&op->agent->ports);
	int res = port_remove(op_nic(op), &op->problem);
	pthread_mutex_unlock(&op->agent->ports);
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
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_t *nics = json_object_get(vm.spec, "nics");
	spec_remove(nics, "mac", op_mac(op));
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
	{"port", port_plug, port_unplug},
	{"device", device_plug, device_unplug},
	{"publish", attach_publish, NULL},
};
const struct op_kind op_nic_attach = {"vm.nic.attach", attach_steps,
				      sizeof attach_steps / sizeof *attach_steps, 3};

/* ---- detach ---- */

static int detach_publish(struct op *op)
{
	return publish(op, false, "vm.nic_detached");
}

static const struct op_step detach_steps[] = {
	{"check", op_vm_check, NULL},
	{"device", device_unplug, device_plug},
	{"publish", detach_publish, NULL},
	{"port", port_unplug, NULL},
};
const struct op_kind op_nic_detach = {"vm.nic.detach", detach_steps,
				      sizeof detach_steps / sizeof *detach_steps, 1};
