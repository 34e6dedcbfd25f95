/* SPDX-License-Identifier: Apache-2.0 */
/* The NoCloud seed of a guest: an ISO with meta-data (name, keys), user-data and network-config,
 * made by xorriso. */
#ifndef AGENT_VM_SEED_H
#define AGENT_VM_SEED_H

#include "agent/vm/storage.h"

/* Makes `path`.iso from the definition and {user_data, ssh_keys: []}; what it needs beside it is
 * gone afterwards. -ENOENT: xorriso is not installed. */
int seed_make(const json_t *spec, const json_t *input, const char *path, struct problem *problem);

/* user_data is what cloud-init takes, keys look like keys. */
int seed_check(const json_t *input, struct problem *problem);

#endif
