/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of storage/store share of an open store: its objects, and who changes them.
 *
 * One reactor thread owns all of it; worker threads see only the buffers of their job.
 *
 *   a write:  write.c -> (put.c -> segments.c) -> log.c -> catalog.c, layer.c
 *   a read:   read.c -> layer.c, map.c -> fetch.c -> segments.c
 *   behind:   fold.c turns a frozen layer into map nodes; checkpoint.c lets the log's tail follow
 *
 * State changes only in catalog_apply, when a record's commit is done, in the log's order; replay
 * calls the same function in the same order.
 */
#ifndef STORAGE_STORE_STORE_INT_H
#define STORAGE_STORE_STORE_INT_H

#include "storage/store/cache.h"
#include "storage/store/codec.h"
#include "storage/store/history.h"
#include "storage/store/index.h"
#include "storage/store/layer.h"
#include "storage/store/log.h"
#include "storage/store/mutant.h"
#include "storage/store/patch.h"
#include "storage/store/segment.h"
#include "storage/store/store.h"
#include "storage/store/superblock.h"

#include <assert.h>
#include <errno.h>

#define NODE_SLOTS 256u
#define MAP_LEVELS 4u	 /* 256^4 chunks of 64 KiB: 256 TiB */
#define PUT_COUNT 256u	 /* chunks and nodes on their way into segments */
#ifndef FETCH_COUNT	 /* tests/sim has fewer, and waits for them more often */
#define FETCH_COUNT 128u /* reads of records under way */
#endif
#define PIECE_COUNT 2048u
#define LAYERS_MAX 64u /* of one volume */
#define HOLDS_MAX 8u
#define VOLUMES_MAX 4096u
#define SNAPSHOTS_MAX 65536u
/* What a dirty chunk may need in segments when it is folded: itself, and a leaf of its own. */
#define FOLD_DATA_BYTES (CHUNK_BYTES + 1024)
#define FOLD_NODE_BYTES (NODE_BYTES + 1024)

/* ---- who waits for something is woken once, and looks again ---- */

struct wait {
	void (*wake)(struct wait *wait);
	struct wait *next;
};
struct wait_list {
	struct wait *head, *last;
};
/* NULL: the asker only looked, and does not wait. */
static inline void wait_add(struct wait_list *list, struct wait *wait)
{
	if (!wait)
		return;
	wait->next = NULL;
	if (list->head)
		list->last->next = wait;
	else
		list->head = wait;
	list->last = wait;
}
static inline void wait_wake_all(struct wait_list *list)
{
	struct wait *wait = list->head;
	list->head = NULL;
	while (wait) {
		struct wait *next = wait->next; /* wake may add it to a list again */
		wait->wake(wait);
		wait = next;
	}
}

/* Answers of functions that may have to wait: 0, WAITING (the wait is woken), or a negative code.
 */
#define WAITING 1

/* ---- segments.c: the set of segments ---- */

enum segment_state { SEGMENT_OPEN = 1, SEGMENT_SEALED = 2, SEGMENT_LOST = 3 };

struct segment {
	struct store *store;
	uint32_t slot;
	enum segment_state state;
	uint64_t id;
	uint64_t bytes; /* of the file, when sealed */
	struct env_file *file;
	struct segment_writer *writer; /* until it is sealed */
	struct directory *directory;   /* NULL: not in memory; the writer's while there is one */
	struct load *load;
	struct wait_list load_waiters;
	uint32_t users;			     /* reads under way: its file stays open */
	struct segment *lru_prev, *lru_next; /* of those with a directory in memory */
	bool removed;			     /* dropped; freed when the last user leaves */
	struct segment *gone_next;	     /* of those */
	bool counted;			     /* sealed when the last census began */
	bool kept;			     /* a record of it is bad: no collection touches it */
	bool packed;			     /* there is nothing to compress anew */
	bool sifted; /* so many of its entries were alive when a collection looked, in bytes: */
	uint32_t known_entries;
	uint64_t known_live_bytes;
	bool indexed;	/* the newest file of the index has its records */
	bool leaving;	/* some of its records are no longer in the index: it is being emptied */
	bool unlisted;	/* nor can it be said what it has: its directory was to mend the index */
	bool damaged;	/* its directory has rotted on the disk: see segment_damaged */
	int load_error; /* its directory could not be read, then: */
	uint64_t load_failed_ns;
	struct io_op seal_op;
};

