/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of the lists that the agent answers. Like those of tables.c a contract. */
#include "agent/ctl/table.h"

#include <stddef.h>

static const struct column vms_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"STATE", "state", CELL_TEXT, false},
	{"CPU", "cpu", CELL_NUMBER, false},
	{"MEMORY", "memory_bytes", CELL_SIZE, false},
	{"DISKS", "disk_count", CELL_NUMBER, false},
	{"SIZE", "disk_bytes", CELL_SIZE, false},
	{"IMAGE", "image", CELL_TEXT, false},
	{"AUTOSTART", "autostart", CELL_TEXT, false},
	{"CREATED", "created", CELL_TIME, false},
	{"UUID", "uuid", CELL_TEXT, true},
	{"FIRMWARE", "firmware", CELL_TEXT, true},
	{"ACCEL", "accel", CELL_TEXT, true},
	{"ORDER", "order", CELL_NUMBER, true},
	{"CDROM", "cdrom", CELL_TEXT, true},
	{"GENERATION", "generation", CELL_NUMBER, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_vms = {"vms", vms_columns};

static const struct column disks_columns[] = {
	{"TARGET", "target", CELL_TEXT, false},	  {"VOLUME", "volume", CELL_TEXT, false},
	{"SIZE", "size_bytes", CELL_SIZE, false}, {"OWNED", "owned", CELL_TEXT, false},
	{"UUID", "uuid", CELL_TEXT, true},	  {NULL, NULL, CELL_TEXT, false},
};
const struct table table_disks = {"disks", disks_columns};

static const struct column nics_columns[] = {
	{"MAC", "mac", CELL_TEXT, false},     {"BRIDGE", "bridge", CELL_TEXT, false},
	{"VLAN", "vlan", CELL_NUMBER, false}, {"NETWORK", "network", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_nics = {"nics", nics_columns};

static const struct column vm_snapshots_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"VM", "vm", CELL_TEXT, false},
	{"CONSISTENCY", "consistency", CELL_TEXT, false},
	{"CREATED", "created", CELL_TIME, false},
	{"FROZEN", "frozen_ms", CELL_NUMBER, true},
	{"MEMBERS", "members", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_vm_snapshots = {"vm_snapshots", vm_snapshots_columns};

static const struct column images_columns[] = {
	{"NAME", "name", CELL_TEXT, false},	{"SIZE", "size_bytes", CELL_SIZE, false},
	{"SOURCE", "source", CELL_TEXT, false}, {"CREATED", "created", CELL_TIME, false},
	{"VOLUME", "volume", CELL_TEXT, true},	{"SNAPSHOT", "snapshot", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_images = {"images", images_columns};

static const struct column networks_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"ACTIVE", "active", CELL_TEXT, false},
	{"BRIDGE", "bridge", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_networks = {"networks", networks_columns};

static const struct column events_columns[] = {
	{"CURSOR", "cursor", CELL_NUMBER, false}, {"TIME", "time", CELL_TIME, false},
	{"KIND", "kind", CELL_TEXT, false},	  {"OBJECT", "object", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_events = {"events", events_columns};

static const struct column audit_columns[] = {
	{"SEQUENCE", "sequence", CELL_NUMBER, false},
	{"TIME", "time", CELL_TIME, false},
	{"UID", "uid", CELL_NUMBER, false},
	{"METHOD", "method", CELL_TEXT, false},
	{"PATH", "path", CELL_TEXT, false},
	{"RESULT", "result", CELL_TEXT, false},
	{"PID", "pid", CELL_NUMBER, true},
	{"BODY", "body", CELL_TEXT, true},
	{"HASH", "hash", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_audit = {"audit", audit_columns};

static const struct column findings_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"STATE", "state", CELL_TEXT, false},
	{"MESSAGE", "message", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_findings = {"findings", findings_columns};

static const struct column attachments_columns[] = {
	{"VOLUME", "volume", CELL_TEXT, false},
	{"HOLDER", "holder_name", CELL_TEXT, false},
	{"CONNECTIONS", "connections", CELL_NUMBER, false},
	{"GENERATION", "generation", CELL_NUMBER, true},
	{"UID", "uid", CELL_NUMBER, true},
	{"UUID", "holder", CELL_TEXT, true},
	{"SOCKET", "socket", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_attachments = {"attachments", attachments_columns};
