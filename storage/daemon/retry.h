/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is tried until it works: behind each failure of a row a pause that is twice as long as the
 * one before, from 2 s to a minute. All zeros: nothing was tried yet. Kept by whoever tries, who
 * looks at the clock itself.
 */
#ifndef STORAGE_DAEMON_RETRY_H
#define STORAGE_DAEMON_RETRY_H

#include "proto/err.h"
#include "proto/units.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define RETRY_NS_MIN (2 * NSEC_PER_SEC)
#define RETRY_NS_MAX (60 * NSEC_PER_SEC)

struct retry {
	uint64_t at_ns;		       /* not before */
	uint64_t pause_ns;	       /* the last one; 0: the next failure is the first of a row */
	char sentence[SENTENCE_BYTES]; /* why it failed last, "" after it worked */
};

/* `sentence` "": what `res` says. True: it is not what the failure before said, so somebody is to
 * be told. */
static inline bool retry_failed(struct retry *retry, uint64_t now_ns, int res, const char *sentence)
{
	if (!sentence[0])
		sentence = vs_strerror(res);
	bool other = strcmp(retry->sentence, sentence) != 0;
	retry->pause_ns = min_u64(max_u64(2 * retry->pause_ns, RETRY_NS_MIN), RETRY_NS_MAX);
	retry->at_ns = now_ns + retry->pause_ns;
	if (other)
		snprintf(retry->sentence, sizeof retry->sentence, "%s", sentence);
	return other;
}

static inline void retry_worked(struct retry *retry)
{
	*retry = (struct retry){0};
}

#endif
