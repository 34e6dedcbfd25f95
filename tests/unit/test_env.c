/* SPDX-License-Identifier: Apache-2.0 */
/* The real env on real files, sockets and threads. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "proto/units.h"
#include "storage/rt/env.h"
#include "storage/rt/spin.h"

#include <errno.h>
#include <pthread.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct world {
	struct env *env;
	struct env_dir *dir;
	char path[64];
};

static int setup(void **state)
{
	static struct world world;
	const char *sentence;
	snprintf(world.path, sizeof world.path, "./test-env.XXXXXX");
	assert_non_null(mkdtemp(world.path));
	assert_int_equal(
		env_real_new(&(struct env_real_options){.worker_count = 2}, &world.env, &sentence),
		0);
	assert_int_equal(env_dir_open(world.env, world.path, &world.dir), 0);
	*state = &world;
	return 0;
}

static unsigned working(struct world *world)
{
	struct env_real_info info;
	env_real_info(world->env, &info);
	return info.working;
}

static int teardown(void **state)
{
	struct world *world = *state;
	struct env_dir_entry *entries;
	size_t count;
	assert_int_equal(working(world), 0); /* each that began has ended */
	assert_int_equal(env_dir_list(world->dir, &entries, &count), 0);
	for (size_t i = 0; i < count; i++)
		env_file_remove_wait(world->dir, entries[i].name);
	free(entries);
	env_dir_close(world->dir);
	env_real_free(world->env);
	return rmdir(world->path);
}

static void only_short_waits_are_looked_through(void **state)
{
	struct spin spin = {0};
	(void)state;
	assert_false(spin_pays(&spin));
	for (unsigned i = 0; i < SPIN_SCORE_PAYS; i++)
		spin_note(&spin, SPIN_NS / 2);
	assert_true(spin_pays(&spin));
	for (unsigned i = 0; i < SPIN_SCORE_MAX; i++)
		spin_note(&spin, SPIN_NS);
	for (unsigned i = 0; i < 1000; i++) /* one long one among five is borne */
		spin_note(&spin, i % 5 ? 1000 : NSEC_PER_SEC);
	assert_true(spin_pays(&spin));
	for (unsigned i = 0; i < SPIN_SCORE_MAX; i++) /* but not every third */
		spin_note(&spin, i % 3 ? 1000 : SPIN_NS + 1);
	assert_false(spin_pays(&spin));
	for (unsigned i = 0; i < 1000; i++) /* a long idle time is not held against it for long */
		spin_note(&spin, NSEC_PER_SEC);
	for (unsigned i = 0; i < SPIN_SCORE_PAYS; i++)
		spin_note(&spin, 0);
	assert_true(spin_pays(&spin));
}

static void what_is_written_is_read(void **state)
{
	struct world *world = *state;
	struct env_file *file;
	uint64_t seed = 1;
	uint8_t *out = env_memory(world->env, 128 * KIB), *in = aligned_alloc(4096, 128 * KIB);
	assert_int_equal(
		env_file_open(world->dir, "data", ENV_CREATE | ENV_EXCL | ENV_DIRECT, &file), 0);
	assert_int_equal(env_file_allocate_wait(file, MIB), 0);
	assert_true(env_file_bytes(file) == (int64_t)MIB);
	test_random_fill(&seed, out, 128 * KIB);
	assert_true(env_file_write_wait(file, out, 128 * KIB, 64 * KIB) == 128 * KIB);
	assert_int_equal(env_file_sync_wait(file), 0);
	assert_true(env_file_read_wait(file, in, 128 * KIB, 64 * KIB) == 128 * KIB);
	assert_memory_equal(out, in, 128 * KIB);
	assert_true(env_file_read_wait(file, in, 128 * KIB, MIB - 64 * KIB) ==
		    64 * KIB); /* the end */
	assert_int_equal(env_file_truncate_wait(file, 8192), 0);
	assert_true(env_file_read_wait(file, in, 4096, 8192) == 0);
	env_file_close(file);
	env_memory_free(world->env, out, 128 * KIB);
	free(in);
	assert_int_equal(env_file_open(world->dir, "data", ENV_CREATE | ENV_EXCL, &file), -EEXIST);
	assert_int_equal(env_file_open(world->dir, "none", 0, &file), -ENOENT);
	assert_int_equal(env_file_rename_wait(world->dir, "data", "moved"), 0);
	assert_int_equal(env_dir_sync_wait(world->dir), 0);
}

