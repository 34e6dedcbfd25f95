/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a VM: all its disks in one atomic step of the store. When the guest agent answers,
 * its file systems are frozen for that. A guest is never left frozen: that it may be is persisted
 * before it is asked to freeze; a watchdog thaws it when the store takes its time; one that froze
 * later than we waited, or that does not answer to thawing, is thawed again and again. The members
 * are held: none can be deleted alone.
 *
 * data: {vm: uuid, name, members: [VOLUME@NAME], agent: it answered, consistency, frozen_ms, spec}
 */
#include "agent/vm/op.h"

#include "agent/client/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOLD "vm"
#define FREEZE_MS 8000
#define FROZEN_MS_MAX 5000

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- create ---- */

static bool agent_answers(struct op *op)
{
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	struct problem problem = {0};
	struct virt_result result = {0};
	struct virt_args args = {.uuid = op_vm(op), .timeout_ms = FREEZE_MS};
	if (vm_state(op->agent, op_vm(op), &state, &reason, &problem) < 0 || state != VIRT_RUNNING)
		return false;
	bool answers = virt_do(op->agent->virt, VIRT_PING_AGENT, &args, &result, &problem) == 0;
	free(result.text);
	return answers;
}

/* A person's own snapshot of a disk may have the name. */
static int members_absent(struct op *op)
{
	json_t *one;
	size_t i;
	char path[CLIENT_PATH_ROOM];
	json_array_foreach(json_object_get(op->data, "members"), i, one) {
		const char *name = json_string_value(one);
		int res = storage_call(&op->agent->storage, "GET",
				       client_path(path, "/v1/snapshots/", name, ""), NULL, NULL,
				       &op->problem);
		if (res == 0)
			return problem_set(&op->problem, -EEXIST,
					   "There is a snapshot %.127s already; choose another "
					   "name.",
					   name);
		if (res != -ENOENT)
			return res;
	}
	return 0;
}

static int create_check(struct op *op)
{
	json_t *row =
		db_row(op->agent->db, "SELECT name FROM vm_snapshot WHERE vm = ? AND name = ?",
		       "ss", op_vm(op), spec_text(op->data, "name"));
	json_decref(row);
	if (row)
		return problem_set(&op->problem, -EEXIST,
				   "This VM has a snapshot %.63s already; choose another name.",
				   spec_text(op->data, "name"));
	int res = members_absent(op);
	if (res == 0)
		json_object_set_new(op->data, "agent", json_boolean(agent_answers(op)));
	return res;
}

static int thaw(struct op *op)
{
	struct virt_args args = {.uuid = op_vm(op), .timeout_ms = FREEZE_MS};
	struct problem problem = {0};
	return virt_do(op->agent->virt, VIRT_THAW, &args, NULL, &problem);
}

/* 0: it is not frozen by us. One that was never asked to, or has ended, is not. */
static int thaw_surely(struct op *op)
{
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	if (!json_is_true(json_object_get(op->data, "agent")))
		return 0;
	int res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res == 0 && state == VIRT_RUNNING && (res = thaw(op)) < 0)
		problem_set(
			&op->problem, res,
			"The guest was asked to freeze its file systems, and its agent does not "
			"answer to thawing them.");
	return res;
}

/* True: every file system is frozen. */
static bool freeze(struct op *op)
{
	struct problem problem = {0};
	struct virt_result result = {0};
	struct virt_args args = {.uuid = op_vm(op), .timeout_ms = FREEZE_MS};
	return json_is_true(json_object_get(op->data, "agent")) &&
	       virt_do(op->agent->virt, VIRT_FREEZE, &args, &result, &problem) == 0 &&
	       result.number > 0;
}

/* Thaws after FROZEN_MS_MAX, unless it is ended before. */
struct watchdog {
	struct op *op;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended, thawed;
};

