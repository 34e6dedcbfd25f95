/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of snapshots. */
#include "storage/store/segments.h"
#include "tests/unit/store_pair.h"

static void a_snapshot_arrives_whole(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->receive.chunks, 97);
	assert_int_equal(pair->receive.fetched, 97);
	read_both(pair, "a@1", "h1/a@1");
	fixture_close(pair->to);
	fixture_open(pair->to);
	read_both(pair, "a@1", "h1/a@1");
	assert_int_equal(WORK(pair->to, &work, store_check), 0);
	assert_int_equal(work.damaged, 0);
	/* Once more: it is there. */
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->records, 0);
}

static void only_what_changed_is_sent(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	write_random(pair->from, "a", 5 * CHUNK_BYTES, CHUNK_BYTES);
	write_random(pair->from, "a", 30 * MIB, BLOCK_BYTES);
	assert_int_equal(DO(pair->from, store_volume_grow, "a", VOLUME_BYTES + 8 * MIB), 0);
	struct view *view = open_view(pair->from, "a"); /* what is here already is not sent */
	uint8_t *data = aligned_alloc(BLOCK_BYTES, CHUNK_BYTES);
	assert_int_equal(do_request(pair->from, view, REQUEST_READ, 0, CHUNK_BYTES, data, 0), 0);
	assert_int_equal(do_request(pair->from, view, REQUEST_WRITE, VOLUME_BYTES + MIB,
				    CHUNK_BYTES, data, 0),
			 0);
	assert_int_equal(do_request(pair->from, view, REQUEST_TRIM, 20 * MIB, MIB, NULL, 0), 0);
	store_view_close(view);
	free(data);
	assert_int_equal(snap(pair->from, "a@2"), 0);
	assert_int_equal(send_snapshot(pair, "a@2"), 0);
	assert_int_equal(pair->receive.fetched, 2);
	assert_int_equal(pair->receive.found, 1);
	assert_int_equal(pair->receive.chunks, 2 + 1 + 16);
	read_both(pair, "a@2", "h1/a@2");
	read_both(pair, "a@1", "h1/a@1");
}

/* A chunk in each of two leaves: their four ways down to them are what changed of the map. */
static void change_two_chunks(struct pair *pair, const char *name)
{
	write_random(pair->from, "a", 2 * MIB, CHUNK_BYTES);
	write_random(pair->from, "a", 21 * MIB, CHUNK_BYTES);
	assert_int_equal(snap(pair->from, name), 0);
}

static void of_a_node_goes_what_differs(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->deltas, 0); /* there is nothing that they could differ from */
	change_two_chunks(pair, "a@2");
	assert_int_equal(send_snapshot(pair, "a@2"), 0);
	assert_int_equal(pair->nodes, 5);
	assert_int_equal(pair->deltas, 5);
	uint64_t with = pair->sent_bytes;
	read_both(pair, "a@2", "h1/a@2");
	change_two_chunks(pair, "a@3");
	pair->whole = true;
	assert_int_equal(send_snapshot(pair, "a@3"), 0);
	assert_int_equal(pair->nodes, 5);
	assert_int_equal(pair->deltas, 0);
	assert_true(pair->sent_bytes > with + 2000);
	read_both(pair, "a@3", "h1/a@3");
}

static void a_node_that_its_delta_does_not_make_is_asked_for_whole(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	change_two_chunks(pair, "a@2");
	pair->bad_deltas = true;
	assert_int_equal(send_snapshot(pair, "a@2"), 0);
	assert_int_equal(pair->deltas, 5);
	assert_int_equal(pair->nodes, 10);
	read_both(pair, "a@2", "h1/a@2");
	/* One that is made of something else ends it. */
	pair->bad_deltas = false;
	change_two_chunks(pair, "a@3");
	pair->other_base = true;
	assert_int_equal(send_snapshot(pair, "a@3"), -VS_EFORMAT);
	pair->other_base = false;
	assert_int_equal(send_snapshot(pair, "a@3"), 0);
	read_both(pair, "a@3", "h1/a@3");
}

static int64_t read_for_peer(struct pair *pair, struct store_record_read *read)
{
	env_wait_prepare(&read->op);
	store_record_read(read);
	return env_wait(pair->from->env, &read->op);
}

/* Of a node that is there, and of one that is not. */
static void a_base_that_the_sender_lacks_costs_a_whole_record(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	change_two_chunks(pair, "a@2");
	struct store_record_read read = {
		.store = pair->from->store, .type = 2, .buf = pair->buf, .base = {1, 2, 3}};
	struct store_offer offer;
	seal_and_offer(pair, "a@2", &offer);
	memcpy(read.id, offer.top, ID_BYTES);
	assert_true(read_for_peer(pair, &read) > 0);
	assert_false(read.delta);
	read.id[0] ^= 1;
	assert_true(read_for_peer(pair, &read) < 0);
}

