/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of VMs, and images. */
#include "agent/api/api.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool call_vm(struct call *call, struct vm *vm)
{
	int res = vm_get(call->agent, call->args[0], vm, &call->problem);
	if (res < 0)
		call_fail(call, res);
	return res == 0;
}

static json_t *members(const json_t *spec, const char *name)
{
	json_t *array = json_array(), *disk;
	size_t i;
	char full[HOLDER_ROOM];
	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		snprintf(full, sizeof full, "%.62s@%.63s", spec_text(disk, "volume"), name);
		json_array_append_new(array, json_string(full));
	}
	return array;
}

static json_t *snapshot_json(const json_t *row, const char *vm)
{
	json_t *spec = db_json(row, "spec");
	json_t *out =
		json_pack("{s:s, s:s, s:s, s:I, s:o, s:o}", "vm", vm, "name",
			  spec_text(row, "name"), "consistency", spec_text(row, "consistency"),
			  "frozen_ms", (json_int_t)spec_number(row, "frozen_ms"), "created",
			  time_json((uint64_t)spec_number(row, "created")), "members",
			  members(spec, spec_text(row, "name")));
	json_decref(spec);
	return out;
}

void vm_snap_list(struct call *call)
{
	struct vm vm;
	json_t *array = json_array(), *rows, *row;
	size_t i;
	if (!call_vm(call, &vm)) {
		json_decref(array);
		return;
	}
	rows = db_rows(call->agent->db, "SELECT * FROM vm_snapshot WHERE vm = ? ORDER BY created",
		       "s", vm.uuid);
	json_array_foreach(rows, i, row)
		json_array_append_new(array, snapshot_json(row, vm.name));
	json_decref(rows);
	vm_free(&vm);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "vm_snapshots", array));
}

void vm_snap_create(struct call *call)
{
	struct vm vm;
	const char *name = spec_text(call->body, "name");
	if (!call_vm(call, &vm))
		return;
	if (!text_name_ok(name, strlen(name))) {
		problem_set(&call->problem, -EINVAL, "'%.80s' is no name for a snapshot.", name);
		call_fail(call, -EINVAL);
	} else if (!json_array_size(json_object_get(vm.spec, "disks"))) {
		problem_set(&call->problem, -EINVAL, "VM %s has no disks to snapshot.", vm.name);
		call_fail(call, -EINVAL);
	} else {
		call_operate(call, &op_snap_create, "vm", vm.name,
			     json_pack("{s:s, s:s, s:o, s:O}", "vm", vm.uuid, "name", name,
				       "members", members(vm.spec, name), "spec", vm.spec));
	}
	vm_free(&vm);
}

/* Restore and delete work on what the snapshot was made of. */
static void snapshot_operate(struct call *call, const struct op_kind *kind)
{
	struct vm vm;
	const char *name = call->args[1];
	if (!call_vm(call, &vm))
		return;
	json_t *row = db_row(call->agent->db, "SELECT * FROM vm_snapshot WHERE vm = ? AND name = ?",
			     "ss", vm.uuid, name);
	if (!row) {
		problem_set(&call->problem, -ENOENT,
			    "VM %s has no snapshot %.63s; vstorectl vm snap list %s shows what it "
			    "has.",
			    vm.name, name, vm.name);
		call_fail(call, -ENOENT);
	} else {
		json_t *spec = db_json(row, "spec");
		call_operate(call, kind, "vm", vm.name,
			     json_pack("{s:s, s:s, s:o, s:o}", "vm", vm.uuid, "name", name,
				       "members", members(spec, name), "spec", spec));
	}
	json_decref(row);
	vm_free(&vm);
}

void vm_snap_restore(struct call *call)
{
	snapshot_operate(call, &op_snap_restore);
}
void vm_snap_delete(struct call *call)
{
	snapshot_operate(call, &op_snap_delete);
}

/* ---- images ---- */

static json_t *image_json(const json_t *row)
{
	json_t *out = json_copy((json_t *)row);
	json_object_set_new(out, "created", time_json((uint64_t)spec_number(row, "created")));
	return out;
}

void image_list(struct call *call)
{
	json_t *array = json_array(), *row;
	json_t *rows = db_rows(call->agent->db, "SELECT * FROM image ORDER BY name", "");
	size_t i;
	json_array_foreach(rows, i, row)
		json_array_append_new(array, image_json(row));
	json_decref(rows);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "images", array));
}

static json_t *image_row(struct call *call)
{
	json_t *row =
		db_row(call->agent->db, "SELECT * FROM image WHERE name = ?", "s", call->args[0]);
	if (row)
		return row;
	problem_set(&call->problem, -ENOENT,
		    "There is no image %.63s; vstorectl image list shows what there is.",
		    call->args[0]);
	call_fail(call, -ENOENT);
	return NULL;
}

void image_show(struct call *call)
{
	json_t *row = image_row(call);
	if (!row)
		return;
	json_t *out = image_json(row);
	json_object_set_new(out, "schema", json_integer(1));
	json_decref(row);
	call_reply(call, 200, out);
}

void image_create(struct call *call)
{
	const char *name = spec_text(call->body, "name"), *volume = spec_text(call->body, "volume");
	char snapshot[HOLDER_ROOM];
	char *owner = vm_of_volume(call->agent, volume);
	snprintf(snapshot, sizeof snapshot, "%.63s@image", volume);
	if (!text_name_ok(name, strlen(name)) || !text_name_ok(volume, strlen(volume))) {
		problem_set(&call->problem, -EINVAL, "An image needs 'name' and 'volume', names.");
		call_fail(call, -EINVAL);
	} else if (owner) {
		problem_set(&call->problem, -EBUSY, "Volume %.63s belongs to VM %.63s.", volume,
			    owner);
		call_fail(call, -EBUSY);
	} else {
		call_operate(call, &op_image_create, "image", name,
			     json_pack("{s:s, s:s, s:s, s:s}", "name", name, "volume", volume,
				       "snapshot", snapshot, "source",
				       spec_text(call->body, "source")));
	}
	free(owner);
}

void image_delete(struct call *call)
{
	json_t *row = image_row(call);
	if (!row)
		return;
	call_operate(call, &op_image_delete, "image", call->args[0], json_incref(row));
	json_decref(row);
}
