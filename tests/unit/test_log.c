/* SPDX-License-Identifier: Apache-2.0 */
/* The write-ahead log on a real file: what is answered is replayed, in order; what is not whole is
 * not. */
#include "tests/unit/unit.h"

#include "proto/err.h"
#include "storage/store/log.h"

#include <errno.h>
#include <unistd.h>

#define RING_BLOCKS (LOG_BYTES_MIN / BLOCK_BYTES)
#define SEEN_MAX 100000u

struct record { /* as the log wants its first four bytes; the rest is the owner's */
	uint8_t op, flags;
	uint16_t bytes;
	uint32_t blocks;
	uint64_t number;
};

struct fixture {
	struct log_owner owner;
	struct env *env;
	struct env_dir *dir;
	struct env_file *file;
	struct log *log;
	struct log_options options;
	char path[64];
	uint64_t seen[SEEN_MAX];
	uint32_t seen_block[SEEN_MAX];
	unsigned seen_count, failures, ended;
};

struct append {
	struct log_entry entry;
	struct fixture *fixture;
	struct record record;
	int res;
	bool ended;
};

static int apply(struct log_owner *owner, const void *record, uint32_t bytes,
		 const struct log_payload *payload_at)
{
	struct fixture *f = (struct fixture *)owner;
	struct record r;
	if (bytes != sizeof r)
		return -VS_EFORMAT;
	memcpy(&r, record, sizeof r);
	assert_true(f->seen_count < SEEN_MAX);
	f->seen_block[f->seen_count] = payload_at->log_block;
	f->seen[f->seen_count++] = r.number;
	return (int)r.blocks;
}

static void failed(struct log_owner *owner, int res, const char *what)
{
	(void)res;
	(void)what;
	((struct fixture *)owner)->failures++;
}

static void committed(struct log_owner *owner)
{
	(void)owner;
}

static void log_start(struct fixture *f, const struct log_place *from, int want)
{
	f->seen_count = 0;
	assert_int_equal(log_new(f->env, f->file, &f->options, &f->owner, &f->log), 0);
	assert_int_equal(log_replay(f->log, from, from->pos), want);
}

static void log_again(struct fixture *f, const struct log_place *from, int want)
{
	while (!log_quiet(f->log))
		env_step(f->env, true);
	log_free(f->log);
	log_start(f, from, want);
}

static const struct log_place start_place = {.pos = 0, .seq = 1};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *sentence;
	f->owner = (struct log_owner){.apply = apply, .failed = failed, .committed = committed};
	snprintf(f->path, sizeof f->path, "./test-log.XXXXXX");
	assert_non_null(mkdtemp(f->path));
	assert_int_equal(
		env_real_new(&(struct env_real_options){.worker_count = 1}, &f->env, &sentence), 0);
	assert_int_equal(env_dir_open(f->env, f->path, &f->dir), 0);
	assert_int_equal(env_file_open(f->dir, "log", ENV_CREATE | ENV_DIRECT, &f->file), 0);
	assert_int_equal(env_file_allocate_wait(f->file, LOG_BYTES_MIN), 0);
	f->options.block_count = RING_BLOCKS;
	memset(f->options.uuid, 7, 16);
	memset(f->options.secret, 9, 16);
	log_start(f, &start_place, 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	while (!log_quiet(f->log))
		env_step(f->env, true);
	log_free(f->log);
	env_file_close(f->file);
	env_file_remove_wait(f->dir, "log");
	env_dir_close(f->dir);
	env_real_free(f->env);
	int res = rmdir(f->path);
	free(f);
	return res;
}

static void append_done(struct log_entry *entry, int res)
{
	struct append *append = (struct append *)entry;
	append->res = res;
	append->ended = true;
	append->fixture->ended++;
}

static uint8_t payload[COMMIT_PAYLOAD_BLOCKS * BLOCK_BYTES];

static void append_start(struct fixture *f, struct append *append, uint64_t number, uint32_t blocks)
{
	*append = (struct append){.entry.done = append_done,
				  .fixture = f,
				  .record = {.op = 1,
					     .bytes = sizeof(struct record),
					     .blocks = blocks,
					     .number = number}};
	for (uint32_t i = 0; i < blocks; i++)
		memcpy(payload + (size_t)i * BLOCK_BYTES, &number, 8);
	assert_true(log_room(f->log, sizeof(struct record), blocks, false));
	log_append(f->log, &append->entry, &append->record, sizeof(struct record), payload, blocks,
		   false);
	assert_false(append->ended); /* never inside the call */
}