/* A large file's end takes the file system a while: the loop's thread has only asked for it. */
static void a_removal_is_no_work_of_the_loop(void **state)
{
	struct world *world = *state;
	struct env_file *file, *again;
	struct io_op op = {0};
	char name[] = "large";
	assert_int_equal(env_file_open(world->dir, name, ENV_CREATE | ENV_EXCL, &file), 0);
	env_file_close(file);
	env_wait_prepare(&op);
	env_file_remove(world->dir, &op, name);
	memset(name, 'x', 5); /* it is the caller's again */
	assert_int_equal(env_file_open(world->dir, "large", 0, &again), 0);
	env_file_close(again);
	assert_int_equal((int)env_wait(world->env, &op), 0);
	assert_int_equal(env_file_open(world->dir, "large", 0, &again), -ENOENT);
	assert_int_equal(env_file_remove_wait(world->dir, "large"), -ENOENT);
}

static void a_locked_file_is_refused_to_others(void **state)
{
	struct world *world = *state;
	struct env_file *file, *other;
	assert_int_equal(env_file_open(world->dir, "lock", ENV_CREATE | ENV_LOCK, &file), 0);
	assert_int_equal(env_file_open(world->dir, "lock", ENV_LOCK, &other), -VS_ELOCKED);
	env_file_close(file);
	assert_int_equal(env_file_open(world->dir, "lock", ENV_LOCK, &other), 0);
	env_file_close(other);
}

struct counting {
	struct env_job job;
	unsigned *running_sum;
	unsigned value;
	bool inside; /* true while a start is on the stack: done must not see it */
};
static unsigned jobs_done;

static int64_t counting_run(struct env_job *job, unsigned worker_no)
{
	(void)worker_no;
	struct counting *counting = (struct counting *)job;
	unsigned sum = 0;
	for (unsigned i = 0; i <= counting->value; i++)
		sum += i;
	return sum;
}

static void counting_done(struct io_op *op)
{
	struct counting *counting = (struct counting *)op;
	assert_false(counting->inside);
	assert_int_equal(op->res, counting->value * (counting->value + 1) / 2);
	jobs_done++;
}

static void jobs_run_and_answer_on_the_reactor(void **state)
{
	struct world *world = *state;
	static struct counting jobs[500];
	jobs_done = 0;
	for (unsigned i = 0; i < 500; i++) {
		jobs[i] = (struct counting){.value = i, .inside = true};
		jobs[i].job.run = counting_run;
		jobs[i].job.background = i % 2;
		jobs[i].job.op.done = counting_done;
		env_job(world->env, &jobs[i].job);
		assert_true(working(world) > 0);
		jobs[i].inside = false;
	}
	while (jobs_done < 500)
		env_step(world->env, true);
}

static char fired[8];

static void fired_add(char letter)
{
	size_t count = strlen(fired);
	assert_true(count + 1 < sizeof fired);
	fired[count] = letter;
	fired[count + 1] = 0;
}

static void fire_a(struct env_timer *timer)
{
	(void)timer;
	fired_add('a');
}
static void fire_b(struct env_timer *timer)
{
	(void)timer;
	fired_add('b');
}
static void fire_c(struct env_timer *timer)
{
	(void)timer;
	fired_add('c');
}

static void timers_fire_in_order_of_time(void **state)
{
	struct world *world = *state;
	struct env_timer a = {.fire = fire_a}, b = {.fire = fire_b}, c = {.fire = fire_c};
	fired[0] = 0;
	env_timer_start(world->env, &a, 6 * NSEC_PER_MSEC);
	env_timer_start(world->env, &c, 2 * NSEC_PER_MSEC);
	env_timer_start(world->env, &b, 4 * NSEC_PER_MSEC);
	env_timer_start(world->env, &c, 8 * NSEC_PER_MSEC); /* re-armed */
	env_timer_stop(world->env, &b);
	env_timer_stop(world->env, &b);
	while (strlen(fired) < 2)
		env_step(world->env, true);
	assert_string_equal(fired, "ac");
}

static struct env *post_env;
static void *post_main(void *arg)
{
	env_post(post_env, arg);
	return NULL;
}

static void a_post_of_another_thread_wakes_the_loop(void **state)
{
	struct world *world = *state;
	post_env = world->env;
	for (unsigned round = 0; round < 200; round++) {
		struct io_op op = {0};
		pthread_t thread;
		env_wait_prepare(&op);
		assert_int_equal(pthread_create(&thread, NULL, post_main, &op), 0);
		env_wait(world->env, &op);
		pthread_join(thread, NULL);
	}
}

