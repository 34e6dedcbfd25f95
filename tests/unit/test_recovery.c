/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of storage/store/recovery.h: every combination has one rule and no more, what the
 * rules say keeps the promises, and an opening does it with real bytes. About 3 s.
 */
#include "tests/unit/store_fixture.h"

#include "storage/store/index_file.h"
#include "storage/store/recovery.h"
#include "storage/store/segments.h"
#include "storage/store/store_int.h"
#include "storage/store/superblock.h"

#include <fcntl.h>
#include <sys/stat.h>

#define CHUNKS 24u
#define DATA_BYTES (CHUNKS * (uint64_t)CHUNK_BYTES)

/* ---- every combination ---- */

/* The next combination of one fact a column; false: that was the last. */
static bool next_facts(const struct recovery_table *table, uint8_t *facts)
{
	for (unsigned c = 0; c < table->column_count; c++) {
		for (facts[c] = (uint8_t)(facts[c] << 1);
		     facts[c] && !(facts[c] & table->columns[c]);
		     facts[c] = (uint8_t)(facts[c] << 1))
			;
		if (facts[c])
			return true;
		facts[c] = 1;
	}
	return false;
}

static void each_combination_has_exactly_one_rule(void **state)
{
	const struct recovery_table *const tables[] = {&recovery_superblock, &recovery_checkpoint,
						       &recovery_index, &recovery_chain,
						       &recovery_segment};
	static const unsigned wanted[] = {75, 75, 75, 9, 96};
	(void)state;
	for (unsigned t = 0; t < 5; t++) {
		const struct recovery_table *table = tables[t];
		uint8_t facts[RECOVERY_COLUMNS_MAX] = {1, 1, 1, 1, 1};
		unsigned count = 0;
		do {
			unsigned fit = 0;
			for (unsigned r = 0; r < table->rule_count; r++) {
				bool fits = true;
				for (unsigned c = 0; c < table->column_count; c++)
					fits = fits && table->rules[r].facts[c] & facts[c];
				fit += fits;
			}
			if (fit != 1)
				print_error("%s: %u rules for %u %u %u %u %u\n", table->name, fit,
					    facts[0], facts[1], facts[2], facts[3], facts[4]);
			assert_int_equal(fit, 1);
			count++;
		} while (next_facts(table, facts));
		assert_int_equal(count, wanted[t]);
	}
}

/* What must hold whatever the rules are. */
static void a_pair_never_serves_what_is_not_proved(void **state)
{
	const struct recovery_table *const tables[] = {&recovery_superblock, &recovery_checkpoint,
						       &recovery_index};
	(void)state;
	for (unsigned t = 0; t < 3; t++) {
		uint8_t facts[RECOVERY_COLUMNS_MAX] = {1, 1, 1, 1, 1};
		do {
			unsigned verdict = recovery_decide(tables[t], facts);
			unsigned both = facts[0] | facts[1];
			bool serves = verdict == PAIR_FIRST || verdict == PAIR_SECOND;
			if (serves)
				assert_int_equal(facts[verdict == PAIR_SECOND], COPY_WHOLE);
			if (both & COPY_UNKNOWN)
				assert_int_equal(verdict, PAIR_STOP);
			if (both == COPY_WHOLE)
				assert_int_equal(verdict, facts[2] == ORDER_SECOND ? PAIR_SECOND
										   : PAIR_FIRST);
			if (!(both & (COPY_NEWER | COPY_UNKNOWN)) && both & COPY_WHOLE)
				assert_true(serves);
			if (t == 0 && both & COPY_NEWER && !(both & COPY_UNKNOWN)) {
				bool older = facts[facts[2] == ORDER_SECOND] == COPY_WHOLE &&
					     facts[2] != ORDER_NEITHER && both & COPY_WHOLE;
				assert_true(older ? serves : verdict == PAIR_NEWER);
			}
			if (t == 2 && !(both & COPY_UNKNOWN))
				assert_true(serves || verdict == PAIR_NONE);
		} while (next_facts(tables[t], facts));
	}
}

