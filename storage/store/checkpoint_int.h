/* SPDX-License-Identifier: Apache-2.0 */
/* What checkpoint.c, which writes and reads checkpoints, and checkpoint_bytes.c share. */
#ifndef STORAGE_STORE_CHECKPOINT_INT_H
#define STORAGE_STORE_CHECKPOINT_INT_H

#include "proto/cursor.h"
#include "storage/store/behind.h"
#include "storage/store/history.h"
#include "storage/store/log.h"

#define HEADER_BYTES 4096u
#define BODY_BYTES_MAX (4 * GIB)

struct checkpoint_header {
	struct store_life life;
	struct history history;
	uint64_t generation, body_bytes;
	struct log_place place;
	uint32_t body_crc;
};

void checkpoint_header_encode(const uint8_t uuid[16], uint64_t generation,
			      const struct log_place *place, const struct store_life *life,
			      const struct history *history, const uint8_t *body,
			      uint64_t body_bytes, uint8_t out[HEADER_BYTES]);
/* -VS_EFORMAT, -VS_ECHECKSUM. The body is not looked at. */
int checkpoint_header_decode(const uint8_t uuid[16], const uint8_t in[HEADER_BYTES],
			     struct checkpoint_header *ret);
/* At most so many bytes are encoded. */
size_t checkpoint_body_bytes(const struct store *store);
void checkpoint_body_encode(const struct store *store, struct cursor *c);
/* Into a store that has nothing yet: -VS_EFORMAT, -ENOMEM. */
int checkpoint_body_decode(struct store *store, struct cursor *c);

#endif
