/* SPDX-License-Identifier: Apache-2.0 */
/* Records that are damaged in one store come from a copy of that store, which plays the peer. */
#include "tests/unit/store_fixture.h"

#include "storage/store/record.h"
#include "storage/store/store_int.h"
#include "storage/store/store_transfer.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define VOLUME_BYTES (24 * MIB) /* two leaves */
#define PLACES_MAX 1024u

struct pair {
	struct fixture *here;
	struct fixture there; /* the same env */
	unsigned asked, answered, spoiled, refuse, silent;
	unsigned senseless; /* so many answers of a question are no record at all */
	uint8_t expected[VOLUME_BYTES];
};

/* ---- the peer: answers from its own store, a little later ---- */

struct answer {
	struct store_record_read read;
	struct pair *pair;
	uint64_t number;
	bool spoil, senseless;
	uint8_t buf[STORE_RECORD_BYTES_MAX];
};

static void answer_read(struct io_op *op)
{
	struct answer *answer = container_of(op, struct answer, read.op);
	bool good = op->res > 0;
	answer->pair->answered++;
	if (good && answer->spoil)
		answer->buf[op->res - 1] ^= 4;
	if (good && answer->senseless)
		answer->buf[0] ^= 4;
	store_heal_answer(answer->pair->here->store, answer->number, answer->buf,
			  good ? (uint32_t)op->res : 0, good ? 0 : (int)op->res);
	free(answer);
}

static void want(void *owner, const struct store_wanted *wanted)
{
	struct pair *pair = owner;
	pair->asked++;
	if (pair->silent)
		return;
	struct answer *answer = calloc(1, sizeof(*answer));
	answer->pair = pair;
	answer->number = wanted->number;
	answer->spoil = wanted->attempt < pair->spoiled;
	answer->senseless = wanted->attempt < pair->senseless;
	answer->read = (struct store_record_read){.op.done = answer_read,
						  .store = pair->there.store,
						  .type = wanted->type,
						  .buf = answer->buf};
	memcpy(answer->read.id, wanted->id, ID_BYTES);
	if (pair->refuse)
		memset(answer->read.id, 7, ID_BYTES); /* nobody has it */
	store_record_read(&answer->read);
}

/* ---- two stores that hold the same ---- */

static void shell(const char *format, const char *a, const char *b)
{
	char command[300];
	snprintf(command, sizeof command, format, a, b);
	assert_int_equal(system(command), 0);
}

static int pair_setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	struct store_work work;
	assert_int_equal(fixture_setup((void **)&pair->here), 0);
	struct fixture *f = pair->here;
	f->options.idle_fold_ns = 3600 * NSEC_PER_SEC;
	f->options.scrub_period_ns = SCRUB_NEVER;
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	struct view *view = open_view(f, "a");
	test_random_fill(&f->seed, pair->expected, VOLUME_BYTES);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, VOLUME_BYTES, pair->expected, 0), 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, NULL), 0);
	fixture_close(f);
	pair->there = *f;
	snprintf(pair->there.path, sizeof pair->there.path, "%.50s.there", f->path);
	shell("cp -r %s %s", f->path, pair->there.path);
	fixture_open(&pair->there);
	*state = pair;
	return 0;
}

static int pair_teardown(void **state)
{
	struct pair *pair = *state;
	if (pair->here->store)
		store_set_healer(pair->here->store, NULL, NULL);
	assert_int_equal(store_close(pair->there.store), 0);
	shell("rm -rf %s%s", pair->there.path, "");
	fixture_teardown((void **)&pair->here);
	free(pair);
	return 0;
}

static void reopen(struct pair *pair)
{
	if (pair->here->store)
		fixture_close(pair->here);
	fixture_open(pair->here);
	store_set_healer(pair->here->store, want, pair);
}

static struct store_counters counters_of(const struct pair *pair)
{
	struct store_counters counters;
	store_counters(pair->here->store, &counters);
	return counters;
}

static int read_all(struct pair *pair)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct view *view = open_view(pair->here, "a");
	int res = 0;
	for (uint64_t at = 0; at < VOLUME_BYTES && res == 0; at += MIB) {
		res = do_request(pair->here, view, REQUEST_READ, at, MIB, data, 0);
		if (res == 0)
			assert_memory_equal(data, pair->expected + at, MIB);
	}
	store_view_close(view);
	free(data);
	return res;
}

/* ---- damage, while the store is closed ---- */

