/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON values, as vstorectl needs them. A value that a function returns without `const` is the
 * caller's, to be freed with value_free; one behind `const` lives as long as what it was taken
 * from. NULL is welcome everywhere and behaves like a missing value. One thread.
 */
#ifndef AGENT_CTL_VALUE_H
#define AGENT_CTL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct value;

/* NULL when the bytes are not one JSON value; nesting is bounded by the parser (2048). */
struct value *value_parse(const char *text, size_t bytes);
struct value *value_object(void);
struct value *value_array(void);
struct value *value_text_new(const char *text);
/* Shares, does not copy. */
struct value *value_ref(const struct value *value);
void value_free(struct value *value);
static inline void value_cleanup(struct value **value)
{
	value_free(*value);
}
#define VALUE_AUTO __attribute__((cleanup(value_cleanup))) struct value *

const struct value *value_get(const struct value *object, const char *key);
/* Of an array; 0 for anything else. */
size_t value_count(const struct value *array);
const struct value *value_at(const struct value *array, size_t index);
bool value_is_array(const struct value *value);
bool value_is_object(const struct value *value);
bool value_is_number(const struct value *value);
/* Missing, null, or an empty text or array. */
bool value_is_empty(const struct value *value);

/* "" when it is no text. */
const char *value_text(const struct value *value);
/* 0 when it is no number; fractions are cut off. */
int64_t value_integer(const struct value *value);
bool value_true(const struct value *value);
/* As a person or a script would write it: text without quotes, numbers, true, a list with commas;
 * "" for missing, null and objects. Cut to fit, returns `out`. */
char *value_plain(const struct value *value, char *out, size_t out_bytes);

/* Shorthands for value_get and the above. */
const char *value_get_text(const struct value *object, const char *key);
int64_t value_get_integer(const struct value *object, const char *key);

void value_set_text(struct value *object, const char *key, const char *text);
void value_set_integer(struct value *object, const char *key, int64_t number);
void value_set_bool(struct value *object, const char *key, bool flag);
/* Takes `value` over. */
void value_set(struct value *object, const char *key, struct value *value);
void value_append(struct value *array, struct value *value);

/* Indented for people or on one line; the caller frees. NULL without memory. */
char *value_dump(const struct value *value, bool indented);

#endif
