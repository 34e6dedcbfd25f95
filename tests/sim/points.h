/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Short scripts over one store in the simulated world, each of which is crashed at every point:
 * points.c crashes and compares, scripts.c has the scripts. What a script does is told to a model
 * before it is done.
 */
#ifndef TESTS_SIM_POINTS_H
#define TESTS_SIM_POINTS_H

#include "storage/store/store_list.h"
#include "storage/store/store_work.h"
#include "tests/sim/model.h"
#include "tests/sim/simenv.h"

#define VOLUMES_IN_SCRIPT MODEL_VOLUMES_MAX
#define SNAPSHOTS_IN_SCRIPT 6u

/* Which volumes and snapshots there are; a volume's blocks are the model's. */
struct names {
	struct {
		bool exists;
		char name[32];
		uint32_t block_count;
	} volumes[VOLUMES_IN_SCRIPT];
	struct {
		bool exists;
		char name[32];
		uint8_t *data; /* what it holds; never freed */
		uint32_t block_count;
	} snapshots[SNAPSHOTS_IN_SCRIPT];
	unsigned trashed; /* how many things are in the trash */
};

struct bed {
	struct sim *sim;
	struct store *store;
	struct model model;
	struct view *views[VOLUMES_IN_SCRIPT]; /* opened when first used */
	struct names now, next; /* next: as a change that was not answered would have it */
	bool changing;
	uint64_t change_submitted;
	unsigned under_way;
	bool making;   /* there may be no store yet */
	bool may_fail; /* the disk is full: requests and changes may end with an error */
	unsigned failed_requests;
	bool disk_failed;     /* by intent: errors are counted since it was opened */
	struct store_work gc; /* between bed_gc_begin and bed_gc_end */
	unsigned gc_waits;
	bool rotten; /* what nobody reads is: checks may find it */
	uint64_t scrub_period_ns;
	void (*crashing)(struct bed *bed); /* NULL, or: looks at the store before it is crashed */
	void (*opened)(struct bed *bed);   /* ... and when it was opened, before anything else */
	bool damaged_before;		   /* the scrub had found that when the crash came */
};

struct script {
	const char *name;
	void (*prepare)(struct bed *bed); /* not crashed; NULL: nothing */
	void (*run)(struct bed *bed);
	bool no_store; /* it makes the store itself */
	/* Instead of run: two things side by side, the second begun after so many steps of the
	 * first. False: the first has ended before; there is nothing left to try. Not crashed
	 * inside, but compared, killed and compared again for each count of steps. */
	bool (*race)(struct bed *bed, unsigned steps);
};
extern const struct script scripts[];
extern const unsigned script_count;

/* What scripts are made of. Data is made of a value; a value of RANDOM and above does not compress.
 */
#define RANDOM (UINT64_C(1) << 40)
void bed_make(struct bed *bed);
void bed_open(struct bed *bed);
void bed_close(struct bed *bed); /* a clean end */
void bed_write(struct bed *bed, unsigned volume, uint32_t block, uint32_t count, uint64_t value,
	       unsigned flags);
void bed_write_part(struct bed *bed, unsigned volume, uint32_t block, uint32_t skip, uint32_t bytes,
		    uint64_t value);
void bed_zero(struct bed *bed, unsigned volume, uint32_t block, uint32_t count);
void bed_flush(struct bed *bed); /* ends what is under way, then flushes */
void bed_wait(struct bed *bed);
void bed_steps(struct bed *bed, unsigned count); /* so many things end, and no more */
void bed_pause(struct bed *bed, uint64_t ns);	 /* lets what runs behind run */
void bed_volume(struct bed *bed, unsigned volume, const char *name, uint32_t block_count);
void bed_snapshot(struct bed *bed, unsigned slot, unsigned volume, const char *name);
void bed_snapshot_pair(struct bed *bed, unsigned slot, unsigned volume, const char *name,
		       unsigned other, const char *other_name);
void bed_snapshot_delete(struct bed *bed, unsigned slot);
void bed_clone(struct bed *bed, unsigned slot, unsigned volume, const char *name);
void bed_restore(struct bed *bed, unsigned slot, unsigned volume);
void bed_delete(struct bed *bed, unsigned volume);
void bed_purge(struct bed *bed);
void bed_grow(struct bed *bed, unsigned volume, uint32_t block_count);
void bed_rename(struct bed *bed, unsigned volume, const char *name);
/* The host follows the volume by cuts, and then was promoted: the volume becomes its copy, and what
 * it was a snapshot. */
void bed_followed(struct bed *bed, unsigned volume, const char *host);
void bed_yield(struct bed *bed, unsigned slot, unsigned volume, const char *host);
/* The copy's original told of a policy; and the copy becomes the volume of that name, with it. */
void bed_told(struct bed *bed, unsigned volume, const char *policy);
void bed_recover(struct bed *bed, unsigned volume, const char *name);
void bed_work(struct bed *bed, void (*start)(struct bed *bed, struct store_work *work));
void bed_fold(struct bed *bed);
void bed_gc(struct bed *bed);
void bed_check(struct bed *bed); /* finds no damage */
void bed_gc_begin(struct bed *bed);
void bed_gc_end(struct bed *bed);
/* Reads blocks, and fails when they are not the newest versions, which are answered. */
void bed_read(struct bed *bed, unsigned volume, uint32_t block, uint32_t count);
/* The script has a fault, or the store: said with the point, and the process ends. */
__attribute__((format(printf, 1, 2), noreturn)) void bed_fail(const char *format, ...);

#endif
