/* SPDX-License-Identifier: Apache-2.0 */
/* The sender: writes, takes snapshots, deletes them, goes on from a backup. What it does costs the
 * receiver no time. */
#include "tests/sim/archive.h"

#include <time.h>

static uint8_t data[CHUNK_BYTES] __attribute__((aligned(4096)));

const char *from_must(struct admin_op *op)
{
	if (env_wait(w.from.env, &op->op) < 0)
		FAIL("the sender refuses: %s", op->sentence);
	return NULL;
}
struct admin_op *from_op(struct admin_op *op)
{
	enter(&w.from);
	*op = (struct admin_op){0};
	env_wait_prepare(&op->op);
	return op;
}

void from_follow(void)
{
	uint64_t now = env_now_ns(w.to.env), behind = env_now_ns(w.from.env);
	if (behind < now)
		sim_clock_move(w.from.sim, now - behind, 0);
}

static const char *from_write(unsigned copy)
{
	struct view *view;
	enter(&w.from);
	assert(store_view_open(w.from.store, originals[copy], &view) == 0);
	for (unsigned n = 1 + (unsigned)pick(4); n; n--) {
		unsigned slot = (unsigned)pick(SLOTS);
		uint64_t value = ++w.next_value;
		for (unsigned i = 0; i < CHUNK_BYTES; i += 8)
			memcpy(data + i, &(uint64_t){value}, 8);
		struct store_request request = {.view = view,
						.kind = REQUEST_WRITE,
						.offset_bytes = slot_offset(slot),
						.length_bytes = CHUNK_BYTES,
						.data = data};
		env_wait_prepare(&request.op);
		store_submit(&request);
		if (env_wait(w.from.env, &request.op) < 0)
			FAIL("the sender takes no write");
		w.values[copy][slot] = value;
	}
	store_view_close(view);
	return NULL;
}

static void name_choose(char name[NAME_ROOM], bool *ret_cut)
{
	unsigned kind = (unsigned)pick(14);
	time_t at = (time_t)(env_wall_ns(w.from.env) / NSEC_PER_SEC);
	struct tm tm;
	*ret_cut = kind == 0;
	if (kind == 0)
		snprintf(name, NAME_ROOM, "cut-%zu", w.taken_count);
	else if (kind == 1)
		snprintf(name, NAME_ROOM, "mine-%zu", w.taken_count);
	else if (kind == 2)
		snprintf(name, NAME_ROOM, "records-19%02zu1231-235959Z", w.taken_count % 100);
	else if (kind == 3) /* of a day that was long ago, or is to come */
		at += pick(2) ? 3 * 86400 : -3 * 86400;
	else if (kind == 4) /* it waited */
		at -= (time_t)pick(20 * 3600);
	if (kind >= 3)
		strftime(name, NAME_ROOM, pick(8) ? "daily-%Y%m%d-%H%M%SZ" : "x-y-%Y%m%d-%H%M%SZ",
			 gmtime_r(&at, &tm));
}

const char *from_take(unsigned copy)
{
	struct admin_op op;
	struct taken *taken = &w.taken[w.taken_count];
	char name[SNAP_NAME_ROOM];
	const char *names[] = {name};
	const char *failed = pick(6) ? from_write(copy) : NULL;
	if (failed || w.taken_count == TAKEN_MAX)
		return failed;
	*taken = (struct taken){.copy = copy, .there = true};
	name_choose(taken->name, &taken->cut);
	snprintf(name, sizeof name, "%s@%s", originals[copy], taken->name);
	store_policy_snap(w.from.store, from_op(&op), names, 1, taken->cut ? POLICY_CUT : 0);
	if (env_wait(w.from.env, &op.op) < 0)
		return NULL; /* the name is taken: a clock that went back */
	memcpy(taken->values, w.values[copy], sizeof taken->values);
	w.taken_count++;
	totals.taken++;
	totals.cuts += taken->cut;
	return NULL;
}

const char *from_delete(struct taken *taken)
{
	struct admin_op op;
	char name[SNAP_NAME_ROOM];
	snprintf(name, sizeof name, "%s@%s", originals[taken->copy], taken->name);
	store_snap_delete(w.from.store, from_op(&op), name);
	taken->there = false;
	totals.sender_deleted++;
	return from_must(&op);
}

static void from_save(struct saved *saved)
{
	sim_backup_free(saved->disk);
	saved->disk = sim_backup_new(w.from.sim);
	saved->count = w.taken_count;
	for (size_t i = 0; i < w.taken_count; i++)
		saved->there[i] = w.taken[i].there;
	memcpy(saved->values, w.values, sizeof w.values);
}

static void from_restore(struct saved *saved)
{
	sim_backup_restore(w.from.sim, saved->disk);
	for (size_t i = 0; i < w.taken_count; i++)
		w.taken[i].there = i < saved->count && saved->there[i];
	memcpy(w.values, saved->values, sizeof w.values);
}

const char *from_restart(void)
{
	for (unsigned i = 0; i < COPIES; i++) {
		wire_cut(&w.wires[i]);
		while (w.wires[i].active)
			if (archive_step())
				return w.failed;
	}
	enter(&w.from);
	if (store_close(w.from.store) < 0)
		FAIL("the sender cannot be closed");
	sim_process_end(w.from.sim);
	if (w.present.disk) {
		if (pick(2)) {
			from_restore(&w.present);
			sim_backup_free(w.present.disk);
			w.present.disk = NULL;
		}
	} else if (w.backup.disk && pick(3) == 0) {
		from_save(&w.present);
		from_restore(&w.backup);
		totals.sender_restored++;
	} else if (!w.backup.disk || pick(4) == 0) {
		from_save(&w.backup);
	}
	return open_end(&w.from);
}
