/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: everything that nbd/, repl/ and daemon/ may ask of it.
 *
 * One reactor thread calls all of this and gets all callbacks. Requests never complete before the
 * call that started them returns. Nothing here blocks, except store_make, store_open and
 * store_close, which run the env's loop themselves.
 */
#ifndef STORAGE_STORE_STORE_H
#define STORAGE_STORE_STORE_H

#include "proto/err.h"
#include "proto/units.h"
#include "storage/rt/env.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct store;
struct view; /* an attachment: a volume opened read-write, or a snapshot opened read-only */

/* ---- making, opening, closing ---- */

struct store_make_options {
	uint64_t log_bytes;   /* 0: 1 GiB, or 1/16 of the file system if that is less; multiple of 1
				 MiB */
	const char *log_dir;  /* NULL: in the store's directory */
	bool any_file_system; /* accept file systems that are refused by name otherwise */
};

#define SCRUB_NEVER UINT64_MAX
#define GC_NEVER UINT64_MAX
#define RECOMPRESS_LEVEL_MAX 19u
/* What has it is decoded as fast as what has level 1, and is 6 % smaller; the levels from 12 on
 * give 4 % more, and are decoded more slowly by a sixth (bench/README.md). */
#define RECOMPRESS_LEVEL_DEFAULT 6u

struct store_options {
	uint64_t cache_bytes;		/* decoded blocks; 0: 256 MiB */
	uint64_t node_cache_bytes;	/* map nodes; 0: 64 MiB */
	uint64_t directory_cache_bytes; /* segment directories; 0: 64 MiB */
	const char *log_dir;		/* NULL: where the superblock says */
	bool read_only;			/* offline check: no write to any file */
	bool any_file_system;
	uint64_t trash_delay_ns; /* 0: 7 days */
	uint64_t idle_fold_ns; /* fold a volume's log blocks when it was quiet that long; 0: 30 s */
	uint64_t scrub_period_ns; /* every record is verified once in it; 0: 30 days */
	/* A collection this long after the one before, when something changed; 0: 1 hour. GC_NEVER:
	 * only when space is low, after purges, and by hand. */
	uint64_t gc_interval_ns;
	uint64_t capacity_bytes; /* segments take no more than this; 0: no bound of our own */
	/* Collections compress records that were written this long ago anew at this zstd level, and
	 * go on until there are none; 0: never (but by hand). after 0: 7 days. */
	unsigned recompress_level;
	uint64_t recompress_after_ns;
	/* The index's file follows when so many segments were sealed; 0: 16 to 128, with its size
	 */
	uint32_t index_lag_segments;
};

/* Makes a store in an existing empty directory. Returns 0 or a negative code and one sentence that
 * says what failed and what to do. */
int store_make(struct env *env, const char *path, const struct store_make_options *options,
	       char ret_sentence[SENTENCE_BYTES]);

/* Opens and recovers. On failure nothing was written that was not there. */
int store_open(struct env *env, const char *path, const struct store_options *options,
	       struct store **ret_store, char ret_sentence[SENTENCE_BYTES]);

/* Waits for what is under way, makes all durable, writes a checkpoint, frees. All views must be
 * closed. Returns 0 or what went wrong (the store is free in any case). */
int store_close(struct store *store);

/* Frees it although operations were under way that will never end: the env has crashed
 * (simulation). */
void store_abandon(struct store *store);

/* ---- data path ---- */

enum request_kind {
	REQUEST_READ,
	REQUEST_WRITE,
	REQUEST_TRIM, /* reads as zeros afterwards */
	REQUEST_ZERO,
	REQUEST_FLUSH,
	REQUEST_CACHE,	/* a hint: read it into the cache */
	REQUEST_STATUS, /* extents */
	REQUEST_COPY,	/* the store's own: a chunk becomes a record of a peer */
};
enum request_flags {
	REQUEST_FUA = 1,
};

struct extent {
	uint64_t length_bytes;
	bool hole; /* no data, reads as zeros */
};

