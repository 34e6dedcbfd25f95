/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The codec pool: threads that run pure jobs. Two queues, foreground first; finished jobs are
 * handed back in batches. Only this file and uring.c know of threads.
 */
#ifndef STORAGE_RT_WORKERS_H
#define STORAGE_RT_WORKERS_H

#include "storage/rt/env.h"

struct workers;

/* `notify` is called on a worker's thread when the list of finished ops was empty and is not any
 * more. */
int workers_new(unsigned count, void (*notify)(void *arg), void *arg, struct workers **ret_workers);
/* Ends the threads; jobs that wait are dropped (the loop does not run any more). */
void workers_free(struct workers *workers);
void workers_add(struct workers *workers, struct env_job *job);
/* Any thread: an op that ends as it is. */
void workers_post(struct workers *workers, struct io_op *op);
/* The finished ops, oldest first, linked by `link`; NULL: none. */
struct io_op *workers_take_done(struct workers *workers);
/* A waiting foreground job, for the reactor to run itself; NULL: none. */
struct env_job *workers_take_foreground(struct workers *workers);

#endif
