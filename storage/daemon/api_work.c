/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API starts long work of the store, which is always a job, and shows, waits for and cancels
 * jobs.
 */
#include "storage/daemon/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_S_MAX 3600u

static void start_check(struct job *job, struct store_work *work)
{
	store_check(job_store(job), work);
}
static void start_gc(struct job *job, struct store_work *work)
{
	store_gc(job_store(job), work);
}
static void start_recompressing_gc(struct job *job, struct store_work *work)
{
	work->recompress = true;
	store_gc(job_store(job), work);
}
static void start_scrub(struct job *job, struct store_work *work)
{
	store_scrub(job_store(job), work, false);
}
static void start_deep_scrub(struct job *job, struct store_work *work)
{
	store_scrub(job_store(job), work, true);
}
static void start_fold(struct job *job, struct store_work *work)
{
	store_fold(job_store(job), work, job_object(job)[0] ? job_object(job) : NULL);
}
static void start_verify(struct job *job, struct store_work *work)
{
	store_verify(job_store(job), work, job_object(job));
}
static void start_diff(struct job *job, struct store_work *work)
{
	store_diff(job_store(job), work, job_object(job), job_other(job));
}

static void work_start(struct call *call, const char *kind, const char *object, const char *other,
		       void (*start)(struct job *job, struct store_work *work))
{
	struct job *job = job_new(call->daemon, kind, object);
	if (!job) {
		call_refuse(call, -EBUSY, "Too many jobs run; wait for one, or cancel one.");
		return;
	}
	job_set_other(job, other);
	job_work(job, start);
	call_reply(call, 202, json_pack("{s:i, s:o}", "schema", 1, "job", job_json(job)));
}

void check_start(struct call *call)
{
	work_start(call, "check", "", "", start_check);
}
void gc_start(struct call *call)
{
	bool recompress = json_is_true(json_object_get(call->body, "recompress"));
	work_start(call, "gc", "", "", recompress ? start_recompressing_gc : start_gc);
}
void scrub_start(struct call *call)
{
	bool deep = json_is_true(json_object_get(call->body, "deep"));
	work_start(call, "scrub", "", "", deep ? start_deep_scrub : start_scrub);
}
void fold_all_start(struct call *call)
{
	work_start(call, "fold", "", "", start_fold);
}
void fold_start(struct call *call)
{
	work_start(call, "fold", call->args[0], "", start_fold);
}
void verify_start(struct call *call)
{
	work_start(call, "verify", call->args[0], "", start_verify);
}
void diff_start(struct call *call)
{
	work_start(call, "diff", body_text(call, "a"), body_text(call, "b"), start_diff);
}

/* ---- jobs ---- */

void job_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "jobs", jobs_json(call->daemon)));
}

static struct job *call_job(struct call *call)
{
	uint64_t id;
	if (!number_arg(call, &id))
		return NULL;
	struct job *job = job_find(call->daemon, id);
	if (!job)
		call_refuse(call, -ENOENT,
			    "There is no job with this number; it may be long past.");
	return job;
}

void job_show(struct call *call)
{
	struct job *job = call_job(call);
	uint64_t seconds = 0;
	if (!job)
		return;
	const char *wait = strstr(call->request->query, "wait=");
	if (wait)
		seconds = min_u64(strtoull(wait + 5, NULL, 10), WAIT_S_MAX);
	job_wait(job, call->request, seconds * NSEC_PER_SEC);
	call_free(call);
}

void job_stop(struct call *call)
{
	struct job *job = call_job(call);
	if (!job)
		return;
	if (job_cancel(job) < 0) {
		call_refuse(call, -EBUSY, "A change cannot be cancelled once it is under way.");
		return;
	}
	job_wait(job, call->request, 5 * NSEC_PER_SEC);
	call_free(call);
}
