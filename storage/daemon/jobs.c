/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: long work of the store, and changes that their client did not wait for. What ended is kept
 * for a while, so that it can be asked for; the number kept is bounded, and so are a job's lines.
 */
#include "storage/daemon/daemon.h"

#include "proto/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOBS_MAX 1000u
#define RUNNING_MAX 64u
#define LINES_MAX 1000u
#define RANGES_MAX 10000u

enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };

struct waiter {
	struct waiter *next;
	struct job *job;
	struct http_request *request;
	struct env_timer timer;
};

struct job {
	struct daemon *daemon;
	struct job *next; /* newer ones first */
	uint64_t id, created_wall_ns, ended_wall_ns;
	const char *kind;
	char object[SNAP_NAME_ROOM], other[SNAP_NAME_ROOM], waits[SENTENCE_BYTES];
	enum job_state state;
	bool has_work;
	void (*cancel)(struct job *job, void *state);
	void *cancel_state;
	struct store_work work;
	json_t *lines, *ranges, *error, *result;
	struct waiter *waiters;
};

struct jobs {
	struct job *head;
	uint64_t next_id;
	unsigned count, running;
};

int jobs_new(struct daemon *daemon)
{
	daemon->jobs = calloc(1, sizeof(*daemon->jobs));
	if (!daemon->jobs)
		return -ENOMEM;
	daemon->jobs->next_id = 1;
	return 0;
}

static void job_free(struct job *job)
{
	json_decref(job->lines);
	json_decref(job->ranges);
	json_decref(job->error);
	json_decref(job->result);
	free(job);
}

void jobs_free(struct daemon *daemon)
{
	while (daemon->jobs && daemon->jobs->head) {
		struct job *job = daemon->jobs->head;
		daemon->jobs->head = job->next;
		job_free(job);
	}
	free(daemon->jobs);
	daemon->jobs = NULL;
}

bool jobs_idle(const struct daemon *daemon)
{
	return daemon->jobs->running == 0;
}

unsigned jobs_running(const struct daemon *daemon)
{
	return daemon->jobs->running;
}

/* Forgets the oldest one that has ended. */
static void jobs_trim(struct jobs *jobs)
{
	struct job **oldest = NULL;
	for (struct job **at = &jobs->head; *at; at = &(*at)->next)
		if ((*at)->state != JOB_RUNNING && !(*at)->waiters)
			oldest = at;
	if (!oldest)
		return;
	struct job *job = *oldest;
	*oldest = job->next;
	jobs->count--;
	job_free(job);
}

struct job *job_new(struct daemon *daemon, const char *kind, const char *object)
{
	struct jobs *jobs = daemon->jobs;
	if (jobs->running >= RUNNING_MAX)
		return NULL;
	if (jobs->count >= JOBS_MAX)
		jobs_trim(jobs);
	struct job *job = calloc(1, sizeof(*job));
	if (!job)
		return NULL;
	job->daemon = daemon;
	job->id = jobs->next_id++;
	job->kind = kind;
	job->created_wall_ns = env_wall_ns(daemon->env);
	job->lines = json_array();
	job->ranges = json_array();
	snprintf(job->object, sizeof job->object, "%s", object);
	job->next = jobs->head;
	jobs->head = job;
	jobs->count++;
	jobs->running++;
	return job;
}

struct job *job_find(struct daemon *daemon, uint64_t id)
{
	struct job *job = daemon->jobs->head;
	while (job && job->id != id)
		job = job->next;
	return job;
}

const char *job_object(const struct job *job)
{
	return job->object;
}
struct store *job_store(const struct job *job)
{
	return job->daemon->store;
}
const char *job_other(const struct job *job)
{
	return job->other;
}
void job_set_other(struct job *job, const char *other)
{
	snprintf(job->other, sizeof job->other, "%s", other);
}

/* ---- words ---- */

static const char *const states[] = {"running", "done", "failed", "cancelled"};

json_t *job_json(const struct job *job)
{
	json_t *out =
		json_pack("{s:I, s:s, s:s, s:s, s:I, s:I, s:o}", "id", (json_int_t)job->id, "kind",
			  job->kind, "object", job->object, "state", states[job->state], "progress",
			  (json_int_t)job->work.progress, "total", (json_int_t)job->work.total,
			  "created", time_json(job->created_wall_ns));
	if (job->ended_wall_ns)
		json_object_set_new(out, "ended", time_json(job->ended_wall_ns));
	else if (job->waits[0])
		json_object_set_new(out, "waits", json_string(job->waits));
	if (job->error)
		json_object_set(out, "error", json_object_get(job->error, "error"));
	if (job->result)
		json_object_set(out, "result", job->result);
	json_object_set(out, "lines", job->lines);
	return out;
}

