/* SPDX-License-Identifier: Apache-2.0 */
/* Names, sizes and levels as users type them. */
#include "agent/ctl/names.h"

#include "proto/text.h"
#include "proto/window.h"

#include <stdlib.h>
#include <string.h>

int name_check(const struct ctl *ctl, const char *name)
{
	if (text_name_ok(name, strlen(name)))
		return 0;
	return ctl_fail(
		ctl, CTL_USAGE,
		"\"%.80s\" is no name; a name has 1 to 63 letters, digits, '.', '_' or '-', and "
		"begins with a letter or digit.",
		name);
}

int name_check_snapshot(const struct ctl *ctl, const char *name)
{
	if (strchr(name, '@'))
		return 0;
	return ctl_fail(ctl, CTL_USAGE, "\"%.80s\" is no snapshot; write it as VOLUME@SNAP.", name);
}

int name_check_either(const struct ctl *ctl, const char *name)
{
	const char *at = strchr(name, '@');
	size_t bytes = at ? (size_t)(at - name) : strlen(name);
	if (text_volume_ok(name, bytes) && (!at || text_name_ok(at + 1, strlen(at + 1))))
		return 0;
	return ctl_fail(ctl, CTL_USAGE, "\"%.80s\" is neither a volume's name nor VOLUME@SNAP.",
			name);
}

int size_parse(const struct ctl *ctl, const char *text, uint64_t *ret_bytes)
{
	if (text_size(text, ret_bytes) == 0 && *ret_bytes <= INT64_MAX)
		return 0;
	return ctl_fail(ctl, CTL_USAGE, "\"%.40s\" is no size; write it like 20G, 512M or 4096.",
			text);
}

int level_parse(const struct ctl *ctl, const char *text, int64_t *ret_level)
{
	char *end;
	long level = strtol(text, &end, 10);
	if (end == text || *end || level < -7 || level > 22)
		return ctl_fail(ctl, CTL_USAGE,
				"\"%.40s\" is no level of zstd; 1 is fast, 19 is small and slow.",
				text);
	*ret_level = level;
	return 0;
}

int seconds_parse(const struct ctl *ctl, const char *text, int64_t *ret_seconds)
{
	uint64_t ns;
	if (text_duration(text, &ns) < 0)
		return ctl_fail(ctl, CTL_USAGE, "\"%.40s\" is no time; write it like 10s or 5m.",
				text);
	if (ns % NSEC_PER_SEC)
		return ctl_fail(ctl, CTL_USAGE, "\"%.40s\" is no whole number of seconds.", text);
	*ret_seconds = (int64_t)(ns / NSEC_PER_SEC);
	return 0;
}

int id_check(const struct ctl *ctl, const char *list, const char *id)
{
	/* vstore-agent's own jobs are a1, a2 ... */
	const char *digits = id + (*id == 'a' && strcmp(list, "job") == 0);
	if (*digits && strlen(digits) < 10 && strspn(digits, "0123456789") == strlen(digits))
		return 0;
	return ctl_fail(ctl, CTL_USAGE,
			"\"%.80s\" is no number: take the ID that 'vstorectl %s list' shows.", id,
			list);
}

int count_parse(const struct ctl *ctl, const char *what, const char *text, int64_t *ret_count)
{
	char *end;
	*ret_count = strtoll(text, &end, 10);
	if (*text < '0' || *text > '9' || *end)
		return ctl_fail(ctl, CTL_USAGE, "\"%.40s\" is no number for %s.", text, what);
	return 0;
}

int window_check(const struct ctl *ctl, const char *text)
{
	struct window window;
	if (window_parse(text, &window) == 0)
		return 0;
	return ctl_fail(ctl, CTL_USAGE,
			"--window \"%.40s\" are no hours: write them like 22:00-06:00, by the "
			"sending host's local time, or \"always\".",
			text);
}
