/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a directory a store. */
#ifndef STORAGE_STORE_SUPERBLOCK_H
#define STORAGE_STORE_SUPERBLOCK_H

#include "proto/err.h"
#include "storage/rt/env.h"
#include "storage/store/codec.h"

#define SUPERBLOCK_BYTES 4096u
#define SUPERBLOCK_COPY_OFFSET 65536u /* of the second copy */
#define FORMAT_VERSION 4u	      /* older ones were never released */

/* Bits of feature_incompatible: what a store may hold. New stores may hold all; older ones what
 * they have, until they are upgraded (upgrade.c). */
enum feature {
	FEATURE_POLICIES = 1,  /* records PUT_POLICY and DEL_POLICY */
	FEATURE_PACKED = 2,    /* frames of codec 4 */
	FEATURE_FOLLOWERS = 4, /* records PUT_FOLLOWER, DEL_FOLLOWER and FOLLOW */
	FEATURE_LINES = 8,     /* records LINES */
	FEATURE_VOTERS = 16,   /* records PUT_WORD, and followers that may be left out */
	FEATURE_PROMISES = 32, /* records PUT_PROMISE */
	FEATURE_RETURNS = 64, /* volumes that become copies; copies and followers that are, or come,
				 in step */
	FEATURE_SHIPPING = 128, /* records SHIPPED; followers with hours, policies that send */
	FEATURE_HOME = 256,	/* records HOME_POLICY */
	FEATURES_ALL = 511,
};

struct superblock {
	uint64_t feature_compatible;   /* unknown bits: ignored */
	uint64_t feature_read_only;    /* unknown bits: the store may be read, not written */
	uint64_t feature_incompatible; /* unknown bits: refused */
	uint8_t uuid[16];
	uint8_t secret[16]; /* keys the log's checksums */
	uint64_t created_wall_ns;
	uint64_t log_bytes;
	uint64_t generation; /* the copy with the larger one counts */
	struct domain_key domain;
	char log_dir[512]; /* "": in the store's directory */
};

void superblock_encode(const struct superblock *sb, uint8_t out[SUPERBLOCK_BYTES]);
/* Foreign bytes: -VS_EFORMAT, -VS_ECHECKSUM, -VS_ENEWER. */
int superblock_decode(const uint8_t in[SUPERBLOCK_BYTES], struct superblock *ret);
/* Straight-line. Writes and syncs one copy after the other. */
int superblock_write(struct env_dir *dir, const struct superblock *sb);
/* Straight-line. When the copies differ and the one that counts is what superblock_read took, it is
 * written over the other, unless a newer version wrote that. 1: it was; 0; or a negative code. */
int superblock_mend(struct env_dir *dir, const struct superblock *opened);
/* Straight-line. On failure *sentence (SENTENCE_BYTES) says what to do. */
int superblock_read(struct env_dir *dir, struct superblock *ret_sb, char *sentence);

#endif