static void *watchdog_run(void *state)
{
	struct watchdog *dog = state;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FROZEN_MS_MAX / 1000;
	pthread_mutex_lock(&dog->lock);
	while (!dog->ended &&
	       pthread_cond_timedwait(&dog->changed, &dog->lock, &until) != ETIMEDOUT)
		;
	dog->thawed = !dog->ended;
	pthread_mutex_unlock(&dog->lock);
	if (dog->thawed)
		thaw(dog->op);
	return NULL;
}

static int watchdog_start(struct watchdog *dog, struct op *op)
{
	*dog = (struct watchdog){
		.op = op, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	return -pthread_create(&dog->thread, NULL, watchdog_run, dog);
}

/* True: it had to thaw. */
static bool watchdog_end(struct watchdog *dog)
{
	pthread_mutex_lock(&dog->lock);
	dog->ended = true;
	pthread_cond_signal(&dog->changed);
	pthread_mutex_unlock(&dog->lock);
	pthread_join(dog->thread, NULL);
	return dog->thawed;
}

static const char *consistency_of(enum virt_state state, bool frozen, bool late)
{
	if (state == VIRT_STOPPED || state == VIRT_CRASHED)
		return "stopped";
	if (state == VIRT_PAUSED)
		return "paused";
	if (!frozen)
		return "crash";
	return late ? "freeze-timeout" : "app";
}

static int members_take(struct op *op)
{
	return storage_call(&op->agent->storage, "POST", "/v1/snapshots",
			    json_pack("{s:O}", "names", json_object_get(op->data, "members")), NULL,
			    &op->problem);
}

static int create_take(struct op *op)
{
	enum virt_state state;
	enum virt_reason reason;
	struct watchdog dog;
	bool late = false;
	int res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res < 0) {
		op_leave(op, spec_text(op->data, "name"));
		return res;
	}
	bool frozen = state == VIRT_RUNNING && freeze(op) && watchdog_start(&dog, op) == 0;
	int64_t since_ms = now_ms();
	res = op_made(op, spec_text(op->data, "name"), members_take(op));
	if (frozen) {
		late = watchdog_end(&dog);
		late |= thaw(op) < 0; /* whatever thawed it instead: not known when */
	}
	json_object_set_new(op->data, "consistency",
			    json_string(consistency_of(state, frozen, late)));
	json_object_set_new(op->data, "frozen_ms", json_integer(frozen ? now_ms() - since_ms : 0));
	return res;
}

static int member_change(struct op *op, const char *method, const char *tail, int fine)
{
	json_t *one;
	size_t i;
	char path[CLIENT_PATH_ROOM];
	int res = 0;
	json_array_foreach(json_object_get(op->data, "members"), i, one) {
		if (res < 0)
			break;
		res = storage_call(
			&op->agent->storage, method,
			client_path(path, "/v1/snapshots/", json_string_value(one), tail), NULL,
			NULL, &op->problem);
		if (res == fine)
			res = 0;
	}
	return res;
}

/* Thawed first: vstored may not be there for long. */
static int take_undo(struct op *op)
{
	int thawed = thaw_surely(op);
	int res = op_foreign(op, spec_text(op->data, "name"))
			  ? 0
			  : member_change(op, "DELETE", "", -ENOENT);
	return res < 0 ? res : thawed;
}

static int hold(struct op *op)
{
	return member_change(op, "PUT", "/holds/" HOLD, -EEXIST);
}
static int release(struct op *op)
{
	return member_change(op, "DELETE", "/holds/" HOLD, -ENOENT);
}

static int create_publish(struct op *op)
{
	json_t *data = op->data;
	int res = db_run(op->agent->db,
			 "INSERT OR REPLACE INTO vm_snapshot (vm, name, consistency, frozen_ms, "
			 "spec, created) VALUES (?, ?, ?, ?, ?, ?)",
			 "sssiji", op_vm(op), spec_text(data, "name"),
			 spec_text(data, "consistency"), spec_number(data, "frozen_ms"),
			 json_object_get(data, "spec"), agent_now_ns());
	if (res < 0)
		return problem_set(&op->problem, res, "The catalog cannot be written.");
	op->result = json_pack("{s:O, s:O, s:O, s:O}", "name", json_object_get(data, "name"),
			       "members", json_object_get(data, "members"), "consistency",
			       json_object_get(data, "consistency"), "frozen_ms",
			       json_object_get(data, "frozen_ms"));
	agent_event(op->agent, "vm.snapshot", spec_text(json_object_get(data, "spec"), "name"),
		    json_incref(op->result));
	return 0;
}