static void nothing_durable_is_cut_and_no_known_segment_removed(void **state)
{
	uint8_t facts[RECOVERY_COLUMNS_MAX] = {1, 1, 1, 1, 1};
	(void)state;
	do
		if (recovery_decide(&recovery_chain, facts) == CHAIN_CUT)
			assert_true(facts[0] == COMMIT_OTHER && facts[1] == CLAIM_NONE);
	while (next_facts(&recovery_chain, facts));
	memset(facts, 1, sizeof facts);
	do {
		unsigned verdict = recovery_decide(&recovery_segment, facts);
		bool writes = verdict == SEGMENT_REMOVE || verdict == SEGMENT_SCAN_SEAL ||
			      verdict == SEGMENT_SALVAGE_SEAL;
		assert_true(!writes || facts[4] == OPEN_WRITABLE);
		assert_true(verdict != SEGMENT_REMOVE || facts[0] == SEGMENT_UNKNOWN);
		assert_true(verdict != SEGMENT_TRUST || facts[1] == SEGMENT_FILE);
	} while (next_facts(&recovery_segment, facts));
}

/* ---- real bytes: the superblock ---- */

/* What is put where a copy goes, and so what must be found there. */
static void put_copy(int fd, unsigned copy, enum copy_fact fact, uint64_t generation)
{
	uint8_t block[SUPERBLOCK_BYTES];
	struct superblock sb = {.generation = generation, .log_bytes = 8 * MIB};
	sb.feature_incompatible = fact == COPY_NEWER ? UINT64_C(1) << 63 : 0;
	superblock_encode(&sb, block);
	if (fact == COPY_DAMAGED)
		block[100] ^= 1;
	if (fact != COPY_ABSENT)
		assert_int_equal(pwrite(fd, block, sizeof block, copy * 65536), sizeof block);
}

static void superblocks_of_every_combination_are_taken_as_the_table_says(void **state)
{
	struct fixture *f = *state;
	uint8_t facts[RECOVERY_COLUMNS_MAX] = {1, 1, 1, 1, 1};
	char path[100], sentence[SENTENCE_BYTES];
	struct env_dir *dir;
	fixture_close(f);
	snprintf(path, sizeof path, "%s/superblock", f->path);
	assert_int_equal(env_dir_open(f->env, f->path, &dir), 0);
	do {
		struct superblock sb;
		uint64_t generations[] = {facts[2] == ORDER_FIRST ? 9 : 7,
					  facts[2] == ORDER_SECOND ? 9 : 7};
		/* In a file, nothing can lie before what is there but bytes. */
		if ((facts[0] | facts[1]) & COPY_UNKNOWN ||
		    (facts[0] == COPY_ABSENT && facts[1] != COPY_ABSENT))
			continue;
		int fd = open(path, O_RDWR | O_TRUNC | O_CREAT, 0600);
		put_copy(fd, 0, facts[0], generations[0]);
		put_copy(fd, 1, facts[1], generations[1]);
		close(fd);
		int res = superblock_read(dir, &sb, sentence);
		switch (recovery_decide(&recovery_superblock, facts)) {
		case PAIR_FIRST:
			assert_int_equal(res, 0);
			assert_int_equal(sb.generation, generations[0]);
			break;
		case PAIR_SECOND:
			assert_int_equal(res, 0);
			assert_int_equal(sb.generation, generations[1]);
			break;
		case PAIR_NEWER:
			assert_int_equal(res, -VS_ENEWER);
			assert_non_null(strstr(sentence, "another version"));
			break;
		default:
			assert_true(res < 0);
			assert_non_null(strstr(sentence, "unreadable"));
		}
	} while (next_facts(&recovery_superblock, facts));
	env_dir_close(dir);
}

/* ---- real bytes: a store ---- */

static void keep(struct fixture *f)
{
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s.kept && cp -a %s %s.kept", f->path, f->path,
		 f->path);
	assert_int_equal(system(command), 0);
}

static uint8_t *fill_and_close(struct fixture *f)
{
	struct store_work work;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, DATA_BYTES);
	test_random_fill(&f->seed, data, DATA_BYTES);
	assert_int_equal(make_volume(f, "a", DATA_BYTES), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, DATA_BYTES, data, 0), 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	fixture_close(f);
	keep(f);
	return data;
}

