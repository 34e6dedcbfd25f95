/* SPDX-License-Identifier: Apache-2.0 */
/* The whole store on real files, against a model in memory. */
#include "tests/unit/store_fixture.h"

#include "storage/store/superblock.h"

#include <fcntl.h>

#define VOLUME_BYTES (24 * MIB)
#define IN_FLIGHT 16u

struct model {
	uint8_t *bytes;
};

/* Data that compresses like text, repeats now and then, and is different every time. */
static void fill(uint64_t *seed, uint8_t *to, size_t bytes)
{
	uint64_t kind = test_random(seed) % 4;
	for (size_t i = 0; i < bytes; i++)
		to[i] = kind == 0   ? (uint8_t)test_random(seed)
			: kind == 1 ? (uint8_t)(i / 64)
			: kind == 2 ? (uint8_t)(test_random(seed) % 16 + 'a')
				    : 7;
}

static void check_all(struct fixture *f, struct view *view, const uint8_t *want)
{
	uint64_t bytes = store_view_bytes(view);
	uint8_t *got = aligned_alloc(BLOCK_BYTES, bytes);
	memset(got, 0xee, bytes);
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, bytes, got, 0), 0);
	for (uint64_t at = 0; at < bytes; at += BLOCK_BYTES)
		if (memcmp(got + at, want + at, BLOCK_BYTES) != 0)
			fail_msg("block %llu differs", (unsigned long long)(at / BLOCK_BYTES));
	free(got);
}

/* One round: requests side by side that do not overlap, applied to the model as well. */
static void random_round(struct fixture *f, struct view *view, uint8_t *model, uint64_t size)
{
	struct store_request requests[IN_FLIGHT];
	uint8_t *data[IN_FLIGHT], *expect[IN_FLIGHT];
	uint64_t share = size / IN_FLIGHT;
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		uint64_t kind = test_random(&f->seed) % 10, at = i * share;
		uint64_t offset = test_random(&f->seed) % share;
		uint64_t bytes = 1 + test_random(&f->seed) % min_u64(share - offset, 300 * KIB);
		if (kind < 7 && test_random(&f->seed) % 4) { /* mostly aligned */
			offset = round_down(offset, BLOCK_BYTES);
			bytes = min_u64(round_up(bytes, BLOCK_BYTES), share - offset);
			if (test_random(&f->seed) % 2)
				bytes = min_u64(bytes, 2 * BLOCK_BYTES);
		}
		offset += at;
		data[i] = aligned_alloc(BLOCK_BYTES, round_up(bytes, BLOCK_BYTES));
		expect[i] = NULL;
		requests[i] = (struct store_request){.view = view,
						     .offset_bytes = offset,
						     .length_bytes = bytes,
						     .data = data[i]};
		if (kind < 6) {
			requests[i].kind = REQUEST_WRITE;
			requests[i].flags = test_random(&f->seed) % 8 ? 0 : REQUEST_FUA;
			fill(&f->seed, data[i], bytes);
			memcpy(model + offset, data[i], bytes);
		} else if (kind < 7) {
			requests[i].kind = test_random(&f->seed) % 2 ? REQUEST_TRIM : REQUEST_ZERO;
			memset(model + offset, 0, bytes);
		} else {
			requests[i].kind = REQUEST_READ;
			expect[i] = model + offset;
		}
		env_wait_prepare(&requests[i].op);
		store_submit(&requests[i]);
	}
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		assert_int_equal(env_wait(f->env, &requests[i].op), 0);
		if (expect[i])
			assert_memory_equal(data[i], expect[i], requests[i].length_bytes);
		free(data[i]);
	}
}