/* One request of a guest. The caller owns it and `data` until op.done; op.res is 0 or a negative
 * code (-EIO, -ENOSPC, -EROFS, -EINVAL beyond the end, -VS_ECHECKSUM, -VS_EFAILSTOP, -VS_EQUOTA,
 * -ESHUTDOWN once the view closes). Any offset and length; aligned ones are faster. */
struct store_request {
	struct io_op op;
	struct view *view;
	enum request_kind kind;
	unsigned flags;
	uint64_t offset_bytes;
	uint64_t length_bytes;	/* READ, WRITE: at most 64 MiB */
	void *data;		/* READ: filled; WRITE: the payload. Aligned to 4 KiB is faster */
	struct extent *extents; /* STATUS: the caller's array ... */
	uint32_t extent_count_max; /* ... its room; may end before the range does */
	uint32_t extent_count;	   /* ... how many were filled in, at least 1 on success */

	/* The store's own until done. */
	struct store_request *next;
	struct store_request *prev;
	uint64_t vseq;
	uint64_t progress_bytes;
	uint32_t pending;
	uint32_t unlogged; /* of a write's pieces: those that the log was not given yet */
	int32_t status;
	uint8_t phase;
	void *part; /* what it waits with */
	/* Or NULL. Of a write: the log was given all of it, or it failed (`status`). */
	void (*logged)(struct store_request *request);
};

/* Starts a request. It may be queued inside when the log or a pool is full. */
void store_submit(struct store_request *request);

/* "NAME", or "NAME@SNAP" (read-only). -ENOENT; -EBUSY for a volume that is being purged. A volume
 * may be opened several times (NBD multi-conn); a view counts as an attachment of the volume. */
int store_view_open(struct store *store, const char *name, struct view **ret_view);
/* For the holder of the volume's lease, which has this generation (0: as store_view_open).
 * -VS_EFENCED: it has another one, or there is none. While a volume is leased, the views of others
 * are read-only. */
int store_view_open_leased(struct store *store, const char *name, uint64_t generation,
			   struct view **ret_view);
/* From here on nothing more of it is admitted to the log: writes end with -VS_EFENCED. When its
 * requests are done, no byte of it lands any more. */
void store_view_fence(struct view *view);
/* Its requests must be done. */
void store_view_close(struct view *view);
uint64_t store_view_bytes(const struct view *view);
bool store_view_read_only(const struct view *view);
const uint8_t *store_view_uuid(const struct view *view); /* of its volume */
/* Data is cached and ordered for all connections of a volume alike: a flush on one covers all. */

/* ---- administration ---- */

#define NAME_ROOM (NAME_BYTES_MAX + 1)
#define SNAP_NAME_ROOM (2 * NAME_BYTES_MAX + 2) /* VOLUME@SNAP */
#define SNAP_GROUP_MAX 32u			/* snapshots in one atomic step */

/* A change in progress: the caller's, until op.done. op.res: 0 or a negative code, and then
 * `sentence` says what failed, why, what to do. */
struct admin_op {
	struct io_op op;
	char sentence[SENTENCE_BYTES];

	char holder[SNAP_NAME_ROOM]; /* -EBUSY, -VS_ERETAINED: what stands in the way, or "" */
};

/* How much a volume's clients may do; the store keeps it, who serves them sees to it. */
struct volume_limits {
	uint64_t iops, bytes_per_s; /* 0: no limit */
	uint32_t burst_s;	    /* what was not used is saved up for so long; 0: 1 s */
};
#define BURST_S_MAX 3600u

struct volume_options {
	uint64_t size_bytes;
	int level;	      /* zstd level; 0: 1 */
	uint32_t frame_bytes; /* 4, 8, 16 or 64 KiB; 0: 16 KiB */
	uint64_t quota_bytes; /* 0: none */
	const char *domain;   /* its name; NULL: the store's own */
};

void store_volume_create(struct store *store, struct admin_op *op, const char *name,
			 const struct volume_options *options);
void store_volume_grow(struct store *store, struct admin_op *op, const char *name,
		       uint64_t size_bytes);
void store_volume_rename(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name);
/* Keys: "level", "quota", "frame"; "iops", "bandwidth" (bytes a second) and "burst" (seconds) of
 * its limits, which the store only keeps. -EINVAL for others. */
