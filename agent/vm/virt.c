/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only file that knows libvirt. Three kinds of threads: one that runs libvirt's events and only
 * queues, one that keeps the connection which brings them, and one for each call under way. A
 * call's arguments and result are its own, so that a caller may leave it behind.
 *
 * A call has a connection of its own as well. libvirtd answers five calls of a connection at a
 * time, whichever VMs they are about; and libvirt's client (9.0) crashes when one that many threads
 * wait on is closed, as keepalive does with a libvirtd that hangs.
 */
#include "agent/vm/virt.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <jansson.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TIMEOUT_MS 30000
#define KEEPALIVE_S 5 /* and three of them lost: the connection counts as dead */
#define KEEPALIVE_COUNT 3
#define RETRY_S_MAX 5
#define GONE_MAX 128u /* device events that are remembered */
#define AGENT_ANSWER_S 5
#define HOST_VERB VIRT_DEFINE

struct virt_call {
	struct virt *virt;
	enum virt_verb verb;
	char *uuid, *text;
	uint64_t number;
	virConnectPtr connection;
	struct virt_call *next; /* under way */
	bool done, left;	/* answered; nobody waits any more */
	int res;
	struct virt_result result;
	char sentence[SENTENCE_BYTES];
};

struct virt {
	struct virt_options options;
	char uri[256];
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	virConnectPtr connection; /* NULL: none */
	bool lost;
	char why[160];
	struct virt_call *calls;
	unsigned call_count; /* under way: each has a thread */
	unsigned waiting;    /* for their domain's turn */
	uint64_t mark;
	struct {
		uint64_t mark;
		struct virt_event event;
	} gone[GONE_MAX];
};