/* The peer errs, or means ill: the record is as good as before. */
static void a_node_that_is_asked_for_as_a_chunk_stays_good(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	struct store_record_read read = {.store = pair->from->store, .buf = pair->buf};
	struct store_offer offer;
	seal_and_offer(pair, "a@1", &offer);
	memcpy(read.id, offer.top, ID_BYTES);
	for (unsigned i = 0; i < 4; i++) {
		read.type = i % 2 ? 2 : 1;
		int64_t res = read_for_peer(pair, &read);
		assert_true(i % 2 ? res > 0 : res == -VS_EFORMAT);
	}
	struct store_counters counters;
	store_counters(pair->from->store, &counters);
	assert_int_equal(counters.checksum_errors, 0);
}

static void a_cut_loses_nothing_that_arrived(void **state)
{
	struct pair *pair = *state;
	uint64_t all = 0;
	prepare(pair);
	pair->cut_after = 30;
	unsigned cuts = 0;
	while (send_snapshot(pair, "a@1") < 0) {
		assert_int_equal(pair->receive.op.res, -VS_ECANCELLED);
		all += pair->records;
		assert_true(++cuts < 20);
	}
	all += pair->records;
	assert_true(cuts >= 3);
	/* 97 chunks, and the tree's 6 nodes; what a cut finds on its way comes again. */
	assert_true(all <= 103 + cuts * 2);
	read_both(pair, "a@1", "h1/a@1");
}

/* What came of the tree is in no map until a fold names it. Here it lies in a segment that is
 * emptied in the middle of a receive. */
static void nodes_that_came_outlive_a_collection(void **state)
{
	struct pair *pair = *state;
	hand_over_domain(pair);
	assert_int_equal(make_volume(pair->from, "a", VOLUME_BYTES), 0);
	/* All that may be asked for at a time, and then two more leaves. */
	write_random(pair->from, "a", 0, STORE_WANTS_MAX * CHUNK_BYTES);
	write_random(pair->from, "a", 20 * MIB, 2 * MIB);
	write_random(pair->from, "a", VOLUME_BYTES - MIB, MIB);
	assert_int_equal(snap(pair->from, "a@1"), 0);
	assert_int_equal(make_volume(pair->to, "junk", 16 * MIB), 0);
	write_random(pair->to, "junk", 0, 16 * MIB);
	pair->cut_after = 6;
	assert_int_equal(send_snapshot(pair, "a@1"), -VS_ECANCELLED);
	assert_int_equal(pair->nodes, 6);
	pair->cut_after = 0;
	fixture_close(pair->to); /* the segment is sealed */
	fixture_open(pair->to);
	pair->collect_after = 10;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(pair->collect_after, 0);
	assert_int_equal(pair->nodes, 0);
	read_both(pair, "a@1", "h1/a@1");
}

static void a_record_that_is_not_what_it_says_ends_it(void **state)
{
	struct pair *pair = *state;
	struct snapshot_info *infos;
	size_t count;
	prepare(pair);
	for (pair->damage = 1; pair->damage < 50; pair->damage += 19) {
		int res = send_snapshot(pair, "a@1");
		if (res != -VS_ECHECKSUM && res != -VS_EFORMAT)
			fail_msg("record %u damaged: %d %s", pair->damage, res,
				 pair->receive.sentence);
		assert_int_equal(store_snapshots(pair->to->store, false, &infos, &count), 0);
		assert_int_equal(count, 0);
		free(infos);
	}
	pair->damage = 0;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	read_both(pair, "a@1", "h1/a@1");
}

/* A record's frames are good, what it says of its quarters is rotten: that is not taken over, or
 * each scrub here would find it, and ask whom it came from. */
static void what_a_record_says_of_its_quarters_is_made_anew(void **state)
{
	struct pair *pair = *state;
	struct store_work work;
	prepare(pair);
	pair->damage_hashes = true;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	read_both(pair, "a@1", "h1/a@1");
	assert_int_equal(WORK(pair->to, &work, store_scrub, false), 0);
	assert_int_equal(work.damaged, 0);
	assert_int_equal(WORK(pair->to, &work, store_verify, "h1/a@1"), 0);
	assert_int_equal(work.damaged, 0);
}

/* All nodes that are stored, while the store is closed. */
static unsigned spoil_nodes(struct fixture *f)
{
	enum { MOST = 64 };
	uint64_t segments[MOST];
	int64_t at[MOST];
	unsigned count = 0;
	fixture_close(f);
	fixture_open(f); /* all is sealed */
	for (uint32_t slot = 1; slot < segments_slot_count(f->store); slot++) {
		struct segment *segment = segment_of(f->store, slot);
		if (!segment || segment->state != SEGMENT_SEALED)
			continue;
		while (segments_directory(segment, NULL) == WAITING)
			(void)env_step(f->env, true);
		const struct directory *records = segment_records(segment);
		for (uint32_t i = 0; records && i < records->entry_count; i++) {
			if (records->entries[i].type != RECORD_NODE)
				continue;
			assert_true(count < MOST);
			segments[count] = segment->id;
			at[count++] = records->entries[i].offset64 * (int64_t)RECORD_ALIGN + 100;
		}
	}
	fixture_close(f);
	for (unsigned i = 0; i < count; i++) {
		char path[40], name[32];
		segment_file_name(segments[i], name);
		snprintf(path, sizeof path, "seg/%s", name);
		flip(f, path, at[i]);
	}
	fixture_open(f);
	return count;
}