void store_volume_set(struct store *store, struct admin_op *op, const char *name, const char *key,
		      const char *value);
/* Into the trash, with its snapshots. -EBUSY while attached, -VS_ERETAINED while a snapshot is
 * held. */
void store_volume_delete(struct store *store, struct admin_op *op, const char *name);
/* A new volume that starts as the snapshot; O(1) once that is sealed, and waits until then. */
void store_volume_clone(struct store *store, struct admin_op *op, const char *snapshot,
			const char *new_name);

/* Leases: who alone may write to a volume. Each has a generation, which is never given twice. */
struct volume_lease {
	uint64_t generation; /* of the last one there was; 0: there never was one */
	uint8_t holder[16];
	char holder_name[NAME_ROOM]; /* "": nobody has it */
};
/* The same holder may ask again, also with another name, and keeps its generation. -EBUSY, and
 * op->holder: another one has it, or somebody without a lease has the volume open for writing. */
void store_lease_take(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t holder[16], const char *holder_name);
/* Nobody has it then. holder: NULL for whoever has it. Its views should be fenced and closed
 * before. -ENOENT: that holder does not have it. */
void store_lease_end(struct store *store, struct admin_op *op, const char *name,
		     const uint8_t *holder);

/* `count` names VOL@SNAP, all in one atomic step. Done when the commit is durable. */
void store_snap_create(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count);
void store_snap_delete(struct store *store, struct admin_op *op,
		       const char *name); /* to the trash */
/* The volume becomes the snapshot again (what it held is lost unless snapshotted). -EBUSY:
 * attached. */
void store_snap_restore(struct store *store, struct admin_op *op, const char *name);
void store_snap_hold(struct store *store, struct admin_op *op, const char *name, const char *tag);
void store_snap_release(struct store *store, struct admin_op *op, const char *name,
			const char *tag);
void store_snap_retain(struct store *store, struct admin_op *op, const char *name,
		       uint64_t until_wall_ns);
/* Done when its root is known (folded). */
void store_snap_seal(struct store *store, struct admin_op *op, const char *name);

/* ---- policies: what snapshots are taken and kept. The store keeps them; who runs them is above.
 */

#define POLICIES_MAX 64u
#define POLICY_NAME_BYTES_MAX 40u /* its snapshots are named POLICY-YYYYMMDD-HHMMSSZ */
enum policy_keep {
	KEEP_LAST,
	KEEP_HOURLY,
	KEEP_DAILY,
	KEEP_WEEKLY,
	KEEP_MONTHLY,
	KEEP_YEARLY,
	POLICY_KEEPS,
};
struct policy_rules {
	uint64_t every_ns;	     /* a snapshot of each of its volumes; 0: only when asked */
	uint32_t keep[POLICY_KEEPS]; /* how many; the newest of each hour, day ... count */
};
struct policy_info {
	char name[NAME_ROOM];
	uint32_t number;
	struct policy_rules rules;
	uint32_t volume_count;
};
/* A new one, or other rules for one that is there. */
void store_policy_set(struct store *store, struct admin_op *op, const char *name,
		      const struct policy_rules *rules);
/* -EBUSY while a volume has it. Its snapshots stay, and nobody removes them. */
void store_policy_delete(struct store *store, struct admin_op *op, const char *name);
/* The volume has this policy from now on ("": none) instead of the one it had. */
void store_policy_attach(struct store *store, struct admin_op *op, const char *volume,
			 const char *policy);
/* As store_snap_create; the snapshots are the policy's, which may remove them. */
void store_policy_snap(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count, uint32_t policy);
/* An array for the caller to free; -ENOMEM. */
int store_policies(const struct store *store, struct policy_info **ret, size_t *ret_count);

/* number: the trash's id. as: NULL for its old name. */
void store_trash_restore(struct store *store, struct admin_op *op, uint64_t number, const char *as);
void store_trash_purge(struct store *store, struct admin_op *op, uint64_t number);

/* ---- the format ---- */

/* Adds the features that the store's format lacks; durable when done, and then versions that do not
 * know them no longer open it. Nothing to do is no error. */
