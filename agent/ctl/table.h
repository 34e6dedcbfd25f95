/* SPDX-License-Identifier: Apache-2.0 */
/* Data on stdout, in the format that -o asks for. Functions that return int return an exit code. */
#ifndef AGENT_CTL_TABLE_H
#define AGENT_CTL_TABLE_H

#include "agent/ctl/cells.h"
#include "agent/ctl/ctl.h"

extern const struct table table_volumes, table_snapshots, table_trash, table_jobs, table_ranges,
	table_holds, table_store, table_vms, table_disks, table_nics, table_vm_snapshots,
	table_images, table_networks, table_events, table_audit, table_findings, table_attachments,
	table_certificates, table_peers, table_domains, table_transfers, table_replicas,
	table_shipped, table_received, table_voters;

/* A list's document: filtered, sorted, with the columns that were asked for. */
int table_print_list(const struct ctl *ctl, const struct table *table,
		     const struct value *document);
/* One object, a line for each of its columns; `document` is what -o json shows. */
int table_print_one(const struct ctl *ctl, const struct table *table, const struct value *object,
		    const struct value *document);

void table_print_json(const struct value *document);
/* The name of a volume, VOL@SNAP of a snapshot, or those of an array of them, a line each. */
void table_print_names(const struct value *objects);
void table_print_job(const struct ctl *ctl, const struct value *job);
void table_print_ranges(const struct ctl *ctl, const struct value *ranges);
/* Foreign text as a line of data, its control characters replaced. */
void table_print_line(const char *text);

#endif
