/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, NICs, the CD drive, consoles, and the one cause of a VM that does not go on. */
#include "agent/api/api.h"

#include "agent/vm/domxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_BYTES_MAX (1u << 20)

static bool call_vm(struct call *call, struct vm *vm)
{
	int res = vm_get(call->agent, call->args[0], vm, &call->problem);
	if (res < 0)
		call_fail(call, res);
	return res == 0;
}

/* ---- disks ---- */

void disk_list(struct call *call)
{
	struct vm vm;
	if (!call_vm(call, &vm))
		return;
	call_reply(
		call, 200,
		json_pack("{s:i, s:O}", "schema", 1, "disks", json_object_get(vm.spec, "disks")));
	vm_free(&vm);
}

void disk_attach(struct call *call)
{
	struct vm vm;
	char target[8], name[80];
	const char *volume = spec_text(call->body, "volume");
	int64_t bytes = spec_number(call->body, "size_bytes");
	int res = 0;
	if (!call_vm(call, &vm))
		return;
	if (!*volume == !bytes)
		res = problem_set(&call->problem, -EINVAL,
				  "Give either the size of a new disk or the volume to attach.");
	else if (bytes < 0 || (uint64_t)bytes > VOLUME_BYTES_MAX)
		res = problem_set(&call->problem, -EINVAL, "A disk has up to 256 T.");
	else if (spec_target_free(vm.spec, target) < 0)
		res = problem_set(&call->problem, -ENOSPC, "A VM has at most %u disks.",
				  VM_DISKS_MAX);
	if (res < 0) {
		call_fail(call, res);
	} else {
		spec_volume_name(vm.spec, name, sizeof name);
		json_t *disk = json_pack("{s:s, s:s, s:s, s:I, s:b}", "target", target, "volume",
					 *volume ? volume : name, "uuid", "", "size_bytes",
					 (json_int_t)round_up((uint64_t)bytes, BLOCK_BYTES),
					 "owned", !*volume);
		call_operate(call, &op_disk_attach, "vm", vm.name,
			     json_pack("{s:s, s:o, s:b}", "vm", vm.uuid, "disk", disk, "fresh",
				       !*volume));
	}
	vm_free(&vm);
}

/* The disk that the path names, by target or volume; false: refused. */
static bool call_disk(struct call *call, struct vm *vm, json_t **ret_disk)
{
	if (!call_vm(call, vm))
		return false;
	*ret_disk = spec_disk(vm->spec, call->args[1]);
	if (*ret_disk)
		return true;
	problem_set(&call->problem, -ENOENT,
		    "VM %s has no disk %.63s; vstorectl vm disk list %s shows what it has.",
		    vm->name, call->args[1], vm->name);
	vm_free(vm);
	call_fail(call, -ENOENT);
	return false;
}

void disk_detach(struct call *call)
{
	struct vm vm;
	json_t *disk;
	if (!call_disk(call, &vm, &disk))
		return;
	call_operate(call, &op_disk_detach, "vm", vm.name,
		     json_pack("{s:s, s:O}", "vm", vm.uuid, "disk", disk));
	vm_free(&vm);
}

void disk_grow(struct call *call)
{
	struct vm vm;
	json_t *disk;
	uint64_t bytes = round_up((uint64_t)spec_number(call->body, "size_bytes"), BLOCK_BYTES);
	if (!call_disk(call, &vm, &disk))
		return;
	if (bytes < (uint64_t)spec_number(disk, "size_bytes")) {
		problem_set(&call->problem, -EINVAL, "A disk never shrinks; it has %lld bytes.",
			    (long long)spec_number(disk, "size_bytes"));
		call_fail(call, -EINVAL);
	} else {
		call_operate(call, &op_disk_grow, "vm", vm.name,
			     json_pack("{s:s, s:O, s:I}", "vm", vm.uuid, "disk", disk, "size_bytes",
				       (json_int_t)bytes));
	}
	vm_free(&vm);
}

/* The limits are the volume's, in the store: nothing of the VM changes. */
void disk_qos(struct call *call)
{
	struct vm vm;
	json_t *disk;
	if (!call_disk(call, &vm, &disk))
		return;
	int res = storage_limit(&call->agent->storage, spec_text(disk, "volume"), call->body,
				&call->problem);
	if (res < 0)
		call_fail(call, res);
	else
		call_changed(call, 200, json_pack("{s:s}", "name", spec_text(disk, "volume")));
	vm_free(&vm);
}

/* ---- NICs ---- */

