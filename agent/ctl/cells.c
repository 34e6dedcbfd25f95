/* SPDX-License-Identifier: Apache-2.0 */
/* Cells, and the choice of columns and rows. Lists come from the daemon: any value may be missing
 * or of another type, and then the cell is empty. */
#include "agent/ctl/cells.h"

#include "proto/text.h"
#include "proto/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static char *cell_time(const char *text, char out[CELL_BYTES])
{
	uint64_t wall_ns;
	struct tm tm;
	if (text_time_parse(text, &wall_ns) < 0) {
		snprintf(out, CELL_BYTES, "%s", text);
		return out;
	}
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	localtime_r(&seconds, &tm);
	strftime(out, CELL_BYTES, "%Y-%m-%d %H:%M:%S", &tm);
	return out;
}

char *cell_raw(const struct column *column, const struct value *row, char out[CELL_BYTES])
{
	const struct value *value = value_get(row, column->key);
	switch (column->kind) {
	case CELL_SNAPSHOT:
		snprintf(out, CELL_BYTES, "%s@%s", value_get_text(row, "volume"),
			 value_get_text(row, "name"));
		return out;
	case CELL_PART:
		snprintf(out, CELL_BYTES, "%" PRId64, value_integer(value));
		return out;
	case CELL_MESSAGE:
		snprintf(out, CELL_BYTES, "%s", value_get_text(value, "message"));
		return out;
	default:
		return value_plain(value, out, CELL_BYTES);
	}
}

char *cell_shown(const struct column *column, const struct value *row, char out[CELL_BYTES])
{
	const struct value *value = value_get(row, column->key);
	int64_t number = value_integer(value);
	out[0] = 0;
	switch (column->kind) {
	case CELL_SIZE:
		if (value_is_number(value) && number >= 0)
			text_human((uint64_t)number, out, CELL_BYTES);
		return out;
	case CELL_TIME:
		return *value_text(value) ? cell_time(value_text(value), out) : out;
	case CELL_PART:
		if (value_get_integer(row, "total") > 0)
			snprintf(out, CELL_BYTES, "%.0f%%",
				 (double)number * 100 / (double)value_get_integer(row, "total"));
		return out;
	default:
		return cell_raw(column, row, out);
	}
}

bool cell_is_right(const struct column *column)
{
	return column->kind == CELL_NUMBER || column->kind == CELL_SIZE ||
	       column->kind == CELL_PART;
}

static const struct column *column_find(const struct table *table, const char *name, size_t bytes)
{
	for (const struct column *c = table->columns; c->title; c++) {
		if (strlen(c->title) == bytes && strncasecmp(c->title, name, bytes) == 0)
			return c;
		if (strlen(c->key) == bytes && strncmp(c->key, name, bytes) == 0)
			return c;
	}
	return NULL;
}

static void column_unknown(const struct table *table, const char *name, size_t bytes,
			   char sentence[SENTENCE_BYTES])
{
	int used = snprintf(sentence, SENTENCE_BYTES, "There is no column \"%.*s\"; there are",
			    (int)min_u64(bytes, 60), name);
	for (const struct column *c = table->columns; c->title && used < SENTENCE_BYTES; c++) {
		char title[32];
		size_t i = 0;
		for (; i < sizeof title - 1 && c->title[i]; i++)
			title[i] = (char)(c->title[i] | ('A' <= c->title[i] && c->title[i] <= 'Z')
								<< 5);
		title[i] = 0;
		used += snprintf(sentence + used, (size_t)(SENTENCE_BYTES - used), "%s%s",
				 c == table->columns ? " " : ", ", title);
	}
}

int columns_choose(const struct table *table, const char *names, bool wide,
		   const struct column *ret_columns[COLUMNS_MAX], char ret_sentence[SENTENCE_BYTES])
{
	int count = 0;
	if (!names) {
		for (const struct column *c = table->columns; c->title && count < COLUMNS_MAX; c++)
			if (wide || !c->wide)
				ret_columns[count++] = c;
		return count;
	}
	while (*names && count < COLUMNS_MAX) {
		size_t bytes = strcspn(names, ",");
		const struct column *found = column_find(table, names, bytes);
		if (!found) {
			column_unknown(table, names, bytes, ret_sentence);
			return -EINVAL;
		}
		ret_columns[count++] = found;
		names += bytes + (names[bytes] == ',');
	}
	return count;
}

