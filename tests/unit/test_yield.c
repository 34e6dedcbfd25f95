/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A primary that was away while its copy was promoted gives its volume up, and loses nothing.
 *
 * `old` and `new` are the two stores; each calls the other h1. Before a promotion `from` is old.
 */
#include "tests/unit/skip.h"
#include "tests/unit/store_pair.h"

#include <stdio.h>

#ifdef VSTORE_MUTANTS
int vstore_mutant;
#endif

#define NEWER (9 * MIB) /* where who was promoted writes */

static struct fixture *old(struct pair *pair)
{
	return pair->to;
}

static void other_way(struct pair *pair)
{
	struct fixture *from = pair->from;
	pair->from = pair->to;
	pair->to = from;
}

static void follows(struct fixture *f, bool in_step)
{
	const struct follower_rules rules = {.lag_ns = NSEC_PER_SEC, .in_step = in_step};
	assert_int_equal(DO(f, store_peer_add, "h1", "10.0.0.1:1"), 0);
	assert_int_equal(DO(f, store_follower_set, "a", "h1", &rules), 0);
}

static void promote(struct fixture *f)
{
	skip_to_promotion(f);
	assert_int_equal(DO(f, store_replica_promote, "h1/a", "a", true), 0);
}

/* What is here of it becomes the volume anew, so many times. */
static void promote_again(struct fixture *f, unsigned times)
{
	for (unsigned i = 0; i < times; i++) {
		assert_int_equal(DO(f, store_volume_delete, "a"), 0);
		promote(f);
	}
}

/* h1/a@1 and a cut are there; then that is the volume, is written to, and has a cut of its own.
 * From here on what is sent goes the other way. */
static void promoted(struct pair *pair, bool in_step)
{
	prepare(pair);
	pair->to->seed = 43; /* what it writes is not what the other one has */
	follows(pair->from, in_step);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	write_random(pair->from, "a", 2 * MIB, MIB);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	assert_int_equal(DO(pair->from, store_cut_drop, "a@cut-1"), 0);
	promote(pair->to);
	write_random(pair->to, "a", NEWER, CHUNK_BYTES);
	assert_int_equal(cut(pair->to, "a@new-1"), 0);
	other_way(pair);
}

static uint8_t *image_of(struct fixture *f, const char *name)
{
	struct view *view = open_view(f, name);
	uint64_t bytes = store_view_bytes(view);
	uint8_t *image = aligned_alloc(BLOCK_BYTES, bytes);
	for (uint64_t at = 0; at < bytes; at += MIB)
		assert_int_equal(do_request(f, view, REQUEST_READ, at, MIB, image + at, 0), 0);
	store_view_close(view);
	return image;
}

