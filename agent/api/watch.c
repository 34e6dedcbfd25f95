/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread. Events are queued by libvirt's thread and noted here; a guest that was stopped by an
 * error of its disk is resumed again and again until it runs: QEMU reconnects to vstored by itself,
 * and until then resuming only stops it again.
 */
#include "agent/api/watch.h"

#include "agent/vm/op.h"
#include "storage/rt/log_event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define QUEUE_MAX 1024u
#define CONVERGE_S 5
#define RESUME_S 1
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct watch {
	struct agent *agent;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct virt_event queue[QUEUE_MAX];
	size_t head, count;
	bool connected, stopping;
};

static void event_note(struct watch *watch, const struct virt_event *event)
{
	struct problem problem = {0};
	struct vm vm;
	if (vm_get(watch->agent, event->uuid, &vm, &problem) < 0)
		return; /* not ours */
	agent_event(watch->agent, virt_event_name(event->kind), vm.name,
		    event->detail[0] ? json_pack("{s:s}", "detail", event->detail) : NULL);
	vm_free(&vm);
}

/* Resumes what waits for a disk; true: something still waits. */
static bool resume_stalled(struct agent *agent)
{
	struct virt_result result = {0};
	struct virt_args args = {.timeout_ms = 5000};
	struct problem problem = {0};
	bool waits = false;
	json_t *list, *one, *attachments = NULL;
	size_t i;
	if (virt_do(agent->virt, VIRT_LIST, &args, &result, &problem) < 0)
		return false; /* the resync looks again */
	list = json_loads(result.text, 0, NULL);
	free(result.text);
	int known = storage_attachments(&agent->storage, &attachments, &problem);
	json_array_foreach(list, i, one)
	{
		struct vm vm;
		if (spec_number(one, "state") != VIRT_PAUSED ||
		    spec_number(one, "reason") != VIRT_REASON_IO_ERROR ||
		    vm_get(agent, spec_text(one, "uuid"), &vm, &problem) < 0)
			continue;
		/* A VM whose lease was broken stays as it is until a person ends it. */
		int res = known == 0 ? storage_leases(attachments, vm.uuid,
						      json_object_get(vm.spec, "disks"), &problem)
				     : known;
		if (res != -VS_EFENCED) {
			waits = true;
			res = vm_power(agent, vm.uuid, VIRT_RESUME, &problem);
		}
		log_event(LOG_LEVEL_INFO, "vm.resume", "vm=%s res=%d", vm.name, res);
		vm_free(&vm);
	}
	json_decref(attachments);
	json_decref(list);
	return waits;
}

/* ---- after a boot ---- */

static int by_order(const void *a, const void *b)
{
	const json_t *const *left = a, *const *right = b;
	int64_t x = spec_number(*left, "order"), y = spec_number(*right, "order");
	return x < y ? -1 : x > y;
}

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

/* Read anew: those before it may have taken their time. One that runs was started already, by an
 * agent that did not live to note it. */
