/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm create, vm clone. Until the last step nobody but this operation knows the VM; undoing takes
 * all of it away again.
 *
 * data: {spec, seed_input, start, clone_of: a VM's name or missing, sources: [VOLUME@SNAP of each
 * disk, "" for an empty one]}
 */
#include "agent/vm/op_create.h"

#include "agent/client/client.h"
#include "agent/vm/seed.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static json_t *op_spec(const struct op *op)
{
	return json_object_get(op->data, "spec");
}

static void seed_volume(const struct op *op, char *out, size_t room)
{
	snprintf(out, room, "%s-seed", spec_text(op_spec(op), "name"));
}

static int volume_absent(struct op *op, const char *name)
{
	json_t *volume = NULL;
	struct problem problem = {0};
	int res = storage_volume(&op->agent->storage, name, &volume, &problem);
	json_decref(volume);
	if (res == -ENOENT)
		return 0;
	if (res == 0)
		return problem_set(&op->problem, -EEXIST,
				   "There is a volume %.63s already, which the new VM would need: "
				   "rename or delete it, or choose another name.",
				   name);
	op->problem = problem;
	return res;
}

/* Checked in one step with taking the name: another creation may want the same. */
static int row_add(struct op *op)
{
	json_t *spec = op_spec(op), *nic;
	size_t i;
	int res = db_begin(op->agent->db);
	if (res < 0)
		return problem_set(&op->problem, res, "The catalog does not answer.");
	json_array_foreach(json_object_get(spec, "nics"), i, nic)
		if (res == 0)
			res = nic_mac_free(op->agent, spec_text(nic, "mac"),
					   spec_text(spec, "uuid"), &op->problem);
	if (res == 0)
		res = vm_user(op->agent, spec, &op->problem);
	if (res == 0) {
		res = db_run(op->agent->db,
			     "INSERT INTO vm (uuid, name, state, generation, spec, created) VALUES "
			     "(?, ?, 'creating', 1, ?, ?)",
			     "ssji", spec_text(spec, "uuid"), spec_text(spec, "name"), spec,
			     agent_now_ns());
		if (res == -EEXIST)
			problem_set(&op->problem, res,
				    "There is a VM %.63s already; choose another name.",
				    spec_text(spec, "name"));
		else if (res < 0)
			problem_set(&op->problem, res, "The catalog cannot be written.");
	}
	int end = db_end(op->agent->db, res >= 0);
	return res < 0 ? res : end;
}

int create_reserve(struct op *op)
{
	json_t *spec = op_spec(op), *disk, *nic;
	char name[80];
	size_t i;
	int res = spec_machine_check(spec, &op->problem);
	json_array_foreach(json_object_get(spec, "nics"), i, nic)
		if (res == 0)
			res = nic_check(op->agent, nic, &op->problem);
	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (res == 0)
			res = volume_absent(op, spec_text(disk, "volume"));
	if (res == 0)
		res = volume_absent(op, spec_text(spec, "meta"));
	seed_volume(op, name, sizeof name);
	if (res == 0)
		res = volume_absent(op, name);
	return res < 0 ? res : row_add(op);
}

int create_reserve_undo(struct op *op)
{
	int res = db_run(op->agent->db, "DELETE FROM vm WHERE uuid = ? AND state = 'creating'", "s",
			 spec_text(op_spec(op), "uuid"));
	return res < 0 ? res : 0;
}

/* ---- a clone's sources: one moment of all disks ---- */

static json_t *source_names(const struct op *op)
{
	json_t *names = json_array(), *one;
	size_t i;
	json_array_foreach(json_object_get(op->data, "sources"), i, one)
		if (*json_string_value(one))
			json_array_append(names, one);
	return names;
}

static int sources(struct op *op)
{
	json_t *names;
	if (!json_object_get(op->data, "clone_of"))
		return 0;
	names = source_names(op);
	int res = storage_call(&op->agent->storage, "POST", "/v1/snapshots",
			       json_pack("{s:O}", "names", names), NULL, &op->problem);
	json_decref(names);
	return res;
}

static int sources_drop(struct op *op)
{
	json_t *names, *one;
	size_t i;
	char path[CLIENT_PATH_ROOM];
	int res = 0;
	if (!json_object_get(op->data, "clone_of"))
		return 0;
	names = source_names(op);
	json_array_foreach(names, i, one) {
		struct problem problem = {0};
		int code = storage_call(
			&op->agent->storage, "DELETE",
			client_path(path, "/v1/snapshots/", json_string_value(one), ""), NULL, NULL,
			&problem);
		if (code < 0 && code != -ENOENT) {
			op->problem = problem;
			res = code;
		}
	}
	json_decref(names);
	return res;
}

/* ---- volumes ---- */

static int disk_make(struct op *op, json_t *disk, size_t index)
{
	const struct storage *storage = &op->agent->storage;
	const char *name = spec_text(disk, "volume");
	const char *source =
		json_string_value(json_array_get(json_object_get(op->data, "sources"), index));
	uint64_t want = (uint64_t)spec_number(disk, "size_bytes");
	json_t *volume = NULL;
	int res = source && *source
			  ? storage_volume_clone(storage, source, name, &volume, &op->problem)
			  : storage_volume_create(storage, name, want, &volume, &op->problem);
	res = op_made(op, name, res);
	uint64_t have = (uint64_t)spec_number(volume, "size_bytes");
	if (res == 0) {
		json_object_set(disk, "uuid", json_object_get(volume, "uuid"));
		if (want > have)
			res = storage_volume_grow(storage, name, want, &op->problem);
		else if (want && want < have)
			res = problem_set(&op->problem, -EINVAL,
					  "The image is larger than the disk that was asked for; a "
					  "disk never shrinks. Leave --disk out, or give more.");
		else
			json_object_set(disk, "size_bytes", json_object_get(volume, "size_bytes"));
	}
	json_decref(volume);
	return res;
}

