/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for jobs and telling their outcome. A job is the daemon's: it goes on when we time out,
 * are interrupted or lose the connection, and each of these says how to find it again.
 */
#include "agent/ctl/call.h"

#include "agent/ctl/progress.h"
#include "agent/ctl/table.h"
#include "proto/text.h"
#include "proto/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define JOB_POLL_MS 200	   /* between questions to a daemon that does not hold the answer back */
#define JOB_QUICK_ROUNDS 4 /* of them, so that a short job ends at once */
#define JOB_QUICK_MS 10

static bool job_ended(const struct value *job)
{
	return strcmp(value_get_text(job, "state"), "running") != 0;
}

static void job_pause(int ms)
{
	struct timespec pause = {.tv_nsec = ms * (long)NSEC_PER_MSEC};
	nanosleep(&pause, NULL); /* a signal may end it early: the caller looks */
}

static bool job_in_bytes(const struct value *job)
{
	static const char *const kinds[] = {"gc", "check", "verify", "diff"};
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strcmp(value_get_text(job, "kind"), kinds[i]) == 0)
			return true;
	return false;
}

/* vstore-agent's own (a1, a2 ...) run to their end, or are undone, by themselves. */
static bool job_can_be_cancelled(const char *id)
{
	return *id != 'a';
}

/* Ctrl-C and --timeout, while the job runs. */
static int job_leave(const struct ctl *ctl, const char *id)
{
	if (ctl_interrupted) {
		bool cancel = job_can_be_cancelled(id);
		ctl_say(ctl, "Job %s goes on. Wait for it with: vstorectl job wait %s%s%s", id, id,
			cancel ? "   cancel it with: vstorectl job cancel " : "", cancel ? id : "");
		ctl_die_of_signal();
	}
	return ctl_fail(
		ctl, CTL_TIMED_OUT,
		"Job %s did not end in time; it goes on. Wait for it with: vstorectl job wait %s",
		id, id);
}

/* One look at the job; the daemon may hold its answer back for a second. */
static int job_look(struct ctl *ctl, const char *id, struct progress *progress,
		    struct value **ret_job)
{
	char path[CLIENT_PATH_ROOM], sentence[SENTENCE_BYTES];
	struct client_reply reply;
	struct client_request request = {.method = "GET",
					 .path = client_path(path, "/v1/jobs/", id, "?wait=1"),
					 .timeout_ms = -1};
	int res = call_socket(ctl);
	if (res)
		return res;
	res = call_try(ctl, &request, &reply, sentence);
	if (res < 0 || reply.status != 200)
		progress_done(progress); /* words follow */
	if (res == -EINTR || (res == -ETIMEDOUT && ctl_left_ms(ctl) == 0))
		return job_leave(ctl, id);
	if (res < 0)
		return ctl_fail(ctl, ctl_exit_of_err(res), "%s It was waiting for job %s.",
				sentence, id);
	if (reply.status != 200) {
		res = call_error(ctl, &reply);
		free(reply.body);
		return res;
	}
	VALUE_AUTO document = value_parse(reply.body, reply.body_bytes);
	free(reply.body);
	*ret_job = value_ref(call_object(document, "job"));
	return 0;
}

/* Says once what the job waits for, when it does. */
static void job_waits(const struct ctl *ctl, const char *id, const struct value *job,
		      struct progress *progress, char told[SENTENCE_BYTES])
{
	const char *waits = value_get_text(job, "waits");
	if (!*waits || strcmp(told, waits) == 0)
		return;
	snprintf(told, SENTENCE_BYTES, "%s", waits);
	progress_done(progress);
	if (job_can_be_cancelled(id))
		ctl_say(ctl, "%s Cancel it with: vstorectl job cancel %s", waits, id);
	else
		ctl_say(ctl, "Job %s waits: %s", id, waits);
}

