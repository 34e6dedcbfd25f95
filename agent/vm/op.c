/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The runner of operations.
 *
 * Keeps true: a step's number and data are durable before the next step begins, and before anybody
 * is told; what failed first is what is told in the end, however long its undoing takes; an
 * operation that waits says for what.
 */
#include "agent/vm/op.h"

#include "storage/control/api.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct op_kind *const kinds[] = {
	&op_vm_create,	  &op_vm_delete,    &op_vm_rename,    &op_vm_adopt,
	&op_disk_attach,  &op_disk_detach,  &op_disk_grow,    &op_nic_attach,
	&op_nic_detach,	  &op_snap_create,  &op_snap_restore, &op_snap_delete,
	&op_image_create, &op_image_delete, &op_vm_set,	      &op_shutdown_all,
};
#define KINDS (sizeof kinds / sizeof *kinds)
#define KEPT 1000 /* ended operations that can still be asked for */

const struct op_kind *op_kind_find(const char *name)
{
	for (size_t i = 0; i < KINDS; i++)
		if (strcmp(kinds[i]->name, name) == 0)
			return kinds[i];
	return NULL;
}

static void active_add(struct op *op)
{
	pthread_mutex_lock(&op->agent->lock);
	op->next = op->agent->active;
	op->agent->active = op;
	pthread_mutex_unlock(&op->agent->lock);
}

static void active_remove(struct op *op)
{
	pthread_mutex_lock(&op->agent->lock);
	for (struct op **at = &op->agent->active; *at; at = &(*at)->next)
		if (*at == op) {
			*at = op->next;
			break;
		}
	pthread_cond_broadcast(&op->agent->changed);
	pthread_mutex_unlock(&op->agent->lock);
}

static bool active_has(struct agent *agent, int64_t id)
{
	bool found = false;
	pthread_mutex_lock(&agent->lock);
	for (const struct op *op = agent->active; op; op = op->next)
		found |= op->id == id;
	pthread_mutex_unlock(&agent->lock);
	return found;
}

/* Only tests ask for it: what remains when the process dies right here? */
static void crash_point(const struct op *op)
{
	char here[64];
	snprintf(here, sizeof here, "%s:%d", op->kind->name, op->step);
	if (strcmp(op->agent->crash_after, here) == 0)
		kill(getpid(), SIGKILL);
}

static int op_persist(struct op *op, const char *state)
{
	return db_run(op->agent->db,
		      "UPDATE operation SET state = ?, step = ?, data = ? WHERE id = ?", "siji",
		      state, (int64_t)op->step, op->data, op->id);
}

int op_new(struct agent *agent, const struct op_kind *kind, const char *noun, const char *name,
	   json_t *data, uint32_t uid, struct op **ret_op, struct problem *problem)
{
	struct op *op = calloc(1, sizeof *op);
	int res = op ? db_begin(agent->db) : -ENOMEM;
	if (res < 0) {
		json_decref(data);
		free(op);
		return problem_set(problem, res, "The catalog does not answer; look at its disk.");
	}
	*op = (struct op){.agent = agent, .kind = kind, .uid = uid, .data = data};
	snprintf(op->object, sizeof op->object, "%s %s", noun, name);
	json_t *other = db_row(agent->db,
			       "SELECT id, kind FROM operation WHERE object = ? AND state IN "
			       "('running', 'undoing')",
			       "s", op->object);
	if (other) {
		snprintf(problem->holder, sizeof problem->holder, "job a%" PRId64,
			 spec_number(other, "id"));
		res = problem_set(problem, -EBUSY,
				  "%s is busy with %s (job a%" PRId64
				  "); wait for it: vstorectl job "
				  "wait a%" PRId64 ".",
				  op->object, spec_text(other, "kind"), spec_number(other, "id"),
				  spec_number(other, "id"));
		json_decref(other);
	}
	if (res == 0)
		res = db_run(agent->db,
			     "INSERT INTO operation (kind, object, state, step, data, error, uid, "
			     "created) VALUES (?, ?, 'running', 0, ?, '', ?, ?)",
			     "ssjii", kind->name, op->object, data, (int64_t)uid, agent_now_ns());
	op->id = db_last_id(agent->db);
	active_add(op); /* before anybody else can see its row, and take it for one of the past */
	int end = db_end(agent->db, res >= 0);
	res = res < 0 ? res : end;
	if (res < 0) {
		active_remove(op);
		if (!problem->sentence[0])
			problem_set(problem, res,
				    "The catalog cannot be written; look at its disk.");
		op_free(op);
		return res;
	}
	crash_point(op);
	*ret_op = op;
	return 0;
}

