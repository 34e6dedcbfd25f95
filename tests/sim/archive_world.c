/* SPDX-License-Identifier: Apache-2.0 */
/* A sender, a receiver and the wires between them, see archive.h. */
#include "tests/sim/archive.h"

struct world w;
const char *const copies[COPIES] = {"h1/a", "h1/b"}, *const originals[COPIES] = {"a", "b"};
const char *const policy_names[POLICIES] = {"archive", "short"};
static uint8_t record[STORE_RECORD_BYTES_MAX] __attribute__((aligned(4096)));

void enter(const struct end *end)
{
	sim_process = end->sim;
}

uint64_t pick(uint64_t below)
{
	return sim_random(w.to.sim, below);
}

uint64_t slot_offset(unsigned slot)
{
	return slot * (VOLUME_BYTES / SLOTS / CHUNK_BYTES) * CHUNK_BYTES;
}

const char *open_end(struct end *end)
{
	struct store_options options = {.cache_bytes = MIB,
					.node_cache_bytes = MIB,
					.directory_cache_bytes = MIB,
					.trash_delay_ns = HOUR_NS,
					.idle_fold_ns = NSEC_PER_SEC};
	char sentence[SENTENCE_BYTES];
	enter(end);
	if (store_open(end->env, "store", &options, &end->store, sentence) < 0)
		FAIL("a store was refused: %s", sentence);
	if (end == &w.to)
		assert(policies_new(end->env, end->store, &w.policies) == 0);
	return NULL;
}

/* What the change was about is as it says, or not. */
static const char *change_found(void)
{
	struct policy_info *list;
	struct volume_info volume;
	size_t count;
	struct change *change = &w.change;
	assert(store_policies(w.to.store, &list, &count) == 0);
	if (change->kind == CHANGE_RULES)
		for (size_t i = 0; i < count; i++)
			if (strcmp(list[i].name, policy_names[change->policy - 1]) == 0 &&
			    memcmp(list[i].rules.keep, change->keep, sizeof change->keep) == 0)
				change_swap(change);
	if (change->kind == CHANGE_ATTACH &&
	    store_volume_info(w.to.store, w.volumes[change->copy], &volume) == 0) {
		const char *name = "";
		for (size_t i = 0; i < count; i++)
			if (list[i].number == volume.policy)
				name = list[i].name;
		if (strcmp(name, change->policy ? policy_names[change->policy - 1] : "") == 0)
			change_swap(change);
	}
	free(list);
	totals.crashed_changes += change->kind != CHANGE_NONE;
	change->kind = CHANGE_NONE;
	return NULL;
}

static const char *crash(void)
{
	enter(&w.to);
	w.crashed_ns = env_now_ns(w.to.env);
	sim_crash(w.to.sim, pick(2));
	store_abandon(w.to.store);
	sim_process_end(w.to.sim);
	w.life++;
	w.crash_in = 0;
	memset(w.volumes, 0, sizeof w.volumes); /* one that is undone gives its number away */
	w.view = NULL;
	if (w.viewed)
		w.viewed->used = false;
	w.viewed = NULL;
	for (unsigned i = 0; i < COPIES; i++)
		w.wires[i].active = false;
	totals.crashes++;
	const char *failed = open_end(&w.to);
	if (!failed)
		failed = archive_look(true);
	return failed ? failed : change_found();
}

/* The sender's answer to one question. */
static void wire_serve(struct wire *wire)
{
	unsigned at = wire->head++ % QUEUE;
	struct store_record_read read = {
		.store = w.from.store, .type = wire->types[at], .buf = record};
	memcpy(read.id, wire->ids[at], ID_BYTES);
	memcpy(read.base, wire->bases[at], ID_BYTES);
	enter(&w.from);
	env_wait_prepare(&read.op);
	store_record_read(&read);
	int64_t bytes = env_wait(w.from.env, &read.op);
	enter(&w.to);
	if (bytes <= 0)
		store_receive_record(&wire->receive, read.id, NULL, 0, -VS_ELOST);
	else if (read.delta)
		store_receive_delta(&wire->receive, read.id, read.base, record, (uint32_t)bytes);
	else
		store_receive_record(&wire->receive, read.id, record, (uint32_t)bytes, 0);
	wire->due_ns = env_now_ns(w.to.env) + pick(pick(3) ? NSEC_PER_SEC / 10 : 3 * NSEC_PER_SEC);
}

void wire_cut(struct wire *wire)
{
	if (!wire->active || wire->receive.cancel)
		return;
	enter(&w.to);
	wire->receive.cancel = true;
	store_receive_kick(&wire->receive);
	wire->head = wire->tail;
	totals.cut_wires++;
}