int segments_init(struct store *store);
void segments_free(struct store *store);
void segment_file_name(uint64_t id, char out[32]); /* in the folder seg */
/* From the catalog: a segment exists, or no longer does. */
int segments_add(struct store *store, uint64_t id, uint32_t slot);
void segments_remove(struct store *store, uint32_t slot);
struct segment *segment_of(const struct store *store, uint32_t slot); /* NULL: none */
/* A page of the index was damaged and the segment's directory could not be read: what is not found
 * may be in it. It is asked again by who looks for something; until then nobody says "not there".
 */
void segment_unlisted(struct segment *segment);
/* Its trailer or directory is damaged on the disk. If the directory is in memory it stays there;
 * the index's files are written anew without the segment, so the next opening looks for its records
 * one by one, and seals them again. */
void segment_damaged(struct segment *segment);
/* Straight-line, at open: opens files, indexes records (all that the index does not know), seals
 * what was open, removes orphans. */
int segments_recover(struct store *store, char *sentence);
/* Prepares the first segment; from then on one is kept ready ahead. */
void segments_start(struct store *store);
/* There was no space for a segment: tries again. */
void segments_retry_space(struct store *store);
void segments_wait_space(struct store *store, struct wait *wait); /* woken when it is tried again */
bool segments_full(const struct store *store);			  /* nothing more can be appended */
/* What records may still take: in the open segments, and in those that can be made. */
uint64_t segments_room_bytes(const struct store *store);
bool segments_idle(const struct store *store);
bool segments_writers_idle(const struct store *store);
void segments_seal_open(struct store *store); /* at close; segments_idle says when */
/* 0: a record of so many stored bytes fits now; WAITING; -ENOSPC; the store has failed. */
int segments_room(struct store *store, uint32_t stored_bytes, struct wait *wait);
/* A record begins (1) or ceases (-1) to be made. */
void segments_coming(struct store *store, int change);
/* Copies a record in and indexes it; segments_room said 0. */
struct segment *segments_append(struct store *store, const struct dir_entry *entry,
				const struct frame_entry *frames, const void *stored,
				uint32_t stored_bytes, uint64_t *ret_end);
/* 0: segment->directory is there; WAITING (without a wait, nobody is woken); negative: the segment
 * cannot be read. */
int segments_directory(struct segment *segment, struct wait *wait);
void segment_use(struct segment *segment);
void segment_unuse(struct segment *segment);
/* Finds an id's record, verified by the full id. 0 and *ret...; WAITING; -ENOENT. The entry is
 * valid until control returns to the loop. for_dedup: records known to be bad do not count. */
int segments_locate(struct store *store, const struct id *id, bool for_dedup, struct wait *wait,
		    struct segment **ret_segment, struct dir_entry **ret_entry);
/* A spare's log record needs room that was not there: look again. */
void segments_kick(struct store *store);
uint64_t segment_record_end(const struct segment *segment, const struct dir_entry *entry);

/* ---- fetch.c: reads blocks of one stored chunk, or a node ---- */

struct fetch {
	void (*done)(struct fetch *fetch, int res); /* then the owner calls fetch_free */
	void *owner;
	struct id id;
	uint8_t type;
	uint8_t domain;			   /* at done: of the record that was read */
	unsigned block_first, block_count; /* of a chunk; a node is read whole */
	uint8_t *raw;			   /* the blocks go here */
	uint64_t location; /* 0, or the one record to read, whatever else there is */
	bool whole;	   /* a chunk's record as it is stored, nothing decoded, see fetch_record */
	bool background, no_cache;
	bool no_heal; /* for a peer, who would ask us in turn */
	bool proof;   /* the record's own header and hashes are looked at, too */

	/* fetch.c's own */
	struct store *store;
	struct io_op op;
	struct env_job job;
	struct wait wait;
	struct segment *segment;
	uint8_t *stored, *spill, *target; /* target: where frames are decoded to */
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t frame_bytes, frame_from, frame_to, stored_skip, raw_bytes, offset64;
	uint32_t head_bytes; /* of what is read before the frames: for a proof, or whole */
	int res;
	bool have_record, heal_asked;
	struct fetch *next;
};
int fetch_init(struct store *store);
void fetch_exit(struct store *store);
uint64_t fetch_memory_bytes(const struct store *store); /* what it holds, for good */
/* NULL: all are busy; the wait, if there is one, is woken. Background ones leave some for the
 * foreground. */
