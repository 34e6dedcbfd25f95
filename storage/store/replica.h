/* SPDX-License-Identifier: Apache-2.0 */
/* What receive.c, replica.c, put.c and write.c share about records that come from other hosts. */
#ifndef STORAGE_STORE_REPLICA_H
#define STORAGE_STORE_REPLICA_H

#include "storage/store/objects.h"
#include "storage/store/record.h"
#include "storage/store/store_transfer.h"
#include "storage/store/store_vote.h"

struct command;
struct put;

#define CARRIED_LAG_NS (30 * NSEC_PER_SEC) /* of a copy that follows since a promotion */

/* A record that came from another host; as the data of a write of kind REQUEST_COPY, a chunk that
 * becomes a volume's: that record, or, with `stored` NULL, one that is here (-ENOENT when it is
 * not). */
struct foreign_record {
	struct id id;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t frame_bytes;
	const uint8_t *stored; /* the quarters' hashes and the frames */
	uint32_t stored_bytes;
};
/* -VS_EFORMAT, -VS_ECHECKSUM. It points into `record`; its frames and its id are verified by the
 * put. */
int foreign_record_decode(struct foreign_record *foreign, uint8_t type, const void *record,
			  uint32_t record_bytes);

/* As put_start, of a record that is made already: it is decoded and its id computed first
 * (-VS_ECHECKSUM), then stored as it is. put->type and domain are set. */
void put_start_foreign(struct put *put, const struct foreign_record *foreign);

/* A copy's position as a record. Whole: it holds what its original was there, which has it durable
 * up to durable_vseq, or further as was said before; by the stream of who is in step, or not. */
#define NOBODYS 0xff /* each byte of an incarnation that no volume's is: it stands nowhere */
enum follow_what { FOLLOW_HALF = 0, FOLLOW_WHOLE = 1, FOLLOW_IN_STEP = 3 };
uint32_t follow_encode(const struct volume *volume, const struct store_position *position,
		       enum follow_what what, uint64_t durable_vseq, void *out);
int follow_apply(struct volume *volume, struct cursor *c);
/* The volume itself, of which copies are refused then; NULL: it is not here. */
const struct volume *served_here(const struct store *store, const uint8_t uuid[16]);

/* The commands of a receive, on the copy `name`. `offer` is the caller's until the op is done. */
typedef void receive_command(struct store *store, struct admin_op *op, const char *name,
			     const struct store_offer *offer);
receive_command replica_make, replica_publish, replica_home;
/* beside.c: what a snapshot is received into that leaves the copy as it is. */
receive_command beside_make, beside_publish, beside_drop;
bool beside_is(const struct volume *volume);
struct volume *beside_volume(const struct store *store, const char *name,
			     const struct store_offer *offer);

/* For both, of a command with an offer. */
#define RECEIVED_ALREADY "'%s' is being received already; try again later."
void replica_command(struct store *store, struct admin_op *op, const char *name,
		     const struct store_offer *offer, int (*prepare)(struct command *command));
/* What a copy held is kept as a cut, for the new one is not there before all of it is: so a sender
 * that dies in the middle takes nothing away. WAITING, or negative. */
int replica_keep(struct command *command, struct volume *copy);
/* A snapshot has what the volume is now. */
bool replica_kept(const struct store *store, const struct volume *volume);
int replica_check(struct command *command); /* it can be, and its sender is no old primary */
/* -EEXIST: the copy of that name is one of another volume. */
int replica_same(struct command *command, const struct volume *copy);
struct volume replica_volume(struct command *command); /* new, empty, with a number */
struct snapshot replica_snapshot(struct command *command, const struct volume *copy,
				 const struct volume *map); /* new: what this one's map is */
/* Is it, or will it be, the furthest that the copy has seen? */
bool replica_goes_on(const struct store *store, const struct volume *copy,
		     const struct store_offer *offer);
/* The volume that is served here becomes the copy `name` (yield.c), if it is to give way. -EAGAIN,
 * -EBUSY: not before its users have gone. */
void replica_yield(struct store *store, struct admin_op *op, const char *name,
		   const struct store_offer *offer);
/* A copy becomes the volume new_name: each step's commit in turn; the first only looks. The word is
 * what the voters agreed to; NULL: nobody was asked. */
typedef int command_prepare(struct command *command);
void takeover_start(struct store *store, struct admin_op *op, const char *name,
		    const char *new_name, command_prepare *const *steps,
		    const struct store_word *word, uint64_t base_term);
/* The newest snapshot of a copy, by its position; NULL: it has none. */
struct snapshot *replica_newest(const struct store *store, const struct volume *copy);
/* Of what a promotion of it has: the copy, or where that is half of a transfer its newest snapshot.
 * Zeros: it has neither, and cannot be promoted. */
struct store_position replica_stands(const struct store *store, const struct volume *copy);
/* The highest that is known of a copy: who stands in an older one is an older store. */
uint64_t replica_epoch(const struct store *store, const struct volume *copy);
/* Of a promotion: above all that is known here of the volume, as whoever's copy. */
uint64_t replica_epoch_next(const struct store *store, const uint8_t uuid[16]);
/* Of one that a person decided on, whatever is lost: above that too, and above all that was decided
 * before it anywhere, as far as the time of day tells: what is here may be of long ago. */
uint64_t replica_epoch_decided(const struct store *store, const uint8_t uuid[16]);
/* It is above those that were decided before it began, however shortly, from this moment on. */
uint64_t replica_decides_ns(const struct store *store);
/* Adds records that take its cuts away, but for those that somebody uses or keeps. */
void replica_drop_cuts(struct command *command, const struct volume *volume);
/* 0: there is none of that name; 1: it is here, with the offer's root; -EEXIST: with another. */
int replica_published(const struct store *store, const char *name, const struct store_offer *offer);

#endif