const char *virt_state_name(enum virt_state state)
{
	static const char *const names[] = {"running", "paused",  "stopping",
					    "stopped", "crashed", "unknown"};
	return names[state];
}

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
	for (unsigned pause_s = 1;;) {
		virConnectPtr connection = virConnectOpen(virt->uri);
		if (!connection) {
			const char *why = virGetLastErrorMessage();
			pthread_mutex_lock(&virt->lock);
			snprintf(virt->why, sizeof virt->why, "%s", why ? why : "");
			pthread_mutex_unlock(&virt->lock);
			log_event(LOG_LEVEL_WARNING, "libvirt.unreachable",
				  "uri=%s error=\"%.100s\"", virt->uri, why ? why : "");
			const struct timespec pause = {.tv_sec = pause_s};
			nanosleep(&pause, NULL);
			pause_s = pause_s < RETRY_S_MAX ? pause_s + 1 : pause_s;
			continue;
		}
		pause_s = 1;
		connection_register(virt, connection);
		pthread_mutex_lock(&virt->lock);
		virt->connection = connection;
		virt->lost = false;
		pthread_mutex_unlock(&virt->lock);
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

/* ---- what each verb does, on its call's thread ---- */

static int call_error(struct virt_call *call)
{
	virErrorPtr error = virGetLastError();
	int code = error ? error->code : 0; /* every further call makes it a new one */
	snprintf(call->sentence, sizeof call->sentence, "libvirt says: %.280s.",
		 error && error->message ? error->message : "it failed, and does not say why");
	if (virConnectIsAlive(call->connection) == 0) {
		snprintf(call->sentence, sizeof call->sentence,
			 "The connection to libvirt ended before it answered (it hangs for %d s, "
			 "or was restarted): look at libvirtd. What was asked may still happen.",
			 KEEPALIVE_S * KEEPALIVE_COUNT);
		return -ETIMEDOUT;
	}
	switch (code) {
	case VIR_ERR_NO_DOMAIN:
	case VIR_ERR_NO_NETWORK:
		return -ENOENT;
	case VIR_ERR_OPERATION_INVALID:
	case VIR_ERR_XML_INVALID_SCHEMA:
	case VIR_ERR_CONFIG_UNSUPPORTED:
	case VIR_ERR_ARGUMENT_UNSUPPORTED:
		return -EINVAL;
	case VIR_ERR_AGENT_UNRESPONSIVE:
	case VIR_ERR_OPERATION_TIMEOUT:
		return -ETIMEDOUT;
	case VIR_ERR_DOM_EXIST:
		return -EEXIST;
	case VIR_ERR_RESOURCE_BUSY:
		return -EBUSY;
	case VIR_ERR_NO_MEMORY:
		return -ENOMEM;
	default:
		return -EIO;
	}
}

static enum virt_state state_of(int state)
{
	switch (state) {
	case VIR_DOMAIN_RUNNING:
	case VIR_DOMAIN_BLOCKED:
		return VIRT_RUNNING;
	case VIR_DOMAIN_PAUSED:
	case VIR_DOMAIN_PMSUSPENDED:
		return VIRT_PAUSED;
	case VIR_DOMAIN_SHUTDOWN:
		return VIRT_STOPPING;
	case VIR_DOMAIN_SHUTOFF:
		return VIRT_STOPPED;
	case VIR_DOMAIN_CRASHED:
		return VIRT_CRASHED;
	default:
		return VIRT_UNKNOWN;
	}
}

static enum virt_reason reason_of(int state, int reason)
{
	if (state != VIR_DOMAIN_PAUSED)
		return VIRT_REASON_NONE;
	return reason == VIR_DOMAIN_PAUSED_IOERROR ? VIRT_REASON_IO_ERROR : VIRT_REASON_USER;
}

static int do_list(struct virt_call *call)
{
	virDomainPtr *domains = NULL;
	int count = virConnectListAllDomains(call->connection, &domains, 0);
	if (count < 0)
		return -1;
	json_t *array = json_array();
	for (int i = 0; i < count; i++) {
		char uuid[VIR_UUID_STRING_BUFLEN];
		int state = 0, reason = 0;
		virDomainGetUUIDString(domains[i], uuid);
		virDomainGetState(domains[i], &state, &reason, 0);
		json_array_append_new(array, json_pack("{s:s, s:s, s:i, s:i}", "uuid", uuid, "name",
						       virDomainGetName(domains[i]), "state",
						       (int)state_of(state), "reason",
						       (int)reason_of(state, reason)));
		virDomainFree(domains[i]);
	}
	free(domains);
	call->result.text = json_dumps(array, JSON_COMPACT);
	json_decref(array);
	return 0;
}

static int do_networks(struct virt_call *call)
{
	virNetworkPtr *networks = NULL;
	int count = virConnectListAllNetworks(call->connection, &networks, 0);
	if (count < 0)
		return -1;
	json_t *array = json_array();
	for (int i = 0; i < count; i++) {
		char *bridge = virNetworkGetBridgeName(networks[i]);
		json_array_append_new(array, json_pack("{s:s, s:b, s:s}", "name",
						       virNetworkGetName(networks[i]), "active",
						       virNetworkIsActive(networks[i]) == 1,
						       "bridge", bridge ? bridge : ""));
		free(bridge);
		virNetworkFree(networks[i]);
	}
	free(networks);
	call->result.text = json_dumps(array, JSON_COMPACT);
	json_decref(array);
	return 0;
}

static int do_lookup(struct virt_call *call, virDomainPtr domain)
{
	int autostart = 0, saved = virDomainHasManagedSaveImage(domain, 0);
	int snapshots = virDomainSnapshotNum(domain, 0);
	if (saved < 0 || snapshots < 0 || virDomainGetAutostart(domain, &autostart) < 0)
		return -1;
	call->result.number = autostart;
	call->result.number2 = saved + snapshots;
	call->result.text =
		virDomainGetXMLDesc(domain, VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_SECURE);
	return call->result.text ? 0 : -1;
}

static int do_host(struct virt_call *call)
{
	virDomainPtr domain = NULL;
	virSecurityModel model;
	unsigned long version = 0;
	int res = 0;
	switch (call->verb) {
	case VIRT_LIST:
		return do_list(call);
	case VIRT_NETWORKS:
		return do_networks(call);
	case VIRT_VERSION:
		res = virConnectGetLibVersion(call->connection, &version);
		if (res == 0 && virNodeGetSecurityModel(call->connection, &model) == 0)
			call->result.text = strdup(model.model);
		call->result.number = (int64_t)version;
		return res;
	case VIRT_DEFINE:
		domain = virDomainDefineXMLFlags(call->connection, call->text,
						 VIR_DOMAIN_DEFINE_VALIDATE);
		break;
	default:
		domain = virDomainLookupByName(call->connection, call->text);
		res = domain ? do_lookup(call, domain) : -1;
	}
	if (!domain)
		return -1;
	virDomainFree(domain);
	return res;
}

/* A device changes where it can: now, when the domain runs, and for its next start. */
static unsigned device_flags(virDomainPtr domain)
{
	unsigned flags = VIR_DOMAIN_AFFECT_CONFIG;
	return virDomainIsActive(domain) == 1 ? flags | VIR_DOMAIN_AFFECT_LIVE : flags;
}

static int do_power(struct virt_call *call, virDomainPtr domain)
{
	switch (call->verb) {
	case VIRT_START:
		return virDomainCreate(domain);
	case VIRT_SHUTDOWN:
		return virDomainShutdown(domain);
	case VIRT_DESTROY:
		return virDomainDestroy(domain);
	case VIRT_REBOOT:
		return virDomainReboot(domain, 0);
	case VIRT_RESET:
		return virDomainReset(domain, 0);
	case VIRT_SUSPEND:
		return virDomainSuspend(domain);
	case VIRT_RESUME:
		return virDomainResume(domain);
	default:
		return virDomainUndefineFlags(domain,
					      VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
						      VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
						      VIR_DOMAIN_UNDEFINE_NVRAM);
	}
}

/* libvirt has no call that makes QEMU use a disk, and without one QEMU does not see that its
 * connection was dropped, so it is asked by its own monitor. The guest is not told of a failure,
 * and nor are we. */
static int do_probe(struct virt_call *call, virDomainPtr domain)
{
	char command[160], *answer = NULL;
	snprintf(command, sizeof command,
		 "qemu-io -d /machine/peripheral/%.64s/virtio-backend \"read 0 512\"", call->text);
	int res = virDomainQemuMonitorCommand(domain, command, &answer,
					      VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP);
	free(answer);
	return res;
}

static int do_domain(struct virt_call *call, virDomainPtr domain)
{
	int state = 0, reason = 0, res;
	switch (call->verb) {
	case VIRT_STATE:
		res = virDomainGetState(domain, &state, &reason, 0);
		call->result.number = state_of(state);
		call->result.number2 = reason_of(state, reason);
		return res;
	case VIRT_XML:
		call->result.text = virDomainGetXMLDesc(domain, 0);
		return call->result.text ? 0 : -1;
	case VIRT_ATTACH:
		return virDomainAttachDeviceFlags(domain, call->text, device_flags(domain));
	case VIRT_DETACH:
		return virDomainDetachDeviceFlags(domain, call->text, device_flags(domain));
	case VIRT_UPDATE:
		return virDomainUpdateDeviceFlags(domain, call->text, device_flags(domain));
	case VIRT_RESIZE:
		return virDomainBlockResize(domain, call->text, call->number,
					    VIR_DOMAIN_BLOCK_RESIZE_BYTES);
	case VIRT_PROBE:
		return do_probe(call, domain);
	case VIRT_FREEZE:
		virDomainAgentSetResponseTimeout(domain, AGENT_ANSWER_S, 0);
		res = virDomainFSFreeze(domain, NULL, 0, 0);
		call->result.number = res;
		return res < 0 ? res : 0;
	case VIRT_THAW:
		return virDomainFSThaw(domain, NULL, 0, 0) < 0 ? -1 : 0;
	case VIRT_PING_AGENT:
		virDomainAgentSetResponseTimeout(domain, AGENT_ANSWER_S, 0);
		call->result.text = virDomainGetHostname(domain, VIR_DOMAIN_GET_HOSTNAME_AGENT);
		return call->result.text ? 0 : -1;
	case VIRT_AUTOSTART:
		return virDomainSetAutostart(domain, (int)call->number);
	case VIRT_VCPUS:
		return virDomainSetVcpusFlags(domain, (unsigned)call->number,
					      VIR_DOMAIN_AFFECT_LIVE);
	default:
		return do_power(call, domain);
	}
}

static void call_free(struct virt_call *call)
{
	free(call->uuid);
	free(call->text);
	free(call->result.text);
	if (call->connection)
		virConnectClose(call->connection);
	free(call);
}

static void call_unlink(struct virt_call *call)
{
	struct virt_call **at = &call->virt->calls;
	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	call->virt->call_count--;
}

static int refused(const struct virt *virt, const char *why, char sentence[SENTENCE_BYTES])
{
	snprintf(sentence, SENTENCE_BYTES,
		 "libvirt does not answer at %.80s (%.120s): start libvirtd.", virt->uri, why);
	return -ECONNREFUSED;
}

/* Whoever hangs here is let go when libvirtd goes on, or ends; what nobody waits for any more is
 * not asked then. */
static int call_connect(struct virt_call *call)
{
	struct virt *virt = call->virt;
	call->connection = virConnectOpen(virt->uri);
	if (call->connection) {
		virConnectSetKeepAlive(call->connection, KEEPALIVE_S, KEEPALIVE_COUNT);
		pthread_mutex_lock(&virt->lock);
		bool left = call->left;
		pthread_mutex_unlock(&virt->lock);
		return left ? -ETIMEDOUT : 0;
	}
	const char *why = virGetLastErrorMessage();
	return refused(virt, why ? why : "", call->sentence);
}

static int call_do(struct virt_call *call)
{
	if (call->verb >= HOST_VERB) {
		int res = do_host(call);
		return res < 0 && !call->sentence[0] ? call_error(call) : res;
	}
	virDomainPtr domain = virDomainLookupByUUIDString(call->connection, call->uuid);
	int res = domain ? do_domain(call, domain) : -1;
	if (res < 0) /* before another call makes it another one */
		res = call_error(call);
	if (domain)
		virDomainFree(domain);
	return res;
}

static void *call_run(void *state)
{
	struct virt_call *call = state;
	struct virt *virt = call->virt;
	int res = call_connect(call);
	if (res == 0)
		res = call_do(call);
	pthread_mutex_lock(&virt->lock);
	call->res = res;
	call->done = true;
	call_unlink(call);
	bool left = call->left;
	pthread_cond_broadcast(&virt->changed);
	pthread_mutex_unlock(&virt->lock);
	if (left)
		call_free(call);
	return NULL;
}

/* ---- calling ---- */

static struct timespec deadline_in(int ms)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += ms / 1000;
	at.tv_nsec += (ms % 1000) * 1000000L;
	if (at.tv_nsec >= 1000000000L) {
		at.tv_sec++;
		at.tv_nsec -= 1000000000L;
	}
	return at;
}

