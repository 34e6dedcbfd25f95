/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conventions that the APIs of vstored and vstore-agent share: routes are a table, a body's
 * unknown keys are refused by name, an error is {"error": {code, message, hint, holder}}.
 * Any thread.
 */
#ifndef STORAGE_CONTROL_API_H
#define STORAGE_CONTROL_API_H

#include "proto/units.h"
#include "storage/control/http.h"

#include <jansson.h>

#define API_ARGS_MAX 3u				/* "{}" in a path */
#define API_ARG_ROOM (2u * NAME_BYTES_MAX + 2u) /* VOLUME@SNAP */

struct call; /* a request on its way: each daemon's own */

struct api_route {
	const char *method, *path; /* "{}" stands for one name */
	void (*handle)(struct call *call);
	/* What a body may have, between spaces: " name " is a text, " cpu# " a whole number,
	 * " start? " true or false, " disks[] " a list. */
	const char *keys;
};

/* Finds the route of a request, the names in its path and its body (an object, the caller's).
 * Returns 0, or the HTTP status to answer with the sentence. */
int api_find(const struct api_route *routes, size_t count, const struct http_request *request,
	     char ret_args[API_ARGS_MAX][API_ARG_ROOM], const struct api_route **ret_route,
	     json_t **ret_body, char ret_sentence[SENTENCE_BYTES]);

int api_status(int code); /* HTTP's for a negative code */
/* `sentence` "": the code's own words. */
json_t *api_error(int code, const char *sentence, const char *holder);
void api_reply(struct http_request *request, int status, json_t *body); /* takes body */

/* One part of a path or query, percent-decoded; false: empty, too long, or a broken escape. */
bool api_decode(const char *from, size_t bytes, char out[API_ARG_ROOM]);

json_t *time_json(uint64_t wall_ns); /* RFC 3339, UTC */

#endif
