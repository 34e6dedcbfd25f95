/* SPDX-License-Identifier: Apache-2.0 */
/* Printing of data, and the only file that knows libsmartcols (which replaces control characters
 * in cells itself). */
#include "agent/ctl/table.h"

#include <libsmartcols.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void csv_cell(const char *text, bool first)
{
	if (!first)
		putchar(',');
	if (!strpbrk(text, ",\"\r\n")) {
		fputs(text, stdout);
		return;
	}
	putchar('"');
	for (; *text; text++) {
		if (*text == '"')
			putchar('"');
		putchar(*text);
	}
	putchar('"');
}

/* RFC 4180 but for its line ends: keys of the JSON objects, then raw values. */
static void csv_print(const struct ctl *ctl, const struct column *const *columns, int count,
		      const struct value *rows)
{
	char cell[CELL_BYTES];
	for (int c = 0; c < count && !ctl->no_header; c++)
		csv_cell(columns[c]->key, c == 0);
	if (!ctl->no_header)
		putchar('\n');
	for (size_t r = 0; r < value_count(rows); r++) {
		for (int c = 0; c < count; c++)
			csv_cell(cell_raw(columns[c], value_at(rows, r), cell), c == 0);
		putchar('\n');
	}
}

static void grid_print(const struct ctl *ctl, const struct column *const *columns, int count,
		       const struct value *rows)
{
	char cell[CELL_BYTES];
	struct libscols_table *grid = scols_new_table();
	if (!grid)
		return;
	scols_table_enable_noheadings(grid, ctl->no_header);
	scols_table_set_column_separator(grid, "  ");
	for (int c = 0; c < count; c++)
		scols_table_new_column(grid, columns[c]->title, 0,
				       cell_is_right(columns[c]) ? SCOLS_FL_RIGHT : 0);
	for (size_t r = 0; r < value_count(rows); r++) {
		struct libscols_line *line = scols_table_new_line(grid, NULL);
		for (int c = 0; line && c < count; c++)
			scols_line_set_data(line, (size_t)c,
					    cell_shown(columns[c], value_at(rows, r), cell));
	}
	if (value_count(rows)) /* an empty list prints nothing, not even titles */
		scols_print_table(grid);
	scols_unref_table(grid);
}

/* Title and value, a line each; empty cells are left out. */
static void pairs_print(const struct column *const *columns, int count, const struct value *object)
{
	char cell[CELL_BYTES];
	struct libscols_table *grid = scols_new_table();
	if (!grid)
		return;
	scols_table_enable_noheadings(grid, 1);
	scols_table_set_column_separator(grid, "  ");
	scols_table_new_column(grid, "", 0, 0);
	scols_table_new_column(grid, "", 0, 0);
	for (int c = 0; c < count; c++) {
		if (!*cell_shown(columns[c], object, cell))
			continue;
		struct libscols_line *line = scols_table_new_line(grid, NULL);
		if (!line)
			break;
		scols_line_set_data(line, 0, columns[c]->title);
		scols_line_set_data(line, 1, cell);
	}
	scols_print_table(grid);
	scols_unref_table(grid);
}

void table_print_json(const struct value *document)
{
	char *text = value_dump(document, true);
	if (text)
		puts(text);
	free(text);
}

void table_print_line(const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		putchar((c < ' ' && c != '\t') || c == 127 ? '?' : c);
	}
	putchar('\n');
}

static void names_print(const struct column *first, const struct value *rows)
{
	char cell[CELL_BYTES];
	for (size_t r = 0; r < value_count(rows); r++)
		table_print_line(cell_raw(first, value_at(rows, r), cell));
}

static void rows_print(const struct ctl *ctl, const struct table *table,
		       const struct column *const *columns, int count, const struct value *rows)
{
	if (ctl->format == FORMAT_CSV)
		csv_print(ctl, columns, count, rows);
	else if (ctl->format == FORMAT_NAME)
		names_print(&table->columns[0], rows);
	else
		grid_print(ctl, columns, count, rows);
}

int table_print_list(const struct ctl *ctl, const struct table *table, const struct value *document)
{
	char sentence[SENTENCE_BYTES];
	const struct column *columns[COLUMNS_MAX];
	bool wide = ctl->format == FORMAT_WIDE || ctl->format == FORMAT_CSV;
	int count = columns_choose(table, ctl->columns, wide, columns, sentence);
	if (count < 0)
		return ctl_fail(ctl, CTL_USAGE, "%s", sentence);
	VALUE_AUTO rows = rows_choose(table, value_get(document, table->key), ctl->filter,
				      ctl->sort, sentence);
	if (!rows)
		return ctl_fail(ctl, CTL_USAGE, "%s", sentence);
	if (ctl->format == FORMAT_JSON) {
		VALUE_AUTO shown = value_object();
		value_set_integer(shown, "schema", 1);
		value_set(shown, table->key, value_ref(rows));
		table_print_json(shown);
		return CTL_OK;
	}
	rows_print(ctl, table, columns, count, rows);
	return CTL_OK;
}

int table_print_one(const struct ctl *ctl, const struct table *table, const struct value *object,
		    const struct value *document)
{
	char sentence[SENTENCE_BYTES];
	const struct column *columns[COLUMNS_MAX];
	int count = columns_choose(table, ctl->columns, true, columns, sentence);
	if (count < 0)
		return ctl_fail(ctl, CTL_USAGE, "%s", sentence);
	if (ctl->format == FORMAT_JSON) {
		table_print_json(document);
		return CTL_OK;
	}
	if (ctl->format == FORMAT_CSV || ctl->format == FORMAT_NAME) {
		VALUE_AUTO rows = value_array();
		value_append(rows, value_ref(object));
		rows_print(ctl, table, columns, count, rows);
		return CTL_OK;
	}
	pairs_print(columns, count, object);
	return CTL_OK;
}

static void name_print(const struct value *object)
{
	const char *name = value_get_text(object, "name"),
		   *volume = value_get_text(object, "volume");
	char both[CELL_BYTES];
	/* A snapshot's object names its volume too. */
	snprintf(both, sizeof both, "%s%s%s", volume, *volume ? "@" : "", name);
	if (*name)
		table_print_line(both);
}

void table_print_names(const struct value *objects)
{
	if (value_is_object(objects))
		name_print(objects);
	for (size_t i = 0; i < value_count(objects); i++)
		name_print(value_at(objects, i));
}

void table_print_job(const struct ctl *ctl, const struct value *job)
{
	VALUE_AUTO document = value_object();
	value_set_integer(document, "schema", 1);
	value_set(document, "job", value_ref(job));
	if (ctl->format == FORMAT_JSON) {
		table_print_json(document);
		return;
	}
	const struct column *columns[COLUMNS_MAX];
	char sentence[SENTENCE_BYTES];
	VALUE_AUTO rows = value_array();
	value_append(rows, value_ref(job));
	int count = columns_choose(&table_jobs, NULL, false, columns, sentence);
	rows_print(ctl, &table_jobs, columns, count, rows);
}

void table_print_ranges(const struct ctl *ctl, const struct value *ranges)
{
	VALUE_AUTO document = value_object();
	value_set(document, table_ranges.key, value_ref(ranges));
	table_print_list(ctl, &table_ranges, document);
}
