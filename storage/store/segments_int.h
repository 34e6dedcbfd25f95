/* SPDX-License-Identifier: Apache-2.0 */
/* What segments.c, segments_append.c, segments_make.c and segments_recover.c share. */
#ifndef STORAGE_STORE_SEGMENTS_INT_H
#define STORAGE_STORE_SEGMENTS_INT_H

#include "storage/store/log.h"
#include "storage/store/segments.h"

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
/* Takes the directory over, evicts others beyond the bound. */
void segments_keep_directory(struct segment *segment, struct directory *directory);

/* The reserve, or the next spare, if one is missing: also while the store closes, for what is under
 * way then, and waits for it, still ends. */
void segments_make(struct segment_set *set);
/* The next one, before it is needed. */
void segments_make_ahead(struct segment_set *set);

#endif
