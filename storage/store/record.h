/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a segment file, see FORMAT.md: header, records, directory, trailer. Pure functions,
 * any thread. */
#ifndef STORAGE_STORE_RECORD_H
#define STORAGE_STORE_RECORD_H

#include "storage/store/codec.h"

#define NODE_BYTES 8192u
#ifndef SEGMENT_BYTES /* tests/sim turns segments over faster */
#define SEGMENT_BYTES (64 * MIB)
#endif
/* What is reserved on the disk for one that is open: its directory lies behind the records, and a
 * full disk must not stop it from being sealed. */
#define SEGMENT_FILE_BYTES (SEGMENT_BYTES + SEGMENT_BYTES / 64)
/* One that is open has a length of whole parts, eight of them where there is room; one that is
 * sealed never has, so that its length tells. */
#define SEGMENT_PART_BYTES (SEGMENT_FILE_BYTES / 8 > 260 * KIB ? SEGMENT_FILE_BYTES / 8 : 260 * KIB)
#define SEGMENT_HEADER_BYTES 4096u
#define RECORD_ALIGN 64u
#define RECORD_HEADER_BYTES 52u
#define RECORD_FRAME_BYTES 8u
/* What a chunk's stored bytes start with: the hashes of its quarters, of which its id is made, so
 * that who changes one quarter need not read the others. They prove themselves: by the id. */
#define RECORD_QUARTERS_BYTES (QUARTER_COUNT * 32u)

enum record_type { RECORD_CHUNK = 1, RECORD_NODE = 2 };

/* One record, as its segment's directory has it. */
struct dir_entry {
	struct id id;
	uint32_t offset64;    /* of the record in the segment, in units of 64 bytes */
	uint32_t frame_first; /* its frames in the directory's array */
	uint32_t raw_bytes;
	uint8_t type, frame_count;
	uint8_t domain; /* whose key made the id */
	bool bad;	/* found damaged: never a target of deduplication */
};

/* The records of a segment in order of their offsets. */
struct directory {
	struct dir_entry *entries;
	struct frame_entry *frames;
	uint32_t entry_count, entry_room, frame_count, frame_room;
};

/* The last block of a sealed segment: where its directory lies. */
struct trailer {
	uint64_t offset, bytes;
	uint32_t entry_count, crc;
};

uint32_t record_header_bytes(unsigned frame_count);
/* What lies before the frames in the stored bytes of a record of that type. */
static inline uint32_t record_prefix_bytes(uint8_t type)
{
	return type == RECORD_CHUNK ? RECORD_QUARTERS_BYTES : 0;
}
/* Of a whole record, without what fills up to RECORD_ALIGN. */
uint32_t record_bytes(const struct dir_entry *entry, const struct frame_entry *frames);
/* Returns the bytes written to out; the stored bytes follow, then zeros up to RECORD_ALIGN. */
uint32_t record_encode_header(void *out, const struct dir_entry *entry,
			      const struct frame_entry *frames);
/* Foreign bytes: -VS_EFORMAT, -VS_ECHECKSUM. offset64 and frame_first are left 0. */
int record_decode_header(const void *from, size_t bytes, struct dir_entry *ret_entry,
			 struct frame_entry ret_frames[FRAMES_PER_CHUNK_MAX]);

/* The record's own header says what is known of it: 0, or as record_decode_header, or -VS_EFORMAT.
 * known: its offset64 and frame_first do not count. */
int record_header_matches(const void *from, size_t bytes, const struct dir_entry *known,
			  const struct frame_entry *known_frames);
/* Its header says what is known, and the hashes of its quarters make its id. key: of its domain, or
 * NULL when that is not known. bytes: at least up to the frames. */
int record_head_prove(const struct domain_key *key, const void *from, size_t bytes,
		      const struct dir_entry *known, const struct frame_entry *known_frames);
/* The stored bytes of its frames have their checksums. */
bool record_frames_whole(const struct dir_entry *entry, const struct frame_entry *frames,
			 const uint8_t *stored);
/* All that can be said without decoding: -VS_EFORMAT, -VS_ECHECKSUM. bytes: there are so many. */
int record_prove(const struct domain_key *key, const void *from, size_t bytes,
		 const struct dir_entry *known, const struct frame_entry *known_frames);

void segment_header_encode(const uint8_t uuid[16], uint64_t segment_id, uint32_t slot,
			   uint8_t out[SEGMENT_HEADER_BYTES]);
int segment_header_decode(const uint8_t uuid[16], uint64_t segment_id, uint32_t slot,
			  const uint8_t in[SEGMENT_HEADER_BYTES]);

void directory_free(struct directory *directory);
int directory_add(struct directory *directory, const struct dir_entry *entry,
		  const struct frame_entry *frames);
struct dir_entry *directory_find(struct directory *directory, uint32_t offset64); /* NULL: none */

/* Of an open one of so many bytes: records end a block before this at the latest (footer_offset
 * may leave one free), the rest is for the footer. */
uint64_t segment_data_bytes(uint64_t file_bytes);
bool segment_length_open(uint64_t file_bytes);
size_t footer_bytes(const struct directory *directory); /* directory and trailer */
/* Where it goes when the records end, padded to a block, at `end`. */
uint64_t footer_offset(const struct directory *directory, uint64_t end);
size_t footer_bytes_for(size_t entry_count, size_t frame_count);
/* offset: where the footer starts in the file, a multiple of 4 KiB. */
void footer_encode(const struct directory *directory, uint64_t segment_id, uint64_t offset,
		   uint8_t *out);
/* in: the file's last 4 KiB. */
int trailer_decode(const uint8_t in[BLOCK_BYTES], uint64_t segment_id, uint64_t file_bytes,
		   struct trailer *ret);
/* in: trailer->bytes from trailer->offset on. -ENOMEM too. */
int directory_decode(const struct trailer *trailer, const uint8_t *in,
		     struct directory **ret_directory);

#endif