void op_free(struct op *op)
{
	if (!op)
		return;
	json_decref(op->data);
	json_decref(op->result);
	free(op);
}

void op_leave(struct op *op, const char *name)
{
	if (!json_object_get(op->data, "foreign"))
		json_object_set_new(op->data, "foreign", json_object());
	json_object_set_new(json_object_get(op->data, "foreign"), name, json_true());
}

int op_made(struct op *op, const char *name, int res)
{
	if (res == -EEXIST)
		op_leave(op, name);
	return res;
}

bool op_foreign(const struct op *op, const char *name)
{
	return json_object_get(json_object_get(op->data, "foreign"), name) != NULL;
}

int op_volume_purge(struct op *op, const char *name)
{
	return op_foreign(op, name)
		       ? 0
		       : storage_volume_delete(&op->agent->storage, name, true, &op->problem);
}

static void op_ended(struct op *op, const char *state)
{
	json_t *error = op->res < 0 ? api_error(op->res, op->problem.sentence, op->problem.holder)
				    : json_object();
	if (op->res == 0)
		json_object_set_new(error, "result",
				    op->result ? json_incref(op->result) : json_object());
	db_run(op->agent->db, "UPDATE operation SET state = ?, error = ?, ended = ? WHERE id = ?",
	       "sjii", state, error, agent_now_ns(), op->id);
	db_run(op->agent->db,
	       "DELETE FROM operation WHERE id <= (SELECT max(id) FROM operation) - ? AND state IN "
	       "('done', 'failed')",
	       "i", (int64_t)KEPT);
	json_decref(error);
	agent_event(op->agent, op->res < 0 ? "operation.failed" : "operation.done", op->object,
		    json_pack("{s:s, s:I, s:s}", "kind", op->kind->name, "id", (json_int_t)op->id,
			      "message", op->problem.sentence));
}

static void step_log(const struct op *op, const char *what, int step, int res)
{
	log_event(res < 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "operation.step",
		  "id=%" PRId64 " kind=%s object=\"%s\" step=%s %s=%d", op->id, op->kind->name,
		  op->object, op->kind->steps[step].name, what, res);
}

/* It is not ended and goes on by itself: what keeps it, and, of one that is being undone, what its
 * end will tell. */
static void op_waits(struct op *op, const struct problem *first, const char *waits)
{
	json_t *said = json_pack("{s:s}", "waits", waits);
	if (op->undo) {
		json_object_set_new(said, "code", json_integer(op->res));
		json_object_set_new(said, "failed", json_string(first->sentence));
	}
	db_run(op->agent->db, "UPDATE operation SET error = ? WHERE id = ?", "ji", said, op->id);
	json_decref(said);
}

/* Backwards from the step that failed, which may be half done. */
static int op_undo(struct op *op)
{
	struct problem first = op->problem;
	int res = 0;
	if (!op->undo && op->step < op->kind->step_count)
		op->step++;
	op->undo = true;
	op_persist(op, "undoing");
	while (op->step > 0 && res == 0) {
		const struct op_step *step = &op->kind->steps[op->step - 1];
		op->problem = (struct problem){0};
		res = step->undo ? step->undo(op) : 0;
		step_log(op, "undone", op->step - 1, res);
		if (res < 0)
			break;
		op->step--;
		res = op_persist(op, "undoing") < 0 ? -EIO : 0;
	}
	if (res < 0) {
		op_waits(op, &first, op->problem.sentence);
		snprintf(first.sentence + strlen(first.sentence),
			 sizeof first.sentence - strlen(first.sentence),
			 " It could not be undone yet; the agent goes on trying.");
	}
	op->problem = first;
	return res;
}

