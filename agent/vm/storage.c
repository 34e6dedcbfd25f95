/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to vstored. Nothing is retried but what is known to end soon: a volume whose last
 * connection is going away. */
#include "agent/vm/storage.h"

#include "agent/client/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALL_MS 120000		    /* a clone waits for its snapshot's fold */
#define ROOM_BYTES_LEAST (32 << 20) /* the largest write of a guest */
#define LEAVE_TRIES 50u
#define LEAVE_PAUSE_NS 100000000L

int problem_set(struct problem *problem, int code, const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(problem->sentence, sizeof problem->sentence, format, list);
	va_end(list);
	return code;
}

int storage_forward(const struct storage *storage, const char *method, const char *path,
		    const char *body, bool async, long *ret_status, char **ret_text,
		    size_t *ret_bytes, struct problem *problem)
{
	struct client_reply reply;
	struct client_request request = {.method = method,
					 .path = path,
					 .body = body,
					 .async = async,
					 .timeout_ms = CALL_MS};
	struct client *client = client_new(storage->socket, NULL);
	if (!client)
		return problem_set(problem, -ENOMEM, "There is not enough memory.");
	int res = client_send(client, &request, &reply, problem->sentence);
	client_free(client);
	if (res == -ECONNREFUSED)
		return problem_set(problem, res,
				   "vstored does not answer on %.100s: start it (systemctl start "
				   "vstored), then try again.",
				   storage->socket);
	if (res < 0)
		return res;
	*ret_status = reply.status;
	*ret_text = reply.body;
	*ret_bytes = reply.body_bytes;
	return 0;
}

static int reply_problem(const json_t *document, long status, struct problem *problem)
{
	const json_t *error = json_object_get(document, "error");
	const char *code = json_string_value(json_object_get(error, "code"));
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *holder = json_string_value(json_object_get(error, "holder"));
	snprintf(problem->holder, sizeof problem->holder, "%s", holder ? holder : "");
	if (message)
		problem_set(problem, 0, "%s", message);
	else
		problem_set(problem, 0, "vstored answered with status %ld and no explanation.",
			    status);
	return code ? -vs_errcode(code) : -EIO;
}

int storage_call(const struct storage *storage, const char *method, const char *path, json_t *body,
		 json_t **ret_document, struct problem *problem)
{
	long status = 0;
	char *text = NULL, *sent = body ? json_dumps(body, JSON_COMPACT) : NULL;
	size_t bytes = 0;
	json_decref(body);
	int res = storage_forward(storage, method, path, sent, false, &status, &text, &bytes,
				  problem);
	free(sent);
	if (res < 0)
		return res;
	json_t *document = json_loadb(text, bytes, 0, NULL);
	free(text);
	if (status < 200 || status >= 300)
		res = reply_problem(document, status, problem);
	if (res == 0 && ret_document)
		*ret_document = json_incref(document);
	json_decref(document);
	return res;
}

/* A change whose answer is {"object": ...}. */
static int change(const struct storage *storage, const char *method, const char *path, json_t *body,
		  json_t **ret_object, struct problem *problem)
{
	json_t *document = NULL;
	int res = storage_call(storage, method, path, body, &document, problem);
	if (res == 0 && ret_object)
		*ret_object = json_incref(json_object_get(document, "object"));
	json_decref(document);
	return res;
}

bool storage_no_room(const json_t *store)
{
	const json_t *room = json_object_get(store, "room_bytes");
	return json_integer_value(json_object_get(store, "full")) ||
	       (room && json_integer_value(room) < ROOM_BYTES_LEAST);
}

int storage_volume(const struct storage *storage, const char *name, json_t **ret_volume,
		   struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	return storage_call(storage, "GET", client_path(path, "/v1/volumes/", name, ""), NULL,
			    ret_volume, problem);
}

int storage_volume_create(const struct storage *storage, const char *name, uint64_t size_bytes,
			  json_t **ret_volume, struct problem *problem)
{
	return change(storage, "POST", "/v1/volumes",
		      json_pack("{s:s, s:I}", "name", name, "size_bytes", (json_int_t)size_bytes),
		      ret_volume, problem);
}

int storage_volume_clone(const struct storage *storage, const char *snapshot, const char *name,
			 json_t **ret_volume, struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	return change(storage, "POST", client_path(path, "/v1/snapshots/", snapshot, "/clone"),
		      json_pack("{s:s}", "name", name), ret_volume, problem);
}

static int volume_patch(const struct storage *storage, const char *name, json_t *body,
			struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	return change(storage, "PATCH", client_path(path, "/v1/volumes/", name, ""), body, NULL,
		      problem);
}

int storage_volume_grow(const struct storage *storage, const char *name, uint64_t size_bytes,
			struct problem *problem)
{
	return volume_patch(storage, name, json_pack("{s:I}", "size_bytes", (json_int_t)size_bytes),
			    problem);
}

int storage_volume_rename(const struct storage *storage, const char *name, const char *new_name,
			  struct problem *problem)
{
	return volume_patch(storage, name, json_pack("{s:s}", "name", new_name), problem);
}

