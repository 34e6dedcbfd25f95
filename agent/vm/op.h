/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: changes of several steps, so persisted that the agent may be killed after any of
 * them. A step may be repeated and undone any number of times, and knows from the operation's data
 * alone what to do.
 *
 *   a step fails before or at `commit`    the steps so far are undone, backwards; the error is told
 *   a step fails after `commit`           it stays, and is tried again every few seconds
 *   the agent starts, step < commit       undone
 *   the agent starts, step >= commit      the steps that are left are done
 *
 * An object (a VM, an image) has one operation at a time: a second one is refused and names it.
 */
#ifndef AGENT_VM_OP_H
#define AGENT_VM_OP_H

#include "agent/vm/agent.h"

#define OP_OBJECT_ROOM (NAME_BYTES_MAX + 16u)

struct op {
	struct agent *agent;
	int64_t id;
	const struct op_kind *kind;
	char object[OP_OBJECT_ROOM]; /* "vm NAME", "image NAME" */
	uint32_t uid;
	int step;     /* how many are done */
	json_t *data; /* persisted with the step */
	json_t *result;
	struct problem problem;
	int res;
	bool undo; /* nothing but that is left */
	struct op *next;
};

/* data.vm: of which VM it is, for all that change one and read its definition while they run. */
static inline const char *op_vm(const struct op *op)
{
	return spec_text(op->data, "vm");
}

struct op_step {
	const char *name;
	int (*redo)(struct op *op);
	int (*undo)(struct op *op); /* NULL: nothing to undo */
};
struct op_kind {
	const char *name;
	const struct op_step *steps;
	int step_count, commit;
};

/* Every kind there is */
extern const struct op_kind op_vm_create, op_vm_delete, op_disk_attach, op_disk_detach,
	op_disk_grow, op_nic_attach, op_nic_detach, op_snap_create, op_snap_restore, op_snap_delete,
	op_image_create, op_image_delete, op_vm_rename, op_vm_adopt, op_vm_set, op_shutdown_all;
const struct op_kind *op_kind_find(const char *name);

/* Persists a new operation. `data` is taken. -EBUSY: the object has one, named as the holder. */
int op_new(struct agent *agent, const struct op_kind *kind, const char *noun, const char *name,
	   json_t *data, uint32_t uid, struct op **ret_op, struct problem *problem);
/* Runs it to its end; op->res, op->problem and op->result tell it. */
void op_run(struct op *op);
void op_free(struct op *op);

/* For steps that make a volume or a snapshot. What this operation did not make is noted in
 * data.foreign, and undoing leaves it alone: somebody else may have made it since it was looked
 * for. `res` is what making it returned, and is returned: -EEXIST says so. */
void op_leave(struct op *op, const char *name);
int op_made(struct op *op, const char *name, int res);
bool op_foreign(const struct op *op, const char *name);
/* Undoes the making of a volume. */
int op_volume_purge(struct op *op, const char *name);

/* Goes on with what an earlier process left, and with what failed after its commit. Waits for
 * nothing; call it every few seconds. Returns how many are not ended. */
unsigned op_converge(struct agent *agent);

/* A job's JSON from its row in the catalog; the number alone of "a12". */
json_t *op_json(const json_t *row);
json_t *op_row(struct agent *agent, int64_t id);

#endif
