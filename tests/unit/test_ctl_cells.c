/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include "agent/ctl/progress.h"
#include "agent/ctl/table.h"
#include "proto/units.h"

#include <errno.h>
#include <time.h>

static struct value *parse(const char *text)
{
	struct value *value = value_parse(text, strlen(text));
	assert_non_null(value);
	return value;
}

static const struct column *column(const struct table *table, const char *title)
{
	for (const struct column *c = table->columns; c->title; c++)
		if (strcmp(c->title, title) == 0)
			return c;
	fail_msg("no column %s", title);
	return NULL;
}

static const char volumes_text[] =
	"[{\"name\":\"b\",\"size_bytes\":1610612736,\"created\":\"2026-11-24T07:41:11Z\"},"
	"{\"name\":\"a\",\"size_bytes\":4096,\"created\":\"2026-11-25T07:41:11Z\"},"
	"{\"name\":\"c\",\"size_bytes\":20480}]";

static void people_and_scripts_get_different_cells(void **state)
{
	char cell[CELL_BYTES];
	setenv("TZ", "UTC-7", 1); /* POSIX: seven hours east */
	tzset();
	VALUE_AUTO rows = parse(volumes_text);
	const struct value *row = value_at(rows, 0);
	const struct column *size = column(&table_volumes, "SIZE");
	const struct column *created = column(&table_volumes, "CREATED");
	assert_string_equal(cell_shown(size, row, cell), "1.5 GiB");
	assert_string_equal(cell_raw(size, row, cell), "1610612736");
	assert_string_equal(cell_shown(created, row, cell), "2026-11-24 14:41:11");
	assert_string_equal(cell_raw(created, row, cell), "2026-11-24T07:41:11Z");
	assert_string_equal(cell_shown(created, value_at(rows, 2), cell), "");
}

static void a_snapshot_is_named_with_its_volume(void **state)
{
	char cell[CELL_BYTES];
	VALUE_AUTO row = parse("{\"volume\":\"web1\",\"name\":\"one\",\"holds\":[\"x\",\"y\"]}");
	assert_string_equal(cell_raw(column(&table_snapshots, "SNAPSHOT"), row, cell), "web1@one");
	assert_string_equal(cell_shown(column(&table_snapshots, "TAGS"), row, cell), "x,y");
}

/* A daemon of another version, or a broken one. */
static void values_of_another_type_do_no_harm(void **state)
{
	static const char *const rows[] = {"{}",
					   "{\"name\":7,\"size_bytes\":\"big\",\"created\":[1,{}]}",
					   "{\"name\":null,\"size_bytes\":-1,\"created\":\"soon\"}",
					   "[]", "{\"size_bytes\":1e300}"};
	char cell[CELL_BYTES];
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		VALUE_AUTO row = parse(rows[i]);
		for (const struct column *c = table_volumes.columns; c->title; c++) {
			assert_true(strlen(cell_shown(c, row, cell)) < CELL_BYTES);
			assert_true(strlen(cell_raw(c, row, cell)) < CELL_BYTES);
		}
	}
}

static const char *names_of(const struct value *rows)
{
	static char names[64];
	names[0] = 0;
	for (size_t i = 0; i < value_count(rows); i++)
		strncat(names, value_get_text(value_at(rows, i), "name"), 8);
	return names;
}

static void rows_are_sorted_by_value_not_by_text(void **state)
{
	static const struct {
		const char *filter, *sort, *names;
	} cases[] = {
		{NULL, NULL, "bac"},	      {NULL, "name", "abc"},
		{NULL, "-name", "cba"},	      {NULL, "size", "acb"},
		{NULL, "-size_bytes", "bca"}, {"name=a", NULL, "a"},
		{"size=1.5 GiB", NULL, "b"},  {"size=20480", NULL, "c"},
		{"name=a,size=1", NULL, ""},  {"NAME=c,size=20480", "size", "c"},
	};
	char sentence[SENTENCE_BYTES];
	VALUE_AUTO rows = parse(volumes_text);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		VALUE_AUTO chosen =
			rows_choose(&table_volumes, rows, cases[i].filter, cases[i].sort, sentence);
		assert_non_null(chosen);
		assert_string_equal(names_of(chosen), cases[i].names);
	}
}

static void an_unknown_column_is_named_even_without_rows(void **state)
{
	const struct column *columns[COLUMNS_MAX];
	char sentence[SENTENCE_BYTES] = "";
	VALUE_AUTO none = value_array();
	assert_null(rows_choose(&table_volumes, none, "colour=red", NULL, sentence));
	assert_non_null(strstr(sentence, "colour"));
	assert_null(rows_choose(&table_volumes, none, "name", NULL, sentence));
	assert_null(rows_choose(&table_volumes, none, NULL, "age", sentence));
	assert_int_equal(columns_choose(&table_volumes, "name,shape", false, columns, sentence),
			 -EINVAL);
	assert_non_null(strstr(sentence, "shape"));
	assert_non_null(strstr(sentence, "attached"));
}

static void columns_are_the_usual_the_wide_or_the_named(void **state)
{
	const struct column *columns[COLUMNS_MAX];
	char sentence[SENTENCE_BYTES];
	int usual = columns_choose(&table_volumes, NULL, false, columns, sentence);
	int wide = columns_choose(&table_volumes, NULL, true, columns, sentence);
	assert_true(usual > 0 && wide > usual);
	assert_int_equal(columns_choose(&table_volumes, "uuid,name", false, columns, sentence), 2);
	assert_string_equal(columns[0]->title, "UUID");
	assert_string_equal(columns[1]->title, "NAME");
}

static void what_is_left_is_guessed_from_what_was_done(void **state)
{
	(void)state;
	assert_int_equal(progress_left_seconds(10 * NSEC_PER_SEC, 25, 100), 30);
	assert_int_equal(progress_left_seconds(3 * NSEC_PER_SEC, 7 * GIB, 14 * GIB), 3);
	assert_int_equal(progress_left_seconds(10 * NSEC_PER_SEC, 100, 100), 0);
	assert_true(progress_left_seconds(NSEC_PER_SEC / 2, 50, 100) == PROGRESS_UNKNOWN);
	assert_true(progress_left_seconds(10 * NSEC_PER_SEC, 0, 100) == PROGRESS_UNKNOWN);
	assert_true(progress_left_seconds(10 * NSEC_PER_SEC, 5, 0) == PROGRESS_UNKNOWN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_left_is_guessed_from_what_was_done),
		cmocka_unit_test(people_and_scripts_get_different_cells),
		cmocka_unit_test(a_snapshot_is_named_with_its_volume),
		cmocka_unit_test(values_of_another_type_do_no_harm),
		cmocka_unit_test(rows_are_sorted_by_value_not_by_text),
		cmocka_unit_test(an_unknown_column_is_named_even_without_rows),
		cmocka_unit_test(columns_are_the_usual_the_wide_or_the_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