static bool domain_busy(const struct virt *virt, const char *uuid)
{
	for (const struct virt_call *call = virt->calls; uuid && call; call = call->next)
		if (call->uuid && strcmp(call->uuid, uuid) == 0)
			return true;
	return false;
}

/* Under the lock: the domain's turn comes, or not. */
static int call_turn(struct virt *virt, const struct virt_args *args,
		     const struct timespec *deadline, struct problem *problem)
{
	while (domain_busy(virt, args->uuid))
		if (pthread_cond_timedwait(&virt->changed, &virt->lock, deadline) == ETIMEDOUT)
			return problem_set(
				problem, -EBUSY,
				"libvirt has not answered an earlier call about this VM; "
				"look at QEMU and libvirtd, then try again.");
	if (!virt->connection || virt->lost)
		return refused(virt, virt->why, problem->sentence);
	return 0;
}

static int call_admit(struct virt *virt, const struct virt_args *args,
		      const struct timespec *deadline, struct problem *problem)
{
	if (virt->call_count + virt->waiting >= VIRT_CALLS_MAX)
		return problem_set(
			problem, -EBUSY,
			"%u calls to libvirt are under way: it hangs, or has too much to "
			"do; look at libvirtd.",
			VIRT_CALLS_MAX);
	virt->waiting++;
	int res = call_turn(virt, args, deadline, problem);
	virt->waiting--;
	return res;
}

