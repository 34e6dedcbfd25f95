/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes: volumes, leases, snapshots, policies, the trash, domains and peers. Each is one commit,
 * done when it is durable, or refused with a sentence.
 */
#ifndef STORAGE_STORE_STORE_ADMIN_H
#define STORAGE_STORE_STORE_ADMIN_H

#include "proto/policy.h"
#include "storage/store/store.h"

#define NAME_ROOM (NAME_BYTES_MAX + 1)
#define SNAP_NAME_ROOM (2 * NAME_BYTES_MAX + 2) /* VOLUME@SNAP */
#define SNAP_GROUP_MAX 32u			/* snapshots in one atomic step */

/* A change in progress: the caller's, until op.done. op.res: 0 or a negative code, and then
 * `sentence` says what failed, why, what to do. */
struct admin_op {
	struct io_op op;
	char sentence[SENTENCE_BYTES];

	char holder[SNAP_NAME_ROOM]; /* -EBUSY, -VS_ERETAINED: what stands in the way, or "" */
};

/* How much a volume's clients may do; the store keeps it, who serves them sees to it. */
struct volume_limits {
	uint64_t iops, bytes_per_s; /* 0: no limit */
	uint32_t burst_s;	    /* what was not used is saved up for so long; 0: 1 s */
};
#define BURST_S_MAX 3600u

struct volume_options {
	uint64_t size_bytes;
	int level;	      /* zstd level; 0: 1 */
	uint32_t frame_bytes; /* 4, 8, 16 or 64 KiB; 0: 16 KiB */
	uint64_t quota_bytes; /* 0: none */
	const char *domain;   /* its name; NULL: the store's own */
};

void store_volume_create(struct store *store, struct admin_op *op, const char *name,
			 const struct volume_options *options);
void store_volume_grow(struct store *store, struct admin_op *op, const char *name,
		       uint64_t size_bytes);
void store_volume_rename(struct store *store, struct admin_op *op, const char *name,
			 const char *new_name);
/* Keys: "level", "quota", "frame"; "iops", "bandwidth" (bytes a second) and "burst" (seconds) of
 * its limits, which the store only keeps. -EINVAL for others. */
void store_volume_set(struct store *store, struct admin_op *op, const char *name, const char *key,
		      const char *value);
/* Into the trash, with its snapshots. -EBUSY while attached, -VS_ERETAINED while a snapshot is
 * held. */
void store_volume_delete(struct store *store, struct admin_op *op, const char *name);
/* A new volume that starts as the snapshot; O(1) once that is sealed, and waits until then. */
void store_volume_clone(struct store *store, struct admin_op *op, const char *snapshot,
			const char *new_name);

/* Leases: who alone may write to a volume. Each has a generation, which is never given twice. */
struct volume_lease {
	uint64_t generation; /* of the last one there was; 0: there never was one */
	uint8_t holder[16];
	char holder_name[NAME_ROOM]; /* "": nobody has it */
};
/* The same holder may ask again, also with another name, and keeps its generation. -EBUSY, and
 * op->holder: another one has it, or somebody without a lease has the volume open for writing. */
void store_lease_take(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t holder[16], const char *holder_name);
/* Nobody has it then. holder: NULL for whoever has it. Its views should be fenced and closed
 * before. -ENOENT: that holder does not have it. */
void store_lease_end(struct store *store, struct admin_op *op, const char *name,
		     const uint8_t *holder);

/* `count` names VOL@SNAP, all in one atomic step. Done when the commit is durable. */
void store_snap_create(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count);
void store_snap_delete(struct store *store, struct admin_op *op,
		       const char *name); /* to the trash */
/* The same of all that `choose` names, by their numbers, in one step. It is asked when nothing can
 * come between its answer and the step any more, whatever was begun before this; again, if there is
 * a wait after all. Returns how many (0: none, which is no error), or a negative code. One that may
 * not go refuses all of them. */