static void sockets_carry_more_than_their_buffers(void **state)
{
	struct world *world = *state;
	struct env_listener *listener, *second;
	struct env_sock *server = NULL;
	struct stat info;
	char path[128];
	snprintf(path, sizeof path, "%s/sock", world->path);
	assert_int_equal(env_listen_unix(world->env, path, 0660, -1, &listener), 0);
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0660);
	struct io_op accept_op = {0}, send_op = {0}, recv_op = {0};
	env_wait_prepare(&accept_op);
	env_accept(listener, &accept_op, &server);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, path, strlen(path) + 1);
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(env_wait(world->env, &accept_op), 0);
	assert_non_null(server);
	assert_int_equal(env_listen_unix(world->env, path, 0660, -1, &second), -EADDRINUSE);

	size_t bytes = 3 * MIB, got = 0;
	uint8_t *out = malloc(bytes), *in = malloc(bytes);
	uint64_t seed = 4;
	test_random_fill(&seed, out, bytes);
	struct iovec iov[3] = {{out, 5}, {out + 5, MIB}, {out + 5 + MIB, bytes - 5 - MIB}};
	env_wait_prepare(&send_op);
	env_sock_send(server, &send_op, iov, 3);
	while (got < bytes) {
		env_step(world->env, false);
		ssize_t moved = recv(client, in + got, bytes - got, MSG_DONTWAIT);
		assert_true(moved > 0 || (moved < 0 && errno == EAGAIN));
		got += moved > 0 ? (size_t)moved : 0;
	}
	assert_int_equal(env_wait(world->env, &send_op), 0);
	assert_memory_equal(in, out, bytes);
	env_wait_prepare(&recv_op);
	env_sock_recv(server, &recv_op, in, 100);
	assert_int_equal(send(client, "hello", 5, 0), 5);
	assert_int_equal(env_wait(world->env, &recv_op), 5);
	close(client);
	env_wait_prepare(&recv_op);
	env_sock_recv(server, &recv_op, in, 100);
	assert_int_equal(env_wait(world->env, &recv_op), 0);
	env_sock_close(server);
	env_wait_prepare(&accept_op);
	env_accept(listener, &accept_op, &server); /* the probe of the refused listen */
	assert_int_equal(env_wait(world->env, &accept_op), 0);
	env_sock_close(server);
	env_wait_prepare(&accept_op);
	env_accept(listener, &accept_op, &server);
	env_step(world->env, false);
	env_listener_close(listener);
	assert_int_equal(env_wait(world->env, &accept_op), -ECANCELED);
	assert_int_equal(stat(path, &info), -1);
	free(in);
	free(out);
}

/* As a planned restart does it: nothing that the client sends, and no client that connects, is
 * lost.
 */
static void sockets_change_hands(void **state)
{
	struct world *world = *state;
	struct env_listener *listener;
	struct env_sock *server = NULL;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct io_op accept_op = {0}, recv_op = {0};
	char in[8];
	snprintf(address.sun_path, sizeof address.sun_path, "%.90s/hand", world->path);
	assert_int_equal(env_listen_unix(world->env, address.sun_path, 0600, -1, &listener), 0);
	env_wait_prepare(&accept_op);
	env_accept(listener, &accept_op, &server);
	int client = socket(AF_UNIX, SOCK_STREAM, 0), second = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(env_wait(world->env, &accept_op), 0);

	env_wait_prepare(&recv_op);
	env_sock_recv(server, &recv_op, in, sizeof in);
	env_step(world->env, false);
	env_recv_cancel(server, &recv_op);
	assert_int_equal(env_wait(world->env, &recv_op), -ECANCELED);
	env_wait_prepare(&accept_op);
	struct env_sock *none = NULL;
	env_accept(listener, &accept_op, &none);
	env_step(world->env, false);
	int fd = env_sock_release(server), listening = env_listener_release(listener);
	assert_int_equal(env_wait(world->env, &accept_op), -ECANCELED);
	assert_int_equal(send(client, "abc", 3, 0), 3);
	assert_int_equal(connect(second, (struct sockaddr *)&address, sizeof address), 0);

	assert_int_equal(env_sock_adopt(world->env, fd, &server), 0);
	env_wait_prepare(&recv_op);
	env_sock_recv(server, &recv_op, in, sizeof in);
	assert_int_equal(env_wait(world->env, &recv_op), 3);
	assert_memory_equal(in, "abc", 3);
	env_sock_close(server);
	assert_int_equal(env_listener_adopt(world->env, listening, "/nowhere/sock", &listener),
			 -ENOENT);
	assert_int_equal(env_listener_adopt(world->env, listening, address.sun_path, &listener), 0);
	env_wait_prepare(&accept_op);
	env_accept(listener, &accept_op, &server);
	assert_int_equal(env_wait(world->env, &accept_op), 0);
	env_sock_close(server);
	env_listener_close(listener);
	close(client);
	close(second);
}

/* ---- what the kernel may refuse ---- */

