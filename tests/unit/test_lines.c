/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what a peer offers goes on from what is here: every way in which two lives of a volume
 * can lie to each other. */
#include "tests/unit/unit.h"

#include "storage/store/catalog.h"
#include "storage/store/lines.h"

enum { I = 1, J = 2, K = 3 }; /* incarnations */

static void add(struct store_lines *lines, uint64_t epoch, uint64_t begin_vseq, uint8_t incarnation)
{
	struct store_line *line = &lines->at[lines->count++];
	*line = (struct store_line){.epoch = epoch, .begin_vseq = begin_vseq};
	memset(line->incarnation, incarnation, 16);
}

/* The copy: opened as I at epoch 5 behind write 100, is at write 150, of which 120 are durable at
 * its original. */
static enum lines_answer offered(const struct store_lines *lines, uint64_t epoch, uint64_t vseq)
{
	struct store_lines own = {0};
	struct store_offer offer = {.epoch = epoch, .vseq = vseq, .lines = *lines};
	add(&own, 4, 50, K);
	add(&own, 5, 100, I);
	struct lines_known known = {.lines = &own, .epoch = 5, .vseq = 150, .durable_vseq = 120};
	return lines_compare(&known, &offer);
}

static void who_goes_on_is_told_from_who_is_older(void **state)
{
	static const struct {
		struct store_line lines[3];
		uint64_t epoch, vseq;
		enum lines_answer answer;
	} cases[] = {
		/* The same opening. */
		{{{4, 50, {K}}, {5, 100, {I}}}, 5, 150, LINES_GO_ON},
		{{{4, 50, {K}}, {5, 100, {I}}}, 5, 151, LINES_GO_ON},
		{{{4, 50, {K}}, {5, 100, {I}}}, 5, 149, LINES_BEHIND},
		/* Another one of the same number: a backup of epoch 4 was opened. */
		{{{4, 50, {K}}, {5, 100, {J}}}, 5, 200, LINES_APART},
		{{{4, 50, {K}}, {5, 100, {J}}}, 5, 110, LINES_APART},
		/* It was not opened, or is older still. */
		{{{4, 50, {K}}}, 4, 200, LINES_OLDER},
		/* Opened again behind all, or behind what was durable. */
		{{{5, 100, {I}}, {6, 150, {J}}}, 6, 160, LINES_GO_ON},
		{{{5, 100, {I}}, {6, 120, {J}}}, 6, 121, LINES_GO_ON},
		{{{5, 100, {I}}, {6, 120, {J}}, {7, 121, {K}}}, 7, 130, LINES_GO_ON},
		/* Before that: it was not this store that said so, however much it wrote since. */
		{{{5, 100, {I}}, {6, 119, {J}}}, 6, 900, LINES_LOST},
		{{{5, 100, {I}}, {6, 119, {J}}, {7, 900, {K}}}, 7, 950, LINES_LOST},
		/* A backup of before, opened until its epoch was the higher one. */
		{{{4, 50, {K}}, {5, 100, {J}}, {6, 300, {K}}}, 6, 400, LINES_APART},
		{{{4, 50, {K}}, {6, 300, {J}}}, 6, 400, LINES_APART},
		/* Promoted since. */
		{{{4, 50, {K}}, {EPOCH_TERM, 60, {J}}}, EPOCH_TERM, 60, LINES_GO_ON},
		{{{EPOCH_TERM, 60, {J}}, {EPOCH_TERM + 1, 70, {K}}},
		 EPOCH_TERM + 1,
		 80,
		 LINES_GO_ON},
		/* Lines that say nothing. */
		{{{0}}, 6, 200, LINES_APART},
	};
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct store_lines lines = {0};
		for (unsigned k = 0; k < 3 && cases[i].lines[k].epoch; k++)
			add(&lines, cases[i].lines[k].epoch, cases[i].lines[k].begin_vseq,
			    cases[i].lines[k].incarnation[0]);
		if (offered(&lines, cases[i].epoch, cases[i].vseq) != cases[i].answer)
			fail_msg("case %u", i);
	}
}

static void what_was_never_written_takes_anything(void **state)
{
	struct store_lines none = {0};
	struct lines_known known = {.lines = &none};
	struct store_offer offer = {.epoch = 3, .vseq = 9};
	add(&offer.lines, 3, 0, I);
	assert_int_equal(lines_compare(&known, &offer), LINES_GO_ON);
	offer = (struct store_offer){0};
	assert_int_equal(lines_compare(&known, &offer), LINES_GO_ON);
}

static void only_so_many_openings_are_known(void **state)
{
	struct volume volume = {0};
	uint8_t incarnation[16] = {I};
	for (uint64_t epoch = 1; epoch <= 10 + STORE_LINES_MAX; epoch++) {
		volume.vseq = 10 * epoch;
		lines_add(&volume, epoch, incarnation);
	}
	assert_int_equal(volume.lines.count, STORE_LINES_MAX);
	assert_int_equal(volume.lines.at[0].epoch, 11);
	assert_int_equal(lines_find(&volume.lines, 12)->begin_vseq, 120);
	assert_null(lines_find(&volume.lines, 10));
	/* Who is further behind cannot be told that they go on. */
	assert_int_equal(offered(&volume.lines, 10 + STORE_LINES_MAX, 999), LINES_FORGOTTEN);
	struct store_lines some;
	lines_until(&volume.lines, 12, &some);
	assert_int_equal(some.count, 2);
}

static void lines_come_back_from_their_record(void **state)
{
	uint8_t record[LOG_RECORD_BYTES_MAX];
	struct volume volume = {0};
	struct store_lines lines = {0};
	for (uint64_t i = 0; i < STORE_LINES_MAX; i++)
		add(&lines, 3 + i, 7 * i, (uint8_t)i);
	uint32_t bytes = lines_encode(9, &lines, 77, record);
	struct cursor c = cursor_reading(record + 8, bytes - 8);
	assert_int_equal(lines_apply(&volume, &c), 0);
	assert_memory_equal(&volume.lines, &lines, sizeof lines);
	assert_int_equal(volume.durable_vseq, 77);
	for (uint32_t cut = 8; cut < bytes; cut += 8) {
		c = cursor_reading(record + 8, cut - 8);
		assert_int_equal(lines_apply(&volume, &c), -VS_EFORMAT);
	}
	lines.at[4].epoch = lines.at[3].epoch; /* they rise */
	bytes = lines_encode(9, &lines, 77, record);
	c = cursor_reading(record + 8, bytes - 8);
	assert_int_equal(lines_apply(&volume, &c), -VS_EFORMAT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_goes_on_is_told_from_who_is_older),
		cmocka_unit_test(what_was_never_written_takes_anything),
		cmocka_unit_test(only_so_many_openings_are_known),
		cmocka_unit_test(lines_come_back_from_their_record),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
