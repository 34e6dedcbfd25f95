/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls to libvirt: each in a thread and on a connection of its own, one at a time for a domain,
 * and with a deadline. Who waited too long leaves the call behind: it frees itself when libvirt
 * answers.
 */
#include "agent/vm/virt_int.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 30000

/* ---- on the call's thread ---- */

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

static void *call_run(void *state)
{
	struct virt_call *call = state;
	struct virt *virt = call->virt;
	int res = call_connect(call);
	if (res == 0)
		res = virt_call_ask(call);
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

struct timespec virt_deadline(int timeout_ms)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += timeout_ms / 1000;
	at.tv_nsec += (timeout_ms % 1000) * 1000000L;
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
	struct timespec deadline = virt_deadline(timeout_ms);
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
