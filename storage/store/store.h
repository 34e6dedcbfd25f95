/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: opening it, and the data of its volumes. What else nbd/, repl/ and daemon/ may ask of
 * it: store_admin.h (changes), store_list.h (what there is), store_work.h (long work),
 * store_follow.h (hosts that follow a volume), store_vote.h (who may answer for it),
 * store_transfer.h (records between hosts).
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
/* May anything of this view be answered now? Always, of what needs no mandate. */
bool store_view_answers(const struct view *view);
/* Nothing of it may be answered ever: another host was the primary meanwhile, and has been removed
 * from the followers since. Who wants what is here opens it anew. */
bool store_view_outdated(const struct view *view);
/* Data is cached and ordered for all connections of a volume alike: a flush on one covers all. */

#endif
