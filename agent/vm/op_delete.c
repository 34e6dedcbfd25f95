/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm delete, vm rename. A deleted VM's own disks go to the trash, its seed and definition are gone;
 * volumes that were only attached stay, and so does what another holder has since it was fenced: it
 * is not this VM's any more.
 *
 * data of delete: {spec, trash: [], kept: [], taken: [{volume, holder}]}; of rename: {spec, from,
 * to}
 */
#include "agent/vm/op.h"

#include "agent/client/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static json_t *op_spec(const struct op *op)
{
	return json_object_get(op->data, "spec");
}

static int stopped_check(struct op *op, const char *what)
{
	enum virt_state state;
	enum virt_reason reason;
	const char *name = spec_text(op_spec(op), "name");
	int res =
		vm_state(op->agent, spec_text(op_spec(op), "uuid"), &state, &reason, &op->problem);
	if (res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED) {
		snprintf(op->problem.holder, sizeof op->problem.holder, "%s", name);
		res = problem_set(&op->problem, -EBUSY,
				  "VM %s is %s; to %s it, end it first: vstorectl vm shutdown %s.",
				  name, virt_state_name(state), what, name);
	}
	return res;
}

/* A held or retained snapshot forbids it before anything is done. */
static int holds_check(struct op *op, const char *volume)
{
	char path[CLIENT_PATH_ROOM];
	json_t *document = NULL, *one;
	size_t i;
	int res = storage_call(&op->agent->storage, "GET",
			       client_path(path, "/v1/snapshots?volume=", volume, ""), NULL,
			       &document, &op->problem);
	json_array_foreach(json_object_get(document, "snapshots"), i, one) {
		const char *tag =
			json_string_value(json_array_get(json_object_get(one, "holds"), 0));
		if (strcmp(spec_text(one, "volume"), volume) != 0 || res < 0)
			continue;
		if (spec_number(one, "hold_count") == 1 && tag && strcmp(tag, "vm") == 0)
			continue; /* our own, for the VM's snapshot */
		if (spec_number(one, "hold_count") || json_object_get(one, "retain_until"))
			res = problem_set(
				&op->problem, -VS_ERETAINED,
				"Snapshot %.63s@%.63s must be kept (%.63s), so the VM stays.",
				volume, spec_text(one, "name"),
				tag ? tag : spec_text(one, "retain_until"));
	}
	json_decref(document);
	return res;
}

static int check(struct op *op)
{
	json_t *disk;
	size_t i;
	int res = stopped_check(op, "delete");
	json_array_foreach(json_object_get(op_spec(op), "disks"), i, disk)
		if (res == 0 && json_is_true(json_object_get(disk, "owned")))
			res = holds_check(op, spec_text(disk, "volume"));
	if (res == 0)
		res = db_run(op->agent->db, "UPDATE vm SET state = 'deleting' WHERE uuid = ?", "s",
			     spec_text(op_spec(op), "uuid"));
	return res < 0 ? res : 0;
}

static int check_undo(struct op *op)
{
	int res = db_run(op->agent->db, "UPDATE vm SET state = 'ready' WHERE uuid = ?", "s",
			 spec_text(op_spec(op), "uuid"));
	return res < 0 ? res : 0;
}

static int undefine(struct op *op)
{
	int res = vm_power(op->agent, spec_text(op_spec(op), "uuid"), VIRT_UNDEFINE, &op->problem);
	return res == -ENOENT ? 0 : res;
}

/* No lease was let go of, and one that another has by now would hold this up for ever. */
static int undefine_undo(struct op *op)
{
	return vm_define(op->agent, op_spec(op), &op->problem);
}

static int detach(struct op *op)
{
	return vm_detach(op->agent, op_spec(op), &op->problem);
}

