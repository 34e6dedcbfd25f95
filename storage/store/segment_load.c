/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a segment's records again, straight-line, at start: from the directory of a sealed one,
 * or record by record in one that was open at a crash. A record counts only when its header and all
 * frames are whole; after the first that is not, only the next block may start another (a forced
 * write pads to it), else it is the end. In one that was sealed, and whose directory is damaged,
 * what lies behind a damaged record is found as well.
 */
#include "storage/store/segment.h"

#include "proto/err.h"

#include <errno.h>
#include <stdlib.h>

/* Reads all of [offset, offset + bytes) into new memory; both multiples of the block. */
static int read_whole(struct env *env, struct env_file *file, uint64_t offset, uint64_t bytes,
		      uint8_t **ret)
{
	*ret = NULL;
	uint8_t *buf = env_memory(env, bytes);
	if (!buf)
		return -ENOMEM;
	int64_t got = env_file_read_wait(file, buf, (uint32_t)bytes, offset);
	if (got == (int64_t)bytes) {
		*ret = buf;
		return 0;
	}
	env_memory_free(env, buf, bytes);
	return got < 0 ? (int)got : -VS_EFORMAT;
}

int segment_header_look(struct env *env, struct env_file *file, const struct segment_name *name)
{
	uint8_t *header;
	int res = read_whole(env, file, 0, SEGMENT_HEADER_BYTES, &header);
	if (res < 0)
		return res;
	res = segment_header_decode(name->uuid, name->id, name->slot, header);
	env_memory_free(env, header, SEGMENT_HEADER_BYTES);
	return res;
}

int segment_load(struct env *env, struct env_file *file, const struct segment_name *name,
		 struct directory **ret_directory)
{
	int64_t bytes = env_file_bytes(file);
	struct trailer trailer;
	uint8_t *buf;
	if (bytes < 0)
		return (int)bytes;
	if (bytes < SEGMENT_HEADER_BYTES + BLOCK_BYTES || bytes % BLOCK_BYTES)
		return -VS_EFORMAT;
	int res = segment_header_look(env, file, name);
	if (res < 0 ||
	    (res = read_whole(env, file, (uint64_t)bytes - BLOCK_BYTES, BLOCK_BYTES, &buf)) < 0)
		return res;
	res = trailer_decode(buf, name->id, (uint64_t)bytes, &trailer);
	env_memory_free(env, buf, BLOCK_BYTES);
	if (res < 0)
		return res;
	uint64_t room = round_up(trailer.bytes, BLOCK_BYTES);
	if (room == 0) { /* sealed without a record */
		*ret_directory = calloc(1, sizeof(struct directory));
		return *ret_directory ? 0 : -ENOMEM;
	}
	res = read_whole(env, file, trailer.offset, room, &buf);
	if (res < 0)
		return res;
	res = directory_decode(&trailer, buf, ret_directory);
	env_memory_free(env, buf, room);
	return res;
}

/* The largest record, and the padding that a forced write may put before it. */
#define RECORD_ROOM (CHUNK_BYTES + 3 * BLOCK_BYTES)

/* The records in `bytes` of a segment, all in memory. Returns where the last one ends. */
static int64_t scan_bytes(const uint8_t *buf, uint64_t bytes, bool salvage,
			  struct directory *directory)
{
	uint64_t at = SEGMENT_HEADER_BYTES, end = at;
	while (at + RECORD_HEADER_BYTES <= bytes) {
		struct dir_entry entry;
		struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
		uint32_t length = 0;
		bool whole = record_decode_header(buf + at, bytes - at, &entry, frames) == 0;
		if (whole) {
			length = record_bytes(&entry, frames);
			whole = at + length <= bytes &&
				record_frames_whole(&entry, frames,
						    buf + at +
							    record_header_bytes(entry.frame_count) +
							    record_prefix_bytes(entry.type));
		}
		if (!whole &&
		    salvage) { /* payload that looks like a record has no id of anybody's: */
			at += RECORD_ALIGN; /* ids are keyed, and no guest sees one */
			continue;
		}
		if (!whole && at % BLOCK_BYTES == 0)
			break;
		if (!whole) {
			at = round_up(at, BLOCK_BYTES);
			continue;
		}
		entry.offset64 = (uint32_t)(at / RECORD_ALIGN);
		int res = directory_add(directory, &entry, frames);
		if (res < 0)
			return res;
		at += round_up(length, RECORD_ALIGN);
		end = at;
	}
	return (int64_t)round_up(end, BLOCK_BYTES);
}

/* What follows the last record is zeros, mostly never written: a short window is tried first. */
#define SCAN_BYTES (4 * MIB)

int segment_scan(struct env *env, struct env_file *file, const struct segment_name *name,
		 bool salvage, struct directory **ret_directory, uint64_t *ret_end)
{
	int64_t bytes = env_file_bytes(file);
	if (bytes < 0)
		return (int)bytes;
	uint64_t all = min_u64(round_down((uint64_t)bytes, BLOCK_BYTES), SEGMENT_BYTES);
	int res = segment_header_look(env, file, name);
	for (uint64_t window = salvage ? all : min_u64(SCAN_BYTES, all); res == 0;
	     window = min_u64(4 * window, all)) {
		uint8_t *buf;
		res = read_whole(env, file, 0, window, &buf);
		if (res < 0)
			break;
		struct directory *directory = calloc(1, sizeof(*directory));
		int64_t end = directory ? scan_bytes(buf, window, salvage, directory) : -ENOMEM;
		env_memory_free(env, buf, window);
		bool more = window < all && (uint64_t)end + RECORD_ROOM > window;
		if (end >= 0 && !more) {
			*ret_directory = directory;
			*ret_end = (uint64_t)end;
			return 0;
		}
		directory_free(directory);
		res = end < 0 ? (int)end : 0;
	}
	return res;
}

int segment_seal_scanned(struct env *env, struct env_file *file, const struct segment_name *name,
			 const struct directory *directory, uint64_t end)
{
	size_t bytes = footer_bytes(directory);
	end = footer_offset(directory, end);
	uint8_t *footer = env_memory(env, bytes);
	if (!footer)
		return -ENOMEM;
	footer_encode(directory, name->id, end, footer);
	int res = env_file_sync_wait(
		file); /* what was found must stay: it may be only in the page cache */
	int64_t moved = res < 0 ? res : env_file_write_wait(file, footer, (uint32_t)bytes, end);
	env_memory_free(env, footer, bytes);
	if (moved < 0)
		return (int)moved;
	res = env_file_truncate_wait(file, end + bytes);
	return res < 0 ? res : env_file_sync_wait(file);
}