static bool snapshot_there(struct fixture *f, const char *volume, const char *name)
{
	struct snapshot_info *infos;
	size_t count;
	bool found = false;
	assert_int_equal(store_snapshots(f->store, false, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		found |= strcmp(infos[i].volume, volume) == 0 && strcmp(infos[i].name, name) == 0;
	free(infos);
	return found;
}

static bool volume_there(struct fixture *f, const char *name, bool in_trash)
{
	struct volume_info *infos;
	size_t count;
	bool found = false;
	assert_int_equal(store_volumes(f->store, in_trash, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		found |= strcmp(infos[i].name, name) == 0;
	free(infos);
	return found;
}

static void whole(struct fixture *f)
{
	struct store_work work;
	assert_int_equal(WORK(f, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
}

static void what_only_the_old_primary_has_is_a_snapshot(void **state)
{
	struct pair *pair = *state;
	char name[NAME_ROOM], full[SNAP_NAME_ROOM];
	const struct policy_rules rules = {.keep[KEEP_LAST] = 1};
	promoted(pair, false);
	assert_int_equal(DO(old(pair), store_policy_set, "p", &rules), 0);
	assert_int_equal(DO(old(pair), store_policy_attach, "a", "p"), 0);
	/* Nobody there knows of it: it goes on, and is closed and opened. */
	write_random(old(pair), "a", 20 * MIB, MIB);
	fixture_close(old(pair));
	fixture_open(old(pair));
	write_random(old(pair), "a", 3 * MIB, BLOCK_BYTES);
	assert_int_equal(DO(old(pair), store_volume_clone, "a@1", "clone"), 0);
	assert_int_equal(DO(old(pair), store_snap_hold, "a@1", "mine"), 0);
	uint8_t *image = image_of(old(pair), "a");
	struct volume_info was = volume_named(old(pair), "a", false);
	snprintf(name, sizeof name, "fenced-%llu", (unsigned long long)was.epoch);
	snprintf(full, sizeof full, "h1/a@%s", name);

	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	/* What the new one wrote is asked for, and what only the old one has is undone by what it
	 * has of before. */
	assert_int_equal(pair->receive.fetched, 1);
	for (unsigned opening = 0; opening < 2; opening++) {
		assert_false(volume_there(old(pair), "a", false));
		struct volume_info copy = volume_named(old(pair), "h1/a", false);
		assert_true(copy.replica && copy.whole && !copy.stepped);
		assert_int_equal(copy.policy, 0); /* its rules were those of what it took */
		assert_int_equal(copy.number, was.number);
		assert_true(snapshot_there(old(pair), "h1/a", name));
		assert_true(snapshot_there(old(pair), "h1/a", "1"));
		assert_true(snapshot_there(old(pair), "h1/a", "new-1"));
		read_both(pair, "a@new-1", "h1/a");
		uint8_t *kept = image_of(old(pair), full);
		assert_memory_equal(kept, image, VOLUME_BYTES);
		free(kept);
		whole(old(pair));
		fixture_close(old(pair));
		fixture_open(old(pair));
	}
	free(image);
	/* It is a snapshot like any other, nobody is followed any more, and cuts go on. */
	struct follower_info *followers;
	size_t count;
	assert_int_equal(store_followers(old(pair)->store, &followers, &count), 0);
	assert_int_equal(count, 0);
	free(followers);
	assert_int_equal(DO(old(pair), store_volume_clone, full, "rescued"), 0);
	assert_int_equal(DO(old(pair), store_snap_delete, full), 0);
	assert_int_equal(DO(old(pair), store_volume_delete, "h1/a"), -VS_ERETAINED); /* "mine" */
	write_random(pair->from, "a", 0, MIB);
	assert_int_equal(cut(pair->from, "a@new-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-2"), 0);
	read_both(pair, "a@new-2", "h1/a");
	assert_int_equal(send_snapshot(pair, "a@new-1"), -ESTALE);
}

static void without_more_there_is_no_snapshot(void **state)
{
	struct pair *pair = *state;
	struct snapshot_info *infos;
	size_t count;
	promoted(pair, false);
	pair->cut_after = 1; /* what it was stays as a cut until all of the new one is there */
	uint8_t *image = image_of(old(pair), "a");
	assert_int_equal(send_snapshot(pair, "a@new-1"), -VS_ECANCELLED);
	pair->cut_after = 0;
	assert_false(volume_there(old(pair), "a", false));
	assert_int_equal(store_snapshots(old(pair)->store, false, &infos, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(infos[1].policy, POLICY_CUT);
	char full[SNAP_NAME_ROOM];
	snprintf(full, sizeof full, "h1/a@%s", infos[1].name);
	uint8_t *kept = image_of(old(pair), full);
	assert_memory_equal(kept, image, VOLUME_BYTES);
	free(kept);
	free(image);
	free(infos);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	read_both(pair, "a@new-1", "h1/a");
	assert_int_equal(store_snapshots(old(pair)->store, false, &infos, &count), 0);
	assert_int_equal(count, 2); /* @1, and the cut that came */
	free(infos);
}

/* The opening's record alone, or a write that the promoted copy has, is nothing more. */
static void an_opening_that_wrote_nothing_is_nothing_more(void **state)
{
	struct pair *pair = *state;
	struct snapshot_info *infos;
	size_t count;
	promoted(pair, false);
	fixture_close(old(pair));
	fixture_open(old(pair));
	assert_int_equal(DO(old(pair), store_line_begin, "a"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	assert_int_equal(store_snapshots(old(pair)->store, false, &infos, &count), 0);
	assert_int_equal(count, 2);
	free(infos);
}

static void only_to_who_had_a_copy_and_was_promoted_since(void **state)
{
	struct pair *pair = *state;
	promoted(pair, false);
	assert_int_equal(DO(old(pair), store_follower_delete, "a", "h1"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-1"), -VS_EFENCED);
	assert_non_null(strstr(pair->receive.sentence, "serves that volume itself"));
	assert_true(volume_there(old(pair), "a", false));
	follows(old(pair), false);
	struct volume_info at = volume_named(old(pair), "a", false);
	struct volume_info new = volume_named(pair->from, "a", false);
	struct store *store = old(pair)->store;
	assert_true(store_yields(store, "h1", at.uuid, new.epoch));
	assert_false(store_yields(store, "h2", at.uuid, new.epoch));
	assert_false(store_yields(store, "h1", at.uuid, at.epoch + 1)); /* no promotion */
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);

	/* And back: whoever is older now is told so, and gives way when it has been told. */
	promote(old(pair));
	write_random(pair->from, "a", NEWER, MIB);
	assert_int_equal(cut(pair->from, "a@new-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-2"), -VS_EFENCED);
	assert_non_null(strstr(pair->receive.sentence, "serves that volume itself"));
	write_random(old(pair), "a", 0, CHUNK_BYTES);
	assert_int_equal(cut(old(pair), "a@third"), 0);
	other_way(pair);
	follows(old(pair), false);
	uint8_t *image = image_of(old(pair), "a");
	struct volume_info was = volume_named(old(pair), "a", false);
	char full[SNAP_NAME_ROOM];
	snprintf(full, sizeof full, "h1/a@fenced-%llu", (unsigned long long)was.epoch);
	assert_int_equal(send_snapshot(pair, "a@third"), 0);
	read_both(pair, "a@third", "h1/a");
	uint8_t *kept = image_of(old(pair), full);
	assert_memory_equal(kept, image, VOLUME_BYTES);
	free(kept);
	free(image);
	/* The copy that it was promoted from is there, with what was sent to it. */
	assert_true(snapshot_there(old(pair), "h1/a.1", "1"));
	read_both(pair, "a@third", "h1/a");
	whole(old(pair));
}

/* What is promoted may be of before other promotions, of which nothing is known there. */
static void a_copy_of_long_ago_wins_when_it_is_promoted_last(void **state)
{
	struct pair *pair = *state;
	char full[SNAP_NAME_ROOM];
	promoted(pair, false);
	struct volume_info first = volume_named(pair->from, "a", false);
	/* The old primary has it back, and is the primary again; on the other host all of it but
	 * the first copy is lost. */
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	promote(old(pair));
	promote_again(old(pair), 3);
	write_random(old(pair), "a", 20 * MIB, MIB);
	assert_int_equal(DO(pair->from, store_volume_delete, "a"), 0);
	assert_int_equal(DO(pair->from, store_trash_purge, first.number), 0);
	struct volume_info was = volume_named(old(pair), "a", false);
	assert_true(was.epoch / EPOCH_TERM > first.epoch / EPOCH_TERM);
	follows(old(pair), false);
	promote(pair->from);
	write_random(pair->from, "a", NEWER, BLOCK_BYTES);
	struct volume_info last = volume_named(pair->from, "a", false);
	assert_true(last.epoch / EPOCH_TERM > was.epoch / EPOCH_TERM);
	assert_int_equal(cut(pair->from, "a@new-2"), 0);
	uint8_t *image = image_of(old(pair), "a");
	assert_int_equal(send_snapshot(pair, "a@new-2"), 0);
	snprintf(full, sizeof full, "h1/a@fenced-%llu", (unsigned long long)was.epoch);
	uint8_t *kept = image_of(old(pair), full);
	assert_memory_equal(kept, image, VOLUME_BYTES);
	free(kept);
	free(image);
	read_both(pair, "a@new-2", "h1/a");
	whole(old(pair));
}

/* Also in the same four seconds: half a second before the next ones begin, and where the first
 * promotion has ended in these already, not before half a second of them is left. */
static void of_two_promotions_in_a_row_the_later_one_wins(void **state)
{
	struct pair *pair = *state;
	promoted(pair, false);
	struct volume_info first = volume_named(pair->from, "a", false);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	assert_int_equal(DO(pair->from, store_volume_delete, "a"), 0);
	assert_int_equal(DO(pair->from, store_trash_purge, first.number), 0);
	skip_ns(old(pair), MANDATES_NS);
	skip_to_decision(old(pair), NSEC_PER_SEC / 2);
	assert_int_equal(DO(old(pair), store_replica_promote, "h1/a", "a", true), 0);
	skip_to_decision(pair->from, NSEC_PER_SEC / 2);
	assert_int_equal(DO(pair->from, store_replica_promote, "h1/a", "a", true), 0);
	struct volume_info was = volume_named(old(pair), "a", false),
			   last = volume_named(pair->from, "a", false);
	assert_true(last.epoch / EPOCH_TERM > was.epoch / EPOCH_TERM);
	follows(old(pair), false);
	write_random(pair->from, "a", NEWER, BLOCK_BYTES);
	assert_int_equal(cut(pair->from, "a@new-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-2"), 0);
	read_both(pair, "a@new-2", "h1/a");
	whole(old(pair));
}

static void an_older_copy_with_nothing_of_a_person_goes_to_the_trash(void **state)
{
	struct pair *pair = *state;
	promoted(pair, false);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	promote(old(pair));
	write_random(old(pair), "a", 0, CHUNK_BYTES);
	assert_int_equal(cut(old(pair), "a@third"), 0);
	other_way(pair);
	follows(old(pair), false);
	assert_int_equal(DO(old(pair), store_snap_delete, "h1/a@1"), 0);
	struct snapshot_info *trash;
	size_t count;
	assert_int_equal(store_snapshots(old(pair)->store, true, &trash, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(DO(old(pair), store_trash_purge, trash[0].number), 0);
	free(trash);
	assert_int_equal(send_snapshot(pair, "a@third"), 0);
	assert_true(volume_there(old(pair), "h1/a", true));
	assert_false(volume_there(old(pair), "h1/a.1", false));
	read_both(pair, "a@third", "h1/a");
}

static void a_copy_of_another_volume_stands_in_the_way(void **state)
{
	struct pair *pair = *state;
	promoted(pair, false);
	/* Some other volume that is called the same there. */
	assert_int_equal(DO(pair->from, store_volume_rename, "a", "b"), 0);
	assert_int_equal(make_volume(pair->from, "a", VOLUME_BYTES), 0);
	assert_int_equal(snap(pair->from, "a@x"), 0);
	struct domain_info *domains;
	uint8_t key[64];
	assert_int_equal(store_domains(pair->from->store, &domains, &(size_t){0}), 0);
	assert_int_equal(store_domain_key(pair->from->store, domains[0].uuid, key), 0);
	free(domains);
	assert_int_equal(DO(old(pair), store_domain_add, "h1.local", key), 0);
	assert_int_equal(send_snapshot(pair, "a@x"), 0);
	assert_int_equal(DO(pair->from, store_volume_rename, "a", "c"), 0);
	assert_int_equal(DO(pair->from, store_volume_rename, "b", "a"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-1"), -EEXIST);
	assert_non_null(strstr(pair->receive.sentence, "another volume"));
	assert_true(volume_there(old(pair), "a", false));
	assert_int_equal(DO(pair->from, store_volume_rename, "a", "d"), 0);
	assert_int_equal(send_snapshot(pair, "d@new-1"), 0);
	read_both(pair, "d@new-1", "h1/d");
}

/* By cuts: nothing says that it may not go on, and nobody is cut off. */
static void who_is_answered_is_not_cut_off(void **state)
{
	struct pair *pair = *state;
	uint8_t block[BLOCK_BYTES] __attribute__((aligned(4096))) = {7};
	promoted(pair, false);
	struct view *view = open_view(old(pair), "a"), *snapshot = open_view(old(pair), "a@1");
	assert_int_equal(send_snapshot(pair, "a@new-1"), -EAGAIN);
	assert_non_null(strstr(pair->receive.sentence, "in use"));
	assert_int_equal(do_request(old(pair), view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	assert_int_equal(do_request(old(pair), view, REQUEST_FLUSH, 0, 0, NULL, 0), 0);
	assert_false(volume_named(old(pair), "a", false).superseded);
	store_view_close(view);
	/* Who reads a snapshot reads on. */
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	assert_int_equal(do_request(old(pair), snapshot, REQUEST_READ, 0, BLOCK_BYTES, block, 0),
			 0);
	store_view_close(snapshot);
	read_both(pair, "a@new-1", "h1/a");
}

static struct io_op *flush_ended;
static void flush_done(struct io_op *op)
{
	flush_ended = op;
}

/* In step nothing is answered any more: its flushes fail, and nobody comes anew. */
static void who_is_silent_is_told(void **state)
{
	struct pair *pair = *state;
	promoted(pair, true);
	struct view *view = open_view(old(pair), "a"), *other;
	struct store_request flush = {.op.done = flush_done, .view = view, .kind = REQUEST_FLUSH};
	const uint8_t holder[16] = {5};
	store_view_close(view);
	assert_int_equal(DO(old(pair), store_lease_take, "a", holder, "vm"), 0);
	struct volume_lease lease = volume_named(old(pair), "a", false).lease;
	assert_int_equal(store_view_open_leased(old(pair)->store, "a", lease.generation, &view), 0);
	flush.view = view;
	flush_ended = NULL;
	store_submit(&flush);
	for (unsigned i = 0; i < 20; i++)
		env_step(old(pair)->env, false);
	assert_null(flush_ended); /* it waits for h1 */
	store_mandate_given(old(pair)->store, volume_named(old(pair), "a", false).number, "h1",
			    env_now_ns(old(pair)->env) + NSEC_PER_SEC);
	assert_true(store_view_answers(view));
	assert_int_equal(send_snapshot(pair, "a@new-1"), -EBUSY);
	assert_non_null(strstr(pair->receive.sentence, "disconnected"));
	assert_false(
		store_view_answers(view)); /* its word counts as that to a mandate's question */
	while (!flush_ended)
		env_step(old(pair)->env, true);
	assert_int_equal(flush_ended->res, -VS_EFENCED);
	assert_true(volume_named(old(pair), "a", false).superseded);
	assert_int_equal(store_view_open(old(pair)->store, "a", &other), -VS_EFENCED);
	assert_int_equal(store_view_open_leased(old(pair)->store, "a", lease.generation, &other),
			 -VS_EFENCED);
	assert_int_equal(store_view_open(old(pair)->store, "a@1", &other), 0);
	store_view_close(other);
	/* Who was promoted may die before it is done: the volume is as silent as before, no more.
	 */
	skip_ns(old(pair), 60 * NSEC_PER_SEC);
	assert_int_equal(store_view_open(old(pair)->store, "a", &other), 0);
	assert_false(store_view_answers(other));
	store_view_close(other);
	store_view_close(view);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	read_both(pair, "a@new-1", "h1/a");
	struct volume_info copy = volume_named(old(pair), "h1/a", false);
	assert_string_equal(copy.lease.holder_name, "");
	assert_int_equal(copy.lease.generation, lease.generation);
	assert_true(copy.answers);
}

/* Where voters are, who owns it is theirs to say. */
static void with_voters_only_to_the_owner_that_they_know(void **state)
{
	struct pair *pair = *state;
	promoted(pair, true);
	store_set_host(old(pair)->store, "h0");
	assert_int_equal(DO(old(pair), store_peer_add, "h3", "10.0.0.3:1"), 0);
	assert_int_equal(DO(old(pair), store_witness_add, "a", "h3"), 0);
	assert_int_equal(send_snapshot(pair, "a@new-1"), -VS_EFENCED);
	struct volume_info at = volume_named(old(pair), "a", false);
	struct store_word_take take = {.word = {.term = volume_named(pair->from, "a", false).epoch,
						.seq = 9,
						.voter_count = 3,
						.owner = 1,
						.copies = 3,
						.in_step = 3,
						.voters = {"h0", "h1", "h3"}},
				       .won = true,
				       .from = "h1"};
	memcpy(take.word.volume_uuid, at.uuid, 16);
	env_wait_prepare(&take.op.op);
	store_word_take(old(pair)->store, &take);
	assert_int_equal(env_wait(old(pair)->env, &take.op.op), 0);
	assert_int_equal(send_snapshot(pair, "a@new-1"), 0);
	read_both(pair, "a@new-1", "h1/a");
}

static struct follower_info only_follower(struct fixture *f, size_t want)
{
	struct follower_info *infos, found = {0};
	size_t count;
	assert_int_equal(store_followers(f->store, &infos, &count), 0);
	assert_int_equal(count, want);
	if (count)
		found = infos[0];
	free(infos);
	return found;
}

/* A promotion keeps who was the primary among the copies, if there is a way to it; and as what. */
static void the_old_primary_is_to_follow(void **state)
{
	struct pair *pair = *state;
	struct view *view;
	struct store_position at;
	prepare(pair);
	assert_int_equal(DO(pair->to, store_peer_add, "h1", "10.0.0.1:1"), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	promote(pair->to);
	only_follower(pair->to, 0); /* it was sent a snapshot, and has not followed */
	assert_int_equal(DO(pair->to, store_volume_delete, "a"), 0);
	assert_int_equal(cut(pair->from, "a@cut-1"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-1"), 0);
	promote(pair->to);
	struct follower_info follower = only_follower(pair->to, 1);
	assert_string_equal(follower.host, "h1");
	assert_false(follower.rules.in_step || follower.rules.comes_in_step);
	assert_int_equal(DO(pair->to, store_volume_delete, "a"), 0);
	/* In step, also over a start. */
	assert_int_equal(cut(pair->from, "a@cut-2"), 0);
	assert_int_equal(send_snapshot(pair, "a@cut-2"), 0);
	struct volume_info original = volume_named(pair->from, "a", false);
	assert_int_equal(store_copy_open(pair->to->store, "h1/a", original.uuid, &view, &at), 0);
	struct store_copy_batch batch = {.view = view, .from_vseq = at.vseq, .to = at};
	env_wait_prepare(&batch.op);
	store_copy_apply(&batch);
	assert_int_equal(env_wait(pair->to->env, &batch.op), 0);
	assert_true(volume_named(pair->to, "h1/a", false).stepped);
	store_copy_close(view);
	fixture_close(pair->to);
	fixture_open(pair->to);
	assert_true(volume_named(pair->to, "h1/a", false).stepped);
	promote(pair->to);
	follower = only_follower(pair->to, 1);
	assert_true(!follower.rules.in_step && follower.rules.comes_in_step);
	view = open_view(pair->to, "a"); /* nothing waits for it */
	assert_int_equal(do_request(pair->to, view, REQUEST_FLUSH, 0, 0, NULL, 0), 0);
	assert_true(store_view_answers(view));
	store_view_close(view);
	fixture_close(pair->to);
	fixture_open(pair->to);
	assert_true(only_follower(pair->to, 1).rules.comes_in_step);
	assert_int_equal(DO(pair->to, store_follower_join, "a", "h1"), 0);
	follower = only_follower(pair->to, 1);
	assert_true(follower.rules.in_step && !follower.rules.comes_in_step);
	/* Whoever decided otherwise meanwhile is not overruled. */
	assert_int_equal(DO(pair->to, store_follower_delete, "a", "h1"), 0);
	assert_int_equal(DO(pair->to, store_follower_join, "a", "h1"), 0);
	only_follower(pair->to, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(int argc, char **argv)
{
#ifdef VSTORE_MUTANTS
	vstore_mutant = argc > 1 ? atoi(argv[1]) : 0;
#endif
	const struct CMUnitTest tests[] = {
		TEST(what_only_the_old_primary_has_is_a_snapshot),
		TEST(without_more_there_is_no_snapshot),
		TEST(an_opening_that_wrote_nothing_is_nothing_more),
		TEST(only_to_who_had_a_copy_and_was_promoted_since),
		TEST(a_copy_of_long_ago_wins_when_it_is_promoted_last),
		TEST(of_two_promotions_in_a_row_the_later_one_wins),
		TEST(an_older_copy_with_nothing_of_a_person_goes_to_the_trash),
		TEST(a_copy_of_another_volume_stands_in_the_way),
		TEST(who_is_answered_is_not_cut_off),
		TEST(who_is_silent_is_told),
		TEST(with_voters_only_to_the_owner_that_they_know),
		TEST(the_old_primary_is_to_follow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
