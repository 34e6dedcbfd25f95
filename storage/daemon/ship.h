/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends the snapshots that policies take to the hosts that the policies name, and knows what is not
 * there yet. What a host does with what it has is its own: nothing is deleted there, and what was
 * deleted there does not come back. Reactor thread only.
 */
#ifndef STORAGE_DAEMON_SHIP_H
#define STORAGE_DAEMON_SHIP_H

#include "storage/repl/repl.h"

struct ships;

int ships_new(struct env *env, struct store *store, struct repl *repl, struct ships **ret);
/* Sends under way are cancelled; then ships_idle, then ships_free. NULL is fine. */
void ships_stop(struct ships *ships);
bool ships_idle(const struct ships *ships);
void ships_free(struct ships *ships);

/* A volume's policy, one of its hosts, and what is to go there. */
struct ship_state {
	char volume[NAME_ROOM], host[NAME_ROOM], policy[NAME_ROOM];
	uint64_t rate_bytes; /* that counts now: the policy's, or the async replica's there */
	struct window window;
	uint32_t waiting;   /* snapshots that are to go there ... */
	uint64_t waits_ns;  /* ... the oldest of them was taken so long ago */
	bool sending, held; /* held: the hours are not now */
	bool late;	    /* it waits for longer than the policy's period, and a day with hours */
	uint64_t sent, sent_bytes;     /* since vstored started */
	char snapshot[SNAP_NAME_ROOM]; /* that is being sent, or is the next, or "" */
	char sentence[SENTENCE_BYTES]; /* why the last one did not get there, or "" */
};
/* An array for the caller to free; -ENOMEM. NULL ships: none. */
int ships_states(const struct ships *ships, struct ship_state **ret, size_t *ret_count);

#endif
