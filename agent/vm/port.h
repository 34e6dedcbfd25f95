/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The port of a NIC that is in a VLAN of a Linux bridge: libvirt sets VLANs on Open vSwitch only.
 * It is a tap device of the agent's, which lasts as long as the catalog has the NIC, whoever starts
 * or restarts the guest; libvirt gives it to QEMU and makes and removes nothing (managed='no').
 *
 *   made, down -> on the bridge, which gives it the bridge's own VLAN -> that taken away, VLAN N
 *   given, untagged -> read back -> up
 *
 * A port that is down passes no frame, so none ever crosses in another VLAN, and a port that an
 * agent left half made is either down or right. Only such ports are changed: the bridge and its
 * other ports are looked at. Calls about one port come one at a time.
 */
#ifndef AGENT_VM_PORT_H
#define AGENT_VM_PORT_H

#include "agent/vm/storage.h"

#include <jansson.h>
#include <stdbool.h>

#define PORT_NAME_ROOM 16 /* of the kernel */

/* "vst" and the digits of the NIC's MAC address, which one VM alone has. */
void port_name(const char *mac, char out[PORT_NAME_ROOM]);

/* The NIC is to have one: it is in a VLAN of a bridge, and that is the kernel's. */
bool port_wanted(const json_t *nic);
/* The bridge keeps VLANs apart. -ENOTSUP with what to do. */
int port_bridge_check(const json_t *nic, struct problem *problem);

/* There, on its bridge, in its VLAN alone, and up; mended where it is not. May be repeated.
 * -ENOTSUP as above, -ENOENT: no iproute2, -EEXIST: another device has its name, -EIO. */
int port_make(const json_t *nic, struct problem *problem);
/* May be repeated. */
int port_remove(const json_t *nic, struct problem *problem);

/* What `bridge -j vlan show` says of a port: it is in this VLAN, untagged, and in no other. Pure.
 */
bool port_vlan_only(const char *said, int vlan);

#endif
