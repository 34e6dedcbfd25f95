/* SPDX-License-Identifier: Apache-2.0 */
/* A copy that takes its original's writes commit by commit, and flushes that wait for it. */
#include "storage/store/store_int.h"
#include "tests/unit/skip.h"
#include "tests/unit/store_live.h"

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

static void a_copy_follows_write_by_write(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	struct store_work work;
	prepare(pair);
	live_begin(live);
	for (unsigned round = 0; round < 10; round++) {
		write_wildly(pair, 64);
		if (round % 3 == 1)
			assert_int_equal(WORK(pair->from, &work, store_fold, NULL), 0);
		apply_all(live);
		if (round % 3 == 2)
			assert_int_equal(WORK(pair->to, &work, store_fold, NULL), 0);
		read_both(pair, "a", "h1/a");
	}
	struct volume_info here = volume_named(pair->from, "a", false);
	store_copy_close(live->copy);
	fixture_close(pair->to);
	fixture_open(pair->to);
	/* The position is the original's, and it goes on there. */
	assert_int_equal(
		store_copy_open(pair->to->store, "h1/a", here.uuid, &live->copy, &live->at), 0);
	assert_int_equal(live->at.epoch, here.epoch);
	assert_int_equal(live->at.vseq, here.vseq);
	write_wildly(pair, 64);
	apply_all(live);
	read_both(pair, "a", "h1/a");
	assert_int_equal(WORK(pair->from, &work, store_fold, NULL), 0);
	assert_int_equal(WORK(pair->to, &work, store_fold, NULL), 0);
	struct volume_info from = volume_named(pair->from, "a", false),
			   to = volume_named(pair->to, "h1/a", false);
	assert_memory_equal(from.root, to.root, ID_BYTES);
	live_end(live);
}

/* A write and its position: a header block and a block of data in the log, and one sync for both.
 * A fold that comes in between, which a slow machine may find idle time for, adds to a batch. */
static void a_small_batch_is_one_commit(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	unsigned small = 0;
	prepare(pair);
	live_begin(live);
	for (unsigned i = 0; i < 12; i++) {
		write_random(pair->from, "a", i * BLOCK_BYTES, BLOCK_BYTES);
		uint64_t before = log_used_blocks(pair->to->store->log);
		apply_all(live);
		/* The first one raises the copy's epoch before. */
		small += i > 0 && log_used_blocks(pair->to->store->log) - before == 2;
	}
	assert_true(small > 0);
	read_both(pair, "a", "h1/a");
	live_end(live);
}

static void what_does_not_continue_is_refused(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	write_random(pair->from, "a", 0, BLOCK_BYTES);
	write_random(pair->from, "a", BLOCK_BYTES, BLOCK_BYTES);
	assert_true(live->batch_count >= 2);
	struct batch *first = &live->batches[0], *second = &live->batches[1];
	struct store_position at = live->at;
	live->at.vseq++; /* as if the first had come */
	assert_int_equal(apply(live, second), -EAGAIN);
	live->at = at;
	first->to.epoch--;
	assert_int_equal(apply(live, first), -VS_EFENCED);
	first->to.epoch++;
	first->parts[0].offset_bytes = VOLUME_BYTES;
	assert_int_equal(apply(live, first), -VS_EFORMAT);
	first->parts[0].offset_bytes = 1;
	assert_int_equal(apply(live, first), -VS_EFORMAT);
	first->parts[0].offset_bytes = 0;
	assert_int_equal(apply(live, first), 0);
	struct view *view;
	uint8_t uuid[16] = {1};
	struct volume_info info = volume_named(pair->from, "a", false);
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", info.uuid, &view, &at), -EBUSY);
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", uuid, &view, &at), -ENOENT);
	/* A snapshot that is sent meanwhile is refused, and nothing is half done. */
	assert_int_equal(send_snapshot(pair, "a@1"), -EBUSY);
	assert_int_equal(apply(live, second), 0);
	live_end(live);
}

