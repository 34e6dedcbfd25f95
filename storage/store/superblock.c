/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The superblock: what a directory must hold to be a store. Two copies in one file, 64 KiB apart,
 * each with its own checksum and generation; the newer valid one counts. Written one copy at a
 * time, with a sync between, so that one is whole at every moment. An opening writes the one that
 * counts over the other when they differ: rot, or a crash between the two.
 */
#include "storage/store/superblock.h"

#include "proto/crc32c.h"
#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/recovery.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char sb_magic[8] = "VSTORE\r\n";

void superblock_encode(const struct superblock *sb, uint8_t out[SUPERBLOCK_BYTES])
{
	memset(out, 0, SUPERBLOCK_BYTES);
	struct cursor c = cursor_over(out, SUPERBLOCK_BYTES - 4);
	put_bytes(&c, sb_magic, 8);
	put_u32(&c, FORMAT_VERSION);
	put_u32(&c, 0);
	put_u64(&c, sb->feature_compatible);
	put_u64(&c, sb->feature_read_only);
	put_u64(&c, sb->feature_incompatible);
	put_u64(&c, sb->generation);
	put_bytes(&c, sb->uuid, 16);
	put_bytes(&c, sb->secret, 16);
	put_u64(&c, sb->created_wall_ns);
	put_u64(&c, sb->log_bytes);
	put_bytes(&c, sb->domain.key, 64);
	put_bytes(&c, sb->log_dir, sizeof sb->log_dir);
	assert(!c.failed);
	c = cursor_over(out + SUPERBLOCK_BYTES - 4, 4);
	put_u32(&c, crc32c(0, out, SUPERBLOCK_BYTES - 4));
}

int superblock_decode(const uint8_t in[SUPERBLOCK_BYTES], struct superblock *ret)
{
	struct cursor c = cursor_reading(in + SUPERBLOCK_BYTES - 4, 4);
	if (memcmp(in, sb_magic, 8) != 0)
		return -VS_EFORMAT;
	if (get_u32(&c) != crc32c(0, in, SUPERBLOCK_BYTES - 4))
		return -VS_ECHECKSUM;
	c = cursor_reading(in + 8, SUPERBLOCK_BYTES - 12);
	uint32_t version = get_u32(&c);
	get_u32(&c);
	ret->feature_compatible = get_u64(&c);
	ret->feature_read_only = get_u64(&c);
	ret->feature_incompatible = get_u64(&c);
	ret->generation = get_u64(&c);
	get_bytes(&c, ret->uuid, 16);
	get_bytes(&c, ret->secret, 16);
	ret->created_wall_ns = get_u64(&c);
	ret->log_bytes = get_u64(&c);
	get_bytes(&c, ret->domain.key, 64);
	get_bytes(&c, ret->log_dir, sizeof ret->log_dir);
	ret->log_dir[sizeof ret->log_dir - 1] = 0;
	if (version != FORMAT_VERSION || (ret->feature_incompatible & ~(uint64_t)FEATURES_ALL))
		return -VS_ENEWER;
	if (ret->log_bytes < MIB || ret->log_bytes % MIB || ret->log_bytes > TIB)
		return -VS_EFORMAT;
	return 0;
}

int superblock_write(struct env_dir *dir, const struct superblock *sb)
{
	struct env_file *file;
	int res = env_file_open(dir, "superblock", ENV_CREATE, &file);
	if (res < 0)
		return res;
	uint8_t block[SUPERBLOCK_BYTES];
	superblock_encode(sb, block);
	for (unsigned copy = 0; copy < 2 && res >= 0; copy++) {
		int64_t moved = env_file_write_wait(file, block, SUPERBLOCK_BYTES,
						    copy * SUPERBLOCK_COPY_OFFSET);
		res = moved < 0 ? (int)moved : env_file_sync_wait(file);
	}
	env_file_close(file);
	return res < 0 ? res : 0;
}

/* The file's two copies: what is there, what it says, and what that is worth. */
struct copies {
	uint8_t blocks[2][SUPERBLOCK_BYTES];
	struct superblock sbs[2];
	enum copy_fact facts[2];
	enum pair_verdict verdict;
	int worst;
};

static void copies_read(struct env_file *file, struct copies *ret)
{
	*ret = (struct copies){.worst = -VS_EFORMAT};
	for (unsigned copy = 0; copy < 2; copy++) {
		int64_t got = env_file_read_wait(file, ret->blocks[copy], SUPERBLOCK_BYTES,
						 copy * SUPERBLOCK_COPY_OFFSET);
		int res = got < 0 ? (int)got
			  : got < SUPERBLOCK_BYTES
				  ? -ENOENT
				  : superblock_decode(ret->blocks[copy], &ret->sbs[copy]);
		ret->facts[copy] = recovery_copy_fact(res);
		ret->worst = res < 0 && res != -ENOENT ? res : ret->worst;
	}
	ret->verdict = recovery_pair(&recovery_superblock, ret->facts,
				     (uint64_t[]){ret->sbs[0].generation, ret->sbs[1].generation});
}

int superblock_mend(struct env_dir *dir, const struct superblock *opened)
{
	struct env_file *file;
	struct copies copies;
	int res = env_file_open(dir, "superblock", 0, &file);
	if (res < 0)
		return res;
	copies_read(file, &copies);
	unsigned good = copies.verdict == PAIR_SECOND, bad = !good;
	bool mend = (copies.verdict == PAIR_FIRST || copies.verdict == PAIR_SECOND) &&
		    copies.sbs[good].generation == opened->generation &&
		    copies.facts[bad] != COPY_NEWER && copies.facts[bad] != COPY_UNKNOWN &&
		    memcmp(copies.blocks[0], copies.blocks[1], SUPERBLOCK_BYTES) != 0;
	if (mend) {
		int64_t moved = env_file_write_wait(file, copies.blocks[good], SUPERBLOCK_BYTES,
						    bad * SUPERBLOCK_COPY_OFFSET);
		res = moved < 0 ? (int)moved : env_file_sync_wait(file);
	}
	env_file_close(file);
	return res < 0 ? res : mend;
}

int superblock_read(struct env_dir *dir, struct superblock *ret_sb, char *sentence)
{
	struct env_file *file;
	struct copies copies;
	int res = env_file_open(dir, "superblock", ENV_RDONLY, &file);
	if (res < 0) {
		snprintf(sentence, SENTENCE_BYTES,
			 res == -ENOENT ? "There is no superblock in the store's directory: check "
					  "that its disk is mounted; "
					  "a new store is made with --init only."
					: "The superblock cannot be opened: check the rights of "
					  "the store's directory.");
		return res;
	}
	copies_read(file, &copies);
	env_file_close(file);
	switch (copies.verdict) {
	case PAIR_FIRST:
		*ret_sb = copies.sbs[0];
		return 0;
	case PAIR_SECOND:
		*ret_sb = copies.sbs[1];
		return 0;
	case PAIR_NEWER:
		snprintf(sentence, SENTENCE_BYTES,
			 "The store was written by another version of vstored: run that version, "
			 "or a newer one that reads its format; nothing was changed.");
		return -VS_ENEWER;
	default:
		snprintf(sentence, SENTENCE_BYTES,
			 "Both copies of the superblock are unreadable (%s): restore the file from "
			 "a copy of the store.",
			 vs_strerror(copies.worst));
		return copies.worst;
	}
}