void store_snap_delete_chosen(struct store *store, struct admin_op *op,
			      int (*choose)(struct admin_op *op,
					    uint32_t ret_numbers[SNAP_GROUP_MAX]));
/* The volume becomes the snapshot again (what it held is lost unless snapshotted). -EBUSY:
 * attached. */
void store_snap_restore(struct store *store, struct admin_op *op, const char *name);
void store_snap_hold(struct store *store, struct admin_op *op, const char *name, const char *tag);
void store_snap_release(struct store *store, struct admin_op *op, const char *name,
			const char *tag);
void store_snap_retain(struct store *store, struct admin_op *op, const char *name,
		       uint64_t until_wall_ns);
/* Done when its root is known (folded). */
void store_snap_seal(struct store *store, struct admin_op *op, const char *name);

/* ---- policies: what snapshots are taken and kept. The store keeps them; who runs them is above.
 */

#define POLICIES_MAX 64u
struct policy_info {
	char name[NAME_ROOM];
	uint32_t number;
	struct policy_rules rules;
	uint32_t volume_count;
};
/* A new one, or other rules for one that is there. -ENOENT: what it takes is to be sent to one that
 * is no peer. */
void store_policy_set(struct store *store, struct admin_op *op, const char *name,
		      const struct policy_rules *rules);
/* -EBUSY while a volume has it. Its snapshots stay, and nobody removes them. */
void store_policy_delete(struct store *store, struct admin_op *op, const char *name);
/* The volume has this policy from now on ("": none) instead of the one it had. */
void store_policy_attach(struct store *store, struct admin_op *op, const char *volume,
			 const char *policy);
/* As store_snap_create; the snapshots are the policy's, which may remove them. */
void store_policy_snap(struct store *store, struct admin_op *op, const char *const *names,
		       size_t count, uint32_t policy);
/* Of what the volume's policy takes, all up to the snapshot of that number is at that host, or is
 * not to go there any more: remembered as long as volume and peer are there, so that nothing is
 * sent again that was deleted there. By the volume's number, for it may have been renamed since it
 * was sent. Nothing, where it is gone, or its policy does not send to that host now. store_tag: of
 * the store that it is in there (repl_store_tag), as a host that lost its disks comes back with
 * another one; 0: not known. */
void store_shipped(struct store *store, struct admin_op *op, uint32_t volume, const char *host,
		   uint32_t snapshot, uint32_t store_tag);
/* That number; 0: nothing went there, or into another store than this one, or there is no such
 * volume. */
uint32_t store_shipped_until(const struct store *store, uint32_t volume, const char *host,
			     uint32_t store_tag);
/* An array for the caller to free; -ENOMEM. */
int store_policies(const struct store *store, struct policy_info **ret, size_t *ret_count);

/* number: the trash's id. as: NULL for its old name. */
void store_trash_restore(struct store *store, struct admin_op *op, uint64_t number, const char *as);
void store_trash_purge(struct store *store, struct admin_op *op, uint64_t number);

/* ---- the format ---- */

/* Adds the features that the store's format lacks; durable when done, and then versions that do not
 * know them no longer open it. Nothing to do is no error. */
void store_upgrade(struct store *store, struct admin_op *op);
/* Of a bit of store_info.features; NULL: there is none. */
const char *store_feature_name(unsigned bit);

/* ---- domains and peers ---- */

#define PEER_ADDRESS_ROOM 128u /* "ADDRESS:PORT" */

/* A domain that a peer handed over: its key, under a name of ours, or a longer one where that is
 * another key's. The same key again is no error. */
void store_domain_add(struct store *store, struct admin_op *op, const char *name,
		      const uint8_t key[64]);
/* To hand it to a peer. -ENOENT. */
int store_domain_key(const struct store *store, const uint8_t uuid[16], uint8_t ret_key[64]);
/* The same host again gets the new address. */
void store_peer_add(struct store *store, struct admin_op *op, const char *host,
		    const char *address);
void store_peer_delete(struct store *store, struct admin_op *op, const char *host);

#endif
