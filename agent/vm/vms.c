/* SPDX-License-Identifier: Apache-2.0 */
/* The catalog's VMs, and making vstored and libvirt agree with it. Everything here may be repeated:
 * operations and the resync after a lost connection use the same functions. */
#include "agent/vm/agent.h"

#include "agent/vm/domxml.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define STATE_MS 5000
#define START_MS 120000
#define EVENTS_KEPT 10000

int64_t agent_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void agent_event(struct agent *agent, const char *kind, const char *object, json_t *detail)
{
	json_t *own = detail ? detail : json_object();
	db_run(agent->db, "INSERT INTO event (time, kind, object, detail) VALUES (?, ?, ?, ?)",
	       "issj", agent_now_ns(), kind, object, own);
	db_run(agent->db, "DELETE FROM event WHERE cursor <= (SELECT max(cursor) FROM event) - ?",
	       "i", (int64_t)EVENTS_KEPT);
	json_decref(own);
	pthread_mutex_lock(&agent->lock);
	pthread_cond_broadcast(&agent->changed);
	pthread_mutex_unlock(&agent->lock);
}

int vm_get(struct agent *agent, const char *name, struct vm *ret_vm, struct problem *problem)
{
	json_t *row =
		db_row(agent->db, "SELECT * FROM vm WHERE name = ? OR uuid = ?", "ss", name, name);
	if (!row)
		return problem_set(problem, -ENOENT,
				   "There is no VM %.63s; vstorectl vm list shows what there is.",
				   name);
	*ret_vm = (struct vm){.spec = db_json(row, "spec")};
	snprintf(ret_vm->uuid, sizeof ret_vm->uuid, "%s", spec_text(row, "uuid"));
	snprintf(ret_vm->name, sizeof ret_vm->name, "%s", spec_text(row, "name"));
	snprintf(ret_vm->state, sizeof ret_vm->state, "%s", spec_text(row, "state"));
	json_decref(row);
	return 0;
}

void vm_free(struct vm *vm)
{
	json_decref(vm->spec);
	vm->spec = NULL;
}

void vm_console_log(const struct agent *agent, const char *uuid, char *out, size_t room)
{
	snprintf(out, room, "%s/console/%s.log", agent->state_path, uuid);
}

/* What all other VMs have; {} keys are numbers as text. */
static json_t *users_taken(struct agent *agent)
{
	json_t *rows = db_rows(agent->db, "SELECT spec FROM vm", ""), *row, *taken = json_object();
	size_t i;
	char key[16];
	json_array_foreach(rows, i, row) {
		json_t *spec = db_json(row, "spec");
		snprintf(key, sizeof key, "%u", (unsigned)spec_number(spec, "uid"));
		json_object_set_new(taken, key, json_true());
		json_decref(spec);
	}
	json_decref(rows);
	return taken;
}

/* From a random place on, so that the user of a VM that went is not the next one's. */
int vm_user(struct agent *agent, json_t *spec, struct problem *problem)
{
	uint32_t count = agent->uid_last - agent->uid_first + 1, from;
	char key[16];
	int res = -ENOSPC;
	if (spec_number(spec, "uid") || !agent->uid_first)
		return 0;
	json_t *taken = users_taken(agent);
	if (getrandom(&from, sizeof from, 0) != (ssize_t)sizeof from)
		from = 0;
	for (uint32_t i = 0; i < count && res; i++) {
		uint32_t uid = agent->uid_first + (uint32_t)(((uint64_t)from + i) % count);
		snprintf(key, sizeof key, "%u", uid);
		if (json_object_get(taken, key))
			continue;
		json_object_set_new(spec, "uid", json_integer(uid));
		res = 0;
	}
	json_decref(taken);
	if (res)
		problem_set(problem, res,
			    "Each VM has a user of its own, and %u to %u are all taken: give the "
			    "agent more with --uids.",
			    agent->uid_first, agent->uid_last);
	return res;
}

static int volume_attach(struct agent *agent, json_t *spec, json_t *disk, struct problem *problem)
{
	char socket[128];
	int res = storage_attach(&agent->storage, spec_text(disk, "volume"),
				 spec_text(spec, "uuid"), spec_text(spec, "name"),
				 (uint32_t)spec_number(spec, "uid"), socket, problem);
	if (res == 0)
		json_object_set_new(disk, "socket", json_string(socket));
	return res;
}

