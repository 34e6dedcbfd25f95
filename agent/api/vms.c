/* SPDX-License-Identifier: Apache-2.0 */
/* VMs: what there is, making and ending them, power. The catalog says which VMs there are; their
 * state is libvirt's, and "unknown" when it does not answer. */
#include "agent/api/api.h"

#include "agent/vm/seed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MS 5000
#define DEADLINE_S 300 /* of all guests, to end by themselves */
#define DEADLINE_S_MAX 86400

/* {uuid: {state, reason}}; empty when libvirt does not answer. */
static json_t *states_now(struct agent *agent, bool *ret_known)
{
	struct virt_result result = {0};
	struct virt_args args = {.timeout_ms = LIST_MS};
	struct problem problem = {0};
	json_t *states = json_object(), *one;
	size_t i;
	*ret_known = virt_do(agent->virt, VIRT_LIST, &args, &result, &problem) == 0;
	json_t *list = *ret_known ? json_loads(result.text, 0, NULL) : NULL;
	json_array_foreach(list, i, one)
		json_object_set(states, spec_text(one, "uuid"), one);
	json_decref(list);
	free(result.text);
	return states;
}

static const char *state_shown(const char *row_state, const json_t *domain, bool known)
{
	if (strcmp(row_state, "ready") != 0)
		return row_state;
	if (!known)
		return "unknown";
	if (!domain)
		return "stopped";
	if (spec_number(domain, "state") == VIRT_PAUSED &&
	    spec_number(domain, "reason") == VIRT_REASON_IO_ERROR)
		return "stalled";
	return virt_state_name((enum virt_state)spec_number(domain, "state"));
}

/* The definition, without what is the agent's own. */
static json_t *vm_json(const json_t *row, const json_t *states, bool known)
{
	json_t *out = db_json(row, "spec"), *one;
	uint64_t disk_bytes = 0;
	size_t i;
	json_array_foreach(json_object_get(out, "disks"), i, one) {
		json_object_del(one, "socket");
		disk_bytes += (uint64_t)spec_number(one, "size_bytes");
	}
	json_object_set_new(
		out, "state",
		json_string(state_shown(spec_text(row, "state"),
					json_object_get(states, spec_text(row, "uuid")), known)));
	json_object_set_new(out, "disk_bytes", json_integer((json_int_t)disk_bytes));
	json_object_set_new(
		out, "disk_count",
		json_integer((json_int_t)json_array_size(json_object_get(out, "disks"))));
	json_object_set_new(out, "created", time_json((uint64_t)spec_number(row, "created")));
	return out;
}

void vm_list(struct call *call)
{
	bool known;
	json_t *states = states_now(call->agent, &known), *array = json_array(), *row;
	json_t *rows = db_rows(call->agent->db, "SELECT * FROM vm ORDER BY name", "");
	size_t i;
	json_array_foreach(rows, i, row)
		json_array_append_new(array, vm_json(row, states, known));
	json_decref(rows);
	json_decref(states);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "vms", array));
}

static json_t *vm_row(struct call *call)
{
	json_t *row = db_row(call->agent->db, "SELECT * FROM vm WHERE name = ? OR uuid = ?", "ss",
			     call->args[0], call->args[0]);
	if (row)
		return row;
	problem_set(&call->problem, -ENOENT,
		    "There is no VM %.63s; vstorectl vm list shows what there is.", call->args[0]);
	call_fail(call, -ENOENT);
	return NULL;
}

void vm_show(struct call *call)
{
	bool known;
	json_t *row = vm_row(call);
	if (!row)
		return;
	json_t *states = states_now(call->agent, &known);
	json_t *out = vm_json(row, states, known);
	if (call_query(call, "agent", 0)) {
		struct virt_result result = {0};
		struct virt_args args = {.uuid = spec_text(row, "uuid"), .timeout_ms = LIST_MS};
		struct problem problem = {0};
		int res = virt_do(call->agent->virt, VIRT_PING_AGENT, &args, &result, &problem);
		json_object_set_new(out, "guest_agent", json_boolean(res == 0));
		free(result.text);
	}
	json_decref(states);
	json_decref(row);
	json_object_set_new(out, "schema", json_integer(1));
	call_reply(call, 200, out);
}

/* ---- create, clone ---- */

/* Without --net a VM is on libvirt's network "default" where that is active. */
static void nics_default(struct call *call)
{
	struct virt_result result = {0};
	struct virt_args args = {.timeout_ms = LIST_MS};
	struct problem problem = {0};
	json_t *list, *one;
	size_t i;
	if (json_object_get(call->body, "nics") ||
	    virt_do(call->agent->virt, VIRT_NETWORKS, &args, &result, &problem) < 0)
		return;
	list = json_loads(result.text, 0, NULL);
	json_array_foreach(list, i, one)
		if (strcmp(spec_text(one, "name"), "default") == 0 &&
		    json_is_true(json_object_get(one, "active")))
			json_object_set_new(call->body, "nics",
					    json_pack("[{s:s}]", "network", "default"));
	json_decref(list);
	free(result.text);
}