void nic_list(struct call *call)
{
	struct vm vm;
	if (!call_vm(call, &vm))
		return;
	call_reply(call, 200,
		   json_pack("{s:i, s:O}", "schema", 1, "nics", json_object_get(vm.spec, "nics")));
	vm_free(&vm);
}

void nic_attach(struct call *call)
{
	struct vm vm;
	json_t *nic = NULL;
	if (!call_vm(call, &vm))
		return;
	int res = json_array_size(json_object_get(vm.spec, "nics")) >= VM_NICS_MAX
			  ? problem_set(&call->problem, -ENOSPC, "A VM has at most %u NICs.",
					VM_NICS_MAX)
			  : spec_nic(call->body, &nic, &call->problem);
	if (res < 0)
		call_fail(call, res);
	else
		call_operate(call, &op_nic_attach, "vm", vm.name,
			     json_pack("{s:s, s:o}", "vm", vm.uuid, "nic", nic));
	vm_free(&vm);
}

void nic_detach(struct call *call)
{
	struct vm vm;
	if (!call_vm(call, &vm))
		return;
	json_t *nic = spec_nic_find(vm.spec, call->args[1]);
	if (nic) {
		call_operate(call, &op_nic_detach, "vm", vm.name,
			     json_pack("{s:s, s:O}", "vm", vm.uuid, "nic", nic));
	} else {
		problem_set(&call->problem, -ENOENT,
			    "VM %s has no NIC %.63s; vstorectl vm nic list %s shows what it has.",
			    vm.name, call->args[1], vm.name);
		call_fail(call, -ENOENT);
	}
	vm_free(&vm);
}

/* ---- the CD drive ---- */

static void cdrom_change(struct call *call, const char *path)
{
	struct vm vm;
	if (!call_vm(call, &vm))
		return;
	call_operate(call, &op_vm_set, "vm", vm.name,
		     json_pack("{s:s, s:{s:s}}", "vm", vm.uuid, "change", "cdrom", path));
	vm_free(&vm);
}

void cdrom_insert(struct call *call)
{
	const char *path = spec_text(call->body, "path");
	if (!*path) {
		problem_set(&call->problem, -EINVAL, "Give the whole path of an ISO.");
		call_fail(call, -EINVAL);
		return;
	}
	cdrom_change(call, path);
}
void cdrom_eject(struct call *call)
{
	cdrom_change(call, "");
}

/* ---- consoles ---- */

static void from_xml(struct call *call, char *(*find)(const char *xml), const char *key)
{
	struct vm vm;
	struct virt_result result = {0};
	if (!call_vm(call, &vm))
		return;
	struct virt_args args = {.uuid = vm.uuid};
	int res = virt_do(call->agent->virt, VIRT_XML, &args, &result, &call->problem);
	char *found = res == 0 ? find(result.text) : NULL;
	if (res == 0 && !found)
		res = problem_set(&call->problem, -EINVAL,
				  "VM %s does not run, so it has none; start it with: vstorectl vm "
				  "start %s.",
				  vm.name, vm.name);
	if (res < 0)
		call_fail(call, res);
	else
		call_reply(call, 200, json_pack("{s:i, s:s}", "schema", 1, key, found));
	free(found);
	free(result.text);
	vm_free(&vm);
}

void vm_console(struct call *call)
{
	from_xml(call, domxml_console, "terminal");
}
void vm_vnc(struct call *call)
{
	from_xml(call, domxml_vnc, "socket");
}

/* The end of what the guest has printed. */
void vm_log(struct call *call)
{
	struct vm vm;
	char path[400];
	if (!call_vm(call, &vm))
		return;
	vm_console_log(call->agent, vm.uuid, path, sizeof path);
	vm_free(&vm);
	FILE *file = fopen(path, "re");
	char *text = malloc(LOG_BYTES_MAX);
	size_t bytes = 0;
	if (file && text) {
		fseek(file, 0, SEEK_END);
		long all = ftell(file);
		fseek(file, all > (long)LOG_BYTES_MAX ? all - (long)LOG_BYTES_MAX : 0, SEEK_SET);
		bytes = fread(text, 1, LOG_BYTES_MAX, file);
	}
	if (file)
		fclose(file);
	http_reply(call->request, 200, "text/plain", text, bytes);
	call->request = NULL;
}

/* ---- why ---- */

static void why_answer(struct call *call, const struct vm *vm, const char *cause,
		       const char *sentence)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:s, s:s, s:s}", "schema", 1, "name", vm->name, "cause", cause,
			     "message", sentence));
}

