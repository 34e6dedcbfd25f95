/* SPDX-License-Identifier: Apache-2.0 */
/* Structured events on stderr, ready for journald: one line, a level, an event's name, key=value
 * fields. Rate-limited for each event's name. Any thread. */
#ifndef STORAGE_RT_LOG_EVENT_H
#define STORAGE_RT_LOG_EVENT_H

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* Lower levels than this are dropped; INFO at start. */
void log_level_set(enum log_level level);

/* log_event(LOG_LEVEL_INFO, "fold.done", "volume=%s chunks=%u", name, count) */
__attribute__((format(printf, 3, 4))) void log_event(enum log_level level, const char *event,
						     const char *fields, ...);

#endif
