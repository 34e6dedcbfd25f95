/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Long work: a list of jobs that go on in small steps between the store's other business, and the
 * pieces that they are made of: walks over maps, sets of ids, roots.
 */
#include "storage/store/work.h"

#include "storage/store/behind.h"
#include "storage/store/store_int.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WALK_SLICE 4096u /* slots looked at before the loop turns */

struct works {
	struct work *head;
	bool kicking, again;
};

int work_init(struct store *store)
{
	store->works = calloc(1, sizeof(*store->works));
	return store->works ? 0 : -ENOMEM;
}

void work_exit(struct store *store)
{
	if (!store->works)
		return;
	store->works->kicking = true;
	while (store->works->head) { /* only when the env has crashed */
		struct work *work = store->works->head;
		store->works->head = work->next;
		work->done(work);
	}
	free(store->works);
	store->works = NULL;
}

bool work_idle(const struct store *store)
{
	return !store->works->head;
}

/* ---- running ---- */

static void work_wake(struct wait *wait)
{
	struct work *work = container_of(wait, struct work, wait);
	work->waits = false;
	work_kick(work->store);
}

static void work_slice(struct io_op *op)
{
	struct work *work = container_of(op, struct work, slice_op);
	work->slicing = false;
	work_kick(work->store);
}

int work_waits(struct work *work)
{
	work->waits = true;
	return WAITING;
}

static void work_end(struct work *work, int res)
{
	struct store *store = work->store;
	struct store_work *public = work->public;
	for (struct work **at = &store->works->head; *at; at = &(*at)->next)
		if (*at == work) {
			*at = work->next;
			break;
		}
	if (res < 0 && !public->sentence[0])
		snprintf(public->sentence, SENTENCE_BYTES, "The work stopped: %s.",
			 vs_strerror(res));
	work->done(work);
	env_complete(store->env, &public->op, res);
}

static void work_run(struct work *work)
{
	int res = work->public->cancel || work->store->closing ? -VS_ECANCELLED : 0;
	if (work->waits || work->slicing)
		return;
	if (res == 0 || work->must_finish(work))
		res = work->step(work);
	if (res == WALK_MORE) {
		work->slicing = true;
		work->slice_op.done = work_slice;
		env_complete(work->store->env, &work->slice_op, 0);
	} else if (res != WAITING) {
		work_end(work, res);
	}
}

void work_kick(struct store *store)
{
	struct works *works = store->works;
	if (!works)
		return;
	works->again = true;
	if (works->kicking)
		return;
	works->kicking = true;
	while (works->again) {
		works->again = false;
		for (struct work *work = works->head, *next; work; work = next) {
			next = work->next;
			work_run(work);
		}
	}
	works->kicking = false;
}

static bool never(const struct work *work)
{
	return false;
}

void work_start(struct store *store, struct work *work, struct store_work *public)
{
	public->sentence[0] = 0;
	public->progress = public->total = 0;
	public->freed_bytes = public->chunks = public->differing_bytes = 0;
	public->damaged = public->damaged_files = public->mended = 0;
	if (!work) {
		snprintf(public->sentence, SENTENCE_BYTES, "There is no memory for this work.");
		env_complete(store->env, &public->op, -ENOMEM);
		return;
	}
	work->store = store;
	work->public = public;
	work->wait.wake = work_wake;
	if (!work->must_finish)
		work->must_finish = never;
	struct work **at = &store->works->head;
	while (*at)
		at = &(*at)->next;
	*at = work;
	work->slicing = true; /* never inside the call */
	work->slice_op.done = work_slice;
	env_complete(store->env, &work->slice_op, 0);
}

void work_report(struct work *work, const char *format, ...)
{
	char line[SENTENCE_BYTES];
	va_list args;
	if (!work->public->report)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	work->public->report(work->public, line);
}

int work_refuse(struct work *work, int code, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(work->public->sentence, SENTENCE_BYTES, format, args);
	va_end(args);
	return code;
}

void works_mark(const struct store *store)
{
	for (const struct work *work = store->works->head; work; work = work->next)
		if (work->mark)
			work->mark(work);
}

/* ---- walks ---- */

void walk_start(struct walk *walk, const struct id *top)
{
	walk->active = !id_is_null(top) && walk->enter(walk, top);
	walk->depth = 0;
	walk->path[0] = *top;
	walk->slot[0] = 0;
}