/* The copy's own map, which nobody else has either: it is compared again as long as that brings
 * anything, and then the sender is told. */
static void a_map_that_cannot_be_read_ends_it(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_true(spoil_nodes(pair->to) > 3);
	change_two_chunks(pair, "a@2");
	assert_true(send_snapshot(pair, "a@2") < 0);
	assert_non_null(strstr(pair->receive.sentence, "cannot be read"));
	assert_non_null(strstr(pair->receive.sentence, "brought nothing new"));
}

static void where_there_is_no_space_it_is_said(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	fixture_close(pair->to);
	pair->to->options.capacity_bytes = MIB; /* of segments: none */
	fixture_open(pair->to);
	assert_int_equal(send_snapshot(pair, "a@1"), -ENOSPC);
	assert_non_null(strstr(pair->receive.sentence, "has no space"));
	fixture_close(pair->to);
	pair->to->options.capacity_bytes = 0;
	fixture_open(pair->to);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	read_both(pair, "a@1", "h1/a@1");
}

static void what_the_sender_lacks_ends_it(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	pair->lose = true;
	assert_int_equal(send_snapshot(pair, "a@1"), -VS_ELOST);
	pair->lose = false;
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
}

static void a_copy_is_changed_by_nobody_else(void **state)
{
	struct pair *pair = *state;
	uint8_t block[BLOCK_BYTES] = {1};
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	struct view *view = open_view(pair->to, "h1/a");
	assert_true(store_view_read_only(view));
	assert_int_equal(do_request(pair->to, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0),
			 -EROFS);
	store_view_close(view);
	assert_int_equal(DO(pair->to, store_volume_rename, "h1/a", "mine"), -EROFS);
	assert_int_equal(DO(pair->to, store_volume_grow, "h1/a", 2 * VOLUME_BYTES), -EROFS);
	assert_int_equal(DO(pair->to, store_snap_restore, "h1/a@1"), -EROFS);
	assert_int_equal(DO(pair->to, store_volume_clone, "h1/a@1", "mine"), 0);
	view = open_view(pair->to, "mine");
	assert_int_equal(do_request(pair->to, view, REQUEST_WRITE, 0, BLOCK_BYTES, block, 0), 0);
	store_view_close(view);
	read_both(pair, "a@1", "h1/a@1");
	/* Deleted there and back again. */
	struct volume_info *infos;
	size_t count;
	assert_int_equal(DO(pair->to, store_volume_delete, "h1/a"), 0);
	assert_int_equal(store_volumes(pair->to->store, true, &infos, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(DO(pair->to, store_trash_restore, infos[0].number, NULL), 0);
	free(infos);
	read_both(pair, "a@1", "h1/a@1");
}

static void who_was_not_given_the_domain_refuses(void **state)
{
	struct pair *pair = *state;
	assert_int_equal(make_volume(pair->from, "a", VOLUME_BYTES), 0);
	write_random(pair->from, "a", 0, MIB);
	assert_int_equal(snap(pair->from, "a@1"), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), -ENOENT);
	assert_non_null(strstr(pair->receive.sentence, "domain"));
	hand_over_domain(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
}

static void another_snapshot_of_that_name_is_kept(void **state)
{
	struct pair *pair = *state;
	prepare(pair);
	assert_int_equal(send_snapshot(pair, "a@1"), 0);
	assert_int_equal(DO(pair->from, store_snap_delete, "a@1"), 0);
	write_random(pair->from, "a", 0, MIB);
	assert_int_equal(snap(pair->from, "a@1"), 0);
	assert_int_equal(send_snapshot(pair, "a@1"), -EEXIST);
	/* Another volume of that name is no continuation of the first. */
	assert_int_equal(DO(pair->from, store_volume_delete, "a"), 0);
	assert_int_equal(make_volume(pair->from, "a", VOLUME_BYTES), 0);
	assert_int_equal(snap(pair->from, "a@3"), 0);
	assert_int_equal(send_snapshot(pair, "a@3"), -EEXIST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_setup, pair_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_snapshot_arrives_whole),
		TEST(only_what_changed_is_sent),
		TEST(of_a_node_goes_what_differs),
		TEST(a_node_that_its_delta_does_not_make_is_asked_for_whole),
		TEST(a_base_that_the_sender_lacks_costs_a_whole_record),
		TEST(a_node_that_is_asked_for_as_a_chunk_stays_good),
		TEST(a_cut_loses_nothing_that_arrived),
		TEST(nodes_that_came_outlive_a_collection),
		TEST(a_record_that_is_not_what_it_says_ends_it),
		TEST(what_a_record_says_of_its_quarters_is_made_anew),
		TEST(a_map_that_cannot_be_read_ends_it),
		TEST(where_there_is_no_space_it_is_said),
		TEST(what_the_sender_lacks_ends_it),
		TEST(a_copy_is_changed_by_nobody_else),
		TEST(who_was_not_given_the_domain_refuses),
		TEST(another_snapshot_of_that_name_is_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
