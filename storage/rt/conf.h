/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: one INI file, checked against a table. What the table does not name is an error
 * with file and line, because a misspelt key that is silently left out is found too late.
 */
#ifndef STORAGE_RT_CONF_H
#define STORAGE_RT_CONF_H

#include "proto/err.h"

#include <stddef.h>
#include <stdint.h>

enum conf_type {
	CONF_TEXT,     /* char[room]; not empty, no longer than room - 1 bytes */
	CONF_SIZE,     /* uint64_t bytes: 256M, 10G, 4096 */
	CONF_DURATION, /* uint64_t ns: 500ms, 30s, 7d */
	CONF_PERIOD,   /* the same, or "never": UINT64_MAX */
	CONF_NUMBER,   /* unsigned, at most 2^31 - 1 */
	CONF_BOOL,     /* bool: yes, no, true, false, on, off, 1, 0 */
};

struct conf_key {
	const char *section, *key;
	enum conf_type type;
	void *target;
	size_t room; /* CONF_TEXT */
};

#define CONF_KEYS_MAX 64u

/* Reads `path` into the targets; keys that it leaves out keep what they had. At most CONF_KEYS_MAX
 * keys. -ENOENT, -EACCES ... when it cannot be read, -EINVAL for what it says; the sentence names
 * file, line and key. Targets of earlier lines are set even on failure. */
int conf_read(const char *path, const struct conf_key *keys, size_t key_count,
	      char ret_sentence[SENTENCE_BYTES]);

/* One value, for flags that mean a key. -EINVAL: *ret_want says what the value should be; the
 * target is untouched then. */
int conf_set(const struct conf_key *key, const char *value, const char **ret_want);

#endif