void store_upgrade(struct store *store, struct admin_op *op);
/* Of a bit of store_info.features; NULL: there is none. */
const char *store_feature_name(unsigned bit);

/* ---- domains and peers ---- */

#define PEER_ADDRESS_ROOM 128u /* "ADDRESS:PORT" */

/* A domain that a peer handed over: its key, under a name of ours. The same key again is no error;
 * -EEXIST: the name belongs to another key. */
void store_domain_add(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t key[64]);
/* To hand it to a peer. -ENOENT. */
int store_domain_key(const struct store *store, const uint8_t uuid[16], uint8_t ret_key[64]);
/* The same host again gets the new address. */
void store_peer_add(struct store *store, struct admin_op *op, const char *host,
		    const char *address);
void store_peer_delete(struct store *store, struct admin_op *op, const char *host);

/* ---- listing: copies, at once ---- */

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
	bool replica;		     /* a copy of another host's volume */
	char origin[SNAP_NAME_ROOM]; /* cloned from, or "" */
	bool answers;		     /* store_view_answers of a view of it, now */
	uint32_t policy;	     /* number; 0: none */
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
	uint64_t prepared_bytes;  /* space of open segments that nothing is in yet */
	uint64_t reserve_bytes;	  /* kept for collections */
	uint64_t unique_bytes;	  /* chunks that are stored, 64 KiB each */
	uint64_t trash_count;	  /* volumes and snapshots in the trash */
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
/* Arrays for the caller to free; -ENOMEM. in_trash chooses those in the trash instead. */
int store_volumes(const struct store *store, bool in_trash, struct volume_info **ret,
		  size_t *ret_count);
/* One that is not in the trash, by its number: -ENOENT. */
int store_volume_info(const struct store *store, uint32_t number, struct volume_info *ret);
int store_snapshots(const struct store *store, bool in_trash, struct snapshot_info **ret,
		    size_t *ret_count);

/* ---- followers: hosts that are to have a copy of a volume that is never older than this ---- */

#define FOLLOWERS_MAX 256u
struct follower_rules {
	uint64_t lag_ns;     /* from 1 s to a day */
	uint64_t lag_bytes;  /* written since; 0: any */
	uint64_t rate_bytes; /* a second; 0: no limit */
	/* It gets each commit as it is made, and flushes of the volume end when it has all before
	 * them, however long that takes. */
	bool in_step;
	/* In step, where three or more vote: when it is missing the voters write down that it is
	 * left out, and then flushes do not wait for it. */
	bool degrade;
};
struct follower_info {
	char volume[NAME_ROOM], host[NAME_ROOM];
	uint32_t volume_number;
	struct follower_rules rules;
	bool left_out; /* in step by its rules, and not among those that have all; voters say so */
};
/* A new one, or other rules. The host is a peer. The store only keeps it: who sends is above. */
void store_follower_set(struct store *store, struct admin_op *op, const char *volume,
			const char *host, const struct follower_rules *rules);
void store_follower_delete(struct store *store, struct admin_op *op, const char *volume,
			   const char *host);
/* An array for the caller to free; -ENOMEM. */
int store_followers(const struct store *store, struct follower_info **ret, size_t *ret_count);

/* An epoch's high half counts promotions, the low one openings that wrote: so what a person, or a
 * majority, has made the volume is above all that an old primary may still open and write. */
#define EPOCH_TERM (UINT64_C(1) << 32)
static inline uint64_t epoch_next_term(uint64_t epoch)
{
	return (epoch / EPOCH_TERM + 1) * EPOCH_TERM;
}
/* Where a volume comes from: each opening that wrote, and behind which write it began; those of the
 * last promotion's and before it, as many as there is room for. Oldest first. */
#define STORE_LINES_MAX 24u
struct store_line {
	uint64_t epoch, begin_vseq;
	uint8_t incarnation[16];
};
struct store_lines {
	uint32_t count;
	struct store_line at[STORE_LINES_MAX];
};

