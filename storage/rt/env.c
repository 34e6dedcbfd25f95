/* SPDX-License-Identifier: Apache-2.0 */
/* Straight-line waiting over any env: for start, offline tools and tests, never on a serving path.
 */
#include "storage/rt/env.h"

#include <assert.h>

/* A real ring may wake for nothing; a simulated one says at once that all is still. */
#define IDLE_PASSES_MAX 100000u

static void env_wait_done(struct io_op *op)
{
	op->done = NULL; /* marks the end: no other thread touches this field */
}

void env_wait_prepare(struct io_op *op)
{
	op->done = env_wait_done;
}

int64_t env_wait(struct env *env, struct io_op *op)
{
	unsigned idle = 0;
	while (op->done) {
		idle = env_step(env, true) ? 0 : idle + 1;
		assert(idle < IDLE_PASSES_MAX); /* nothing under way will ever end it */
	}
	return op->res;
}

int64_t env_file_read_wait(struct env_file *file, void *buf, uint32_t bytes, uint64_t offset)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_read(file, &op, buf, bytes, offset);
	return env_wait(((struct env_object *)file)->env, &op);
}

int64_t env_file_write_wait(struct env_file *file, const void *buf, uint32_t bytes, uint64_t offset)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_write(file, &op, buf, bytes, offset, 0);
	return env_wait(((struct env_object *)file)->env, &op);
}

int env_file_sync_wait(struct env_file *file)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_sync(file, &op);
	return (int)env_wait(((struct env_object *)file)->env, &op);
}

int env_file_allocate_wait(struct env_file *file, uint64_t bytes)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_allocate(file, &op, bytes);
	return (int)env_wait(((struct env_object *)file)->env, &op);
}

int env_file_truncate_wait(struct env_file *file, uint64_t bytes)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_truncate(file, &op, bytes);
	return (int)env_wait(((struct env_object *)file)->env, &op);
}

int env_dir_sync_wait(struct env_dir *dir)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_dir_sync(dir, &op);
	return (int)env_wait(((struct env_object *)dir)->env, &op);
}

int env_file_remove_wait(struct env_dir *dir, const char *name)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_remove(dir, &op, name);
	return (int)env_wait(((struct env_object *)dir)->env, &op);
}

int env_file_rename_wait(struct env_dir *dir, const char *from, const char *to)
{
	struct io_op op = {0};
	env_wait_prepare(&op);
	env_file_rename(dir, &op, from, to);
	return (int)env_wait(((struct env_object *)dir)->env, &op);
}
