/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of recovery.h. A rule may name several facts of a column; no two rules fit the same
 * combination, so their order means nothing. */
#include "storage/store/recovery.h"

#include "proto/err.h"

#include <assert.h>
#include <errno.h>

#define TABLE(name, rules, ...)                                                                    \
	{                                                                                          \
		name, rules, sizeof(rules) / sizeof *(rules), sizeof((uint8_t[]){__VA_ARGS__}),    \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

/* ---- pairs ---- */

#define ABSENT COPY_ABSENT
#define DAMAGED COPY_DAMAGED
#define NEWER COPY_NEWER
#define WHOLE COPY_WHOLE
#define UNKNOWN COPY_UNKNOWN
#define FIRST ORDER_FIRST
#define SECOND ORDER_SECOND
#define NEITHER ORDER_NEITHER
#define KNOWN (ABSENT | DAMAGED | NEWER | WHOLE)
#define ANY_COPY (KNOWN | UNKNOWN)
#define ANY_ORDER (FIRST | SECOND | NEITHER)

/* clang-format off: columns */

/* A newer version's copy counts like any other when it was written last: what lies in the store may
 * be its doing already. Written before the other one, it is what is left of a change back. */
static const struct recovery_rule superblock_rules[] = {
	/* first           second            written last       verdict */
	{{WHOLE, WHOLE, FIRST | NEITHER}, PAIR_FIRST},
	{{WHOLE, WHOLE, SECOND}, PAIR_SECOND},
	{{WHOLE, NEWER, FIRST}, PAIR_FIRST},
	{{WHOLE, NEWER, SECOND | NEITHER}, PAIR_NEWER},
	{{NEWER, WHOLE, SECOND}, PAIR_SECOND},
	{{NEWER, WHOLE, FIRST | NEITHER}, PAIR_NEWER},
	{{WHOLE, ABSENT | DAMAGED, ANY_ORDER}, PAIR_FIRST},
	{{ABSENT | DAMAGED, WHOLE, ANY_ORDER}, PAIR_SECOND},
	{{NEWER, ABSENT | DAMAGED | NEWER, ANY_ORDER}, PAIR_NEWER},
	{{ABSENT | DAMAGED, NEWER, ANY_ORDER}, PAIR_NEWER},
	{{DAMAGED, ABSENT | DAMAGED, ANY_ORDER}, PAIR_DAMAGED},
	{{ABSENT, DAMAGED, ANY_ORDER}, PAIR_DAMAGED},
	{{ABSENT, ABSENT, ANY_ORDER}, PAIR_ABSENT},
	{{UNKNOWN, ANY_COPY, ANY_ORDER}, PAIR_STOP},
	{{KNOWN, UNKNOWN, ANY_ORDER}, PAIR_STOP},
};

#define NOT_WHOLE (ABSENT | DAMAGED | NEWER)

/* The older one serves as well while the log behind its place is whole; where that was written over
 * since, the log's replay finds a commit that says so, and refuses. So a damaged newer one costs
 * nothing that is not noticed. Without any there is no store. */
static const struct recovery_rule checkpoint_rules[] = {
	/* first           second            written last       verdict */
	{{WHOLE, WHOLE, FIRST | NEITHER}, PAIR_FIRST},
	{{WHOLE, WHOLE, SECOND}, PAIR_SECOND},
	{{WHOLE, NOT_WHOLE, ANY_ORDER}, PAIR_FIRST},
	{{NOT_WHOLE, WHOLE, ANY_ORDER}, PAIR_SECOND},
	{{DAMAGED | NEWER, NOT_WHOLE, ANY_ORDER}, PAIR_DAMAGED},
	{{ABSENT, DAMAGED | NEWER, ANY_ORDER}, PAIR_DAMAGED},
	{{ABSENT, ABSENT, ANY_ORDER}, PAIR_ABSENT},
	{{UNKNOWN, ANY_COPY, ANY_ORDER}, PAIR_STOP},
	{{KNOWN, UNKNOWN, ANY_ORDER}, PAIR_STOP},
};

/* All that the index's files say can be had from the segments: no damage to them is a reason to
 * refuse. */
static const struct recovery_rule index_rules[] = {
	/* first           second            written last       verdict */
	{{WHOLE, WHOLE, FIRST | NEITHER}, PAIR_FIRST},
	{{WHOLE, WHOLE, SECOND}, PAIR_SECOND},
	{{WHOLE, NOT_WHOLE, ANY_ORDER}, PAIR_FIRST},
	{{NOT_WHOLE, WHOLE, ANY_ORDER}, PAIR_SECOND},
	{{NOT_WHOLE, NOT_WHOLE, ANY_ORDER}, PAIR_NONE},
	{{UNKNOWN, ANY_COPY, ANY_ORDER}, PAIR_STOP},
	{{KNOWN, UNKNOWN, ANY_ORDER}, PAIR_STOP},
};

/* clang-format on */

const struct recovery_table recovery_superblock =
	TABLE("superblock", superblock_rules, ANY_COPY, ANY_COPY, ANY_ORDER);
const struct recovery_table recovery_checkpoint =
	TABLE("checkpoint", checkpoint_rules, ANY_COPY, ANY_COPY, ANY_ORDER);
const struct recovery_table recovery_index =
	TABLE("index", index_rules, ANY_COPY, ANY_COPY, ANY_ORDER);

/* ---- the log ---- */

#define ANY_CLAIM (CLAIM_NONE | CLAIM_FOUND | CLAIM_UNREADABLE)

/* clang-format off: columns */
static const struct recovery_rule chain_rules[] = {
	/* at its place       behind it          verdict */
	{{COMMIT_NEXT, ANY_CLAIM}, CHAIN_APPLY},
	{{COMMIT_OTHER, CLAIM_NONE}, CHAIN_CUT},
	{{COMMIT_OTHER, CLAIM_FOUND}, CHAIN_LOST},
	{{COMMIT_OTHER, CLAIM_UNREADABLE}, CHAIN_STOP},
	{{COMMIT_UNREADABLE, ANY_CLAIM}, CHAIN_STOP},
};
/* clang-format on */

const struct recovery_table recovery_chain =
	TABLE("chain", chain_rules, COMMIT_NEXT | COMMIT_OTHER | COMMIT_UNREADABLE, ANY_CLAIM);

/* ---- segments ---- */

#define LISTED SEGMENT_LISTED
#define UNLISTED SEGMENT_NOT_LISTED
#define ANY_LIST (LISTED | UNLISTED)
#define ANY_SEAL (SEAL_WHOLE | SEAL_NONE | SEAL_DAMAGED | SEAL_ALIEN | SEAL_FAILED | SEAL_UNKNOWN)
#define WRITABLE OPEN_WRITABLE
#define READ_ONLY OPEN_READ_ONLY
#define ANY_OPEN (WRITABLE | READ_ONLY)

/* clang-format off: columns */
static const struct recovery_rule segment_rules[] = {
	/* catalog         file             index     what the file says        store      verdict
	 */
	{{SEGMENT_KNOWN, SEGMENT_FILE, LISTED, ANY_SEAL, ANY_OPEN}, SEGMENT_TRUST},
	{{SEGMENT_KNOWN, SEGMENT_NO_FILE, ANY_LIST, ANY_SEAL, ANY_OPEN}, SEGMENT_IS_LOST},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_WHOLE, ANY_OPEN}, SEGMENT_DIRECTORY},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_NONE, WRITABLE}, SEGMENT_SCAN_SEAL},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_NONE, READ_ONLY}, SEGMENT_SCAN},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_DAMAGED, WRITABLE}, SEGMENT_SALVAGE_SEAL},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_DAMAGED, READ_ONLY}, SEGMENT_SALVAGE},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_ALIEN | SEAL_FAILED, ANY_OPEN},
	 SEGMENT_IS_LOST},
	{{SEGMENT_KNOWN, SEGMENT_FILE, UNLISTED, SEAL_UNKNOWN, ANY_OPEN}, SEGMENT_STOP},
	{{SEGMENT_UNKNOWN, SEGMENT_FILE, ANY_LIST, ANY_SEAL, WRITABLE}, SEGMENT_REMOVE},
	{{SEGMENT_UNKNOWN, SEGMENT_FILE, ANY_LIST, ANY_SEAL, READ_ONLY}, SEGMENT_LEAVE},
	{{SEGMENT_UNKNOWN, SEGMENT_NO_FILE, ANY_LIST, ANY_SEAL, ANY_OPEN}, SEGMENT_NOTHING},
};
/* clang-format on */