/* A copy may have more than its original, whose power went before it wrote. */
static void what_a_copy_has_durable_its_original_may_lose(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	uint64_t begin = live->at.vseq;
	write_random(pair->from, "a", 0, CHUNK_BYTES);
	apply_all(live);
	assert_int_equal(do_request(pair->to, live->copy, REQUEST_FLUSH, 0, 0, NULL, 0), 0);
	struct volume_info copy = volume_named(pair->to, "h1/a", false);
	assert_true(copy.vseq > begin);
	assert_int_equal(copy.durable_vseq, begin); /* behind which the opening began */
	live_end(live);
}

static void a_transfer_takes_nothing_of_what_followed_away(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	write_random(pair->from, "a", 0, MIB);
	apply_all(live);
	uint64_t promised = live->at.vseq;
	struct volume_info here = volume_named(pair->from, "a", false);
	assert_int_equal(snap(pair->from, "a@promised"), 0);
	live_end(live);
	/* A new cut is cut in the middle: neither state, so the copy takes no commits ... */
	write_random(pair->from, "a", 0, 40 * CHUNK_BYTES);
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	pair->cut_after = 10;
	assert_int_equal(send_snapshot(pair, "a@cut-2"), -VS_ECANCELLED);
	pair->cut_after = 0;
	struct view *view;
	struct store_position at;
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", here.uuid, &view, &at), -EAGAIN);
	/* ... but what was there is kept, and is what a promotion begins with. */
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	assert_int_equal(volume_named(pair->to, "a", false).vseq, promised);
	read_both(pair, "a@promised", "a");
}

static void what_followed_is_the_copy_again_behind_an_older_snapshot(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	struct snapshot_info *infos;
	struct store_position at;
	struct view *view;
	size_t count;
	prepare(pair);
	write_random(pair->from, "a", 0, CHUNK_BYTES);
	live_begin(live);
	write_random(pair->from, "a", 0, MIB);
	apply_all(live);
	uint64_t promised = live->at.vseq;
	live_end(live);
	struct volume_info here = volume_named(pair->from, "a", false);
	for (unsigned tries = 0; tries < 2; tries++) { /* also when the first was cut */
		pair->cut_after = tries == 0 ? 1 : 0;
		assert_int_equal(send_snapshot(pair, "a@1"), tries == 0 ? -VS_ECANCELLED : 0);
	}
	read_both(pair, "a@1", "h1/a@1");
	read_both(pair, "a", "h1/a");
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", here.uuid, &view, &at), 0);
	assert_int_equal(at.vseq, promised);
	store_copy_close(view);
	assert_int_equal(store_snapshots(pair->to->store, false, &infos, &count), 0);
	assert_int_equal(count, 2); /* what was kept meanwhile is not needed */
	for (size_t i = 0; i < count; i++)
		assert_null(strstr(infos[i].name, "kept"));
	free(infos);
	fixture_close(pair->to);
	fixture_open(pair->to);
	read_both(pair, "a", "h1/a");
}

/* What the copy holds of a newer epoch may be in no snapshot yet. */
static void an_older_primarys_cut_takes_nothing_of_a_newer_epoch_away(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	assert_int_equal(cut(pair->from, "a@cut-0"), 0);
	write_random(pair->from, "a", 0, CHUNK_BYTES);
	live_begin(live);
	/* Above every term that a clock gives a promotion. */
	struct batch newer = {.to = {.epoch = EPOCH_MAX / 2, .vseq = live->at.vseq + 1}};
	assert_int_equal(apply(live, &newer), 0);
	live_end(live);
	assert_int_equal(send_snapshot(pair, "a@cut-0"), -VS_EFENCED);
	/* A person may send an old one; who is promoted when half of it is there, and what was kept
	 * is gone, is still above all that was followed. */
	pair->cut_after = 1;
	assert_int_equal(send_snapshot(pair, "a@1"), -VS_ECANCELLED);
	pair->cut_after = 0;
	char kept[SNAP_NAME_ROOM];
	snprintf(kept, sizeof kept, "h1/a@cut-%llu-%llu-kept", (unsigned long long)newer.to.epoch,
		 (unsigned long long)newer.to.vseq);
	assert_int_equal(DO(pair->to, store_snap_delete, kept), 0);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	assert_int_equal(volume_named(pair->to, "a", false).epoch, epoch_next_term(newer.to.epoch));
}