static void what_was_written_is_read_through_folds_snapshots_and_reopening(void **state)
{
	struct fixture *f = *state;
	uint8_t *model = calloc(1, VOLUME_BYTES), *old = calloc(1, VOLUME_BYTES);
	struct store_work work;
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	struct view *view = open_view(f, "a");
	for (unsigned round = 0; round < 120; round++) {
		random_round(f, view, model, VOLUME_BYTES);
		if (round == 40) {
			assert_int_equal(snap(f, "a@one"), 0);
			memcpy(old, model, VOLUME_BYTES);
		}
		if (round % 30 == 29)
			assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
		if (round % 50 == 49) {
			store_view_close(view);
			fixture_close(f);
			fixture_open(f);
			view = open_view(f, "a");
			check_all(f, view, model);
		}
	}
	check_all(f, view, model);
	struct view *snapshot = open_view(f, "a@one");
	check_all(f, snapshot, old);
	store_view_close(snapshot);
	store_view_close(view);
	assert_int_equal(DO(f, store_volume_clone, "a@one", "b"), 0);
	view = open_view(f, "b");
	check_all(f, view, old);
	random_round(f, view, old, VOLUME_BYTES);
	check_all(f, view, old);
	store_view_close(view);
	assert_int_equal(DO(f, store_snap_restore, "a@one"), 0);
	nothing_is_damaged(f);
	assert_int_equal(WORK(f, &work, store_verify, "a"), 0);
	assert_int_equal(work.damaged, 0);
	assert_int_equal(WORK(f, &work, store_diff, "a", "a@one"), 0);
	assert_int_equal(work.differing_bytes, 0);
	free(model);
	free(old);
}

static void equal_chunks_are_stored_once(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct store_counters before, after;
	test_random_fill(&f->seed, data, MIB);
	assert_int_equal(make_volume(f, "a", 4 * MIB), 0);
	assert_int_equal(make_volume(f, "b", 4 * MIB), 0);
	struct view *a = open_view(f, "a"), *b = open_view(f, "b");
	assert_int_equal(do_request(f, a, REQUEST_WRITE, 0, MIB, data, 0), 0);
	store_counters(f->store, &before);
	assert_int_equal(before.chunks_stored, 16);
	assert_int_equal(do_request(f, b, REQUEST_WRITE, 2 * MIB, MIB, data, 0), 0);
	store_counters(f->store, &after);
	assert_int_equal(after.chunks_stored, before.chunks_stored);
	assert_int_equal(after.chunks_deduplicated - before.chunks_deduplicated, 16);
	store_view_close(a);
	store_view_close(b);
	free(data);
}

static void purged_data_gives_its_segments_back(void **state)
{
	struct fixture *f = *state;
	size_t bytes = 80 * MIB;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes);
	struct store_info full, after;
	struct store_work work;
	struct volume_info *infos;
	size_t count;
	test_random_fill(&f->seed, data, bytes);
	assert_int_equal(make_volume(f, "keep", 4 * MIB), 0);
	assert_int_equal(make_volume(f, "gone", bytes), 0);
	struct view *view = open_view(f, "gone");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, bytes, data, 0), 0);
	assert_int_equal(DO(f, store_volume_delete, "gone"), -EBUSY);
	store_view_close(view);
	view = open_view(f, "keep");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data + bytes - MIB, 0), 0);
	store_info(f->store, &full);
	assert_int_equal(DO(f, store_volume_delete, "gone"), 0);
	assert_int_equal(store_volumes(f->store, true, &infos, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(DO(f, store_trash_purge, infos[0].number), 0);
	free(infos);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_info(f->store, &after);
	assert_true(after.segment_bytes + 60 * MIB < full.segment_bytes);
	uint8_t *got = aligned_alloc(BLOCK_BYTES, MIB);
	assert_int_equal(do_request(f, view, REQUEST_READ, 0, MIB, got, 0), 0);
	assert_memory_equal(got, data + bytes - MIB, MIB);
	store_view_close(view);
	free(got);
	free(data);
}

static void several_volumes_are_snapshotted_in_one_step(void **state)
{
	struct fixture *f = *state;
	const char *names[] = {"a@s", "b@s"}, *twice[] = {"a@t", "a@t"}, *half[] = {"a@u", "c@u"};
	struct snapshot_info *infos;
	size_t count;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(make_volume(f, "b", MIB), 0);
	assert_int_equal(DO(f, store_snap_create, names, 2), 0);
	assert_int_equal(DO(f, store_snap_create, twice, 2), -EEXIST);
	assert_int_equal(DO(f, store_snap_create, half, 2), -ENOENT);
	assert_int_equal(store_snapshots(f->store, false, &infos, &count), 0);
	assert_int_equal(count, 2);
	free(infos);
}

/* Of as many volumes as can be, and as often as that of one of them. */
static void the_largest_group_is_one_step_like_any_other(void **state)
{
	struct fixture *f = *state;
	struct volume_options options = {.size_bytes = MIB};
	static char text[SNAP_GROUP_MAX][SNAP_NAME_ROOM];
	const char *names[SNAP_GROUP_MAX];
	for (unsigned i = 0; i < SNAP_GROUP_MAX; i++) {
		names[i] = text[i];
		snprintf(text[i], sizeof text[i], "many%u", i);
		assert_int_equal(DO(f, store_volume_create, text[i], &options), 0);
		snprintf(text[i], sizeof text[i], "many%u@all", i);
	}
	assert_int_equal(DO(f, store_snap_create, names, SNAP_GROUP_MAX), 0);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < SNAP_GROUP_MAX; i++)
			snprintf(text[i], sizeof text[i], "many0@%u-%u", round, i);
		assert_int_equal(DO(f, store_snap_create, names, SNAP_GROUP_MAX), 0);
	}
}

