/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shall the reactor look around for a moment before it sleeps?
 *
 * To wake it costs whoever does it an interrupt of another processor, and the reactor two switches:
 * with a client that sends a request every few microseconds, most of what both of them do. So
 * while waits have been short, it looks for SPIN_NS before it sleeps; when they are long it
 * sleeps at once and costs nothing. Its caller spins only while all that can come is a
 * request: whoever works for it (the disk, a worker) may need the processor.
 *
 * Pure: what it decides depends on the waits that it was told of.
 */
#ifndef STORAGE_RT_SPIN_H
#define STORAGE_RT_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS 20000u
#define SPIN_SCORE_MAX 32u
#define SPIN_SCORE_PAYS 16u
#define SPIN_SCORE_LOSS 4u /* so four waits of five must be short */

struct spin {
	unsigned score;
};

static inline bool spin_pays(const struct spin *spin)
{
	return spin->score >= SPIN_SCORE_PAYS;
}

/* After a wait, spun or slept. */
static inline void spin_note(struct spin *spin, uint64_t waited_ns)
{
	if (waited_ns <= SPIN_NS)
		spin->score += spin->score < SPIN_SCORE_MAX;
	else
		spin->score -= spin->score < SPIN_SCORE_LOSS ? spin->score : SPIN_SCORE_LOSS;
}

#endif