void op_run(struct op *op)
{
	const struct op_kind *kind = op->kind;
	int res = 0;
	while (!op->undo && op->step < kind->step_count && res == 0) {
		op->problem = (struct problem){0};
		res = kind->steps[op->step].redo(op);
		step_log(op, "done", op->step, res);
		if (res < 0)
			break;
		op->step++;
		res = op_persist(op, "running") < 0 ? -EIO : 0;
		if (res == 0)
			crash_point(op);
	}
	op->res = op->undo ? op->res : res;
	if (op->res == 0 && !op->undo) {
		op_ended(op, "done");
	} else if (op->undo || op->step <= kind->commit) {
		if (op_undo(op) == 0)
			op_ended(op, "failed");
	} else {
		op_waits(op, NULL, op->problem.sentence);
		size_t used = strlen(op->problem.sentence);
		snprintf(op->problem.sentence + used, sizeof op->problem.sentence - used,
			 " The agent goes on trying (job a%" PRId64 ").", op->id);
	}
	active_remove(op);
}

/* ---- after a start, and every few seconds ---- */

static void op_resume(struct agent *agent, const json_t *row)
{
	const struct op_kind *kind = op_kind_find(spec_text(row, "kind"));
	struct op *op = kind ? calloc(1, sizeof *op) : NULL;
	if (!op)
		return;
	*op = (struct op){.agent = agent,
			  .id = spec_number(row, "id"),
			  .kind = kind,
			  .uid = (uint32_t)spec_number(row, "uid"),
			  .step = (int)spec_number(row, "step"),
			  .data = db_json(row, "data")};
	snprintf(op->object, sizeof op->object, "%s", spec_text(row, "object"));
	bool undoing = strcmp(spec_text(row, "state"), "undoing") == 0;
	if (undoing || op->step < kind->commit) {
		/* The step after the last persisted one may be half done. */
		if (!undoing && op->step < kind->step_count)
			op->step++;
		op->undo = true;
		json_t *said = db_json(row, "error");
		op->res = -VS_ECANCELLED;
		if (*spec_text(said, "failed")) {
			op->res = (int)spec_number(said, "code");
			problem_set(&op->problem, 0, "%s", spec_text(said, "failed"));
		} else {
			problem_set(&op->problem, 0,
				    "vstore-agent was stopped in the middle; it was undone.");
		}
		json_decref(said);
	}
	active_add(op);
	op_run(op);
	log_event(LOG_LEVEL_INFO, "operation.converged",
		  "id=%" PRId64 " kind=%s object=\"%s\" res=%d", op->id, kind->name, op->object,
		  op->res);
	op_free(op);
}

unsigned op_converge(struct agent *agent)
{
	json_t *rows = db_rows(agent->db,
			       "SELECT * FROM operation WHERE state IN ('running', 'undoing') "
			       "ORDER BY id",
			       "");
	json_t *row;
	size_t i;
	unsigned count = 0;
	json_array_foreach(rows, i, row) {
		if (agent->stopping || active_has(agent, spec_number(row, "id")))
			continue;
		/* Those before it may have taken their time: it may have ended meanwhile. */
		json_t *now = op_row(agent, spec_number(row, "id"));
		if (now && !spec_number(now, "ended")) {
			op_resume(agent, now);
			count++;
		}
		json_decref(now);
	}
	json_decref(rows);
	return count;
}

/* ---- as jobs ---- */

json_t *op_row(struct agent *agent, int64_t id)
{
	return db_row(agent->db, "SELECT * FROM operation WHERE id = ?", "i", id);
}

json_t *op_json(const json_t *row)
{
	const struct op_kind *kind = op_kind_find(spec_text(row, "kind"));
	const char *state = spec_text(row, "state");
	json_t *end = db_json(row, "error");
	char id[32];
	snprintf(id, sizeof id, "a%" PRId64, spec_number(row, "id"));
	json_t *out = json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:o, s:[]}", "id", id, "kind",
				spec_text(row, "kind"), "object", spec_text(row, "object"), "state",
				strcmp(state, "undoing") == 0 ? "running" : state, "progress",
				(json_int_t)spec_number(row, "step"), "total",
				kind ? kind->step_count : 0, "created",
				time_json((uint64_t)spec_number(row, "created")), "lines");
	if (spec_number(row, "ended"))
		json_object_set_new(out, "ended", time_json((uint64_t)spec_number(row, "ended")));
	else if (json_object_get(end, "waits"))
		json_object_set(out, "waits", json_object_get(end, "waits"));
	if (json_object_get(end, "error"))
		json_object_set(out, "error", json_object_get(end, "error"));
	if (json_object_get(end, "result"))
		json_object_set(out, "result", json_object_get(end, "result"));
	json_decref(end);
	return out;
}