struct fetch *fetch_new(struct store *store, bool background, struct wait *wait);
void fetch_free(struct fetch *fetch);
void fetch_start(struct fetch *fetch);
/* After a fetch of a whole record, also one that found its frames damaged: the quarters' hashes and
 * the frames as they were read, until fetch_free. NULL: nothing could be read. */
const uint8_t *fetch_record(const struct fetch *fetch);

/* ---- put.c: stores one chunk or node, or finds that it is stored ---- */

struct put {
	void (*done)(struct put *put,
		     int res); /* durable, and named by id; the owner calls put_free */
	/* or NULL: a chunk's raw, room and patch are not needed any more, and room is gone */
	void (*placed)(struct put *put);
	void *owner;
	const uint8_t *raw; /* the owner's, until placed or done */
	uint8_t *room;	    /* CHUNK_BYTES of its own, where raw may be made up */
	struct id id;	    /* at done; null: all zero (a chunk) */
	uint8_t type;
	int level;
	uint32_t frame_bytes;
	uint8_t domain;
	bool background;
	struct patch *patch; /* or NULL; then raw is room, and has the new blocks only */

	/* put.c's own */
	bool given; /* the record was made elsewhere */
	struct store *store;
	struct env_job job;
	struct wait wait;
	struct durable_wait durable;
	struct segment *segment;
	uint8_t *stored;
	uint32_t raw_bytes, stored_bytes;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint8_t quarters[QUARTER_COUNT][32]; /* of a chunk: what its id is made of */
	bool zero, listed, coming, wants_space;
	struct put *next, *same_next, *same; /* puts of one id that wait for the first of them */
};
int put_init(struct store *store);
void put_exit(struct store *store);
uint64_t put_memory_bytes(const struct store *store);
struct put *put_new(struct store *store, bool background, struct wait *wait);
void put_free(struct put *put);
void put_start(struct put *put);
/* Touches, in the index, what puts under way count on. */
void put_mark(struct store *store);

/* ---- map.c: volume maps ---- */

struct node_cache;
int map_init(struct store *store, uint64_t bytes);
void map_exit(struct store *store);
uint64_t map_memory_bytes(const struct store *store); /* at most */
/* The 256 ids of a node; NULL: *ret_res is WAITING or negative. Valid until control returns to the
 * loop. Without a wait it only looks: WAITING, and nothing comes of it. */
const struct id *map_node(struct store *store, const struct id *id, struct wait *wait,
			  int *ret_res);
/* NULL: it is not in memory. Does not count as a use. */
const void *map_node_cached(struct store *store, const struct id *id);
void map_node_add(struct store *store, const struct id *id, const void *raw);
/* 0 and *ret_id (null: a hole, and *ret_span, if wanted, is how many chunks from chunk_no on are
 * holes for the same reason). */
int map_lookup(struct store *store, const struct id *top, uint64_t chunk_no, struct wait *wait,
	       struct id *ret_id, uint64_t *ret_span);

/* ---- catalog.c: volumes, snapshots, and the log's records ---- */

enum log_op {
	LOG_WRITE = 1,
	LOG_ZERO = 2,
	LOG_CHUNK = 3,
	LOG_FREEZE = 4,
	LOG_PUT_VOLUME = 5,
	LOG_DEL_VOLUME = 6,
	LOG_PUT_SNAPSHOT = 7,
	LOG_DEL_SNAPSHOT = 8,
	LOG_PUT_SEGMENT = 9,
	LOG_DEL_SEGMENT = 10,
	LOG_BARRIER = 11, /* changes nothing */
	LOG_EPOCH = 12,
	LOG_PUT_DOMAIN = 13,
	LOG_PUT_PEER = 14,
	LOG_DEL_PEER = 15,
	LOG_PUT_POLICY = 16,
	LOG_DEL_POLICY = 17,
	LOG_PUT_FOLLOWER = 18,
	LOG_DEL_FOLLOWER = 19,
	LOG_FOLLOW = 20,
	LOG_LINES = 21,
	LOG_PUT_WORD = 22,
};
#define LOG_RECORD_BYTES_MAX 1024u
enum object_state { OBJECT_LIVE = 0, OBJECT_TRASH = 1 };

