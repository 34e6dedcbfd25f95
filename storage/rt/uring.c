/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real env: one io_uring, one thread.
 *
 * A pass (env_step) submits what was prepared, harvests completions into a FIFO, then dispatches.
 * Starting an operation only fills an SQE, so a pass costs one system call however much it carries.
 * The reactor sleeps in that call; workers and env_post write to an eventfd only when it does
 * (`asleep`). Not here: files (uring_file.c), sockets (uring_sock.c), what needs no ring (files.c),
 * threads (workers.c).
 */
#include "storage/rt/ring.h"
#include "storage/rt/workers.h"

#include "proto/units.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define RING_ENTRIES_DEFAULT 512u
#define INLINE_JOBS 2u /* decoded by the reactor between passes when it would sleep */
#define CQE_BATCH 256u

/* ---- clock, randomness, timers ---- */

/* CLOCK_BOOTTIME counts what the machine slept through: a mandate ends meanwhile
 * (store/mandate.c). */
static uint64_t clock_ns(clockid_t clock)
{
	struct timespec at;
	clock_gettime(clock, &at);
	return (uint64_t)at.tv_sec * NSEC_PER_SEC + (uint64_t)at.tv_nsec;
}

static uint64_t real_now_ns(struct env *env)
{
	return real_of(env)->now_ns;
}

static uint64_t real_wall_ns(struct env *env)
{
	(void)env;
	return clock_ns(CLOCK_REALTIME);
}

static void real_random(struct env *env, void *ret, size_t bytes)
{
	(void)env;
	for (uint8_t *at = ret; bytes;) {
		ssize_t got = getrandom(at, min_u64(bytes, 256), 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			fputs("vstore: the kernel gives no random numbers; nothing safe can be "
			      "done without\n",
			      stderr);
			abort();
		}
		at += got;
		bytes -= (size_t)got;
	}
}

static void real_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	struct real_env *real = real_of(env);
	timers_start(&real->timers, timer, clock_ns(CLOCK_BOOTTIME) + delay_ns);
}

static void real_timer_stop(struct env *env, struct env_timer *timer)
{
	timers_stop(&real_of(env)->timers, timer);
}

/* ---- workers ---- */

static void real_job(struct env *env, struct env_job *job)
{
	work_begin(real_of(env), &job->op, OP_JOB);
	workers_add(real_of(env)->workers, job);
}

static unsigned real_worker_count(struct env *env)
{
	return real_of(env)->worker_count + 1;
}

static void real_notify(void *arg)
{
	struct real_env *real = arg;
	uint64_t one = 1;
	if (atomic_exchange(&real->asleep, false)) {
		ssize_t written = write(real->event_fd, &one, sizeof one);
		(void)written; /* fails only when the counter is full: then it wakes all the same */
	}
}

static void event_arm(struct real_env *real)
{
	struct io_uring_sqe *sqe = sqe_get(real);
	real->event_op.env.kind = OP_EVENT;
	io_uring_prep_read(sqe, real->event_fd, &real->event_value, sizeof real->event_value, 0);
	io_uring_sqe_set_data(sqe, &real->event_op);
}

static void take_finished(struct real_env *real)
{
	struct io_op *op = workers_take_done(real->workers);
	while (op) {
		struct io_op *next = op->link;
		real->working -= op->env.kind == OP_JOB;
		ready_add(real, op, op->res);
		op = next;
	}
}

static void real_post(struct env *env, struct io_op *op)
{
	op->env.kind = OP_POST;
	workers_post(real_of(env)->workers, op);
}

/* ---- the loop ---- */

static void real_complete(struct env *env, struct io_op *op, int64_t res)
{
	ready_add(real_of(env), op, res);
}

static void cqe_harvest(struct real_env *real, struct io_op *op, int64_t res)
{
	if (!op) /* of a cancel */
		return;
	switch ((enum op_kind)op->env.kind) {
	case OP_READ:
	case OP_WRITE:
		if (ring_file_moved(real, op, &res))
			work_ready(real, op, res);
		break;
	case OP_ACCEPT:
		ring_accept_done(real, op, (int)res);
		break;
	case OP_RECV:
		ring_recv_done(real, op, res);
		break;
	case OP_SEND:
		ring_send_done(real, op, res);
		break;
	case OP_EVENT:
		event_arm(real);
		break;
	case OP_REMOVE:
		free(op->env.buf);
		work_ready(real, op, res);
		break;
	case OP_SYNC:
	case OP_ALLOCATE:
		work_ready(real, op, res);
		break;
	case OP_CONNECT:
		ready_add(real, op, res);
		break;
	case OP_JOB: /* these come by the list of finished ops */
	case OP_POST:
		break;
	}
}