/* A place in a volume's life: nothing else was ever written under the same three. */
struct store_position {
	uint64_t epoch, vseq;
	uint8_t incarnation[16]; /* of the epoch; zeros: not known */
};
/* Both are known, and are not the same. */
static inline bool incarnations_differ(const uint8_t a[16], const uint8_t b[16])
{
	static const uint8_t none[16];
	return memcmp(a, b, 16) != 0 && memcmp(a, none, 16) != 0 && memcmp(b, none, 16) != 0;
}
/* A record of data that took effect. */
struct store_tap_record {
	uint32_t volume;
	struct store_position position; /* after it */
	uint64_t offset_bytes, length_bytes;
	const void *data; /* valid during the call; NULL: zeros */
};
struct store_tap_ops {
	void (*record)(void *owner, const struct store_tap_record *record);
	/* The commit ends that the records since the last call were of. */
	void (*committed)(void *owner);
	/* The volume changed otherwise (grown, restored, deleted): it is tapped no more. */
	void (*broken)(void *owner, uint32_t volume);
};
/* Who gets the records of tapped volumes, in the order of the log; none of its calls may call the
 * store, but for reading and for store_tap. NULL: nobody, and no volume is tapped any more. */
void store_set_tap(struct store *store, const struct store_tap_ops *ops, void *owner);
/* On: with what takes effect from now on. -ENOENT. */
int store_tap(struct store *store, uint32_t volume, bool on);
/* The follower has all up to this vseq, for good. */
void store_follower_acked(struct store *store, uint32_t volume, const char *host, uint64_t vseq);
/* A copy says that it stands further in this opening of the volume than the volume does: the power
 * took writes that nobody was promised. What comes next is another opening's. */
void store_line_begin(struct store *store, struct admin_op *op, const char *volume);
/* What is durable here for sure. */
uint64_t store_durable_vseq(const struct store *store, uint32_t volume);
/* It gets each commit now, from where it said that it stands; or it does not. */
void store_follower_live(struct store *store, uint32_t volume, const char *host, bool live);
/* It has been away for longer than flushes are to wait: where its rules say degrade, and a majority
 * of voters without it is there, it is left out. Said again and again while it is so. */
void store_follower_missing(struct store *store, uint32_t volume, const char *host);

/* ---- mandates: a primary answers only while nobody else can have become it ---- */

/* A volume with followers in step is served under a mandate: each of them says, for a short time,
 * that it takes no other host's side; or it cannot be reached. The time counts on one clock at each
 * end, never across. */
#define MANDATE_NS (8 * NSEC_PER_SEC)
/* This side: the follower gave it until then, by our clock: MANDATE_NS after the question was sent.
 * 0: it says that somebody else is the primary. */
void store_mandate_given(struct store *store, uint32_t volume, const char *host, uint64_t until_ns);
/* It cannot be reached: it counts for nothing until then, unless it has said that 0. Of what was
 * found before this host slept nothing may be said. */
void store_mandate_absent(struct store *store, uint32_t volume, const char *host,
			  uint64_t until_ns);
/* May anything of this view be answered now? Always, of what needs no mandate. */
bool store_view_answers(const struct view *view);
/* Nothing of it may be answered ever: another host was the primary meanwhile, and has been removed
 * from the followers since. Who wants what is here opens it anew. */
bool store_view_outdated(const struct view *view);
/* The other side: its host is asked for so long by `host`. 0: given, and kept until that has surely
 * passed; -VS_EFENCED: the volume is served here, a copy here is of a higher epoch, or the voters
 * have another owner; -EAGAIN: one is being promoted; -ENOMEM. */
int store_mandate_give(struct store *store, const char *host, const uint8_t uuid[16],
		       uint64_t epoch, uint64_t duration_ns);

/* ---- voters: who may go on alone (proto/REPLICATION.md) ---- */

#define VOTERS_MAX 5u
#define VOTERS_DECIDE 3u /* so many do; fewer only keep what they are told */
#define BALLOTS_MAX 4096u
/* What a voter keeps of a volume. */
struct store_word {
	uint8_t volume_uuid[16];
	uint64_t term, seq;	    /* the order of words */
	uint8_t voter_count, owner; /* the owner's place among them: it is the primary */
	uint8_t copies, in_step;    /* bits by place: has a copy; has all that was promised */
	char voters[VOTERS_MAX][NAME_ROOM];
};
/* Who this host is, by its certificate; until this is said it is nobody, and owns nothing that has
 * voters. */