/* Holds that the VM's own snapshots put on their members. */
static int holds_release(struct op *op, const char *volume)
{
	char path[CLIENT_PATH_ROOM], full[HOLDER_ROOM];
	json_t *document = NULL, *one, *tag;
	size_t i, k;
	int res = storage_call(&op->agent->storage, "GET",
			       client_path(path, "/v1/snapshots?volume=", volume, ""), NULL,
			       &document, &op->problem);
	json_array_foreach(json_object_get(document, "snapshots"), i, one)
		json_array_foreach(json_object_get(one, "holds"), k, tag) {
			if (res < 0 || strcmp(json_string_value(tag), "vm") != 0 ||
			    strcmp(spec_text(one, "volume"), volume) != 0)
				continue;
			snprintf(full, sizeof full, "%.62s@%.62s", volume, spec_text(one, "name"));
			res = storage_call(&op->agent->storage, "DELETE",
					   client_path(path, "/v1/snapshots/", full, "/holds/vm"),
					   NULL, NULL, &op->problem);
			res = res == -ENOENT ? 0 : res;
		}
	json_decref(document);
	return res;
}

static void note(struct op *op, const char *list, const char *volume)
{
	json_t *array = json_object_get(op->data, list), *one;
	size_t i;
	json_array_foreach(array, i, one)
		if (strcmp(json_string_value(one), volume) == 0)
			return;
	json_array_append_new(array, json_string(volume));
}

static void note_taken(struct op *op, const char *volume, const char *holder)
{
	json_t *taken = json_object_get(op->data, "taken"), *one;
	size_t i;
	if (!taken)
		json_object_set_new(op->data, "taken", taken = json_array());
	json_array_foreach(taken, i, one)
		if (strcmp(spec_text(one, "volume"), volume) == 0)
			return;
	json_array_append_new(taken, json_pack("{s:s, s:s}", "volume", volume, "holder", holder));
}

static int volumes(struct op *op)
{
	json_t *spec = op_spec(op), *disk, *seed = json_object_get(spec, "seed"), *held = NULL;
	size_t i;
	int res = storage_attachments(&op->agent->storage, &held, &op->problem);
	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		const char *name = spec_text(disk, "volume");
		const char *other = storage_other_holder(held, spec_text(spec, "uuid"), name);
		bool owned = json_is_true(json_object_get(disk, "owned"));
		if (res == 0 && other)
			note_taken(op, name, other);
		if (other)
			continue;
		if (res == 0 && owned)
			res = holds_release(op, name);
		if (res == 0 && owned)
			res = storage_volume_delete(&op->agent->storage, name, false, &op->problem);
		if (res == 0)
			note(op, owned ? "trash" : "kept", name);
	}
	if (res == 0 && json_is_object(seed))
		res = storage_volume_delete(&op->agent->storage, spec_text(seed, "volume"), true,
					    &op->problem);
	if (res == 0)
		res = storage_volume_delete(&op->agent->storage, spec_text(spec, "meta"), true,
					    &op->problem);
	json_decref(held);
	return res;
}

static int forget(struct op *op)
{
	json_t *spec = op_spec(op);
	const char *uuid = spec_text(spec, "uuid");
	char path[400];
	int res = db_run(op->agent->db, "DELETE FROM vm_snapshot WHERE vm = ?", "s", uuid);
	if (res >= 0)
		res = db_run(op->agent->db, "DELETE FROM vm WHERE uuid = ?", "s", uuid);
	if (res < 0)
		return problem_set(&op->problem, res, "The catalog cannot be written.");
	vm_console_log(op->agent, uuid, path, sizeof path);
	unlink(path);
	agent_event(op->agent, "vm.deleted", spec_text(spec, "name"), NULL);
	op->result = json_pack("{s:O, s:O, s:O, s:O?}", "name", json_object_get(spec, "name"),
			       "trash", json_object_get(op->data, "trash"), "kept",
			       json_object_get(op->data, "kept"), "taken",
			       json_object_get(op->data, "taken"));
	return 0;
}

static const struct op_step delete_steps[] = {
	{"check", check, check_undo}, {"undefine", undefine, undefine_undo},
	{"detach", detach, NULL},     {"volumes", volumes, NULL},
	{"forget", forget, NULL},
};
const struct op_kind op_vm_delete = {"vm.delete", delete_steps,
				     sizeof delete_steps / sizeof *delete_steps, 1};

/* ---- rename: volumes, then the catalog, then libvirt; UUIDs and sockets stay ---- */

