/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets on the ring.
 *
 * Keeps true: a send ends when all of it was taken, or with an error. A listener that is closed
 * while it accepts is freed when that has ended.
 */
#include "storage/rt/ring.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void accept_again(struct real_env *real, struct env_listener *listener, struct io_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(real);
	io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, op);
}

void real_accept(struct env_listener *listener, struct io_op *op, struct env_sock **ret_sock)
{
	assert(!listener->accepting);
	listener->accepting = op;
	op->env.kind = OP_ACCEPT;
	op->env.target = listener;
	op->env.buf = ret_sock;
	accept_again(real_of(listener->env), listener, op);
}

static void listener_free(struct env_listener *listener)
{
	close(listener->fd);
	free(listener);
}

void real_listener_close(struct env_listener *listener)
{
	struct real_env *real = real_of(listener->env);
	if (listener->path[0])
		unlink(listener->path);
	if (!listener->accepting) {
		listener_free(listener);
		return;
	}
	struct io_uring_sqe *sqe = sqe_get(real);
	io_uring_prep_cancel(sqe, listener->accepting, 0);
	io_uring_sqe_set_data(sqe, NULL);
	listener->accepting->env.target = NULL;
	listener->accepting->env.iovs =
		(const struct iovec *)listener; /* freed when the accept ends */
}

int real_listener_release(struct env_listener *listener)
{
	int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 0);
	int res = fd < 0 ? -errno : fd;
	listener->path[0] = 0;
	real_listener_close(listener);
	return res;
}

void ring_accept_done(struct real_env *real, struct io_op *op, int res)
{
	struct env_listener *listener = op->env.target;
	if (!listener) {
		if (res >= 0)
			close(res);
		listener_free((struct env_listener *)(uintptr_t)op->env.iovs);
		ready_add(real, op, -ECANCELED);
		return;
	}
	if (res == -EINTR || res == -ECONNABORTED) {
		accept_again(real, listener, op);
		return;
	}
	listener->accepting = NULL;
	struct env_sock *sock = res < 0 ? NULL : calloc(1, sizeof(*sock));
	if (res >= 0 && !sock) {
		close(res);
		res = -ENOMEM;
	}
	if (sock) {
		sock->env = listener->env;
		sock->fd = res;
		*(struct env_sock **)op->env.buf = sock;
		res = 0;
	}
	ready_add(real, op, res);
}

int real_connect_tcp(struct env *env, const char *address, struct io_op *op,
		     struct env_sock **ret_sock)
{
	struct env_sock *sock;
	socklen_t address_bytes;
	int res = real_tcp_socket(env, address, &sock, &address_bytes);
	if (res < 0)
		return res;
	op->env.kind = OP_CONNECT;
	op->env.target = sock;
	*ret_sock = sock;
	struct io_uring_sqe *sqe = sqe_get(real_of(env));
	io_uring_prep_connect(sqe, sock->fd, (struct sockaddr *)&sock->address, address_bytes);
	io_uring_sqe_set_data(sqe, op);
	return 0;
}

static void recv_again(struct real_env *real, struct io_op *op)
{
	struct env_sock *sock = op->env.target;
	struct io_uring_sqe *sqe = sqe_get(real);
	io_uring_prep_recv(sqe, sock->fd, op->env.buf, op->env.bytes, 0);
	io_uring_sqe_set_data(sqe, op);
}

void ring_recv_done(struct real_env *real, struct io_op *op, int64_t res)
{
	if (res == -EINTR || res == -EAGAIN)
		recv_again(real, op);
	else
		ready_add(real, op, res);
}

void real_sock_recv(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes)
{
	op->env.kind = OP_RECV;
	op->env.target = sock;
	op->env.buf = buf;
	op->env.bytes = bytes;
	recv_again(real_of(sock->env), op);
}

static void send_again(struct real_env *real, struct io_op *op)
{
	struct env_sock *sock = op->env.target;
	sock->message.msg_iov = (struct iovec *)(uintptr_t)op->env.iovs;
	sock->message.msg_iovlen = op->env.iov_count;
	struct io_uring_sqe *sqe = sqe_get(real);
	io_uring_prep_sendmsg(sqe, sock->fd, &sock->message, MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, op);
}

void real_sock_send(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
		    uint32_t iov_count)
{
	op->env.kind = OP_SEND;
	op->env.target = sock;
	op->env.iovs = iov;
	op->env.iov_count = iov_count;
	send_again(real_of(sock->env), op);
}

void ring_send_done(struct real_env *real, struct io_op *op, int64_t res)
{
	if (res < 0 && res != -EINTR && res != -EAGAIN) {
		ready_add(real, op, res);
		return;
	}
	uint64_t sent = res < 0 ? 0 : (uint64_t)res;
	struct iovec *iov = (struct iovec *)(uintptr_t)op->env.iovs;
	while (op->env.iov_count && sent >= iov->iov_len) {
		sent -= iov->iov_len;
		iov++;
		op->env.iov_count--;
	}
	op->env.iovs = iov;
	if (!op->env.iov_count) {
		ready_add(real, op, 0);
		return;
	}
	iov->iov_base = (uint8_t *)iov->iov_base + sent;
	iov->iov_len -= sent;
	send_again(real, op);
}

void real_sock_shutdown(struct env_sock *sock)
{
	shutdown(sock->fd, SHUT_RDWR);
}

void real_recv_cancel(struct env_sock *sock, struct io_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(real_of(sock->env));
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

void real_sock_close(struct env_sock *sock)
{
	close(sock->fd);
	free(sock);
}
