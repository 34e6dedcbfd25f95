/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records that are damaged or missing here are asked for elsewhere, proved, and written anew.
 *
 *     FREE -> ASKED -> STORING -> FREE
 *               ^--------'  what came was not the id's: somebody else is asked, a few times
 *
 * The store knows nothing of peers: who can ask them has been told to (store_set_healer), answers
 * each question once, and what it answers is foreign bytes until its id has been computed here.
 *
 * Keeps true: a record is stored only under the id that was computed from it, with the key of one
 * of our domains; a question ends, well or not, within HEAL_NS of its asking, however silent the
 * healer is; readers of one id wait for one question. A fold that waits here waits for no
 * collection.
 */
#include "storage/store/heal.h"

#include "proto/text.h"
#include "storage/rt/log_event.h"
#include "storage/store/fetch.h"
#include "storage/store/put.h"
#include "storage/store/replica.h"
#include "storage/store/store_int.h"

#include <stdlib.h>

#define HEALS_MAX FETCH_COUNT /* each belongs to a fetch at least, so there is always one free */
#define HEAL_NS (15 * NSEC_PER_SEC)
#define ATTEMPTS_MAX 3u

enum heal_state { HEAL_FREE, HEAL_ASKED, HEAL_STORING };

struct heal {
	struct store *store;
	enum heal_state state;
	struct store_wanted wanted; /* number 0: the question is no longer open */
	struct wait_list waiters;
	struct env_timer timer;
	struct wait wait;
	struct put *put;
	struct foreign_record foreign;
	uint8_t *record; /* what came */
	uint32_t domain; /* index of the one whose key is tried */
};

struct heals {
	void (*want)(void *owner, const struct store_wanted *wanted);
	void *owner;
	uint64_t next_number;
	struct heal all[HEALS_MAX];
};

int heal_init(struct store *store)
{
	store->heals = calloc(1, sizeof(*store->heals));
	if (!store->heals)
		return -ENOMEM;
	store->heals->next_number = 1;
	for (unsigned i = 0; i < HEALS_MAX; i++)
		store->heals->all[i].store = store;
	return 0;
}

void heal_exit(struct store *store)
{
	for (unsigned i = 0; store->heals && i < HEALS_MAX; i++)
		free(store->heals->all[i].record);
	free(store->heals);
	store->heals = NULL;
}

static void heal_end(struct heal *heal, int res)
{
	struct store *store = heal->store;
	char id[17];
	env_timer_stop(store->env, &heal->timer);
	text_hex(heal->wanted.id, 8, id);
	if (res == 0) {
		store->counters.healed++;
		log_event(LOG_LEVEL_WARNING, "record.healed", "id=%s effect=\"it is stored anew\"",
			  id);
	} else {
		store->counters.heals_failed++;
		log_event(LOG_LEVEL_ERROR, "record.not_healed",
			  "id=%s error=\"%s\" hint=\"is a peer that has a copy reachable?\"", id,
			  vs_strerror(res));
	}
	free(heal->record);
	heal->record = NULL;
	heal->wanted.number = 0;
	heal->state = HEAL_FREE;
	wait_wake_all(&heal->waiters);
}

static void heal_late(struct env_timer *timer)
{
	struct heal *heal = container_of(timer, struct heal, timer);
	if (heal->state == HEAL_ASKED)
		heal_end(heal, -ETIMEDOUT);
}

static bool heal_may(const struct store *store)
{
	return store->heals->want && !store->read_only && !store->failed && !store->closing;
}

static void heal_question(struct heal *heal)
{
	struct heals *heals = heal->store->heals;
	heal->state = HEAL_ASKED;
	heal->timer.fire = heal_late;
	env_timer_start(heal->store->env, &heal->timer, HEAL_NS);
	heal->wanted.number = heals->next_number++;
	heals->want(heals->owner, &heal->wanted);
}

/* What came was not it: somebody else may have it. */
static void heal_other(struct heal *heal, int res)
{
	free(heal->record);
	heal->record = NULL;
	if (++heal->wanted.attempt < ATTEMPTS_MAX && heal_may(heal->store))
		heal_question(heal);
	else
		heal_end(heal, res);
}

/* ---- storing what came ---- */

static void heal_store(struct wait *wait);

static void heal_stored(struct put *put, int res)
{
	struct heal *heal = put->owner;
	struct store *store = heal->store;
	put_free(put);
	heal->put = NULL;
	if (res != -VS_ECHECKSUM) {
		heal_end(heal, res);
		return;
	}
	/* It is not the id's in this domain. */
	if (++heal->domain < store->domain_count)
		heal_store(&heal->wait);
	else
		heal_other(heal, -VS_ECHECKSUM);
}

static void heal_store(struct wait *wait)
{
	struct heal *heal = container_of(wait, struct heal, wait);
	struct store *store = heal->store;
	heal->wait.wake = heal_store;
	heal->put = put_new(store, true, &heal->wait);
	if (!heal->put)
		return;
	heal->put->type = heal->wanted.type;
	heal->put->domain = store->domains[heal->domain].number;
	heal->put->done = heal_stored;
	heal->put->owner = heal;
	put_start_foreign(heal->put, &heal->foreign);
}

void store_heal_answer(struct store *store, uint64_t number, const void *record,
		       uint32_t record_bytes, int code)
{
	struct heal *heal = NULL;
	for (unsigned i = 0; i < HEALS_MAX && number; i++)
		if (store->heals->all[i].wanted.number == number)
			heal = &store->heals->all[i];
	if (!heal || heal->state != HEAL_ASKED)
		return; /* it was too late */
	if (!record_bytes) {
		heal_end(heal, code < 0 ? code : -VS_ELOST);
		return;
	}
	heal->foreign = (struct foreign_record){0};
	memcpy(heal->foreign.id.bytes, heal->wanted.id, ID_BYTES);
	heal->record = malloc(record_bytes);
	int res = heal->record ? 0 : -ENOMEM;
	if (res == 0) {
		memcpy(heal->record, record, record_bytes);
		res = foreign_record_decode(&heal->foreign, heal->wanted.type, heal->record,
					    record_bytes);
	}
	if (res == -ENOMEM) {
		heal_end(heal, res);
		return;
	}
	if (res < 0) {
		heal_other(heal, res);
		return;
	}
	heal->domain = 0;
	heal->state = HEAL_STORING;
	heal_store(&heal->wait);
}

/* ---- asking ---- */

int heal_ask(struct store *store, const struct id *id, uint8_t type, struct wait *wait)
{
	struct heal *heal = NULL;
	if (!heal_may(store))
		return -ENOENT;
	for (unsigned i = 0; i < HEALS_MAX; i++) {
		struct heal *at = &store->heals->all[i];
		if (at->state == HEAL_FREE) {
			heal = heal ? heal : at;
		} else if (at->wanted.type == type &&
			   memcmp(at->wanted.id, id->bytes, ID_BYTES) == 0) {
			wait_add(&at->waiters, wait);
			return WAITING;
		}
	}
	if (!heal)
		return -EAGAIN;
	heal->wanted = (struct store_wanted){.type = type};
	memcpy(heal->wanted.id, id->bytes, ID_BYTES);
	wait_add(&heal->waiters, wait);
	heal_question(heal);
	return WAITING;
}

void store_set_healer(struct store *store,
		      void (*want)(void *owner, const struct store_wanted *wanted), void *owner)
{
	store->heals->want = want;
	store->heals->owner = owner;
	for (unsigned i = 0; !want && i < HEALS_MAX; i++)
		if (store->heals->all[i].state == HEAL_ASKED)
			heal_end(&store->heals->all[i], -ESHUTDOWN);
}