static const struct op_step create_steps[] = {
	{"check", create_check, NULL}, {"take", create_take, take_undo},
	{"hold", hold, release},       {"publish", create_publish, NULL},
	{"thaw", thaw_surely, NULL},
};
const struct op_kind op_snap_create = {"vm.snap.create", create_steps,
				       sizeof create_steps / sizeof *create_steps, 3};

/* ---- restore: once begun it ends, or the disks would be of different times ---- */

static int restore_check(struct op *op)
{
	enum virt_state state;
	enum virt_reason reason;
	const char *name = spec_text(json_object_get(op->data, "spec"), "name");
	int res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED) {
		snprintf(op->problem.holder, sizeof op->problem.holder, "%s", name);
		res = problem_set(&op->problem, -EBUSY,
				  "VM %s is %s; to restore its disks, end it first: vstorectl vm "
				  "shutdown %s.",
				  name, virt_state_name(state), name);
	}
	if (res == 0) /* all members are there before any disk is touched */
		res = member_change(op, "GET", "", 1);
	return res;
}

static int restore_disks(struct op *op)
{
	return member_change(op, "POST", "/restore", 1);
}

/* A disk that has grown since is as small again as it was. */
static int restore_sizes(struct op *op)
{
	struct vm vm;
	json_t *disk, *volume;
	size_t i;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res < 0)
		return res;
	json_array_foreach(json_object_get(vm.spec, "disks"), i, disk) {
		volume = NULL;
		if (res == 0)
			res = storage_volume(&op->agent->storage, spec_text(disk, "volume"),
					     &volume, &op->problem);
		if (res == 0)
			json_object_set(disk, "size_bytes", json_object_get(volume, "size_bytes"));
		json_decref(volume);
	}
	if (res == 0)
		res = vm_save(op->agent, vm.spec, false, &op->problem);
	vm_free(&vm);
	return res;
}

static int restore_publish(struct op *op)
{
	int res = restore_sizes(op);
	if (res < 0)
		return res;
	op->result = json_pack("{s:O}", "name", json_object_get(op->data, "name"));
	agent_event(op->agent, "vm.restored", spec_text(json_object_get(op->data, "spec"), "name"),
		    json_incref(op->result));
	return 0;
}

static const struct op_step restore_steps[] = {
	{"check", restore_check, NULL},
	{"disks", restore_disks, NULL},
	{"publish", restore_publish, NULL},
};
const struct op_kind op_snap_restore = {"vm.snap.restore", restore_steps,
					sizeof restore_steps / sizeof *restore_steps, 1};

/* ---- delete ---- */

static int delete_members(struct op *op)
{
	return member_change(op, "DELETE", "", -ENOENT);
}

static int delete_publish(struct op *op)
{
	int res = db_run(op->agent->db, "DELETE FROM vm_snapshot WHERE vm = ? AND name = ?", "ss",
			 op_vm(op), spec_text(op->data, "name"));
	op->result = json_pack("{s:O}", "name", json_object_get(op->data, "name"));
	return res < 0 ? problem_set(&op->problem, res, "The catalog cannot be written.") : 0;
}

static const struct op_step delete_steps[] = {
	{"release", release, hold},
	{"members", delete_members, NULL},
	{"publish", delete_publish, NULL},
};
const struct op_kind op_snap_delete = {"vm.snap.delete", delete_steps,
				       sizeof delete_steps / sizeof *delete_steps, 1};
