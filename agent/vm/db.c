/* SPDX-License-Identifier: Apache-2.0 */
/* The only file that knows SQLite. A migration runs in one transaction with the number that says
 * that it has run. */
#include "agent/vm/db.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_MS 5000
#define ROWS_MAX 100000

struct db {
	sqlite3 *handle;
	pthread_mutex_t lock; /* recursive: held from db_begin to db_end */
};

/* Never changed once it was released; a new one goes behind the last. */
static const char *const migrations[] = {
	"CREATE TABLE vm (uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, state TEXT NOT NULL,"
	" generation INTEGER NOT NULL, spec TEXT NOT NULL, created INTEGER NOT NULL);"
	"CREATE TABLE image (name TEXT PRIMARY KEY, volume TEXT NOT NULL, snapshot TEXT NOT NULL,"
	" size_bytes INTEGER NOT NULL, source TEXT NOT NULL, created INTEGER NOT NULL);"
	"CREATE TABLE vm_snapshot (vm TEXT NOT NULL, name TEXT NOT NULL, consistency TEXT NOT NULL,"
	" frozen_ms INTEGER NOT NULL, spec TEXT NOT NULL, created INTEGER NOT NULL,"
	" PRIMARY KEY (vm, name));"
	"CREATE TABLE operation (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
	" object TEXT NOT NULL, state TEXT NOT NULL, step INTEGER NOT NULL, data TEXT NOT NULL,"
	" error TEXT NOT NULL, uid INTEGER NOT NULL, created INTEGER NOT NULL, ended INTEGER);"
	"CREATE TABLE event (cursor INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL,"
	" kind TEXT NOT NULL, object TEXT NOT NULL, detail TEXT NOT NULL);"
	"CREATE TABLE audit (sequence INTEGER PRIMARY KEY, time INTEGER NOT NULL,"
	" uid INTEGER NOT NULL, pid INTEGER NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL,"
	" body TEXT NOT NULL, result TEXT NOT NULL, hash TEXT NOT NULL);"
	"CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL);",
};
#define VERSION ((int)(sizeof migrations / sizeof *migrations))

static int db_code(int code)
{
	switch (code & 0xff) {
	case SQLITE_CONSTRAINT:
		return -EEXIST;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return -VS_EFORMAT;
	default:
		return -EIO;
	}
}

static int db_exec(struct db *db, const char *sql)
{
	int code = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);
	return code == SQLITE_OK ? 0 : db_code(code);
}

static int db_number(struct db *db, const char *sql, int *ret)
{
	sqlite3_stmt *statement = NULL;
	int code = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
	if (code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
		*ret = sqlite3_column_int(statement, 0);
	else
		code = code == SQLITE_OK ? sqlite3_errcode(db->handle) : code;
	sqlite3_finalize(statement);
	return code == SQLITE_OK || code == SQLITE_ROW ? 0 : db_code(code);
}

static int db_migrate(struct db *db, int from)
{
	char number[64];
	int res = 0;
	for (int version = from; version < VERSION && res == 0; version++) {
		snprintf(number, sizeof number, "PRAGMA user_version = %d", version + 1);
		res = db_exec(db, "BEGIN IMMEDIATE");
		if (res == 0)
			res = db_exec(db, migrations[version]);
		if (res == 0)
			res = db_exec(db, number);
		int end = db_exec(db, res == 0 ? "COMMIT" : "ROLLBACK");
		res = res ? res : end;
	}
	return res;
}

int db_open(const char *path, struct db **ret_db, char ret_sentence[SENTENCE_BYTES])
{
	int version = 0, res = 0;
	pthread_mutexattr_t attr;
	struct db *db = calloc(1, sizeof *db);
	if (!db)
		return -ENOMEM;
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&db->lock, &attr);
	pthread_mutexattr_destroy(&attr);
	int code = sqlite3_open_v2(
		path, &db->handle,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW, NULL);
	if (code != SQLITE_OK)
		res = db_code(code);
	if (res == 0) {
		sqlite3_busy_timeout(db->handle, BUSY_MS);
		res = db_exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
				  "PRAGMA foreign_keys = ON");
	}
	if (res == 0)
		res = db_number(db, "PRAGMA user_version", &version);
	if (res == 0 && version > VERSION)
		res = -VS_ENEWER;
	if (res == 0)
		res = db_migrate(db, version);
	if (res == 0) {
		*ret_db = db;
		return 0;
	}
	snprintf(ret_sentence, SENTENCE_BYTES,
		 res == -VS_ENEWER ? "The catalog %.120s was written by a newer vstore-agent: "
				     "install that one."
		 : res == -VS_EFORMAT
			 ? "The catalog %.120s is damaged: move it away and run vstore-agent "
			   "--recover, which makes it again from the store."
			 : "The catalog %.120s cannot be opened; look at its folder and its disk.",
		 path);
	db_close(db);
	return res;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	sqlite3_close(db->handle);
	pthread_mutex_destroy(&db->lock);
	free(db);
}

