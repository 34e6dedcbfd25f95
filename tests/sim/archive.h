/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The world of sim_archive: a sender and a receiver, each with a store and a clock of its own, the
 * wires between them, and what is known of both.
 */
#ifndef TESTS_SIM_ARCHIVE_H
#define TESTS_SIM_ARCHIVE_H

#include "proto/err.h"
#include "storage/daemon/policies.h"
#include "storage/store/store_transfer.h"
#include "storage/store/store_work.h"
#include "tests/sim/archive_model.h"
#include "tests/sim/fail.h"
#include "tests/sim/seeds.h"
#include "tests/sim/simnet.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOUR_NS (3600 * NSEC_PER_SEC)
#define DAY_NS (24 * HOUR_NS)
#define VOLUME_BYTES (40 * MIB)
#define QUEUE 512u

struct archive_totals {
	uint64_t seeds, taken, received, late, again, removed, groups, removed_amid, settled, held,
		read, used_through, persons, deleted, restored, cuts, cut_wires, crashes,
		crashed_changes, came_back, undone, sender_deleted, sender_restored, sender_clock,
		receiver_clock, ahead, collected, raced, refused;
};
extern struct archive_totals totals;

struct end {
	struct sim *sim;
	struct env *env;
	struct store *store;
};

/* One copy's transfer. */
struct wire {
	struct store_receive receive;
	struct taken *taken; /* also of the one before, behind its end */
	bool active, ended, came;
	uint8_t ids[QUEUE][ID_BYTES], bases[QUEUE][ID_BYTES], types[QUEUE];
	unsigned head, tail;
	uint64_t due_ns;
};

/* A person's change of the receiver, which is done or not until it is answered. */
enum change_kind {
	CHANGE_NONE,
	CHANGE_RULES,
	CHANGE_ATTACH,
	CHANGE_HOLD,
	CHANGE_RELEASE,
	CHANGE_DELETE,
	CHANGE_RESTORE,
	CHANGE_TAKE
};
struct change {
	enum change_kind kind;
	unsigned policy, copy; /* policy: from 1 */
	uint32_t keep[POLICY_KEEPS];
	struct item *item;
	char name[NAME_ROOM];
	bool done; /* seen to be done */
};

/* What the sender's store was. */
struct saved {
	struct sim_backup *disk; /* NULL: none */
	bool there[TAKEN_MAX];
	size_t count;
	uint64_t values[COPIES][SLOTS];
};

extern struct world {
	struct end from, to;
	struct policies *policies;
	struct wire wires[COPIES];
	struct taken taken[TAKEN_MAX];
	struct item items[ITEMS_MAX];
	size_t taken_count, item_count;
	uint64_t values[COPIES][SLOTS], next_value;
	uint32_t volumes[COPIES]; /* numbers at the receiver; 0: not there yet */
	struct law law;
	struct change change;
	bool quiet_needs_telling;     /* something changed of which policies hear nothing */
	unsigned life, crash_in;      /* steps until it dies; 0: it does not */
	bool ending;		      /* it dies no more */
	uint64_t crashed_ns, came_ns; /* came_ns: the last one */
	struct view *view;	      /* of a snapshot that is read for long */
	struct item *viewed;
	unsigned viewed_rounds;
	struct saved backup, present; /* present: while it goes on from the backup */
	int64_t sender_off, receiver_off;
	const char *failed;
} w;

extern const char *const copies[COPIES], *const originals[COPIES];
extern const char *const policy_names[POLICIES];

/* Functions that return a sentence return NULL when all is well. Waits run the receiver, and end
 * early when something is wrong (w.failed) or it died (w.life). */

/* ---- archive_look.c: the receiver, judged ---- */

/* opened: by a process that is new; the last one's end may have undone what was seen. */
const char *archive_look(bool opened);
/* What the change makes of the law and the items; the same again undoes it. */
void change_swap(struct change *change);
/* VOLUME@SNAP there; good until the next call. */
const char *full_name(const struct item *item);

/* ---- archive_world.c: both ends, and the wires ---- */

/* Its process is what the calls that follow are of. */
void enter(const struct end *end);
uint64_t pick(uint64_t below);
uint64_t slot_offset(unsigned slot);
const char *open_end(struct end *end);
const char *archive_step(void);
const char *archive_pass(uint64_t ns);
/* Of the receiver, one at a time: op.done is op_done, which op_wait waits for. False: something
 * failed, or the process died before. */
struct admin_op *op_begin(struct admin_op *op);
void op_start(void);
void op_done(struct io_op *op);
bool op_wait(void);
void wire_cut(struct wire *wire);
/* The newest of the copy's volume, mostly. */
const char *send_one(unsigned copy);

/* ---- archive_sender.c ---- */

struct admin_op *from_op(struct admin_op *op);
const char *from_must(struct admin_op *op);
/* Its clock goes on as the receiver's does. */
void from_follow(void);
const char *from_take(unsigned copy);
const char *from_delete(struct taken *taken);
/* It ends, and starts again: as it is, or from its backup, or what it was before that is found
 * again. */
const char *from_restart(void);

/* ---- archive_persons.c: at the receiver ---- */

struct item *item_pick(bool here);
const char *change_one(void);
/* All of it, and for some rounds it is not closed. */
const char *read_one(struct item *item, unsigned rounds);
void view_close(void);

#endif
