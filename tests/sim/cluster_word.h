/* SPDX-License-Identifier: Apache-2.0 */
/* See cluster_word.c. */
#ifndef TESTS_SIM_CLUSTER_WORD_H
#define TESTS_SIM_CLUSTER_WORD_H

#include "storage/store/store.h"

/* That word, or a newer one. */
bool cluster_word_kept(const struct store *store, const struct store_word *word);
/* Any of that volume. */
bool cluster_word_any(const struct store *store, const uint8_t uuid[16]);

#endif