static void bad_names_and_sizes_are_refused_with_a_sentence(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(make_volume(f, "a", MIB), -EEXIST);
	assert_int_equal(make_volume(f, "", MIB), -EINVAL);
	assert_int_equal(make_volume(f, "-x", MIB), -EINVAL);
	assert_int_equal(make_volume(f, "x/y", MIB), -EINVAL);
	assert_int_equal(make_volume(f, "x", 0), -EINVAL);
	assert_int_equal(make_volume(f, "x", 1000), -EINVAL);
	assert_int_equal(make_volume(f, "x", 512 * TIB), -ERANGE);
	assert_int_equal(DO(f, store_volume_grow, "a", MIB / 2), -EINVAL);
	assert_int_equal(DO(f, store_volume_grow, "none", MIB), -ENOENT);
	assert_int_equal(DO(f, store_volume_set, "a", "level", "99"), -EINVAL);
	assert_int_equal(DO(f, store_volume_set, "a", "colour", "1"), -EINVAL);
	assert_int_equal(DO(f, store_volume_rename, "a", "a"), -EEXIST);
	assert_int_equal(snap(f, "a"), -ENOENT);
	assert_int_equal(snap(f, "a@"), -EINVAL);
	assert_int_equal(DO(f, store_trash_purge, 77), -ENOENT);
}

static void held_and_retained_snapshots_stay(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(make_volume(f, "a", MIB), 0);
	assert_int_equal(snap(f, "a@s"), 0);
	assert_int_equal(DO(f, store_snap_hold, "a@s", "audit"), 0);
	assert_int_equal(DO(f, store_snap_delete, "a@s"), -VS_ERETAINED);
	assert_int_equal(DO(f, store_volume_delete, "a"), -VS_ERETAINED);
	assert_int_equal(DO(f, store_snap_release, "a@s", "audit"), 0);
	assert_int_equal(DO(f, store_snap_retain, "a@s", UINT64_C(4000000000) * NSEC_PER_SEC), 0);
	assert_int_equal(DO(f, store_snap_delete, "a@s"), -VS_ERETAINED);
	assert_int_equal(DO(f, store_snap_retain, "a@s", 1), -VS_ERETAINED);
}

static void a_full_store_refuses_before_it_answers(void **state)
{
	struct fixture *f = *state;
	size_t bytes = 16 * MIB;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes), *got = aligned_alloc(BLOCK_BYTES, bytes);
	fixture_close(f);
	f->options.capacity_bytes = 3 * 66 * MIB;
	fixture_open(f);
	assert_int_equal(make_volume(f, "a", GIB), 0);
	struct view *view = open_view(f, "a");
	uint64_t seed = 5, written = 0;
	int res = 0;
	for (; written < GIB && res == 0; written += bytes) {
		test_random_fill(&seed, data, bytes);
		res = do_request(f, view, REQUEST_WRITE, written, bytes, data, 0);
	}
	assert_int_equal(res, -ENOSPC);
	assert_true(written > 96 * MIB);
	seed = 5; /* what was answered is there, also after it was folded */
	struct store_work work;
	assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	for (uint64_t at = 0; at + bytes < written; at += bytes) {
		test_random_fill(&seed, data, bytes);
		assert_int_equal(do_request(f, view, REQUEST_READ, at, bytes, got, 0), 0);
		assert_memory_equal(got, data, bytes);
	}
	assert_int_equal(do_request(f, view, REQUEST_TRIM, 0, GIB, NULL, 0), 0);
	store_view_close(view);
	free(data);
	free(got);
}

