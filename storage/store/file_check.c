/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damage that nobody meets until the store is opened the next time, or until a directory has left
 * memory. It is read from the disk as it is, whatever memory knows.
 *
 * Keeps true: nothing is changed, but that a checkpoint is asked for where one is damaged; of two
 * checkpoints the older one counts only when a newer one was written since opening, before that it
 * may be what a crash left; a file that changes while it is read is left out.
 */
#include "storage/store/file_check.h"

#include "storage/store/behind.h"
#include "storage/store/index_file.h"
#include "storage/store/store_int.h"
#include "storage/store/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum check_phase {
	FILES_BEGIN,
	FILES_SUPERBLOCK,
	FILES_CHECKPOINT,
	FILES_SEGMENT,
	FILES_TRAILER,
	FILES_DIRECTORY
};

void file_check_done(struct file_check *check)
{
	env_file_close(check->file);
	check->file = NULL;
	if (check->buf)
		env_memory_free(check->store->env, check->buf, check->buf_bytes);
	check->buf = NULL;
	check->buf_bytes = 0;
	if (check->segment)
		segment_unuse(check->segment);
	check->segment = NULL;
}

static void part_read(struct io_op *op)
{
	struct file_check *check = container_of(op, struct file_check, op);
	check->busy = false;
	check->wake(check);
}

/* `bytes` from `offset` on, both whole blocks, come into buf. */
static int part_start(struct file_check *check, struct env_file *file, uint64_t offset,
		      uint64_t bytes)
{
	struct env *env = check->store->env;
	if (check->buf_bytes < bytes) {
		if (check->buf)
			env_memory_free(env, check->buf, check->buf_bytes);
		check->buf = env_memory(env, bytes);
		check->buf_bytes = check->buf ? bytes : 0;
		if (!check->buf)
			return -ENOMEM;
	}
	check->part_bytes = bytes;
	check->busy = true;
	check->op.done = part_read;
	env_file_read(file, &check->op, check->buf, (uint32_t)bytes, offset);
	return WAITING;
}

static bool part_whole(const struct file_check *check)
{
	return check->op.res >= 0 && (uint64_t)check->op.res >= check->part_bytes;
}

/* ---- the superblock and the checkpoints ---- */

static int superblock_look(struct file_check *check)
{
	struct superblock sb;
	char line[SENTENCE_BYTES];
	if (!part_whole(check) || superblock_decode(check->buf, &sb) < 0) {
		snprintf(line, sizeof line,
			 "superblock: the copy at byte %llu is damaged; the other one counts, and "
			 "the next opening writes it anew",
			 (unsigned long long)check->offset);
		check->report(check, line);
	}
	if (check->offset == 0) {
		check->offset = SUPERBLOCK_COPY_OFFSET;
		return part_start(check, check->file, check->offset, SUPERBLOCK_BYTES);
	}
	env_file_close(check->file);
	check->file = NULL;
	check->phase = FILES_CHECKPOINT;
	return WALK_MORE;
}

static int checkpoint_start(struct file_check *check)
{
	struct store *store = check->store;
	const char *name = checkpoint_file_name(check->file_no);
	if (check->file_no == 2) {
		check->phase = FILES_SEGMENT;
		check->slot = 1;
		return WALK_MORE;
	}
	check->generation = checkpoint_generation(store);
	bool counts = check->generation % 2 == check->file_no || store->counters.checkpoints;
	if (!counts || checkpoint_running(store) ||
	    env_file_open(store->dir, name, ENV_RDONLY | ENV_DIRECT, &check->file) < 0) {
		check->file_no++; /* of one that is missing the opening tells */
		return WALK_MORE;
	}
	int64_t bytes = env_file_bytes(check->file);
	if (bytes <= 0 || bytes > CHECKED_BYTES_MAX) { /* not written yet */
		file_check_done(check);
		check->file_no++;
		return WALK_MORE;
	}
	return part_start(check, check->file, 0, round_up((uint64_t)bytes, BLOCK_BYTES));
}

static int checkpoint_look(struct file_check *check)
{
	struct store *store = check->store;
	bool still =
		checkpoint_generation(store) == check->generation && !checkpoint_running(store);
	bool good = check->op.res > 0 &&
		    checkpoint_whole(store, check->file_no, check->buf, (uint64_t)check->op.res);
	if (still && !good) {
		char line[SENTENCE_BYTES];
		snprintf(line, sizeof line, "%s is damaged: it is written anew; nothing is lost",
			 checkpoint_file_name(check->file_no));
		check->report(check, line);
		if (!store->read_only)
			checkpoint_want(store);
	}
	file_check_done(check);
	check->file_no++;
	return WALK_MORE;
}

