/* SPDX-License-Identifier: Apache-2.0 */
/* Who waits for something is woken once, and looks again from the start. */
#ifndef STORAGE_STORE_WAIT_H
#define STORAGE_STORE_WAIT_H

#include <stddef.h>

struct wait {
	void (*wake)(struct wait *wait);
	struct wait *next;
};
struct wait_list {
	struct wait *head, *last;
};
/* NULL: the asker only looked, and does not wait. */
static inline void wait_add(struct wait_list *list, struct wait *wait)
{
	if (!wait)
		return;
	wait->next = NULL;
	if (list->head)
		list->last->next = wait;
	else
		list->head = wait;
	list->last = wait;
}
static inline void wait_wake_all(struct wait_list *list)
{
	struct wait *wait = list->head;
	list->head = NULL;
	while (wait) {
		struct wait *next = wait->next; /* wake may add it to a list again */
		wait->wake(wait);
		wait = next;
	}
}

/* Answers of functions that may have to wait: 0, WAITING (the wait is woken), or a negative code.
 */
#define WAITING 1

#endif
