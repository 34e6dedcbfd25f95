/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How full the store was in its life: at most HISTORY_MAX points, ten minutes apart at first. When
 * they are all taken every other one goes and the next ones come twice as far apart, until they are
 * about a day apart; then the oldest goes. Every checkpoint's head has them. Times are ages of the
 * store, so no clock that is set can bend the line.
 */
#ifndef STORAGE_STORE_HISTORY_H
#define STORAGE_STORE_HISTORY_H

#include "storage/store/store_list.h"

#define HISTORY_MAX 120u
#define HISTORY_SPACING_NS (600 * NSEC_PER_SEC)
#define HISTORY_SHIFT_MAX 7u /* 21 hours */
#define HISTORY_BYTES (8u + HISTORY_MAX * 24u)

struct history_point {
	uint64_t age_ns, used_bytes;
	uint64_t next_segment_id; /* segments with smaller ids are older than this point */
};
struct history {
	uint32_t count, shift; /* the next one comes HISTORY_SPACING_NS << shift after the last */
	struct history_point points[HISTORY_MAX]; /* oldest first */
};

/* False: it is too early for one. */
bool history_add(struct history *history, const struct history_point *point);
void history_encode(const struct history *history, uint8_t out[HISTORY_BYTES]);
/* What makes no sense is no history. */
void history_decode(struct history *history, const uint8_t in[HISTORY_BYTES]);
/* Segments with ids below this one were made before that age; 0: nobody knows of any. */
uint64_t history_segments_before(const struct history *history, uint64_t age_ns);
/* available_bytes: what may be added until the store is full. */
void history_forecast(const struct history *history, uint64_t available_bytes,
		      struct store_forecast *ret);

void history_tick(struct store *store); /* is it time for a point? */

#endif