const struct recovery_table recovery_segment =
	TABLE("segment", segment_rules, SEGMENT_KNOWN | SEGMENT_UNKNOWN,
	      SEGMENT_FILE | SEGMENT_NO_FILE, ANY_LIST, ANY_SEAL, ANY_OPEN);

/* ---- asking ---- */

unsigned recovery_decide(const struct recovery_table *table, const uint8_t *facts)
{
	for (unsigned i = 0; i < table->rule_count; i++) {
		unsigned fits = 0;
		for (unsigned c = 0; c < table->column_count; c++)
			fits += (table->rules[i].facts[c] & facts[c]) != 0;
		if (fits == table->column_count)
			return table->rules[i].verdict;
	}
	assert(!"a combination without a rule");
	return 0;
}

enum pair_verdict recovery_pair(const struct recovery_table *table, const enum copy_fact copies[2],
				const uint64_t generations[2])
{
	const unsigned have = COPY_WHOLE | COPY_NEWER;
	uint8_t facts[3] = {(uint8_t)copies[0], (uint8_t)copies[1], ORDER_NEITHER};
	if (copies[0] & have && copies[1] & have && generations[0] != generations[1])
		facts[2] = generations[0] > generations[1] ? ORDER_FIRST : ORDER_SECOND;
	return recovery_decide(table, facts);
}

enum copy_fact recovery_copy_fact(int res)
{
	switch (res) {
	case -ENOENT:
		return COPY_ABSENT;
	case -VS_ENEWER:
		return COPY_NEWER;
	case -ENOMEM:
		return COPY_UNKNOWN;
	default:
		return res < 0 ? COPY_DAMAGED : COPY_WHOLE;
	}
}