static void a_quota_holds_and_trimming_helps(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct store_work work;
	test_random_fill(&f->seed, data, MIB);
	struct volume_options options = {.size_bytes = 16 * MIB, .quota_bytes = 2 * MIB};
	assert_int_equal(DO(f, store_volume_create, "a", &options), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	int res = 0;
	for (unsigned i = 1; i < 4 && res == 0; i++)
		res = do_request(f, view, REQUEST_WRITE, i * MIB, MIB, data, 0);
	assert_int_equal(res, -VS_EQUOTA);
	assert_int_equal(do_request(f, view, REQUEST_TRIM, 0, 16 * MIB, NULL, 0), 0);
	assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, MIB, data, 0), 0);
	store_view_close(view);
	free(data);
}

static void a_second_opening_and_a_missing_superblock_are_refused(void **state)
{
	struct fixture *f = *state;
	struct store *second;
	char sentence[SENTENCE_BYTES] = "", name[128];
	assert_int_equal(store_open(f->env, f->path, &f->options, &second, sentence), -VS_ELOCKED);
	assert_non_null(strstr(sentence, "Another vstored"));
	fixture_close(f);
	snprintf(name, sizeof name, "%s/superblock", f->path);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(store_open(f->env, f->path, &f->options, &second, sentence), -ENOENT);
	assert_non_null(strstr(sentence, "no superblock"));
}

/* Either copy may rot: the other one counts, and an opening for writing makes them equal again. */
static void a_rotten_superblock_copy_is_written_anew_at_an_opening(void **state)
{
	struct fixture *f = *state;
	uint8_t copies[2][SUPERBLOCK_BYTES];
	char name[128];
	snprintf(name, sizeof name, "%s/superblock", f->path);
	fixture_close(f);
	for (unsigned bad = 0; bad < 2; bad++)
		for (unsigned writes = 0; writes < 2; writes++) {
			int fd = open(name, O_RDWR);
			assert_true(fd >= 0);
			assert_int_equal(pwrite(fd, "rot", 3, bad * SUPERBLOCK_COPY_OFFSET + 40),
					 3);
			f->options.read_only = !writes;
			fixture_open(f);
			fixture_close(f);
			for (unsigned i = 0; i < 2; i++)
				assert_int_equal(pread(fd, copies[i], SUPERBLOCK_BYTES,
						       i * SUPERBLOCK_COPY_OFFSET),
						 SUPERBLOCK_BYTES);
			close(fd);
			assert_int_equal(memcmp(copies[0], copies[1], SUPERBLOCK_BYTES) == 0,
					 writes);
		}
	fixture_open(f);
}

/* The newer copy, of an upgrade that a crash cut, was read well at first and is misread now. */
static void what_was_opened_is_not_written_over_by_what_is_older(void **state)
{
	struct fixture *f = *state;
	struct superblock sb, back;
	struct env_dir *dir;
	uint8_t block[SUPERBLOCK_BYTES];
	char sentence[SENTENCE_BYTES] = "", name[128];
	fixture_close(f);
	snprintf(name, sizeof name, "%s/superblock", f->path);
	assert_int_equal(env_dir_open(f->env, f->path, &dir), 0);
	assert_int_equal(superblock_read(dir, &sb, sentence), 0);
	sb.generation++;
	superblock_encode(&sb, block);
	int fd = open(name, O_RDWR);
	assert_true(fd >= 0);
	block[99] ^= 1;
	assert_int_equal(pwrite(fd, block, sizeof block, 0), sizeof block);
	assert_int_equal(superblock_mend(dir, &sb), 0);
	block[99] ^= 1;
	assert_int_equal(pwrite(fd, block + 99, 1, 99), 1);
	assert_int_equal(superblock_mend(dir, &sb), 1);
	assert_int_equal(pread(fd, block, sizeof block, SUPERBLOCK_COPY_OFFSET), sizeof block);
	assert_int_equal(superblock_decode(block, &back), 0);
	assert_int_equal(back.generation, sb.generation);
	close(fd);
	env_dir_close(dir);
	fixture_open(f);
}

