/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one door to the world: files, sockets, clock, randomness and worker threads.
 *
 * Everything in storage/ that touches the outside does it through a `struct env`, so that the same
 * code runs on a real machine (rt/uring.c) and in a simulated one (tests/sim). No other file of
 * storage/ makes a system call for I/O, time or randomness.
 *
 * One thread, the reactor, calls these functions and runs every callback; env_post is the only
 * one that other threads may call. Starting an operation never runs its callback: completions are
 * collected first and dispatched by the loop (env_step). An op, and the buffers it names, belong
 * to the env from the start until its `done` is called; then the op may be started again at once.
 */
#ifndef STORAGE_RT_ENV_H
#define STORAGE_RT_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct env;
struct env_dir;	     /* an open directory */
struct env_file;     /* an open file */
struct env_sock;     /* a connected stream socket */
struct env_listener; /* a listening one */

/* What an op, a timer or a job is embedded in, from a callback's argument. */
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* One operation; embedded in its owner. Zero it, set done, start it. */
struct io_op {
	void (*done)(struct io_op *op);
	int64_t res;	    /* at done: bytes or 0, or a negative code */
	struct io_op *link; /* the loop's, from start to done */

	/* The env's own, from start to done. */
	struct {
		void *target;
		void *buf;
		struct iovec iov[2];
		const struct iovec *iovs;
		uint64_t offset;
		uint32_t bytes, moved, iov_count;
		uint8_t kind, flags;
		uint64_t tag;
	} env;
};

/* A unit of CPU work: `run` is pure (touches only what the job owns), on a worker thread or, when
 * the reactor would otherwise sleep, on the reactor. Then op.done on the reactor; op.res is what
 * run returned. */
struct env_job {
	struct io_op op;
	int64_t (*run)(struct env_job *job, unsigned worker_no);
	bool background; /* fold, scrub ...: only when no foreground job waits */
};

struct env_timer {
	void (*fire)(struct env_timer *timer);
	uint64_t at_ns;	     /* the env's own, like what follows */
	uint32_t heap_index; /* 1-based; 0: not armed */
};

enum env_open_flags {
	ENV_CREATE = 1, /* create, or open what is there */
	ENV_EXCL = 2,	/* with CREATE: -EEXIST when it is there */
	ENV_RDONLY = 4,
	ENV_DIRECT = 8, /* O_DIRECT: buffers, offsets and lengths aligned to env_file_align; falls
			   back to buffered I/O where the file system has none */
	ENV_LOCK = 16,	/* an exclusive lock for as long as it is open; -VS_ELOCKED */
};
enum env_write_flags { ENV_DSYNC = 1 /* the write is durable when it is done (RWF_DSYNC) */ };

struct env_dir_entry {
	char name[64];
};

struct env_ops {
	/* clock and randomness */
	uint64_t (*now_ns)(struct env *env);
	uint64_t (*wall_ns)(struct env *env);
	void (*random)(struct env *env, void *ret, size_t bytes);
	void (*timer_start)(struct env *env, struct env_timer *timer, uint64_t delay_ns);
	void (*timer_stop)(struct env *env, struct env_timer *timer);

	/* memory that the I/O path may be faster with (registered, huge pages) */
	void *(*memory)(struct env *env, size_t bytes);
	void *(*memory_lazy)(struct env *env, size_t bytes);
	void (*memory_free)(struct env *env, void *at, size_t bytes);

	/* files: the synchronous ones */
	int (*dir_open)(struct env *env, const char *path, struct env_dir **ret_dir);
	void (*dir_close)(struct env_dir *dir);
	int (*dir_list)(struct env_dir *dir, struct env_dir_entry **ret_entries, size_t *ret_count);
	int (*dir_make)(struct env_dir *dir, const char *name);
	int (*dir_space)(struct env_dir *dir, uint64_t *ret_free_bytes, uint64_t *ret_total_bytes);
	int (*dir_kind)(struct env_dir *dir, char *ret_name, size_t name_bytes);
	int (*file_open)(struct env_dir *dir, const char *name, unsigned flags,
			 struct env_file **ret_file);
	void (*file_close)(struct env_file *file);
	int64_t (*file_bytes)(struct env_file *file);
	unsigned (*file_align)(struct env_file *file);