/* Every COL=VALUE holds: VALUE is what the cell shows or what a script would get. */
static int row_matches(const struct table *table, const struct value *row, const char *filter,
		       char sentence[SENTENCE_BYTES])
{
	char cell[CELL_BYTES];
	bool all = true;
	while (*filter) {
		size_t bytes = strcspn(filter, ","), name = strcspn(filter, "=,");
		if (name == bytes) {
			snprintf(sentence, SENTENCE_BYTES,
				 "--filter takes COL=VALUE,...; \"%.*s\" has no '='.",
				 (int)min_u64(bytes, 60), filter);
			return -EINVAL;
		}
		const struct column *column = column_find(table, filter, name);
		if (!column) {
			column_unknown(table, filter, name, sentence);
			return -EINVAL;
		}
		const char *wanted = filter + name + 1;
		size_t length = bytes - name - 1;
		cell_raw(column, row, cell);
		bool same = strlen(cell) == length && strncmp(cell, wanted, length) == 0;
		if (!same) {
			cell_shown(column, row, cell);
			same = strlen(cell) == length && strncmp(cell, wanted, length) == 0;
		}
		all = all && same;
		filter += bytes + (filter[bytes] == ',');
	}
	return all;
}

struct sort_order {
	const struct column *column;
	bool down;
};

static int row_compare(const void *a, const void *b, void *state)
{
	const struct sort_order *order = state;
	const struct value *row_a = *(const struct value *const *)a;
	const struct value *row_b = *(const struct value *const *)b;
	char text_a[CELL_BYTES], text_b[CELL_BYTES];
	int sign;
	if (cell_is_right(order->column)) {
		int64_t x = value_get_integer(row_a, order->column->key);
		int64_t y = value_get_integer(row_b, order->column->key);
		sign = (x > y) - (x < y);
	} else {
		sign = strcmp(cell_raw(order->column, row_a, text_a),
			      cell_raw(order->column, row_b, text_b));
	}
	return order->down ? -sign : sign;
}

/* Checks --filter and --sort even when there are no rows, so that a wrong name never goes unseen.
 */
static int choice_check(const struct table *table, const char *filter, const char *sort,
			struct sort_order *ret_order, char sentence[SENTENCE_BYTES])
{
	if (filter) {
		int res = row_matches(table, NULL, filter, sentence);
		if (res < 0)
			return res;
	}
	*ret_order = (struct sort_order){0};
	if (!sort)
		return 0;
	ret_order->down = *sort == '-';
	sort += ret_order->down;
	ret_order->column = column_find(table, sort, strlen(sort));
	if (ret_order->column)
		return 0;
	column_unknown(table, sort, strlen(sort), sentence);
	return -EINVAL;
}

struct value *rows_choose(const struct table *table, const struct value *rows, const char *filter,
			  const char *sort, char ret_sentence[SENTENCE_BYTES])
{
	struct sort_order order;
	if (choice_check(table, filter, sort, &order, ret_sentence) < 0)
		return NULL;
	size_t count = value_count(rows), kept = 0;
	const struct value **chosen = calloc(count + 1, sizeof(*chosen));
	if (!chosen) {
		snprintf(ret_sentence, SENTENCE_BYTES, "There is not enough memory for the list.");
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		const struct value *row = value_at(rows, i);
		if (!filter || row_matches(table, row, filter, ret_sentence) > 0)
			chosen[kept++] = row;
	}
	if (order.column)
		qsort_r(chosen, kept, sizeof(*chosen), row_compare, &order);
	struct value *result = value_array();
	for (size_t i = 0; i < kept; i++)
		value_append(result, value_ref(chosen[i]));
	free(chosen);
	return result;
}