static void status_tells_data_from_holes(void **state)
{
	struct fixture *f = *state;
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB);
	struct store_work work;
	struct extent extents[8];
	fill(&f->seed, data, MIB);
	assert_int_equal(make_volume(f, "a", GIB), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 64 * MIB, MIB, data, 0), 0);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 96 * MIB + 8192, 4096, data, 0), 0);
	for (unsigned folded = 0; folded < 2; folded++) {
		struct store_request request = {.view = view,
						.kind = REQUEST_STATUS,
						.length_bytes = GIB,
						.extents = extents,
						.extent_count_max = 8};
		env_wait_prepare(&request.op);
		store_submit(&request);
		assert_int_equal(env_wait(f->env, &request.op), 0);
		assert_int_equal(request.extent_count, 5);
		assert_true(extents[0].hole && extents[0].length_bytes == 64 * MIB);
		assert_true(!extents[1].hole && extents[1].length_bytes == MIB);
		assert_true(!extents[3].hole);
		assert_int_equal(extents[3].length_bytes, folded ? CHUNK_BYTES : BLOCK_BYTES);
		assert_int_equal(WORK(f, &work, store_fold, "a"), 0);
	}
	store_view_close(view);
	free(data);
}

static const struct env_ops *awake_ops;

/* A ring that wakes for nothing every other time. */
static bool drowsy_step(struct env *env, bool wait)
{
	static unsigned pass;
	return ++pass % 2 ? false : awake_ops->step(env, wait);
}

static bool seal_ended;
static void seal_done(struct io_op *op)
{
	seal_ended = true;
}

static void closing_waits_for_a_fold_also_when_the_loop_wakes_for_nothing(void **state)
{
	enum { DATA = 2 * MIB };
	struct fixture *f = *state;
	struct admin_op seal = {.op.done = seal_done};
	uint8_t *data = aligned_alloc(4096, DATA);
	fill(&f->seed, data, DATA);
	assert_int_equal(make_volume(f, "v", DATA), 0);
	struct view *view = open_view(f, "v");
	for (uint64_t at = 0; at < DATA; at += 4096) /* into the log */
		assert_int_equal(do_request(f, view, REQUEST_WRITE, at, 4096, data + at, 0), 0);
	store_view_close(view);
	assert_int_equal(snap(f, "v@s"), 0);
	store_snap_seal(f->store, &seal, "v@s");
	env_step(f->env, true);
	struct env_ops ops = *f->env->ops;
	ops.step = drowsy_step;
	awake_ops = f->env->ops;
	f->env->ops = &ops;
	int res = store_close(f->store);
	f->env->ops = awake_ops;
	f->store = NULL;
	assert_int_equal(res, 0);
	assert_true(seal_ended);
	fixture_open(f);
	free(data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_was_written_is_read_through_folds_snapshots_and_reopening),
		CASE(equal_chunks_are_stored_once),
		CASE(purged_data_gives_its_segments_back),
		CASE(several_volumes_are_snapshotted_in_one_step),
		CASE(the_largest_group_is_one_step_like_any_other),
		CASE(bad_names_and_sizes_are_refused_with_a_sentence),
		CASE(held_and_retained_snapshots_stay),
		CASE(a_full_store_refuses_before_it_answers),
		CASE(a_quota_holds_and_trimming_helps),
		CASE(a_second_opening_and_a_missing_superblock_are_refused),
		CASE(a_rotten_superblock_copy_is_written_anew_at_an_opening),
		CASE(what_was_opened_is_not_written_over_by_what_is_older),
		CASE(status_tells_data_from_holes),
		CASE(closing_waits_for_a_fold_also_when_the_loop_wakes_for_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
