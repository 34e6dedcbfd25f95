/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's catalog: one SQLite file, migrated on opening, every statement durable when it
 * returns. Rows come as JSON, so that no other file knows SQLite. Any thread; one at a time inside.
 */
#ifndef AGENT_VM_DB_H
#define AGENT_VM_DB_H

#include "proto/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct db;

/* Makes or opens the file and brings its schema up to date. -VS_ENEWER: a newer agent wrote it;
 * -VS_EFORMAT: it is damaged, and --recover makes a new one from the store. */
int db_open(const char *path, struct db **ret_db, char ret_sentence[SENTENCE_BYTES]);
void db_close(struct db *db);

/* Runs one statement. `types` has a letter for each '?': s const char * (NULL: null), i int64_t, j
 * const json_t * (stored as text). Returns 0 or more: rows changed; -EEXIST: a name or key is
 * taken; -ENOSPC, -EIO. */
int db_run(struct db *db, const char *sql, const char *types, ...);

/* The rows of a query as an array of objects, the caller's; NULL: it failed. */
json_t *db_rows(struct db *db, const char *sql, const char *types, ...);

/* The first row, or NULL. */
json_t *db_row(struct db *db, const char *sql, const char *types, ...);

/* Several statements that take effect together; the calling thread alone runs statements between
 * the two. */
int db_begin(struct db *db);
int db_end(struct db *db, bool keep);

int64_t db_last_id(struct db *db); /* of an INSERT, within db_begin and db_end */

/* json_loads of a text column; an empty object when it is none. */
json_t *db_json(const json_t *row, const char *column);

#endif
