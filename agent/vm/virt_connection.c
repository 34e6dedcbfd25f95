/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection that brings libvirt's events, opened again whenever it is lost: `connected` is
 * called each time, as what happened meanwhile was not told. However early it ends, that is
 * noticed. The thread of the events takes the lock for moments only, and calls nothing of libvirt
 * that could wait.
 */
#include "agent/vm/virt_int.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_S_MAX 5

const char *virt_event_name(enum virt_event_kind kind)
{
	static const char *const names[] = {"vm.started",     "vm.stopped",	"vm.crashed",
					    "vm.paused",      "vm.paused_io",	"vm.resumed",
					    "vm.device_gone", "vm.device_kept", "vm.guest_agent"};
	return names[kind];
}

/* ---- events: on libvirt's thread, which only queues ---- */

static void event_emit(struct virt *virt, virDomainPtr domain, enum virt_event_kind kind,
		       const char *detail)
{
	struct virt_event event = {.kind = kind};
	virDomainGetUUIDString(domain, event.uuid);
	snprintf(event.detail, sizeof event.detail, "%s", detail ? detail : "");
	pthread_mutex_lock(&virt->lock);
	virt->mark++;
	if (kind == VIRT_EVENT_DEVICE_GONE || kind == VIRT_EVENT_DEVICE_KEPT) {
		virt->gone[virt->mark % GONE_MAX].mark = virt->mark;
		virt->gone[virt->mark % GONE_MAX].event = event;
	}
	pthread_cond_broadcast(&virt->changed);
	pthread_mutex_unlock(&virt->lock);
	virt->options.event(virt->options.state, &event);
}

static int event_lifecycle(virConnectPtr connection, virDomainPtr domain, int event, int detail,
			   void *state)
{
	switch (event) {
	case VIR_DOMAIN_EVENT_STARTED:
		event_emit(state, domain, VIRT_EVENT_STARTED, "");
		break;
	case VIR_DOMAIN_EVENT_STOPPED:
		event_emit(state, domain,
			   detail == VIR_DOMAIN_EVENT_STOPPED_CRASHED ||
					   detail == VIR_DOMAIN_EVENT_STOPPED_FAILED
				   ? VIRT_EVENT_CRASHED
				   : VIRT_EVENT_STOPPED,
			   "");
		break;
	case VIR_DOMAIN_EVENT_SUSPENDED:
		event_emit(state, domain,
			   detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR ? VIRT_EVENT_PAUSED_IO
									: VIRT_EVENT_PAUSED,
			   "");
		break;
	case VIR_DOMAIN_EVENT_RESUMED:
		event_emit(state, domain, VIRT_EVENT_RESUMED, "");
		break;
	case VIR_DOMAIN_EVENT_CRASHED:
		event_emit(state, domain, VIRT_EVENT_CRASHED, "");
		break;
	default:
		break;
	}
	return 0;
}

static void event_removed(virConnectPtr connection, virDomainPtr domain, const char *alias,
			  void *state)
{
	event_emit(state, domain, VIRT_EVENT_DEVICE_GONE, alias);
}

static void event_kept(virConnectPtr connection, virDomainPtr domain, const char *alias,
		       void *state)
{
	event_emit(state, domain, VIRT_EVENT_DEVICE_KEPT, alias);
}

static void event_agent(virConnectPtr connection, virDomainPtr domain, int new_state, int reason,
			void *state)
{
	event_emit(state, domain, VIRT_EVENT_AGENT,
		   new_state == VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
			   ? "connected"
			   : "disconnected");
}

static void connection_closed(virConnectPtr connection, int reason, void *state)
{
	struct virt *virt = state;
	pthread_mutex_lock(&virt->lock);
	if (virt->connection == connection)
		virt->lost = true;
	pthread_cond_broadcast(&virt->changed);
	pthread_mutex_unlock(&virt->lock);
}

static void *event_run(void *state)
{
	while (virEventRunDefaultImpl() == 0)
		;
	log_event(LOG_LEVEL_ERROR, "libvirt.events_ended", "hint=\"restart vstore-agent\"");
	return NULL;
}

/* Without a timer the loop would sleep on nothing and not see what others register. */
static void event_tick(int timer, void *state)
{
	(void)timer;
}

static void error_silent(void *state, virErrorPtr error)
{
	(void)error; /* every error is asked for by the call that met it */
}

/* ---- the connection ---- */

static void connection_register(struct virt *virt, virConnectPtr connection)
{
	virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
					 VIR_DOMAIN_EVENT_CALLBACK(event_lifecycle), virt, NULL);
	virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
					 VIR_DOMAIN_EVENT_CALLBACK(event_removed), virt, NULL);
	virConnectDomainEventRegisterAny(connection, NULL,
					 VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
					 VIR_DOMAIN_EVENT_CALLBACK(event_kept), virt, NULL);
	virConnectDomainEventRegisterAny(connection, NULL, VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE,
					 VIR_DOMAIN_EVENT_CALLBACK(event_agent), virt, NULL);
	virConnectRegisterCloseCallback(connection, connection_closed, virt, NULL);
	virConnectSetKeepAlive(connection, KEEPALIVE_S, KEEPALIVE_COUNT);
}

