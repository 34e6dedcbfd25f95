/* SPDX-License-Identifier: Apache-2.0 */
/* A thread waits for the signals, the reactor hears of it: nothing runs in a signal's handler. */
#include "storage/control/signals.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static struct {
	struct env *env;
	struct io_op stop_op, restart_op;
	bool stop, restart; /* the reactor's */
	pthread_t thread;
	atomic_bool stop_came, ending;
} signals;

static void signal_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGUSR2);
}

static void stop_heard(struct io_op *op)
{
	signals.stop = true;
}

static void restart_heard(struct io_op *op)
{
	signals.restart = true;
}

static void *signal_wait(void *state)
{
	sigset_t set;
	int number;
	bool restart = false; /* posted: an op is under way once */
	signal_set(&set);
	for (;;) {
		sigwait(&set, &number);
		if (number == SIGUSR2 && atomic_load(&signals.ending))
			return NULL;
		if (number == SIGUSR2) {
			if (!restart)
				env_post(signals.env, &signals.restart_op);
			restart = true;
			continue;
		}
		if (atomic_exchange(&signals.stop_came, true))
			_exit(1);
		env_post(signals.env, &signals.stop_op);
	}
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
	signals.env = env;
	signals.stop_op.done = stop_heard;
	signals.restart_op.done = restart_heard;
	return -pthread_create(&signals.thread, NULL, signal_wait, NULL);
}

bool signals_end(void)
{
	atomic_store(&signals.ending, true);
	pthread_kill(signals.thread, SIGUSR2);
	pthread_join(signals.thread, NULL);
	return atomic_load(&signals.stop_came);
}

bool signals_stop_asked(void)
{
	return signals.stop;
}

bool signals_restart_asked(void)
{
	return signals.restart;
}