	/* files: the asynchronous ones */
	void (*file_read)(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
			  uint64_t offset);
	void (*file_write)(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
			   uint64_t offset, unsigned flags);
	void (*file_sync)(struct env_file *file, struct io_op *op);
	void (*file_allocate)(struct env_file *file, struct io_op *op, uint64_t bytes);
	void (*file_truncate)(struct env_file *file, struct io_op *op, uint64_t bytes);
	void (*dir_sync)(struct env_dir *dir, struct io_op *op);
	void (*file_remove)(struct env_dir *dir, struct io_op *op, const char *name);
	void (*file_rename)(struct env_dir *dir, struct io_op *op, const char *from,
			    const char *to);

	/* sockets */
	int (*listen_unix)(struct env *env, const char *path, unsigned mode, int64_t group,
			   struct env_listener **ret_listener);
	int (*listen_tcp)(struct env *env, const char *address, struct env_listener **ret_listener);
	void (*listener_close)(struct env_listener *listener);
	int (*connect_tcp)(struct env *env, const char *address, struct io_op *op,
			   struct env_sock **ret_sock);
	void (*accept)(struct env_listener *listener, struct io_op *op, struct env_sock **ret_sock);
	void (*sock_recv)(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes);
	void (*sock_send)(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
			  uint32_t iov_count);
	void (*sock_shutdown)(struct env_sock *sock);
	void (*sock_peer)(const struct env_sock *sock, char *ret_address); /* NULL: never known */
	void (*recv_cancel)(struct env_sock *sock, struct io_op *op);
	int (*sock_release)(struct env_sock *sock);
	int (*sock_adopt)(struct env *env, int fd, struct env_sock **ret_sock);
	int (*listener_release)(struct env_listener *listener);
	int (*listener_adopt)(struct env *env, int fd, const char *path,
			      struct env_listener **ret_listener);
	void (*sock_close)(struct env_sock *sock);

	/* workers */
	void (*job)(struct env *env, struct env_job *job);
	unsigned (*worker_count)(struct env *env);

	/* the loop */
	void (*complete)(struct env *env, struct io_op *op, int64_t res);
	void (*post)(struct env *env, struct io_op *op);
	bool (*step)(struct env *env, bool wait);
};

struct env {
	const struct env_ops *ops;
};

/* Monotonic, sleep of the machine included, and the time of day (UTC since 1970). now is read once
 * a loop pass, after all that the pass hands out has come in. */
static inline uint64_t env_now_ns(struct env *env)
{
	return env->ops->now_ns(env);
}
static inline uint64_t env_wall_ns(struct env *env)
{
	return env->ops->wall_ns(env);
}

/* Never fails: dies with a sentence where the machine has no randomness. */
static inline void env_random(struct env *env, void *ret, size_t bytes)
{
	env->ops->random(env, ret, bytes);
}

/* Arms (or re-arms) a timer whose `fire` is set. One-shot; stop is harmless when it is not armed.
 */
static inline void env_timer_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	env->ops->timer_start(env, timer, delay_ns);
}
static inline void env_timer_stop(struct env *env, struct env_timer *timer)
{
	env->ops->timer_stop(env, timer);
}

/* Zeroed, aligned to 4 KiB; NULL when there is no memory. For pools that live as long as the env's
 * user: I/O from here may use fixed buffers. */
static inline void *env_memory(struct env *env, size_t bytes)
{
	return env->ops->memory(env, bytes);
}
/* The same for large areas that no I/O goes to: the machine gives of it what is touched. */
static inline void *env_memory_lazy(struct env *env, size_t bytes)
{
	return env->ops->memory_lazy(env, bytes);
}
static inline void env_memory_free(struct env *env, void *at, size_t bytes)
{
	env->ops->memory_free(env, at, bytes);
}