/* The record that raises a volume's epoch, on its way (epoch.c). */
#define EPOCH_RECORD_BYTES 32u
enum epoch_state { EPOCH_OLD, EPOCH_RAISING, EPOCH_RAISED };
struct epoch_raise {
	enum epoch_state state;
	struct store *store;
	struct log_entry entry;
	struct log_flush_op flush;
	uint8_t record[EPOCH_RECORD_BYTES];
};

/* What would be free if something went, by the census that began then (usage.c). */
struct freed {
	uint64_t bytes, counted_ns; /* 0: not known */
	uint64_t nodes;		    /* that had to be read for it */
	bool at_least;
};

struct volume {
	uint32_t number;
	uint8_t uuid[16];
	char name[NAME_ROOM];
	uint8_t state;
	uint64_t size_bytes, quota_bytes, created_wall_ns, deleted_wall_ns;
	uint64_t deleted_age_ns; /* by the store's age */
	int level;
	uint32_t frame_bytes;
	uint8_t domain; /* its number */
	bool replica;	/* of a volume on another host: only what arrives from there changes it */
	bool whole;	/* a replica that holds what its original was at {epoch, vseq} */
	uint64_t epoch, vseq;
	uint8_t incarnation[16]; /* of the epoch */
	struct store_lines lines;
	uint64_t durable_vseq; /* of a copy: at its primary; else here, as far as was looked */
	struct id top;	       /* of the map */
	uint64_t mapped_chunks;
	uint64_t folded_layer; /* layers up to this one are in `top` */
	char origin[SNAP_NAME_ROOM];
	uint32_t policy; /* number; 0: none */
	struct volume_limits limits;
	struct volume_lease lease;

	/* Not in its record. */
	struct layer *layers[LAYERS_MAX]; /* oldest first; the last one takes the writes */
	uint32_t layer_count;
	uint32_t views, writers; /* writers: those views of it that may write */
	uint64_t admitted_vseq;
	struct epoch_raise epoch_raise;
	uint64_t changed_ns;	/* when it was last written to */
	uint64_t written_bytes; /* since the opening */
	uint32_t zeros_pending; /* LOG_ZERO records on their way */
	bool fold_wanted;
	bool busy;		 /* a change that no view and no fold may meet is on its way */
	bool taken;		 /* a replica that somebody is writing to */
	bool tapped;		 /* its records leave for followers */
	bool in_step;		 /* has a follower that flushes wait for */
	struct ballot *ballot;	 /* NULL: it has no voters */
	uint64_t mandate_ns;	 /* in step, or with voters: it is answered until then */
	uint32_t left_primaries; /* followers that had become the primary, and were removed */
	struct freed freed_all, freed_own; /* with its snapshots, and without */
};
struct snapshot {
	uint32_t number, volume, parent;
	uint32_t policy; /* that took it; 0: a person did */
	char name[NAME_ROOM];
	uint8_t state; /* of its own; a volume in the trash takes its snapshots along */
	bool sealed;
	uint64_t layer; /* pending: it is the volume's top and the layers up to this one */
	uint64_t size_bytes, created_wall_ns, deleted_wall_ns, retain_until_wall_ns;
	uint64_t epoch, vseq; /* the position of what it holds */
	uint64_t age_ns;      /* of the store: when it was deleted, or, retained, when that ends */
	struct id top;
	uint64_t mapped_chunks;
	uint32_t hold_count;
	char holds[HOLDS_MAX][NAME_ROOM];
	uint32_t views;
	bool busy; /* as of a volume */
	struct freed freed;
};
struct policy {
	uint32_t number;
	char name[NAME_ROOM];
	struct policy_rules rules;
};
struct view {
	struct store *store;
	struct volume *volume;
	struct snapshot *snapshot; /* NULL: the volume itself */
	uint64_t generation;	   /* of the lease that it writes under; 0: of none */
	bool read_only;
	uint32_t left_primaries; /* the volume's when this was opened */
};

/* ---- lease.c ---- */

/* May this view's next write be admitted? 0 or -VS_EFENCED. */
int lease_admit(const struct view *view);

/* ---- domain.c, peer.c: parts of the catalog ---- */

