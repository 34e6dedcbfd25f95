/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The audit log: every request that changes something, chained. A line's hash covers its own fields
 * and the hash of the line before, so a line that was changed, put in or taken out breaks the chain
 * at that place.
 */
#include "agent/api/api.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#define HASH_BYTES 32u
#define HASH_ROOM (2u * HASH_BYTES + 1u)
#define BODY_CHARS 2000u

static void hash_of(const char *previous, const json_t *line, char ret_hash[HASH_ROOM])
{
	uint8_t digest[EVP_MAX_MD_SIZE] = {0};
	char *text = json_dumps(line, JSON_COMPACT | JSON_SORT_KEYS);
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	if (context && text && EVP_DigestInit_ex(context, EVP_sha256(), NULL)) {
		EVP_DigestUpdate(context, previous, strlen(previous));
		EVP_DigestUpdate(context, text, strlen(text));
		EVP_DigestFinal_ex(context, digest, NULL);
	}
	EVP_MD_CTX_free(context);
	free(text);
	text_hex(digest, HASH_BYTES, ret_hash);
}

static json_t *line_json(const json_t *row)
{
	static const char *const keys[] = {"sequence", "time", "uid",  "pid",
					   "method",   "path", "body", "result"};
	json_t *line = json_object();
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		json_object_set(line, keys[i], json_object_get(row, keys[i]));
	return line;
}

/* What a guest is told at its first boot may hold passwords: its length says enough. */
static json_t *body_shown(const json_t *body)
{
	char words[40];
	json_t *shown = json_deep_copy(body);
	const char *user = json_string_value(json_object_get(body, "user_data"));
	if (user) {
		snprintf(words, sizeof words, "(%zu bytes)", strlen(user));
		json_object_set_new(shown, "user_data", json_string(words));
	}
	char *text = json_dumps(shown, JSON_COMPACT);
	json_decref(shown);
	if (text && strlen(text) > BODY_CHARS)
		text[BODY_CHARS] = 0;
	json_t *out = json_string_nocheck(text ? text : "");
	free(text);
	return out;
}

void audit_add(struct agent *agent, const struct http_request *request, const json_t *body,
	       const char *result)
{
	char hash[HASH_ROOM];
	if (db_begin(agent->db) < 0)
		return;
	json_t *last = db_row(
		agent->db, "SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1", "");
	json_t *line = json_pack("{s:I, s:I, s:I, s:I, s:s, s:s, s:o, s:s}", "sequence",
				 (json_int_t)spec_number(last, "sequence") + 1, "time",
				 (json_int_t)agent_now_ns(), "uid", (json_int_t)request->uid, "pid",
				 (json_int_t)request->pid, "method", request->method, "path",
				 request->path, "body", body_shown(body), "result", result);
	hash_of(spec_text(last, "hash"), line, hash);
	int res = db_run(agent->db,
			 "INSERT INTO audit (sequence, time, uid, pid, method, path, body, result, "
			 "hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
			 "iiiisssss", spec_number(line, "sequence"), spec_number(line, "time"),
			 spec_number(line, "uid"), spec_number(line, "pid"),
			 spec_text(line, "method"), spec_text(line, "path"),
			 spec_text(line, "body"), result, hash);
	if (db_end(agent->db, res >= 0) < 0 || res < 0)
		log_event(LOG_LEVEL_ERROR, "audit.lost", "method=%s path=%.200s uid=%u",
			  request->method, request->path, request->uid);
	json_decref(line);
	json_decref(last);
}

int audit_verify(struct db *db, int64_t *ret_count, struct problem *problem)
{
	json_t *rows = db_rows(db, "SELECT * FROM audit ORDER BY sequence", ""), *row;
	char previous[HASH_ROOM] = "", hash[HASH_ROOM];
	int64_t want = 1;
	size_t i;
	int res = 0;
	json_array_foreach(rows, i, row) {
		json_t *line = line_json(row);
		hash_of(previous, line, hash);
		json_decref(line);
		if (spec_number(row, "sequence") != want || strcmp(hash, spec_text(row, "hash"))) {
			res = problem_set(
				problem, -VS_ECHECKSUM,
				"The audit log is not as it was written, from line %" PRId64
				" on (%" PRId64 " was found there).",
				want, spec_number(row, "sequence"));
			break;
		}
		memcpy(previous, hash, sizeof previous);
		want++;
	}
	json_decref(rows);
	*ret_count = want - 1;
	return res;
}

json_t *audit_list(struct db *db, int64_t count)
{
	json_t *rows =
		db_rows(db, "SELECT * FROM audit ORDER BY sequence DESC LIMIT ?", "i", count);
	json_t *row;
	size_t i;
	json_array_foreach(rows, i, row)
		json_object_set_new(row, "time", time_json((uint64_t)spec_number(row, "time")));
	return rows ? rows : json_array();
}
