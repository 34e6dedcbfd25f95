/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of storage/store share: the objects of an open store and who changes them.
 *
 * One reactor thread owns everything here; worker threads see only the buffers of their job.
 * Flow of a write: write.c -> (put.c -> segment.c) -> log.c -> catalog.c/layer.c (state changes only when
 * a commit is done, in the log's order; replay calls the same functions).
 * Flow of a read: read.c -> layer.c, map.c, cache.c -> fetch.c -> segment files.
 * In the background: fold.c turns a frozen layer into map nodes; checkpoint.c lets the log's tail follow.
 */
#ifndef STORAGE_STORE_INT_H
#define STORAGE_STORE_INT_H

#include "proto/cursor.h"
#include "proto/err.h"
#include "storage/store/cache.h"
#include "storage/store/codec.h"
#include "storage/store/id.h"
#include "storage/store/index.h"
#include "storage/store/layer.h"
#include "storage/store/mutant.h"
#include "storage/store/store.h"

#include <assert.h>

#define NODE_BYTES 8192u
#define NODE_SLOTS 256u
#define MAP_LEVELS 4u
#define SEGMENT_BYTES (64 * MIB)
#define SEGMENT_HEADER_BYTES 4096u
#define RECORD_ALIGN 64u
#define RECORD_HEADER_BYTES 64u
#define RECORD_FRAME_BYTES 12u
#define RECORD_BYTES_MAX (RECORD_HEADER_BYTES + FRAMES_PER_CHUNK_MAX * RECORD_FRAME_BYTES + CHUNK_BYTES + 1024)
#define PUT_COUNT 96u	 /* chunks in the codec at once */
#define FETCH_COUNT 128u /* record reads at once */
#define PART_COUNT 2048u /* pieces of writes under way */
#define FOLD_WINDOW 32u
#define COMMIT_PAYLOAD_BLOCKS 256u
#define COMMIT_HEADER_BLOCKS 8u
#define LAYERS_MAX 64u /* frozen layers of one volume */
#define HOLDS_MAX 8u

enum record_type { RECORD_CHUNK = 1, RECORD_NODE = 2 };

/* ---- callbacks that are queued until something becomes possible ---- */
struct wait {
	void (*wake)(struct wait *wait);
	struct wait *next;
};
struct wait_list {
	struct wait *head, **tail;
};
void wait_add(struct wait_list *list, struct wait *wait);
void wait_wake_all(struct wait_list *list);

/* ---- log.c ---- */
enum log_op {
	LOG_WRITE = 1, LOG_ZERO = 2, LOG_CHUNK = 3, LOG_FREEZE = 4,
	LOG_PUT_VOLUME = 5, LOG_DEL_VOLUME = 6, LOG_PUT_SNAPSHOT = 7, LOG_DEL_SNAPSHOT = 8,
	LOG_PUT_SEGMENT = 9, LOG_DEL_SEGMENT = 10, LOG_COUNTERS = 11,
};
#define LOG_RECORD_BYTES_MAX 1024u

/* One record on its way to the log; the owner's until done. */
struct log_entry {
	void (*done)(struct log_entry *entry, int res);
	struct log_entry *next;
	uint32_t payload_index; /* in its commit; log.c turns it into log_block */
	uint32_t log_block;	/* where its payload lies in the ring, at done */
	uint32_t blocks;
};

struct commit {
	uint8_t *memory; /* COMMIT_HEADER_BLOCKS then payload */
	uint8_t *record_bytes_at;
	uint32_t record_bytes, record_count, payload_blocks;
	struct log_entry *head, **tail;
	bool dsync;
	uint64_t pos; /* block position of its header, once sealed */
	uint32_t header_blocks;
	uint64_t seq;
	uint32_t crc[COMMIT_PAYLOAD_BLOCKS];
	uint8_t records[COMMIT_HEADER_BLOCKS * BLOCK_BYTES];
};

struct log {
	struct store *store;
	struct env_file *file;
	uint64_t block_count;
	uint64_t head_pos, tail_pos; /* positions never wrap; ring block = pos % block_count */
	uint64_t next_seq, done_seq, durable_seq;
	uint8_t chain[16];
	struct commit commits[2];
	struct commit *staging, *flying;
	struct commit pad;
	bool kicked, syncing, failed, writing_pad;
	uint64_t syncing_seq;
	struct io_op kick_op, write_op, sync_op;
	struct wait_list room_waiters;
	struct flush_wait {
		struct io_op *op;
		uint64_t seq;
		struct flush_wait *next;
	} *flushes;
	int dsync_score;
};

int log_open(struct store *store);
void log_close(struct store *store);
/* Room in the staged commit and the ring for a record and its payload. `internal` records may use the
 * reserve that guests may not. */
bool log_room(struct log *log, uint32_t record_bytes, uint32_t blocks, bool internal);
/* Copies the record and payload in; entry->done when its commit has reached the device. */
void log_append(struct log *log, struct log_entry *entry, const void *record, uint32_t record_bytes,
		const void *payload, uint32_t blocks, bool dsync);
/* Done when every commit that is done or staged now is durable. */
void log_flush(struct log *log, struct flush_wait *wait, struct io_op *op);
/* The position below which no record is needed any more. */
void log_set_tail(struct log *log, uint64_t tail_pos);
uint64_t log_used_blocks(const struct log *log);
/* Walks the chain from what the checkpoint says; calls log_apply for each record. */
int log_replay(struct log *log, char *sentence);
/* catalog.c: applies one record, live or replayed. log_block: of its payload. -VS_EFORMAT. */
int log_apply(struct store *store, const void *record, uint32_t bytes, uint32_t log_block);

/* ---- segments ---- */
struct frame_entry;
struct dir_entry {
	struct id id;
	uint32_t offset64; /* of the record in the segment, in units of 64 bytes */
	uint32_t frame_first; /* into frames */
	uint32_t raw_bytes;
	uint8_t type, frame_count;
	bool bad; /* found damaged: never a dedup target */
};
struct directory {
	struct dir_entry *entries;
	struct frame_entry *frames;
	uint32_t entry_count, entry_room, frame_count, frame_room;
};
enum segment_state { SEGMENT_FREE, SEGMENT_OPEN, SEGMENT_SEALED, SEGMENT_LOST, SEGMENT_DROPPING };
struct segment {
	uint32_t slot;
	enum segment_state state;
	uint64_t id;
	struct env_file *file;
	uint64_t bytes;		/* sealed: of the file; open: appended so far */
	uint64_t written_bytes, durable_bytes;
	struct directory *directory; /* NULL: not in memory */
	bool loading, failed, indexed, touched;
	bool removed; /* its DEL record is durable; the file goes when users is 0 */
	uint32_t users; /* reads under way */
	uint64_t used_clock;
	uint64_t live_bytes; /* gc */
	uint32_t entry_count;
	struct wait_list load_waiters;
};

/* The end of an append that somebody waits to be durable. */
struct durable_wait {
	void (*done)(struct durable_wait *wait, int res);
	struct segment *segment;
	uint64_t end;
	struct durable_wait *next;
};

struct writer { /* of the open segment */
	struct segment *segment, *spare;
	uint8_t *buffers[2];
	uint32_t fill;	       /* bytes in buffers[active] */
	uint64_t buffer_offset; /* where buffers[active] starts in the file */
	unsigned active;
	bool writing, syncing, want_sync, sealing, making_spare, failed;
	uint64_t syncing_end;
	uint32_t writing_bytes;
	struct io_op write_op, sync_op, spare_op;
	struct log_entry seal_entry, spare_entry;
	struct durable_wait *waits;
	struct wait_list room;
	struct io_op kick_op;
	bool kicked;
	uint8_t *footer;
	uint64_t footer_bytes;
	uint8_t spare_phase, seal_phase;
	struct env_dir *dir_seg;
};

int segments_start(struct store *store); /* after recovery: opens a fresh segment */
void segments_close(struct store *store);
bool segment_room(struct store *store, uint32_t record_bytes);
/* Copies a whole record in, indexes it; segment_room must have said yes. Returns its location. */
uint64_t segment_append(struct store *store, const void *record, uint32_t bytes, const struct dir_entry *entry,
			const struct frame_entry *frames, struct segment **ret_segment, uint64_t *ret_end);
void segment_wait_durable(struct store *store, struct durable_wait *wait);
struct segment *segment_of(struct store *store, uint32_t slot);
/* 0: there; 1: being loaded, `wait` is woken; negative: lost. */
int segment_directory(struct store *store, struct segment *segment, struct wait *wait);
struct dir_entry *directory_find(struct directory *directory, uint32_t offset64);
void directory_free(struct directory *directory);
int directory_add(struct directory *directory, const struct dir_entry *entry, const struct frame_entry *frames);
int segment_open_file(struct store *store, struct segment *segment);
int segment_recover(struct store *store, struct segment *segment); /* open segments: scan, seal */
int segment_load_footer(struct store *store, struct segment *segment); /* straight-line */
void segment_drop(struct store *store, struct segment *segment); /* after its DEL record is durable */
void segment_file_name(uint64_t id, char out[32]);
struct segment *segment_new_slot(struct store *store);
uint32_t record_encode_header(void *out, const struct dir_entry *entry, const struct frame_entry *frames,
			      uint32_t stored_bytes);
int record_decode_header(const void *from, size_t bytes, struct dir_entry *ret_entry,
			 struct frame_entry ret_frames[FRAMES_PER_CHUNK_MAX], uint32_t *ret_stored_bytes);
void segment_put_record(const struct segment *segment, void *out, uint32_t *ret_bytes);

/* Finds the record of an id: 0 and *ret..., 1: wait is woken later, call again; -ENOENT. The pointers
 * are valid until the next return to the loop. */
int locate(struct store *store, const struct id *id, bool for_dedup, struct wait *wait, struct segment **ret_segment,
	   struct dir_entry **ret_entry);

/* ---- fetch.c: reads frames of one record ---- */
struct fetch {
	struct io_op op;
	struct env_job job;
	struct wait wait;
	struct store *store;
	void (*done)(struct fetch *fetch); /* res is set; the owner frees with fetch_free */
	void *owner;
	struct id id;
	unsigned frame_first_block; /* 4 KiB blocks of the chunk wanted: [first, first + count) */
	unsigned block_count;
	uint8_t *raw; /* block_count * 4 KiB are written here */
	int res;
	bool background, want_cache;
	uint8_t *stored, *spill; /* its own buffers */
	struct segment *segment;
	struct frame_entry frames[FRAMES_PER_CHUNK_MAX];
	uint32_t frame_bytes, frame_from, frame_to, stored_skip, raw_bytes;
	struct fetch *next;
};
struct fetch *fetch_new(struct store *store); /* NULL: none free; wait on store->fetch_waiters */
void fetch_free(struct fetch *fetch);
void fetch_start(struct fetch *fetch);

/* ---- put.c: stores one chunk or node ---- */
struct put {
	struct env_job job;
	struct wait wait;
	struct durable_wait durable;
	struct store *store;
	void (*done)(struct put *put, int res); /* durable (unless early), id set */
	void *owner;
	const uint8_t *raw;
	uint8_t *own_raw; /* CHUNK_BYTES of its own, for fold */
	uint8_t *record;
	struct id id;
	uint8_t type;
	int level;
	uint32_t frame_bytes, record_bytes, raw_bytes;
	struct frame_entry *frames;
	uint32_t frame_count;
	bool background, zero;
	bool no_wait; /* done as soon as appended: the owner waits for durability itself */
	uint64_t durable_end;
	struct segment *segment;
	struct put *next;
};
struct put *put_new(struct store *store); /* NULL: none free; wait on store->put_waiters */
void put_free(struct put *put);
void put_start(struct put *put);

/* ---- map.c ---- */
struct node_cache;
int map_open(struct store *store, uint64_t bytes);
void map_close(struct store *store);
/* 0 and *ret_id (null: hole); 1: a node is being read, wait is woken; negative: damaged. */
int map_lookup(struct store *store, const struct id *top, uint64_t chunk_no, struct wait *wait, struct id *ret_id);
/* The node's 256 ids, or NULL with *ret_res as above. Valid until the next return to the loop. */
const struct id *map_node(struct store *store, const struct id *id, struct wait *wait, int *ret_res);
void map_node_put(struct store *store, const struct id *id, const void *raw);
bool map_hole_span(struct store *store, const struct id *top, uint64_t chunk_no, uint64_t *ret_chunks);

/* ---- catalog ---- */
enum object_state { OBJECT_LIVE = 0, OBJECT_TRASH = 1 };
struct volume {
	uint32_t number;
	uint8_t uuid[16];
	char name[NAME_ROOM];
	uint8_t state;
	uint64_t size_bytes, quota_bytes, created_wall_ns, deleted_wall_ns;
	int level;
	uint32_t frame_bytes;
	uint64_t epoch, vseq;
	struct id top; /* of the map */
	uint64_t mapped_chunks;
	uint64_t folded_layer; /* layers up to this one are in `top` */
	char origin[SNAP_NAME_ROOM];

	struct layer *layers[LAYERS_MAX]; /* oldest first; the last one is active */
	uint32_t layer_count;
	uint32_t views;
	uint64_t last_write_ns;
	bool fold_wanted;
};
struct snapshot {
	uint32_t number, volume, parent;
	char name[NAME_ROOM];
	uint8_t state; /* of its own; a volume in the trash takes its snapshots along */
	bool sealed;
	uint64_t layer; /* pending: what it holds is top plus the layers up to this one */
	uint64_t size_bytes, vseq, created_wall_ns, deleted_wall_ns, retain_until_wall_ns;
	struct id top;
	uint64_t mapped_chunks;
	uint32_t hold_count;
	char holds[HOLDS_MAX][NAME_ROOM];
	uint32_t views;
};
struct view {
	struct store *store;
	uint32_t volume, snapshot; /* numbers; snapshot 0: the volume itself */
	struct view *next;
};
struct volume *volume_by_number(struct store *store, uint32_t number);
struct volume *volume_by_name(struct store *store, const char *name);
struct snapshot *snapshot_by_number(struct store *store, uint32_t number);
struct snapshot *snapshot_by_name(struct store *store, const char *volume_at_name);
struct snapshot *snapshot_of(struct store *store, uint32_t volume, const char *name);
uint32_t volume_encode(const struct volume *volume, void *out); /* a LOG_PUT_VOLUME record */
uint32_t snapshot_encode(const struct snapshot *snapshot, void *out);
uint32_t record_freeze(uint32_t volume, uint64_t layer, void *out);
uint32_t record_del(enum log_op op, uint32_t number, void *out);
uint32_t record_segment(enum log_op op, const struct segment *segment, void *out);
struct layer *volume_active(struct volume *volume);
void volume_free(struct store *store, struct volume *volume);
uint64_t volume_log_blocks(const struct volume *volume);
void layer_unref_(struct store *store, struct layer *layer);

/* ---- checkpoint.c, recover.c, superblock.c ---- */
struct superblock {
	uint64_t feature_compatible, feature_read_only, feature_incompatible;
	uint8_t uuid[16], secret[16];
	uint64_t created_wall_ns, log_bytes, generation;
	struct domain_key domain;
	char log_dir[512];
};
int superblock_write(struct env_dir *dir, const struct superblock *sb);
int superblock_read(struct env_dir *dir, struct superblock *ret_sb, char *sentence);
int checkpoint_load(struct store *store, char *sentence);
void checkpoint_kick(struct store *store); /* starts one if the log's tail would gain by it */
int checkpoint_write_wait(struct store *store);
int index_checkpoint_load(struct store *store);
void index_checkpoint_kick(struct store *store);
int store_recover(struct store *store, char *sentence);

/* ---- fold.c, gc.c ---- */
void fold_kick(struct store *store); /* looks whether something must be folded, and starts it */
void fold_init(struct store *store);
void fold_free(struct store *store);
bool fold_running(const struct store *store);
void write_kick(struct store *store); /* goes on with queued requests */
void write_init(struct store *store);
void write_free(struct store *store);
void write_submit(struct store_request *request);
void read_submit(struct store_request *request);
void status_submit(struct store_request *request);
int read_init(struct store *store);
void read_free(struct store *store);
void request_done(struct store_request *request, int res);
void admin_kick(struct store *store);
bool gc_pins(struct store *store); /* a mark is running: dedup hits touch their segment */

struct store {
	struct env *env;
	struct store_options options;
	struct superblock sb;
	struct env_dir *dir, *seg_dir, *log_dir;
	struct env_file *sb_file; /* locked while open */
	struct codec *codec;
	struct index *index;
	struct cache *cache;
	void *cache_memory;
	size_t cache_memory_bytes;
	struct layer_pool *layer_pool;
	struct node_cache *nodes;
	struct log log;
	struct writer writer;

	struct segment **segments; /* by slot; [0] unused */
	uint32_t segment_room_count, segment_slots;
	uint64_t next_segment_id;
	uint64_t directory_bytes, directory_clock;

	struct volume **volumes;
	uint32_t volume_count, volume_room;
	struct snapshot **snapshots;
	uint32_t snapshot_count, snapshot_room;
	uint32_t next_number; /* of volumes and snapshots; never used twice */
	struct view *views;

	struct fetch *fetches, *free_fetches;
	struct put *puts, *free_puts;
	uint8_t *fetch_memory, *put_memory;
	size_t fetch_memory_bytes, put_memory_bytes;
	struct wait_list fetch_waiters, put_waiters;

	struct fold *fold;
	struct writes *writes;
	struct reads *reads;
	struct checkpoint *checkpoint;
	struct admin_op *admin_head, *admin_tail;
	bool admin_busy;
	uint64_t checkpoint_generation, checkpoint_pos, checkpoint_seq;
	uint8_t checkpoint_chain[16];
	uint64_t index_generation;

	struct env_timer tick;
	uint64_t disk_free_bytes, disk_total_bytes;
	bool read_only, closing, recovering;
	char reason[SENTENCE_BYTES];
	struct store_counters counters;
	struct store_work *gc_work;
	uint32_t inflight; /* requests and background work that store_close waits for */
};

void store_fail(struct store *store, int res, const char *what);
bool store_space_ok(struct store *store, uint64_t more_bytes);
void store_space_poll(struct store *store);

#endif