static void a_promoted_copy_has_all_that_came(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	write_wildly(pair, 64);
	apply_all(live);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", false), -VS_ERETAINED);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_promote, "h1/a", "a", true), 0);
	read_both(pair, "a", "a");
	write_wildly(pair, 8); /* the old primary goes on, and nothing of it is taken */
	assert_int_equal(apply(live, &live->batches[live->applied]), -VS_EFENCED);
	live_end(live);
}

static void a_recovered_copy_has_all_that_came(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	struct snapshot_info *snapshots;
	size_t count;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	live_begin(live);
	write_wildly(pair, 64);
	apply_all(live);
	live_end(live);
	skip_to_promotion(pair->to);
	assert_int_equal(DO(pair->to, store_replica_adopt, "h1/a", "a"), 0);
	read_both(pair, "a", "a");
	read_both(pair, "a@1", "a@1");
	assert_int_equal(store_snapshots(pair->to->store, false, &snapshots, &count), 0);
	assert_int_equal(count, 1);
	free(snapshots);
}

/* ---- flushes ---- */

struct waiting {
	struct store_request request;
	bool done;
};

static void flush_done(struct io_op *op)
{
	(container_of(op, struct waiting, request.op))->done = true;
}

static void flush_start(struct waiting *waiting, struct view *view, enum request_kind kind,
			void *data)
{
	struct store_request *request = &waiting->request;
	waiting->done = false;
	*request = (struct store_request){.op.done = flush_done,
					  .view = view,
					  .kind = kind,
					  .flags = kind == REQUEST_WRITE ? REQUEST_FUA : 0,
					  .length_bytes = kind == REQUEST_WRITE ? BLOCK_BYTES : 0,
					  .data = data};
	store_submit(request);
}

static void a_flush_waits_for_who_is_in_step(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->from;
	struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = true};
	struct waiting requests[3];
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	memset(block, 3, BLOCK_BYTES);
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	struct view *view = open_view(f, "a");
	assert_int_equal(do_request(f, view, REQUEST_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.1:1"), 0);
	assert_int_equal(DO(f, store_peer_add, "h3", "10.0.0.1:2"), 0);
	assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
	rules.in_step = false;
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &rules), 0);
	/* A write is answered; the flushes behind it, and a write with FUA, are not. */
	assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	uint64_t vseq = volume_named(f, "a", false).vseq;
	uint32_t number = volume_named(f, "a", false).number;
	flush_start(&requests[0], view, REQUEST_FLUSH, NULL);
	flush_start(&requests[1], view, REQUEST_FLUSH, NULL);
	flush_start(&requests[2], view, REQUEST_WRITE, block);
	for (unsigned i = 0; i < 50; i++) /* more than enough for a disk */
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	store_follower_acked(f->store, number, "h3", vseq + 99);
	store_follower_acked(f->store, number, "h2", vseq - 1);
	for (unsigned i = 0; i < 3; i++)
		assert_false(requests[i].done);
	store_follower_acked(f->store, number, "h2", vseq);
	while (!requests[0].done || !requests[1].done)
		env_step(f->env, true);
	assert_int_equal(requests[0].request.op.res, 0);
	assert_int_equal(requests[1].request.op.res, 0);
	assert_false(requests[2].done);
	/* Who is removed is waited for no more. */
	assert_int_equal(DO(f, store_follower_delete, "a", "h2"), 0);
	while (!requests[2].done)
		env_step(f->env, true);
	assert_int_equal(requests[2].request.op.res, 0);
	/* Closing does not wait for ever. */
	rules.in_step = true;
	assert_int_equal(DO(f, store_follower_set, "a", "h3", &rules), 0);
	/* acked by "h3" above: vseq + 99 */
	while (volume_named(f, "a", false).vseq <= vseq + 99)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	flush_start(&requests[0], view, REQUEST_FLUSH, NULL);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	assert_false(requests[0].done);
	store_followers_stop(f->store);
	while (!requests[0].done)
		env_step(f->env, true);
	assert_int_equal(requests[0].request.op.res, -ESHUTDOWN);
	/* And whose own sync ends after that is no success either, nor a write with FUA. */
	flush_start(&requests[1], view, REQUEST_FLUSH, NULL);
	flush_start(&requests[2], view, REQUEST_WRITE, block);
	while (!requests[1].done || !requests[2].done)
		env_step(f->env, true);
	assert_int_equal(requests[1].request.op.res, -ESHUTDOWN);
	assert_int_equal(requests[2].request.op.res, -ESHUTDOWN);
	store_view_close(view);
	free(block);
}

