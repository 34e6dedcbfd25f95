/* SPDX-License-Identifier: Apache-2.0 */
/* What the columns of lists mean: how a cell is shown to a person and given to a script, and which
 * columns and rows -c, --filter and --sort choose. Nothing is printed here. */
#ifndef AGENT_CTL_CELLS_H
#define AGENT_CTL_CELLS_H

#include "agent/ctl/value.h"
#include "proto/err.h"

enum cell_kind {
	CELL_TEXT,
	CELL_NUMBER,
	CELL_SIZE,     /* bytes: "1.5 GiB" for a person */
	CELL_TIME,     /* RFC 3339: local time for a person */
	CELL_SNAPSHOT, /* VOLUME@SNAP, of the row's volume and name */
	CELL_PART,     /* progress of total, in percent */
	CELL_MESSAGE,  /* an error object's message */
};

struct column {
	const char *title; /* upper case; in lower case it is the name for -c, --sort, --filter */
	const char *key;   /* in the row's object */
	enum cell_kind kind;
	bool wide; /* only with -o wide, or when -c names it */
};

/* What a list is made of. The first column is the row's name. Ends with a column without title. */
struct table {
	const char *key; /* of the array in the document */
	const struct column *columns;
};

#define CELL_BYTES 512
#define COLUMNS_MAX 32
char *cell_shown(const struct column *column, const struct value *row, char out[CELL_BYTES]);
char *cell_raw(const struct column *column, const struct value *row, char out[CELL_BYTES]);
/* Numbers are set to the right. */
bool cell_is_right(const struct column *column);

/* -c (or NULL: the usual ones, all with `wide`). Returns how many, or -EINVAL and a sentence. */
int columns_choose(const struct table *table, const char *names, bool wide,
		   const struct column *ret_columns[COLUMNS_MAX],
		   char ret_sentence[SENTENCE_BYTES]);

/* A new array of the rows that --filter lets through, in the order of --sort (both may be NULL).
 * NULL and a sentence when a column is unknown. */
struct value *rows_choose(const struct table *table, const struct value *rows, const char *filter,
			  const char *sort, char ret_sentence[SENTENCE_BYTES]);

#endif
