/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cursor over foreign bytes, or over a buffer that is being built: bounds are checked at every
 * step, an overrun sets a sticky error and yields zeros, so that a codec checks once, at its end.
 * All integers little-endian; the be_ variants are for NBD.
 */
#ifndef PROTO_CURSOR_H
#define PROTO_CURSOR_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct cursor {
	uint8_t *at;
	uint8_t *end;
	bool failed; /* sticky: something did not fit */
};

static inline struct cursor cursor_over(void *buf, size_t bytes)
{
	return (struct cursor){.at = buf, .end = (uint8_t *)buf + bytes};
}

/* For decoding; the bytes are not written to by the get_ functions. */
static inline struct cursor cursor_reading(const void *buf, size_t bytes)
{
	return cursor_over((void *)(uintptr_t)buf, bytes);
}

static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->at);
}

/* Steps over `bytes`; returns where they start, or NULL (and fails) when they are not there. */
static inline void *cursor_take(struct cursor *c, size_t bytes)
{
	if (c->failed || bytes > cursor_left(c)) {
		c->failed = true;
		return NULL;
	}
	void *at = c->at;
	c->at += bytes;
	return at;
}

static inline void get_bytes(struct cursor *c, void *ret, size_t bytes)
{
	const void *at = cursor_take(c, bytes);
	if (at)
		memcpy(ret, at, bytes);
	else
		memset(ret, 0, bytes);
}

static inline void put_bytes(struct cursor *c, const void *from, size_t bytes)
{
	void *at = cursor_take(c, bytes);
	if (at)
		memcpy(at, from, bytes);
}

static inline void put_zeros(struct cursor *c, size_t bytes)
{
	void *at = cursor_take(c, bytes);
	if (at)
		memset(at, 0, bytes);
}

#define CURSOR_INT(bits, order, prefix)                                                            \
	static inline uint##bits##_t get_##prefix##u##bits(struct cursor *c)                       \
	{                                                                                          \
		uint##bits##_t v;                                                                  \
		get_bytes(c, &v, sizeof v);                                                        \
		return order##bits##toh(v);                                                        \
	}                                                                                          \
	static inline void put_##prefix##u##bits(struct cursor *c, uint##bits##_t v)               \
	{                                                                                          \
		v = hto##order##bits(v);                                                           \
		put_bytes(c, &v, sizeof v);                                                        \
	}
CURSOR_INT(16, le, )
CURSOR_INT(32, le, )
CURSOR_INT(64, le, )
CURSOR_INT(16, be, be_)
CURSOR_INT(32, be, be_)
CURSOR_INT(64, be, be_)
#undef CURSOR_INT

static inline uint8_t get_u8(struct cursor *c)
{
	uint8_t v;
	get_bytes(c, &v, 1);
	return v;
}

static inline void put_u8(struct cursor *c, uint8_t v)
{
	put_bytes(c, &v, 1);
}

#endif
