/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that run calls. They are made when they are needed, up to a bound, and kept; what comes
 * beyond waits in line (http.h bounds how much). */
#include "agent/api/api.h"

#include <errno.h>
#include <stdlib.h>

#define THREADS_MAX (VIRT_CALLS_MAX + 32u) /* all that wait for libvirt, and some that do not */
#define STACK_BYTES (512u * 1024u)

struct pool {
	struct agent *agent;
	pthread_mutex_t lock;
	pthread_cond_t work, ended;
	struct http_request *head, **tail;
	unsigned threads, idle, queued;
	bool stopping;
};

static void *pool_run(void *state)
{
	struct pool *pool = state;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		pool->idle++;
		while (!pool->head && !pool->stopping)
			pthread_cond_wait(&pool->work, &pool->lock);
		pool->idle--;
		struct http_request *request = pool->head;
		if (!request)
			break;
		pool->head = request->next;
		if (!pool->head)
			pool->tail = &pool->head;
		pool->queued--;
		pthread_mutex_unlock(&pool->lock);
		call_handle(pool->agent, request);
		pthread_mutex_lock(&pool->lock);
	}
	pool->threads--;
	pthread_cond_broadcast(&pool->ended);
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int thread_new(struct pool *pool)
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int res = -pthread_create(&thread, &attr, pool_run, pool);
	pthread_attr_destroy(&attr);
	return res;
}

int pool_new(struct agent *agent, struct pool **ret_pool)
{
	struct pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return -ENOMEM;
	pool->agent = agent;
	pool->tail = &pool->head;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->ended, NULL);
	pool->threads = 1;
	int res = thread_new(pool);
	if (res < 0)
		free(pool);
	else
		*ret_pool = pool;
	return res;
}

void pool_take(void *state, struct http_request *request)
{
	struct pool *pool = state;
	request->next = NULL;
	pthread_mutex_lock(&pool->lock);
	*pool->tail = request;
	pool->tail = &request->next;
	pool->queued++;
	/* An idle one that was woken counts as idle until it runs. Without one more it waits in
	 * line: no failure. */
	if (pool->queued > pool->idle && pool->threads < THREADS_MAX && thread_new(pool) == 0)
		pool->threads++;
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->lock);
}

void pool_free(struct pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	while (pool->threads)
		pthread_cond_wait(&pool->ended, &pool->lock);
	pthread_mutex_unlock(&pool->lock);
	pthread_cond_destroy(&pool->work);
	pthread_cond_destroy(&pool->ended);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
