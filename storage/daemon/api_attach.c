/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaching, detaching, fencing. A lease is durable in the store before its socket is served; its
 * socket is gone, and nothing that came by it can land any more, before the lease ends.
 *
 *   PUT .../attachment      lease in the store -> socket -> answer
 *   DELETE .../attachment   socket and connections -> lease in the store -> answer
 *   POST .../fence          the same, whoever has it
 */
#include "storage/daemon/call.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void attachment_list(struct call *call)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:o}", "schema", 1, "attachments",
			     attachments_json(call->daemon)));
}

static void reply_changed(struct call *call, json_t *object)
{
	call_reply(call, 200,
		   json_pack("{s:i, s:b, s:o}", "schema", 1, "changed", 1, "object", object));
}

static void reply_failed(struct call *call, int res)
{
	call_reply(call, api_status(res), api_error(res, call->op.sentence, call->op.holder));
}

static struct call *call_of(struct io_op *op)
{
	return container_of(op, struct call, op.op);
}

static uint32_t body_uid(const struct call *call)
{
	return (uint32_t)min_u64(body_number(call, "uid"), UINT32_MAX);
}

/* ---- attach ---- */

static void lease_taken(struct io_op *op)
{
	struct call *call = call_of(op);
	struct daemon *daemon = call->daemon;
	struct volume_info info;
	int res = (int)op->res;
	log_event(LOG_LEVEL_INFO, "volume.attach", "volume=%s holder=%.36s result=%d",
		  call->args[0], body_text(call, "holder"), res);
	if (res < 0) {
		reply_failed(call, res);
		return;
	}
	res = daemon_volume(daemon, call->args[0], &info);
	if (res == 0 && !daemon->stopping)
		res = attachment_serve(daemon, &info, body_uid(call));
	if (res == 0) {
		reply_changed(call, attachment_json(daemon, &info));
		return;
	}
	/* The lease stays: the holder may ask again, or detach. */
	snprintf(call->op.sentence, SENTENCE_BYTES,
		 "The socket for volume %.63s cannot be made%s: %s.", call->args[0],
		 res == -ENOTSUP ? ", for its folder has no access lists; let --run be on tmpfs, "
				   "ext4 or xfs"
				 : "",
		 vs_strerror(res));
	reply_failed(call, res);
}

void attachment_make(struct call *call)
{
	const char *holder = body_text(call, "holder");
	uint8_t uuid[16];
	char other[NAME_ROOM], sentence[SENTENCE_BYTES];
	call->op = (struct admin_op){.op.done = lease_taken};
	if (text_uuid_parse(holder, uuid) < 0 || !body_text(call, "holder_name")[0] ||
	    body_uid(call) == UINT32_MAX) {
		call_refuse(call, -EINVAL,
			    "An attachment needs 'holder', a UUID, 'holder_name', a name, and "
			    "may have 'uid', the user that may open its socket.");
	} else if (attachment_user_free(call->daemon, holder, body_uid(call), other) < 0) {
		snprintf(sentence, sizeof sentence,
			 "User %u may open the sockets of %s already, and two holders cannot share "
			 "one: choose another uid.",
			 body_uid(call), other);
		call_reply(call, api_status(-EEXIST), api_error(-EEXIST, sentence, other));
	} else {
		store_lease_take(call->daemon->store, &call->op, call->args[0], uuid,
				 body_text(call, "holder_name"));
	}
}

/* ---- detach, fence ---- */

static void lease_ended(struct io_op *op)
{
	struct call *call = call_of(op);
	log_event(LOG_LEVEL_INFO, "volume.detach", "volume=%s holder=%.36s result=%d",
		  call->args[0], body_text(call, "holder"), (int)op->res);
	if (op->res < 0)
		reply_failed(call, (int)op->res);
	else
		reply_changed(call, json_object());
}

static void holder_cut(struct io_op *op)
{
	struct call *call = call_of(op);
	uint8_t uuid[16];
	text_uuid_parse(body_text(call, "holder"), uuid);
	call->op = (struct admin_op){.op.done = lease_ended};
	store_lease_end(call->daemon->store, &call->op, call->args[0], uuid);
}

/* The volume, when the request's holder has its lease; else it is refused. */
static bool call_held(struct call *call, struct volume_info *ret)
{
	uint8_t uuid[16];
	char sentence[SENTENCE_BYTES];
	if (text_uuid_parse(body_text(call, "holder"), uuid) == 0 &&
	    daemon_volume(call->daemon, call->args[0], ret) == 0 && ret->lease.holder_name[0] &&
	    memcmp(uuid, ret->lease.holder, sizeof uuid) == 0)
		return true;
	snprintf(sentence, sizeof sentence, "Volume %.63s is not attached to that holder.",
		 call->args[0]);
	call_refuse(call, -ENOENT, sentence);
	return false;
}

void attachment_end(struct call *call)
{
	struct volume_info info;
	if (!call_held(call, &info))
		return;
	call->op = (struct admin_op){.op.done = holder_cut};
	attachment_cut(call->daemon, info.number, &call->op.op);
}

void attachment_again(struct call *call)
{
	struct volume_info info;
	if (!call_held(call, &info))
		return;
	int res = attachment_reconnect(call->daemon, info.number);
	log_event(LOG_LEVEL_INFO, "volume.reconnect", "volume=%s holder=%.36s result=%d",
		  call->args[0], body_text(call, "holder"), res);
	if (res < 0)
		call_refuse(call, res, "Its holder has no socket here.");
	else
		reply_changed(call, json_object());
}

static void fence_ended(struct io_op *op)
{
	struct call *call = call_of(op);
	if (op->res < 0)
		reply_failed(call, (int)op->res);
	else
		reply_changed(call, json_pack("{s:s, s:s}", "volume", call->args[0], "holder_name",
					      call->shown));
}

static void fence_cut(struct io_op *op)
{
	struct call *call = call_of(op);
	call->op = (struct admin_op){.op.done = fence_ended};
	store_lease_end(call->daemon->store, &call->op, call->args[0], NULL);
}

void volume_fence(struct call *call)
{
	struct volume_info info;
	char sentence[SENTENCE_BYTES];
	int res = daemon_volume(call->daemon, call->args[0], &info);
	if (res < 0 || !info.lease.holder_name[0]) {
		snprintf(sentence, sizeof sentence,
			 res < 0 ? "There is no volume %.63s; vstorectl volume list shows what "
				   "there is."
				 : "Nobody has a lease of volume %.63s: there is nothing to break.",
			 call->args[0]);
		call_refuse(call, -ENOENT, sentence);
		return;
	}
	log_event(LOG_LEVEL_WARNING, "volume.fence", "volume=%s holder=%s generation=%llu uid=%u",
		  info.name, info.lease.holder_name, (unsigned long long)info.lease.generation,
		  call->request->uid);
	snprintf(call->shown, sizeof call->shown, "%s", info.lease.holder_name);
	call->op = (struct admin_op){.op.done = fence_cut};
	attachment_cut(call->daemon, info.number, &call->op.op);
}