/* Who is removed because it is the primary now never had what waits: that is no success. */
static void a_flush_ends_badly_when_who_is_the_primary_is_removed(void **state)
{
	struct pair *pair = *state;
	struct fixture *f = pair->from;
	struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = true};
	struct waiting flush;
	uint8_t *block = aligned_alloc(BLOCK_BYTES, BLOCK_BYTES);
	memset(block, 3, BLOCK_BYTES);
	assert_int_equal(make_volume(f, "a", VOLUME_BYTES), 0);
	assert_int_equal(DO(f, store_peer_add, "h2", "10.0.0.1:1"), 0);
	for (unsigned removed = 0; removed < 2; removed++) { /* or waited for no more */
		rules.in_step = true;
		assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
		struct view *view = open_view(f, "a");
		assert_int_equal(do_request(f, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
		flush_start(&flush, view, REQUEST_FLUSH, NULL);
		store_mandate_given(f->store, volume_named(f, "a", false).number, "h2", 0);
		assert_false(store_view_answers(view));
		rules.in_step = false;
		if (removed)
			assert_int_equal(DO(f, store_follower_delete, "a", "h2"), 0);
		else
			assert_int_equal(DO(f, store_follower_set, "a", "h2", &rules), 0);
		while (!flush.done)
			env_step(f->env, true);
		assert_int_equal(flush.request.op.res, -VS_EFENCED);
		assert_true(store_view_outdated(view));
		assert_int_equal(do_request(f, view, REQUEST_FLUSH, 0, 0, NULL, 0), -VS_EFENCED);
		store_view_close(view);
		view = open_view(f, "a"); /* whoever opens it now has it */
		assert_false(store_view_outdated(view));
		assert_true(store_view_answers(view));
		assert_int_equal(do_request(f, view, REQUEST_FLUSH, 0, 0, NULL, 0), 0);
		store_view_close(view);
	}
	free(block);
}

static void other_changes_end_the_tap(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	assert_int_equal(DO(pair->from, store_volume_rename, "a", "b"), 0);
	assert_int_equal(DO(pair->from, store_volume_rename, "b", "a"), 0);
	assert_int_equal(live->broken, 0);
	assert_int_equal(DO(pair->from, store_volume_grow, "a", VOLUME_BYTES + MIB), 0);
	assert_int_equal(live->broken, 1);
	write_random(pair->from, "a", 0, BLOCK_BYTES);
	assert_int_equal(live->batch_count, 0);
	assert_int_equal(
		store_tap(pair->from->store, volume_named(pair->from, "a", false).number, true), 0);
	assert_int_equal(DO(pair->from, store_snap_restore, "a@1"), 0);
	assert_int_equal(live->broken, 2);
	/* In the trash it is no volume of that number. */
	uint32_t number = volume_named(pair->from, "a", false).number;
	struct volume_info info;
	assert_int_equal(DO(pair->from, store_volume_delete, "a"), 0);
	assert_int_equal(store_volume_info(pair->from->store, number, &info), -ENOENT);
	assert_int_equal(store_volume_info(pair->from->store, number + 1000, &info), -ENOENT);
	live_end(live);
}

/* The position that the original has now is not the one that the copy stands at. */
static struct store_position moved_on(struct pair *pair, const struct store_position *before)
{
	struct volume_info info = volume_named(pair->from, "a", false);
	assert_true(info.epoch >= before->epoch);
	assert_true(info.vseq > before->vseq);
	return (struct store_position){.epoch = info.epoch, .vseq = info.vseq};
}

/* Nobody saw it happen, so the position alone says that the copy does not have it. */
static void a_change_that_no_stream_saw_is_behind_no_copy(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	prepare(pair);
	live_begin(live);
	write_random(pair->from, "a", 0, MIB);
	apply_all(live);
	struct store_position copy = live->at, at;
	live_end(live);
	struct volume_info info = volume_named(pair->from, "a", false);
	assert_int_equal(info.epoch, copy.epoch);
	assert_int_equal(info.vseq, copy.vseq);
	assert_memory_equal(info.incarnation, copy.incarnation, 16);
	assert_int_equal(DO(pair->from, store_volume_grow, "a", VOLUME_BYTES), 0); /* as it was */
	assert_int_equal(volume_named(pair->from, "a", false).vseq, copy.vseq);
	assert_int_equal(DO(pair->from, store_volume_grow, "a", VOLUME_BYTES + MIB), 0);
	at = moved_on(pair, &copy);
	assert_int_equal(DO(pair->from, store_snap_restore, "a@1"), 0);
	at = moved_on(pair, &at);
	/* Of another opening: in an epoch that nobody stands in, whatever was lost of the log. */
	fixture_close(pair->from);
	fixture_open(pair->from);
	info = volume_named(pair->from, "a", false);
	assert_int_equal(info.epoch, at.epoch);
	assert_int_equal(info.vseq, at.vseq);
	assert_int_equal(DO(pair->from, store_snap_restore, "a@1"), 0);
	at = moved_on(pair, &at);
	assert_true(at.epoch > info.epoch);
	/* What comes next leads there. */
	struct view *view;
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", info.uuid, &view, &copy), 0);
	assert_int_equal(copy.epoch, at.epoch);
	assert_int_equal(copy.vseq, at.vseq);
	store_copy_close(view);
	read_both(pair, "a", "h1/a");
}

/* 1536 blocks of `data`, a quarter of a MiB of it for each part: some commits. Waited for by the
 * caller. */
enum { PARTS = 24 };
static struct store_copy_batch large_batch(struct live *live, struct store_copy_part parts[PARTS],
					   const uint8_t *data)
{
	for (unsigned i = 0; i < PARTS; i++)
		parts[i] = (struct store_copy_part){.offset_bytes = i * MIB / 4 + BLOCK_BYTES,
						    .length_bytes = MIB / 4 - 2 * BLOCK_BYTES,
						    .data = data};
	struct store_copy_batch batch = {.view = live->copy,
					 .parts = parts,
					 .part_count = PARTS,
					 .from_vseq = live->at.vseq,
					 .to = live->at};
	batch.to.vseq += PARTS;
	return batch;
}

/* Copied as it is at a moment when some of a batch is in, and opened: who stands there is told
 * apart from who has nothing of it (test_stream.c: another incarnation gets a cut). */
static void a_kill_amid_a_batch_leaves_a_copy_that_stands_nowhere(void **state)
{
	struct pair *pair = *state;
	struct live *live = live_new(pair);
	struct store_copy_part parts[PARTS];
	struct fixture *to = pair->to;
	char command[256], path[128], sentence[SENTENCE_BYTES];
	struct store *killed;
	struct view *view;
	struct store_position at;
	uint8_t nobodys[16];
	bool seen = false;
	memset(nobodys, 0xff, sizeof nobodys);
	prepare(pair);
	live_begin(live);
	write_wildly(pair, 8);
	apply_all(live);
	struct volume_info here = volume_named(pair->from, "a", false);
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB / 4);
	memset(data, 3, MIB / 4);
	struct store_copy_batch batch = large_batch(live, parts, data);
	env_wait_prepare(&batch.op);
	store_copy_apply(&batch);
	const struct volume *copy = volume_by_name(to->store, "h1/a");
	while (!seen && copy->vseq != batch.to.vseq) {
		env_step(to->env, true);
		seen = memcmp(copy->incarnation, nobodys, 16) == 0;
	}
	assert_true(seen);
	snprintf(path, sizeof path, "%s.killed", to->path);
	snprintf(command, sizeof command, "cp -r %s %s", to->path, path);
	assert_int_equal(system(command), 0);
	assert_int_equal(env_wait(to->env, &batch.op), 0);
	assert_memory_equal(copy->incarnation, batch.to.incarnation, 16);
	assert_int_equal(copy->vseq, batch.to.vseq);
	assert_int_equal(store_open(to->env, path, &to->options, &killed, sentence), 0);
	assert_int_equal(store_copy_open(killed, "h1/a", here.uuid, &view, &at), 0);
	assert_int_equal(at.vseq, live->at.vseq);
	assert_memory_equal(at.incarnation, nobodys, 16);
	store_copy_close(view);
	/* Nor does it after an older snapshot was received into it. */
	struct store *own = to->store;
	to->store = killed;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	to->store = own;
	assert_int_equal(store_copy_open(killed, "h1/a", here.uuid, &view, &at), 0);
	assert_int_equal(at.vseq, live->at.vseq);
	assert_memory_not_equal(at.incarnation, here.incarnation, 16);
	store_copy_close(view);
	store_close(killed);
	snprintf(command, sizeof command, "rm -r %s", path);
	assert_int_equal(system(command), 0);
	free(data);
	live_end(live);
}