int create_disks(struct op *op, int (*make)(struct op *op, json_t *disk, size_t index))
{
	json_t *disk;
	size_t i;
	int res = 0;
	json_array_foreach(json_object_get(op_spec(op), "disks"), i, disk) {
		if (res == 0)
			res = make(op, disk, i);
		else
			op_leave(op, spec_text(disk, "volume"));
	}
	return res;
}

static int disks(struct op *op)
{
	return create_disks(op, disk_make);
}

int create_disks_undo(struct op *op)
{
	json_t *disk;
	size_t i;
	int res = 0;
	json_array_foreach(json_object_get(op_spec(op), "disks"), i, disk)
		if (res == 0)
			res = op_volume_purge(op, spec_text(disk, "volume"));
	return res;
}

int create_meta(struct op *op)
{
	const char *name = spec_text(op_spec(op), "meta");
	int res = op_made(
		op, name,
		storage_volume_create(&op->agent->storage, name, META_BYTES, NULL, &op->problem));
	return res < 0 ? res : meta_write(&op->agent->storage, op_spec(op), &op->problem);
}

int create_meta_undo(struct op *op)
{
	return op_volume_purge(op, spec_text(op_spec(op), "meta"));
}

static int seed_fill(struct op *op, const char *path, const char *name)
{
	char iso[320];
	struct stat stat_now;
	json_t *volume = NULL;
	int res =
		seed_make(op_spec(op), json_object_get(op->data, "seed_input"), path, &op->problem);
	snprintf(iso, sizeof iso, "%s.iso", path);
	if (res == 0 && stat(iso, &stat_now) < 0)
		res = -errno;
	if (res < 0)
		op_leave(op, name);
	if (res == 0)
		res = op_made(
			op, name,
			storage_volume_create(&op->agent->storage, name,
					      round_up((uint64_t)stat_now.st_size, BLOCK_BYTES),
					      &volume, &op->problem));
	if (res == 0)
		res = volume_write_file(&op->agent->storage, name, iso, &op->problem);
	if (res == 0)
		json_object_set_new(op_spec(op), "seed",
				    json_pack("{s:s, s:O}", "volume", name, "uuid",
					      json_object_get(volume, "uuid")));
	json_decref(volume);
	unlink(iso);
	return res;
}

static int seed(struct op *op)
{
	char name[80], path[300];
	if (!json_is_object(json_object_get(op->data, "seed_input")))
		return 0;
	seed_volume(op, name, sizeof name);
	snprintf(path, sizeof path, "%s/seed-%" PRId64, op->agent->state_path, op->id);
	return seed_fill(op, path, name);
}

static int seed_undo(struct op *op)
{
	char name[80];
	if (!json_is_object(json_object_get(op->data, "seed_input")))
		return 0;
	seed_volume(op, name, sizeof name);
	json_object_set_new(op_spec(op), "seed", json_null());
	return op_volume_purge(op, name);
}

/* ---- sockets and libvirt ---- */

int create_attach(struct op *op)
{
	return vm_attach(op->agent, op_spec(op), &op->problem);
}
int create_attach_undo(struct op *op)
{
	return vm_detach(op->agent, op_spec(op), &op->problem);
}

static int define(struct op *op)
{
	return vm_define(op->agent, op_spec(op), &op->problem);
}

static int define_undo(struct op *op)
{
	const char *uuid = spec_text(op_spec(op), "uuid");
	char path[400];
	int res = vm_power(op->agent, uuid, VIRT_UNDEFINE, &op->problem);
	vm_console_log(op->agent, uuid, path, sizeof path);
	unlink(path);
	return res == -ENOENT ? 0 : res;
}

static int start(struct op *op)
{
	if (!json_is_true(json_object_get(op->data, "start")))
		return 0;
	return vm_power(op->agent, spec_text(op_spec(op), "uuid"), VIRT_START, &op->problem);
}

static int start_undo(struct op *op)
{
	int res = vm_power(op->agent, spec_text(op_spec(op), "uuid"), VIRT_DESTROY, &op->problem);
	return res == -ENOENT || res == -EINVAL ? 0 : res; /* it does not run */
}

int create_publish(struct op *op)
{
	json_t *spec = op_spec(op);
	int res = vm_save(op->agent, spec, false, &op->problem);
	if (res == 0)
		res = db_run(op->agent->db, "UPDATE vm SET state = 'ready' WHERE uuid = ?", "s",
			     spec_text(spec, "uuid"));
	if (res < 0)
		return res;
	agent_event(op->agent, "vm.created", spec_text(spec, "name"), NULL);
	op->result = json_incref(spec);
	return 0;
}

int create_publish_undo(struct op *op)
{
	int res = db_run(op->agent->db, "UPDATE vm SET state = 'creating' WHERE uuid = ?", "s",
			 spec_text(op_spec(op), "uuid"));
	return res < 0 ? res : 0;
}

static const struct op_step steps[] = {
	{"reserve", create_reserve, create_reserve_undo},
	{"sources", sources, sources_drop},
	{"disks", disks, create_disks_undo},
	{"meta", create_meta, create_meta_undo},
	{"seed", seed, seed_undo},
	{"attach", create_attach, create_attach_undo},
	{"define", define, define_undo},
	{"start", start, start_undo},
	{"publish", create_publish, create_publish_undo},
	{"tidy", sources_drop, NULL},
};
const struct op_kind op_vm_create = {"vm.create", steps, sizeof steps / sizeof *steps, 9};
