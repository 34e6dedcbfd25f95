/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: one write(2) a line. Where stderr goes to journald a "<LEVEL>" prefix tells it the
 * priority. An event's name may appear at most EVENTS_PER_SECOND times a second; what was held back
 * is counted in its next line.
 */
#include "storage/rt/log_event.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_SECOND 20u
#define NAMES_MAX 128u

static enum log_level level_max = LOG_LEVEL_INFO;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	const char *name;
	time_t second;
	unsigned count, held;
} rates[NAMES_MAX];

void log_level_set(enum log_level level)
{
	level_max = level;
}

/* False: drop it. *ret_held: how many were dropped before this one. */
static bool event_allowed(const char *event, unsigned *ret_held)
{
	struct timespec now;
	bool allowed = true;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	*ret_held = 0;
	pthread_mutex_lock(&lock);
	for (unsigned i = 0; i < NAMES_MAX; i++) {
		if (rates[i].name && strcmp(rates[i].name, event) != 0)
			continue;
		if (!rates[i].name || rates[i].second != now.tv_sec) {
			rates[i].name = event;
			rates[i].second = now.tv_sec;
			rates[i].count = 0;
			*ret_held = rates[i].held;
			rates[i].held = 0;
		}
		allowed = ++rates[i].count <= EVENTS_PER_SECOND;
		if (!allowed)
			rates[i].held++;
		break;
	}
	pthread_mutex_unlock(&lock);
	return allowed;
}

void log_event(enum log_level level, const char *event, const char *fields, ...)
{
	char line[1024];
	unsigned held;
	if (level > level_max || !event_allowed(event, &held))
		return;
	int at = snprintf(line, sizeof line, getenv("JOURNAL_STREAM") ? "<%d>%s " : "%.0d%s ",
			  getenv("JOURNAL_STREAM") ? (int)level : 0, event);
	va_list args;
	va_start(args, fields);
	int more = vsnprintf(line + at, sizeof line - (size_t)at - 32, fields, args);
	va_end(args);
	if (more < 0)
		more = 0;
	at += more < (int)sizeof line - at - 32 ? more : (int)sizeof line - at - 33;
	if (held)
		at += snprintf(line + at, 24, " held_back=%u", held);
	for (int i = 0; i < at; i++) /* a name of a user's never breaks the line */
		if ((unsigned char)line[i] < 0x20)
			line[i] = '?';
	line[at++] = '\n';
	ssize_t written = write(STDERR_FILENO, line, (size_t)at);
	(void)written; /* nowhere to say it */
}