static int append_wait(struct fixture *f, uint64_t number, uint32_t blocks)
{
	struct append append;
	append_start(f, &append, number, blocks);
	while (!append.ended)
		env_step(f->env, true);
	return append.res;
}

static int64_t flush_wait(struct fixture *f)
{
	struct log_flush_op flush = {0};
	env_wait_prepare(&flush.op);
	log_flush(f->log, &flush);
	return env_wait(f->env, &flush.op);
}

static void flip_byte(struct fixture *f, uint64_t block, unsigned at)
{
	uint8_t *buf = aligned_alloc(4096, BLOCK_BYTES);
	assert_int_equal(env_file_read_wait(f->file, buf, BLOCK_BYTES, block * BLOCK_BYTES),
			 BLOCK_BYTES);
	buf[at] ^= 0x10;
	assert_int_equal(env_file_write_wait(f->file, buf, BLOCK_BYTES, block * BLOCK_BYTES),
			 BLOCK_BYTES);
	free(buf);
}

static void what_was_answered_is_replayed_in_order_over_many_rounds(void **state)
{
	struct fixture *f = *state;
	static struct append appends[64];
	struct log_place checkpoint = start_place;
	uint64_t seed = 1, number = 0, first = 0;
	for (unsigned round = 0; round < 600; round++) {
		unsigned batch = 1 + (unsigned)(test_random(&seed) % 40), started = 0;
		f->ended = 0;
		for (; started < batch; started++) {
			uint32_t blocks = (uint32_t)(test_random(&seed) % 12);
			if (!log_room(f->log, sizeof(struct record), blocks, false))
				break;
			append_start(f, &appends[started], number++, blocks);
			if (test_random(&seed) % 8 == 0)
				env_step(f->env, false);
		}
		while (f->ended < started)
			env_step(f->env, true);
		for (unsigned i = 0; i < started; i++)
			assert_int_equal(appends[i].res, 0);
		if (round % 5 == 4 && log_idle(f->log)) { /* a checkpoint lets the tail follow */
			log_place(f->log, &checkpoint);
			log_set_tail(f->log, checkpoint.pos);
			first = number;
		}
		if (round % 97 == 96) {
			log_again(f, &checkpoint, 0);
			assert_int_equal(f->seen_count, number - first);
			for (unsigned i = 0; i < f->seen_count; i++)
				assert_true(f->seen[i] == first + i);
		}
	}
	struct log_place end;
	log_place(f->log, &end);
	assert_true(end.pos > 3 * RING_BLOCKS);
}

static void payload_lies_where_the_entry_says(void **state)
{
	struct fixture *f = *state;
	struct append appends[3];
	uint8_t *buf = aligned_alloc(4096, BLOCK_BYTES);
	for (uint64_t i = 0; i < 3; i++)
		append_start(f, &appends[i], 1000 + i, 2);
	while (!appends[2].ended)
		env_step(f->env, true);
	for (uint64_t i = 0; i < 3; i++) {
		uint64_t number, block = appends[i].entry.payload.log_block + 1;
		assert_int_equal(env_file_read_wait(f->file, buf, BLOCK_BYTES, block * BLOCK_BYTES),
				 BLOCK_BYTES);
		memcpy(&number, buf, 8);
		assert_true(number == 1000 + i);
	}
	log_again(f, &start_place, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(f->seen_block[i], appends[i].entry.payload.log_block);
	free(buf);
}

static void a_torn_tail_is_cut_and_written_over(void **state)
{
	struct fixture *f = *state;
	struct log_place before;
	assert_int_equal(append_wait(f, 1, 2), 0);
	log_place(f->log, &before);
	assert_int_equal(append_wait(f, 2, 2), 0);
	flip_byte(f, before.pos + 2, 4000); /* the last payload block of the second */
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 1);
	assert_int_equal(append_wait(f, 3, 1), 0);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 2);
	assert_true(f->seen[1] == 3);
}

