/* SPDX-License-Identifier: Apache-2.0 */
/* The epoch that a volume's writes carry, see epoch.c. */
#ifndef STORAGE_STORE_EPOCH_H
#define STORAGE_STORE_EPOCH_H

#include "storage/store/store_int.h"

/* May a write be admitted? If not, the epoch is being raised, and write_kick follows. The caller
 * holds a view of the volume until then. */
bool epoch_ready(struct store *store, struct volume *volume);

#endif