static void restore(struct fixture *f)
{
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s && cp -a %s.kept %s", f->path, f->path,
		 f->path);
	assert_int_equal(system(command), 0);
}

static void forget(struct fixture *f)
{
	char command[300];
	snprintf(command, sizeof command, "rm -rf %s.kept", f->path);
	assert_int_equal(system(command), 0);
}

static void remove_file(struct fixture *f, const char *name)
{
	char path[160];
	snprintf(path, sizeof path, "%s/%s", f->path, name);
	assert_int_equal(unlink(path), 0);
}

static unsigned good_chunks(struct fixture *f, const uint8_t *data)
{
	uint8_t *got = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	struct view *view = open_view(f, "a");
	unsigned good = 0;
	for (uint64_t at = 0; at < DATA_BYTES; at += CHUNK_BYTES) {
		int res = do_request(f, view, REQUEST_READ, at, CHUNK_BYTES, got, 0);
		if (res == 0) /* never anything else */
			assert_memory_equal(got, data + at, CHUNK_BYTES);
		good += res == 0;
	}
	store_view_close(view);
	free(got);
	return good;
}

static const enum copy_fact found[] = {COPY_ABSENT, COPY_DAMAGED, COPY_WHOLE};

static void spoil(struct fixture *f, const char *name, enum copy_fact fact)
{
	if (fact == COPY_ABSENT)
		remove_file(f, name);
	else if (fact == COPY_DAMAGED)
		flip(f, name, 40);
}

static void checkpoints_of_every_combination_are_taken_as_the_table_says(void **state)
{
	struct fixture *f = *state;
	char sentence[SENTENCE_BYTES];
	uint8_t *data = fill_and_close(f);
	for (unsigned i = 0; i < 9; i++) {
		const enum copy_fact copies[] = {found[i % 3], found[i / 3]};
		restore(f);
		spoil(f, "checkpoint.0", copies[0]);
		spoil(f, "checkpoint.1", copies[1]);
		int res = store_open(f->env, f->path, &f->options, &f->store, sentence);
		assert_int_equal(res == 0, ((copies[0] | copies[1]) & COPY_WHOLE) != 0);
		if (res < 0) {
			f->store = NULL;
			assert_non_null(strstr(sentence, "Neither checkpoint"));
			continue;
		}
		assert_int_equal(good_chunks(f, data), CHUNKS);
		fixture_close(f);
	}
	/* A whole file under the other one's name is none. */
	for (unsigned i = 0; i < 2; i++) {
		char command[300];
		restore(f);
		snprintf(command, sizeof command, "cd %s && mv checkpoint.%u checkpoint.%u",
			 f->path, i, !i);
		assert_int_equal(system(command), 0);
		assert_true(store_open(f->env, f->path, &f->options, &f->store, sentence) < 0);
		f->store = NULL;
	}
	restore(f);
	fixture_open(f);
	forget(f);
	free(data);
}

static void indexes_of_every_combination_are_taken_as_the_table_says(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = fill_and_close(f);
	fixture_open(f); /* so that both files are there */
	struct store_work work;
	struct view *view = open_view(f, "a");
	data[0] ^= 1;
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, CHUNK_BYTES, data, 0), 0);
	store_view_close(view);
	assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	fixture_close(f);
	keep(f);
	fixture_open(f);
	const uint64_t newest = f->store->index_generation;
	assert_true(newest >= 2);
	fixture_close(f);
	for (unsigned i = 0; i < 9; i++) {
		const enum copy_fact copies[] = {found[i % 3], found[i / 3]};
		const uint64_t generations[] = {newest - newest % 2, newest - !(newest % 2)};
		restore(f);
		spoil(f, "index.0", copies[0]);
		spoil(f, "index.1", copies[1]);
		enum pair_verdict verdict = recovery_pair(&recovery_index, copies, generations);
		fixture_open(f);
		assert_int_equal(f->store->index_generation,
				 verdict == PAIR_NONE ? 0 : generations[verdict == PAIR_SECOND]);
		assert_int_equal(good_chunks(f, data), CHUNKS);
		fixture_close(f);
	}
	restore(f);
	fixture_open(f);
	forget(f);
	free(data);
}

