/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index on disk: the bytes of its two files, what is in memory while one of them is loaded or
 * written, and what the rest of the store needs of that.
 *
 *   opening:  index_load_open reads a file's head; the pages come when somebody asks for an id of
 *             theirs, and one after the other behind that (index_load.c)
 *   running:  index_write.c writes the other file when enough segments were sealed
 *
 * A file's entries count only for the segments that its head lists by slot and id, and that the
 * catalog still has: all others are read from their own directories.
 */
#ifndef STORAGE_STORE_INDEX_FILE_H
#define STORAGE_STORE_INDEX_FILE_H

#include "storage/rt/env.h"
#include "storage/store/index.h"
#include "storage/store/wait.h"

struct store;

#define INDEX_HEADER_BYTES 4096u
#define INDEX_SEGMENT_BYTES 16u
/* Where the pages start: behind the header and a table of {u32 entries, u32 crc} for each shard. */
#define INDEX_TABLE_BYTES (8u * INDEX_SHARDS)
#define INDEX_PAGES_OFFSET                                                                         \
	((INDEX_HEADER_BYTES + INDEX_TABLE_BYTES + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES)
#ifndef INDEX_GROUP_BYTES /* what is read or written in one go; tests/sim: less */
#define INDEX_GROUP_BYTES (64u * 1024)
#endif
#define INDEX_PAGE_ENTRIES_MAX (UINT32_C(1) << 23)
#define INDEX_ENTRIES_MAX (UINT64_C(1) << 40)

struct index_page {
	uint32_t entry_count, crc;
};
struct index_segment {
	uint64_t id;
	uint32_t slot, blocks; /* of its file */
};
struct index_header {
	uint64_t generation;
	uint64_t
		next_segment_id; /* above every id in the list: ids of this file are never reused */
	uint64_t entry_count, segments_offset;
	uint32_t segment_count, table_crc, segments_crc;
};

/* A file's head in memory. */
struct index_head {
	struct index_header header;
	struct index_page *pages; /* INDEX_SHARDS */
	struct index_segment *segments;
};

const char *index_file_name(uint64_t generation);
void index_header_encode(const uint8_t uuid[16], const struct index_header *header,
			 uint8_t out[INDEX_HEADER_BYTES]);
/* Foreign bytes: -VS_EFORMAT, -VS_ECHECKSUM. */
int index_header_decode(const uint8_t uuid[16], const uint8_t in[INDEX_HEADER_BYTES],
			struct index_header *ret);
void index_page_encode(const struct index_page *page, uint8_t out[8]);
void index_segment_encode(const struct index_segment *segment, uint8_t out[INDEX_SEGMENT_BYTES]);
/* The first INDEX_PAGES_OFFSET bytes; -ENOMEM too. *ret is all zero after a failure. */
int index_head_decode(const uint8_t uuid[16], const uint8_t *in, struct index_head *ret);
/* The list of segments, header.segment_count * INDEX_SEGMENT_BYTES. */
int index_list_decode(struct index_head *head, const uint8_t *in);
void index_head_free(struct index_head *head);
bool index_page_good(const struct index_page *page, uint32_t shard_no, const void *at);
uint32_t index_page_crc(uint32_t shard_no, const void *at, uint64_t bytes);

/* ---- index_load.c ---- */

/* Straight-line, behind the log's replay and before the segments are recovered: takes the better
 * file's head, and notes which segments it has. A file that is missing or damaged only costs time.
 */
int index_load_open(struct store *store);
void index_load_exit(struct store *store);
/* The pages are read one after the other from now on. */
void index_load_start(struct store *store);
bool index_loaded(const struct store *store);
/* The id's page is not there yet: WAITING, or a negative code, for good. */
int index_load_page(struct store *store, const struct id *id, struct wait *wait);
/* 0: all pages are there; WAITING; or a negative code, for good. */
int index_load_all(struct store *store, struct wait *wait);
bool index_load_idle(const struct store *store);
uint64_t index_load_pending(const struct store *store); /* entries that are still on disk */

/* ---- index_write.c ---- */

int index_write_init(struct store *store);
void index_write_exit(struct store *store);
/* Starts to write when enough segments are in no file; `least` is how many that is, 0: what is
 * usual. */
void index_write_kick(struct store *store, uint32_t least);
bool index_write_idle(const struct store *store);
unsigned index_write_phase(const struct store *store);
/* The file being written, or -1. */
int index_write_file(const struct store *store);
/* A file (0 or 1) is damaged: it is written anew, as soon as it can be. */
void index_write_mend(struct store *store, unsigned file_no);
void index_write_mend_both(struct store *store);

/* ---- index_check.c: reads both files in full, and says what is wrong ---- */

struct index_check {
	struct store *store;
	void (*report)(struct index_check *check, const char *what); /* one sentence */
	void (*wake)(struct index_check *check);		     /* step may go on */

	/* index_check.c's own; zero at the start */
	unsigned file_no, phase;
	bool busy;
	uint64_t generation;
	struct env_file *file;
	struct index_head head;
	struct io_op op;
	uint8_t *buf;
	uint64_t buf_bytes, offset, page_bytes;
	uint32_t shard;
};
/* 0: done; WAITING: wake follows; WALK_MORE: call it again soon. */
int index_check_step(struct index_check *check);
/* Nothing may be under way (busy), unless the env has crashed. */
void index_check_done(struct index_check *check);

#endif
