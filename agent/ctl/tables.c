/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of every list. Titles are the words for -c, --sort and --filter: a contract. */
#include "agent/ctl/table.h"

#include <stddef.h>

static const struct column volume_columns[] = {
	{"NAME", "name", CELL_TEXT, false},
	{"SIZE", "size_bytes", CELL_SIZE, false},
	{"USED", "mapped_bytes", CELL_SIZE, false},
	{"SNAPS", "snapshot_count", CELL_NUMBER, false},
	{"ATTACHED", "attachments", CELL_NUMBER, false},
	{"CREATED", "created", CELL_TIME, false},
	{"POLICY", "policy", CELL_TEXT, true},
	{"HOME_POLICY", "home_policy", CELL_TEXT, true}, /* of a copy: its original's */
	{"UUID", "uuid", CELL_TEXT, true},
	{"QUOTA", "quota_bytes", CELL_SIZE, true},
	{"LEVEL", "level", CELL_NUMBER, true},
	{"FRAME", "frame_bytes", CELL_SIZE, true},
	{"LOG", "log_bytes", CELL_SIZE, true},
	{"FREED", "freed_bytes", CELL_SIZE, true},	  /* if it is deleted with its snapshots */
	{"FREEDOWN", "freed_own_bytes", CELL_SIZE, true}, /* what only the volume itself has */
	{"COUNTED", "freed_counted", CELL_TIME, true},
	{"HOLDER", "holder", CELL_TEXT, true},
	{"IOPS", "iops", CELL_NUMBER, true},
	{"BANDWIDTH", "bandwidth_bytes", CELL_SIZE, true},
	{"BURST", "burst_seconds", CELL_NUMBER, true},
	{"NUMBER", "number", CELL_NUMBER, true},
	{"EPOCH", "epoch", CELL_NUMBER, true},
	{"VSEQ", "vseq", CELL_NUMBER, true},
	{"ORIGIN", "origin", CELL_TEXT, true},
	{"ROOT", "root", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_volumes = {"volumes", volume_columns};

static const struct column snapshot_columns[] = {
	{"SNAPSHOT", "snapshot", CELL_SNAPSHOT, false},
	{"SIZE", "size_bytes", CELL_SIZE, false},
	{"CREATED", "created", CELL_TIME, false},
	{"HOLDS", "hold_count", CELL_NUMBER, false},
	{"RETAINED", "retain_until", CELL_TIME, false},
	{"SEALED", "sealed", CELL_TEXT, false},
	{"VOLUME", "volume", CELL_TEXT, true},
	{"NAME", "name", CELL_TEXT, true},
	{"NUMBER", "number", CELL_NUMBER, true},
	{"PARENT", "parent", CELL_NUMBER, true},
	{"POLICY", "policy", CELL_TEXT, true},
	{"FREED", "freed_bytes", CELL_SIZE, true}, /* if it is deleted */
	{"COUNTED", "freed_counted", CELL_TIME, true},
	{"VSEQ", "vseq", CELL_NUMBER, true},
	{"TAGS", "holds", CELL_TEXT, true},
	{"ROOT", "root", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_snapshots = {"snapshots", snapshot_columns};

static const struct column trash_columns[] = {
	{"ID", "id", CELL_TEXT, false},		  {"KIND", "kind", CELL_TEXT, false},
	{"NAME", "name", CELL_TEXT, false},	  {"SIZE", "size_bytes", CELL_SIZE, false},
	{"DELETED", "deleted", CELL_TIME, false}, {"PURGE", "purge", CELL_TIME, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_trash = {"trash", trash_columns};

static const struct column job_columns[] = {
	{"ID", "id", CELL_TEXT, false},		{"KIND", "kind", CELL_TEXT, false},
	{"OBJECT", "object", CELL_TEXT, false}, {"STATE", "state", CELL_TEXT, false},
	{"DONE", "progress", CELL_PART, false}, {"CREATED", "created", CELL_TIME, false},
	{"ENDED", "ended", CELL_TIME, false},	{"WAITS", "waits", CELL_TEXT, true},
	{"ERROR", "error", CELL_MESSAGE, true}, {NULL, NULL, CELL_TEXT, false},
};
const struct table table_jobs = {"jobs", job_columns};

static const struct column range_columns[] = {
	{"OFFSET", "offset_bytes", CELL_NUMBER, false},
	{"LENGTH", "length_bytes", CELL_NUMBER, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_ranges = {"ranges", range_columns};

static const struct column hold_columns[] = {
	{"TAG", "tag", CELL_TEXT, false},
	{"SNAPSHOT", "snapshot", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_holds = {"holds", hold_columns};

static const struct column store_columns[] = {
	{"UUID", "uuid", CELL_TEXT, false},
	{"CREATED", "created", CELL_TIME, false},
	{"READONLY", "read_only", CELL_TEXT, false},
	{"REASON", "reason", CELL_TEXT, false},
	{"FREE", "disk_free_bytes", CELL_SIZE, false},
	{"TOTAL", "disk_total_bytes", CELL_SIZE, false},
	{"CAPACITY", "capacity_bytes", CELL_SIZE, false},
	{"SEGMENTS", "segments", CELL_NUMBER, false},
	{"STORED", "segment_bytes", CELL_SIZE, false},
	{"LIVE", "live_bytes", CELL_SIZE, false},
	{"TRASH", "trash_bytes", CELL_SIZE, false},
	{"TRASHCOUNTED", "trash_counted", CELL_TIME, false},
	{"GARBAGE", "garbage_bytes", CELL_SIZE, false},
	{"PREPARED", "prepared_bytes", CELL_SIZE, false},
	{"RESERVE", "reserve_bytes", CELL_SIZE, false},
	{"UNIQUE", "unique_bytes", CELL_SIZE, false},
	{"CHUNKS", "chunks", CELL_NUMBER, false},
	{"LOGICAL", "logical_bytes", CELL_SIZE, false},
	{"LOG", "log_bytes", CELL_SIZE, false},
	{"LOGUSED", "log_used_bytes", CELL_SIZE, false},
	{"DIRTY", "dirty_bytes", CELL_SIZE, false},
	{"INDEX", "index_bytes", CELL_SIZE, false},
	{"MEMORY", "memory_bound_bytes", CELL_SIZE, false},
	{"GCERROR", "collection_error", CELL_TEXT, false},
	{"SCRUBAGE_S", "scrub_oldest_seconds", CELL_NUMBER,
	 false}, /* of what it verified longest ago */
	{"SCRUBERROR", "scrub_error", CELL_TEXT, false},
	{"SCRUBFOUND", "scrub_finding", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_store = {"store", store_columns};

static const struct column certificate_columns[] = {
	{"HOST", "host", CELL_TEXT, false},	  {"STATE", "state", CELL_TEXT, false},
	{"EXPIRES", "expires", CELL_TIME, false}, {"DAYS", "days_left", CELL_NUMBER, false},
	{"FILE", "file", CELL_TEXT, false},	  {"CLUSTER", "cluster", CELL_TEXT, true},
	{"SERIAL", "serial", CELL_TEXT, true},	  {NULL, NULL, CELL_TEXT, false},
};
const struct table table_certificates = {"certificates", certificate_columns};

static const struct column peer_columns[] = {
	{"HOST", "name", CELL_TEXT, false},
	{"ADDRESS", "address", CELL_TEXT, false},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_peers = {"peers", peer_columns};

static const struct column domain_columns[] = {
	{"DOMAIN", "name", CELL_TEXT, false}, {"VOLUMES", "volumes", CELL_NUMBER, false},
	{"OWN", "own", CELL_TEXT, false},     {"UUID", "uuid", CELL_TEXT, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_domains = {"domains", domain_columns};

static const struct column transfer_columns[] = {
	{"HOST", "host", CELL_TEXT, false},
	{"DIRECTION", "direction", CELL_TEXT, false},
	{"OBJECT", "object", CELL_TEXT, false},
	{"SENT", "sent_bytes", CELL_SIZE, false},
	{"RECEIVED", "received_bytes", CELL_SIZE, false},
	{"CLOCK_AHEAD_MS", "clock_ahead_ms", CELL_NUMBER, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_transfers = {"transfers", transfer_columns};

static const struct column replica_columns[] = {
	{"VOLUME", "volume", CELL_TEXT, false},
	{"HOST", "host", CELL_TEXT, false},
	{"MODE", "mode", CELL_TEXT, false},
	{"STATE", "state", CELL_TEXT, false},
	{"VERIFIED", "verified", CELL_TIME, false},
	{"COPIES", "copies", CELL_NUMBER, false},
	{"LAG_S", "lag_seconds", CELL_NUMBER, false},
	{"LOST_NOW", "lag_bytes", CELL_SIZE, false},
	{"SENT", "sent_bytes", CELL_SIZE, false},
	{"ERROR", "error", CELL_TEXT, false},
	{"WINDOW", "window", CELL_TEXT, true},
	{"WAITS", "waits", CELL_TEXT, true},
	{"LIMIT", "rate_bytes", CELL_SIZE, true},
	{"OLDEST_LOST", "oldest_unreplicated", CELL_TIME, true},
	{"EPOCH", "verified_epoch", CELL_NUMBER, true},
	{"VSEQ", "verified_vseq", CELL_NUMBER, true},
	{"ROOT", "verified_root", CELL_TEXT, true},
	{"ON_MISSING", "on_missing", CELL_TEXT, true},
	{"COMES_IN_STEP", "comes_in_step", CELL_TEXT, true},
	{"CUTS", "cuts", CELL_NUMBER, true},
	{"MAX_LAG_S", "max_lag_seconds", CELL_NUMBER, true},
	{"MAX_LAG", "max_lag_bytes", CELL_SIZE, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_replicas = {"replicas", replica_columns};

static const struct column shipped_columns[] = {
	{"VOLUME", "volume", CELL_TEXT, false},
	{"HOST", "host", CELL_TEXT, false},
	{"POLICY", "policy", CELL_TEXT, false},
	{"STATE", "state", CELL_TEXT, false},
	{"UNSENT", "waiting", CELL_NUMBER, false},
	{"LAG_S", "lag_seconds", CELL_NUMBER, false},
	{"NEXT", "snapshot", CELL_TEXT, false},
	{"SENT", "sent_bytes", CELL_SIZE, false},
	{"ERROR", "error", CELL_TEXT, false},
	{"SNAPSHOTS", "snapshots_sent", CELL_NUMBER, true},
	{"WINDOW", "window", CELL_TEXT, true},
	{"WAITS", "waits", CELL_TEXT, true},
	{"LIMIT", "rate_bytes", CELL_SIZE, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_shipped = {"shipped", shipped_columns};

static const struct column received_columns[] = {
	{"COPY", "volume", CELL_TEXT, false},  {"HOST", "host", CELL_TEXT, false},
	{"STATE", "state", CELL_TEXT, false},  {"AS_OF", "as_of", CELL_TIME, false},
	{"EPOCH", "epoch", CELL_NUMBER, true}, {"VSEQ", "vseq", CELL_NUMBER, true},
	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_received = {"received", received_columns};

static const struct column voter_columns[] = {
	{"VOLUME", "volume", CELL_TEXT, false}, {"HOST", "host", CELL_TEXT, false},
	{"KIND", "kind", CELL_TEXT, false},	{"IN_STEP", "in_step", CELL_TEXT, false},
	{"KNOWS", "knows", CELL_TEXT, false},	{"AGREES", "agrees", CELL_TEXT, false},
	{"STANDS", "stands", CELL_TEXT, false}, {"TERM", "term", CELL_NUMBER, true},
	{"SEQ", "seq", CELL_NUMBER, true},	{NULL, NULL, CELL_TEXT, false},
};
const struct table table_voters = {"voters", voter_columns};