int call_job_wait(struct ctl *ctl, const char *id, struct value **ret_job)
{
	char what[64] = "", told[SENTENCE_BYTES] = "";
	struct progress progress;
	progress_init(&progress, ctl, what, false);
	for (unsigned round = 0;; round++) {
		uint64_t asked_ns = ctl_now_ns();
		VALUE_AUTO job = NULL;
		if (ctl_interrupted || ctl_left_ms(ctl) == 0) {
			progress_done(&progress);
			return job_leave(ctl, id);
		}
		int res = job_look(ctl, id, &progress, &job);
		if (res)
			return res;
		if (job_ended(job)) {
			progress_done(&progress);
			*ret_job = job;
			job = NULL;
			return 0;
		}
		job_waits(ctl, id, job, &progress, told);
		snprintf(what, sizeof what, "%.40s", value_get_text(job, "kind"));
		progress.bytes = job_in_bytes(job);
		progress_at(&progress, (uint64_t)value_get_integer(job, "progress"),
			    (uint64_t)value_get_integer(job, "total"));
		/* It did not hold the answer back: do not ask in a circle. */
		if (ctl_now_ns() - asked_ns < JOB_POLL_MS * NSEC_PER_MSEC)
			job_pause(round < JOB_QUICK_ROUNDS ? JOB_QUICK_MS : JOB_POLL_MS);
	}
}

static int job_failed(const struct ctl *ctl, const struct value *job)
{
	const struct value *inner = value_get(job, "error");
	const char *word = value_get_text(inner, "code");
	char own[160], id[64];
	struct ctl_error error = {
		.code = ctl_exit_of(0, word),
		.word = *word ? word : NULL,
		.message = value_get_text(inner, "message"),
		.hint = value_get_text(inner, "hint"),
		.holder = value_get_text(inner, "holder"),
	};
	if (!*error.message)
		error.message = value_text(inner);
	if (!*error.message) {
		snprintf(own, sizeof own, "Job %s %s.",
			 value_plain(value_get(job, "id"), id, sizeof id),
			 value_get_text(job, "state"));
		error.message = own;
	}
	return ctl_fail_with(ctl, &error);
}

/* The one line of figures for a person. */
static void job_summary(const struct ctl *ctl, const struct value *job)
{
	char text[32];
	const struct value *result = value_get(job, "result");
	const char *kind = value_get_text(job, "kind");
	int64_t damaged = value_get_integer(result, "damaged");
	if (strcmp(kind, "send") == 0 && value_get_integer(result, "sent") == 0)
		ctl_say(ctl, "No chunk had to be sent: the peer had all of them.");
	else if (strcmp(kind, "send") == 0)
		ctl_say(ctl, "%" PRId64 " chunks were sent, %s in all; %" PRId64 " were there.",
			value_get_integer(result, "sent"),
			text_human((uint64_t)value_get_integer(result, "sent_bytes"), text,
				   sizeof text),
			value_get_integer(result, "found"));
	if (value_get(result, "freed_bytes"))
		ctl_say(ctl, "%s were freed.",
			text_human((uint64_t)value_get_integer(result, "freed_bytes"), text,
				   sizeof text));
	if (value_get_integer(result, "mended") > 0)
		ctl_say(ctl, "%" PRId64 " damaged records have a whole copy, here or from a peer.",
			value_get_integer(result, "mended"));
	else if (value_get(result, "damaged") && damaged == 0)
		ctl_say(ctl, "%" PRId64 " chunks were read, no damage was found.",
			value_get_integer(result, "chunks"));
	if (damaged > 0)
		ctl_say(ctl,
			"%" PRId64 " damaged of %" PRId64
			" chunks. Restore what the lines above name from a "
			"snapshot or replica; do not delete the store.",
			damaged, value_get_integer(result, "chunks"));
	if (value_get(result, "differing_bytes"))
		ctl_say(ctl, "%s differ.",
			text_human((uint64_t)value_get_integer(result, "differing_bytes"), text,
				   sizeof text));
	if (!value_is_object(result) && strcmp(kind, "check") == 0)
		ctl_say(ctl, "The check ended and reported no figures.");
}

int call_job_print(const struct ctl *ctl, const struct value *job)
{
	const struct value *result = value_get(job, "result");
	const struct value *lines = value_get(job, "lines");
	const char *state = value_get_text(job, "state");
	bool failed = strcmp(state, "done") != 0;
	if (ctl->format == FORMAT_JSON && !failed)
		table_print_job(ctl, job);
	for (size_t i = 0; ctl->format != FORMAT_JSON && i < value_count(lines); i++)
		table_print_line(value_text(value_at(lines, i)));
	if (value_is_array(value_get(result, "ranges")) && ctl->format != FORMAT_JSON)
		table_print_ranges(ctl, value_get(result, "ranges"));
	if (failed)
		return job_failed(ctl, job);
	job_summary(ctl, job);
	if (value_get_integer(result, "damaged") > 0)
		return CTL_DAMAGED;
	if (value_get_integer(result, "differing_bytes") > 0)
		return CTL_DIFFERENT;
	return CTL_OK;
}
