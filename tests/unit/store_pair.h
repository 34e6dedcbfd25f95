/* SPDX-License-Identifier: Apache-2.0 */
/* Two stores, each in a loop of its own, without a network: snapshots of one become copies in the
 * other; what the receiver wants is read from the sender's store and handed over. */
#ifndef TESTS_UNIT_STORE_PAIR_H
#define TESTS_UNIT_STORE_PAIR_H

#include "tests/unit/store_fixture.h"

#include "storage/store/record.h"
#include "storage/store/store_transfer.h"

#define VOLUME_BYTES (48 * MIB) /* three leaves */
#define QUEUE 512u

struct pair {
	struct fixture *from, *to;
	struct store_receive receive;
	uint8_t queue[QUEUE][ID_BYTES], bases[QUEUE][ID_BYTES], types[QUEUE];
	unsigned head, tail;
	uint64_t sent_bytes, records, nodes, deltas;
	unsigned collect_after; /* a collection runs in the receiver behind so many; 0: never */
	unsigned cut_after;	/* the connection is cut behind so many records; 0: never */
	unsigned damage;	/* one bit of this record; 0: none */
	bool damage_hashes;	/* one bit of what each chunk's record says of its quarters */
	bool lose;		/* the sender has nothing */
	bool whole;		/* the sender knows no deltas */
	bool other_base;	/* a delta is of another node than the one that was named */
	bool bad_deltas;	/* one bit of each */
	bool beside;		/* the copy stays as it is */
	bool untold;		/* the sender is older than what is told of policies */
	void (*between)(struct pair *pair); /* behind each record */
	void (*each)(struct pair *pair);    /* in each step of the receiver */
	uint8_t buf[STORE_RECORD_BYTES_MAX];
};

static inline struct fixture *store_new(void)
{
	void *state;
	assert_int_equal(fixture_setup(&state), 0);
	return state;
}

static inline int pair_setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	pair->from = store_new();
	pair->to = store_new();
	*state = pair;
	return 0;
}

static inline int pair_teardown(void **state)
{
	struct pair *pair = *state;
	fixture_teardown((void **)&pair->from);
	fixture_teardown((void **)&pair->to);
	free(pair);
	return 0;
}

static inline void want(struct store_receive *receive, uint8_t type, const uint8_t *ids,
			const uint8_t *bases, uint32_t count)
{
	struct pair *pair = container_of(receive, struct pair, receive);
	for (uint32_t i = 0; i < count; i++) {
		assert_true(pair->tail - pair->head < QUEUE);
		memcpy(pair->queue[pair->tail % QUEUE], ids + (size_t)i * ID_BYTES, ID_BYTES);
		memset(pair->bases[pair->tail % QUEUE], 0, ID_BYTES);
		if (bases && !pair->whole)
			memcpy(pair->bases[pair->tail % QUEUE], bases + (size_t)i * ID_BYTES,
			       ID_BYTES);
		pair->types[pair->tail++ % QUEUE] = type;
	}
}

static inline void serve_one(struct pair *pair)
{
	unsigned at = pair->head++ % QUEUE;
	struct store_record_read read = {
		.store = pair->from->store, .type = pair->types[at], .buf = pair->buf};
	memcpy(read.id, pair->queue[at], ID_BYTES);
	memcpy(read.base, pair->bases[at], ID_BYTES);
	env_wait_prepare(&read.op);
	store_record_read(&read);
	int64_t bytes = env_wait(pair->from->env, &read.op);
	assert_true(bytes > 0);
	pair->records++;
	pair->nodes += pair->types[at] == 2;
	if (pair->damage && pair->records == pair->damage)
		pair->buf[bytes - 1] ^= 4;
	if (pair->damage_hashes && pair->types[at] == RECORD_CHUNK)
		pair->buf[record_header_bytes(pair->buf[5]) + 40] ^= 4;
	pair->sent_bytes += (uint64_t)bytes;
	pair->deltas += read.delta;
	pair->buf[bytes - 1] ^= read.delta && pair->bad_deltas;
	read.base[0] ^= pair->other_base;
	if (pair->lose)
		store_receive_record(&pair->receive, read.id, NULL, 0, -VS_ELOST);
	else if (read.delta)
		store_receive_delta(&pair->receive, read.id, read.base, pair->buf, (uint32_t)bytes);
	else
		store_receive_record(&pair->receive, read.id, pair->buf, (uint32_t)bytes, 0);
}