/* The user, the sockets and the ports of `spec`, for what both have. */
static void sockets_copy(const json_t *spec, json_t *now)
{
	json_t *disk, *nic, *other, *seed = json_object_get(spec, "seed");
	size_t i;
	if (spec_number(spec, "uid"))
		json_object_set(now, "uid", json_object_get(spec, "uid"));
	other = json_object_get(now, "seed");
	if (json_is_object(seed) && json_is_object(other))
		json_object_set(other, "socket", json_object_get(seed, "socket"));
	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		other = spec_disk(now, spec_text(disk, "volume"));
		if (other)
			json_object_set(other, "socket", json_object_get(disk, "socket"));
	}
	json_array_foreach(json_object_get(spec, "nics"), i, nic) {
		other = spec_nic_find(now, spec_text(nic, "mac"));
		if (other && json_object_get(nic, "port"))
			json_object_set(other, "port", json_object_get(nic, "port"));
	}
}

/* The catalog may have changed since the caller read it: nothing but sockets and ports go in, and
 * `spec` becomes what is there now. A VM that is not ready has no definition but the caller's. */
static int sockets_save(struct agent *agent, json_t *spec)
{
	int res = db_begin(agent->db);
	if (res < 0)
		return res;
	json_t *row = db_row(agent->db, "SELECT spec FROM vm WHERE uuid = ? AND state = 'ready'",
			     "s", spec_text(spec, "uuid"));
	if (row) {
		json_t *now = db_json(row, "spec"), *before = json_deep_copy(now);
		sockets_copy(spec, now);
		if (!json_equal(before, now))
			res = db_run(agent->db, "UPDATE vm SET spec = ? WHERE uuid = ?", "js", now,
				     spec_text(spec, "uuid"));
		json_object_clear(spec);
		json_object_update(spec, now);
		json_decref(before);
		json_decref(now);
	}
	json_decref(row);
	int end = db_end(agent->db, res >= 0);
	return res < 0 ? res : end;
}

/* Of all its volumes, or (held) of those alone whose lease it has already. */
static int leases_take(struct agent *agent, json_t *spec, const json_t *held,
		       struct problem *problem)
{
	json_t *disk, *seed = json_object_get(spec, "seed");
	const char *uuid = spec_text(spec, "uuid");
	size_t i;
	int res = 0;
	if (json_is_object(seed) && (!held || storage_holds(held, uuid, spec_text(seed, "volume"))))
		res = volume_attach(agent, spec, seed, problem);
	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		if (res == 0 && (!held || storage_holds(held, uuid, spec_text(disk, "volume"))))
			res = volume_attach(agent, spec, disk, problem);
	}
	/* A lease that was taken anew has another socket; one that is named no more is noticed. */
	if (res == 0 && sockets_save(agent, spec) < 0)
		res = problem_set(problem, -EIO, "The catalog cannot be written.");
	return res;
}

int vm_attach(struct agent *agent, json_t *spec, struct problem *problem)
{
	int res = vm_user(agent, spec, problem);
	if (res == 0)
		res = nic_ports_make(agent, spec, problem);
	return res < 0 ? res : leases_take(agent, spec, NULL, problem);
}

/* Under its present name. None is taken anew that was broken on purpose; its start asks for those.
 */
static int vm_attach_held(struct agent *agent, json_t *spec, struct problem *problem)
{
	json_t *held = NULL;
	int res = storage_attachments(&agent->storage, &held, problem);
	if (res == 0)
		res = leases_take(agent, spec, held, problem);
	json_decref(held);
	return res;
}

int vm_detach(struct agent *agent, const json_t *spec, struct problem *problem)
{
	json_t *disk, *seed = json_object_get(spec, "seed");
	const char *uuid = spec_text(spec, "uuid");
	size_t i;
	int res = json_is_object(seed) ? storage_detach(&agent->storage, spec_text(seed, "volume"),
							uuid, problem)
				       : 0;
	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (res == 0)
			res = storage_detach(&agent->storage, spec_text(disk, "volume"), uuid,
					     problem);
	return res < 0 ? res : nic_ports_remove(agent, spec, problem);
}