/* In any pass of one: what is acknowledged is in the volume that the copy becomes. */
static void a_promotion_amid_a_batch_has_what_was_acknowledged(void **state)
{
	enum { PASSES = 17 };
	uint8_t *data = aligned_alloc(BLOCK_BYTES, MIB / 4);
	unsigned acknowledged = 0, refused = 0;
	memset(data, 3, MIB / 4);
	for (unsigned passes = 0; passes < PASSES; passes++) {
		struct pair *pair = *state;
		struct live *live = live_new(pair);
		struct store_copy_part parts[PARTS];
		struct admin_op promotion = {0};
		prepare(pair);
		live_begin(live);
		skip_ns(pair->to, MANDATES_NS);
		skip_wall_unknown(pair->to);
		struct store_copy_batch batch = large_batch(live, parts, data);
		env_wait_prepare(&batch.op);
		env_wait_prepare(&promotion.op);
		if (passes % 2 == 0)
			store_copy_apply(&batch);
		else
			store_replica_promote(pair->to->store, &promotion, "h1/a", "a", true);
		for (unsigned i = 0; i < passes / 2; i++)
			env_step(pair->to->env, false);
		while (passes == PASSES - 1 && live->copy->volume->vseq != batch.to.vseq)
			env_step(pair->to->env, true);
		if (passes % 2 == 0)
			store_replica_promote(pair->to->store, &promotion, "h1/a", "a", true);
		else
			store_copy_apply(&batch);
		int64_t res = env_wait(pair->to->env, &batch.op);
		assert_int_equal(env_wait(pair->to->env, &promotion.op), 0);
		uint64_t vseq = volume_named(pair->to, "a", false).vseq;
		assert_int_equal(vseq, res == 0 ? batch.to.vseq : live->at.vseq);
		acknowledged += res == 0;
		refused += res < 0;
		live_end(live);
		assert_int_equal(pair_teardown(state), 0);
		assert_int_equal(pair_setup(state), 0);
	}
	assert_true(acknowledged && refused);
	free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(a_copy_follows_write_by_write),
		TEST(a_small_batch_is_one_commit),
		TEST(a_kill_amid_a_batch_leaves_a_copy_that_stands_nowhere),
		TEST(a_promotion_amid_a_batch_has_what_was_acknowledged),
		TEST(what_does_not_continue_is_refused),
		TEST(what_a_copy_has_durable_its_original_may_lose),
		TEST(a_transfer_takes_nothing_of_what_followed_away),
		TEST(what_followed_is_the_copy_again_behind_an_older_snapshot),
		TEST(an_older_primarys_cut_takes_nothing_of_a_newer_epoch_away),
		TEST(a_promoted_copy_has_all_that_came),
		TEST(a_recovered_copy_has_all_that_came),
		TEST(a_flush_waits_for_who_is_in_step),
		TEST(a_flush_ends_badly_when_who_is_the_primary_is_removed),
		TEST(other_changes_end_the_tap),
		TEST(a_change_that_no_stream_saw_is_behind_no_copy),
	};
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc > 1 ? atoi(argv[1]) : 0;
#endif
	return cmocka_run_group_tests(tests, NULL, NULL);
}