/* Completions, or work of ours that leads to some, can be had without waiting. */
static bool ring_has(const struct real_env *real)
{
	return io_uring_cq_ready(&real->ring) > 0 ||
	       IO_URING_READ_ONCE(*real->ring.sq.kflags) & IORING_SQ_TASKRUN;
}

/* Looks for what comes in the next moments, see spin.h. Where the kernel does not say that there
 * is something (IORING_SETUP_TASKRUN_FLAG) it finds nothing, and soon is not asked any more. */
static void ring_spin(struct real_env *real, uint64_t now, uint64_t end)
{
	if (io_uring_sq_ready(&real->ring))
		io_uring_submit_and_get_events(&real->ring);
	while (!ring_has(real) && now < end) {
		for (unsigned i = 0; i < 16; i++)
			__builtin_ia32_pause();
		now = clock_ns(CLOCK_BOOTTIME);
	}
	if (IO_URING_READ_ONCE(*real->ring.sq.kflags) & IORING_SQ_TASKRUN)
		io_uring_get_events(&real->ring);
}

/* Submits, and waits for a completion, a post or the next timer. */
static void ring_wait(struct real_env *real)
{
	uint64_t next = timers_next_ns(&real->timers), now = clock_ns(CLOCK_BOOTTIME);
	bool quiet = real->working == 0, submits = io_uring_sq_ready(&real->ring) > 0;
	real->waited_from_ns = quiet && (!submits || spin_pays(&real->spin)) ? now : 0;
	if (quiet && spin_pays(&real->spin)) {
		ring_spin(real, now, min_u64(now + SPIN_NS, next));
		if (io_uring_cq_ready(&real->ring))
			return;
	}
	atomic_store(&real->asleep, true);
	take_finished(real); /* what came before `asleep` was set wakes nobody */
	if (real->ready) {
		io_uring_submit_and_get_events(&real->ring);
	} else {
		struct __kernel_timespec timeout;
		struct io_uring_cqe *cqe;
		uint64_t delay = next <= now ? 0 : next - now;
		timeout.tv_sec = (long long)(delay / NSEC_PER_SEC);
		timeout.tv_nsec = (long long)(delay % NSEC_PER_SEC);
		io_uring_submit_and_wait_timeout(&real->ring, &cqe, 1,
						 next == UINT64_MAX ? NULL : &timeout, NULL);
	}
	atomic_store(&real->asleep, false);
}

