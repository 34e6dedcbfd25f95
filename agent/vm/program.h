/* SPDX-License-Identifier: Apache-2.0 */
/* Other programs (xorriso, qemu): started without a shell, with a time limit, ended with it. */
#ifndef AGENT_VM_PROGRAM_H
#define AGENT_VM_PROGRAM_H

#include <stddef.h>

/* Runs argv (found by PATH; ends with NULL) with no input. What it says, the last `room` - 1 bytes
 * of it, goes to ret_words. Returns its exit status, 128 + a signal's number, or -ENOENT (it is not
 * installed), -ETIMEDOUT (it was killed). Any thread. */
int program_run(const char *const *argv, int timeout_ms, char *ret_words, size_t room);

#endif