#define DOMAINS_MAX 64u
#define DOMAIN_OWN 1u /* the superblock's: what volumes are in that nobody put elsewhere */
#define PEERS_MAX 64u

struct domain {
	uint8_t number; /* in records and volumes; 0 is none */
	uint8_t uuid[16];
	char name[NAME_ROOM];
	struct domain_key key;
};
/* NULL: there is none of that number. */
const struct domain *domain_by_number(const struct store *store, uint32_t number);
const struct domain *domain_by_name(const struct store *store, const char *name);
const struct domain *domain_by_uuid(const struct store *store, const uint8_t uuid[16]);
static inline const struct domain_key *domain_key(const struct store *store, uint32_t number)
{
	const struct domain *domain = domain_by_number(store, number);
	return domain ? &domain->key : NULL;
}
int domain_init(struct store *store); /* the own one, from the superblock */
uint32_t domain_encode(const struct domain *domain, void *out);
int domain_apply(struct store *store, uint32_t number, struct cursor *c);

struct peer {
	char host[NAME_ROOM], address[PEER_ADDRESS_ROOM];
};
uint32_t peer_encode(enum log_op op, const struct peer *peer, void *out);
int peer_apply(struct store *store, enum log_op op, struct cursor *c);

/* ---- follower.c ---- */

struct follower {
	uint32_t volume;
	char host[NAME_ROOM];
	struct follower_rules rules;
	uint64_t acked_vseq; /* it has all up to there; 0 after an opening */
	/* Where voters are. Joining: flushes wait for it already, and when it has all up to
	 * join_vseq the voters are told. */
	bool live, joining;
	uint64_t join_vseq;
	struct standing {
		uint64_t given_ns, absent_ns; /* as store_mandate_given, _absent said; else 0 */
		bool fenced;		      /* it is the primary, it said */
	} standing;
};
struct follower *follower_of(struct store *store, uint32_t volume, const char *host); /* or NULL */
uint32_t follower_encode(enum log_op op, const struct follower *follower, void *out);
int follower_apply(struct store *store, enum log_op op, uint32_t volume, struct cursor *c);
void followers_forget(struct store *store, uint32_t volume); /* it goes for good */

/* ---- voter.c, quorum.c ---- */

/* The newest word about a volume that this host was given, or, as the owner, gave. */
struct ballot {
	struct store *store;
	struct store_word word;
	/* Of the owner: what each voter has said since the opening. */
	struct {
		uint64_t given_ns, acked_term, acked_seq;
	} voters[VOTERS_MAX];
	struct admin_op change; /* of who is in step */
	bool changing;
};
struct ballot *ballot_of(const struct store *store, const uint8_t uuid[16]); /* NULL: none */
void ballots_free(struct store *store);
uint32_t word_encode(const struct store_word *word, void *out);
int word_apply(struct store *store, struct cursor *c);
int word_place(const struct store_word *word, const char *host); /* -1: it does not vote */
bool word_newer(const struct store_word *a, const struct store_word *b);
bool word_same(const struct store_word *a, const struct store_word *b);
/* A volume began, or ceased, to be one of ours, or its ballot changed. */
void quorum_look(struct store *store, struct volume *volume);
bool quorum_owns(const struct store *store, const struct ballot *ballot);
/* The newest word is kept by a majority, and it is ours. */
bool quorum_stands(const struct store *store, const struct ballot *ballot);
/* Do flushes wait for this follower in step? */
bool quorum_counts(const struct volume *volume, const struct follower *follower);
/* Until when a majority, this host included, takes it for the owner. */
uint64_t quorum_until_ns(const struct store *store, const struct ballot *ballot);
void quorum_given(struct ballot *ballot, const char *host, uint64_t until_ns);

/* ---- mandate.c ---- */

struct mandates;
int mandate_init(struct store *store);
void mandate_exit(struct store *store);
/* After its followers, or what they gave, changed. */
void mandate_look(struct store *store, struct volume *volume);
bool mandate_stands(const struct store *store, const struct volume *volume);
/* Nobody is given one of this volume from here on; `then`, also at once, when all that were given
 * have passed, until mandate_release. Else -EBUSY, -ENOMEM, -ESHUTDOWN: nothing is withheld. */
