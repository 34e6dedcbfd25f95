/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hours of each day: when something may be sent. By the local time of the machine that asks (TZ),
 * as people mean "at night": on the days when a clock is put forward or back, such a night is an
 * hour shorter or longer, and nothing else happens. libc only, any thread.
 */
#ifndef PROTO_WINDOW_H
#define PROTO_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define WINDOW_DAY_MINUTES 1440u

/* Minutes since midnight, below WINDOW_DAY_MINUTES; `until` is the first one outside, and may lie
 * before `from`: on the next day. Equal: always, and then both are 0. */
struct window {
	uint16_t from, until;
};

static inline bool window_always(const struct window *window)
{
	return window->from == window->until;
}
/* Foreign numbers: do they make one? */
bool window_good(const struct window *window);
bool window_has(const struct window *window, unsigned minute);
/* Is it open at this moment? */
bool window_open(const struct window *window, uint64_t wall_ns);

/* "22:00-06:00", "always"; 24:00 may be its end. -EINVAL; *ret untouched then. */
int window_parse(const char *text, struct window *ret);
#define WINDOW_TEXT_BYTES 12
void window_text(const struct window *window, char out[WINDOW_TEXT_BYTES]);

#endif