static uint64_t walk_chunk_no(const struct walk *walk)
{
	uint64_t chunk_no = 0;
	for (unsigned i = 0; i < MAP_LEVELS; i++)
		chunk_no = chunk_no << 8 | (walk->slot[i] & 0xff);
	return chunk_no;
}

int walk_step(struct walk *walk, struct wait *wait)
{
	unsigned looked = 0;
	while (walk->active) {
		int res = 0;
		unsigned depth = walk->depth;
		const struct id *slots = map_node(walk->store, &walk->path[depth], wait, &res);
		if (!slots)
			return res;
		while (walk->slot[depth] < NODE_SLOTS && walk->depth == depth) {
			const struct id *id = &slots[walk->slot[depth]];
			if (looked++ == WALK_SLICE)
				return WALK_MORE;
			if (!id_is_null(id) && depth == MAP_LEVELS - 1) {
				walk->chunk_no = walk_chunk_no(walk);
				res = walk->chunk(walk, id);
				if (res)
					return res;
			} else if (!id_is_null(id) && walk->enter(walk, id)) {
				walk->path[++walk->depth] = *id;
				walk->slot[walk->depth] = 0;
				continue;
			}
			walk->slot[depth]++;
		}
		if (walk->depth > depth)
			continue;
		if (depth == 0)
			walk->active = false;
		else
			walk->slot[--walk->depth]++;
	}
	return 0;
}

/* ---- sets ---- */

static bool id_set_put(struct id_set *set, const uint64_t key[2])
{
	size_t i = key[0] & (set->room - 1);
	while (set->at[i][0] | set->at[i][1]) {
		if (set->at[i][0] == key[0] && set->at[i][1] == key[1])
			return false;
		i = (i + 1) & (set->room - 1);
	}
	set->at[i][0] = key[0];
	set->at[i][1] = key[1];
	return true;
}

int id_set_add(struct id_set *set, const struct id *id)
{
	if (2 * set->count >= set->room) {
		struct id_set larger = {.room = set->room ? 2 * set->room : 4096,
					.count = set->count};
		larger.at = calloc(larger.room, sizeof(*larger.at));
		if (!larger.at)
			return -ENOMEM;
		for (size_t i = 0; i < set->room; i++)
			if (set->at[i][0] | set->at[i][1])
				id_set_put(&larger, set->at[i]);
		free(set->at);
		*set = larger;
	}
	uint64_t key[2] = {id_word(id, 0), id_word(id, 1)};
	int added = id_set_put(set, key);
	set->count += (size_t)added;
	return added;
}

void id_set_free(struct id_set *set)
{
	free(set->at);
	*set = (struct id_set){0};
}

/* ---- roots ---- */

int roots_collect(struct store *store, struct root **ret_roots, size_t *ret_count)
{
	size_t count = 0, pins = 0;
	for (const struct work *work = store->works->head; work; work = work->next)
		pins += work->pin_count;
	struct root *roots =
		calloc(store->volume_count + store->snapshot_count + pins + 1, sizeof(*roots));
	if (!roots)
		return -ENOMEM;
	for (const struct work *work = store->works->head; work; work = work->next)
		for (unsigned i = 0; i < work->pin_count; i++) {
			roots[count].top = work->pins[i];
			snprintf(roots[count++].name, SNAP_NAME_ROOM, "what is being read");
		}
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		roots[count].top = volume->top;
		roots[count].volume = volume->number;
		roots[count].trash = volume->state == OBJECT_TRASH;
		snprintf(roots[count++].name, SNAP_NAME_ROOM, "%s", volume->name);
	}
	for (uint32_t i = 0; i < store->snapshot_count; i++) {
		const struct snapshot *snapshot = store->snapshots[i];
		if (!snapshot->sealed)
			continue; /* its volume's map and layers */
		const struct volume *volume = volume_by_number(store, snapshot->volume);
		roots[count].top = snapshot->top;
		roots[count].volume = volume->number;
		roots[count].snapshot = snapshot->number;
		roots[count].trash =
			snapshot->state == OBJECT_TRASH || volume->state == OBJECT_TRASH;
		snprintf(roots[count++].name, SNAP_NAME_ROOM, "%s@%s", volume->name,
			 snapshot->name);
	}
	*ret_roots = roots;
	*ret_count = count;
	return 0;
}