/* An existing directory. -ENOENT, -ENOTDIR, -EACCES. */
static inline int env_dir_open(struct env *env, const char *path, struct env_dir **ret_dir)
{
	return env->ops->dir_open(env, path, ret_dir);
}
static inline void env_dir_close(struct env_dir *dir);
/* The regular files and directories in it, sorted by name; names longer than 63 bytes are left
 * out. The caller frees *ret_entries. */
static inline int env_dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries,
			       size_t *ret_count);
/* A directory in it, 0700; -EEXIST. */
static inline int env_dir_make(struct env_dir *dir, const char *name);
/* What its file system has free for us, and in all. */
static inline int env_dir_space(struct env_dir *dir, uint64_t *ret_free_bytes,
				uint64_t *ret_total_bytes);
/* Its file system's name: "ext4", "xfs", "tmpfs", "overlay", "nfs", "btrfs", or "0x...." */
static inline int env_dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes);

/* `name` may hold one '/': "seg/0000000000000001". New files are 0600. Returns 0 or a negative
 * code. */
static inline int env_file_open(struct env_dir *dir, const char *name, unsigned flags,
				struct env_file **ret_file);
/* No op of it may be under way. NULL is fine. */
static inline void env_file_close(struct env_file *file);
static inline int64_t env_file_bytes(struct env_file *file);
/* What offsets, lengths and buffers must be aligned to (512 or 4096; 1 when buffered). */
static inline unsigned env_file_align(struct env_file *file);

/* Every struct of a file, dir or socket starts with its env, which is how these find the ops. */
struct env_object {
	struct env *env;
};
static inline const struct env_ops *env_ops_of(const void *object)
{
	return ((const struct env_object *)object)->env->ops;
}
static inline void env_dir_close(struct env_dir *dir)
{
	if (dir)
		env_ops_of(dir)->dir_close(dir);
}
static inline int env_dir_list(struct env_dir *dir, struct env_dir_entry **ret_entries,
			       size_t *ret_count)
{
	return env_ops_of(dir)->dir_list(dir, ret_entries, ret_count);
}
static inline int env_dir_make(struct env_dir *dir, const char *name)
{
	return env_ops_of(dir)->dir_make(dir, name);
}
static inline int env_dir_space(struct env_dir *dir, uint64_t *ret_free_bytes,
				uint64_t *ret_total_bytes)
{
	return env_ops_of(dir)->dir_space(dir, ret_free_bytes, ret_total_bytes);
}
static inline int env_dir_kind(struct env_dir *dir, char *ret_name, size_t name_bytes)
{
	return env_ops_of(dir)->dir_kind(dir, ret_name, name_bytes);
}
static inline int env_file_open(struct env_dir *dir, const char *name, unsigned flags,
				struct env_file **ret_file)
{
	return env_ops_of(dir)->file_open(dir, name, flags, ret_file);
}
static inline void env_file_close(struct env_file *file)
{
	if (file)
		env_ops_of(file)->file_close(file);
}
static inline int64_t env_file_bytes(struct env_file *file)
{
	return env_ops_of(file)->file_bytes(file);
}
static inline unsigned env_file_align(struct env_file *file)
{
	return env_ops_of(file)->file_align(file);
}

/* res: bytes read, fewer than asked only at the end of the file; the env repeats short reads. */
static inline void env_file_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
				 uint64_t offset)
{
	env_ops_of(file)->file_read(file, op, buf, bytes, offset);
}
/* res: `bytes`, or a negative code; never short. */
static inline void env_file_write(struct env_file *file, struct io_op *op, const void *buf,
				  uint32_t bytes, uint64_t offset, unsigned flags)
{
	env_ops_of(file)->file_write(file, op, buf, bytes, offset, flags);
}
/* fdatasync: what was written (and done) before is durable, with the size to find it. */
static inline void env_file_sync(struct env_file *file, struct io_op *op)
{
	env_ops_of(file)->file_sync(file, op);
}
/* Reserves space from 0 to `bytes` and sets the size. -ENOSPC. */
static inline void env_file_allocate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	env_ops_of(file)->file_allocate(file, op, bytes);
}
static inline void env_file_truncate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	env_ops_of(file)->file_truncate(file, op, bytes);
}
/* Creations, removals and renames done before in this directory are durable. To sync a
 * subdirectory, open it. */