static int call_start(struct virt *virt, enum virt_verb verb, const struct virt_args *args,
		      struct virt_call **ret_call)
{
	pthread_t thread;
	pthread_attr_t attr;
	struct virt_call *call = calloc(1, sizeof *call);
	if (!call)
		return -ENOMEM;
	call->virt = virt;
	call->verb = verb;
	call->number = args->number;
	call->uuid = args->uuid ? strdup(args->uuid) : NULL;
	call->text = args->text ? strdup(args->text) : NULL;
	call->next = virt->calls;
	virt->calls = call;
	virt->call_count++;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	int res = -pthread_create(&thread, &attr, call_run, call);
	pthread_attr_destroy(&attr);
	if (res < 0) {
		call_unlink(call);
		call_free(call);
	} else {
		*ret_call = call;
	}
	return res;
}

int virt_do(struct virt *virt, enum virt_verb verb, const struct virt_args *args,
	    struct virt_result *ret, struct problem *problem)
{
	int timeout_ms = args->timeout_ms ? args->timeout_ms : TIMEOUT_MS;
	struct timespec deadline = deadline_in(timeout_ms);
	struct virt_call *call = NULL;
	pthread_mutex_lock(&virt->lock);
	int res = call_admit(virt, args, &deadline, problem);
	if (res == 0 && (res = call_start(virt, verb, args, &call)) < 0)
		problem_set(problem, res, "There is not enough memory.");
	while (res == 0 && !call->done)
		if (pthread_cond_timedwait(&virt->changed, &virt->lock, &deadline) == ETIMEDOUT &&
		    !call->done) {
			call->left = true;
			res = problem_set(
				problem, -ETIMEDOUT,
				"libvirt did not answer within %d s; look at libvirtd and "
				"at the VM's QEMU. What was asked may still happen.",
				timeout_ms / 1000);
		}
	pthread_mutex_unlock(&virt->lock);
	if (res < 0)
		return res;
	res = call->res;
	if (res < 0) {
		problem_set(problem, res, "%s", call->sentence);
	} else if (ret) {
		*ret = call->result;
		call->result.text = NULL;
	}
	call_free(call);
	return res;
}

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
	struct timespec deadline = deadline_in(timeout_ms);
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