static bool fenced(struct call *call, const struct vm *vm)
{
	json_t *list = NULL;
	int res = storage_attachments(&call->agent->storage, &list, &call->problem);
	if (res == 0)
		res = storage_leases(list, vm->uuid, json_object_get(vm->spec, "disks"),
				     &call->problem);
	json_decref(list);
	return res == -VS_EFENCED;
}

/* A copy in step that is away: flushes of the disk wait for it, without an error and without an
 * end.
 */
static bool replica_away(struct call *call, const struct vm *vm, char words[SENTENCE_BYTES])
{
	struct problem problem = {0};
	json_t *document = NULL, *one;
	size_t i;
	bool found = false;
	if (storage_call(&call->agent->storage, "GET", "/v1/replicas", NULL, &document, &problem) <
	    0)
		return false;
	json_array_foreach(json_object_get(document, "replicas"), i, one) {
		const char *volume = spec_text(one, "volume"), *host = spec_text(one, "host");
		const char *error = spec_text(one, "error");
		if (found || strcmp(spec_text(one, "mode"), "sync") != 0 ||
		    strcmp(spec_text(one, "state"), "in step") == 0 || !spec_disk(vm->spec, volume))
			continue;
		found = true;
		snprintf(words, SENTENCE_BYTES,
			 "Flushes of %.63s wait for its copy on %.63s, which is not in "
			 "step%s%.100s: "
			 "bring %.63s back, or go on without it: vstorectl replica remove %.63s "
			 "%.63s.",
			 volume, host, *error ? ", " : "", error, host, volume, host);
	}
	json_decref(document);
	return found;
}

/* The first that holds, from the outside in: an operation, the store, libvirt, the guest itself. */
void vm_why(struct call *call)
{
	struct vm vm;
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason = VIRT_REASON_NONE;
	char object[OP_OBJECT_ROOM], words[SENTENCE_BYTES] = "";
	json_t *store = NULL;
	if (!call_vm(call, &vm))
		return;
	snprintf(object, sizeof object, "vm %s", vm.name);
	json_t *op = db_row(call->agent->db,
			    "SELECT id, kind, error FROM operation WHERE object = ? AND state IN "
			    "('running', 'undoing')",
			    "s", object);
	int stored = storage_call(&call->agent->storage, "GET", "/v1/store", NULL, &store,
				  &call->problem);
	int res = op || stored < 0
			  ? 0
			  : vm_state(call->agent, vm.uuid, &state, &reason, &call->problem);
	if (op) {
		json_t *said = db_json(op, "error");
		const char *waits = spec_text(said, "waits");
		snprintf(words, sizeof words, "Job a%lld (%s) is at work on it%s%s",
			 (long long)spec_number(op, "id"), spec_text(op, "kind"),
			 *waits ? ", and waits: " : ".", waits);
		json_decref(said);
		why_answer(call, &vm, "job", words);
	} else if (stored < 0) {
		why_answer(call, &vm, "disk", call->problem.sentence);
	} else if (json_is_true(json_object_get(store, "read_only"))) {
		snprintf(words, sizeof words, "The store is read-only: %.200s",
			 spec_text(store, "reason"));
		why_answer(call, &vm, "disk", words);
	} else if (storage_no_room(store)) {
		why_answer(call, &vm, "space",
			   "The store is full: purge the trash, delete snapshots, or add space.");
	} else if (res < 0) {
		why_answer(call, &vm, "libvirt", call->problem.sentence);
	} else if (state == VIRT_PAUSED && reason == VIRT_REASON_IO_ERROR && fenced(call, &vm)) {
		why_answer(call, &vm, "lease", call->problem.sentence);
	} else if (state == VIRT_PAUSED && reason == VIRT_REASON_IO_ERROR) {
		why_answer(
			call, &vm, "disk",
			"A disk gave an error and the guest waits; it is resumed as soon as QEMU "
			"reaches vstored again.");
	} else if (state == VIRT_PAUSED) {
		why_answer(call, &vm, "paused", "It was paused by a person: vstorectl vm resume.");
	} else if (state == VIRT_RUNNING && replica_away(call, &vm, words)) {
		why_answer(call, &vm, "replica", words);
	} else if (state == VIRT_RUNNING) {
		why_answer(call, &vm, "none", "It runs; nothing outside of the guest holds it up.");
	} else {
		why_answer(call, &vm, "stopped", "It does not run: vstorectl vm start.");
	}
	json_decref(op);
	json_decref(store);
	vm_free(&vm);
}
