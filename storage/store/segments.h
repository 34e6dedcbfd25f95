/* SPDX-License-Identifier: Apache-2.0 */
/* What segments.c and segments_recover.c share, and what gc and check need of segments. */
#ifndef STORAGE_STORE_SEGMENTS_H
#define STORAGE_STORE_SEGMENTS_H

#include "storage/store/store_int.h"

/* A directory that is being read. */
struct load {
	struct segment *segment;
	struct io_op op;
	uint8_t *buf;
	uint64_t buf_bytes;
	struct trailer trailer;
};

enum spare_phase {
	SPARE_NONE,
	SPARE_SPACE,
	SPARE_HEADER,
	SPARE_SYNC,
	SPARE_FOLDER,
	SPARE_LOG, /* waits for room in the log */
	SPARE_LOGGING,
};

struct segment_set {
	struct store *store;
	struct segment **slots; /* slot 0 is never used */
	uint32_t slot_room, slot_count, sealing;
	struct segment *open, *spare;
	struct segment *moved, *reserve; /* for what a collection copies */
	struct segment *gone;		 /* removed, still in use */
	struct spare {
		int phase;
		uint64_t id, bytes;
		uint32_t slot;
		struct env_file *file;
		struct io_op op;
		struct log_entry entry;
	} making;
	uint8_t *header;
	bool no_space, no_space_told;
	uint32_t unlisted; /* segments whose records the index lacks */
	struct wait_list room;
	uint32_t coming; /* records that are being hashed or compressed */
	uint64_t directory_bytes;
	struct segment lru; /* a list's head */
};

struct segment_name segment_name_of(const struct segment *segment);
/* -VS_ELOST: there is no such file. */
int segment_open_file(struct segment *segment);
/* The machine lacks what it takes to read it: that says nothing about the segment. */
static inline bool lacks_means(int res)
{
	return res == -ENOMEM || res == -EMFILE || res == -ENFILE;
}
/* Takes the directory over, evicts others beyond the bound. */
void segments_keep_directory(struct segment *segment, struct directory *directory);
/* The index gets those of its records that it does not have. */
void segment_index_lacking(struct segment *segment, const struct directory *directory);
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
/* NULL: not in memory. */
struct directory *segment_records(const struct segment *segment);
uint32_t segments_slot_count(const struct store *store);

/* The reserve, or the next spare, if one is missing: also while the store closes, for what is under
 * way then, and waits for it, still ends. */
void segments_make(struct segment_set *set);
/* The next one, before it is needed. */
void segments_make_ahead(struct segment_set *set);

#endif