enum what { CHUNKS = 1, NODES = 2, FOOTERS = 4 };

/* Flips a bit in the middle of each record's frames, or in each trailer; of chunks, every `each`th.
 * Returns how many. */
static unsigned damage(struct pair *pair, unsigned what, unsigned each)
{
	char path[128];
	unsigned count = 0, chunks = 0;
	snprintf(path, sizeof path, "%s/seg", pair->here->path);
	DIR *dir = opendir(path);
	assert_non_null(dir);
	for (struct dirent *file; (file = readdir(dir));) {
		struct stat status;
		char name[400];
		if (file->d_name[0] == '.')
			continue;
		snprintf(name, sizeof name, "%s/%s", path, file->d_name);
		int fd = open(name, O_RDWR);
		assert_int_equal(fstat(fd, &status), 0);
		uint8_t *bytes = malloc((size_t)status.st_size);
		assert_int_equal(read(fd, bytes, (size_t)status.st_size), status.st_size);
		size_t size = (size_t)status.st_size, at = SEGMENT_HEADER_BYTES;
		while (at + RECORD_HEADER_BYTES < size) {
			struct dir_entry entry;
			struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
			if (record_decode_header(bytes + at, size - at, &entry, frames) < 0) {
				at += RECORD_ALIGN;
				continue;
			}
			uint32_t length = record_bytes(&entry, frames);
			bool hit = entry.type == RECORD_NODE
					   ? what & NODES
					   : what & CHUNKS && chunks++ % each == 0;
			size_t skip = record_header_bytes(entry.frame_count) +
				      record_prefix_bytes(entry.type);
			size_t flip = at + skip + (length - skip) / 2;
			uint8_t flipped = bytes[flip] ^ 0x10;
			if (hit)
				assert_int_equal(pwrite(fd, &flipped, 1, (off_t)flip), 1);
			count += hit;
			at += round_up(length, RECORD_ALIGN);
		}
		uint8_t flipped = bytes[size - BLOCK_BYTES + 20] ^ 1; /* of the trailer */
		if (what & FOOTERS && memcmp(bytes + size - BLOCK_BYTES, "VSSEGEND", 8) == 0) {
			assert_int_equal(pwrite(fd, &flipped, 1, (off_t)(size - BLOCK_BYTES + 20)),
					 1);
			count++;
		}
		free(bytes);
		close(fd);
	}
	closedir(dir);
	return count;
}

/* ---- the cases ---- */

static void a_hundred_bad_records_are_read_well_and_stored_anew(void **state)
{
	struct pair *pair = *state;
	unsigned count = damage(pair, CHUNKS, 3) + damage(pair, NODES, 1);
	assert_true(count >= 100);
	reopen(pair);
	assert_int_equal(read_all(pair), 0);
	assert_int_equal(pair->asked, count);
	assert_int_equal(counters_of(pair).healed, count);
	assert_int_equal(counters_of(pair).heals_failed, 0);
	/* Nobody is asked again, also not after a restart. */
	assert_int_equal(read_all(pair), 0);
	reopen(pair);
	assert_int_equal(read_all(pair), 0);
	assert_int_equal(pair->asked, count);
}

static void a_footer_that_is_lost_costs_nothing(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	assert_true(damage(pair, FOOTERS, 1) > 0);
	reopen(pair);
	assert_int_equal(read_all(pair), 0);
	assert_true(counters_of(pair).healed > 0);
	assert_int_equal(WORK(pair->here, &work, store_verify, "a"), 0);
	assert_int_equal(work.damaged, 0);
}