void store_set_host(struct store *store, const char *host);
/* A host that is asked for mandates of one of our volumes, and told its word. An array for the
 * caller to free; -ENOMEM. */
struct voter_info {
	uint32_t volume_number;
	char host[NAME_ROOM];
	bool voter;   /* else it follows in step, and no voters are there */
	bool copy;    /* else a witness */
	bool in_step; /* it has all that was promised */
	bool heard;   /* it keeps the newest word, as far as is known */
	bool stands;  /* its mandate does */
};
int store_voters(const struct store *store, struct voter_info **ret, size_t *ret_count);
/* The newest word here about one of our volumes; -ENOENT. *ret_stands: a majority keeps it. */
int store_word(const struct store *store, uint32_t volume, struct store_word *ret,
	       bool *ret_stands);
/* That voter keeps the word with these. */
void store_word_acked(struct store *store, uint32_t volume, const char *host, uint64_t term,
		      uint64_t seq);
/* A witness of a volume that hosts follow in step: it votes, and has no copy. With the first one
 * the volume has voters: this host and all that follow it in step. -EBUSY: the word before does not
 * stand yet; for who is to go, with `accept_loss`, that is no reason. */
void store_witness_add(struct store *store, struct admin_op *op, const char *volume,
		       const char *host);
void store_witness_delete(struct store *store, struct admin_op *op, const char *volume,
			  const char *host, bool accept_loss);
/* The voter's side: 0: kept, durably (only_ask: it would be). -VS_EFENCED: no, and if has_known,
 * `known` is what is kept here; -EAGAIN: another one is being decided. A change of the owner waits
 * until all mandates that were given here have passed. The caller's until op.op is done. */
struct store_word_take {
	struct admin_op op;
	struct store_word word;
	uint64_t base_term;
	bool won, only_ask;
	char from[NAME_ROOM];
	struct store_word known;
	bool has_known;
};
void store_word_take(struct store *store, struct store_word_take *take);
/* The word by which the copy's host would own the volume: to be asked of the other voters. -ENOENT:
 * it has no voters that decide; -VS_ERETAINED: the copy is not known to have all that was promised,
 * the sentence says so. */
int store_word_plan(const struct store *store, const char *name, struct store_word *ret,
		    uint64_t *ret_base_term, char ret_sentence[SENTENCE_BYTES]);

/* Nothing will be acknowledged any more: flushes that wait for it end with -ESHUTDOWN. */
void store_followers_stop(struct store *store);

/* The other side: a copy HOST/VOL takes what its original writes. Its position and a view of it:
 * -ENOENT: there is none of that UUID; -EAGAIN: what it holds is half of a transfer, so send a
 * snapshot first; -EBUSY: somebody else writes to it; -VS_EFENCED: the volume itself is here. */
int store_copy_open(struct store *store, const char *name, const uint8_t uuid[16],
		    struct view **ret_view, struct store_position *ret_position);
/* Its batches must be done. */
void store_copy_close(struct view *view);
/* What one commit of the original had. The caller's until op.done: 0 when all of it is in the log
 * (a flush on the view makes it durable), and the copy stands at `to`; where it fits, both are one
 * commit here too. -EAGAIN: it does not stand at from_vseq. One at a time. */
struct store_copy_part {
	uint64_t offset_bytes, length_bytes; /* whole blocks */
	const void *data;		     /* aligned to 4 KiB is faster; NULL: zeros */
};
struct store_copy_batch {
	struct io_op op;
	struct view *view;
	struct store_copy_part *parts;
	uint32_t part_count;
	uint64_t from_vseq;
	uint64_t durable_vseq; /* up to there the original has it durable */
	struct store_position to;
};
void store_copy_apply(struct store_copy_batch *batch);

/* Snapshots with this policy (store_policy_snap) are cuts: taken to be sent to a follower, which
 * keeps the newest. No rule removes them, store_cut_drop does, at once; one that is gone is no
 * error. -EBUSY while it is attached, -VS_ERETAINED while it is held or retained. */
