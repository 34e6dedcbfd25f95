/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What there is: volumes, snapshots and the store as a whole, what it counted, and when it will be
 * full. All are copies, made at once.
 */
#ifndef STORAGE_STORE_STORE_LIST_H
#define STORAGE_STORE_STORE_LIST_H

#include "storage/store/store_admin.h"

struct domain_info {
	uint8_t uuid[16];
	char name[NAME_ROOM];
	uint32_t volume_count;
	bool own; /* of this store from its beginning */
};
struct peer_info {
	char host[NAME_ROOM], address[PEER_ADDRESS_ROOM];
};
/* Arrays for the caller to free; -ENOMEM. */
int store_domains(const struct store *store, struct domain_info **ret, size_t *ret_count);
int store_peers(const struct store *store, struct peer_info **ret, size_t *ret_count);

/* What a deletion, and then a collection, would free, as counted so long ago. */
struct freed_info {
	bool known;
	bool at_least; /* there may be more */
	uint64_t bytes, age_ns;
};
struct volume_info {
	char name[NAME_ROOM];
	uint8_t uuid[16];
	uint32_t number;
	uint64_t size_bytes, quota_bytes;
	int level;
	uint32_t frame_bytes;
	uint64_t epoch, vseq;
	uint8_t incarnation[16]; /* of the epoch; zeros: not known */
	uint64_t durable_vseq;	 /* up to there it is durable at its primary, as far as is known */
	uint64_t created_wall_ns;
	uint64_t written_bytes; /* and zeroed, since the opening */
	uint64_t log_bytes;	/* not folded yet */
	uint64_t mapped_bytes;	/* chunks in its map, 64 KiB each */
	uint32_t attachments;
	uint32_t snapshot_count;
	uint8_t root[ID_BYTES]; /* of the last fold */
	uint8_t domain[16];
	bool replica;		     /* a copy of another host's volume ... */
	bool whole, taken, stepped;  /* ... which is no half of a transfer; being received, or
					following; when it was last whole, in step */
	bool superseded;	     /* another host is its primary: its users are to go */
	char origin[SNAP_NAME_ROOM]; /* cloned from, or "" */
	bool answers;		     /* store_view_answers of a view of it, now */
	uint32_t policy;	     /* number; 0: none */
	char home_policy[NAME_ROOM]; /* of a copy: its original's; "": none, or not told */
	struct volume_limits limits;
	struct volume_lease lease;
	bool in_trash;
	uint64_t deleted_wall_ns, purge_wall_ns;
	struct freed_info freed,
		freed_own; /* with its snapshots; what only the volume itself has */
};
struct snapshot_info {
	char volume[NAME_ROOM], name[NAME_ROOM];
	uint32_t number, volume_number, parent_number;
	uint32_t policy; /* that took it; 0: a person did */
	bool retained;	 /* its date is to come, by the store's age */
	bool attached;
	uint64_t size_bytes, epoch, vseq, created_wall_ns, retain_until_wall_ns;
	bool sealed, in_trash;
	uint64_t deleted_wall_ns, purge_wall_ns;
	uint8_t root[ID_BYTES];
	uint32_t hold_count;
	char holds[8][NAME_ROOM];
	struct freed_info freed;
};
struct store_info {
	uint8_t uuid[16];
	uint32_t format_version;
	uint64_t features, features_missing; /* a bit each */
	uint64_t created_wall_ns;
	bool read_only;
	char reason[SENTENCE_BYTES]; /* why read-only, or "" */
	uint64_t disk_free_bytes, disk_total_bytes, capacity_bytes;
	uint64_t segment_count, segment_bytes, dead_segment_bytes;
	uint64_t chunk_count;
	uint64_t log_bytes, log_used_bytes;
	uint64_t dirty_bytes;
	uint64_t logical_bytes; /* sum of mapped_bytes of volumes */
	uint64_t memory_bound_bytes;
	uint64_t index_bytes;
	uint64_t room_bytes;	/* what new data may still take */
	uint32_t lost_segments; /* could not be opened: their chunks cannot be read */
	bool full;		/* there was no space for a new segment */
	/* segment_bytes is the sum of these. Live and garbage are what the last collection counted,
	 * and what was written since counts as live; before the first one all does. */
	uint64_t live_bytes, garbage_bytes;
	uint64_t prepared_bytes;	       /* space of open segments that nothing is in yet */
	uint64_t reserve_bytes;		       /* kept for collections */
	uint64_t unique_bytes;		       /* chunks that are stored, 64 KiB each */
	uint32_t volume_count, snapshot_count; /* not in the trash */
	uint64_t trash_count;		       /* volumes and snapshots in the trash */
	struct freed_info trash;  /* what purging all of it would free: a part of live_bytes */
	bool counted;		  /* there was a collection since opening ... */
	uint64_t counted_age_ns;  /* ... so long ago */
	uint64_t scrub_oldest_ns; /* the record verified longest ago was so then */
	/* Sentences, or "": why the last collection failed, why the scrub does not get on, and what
	 * it found last that is damaged. */
	char gc_failed[SENTENCE_BYTES], scrub_failed[SENTENCE_BYTES], scrub_found[SENTENCE_BYTES];
	unsigned fold_active;
	unsigned index_phase; /* how far the writing of the index's file is; 0: it is not written */
};
struct store_counters {
	uint64_t reads, writes, trims, flushes, read_bytes, write_bytes;
	uint64_t cache_hits, cache_misses, prefetched_chunks;
	uint64_t commits, commit_blocks, log_syncs;
	uint64_t chunks_stored, chunks_deduplicated, chunk_bytes_in, chunk_bytes_out;
	uint64_t folds, folded_chunks, checkpoints, index_checkpoints;
	uint64_t index_pages_loaded, index_pages_damaged; /* from the index's file */
	uint64_t segment_syncs, throttled, checksum_errors, io_errors;
	uint64_t segments_sealed, segments_dropped;
	uint64_t scrubbed_records, scrub_damaged; /* by the scrub that goes on by itself */
	uint64_t healed, heals_failed;	   /* records asked for elsewhere: stored anew, or not */
	uint64_t collections, moved_bytes; /* records that collections copied */
	uint64_t collections_failed, scrubs_failed;
	uint64_t repacked_in_bytes, repacked_out_bytes; /* records that were compressed anew */
	/* Of ours, that another host was promoted for: waited for their users, became copies. */
	uint64_t volumes_superseded, volumes_yielded;
};
/* When it will be full, by its own history (at most four months, kept over restarts). */
struct store_forecast {
	bool known;		       /* the history is long enough */
	char sentence[SENTENCE_BYTES]; /* what to tell a person, in any case */
	uint64_t history_ns, used_bytes, available_bytes;
	uint32_t points;
	double bytes_a_day;
	/* Days of being open until it is full: the likely one, and those before which it is so with
	 * a tenth, and with nine tenths, of all chance. Negative: not in 100 years. */
	double days, days_low, days_high;
};
void store_forecast(const struct store *store, struct store_forecast *ret);
void store_info(const struct store *store, struct store_info *ret_info);
void store_counters(const struct store *store, struct store_counters *ret_counters);
/* Arrays for the caller to free, in the order of their numbers; -ENOMEM. in_trash chooses those in
 * the trash instead. */
int store_volumes(const struct store *store, bool in_trash, struct volume_info **ret,
		  size_t *ret_count);
/* One that is not in the trash, by its number: -ENOENT. */
int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret);
int store_snapshots(const struct store *store, bool in_trash, struct snapshot_info **ret,
		    size_t *ret_count);
/* What rules need to know of a snapshot, for who looks at all of tens of thousands often. Its names
 * are the store's own: good until control goes back to the loop. */
struct snapshot_brief {
	uint32_t number, volume_number;
	uint32_t policy; /* that took it; 0: a person did */
	bool retained, attached;
	uint64_t created_wall_ns;
	uint64_t epoch, vseq; /* the position of what it holds */
	const char *name;
	const char *hold; /* the first of those that hold it, or NULL */
};
/* Of all that are not in the trash themselves (their volume may be), in the order in which they
 * were taken. */
int store_snapshot_briefs(const struct store *store, struct snapshot_brief **ret,
			  size_t *ret_count);

#endif