json_t *jobs_json(const struct daemon *daemon)
{
	json_t *array = json_array();
	for (const struct job *job = daemon->jobs->head; job; job = job->next)
		json_array_append_new(array, job_json(job));
	return array;
}

/* ---- waiting ---- */

static void waiter_answer(struct waiter *waiter)
{
	struct job *job = waiter->job;
	for (struct waiter **at = &job->waiters; *at; at = &(*at)->next)
		if (*at == waiter) {
			*at = waiter->next;
			break;
		}
	env_timer_stop(job->daemon->env, &waiter->timer);
	api_reply(waiter->request, 200, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
	free(waiter);
}

static void waiter_timeout(struct env_timer *timer)
{
	waiter_answer(container_of(timer, struct waiter, timer));
}

void job_wait(struct job *job, struct http_request *request, uint64_t timeout_ns)
{
	struct waiter *waiter = job->state == JOB_RUNNING && timeout_ns && !job->daemon->stopping
					? calloc(1, sizeof(*waiter))
					: NULL;
	if (!waiter) {
		api_reply(request, 200, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
		return;
	}
	*waiter = (struct waiter){.next = job->waiters, .job = job, .request = request};
	waiter->timer.fire = waiter_timeout;
	job->waiters = waiter;
	env_timer_start(job->daemon->env, &waiter->timer, timeout_ns);
}

void job_end(struct job *job, int res, const char *sentence, const char *holder, json_t *result)
{
	job->state = res == 0 ? JOB_DONE : res == -VS_ECANCELLED ? JOB_CANCELLED : JOB_FAILED;
	job->ended_wall_ns = env_wall_ns(job->daemon->env);
	if (res < 0)
		job->error = api_error(res, sentence, holder);
	job->result = result;
	job->daemon->jobs->running--;
	while (job->waiters)
		waiter_answer(job->waiters);
}

/* ---- long work ---- */

static void work_report(struct store_work *work, const char *line)
{
	struct job *job = container_of(work, struct job, work);
	if (json_array_size(job->lines) < LINES_MAX)
		json_array_append_new(job->lines, json_string(line));
}

static void work_range(struct store_work *work, uint64_t offset_bytes, uint64_t length_bytes)
{
	struct job *job = container_of(work, struct job, work);
	if (json_array_size(job->ranges) < RANGES_MAX)
		json_array_append_new(job->ranges,
				      json_pack("{s:I, s:I}", "offset_bytes",
						(json_int_t)offset_bytes, "length_bytes",
						(json_int_t)length_bytes));
}

static void work_done(struct io_op *op)
{
	struct job *job = container_of(op, struct job, work.op);
	struct store_work *work = &job->work;
	json_t *result = json_object();
	const char *kind = job->kind;
	if (strcmp(kind, "diff") == 0)
		json_object_set_new(result, "differing_bytes",
				    json_integer((json_int_t)work->differing_bytes));
	if (strcmp(kind, "gc") == 0)
		json_object_set_new(result, "freed_bytes",
				    json_integer((json_int_t)work->freed_bytes));
	if (strcmp(kind, "check") == 0 || strcmp(kind, "verify") == 0 ||
	    strcmp(kind, "scrub") == 0) {
		json_object_set_new(result, "chunks", json_integer((json_int_t)work->chunks));
		json_object_set_new(result, "damaged", json_integer((json_int_t)work->damaged));
		json_object_set_new(result, "mended", json_integer((json_int_t)work->mended));
	}
	if (json_array_size(job->ranges))
		json_object_set(result, "ranges", job->ranges);
	if (op->res == 0)
		work->progress = work->total;
	job_end(job, (int)op->res, work->sentence, "", result);
}

void job_work(struct job *job, void (*start)(struct job *job, struct store_work *work))
{
	job->has_work = true;
	job->work = (struct store_work){
		.op.done = work_done, .report = work_report, .range = work_range};
	start(job, &job->work);
}

void job_progress(struct job *job, uint64_t progress, uint64_t total)
{
	job->work.progress = progress;
	job->work.total = total;
}

void job_waits(struct job *job, const char *sentence)
{
	snprintf(job->waits, sizeof job->waits, "%s", sentence);
}

void job_cancels(struct job *job, void (*cancel)(struct job *job, void *state), void *state)
{
	job->cancel = cancel;
	job->cancel_state = state;
}

int job_cancel(struct job *job)
{
	if (job->state == JOB_RUNNING && job->cancel) {
		job->cancel(job, job->cancel_state);
		return 0;
	}
	if (job->state == JOB_RUNNING && !job->has_work)
		return -EBUSY;
	job->work.cancel = true;
	return 0;
}

void jobs_cancel_all(struct daemon *daemon)
{
	for (struct job *job = daemon->jobs->head; job; job = job->next) {
		if (job->state == JOB_RUNNING)
			job_cancel(job);
		while (job->waiters)
			waiter_answer(job->waiters);
	}
}