static inline void env_dir_sync(struct env_dir *dir, struct io_op *op)
{
	env_ops_of(dir)->dir_sync(dir, op);
}
static inline void env_file_remove(struct env_dir *dir, struct io_op *op, const char *name)
{
	env_ops_of(dir)->file_remove(dir, op, name);
}
static inline void env_file_rename(struct env_dir *dir, struct io_op *op, const char *from,
				   const char *to)
{
	env_ops_of(dir)->file_rename(dir, op, from, to);
}

/* A unix socket at `path` (an old one nobody listens on is replaced; -EADDRINUSE otherwise), with
 * mode and, unless -1, group. */
static inline int env_listen_unix(struct env *env, const char *path, unsigned mode, int64_t group,
				  struct env_listener **ret_listener)
{
	return env->ops->listen_unix(env, path, mode, group, ret_listener);
}
/* "ADDRESS:PORT" or "[V6]:PORT". */
static inline int env_listen_tcp(struct env *env, const char *address,
				 struct env_listener **ret_listener)
{
	return env->ops->listen_tcp(env, address, ret_listener);
}
/* A pending accept completes with -ECANCELED (its op must stay valid until then); removes the
 * socket's path. */
static inline void env_listener_close(struct env_listener *listener)
{
	if (listener)
		env_ops_of(listener)->listener_close(listener);
}
/* res 0 and *ret_sock, or a negative code. */
static inline void env_accept(struct env_listener *listener, struct io_op *op,
			      struct env_sock **ret_sock)
{
	env_ops_of(listener)->accept(listener, op, ret_sock);
}
/* To "ADDRESS:PORT" or "[V6]:PORT", numbers only. 0: *ret_sock is the caller's, and op ends with 0
 * (connected) or a negative code, soon after env_sock_shutdown at the latest. -EINVAL, -EMFILE ...:
 * nothing was started. */
static inline int env_connect_tcp(struct env *env, const char *address, struct io_op *op,
				  struct env_sock **ret_sock)
{
	return env->ops->connect_tcp(env, address, op, ret_sock);
}
/* res: bytes (at least 1), 0 at the end of the stream, or a negative code. */
static inline void env_sock_recv(struct env_sock *sock, struct io_op *op, void *buf, uint32_t bytes)
{
	env_ops_of(sock)->sock_recv(sock, op, buf, bytes);
}
/* Sends all of it; res: 0 or a negative code. The iov array stays valid until done, and the env may
 * change it. At most 1024 entries; one send at a time. */
static inline void env_sock_send(struct env_sock *sock, struct io_op *op, const struct iovec *iov,
				 uint32_t iov_count)
{
	env_ops_of(sock)->sock_send(sock, op, iov, iov_count);
}
/* "ADDRESS:PORT" or "[V6]:PORT" of a TCP socket's other side; "": it is not known. */
#define ENV_ADDRESS_ROOM 64u
static inline void env_sock_peer(const struct env_sock *sock, char ret_address[ENV_ADDRESS_ROOM])
{
	ret_address[0] = 0;
	if (env_ops_of(sock)->sock_peer)
		env_ops_of(sock)->sock_peer(sock, ret_address);
}
/* Makes pending and later ops of it end soon, with an error or end of stream. */
static inline void env_sock_shutdown(struct env_sock *sock)
{
	env_ops_of(sock)->sock_shutdown(sock);
}
/* A receive that is under way ends soon: with -ECANCELED, or with what it got; nothing is lost. */
static inline void env_recv_cancel(struct env_sock *sock, struct io_op *op)
{
	env_ops_of(sock)->recv_cancel(sock, op);
}
/* For handing sockets to another process (descriptors are the caller's then, or again, the env's):
 * a socket without an op under way gives its descriptor away and is freed; another env takes it. */
