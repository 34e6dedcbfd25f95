/* SPDX-License-Identifier: Apache-2.0 */
/* Of the simulated world, what the runs in it would not notice when it breaks. */
#include "tests/unit/unit.h"

#include "proto/units.h"
#include "tests/sim/simenv.h"

#define FLIPPED 5000u /* behind what is written */

static void file_make(struct env_dir *dir, const char *name)
{
	static const uint8_t ones[BLOCK_BYTES] = {1, 1, 1, 1};
	struct env_file *file;
	assert_int_equal(env_file_open(dir, name, ENV_CREATE | ENV_EXCL, &file), 0);
	assert_int_equal(env_file_allocate_wait(file, 2 * BLOCK_BYTES), 0);
	assert_int_equal(env_file_write_wait(file, ones, sizeof ones, 0), sizeof ones);
	env_file_close(file);
}

static void a_flipped_bit_is_gone_with_its_file(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env_dir *dir;
	uint64_t bytes;
	assert_int_equal(env_dir_open(sim_env(sim), "folder", &dir), 0);
	file_make(dir, "old");
	sim_flip(sim, "old", FLIPPED);
	assert_int_not_equal(sim_file_look(sim, "old", &bytes)[FLIPPED], 0);
	assert_int_equal(env_file_remove_wait(dir, "old"), 0);
	sim_crash(sim, false);		   /* a kill: nothing brings it back */
	for (unsigned i = 0; i < 4; i++) { /* one of them has its memory */
		char name[] = {(char)('a' + i), '\0'};
		file_make(dir, name);
		assert_int_equal(sim_file_look(sim, name, &bytes)[FLIPPED], 0);
		assert_int_equal(bytes, 2 * BLOCK_BYTES);
	}
	sim_free(sim);
}

static void fire(struct env_timer *timer)
{
	timer->fire = NULL;
}

static void a_moved_clock_brings_no_timer_nearer(void **state)
{
	(void)state;
	struct sim *sim = sim_new(1);
	struct env *env = sim_env(sim);
	struct env_timer timer = {.fire = fire};
	uint64_t now = env_now_ns(env), wall = env_wall_ns(env);
	env_timer_start(env, &timer, 10 * NSEC_PER_SEC);
	sim_clock_move(sim, 100 * NSEC_PER_SEC, -300 * (int64_t)NSEC_PER_SEC);
	assert_int_equal(env_now_ns(env), now + 100 * NSEC_PER_SEC);
	assert_int_equal(env_wall_ns(env), wall - 200 * NSEC_PER_SEC);
	assert_true(env_step(env, true));
	assert_null(timer.fire);
	assert_int_equal(env_now_ns(env), now + 110 * NSEC_PER_SEC);
	assert_int_equal(env_wall_ns(env), wall - 190 * NSEC_PER_SEC);
	sim_free(sim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flipped_bit_is_gone_with_its_file),
		cmocka_unit_test(a_moved_clock_brings_no_timer_nearer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
