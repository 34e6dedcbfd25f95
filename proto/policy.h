/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy: its name and rules, what of that may be, and its bytes, which are the same in a store's
 * log and between hosts. Pure functions, any thread.
 */
#ifndef PROTO_POLICY_H
#define PROTO_POLICY_H

#include "proto/cursor.h"
#include "proto/err.h"
#include "proto/units.h"
#include "proto/window.h"

#define POLICY_NAME_BYTES_MAX 40u /* its snapshots are named POLICY-YYYYMMDD-HHMMSSZ */
enum policy_keep {
	KEEP_LAST,
	KEEP_HOURLY,
	KEEP_DAILY,
	KEEP_WEEKLY,
	KEEP_MONTHLY,
	KEEP_YEARLY,
	POLICY_KEEPS,
};
#define POLICY_HOSTS_MAX 3u
#define POLICY_EVERY_NS_MAX (366 * 24 * 3600 * NSEC_PER_SEC)
struct policy_rules {
	uint64_t every_ns;	     /* a snapshot of each of its volumes; 0: only when asked */
	uint32_t keep[POLICY_KEEPS]; /* how many; the newest of each hour, day ... count */
	/* What it takes is sent to these peers, each once, "" for none, the empty ones last; so
	 * fast (bytes a second; 0: no limit), and in these hours. Where one of them follows the
	 * volume by cuts (store_follower_set), that follower's limit and hours count instead. */
	char send_to[POLICY_HOSTS_MAX][NAME_BYTES_MAX + 1];
	uint64_t rate_bytes;
	struct window window;
};
struct named_policy {
	char name[NAME_BYTES_MAX + 1]; /* "": none */
	struct policy_rules rules;
};
/* What one host tells another of a volume's policy. */
struct told_policy {
	bool told; /* one that is older says nothing of it, not that there is none */
	struct named_policy policy;
};

/* What can be set, by a person or by what another host says: 0, or -EINVAL and why not. */
int policy_check(const struct named_policy *policy, char ret_sentence[SENTENCE_BYTES]);
/* The same name and rules. */
bool policy_same(const struct named_policy *a, const struct named_policy *b);

/* All that is behind the number in PUT_POLICY (storage/FORMAT.md). */
#define POLICY_BYTES_MAX 304u
uint32_t policy_bytes(const struct policy_rules *rules);
void policy_put(struct cursor *c, const struct named_policy *policy);
/* Foreign bytes, up to the cursor's end; false: they are no policy. Names are zeros behind their
 * end. */
bool policy_get(struct cursor *c, struct named_policy *ret);

#endif