static int rename_check(struct op *op)
{
	json_t *row = db_row(op->agent->db, "SELECT uuid FROM vm WHERE name = ?", "s",
			     spec_text(op->data, "to"));
	int res = stopped_check(op, "rename");
	if (res == 0 && row)
		res = problem_set(&op->problem, -EEXIST, "There is a VM %.63s already.",
				  spec_text(op->data, "to"));
	json_decref(row);
	return res;
}

/* What is behind the VM's name in a volume's, whichever of both names it is; NULL: neither. */
static const char *suffix_of(const struct op *op, const char *volume)
{
	static const char *const keys[] = {"from", "to"};
	for (size_t i = 0; i < 2; i++) {
		const char *name = spec_text(op->data, keys[i]);
		size_t bytes = strlen(name);
		if (strncmp(volume, name, bytes) == 0 && volume[bytes] == '-')
			return volume + bytes;
	}
	return NULL;
}

/* FROM-disk0 -> TO-disk0, also when the agent was stopped before it could note that. A volume that
 * was only attached keeps its name. */
static int volume_rename(struct op *op, json_t *holder, const char *key, const char *from,
			 const char *to)
{
	const char *suffix = suffix_of(op, spec_text(holder, key));
	char old[128], name[128];
	if (!suffix)
		return 0;
	snprintf(old, sizeof old, "%.50s%.63s", from, suffix);
	snprintf(name, sizeof name, "%.50s%.63s", to, suffix);
	struct problem problem = {0};
	int res = storage_volume_rename(&op->agent->storage, old, name, &problem);
	if (res == -ENOENT) {
		json_t *there = NULL;
		res = storage_volume(&op->agent->storage, name, &there, &problem);
		json_decref(there);
	}
	/* Undoing: it still has its name, and TO's is somebody else's. */
	if (res == -EEXIST && op->undo)
		res = 0;
	op->problem = problem;
	if (res == 0)
		json_object_set_new(holder, key, json_string(name));
	return res;
}

static int names_change(struct op *op, const char *from, const char *to)
{
	json_t *spec = op_spec(op), *disk, *seed = json_object_get(spec, "seed");
	size_t i;
	int res = volume_rename(op, spec, "meta", from, to);
	if (res == 0 && json_is_object(seed))
		res = volume_rename(op, seed, "volume", from, to);
	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (res == 0 && json_is_true(json_object_get(disk, "owned")))
			res = volume_rename(op, disk, "volume", from, to);
	return res;
}

static int rename_volumes(struct op *op)
{
	return names_change(op, spec_text(op->data, "from"), spec_text(op->data, "to"));
}

/* The catalog and libvirt have the VM under the name of data.KEY. libvirt keeps a domain's name
 * with its UUID: it is undefined first. */
static int name_publish(struct op *op, const char *key)
{
	json_t *spec = op_spec(op);
	int res = undefine(op);
	json_object_set(spec, "name", json_object_get(op->data, key));
	return res < 0 ? res : vm_save(op->agent, spec, true, &op->problem);
}

/* Behind its volumes, where its definition lies. */
static int rename_volumes_undo(struct op *op)
{
	int res = names_change(op, spec_text(op->data, "to"), spec_text(op->data, "from"));
	if (res == 0 && json_object_get(op->data, "published"))
		res = name_publish(op, "from");
	return res;
}

static int rename_publish(struct op *op)
{
	json_t *spec = op_spec(op);
	int res = name_publish(op, "to");
	if (res == 0) {
		op->result = json_incref(spec);
		agent_event(op->agent, "vm.renamed", spec_text(op->data, "from"),
			    json_pack("{s:O}", "to", json_object_get(op->data, "to")));
	}
	return res;
}

/* Half done perhaps; undoing the volumes takes it back. */
static int rename_publish_undo(struct op *op)
{
	json_object_set_new(op->data, "published", json_true());
	return 0;
}

static const struct op_step rename_steps[] = {
	{"check", rename_check, NULL},
	{"volumes", rename_volumes, rename_volumes_undo},
	{"publish", rename_publish, rename_publish_undo},
};
const struct op_kind op_vm_rename = {"vm.rename", rename_steps,
				     sizeof rename_steps / sizeof *rename_steps, 2};
