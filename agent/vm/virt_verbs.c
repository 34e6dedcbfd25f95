/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each verb asks of libvirt, on its call's thread: a failure is libvirt's own words and one of
 * our codes. Nothing here waits for anybody but libvirt, and nothing takes the lock.
 */
#include "agent/vm/virt_int.h"

#include <errno.h>
#include <jansson.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGENT_ANSWER_S 5
#define HOST_VERB VIRT_DEFINE

const char *virt_state_name(enum virt_state state)
{
	static const char *const names[] = {"running", "paused",  "stopping",
					    "stopped", "crashed", "unknown"};
	return names[state];
}

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

int virt_call_ask(struct virt_call *call)
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
