/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a volume's writes come from: a line for each opening that wrote, {epoch, incarnation, the
 * write behind which it began}. An offer brings its volume's lines along, a copy keeps those of
 * what it took, so a copy can tell a primary that goes on from one that came back from a backup.
 *
 * A primary that dies may lose what it had not made durable, also where a copy has it: its next
 * opening begins before that, and the copy goes back. What it said to be durable it cannot lose: an
 * opening that begins before that is of an older store, however often that was opened and written
 * to since.
 *
 * Keeps true: a copy takes nothing that leaves out a write which was durable at its original, but
 * for what was promoted since: a promotion is somebody's decision, and says what it may lose.
 */
#include "storage/store/lines.h"

#include "storage/store/catalog.h"
#include "storage/store/mutant.h"

#include <assert.h>

#define LINE_BYTES 32u
static_assert(24 + STORE_LINES_MAX * LINE_BYTES <= LOG_RECORD_BYTES_MAX, "all in one record");

void lines_add(struct volume *volume, uint64_t epoch, const uint8_t incarnation[16])
{
	struct store_lines *lines = &volume->lines;
	if (lines->count == STORE_LINES_MAX)
		memmove(&lines->at[0], &lines->at[1], --lines->count * sizeof lines->at[0]);
	struct store_line *line = &lines->at[lines->count++];
	*line = (struct store_line){.epoch = epoch, .begin_vseq = volume->vseq};
	memcpy(line->incarnation, incarnation, 16);
}

const struct store_line *lines_find(const struct store_lines *lines, uint64_t epoch)
{
	for (uint32_t i = lines->count; i-- > 0;)
		if (lines->at[i].epoch == epoch)
			return &lines->at[i];
	return NULL;
}

void lines_until(const struct store_lines *lines, uint64_t epoch, struct store_lines *ret)
{
	*ret = *lines;
	while (ret->count && ret->at[ret->count - 1].epoch > epoch)
		ret->count--;
}

uint32_t lines_encode(uint32_t volume, const struct store_lines *lines, uint64_t durable_vseq,
		      void *out)
{
	uint32_t bytes = 24 + lines->count * LINE_BYTES;
	struct cursor c = cursor_over(out, bytes);
	put_u8(&c, LOG_LINES);
	put_u8(&c, 0);
	put_u16(&c, (uint16_t)bytes);
	put_u32(&c, volume);
	put_u64(&c, durable_vseq);
	put_u64(&c, lines->count);
	for (uint32_t i = 0; i < lines->count; i++) {
		put_u64(&c, lines->at[i].epoch);
		put_u64(&c, lines->at[i].begin_vseq);
		put_bytes(&c, lines->at[i].incarnation, 16);
	}
	assert(!c.failed && cursor_left(&c) == 0);
	return bytes;
}

int lines_apply(struct volume *volume, struct cursor *c)
{
	struct store_lines lines = {0};
	uint64_t durable_vseq = get_u64(c), count = get_u64(c);
	if (c->failed || count > STORE_LINES_MAX)
		return -VS_EFORMAT;
	for (; lines.count < count; lines.count++) {
		struct store_line *line = &lines.at[lines.count];
		line->epoch = get_u64(c);
		line->begin_vseq = get_u64(c);
		get_bytes(c, line->incarnation, 16);
		if (lines.count && line->epoch <= line[-1].epoch)
			return -VS_EFORMAT;
	}
	if (c->failed)
		return -VS_EFORMAT;
	volume->lines = lines;
	volume->durable_vseq = durable_vseq;
	return 0;
}

enum lines_answer lines_compare(const struct lines_known *known, const struct store_offer *offer)
{
	const struct store_line *line = lines_find(known->lines, known->epoch);
	const struct store_line *there = lines_find(&offer->lines, known->epoch);
	if (offer->epoch < known->epoch)
		return LINES_OLDER;
	if (offer->epoch / EPOCH_TERM > known->epoch / EPOCH_TERM || !line)
		return LINES_GO_ON; /* promoted since, or nothing was ever written */
	if (!there && offer->lines.count == STORE_LINES_MAX &&
	    offer->lines.at[0].epoch > known->epoch)
		return LINES_FORGOTTEN;
	if (!there || (incarnations_differ(line->incarnation, there->incarnation) && !MUTANT(66)))
		return LINES_APART;
	if (offer->epoch == known->epoch)
		return offer->vseq < known->vseq ? LINES_BEHIND : LINES_GO_ON;
	const struct store_line *next = there + 1; /* there is one: the offer's epoch is above */
	if (next == &offer->lines.at[offer->lines.count])
		return LINES_APART;
	return next->begin_vseq < known->durable_vseq && !MUTANT(65) ? LINES_LOST : LINES_GO_ON;
}