static void every_byte_of_a_header_counts(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(append_wait(f, 1, 1), 0);
	f->options.read_only = true;
	for (unsigned at = 0; at < BLOCK_BYTES; at += at < 200 ? 1 : 97) {
		flip_byte(f, 0, at);
		log_again(f, &start_place, 0);
		assert_int_equal(f->seen_count, 0);
		flip_byte(f, 0, at);
	}
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 1);
}

/* By the one sector that it lacked, out of a commit that was written over it and torn as well. */
static void a_torn_commit_that_was_cut_is_not_made_whole(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(append_wait(f, 1, 1), 0);
	flip_byte(f, 0, BLOCK_BYTES - 1); /* nothing lies there, in any commit */
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
	flip_byte(f, 0, BLOCK_BYTES - 1);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
}

static void move_blocks(struct fixture *f, uint64_t block, uint8_t *buf, unsigned count, bool write)
{
	int64_t res =
		write ? env_file_write_wait(f->file, buf, count * BLOCK_BYTES, block * BLOCK_BYTES)
		      : env_file_read_wait(f->file, buf, count * BLOCK_BYTES, block * BLOCK_BYTES);
	assert_int_equal(res, count * BLOCK_BYTES);
}

/* The first commit is torn, the second not: both are cut. Then the first is written again, and
 * power goes before anything else is. */
static void what_was_cut_does_not_come_back_behind_a_commit_like_the_one_before_it(void **state)
{
	struct fixture *f = *state;
	uint8_t *buf = aligned_alloc(4096, 2 * BLOCK_BYTES);
	assert_int_equal(append_wait(f, 1, 1), 0);
	assert_int_equal(append_wait(f, 2, 1), 0);
	flip_byte(f, 0, 50);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
	move_blocks(f, 2, buf, 2, false);
	assert_int_equal(append_wait(f, 1, 1), 0);
	move_blocks(f, 2, buf, 2, true); /* it lies there still */
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 1);
	free(buf);
}

static void damage_before_what_was_flushed_is_reported_not_cut(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(append_wait(f, 1, 1), 0);
	assert_int_equal(append_wait(f, 2, 1), 0);
	assert_int_equal(flush_wait(f), 0);
	assert_int_equal(append_wait(f, 3, 1), 0); /* says that 2 was durable */
	flip_byte(f, 3, 0);			   /* the payload of 2 */
	log_again(f, &start_place, -VS_ELOST);
	assert_int_equal(append_wait(f, 4, 1), -VS_EFAILSTOP);
	flip_byte(f, 3, 0);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 3);
}

static void a_hole_before_unflushed_commits_is_a_torn_tail(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(append_wait(f, 1, 1), 0);
	assert_int_equal(append_wait(f, 2, 1), 0);
	assert_int_equal(append_wait(f, 3, 1), 0);
	flip_byte(f, 2, 50); /* the header of 2: power went before a flush */
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 1);
}

/* Nobody asked for a flush until the end, far behind: what a flush then promised is still proved,
 * near where the chain ends, because the log makes durable what spans too much. */
static void rot_far_before_a_flush_is_reported(void **state)
{
	struct fixture *f = *state;
	for (uint64_t i = 1; i <= 6; i++)
		assert_int_equal(append_wait(f, i, 200), 0);
	assert_int_equal(flush_wait(f), 0);
	assert_int_equal(append_wait(f, 7, 1), 0);
	flip_byte(f, 1, 0); /* the payload of 1 */
	log_again(f, &start_place, -VS_ELOST);
	flip_byte(f, 1, 0);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 7);
}

/* Only as far as a proof must lie: 512 blocks of this ring, and two commits. */
static void the_search_for_proof_is_bounded(void **state)
{
	struct fixture *f = *state;
	for (uint64_t i = 1; i <= 6; i++)
		assert_int_equal(append_wait(f, i, 200), 0);
	assert_int_equal(flush_wait(f), 0);
	assert_int_equal(append_wait(f, 7, 1), 0);
	for (uint64_t i = 0; i < 6; i++)
		flip_byte(f, i * 201, 50); /* the headers of 1 to 6: up to block 1206 */
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
}

