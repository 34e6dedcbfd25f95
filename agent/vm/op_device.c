/* SPDX-License-Identifier: Apache-2.0 */
/* Devices come and go in a domain, running or not; see op_device.h. */
#include "agent/vm/op_device.h"

#include "agent/vm/domxml.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GONE_MS 20000

int op_vm_check(struct op *op)
{
	struct vm vm;
	int res = vm_get(op->agent, op_vm(op), &vm, &op->problem);
	if (res == 0)
		vm_free(&vm);
	return res;
}

int device_there(struct op *op, const char *name, bool *ret_there)
{
	char alias[ALIAS_ROOM], want[ALIAS_ROOM + 16];
	struct virt_result result = {0};
	struct virt_args args = {.uuid = op_vm(op)};
	int res = virt_do(op->agent->virt, VIRT_XML, &args, &result, &op->problem);
	if (res < 0)
		return res;
	domxml_alias(name, alias, sizeof alias);
	snprintf(want, sizeof want, "alias name='%s'", alias);
	*ret_there = strstr(result.text, want) != NULL;
	free(result.text);
	return 0;
}

int device_add(struct op *op, const char *name, char *xml)
{
	bool there;
	struct virt_args args = {.uuid = op_vm(op), .text = xml};
	int res = device_there(op, name, &there);
	if (res == 0 && !there)
		res = virt_do(op->agent->virt, VIRT_ATTACH, &args, NULL, &op->problem);
	free(xml);
	return res;
}

static int device_gone(struct op *op, const char *name, uint64_t mark)
{
	char alias[ALIAS_ROOM];
	bool there;
	domxml_alias(name, alias, sizeof alias);
	int res = virt_wait_gone(op->agent->virt, op_vm(op), alias, mark, GONE_MS);
	if (res == -ETIMEDOUT && device_there(op, name, &there) == 0 && !there)
		return 0; /* the connection was lost in between: events are not repeated */
	if (res < 0)
		problem_set(&op->problem, res,
			    "The guest did not let go of %s; it may be in use there, or the guest "
			    "may not have booted far enough to answer.",
			    name);
	return res;
}

int device_remove(struct op *op, const char *name, char *xml)
{
	enum virt_state state = VIRT_STOPPED;
	enum virt_reason reason;
	bool there = false;
	struct virt_args args = {.uuid = op_vm(op), .text = xml};
	uint64_t mark = virt_event_mark(op->agent->virt);
	int res = device_there(op, name, &there);
	if (res == 0 && there)
		res = vm_state(op->agent, op_vm(op), &state, &reason, &op->problem);
	if (res == 0 && there)
		res = virt_do(op->agent->virt, VIRT_DETACH, &args, NULL, &op->problem);
	if (res == 0 && there && state != VIRT_STOPPED)
		res = device_gone(op, name, mark);
	free(xml);
	return res;
}