struct withholding {
	struct store *store;
	uint8_t uuid[16];
	struct env_timer timer;
	void (*then)(struct withholding *withholding, int res);
};
void mandate_withhold(struct withholding *withholding);
void mandate_release(struct withholding *withholding);

void catalog_free(struct store *store);
struct volume *volume_by_number(const struct store *store, uint32_t number);
struct volume *volume_by_name(const struct store *store, const char *name); /* not in the trash */
struct snapshot *snapshot_by_number(const struct store *store, uint32_t number);
struct snapshot *snapshot_of(const struct store *store, uint32_t volume, const char *name);
struct snapshot *snapshot_by_name(const struct store *store, const char *volume_at_name);
/* Its date is to come, by the store's age: a clock that was set forward ends nothing early. */
bool snapshot_retained(const struct store *store, const struct snapshot *snapshot);
/* By a hold or a date: nothing removes it. */
bool snapshot_kept(const struct store *store, const struct snapshot *snapshot);
struct layer *volume_active(const struct volume *volume);
uint64_t volume_dirty_chunks(const struct volume *volume);
/* The layers that a snapshot, or with NULL the volume, consists of: layers[0 .. count). */
uint32_t view_layer_count(const struct volume *volume, const struct snapshot *snapshot);
const struct id *view_top(const struct volume *volume, const struct snapshot *snapshot);
void layer_use(struct layer *layer);
void layer_unuse(struct store *store, struct layer *layer);

uint32_t volume_encode(const struct volume *volume, void *out); /* a LOG_PUT_VOLUME */
uint32_t snapshot_encode(const struct snapshot *snapshot, void *out);
/* Of data: each takes the volume's epoch and its next vseq. */
#define WRITE_RECORD_BYTES 40u
#define ZERO_RECORD_BYTES 40u
#define CHUNK_RECORD_BYTES 64u
#define CHUNK_RECORD_ID 32u /* where its id is */
uint32_t record_write(struct volume *volume, uint64_t block_no, uint32_t count, void *out);
uint32_t record_zero(struct volume *volume, uint64_t block_no, uint64_t count, void *out);
uint32_t record_epoch(uint32_t volume, uint64_t epoch, const uint8_t incarnation[16], void *out);
uint32_t record_chunk(struct volume *volume, uint64_t chunk_no, const struct id *id, void *out);
uint32_t record_number(enum log_op op, uint32_t number, void *out); /* FREEZE, DEL_*, BARRIER */
uint32_t record_segment(uint64_t id, uint32_t slot, void *out);
/* Returns the payload blocks of the record; foreign bytes: -VS_EFORMAT; -ENOMEM. payload: NULL when
 * there is none. */
int catalog_apply(struct store *store, const void *record, uint32_t bytes,
		  const struct log_payload *payload);
/* The position before which no layer needs the log. */
uint64_t catalog_tail(const struct store *store, uint64_t most);

/* ---- policies.c ---- */

struct policy *policy_by_number(struct store *store, uint32_t number);
uint32_t policy_encode(const struct policy *policy, void *out); /* a LOG_PUT_POLICY */
/* The cursor stands behind the number. -VS_EFORMAT. */
int policy_apply(struct store *store, enum log_op op, uint32_t number, struct cursor *c);

/* ---- checkpoint.c ---- */

struct checkpoint;
int checkpoint_init(struct store *store);
void checkpoint_exit(struct store *store);
int checkpoint_write_first(struct env *env, struct env_dir *dir, const uint8_t uuid[16]);
int checkpoint_load(struct store *store, struct log_place *ret_place, char *sentence);
void checkpoint_committed(struct store *store); /* in log_owner.committed: starts one if wanted */
void checkpoint_want(struct store *store);
bool checkpoint_running(const struct store *store);
bool checkpoint_wanted(const struct store *store);
/* For who looks at the two files: the newest durable one's generation, and whether the bytes of one
 * of them are a checkpoint. */
const char *checkpoint_file_name(unsigned number);
uint64_t checkpoint_generation(const struct store *store);
bool checkpoint_whole(const struct store *store, unsigned number, const uint8_t *buf,
		      uint64_t bytes);

/* ---- read.c, write.c, status.c ---- */

