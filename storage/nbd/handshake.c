/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake: our greeting, the client's flags, options one at a time.
 *
 * Keeps true: an option is judged only when all of it is there, and at most OPTION_BYTES_MAX of it
 * are ever read; its answer has left before the next one is looked at; a refused option changes
 * nothing, except that a refused SET_META_CONTEXT forgets what was set, as the protocol demands.
 */
#include "storage/nbd/conn.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"
#include "storage/store/store_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ALLOCATION_CONTEXT 1u /* the id that we give to base:allocation */

/* ---- building answers ---- */

/* Room for `bytes` more at the end of the answer; false: no memory, and the connection ends. */
static bool out_room(struct conn *conn, size_t bytes, struct cursor *ret)
{
	if (conn->out_room - conn->out_bytes < bytes) {
		size_t room = 2 * conn->out_room + bytes + 256;
		uint8_t *out = realloc(conn->out, room);
		if (!out) {
			conn_die(conn, false, "there is no memory to answer it");
			return false;
		}
		conn->out = out;
		conn->out_room = room;
	}
	*ret = cursor_over(conn->out + conn->out_bytes, bytes);
	conn->out_bytes += bytes;
	return true;
}

static enum step answer_then(struct conn *conn, enum conn_state state)
{
	if (conn->state == CONN_DEAD)
		return STEP_MORE;
	conn->after_answer = state;
	conn->state = CONN_ANSWER;
	return STEP_BLOCKED; /* conn_run sends it */
}

static void reply(struct conn *conn, uint32_t number, uint32_t type, const void *data, size_t bytes)
{
	struct cursor c;
	if (!out_room(conn, NBD_OPTION_REPLY_BYTES + bytes, &c))
		return;
	nbd_put_option_reply(&c, number, type, (uint32_t)bytes);
	put_bytes(&c, data, bytes);
}

/* Ends an option: with ACK, or with an error and a sentence for whoever debugs the client. */
static enum step reply_last(struct conn *conn, uint32_t number, uint32_t type, const char *sentence)
{
	reply(conn, number, type, sentence, strlen(sentence));
	return answer_then(conn, CONN_OPTION);
}

static enum step reply_invalid(struct conn *conn, uint32_t number)
{
	return reply_last(conn, number, NBD_REP_ERR_INVALID,
			  "the option's data makes no sense here");
}

/* ---- exports ---- */

static bool name_good(const char *name)
{
	const char *at = strchr(name, '@');
	if (!at)
		return text_volume_ok(name, strlen(name));
	return text_volume_ok(name, (size_t)(at - name)) && text_name_ok(at + 1, strlen(at + 1));
}

/* Which volume or snapshot the client means; -ENOENT when this socket has none of that name. */
static int export_resolve(const struct conn *conn, struct nbd_string asked,
			  char ret_name[SNAP_NAME_ROOM])
{
	const char *volume = conn->export->volume;
	char name[SNAP_NAME_ROOM];
	if (asked.bytes == 0 && volume[0]) {
		memcpy(ret_name, volume, strlen(volume) + 1);
		return 0;
	}
	if (asked.bytes >= sizeof name || memchr(asked.at, 0, asked.bytes))
		return -ENOENT;
	memcpy(name, asked.at, asked.bytes);
	name[asked.bytes] = 0;
	if (!name_good(name))
		return -ENOENT;
	size_t bytes = strlen(volume);
	if (bytes > 0 &&
	    (strncmp(name, volume, bytes) != 0 || (name[bytes] != 0 && name[bytes] != '@')))
		return -ENOENT;
	memcpy(ret_name, name, strlen(name) + 1);
	return 0;
}

/* Opens what the client asked for. */
static int export_open(const struct conn *conn, struct nbd_string asked,
		       char ret_name[SNAP_NAME_ROOM], struct view **ret_view)
{
	int res = export_resolve(conn, asked, ret_name);
	return res < 0 ? res
		       : store_view_open_leased(conn->server->store, ret_name,
						conn->export->generation, ret_view);
}

static uint16_t export_flags(const struct conn *conn, const struct view *view)
{
	unsigned flags =
		NBD_HAS_FLAGS | NBD_SEND_FLUSH | NBD_SEND_FUA | NBD_CAN_MULTI_CONN | NBD_SEND_CACHE;
	if (conn->structured)
		flags |= NBD_SEND_DF;
	if (store_view_read_only(view))
		flags |= NBD_READ_ONLY;
	else
		flags |= NBD_SEND_TRIM | NBD_SEND_WRITE_ZEROES | NBD_SEND_FAST_ZERO;
	return (uint16_t)flags;
}

