/* SPDX-License-Identifier: Apache-2.0 */
/* Parsers of NBD options that carry strings and lists. Every length is the peer's, so each is
 * checked against the bytes that are there, and nothing is allocated by it. */
#include "proto/nbd.h"

#include <string.h>

static struct nbd_string get_string(struct cursor *c)
{
	struct nbd_string string = {.bytes = get_be_u32(c)};
	string.at = cursor_take(c, string.bytes);
	return string;
}

int nbd_parse_go(const void *data, size_t bytes, struct nbd_go *ret)
{
	struct cursor c = cursor_reading(data, bytes);
	struct nbd_go go = {.name = get_string(&c)};
	uint16_t count = get_be_u16(&c);
	if (c.failed || cursor_left(&c) != (size_t)count * 2)
		return -VS_EFORMAT;
	for (unsigned i = 0; i < count; i++) {
		uint16_t info = get_be_u16(&c);
		if (info < 32)
			go.infos |= UINT32_C(1) << info;
	}
	*ret = go;
	return 0;
}

int nbd_parse_meta(const void *data, size_t bytes, struct nbd_meta *ret)
{
	struct cursor c = cursor_reading(data, bytes);
	struct nbd_meta meta = {.name = get_string(&c)};
	meta.query_count = get_be_u32(&c);
	meta.queries = c;
	if (c.failed || meta.query_count > cursor_left(&c) / 4)
		return -VS_EFORMAT;
	for (uint32_t i = 0; i < meta.query_count; i++)
		get_string(&c);
	if (c.failed || cursor_left(&c) > 0)
		return -VS_EFORMAT;
	*ret = meta;
	return 0;
}

bool nbd_meta_next(struct nbd_meta *meta, struct nbd_string *ret)
{
	if (cursor_left(&meta->queries) == 0)
		return false;
	*ret = get_string(&meta->queries);
	return !meta->queries.failed;
}

bool nbd_string_is(struct nbd_string string, const char *text)
{
	return string.bytes == strlen(text) && memcmp(string.at, text, string.bytes) == 0;
}

bool nbd_query_matches(struct nbd_string query, const char *context, bool listing)
{
	if (nbd_string_is(query, context))
		return true;
	return listing && query.bytes > 0 && query.bytes < strlen(context) &&
	       query.at[query.bytes - 1] == ':' && memcmp(query.at, context, query.bytes) == 0;
}