static void a_check_mends_what_nobody_has_read(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	unsigned count = damage(pair, CHUNKS, 3) + damage(pair, NODES, 1);
	reopen(pair);
	assert_int_equal(WORK(pair->here, &work, store_scrub, false), 0);
	assert_int_equal(work.damaged, 0);
	assert_int_equal(work.mended, count);
	assert_int_equal(pair->asked, count);
	store_set_healer(pair->here->store, NULL, NULL);
	assert_int_equal(read_all(pair), 0);
	assert_int_equal(WORK(pair->here, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
}

static void a_check_mends_what_a_lost_footer_named(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	unsigned footers = damage(pair, FOOTERS, 1);
	reopen(pair);
	assert_int_equal(WORK(pair->here, &work, store_check), 0);
	assert_int_equal(work.damaged, footers); /* the segments stay what they are */
	store_set_healer(pair->here->store, NULL, NULL);
	assert_int_equal(read_all(pair), 0);
}

static void a_fold_loses_nothing_that_somebody_has(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	struct snapshot_info *infos;
	size_t count;
	damage(pair, CHUNKS | NODES, 1);
	reopen(pair);
	struct view *view = open_view(pair->here, "a");
	for (uint64_t at = 0; at < VOLUME_BYTES; at += MIB) {
		memset(pair->expected + at, 5, BLOCK_BYTES);
		assert_int_equal(do_request(pair->here, view, REQUEST_WRITE, at, BLOCK_BYTES,
					    pair->expected + at, 0),
				 0);
	}
	store_view_close(view);
	assert_int_equal(WORK(pair->here, &work, store_fold, "a"), 0);
	assert_true(counters_of(pair).healed >= VOLUME_BYTES / MIB);
	assert_int_equal(store_snapshots(pair->here->store, false, &infos, &count), 0);
	assert_int_equal(count, 0); /* no lost-1 */
	free(infos);
	assert_int_equal(read_all(pair), 0);
}

static void what_is_not_the_id_s_is_refused(void **state)
{
	struct pair *pair = *state;
	damage(pair, CHUNKS, 1000000);
	reopen(pair);
	pair->spoiled = 2; /* the third answer is good */
	assert_int_equal(read_all(pair), 0);
	assert_int_equal(pair->asked, 3);
	assert_int_equal(counters_of(pair).healed, 1);
}

static void who_sends_no_record_is_not_the_last_who_is_asked(void **state)
{
	struct pair *pair = *state;
	damage(pair, CHUNKS, 1000000);
	reopen(pair);
	pair->senseless = 1;
	assert_int_equal(read_all(pair), 0);
	assert_int_equal(pair->asked, 2);
	assert_int_equal(counters_of(pair).healed, 1);
}

static int64_t read_for_peer(struct pair *pair, const uint8_t id[ID_BYTES], uint8_t type,
			     bool heals)
{
	struct store_record_read read = {.store = pair->here->store, .type = type, .heals = heals};
	read.buf = malloc(STORE_RECORD_BYTES_MAX);
	memcpy(read.id, id, ID_BYTES);
	env_wait_prepare(&read.op);
	store_record_read(&read);
	int64_t res = env_wait(pair->here->env, &read.op);
	free(read.buf);
	return res;
}

/* Who asks for what it lacks is told that it is not here; what we send is mended first. */
static void what_is_sent_is_healed_and_what_others_ask_for_is_not(void **state)
{
	struct pair *pair = *state;
	struct store_offer offer;
	reopen(pair);
	assert_int_equal(snap(pair->here, "a@1"), 0);
	assert_int_equal(store_offer(pair->here->store, "a@1", &offer), 0);
	fixture_close(pair->here);
	assert_true(damage(pair, NODES, 1) > 0);
	reopen(pair);
	assert_true(read_for_peer(pair, offer.top, RECORD_NODE, false) < 0);
	assert_int_equal(pair->asked, 0);
	assert_true(read_for_peer(pair, offer.top, RECORD_NODE, true) > 0);
	assert_int_equal(pair->asked, 1);
	assert_true(read_for_peer(pair, offer.top, RECORD_NODE, false) > 0);
	/* Whoever takes it for a chunk errs, and nobody has one. */
	assert_int_equal(read_for_peer(pair, offer.top, RECORD_CHUNK, true), -VS_EFORMAT);
	assert_int_equal(pair->asked, 1);
}

static void who_has_nothing_but_rot_gets_an_error(void **state)
{
	struct pair *pair = *state;
	damage(pair, CHUNKS, 1000000);
	reopen(pair);
	pair->spoiled = 99;
	assert_int_equal(read_all(pair), -VS_ECHECKSUM);
	pair->spoiled = 0;
	pair->refuse = 1;
	assert_int_equal(read_all(pair), -VS_ECHECKSUM);
	assert_int_equal(counters_of(pair).healed, 0);
	assert_int_equal(counters_of(pair).heals_failed, 2);
	pair->refuse = 0;
	assert_int_equal(read_all(pair), 0);
}

static bool ended;
static void read_ended(struct io_op *op)
{
	ended = true;
}

static void a_reader_waits_for_an_answer_and_no_longer(void **state)
{
	struct pair *pair = *state;
	damage(pair, NODES, 1);
	reopen(pair);
	pair->silent = 1;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	struct view *view = open_view(pair->here, "a");
	struct store_request request = {.op.done = read_ended,
					.view = view,
					.kind = REQUEST_READ,
					.length_bytes = BLOCK_BYTES,
					.data = data};
	ended = false;
	store_submit(&request);
	while (!pair->asked)
		env_step(pair->here->env, true);
	assert_false(ended);
	store_set_healer(pair->here->store, NULL, NULL);
	while (!ended)
		env_step(pair->here->env, true);
	assert_int_equal(request.op.res, -VS_ECHECKSUM);
	store_heal_answer(pair->here->store, 1, data, BLOCK_BYTES, 0); /* too late: nothing */
	store_view_close(view);
	free(data);
}

/* ---- a question's time, which is up when the test says so ---- */

static struct env_ops timed;
static const struct env_ops *real;
static struct env_timer *question; /* NULL: none has a time */
static void (*question_fire)(struct env_timer *timer);

static void timed_start(struct env *env, struct env_timer *timer, uint64_t delay_ns)
{
	if (delay_ns == 15 * NSEC_PER_SEC) {
		question = timer;
		question_fire = timer->fire;
	}
	real->timer_start(env, timer, delay_ns);
}

static void timed_stop(struct env *env, struct env_timer *timer)
{
	question = timer == question ? NULL : question;
	real->timer_stop(env, timer);
}

static void time_is_up(struct pair *pair)
{
	struct env_timer *timer = question;
	env_timer_stop(pair->here->env, timer);
	question_fire(timer);
}

/* A guest reads the first chunk, until the first answer has come; `ended` tells of its end. */
static void read_begin(struct pair *pair, struct store_request *request)
{
	*request = (struct store_request){.op.done = read_ended,
					  .view = open_view(pair->here, "a"),
					  .kind = REQUEST_READ,
					  .length_bytes = CHUNK_BYTES,
					  .data = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES)};
	ended = false;
	pair->answered = 0;
	store_submit(request);
	while (!pair->answered)
		env_step(pair->here->env, true);
}

static void read_forget(struct store_request *request)
{
	store_view_close(request->view);
	free(request->data);
}

/* Time is up while what came is being proved; it is not the id's, and the next one who is asked
 * says nothing. */
static void a_second_question_has_its_time_as_well(void **state)
{
	struct pair *pair = *state;
	struct store_request request;
	damage(pair, CHUNKS, 1);
	reopen(pair);
	pair->spoiled = 1;
	real = pair->here->env->ops;
	timed = *real;
	timed.timer_start = timed_start;
	timed.timer_stop = timed_stop;
	pair->here->env->ops = &timed;
	question = NULL;
	read_begin(pair, &request);
	assert_non_null(question);
	time_is_up(pair);
	pair->silent = 1;
	while (pair->asked < 2)
		env_step(pair->here->env, true);
	assert_false(ended);
	assert_non_null(question);
	time_is_up(pair);
	while (!ended)
		env_step(pair->here->env, true);
	assert_int_equal(request.op.res, -VS_ECHECKSUM);
	assert_int_equal(counters_of(pair).heals_failed, 1);
	pair->here->env->ops = real;
	read_forget(&request);
}

static void a_store_that_may_not_write_asks_nobody_else(void **state)
{
	struct pair *pair = *state;
	struct store_request request;
	damage(pair, CHUNKS, 1);
	reopen(pair);
	pair->spoiled = 99;
	read_begin(pair, &request);
	pair->here->store->failed = true;
	while (!ended)
		env_step(pair->here->env, true);
	pair->here->store->failed = false;
	assert_int_equal(pair->asked, 1);
	read_forget(&request);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_hundred_bad_records_are_read_well_and_stored_anew),
		TEST(a_footer_that_is_lost_costs_nothing),
		TEST(a_check_mends_what_nobody_has_read),
		TEST(a_check_mends_what_a_lost_footer_named),
		TEST(a_fold_loses_nothing_that_somebody_has),
		TEST(what_is_not_the_id_s_is_refused),
		TEST(who_sends_no_record_is_not_the_last_who_is_asked),
		TEST(what_is_sent_is_healed_and_what_others_ask_for_is_not),
		TEST(who_has_nothing_but_rot_gets_an_error),
		TEST(a_reader_waits_for_an_answer_and_no_longer),
		TEST(a_second_question_has_its_time_as_well),
		TEST(a_store_that_may_not_write_asks_nobody_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