int storage_volume_delete(const struct storage *storage, const char *name, bool purge,
			  struct problem *problem)
{
	char path[CLIENT_PATH_ROOM], number[32];
	json_t *object = NULL;
	int res = -EBUSY;
	for (unsigned i = 0; i < LEAVE_TRIES && res == -EBUSY; i++) {
		const struct timespec pause = {.tv_nsec = LEAVE_PAUSE_NS};
		if (i)
			nanosleep(&pause, NULL);
		res = change(storage, "DELETE", client_path(path, "/v1/volumes/", name, ""), NULL,
			     &object, problem);
	}
	if (res == 0 && purge) {
		snprintf(number, sizeof number, "%lld",
			 (long long)json_integer_value(json_object_get(object, "trash_id")));
		res = change(storage, "DELETE", client_path(path, "/v1/trash/", number, ""), NULL,
			     NULL, problem);
	}
	json_decref(object);
	return res == -ENOENT ? 0 : res;
}

/* Who writes without a lease: our own seeds and definitions among them, for a moment. */
static bool passing(const struct problem *problem)
{
	return strcmp(problem->holder, "an NBD client") == 0;
}

int storage_attach(const struct storage *storage, const char *volume, const char *holder,
		   const char *holder_name, uint32_t uid, char ret_socket[128],
		   struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	json_t *object = NULL;
	int res = -EBUSY;
	for (unsigned i = 0; i < LEAVE_TRIES && res == -EBUSY && (!i || passing(problem)); i++) {
		const struct timespec pause = {.tv_nsec = LEAVE_PAUSE_NS};
		if (i)
			nanosleep(&pause, NULL);
		res = change(storage, "PUT",
			     client_path(path, "/v1/volumes/", volume, "/attachment"),
			     json_pack("{s:s, s:s, s:I}", "holder", holder, "holder_name",
				       holder_name, "uid", (json_int_t)uid),
			     &object, problem);
	}
	const char *socket = json_string_value(json_object_get(object, "socket"));
	if (res == 0 && (!socket || strlen(socket) >= 128))
		res = problem_set(problem, -EIO, "vstored named no socket for volume %s.", volume);
	if (res == 0)
		snprintf(ret_socket, 128, "%s", socket);
	json_decref(object);
	return res;
}

int storage_limit(const struct storage *storage, const char *volume, const json_t *limits,
		  struct problem *problem)
{
	const char *key;
	json_t *value;
	int res = 0;
	json_object_foreach((json_t *)limits, key, value)
		if (res == 0)
			res = volume_patch(storage, volume, json_pack("{s:O}", key, value),
					   problem);
	return res;
}

static const json_t *lease_find(const json_t *attachments, const char *volume)
{
	json_t *one;
	size_t i;
	json_array_foreach(attachments, i, one) {
		if (strcmp(json_string_value(json_object_get(one, "volume")), volume) == 0)
			return one;
	}
	return NULL;
}

const char *storage_other_holder(const json_t *attachments, const char *holder, const char *volume)
{
	const json_t *lease = lease_find(attachments, volume);
	return lease && strcmp(json_string_value(json_object_get(lease, "holder")), holder) != 0
		       ? json_string_value(json_object_get(lease, "holder_name"))
		       : NULL;
}

bool storage_holds(const json_t *attachments, const char *holder, const char *volume)
{
	return lease_find(attachments, volume) &&
	       !storage_other_holder(attachments, holder, volume);
}

static int lease_check(const json_t *attachments, const char *holder, const json_t *disk,
		       struct problem *problem)
{
	const char *volume = json_string_value(json_object_get(disk, "volume"));
	const json_t *lease = lease_find(attachments, volume);
	const char *other = storage_other_holder(attachments, holder, volume);
	if (!lease)
		return problem_set(problem, -VS_EFENCED,
				   "The lease of volume %.63s was broken (volume fence): stop the "
				   "VM and start it, if it is to have the disk again.",
				   volume);
	if (other) {
		snprintf(problem->holder, sizeof problem->holder, "%s", other);
		return problem_set(problem, -VS_EFENCED,
				   "The lease of volume %.63s was broken, and %.63s has it now: "
				   "this VM must be stopped.",
				   volume, problem->holder);
	}
	if (!json_equal(json_object_get(lease, "socket"), json_object_get(disk, "socket")))
		return problem_set(problem, -VS_EFENCED,
				   "The lease of volume %.63s was broken and taken anew: stop the "
				   "VM and start it.",
				   volume);
	return 0;
}

int storage_attachments(const struct storage *storage, json_t **ret_list, struct problem *problem)
{
	json_t *document = NULL;
	int res = storage_call(storage, "GET", "/v1/attachments", NULL, &document, problem);
	if (res == 0)
		*ret_list = json_incref(json_object_get(document, "attachments"));
	json_decref(document);
	return res;
}

int storage_leases(const json_t *attachments, const char *holder, const json_t *disks,
		   struct problem *problem)
{
	json_t *disk;
	size_t i;
	int res = 0;
	json_array_foreach(disks, i, disk)
		if (res == 0)
			res = lease_check(attachments, holder, disk, problem);
	return res;
}

int storage_detach(const struct storage *storage, const char *volume, const char *holder,
		   struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	int res =
		change(storage, "DELETE", client_path(path, "/v1/volumes/", volume, "/attachment"),
		       json_pack("{s:s}", "holder", holder), NULL, problem);
	return res == -ENOENT ? 0 : res;
}

int storage_reconnect(const struct storage *storage, const char *volume, const char *holder,
		      struct problem *problem)
{
	char path[CLIENT_PATH_ROOM];
	int res = change(storage, "POST",
			 client_path(path, "/v1/volumes/", volume, "/attachment/reconnect"),
			 json_pack("{s:s}", "holder", holder), NULL, problem);
	return res == -ENOENT ? 0 : res;
}
