/* SPDX-License-Identifier: Apache-2.0 */
/* Persons at the receiver: what they change, and what they read, see archive.h. */
#include "tests/sim/archive.h"

static uint8_t data[CHUNK_BYTES] __attribute__((aligned(4096)));

/* ---- persons at the receiver ---- */

struct item *item_pick(bool here)
{
	for (unsigned try = 0; try < 40 && w.item_count; try++) {
		size_t back = pick(min_u64(w.item_count, 60)) + 1;
		struct item *item = &w.items[w.item_count - back];
		if (item->here == here && !item->cut)
			return item;
	}
	return NULL;
}

static const char *change_ended(const struct admin_op *op)
{
	struct change *change = &w.change;
	if (op->op.res < 0)
		change->done = true; /* nothing of it */
	if (!change->done && (change->kind == CHANGE_RULES || change->kind == CHANGE_ATTACH)) {
		change_swap(change);
		change->done = true;
		policies_changed(w.policies);
	} else {
		w.quiet_needs_telling = true;
	}
	if (!change->done)
		FAIL("a change (%d) was answered, and is not there", (int)change->kind);
	change->kind = CHANGE_NONE;
	return NULL;
}

static void change_begin(struct admin_op *op, struct change *change)
{
	struct store *store = w.to.store;
	struct policy_rules rules = {0};
	const char *name = change->item ? full_name(change->item) : NULL;
	char own[SNAP_NAME_ROOM];
	op_begin(op);
	switch (change->kind) {
	case CHANGE_RULES:
		memcpy(rules.keep, change->keep, sizeof rules.keep);
		store_policy_set(store, op, policy_names[change->policy - 1], &rules);
		break;
	case CHANGE_ATTACH:
		store_policy_attach(store, op, copies[change->copy],
				    change->policy ? policy_names[change->policy - 1] : "");
		break;
	case CHANGE_HOLD:
		store_snap_hold(store, op, name, "audit");
		break;
	case CHANGE_RELEASE:
		store_snap_release(store, op, name, "audit");
		break;
	case CHANGE_DELETE:
		store_snap_delete(store, op, name);
		break;
	case CHANGE_RESTORE:
		store_trash_restore(store, op, change->item->number,
				    change->name[0] ? change->name : NULL);
		break;
	default:
		snprintf(own, sizeof own, "%s@%s", copies[change->copy], change->name);
		name = own;
		store_snap_create(store, op, &name, 1);
	}
}

static void change_choose(struct change *change)
{
	static const enum change_kind kinds[] = {
		CHANGE_RULES,  CHANGE_RULES,   CHANGE_RULES,   CHANGE_ATTACH,  CHANGE_ATTACH,
		CHANGE_ATTACH, CHANGE_HOLD,    CHANGE_HOLD,    CHANGE_RELEASE, CHANGE_DELETE,
		CHANGE_DELETE, CHANGE_RESTORE, CHANGE_RESTORE, CHANGE_TAKE};
	*change = (struct change){.kind = kinds[pick(sizeof kinds / sizeof *kinds)],
				  .copy = (unsigned)pick(COPIES)};
	enum change_kind kind = change->kind;
	change->policy = (unsigned)pick(POLICIES) + 1;
	if (kind == CHANGE_ATTACH && pick(4) == 0)
		change->policy = 0;
	for (unsigned i = 0; kind == CHANGE_RULES && i < POLICY_KEEPS; i++)
		change->keep[i] = pick(3) ? 0 : (uint32_t)pick(4);
	if (kind == CHANGE_HOLD || kind == CHANGE_RELEASE || kind == CHANGE_DELETE)
		change->item = item_pick(true);
	if (kind == CHANGE_RESTORE)
		change->item = item_pick(false);
	if (kind == CHANGE_TAKE || (kind == CHANGE_RESTORE && pick(2)))
		snprintf(change->name, sizeof change->name, "hand-%zu-%u", w.item_count,
			 (unsigned)pick(1000));
	/* What would change nothing is left out, and a copy that is not there. */
	if ((kind == CHANGE_HOLD && change->item && change->item->held) ||
	    (kind == CHANGE_RELEASE && (!change->item || !change->item->held)) ||
	    ((kind == CHANGE_HOLD || kind == CHANGE_DELETE || kind == CHANGE_RESTORE) &&
	     !change->item) ||
	    ((kind == CHANGE_ATTACH || kind == CHANGE_TAKE) && !w.volumes[change->copy]))
		change->kind = CHANGE_NONE;
}

const char *change_one(void)
{
	static struct admin_op op;
	change_choose(&w.change);
	if (w.change.kind == CHANGE_NONE)
		return NULL;
	if (pick(2)) /* the rules are carried out at the same time */
		policies_changed(w.policies);
	if (pick(12) == 0)
		w.crash_in = 1 + (unsigned)pick(30);
	enum change_kind kind = w.change.kind;
	change_begin(&op, &w.change);
	if (!op_wait())
		return w.failed;
	totals.persons += op.op.res == 0;
	totals.held += op.op.res == 0 && kind == CHANGE_HOLD;
	totals.deleted += op.op.res == 0 && kind == CHANGE_DELETE;
	totals.restored += op.op.res == 0 && kind == CHANGE_RESTORE;
	return change_ended(&op);
}

/* ---- what is there reads as it was ---- */

static const char *item_read(const struct item *item, struct view *view)
{
	for (unsigned slot = 0; slot < SLOTS; slot++) {
		static struct store_request request;
		uint64_t is[2];
		enter(&w.to);
		request = (struct store_request){.op.done = op_done,
						 .view = view,
						 .kind = REQUEST_READ,
						 .offset_bytes = slot_offset(slot),
						 .length_bytes = CHUNK_BYTES,
						 .data = data};
		op_start();
		store_submit(&request);
		if (!op_wait())
			return w.failed;
		if (request.op.res < 0)
			FAIL("%s cannot be read", full_name(item));
		memcpy(&is[0], data, 8);
		memcpy(&is[1], data + CHUNK_BYTES - 8, 8);
		if (is[0] != item->taken->values[slot] || is[1] != item->taken->values[slot])
			FAIL("%s does not hold what it held at the sender", full_name(item));
	}
	totals.read++;
	return NULL;
}

void view_close(void)
{
	if (!w.view)
		return;
	enter(&w.to);
	store_view_close(w.view);
	w.view = NULL;
	w.viewed->used = false;
	w.viewed = NULL;
	w.quiet_needs_telling = true;
}

const char *read_one(struct item *item, unsigned rounds)
{
	view_close();
	enter(&w.to);
	int res = store_view_open(w.to.store, full_name(item), &w.view);
	if (res < 0) {
		w.view = NULL;
		if (rounds) /* it is just being removed */
			return NULL;
		FAIL("%s cannot be opened: %s", full_name(item), vs_strerror(res));
	}
	w.viewed = item;
	w.viewed_rounds = rounds;
	item->used = true;
	return item_read(item, w.view);
}