/* From here on the connection is an attachment. */
static enum step export_attach(struct conn *conn, struct view *view, const char *name)
{
	if (conn->state == CONN_DEAD) { /* while it was answered */
		store_view_close(view);
		return STEP_MORE;
	}
	conn->view = view;
	conn->read_only = store_view_read_only(view);
	conn->since_wall_ns = env_wall_ns(conn->server->env);
	conn->meta_allocation &= strcmp(conn->meta_name, name) == 0;
	memcpy(conn->name, name, strlen(name) + 1);
	log_event(LOG_LEVEL_INFO, "nbd.attached", "export=%s socket=%s read_only=%d", name,
		  conn->export->path, conn->read_only);
	fence_enter(conn);
	limit_attach(conn);
	return answer_then(conn, CONN_FENCE);
}

/* ---- options ---- */

static enum step option_export_name(struct conn *conn, struct nbd_string asked)
{
	char name[SNAP_NAME_ROOM];
	struct view *view;
	struct cursor c;
	if (export_open(conn, asked, name, &view) < 0) {
		/* The protocol has no other answer than this. */
		conn_die(conn, true, "it asked for an export that is not here");
		return STEP_MORE;
	}
	if (out_room(conn, 10 + (conn->no_zeroes ? 0 : NBD_EXPORT_ZEROES), &c)) {
		put_be_u64(&c, store_view_bytes(view));
		put_be_u16(&c, export_flags(conn, view));
		put_zeros(&c, cursor_left(&c));
	}
	return export_attach(conn, view, name);
}

static void list_one(struct conn *conn, const char *volume, const char *snapshot)
{
	char data[4 + SNAP_NAME_ROOM];
	struct cursor c = cursor_over(data, sizeof data);
	if (conn->export->volume[0] && strcmp(conn->export->volume, volume) != 0)
		return;
	size_t bytes = strlen(volume) + (snapshot ? 1 + strlen(snapshot) : 0);
	put_be_u32(&c, (uint32_t)bytes);
	put_bytes(&c, volume, strlen(volume));
	if (snapshot) {
		put_u8(&c, '@');
		put_bytes(&c, snapshot, strlen(snapshot));
	}
	reply(conn, NBD_OPT_LIST, NBD_REP_SERVER, data, 4 + bytes);
}

static enum step option_list(struct conn *conn)
{
	struct store *store = conn->server->store;
	struct volume_info *volumes;
	struct snapshot_info *snapshots;
	size_t count;
	if (store_volumes(store, false, &volumes, &count) < 0)
		goto no_memory;
	for (size_t i = 0; i < count; i++)
		list_one(conn, volumes[i].name, NULL);
	free(volumes);
	if (store_snapshots(store, false, &snapshots, &count) < 0)
		goto no_memory;
	for (size_t i = 0; i < count; i++)
		list_one(conn, snapshots[i].volume, snapshots[i].name);
	free(snapshots);
	return reply_last(conn, NBD_OPT_LIST, NBD_REP_ACK, "");
no_memory:
	conn_die(conn, false, "there is no memory to list exports");
	return STEP_MORE;
}

static void reply_infos(struct conn *conn, uint32_t number, const struct nbd_go *go,
			const struct view *view, const char *name)
{
	uint8_t data[2 + SNAP_NAME_ROOM];
	struct cursor c = cursor_over(data, sizeof data);
	put_be_u16(&c, NBD_INFO_EXPORT);
	put_be_u64(&c, store_view_bytes(view));
	put_be_u16(&c, export_flags(conn, view));
	reply(conn, number, NBD_REP_INFO, data, 12);
	c = cursor_over(data, sizeof data);
	put_be_u16(&c, NBD_INFO_BLOCK_SIZE);
	put_be_u32(&c, 1);
	put_be_u32(&c, BLOCK_BYTES);
	put_be_u32(&c, REQUEST_BYTES_MAX);
	reply(conn, number, NBD_REP_INFO, data, 14);
	if (!(go->infos & 1u << NBD_INFO_NAME))
		return;
	c = cursor_over(data, sizeof data);
	put_be_u16(&c, NBD_INFO_NAME);
	put_bytes(&c, name, strlen(name));
	reply(conn, number, NBD_REP_INFO, data, 2 + strlen(name));
}

static enum step option_go(struct conn *conn, uint32_t number, const void *data, size_t bytes)
{
	char name[SNAP_NAME_ROOM];
	struct nbd_go go;
	struct view *view;
	if (nbd_parse_go(data, bytes, &go) < 0)
		return reply_invalid(conn, number);
	int res = export_open(conn, go.name, name, &view);
	if (res < 0)
		return reply_last(conn, number, NBD_REP_ERR_UNKNOWN,
				  res == -ENOENT ? "there is no such volume or snapshot here"
						 : vs_strerror(res));
	reply_infos(conn, number, &go, view, name);
	reply(conn, number, NBD_REP_ACK, "", 0);
	if (number == NBD_OPT_GO)
		return export_attach(conn, view, name);
	store_view_close(view);
	return answer_then(conn, CONN_OPTION);
}

