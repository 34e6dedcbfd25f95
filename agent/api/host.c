/* SPDX-License-Identifier: Apache-2.0 */
/* The host: networks, events, the audit log, and jobs of both daemons. */
#include "agent/api/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENTS_MAX 1000
#define WAIT_S_MAX 20 /* of a thread of the pool */
#define AUDIT_LINES 1000

void network_list(struct call *call)
{
	struct virt_result result = {0};
	struct virt_args args = {0};
	int res = virt_do(call->agent->virt, VIRT_NETWORKS, &args, &result, &call->problem);
	if (res < 0) {
		call_fail(call, res);
		return;
	}
	json_t *list = json_loads(result.text, 0, NULL);
	free(result.text);
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "networks", list ? list : json_array()));
}

/* True: something changed before the time was over. */
static bool wait_change(struct agent *agent, const struct timespec *deadline)
{
	return pthread_cond_timedwait(&agent->changed, &agent->lock, deadline) != ETIMEDOUT;
}

static struct timespec wait_deadline(const struct call *call)
{
	struct timespec at;
	int64_t seconds = call_query(call, "wait", 0);
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += seconds < 0 ? 0 : seconds > WAIT_S_MAX ? WAIT_S_MAX : seconds;
	return at;
}

/* ?since=CURSOR&wait=S: what came after, waiting for the first of it. */
void event_list(struct call *call)
{
	struct agent *agent = call->agent;
	struct timespec deadline = wait_deadline(call);
	int64_t since = call_query(call, "since", 0), last = since;
	json_t *rows = NULL, *array = json_array(), *row;
	size_t i;
	pthread_mutex_lock(&agent->lock);
	for (bool more = true; more && !json_array_size(rows);) {
		pthread_mutex_unlock(&agent->lock);
		json_decref(rows);
		rows = db_rows(agent->db,
			       "SELECT * FROM event WHERE cursor > ? ORDER BY cursor LIMIT ?", "ii",
			       since, (int64_t)EVENTS_MAX);
		pthread_mutex_lock(&agent->lock);
		if (!json_array_size(rows))
			more = !agent->stopping && wait_change(agent, &deadline);
	}
	pthread_mutex_unlock(&agent->lock);
	json_array_foreach(rows, i, row) {
		last = spec_number(row, "cursor");
		json_array_append_new(
			array,
			json_pack("{s:I, s:o, s:s, s:s, s:o}", "cursor", (json_int_t)last, "time",
				  time_json((uint64_t)spec_number(row, "time")), "kind",
				  spec_text(row, "kind"), "object", spec_text(row, "object"),
				  "detail", db_json(row, "detail")));
	}
	json_decref(rows);
	call_reply(call, 200,
		   json_pack("{s:i, s:o, s:I}", "schema", 1, "events", array, "cursor",
			     (json_int_t)last));
}

void audit_show(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "audit",
			     audit_list(call->agent->db, AUDIT_LINES)));
}

void audit_check(struct call *call)
{
	int64_t count = 0;
	int res = audit_verify(call->agent->db, &count, &call->problem);
	if (res < 0)
		call_fail(call, res);
	else
		call_reply(call, 200,
			   json_pack("{s:i, s:I}", "schema", 1, "lines", (json_int_t)count));
}

/* ---- jobs: ours are a1, a2 ..., vstored's are numbers ---- */

void job_list(struct call *call)
{
	json_t *document = NULL, *array = json_array(), *rows, *row;
	struct problem problem = {0};
	size_t i;
	rows = db_rows(call->agent->db, "SELECT * FROM operation ORDER BY id DESC", "");
	json_array_foreach(rows, i, row)
		json_array_append_new(array, op_json(row));
	json_decref(rows);
	if (storage_call(&call->agent->storage, "GET", "/v1/jobs", NULL, &document, &problem) == 0)
		json_array_extend(array, json_object_get(document, "jobs"));
	json_decref(document);
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "jobs", array));
}

static bool row_ended(const json_t *row)
{
	return spec_number(row, "ended") != 0;
}

void job_show(struct call *call)
{
	struct agent *agent = call->agent;
	struct timespec deadline = wait_deadline(call);
	json_t *row = NULL;
	if (call->args[0][0] != 'a') {
		call_forward(call);
		return;
	}
	int64_t id = strtoll(call->args[0] + 1, NULL, 10);
	pthread_mutex_lock(&agent->lock);
	for (bool more = true; more;) {
		pthread_mutex_unlock(&agent->lock);
		json_decref(row);
		row = op_row(agent, id);
		pthread_mutex_lock(&agent->lock);
		more = row && !row_ended(row) && !agent->stopping && wait_change(agent, &deadline);
	}
	pthread_mutex_unlock(&agent->lock);
	if (!row) {
		problem_set(&call->problem, -ENOENT, "There is no job %.20s; it may be long past.",
			    call->args[0]);
		call_fail(call, -ENOENT);
		return;
	}
	call_reply(call, 200, json_pack("{s:i, s:o}", "schema", 1, "job", op_json(row)));
	json_decref(row);
}

void job_stop(struct call *call)
{
	if (call->args[0][0] != 'a') {
		call_forward(call);
		return;
	}
	problem_set(&call->problem, -EBUSY,
		    "A VM's change cannot be cancelled once it is under way.");
	call_fail(call, -EBUSY);
}
