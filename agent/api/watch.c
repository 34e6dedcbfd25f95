/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread. Events are queued by libvirt's thread and noted here; a guest that was stopped by an
 * error of its disk is resumed again and again until it runs: QEMU reconnects to vstored by itself,
 * and until then resuming only stops it again. What may take hours, a boot's guests one after the
 * other, has a thread of its own (boot.c).
 */
#include "agent/api/watch.h"

#include "agent/api/boot.h"
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

struct watch {
	struct agent *agent;
	pthread_t thread, boot;
	bool booting; /* there is the second one */
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
	json_array_foreach(list, i, one) {
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

/* ---- after a lost connection ---- */

/* Every VM of the catalog is known to libvirt, and its ports are there, also after a boot; what
 * libvirt has beyond is left alone. */
static void resync(struct agent *agent)
{
	json_t *rows = db_rows(agent->db, "SELECT spec FROM vm WHERE state = 'ready'", ""), *row;
	size_t i;
	json_array_foreach(rows, i, row) {
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
	bool stalled = false, connected = false;
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
			if (!watch->booting)
				watch->booting = boot_start(agent, &watch->boot) == 0;
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
	if (watch->booting)
		pthread_join(watch->boot, NULL);
}
