/* SPDX-License-Identifier: Apache-2.0 */
/* Records that others may have whole (heal.c), for fetch.c. */
#ifndef STORAGE_STORE_HEAL_H
#define STORAGE_STORE_HEAL_H

#include "storage/store/id.h"
#include "storage/store/wait.h"

struct store;

int heal_init(struct store *store);
void heal_exit(struct store *store);
/* WAITING: somebody was asked for it; the wait is woken, never inside this call, when it is stored
 * anew or when that has failed, and looks again. Negative: nobody can be asked. */
int heal_ask(struct store *store, const struct id *id, uint8_t type, struct wait *wait);

#endif
