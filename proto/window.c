/* SPDX-License-Identifier: Apache-2.0 */
/* Hours of each day, see window.h. */
#include "proto/window.h"

#include "proto/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

bool window_good(const struct window *window)
{
	return window->from < WINDOW_DAY_MINUTES && window->until < WINDOW_DAY_MINUTES &&
	       (!window_always(window) || window->from == 0);
}

bool window_has(const struct window *window, unsigned minute)
{
	if (window->from < window->until)
		return minute >= window->from && minute < window->until;
	/* Over midnight, or always. */
	return minute >= window->from || minute < window->until;
}

bool window_open(const struct window *window, uint64_t wall_ns)
{
	time_t seconds = (time_t)(wall_ns / NSEC_PER_SEC);
	struct tm tm;
	if (window_always(window) || !localtime_r(&seconds, &tm))
		return true;
	return window_has(window, (unsigned)(tm.tm_hour * 60 + tm.tm_min));
}

/* HH:MM, to 24:00; -1. */
static int minutes_parse(const char *at)
{
	static const char digits[] = "0123456789";
	for (unsigned i = 0; i < 5; i++)
		if (i == 2 ? at[i] != ':' : !at[i] || !strchr(digits, at[i]))
			return -1;
	int hours = (at[0] - '0') * 10 + at[1] - '0', minutes = (at[3] - '0') * 10 + at[4] - '0';
	return minutes > 59 || hours * 60 + minutes > (int)WINDOW_DAY_MINUTES
		       ? -1
		       : hours * 60 + minutes;
}

int window_parse(const char *text, struct window *ret)
{
	if (strcmp(text, "always") == 0) {
		*ret = (struct window){0};
		return 0;
	}
	if (strlen(text) != 11 || text[5] != '-')
		return -EINVAL;
	int from = minutes_parse(text), until = minutes_parse(text + 6);
	/* From a moment until the same one may be all of a day, or nothing of it. */
	if (from < 0 || until < 0 || from == until || from == (int)WINDOW_DAY_MINUTES)
		return -EINVAL;
	*ret = (struct window){.from = (uint16_t)from,
			       .until = (uint16_t)(until % (int)WINDOW_DAY_MINUTES)};
	return 0;
}

void window_text(const struct window *window, char out[WINDOW_TEXT_BYTES])
{
	if (window_always(window))
		snprintf(out, WINDOW_TEXT_BYTES, "always");
	else
		snprintf(out, WINDOW_TEXT_BYTES, "%02u:%02u-%02u:%02u", window->from / 60u % 24u,
			 window->from % 60u, window->until / 60u % 24u, window->until % 60u);
}