/* The name of the segment that has the data, the largest file. */
static void data_segment(struct fixture *f, char ret_name[40])
{
	char path[300];
	struct stat stat_of;
	off_t most = 0;
	for (unsigned id = 1; id < 8; id++) {
		char name[40] = "seg/";
		segment_file_name(id, name + 4);
		snprintf(path, sizeof path, "%s/%s", f->path, name);
		if (stat(path, &stat_of) == 0 && stat_of.st_size > most) {
			most = stat_of.st_size;
			memcpy(ret_name, name, sizeof name);
		}
	}
	assert_true(most > (off_t)DATA_BYTES);
}

/* Makes a segment's file say what is asked. */
static void segment_make(struct fixture *f, const char *name, enum seal_fact fact)
{
	char path[160];
	uint8_t block[BLOCK_BYTES];
	uint64_t directory_offset;
	snprintf(path, sizeof path, "%s/%s", f->path, name);
	if (fact == SEAL_DAMAGED)
		flip(f, name, -(int64_t)BLOCK_BYTES + 50);
	if (fact == SEAL_ALIEN)
		flip(f, name, 20);
	if (fact == SEAL_FAILED) {
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	if (fact != SEAL_NONE)
		return;
	int fd = open(path, O_RDWR);
	assert_int_equal(pread(fd, block, sizeof block, lseek(fd, 0, SEEK_END) - BLOCK_BYTES),
			 sizeof block);
	memcpy(&directory_offset, block + 16, 8);
	assert_int_equal(ftruncate(fd, (off_t)directory_offset), 0);
	assert_int_equal(ftruncate(fd, SEGMENT_FILE_BYTES), 0);
	close(fd);
}

static void segments_of_every_combination_are_taken_as_the_table_says(void **state)
{
	struct fixture *f = *state;
	const char strange[] = "seg/00000000000f0000";
	uint8_t facts[RECOVERY_COLUMNS_MAX] = {1, 1, 1, 1, 1};
	uint8_t *data = fill_and_close(f);
	char name[40], path[300];
	data_segment(f, name);
	do {
		/* No memory cannot be had here; a segment that is listed is believed, and opened
		 * only when it is needed: its damage is for reading to find. */
		if (facts[3] == SEAL_UNKNOWN || (facts[2] == SEGMENT_LISTED && facts[3] != 1))
			continue;
		restore(f);
		if (facts[2] == SEGMENT_NOT_LISTED)
			for (unsigned i = 0; i < 2; i++) {
				snprintf(path, sizeof path, "%s/index.%u", f->path, i);
				unlink(path);
			}
		if (facts[0] == SEGMENT_UNKNOWN) {
			snprintf(path, sizeof path, "cp %s/%s %s/%s", f->path, name, f->path,
				 strange);
			if (facts[1] == SEGMENT_FILE)
				assert_int_equal(system(path), 0);
		} else if (facts[1] == SEGMENT_NO_FILE) {
			remove_file(f, name);
		} else {
			segment_make(f, name, facts[3]);
		}
		struct store_info info;
		unsigned verdict = recovery_decide(&recovery_segment, facts);
		f->options.read_only = facts[4] == OPEN_READ_ONLY;
		fixture_open(f);
		store_info(f->store, &info);
		assert_int_equal(info.lost_segments, verdict == SEGMENT_IS_LOST);
		assert_int_equal(good_chunks(f, data), verdict == SEGMENT_IS_LOST ? 0 : CHUNKS);
		snprintf(path, sizeof path, "%s/%s", f->path, strange);
		assert_int_equal(access(path, F_OK) == 0, verdict == SEGMENT_LEAVE);
		fixture_close(f);
	} while (next_facts(&recovery_segment, facts));
	f->options.read_only = false;
	restore(f);
	fixture_open(f);
	forget(f);
	free(data);
}

/* Rot in the directory and in one record: that record is lost, and none behind it. */
static void what_lies_behind_a_damaged_record_is_salvaged(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = fill_and_close(f);
	char name[40], path[300];
	data_segment(f, name);
	for (unsigned i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/index.%u", f->path, i);
		unlink(path);
	}
	flip(f, name, -(int64_t)BLOCK_BYTES + 50);
	flip(f, name, 4096 + 3 * (65536 + 256) + 999);
	fixture_open(f);
	assert_int_equal(good_chunks(f, data), CHUNKS - 1);
	fixture_close(f);
	fixture_open(f); /* it was sealed anew */
	assert_int_equal(good_chunks(f, data), CHUNKS - 1);
	forget(f);
	free(data);
}

/* ---- a format that grows only when somebody says so ---- */

static void set_features(struct fixture *f, unsigned copies, uint64_t features)
{
	char path[100], sentence[SENTENCE_BYTES];
	uint8_t block[SUPERBLOCK_BYTES];
	struct env_dir *dir;
	struct superblock sb;
	assert_int_equal(env_dir_open(f->env, f->path, &dir), 0);
	assert_int_equal(superblock_read(dir, &sb, sentence), 0);
	env_dir_close(dir);
	sb.feature_incompatible = features;
	sb.generation++;
	superblock_encode(&sb, block);
	snprintf(path, sizeof path, "%s/superblock", f->path);
	int fd = open(path, O_RDWR);
	for (unsigned copy = 0; copy < copies; copy++)
		assert_int_equal(pwrite(fd, block, sizeof block, copy * 65536), sizeof block);
	close(fd);
}

static uint64_t features_of(struct fixture *f)
{
	struct store_info info;
	store_info(f->store, &info);
	assert_int_equal(info.features | info.features_missing, FEATURES_ALL);
	return info.features;
}

static void an_older_format_stays_until_it_is_upgraded(void **state)
{
	struct fixture *f = *state;
	const struct policy_rules rules = {.keep = {3}};
	assert_int_equal(features_of(f), FEATURES_ALL); /* a new store has all */
	fixture_close(f);
	set_features(f, 2, 0);
	fixture_open(f);
	assert_int_equal(features_of(f), 0);
	assert_int_equal(DO(f, store_policy_set, "daily", &rules), -EOPNOTSUPP);
	struct admin_op first = {0}, second = {0};
	env_wait_prepare(&second.op);
	store_upgrade(f->store, &second);
	env_wait_prepare(&first.op);
	store_upgrade(f->store, &first);
	assert_int_equal(admin_wait(f, &first), -EBUSY);
	assert_int_equal(admin_wait(f, &second), 0);
	assert_int_equal(features_of(f), FEATURES_ALL);
	assert_int_equal(DO(f, store_policy_set, "daily", &rules), 0);
	env_wait_prepare(&first.op);
	store_upgrade(f->store, &first); /* nothing to do */
	assert_int_equal(admin_wait(f, &first), 0);
	fixture_close(f);
	fixture_open(f);
	assert_int_equal(features_of(f), FEATURES_ALL);
	fixture_close(f);
	flip(f, "superblock", 100); /* the second copy has them as well */
	fixture_open(f);
	assert_int_equal(features_of(f), FEATURES_ALL);
}

static void half_an_upgrade_counts_and_an_unknown_feature_is_refused(void **state)
{
	struct fixture *f = *state;
	char sentence[SENTENCE_BYTES];
	fixture_close(f);
	set_features(f, 2, 0);
	set_features(f, 1, FEATURES_ALL);
	fixture_open(f);
	assert_int_equal(features_of(f), FEATURES_ALL);
	fixture_close(f);
	set_features(f, 1, UINT64_C(1) << 40);
	assert_int_equal(store_open(f->env, f->path, &f->options, &f->store, sentence), -VS_ENEWER);
	f->store = NULL;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_combination_has_exactly_one_rule),
		cmocka_unit_test(a_pair_never_serves_what_is_not_proved),
		cmocka_unit_test(nothing_durable_is_cut_and_no_known_segment_removed),
		CASE(superblocks_of_every_combination_are_taken_as_the_table_says),
		CASE(checkpoints_of_every_combination_are_taken_as_the_table_says),
		CASE(indexes_of_every_combination_are_taken_as_the_table_says),
		CASE(segments_of_every_combination_are_taken_as_the_table_says),
		CASE(what_lies_behind_a_damaged_record_is_salvaged),
		CASE(an_older_format_stays_until_it_is_upgraded),
		CASE(half_an_upgrade_counts_and_an_unknown_feature_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
