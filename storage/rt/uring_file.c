/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the kernel knows, files and folders on the ring.
 *
 * Keeps true: a read or write ends when all of it was moved, at the file's end, or with an error; a
 * write that moved less is one. Memory that could not be registered works all the same.
 */
#include "storage/rt/ring.h"

#include "proto/units.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_BYTES_MAX GIB

/* ---- memory ---- */

/* Registers a region where the kernel allows it; without, plain reads and writes do. */
static void region_register(struct real_env *real, void *at, size_t bytes)
{
	if (!real->fixed || bytes > REGION_BYTES_MAX)
		return;
	for (unsigned i = 0; i < REGIONS_MAX; i++) {
		if (real->regions[i].at)
			continue;
		struct iovec iov = {.iov_base = at, .iov_len = bytes};
		__u64 tag = 0;
		if (io_uring_register_buffers_update_tag(&real->ring, i, &iov, &tag, 1) == 1)
			real->regions[i] = (struct region){.at = at, .bytes = bytes};
		return;
	}
}

void *real_memory_lazy(struct env *env, size_t bytes)
{
	(void)env;
	bytes = round_up(bytes, BLOCK_BYTES);
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED)
		return NULL;
	if (bytes >= 2 * MIB)
		madvise(at, bytes, MADV_HUGEPAGE);
	return at;
}

void *real_memory(struct env *env, size_t bytes)
{
	void *at = real_memory_lazy(env, bytes);
	if (at)
		region_register(real_of(env), at, round_up(bytes, BLOCK_BYTES));
	return at;
}

void real_memory_free(struct env *env, void *at, size_t bytes)
{
	struct real_env *real = real_of(env);
	for (unsigned i = 0; i < REGIONS_MAX; i++) {
		if (real->regions[i].at != at)
			continue;
		struct iovec none = {0};
		__u64 tag = 0;
		io_uring_register_buffers_update_tag(&real->ring, i, &none, &tag, 1);
		real->regions[i] = (struct region){0};
	}
	munmap(at, round_up(bytes, BLOCK_BYTES));
}

static int region_index(const struct real_env *real, const void *buf, size_t bytes)
{
	const uint8_t *at = buf;
	for (unsigned i = 0; i < REGIONS_MAX; i++) {
		const struct region *region = &real->regions[i];
		if (at >= region->at && region->at && at + bytes <= region->at + region->bytes)
			return (int)i;
	}
	return -1;
}

/* ---- files ---- */

/* Prepares what is left of a read or write. */
static void file_move(struct real_env *real, struct io_op *op)
{
	struct env_file *file = op->env.target;
	struct io_uring_sqe *sqe = sqe_get(real);
	uint8_t *buf = (uint8_t *)op->env.buf + op->env.moved;
	unsigned bytes = op->env.bytes - op->env.moved;
	uint64_t offset = op->env.offset + op->env.moved;
	int region = region_index(real, buf, bytes);
	if (op->env.kind == OP_READ && region >= 0)
		io_uring_prep_read_fixed(sqe, file->fd, buf, bytes, offset, region);
	else if (op->env.kind == OP_READ)
		io_uring_prep_read(sqe, file->fd, buf, bytes, offset);
	else if (region >= 0)
		io_uring_prep_write_fixed(sqe, file->fd, buf, bytes, offset, region);
	else
		io_uring_prep_write(sqe, file->fd, buf, bytes, offset);
	if (op->env.flags & ENV_DSYNC)
		sqe->rw_flags = RWF_DSYNC;
	io_uring_sqe_set_data(sqe, op);
}

static void file_start(struct env_file *file, struct io_op *op, enum op_kind kind, void *buf,
		       uint32_t bytes, uint64_t offset, unsigned flags)
{
	work_begin(real_of(file->env), op, kind);
	op->env.target = file;
	op->env.buf = buf;
	op->env.bytes = bytes;
	op->env.moved = 0;
	op->env.offset = offset;
	op->env.flags = (uint8_t)flags;
}

void real_file_read(struct env_file *file, struct io_op *op, void *buf, uint32_t bytes,
		    uint64_t offset)
{
	file_start(file, op, OP_READ, buf, bytes, offset, 0);
	file_move(real_of(file->env), op);
}

void real_file_write(struct env_file *file, struct io_op *op, const void *buf, uint32_t bytes,
		     uint64_t offset, unsigned flags)
{
	file_start(file, op, OP_WRITE, (void *)(uintptr_t)buf, bytes, offset, flags);
	file_move(real_of(file->env), op);
}

bool ring_file_moved(struct real_env *real, struct io_op *op, int64_t *res)
{
	struct env_file *file = op->env.target;
	if (*res == -EINTR || *res == -EAGAIN) {
		file_move(real, op);
		return false;
	}
	if (*res < 0)
		return true;
	op->env.moved += (uint32_t)*res;
	bool ended = *res == 0 || (file->direct && op->env.moved % file->align);
	if (op->env.moved < op->env.bytes && !ended) {
		file_move(real, op);
		return false;
	}
	*res = op->env.moved;
	if (op->env.kind == OP_WRITE && op->env.moved < op->env.bytes)
		*res = -EIO; /* a device that takes nothing and says no error */
	return true;
}

void real_file_sync(struct env_file *file, struct io_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(real_of(file->env));
	work_begin(real_of(file->env), op, OP_SYNC);
	io_uring_prep_fsync(sqe, file->fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, op);
}

void real_file_allocate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	struct io_uring_sqe *sqe = sqe_get(real_of(file->env));
	work_begin(real_of(file->env), op, OP_ALLOCATE);
	io_uring_prep_fallocate(sqe, file->fd, 0, 0, (off_t)bytes);
	io_uring_sqe_set_data(sqe, op);
}

/* liburing 2.3 has no truncate; ours cut a few unwritten MiB off a sealed segment. */
void real_file_truncate(struct env_file *file, struct io_op *op, uint64_t bytes)
{
	ready_add(real_of(file->env), op, ftruncate(file->fd, (off_t)bytes) < 0 ? -errno : 0);
}

void real_dir_sync(struct env_dir *dir, struct io_op *op)
{
	struct io_uring_sqe *sqe = sqe_get(real_of(dir->env));
	work_begin(real_of(dir->env), op, OP_SYNC);
	io_uring_prep_fsync(sqe, dir->fd, 0);
	io_uring_sqe_set_data(sqe, op);
}

/* What a file system does for a large file may wait for its journal: guests would wait with us. */
void real_file_remove(struct env_dir *dir, struct io_op *op, const char *name)
{
	struct real_env *real = real_of(dir->env);
	char *own = strdup(name); /* it is read when the entry is submitted */
	if (!own) {
		ready_add(real, op, -ENOMEM);
		return;
	}
	struct io_uring_sqe *sqe = sqe_get(real);
	work_begin(real, op, OP_REMOVE);
	op->env.buf = own;
	io_uring_prep_unlinkat(sqe, dir->fd, own, 0);
	io_uring_sqe_set_data(sqe, op);
}

void real_file_rename(struct env_dir *dir, struct io_op *op, const char *from, const char *to)
{
	ready_add(real_of(dir->env), op, renameat(dir->fd, from, dir->fd, to) < 0 ? -errno : 0);
}
