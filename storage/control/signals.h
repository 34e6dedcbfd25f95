/* SPDX-License-Identifier: Apache-2.0 */
/* SIGTERM and SIGINT: the first asks the reactor to end, the second ends the process at once.
 * SIGUSR2 asks for a restart, which who does not know it ignores. */
#ifndef STORAGE_CONTROL_SIGNALS_H
#define STORAGE_CONTROL_SIGNALS_H

#include "storage/rt/env.h"

#include <stdbool.h>

/* Before any thread starts; SIGPIPE is ignored from here on. */
void signals_block(void);

/* Starts the thread that waits for them and wakes `env`. 0 or -errno. */
int signals_start(struct env *env);

/* On the reactor's thread: one came. */
bool signals_stop_asked(void);
bool signals_restart_asked(void);

/* Before the process becomes another program: nobody waits for signals from here on, so that one
 * that comes is pending until that program waits. Returns whether an end was asked for before. */
bool signals_end(void);

#endif