/* The image's snapshot is the first disk's source; without --disk that is as large as the image. */
static int image_apply(struct call *call, json_t *spec, json_t *sources)
{
	const char *image = spec_text(spec, "image");
	json_t *disks = json_object_get(spec, "disks"), *row;
	char volume[80];
	if (!*image)
		return 0;
	row = db_row(call->agent->db, "SELECT * FROM image WHERE name = ?", "s", image);
	if (!row)
		return problem_set(&call->problem, -ENOENT,
				   "There is no image %.63s; vstorectl image list shows what there "
				   "is, vstorectl image import FILE %.63s makes one.",
				   image, image);
	if (!json_array_size(disks)) {
		spec_volume_name(spec, volume, sizeof volume);
		json_array_append_new(disks, json_pack("{s:s, s:s, s:s, s:i, s:b}", "target", "vda",
						       "volume", volume, "uuid", "", "size_bytes",
						       0, "owned", 1));
	}
	json_array_append(sources, json_object_get(row, "snapshot"));
	json_decref(row);
	return 0;
}

void vm_create(struct call *call)
{
	json_t *spec = NULL, *sources = json_array(), *input = NULL, *start;
	nics_default(call);
	int res = spec_new(call->body, &spec, &call->problem);
	if (res == 0)
		res = seed_check(call->body, &call->problem);
	if (res == 0)
		res = image_apply(call, spec, sources);
	if (res < 0) {
		json_decref(sources);
		json_decref(spec);
		call_fail(call, res);
		return;
	}
	if (*spec_text(spec, "image") || *spec_text(call->body, "user_data") ||
	    json_array_size(json_object_get(call->body, "ssh_keys")))
		input = json_pack("{s:s, s:O?}", "user_data", spec_text(call->body, "user_data"),
				  "ssh_keys", json_object_get(call->body, "ssh_keys"));
	start = json_object_get(call->body, "start");
	json_t *data =
		json_pack("{s:O, s:o, s:b, s:o}", "spec", spec, "sources", sources, "start",
			  !start || json_is_true(start), "seed_input", input ? input : json_null());
	call_operate(call, &op_vm_create, "vm", spec_text(spec, "name"), data);
	json_decref(spec);
}

void vm_clone(struct call *call)
{
	struct vm vm;
	char tag[60], uuid[37], source[HOLDER_ROOM];
	json_t *body, *spec = NULL, *sources = json_array(), *sizes = json_array(), *nics, *one;
	size_t i;
	int res = vm_get(call->agent, call->args[0], &vm, &call->problem);
	if (res < 0) {
		json_decref(sources);
		json_decref(sizes);
		call_fail(call, res);
		return;
	}
	spec_uuid_new(uuid);
	snprintf(tag, sizeof tag, "clone-%.8s", uuid);
	nics = json_array();
	json_array_foreach(json_object_get(vm.spec, "disks"), i, one) {
		snprintf(source, sizeof source, "%.62s@%.60s", spec_text(one, "volume"), tag);
		json_array_append_new(sources, json_string(source));
		json_array_append(sizes, json_object_get(one, "size_bytes"));
	}
	json_array_foreach(json_object_get(vm.spec, "nics"), i, one) {
		json_t *nic = json_copy(one);
		json_object_del(nic, "mac");
		json_object_del(nic, "port");
		json_array_append_new(nics, nic);
	}
	body = json_copy(vm.spec);
	json_object_set(body, "name", json_object_get(call->body, "name"));
	json_object_set_new(body, "disks", sizes);
	json_object_set_new(body, "nics", nics);
	res = spec_new(body, &spec, &call->problem);
	json_decref(body);
	if (res < 0) {
		json_decref(sources);
		call_fail(call, res);
	} else {
		json_t *input = json_is_object(json_object_get(vm.spec, "seed"))
					? json_pack("{s:s}", "user_data", "")
					: json_null();
		json_t *data =
			json_pack("{s:O, s:o, s:b, s:o, s:s}", "spec", spec, "sources", sources,
				  "start", json_is_true(json_object_get(call->body, "start")),
				  "seed_input", input, "clone_of", vm.name);
		call_operate(call, &op_vm_create, "vm", spec_text(spec, "name"), data);
		json_decref(spec);
	}
	vm_free(&vm);
}

void vm_adopt(struct call *call)
{
	json_t *data = NULL;
	int res = adopt_look(call->agent, spec_text(call->body, "domain"), &data, &call->problem);
	if (res < 0)
		call_fail(call, res);
	else
		call_operate(call, &op_vm_adopt, "vm",
			     spec_text(json_object_get(data, "spec"), "name"), data);
}