static enum step option_meta(struct conn *conn, uint32_t number, const void *data, size_t bytes)
{
	bool listing = number == NBD_OPT_LIST_META_CONTEXT, wanted = false;
	char name[SNAP_NAME_ROOM];
	struct nbd_meta meta;
	struct nbd_string query;
	struct view *view;
	if (!listing)
		conn->meta_allocation = false;
	if ((!conn->structured && !listing) || nbd_parse_meta(data, bytes, &meta) < 0)
		return reply_invalid(conn, number);
	if (export_open(conn, meta.name, name, &view) < 0)
		return reply_last(conn, number, NBD_REP_ERR_UNKNOWN,
				  "there is no such volume or snapshot here");
	store_view_close(view);
	wanted = listing && meta.query_count == 0;
	while (nbd_meta_next(&meta, &query))
		wanted |= nbd_query_matches(query, NBD_BASE_ALLOCATION, listing);
	if (wanted) {
		uint8_t answer[4 + sizeof NBD_BASE_ALLOCATION - 1];
		struct cursor c = cursor_over(answer, sizeof answer);
		put_be_u32(&c, ALLOCATION_CONTEXT);
		put_bytes(&c, NBD_BASE_ALLOCATION, sizeof NBD_BASE_ALLOCATION - 1);
		reply(conn, number, NBD_REP_META_CONTEXT, answer, sizeof answer);
	}
	if (!listing) {
		conn->meta_allocation = wanted;
		memcpy(conn->meta_name, name, strlen(name) + 1);
	}
	return reply_last(conn, number, NBD_REP_ACK, "");
}

static enum step option_judge(struct conn *conn, uint32_t number, const void *data, size_t bytes)
{
	switch (number) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(
			conn, (struct nbd_string){.at = data, .bytes = (uint32_t)bytes});
	case NBD_OPT_ABORT:
		reply(conn, number, NBD_REP_ACK, "", 0);
		return answer_then(conn, CONN_LEAVE);
	case NBD_OPT_LIST:
		return bytes > 0 ? reply_invalid(conn, number) : option_list(conn);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return option_go(conn, number, data, bytes);
	case NBD_OPT_STRUCTURED_REPLY:
		if (bytes > 0)
			return reply_invalid(conn, number);
		conn->structured = true;
		return reply_last(conn, number, NBD_REP_ACK, "");
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return option_meta(conn, number, data, bytes);
	default: /* STARTTLS too: these sockets are local, and guarded by mode and group */
		return reply_last(conn, number, NBD_REP_ERR_UNSUP,
				  "this server does not have that option");
	}
}

/* ---- steps ---- */

int handshake_greet(struct conn *conn)
{
	struct cursor c;
	if (!out_room(conn, NBD_GREETING_BYTES, &c))
		return -ENOMEM;
	nbd_put_greeting(&c, NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES);
	conn->state = CONN_FLAGS;
	return 0;
}

static enum step flags_step(struct conn *conn)
{
	if (!conn_has(conn, NBD_CLIENT_FLAGS_BYTES))
		return STEP_BLOCKED;
	struct cursor c = cursor_reading(in_at(conn), NBD_CLIENT_FLAGS_BYTES);
	uint32_t flags = get_be_u32(&c);
	conn->in.start += NBD_CLIENT_FLAGS_BYTES;
	if (flags & ~(uint32_t)(NBD_FIXED_NEWSTYLE | NBD_NO_ZEROES)) {
		conn_die(conn, true, "it set handshake flags that nobody offered");
		return STEP_MORE;
	}
	conn->no_zeroes = flags & NBD_NO_ZEROES;
	conn->state = CONN_OPTION;
	return STEP_MORE;
}

enum step handshake_step(struct conn *conn)
{
	struct nbd_option option;
	if (conn->state == CONN_FLAGS)
		return flags_step(conn);
	if (conn->sending) /* the greeting still: a client may speak before it has read it */
		return STEP_BLOCKED;
	if (!conn_has(conn, NBD_OPTION_BYTES))
		return STEP_BLOCKED;
	struct cursor c = cursor_reading(in_at(conn), NBD_OPTION_BYTES);
	if (nbd_get_option(&c, &option) < 0) {
		conn_die(conn, true, "an option does not start with its magic number");
		return STEP_MORE;
	}
	if (option.length_bytes > OPTION_BYTES_MAX) {
		conn_die(conn, true, "an option claims more than 64 KiB of data");
		return STEP_MORE;
	}
	if (!conn_has(conn, NBD_OPTION_BYTES + option.length_bytes))
		return STEP_BLOCKED;
	const uint8_t *data = in_at(conn) + NBD_OPTION_BYTES;
	conn->in.start += NBD_OPTION_BYTES + option.length_bytes;
	return option_judge(conn, option.number, data, option.length_bytes);
}
