/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mandates: a primary answers only while it has reason to think that nobody else became it.
 *
 *     primary  asks at t ------------ given at u -------- answers until t + MANDATE_NS
 *     follower                   asked at u' >= t: gives, and takes no other side until
 *                                u' + MANDATE_NS + what clocks may differ in their rate
 *
 * Keeps true: of a volume with followers in step, nothing is answered unless each of them has given
 * a mandate that has not passed, or could not be reached when this host, awake, tried just now; and
 * nothing at all once one of them says that it is the primary. Where three or more vote, a majority
 * of the voters must have given one, and absence is no excuse (quorum.c). No copy is promoted
 * before each mandate that was given for it has passed. So an old primary that was stopped, for
 * however long, and at whatever place, answers no question that came to it after a promotion unless
 * it has looked for its followers since, and found nobody. Each side reads its own clock of passing
 * time only; the time of day decides nothing. What was given is not kept on a disk: for MANDATE_NS
 * after an opening, one is taken to have been given to whoever it may be.
 *
 * When somebody removes the follower that is the primary now, the volume is answered again, to who
 * opens it from then on: nothing that was asked before, a flush least of all, was done there.
 *
 * What it does not do: see that a clock stands still, as in a virtual machine that is paused; and
 * tell a follower that is dead from one that is cut off and was promoted: two hosts alone cannot
 * (README of storage/repl).
 */
#include "storage/store/vote.h"

#include "storage/store/replica.h"
#include "storage/store/store_int.h"
#include "storage/store/tap.h"

#include <stdlib.h>

#define GIVEN_MAX VOLUMES_MAX
/* A voter that has just started says nothing for so long: an owner whose connection to it ended, or
 * is silent (repl/mandate.c, 4 s), has made another by then, and told it its newest word. It is
 * less than what a mandate lasts: the owner is answered by the one that it has. */
#define LISTENS_NS (5 * NSEC_PER_SEC)
#define LOOK_NS (50 * NSEC_PER_MSEC) /* while one waits: is the store closing? */

struct given {
	uint8_t uuid[16];
	uint64_t until_ns;
	bool withheld; /* it is being promoted here */
};
struct mandates {
	struct given *given;
	uint32_t count, room;
	uint64_t opened_ns;
};

/* By our clock: the other one may be slower by a sixteenth, which no clock is. */
static uint64_t surely_ns(uint64_t duration_ns)
{
	return duration_ns + duration_ns / 16;
}

int mandate_init(struct store *store)
{
	store->mandates = calloc(1, sizeof(*store->mandates));
	if (!store->mandates)
		return -ENOMEM;
	store->mandates->opened_ns = env_now_ns(store->env);
	return 0;
}

void mandate_exit(struct store *store)
{
	if (store->mandates)
		free(store->mandates->given);
	free(store->mandates);
	store->mandates = NULL;
}

/* ---- the primary's side ---- */

static uint64_t stands_until_ns(const struct standing *standing)
{
	return standing->fenced ? 0 : max_u64(standing->given_ns, standing->absent_ns);
}

void mandate_look(struct store *store, struct volume *volume)
{
	volume->mandate_ns = UINT64_MAX;
	if (volume->ballot && (!quorum_owns(store, volume->ballot) ||
			       volume->ballot->word.voter_count >= VOTERS_DECIDE)) {
		volume->mandate_ns = quorum_until_ns(store, volume->ballot);
		return;
	}
	for (uint32_t i = 0; i < store->follower_count; i++) {
		const struct follower *follower = &store->followers[i];
		if (follower->volume == volume->number && follower->rules.in_step)
			volume->mandate_ns =
				min_u64(volume->mandate_ns, stands_until_ns(&follower->standing));
	}
}

void store_mandate_given(struct store *store, uint32_t number, const char *host, uint64_t until_ns)
{
	struct volume *volume = volume_by_number(store, number);
	struct follower *follower = follower_of(store, number, host);
	if (!volume)
		return;
	if (follower)
		follower->standing =
			(struct standing){.given_ns = until_ns, .fenced = until_ns == 0};
	if (volume->ballot)
		quorum_given(volume->ballot, host, until_ns);
	mandate_look(store, volume);
	if (volume->ballot) /* its owner may have listened for long enough by now */
		gate_look(store);
}

void store_mandate_absent(struct store *store, uint32_t number, const char *host, uint64_t until_ns)
{
	struct volume *volume = volume_by_number(store, number);
	struct follower *follower = follower_of(store, number, host);
	if (!volume || !follower)
		return;
	follower->standing.absent_ns = until_ns;
	mandate_look(store, volume);
}

bool mandate_stands(const struct store *store, const struct volume *volume)
{
	return (!volume->in_step && !volume->ballot) || env_now_ns(store->env) < volume->mandate_ns;
}