static int root_of(struct work *work, struct volume *volume, const struct snapshot *snapshot,
		   const char *name, struct id *ret_top, uint64_t *ret_size_bytes)
{
	struct store *store = work->store;
	const struct layer *active = volume_active(volume);
	bool clean = volume->layer_count == 1 && !active->entry_count && !active->range_count;
	if (snapshot ? snapshot->sealed : clean) {
		*ret_top = snapshot ? snapshot->top : volume->top;
		*ret_size_bytes = snapshot ? snapshot->size_bytes : volume->size_bytes;
		assert(work->pin_count < WORK_PINS_MAX);
		work->pins[work->pin_count++] = *ret_top;
		return 0;
	}
	if (store->read_only) {
		*ret_top = volume->top; /* what is in the map; the rest is in the log */
		*ret_size_bytes = volume->size_bytes;
		return 0;
	}
	if (fold_error(store) < 0 && !fold_running(store))
		return work_refuse(work, fold_error(store), "'%s' could not be folded: %s.", name,
				   vs_strerror(fold_error(store)));
	volume->fold_wanted = true;
	fold_kick(store);
	return WAITING;
}

int work_root(struct work *work, const char *name, struct id *ret_top, uint64_t *ret_size_bytes)
{
	const struct store *store = work->store;
	const struct snapshot *snapshot = snapshot_by_name(store, name);
	struct volume *volume =
		snapshot ? volume_by_number(store, snapshot->volume) : volume_by_name(store, name);
	if (!volume)
		return work_refuse(work, -ENOENT, "There is no volume or snapshot named '%s'.",
				   name);
	return root_of(work, volume, snapshot, name, ret_top, ret_size_bytes);
}

int work_volume_root(struct work *work, struct volume *volume, struct id *ret_top)
{
	uint64_t size_bytes;
	return root_of(work, volume, NULL, volume->name, ret_top, &size_bytes);
}

/* ---- fold, as a work ---- */

struct fold_work {
	struct work work;
	char name[SNAP_NAME_ROOM];
	uint64_t (*until)[2]; /* {volume, its layers up to this one}, what there was at the start */
	size_t count;
	bool started;
};

static bool fold_work_started(struct fold_work *fold)
{
	struct store *store = fold->work.store;
	fold->started = true;
	fold->until = calloc(store->volume_count + 1ull, sizeof(*fold->until));
	if (!fold->until)
		return false;
	for (uint32_t i = 0; i < store->volume_count; i++) {
		const struct volume *volume = store->volumes[i];
		if (fold->name[0] && strcmp(volume->name, fold->name) != 0)
			continue;
		fold->until[fold->count][0] = volume->number;
		fold->until[fold->count++][1] = volume_active(volume)->number;
	}
	return true;
}

static int fold_work_step(struct work *work)
{
	struct fold_work *fold = container_of(work, struct fold_work, work);
	struct store *store = work->store;
	if (store->read_only || store->failed)
		return -EROFS;
	if (fold->name[0] && !volume_by_name(store, fold->name))
		return work_refuse(work, -ENOENT, "There is no volume named '%s'.", fold->name);
	if (!fold->started && !fold_work_started(fold))
		return -ENOMEM;
	bool all = true;
	work->public->total = fold->count;
	work->public->progress = 0;
	for (size_t i = 0; i < fold->count; i++) {
		struct volume *volume = volume_by_number(store, (uint32_t)fold->until[i][0]);
		bool empty = !volume || volume->layers[0]->number > fold->until[i][1] ||
			     (volume->layer_count == 1 && !volume->layers[0]->entry_count &&
			      !volume->layers[0]->range_count);
		work->public->progress += empty;
		if (!empty)
			volume->fold_wanted = true;
		all = all && empty;
	}
	if (all)
		return 0;
	if (fold_error(store) < 0 && !fold_running(store))
		return fold_error(store);
	fold_kick(store);
	return WAITING;
}

static void fold_work_done(struct work *work)
{
	struct fold_work *fold = container_of(work, struct fold_work, work);
	free(fold->until);
	free(fold);
}

void store_fold(struct store *store, struct store_work *public, const char *name)
{
	struct fold_work *fold = calloc(1, sizeof(*fold));
	if (fold) {
		fold->work.step = fold_work_step;
		fold->work.done = fold_work_done;
		snprintf(fold->name, sizeof fold->name, "%s", name ? name : "");
	}
	work_start(store, fold ? &fold->work : NULL, public);
}