static void a_commit_of_another_place_store_or_key_is_not_replayed(void **state)
{
	struct fixture *f = *state;
	uint8_t *buf = aligned_alloc(4096, 2 * BLOCK_BYTES);
	for (uint64_t i = 1; i <= 3; i++)
		assert_int_equal(append_wait(f, i, 1), 0);
	f->options.read_only = true;
	f->options.secret[0] ^= 1;
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
	f->options.secret[0] ^= 1;
	f->options.uuid[0] ^= 1;
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 0);
	f->options.uuid[0] ^= 1;
	/* the third, whole, in the place of the second: a guest replays what it once read */
	env_file_read_wait(f->file, buf, 2 * BLOCK_BYTES, 4 * BLOCK_BYTES);
	env_file_write_wait(f->file, buf, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, 1);
	free(buf);
}

static void a_chain_of_another_history_is_not_continued(void **state)
{
	struct fixture *f = *state;
	struct log_place second;
	assert_int_equal(append_wait(f, 1, 1), 0);
	log_place(f->log, &second);
	assert_int_equal(append_wait(f, 2, 1), 0);
	log_again(f, &second, 0);
	assert_int_equal(f->seen_count, 1);
	second.chain[3] ^= 1;
	log_again(f, &second, 0);
	assert_int_equal(f->seen_count, 0);
}

static void a_flush_makes_all_before_it_durable(void **state)
{
	struct fixture *f = *state;
	struct append append;
	struct log_flush_op flush = {0};
	assert_int_equal(flush_wait(f), 0); /* of nothing */
	for (uint64_t i = 0; i < 50; i++) {
		append_start(f, &append, i, 1);
		env_wait_prepare(&flush.op);
		log_flush(f->log, &flush); /* of what is only staged */
		assert_int_equal(env_wait(f->env, &flush.op), 0);
		assert_true(append.ended);
		struct log_place place;
		log_place(f->log, &place);
		assert_true(log_durable_seq(f->log) == place.seq - 1);
	}
}

static void after_a_failed_write_everything_fails(void **state)
{
	struct fixture *f = *state;
	struct env_file *file = f->file;
	log_free(f->log);
	f->options.read_only = true;
	assert_int_equal(env_file_open(f->dir, "log", ENV_RDONLY | ENV_DIRECT, &f->file), 0);
	log_start(f, &start_place, 0);
	assert_int_equal(append_wait(f, 1, 1), -EBADF);
	assert_int_equal(append_wait(f, 2, 1), -VS_EFAILSTOP);
	assert_int_equal(flush_wait(f), -VS_EFAILSTOP);
	assert_int_equal(f->failures, 1);
	env_file_close(file);
}

static void a_full_ring_says_no_room_and_the_tail_gives_it_back(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;
	while (log_room(f->log, sizeof(struct record), 64, false)) {
		assert_int_equal(append_wait(f, count++, 64), 0);
		assert_true(count < RING_BLOCKS);
	}
	assert_true(log_room(f->log, sizeof(struct record), 1, true)); /* the reserve */
	assert_true(log_used_blocks(f->log) <= RING_BLOCKS);
	log_again(f, &start_place, 0);
	assert_int_equal(f->seen_count, count);
	struct log_place place;
	log_place(f->log, &place);
	log_set_tail(f->log, place.pos);
	assert_true(log_room(f->log, sizeof(struct record), 64, false));
}

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

int main(int argc, char **argv)
{
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc == 2 ? atoi(argv[1]) : 0;
#endif
#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOG_TEST(what_was_answered_is_replayed_in_order_over_many_rounds),
		LOG_TEST(payload_lies_where_the_entry_says),
		LOG_TEST(a_torn_tail_is_cut_and_written_over),
		LOG_TEST(every_byte_of_a_header_counts),
		LOG_TEST(damage_before_what_was_flushed_is_reported_not_cut),
		LOG_TEST(a_hole_before_unflushed_commits_is_a_torn_tail),
		LOG_TEST(rot_far_before_a_flush_is_reported),
		LOG_TEST(the_search_for_proof_is_bounded),
		LOG_TEST(a_commit_of_another_place_store_or_key_is_not_replayed),
		LOG_TEST(a_chain_of_another_history_is_not_continued),
		LOG_TEST(a_flush_makes_all_before_it_durable),
		LOG_TEST(after_a_failed_write_everything_fails),
		LOG_TEST(a_torn_commit_that_was_cut_is_not_made_whole),
		LOG_TEST(what_was_cut_does_not_come_back_behind_a_commit_like_the_one_before_it),
		LOG_TEST(a_full_ring_says_no_room_and_the_tail_gives_it_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