/* ---- change, delete ---- */

static bool call_vm(struct call *call, struct vm *vm)
{
	int res = vm_get(call->agent, call->args[0], vm, &call->problem);
	if (res < 0)
		call_fail(call, res);
	else if (strcmp(vm->state, "ready") == 0)
		return true;
	if (res == 0) {
		problem_set(&call->problem, -EBUSY,
			    "VM %s is %s; wait for that: vstorectl job list.", vm->name, vm->state);
		vm_free(vm);
		call_fail(call, -EBUSY);
	}
	return false;
}

void vm_delete(struct call *call)
{
	struct vm vm;
	if (!call_vm(call, &vm))
		return;
	call_operate(call, &op_vm_delete, "vm", vm.name,
		     json_pack("{s:O, s:[], s:[]}", "spec", vm.spec, "trash", "kept"));
	vm_free(&vm);
}

void vm_change(struct call *call)
{
	struct vm vm;
	const char *name = spec_text(call->body, "name");
	if (!call_vm(call, &vm))
		return;
	if (!json_object_get(call->body, "name")) {
		call_operate(call, &op_vm_set, "vm", vm.name,
			     json_pack("{s:s, s:O}", "vm", vm.uuid, "change", call->body));
	} else if (json_object_size(call->body) > 1) {
		problem_set(&call->problem, -EINVAL,
			    "A VM is renamed alone, without other changes.");
		call_fail(call, -EINVAL);
	} else if (spec_name_check(name, &call->problem) < 0) {
		call_fail(call, -EINVAL);
	} else {
		call_operate(
			call, &op_vm_rename, "vm", vm.name,
			json_pack("{s:O, s:s, s:s}", "spec", vm.spec, "from", vm.name, "to", name));
	}
	vm_free(&vm);
}

/* ---- power ---- */

static void power_answer(struct call *call, struct vm *vm, int res, const char *event)
{
	if (res < 0) {
		call_fail(call, res);
	} else {
		agent_event(call->agent, event, vm->name, NULL);
		call_changed(call, 200,
			     json_pack("{s:s, s:s}", "name", vm->name, "uuid", vm->uuid));
	}
	vm_free(vm);
}

static void power(struct call *call, enum virt_verb verb, const char *event)
{
	struct vm vm;
	if (call_vm(call, &vm))
		power_answer(call, &vm, vm_power(call->agent, vm.uuid, verb, &call->problem),
			     event);
}

/* Its sockets may be gone with RUN, its domain with libvirt's folder: the catalog is the truth. */
void vm_start(struct call *call)
{
	struct vm vm;
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	if (!call_vm(call, &vm))
		return;
	int res = vm_state(call->agent, vm.uuid, &state, &reason, &call->problem);
	if (res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED) {
		call_reply(call, 200,
			   json_pack("{s:i, s:b, s:{s:s}}", "schema", 1, "changed", 0, "object",
				     "name", vm.name));
		vm_free(&vm);
		return;
	}
	if (res == 0)
		res = vm_attach(call->agent, vm.spec, &call->problem);
	if (res == 0)
		res = vm_define(call->agent, vm.spec, &call->problem);
	if (res == 0)
		res = vm_power(call->agent, vm.uuid, VIRT_START, &call->problem);
	power_answer(call, &vm, res, "vm.start_asked");
}

void vm_shutdown(struct call *call)
{
	power(call, VIRT_SHUTDOWN, "vm.shutdown_asked");
}
/* As before the host goes down. */
void vm_shutdown_all(struct call *call)
{
	json_t *deadline = json_object_get(call->body, "deadline_s");
	int64_t seconds = deadline ? json_integer_value(deadline) : DEADLINE_S;
	if (seconds < 1 || seconds > DEADLINE_S_MAX) {
		problem_set(&call->problem, -EINVAL, "Guests have 1 to %d seconds to end.",
			    DEADLINE_S_MAX);
		call_fail(call, -EINVAL);
		return;
	}
	call_operate(call, &op_shutdown_all, "host", "guests",
		     json_pack("{s:I}", "deadline_s", (json_int_t)seconds));
}
void vm_stop(struct call *call)
{
	power(call, VIRT_DESTROY, "vm.stop_asked");
}
void vm_reboot(struct call *call)
{
	power(call, VIRT_REBOOT, "vm.reboot_asked");
}
void vm_reset(struct call *call)
{
	power(call, VIRT_RESET, "vm.reset_asked");
}
void vm_pause(struct call *call)
{
	power(call, VIRT_SUSPEND, "vm.pause_asked");
}
void vm_resume(struct call *call)
{
	power(call, VIRT_RESUME, "vm.resume_asked");
}
