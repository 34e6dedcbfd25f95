/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm shutdown --all: every guest ends, as the host is about to. What a boot starts last ends first,
 * what it does not start before all of that; guests of one place in the order end together, and the
 * next place begins when they are off.
 *
 * The time is shared evenly among the places that are left, so that one guest that does not answer
 * costs no other's: at the end of its share it loses its power, which is told. What a place does
 * not use is the next ones'.
 *
 * An operation for its job, its audit line, and to be alone; nothing of it is gone on with by the
 * next agent, since a restart of the agent is none of the guests' business.
 *
 * data: {deadline_s}; result: {ended: [names], destroyed: [names]}
 */
#include "agent/vm/op.h"

#include "storage/rt/log_event.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SECOND_NS (int64_t) NSEC_PER_SEC
#define ASK_AGAIN_S 10 /* a guest that still boots does not hear the button */
#define CALL_MS 2000   /* a guest that libvirt waits for holds up no other */
#define LOOK_S 1
#define LATE_S 30 /* past the deadline: for libvirt to take the power of those that did not end */
#define RANK_NONE INT64_MAX

struct ending {
	struct op *op;
	int64_t until_ns, rank_until_ns;
	int64_t rank;	  /* of those that end now */
	json_t *asked_ns; /* by UUID */
	json_t *names;	  /* of all that were seen */
	json_t *destroyed;
};

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

/* The later a boot starts it, the sooner it ends. */
static int64_t rank_of(const json_t *spec)
{
	return json_is_true(json_object_get(spec, "autostart")) ? spec_number(spec, "order")
								: RANK_NONE;
}

/* Ours that are not off: [{uuid, name, state, reason, rank}]. NULL: libvirt does not say. */
static json_t *guests_active(struct op *op)
{
	struct virt_result result = {0};
	struct virt_args args = {.timeout_ms = CALL_MS};
	json_t *list, *one, *active;
	size_t i;
	op->problem = (struct problem){0};
	if (virt_do(op->agent->virt, VIRT_LIST, &args, &result, &op->problem) < 0)
		return NULL;
	list = json_loads(result.text, 0, NULL);
	free(result.text);
	active = json_array();
	json_array_foreach(list, i, one) {
		struct vm vm;
		struct problem problem = {0};
		int64_t state = spec_number(one, "state");
		if (state == VIRT_STOPPED || state == VIRT_CRASHED ||
		    vm_get(op->agent, spec_text(one, "uuid"), &vm, &problem) < 0)
			continue;
		json_object_set_new(one, "name", json_string(vm.name));
		json_object_set_new(one, "rank", json_integer(rank_of(vm.spec)));
		json_array_append(active, one);
		vm_free(&vm);
	}
	json_decref(list);
	return active;
}

static int64_t rank_last(const json_t *active)
{
	int64_t last = INT64_MIN;
	json_t *one;
	size_t i;
	json_array_foreach(active, i, one)
		if (spec_number(one, "rank") > last)
			last = spec_number(one, "rank");
	return last;
}

static int64_t rank_count(const json_t *active)
{
	int64_t count = 0;
	json_t *one, *other;
	size_t i, k;
	json_array_foreach(active, i, one) {
		bool first = true;
		json_array_foreach(active, k, other)
			first &= k >= i || spec_number(other, "rank") != spec_number(one, "rank");
		count += first;
	}
	return count;
}

/* One that a person has paused would not hear it. One that waits for its disk goes on by itself,
 * or never will. */
static void guest_ask(struct ending *ending, const json_t *guest)
{
	struct agent *agent = ending->op->agent;
	const char *uuid = spec_text(guest, "uuid"), *name = spec_text(guest, "name");
	struct virt_args args = {.uuid = uuid, .timeout_ms = CALL_MS};
	struct problem problem = {0};
	int64_t asked_ns = spec_number(ending->asked_ns, uuid);
	int res = 0;
	if (asked_ns && now_ns() < asked_ns + ASK_AGAIN_S * SECOND_NS)
		return;
	if (spec_number(guest, "state") == VIRT_PAUSED &&
	    spec_number(guest, "reason") == VIRT_REASON_USER)
		res = virt_do(agent->virt, VIRT_RESUME, &args, NULL, &problem);
	if (res == 0)
		res = virt_do(agent->virt, VIRT_SHUTDOWN, &args, NULL, &problem);
	if (!asked_ns)
		agent_event(agent, "vm.shutdown_asked", name, NULL);
	log_event(LOG_LEVEL_INFO, "vm.shutdown_asked", "vm=%s res=%d", name, res);
	json_object_set_new(ending->asked_ns, uuid, json_integer(now_ns()));
}

