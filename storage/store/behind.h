/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes on behind guests: begun when the store opens and ended when it closes, each looked
 * after by its own tick or kick.
 */
#ifndef STORAGE_STORE_BEHIND_H
#define STORAGE_STORE_BEHIND_H

#include "storage/store/store_work.h"
#include "storage/store/superblock.h"

struct log_place;
struct volume;

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

/* ---- fold.c, admin.c ---- */

struct fold;
int fold_init(struct store *store);
int fold_error(const struct store *store); /* of the last one that failed; 0: none since */
void fold_exit(struct store *store);
void fold_kick(struct store *store); /* is there something to fold? */
bool fold_running(const struct store *store);
struct volume *fold_volume(const struct store *store); /* that is being folded, or NULL */
bool fold_full(const struct store *store);	       /* the last one ended for want of space */
void fold_space_came(struct store *store);	       /* then it is tried again at once */
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

/* ---- work.c ---- */

int work_init(struct store *store);
void work_exit(struct store *store);
void work_kick(struct store *store);
bool work_idle(const struct store *store);

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

/* ---- gc_need.c ---- */

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

/* ---- usage.c ---- */

int usage_init(struct store *store);
void usage_exit(struct store *store);
void usage_tick(struct store *store); /* after a new census: what would each object free? */
bool usage_running(const struct store *store);

#endif
