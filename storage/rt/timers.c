/* SPDX-License-Identifier: Apache-2.0 */
/* The heap keeps each timer's index up to date, so that stopping one is O(log n). */
#include "storage/rt/timers.h"

#include <stdio.h>
#include <stdlib.h>

static void timers_place(struct timers *timers, uint32_t at, struct env_timer *timer)
{
	timers->heap[at] = timer;
	timer->heap_index = at;
}

static void timers_up(struct timers *timers, uint32_t at)
{
	struct env_timer *timer = timers->heap[at];
	for (; at > 1 && timers->heap[at / 2]->at_ns > timer->at_ns; at /= 2)
		timers_place(timers, at, timers->heap[at / 2]);
	timers_place(timers, at, timer);
}

static void timers_down(struct timers *timers, uint32_t at)
{
	struct env_timer *timer = timers->heap[at];
	while (at * 2 <= timers->count) {
		uint32_t child = at * 2;
		if (child < timers->count &&
		    timers->heap[child + 1]->at_ns < timers->heap[child]->at_ns)
			child++;
		if (timers->heap[child]->at_ns >= timer->at_ns)
			break;
		timers_place(timers, at, timers->heap[child]);
		at = child;
	}
	timers_place(timers, at, timer);
}

void timers_start(struct timers *timers, struct env_timer *timer, uint64_t at_ns)
{
	timers_stop(timers, timer);
	if (timers->count + 1 >= timers->room) {
		uint32_t room = timers->room ? timers->room * 2 : 64;
		struct env_timer **heap = reallocarray(timers->heap, room, sizeof(*heap));
		if (!heap) {
			fputs("vstored: no memory for a timer\n", stderr);
			abort();
		}
		timers->heap = heap;
		timers->room = room;
	}
	timer->at_ns = at_ns;
	timers_place(timers, ++timers->count, timer);
	timers_up(timers, timers->count);
}

void timers_stop(struct timers *timers, struct env_timer *timer)
{
	uint32_t at = timer->heap_index;
	if (!at)
		return;
	timer->heap_index = 0;
	struct env_timer *last = timers->heap[timers->count--];
	if (last == timer)
		return;
	timers_place(timers, at, last);
	timers_up(timers, at);
	timers_down(timers, last->heap_index);
}

uint64_t timers_next_ns(const struct timers *timers)
{
	return timers->count ? timers->heap[1]->at_ns : UINT64_MAX;
}

unsigned timers_fire(struct timers *timers, uint64_t now_ns)
{
	unsigned fired = 0;
	for (uint32_t bound = timers->count; bound && timers_next_ns(timers) <= now_ns; bound--) {
		struct env_timer *timer = timers->heap[1];
		timers_stop(timers, timer);
		timer->fire(timer);
		fired++;
	}
	return fired;
}

void timers_done(struct timers *timers)
{
	free(timers->heap);
	*timers = (struct timers){0};
}