/* Every rung of the ladder serves; each asks for less than the one before. */
static void older_kernels_setup_flags_serve(void **state)
{
	struct world *world = *state;
	struct env *first = world->env;
	struct env_dir *first_dir = world->dir;
	unsigned last = UINT32_MAX;
	for (unsigned rung = 0; rung < 4; rung++) {
		struct env_real_options options = {.worker_count = 2, .skip_rungs = rung};
		struct env_real_info info;
		const char *sentence;
		assert_int_equal(env_real_new(&options, &world->env, &sentence), 0);
		assert_int_equal(env_dir_open(world->env, world->path, &world->dir), 0);
		env_real_info(world->env, &info);
		assert_true(info.setup_flags <= last);
		last = info.setup_flags;
		what_is_written_is_read(state);
		jobs_run_and_answer_on_the_reactor(state);
		a_post_of_another_thread_wakes_the_loop(state);
		sockets_carry_more_than_their_buffers(state);
		assert_int_equal(env_file_remove_wait(world->dir, "moved"), 0);
		env_dir_close(world->dir);
		env_real_free(world->env);
	}
	assert_int_equal(last, 0);
	world->env = first;
	world->dir = first_dir;
}

/* In a process that may lock 64 KiB and has no right to more: 0 when all went well. */
static int low_memlock_child(const char *path)
{
	struct rlimit limit = {64 * KIB, 64 * KIB};
	struct env_real_info info;
	struct env *env;
	struct env_dir *dir;
	struct env_file *file;
	const char *sentence;
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return 1;
	if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
		return 2;
	if (env_real_new(&(struct env_real_options){.worker_count = 1}, &env, &sentence) < 0)
		return 3;
	uint8_t *out = env_memory(env, MIB);
	uint8_t *in = env_memory(env, MIB);
	env_real_info(env, &info);
	if (info.fixed_bytes != 0)
		return 4;
	uint64_t seed = 9;
	test_random_fill(&seed, out, MIB);
	if (env_dir_open(env, path, &dir) < 0 ||
	    env_file_open(dir, "low", ENV_CREATE | ENV_DIRECT, &file) < 0)
		return 5;
	if (env_file_write_wait(file, out, MIB, 0) != (int64_t)MIB ||
	    env_file_read_wait(file, in, MIB, 0) != (int64_t)MIB || memcmp(in, out, MIB) != 0)
		return 6;
	env_file_close(file);
	env_dir_close(dir);
	env_memory_free(env, in, MIB);
	env_memory_free(env, out, MIB);
	env_real_free(env);
	return 0;
}

static void a_low_limit_of_locked_memory_costs_fixed_buffers_only(void **state)
{
	(void)state;
	int status = 0;
	char folder[] = "./test-env.XXXXXX", path[64];
	assert_non_null(mkdtemp(folder));
	assert_int_equal(chmod(folder, 0777), 0);
	int at = open(folder, O_PATH | O_DIRECTORY); /* its parents may be closed to others */
	snprintf(path, sizeof path, "/proc/self/fd/%d", at);
	pid_t child = fork(); /* there are no threads yet: the first of all tests */
	if (child == 0)
		_exit(low_memlock_child(path));
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_int_equal(unlinkat(at, "low", 0), 0);
	close(at);
	assert_int_equal(rmdir(folder), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void memory_is_registered_where_that_is_allowed(void **state)
{
	struct world *world = *state;
	struct env_real_info info;
	void *memory = env_memory(world->env, MIB);
	env_real_info(world->env, &info);
	if (geteuid() == 0)
		assert_int_equal(info.fixed_bytes, MIB);
	env_memory_free(world->env, memory, MIB);
	env_real_info(world->env, &info);
	assert_int_equal(info.fixed_bytes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_low_limit_of_locked_memory_costs_fixed_buffers_only),
		cmocka_unit_test(only_short_waits_are_looked_through),
		cmocka_unit_test_setup_teardown(what_is_written_is_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_removal_is_no_work_of_the_loop, setup, teardown),
		cmocka_unit_test_setup_teardown(a_locked_file_is_refused_to_others, setup,
						teardown),
		cmocka_unit_test_setup_teardown(jobs_run_and_answer_on_the_reactor, setup,
						teardown),
		cmocka_unit_test_setup_teardown(timers_fire_in_order_of_time, setup, teardown),
		cmocka_unit_test_setup_teardown(a_post_of_another_thread_wakes_the_loop, setup,
						teardown),
		cmocka_unit_test_setup_teardown(sockets_carry_more_than_their_buffers, setup,
						teardown),
		cmocka_unit_test_setup_teardown(sockets_change_hands, setup, teardown),
		cmocka_unit_test_setup_teardown(older_kernels_setup_flags_serve, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_is_registered_where_that_is_allowed, setup,
						teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