static void guest_destroy(struct ending *ending, const json_t *guest)
{
	struct agent *agent = ending->op->agent;
	const char *uuid = spec_text(guest, "uuid"), *name = spec_text(guest, "name");
	struct virt_args args = {.uuid = uuid, .timeout_ms = CALL_MS};
	struct problem problem = {0};
	int res = virt_do(agent->virt, VIRT_DESTROY, &args, NULL, &problem);
	log_event(LOG_LEVEL_WARNING, "vm.destroyed",
		  "vm=%s reason=\"it did not end within its share of the time\" res=%d", name, res);
	if (!json_object_get(ending->destroyed, uuid))
		agent_event(agent, "vm.destroyed", name, NULL);
	json_object_set_new(ending->destroyed, uuid, json_string(name));
}

/* One look: those whose turn it is are asked, or have had their time. */
static void guests_press(struct ending *ending, const json_t *active)
{
	int64_t now = now_ns(), last = rank_last(active);
	json_t *guest;
	size_t i;
	if (last != ending->rank) {
		ending->rank = last;
		ending->rank_until_ns = now + (ending->until_ns - now) / rank_count(active);
	}
	json_array_foreach(active, i, guest) {
		json_object_set(ending->names, spec_text(guest, "uuid"),
				json_object_get(guest, "name"));
		if (spec_number(guest, "rank") != last)
			continue;
		if (now < ending->rank_until_ns)
			guest_ask(ending, guest);
		else
			guest_destroy(ending, guest);
	}
}

/* For a moment, or until something happens. False: the agent is to end. */
static bool moment(struct agent *agent)
{
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += LOOK_S;
	pthread_mutex_lock(&agent->lock);
	if (!agent->stopping)
		pthread_cond_timedwait(&agent->changed, &agent->lock, &at);
	bool on = !agent->stopping;
	pthread_mutex_unlock(&agent->lock);
	return on;
}

/* Whoever starts guests after a boot starts no more of them from here on. */
static bool starting_end(struct agent *agent, bool ending)
{
	pthread_mutex_lock(&agent->lock);
	agent->ending = ending;
	bool starting = agent->starting;
	pthread_cond_broadcast(&agent->changed);
	pthread_mutex_unlock(&agent->lock);
	return starting;
}

static int guests_end(struct ending *ending)
{
	struct op *op = ending->op;
	for (;;) {
		bool starting = starting_end(op->agent, true);
		json_t *active = guests_active(op);
		size_t count = json_array_size(active);
		if (active && count > 0)
			guests_press(ending, active);
		bool known = active != NULL;
		json_decref(active);
		if (known && count == 0 && !starting)
			return 0;
		if (now_ns() > ending->until_ns + LATE_S * SECOND_NS)
			return known ? problem_set(&op->problem, -ETIMEDOUT,
						   "%zu guests run on although their power was "
						   "taken: look at libvirtd and at their QEMU.",
						   count)
				     : -ETIMEDOUT; /* it says why */
		if (!moment(op->agent))
			return problem_set(&op->problem, -VS_ECANCELLED,
					   "The agent was stopped before all guests had ended; "
					   "those that run are left alone.");
	}
}

static json_t *names_of(const json_t *object, const json_t *without)
{
	json_t *names = json_array(), *name;
	const char *uuid;
	json_object_foreach((json_t *)object, uuid, name)
		if (!json_object_get(without, uuid))
			json_array_append(names, name);
	return names;
}

static int end(struct op *op)
{
	struct ending ending = {.op = op,
				.until_ns =
					now_ns() + spec_number(op->data, "deadline_s") * SECOND_NS,
				.rank = INT64_MIN,
				.asked_ns = json_object(),
				.names = json_object(),
				.destroyed = json_object()};
	int res = guests_end(&ending);
	starting_end(op->agent, false);
	op->result = json_pack("{s:o, s:o}", "ended", names_of(ending.names, ending.destroyed),
			       "destroyed", names_of(ending.destroyed, NULL));
	json_decref(ending.asked_ns);
	json_decref(ending.names);
	json_decref(ending.destroyed);
	return res;
}

static const struct op_step shutdown_steps[] = {{"end", end, NULL}};
const struct op_kind op_shutdown_all = {"vm.shutdown_all", shutdown_steps, 1, 1};