static int db_bind(sqlite3_stmt *statement, const char *types, va_list list)
{
	int code = SQLITE_OK;
	for (int i = 0; types[i] && code == SQLITE_OK; i++) {
		if (types[i] == 'i') {
			code = sqlite3_bind_int64(statement, i + 1, va_arg(list, int64_t));
		} else if (types[i] == 'j') {
			char *text = json_dumps(va_arg(list, const json_t *), JSON_COMPACT);
			code = sqlite3_bind_text(statement, i + 1, text, -1, free);
		} else {
			code = sqlite3_bind_text(statement, i + 1, va_arg(list, const char *), -1,
						 SQLITE_TRANSIENT);
		}
	}
	return code;
}

static json_t *db_row_json(sqlite3_stmt *statement)
{
	json_t *row = json_object();
	for (int i = 0; i < sqlite3_column_count(statement); i++) {
		const char *text;
		json_t *value = NULL;
		switch (sqlite3_column_type(statement, i)) {
		case SQLITE_INTEGER:
			value = json_integer(sqlite3_column_int64(statement, i));
			break;
		case SQLITE_NULL:
			value = json_null();
			break;
		default:
			text = (const char *)sqlite3_column_text(statement, i);
			value = json_string(text ? text : "");
		}
		json_object_set_new(row, sqlite3_column_name(statement, i), value);
	}
	return row;
}

/* `rows`: NULL, or what the rows are put into. */
static int db_statement(struct db *db, const char *sql, const char *types, va_list list,
			json_t *rows)
{
	sqlite3_stmt *statement = NULL;
	pthread_mutex_lock(&db->lock);
	int code = sqlite3_prepare_v2(db->handle, sql, -1, &statement, NULL);
	if (code == SQLITE_OK)
		code = db_bind(statement, types, list);
	while (code == SQLITE_OK || code == SQLITE_ROW) {
		code = sqlite3_step(statement);
		if (code == SQLITE_ROW && rows && json_array_size(rows) < ROWS_MAX)
			json_array_append_new(rows, db_row_json(statement));
	}
	int changed = sqlite3_changes(db->handle);
	if (code != SQLITE_DONE && (code & 0xff) != SQLITE_CONSTRAINT)
		log_event(LOG_LEVEL_ERROR, "catalog.failed", "error=\"%s\"",
			  sqlite3_errmsg(db->handle));
	sqlite3_finalize(statement);
	pthread_mutex_unlock(&db->lock);
	return code == SQLITE_DONE ? changed : db_code(code);
}

int db_run(struct db *db, const char *sql, const char *types, ...)
{
	va_list list;
	va_start(list, types);
	int res = db_statement(db, sql, types, list, NULL);
	va_end(list);
	return res;
}

json_t *db_rows(struct db *db, const char *sql, const char *types, ...)
{
	va_list list;
	json_t *rows = json_array();
	va_start(list, types);
	int res = db_statement(db, sql, types, list, rows);
	va_end(list);
	if (res >= 0)
		return rows;
	json_decref(rows);
	return NULL;
}

json_t *db_row(struct db *db, const char *sql, const char *types, ...)
{
	va_list list;
	json_t *rows = json_array();
	va_start(list, types);
	int res = db_statement(db, sql, types, list, rows);
	va_end(list);
	json_t *row = res >= 0 ? json_incref(json_array_get(rows, 0)) : NULL;
	json_decref(rows);
	return row;
}

int db_begin(struct db *db)
{
	pthread_mutex_lock(&db->lock);
	int res = db_exec(db, "BEGIN IMMEDIATE");
	if (res < 0)
		pthread_mutex_unlock(&db->lock);
	return res;
}

int db_end(struct db *db, bool keep)
{
	int res = db_exec(db, keep ? "COMMIT" : "ROLLBACK");
	if (res < 0 && keep)
		db_exec(db, "ROLLBACK");
	pthread_mutex_unlock(&db->lock);
	return res;
}

int64_t db_last_id(struct db *db)
{
	return sqlite3_last_insert_rowid(db->handle);
}

json_t *db_json(const json_t *row, const char *column)
{
	const char *text = json_string_value(json_object_get(row, column));
	json_t *value = text ? json_loads(text, 0, NULL) : NULL;
	return value ? value : json_object();
}
