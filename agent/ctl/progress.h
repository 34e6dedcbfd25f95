/* SPDX-License-Identifier: Apache-2.0 */
/* How far something is, on stderr: a bar on a terminal, or JSON lines. */
#ifndef AGENT_CTL_PROGRESS_H
#define AGENT_CTL_PROGRESS_H

#include "agent/ctl/ctl.h"

struct progress {
	const char *what; /* "import", "gc" */
	bool bytes;	  /* the figures are bytes */
	enum ctl_progress mode;
	uint64_t start_ns, shown_ns;
	uint64_t first; /* what was done when it was first shown */
	bool drawn;	/* a bar stands on the terminal's line */
};

void progress_init(struct progress *progress, const struct ctl *ctl, const char *what, bool bytes);
/* Cheap to call often: draws a few times a second. total 0: unknown. */
void progress_at(struct progress *progress, uint64_t done, uint64_t total);
/* Seconds until its end if it goes on as it did so far, PROGRESS_UNKNOWN within the first second.
 */
#define PROGRESS_UNKNOWN UINT64_MAX
uint64_t progress_left_seconds(uint64_t elapsed_ns, uint64_t done, uint64_t total);
/* Takes the bar away; before any other words on stderr. */
void progress_done(struct progress *progress);

#endif
