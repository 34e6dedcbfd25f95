/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One mutex guards the two queues, one the finished list: both are held for a few instructions. A
 * thread is woken only when one sleeps. Background jobs are taken only when no foreground job
 * waits.
 */
#include "storage/rt/workers.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define WORKERS_MAX 64u

struct job_queue {
	struct io_op *head, **tail;
};

struct worker {
	struct workers *workers;
	pthread_t thread;
	unsigned number;
};

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job_queue foreground, background;
	unsigned sleeping;
	bool stopping;

	pthread_mutex_t done_lock;
	struct job_queue done;
	void (*notify)(void *arg);
	void *arg;

	unsigned count;
	struct worker worker[];
};

static void queue_add(struct job_queue *queue, struct io_op *op)
{
	op->link = NULL;
	*queue->tail = op;
	queue->tail = &op->link;
}

static struct env_job *queue_take(struct job_queue *queue)
{
	struct io_op *op = queue->head;
	if (!op)
		return NULL;
	queue->head = op->link;
	if (!queue->head)
		queue->tail = &queue->head;
	return container_of(op, struct env_job, op);
}

/* Whoever takes the op may end everything next, and a thread of others is not waited for: it must
 * be done with us before the op can be taken. */
void workers_post(struct workers *workers, struct io_op *op)
{
	pthread_mutex_lock(&workers->done_lock);
	bool was_empty = !workers->done.head;
	queue_add(&workers->done, op);
	if (was_empty)
		workers->notify(workers->arg);
	pthread_mutex_unlock(&workers->done_lock);
}

/* Of our own threads, which workers_free waits for: they wake the reactor without the lock. */
static void worker_done(struct workers *workers, struct io_op *op)
{
	pthread_mutex_lock(&workers->done_lock);
	bool was_empty = !workers->done.head;
	queue_add(&workers->done, op);
	pthread_mutex_unlock(&workers->done_lock);
	if (was_empty)
		workers->notify(workers->arg);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct workers *workers = worker->workers;
	pthread_mutex_lock(&workers->lock);
	for (;;) {
		struct env_job *job = queue_take(&workers->foreground);
		if (!job)
			job = queue_take(&workers->background);
		if (!job && workers->stopping)
			break;
		if (!job) {
			workers->sleeping++;
			pthread_cond_wait(&workers->wake, &workers->lock);
			workers->sleeping--;
			continue;
		}
		pthread_mutex_unlock(&workers->lock);
		job->op.res = job->run(job, worker->number);
		worker_done(workers, &job->op);
		pthread_mutex_lock(&workers->lock);
	}
	pthread_mutex_unlock(&workers->lock);
	return NULL;
}

int workers_new(unsigned count, void (*notify)(void *arg), void *arg, struct workers **ret_workers)
{
	if (count > WORKERS_MAX)
		return -EINVAL;
	struct workers *workers = calloc(1, sizeof(*workers) + count * sizeof(struct worker));
	if (!workers)
		return -ENOMEM;
	pthread_mutex_init(&workers->lock, NULL);
	pthread_mutex_init(&workers->done_lock, NULL);
	pthread_cond_init(&workers->wake, NULL);
	workers->foreground.tail = &workers->foreground.head;
	workers->background.tail = &workers->background.head;
	workers->done.tail = &workers->done.head;
	workers->notify = notify;
	workers->arg = arg;
	for (unsigned i = 0; i < count; i++) {
		struct worker *worker = &workers->worker[i];
		worker->workers = workers;
		worker->number = i + 1;
		int err = pthread_create(&worker->thread, NULL, worker_main, worker);
		if (err) {
			workers_free(workers);
			return -err;
		}
		workers->count++;
	}
	*ret_workers = workers;
	return 0;
}

void workers_free(struct workers *workers)
{
	if (!workers)
		return;
	pthread_mutex_lock(&workers->lock);
	workers->stopping = true;
	workers->foreground = (struct job_queue){.tail = &workers->foreground.head};
	workers->background = (struct job_queue){.tail = &workers->background.head};
	pthread_cond_broadcast(&workers->wake);
	pthread_mutex_unlock(&workers->lock);
	for (unsigned i = 0; i < workers->count; i++)
		pthread_join(workers->worker[i].thread, NULL);
	pthread_cond_destroy(&workers->wake);
	pthread_mutex_destroy(&workers->lock);
	pthread_mutex_destroy(&workers->done_lock);
	free(workers);
}

void workers_add(struct workers *workers, struct env_job *job)
{
	pthread_mutex_lock(&workers->lock);
	queue_add(job->background ? &workers->background : &workers->foreground, &job->op);
	bool wake = workers->sleeping > 0;
	pthread_mutex_unlock(&workers->lock);
	if (wake)
		pthread_cond_signal(&workers->wake);
}

struct io_op *workers_take_done(struct workers *workers)
{
	pthread_mutex_lock(&workers->done_lock);
	struct io_op *head = workers->done.head;
	workers->done = (struct job_queue){.tail = &workers->done.head};
	pthread_mutex_unlock(&workers->done_lock);
	return head;
}

struct env_job *workers_take_foreground(struct workers *workers)
{
	pthread_mutex_lock(&workers->lock);
	struct env_job *job = queue_take(&workers->foreground);
	pthread_mutex_unlock(&workers->lock);
	return job;
}
