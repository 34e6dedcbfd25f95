/* SPDX-License-Identifier: Apache-2.0 */
/* Where a volume's writes come from (lines.c): whether what a peer offers goes on from what is
 * here. */
#ifndef STORAGE_STORE_LINES_H
#define STORAGE_STORE_LINES_H

#include "storage/store/objects.h"
#include "storage/store/store_transfer.h"

/* An opening begins behind what the volume has now. */
void lines_add(struct volume *volume, uint64_t epoch, const uint8_t incarnation[16]);
/* Of that epoch; NULL: not known. */
const struct store_line *lines_find(const struct store_lines *lines, uint64_t epoch);
/* Those up to an epoch. */
void lines_until(const struct store_lines *lines, uint64_t epoch, struct store_lines *ret);

uint32_t lines_encode(uint32_t volume, const struct store_lines *lines, uint64_t durable_vseq,
		      void *out);
int lines_apply(struct volume *volume, struct cursor *c);

/* What a copy has seen of its original, at the furthest. */
struct lines_known {
	const struct store_lines *lines;
	uint64_t epoch, vseq; /* vseq: in that epoch */
	uint64_t durable_vseq;
};
enum lines_answer {
	LINES_GO_ON,
	LINES_OLDER,	 /* an older epoch */
	LINES_BEHIND,	 /* the same opening, at a write before */
	LINES_APART,	 /* what is known was never there */
	LINES_LOST,	 /* what was durable there is gone */
	LINES_FORGOTTEN, /* the offer does not say: too many openings since */
};
enum lines_answer lines_compare(const struct lines_known *known, const struct store_offer *offer);

#endif
