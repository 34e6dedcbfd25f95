/* SPDX-License-Identifier: Apache-2.0 */
/* The epoch that a volume's writes carry, see epoch.c. */
#ifndef STORAGE_STORE_EPOCH_H
#define STORAGE_STORE_EPOCH_H

#include "storage/store/objects.h"

/* May something of the volume take its next vseq? If not, the epoch is being raised, and write_kick
 * and admin_kick follow. The caller holds a view of the volume until then, or is a command: one
 * that removes the volume comes after it in the log. */
bool epoch_ready(struct store *store, struct volume *volume);

#endif