static void vm_autostart(struct agent *agent, const char *uuid)
{
	struct problem problem = {0};
	enum virt_state state = VIRT_UNKNOWN;
	enum virt_reason reason;
	struct vm vm;
	if (vm_get(agent, uuid, &vm, &problem) < 0)
		return; /* deleted meanwhile */
	int res = vm_state(agent, uuid, &state, &reason, &problem);
	if (res == 0 && state != VIRT_STOPPED && state != VIRT_CRASHED) {
		vm_free(&vm);
		return;
	}
	if (res == 0)
		res = vm_attach(agent, vm.spec, &problem);
	if (res == 0)
		res = vm_define(agent, vm.spec, &problem);
	if (res == 0)
		res = vm_power(agent, vm.uuid, VIRT_START, &problem);
	if (res < 0)
		log_event(LOG_LEVEL_ERROR, "vm.autostart_failed", "vm=%s error=\"%.200s\"", vm.name,
			  problem.sentence);
	else
		agent_event(agent, "vm.autostart", vm.name, NULL);
	autostart_pause(agent, spec_number(vm.spec, "delay_s"));
	vm_free(&vm);
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

/* UUIDs of all that a boot starts, in their order. */
static json_t *autostart_all(struct agent *agent)
{
	json_t *specs[1000], *row, *all = json_array();
	json_t *rows = db_rows(agent->db, "SELECT spec FROM vm WHERE state = 'ready'", "");
	size_t count = 0, i;
	json_array_foreach(rows, i, row)
	{
		json_t *spec = db_json(row, "spec");
		if (json_is_true(json_object_get(spec, "autostart")) && count < 1000)
			specs[count++] = spec;
		else
			json_decref(spec);
	}
	json_decref(rows);
	if (count > 0)
		qsort(specs, count, sizeof *specs, by_order);
	for (i = 0; i < count; i++) {
		json_array_append(all, json_object_get(specs[i], "uuid"));
		json_decref(specs[i]);
	}
	return all;
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
	left = autostart_all(agent);
	if (db_begin(agent->db) == 0) {
		left_save(agent, left);
		db_end(agent->db, setting_set(agent, "boot", boot) >= 0);
	}
	return left;
}

/* Once a boot, in their order. */
static void autostart(struct agent *agent)
{
	enum turn turn = TURN_START;
	json_t *left = autostart_left(agent);
	while (json_array_size(left) && (turn = autostart_turn(agent, true)) == TURN_START) {
		vm_autostart(agent, json_string_value(json_array_get(left, 0)));
		json_array_remove(left, 0);
		left_save(agent, left);
	}
	if (turn == TURN_DROP) { /* they are to be off */
		json_array_clear(left);
		left_save(agent, left);
	}
	autostart_turn(agent, false);
	json_decref(left);
}

/* Every VM of the catalog is known to libvirt, and its ports are there, also after a boot; what
 * libvirt has beyond is left alone. */
static void resync(struct agent *agent)
{
	json_t *rows = db_rows(agent->db, "SELECT spec FROM vm WHERE state = 'ready'", ""), *row;
	size_t i;
	json_array_foreach(rows, i, row)
	{
		json_t *spec = db_json(row, "spec");
		struct virt_result result = {0};
		struct virt_args args = {.uuid = spec_text(spec, "uuid")};
		struct problem problem = {0};
		int res = virt_do(agent->virt, VIRT_STATE, &args, &result, &problem);
		/* Guests start in our order, or a person's: never because libvirt does. */
		if (res == 0)
			virt_do(agent->virt, VIRT_AUTOSTART, &args, NULL, &problem);
		if (res == -ENOENT) {
			res = vm_attach(agent, spec, &problem);
			if (res == 0)
				res = vm_define(agent, spec, &problem);
			log_event(LOG_LEVEL_WARNING, "vm.defined_again", "vm=%s res=%d",
				  spec_text(spec, "name"), res);
		} else if (nic_ports_make(agent, spec, &problem) < 0) {
			log_event(LOG_LEVEL_ERROR, "vm.port_failed", "vm=%s error=\"%.200s\"",
				  spec_text(spec, "name"), problem.sentence);
			agent_event(agent, "vm.port_failed", spec_text(spec, "name"),
				    json_pack("{s:s}", "message", problem.sentence));
		}
		json_decref(spec);
	}
	json_decref(rows);
}

/* ---- the thread ---- */

/* Waits for an event, the connection, or `seconds`. True: *event is one. */
static bool watch_wait(struct watch *watch, unsigned seconds, struct virt_event *event,
		       bool *ret_connected)
{
	struct timespec until;
	bool got = false;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	pthread_mutex_lock(&watch->lock);
	while (!watch->count && !watch->connected && !watch->stopping)
		if (pthread_cond_timedwait(&watch->more, &watch->lock, &until) == ETIMEDOUT)
			break;
	*ret_connected = watch->connected;
	watch->connected = false;
	if (watch->count) {
		*event = watch->queue[watch->head];
		watch->head = (watch->head + 1) % QUEUE_MAX;
		watch->count--;
		got = true;
	}
	pthread_mutex_unlock(&watch->lock);
	return got;
}

static time_t seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void *watch_run(void *state)
{
	struct watch *watch = state;
	struct agent *agent = watch->agent;
	bool stalled = false, connected = false, started = false;
	time_t next = 0;
	agent_kvm(agent);
	while (!watch->stopping) {
		struct virt_event event;
		bool got = watch_wait(watch, stalled ? RESUME_S : CONVERGE_S, &event, &connected);
		if (got)
			event_note(watch, &event);
		if (connected) {
			op_converge(agent);
			resync(agent);
			stalled = true;
			if (!started)
				autostart(agent);
			started = true;
		}
		stalled |= got && event.kind == VIRT_EVENT_PAUSED_IO;
		if (!got && stalled)
			stalled = resume_stalled(agent);
		if (!got && seconds_now() >= next) {
			next = seconds_now() + CONVERGE_S;
			if (virt_connected(agent->virt))
				op_converge(agent);
		}
	}
	return NULL;
}

void watch_event(void *state, const struct virt_event *event)
{
	struct watch *watch = state;
	pthread_mutex_lock(&watch->lock);
	if (watch->count < QUEUE_MAX)
		watch->queue[(watch->head + watch->count++) % QUEUE_MAX] = *event;
	else
		watch->connected = true; /* too many to keep: look at everything instead */
	pthread_cond_signal(&watch->more);
	pthread_mutex_unlock(&watch->lock);
}

void watch_connected(void *state)
{
	struct watch *watch = state;
	pthread_mutex_lock(&watch->lock);
	watch->connected = true;
	pthread_cond_signal(&watch->more);
	pthread_mutex_unlock(&watch->lock);
}

int watch_new(struct agent *agent, struct watch **ret_watch)
{
	pthread_condattr_t attr;
	struct watch *watch = calloc(1, sizeof *watch);
	if (!watch)
		return -ENOMEM;
	watch->agent = agent;
	pthread_mutex_init(&watch->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&watch->more, &attr);
	pthread_condattr_destroy(&attr);
	*ret_watch = watch;
	return 0;
}

int watch_start(struct watch *watch)
{
	return -pthread_create(&watch->thread, NULL, watch_run, watch);
}

void watch_stop(struct watch *watch)
{
	pthread_mutex_lock(&watch->lock);
	watch->stopping = true;
	pthread_cond_signal(&watch->more);
	pthread_mutex_unlock(&watch->lock);
	pthread_join(watch->thread, NULL);
}
