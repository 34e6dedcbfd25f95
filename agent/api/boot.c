/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each guest with autostart is started once a boot, in the order of the catalog. What is left to
 * start is durable, so that an agent that ends amid it leaves the rest to the next one, and none is
 * started twice. A guest that cannot start holds up no other; while libvirt or vstored is away all
 * of them wait, since none could.
 */
#include "agent/api/boot.h"

#include "agent/vm/op.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define RETRY_S 1

/* Unless the host is about to go down again, or the agent is. */
static bool autostart_on(const struct agent *agent)
{
	return !agent->stopping && !agent->ending;
}

static void autostart_pause(struct agent *agent, int64_t seconds)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds;
	pthread_mutex_lock(&agent->lock);
	while (autostart_on(agent) &&
	       pthread_cond_timedwait(&agent->changed, &agent->lock, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&agent->lock);
}

enum turn { TURN_START, TURN_LEAVE, TURN_DROP };

/* Whether the next one is to be started. Who ends all guests waits while `starting` is set. */
static enum turn autostart_turn(struct agent *agent, bool more)
{
	pthread_mutex_lock(&agent->lock);
	enum turn turn = agent->ending ? TURN_DROP : agent->stopping ? TURN_LEAVE : TURN_START;
	agent->starting = more && turn == TURN_START;
	pthread_cond_broadcast(&agent->changed);
	pthread_mutex_unlock(&agent->lock);
	return turn;
}

static int vm_up(struct agent *agent, struct vm *vm, bool *ret_ran, struct problem *problem)
{
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	int res = vm_state(agent, vm->uuid, &state, &reason, problem);
	*ret_ran = res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED;
	if (res < 0 || *ret_ran)
		return res;
	res = vm_attach(agent, vm->spec, problem);
	if (res == 0)
		res = vm_define(agent, vm->spec, problem);
	return res < 0 ? res : vm_power(agent, vm->uuid, VIRT_START, problem);
}

/* Read anew: those before it may have taken their time. One that runs was started already, by an
 * agent that did not live to note it. False: libvirt or vstored is not there, and it waits. */
static bool vm_autostart(struct agent *agent, const char *uuid, bool told)
{
	struct problem problem = {0};
	bool ran;
	struct vm vm;
	if (vm_get(agent, uuid, &vm, &problem) < 0)
		return true; /* deleted meanwhile */
	int res = vm_up(agent, &vm, &ran, &problem);
	bool waits = res == -ECONNREFUSED;
	if (waits && !told)
		log_event(LOG_LEVEL_WARNING, "vm.autostart_waits", "vm=%s error=\"%.200s\"",
			  vm.name, problem.sentence);
	else if (res < 0 && !waits)
		log_event(LOG_LEVEL_ERROR, "vm.autostart_failed", "vm=%s error=\"%.200s\"", vm.name,
			  problem.sentence);
	else if (res == 0 && !ran)
		agent_event(agent, "vm.autostart", vm.name, NULL);
	if (!ran)
		autostart_pause(agent, waits ? RETRY_S : spec_number(vm.spec, "delay_s"));
	vm_free(&vm);
	return !waits;
}

static int setting_set(struct agent *agent, const char *key, const char *value)
{
	return db_run(agent->db, "INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)", "ss",
		      key, value);
}

static void left_save(struct agent *agent, const json_t *left)
{
	char *text = json_dumps(left, JSON_COMPACT);
	if (text)
		setting_set(agent, "boot_left", text);
	free(text);
}

/* What is left to start of this boot: all, or what an earlier agent did not come to. */
static json_t *autostart_left(struct agent *agent)
{
	char boot[64] = "";
	FILE *file = fopen(BOOT_ID, "re");
	if (!file || !fgets(boot, sizeof boot, file))
		boot[0] = 0;
	if (file)
		fclose(file);
	boot[strcspn(boot, "\n")] = 0;
	json_t *row = db_row(agent->db, "SELECT value FROM setting WHERE key = 'boot'", "");
	bool same = row && strcmp(spec_text(row, "value"), boot) == 0;
	json_decref(row);
	json_t *left = NULL;
	if (same) {
		row = db_row(agent->db, "SELECT value FROM setting WHERE key = 'boot_left'", "");
		left = row ? json_loads(spec_text(row, "value"), 0, NULL) : NULL;
		json_decref(row);
		return left;
	}
	left = vm_boot_order(agent);
	if (db_begin(agent->db) == 0) {
		left_save(agent, left);
		db_end(agent->db, setting_set(agent, "boot", boot) >= 0);
	}
	return left;
}

/* Once a boot, in their order. */
static void *boot_run(void *state)
{
	struct agent *agent = state;
	enum turn turn = TURN_START;
	bool waits = false;
	json_t *left = autostart_left(agent);
	while (json_array_size(left) && (turn = autostart_turn(agent, true)) == TURN_START) {
		const char *uuid = json_string_value(json_array_get(left, 0));
		waits = !vm_autostart(agent, uuid, waits);
		if (waits)
			continue;
		json_array_remove(left, 0);
		left_save(agent, left);
	}
	if (turn == TURN_DROP) { /* they are to be off */
		json_array_clear(left);
		left_save(agent, left);
	}
	autostart_turn(agent, false);
	json_decref(left);
	return NULL;
}

int boot_start(struct agent *agent, pthread_t *ret_thread)
{
	return -pthread_create(ret_thread, NULL, boot_run, agent);
}
