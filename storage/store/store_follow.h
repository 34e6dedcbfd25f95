/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts that follow a volume, and copies that do: what is written leaves as it is committed,
 * flushes wait for those that are in step, and a copy knows for certain where in the life of its
 * original it stands (proto/REPLICATION.md).
 */
#ifndef STORAGE_STORE_STORE_FOLLOW_H
#define STORAGE_STORE_STORE_FOLLOW_H

#include "storage/store/store_admin.h"

/* ---- followers: hosts that are to have a copy of a volume that is never older than this ---- */

#define FOLLOWERS_MAX 256u
struct follower_rules {
	uint64_t lag_ns;     /* from 1 s to a day */
	uint64_t lag_bytes;  /* written since; 0: any */
	uint64_t rate_bytes; /* a second; 0: no limit */
	/* Cuts are sent in these hours only; of who is, or comes, in step: always. */
	struct window window;
	/* It gets each commit as it is made, and flushes of the volume end when it has all before
	 * them, however long that takes. */
	bool in_step;
	/* In step, where three or more vote: when it is missing the voters write down that it is
	 * left out, and then flushes do not wait for it. */
	bool degrade;
	/* It lags behind, and is to be in step (who sends says so) as soon as it is near. */
	bool comes_in_step;
};
struct follower_info {
	char volume[NAME_ROOM], host[NAME_ROOM];
	uint32_t volume_number;
	struct follower_rules rules;
	bool left_out; /* in step by its rules, and not among those that have all; voters say so */
};
/* A new one, or other rules. The host is a peer. The store only keeps it: who sends is above. */
void store_follower_set(struct store *store, struct admin_op *op, const char *volume,
			const char *host, const struct follower_rules *rules);
/* Of one that follows: its limit, its hours, or both, and nothing else, whatever else is changed at
 * the same time. -ENOENT: it does not follow. */
struct follower_pace {
	bool has_rate, has_window;
	uint64_t rate_bytes;
	struct window window;
};
void store_follower_pace(struct store *store, struct admin_op *op, const char *volume,
			 const char *host, const struct follower_pace *pace);
/* One that comes in step is near: it is in step from now on. Nothing, if it is not to any more. */
void store_follower_join(struct store *store, struct admin_op *op, const char *volume,
			 const char *host);
void store_follower_delete(struct store *store, struct admin_op *op, const char *volume,
			   const char *host);
/* An array for the caller to free; -ENOMEM. */
int store_followers(const struct store *store, struct follower_info **ret, size_t *ret_count);

/* ---- where a volume comes from, and a place in its life ---- */

/* An epoch's high half counts promotions, the low one openings that wrote: so what a person, or a
 * majority, has made the volume is above all that an old primary may still open and write. */
#define EPOCH_TERM (UINT64_C(1) << 32)
#define EPOCH_MAX (UINT64_C(1) << 62) /* what others say is no higher, and counts on */
static inline uint64_t epoch_next_term(uint64_t epoch)
{
	return (epoch / EPOCH_TERM + 1) * EPOCH_TERM;
}
/* So long is a promotion's term that a person decides on, by the time of day. */
#define DECISION_NS (4 * NSEC_PER_SEC)
/* Where a volume comes from: each opening that wrote, and behind which write it began; those of the
 * last promotion's and before it, as many as there is room for. Oldest first. */
#define STORE_LINES_MAX 24u
struct store_line {
	uint64_t epoch, begin_vseq;
	uint8_t incarnation[16];
};
struct store_lines {
	uint32_t count;
	struct store_line at[STORE_LINES_MAX];
};

/* A place in a volume's life: nothing else was ever written under the same three. */
struct store_position {
	uint64_t epoch, vseq;
	uint8_t incarnation[16]; /* of the epoch; zeros: not known */
};
static inline bool position_before(uint64_t epoch, uint64_t vseq, uint64_t than_epoch,
				   uint64_t than_vseq)
{
	return epoch < than_epoch || (epoch == than_epoch && vseq < than_vseq);
}
/* Both are known, and are not the same. */
static inline bool incarnations_differ(const uint8_t a[16], const uint8_t b[16])
{
	static const uint8_t none[16];
	return memcmp(a, b, 16) != 0 && memcmp(a, none, 16) != 0 && memcmp(b, none, 16) != 0;
}

/* ---- what is written leaves for followers, and what they have of it ---- */

