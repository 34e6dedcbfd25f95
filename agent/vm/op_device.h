/* SPDX-License-Identifier: Apache-2.0 */
/* What operations on a VM's disks and NICs share: a device in the domain that data.vm names, found
 * by its alias (domxml_alias of `name`). Each may be repeated. `xml` is malloc's, and freed. */
#ifndef AGENT_VM_OP_DEVICE_H
#define AGENT_VM_OP_DEVICE_H

#include "agent/vm/op.h"

#define ALIAS_ROOM 64

/* A step: the catalog still has the VM. */
int op_vm_check(struct op *op);

/* In the running domain's XML, or in the definition's when it does not run. */
int device_there(struct op *op, const char *name, bool *ret_there);
int device_add(struct op *op, const char *name, char *xml);
/* Done when libvirt's event has come, not when the call returns. -EBUSY: the guest kept it. */
int device_remove(struct op *op, const char *name, char *xml);

#endif
