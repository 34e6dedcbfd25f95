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

static void bar_draw(struct progress *progress, uint64_t done, uint64_t total, uint64_t now_ns)
{
	char bar[BAR_CELLS + 1], amount[32], rate[40] = "";
	uint64_t elapsed_ms = (now_ns - progress->start_ns) / NSEC_PER_MSEC;
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
				 text_human((uint64_t)((double)done * 1000 / (double)elapsed_ms),
					    text, sizeof text));
	} else {
		snprintf(amount, sizeof amount, "%" PRIu64, done);
	}
	/* Back to the line's start, and clear what is longer there. */
	fprintf(stderr, "\r%s [%s] %3.0f%%  %s%s\033[K", progress->what, bar, part * 100, amount,
		rate);
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
	progress->shown_ns = now_ns;
	if (progress->mode == PROGRESS_JSON)
		fprintf(stderr,
			"{\"what\":\"%s\",\"progress\":%" PRIu64 ",\"total\":%" PRIu64 "}\n",
			progress->what, done, total);
	else
		bar_draw(progress, done, total, now_ns);
}

void progress_done(struct progress *progress)
{
	if (progress->drawn)
		fprintf(stderr, "\r\033[K");
	progress->drawn = false;
}
