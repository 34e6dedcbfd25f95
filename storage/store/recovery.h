/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an opening decides from what it finds on the disk: tables, one for each kind of thing, and
 * nothing else. A table is a list of rules; exactly one of them fits each combination of facts
 * (tests/unit/test_recovery.c walks them all, and makes each combination of real bytes).
 *
 * Who looks (superblock.c, checkpoint.c, index_load.c, log.c, segments_recover.c) finds the facts,
 * asks here, and does what the verdict says; log.c, which applies many commits, asks only where its
 * chain ends. Pure; any thread.
 */
#ifndef STORAGE_STORE_RECOVERY_H
#define STORAGE_STORE_RECOVERY_H

#include <stdint.h>

#define RECOVERY_COLUMNS_MAX 5u

/* ---- two copies that take turns: superblock, checkpoint, index ---- */

/* One of them. A bit each, so that a rule can name several. */
enum copy_fact {
	COPY_ABSENT = 1,   /* no file, an empty one, or one whose writing had not ended */
	COPY_DAMAGED = 2,  /* cannot be read, or its bytes do not prove themselves */
	COPY_NEWER = 4,	   /* whole, of a format that this code does not know */
	COPY_WHOLE = 8,	   /* whole, and its generation may lie in this place */
	COPY_UNKNOWN = 16, /* could not be looked at: no memory */
};
/* Which of the two says that it was written last; of copies without a generation: neither. */
enum order_fact { ORDER_FIRST = 1, ORDER_SECOND = 2, ORDER_NEITHER = 4 };

enum pair_verdict {
	PAIR_FIRST,   /* the first one serves */
	PAIR_SECOND,  /* the second one does */
	PAIR_NONE,    /* it goes without */
	PAIR_ABSENT,  /* refused: there is nothing */
	PAIR_DAMAGED, /* refused: nothing is whole */
	PAIR_NEWER,   /* refused: a newer version wrote it */
	PAIR_STOP,    /* refused: once more with more memory */
};

/* ---- the log ---- */

/* What lies where the chain's next commit goes. */
enum commit_fact {
	COMMIT_NEXT = 1,       /* the next one, whole: number, place, chain, checksum, payload */
	COMMIT_OTHER = 2,      /* anything else */
	COMMIT_UNREADABLE = 4, /* the disk failed */
};
/* Whether a whole commit behind it says that it was durable. */
enum claim_fact { CLAIM_NONE = 1, CLAIM_FOUND = 2, CLAIM_UNREADABLE = 4 };

enum chain_verdict {
	CHAIN_APPLY, /* apply it, then look at the next */
	CHAIN_CUT,   /* a torn tail, or the end: the next commit is written here */
	CHAIN_LOST,  /* it was durable, and has rotted: nothing is cut, the store is refused */
	CHAIN_STOP,  /* refused: the disk must be seen to first */
};

/* ---- segments ---- */

enum known_fact { SEGMENT_KNOWN = 1, SEGMENT_UNKNOWN = 2 };	 /* to the catalog */
enum file_fact { SEGMENT_FILE = 1, SEGMENT_NO_FILE = 2 };	 /* by the folder's list */
enum listed_fact { SEGMENT_LISTED = 1, SEGMENT_NOT_LISTED = 2 }; /* by the index, slot and id */
/* What the file says; not looked at where another fact decides. */
enum seal_fact {
	SEAL_WHOLE = 1,	   /* header and directory prove themselves */
	SEAL_NONE = 2,	   /* its header does; it is as long as one that is written to */
	SEAL_DAMAGED = 4,  /* its header does; it was sealed, and its directory is not whole */
	SEAL_ALIEN = 8,	   /* its header is another one's, or damaged */
	SEAL_FAILED = 16,  /* the disk failed */
	SEAL_UNKNOWN = 32, /* no memory, no more open files */
};
enum write_fact { OPEN_WRITABLE = 1, OPEN_READ_ONLY = 2 };

enum segment_verdict {
	SEGMENT_TRUST,	   /* its entries come with the index; it is opened when it is needed */
	SEGMENT_DIRECTORY, /* what its directory says */
	SEGMENT_SCAN,	   /* what a scan from its start on finds */
	SEGMENT_SCAN_SEAL, /* the same, and it is sealed with that */
	SEGMENT_SALVAGE,   /* every record in it that is whole, wherever it lies */
	SEGMENT_SALVAGE_SEAL,
	SEGMENT_IS_LOST, /* its chunks answer with an error, and the rest serves on */
	SEGMENT_STOP,	 /* refused: once more with more memory or files */
	SEGMENT_REMOVE,	 /* what a crash left */
	SEGMENT_LEAVE,	 /* the same, and nothing may be written */
	SEGMENT_NOTHING,
};

/* ---- the tables ---- */

struct recovery_rule {
	uint8_t facts[RECOVERY_COLUMNS_MAX]; /* of each column, the facts that it is for */
	uint8_t verdict;
};
struct recovery_table {
	const char *name;
	const struct recovery_rule *rules;
	uint8_t rule_count, column_count;
	uint8_t columns[RECOVERY_COLUMNS_MAX]; /* of each, all facts that there are */
};

extern const struct recovery_table recovery_superblock; /* copy, copy, order */
extern const struct recovery_table recovery_checkpoint; /* copy, copy, order */
extern const struct recovery_table recovery_index;	/* copy, copy, order */
extern const struct recovery_table recovery_chain;	/* commit, claim */
extern const struct recovery_table recovery_segment;	/* known, file, listed, seal, write */

/* `facts`: one of each column. */
unsigned recovery_decide(const struct recovery_table *table, const uint8_t *facts);
/* The same for a pair. generations count of copies that have one. */
enum pair_verdict recovery_pair(const struct recovery_table *table, const enum copy_fact copies[2],
				const uint64_t generations[2]);
/* What a look at a copy that ended with `res` found. */
enum copy_fact recovery_copy_fact(int res);

#endif