int vm_define(struct agent *agent, json_t *spec, struct problem *problem)
{
	char console[400];
	const char *accel = spec_text(spec, "accel");
	bool kvm = strcmp(accel, "kvm") == 0 || (strcmp(accel, "tcg") != 0 && agent_kvm(agent));
	vm_console_log(agent, spec_text(spec, "uuid"), console, sizeof console);
	struct domxml_host host = {.kvm = kvm,
				   .console_log = console,
				   .gid = agent->gid >= 0 ? (uint32_t)agent->gid
							  : (uint32_t)spec_number(spec, "uid")};
	char *xml = domxml_domain(spec, &host);
	if (!xml)
		return problem_set(problem, -ENOMEM, "There is not enough memory.");
	/* The first one since libvirtd started waits until that has asked QEMU what it can. */
	/* Named, so that one that libvirt has not answered yet does not land behind a later one. */
	struct virt_args args = {
		.uuid = spec_text(spec, "uuid"), .text = xml, .timeout_ms = START_MS};
	int res = virt_do(agent->virt, VIRT_DEFINE, &args, NULL, problem);
	free(xml);
	return res;
}

int vm_save(struct agent *agent, json_t *spec, bool define, struct problem *problem)
{
	json_t *row = db_row(agent->db, "SELECT generation FROM vm WHERE uuid = ?", "s",
			     spec_text(spec, "uuid"));
	int64_t generation = row ? spec_number(row, "generation") + 1 : 1;
	json_decref(row);
	json_object_set_new(spec, "generation", json_integer(generation));
	int res =
		db_run(agent->db, "UPDATE vm SET spec = ?, generation = ?, name = ? WHERE uuid = ?",
		       "jiss", spec, generation, spec_text(spec, "name"), spec_text(spec, "uuid"));
	if (res < 0)
		return problem_set(problem, res, "The catalog cannot be written.");
	res = meta_write(&agent->storage, spec, problem);
	if (res == 0 && define) {
		res = vm_attach_held(agent, spec, problem);
		if (res == 0)
			res = vm_define(agent, spec, problem);
	}
	return res;
}

int vm_state(struct agent *agent, const char *uuid, enum virt_state *ret_state,
	     enum virt_reason *ret_reason, struct problem *problem)
{
	struct virt_result result = {0};
	struct virt_args args = {.uuid = uuid, .timeout_ms = STATE_MS};
	int res = virt_do(agent->virt, VIRT_STATE, &args, &result, problem);
	if (res == 0) {
		*ret_state = (enum virt_state)result.number;
		*ret_reason = (enum virt_reason)result.number2;
	} else if (res == -ENOENT) {
		*ret_state = VIRT_STOPPED;
		*ret_reason = VIRT_REASON_NONE;
		res = 0;
	}
	return res;
}

int vm_power(struct agent *agent, const char *uuid, enum virt_verb verb, struct problem *problem)
{
	struct virt_args args = {.uuid = uuid, .timeout_ms = verb == VIRT_START ? START_MS : 0};
	int res = virt_do(agent->virt, verb, &args, NULL, problem);
	/* libvirt keeps TPMs' sockets in a folder of its own QEMU's user, which ours are not. */
	if (res < 0 && strstr(problem->sentence, "swtpm.sock"))
		problem_set(problem, res,
			    "QEMU may not reach the VM's TPM: set swtpm_group = \"%.63s\" in "
			    "/etc/libvirt/qemu.conf, restart libvirtd, then try again.",
			    agent->group);
	return res;
}

char *vm_of_volume(struct agent *agent, const char *volume)
{
	json_t *rows = db_rows(agent->db, "SELECT name, spec FROM vm", ""), *row;
	size_t i;
	char *found = NULL;
	json_array_foreach(rows, i, row) {
		json_t *spec = db_json(row, "spec");
		if (!found &&
		    (spec_disk(spec, volume) || strcmp(spec_text(spec, "meta"), volume) == 0 ||
		     strcmp(spec_text(json_object_get(spec, "seed"), "volume"), volume) == 0))
			found = strdup(spec_text(spec, "name"));
		json_decref(spec);
	}
	json_decref(rows);
	return found;
}

json_t *vm_boot_order(struct agent *agent)
{
	json_t *rows = db_rows(agent->db,
			       "SELECT uuid FROM vm WHERE state = 'ready' AND json_extract(spec, "
			       "'$.autostart') ORDER BY json_extract(spec, '$.order'), name",
			       "");
	json_t *row, *all = json_array();
	size_t i;
	json_array_foreach(rows, i, row)
		json_array_append(all, json_object_get(row, "uuid"));
	json_decref(rows);
	return all;
}
