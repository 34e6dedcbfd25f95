/* SPDX-License-Identifier: Apache-2.0 */
/* A thread waits for the signals, the reactor hears of it: nothing runs in a signal's handler. */
#include "storage/control/signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

static struct {
	struct env *env;
	struct io_op op;
	bool stop; /* the reactor's */
} signals;

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
}

static void signal_heard(struct io_op *op)
{
	signals.stop = true;
}

static void *signal_wait(void *state)
{
	sigset_t set;
	int number;
	signal_set(&set);
	sigwait(&set, &number);
	signals.op.done = signal_heard;
	env_post(signals.env, &signals.op);
	sigwait(&set, &number);
	_exit(1);
}

void signals_block(void)
{
	sigset_t set;
	signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int signals_start(struct env *env)
{
	pthread_t thread;
	signals.env = env;
	int res = pthread_create(&thread, NULL, signal_wait, NULL);
	if (res == 0)
		pthread_detach(thread);
	return -res;
}

bool signals_stop_asked(void)
{
	return signals.stop;
}
