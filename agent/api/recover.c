/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vstore-agent --recover: a catalog from a store alone. VMs come from the definitions in their meta
 * volumes, images and snapshots of VMs from the holds that the agent put on their members. What was
 * only in the catalog (events, audit, jobs) is lost.
 */
#include "agent/api/watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool ends_with(const char *text, const char *end)
{
	size_t a = strlen(text), b = strlen(end);
	return a > b && strcmp(text + a - b, end) == 0;
}

static bool held_by(const json_t *snapshot, const char *tag)
{
	json_t *one;
	size_t i;
	json_array_foreach(json_object_get(snapshot, "holds"), i, one)
		if (strcmp(json_string_value(one), tag) == 0)
			return true;
	return false;
}

static int recover_vm(struct agent *agent, const char *volume)
{
	json_t *spec = NULL;
	struct problem problem = {0};
	int res = meta_read(&agent->storage, volume, &spec, &problem);
	if (res == -VS_EFORMAT)
		return 0; /* another's volume that happens to have such a name */
	if (res == 0 && strcmp(spec_text(spec, "meta"), volume) != 0)
		printf("VM %s: its definition lies in %s; it was renamed by hand.\n",
		       spec_text(spec, "name"), volume);
	if (res == 0)
		res = db_run(agent->db,
			     "INSERT INTO vm (uuid, name, state, generation, spec, created) VALUES "
			     "(?, ?, 'ready', ?, ?, ?)",
			     "ssiji", spec_text(spec, "uuid"), spec_text(spec, "name"),
			     spec_number(spec, "generation"), spec, agent_now_ns());
	if (res < 0)
		printf("%s: %s\n", volume,
		       problem.sentence[0] ? problem.sentence : vs_strerror(res));
	else
		printf("VM %s, %zu disks\n", spec_text(spec, "name"),
		       json_array_size(json_object_get(spec, "disks")));
	json_decref(spec);
	return res < 0 ? res : 1;
}

static void recover_image(struct agent *agent, const json_t *snapshot)
{
	char full[HOLDER_ROOM];
	const char *volume = spec_text(snapshot, "volume"), *name = volume;
	if (strncmp(name, "image-", 6) == 0)
		name += 6;
	snprintf(full, sizeof full, "%.62s@image", volume);
	db_run(agent->db,
	       "INSERT OR IGNORE INTO image (name, volume, snapshot, size_bytes, source, created) "
	       "VALUES (?, ?, ?, ?, 'recovered', ?)",
	       "sssii", name, volume, full, spec_number(snapshot, "size_bytes"), agent_now_ns());
	printf("image %s\n", name);
}

static void recover_snapshot(struct agent *agent, const json_t *snapshot)
{
	char *owner = vm_of_volume(agent, spec_text(snapshot, "volume"));
	struct problem problem = {0};
	struct vm vm;
	if (!owner || vm_get(agent, owner, &vm, &problem) < 0) {
		free(owner);
		return;
	}
	db_run(agent->db,
	       "INSERT OR IGNORE INTO vm_snapshot (vm, name, consistency, frozen_ms, spec, "
	       "created) "
	       "VALUES (?, ?, 'recovered', 0, ?, ?)",
	       "ssji", vm.uuid, spec_text(snapshot, "name"), vm.spec, agent_now_ns());
	vm_free(&vm);
	free(owner);
}

int recover_run(struct agent *agent, struct problem *problem)
{
	json_t *document = NULL, *one, *row = db_row(agent->db, "SELECT count(*) AS n FROM vm", "");
	int64_t there = spec_number(row, "n");
	size_t i;
	json_decref(row);
	if (there)
		return problem_set(
			problem, -EEXIST,
			"The catalog has %lld VMs; --recover is for an empty one: move the "
			"old file away first.",
			(long long)there);
	int res = storage_call(&agent->storage, "GET", "/v1/volumes", NULL, &document, problem);
	json_array_foreach(json_object_get(document, "volumes"), i, one)
		if (ends_with(spec_text(one, "name"), "-meta"))
			recover_vm(agent, spec_text(one, "name"));
	json_decref(document);
	document = NULL;
	if (res == 0)
		res = storage_call(&agent->storage, "GET", "/v1/snapshots", NULL, &document,
				   problem);
	json_array_foreach(json_object_get(document, "snapshots"), i, one) {
		if (held_by(one, "image") && strcmp(spec_text(one, "name"), "image") == 0)
			recover_image(agent, one);
		if (held_by(one, "vm"))
			recover_snapshot(agent, one);
	}
	json_decref(document);
	return res;
}
