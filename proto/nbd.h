/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD protocol (NetworkBlockDevice/nbd, doc/proto.md): its constants, and its wire format as
 * pure functions. Fixed newstyle with structured replies; no extended headers, no TLS.
 *
 * All integers on the wire are big-endian. What is decoded points into the bytes that were given;
 * any thread. Sizes are those of the wire, in bytes.
 */
#ifndef PROTO_NBD_H
#define PROTO_NBD_H

#include "proto/cursor.h"
#include "proto/err.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NBD_MAGIC UINT64_C(0x4e42444d41474943)	      /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC UINT64_C(0x49484156454f5054) /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC UINT64_C(0x0003e889045565a9)
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_SIMPLE_REPLY_MAGIC 0x67446698u
#define NBD_CHUNK_MAGIC 0x668e33efu

enum nbd_size {
	NBD_GREETING_BYTES = 18,
	NBD_CLIENT_FLAGS_BYTES = 4,
	NBD_OPTION_BYTES = 16,
	NBD_OPTION_REPLY_BYTES = 20,
	NBD_REQUEST_BYTES = 28,
	NBD_SIMPLE_REPLY_BYTES = 16,
	NBD_CHUNK_BYTES = 20,
	NBD_OFFSET_DATA_BYTES = NBD_CHUNK_BYTES + 8,
	NBD_ERROR_CHUNK_BYTES = NBD_CHUNK_BYTES + 6,
	NBD_STATUS_CHUNK_BYTES = NBD_CHUNK_BYTES + 4,
	NBD_EXTENT_BYTES = 8,
	NBD_EXPORT_ZEROES = 124, /* end an EXPORT_NAME answer unless NO_ZEROES was negotiated */
	NBD_STRING_BYTES_MAX = 4096,
};

enum nbd_handshake_flags { NBD_FIXED_NEWSTYLE = 1, NBD_NO_ZEROES = 2 }; /* of both sides */

