/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the catalog has: volumes, snapshots, and what belongs to them. They change only when a
 * record takes effect (catalog.h), but for what is "not in its record".
 */
#ifndef STORAGE_STORE_OBJECTS_H
#define STORAGE_STORE_OBJECTS_H

#include "storage/store/codec.h"
#include "storage/store/layer.h"
#include "storage/store/log.h"
#include "storage/store/store_follow.h"

#define LAYERS_MAX 64u /* of one volume */
#define HOLDS_MAX 8u
#define VOLUMES_MAX 4096u
#define SNAPSHOTS_MAX 65536u

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
	bool stepped;	/* a replica that, when it was last whole, was so by the stream */
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
	uint32_t snapshot_count; /* of its snapshots, those not in the trash */
	uint32_t views, writers; /* writers: those views of it that may write */
	uint64_t admitted_vseq;
	struct epoch_raise epoch_raise;
	uint64_t changed_ns;	/* when it was last written to */
	uint64_t written_bytes; /* since the opening */
	uint32_t zeros_pending; /* LOG_ZERO records on their way */
	bool fold_wanted;
	bool busy;	       /* a change that no view and no fold may meet is on its way */
	bool still;	       /* one that no fold may meet is */
	bool taken;	       /* a replica that somebody is writing to */
	bool tapped;	       /* its records leave for followers */
	uint64_t tapped_vseq;  /* of the last one that left before its effect, since it is */
	bool in_step;	       /* has a follower that flushes wait for */
	struct ballot *ballot; /* NULL: it has no voters */
	struct shipped {
		char host[NAME_ROOM]; /* "": none */
		uint32_t snapshot;    /* all of its policy's up to this one went there */
		uint32_t store_tag;   /* ... into this store; 0: not known */
	} shipped[POLICY_HOSTS_MAX];
	struct named_policy home;     /* of a copy: its original's policy, kept for it (home.c) */
	uint64_t mandate_ns;	      /* in step, or with voters: it is answered until then */
	uint32_t left_primaries;      /* followers that had become the primary, and were removed */
	uint64_t superseded_until_ns; /* see volume_superseded */
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
	struct named_policy is;
};
struct view {
	struct store *store;
	struct volume *volume;
	struct snapshot *snapshot; /* NULL: the volume itself */
	uint64_t generation;	   /* of the lease that it writes under; 0: of none */
	bool read_only;
	uint32_t left_primaries; /* the volume's when this was opened */
};
/* Of what the caller has found; store_view_open finds by name. */
int view_new(struct store *store, struct volume *volume, struct snapshot *snapshot,
	     uint64_t generation, struct view **ret_view);

/* ---- domain.c, peer.c ---- */

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

struct peer {
	char host[NAME_ROOM], address[PEER_ADDRESS_ROOM];
};

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
/* It goes for good, or becomes a copy. */
void followers_forget(struct store *store, uint32_t volume);

/* ---- yield.c ---- */

/* Another host has proved, just now, that it is the primary, and waits until the volume is used no
 * more, to have it for a copy. */
bool volume_superseded(const struct store *store, const struct volume *volume);

/* ---- policies.c ---- */

const struct policy *policy_by_number(const struct store *store, uint32_t number);
const struct policy *policy_by_name(const struct store *store, const char *name);

/* ---- shipped.c ---- */

bool volume_has_shipped(const struct volume *volume);
void shipped_forget(struct store *store, const char *host); /* it is no peer any more */

/* ---- catalog.c ---- */

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

#endif
