/* SPDX-License-Identifier: Apache-2.0 */
/* The only file of vstorectl that knows jansson. struct value is jansson's json_t under another
 * name: nothing here looks inside it but through jansson's functions. */
#include "agent/ctl/value.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

static json_t *value_json(const struct value *value)
{
	return (json_t *)(uintptr_t)value;
}

static struct value *value_of(json_t *json)
{
	return (struct value *)json;
}

struct value *value_parse(const char *text, size_t bytes)
{
	json_error_t error;
	return value_of(json_loadb(text, bytes, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error));
}

struct value *value_object(void)
{
	return value_of(json_object());
}

struct value *value_array(void)
{
	return value_of(json_array());
}

struct value *value_text_new(const char *text)
{
	return value_of(json_string(text));
}

struct value *value_ref(const struct value *value)
{
	return value_of(json_incref(value_json(value)));
}

void value_free(struct value *value)
{
	json_decref(value_json(value));
}

const struct value *value_get(const struct value *object, const char *key)
{
	return value_of(json_object_get(value_json(object), key));
}

size_t value_count(const struct value *array)
{
	return json_array_size(value_json(array));
}

const struct value *value_at(const struct value *array, size_t index)
{
	return value_of(json_array_get(value_json(array), index));
}

bool value_is_array(const struct value *value)
{
	return json_is_array(value_json(value));
}

bool value_is_object(const struct value *value)
{
	return json_is_object(value_json(value));
}

bool value_is_number(const struct value *value)
{
	return json_is_number(value_json(value));
}

bool value_is_empty(const struct value *value)
{
	const json_t *json = value_json(value);
	return !json || json_is_null(json) || (json_is_string(json) && !*json_string_value(json)) ||
	       (json_is_array(json) && json_array_size(json) == 0);
}

const char *value_text(const struct value *value)
{
	const char *text = json_string_value(value_json(value));
	return text ? text : "";
}

int64_t value_integer(const struct value *value)
{
	const json_t *json = value_json(value);
	if (json_is_real(json)) {
		double real = json_real_value(json);
		/* Beyond this the conversion has no defined result. */
		return real > -9e18 && real < 9e18 ? (int64_t)real : 0;
	}
	return json_integer_value(json);
}

bool value_true(const struct value *value)
{
	return json_is_true(value_json(value));
}

char *value_plain(const struct value *value, char *out, size_t out_bytes)
{
	const json_t *json = value_json(value);
	out[0] = 0;
	if (json_is_string(json))
		snprintf(out, out_bytes, "%s", json_string_value(json));
	else if (json_is_integer(json))
		snprintf(out, out_bytes, "%" PRId64, (int64_t)json_integer_value(json));
	else if (json_is_real(json))
		snprintf(out, out_bytes, "%g", json_real_value(json));
	else if (json_is_boolean(json))
		snprintf(out, out_bytes, "%s", json_is_true(json) ? "true" : "false");
	size_t used = 0;
	for (size_t i = 0; i < json_array_size(json) && used < out_bytes; i++) {
		const char *text = json_string_value(json_array_get(json, i));
		int n = snprintf(out + used, out_bytes - used, "%s%s", i ? "," : "",
				 text ? text : "");
		used += n > 0 ? (size_t)n : 0;
	}
	return out;
}

const char *value_get_text(const struct value *object, const char *key)
{
	return value_text(value_get(object, key));
}

int64_t value_get_integer(const struct value *object, const char *key)
{
	return value_integer(value_get(object, key));
}

void value_set_text(struct value *object, const char *key, const char *text)
{
	json_object_set_new(value_json(object), key, json_string(text));
}

void value_set_integer(struct value *object, const char *key, int64_t number)
{
	json_object_set_new(value_json(object), key, json_integer(number));
}

void value_set_bool(struct value *object, const char *key, bool flag)
{
	json_object_set_new(value_json(object), key, json_boolean(flag));
}

void value_set(struct value *object, const char *key, struct value *value)
{
	json_object_set_new(value_json(object), key, value_json(value));
}

void value_append(struct value *array, struct value *value)
{
	json_array_append_new(value_json(array), value_json(value));
}

char *value_dump(const struct value *value, bool indented)
{
	return json_dumps(value_json(value),
			  JSON_ENCODE_ANY | (indented ? JSON_INDENT(2) : JSON_COMPACT));
}