static void *connection_keep(void *state)
{
	struct virt *virt = state;
	char told[sizeof virt->why] =
		""; /* of this outage: once, and when it is for another cause */
	for (unsigned pause_s = 1;;) {
		virConnectPtr connection = virConnectOpen(virt->uri);
		if (!connection) {
			const char *why = virGetLastErrorMessage();
			pthread_mutex_lock(&virt->lock);
			snprintf(virt->why, sizeof virt->why, "%s", why ? why : "no reason given");
			bool news = strcmp(told, virt->why) != 0;
			memcpy(told, virt->why, sizeof told);
			pthread_mutex_unlock(&virt->lock);
			if (news)
				log_event(
					LOG_LEVEL_WARNING, "libvirt.unreachable",
					"uri=%s error=\"%.100s\" action=\"tried until it answers\"",
					virt->uri, told);
			const struct timespec pause = {.tv_sec = pause_s};
			nanosleep(&pause, NULL);
			pause_s = pause_s < RETRY_S_MAX ? pause_s + 1 : pause_s;
			continue;
		}
		pause_s = 1;
		told[0] = 0;
		connection_register(virt, connection);
		pthread_mutex_lock(&virt->lock);
		virt->connection = connection;
		virt->lost = false;
		pthread_mutex_unlock(&virt->lock);
		if (virConnectIsAlive(connection) == 0) /* it ended before it was ours */
			connection_closed(connection, 0, virt);
		log_event(LOG_LEVEL_INFO, "libvirt.connected", "uri=%s", virt->uri);
		virt->options.connected(virt->options.state);
		pthread_mutex_lock(&virt->lock);
		while (!virt->lost)
			pthread_cond_wait(&virt->changed, &virt->lock);
		virt->connection = NULL;
		snprintf(virt->why, sizeof virt->why, "the connection was lost");
		pthread_mutex_unlock(&virt->lock);
		log_event(LOG_LEVEL_WARNING, "libvirt.lost", "uri=%s", virt->uri);
		virConnectClose(connection); /* calls under way hold references of their own */
	}
	return NULL;
}

int virt_new(const struct virt_options *options, struct virt **ret_virt)
{
	pthread_t events, keeper;
	pthread_condattr_t attr;
	struct virt *virt = calloc(1, sizeof *virt);
	if (!virt)
		return -ENOMEM;
	virt->options = *options;
	snprintf(virt->uri, sizeof virt->uri, "%s", options->uri);
	snprintf(virt->why, sizeof virt->why, "not connected yet");
	pthread_mutex_init(&virt->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&virt->changed, &attr);
	pthread_condattr_destroy(&attr);
	virSetErrorFunc(NULL, error_silent);
	/* Before any connection, or it would have no events and no keepalive. */
	if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0 ||
	    virEventAddTimeout(1000, event_tick, NULL, NULL) < 0 ||
	    pthread_create(&events, NULL, event_run, NULL) != 0 ||
	    pthread_create(&keeper, NULL, connection_keep, virt) != 0) {
		free(virt);
		return -EIO;
	}
	pthread_detach(events);
	pthread_detach(keeper);
	*ret_virt = virt;
	return 0;
}

bool virt_connected(struct virt *virt)
{
	pthread_mutex_lock(&virt->lock);
	bool connected = virt->connection && !virt->lost;
	pthread_mutex_unlock(&virt->lock);
	return connected;
}

/* ---- devices that went, or stayed ---- */

uint64_t virt_event_mark(struct virt *virt)
{
	pthread_mutex_lock(&virt->lock);
	uint64_t mark = virt->mark;
	pthread_mutex_unlock(&virt->lock);
	return mark;
}

static int gone_find(const struct virt *virt, const char *uuid, const char *alias, uint64_t mark)
{
	for (unsigned i = 0; i < GONE_MAX; i++) {
		const struct virt_event *event = &virt->gone[i].event;
		if (virt->gone[i].mark > mark && strcmp(event->uuid, uuid) == 0 &&
		    strcmp(event->detail, alias) == 0)
			return event->kind == VIRT_EVENT_DEVICE_GONE ? 0 : -EBUSY;
	}
	return -EAGAIN;
}

int virt_wait_gone(struct virt *virt, const char *uuid, const char *alias, uint64_t mark,
		   int timeout_ms)
{
	struct timespec deadline = virt_deadline(timeout_ms);
	int res;
	pthread_mutex_lock(&virt->lock);
	while ((res = gone_find(virt, uuid, alias, mark)) == -EAGAIN)
		if (pthread_cond_timedwait(&virt->changed, &virt->lock, &deadline) == ETIMEDOUT) {
			res = -ETIMEDOUT;
			break;
		}
	pthread_mutex_unlock(&virt->lock);
	return res;
}