/* ---- segments ---- */

static void segment_report(struct file_check *check, const char *what, const char *effect)
{
	char line[SENTENCE_BYTES];
	snprintf(line, sizeof line, "segment %016llx: its %s is damaged; its records are found %s",
		 (unsigned long long)check->segment->id, what, effect);
	check->report(check, line);
}

static int segment_next(struct file_check *check);

/* Its trailer or directory: memory has what it said. */
static int footer_damaged(struct file_check *check, const char *what)
{
	segment_damaged(check->segment);
	segment_report(check, what, "without it");
	return segment_next(check);
}

static int segment_next(struct file_check *check)
{
	if (check->segment)
		segment_unuse(check->segment);
	check->segment = NULL;
	env_file_close(check->file);
	check->file = NULL;
	check->slot++;
	check->phase = FILES_SEGMENT;
	return check->only_slot ? 0 : WALK_MORE;
}

static int segment_start(struct file_check *check)
{
	struct store *store = check->store;
	if (check->slot >= segments_slot_count(store))
		return 0;
	struct segment *segment = segment_of(store, check->slot);
	if (!segment || segment->state != SEGMENT_SEALED || segment->writer)
		return segment_next(check);
	char name[32];
	segment_file_name(segment->id, name);
	int res = env_file_open(store->seg_dir, name, ENV_RDONLY | ENV_DIRECT, &check->file);
	if (lacks_means(res))
		return res;
	if (res < 0) {
		char line[SENTENCE_BYTES];
		snprintf(line, sizeof line, "segment %016llx: its file cannot be opened: %s",
			 (unsigned long long)segment->id, vs_strerror(res));
		check->report(check, line);
		return segment_next(check);
	}
	segment_use(segment); /* its directory, if it is in memory, stays there meanwhile */
	check->segment = segment;
	return part_start(check, check->file, 0, SEGMENT_HEADER_BYTES);
}

/* An opening asks the header of a segment that the index does not list: it lists it from now on,
 * in both of its files. */
static void header_damaged(struct file_check *check)
{
	if (!check->segment->indexed)
		index_write_mend_both(check->store);
	segment_report(check, "header", "while the index lists it");
}

static int header_look(struct file_check *check)
{
	struct segment *segment = check->segment;
	if (!part_whole(check) || segment_header_decode(check->store->sb.uuid, segment->id,
							segment->slot, check->buf) < 0)
		header_damaged(check);
	if (!segment->directory) /* who looks at its records reads that, and tells */
		return segment_next(check);
	check->phase = FILES_TRAILER;
	return part_start(check, check->file, segment->bytes - BLOCK_BYTES, BLOCK_BYTES);
}

static int trailer_look(struct file_check *check)
{
	struct segment *segment = check->segment;
	if (!part_whole(check) ||
	    trailer_decode(check->buf, segment->id, segment->bytes, &check->trailer) < 0)
		return footer_damaged(check, "trailer");
	if (check->trailer.bytes == 0)
		return segment_next(check);
	check->phase = FILES_DIRECTORY;
	return part_start(check, check->file, check->trailer.offset,
			  round_up(check->trailer.bytes, BLOCK_BYTES));
}

static int directory_look(struct file_check *check)
{
	struct directory *directory = NULL;
	int res = part_whole(check) ? directory_decode(&check->trailer, check->buf, &directory)
				    : -VS_ECHECKSUM;
	directory_free(directory);
	if (res == -ENOMEM)
		return res;
	return res < 0 ? footer_damaged(check, "directory") : segment_next(check);
}

int file_check_step(struct file_check *check)
{
	if (check->busy)
		return WAITING;
	switch (check->phase) {
	case FILES_BEGIN:
		if (check->only_slot) {
			check->slot = check->only_slot;
			check->phase = FILES_SEGMENT;
			return WALK_MORE;
		}
		check->phase = FILES_SUPERBLOCK;
		if (env_file_open(check->store->dir, "superblock", ENV_RDONLY | ENV_DIRECT,
				  &check->file) < 0) {
			check->report(check, "the superblock's file cannot be opened");
			check->phase = FILES_CHECKPOINT;
			return WALK_MORE;
		}
		return part_start(check, check->file, 0, SUPERBLOCK_BYTES);
	case FILES_SUPERBLOCK:
		return superblock_look(check);
	case FILES_CHECKPOINT:
		return check->file ? checkpoint_look(check) : checkpoint_start(check);
	case FILES_SEGMENT:
		return check->segment ? header_look(check) : segment_start(check);
	case FILES_TRAILER:
		return trailer_look(check);
	default:
		return directory_look(check);
	}
}