#define POLICY_CUT UINT32_MAX
void store_cut_drop(struct store *store, struct admin_op *op, const char *name);

/* The copy HOST/VOL, as its newest snapshot has it, becomes the volume `new_name`, to be written
 * here: the same volume (UUID) in a higher epoch, which takes nothing of the old primary any more.
 * What that wrote later is not here; so unless `accept_loss`, this only says what is lost
 * (-VS_ERETAINED). Waits until every mandate that was given for it has passed. */
void store_replica_promote(struct store *store, struct admin_op *op, const char *name,
			   const char *new_name, bool accept_loss);
/* The same, when a majority of the voters has agreed to this word, our own voice counted: nothing
 * that was promised is lost. The other copies follow, in step, and are left out until they do.
 * -EBUSY: the word that it followed is not the one here any more. */
void store_replica_promote_voted(struct store *store, struct admin_op *op, const char *name,
				 const char *new_name, const struct store_word *word,
				 uint64_t base_term);
/* The copy HOST/VOL itself becomes the volume `new_name`, with its snapshots, in a higher epoch and
 * as its newest snapshot has it: for the host whose volume it was, that lost its disks and was sent
 * its snapshots back. One commit; until then it is a copy. -EBUSY: attached, or being received. */
void store_replica_adopt(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name);

/* ---- long work ---- */

/* Goes on in steps; progress in [0, total]. cancel may be set any time. */
struct store_work {
	struct io_op op; /* done: res 0, or a negative code; sentence then says more */
	char sentence[SENTENCE_BYTES];
	bool cancel;
	bool thorough;		  /* gc: counts all anew, whatever it knows */
	bool recompress;	  /* gc: compresses all that was not yet anew, however young */
	uint64_t progress, total; /* bytes or objects */
	uint64_t freed_bytes;	  /* gc: of files that went, without what of them was moved */
	uint64_t chunks, damaged; /* check, verify: records read and found bad; gc: counted, bad */
	uint64_t damaged_files;	  /* check: of the damaged, what is no record, as a header */
	uint64_t mended; /* check: bad ones of whose id there is a whole record, if by healing */
	uint64_t differing_bytes; /* diff */
	/* gc, check, verify, diff: one line a finding: what is wrong and what it affects. The
	 * callback may be NULL. */
	void (*report)(struct store_work *work, const char *line);
	/* diff: a range that differs. May be NULL. */
	void (*range)(struct store_work *work, uint64_t offset_bytes, uint64_t length_bytes);
	void *state; /* the store's own */
};
/* Counts what live maps name, empties the segments with most garbage, and drops them. */
void store_gc(struct store *store, struct store_work *work);
/* Reads every record and map node and every root's tree. res: 0 even when damage was found. */
void store_check(struct store *store, struct store_work *work);
/* Every stored byte against its checksum, in large reads that make room for guests, and all maps;
 * deep: as store_check, at a gentler pace. What it has gone through counts as scrubbed. */
void store_scrub(struct store *store, struct store_work *work, bool deep);
/* One root's data: "NAME" (after a fold) or "NAME@SNAP". */
void store_verify(struct store *store, struct store_work *work, const char *name);
/* Chunks that differ between two of VOL, VOL@SNAP (of one domain), by their maps. */
void store_diff(struct store *store, struct store_work *work, const char *a, const char *b);
/* Folds a volume's log blocks into its map now (NULL: all volumes). */
void store_fold(struct store *store, struct store_work *work, const char *name);

/* ---- copies between hosts ---- */

/* What one host tells another about a snapshot that it sends. */
struct store_offer {
	uint8_t domain[16], volume_uuid[16];
	uint64_t size_bytes, created_wall_ns, epoch, vseq, mapped_chunks;
	uint32_t frame_bytes;
	int level;
	bool cut; /* of a follower: it takes the place of the cut before it */
	uint8_t top[ID_BYTES], root[ID_BYTES];
	char volume[NAME_ROOM], snapshot[NAME_ROOM];
	struct store_lines lines; /* up to its epoch */
};
/* "VOL@SNAP": -ENOENT; -EAGAIN: it has no root yet (store_snap_seal). */
int store_offer(const struct store *store, const char *name, struct store_offer *ret);

