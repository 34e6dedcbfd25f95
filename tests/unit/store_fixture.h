/* SPDX-License-Identifier: Apache-2.0 */
/* A store on real files for tests: made, opened, closed; requests and changes waited for. */
#ifndef TESTS_UNIT_STORE_FIXTURE_H
#define TESTS_UNIT_STORE_FIXTURE_H

#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/store_list.h"
#include "storage/store/store_work.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct fixture {
	struct env *env;
	struct store *store;
	struct store_options options;
	char path[64];
	uint64_t seed;
};

static inline void fixture_open(struct fixture *f)
{
	char sentence[SENTENCE_BYTES];
	int res = store_open(f->env, f->path, &f->options, &f->store, sentence);
	if (res < 0)
		print_error("%s\n", sentence);
	assert_int_equal(res, 0);
}

static inline void fixture_close(struct fixture *f)
{
	assert_int_equal(store_close(f->store), 0);
	f->store = NULL;
}

static inline int fixture_setup_log(void **state, uint64_t log_bytes)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *why;
	char sentence[SENTENCE_BYTES];
	struct store_make_options make = {.log_bytes = log_bytes, .any_file_system = true};
	snprintf(f->path, sizeof f->path, "./test-store.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(env_real_new(&(struct env_real_options){.worker_count = 1}, &f->env, &why),
			 0);
	assert_int_equal(store_make(f->env, f->path, &make, sentence), 0);
	f->options = (struct store_options){
		.cache_bytes = 4 * MIB, .any_file_system = true, .idle_fold_ns = NSEC_PER_SEC / 5};
	f->seed = 42;
	fixture_open(f);
	*state = f;
	return 0;
}

static inline int fixture_setup(void **state)
{
	return fixture_setup_log(state, 8 * MIB);
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];
	if (f->store)
		store_close(f->store);
	env_real_free(f->env);
	snprintf(command, sizeof command, "rm -rf %s", f->path);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

/* ---- one request, waited for ---- */

static inline int do_request(struct fixture *f, struct view *view, enum request_kind kind,
			     uint64_t offset, uint64_t bytes, void *data, unsigned flags)
{
	struct store_request request = {.view = view,
					.kind = kind,
					.offset_bytes = offset,
					.length_bytes = bytes,
					.data = data,
					.flags = flags};
	env_wait_prepare(&request.op);
	store_submit(&request);
	return (int)env_wait(f->env, &request.op);
}

static inline struct view *open_view(struct fixture *f, const char *name)
{
	struct view *view;
	assert_int_equal(store_view_open(f->store, name, &view), 0);
	return view;
}

/* ---- changes: DO(f, store_volume_grow, "a", size) gives the result ---- */

static inline int admin_wait(struct fixture *f, struct admin_op *op)
{
	int res = (int)env_wait(f->env, &op->op);
	if (res < 0)
		assert_true(op->sentence[0] != 0); /* every refusal has its sentence */
	return res;
}
#define DO(f, call, ...)                                                                           \
	({                                                                                         \
		struct admin_op admin = {0};                                                       \
		env_wait_prepare(&admin.op);                                                       \
		call((f)->store, &admin, __VA_ARGS__);                                             \
		admin_wait(f, &admin);                                                             \
	})

static inline int make_volume(struct fixture *f, const char *name, uint64_t bytes)
{
	struct volume_options options = {.size_bytes = bytes};
	return DO(f, store_volume_create, name, &options);
}

/* It must be there. */
static inline struct volume_info volume_named(struct fixture *f, const char *name, bool in_trash)
{
	struct volume_info *infos, found = {0};
	size_t count;
	assert_int_equal(store_volumes(f->store, in_trash, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].name, name) == 0)
			found = infos[i];
	free(infos);
	if (!in_trash) { /* asked for alone it is the same */
		struct volume_info alone;
		assert_int_equal(store_volume_info(f->store, found.number, &alone), 0);
		assert_int_equal(alone.vseq, found.vseq);
		assert_string_equal(alone.name, found.name);
	}
	assert_int_not_equal(found.number, 0);
	return found;
}

static inline int snap(struct fixture *f, const char *name)
{
	const char *names[] = {name};
	return DO(f, store_snap_create, names, 1);
}

/* ---- damage ---- */

/* Changes one byte of a file of the store; negative: from its end. */
static inline void flip(struct fixture *f, const char *name, int64_t at)
{
	char path[160];
	uint8_t byte;
	snprintf(path, sizeof path, "%s/%s", f->path, name);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	if (at < 0)
		at += lseek(fd, 0, SEEK_END);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	assert_int_equal(fsync(fd), 0); /* who reads past the page cache sees it */
	close(fd);
}

#define WORK(f, ret_work, call, ...)                                                               \
	({                                                                                         \
		memset(ret_work, 0, sizeof *(ret_work));                                           \
		env_wait_prepare(&(ret_work)->op);                                                 \
		call((f)->store, ret_work, ##__VA_ARGS__);                                         \
		(int)env_wait((f)->env, &(ret_work)->op);                                          \
	})

/* All of the store is read, and good. */
static inline void nothing_is_damaged(struct fixture *f)
{
	struct store_work work;
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
}

#endif