/* A record of data. */
struct store_tap_record {
	uint32_t volume;
	struct store_position position; /* after it */
	uint64_t offset_bytes, length_bytes;
	const void *data; /* valid during the call; NULL: zeros */
};
struct store_tap_ops {
	/* When it goes to the device, and again when it has taken effect, for who came in between:
	 * their vseqs follow each other, and who has one already passes over it. What went out and
	 * never took effect is lost here by a crash, or this store is failed. */
	void (*record)(void *owner, const struct store_tap_record *record);
	/* The commit ends that the records since the last call were of. */
	void (*committed)(void *owner);
	/* The volume changed otherwise (grown, restored, deleted): it is tapped no more. */
	void (*broken)(void *owner, uint32_t volume);
};
/* Who gets the records of tapped volumes, in the order of the log; none of its calls may call the
 * store, but for reading and for store_tap. NULL: nobody, and no volume is tapped any more. */
void store_set_tap(struct store *store, const struct store_tap_ops *ops, void *owner);
/* On: with all that has not taken effect yet. -ENOENT. */
int store_tap(struct store *store, uint32_t volume, bool on);
/* The follower has all up to this vseq, for good. */
void store_follower_acked(struct store *store, uint32_t volume, const char *host, uint64_t vseq);
/* A copy says that it stands further in this opening of the volume than the volume does: a crash
 * took writes that nobody was promised. What comes next is another opening's. */
void store_line_begin(struct store *store, struct admin_op *op, const char *volume);
/* What is durable here for sure. */
uint64_t store_durable_vseq(const struct store *store, uint32_t volume);
/* It gets each commit now, from where it said that it stands; or it does not. */
void store_follower_live(struct store *store, uint32_t volume, const char *host, bool live);
/* It has been away for longer than flushes are to wait: where its rules say degrade, and a majority
 * of voters without it is there, it is left out. Said again and again while it is so. */
void store_follower_missing(struct store *store, uint32_t volume, const char *host);
/* Nothing will be acknowledged any more: flushes that wait for it end with -ESHUTDOWN. */
void store_followers_stop(struct store *store);

/* ---- the other side ---- */

/* Our own volume would give way to what this host offers of that epoch, and become its copy: it was
 * promoted since, and it has had a copy by our rules, or owns the volume by its voters' word. The
 * receive does it (store_receive), when nobody uses the volume any more. */
bool store_yields(const struct store *store, const char *host, const uint8_t uuid[16],
		  uint64_t epoch);

/* A copy HOST/VOL takes what its original writes. Its position and a view of it:
 * -ENOENT: there is none of that UUID; -EAGAIN: what it holds is half of a transfer, so send a
 * snapshot first; -EBUSY: somebody else writes to it; -VS_EFENCED: the volume itself is here. */
int store_copy_open(struct store *store, const char *name, const uint8_t uuid[16],
		    struct view **ret_view, struct store_position *ret_position);
/* Its batches must be done. */
void store_copy_close(struct view *view);
/* What one commit of the original had. The caller's until op.done: 0 when all of it is in the log
 * (a flush on the view makes it durable), and the copy stands at `to`; where it fits, both are one
 * commit here too. -EAGAIN: it does not stand at from_vseq. One at a time. */
struct store_copy_part {
	uint64_t offset_bytes, length_bytes; /* whole blocks */
	const void *data;		     /* aligned to 4 KiB is faster; NULL: zeros */
};
struct store_copy_batch {
	struct io_op op;
	struct view *view;
	struct store_copy_part *parts;
	uint32_t part_count;
	uint64_t from_vseq;
	uint64_t durable_vseq; /* up to there the original has it durable */
	struct store_position to;
};
void store_copy_apply(struct store_copy_batch *batch);

/* ---- the policy that it has at home ---- */

/* What is told of the volume's policy: its own, or, of a copy, what its original told. */
void store_policy_told(const struct store *store, uint32_t volume, struct told_policy *ret);
/* The original of the copy of that name told so. It is kept with the copy, which has it when it is
 * recovered (store_replica_adopt); nothing else goes by it. Nothing, where it is known, or the copy
 * gone. */
bool store_copy_policy_news(const struct store *store, const char *name,
			    const struct told_policy *told); /* it would be kept */
void store_copy_policy(struct store *store, struct admin_op *op, const char *name,
		       const struct told_policy *told);

/* ---- cuts ---- */

/* Snapshots with this policy (store_policy_snap) are cuts: taken to be sent to a follower, which
 * keeps the newest. No rule removes them, store_cut_drop does, at once; one that is gone is no
 * error. -EBUSY while it is attached, -VS_ERETAINED while it is held or retained. */
#define POLICY_CUT UINT32_MAX
void store_cut_drop(struct store *store, struct admin_op *op, const char *name);

#endif
