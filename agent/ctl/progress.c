/* SPDX-License-Identifier: Apache-2.0 */
/* Progress on stderr, at most five times a second. */
#include "agent/ctl/progress.h"

#include "proto/text.h"
#include "proto/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_EVERY_NS (200 * NSEC_PER_MSEC)
#define BAR_CELLS 30

void progress_init(struct progress *progress, const struct ctl *ctl, const char *what, bool bytes)
{
	*progress = (struct progress){.what = what, .bytes = bytes, .mode = ctl->progress};
	if (progress->mode == PROGRESS_AUTO)
		progress->mode = isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_NONE;
	if (ctl->quiet)
		progress->mode = PROGRESS_NONE;
	progress->start_ns = ctl_now_ns();
}

uint64_t progress_left_seconds(uint64_t elapsed_ns, uint64_t done, uint64_t total)
{
	if (elapsed_ns < NSEC_PER_SEC || !done || done > total)
		return PROGRESS_UNKNOWN;
	double seconds = (double)elapsed_ns / (double)NSEC_PER_SEC;
	return (uint64_t)(seconds * (double)(total - done) / (double)done + 0.5);
}

/* Somebody may have come when part of it was done: that tells nothing about its pace. */
static uint64_t left_seconds(const struct progress *progress, uint64_t done, uint64_t total,
			     uint64_t now_ns)
{
	uint64_t first = progress->first;
	if (done < first || total < first)
		return PROGRESS_UNKNOWN;
	return progress_left_seconds(now_ns - progress->start_ns, done - first, total - first);
}

static void bar_draw(struct progress *progress, uint64_t done, uint64_t total, uint64_t now_ns)
{
	char bar[BAR_CELLS + 1], amount[32], rate[40] = "", left[40] = "";
	uint64_t elapsed_ms = (now_ns - progress->start_ns) / NSEC_PER_MSEC;
	uint64_t seconds = left_seconds(progress, done, total, now_ns);
	uint64_t since = done > progress->first ? done - progress->first : 0;
	double part = total ? (double)done / (double)total : 0;
	unsigned cells = (unsigned)((part > 1 ? 1 : part) * BAR_CELLS);
	memset(bar, '.', BAR_CELLS);
	memset(bar, '#', cells);
	bar[BAR_CELLS] = 0;
	if (progress->bytes) {
		char text[32];
		text_human(done, amount, sizeof amount);
		if (elapsed_ms)
			snprintf(rate, sizeof rate, "  %s/s",
				 text_human((uint64_t)((double)since * 1000 / (double)elapsed_ms),
					    text, sizeof text));
	} else {
		snprintf(amount, sizeof amount, "%" PRIu64, done);
	}
	if (seconds != PROGRESS_UNKNOWN)
		snprintf(left, sizeof left, "  %" PRIu64 ":%02" PRIu64 " left", seconds / 60,
			 seconds % 60);
	/* Back to the line's start, and clear what is longer there. */
	fprintf(stderr, "\r%s [%s] %3.0f%%  %s%s%s\033[K", progress->what, bar, part * 100, amount,
		rate, left);
	fflush(stderr);
	progress->drawn = true;
}

void progress_at(struct progress *progress, uint64_t done, uint64_t total)
{
	if (progress->mode == PROGRESS_NONE)
		return;
	uint64_t now_ns = ctl_now_ns();
	if (progress->shown_ns && now_ns - progress->shown_ns < PROGRESS_EVERY_NS)
		return;
	if (!progress->shown_ns) {
		progress->first = done;
		progress->start_ns = now_ns;
	}
	progress->shown_ns = now_ns;
	if (progress->mode == PROGRESS_BAR) {
		bar_draw(progress, done, total, now_ns);
		return;
	}
	char left[48] = "";
	uint64_t seconds = left_seconds(progress, done, total, now_ns);
	if (seconds != PROGRESS_UNKNOWN)
		snprintf(left, sizeof left, ",\"seconds_left\":%" PRIu64, seconds);
	fprintf(stderr, "{\"what\":\"%s\",\"progress\":%" PRIu64 ",\"total\":%" PRIu64 "%s}\n",
		progress->what, done, total, left);
}

void progress_done(struct progress *progress)
{
	if (progress->drawn)
		fprintf(stderr, "\r\033[K");
	progress->drawn = false;
}