static bool real_step(struct env *env, bool wait)
{
	struct real_env *real = real_of(env);
	if (real->ready)
		wait = false;
	for (unsigned i = 0; wait && i < INLINE_JOBS; i++) {
		struct env_job *job = workers_take_foreground(real->workers);
		if (!job)
			break;
		work_ready(real, &job->op, job->run(job, 0));
	}
	if (wait && !real->ready)
		ring_wait(real);
	else
		io_uring_submit_and_get_events(&real->ring);
	struct io_uring_cqe *cqes[CQE_BATCH];
	unsigned count;
	while ((count = io_uring_peek_batch_cqe(&real->ring, cqes, CQE_BATCH)) > 0) {
		for (unsigned i = 0; i < count; i++)
			cqe_harvest(real, io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
		io_uring_cq_advance(&real->ring, count);
		if (count < CQE_BATCH)
			break;
	}
	take_finished(real);
	real->now_ns = clock_ns(CLOCK_BOOTTIME);
	if (real->waited_from_ns)
		spin_note(&real->spin, real->now_ns - real->waited_from_ns);
	real->waited_from_ns = 0;
	unsigned dispatched = timers_fire(&real->timers, real->now_ns);
	struct io_op *op = real->ready; /* what these start ends in a later pass */
	real->ready = NULL;
	real->ready_tail = &real->ready;
	while (op) {
		struct io_op *next = op->link;
		op->done(op);
		op = next;
		dispatched++;
	}
	return dispatched > 0;
}

/* ---- life ---- */

static const struct env_ops real_ops = {
	.now_ns = real_now_ns,
	.wall_ns = real_wall_ns,
	.random = real_random,
	.timer_start = real_timer_start,
	.timer_stop = real_timer_stop,
	.memory = real_memory,
	.memory_lazy = real_memory_lazy,
	.memory_free = real_memory_free,
	.dir_open = real_dir_open,
	.dir_close = real_dir_close,
	.dir_list = real_dir_list,
	.dir_make = real_dir_make,
	.dir_space = real_dir_space,
	.dir_kind = real_dir_kind,
	.file_open = real_file_open,
	.file_close = real_file_close,
	.file_bytes = real_file_bytes,
	.file_align = real_file_align,
	.file_read = real_file_read,
	.file_write = real_file_write,
	.file_sync = real_file_sync,
	.file_allocate = real_file_allocate,
	.file_truncate = real_file_truncate,
	.dir_sync = real_dir_sync,
	.file_remove = real_file_remove,
	.file_rename = real_file_rename,
	.listen_unix = real_listen_unix,
	.listen_tcp = real_listen_tcp,
	.listener_close = real_listener_close,
	.connect_tcp = real_connect_tcp,
	.accept = real_accept,
	.sock_recv = real_sock_recv,
	.sock_send = real_sock_send,
	.sock_shutdown = real_sock_shutdown,
	.sock_peer = real_sock_peer,
	.recv_cancel = real_recv_cancel,
	.sock_release = real_sock_release,
	.sock_adopt = real_sock_adopt,
	.listener_release = real_listener_release,
	.listener_adopt = real_listener_adopt,
	.sock_close = real_sock_close,
	.job = real_job,
	.worker_count = real_worker_count,
	.complete = real_complete,
	.post = real_post,
	.step = real_step,
};

/* The newest flags first; the last rung asks for nothing. */
static int ring_open(struct io_uring *ring, unsigned entries, unsigned skip_rungs)
{
	static const unsigned ladder[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG |
			(1u << 13) /* DEFER_TASKRUN, Linux 6.1 */,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	int res = -EINVAL;
	for (size_t i = skip_rungs; i < sizeof ladder / sizeof ladder[0] && res == -EINVAL; i++)
		res = io_uring_queue_init(entries, ring, ladder[i]);
	return res;
}

int env_real_new(const struct env_real_options *options, struct env **ret_env,
		 const char **ret_sentence)
{
	struct real_env *real = calloc(1, sizeof(*real));
	*ret_sentence = "There is not enough memory to start.";
	if (!real)
		return -ENOMEM;
	real->env.ops = &real_ops;
	real->ready_tail = &real->ready;
	int res = ring_open(&real->ring,
			    options->ring_entries ? options->ring_entries : RING_ENTRIES_DEFAULT,
			    options->skip_rungs);
	if (res < 0) {
		*ret_sentence = res == -ENOSYS || res == -EPERM || res == -EACCES
					? "The kernel refuses io_uring, which vstore needs: set "
					  "sysctl kernel.io_uring_disabled to 0, "
					  "and allow io_uring in the container's seccomp profile."
					: "io_uring could not be set up: raise the limit of locked "
					  "memory (ulimit -l) or free some memory.";
		free(real);
		return res;
	}
	real->fixed = !options->no_fixed_buffers &&
		      io_uring_register_buffers_sparse(&real->ring, REGIONS_MAX) == 0;
	real->now_ns = clock_ns(CLOCK_BOOTTIME);
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	real->worker_count = options->worker_count ? options->worker_count
			     : cores > 2	   ? (unsigned)cores - 1
						   : 1;
	real->event_fd = eventfd(0, EFD_CLOEXEC);
	res = real->event_fd < 0
		      ? -errno
		      : workers_new(real->worker_count, real_notify, real, &real->workers);
	if (res < 0) {
		*ret_sentence = "The codec's threads could not be started: raise the limit of "
				"processes or open files.";
		io_uring_queue_exit(&real->ring);
		if (real->event_fd >= 0)
			close(real->event_fd);
		free(real);
		return res;
	}
	event_arm(real);
	*ret_env = &real->env;
	return 0;
}

void env_real_info(const struct env *env, struct env_real_info *ret_info)
{
	const struct real_env *real = (const struct real_env *)env;
	*ret_info =
		(struct env_real_info){.setup_flags = real->ring.flags, .working = real->working};
	for (unsigned i = 0; i < REGIONS_MAX; i++)
		ret_info->fixed_bytes += real->regions[i].at ? real->regions[i].bytes : 0;
}

void env_real_free(struct env *env)
{
	if (!env)
		return;
	struct real_env *real = real_of(env);
	workers_free(real->workers);
	io_uring_queue_exit(&real->ring);
	close(real->event_fd);
	timers_done(&real->timers);
	free(real);
}
