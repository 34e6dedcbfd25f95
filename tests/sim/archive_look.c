/* SPDX-License-Identifier: Apache-2.0 */
/* What comes, goes and changes at the receiver, judged after each of its events, see archive.h. */
#include "tests/sim/archive.h"

#define CRASH_DOUBT_NS (5 * NSEC_PER_SEC) /* what was seen before a crash may not be durable */

const char *full_name(const struct item *item)
{
	static char name[SNAP_NAME_ROOM];
	snprintf(name, sizeof name, "%s@%s", copies[item->copy], item->name);
	return name;
}

/* Behind what was just seen, sometimes. */
static void crash_soon(void)
{
	if (!w.crash_in && !w.ending && pick(15) == 0)
		w.crash_in = 1 + (unsigned)pick(4);
}

void change_swap(struct change *change)
{
	struct law *law = &w.law;
	unsigned policy;
	switch (change->kind) {
	case CHANGE_RULES:
		for (unsigned i = 0; i < POLICY_KEEPS; i++) {
			uint32_t keep = law->keep[change->policy - 1][i];
			law->keep[change->policy - 1][i] = change->keep[i];
			change->keep[i] = keep;
		}
		break;
	case CHANGE_ATTACH:
		policy = law->policy[change->copy];
		law->policy[change->copy] = change->policy;
		change->policy = policy;
		break;
	case CHANGE_HOLD:
	case CHANGE_RELEASE:
		change->item->held = !change->item->held;
		break;
	case CHANGE_DELETE:
		change->item->here = !change->item->here;
		break;
	default:
		break;
	}
}

static bool all_go(unsigned copy, const bool gone[ITEMS_MAX])
{
	static bool goes[ITEMS_MAX];
	enter(&w.to);
	archive_goes(w.items, w.item_count, &w.law, copy, env_wall_ns(w.to.env), goes);
	for (size_t i = 0; i < w.item_count; i++)
		if (gone[i] && !goes[i])
			return false;
	return true;
}

/* These went at once, and no person did it. */
static const char *judge(unsigned copy, const bool gone[ITEMS_MAX])
{
	size_t count = 0, first = 0;
	bool right = all_go(copy, gone);
	if (!right && w.change.kind && !w.change.done) { /* it came before */
		change_swap(&w.change);
		right = all_go(copy, gone);
		change_swap(&w.change);
	}
	for (size_t i = w.item_count; i-- > 0;)
		if (gone[i]) {
			first = i;
			count++;
			w.items[i].here = false;
			w.items[i].gone_ns = env_now_ns(w.to.env);
		}
	if (!right)
		FAIL("%s went early (one of %zu)", full_name(&w.items[first]), count);
	totals.removed += count;
	crash_soon();
	totals.groups += count > 1;
	totals.removed_amid += w.wires[copy].active;
	totals.raced += w.change.kind != CHANGE_NONE;
	return NULL;
}

static struct item *item_of(uint32_t number)
{
	for (size_t i = w.item_count; i-- > 0;)
		if (w.items[i].number == number)
			return &w.items[i];
	return NULL;
}

static const char *came(const struct snapshot_brief *brief, unsigned copy)
{
	struct taken *taken = w.wires[copy].taken;
	bool making = w.change.kind == CHANGE_TAKE && w.change.copy == copy &&
		      strcmp(w.change.name, brief->name) == 0;
	bool cut = brief->policy == POLICY_CUT;
	if (!taken || strcmp(taken->name, brief->name) != 0)
		taken = NULL;
	if (!taken && !making && !cut)
		FAIL("%s@%s came from nowhere", copies[copy], brief->name);
	if (taken && (taken->epoch != brief->epoch || taken->vseq != brief->vseq ||
		      taken->taken_ns != brief->created_wall_ns))
		FAIL("%s@%s is not what was offered", copies[copy], brief->name);
	assert(w.item_count < ITEMS_MAX);
	struct item *item = &w.items[w.item_count++];
	*item = (struct item){.number = brief->number,
			      .copy = copy,
			      .taken = taken,
			      .taken_ns = brief->created_wall_ns,
			      .epoch = brief->epoch,
			      .vseq = brief->vseq,
			      .here = true,
			      .cut = cut};
	snprintf(item->name, sizeof item->name, "%s", brief->name);
	w.came_ns = env_now_ns(w.to.env);
	if (making) {
		w.change.done = true;
		w.change.item = item;
	}
	crash_soon();
	w.wires[copy].came |= taken != NULL;
	totals.received += taken != NULL;
	totals.ahead += taken && taken->taken_ns > env_wall_ns(w.to.env) + HOUR_NS;
	for (size_t i = 0; taken && i < w.item_count; i++)
		if (w.items[i].here && w.items[i].copy == copy &&
		    (w.items[i].epoch > item->epoch ||
		     (w.items[i].epoch == item->epoch && w.items[i].vseq > item->vseq))) {
			totals.late++;
			break;
		}
	return NULL;
}