/* What "junk" has goes, and a collection looks at all segments that have some of it. */
static inline void collect(struct fixture *f)
{
	struct volume_info *infos;
	struct store_counters before, after;
	struct store_work work;
	size_t count;
	store_counters(f->store, &before);
	assert_int_equal(DO(f, store_volume_delete, "junk"), 0);
	assert_int_equal(store_volumes(f->store, true, &infos, &count), 0);
	for (size_t i = 0; i < count; i++)
		if (strcmp(infos[i].name, "junk") == 0)
			assert_int_equal(DO(f, store_trash_purge, infos[i].number), 0);
	free(infos);
	assert_int_equal(WORK(f, &work, store_gc), 0);
	store_counters(f->store, &after);
	assert_true(after.segments_dropped > before.segments_dropped);
}

static bool ended;
static inline void receive_done(struct io_op *op)
{
	ended = true;
}

static inline void seal_and_offer(struct pair *pair, const char *name, struct store_offer *ret)
{
	struct admin_op seal = {0};
	env_wait_prepare(&seal.op);
	store_snap_seal(pair->from->store, &seal, name);
	assert_int_equal(env_wait(pair->from->env, &seal.op), 0);
	assert_int_equal(store_offer(pair->from->store, name, ret), 0);
}

/* Sends "a@SNAP" of one store to the other. */
static inline int send_snapshot(struct pair *pair, const char *name)
{
	pair->receive = (struct store_receive){.op.done = receive_done, .want = want, .host = "h1"};
	seal_and_offer(pair, name, &pair->receive.offer);
	pair->receive.offer.beside = pair->beside;
	if (pair->untold)
		pair->receive.offer.policy = (struct told_policy){0};
	pair->head = pair->tail = 0;
	pair->sent_bytes = pair->records = pair->nodes = pair->deltas = 0;
	ended = false;
	store_receive(pair->to->store, &pair->receive);
	while (!ended) {
		if (pair->head != pair->tail) {
			serve_one(pair);
			if (pair->between)
				pair->between(pair);
		}
		if (pair->each)
			pair->each(pair);
		if (pair->collect_after && pair->records == pair->collect_after) {
			pair->collect_after = 0;
			collect(pair->to);
		}
		if (pair->cut_after && pair->records >= pair->cut_after && !pair->receive.cancel) {
			pair->receive.cancel = true;
			store_receive_kick(&pair->receive);
			pair->head = pair->tail;
		}
		env_step(pair->to->env, pair->head == pair->tail);
	}
	if (pair->receive.op.res < 0)
		assert_string_not_equal(pair->receive.sentence, "");
	return (int)pair->receive.op.res;
}

static inline void hand_over_domain(struct pair *pair)
{
	struct domain_info *infos;
	size_t count;
	uint8_t key[64];
	assert_int_equal(store_domains(pair->from->store, &infos, &count), 0);
	assert_int_equal(store_domain_key(pair->from->store, infos[0].uuid, key), 0);
	free(infos);
	assert_int_equal(DO(pair->to, store_domain_add, "h1.local", key), 0);
}

static inline void write_random(struct fixture *f, const char *name, uint64_t offset,
				uint64_t bytes)
{
	uint8_t *data = aligned_alloc(BLOCK_BYTES, bytes);
	struct view *view = open_view(f, name);
	test_random_fill(&f->seed, data, bytes);
	assert_int_equal(do_request(f, view, REQUEST_WRITE, offset, bytes, data, 0), 0);
	store_view_close(view);
	free(data);
}

static inline void read_both(struct pair *pair, const char *name, const char *copy)
{
	struct view *views[2] = {open_view(pair->from, name), open_view(pair->to, copy)};
	uint8_t *data[2] = {aligned_alloc(BLOCK_BYTES, MIB), aligned_alloc(BLOCK_BYTES, MIB)};
	uint64_t bytes = store_view_bytes(views[0]);
	assert_int_equal(store_view_bytes(views[1]), bytes);
	for (uint64_t at = 0; at < bytes; at += MIB) {
		uint64_t part = min_u64(MIB, bytes - at);
		assert_int_equal(
			do_request(pair->from, views[0], REQUEST_READ, at, part, data[0], 0), 0);
		assert_int_equal(do_request(pair->to, views[1], REQUEST_READ, at, part, data[1], 0),
				 0);
		assert_memory_equal(data[0], data[1], part);
	}
	for (unsigned i = 0; i < 2; i++) {
		store_view_close(views[i]);
		free(data[i]);
	}
}

static inline void prepare(struct pair *pair)
{
	hand_over_domain(pair);
	assert_int_equal(make_volume(pair->from, "a", VOLUME_BYTES), 0);
	write_random(pair->from, "a", 0, 4 * MIB);
	write_random(pair->from, "a", 20 * MIB, 2 * MIB);
	write_random(pair->from, "a", VOLUME_BYTES - 3 * BLOCK_BYTES, 3 * BLOCK_BYTES);
	assert_int_equal(snap(pair->from, "a@1"), 0);
}

static inline int cut(struct fixture *f, const char *name)
{
	const char *names[] = {name};
	return DO(f, store_policy_snap, names, 1, POLICY_CUT);
}

#endif
