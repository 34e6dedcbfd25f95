/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the daemon with all that a verb wants done about them: the socket, errors said once,
 * exit codes, waiting for jobs. Functions that return int return an exit code, 0 for success. */
#ifndef AGENT_CTL_CALL_H
#define AGENT_CTL_CALL_H

#include "agent/ctl/ctl.h"
#include "agent/client/client.h"
#include "agent/ctl/value.h"

/* Chooses the socket: --host, $VSTORE_HOST, the agent's where one is installed, the daemon's. */
int call_socket(struct ctl *ctl);

/* GET. On success *ret_document is the caller's. */
int call_get(struct ctl *ctl, const char *path, struct value **ret_document);

/* One request of any kind, its answer as it came whatever its status; the caller frees the body.
 * Fails only when there was no answer. */
int call_raw(struct ctl *ctl, const struct client_request *request, struct client_reply *ret_reply);

/* As call_raw, but says nothing: a negative code and a sentence, as client_send. The socket must
 * have been chosen. */
int call_try(struct ctl *ctl, const struct client_request *request, struct client_reply *ret_reply,
	     char ret_sentence[SENTENCE_BYTES]);

/* Makes an error reply into words and an exit code. */
int call_error(const struct ctl *ctl, const struct client_reply *reply);

struct call_change {
	const char *method, *path;
	const struct value *body; /* may be NULL */
	bool wait_as_job; /* it can take long: ask for a job and wait for that, so that Ctrl-C works
			   */
	/* What to say when it is done ("Volume web1 was created."); NULL: nothing. */
	const char *done;
};

/* A change: sends it, waits for its end (or prints the job with --async), prints the document with
 * -o json and the object's name with -o name. ret_document: NULL, or where the answer goes, which
 * with --async is NULL. */
int call_change(struct ctl *ctl, const struct call_change *change, struct value **ret_document);

/* Waits for a job's end and says how it goes on the way. *ret_job is the ended job, the caller's;
 * on failure (no answer, timed out) it is untouched. */
int call_job_wait(struct ctl *ctl, const char *id, struct value **ret_job);

/* Prints an ended job: its lines, what it found, its error. The exit code tells its outcome. */
int call_job_print(const struct ctl *ctl, const struct value *job);

/* The object in an answer: document.object, document.KEY, or the document itself. */
const struct value *call_object(const struct value *document, const char *key);

#endif