/* Of a volume's number; COPIES: it is no copy. */
static unsigned copy_of(uint32_t number)
{
	struct volume_info volume;
	for (unsigned i = 0; i < COPIES; i++)
		if (w.volumes[i] == number)
			return i;
	if (store_volume_info(w.to.store, number, &volume) == 0)
		for (unsigned i = 0; i < COPIES; i++)
			if (strcmp(volume.name, copies[i]) == 0) {
				w.volumes[i] = number;
				return i;
			}
	return COPIES;
}

static const char *look_come(const struct snapshot_brief *briefs, size_t count, bool opened,
			     bool seen[ITEMS_MAX])
{
	for (size_t i = 0; i < count; i++) {
		unsigned copy = copy_of(briefs[i].volume_number);
		struct item *item = copy == COPIES ? NULL : item_of(briefs[i].number);
		const char *failed = NULL;
		if (copy == COPIES)
			continue;
		if (!item) {
			failed = came(&briefs[i], copy);
			item = &w.items[w.item_count - 1];
		} else if (!item->here) {
			if (w.change.kind == CHANGE_RESTORE && w.change.item == item)
				w.change.done = true;
			else if (opened && item->gone_ns + CRASH_DOUBT_NS >= w.crashed_ns)
				totals.came_back++;
			else
				FAIL("%s is back", full_name(item));
			item->here = true;
			snprintf(item->name, sizeof item->name, "%s", briefs[i].name);
		}
		if (failed)
			return failed;
		if (strcmp(item->name, briefs[i].name) != 0)
			FAIL("%s is called %s now", full_name(item), briefs[i].name);
		if ((briefs[i].hold != NULL) != item->held) {
			if ((w.change.kind != CHANGE_HOLD && w.change.kind != CHANGE_RELEASE) ||
			    w.change.item != item || (w.change.done && !opened))
				FAIL("%s is %sheld", full_name(item), item->held ? "not " : "");
			change_swap(&w.change);
			w.change.done = true;
		}
		seen[item - w.items] = true;
	}
	return NULL;
}

static const char *look_gone(bool opened, const bool seen[ITEMS_MAX])
{
	static bool gone[COPIES][ITEMS_MAX];
	bool some[COPIES] = {false};
	memset(gone, 0, sizeof gone);
	for (size_t i = 0; i < w.item_count; i++) {
		struct item *item = &w.items[i];
		if (!item->here || seen[i])
			continue;
		if (w.change.kind == CHANGE_DELETE && w.change.item == item && !w.change.done) {
			change_swap(&w.change);
			w.change.done = true;
			item->gone_ns = env_now_ns(w.to.env);
		} else if (item->cut || (opened && item->taken && !item->sure) ||
			   (opened && w.change.item == item &&
			    (w.change.kind == CHANGE_TAKE || w.change.kind == CHANGE_RESTORE))) {
			if (item->used)
				FAIL("%s went while it is read", full_name(item));
			item->here = false;
			if (opened && !(w.change.kind == CHANGE_RESTORE && w.change.item == item)) {
				totals.undone++;
				item->number = 0; /* another one may get it */
			}
		} else {
			some[item->copy] = gone[item->copy][i] = true;
		}
	}
	for (unsigned copy = 0; copy < COPIES; copy++) {
		const char *failed = some[copy] ? judge(copy, gone[copy]) : NULL;
		if (failed)
			return failed;
	}
	return NULL;
}

const char *archive_look(bool opened)
{
	static bool seen[ITEMS_MAX];
	struct snapshot_brief *briefs;
	size_t count;
	enter(&w.to);
	assert(store_snapshot_briefs(w.to.store, &briefs, &count) == 0);
	memset(seen, 0, sizeof seen);
	const char *failed = look_come(briefs, count, opened, seen);
	free(briefs);
	return failed ? failed : look_gone(opened, seen);
}
