/* SPDX-License-Identifier: Apache-2.0 */
/* What repl.c and repl_follow.c share. Each decoder takes exactly its body: what is left over, a
 * name without end, or a number out of its range is refused. */
#ifndef PROTO_REPL_INT_H
#define PROTO_REPL_INT_H

#include "proto/repl.h"
#include "proto/text.h"

#include <assert.h>

static inline struct cursor message_begin(void *out, enum repl_type type, unsigned flags,
					  uint64_t request, uint32_t body_bytes)
{
	assert(body_bytes <= REPL_BODY_MAX);
	struct cursor c = cursor_over(out, REPL_HEADER_BYTES + body_bytes);
	put_u32(&c, body_bytes);
	put_u8(&c, (uint8_t)type);
	put_u8(&c, (uint8_t)flags);
	put_u16(&c, 0);
	put_u64(&c, request);
	return c;
}

static inline uint32_t message_end(const struct cursor *c, const void *out)
{
	assert(!c->failed && cursor_left(c) == 0);
	return (uint32_t)(c->at - (const uint8_t *)out);
}

static inline bool get_zeros(struct cursor *c, size_t bytes)
{
	uint8_t any = 0;
	while (bytes-- > 0)
		any |= get_u8(c);
	return !any;
}

/* A name of NAME's room: terminated, and one that could have been given. */
static inline bool get_name(struct cursor *c, char ret[REPL_NAME_ROOM])
{
	get_bytes(c, ret, REPL_NAME_ROOM);
	return !c->failed && memchr(ret, 0, REPL_NAME_ROOM) && text_name_ok(ret, strlen(ret));
}

static inline void put_name(struct cursor *c, const char *name)
{
	char room[REPL_NAME_ROOM] = {0};
	size_t bytes = strlen(name);
	assert(bytes < sizeof room);
	memcpy(room, name, bytes);
	put_bytes(c, room, sizeof room);
}

static inline int message_whole(const struct cursor *c, bool good)
{
	return good && !c->failed && cursor_left(c) == 0 ? 0 : -VS_EFORMAT;
}

#endif
