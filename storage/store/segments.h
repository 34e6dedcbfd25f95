/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of segments (segments.c, segments_append.c, segments_make.c, segments_recover.c): where
 * records are appended, and found by their ids.
 */
#ifndef STORAGE_STORE_SEGMENTS_H
#define STORAGE_STORE_SEGMENTS_H

#include "storage/store/segment.h"
#include "storage/store/wait.h"

#include <errno.h>

struct store;

enum segment_state { SEGMENT_OPEN = 1, SEGMENT_SEALED = 2, SEGMENT_LOST = 3 };

struct segment {
	struct store *store;
	uint32_t slot;
	enum segment_state state;
	uint64_t id;
	uint64_t bytes; /* of the file, when sealed */
	struct env_file *file;
	struct segment_writer *writer; /* until it is sealed */
	struct directory *directory;   /* NULL: not in memory; the writer's while there is one */
	struct load *load;
	struct wait_list load_waiters;
	uint32_t users;			     /* reads under way: its file stays open */
	struct segment *lru_prev, *lru_next; /* of those with a directory in memory */
	bool removed;			     /* dropped; freed when the last user leaves */
	struct segment *gone_next;	     /* of those */
	bool counted;			     /* sealed when the last census began */
	bool kept;			     /* a record of it is bad: no collection touches it */
	bool packed;			     /* there is nothing to compress anew */
	bool sifted; /* so many of its entries were alive when a collection looked, in bytes: */
	uint32_t known_entries;
	uint64_t known_live_bytes;
	bool indexed;	/* the newest file of the index has its records */
	bool leaving;	/* some of its records are no longer in the index: it is being emptied */
	bool unlisted;	/* nor can it be said what it has: its directory was to mend the index */
	bool damaged;	/* its directory has rotted on the disk: see segment_damaged */
	int load_error; /* its directory could not be read, then: */
	uint64_t load_failed_ns;
	struct io_op seal_op;
};

int segments_init(struct store *store);
void segments_free(struct store *store);
void segment_file_name(uint64_t id, char out[32]); /* in the folder seg */
/* From the catalog: a segment exists, or no longer does. */
int segments_add(struct store *store, uint64_t id, uint32_t slot);
void segments_remove(struct store *store, uint32_t slot);
struct segment *segment_of(const struct store *store, uint32_t slot); /* NULL: none */
/* A page of the index was damaged and the segment's directory could not be read: what is not found
 * may be in it. It is asked again by who looks for something; until then nobody says "not there".
 */
void segment_unlisted(struct segment *segment);
/* Its trailer or directory is damaged on the disk. If the directory is in memory it stays there;
 * the index's files are written anew without the segment, so the next opening looks for its records
 * one by one, and seals them again. */
void segment_damaged(struct segment *segment);
/* Straight-line, at open: opens files, indexes records (all that the index does not know), seals
 * what was open, removes orphans. */
int segments_recover(struct store *store, char *sentence);
/* Prepares the first segment; from then on one is kept ready ahead. */
void segments_start(struct store *store);
/* There was no space for a segment: tries again. */
void segments_retry_space(struct store *store);
void segments_wait_space(struct store *store, struct wait *wait); /* woken when it is tried again */
bool segments_full(const struct store *store);			  /* nothing more can be appended */
/* What records may still take: in the open segments, and in those that can be made. */
uint64_t segments_room_bytes(const struct store *store);
bool segments_idle(const struct store *store);
bool segments_writers_idle(const struct store *store);
void segments_seal_open(struct store *store); /* at close; segments_idle says when */
/* 0: a record of so many stored bytes fits now; WAITING; -ENOSPC; the store has failed. */
int segments_room(struct store *store, uint32_t stored_bytes, struct wait *wait);
/* A record begins (1) or ceases (-1) to be made. */
void segments_coming(struct store *store, int change);
/* Copies a record in and indexes it; segments_room said 0. */
struct segment *segments_append(struct store *store, const struct dir_entry *entry,
				const struct frame_entry *frames, const void *stored,
				uint32_t stored_bytes, uint64_t *ret_end);
/* 0: segment->directory is there; WAITING (without a wait, nobody is woken); negative: the segment
 * cannot be read. */
int segments_directory(struct segment *segment, struct wait *wait);
/* -VS_ELOST: there is no such file. */
int segment_open_file(struct segment *segment);
void segment_use(struct segment *segment);
void segment_unuse(struct segment *segment);
/* Finds an id's record, verified by the full id. 0 and *ret...; WAITING; -ENOENT. The entry is
 * valid until control returns to the loop. for_dedup: records known to be bad do not count. */
int segments_locate(struct store *store, const struct id *id, bool for_dedup, struct wait *wait,
		    struct segment **ret_segment, struct dir_entry **ret_entry);
/* A spare's log record needs room that was not there: look again. */
void segments_kick(struct store *store);
uint64_t segment_record_end(const struct segment *segment, const struct dir_entry *entry);
/* NULL: not in memory. */
struct directory *segment_records(const struct segment *segment);
uint32_t segments_slot_count(const struct store *store);
/* The machine lacks what it takes to read it: that says nothing about the segment. */
static inline bool lacks_means(int res)
{
	return res == -ENOMEM || res == -EMFILE || res == -ENFILE;
}

/* ---- for collections ---- */

/* Bytes of a segment that live records take: known, or estimated by their share. */
uint64_t segment_live_bytes(const struct segment *segment);
/* As segments_room and segments_append, for records that a collection moves: they go to a segment
 * of their own, and the index is the caller's to change. */
int segments_moved_room(struct store *store, uint32_t stored_bytes, struct wait *wait);
struct segment *segments_moved_append(struct store *store, const struct dir_entry *entry,
				      const struct frame_entry *frames, const void *stored,
				      uint32_t stored_bytes, uint32_t *ret_offset64,
				      uint64_t *ret_end);
/* Is there room for that much of them without a file that cannot be made? 0, -ENOSPC, or WAITING.
 */
int segments_moved_fits(struct store *store, uint64_t bytes, uint32_t records, uint64_t frames,
			struct wait *wait);
void segments_moved_seal(struct store *store);
/* The index gets those of its records that it does not have. */
void segment_index_lacking(struct segment *segment, const struct directory *directory);

#endif