enum nbd_transmission_flags {
	NBD_HAS_FLAGS = 1 << 0,
	NBD_READ_ONLY = 1 << 1,
	NBD_SEND_FLUSH = 1 << 2,
	NBD_SEND_FUA = 1 << 3,
	NBD_ROTATIONAL = 1 << 4,
	NBD_SEND_TRIM = 1 << 5,
	NBD_SEND_WRITE_ZEROES = 1 << 6,
	NBD_SEND_DF = 1 << 7,
	NBD_CAN_MULTI_CONN = 1 << 8,
	NBD_SEND_RESIZE = 1 << 9,
	NBD_SEND_CACHE = 1 << 10,
	NBD_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_option_number {
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
	NBD_OPT_EXTENDED_HEADERS = 11,
};

#define NBD_REP_ERROR 0x80000000u
#define NBD_REP_ACK 1u
#define NBD_REP_SERVER 2u
#define NBD_REP_INFO 3u
#define NBD_REP_META_CONTEXT 4u
#define NBD_REP_ERR_UNSUP (NBD_REP_ERROR + 1)
#define NBD_REP_ERR_POLICY (NBD_REP_ERROR + 2)
#define NBD_REP_ERR_INVALID (NBD_REP_ERROR + 3)
#define NBD_REP_ERR_UNKNOWN (NBD_REP_ERROR + 6)
#define NBD_REP_ERR_TOO_BIG (NBD_REP_ERROR + 9)

enum nbd_info { NBD_INFO_EXPORT, NBD_INFO_NAME, NBD_INFO_DESCRIPTION, NBD_INFO_BLOCK_SIZE };

enum nbd_command {
	NBD_CMD_READ,
	NBD_CMD_WRITE,
	NBD_CMD_DISC,
	NBD_CMD_FLUSH,
	NBD_CMD_TRIM,
	NBD_CMD_CACHE,
	NBD_CMD_WRITE_ZEROES,
	NBD_CMD_BLOCK_STATUS,
};

enum nbd_command_flags {
	NBD_FLAG_FUA = 1,
	NBD_FLAG_NO_HOLE = 2,
	NBD_FLAG_DF = 4,
	NBD_FLAG_REQ_ONE = 8,
	NBD_FLAG_FAST_ZERO = 16,
};

enum nbd_chunk_type {
	NBD_CHUNK_NONE = 0,
	NBD_CHUNK_OFFSET_DATA = 1,
	NBD_CHUNK_OFFSET_HOLE = 2,
	NBD_CHUNK_BLOCK_STATUS = 5,
	NBD_CHUNK_ERROR = 0x8001,
};
#define NBD_CHUNK_DONE 1u /* the chunk's only flag: the last of its reply */

enum nbd_error {
	NBD_OK = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

enum nbd_state { NBD_STATE_HOLE = 1, NBD_STATE_ZERO = 2 }; /* of base:allocation */
#define NBD_BASE_ALLOCATION "base:allocation"

/* A string that lies in the bytes it was decoded from; no terminator. */
struct nbd_string {
	const char *at;
	uint32_t bytes;
};

struct nbd_option {
	uint32_t number, length_bytes;
};

struct nbd_request {
	uint16_t flags, type;
	uint64_t cookie, offset_bytes;
	uint32_t length_bytes;
};

/* INFO and GO: which of the info types below 32 were asked for. */
struct nbd_go {
	struct nbd_string name;
	uint32_t infos; /* bit n: NBD_INFO n */
};

struct nbd_meta {
	struct nbd_string name;
	uint32_t query_count;
	struct cursor queries; /* for nbd_meta_next; known to hold them all */
};

static inline void nbd_put_greeting(struct cursor *c, uint16_t flags)
{
	put_be_u64(c, NBD_MAGIC);
	put_be_u64(c, NBD_OPTION_MAGIC);
	put_be_u16(c, flags);
}

/* -VS_EFORMAT: not an option's magic, or too few bytes. */
static inline int nbd_get_option(struct cursor *c, struct nbd_option *ret)
{
	uint64_t magic = get_be_u64(c);
	struct nbd_option option;
	option.number = get_be_u32(c);
	option.length_bytes = get_be_u32(c);
	if (c->failed || magic != NBD_OPTION_MAGIC)
		return -VS_EFORMAT;
	*ret = option;
	return 0;
}

static inline void nbd_put_option(struct cursor *c, uint32_t number, uint32_t length_bytes)
{
	put_be_u64(c, NBD_OPTION_MAGIC);
	put_be_u32(c, number);
	put_be_u32(c, length_bytes);
}

/* The header of an answer to option `number`; `length_bytes` of data follow. */
static inline void nbd_put_option_reply(struct cursor *c, uint32_t number, uint32_t type,
					uint32_t length_bytes)
{
	put_be_u64(c, NBD_OPTION_REPLY_MAGIC);
	put_be_u32(c, number);
	put_be_u32(c, type);
	put_be_u32(c, length_bytes);
}

/* -VS_EFORMAT: not a request's magic, or too few bytes. Flags and type are not judged. */
static inline int nbd_get_request(struct cursor *c, struct nbd_request *ret)
{
	uint32_t magic = get_be_u32(c);
	struct nbd_request request;
	request.flags = get_be_u16(c);
	request.type = get_be_u16(c);
	request.cookie = get_be_u64(c);
	request.offset_bytes = get_be_u64(c);
	request.length_bytes = get_be_u32(c);
	if (c->failed || magic != NBD_REQUEST_MAGIC)
		return -VS_EFORMAT;
	*ret = request;
	return 0;
}

static inline void nbd_put_request(struct cursor *c, const struct nbd_request *request)
{
	put_be_u32(c, NBD_REQUEST_MAGIC);
	put_be_u16(c, request->flags);
	put_be_u16(c, request->type);
	put_be_u64(c, request->cookie);
	put_be_u64(c, request->offset_bytes);
	put_be_u32(c, request->length_bytes);
}

static inline void nbd_put_simple_reply(struct cursor *c, uint32_t error, uint64_t cookie)
{
	put_be_u32(c, NBD_SIMPLE_REPLY_MAGIC);
	put_be_u32(c, error);
	put_be_u64(c, cookie);
}

/* The header of a structured reply's chunk; `length_bytes` follow. */
static inline void nbd_put_chunk(struct cursor *c, uint16_t flags, uint16_t type, uint64_t cookie,
				 uint32_t length_bytes)
{
	put_be_u32(c, NBD_CHUNK_MAGIC);
	put_be_u16(c, flags);
	put_be_u16(c, type);
	put_be_u64(c, cookie);
	put_be_u32(c, length_bytes);
}

/* The data of an INFO or GO option. -VS_EFORMAT: its lengths do not add up. */
int nbd_parse_go(const void *data, size_t bytes, struct nbd_go *ret);

/* The data of a LIST_ or SET_META_CONTEXT option. -VS_EFORMAT likewise, the queries included. */
int nbd_parse_meta(const void *data, size_t bytes, struct nbd_meta *ret);
/* The next query; false when there is none left. */
bool nbd_meta_next(struct nbd_meta *meta, struct nbd_string *ret);

/* Does a query ask for `context`? An exact name does; for LIST ("listing") also "NAMESPACE:". */
bool nbd_query_matches(struct nbd_string query, const char *context, bool listing);

bool nbd_string_is(struct nbd_string string, const char *text);

#endif
