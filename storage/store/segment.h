/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One segment file: appending to it, making it durable, sealing it; finding its records again after
 * a crash or after sealing. Which segments there are, and what their records are for, is the
 * caller's.
 */
#ifndef STORAGE_STORE_SEGMENT_H
#define STORAGE_STORE_SEGMENT_H

#include "storage/rt/env.h"
#include "storage/store/record.h"

struct segment_name {
	uint8_t uuid[16]; /* of the store */
	uint64_t id;	  /* never reused */
	uint32_t slot;
};

/* Waits until the segment is durable up to `end`. */
struct durable_wait {
	struct io_op op; /* res 0, or the error that stopped the segment */
	struct durable_wait *next;
	uint64_t end;
};

struct segment_writer;

/* Straight-line: reserves the file's space and writes its header, durably. `file` is new, empty and
 * opened with ENV_DIRECT. -ENOSPC: the file may be removed. */
int segment_create(struct env *env, struct env_file *file, const struct segment_name *name);

/* Appends go behind the header, as far as the file's length has room for them and their directory.
 * room_again is called when an append was refused and may fit now.
 * The file stays the caller's. -ENOMEM. */
int segment_writer_new(struct env *env, struct env_file *file, const struct segment_name *name,
		       void (*room_again)(void *arg), void *arg,
		       struct segment_writer **ret_writer);
/* Nothing may be under way (segment_writer_idle). */
void segment_writer_free(struct segment_writer *writer);
bool segment_writer_idle(const struct segment_writer *writer);
/* Frees it although operations were under way that will never end: the env has crashed
 * (simulation). */
void segment_writer_abandon(struct segment_writer *writer);

/* 0: there is room. -EAGAIN: the buffers are being written, room_again follows. -ENOSPC: the
 * segment is full, seal it. Another code: it has failed, for good. */
int segment_room(struct segment_writer *writer, uint32_t stored_bytes);
/* Whether more records are being made for it: then waits are served a little later, together. Said
 * whenever one of them ended: when many did and none came here, nobody waits for more of them. */
void segment_expect(struct segment_writer *writer, bool more);
/* Copies a record in; segment_room said 0. entry: id, type, raw_bytes, frame_count. stored: of a
 * chunk the quarters' hashes, then the frames. Returns its
 * offset / 64; *ret_end is what to wait for. Nothing may name the record before that is durable. */
uint32_t segment_append(struct segment_writer *writer, const struct dir_entry *entry,
			const struct frame_entry *frames, const void *stored, uint32_t stored_bytes,
			uint64_t *ret_end);
/* Never ends inside the call. Many waits share one sync. */
void segment_wait_durable(struct segment_writer *writer, struct durable_wait *wait, uint64_t end);
/* No append may follow. Writes what is left and syncs, writes directory and trailer, cuts the file,
 * syncs; then op. */
void segment_seal(struct segment_writer *writer, struct io_op *op);

/* Of all that was appended; the writer's until it is freed, or taken. */
struct directory *segment_directory(struct segment_writer *writer);
struct directory *segment_take_directory(struct segment_writer *writer);
uint64_t segment_written_end(const struct segment_writer *writer); /* below: can be read */
uint64_t segment_appended_end(const struct segment_writer *writer);
uint64_t segment_durable_end(const struct segment_writer *writer);
uint64_t segment_end_most(const struct segment_writer *writer); /* no record ends behind this */

/* Straight-line, of a sealed segment. -VS_EFORMAT: not sealed, or damaged; -VS_ECHECKSUM. */
int segment_load(struct env *env, struct env_file *file, const struct segment_name *name,
		 struct directory **ret_directory);
/* Straight-line, of one that was open at a crash: its records from the start on that are whole,
 * frames included. *ret_end: where the last one ends, rounded up to a block. salvage: it was
 * sealed, and what follows a damaged record is looked for as well. */
int segment_scan(struct env *env, struct env_file *file, const struct segment_name *name,
		 bool salvage, struct directory **ret_directory, uint64_t *ret_end);
/* Straight-line: 0, or -VS_EFORMAT: its header is another one's, or damaged. */
int segment_header_look(struct env *env, struct env_file *file, const struct segment_name *name);
/* Straight-line: seals what segment_scan found. */
int segment_seal_scanned(struct env *env, struct env_file *file, const struct segment_name *name,
			 const struct directory *directory, uint64_t end);

#endif
