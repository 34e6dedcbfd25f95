/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: a volume whose snapshot "image" is sealed and held. VMs are cloned from the snapshot in
 * O(1); deleting the image does not touch them, the chunks are shared.
 *
 * data: {name, volume, snapshot: VOLUME@image, source, size_bytes}
 */
#include "agent/vm/op.h"

#include "agent/client/client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOLD "/holds/image"

static int snapshot_call(struct op *op, const char *method, const char *tail, int fine)
{
	char path[CLIENT_PATH_ROOM];
	int res = storage_call(
		&op->agent->storage, method,
		client_path(path, "/v1/snapshots/", spec_text(op->data, "snapshot"), tail), NULL,
		NULL, &op->problem);
	return res == fine ? 0 : res;
}

static int check(struct op *op)
{
	json_t *volume = NULL, *row;
	row = db_row(op->agent->db, "SELECT name FROM image WHERE name = ?", "s",
		     spec_text(op->data, "name"));
	if (row) {
		json_decref(row);
		return problem_set(&op->problem, -EEXIST, "There is an image %.63s already.",
				   spec_text(op->data, "name"));
	}
	int res = storage_volume(&op->agent->storage, spec_text(op->data, "volume"), &volume,
				 &op->problem);
	if (res == 0)
		json_object_set(op->data, "size_bytes", json_object_get(volume, "size_bytes"));
	json_decref(volume);
	return res;
}

static int snapshot(struct op *op)
{
	json_t *body = json_pack("{s:[O]}", "names", json_object_get(op->data, "snapshot"));
	return op_made(op, spec_text(op->data, "snapshot"),
		       storage_call(&op->agent->storage, "POST", "/v1/snapshots", body, NULL,
				    &op->problem));
}
static int snapshot_undo(struct op *op)
{
	if (op_foreign(op, spec_text(op->data, "snapshot")))
		return 0;
	return snapshot_call(op, "DELETE", "", -ENOENT);
}
static int seal(struct op *op)
{
	return snapshot_call(op, "POST", "/seal", 1);
}
static int hold(struct op *op)
{
	return snapshot_call(op, "PUT", HOLD, -EEXIST);
}
static int release(struct op *op)
{
	return snapshot_call(op, "DELETE", HOLD, -ENOENT);
}

static int publish(struct op *op)
{
	json_t *data = op->data;
	int res =
		db_run(op->agent->db,
		       "INSERT OR REPLACE INTO image (name, volume, snapshot, size_bytes, source, "
		       "created) VALUES (?, ?, ?, ?, ?, ?)",
		       "sssisi", spec_text(data, "name"), spec_text(data, "volume"),
		       spec_text(data, "snapshot"), spec_number(data, "size_bytes"),
		       spec_text(data, "source"), agent_now_ns());
	if (res < 0)
		return problem_set(&op->problem, res, "The catalog cannot be written.");
	op->result = json_incref(data);
	agent_event(op->agent, "image.created", spec_text(data, "name"), NULL);
	return 0;
}

static const struct op_step create_steps[] = {
	{"check", check, NULL},	    {"snapshot", snapshot, snapshot_undo},
	{"seal", seal, NULL},	    {"hold", hold, release},
	{"publish", publish, NULL},
};
const struct op_kind op_image_create = {"image.create", create_steps,
					sizeof create_steps / sizeof *create_steps, 4};

static int volume_trash(struct op *op)
{
	return storage_volume_delete(&op->agent->storage, spec_text(op->data, "volume"), false,
				     &op->problem);
}

static int forget(struct op *op)
{
	int res = db_run(op->agent->db, "DELETE FROM image WHERE name = ?", "s",
			 spec_text(op->data, "name"));
	if (res < 0)
		return problem_set(&op->problem, res, "The catalog cannot be written.");
	op->result = json_incref(op->data);
	agent_event(op->agent, "image.deleted", spec_text(op->data, "name"), NULL);
	return 0;
}

static const struct op_step delete_steps[] = {
	{"release", release, hold},
	{"volume", volume_trash, NULL},
	{"forget", forget, NULL},
};
const struct op_kind op_image_delete = {"image.delete", delete_steps,
					sizeof delete_steps / sizeof *delete_steps, 1};
