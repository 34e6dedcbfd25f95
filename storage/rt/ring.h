/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring as its parts see it: uring.c (the loop, workers, timers, life), uring_file.c (memory,
 * files, folders) and uring_sock.c (sockets). Each prepares SQEs and is asked what a completion of
 * its operations means; only uring.c submits and harvests. Nothing else includes this.
 */
#ifndef STORAGE_RT_RING_H
#define STORAGE_RT_RING_H

#include "storage/rt/real.h"
#include "storage/rt/spin.h"
#include "storage/rt/timers.h"

#include <liburing.h>

#define REGIONS_MAX 16u

enum op_kind {
	OP_READ = 1,
	OP_WRITE,
	OP_SYNC,
	OP_ALLOCATE,
	OP_REMOVE,
	OP_ACCEPT,
	OP_CONNECT,
	OP_RECV,
	OP_SEND,
	OP_EVENT,
	OP_JOB,
	OP_POST,
};

struct region {
	uint8_t *at;
	size_t bytes;
};

struct real_env {
	struct env env;
	struct io_uring ring;
	struct io_op *ready, **ready_tail;
	struct timers timers;
	struct workers *workers;
	unsigned worker_count;
	uint64_t now_ns;
	struct region regions[REGIONS_MAX];
	bool fixed;
	int event_fd;
	uint64_t event_value;
	struct io_op event_op;
	struct spin spin;
	uint64_t waited_from_ns; /* 0: this pass did not wait for others only */
	unsigned working;	 /* file operations and jobs under way */
	_Atomic bool asleep;
};

static inline struct real_env *real_of(struct env *env)
{
	return (struct real_env *)env;
}

/* An operation that has the disk or a worker at work begins; it ends with work_ready. */
static inline void work_begin(struct real_env *real, struct io_op *op, enum op_kind kind)
{
	op->env.kind = (uint8_t)kind;
	real->working++;
}

static inline void ready_add(struct real_env *real, struct io_op *op, int64_t res)
{
	op->res = res;
	op->link = NULL;
	*real->ready_tail = op;
	real->ready_tail = &op->link;
}

static inline void work_ready(struct real_env *real, struct io_op *op, int64_t res)
{
	real->working--;
	ready_add(real, op, res);
}

static inline struct io_uring_sqe *sqe_get(struct real_env *real)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&real->ring);
	while (!sqe) { /* full: the kernel takes it all (completions overflow safely) */
		io_uring_submit(&real->ring);
		sqe = io_uring_get_sqe(&real->ring);
	}
	return sqe;
}

/* ---- uring_file.c ---- */

void *real_memory_lazy(struct env *env, size_t bytes);
void *real_memory(struct env *env, size_t bytes);
void real_memory_free(struct env *env, void *at, size_t bytes);
void real_file_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
		    uint64_t offset);
void real_file_write(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
		     uint64_t offset, unsigned flags);
void real_file_sync(struct env_file *file, struct io_op *op);
void real_file_allocate(struct env_file *file, struct io_op *op, uint64_t bytes);
void real_file_truncate(struct env_file *file, struct io_op *op, uint64_t bytes);
void real_dir_sync(struct env_dir *dir, struct io_op *op);
void real_file_remove(struct env_dir *dir, struct io_op *op, const char *name);
void real_file_rename(struct env_dir *dir, struct io_op *op, const char *from, const char *to);
/* A read or write moved bytes. True: the op has ended with *res; false: the rest was started. */
bool ring_file_moved(struct real_env *real, struct io_op *op, int64_t *res);

/* ---- uring_sock.c ---- */

void real_accept(struct env_listener *listener, struct io_op *op, struct env_sock **ret_sock);
void real_listener_close(struct env_listener *listener);
int real_listener_release(struct env_listener *listener);
int real_connect_tcp(struct env *env, const char *address, struct io_op *op,
		     struct env_sock **ret_sock);
void real_sock_recv(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes);
void real_sock_send(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
		    uint32_t iov_count);
void real_sock_shutdown(struct env_sock *sock);
void real_recv_cancel(struct env_sock *sock, struct io_op *op);
void real_sock_close(struct env_sock *sock);
/* Completions: each ends its op, or starts what is left of it. */
void ring_accept_done(struct real_env *real, struct io_op *op, int res);
void ring_recv_done(struct real_env *real, struct io_op *op, int64_t res);
void ring_send_done(struct real_env *real, struct io_op *op, int64_t res);

#endif
