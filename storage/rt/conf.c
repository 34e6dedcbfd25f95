/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows inih. Lines are counted here, where inih fetches them: its handler is
 * not told, and a message about the wrong line would be worse than none.
 */
#include "storage/rt/conf.h"

#include "proto/text.h"

#include <errno.h>
#include <ini.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct conf_reader {
	FILE *file;
	const char *path;
	const struct conf_key *keys;
	size_t key_count;
	unsigned line; /* the one fetched last, from 1 */
	unsigned set_at[CONF_KEYS_MAX];
	char *sentence; /* empty until the first error */
};

static int conf_set_bool(const char *value, bool *ret)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off", "on", "0", "1"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcasecmp(value, words[i]) == 0) {
			*ret = i & 1;
			return 0;
		}
	return -EINVAL;
}

static int conf_set_number(const char *value, unsigned *ret)
{
	char *end;
	if (*value < '0' || *value > '9')
		return -EINVAL;
	errno = 0;
	unsigned long number = strtoul(value, &end, 10);
	if (errno || *end || number > INT32_MAX)
		return -EINVAL;
	*ret = (unsigned)number;
	return 0;
}

int conf_set(const struct conf_key *key, const char *value, const char **ret_want)
{
	size_t bytes = strlen(value);
	switch (key->type) {
	case CONF_TEXT:
		*ret_want = "a text that is not empty and not too long";
		if (bytes == 0 || bytes >= key->room)
			return -EINVAL;
		memcpy(key->target, value, bytes + 1);
		return 0;
	case CONF_SIZE:
		*ret_want = "a size like 4096, 256M or 10G";
		return text_size(value, key->target) < 0 ? -EINVAL : 0;
	case CONF_DURATION:
		*ret_want = "a duration like 500ms, 30s or 7d";
		return text_duration(value, key->target) < 0 ? -EINVAL : 0;
	case CONF_PERIOD:
		*ret_want = "a duration like 1h or 30d, or never";
		if (strcasecmp(value, "never") == 0) {
			*(uint64_t *)key->target = UINT64_MAX;
			return 0;
		}
		return text_duration(value, key->target) < 0 ? -EINVAL : 0;
	case CONF_NUMBER:
		*ret_want = "a whole number";
		return conf_set_number(value, key->target);
	case CONF_BOOL:
		*ret_want = "yes or no";
		return conf_set_bool(value, key->target);
	}
	return -EINVAL;
}

/* inih's fgets. A line that does not fit would be taken for two. */
static char *conf_fetch(char *line, int room, void *state)
{
	struct conf_reader *reader = state;
	if (reader->sentence[0] || !fgets(line, room, reader->file))
		return NULL;
	reader->line++;
	if (!strchr(line, '\n') && !feof(reader->file)) {
		snprintf(reader->sentence, SENTENCE_BYTES,
			 "%.150s:%u: the line is longer than %d bytes; shorten it.", reader->path,
			 reader->line, room - 2);
		return NULL;
	}
	return line;
}

/* 0 stops at this line. */
static int conf_line(void *state, const char *section, const char *name, const char *value)
{
	struct conf_reader *reader = state;
	const char *want;
	bool section_known = false;
	for (size_t i = 0; i < reader->key_count; i++) {
		const struct conf_key *key = &reader->keys[i];
		if (strcmp(key->section, section) != 0)
			continue;
		section_known = true;
		if (strcmp(key->key, name) != 0)
			continue;
		if (reader->set_at[i])
			snprintf(reader->sentence, SENTENCE_BYTES,
				 "%.150s:%u: %.40s was set in line %u already; keep one of them.",
				 reader->path, reader->line, name, reader->set_at[i]);
		else if (conf_set(key, value, &want) < 0)
			snprintf(reader->sentence, SENTENCE_BYTES,
				 "%.150s:%u: '%.40s' is no value for %.40s; it takes %s.",
				 reader->path, reader->line, value, name, want);
		reader->set_at[i] = reader->line;
		return !reader->sentence[0];
	}
	if (!*section) /* nothing stands before it, or not a whole [section] */
		snprintf(
			reader->sentence, SENTENCE_BYTES,
			"%.150s:%u: '%.40s' stands in no section: a line like [store] comes first; "
			"see vstored(8).",
			reader->path, reader->line, name);
	else if (section_known)
		snprintf(reader->sentence, SENTENCE_BYTES,
			 "%.150s:%u: the section [%.40s] has no key '%.40s'; see vstored(8).",
			 reader->path, reader->line, section, name);
	else
		snprintf(reader->sentence, SENTENCE_BYTES,
			 "%.150s:%u: there is no section [%.40s]; see vstored(8).", reader->path,
			 reader->line, section);
	return 0;
}

int conf_read(const char *path, const struct conf_key *keys, size_t key_count,
	      char ret_sentence[SENTENCE_BYTES])
{
	struct conf_reader reader = {
		.path = path, .keys = keys, .key_count = key_count, .sentence = ret_sentence};
	int res = key_count > CONF_KEYS_MAX ? -E2BIG : 0;
	ret_sentence[0] = 0;
	errno = 0;
	reader.file = res == 0 ? fopen(path, "re") : NULL;
	if (!reader.file) {
		res = res ? res : errno ? -errno : -ENOMEM;
		snprintf(ret_sentence, SENTENCE_BYTES, "%.200s cannot be read: %s.", path,
			 vs_strerror(res));
		return res;
	}
	int wrong_line = ini_parse_stream(conf_fetch, &reader, conf_line, &reader);
	if (ferror(reader.file) && !ret_sentence[0]) {
		snprintf(ret_sentence, SENTENCE_BYTES, "%.200s cannot be read to its end.", path);
		res = -EIO;
	} else if (wrong_line && !ret_sentence[0]) {
		snprintf(ret_sentence, SENTENCE_BYTES,
			 "%.150s:%d: this is neither [section] nor key = value.", path, wrong_line);
	}
	fclose(reader.file);
	return ret_sentence[0] && res == 0 ? -EINVAL : res;
}