static inline int env_sock_release(struct env_sock *sock)
{
	return env_ops_of(sock)->sock_release(sock);
}
static inline int env_sock_adopt(struct env *env, int fd, struct env_sock **ret_sock)
{
	return env->ops->sock_adopt(env, fd, ret_sock);
}
/* As env_listener_close, but its path stays, and who connects waits for who adopts it: returns a
 * descriptor of it, or a negative code. */
static inline int env_listener_release(struct env_listener *listener)
{
	return env_ops_of(listener)->listener_release(listener);
}
/* -ENOENT: its path is gone, so nobody could come by it. Failed, the descriptor stays the
 * caller's. */
static inline int env_listener_adopt(struct env *env, int fd, const char *path,
				     struct env_listener **ret_listener)
{
	return env->ops->listener_adopt(env, fd, path, ret_listener);
}
/* No op of it may be under way. NULL is fine. */
static inline void env_sock_close(struct env_sock *sock)
{
	if (sock)
		env_ops_of(sock)->sock_close(sock);
}

static inline void env_job(struct env *env, struct env_job *job)
{
	env->ops->job(env, job);
}
/* worker_no of a job is below this; 0 is the reactor itself. */
static inline unsigned env_worker_count(struct env *env)
{
	return env->ops->worker_count(env);
}

/* Ends an op that no I/O was needed for: its done runs in a later dispatch, in order. */
static inline void env_complete(struct env *env, struct io_op *op, int64_t res)
{
	env->ops->complete(env, op, res);
}
/* From any thread: op->done runs on the reactor soon. */
static inline void env_post(struct env *env, struct io_op *op)
{
	env->ops->post(env, op);
}

/* One pass: submit, harvest, dispatch; with `wait` sleeps until there is something to dispatch.
 * False: nothing was dispatched (with wait: nothing is under way and no timer is armed, so that
 * waiting would be forever; in the real env a post can still come, and it sleeps). */
static inline bool env_step(struct env *env, bool wait)
{
	return env->ops->step(env, wait);
}

/* Runs the loop until an op is done: for straight-line code at start and in offline tools. Returns
 * its result. Implemented once for every env (rt/env.c). */
int64_t env_wait(struct env *env, struct io_op *op);
/* Gives op a done that env_wait knows; call before starting the op. */
void env_wait_prepare(struct io_op *op);
int64_t env_file_read_wait(struct env_file *file, void *buf, uint32_t bytes, uint64_t offset);
int64_t env_file_write_wait(struct env_file *file, const void *buf, uint32_t bytes,
			    uint64_t offset);
int env_file_sync_wait(struct env_file *file);
int env_file_allocate_wait(struct env_file *file, uint64_t bytes);
int env_file_truncate_wait(struct env_file *file, uint64_t bytes);
int env_dir_sync_wait(struct env_dir *dir);
int env_file_remove_wait(struct env_dir *dir, const char *name);
int env_file_rename_wait(struct env_dir *dir, const char *from, const char *to);

/* The real world (rt/uring.c). */
struct env_real_options {
	unsigned worker_count; /* threads of the codec pool; 0: cores - 1, at least 1 */
	unsigned ring_entries; /* 0: 512 */
	bool no_fixed_buffers;
	unsigned skip_rungs; /* tests: pretends that the kernel has not the newest setup flags */
};
/* What the kernel granted. */
struct env_real_info {
	unsigned setup_flags;
	uint64_t
		fixed_bytes; /* of env_memory's, registered; 0 under a low limit of locked memory */
	unsigned working;    /* file operations and jobs under way */
};
void env_real_info(const struct env *env, struct env_real_info *ret_info);
/* -ENOSYS, -EPERM: io_uring is missing or disabled; *ret_sentence says so and what to do. */
int env_real_new(const struct env_real_options *options, struct env **ret_env,
		 const char **ret_sentence);
void env_real_free(struct env *env);

#endif
