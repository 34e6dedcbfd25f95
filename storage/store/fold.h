/* SPDX-License-Identifier: Apache-2.0 */
/* What fold.c and fold_map.c share. */
#ifndef STORAGE_STORE_FOLD_H
#define STORAGE_STORE_FOLD_H

#include "storage/store/catalog.h"
#include "storage/store/leaf_diff.h"
#include "storage/store/map.h"
#include "storage/store/patch.h"
#include "storage/store/requests.h"

#define FOLD_WINDOW 128u

/* New ids of a level's slots: chunks first, then nodes. count above 1: all null. */
struct update {
	uint64_t first, count;
	struct id id;
	const struct dirty_chunk *dirty; /* chunks: where the id comes from */
};
struct updates {
	struct update *at;
	size_t count, room;
};

struct fold_slot {
	struct fold *fold;
	bool busy;
	size_t index;		/* of the update that it makes: in `in`, or of a node, in `out` */
	size_t from, from_skip; /* a node: its first update in `in` */
	uint64_t count_at, count_end; /* counting what a range of zeros removes */
	struct put *put;
	struct fetch *fetch;   /* what the chunk was */
	struct id old_node;    /* what it is made of; a leaf: how it differs from that: */
	unsigned change_count; /* above LEAF_CHANGES_MAX: by so much that nobody keeps it, or it is
				  not known */
	struct leaf_change changes[LEAF_CHANGES_MAX];
	struct patch patch;
	unsigned tries;
	struct wait wait;
	struct io_op slice_op;
	struct chunk_read read;
};

enum fold_phase { FOLD_CHUNKS, FOLD_MAP, FOLD_COMMIT, FOLD_LOGGING };

struct fold {
	struct store *store;
	struct volume *volume; /* NULL: nothing is folded */
	struct layer *layer;
	struct snapshot as_of; /* the volume's map and that layer */
	enum fold_phase phase;
	int res;
	const struct dirty_chunk **sorted;
	struct updates in, out;
	size_t next, next_skip; /* in `in`: what is to be started next */
	unsigned level, busy;
	bool starting;
	uint64_t chunks_added, chunks_removed;
	int64_t units_step, units_given, units_all; /* of progress, see pace.h */
	struct id top;
	struct fold_slot slots[FOLD_WINDOW];
	struct io_op start_op;
	struct log_entry entry, freeze_entry;
	bool freezing;
	uint8_t freeze_record[8];
	uint8_t kept_record[LOG_RECORD_BYTES_MAX];
	uint32_t kept_bytes;
	uint8_t record[LOG_RECORD_BYTES_MAX];
	uint32_t record_bytes;
	uint64_t retry_ns;
	bool space_came;      /* since it started */
	unsigned space_tries; /* since one ended well */
	int last_error;
	/* damage, see fold_lost.c */
	uint64_t lost_blocks; /* that were found lost by this fold */
	unsigned eio_folds;   /* that failed for a read error, one after the other */
	struct fold_lost {
		unsigned made; /* how many of `ids` there are */
		bool making;
		struct id ids[MAP_LEVELS]; /* a chunk all of which is lost, a leaf of such, ... */
		struct put *put;
		struct patch patch;
		struct wait wait;
		struct wait_list waiters;
	} lost;
};

int updates_add(struct updates *updates, uint64_t first, uint64_t count);
struct fold_slot *fold_slot_free(struct fold *fold);
void slot_free(struct fold_slot *slot);
void slot_fail(struct fold_slot *slot, int res);
void fold_go_on(struct fold *fold);
void fold_progress(struct fold *fold); /* one chunk or leaf more is done */
void fold_commit(struct fold *fold);
void fold_freeze(struct fold *fold, struct volume *volume);

/* An error that says that stored data is gone, and not that something else went wrong. */
bool fold_is_damage(const struct fold *fold, int res);
/* 0: *ret_id is what stands for a lost chunk (level 0) or node of the map; WAITING; negative. */
int fold_lost_id(struct fold *fold, unsigned level, struct wait *wait, struct id *ret_id);
void fold_lost_reset(struct fold *fold);
/* Of what the fold found lost, the map before it is kept as a snapshot: false: no room in the log
 * now. */
bool fold_lost_keep(struct fold *fold);

void fold_map_begin(struct fold *fold);
void fold_map(struct fold *fold);

#endif
