/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps followers near: takes cuts of their volumes when those have changed for long or by much,
 * sends them, and knows what each follower has for certain. Reactor thread only.
 */
#ifndef STORAGE_DAEMON_FOLLOW_H
#define STORAGE_DAEMON_FOLLOW_H

#include "storage/repl/repl.h"

struct follows;

int follows_new(struct env *env, struct store *store, struct repl *repl, struct follows **ret);
/* Sends under way are cancelled; then follows_idle, then follows_free. */
void follows_stop(struct follows *follows);
bool follows_idle(const struct follows *follows);
void follows_free(struct follows *follows);

/* What a follower has, and what would be lost if this host died now. */
struct follow_state {
	struct follower_info info;
	bool verified; /* since this vstored started, what follows is known ... */
	uint64_t epoch, vseq, taken_wall_ns;
	uint8_t root[ID_BYTES];
	bool behind; /* ... and was written to since, or nothing is known */
	uint64_t lag_ns, lag_bytes;
	bool in_step;	    /* gets each write now; the root is not known then */
	bool late, sending; /* late: by more than its rules say, and a day, if it has hours */
	bool held;	    /* its hours are not now */
	uint64_t sent_bytes, cuts;
	char sentence[SENTENCE_BYTES]; /* why the last cut did not get there, or "" */
};
/* An array for the caller to free; -ENOMEM. NULL follows: none. */
int follows_states(const struct follows *follows, struct follow_state **ret, size_t *ret_count);

#endif