bool store_view_answers(const struct view *view)
{
	return view->snapshot || mandate_stands(view->store, view->volume);
}

bool store_view_outdated(const struct view *view)
{
	return !view->snapshot && view->left_primaries != view->volume->left_primaries;
}

/* ---- the follower's side ---- */

static struct given *given_of(const struct mandates *mandates, const uint8_t uuid[16])
{
	for (uint32_t i = 0; i < mandates->count; i++)
		if (memcmp(mandates->given[i].uuid, uuid, 16) == 0)
			return &mandates->given[i];
	return NULL;
}

/* A place for one; those that have passed make room. NULL: there is none. */
static struct given *given_new(struct store *store, const uint8_t uuid[16])
{
	struct mandates *mandates = store->mandates;
	struct given *at = given_of(mandates, uuid);
	if (at)
		return at;
	for (uint32_t i = 0; i < mandates->count && !at; i++)
		if (!mandates->given[i].withheld &&
		    mandates->given[i].until_ns <= env_now_ns(store->env))
			at = &mandates->given[i];
	if (!at && mandates->count == mandates->room && mandates->room < GIVEN_MAX) {
		uint32_t room = mandates->room ? 2 * mandates->room : 16;
		struct given *larger = realloc(mandates->given, room * sizeof(*larger));
		if (!larger)
			return NULL;
		mandates->given = larger;
		mandates->room = room;
	}
	if (!at && mandates->count < mandates->room)
		at = &mandates->given[mandates->count++];
	if (!at)
		return NULL;
	*at = (struct given){.until_ns = 0};
	memcpy(at->uuid, uuid, 16);
	return at;
}

bool mandate_listens(const struct store *store)
{
	return env_now_ns(store->env) - store->mandates->opened_ns < LISTENS_NS;
}

int store_mandate_give(struct store *store, const char *host, const uint8_t uuid[16],
		       uint64_t epoch, uint64_t duration_ns)
{
	const struct ballot *ballot = ballot_of(store, uuid);
	const struct store_word *word = ballot ? &ballot->word : NULL;
	bool owner = word && strcmp(word->voters[word->owner], host) == 0;
	bool voted = word && word->voter_count >= VOTERS_DECIDE;
	if (voted && !owner)
		return -VS_EFENCED;
	if (voted && mandate_listens(store))
		return -EAGAIN;
	if (ballot_promised(store, uuid) > (word ? word->term : 0))
		return -EAGAIN; /* to an owner that is to be, perhaps */
	if (served_here(store, uuid) && !owner)
		return -VS_EFENCED;
	/* Where a majority has decided, an epoch is no proof: who was elected, and never heard of,
	 * may have begun a higher one. */
	for (uint32_t i = 0; i < store->volume_count && !voted; i++) {
		const struct volume *copy = store->volumes[i];
		if (copy->replica && memcmp(copy->uuid, uuid, 16) == 0 && copy->epoch > epoch)
			return -VS_EFENCED;
	}
	const struct given *known = given_of(store->mandates, uuid);
	if (known && known->withheld)
		return -EAGAIN;
	struct given *given = given_new(store, uuid);
	if (!given)
		return -ENOMEM;
	given->until_ns = max_u64(given->until_ns, env_now_ns(store->env) + surely_ns(duration_ns));
	return 0;
}

/* ---- who takes a volume over waits ---- */

/* The store counts it as under way. */
static void withheld_look(struct env_timer *timer)
{
	struct withholding *withholding = container_of(timer, struct withholding, timer);
	struct store *store = withholding->store;
	const struct mandates *mandates = store->mandates;
	uint64_t now = env_now_ns(store->env);
	uint64_t until = max_u64(given_of(mandates, withholding->uuid)->until_ns,
				 mandates->opened_ns + surely_ns(MANDATE_NS));
	until = max_u64(until, withholding->not_before_ns);
	if (now < until && !store->closing) {
		env_timer_start(store->env, timer, min_u64(until - now, LOOK_NS));
		return;
	}
	store->requests--;
	if (store->closing)
		mandate_release(withholding);
	withholding->then(withholding, store->closing ? -ESHUTDOWN : 0);
}

void mandate_withhold(struct withholding *withholding)
{
	struct store *store = withholding->store;
	struct given *given = given_new(store, withholding->uuid);
	if (!given || given->withheld) {
		withholding->then(withholding, given ? -EBUSY : -ENOMEM);
		return;
	}
	given->withheld = true;
	store->requests++;
	withholding->timer.fire = withheld_look;
	withheld_look(&withholding->timer);
}

void mandate_release(struct withholding *withholding)
{
	given_of(withholding->store->mandates, withholding->uuid)->withheld = false;
}