static const char *wire_ended(struct wire *wire)
{
	unsigned copy = (unsigned)(wire - w.wires);
	int res = (int)wire->receive.op.res;
	wire->active = false;
	for (size_t i = w.item_count; res == 0 && i-- > 0;)
		if (w.items[i].here && w.items[i].copy == copy &&
		    strcmp(w.items[i].name, wire->taken->name) == 0) {
			w.items[i].sure = true;
			totals.again += !wire->came;
		}
	totals.refused += res == -VS_EFENCED;
	/* A name that is taken; what was deleted at the sender meanwhile; a sender from a backup; a
	 * cut that is older than the copy. */
	if (res < 0 && res != -VS_ECANCELLED && res != -EEXIST &&
	    (res != -VS_ELOST || wire->taken->there) && res != -VS_EFENCED && res != -ESTALE)
		FAIL("%s@%s was refused: %s", originals[copy], wire->taken->name,
		     wire->receive.sentence);
	return NULL;
}

/* One event of the receiver, and what the wires bring. */
const char *archive_step(void)
{
	enter(&w.to);
	for (unsigned i = 0; i < COPIES && !w.failed; i++) {
		struct wire *wire = &w.wires[i];
		if (wire->active && wire->ended)
			w.failed = wire_ended(wire);
		else if (wire->active && wire->head != wire->tail &&
			 env_now_ns(w.to.env) >= wire->due_ns) {
			if (pick(60) == 0)
				wire_cut(wire);
			else
				wire_serve(wire);
		}
	}
	enter(&w.to);
	if (!w.failed && !env_step(w.to.env, true))
		w.failed = "nothing happens any more";
	if (!w.failed)
		w.failed = archive_look(false);
	if (!w.failed && w.crash_in && --w.crash_in == 0)
		w.failed = crash();
	return w.failed;
}

const char *archive_pass(uint64_t ns)
{
	uint64_t end = env_now_ns(w.to.env) + ns;
	while (env_now_ns(w.to.env) < end)
		if (archive_step())
			return w.failed;
	return NULL;
}

static bool op_ended;
void op_start(void)
{
	op_ended = false;
}

void op_done(struct io_op *op)
{
	op_ended = true;
}

bool op_wait(void)
{
	unsigned life = w.life;
	while (!op_ended)
		if (archive_step() || w.life != life)
			return false;
	return true;
}

struct admin_op *op_begin(struct admin_op *op)
{
	enter(&w.to);
	*op = (struct admin_op){.op.done = op_done};
	op_start();
	return op;
}

/* ---- what is sent ---- */

static void want(struct store_receive *receive, uint8_t type, const uint8_t *ids,
		 const uint8_t *bases, uint32_t count)
{
	struct wire *wire = container_of(receive, struct wire, receive);
	for (uint32_t i = 0; i < count; i++) {
		unsigned at = wire->tail++ % QUEUE;
		assert(wire->tail - wire->head < QUEUE);
		memcpy(wire->ids[at], ids + (size_t)i * ID_BYTES, ID_BYTES);
		memset(wire->bases[at], 0, ID_BYTES);
		if (bases)
			memcpy(wire->bases[at], bases + (size_t)i * ID_BYTES, ID_BYTES);
		wire->types[at] = type;
	}
}

static void receive_done(struct io_op *op)
{
	container_of(op, struct wire, receive.op)->ended = true;
}

static const char *send(struct taken *taken)
{
	struct wire *wire = &w.wires[taken->copy];
	struct admin_op op;
	char name[SNAP_NAME_ROOM];
	if (wire->active || !taken->there)
		return NULL;
	memset(wire, 0, sizeof *wire);
	wire->receive.op.done = receive_done;
	wire->receive.want = want;
	snprintf(wire->receive.host, sizeof wire->receive.host, "h1");
	snprintf(name, sizeof name, "%s@%s", originals[taken->copy], taken->name);
	store_snap_seal(w.from.store, from_op(&op), name);
	const char *failed = from_must(&op);
	if (failed)
		return failed;
	if (store_offer(w.from.store, name, &wire->receive.offer) < 0)
		FAIL("%s cannot be offered", name);
	taken->epoch = wire->receive.offer.epoch;
	taken->vseq = wire->receive.offer.vseq;
	taken->taken_ns = wire->receive.offer.created_wall_ns;
	wire->receive.offer.beside = !taken->cut && w.volumes[taken->copy] && pick(4) == 0;
	wire->taken = taken;
	wire->active = true;
	enter(&w.to);
	store_receive(w.to.store, &wire->receive);
	return NULL;
}

const char *send_one(unsigned copy)
{
	size_t skip = pick(3) ? 0 : pick(12);
	for (size_t i = w.taken_count; i-- > 0;)
		if (w.taken[i].copy == copy && w.taken[i].there && skip-- == 0)
			return send(&w.taken[i]);
	return NULL;
}