/* Reads blocks of one chunk as a volume or snapshot has them. */
struct chunk_read {
	void (*done)(struct chunk_read *read, int res);
	void *owner;
	struct volume *volume;
	struct snapshot *snapshot;
	uint64_t chunk_no;
	unsigned block_first, block_count;
	uint8_t *raw;
	bool background, no_cache;
	/* Only what is new in the layers: blocks from below are left as they are (base_mask, base;
	 * base_res: why the base is not known), and log blocks that cannot be read are in
	 * failed_mask (failed_res: why); neither fails the read. */
	bool log_only;
	uint16_t failed_mask;
	struct id base;
	int base_res, failed_res;

	/* read.c's own */
	struct store *store;
	struct wait wait;
	struct io_op op;
	struct layer *layer; /* in use while its log blocks are read */
	bool turn;	     /* store->read_turn when it began */
	uint16_t log_mask, zero_mask, base_mask;
	uint32_t log_block[CHUNK_BLOCKS], log_crc[CHUNK_BLOCKS];
	unsigned block_at; /* the run that is read from the log */
	bool one_by_one;   /* a run failed: which of its blocks? */
	uint32_t run_blocks;
	int res;
};
void chunk_read_start(struct store *store, struct chunk_read *read);
int read_init(struct store *store);
void read_exit(struct store *store);
uint64_t read_memory_bytes(void); /* at most */
void read_submit(struct store_request *request);
void status_submit(struct store_request *request);
int write_init(struct store *store);
void write_exit(struct store *store);
uint64_t write_memory_bytes(void); /* at most */
void write_submit(struct store_request *request);
void write_kick(struct store *store); /* goes on with what is queued, if it can */
bool write_idle(const struct store *store);
/* Some writes have their vseq, and wait for their place in the log. */
bool write_behind(const struct store *store);
/* The ids that records on their way to the log name. */
void write_mark(struct store *store, void (*mark)(struct store *store, const struct id *id));
void request_end(struct store_request *request, int res);

/* ---- fold.c, admin.c, work.c ---- */

struct fold;
int fold_init(struct store *store);
int fold_error(const struct store *store); /* of the last one that failed; 0: none since */
void fold_exit(struct store *store);
void fold_kick(struct store *store); /* is there something to fold? */
bool fold_running(const struct store *store);
bool fold_full(const struct store *store); /* the last one ended for want of space */
void fold_space_came(struct store *store); /* then it is tried again at once */
int admin_init(struct store *store);
void admin_exit(struct store *store);
void admin_kick(struct store *store);
void admin_tick(struct store *store); /* empties the trash of what is overdue */
/* Is something of it being purged? What was asked for too late is begun by this. */
bool admin_purge_overdue(struct store *store);
bool admin_idle(const struct store *store);

/* ---- upgrade.c ---- */

/* May the store hold such things? */
#define FEATURE_MISSING                                                                            \
	"This store's format is older than %s: 'vstorectl store upgrade' adds them; versions of "  \
	"vstored from before then cannot open the store afterwards."
bool store_has(const struct store *store, enum feature feature);
bool upgrade_idle(const struct store *store);
void upgrade_exit(struct store *store);

int work_init(struct store *store);
void work_exit(struct store *store);
void work_kick(struct store *store);
/* ---- scrub.c ---- */

/* What a checkpoint keeps besides the catalog; ages of the store. */
struct store_life {
	uint64_t age_ns;
	uint64_t scrub_begun_ns;   /* the pass that runs */
	uint64_t scrub_before_ns;  /* the beginning of the last whole one */
	uint64_t scrub_segment_id; /* the pass has come so far */
};
int scrub_init(struct store *store);
void scrub_exit(struct store *store);
void scrub_tick(struct store *store);
/* All was verified since then; shallow: the stored bytes alone. */
void scrub_pass_ended(struct store *store, uint64_t begun_ns, bool shallow);
/* check.c: the records of one segment, and, when some are bad, what they affect. */
void check_segment(struct store *store, struct store_work *work, uint32_t slot);
void scrub_life(const struct store *store, struct store_life *ret);
void scrub_life_set(struct store *store, const struct store_life *life);
/* How long ago the record that waits longest was verified or written, by the store's age. */
uint64_t scrub_oldest_ns(const struct store *store);
/* Sentences, or "": why it does not get on; what it found last. */
const char *scrub_failed(const struct store *store);
const char *scrub_found(const struct store *store);

/* ---- gc.c ---- */