#define STORE_RECORD_BYTES_MAX (CHUNK_BYTES + 1024u)

/* Reads one record as it is stored. op.res: its bytes in `buf`, or -ENOENT: not stored here;
 * -VS_ECHECKSUM and others: damaged here. The checksums of its frames were looked at. */
struct store_record_read {
	struct io_op op;
	struct store *store;
	uint8_t id[ID_BYTES];
	uint8_t type; /* 1 a chunk, 2 a map node */
	/* Of a node: another one, that the asker has; zeros: none. Where both can be read and that
	 * is shorter, `buf` has what differs (proto/node_delta.h), and `delta` is set. */
	uint8_t base[ID_BYTES];
	bool delta;
	uint8_t *buf;	 /* STORE_RECORD_BYTES_MAX, the caller's */
	void *state[24]; /* the store's own */
};
void store_record_read(struct store_record_read *read);

/* Makes a copy of a snapshot of another host: the volume HOST/VOL becomes it, chunk by chunk, and
 * then gets the snapshot. What is here already, in that volume or anywhere in its domain, is not
 * asked for; what was taken in survives a cut, and the next try goes on from there. Done: op.res 0
 * when the copy's root is the offered one and the snapshot is durable (a snapshot that is older
 * than what the copy was leaves it that); -EEXIST: a snapshot of that
 * name with another root is there. The caller owns it until then. */
struct store_receive {
	struct io_op op;
	char sentence[SENTENCE_BYTES];
	bool cancel;
	struct store_offer offer;
	char host[NAME_ROOM];
	/* The records of these ids (of one type) are needed; never inside store_receive. Each is
	 * answered by store_receive_record, in any order. At most STORE_WANTS_MAX are open. Of a
	 * node `bases` has one that is here already (or zeros), and store_receive_delta, with what
	 * differs from that, is an answer too; of chunks it is NULL. */
	void (*want)(struct store_receive *receive, uint8_t type, const uint8_t *ids,
		     const uint8_t *bases, uint32_t count);
	/* So far: chunks that differed, of those fetched, of those found here. */
	uint64_t chunks, fetched, found;
	void *state; /* the store's own */
};
#define STORE_WANTS_MAX 256u
void store_receive(struct store *store, struct store_receive *receive);
/* The peer's answer: a record, copied and verified against the id; or bytes 0 and why not. An id
 * that was not wanted is ignored. */
void store_receive_record(struct store_receive *receive, const uint8_t id[ID_BYTES],
			  const void *record, uint32_t record_bytes, int code);
/* A node as what differs from the base that was told, copied (proto/node_delta.h, a good one); it
 * is verified against the id, and asked for as a record when that fails. */
void store_receive_delta(struct store_receive *receive, const uint8_t id[ID_BYTES],
			 const uint8_t base[ID_BYTES], const void *delta, uint32_t delta_bytes);
/* `cancel` was set: ends soon, with -VS_ECANCELLED. */
void store_receive_kick(struct store_receive *receive);

/* ---- healing: what is damaged or missing here, somebody else may have ---- */

/* A question of the store: a record that a name of its own asks for, and that it cannot read. */
struct store_wanted {
	uint64_t number; /* of the question; never used twice */
	uint8_t id[ID_BYTES];
	uint8_t type;	  /* 1 a chunk, 2 a map node */
	uint32_t attempt; /* so many answers were not the id's: ask somebody else */
};
/* `want` is called with each question from now on, and answers it, once, never inside that call,
 * with store_heal_answer; it may be as slow as it likes, the store waits for a bounded time. A
 * reader of the record waits meanwhile, and then reads what was stored anew. NULL: nobody can be
 * asked any more; questions that are open end. */
void store_set_healer(struct store *store,
		      void (*want)(void *owner, const struct store_wanted *wanted), void *owner);
/* A record as store_record_read gives it, copied and verified against the id; or bytes 0 and why
 * not. A question that is no longer open is ignored. */
void store_heal_answer(struct store *store, uint64_t number, const void *record,
		       uint32_t record_bytes, int code);

#endif