void gc_want(struct store *store); /* something was purged */
void gc_tick(struct store *store); /* is there need for a collection? */
/* New data has no room: true when a collection may find some, and runs, or is begun by this, or
 * when what is overdue in the trash leaves it, which one follows. False: all was counted since
 * something changed, at the threshold of a store that is full, and nothing more can be given back.
 */
bool gc_may_help(struct store *store);
int gc_init(struct store *store);
void gc_exit(struct store *store);
const char *gc_failed(const struct store *store); /* why the last one did, or "" */
/* Bytes of a segment that live records take: known, or estimated by their share. */
uint64_t segment_live_bytes(const struct segment *segment);
bool work_idle(const struct store *store);

/* ---- usage.c ---- */

int usage_init(struct store *store);
void usage_exit(struct store *store);
void usage_tick(struct store *store); /* after a new census: what would each object free? */
bool usage_running(const struct store *store);

/* ---- the store ---- */

struct store {
	struct env *env;
	struct store_options options;
	struct superblock sb;
	struct upgrade *upgrade; /* one is under way */
	char path[512];
	struct env_dir *dir, *seg_dir, *log_dir;
	struct env_file *lock_file, *log_file;
	struct codec *codec;
	struct index *index;
	struct cache *cache;
	void *cache_area;
	size_t cache_area_bytes;
	struct layer_pool *layer_pool;
	struct log *log;
	struct log_owner log_owner;
	struct node_cache *nodes;

	struct segment_set *segment_set;
	struct fetches *fetches;
	struct heals *heals;
	struct tap *tap;
	struct mandates *mandates;
	struct puts *puts;
	struct writes *writes;
	struct reads *reads;
	struct prefetch *prefetch;
	struct fold *fold;
	struct pace *pace;
	struct checkpoint *checkpoint;
	struct index_load *index_load; /* NULL: all of the index is in memory */
	struct index_writer *index_writer;
	uint64_t index_generation; /* of the newest whole file, 0: none */
	struct works *works;
	struct gc *gc; /* the one that runs: two marks would spoil each other */
	uint64_t age_base_ns, age_opened_ns; /* see store_age_ns */
	struct history history;
	struct scrub *scrub;
	struct gc_need *gc_need;
	struct census *census;
	struct usage *usage;
	struct freed trash_freed;
	uint64_t roots_gone;  /* what maps named may be garbage now: how often, since opening */
	uint64_t compactions; /* begun and ended: the index and the segments differ meanwhile */
	/* Reads of chunks under way, by the turn in which they began: a collection waits for those
	 * that may hold ids of what it found dead. */
	uint32_t readers[2];
	bool read_turn;

	struct volume **volumes;
	uint32_t volume_count;
	struct snapshot **snapshots;
	uint32_t snapshot_count;
	struct domain domains[DOMAINS_MAX];
	uint32_t domain_count;
	struct peer peers[PEERS_MAX];
	uint32_t peer_count;
	struct policy policies[POLICIES_MAX];
	uint32_t policy_count;
	struct follower followers[FOLLOWERS_MAX];
	uint32_t follower_count;
	struct ballot **ballots;
	uint32_t ballot_count;
	char host[NAME_ROOM]; /* store_set_host */
	uint32_t next_number; /* of volumes and snapshots, never used twice */
	uint64_t next_segment_id;
	struct layer *zombies;	   /* dropped, but being read */
	uint32_t reserved_entries; /* of the layer pool, for records on their way */
	bool fold_all;		   /* room is short: fold whatever there is */
	struct admins *admins;

	uint64_t disk_free_bytes, disk_total_bytes, segment_bytes, polled_segment_bytes;
	uint32_t lost_segments;
	struct env_timer tick;
	bool read_only, failed, closing, started;
	char reason[SENTENCE_BYTES];
	struct store_counters counters;
	uint32_t requests; /* under way */
};

/* An error from the disk: nothing is written any more, and the reason is told. */
void store_fail(struct store *store, int res, const char *what);
/* How long the store has been open in its life: the only time by which anything is removed. It goes
 * at the pace of the machine's uptime, whatever the clock is set to, is kept in checkpoints, and
 * stands still while the store is closed: what is due may come later, never earlier. */
uint64_t store_age_ns(const struct store *store);
void store_poll_space(struct store *store);

#endif
